"""Event bytes against protobuf's and TensorFlow's own, and against garbage."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from typing import Any
from unittest import mock

import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from strategies import DTYPES, batch_records, settings
from tensorboard.compat.proto import event_pb2, tensor_pb2, types_pb2

from tb_batchview import encode, metadata
from tb_batchview.encode import EventEncoder, decode_event, slot_array
from tb_batchview.errors import ArgumentError, FormatError
from tb_batchview.records import BatchRecord, LayerSummary, OutputRecord, OutputSpec
from tb_batchview.tfrecord import frame, frame_pieces

SPEC = OutputSpec("multiclass", 3)
PLAIN = OutputSpec("regression", 0)

Drawn = tuple[BatchRecord, dict[str, OutputSpec]]


def batch(step: int = 0, outputs: Any = None, **changes: Any) -> BatchRecord:
    return BatchRecord(
        **{"phase": "train", "step": step, "epoch": 0, "index": step, "size": 2, "wall_time": 1.5, **changes},
        outputs=outputs or {},
    )


def event_of(array: np.ndarray, field: str = "predictions") -> bytes:
    return EventEncoder({}).encode(batch(outputs={"out": OutputRecord(**{field: array})}), {"out": PLAIN})


def read(payload: bytes) -> dict[str, np.ndarray]:
    return {slot.tag: slot_array(payload, slot) for slot in decode_event(payload).slots}


def assert_same(left: np.ndarray, right: np.ndarray) -> None:
    assert (left.dtype, left.shape) == (right.dtype, right.shape)
    np.testing.assert_array_equal(left, right)


def proto_array(tensor: tensor_pb2.TensorProto) -> np.ndarray:
    """Decode a tensor with protobuf's parser, apart from the code under test."""
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    if tensor.dtype == types_pb2.DT_STRING:
        texts = [text.decode("utf-8", "backslashreplace") for text in tensor.string_val]
        array = np.empty(len(texts), object)
        array[:] = texts
        return array.reshape(shape)
    name = types_pb2.DataType.Name(tensor.dtype).removeprefix("DT_").lower()
    dtype = {"float": "<f4", "double": "<f8", "half": "<f2"}.get(name, name)
    return np.frombuffer(tensor.tensor_content, dtype).reshape(shape)


@settings(max_examples=300)
@given(batch_records())
def test_protobuf_reads_the_same_event(drawn: Drawn):
    record, specs = drawn
    encoder = EventEncoder({"model": "m"})
    for again in (False, True):
        payload = encoder.encode(record, specs)
        proto = event_pb2.Event.FromString(payload)
        decoded = decode_event(payload)
        assert (proto.step, proto.wall_time) == (decoded.step, decoded.wall_time) == (record.step, record.wall_time)
        assert [value.tag for value in proto.summary.value] == [slot.tag for slot in decoded.slots]
        for value, slot in zip(proto.summary.value, decoded.slots, strict=True):
            assert_same(slot_array(payload, slot), proto_array(value.tensor))
            assert value.metadata.plugin_data.plugin_name == slot.plugin_name == ("" if again else "batchview")
            assert slot.content == (None if again else value.metadata.plugin_data.content)


@settings(max_examples=100)
@given(batch_records())
def test_bytes_are_those_of_protobuf(drawn: Drawn):
    record, specs = drawn
    payload = EventEncoder({}).encode(record, specs)
    assert event_pb2.Event.FromString(payload).SerializeToString(deterministic=True) == payload


@settings(max_examples=200)
@given(batch_records(), st.lists(st.integers(0, 2**63 - 1), min_size=2, max_size=4), st.sampled_from([1, 16, 1 << 16]))
def test_what_is_remembered_of_a_form_gives_the_bytes_of_protobuf(drawn: Drawn, steps: list[int], large: int):
    record, specs = drawn
    encoder = EventEncoder({})
    with mock.patch.object(encode, "LARGE_BYTES", large):
        for step in steps:
            again = dataclasses.replace(record, step=step)
            pieces = encoder.encode_pieces(again, specs)
            payload = b"".join(pieces)
            assert event_pb2.Event.FromString(payload).SerializeToString(deterministic=True) == payload
            assert b"".join(frame_pieces(pieces)) == frame(payload)
            # One that remembers no form, and has nothing left to say of itself.
            other = EventEncoder({})
            other._said.update(encoder._said)
            assert other.encode(again, specs) == encoder.encode(again, specs)


