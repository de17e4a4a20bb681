"""Let a file or directory appear under its name only when it is complete.

Called by the formats beside it; calls nothing of ours. What is being written
has a temporary name in the same directory, so that the rename is one step.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from tb_batchview.errors import ArgumentError


def check(path: Path, *, overwrite: bool) -> None:
    """Refuse a name that is taken, or in a directory that takes none.

    Raises:
        ArgumentError: It is.
    """
    if not path.parent.is_dir():
        raise ArgumentError(f"out must be in a directory that exists. Received: out={str(path)!r}.")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        # Also when a file is replaced: it is by one beside it.
        raise ArgumentError(f"out must be in a directory that may be written to. Received: out={str(path)!r}.")
    if path.exists() and not overwrite:
        raise ArgumentError(
            f"out must not exist yet. Received: out={str(path)!r}. Give another name, or --overwrite to replace it."
        )


def check_file(path: Path, *, overwrite: bool) -> None:
    """Refuse a name that a new file cannot have.

    Raises:
        ArgumentError: It is taken.
    """
    check(path, overwrite=overwrite)
    if path.exists() and not path.is_file():
        raise ArgumentError(f"out must be the name of a file. Received: out={str(path)!r}, which is none.")


def check_directory(path: Path, suffix: str, *, overwrite: bool) -> None:
    """Refuse a name that a new directory cannot have.

    A directory is replaced only if there is nothing in it but such files:
    `--out ~ --overwrite` must cost nobody the home directory.

    Raises:
        ArgumentError: It is taken.
    """
    check(path, overwrite=overwrite)
    if path.exists() and not (path.is_dir() and _holds_only(path, suffix)):
        raise ArgumentError(
            f"out must be a directory of nothing but {suffix} files to be replaced. Received: out={str(path)!r}."
        )


def is_stream(path: Path) -> bool:
    """Tell whether a name is a pipe or a device, which cannot be renamed."""
    with contextlib.suppress(OSError):
        mode = path.stat().st_mode
        return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)
    return False


def partial(path: Path) -> Path:
    """Return the temporary name of what is being written."""
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def list_leftovers(path: Path) -> list[Path]:
    """Find what exports to this place left that were killed.

    Of other machines the processes are not known: nothing is deleted.
    """
    ours = re.compile(re.escape(f".{path.name}.") + r"(\d{1,9})\.(partial|old)(-wal|-shm|-journal)?")
    found = []
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            match = ours.fullmatch(entry.name)
            if match and not _runs(int(match[1])):
                found.append(path.with_name(entry.name))
    return sorted(found)


@contextlib.contextmanager
def parent(path: Path) -> Iterator[None]:
    """Make a directory; take it away again if nothing came into it."""
    path.mkdir(exist_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.rmdir()


@contextlib.contextmanager
def new_file(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary name; give the file its own when all went well."""
    temporary = partial(path)
    _remove(temporary)  # of a process that was killed, and had the same number
    try:
        yield temporary
        _sync(temporary)
        check_file(path, overwrite=overwrite)  # it may have come meanwhile
        os.replace(temporary, path)
    finally:
        _remove(temporary)
    _sync(path.parent)


@contextlib.contextmanager
def new_directory(path: Path, suffix: str, *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary directory; rename it when all went well."""
    temporary, old = partial(path), path.with_name(f".{path.name}.{os.getpid()}.old")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        yield temporary
        for folder, _, names in os.walk(temporary):
            for name in names:
                _sync(Path(folder, name))
            _sync(Path(folder))
        check_directory(path, suffix, overwrite=overwrite)
        try:
            if path.exists():
                # No system call replaces a directory that is not empty: for a moment there is none.
                os.rename(path, old)
            os.rename(temporary, path)
        except BaseException:
            if old.exists() and not path.exists():
                os.rename(old, path)
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    _sync(path.parent)


def _remove(file: Path) -> None:
    """Delete a file, and those that SQLite has beside its own."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(OSError):
            os.unlink(f"{file}{suffix}")


def _runs(process: int) -> bool:
    """Tell whether there is such a process on this machine."""
    if os.name == "nt":
        return True  # to ask would end it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _holds_only(path: Path, suffix: str) -> bool:
    return all(name.endswith(suffix) for _, _, names in os.walk(path) for name in names)


def _sync(path: Path) -> None:
    """Have the disk hold a file, or the names in a directory."""
    if path.is_dir() and os.name == "nt":
        return  # directories cannot be opened there
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
