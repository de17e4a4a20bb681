"""What the record of a batch holds, and where: worked out once for each form.

Called by `index`, which asks a `KnownLayout` before it walks through a record,
by `blocks`, which asks for many records at once, and by all that read arrays.
"""

from __future__ import annotations

import dataclasses
import os
import struct
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from tb_batchview import decode, metadata, tfrecord
from tb_batchview.errors import FormatError
from tb_batchview.metadata import Content

# Layouts a run may keep for its batches; past this they are walked again when read.
MAX_LAYOUTS = 1024
# Records up to this length are read whole: one read costs less than several.
_WHOLE_BYTES = 1 << 16
# What stands before the bulk of a batch is read at once: a million samples take 28 MB.
MAX_FRONT_BYTES = 1 << 27
# Between the values of one record stand names and metadata; what has more is not remembered.
MAX_CONSTANT_BYTES = 1 << 20

# Figures that are held for every batch, and their names.
SUMMARIES = {"layer_summary": metadata.LAYER_FIGURES, "gradient_summary": metadata.GRADIENT_FIGURES}

# Where the step of an event begins, as a varint: after the wall time and its own tag.
STEP_START = 10

_DOUBLE = struct.Struct("<d")


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """Where the values are in every record of one form.

    Attributes:
        phase: Of the batches.
        content: The header's metadata.
        header: The numbers of the batch, float64.
        arrays: By output and kind.
        layers: Figures of layers and of gradients, by layer and kind.
        samples: Number of samples by output, where there are any.
        inputs: What the samples were: strings; None where there is nothing.
        form: Of the inputs, of `metadata.INPUT_FORMS`.
    """

    phase: str
    content: Content
    header: decode.Slot
    arrays: Mapping[tuple[str, str], decode.Slot]
    layers: Mapping[tuple[str, str], decode.Slot]
    samples: Mapping[str, int]
    inputs: decode.Slot | None = None
    form: str = ""

    @property
    def front_stop(self) -> int:
        """Return where what is not bulk ends."""
        front = [slot for (_, kind), slot in self.arrays.items() if kind in metadata.FRONT_KINDS]
        return max(slot.offset + slot.nbytes for slot in [self.header, *front])


class Entry(NamedTuple):
    """One complete batch in a file.

    Attributes:
        layout: Where its values are, counted from `position`.
        file: Number of the file in `RunIndex.files`.
        position: Of the payload in the file.
        length: Of the payload, bytes.
        front: The payload's first bytes, at least up to its bulk.
        summaries: The raw figures by layer and kind, of `SUMMARIES`.
    """

    layout: Layout
    file: int
    position: int
    length: int
    step: int
    wall_time: float
    front: bytes
    summaries: Mapping[tuple[str, str], bytes]


@dataclasses.dataclass(frozen=True, eq=False)
class KnownLayout:
    """A layout with the bytes that must stand between its values.

    Attributes:
        layout: Of the records.
        step_stop: Where the step ends.
        read_ahead: Bytes of a record to read, at least up to its bulk.
        near: What stands where (start, stop, bytes) within these bytes.
        far: The same in the rest of the record.
        summaries: Layer and kind, offset and bytes of each of `SUMMARIES`.
    """

    layout: Layout
    step_stop: int
    read_ahead: int
    near: tuple[tuple[int, int, bytes], ...]
    far: tuple[tuple[int, int, bytes], ...]
    summaries: tuple[tuple[tuple[str, str], int, int], ...]

    @classmethod
    def of(cls, layout: Layout, event: decode.DecodedEvent, payload: decode.Walkable) -> KnownLayout | None:
        """Remember a record; None if its step is not in its usual place.

        None, too, if much stands between its values.
        """
        # Event.wall_time (field 1, double) then Event.step (field 2, varint).
        if len(payload) < 11 or payload[0] != 0x09 or payload[9] != 0x10:
            return None
        step_stop = STEP_START
        while payload[step_stop] & 0x80:
            step_stop += 1
        step_stop += 1
        spans, begin = [(0, 1), (9, 10)], step_stop
        for slot in sorted(event.slots, key=lambda slot: slot.offset):
            spans.append((begin, slot.offset))
            begin = slot.offset + slot.nbytes
        spans.append((begin, len(payload)))
        if sum(stop - start for start, stop in spans if stop > start) > MAX_CONSTANT_BYTES:
            return None
        constants = [(start, stop, bytes(payload[start:stop])) for start, stop in spans if stop > start]
        read_ahead = len(payload) if len(payload) <= _WHOLE_BYTES else layout.front_stop
        return cls(
            layout=layout,
            step_stop=step_stop,
            read_ahead=read_ahead,
            near=tuple(item for item in constants if item[1] <= read_ahead),
            far=tuple(item for item in constants if item[1] > read_ahead),
            summaries=tuple(
                (key, slot.offset, slot.nbytes) for key, slot in layout.layers.items() if key[1] in SUMMARIES
            ),
        )

    def match(self, fd: int, frame: tfrecord.Frame, front: bytes, file: int) -> Entry | None:
        """Return the entry of a record if it is of this layout."""
        position = frame.payload_position
        if len(front) < self.read_ahead:
            return None
        for start, stop, constant in self.near:
            if front[start:stop] != constant:
                return None
        if any(os.pread(fd, stop - start, position + start) != constant for start, stop, constant in self.far):
            return None
        step, stop = _read_varint(front, STEP_START)
        if stop != self.step_stop or step >= 2**63:
            return None
        return Entry(
            layout=self.layout,
            file=file,
            position=position,
            length=frame.length,
            step=step,
            wall_time=_DOUBLE.unpack_from(front, 1)[0],
            front=front,
            summaries={
                key: front[start : start + count]
                if start + count <= len(front)
                else os.pread(fd, count, position + start)
                for key, start, count in self.summaries
            },
        )


