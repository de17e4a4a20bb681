"""Filter and rank the samples of a range of batches.

Called by `answers`. Calls `views` for the columns, `analysis` for what is right
and wrong, and `dynamics` for what is known of a sample by its id. Samples are
looked at a stretch at a time, so that temporary arrays stay small.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from tb_batchview import analysis, dynamics
from tb_batchview.dynamics import Dynamics
from tb_batchview.identity import Ids
from tb_batchview.records import OutputSpec
from tb_batchview.views import SampleView

Array = npt.NDArray[Any]

OUTCOMES = ("all", "correct", "wrong", "confidently_wrong")
EACH = ("all", "last")
LEARNING = ("all", "forgotten", "never_learned")
COLUMNS = ("target", "predicted", "confidence", "target_score", "loss", "error")
# Samples looked at together: their columns stay in the processor's cache.
STRETCH = 1 << 16
_KEPT = {"loss": "sample_loss"}  # columns with another name in the store


Range = tuple[float | None, float | None]
ANY: Range = (None, None)


@dataclasses.dataclass(frozen=True)
class Filter:
    """Which samples are wanted.

    Attributes:
        outcome: One of `OUTCOMES`.
        target: Class number, or None for any.
        predicted: Class number, or None for any.
        confidence, loss: Least and greatest, both included; None for any.
        each: "last": of each id the last time in the range, whatever else is
            asked for; "all".
        learning: One of `LEARNING`, by id.
        mean_target_score, variability: Least and greatest of these figures
            of the id.
        codes: Of ids, marked; None for any.
    """

    outcome: str = "all"
    target: int | None = None
    predicted: int | None = None
    confidence: Range = ANY
    loss: Range = ANY
    each: str = "all"
    learning: str = "all"
    mean_target_score: Range = ANY
    variability: Range = ANY
    codes: Array | None = dataclasses.field(default=None, compare=False)

    @property
    def takes_all(self) -> bool:
        """Tell whether nothing is left out."""
        return self.codes is None and self == Filter()

    @property
    def needs_dynamics(self) -> bool:
        """Tell whether it asks for figures of ids."""
        return self.learning != "all" or self.mean_target_score != ANY or self.variability != ANY


@dataclasses.dataclass(frozen=True)
class Followed:
    """What is known of samples by their ids.

    Attributes:
        ids: Of all samples of the view.
        dynamics: By code, over the range; None where it is not asked for.
    """

    ids: Ids
    dynamics: Dynamics | None = None


class Samples:
    """The samples of one output in the batches `first` to `last`.

    They are numbered from 0 within the range.
    """

    def __init__(
        self, view: SampleView, spec: OutputSpec, first: int, last: int, followed: Followed | None = None
    ) -> None:
        """Look at a range.

        Args:
            view: The samples of all batches.
            spec: Of their output.
            first: Row of the first batch.
            last: Row after the last one.
            followed: By their ids; where this is asked for.
        """
        self._view = view
        self._spec = spec
        self._followed = followed
        self._figures: dict[str, Array] = {}
        self._first, self._last = first, last
        self._begin = int(self._view.starts[first])

    def __len__(self) -> int:
        return int(self._view.starts[self._last]) - self._begin

    def column(self, name: str) -> Array:
        """Return one of `COLUMNS`; `loss` is that of each sample."""
        return self._part(name, 0, len(self))

    def take(self, name: str, numbers: Array) -> Array:
        """Return a column of some samples."""
        if name == "error" and self._derives_error:
            return self._derive_error(self.take("target", numbers), self.take("predicted", numbers))
        if name in dynamics.FIGURES:
            return self._figure(name, self._codes(0, len(self))[numbers])
        return self._part(name, 0, len(self))[numbers]

    def codes(self, numbers: Array) -> Array:
        """Return which sample each of some is: the codes of their ids."""
        return self._codes(0, len(self))[numbers]

    def locate(self, number: int) -> tuple[int, int]:
        """Return the row of the batch of a sample, and its place there."""
        row = int(np.searchsorted(self._view.starts, self._begin + number, side="right")) - 1
        return row, self._begin + number - int(self._view.starts[row])

    def count(self, chosen: Filter) -> int:
        """Count the samples of a filter."""
        return sum(count for *_, count in self._marked(chosen))

    def count_outcomes(self) -> dict[str, int]:
        """Count by correct or wrong and confident or unsure."""
        counts = self._view.count_outcomes(self._first, self._last).tolist()
        return dict(zip(analysis.OUTCOMES, counts, strict=True))

    def mean_error(self) -> float | None:
        """Average the errors, None where there is none."""
        if not self._derives_error:
            return analysis.finite_mean(self.column("error"))
        counts = self.count_outcomes()
        wrong = counts["wrong_unsure"] + counts["wrong_confident"]
        known = sum(counts.values())
        return wrong / known if known else None

    def find(
        self, chosen: Filter, sort: str, *, descending: bool = False, offset: int = 0, limit: int = 1
    ) -> tuple[Array, int]:
        """Return a page of the samples of a filter, and how many there are.

        Args:
            chosen: Which samples.
            sort: "step", "sample" (the place in the batch), one of `COLUMNS`
                or, of samples that are followed, of `dynamics.FIGURES`. What
                is missing comes last in both directions, and equal values in
                the order of the samples.
            descending: Largest first.
            offset: Of the first sample of the page.
            limit: Most samples of the page.

        Returns:
            Numbers of samples, int64, and the count.
        """
        stop = offset + limit
        if sort == "step":
            return self._page_by_step(chosen, descending, offset, stop)
        if chosen.takes_all and len(self) > STRETCH and (kept := _KEPT.get(sort, sort)) in self._view.columns:
            codes = self._view.count_codes(kept, self._first, self._last)
            rows, keys, before = self._narrow(sort, codes, descending, offset, stop)
            total = len(self)
        else:
            rows, keys = self._gather(chosen, sort)
            before, total = 0, len(rows)
        order = analysis.sort_order(keys, descending=descending, offset=offset - before, stop=stop - before)
        return rows[order], total

    # -- pages ----------------------------------------------------------------------------------------------------

    def _page_by_step(self, chosen: Filter, descending: bool, offset: int, stop: int) -> tuple[Array, int]:
        """Return a page in the order of the batches."""
        stretches = list(self._marked(chosen))
        total = sum(count for *_, count in stretches)
        found, passed = [np.zeros(0, np.int64)], 0
        for start, end, mask, count in reversed(stretches) if descending else stretches:
            if passed + count > offset and passed < stop:
                rows = start + (np.arange(end - start) if mask is None else np.flatnonzero(mask))
                if descending:
                    batch = np.searchsorted(self._view.starts, self._begin + rows, side="right")
                    rows = rows[np.argsort(-batch, kind="stable")]
                found.append(rows[max(0, offset - passed) : stop - passed])
            passed += count
        return np.concatenate(found), total

    def _gather(self, chosen: Filter, sort: str) -> tuple[Array, Array]:
        """Return the samples of a filter and their keys."""
        found, keys = [np.zeros(0, np.int64)], [self._part(sort, 0, 0)]
        for start, end, mask, _ in self._marked(chosen):
            part = self._part(sort, start, end)
            found.append(np.arange(start, end) if mask is None else start + np.flatnonzero(mask))
            keys.append(part if mask is None else part[found[-1] - start])
        return np.concatenate(found), np.concatenate(keys)

    def _narrow(self, sort: str, codes: Array, descending: bool, offset: int, stop: int) -> tuple[Array, Array, int]:
        """Return the samples among which a page is.

        Args:
            sort: What they are ranked by.
            codes: How many samples have each of the `analysis.rank_codes`.
            descending: Largest first.
            offset: Where the page begins.
            stop: Where it ends.

        Returns:
            Their numbers and keys, and how many samples come before them.
        """
        order = np.arange(analysis.RANK_CODES)
        if descending:
            order[:-1] = order[-2::-1]  # what is missing stays last
        ends = np.cumsum(codes[order])
        low, high = np.searchsorted(ends, [offset, stop - 1], side="right").clip(max=len(order) - 1)
        missing = analysis.RANK_CODES - 1
        to_end = int(order[high]) == missing
        # A page that ends among the missing has all from its first code on.
        last = (0 if descending else missing - 1) if to_end else int(order[high])
        first = int(order[low])
        least, greatest = (last, first) if descending else (first, last)
        if first == missing:
            least, greatest = 1, 0
        found, keys = [np.zeros(0, np.int64)], [self._part(sort, 0, 0)]
        for start, end, *_ in self._marked(Filter()):
            part = self._part(sort, start, end)
            inside = analysis.mark_codes(part, least, greatest) if least <= greatest else np.zeros(len(part), bool)
            if to_end:
                inside |= analysis.mark_missing(part)
            found.append(start + np.flatnonzero(inside))
            keys.append(part[found[-1] - start])
        return np.concatenate(found), np.concatenate(keys), int(ends[low] - codes[order[low]])

    def _marked(self, chosen: Filter) -> Iterator[tuple[int, int, Array | None, int]]:
        """Yield stretches of whole batches.

        Each with its first sample, the one after its last, which are marked
        (None: all) and how many.
        """
        starts = self._view.starts[self._first : self._last + 1] - self._begin
        wanted, latest = self._mark_ids(chosen), self._mark_last() if chosen.each == "last" else None
        batch = 0
        while batch < len(starts) - 1:
            following = int(np.searchsorted(starts, starts[batch] + STRETCH, side="right")) - 1
            following = max(following, batch + 1)
            start, end = int(starts[batch]), int(starts[following])
            marks = self._marks(chosen, start, end)
            if latest is not None:
                marks.append(latest[start:end])
            if wanted is not None:
                marks.append(wanted[self._codes(start, end)])
            # Not logical_and.reduce, which copies them all into one array first.
            mask = functools.reduce(np.logical_and, marks) if marks else None
            yield start, end, mask, end - start if mask is None else int(np.count_nonzero(mask))
            batch = following

    def _marks(self, chosen: Filter, start: int, end: int) -> list[Array]:
        """Mark the samples of a filter by each of their columns it asks for.

        With several labels or decisions a sample is wrong if any of them is;
        predicted numbers are neither right nor wrong.
        """
        marks = [
            self._part(name, start, end) == number
            for name, number in (("target", chosen.target), ("predicted", chosen.predicted))
            if number is not None
        ]
        if chosen.outcome != "all":
            target, predicted = self._part("target", start, end), self._part("predicted", start, end)
            right = chosen.outcome == "correct"
            mark = (analysis.mark_correct if right else analysis.mark_wrong)(target, predicted)
            if self._spec.task != "regression" and not self._derives_error:
                error = self._part("error", start, end)
                mark |= (target < 0) & ((error == 0) if right else (error > 0))
            if chosen.outcome == "confidently_wrong":
                mark &= self._part("confidence", start, end) >= analysis.CONFIDENT
            marks.append(mark)
        for name, (least, greatest) in (("confidence", chosen.confidence), ("loss", chosen.loss)):
            if (least, greatest) != ANY:
                marks.append(_within(self._part(name, start, end), least, greatest))
        return marks

    def _mark_last(self) -> Array:
        """Mark where each id is last in the range."""
        ids, begin = self._known.ids, self._begin

        def mark() -> Array:
            return dynamics.mark_last(ids.codes[begin : begin + len(self)], ids.count)

        marks: Array = ids.keep(("last", self._first, self._last), mark)
        return marks

    def _mark_ids(self, chosen: Filter) -> Array | None:
        """Mark the codes of a filter; the last mark is for those without id."""
        marks = [] if chosen.codes is None else [chosen.codes]
        if chosen.needs_dynamics:
            figures = self._dynamics
            marks.append(figures.seen > 0)
            if chosen.learning != "all":
                marks.append(figures.forgotten if chosen.learning == "forgotten" else figures.never_learned)
            for name in ("mean_target_score", "variability"):
                if getattr(chosen, name) != ANY:
                    marks.append(_within(getattr(figures, name), *getattr(chosen, name)))
        return np.append(np.logical_and.reduce(marks), False) if marks else None

    # -- columns --------------------------------------------------------------------------------------------------

    @property
    def _derives_error(self) -> bool:
        """Tell whether the error is whether both classes are the same."""
        return self._spec.has_classes and "error" not in self._view.columns

    def _derive_error(self, target: Array, predicted: Array) -> Array:
        known = (target >= 0) & (predicted >= 0)
        return np.where(known, (target != predicted).astype(np.float32), np.float32(np.nan))

    def _part(self, name: str, start: int, end: int) -> Array:
        """Return a column of the samples from `start` up to before `end`."""
        if name == "sample":
            rows = np.arange(self._begin + start, self._begin + end)
            starts: Array = self._view.starts
            return rows - starts[np.searchsorted(starts, rows, side="right") - 1]
        if name == "error" and self._derives_error:
            return self._derive_error(self._part("target", start, end), self._part("predicted", start, end))
        if name in dynamics.FIGURES:
            return self._figure(name, self._codes(start, end))
        return self._view.part(_KEPT.get(name, name), self._begin + start, self._begin + end)

    def _figure(self, name: str, codes: Array) -> Array:
        """Return a figure of the ids of samples; NaN without one."""
        if name not in self._figures:
            values = getattr(self._dynamics, name).astype(np.float32)
            self._figures[name] = np.append(values, np.float32(np.nan))
        return self._figures[name][codes]

    def _codes(self, start: int, end: int) -> Array:
        return self._known.ids.codes[self._begin + start : self._begin + end]

    @property
    def _known(self) -> Followed:
        assert self._followed is not None, "what asks for ids comes with them"
        return self._followed

    @property
    def _dynamics(self) -> Dynamics:
        assert self._known.dynamics is not None, "what asks for figures comes with them"
        return self._known.dynamics


def _within(values: Array, least: float | None, greatest: float | None) -> Array:
    """Mark values from `least` to `greatest`; NaN is nowhere within."""
    marks: Array = ~np.isnan(values)
    with np.errstate(over="ignore"):  # past the greatest float32 is infinity
        if least is not None:
            marks &= values >= np.float32(least)
        if greatest is not None:
            marks &= values <= np.float32(greatest)
    return marks
