"""Read what a sample was: a small picture or a text, and nothing else.

Called by `following`. A picture is passed on only if its first bytes and its size
are those of a PNG or JPEG that a writer may have made, whatever its file says.
Calls `places` for where the record is. A lookup reads at most 1 MiB at once,
and keeps nothing.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from tb_batchview import decode, tfrecord
from tb_batchview.errors import FormatError
from tb_batchview.places import Place, gone, open_place

Array = npt.NDArray[Any]
# A picture as its type and its bytes, or a text.
Input = tuple[str, bytes] | str

# Ours are a few kB, and 64 pixels at most.
MOST_BYTES = 1 << 20
MOST_PIXELS = 1024
_WHOLE_BYTES = 1 << 20

_PNG, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_JPEG, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"


def read_input(place: Place, row: int) -> Input | None:
    """Return what a sample was, if the record of its batch says so.

    Raises:
        FormatError: There is something else than a picture or a text.
        NotFoundError: The file was deleted, replaced or truncated.
    """
    for part in place.parts:
        slot, count = part.layout.inputs, _count(part)
        if row < count:
            return None if slot is None else _check(_read_string(part, slot, row), part.layout.form)
        row -= count
    return None


def count_inputs(place: Place) -> int:
    """Return how many samples a batch has, whose inputs may be recorded."""
    return sum(map(_count, place.parts))


def find_mime(content: bytes) -> str | None:
    """Tell by its bytes what kind of small picture it is, None for none."""
    kind, width, height = None, 0, 0
    if content.startswith(_PNG) and content[12:16] == b"IHDR" and content.endswith(_PNG_END):
        kind, width, height = "image/png", int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")
    elif content.startswith(_JPEG) and content.endswith(_JPEG_END):
        kind = "image/jpeg"
        height, width = _jpeg_size(content)
    return kind if 0 < width <= MOST_PIXELS and 0 < height <= MOST_PIXELS else None


def first_places(codes: Array, count: int) -> Array:
    """Return where each code is for the first time.

    Args:
        codes: Numbered in the order in which they first appear; -1 for none.
        count: How many there are.
    """
    highest = np.maximum.accumulate(codes) if len(codes) else codes
    places: Array = np.flatnonzero(np.diff(highest, prepend=-1) > 0)[:count]
    return places


class Inputs(Sequence[bytes | str | None]):
    """What the samples of a batch were, read when they are used.

    A picture is the bytes of a PNG or JPEG, a text is a str; None where
    nothing is recorded.
    """

    def __init__(self, size: int, read: Callable[[int], Input | None]) -> None:
        """Use `Batch.inputs` instead."""
        self._size = size
        self._read = read

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, number: int) -> bytes | str | None: ...

    @overload
    def __getitem__(self, number: slice) -> list[bytes | str | None]: ...

    def __getitem__(self, number: int | slice) -> Any:
        if isinstance(number, slice):
            return [self[row] for row in range(self._size)[number]]
        found = self._read(range(self._size)[number])
        return found[1] if isinstance(found, tuple) else found

    def __iter__(self) -> Iterator[bytes | str | None]:
        return (self[row] for row in range(self._size))

    def __repr__(self) -> str:
        return f"Inputs({self._size})"


def _count(part: Place) -> int:
    slot = part.layout.inputs
    return max(part.layout.samples.values(), default=0 if slot is None else slot.shape[0])


def _read_string(place: Place, slot: decode.Slot, row: int) -> bytes:
    if row >= slot.shape[0]:
        raise FormatError(f"Inputs of a batch must be one per sample. Received: {slot.shape[0]}.")
    with open_place(place) as fd:
        payload: decode.Walkable
        if slot.nbytes <= _WHOLE_BYTES:
            first = slot.offset
            payload = os.pread(fd, slot.nbytes, place.position + first)
            if len(payload) < slot.nbytes:
                raise gone(place)
        else:
            first = 0
            frame = tfrecord.Frame(place.position - tfrecord.HEADER_BYTES, place.position, place.length, "ok")
            payload = tfrecord.LongPayload(fd, frame)
        start, stop = decode.find_string(payload, dataclasses.replace(slot, offset=slot.offset - first), row)
        if stop - start > MOST_BYTES:
            raise FormatError(f"An input must have at most {MOST_BYTES} bytes. Received: {stop - start} bytes.")
        return bytes(payload[start:stop])


def _check(content: bytes, form: str) -> Input | None:
    if not content:
        return None
    if form == "text":
        return content.decode("utf-8", "backslashreplace")
    mime = find_mime(content) if form == "image" else None
    if mime is None:
        raise FormatError(f"An input must be a PNG or JPEG of at most {MOST_PIXELS} pixels a side, or a text.")
    return mime, content


def _jpeg_size(content: bytes) -> tuple[int, int]:
    """Return height and width of a JPEG, zeros if its frame is not found."""
    position = 2
    while position + 9 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        # The start of a frame, of any kind; what stands among them are tables.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            sizes = content[position + 5 : position + 9]
            return int.from_bytes(sizes[:2], "big"), int.from_bytes(sizes[2:], "big")
        position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return 0, 0
