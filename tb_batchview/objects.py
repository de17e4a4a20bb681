"""Objects of a remote store, such as S3, by way of fsspec.

`storage` makes one for a `log_dir` with a protocol, asks it what is there and
gives it the files of the run. fsspec is loaded here, and not before.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from tb_batchview import metadata
from tb_batchview.address import hide_secrets
from tb_batchview.errors import ArgumentError

# A store that does not answer must not hold up a training: uploads, which may take long, have a thread.
ANSWER_SECONDS = 60.0
# How often a question is asked before it counts as not answered.
_ATTEMPTS = 3

Answer = TypeVar("Answer")


class Found(NamedTuple):
    """An entry of a remote directory.

    Attributes:
        name: Without the directory.
        nbytes: Of an object; 0 of a directory.
    """

    name: str
    nbytes: int


class ObjectStore:
    """A file system of fsspec, asked with patience that has an end.

    Addresses are those of the user, with the protocol, and begin with that of
    the run.
    """

    def __init__(self, log_dir: str) -> None:
        """Open the file system of an address.

        Raises:
            ArgumentError: fsspec, or the package that it needs for this
                protocol, is not installed, or there is no such protocol.
        """
        self._system, self._root = _open_system(log_dir)
        self._log_dir = log_dir

    def check(self, log_dir: str) -> None:
        """Write an object below a directory, and delete it.

        Raises:
            Exception: Whatever the file system raises.
        """
        name = f".tb_batchview-{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}"
        address = join(log_dir, metadata.DIRECTORY, name)

        def write() -> None:
            self._make_folder(address)
            self._system.pipe_file(self._path(address), b"tb_batchview may write here.\n")
            # Some may write and not delete.
            with contextlib.suppress(Exception):
                self._system.rm_file(self._path(address))

        _answer(write)

    def list(self, directory: str) -> list[Found]:
        """Return what is in a directory; nothing if it is not there.

        Raises:
            Exception: Whatever the file system raises.
        """

        def find() -> list[dict[str, Any]]:
            path = self._path(directory)
            # What was there when fsspec looked last is of no use.
            self._system.invalidate_cache(path)
            try:
                return list(self._system.ls(path, detail=True))
            except FileNotFoundError:
                return []

        found = _answer(find, attempts=_ATTEMPTS)
        itself = self._path(directory).rstrip("/")
        if any(entry["name"].rstrip("/") == itself and entry["type"] == "file" and entry["size"] for entry in found):
            raise NotADirectoryError(f"{directory} is an object")
        entries = {entry["name"].rstrip("/"): entry for entry in found}
        # Some stores have an empty object that stands for the directory.
        entries.pop(itself, None)
        return [Found(name.rpartition("/")[2], int(entry.get("size") or 0)) for name, entry in sorted(entries.items())]

    def read(self, address: str, start: int, stop: int) -> bytes:
        """Return a part of an object.

        Raises:
            Exception: Whatever the file system raises.
        """
        return bytes(
            _answer(lambda: self._system.cat_file(self._path(address), start=start, end=stop), attempts=_ATTEMPTS)
        )

    def send(self, path: str, address: str) -> None:
        """Make an object of a local file; takes as long as it takes.

        Raises:
            Exception: Whatever the file system raises.
        """
        self._make_folder(address)
        self._system.put_file(path, self._path(address))

    def _make_folder(self, address: str) -> None:
        """Make the directory of an object, where stores have directories."""
        from fsspec.asyn import AsyncFileSystem

        # Object stores have none, and s3fs would make the bucket.
        if not isinstance(self._system, AsyncFileSystem):
            self._system.makedirs(self._path(address).rpartition("/")[0], exist_ok=True)

    def _path(self, address: str) -> str:
        # Of the run or one beside it, whose address begins the same.
        return self._root + address.removeprefix(self._log_dir)


def join(directory: str, *names: str) -> str:
    """Return the address of something in a remote directory."""
    return "/".join((directory, *names))


def describe(error: BaseException) -> str:
    """Return what a store says in a line."""
    return hide_secrets(" ".join(f"{type(error).__name__}: {error}".split()))[:300].rstrip(".: ")


def _open_system(log_dir: str) -> tuple[Any, str]:
    """Return a file system, and what it calls the directory."""
    shown = hide_secrets(log_dir)
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise ArgumentError(
            f"A log_dir with a protocol must have fsspec installed. Received: log_dir={shown!r}. Install it: "
            'pip install "tb_batchview[remote]".'
        ) from error
    try:
        # Of its own: what others listed, and kept, would hide what is there.
        system, root = _answer(lambda: url_to_fs(log_dir, skip_instance_cache=True))
    except ImportError as error:
        missing = (getattr(error.__cause__, "name", None) or getattr(error, "name", None) or "").partition(".")[0]
        remedy = f"pip install {missing}" if missing else "see the documentation of fsspec"
        raise ArgumentError(
            f"log_dir must have a protocol whose package is installed. Received: log_dir={shown!r} "
            f"({describe(error)}). Install it: {remedy}."
        ) from error
    except Exception as error:
        raise ArgumentError(
            f"log_dir must be a local path, or an address that fsspec can open. Received: log_dir={shown!r} "
            f"({describe(error)})."
        ) from error
    return system, str(root).rstrip("/")


def _answer(ask: Callable[[], Answer], attempts: int = 1) -> Answer:
    """Return what a function returns, or raise when it takes too long.

    In a thread: some file systems wait for a network without an end.
    """
    outcome: list[Answer] = []
    failures: list[Exception] = []

    def work() -> None:
        for attempt in range(attempts):
            try:
                outcome.append(ask())
                return
            except Exception as error:
                failures.append(error)
                # That will be the same the next time.
                if isinstance(error, (PermissionError, NotADirectoryError)) or attempt + 1 == attempts:
                    return

    try:
        thread = threading.Thread(target=work, name="tb_batchview-ask", daemon=True)
        thread.start()
    except RuntimeError:  # Python is ending.
        work()
    else:
        thread.join(ANSWER_SECONDS)
    if outcome:
        return outcome[0]
    raise failures[-1] if failures else TimeoutError(f"no answer within {ANSWER_SECONDS:g} seconds")
