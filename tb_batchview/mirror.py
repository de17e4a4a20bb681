"""Copy the event files of a remote log directory to this machine, as they grow.

Made by `log` (which copies when it is asked to) and `plugin` (where a thread of
its own does). Calls `bucket` for what is there, and `copies` to copy it. The
index then follows the copies as it follows any files: what grew is appended, what
was replaced is another file of that name, what was deleted is deleted. They are in
a private directory for temporary files, of `scratch`, and gone with the process.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path

from tb_batchview import metadata
from tb_batchview.bucket import Bucket
from tb_batchview.copies import Copies
from tb_batchview.errors import NotFoundError, RemoteError
from tb_batchview.scratch import Scratch

# Listings cost: so long between two while there is news, and, doubled each time, while there is none.
LEAST_PAUSE = 2.0
MOST_PAUSE = 10.0
MOST_FAILED_PAUSE = 60.0
# A vast store takes long to list: then a fifth of the time at most.
_LIST_SHARE = 5
# The thread ends after so long without a question.
_IDLE_SECONDS = 60.0

# Of a file that could not be copied, without a new listing between.
_ATTEMPTS = 2

# Different failures to log.
_MOST_SAID = 100

_LOGGER = logging.getLogger(__name__)

# Told how many bytes are copied, and of how many.
Progress = Callable[[int, int], object]
# What went wrong, and how often.
Warnings = tuple[tuple[str, int], ...]


@dataclasses.dataclass(frozen=True)
class Report:
    """What is known of a mirror.

    Attributes:
        url: Of the remote directory, without secrets.
        listed: Whether it is known what is there.
        exists: Whether there is anything at all, of whatever kind.
        files: Event files there.
        bytes: Of them.
        copied: Bytes of them that are here.
        failure: Why it could not be listed the last time, or "".
        failures: How often anything was tried in vain.
        uncopied: Of each file that could not be copied, why.
        refused: Files whose names no file here can have, or too many.
        stopped: Why nothing more is copied, or "".
    """

    url: str
    listed: bool
    exists: bool
    files: int
    bytes: int
    copied: int
    failure: str
    failures: int
    uncopied: tuple[str, ...]
    refused: int
    stopped: str


class Mirror:
    """A local directory with the event files of a remote one.

    Attributes:
        path: The local directory.
    """

    def __init__(self, url: str, *, background: bool = False) -> None:
        """Prepare; nothing is looked at yet.

        Args:
            url: Of the remote directory, as fsspec knows it.
            background: Whether a thread copies, and `look` waits for nothing.
        """
        self._bucket = Bucket(url)
        self._scratch = Scratch()
        self._finalizer = weakref.finalize(self, self._scratch.close)
        self._background = background
        self.path = self._scratch.path
        self._exists = False
        # Who calls `load` is told otherwise.
        self._say = _Sayer(silent=not background)
        self._copies = Copies(self._bucket, self._scratch, self._say)
        self._listed = False
        self._failure = ""
        self._failures = self._failed_in_a_row = 0
        self._updating = threading.Lock()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._wanted = self._copying = False
        self._due = -math.inf
        self._pause = LEAST_PAUSE

    # -- what others ask --------------------------------------------------------------------------------------------

    def look(self, progress: Progress | None = None) -> None:
        """Have what is new copied: now, or soon by the thread."""
        if self._background:
            self.ask()
        else:
            self.update(progress)

    def ask(self, *, copy: bool = True) -> None:
        """Have the thread list what is there, and copy it.

        Args:
            copy: False: list only, which costs less.
        """
        with self._changed:
            self._wanted = True
            self._copying = self._copying or copy
            if self._thread is None or not self._thread.is_alive():
                # A daemon: a store that does not answer must not keep the process from ending.
                self._thread = threading.Thread(target=self._run, name="batchview-mirror", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def update(self, progress: Progress | None = None) -> None:
        """List what is there, and copy what is new of it.

        What the store refuses is counted and told by `report`.

        Args:
            progress: Called with the bytes copied so far and those to copy.
        """
        with self._updating:
            self._list()
            for _ in range(_ATTEMPTS):
                total = left = self._copies.remaining
                while self._copies.pending:
                    left -= self._copies.copy_some()
                    if progress is not None:
                        progress(total - left, total)
                self._copies.try_again()

    def prefer(self, name: str) -> None:
        """Copy one run before the others."""
        self._copies.prefer(self.path.joinpath(*name.split("/"), metadata.DIRECTORY))

    def check(self) -> None:
        """Refuse a directory that was looked at in vain.

        Raises:
            RemoteError: It is not known what is there.
            NotFoundError: There is no such directory.
        """
        if self._failure:
            raise RemoteError(self._failure)
        if not self._exists:
            raise NotFoundError(f"log_dir must be a directory that exists. Received: log_dir={self._bucket.url!r}.")

    def state_of(self, directory: Path) -> tuple[int, Warnings]:
        """Return what the copies of a run lack, and what went wrong.

        Args:
            directory: Of its event files, below `path`.

        Returns:
            Bytes that will come, and messages with their counts.
        """
        copies = self._copies.of_run(directory)
        warnings: list[tuple[str, int]] = []
        if self._failure:
            warnings.append((f"What is new is not known: {self._failure} It is tried again.", self._failed_in_a_row))
        failed = [copy.failure for copy in copies if copy.failure]
        if failed:
            warnings.append((f"A file could not be copied: {failed[0]}. It is tried again.", len(failed)))
        lacking = [copy.remaining for copy in copies if not copy.failure]
        if self._copies.stopped and any(lacking):
            warnings.append((self._copies.stopped, 1))
            return 0, tuple(warnings)
        return sum(lacking), tuple(warnings)

    @property
    def listed(self) -> bool:
        """Tell whether it is known what is there, or that nobody knows."""
        return self._listed or bool(self._failure)

    @property
    def found(self) -> bool:
        """Tell whether there are event files."""
        return bool(self._copies.all)

    @property
    def failure(self) -> str:
        """Return why it could not be listed the last time, or ""."""
        return self._failure

    def report(self) -> Report:
        """Return what is known by now."""
        copies = self._copies.all
        return Report(
            url=self._bucket.url,
            listed=self._listed,
            exists=self._exists,
            files=len(copies),
            bytes=sum(copy.found.size for copy in copies),
            copied=sum(min(copy.copied, copy.found.size) for copy in copies),
            failure=self._failure,
            failures=self._failures + self._copies.failures,
            uncopied=tuple(copy.failure for copy in copies if copy.failure),
            refused=self._copies.refused,
            stopped=self._copies.stopped,
        )

    def close(self) -> None:
        """End the thread and remove the copies."""
        self._finalizer()
        with self._changed:
            self._changed.notify_all()

    # -- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._scratch.closed:
            with self._changed:
                if self._wanted and time.monotonic() >= self._due:
                    self._wanted = False
                    step = self._list
                elif self._copying and self._copies.pending:
                    step = self._copy
                else:
                    seconds = self._due - time.monotonic() if self._wanted else _IDLE_SECONDS
                    if not self._changed.wait(max(seconds, 0.001)) and not self._wanted:
                        self._thread = None
                        return
                    continue
            try:
                with self._updating:
                    step()
            except Exception as error:  # a fault of ours must not end what is tried again
                self._fail(f"{type(error).__name__}: {error}.")

    def _copy(self) -> None:
        self._copies.copy_some()

    # -- listing ----------------------------------------------------------------------------------------------------

    def _list(self) -> None:
        """Look what is there; arrange the copies accordingly."""
        begun = time.monotonic()
        self._scratch.tidy()
        try:
            found = self._bucket.find_files()
        except RemoteError as error:
            self._fail(str(error))
            return
        self._exists = found is not None
        news = self._copies.take_note(found or [])
        self._failure, self._failed_in_a_row = "", 0
        self._listed = True
        self._pause = LEAST_PAUSE if news else min(2 * self._pause, MOST_PAUSE)
        self._due = time.monotonic() + max(self._pause, _LIST_SHARE * (time.monotonic() - begun))

    def _fail(self, message: str) -> None:
        """Count that it could not be listed, and wait longer."""
        self._failures += 1
        self._failed_in_a_row += 1
        self._failure = message
        self._pause = min(2 * self._pause, MOST_FAILED_PAUSE)
        self._due = time.monotonic() + self._pause
        self._say(message)


class _Sayer:
    """Logs a failure the first time that it occurs."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent
        self._said: set[str] = set()

    def __call__(self, message: str) -> None:
        if not self._silent and message not in self._said and len(self._said) < _MOST_SAID:
            self._said.add(message)
            _LOGGER.warning("Batch View: %s", message)


@dataclasses.dataclass(frozen=True)
class RunMirror:
    """A run whose files are copied.

    Attributes:
        mirror: What copies them.
        directory: Where to: the `batchview` directory of the run.
    """

    mirror: Mirror
    directory: Path

    def look(self) -> None:
        """Have what is new copied."""
        self.mirror.look()

    def lacking(self) -> tuple[int, Warnings]:
        """Return how many bytes will come, and what went wrong: counts."""
        return self.mirror.state_of(self.directory)
