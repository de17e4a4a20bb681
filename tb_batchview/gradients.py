"""The gradients of a layer's weights over the batches of a phase.

Handed out by `run`, used by `layer_answers` and the user. What is not of
gradients alone is as of any `summaries`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from tb_batchview import metadata, rollups
from tb_batchview.places import Place, Reader
from tb_batchview.records import GradientSummary
from tb_batchview.summaries import SummaryLog
from tb_batchview.views import PhaseView, RunView

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class NormWindows:
    """The norms of all gradients over a range of batches, cut into windows.

    Attributes:
        batches: Batches in the range with the gradient of any layer.
        size: Of these a window, the first and last ones perhaps fewer.
        step: int64, the first batch of each window.
        layers: Names, of those with a gradient in the range.
        mean, min, max: float64, shape (windows, layers): of the finite norms;
            NaN without.
        count: int64, same shape: summaries.
        nonfinite: int64, same shape: summaries whose norm is not finite.
    """

    batches: int
    size: int
    step: Array
    layers: tuple[str, ...]
    mean: Array
    min: Array
    max: Array
    count: Array
    nonfinite: Array


class GradientLog(SummaryLog):
    """The gradient of one layer's weights, by summarised batch.

    It is that of the loss, as the optimizer was given it: without a loss
    scale, before clipping and before several batches are accumulated. `norm`
    is of all values; the other figures are of as many as `count` says.
    """

    def __init__(self, name: str, view: RunView, columns: PhaseView) -> None:
        """Use `Run.gradients` instead."""
        super().__init__(name, view, columns, "gradient")

    @property
    def norm(self) -> Array:
        """Return the L2 norm over all weights of the layer, float32.

        NaN or infinite where a value of the gradient is.
        """
        return self._figure("norm")

    @property
    def count(self) -> Array:
        """Return how many values the other figures are of, float32."""
        return self._figure("count")

    def _figure(self, name: str) -> Array:
        return self._layer.figures[:, metadata.GRADIENT_FIGURES.index(name)]


def read_gradient(place: Place, layer: str, reader: Reader) -> GradientSummary:
    """Read the summary of a layer's gradient in one batch."""
    slots = place.layout.layers
    figures = reader(place, slots[layer, "gradient_summary"]).tolist()
    named: dict[str, float] = dict(zip(metadata.GRADIENT_FIGURES, figures, strict=True))
    histogram = slots.get((layer, "gradient_histogram"))
    return GradientSummary(
        **named, histogram=np.zeros(0, np.float32) if histogram is None else reader(place, histogram)
    )


def norm_windows(columns: PhaseView, start: int | None, stop: int | None, points: int, layers: int) -> NormWindows:
    """Cut the norms of all layers over a range of steps into windows.

    Args:
        columns: The phase.
        start: First step, None: the first recorded one.
        stop: The one to stop before, None: none.
        points: Windows, at most; they begin at multiples of their size,
            counted in batches that have a gradient.
        layers: How many layers, at most: the first ones.
    """
    names = list(columns.gradients)[:layers]
    known = _any_of([columns.gradients[name].rows for name in names])
    first, last = np.searchsorted(known, columns.rows(start, stop)).tolist()
    size = rollups.window_size(first, last, points)
    base = first // size
    windows = 0 if first == last else (last - 1) // size - base + 1
    shape = (windows, len(names))
    mean, least, greatest = (np.full(shape, np.nan) for _ in range(3))
    count, nonfinite = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    place = metadata.GRADIENT_FIGURES.index("norm")
    for number, name in enumerate(names):
        gradient = columns.gradients[name]
        rows = gradient.rows
        numbers = np.arange(len(rows)) if len(rows) == len(known) else np.searchsorted(known, rows)
        own = slice(*np.searchsorted(numbers, (first, last)).tolist())
        window = numbers[own] // size - base
        begins = np.flatnonzero(np.diff(window, prepend=-1))
        if not len(begins):
            continue
        norms, which = gradient.figures[own, place].astype(np.float64), window[begins]
        finite = np.isfinite(norms)
        some = np.add.reduceat(finite, begins, dtype=np.int64)
        count[which, number] = np.diff(np.append(begins, len(norms)))
        nonfinite[which, number] = count[which, number] - some
        with np.errstate(invalid="ignore", divide="ignore"):
            mean[which, number] = np.add.reduceat(np.where(finite, norms, 0.0), begins) / some
        least[which, number] = np.where(some, np.minimum.reduceat(np.where(finite, norms, np.inf), begins), np.nan)
        greatest[which, number] = np.where(some, np.maximum.reduceat(np.where(finite, norms, -np.inf), begins), np.nan)
    there: Array = np.asarray(count.any(axis=0))
    starts = np.maximum(first, (base + np.arange(windows)) * size)
    return NormWindows(
        last - first,
        size,
        np.asarray(columns.step[known[starts]]),
        tuple(name for name, has in zip(names, there, strict=True) if has),
        *(table[:, there] for table in (mean, least, greatest, count, nonfinite)),
    )


def _any_of(rows: list[Array]) -> Array:
    """Return the rows that any of the lists has, most often all alike."""
    if not rows:
        return np.zeros(0, np.int64)
    longest = max(rows, key=len)
    if all(len(one) == len(longest) and np.array_equal(one, longest) for one in rows):
        return longest
    return np.unique(np.concatenate(rows))
