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
# Values looked at in each sample of a batch. Larger maps are strided.
VALUES_PER_SAMPLE = 1024
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
    if any(size is None for size in sizes):
        return None
    features = math.prod(size for size in sizes if size is not None)
    channels = sizes[-1] if sizes and sizes[-1] else 1
    stride = max(1, features // VALUES_PER_SAMPLE)
    while math.gcd(stride, channels) != 1:
        stride += 1
    count = -(-features // stride)
    units = channels if channels <= MAX_UNITS and count >= channels else 0
    if units:
        # A whole number of rounds over the channels, so that each is seen
        # equally often.
        count -= count % channels
    return Sampling(stride, count, units)


def summarise(values: Any) -> tuple[Any, int]:
    """Add the figures of a layer's output to the graph.

    Args:
        values: A tensor of shape (samples, ...), real numbers of any dtype.

    Returns:
        A float32 vector of `SummaryLayout.length` numbers, and the number of
        units in it.
    """
    shape = tuple(values.shape.as_list()) if values.shape.rank is not None else (None, None)
    sampling = plan_sampling(shape) if len(shape) > 1 else Sampling(1, 1, 0)
    if sampling is None:
        flat = tf.reshape(values, [tf.shape(values)[0], -1])
        units = 0
    else:
        flat = tf.reshape(values, [-1, max(1, math.prod(shape[1:]))])[:, :: sampling.stride][:, : sampling.values]
        units = sampling.units
    flat = tf.cast(flat, tf.float32)
    finite = tf.math.is_finite(flat)
    clean = tf.where(finite, flat, 0.0)
    seen = tf.cast(tf.size(flat), tf.float32)
    kept = tf.reduce_sum(tf.cast(finite, tf.float32))
    divisor = tf.maximum(kept, 1.0)
    mean = tf.reduce_sum(clean) / divisor
    variance = tf.reduce_sum(tf.where(finite, tf.square(clean - mean), 0.0)) / divisor
    # With no finite value at all these stay at infinity, and the width at 1.
    low = tf.reduce_min(tf.where(finite, flat, math.inf))
    high = tf.reduce_max(tf.where(finite, flat, -math.inf))
    zeros = tf.reduce_sum(tf.cast(finite & (flat == 0.0), tf.float32)) / divisor
    figures = tf.stack([seen, mean, tf.sqrt(variance), low, high, zeros, seen - kept])
    parts = [figures, _histogram(clean, finite, low, high)]
    if units:
        parts.append(_unit_means(clean, finite, sampling))
    return tf.concat(parts, 0), units


def _histogram(clean: Any, finite: Any, low: Any, high: Any) -> Any:
    width = tf.where(high > low, (high - low) / BINS, 1.0)
    place = tf.clip_by_value((clean - low) / width, 0.0, BINS - 1.0)
    # NaN as a place (an infinite range) must not reach the cast.
    valid = finite & tf.math.is_finite(place)
    place = tf.cast(tf.where(valid, place, float(BINS)), tf.int32)
    # The raw op: the only count that is fast with and without XLA;
    # tf.math.bincount needs a constant size there and has none.
    counts = tf.raw_ops.DenseBincount(
        input=tf.reshape(place, [-1]), size=BINS + 1, weights=tf.constant([], tf.float32), binary_output=False
    )
    return counts[:BINS]


def _unit_means(clean: Any, finite: Any, sampling: Sampling | None) -> Any:
    assert sampling is not None
    units = sampling.units
    rounds = tf.reshape(clean, [-1, units])
    weights = tf.reshape(tf.cast(finite, tf.float32), [-1, units])
    means = tf.reduce_sum(rounds, 0) / tf.maximum(tf.reduce_sum(weights, 0), 1.0)
    # The i-th value of a round belongs to channel i * stride modulo channels.
    order = np.argsort(np.arange(units) * sampling.stride % units)
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
