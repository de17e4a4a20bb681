"""Where the arrays of a batch are: in one file, or in those of its workers.

Made by `views`; used by `run`, `answers` and `export`. Calls `layouts` for what
a record holds and `decode` for an array of it. A batch that several workers
recorded is one place: its layout has the arrays of all, put together when they
are read.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tb_batchview import decode, index, tfrecord
from tb_batchview.errors import FormatError, NotFoundError
from tb_batchview.layouts import SUMMARIES, Layout, make_layout

Array = npt.NDArray[Any]

# What stands for values that are not there takes so much memory and no more:
# a few bytes in one file must not make a large array of those in another.
MAX_FILLED_BYTES = 1 << 28


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the record of a batch is."""

    path: Path
    identity: tuple[int, int]
    position: int
    length: int
    layout: Layout

    @property
    def parts(self) -> tuple[Place, ...]:
        """Return the records of the batch, one of each worker."""
        return (self,)


@dataclasses.dataclass(frozen=True)
class JoinedPlace(Place):
    """Where the records of the workers of a batch are.

    Attributes:
        shards: In the order of the workers; path, identity, position and
            length are those of the first.
    """

    shards: tuple[Place, ...]

    @property
    def parts(self) -> tuple[Place, ...]:
        """Return the records of the batch, one of each worker."""
        return self.shards


# How an array of a batch is read: as a view into a mapped file, or copied.
Reader = Callable[[Place, decode.Slot], Array]


@dataclasses.dataclass(frozen=True, slots=True)
class JoinedSlot(decode.Slot):
    """An array that is in the records of several workers.

    Attributes:
        pieces: Number of the part, its slot (None if it has no such array)
            and its rows.
    """

    pieces: tuple[tuple[int, decode.Slot | None, int], ...] = ()


def join_layouts(layouts: Sequence[Layout]) -> Layout:
    """Put the arrays of the workers of a batch one after the other.

    An output that any of them has, has the samples of all, so that the n-th
    sample is the same one in every array. What a worker does not have is NaN,
    -1 in integers, None among ids and texts. A layer is that of the first
    worker that has it.
    """
    counts = [max(layout.samples.values(), default=0) for layout in layouts]
    samples = {
        output: sum(counts) if any(layout.samples.get(output) for layout in layouts) else 0
        for output in dict.fromkeys(output for layout in layouts for output in layout.samples)
    }
    arrays: dict[tuple[str, str], decode.Slot] = {}
    for output, kind in dict.fromkeys(key for layout in layouts for key in layout.arrays):
        slots = [layout.arrays.get((output, kind)) for layout in layouts]
        rows = counts if samples[output] else [0] * len(counts)
        slot = _join_slots(kind, slots, rows)
        if slot is not None:
            arrays[output, kind] = slot
    return dataclasses.replace(layouts[0], arrays=arrays, layers=_pick_layers(layouts), samples=samples)


def _join_slots(kind: str, slots: Sequence[decode.Slot | None], rows: Sequence[int]) -> JoinedSlot | None:
    """Return the slot of an array in pieces; None where it is too large."""
    found = [slot for slot in slots if slot is not None]
    rank = max(len(slot.shape) for slot in found)
    shapes = {slot.shape[1:] + (1,) * (rank - len(slot.shape)) for slot in found}
    shape = tuple(max(sizes) for sizes in zip(*shapes, strict=True))
    pieces = tuple((part, slots[part], count) for part, count in enumerate(rows) if count)
    filled = len(shapes) > 1 or any(slot is None or slot.shape[0] < count for _, slot, count in pieces)
    dtypes = [slot.dtype for slot in found if slot.dtype is not None]
    dtype = np.result_type(*dtypes) if len(dtypes) == len(found) else None
    if filled and dtype is not None and dtype.kind in "biu":
        # -1 must be of the type; as an id it could be one.
        dtype = None if kind == "sample_ids" else np.result_type(dtype, np.int8)
    nbytes = math.prod((sum(rows), *shape)) * (8 if dtype is None else dtype.itemsize)
    if filled and nbytes > MAX_FILLED_BYTES + sum(slot.nbytes for slot in found):
        return None
    return JoinedSlot(found[0].tag, dtype, (sum(rows), *shape), 0, nbytes, pieces=pieces)


