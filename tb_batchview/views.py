"""What a reader gets of a run: columns of one moment, and where arrays are.

Made by `store` and, of several workers, by `shards`; used by `run`, `answers`
and `export`. Calls `places`.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from tb_batchview import analysis, calibration, index, layouts
from tb_batchview.errors import BatchViewError
from tb_batchview.identity import Identity
from tb_batchview.layouts import Layout
from tb_batchview.order import Pieces
from tb_batchview.places import JoinedPlace, Place, join_layouts, walk_again
from tb_batchview.records import OutputSpec, check_step
from tb_batchview.running import Cells, Count, RunningSpikes, RunningSums

Array = npt.NDArray[Any]
Value = TypeVar("Value")

# What is held per sample: dtype and what stands where there is none.
SAMPLE_COLUMNS: dict[str, tuple[Any, float]] = {
    "target": (np.int32, -1),
    "predicted": (np.int32, -1),
    "confidence": (np.float32, np.nan),
    "target_score": (np.float32, np.nan),
    "sample_loss": (np.float32, np.nan),
    "error": (np.float32, np.nan),
}

# Pairs of classes are counted in a matrix of at most so many cells more than there are samples: these would have to be
# sorted otherwise. It takes 16 MB at most.
_CELLS_PER_SAMPLE = 16
_MOST_CELLS = 1 << 22

_ALL = slice(None)

# Changes of rows that are told apart by where they begin.
_MOST_CHANGES = 64


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
            # Two threads may make it at once: both make the same, and have the first one's.
            self._made.setdefault(name, self._make(name))
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclasses.dataclass(frozen=True, eq=False)
class Token:
    """Tells one reading of a run's files from every other; holds nothing."""


class Tokens:
    """Tokens of growing rows: what was the same row before has the same."""

    def __init__(self, changes: tuple[tuple[int, Token], ...] = ()) -> None:
        # From which row on each holds; in ascending order.
        self._changes = changes or ((0, Token()),)

    def before(self, last: int) -> Token:
        """Return that of the rows before `last`."""
        return next((token for row, token in reversed(self._changes) if row < last), self._changes[0][1])

    def changed(self, row: int) -> Tokens:
        """Return those to use once the rows from one on are others."""
        changes = (*(change for change in self._changes if change[0] < row), (row, Token()))
        if len(changes) > _MOST_CHANGES:
            # Of each two the later token holds from the earlier row on: no rows have it yet that it did not hold of.
            changes = tuple(
                (changes[at][0], changes[min(at + 1, len(changes) - 1)][1]) for at in range(0, len(changes), 2)
            )
        return Tokens(changes)


