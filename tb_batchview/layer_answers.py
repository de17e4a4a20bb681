"""What the routes answer of layers: their figures, histograms, units, gradients.

Called by `plugin`. Calls `layers` and `gradients` for what is recorded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tb_batchview import gradients
from tb_batchview.answers import Answer, narrow, number_or_none
from tb_batchview.http import pack_arrays
from tb_batchview.layers import UNIT_FIGURES, LayerLog, UnitWindows
from tb_batchview.summaries import LayerWindows, SummaryLog
from tb_batchview.views import PhaseView

Array = npt.NDArray[Any]

LAYER_AXES = ("all", "usual")
HISTOGRAM_BINS = 60
MAX_UNITS = 1_000  # of a matrix and of a list
MAX_LAYERS = 1_000  # whose gradients are drawn …
NORM_CELLS = 50_000  # … in so many cells of layer and window, at most
AVERAGES = ("mean", "std", "min", "max", "zero_fraction", "nonfinite")


def describe_layer(layer: LayerLog, start: int | None, stop: int | None) -> Answer | None:
    """Return what `layers` says of a layer; None without batch in range."""
    first, last = layer.range(start, stop)
    if first == last:
        return None
    figures = {
        figure: number_or_none(getattr(layer, figure)[last - 1])
        for figure in ("mean", "std", "min", "max", "zero_fraction")
    }
    return {
        "name": layer.name,
        "batches": last - first,
        "first_step": int(layer.steps_at(first)),
        "last_step": int(layer.steps_at(last - 1)),
        "units": layer.units(last - 1),
        **figures,
    }


def histogram_axis(
    log: SummaryLog, start: int | None, stop: int | None, points: int, axis: str
) -> tuple[float, float] | None:
    """Return the ends of the axis of histograms, None without one."""
    windows = log.windows(start, stop, points, HISTOGRAM_BINS, usual=axis == "usual")
    return (float(windows.edges[0]), float(windows.edges[-1])) if windows.batches else None


def layer_windows(
    layer: LayerLog,
    start: int | None,
    stop: int | None,
    points: int,
    axis: str,
    cover: tuple[float, float] | None = None,
) -> bytes:
    """Return figures and histograms of a layer, a row a window."""
    windows = layer.windows(start, stop, points, HISTOGRAM_BINS, usual=axis == "usual", cover=cover)
    units = layer.units(layer.range(start, stop)[1] - 1) if windows.batches else None
    return _pack_windows(layer, windows, {"units": units})


def gradient_windows(
    gradient: SummaryLog,
    start: int | None,
    stop: int | None,
    points: int,
    axis: str,
    cover: tuple[float, float] | None = None,
) -> bytes:
    """Return the same of the gradient of a layer's weights."""
    windows = gradient.windows(start, stop, points, HISTOGRAM_BINS, usual=axis == "usual", cover=cover)
    return _pack_windows(gradient, windows, {})


def _pack_windows(log: SummaryLog, windows: LayerWindows, more: Answer) -> bytes:
    whole = {name: getattr(windows.whole, name) for name in AVERAGES}
    header = {
        "layer": log.name,
        "batches": windows.batches,
        "window": windows.size,
        **more,
        "average": {name: number_or_none(values[0]) if len(values) else None for name, values in whole.items()},
        "low": float(windows.edges[0]),
        "high": float(windows.edges[-1]),
        "least": number_or_none(windows.least),
        "greatest": number_or_none(windows.greatest),
        "bins": HISTOGRAM_BINS,
    }
    arrays = {
        "step": windows.step.astype(np.float64),
        "mean": windows.moments.mean,
        "std": windows.moments.std,
        "min": windows.moments.min,
        "max": windows.moments.max,
        "zero_fraction": windows.moments.zero_fraction,
        "histogram": windows.histogram,
        "below": windows.below,
        "above": windows.above,
    }
    return pack_arrays(header, narrow(arrays))


