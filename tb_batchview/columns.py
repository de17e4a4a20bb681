"""The growing columns of one worker's batches in one phase, and of their samples.

Called by `store`. Calls `growing` for each column: what was handed out by a
view never changes, whatever is added later. Batches that come out of order stay
where they were added, and `order` tells how they follow each other: a view of
such a phase puts together what is looked at.
"""

from __future__ import annotations

import dataclasses
import functools
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tb_batchview import layouts
from tb_batchview.blocks import Block
from tb_batchview.growing import Column
from tb_batchview.identity import Identity
from tb_batchview.layouts import Entry, Layout
from tb_batchview.order import NEW_SHARE, Order, Pieces
from tb_batchview.running import RunningSpikes, RunningSums
from tb_batchview.views import SAMPLE_COLUMNS, Late, LayerView, PhaseView, SampleView, Tokens

Array = npt.NDArray[Any]

# A count in a header is below this.
_MOST = 2**62

# The pieces of a longer record are copied: they would keep all of it in memory.
_PIECE_BYTES = 1 << 16


class _OutputColumns:
    """Growing columns of the samples of one output."""

    def __init__(self) -> None:
        # Where the samples of each batch begin, and where those of the last one end.
        self.bounds = Column(np.int64, 0)
        self.bounds.append(0)
        self.columns: dict[str, Column] = {}
        self.sums: dict[tuple[str, int], RunningSums] = {}
        self.identity = Identity()
        self.tokens = Tokens()
        self.total = 0

    def add(self, row: int, samples: int, arrays: Mapping[str, Array]) -> None:
        """Add the samples of a batch; `row` is its place in the phase."""
        self.bounds.pad(row + 1, self.total)
        self.bounds.append(self.total + samples)
        for kind, rows in arrays.items():
            self._column(kind).extend(rows)
        self.total += samples

    def add_many(self, row: int, count: int, groups: Sequence[tuple[Array, int, Mapping[str, Array]]]) -> None:
        """Add the samples of as many batches, of several layouts.

        Args:
            row: Place of the first one in the phase.
            count: Number of batches.
            groups: Which of them a group is, the samples of each, and what
                they have, of shape (batches, samples).
        """
        samples = np.zeros(count, np.int64)
        for rows, each, _ in groups:
            samples[rows] = each
        stops = np.cumsum(samples)
        self.bounds.pad(row + 1, self.total)
        self.bounds.extend(self.total + stops)
        for kind in dict.fromkeys(kind for _, _, arrays in groups for kind in arrays):
            column = self._column(kind)
            if len(groups) == 1:
                column.extend(groups[0][2][kind].reshape(-1))
                continue
            dtype, fill = SAMPLE_COLUMNS[kind]
            values: Array = np.full(stops[-1], fill, dtype)
            with np.errstate(all="ignore"):
                for rows, each, arrays in groups:
                    if kind in arrays:
                        values[(stops - samples)[rows, None] + np.arange(each)] = arrays[kind]
            column.extend(values)
        self.total += int(stops[-1])

    def _column(self, kind: str) -> Column:
        """Return a column with a row for every sample so far."""
        column = self.columns.get(kind)
        if column is None:
            column = self.columns[kind] = Column(*SAMPLE_COLUMNS[kind])
        column.pad(self.total)
        return column

    def view(self, batches: int, order: Order) -> Callable[[], SampleView]:
        """Return what makes a snapshot of the batches that count.

        Args:
            batches: How many there are, counting or not.
            order: Which of them count.
        """
        bounds, columns = self._stored(batches)
        make = functools.partial(SampleView, sums=self.sums, identity=self.identity, tokens=self.tokens)
        if order.is_plain:
            starts = bounds[: len(order) + 1]
            samples = int(starts[-1])
            return lambda: make(starts, {name: column[:samples] for name, column in columns.items()})
        return lambda: make(*_in_order(bounds, columns, order))

    def _stored(self, batches: int) -> tuple[Array, dict[str, Array]]:
        """Return bounds and columns as they are, of equal length."""
        self.bounds.pad(batches + 1, self.total)
        for column in self.columns.values():
            column.pad(self.total)
        return self.bounds.view(), {name: column.view() for name, column in self.columns.items()}

    def keep(self, batches: int, order: Array) -> None:
        """Keep the samples of some batches, in another order."""
        bounds, columns = self._stored(batches)
        counts = np.diff(bounds)[order]
        starts = np.concatenate([[0], np.cumsum(counts)])
        # Row numbers of the samples kept: a run of consecutive ones per batch.
        rows = np.arange(starts[-1]) + np.repeat(bounds[order] - starts[:-1], counts)
        for name, column in self.columns.items():
            column.replace(columns[name][rows])
        self.bounds.replace(starts)
        self.total = int(starts[-1])

    def forget(self, row: int) -> None:
        """Take back what was worked out from the batches from a row on."""
        # A copy, since readers may add to it meanwhile.
        self.sums = {key: sums.before(row) for key, sums in self.sums.copy().items()}
        self.identity = self.identity.before(row)
        self.tokens = self.tokens.changed(row)


