"""The TensorBoard plugin: the routes of docs/http-api.md.

TensorBoard makes one through `loader` and calls its routes from many threads.
Each route parses its parameters, asks an `…_impl` for plain Python, and
responds. Calls `log` for the runs, `analysis` for what is counted, `http` for
parameters and answers. Files are read with `os.pread`, never mapped: a file
truncated under a map would end TensorBoard.
"""

from __future__ import annotations

import mimetypes
import threading
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tensorboard import errors
from tensorboard.plugins import base_plugin
from werkzeug import wrappers

from tb_batchview import analysis, metadata, tasks
from tb_batchview import log as logs
from tb_batchview.errors import ArgumentError, BatchViewError
from tb_batchview.http import (
    MethodNotAllowedError,
    Parameters,
    missing,
    pack_arrays,
    respond,
    respond_file,
    wrong,
)
from tb_batchview.log import Log, Run
from tb_batchview.records import PHASES, OutputSpec
from tb_batchview.store import PhaseView, Place, RunView
from tb_batchview.version import __version__

Array = npt.NDArray[Any]
Answer = dict[str, Any]

REFRESH_SECONDS = 1.0  # at most so often are the files looked at
MAX_LIMIT = 500  # rows a page
MAX_POINTS = 5_000  # buckets of a timeline
MAX_WINDOWS = 500  # windows of a layer
MAX_CLASSES = 1_000  # of a confusion matrix, and scores of a sample
MAX_EPOCHS = 1_000
MAX_SPIKES = 50
MAX_CLASS_MIX = 100
TOP_SCORES = 3
BATCHES_BEFORE = 20  # a layer is compared with
HISTOGRAM_BINS = 60
SMOOTH_SHARE = 50  # the moving mean spans one part in so many of the range
SMOOTH_LEAST = 5  # batches

OUTCOMES = ("all", "correct", "wrong", "confidently_wrong")
BATCH_COLUMNS = ("step", "epoch", "size", "loss", "error_rate", "confidence")
SAMPLE_COLUMNS = ("target", "predicted", "confidence", "target_score", "loss", "error")
CLASS_COLUMNS = ("class", "support", "predicted", "precision", "recall", "f1")

_RANGE = ("run", "phase", "output", "start", "stop")
_PAGE = ("sort", "descending", "offset", "limit")
_FILTER = ("outcome", "target", "predicted")

_STATIC = Path(__file__).parent / "static"
# A machine's own table of types may be wrong, and browsers refuse modules of a wrong one.
_CONTENT_TYPES = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".map": "application/json",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    ".wasm": "application/wasm",
}
_NO_BUNDLE = b"""\
export function render() {
  const note = document.createElement("p");
  note.textContent = "The pages of Batch View are not built in this checkout. Run: make frontend";
  document.body.append(note);
}
"""


