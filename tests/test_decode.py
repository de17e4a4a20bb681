"""Event bytes of other writers, and garbage: read as protobuf does, or refused."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from recorded import SPECS, assert_same, make_record, read_arrays
from strategies import Drawn, batch_records, settings
from tensorboard.compat.proto import event_pb2, tensor_pb2

from tb_batchview import decode, encode
from tb_batchview.decode import decode_event, slot_array
from tb_batchview.encode import EventEncoder
from tb_batchview.errors import FormatError


def test_reading_is_a_view_that_cannot_be_written():
    payload = EventEncoder({}).encode(make_record(0), SPECS)
    array = read_arrays(payload)["train/outputs/scores/predictions"]
    assert np.shares_memory(array, np.frombuffer(payload, np.uint8))
    for source in (payload, bytearray(payload), memoryview(bytearray(payload))):
        with pytest.raises(ValueError, match="read-only"):
            read_arrays(source)["train/outputs/scores/predictions"][0] = 1


@settings(max_examples=100)
@given(batch_records())
def test_step_and_first_tag_are_peeked_at(drawn: Drawn):
    record, specs = drawn
    payload = EventEncoder({}).encode(record, specs)
    assert decode.peek_event(payload[:100]) == (record.step, f"{record.phase}/header")


# Event.summary, Summary.value, Value.tensor and Value.metadata are messages, by level.
NESTED = {(0, 5), (1, 1), (2, 8), (2, 9)}


def in_any_order(message: bytes, draw: st.DrawFn, level: int = 0) -> bytes:
    """Write the fields of a message in another order, at every level."""
    fields: list[tuple[int, bytes]] = []
    for field, kind, first, last in decode._fields(message, 0, len(message)):
        body = encode._varint(first) if kind == 0 else message[first:last]
        if (level, field) in NESTED:
            body = in_any_order(body, draw, level + 1)
        length = encode._varint(len(body)) if kind == 2 else b""
        fields.append((field, bytes([field << 3 | kind]) + length + body))
    # Repeated fields keep their order among themselves.
    waiting = {number: iter([body for field, body in fields if field == number]) for number, _ in fields}
    return b"".join(next(waiting[number]) for number, _ in draw(st.permutations(fields)))


@settings(max_examples=150)
@given(batch_records(), st.data())
def test_fields_are_found_in_any_order(drawn: Drawn, data: st.DataObject):
    record, specs = drawn
    payload = EventEncoder({}).encode(record, specs)
    mixed = in_any_order(payload, data.draw)
    assert event_pb2.Event.FromString(mixed) == event_pb2.Event.FromString(payload)
    expected, found = read_arrays(payload), read_arrays(mixed)
    assert list(found) == list(expected)
    for tag, array in expected.items():
        assert_same(found[tag], array)


def test_values_that_are_no_tensors_are_skipped():
    event = event_pb2.Event(step=3)
    event.summary.value.add(tag="loss", simple_value=0.5)
    event.summary.value.add(
        tag="kept", tensor={"dtype": "DT_INT8", "tensor_shape": {"dim": [{"size": 2}]}, "tensor_content": b"ab"}
    )
    assert [slot.tag for slot in decode_event(event.SerializeToString()).slots] == ["kept"]


def test_metadata_of_another_plugin_is_not_ours():
    event = event_pb2.Event()
    value = event.summary.value.add(tag="x", tensor={"dtype": "DT_INT8", "tensor_content": b"a"})
    value.metadata.plugin_data.plugin_name = "scalars"
    value.metadata.plugin_data.content = b"theirs"
    (slot,) = decode_event(event.SerializeToString()).slots
    assert (slot.plugin_name, slot.content, slot.shape) == ("scalars", None, ())


def tensor_event(**tensor: Any) -> bytes:
    event = event_pb2.Event()
    event.summary.value.add(tag="x", tensor=tensor_pb2.TensorProto(**tensor))
    return event.SerializeToString()


def shape(*sizes: int) -> dict:
    return {"dim": [{"size": size} for size in sizes]}


@pytest.mark.parametrize(
    "tensor",
    [
        {"dtype": "DT_FLOAT", "tensor_shape": shape(3), "tensor_content": b"1234"},
        {"dtype": "DT_FLOAT", "tensor_shape": shape(1), "float_val": [1.0]},
        {"dtype": "DT_FLOAT", "tensor_shape": shape(-1), "tensor_content": b""},
        {"dtype": "DT_FLOAT", "tensor_shape": shape(-1, -1), "tensor_content": b"1234"},
        {"dtype": "DT_INT8", "tensor_shape": shape(2**32, 2**32), "tensor_content": b""},
        {"dtype": "DT_INT8", "tensor_shape": shape(0, 2**62), "tensor_content": b""},
        {"dtype": "DT_INT8", "tensor_shape": shape(*[1] * 33), "tensor_content": b"1"},
        {"dtype": "DT_INT8", "tensor_shape": {"unknown_rank": True}, "tensor_content": b"1"},
        {"dtype": "DT_COMPLEX64", "tensor_shape": shape(1), "tensor_content": b"12345678"},
        {"dtype": "DT_BFLOAT16", "tensor_shape": shape(1), "tensor_content": b"12"},
        {"dtype": 4711, "tensor_shape": shape(1), "tensor_content": b"1"},
        {"tensor_shape": shape(1), "tensor_content": b"1"},
    ],
)
def test_tensors_that_do_not_hold_what_they_say_are_refused(tensor: dict[str, Any]):
    with pytest.raises(FormatError):
        decode_event(tensor_event(**tensor))


@pytest.mark.parametrize("count", [0, 1, 3, 2**50])
def test_strings_must_be_as_many_as_the_shape_says(count: int):
    payload = tensor_event(dtype="DT_STRING", tensor_shape=shape(count), string_val=[b"a", b"b"])
    (slot,) = decode_event(payload).slots
    with pytest.raises(FormatError, match="String tensor 'x'"):
        slot_array(payload, slot)


def nested(*levels: int, body: bytes = b"") -> bytes:
    for field in reversed(levels):
        body = bytes([field << 3 | 2]) + encode._varint(len(body)) + body
    return body


@pytest.mark.parametrize(
    "payload",
    [
        b"\x2a\xff\xff\xff\xff\x0f",
        b"\x2a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x10" + b"\xff" * 10,
        b"\x10" + b"\x80" * 10 + b"\x01",
        b"\x10" + b"\xff" * 9 + b"\x7f",
        b"\x10\xff",
        b"\x10" + b"\xff" * 9 + b"\x01",
        b"\x09\x00\x00",
        b"\x00\x00",
        b"\x0b\x0c",
        b"\x0f",
        b"\x08\x01",
        b"\x15\x00\x00\x00\x00",
        b"\x28\x01",
        nested(5, body=b"\x08\x01"),
        nested(5, 1, body=b"\x08\x01"),
        nested(5, 1, 1, body=b"\xff\xfe"),
        nested(5, 1, 1, body=b"a" * 70_000),
        nested(5, 1, body=nested(8) * 2),
        nested(5, 1, body=nested(9) * 2),
        nested(5, 1, 9, body=nested(1) * 2),
        nested(5, 1, 8, body=nested(2) * 2),
        nested(5, body=nested(1, body=nested(8, body=b"\x08\x06\x22\x01a")) * (decode.MAX_VALUES + 1)),
    ],
    ids=lambda payload: payload[:12].hex(),
)
def test_hostile_bytes_are_refused(payload: bytes):
    with pytest.raises(FormatError):
        decode_event(payload)


@settings(max_examples=300)
@given(st.binary(max_size=80))
@example(b"\x2a\x00")
def test_any_bytes_are_read_or_refused(payload: bytes):
    for function in (decode_event, decode.peek_event):
        with contextlib.suppress(FormatError):
            function(payload)


@settings(max_examples=300)
@given(batch_records(), st.data())
def test_damaged_events_are_read_or_refused(drawn: Drawn, data: st.DataObject):
    record, specs = drawn
    payload = bytearray(EventEncoder({}).encode(record, specs))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        arrays = read_arrays(bytes(payload))
    except FormatError:
        return
    assert all(array.nbytes <= max(len(payload), 64) or array.dtype == object for array in arrays.values())


@settings(max_examples=200)
@given(batch_records(), st.data())
def test_cut_events_are_never_read_as_another(drawn: Drawn, data: st.DataObject):
    record, specs = drawn
    payload = EventEncoder({}).encode(record, specs)
    cut = data.draw(st.integers(0, len(payload) - 1))
    try:
        decoded = decode_event(payload[:cut])
    except FormatError:
        return
    # Between fields of the event itself: it then has no values at all.
    assume(decoded.slots != ())
    pytest.fail("A cut event has values.")
