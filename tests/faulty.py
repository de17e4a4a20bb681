"""A remote store in memory that does what stores do: it refuses, is slow, or lists folder by folder."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem
from fsspec.spec import AbstractFileSystem
from recorded import frames, make_record

from tb_batchview import metadata

ENOUGH = 30.0  # seconds that nothing should take


class Faulty(MemoryFileSystem):
    """`faulty://`: files of its own, and what goes wrong with them."""

    protocol = "faulty"
    cachable = False
    store: dict[str, Any] = {}  # noqa: RUF012  (as in its base: one for all)
    pseudo_dirs = [""]  # noqa: RUF012
    # What is raised when a path is listed or read; "" is any.
    listing: dict[str, Exception] = {}  # noqa: RUF012
    reading: dict[str, Exception] = {}  # noqa: RUF012
    # Asked for so far.
    listed = 0
    parts: list[tuple[str, int, int]] = []  # noqa: RUF012
    gate = threading.Event()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.replace(f"{cls.protocol}://", "memory://"))

    def find(self, path: str, *arguments: Any, **options: Any) -> Any:
        type(self).listed += 1
        assert self.gate.wait(ENOUGH)
        self._fail(self.listing, path)
        return super().find(path, *arguments, **options)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> Any:
        assert self.gate.wait(ENOUGH)
        self.parts.append((path, start or 0, end or 0))
        self._fail(self.reading, path)
        return super().cat_file(path, start=start, end=end, **options)

    @staticmethod
    def _fail(failures: dict[str, Exception], path: str) -> None:
        for part, error in failures.items():
            if part in path:
                raise error


class Walking(Faulty):
    """`walking://`: the same, listed folder by folder."""

    protocol = "walking"
    find = AbstractFileSystem.find

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        self._fail(self.listing, path)
        return super().ls(path, detail=detail, **options)


@pytest.fixture
def faulty() -> Iterator[type[Faulty]]:
    """Register the stores, empty and in order."""
    for store in (Faulty, Walking):
        fsspec.register_implementation(store.protocol, store, clobber=True)
    for kept in (Faulty.store, Faulty.listing, Faulty.reading, Faulty.parts):
        kept.clear()
    Faulty.listed = 0
    Faulty.gate.set()
    yield Faulty
    Faulty.gate.set()


def put(path: str, content: bytes) -> None:
    """Write a file of the store, by whatever name."""
    Faulty.store[path] = MemoryFile(Faulty(), path, content)


def event_path(run: str, number: int = 0) -> str:
    """Return the path of an event file of a run below /logs."""
    name = metadata.file_name(1_780_000_000 + number, "host", 7, number)
    return "/".join(filter(None, ("/logs", run, metadata.DIRECTORY, name)))


def record(run: str, steps: int, *, first: int = 0, number: int = 0, **options: Any) -> str:
    """Write an event file of a run with so many steps; return its path."""
    path = event_path(run, number)
    put(path, b"".join(frames([make_record(step, **options) for step in range(first, first + steps)])))
    return path


def list_files(directory: Path) -> dict[str, bytes]:
    """Return what is below a directory, by relative path."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    waiting = threading.Event()
    for _ in range(int(ENOUGH / 0.01)):
        if condition():
            return
        waiting.wait(0.01)
    raise AssertionError("waited in vain")