def _pick_layers(layouts: Sequence[Layout]) -> Mapping[tuple[str, str], decode.Slot]:
    """Return the figures of each layer, of the first worker that has it."""
    lead: dict[tuple[str, str], int] = {}
    # The summary decides: without one a layer, or a gradient, is not listed.
    for first in (True, False):
        for part, layout in enumerate(layouts):
            for layer, kind in layout.layers:
                if (kind in SUMMARIES) == first:
                    lead.setdefault((layer, _what(kind)), part)
    return {
        (layer, kind): JoinedSlot(
            slot.tag, slot.dtype, slot.shape, 0, slot.nbytes, pieces=((part, slot, slot.shape[0]),)
        )
        for part, layout in enumerate(layouts)
        for (layer, kind), slot in layout.layers.items()
        if lead[layer, _what(kind)] == part
    }


def _what(kind: str) -> str:
    """Return what a figure is of: "layer" or "gradient"."""
    return kind.partition("_")[0]


def read_joined(place: Place, slot: JoinedSlot, read: Reader) -> Array:
    """Read an array of several workers.

    Returns:
        A copy, read-only; where only one has it, what `read` returns.
    """
    if len(slot.pieces) == 1:
        part, only, _ = slot.pieces[0]
        if only is not None and (only.shape, only.dtype) == (slot.shape, slot.dtype):
            return read(place.parts[part], only)
    dtype = np.dtype(object) if slot.dtype is None else slot.dtype
    # Unsigned ones and booleans are of arrays where nothing is missing.
    fill = {"O": None, "f": np.nan, "i": -1}.get(dtype.kind, 0)
    values = np.full(slot.shape, fill, dtype)
    start = 0
    for part, piece, rows in slot.pieces:
        if piece is not None:
            array = read(place.parts[part], piece)
            if slot.dtype is None and piece.dtype is not None:
                array = np.array([str(value) for value in array.flat], object).reshape(array.shape)
            array = array.reshape(array.shape + (1,) * (values.ndim - array.ndim))
            values[(slice(start, start + len(array)), *map(slice, array.shape[1:]))] = array
        start += rows
    values.flags.writeable = False
    return values


def read_array(place: Place, slot: decode.Slot) -> Array:
    """Read one array of a batch from its file.

    Returns:
        A copy, read-only.

    Raises:
        NotFoundError: The file was deleted, replaced or truncated.
        FormatError: The array is not what its record says.
    """
    if isinstance(slot, JoinedSlot):
        return read_joined(place, slot, read_array)
    if slot.dtype is None and slot.nbytes > decode.MAX_STRINGS_BYTES:
        return decode.slot_array(b"", slot)  # which says so
    with open_place(place) as fd:
        content = os.pread(fd, slot.nbytes, place.position + slot.offset)
    if len(content) < slot.nbytes:
        raise gone(place)
    return decode.slot_array(content, dataclasses.replace(slot, offset=0))


class open_place:
    """Open the file of a batch, if it is still the one that was indexed."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def __enter__(self) -> int:
        try:
            self._fd = tfrecord.open_file(self._place.path)
        except OSError as error:
            raise gone(self._place) from error
        found = os.fstat(self._fd)
        place = self._place
        if (found.st_dev, found.st_ino) != place.identity or found.st_size < place.position + place.length:
            os.close(self._fd)
            raise gone(place)
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def gone(place: Place) -> NotFoundError:
    """Return the error for a record that is no longer in its file."""
    return NotFoundError(
        f"{place.path.name} must still hold the batch that was found in it. "
        "The file was deleted, replaced or truncated. Refresh, and ask again."
    )


def walk_again(file: index.EventFile, position: int, length: int) -> Layout:
    """Return the layout of a record that was not remembered."""
    unknown: Any = None
    place = Place(file.path, file.identity, position, length, unknown)
    with open_place(place) as fd:
        payload = tfrecord.read_payload(fd, tfrecord.Frame(position - tfrecord.HEADER_BYTES, position, length, "ok"))
        layout = make_layout(decode.decode_event(payload), file.contents_at(position))
    if layout is None:
        raise FormatError(f"{file.path.name} no longer has a batch at byte {position}.")
    return layout
