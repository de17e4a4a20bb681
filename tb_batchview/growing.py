"""One column that grows: in memory while it is small, then in a temporary file.

Called by `columns`. A long column is handed out as a read-only map of its file:
when it grows, nothing is copied, and the system may take the memory back. What
was handed out never changes, whatever is added later. The files have no name,
so that nothing of them stays behind, however the process ends.
"""

from __future__ import annotations

import collections
import functools
import mmap
import os
import tempfile
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# A column that needs more goes into a file. All columns of a phase pass this at about the same
# batch: what is copied then is what the slowest refresh takes.
LARGEST_IN_MEMORY = 2 << 20
# Descriptors of files and maps in the whole process, two of each column; the rest stays in memory.
MOST_DESCRIPTORS = 256

# Rows or pieces that wait to be joined; a piece may keep a whole record (64 KiB) in memory.
_PENDING = 512
# Rows in the pieces that wait.
_PENDING_ROWS = 1 << 16
# Rows to begin with: a run may be of a thousand workers, each with columns of its own.
_LEAST = 32


def _count_descriptors() -> int:
    """Return how many descriptors there may be; the process needs others."""
    try:
        import resource
    except ImportError:  # Windows, which has no `pwrite` and cannot lengthen a file that is mapped
        return 0
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_DESCRIPTORS if limit == resource.RLIM_INFINITY else min(MOST_DESCRIPTORS, limit // 4)


# One element for each descriptor that is not in use. Without a lock: they are given back by
# finalizers, which may run while the same thread is taking one.
_free: collections.deque[None] = collections.deque([None] * _count_descriptors())


class Column:
    """A column that grows; what was handed out never changes."""

    def __init__(self, dtype: Any, fill: float, width: int = 0) -> None:
        self._shape = (width,) if width else ()
        # With room for more rows, in memory or a map of the file.
        self._values: Array = np.empty((0, *self._shape), dtype)
        self._row_bytes = self._values.itemsize * (width or 1)
        self._file: _File | None = None
        self._stored = 0
        # Joined many at a time: a copy per batch would cost more than all the rest.
        self._pieces: list[Array] = []
        self._rows: list[Any] = []
        self._fill = fill
        self.count = 0

    def append(self, row: Any) -> None:
        """Add one row."""
        self._rows.append(row)
        self.count += 1
        if len(self._rows) >= _PENDING:
            self._flush()

    def extend(self, rows: Array) -> None:
        """Add rows; they must not change later."""
        if self._rows:
            self._seal()
        self._pieces.append(rows)
        self.count += len(rows)
        if len(self._pieces) >= _PENDING or self.count - self._stored >= _PENDING_ROWS:
            self._flush()

    def pad(self, count: int, fill: float | None = None) -> None:
        """Fill up to `count` rows with what stands for none."""
        if count > self.count:
            value = self._fill if fill is None else fill
            self.extend(np.full((count - self.count, *self._shape), value, self._values.dtype))

    def replace(self, rows: Array) -> None:
        """Put other rows in place of all; earlier views stay as they are."""
        self._values, self._file = np.ascontiguousarray(rows, self._values.dtype), None
        self._stored = self.count = len(rows)
        self._pieces, self._rows = [], []
        # With the room that it needs next: else the first refresh after this would take as long again.
        if 2 * self._values.nbytes > LARGEST_IN_MEMORY:
            self._make_room_in_file(2 * self.count)

    def view(self) -> Array:
        """Return the rows so far, read-only."""
        self._flush()
        rows = self._values[: self._stored]
        rows.flags.writeable = False
        return rows

    def _seal(self) -> None:
        self._pieces.append(np.array(self._rows, self._values.dtype))
        self._rows = []

    def _flush(self) -> None:
        if self._rows:
            self._seal()
        if not self._pieces:
            return
        if self.count > len(self._values):
            self._make_room(max(self.count, 2 * len(self._values), _LEAST))
        if self._file is None:
            _join(self._pieces, self._values[self._stored : self.count])
        else:
            rows: Array = np.empty((self.count - self._stored, *self._shape), self._values.dtype)
            _join(self._pieces, rows)
            try:
                self._file.write(rows, self._stored * self._row_bytes)
            except OSError:  # the disk is full
                self._make_room_in_memory(len(self._values))
                self._values[self._stored : self.count] = rows
        self._stored = self.count
        self._pieces = []

    def _make_room(self, count: int) -> None:
        if count * self._row_bytes <= LARGEST_IN_MEMORY or not self._make_room_in_file(count):
            self._make_room_in_memory(count)

    def _make_room_in_memory(self, count: int) -> None:
        grown: Array = np.empty((count, *self._shape), self._values.dtype)
        grown[: self._stored] = self._values[: self._stored]
        self._values, self._file = grown, None

    def _make_room_in_file(self, count: int) -> bool:
        """Map the file, a new one if there is none; False if that fails.

        The older maps stay valid, and are of the same pages.
        """
        try:
            file = self._file
            if file is None:
                file = _File()
                file.write(self._values[: self._stored], 0)
            mapped = file.map(count * self._row_bytes)
        except OSError:
            return False
        self._values, self._file = np.frombuffer(mapped, self._values.dtype).reshape(count, *self._shape), file
        return True


class _File:
    """A temporary file, of one process."""

    def __init__(self) -> None:
        """Open a file in the directory for temporary files.

        Raises:
            OSError: There can be none, here and below: what was written before
                is not lost.
        """
        give_back = _take_descriptor()
        try:
            with tempfile.TemporaryFile(buffering=0) as file:
                self._fd = os.dup(file.fileno())
        except BaseException:
            give_back()
            raise
        # Not when the process ends: a thread may be writing then, and would meet another file.
        weakref.finalize(self, _close, self._fd, give_back).atexit = False
        self._process = os.getpid()

    def write(self, rows: Array, position: int) -> None:
        """Write rows that follow each other in memory.

        Not through the map: where the disk is full, that would be a signal
        which ends the process.
        """
        self._check_process()
        rest = rows.reshape(-1).view(np.uint8).data
        while rest:
            written = os.pwrite(self._fd, rest, position)
            rest, position = rest[written:], position + written

    def map(self, size: int) -> mmap.mmap:
        """Lengthen the file, by a hole, and map all of it.

        Ahead of what is written: a map is made only when a column has doubled.
        """
        self._check_process()
        os.ftruncate(self._fd, size)
        give_back = _take_descriptor()
        try:
            # Keeps a descriptor of its own.
            mapped = mmap.mmap(self._fd, size, access=mmap.ACCESS_READ)
        except BaseException:
            give_back()
            raise
        weakref.finalize(mapped, give_back)
        return mapped

    def _check_process(self) -> None:
        # After a fork both have the same file, and each its own idea of what comes next.
        if os.getpid() != self._process:
            raise PermissionError


def _take_descriptor() -> Callable[[], None]:
    """Count one more, if there may be; return what counts it no more."""
    try:
        _free.pop()
    except IndexError:
        raise OSError from None
    return functools.partial(_free.append, None)


def _close(fd: int, give_back: Callable[[], None]) -> None:
    try:
        os.close(fd)
    finally:
        give_back()


def _join(pieces: list[Array], rows: Array) -> None:
    """Put pieces after each other into rows of another type."""
    # A file may say anything, float64 that no float32 can hold too.
    with np.errstate(all="ignore"):
        np.concatenate(pieces, out=rows, casting="unsafe")
