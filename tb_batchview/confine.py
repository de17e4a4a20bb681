"""Open a file below one directory, and no other file of the machine.

Called by `pictures` with names that come from event files: any of them may be
meant to lead elsewhere.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

MAX_NAME = 4096  # characters; file systems take no more

# Where a folder can be held open, nobody can put a link into the way after it was looked at.
_HOLDS = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW") and hasattr(os, "O_DIRECTORY")
# Without waiting: a pipe may have taken the place of a file.
_READ = os.O_RDONLY | sum(getattr(os, flag, 0) for flag in ("O_CLOEXEC", "O_BINARY", "O_NONBLOCK", "O_NOFOLLOW"))
_FOLDER = _READ | getattr(os, "O_DIRECTORY", 0)


class RefusedError(Exception):
    """Why a file is not read, as it stands after a colon."""


@contextmanager
def open_below(directory: str, name: str) -> Iterator[int]:
    """Open a regular file for reading.

    Links are followed as long as they stay below the directory.

    Args:
        directory: The user's choice; it is trusted.
        name: Of a file in it, with `/` between folders; not trusted.

    Yields:
        Its descriptor, closed at the end.

    Raises:
        RefusedError: It is not a name, or no such file is below the
            directory.
    """
    parts = split_name(name)
    try:
        root = os.path.realpath(directory)
        real = os.path.realpath(os.path.join(root, *parts), strict=True)
        if os.path.commonpath([root, real]) != root:
            raise RefusedError("it leads out of the directory")
        fd = _open_held(root, os.path.relpath(real, root).split(os.sep)) if _HOLDS else _open_again(real)
    except (OSError, ValueError) as error:  # ValueError: a name that this system cannot have
        raise RefusedError("there is no such file") from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise RefusedError("it is no regular file")
        yield fd
    finally:
        os.close(fd)


def read_whole(fd: int, most: int) -> bytes:
    """Read an open file from its beginning, if it has at most `most` bytes."""
    content = bytearray()
    # What it says of its size may be wrong by now.
    if os.fstat(fd).st_size <= most:
        while piece := os.read(fd, min(1 << 20, most + 1 - len(content))):
            content += piece
        if len(content) <= most:
            return bytes(content)
    raise RefusedError(f"it is larger than {most >> 20} MB")


def split_name(name: str) -> list[str]:
    """Return the folders of a relative name, and the file's own."""
    if not name or len(name) > MAX_NAME or "\0" in name:
        raise RefusedError("it is not the name of a file")
    parts = name.replace(os.sep, "/").split("/")
    # With a colon: a drive, or a stream of a file.
    if parts[0] == "" or ".." in parts or (os.name == "nt" and ":" in name):
        raise RefusedError("it must be relative, without ..")
    return parts


def _open_held(root: str, parts: Sequence[str]) -> int:
    """Open a file from folder to folder, following no link at all.

    The path is a real one: a link in it was put there just now.
    """
    held = os.open(root, _FOLDER & ~os.O_NOFOLLOW)
    try:
        for part in parts[:-1]:
            folder = os.open(part, _FOLDER, dir_fd=held)
            os.close(held)
            held = folder
        # To open a device may do something to it.
        if not stat.S_ISREG(os.stat(parts[-1], dir_fd=held, follow_symlinks=False).st_mode):
            raise RefusedError("it is no regular file")
        return os.open(parts[-1], _READ, dir_fd=held)
    finally:
        os.close(held)


def _open_again(real: str) -> int:
    """Open a file where folders cannot be held, and see that it is the one."""
    if not stat.S_ISREG(os.lstat(real).st_mode):
        raise RefusedError("it is no regular file")
    fd = os.open(real, _READ)
    if os.path.realpath(real, strict=True) == real and os.path.samestat(os.fstat(fd), os.lstat(real)):
        return fd
    os.close(fd)
    raise RefusedError("there is no such file")
