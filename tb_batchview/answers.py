"""What the routes answer: plain Python made of a run's columns and arrays.

Called by `plugin` only, so that each answer can be had without HTTP. Calls
`analysis` for what is counted, `run` for what is read, `http` for parameters
and the form of array answers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Hashable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tb_batchview import analysis, comparison, dynamics, following, lookup, metadata, seriation, tasks
from tb_batchview.errors import ArgumentError
from tb_batchview.http import Parameters, missing, pack_arrays
from tb_batchview.places import Place
from tb_batchview.records import OutputSpec
from tb_batchview.run import Run
from tb_batchview.samples import COLUMNS, EACH, LEARNING, OUTCOMES, Filter, Followed, Samples
from tb_batchview.scans import Decisions
from tb_batchview.views import PhaseView, RunView, SampleView

Array = npt.NDArray[Any]
Answer = dict[str, Any]

MAX_LIMIT = 500  # rows a page
MAX_CLASSES = 1_000  # of a confusion matrix, and scores of a sample
MAX_EPOCHS = 1_000
MAX_SPIKES = 50
MAX_CLASS_MIX = 100
MAX_HISTORY = 1_000  # times a sample was seen: the last ones
MAX_LABEL = 100  # letters of an id in the data map
TOP_SCORES = 3
SORTED_WHOLE = 1_000  # up to so many scores the smaller class wins a tie; past it any may
BATCHES_BEFORE = 20  # a layer is compared with
SMOOTH_SHARE = 50  # the running median spans one part in so many of the range
SMOOTH_LEAST = 5  # batches

BATCH_COLUMNS = ("step", "epoch", "size", "loss", "error_rate", "confidence")
MAX_VALUES = 16  # of each sample of a regression that a table shows
FIGURE_DECIMALS = 9  # of the figures of a class
CLASS_FIGURES = tuple(f"{name}{end}" for name in ("precision", "recall", "f1") for end in ("", "_low", "_high"))
CLASS_COLUMNS = ("class", "support", "predicted", "precision", "recall", "f1")
BATCH_CHANGES = ("loss_change", "error_rate_change", "confidence_change")  # against the same step of run B
CLASS_CHANGES = tuple(f"{name}_change" for name in comparison.FIGURES)


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
    def state(self) -> Hashable:
        """Return what all that is counted of the range depends on.

        While a run grows, that of a range of before stays the same. With one
        that is made anew, or of which batches are put in order, it is another.
        """
        samples = self.phase.samples(self.output)
        return samples.tokens.before(self.last), self.first, self.last, self.spec, *samples.columns

    def samples(self, first: int, last: int, followed: Followed | None = None) -> Samples:
        """Return the samples of the batches `first` to `last`."""
        return Samples(self.phase.samples(self.output), self.spec, first, last, followed)

    @property
    def decisions(self) -> SampleView | Decisions:
        """Return what counts the classes of the output."""
        return self.run.decisions(self.phase, self.output, self.spec)

    def figure(self, name: str) -> Array:
        """Return `error_rate` or `confidence` of all batches of the phase."""
        return self.phase.field(metadata.output_field(self.output, name))

    def row(self, step: int) -> int:
        """Return the row of a step; 404 if it was not kept."""
        row = self.phase.row_of(step)
        if row is None:
            raise missing(lookup.unknown_step(self.phase, step))
        return row

    def row_with(self, step: int, sample: int) -> int:
        """Return the row of a step that has a sample; 404 if it has not."""
        row = self.row(step)
        count = len(self.samples(row, row + 1))
        if sample >= count:
            raise missing(f"sample must be below {count} in batch {step}. Received: sample={sample}.")
        return row

    def place(self, row: int) -> Place:
        """Return where a batch is in the files."""
        return self.view.place(self.phase, row)


def describe_run(name: str, view: RunView, *, with_names: bool) -> Answer:
    """Return what `runs` says of a run, but for the inputs of its phases."""
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
        "indexing": {"read_bytes": health.bytes - view.unread, "bytes": health.bytes} if view.unread else None,
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
            "workers": health.workers,
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
        # Far fewer changes than batches: the page asks this of every run again and again.
        "epochs": len(np.unique(phase.epoch[np.flatnonzero(np.diff(phase.epoch, prepend=phase.epoch[:1] - 1))])),
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
    samples = chosen.samples(first, last)
    error_rate = samples.mean_error()
    header = {
        "batches": last - first,
        "samples": len(samples),
        "bucket": size,
        "first_step": int(steps[0]) if len(steps) else None,
        "last_step": int(steps[-1]) if len(steps) else None,
        # Batches of which only the header was kept have no samples to count.
        "error_rate": analysis.finite_mean(error) if error_rate is None else error_rate,
        "loss": analysis.finite_mean(losses),
        "outcomes": samples.count_outcomes() if chosen.spec.has_classes else None,
        "epochs": [
            {"epoch": epoch, "step": step}
            for epoch, step in analysis.find_epochs(phase.epoch[first:last], phase.index[first:last], steps, MAX_EPOCHS)
        ],
        "spikes": describe_spikes(chosen),
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


def describe_spikes(chosen: Chosen) -> list[Answer]:
    """Return the batches of a range whose loss stands out, and on what."""
    spikes = chosen.phase.find_spikes(chosen.first, chosen.last, MAX_SPIKES)
    rows = np.array([spike.row for spike in spikes], np.int64)
    return [
        {
            "step": row["step"],
            "epoch": row["epoch"],
            "loss": spike.loss,
            "ratio": spike.ratio,
            "error_rate": row["error_rate"],
            "worst": worst,
        }
        for spike, row, worst in zip(spikes, describe_rows(chosen, rows), find_worst(chosen, rows), strict=True)
    ]


def batch_rows(chosen: Chosen, parameters: Parameters, against: Chosen | None = None) -> Answer:
    """Return a page of the table of batches, perhaps against those of run B."""
    phase, first, last = chosen.phase, chosen.first, chosen.last
    page = Page.of(parameters, 200)
    find = parameters.optional_whole("find")
    if find is not None:
        row = phase.row_of(find)
        if row is None or not first <= row < last:
            raise missing(f"find must be a batch of the range that was kept. Received: find={find}.")
        place = int(np.flatnonzero(sort_batches(chosen, parameters, 0, last - first, against) == row)[0])
        page = Page(place // page.limit * page.limit, page.limit)
    rows = sort_batches(chosen, parameters, page.offset, page.offset + page.limit, against)
    shown: list[Answer] = [
        row | {"worst": worst} for row, worst in zip(describe_rows(chosen, rows), find_worst(chosen, rows), strict=True)
    ]
    if against is not None:
        for answer, other in zip(shown, describe_same_steps(chosen, against, rows), strict=True):
            answer["against"] = other
    return {
        "total": last - first,
        "offset": page.offset,
        "metrics": list(phase.metrics),
        "maxima": {
            "loss": greatest(phase.field("loss")[first:last]),
            "error_rate": greatest(chosen.figure("error_rate")[first:last]),
        },
        "rows": shown,
    }


def describe_same_steps(chosen: Chosen, against: Chosen, rows: Array) -> list[Answer | None]:
    """Return the batch of the same step of run B, None where it has none."""
    others = comparison.match_steps(chosen.phase.step[rows], against.phase.step)
    described = iter(describe_rows(against, others[others >= 0]))
    return [None if other < 0 else next(described) for other in others.tolist()]


def change_of(name: str, chosen: Chosen, against: Chosen) -> Array:
    """Return a figure of each batch of the phase less that of run B."""
    values, others = (item.phase.field("loss") if name == "loss" else item.figure(name) for item in (chosen, against))
    rows = comparison.match_steps(chosen.phase.step, against.phase.step)
    with np.errstate(invalid="ignore"):  # of two that are infinite there is no difference
        change: Array = values - np.append(others, np.nan)[rows]
    return change


def sort_batches(
    chosen: Chosen, parameters: Parameters, offset: int, stop: int, against: Chosen | None = None
) -> Array:
    """Return a page of the rows of the range in the order asked for."""
    phase = chosen.phase
    changes = () if against is None else BATCH_CHANGES
    choices = (*BATCH_COLUMNS, *changes, *(f"metrics.{name}" for name in phase.metrics))
    sort, descending = parameters.choice("sort", choices, "step"), parameters.flag("descending")
    if sort == "step" and not descending:
        return np.arange(chosen.first + offset, max(chosen.first + offset, min(chosen.first + stop, chosen.last)))
    if against is not None and sort in BATCH_CHANGES:
        keys = change_of(sort.removesuffix("_change"), chosen, against)
    elif sort.startswith("metrics."):
        keys = phase.field(metadata.metric_field(sort.removeprefix("metrics.")))
    elif sort in ("error_rate", "confidence"):
        keys = chosen.figure(sort)
    else:
        keys = phase.field("loss") if sort == "loss" else getattr(phase, sort)
    keys = keys[chosen.first : chosen.last]
    return chosen.first + analysis.sort_order(keys, descending=descending, offset=offset, stop=stop)


def find_worst(chosen: Chosen, rows: Array) -> list[Answer | None]:
    """Return the most frequent confusion of each batch, None if no error."""
    samples = chosen.phase.outputs.get(chosen.output)
    if samples is None or not chosen.spec.has_classes:
        return [None] * len(rows)
    counts = samples.starts[rows + 1] - samples.starts[rows]
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    among = np.arange(starts[-1]) + np.repeat(samples.starts[rows] - starts[:-1], counts)
    target, predicted = samples.column("target")[among], samples.column("predicted")[among]
    worst = np.stack(analysis.find_worst_confusions(target, predicted, starts), axis=1).tolist()
    return [{"target": first, "predicted": second, "count": count} if count else None for first, second, count in worst]


def describe_rows(chosen: Chosen, rows: Array) -> list[Answer]:
    """Return the numbers of some batches."""
    phase = chosen.phase
    metrics = {name: metadata.metric_field(name) for name in phase.metrics}
    fields = {field: describe_field(phase, field, rows) for field in ("loss", *metrics.values())}
    columns: dict[str, list[Any]] = {
        name: getattr(phase, name)[rows].tolist() for name in ("step", "epoch", "index", "size", "wall_time")
    }
    columns["loss"] = fields["loss"]
    for name in ("error_rate", "confidence"):
        columns[name] = [number_or_none(value) for value in chosen.figure(name)[rows].tolist()]
    columns["metrics"] = [
        dict(zip(metrics, values, strict=True))
        for values in zip(*(fields[field] for field in metrics.values()), strict=True)
    ] or [{} for _ in rows]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def describe_field(phase: PhaseView, field: str, rows: Array) -> list[float | None]:
    """Return a field of some batches; None where the header has it not."""
    values = phase.field(field)[rows].tolist()
    return [value if has else None for value, has in zip(values, phase.has(field, rows).tolist(), strict=True)]


def one_batch(chosen: Chosen, parameters: Parameters) -> Answer:
    """Return one batch and a page of its samples."""
    row = chosen.row(parameters.whole("step"))
    samples = chosen.samples(row, row + 1)
    page = Page.of(parameters, 200)
    wanted = read_filter(parameters)
    numbers, total = find_samples(
        samples, wanted, parameters, page, ("sample", *COLUMNS), default="loss", descending=True
    )
    steps = chosen.phase.step
    mix = (
        analysis.mix_classes(samples.column("target"), samples.column("predicted"), MAX_CLASS_MIX)
        if chosen.spec.has_classes
        else []
    )
    return describe_rows(chosen, np.array([row]))[0] | {
        "previous": int(steps[row - 1]) if row else None,
        "next": int(steps[row + 1]) if row + 1 < len(steps) else None,
        "counts": {outcome: samples.count(Filter(outcome)) for outcome in ("all", "wrong", "confidently_wrong")},
        "class_mix": [
            {"class": number, "target": as_target, "predicted": as_predicted} for number, as_target, as_predicted in mix
        ],
        "total": total,
        "offset": page.offset,
        "samples": describe_samples(chosen, samples, numbers, with_scores=True),
        "layers": describe_layers_of_batch(chosen.phase, row),
        "summarised": find_summarised(chosen.phase, row),
    }


def one_sample(chosen: Chosen, step: int, number: int) -> Answer:
    """Return one sample with all its scores; 404 if there is none."""
    row = chosen.row_with(step, number)
    samples = chosen.samples(row, row + 1)
    answer = describe_samples(chosen, samples, np.array([number]), with_scores=True)[0]
    begin = int(chosen.phase.samples(chosen.output).starts[row])
    return answer | describe_scores(chosen, row, number) | describe_history(chosen, begin + number, answer["id"])


def sample_rows(chosen: Chosen, parameters: Parameters) -> Answer:
    """Return a page of the samples of the range."""
    wanted, sort = read_filter(parameters), parameters.optional_text("sort")
    followed, codes = follow(chosen, parameters, wanted, sort in dynamics.FIGURES)
    samples = chosen.samples(chosen.first, chosen.last, followed)
    page = Page.of(parameters, 100)
    sorts = ("step", *COLUMNS, *dynamics.FIGURES)
    numbers, total = find_samples(
        samples, dataclasses.replace(wanted, codes=codes), parameters, page, sorts, default="step", descending=False
    )
    shown = describe_samples(chosen, samples, numbers, with_scores=False)
    figures = followed.dynamics if followed is not None and wanted.each == "last" else None
    if figures is not None:
        for row, code in zip(shown, samples.codes(numbers).tolist(), strict=True):
            row["dynamics"] = dynamics.describe(figures, code)
    return {
        "total": total,
        "offset": page.offset,
        "identified": chosen.view.has_ids(chosen.phase, chosen.output),
        "samples": shown,
    }


def read_filter(parameters: Parameters) -> Filter:
    """Read which samples are asked for."""
    target, predicted = (parameters.optional_whole(name, high=2**31 - 1) for name in ("target", "predicted"))
    return Filter(
        outcome=parameters.choice("outcome", OUTCOMES, "all"),
        target=target,
        predicted=predicted,
        confidence=parameters.optional_range("confidence"),
        loss=parameters.optional_range("loss"),
        each=parameters.choice("each", EACH, "all"),
        learning=parameters.choice("learning", LEARNING, "all"),
        mean_target_score=parameters.optional_range("mean_target_score"),
        variability=parameters.optional_range("variability"),
    )


def follow(
    chosen: Chosen, parameters: Parameters, wanted: Filter, sorted_by_figure: bool
) -> tuple[Followed | None, Array | None]:
    """Return what is known by ids, if it is asked for, and the ids wanted."""
    exact, part = parameters.optional_text("id"), parameters.optional_text("id_part")
    needed = wanted.needs_dynamics or sorted_by_figure
    if not (needed or wanted.each == "last" or exact or part):
        return None, None
    if needed:
        lookup.check_followed(chosen.output, chosen.spec)
    ids = chosen.run.identify(chosen.phase, chosen.output)
    marks = np.ones(ids.count, bool) if part is None else ids.search(part)
    if exact is not None:
        marks = marks & np.isin(np.arange(ids.count), ids.find(exact))
    figures = None
    if needed or (wanted.each == "last" and chosen.spec.has_classes):
        figures = chosen.run.follow(chosen.phase, chosen.output, chosen.first, chosen.last)
    return Followed(ids, figures), marks if exact or part else None


def describe_history(chosen: Chosen, number: int, sample_id: str | int | None) -> Answer:
    """Return each time that a sample was seen, by its number in the phase."""
    nothing: Answer = {"seen": 0, "dynamics": None, "history": [], "history_refused": None}
    if sample_id is None:
        return nothing
    try:
        codes = chosen.run.identify(chosen.phase, chosen.output).codes
    except ArgumentError as error:  # too many to be followed: the sample itself can be shown
        return nothing | {"history_refused": str(error)}
    numbers = np.flatnonzero(codes == codes[number])
    history = following.trace(chosen.phase, chosen.output, numbers[-MAX_HISTORY:])
    figures = None
    if chosen.spec.has_classes:
        figures = dynamics.describe(following.trace(chosen.phase, chosen.output, numbers).dynamics, 0)
    columns: dict[str, list[Any]] = {name: getattr(history, name).tolist() for name in ("step", "epoch", "sample")}
    for name in ("target", "predicted"):
        columns[name] = [class_or_none(value) for value in getattr(history, name)]
    for name in ("confidence", "target_score", "loss", "error"):
        columns[name] = [number_or_none(value) for value in getattr(history, name)]
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return {
        "seen": len(numbers),
        "dynamics": figures,
        "history": rows,
        "history_refused": None,
    }


def data_map(chosen: Chosen, limit: int) -> bytes:
    """Return how the model came to know each sample, by id."""
    lookup.check_followed(chosen.output, chosen.spec)
    phase, first, last = chosen.phase, chosen.first, chosen.last
    ids = chosen.run.identify(phase, chosen.output)
    found = chosen.run.follow(phase, chosen.output, first, last)
    samples = chosen.samples(first, last, Followed(ids, found))
    numbers = samples.find(Filter(each="last"), "step", limit=max(1, len(samples)))[0]
    codes = samples.codes(numbers)
    codes, numbers = codes[found.seen[codes] > 0], numbers[found.seen[codes] > 0]
    # In the order in which the ids first appeared, so that a run that grows keeps most of what was drawn.
    order = np.argsort(codes)
    drawn = order[dynamics.draw_evenly(np.arange(len(order)), limit)]
    places = [samples.locate(int(number)) for number in numbers[drawn]]
    header = {
        "ids": len(codes),
        "shown": len(drawn),
        "samples": len(samples),
        "names": [str(ids.name(code))[:MAX_LABEL] for code in codes[drawn].tolist()],
    }
    arrays: dict[str, Array] = {
        "step": np.array([phase.step[row] for row, _ in places], np.float64),
        "sample": np.array([place for _, place in places], np.uint32),
    }
    for name in dynamics.FIGURES:
        values = getattr(found, name)[codes[drawn]]
        arrays[name] = values.astype(np.uint32) if values.dtype.kind == "i" else values
    return pack_arrays(header, arrays)


def find_samples(
    samples: Samples,
    wanted: Filter,
    parameters: Parameters,
    page: Page,
    sorts: Collection[str],
    *,
    default: str,
    descending: bool,
) -> tuple[Array, int]:
    """Return a page of the samples asked for, and how many there are."""
    return samples.find(
        wanted,
        parameters.choice("sort", sorts, default),
        descending=parameters.flag("descending", default=descending),
        offset=page.offset,
        limit=page.limit,
    )


@dataclasses.dataclass(frozen=True)
class Page:
    """Which rows of a table are asked for."""

    offset: int
    limit: int

    @classmethod
    def of(cls, parameters: Parameters, default: int) -> Page:
        """Read `offset` and `limit`, by default `default` rows."""
        limit = parameters.whole("limit", default=default, low=1, high=MAX_LIMIT)
        return cls(parameters.whole("offset", default=0), limit)

    def cut(self, order: Array) -> Array:
        """Return the rows of the page."""
        return order[self.offset : self.offset + self.limit]


def describe_samples(chosen: Chosen, samples: Samples, numbers: Array, *, with_scores: bool) -> list[Answer]:
    """Return samples as the routes show them."""
    columns = {name: samples.take(name, numbers) for name in COLUMNS}
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
    if chosen.spec.task == "regression":
        for row, values in zip(rows, describe_values(chosen, places), strict=True):
            row["values"] = values
    return rows


def describe_values(chosen: Chosen, places: list[tuple[int, int]]) -> list[list[Answer]]:
    """Return the first targets of samples and what was predicted of them."""
    both = [read_per_sample(chosen, places, kind) for kind in ("targets", "predictions")]
    return [
        [
            {"target": float(target), "predicted": float(value)}
            for target, value in zip(np.ravel(targets)[:MAX_VALUES], np.ravel(predictions), strict=False)
        ]
        if targets is not None and predictions is not None
        else []
        for targets, predictions in zip(*both, strict=True)
    ]


def read_per_sample(chosen: Chosen, places: list[tuple[int, int]], kind: str) -> list[Any]:
    """Return a value of each sample, read once a batch; None without."""
    by_batch: dict[int, Array | None] = {}
    for batch in dict.fromkeys(batch for batch, _ in places):
        place = chosen.place(batch)
        slot = place.layout.arrays.get((chosen.output, kind))
        by_batch[batch] = None if slot is None else chosen.run.read(place, slot)
    return [None if (values := by_batch[batch]) is None else values[sample] for batch, sample in places]


def read_scores(chosen: Chosen, row: int, samples: Array, count: int) -> tuple[Array, Array] | None:
    """Return the largest scores of samples of a batch as probabilities.

    Returns:
        Classes and scores, both (samples, at most `count`), largest first;
        for regression the first values. None where there is no row of
        scores per sample.
    """
    place = chosen.place(row)
    slots = place.layout.arrays
    predictions = slots.get((chosen.output, "predictions"))
    if predictions is not None:
        scores = tasks.scores(chosen.spec, chosen.run.read(place, predictions)[samples])
        if chosen.spec.task == "regression":
            scores = scores.reshape(len(scores), -1)[:, :count]
            return np.broadcast_to(np.arange(scores.shape[1]), scores.shape), scores
        if scores.ndim != 2:
            return None
        if scores.shape[1] > SORTED_WHOLE:
            largest, numbers = tasks.top_scores(scores, count)
            return numbers, largest
        order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        return order, np.take_along_axis(scores, order, axis=1)
    kept, classes = slots.get((chosen.output, "top_scores")), slots.get((chosen.output, "top_classes"))
    if kept is None or classes is None:
        return None
    values = chosen.run.read(place, kept)[samples, :count].astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        if chosen.spec.activation == "sigmoid":
            values = 1 / (1 + np.exp(-values))
        elif chosen.spec.activation == "softmax":
            # The rest of the logits is gone, but the probability of the largest is known. Infinite ones are alike.
            confidence = chosen.samples(row, row + 1).column("confidence")[samples]
            shares = np.where(values == values[:, :1], 1.0, np.exp(values - values[:, :1]))
            values = shares * confidence[:, None]
    return chosen.run.read(place, classes)[samples, :count], values


def top_scores(chosen: Chosen, row: int, samples: Array) -> list[list[Answer]]:
    """Return the largest scores of samples of a batch."""
    found = None if chosen.spec.task == "regression" else read_scores(chosen, row, samples, TOP_SCORES)
    if found is None:
        return [[] for _ in samples]
    classes, scores = (values.tolist() for values in found)
    return [
        # What a worker does not have is of the class -1.
        [{"class": number, "score": score} for number, score in zip(*one, strict=True) if number >= 0]
        for one in zip(classes, scores, strict=True)
    ]


def describe_scores(chosen: Chosen, row: int, sample: int) -> Answer:
    """Return all scores of a sample, and what they are compared with."""
    place = chosen.place(row)
    found = read_scores(chosen, row, np.array([sample]), MAX_CLASSES)
    classes, scores = ([], []) if found is None else (values[0].tolist() for values in found)
    answer: Answer = {
        "classes": chosen.spec.classes,
        "scores": [{"class": number, "score": score} for number, score in zip(classes, scores, strict=True)],
    }
    targets = place.layout.arrays.get((chosen.output, "targets"))
    if targets is not None and chosen.spec.task in ("multilabel", "regression") and found is not None:
        values = chosen.run.read(place, targets)[sample].astype(np.float64).ravel()
        answer["target_values"] = [float(values[number]) if number < len(values) else None for number in classes]
    return answer


def class_rows(chosen: Chosen, parameters: Parameters, against: Chosen | None = None) -> Answer:
    """Return a page of the figures per class, perhaps against run B's."""
    samples = chosen.samples(chosen.first, chosen.last)
    page = Page.of(parameters, MAX_LIMIT)
    answer: Answer = {"batches": chosen.last - chosen.first, "samples": len(samples)}
    matched = None
    columns = CLASS_COLUMNS if against is None else (*CLASS_COLUMNS, *CLASS_CHANGES)
    sort, descending = parameters.choice("sort", columns, "class"), parameters.flag("descending")
    if against is not None:
        comparison.check_tasks(chosen.spec, against.spec)
    if chosen.spec.task == "regression":
        if against is not None:
            others = against.samples(against.first, against.last)
            counted = {"batches": against.last - against.first, "samples": len(others)}
            answer["against"] = counted | {"mean_absolute_error": others.mean_error()}
        return answer | {"mean_absolute_error": samples.mean_error(), "total": 0, "offset": page.offset, "classes": []}
    report = report_of(chosen)
    other = changes = None
    if against is not None:
        other = report_of(against)  # refuses absurdly many classes before they are matched
        matched = comparison.match_classes(chosen.spec, against.spec)
        changes = comparison.compare_reports(report, other, matched.numbers)
        answer["calibration_error"] = calibration_error(chosen)
        answer["against"] = describe_against(against, report, other, matched)
    if changes is not None and sort in CLASS_CHANGES:
        keys = changes.by[sort.removesuffix("_change")]
    else:
        keys = np.arange(len(report)) if sort == "class" else getattr(report, sort)
    order = analysis.sort_order(keys, descending=descending)
    search = parameters.optional_text("search")
    if search is not None:
        order = order[mark_named(chosen.spec, search, len(report))[order]]
    numbers = page.cut(order)
    rows = describe_classes(report, numbers)
    if changes is not None and other is not None and matched is not None:
        matches = matched.numbers[numbers]
        partners = iter(describe_classes(other, matches[matches >= 0]))
        for row, number, match in zip(rows, numbers.tolist(), matches.tolist(), strict=True):
            row["against"] = None if match < 0 else next(partners)
            row |= describe_changes(changes, number)
    return answer | {
        "accuracy": number_or_none(report.accuracy),
        "macro_f1": number_or_none(report.macro_f1),
        "total": len(order),
        "offset": page.offset,
        "classes": rows,
    }


