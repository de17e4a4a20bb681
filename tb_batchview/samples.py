"""Filter and rank the samples of a range of batches.

Called by `answers`. Calls `views` for the columns and `analysis` for what is
right and wrong. Samples are looked at a stretch at a time, so that a page of
millions needs memory for the page; a page far from both ends needs 8 bytes a
sample.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from tb_batchview import analysis
from tb_batchview.records import OutputSpec
from tb_batchview.views import SampleView

Array = npt.NDArray[Any]

OUTCOMES = ("all", "correct", "wrong", "confidently_wrong")
COLUMNS = ("target", "predicted", "confidence", "target_score", "loss", "error")
# Samples looked at together: their columns stay in the processor's cache.
STRETCH = 1 << 16
# Up to this end of a page the best samples are kept while looking; beyond, all keys are.
NEAR = 1 << 14


@dataclasses.dataclass(frozen=True)
class Filter:
    """Which samples are wanted.

    Attributes:
        outcome: One of `OUTCOMES`.
        target: Class number, or None for any.
        predicted: Class number, or None for any.
    """

    outcome: str = "all"
    target: int | None = None
    predicted: int | None = None


class Samples:
    """The samples of one output in the batches `first` to `last`.

    They are numbered from 0 within the range.
    """

    def __init__(self, view: SampleView, spec: OutputSpec, first: int, last: int) -> None:
        """Look at a range.

        Args:
            view: The samples of all batches.
            spec: Of their output.
            first: Row of the first batch.
            last: Row after the last one.
        """
        self._view = view
        self._spec = spec
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
        return self._part(name, 0, len(self))[numbers]

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
            sort: "step", "sample" (the place in the batch) or one of
                `COLUMNS`. What is missing comes last in both directions, and
                equal values in the order of the samples.
            descending: Largest first.
            offset: Of the first sample of the page.
            limit: Most samples of the page.

        Returns:
            Numbers of samples, int64, and the count.
        """
        if sort == "step":
            return self._page_by_step(chosen, descending, offset, offset + limit)
        if offset + limit <= NEAR:
            return self._page_near(chosen, sort, descending, offset, offset + limit)
        return self._page_far(chosen, sort, descending, offset, offset + limit)

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

    def _page_near(self, chosen: Filter, sort: str, descending: bool, offset: int, stop: int) -> tuple[Array, int]:
        """Return a page near the beginning: the best so far are kept."""
        total, border = 0, np.inf
        kept_keys, kept_rows, absent = [np.zeros(0)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        waiting, without = 0, 0
        for rows, keys in self._keys(chosen, sort, descending):
            total += len(rows)
            if without < stop:
                missing = rows[np.isnan(keys)][: stop - without]
                absent.append(missing)
                without += len(missing)
            # Of equal keys the first rows count: those at the border are there already.
            better = np.flatnonzero(keys < border if border < np.inf else ~np.isnan(keys))
            kept_keys.append(keys[better])
            kept_rows.append(rows[better])
            waiting += len(better)
            if waiting > stop + STRETCH // 4:
                best, best_rows = _first(np.concatenate(kept_keys), np.concatenate(kept_rows), stop)
                kept_keys, kept_rows, waiting = [best], [best_rows], len(best)
                border = float(best[-1])
        _, rows = _first(np.concatenate(kept_keys), np.concatenate(kept_rows), stop)
        return np.concatenate([rows, *absent])[offset:stop], total

    def _page_far(self, chosen: Filter, sort: str, descending: bool, offset: int, stop: int) -> tuple[Array, int]:
        """Return any page; of all the samples only its own are sorted."""
        parts = list(self._keys(chosen, sort, descending))
        rows = np.concatenate([rows for rows, _ in parts]) if parts else np.zeros(0, np.int64)
        keys = np.concatenate([keys for _, keys in parts]) if parts else np.zeros(0)
        known = len(keys) - int(np.count_nonzero(np.isnan(keys)))
        low, high = min(offset, known), min(stop, known)
        page = [np.zeros(0, np.int64)]
        if low < high:
            least, greatest = np.partition(keys, [low, high - 1])[[low, high - 1]]
            among = np.flatnonzero((keys >= least) & (keys <= greatest))
            begin = low - int(np.count_nonzero(keys < least))
            page.append(rows[among[np.argsort(keys[among], kind="stable")]][begin : begin + high - low])
        if stop > known:
            page.append(rows[np.isnan(keys)][max(0, offset - known) : stop - known])
        return np.concatenate(page), len(keys)

    def _keys(self, chosen: Filter, sort: str, descending: bool) -> Iterator[tuple[Array, Array]]:
        """Yield samples and their keys, least first; NaN is missing."""
        for start, end, mask, _ in self._marked(chosen):
            keys = self._part(sort, start, end).astype(np.float64)
            if sort in ("target", "predicted"):
                keys[keys < 0] = np.nan
            if descending:
                keys = -keys
            if mask is None:
                yield np.arange(start, end), keys
            else:
                rows = np.flatnonzero(mask)
                yield start + rows, keys[rows]

    def _marked(self, chosen: Filter) -> Iterator[tuple[int, int, Array | None, int]]:
        """Yield stretches of whole batches.

        Each with its first sample, the one after its last, which are marked
        (None: all) and how many.
        """
        starts = self._view.starts[self._first : self._last + 1] - self._begin
        batch = 0
        while batch < len(starts) - 1:
            following = int(np.searchsorted(starts, starts[batch] + STRETCH, side="right")) - 1
            following = max(following, batch + 1)
            start, end = int(starts[batch]), int(starts[following])
            mask = self._mark(chosen, start, end)
            yield start, end, mask, end - start if mask is None else int(np.count_nonzero(mask))
            batch = following

    def _mark(self, chosen: Filter, start: int, end: int) -> Array | None:
        """Mark the samples of a filter; None stands for all.

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
        return np.logical_and.reduce(marks) if marks else None

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
        name = "sample_loss" if name == "loss" else name
        return self._view.part(name, self._begin + start, self._begin + end)


def _first(keys: Array, rows: Array, count: int) -> tuple[Array, Array]:
    """Return the rows of the `count` least keys, of equal keys the first rows."""
    if 0 < count < len(keys) // 4:
        border = np.partition(keys, count - 1)[count - 1]
        near = np.flatnonzero(keys <= border)
        keys, rows = keys[near], rows[near]
    order = np.argsort(keys, kind="stable")[:count]
    return keys[order], rows[order]
