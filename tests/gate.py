"""Reading that goes on only when a test lets it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from tb_batchview import index, refresher, store, tfrecord

ENOUGH = 30.0  # seconds that nothing should take


class Gate:
    """Lets so many pieces of a run's files be read, and holds the next one up."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._allowed = 0
        self._read = index.EventFile._read_piece
        self.held = threading.Event()

    def read(self, file: index.EventFile, fd: int, piece: Any) -> Any:
        with self._changed:
            if not self._allowed:
                self.held.set()
            assert self._changed.wait_for(lambda: self._allowed > 0, ENOUGH)
            self._allowed -= 1
        return self._read(file, fd, piece)

    def open(self, pieces: int = 1 << 60, *, wait: bool = False) -> None:
        """Let so many more through; `wait` until the next one is held up."""
        with self._changed:
            self.held.clear()
            self._allowed += pieces
            self._changed.notify_all()
        if wait:
            assert self.held.wait(ENOUGH)


@contextmanager
def hold_up() -> Iterator[Gate]:
    """Hold up the reading of all files, a record at a time."""
    gate = Gate()

    def read(file: index.EventFile, fd: int, piece: Any) -> Any:
        return gate.read(file, fd, piece)

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(index.EventFile, "_read_piece", read))
        stack.enter_context(mock.patch.object(tfrecord, "CHUNK_BYTES", 64))
        stack.enter_context(mock.patch.object(refresher, "SLICE_SECONDS", 0.0))
        # A snapshot after each slice, however long it took.
        stack.enter_context(mock.patch.object(store, "_SNAPSHOT_SHARE", 0))
        try:
            yield gate
        finally:
            gate.open()
