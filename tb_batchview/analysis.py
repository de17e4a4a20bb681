"""Count, rank and summarise recorded batches.

Called by `run` and `answers` with the columns of `store`. Calls NumPy and
nothing else: no function here reads a file or keeps anything.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

Array = npt.NDArray[Any]

NO_CLASS = -1  # stands in columns of class numbers where a sample has none
RANK_CODES = 1 << 16  # of `rank_codes`
_CODES_OF_INFINITIES = (0x007F, 0xFF80)
CONFIDENT = 0.8  # a confidence of at least this counts as confident
OUTCOMES = ("correct_confident", "correct_unsure", "wrong_unsure", "wrong_confident")
Z_95 = 1.959963984540054  # two-sided 95 % quantile of the normal distribution

SPIKE_RATIO = 3.0  # times the median of the batches before
SPIKE_DEVIATIONS = 6.0  # robust standard deviations above that median
SPIKE_WINDOW = 50  # batches before, at most
SPIKE_MINIMUM = 8  # batches before, at least
_CHUNK = 16_384  # rows a step of windowed work: bounds its memory to a few MB


# Classes


def count_confusion(target: Array, predicted: Array, classes: int) -> Array:
    """Count how often each class was taken for each other.

    Args:
        target: Class numbers, shape (samples,).
        predicted: Class numbers, shape (samples,).
        classes: Number of classes.

    Returns:
        int64, shape (classes, classes); rows are targets. Samples with a
        number outside 0 … classes - 1 (such as -1, none) are left out.
    """
    counts = np.bincount(find_cells(target, predicted, classes), minlength=classes * classes)
    return counts.astype(np.int64, copy=False).reshape(classes, classes)


def find_cells(target: Array, predicted: Array, classes: int) -> Array:
    """Return where each sample is in a confusion matrix, row after row.

    Returns:
        intp, shape (samples,), without those that `count_confusion` leaves out.
    """
    known = _known(target, predicted, classes)
    if not known.all():
        target, predicted = target[known], predicted[known]
    cells: Array = np.multiply(target, classes, dtype=np.intp)
    cells += predicted
    return cells


def divide(part: Array, whole: Array) -> Array:
    """Divide counts; NaN where there is nothing."""
    whole = np.broadcast_to(whole, np.shape(part))
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)


def wilson_interval(successes: Array, total: Array) -> tuple[Array, Array]:
    """Bound a share by the Wilson score interval at 95 %.

    Source: E. B. Wilson, "Probable inference, the law of succession, and
    statistical inference", J. Am. Stat. Assoc. 22 (1927) 209-212.

    Returns:
        Lower and upper bounds, float64; NaN where total is 0.
    """
    total = np.asarray(total, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = successes / total
        spread = Z_95 * np.sqrt(share * (1 - share) / total + Z_95**2 / (4 * total**2))
        middle = share + Z_95**2 / (2 * total)
        scale = 1 + Z_95**2 / total
        low, high = (middle - spread) / scale, (middle + spread) / scale
    # At 0 and 1 the bound is the share itself but for the last bits.
    return np.clip(low, 0.0, share), np.clip(high, share, 1.0)


def bound_f1(hits: Array, called: Array) -> tuple[Array, Array]:
    """Bound F1 by a Wilson score interval at 95 %.

    F1 itself is no share of samples. But it grows with one, and with nothing
    else: F* = hits / called, of which F1 = 2 F* / (1 + F*).

    Source: D. J. Hand, P. Christen and N. Kirielle, "F*: an interpretable
    transformation of the F-measure", Machine Learning 110 (2021) 451-456.

    Args:
        hits: Samples of the class that were predicted so.
        called: Samples that are of the class, predicted so, or both.

    Returns:
        Lower and upper bounds, float64; NaN where `called` is 0.
    """
    low, high = wilson_interval(hits, called)
    return 2 * low / (1 + low), 2 * high / (1 + high)


@dataclasses.dataclass(frozen=True)
class ClassRow:
    """One class of a `ClassReport`; NaN where a figure is not defined."""

    class_number: int
    class_name: str | None
    support: int
    predicted: int
    precision: float
    precision_low: float
    precision_high: float
    recall: float
    recall_low: float
    recall_high: float
    f1: float
    f1_low: float
    f1_high: float
    most_confused: int | None
    most_confused_count: int


# Of a report as text.
_CLASSES_TOLD = 100
_LETTERS_TOLD = 30


@dataclasses.dataclass(frozen=True, repr=False)
class ClassReport:
    """Figures per class: as arrays of shape (classes,), or row by row.

    `report.recall` is an array, `report[3].recall` a number, and iterating
    gives a `ClassRow` per class.

    Attributes:
        support: int64, samples (for labels: positive ones) of the class.
        predicted: int64, samples predicted to be of the class.
        precision: float64, NaN for a class never predicted.
        precision_low, precision_high: float64, Wilson interval at 95 %.
        recall: float64, NaN for a class without support.
        recall_low, recall_high: float64, Wilson interval at 95 %.
        f1: float64, NaN for a class neither predicted nor present.
        f1_low, f1_high: float64, Wilson interval at 95 % of the share of
            right ones among all samples that are or were called this
            class, from which F1 follows.
        most_confused: int64, what this class is most often taken for,
            -1 where nothing was (always for labels).
        most_confused_count: int64, how often.
        accuracy: Share of right samples; of right labels for labels.
        macro_f1: Mean F1 of the classes that occur.
        samples: Samples counted.
        class_names: One name per class, or None.
    """

    support: Array
    predicted: Array
    precision: Array
    precision_low: Array
    precision_high: Array
    recall: Array
    recall_low: Array
    recall_high: Array
    f1: Array
    f1_low: Array
    f1_high: Array
    most_confused: Array
    most_confused_count: Array
    accuracy: float
    macro_f1: float
    samples: int
    class_names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.support)

    def __getitem__(self, number: int) -> ClassRow:
        if not -len(self) <= number < len(self):
            raise IndexError(f"class must be below {len(self)}. Received: class={number!r}.")
        number %= len(self)
        names = self.class_names
        confused = int(self.most_confused[number])
        return ClassRow(
            class_number=number,
            class_name=names[number] if names is not None and number < len(names) else None,
            support=int(self.support[number]),
            predicted=int(self.predicted[number]),
            precision=float(self.precision[number]),
            precision_low=float(self.precision_low[number]),
            precision_high=float(self.precision_high[number]),
            recall=float(self.recall[number]),
            recall_low=float(self.recall_low[number]),
            recall_high=float(self.recall_high[number]),
            f1=float(self.f1[number]),
            f1_low=float(self.f1_low[number]),
            f1_high=float(self.f1_high[number]),
            most_confused=None if confused == NO_CLASS else confused,
            most_confused_count=int(self.most_confused_count[number]),
        )

    def __iter__(self) -> Iterator[ClassRow]:
        return (self[number] for number in range(len(self)))

    def __repr__(self) -> str:
        figures = f"accuracy={self.accuracy:.4g}, macro_f1={self.macro_f1:.4g}"
        return f"ClassReport({len(self)} classes, {self.samples} samples, {figures})"

    def __str__(self) -> str:
        """Return a table to be read, of at most 100 classes."""
        rows: list[tuple[str, ...]] = [("class", "support", "precision", "recall", "f1", "most taken for")]
        for row in itertools.islice(self, _CLASSES_TOLD):
            taken = "" if row.most_confused is None else f"{self._name(row.most_confused)} ({row.most_confused_count})"
            figures = (f"{figure:.3f}" for figure in (row.precision, row.recall, row.f1))
            rows.append((self._name(row.class_number), str(row.support), *figures, taken))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                # Names begin at the left, numbers end at the right.
                cell.ljust(width) if place in (0, len(row) - 1) else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        more = len(self) - _CLASSES_TOLD
        lines += [f"and {more} more"] if more > 0 else []
        return "\n".join(
            [*lines, f"accuracy {self.accuracy:.3f}, macro F1 {self.macro_f1:.3f}, {self.samples} samples"]
        )

    def _name(self, number: int) -> str:
        names = self.class_names
        name = names[number] if names is not None and number < len(names) else str(number)
        # In one line, whatever a file says.
        name = "".join(letter if letter.isprintable() else " " for letter in name[: 2 * _LETTERS_TOLD])
        return name if len(name) <= _LETTERS_TOLD else f"{name[: _LETTERS_TOLD - 1]}…"


def report_classes(
    target: Array, predicted: Array, classes: int, class_names: tuple[str, ...] | None = None
) -> ClassReport:
    """Summarise samples per class.

    Needs memory for the classes, not for pairs of them: a vocabulary of
    50,000 words is fine.

    Args:
        target: Class numbers, shape (samples,).
        predicted: Class numbers, shape (samples,).
        classes: Number of classes; samples with other numbers are left out.
        class_names: One name per class, or None.
    """
    known = _known(target, predicted, classes)
    target, predicted = target[known], predicted[known]
    hits = np.bincount(target[target == predicted], minlength=classes)
    most, most_count = _find_most_confused(target, predicted, classes)
    return _report(
        hits=hits,
        support=np.bincount(target, minlength=classes),
        predicted=np.bincount(predicted, minlength=classes),
        most_confused=most,
        most_confused_count=most_count,
        accuracy=float(hits.sum() / len(target)) if len(target) else math.nan,
        samples=len(target),
        class_names=class_names,
    )


@dataclasses.dataclass(frozen=True)
class ClassTrend:
    """Counts per class over consecutive windows of batches.

    Attributes:
        window: Batches in each window; the last one may have fewer.
        step: int64, shape (windows,): step of the first batch of each.
        last_step: int64, same shape: step of the last batch of each.
        support: int64, shape (windows, classes): samples (for labels:
            positive ones) of the class.
        predicted: int64, same shape: samples predicted to be of the class.
        hits: int64, same shape: samples that are both.
    """

    window: int
    step: Array
    last_step: Array
    support: Array
    predicted: Array
    hits: Array

    @property
    def recall(self) -> Array:
        """Return the share of each class that was found, NaN without any."""
        return divide(self.hits, self.support)

    @property
    def precision(self) -> Array:
        """Return the share of each class's predictions that was right."""
        return divide(self.hits, self.predicted)

    @property
    def f1(self) -> Array:
        """Return the harmonic mean of precision and recall."""
        return divide(2 * self.hits, self.support + self.predicted)


