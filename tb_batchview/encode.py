"""Batch records to event bytes, and event bytes to slots: pure, no files.

The writer encodes, the index decodes. Values are joined from constant
prefixes and the arrays' own memory, so that a batch costs one copy of its
bytes. Decoding is a walk of our own over the protobuf wire format: it skips
the bulk without copying it, and takes nothing in an untrusted file for
granted.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol, overload

import numpy as np
import numpy.typing as npt
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2

from tb_batchview import metadata, tasks
from tb_batchview.errors import ArgumentError, FormatError
from tb_batchview.records import Array, BatchRecord, GradientSummary, LayerSummary, OutputRecord, OutputSpec

Payload = bytes | memoryview
# Phase, output or layer (of inputs, their form), and kind of a value; its tag, and the content of its metadata.
_Key = tuple[str, str, str]
_Name = tuple[str, bytes]

_DTYPES: dict[int, np.dtype[Any]] = {
    types_pb2.DT_FLOAT: np.dtype("<f4"),
    types_pb2.DT_DOUBLE: np.dtype("<f8"),
    types_pb2.DT_HALF: np.dtype("<f2"),
    types_pb2.DT_INT8: np.dtype("i1"),
    types_pb2.DT_INT16: np.dtype("<i2"),
    types_pb2.DT_INT32: np.dtype("<i4"),
    types_pb2.DT_INT64: np.dtype("<i8"),
    types_pb2.DT_UINT8: np.dtype("u1"),
    types_pb2.DT_UINT16: np.dtype("<u2"),
    types_pb2.DT_UINT32: np.dtype("<u4"),
    types_pb2.DT_UINT64: np.dtype("<u8"),
    types_pb2.DT_BOOL: np.dtype("?"),
}
_DTYPE_NUMBERS = {dtype: number for number, dtype in _DTYPES.items()}

# Untrusted bytes: more than this is no event of ours.
MAX_VALUES = 1 << 16
MAX_RANK = 32
# Of the strings of one array, which are copied to be read.
MAX_STRINGS_BYTES = 1 << 26
_MAX_TEXT_BYTES = 1 << 16

_DOUBLE = struct.Struct("<d")
# Wall time, and the key of what follows.
_HEAD = struct.Struct("<BdB")
_NO_FIGURES = (math.nan, math.nan)
# Wire types.
_VARINT, _FIXED64, _LEN, _FIXED32 = 0, 1, 2, 5


# --- writing ---------------------------------------------------------------


class EventEncoder:
    """Turns the batches of one file into events.

    What is said once in a file (metadata) is remembered, so that each file
    needs an encoder of its own.
    """

    def __init__(self, run: Mapping[str, str], worker: int = 0, workers: int = 1) -> None:
        """Begin a file.

        Args:
            run: What is constant about the run: model, versions.
            worker: Number of the process that writes it.
            workers: How many train together, each with a file of its own.
        """
        self._run = dict(run)
        self._worker, self._workers = worker, workers
        self._specs: dict[str, OutputSpec] = {}
        self._prefixes: dict[tuple[str, np.dtype[Any], tuple[int, ...]], _Prefix] = {}
        # Of events that say nothing new: as nearly all are.
        self._layouts: dict[tuple[Any, ...], _Layout] = {}
        self._said: dict[str, bytes] = {}
        self._names: dict[_Key, _Name] = {}
        self._headers: dict[tuple[str, ...], _Name] = {}

    def encode(self, record: BatchRecord, specs: Mapping[str, OutputSpec], top_k: int | None = None) -> bytes:
        """Return the event of a batch in one piece: see `encode_pieces`."""
        return b"".join(self.encode_pieces(record, specs, top_k))

    def encode_pieces(
        self, record: BatchRecord, specs: Mapping[str, OutputSpec], top_k: int | None = None
    ) -> list[Payload]:
        """Return the event of a batch, in pieces to be written one by one.

        Large arrays are pieces of their own, views and no copies: what they
        are of must not change before they are written.

        Args:
            record: The batch; its step must be known. Its inputs are as
                `thumbnails` makes them.
            specs: Of at least each output in the record.
            top_k: Keep only so many of each sample's scores, where the
                predictions are one row of class or label scores a sample.

        Raises:
            ArgumentError: An array is of a kind the format does not hold.
        """
        if record.step is None or not 0 <= record.step < 2**63:
            raise ArgumentError(f"step must be a number from 0 to 2**63 - 1. Received: step={record.step!r}.")
        self._use(specs)
        # Comprehensions and generators would take a third of the time of an event.
        derived: dict[str, dict[str, Array]] = {}
        for name, output in record.outputs.items():
            derived[name] = tasks.derive(specs[name], output)
        numbers = self._header(record, derived)
        keys: list[_Key] = []
        arrays: list[Array] = []
        kinds: list[Any] = [record.phase, *record.metrics]
        for key, array in _values(record, specs, derived, top_k):
            keys.append(key)
            arrays.append(array)
            kinds += key, array.dtype, array.shape, array.flags.c_contiguous
        form = tuple(kinds)
        layout = self._layouts.get(form)
        if layout is not None and record.step and record.wall_time:
            return layout.fill(record.wall_time, record.step, numbers, arrays)
        event = _Pieces()
        said: dict[str, bytes] = {}
        self._add_value(event, self._header_name(record), np.array(numbers, np.float64), said)
        for key, array in zip(keys, arrays, strict=True):
            self._add_value(event, self._name(key), array, said)
        # Only now: an event that could not be encoded has said nothing.
        if said:
            self._said.update(said)
            self._layouts.clear()
        elif event.is_plain:
            if len(self._layouts) > _MAX_LAYOUTS:
                self._layouts.clear()
            self._layouts[form] = event.layout(len(numbers))
        return event.join(record.wall_time, record.step)

    def encode_status(self, status: metadata.Status, *, step: int, wall_time: float) -> bytes:
        """Return the event of a status; `step` counts them in this file."""
        event = _Pieces()
        text = np.array([metadata.status_text(status)], object)
        content = metadata.status_content(self._worker, self._workers)
        self._add_value(event, (metadata.STATUS_TAG, content), text, self._said)
        return b"".join(event.join(wall_time, step))

    def _use(self, specs: Mapping[str, OutputSpec]) -> None:
        """Forget the header's metadata when it was made from other specs."""
        if self._specs != specs:
            self._specs = dict(specs)
            self._headers.clear()
            self._layouts.clear()

    def _header_name(self, record: BatchRecord) -> _Name:
        key = (record.phase, *record.metrics)
        name = self._headers.get(key)
        if name is None:
            fields = (
                *metadata.HEADER_FIELDS,
                *(metadata.metric_field(metric) for metric in record.metrics),
                *(
                    metadata.output_field(output, figure)
                    for output in self._specs
                    for figure in metadata.OUTPUT_FIGURES
                ),
            )
            content = metadata.header_content(record.phase, fields, self._specs, self._run, self._worker, self._workers)
            name = self._headers[key] = metadata.header_tag(record.phase), content
        return name

    def _name(self, key: _Key) -> _Name:
        name = self._names.get(key)
        if name is None:
            # Kinds of layers and gradients are none of outputs.
            if key[2] in metadata.LAYER_KINDS:
                name = metadata.layer_tag(*key), metadata.layer_content(*key)
            elif key[2] in metadata.GRADIENT_KINDS:
                name = metadata.gradient_tag(*key), metadata.layer_content(*key)
            elif key[2] == metadata.INPUTS_KIND:
                name = metadata.inputs_tag(key[0]), metadata.inputs_content(key[0], key[1])
            else:
                name = metadata.output_tag(*key), metadata.output_content(*key)
            self._names[key] = name
        return name

    def _header(self, record: BatchRecord, derived: Mapping[str, dict[str, Array]]) -> list[float]:
        """Return the numbers of the batch."""
        numbers = [record.epoch, record.index, record.size, record.loss, *record.metrics.values()]
        for name in self._specs:
            figures = derived.get(name)
            numbers += (tasks.error_rate(figures), tasks.mean_confidence(figures)) if figures else _NO_FIGURES
        return numbers

    def _add_value(self, event: _Pieces, name: _Name, array: Array, said: dict[str, bytes]) -> None:
        """Add a value to an event; with metadata if that is news."""
        tag, content = name
        suffix = b""
        if self._said.get(tag) != content and said.get(tag) != content:
            said[tag] = content
            suffix = summary_pb2.Summary.Value(metadata=metadata.summary_metadata(content)).SerializeToString()
        if array.dtype.kind in "USO":
            event.add(_string_value(tag, array), None, suffix)
            return
        held = storable(array, tag)
        key = (tag, held.dtype, held.shape)
        prefix = self._prefixes.get(key)
        if prefix is None:
            if len(self._prefixes) > _MAX_PREFIXES:
                self._prefixes.clear()
            bare = _value_prefix(tag, held)
            prefix = self._prefixes[key] = _Prefix(bare, b"\x0a" + _varint(len(bare) + held.nbytes) + bare)
        if suffix:
            event.add(prefix.bare, held, suffix)
            return
        event.add_framed(prefix.framed, held)
        # What was copied here must be copied in the next event, too.
        event.is_plain &= held is array and held.nbytes > 0


