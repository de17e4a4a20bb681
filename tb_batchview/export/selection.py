"""Choose what is exported: batches of a phase, samples of an output.

Called by the formats beside it. Calls `run` and `lookup`. Everything is read
batch by batch: memory does not grow with the number of batches.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tb_batchview import decode, metadata
from tb_batchview.errors import ArgumentError, FormatError
from tb_batchview.lookup import find_output, find_phase
from tb_batchview.places import Place
from tb_batchview.records import Array, OutputSpec
from tb_batchview.run import Run
from tb_batchview.views import PhaseView

# What has one value per sample: name in the arrays and in tables.
FIGURES: Mapping[str, str] = {
    "target": "target",
    "predicted": "predicted",
    "confidence": "confidence",
    "target_score": "target_score",
    "sample_loss": "loss",
    "sample_weight": "weight",
    "error": "error",
}
CLASSES = ("target", "predicted")  # of these, int32; the others are float32
# So many values of one batch at a time: as Python objects they take up to 100 bytes each.
_BLOCK_VALUES = 1 << 15
# Header columns, so many batches at a time.
_BATCHES = 1024
_NONE: Mapping[tuple[str, str], decode.Slot] = {}

Progress = Callable[[int, int], None]


def ignore(done: int, total: int) -> None:
    """Show no progress."""


@dataclasses.dataclass
class Found:
    """What there is of one kind of array in all batches of a selection.

    Attributes:
        dtype: That holds all; None when they are of several kinds, or text.
        shape: Of one sample; None when it differs.
        rank: Greatest number of dimensions of one sample.
        width: Greatest number of values of one sample.
        samples: How many have it.
        whole: Only integers that int64 holds.
        text: Some are text.
        numbers: Some are not.
        letters: Of the longest text.
    """

    dtype: np.dtype[Any] | None
    shape: tuple[int, ...] | None
    rank: int = 0
    width: int = 0
    samples: int = 0
    whole: bool = True
    text: bool = False
    numbers: bool = False
    letters: int = 0

    def add(self, slot: decode.Slot) -> None:
        """Take in the array of one more batch."""
        shape = slot.shape[1:]
        if self.shape != shape:
            self.shape = None
        if self.dtype is not None and self.dtype != slot.dtype:
            same_kind = slot.dtype is not None and slot.dtype.kind == self.dtype.kind
            self.dtype = np.result_type(self.dtype, slot.dtype) if same_kind else None
        self.rank = max(self.rank, len(shape))
        self.width = max(self.width, math.prod(shape))
        self.samples += slot.shape[0]
        self.whole = self.whole and _is_whole(slot.dtype)
        self.text = self.text or slot.dtype is None
        self.numbers = self.numbers or slot.dtype is not None


class Selection:
    """Batches of a phase by step, and the samples of one output in them.

    Attributes:
        run, phase, output: Their names; `output` is None in a run that has
            none.
        spec: Of the output.
        columns: Of the phase.
        rows: The batches, as rows of the columns.
        unreadable: Rows of batches whose samples are left out as damaged.
        samples: How many samples there are.
        found: What there is of them, by kind.
    """

    def __init__(self, run: Run, phase: str, output: str | None, start: int | None, stop: int | None) -> None:
        """Find what is asked for; nothing is read yet.

        Args:
            run: The run; what it takes in later is not exported.
            phase: Of the run.
            output: Of the run; need not be named when there is one.
            start: First step.
            stop: Step after the last one.

        Raises:
            NotFoundError: There is no such phase or output.
            ArgumentError: An output must be named, or the range is none.
        """
        if start is not None and stop is not None and start > stop:
            raise ArgumentError(f"start must not be greater than stop. Received: start={start}, stop={stop}.")
        self._run = run.snapshot()
        self._view = self._run.view
        self.run, self.phase = run.name, phase
        self.columns: PhaseView = find_phase(self._view, phase, run.name)
        self.output: str | None = None
        self.spec: OutputSpec | None = None
        if self._view.outputs or output is not None:
            self.output, self.spec = find_output(self._view, output, run.name)
        # Steps are int64: nothing is past the greatest.
        self.rows = range(
            *self.columns.rows(*(None if step is None else min(step, 2**63 - 1) for step in (start, stop)))
        )
        self.unreadable: set[int] = set()
        self.samples = 0
        self.found: dict[str, Found] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the classes; () when none were given."""
        return (self.spec.class_names or ()) if self.spec else ()

    def survey(self, progress: Progress = ignore) -> None:
        """Find out sizes, shapes and types before the first value is written."""
        self.unreadable, self.samples, self.found = set(), 0, {}
        for done, row in enumerate(self.rows, 1):
            try:
                place = self.place(row)
                arrays = self._arrays(place)
                texts = {kind: self._run.read(place, slot) for kind, slot in arrays.items() if slot.dtype is None}
            except FormatError:
                self.unreadable.add(row)
                continue
            self.samples += self._count(place)
            for kind, slot in arrays.items():
                if slot.shape[0]:
                    found = self.found.setdefault(kind, Found(slot.dtype, slot.shape[1:]))
                    found.add(slot)
                    if kind in texts:
                        letters = (len(text) for text in texts[kind].flat if text is not None)
                        found.letters = max(found.letters, *letters, 0)
            progress(done, 2 * len(self.rows))

    def place(self, row: int) -> Place:
        """Return where a batch is."""
        return self._view.place(self.columns, row)

    def count(self, row: int) -> int:
        """Return how many samples of a batch are exported."""
        return 0 if row in self.unreadable else self._count(self.place(row))

    def read(self, row: int, kind: str) -> Array | None:
        """Return one array of a batch; None if it has none."""
        return self._read(self.place(row), kind)

    def read_ids(self, row: int) -> Array | None:
        """Return the ids of a batch, int64 or `str` objects (None: no id)."""
        return self._ids(self.place(row))

    def blocks(self, kinds: tuple[str, ...]) -> Iterator[Block]:
        """Yield the samples, a part of a batch at a time.

        Args:
            kinds: With several values per sample, to be read too.
        """
        width = len(FIGURES) + 6 + sum(self.found[kind].width for kind in kinds)
        most = max(1, _BLOCK_VALUES // width)
        for row in self.rows:
            if row in self.unreadable:
                continue
            place = self.place(row)
            count = self._count(place)
            if not count:
                continue
            ids = self._ids(place)
            arrays = {kind: array for kind in (*FIGURES, *kinds) if (array := self._read(place, kind)) is not None}
            for first in range(0, count, most):
                stop = min(first + most, count)
                yield Block(
                    row=row,
                    first=first,
                    count=stop - first,
                    ids=None if ids is None else ids[first:stop],
                    arrays={kind: array[first:stop] for kind, array in arrays.items()},
                )

    def batch_fields(self) -> dict[str, str]:
        """Return the floats of the table of batches: header field by name."""
        names = {"loss": "loss"}
        if self.output is not None:
            names |= {figure: metadata.output_field(self.output, figure) for figure in metadata.OUTPUT_FIGURES}
        # With their prefix: a metric may be called "loss" or "step".
        return names | {f"metrics/{name}": metadata.metric_field(name) for name in self.columns.metrics}

    def batch_blocks(self) -> Iterator[tuple[range, dict[str, list[Any]]]]:
        """Yield the table of batches by column, some rows at a time.

        None stands for what a batch does not have.
        """
        columns, fields = self.columns, self.batch_fields()
        for first in range(self.rows.start, self.rows.stop, _BATCHES):
            rows = range(first, min(first + _BATCHES, self.rows.stop))
            part = slice(rows.start, rows.stop)
            block: dict[str, list[Any]] = {
                name: getattr(columns, name)[part].tolist() for name in ("step", "epoch", "index", "size", "wall_time")
            }
            for name, field in fields.items():
                if field in columns.fields:
                    values = columns.fields[field][part].tolist()
                    block[name] = [
                        value if columns.has_in(field, row) else None for row, value in zip(rows, values, strict=True)
                    ]
                else:
                    block[name] = [None] * len(rows)
            yield rows, block

    def _count(self, place: Place) -> int:
        return place.layout.samples.get(self.output, 0) if self.output is not None else 0

    def _arrays(self, place: Place) -> dict[str, decode.Slot]:
        return {kind: slot for (output, kind), slot in place.layout.arrays.items() if output == self.output}

    def _read(self, place: Place, kind: str) -> Array | None:
        if self.output is None or (slot := place.layout.arrays.get((self.output, kind))) is None:
            return None
        array = self._run.read(place, slot)
        return _as_figure(kind, array) if kind in FIGURES else array

    def _ids(self, place: Place) -> Array | None:
        ids = self._read(place, "sample_ids")
        if ids is None or ids.dtype == np.int64:
            return ids
        if _is_whole(ids.dtype):
            return ids.astype(np.int64)
        return np.array([None if value is None else str(value) for value in ids], object)


@dataclasses.dataclass(frozen=True)
class Block:
    """Some samples of one batch.

    Attributes:
        row: Of the batch.
        first: Number of the first sample in the batch.
        count: Number of samples.
        ids: int64 or `str` objects, None among them where a worker gave none;
            None when not recorded.
        arrays: By kind, shape (count, ...), as far as recorded.
    """

    row: int
    first: int
    count: int
    ids: Array | None
    arrays: Mapping[str, Array]

    def values(self, kind: str) -> Array | None:
        """Return an array as a matrix (count, values of a sample)."""
        array = self.arrays.get(kind)
        # Not -1 for the width: it may be 0.
        return None if array is None else array.reshape(self.count, math.prod(array.shape[1:]))


def _as_figure(kind: str, array: Array) -> Array:
    """Return a figure in its type: another writer may have used others."""
    if kind not in CLASSES:
        return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
    if array.dtype == np.int32:
        return array
    return np.where((array >= 0) & (array < 2**31), array, -1).astype(np.int32)


def _is_whole(dtype: np.dtype[Any] | None) -> bool:
    """Tell whether int64 holds all values of a type."""
    return dtype is not None and dtype.kind in "biu" and dtype != np.uint64
