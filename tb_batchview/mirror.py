"""Copy the event files of a remote log directory to this machine, as they grow.

Made by `log` (which copies when it is asked to) and `plugin` (where a thread of
its own does). Calls `bucket` for the store and `index` for what is an event file.
The index then follows the copies as it follows any files: what grew is appended,
what was replaced is another file of that name, what was deleted is deleted. The
copies are in a private directory for temporary files, and gone with the process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import math
import os
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tb_batchview import index, metadata
from tb_batchview.bucket import Bucket, Found, Part
from tb_batchview.errors import NotFoundError, RemoteError

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# Listings cost: so long between two while there is news, and, doubled each time, while there is none.
LEAST_PAUSE = 2.0
MOST_PAUSE = 10.0
MOST_FAILED_PAUSE = 60.0
# A vast store takes long to list: then a fifth of the time at most.
_LIST_SHARE = 5
# The thread ends after so long without a question.
_IDLE_SECONDS = 60.0

# What is asked of the store at once, and held in memory.
PIECE_BYTES = 8 << 20
BATCH_BYTES = 32 << 20
BATCH_PIECES = 16
# So much of what is there already is read again: if it is another, the file was written anew.
OVERLAP_BYTES = 4096
# Of a file that could not be copied, without a new listing between.
_ATTEMPTS = 2

# Copying stops when no more than this share of the disk is free.
FREE_SHARE = 0.05
MAX_FILES = 100_000
MAX_DEPTH = 32
_MAX_NAME = 255  # bytes of a name in a folder
_PREFIX = "batchview-remote-"
# Different failures to log.
_MOST_SAID = 100

_LOGGER = logging.getLogger(__name__)

# Told how many bytes are copied, and of how many.
Progress = Callable[[int, int], object]
# What went wrong, and how often.
Warnings = tuple[tuple[str, int], ...]


@dataclasses.dataclass
class _Copy:
    """An event file and what is copied of it.

    Attributes:
        found: As it was listed last.
        path: Of the copy.
        copied: Bytes that are there.
        version: What it was when it was copied to its end.
        made: Whether the copy is there, be it empty.
        anew: Where it is copied once more, since it is another file now.
        failure: Why it could not be copied the last time, or "".
        failures: How often it could not.
    """

    found: Found
    path: Path
    copied: int = 0
    version: tuple[str, ...] | None = None
    made: bool = False
    anew: Path | None = None
    failure: str = ""
    failures: int = 0

    @property
    def remaining(self) -> int:
        """Return how many bytes are still to be copied."""
        return max(0, self.found.size - self.copied)

    @property
    def target(self) -> Path:
        """Return where the next bytes belong."""
        return self.anew or self.path


@dataclasses.dataclass(frozen=True)
class Report:
    """What is known of a mirror.

    Attributes:
        url: Of the remote directory, without secrets.
        listed: Whether it is known what is there.
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
        self._place = _Place()
        self._finalizer = weakref.finalize(self, self._place.close)
        self._background = background
        self.path = self._place.path
        self._exists = False
        self._copies: dict[str, _Copy] = {}
        # By the local directory of their run.
        self._runs: dict[Path, list[_Copy]] = {}
        # To be copied, the next one at the end.
        self._queue: list[_Copy] = []
        self._first: Path | None = None
        self._sorted = True
        self._listed = False
        self._refused = 0
        self._failure = self._stopped = ""
        self._blocked = False
        self._failures = self._failed_in_a_row = 0
        self._said: set[str] = set()
        self._numbers = itertools.count()
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
                total = sum(copy.remaining for copy in self._queue)
                left = total
                while self._queue and not self._blocked:
                    left -= self._copy_some()
                    if progress is not None:
                        progress(total - left, total)
                self._queue = self._find_pending()

    def prefer(self, name: str) -> None:
        """Copy one run before the others."""
        first = self.path.joinpath(*name.split("/"), metadata.DIRECTORY)
        if first != self._first:
            self._first = first
            self._sorted = False

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
        copies = self._runs.get(directory, ())
        warnings: list[tuple[str, int]] = []
        if self._failure:
            warnings.append((f"What is new is not known: {self._failure} It is tried again.", self._failed_in_a_row))
        failed = [copy.failure for copy in copies if copy.failure]
        if failed:
            warnings.append((f"A file could not be copied: {failed[0]}. It is tried again.", len(failed)))
        lacking = [copy.remaining for copy in copies if not copy.failure]
        if self._stopped and any(lacking):
            warnings.append((self._stopped, 1))
            return 0, tuple(warnings)
        return sum(lacking), tuple(warnings)

    @property
    def listed(self) -> bool:
        """Tell whether it is known what is there, or that nobody knows."""
        return self._listed or bool(self._failure)

    @property
    def found(self) -> bool:
        """Tell whether there are event files."""
        return bool(self._copies)

    @property
    def failure(self) -> str:
        """Return why it could not be listed the last time, or ""."""
        return self._failure

    def report(self) -> Report:
        """Return what is known by now."""
        copies = list(self._copies.values())
        return Report(
            url=self._bucket.url,
            listed=self._listed,
            files=len(copies),
            bytes=sum(copy.found.size for copy in copies),
            copied=sum(min(copy.copied, copy.found.size) for copy in copies),
            failure=self._failure,
            failures=self._failures,
            uncopied=tuple(copy.failure for copy in copies if copy.failure),
            refused=self._refused,
            stopped=self._stopped,
        )

    def close(self) -> None:
        """End the thread and remove the copies."""
        self._finalizer()
        with self._changed:
            self._changed.notify_all()

    # -- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._place.closed:
            with self._changed:
                if self._wanted and time.monotonic() >= self._due:
                    self._wanted = False
                    step = self._list
                elif self._queue and self._copying and not self._blocked:
                    step = self._copy_step
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

    def _copy_step(self) -> None:
        self._copy_some()

    # -- listing ----------------------------------------------------------------------------------------------------

    def _list(self) -> None:
        """Look what is there; arrange the copies accordingly."""
        begun = time.monotonic()
        self._place.prepare()
        try:
            found = self._bucket.find_files()
        except RemoteError as error:
            self._fail(str(error))
            return
        self._exists = found is not None
        news = self._take_note(found or [])
        self._failure, self._failed_in_a_row = "", 0
        self._listed, self._blocked = True, False
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

    def _take_note(self, listed: Sequence[Found]) -> bool:
        """Make, end or begin anew what is copied; tell whether anything is new."""
        self._refused = 0
        places: dict[str, tuple[Found, tuple[str, ...]]] = {}
        for found in listed:
            parts = tuple(found.name.split("/"))
            if not _is_event_file(parts):
                continue
            if _is_safe(parts) and len(places) < MAX_FILES:
                places[found.path] = found, parts
            else:
                self._refused += 1
        news = False
        copies: dict[str, _Copy] = {}
        for path, copy in self._copies.items():
            if path in places:
                copies[path] = copy
            else:
                news = True
                self._place.remove(*filter(None, (copy.path if copy.made else None, copy.anew)))
        for path, (found, parts) in places.items():
            known = copies.get(path)
            if known is not None:
                news |= (known.found.size, known.found.version) != (found.size, found.version)
                self._compare(known, found)
                continue
            news = True
            copies[path] = _Copy(found, self.path.joinpath(*parts))
            self._make(copies[path])
        runs: dict[Path, list[_Copy]] = {}
        for copy in copies.values():
            runs.setdefault(copy.path.parent, []).append(copy)
        self._copies, self._runs = copies, runs
        self._queue = self._find_pending()
        return news

    def _compare(self, copy: _Copy, found: Found) -> None:
        """Begin a copy anew if its file is another one now."""
        copy.found = found
        if not copy.made:
            self._make(copy)
            return
        replaced = found.size < copy.copied or (found.size == copy.copied and copy.version not in (None, found.version))
        # Something may tidy up among temporary files.
        if replaced or not self._place.holds(copy.target, copy.copied):
            self._begin_anew(copy)

    def _make(self, copy: _Copy) -> None:
        """Make the copy, empty: so its run is seen at once."""
        if self._guard(copy, lambda: self._place.make(copy.path, copy.found.modified)):
            copy.made, copy.failure = True, ""

    def _begin_anew(self, copy: _Copy) -> None:
        """Copy to another file, which takes the place when it is complete."""
        copy.anew = copy.anew or copy.path.with_name(f".copy-{next(self._numbers)}")
        copy.copied, copy.version = 0, None
        self._guard(copy, lambda: self._place.empty(copy.target))

    def _find_pending(self) -> list[_Copy]:
        """Return what is to be copied, what is most wanted at the end."""
        first = self._first
        self._sorted = True
        pending = [copy for copy in self._copies.values() if copy.made and (copy.remaining or copy.anew is not None)]

        def rank(copy: _Copy) -> tuple[bool, bool, float]:
            # What was begun is ended; of the others the newest run is the one that is looked at.
            modified = copy.found.modified
            return copy.path.parent == first, copy.copied > 0, 0.0 if math.isnan(modified) else modified

        return sorted(pending, key=rank)

    # -- copying ----------------------------------------------------------------------------------------------------

    def _copy_some(self) -> int:
        """Copy the next pieces; return how many bytes came."""
        if not self._sorted:
            self._queue = self._find_pending()
        asked, pieces = self._next_pieces()
        size = sum(part.stop - part.start for _, part in pieces)
        if not self._place.has_room(size):
            self._blocked = True
            self._stopped = (
                f"Copying stopped: less than {FREE_SHARE:.0%} of the disk would be free in {self.path.parent}. "
                "Make room there, or set TMPDIR to another disk; it goes on by itself."
            )
            self._say(self._stopped)
            return 0
        self._stopped = ""
        came = 0
        contents = self._bucket.read([part for _, part in pieces]) if pieces else []
        waiting: set[int] = set()
        for (copy, part), content in zip(pieces, contents, strict=True):
            if id(copy) not in waiting:
                before = copy.copied
                if not self._take(copy, part, content):
                    waiting.add(id(copy))
                came += max(0, copy.copied - before)
        for copy in asked:
            if not copy.failure and not copy.remaining:
                self._end(copy)
        # What failed, has shrunk or is another waits for the next listing; what has more to come stays.
        kept = [copy for copy in asked if copy.remaining and id(copy) not in waiting]
        self._queue[len(self._queue) - len(asked) :] = reversed(kept)
        return came

    def _next_pieces(self) -> tuple[list[_Copy], list[tuple[_Copy, Part]]]:
        """Return whose turn it is, and what to ask the store for at once."""
        asked: list[_Copy] = []
        pieces: list[tuple[_Copy, Part]] = []
        room = BATCH_BYTES
        for copy in reversed(self._queue):
            if len(pieces) >= BATCH_PIECES or room <= 0:
                break
            copy.failure = ""
            asked.append(copy)
            position = copy.copied
            while position < copy.found.size and len(pieces) < BATCH_PIECES and room > 0:
                stop = min(position + PIECE_BYTES, copy.found.size)
                pieces.append((copy, Part(copy.found.path, max(0, position - OVERLAP_BYTES), stop)))
                room -= stop - position
                position = stop
        return asked, pieces

    def _take(self, copy: _Copy, part: Part, content: bytes | Exception) -> bool:
        """Append a piece; tell whether the next one of the file may follow."""
        if isinstance(content, Exception):
            self._fail_copy(copy, self._bucket.explain(content))
            return False
        try:
            known = copy.copied - part.start
            if self._place.read(copy.target, part.start, known) != content[:known]:
                # Written anew while it grew, or while it was copied.
                self._begin_anew(copy)
                return False
            self._place.write(copy.target, copy.copied, content[known:], copy.found.modified)
        except OSError as error:
            self._fail_copy(copy, self._bucket.explain(error))
            return False
        copy.copied += len(content) - known
        return copy.copied == part.stop

    def _end(self, copy: _Copy) -> None:
        """Put a file in its place once it is there to its end."""
        copy.version = copy.found.version
        anew = copy.anew
        if anew is not None and self._guard(copy, lambda: self._place.replace(anew, copy.path)):
            copy.anew = None

    def _guard(self, copy: _Copy, act: Callable[[], None]) -> bool:
        """Do something with the files of this machine; count a failure."""
        try:
            act()
        except (OSError, ValueError) as error:
            self._fail_copy(copy, self._bucket.explain(error))
            return False
        return True

    def _fail_copy(self, copy: _Copy, message: str) -> None:
        copy.failure = f"{copy.path.name}: {message}"
        copy.failures += 1
        self._failures += 1
        self._say(f"A file of {self._bucket.url} could not be copied: {copy.failure}")

    def _say(self, message: str) -> None:
        """Log a failure the first time that it occurs; `load` has others to tell."""
        if self._background and message not in self._said and len(self._said) < _MOST_SAID:
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