class _Prefix(NamedTuple):
    """What stands before an array's bytes, made once for each shape.

    Attributes:
        bare: Of the value.
        framed: The same after the field and the length of a value that has no
            metadata, as nearly all are.
    """

    bare: bytes
    framed: bytes


class _Layout(NamedTuple):
    """What is alike in events whose arrays have the same form.

    Attributes:
        pieces: Of an event, without its time, step, numbers and arrays.
        numbers: How the header's are packed.
        large: Where the large arrays are among the pieces.
    """

    pieces: list[Any]
    numbers: struct.Struct
    large: list[int]

    def fill(self, wall_time: float, step: int, numbers: list[float], arrays: list[Array]) -> list[Payload]:
        """Return the event of another batch, large arrays by themselves."""
        pieces = self.pieces.copy()
        pieces[0], pieces[1] = _HEAD.pack(9, wall_time, 16), _varint(step)
        pieces[3] = self.numbers.pack(*numbers)
        pieces[5::2] = arrays
        return _join(pieces, self.large)


class _Pieces:
    """The pieces of an event's values, the small ones to be joined.

    Attributes:
        pieces: Those of the head, which `join` fills in, and of the values.
        size: Bytes of the values.
        is_plain: Whether every value is a prefix and the bytes of the array
            that was given.
    """

    __slots__ = ("_large", "is_plain", "pieces", "size")

    def __init__(self) -> None:
        self.pieces: list[Any] = [b"\x09", b"", b"\x10", b"", b"\x2a", b""]
        self.size = 0
        self.is_plain = True
        # Where the large arrays are among them.
        self._large: list[int] = []

    def add(self, prefix: bytes, array: Array | None, suffix: bytes) -> None:
        """Add a value: what stands before its raw bytes, and after them."""
        size = len(prefix) + len(suffix)
        if array is not None:
            size += array.nbytes
        length = _varint(size)
        # An array of no bytes has no buffer that join() takes.
        bulk: Any = b"" if array is None or not array.nbytes else array
        if array is not None and array.nbytes >= LARGE_BYTES:
            self._large.append(len(self.pieces) + 3)
        self.pieces += (b"\x0a", length, prefix, bulk, suffix)
        self.size += 1 + len(length) + size
        self.is_plain = False

    def add_framed(self, framed: bytes, array: Array) -> None:
        """Add a value that the array's bytes end."""
        nbytes = array.nbytes
        if nbytes >= LARGE_BYTES:
            self._large.append(len(self.pieces) + 1)
        self.pieces += (framed, array if nbytes else b"")
        self.size += len(framed) + nbytes

    def join(self, wall_time: float, step: int) -> list[Payload]:
        """Return the event, large arrays by themselves."""
        pieces = self.pieces
        pieces[1], pieces[3], pieces[5] = _DOUBLE.pack(wall_time), _varint(step), _varint(self.size)
        # As protobuf does: zero is left out.
        if not step:
            pieces[2:4] = b"", b""
        if not any(pieces[1]):
            pieces[:2] = b"", b""
        return _join(pieces, self._large)

    def layout(self, numbers: int) -> _Layout:
        """Return what a plain event shares with others of as many numbers."""
        head = b"\x2a" + _varint(self.size) + self.pieces[6]
        # The fields of the head are six pieces here and three there.
        pieces = [b"", b"", head, *self.pieces[7:]]
        # No array is kept. The header's numbers, in the first place, are packed and no array.
        pieces[3::2] = [None] * len(pieces[3::2])
        large = [place - 4 for place in self._large if place > 7]
        return _Layout(pieces, struct.Struct(f"<{numbers}d"), large)


