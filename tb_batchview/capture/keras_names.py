"""Every name of Keras that is not public, each with what happens without it.

All other modules reach Keras' internals through the functions here, so that
a new Keras is one file to check. The comment above each function names the
attribute and the Keras versions it was read in.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras

from tb_batchview.errors import BatchViewError

# Keras objects are `Any` here: their classes carry no annotations.

FUNCTION_ATTRIBUTE = {"train": "train_function", "validation": "test_function", "predict": "predict_function"}
STEP_ATTRIBUTE = {"train": "train_step", "validation": "test_step"}
# What Keras makes in order to evaluate and to predict (3.0 to 3.15).
EVALUATING_ATTRIBUTES = ("test_function", "predict_function")
# What the callback TensorBoard asks the function of the step for, to write its graph: where that is a tf.function,
# which it is before 3.7.
GRAPH_ATTRIBUTES = ("function_spec", "_concrete_variable_creation_fn")


class FlatLoss(NamedTuple):
    """One loss of a compiled model and the place of its output."""

    path: tuple[Any, ...]
    loss: Any


# `Trainer.train_function`, `.test_function`, `.predict_function`: None until
# made, read by fit, evaluate and predict at every step (3.0 to 3.15).
def step_function(model: Any, phase: str) -> Any:
    """Return what `fit`, `evaluate` or `predict` calls for a step, or None."""
    return getattr(model, FUNCTION_ATTRIBUTE[phase], None)


def made_step_function(model: Any, phase: str) -> Any:
    """Return the step function, made now if it was not yet.

    `fit` makes it before it tells callbacks; a loop of `train_on_batch` has
    them told first.
    """
    if step_function(model, phase) is None and getattr(model, "compiled", False):
        _make(model, phase)()
    return step_function(model, phase)


def _make(model: Any, phase: str) -> Callable[..., Any]:
    makers = {
        "train": model.make_train_function,
        "validation": model.make_test_function,
        "predict": model.make_predict_function,
    }
    return makers[phase]


def set_step_function(model: Any, phase: str, function: Callable[..., Any] | None) -> None:
    """Make `fit`, `evaluate` or `predict` call `function` for a step."""
    setattr(model, FUNCTION_ATTRIBUTE[phase], function)


# `TensorFlowTrainer._make_function`: 3.7 to 3.15. Before, the function that
# Keras made looks the step up in the model each time (read in 3.3, 3.5, 3.6).
def make_eager_function(
    model: Any, phase: str, step: Callable[[Any], Any], original: Callable[..., Any]
) -> Callable[[Any], Any]:
    """Return Keras' own loop around `step` for a model that runs eagerly."""
    make: Callable[..., Callable[[Any], Any]] | None = getattr(model, "_make_function", None)
    if make is not None:
        return make(step)
    name = STEP_ATTRIBUTE[phase]

    def run(iterator: Any) -> Any:
        before = vars(model).get(name)

        def watched(data: Any) -> Any:
            _put(model, name, before)
            return step(data)

        _put(model, name, watched)
        try:
            return original(iterator)
        finally:
            _put(model, name, before)

    return run


