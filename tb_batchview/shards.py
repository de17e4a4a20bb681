"""Join what several workers recorded of a phase: a batch is the union of theirs.

Called by `store` for a snapshot. The columns of each worker stay as they are;
what is joined from them is made when it is looked at, so that following a
growing run costs little more than the steps. docs/data-format.md has the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from tb_batchview import metadata
from tb_batchview.views import SAMPLE_COLUMNS, LayerView, PhaseView, SampleView

Array = npt.NDArray[Any]
Value = TypeVar("Value")

_MOST_SAMPLES = 2**62  # of a batch, as in each worker's


class Late(Mapping[str, Value]):
    """A mapping whose values are made when they are first asked for."""

    def __init__(self, names: Sequence[str], make: Callable[[str], Value]) -> None:
        self._names = dict.fromkeys(names)
        self._make = make
        self._made: dict[str, Value] = {}

    def __getitem__(self, name: str) -> Value:
        if name not in self._made:
            if name not in self._names:
                raise KeyError(name)
            # Two threads may make it at once: both make the same.
            self._made[name] = self._make(name)
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def join_phases(shards: Sequence[PhaseView]) -> PhaseView:
    """Return the batches of all workers.

    Args:
        shards: What each worker recorded of one phase, in their order.
    """
    return _Join(shards).view()


class _Join:
    """The steps of all workers, and where those of each are among them."""

    def __init__(self, shards: Sequence[PhaseView]) -> None:
        self._shards = tuple(shards)
        # Each ascends: a merge takes a tenth of the time that np.unique does.
        step = np.sort(np.concatenate([shard.step for shard in shards]), kind="stable")
        self._step = step[np.diff(step, prepend=-1) > 0]
        self._rows = [np.searchsorted(self._step, shard.step) for shard in shards]

    def __iter__(self) -> Iterator[tuple[PhaseView, Array]]:
        return zip(self._shards, self._rows, strict=True)

    def view(self) -> PhaseView:
        """Return the joined phase."""
        count = len(self._step)
        epoch, index, size = (np.zeros(count, np.int64) for _ in range(3))
        wall_time = np.full(count, np.nan)
        taken, apart = np.zeros(count, bool), np.zeros(count, bool)
        for shard, rows in self:
            new = ~taken[rows]
            epoch[rows[new]], index[rows[new]] = shard.epoch[new], shard.index[new]
            apart[rows] |= shard.epoch != epoch[rows]
            taken[rows] = True
            size[rows] += np.minimum(shard.size, _MOST_SAMPLES // len(self._shards))
            wall_time[rows] = np.fmax(wall_time[rows], shard.wall_time)
        fieldset, fieldsets = self._join_fieldsets()
        nothing = _frozen(np.zeros(0, np.int64))
        return PhaseView(
            name=self._shards[0].name,
            step=_frozen(self._step),
            epoch=_frozen(epoch),
            index=_frozen(index),
            size=_frozen(size),
            wall_time=_frozen(wall_time),
            fields=Late(_names(shard.fields for shard in self._shards), self._average),
            outputs=self._join_outputs(),
            layers=self._join_layers([shard.layers for shard in self._shards]),
            gradients=self._join_layers([shard.gradients for shard in self._shards]),
            seen=max(shard.seen for shard in self._shards),
            _file=nothing,
            _position=nothing,
            _length=nothing,
            _layout=nothing,
            _fieldset=_frozen(fieldset),
            _fieldsets=fieldsets,
            shards=self._shards,
            apart=int(np.count_nonzero(apart)),
        )

    def _average(self, name: str) -> Array:
        """Return a field of the header: the mean, weighted by samples.

        A worker without the figure does not count; where none of them says
        of how many samples it is, all count the same.
        """
        found = [
            (shard.fields[name], _known(shard, name), shard.size.astype(np.float64), rows)
            for shard, rows in self
            if name in shard.fields
        ]
        total, workers = np.zeros(len(self._step)), np.zeros(len(self._step))
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

    def _join_fieldsets(self) -> tuple[Array, tuple[frozenset[str], ...]]:
        """Tell for each batch which fields any worker's header has."""
        numbers: dict[frozenset[str], int] = {frozenset(): 0}
        joined = np.zeros(len(self._step), np.int32)
        for shard, rows in self:
            pairs, place = np.unique(
                joined[rows].astype(np.int64) * len(shard._fieldsets) + shard._fieldset, return_inverse=True
            )
            known = tuple(numbers)
            made = []
            for pair in pairs.tolist():
                before, own = divmod(pair, len(shard._fieldsets))
                made.append(numbers.setdefault(known[before] | shard._fieldsets[own], len(numbers)))
            joined[rows] = np.array(made, np.int32)[place.reshape(-1)]
        return joined, tuple(numbers)

    def _join_outputs(self) -> dict[str, SampleView]:
        """Return the samples of each output, those of a batch by worker.

        Where a worker lacks an output that another has, its samples are
        there without values: the n-th is the same one in every output.
        """
        # Samples of each worker's batches, and of the workers before it.
        counts, before = [], []
        total = np.zeros(len(self._step), np.int64)
        for shard, rows in self:
            counted = [np.diff(samples.starts) for samples in shard.outputs.values()]
            counts.append(np.max(counted, axis=0) if counted else np.zeros(len(shard), np.int64))
            before.append(total[rows])
            total[rows] += counts[-1]
        return {
            output: self._join_samples(output, total, before)
            for output in _names(item.outputs for item in self._shards)
        }

    def _join_samples(self, output: str, total: Array, before: Sequence[Array]) -> SampleView:
        having = {
            worker: (shard.outputs[output], rows, first)
            for worker, ((shard, rows), first) in enumerate(zip(self, before, strict=True))
            if output in shard.outputs
        }
        present = np.zeros(len(self._step), bool)
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
        return SampleView(starts, columns, places=find_places)

    def _join_layers(self, views: Sequence[Mapping[str, LayerView]]) -> Late[LayerView]:
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
