"""Join what several workers recorded of a phase: a batch is the union of theirs.

Called by `store` for a snapshot. Calls `growing` for what is joined once: the
numbers of the batches, which go on from one snapshot to the next. The columns of
each worker stay as they are; the rest is joined from them when it is looked at.
docs/data-format.md has the rules.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tb_batchview import metadata
from tb_batchview.growing import Column
from tb_batchview.order import NEW_SHARE, Order
from tb_batchview.views import SAMPLE_COLUMNS, Late, LayerView, PhaseView, SampleView, Tokens

Array = npt.NDArray[Any]

_MOST_SAMPLES = 2**62  # of a batch, as in each worker's

# Batches that wait for a worker which lags behind; they are joined anew when something is new.
MOST_OPEN = 4096

# What is joined once: dtype, and what stands where there is nothing yet.
_COLUMNS: dict[str, tuple[Any, float]] = {
    "step": (np.int64, 0),
    "epoch": (np.int64, 0),
    "index": (np.int64, 0),
    "size": (np.int64, 0),
    "wall_time": (np.float64, np.nan),
    "apart": (np.bool_, False),
    "fieldset": (np.int32, 0),
}


class Joining:
    """The joined batches of a phase whose workers go on recording.

    What was joined is kept; what is new in any worker is joined. The last
    batches, of which a worker may still lack its share, stay apart from the
    others, so that these seldom change.
    """

    def __init__(self) -> None:
        self._clear(0)

    def _clear(self, shards: int) -> None:
        self._shards = shards
        self._settled = {name: Column(*kind) for name, kind in _COLUMNS.items()}
        self._order = Order.of(np.zeros(0, np.int64))
        self._last_step = -1  # the greatest that is settled
        self._open = {name: np.zeros(0, dtype) for name, (dtype, _) in _COLUMNS.items()}
        self._numbers: dict[frozenset[str], int] = {frozenset(): 0}
        self._tokens = Tokens()

    def join(self, shards: Sequence[PhaseView], changed: Array) -> PhaseView:
        """Return the batches of all workers.

        Args:
            shards: What each worker recorded of one phase, in their order.
            changed: The steps that are new in any of them since the last time.
        """
        if len(shards) != self._shards:
            self._clear(len(shards))
            changed = np.concatenate([shard.step for shard in shards])
        if len(changed):
            self._go_on(shards, _merge(changed))
        columns = self._views()
        join = _Join(shards, self._count, columns, self._tokens)
        return PhaseView(
            name=shards[0].name,
            count=self._count,
            columns=columns,
            fields=Late(_names(shard.fields for shard in shards), join.average),
            outputs=Late(_names(shard.outputs for shard in shards), join.samples),
            layers=join.layers([shard.layers for shard in shards]),
            gradients=join.layers([shard.gradients for shard in shards]),
            seen=max(shard.seen for shard in shards),
            _fieldsets=tuple(self._numbers),
            shards=tuple(shards),
            apart=int(np.count_nonzero(columns["apart"])),
        )

    def _go_on(self, shards: Sequence[PhaseView], changed: Array) -> None:
        """Join the batches of some steps anew, and settle what is old."""
        before = self._count
        split = int(np.searchsorted(changed, self._last_step, side="right"))
        place = self._join_late(shards, changed[:split]) if split else before
        changed = changed[split:]
        same = int(np.searchsorted(self._open["step"], changed[0])) if len(changed) else len(self._open["step"])
        place = min(place, len(self._order) + same)
        joined = self._join_steps(shards, _merge(np.concatenate([self._open["step"][same:], changed])))
        now = {name: np.concatenate([rows[:same], joined[name]]) for name, rows in self._open.items()}
        # All workers have come so far; or it is so many batches ago that the slower may have ended.
        common = min(int(shard.step[-1]) if len(shard) else -1 for shard in shards)
        done = max(int(np.searchsorted(now["step"], common, side="right")), len(now["step"]) - MOST_OPEN)
        if done:
            first = self._settle({name: rows[:done] for name, rows in now.items()})
            self._order = self._order.extended(first, first + done)
            self._last_step = int(now["step"][done - 1])
        self._open = {name: rows[done:] for name, rows in now.items()}
        if place < before:
            self._tokens = self._tokens.changed(place)

    def _join_late(self, shards: Sequence[PhaseView], changed: Array) -> int:
        """Join batches of steps that were settled, or before such ones.

        Returns:
            The place before which all is as it was.
        """
        first = self._settle(self._join_steps(shards, changed))
        step = self._settled["step"].view()
        # What is joined last is what holds.
        self._order, place = self._order.merged(np.arange(first, first + len(changed)), step, lambda rows: rows)
        if len(changed) * NEW_SHARE >= len(self._order):
            for column in self._settled.values():
                column.replace(self._order.take(column.view()))
            self._order = Order(np.array([0]), np.array([len(self._order)]))
        return place

    def _settle(self, joined: Mapping[str, Array]) -> int:
        """Add rows to the columns; return the first one's number."""
        first = self._settled["step"].count
        for name, rows in joined.items():
            # Copies: what waits in a column must not keep all the rest.
            self._settled[name].extend(rows.copy())
        return first

    def _join_steps(self, shards: Sequence[PhaseView], step: Array) -> dict[str, Array]:
        """Join what the workers have of some steps, which ascend."""
        joined = {name: np.full(len(step), fill, dtype) for name, (dtype, fill) in _COLUMNS.items()}
        joined["step"] = step
        epoch, index, size, wall_time, apart, fieldset = (joined[name] for name in list(_COLUMNS)[1:])
        taken = np.zeros(len(step), bool)
        for shard in shards:
            own = np.searchsorted(shard.step, step)
            rows = np.flatnonzero(shard.step[np.minimum(own, len(shard) - 1)] == step) if len(shard) else own[:0]
            own = own[rows]
            new = ~taken[rows]
            epoch[rows[new]], index[rows[new]] = shard.epoch[own[new]], shard.index[own[new]]
            apart[rows] |= shard.epoch[own] != epoch[rows]
            taken[rows] = True
            size[rows] += np.minimum(shard.size[own], _MOST_SAMPLES // len(shards))
            wall_time[rows] = np.fmax(wall_time[rows], shard.wall_time[own])
            fieldset[rows] = self._join_fieldsets(fieldset[rows], shard._fieldset[own], shard._fieldsets)
        return joined

    def _join_fieldsets(self, joined: Array, own: Array, fieldsets: Sequence[frozenset[str]]) -> Array:
        """Tell for each batch which fields any worker's header has.

        Args:
            joined: Number of what the workers before have.
            own: Number of what this one has.
            fieldsets: By the numbers of `own`.
        """
        pairs, place = np.unique(joined.astype(np.int64) * len(fieldsets) + own, return_inverse=True)
        known = tuple(self._numbers)
        made = []
        for pair in pairs.tolist():
            before, number = divmod(pair, len(fieldsets))
            made.append(self._numbers.setdefault(known[before] | fieldsets[number], len(self._numbers)))
        return np.array(made, np.int32)[place.reshape(-1)]

    @property
    def _count(self) -> int:
        return len(self._order) + len(self._open["step"])

    def _views(self) -> Mapping[str, Array]:
        """Return the columns; what is not in one piece is copied when looked at."""
        settled, rest, order = {name: column.view() for name, column in self._settled.items()}, self._open, self._order
        if order.is_plain and not len(rest["step"]):
            return settled
        return Late(list(settled), lambda name: _frozen(np.concatenate([order.take(settled[name]), rest[name]])))


class _Join:
    """What is joined when it is looked at; it is of one moment."""

    def __init__(self, shards: Sequence[PhaseView], count: int, columns: Mapping[str, Array], tokens: Tokens) -> None:
        self._shards = tuple(shards)
        self._count = count
        self._columns = columns
        self._tokens = tokens

    @functools.cached_property
    def _rows(self) -> list[Array]:
        """Tell where the batches of each worker are among all."""
        step = self._columns["step"]
        return [_find(step, shard.step) for shard in self._shards]

    def __iter__(self) -> Iterator[tuple[PhaseView, Array]]:
        return zip(self._shards, self._rows, strict=True)

    def average(self, name: str) -> Array:
        """Return a field of the header: the mean, weighted by samples.

        A worker without the figure does not count; where none of them says
        of how many samples it is, all count the same.
        """
        found = [
            (shard.fields[name], _known(shard, name), shard.size.astype(np.float64), rows)
            for shard, rows in self
            if name in shard.fields
        ]
        total, workers = np.zeros(self._count), np.zeros(self._count)
        for _, known, size, rows in found:
            total[rows] += np.where(known, size, 0.0)
            workers[rows] += known
        mean = np.where(workers > 0, 0.0, np.nan)
        with np.errstate(all="ignore"):
            for values, known, size, rows in found:
                share = np.where(total[rows] > 0, size / total[rows], 1 / workers[rows])
                # A share of 1 leaves the value of a single worker as it is, to the last bit.
                mean[rows] += np.where(known & (share > 0), values * share, 0.0)
        return _frozen(mean)

    @functools.cached_property
    def _totals(self) -> tuple[Array, list[Array]]:
        """Return the samples of each batch, and those of the workers before."""
        before = []
        total = np.zeros(self._count, np.int64)
        for shard, rows in self:
            counted = [np.diff(samples.starts) for samples in shard.outputs.values()]
            before.append(total[rows])
            total[rows] += np.max(counted, axis=0) if counted else np.zeros(len(shard), np.int64)
        return total, before

    def samples(self, output: str) -> SampleView:
        """Return the samples of an output, those of a batch by worker.

        Where a worker lacks an output that another has, its samples are
        there without values: the n-th is the same one in every output.
        """
        total, before = self._totals
        having = {
            worker: (shard.outputs[output], rows, first)
            for worker, ((shard, rows), first) in enumerate(zip(self, before, strict=True))
            if output in shard.outputs
        }
        present = np.zeros(self._count, bool)
        for samples, rows, _ in having.values():
            present[rows] |= np.diff(samples.starts) > 0
        starts = _frozen(np.concatenate([[0], np.cumsum(np.where(present, total, 0))]).astype(np.int64))

        def find_places(worker: int) -> Array:
            if worker not in having:
                return np.zeros(0, np.int64)
            samples, rows, first = having[worker]
            moved = starts[rows] + first - samples.starts[:-1]
            places: Array = np.arange(samples.starts[-1]) + np.repeat(moved, np.diff(samples.starts))
            return places

        def join(kind: str) -> Array:
            dtype, fill = SAMPLE_COLUMNS[kind]
            column = np.full(starts[-1], fill, dtype)
            for worker, (samples, _, _) in having.items():
                if kind in samples.columns:
                    column[find_places(worker)] = samples.columns[kind]
            return _frozen(column)

        columns = Late(_names(samples.columns for samples, _, _ in having.values()), join)
        return SampleView(starts, columns, places=find_places, tokens=self._tokens)

    def layers(self, views: Sequence[Mapping[str, LayerView]]) -> Late[LayerView]:
        """Return the summaries of each layer, of the first worker with one."""

        def join(name: str) -> LayerView:
            found = [
                (number, rows, view[name])
                for number, (view, rows) in enumerate(zip(views, self._rows, strict=True))
                if name in view
            ]
            rows, first = np.unique(np.concatenate([rows[layer.rows] for _, rows, layer in found]), return_index=True)
            shard = np.repeat([number for number, _, _ in found], [len(layer.rows) for _, _, layer in found])
            own = np.concatenate([layer.rows for _, _, layer in found])
            figures = np.concatenate([layer.figures for _, _, layer in found])
            return LayerView(_frozen(rows), _frozen(figures[first]), _frozen(shard[first]), _frozen(own[first]))

        return Late(_names(views), join)


def _merge(step: Array) -> Array:
    """Return each step once, in order."""
    # Of several that ascend: a merge takes a tenth of the time that np.unique does.
    step = np.sort(step, kind="stable")
    return step[np.append(True, step[1:] != step[:-1])[: len(step)]]


def _find(step: Array, own: Array) -> Array:
    """Return where the steps of one worker are among those of all.

    Most have all of them, up to where they are.
    """
    count = min(len(step), len(own))
    others = np.flatnonzero(step[:count] != own[:count])
    same = int(others[0]) if len(others) else count
    return np.concatenate([np.arange(same), same + np.searchsorted(step[same:], own[same:])])


def _known(shard: PhaseView, name: str) -> Array:
    """Mark the batches in which a worker has a figure.

    Where it has one elsewhere, a loss or metric that is not a number is a
    figure too: a training that went wrong in one worker must be seen.
    """
    numbers = ~np.isnan(shard.fields[name])
    if (name == "loss" or name.startswith(metadata.metric_field(""))) and numbers.any():
        return shard.has(name)
    return numbers


def _names(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))


def _frozen(array: Array) -> Array:
    array.flags.writeable = False
    return array
