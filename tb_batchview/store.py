"""Hold the small columns of one run, and read its large arrays on demand.

Called by `log`, which `plugin` and the user call. Calls `index`, puts what it
finds into `columns`, and calls `shards` where several workers recorded a run:
each has columns of its own. Readers take `RunStore.view`: an immutable snapshot
whose columns are all of one moment, whatever a refresh does meanwhile. Taken up:
80 bytes and 8 per metric a batch, at most 24 bytes a sample that was recorded;
predictions stay in the file. Of that, columns beyond 2 MB are in the directory
for temporary files, the others in memory. Of several workers 45 bytes a batch
more, and as much again in memory for what is looked at; where a file overlaps
another, the columns of batches that are looked at.
"""

from __future__ import annotations

import dataclasses
import itertools
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tb_batchview import index, layouts, metadata
from tb_batchview.blocks import Block
from tb_batchview.columns import PhaseColumns
from tb_batchview.layouts import Entry, Layout
from tb_batchview.records import PHASES, OutputSpec
from tb_batchview.shards import Joining
from tb_batchview.views import Health, PhaseView, RunView, Token

# While a run is being read, snapshots of the part may take one part in so many of the time.
_SNAPSHOT_SHARE = 5

# Different messages of writers that are kept.
_MAX_STATUSES = 1000


class Source(Protocol):
    """Where the files of a run are copied from."""

    def look(self) -> None:
        """Have what is new copied."""

    def lacking(self) -> tuple[int, Sequence[tuple[str, int]]]:
        """Return how many bytes will come, and what went wrong: counts."""


