"""The batches of a run as Python sees them: sequences, and arrays as views.

Handed out by `run` and used by the user. Calls `views` for the columns and
`places` for the arrays.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

from tb_batchview import metadata
from tb_batchview.errors import NotFoundError
from tb_batchview.following import find_input
from tb_batchview.gradients import read_gradient
from tb_batchview.inputs import Inputs, count_inputs
from tb_batchview.layers import read_summary
from tb_batchview.lookup import unknown_step
from tb_batchview.places import Place, Reader
from tb_batchview.records import GradientSummary, LayerSummary, Opened
from tb_batchview.views import PhaseView, RunView


class Batches(Opened, Sequence["Batch"]):
    """The batches of a phase, by ascending step; read when they are used.

    A slice is another such sequence.
    """

    def __init__(self, view: RunView, columns: PhaseView, rows: range, reader: Reader) -> None:
        """Use `Run.batches` instead."""
        self._view = view
        self._columns = columns
        self._rows = rows
        self._reader = reader

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, number: int) -> Batch: ...

    @overload
    def __getitem__(self, number: slice) -> Batches: ...

    def __getitem__(self, number: int | slice) -> Batch | Batches:
        if isinstance(number, slice):
            return Batches(self._view, self._columns, self._rows[number], self._reader)
        try:
            row = self._rows[number]
        except IndexError:
            if not self._rows:
                raise IndexError(f"There is no batch. Received: batch={number!r}.") from None
            raise IndexError(
                f"batch must be from {-len(self)} to {len(self) - 1}. Received: batch={number!r}."
            ) from None
        return Batch(self._view, self._columns, row, self._reader)

    def at_step(self, step: int) -> Batch:
        """Return the batch of a step.

        Raises:
            NotFoundError: No batch of that step was kept.
        """
        row = self._columns.row_of(step)
        if row is None or row not in self._rows:
            raise NotFoundError(unknown_step(self._columns, step))
        return Batch(self._view, self._columns, row, self._reader)

    def __repr__(self) -> str:
        return f"Batches({self._columns.name!r}, {len(self)})"


class Batch(Opened):
    """One batch, as the loss saw it.

    Arrays are read-only views into the mapped file: no copy is made, and they
    stay valid as long as they are held. They are None where nothing was kept.
    With several outputs each is a {name: array} dict.

    Of a training of several workers the batch is that of all: their samples
    one after the other, in the order of the workers; arrays are then copies,
    with NaN (-1 in integers, None among ids) for what a worker did not record.
    Loss and metrics are means weighted by the samples.
    """

    def __init__(self, view: RunView, columns: PhaseView, row: int, reader: Reader) -> None:
        """Use `Run.batches` instead."""
        self._view = view
        self._columns = columns
        self._row = row
        self._reader = reader

    @property
    def phase(self) -> str:
        """Return train, validation or predict."""
        return self._columns.name

    @property
    def step(self) -> int:
        """Return the number of the batch in its phase, from 0."""
        return int(self._columns.step[self._row])

    @property
    def epoch(self) -> int:
        """Return the epoch, from 0."""
        return int(self._columns.epoch[self._row])

    @property
    def index(self) -> int:
        """Return the number of the batch within its epoch, from 0."""
        return int(self._columns.index[self._row])

    @property
    def size(self) -> int:
        """Return the number of samples."""
        return int(self._columns.size[self._row])

    @property
    def wall_time(self) -> float:
        """Return the end of the step, seconds since 1970."""
        return float(self._columns.wall_time[self._row])

    @property
    def loss(self) -> float:
        """Return the batch's own loss, NaN where there is none."""
        return float(self._columns.field("loss")[self._row])

    @property
    def metrics(self) -> dict[str, float]:
        """Return the batch's own metrics that it has, by name."""
        names = self._columns.metrics
        fields = {name: metadata.metric_field(name) for name in names}
        return {
            name: float(self._columns.field(field)[self._row])
            for name, field in fields.items()
            if self._columns.has(field)[self._row]
        }

    @property
    def error_rate(self) -> Any:
        """Return the share of wrong samples, or the mean error; NaN: none."""
        return self._figure("error_rate")

    @property
    def confidence(self) -> Any:
        """Return the mean confidence, NaN where there is none."""
        return self._figure("confidence")

    @property
    def predictions(self) -> Any:
        """Return what the loss saw, shape (samples, ...)."""
        return self._array("predictions")

    @property
    def targets(self) -> Any:
        """Return what the loss compared with, shape (samples, ...)."""
        return self._array("targets")

    @property
    def target(self) -> Any:
        """Return the class numbers of the targets, int32; -1 for none."""
        return self._array("target")

    @property
    def predicted(self) -> Any:
        """Return the class numbers predicted, int32; -1 for none."""
        return self._array("predicted")

    @property
    def sample_loss(self) -> Any:
        """Return the loss of each sample, float32, before weighting."""
        return self._array("sample_loss")

    @property
    def sample_weight(self) -> Any:
        """Return the weight of each sample that the loss was given."""
        return self._array("sample_weight")

    @property
    def sample_ids(self) -> Any:
        """Return the user's ids, int64 or `str` objects (these copied)."""
        return self._array("sample_ids")

    @property
    def inputs(self) -> Inputs | None:
        """Return what the samples were: bytes of small pictures, or texts.

        Each is read when it is used: the bytes of a PNG or JPEG, or a str;
        None where there is nothing. None as a whole where nothing of the kind
        was recorded in this phase. See `Run.input_of`.
        """
        if not self._view.has_inputs(self._columns):
            return None
        return Inputs(
            count_inputs(self._place),
            lambda row: find_input(self._view, self._columns, self._row, row, self._reader),
        )

    @property
    def top_scores(self) -> Any:
        """Return the largest scores (samples, k) if only they were kept."""
        return self._array("top_scores")

    @property
    def top_classes(self) -> Any:
        """Return the classes of `top_scores`, int32, (samples, k)."""
        return self._array("top_classes")

    @property
    def layers(self) -> dict[str, LayerSummary]:
        """Return the summaries of the layers in this batch, by name."""
        slots = self._place.layout.layers
        return {
            layer: read_summary(self._place, layer, self._reader) for layer, kind in slots if kind == "layer_summary"
        }

    @property
    def gradients(self) -> dict[str, GradientSummary]:
        """Return the summaries of the gradients in this batch, by layer."""
        slots = self._place.layout.layers
        return {
            layer: read_gradient(self._place, layer, self._reader)
            for layer, kind in slots
            if kind == "gradient_summary"
        }

    @functools.cached_property
    def _place(self) -> Place:
        return self._view.place(self._columns, self._row)

    def _array(self, kind: str) -> Any:
        arrays = self._place.layout.arrays
        return single(
            {
                output: self._reader(self._place, arrays[output, kind]) if (output, kind) in arrays else None
                for output in self._view.outputs
            }
        )

    def _figure(self, figure: str) -> Any:
        columns = self._columns
        return single(
            {
                output: float(columns.field(metadata.output_field(output, figure))[self._row])
                for output in self._view.outputs
            }
        )

    def __eq__(self, other: object) -> bool:
        """Tell whether two are the same record, whatever is in it."""
        return isinstance(other, Batch) and self._records == other._records

    def __hash__(self) -> int:
        return hash(self._records)

    @property
    def _records(self) -> tuple[tuple[Path, tuple[int, int], int], ...]:
        return tuple((part.path, part.identity, part.position) for part in self._place.parts)

    def __repr__(self) -> str:
        return f"Batch({self.phase!r}, step={self.step}, epoch={self.epoch}, size={self.size}, loss={self.loss:.4g})"


def single(values: dict[str, Any]) -> Any:
    """Return the only value, or all by name; None if there are none."""
    if len(values) > 1:
        return values
    return next(iter(values.values()), None)