def report_of(chosen: Chosen) -> analysis.ClassReport:
    """Return the figures per class of the range."""
    return chosen.run.class_report(chosen.phase.name, chosen.start, chosen.stop, chosen.output)


def calibration_error(chosen: Chosen) -> float | None:
    """Return how far confidence is from accuracy, None without classes."""
    if not chosen.spec.has_classes:
        return None
    found = chosen.run.calibration(chosen.phase.name, chosen.start, chosen.stop, chosen.output)
    return number_or_none(found.error)


def describe_against(
    against: Chosen, report: analysis.ClassReport, other: analysis.ClassReport, matched: comparison.Matched
) -> Answer:
    """Return the figures of run B over all classes."""
    lows, highs = zip(*(accuracy_interval(item) for item in (report, other)), strict=True)
    return {
        "batches": against.last - against.first,
        "samples": len(against.samples(against.first, against.last)),
        "accuracy": number_or_none(other.accuracy),
        "macro_f1": number_or_none(other.macro_f1),
        "calibration_error": calibration_error(against),
        # Labels of one sample are not independent: their interval would be too narrow.
        "accuracy_apart": against.spec.has_classes and bool(lows[0] > highs[1] or highs[0] < lows[1]),
        "matched_by": matched.by,
        "unmatched": int((matched.numbers < 0).sum()),
        "missing": matched.missing,
    }


