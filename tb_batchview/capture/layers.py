"""Which layers of a model are summarised, and under which names.

Called by `step` when a step is instrumented; calls `keras_names`.
"""

from __future__ import annotations

import fnmatch
import hashlib
import math
from collections.abc import Sequence
from typing import Any

import keras

from tb_batchview.capture import keras_names
from tb_batchview.errors import ArgumentError

# Layers of Keras whose output says nothing that their input does not.
_PASSIVE = (
    keras.layers.InputLayer,
    keras.layers.Dropout,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.ActivityRegularization,
    keras.layers.Flatten,
    keras.layers.Reshape,
    keras.layers.Permute,
    keras.layers.RepeatVector,
    keras.layers.Masking,
)

# Those whose output is what their activation returned.
_ACTIVATED = (
    keras.layers.Activation,
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
    keras.layers.SimpleRNN,
)
# By the name in `keras.activations`.
_BOUNDS = {
    "sigmoid": (0.01, 0.99),
    "hard_sigmoid": (0.01, 0.99),
    "tanh": (-0.98, 0.98),
    "hard_tanh": (-0.98, 0.98),
    "softsign": (-0.98, 0.98),
    "relu6": (-math.inf, 5.94),
}


def walk_layers(model: Any) -> dict[str, Any]:
    """Name every layer of a model.

    Args:
        model: A Keras model.

    Returns:
        Layers by name, in the order of the model: the layer's own name at the
        top, "outer/inner" for those inside another layer or model. A layer
        that is used in several places stands under its first name.
    """
    found: dict[str, Any] = {}
    seen: set[int] = {id(model)}

    def visit(parent: Any, prefix: str) -> None:
        for layer in keras_names.sublayers(parent):
            if id(layer) in seen:
                continue
            seen.add(id(layer))
            name = prefix + layer.name
            found[name if name not in found else f"{name}@{len(found)}"] = layer
            visit(layer, name + "/")

    visit(model, "")
    return found


def select_layers(model: Any, wanted: str | Sequence[Any] | None, *, missing_ok: bool = False) -> dict[str, Any]:
    """Choose the layers to summarise.

    Args:
        model: A Keras model.
        wanted: "auto", "all", None, or names, globs and layers, as the
            callback takes them.
        missing_ok: Whether one that matches nothing may still come: a model
            that is not built yet makes layers later.

    Returns:
        Layers by name, in the order of the model.

    Raises:
        ArgumentError: A name, glob or layer matches nothing in the model.
    """
    # What only holds the place of an input is never called.
    everything = {
        name: layer for name, layer in walk_layers(model).items() if not isinstance(layer, keras.layers.InputLayer)
    }
    if wanted is None:
        return {}
    if wanted == "all":
        return everything
    if wanted == "auto":
        opaque = {name + "/" for name, layer in everything.items() if _is_opaque(layer)}
        return {
            name: layer
            for name, layer in everything.items()
            if _is_telling(layer) and not any(name.startswith(prefix) for prefix in opaque)
        }
    chosen: set[str] = set()
    for item in wanted:
        matches = _match(everything, item)
        if not matches and not missing_ok:
            raise ArgumentError(
                f"layers must name layers of the model {model.name!r}. Received: {item!r}, which matches none of: "
                f"{', '.join(everything) or '(the model has no layers yet)'}."
            )
        chosen.update(matches)
    return {name: layer for name, layer in everything.items() if name in chosen}


def name_owners(model: Any) -> dict[int, str]:
    """Tell which layer each variable of a model is of.

    What runs inside a layer of Keras (the cell of an RNN, the projections of
    an attention) counts as that layer's, as it does for "auto".

    Returns:
        Names, as of `walk_layers`, by the id of the variable, in the order of
        the model; variables of the model's own are under its name.
    """
    everything = walk_layers(model)
    owners = {id(variable): model.name for variable in model.variables}
    opaque: list[str] = []
    for name, layer in everything.items():
        if any(name.startswith(prefix) for prefix in opaque):
            continue
        if _is_opaque(layer):
            opaque.append(name + "/")
        # Layers come after those they are in.
        owners |= {id(variable): name for variable in layer.variables}
    names = list(everything)
    order = {name: place for place, name in enumerate(names)}
    return dict(sorted(owners.items(), key=lambda item: order.get(item[1], -1)))


def find_bounds(layer: Any) -> tuple[float, float] | None:
    """Tell where the units of a layer are saturated.

    Returns:
        Values of at most the first or at least the second are within a
        hundredth of an end of what the activation can return; None where it
        has no end, or where nobody knows. An end at 0 does not count: units
        that stay there are dead.
    """
    if isinstance(layer, keras.layers.ReLU):
        plain = layer.max_value is not None and not layer.negative_slope and not layer.threshold
        return (-math.inf, 0.99 * float(layer.max_value)) if plain else None
    if not isinstance(layer, _ACTIVATED):
        return None
    activation = getattr(layer, "activation", None)
    if activation is None:
        return None
    return next((bounds for name, bounds in _BOUNDS.items() if activation is getattr(keras.activations, name, 0)), None)


def describe_model(model: Any) -> dict[str, str]:
    """Return what the viewer is told of a model that is built."""
    return {
        "model": model.name,
        "architecture": digest_architecture(model),
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
    }


def digest_architecture(model: Any) -> str:
    """Return a number that is the same for models with the same weights.

    Args:
        model: A Keras model that is built.

    Returns:
        Sixteen hexadecimal digits made of the shapes and dtypes of the
        weights, in order. Names do not count: Keras numbers them anew.
    """
    shapes = [(tuple(weight.shape), str(weight.dtype)) for weight in model.weights]
    return hashlib.sha256(repr(shapes).encode()).hexdigest()[:16]


def _match(everything: dict[str, Any], item: Any) -> list[str]:
    if isinstance(item, str):
        return [
            name
            for name, layer in everything.items()
            # A name with brackets is no glob that matches itself.
            if item in (name, layer.name) or fnmatch.fnmatchcase(name, item) or fnmatch.fnmatchcase(layer.name, item)
        ]
    return [name for name, layer in everything.items() if layer is item]


def _is_opaque(layer: Any) -> bool:
    # What runs inside a layer of Keras (the cell of an RNN, the layer in a
    # TimeDistributed, the projections of an attention) may run in a loop, and
    # tapping it can change the last bit of training.
    return keras_names.is_builtin(layer) and bool(keras_names.sublayers(layer))


def _is_telling(layer: Any) -> bool:
    # Layers of the user's own can be anything, a normalisation too: they are
    # looked into, and summarised themselves when they are named.
    return (
        keras_names.is_builtin(layer)
        and not isinstance(layer, (keras.Model, *_PASSIVE))
        and not keras_names.is_normalization(layer)
        and ".preprocessing." not in type(layer).__module__
    )
