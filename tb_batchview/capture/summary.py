"""The figures of a layer's values, computed in the training step itself.

`step` adds `summarise` to the graph for each tapped layer, so that a few
numbers leave the device instead of the activations, and `decode_summary`
turns these numbers into a `LayerSummary` on the writer's thread.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from tb_batchview.capture import arrays, keras_names
from tb_batchview.records import Array, LayerSummary

BINS = 30
# Values looked at in each sample of a batch, or one of each channel if these
# are more. Larger maps are strided.
VALUES_PER_SAMPLE = 256
# Layers with more units than this have no mean per unit.
MAX_UNITS = 1024
_FIGURES = 7


class Sampling(NamedTuple):
    """Which values of each sample are looked at.

    Attributes:
        stride: Distance between them; has no common divisor with the number of
            channels, or only some channels would be seen.
        values: How many.
        units: Channels whose means can be told, 0 for none.
    """

    stride: int
    values: int
    units: int


def plan_sampling(shape: tuple[int | None, ...]) -> Sampling | None:
    """Choose the values to look at.

    Args:
        shape: Static shape of the layer's output, batch first.

    Returns:
        The plan, or None when the size of a sample is not known beforehand:
        then all values are looked at.
    """
    sizes = shape[1:]
    if not shape or any(size is None for size in sizes):
        return None
    features = math.prod(size for size in sizes if size is not None)
    channels = sizes[-1] if sizes and sizes[-1] else 1
    wanted = max(VALUES_PER_SAMPLE, channels if channels <= MAX_UNITS else 0)
    stride = max(1, features // wanted)
    while math.gcd(stride, channels) != 1:
        stride += 1
    count = -(-features // stride)
    units = channels if channels <= MAX_UNITS and count >= channels else 0
    if units:
        # A whole number of rounds over the channels, so that each is seen
        # equally often.
        count -= count % channels
    return Sampling(stride, count, units)


def summarise(values: dict[str, Any]) -> dict[str, Any]:
    """Compute the figures of layers' outputs, in the graph if there is one.

    Args:
        values: By layer, tensors of shape (samples, ...), real numbers of any
            dtype.

    Returns:
        By layer, the figures as a float32 vector: `decode_summary` reads it.
    """
    samplings = {name: _plan(value) for name, value in values.items()}
    samples = {name: _sample(value, samplings[name]) for name, value in values.items()}
    totals = {name: ops.sum(sample) for name, sample in samples.items()}

    deterministic = keras_names.is_deterministic()

    def each(summarise_one: Callable[..., Any]) -> Callable[[], dict[str, Any]]:
        return lambda: {
            name: _summariser(summarise_one, samplings[name], deterministic)(samples[name], totals[name])
            for name in values
        }

    # Looking at each value for NaN doubles the cost. A sum shows whether it is
    # needed; one that overflows asks for it in vain, which does no harm.
    all_finite = ops.isfinite(sum(totals.values()))
    figures: dict[str, Any] = arrays.choose(all_finite, each(_summarise_finite), each(_summarise_any))
    return figures


@functools.lru_cache(maxsize=256)
def _summariser(
    summarise_one: Callable[..., Any], sampling: Sampling, deterministic: bool
) -> Callable[[Any, Any], Any]:
    """Return a function that is traced once for all layers of one form.

    A network has many layers of few forms: tracing each by itself took
    seconds for fifty.
    """
    return arrays.compiled(functools.partial(summarise_one, sampling=sampling, deterministic=deterministic))


def figures_of(value: Any) -> int:
    """Return how many figures `summarise` has for a layer's output."""
    return _FIGURES + BINS + _plan(value).units


def _plan(values: Any) -> Sampling:
    rank = rank_of(values)
    return plan_sampling((None, None) if rank is None else tuple(values.shape)) or Sampling(1, 0, 0)


def rank_of(value: Any) -> int | None:
    """Return how many dimensions a tensor has; None if that is unknown."""
    shape = value.shape
    return shape.rank if hasattr(shape, "rank") else len(shape)


def _sample(values: Any, sampling: Sampling) -> Any:
    if not sampling.values:
        return ops.cast(ops.reshape(values, [-1]), "float32")
    features = math.prod(values.shape[1:])
    chosen = ops.reshape(values, [-1, features])[:, :: sampling.stride][:, : sampling.values]
    return ops.cast(chosen, "float32")


def _size(sample: Any) -> Any:
    size = ops.size(sample)
    return ops.cast(size, "float32")


