"""Read recorded runs from Python: `load(log_dir)`.

Called by the user, `plugin`, `refresher` and `export`. Calls `store` for what
is recorded and `analysis` for what is counted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import itertools
import mmap
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from tb_batchview import analysis, decode, dynamics, index, metadata, tasks
from tb_batchview.analysis import ClassReport, ClassTrend
from tb_batchview.calibration import Calibration, ThresholdCurve, calibrate, trace_thresholds
from tb_batchview.dynamics import DataMap, Dynamics, History
from tb_batchview.errors import ArgumentError, BatchViewError, FormatError, NotFoundError
from tb_batchview.gradients import GradientLog, read_gradient
from tb_batchview.identity import NO_CODE, Ids
from tb_batchview.inputs import Input, Inputs, count_inputs, first_places, read_input
from tb_batchview.layers import LayerLog, read_summary
from tb_batchview.places import JoinedSlot, Place, Reader, gone, open_place, read_array, read_joined
from tb_batchview.records import GradientSummary, LayerSummary, OutputSpec
from tb_batchview.store import RunStore
from tb_batchview.views import SAMPLE_COLUMNS, Health, PhaseView, RunView, SampleView

Array = npt.NDArray[Any]

# A logdir may hold anything: stop looking for runs in it at some point.
MAX_DIRECTORIES = 100_000
MAX_DEPTH = 32
# Of a matrix (3 GB), and of anything: a number from a file is not to be trusted with memory.
MAX_MATRIX = 20_000
MAX_CLASSES = 1_000_000
MAX_LABELS = 1_000  # of a matrix of labels
# A picture is looked for in so many batches of its id; so many odd ones are counted.
MAX_TIMES = 16
MAX_ODD_INPUTS = 1_000

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
        log_dir: The directory given to `BatchViewCallback`, or any above it.
        progress: Called now and then with the bytes read so far and those of
            all files together, for instance to draw a bar.

    Returns:
        The runs by name, read to their ends. Empty when nothing is recorded there yet.

    Raises:
        NotFoundError: There is no such directory.
    """
    path = Path(log_dir).expanduser()
    if not path.is_dir():
        raise NotFoundError(f"log_dir must be a directory that exists. Received: log_dir={str(log_dir)!r}.")
    log = Log({"": path}, reader=_Maps().read)
    log.refresh(progress)
    return log


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


class Log(Mapping[str, "Run"]):
    """The runs below a directory, by name.

    A run is named by the path, below that directory, of what was given to
    `BatchViewCallback` as `log_dir`; the directory itself is ".". Symbolic
    links are followed. Names are sorted as people count: 2 before 10.
    """

    def __init__(self, roots: Mapping[str, Path], *, reader: Reader = read_array) -> None:
        """Use `load` instead.

        Args:
            roots: Directories to search, by what their runs' names begin with.
            reader: How the arrays of a batch are read.
        """
        self._roots = dict(roots)
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
            self.look()
            told = time.monotonic()
            while (store := self.next_pending()) is not None:
                store.read(None if progress is None else SLICE_SECONDS)
                if progress is not None and time.monotonic() - told >= SLICE_SECONDS:
                    progress(*self.progress)
                    told = time.monotonic()
            if progress is not None:
                progress(*self.progress)

    def look(self) -> None:
        """Look for runs and how large they are; read nothing of them yet."""
        found = {}
        for prefix, root in self._roots.items():
            for name, directory in _find_runs(root):
                found[_join(prefix, name)] = directory
        runs, stores = {}, {}
        for name in sorted(found, key=_natural):
            store = self._stores.get(name) or RunStore(found[name])
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
            raise NotFoundError(_unknown("run", name, runs))
        return runs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)

    def __repr__(self) -> str:
        return f"Log({', '.join(self._runs)})"


