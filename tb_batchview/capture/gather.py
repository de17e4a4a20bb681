"""Gives names to the tensors that a step showed.

Called by `step` after the user's step is done; what it adds to the graph
reads and never feeds back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf

from tb_batchview.capture import keras_names
from tb_batchview.capture.hints import read_loss_hint
from tb_batchview.capture.tap import Sight
from tb_batchview.tasks import TaskHint


def describe(value: Any) -> str:
    """Name a value's kind, dtype and shape for a message."""
    return f"a {type(value).__name__} of dtype {getattr(value, 'dtype', '?')} and shape {getattr(value, 'shape', '?')}"


def gather(model: Any, sight: Sight) -> tuple[dict[str, Any], dict[str, TaskHint]]:
    """Name the tensors that a step showed, layers and metrics left out.

    Args:
        model: The model of the step.
        sight: What was seen.

    Returns:
        Tensors by "size", "loss" and "outputs/<output>/<field>" with the
        fields of `OutputRecord`, and what the losses say by output.
    """
    tensors: dict[str, Any] = {}
    batched = [leaf for leaf in tf.nest.flatten(sight.inputs) if sight.belongs(leaf) and leaf.shape.rank]
    if batched:
        tensors["size"] = tf.shape(batched[0])[0]
    if sight.loss is not None:
        tensors["loss"] = sight.loss
    outputs, hints = gather_outputs(model, sight)
    for name, fields in outputs.items():
        tensors |= {f"outputs/{name}/{field}": value for field, value in fields.items()}
    return tensors, hints


def gather_outputs(model: Any, sight: Sight) -> tuple[dict[str, dict[str, Any]], dict[str, TaskHint]]:
    """Name what the loss was given, and what it says, by output."""
    inputs = sight.inputs
    losses = keras_names.flat_losses(model)
    values = sight.sample_losses if len(sight.sample_losses) == len(losses) else [None] * len(losses)
    by_path = {flat.path: (flat.loss, value) for flat, value in zip(losses, values, strict=True)}
    outputs: dict[str, dict[str, Any]] = {}
    hints: dict[str, TaskHint] = {}
    for path, (name, predictions) in name_outputs(model, inputs.get("y_pred")).items():
        if not sight.belongs(predictions) or not predictions.shape.rank:
            continue
        fields = {"predictions": predictions}
        for field, source in (("targets", inputs.get("y")), ("sample_weight", inputs.get("sample_weight"))):
            value = at_path(source, path, name)
            if sight.belongs(value) and value.shape.rank:
                fields[field] = value if field == "targets" else per_sample(value)
        loss, losses_seen = by_path.get(path, (None, None))
        if losses_seen is not None and losses_seen.shape.rank:
            fields["sample_loss"] = per_sample(losses_seen)
        if loss is not None:
            hints[name] = read_loss_hint(loss)
        outputs[name] = fields
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


def per_sample(values: Any) -> Any:
    """Reduce (samples, ...) to one float32 a sample, the mean of the rest."""
    values = tf.cast(values, tf.float32)
    rank = values.shape.rank
    return values if rank == 1 else tf.reduce_mean(values, axis=list(range(1, rank)))


def replay_metrics(model: Any, sight: Sight, problems: list[str]) -> dict[str, list[Any]]:
    """Compute the state that each metric would have after this batch alone.

    The calls that the step made are made again on fresh state, without
    touching the metric's own (`Metric.stateless_update_state`,
    https://keras.io/api/metrics/base_metric).

    Returns:
        States by the metric's name. A metric that cannot be replayed is left
        out, with a sentence in `problems`.
    """
    states: dict[str, list[Any]] = {}
    for metric in keras_names.metrics(model):
        calls = sight.metric_calls.get(id(metric), [])
        try:
            state = metric.stateless_reset_state() if calls else None
            for args, kwargs in calls:
                if not sight.all_belong((args, kwargs)):
                    raise ValueError("it is updated inside a loop or a branch of the graph")
                state = metric.stateless_update_state(state, *args, **kwargs)
        except Exception as error:
            problems.append(f"The metric {metric.name!r} has no value of its own for a batch: {error!r}.")
            continue
        if state is not None:
            states[metric.name] = list(state)
    return states


def read_metrics(model: Any, states: dict[str, list[Any]], problems: list[str]) -> dict[str, Any]:
    """Turn the states of `replay_metrics` into values.

    Returns:
        Scalars by Keras' names.
    """
    values: dict[str, Any] = {}
    for metric in keras_names.metrics(model):
        if metric.name not in states:
            continue
        result = metric.stateless_result(states[metric.name])
        values |= result if isinstance(result, dict) else {metric.name: result}
    tensors = {str(name): tf.convert_to_tensor(value) for name, value in values.items()}
    problems += [
        f"The metric {name!r} is not a single number and is not recorded."
        for name, value in tensors.items()
        if value.shape.rank != 0
    ]
    return {name: value for name, value in tensors.items() if value.shape.rank == 0}