@dataclasses.dataclass(frozen=True)
class SampleView:
    """The samples of one output in one phase.

    Attributes:
        starts: int64, shape (batches + 1,): batch i has the samples
            `starts[i]` to `starts[i + 1]`; none if only its header was kept.
        columns: By name: target, predicted (int32, -1 for none), confidence,
            target_score, sample_loss, error (float32, NaN for none). Of
            batches that are not next to each other as they were read a part
            is put together when it is looked at.
        sums: What was counted of a growing run, by kind; the snapshots of one
            run share it.
        identity: Which samples are the same one, found when it is asked for;
            likewise.
        places: Of several workers: returns where the samples of one of them
            are among all.
        tokens: Another one as soon as batches are not where they were: while
            that of some rows is the same, these have not changed.
    """

    starts: Array
    columns: Mapping[str, Array | Pieces]
    sums: dict[tuple[str, int], RunningSums] = dataclasses.field(default_factory=dict, compare=False, repr=False)
    identity: Identity = dataclasses.field(default_factory=Identity, compare=False, repr=False)
    places: Callable[[int], Array] | None = dataclasses.field(default=None, compare=False, repr=False)
    tokens: Tokens = dataclasses.field(default_factory=Tokens, compare=False, repr=False)

    def column(self, name: str, first: int = 0, last: int | None = None) -> Array:
        """Return a column of the samples of batches `first` to `last`."""
        return self.part(name, int(self.starts[first]), int(self.starts[-1 if last is None else last]))

    def part(self, name: str, start: int, stop: int) -> Array:
        """Return a column of the samples `start` up to before `stop`."""
        if name in self.columns:
            return self.columns[name][start:stop]
        dtype, fill = SAMPLE_COLUMNS[name]
        return np.full(stop - start, fill, dtype)

    def count_confusion(self, classes: int, first: int, last: int) -> Array:
        """Count which class was taken for which in batches `first` to `last`.

        Returns:
            uint32, shape (classes, classes); rows are targets.
        """

        def count(first: int, last: int) -> Array:
            return analysis.count_confusion(*self._pair(first, last), classes)

        def cells(first: int, last: int) -> Array:
            return analysis.find_cells(*self._pair(first, last), classes)

        return self._count("confusion", classes, count, (first, last), cells)[0]

    def report_classes(
        self, classes: int, class_names: tuple[str, ...] | None, first: int, last: int
    ) -> analysis.ClassReport:
        """Report the classes of the samples of batches `first` to `last`."""
        cells, samples = classes**2, int(self.starts[last] - self.starts[first])
        if cells <= samples or cells <= min(_CELLS_PER_SAMPLE * samples, _MOST_CELLS):
            return analysis.report_confusion(self.count_confusion(classes, first, last), class_names)
        return analysis.report_classes(*self._pair(first, last), classes, class_names)

    def count_classes(self, classes: int, borders: Sequence[int]) -> Array:
        """Count each class in the batches between neighbouring borders.

        Returns:
            int64, shape (len(borders) - 1, 3, classes): as target, as
            predicted, as both.
        """

        def count(first: int, last: int) -> Array:
            return analysis.count_classes(*self._pair(first, last), classes)

        return self.count("classes", classes, count, borders)

    def count_outcomes(self, first: int, last: int) -> Array:
        """Count batches `first` to `last` by `analysis.OUTCOMES`."""
        return self._count_decisions("outcomes", analysis.count_outcomes, first, last)

    def count_confidences(self, first: int, last: int) -> Array:
        """Count batches `first` to `last` by how sure and right they are."""
        return self._count_decisions("confidences", calibration.count_confidences, first, last)

    def count_positives(self, first: int, last: int) -> Array:
        """Count batches `first` to `last` by the score of class 1."""
        return self._count_decisions("positives", calibration.count_positives, first, last)

    def count_codes(self, name: str, first: int, last: int) -> Array:
        """Count the values of a column by their `analysis.rank_codes`."""

        def count(first: int, last: int) -> Array:
            return np.bincount(analysis.rank_codes(self.column(name, first, last)), minlength=analysis.RANK_CODES)

        return self.count(f"codes of {name}", 0, count, (first, last))[0]

    def count(self, kind: str, classes: int, count: Count, borders: Sequence[int]) -> Array:
        """Count something in the batches between neighbouring borders.

        Args:
            kind: What it is; what was counted of a kind is kept for the next
                time.
            classes: How many of it there are.
            count: See `RunningSums.count`.
            borders: Rows, ascending.

        Returns:
            int64, shape (len(borders) - 1, …).
        """
        return self._count(kind, classes, count, borders).astype(np.int64)

    def _count(
        self, kind: str, classes: int, count: Count, borders: Sequence[int], cells: Cells | None = None
    ) -> Array:
        sums = self.sums.setdefault((kind, classes), RunningSums())
        return sums.count(count, borders, batches=len(self.starts) - 1, samples=int(self.starts[-1]), cells=cells)

    def _count_decisions(self, kind: str, of: Callable[[Array, Array, Array], Array], first: int, last: int) -> Array:
        def count(first: int, last: int) -> Array:
            return of(*self._pair(first, last), self.column("confidence", first, last))

        return self.count(kind, 0, count, (first, last))[0]

    def _pair(self, first: int, last: int) -> tuple[Array, Array]:
        return self.column("target", first, last), self.column("predicted", first, last)


@dataclasses.dataclass(frozen=True)
class LayerView:
    """The summaries of one layer, or of its gradient, in one phase.

    Attributes:
        rows: int64, the batches that have one.
        figures: float32, shape (rows, figures): see `metadata.LAYER_FIGURES`
            and `GRADIENT_FIGURES`.
        shard: int64, which of several workers' each summary is.
        own: int64, the batches as numbered by that worker.
    """

    rows: Array
    figures: Array
    shard: Array | None = None
    own: Array | None = None