class BatchViewPlugin(base_plugin.TBPlugin):
    """Serves what is recorded below TensorBoard's logdir."""

    plugin_name = metadata.PLUGIN_NAME

    def __init__(self, context: base_plugin.TBContext, refresh_seconds: float = REFRESH_SECONDS) -> None:
        """Prepare; no file is read yet.

        Args:
            context: TensorBoard's.
            refresh_seconds: Least time between two looks at the files.
        """
        self._logdir, self._roots = find_roots(context)
        self._log = Log(self._roots)
        self._refresh_seconds = refresh_seconds
        self._refreshed: float | None = None
        self._refreshing = threading.Lock()
        self._active = False
        self._looked: float | None = None

    def get_plugin_apps(self) -> dict[str, Callable[..., Any]]:
        """Return the routes."""
        return {
            "/runs": _route(self.runs_impl, ("run",)),
            "/batches": _route(self.batches_impl, (*_RANGE, *_PAGE, "points", "find")),
            "/batch": _route(self.batch_impl, ("run", "phase", "output", "step", *_FILTER, *_PAGE)),
            "/sample": _route(self.sample_impl, ("run", "phase", "output", "step", "sample")),
            "/samples": _route(self.samples_impl, (*_RANGE, *_FILTER, *_PAGE)),
            "/classes": _route(self.classes_impl, (*_RANGE, *_PAGE)),
            "/confusion": _route(self.confusion_impl, (*_RANGE, "limit")),
            "/layers": _route(self.layers_impl, ("run", "phase", "start", "stop")),
            "/layer": _route(self.layer_impl, ("run", "phase", "layer", "start", "stop", "points")),
            "/static/*": _static_route,
        }

    def is_active(self) -> bool:
        """Tell whether any run is recorded; true for ever once it was."""
        now = time.monotonic()
        if not self._active and (self._looked is None or now - self._looked >= self._refresh_seconds):
            self._looked = now
            self._active = any(logs.has_runs(root) for root in self._roots.values())
        return self._active

    def frontend_metadata(self) -> base_plugin.FrontendMetadata:
        """Return the tab's name and module."""
        return base_plugin.FrontendMetadata(es_module_path="/static/index.js", tab_name="Batch View")

    def runs_impl(self, parameters: Parameters) -> Answer:
        """Return all runs, or one of them with its class names."""
        log = self._fresh_log()
        name = parameters.optional_text("run")
        runs = [log[run] for run in log] if name is None else [log[name]]
        return {
            "format_version": metadata.FORMAT_VERSION,
            "plugin_version": __version__,
            "logdir": self._logdir,
            "runs": [describe_run(run.name, run.view, with_names=name is not None) for run in runs],
        }

    def batches_impl(self, parameters: Parameters) -> Answer | bytes:
        """Return the timeline of a range, or a page of its table."""
        chosen = self._choose(parameters)
        if "points" in parameters:
            for name in (*_PAGE, "find"):
                if name in parameters:
                    raise wrong(f"{name} must be left out of a timeline. Received: both points and {name}.")
            return timeline(chosen, parameters.whole("points", low=1, high=MAX_POINTS))
        return batch_rows(chosen, parameters)

    def batch_impl(self, parameters: Parameters) -> Answer:
        """Return one batch and a page of its samples."""
        chosen = self._choose(parameters)
        row = chosen.row(parameters.whole("step"))
        samples = Samples(chosen, row, row + 1)
        order = choose_samples(samples, parameters, ("sample", *SAMPLE_COLUMNS), default="loss", descending=True)
        page, offset = cut_page(order, parameters, default=200)
        answer = describe_batch(chosen, row)
        answer["counts"] = {
            outcome: int(np.count_nonzero(samples.having(outcome))) for outcome in ("all", "wrong", "confidently_wrong")
        }
        answer["class_mix"] = [
            {"class": number, "target": as_target, "predicted": as_predicted}
            for number, as_target, as_predicted in (
                analysis.mix_classes(samples.column("target"), samples.column("predicted"), MAX_CLASS_MIX)
                if chosen.has_classes
                else []
            )
        ]
        answer |= {"total": len(order), "offset": offset}
        answer["samples"] = describe_samples(chosen, samples, page, with_scores=True)
        answer["layers"] = describe_layers_of_batch(chosen.phase, row)
        return answer

    def sample_impl(self, parameters: Parameters) -> Answer:
        """Return one sample with all its scores."""
        chosen = self._choose(parameters)
        row, number = chosen.row(parameters.whole("step")), parameters.whole("sample")
        samples = Samples(chosen, row, row + 1)
        if number >= len(samples):
            step = int(chosen.phase.step[row])
            raise missing(f"sample must be below {len(samples)} in batch {step}. Received: sample={number}.")
        answer = describe_samples(chosen, samples, np.array([number]), with_scores=True)[0]
        return answer | describe_scores(chosen, row, number) | {"history": []}

    def samples_impl(self, parameters: Parameters) -> Answer:
        """Return a page of the samples of a range."""
        chosen = self._choose(parameters)
        samples = Samples(chosen, chosen.first, chosen.last)
        order = choose_samples(samples, parameters, ("step", *SAMPLE_COLUMNS), default="step", descending=False)
        page, offset = cut_page(order, parameters, default=100)
        rows = describe_samples(chosen, samples, page, with_scores=False)
        return {"total": len(order), "offset": offset, "samples": rows}

    def classes_impl(self, parameters: Parameters) -> Answer:
        """Return figures per class."""
        chosen = self._choose(parameters)
        samples = Samples(chosen, chosen.first, chosen.last)
        answer: Answer = {"batches": chosen.last - chosen.first, "samples": len(samples)}
        sort, descending = parameters.choice("sort", CLASS_COLUMNS, "class"), parameters.flag("descending")
        if chosen.spec.task == "regression":
            error = analysis.finite_mean(samples.column("error"))
            _, offset = cut_page(np.zeros(0, np.int64), parameters, default=MAX_LIMIT)
            return answer | {"mean_absolute_error": error, "total": 0, "offset": offset, "classes": []}
        report = chosen.run.class_report(chosen.phase.name, chosen.start, chosen.stop, chosen.output)
        keys = np.arange(len(report)) if sort == "class" else getattr(report, sort)
        order = analysis.sort_order(keys, descending=descending)
        page, offset = cut_page(order, parameters, default=MAX_LIMIT)
        return answer | {
            "accuracy": number_or_none(report.accuracy),
            "macro_f1": number_or_none(report.macro_f1),
            "total": len(order),
            "offset": offset,
            "classes": [describe_class(report[int(number)]) for number in page],
        }

    def confusion_impl(self, parameters: Parameters) -> bytes:
        """Return the confusion matrix of a range."""
        chosen = self._choose(parameters)
        limit = parameters.whole("limit", default=MAX_CLASSES, low=1, high=MAX_CLASSES)
        confusion = chosen.run.confusion(chosen.phase.name, chosen.start, chosen.stop, chosen.output)
        shown = analysis.pick_classes(confusion, limit)
        header = {
            "batches": chosen.last - chosen.first,
            "samples": len(Samples(chosen, chosen.first, chosen.last)),
            "classes": len(confusion),
            "shown": len(shown),
        }
        counts = np.minimum(confusion[np.ix_(shown, shown)], np.iinfo(np.uint32).max).astype(np.uint32)
        return pack_arrays(header, {"labels": shown, "counts": counts})

    def layers_impl(self, parameters: Parameters) -> Answer:
        """Return the layers and their last figures in the range."""
        run, phase, start, stop = self._choose_phase(parameters)
        rows = [describe_layer(run, phase, layer, start, stop) for layer in phase.layers]
        return {"layers": [row for row in rows if row is not None]}

    def layer_impl(self, parameters: Parameters) -> bytes:
        """Return figures and histograms of one layer over the range."""
        run, phase, start, stop = self._choose_phase(parameters)
        points = parameters.whole("points", default=200, low=1, high=MAX_WINDOWS)
        return layer_windows(run.layer(parameters.text("layer"), phase.name), start, stop, points)

    def _fresh_log(self) -> Log:
        """Return the log, refreshed if the last time is long enough ago."""
        # While another thread refreshes, what there is will do; the first time there is nothing.
        if self._refreshing.acquire(blocking=self._refreshed is None):
            try:
                if self._refreshed is None or time.monotonic() - self._refreshed >= self._refresh_seconds:
                    self._log.refresh()
                    self._refreshed = time.monotonic()
            finally:
                self._refreshing.release()
        return self._log

    def _choose_phase(self, parameters: Parameters) -> tuple[Run, PhaseView, int | None, int | None]:
        name, phase = parameters.text("run"), parameters.text("phase")
        if phase not in PHASES:
            raise wrong(f"phase must be one of {', '.join(PHASES)}. Received: phase={phase[:80]!r}.")
        run = self._fresh_log()[name].snapshot()
        start, stop = parameters.optional_whole("start"), parameters.optional_whole("stop")
        if start is not None and stop is not None and start > stop:
            raise wrong(f"start must not be greater than stop. Received: start={start}, stop={stop}.")
        return run, logs.find_phase(run.view, phase, name), start, stop

    def _choose(self, parameters: Parameters) -> Chosen:
        run, phase, start, stop = self._choose_phase(parameters)
        output, spec = logs.find_output(run.view, parameters.optional_text("output"), run.name)
        return Chosen(run, phase, output, spec, start, stop)


