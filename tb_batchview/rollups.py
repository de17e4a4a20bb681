"""Summaries of a layer, merged ahead in blocks: any range costs about the same.

Used by `summaries` and `layers`. Calls `histograms` and `analysis` to merge, `places` for the
files, and keeps blocks in `kept`. A block is of 8 times a power of 4
consecutive summaries and begins at a multiple of that, so that a growing run
only adds blocks; larger ones are merged from smaller ones when first needed.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from tb_batchview import analysis, decode, histograms, metadata
from tb_batchview.histograms import Histograms
from tb_batchview.kept import Kept
from tb_batchview.layouts import Layout
from tb_batchview.places import Place, gone, open_place, walk_again
from tb_batchview.views import LayerView, PhaseView, RunView

Array = npt.NDArray[Any]

SMALLEST = 8  # summaries of the smallest block
FACTOR = 4  # blocks in the next larger one
PAGE = 64  # blocks that are made and kept together
_READ_BYTES = 1 << 24  # read at a time

KEPT = Kept()


class _Mergeable(Protocol):
    """Something of each of a number of summaries, or of their blocks."""

    def __len__(self) -> int: ...

    @property
    def nbytes(self) -> int: ...

    def __getitem__(self, rows: slice) -> Any: ...

    def merged(self, size: int) -> Any: ...


Rows = TypeVar("Rows", bound=_Mergeable)


@dataclasses.dataclass(frozen=True)
class Values:
    """Histograms, and figures as in `metadata.LAYER_FIGURES`, float64."""

    histograms: Histograms
    figures: Array

    def __len__(self) -> int:
        return len(self.figures)

    @property
    def nbytes(self) -> int:
        """Return the memory they take."""
        return self.histograms.nbytes + self.figures.nbytes

    def __getitem__(self, rows: slice) -> Values:
        return Values(self.histograms[rows], self.figures[rows])

    def merged(self, size: int) -> Values:
        """Merge every `size` of them."""
        count = len(self) // size
        moments = analysis.merge_moments(self.figures[: count * size], size)
        # What has no figures has no weight; the rest needs nothing but it to be merged again.
        figures = (moments.weight, moments.mean, moments.std, moments.min, moments.max, moments.zero_fraction)
        return Values(self.histograms.merged(size), np.stack([*figures, np.zeros(count)], axis=1))


@dataclasses.dataclass(frozen=True)
class Units:
    """A figure of each unit: a mean, or a share of its values.

    Attributes:
        sum: float64, shape (rows, units): times the values it is of.
        weight: float64, same shape: these values.
        full: int32, same shape: in how many summaries it is 1, which is all
            values of a share.
        known: int32, shape (rows,): summaries that have it.
    """

    sum: Array
    weight: Array
    full: Array
    known: Array

    def __len__(self) -> int:
        return len(self.sum)

    @property
    def nbytes(self) -> int:
        """Return the memory they take."""
        return sum(part.nbytes for part in self._parts)

    def __getitem__(self, rows: slice) -> Units:
        return Units(*(part[rows] for part in self._parts))

    def merged(self, size: int) -> Units:
        """Add up every `size` of them."""
        count = len(self) // size
        return self[: count * size].added(size * np.arange(count))

    def added(self, begins: Array) -> Units:
        """Add up those from each row of `begins` to before the next one."""
        if not len(begins):
            return self[:0]
        return Units(*(np.add.reduceat(part, begins, axis=0, dtype=part.dtype) for part in self._parts))

    @property
    def mean(self) -> Array:
        """Return the figure itself, NaN where there is none."""
        return np.divide(self.sum, self.weight, out=np.full(self.sum.shape, np.nan), where=self.weight > 0)

    @property
    def _parts(self) -> tuple[Array, ...]:
        return self.sum, self.weight, self.full, self.known


@dataclasses.dataclass(frozen=True)
class Piece(Generic[Rows]):
    """Summaries or blocks next to each other.

    Attributes:
        first: Number of the first summary.
        size: Summaries a row.
        rows: What is known of each.
    """

    first: int
    size: int
    rows: Rows

    @property
    def starts(self) -> Array:
        """Return the number of the first summary of each row."""
        return self.first + self.size * np.arange(len(self.rows))


@dataclasses.dataclass
class _Page(Generic[Rows]):
    """Blocks that are kept, and what tells of which records each is."""

    rows: Rows
    origins: tuple[int, ...]
    seen: Callable[[], LayerView | None]


class Rollup:
    """The summaries of one layer in one phase, whole or in blocks."""

    def __init__(self, name: str, view: RunView, columns: PhaseView, of: str = "layer") -> None:
        """Prepare; nothing is read yet.

        Args:
            name: The layer's.
            view: The run.
            columns: The phase.
            of: What is summarised: "layer", what it puts out, or "gradient".
        """
        self.name = name
        self._view = view
        self._columns = columns
        self._of = of
        self._layer = (columns.gradients if of == "gradient" else columns.layers)[name]

    def values(self, first: int, last: int, block: int) -> list[Piece[Values]]:
        """Return histograms and figures of a range of summaries.

        Args:
            first: Number of the first summary.
            last: Of the one to stop before.
            block: Summaries of the largest blocks to use; fewer than
                `SMALLEST`: every summary by itself.
        """
        return list(self._cover("values", self._read_values, _join_values, first, last, block))

    def units(self, kind: str, first: int, last: int, block: int, width: int) -> list[Piece[Units]]:
        """Return a figure of `width` units over a range of summaries."""

        def read(start: int, stop: int) -> Units:
            return self._read_units(kind, start, stop, width)

        return list(self._cover(f"{kind} {width}", read, join_units, first, last, block))

    def width(self, kind: str, first: int, last: int) -> int:
        """Return the length of the last array of a kind in a range, or 0."""
        _, _, _, numbers = self._columns.records(self._layer, first, last)
        known, place = np.unique(numbers[::-1], return_index=True)
        for number in known[np.argsort(place)].tolist():
            # Those that are walked again: one after the other, as each is of a form of its own.
            rows = [0] if number >= 0 else np.flatnonzero(numbers < 0)[::-1].tolist()
            for row in rows:
                slot = self._layout(first + row, number).layers.get((self.name, f"{self._of}_{kind}"))
                if slot is not None:
                    return slot.shape[0]
        return 0

    def read(self, kind: str, first: int, last: int) -> Iterator[tuple[Array, Array]]:
        """Read an array of each summary of a range that has one.

        Yields:
            Which summaries, counted from `first`, and float32 of shape
            (summaries, length).

        Raises:
            NotFoundError: A file was deleted, replaced or truncated.
        """
        file, position, length, layout = self._columns.records(self._layer, first, last)
        for number in np.unique(file).tolist():
            source = self._view._files[number]
            own = np.flatnonzero(file == number)
            farthest = own[np.argmax(position[own])]
            unknown: Any = None
            where = Place(source.path, source.identity, int(position[farthest]), int(length[farthest]), unknown)
            with open_place(where) as fd:
                for rows, slot in self._slots(kind, first, own, layout[own]):
                    step = max(1, _READ_BYTES // max(1, slot.nbytes))
                    for at in range(0, len(rows), step):
                        some = rows[at : at + step]
                        yield some, _read_slots(fd, where, position[some] + slot.offset, slot)

    def _slots(self, kind: str, first: int, rows: Array, layout: Array) -> Iterator[tuple[Array, decode.Slot]]:
        """Yield the slot of an array in each layout, and the rows of it."""
        order = np.argsort(layout, kind="stable")
        numbers, begins = np.unique(layout[order], return_index=True)
        for number, group in zip(numbers.tolist(), np.split(rows[order], begins[1:]), strict=True):
            for part in [group] if number >= 0 else np.split(group, len(group)):
                slot = self._layout(first + int(part[0]), number).layers.get((self.name, f"{self._of}_{kind}"))
                if slot is not None:
                    yield part, slot

    def _layout(self, row: int, number: int) -> Layout:
        if number >= 0:
            return self._view._layouts[number]
        file, position, length, _ = (int(column[0]) for column in self._columns.records(self._layer, row, row + 1))
        return walk_again(self._view._files[file], position, length)

    def _read_values(self, first: int, last: int) -> Values:
        figures = self._layer.figures[first:last, : len(metadata.LAYER_FIGURES)].astype(np.float64)
        low, high = figures[:, 3], figures[:, 4]
        found = []
        for rows, counts in self.read("histogram", first, last):
            if counts.shape[1]:
                made = Histograms.of(low[rows], high[rows], counts)
                found.append((rows, made.with_bins(min(counts.shape[1], histograms.MOST_BINS))))
        bins = max((len(made.below[0]) - 1 for _, made in found), default=1)
        knots, below = np.zeros((last - first, 2)), np.zeros((last - first, bins + 1))
        for rows, made in found:
            knots[rows], below[rows] = made.knots, made.with_bins(bins).below
        return Values(Histograms(knots, (bins,), below), figures)

    def _read_units(self, kind: str, first: int, last: int, width: int) -> Units:
        count, usable = self._layer.figures[first:last, 0], np.isfinite(self._layer.figures[first:last]).all(axis=1)
        lost = self._layer.figures[first:last, 6]
        # As in `analysis.merge_moments`: each batch weighs as many values as it had.
        each = np.where(usable, np.maximum(count.astype(np.float64) - np.where(usable, lost, 0.0), 0.0), 0.0)
        total, weight = np.zeros((last - first, width)), np.zeros((last - first, width))
        full, known = np.zeros((last - first, width), np.int32), np.zeros(last - first, np.int32)
        for rows, values in self.read(kind, first, last):
            if values.shape[1] == width:
                finite = np.isfinite(values)
                weight[rows] = np.where(finite, each[rows, None], 0.0)
                total[rows] = np.where(finite, values, 0.0) * weight[rows]
                full[rows] = values == 1
                known[rows] = finite.any(axis=1)
        return Units(total, weight, full, known)

    def _cover(
        self,
        kind: str,
        read: Callable[[int, int], Rows],
        join: Callable[[Sequence[Rows]], Rows],
        first: int,
        last: int,
        block: int,
    ) -> Iterator[Piece[Rows]]:
        """Cover a range with the largest blocks, smaller ones at its ends."""
        if first >= last:
            return
        if block < SMALLEST:
            yield Piece(first, 1, read(first, last))
            return
        begin, end = -(-first // block), last // block
        if begin >= end:
            yield from self._cover(kind, read, join, first, last, block // FACTOR)
            return
        yield from self._cover(kind, read, join, first, begin * block, block // FACTOR)
        yield Piece(begin * block, block, _Blocks(self, kind, read, join).get(block, begin, end))
        yield from self._cover(kind, read, join, end * block, last, block // FACTOR)

    def origins(self, size: int, begin: int, end: int) -> tuple[int, ...]:
        """Return a number a block that tells which records it is of."""
        file, position, _, _ = self._columns.records(self._layer, begin * size, end * size)
        return tuple(
            hash((file[at : at + size].tobytes(), position[at : at + size].tobytes()))
            for at in range(0, len(file), size)
        )

    @property
    def key(self) -> tuple[object, str, str, str]:
        """Return what tells this layer of all others of this process."""
        return self._view._token, self._columns.name, self._of, self.name

    @property
    def layer(self) -> LayerView:
        """Return the columns."""
        return self._layer


class _Blocks(Generic[Rows]):
    """The blocks of one kind of a layer: those kept, and what is missing."""

    def __init__(
        self, rollup: Rollup, kind: str, read: Callable[[int, int], Rows], join: Callable[[Sequence[Rows]], Rows]
    ) -> None:
        self._rollup = rollup
        self._kind = kind
        self._read = read
        self._join = join

    def get(self, size: int, begin: int, end: int, *, passing: bool = False) -> Rows:
        """Return the blocks of a size from number `begin` to before `end`."""
        parts = []
        for page in range(begin // PAGE, -(-end // PAGE)):
            start = page * PAGE
            rows = self._page(size, page, passing=passing)
            parts.append(rows[max(begin, start) - start : min(end, start + PAGE) - start])
        return parts[0] if len(parts) == 1 else self._join(parts)

    def _page(self, size: int, number: int, *, passing: bool) -> Rows:
        """Return all blocks of a page that there are by now."""
        rollup = self._rollup
        key = (*rollup.key, self._kind, size, number)
        count = min(PAGE, len(rollup.layer.rows) // size - number * PAGE)
        page: _Page[Rows] | None = KEPT.get(key)
        if page is None or page.seen() is not rollup.layer or len(page.rows) != count:
            # One thread makes them; the others wait for it rather than do the same.
            with KEPT.making(rollup.key):
                page = self._renew(size, number, count, KEPT.get(key), passing=passing)
        return page.rows

    def _renew(self, size: int, number: int, count: int, page: _Page[Rows] | None, *, passing: bool) -> _Page[Rows]:
        """Return a page as it is now: as it was, longer, or made anew."""
        rollup = self._rollup
        known = 0 if page is None else min(count, len(page.rows))
        # Of several workers a late one may change what came before; and batches may be put in another order.
        if (
            page is not None
            and page.seen() is not rollup.layer
            and page.origins[:known] != rollup.origins(size, number * PAGE, number * PAGE + known)
        ):
            page, known = None, 0
        if page is not None and known == count:
            if count == len(page.rows):
                page.seen = weakref.ref(rollup.layer)
                return page
            # A snapshot from before sees fewer; what is kept for the newer ones stays.
            return _Page(page.rows[:count], page.origins[:count], page.seen)
        begin, end = number * PAGE + known, number * PAGE + count
        if size == SMALLEST:
            rows = self._read(begin * size, end * size).merged(size)
        else:
            rows = self.get(size // FACTOR, begin * FACTOR, end * FACTOR, passing=True).merged(FACTOR)
        origins = rollup.origins(size, begin, end)
        if page is not None and known:
            rows, origins = self._join([page.rows, rows]), page.origins + origins
        made = _Page(rows, origins, weakref.ref(rollup.layer))
        KEPT.put((*rollup.key, self._kind, size, number), made, rows.nbytes, passing=passing)
        return made


def _read_slots(fd: int, where: Place, positions: Array, slot: decode.Slot) -> Array:
    """Read an array from each of several records of a file, as float32."""
    assert slot.dtype is not None  # of a layer there are no texts
    if not slot.nbytes:
        return np.zeros((len(positions), 0), np.float32)
    content = b"".join(map(os.pread, itertools.repeat(fd), itertools.repeat(slot.nbytes), positions.tolist()))
    if len(content) < slot.nbytes * len(positions):
        raise gone(where)
    with np.errstate(all="ignore"):
        return np.frombuffer(content, slot.dtype).reshape(len(positions), -1).astype(np.float32)


def _join_values(parts: Sequence[Values]) -> Values:
    return Values(
        histograms.join([part.histograms for part in parts]), np.concatenate([part.figures for part in parts])
    )


def join_units(parts: Sequence[Units]) -> Units:
    """Put figures of as many units one below the other."""
    return Units(*(np.concatenate(columns) for columns in zip(*(part._parts for part in parts), strict=True)))


def window_size(first: int, last: int, points: int) -> int:
    """Return how many summaries a window has: at most `points` windows.

    Windows begin at multiples of it, so that they stay where they are while
    a run grows. It is 1, 2, 3, 4 or 6, or one, two or three blocks.
    """
    sizes = itertools.chain(
        (1, 2, 3, 4, 6),
        (times * SMALLEST * FACTOR**level for level in itertools.count() for times in (1, 2, 3)),
    )
    return next(size for size in sizes if last <= first or (last - 1) // size - first // size < points)


def block_size(size: int) -> int:
    """Return the largest block that windows of a size are made of, or 1."""
    block = 1
    while size % (larger := max(SMALLEST, block * FACTOR)) == 0:
        block = larger
    return block
