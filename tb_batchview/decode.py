"""Event bytes to slots, which say where the arrays are: pure, no files.

Called by the index and what reads records, and by the writer's look at files
of an earlier training; `encode` makes the bytes. A walk of our own over the
protobuf wire format: it skips the bulk without copying it, and takes nothing
in an untrusted file for granted.
"""

from __future__ import annotations

import dataclasses
import math
import struct
from collections.abc import Iterator
from typing import Any, Protocol, overload

import numpy as np
from tensorboard.compat.proto import types_pb2

from tb_batchview import metadata
from tb_batchview.errors import FormatError
from tb_batchview.metadata import Payload
from tb_batchview.records import Array

# Untrusted bytes: more than this is no event of ours.
MAX_VALUES = 1 << 16
MAX_RANK = 32
# Of the strings of one array, which are copied to be read.
MAX_STRINGS_BYTES = 1 << 26
_MAX_TEXT_BYTES = 1 << 16

_DOUBLE = struct.Struct("<d")
# Wire types.
_VARINT, _FIXED64, _LEN, _FIXED32 = 0, 1, 2, 5


class Walkable(Protocol):
    """A payload, or what reads one in parts: `tfrecord.LongPayload`."""

    def __len__(self) -> int: ...

    @overload
    def __getitem__(self, key: int, /) -> int: ...

    @overload
    def __getitem__(self, key: slice, /) -> bytes | memoryview: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Slot:
    """Where one value stands inside an event's payload.

    Attributes:
        tag: Of the value.
        dtype: Of its array; None for strings.
        shape: Of its array.
        offset: Of the array's first byte in the payload (for strings: of the
            first one's field).
        nbytes: Of the array.
        content: `plugin_data.content`, when this value carries our metadata.
        plugin_name: In its metadata, "" when it carries none.
    """

    tag: str
    dtype: np.dtype[Any] | None
    shape: tuple[int, ...]
    offset: int
    nbytes: int
    content: bytes | None = None
    plugin_name: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class DecodedEvent:
    """One event; `slots` are its values that are tensors, in order."""

    step: int
    wall_time: float
    slots: tuple[Slot, ...]


def decode_event(payload: Walkable) -> DecodedEvent:
    """Find the values of an event without touching the bulk.

    Takes what any protobuf writer produces, in any order. Values that are no
    tensors (another plugin's) are skipped.

    Args:
        payload: Of one record: anything at all.

    Raises:
        FormatError: It is no event, or a tensor does not hold what it says.
    """
    step, wall_time = 0, 0.0
    slots: list[Slot] = []
    for field, kind, start, stop in _fields(payload, 0, len(payload)):
        if field == 1:
            _expect(kind, _FIXED64, "wall_time")
            (wall_time,) = _DOUBLE.unpack(payload[start:stop])
        elif field == 2:
            _expect(kind, _VARINT, "step")
            step = _signed(start)
            if step < 0:
                raise FormatError(f"A step must be at least 0. Received: step={step}.")
        elif field == 5:
            _expect(kind, _LEN, "summary")
            _decode_summary(payload, start, stop, slots)
    return DecodedEvent(step, wall_time, tuple(slots))


def peek_event(front: Walkable) -> tuple[int, str]:
    """Return step and first tag from the first kilobytes of an event.

    Raises:
        FormatError: They are not to be found there.
    """
    step, position = 0, 0
    # Down the messages event, summary, value: their first fields suffice.
    for level in range(3):
        while True:
            key, position = _read_varint(front, position, len(front))
            field, kind = key >> 3, key & 7
            if kind == _FIXED64:
                position += 8
                continue
            number, position = _read_varint(front, position, len(front))
            if kind not in (_VARINT, _LEN):
                raise FormatError(f"A field must be of a wire type in use. Received: wire type {kind}.")
            if level == 0 and field == 2:
                step = _signed(number)
            if kind == _LEN and field == (5, 1, 1)[level]:
                break
            position += number if kind == _LEN else 0
    if position + number > len(front):
        raise FormatError("A tag must end inside its message.")
    return step, _text(front, position, position + number)


def slot_array(payload: Payload, slot: Slot) -> Array:
    """Return the array of a slot, read-only, a view into the payload.

    Strings are copied: an array of `str` objects.

    Raises:
        FormatError: There are fewer or more strings than the shape says.
    """
    if slot.dtype is None:
        return _strings(payload, slot)
    if not slot.nbytes:
        array = np.zeros(slot.shape, slot.dtype)
    else:
        count = slot.nbytes // slot.dtype.itemsize
        array = np.frombuffer(payload, slot.dtype, count, slot.offset).reshape(slot.shape)
    array.flags.writeable = False
    return array


