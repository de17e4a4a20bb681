"""Read the arrays of many batches: labels and decisions counted, values drawn, tables.

Called by `run` for what is not in the columns but in the files alone. Calls
`places` for where it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tb_batchview import analysis, calibration, tasks
from tb_batchview.errors import ArgumentError
from tb_batchview.lookup import MAX_CLASSES
from tb_batchview.places import Reader
from tb_batchview.records import Array, OutputSpec
from tb_batchview.views import PhaseView, RunView

# Of samples with several decisions: a matrix of so many is made.
MAX_REPORTED = 4_000
# Decisions, unless there are more pairs of classes.
_COUNTED_AT_ONCE = 1 << 16


@dataclasses.dataclass(frozen=True)
class DrawnValues:
    """Targets and predictions of some samples.

    Attributes:
        steps: int64, shape (samples,).
        samples: int64, same shape: their places in the batches.
        targets: float32, shape (samples, values).
        predictions: float32, same shape.
    """

    steps: Array
    samples: Array
    targets: Array
    predictions: Array


def draw_values(
    view: RunView, columns: PhaseView, output: str, borders: tuple[int, int], batches: int, samples: int, reader: Reader
) -> DrawnValues:
    """Read targets and predictions of samples: see `Run.draw_values`."""
    first, last = borders
    rows = range(first, last, analysis.bucket_size(last - first, batches))
    each = max(1, samples // max(1, len(rows)))
    found: list[tuple[Array, Array, Array, Array]] = []
    for row in rows:
        place = view.place(columns, row)
        slots = (place.layout.arrays.get((output, kind)) for kind in ("targets", "predictions"))
        arrays = [reader(place, slot).astype(np.float32) for slot in slots if slot is not None]
        if len(arrays) < 2 or not len(arrays[0]):
            continue
        truth, values = (array.reshape(len(array), -1) for array in arrays)
        # Of another number of values than the batches before: a model changed in between.
        if truth.shape != values.shape or (found and truth.shape[1] != found[0][2].shape[1]):
            continue
        numbers = np.unique(np.linspace(0, len(truth) - 1, min(each, len(truth))).astype(np.int64))
        steps = np.full(len(numbers), columns.step[row])
        found.append((steps, numbers, truth[numbers], values[numbers]))
    if not found:
        return DrawnValues(*np.zeros((2, 0), np.int64), *np.zeros((2, 0, 0), np.float32))
    return DrawnValues(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def count_labels(
    view: RunView, columns: PhaseView, output: str, spec: OutputSpec, borders: Sequence[int], reader: Reader
) -> Array:
    """Count the labels of the batches between neighbouring borders."""
    return _count(view, columns, output, spec, "labels", analysis.count_labels, borders, reader)


def count_label_errors(
    view: RunView, columns: PhaseView, output: str, spec: OutputSpec, borders: Sequence[int], reader: Reader
) -> Array:
    """Count the errors of two labels between neighbouring borders."""
    return _count(view, columns, output, spec, "label errors", analysis.count_label_errors, borders, reader)


def _count(
    view: RunView,
    columns: PhaseView,
    output: str,
    spec: OutputSpec,
    kind: str,
    of: Callable[[Array, Array], Array],
    borders: Sequence[int],
    reader: Reader,
) -> Array:
    """Count what targets and scores tell, between neighbouring borders.

    They are in the files alone: what was counted of them before is not
    read again.
    """
    labels = min(spec.classes, MAX_CLASSES)

    def count(first: int, last: int) -> Array:
        # Of no samples: the form of a count.
        counts = of(np.zeros((0, labels)), np.zeros((0, labels)))
        for row in range(first, last):
            # By worker: what one of them does not have must not count as wrong.
            for place in view.place(columns, row).parts:
                arrays = place.layout.arrays
                targets, predictions = arrays.get((output, "targets")), arrays.get((output, "predictions"))
                if targets is None or predictions is None:
                    continue
                truth = reader(place, targets)
                scores = tasks.scores(spec, reader(place, predictions))
                # Of samples with several decisions (pixels, tokens) each counts.
                if scores.ndim > 1 and scores.shape[-1] == labels > 0 and truth.size == scores.size:
                    counts += of(truth.reshape(-1, labels), scores.reshape(-1, labels))
        return counts

    return columns.samples(output).count(kind, labels, count, borders)


class Decisions:
    """The decisions of an output that has several a sample: pixels, tokens.

    They are in the files alone, and counted as `SampleView` counts samples
    that are one decision each.
    """

    def __init__(self, view: RunView, columns: PhaseView, output: str, spec: OutputSpec, reader: Reader) -> None:
        """Read nothing yet."""
        self._view = view
        self._columns = columns
        self._output = output
        self._spec = spec
        self._reader = reader

    def count_confusion(self, classes: int, first: int, last: int) -> Array:
        """See `SampleView.count_confusion`."""
        return self._count(
            "confusion",
            classes,
            lambda target, predicted, _: analysis.count_confusion(target, predicted, classes),
            (first, last),
        )[0]

    def count_among(self, shown: Array, classes: int, first: int, last: int) -> Array:
        """Count which was taken for which of some classes."""
        counts = np.zeros((len(shown), len(shown)), np.int64)
        for row in range(first, last):
            for target, predicted, _ in self._read(row):
                truth, taken = (analysis.renumber(kind, shown, classes) for kind in (target, predicted))
                counts += analysis.count_confusion(truth, taken, len(shown))
        return counts

    def report_classes(
        self, classes: int, class_names: tuple[str, ...] | None, first: int, last: int
    ) -> analysis.ClassReport:
        """See `SampleView.report_classes`.

        Raises:
            ArgumentError: There are too many classes for a matrix of them.
        """
        if classes > MAX_REPORTED:
            raise ArgumentError(
                f"At most {MAX_REPORTED} classes can be reported of samples with several decisions. "
                f"Received: {classes}. Use class_trend, which counts each class."
            )
        return analysis.report_confusion(self.count_confusion(classes, first, last), class_names)

    def count_classes(self, classes: int, borders: Sequence[int]) -> Array:
        """See `SampleView.count_classes`."""
        return self._count(
            "classes",
            classes,
            lambda target, predicted, _: analysis.count_classes(target, predicted, classes),
            borders,
        )

    def count_confidences(self, first: int, last: int) -> Array:
        """See `SampleView.count_confidences`."""
        return self._count("confidences", 0, calibration.count_confidences, (first, last))[0]

    def count_positives(self, first: int, last: int) -> Array:
        """See `SampleView.count_positives`."""
        return self._count("positives", 0, calibration.count_positives, (first, last))[0]

    def _count(
        self, kind: str, classes: int, of: Callable[[Array, Array, Array], Array], borders: Sequence[int]
    ) -> Array:
        def count(first: int, last: int) -> Array:
            # Of no decisions: the form of a count.
            counts = of(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32))
            # All of a range may not fit into memory, and to count each batch for itself is slow with many classes.
            most = max(_COUNTED_AT_ONCE, counts.size)
            held: list[tuple[Array, Array, Array]] = []
            for row in range(first, last):
                held += self._read(row)
                if sum(len(target) for target, _, _ in held) >= most or (held and row == last - 1):
                    counts += of(*(np.concatenate(parts) for parts in zip(*held, strict=True)))
                    held = []
            return counts

        return self._columns.samples(self._output).count(f"{kind} of decisions", classes, count, borders)

    def _read(self, row: int) -> Iterator[tuple[Array, Array, Array]]:
        """Yield the decisions of a batch, by worker."""
        for place in self._view.place(self._columns, row).parts:
            arrays = place.layout.arrays
            targets, predictions = arrays.get((self._output, "targets")), arrays.get((self._output, "predictions"))
            if targets is None or predictions is None:
                continue
            found = tasks.decide_all(self._spec, self._reader(place, predictions), self._reader(place, targets))
            if found is not None:
                yield found


def sample_table(view: RunView, columns: PhaseView, reader: Reader) -> dict[str, Array]:
    """Return the columns of `Run.to_pandas`."""
    outputs = {name: columns.outputs[name] for name in view.outputs if name in columns.outputs}
    # With several outputs all have the same samples; the longest tells how many.
    counts = np.max([np.diff(samples.starts) for samples in outputs.values()] or [np.zeros(len(columns), int)], axis=0)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    table: dict[str, Array] = {
        "step": np.repeat(columns.step, counts),
        "epoch": np.repeat(columns.epoch, counts),
        "index": np.repeat(columns.index, counts),
        "sample": np.arange(starts[-1]) - np.repeat(starts[:-1], counts),
    }
    for name, samples in outputs.items():
        prefix = f"{name}/" if len(outputs) > 1 else ""
        own = np.diff(samples.starts)
        # Where this output's samples are among all rows.
        rows = np.arange(samples.starts[-1]) + np.repeat(starts[:-1] - samples.starts[:-1], own)
        for kind in samples.columns:
            values = samples.column(kind)
            fill = -1 if values.dtype.kind == "i" else np.nan
            column = table[prefix + kind] = np.full(starts[-1], fill, values.dtype)
            column[rows] = values
        for kind, label in (("sample_weight", "sample_weight"), ("sample_ids", "sample_id")):
            read = _read_column(view, columns, name, kind, starts, reader)
            if read is not None:
                table[prefix + label] = read
    return table


def _read_column(
    view: RunView, columns: PhaseView, output: str, kind: str, starts: Array, reader: Reader
) -> Array | None:
    """Read one array of every batch; None if no batch has it."""
    column: Array | None = None
    for row in range(len(columns)):
        place = view.place(columns, row)
        slot = place.layout.arrays.get((output, kind))
        if slot is None:
            continue
        values = reader(place, slot)
        if column is None:
            column = np.full(starts[-1], np.nan, np.float32) if kind == "sample_weight" else np.full(starts[-1], None)
        column[starts[row] : starts[row] + len(values)] = values
    return column