def _join(pieces: list[Any], large: list[int]) -> list[Payload]:
    """Return pieces in one, but large arrays by themselves."""
    if not large:
        return [b"".join(pieces)]
    joined: list[Payload] = []
    begin = 0
    for place in large:
        joined.append(b"".join(pieces[begin:place]))
        # Flat: the length of a view is that of its first dimension.
        joined.append(memoryview(pieces[place].reshape(-1)).cast("B"))
        begin = place + 1
    joined.append(b"".join(pieces[begin:]))
    return joined


# An array of so many bytes is not copied to stand in one piece with the rest.
LARGE_BYTES = 1 << 16
# Shapes differ from batch to batch in ragged data: the cache must end somewhere.
_MAX_PREFIXES = 4096
_MAX_LAYOUTS = 256


def encode_file_version(wall_time: float) -> bytes:
    """Return the event that every event file begins with."""
    return event_pb2.Event(wall_time=wall_time, file_version="brain.Event:2").SerializeToString()


def storable(array: Array, name: str) -> Array:
    """Return an array as the format holds it: little endian, contiguous.

    Raises:
        ArgumentError: The dtype has no place in the format.
    """
    if array.dtype in _DTYPE_NUMBERS and array.flags.c_contiguous:
        return array
    if array.dtype.name == "bfloat16" or array.dtype.name.startswith("float8"):
        array = array.astype(np.float32)
    little = array.dtype.newbyteorder("<")
    if little not in _DTYPE_NUMBERS:
        raise ArgumentError(
            f"{name} must be of integers, booleans or floats of at most 64 bits. Received: dtype={array.dtype}."
        )
    # Not ascontiguousarray, which turns () into (1,).
    return np.asarray(array, dtype=little, order="C")