class Chosen:
    """What most routes are asked about: an output in a range of batches."""

    def __init__(
        self, run: Run, phase: PhaseView, output: str, spec: OutputSpec, start: int | None, stop: int | None
    ) -> None:
        self.run = run
        self.view: RunView = run.view
        self.phase = phase
        self.output = output
        self.spec = spec
        self.start = start
        self.stop = stop
        self.first, self.last = phase.rows(start, stop)

    @property
    def has_classes(self) -> bool:
        """Tell whether each sample has one class."""
        return self.spec.task in ("multiclass", "binary")

    def figure(self, name: str) -> Array:
        """Return `error_rate` or `confidence` of all batches of the phase."""
        return self.phase.field(metadata.output_field(self.output, name))

    def row(self, step: int) -> int:
        """Return the row of a step; 404 if it was not kept."""
        row = self.phase.row_of(step)
        if row is None:
            raise missing(logs.unknown_step(self.phase, step))
        return row

    def place(self, row: int) -> Place:
        """Return where a batch is in the files."""
        return self.view.place(self.phase, row)


class Samples:
    """The samples of the batches `first` to `last`, as columns."""

    def __init__(self, chosen: Chosen, first: int, last: int) -> None:
        self._chosen = chosen
        self._first, self._last = first, last
        self._view = chosen.phase.outputs.get(chosen.output)
        starts = np.zeros(last - first + 1, np.int64) if self._view is None else self._view.starts[first : last + 1]
        self._starts = starts - starts[0] if len(starts) else np.zeros(1, np.int64)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def column(self, name: str) -> Array:
        """Return a column; `loss` is that of each sample."""
        if name == "step":
            return np.repeat(self._chosen.phase.step[self._first : self._last], np.diff(self._starts))
        if name == "sample":
            return np.arange(len(self)) - np.repeat(self._starts[:-1], np.diff(self._starts))
        if name == "error" and self._chosen.has_classes and not self._has("error"):
            target, predicted = self.column("target"), self.column("predicted")
            known = (target >= 0) & (predicted >= 0)
            return np.where(known, (target != predicted).astype(np.float32), np.float32(np.nan))
        name = "sample_loss" if name == "loss" else name
        if self._view is None:
            return np.zeros(0, np.float32)
        return self._view.column(name, self._first, self._last)

    def having(self, outcome: str) -> Array:
        """Mark the samples of an outcome.

        With several labels or decisions a sample is wrong if any of them is;
        predicted numbers are neither right nor wrong.
        """
        if outcome == "all":
            return np.ones(len(self), bool)
        target, predicted = self.column("target"), self.column("predicted")
        confident = self.column("confidence") >= analysis.CONFIDENT
        error = self.column("error")
        several = (target < 0) if self._chosen.spec.task != "regression" else np.zeros(len(self), bool)
        right = analysis.mark_correct(target, predicted) | (several & (error == 0))
        is_wrong = analysis.mark_wrong(target, predicted) | (several & (error > 0))
        return {"correct": right, "wrong": is_wrong, "confidently_wrong": is_wrong & confident}[outcome]

    def locate(self, number: int) -> tuple[int, int]:
        """Return the row of the batch of a sample, and its place there."""
        batch = int(np.searchsorted(self._starts, number, side="right")) - 1
        return self._first + batch, number - int(self._starts[batch])

    def _has(self, name: str) -> bool:
        return self._view is not None and name in self._view.columns


