"""What the routes answer of scores: reliability, thresholds, residuals, labels.

Called by `plugin`. Calls `answers` for what is asked about and `run` for what is
counted and read.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tb_batchview import calibration
from tb_batchview.answers import Answer, Chosen, narrow, narrow_counts, number_or_none
from tb_batchview.errors import ArgumentError
from tb_batchview.http import missing, pack_arrays

Array = npt.NDArray[Any]

DRAWN_BATCHES = 500  # read for the residuals of a range, at most


def reliability(chosen: Chosen) -> Answer:
    """Return the reliability diagram of the range."""
    found = chosen.run.calibration(chosen.phase.name, chosen.start, chosen.stop, chosen.output)
    columns = (found.edges[:-1], found.edges[1:], found.count, found.confidence, found.accuracy)
    return {
        "batches": chosen.last - chosen.first,
        "samples": int(found.count.sum()),
        "error": number_or_none(found.error),
        "greatest_error": number_or_none(found.greatest_error),
        "bins": [
            {
                "low": low,
                "high": high,
                "count": count,
                "confidence": number_or_none(confidence),
                "accuracy": number_or_none(accuracy),
            }
            for low, high, count, confidence, accuracy in zip(*(column.tolist() for column in columns), strict=True)
        ],
    }


def thresholds(chosen: Chosen) -> bytes:
    """Return what a binary output predicts at each threshold."""
    curve = chosen.run.threshold_curve(chosen.phase.name, chosen.start, chosen.stop, chosen.output)
    header = {
        "batches": chosen.last - chosen.first,
        "positives": curve.positives,
        "negatives": curve.negatives,
        "steps": calibration.FINE,
        "roc_auc": number_or_none(curve.roc_auc),
        "average_precision": number_or_none(curve.average_precision),
    }
    arrays = {
        "threshold": curve.thresholds,
        "true_positives": curve.true_positives.astype(np.uint32),
        "false_positives": curve.false_positives.astype(np.uint32),
    }
    return pack_arrays(header, narrow(arrays))


def residuals(chosen: Chosen, points: int, value: int) -> bytes:
    """Return targets and predictions of samples drawn evenly from the range."""
    if chosen.spec.task != "regression":
        raise ArgumentError(f"Residuals need a regression. Received: task {chosen.spec.task!r}.")
    drawn = chosen.run.draw_values(chosen.phase.name, chosen.start, chosen.stop, chosen.output, DRAWN_BATCHES, points)
    values = drawn.targets.shape[1]
    if value >= max(values, 1):
        raise missing(f"value must be below {values}. Received: value={value}.")
    # Without a sample there is no value either.
    target, predicted = (array[:, value : value + 1].ravel() for array in (drawn.targets, drawn.predictions))
    header = {
        "batches": chosen.last - chosen.first,
        "samples": len(chosen.samples(chosen.first, chosen.last)),
        "drawn": len(target),
        "values": values,
    }
    arrays: dict[str, Array] = {
        "step": drawn.steps.astype(np.float64),
        "sample": drawn.samples.astype(np.int32),
        "target": target,
        "predicted": predicted,
    }
    return pack_arrays(header, narrow(arrays))


def label_errors(chosen: Chosen, limit: int) -> bytes:
    """Return how often two labels are wrong of the same sample."""
    counts = chosen.run.label_errors(chosen.phase.name, chosen.start, chosen.stop, chosen.output)
    order = np.argsort(-counts.diagonal(), kind="stable")[:limit]
    shown = np.sort(order).astype(np.int32)
    header = {
        "batches": chosen.last - chosen.first,
        "samples": len(chosen.samples(chosen.first, chosen.last)),
        "classes": len(counts),
        "shown": len(shown),
    }
    return pack_arrays(header, {"labels": shown, "counts": narrow_counts(counts[np.ix_(shown, shown)])})