def accuracy_interval(report: analysis.ClassReport) -> tuple[float, float]:
    """Return the 95 % interval of the accuracy, NaN without samples."""
    right = round(report.accuracy * report.samples) if report.samples else 0
    low, high = analysis.wilson_interval(np.array([right]), np.array([report.samples]))
    return float(low[0]), float(high[0])


def describe_changes(changes: comparison.Changes, number: int) -> Answer:
    """Return how far a class and the matching one of run B are apart."""
    return {
        "change": {name: number_or_none(values[number]) for name, values in changes.by.items()},
        "apart": {name: bool(values[number]) for name, values in changes.apart.items()},
    }


def mark_named(spec: OutputSpec, search: str, classes: int) -> Array:
    """Mark the classes whose name or number holds the words."""
    words = search.strip().lower()
    names = spec.class_names or ()
    # A class without a name goes by its number, as everywhere in the viewer.
    texts = [names[number] if number < len(names) and names[number] else str(number) for number in range(classes)]
    return np.array([words in text.lower() or words == str(number) for number, text in enumerate(texts)], bool)


def confusion(chosen: Chosen, limit: int, *, clustered: bool = False, against: Chosen | None = None) -> bytes:
    """Return the confusion matrix of the range, at most `limit` classes."""
    lookup.check_classes(chosen.output, chosen.spec)
    classes = chosen.spec.classes
    shown = np.arange(classes, dtype=np.int32)
    if classes > limit:
        counted = chosen.decisions.count_classes(classes, (chosen.first, chosen.last))
        shown = analysis.pick_classes(counted[0], limit)
    counts = count_shown(chosen, shown)
    header: Answer = {
        "batches": chosen.last - chosen.first,
        "samples": len(chosen.samples(chosen.first, chosen.last)),
        "classes": classes,
        "shown": len(shown),
    }
    arrays = {"labels": shown, "counts": narrow_counts(counts)}
    if clustered:
        arrays["clustered"] = seriation.order_confusable(counts)
    if against is not None:
        comparison.check_tasks(chosen.spec, against.spec)
        lookup.check_classes(against.output, against.spec)
        matched = comparison.match_classes(chosen.spec, against.spec)
        numbers = matched.numbers[shown]
        places = np.flatnonzero(numbers >= 0)
        others = comparison.spread_counts(count_shown(against, numbers[places]), places, len(shown))
        header["against"] = {
            "batches": against.last - against.first,
            "samples": len(against.samples(against.first, against.last)),
            "classes": against.spec.classes,
            "matched_by": matched.by,
            "unmatched": int((matched.numbers < 0).sum()),
            "missing": matched.missing,
        }
        arrays |= {"against_labels": numbers.astype(np.int32), "against_counts": narrow_counts(others)}
    return pack_arrays(header, arrays)