def _strings(payload: Payload, slot: Slot) -> Array:
    count = math.prod(slot.shape)
    if slot.nbytes > MAX_STRINGS_BYTES:
        raise FormatError(f"Strings of a batch must have at most {MAX_STRINGS_BYTES} bytes. Received: {slot.nbytes}.")
    texts: list[str] = []
    for field, kind, start, stop in _fields(payload, slot.offset, slot.offset + slot.nbytes):
        if field != 8:
            continue
        _expect(kind, _LEN, "string_val")
        if len(texts) == count:
            raise FormatError(f"String tensor {slot.tag!r} of shape {slot.shape} must not have more strings.")
        texts.append(bytes(payload[start:stop]).decode("utf-8", "backslashreplace"))
    if len(texts) != count:
        raise FormatError(f"String tensor {slot.tag!r} of shape {slot.shape} has {len(texts)} strings.")
    array = np.empty(count, object)
    array[:] = texts
    array = array.reshape(slot.shape)
    array.flags.writeable = False
    return array


def find_string(payload: Walkable, slot: Slot, row: int) -> tuple[int, int]:
    """Return where a string of a slot begins and ends, without the others.

    Raises:
        FormatError: There is no such string.
    """
    count = 0
    for field, kind, start, stop in _fields(payload, slot.offset, slot.offset + slot.nbytes):
        if field == 8:
            _expect(kind, _LEN, "string_val")
            if count == row:
                return start, stop
            count += 1
    raise FormatError(f"String tensor {slot.tag!r} of shape {slot.shape} has {count} strings.")


def _decode_summary(payload: Walkable, start: int, stop: int, slots: list[Slot]) -> None:
    said = 0
    for field, kind, first, last in _fields(payload, start, stop):
        if field != 1:
            continue
        _expect(kind, _LEN, "value")
        slot = _decode_value(payload, first, last)
        if slot is not None:
            if len(slots) == MAX_VALUES:
                raise FormatError(f"An event must have at most {MAX_VALUES} values.")
            said += len(slot.tag) + len(slot.content or b"")
            if said > metadata.MAX_CONTENT_BYTES:
                raise FormatError(f"Names and metadata must have at most {metadata.MAX_CONTENT_BYTES} bytes in all.")
            slots.append(slot)


def _decode_value(payload: Walkable, start: int, stop: int) -> Slot | None:
    """Return the slot of a value, None when it is no tensor."""
    tag = ""
    tensor: tuple[int, int] | None = None
    plugin_name, content = "", None
    described = False
    for field, kind, first, last in _fields(payload, start, stop):
        if field == 1:
            _expect(kind, _LEN, "tag")
            tag = _text(payload, first, last)
        elif field == 8:
            _expect(kind, _LEN, "tensor")
            if tensor is not None:
                raise FormatError("A value must have one tensor.")
            tensor = (first, last)
        elif field == 9:
            _expect(kind, _LEN, "metadata")
            if described:
                raise FormatError("A value must have its metadata once.")
            described = True
            plugin_name, content = _decode_metadata(payload, first, last)
    if tensor is None:
        return None
    dtype, shape, offset, nbytes = _decode_tensor(payload, *tensor)
    ours = plugin_name == metadata.PLUGIN_NAME
    return Slot(tag, dtype, shape, offset, nbytes, content if ours else None, plugin_name)


def _decode_metadata(payload: Walkable, start: int, stop: int) -> tuple[str, bytes]:
    name, content = "", b""
    seen = False
    for field, kind, first, last in _fields(payload, start, stop):
        if field != 1:
            continue
        _expect(kind, _LEN, "plugin_data")
        if seen:
            raise FormatError("Metadata must have its plugin_data once.")
        seen = True
        for inner, inner_kind, begin, end in _fields(payload, first, last):
            if inner == 1:
                _expect(inner_kind, _LEN, "plugin_name")
                name = _text(payload, begin, end)
            elif inner == 2:
                _expect(inner_kind, _LEN, "content")
                if end - begin > metadata.MAX_CONTENT_BYTES:
                    raise FormatError(
                        f"Metadata must have at most {metadata.MAX_CONTENT_BYTES} bytes. Received: {end - begin} bytes."
                    )
                content = bytes(payload[begin:end])
    return name, content