def make_plain_function(model: Any, phase: str, step: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return what Keras on TensorFlow makes of `step` as the model's own."""
    name = STEP_ATTRIBUTE[phase]
    before, current = vars(model).get(name), step_function(model, phase)

    def shown(call: Callable[[], Any]) -> Any:
        _put(model, name, step)
        try:
            return call()
        finally:
            _put(model, name, before)

    try:
        shown(lambda: _make(model, phase)(force=True))
        made = step_function(model, phase)
    finally:
        set_step_function(model, phase, current)
    return lambda iterator: shown(lambda: made(iterator))


def _put(owner: Any, name: str, value: Any) -> None:
    # Not setattr: Keras tracks what is set on a layer.
    if value is None:
        vars(owner).pop(name, None)
    else:
        vars(owner)[name] = value


# `TensorFlowTrainer._autoconvert_optionals`: 3.12 to 3.15; turns absent
# optional inputs into None. Before, Keras leaves them as they are.
def convert_optionals(model: Any, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Wrap `function` so that it gets None for absent optional inputs."""
    convert = getattr(model, "_autoconvert_optionals", None)
    return function if convert is None else convert(function)


# `JAXTrainer.jax_state_sync` (3.0 to 3.15, public).
def bring_back_variables(model: Any) -> None:
    """Give variables their values, which `fit` on JAX keeps to itself."""
    getattr(model, "jax_state_sync", lambda: None)()


# `JAXTrainer._make_function`: 3.7 to 3.15 (Keras on JAX). `_get_state_sharding_spec`
# asks the variables, which are empty while `fit` holds their values.
def make_jax_step(model: Any, phase: str, step: Callable[[Any, Any], Any], state: Any) -> Callable[[Any, Any], Any]:
    """Compile a step of a state and a batch as Keras compiles the model's own.

    Args:
        model: A model of Keras on JAX.
        phase: "train" or "validation".
        step: Takes what the model's own step takes, and returns a pair with
            the state as its second.
        state: Of the first step: says how the model is spread over devices.
    """
    if not hasattr(model, "_make_function"):
        raise BatchViewError(
            f"Keras {keras.__version__} on JAX does not let a step be wrapped. Use Keras 3.8 or newer. "
            "Training is not touched."
        )
    if getattr(keras.config, "is_nnx_enabled", lambda: False)():
        raise BatchViewError(
            "Keras on JAX with NNX is not supported: its steps are compiled from the model's class. "
            "Training is not touched."
        )
    made: list[Callable[[Any, Any], Any]] = []
    current = step_function(model, phase)
    shardings = [[getattr(value, "sharding", None) for value in part] for part in state]
    if phase == "validation":
        shardings.insert(2, [])  # An evaluation has no state of the optimizer.
    shadows = {
        STEP_ATTRIBUTE[phase]: step,
        "_make_function": lambda function, *_, **__: made.append(function),
        "_get_state_sharding_spec": lambda: tuple(shardings),
    }
    before = {name: model.__dict__[name] for name in shadows if name in model.__dict__}
    model.__dict__.update(shadows)
    try:
        _make(model, phase)(force=True)
    finally:
        for name in shadows:
            model.__dict__.pop(name, None)
        model.__dict__.update(before)
        set_step_function(model, phase, current)
    return made[0]


# `Trainer._symbolic_build(iterator, data_batch)` (3.0 to 3.15), by which JAX,
# PyTorch and strategies build what is not built, before any callback is told.
# Without it a model with ids must be built there by the user.
def build_without(split: Callable[[Any], tuple[Any, Any]]) -> None:
    """Have Keras build models from batches without their ids.

    The only name of a class of Keras that is replaced, until
    `build_as_before`; batches without ids are handed on as they are.

    Args:
        split: Returns a batch without its ids, and the ids.
    """
    owner, original = _symbolic_build()
    if original is None or hasattr(original, "without_ids"):
        return
    signature = inspect.signature(original)

    def first(iterator: Any) -> Iterator[Any]:
        for begin, end, found in iterator:
            # The batches themselves, or an iterator of them.
            known = isinstance(found, (list, tuple))
            batches = (split(batch)[0] for batch in found)
            yield begin, end, list(batches) if known else batches

    @functools.wraps(original)
    def build(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs)
        if given.arguments.get("iterator") is not None:
            given.arguments["iterator"] = first(given.arguments["iterator"])
        if given.arguments.get("data_batch") is not None:
            given.arguments["data_batch"] = split(given.arguments["data_batch"])[0]
        return original(*given.args, **given.kwargs)

    build.without_ids = build  # type: ignore[attr-defined]
    setattr(owner, "_symbolic_build", build)  # noqa: B010


def build_as_before() -> None:
    """Put back what `build_without` replaced, if nobody replaced it since."""
    owner, current = _symbolic_build()
    # Whoever wrapped ours with functools.wraps has the attribute too.
    if current is not None and getattr(current, "without_ids", None) is current:
        setattr(owner, "_symbolic_build", vars(current)["__wrapped__"])  # noqa: B010


def _symbolic_build() -> tuple[Any, Any]:
    """Return the class with the method, and the method, or None twice."""
    owner: Any = next((kind for kind in keras.Model.__mro__ if "_symbolic_build" in vars(kind)), None)
    return owner, None if owner is None else vars(owner)["_symbolic_build"]


# `Trainer._compile_loss`, a CompileLoss with `_flat_losses` (3.7 to 3.15) and
# `build`. Without it there is no loss per sample.
def flat_losses(model: Any, predictions: Any = None) -> list[FlatLoss]:
    """Return the losses in the order in which Keras calls them.

    Args:
        model: A Keras model.
        predictions: What the losses are given, of which Keras before 3.7 does
            not note the places.
    """
    compiled = getattr(model, "_compile_loss", None)
    found: Any = getattr(compiled, "_flat_losses", None)
    if found is None:
        return _losses_without_paths(compiled, predictions)
    losses = []
    for entry in found:
        loss = getattr(entry, "loss", None)
        path = getattr(entry, "path", ())
        if loss is not None:
            losses.append(FlatLoss(tuple(path) if isinstance(path, (list, tuple)) else (), loss))
    return losses


# `CompileLoss.flat_losses` (3.3 to 3.6): the losses alone, None for an output
# without one, in the order of the outputs; of a dict, in that of
# `output_names` in 3.3, and later by name, less `filtered_y_pred_keys`.
def _losses_without_paths(compiled: Any, predictions: Any) -> list[FlatLoss]:
    losses = list(getattr(compiled, "flat_losses", None) or ())
    paths: list[tuple[Any, ...]] = [()]
    if isinstance(predictions, Mapping):
        left_out = getattr(compiled, "filtered_y_pred_keys", None)
        in_order = (getattr(compiled, "output_names", None) or sorted(predictions)) if left_out is None else ()
        paths = [(name,) for name in in_order or sorted(set(predictions) - set(left_out or ())) if name in predictions]
    elif isinstance(predictions, (list, tuple)):
        paths = [(place,) for place in range(len(predictions))]
    if len(paths) != len(losses):
        # Known by their order only: which output each is of cannot be told.
        paths = [(None, place) for place in range(len(losses))]
    return [FlatLoss(path, loss) for path, loss in zip(paths, losses, strict=True) if loss is not None]


def compiled_loss(model: Any) -> Any | None:
    """Return Keras' wrapper of all losses, or None before `compile`."""
    return getattr(model, "_compile_loss", None)


# `Trainer._loss_tracker`: the running mean of the loss.
def loss_tracker(model: Any) -> Any | None:
    """Return the metric that holds the running mean of the loss."""
    return getattr(model, "_loss_tracker", None)


# `LossFunctionWrapper.fn` and `._fn_kwargs` (3.0 to 3.15).
def loss_function(loss: Any) -> tuple[str, dict[str, Any]]:
    """Return the name of what a loss computes and its options."""
    function = getattr(loss, "fn", None)
    name = getattr(function, "__name__", "") or type(loss).__name__
    options = getattr(loss, "_fn_kwargs", None)
    return name, dict(options) if isinstance(options, dict) else {}


# `Trainer.optimizer` (public), and the attributes of models that have several.
def optimizers(model: Any) -> list[Any]:
    """Return the optimizers of a model, each once."""
    found = [getattr(model, "optimizer", None), *vars(model).values()]
    unique = {id(value): value for value in found if isinstance(value, keras.optimizers.Optimizer)}
    return list(unique.values())


def apply_attribute() -> str:
    """Return the method of an optimizer that Keras' step gives gradients."""
    return "stateless_apply" if keras.backend.backend() == "jax" else "apply"


# `BaseOptimizer._trainable_variables` (3.0 to 3.15): what gradients belong to
# that come without their variables. Without it they are not recorded.
def optimized_variables(optimizer: Any) -> list[Any]:
    """Return the variables that an optimizer was built for."""
    return list(getattr(optimizer, "_trainable_variables", ()))


# `Variable.overwrite_with_gradient` (3.3 to 3.15), of float8 scales.
def is_overwritten(variable: Any) -> bool:
    """Tell whether a variable's gradient is in truth its new value."""
    return bool(getattr(variable, "overwrite_with_gradient", False))


# `LossScaleOptimizer.dynamic_scale` and `.step_counter` (3.0 to 3.15).
# Without them gradients are recorded scaled.
def scale_before(optimizer: Any, values: Any) -> Any | None:
    """Find the loss scale among the values of an optimizer's variables.

    Args:
        optimizer: Any of Keras.
        values: Of `optimizer.variables`, in their order.
    """
    scale = getattr(optimizer, "dynamic_scale", None)
    return next((value for known, value in zip(optimizer.variables, values, strict=True) if known is scale), None)


def loss_scale(optimizer: Any, before: Any, finite: Any) -> Any | None:
    """Return what an optimizer multiplied the loss with; None for nothing.

    Args:
        optimizer: Any of Keras, after it was given the gradients.
        before: Its dynamic scale before that, where it was to be had.
        finite: Whether all the gradients are finite.
    """
    scale, counter = getattr(optimizer, "dynamic_scale", None), getattr(optimizer, "step_counter", None)
    if before is not None or scale is None or counter is None:
        return before if before is not None else getattr(optimizer, "loss_scale_factor", None)
    # Read in the middle of the step it would be an operation more there. By
    # now it was halved, or doubled if the counter began anew, or left alone.
    now = keras.ops.convert_to_tensor(scale)
    doubled = keras.ops.equal(keras.ops.convert_to_tensor(counter), 0)
    return keras.ops.where(finite, keras.ops.where(doubled, now / 2, now), now * 2)


# `Layer._layers`: the direct sublayers, in the order they were assigned.
# Without it only `model.layers` is seen.
def sublayers(layer: Any) -> Sequence[Any]:
    """Return the layers directly inside `layer`, each once."""
    found: Any = getattr(layer, "_layers", None)
    if found is None:
        found = getattr(layer, "layers", ())
    unique = {id(inner): inner for inner in found if isinstance(inner, keras.layers.Layer)}
    return list(unique.values())


# `Sequential._functional`: the functional model inside, which has the names.
def output_names(model: Any) -> list[str]:
    """Return the names of the model's outputs, empty if it has none."""
    inner = getattr(model, "_functional", None)
    names = getattr(model, "output_names", None) or getattr(inner, "output_names", None) or ()
    return [str(name) for name in names]


def metrics(model: Any) -> Iterator[Any]:
    """Yield what `fit` resets and reports, the loss tracker left out."""
    tracker = loss_tracker(model)
    for metric in model.metrics:
        if metric is not tracker:
            yield metric


# `Trainer._compile_metrics`, a CompileMetrics with `_user_metrics` and
# `_user_weighted_metrics` (3.0 to 3.15), which are in `model.metrics` from
# the first batch on. Without them their hidden state is not put back.
def all_metrics(model: Any) -> list[Any]:
    """Return the metrics of a model, those inside others and of `compile` too."""
    compiled = getattr(model, "_compile_metrics", None)
    given = [getattr(compiled, name, None) for name in ("_user_metrics", "_user_weighted_metrics")]
    found = [value for value in keras.tree.flatten(given) if isinstance(value, keras.metrics.Metric)]
    for metric in model.metrics:
        found += [metric, *getattr(metric, "metrics", ())]
    return list({id(metric): metric for metric in found}.values())


# Attributes of `Metric` itself: its list of variables, say (3.0 to 3.15).
def own_attributes(metric: Any) -> dict[str, Any] | None:
    """Return what a user's metric has beyond `keras.metrics.Metric`.

    None for Keras' own metrics and those derived from them.
    """
    classes = [kind for kind in type(metric).__mro__ if kind.__module__.startswith("keras.src.")]
    if classes[0] is not keras.metrics.Metric:
        return None
    return {name: value for name, value in vars(metric).items() if name not in _plain_attributes()}


@functools.cache
def _plain_attributes() -> frozenset[str]:
    return frozenset(vars(keras.metrics.Metric(name="plain")))


def hidden_state_kinds() -> tuple[type, ...]:
    """Return the backend's classes that hold state outside Keras' variables."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return (tf.Variable,)
    return ()


# TensorFlow's `DistributedValues.values` (2.16 to 2.21).
def replica_parts(value: Any) -> list[Any]:
    """Return the parts of a batch, one for each replica that has one."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if isinstance(value, tf.distribute.DistributedValues):
            return list(value.values)
    return [value]


# TensorFlow's `is_op_determinism_enabled` (2.9 to 2.21), which Keras reads too.
# Without it operations count as free.
def is_deterministic() -> bool:
    """Tell whether operations must be deterministic."""
    if keras.backend.backend() == "torch":
        import torch

        return torch.are_deterministic_algorithms_enabled()
    if keras.backend.backend() != "tensorflow":
        return False  # JAX's are.
    try:
        from tensorflow.python.framework.config import is_op_determinism_enabled
    except ImportError:
        return False
    return bool(is_op_determinism_enabled())


# `Layer.quantized_call` replaces `call` in a quantised layer (3.3 to 3.15).
def call_attribute(layer: Any) -> str:
    """Return the name of the method that computes the layer's output."""
    return "quantized_call" if getattr(layer, "quantization_mode", None) is not None else "call"


# `Layer.build._is_default` marks the `build` that does nothing (3.0 to 3.15).
# Without it the layers that such a layer makes late are not summarised.
def makes_layers_late(layer: Any) -> bool:
    """Tell whether a layer's `build` is still to come, and may make layers."""
    build = getattr(layer, "build", None)
    return not getattr(layer, "built", True) and not is_builtin(layer) and not hasattr(build, "_is_default")


# `keras.src.backend.common.stateless_scope` (3.0 to 3.15), in which Keras runs
# layers on symbols to build them. Without it a layer that is built in the
# first step counts as one that runs in a loop.
def is_building() -> bool:
    """Tell whether Keras is running layers on symbols only."""
    if keras.backend.backend() == "jax":
        return False  # All of its steps run in such a scope; models are built before.
    try:
        from keras.src.backend.common.stateless_scope import in_stateless_scope
    except ImportError:
        return False
    return bool(in_stateless_scope())


# `keras.src.backend.get_keras_mask` and `set_keras_mask`: since 3.5; JAX's
# tracers take no attributes. Before, `_keras_mask` on a tensor. Without them
# what is masked counts.
def mask_of(tensor: Any) -> Any | None:
    """Return the mask that Keras attached to a tensor, or None."""
    try:
        from keras.src.backend import get_keras_mask
    except ImportError:
        return getattr(tensor, "_keras_mask", None)
    return get_keras_mask(tensor)


def set_mask(tensor: Any, mask: Any) -> None:
    """Attach a mask to a tensor."""
    try:
        from keras.src.backend import set_keras_mask
    except ImportError:
        tensor._keras_mask = mask
    else:
        set_keras_mask(tensor, mask)


# `LossFunctionWrapper.fn` as above; functions of Keras' own keep no state.
def is_pure_loss(loss: Any) -> bool:
    """Tell whether a loss and its function are Keras' own."""
    modules = (type(loss).__module__, getattr(getattr(loss, "fn", None), "__module__", ""))
    return all(str(module).startswith("keras.src.losses.") for module in modules)


def is_builtin(layer: Any) -> bool:
    """Tell whether a layer's class is Keras' own."""
    return type(layer).__module__.startswith("keras.src.layers.")


def is_normalization(layer: Any) -> bool:
    """Tell whether a layer normalises: by its module or its name."""
    return ".normalization." in type(layer).__module__ or "Normalization" in type(layer).__name__


# `tf.function`'s `python_function` (public) and `_jit_compile`, `_autograph`
# of TensorFlow 2.16 to 2.21; without the latter two their defaults hold.
def undecorated_step(step: Any) -> Callable[[Any], Any] | None:
    """Return the Python function of a step that is a tf.function, or None."""
    function: Callable[[Any], Any] | None = getattr(step, "python_function", None)
    return function


def decorate_alike(step: Any, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Make a tf.function of `function` with the options of `step`."""
    import tensorflow as tf

    decorated: Callable[[Any], Any] = tf.function(
        function,
        jit_compile=getattr(step, "_jit_compile", None),
        autograph=getattr(step, "_autograph", True),
        reduce_retracing=True,
    )
    return decorated


# `TensorFlowTrainer.unrolled_steps_per_execution`: 3.7 to 3.15, 1 by default.
def unrolled_steps(model: Any) -> int:
    """Return how many steps Keras writes out in one round of its loop."""
    return max(1, int(getattr(model, "unrolled_steps_per_execution", 1) or 1))


def check_version(model: Any) -> None:
    """Refuse what this version of Keras does not let anybody watch.

    Raises:
        BatchViewError: Naming the version and what to do.
    """
    # Before, Keras writes all steps out. Where the data ends among them the
    # call ends with an error, and what its first steps did is lost.
    if (model.steps_per_execution or 1) > 1 and not hasattr(model, "unrolled_steps_per_execution"):
        raise BatchViewError(
            f"Keras {keras.__version__} hides what happens in a call of several steps. Use Keras 3.7 or newer, or "
            "steps_per_execution=1. Training is not touched."
        )
