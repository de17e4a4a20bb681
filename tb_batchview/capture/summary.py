"""The figures of a layer's values, computed in the training step itself.

`step` adds `summarise` to the graph for each tapped layer, so that a few
numbers leave the device instead of the activations, and `decode_summary`
turns these numbers into a `LayerSummary` on the writer's thread.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from tb_batchview import metadata
from tb_batchview.capture import arrays, keras_names
from tb_batchview.records import Array, LayerSummary

BINS = 30
# Values looked at in each sample of a batch, or one of each channel if these
# are more. Larger maps are strided.
VALUES_PER_SAMPLE = 256
# Layers with more units than this have no mean per unit.
MAX_UNITS = 1024
FIGURES = len(metadata.LAYER_FIGURES)
# By layer: values of at most the first, or at least the second, are saturated.
Bounds = Mapping[str, tuple[float, float]]


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


class Group(NamedTuple):
    """Figures of layers of one form.

    Attributes:
        names: Of the layers.
        figures: Shape (layers, figures): `decode_summary` reads a row.
    """

    names: list[str]
    figures: Any


def summarise(values: dict[str, Any], bounds: Bounds | None = None, alone: Collection[str] = ()) -> list[Group]:
    """Compute the figures of layers' outputs, in the graph if there is one.

    Layers of which as many values are looked at go through the same
    operations together: a network has many layers of few forms, and each
    operation costs time when it is traced and when it runs.

    Args:
        values: By layer, tensors of shape (samples, ...), real numbers of any
            dtype.
        bounds: Of the layers whose units can saturate: where they do.
        alone: Those to be kept from the others, whose rows are fewer.
    """
    groups = _group(values, bounds or {}, alone)
    tables = [_sample([values[name] for name in names], sampling) for sampling, _, names in groups]
    known = [None if limits is None else np.array(limits, np.float32) for _, limits, _ in groups]
    figures = tabulate(tables, [sampling for sampling, _, _ in groups], known)
    return [Group(names, table) for (_, _, names), table in zip(groups, figures, strict=True)]


def tabulate(tables: list[Any], samplings: list[Sampling], bounds: list[Array | None]) -> list[Any]:
    """Compute the figures of each row of some tables.

    Args:
        tables: float32, shape (layers, values): what is looked at.
        samplings: How it was chosen, for each table.
        bounds: For each table, shape (layers, 2): below and above which the
            units of a layer are saturated; None where they cannot be.

    Returns:
        For each table one of shape (layers, figures).
    """
    totals = [ops.sum(table, 1) for table in tables]

    def each(compute: Callable[[Any, Any, Sampling, Array | None], Any]) -> Callable[[], list[Any]]:
        return lambda: [compute(*row) for row in zip(tables, totals, samplings, bounds, strict=True)]

    # Looking at each value for NaN doubles the cost. A sum shows whether it is
    # needed; one that overflows asks for it in vain, which does no harm.
    all_finite = ops.isfinite(sum(ops.sum(total) for total in totals))
    figures: list[Any] = arrays.choose(all_finite, each(_compute_finite), each(_compute_any))
    return figures


def name_figures(groups: list[Group], order: Iterable[str]) -> dict[str, Any]:
    """Return the figures by "layers/<name>", in an order of the names."""
    rows = {name: group.figures[row] for group in groups for row, name in enumerate(group.names)}
    return {f"layers/{name}": rows[name] for name in order}


def plan_figures(values: dict[str, Any], bounds: Bounds | None = None, alone: Collection[str] = ()) -> dict[str, slice]:
    """Tell where each layer's figures are in those of `summarise`, in a row."""
    groups = [
        (FIGURES + BINS + (1 + sampling.units * (2 if limits is None else 3) if sampling.units else 0), names)
        for sampling, limits, names in _group(values, bounds or {}, alone)
    ]
    lengths = [(name, length) for length, names in groups for name in names]
    ends = itertools.accumulate(length for _, length in lengths)
    places = {name: slice(end - length, end) for (name, length), end in zip(lengths, ends, strict=True)}
    return {name: places[name] for name in values}


_Group = tuple[Sampling, list[tuple[float, float]] | None, list[str]]