def _decode_tensor(payload: Walkable, start: int, stop: int) -> tuple[np.dtype[Any] | None, tuple[int, ...], int, int]:
    """Return dtype, shape, offset and bytes of a tensor, all consistent."""
    number = 0
    shape: tuple[int, ...] | None = None
    content = (start, start)
    strings: tuple[int, int] | None = None
    position = start
    for field, kind, first, last in _fields(payload, start, stop):
        if field == 1:
            _expect(kind, _VARINT, "dtype")
            number = first
        elif field == 2:
            _expect(kind, _LEN, "tensor_shape")
            if shape is not None:
                raise FormatError("A tensor must have its shape once.")
            shape = _decode_shape(payload, first, last)
        elif field == 4:
            _expect(kind, _LEN, "tensor_content")
            content = (first, last)
        elif field == 8:
            # Thousands of them, each looked at when they are wanted. What
            # else there is (dtype and shape come first from most writers) is
            # read on.
            _expect(kind, _LEN, "string_val")
            strings = strings or (position, stop)
            if number == types_pb2.DT_STRING and shape is not None:
                break
        position = last
    shape = shape or ()
    if number == types_pb2.DT_STRING:
        first, last = strings or (start, start)
        return None, shape, first, last - first
    dtype = metadata.DTYPES.get(number)
    if dtype is None:
        raise FormatError(f"A tensor must be of integers, booleans, floats or strings. Received: dtype={number}.")
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes != content[1] - content[0]:
        raise FormatError(
            f"A tensor of shape {shape} and dtype {dtype} must have {nbytes} bytes. "
            f"Received: tensor_content of {content[1] - content[0]} bytes."
        )
    return dtype, shape, content[0], nbytes


def _decode_shape(payload: Walkable, start: int, stop: int) -> tuple[int, ...]:
    shape: list[int] = []
    for field, kind, first, last in _fields(payload, start, stop):
        if field == 2:
            _expect(kind, _LEN, "dim")
            size = 0
            for inner, inner_kind, begin, _ in _fields(payload, first, last):
                if inner == 1:
                    _expect(inner_kind, _VARINT, "size")
                    size = _signed(begin)
            if size < 0 or len(shape) == MAX_RANK:
                raise FormatError(
                    f"A shape must have at most {MAX_RANK} sizes from 0. Received: size={size} after {len(shape)}."
                )
            shape.append(size)
        elif field == 3 and first:
            raise FormatError("The rank of a tensor must be known.")
    # NumPy counts bytes in 63 bits, with sizes of zero left out.
    if math.prod(size for size in shape if size) >= 2**56:
        raise FormatError(f"A shape must be of fewer than 2**56 values. Received: shape={tuple(shape)}.")
    return tuple(shape)


def _fields(payload: Walkable, position: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield field number, wire type and range of each field of a message.

    For a varint the third is its value.
    """
    while position < stop:
        key, position = _read_varint(payload, position, stop)
        field, kind = key >> 3, key & 7
        if not 0 < field < 2**29:
            raise FormatError(f"A field's number must be from 1 to 2**29 - 1. Received: {field}.")
        if kind == _VARINT:
            number, position = _read_varint(payload, position, stop)
            yield field, kind, number, position
            continue
        if kind == _LEN:
            length, position = _read_varint(payload, position, stop)
        elif kind == _FIXED64:
            length = 8
        elif kind == _FIXED32:
            length = 4
        else:
            raise FormatError(f"A field must be of a wire type in use. Received: wire type {kind}.")
        end = position + length
        if end > stop:
            raise FormatError(f"A field must end inside its message. Received: {end - stop} bytes too many.")
        yield field, kind, position, end
        position = end


def _read_varint(payload: Walkable, position: int, stop: int) -> tuple[int, int]:
    """Return a number and where it ends."""
    number = 0
    for shift in range(0, 70, 7):
        if position >= stop:
            raise FormatError("A number must end inside its message.")
        byte = payload[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            if number >= 2**64:
                break
            return number, position
    raise FormatError("A number must be of at most 64 bits.")


def _signed(number: int) -> int:
    """Return a varint as the int64 it stands for."""
    return number - 2**64 if number >= 2**63 else number


def _expect(kind: int, expected: int, name: str) -> None:
    if kind != expected:
        raise FormatError(f"{name} must be of wire type {expected}. Received: wire type {kind}.")


def _text(payload: Walkable, start: int, stop: int) -> str:
    if stop - start > _MAX_TEXT_BYTES:
        raise FormatError(f"A name must have at most {_MAX_TEXT_BYTES} bytes. Received: {stop - start}.")
    try:
        return str(payload[start:stop], "utf-8")
    except UnicodeDecodeError as error:
        raise FormatError("A name must be UTF-8.") from error
