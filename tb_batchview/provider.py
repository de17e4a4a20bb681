"""The runs of a foreign data provider, put into event files of our own.

Used by `sources` where TensorBoard has no files that could be read: everything
behind these files is then as for any others. Calls `rebuilt` to write them and
`metadata` for what a series is. A provider may be anything: what
it answers is checked, what it raises is told, and what it has too much of is
left out and counted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import math
import operator
import re
import shutil
import tempfile
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tensorboard.data import provider as data_providers

from tb_batchview import encode, metadata
from tb_batchview.errors import ArgumentError, FormatError, VersionError
from tb_batchview.metadata import Content
from tb_batchview.rebuilt import Batches, Datum, RunFile, Series

Array = npt.NDArray[Any]

# Of an experiment; of a run; of a series.
MAX_RUNS = 1_000
MAX_SERIES = 10_000
MAX_POINTS = 200_000
# Arrays of a run, in memory while they are taken in (over gRPC twice more, as they came) and on disk; of all runs
# together, on disk.
MAX_RUN_BYTES = 1 << 27
MAX_BYTES = 1 << 30

# Small series are asked for together.
_CALL_BYTES = 1 << 26
# What a small array takes in memory besides its content.
_DATUM_BYTES = 256
# Series that cannot be read before no other is tried of the same run.
_MOST_FAILURES = 8
# After a call that failed an eighth of it is asked for.
_FEWER = 8
# Batches of a step, where workers recorded it or it was recorded again.
_SAME_STEP = 64
_MOST_SAID = 100

_DIGITS = re.compile(r"([0-9]{1,18})")
_SORTED_LETTERS = 1_000

# What is read first, since it may not be possible to read all.
_ORDER = (
    ("header",),
    ("status",),
    metadata.FRONT_KINDS,
    ("layer_summary", "gradient_summary"),
    ("targets",),
    ("predictions", "top_scores", "top_classes"),
    (metadata.INPUTS_KIND,),
    (*metadata.LAYER_KINDS, *metadata.GRADIENT_KINDS),
)
_RANKS = {kind: rank for rank, kinds in reversed([*enumerate(_ORDER)]) for kind in kinds}

_LOGGER = logging.getLogger(__name__)


@dataclasses.dataclass
class _Reading:
    """What was read of a run.

    Attributes:
        data: By tag.
        problems: How often each was met.
        failures: Calls that failed.
        failure: Why the first of them did.
        room: Bytes that may still be read.
    """

    room: int
    data: dict[str, list[Datum]] = dataclasses.field(default_factory=dict)
    problems: Counter[str] = dataclasses.field(default_factory=Counter)
    failures: int = 0
    failure: str = ""


class ProviderFiles:
    """Event files of what a data provider has of ours, a directory a run.

    Attributes:
        context: Of the latest request: the provider is asked in its name.
        failure: Why the provider could not be asked last time, or "".
        location: What the provider says of where its data are, or "".
        further: Runs that are left out, since there are too many.
    """

    def __init__(self, provider: Any, experiment: str) -> None:
        """Prepare; the provider is asked by `find`.

        Args:
            provider: TensorBoard's, of any kind.
            experiment: Its name, as requests have it; mostly "".
        """
        self._provider = provider
        self._experiment = experiment
        self._files: dict[str, RunFile] = {}
        self._names: dict[str, str] = {}
        self._numbers = itertools.count()
        self._directory: Path | None = None
        self._removal: weakref.finalize[Any, Any] | None = None
        self._said: set[str] = set()
        self._closed = False
        self.context: Any = None
        self.failure = ""
        self.location = ""
        self.further = 0

    def find(self) -> dict[str, Path]:
        """Ask what is new, and return the directories of the runs by name.

        Never raises: what goes wrong is `failure`, and what was read before
        stays.
        """
        if self._closed:
            return {}
        failure = ""
        try:
            self._locate()
            listed = self._list()
            # Files for a time may be cleared away by the system.
            for run in [run for run, file in self._files.items() if run not in listed or not file.is_there]:
                self._files.pop(run).remove()
                del self._names[run]
            for run, series in listed.items():
                try:
                    failure = self._refresh(run, series) or failure
                except Exception as error:
                    failure = self._say(error)
        except Exception as error:
            failure = self._say(error)
        self.failure = failure
        return {self._names[run]: file.directory for run, file in self._files.items()}

    def close(self) -> None:
        """Remove the files."""
        self._closed = True
        if self._removal is not None:
            self._removal()

    def _locate(self) -> None:
        """Find out where the provider says that its data are, if it does."""
        if not self.location:
            with contextlib.suppress(Exception):
                found = self._provider.experiment_metadata(self.context, experiment_id=self._experiment)
                self.location = str(found.data_location or "")[:1000]

    def _list(self) -> dict[str, dict[str, Series]]:
        """Return the series that are there, by run and tag."""
        answer = self._provider.list_tensors(
            self.context, experiment_id=self._experiment, plugin_name=metadata.PLUGIN_NAME
        )
        listed: dict[str, dict[str, Series]] = {}
        runs = sorted(run for run, _ in _items(answer) if isinstance(run, str))
        self.further = max(0, len(runs) - MAX_RUNS)
        for run in runs[:MAX_RUNS]:
            known = self._files[run].series if run in self._files else {}
            found = {}
            tags = answer[run] if isinstance(answer[run], Mapping) else {}
            for tag, series in itertools.islice(tags.items(), MAX_SERIES):
                taken = _take_series(series, known.get(tag)) if isinstance(tag, str) else None
                if taken is not None:
                    found[tag] = taken
            if found:
                listed[run] = {tag: found[tag] for tag in sorted(found, key=lambda tag: _rank(tag, found[tag]))}
        return listed

    def _refresh(self, run: str, series: dict[str, Series]) -> str:
        """Take in what is new of a run; return what went wrong."""
        file = self._files.get(run)
        if file is not None and file.series == series:
            return ""
        others = sum(other.bytes for name, other in self._files.items() if name != run)
        reading = self._read(run, series, max(0, min(MAX_RUN_BYTES, MAX_BYTES - others)))
        batches = Batches.of(series, reading.data, reading.problems)
        if file is None:
            file = RunFile(self._make_directory())
        if not reading.failures or file.is_part_of(batches):
            try:
                file.put(batches)
            except OSError:
                if run not in self._files:
                    file.remove()
                raise
        # After a failure it is tried again, also if nothing is new.
        file.series = {} if reading.failures else series
        if run not in self._files:
            self._files[run] = file
            self._names[run] = self._name(run)
        return reading.failure

    def _name(self, run: str) -> str:
        """Return our name of a run: its directory's, as in the file reader."""
        parent, _, last = run.replace("\\", "/").rpartition("/")
        name = (parent or ".") if last == metadata.DIRECTORY else run
        return run if name in self._names.values() else name

    def _make_directory(self) -> Path:
        if self._directory is None or not self._directory.is_dir():
            self._directory = Path(tempfile.mkdtemp(prefix="tb_batchview-"))
            # At the end of the process, too.
            self._removal = weakref.finalize(self, shutil.rmtree, str(self._directory), ignore_errors=True)
        directory = self._directory / str(next(self._numbers))
        directory.mkdir()
        return directory

    def _read(self, run: str, series: Mapping[str, Series], room: int) -> _Reading:
        """Read a run, what matters most first, within its room."""
        reading = _Reading(room)
        # One of each tells how large they are.
        sizes = {
            tag: max(_DATUM_BYTES if datum is None else datum.nbytes for datum in data)
            for tag, data in self._ask(run, [*series], 1, reading).items()
            if data
        }
        group: list[str] = []
        cost = steps = 0
        for tag in sizes:
            # What may have to be cut takes nothing away from what comes before it.
            if group and (cost + sizes[tag]) * max(steps, series[tag].steps) > min(_CALL_BYTES, reading.room):
                self._read_group(run, group, cost, series, reading)
                group, cost, steps = [], 0, 0
            group.append(tag)
            cost, steps = cost + sizes[tag], max(steps, series[tag].steps)
        self._read_group(run, group, cost, series, reading)
        return reading

    def _read_group(
        self, run: str, group: list[str], cost: int, series: Mapping[str, Series], reading: _Reading
    ) -> None:
        """Read series of which one step of all takes `cost` bytes."""
        points = min(MAX_POINTS, reading.room // cost) if group else 0
        # Not more than there are, so that fewer are fewer; workers have a step in common.
        points = min(points, max((_SAME_STEP * series[tag].steps for tag in group), default=0))
        answer = self._ask(run, group, points, reading) if points else {}
        for tag in group:
            data = answer.get(tag, [])
            kept = reading.data[tag] = []
            for datum in data:
                if datum is None:
                    reading.problems[_odd()] += 1
                elif datum.nbytes <= reading.room:  # those of a series may differ in size
                    reading.room -= datum.nbytes
                    kept.append(datum)
                else:
                    reading.problems[_too_much()] += 1
                    break
            if points <= len(data) and points < series[tag].steps:
                reading.problems[_too_much()] += 1

    def _ask(self, run: str, tags: Sequence[str], points: int, reading: _Reading) -> dict[str, list[Datum | None]]:
        """Ask for at most so many arrays of each series.

        Where that fails, each half of the series is asked for alone, so that
        one that cannot be read costs no other; and of one alone, fewer arrays:
        an answer over gRPC has a limit that is not known here.
        """
        try:
            return self._call(run, tags, points)
        except Exception as error:
            said = self._say(error)
            if len(tags) > 1 and reading.failures < _MOST_FAILURES:
                middle = len(tags) // 2
                return {
                    **self._ask(run, tags[:middle], points, reading),
                    **self._ask(run, tags[middle:], points, reading),
                }
        while len(tags) == 1 and points > 1 and reading.failures < _MOST_FAILURES:
            points //= _FEWER
            with contextlib.suppress(Exception):
                found = self._call(run, tags, max(1, points))
                reading.problems[_too_much()] += 1
                return found
        reading.failures += 1
        reading.failure = reading.failure or said
        reading.problems[f"TensorBoard's data provider could not be read: {said}."] += len(tags)
        return {}

    def _call(self, run: str, tags: Sequence[str], points: int) -> dict[str, list[Datum | None]]:
        """Ask once; what is no array that could be written is None."""
        answer = self._provider.read_tensors(
            self.context,
            experiment_id=self._experiment,
            plugin_name=metadata.PLUGIN_NAME,
            downsample=points,
            run_tag_filter=data_providers.RunTagFilter(runs=[run], tags=tags),
        )
        found = dict(_items(dict(_items(answer)).get(run, {})))
        return {
            tag: [_take_datum(item) for item in itertools.islice(found[tag], points)] for tag in tags if tag in found
        }

    def _say(self, error: Exception) -> str:
        """Return what went wrong in a line; log it the first time."""
        # The text of gRPC's errors is of many lines, with the time in it.
        details = getattr(error, "details", None)
        text = str(details() if callable(details) else error)
        words = f"{type(error).__name__}: {' '.join(text.split())}"[:300]
        if words not in self._said and len(self._said) < _MOST_SAID:
            self._said.add(words)
            _LOGGER.warning("Batch View: TensorBoard's data provider could not be read: %s", words, exc_info=True)
        return words


def _items(mapping: Any) -> Iterator[tuple[Any, Any]]:
    """Yield what a provider's answer holds, if it is a mapping.

    Raises:
        FormatError: It is none.
    """
    if not isinstance(mapping, Mapping):
        raise FormatError(f"A data provider must answer with a dict. Received: {type(mapping).__name__}.")
    yield from mapping.items()


def _rank(tag: str, series: Series) -> tuple[int, list[str], list[int]]:
    """Return what sorts series: by kind, and as people count.

    The order that they had in the file, that of the layers of the model, is
    lost: TensorBoard's data server lists them in another one each time.
    """
    parts = _DIGITS.split(tag[:_SORTED_LETTERS])
    return _RANKS[series.what.kind], parts[::2], [int(number) for number in parts[1::2]]


def _take_series(series: Any, known: Series | None) -> Series | None:
    """Return what a provider lists if it is of ours and is read."""
    try:
        content, steps, until = series.plugin_content, series.max_step, series.max_wall_time
        steps, until = operator.index(steps or 0) + 1, float(until or 0)
    except (AttributeError, TypeError, ValueError, OverflowError):
        return None
    if not isinstance(content, bytes) or not 0 < steps <= 2**62:
        return None
    until = until if math.isfinite(until) else 0.0
    if known is not None and known.content == content:
        return known._replace(steps=steps, until=until)
    try:
        what = metadata.parse_content(content)
    except VersionError:
        # As it is: whoever reads the file refuses it, with both versions.
        what = Content(version=metadata.FORMAT_VERSION + 1, kind="header")
    except FormatError:
        return None
    return Series(content, what, steps, until) if what.kind in _RANKS else None


def _take_datum(item: Any) -> Datum | None:
    try:
        step, wall_time, array = operator.index(item.step), float(item.wall_time), item.numpy
    except (AttributeError, TypeError, ValueError, OverflowError):
        return None
    if not isinstance(array, np.ndarray) or not 0 <= step < 2**62 or not math.isfinite(wall_time):
        return None
    if array.dtype.kind in "OSU":
        if not all(isinstance(text, (bytes, str)) for text in array.flat):
            return None
        return Datum(step, wall_time, array, _DATUM_BYTES + sum(32 + len(text) for text in array.flat))
    try:
        array = encode.storable(array, "array")
    except ArgumentError:
        return None
    return Datum(step, wall_time, array, _DATUM_BYTES + array.nbytes)


def _odd() -> str:
    return "Arrays of the data provider that are not as the format has them are left out."


def _too_much() -> str:
    return "Series of the data provider that are too large were read in part, or not at all."
