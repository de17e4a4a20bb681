"""Gives names to the tensors that a step showed.

Called by `step` after the user's step is done; what it adds to the graph
reads and never feeds back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from tb_batchview.capture import arrays, keras_names
from tb_batchview.capture.carried import name_tensors
from tb_batchview.capture.hints import read_loss_hint
from tb_batchview.capture.summary import rank_of
from tb_batchview.capture.tap import Sight
from tb_batchview.capture.thin import thin
from tb_batchview.tasks import TaskHint

_DTYPES = {"bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"}
_DTYPES |= {"float16", "bfloat16", "float32", "float64"}


def is_recordable(value: Any) -> bool:
    """Tell whether a tensor can be recorded: dense, numeric, rank known."""
    if not arrays.is_array(value) or rank_of(value) is None:
        return False
    return keras.backend.standardize_dtype(value.dtype) in _DTYPES


def describe(value: Any) -> str:
    """Name a value's kind, dtype and shape for a message."""
    return f"a {type(value).__name__} of dtype {getattr(value, 'dtype', '?')} and shape {getattr(value, 'shape', '?')}"


def gather(model: Any, sight: Sight, problems: list[str]) -> tuple[dict[str, Any], dict[str, TaskHint]]:
    """Name the tensors that a step showed, layers and metrics left out.

    Args:
        model: The model of the step.
        sight: What was seen.
        problems: Takes a sentence for each thing that is left out.

    Returns:
        Tensors by "size", "loss", "outputs/<output>/<field>" with the fields
        of `OutputRecord`, and ids as `carried` names them; and what the losses
        say by output.
    """
    tensors: dict[str, Any] = {}
    # The step of a GAN, say, shows nothing but what it was given.
    shown = keras.tree.flatten([sight.inputs, sight.batch])
    batched = next((leaf for leaf in shown if sight.belongs(leaf) and rank_of(leaf)), None)
    if batched is not None:
        tensors["size"] = ops.convert_to_tensor(ops.shape(batched)[0], "int32")
    if sight.loss is not None:
        tensors["loss"] = sight.loss
    outputs, hints = gather_outputs(model, sight, problems)
    for name, fields in outputs.items():
        tensors |= {f"outputs/{name}/{field}": value for field, value in fields.items()}
    tensors |= name_tensors(sight.ids, problems)
    return tensors, hints


def gather_outputs(
    model: Any, sight: Sight, problems: list[str]
) -> tuple[dict[str, dict[str, Any]], dict[str, TaskHint]]:
    """Name what the loss was given, and what it says, by output."""
    inputs = sight.inputs
    losses = keras_names.flat_losses(model, inputs.get("y_pred"))
    values = sight.sample_losses if len(sight.sample_losses) == len(losses) else [None] * len(losses)
    by_path = {flat.path: (flat.loss, value) for flat, value in zip(losses, values, strict=True)}
    outputs: dict[str, dict[str, Any]] = {}
    hints: dict[str, TaskHint] = {}
    for path, (name, predictions) in name_outputs(model, inputs.get("y_pred")).items():
        if not sight.belongs(predictions):
            continue
        if rank_of(predictions) == 0:
            problems.append(not_per_sample(name, "predictions"))
            continue
        fields = {"predictions": predictions}
        for field, source in (("targets", inputs.get("y")), ("sample_weight", inputs.get("sample_weight"))):
            value = at_path(source, path, name)
            if sight.belongs(value) and rank_of(value) != 0:
                fields[field] = value if field == "targets" else per_sample(value)
        loss, losses_seen = by_path.get(path, (None, None))
        if losses_seen is not None and rank_of(losses_seen) == 0:
            problems.append(
                f"The loss {keras_names.loss_function(loss)[0]!r} returns a single number: there is no loss per sample."
            )
        elif losses_seen is not None:
            fields["sample_loss"] = per_sample(losses_seen, _masks(losses_seen, predictions))
        if loss is not None:
            hints[name] = read_loss_hint(loss)
        outputs[name] = thin(name, fields, problems)
    return outputs, hints


