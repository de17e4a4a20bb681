"""The figures of a layer's values, computed in the training step itself.

`step` adds `summarise` to the graph for each tapped layer, so that a few
numbers leave the device instead of the activations, and `decode_summary`
turns these numbers into a `LayerSummary` on the writer's thread.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tb_batchview.records import Array, LayerSummary

BINS = 30
# Values looked at in each sample of a batch, or one of each channel if these
# are more. Larger maps are strided.
VALUES_PER_SAMPLE = 512
# Layers with more units than this have no mean per unit.
MAX_UNITS = 1024
_FIGURES = 7


class SummaryLayout(NamedTuple):
    """How the numbers of one layer lie in its vector."""

    name: str
    units: int

    @property
    def length(self) -> int:
        """Numbers in the vector."""
        return _FIGURES + BINS + self.units


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


def summarise(values: dict[str, Any]) -> tuple[Any, list[SummaryLayout]]:
    """Add the figures of layers' outputs to the graph.

    Args:
        values: By layer, tensors of shape (samples, ...), real numbers of any
            dtype.

    Returns:
        A float32 vector of the layers' figures one after another, and how they
        lie in it.
    """
    samplings = {name: _plan(value) for name, value in values.items()}
    samples = {name: _sample(value, samplings[name]) for name, value in values.items()}
    totals = {name: tf.reduce_sum(sample) for name, sample in samples.items()}

    def plainly() -> Any:
        return tf.concat([_summarise_finite(samples[name], totals[name], samplings[name]) for name in values], 0)

    def carefully() -> Any:
        return tf.concat([_summarise_any(samples[name], samplings[name]) for name in values], 0)

    # Looking at each value for NaN doubles the cost. A sum shows whether it is
    # needed; one that overflows asks for it in vain, which does no harm.
    all_finite = tf.math.is_finite(tf.add_n(list(totals.values())))
    return tf.cond(all_finite, plainly, carefully), [
        SummaryLayout(name, sampling.units) for name, sampling in samplings.items()
    ]


def _plan(values: Any) -> Sampling:
    shape = (None, None) if values.shape.rank is None else tuple(values.shape.as_list())
    return plan_sampling(shape) or Sampling(1, 0, 0)


def _sample(values: Any, sampling: Sampling) -> Any:
    if not sampling.values:
        return tf.cast(tf.reshape(values, [-1]), tf.float32)
    features = math.prod(values.shape[1:])
    chosen = tf.reshape(values, [-1, features])[:, :: sampling.stride][:, : sampling.values]
    return tf.cast(chosen, tf.float32)


def _summarise_finite(sample: Any, total: Any, sampling: Sampling) -> Any:
    seen = tf.cast(tf.size(sample), tf.float32)
    # An empty batch has figures too: 0 values, and 0 for the rest.
    divisor = tf.maximum(seen, 1.0)
    mean = total / divisor
    variance = tf.reduce_sum(tf.math.squared_difference(sample, mean)) / divisor
    low, high = tf.reduce_min(sample), tf.reduce_max(sample)
    zeros = tf.reduce_sum(tf.cast(tf.equal(sample, 0.0), tf.float32)) / divisor
    figures = tf.stack([seen, mean, tf.sqrt(variance), low, high, zeros, tf.zeros([])])
    scale = BINS / (high - low)
    # All values in one place: the range is nothing, or more than a float32.
    scale = tf.where(tf.math.is_finite(scale), scale, 0.0)
    parts = [figures, _count(tf.cast((sample - low) * scale, tf.int32), BINS)]
    if sampling.units:
        parts.append(_in_order(tf.reduce_mean(tf.reshape(sample, [-1, sampling.units]), 0), sampling))
    return tf.concat(parts, 0)


def _summarise_any(sample: Any, sampling: Sampling) -> Any:
    finite = tf.math.is_finite(sample)
    clean = tf.where(finite, sample, 0.0)
    seen = tf.cast(tf.size(sample), tf.float32)
    kept = tf.reduce_sum(tf.cast(finite, tf.float32))
    divisor = tf.maximum(kept, 1.0)
    mean = tf.reduce_sum(clean / divisor)
    variance = tf.reduce_sum(tf.where(finite, tf.square(clean - mean) / divisor, 0.0))
    # With no finite value at all these stay at infinity, and the width at 1.
    low = tf.reduce_min(tf.where(finite, sample, math.inf))
    high = tf.reduce_max(tf.where(finite, sample, -math.inf))
    zeros = tf.reduce_sum(tf.cast(finite & (sample == 0.0), tf.float32)) / divisor
    figures = tf.stack([seen, mean, tf.sqrt(variance), low, high, zeros, seen - kept])
    # Halves, since the range of two float32 may be more than one.
    width = tf.where(high > low, (high / 2 - low / 2) / BINS, 1.0)
    place = tf.clip_by_value((clean / 2 - low / 2) / width, 0.0, BINS - 1.0)
    valid = finite & tf.math.is_finite(place)
    # What is left out is counted in a place of its own.
    place = tf.cast(tf.where(valid, place, float(BINS)), tf.int32)
    parts = [figures, _count(place, BINS + 1)[:BINS]]
    if sampling.units:
        weights = tf.reshape(tf.cast(finite, tf.float32), [-1, sampling.units])
        sums = tf.reduce_sum(tf.reshape(clean, [-1, sampling.units]), 0)
        parts.append(_in_order(sums / tf.maximum(tf.reduce_sum(weights, 0), 1.0), sampling))
    return tf.concat(parts, 0)


def _count(place: Any, size: int) -> Any:
    # What overflowed is no place at all, and a negative one would stop the
    # training.
    place = tf.clip_by_value(place, 0, size - 1)
    # The raw op: the only count that is fast with and without XLA;
    # tf.math.bincount needs a constant size there and has none.
    return tf.raw_ops.DenseBincount(
        input=tf.reshape(place, [-1]), size=size, weights=tf.constant([], tf.float32), binary_output=False
    )


def _in_order(means: Any, sampling: Sampling) -> Any:
    # The i-th value of a round belongs to channel i * stride modulo channels.
    order = np.argsort(np.arange(sampling.units) * sampling.stride % sampling.units)
    return tf.gather(means, order.astype(np.int32))


def decode_summary(vector: Array, layout: SummaryLayout) -> LayerSummary:
    """Read the numbers that `summarise` computed."""
    count, mean, std, low, high, zeros, nonfinite = (float(figure) for figure in vector[:_FIGURES])
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
        unit_means=vector[_FIGURES + BINS : layout.length].copy() if layout.units else None,
    )