def test_large_arrays_are_not_copied():
    predictions = np.zeros((64, 1000), np.float32)
    encoder = EventEncoder({})
    for step in (0, 1):
        pieces = encoder.encode_pieces(batch(step, {"out": OutputRecord(predictions)}), {"out": PLAIN})
        shared = [np.shares_memory(np.frombuffer(piece, np.uint8), predictions) for piece in pieces if len(piece)]
        assert shared.count(True) == 1


def test_arrays_of_another_order_are_copied():
    predictions = np.asfortranarray(np.arange(128_000, dtype=np.float32).reshape(64, 2000))
    encoder = EventEncoder({})
    for array in (predictions, np.ascontiguousarray(predictions), predictions):
        payload = encoder.encode(batch(0, {"out": OutputRecord(array)}), {"out": PLAIN})
        assert_same(read(payload)["train/outputs/out/predictions"], predictions)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.dtype(">f4"), np.dtype(">i8")])
def test_arrays_of_another_type_are_converted_each_time(dtype: np.dtype):
    predictions = np.arange(12).reshape(4, 3).astype(dtype)
    encoder = EventEncoder({})
    for step in range(4):
        payload = encoder.encode(batch(step, {"out": OutputRecord(predictions)}), {"out": PLAIN})
        assert read(payload)["train/outputs/out/predictions"].tolist() == np.arange(12).reshape(4, 3).tolist()


@settings(max_examples=200)
@given(batch_records())
def test_arrays_are_kept_to_the_bit(drawn: Drawn):
    record, specs = drawn
    arrays = read(EventEncoder({}).encode(record, specs))
    for name, output in record.outputs.items():
        for kind in ("predictions", "targets", "sample_loss", "sample_weight"):
            given_array = getattr(output, kind)
            tag = metadata.output_tag(record.phase, name, kind)
            assert (tag in arrays) == (given_array is not None)
            if given_array is not None:
                assert arrays[tag].dtype == given_array.dtype.newbyteorder("<")
                assert arrays[tag].tobytes() == given_array.astype(given_array.dtype.newbyteorder("<")).tobytes()


@settings(max_examples=30)
@given(batch_records())
def test_tensorflow_reads_the_same_arrays(tmp_path_factory: pytest.TempPathFactory, drawn: Drawn):
    tf = pytest.importorskip("tensorflow")
    record, specs = drawn
    payload = EventEncoder({}).encode(record, specs)
    path = tmp_path_factory.mktemp("events") / "file"
    path.write_bytes(frame(payload))
    (read_back,) = tf.data.TFRecordDataset(str(path))
    event = tf.compat.v1.Event.FromString(read_back.numpy())
    assert event.step == record.step
    arrays = read(payload)
    assert [value.tag for value in event.summary.value] == list(arrays)
    for value in event.summary.value:
        theirs = tf.make_ndarray(value.tensor)
        if theirs.dtype == object:
            theirs = np.array([text.decode() for text in theirs.ravel()], object).reshape(theirs.shape)
        assert_same(arrays[value.tag], theirs)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_is_kept(dtype: Any):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    (kept,) = (array for tag, array in read(event_of(array)).items() if tag.endswith("/predictions"))
    assert kept.dtype == dtype.newbyteorder("<")
    np.testing.assert_array_equal(kept, array)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
def test_short_floats_are_widened(dtype: Any):
    array = np.array([[0.5, -2.0, 1.0]]).astype(dtype)
    assert_same(read(event_of(array))["train/outputs/out/predictions"], np.array([[0.5, -2.0, 1.0]], np.float32))


@pytest.mark.parametrize("dtype", [np.complex64, np.longdouble, "M8[s]", "V3", object])
def test_other_dtypes_are_refused_by_name(dtype: Any):
    with pytest.raises(ArgumentError, match=r"targets must be of .* Received: dtype="):
        encode.storable(np.zeros(2).astype(dtype) if dtype != "V3" else np.zeros(2, dtype), "targets")


def test_reading_is_a_view_that_cannot_be_written():
    payload = event_of(np.arange(6.0).reshape(2, 3))
    array = read(payload)["train/outputs/out/predictions"]
    assert np.shares_memory(array, np.frombuffer(payload, np.uint8))
    for source in (payload, bytearray(payload), memoryview(bytearray(payload))):
        with pytest.raises(ValueError, match="read-only"):
            read(source)["train/outputs/out/predictions"][0] = 1


