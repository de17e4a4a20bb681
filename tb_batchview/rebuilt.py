"""Batches put together again of the series of a data provider, and their file.

Called by `provider`, which reads the series. Calls `encode` and `tfrecord`: what
has phase, step and wall time in common was one event, and is one again.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tb_batchview import encode, metadata, tfrecord
from tb_batchview.metadata import Content, Status
from tb_batchview.records import PHASES

Array = npt.NDArray[Any]
# Phase, step and wall time: the values of one event have all three in common.
_Key = tuple[str, int, float]


class Series(NamedTuple):
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


class Datum(NamedTuple):
    """One array of a series."""

    step: int
    wall_time: float
    array: Array
    nbytes: int


@dataclasses.dataclass
class Batches:
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
    def of(cls, series: Mapping[str, Series], data: Mapping[str, Sequence[Datum]], problems: Counter[str]) -> Batches:
        """Put together what has phase, step and wall time in common.

        Args:
            series: By tag.
            data: What was read of them, by tag; the header of a batch first.
            problems: How often each was met in reading.
        """
        problems = Counter(problems)
        newest: dict[str, dict[int, float]] = {}
        for tag in data:
            if series[tag].what.kind == "header":
                steps = newest.setdefault(series[tag].what.phase, {})
                for datum in data[tag]:
                    if steps.setdefault(datum.step, datum.wall_time) != datum.wall_time:
                        steps[datum.step] = max(steps[datum.step], datum.wall_time)
                        problems[_twice(series[tag].what.workers)] += 1
        found: dict[_Key, dict[str, Array]] = {}
        headless = set()
        for tag in data:
            what = series[tag].what
            steps = newest.get(what.phase, {})
            for datum in data[tag]:
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


class RunFile:
    """The event file of one run, as large as the provider lets it be.

    Attributes:
        directory: Which holds it, and nothing else.
        series: What it was made of.
        bytes: Its size.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.series: dict[str, Series] = {}
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

    @property
    def is_there(self) -> bool:
        """Tell whether nobody has removed it."""
        return self._path is None or self._path.exists()

    def is_part_of(self, batches: Batches) -> bool:
        """Tell whether nothing that is in the file is missing there."""
        return all(batches.events.get(key, {}).keys() >= tags for key, tags in self._events.items())

    def remove(self) -> None:
        """Remove it and its directory."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def put(self, batches: Batches) -> None:
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

    def _goes_on(self, batches: Batches) -> bool:
        """Tell whether all that is in the file still holds."""
        told = {(status.kind, status.message) for status in batches.statuses}
        return (
            all(batches.events.get(key, {}).keys() == tags for key, tags in self._events.items())
            and all(batches.contents.get(tag) == content for tag, content in self._contents.items())
            and told >= self._told.keys()
        )

    def _write(self, path: Path, batches: Batches) -> None:
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
    batches: Batches,
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


def _content(series: Series) -> bytes:
    """Return the content of a tag; workers are no longer told apart."""
    what = series.what
    if what.workers == 1:
        return series.content
    if what.kind == "header":
        return metadata.header_content(what.phase, what.fields, what.outputs, what.run)
    return metadata.status_content() if what.kind == "status" else series.content


def _headless() -> str:
    return "Arrays and summaries of batches whose header the data provider did not keep are left out."


def _nameless() -> str:
    return "Metrics of batches that have others than the first one: a data provider does not tell their names."


def _twice(workers: int) -> str:
    if workers > 1:
        return "A data provider does not tell workers apart: of each batch one worker's share is shown."
    return "Batches that were recorded twice: the later one counts."
