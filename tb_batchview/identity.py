"""Tell which samples are the same one: a small number for each id.

Called by `views` and `following`. The snapshots of a growing run share an `Identity`:
only batches that are new are read. Safe under threads. Nothing here reads a
file.
"""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tb_batchview.errors import ArgumentError

Array = npt.NDArray[Any]
Id = int | str

NO_CODE = -1  # of a sample without an id
# What telling ids apart may take: 4 bytes a sample, and the ids themselves.
MOST_SAMPLES = 50_000_000
MOST_BYTES = 1 << 29
_BYTES_PER_ID = 120  # of its entries in a dict and a list
_KEPT = 4  # answers to questions that are asked again with every page


class Ids:
    """The ids of one moment: of each sample a code, and of each code the id.

    Attributes:
        codes: int32, shape (samples,): numbers of the ids from 0, in the order
            in which they first appear; `NO_CODE` where a sample has none.
        count: How many ids there are.
    """

    def __init__(self, codes: Array, table: dict[Id, int], names: list[Id]) -> None:
        """Take a snapshot of what may grow further.

        Args:
            codes: Of the samples.
            table: Code of each id.
            names: The ids by their codes.
        """
        self.codes = codes
        self.count = len(names)
        self._table = table
        self._names = names
        self._lock = threading.Lock()
        self._kept: dict[Any, Any] = {}

    def name(self, code: int) -> Id:
        """Return the id of a code."""
        return self._names[code]

    def names(self) -> Iterator[Id]:
        """Return the ids in the order of their codes."""
        return itertools.islice(self._names, self.count)

    def find(self, wanted: Id) -> list[int]:
        """Return the code of an id; of a text also that of the number it is."""
        ids = [wanted]
        if isinstance(wanted, str) and (number := _whole(wanted)) is not None:
            ids.append(number)
        found = (self._table.get(item, NO_CODE) for item in ids)
        return [code for code in found if 0 <= code < self.count]

    def match(self, other: Ids) -> Array:
        """Return the code of each of these ids among others.

        Returns:
            int64, shape (count,): `NO_CODE` where the others have it not.
        """
        if other is self:
            return np.arange(self.count)

        def look() -> Array:
            found = np.fromiter((other._table.get(name, NO_CODE) for name in self.names()), np.int64, self.count)
            # The table may have grown since this moment.
            return np.where(found < other.count, found, NO_CODE)

        codes: Array = self.keep(("match", other), look)
        return codes

    def search(self, part: str) -> Array:
        """Mark the ids that hold a text; upper and lower case are the same.

        Returns:
            bool, shape (count,).
        """
        part = part.lower()

        def look() -> Array:
            marks = np.fromiter((part in str(name).lower() for name in self.names()), bool, self.count)
            marks.flags.writeable = False  # kept for the next who asks
            return marks

        return self.keep(("search", part), look)

    def keep(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return what was made of these ids before, or make it now.

        A few answers are kept, those asked for last.
        """
        with self._lock:
            value = self._kept.pop(key) if key in self._kept else make()
            self._kept[key] = value
            if len(self._kept) > _KEPT:
                del self._kept[next(iter(self._kept))]
        return value


class Identity:
    """The ids of a growing run."""

    def __init__(self, earlier: tuple[Identity, int] | None = None) -> None:
        """Know nothing yet.

        Args:
            earlier: Of other batches, and how many are the same.
        """
        self._lock = threading.Lock()
        self._earlier = earlier
        self._codes = np.zeros(0, np.int32)
        self._samples = 0
        self._batches = 0
        self._table: dict[Id, int] = {}
        self._names: list[Id] = []
        self._bytes = 0
        self._latest: Ids | None = None

    def before(self, row: int) -> Identity:
        """Return one to go on with when the batches from a row on change.

        The ids that were read already are taken over when they are needed.
        """
        origin, same = self._earlier or (self, row)
        return Identity((origin, min(same, row)))

    def follow(self, starts: Array, read: Callable[[int], Array | None]) -> Ids:
        """Return the ids of all batches; those that are new are read.

        Args:
            starts: int64, shape (batches + 1,): batch i has the samples
                `starts[i]` to `starts[i + 1]`.
            read: Reads the ids of a batch; None where it has none.

        Raises:
            ArgumentError: There are too many samples or ids.
        """
        samples = int(starts[-1])
        with self._lock:
            if self._earlier is not None:
                self._take_over(*self._earlier, starts)
                self._earlier = None
            if samples > MOST_SAMPLES:
                raise _too_many(samples, len(self._names))
            if samples > len(self._codes):
                room = np.full(min(MOST_SAMPLES, max(samples, len(self._codes) * 3 // 2)), NO_CODE, np.int32)
                room[: self._samples] = self._codes[: self._samples]
                self._codes = room
            for row in range(self._batches, len(starts) - 1):
                first, last = int(starts[row]), int(starts[row + 1])
                if last > first:
                    self._add(first, last, read(row))
                self._batches, self._samples = row + 1, last
            if self._latest is None or len(self._latest.codes) < samples:
                # Another thread may write beyond these, and never changes them.
                codes = self._codes[:samples]
                codes.flags.writeable = False
                self._latest = Ids(codes, self._table, self._names)
            latest = self._latest
        return latest if len(latest.codes) == samples else Ids(latest.codes[:samples], self._table, self._names)

    def _take_over(self, origin: Identity, same: int, starts: Array) -> None:
        """Begin with the batches before `same`, as others knew them."""
        with origin._lock:
            self._batches = min(origin._batches, same, len(starts) - 1)
            self._samples = int(starts[self._batches])
            self._codes = origin._codes[: self._samples].copy()
            # In the order of their first samples: those of the batches taken over come first.
            self._names = origin._names[: int(self._codes.max(initial=NO_CODE)) + 1]
        self._table = {name: code for code, name in enumerate(self._names)}
        self._bytes = sum(map(sys.getsizeof, self._names)) + _BYTES_PER_ID * len(self._names)

    def _add(self, first: int, last: int, ids: Array | None) -> None:
        if ids is None:
            return
        table, names = self._table, self._names
        items = ids.tolist()[: last - first]
        codes = [table.get(item, NO_CODE) for item in items]
        for place in [place for place, code in enumerate(codes) if code == NO_CODE]:
            item = items[place]
            if item is None:
                continue
            if item not in table:  # else it is twice in this batch
                self._bytes += sys.getsizeof(item) + _BYTES_PER_ID
                if self._bytes > MOST_BYTES:
                    raise _too_many(last, len(names))
                names.append(item)
                table[item] = len(names) - 1
            codes[place] = table[item]
        self._codes[first : first + len(codes)] = codes

    def join(self, parts: Callable[[], Sequence[tuple[Ids, Array]]], samples: int) -> Ids:
        """Return the ids of several workers, put together once.

        Args:
            parts: Makes the ids of each, and where its samples are.
            samples: Of all of them.
        """
        with self._lock:
            if self._latest is None:
                self._latest = _join(parts(), samples)
            return self._latest


def _join(parts: Sequence[tuple[Ids, Array]], samples: int) -> Ids:
    table: dict[Id, int] = {}
    codes = np.full(samples, NO_CODE, np.int32)
    for ids, places in parts:
        renumbered = [table.setdefault(name, len(table)) for name in ids.names()]
        codes[places] = np.array([*renumbered, NO_CODE], np.int32)[ids.codes]
    names = list(table)
    # By first appearance among all, as in a run of one worker.
    _, first = np.unique(codes[codes >= 0], return_index=True)
    order = np.argsort(first)
    ranks = np.full(len(names) + 1, NO_CODE, np.int32)
    ranks[order] = np.arange(len(order))
    names = [names[code] for code in order.tolist()]
    return Ids(ranks[codes], {name: code for code, name in enumerate(names)}, names)


def _whole(text: str) -> int | None:
    """Return the number that a text is in its usual form, else None."""
    if not text.isascii() or len(text) > 20 or not text.removeprefix("-").isdigit():
        return None
    number = int(text)
    return number if str(number) == text else None


def _too_many(samples: int, ids: int) -> ArgumentError:
    return ArgumentError(
        f"Samples can be followed by their ids up to {MOST_SAMPLES:,} samples, and {MOST_BYTES >> 20} MB of ids. "
        f"Received: {samples:,} samples, with {ids:,} ids and more. Export them, and ask a database."
    )