def _group(values: dict[str, Any], bounds: Bounds, alone: Collection[str]) -> list[_Group]:
    groups: list[_Group] = []
    for name, value in values.items():
        rank = rank_of(value)
        sampling = plan_sampling((None, None) if rank is None else tuple(value.shape)) or Sampling(1, 0, 0)
        limits = bounds.get(name) if sampling.units else None
        # Of what is not known beforehand all is looked at, each by itself.
        for known, alike, names in groups if sampling.values and name not in alone else ():
            if known == sampling and (alike is None) == (limits is None) and names[0] not in alone:
                names.append(name)
                if alike is not None and limits is not None:
                    alike.append(limits)
                break
        else:
            groups.append((sampling, None if limits is None else [limits], [name]))
    return groups


def rank_of(value: Any) -> int | None:
    """Return how many dimensions a tensor has; None if that is unknown."""
    shape = value.shape
    return shape.rank if hasattr(shape, "rank") else len(shape)


def _sample(values: list[Any], sampling: Sampling) -> Any:
    """Return what is looked at of layers of one form, a row for each."""
    if not sampling.values:
        return ops.cast(ops.reshape(values[0], [1, -1]), "float32")
    stop = (sampling.values - 1) * sampling.stride + 1
    flat = [ops.reshape(value, [-1, math.prod(value.shape[1:])]) for value in values]
    # A layer may have more rows than there are samples (patches, time steps).
    rows = functools.reduce(_smaller, [ops.shape(value)[0] for value in flat])
    chosen = [ops.cast(value[:rows, : stop : sampling.stride], "float32") for value in flat]
    return ops.reshape(ops.stack(chosen), [len(chosen), -1])


def _smaller(one: Any, other: Any) -> Any:
    return min(one, other) if isinstance(one, int) and isinstance(other, int) else ops.minimum(one, other)


def _compute_finite(table: Any, total: Any, sampling: Sampling, bounds: Array | None) -> Any:
    seen = ops.cast(ops.shape(table)[1], "float32")
    # An empty batch has figures too: 0 values, and 0 for the rest.
    divisor = ops.maximum(seen, 1.0)
    mean = total / divisor
    variance = ops.sum(ops.square(table - mean[:, None]), 1) / divisor
    low, high = _extremes(table, table)
    zeros = ops.cast(ops.equal(table, 0.0), "float32")
    if sampling.units:
        zeros = _by_unit(zeros, sampling)
    share = ops.sum(zeros, 1) / divisor
    figures = ops.stack(
        [ops.ones_like(mean) * seen, mean, ops.sqrt(variance), low, high, share, ops.zeros_like(mean)], 1
    )
    scale = BINS / (high - low)
    # All values in one place: the range is nothing, or more than a float32.
    scale = ops.where(ops.isfinite(scale), scale, 0.0)
    parts = [figures, _count((table - low[:, None]) * scale[:, None], BINS)]
    if sampling.units:
        sums = [_by_unit(table, sampling), zeros]
        if bounds is not None:
            sums.append(_by_unit(_find_saturated(table, bounds), sampling))
        weights = ops.ones_like(zeros) * (divisor / sampling.units)
        parts += _describe_units(sums, weights, sampling)
    return ops.concatenate(parts, 1)


def _compute_any(table: Any, total: Any, sampling: Sampling, bounds: Array | None) -> Any:
    finite = ops.isfinite(table)
    clean = ops.where(finite, table, 0.0)
    seen = ops.cast(ops.shape(table)[1], "float32")
    kept = ops.sum(ops.cast(finite, "float32"), 1)
    divisor = ops.maximum(kept, 1.0)[:, None]
    # Divided first, since a sum may be more than a float32.
    mean = ops.sum(clean / divisor, 1)
    variance = ops.sum(ops.where(finite, ops.square(clean - mean[:, None]) / divisor, 0.0), 1)
    # With no finite value at all these stay at infinity.
    low, high = _extremes(ops.where(finite, table, math.inf), ops.where(finite, table, -math.inf))
    zeros = ops.cast(ops.logical_and(finite, ops.equal(table, 0.0)), "float32")
    share = ops.sum(zeros, 1) / divisor[:, 0]
    figures = ops.stack([ops.zeros_like(mean) + seen, mean, ops.sqrt(variance), low, high, share, seen - kept], 1)
    # Halves, since the range of two float32 may be more than one.
    width = (high / 2 - low / 2) / BINS
    width = ops.where(width > 0, width, 1.0)
    places = ops.clip((clean / 2 - (low / 2)[:, None]) / width[:, None], 0.0, BINS - 1.0)
    # What is left out is counted in a place of its own.
    places = ops.where(ops.logical_and(finite, ops.isfinite(places)), places, float(BINS))
    parts = [figures, _count(places, BINS + 1)[:, :BINS]]
    if sampling.units:
        sums = [_by_unit(clean, sampling), _by_unit(zeros, sampling)]
        if bounds is not None:
            beyond = ops.where(finite, _find_saturated(table, bounds), 0.0)
            sums.append(_by_unit(beyond, sampling))
        weights = ops.maximum(_by_unit(ops.cast(finite, "float32"), sampling), 1.0)
        parts += _describe_units(sums, weights, sampling)
    return ops.concatenate(parts, 1)