def _values(
    record: BatchRecord, specs: Mapping[str, OutputSpec], derived: Mapping[str, Mapping[str, Array]], top_k: int | None
) -> list[tuple[_Key, Array]]:
    """Return the arrays of a batch, in the format's order."""
    phase = record.phase
    values: list[tuple[_Key, Array]] = []
    for name, output in record.outputs.items():
        # Of one value per sample.
        front = _front(output, derived[name])
        for kind in front and metadata.FRONT_KINDS:
            if kind in front:
                values.append(((phase, name, kind), front[kind]))
    for name, output in record.outputs.items():
        if output.targets is not None:
            values.append(((phase, name, "targets"), output.targets))
        predictions = output.predictions
        if predictions is None:
            continue
        if top_k and _has_scores(specs[name], predictions) and predictions.shape[1] > top_k:
            kept, classes = tasks.top_scores(predictions, top_k)
            values += [((phase, name, "top_scores"), kept), ((phase, name, "top_classes"), classes)]
        else:
            values.append(((phase, name, "predictions"), predictions))
    if record.inputs is not None:
        form = "text" if any(isinstance(value, str) for value in record.inputs) else "image"
        values.append(((phase, form, metadata.INPUTS_KIND), record.inputs))
    for layer, summary in record.layers.items():
        values += [((phase, layer, kind), array) for kind, array in _layer_arrays(summary)]
    for layer, gradient in record.gradients.items():
        values += [((phase, layer, kind), array) for kind, array in _gradient_arrays(gradient)]
    return values


def _front(output: OutputRecord, derived: Mapping[str, Array]) -> Mapping[str, Array]:
    """Return the arrays of one value per sample, by kind."""
    if output.sample_loss is output.sample_weight is output.sample_ids is None:
        return derived
    arrays: dict[str, Array] = dict(derived)
    if output.sample_loss is not None:
        arrays["sample_loss"] = _per_sample(output.sample_loss)
    if output.sample_weight is not None:
        arrays["sample_weight"] = _per_sample(output.sample_weight)
    if output.sample_ids is not None:
        arrays["sample_ids"] = sample_ids(output.sample_ids)
    return arrays


def _has_scores(spec: OutputSpec, predictions: Array) -> bool:
    """Tell whether there is one row of class or label scores a sample."""
    return spec.task in ("multiclass", "multilabel") and predictions.ndim == 2