def count_shown(chosen: Chosen, shown: Array) -> Array:
    """Count which was taken for which of some classes in the range."""
    classes = chosen.spec.classes
    samples = chosen.decisions
    if len(shown) == classes and classes <= MAX_CLASSES:
        counts = samples.count_confusion(classes, chosen.first, chosen.last)
        # Those of run B may be in another order. To take a million cells one by one is slow.
        return counts if (np.diff(shown) > 0).all() else counts.take(shown, axis=0).take(shown, axis=1)
    if isinstance(samples, Decisions):
        return samples.count_among(shown, classes, chosen.first, chosen.last)
    target, predicted = (
        analysis.renumber(samples.column(name, chosen.first, chosen.last), shown, classes)
        for name in ("target", "predicted")
    )
    return analysis.count_confusion(target, predicted, len(shown))


def narrow_counts(counts: Array) -> Array:
    """Return counts in as few bytes as the greatest needs.

    Of a large matrix most are small: it is compressed, sent and unpacked in a
    fraction of the time.
    """
    greatest = int(counts.max(initial=0))
    dtype = np.uint8 if greatest < 2**8 else np.uint16 if greatest < 2**16 else np.uint32
    return (counts if greatest < 2**32 else counts.clip(max=2**32 - 1)).astype(dtype)