class Run:
    """One run: its batches, and what can be counted in them.

    Steps are batch numbers within a phase, from 0; ranges of steps leave out
    their `stop`.
    """

    def __init__(self, name: str, source: RunStore | RunView, reader: Reader) -> None:
        """Use `load` instead."""
        self.name = name
        self._source = source
        self._reader = reader

    def refresh(self) -> bool:
        """Take in what is new; return whether the run has any files."""
        return (self._source.refresh() if isinstance(self._source, RunStore) else self._source).exists

    def snapshot(self) -> Run:
        """Return this run as it is now, untouched by a later refresh."""
        return Run(self.name, self.view, self._reader)

    @property
    def view(self) -> RunView:
        """Return the columns as of the last refresh."""
        return self._source.view if isinstance(self._source, RunStore) else self._source

    def read(self, place: Place, slot: decode.Slot) -> Array:
        """Read one array of a batch."""
        return self._reader(place, slot)

    @property
    def phases(self) -> tuple[str, ...]:
        """Return the phases: of train, validation, predict."""
        return tuple(self.view.phases)

    @property
    def outputs(self) -> Mapping[str, OutputSpec]:
        """Return what is constant about each output of the model, by name."""
        return self.view.outputs

    @property
    def class_names(self) -> Any:
        """Return the names of the classes, None when none were given.

        A tuple when the model has one output, {output: tuple} when more.
        """
        return _single({name: spec.class_names for name, spec in self.outputs.items()})

    @property
    def layers(self) -> tuple[str, ...]:
        """Return the names of the layers that were summarised."""
        return tuple(dict.fromkeys(layer for phase in self.view.phases.values() for layer in phase.layers))

    @property
    def gradient_layers(self) -> tuple[str, ...]:
        """Return the names of the layers whose gradients were summarised."""
        return tuple(dict.fromkeys(layer for phase in self.view.phases.values() for layer in phase.gradients))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Return the names of the metrics, by Keras' names."""
        return tuple(dict.fromkeys(metric for phase in self.view.phases.values() for metric in phase.metrics))

    @property
    def health(self) -> Health:
        """Return the state of the run's files."""
        return self.view.health

    def batches(self, phase: str) -> Batches:
        """Return the batches of a phase, by ascending step.

        Raises:
            NotFoundError: Nothing is recorded of that phase.
        """
        view = self.view
        columns = find_phase(view, phase, self.name)
        return Batches(view, columns, range(len(columns)), self._reader)

    def confusion(
        self, phase: str, start: int | None = None, stop: int | None = None, output: str | None = None
    ) -> Array:
        """Count which class was taken for which, over a range of steps.

        Returns:
            int64, shape (classes, classes); rows are targets.

        Raises:
            NotFoundError: There is no such phase or output.
            ArgumentError: The output's task has no single class per sample.
        """
        samples, spec, first, last = self._classes(phase, start, stop, output)
        if spec.classes > MAX_MATRIX:
            raise ArgumentError(
                f"A confusion matrix must be of at most {MAX_MATRIX} classes. Received: {spec.classes}. "
                "Use class_report, which tells what each class is most confused with."
            )
        return samples.count_confusion(spec.classes, first, last).astype(np.int64)

    def class_report(
        self, phase: str, start: int | None = None, stop: int | None = None, output: str | None = None
    ) -> ClassReport:
        """Report precision, recall and F1 per class over a range of steps.

        For a multilabel output each label is a class.

        Returns:
            Arrays by column and rows by class: see `ClassReport`.

        Raises:
            NotFoundError: There is no such phase or output.
            ArgumentError: The output's task has no classes.
        """
        name, spec = find_output(self.view, output, self.name)
        if spec.task == "multilabel":
            columns = find_phase(self.view, phase, self.name)
            counts = self._count_labels(columns, name, spec, columns.rows(start, stop))
            return analysis.report_labels(counts[0], spec.class_names)
        samples, spec, first, last = self._classes(phase, start, stop, name)
        return samples.report_classes(spec.classes, spec.class_names, first, last)

    def _classes(
        self, phase: str, start: int | None, stop: int | None, output: str | None
    ) -> tuple[SampleView, OutputSpec, int, int]:
        """Return the samples of an output, and the rows of a range."""
        view = self.view
        columns = find_phase(view, phase, self.name)
        name, spec = find_output(view, output, self.name)
        check_classes(name, spec)
        return columns.samples(name), spec, *columns.rows(start, stop)

    def class_trend(
        self,
        phase: str,
        start: int | None = None,
        stop: int | None = None,
        output: str | None = None,
        *,
        windows: int = 100,
    ) -> ClassTrend:
        """Count each class over windows of a range of steps.

        For a multilabel output each label is a class.

        Args:
            phase: Name of the phase.
            start: First step, None for the first one there is.
            stop: Step after the last one, None for all.
            output: Name of the output; may be left out when there is one.
            windows: The range is cut into at most so many of equal length.

        Returns:
            Arrays of shape (windows, classes): see `ClassTrend`.

        Raises:
            NotFoundError: There is no such phase or output.
            ArgumentError: The output's task has no classes, or `windows` is
                less than 1.
        """
        if windows < 1:
            raise ArgumentError(f"windows must be at least 1. Received: windows={windows!r}.")
        name, spec = find_output(self.view, output, self.name)
        columns = find_phase(self.view, phase, self.name)
        first, last = columns.rows(start, stop)
        size = analysis.bucket_size(last - first, windows)
        borders = [*range(first, last, size), last]
        if spec.task == "multilabel":
            counts = self._count_labels(columns, name, spec, borders)
        else:
            check_classes(name, spec)
            counts = columns.samples(name).count_classes(spec.classes, borders)
        support, predicted, hits = (counts[:, kind] for kind in range(3))
        last_step = columns.step[np.array(borders[1:], np.int64) - 1]
        return ClassTrend(size, columns.step[first:last:size], last_step, support, predicted, hits)

    def calibration(
        self, phase: str, start: int | None = None, stop: int | None = None, output: str | None = None
    ) -> Calibration:
        """Tell how often predictions of some confidence are right.

        Returns:
            A reliability diagram in 15 bins: see `Calibration`.

        Raises:
            NotFoundError: There is no such phase or output.
            ArgumentError: The output's task has no single class per sample.
        """
        samples, _, first, last = self._classes(phase, start, stop, output)
        return calibrate(samples.count_confidences(first, last))

    def threshold_curve(
        self, phase: str, start: int | None = None, stop: int | None = None, output: str | None = None
    ) -> ThresholdCurve:
        """Tell what a binary output predicts at each threshold.

        Returns:
            Counts by threshold, ROC and precision: see `ThresholdCurve`.

        Raises:
            NotFoundError: There is no such phase or output.
            ArgumentError: The output's task is not binary.
        """
        samples, spec, first, last = self._classes(phase, start, stop, output)
        if spec.task != "binary":
            raise ArgumentError(f"A threshold curve needs a binary output. Received: task {spec.task!r}.")
        return trace_thresholds(samples.count_positives(first, last))

    def label_errors(
        self, phase: str, start: int | None = None, stop: int | None = None, output: str | None = None
    ) -> Array:
        """Count how often two labels are wrong of the same sample.

        Returns:
            int64, shape (labels, labels), symmetric; the diagonal is how
            often each label is wrong.

        Raises:
            NotFoundError: There is no such phase or output.
            ArgumentError: The output's task is not multilabel, or it has too
                many labels for a matrix.
        """
        name, spec = find_output(self.view, output, self.name)
        if spec.task != "multilabel":
            raise ArgumentError(f"Errors of labels need a multilabel output. Received: task {spec.task!r}.")
        if spec.classes > MAX_LABELS:
            raise ArgumentError(
                f"Errors of two labels can be counted of at most {MAX_LABELS} labels. Received: {spec.classes}."
            )
        columns = find_phase(self.view, phase, self.name)
        rows = columns.rows(start, stop)
        return self._count_in_files(columns, name, spec, "label errors", analysis.count_label_errors, rows)[0]

    def draw_values(
        self,
        phase: str,
        start: int | None = None,
        stop: int | None = None,
        output: str | None = None,
        batches: int = 500,
        samples: int = 5_000,
    ) -> DrawnValues:
        """Read targets and predictions of samples drawn evenly from a range.

        Args:
            phase: Name of the phase.
            start: First step, None for the first one there is.
            stop: Step after the last one, None for all.
            output: Name of the output; may be left out when there is one.
            batches: At most so many batches are read, at equal distances.
            samples: At most so many samples are drawn of these, evenly.

        Raises:
            NotFoundError: There is no such phase or output.
        """
        view = self.view
        columns = find_phase(view, phase, self.name)
        name, _ = find_output(view, output, self.name)
        first, last = columns.rows(start, stop)
        rows = range(first, last, analysis.bucket_size(last - first, batches))
        each = max(1, samples // max(1, len(rows)))
        found: list[tuple[Array, Array, Array, Array]] = []
        for row in rows:
            place = view.place(columns, row)
            slots = (place.layout.arrays.get((name, kind)) for kind in ("targets", "predictions"))
            arrays = [self._reader(place, slot).astype(np.float32) for slot in slots if slot is not None]
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

    def _count_labels(self, columns: PhaseView, output: str, spec: OutputSpec, borders: Sequence[int]) -> Array:
        """Count the labels of the batches between neighbouring borders."""
        return self._count_in_files(columns, output, spec, "labels", analysis.count_labels, borders)

    def _count_in_files(
        self,
        columns: PhaseView,
        output: str,
        spec: OutputSpec,
        kind: str,
        of: Callable[[Array, Array], Array],
        borders: Sequence[int],
    ) -> Array:
        """Count what targets and scores tell, between neighbouring borders.

        They are in the files alone: what was counted of them before is not
        read again.
        """
        view, labels = self.view, min(spec.classes, MAX_CLASSES)

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
                    truth = self._reader(place, targets)
                    scores = tasks.scores(spec, self._reader(place, predictions))
                    if truth.shape == (len(truth), labels) and scores.shape == truth.shape:
                        counts += of(truth, scores)
            return counts

        return columns.samples(output).count(kind, labels, count, borders)

    def data_map(
        self, phase: str, start: int | None = None, stop: int | None = None, output: str | None = None
    ) -> DataMap:
        """Tell how the model came to know each sample, by the samples' ids.

        Args:
            phase: Name of the phase.
            start: First step, None for the first one there is.
            stop: Step after the last one, None for all.
            output: Name of the output; may be left out when there is one.

        Returns:
            An array of each figure, and the ids: see `DataMap` for what they
            mean, where they come from and what they are valid for. Only ids
            that have samples in the range.

        Raises:
            NotFoundError: There is no such phase or output, or no ids.
            ArgumentError: The output's task has no single class per sample,
                or there are too many samples to follow.
        """
        name, spec = find_output(self.view, output, self.name)
        columns = find_phase(self.view, phase, self.name)
        check_followed(name, spec)
        ids = self.identify(columns, name)
        first, last = columns.rows(start, stop)
        codes = np.unique(_part(ids.codes, columns.samples(name), first, last))
        codes = codes[codes >= 0]
        found = self.follow(columns, name, first, last)
        names = list(ids.names())
        whole = all(isinstance(item, int) and item < 2**63 for item in names)
        return DataMap(
            **{figure: getattr(found, figure)[codes] for figure in dynamics.FIGURES},
            ids=np.array(names, np.int64 if whole else object)[codes],
        )

    def sample_history(self, phase: str, sample_id: int | str, output: str | None = None) -> History:
        """Return each time a sample was seen in a phase.

        Args:
            phase: Name of the phase.
            sample_id: As it was given when the batches were recorded.
            output: Name of the output; may be left out when there is one.

        Returns:
            Arrays of one value for each time: see `History`.

        Raises:
            NotFoundError: There is no such phase, output or id, or no ids.
            ArgumentError: There are too many samples to follow.
        """
        name, _ = find_output(self.view, output, self.name)
        columns = find_phase(self.view, phase, self.name)
        ids = self.identify(columns, name)
        codes = ids.find(sample_id if isinstance(sample_id, str) else int(sample_id))
        if not codes:
            raise NotFoundError(
                f"sample_id must be one of the {ids.count} recorded. Received: sample_id={str(sample_id)[:80]!r}."
            )
        return self.history(columns, name, np.flatnonzero(np.isin(ids.codes, codes)))

    def history(self, columns: PhaseView, output: str, numbers: Array) -> History:
        """Return what was seen in some samples, by their numbers."""
        samples = columns.samples(output)
        rows = np.searchsorted(samples.starts, numbers, side="right") - 1
        found = {name: samples.part(name, 0, int(samples.starts[-1]))[numbers] for name in SAMPLE_COLUMNS}
        target, predicted = found["target"], found["predicted"]
        error = found.pop("error")
        if "error" not in samples.columns:
            known = (target >= 0) & (predicted >= 0)
            error = np.where(known, target != predicted, np.nan).astype(np.float32)
        return History(
            step=columns.step[rows],
            epoch=columns.epoch[rows],
            sample=numbers - samples.starts[rows],
            loss=found.pop("sample_loss"),
            error=error,
            **found,
        )

    def identify(self, columns: PhaseView, output: str) -> Ids:
        """Tell which samples of an output are the same one.

        Raises:
            NotFoundError: None has an id.
            ArgumentError: There are too many.
        """
        ids = self._identify(columns, output)
        if not ids.count:
            raise NotFoundError(
                f"Samples can be followed only by their ids, and phase {columns.name!r} has none. "
                "Record them: add_batch(…, sample_ids=ids), or model.fit(with_ids(x, ids), y)."
            )
        return ids

    def _identify(self, columns: PhaseView, output: str) -> Ids:
        view, samples = self.view, columns.samples(output)

        def read(row: int) -> Array | None:
            place = view.place(columns, row)
            slot = place.layout.arrays.get((output, "sample_ids"))
            try:
                return None if slot is None else self._reader(place, slot)
            except FormatError:  # these ids are not strings after all: a bad batch must not hide the others
                return None

        if samples.places is None:
            return samples.identity.follow(samples.starts, read)
        # Each worker's are followed for themselves: what they add to a batch may come late.
        places = samples.places
        return samples.identity.join(
            lambda: [(self._identify(shard, output), places(worker)) for worker, shard in enumerate(columns.shards)],
            int(samples.starts[-1]),
        )

    def has_inputs(self, phase: str) -> bool:
        """Tell whether it is recorded what samples of a phase were.

        Raises:
            NotFoundError: Nothing is recorded of that phase.
        """
        view = self.view
        return view.has_inputs(find_phase(view, phase, self.name))

    def input_of(self, phase: str, step: int, row: int) -> Input | None:
        """Return what a sample was: a small picture, or a text.

        Where samples have ids, the picture of an id is in the first batch
        that it was in, and found there. A lookup reads a record or two; the
        first one of a phase with ids reads the ids of all its batches.

        Args:
            phase: Name of the phase.
            step: Of the batch.
            row: Place of the sample in the batch, from 0.

        Returns:
            A picture as ("image/png" or "image/jpeg", bytes), a text as str;
            None where nothing is recorded. What a file gives out as a picture
            and is none counts in `health.warnings`, and is None here.

        Raises:
            NotFoundError: There is no such phase or batch.
        """
        view = self.view
        columns = find_phase(view, phase, self.name)
        number = columns.row_of(step)
        if number is None:
            raise NotFoundError(unknown_step(columns, step))
        place = view.place(columns, number)
        if not 0 <= row < count_inputs(place):
            return None
        found = self._read_input(place, row)
        if found is not None:
            return found
        output = next((output for output, kind in place.layout.arrays if kind == "sample_ids"), None)
        if output is None or not view.has_inputs(columns):
            return None
        for other, sample in self._same(columns, output, number, row):
            elsewhere = view.place(columns, other)
            found = self._read_input(elsewhere, sample)
            if found is not None:
                return found
        return None

    def _read_input(self, place: Place, row: int) -> Input | None:
        try:
            return read_input(place, row)
        except FormatError:
            odd = self.view._odd_inputs
            if len(odd) < MAX_ODD_INPUTS:
                odd.add((place.path, place.position, row))
            return None

    def _same(self, columns: PhaseView, output: str, number: int, row: int) -> Iterator[tuple[int, int]]:
        """Yield where else the sample of a batch is, the first few times."""
        try:
            ids = self._identify(columns, output)
        except ArgumentError:  # too many samples to follow
            return
        starts = columns.samples(output).starts
        own = int(starts[number]) + row
        if own >= int(starts[number + 1]) or ids.codes[own] == NO_CODE:
            return
        code = int(ids.codes[own])
        first = int(ids.keep("first places", lambda: first_places(ids.codes, ids.count))[code])

        def where(place: int) -> tuple[int, int]:
            batch = int(np.searchsorted(starts, place, side="right")) - 1
            return batch, place - int(starts[batch])

        yield where(first)
        # That batch was dropped of its pictures, or is not kept: rare, and it costs a look at all codes.
        for place in np.flatnonzero(ids.codes == code)[1:MAX_TIMES].tolist():
            yield where(place)

    def follow(self, columns: PhaseView, output: str, first: int, last: int) -> Dynamics:
        """Return the dynamics by code, in batches `first` to `last`."""
        ids, samples = self.identify(columns, output), columns.samples(output)

        def follow() -> Dynamics:
            names = ("target", "predicted", "confidence", "target_score")
            values = [samples.column(name, first, last) for name in names]
            return dynamics.follow_samples(_part(ids.codes, samples, first, last), ids.count, *values)

        found: Dynamics = ids.keep(("follow", first, last), follow)
        return found

    def layer(self, name: str, phase: str = "train") -> LayerLog:
        """Return the summaries of a layer by batch.

        Raises:
            NotFoundError: There is no such phase, or no such layer in it.
        """
        view = self.view
        columns = find_phase(view, phase, self.name)
        if name not in columns.layers:
            raise NotFoundError(_unknown("layer", name, columns.layers, f"phase {phase!r} of run {self.name!r}"))
        return LayerLog(name, view, columns)

    def gradients(self, name: str, phase: str = "train") -> GradientLog:
        """Return the gradient of a layer's weights by batch.

        Raises:
            NotFoundError: There is no such phase, or no gradient of such a
                layer in it.
        """
        view = self.view
        columns = find_phase(view, phase, self.name)
        if name not in columns.gradients:
            place = f"the gradients of phase {phase!r} of run {self.name!r}"
            raise NotFoundError(_unknown("layer", name, columns.gradients, place))
        return GradientLog(name, view, columns)

    def to_pandas(self, phase: str) -> Any:
        """Return a table of one row per sample.

        Columns: step, epoch, index, sample (place in the batch), and target,
        predicted, confidence, target_score, sample_loss, error, sample_weight
        and sample_id as far as recorded; with several outputs as
        "<output>/target" and so on.

        Returns:
            A `pandas.DataFrame`.

        Raises:
            NotFoundError: Nothing is recorded of that phase.
            BatchViewError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise BatchViewError("to_pandas needs pandas. Install it: pip install pandas.") from error
        view = self.view
        columns = find_phase(view, phase, self.name)
        return pandas.DataFrame(_sample_table(view, columns, self._reader))

    def __repr__(self) -> str:
        return f"Run({self.name!r}, phases={self.phases}, outputs={tuple(self.outputs)})"


class Batches(Sequence["Batch"]):
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


class Batch:
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
        run = Run("", self._view, self._reader)
        return Inputs(count_inputs(self._place), lambda row: run.input_of(self.phase, self.step, row))

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
        return _single(
            {
                output: self._reader(self._place, arrays[output, kind]) if (output, kind) in arrays else None
                for output in self._view.outputs
            }
        )

    def _figure(self, figure: str) -> Any:
        columns = self._columns
        return _single(
            {
                output: float(columns.field(metadata.output_field(output, figure))[self._row])
                for output in self._view.outputs
            }
        )

    def __repr__(self) -> str:
        return f"Batch({self.phase!r}, step={self.step}, epoch={self.epoch}, size={self.size}, loss={self.loss:.4g})"


def find_phase(view: RunView, phase: str, run: str) -> PhaseView:
    """Return a phase of a run.

    Raises:
        NotFoundError: Nothing is recorded of it.
    """
    if phase not in view.phases:
        raise NotFoundError(_unknown("phase", phase, view.phases, f"run {run!r}"))
    return view.phases[phase]


def find_output(view: RunView, output: str | None, run: str) -> tuple[str, OutputSpec]:
    """Return an output of a run; it need not be named if there is one.

    Raises:
        NotFoundError: There is no such output, or no output at all.
        ArgumentError: There are several and none is named.
    """
    if output is None:
        if len(view.outputs) > 1:
            raise ArgumentError(f"output must be named. Received: none. Run {run!r} has {_names(view.outputs)}.")
        output = next(iter(view.outputs), None)
        if output is None:
            raise NotFoundError(f"Run {run!r} has no output recorded yet.")
    if output not in view.outputs:
        raise NotFoundError(_unknown("output", output, view.outputs, f"run {run!r}"))
    return output, view.outputs[output]


def check_classes(output: str, spec: OutputSpec) -> None:
    """Refuse an output whose samples have not one class each.

    Raises:
        ArgumentError: Its task is another, or it has absurdly many classes.
    """
    if not spec.has_classes:
        raise ArgumentError(
            f"A confusion matrix needs one class per sample. Received: output={output!r} of task {spec.task!r}."
        )
    if spec.classes > MAX_CLASSES:
        raise ArgumentError(
            f"At most {MAX_CLASSES} classes can be counted. Received: output={output!r} of {spec.classes} classes."
        )


def check_followed(output: str, spec: OutputSpec) -> None:
    """Refuse an output of which no class is learned.

    Raises:
        ArgumentError: Its samples have not one class each.
    """
    if not spec.has_classes:
        raise ArgumentError(
            f"A data map needs one class per sample. Received: output={output!r} of task {spec.task!r}."
        )


def _part(column: Array, samples: SampleView, first: int, last: int) -> Array:
    """Return a column of the samples of batches `first` to `last`."""
    return column[samples.starts[first] : samples.starts[last]]


def unknown_step(columns: PhaseView, step: int) -> str:
    """Say that a step was not kept."""
    span = f"Kept are {len(columns)} from {columns.step[0]} to {columns.step[-1]}." if len(columns) else "None is kept."
    return f"step must be a batch that was kept. Received: step={step!r}. {span}"


def _single(values: dict[str, Any]) -> Any:
    """Return the only value, or all by name; None if there are none."""
    if len(values) > 1:
        return values
    return next(iter(values.values()), None)


def _unknown(thing: str, name: object, known: Mapping[str, Any], where: str = "") -> str:
    place = f" of {where}" if where else ""
    close = _closest(str(name), known)
    hint = f" Did you mean {close!r}?" if close is not None and len(known) > 1 else ""
    return f"{thing} must be one of those recorded{place}. Received: {thing}={name!r}. There is {_names(known)}.{hint}"


def _closest(name: str, known: Mapping[str, Any]) -> str | None:
    """Return the known name that is most like another, if one is."""
    # To compare costs their lengths multiplied.
    name, names = name[:200], list(itertools.islice(known, 1000))
    for other in names:
        # Cut short, or with the log directory in front.
        if name and (other.startswith(name) or name.endswith(f"/{other}")):
            return other
    return next(iter(difflib.get_close_matches(name, names, 1)), None)


def _names(known: Mapping[str, Any]) -> str:
    names = [repr(name) for name in known]
    if len(names) > 20:
        names = [*names[:20], f"and {len(names) - 20} more"]
    return ", ".join(names) or "none"


def _join(prefix: str, name: str) -> str:
    if not prefix:
        return name
    return prefix if name == "." else f"{prefix}/{name}"


def has_runs(root: Path) -> bool:
    """Tell whether anything is recorded below a directory."""
    for _, directory in _find_runs(root):
        with contextlib.suppress(OSError), os.scandir(directory) as entries:
            if any(index.is_ours(entry.name) for entry in entries):
                return True
    return False


def _natural(name: str) -> tuple[list[tuple[float, str]], str]:
    """Return what sorts names as people do: 2 before 10, 3e-4 before 0.01."""
    parts = enumerate(_NUMBER.split(name))
    return [(float(part), "") if place % 2 else (0.0, part) for place, part in parts], name


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


def _sample_table(view: RunView, columns: PhaseView, reader: Reader) -> dict[str, Array]:
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
        for kind, values in samples.columns.items():
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


class _Maps:
    """Mapped files; arrays handed out keep their map alive."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._maps: dict[tuple[Path, tuple[int, int]], mmap.mmap] = {}

    def read(self, place: Place, slot: decode.Slot) -> Array:
        """Return an array of a batch: a view into the mapped file.

        What several workers recorded is put together: a copy.

        Raises:
            NotFoundError: The file was deleted, replaced or truncated.
        """
        if isinstance(slot, JoinedSlot):
            return read_joined(place, slot, self.read)
        stop = place.position + place.length
        with self._lock:
            mapped = self._maps.get((place.path, place.identity))
            if mapped is None or len(mapped) < stop:
                with open_place(place) as fd:
                    mapped = mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
                self._maps[place.path, place.identity] = mapped
        # Past the end of a truncated file a map is a bus error, which nothing can catch.
        if mapped.size() < stop:
            raise gone(place)
        return decode.slot_array(memoryview(mapped)[place.position : stop], slot)