def report_confusion(confusion: Array, class_names: tuple[str, ...] | None = None) -> ClassReport:
    """Summarise the samples of a confusion matrix per class.

    Args:
        confusion: Shape (classes, classes); rows are targets.
        class_names: One name per class, or None.

    Returns:
        What `report_classes` returns of the samples.
    """
    hits = confusion.diagonal().astype(np.int64)
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    # The first of the largest, as the smaller class wins a tie.
    most = wrong.argmax(axis=1) if len(wrong) else np.zeros(0, np.int64)
    most_count = np.take_along_axis(wrong, most[:, None], axis=1)[:, 0].astype(np.int64)
    support = confusion.sum(axis=1, dtype=np.int64)
    samples = int(support.sum())
    return _report(
        hits=hits,
        support=support,
        predicted=confusion.sum(axis=0, dtype=np.int64),
        most_confused=np.where(most_count > 0, most, NO_CLASS),
        most_confused_count=most_count,
        accuracy=float(hits.sum() / samples) if samples else math.nan,
        samples=samples,
        class_names=class_names,
    )


def count_classes(target: Array, predicted: Array, classes: int) -> Array:
    """Count each class: as target, as predicted, and as both.

    Returns:
        int64, shape (3, classes). Samples with a number outside 0 …
        classes - 1 are left out.
    """
    known = _known(target, predicted, classes)
    target, predicted = target[known], predicted[known]
    rows = (target, predicted, target[target == predicted])
    return np.stack([np.bincount(row, minlength=classes) for row in rows]).astype(np.int64, copy=False)


