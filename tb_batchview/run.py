"""One run: what is in it, and what can be counted there.

Handed out by `log`, used by the user, `answers` and `export`. Calls `analysis`
for what is counted, `scans` and `following` for what is read for it, and
hands out `batches`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tb_batchview import analysis, decode, following, scans
from tb_batchview.analysis import ClassReport, ClassTrend
from tb_batchview.batches import Batches, single
from tb_batchview.calibration import Calibration, ThresholdCurve, calibrate, trace_thresholds
from tb_batchview.dynamics import DataMap, Dynamics, History
from tb_batchview.errors import ArgumentError, BatchViewError, NotFoundError
from tb_batchview.gradients import GradientLog
from tb_batchview.identity import Ids
from tb_batchview.inputs import Input
from tb_batchview.layers import LayerLog
from tb_batchview.lookup import check_classes, check_followed, find_output, find_phase, unknown, unknown_step
from tb_batchview.places import Place, Reader
from tb_batchview.records import Array, Opened, OutputSpec, check_count
from tb_batchview.scans import Decisions, DrawnValues
from tb_batchview.store import RunStore
from tb_batchview.views import Health, PhaseView, RunView, SampleView

# Of a matrix (3 GB), and of one of labels.
MAX_MATRIX = 20_000
MAX_LABELS = 1_000


class Run(Opened):
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
        return single({name: spec.class_names for name, spec in self.outputs.items()})

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
            counts = scans.count_labels(self.view, columns, name, spec, columns.rows(start, stop), self._reader)
            return analysis.report_labels(counts[0], spec.class_names)
        samples, spec, first, last = self._classes(phase, start, stop, name)
        return samples.report_classes(spec.classes, spec.class_names, first, last)

    def _classes(
        self, phase: str, start: int | None, stop: int | None, output: str | None
    ) -> tuple[SampleView | Decisions, OutputSpec, int, int]:
        """Return what counts the classes of an output, and the rows of a range."""
        view = self.view
        columns = find_phase(view, phase, self.name)
        name, spec = find_output(view, output, self.name)
        check_classes(name, spec)
        return self.decisions(columns, name, spec), spec, *columns.rows(start, stop)

    def decisions(self, columns: PhaseView, output: str, spec: OutputSpec) -> SampleView | Decisions:
        """Return what counts the classes of an output.

        Its samples, or their pixels, tokens or time steps, if each has a
        class of its own.
        """
        samples = columns.samples(output)
        if "error" in samples.columns and "predicted" not in samples.columns:
            return Decisions(self.view, columns, output, spec, self._reader)
        return samples

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
        check_count("windows", windows)
        name, spec = find_output(self.view, output, self.name)
        columns = find_phase(self.view, phase, self.name)
        first, last = columns.rows(start, stop)
        size = analysis.bucket_size(last - first, windows)
        borders = [*range(first, last, size), last]
        if spec.task == "multilabel":
            counts = scans.count_labels(self.view, columns, name, spec, borders, self._reader)
        else:
            check_classes(name, spec)
            counts = self.decisions(columns, name, spec).count_classes(spec.classes, borders)
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
        return scans.count_label_errors(self.view, columns, name, spec, rows, self._reader)[0]

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
        check_count("batches", batches)
        check_count("samples", samples)
        view = self.view
        columns = find_phase(view, phase, self.name)
        name, _ = find_output(view, output, self.name)
        return scans.draw_values(view, columns, name, columns.rows(start, stop), batches, samples, self._reader)

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
        first, last = columns.rows(start, stop)
        return following.map_samples(self.identify(columns, name), columns.samples(name), first, last)

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
        # A rounded number would be the id of another sample.
        if not isinstance(sample_id, (str, int, np.integer)):
            raise ArgumentError(f"sample_id must be a whole number or a str. Received: sample_id={sample_id!r}.")
        name, _ = find_output(self.view, output, self.name)
        columns = find_phase(self.view, phase, self.name)
        ids = self.identify(columns, name)
        codes = ids.find(sample_id if isinstance(sample_id, str) else int(sample_id))
        if not codes:
            raise NotFoundError(
                f"sample_id must be one of the {ids.count} recorded. Received: sample_id={str(sample_id)[:80]!r}."
            )
        return following.trace(columns, name, np.flatnonzero(np.isin(ids.codes, codes)))

    def identify(self, columns: PhaseView, output: str) -> Ids:
        """Tell which samples of an output are the same one.

        Raises:
            NotFoundError: None has an id.
            ArgumentError: There are too many.
        """
        return following.identify(self.view, columns, output, self._reader)

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
        return following.find_input(view, columns, number, row, self._reader)

    def follow(self, columns: PhaseView, output: str, first: int, last: int) -> Dynamics:
        """Return the dynamics by code, in batches `first` to `last`."""
        return following.follow(self.identify(columns, output), columns.samples(output), first, last)

    def layer(self, name: str, phase: str = "train") -> LayerLog:
        """Return the summaries of a layer by batch.

        Raises:
            NotFoundError: There is no such phase, or no such layer in it.
        """
        view = self.view
        columns = find_phase(view, phase, self.name)
        if name not in columns.layers:
            raise NotFoundError(unknown("layer", name, columns.layers, f"phase {phase!r} of run {self.name!r}"))
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
            raise NotFoundError(unknown("layer", name, columns.gradients, place))
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
        return pandas.DataFrame(scans.sample_table(view, columns, self._reader))

    def __repr__(self) -> str:
        return f"Run({self.name!r}, phases={self.phases}, outputs={tuple(self.outputs)})"