@dataclasses.dataclass(frozen=True)
class PhaseView:
    """The batches of one phase, by ascending step: columns of equal length.

    Attributes:
        count: Batches.
        columns: step, epoch, index, size: int64. wall_time: float64, seconds
            since 1970. And where the records are.
        fields: By name in the header (`loss`, `metrics/…`, `outputs/…`):
            float64, NaN where `has` is false.
        seen: Batches that the training had.
        shards: What each worker recorded, where there are several: this is
            joined from them.
        apart: Batches of which the workers do not tell the same epoch.
        spikes: Those found so far; the snapshots of one run share it.
    """

    name: str
    count: int
    columns: Mapping[str, Array]
    fields: Mapping[str, Array]
    outputs: Mapping[str, SampleView]
    layers: Mapping[str, LayerView]
    gradients: Mapping[str, LayerView]
    seen: int
    _fieldsets: tuple[frozenset[str], ...]
    shards: tuple[PhaseView, ...] = ()
    apart: int = 0
    spikes: RunningSpikes = dataclasses.field(default_factory=RunningSpikes, compare=False, repr=False)

    def __len__(self) -> int:
        return self.count

    @property
    def step(self) -> Array:
        """Return the numbers of the batches in the phase."""
        return self.columns["step"]

    @property
    def epoch(self) -> Array:
        """Return the epochs."""
        return self.columns["epoch"]

    @property
    def index(self) -> Array:
        """Return the numbers within the epochs."""
        return self.columns["index"]

    @property
    def size(self) -> Array:
        """Return how many samples there were."""
        return self.columns["size"]

    @property
    def wall_time(self) -> Array:
        """Return the ends of the steps, seconds since 1970."""
        return self.columns["wall_time"]

    @property
    def _file(self) -> Array:
        return self.columns["file"]

    @property
    def _position(self) -> Array:
        return self.columns["position"]

    @property
    def _length(self) -> Array:
        return self.columns["length"]

    @property
    def _layout(self) -> Array:
        return self.columns["layout"]

    @property
    def _fieldset(self) -> Array:
        return self.columns["fieldset"]

    def field(self, name: str) -> Array:
        """Return a column of the header; NaN where it has none."""
        return self.fields[name] if name in self.fields else np.full(len(self), np.nan)

    def has(self, name: str, rows: Array | slice = _ALL) -> Array:
        """Tell which batches, or which of some, have a field in their header."""
        fieldset = self._fieldset[rows]
        by_set = np.array([name in fields for fields in self._fieldsets], bool)
        return by_set[fieldset] if len(by_set) else np.zeros(len(fieldset), bool)

    def has_in(self, name: str, row: int) -> bool:
        """Tell whether one batch has a field in its header."""
        return name in self._fieldsets[int(self._fieldset[row])]

    def samples(self, output: str) -> SampleView:
        """Return the samples of an output, none if it has none here."""
        return self.outputs.get(output) or SampleView(np.zeros(len(self) + 1, np.int64), {})

    def find_spikes(self, first: int, last: int, limit: int) -> list[analysis.Spike]:
        """Find the batches `first` to `last` whose loss stands out."""
        return self.spikes.find(np.where(self.has("loss"), self.field("loss"), 0.0), first, last, limit)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Return the names of the metrics, in order of appearance."""
        return tuple(name.removeprefix("metrics/") for name in self.fields if name.startswith("metrics/"))

    def rows(self, start: int | None, stop: int | None) -> tuple[int, int]:
        """Return the rows of the steps from `start` up to before `stop`.

        Raises:
            ArgumentError: One of them is neither a number nor None.
        """
        first = 0 if start is None else int(np.searchsorted(self.step, check_step("start", start)))
        last = len(self) if stop is None else int(np.searchsorted(self.step, check_step("stop", stop)))
        return first, max(first, last)

    def records(self, view: LayerView, first: int, last: int) -> tuple[Array, Array, Array, Array]:
        """Return where some of the summaries of a layer are.

        Returns:
            File, position, length and layout of the record of each.
        """
        if view.shard is None or view.own is None:
            rows = view.rows[first:last]
            return self._file[rows], self._position[rows], self._length[rows], self._layout[rows]
        shard, own = view.shard[first:last], view.own[first:last]
        found = tuple(np.zeros(len(own), dtype) for dtype in (np.int32, np.int64, np.int64, np.int32))
        for number in np.unique(shard).tolist():
            mine = shard == number
            part = self.shards[number]
            for column, values in zip(found, (part._file, part._position, part._length, part._layout), strict=True):
                column[mine] = values[own[mine]]
        return found[0], found[1], found[2], found[3]

    def row_of(self, step: int) -> int | None:
        """Return the row of a step, None if it was not kept."""
        row = int(np.searchsorted(self.step, check_step("step", step)))
        return row if row < len(self) and self.step[row] == step else None


@dataclasses.dataclass(frozen=True)
class Health:
    """What is known of the state of a run's files.

    Attributes:
        files: Event files.
        bytes: Their size together.
        corrupt_records: Records that were skipped.
        torn_files: Files that end within a record: being written, or killed.
        refused_files: Files of a newer format.
        dropped_batches: Batches the writers dropped.
        warnings: (kind, message, count) of what went wrong, by the writers'
            own account and by reading.
        workers: Processes that trained together.
    """

    files: int = 0
    bytes: int = 0
    corrupt_records: int = 0
    torn_files: int = 0
    refused_files: int = 0
    dropped_batches: int = 0
    warnings: tuple[tuple[str, str, int], ...] = ()
    workers: int = 1


@dataclasses.dataclass(frozen=True)
class RunView:
    """A snapshot of a run: everything in it is of one moment.

    Attributes:
        unread: Bytes of the files that are still to be read: the columns are
            of what was read before. A torn end is not among them.
    """

    phases: Mapping[str, PhaseView]
    outputs: Mapping[str, OutputSpec]
    health: Health
    info: Mapping[str, str]
    unread: int = 0
    _files: tuple[index.EventFile, ...] = ()
    _layouts: tuple[Layout, ...] = ()
    # Of several workers: what was joined so far, by the numbers of the layouts.
    _joined: dict[tuple[int, ...], Layout] = dataclasses.field(default_factory=dict)
    # Another one when the files were read anew: what was worked out from them before does not count.
    _token: Token = dataclasses.field(default_factory=Token)
    # Phases of which some inputs are there.
    _shown: frozenset[str] = frozenset()
    # Inputs that could not be shown: where they are. A few are enough to count.
    _odd_inputs: set[Any] = dataclasses.field(default_factory=set)

    @property
    def exists(self) -> bool:
        """Tell whether there is any file of the run."""
        return self.health.files > 0

    @property
    def updated(self) -> float | None:
        """Return the wall time of the newest batch, None without one."""
        times = [float(phase.wall_time[-1]) for phase in self.phases.values() if len(phase)]
        return max(times, default=None)

    def has_ids(self, phase: PhaseView, output: str) -> bool:
        """Tell whether any batch has ids of its samples; none of them is read."""
        return any((output, "sample_ids") in layout.arrays for layout in self.list_layouts(phase))

    def has_inputs(self, phase: PhaseView) -> bool:
        """Tell whether any batch says what its samples were."""
        return phase.name in self._shown

    def list_layouts(self, phase: PhaseView) -> Iterator[Layout]:
        """Yield the forms of the batches, each at least once.

        Of those that are not remembered only two are read.
        """
        for shard in phase.shards:
            yield from self.list_layouts(shard)
        if phase.shards:
            return
        forms = np.flatnonzero(np.bincount(phase._layout + 1)) - 1
        yield from (self._layouts[form] for form in forms.tolist() if form >= 0)
        with contextlib.suppress(BatchViewError):  # its file may be gone
            # The first: of an id that comes again the input is there only. The last: it may be another training's.
            for row in np.flatnonzero(phase._layout < 0)[[0, -1]].tolist() if -1 in forms else []:
                yield self._place(phase, row).layout

    def place(self, phase: PhaseView, row: int) -> Place:
        """Return where a batch is in the files.

        Raises:
            FormatError: The record is no longer what it was.
        """
        if not phase.shards:
            return self._place(phase, row)
        step = int(phase.step[row])
        rows = [(shard, own) for shard in phase.shards if (own := shard.row_of(step)) is not None]
        places = tuple(self._place(shard, own) for shard, own in rows)
        lead = places[0]
        if len(places) == 1 and len(set(lead.layout.samples.values())) <= 1:
            return lead
        layout = self._join(tuple(int(shard._layout[own]) for shard, own in rows), places)
        return JoinedPlace(lead.path, lead.identity, lead.position, lead.length, layout, places)

    def _place(self, phase: PhaseView, row: int) -> Place:
        file = self._files[int(phase._file[row])]
        position, length = int(phase._position[row]), int(phase._length[row])
        number = int(phase._layout[row])
        layout = self._layouts[number] if number >= 0 else walk_again(file, position, length)
        return Place(file.path, file.identity, position, length, layout)

    def _join(self, numbers: tuple[int, ...], places: tuple[Place, ...]) -> Layout:
        layout = self._joined.get(numbers)
        if layout is None:
            layout = join_layouts([place.layout for place in places])
            # Those that were walked again have no number of their own.
            if min(numbers) >= 0 and len(self._joined) < layouts.MAX_LAYOUTS:
                self._joined[numbers] = layout
        return layout