def _known(target: Array, predicted: Array, classes: int) -> Array:
    """Mark the samples that have both classes."""
    return (target >= 0) & (target < classes) & (predicted >= 0) & (predicted < classes)


def _find_most_confused(target: Array, predicted: Array, classes: int) -> tuple[Array, Array]:
    """Find what each class is most often taken for, and how often."""
    wrong = target != predicted
    pairs, count = np.unique(target[wrong].astype(np.int64) * classes + predicted[wrong], return_counts=True)
    most, most_count = np.full(classes, NO_CLASS, np.int64), np.zeros(classes, np.int64)
    # Last write wins: the largest count of a class comes last, of these the smallest number.
    order = np.lexsort((-pairs, count))
    row = pairs[order] // classes
    most[row], most_count[row] = pairs[order] % classes, count[order]
    return most, most_count


def count_labels(targets: Array, scores: Array) -> Array:
    """Count the labels of a multilabel batch.

    Args:
        targets: Shape (samples, labels); a label is set above one half.
        scores: Probabilities, same shape; predicted above one half, as
            Keras' metrics have it. A NaN in either is no decision and counts
            nowhere.

    Returns:
        int64, shape (4, labels): set, predicted, both, and the samples.
    """
    is_set, is_predicted, known = _decide_labels(targets, scores)
    rows = (is_set, is_predicted, is_set & is_predicted, known)
    return np.stack([np.count_nonzero(row, axis=0) for row in rows]).astype(np.int64)


