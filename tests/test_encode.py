"""Event bytes against protobuf's and TensorFlow's own."""

from __future__ import annotations

import dataclasses
import math
from typing import Any
from unittest import mock

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded import assert_same, read_arrays
from strategies import DTYPES, Drawn, batch_records, settings
from tensorboard.compat.proto import event_pb2, tensor_pb2, types_pb2

from tb_batchview import encode, metadata
from tb_batchview.decode import DecodedEvent, decode_event, slot_array
from tb_batchview.encode import EventEncoder
from tb_batchview.errors import ArgumentError
from tb_batchview.records import BatchRecord, LayerSummary, OutputRecord, OutputSpec
from tb_batchview.tfrecord import frame, frame_pieces

SPEC = OutputSpec("multiclass", 3)
PLAIN = OutputSpec("regression", 0)


def batch(step: int = 0, outputs: Any = None, **changes: Any) -> BatchRecord:
    return BatchRecord(
        **{"phase": "train", "step": step, "epoch": 0, "index": step, "size": 2, "wall_time": 1.5, **changes},
        outputs=outputs or {},
    )


def event_of(array: np.ndarray, field: str = "predictions") -> bytes:
    return EventEncoder({}).encode(batch(outputs={"out": OutputRecord(**{field: array})}), {"out": PLAIN})


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
        assert_same(read_arrays(payload)["train/outputs/out/predictions"], predictions)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.dtype(">f4"), np.dtype(">i8")])
def test_arrays_of_another_type_are_converted_each_time(dtype: np.dtype):
    predictions = np.arange(12).reshape(4, 3).astype(dtype)
    encoder = EventEncoder({})
    for step in range(4):
        payload = encoder.encode(batch(step, {"out": OutputRecord(predictions)}), {"out": PLAIN})
        assert read_arrays(payload)["train/outputs/out/predictions"].tolist() == np.arange(12).reshape(4, 3).tolist()


@settings(max_examples=200)
@given(batch_records())
def test_arrays_are_kept_to_the_bit(drawn: Drawn):
    record, specs = drawn
    arrays = read_arrays(EventEncoder({}).encode(record, specs))
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
    arrays = read_arrays(payload)
    assert [value.tag for value in event.summary.value] == list(arrays)
    for value in event.summary.value:
        theirs = tf.make_ndarray(value.tensor)
        if theirs.dtype == object:
            theirs = np.array([text.decode() for text in theirs.ravel()], object).reshape(theirs.shape)
        assert_same(arrays[value.tag], theirs)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_is_kept(dtype: Any):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    (kept,) = (array for tag, array in read_arrays(event_of(array)).items() if tag.endswith("/predictions"))
    assert kept.dtype == dtype.newbyteorder("<")
    np.testing.assert_array_equal(kept, array)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
def test_short_floats_are_widened(dtype: Any):
    array = np.array([[0.5, -2.0, 1.0]]).astype(dtype)
    assert_same(read_arrays(event_of(array))["train/outputs/out/predictions"], np.array([[0.5, -2.0, 1.0]], np.float32))


@pytest.mark.parametrize("dtype", [np.complex64, np.longdouble, "M8[s]", "V3", object])
def test_other_dtypes_are_refused_by_name(dtype: Any):
    with pytest.raises(ArgumentError, match=r"targets must be of .* Received: dtype="):
        encode.storable(np.zeros(2).astype(dtype) if dtype != "V3" else np.zeros(2, dtype), "targets")


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
    arrays = read_arrays(payload)
    assert "train/outputs/out/predictions" not in arrays
    assert_same(arrays["train/outputs/out/top_scores"], np.array([[0.7, 0.2], [0.5, 0.4]], np.float32))
    assert_same(arrays["train/outputs/out/top_classes"], np.array([[2, 1], [0, 1]], np.int32))
    assert_same(arrays["train/outputs/out/confidence"], np.array([0.7, 0.5], np.float32))


@pytest.mark.parametrize("top_k", [3, 100])
def test_top_k_of_all_classes_keeps_predictions(top_k: int):
    scores = np.eye(3, dtype=np.float32)
    arrays = read_arrays(
        EventEncoder({}).encode(batch(outputs={"out": OutputRecord(scores)}), {"out": SPEC}, top_k=top_k)
    )
    assert_same(arrays["train/outputs/out/predictions"], scores)


def test_ids_are_strings_or_whole_numbers():
    texts = np.array(["a.png", "", "ü", "\ud800"], object)
    assert read_arrays(event_of(texts, "sample_ids"))["train/outputs/out/sample_ids"].tolist() == [
        "a.png",
        "",
        "ü",
        "\\ud800",
    ]
    assert read_arrays(event_of(np.array([b"a", b"\xff"]), "sample_ids"))["train/outputs/out/sample_ids"].tolist() == [
        "a",
        "\\xff",
    ]
    numbers = np.array([[1], [2**40]], np.uint64)
    assert_same(read_arrays(event_of(numbers, "sample_ids"))["train/outputs/out/sample_ids"], np.array([1, 2**40]))


@pytest.mark.parametrize(
    "ids", [np.array([1.5]), np.array([2**63], np.uint64), np.zeros((2, 2), int), np.array([None])]
)
def test_other_ids_are_refused(ids: np.ndarray):
    with pytest.raises(ArgumentError, match=r"sample_ids must be integers below 2\*\*63 or strings"):
        encode.sample_ids(ids)


def test_several_losses_or_weights_of_a_sample_are_averaged():
    output = OutputRecord(sample_loss=np.array([[1, 3], [5, 7]]), sample_weight=np.array([[0.5], [0.25]]))
    arrays = read_arrays(EventEncoder({}).encode(batch(outputs={"out": output}), {"out": SPEC}))
    assert_same(arrays["train/outputs/out/sample_loss"], np.array([2, 6], np.float32))
    assert_same(arrays["train/outputs/out/sample_weight"], np.array([0.5, 0.25], np.float32))


def test_layer_without_a_finite_value_has_no_range():
    layer = LayerSummary(5, 0.0, 0.0, math.inf, -math.inf, 0.0, 5, np.zeros(3))
    payload = EventEncoder({}).encode(batch(layers={"d": layer}), {})
    nan = math.nan
    assert_same(read_arrays(payload)["train/layers/d/summary"], np.array([5, nan, nan, nan, nan, nan, 5], np.float32))


@pytest.mark.parametrize("step", [None, -1, 2**63])
def test_step_must_be_known(step: int | None):
    with pytest.raises(ArgumentError, match="step must be a number from 0"):
        EventEncoder({}).encode(batch(step), {})


def test_status_event():
    encoder = EventEncoder({})
    status = metadata.Status("closed", "", 1, {"train": 720})
    first, second = (encoder.encode_status(status, step=n, wall_time=2.5) for n in range(2))
    assert metadata.parse_status(read_arrays(second)["status"][0]) == status
    assert [s.content is None for event in (first, second) for s in decode_event(event).slots] == [False, True]
    assert (decode_event(second).step, decode_event(second).wall_time) == (1, 2.5)


def test_file_version_event():
    event = event_pb2.Event.FromString(encode.encode_file_version(3.5))
    assert (event.file_version, event.wall_time) == ("brain.Event:2", 3.5)
    assert decode_event(encode.encode_file_version(3.5)) == DecodedEvent(0, 3.5, ())
