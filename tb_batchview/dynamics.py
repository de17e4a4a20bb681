"""How a model came to know each sample: figures of all times it was seen.

Called by `following` and `answers`, with samples told apart by `identity`. NumPy
only, no files.

Of the predictions of a training these figures are what their papers use: each
time counts as the loss saw it, with dropout and augmentation, and with weights
that move from batch to batch. What asks for predictions of a model that never
saw the sample (confident learning, calibration, accuracy itself) is not valid
on them; take the validation phase for that.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Dynamics:
    """Figures of each sample that has an id, by its code.

    A time counts where the sample had a target and a prediction; one that is
    twice in an epoch counts twice.

    Attributes:
        seen: int64, how many times.
        mean_target_score: float32, mean probability of the target: the
            "confidence" of Swayamdipta et al. 2020, "Dataset Cartography".
        variability: float32, its standard deviation (of the times
            themselves, divided by their number), from the same paper.
        correctness: float32, share of the times it was right.
        forgetting: int64, times it was wrong after it had been right:
            forgetting events of Toneva et al. 2019, "An Empirical Study of
            Example Forgetting".
        margin: float32, mean of the target's probability minus the largest
            other one: the area under the margin of Pleiss et al. 2020,
            "Identifying Mislabeled Data using the Area Under the Margin
            Ranking", who take it of logits. Exact where the sample was wrong
            and of two classes. Else the second largest probability p2 is not
            in the columns, but it is at most 1 - p1 and at most p1: what is
            taken is the least that the margin can be, max(0, 2 p1 - 1).
            Samples that are low, which matter, are low because of the exact
            ones.

    Floats are NaN where a sample was never seen so.
    """

    seen: Array
    mean_target_score: Array
    variability: Array
    correctness: Array
    forgetting: Array
    margin: Array

    @property
    def forgotten(self) -> Array:
        """Mark samples that were wrong after they had been right."""
        return self.forgetting > 0

    @property
    def never_learned(self) -> Array:
        """Mark samples that were seen and never right."""
        return self.correctness == 0


FIGURES = tuple(field.name for field in dataclasses.fields(Dynamics))


def margins(target: Array, predicted: Array, confidence: Array, target_score: Array) -> Array:
    """Return the margin of each sample: see `Dynamics.margin`."""
    right = np.maximum(0, 2 * confidence.astype(np.float64) - 1)
    return np.where(target == predicted, right, target_score.astype(np.float64) - confidence)


def follow_samples(
    codes: Array, count: int, target: Array, predicted: Array, confidence: Array, target_score: Array
) -> Dynamics:
    """Return the figures of each of `count` samples.

    Args:
        codes: int32, which sample, in the order in which they were seen; -1
            for none.
        count: How many samples there are.
        target: int32, class numbers, -1 for none.
        predicted: int32, likewise.
        confidence: float32, largest probability.
        target_score: float32, probability of the target.
    """
    known = (codes >= 0) & (target >= 0) & (predicted >= 0) & ~np.isnan(target_score) & ~np.isnan(confidence)
    if not known.all():
        codes, target, predicted, confidence, target_score = (
            column[known] for column in (codes, target, predicted, confidence, target_score)
        )
    seen = np.bincount(codes, minlength=count)
    right = target == predicted

    def mean(values: Array) -> Array:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.bincount(codes, values, minlength=count) / seen

    middle = mean(target_score)
    # Around the sample's own mean: the plain sum of squares cancels.
    spread = np.sqrt(mean((target_score - middle[codes]) ** 2))
    return Dynamics(
        seen=seen,
        mean_target_score=middle.astype(np.float32),
        variability=spread.astype(np.float32),
        correctness=mean(right).astype(np.float32),
        forgetting=_count_forgetting(codes, right, count),
        margin=mean(margins(target, predicted, confidence, target_score)).astype(np.float32),
    )


def _count_forgetting(codes: Array, right: Array, count: int) -> Array:
    """Count how often each sample was wrong at once after it was right."""
    # One sort of whole numbers, each of a sample and a place, is many times quicker than a stable argsort.
    keys = np.sort(codes.astype(np.int64) << 32 | np.arange(len(codes)))
    codes, right = keys >> 32, right[keys & 0xFFFFFFFF]
    forgets = right[:-1] & ~right[1:] & (codes[:-1] == codes[1:])
    return np.bincount(codes[1:][forgets], minlength=count)


def mark_last(codes: Array, count: int) -> Array:
    """Mark where each sample was seen last; those without an id nowhere."""
    last = np.full(count + 1, -1, np.int64)
    last[codes] = np.arange(len(codes))  # of equal places the last value stays
    marks = np.zeros(len(codes), bool)
    last = last[:count]
    marks[last[last >= 0]] = True
    return marks


def draw_evenly(numbers: Array, most: int) -> Array:
    """Return at most so many numbers, evenly spread over all."""
    if len(numbers) <= most:
        return numbers
    return numbers[np.arange(most) * len(numbers) // most]


def describe(dynamics: Dynamics, code: int) -> dict[str, Any]:
    """Return the figures of one sample; None for what it has not."""
    figures = {name: getattr(dynamics, name)[code].item() for name in FIGURES}
    return {name: None if value != value else value for name, value in figures.items()}


@dataclasses.dataclass(frozen=True)
class DataMap(Dynamics):
    """The `Dynamics` of every sample with an id in a range, with the ids.

    Attributes:
        ids: By code: int64, or an object array where any is a text.
    """

    ids: Array


@dataclasses.dataclass(frozen=True)
class History:
    """Each time a sample was seen, in the order of the steps.

    Attributes:
        step, epoch: int64.
        sample: int64, place in the batch.
        target, predicted: int32, class numbers, -1 for none.
        confidence, target_score, loss, error: float32, NaN for none.
    """

    step: Array
    epoch: Array
    sample: Array
    target: Array
    predicted: Array
    confidence: Array
    target_score: Array
    loss: Array
    error: Array

    def __len__(self) -> int:
        return len(self.step)

    @property
    def dynamics(self) -> Dynamics:
        """Return the figures of this sample, arrays of one value."""
        codes = np.zeros(len(self), np.int32)
        return follow_samples(codes, 1, self.target, self.predicted, self.confidence, self.target_score)