def count_label_errors(targets: Array, scores: Array) -> Array:
    """Count how often two labels are wrong of the same sample.

    Args:
        targets: As `count_labels` takes them.
        scores: Likewise.

    Returns:
        int64, shape (labels, labels), symmetric.
    """
    is_set, is_predicted, _ = _decide_labels(targets, scores)
    wrong = (is_set != is_predicted).astype(np.float32)
    # As floats: the matrix product of integers is many times slower, and counts are exact up to 2**24.
    counts: Array = (wrong.T @ wrong).astype(np.int64)
    return counts


def _decide_labels(targets: Array, scores: Array) -> tuple[Array, Array, Array]:
    """Return which labels are set, which predicted, and which known."""
    known = ~(np.isnan(targets) | np.isnan(scores))
    return (targets > 0.5) & known, (scores > 0.5) & known, known


def report_labels(counts: Array, class_names: tuple[str, ...] | None = None) -> ClassReport:
    """Summarise the sum of `count_labels` over batches per label."""
    support, predicted, hits, samples = counts
    labels, decisions = len(hits), int(samples.sum())
    wrong = int((support + predicted - 2 * hits).sum())
    return _report(
        hits=hits,
        support=support,
        predicted=predicted,
        most_confused=np.full(labels, NO_CLASS, np.int64),
        most_confused_count=np.zeros(labels, np.int64),
        accuracy=1 - wrong / decisions if decisions else math.nan,
        samples=int(samples.max(initial=0)),
        class_names=class_names,
    )


def _report(
    *,
    hits: Array,
    support: Array,
    predicted: Array,
    most_confused: Array,
    most_confused_count: Array,
    accuracy: float,
    samples: int,
    class_names: tuple[str, ...] | None,
) -> ClassReport:
    precision, recall, f1 = divide(hits, predicted), divide(hits, support), divide(2 * hits, support + predicted)
    precision_low, precision_high = wilson_interval(hits, predicted)
    recall_low, recall_high = wilson_interval(hits, support)
    f1_low, f1_high = bound_f1(hits, support + predicted - hits)
    occurring = f1[~np.isnan(f1)]
    return ClassReport(
        support=support,
        predicted=predicted,
        precision=precision,
        precision_low=precision_low,
        precision_high=precision_high,
        recall=recall,
        recall_low=recall_low,
        recall_high=recall_high,
        f1=f1,
        f1_low=f1_low,
        f1_high=f1_high,
        most_confused=most_confused,
        most_confused_count=most_confused_count,
        accuracy=accuracy,
        macro_f1=float(occurring.mean()) if len(occurring) else math.nan,
        samples=samples,
        class_names=class_names,
    )


def pick_classes(counts: Array, limit: int) -> Array:
    """Pick the classes with most errors, as target or as predicted.

    Args:
        counts: As `count_classes` returns them.
        limit: Most classes to pick.

    Returns:
        Class numbers, ascending, int32.
    """
    support, predicted, hits = counts
    errors = support + predicted - 2 * hits
    chosen = np.argsort(-errors, kind="stable")[:limit]
    return np.sort(chosen).astype(np.int32)


def renumber(numbers: Array, chosen: Array, classes: int) -> Array:
    """Give classes the numbers of their places among the chosen, others -1."""
    places = np.full(classes + 1, NO_CLASS, np.int64)  # one more, for -1
    places[chosen] = np.arange(len(chosen))
    return places[np.where((numbers >= 0) & (numbers < classes), numbers, classes)]