def _by_unit(table: Any, sampling: Sampling) -> Any:
    """Return the sums of the values of each unit, as they follow each other."""
    # Not -1, of which an empty batch says nothing.
    return ops.sum(ops.reshape(table, [table.shape[0], ops.shape(table)[1] // sampling.units, sampling.units]), 1)


def _find_saturated(table: Any, bounds: Array) -> Any:
    beyond = ops.logical_or(ops.less_equal(table, bounds[:, :1]), ops.greater_equal(table, bounds[:, 1:]))
    return ops.cast(beyond, "float32")


def _describe_units(sums: list[Any], weights: Any, sampling: Sampling) -> list[Any]:
    """Return the number of units, and of each sum the means by unit."""
    return [ops.zeros_like(weights[:, :1]) + sampling.units, *(_in_order(each / weights, sampling) for each in sums)]


def _extremes(lows: Any, highs: Any) -> tuple[Any, Any]:
    # The initial value is what TensorFlow returns for an empty batch anyway;
    # the others refuse one without.
    return ops.min(lows, 1, initial=math.inf), ops.max(highs, 1, initial=-math.inf)


def _count(places: Any, size: int) -> Any:
    """Count the places of each row, shape (layers, size)."""
    layers = places.shape[0]
    # What overflowed is no place at all, and a negative one would stop the
    # training.
    places = ops.clip(ops.cast(places, "int32"), 0, size - 1)
    # Not "+", of which PyTorch and NumPy warn.
    places = ops.reshape(ops.add(places, np.arange(layers, dtype=np.int32)[:, None] * size), [-1])
    if keras_names.is_deterministic():
        # Some devices then refuse to count, in the middle of training.
        counts = ops.sum(ops.one_hot(places, layers * size), 0)
    else:
        counts = arrays.count(places, layers * size)
    return ops.reshape(counts, [layers, size])


def _in_order(means: Any, sampling: Sampling) -> Any:
    # The i-th value of a round belongs to channel i * stride modulo channels.
    order = np.argsort(np.arange(sampling.units) * sampling.stride % sampling.units)
    return ops.take(means, order.astype(np.int32), axis=1)


def decode_summary(vector: Array) -> LayerSummary:
    """Read the numbers that `summarise` computed."""
    rest = vector[FIGURES + BINS :]
    # Means, shares of zeros, and shares of saturated values where there may be some.
    rows: list[Array] = list(rest[1:].reshape(-1, int(rest[0])).copy()) if len(rest) else []
    return LayerSummary(
        **decode_figures(vector),
        histogram=vector[FIGURES : FIGURES + BINS].copy(),
        unit_means=rows[0] if len(rows) else None,
        unit_zeros=rows[1] if len(rows) else None,
        unit_saturated=rows[2] if len(rows) > 2 else None,
    )


def decode_figures(vector: Array) -> dict[str, float]:
    """Read the figures that a row of `tabulate` begins with, by name."""
    figures: dict[str, float] = dict(zip(metadata.LAYER_FIGURES, vector[:FIGURES].tolist(), strict=True))
    if figures["nonfinite"] >= figures["count"]:
        figures |= dict.fromkeys(("mean", "std", "min", "max", "zero_fraction"), math.nan)
    return figures