def _is_event_file(parts: Sequence[str]) -> bool:
    """Tell whether the index would find a file of this name."""
    return len(parts) >= 2 and parts[-2] == metadata.DIRECTORY and index.is_ours(parts[-1])


def _is_safe(parts: Sequence[str]) -> bool:
    """Tell whether a name stays below the directory, as each file's must."""
    if len(parts) > MAX_DEPTH + 2 or metadata.DIRECTORY in parts[:-2]:
        return False
    forbidden = {"\0", "/", os.sep, os.altsep or "/"} | ({":"} if os.name == "nt" else set())
    for part in parts:
        try:
            size = len(part.encode())
        except UnicodeEncodeError:
            return False
        if part in ("", ".", "..") or size > _MAX_NAME or any(letter in part for letter in forbidden):
            return False
    return True


class _Place:
    """A private directory for temporary files, gone with the process.

    Attributes:
        closed: Whether it was removed; nothing is written any more.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
        self.closed = False
        self._lock = threading.Lock()
        self._pid = os.getpid()
        # Held while the process lives: who starts later removes what a killed one left.
        self._held = _hold(self.path)
        self._prepared = False

    def prepare(self) -> None:
        """Remove what killed processes left, the first time."""
        if not self._prepared:
            self._prepared = True
            _remove_leftovers(self.path)

    def has_room(self, size: int) -> bool:
        """Tell whether so many bytes leave the disk its share."""
        try:
            usage = shutil.disk_usage(self.path)
        except OSError:
            return True  # writing will tell
        return usage.free - size >= FREE_SHARE * usage.total

    def make(self, path: Path, modified: float) -> None:
        """Make an empty file, and its folders: its run is seen at once."""
        with self._writing():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Names that differ in case alone may be one here.
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            _set_time(path, modified)

    def empty(self, path: Path) -> None:
        """Make a file that is to be written from its beginning."""
        with self._writing():
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))

    def holds(self, path: Path, size: int) -> bool:
        """Tell whether a file is there, no shorter than it was made."""
        try:
            return path.stat().st_size >= size
        except OSError:
            return False

    def read(self, path: Path, start: int, size: int) -> bytes:
        """Return a part of a copy."""
        if not size:
            return b""
        with path.open("rb") as file:
            file.seek(start)
            return file.read(size)

    def write(self, path: Path, position: int, content: bytes, modified: float) -> None:
        """Write a part of a copy."""
        with self._writing(), path.open("r+b") as file:
            file.seek(position)
            file.write(content)
            file.flush()
            _set_time(path, modified)

    def replace(self, path: Path, target: Path) -> None:
        """Put a file in the place of another."""
        with self._writing():
            os.replace(path, target)

    def remove(self, *paths: Path) -> None:
        """Delete files, and the folders that are empty then."""
        with contextlib.suppress(OSError), self._writing():
            for path in paths:
                path.unlink(missing_ok=True)
            for folder in paths[0].parents if paths else ():
                if folder == self.path:
                    break
                folder.rmdir()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock:
            if self.closed:
                raise OSError("the copies are removed")
            yield

    def close(self) -> None:
        """Remove everything; not from a forked process, whose it is not."""
        with self._lock:
            if not self.closed and os.getpid() == self._pid:
                self.closed = True
                shutil.rmtree(self.path, ignore_errors=True)
                if self._held is not None:
                    os.close(self._held)


def _set_time(path: Path, modified: float) -> None:
    """Let a copy be as old as its file: the newest run is read first."""
    if not math.isnan(modified):
        with contextlib.suppress(OSError, OverflowError):
            os.utime(path, (modified, modified))


def _hold(path: Path) -> int | None:
    """Lock a directory for as long as the process lives; None if nobody can."""
    if fcntl is None:
        return None
    fd = None
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        if fd is not None:
            os.close(fd)
        return None
    return fd


def _remove_leftovers(own: Path) -> None:
    """Remove copies of processes that were killed before they could."""
    if fcntl is None:
        return
    for path in own.parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if path == own or path.stat(follow_symlinks=False).st_uid != os.geteuid():
                continue
            # Just made, and not locked yet?
            if time.time() - path.stat().st_ctime < _IDLE_SECONDS:
                continue
            held = _hold(path)
            if held is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(held)