def find_worst_confusions(target: Array, predicted: Array, starts: Array) -> tuple[Array, Array, Array]:
    """Find the most frequent confusion of each of several batches.

    Args:
        target: Class numbers of the samples of all batches, one after another.
        predicted: The same for the predicted classes.
        starts: int64, shape (batches + 1,): the samples of batch i are
            `starts[i]` to `starts[i + 1]`.

    Returns:
        Target, predicted and count per batch, int64; a count of 0 (and -1,
        -1) for a batch without error. The smaller pair wins a tie.
    """
    batches = len(starts) - 1
    worst = np.full((2, batches), NO_CLASS, np.int64)
    worst_count = np.zeros(batches, np.int64)
    batch = np.repeat(np.arange(batches), np.diff(starts))
    wrong = (target != predicted) & (target >= 0) & (predicted >= 0)
    if wrong.any():
        # One number a pair is quicker to sort than three; classes by their place, so that it fits.
        pair = np.stack([target[wrong], predicted[wrong]])
        classes, places = np.unique(pair, return_inverse=True)
        first, second = places.reshape(pair.shape)
        codes, count = np.unique((batch[wrong] * len(classes) + first) * len(classes) + second, return_counts=True)
        where, rest = np.divmod(codes, len(classes) ** 2)
        pairs = np.stack([where, *classes[np.stack(np.divmod(rest, len(classes)))]]).astype(np.int64)
        # Last write wins: the largest count of a batch comes last, of these the smallest pair.
        order = np.lexsort((-np.arange(len(count)), count))
        where = pairs[0, order]
        worst[:, where] = pairs[1:, order]
        worst_count[where] = count[order]
    return worst[0], worst[1], worst_count


def mix_classes(target: Array, predicted: Array, limit: int) -> list[tuple[int, int, int]]:
    """Count the classes of a batch, as target and as predicted.

    Returns:
        (class, times target, times predicted), most frequent first, at most
        `limit`.
    """
    seen = np.unique(np.concatenate([target, predicted]))
    seen = seen[seen >= 0]
    as_target = np.searchsorted(np.sort(target), np.stack([seen, seen + 1]))
    as_predicted = np.searchsorted(np.sort(predicted), np.stack([seen, seen + 1]))
    counts = np.stack([seen, as_target[1] - as_target[0], as_predicted[1] - as_predicted[0]], axis=1)
    order = np.argsort(-(counts[:, 1] + counts[:, 2]), kind="stable")[:limit]
    return [(int(number), int(first), int(second)) for number, first, second in counts[order]]


# Samples


def mark_wrong(target: Array, predicted: Array) -> Array:
    """Mark the samples that have both classes, and different ones."""
    return (target != predicted) & (target >= 0) & (predicted >= 0)


def mark_correct(target: Array, predicted: Array) -> Array:
    """Mark the samples that have both classes, and the same."""
    return (target == predicted) & (target >= 0)


def count_outcomes(target: Array, predicted: Array, confidence: Array) -> Array:
    """Count samples by correct or wrong and confident or unsure.

    Samples without a target or predicted class are in none of the four. A
    confidence that is not a number counts as unsure.

    Returns:
        int64, shape (4,), in the order of `OUTCOMES`.
    """
    correct, wrong = mark_correct(target, predicted), mark_wrong(target, predicted)
    confident = confidence >= CONFIDENT
    marks = (correct & confident, correct & ~confident, wrong & ~confident, wrong & confident)
    return np.array([np.count_nonzero(mark) for mark in marks], np.int64)


def rank_codes(values: Array) -> Array:
    """Return codes below `RANK_CODES` that are in the order of the values.

    Equal values have the same code, and so have some that are close: within a
    128th. What is missing (NaN, class numbers below 0) has the last one.
    """
    single = values.astype(np.float32) + np.float32(0)  # -0.0 is 0.0
    bits = single.view(np.int32) >> 16
    # Of negative numbers the larger bits mean the smaller number.
    codes = np.where(bits < 0, ~bits & 0x7FFF, bits | 0x8000)
    codes[mark_missing(values)] = RANK_CODES - 1
    return codes


def mark_codes(values: Array, least: int, greatest: int) -> Array:
    """Mark the values whose `rank_codes` are in a range, both ends included.

    What is missing is never marked.
    """
    single = values.astype(np.float32, copy=False)  # as for the codes: an int32 may be rounded
    marks = ~mark_missing(values)
    # Codes beyond those of the infinities are of nothing but NaN.
    if least > _CODES_OF_INFINITIES[0]:
        marks &= single >= _least_of(least)
    if greatest < _CODES_OF_INFINITIES[0]:
        marks[:] = False
    elif greatest < _CODES_OF_INFINITIES[1]:
        marks &= single < _least_of(greatest + 1)
    return marks


