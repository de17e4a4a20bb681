"""Export to NumPy: one .npz, or a directory of .npy files to be mapped.

Called by `export`; calls `selection`. The shape of an array is known before
its first value is written, so that none is ever held in memory.
"""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from tb_batchview.export.selection import CLASSES, FIGURES, Progress, Selection, ignore
from tb_batchview.records import Array

BULK = ("targets", "predictions", "top_classes", "top_scores")
# Every id takes the room of the longest one.
MAX_LETTERS = 1024
# As few, and as large, pieces as are still small.
_PIECE_ROWS = 1 << 16

# Opens the place of an array by its name.
Opener = Callable[[str], contextlib.AbstractContextManager[BinaryIO]]


class Member(NamedTuple):
    """An array to be written.

    Attributes:
        name: By which it is loaded.
        pieces: Of the array, one after the other.
        passes: Whether it takes a walk through all batches.
    """

    name: str
    dtype: Any
    shape: tuple[int, ...]
    pieces: Iterable[Array]
    passes: bool


@contextlib.contextmanager
def open_zip(path: Path) -> Iterator[Opener]:
    """Open an .npz; not compressed, as `np.savez` writes it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:

        @contextlib.contextmanager
        def open_member(name: str) -> Iterator[BinaryIO]:
            # Its size is not known to zipfile beforehand: it may be past 2 GiB.
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                yield member  # type: ignore[misc]

        yield open_member


@contextlib.contextmanager
def open_directory(path: Path) -> Iterator[Opener]:
    """Open a directory of .npy files."""

    def open_member(name: str) -> contextlib.AbstractContextManager[BinaryIO]:
        file = path / f"{name}.npy"
        file.parent.mkdir(exist_ok=True)
        return file.open("wb")

    yield open_member


def write_arrays(
    selection: Selection, opener: Opener, info: Mapping[str, str], *, scores: bool, progress: Progress = ignore
) -> list[str]:
    """Write all arrays.

    Args:
        selection: After its survey.
        opener: Where they go.
        info: Written as texts.
        scores: Whether predictions and targets are written.
        progress: Told how far it is.

    Returns:
        A notice for each that is left out, or in pieces.
    """
    notices: list[str] = []
    members = [*_batch_members(selection, info), *_sample_members(selection, notices)]
    if scores:
        members += _bulk_members(selection, notices)
    walks = 1 + sum(member.passes for member in members)
    walk = 1
    for member in members:
        with opener(member.name) as file:
            np.lib.format.write_array_header_1_0(
                file,
                {
                    "descr": np.lib.format.dtype_to_descr(np.dtype(member.dtype)),
                    "fortran_order": False,
                    "shape": member.shape,
                },
            )
            for number, piece in enumerate(member.pieces):
                file.write(np.ascontiguousarray(piece, member.dtype).tobytes())
                if member.passes:
                    progress(walk * len(selection.rows) + number, walks * len(selection.rows))
        walk += member.passes
    progress(walks, walks)
    return notices


def _batch_members(selection: Selection, info: Mapping[str, str]) -> Iterator[Member]:
    """List what there is of batches, all in columns already."""
    rows, columns = selection.rows, selection.columns
    part = slice(rows.start, rows.stop)
    for name in ("step", "epoch", "index", "size", "wall_time"):
        array = getattr(columns, name)[part]
        yield Member(f"batch_{name}", array.dtype, array.shape, _cut(array), False)
    fields = selection.batch_fields()
    metrics = {name: field for name, field in fields.items() if name.startswith("metrics/")}
    for name, field in fields.items():
        if name not in metrics:
            yield Member(f"batch_{name}", np.float64, (len(rows),), _columns(selection, [field]), False)
    if metrics:
        # They may be called anything, and the names of arrays become those of files.
        pieces = _columns(selection, [*metrics.values()])
        yield Member("batch_metrics", np.float64, (len(rows), len(metrics)), pieces, False)
        yield _texts("metric_names", [name.removeprefix("metrics/") for name in metrics])
    if selection.names:
        yield _texts("class_names", selection.names)
    yield _texts("info", [f"{key}={value}" for key, value in info.items()])


def _sample_members(selection: Selection, notices: list[str]) -> Iterator[Member]:
    """List what has one value per sample."""
    shape = (selection.samples,)
    for name in ("step", "epoch", "index"):
        yield Member(name, np.int64, shape, _repeated(selection, name), True)
    yield Member("sample", np.int64, shape, _numbered(selection), True)
    for kind in FIGURES:
        found = selection.found.get(kind)
        if found is not None:
            # As docs/data-format.md has them; wider only if somebody else wrote wider ones.
            floats = np.float32 if found.dtype == np.float32 else np.float64
            dtype = np.dtype(np.int32 if kind in CLASSES else floats)
            yield Member(kind, dtype, shape, _filled(selection, kind, -1 if kind in CLASSES else np.nan, dtype), True)
    found = selection.found.get("sample_ids")
    if found is None:
        return
    if found.letters > MAX_LETTERS:
        notices.append(f"sample_ids are left out: one has {found.letters} letters, and every one would take that room.")
    elif found.whole and found.samples == selection.samples:
        yield Member("sample_ids", np.int64, shape, _ids(selection, np.dtype(np.int64)), True)
    else:
        # No number is written with more than 24 letters. Where there is no id, there is an empty one.
        dtype = np.dtype(f"<U{max(found.letters, 24 if found.numbers else 1)}")
        yield Member("sample_ids", dtype, shape, _ids(selection, dtype), True)


def _bulk_members(selection: Selection, notices: list[str]) -> Iterator[Member]:
    """List what has several values per sample."""
    for kind in BULK:
        found = selection.found.get(kind)
        if found is None:
            continue
        if found.text:
            notices.append(f"{kind} are left out: they are text.")
        elif found.dtype is not None and found.shape is not None and found.samples == selection.samples:
            shape = (selection.samples, *found.shape)
            yield Member(kind, found.dtype, shape, _pieces(selection, kind), True)
        else:
            notices.append(f"{kind} have no common shape: each batch has its own array, {kind}/<step>.")
            for row in selection.rows:
                if row not in selection.unreadable and (array := selection.read(row, kind)) is not None:
                    name = f"{kind}/{selection.columns.step[row]}"
                    yield Member(name, array.dtype, array.shape, [array], False)


def _cut(array: Array) -> Iterator[Array]:
    for first in range(0, len(array), _PIECE_ROWS):
        yield array[first : first + _PIECE_ROWS]


def _columns(selection: Selection, fields: list[str]) -> Iterator[Array]:
    """Yield some columns of the header as a matrix; NaN for none."""
    for first in range(selection.rows.start, selection.rows.stop, _PIECE_ROWS):
        stop = min(first + _PIECE_ROWS, selection.rows.stop)
        piece = np.full((stop - first, len(fields)), np.nan)
        for number, field in enumerate(fields):
            if field in selection.columns.fields:
                piece[:, number] = selection.columns.fields[field][first:stop]
        yield piece


def _texts(name: str, texts: Iterable[str]) -> Member:
    # Without pickles: np.load refuses these unless told otherwise.
    array = np.array(list(texts), np.str_)
    return Member(name, array.dtype, array.shape, [array], False)


def _repeated(selection: Selection, name: str) -> Iterator[Array]:
    column = getattr(selection.columns, name)
    for row in selection.rows:
        yield np.full(selection.count(row), column[row])


def _numbered(selection: Selection) -> Iterator[Array]:
    for row in selection.rows:
        yield np.arange(selection.count(row))


def _filled(selection: Selection, kind: str, fill: float, dtype: np.dtype[Any]) -> Iterator[Array]:
    for row in selection.rows:
        count = selection.count(row)
        array = selection.read(row, kind) if count else None
        yield np.full(count, fill, dtype) if array is None else array


def _pieces(selection: Selection, kind: str) -> Iterator[Array]:
    for row in selection.rows:
        if selection.count(row) and (array := selection.read(row, kind)) is not None:
            yield array


def _ids(selection: Selection, dtype: np.dtype[Any]) -> Iterator[Array]:
    for row in selection.rows:
        count = selection.count(row)
        ids = selection.read_ids(row) if count else None
        if ids is not None and ids.dtype == object:
            ids = np.array(["" if value is None else value for value in ids], object)
        yield np.zeros(count, dtype) if ids is None else ids.astype(dtype)
