"""The figures of the gradients that an optimizer was given, by layer.

`tap` remembers what each optimizer was given in a step. `step` names it with
`name_gradients` and adds `summarise_gradients` to the step, so that a few
numbers leave the device instead of the gradients; `decode_gradient` turns
these into a `GradientSummary` on the writer's thread.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from tb_batchview.capture import arrays, keras_names
from tb_batchview.capture.layers import name_owners
from tb_batchview.capture.summary import BINS, FIGURES, Sampling, decode_figures, tabulate
from tb_batchview.capture.tap import Applied, Sight
from tb_batchview.records import Array, GradientSummary

# Values of a layer's gradient that are looked at for all but its norm.
VALUES = 1 << 14
_TINY = float(np.finfo(np.float32).tiny)


class Weight(NamedTuple):
    """The gradient of one weight.

    Attributes:
        parts: Its sum is the gradient: one part of each replica.
        shape: Of the weight.
        applied: The call of the optimizer that it was given to.
    """

    parts: Sequence[Any]
    shape: tuple[int, ...]
    applied: Applied


def name_gradients(model: Any, sight: Sight, problems: list[str]) -> dict[str, list[Weight]]:
    """Sort the gradients that a step applied by the layer of the weight.

    Args:
        model: The model of the step.
        sight: What was seen.
        problems: Takes a sentence for what is left out.

    Returns:
        By layer, in the order of the model; weights without a gradient are
        left out, and layers that have no others.
    """
    owners = name_owners(model)
    found: dict[str, list[Weight]] = {}
    lost: list[str] = []
    seen: set[int] = set()
    for applied in sight.applied:
        for variable, gradient in zip(applied.variables, applied.gradients, strict=True):
            shape = tuple(variable.shape)
            if gradient is None or id(variable) in seen or keras_names.is_overwritten(variable) or not math.prod(shape):
                continue
            seen.add(id(variable))
            owner = owners.get(id(variable))
            if owner is None or not sight.belongs(gradient):
                lost.append(str(getattr(variable, "path", variable.name)))
            else:
                found.setdefault(owner, []).append(Weight([gradient], shape, applied))
    if lost:
        problems.append(
            f"The gradients of {', '.join(lost[:10])} are not recorded: they are "
            "applied inside a loop or a branch of the step, are no dense numbers, or are of weights that no layer of "
            "the model has."
        )
    elif not found:
        problems.append(
            "No gradients were seen: the training step must give them to an optimizer of Keras that is an attribute "
            "of the model. The rest is recorded."
        )
    order = list(dict.fromkeys(owners.values()))
    return {name: found[name] for name in sorted(found, key=order.index)}


def plan_gradients(gradients: dict[str, list[Weight]]) -> dict[str, int]:
    """Tell how many figures `summarise_gradients` has of each layer."""
    return {name: FIGURES + BINS + 2 * len(weights) for name, weights in gradients.items()}


def summarise_gradients(gradients: dict[str, list[Weight]]) -> dict[str, Any]:
    """Compute the figures of gradients, in the graph if there is one.

    They are those of the loss: what an optimizer multiplied the loss with is
    taken out, and what it does with them (clipping, accumulating) is not in.

    Returns:
        By layer a vector of float32 that `decode_gradient` reads.
    """
    flat = {
        name: [ops.cast(arrays.add_parts(weight.parts, weight.shape), "float32") for weight in weights]
        for name, weights in gradients.items()
    }
    measured = {name: [_measure(value) for value in values] for name, values in flat.items()}
    peaks = {name: ops.stack([peak for peak, _ in pairs]) for name, pairs in measured.items()}
    sums = {name: ops.stack([squares for _, squares in pairs]) for name, pairs in measured.items()}
    scales = _read_scales(gradients, sums)
    groups: dict[int, list[str]] = {}
    samples: dict[str, Any] = {}
    for name, weights in gradients.items():
        scale = scales[id(weights[0].applied.optimizer)]
        plan = _plan_sample([weight.shape for weight in weights])
        parts = [ops.reshape(value, [-1])[::stride] for value, stride in zip(flat[name], plan, strict=True)]
        sample = ops.concatenate(parts) if len(parts) > 1 else parts[0]
        samples[name] = sample if scale is None else sample / scale
        peaks[name] = peaks[name] if scale is None else peaks[name] / scale
        count = sum(-(-math.prod(weight.shape) // stride) for weight, stride in zip(weights, plan, strict=True))
        groups.setdefault(count, []).append(name)
    tables = [ops.stack([ops.reshape(samples[name], [count]) for name in names]) for count, names in groups.items()]
    figures = tabulate(tables, [Sampling(1, count, 0) for count in groups], [None] * len(groups))
    rows = {
        name: table[row]
        for names, table in zip(groups.values(), figures, strict=True)
        for row, name in enumerate(names)
    }
    return {name: ops.concatenate([rows[name], peaks[name], sums[name]]) for name in gradients}


def _measure(value: Any) -> tuple[Any, Any]:
    """Return the largest value of a gradient, and its squares in that unit.

    The square of what vanishes or explodes is none that a float32 can hold.
    """
    peak = ops.max(ops.abs(value))
    peak = ops.where(ops.logical_and(ops.isfinite(peak), peak >= _TINY), peak, 1.0)
    return peak, ops.sum(ops.square(value / peak))


def _read_scales(gradients: dict[str, list[Weight]], sums: dict[str, Any]) -> dict[int, Any]:
    """Return what each optimizer multiplied the loss with, None for nothing."""
    scales: dict[int, Any] = {}
    for applied in (weight.applied for weights in gradients.values() for weight in weights):
        if id(applied.optimizer) in scales:
            continue
        own = [
            sums[name]
            for name, weights in gradients.items()
            if any(weight.applied.optimizer is applied.optimizer for weight in weights)
        ]
        finite = ops.all(ops.isfinite(ops.concatenate(own)))
        scales[id(applied.optimizer)] = keras_names.loss_scale(applied.optimizer, applied.scale, finite)
    return scales


def _plan_sample(shapes: list[tuple[int, ...]]) -> list[int]:
    """Choose the distance between the values looked at, for each weight."""
    least = -(-sum(math.prod(shape) for shape in shapes) // VALUES)
    strides = []
    for shape in shapes:
        stride = least
        # With a common divisor only some of the units would be seen.
        while math.gcd(stride, shape[-1] if shape else 1) != 1:
            stride += 1
        strides.append(stride)
    return strides


def decode_gradient(vector: Array) -> GradientSummary:
    """Read the numbers that `summarise_gradients` computed of a layer."""
    peaks, sums = np.split(vector[FIGURES + BINS :].astype(np.float64), 2)
    with np.errstate(all="ignore"):
        norm = float(np.sqrt(np.sum(np.square(peaks) * sums)))
    return GradientSummary(norm=norm, histogram=vector[FIGURES : FIGURES + BINS].copy(), **decode_figures(vector))
