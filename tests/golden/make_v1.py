"""Writes v1.batchview-events: `python tests/golden/make_v1.py`.

Only for a new version of the format, or while version 1 is not released:
test_golden.py holds the file to what it has always been.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from tb_batchview import encode, metadata
from tb_batchview.records import BatchRecord, LayerSummary, OutputRecord, OutputSpec
from tb_batchview.tfrecord import frame

TIME = 1780000000.5
SPECS = {
    "animal": OutputSpec("multiclass", 3, None, ("cat", "dog", "Öre")),
    "spam": OutputSpec("binary", 2, "sigmoid"),
    "words": OutputSpec("multilabel", 2),
    "age": OutputSpec("regression", 0),
    "pixels": OutputSpec("multiclass", 2, "softmax"),
}
# Numbers that every machine computes to the same bit.
OUTPUTS = {
    "animal": OutputRecord(
        predictions=np.array([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]], np.float32),
        targets=np.array([[0], [1]], np.int64),
        sample_loss=np.array([0.5, 2.0], np.float32),
        sample_weight=np.array([1.0, 0.5], np.float32),
        sample_ids=np.array(["a.png", "ü.png"]),
    ),
    "spam": OutputRecord(
        predictions=np.array([[0.0], [math.inf]], np.float16),
        targets=np.array([0, 1], np.uint8),
        sample_ids=np.array([7, 1 << 40]),
    ),
    "words": OutputRecord(predictions=np.array([[0.75, 0.25], [0.25, 0.25]]), targets=np.array([[1, 1], [0, 0]], bool)),
    "age": OutputRecord(predictions=np.array([1.0, math.nan], ">f8"), targets=np.array([3, 4], np.int16)),
    "pixels": OutputRecord(predictions=np.zeros((2, 2, 2), np.float32), targets=np.array([[0, 1], [-1, 0]], np.int8)),
}
LAYERS = {
    "block/conv": LayerSummary(8, 0.5, 1.5, -1.0, 3.0, 0.25, 0, np.array([4, 0, 3, 1]), np.array([0.25, 0.75])),
    "dense": LayerSummary(2, 0.0, 0.0, math.inf, -math.inf, 0.0, 2, np.zeros(4)),
}


def batch(phase: str, step: int, **changes: object) -> BatchRecord:
    """Return a batch; `changes` are further fields of it."""
    return BatchRecord(phase, step, step // 2, step % 2, 2, TIME + step, **changes)  # type: ignore[arg-type]


def make() -> bytes:
    """Return the file: every kind of value, metadata and record."""
    encoder = encode.EventEncoder({"model": "sequential", "writer": "tb_batchview 0.1.0"})
    empty = {"animal": OutputRecord(np.zeros((0, 3), np.float32), np.zeros((0, 1), np.int64))}
    payloads = [
        encode.encode_file_version(TIME),
        encoder.encode(batch("train", 0, loss=0.5, metrics={"acc": 0.5}, outputs=OUTPUTS, layers=LAYERS), SPECS),
        encoder.encode(batch("train", 1, loss=math.nan, metrics={"acc": 0.25}, outputs=OUTPUTS), SPECS),
        encoder.encode(batch("train", 3, loss=0.25), SPECS),
        encoder.encode(batch("validation", 0, outputs={"animal": OUTPUTS["animal"]}), SPECS, top_k=1),
        encoder.encode(batch("predict", 300, outputs=empty), SPECS),
        encoder.encode_status(metadata.Status("capture", "No loss.", 3, {"train": 4}), step=0, wall_time=TIME),
        encoder.encode_status(metadata.Status("closed", "", 1, {"train": 4, "validation": 1}), step=1, wall_time=TIME),
    ]
    return b"".join(map(frame, payloads))


if __name__ == "__main__":
    path = Path(__file__).with_name("v1.batchview-events")
    path.write_bytes(make())
    sys.stdout.write(f"{path}: {path.stat().st_size} bytes\n")
