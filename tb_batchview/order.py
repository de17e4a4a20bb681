"""Put rows in order without moving them: stretches of rows tell which count.

Called by `columns` and `shards`. A batch that is recorded anew is a row at the end, and the
order leaves the earlier one out: what it costs is what is new, not what is
there. Nothing here reads a file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# Rows are moved to where they belong, which costs what all of them cost, only when at least one in so many is new: when
# a file is read for the first time, or was left out for long.
NEW_SHARE = 4

# So many stretches are put together one by one; of more, every row is looked up.
_FEW = 4096


class Order:
    """Rows of growing columns in the order in which they count.

    Made of stretches of rows that follow each other; never changed.

    Attributes:
        begins: int64, the first row of each stretch; none is empty.
        ends: int64, the row after its last one.
        places: int64, shape (stretches + 1,): where each begins among all
            that count.
    """

    def __init__(self, begins: Array, ends: Array) -> None:
        """Join stretches of which one goes on where another ends.

        Args:
            begins: First row of each.
            ends: Row after the last one.
        """
        there = begins < ends
        begins, ends = begins[there], ends[there]
        apart = begins[1:] != ends[:-1]
        self.begins: Array = begins[np.append(True, apart)[: len(begins)]]
        self.ends: Array = ends[np.append(apart, True)[: len(ends)]]
        self.places: Array = np.concatenate([[0], np.cumsum(self.ends - self.begins)]).astype(np.int64)

    @classmethod
    def of(cls, rows: Array) -> Order:
        """Return the order that names each row by itself."""
        return cls(rows, rows + 1)

    def __len__(self) -> int:
        return int(self.places[-1])

    @property
    def is_plain(self) -> bool:
        """Tell whether what counts are the first rows, as they are."""
        return not len(self.begins) or (len(self.begins) == 1 and not self.begins[0])

    def rows(self) -> Array:
        """Return each row."""
        return spread(self.begins, self.ends)

    def take(self, column: Array) -> Array:
        """Return what a column has in the rows that count, read-only."""
        return Pieces(column, self.begins, self.ends)[:]

    def pick(self, sparse: Array) -> tuple[Array, Array]:
        """Find rows that count among some.

        Args:
            sparse: Rows, ascending.

        Returns:
            Which of `sparse` count, and the places of these.
        """
        first, last = np.searchsorted(sparse, self.begins), np.searchsorted(sparse, self.ends)
        found = spread(first, last)
        return found, sparse[found] + np.repeat(self.places[:-1] - self.begins, last - first)

    def extended(self, begin: int, end: int) -> Order:
        """Return the order with further rows after all others."""
        return Order(np.append(self.begins, begin), np.append(self.ends, end))

    def merged(self, rows: Array, step: Array, rank: Callable[[Array], Array]) -> tuple[Order, int]:
        """Return the order with more rows, ascending by step.

        Args:
            rows: New ones.
            step: Of all rows.
            rank: Of some rows. Of one step the row of the highest rank counts,
                of these the last.

        Returns:
            The order, and the place before which it is as it was.
        """
        rows = rows[np.lexsort((rows, rank(rows), step[rows]))]
        steps = step[rows]
        rows = rows[np.append(steps[1:] != steps[:-1], True)]
        if not len(self):
            return Order.of(rows), 0
        # The stretch that a row comes into, or goes after.
        stretch = np.maximum(np.searchsorted(step[self.begins], step[rows], side="right") - 1, 0)
        touched, firsts = np.unique(stretch, return_index=True)
        groups = np.split(rows, firsts[1:])
        before: list[Array] = []
        after: list[Array] = []
        done, changed = 0, len(self)
        for number, group in zip(touched.tolist(), groups, strict=True):
            begin, end = int(self.begins[number]), int(self.ends[number])
            old = begin + np.searchsorted(step[begin:end], step[group])
            same = (old < end) & (step[np.minimum(old, end - 1)] == step[group])
            wins = ~same | (rank(group) >= rank(np.minimum(old, end - 1)))
            group, old, same = group[wins], old[wins], same[wins]
            if not len(group):
                continue
            changed = min(changed, int(self.places[number]) + int(old[0]) - begin)
            # Old rows up to each new one, the new one, and the old ones after the last.
            pieces = np.empty((2, 2 * len(group) + 1), np.int64)
            pieces[0, 0], pieces[1, -1] = begin, end
            pieces[1, 0:-1:2], pieces[0, 2::2] = old, old + same
            pieces[0, 1::2], pieces[1, 1::2] = group, group + 1
            before += [self.begins[done:number], pieces[0]]
            after += [self.ends[done:number], pieces[1]]
            done = number + 1
        if not before:
            return self, len(self)
        made = Order(np.concatenate([*before, self.begins[done:]]), np.concatenate([*after, self.ends[done:]]))
        return made, changed


class Pieces:
    """Stretches of a column as if they followed each other.

    What is looked at is put together: a copy, where it is of more than one.
    """

    def __init__(self, column: Array, begins: Array, ends: Array) -> None:
        """Copy nothing yet.

        Args:
            column: All rows.
            begins: First row of each stretch.
            ends: Row after its last one.
        """
        self._column = column
        self._begins = begins
        self._ends = ends
        self._places: Array = np.concatenate([[0], np.cumsum(ends - begins)]).astype(np.int64)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the type of the rows."""
        return self._column.dtype

    def __len__(self) -> int:
        return int(self._places[-1])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        rows = self[:]
        return rows.astype(dtype) if dtype is not None or copy else rows

    def __getitem__(self, part: slice) -> Array:
        start, stop, _ = part.indices(len(self))
        first = int(np.searchsorted(self._places, start, side="right")) - 1
        last = int(np.searchsorted(self._places, stop))
        begins, ends = self._begins[first:last].copy(), self._ends[first:last].copy()
        if start >= stop:
            return self._column[:0]
        begins[0] += start - self._places[first]
        ends[-1] -= self._places[last] - stop
        if len(begins) == 1:
            return self._column[begins[0] : ends[0]]
        if len(begins) <= _FEW:
            rows = np.concatenate(
                [self._column[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
            )
        else:
            rows = self._column[spread(begins, ends)]
        rows.flags.writeable = False
        return rows


def spread(begins: Array, ends: Array) -> Array:
    """Return the numbers from each begin up to before its end."""
    lengths = ends - begins
    stops = np.cumsum(lengths)
    numbers: Array = np.arange(int(stops[-1]) if len(stops) else 0) + np.repeat(begins - stops + lengths, lengths)
    return numbers
