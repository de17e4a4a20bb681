"""The gradients of a layer's weights over the batches of a phase.

Handed out by `log`. Histograms are read from the files when they are asked
for, the figures are columns of `store`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tb_batchview import metadata
from tb_batchview.places import Place, Reader
from tb_batchview.records import GradientSummary
from tb_batchview.views import PhaseView, RunView

Array = npt.NDArray[Any]


class GradientLog:
    """The gradient of one layer's weights, by summarised batch.

    It is that of the loss, as the optimizer was given it: without a loss
    scale, before clipping and before several batches are accumulated. `norm`
    is of all values; the other figures are of as many as `count` says.
    """

    def __init__(self, name: str, view: RunView, columns: PhaseView, reader: Reader) -> None:
        """Use `Run.gradients` instead."""
        self.name = name
        self._view = view
        self._columns = columns
        self._gradient = columns.gradients[name]
        self._reader = reader

    def __len__(self) -> int:
        return len(self._gradient.rows)

    @property
    def steps(self) -> Array:
        """Return the steps of the summarised batches, int64."""
        return np.asarray(self._columns.step[self._gradient.rows])

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

    @property
    def mean(self) -> Array:
        """Return the mean of each batch, float32."""
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
        """Return how many values were NaN or infinite, float32."""
        return self._figure("nonfinite")

    @property
    def histograms(self) -> Array:
        """Return the counts of each batch, float32, shape (batches, bins).

        The bins of batch i lie between `edges[i]`.
        """
        return self.read_histograms(0, len(self))

    @property
    def edges(self) -> Array:
        """Return the edges of the bins, float64, (batches, bins + 1)."""
        share = np.linspace(0.0, 1.0, self.histograms.shape[1] + 1)
        low, high = self.min.astype(np.float64)[:, None], self.max.astype(np.float64)[:, None]
        return low + (high - low) * share

    def range(self, start: int | None, stop: int | None) -> tuple[int, int]:
        """Return the places of the summaries in a range of steps."""
        first, last = np.searchsorted(self._gradient.rows, self._columns.rows(start, stop)).tolist()
        return first, last

    def read_histograms(self, first: int, last: int) -> Array:
        """Read the histograms of some of the batches, (last - first, bins)."""
        rows: list[Array] = []
        for row in self._gradient.rows[first:last]:
            place = self._view.place(self._columns, int(row))
            rows.append(read_gradient(place, self.name, self._reader).histogram)
        width = len(rows[-1]) if rows else 0
        matrix = np.zeros((len(rows), width), np.float32)
        for number, counts in enumerate(rows):
            if len(counts) == width:
                matrix[number] = counts
        return matrix

    def _figure(self, name: str) -> Array:
        return self._gradient.figures[:, metadata.GRADIENT_FIGURES.index(name)]

    def __repr__(self) -> str:
        return f"GradientLog({self.name!r}, {len(self)} batches)"


def read_gradient(place: Place, layer: str, reader: Reader) -> GradientSummary:
    """Read the summary of a layer's gradient in one batch."""
    slots = place.layout.layers
    figures = reader(place, slots[layer, "gradient_summary"]).tolist()
    named: dict[str, float] = dict(zip(metadata.GRADIENT_FIGURES, figures, strict=True))
    histogram = slots.get((layer, "gradient_histogram"))
    return GradientSummary(
        **named, histogram=np.zeros(0, np.float32) if histogram is None else reader(place, histogram)
    )