def test_values_stand_in_the_order_of_the_document():
    scores = np.eye(3, dtype=np.float32)[:2]
    output = OutputRecord(scores, np.array([0, 2]), np.ones(2), np.ones(2), np.array([7, 8]))
    layer = LayerSummary(1, 2, 3, 4, 5, 6, 0, np.ones(4), np.ones(2))
    payload = EventEncoder({}).encode(
        batch(outputs={"a": output, "b": output}, layers={"d": layer}), {"a": SPEC, "b": SPEC}
    )
    front = ["target", "predicted", "confidence", "target_score", "sample_loss", "sample_weight", "sample_ids"]
    assert [slot.tag for slot in decode_event(payload).slots] == [
        "train/header",
        *(f"train/outputs/{name}/{kind}" for name in "ab" for kind in front),
        *(f"train/outputs/{name}/{kind}" for name in "ab" for kind in ("targets", "predictions")),
        *(f"train/layers/d/{kind}" for kind in ("summary", "histogram", "unit_means")),
    ]


def test_header_holds_numbers_of_the_batch_and_figures_of_the_outputs():
    scores = np.array([[0.5, 0.25, 0.25], [0.25, 0.75, 0.0]], np.float32)
    record = batch(3, {"out": OutputRecord(scores, np.array([0, 2]))}, loss=0.5, metrics={"acc": 0.25}, epoch=7)
    payload = EventEncoder({"model": "m"}).encode(record, {"out": SPEC})
    slot = decode_event(payload).slots[0]
    content = metadata.parse_content(slot.content)
    assert dict(zip(content.fields, slot_array(payload, slot).tolist(), strict=True)) == {
        "epoch": 7.0,
        "index": 3.0,
        "size": 2.0,
        "loss": 0.5,
        "metrics/acc": 0.25,
        "outputs/out/error_rate": 0.5,
        "outputs/out/confidence": 0.625,
    }
    assert (content.outputs, content.run) == ({"out": SPEC}, {"model": "m"})


def test_metadata_is_sent_once_and_again_when_it_changes():
    encoder = EventEncoder({})
    output = OutputRecord(np.eye(3, dtype=np.float32)[:2])
    said = []
    for record, spec in [
        (batch(0, {"out": output}), SPEC),
        (batch(1, {"out": output}), SPEC),
        (batch(2, {"out": output}, metrics={"acc": 1.0}), SPEC),
        (batch(3, {"out": output}, metrics={"acc": 1.0}), OutputSpec("multiclass", 3, None, ("a", "b", "c"))),
        (batch(4, {"out": output}, phase="validation"), SPEC),
        (batch(5), SPEC),
    ]:
        slots = decode_event(encoder.encode(record, {"out": spec})).slots
        said.append([slot.tag.rpartition("/")[2] for slot in slots if slot.content is not None])
    everything = ["header", "predicted", "confidence", "predictions"]
    assert said == [everything, [], ["header"], ["header"], everything, ["header"]]


def test_event_that_cannot_be_encoded_leaves_no_trace():
    encoder = EventEncoder({})
    with pytest.raises(ArgumentError):
        encoder.encode(
            batch(0, {"out": OutputRecord(targets=np.array([1j, 2j]))}), {"out": OutputSpec("regression", 0)}
        )
    assert decode_event(encoder.encode(batch(0), {})).slots[0].content is not None


def test_batch_without_arrays_has_only_its_header():
    (slot,) = decode_event(EventEncoder({}).encode(batch(), {"out": SPEC})).slots
    assert slot.tag == "train/header"
    assert "outputs/out/error_rate" in metadata.parse_content(slot.content).fields


def test_top_k_replaces_predictions():
    scores = np.array([[0.1, 0.2, 0.7], [0.5, 0.4, 0.1]], np.float64)
    payload = EventEncoder({}).encode(batch(outputs={"out": OutputRecord(scores)}), {"out": SPEC}, top_k=2)
    arrays = read(payload)
    assert "train/outputs/out/predictions" not in arrays
    assert_same(arrays["train/outputs/out/top_scores"], np.array([[0.7, 0.2], [0.5, 0.4]], np.float32))
    assert_same(arrays["train/outputs/out/top_classes"], np.array([[2, 1], [0, 1]], np.int32))
    assert_same(arrays["train/outputs/out/confidence"], np.array([0.7, 0.5], np.float32))