def class_trend(chosen: Chosen, points: int, limit: int) -> bytes:
    """Return counts per class over windows, of at most `limit` classes."""
    trend = chosen.run.class_trend(chosen.phase.name, chosen.start, chosen.stop, chosen.output, windows=points)
    counts = np.stack([trend.support, trend.predicted, trend.hits])
    shown = analysis.pick_classes(counts.sum(axis=1), limit)
    header = {
        "batches": chosen.last - chosen.first,
        "window": trend.window,
        "classes": chosen.spec.classes,
        "shown": len(shown),
    }
    arrays = {
        "step": trend.step.astype(np.float64),
        "last_step": trend.last_step.astype(np.float64),
        "labels": shown,
    }
    for name, count in zip(("support", "predicted", "hits"), counts, strict=True):
        arrays[name] = narrow_counts(count[:, shown])
    return pack_arrays(header, arrays)


def describe_classes(report: analysis.ClassReport, numbers: Array) -> list[Answer]:
    """Return what `classes` says of some classes."""
    columns: dict[str, list[Any]] = {"class": numbers.tolist()}
    columns |= {name: getattr(report, name)[numbers].tolist() for name in ("support", "predicted")}
    for name in CLASS_FIGURES:
        # More digits would be a third of a long answer.
        values = getattr(report, name)[numbers].round(FIGURE_DECIMALS)
        columns[name] = [number_or_none(value) for value in values] if np.isnan(values).any() else values.tolist()
    confused = zip(report.most_confused[numbers].tolist(), report.most_confused_count[numbers].tolist(), strict=True)
    columns["most_confused"] = [
        None if number == analysis.NO_CLASS else {"class": number, "count": count} for number, count in confused
    ]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


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


def find_summarised(phase: PhaseView, row: int) -> int | None:
    """Return the step of the nearest batch whose layers are summarised."""
    nearest = None
    for layer in phase.layers.values():
        at = int(np.searchsorted(layer.rows, row))
        for found in layer.rows[max(0, at - 1) : at + 1].tolist():
            if nearest is None or abs(found - row) < abs(nearest - row):
                nearest = found
    return None if nearest is None else int(phase.step[nearest])


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
