"""Read recorded runs from Python: `load(log_dir)`.

Called by the user, `plugin`, `refresher` and `cli`. Finds the runs, which are
`run`'s, and has `store` read them, by turns; what is remote, `mirror` copies.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tb_batchview import address, index, metadata
from tb_batchview.errors import ArgumentError, NotFoundError, in_brief
from tb_batchview.lookup import unknown
from tb_batchview.maps import Maps
from tb_batchview.mirror import Mirror, RunMirror
from tb_batchview.places import Reader, read_array
from tb_batchview.records import Opened
from tb_batchview.run import Run
from tb_batchview.store import RunStore

# A logdir may hold anything: stop looking for runs in it at some point.
MAX_DIRECTORIES = 100_000
MAX_DEPTH = 32

# A run is read for so long before it is another's turn.
SLICE_SECONDS = 0.25
# In the name of a run, as those of sweeps have them.
_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)")

# Told how many bytes are read, and of how many.
Progress = Callable[[int, int], object]


def load(log_dir: str | os.PathLike[str], progress: Progress | None = None) -> Log:
    """Open everything recorded below a directory.

    Reading works while training still writes: `Log.refresh` takes in what
    came since.

    Args:
        log_dir: The directory given to `BatchViewCallback`, or any above it;
            or one of a remote store, such as s3://bucket/logs, whose event
            files are copied to a temporary directory, at `Log.refresh` too.
        progress: Called now and then with the bytes read so far and those of
            all files together, for instance to draw a bar; of a remote
            directory first with those copied.

    Returns:
        The runs by name, read to their ends. Empty when nothing is recorded there yet.

    Raises:
        ArgumentError: It is no path.
        NotFoundError: There is no such directory.
        RemoteError: The remote store cannot be reached, or a package for it
            is missing.
    """
    if not isinstance(log_dir, (str, os.PathLike)):
        raise ArgumentError(f"log_dir must be a str or os.PathLike. Received: log_dir={in_brief(log_dir)}.")
    root = open_root(log_dir)
    if isinstance(root, Path) and not root.is_dir():
        # A notebook or a service is often in another directory than one thinks.
        place = "" if root.is_absolute() else f", which is {root.absolute()}"
        raise NotFoundError(f"log_dir must be a directory that exists. Received: log_dir={str(log_dir)!r}{place}.")
    log = Log({"": root}, reader=Maps(root).read)
    log.refresh(progress)
    if isinstance(root, Mirror):
        root.check()
    return log


def open_root(log_dir: str | os.PathLike[str], *, background: bool = False) -> Path | Mirror:
    """Return where to look for runs: a directory, or copies of a remote one.

    Args:
        log_dir: A path, or an address that fsspec knows.
        background: As for `Mirror`.
    """
    if address.is_remote(log_dir):
        return Mirror(os.fspath(log_dir), background=background)
    return address.local_path(log_dir)


class Log(Opened, Mapping[str, Run]):
    """The runs below a directory, by name.

    A run is named by the path, below that directory, of what was given to
    `BatchViewCallback` as `log_dir`; the directory itself is ".". Symbolic
    links are followed. Names are sorted as people count: 2 before 10.
    """

    def __init__(
        self,
        roots: Mapping[str, Path | Mirror],
        *,
        reader: Reader = read_array,
        find: Callable[[], Mapping[str, Path]] | None = None,
    ) -> None:
        """Use `load` instead.

        Args:
            roots: Directories to search, by what their runs' names begin with.
            reader: How the arrays of a batch are read.
            find: Returns more runs: the directories of their files, by name.
        """
        self._roots = {prefix: root if isinstance(root, Path) else root.path for prefix, root in roots.items()}
        self._mirrors = {prefix: root for prefix, root in roots.items() if isinstance(root, Mirror)}
        self._find = find
        self._reader = reader
        self._runs: dict[str, Run] = {}
        self._stores: dict[str, RunStore] = {}
        self._refreshing = threading.Lock()
        # Runs that are not read to their ends, by turns; the one to be read first; whose turn it was last.
        self._queue: deque[str] = deque()
        self._first = self._last = ""

    def refresh(self, progress: Progress | None = None) -> None:
        """Look for new runs and take in what was written since last time.

        Args:
            progress: As for `load`.
        """
        with self._refreshing:
            self.look(progress)
            told = time.monotonic()
            while (store := self.next_pending()) is not None:
                store.read(None if progress is None else SLICE_SECONDS)
                if progress is not None and time.monotonic() - told >= SLICE_SECONDS:
                    progress(*self.progress)
                    told = time.monotonic()
            if progress is not None:
                progress(*self.progress)

    @property
    def mirrors(self) -> tuple[Mirror, ...]:
        """Return the remote directories among those that are searched."""
        return tuple(self._mirrors.values())

    def look(self, progress: Progress | None = None) -> None:
        """Look for runs and how large they are; read nothing of them yet.

        Args:
            progress: Told what is copied of remote directories.
        """
        found: dict[str, tuple[Path, Mirror | None]] = {}
        if self._find is not None:
            found.update({name: (directory, None) for name, directory in self._find().items()})
        for prefix, root in self._roots.items():
            mirror = self._mirrors.get(prefix)
            if mirror is not None:
                mirror.look(progress)
            for name, directory in _find_runs(root):
                found[_join(prefix, name)] = directory, mirror
        runs, stores = {}, {}
        for name in sorted(found, key=_natural):
            directory, mirror = found[name]
            source = None if mirror is None else RunMirror(mirror, directory)
            store = self._stores.get(name) or RunStore(directory, source)
            store.look()
            if store.view.exists:
                stores[name] = store
                runs[name] = self._runs.get(name) or Run(name, store, self._reader)
        # One assignment: a reader sees the runs of before or of after.
        self._stores, self._runs = stores, runs
        waiting = [name for name in self._queue if name in stores]
        # Of many runs the newest is the one that is looked at.
        pending = [name for name in sorted(stores, key=lambda name: -stores[name].modified) if stores[name].pending]
        self._queue = deque(dict.fromkeys([*waiting, *pending]))

    def prefer(self, name: str) -> None:
        """Read one run before the others: every second turn is its own."""
        self._first = name
        for prefix, mirror in self._mirrors.items():
            if name == prefix or name.startswith(prefix and f"{prefix}/"):
                mirror.prefer(name[len(prefix) :].lstrip("/") or ".")

    def next_pending(self) -> RunStore | None:
        """Return the run whose turn it is to be read, None if all are."""
        first = self._stores.get(self._first)
        if first is not None and first.pending and self._last != self._first:
            self._last = self._first
            # Behind the others, of which one is next.
            self._queue = deque([*(name for name in self._queue if name != self._first), self._first])
            return first
        while self._queue:
            self._last = self._queue.popleft()
            store = self._stores.get(self._last)
            if store is not None and store.pending:
                self._queue.append(self._last)  # its next turn, if this one does not do
                return store
        self._last = ""
        return None

    def is_read(self, name: str | None = None) -> bool:
        """Tell whether a run, or every one, was read as far as looked at.

        And whether that can be seen: at the end of reading the snapshot is
        still to be made.
        """
        stores = self._stores
        return not any(store.pending or store.view.unread for run, store in stores.items() if name in (None, run))

    def snapshot(self) -> dict[str, Run]:
        """Return the runs as they are now, untouched by a later refresh."""
        return {name: run.snapshot() for name, run in self._runs.items()}

    @property
    def progress(self) -> tuple[int, int]:
        """Return how many bytes of all files are read, and of how many."""
        views = [run.view for run in self._runs.values()]
        total = sum(view.health.bytes for view in views)
        return total - sum(view.unread for view in views), total

    def __getitem__(self, name: str) -> Run:
        runs = self._runs
        if name not in runs:
            hint = "" if runs else " Ask `tb-batchview doctor` why."
            raise NotFoundError(unknown("run", name, runs) + hint)
        return runs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)

    def __repr__(self) -> str:
        return f"Log({', '.join(self._runs)})"


def has_runs(root: Path) -> bool:
    """Tell whether anything is recorded below a directory."""
    for _, directory in _find_runs(root):
        with contextlib.suppress(OSError), os.scandir(directory) as entries:
            if any(index.is_ours(entry.name) for entry in entries):
                return True
    return False


def _find_runs(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield the runs below a directory: name and `batchview` directory."""
    # Directories on the way down, by device and inode: a link back to one of them is a loop.
    stack: list[tuple[str, str, frozenset[tuple[int, int]]]] = [(os.fspath(root), ".", frozenset())]
    visited = 0
    while stack:
        path, name, above = stack.pop()
        visited += 1
        try:
            status = os.stat(path)
            identity = (status.st_dev, status.st_ino)
            if identity in above or len(above) > MAX_DEPTH or visited > MAX_DIRECTORIES:
                continue
            with os.scandir(path) as entries:
                names = sorted(entry.name for entry in entries if entry.is_dir())
        except OSError:
            continue  # gone meanwhile, or not ours to read
        for child in reversed(names):
            if child == metadata.DIRECTORY:
                yield name, Path(path, child)
            else:
                stack.append((os.path.join(path, child), _join("" if name == "." else name, child), above | {identity}))


def _join(prefix: str, name: str) -> str:
    if not prefix:
        return name
    return prefix if name == "." else f"{prefix}/{name}"


def _natural(name: str) -> tuple[list[tuple[float, str]], str]:
    """Return what sorts names as people do: 2 before 10, 3e-4 before 0.01."""
    parts = enumerate(_NUMBER.split(name))
    return [(float(part), "") if place % 2 else (0.0, part) for place, part in parts], name