class RunStore:
    """The columns of one run, fed by its index.

    Attributes:
        view: The latest snapshot.
    """

    def __init__(self, directory: Path, source: Source | None = None) -> None:
        """Follow a run.

        Args:
            directory: The `batchview` directory of the run.
            source: Where its files are copied from, if they are.
        """
        self._source = source
        self._index = index.RunIndex(directory)
        self._refreshing = threading.Lock()
        self._clear()
        self.view = RunView({}, {}, Health(), {})

    @property
    def pending(self) -> bool:
        """Tell whether something that was looked at is still to be read."""
        return not self._broken and self._index.pending

    @property
    def modified(self) -> float:
        """Return when the run was written to last, by the file system."""
        return self._index.modified

    def refresh(self) -> RunView:
        """Take in what is new in the files and return the snapshot."""
        if self._source is not None:
            self._source.look()
        self.look()
        self.read()
        return self.view

    def look(self) -> None:
        """Look which files there are, and publish how large they are."""
        with self._refreshing:
            if self._index.look():
                self._clear()
            # What was known of replaced files stays until something of the new ones can stand for it.
            if self._index.files:
                self._publish_health()
            else:
                self.view = RunView({}, {}, self._health({}), {})

    def read(self, seconds: float | None = None) -> bool:
        """Take in what is new in the files that were looked at.

        Between two calls the snapshot is of what was read so far, in order.

        Args:
            seconds: Stop after about so many; None: read all.

        Returns:
            Whether everything is read.
        """
        with self._refreshing:
            if not self.pending:
                return True
            begun = time.monotonic()
            until = float("inf") if seconds is None else begun + seconds
            for entry in self._index.read(lambda: time.monotonic() >= until):
                self._changed = True
                if isinstance(entry, index.StatusEntry):
                    self._add_status(entry)
                elif isinstance(entry, Block):
                    self._add_block(entry)
                else:
                    self._add(entry)
            done = not self.pending
            self._spent += time.monotonic() - begun
            if done:
                finished = [columns.finish() for shards in self._phases.values() for columns in shards.values()]
                self._changed = self._changed or any(finished)
            # Most refreshes of most runs find nothing: then there is nothing to copy.
            if self._changed and (done or self._spent >= _SNAPSHOT_SHARE * self._snapshot_cost):
                self._publish()
            else:
                self._publish_health()
            return done

    def give_up(self, error: Exception) -> None:
        """Read no further: what was taken in last may be in part.

        The last snapshot stays, with a warning. Reading begins anew when a
        file of the run is replaced or deleted.
        """
        with self._refreshing:
            self._broken = f"{type(error).__name__}: {error}"
            self._publish_health()

    def _publish(self) -> None:
        begun = time.monotonic()
        ranks, done = self._ranks(), not self.pending
        for shards in self._phases.values():
            self._superseded += sum(columns.put_in_order(ranks, done=done) for columns in shards.values())
        phases = self._view_phases()
        self.view = self._snapshot(phases, self._health(phases))
        self._changed = False
        self._spent, self._snapshot_cost = 0.0, time.monotonic() - begun

    def _publish_health(self) -> None:
        """Publish what is known of the files, beside the columns as they are."""
        view = self.view
        health, unread = self._health(view.phases), self._unread()
        if (health, unread) != (view.health, view.unread):
            self.view = dataclasses.replace(view, health=health, unread=unread)

    def _unread(self) -> int:
        return 0 if self._broken else sum(file.unread for file in self._index.files) + self._lacking()[0]

    def _lacking(self) -> tuple[int, Sequence[tuple[str, int]]]:
        return (0, ()) if self._source is None else self._source.lacking()

    def _clear(self) -> None:
        # By phase and worker.
        self._phases: dict[str, dict[int, PhaseColumns]] = {}
        self._joining: dict[str, Joining] = {}
        self._outputs: dict[str, OutputSpec] = {}
        self._info: dict[str, str] = {}
        self._layouts: list[Layout] = []
        self._layout_numbers: dict[int, int] = {}
        self._joined: dict[tuple[int, ...], Layout] = {}
        self._token = Token()
        self._shown: set[str] = set()
        self._odd_inputs: set[Any] = set()
        self._content: metadata.Content | None = None
        self._statuses: dict[tuple[int, str, str], int] = {}
        self._further = 0
        self._seen: dict[str, int] = {}
        self._bases: dict[tuple[int, str], int] = {}
        self._invalid = 0
        self._superseded = 0
        # What the last snapshot lacks: it must at least be told that the columns are others.
        self._changed = True
        self._spent = self._snapshot_cost = 0.0
        self._broken = ""

    def _add(self, entry: Entry) -> None:
        layout = entry.layout
        self._learn(layout.content)
        if layout.inputs is not None:
            self._shown.add(layout.phase)
        shards = self._phases.setdefault(layout.phase, {})
        worker = self._worker(entry.file)
        columns = shards.get(worker)
        if columns is None:
            columns = shards[worker] = PhaseColumns(layout.phase)
        # A writer counts from where the files before its own ended.
        self._bases.setdefault((entry.file, layout.phase), min(entry.step, columns.last_step + 1))
        try:
            columns.add(entry, self._layout_number(layout))
        except (ValueError, OverflowError):
            # The numbers of the header are floats: one may be NaN or out of range.
            self._invalid += 1

    def _add_block(self, block: Block) -> None:
        by_phase: dict[str, list[tuple[Layout, int, npt.NDArray[np.int64]]]] = {}
        for layout, rows in block.groups:
            self._learn(layout.content)
            by_phase.setdefault(layout.phase, []).append((layout, self._layout_number(layout), rows))
        for phase, groups in by_phase.items():
            # A layout is known from a batch of the same file, which made the columns.
            self._invalid += self._phases[phase][self._worker(block.file)].add_block(block, groups)

    def _learn(self, content: metadata.Content) -> None:
        """Take in what a header's metadata tell; what came last counts."""
        if content is not self._content:
            self._content = content
            self._outputs.update(content.outputs)
            self._info.update(content.run)

    def _layout_number(self, layout: Layout) -> int:
        number = self._layout_numbers.get(id(layout))
        if number is None:
            if len(self._layouts) >= layouts.MAX_LAYOUTS:
                return -1
            number = self._layout_numbers[id(layout)] = len(self._layouts)
            self._layouts.append(layout)
        return number

    def _add_status(self, entry: index.StatusEntry) -> None:
        status = entry.status
        for phase, seen in status.seen.items():
            columns = self._phases.get(phase, {}).get(self._worker(entry.file))
            begin = self._bases.setdefault((entry.file, phase), columns.last_step + 1 if columns else 0)
            self._seen[phase] = max(begin + seen, self._seen.get(phase, 0))
        if status.kind != "closed":
            key = entry.file, status.kind, status.message
            if key not in self._statuses and len(self._statuses) >= _MAX_STATUSES:
                # A writer tells twenty at most. The rest is counted.
                self._further += status.count
            else:
                self._statuses[key] = status.count

    def _worker(self, file: int) -> int:
        return self._index.files[file].worker or 0

    def _ranks(self) -> npt.NDArray[np.int64]:
        """Return the rank by name of each file, by number."""
        names = [file.path.name for file in self._index.files]
        return np.argsort(np.argsort(np.array(names, str), kind="stable"), kind="stable")

    def _view_phases(self) -> dict[str, PhaseView]:
        phases = {}
        for name in PHASES:
            if name in self._phases:
                shards = [columns for _, columns in sorted(self._phases[name].items())]
                views = [columns.view(self._seen.get(name, 0)) for columns in shards]
                news = np.concatenate([columns.take_news() for columns in shards])
                if len(views) > 1 and name not in self._joining:
                    self._joining[name] = Joining()
                phases[name] = views[0] if len(views) == 1 else self._joining[name].join(views, news)
        return phases

    def _snapshot(self, phases: Mapping[str, PhaseView], health: Health) -> RunView:
        return RunView(
            phases=phases,
            outputs=dict(self._outputs),
            health=health,
            info=dict(self._info),
            unread=self._unread(),
            _files=tuple(self._index.files),
            _layouts=tuple(self._layouts),
            _joined=self._joined,
            _token=self._token,
            _shown=frozenset(self._shown),
            _odd_inputs=self._odd_inputs,
        )

    def _health(self, phases: Mapping[str, PhaseView]) -> Health:
        files = self._index.files
        warnings: dict[tuple[str, str], int] = {}
        for (_, kind, message), count in self._statuses.items():
            warnings[kind, message] = warnings.get((kind, message), 0) + count
        if self._further:
            warnings["read", "There were further problems."] = self._further
        for file in files:
            if file.refused:
                warnings["refused", f"{file.path.name}: {file.refused}"] = 1
        for message in self._index.unreadable.values():
            warnings["read", message] = 1
        lacking, troubles = self._lacking()
        warnings.update({("read", message): count for message, count in troubles})
        if self._broken:
            warnings["read", f"Reading stopped, shown is what was read before: {self._broken}."] = 1
        if self._superseded:
            message = "Batches that were recorded twice: the later file counts."
            warnings["read", message] = self._superseded
        workers = max((file.workers for file in files), default=1)
        present = {file.worker for file in files if file.worker is not None}
        missing = workers - len(present) if present else 0
        if missing > 0:
            first = next(number for number in itertools.count() if number not in present)
            message = f"Nothing is recorded by {missing} of {workers} workers, the first of them worker {first}."
            warnings["read", message] = 1
        if self._odd_inputs:
            warnings["read", "Inputs that are neither PNG, JPEG nor text are not shown."] = len(self._odd_inputs)
        apart = sum(phase.apart for phase in phases.values())
        if apart:
            message = "Workers recorded different batches under one step: their epochs differ."
            warnings["read", message] = apart
        return Health(
            files=len(files),
            bytes=sum(file.size for file in files) + lacking,
            corrupt_records=sum(file.corrupt for file in files) + self._invalid,
            torn_files=sum(file.torn for file in files),
            refused_files=sum(bool(file.refused) for file in files),
            dropped_batches=sum(count for (_, kind, _), count in self._statuses.items() if kind == "dropped"),
            warnings=tuple((kind, message, count) for (kind, message), count in warnings.items()),
            workers=workers,
        )
