"""The runs of a foreign data provider, put into event files of our own.

Used by `sources` where TensorBoard has no files that could be read: everything
behind these files is then as for any others. Calls `encode` and `tfrecord` to
write them and `metadata` for what a series is. A provider may be anything: what
it answers is checked, what it raises is told, and what it has too much of is
left out and counted.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
import operator
import os
import shutil
import tempfile
import time
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from tensorboard.data import provider as data_providers

from tb_batchview import encode, metadata, tfrecord
from tb_batchview.errors import ArgumentError, FormatError, VersionError
from tb_batchview.metadata import Content, Status
from tb_batchview.records import PHASES

Array = npt.NDArray[Any]
# Phase, step and wall time: the values of one event have all three in common.
_Key = tuple[str, int, float]

# Of an experiment; of a run; of a series.
MAX_RUNS = 1_000
MAX_SERIES = 10_000
MAX_POINTS = 200_000
# In memory while a run is taken in, and on disk; of all runs together, on disk.
MAX_RUN_BYTES = 1 << 28
MAX_BYTES = 1 << 30

# Small series are asked for together. An answer over gRPC of more than 256 MB is refused there.
_CALL_BYTES = 1 << 26
_LARGEST_CALL = 200 << 20
# What a small array takes in memory besides its content.
_DATUM_BYTES = 256
# Calls that fail before no other is made for the same run.
_MOST_FAILURES = 8
_MOST_SAID = 100

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


class _Series(NamedTuple):
    """A tag of a run, as it was listed.

    Attributes:
        content: Of its metadata.
        what: What that says.
        steps: The greatest step, and one.
        until: The latest wall time.
    """

    content: bytes
    what: Content
    steps: int
    until: float


class _Datum(NamedTuple):
    """One array of a series."""

    step: int
    wall_time: float
    array: Array
    nbytes: int


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
    data: dict[str, list[_Datum]] = dataclasses.field(default_factory=dict)
    problems: Counter[str] = dataclasses.field(default_factory=Counter)
    failures: int = 0
    failure: str = ""


class ProviderFiles:
    """Event files of what a data provider has of ours, a directory a run.

    Attributes:
        context: Of the latest request: the provider is asked in its name.
        failure: Why the provider could not be asked last time, or "".
        location: What the provider says of where its data are.
    """

    def __init__(self, provider: Any, experiment: str) -> None:
        """Prepare; the provider is asked by `find`.

        Args:
            provider: TensorBoard's, of any kind.
            experiment: Its name, as requests have it; mostly "".
        """
        self._provider = provider
        self._experiment = experiment
        self._files: dict[str, _RunFile] = {}
        self._names: dict[str, str] = {}
        self._numbers = itertools.count()
        self._directory: Path | None = None
        self._removal: weakref.finalize[Any, Any] | None = None
        self._said: set[str] = set()
        self._closed = False
        self.context: Any = None
        self.failure = ""
        self.location = ""

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
            for run in [run for run in self._files if run not in listed]:
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
        """Find out, once, where the provider says that its data are."""
        if not self.location:
            found = self._provider.experiment_metadata(self.context, experiment_id=self._experiment)
            self.location = str(getattr(found, "data_location", "") or "its own place")[:1000]

    def _list(self) -> dict[str, dict[str, _Series]]:
        """Return the series that are there, by run and tag."""
        answer = self._provider.list_tensors(
            self.context, experiment_id=self._experiment, plugin_name=metadata.PLUGIN_NAME
        )
        listed: dict[str, dict[str, _Series]] = {}
        for run, tags in itertools.islice(_items(answer), MAX_RUNS):
            if isinstance(run, str):
                known = self._files[run].series if run in self._files else {}
                found = {}
                for tag, series in itertools.islice(_items(tags), MAX_SERIES):
                    taken = _take_series(series, known.get(tag)) if isinstance(tag, str) else None
                    if taken is not None:
                        found[tag] = taken
                if found:
                    listed[run] = found
        return listed

    def _refresh(self, run: str, series: dict[str, _Series]) -> str:
        """Take in what is new of a run; return what went wrong."""
        file = self._files.get(run)
        if file is not None and file.series == series:
            return ""
        others = sum(other.bytes for name, other in self._files.items() if name != run)
        reading = self._read(run, series, max(0, min(MAX_RUN_BYTES, MAX_BYTES - others)))
        batches = _Batches.of(series, reading)
        if file is None:
            file = _RunFile(self._make_directory())
        if not reading.failures or file.is_part_of(batches):
            file.put(batches)
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
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="tb_batchview-"))
            # At the end of the process, too.
            self._removal = weakref.finalize(self, shutil.rmtree, str(self._directory), ignore_errors=True)
        directory = self._directory / str(next(self._numbers))
        directory.mkdir()
        return directory

    def _read(self, run: str, series: Mapping[str, _Series], room: int) -> _Reading:
        """Read a run, what matters most first, within its room."""
        reading = _Reading(room)
        tags = sorted(series, key=lambda tag: _RANKS[series[tag].what.kind])
        # One of each tells how large they are.
        sizes = {
            tag: max(_DATUM_BYTES if datum is None else datum.nbytes for datum in data)
            for tag, data in self._ask(run, tags, 1, reading).items()
            if data
        }
        group: list[str] = []
        cost = steps = 0
        for tag in sizes:
            if group and (cost + sizes[tag]) * max(steps, series[tag].steps) > _CALL_BYTES:
                self._read_group(run, group, cost, series, reading)
                group, cost, steps = [], 0, 0
            group.append(tag)
            cost, steps = cost + sizes[tag], max(steps, series[tag].steps)
        self._read_group(run, group, cost, series, reading)
        return reading

    def _read_group(
        self, run: str, group: list[str], cost: int, series: Mapping[str, _Series], reading: _Reading
    ) -> None:
        """Read series of which one step of all takes `cost` bytes."""
        points = min(MAX_POINTS, min(reading.room, _LARGEST_CALL) // cost) if group else 0
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

    def _ask(self, run: str, tags: Sequence[str], points: int, reading: _Reading) -> dict[str, list[_Datum | None]]:
        """Ask for at most so many arrays of each series.

        Where that fails, each half of them is asked for alone, so that one
        that cannot be read costs no other.
        """
        try:
            answer = self._provider.read_tensors(
                self.context,
                experiment_id=self._experiment,
                plugin_name=metadata.PLUGIN_NAME,
                downsample=points,
                run_tag_filter=data_providers.RunTagFilter(runs=[run], tags=tags),
            )
            found = dict(_items(dict(_items(answer)).get(run, {})))
            return {
                tag: [_take_datum(item) for item in itertools.islice(found[tag], points)]
                for tag in tags
                if tag in found
            }
        except Exception as error:
            reading.failures += 1
            reading.failure = reading.failure or self._say(error)
            if len(tags) == 1 or reading.failures > _MOST_FAILURES:
                reading.problems[f"TensorBoard's data provider could not be read: {self._say(error)}."] += len(tags)
                return {}
            middle = len(tags) // 2
            return {
                **self._ask(run, tags[:middle], points, reading),
                **self._ask(run, tags[middle:], points, reading),
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


@dataclasses.dataclass
class _Batches:
    """The batches of a run, each of the arrays that belong together.

    Attributes:
        events: Arrays by tag, of each batch and of each status.
        contents: Of the metadata, by tag.
        others: Of the metadata of a header that is not like the first.
        statuses: What is to be told besides.
    """

    events: dict[_Key, dict[str, Array]]
    contents: dict[str, bytes]
    others: dict[tuple[_Key, str], bytes]
    statuses: list[Status]

    @classmethod
    def of(cls, series: Mapping[str, _Series], reading: _Reading) -> _Batches:
        """Put together what has phase, step and wall time in common."""
        problems = Counter(reading.problems)
        newest: dict[str, dict[int, float]] = {}
        by_kind = sorted(reading.data, key=lambda tag: _RANKS[series[tag].what.kind])
        for tag in by_kind:
            if series[tag].what.kind == "header":
                steps = newest.setdefault(series[tag].what.phase, {})
                for datum in reading.data[tag]:
                    if steps.setdefault(datum.step, datum.wall_time) != datum.wall_time:
                        steps[datum.step] = max(steps[datum.step], datum.wall_time)
                        problems[_twice(series[tag].what.workers)] += 1
        found: dict[_Key, dict[str, Array]] = {}
        headless = set()
        for tag in by_kind:
            what = series[tag].what
            steps = newest.get(what.phase, {})
            for datum in reading.data[tag]:
                key = (what.phase, datum.step, datum.wall_time)
                if what.kind == "status" or steps.get(datum.step) == datum.wall_time:
                    found.setdefault(key, {})[tag] = datum.array
                elif datum.step not in steps:
                    headless.add(key)
        if headless:
            problems[_headless()] += len(headless)
        others = {}
        for key, arrays in found.items():
            for tag in [tag for tag in arrays if series[tag].what.kind == "header"]:
                short = _shorten(arrays[tag], series[tag].what, {series[other].what.output for other in arrays})
                if short is not None:
                    arrays[tag], others[key, tag] = short
                    problems[_nameless()] += 1
        phases = {phase: rank for rank, phase in enumerate(PHASES)}
        events = {key: found[key] for key in sorted(found, key=lambda key: (phases.get(key[0], len(phases)), key[1:]))}
        seen: dict[str, int] = {}
        for one in series.values():
            if one.what.phase:
                seen[one.what.phase] = max(one.steps, seen.get(one.what.phase, 0))
        statuses = [Status("read", message, count) for message, count in problems.items()]
        contents = {tag: _content(one) for tag, one in series.items()}
        return cls(events, contents, others, [*statuses, Status("closed", "", 1, seen)])


class _RunFile:
    """The event file of one run, as large as the provider lets it be.

    Attributes:
        directory: Which holds it, and nothing else.
        series: What it was made of.
        bytes: Its size.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.series: dict[str, _Series] = {}
        self.bytes = 0
        self._path: Path | None = None
        self._numbers = itertools.count()
        self._forget()

    def _forget(self) -> None:
        self._events: dict[_Key, frozenset[str]] = {}
        # Of the metadata: what was read of each tag that is in the file, and what was said last of it.
        self._contents: dict[str, bytes] = {}
        self._said: dict[str, bytes] = {}
        self._told: dict[tuple[str, str], Status] = {}

    def is_part_of(self, batches: _Batches) -> bool:
        """Tell whether nothing that is in the file is missing there."""
        return all(batches.events.get(key, {}).keys() >= tags for key, tags in self._events.items())

    def remove(self) -> None:
        """Remove it and its directory."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def put(self, batches: _Batches) -> None:
        """Append what is new, or write it anew if something else changed.

        A provider that keeps some at random keeps others later.

        Raises:
            OSError: The disk is full, for instance; the file is as it was.
        """
        if self._path is not None and self._goes_on(batches):
            self._write(self._path, batches)
            return
        before = self._path, self._events, self._contents, self._said, self._told
        name = metadata.file_name(int(time.time()), "provider", os.getpid(), next(self._numbers))
        path = self.directory / name
        self._forget()
        try:
            self._write(path, batches)
        except BaseException:
            path.unlink(missing_ok=True)
            self._path, self._events, self._contents, self._said, self._told = before
            raise
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self._path = path

    def _goes_on(self, batches: _Batches) -> bool:
        """Tell whether all that is in the file still holds."""
        told = {(status.kind, status.message) for status in batches.statuses}
        return (
            all(batches.events.get(key, {}).keys() == tags for key, tags in self._events.items())
            and all(batches.contents.get(tag) == content for tag, content in self._contents.items())
            and told >= self._told.keys()
        )

    def _write(self, path: Path, batches: _Batches) -> None:
        new = {key: arrays for key, arrays in batches.events.items() if key not in self._events}
        told = [one for one in batches.statuses if self._told.get((one.kind, one.message)) != one]
        size = path.stat().st_size if path.exists() else 0
        try:
            with path.open("ab") as file:
                said = dict(self._said)
                for payload in _encode(new, told, batches, said, whole=not size):
                    file.writelines(tfrecord.frame_pieces([payload]))
            self.bytes = path.stat().st_size
        except BaseException:
            if size:
                os.truncate(path, size)
            raise
        tags: dict[frozenset[str], frozenset[str]] = {}
        for key, arrays in new.items():
            names = frozenset(arrays)
            self._events[key] = tags.setdefault(names, names)
        self._said = said
        self._contents = {tag: content for tag, content in batches.contents.items() if tag in said}
        self._told.update({(one.kind, one.message): one for one in told})


def _encode(
    events: Mapping[_Key, Mapping[str, Array]],
    statuses: Sequence[Status],
    batches: _Batches,
    said: dict[str, bytes],
    *,
    whole: bool,
) -> Iterator[bytes]:
    """Yield the events of a file, or of what is appended to it.

    Args:
        events: Which of the batches.
        statuses: Which of what is to be told.
        batches: What they are of.
        said: Metadata that hold for each tag so far; changed.
        whole: Whether it is the beginning of a file.
    """
    now = time.time()
    if whole:
        yield encode.encode_file_version(now)
    for key, arrays in events.items():
        contents = {tag: batches.others.get((key, tag), batches.contents[tag]) for tag in arrays}
        news = {tag: content for tag, content in contents.items() if said.get(tag) != content}
        said.update(news)
        yield encode.encode_arrays(key[1], key[2], arrays, news)
    for status in statuses:
        text = np.array([metadata.status_text(status)], object)
        said[metadata.STATUS_TAG] = metadata.status_content()
        yield encode.encode_arrays(
            0, now, {metadata.STATUS_TAG: text}, {metadata.STATUS_TAG: said[metadata.STATUS_TAG]}
        )


def _shorten(header: Array, what: Content, outputs: set[str]) -> tuple[Array, bytes] | None:
    """Return a header without what has no name, and the metadata of the rest.

    A data provider tells the metadata of a series once, those of its first
    batch. Where a later header has more or fewer metrics, it is known which
    numbers stand around them, but not which they are.

    Returns:
        None where the names are those of the header, or nothing is known.
    """
    fields, known = len(what.fields), len(metadata.HEADER_FIELDS)
    if header.ndim != 1 or header.dtype != np.float64 or len(header) in range(known) or len(header) == fields:
        return None
    if what.fields[:known] != metadata.HEADER_FIELDS:
        return None
    figures = [metadata.output_field(output, figure) for output in what.outputs for figure in metadata.OUTPUT_FIGURES]
    # They are the last, if the batch is of the outputs that the first one was of.
    last = set(what.fields[-len(figures) :]) == set(figures) and len(header) >= known + len(figures)
    figures = [*what.fields[-len(figures) :]] if last and outputs - {""} == set(what.outputs) else []
    values = np.concatenate([header[:known], header[len(header) - len(figures) :]])
    return values, metadata.header_content(what.phase, (*metadata.HEADER_FIELDS, *figures), what.outputs, what.run)


def _items(mapping: Any) -> Iterator[tuple[Any, Any]]:
    """Yield what a provider's answer holds, if it is a mapping.

    Raises:
        FormatError: It is none.
    """
    if not isinstance(mapping, Mapping):
        raise FormatError(f"A data provider must answer with a dict. Received: {type(mapping).__name__}.")
    yield from mapping.items()


def _take_series(series: Any, known: _Series | None) -> _Series | None:
    """Return what a provider lists if it is of ours and is read."""
    try:
        content, steps, until = series.plugin_content, series.max_step, series.max_wall_time
        steps, until = operator.index(steps or 0) + 1, float(until or 0)
    except (AttributeError, TypeError, ValueError, OverflowError):
        return None
    if not isinstance(content, bytes) or not 0 < steps <= 2**62:
        return None
    if known is not None and known.content == content:
        return known._replace(steps=steps, until=until)
    try:
        what = metadata.parse_content(content)
    except VersionError:
        # As it is: whoever reads the file refuses it, with both versions.
        what = Content(version=metadata.FORMAT_VERSION + 1, kind="header")
    except FormatError:
        return None
    return _Series(content, what, steps, until) if what.kind in _RANKS else None


def _take_datum(item: Any) -> _Datum | None:
    try:
        step, wall_time, array = operator.index(item.step), float(item.wall_time), item.numpy
    except (AttributeError, TypeError, ValueError, OverflowError):
        return None
    if not isinstance(array, np.ndarray) or not 0 <= step < 2**62 or not math.isfinite(wall_time):
        return None
    if array.ndim > encode.MAX_RANK:
        return None
    if array.dtype.kind in "OSU":
        if not all(isinstance(text, (bytes, str)) for text in array.flat):
            return None
        return _Datum(step, wall_time, array, _DATUM_BYTES + sum(32 + len(text) for text in array.flat))
    try:
        array = encode.storable(array, "array")
    except ArgumentError:
        return None
    return _Datum(step, wall_time, array, _DATUM_BYTES + array.nbytes)


def _content(series: _Series) -> bytes:
    """Return the content of a tag; workers are no longer told apart."""
    what = series.what
    if what.workers == 1:
        return series.content
    if what.kind == "header":
        return metadata.header_content(what.phase, what.fields, what.outputs, what.run)
    return metadata.status_content() if what.kind == "status" else series.content


def _odd() -> str:
    return "Arrays of the data provider that are not as the format has them are left out."


def _too_much() -> str:
    return (
        f"Series of the data provider that were not read, or not whole: a run may take {MAX_RUN_BYTES >> 20} MB "
        f"of memory, and all {MAX_BYTES >> 20} MB of disk."
    )


def _headless() -> str:
    return "Arrays and summaries of batches whose header the data provider did not keep are left out."


def _nameless() -> str:
    return "Metrics of batches that have others than the first one: a data provider does not tell their names."


def _twice(workers: int) -> str:
    if workers > 1:
        return "A data provider does not tell workers apart: of each batch one worker's share is shown."
    return "Batches that were recorded twice: the later one counts."
