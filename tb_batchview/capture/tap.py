"""Watches one training or evaluation step while Python runs it.

Between `__enter__` and `__exit__` of a `Tap` (the trace of a graph, or one
eager step) methods of the model, its losses, metrics and layers are shadowed
in the instances' own `__dict__`. The shadows only remember the tensors that
pass: they add no operation and return the very same objects, so
that the step computes what it always did. `step` makes a Tap around the
user's step and asks it afterwards what it saw.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, NamedTuple

import keras

from tb_batchview.capture import arrays, keras_names
from tb_batchview.capture.layers import walk_layers
from tb_batchview.errors import ArgumentError
from tb_batchview.records import check_name
from tb_batchview.tagging import add_listener, remove_listener, unheard_tags

# A call: the positional and the named arguments.
Call = tuple[tuple[Any, ...], dict[str, Any]]

# The attributes of `Sight` that hold arrays.
_SEEN = ("inputs", "loss", "sample_losses", "loss_calls", "metric_calls", "activations", "tags", "applied")
# In the place of an array that stayed in the trace it was made in.
_LOST = object()


class Applied(NamedTuple):
    """What an optimizer was given.

    Attributes:
        optimizer: The optimizer.
        variables: Those to change.
        gradients: One for each; None where there is none.
        scale: What the loss was multiplied with, where the call shows it.
    """

    optimizer: Any
    variables: list[Any]
    gradients: list[Any]
    scale: Any


class Sight:
    """What one step of a model, on one replica, showed.

    Attributes:
        inputs: x, y, y_pred and sample_weight of the first `compute_loss`; of
            a step of the user's own that does not call it, the batch and what
            the model returned.
        loss: What `compute_loss` returned: with regularisers, before scaling.
        sample_losses: What each loss returned per sample, in Keras' order.
        loss_calls: What each of them was given.
        metric_calls: The `update_state` calls of each metric, by its id.
        activations: Outputs by layer name; "name#1" is the second call.
        tags: What was tagged, by name, in order.
        applied: What each optimizer was given, the first time.
        in_loop: Names of layers that ran inside a loop of the graph, whose
            tensors cannot leave it.
        lost_tags: Names of what was tagged inside one.
        batch: What the step was given.
        ids: What was carried with it, by where it was.
    """

    def __init__(self, batch: Any, ids: Mapping[str, Any] | None = None) -> None:
        """Begin with a batch and its ids, where the step will run."""
        self.inputs: dict[str, Any] = {}
        self.loss: Any = None
        self.sample_losses: list[Any] = []
        self.loss_calls: list[Call] = []
        self.metric_calls: dict[int, list[Call]] = {}
        self.activations: dict[str, Any] = {}
        self.tags: dict[str, list[Any]] = {}
        self.applied: list[Applied] = []
        self.in_loop: set[str] = set()
        self.lost_tags: set[str] = set()
        self.calls_loss = False
        self.batch = batch
        self.ids = ids or {}
        self.scene: Any = arrays.Scene(batch)

    def belongs(self, value: Any) -> bool:
        """Tell whether a value is a tensor of the step itself."""
        return self.scene.holds(value)

    def all_belong(self, structure: Any) -> bool:
        """Tell whether all tensors of a structure are of the step itself."""
        leaves = keras.tree.flatten(structure)
        return all(self.belongs(leaf) for leaf in leaves if arrays.is_array(leaf) or leaf is _LOST)

    def take(self) -> tuple[list[Any], list[Any]]:
        """Return the arrays seen so far, to carry them out of a trace.

        And the masks that ride on them, which would be lost.
        """
        leaves = [leaf for leaf in keras.tree.flatten(self._seen()) if self.belongs(leaf)]
        masks = [keras_names.mask_of(leaf) for leaf in leaves]
        return leaves, [mask if self.belongs(mask) else None for mask in masks]

    def put(self, taken: tuple[list[Any], list[Any]]) -> None:
        """Put what `take` returned in its place, as it came out."""
        rest = iter(taken[0])
        leaves = [
            next(rest) if self.belongs(leaf) else _LOST if arrays.is_array(leaf) else leaf
            for leaf in keras.tree.flatten(self._seen())
        ]
        for leaf, mask in zip(*taken, strict=True):
            if mask is not None:
                keras_names.set_mask(leaf, mask)
        for name, seen in zip(_SEEN, keras.tree.pack_sequence_as(self._seen(), leaves), strict=True):
            setattr(self, name, seen)

    def _seen(self) -> list[Any]:
        return [getattr(self, name) for name in _SEEN]

    def see_loss(self, result: Any, call: Call) -> None:
        """Remember the first `compute_loss`."""
        if self.calls_loss:
            return
        names = ("x", "y", "y_pred", "sample_weight")
        positional, named = call
        self.calls_loss = True
        self.inputs = dict(zip(names, positional, strict=False))
        self.inputs |= {name: named[name] for name in names if name in named}
        if self.belongs(result):
            self.loss = result

    def see_model(self, result: Any, call: Call) -> None:
        """Remember what the model returned, for steps without `compute_loss`."""
        if not self.calls_loss and self.all_belong(result):
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(self.batch)
            self.inputs = {"x": x, "y": y, "y_pred": result, "sample_weight": sample_weight}

    def see_sample_loss(self, result: Any, call: Call) -> None:
        """Remember one loss per sample."""
        self.sample_losses.append(result if self.belongs(result) else None)
        self.loss_calls.append(call)

    def see_metric(self, metric: int, result: Any, call: Call) -> None:
        """Remember what a metric was given."""
        self.metric_calls.setdefault(metric, []).append(call)

    def see_apply(self, optimizer: Any, result: Any, call: Call) -> None:
        """Remember the first gradients that an optimizer was given."""
        if any(applied.optimizer is optimizer for applied in self.applied):
            return
        positional, named = call
        stateless = keras_names.apply_attribute() == "stateless_apply"
        names = (
            ("optimizer_variables", "grads", "trainable_variables") if stateless else ("grads", "trainable_variables")
        )
        given = dict(zip(names, positional, strict=False)) | named
        variables = given.get("trainable_variables")
        if stateless or variables is None:
            variables = keras_names.optimized_variables(optimizer)
        scale = keras_names.scale_before(optimizer, given["optimizer_variables"]) if stateless else None
        gradients = [arrays.keep(gradient) for gradient in given["grads"]]
        self.applied.append(Applied(optimizer, list(variables), gradients, scale))

    def see_layer(self, name: str, result: Any, call: Call) -> None:
        """Remember what a layer returned."""
        value = next((leaf for leaf in keras.tree.flatten(result) if arrays.is_array(leaf)), None)
        if value is None:
            return
        if not self.belongs(value):
            if not keras_names.is_building():
                self.in_loop.add(name)
            return
        key, count = name, 0
        while key in self.activations:
            count += 1
            key = f"{name}#{count}"
        self.activations[key] = value

    def see_tag(self, name: Any, value: Any) -> None:
        """Remember what was tagged.

        Raises:
            ArgumentError: It is no tensor, or its name is none.
        """
        # What a tensor holds would be another message for each batch.
        check_name("tag", name if isinstance(name, str) else type(name))
        if self.belongs(value):
            self.tags.setdefault(name, []).append(arrays.keep(value))
            return
        if keras_names.is_building() or isinstance(value, keras.KerasTensor):
            return  # It comes again, with numbers.
        if not arrays.is_array(value):
            raise ArgumentError(
                f"What is tagged {name!r} must be a dense tensor, and is not recorded. Received: "
                f"{type(value).__name__}. Tag what keras.ops.convert_to_tensor makes of it."
            )
        self.lost_tags.add(name)


class Tap:
    """Shadows what has to be seen of a step, and keeps what was seen.

    Replicas of a strategy run in threads of their own and share the model:
    one Tap serves them all and gives each thread its `Sight`.

    Attributes:
        problems: What could not be watched, one sentence each.
    """

    def __init__(
        self,
        model: Any,
        choose_layers: Callable[[], dict[str, Any]],
        *,
        gradients: bool = False,
        tags: bool = False,
    ) -> None:
        """Prepare to watch `model` and the layers chosen, by name.

        Args:
            model: A Keras model.
            choose_layers: Returns the layers.
            gradients: Whether to watch its optimizers.
            tags: Whether to remember what is tagged.
        """
        self.problems: list[str] = []
        self._model = model
        self._choose_layers = choose_layers
        self._gradients = gradients
        self._tags = tags
        self._sights: dict[int, Sight] = {}
        self._shadows: dict[tuple[int, str], tuple[Any, Any]] = {}

    def __enter__(self) -> Tap:
        """Begin to watch."""
        try:
            self._shadow_all()
        except Exception as error:  # A guest must not stop the step.
            self._restore()
            self.problems.append(f"The step could not be watched: {error!r}.")
        if self._tags:
            add_listener(self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave every object as it was found."""
        remove_listener(self._hear)
        self._restore()

    def begin(self, batch: Any, ids: Mapping[str, Any] | None = None) -> Sight:
        """Begin a step in this thread."""
        sight = self._sights[threading.get_ident()] = Sight(batch, ids)
        return sight

    def end(self) -> None:
        """End the step of this thread: what it calls now is not watched."""
        sight = self._sights.pop(threading.get_ident(), None)
        if self._tags and sight is not None:
            # A guest must not stop the step, and this is for a warning alone.
            with contextlib.suppress(Exception):
                sight.lost_tags.update(*map(unheard_tags, sight.scene.functions()))

    def _hear(self, name: Any, value: Any) -> bool:
        """Take what is tagged in this thread, if it is in the step."""
        sight = self._sights.get(threading.get_ident())
        if sight is None:
            return False
        try:
            sight.see_tag(name, value)
        except ArgumentError as error:
            self.problems.append(str(error))
        except Exception as error:  # A guest must not stop the step.
            self.problems.append(f"What is tagged {name!r} could not be watched: {error!r}.")
        return True

    def _shadow_all(self) -> None:
        self._shadow(self._model, "compute_loss", Sight.see_loss)
        self._shadow(self._model, "call", Sight.see_model)
        compiled = keras_names.compiled_loss(self._model)
        if compiled is not None and not getattr(compiled, "built", True):
            # The losses are made in the first trace, inside `build`.
            self._shadow(compiled, "build", lambda sight, result, call: self._shadow_losses())
        self._shadow_losses()
        self._shadow_layers()
        for optimizer in keras_names.optimizers(self._model) if self._gradients else ():
            self._shadow(optimizer, keras_names.apply_attribute(), _named(Sight.see_apply, optimizer))

    def _shadow_losses(self) -> None:
        for flat in keras_names.flat_losses(self._model):
            self._shadow(flat.loss, "call", Sight.see_sample_loss)
        # Several losses come with a running mean each.
        for metric in keras_names.metrics(self._model):
            self._shadow(metric, "update_state", _named(Sight.see_metric, id(metric)))

    def _shadow_layers(self) -> None:
        for name, layer in self._choose_layers().items():
            self._shadow(layer, keras_names.call_attribute(layer), _named(Sight.see_layer, name))
        # Layers may make others when they are built, in the middle of the step.
        for layer in (self._model, *walk_layers(self._model).values()):
            if keras_names.makes_layers_late(layer):
                self._shadow(layer, "build", lambda sight, result, call: self._shadow_layers())

    def _shadow(self, owner: Any, attribute: str, see: Callable[[Sight, Any, Call], None]) -> None:
        if (id(owner), attribute) in self._shadows:
            return  # One loss object may serve several outputs.
        original = getattr(owner, attribute)

        # Without functools.wraps: AutoGraph, in a train_step that is itself a
        # tf.function, would look through the shadow and convert the original.
        def shadow(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            try:
                sight = self._sights.get(threading.get_ident())
                if sight is not None:
                    see(sight, result, (args, kwargs))
            except Exception as error:  # A guest must not stop the step.
                self.problems.append(f"{type(owner).__name__}.{attribute} could not be watched: {error!r}.")
            return result

        if attribute == "build":  # Keras looks at its signature for the shapes to give.
            shadow.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]
        # Not setattr: Keras' tracks what is set on a layer.
        self._shadows[id(owner), attribute] = owner, owner.__dict__.get(attribute)
        owner.__dict__[attribute] = shadow

    def _restore(self) -> None:
        while self._shadows:
            (_, attribute), (owner, before) = self._shadows.popitem()
            if before is None:
                owner.__dict__.pop(attribute, None)
            else:
                owner.__dict__[attribute] = before


def _named(see: Callable[[Sight, Any, Any, Call], None], name: Any) -> Callable[[Sight, Any, Call], None]:
    return lambda sight, result, call: see(sight, name, result, call)