@pytest.mark.parametrize("top_k", [3, 100])
def test_top_k_of_all_classes_keeps_predictions(top_k: int):
    scores = np.eye(3, dtype=np.float32)
    arrays = read(EventEncoder({}).encode(batch(outputs={"out": OutputRecord(scores)}), {"out": SPEC}, top_k=top_k))
    assert_same(arrays["train/outputs/out/predictions"], scores)


def test_ids_are_strings_or_whole_numbers():
    texts = np.array(["a.png", "", "ü", "\ud800"], object)
    assert read(event_of(texts, "sample_ids"))["train/outputs/out/sample_ids"].tolist() == ["a.png", "", "ü", "\\ud800"]
    assert read(event_of(np.array([b"a", b"\xff"]), "sample_ids"))["train/outputs/out/sample_ids"].tolist() == [
        "a",
        "\\xff",
    ]
    numbers = np.array([[1], [2**40]], np.uint64)
    assert_same(read(event_of(numbers, "sample_ids"))["train/outputs/out/sample_ids"], np.array([1, 2**40]))


@pytest.mark.parametrize(
    "ids", [np.array([1.5]), np.array([2**63], np.uint64), np.zeros((2, 2), int), np.array([None])]
)
def test_other_ids_are_refused(ids: np.ndarray):
    with pytest.raises(ArgumentError, match=r"sample_ids must be integers below 2\*\*63 or strings"):
        encode.sample_ids(ids)


def test_several_losses_or_weights_of_a_sample_are_averaged():
    output = OutputRecord(sample_loss=np.array([[1, 3], [5, 7]]), sample_weight=np.array([[0.5], [0.25]]))
    arrays = read(EventEncoder({}).encode(batch(outputs={"out": output}), {"out": SPEC}))
    assert_same(arrays["train/outputs/out/sample_loss"], np.array([2, 6], np.float32))
    assert_same(arrays["train/outputs/out/sample_weight"], np.array([0.5, 0.25], np.float32))


def test_layer_without_a_finite_value_has_no_range():
    layer = LayerSummary(5, 0.0, 0.0, math.inf, -math.inf, 0.0, 5, np.zeros(3))
    payload = EventEncoder({}).encode(batch(layers={"d": layer}), {})
    nan = math.nan
    assert_same(read(payload)["train/layers/d/summary"], np.array([5, nan, nan, nan, nan, nan, 5], np.float32))


@pytest.mark.parametrize("step", [None, -1, 2**63])
def test_step_must_be_known(step: int | None):
    with pytest.raises(ArgumentError, match="step must be a number from 0"):
        EventEncoder({}).encode(batch(step), {})


def test_status_event():
    encoder = EventEncoder({})
    status = metadata.Status("closed", "", 1, {"train": 720})
    first, second = (encoder.encode_status(status, step=n, wall_time=2.5) for n in range(2))
    assert metadata.parse_status(read(second)["status"][0]) == status
    assert [s.content is None for event in (first, second) for s in decode_event(event).slots] == [False, True]
    assert (decode_event(second).step, decode_event(second).wall_time) == (1, 2.5)


def test_file_version_event():
    event = event_pb2.Event.FromString(encode.encode_file_version(3.5))
    assert (event.file_version, event.wall_time) == ("brain.Event:2", 3.5)
    assert decode_event(encode.encode_file_version(3.5)) == encode.DecodedEvent(0, 3.5, ())


@settings(max_examples=100)
@given(batch_records())
def test_step_and_first_tag_are_peeked_at(drawn: Drawn):
    record, specs = drawn
    payload = EventEncoder({}).encode(record, specs)
    assert encode.peek_event(payload[:100]) == (record.step, f"{record.phase}/header")


# --- other writers, and garbage ---


# Event.summary, Summary.value, Value.tensor and Value.metadata are messages, by level.
NESTED = {(0, 5), (1, 1), (2, 8), (2, 9)}


def in_any_order(message: bytes, draw: st.DrawFn, level: int = 0) -> bytes:
    """Write the fields of a message in another order, at every level."""
    fields: list[tuple[int, bytes]] = []
    for field, kind, first, last in encode._fields(message, 0, len(message)):
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
    expected, found = read(payload), read(mixed)
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
        nested(5, body=nested(1, body=nested(8, body=b"\x08\x06\x22\x01a")) * (encode.MAX_VALUES + 1)),
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
    for function in (decode_event, encode.peek_event):
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
        arrays = read(bytes(payload))
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
