"""Segments of a remote run: event files, one after the other, and their sender.

Object stores cannot append. Records go to a local file; when it is large or
old enough it is closed, a thread makes an object of it, and the next begins.
`storage` makes both; the writer only sees an `EventFile`.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tb_batchview.address import hide_secrets
from tb_batchview.eventfile import EventFile
from tb_batchview.objects import describe

# A segment is closed when it has so many bytes,
SEGMENT_BYTES = 32 << 20
# or is so old: a hundredth of the time that the training has taken so far, between these. News are
# some seconds old at first; a week has about 750 objects.
FIRST_SECONDS = 30.0
MOST_SECONDS = 1800.0
_SHARE_OF_TIME = 0.01
# On the local disk at most, but for one batch.
SPOOL_BYTES = 1 << 30
# After so long without a segment that arrived, nobody waits for another.
STALLED_SECONDS = 60.0
# So long the end of a training waits at most.
FINISH_SECONDS = 600.0
# Between two attempts, doubled from the first to the most.
_FIRST_PAUSE = 1.0
_MOST_PAUSE = 60.0


class Closed(NamedTuple):
    """A segment that is complete.

    Attributes:
        path: Of the local file.
        address: Of the object that it is to be.
        nbytes: Its size.
        batches: How many are in it.
    """

    path: str
    address: str
    nbytes: int
    batches: int

    @property
    def directory(self) -> str:
        """The remote one, as it may be shown."""
        return hide_secrets(self.address.rpartition("/")[0])


class Segment(EventFile):
    """An event file that ends soon, and then becomes an object."""

    is_segment = True

    def __init__(
        self, spool: str, directory: str, sender: Sender, *, worker: int | None, after: str, host: str, age: float
    ) -> None:
        """Prepare; the file is opened when something is written.

        Args:
            spool: Local directory of the file.
            directory: Remote directory of the object.
            sender: Takes the file when it is closed.
            worker: Number of this process where several write.
            after: The newest name in the remote directory.
            host: For its name.
            age: Seconds after which it is to be closed.
        """
        super().__init__(spool, worker, after=after, host=host)
        self._remote = directory
        self._sender = sender
        self._age = age
        self._begun: float | None = None

    @property
    def is_due(self) -> bool:
        """Tell whether it is time to close it."""
        return self._begun is not None and (self.nbytes >= SEGMENT_BYTES or time.monotonic() - self._begun >= self._age)

    def append(self, payload: Sequence[bytes | memoryview]) -> None:
        """Add a record, its payload in pieces."""
        if self._begun is None:
            self._begun = time.monotonic()
        super().append(payload)

    def close(self) -> None:
        """Write the rest, close the file and hand it to the sender."""
        opened = self.is_open
        try:
            super().close()
        finally:
            # Where the last flush failed, what came before it is whole.
            if (opened or self.name) and self.nbytes:
                path = os.path.join(self.directory, self.name)
                self._sender.put(Closed(path, f"{self._remote}/{self.name}", self.nbytes, self.batches))


def segment_age(elapsed: float) -> float:
    """Return how old a segment gets, by the seconds of training before it."""
    return min(MOST_SECONDS, max(FIRST_SECONDS, _SHARE_OF_TIME * elapsed))


class Sender:
    """The segments that wait to be sent, and the thread that sends them.

    The oldest goes first. What fails is tried again, after 1, 2, 4 … at most
    60 seconds, for as long as the process lives.
    """

    def __init__(self, send: Callable[[str, str], None], complain: Callable[[str, str, int], None]) -> None:
        """Make a sender; its thread lives while something waits.

        Args:
            send: Makes an object (its address comes second) of a file.
            complain: Counts a problem: kind, message, how often.
        """
        self._send = send
        self._complain = complain
        self._waiting: list[Closed] = []
        self._changed = threading.Condition()
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None
        # When something arrived last, or began to wait.
        self._moved = time.monotonic()
        self._failure = ""
        self._complaint = ""
        # Whether what waits was given up, and told so.
        self._given_up = False

    def put(self, segment: Closed) -> None:
        """Take a segment; never waits."""
        with self._changed:
            if not self._waiting:
                self._moved = time.monotonic()
            self._waiting.append(segment)
            self._given_up = False
            self._keep_alive()

    @property
    def waiting(self) -> tuple[Closed, ...]:
        """What is not sent yet, oldest first."""
        with self._changed:
            return tuple(self._waiting)

    @property
    def failure(self) -> str:
        """What the last attempt said, if it failed."""
        return self._failure

    def make_room(self, nbytes: int, *, wait: bool) -> bool:
        """Tell whether so many bytes find room, wait for it if need be.

        Args:
            nbytes: Of the segment that grows; it has room when it is alone.
            wait: Until segments were sent, for as long as any are.
        """
        with self._changed:
            while self._waiting and sum(segment.nbytes for segment in self._waiting) + nbytes > SPOOL_BYTES:
                if not wait or self._is_stalled() or not self._keep_alive():
                    return False
                self._changed.wait(0.1)
        return True

    def drain(self, seconds: float) -> bool:
        """Wait until all that waits is sent; False if it is not.

        Gives up sooner when nothing arrives for a minute.
        """
        deadline = time.monotonic() + seconds
        with self._changed:
            self._moved = time.monotonic()
            self._hurry.set()
            while self._waiting and time.monotonic() < deadline and not self._is_stalled():
                if not self._keep_alive():
                    break
                self._changed.wait(0.1)
        if self._thread is None:
            # No thread can be started any more: Python is ending.
            while self._waiting and time.monotonic() < deadline and self._send_next():
                pass
        self._given_up = bool(self._waiting)
        return not self._given_up

    def _is_stalled(self) -> bool:
        return time.monotonic() - self._moved >= STALLED_SECONDS

    def _keep_alive(self) -> bool:
        """Start the thread, or again if it died; False if there can be none."""
        if self._thread is None or not self._thread.is_alive():
            # A daemon: a network that is away must not keep Python from ending.
            self._thread = threading.Thread(target=self._run, name="tb_batchview-sender", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:
                self._thread = None
        return self._thread is not None

    def _run(self) -> None:
        pause = 0.0
        while True:
            with self._changed:
                if not self._waiting:
                    self._thread = None
                    return
            if self._send_next():
                pause = 0.0
            else:
                pause = min(_MOST_PAUSE, max(_FIRST_PAUSE, 2 * pause))
                self._hurry.wait(pause)
            self._hurry.clear()

    def _send_next(self) -> bool:
        """Send the oldest segment; False if that failed."""
        segment = self._waiting[0]
        try:
            self._send(segment.path, segment.address)
        except Exception as error:
            if os.path.exists(segment.path):
                self._failure = describe(error)
                # One message, whatever the store says the next time: it is counted.
                self._complaint = self._complaint or (
                    f"Batches could not be sent to {segment.directory} ({self._failure}). It is tried "
                    "again; until then they are kept on the local disk."
                )
                if not self._given_up:
                    self._complain("write", self._complaint, 1)
                return False
            message = "Batches were dropped because somebody deleted the local file before it was sent."
            self._complain("dropped", message, segment.batches)
        else:
            self._failure = ""
            with contextlib.suppress(OSError):
                os.unlink(segment.path)
        with self._changed:
            self._waiting.pop(0)
            self._moved = time.monotonic()
            self._changed.notify_all()
        return True