def unit_windows(layer: LayerLog, start: int | None, stop: int | None, points: int, limit: int, figure: str) -> bytes:
    """Return a figure of each unit, a row a window, a column a unit."""
    found = layer.unit_windows(start, stop, points)
    units = next((rows.sum.shape[1] for rows in found.whole.values()), 0)
    shown = choose_units(found, units, limit)
    header = {
        "layer": layer.name,
        "batches": found.batches,
        "window": found.size,
        "units": units,
        "shown": len(shown),
        "figure": figure,
        "figures": list(found.windows),
    }
    empty = np.full((len(found.step), units), np.nan)
    values = found.windows[figure].mean if figure in found.windows else empty
    arrays = {
        "step": found.step.astype(np.float64),
        "dead_units": _units_at_once(found, "zero_fraction"),
        "saturated_units": _units_at_once(found, "saturated_fraction"),
        "unit": shown.astype(np.int32),
        **{name: _whole_figure(found, name, units)[shown] for name in UNIT_FIGURES},
        "dead_batches": _full_batches(found, "zero_fraction", units)[shown],
        "saturated_batches": _full_batches(found, "saturated_fraction", units)[shown],
        "values": values[:, shown],
    }
    return pack_arrays(header, narrow(arrays))


def choose_units(found: UnitWindows, units: int, limit: int) -> Array:
    """Return the units to show, ascending: all, or those worth a look.

    Up to half of them are those most often dead or saturated, the other ones
    are drawn evenly from the rest.
    """
    if units <= limit:
        return np.arange(units)
    times = _full_batches(found, "zero_fraction", units) + _full_batches(found, "saturated_fraction", units)
    order = np.argsort(-times, kind="stable")
    odd = order[: limit // 2][times[order[: limit // 2]] > 0]
    rest = np.setdiff1d(np.arange(units), odd)
    drawn = rest[np.linspace(0, len(rest) - 1, limit - len(odd)).round().astype(np.int64)]
    return np.sort(np.concatenate([odd, drawn]))


def _whole_figure(found: UnitWindows, figure: str, units: int) -> Array:
    return found.whole[figure].mean[0] if figure in found.whole else np.full(units, np.nan)


def _full_batches(found: UnitWindows, figure: str, units: int) -> Array:
    """Return in how many summaries all values of each unit were so."""
    return found.whole[figure].full[0] if figure in found.whole else np.zeros(units, np.int32)


def _units_at_once(found: UnitWindows, figure: str) -> Array:
    """Return how many units were so at once, on average, in each window."""
    if figure not in found.windows:
        return np.full(len(found.step), np.nan)
    rows = found.windows[figure]
    some = rows.known > 0
    return np.divide(rows.full.sum(axis=1), rows.known, out=np.full(len(rows), np.nan), where=some)


def dead_units(layer: LayerLog, start: int | None, stop: int | None, last: int) -> Answer:
    """Return the units that were dead or saturated in all of the last batches."""
    first, end = layer.range(start, stop)
    first = max(first, end - last)
    lists = {
        "dead": layer.dead_units(last, start, stop),
        "saturated": layer.saturated_units(last, start, stop),
    }
    return {
        "layer": layer.name,
        "batches": end - first,
        "first_step": int(layer.steps_at(first)) if first < end else None,
        "last_step": int(layer.steps_at(end - 1)) if first < end else None,
        "units": layer.units(end - 1) if first < end else None,
        **{name: {"total": len(units), "units": units[:MAX_UNITS]} for name, units in lists.items()},
    }


def gradient_norms(phase: PhaseView, start: int | None, stop: int | None, points: int) -> bytes:
    """Return the norm of the gradient of each layer, a row a window."""
    layers = min(len(phase.gradients), MAX_LAYERS)
    points = max(1, min(points, NORM_CELLS // max(1, layers)))
    found = gradients.norm_windows(phase, start, stop, points, layers)
    header = {
        "batches": found.batches,
        "window": found.size,
        "total": len(phase.gradients),
        "layers": [
            {"name": name, "batches": batches, "nonfinite": nonfinite}
            for name, batches, nonfinite in zip(
                found.layers, found.count.sum(axis=0).tolist(), found.nonfinite.sum(axis=0).tolist(), strict=True
            )
        ],
    }
    arrays = {
        "step": found.step.astype(np.float64),
        "mean": found.mean,
        "min": found.min,
        "max": found.max,
        "nonfinite": found.nonfinite.astype(np.uint32),
    }
    return pack_arrays(header, narrow(arrays))