def _least_of(code: int) -> np.float32:
    """Return the least number of a code."""
    bits = (code & 0x7FFF) << 16 if code & 0x8000 else (~code & 0x7FFF) << 16 | 0x8000FFFF
    number: np.float32 = np.uint32(bits).view(np.float32)
    return number


def mark_missing(values: Array) -> Array:
    """Mark what stands for none: NaN, and class numbers below 0."""
    return np.isnan(values) if values.dtype.kind == "f" else values < 0


def sort_order(values: Array, *, descending: bool = False, offset: int = 0, stop: int | None = None) -> Array:
    """Order rows by a column, missing values last in both directions.

    Args:
        values: Numbers, shape (rows,). NaN is missing, and so are integers
            below 0.
        descending: Largest first.
        offset: Of the first row of the order that is wanted.
        stop: After the last one; None: all. A page costs a fraction of a
            whole sort, wherever it is.

    Returns:
        Row numbers, int64; equal values keep their order.
    """
    missing = mark_missing(values)
    absent = np.flatnonzero(missing)
    rows = np.flatnonzero(~missing) if len(absent) else None
    keys = values if rows is None else values[rows]
    keys = -keys if descending else keys
    low, high = (min(place, len(keys)) for place in (offset, len(values) if stop is None else stop))
    if high - low < len(keys) // 8:
        order, begin = _page_among(keys, low, high) if low < high else (np.zeros(0, np.int64), 0)
    else:
        order, begin = np.argsort(keys, kind="stable"), low
    order = order[begin : begin + high - low]
    late = absent[max(0, offset - len(keys)) : None if stop is None else max(0, stop - len(keys))]
    return np.concatenate([order if rows is None else rows[order], late])


def _page_among(keys: Array, low: int, high: int) -> tuple[Array, int]:
    """Return the rows among which a page is, in order, and where it begins."""
    least, greatest = np.partition(keys, [low, high - 1])[[low, high - 1]]
    among = np.flatnonzero((keys >= least) & (keys <= greatest))
    return among[np.argsort(keys[among], kind="stable")], low - int(np.count_nonzero(keys < least))


# Timelines


@dataclasses.dataclass(frozen=True)
class Buckets:
    """Figures of the finite values of each bucket; NaN where there is none."""

    mean: Array
    min: Array
    max: Array
    nonfinite: Array


