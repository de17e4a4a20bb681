"""Summaries of values over the batches of a phase: of a layer, of its gradient.

The base of what `layers` and `gradients` hand out. Calls `rollups` for what is
in the files and `analysis` to merge; the figures are columns of `store`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from tb_batchview import analysis, histograms, metadata, rollups
from tb_batchview.records import Opened
from tb_batchview.views import PhaseView, RunView

Array = npt.NDArray[Any]

# Averages of so many batches are made of each by itself, larger ones of at least so many blocks.
_SINGLE = 512
_BLOCKS = 64


@dataclasses.dataclass(frozen=True)
class LayerAverage:
    """A layer over a range of batches, all their values together.

    Attributes:
        batches: Summarised batches in the range.
        mean, std, min, max, zero_fraction: NaN when there are none.
        unit_means: float64, shape (units,): means of each unit, weighted by
            the values of each batch; NaN where a unit had none that is
            finite, None if not recorded.
        histogram: float64, shape (bins,): counts in bins between `edges`.
            Their sum is exact; each count is an estimate, as values are taken
            to lie evenly within a bin of a batch, or of a block of batches.
        edges: float64, shape (bins + 1,), from `min` to `max`.
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


@dataclasses.dataclass(frozen=True)
class LayerWindows:
    """A layer over a range of batches, cut into windows.

    Attributes:
        batches: Summarised batches in the range.
        size: Batches a window, the first and last ones perhaps shorter.
        step: int64, the first batch of each window.
        moments: The figures of each window.
        whole: Those of all of them together.
        edges: float64, shape (bins + 1,): the axis of the histograms.
        least, greatest: The ends of the whole axis; NaN without values.
        histogram: float64, shape (windows, bins): shares of all values of the
            window.
        below, above: float64, shape (windows,): shares beyond the axis.
    """

    batches: int
    size: int
    step: Array
    moments: analysis.Moments
    whole: analysis.Moments
    edges: Array
    least: float
    greatest: float
    histogram: Array
    below: Array
    above: Array


