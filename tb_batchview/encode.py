"""Batch records to event bytes: pure, no files.

Called by the writer and what it calls; `decode` is the way back. Values are
joined from constant prefixes and the arrays' own memory, so that a batch costs
one copy of its bytes.
"""

from __future__ import annotations

import dataclasses
import math
import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2

from tb_batchview import metadata, tasks
from tb_batchview.errors import ArgumentError
from tb_batchview.metadata import Payload
from tb_batchview.records import Array, BatchRecord, GradientSummary, LayerSummary, OutputRecord, OutputSpec

# Phase, output or layer (of inputs, their form), and kind of a value; its tag, and the content of its metadata.
_Key = tuple[str, str, str]
_Name = tuple[str, bytes]

_DTYPE_NUMBERS = {dtype: number for number, dtype in metadata.DTYPES.items()}

_DOUBLE = struct.Struct("<d")
# Wall time, and the key of what follows.
_HEAD = struct.Struct("<BdB")
_NO_FIGURES = (math.nan, math.nan)

# An array of so many bytes is not copied to stand in one piece with the rest.
LARGE_BYTES = 1 << 16
# Shapes differ from batch to batch in ragged data: the cache must end somewhere.
_MAX_PREFIXES = 4096
_MAX_LAYOUTS = 256


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


def encode_file_version(wall_time: float) -> bytes:
    """Return the event that every event file begins with."""
    return event_pb2.Event(wall_time=wall_time, file_version="brain.Event:2").SerializeToString()


def encode_arrays(step: int, wall_time: float, arrays: Mapping[str, Array], contents: Mapping[str, bytes]) -> bytes:
    """Return an event of arrays by tag, as they come from elsewhere.

    Args:
        step: Of the event.
        wall_time: Of the event.
        arrays: Storable ones, or strings, in the order to write.
        contents: Of the metadata of those tags where it is to be said.
    """
    values = []
    for tag, array in arrays.items():
        if array.dtype in _DTYPE_NUMBERS:
            tensor = tensor_pb2.TensorProto(
                dtype=_DTYPE_NUMBERS[array.dtype], tensor_shape=_shape(array), tensor_content=array.tobytes()
            )
            value = summary_pb2.Summary.Value(tag=tag, tensor=tensor)
        else:
            value = summary_pb2.Summary.Value.FromString(_string_value(tag, array))
        if tag in contents:
            value.metadata.CopyFrom(metadata.summary_metadata(contents[tag]))
        values.append(value)
    summary = summary_pb2.Summary(value=values)
    return event_pb2.Event(wall_time=wall_time, step=step, summary=summary).SerializeToString()


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
