"""A private directory for temporary files, gone with the process.

Made by `mirror`; `copies` writes there. Calls nothing of ours.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# Writing stops when no more than this share of the disk is free.
FREE_SHARE = 0.05
_PREFIX = "batchview-remote-"
# A directory as young as this may not be locked yet.
_YOUNG_SECONDS = 60.0


class Scratch:
    """A directory in which files grow and are replaced.

    Attributes:
        path: Of the directory.
        closed: Whether it was removed; nothing is written any more.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
        self.closed = False
        self._lock = threading.Lock()
        self._pid = os.getpid()
        # Held while the process lives: who starts later removes what a killed one left.
        self._held = _hold(self.path)
        self._tidied = False

    def tidy(self) -> None:
        """Remove what killed processes left, the first time."""
        if not self._tidied:
            self._tidied = True
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
            if time.time() - path.stat().st_ctime < _YOUNG_SECONDS:
                continue
            held = _hold(path)
            if held is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(held)