class SummaryLog(Opened):
    """The summaries of a layer's values, or of its gradient, by batch."""

    def __init__(self, name: str, view: RunView, columns: PhaseView, of: str) -> None:
        """Prepare; see `rollups.Rollup`."""
        self.name = name
        self._columns = columns
        self._rollup = rollups.Rollup(name, view, columns, of)
        self._layer = self._rollup.layer

    def __len__(self) -> int:
        return len(self._layer.rows)

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
        """Return the edges of the bins, float64, (batches, bins + 1).

        NaN where values were beyond what float32 holds, or all not finite.
        """
        bins = self.histograms.shape[1]
        share = np.linspace(0.0, 1.0, bins + 1)
        low, high = self.min.astype(np.float64)[:, None], self.max.astype(np.float64)[:, None]
        known = np.isfinite(low) & np.isfinite(high)
        low, high = np.where(known, low, np.nan), np.where(known, high, np.nan)
        return low + (high - low) * share

    def average(self, start: int | None = None, stop: int | None = None) -> LayerAverage:
        """Merge the batches of a range of steps into one."""
        first, last = self.range(start, stop)
        block = block_for(last - first)
        pieces = self._rollup.values(first, last, block)
        parts = [piece.rows.histograms for piece in pieces]
        figures = np.concatenate([piece.rows.figures for piece in pieces]) if pieces else np.zeros((0, 7))
        merged = analysis.merge_moments(figures, max(1, len(figures)))
        bins = self._rollup.width("histogram", first, last) or 1
        edges = _edges(histograms.whole_range(parts), merged, bins)
        counts = [part.between(edges).sum(axis=0) for part in parts]
        return LayerAverage(
            batches=last - first,
            mean=_only(merged.mean),
            std=_only(merged.std),
            min=_only(merged.min),
            max=_only(merged.max),
            zero_fraction=_only(merged.zero_fraction),
            unit_means=self._average_units(first, last, block),
            histogram=np.sum(counts, axis=0) if counts else np.zeros(bins),
            edges=edges,
        )

    def windows(
        self,
        start: int | None,
        stop: int | None,
        points: int,
        bins: int,
        *,
        usual: bool = False,
        cover: tuple[float, float] | None = None,
    ) -> LayerWindows:
        """Cut a range of steps into windows.

        Args:
            start: First step, None: the first recorded one.
            stop: The one to stop before, None: none.
            points: Windows, at most. They begin at multiples of their size,
                counted in summaries, whatever the range.
            bins: Of the histograms.
            usual: Let the axis leave out what is far from nearly all values
                (see `histograms.usual_range`).
            cover: What the axis reaches over in any case: that of another run
                which is shown beside it.
        """
        first, last = self.range(start, stop)
        size = rollups.window_size(first, last, points)
        pieces = self._rollup.values(first, last, rollups.block_size(size))
        parts = [piece.rows.histograms for piece in pieces]
        starts = np.concatenate([np.zeros(0, np.int64), *(piece.starts for piece in pieces)])
        begins = np.flatnonzero(np.diff(starts // size, prepend=-1))
        figures = np.concatenate([np.zeros((0, 7)), *(piece.rows.figures for piece in pieces)])
        moments = analysis.merge_moments(figures, begins)
        whole = histograms.whole_range(parts)
        edges = _edges(histograms.usual_range(parts) if usual else whole, moments, bins)
        if cover is not None:
            low, high = (min(edges[0], cover[0]), max(edges[-1], cover[1])) if last > first else cover
            edges = analysis.common_edges(np.array([low]), np.array([high]), bins)
        below = np.concatenate([np.zeros((0, bins + 1)), *(part.below_at(edges) for part in parts)])
        total = np.concatenate([np.zeros(0), *(part.total for part in parts)])
        counts = np.column_stack([below[:, 0], np.maximum(np.diff(below, axis=1), 0.0), total - below[:, -1]])
        shares = analysis.normalise_rows(analysis.sum_windows(counts, begins))
        return LayerWindows(
            batches=last - first,
            size=size,
            step=self.steps_at(starts[begins]),
            moments=moments,
            whole=analysis.merge_moments(figures, max(1, len(figures))),
            edges=edges,
            least=math.nan if whole is None else whole[0],
            greatest=math.nan if whole is None else whole[1],
            histogram=shares[:, 1:-1],
            below=shares[:, 0],
            above=shares[:, -1],
        )

    def range(self, start: int | None, stop: int | None) -> tuple[int, int]:
        """Return the places of the summaries in a range of steps."""
        first, last = np.searchsorted(self._layer.rows, self._columns.rows(start, stop)).tolist()
        return first, last

    def steps_at(self, numbers: Any) -> Array:
        """Return the steps of some of the summaries, int64."""
        return np.asarray(self._columns.step[self._layer.rows[numbers]])

    def read_histograms(self, first: int, last: int) -> Array:
        """Read the histograms of some of the batches, (last - first, bins)."""
        return self._read_rows("histogram", first, last, 0.0)

    def _read_rows(self, kind: str, first: int, last: int, fill: float) -> Array:
        width = self._rollup.width(kind, first, last)
        matrix = np.full((last - first, width), fill, np.float32)
        for rows, values in self._rollup.read(kind, first, last):
            if values.shape[1] == width:
                matrix[rows] = values
        return matrix

    def _average_units(self, first: int, last: int, block: int) -> Array | None:
        return None

    def _figure(self, name: str) -> Array:
        return self._layer.figures[:, metadata.LAYER_FIGURES.index(name)]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {len(self)} batches)"


def block_for(batches: int) -> int:
    """Return the largest block to make an average of."""
    block = rollups.SMALLEST
    while block * rollups.FACTOR * _BLOCKS <= batches:
        block *= rollups.FACTOR
    return 1 if batches <= _SINGLE else block


def _edges(found: tuple[float, float] | None, moments: analysis.Moments, bins: int) -> Array:
    """Return the edges of an axis; that of the figures without histograms."""
    if found is not None:
        return analysis.common_edges(np.array(found[:1]), np.array(found[1:]), bins)
    return analysis.common_edges(moments.min, moments.max, bins)


def _only(values: Array) -> float:
    """Return the one value of an array, NaN if it has none."""
    return float(values[0]) if len(values) else math.nan