def _layer_arrays(summary: LayerSummary) -> Iterator[tuple[str, Array]]:
    yield "layer_summary", _figures(summary, metadata.LAYER_FIGURES)
    yield "layer_histogram", np.asarray(summary.histogram, np.float32)
    for kind in ("unit_means", "unit_zeros", "unit_saturated"):
        values = getattr(summary, kind)
        if values is not None:
            yield f"layer_{kind}", np.asarray(values, np.float32)


def _gradient_arrays(summary: GradientSummary) -> Iterator[tuple[str, Array]]:
    yield "gradient_summary", _figures(summary, metadata.GRADIENT_FIGURES)
    yield "gradient_histogram", np.asarray(summary.histogram, np.float32)


def _figures(summary: LayerSummary | GradientSummary, names: tuple[str, ...]) -> Array:
    if summary.min > summary.max:
        # Of no finite value: a reduction's neutral elements.
        nan = math.nan
        summary = dataclasses.replace(summary, mean=nan, std=nan, min=nan, max=nan, zero_fraction=nan)
    with np.errstate(over="ignore"):
        return np.array([getattr(summary, name) for name in names], np.float64).astype(np.float32)


def _per_sample(values: Array) -> npt.NDArray[np.float32]:
    """Return one float a sample: the mean of several (tokens, pixels)."""
    values = np.asarray(values)
    with np.errstate(over="ignore", invalid="ignore"):
        if values.ndim > 1:
            values = values.reshape(len(values), math.prod(values.shape[1:]))
            # Not mean(): it warns when there is nothing to average.
            values = values.sum(axis=1, dtype=np.float64) / values.shape[1] if values.shape[1] else values.sum(axis=1)
        return values.astype(np.float32)


def sample_ids(ids: Array) -> Array:
    """Return ids as the format holds them: int64, or strings.

    Raises:
        ArgumentError: They are neither.
    """
    if ids.ndim == 2 and ids.shape[1] == 1:
        ids = ids[:, 0]
    if ids.ndim == 1:
        if ids.dtype.kind in "iu" and (ids.dtype != np.uint64 or not ids.size or int(ids.max()) < 2**63):
            return ids.astype(np.int64, copy=False)
        if ids.dtype.kind in "US" or (ids.dtype.kind == "O" and all(isinstance(i, (str, bytes)) for i in ids)):
            return ids
        if ids.dtype.kind == "T":
            return ids.astype(object)
    raise ArgumentError(
        "sample_ids must be integers below 2**63 or strings, one per sample. "
        f"Received: dtype={ids.dtype}, shape={ids.shape}."
    )


def _value_prefix(tag: str, array: Array) -> bytes:
    """Return a value up to the array's bytes, which end it.

    Made of real messages once; `tensor_content` is the last field of the
    tensor and the tensor the last of the value.
    """
    tensor = tensor_pb2.TensorProto(dtype=_DTYPE_NUMBERS[array.dtype], tensor_shape=_shape(array)).SerializeToString()
    if array.nbytes:
        tensor += b"\x22" + _varint(array.nbytes)
    return (
        summary_pb2.Summary.Value(tag=tag).SerializeToString() + b"\x42" + _varint(len(tensor) + array.nbytes) + tensor
    )


def _string_value(tag: str, array: Array) -> bytes:
    tensor = tensor_pb2.TensorProto(
        dtype=types_pb2.DT_STRING,
        tensor_shape=_shape(array),
        string_val=[s if isinstance(s, bytes) else str(s).encode("utf-8", "backslashreplace") for s in array.ravel()],
    )
    return summary_pb2.Summary.Value(tag=tag, tensor=tensor).SerializeToString()


def _shape(array: Array) -> tensor_shape_pb2.TensorShapeProto:
    return tensor_shape_pb2.TensorShapeProto(
        dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=size) for size in array.shape]
    )


def _varint(number: int) -> bytes:
    """Return a number as protobuf writes it."""
    if number < 0x80:
        return bytes((number,))
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


# Most values and events are as long as another one.
_length = functools.lru_cache(maxsize=4096)(_varint)


# --- reading ---------------------------------------------------------------


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
    dtype = _DTYPES.get(number)
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
