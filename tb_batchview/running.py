"""Count once while a run grows: sums of ranges, and the batches that stand out.

Called by `views`, which gives the snapshots of a growing run one of each: a
snapshot has the rows of the one before and more. Calls `analysis`. Safe under
threads. Nothing here reads a file.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tb_batchview import analysis

Array = npt.NDArray[Any]
Count = Callable[[int, int], Array]
Cells = Callable[[int, int], Array]

# Memory of the sums of one kind: at most so many places where a sum is kept, so many bytes, and so many per sample.
MOST_SUMS = 4096
MOST_BYTES = 1 << 26
BYTES_PER_SAMPLE = 16


class RunningSums:
    """Counts of all batches before every so many, to count any range quickly.

    A range is the difference of two sums, and of what lies between its ends
    and the nearest of them: with n samples and k sums at most n / k samples
    are looked at, whatever the range. Where a sum would be as large as the
    samples that it stands for, these are counted.
    """

    def __init__(self, earlier: tuple[RunningSums, int] | None = None) -> None:
        """Count nothing yet.

        Args:
            earlier: Those of other batches, and how many are the same.
        """
        self._lock = threading.Lock()
        self._earlier = earlier
        self._size = 1  # batches between two sums
        # As uint32, whose differences are right for ranges of fewer than 2**32 samples.
        self._sums: list[Array] = []

    def before(self, row: int) -> RunningSums:
        """Return sums to go on with when the batches from a row on change.

        What is counted already is taken over when it is needed.
        """
        origin, same = self._earlier or (self, row)
        return RunningSums((origin, min(same, row)))

    def count(
        self, count: Count, borders: Sequence[int], *, batches: int, samples: int, cells: Cells | None = None
    ) -> Array:
        """Count the batches between each two neighbouring borders.

        Args:
            count: Counts the samples of a range of batches; integers of one
                shape, whatever the range.
            borders: Rows, ascending: a range begins with one of them and ends
                before the next.
            batches: Rows that there are.
            samples: Samples of all of them.
            cells: Of a range of batches, which number of the flattened count
                goes up by one, for each sample: quicker than a whole count
                where that is large.

        Returns:
            uint32, shape (len(borders) - 1, …): what `count` returns of each.
        """
        with self._lock:
            # Another thread may add to this list later, and never changes what is in it.
            sums, size = self._extend(count, batches, samples)
            # Those of a later snapshot are before batches that this one may not have.
            sums = sums[: batches // size + 1]
        counts: Array = np.zeros((len(borders) - 1, *sums[0].shape), np.uint32)
        if len(sums) < 2 or borders[-1] - borders[0] <= size:
            for place, (first, last) in enumerate(itertools.pairwise(borders)):
                counts[place] = count(first, last)
            return counts
        for place, row in enumerate(borders):
            nearest = min((row + size // 2) // size, len(sums) - 1)
            begin = nearest * size
            between = None if begin == row else (cells or count)(*sorted((begin, row)))
            # A border ends the range before it and begins the one after.
            for number, ends in ((place - 1, True), (place, False)):
                if 0 <= number < len(counts):
                    _add(counts[number], sums[nearest], add=ends)
                    if between is not None:
                        (_add_cells if cells else _add)(counts[number], between, add=ends == (begin < row))
        return counts

    def _extend(self, count: Count, batches: int, samples: int) -> tuple[list[Array], int]:
        """Count what is new; return the sums and the batches between two."""
        if self._earlier is not None:
            origin, same = self._earlier
            with origin._lock:
                self._size, self._sums = origin._size, origin._sums[: same // origin._size + 1]
            self._earlier = None
        if not self._sums:
            self._sums = [np.zeros_like(count(0, 0), np.uint32)]
        most = min(MOST_SUMS, min(MOST_BYTES, BYTES_PER_SAMPLE * samples) // max(1, self._sums[0].nbytes))
        while batches // self._size > max(1, most):
            self._sums = self._sums[::2]
            self._size *= 2
        if most > 1:
            for place in range(len(self._sums), batches // self._size + 1):
                counted = count((place - 1) * self._size, place * self._size)
                self._sums.append(self._sums[-1] + counted.astype(np.uint32))
        return self._sums, self._size


def _add(counts: Array, more: Array, *, add: bool) -> None:
    """Add counts to others in place, or subtract them."""
    (np.add if add else np.subtract)(counts, more.astype(np.uint32, copy=False), out=counts)


def _add_cells(counts: Array, cells: Array, *, add: bool) -> None:
    """Add one to each of some numbers of a count in place, or subtract it."""
    (np.add if add else np.subtract).at(counts.reshape(-1), cells, np.uint32(1))


class RunningSpikes:
    """The batches of a growing run whose loss stands out."""

    def __init__(self, earlier: tuple[RunningSpikes, int] | None = None) -> None:
        """Find nothing yet.

        Args:
            earlier: Those of other batches, and how many are the same.
        """
        self._lock = threading.Lock()
        self._earlier = earlier
        self._count = 0
        self._rows: Array = np.zeros(0, np.int64)
        self._ratios: Array = np.zeros(0)

    def before(self, row: int) -> RunningSpikes:
        """Return spikes to go on with when the batches from a row on change."""
        origin, same = self._earlier or (self, row)
        return RunningSpikes((origin, min(same, row)))

    def find(self, losses: Array, first: int, last: int, limit: int) -> list[analysis.Spike]:
        """Find the spikes among the batches `first` up to before `last`.

        Args:
            losses: Of all batches, those before the range too.
            first: Row of the first batch.
            last: Row after the last one.
            limit: At most so many are returned.

        Returns:
            See `analysis.rank_spikes`. Each is compared with the batches before
            it, whether these are in the range or not.
        """
        with self._lock:
            if self._earlier is not None:
                origin, same = self._earlier
                with origin._lock:
                    known = origin._rows < same
                    self._count = min(origin._count, same)
                    self._rows, self._ratios = origin._rows[known], origin._ratios[known]
                self._earlier = None
            if len(losses) > self._count:
                # What stands out depends on the batches before, and on none after.
                begin = max(0, self._count - analysis.SPIKE_WINDOW)
                rows, ratios = analysis.mark_spikes(losses[begin:])
                new = begin + rows >= self._count
                self._rows = np.concatenate([self._rows, begin + rows[new]])
                self._ratios = np.concatenate([self._ratios, ratios[new]])
                self._count = len(losses)
            rows, ratios = self._rows, self._ratios
        within = slice(*np.searchsorted(rows, [first, last]))
        return analysis.rank_spikes(losses, rows[within], ratios[within], limit)