def find_roots(context: base_plugin.TBContext) -> tuple[str, dict[str, Path]]:
    """Return the logdir as the user gave it, and the directories to search.

    With `--logdir_spec a:X,b:Y` the names of runs begin with a/ and b/.
    """
    flags = context.flags
    spec = str(getattr(flags, "logdir_spec", "") or "")
    if context.logdir and context.logdir != spec:
        return context.logdir, {"": Path(context.logdir).expanduser()}
    roots: dict[str, Path] = {}
    for part in spec.split(","):
        name, colon, path = part.partition(":")
        # As TensorBoard reads it: a name has no slash, so C:/logs and s3://logs are paths.
        if not colon or "/" in name or path.startswith(("//", "\\")):
            name, path = "", part
        if path:
            roots[name] = Path(path).expanduser()
    return spec, roots


def describe_run(name: str, view: RunView, *, with_names: bool) -> Answer:
    """Return what `runs` says of a run."""
    outputs = []
    for output, spec in view.outputs.items():
        row = {"name": output, "task": spec.task, "classes": spec.classes, "activation": spec.activation}
        if with_names:
            row["class_names"] = None if spec.class_names is None else list(spec.class_names)
        outputs.append(row)
    health = view.health
    return {
        "name": name,
        "updated": view.updated,
        "phases": [describe_phase(phase) for phase in view.phases.values() if len(phase)],
        "outputs": outputs,
        "metrics": list(dict.fromkeys(metric for phase in view.phases.values() for metric in phase.metrics)),
        "layers": list(dict.fromkeys(layer for phase in view.phases.values() for layer in phase.layers)),
        "health": {
            "files": health.files,
            "bytes": health.bytes,
            "corrupt_records": health.corrupt_records,
            "torn_files": health.torn_files,
            "refused_files": health.refused_files,
            "dropped_batches": health.dropped_batches,
            "warnings": [
                {"kind": kind, "message": message, "count": count} for kind, message, count in health.warnings
            ],
        },
    }


def describe_phase(phase: PhaseView) -> Answer:
    """Return what `runs` says of a phase."""
    return {
        "name": phase.name,
        "batches": len(phase),
        "seen": phase.seen,
        "samples": max((int(samples.starts[-1]) for samples in phase.outputs.values()), default=0),
        "first_step": int(phase.step[0]),
        "last_step": int(phase.step[-1]),
        "epochs": len(np.unique(phase.epoch)),
        "updated": float(phase.wall_time[-1]),
    }