def name_outputs(model: Any, predictions: Any) -> dict[tuple[Any, ...], tuple[str, Any]]:
    """Name the tensors that a model returned.

    Returns:
        Name and tensor by the path to it: keys of dicts, places in lists.
    """
    leaves = dict(_walk(predictions, ()))
    names = keras_names.output_names(model)
    if list(leaves) == [()]:
        return {(): (names[0] if len(names) == 1 else "output", predictions)}
    in_order = names if isinstance(predictions, (list, tuple)) and len(names) == len(leaves) else None
    return {
        path: (in_order[place] if in_order else "/".join(str(part) for part in path), leaf)
        for place, (path, leaf) in enumerate(leaves.items())
    }


def output_units(model: Any) -> dict[str, int | None]:
    """Tell how many scores each output of a model has, before any batch.

    Returns:
        The size of the last axis by output name, None where it is open; empty
        for a model that has no symbolic outputs (a subclass of `Model`).
    """
    outputs = _ask(model, "output")
    if outputs is None:  # A Sequential model has the list alone.
        outputs = next(iter(_ask(model, "outputs") or ()), None)
    shapes = {name: tuple(output.shape) for name, output in name_outputs(model, outputs).values()}
    return {name: shape[-1] if len(shape) > 1 else 1 for name, shape in shapes.items()}


def has_loss(model: Any) -> bool:
    """Tell whether a model is compiled with a loss."""
    return keras_names.compiled_loss(model) is not None


def _ask(model: Any, attribute: str) -> Any:
    try:
        return getattr(model, attribute)
    except (AttributeError, ValueError):  # Not built yet; which of them depends on the version of Keras.
        return None


def _walk(structure: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(structure, Mapping):
        for key, inner in structure.items():
            yield from _walk(inner, (*path, key))
    elif isinstance(structure, (list, tuple)):
        for place, inner in enumerate(structure):
            yield from _walk(inner, (*path, place))
    elif structure is not None:
        yield path, structure


def at_path(structure: Any, path: tuple[Any, ...], name: str) -> Any:
    """Find what belongs to an output in targets or weights.

    Args:
        structure: As the user gave it: like the outputs, a dict by their names
            where they are a list, or one value for all.
        path: To the output.
        name: Of the output.
    """
    if isinstance(structure, Mapping) and name in structure:
        return structure[name]
    for part in path:
        try:
            structure = structure[part] if isinstance(structure, (Mapping, list, tuple)) else structure
        except (KeyError, IndexError, TypeError):
            return None
    if isinstance(structure, (list, tuple)) and len(structure) == 1:
        return structure[0]
    return structure


def not_per_sample(output: str, field: str) -> str:
    """Say that something has no entry for each sample."""
    return f"The {field} of output {output!r} are not one per sample of the batch and are not recorded."


def _masks(losses: Any, predictions: Any) -> list[Any]:
    """Return Keras' masks of padding and ignored classes, as `Loss` does."""
    masks = [keras_names.mask_of(losses), keras_names.mask_of(predictions)]
    return [mask for mask in masks if mask is not None and rank_of(mask) == rank_of(losses)]


def per_sample(values: Any, masks: Sequence[Any] = ()) -> Any:
    """Reduce (samples, ...) to one float32 a sample, the mean of the rest.

    Args:
        values: Real numbers, shape (samples, ...). Of unknown rank they are
            left as they are, and cannot be packed.
        masks: Shaped like the values; what one of them hides does not count.
    """
    rank = rank_of(values)
    if rank is None:
        return values
    values = ops.cast(values, "float32")
    if rank == 1:
        return values
    axes = list(range(1, rank))
    if not masks:
        return ops.mean(values, axis=axes)
    shown = ops.ones_like(values, "bool")
    for mask in masks:
        shown = ops.logical_and(shown, ops.cast(mask, "bool"))
    total = ops.sum(ops.where(shown, values, 0.0), axis=axes)
    return ops.divide_no_nan(total, ops.sum(ops.cast(shown, "float32"), axis=axes))