def _summarise_finite(sample: Any, total: Any, sampling: Sampling, deterministic: bool) -> Any:
    seen = _size(sample)
    # An empty batch has figures too: 0 values, and 0 for the rest.
    divisor = ops.maximum(seen, 1.0)
    mean = total / divisor
    variance = ops.sum(ops.square(sample - mean)) / divisor
    low, high = _extremes(sample)
    zeros = ops.sum(ops.cast(ops.equal(sample, 0.0), "float32")) / divisor
    figures = ops.stack([seen, mean, ops.sqrt(variance), low, high, zeros, ops.zeros([], "float32")])
    scale = BINS / (high - low)
    # All values in one place: the range is nothing, or more than a float32.
    scale = ops.where(ops.isfinite(scale), scale, 0.0)
    parts = [figures, _count(ops.cast((sample - low) * scale, "int32"), BINS, deterministic)]
    if sampling.units:
        parts.append(_in_order(ops.mean(ops.reshape(sample, [-1, sampling.units]), 0), sampling))
    return ops.concatenate(parts, 0)


def _summarise_any(sample: Any, total: Any, sampling: Sampling, deterministic: bool) -> Any:
    finite = ops.isfinite(sample)
    clean = ops.where(finite, sample, 0.0)
    seen = _size(sample)
    kept = ops.sum(ops.cast(finite, "float32"))
    divisor = ops.maximum(kept, 1.0)
    mean = ops.sum(clean / divisor)
    variance = ops.sum(ops.where(finite, ops.square(clean - mean) / divisor, 0.0))
    # With no finite value at all these stay at infinity, and the width at 1.
    low = _extremes(ops.where(finite, sample, math.inf))[0]
    high = _extremes(ops.where(finite, sample, -math.inf))[1]
    zeros = ops.sum(ops.cast(ops.logical_and(finite, ops.equal(sample, 0.0)), "float32")) / divisor
    figures = ops.stack([seen, mean, ops.sqrt(variance), low, high, zeros, seen - kept])
    # Halves, since the range of two float32 may be more than one.
    width = ops.where(high > low, (high / 2 - low / 2) / BINS, 1.0)
    place = ops.clip((clean / 2 - low / 2) / width, 0.0, BINS - 1.0)
    valid = ops.logical_and(finite, ops.isfinite(place))
    # What is left out is counted in a place of its own.
    place = ops.cast(ops.where(valid, place, float(BINS)), "int32")
    parts = [figures, _count(place, BINS + 1, deterministic)[:BINS]]
    if sampling.units:
        weights = ops.reshape(ops.cast(finite, "float32"), [-1, sampling.units])
        sums = ops.sum(ops.reshape(clean, [-1, sampling.units]), 0)
        parts.append(_in_order(sums / ops.maximum(ops.sum(weights, 0), 1.0), sampling))
    return ops.concatenate(parts, 0)


def _extremes(sample: Any) -> tuple[Any, Any]:
    # The initial value is what TensorFlow returns for an empty batch anyway;
    # the others refuse one without.
    return ops.min(sample, initial=math.inf), ops.max(sample, initial=-math.inf)


def _count(place: Any, size: int, deterministic: bool) -> Any:
    # What overflowed is no place at all, and a negative one would stop the
    # training.
    place = ops.clip(place, 0, size - 1)
    if deterministic:
        # Some devices then refuse to count, in the middle of training.
        return ops.sum(ops.one_hot(ops.reshape(place, [-1]), size), 0)
    return arrays.count(place, size)


def _in_order(means: Any, sampling: Sampling) -> Any:
    # The i-th value of a round belongs to channel i * stride modulo channels.
    order = np.argsort(np.arange(sampling.units) * sampling.stride % sampling.units)
    return ops.take(means, order.astype(np.int32), axis=0)


def decode_summary(vector: Array) -> LayerSummary:
    """Read the numbers that `summarise` computed."""
    count, mean, std, low, high, zeros, nonfinite = vector[:_FIGURES].tolist()
    empty = nonfinite >= count
    return LayerSummary(
        count=count,
        mean=math.nan if empty else mean,
        std=math.nan if empty else std,
        min=math.nan if empty else low,
        max=math.nan if empty else high,
        zero_fraction=math.nan if empty else zeros,
        nonfinite=nonfinite,
        histogram=vector[_FIGURES : _FIGURES + BINS].copy(),
        unit_means=vector[_FIGURES + BINS :].copy() if len(vector) > _FIGURES + BINS else None,
    )