def make_layout(event: decode.DecodedEvent, contents: Mapping[str, Content]) -> Layout | None:
    """Sort the values of an event by what they are.

    Returns:
        None if the event holds no value of ours.

    Raises:
        FormatError: It is not a batch as docs/data-format.md says.
    """
    header: decode.Slot | None = None
    arrays: dict[tuple[str, str], decode.Slot] = {}
    layers: dict[tuple[str, str], decode.Slot] = {}
    samples: dict[str, int] = {}
    inputs: decode.Slot | None = None
    content = None
    form = ""
    nameless = False
    for slot in event.slots:
        what = contents.get(slot.tag)
        if what is None:
            # After its first record a value need not say whose it is.
            nameless = nameless or slot.plugin_name in ("", metadata.PLUGIN_NAME)
            continue
        if what.kind == "header":
            header, content = slot, what
        elif what.kind == metadata.INPUTS_KIND:
            inputs, form = slot, what.form
        elif what.kind in metadata.LAYER_KINDS or what.kind in metadata.GRADIENT_KINDS:
            _check(slot, 1, "layer figure")
            layers[what.layer, what.kind] = slot
        elif what.kind in metadata.FRONT_KINDS or what.kind in metadata.BULK_KINDS:
            _check(slot, None if what.kind in metadata.BULK_KINDS else 1, what.kind)
            arrays[what.output, what.kind] = slot
            if samples.setdefault(what.output, slot.shape[0]) != slot.shape[0]:
                raise FormatError(f"Arrays of a batch must have the same number of samples. Received: {slot.tag!r}.")
    if header is None or content is None:
        if arrays or layers or nameless or inputs is not None:
            raise FormatError("A batch must have a header whose metadata was sent before it.")
        return None
    if header.dtype != np.float64 or header.shape != (len(content.fields),):
        raise FormatError(f"The header of a batch must be float64 and as long as its fields. Received: {header.shape}.")
    for (_, kind), slot in layers.items():
        names = SUMMARIES.get(kind)
        if names is not None and (slot.shape != (len(names),) or slot.dtype != np.float32):
            raise FormatError(f"A {kind.replace('_', ' ')} must be {len(names)} float32.")
    # Each string takes two bytes at least.
    if inputs is not None and (
        inputs.dtype is not None
        or len(inputs.shape) != 1
        or inputs.shape[0] * 2 > inputs.nbytes
        or any(count != inputs.shape[0] for count in samples.values())
    ):
        raise FormatError(f"Inputs of a batch must be strings, one per sample. Received: shape={inputs.shape}.")
    layout = Layout(content.phase, content, header, arrays, layers, samples, inputs, form)
    if layout.front_stop > MAX_FRONT_BYTES:
        raise FormatError(
            f"What stands before the bulk of a batch must end within {MAX_FRONT_BYTES} bytes. "
            f"Received: {layout.front_stop} bytes."
        )
    return layout


def _check(slot: decode.Slot, rank: int | None, thing: str) -> None:
    """Refuse an array of a shape or type that the kind cannot have."""
    if not slot.shape or (rank is not None and len(slot.shape) != rank):
        raise FormatError(f"The {thing} of a batch must have one row per sample. Received: shape={slot.shape}.")
    if thing in ("target", "predicted"):
        if slot.dtype is None or slot.dtype.kind not in "iu":
            raise FormatError(f"The {thing} of a batch must be integers. Received: dtype={slot.dtype}.")
    elif slot.dtype is None and thing not in ("sample_ids", *metadata.BULK_KINDS):
        raise FormatError(f"The {thing} of a batch must be numbers. Received: strings.")


def _read_varint(content: bytes, position: int) -> tuple[int, int]:
    """Return a protobuf varint and where it ends; it has at most 10 bytes."""
    value = 0
    for place, byte in enumerate(content[position : position + 10]):
        value |= (byte & 0x7F) << (7 * place)
        if not byte & 0x80:
            return value, position + place + 1
    return value, -1
