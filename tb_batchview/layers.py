"""The summaries of a layer over the batches of a phase.

Handed out by `run`, used by `layer_answers` and the user. What is known of
single units is here; the rest is as of any `summaries`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from tb_batchview import metadata, rollups
from tb_batchview.places import Place, Reader
from tb_batchview.records import LayerSummary, check_count
from tb_batchview.rollups import Units
from tb_batchview.summaries import SummaryLog, block_for
from tb_batchview.views import PhaseView, RunView

Array = npt.NDArray[Any]

# What is recorded of each unit, by the name it has in answers.
UNIT_FIGURES = {"mean": "unit_means", "zero_fraction": "unit_zeros", "saturated_fraction": "unit_saturated"}


@dataclasses.dataclass(frozen=True)
class UnitWindows:
    """The units of a layer over a range of batches, cut into windows.

    Attributes:
        batches: Summarised batches in the range.
        size: Batches a window, the first and last ones perhaps shorter.
        step: int64, the first batch of each window.
        windows: By figure (see `UNIT_FIGURES`), a row a window; none of what
            was not recorded.
        whole: The same, of all the range: one row.
    """

    batches: int
    size: int
    step: Array
    windows: dict[str, Units]
    whole: dict[str, Units]


class LayerLog(SummaryLog):
    """The summaries of one layer in one phase, by batch."""

    def __init__(self, name: str, view: RunView, columns: PhaseView) -> None:
        """Use `Run.layer` instead."""
        super().__init__(name, view, columns, "layer")

    @property
    def unit_means(self) -> Array:
        """Return the mean of each unit, float32, (batches, units).

        NaN where a batch has another number of units than the last one.
        """
        return self.read_unit_means(0, len(self._layer.rows))

    def _average_units(self, first: int, last: int, block: int) -> Array | None:
        width = self._rollup.width("unit_means", first, last)
        pieces = self._rollup.units("unit_means", first, last, block, width) if width else []
        if not any(piece.rows.weight.any() for piece in pieces):
            return None
        whole = rollups.join_units([piece.rows for piece in pieces]).added(np.zeros(1, np.int64))
        return np.asarray(whole.mean[0])

    def unit_windows(self, start: int | None, stop: int | None, points: int) -> UnitWindows:
        """Cut a range of steps into the windows that `windows` cuts it into.

        Batches with another number of units than the last one are left out.
        """
        first, last = self.range(start, stop)
        size = rollups.window_size(first, last, points)
        widths = {figure: self._rollup.width(kind, first, last) for figure, kind in UNIT_FIGURES.items()}
        width = next((width for width in widths.values() if width), 0)
        windows, step = {}, np.zeros(0, np.int64)
        for figure in (figure for figure in widths if width and widths[figure] == width):
            pieces = self._rollup.units(UNIT_FIGURES[figure], first, last, rollups.block_size(size), width)
            starts = np.concatenate([piece.starts for piece in pieces])
            begins = np.flatnonzero(np.diff(starts // size, prepend=-1))
            windows[figure] = rollups.join_units([piece.rows for piece in pieces]).added(begins)
            step = self.steps_at(starts[begins])
        whole = {figure: rows.added(np.zeros(1, np.int64)) for figure, rows in windows.items()}
        return UnitWindows(last - first, size, step, windows, whole)

    def units(self, number: int) -> int | None:
        """Return how many units a summary tells apart, None without."""
        return self._rollup.width("unit_means", number, number + 1) or None

    def read_unit_means(self, first: int, last: int) -> Array:
        """Read the unit means of some of the batches, (last - first, units)."""
        return self._read_rows("unit_means", first, last, np.nan)

    @property
    def unit_zeros(self) -> Array:
        """Return the share of zeros of each unit, float32, (batches, units).

        NaN where they were not recorded, or of another number of units.
        """
        return self._read_rows("unit_zeros", 0, len(self._layer.rows), np.nan)

    @property
    def unit_saturated(self) -> Array:
        """Return the share of saturated values of each unit, likewise.

        A value is saturated within a hundredth of an end of what the layer's
        activation can return: sigmoid, tanh, softsign, their hard forms, and
        the upper end of a ReLU that has one. Of other layers there are none:
        shape (batches, 0).
        """
        return self._read_rows("unit_saturated", 0, len(self._layer.rows), np.nan)

    @property
    def dead(self) -> Array:
        """Return how many units of each batch were dead, float64.

        A unit is dead in a batch if all its values that were looked at are 0.
        NaN where that was not recorded.
        """
        return _count_full(self.unit_zeros, len(self._layer.rows))

    @property
    def saturated(self) -> Array:
        """Return how many units of each batch were saturated, float64.

        A unit is saturated in a batch if all its values that were looked at
        are. NaN where that was not recorded: the layer has no such end.
        """
        return _count_full(self.unit_saturated, len(self._layer.rows))

    def dead_units(self, last: int = 1, start: int | None = None, stop: int | None = None) -> list[int]:
        """Return the units that were dead in each of the last batches.

        Args:
            last: How many of the summarised batches to look at, from the end.
            start: First step of a range, None: the first recorded one.
            stop: The one to stop before, None: none.

        Raises:
            ArgumentError: `last` is no whole number of at least 1.
        """
        return self._full_units("unit_zeros", last, start, stop)

    def saturated_units(self, last: int = 1, start: int | None = None, stop: int | None = None) -> list[int]:
        """Return the units that were saturated in each of the last batches.

        Args:
            last: How many of the summarised batches to look at, from the end.
            start: First step of a range, None: the first recorded one.
            stop: The one to stop before, None: none.

        Raises:
            ArgumentError: `last` is no whole number of at least 1.
        """
        return self._full_units("unit_saturated", last, start, stop)

    def _full_units(self, kind: str, last: int, start: int | None, stop: int | None) -> list[int]:
        last = check_count("last", last)
        begin, end = self.range(start, stop)
        begin = max(begin, end - last)
        width = self._rollup.width(kind, begin, end)
        if not width:
            return []
        pieces = self._rollup.units(kind, begin, end, block_for(end - begin), width)
        times = sum((piece.rows.full.sum(axis=0) for piece in pieces), np.zeros(width, np.int64))
        units: list[int] = np.flatnonzero(times == end - begin).tolist()
        return units


def read_summary(place: Place, layer: str, reader: Reader) -> LayerSummary:
    """Read the summary of a layer in one batch."""
    slots = place.layout.layers
    figures = reader(place, slots[layer, "layer_summary"]).tolist()
    named: dict[str, float] = dict(zip(metadata.LAYER_FIGURES, figures, strict=True))

    def read(kind: str) -> Array | None:
        slot = slots.get((layer, f"layer_{kind}"))
        return None if slot is None else reader(place, slot)

    histogram = read("histogram")
    return LayerSummary(
        **named,
        histogram=np.zeros(0, np.float32) if histogram is None else histogram,
        unit_means=read("unit_means"),
        unit_zeros=read("unit_zeros"),
        unit_saturated=read("unit_saturated"),
    )


def _count_full(shares: Array, batches: int) -> Array:
    """Count the shares of 1 in each row; NaN where nothing is known."""
    if not shares.shape[1]:
        return np.full(batches, np.nan)
    return np.where(np.isnan(shares).all(axis=1), np.nan, np.count_nonzero(shares == 1, axis=1))