def bucket_size(rows: int, points: int) -> int:
    """Return how many consecutive rows a bucket holds."""
    return max(1, -(-rows // points))


def cut_buckets(values: Array, size: int) -> Buckets:
    """Cut a series into buckets of `size` values, the last one shorter.

    The least and greatest finite value of every bucket are kept, and values
    that are not finite are counted, so that no spike is lost.
    """
    values = np.asarray(values, np.float64)
    if not len(values):
        empty, none = np.zeros(0), np.zeros(0, np.uint32)
        return Buckets(empty, empty, empty, none)
    starts = np.arange(0, len(values), size)
    finite = np.isfinite(values)
    count = np.add.reduceat(finite, starts, dtype=np.int64)
    total = np.add.reduceat(np.where(finite, values, 0.0), starts)
    least = np.minimum.reduceat(np.where(finite, values, np.inf), starts)
    greatest = np.maximum.reduceat(np.where(finite, values, -np.inf), starts)
    length = np.diff(np.append(starts, len(values)))
    some = count > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total / count
    return Buckets(
        # Rounding of the sum must not put a mean outside its own bucket.
        mean=np.where(some, np.clip(mean, least, greatest), np.nan),
        min=np.where(some, least, np.nan),
        max=np.where(some, greatest, np.nan),
        nonfinite=(length - count).astype(np.uint32),
    )


def smooth_buckets(buckets: Buckets, window: int) -> Array:
    """Take the running median of the means of `window` buckets.

    A mean would turn one loss of 1e30 into a plateau as wide as the window; a
    median leaves no trace of what is shorter than half of it, and follows a
    step where it is. It is then averaged over half the window, because alone
    it goes in stairs (running medians, then a running mean: Tukey,
    "Exploratory Data Analysis", 1977, chapter 7). The windows are centred and
    shorter at the ends; what is not finite is left out.
    """
    if not len(buckets.mean):
        return np.zeros(0)
    medians = _median_rows(_centred(buckets.mean, window))
    around = _centred(medians, window // 2)
    count = np.count_nonzero(~np.isnan(around), axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(count > 0, np.nansum(around, axis=1) / count, np.nan)


def _centred(values: Array, window: int) -> Array:
    """Return each value with its neighbours as a row, NaN beyond the ends."""
    half = max(0, (window - 1) // 2)
    return sliding_window_view(np.pad(values, half, constant_values=np.nan), 2 * half + 1)


@dataclasses.dataclass(frozen=True)
class Spike:
    """A batch that stands out; `ratio` is None where the loss is not finite."""

    row: int
    loss: float
    ratio: float | None


def mark_spikes(losses: Array) -> tuple[Array, Array]:
    """Find batches whose loss is far above that of the batches before.

    A spike is at least `SPIKE_RATIO` times the median of the finite ones among
    the up to `SPIKE_WINDOW` batches before it, and `SPIKE_DEVIATIONS` robust
    standard deviations (1.4826 times the median absolute deviation) above it.
    Where that median is not positive a ratio says nothing, and none is found.
    The first batch of each streak of losses that are not finite is one too.

    Returns:
        Rows, int64, ascending, and ratios to that median, float64; NaN where
        the loss is not finite.
    """
    losses = np.asarray(losses, np.float64)
    bad = ~np.isfinite(losses)
    begins = bad.copy()
    begins[1:] &= ~bad[:-1]
    broken = np.flatnonzero(begins)
    rows, ratios = _find_finite_spikes(np.where(bad, np.nan, losses))
    rows, ratios = np.append(rows, broken), np.append(ratios, np.full(len(broken), np.nan))
    order = np.argsort(rows)
    return rows[order], ratios[order]


def rank_spikes(losses: Array, rows: Array, ratios: Array, limit: int) -> list[Spike]:
    """Return the first `limit` of what `mark_spikes` found.

    First those where the loss stops being finite, then by ratio, largest
    first.
    """
    order = np.lexsort((-ratios, ~np.isnan(ratios)))[:limit]
    return [
        Spike(row, float(losses[row]), None if math.isnan(ratio) else ratio)
        for row, ratio in zip(rows[order].tolist(), ratios[order].tolist(), strict=True)
    ]


def _find_finite_spikes(losses: Array) -> tuple[Array, Array]:
    rows: list[Array] = [np.zeros(0, np.int64)]
    ratios: list[Array] = [np.zeros(0)]
    padded = np.concatenate([np.full(SPIKE_WINDOW, np.nan), losses])
    for first in range(0, len(losses), _CHUNK):
        now = losses[first : first + _CHUNK]
        before = sliding_window_view(padded[first : first + len(now) + SPIKE_WINDOW - 1], SPIKE_WINDOW)
        # A value below SPIKE_RATIO times the least one before it needs no median.
        least = np.fmin.reduce(before, axis=1)
        candidates = np.flatnonzero(now > SPIKE_RATIO * least)
        candidates = candidates[np.count_nonzero(~np.isnan(before[candidates]), axis=1) >= SPIKE_MINIMUM]
        median = _median_rows(before[candidates])
        far = (median > 0) & (now[candidates] >= SPIKE_RATIO * median)
        candidates, median = candidates[far], median[far]
        value = now[candidates]
        deviation = 1.4826 * _median_rows(np.abs(before[candidates] - median[:, None]))
        stands_out = value > median + SPIKE_DEVIATIONS * deviation
        rows.append(first + candidates[stands_out])
        ratios.append(value[stands_out] / median[stands_out])
    return np.concatenate(rows), np.concatenate(ratios)


def _median_rows(rows: Array) -> Array:
    """Return the median of each row without its NaN; NaN of nothing."""
    absent = np.isnan(rows).sum(axis=1)
    whole, part = absent == 0, (absent > 0) & (absent < rows.shape[1])
    medians = np.full(len(rows), np.nan)
    # nanmedian is many times slower, and hardly a window has a NaN.
    medians[whole] = np.median(rows[whole], axis=1)
    if part.any():
        medians[part] = np.nanmedian(rows[part], axis=1)
    return medians


def find_epochs(epochs: Array, index: Array, steps: Array, limit: int) -> list[tuple[int, int]]:
    """Find where epochs begin: (epoch, first step), at most `limit`.

    An epoch that is begun again, in a second `fit` or after a crash, is told
    each time: there the batches within it are counted anew. With more epochs
    than `limit`, every n-th is kept.

    Args:
        epochs: Of each batch.
        index: Its number within the epoch.
        steps: Its step.
        limit: How many are told.
    """
    if not len(epochs):
        return []
    begins = np.flatnonzero(np.append(True, (epochs[1:] != epochs[:-1]) | (index[1:] <= index[:-1])))
    begins = begins[:: bucket_size(len(begins), limit)]
    return [(int(epochs[row]), int(steps[row])) for row in begins]


def finite_mean(values: Array) -> float | None:
    """Average the finite values; None where there is none."""
    finite = values[np.isfinite(values)]
    return float(finite.mean(dtype=np.float64)) if len(finite) else None


# Layers


@dataclasses.dataclass(frozen=True)
class Moments:
    """Figures of layers, float64, one row a window.

    `weight` is how many values the figures are of: those that are finite, of
    the batches that have figures.
    """

    count: Array
    weight: Array
    mean: Array
    std: Array
    min: Array
    max: Array
    zero_fraction: Array
    nonfinite: Array


def merge_moments(summaries: Array, size: int | Array) -> Moments:
    """Merge the summaries of every `size` consecutive batches into one.

    Mean, variance and zero fraction are those of all the values together:
    each batch weighs as many values as it had.

    Args:
        summaries: Shape (batches, 7): count, mean, std, min, max,
            zero_fraction, nonfinite.
        size: Batches a window, or the row that each window begins with.
    """
    rows = np.asarray(summaries, np.float64).reshape(-1, 7)
    if not len(rows):
        return Moments(*np.zeros((8, 0)))
    starts = np.arange(0, len(rows), size) if isinstance(size, int) else size
    # A batch without a finite value has no figures: NaN there must not spread.
    usable = np.isfinite(rows).all(axis=1)
    weight = np.where(usable, np.maximum(rows[:, 0] - np.where(usable, rows[:, 6], 0.0), 0.0), 0.0)
    values = np.where(weight[:, None] > 0, rows, 0.0)
    total = np.add.reduceat(weight, starts)
    least = np.minimum.reduceat(np.where(weight > 0, rows[:, 3], np.inf), starts)
    greatest = np.maximum.reduceat(np.where(weight > 0, rows[:, 4], -np.inf), starts)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.add.reduceat(weight * values[:, 1], starts) / total
        # Around the window's own mean: the plain sum of squares cancels.
        shift = values[:, 1] - np.repeat(mean, np.diff(np.append(starts, len(rows))))
        variance = np.add.reduceat(weight * (values[:, 2] ** 2 + np.where(weight > 0, shift, 0.0) ** 2), starts) / total
        zero = np.add.reduceat(weight * values[:, 5], starts) / total
    some = total > 0
    return Moments(
        count=np.add.reduceat(rows[:, 0], starts),
        weight=total,
        mean=mean,
        std=np.sqrt(variance),
        min=np.where(some, least, np.nan),
        max=np.where(some, greatest, np.nan),
        zero_fraction=zero,
        nonfinite=np.add.reduceat(rows[:, 6], starts),
    )


def common_edges(low: Array, high: Array, bins: int) -> Array:
    """Return edges of equal bins that span all finite histograms."""
    finite = np.isfinite(low) & np.isfinite(high)
    if not finite.any():
        return np.linspace(0.0, 1.0, bins + 1)
    first, last = float(np.min(low[finite])), float(np.max(high[finite]))
    if not last > first:
        pad = max(abs(first), 1.0) * 0.5
        first, last = first - pad, last + pad
    return np.linspace(first, last, bins + 1)


def sum_windows(rows: Array, size: int | Array) -> Array:
    """Add up every `size` consecutive rows, or those from each row in it."""
    if not len(rows):
        return np.zeros_like(rows, dtype=np.float64)
    starts = np.arange(0, len(rows), size) if isinstance(size, int) else size
    return np.add.reduceat(np.asarray(rows, np.float64), starts, axis=0)


def normalise_rows(rows: Array) -> Array:
    """Scale each row so that it sums to 1; a row of zeros stays one."""
    total = rows.sum(axis=1, keepdims=True)
    return np.divide(rows, total, out=np.zeros_like(rows, dtype=np.float64), where=total > 0)
