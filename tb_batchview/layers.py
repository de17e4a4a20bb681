"""The summaries of a layer over the batches of a phase.

Handed out by `log`, used by `answers` and the user. Calls `analysis` to merge
batches; histograms and unit means are read from the files when they are asked
for, the other figures are columns of `store`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from tb_batchview import analysis, metadata
from tb_batchview.places import Place, Reader
from tb_batchview.records import LayerSummary
from tb_batchview.views import PhaseView, RunView

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class LayerAverage:
    """A layer over a range of batches, all their values together.

    Attributes:
        batches: Summarised batches in the range.
        mean, std, min, max, zero_fraction: NaN when there are none.
        unit_means: float64, shape (units,): means of each unit, None if not
            recorded.
        histogram: float64, shape (bins,): counts in bins between `edges`.
        edges: float64, shape (bins + 1,).
    """

    batches: int
    mean: float
    std: float
    min: float
    max: float
    zero_fraction: float
    unit_means: Array | None
    histogram: Array
    edges: Array


class LayerLog:
    """The summaries of one layer in one phase, by batch."""

    def __init__(self, name: str, view: RunView, columns: PhaseView, reader: Reader) -> None:
        """Use `Run.layer` instead."""
        self.name = name
        self._view = view
        self._columns = columns
        self._layer = columns.layers[name]
        self._reader = reader

    @property
    def steps(self) -> Array:
        """Return the steps of the summarised batches, int64."""
        return np.asarray(self._columns.step[self._layer.rows])

    @property
    def mean(self) -> Array:
        """Return the mean of the values of each batch, float32."""
        return self._figure("mean")

    @property
    def std(self) -> Array:
        """Return the standard deviation of each batch, float32."""
        return self._figure("std")

    @property
    def min(self) -> Array:
        """Return the least value of each batch, float32."""
        return self._figure("min")

    @property
    def max(self) -> Array:
        """Return the greatest value of each batch, float32."""
        return self._figure("max")

    @property
    def zero_fraction(self) -> Array:
        """Return the share of zeros of each batch, float32."""
        return self._figure("zero_fraction")

    @property
    def nonfinite(self) -> Array:
        """Return how many values of each batch were NaN or infinite."""
        return self._figure("nonfinite")

    @property
    def histograms(self) -> Array:
        """Return the counts of each batch, float32, shape (batches, bins).

        The bins of batch i lie between `edges[i]`.
        """
        return self.read_histograms(0, len(self._layer.rows))

    @property
    def edges(self) -> Array:
        """Return the edges of the bins, float64, (batches, bins + 1)."""
        bins = self.histograms.shape[1]
        share = np.linspace(0.0, 1.0, bins + 1)
        low, high = self.min.astype(np.float64)[:, None], self.max.astype(np.float64)[:, None]
        return low + (high - low) * share

    @property
    def unit_means(self) -> Array:
        """Return the mean of each unit, float32, (batches, units).

        NaN where a batch has another number of units than the last one.
        """
        return self.read_unit_means(0, len(self._layer.rows))

    def average(self, start: int | None = None, stop: int | None = None) -> LayerAverage:
        """Merge the batches of a range of steps into one."""
        first, last = self.range(start, stop)
        figures = self._layer.figures[first:last]
        merged = self.merge(first, last, max(1, last - first))
        units = self.read_unit_means(first, last)
        known = units[~np.isnan(units).all(axis=1)] if units.size else units
        counts = self.read_histograms(first, last)
        low, high = figures[:, 3].astype(np.float64), figures[:, 4].astype(np.float64)
        edges = analysis.common_edges(low, high, counts.shape[1] or 1)
        return LayerAverage(
            batches=last - first,
            mean=_only(merged.mean),
            std=_only(merged.std),
            min=_only(merged.min),
            max=_only(merged.max),
            zero_fraction=_only(merged.zero_fraction),
            unit_means=known.mean(axis=0, dtype=np.float64) if known.size else None,
            histogram=analysis.rebin(low, high, counts, edges).sum(axis=0) if counts.size else np.zeros(len(edges) - 1),
            edges=edges,
        )

    def merge(self, first: int, last: int, size: int) -> analysis.Moments:
        """Merge every `size` consecutive batches into one."""
        return analysis.merge_moments(self._layer.figures[first:last], size)

    def range(self, start: int | None, stop: int | None) -> tuple[int, int]:
        """Return the places of the summaries in a range of steps."""
        steps = self.steps
        first = 0 if start is None else int(np.searchsorted(steps, start))
        last = len(steps) if stop is None else int(np.searchsorted(steps, stop))
        return first, max(first, last)

    def read_histograms(self, first: int, last: int) -> Array:
        """Read the histograms of some of the batches, (last - first, bins)."""
        return self._read_rows("layer_histogram", first, last, 0.0)

    def read_unit_means(self, first: int, last: int) -> Array:
        """Read the unit means of some of the batches, (last - first, units)."""
        return self._read_rows("layer_unit_means", first, last, np.nan)

    def _read_rows(self, kind: str, first: int, last: int, fill: float) -> Array:
        rows: list[Array | None] = []
        for row in self._layer.rows[first:last]:
            place = self._view.place(self._columns, int(row))
            slot = place.layout.layers.get((self.name, kind))
            rows.append(None if slot is None else self._reader(place, slot))
        width = next((len(row) for row in reversed(rows) if row is not None), 0)
        matrix = np.full((last - first, width), fill, np.float32)
        for number, values in enumerate(rows):
            if values is not None and len(values) == width:
                matrix[number] = values
        return matrix

    def _figure(self, name: str) -> Array:
        return self._layer.figures[:, metadata.LAYER_FIGURES.index(name)]

    def __repr__(self) -> str:
        return f"LayerLog({self.name!r}, {len(self._layer.rows)} batches)"


def read_summary(place: Place, layer: str, reader: Reader) -> LayerSummary:
    """Read the summary of a layer in one batch."""
    slots = place.layout.layers
    figures = reader(place, slots[layer, "layer_summary"]).tolist()
    named: dict[str, float] = dict(zip(metadata.LAYER_FIGURES, figures, strict=True))
    histogram = slots.get((layer, "layer_histogram"))
    units = slots.get((layer, "layer_unit_means"))
    return LayerSummary(
        **named,
        histogram=np.zeros(0, np.float32) if histogram is None else reader(place, histogram),
        unit_means=None if units is None else reader(place, units),
    )


def _only(values: Array) -> float:
    """Return the one value of an array, NaN if it has none."""
    return float(values[0]) if len(values) else math.nan
