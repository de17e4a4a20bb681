"""The event file on disk: opened late, only appended to, whole up to its end.

`writer` uses it from its thread; the framing is `tfrecord`'s. `earlier` asks
it for the names of the files.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import time
from collections.abc import Sequence

from tb_batchview import encode, metadata, tfrecord

# Written at once when so much has gathered, else about every second: more would leave the caches
# of a processor before it is written.
_BUFFER_BYTES = 1 << 18
# os.writev takes no more pieces (IOV_MAX on Linux and macOS).
_PIECES = 1024

_numbers = itertools.count()


class EventFile:
    """One event file that grows record by record.

    Records are gathered and written together; what `flush` has written is
    whole even if the process is killed.
    """

    # Whether it is one of many short ones, which become objects of a remote store.
    is_segment = False

    def __init__(self, directory: str, worker: int | None = None, *, after: str = "", host: str | None = None) -> None:
        """Prepare; the file is opened when something is written.

        Args:
            directory: Which is made if need be.
            worker: Number of this process where several write.
            after: A name that its own comes after, besides those of the
                directory.
            host: For its name; None is that of this machine.
        """
        self.directory = directory
        self._worker = worker
        self._after = after
        self._host = socket.gethostname() if host is None else host
        # In it, by the account of who writes.
        self.batches = 0
        self._fd: int | None = None
        # Of the file, once it is open.
        self.name = ""
        self._written = 0
        self._pieces: list[bytes | memoryview] = []
        self._pending = 0

    @property
    def is_open(self) -> bool:
        """Tell whether the file exists."""
        return self._fd is not None

    @property
    def nbytes(self) -> int:
        """Bytes so far."""
        return self._written + self._pending

    @property
    def is_due(self) -> bool:
        """Tell whether it is time to close it and begin another."""
        return False

    def append(self, payload: Sequence[bytes | memoryview]) -> None:
        """Add a record, its payload in pieces.

        What is not copied yet is written at once.

        Raises:
            OSError: The file cannot be opened or written; records that were
                waiting are lost, and the file still ends with a whole one.
        """
        if not self._written and not self._pieces:
            self._pieces += tfrecord.frame_pieces([encode.encode_file_version(time.time())])
        self._pieces += tfrecord.frame_pieces(payload)
        self._pending += len(payload[0])
        if self._pending >= _BUFFER_BYTES or len(payload) > 1:
            self.flush()

    def flush(self) -> None:
        """Hand everything to the operating system.

        Raises:
            OSError: As for `append`.
        """
        pieces, self._pieces, self._pending = self._pieces, [], 0
        if not pieces:
            return
        if self._fd is None:
            self._fd, self.name = _create(self.directory, self._worker, self._after, self._host)
        try:
            written = sum(_write(self._fd, pieces[at : at + _PIECES]) for at in range(0, len(pieces), _PIECES))
        except OSError:
            # A full disk takes part of a record: nothing may follow it.
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._written)
            raise
        self._written += written

    def close(self) -> None:
        """Write the rest and close; the file is done."""
        try:
            self.flush()
        finally:
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None

    def __del__(self) -> None:
        # Of a training that was interrupted, and forgotten.
        if self._fd is not None:
            with contextlib.suppress(Exception):
                os.close(self._fd)


def _write(fd: int, pieces: list[bytes | memoryview]) -> int:
    """Write all pieces, however many calls that takes."""
    total = sum(map(len, pieces))
    done = os.writev(fd, pieces)
    if done < total:
        rest = memoryview(b"".join(pieces))[done:]
        while rest:
            rest = rest[os.write(fd, rest) :]
    return total


def _create(directory: str, worker: int | None, after: str, host: str) -> tuple[int, str]:
    """Create the next file of a directory, last in lexical order."""
    os.makedirs(directory, exist_ok=True)
    newest = max(after, *event_files(directory), "")
    seconds = int(time.time())
    while True:
        name = metadata.file_name(seconds, host, os.getpid(), next(_numbers), worker)
        if name > newest:
            path = os.path.join(directory, name)
            # Python makes descriptors that a child process does not inherit.
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644), name
        seconds = max(seconds, metadata.file_seconds(newest)) + 1


def event_files(directory: str) -> list[str]:
    """Return the names of the event files in a directory, oldest first.

    There are none in a directory that cannot be listed: to open a file in it
    tells what is wrong.
    """
    try:
        return sorted(filter(metadata.is_event_file, os.listdir(directory)))
    except OSError:
        return []