class PhaseColumns:
    """Growing columns of one phase."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self.step = Column(np.int64, 0)
        self.wall_time = Column(np.float64, np.nan)
        self.numbers = {field: Column(np.int64, 0) for field in ("epoch", "index", "size")}
        self.fields: dict[str, Column] = {}
        self.file = Column(np.int32, 0)
        self.position = Column(np.int64, 0)
        self.length = Column(np.int64, 0)
        self.layout = Column(np.int32, -1)
        self.fieldset = Column(np.int32, 0)
        self.fieldsets: dict[frozenset[str], int] = {}
        self.outputs: dict[str, _OutputColumns] = {}
        # Of layers and gradients, by layer and kind.
        self.layers: dict[tuple[str, str], tuple[Column, Column]] = {}
        self.last_step = -1  # the greatest so far
        # Which rows count; those that were added since come after `_ordered`, in order as long as it is so.
        self._order = Order.of(np.zeros(0, np.int64))
        self._ordered = 0
        self._in_order = True
        self._fresh = 0  # rows that were added since all was read
        # Steps that were added since somebody asked.
        self._news: list[Array] = []
        self._spikes = RunningSpikes()
        self._plans: dict[int, tuple[Layout, _Plan]] = {}

    def add(self, entry: Entry, layout: int) -> None:
        """Add a batch.

        Raises:
            ValueError, OverflowError: A number of the header cannot be.
        """
        plan = self._plan(entry.layout)
        header = plan.header.unpack_from(entry.front, plan.header_offset)
        whole = [0 if place is None else _whole(header[place]) for place in plan.whole]
        row = self.count
        self.step.append(entry.step)
        self.wall_time.append(entry.wall_time)
        for column, number in zip(self.numbers.values(), whole, strict=True):
            column.append(number)
        for column, place in plan.floats:
            column.pad(row)
            column.append(header[place])
        self.file.append(entry.file)
        self.position.append(entry.position)
        self.length.append(entry.length)
        self.layout.append(layout)
        self.fieldset.append(plan.fieldset)
        for output, samples, slots in plan.outputs:
            front = entry.front
            arrays = {kind: np.frombuffer(front, dtype, samples, offset) for kind, dtype, offset in slots}
            if len(front) > _PIECE_BYTES:
                arrays = {kind: array.copy() for kind, array in arrays.items()}
            self.outputs[output].add(row, samples, arrays)
        for layer, raw in entry.summaries.items():
            rows, figures = self._layer(layer)
            rows.append(row)
            figures.append(np.frombuffer(raw, "<f4"))
        self.count += 1
        self._in_order = self._in_order and entry.step > self.last_step
        self.last_step = max(self.last_step, entry.step)

    def add_block(self, block: Block, groups: Sequence[tuple[Layout, int, Array]]) -> int:
        """Add the batches of a block that are of this phase.

        Args:
            block: Batches of several phases.
            groups: Layout, its number and which batches are of it.

        Returns:
            How many were left out: a number of their header cannot be.
        """
        parts = [self._part(block, layout, number, rows) for layout, number, rows in groups]
        chosen = np.sort(np.concatenate([part.rows for part in parts]))
        count = len(chosen)
        # Columns appear in the order in which batches have them.
        parts = sorted((part for part in parts if len(part.rows)), key=lambda part: int(part.rows[0]))
        places = [np.searchsorted(chosen, part.rows) for part in parts]
        if not count:
            return sum(len(rows) for _, _, rows in groups)

        def spread(values: Sequence[Any], fill: float, dtype: Any) -> Array:
            column: Array = np.full(count, fill, dtype)
            for place, value in zip(places, values, strict=True):
                if value is not None:
                    column[place] = value
            return column

        step = block.step[chosen]
        self.step.extend(step)
        self.wall_time.extend(block.wall_time[chosen])
        for number, column in enumerate(self.numbers.values()):
            column.extend(spread([part.whole[number] for part in parts], 0, np.int64))
        for column in dict.fromkeys(column for part in parts for column in part.floats):
            column.pad(self.count)
            column.extend(spread([part.floats.get(column) for part in parts], np.nan, np.float64))
        self.file.extend(np.full(count, block.file, np.int32))
        self.position.extend(block.position[chosen])
        self.length.extend(block.length[chosen])
        self.layout.extend(spread([part.layout for part in parts], -1, np.int32))
        self.fieldset.extend(spread([part.plan.fieldset for part in parts], 0, np.int32))
        for output in dict.fromkeys(output for part in parts for output, _, _ in part.plan.outputs):
            self.outputs[output].add_many(
                self.count,
                count,
                [
                    (place, samples, {kind: block.take(part.rows, at, dtype, samples) for kind, dtype, at in slots})
                    for part, place in zip(parts, places, strict=True)
                    for name, samples, slots in part.plan.outputs
                    if name == output
                ],
            )
        self._add_layers(block, parts, places)
        self.count += count
        self._in_order = self._in_order and bool(np.all(np.diff(step, prepend=self.last_step) > 0))
        self.last_step = max(self.last_step, int(step.max()))
        return sum(len(rows) for _, _, rows in groups) - count

    def _part(self, block: Block, layout: Layout, number: int, rows: Array) -> _Part:
        """Return the batches of one layout whose header can be."""
        plan = self._plan(layout)
        header = block.take(rows, plan.header_offset, "<f8", plan.header.size // 8)
        counts = np.trunc(header[:, [place for place in plan.whole if place is not None]])
        sound = ((counts >= 0) & (counts < _MOST)).all(axis=1)
        header = header[sound]
        return _Part(
            plan=plan,
            layout=number,
            rows=rows[sound],
            whole=tuple(None if place is None else header[:, place].astype(np.int64) for place in plan.whole),
            floats={column: header[:, place] for column, place in plan.floats},
        )

    def _add_layers(self, block: Block, parts: Sequence[_Part], places: Sequence[Array]) -> None:
        for layer in dict.fromkeys(layer for part in parts for layer, _ in part.plan.summaries):
            rows, figures = self._layer(layer)
            having = [
                (self.count + place, block.take(part.rows, offset, "<f4", len(layouts.SUMMARIES[layer[1]])))
                for part, place in zip(parts, places, strict=True)
                for name, offset in part.plan.summaries
                if name == layer
            ]
            found = np.concatenate([place for place, _ in having])
            order = np.argsort(found)
            rows.extend(found[order])
            figures.extend(np.concatenate([values for _, values in having])[order])

    def _layer(self, key: tuple[str, str]) -> tuple[Column, Column]:
        """Return the batches that have a layer, and its figures there."""
        if key not in self.layers:
            self.layers[key] = (Column(np.int64, 0), Column(np.float32, np.nan, len(layouts.SUMMARIES[key[1]])))
        return self.layers[key]

    def _layer_views(self, kind: str) -> Mapping[str, LayerView]:
        order = self._order
        found = {
            name: (rows.view(), figures.view())
            for (name, other), (rows, figures) in self.layers.items()
            if other == kind
        }
        if order.is_plain and len(order) == self.count:
            return {name: LayerView(*columns) for name, columns in found.items()}

        def make(name: str) -> LayerView:
            rows, figures = found[name]
            which, places = order.pick(rows)
            return LayerView(_frozen(places), _frozen(figures[which]))

        return Late(list(found), make)

    def put_in_order(self, ranks: Array, *, done: bool) -> int:
        """Order the batches by step; of one step the later file's counts.

        Args:
            ranks: Of the files, by number. Of two that were there before the
                same one is the later.
            done: Whether all is read.

        Returns:
            How many batches another one stands for, of those before too.
        """
        left_out = self._order_new(ranks) if self._ordered < self.count else 0
        if done and self.finish():
            self._keep(self._order.rows())
            self._fresh = 0
        return left_out

    def finish(self) -> bool:
        """Tell, when all is read, whether so much is new that it is to be moved."""
        moving = not self._order.is_plain and self._fresh * NEW_SHARE >= self.count
        if not moving and self._ordered == self.count:
            self._fresh = 0
        return moving

    def _order_new(self, ranks: Array) -> int:
        """Put what was added in order; return how many batches do not count."""
        first, last, before = self._ordered, self.count, len(self._order)
        step = self.step.view()
        self._news.append(step[first:])
        if self._in_order:
            self._order, changed = self._order.extended(first, last), before
        else:
            file = self.file.view()
            self._order, changed = self._order.merged(np.arange(first, last), step, lambda rows: ranks[file[rows]])
        if changed < before:
            self._spikes = self._spikes.before(changed)
            for output in self.outputs.values():
                output.forget(changed)
        self._ordered, self._in_order = last, True
        self._fresh += last - first
        return before + last - first - len(self._order)

    def take_news(self) -> Array:
        """Return the steps that are new since this was asked last."""
        news, self._news = self._news, []
        return np.concatenate([np.zeros(0, np.int64), *news])

    def view(self, seen: int) -> PhaseView:
        """Return a snapshot."""
        for field in self.fields.values():
            field.pad(self.count)
        order = self._order
        columns = {name: column.view() for name, column in self._columns.items()}
        fields = {name: column.view() for name, column in self.fields.items()}
        outputs = {name: output.view(self.count, order) for name, output in self.outputs.items()}
        plain = order.is_plain and len(order) == self.count
        return PhaseView(
            name=self.name,
            count=len(order),
            columns=columns if plain else Late(list(columns), lambda name: order.take(columns[name])),
            fields=fields if plain else Late(list(fields), lambda name: order.take(fields[name])),
            outputs=(
                {name: make() for name, make in outputs.items()}
                if plain
                else Late(list(outputs), lambda name: outputs[name]())
            ),
            layers=self._layer_views("layer_summary"),
            gradients=self._layer_views("gradient_summary"),
            seen=max(seen, self.last_step + 1),
            _fieldsets=tuple(self.fieldsets),
            spikes=self._spikes,
        )

    def _keep(self, order: Array) -> None:
        for output in self.outputs.values():
            output.keep(self.count, order)
        for field in self.fields.values():
            field.pad(self.count)
        for column in (*self._columns.values(), *self.fields.values()):
            column.replace(column.view()[order])
        place = np.full(self.count, -1, np.int64)
        place[order] = np.arange(len(order))
        for rows, figures in self.layers.values():
            now = place[rows.view()]
            sequence = np.argsort(now, kind="stable")
            sequence = sequence[now[sequence] >= 0]
            figures.replace(figures.view()[sequence])
            rows.replace(now[sequence])
        self.count = self._ordered = len(order)
        self._order = Order(np.array([0]), np.array([self.count]))

    @property
    def _columns(self) -> dict[str, Column]:
        """Return the columns that every batch has, by name."""
        return {
            "step": self.step,
            **self.numbers,
            "wall_time": self.wall_time,
            "file": self.file,
            "position": self.position,
            "length": self.length,
            "layout": self.layout,
            "fieldset": self.fieldset,
        }

    def _plan(self, layout: Layout) -> _Plan:
        """Return what to do with the values of a layout, made once."""
        known = self._plans.get(id(layout))
        if known is not None:
            return known[1]
        if len(self._plans) > layouts.MAX_LAYOUTS:
            self._plans.clear()
        fields = layout.content.fields
        places = {field: place for place, field in enumerate(fields)}
        for field in places:
            if field not in self.numbers and field not in self.fields:
                self.fields[field] = Column(np.float64, np.nan)
        front: dict[str, list[tuple[str, Any, int]]] = {output: [] for output in layout.samples}
        for (output, kind), slot in layout.arrays.items():
            if kind in SAMPLE_COLUMNS:
                front[output].append((kind, slot.dtype, slot.offset))
        for output in front:
            self.outputs.setdefault(output, _OutputColumns())
        plan = _Plan(
            header=struct.Struct(f"<{len(fields)}d"),
            fieldset=self.fieldsets.setdefault(frozenset(fields), len(self.fieldsets)),
            header_offset=layout.header.offset,
            whole=tuple(places.get(field) for field in self.numbers),
            floats=tuple((self.fields[field], place) for field, place in places.items() if field in self.fields),
            outputs=tuple((output, layout.samples[output], tuple(slots)) for output, slots in front.items()),
            summaries=tuple((key, slot.offset) for key, slot in layout.layers.items() if key[1] in layouts.SUMMARIES),
        )
        # The layout is kept with it, so that no other one gets the same id.
        self._plans[id(layout)] = (layout, plan)
        return plan


@dataclasses.dataclass(frozen=True)
class _Plan:
    """Which bytes of a layout go into which columns."""

    header: struct.Struct
    header_offset: int
    fieldset: int
    whole: tuple[int | None, ...]
    floats: tuple[tuple[Column, int], ...]
    outputs: tuple[tuple[str, int, tuple[tuple[str, Any, int], ...]], ...]
    summaries: tuple[tuple[tuple[str, str], int], ...]


class _Part(NamedTuple):
    """The batches of a block that are of one layout, and their headers."""

    plan: _Plan
    layout: int
    rows: Array
    whole: tuple[Array | None, ...]
    floats: Mapping[Column, Array]


def _in_order(bounds: Array, columns: Mapping[str, Array], order: Order) -> tuple[Array, dict[str, Array | Pieces]]:
    """Return where the samples of each batch begin, and their columns."""
    counts = order.take(np.diff(bounds))
    starts = _frozen(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))
    begins, ends = bounds[order.begins], bounds[order.ends]
    return starts, {name: Pieces(column, begins, ends) for name, column in columns.items()}


def _frozen(array: Array) -> Array:
    array.flags.writeable = False
    return array


def _whole(number: float) -> int:
    """Return a count from the header, where all numbers are floats."""
    value = int(number)
    if not 0 <= value < _MOST:
        raise ValueError(f"A count must be from 0 to 2**62. Received: {number!r}.")
    return value
