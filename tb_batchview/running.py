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

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._size = 1  # batches between two sums
        # As uint32, whose differences are right for ranges of fewer than 2**32 samples.
        self._sums: list[Array] = []

    def count(self, count: Count, borders: Sequence[int], *, batches: int, samples: int) -> Array:
        """Count the batches between each two neighbouring borders.

        Args:
            count: Counts the samples of a range of batches; integers of one
                shape, whatever the range.
            borders: Rows, ascending: a range begins with one of them and ends
                before the next.
            batches: Rows that there are.
            samples: Samples of all of them.

        Returns:
            int64, shape (len(borders) - 1, …): what `count` returns of each.
        """
        with self._lock:
            # Another thread may add to this list later, and never changes what is in it.
            sums, size = self._extend(count, batches, samples)
            # Those of a later snapshot are before batches that this one may not have.
            sums = sums[: batches // size + 1]
        if len(sums) < 2 or borders[-1] - borders[0] <= size:
            ranges = itertools.pairwise(borders)
            parts = [count(first, last).astype(np.int64, copy=False) for first, last in ranges]
            return np.stack(parts) if parts else np.zeros((0, *sums[0].shape), np.int64)
        whole = [_count_before(sums, size, row, count) for row in borders]
        # One by one: a stack of large sums would be copied once more.
        counts: Array = np.empty((len(borders) - 1, *sums[0].shape), np.int64)
        for place, (before, after) in enumerate(itertools.pairwise(whole)):
            counts[place] = after - before
        return counts

    def _extend(self, count: Count, batches: int, samples: int) -> tuple[list[Array], int]:
        """Count what is new; return the sums and the batches between two."""
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


def _count_before(sums: list[Array], size: int, row: int, count: Count) -> Array:
    """Return what was counted before a row, from the nearest sum."""
    nearest = min((row + size // 2) // size, len(sums) - 1)
    begin = nearest * size
    if begin < row:
        return sums[nearest] + count(begin, row).astype(np.uint32)
    return sums[nearest] - count(row, begin).astype(np.uint32) if begin > row else sums[nearest]


class RunningSpikes:
    """The batches of a growing run whose loss stands out."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._rows: Array = np.zeros(0, np.int64)
        self._ratios: Array = np.zeros(0)

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
