"""Judge scores: whether confidence can be trusted, and what a threshold does.

Called by `views` to count and by `run` to sum up. Calls `analysis` for what is
right and wrong. Scores are counted in `FINE` equal steps from 0 to 1, so that
counts of batches can be added and taken away; what is made of them is exact
but for the place of a score within its step.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from tb_batchview import analysis

Array = npt.NDArray[Any]

FINE = 1024  # steps from 0 to 1
BINS = 15  # of a reliability diagram, as in Guo et al. (2017)


def count_confidences(target: Array, predicted: Array, confidence: Array) -> Array:
    """Count samples by their confidence and whether they are right.

    Returns:
        int64, shape (2, FINE): wrong and right ones. Samples without a class
        or a confidence are left out.
    """
    wrong, right = analysis.mark_wrong(target, predicted), analysis.mark_correct(target, predicted)
    return np.stack([_count_steps(confidence[mark]) for mark in (wrong, right)])


def count_positives(target: Array, predicted: Array, confidence: Array) -> Array:
    """Count the samples of a binary output by the score of class 1.

    Returns:
        int64, shape (2, FINE): those whose target is 0 and those where it is
        1. Samples without a class or a score are left out.
    """
    known = (predicted >= 0) & (target >= 0)
    # Past the middle is what was predicted to be 1; rounding must not move a sample over it.
    score = np.where(predicted == 1, confidence, np.minimum(1 - confidence, np.float32(0.5 - 0.5 / FINE)))
    return np.stack([_count_steps(score[known & (target == number)]) for number in (0, 1)])


def _count_steps(scores: Array) -> Array:
    known = scores[~np.isnan(scores)]
    # Of a file, whose numbers need not be probabilities.
    steps = np.minimum(np.clip(known, 0, 1) * np.float32(FINE), FINE - 1).astype(np.int64)
    return np.bincount(steps, minlength=FINE)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How often predictions of some confidence are right.

    Source: C. Guo, G. Pleiss, Y. Sun, K. Weinberger, "On Calibration of Modern
    Neural Networks", ICML 2017. On batches of a training, dropout and
    augmentation make confidence smaller than that of the finished model.

    Attributes:
        edges: float64, shape (bins + 1,): of the confidence.
        count: int64, shape (bins,): samples.
        confidence: float64, same shape: their mean confidence, within half a
            step of `FINE`; NaN where there is none.
        accuracy: float64, same shape: the share of them that is right.
        error: Expected calibration error: the mean distance of accuracy and
            confidence, weighted by samples. NaN without samples.
        greatest_error: The greatest of these distances.
    """

    edges: Array
    count: Array
    confidence: Array
    accuracy: Array
    error: float
    greatest_error: float


def calibrate(counts: Array, bins: int = BINS) -> Calibration:
    """Sum up what `count_confidences` counted in equal bins."""
    edges = np.linspace(0.0, 1.0, bins + 1)
    middle = (np.arange(FINE) + 0.5) / FINE
    place = np.minimum((middle * bins).astype(np.int64), bins - 1)
    wrong, right = (np.bincount(place, count, bins) for count in counts)
    count = wrong + right
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(place, counts.sum(axis=0) * middle, bins) / count
        accuracy = right / count
    distance = np.abs(accuracy - confidence)[count > 0]
    weights = count[count > 0]
    return Calibration(
        edges=edges,
        count=count.astype(np.int64),
        confidence=confidence,
        accuracy=accuracy,
        error=float(np.average(distance, weights=weights)) if len(weights) else np.nan,
        greatest_error=float(distance.max(initial=-np.inf)) if len(weights) else np.nan,
    )


@dataclasses.dataclass(frozen=True)
class ThresholdCurve:
    """What a binary output predicts at each threshold.

    A sample is predicted to be of class 1 if its score is at least the
    threshold.

    Attributes:
        thresholds: float64, shape (FINE + 1,), ascending from 0 to 1.
        true_positives: int64, same shape: samples of class 1 that are found.
        false_positives: int64, same shape: samples of class 0 taken for it.
        positives: Samples of class 1.
        negatives: Samples of class 0.
    """

    thresholds: Array
    true_positives: Array
    false_positives: Array
    positives: int
    negatives: int

    @property
    def recall(self) -> Array:
        """Return the share of class 1 that is found, NaN without any."""
        return analysis.divide(self.true_positives, np.asarray(self.positives))

    @property
    def precision(self) -> Array:
        """Return the share of those found that is of class 1."""
        return analysis.divide(self.true_positives, self.true_positives + self.false_positives)

    @property
    def false_positive_rate(self) -> Array:
        """Return the share of class 0 that is taken for class 1."""
        return analysis.divide(self.false_positives, np.asarray(self.negatives))

    @property
    def roc_auc(self) -> float:
        """Return the area under recall over false positive rate.

        Samples within one step of `FINE` count as tied.
        """
        recall, rate = self.recall[::-1], self.false_positive_rate[::-1]
        return float(np.sum((recall[1:] + recall[:-1]) * np.diff(rate)) / 2)

    @property
    def average_precision(self) -> float:
        """Return the mean precision, weighted by the growth of recall.

        As scikit-learn's `average_precision_score`; NaN without class 1.
        """
        if not self.positives:
            return float("nan")
        steps = np.diff(self.recall[::-1], prepend=0.0)
        return float(np.sum(steps * np.nan_to_num(self.precision[::-1])))


def trace_thresholds(counts: Array) -> ThresholdCurve:
    """Return the curve of what `count_positives` counted."""
    false, true = (np.append(np.cumsum(count[::-1])[::-1], 0) for count in counts)
    return ThresholdCurve(np.linspace(0.0, 1.0, FINE + 1), true, false, int(true[0]), int(false[0]))
