"""Writes v1-gradients.batchview-events: `python tests/golden/make_v1_gradients.py`.

What came to version 1 after its first release: shares by unit, and gradients.
test_golden.py holds the file to what it has always been.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from tb_batchview import encode
from tb_batchview.records import BatchRecord, GradientSummary, LayerSummary
from tb_batchview.tfrecord import frame

TIME = 1780000000.5
# Numbers that every machine computes to the same bit.
COUNTS = np.array([4, 0, 3, 1])
LAYERS = {
    "gate": LayerSummary(
        8, 0.5, 1.5, -1.0, 3.0, 0.25, 0, COUNTS, np.array([0.25, 0.75]), np.array([0.5, 0.0]), np.array([0.0, 1.0])
    ),
    "dense": LayerSummary(8, 0.0, 0.0, 0.0, 0.0, 1.0, 0, COUNTS, np.zeros(2), np.ones(2)),
}
GRADIENTS = {
    "block/gate": GradientSummary(8, 0.5, 1.5, -1.0, 3.0, 0.25, 0, 4.5, COUNTS),
    "dense": GradientSummary(2, 0.0, 0.0, math.inf, -math.inf, 0.0, 2, math.nan, np.zeros(4)),
}


def make() -> bytes:
    """Return the file: three batches, the second without summaries."""
    encoder = encode.EventEncoder({"model": "sequential", "writer": "tb_batchview 0.2.0"})
    payloads = [encode.encode_file_version(TIME)]
    for step in range(3):
        summaries = {} if step == 1 else {"layers": LAYERS, "gradients": GRADIENTS}
        record = BatchRecord("train", step, 0, step, 2, TIME + step, loss=0.5, **summaries)  # type: ignore[arg-type]
        payloads.append(encoder.encode(record, {}))
    return b"".join(map(frame, payloads))


if __name__ == "__main__":
    path = Path(__file__).with_name("v1-gradients.batchview-events")
    path.write_bytes(make())
    sys.stdout.write(f"{path}: {path.stat().st_size} bytes\n")
