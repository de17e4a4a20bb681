"""What is alike in two runs, or in two parts of one: batches, classes, figures.

Called by `answers`. Calls `analysis`; reads no file.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from tb_batchview import analysis
from tb_batchview.errors import ArgumentError
from tb_batchview.records import OutputSpec

Array = npt.NDArray[Any]

NO_ROW = -1  # of a batch that the other run has not
FIGURES = ("support", "precision", "recall", "f1")
BOUNDED = ("precision", "recall", "f1")


def match_steps(steps: Array, other: Array) -> Array:
    """Return the row of each step among the steps of another phase.

    Args:
        steps: Wanted, in any order.
        other: int64, ascending.

    Returns:
        int64, `NO_ROW` where the other has no such step.
    """
    if not len(other):
        return np.full(len(steps), NO_ROW, np.int64)
    rows = np.minimum(np.searchsorted(other, steps), len(other) - 1)
    return np.where(other[rows] == steps, rows, NO_ROW).astype(np.int64)


@dataclasses.dataclass(frozen=True)
class Matched:
    """The classes of one output among those of another.

    Attributes:
        numbers: int64, shape (classes,): the number that each class has in the
            other output, -1 where it has no such class.
        by: What they were matched by: "name" or "number".
        missing: How many classes of the other have no match.
    """

    numbers: Array
    by: str
    missing: int


def check_tasks(spec: OutputSpec, other: OutputSpec) -> None:
    """Refuse two outputs that have no figures in common.

    Raises:
        ArgumentError: One has a class per sample, and the other several or none.
    """
    kinds = {"multiclass" if item.has_classes else item.task for item in (spec, other)}
    if len(kinds) > 1:
        raise ArgumentError(
            "Two outputs can be compared when their tasks are of the same kind. "
            f"Received: {spec.task!r} against {other.task!r}. Choose another output."
        )


def match_classes(spec: OutputSpec, other: OutputSpec) -> Matched:
    """Match the classes of two outputs.

    By name where every class of both has one of its own, so that another order
    of the classes does no harm; else by number.
    """
    names, others = _names(spec), _names(other)
    if names is None or others is None:
        numbers = np.arange(spec.classes)
        numbers[other.classes :] = analysis.NO_CLASS
        by = "number"
    else:
        places = {name: number for number, name in enumerate(others)}
        numbers = np.array([places.get(name, analysis.NO_CLASS) for name in names], np.int64)
        by = "name"
    return Matched(numbers, by, other.classes - int((numbers >= 0).sum()))


def _names(spec: OutputSpec) -> tuple[str, ...] | None:
    """Return a name for every class, None where one is missing or twice."""
    names = (spec.class_names or ())[: spec.classes]
    return names if len(names) == spec.classes and all(names) and len(set(names)) == len(names) else None


@dataclasses.dataclass(frozen=True)
class Changes:
    """Figures per class less those of the matching class of another report.

    Attributes:
        by: Of each of `FIGURES`, float64, shape (classes,): NaN where one of
            the two is missing.
        apart: Of each of `BOUNDED`, bool: the intervals do not overlap.
    """

    by: dict[str, Array]
    apart: dict[str, Array]


def compare_reports(report: analysis.ClassReport, other: analysis.ClassReport, numbers: Array) -> Changes:
    """Subtract the figures of the matching classes."""

    def taken(name: str) -> Array:
        values = np.asarray(getattr(other, name), np.float64)
        return np.append(values, np.nan)[np.where(numbers < 0, len(values), numbers)]

    by = {name: np.asarray(getattr(report, name), np.float64) - taken(name) for name in FIGURES}
    apart = {}
    for name in BOUNDED:
        low, high = getattr(report, f"{name}_low"), getattr(report, f"{name}_high")
        apart[name] = (low > taken(f"{name}_high")) | (high < taken(f"{name}_low"))
    return Changes(by, apart)


def spread_counts(counts: Array, places: Array, classes: int) -> Array:
    """Put a confusion matrix of some classes among all of them.

    Args:
        counts: Shape (some, some).
        places: Where each of its classes belongs.
        classes: Of the matrix returned, which is 0 elsewhere.
    """
    whole = np.zeros((classes, classes), counts.dtype)
    whole[np.ix_(places, places)] = counts
    return whole
