"""The file of each format version: read as ever, and written the same today."""

from __future__ import annotations

import math
import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded import event_file, read_arrays
from tensorboard.compat.proto import event_pb2

from tb_batchview import decode, encode, load, metadata, tfrecord
from tb_batchview.records import BatchRecord, OutputRecord, OutputSpec

GOLDEN = Path(__file__).parent / "golden"
FORMAT = Path(__file__).parent.parent / "docs" / "data-format.md"
V1 = GOLDEN / "v1.batchview-events"
V1_GRADIENTS = GOLDEN / "v1-gradients.batchview-events"
V1_INPUTS = GOLDEN / "v1-inputs.batchview-events"
TIME = 1780000000.5
nan, inf = math.nan, math.inf

ANIMAL = {
    "target": ("int32", [0, 1]),
    "predicted": ("int32", [0, 2]),
    "confidence": ("float32", [0.5, 0.75]),
    "target_score": ("float32", [0.5, 0.125]),
    "sample_loss": ("float32", [0.5, 2.0]),
    "sample_weight": ("float32", [1.0, 0.5]),
    "sample_ids": ("object", ["a.png", "ü.png"]),
}
OUTPUTS = {
    **{f"train/outputs/animal/{kind}": value for kind, value in ANIMAL.items()},
    "train/outputs/spam/target": ("int32", [0, 1]),
    "train/outputs/spam/predicted": ("int32", [0, 1]),
    "train/outputs/spam/confidence": ("float32", [0.5, 1.0]),
    "train/outputs/spam/target_score": ("float32", [0.5, 1.0]),
    "train/outputs/spam/sample_ids": ("int64", [7, 2**40]),
    "train/outputs/words/error": ("float32", [0.5, 0.0]),
    "train/outputs/age/error": ("float32", [2.0, nan]),
    "train/outputs/pixels/error": ("float32", [0.5, 0.0]),
    "train/outputs/animal/targets": ("int64", [[0], [1]]),
    "train/outputs/animal/predictions": ("float32", [[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]]),
    "train/outputs/spam/targets": ("uint8", [0, 1]),
    "train/outputs/spam/predictions": ("float16", [[0.0], [inf]]),
    "train/outputs/words/targets": ("bool", [[True, True], [False, False]]),
    "train/outputs/words/predictions": ("float64", [[0.75, 0.25], [0.25, 0.25]]),
    "train/outputs/age/targets": ("int16", [3, 4]),
    "train/outputs/age/predictions": ("float64", [1.0, nan]),
    "train/outputs/pixels/targets": ("int8", [[0, 1], [-1, 0]]),
    "train/outputs/pixels/predictions": ("float32", [[[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]),
}
LAYERS = {
    "train/layers/block/conv/summary": ("float32", [8.0, 0.5, 1.5, -1.0, 3.0, 0.25, 0.0]),
    "train/layers/block/conv/histogram": ("float32", [4.0, 0.0, 3.0, 1.0]),
    "train/layers/block/conv/unit_means": ("float32", [0.25, 0.75]),
    "train/layers/dense/summary": ("float32", [2.0, nan, nan, nan, nan, nan, 2.0]),
    "train/layers/dense/histogram": ("float32", [0.0, 0.0, 0.0, 0.0]),
}
# error rate and confidence of animal, spam, words, age, pixels
FIGURES = [0.5, 0.625, 0.0, 0.75, 0.25, nan, 2.0, nan, 0.25, nan]
NONE = [nan] * 10
CAPTURE = '{"kind":"capture","message":"No loss.","count":3,"seen":{"train":4}}'
CLOSED = '{"kind":"closed","message":"","count":1,"seen":{"train":4,"validation":1}}'

EVENTS = [
    (0, TIME, {}),
    (0, TIME, {"train/header": ("float64", [0.0, 0.0, 2.0, 0.5, 0.5, *FIGURES]), **OUTPUTS, **LAYERS}),
    (1, TIME + 1, {"train/header": ("float64", [0.0, 1.0, 2.0, nan, 0.25, *FIGURES]), **OUTPUTS}),
    (3, TIME + 3, {"train/header": ("float64", [1.0, 1.0, 2.0, 0.25, *NONE])}),
    (
        0,
        TIME,
        {
            "validation/header": ("float64", [0.0, 0.0, 2.0, nan, 0.5, 0.625, *NONE[2:]]),
            **{f"validation/outputs/animal/{kind}": value for kind, value in ANIMAL.items()},
            "validation/outputs/animal/targets": ("int64", [[0], [1]]),
            "validation/outputs/animal/top_scores": ("float32", [[0.5], [0.75]]),
            "validation/outputs/animal/top_classes": ("int32", [[0], [2]]),
        },
    ),
    (
        300,
        TIME + 300,
        {
            "predict/header": ("float64", [150.0, 0.0, 2.0, nan, *NONE]),
            "predict/outputs/animal/target": ("int32", []),
            "predict/outputs/animal/predicted": ("int32", []),
            "predict/outputs/animal/confidence": ("float32", []),
            "predict/outputs/animal/target_score": ("float32", []),
            "predict/outputs/animal/targets": ("int64", []),
            "predict/outputs/animal/predictions": ("float32", []),
        },
    ),
    (0, TIME, {"status": ("object", [CAPTURE])}),
    (1, TIME, {"status": ("object", [CLOSED])}),
]
SPECS = {
    "animal": OutputSpec("multiclass", 3, None, ("cat", "dog", "Öre")),
    "spam": OutputSpec("binary", 2, "sigmoid"),
    "words": OutputSpec("multilabel", 2),
    "age": OutputSpec("regression", 0),
    "pixels": OutputSpec("multiclass", 2, "softmax"),
}


def payloads_of(path: Path) -> list[bytes]:
    content = path.read_bytes()
    with open(path, "rb") as file:
        frames = list(tfrecord.scan(file.fileno(), 0, len(content)))
    assert {frame.status for frame in frames} == {"ok"}
    assert frames[-1].end == len(content)
    return [content[frame.payload_position :][: frame.length] for frame in frames]


def test_version_1_is_read_as_ever():
    payloads = payloads_of(V1)
    decoded = [decode.decode_event(payload) for payload in payloads]
    assert [(event.step, event.wall_time) for event in decoded] == [(step, time) for step, time, _ in EVENTS]
    for payload, event, (_, _, expected) in zip(payloads, decoded, EVENTS, strict=True):
        arrays = {slot.tag: decode.slot_array(payload, slot) for slot in event.slots}
        assert list(arrays) == list(expected)
        for tag, array in arrays.items():
            assert array.dtype.name == expected[tag][0], tag
            np.testing.assert_array_equal(array.tolist(), expected[tag][1], err_msg=tag)


def test_metadata_of_version_1_is_read_as_ever():
    events = [decode.decode_event(payload) for payload in payloads_of(V1)]
    contents = [{s.tag: metadata.parse_content(s.content) for s in e.slots if s.content is not None} for e in events]
    header = contents[1]["train/header"]
    assert header.fields[:5] == ("epoch", "index", "size", "loss", "metrics/acc")
    assert header.fields[5:7] == ("outputs/animal/error_rate", "outputs/animal/confidence")
    assert header.outputs == SPECS
    assert header.run == {"model": "sequential", "writer": "tb_batchview 0.1.0"}
    assert contents[1]["train/outputs/animal/target"] == metadata.Content(1, "target", "train", "animal")
    conv = metadata.Content(1, "layer_summary", "train", layer="block/conv")
    assert contents[1]["train/layers/block/conv/summary"] == conv
    # All values of the first batch, none of the second, the changed header of the third, the first status.
    assert [len(said) for said in contents] == [0, len(EVENTS[1][2]), 0, 1, 11, 7, 1, 0]


def test_today_the_same_bytes_are_written():
    assert runpy.run_path(str(GOLDEN / "make_v1.py"))["make"]() == V1.read_bytes()


# --- what came to version 1 later ---

LATER = {
    "train/layers/gate/summary": [8.0, 0.5, 1.5, -1.0, 3.0, 0.25, 0.0],
    "train/layers/gate/histogram": [4.0, 0.0, 3.0, 1.0],
    "train/layers/gate/unit_means": [0.25, 0.75],
    "train/layers/gate/unit_zeros": [0.5, 0.0],
    "train/layers/gate/unit_saturated": [0.0, 1.0],
    "train/layers/dense/summary": [8.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0],
    "train/layers/dense/histogram": [4.0, 0.0, 3.0, 1.0],
    "train/layers/dense/unit_means": [0.0, 0.0],
    "train/layers/dense/unit_zeros": [1.0, 1.0],
    "train/gradients/block/gate/summary": [8.0, 0.5, 1.5, -1.0, 3.0, 0.25, 0.0, 4.5],
    "train/gradients/block/gate/histogram": [4.0, 0.0, 3.0, 1.0],
    "train/gradients/dense/summary": [2.0, nan, nan, nan, nan, nan, 2.0, nan],
    "train/gradients/dense/histogram": [0.0, 0.0, 0.0, 0.0],
}


def test_gradients_and_shares_by_unit_are_read_as_ever(tmp_path: Path):
    payloads = payloads_of(V1_GRADIENTS)
    for payload, later in zip(payloads[1:], (True, False, True), strict=True):
        arrays = read_arrays(payload)
        assert arrays.pop("train/header").tolist()[2:] == [2.0, 0.5]
        assert list(arrays) == (list(LATER) if later else [])
        for tag, array in arrays.items():
            assert array.dtype == np.float32
            np.testing.assert_array_equal(array, LATER[tag], err_msg=tag)
    contents = [metadata.parse_content(slot.content) for slot in decode.decode_event(payloads[1]).slots[1:]]
    assert {content.version for content in contents} == {1}
    assert contents[3] == metadata.Content(1, "layer_unit_zeros", "train", layer="gate")
    assert contents[9] == metadata.Content(1, "gradient_summary", "train", layer="block/gate")

    event_file(tmp_path).write_bytes(V1_GRADIENTS.read_bytes())
    run = load(tmp_path)["."]
    assert (run.layers, run.gradient_layers) == (("gate", "dense"), ("block/gate", "dense"))
    assert run.gradients("block/gate").steps.tolist() == [0, 2]
    np.testing.assert_array_equal(run.gradients("block/gate").norm, [4.5, 4.5])
    assert run.layer("dense").dead_units(last=2) == [0, 1]
    assert run.layer("gate").saturated_units(last=2) == [1]


def test_today_the_same_bytes_are_written_of_what_came_later():
    assert runpy.run_path(str(GOLDEN / "make_v1_gradients.py"))["make"]() == V1_GRADIENTS.read_bytes()


def test_what_came_later_is_skipped_by_those_who_do_not_know_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A reader as of 0.1.0: the same but for the kinds it knows."""
    event_file(tmp_path).write_bytes(V1_GRADIENTS.read_bytes())
    monkeypatch.setattr(metadata, "LAYER_KINDS", ("layer_summary", "layer_histogram", "layer_unit_means"))
    monkeypatch.setattr(metadata, "GRADIENT_KINDS", ())
    run = load(tmp_path)["."]

    assert (run.layers, run.gradient_layers, len(run.batches("train"))) == (("gate", "dense"), (), 3)
    assert run.health.corrupt_records == 0
    np.testing.assert_array_equal(run.layer("gate").unit_means, [[0.25, 0.75]] * 2)


def test_inputs_are_read_as_ever(tmp_path: Path):
    payloads = payloads_of(V1_INPUTS)
    png = runpy.run_path(str(GOLDEN / "make_v1_inputs.py"))["PNG"]
    stored = []
    for payload in payloads[1:]:
        values = event_pb2.Event.FromString(payload).summary.value
        kinds = [value.tag.rpartition("/")[2] for value in values]
        assert "inputs" not in kinds or kinds[-4:] == ["predictions", "inputs", "summary", "histogram"]
        stored.append([list(value.tensor.string_val) for value in values if value.tag == "train/inputs"])
    assert stored == [[[png, png]], [[b"", png]], [], [[b"good", "ü".encode()]]]
    contents = [
        metadata.parse_content(slot.content)
        for payload in payloads
        for slot in decode.decode_event(payload).slots
        if slot.content and slot.tag == "train/inputs"
    ]
    assert contents == [metadata.Content(1, "inputs", "train", form=form) for form in ("image", "text")]

    event_file(tmp_path).write_bytes(V1_INPUTS.read_bytes())
    run = load(tmp_path)["."]
    shown = [list(batch.inputs) for batch in run.batches("train")]
    assert shown == [[png, png], [png, png], [png, png], ["good", "ü"]]


def test_today_the_same_bytes_are_written_of_inputs():
    assert runpy.run_path(str(GOLDEN / "make_v1_inputs.py"))["make"]() == V1_INPUTS.read_bytes()


def test_inputs_are_skipped_by_those_who_do_not_know_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A reader as of 0.1.0: the same but for the kinds it knows."""
    event_file(tmp_path).write_bytes(V1_INPUTS.read_bytes())
    monkeypatch.setattr(metadata, "INPUTS_KIND", "unknown")
    run = load(tmp_path)["."]

    assert [batch.step for batch in run.batches("train")] == [0, 1, 2, 3]
    assert run.health.corrupt_records == 0
    assert not run.has_inputs("train")
    np.testing.assert_array_equal(run.batches("train")[1].predictions, [1.5, 2.5])


# --- the worked example of docs/data-format.md ---

BYTES = re.compile(r"(?:[0-9a-f]{2} )*[0-9a-f]{2}(?=$| {2,})", re.MULTILINE)


def documented_bytes() -> list[bytes]:
    """Return the bytes of each block of the worked example."""
    text = FORMAT.read_text(encoding="utf-8").split("## Worked example")[1].split("## Versions")[0]
    blocks = re.findall(r"```\n(.*?)```", text, re.DOTALL)
    return [b"".join(bytes.fromhex(BYTES.match(line)[0]) for line in block.splitlines()) for block in blocks]


def example(encoder: encode.EventEncoder, step: int) -> bytes:
    output = OutputRecord(np.array([[1.5]], np.float32), np.array([2], np.int32))
    record: Any = BatchRecord("train", step, 0, step, 1, TIME, 0.25, {}, {"age": output})
    return encoder.encode(record, {"age": OutputSpec("regression", 0)})


def test_worked_example_is_what_is_written():
    encoder = encode.EventEncoder({})
    first, second = example(encoder, 0), example(encoder, 1)
    record, appendix = documented_bytes()
    assert record == tfrecord.frame(second)
    assert len(record) == 247
    value = event_pb2.Event.FromString(first).summary.value[1]
    assert value.tag == "train/outputs/age/error"
    assert value.SerializeToString().endswith(appendix)
    assert (len(value.SerializeToString()), len(appendix)) == (119, 78)