def timeline(chosen: Chosen, points: int) -> bytes:
    """Return the timeline of a range, cut into at most `points` buckets."""
    phase, first, last = chosen.phase, chosen.first, chosen.last
    size = analysis.bucket_size(last - first, points)
    steps, losses = phase.step[first:last], phase.field("loss")[first:last]
    error, confidence = (chosen.figure(name)[first:last] for name in ("error_rate", "confidence"))
    loss_buckets, error_buckets = analysis.cut_buckets(losses, size), analysis.cut_buckets(error, size)
    smoothed = max(SMOOTH_LEAST, (last - first) // SMOOTH_SHARE)
    samples = Samples(chosen, first, last)
    error_rate = analysis.finite_mean(samples.column("error"))
    header = {
        "batches": last - first,
        "samples": len(samples),
        "bucket": size,
        "first_step": int(steps[0]) if len(steps) else None,
        "last_step": int(steps[-1]) if len(steps) else None,
        # Batches of which only the header was kept have no samples to count.
        "error_rate": analysis.finite_mean(error) if error_rate is None else error_rate,
        "loss": analysis.finite_mean(losses),
        "outcomes": analysis.count_outcomes(*(samples.column(name) for name in ("target", "predicted", "confidence")))
        if chosen.has_classes
        else None,
        "epochs": [
            {"epoch": epoch, "step": step}
            for epoch, step in analysis.find_epochs(phase.epoch[first:last], steps, MAX_EPOCHS)
        ],
        "spikes": describe_spikes(phase, first, last),
    }
    nonfinite = analysis.cut_buckets(np.where(phase.has("loss")[first:last], losses, 0.0), size).nonfinite
    arrays = {
        "step": steps[::size].astype(np.float64),
        "loss_mean": loss_buckets.mean,
        "loss_min": loss_buckets.min,
        "loss_max": loss_buckets.max,
        "loss_smooth": analysis.smooth_buckets(loss_buckets, -(-smoothed // size) | 1),
        "error_mean": error_buckets.mean,
        "error_min": error_buckets.min,
        "error_max": error_buckets.max,
        "confidence_mean": analysis.cut_buckets(confidence, size).mean,
        "nonfinite": nonfinite,
    }
    return pack_arrays(header, narrow(arrays))


def describe_spikes(phase: PhaseView, first: int, last: int) -> list[Answer]:
    """Return the batches of a range whose loss stands out."""
    # The first batches of the range are compared with those before it.
    begin = max(0, first - analysis.SPIKE_WINDOW)
    losses = np.where(phase.has("loss"), phase.field("loss"), 0.0)[begin:last]
    spikes = [spike for spike in analysis.find_spikes(losses, last - begin) if begin + spike.row >= first]
    return [
        {"step": int(phase.step[begin + spike.row]), "loss": spike.loss, "ratio": spike.ratio}
        for spike in spikes[:MAX_SPIKES]
    ]


def batch_rows(chosen: Chosen, parameters: Parameters) -> Answer:
    """Return a page of the table of batches."""
    phase, first, last = chosen.phase, chosen.first, chosen.last
    order = sort_batches(chosen, parameters) + first
    limit = parameters.whole("limit", default=200, low=1, high=MAX_LIMIT)
    find = parameters.optional_whole("find")
    offset = None
    if find is not None:
        places = np.flatnonzero(phase.step[order] == find)
        if not len(places):
            raise missing(f"find must be a batch of the range that was kept. Received: find={find}.")
        offset = int(places[0]) // limit * limit
    page, offset = cut_page(order, parameters, default=200, offset=offset)
    return {
        "total": len(order),
        "offset": offset,
        "metrics": list(phase.metrics),
        "maxima": {
            "loss": greatest(phase.field("loss")[first:last]),
            "error_rate": greatest(chosen.figure("error_rate")[first:last]),
        },
        "rows": [
            describe_row(chosen, int(row)) | {"worst": worst}
            for row, worst in zip(page, find_worst(chosen, page), strict=True)
        ],
    }


def sort_batches(chosen: Chosen, parameters: Parameters) -> Array:
    """Return the rows of the range in the order asked for."""
    phase = chosen.phase
    choices = (*BATCH_COLUMNS, *(f"metrics.{name}" for name in phase.metrics))
    sort = parameters.choice("sort", choices, "step")
    if sort.startswith("metrics."):
        keys = phase.field(metadata.metric_field(sort.removeprefix("metrics.")))
    elif sort in ("error_rate", "confidence"):
        keys = chosen.figure(sort)
    else:
        keys = phase.field("loss") if sort == "loss" else getattr(phase, sort)
    return analysis.sort_order(keys[chosen.first : chosen.last], descending=parameters.flag("descending"))


def find_worst(chosen: Chosen, rows: Array) -> list[Answer | None]:
    """Return the most frequent confusion of each batch, None if no error."""
    samples = chosen.phase.outputs.get(chosen.output)
    if samples is None or not chosen.has_classes:
        return [None] * len(rows)
    counts = samples.starts[rows + 1] - samples.starts[rows]
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    among = np.arange(starts[-1]) + np.repeat(samples.starts[rows] - starts[:-1], counts)
    target, predicted = samples.column("target")[among], samples.column("predicted")[among]
    worst = np.stack(analysis.find_worst_confusions(target, predicted, starts), axis=1).tolist()
    return [{"target": first, "predicted": second, "count": count} if count else None for first, second, count in worst]


def describe_row(chosen: Chosen, row: int) -> Answer:
    """Return the numbers of a batch."""
    phase = chosen.phase
    metrics = {name: metadata.metric_field(name) for name in phase.metrics}
    return {
        "step": int(phase.step[row]),
        "epoch": int(phase.epoch[row]),
        "index": int(phase.index[row]),
        "size": int(phase.size[row]),
        "wall_time": float(phase.wall_time[row]),
        "loss": float(phase.field("loss")[row]) if phase.has_in("loss", row) else None,
        "error_rate": number_or_none(chosen.figure("error_rate")[row]),
        "confidence": number_or_none(chosen.figure("confidence")[row]),
        "metrics": {
            name: float(phase.field(field)[row]) if phase.has_in(field, row) else None
            for name, field in metrics.items()
        },
    }


def describe_batch(chosen: Chosen, row: int) -> Answer:
    """Return the numbers of a batch and its neighbours."""
    steps = chosen.phase.step
    return describe_row(chosen, row) | {
        "previous": int(steps[row - 1]) if row else None,
        "next": int(steps[row + 1]) if row + 1 < len(steps) else None,
    }


def choose_samples(
    samples: Samples, parameters: Parameters, columns: Collection[str], *, default: str, descending: bool
) -> Array:
    """Return the samples asked for, in the order asked for."""
    outcome = parameters.choice("outcome", OUTCOMES, "all")
    chosen = samples.having(outcome)
    for name in ("target", "predicted"):
        number = parameters.optional_whole(name, high=2**31 - 1)
        if number is not None:
            chosen = chosen & (samples.column(name) == number)
    sort = parameters.choice("sort", columns, default)
    rows = np.flatnonzero(chosen)
    keys = samples.column(sort)[rows]
    absent = keys < 0 if sort in ("target", "predicted") else None
    return rows[analysis.sort_order(keys, descending=parameters.flag("descending", default=descending), missing=absent)]


def cut_page(order: Array, parameters: Parameters, *, default: int, offset: int | None = None) -> tuple[Array, int]:
    """Return a page of an order, and where it begins."""
    limit = parameters.whole("limit", default=default, low=1, high=MAX_LIMIT)
    start = parameters.whole("offset", default=0) if offset is None else offset
    return order[start : start + limit], start


def describe_samples(chosen: Chosen, samples: Samples, numbers: Array, *, with_scores: bool) -> list[Answer]:
    """Return samples as the routes show them."""
    columns = {name: samples.column(name)[numbers] for name in SAMPLE_COLUMNS}
    places = [samples.locate(int(number)) for number in numbers]
    ids = read_per_sample(chosen, places, "sample_ids")
    rows = []
    for i, (batch, sample) in enumerate(places):
        row: Answer = {
            "step": int(chosen.phase.step[batch]),
            "sample": sample,
            "id": describe_id(ids[i]),
            "target": class_or_none(columns["target"][i]),
            "predicted": class_or_none(columns["predicted"][i]),
            "confidence": number_or_none(columns["confidence"][i]),
            "target_score": number_or_none(columns["target_score"][i]),
            "loss": number_or_none(columns["loss"][i]),
            "error": number_or_none(columns["error"][i]),
        }
        rows.append(row)
    if with_scores and rows:
        weights = read_per_sample(chosen, places, "sample_weight")
        tops = top_scores(chosen, places[0][0], np.array([sample for _, sample in places]))
        for row, weight, top in zip(rows, weights, tops, strict=True):
            row["weight"] = None if weight is None else float(weight)
            row["top"] = top
    return rows


def read_per_sample(chosen: Chosen, places: list[tuple[int, int]], kind: str) -> list[Any]:
    """Return a value of each sample, read once a batch; None without."""
    by_batch: dict[int, Array | None] = {}
    for batch in dict.fromkeys(batch for batch, _ in places):
        place = chosen.place(batch)
        slot = place.layout.arrays.get((chosen.output, kind))
        by_batch[batch] = None if slot is None else chosen.run.read(place, slot)
    return [None if (values := by_batch[batch]) is None else values[sample] for batch, sample in places]


def read_scores(chosen: Chosen, row: int, samples: Array) -> tuple[Array, Array] | None:
    """Return the scores of samples of a batch as probabilities.

    Returns:
        Classes and scores, both (samples, scores), largest first unless the
        task is regression; None where there is no row of scores per sample.
    """
    place = chosen.place(row)
    slots = place.layout.arrays
    predictions = slots.get((chosen.output, "predictions"))
    if predictions is not None:
        scores = tasks.scores(chosen.spec, chosen.run.read(place, predictions)[samples])
        if chosen.spec.task == "regression":
            scores = scores.reshape(len(scores), -1)
            return np.broadcast_to(np.arange(scores.shape[1]), scores.shape), scores
        if scores.ndim != 2:
            return None
        order = np.argsort(-scores, axis=1, kind="stable")
        return order, np.take_along_axis(scores, order, axis=1)
    kept, classes = slots.get((chosen.output, "top_scores")), slots.get((chosen.output, "top_classes"))
    if kept is None or classes is None:
        return None
    values = chosen.run.read(place, kept)[samples].astype(np.float64)
    if chosen.spec.activation == "sigmoid":
        values = 1 / (1 + np.exp(-values))
    elif chosen.spec.activation == "softmax":
        # The rest of the logits is gone, but the probability of the largest is known.
        confidence = Samples(chosen, row, row + 1).column("confidence")[samples]
        values = np.exp(values - values[:, :1]) * confidence[:, None]
    return chosen.run.read(place, classes)[samples], values


def top_scores(chosen: Chosen, row: int, samples: Array) -> list[list[Answer]]:
    """Return the largest scores of samples of a batch."""
    found = None if chosen.spec.task == "regression" else read_scores(chosen, row, samples)
    if found is None:
        return [[] for _ in samples]
    classes, scores = (values[:, :TOP_SCORES].tolist() for values in found)
    return [
        [{"class": number, "score": score} for number, score in zip(*one, strict=True)]
        for one in zip(classes, scores, strict=True)
    ]


def describe_scores(chosen: Chosen, row: int, sample: int) -> Answer:
    """Return all scores of a sample, and what they are compared with."""
    place = chosen.place(row)
    found = read_scores(chosen, row, np.array([sample]))
    classes, scores = ([], []) if found is None else (values[0, :MAX_CLASSES].tolist() for values in found)
    answer: Answer = {
        "classes": chosen.spec.classes,
        "scores": [{"class": number, "score": score} for number, score in zip(classes, scores, strict=True)],
    }
    targets = place.layout.arrays.get((chosen.output, "targets"))
    if targets is not None and chosen.spec.task in ("multilabel", "regression") and found is not None:
        values = chosen.run.read(place, targets)[sample].astype(np.float64).ravel()
        answer["target_values"] = [float(values[number]) if number < len(values) else None for number in classes]
    return answer


def describe_class(row: analysis.ClassRow) -> Answer:
    """Return what `classes` says of a class."""
    confused = row.most_confused
    return {
        "class": row.class_number,
        "support": row.support,
        "predicted": row.predicted,
        "precision": number_or_none(row.precision),
        "recall": number_or_none(row.recall),
        "recall_low": number_or_none(row.recall_low),
        "recall_high": number_or_none(row.recall_high),
        "f1": number_or_none(row.f1),
        "most_confused": None if confused is None else {"class": confused, "count": row.most_confused_count},
    }


def describe_layers_of_batch(phase: PhaseView, row: int) -> list[Answer]:
    """Return the layers summarised in a batch, and how they were before."""
    rows = []
    places = {name: metadata.LAYER_FIGURES.index(name) for name in ("mean", "std", "zero_fraction")}
    for name, layer in phase.layers.items():
        at = int(np.searchsorted(layer.rows, row))
        if at == len(layer.rows) or layer.rows[at] != row:
            continue
        earlier = layer.figures[max(0, at - BATCHES_BEFORE) : at]
        rows.append(
            {
                "layer": name,
                **{figure: number_or_none(layer.figures[at, place]) for figure, place in places.items()},
                "before": {figure: analysis.finite_mean(earlier[:, place]) for figure, place in places.items()}
                if len(earlier)
                else None,
            }
        )
    return rows


def describe_layer(run: Run, phase: PhaseView, name: str, start: int | None, stop: int | None) -> Answer | None:
    """Return what `layers` says of a layer; None without batch in range."""
    layer = run.layer(name, phase.name)
    first, last = layer.range(start, stop)
    if first == last:
        return None
    figures = {
        figure: number_or_none(getattr(layer, figure)[last - 1])
        for figure in ("mean", "std", "min", "max", "zero_fraction")
    }
    return {
        "name": name,
        "batches": last - first,
        "first_step": int(layer.steps[first]),
        "last_step": int(layer.steps[last - 1]),
        "units": layer.read_unit_means(last - 1, last).shape[1] or None,
        **figures,
    }


def layer_windows(layer: logs.LayerLog, start: int | None, stop: int | None, points: int) -> bytes:
    """Return figures and histograms of a layer, a row a window."""
    first, last = layer.range(start, stop)
    size = analysis.bucket_size(last - first, points)
    merged = layer.merge(first, last, size)
    low, high = (values[first:last].astype(np.float64) for values in (layer.min, layer.max))
    edges = analysis.common_edges(low, high, HISTOGRAM_BINS)
    counts = layer.read_histograms(first, last)
    spread = analysis.rebin(low, high, counts, edges) if counts.size else np.zeros((last - first, HISTOGRAM_BINS))
    header = {
        "layer": layer.name,
        "batches": last - first,
        "window": size,
        "units": (layer.read_unit_means(last - 1, last).shape[1] or None) if last > first else None,
        "low": float(edges[0]),
        "high": float(edges[-1]),
        "bins": HISTOGRAM_BINS,
    }
    arrays = {
        "step": layer.steps[first:last:size].astype(np.float64),
        "mean": merged.mean,
        "std": merged.std,
        "min": merged.min,
        "max": merged.max,
        "zero_fraction": merged.zero_fraction,
        "histogram": analysis.normalise_rows(analysis.sum_windows(spread, size)),
    }
    return pack_arrays(header, narrow(arrays))


def narrow(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return figures as float32; steps stay float64 and counts integers."""
    with np.errstate(over="ignore"):
        return {
            name: array.astype(np.float32) if array.dtype == np.float64 and name != "step" else array
            for name, array in arrays.items()
        }


def number_or_none(value: float) -> float | None:
    """Return a figure; None stands for NaN, which here means none."""
    return None if value != value else float(value)


def class_or_none(value: int) -> int | None:
    """Return a class number; None stands for -1."""
    return None if value < 0 else int(value)


def describe_id(value: Any) -> str | int | None:
    """Return a sample's id; a number too long for a browser as text."""
    if value is None or isinstance(value, str):
        return value
    number = int(value)
    return number if abs(number) < 2**53 else str(number)


def greatest(values: Array) -> float | None:
    """Return the greatest finite value, None without one."""
    finite = values[np.isfinite(values)]
    return float(finite.max()) if len(finite) else None


def _route(impl: Callable[[Parameters], Answer | bytes], known: Collection[str]) -> Callable[..., Any]:
    """Return a route: parse, ask, respond."""

    @wrappers.Request.application
    def route(request: wrappers.Request) -> wrappers.Response:
        _check_method(request)
        try:
            return respond(request, impl(Parameters(request.args, known)))
        except ArgumentError as error:
            raise errors.InvalidArgumentError(str(error)) from error
        except BatchViewError as error:
            raise errors.NotFoundError(str(error)) from error

    return route


@wrappers.Request.application
def _static_route(request: wrappers.Request) -> wrappers.Response:
    _check_method(request)
    # The name is looked up among the files that are there; it is no path.
    name = request.path.rpartition("/static/")[2]
    files = _static_files()
    if name in files:
        return respond_file(request, files[name].read_bytes(), _content_type(name))
    if name == "index.js":
        return respond_file(request, _NO_BUNDLE, "text/javascript")
    raise missing(f"The file must be one of the frontend's. Received: {name[:80]!r}.")


def _static_files() -> Mapping[str, Path]:
    """Return the files of the frontend by name."""
    return {path.name: path for path in _STATIC.glob("*") if path.is_file()}


def _content_type(name: str) -> str:
    suffix = Path(name).suffix.lower()
    return _CONTENT_TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"


def _check_method(request: wrappers.Request) -> None:
    if request.method not in ("GET", "HEAD"):
        raise MethodNotAllowedError(request.method)
