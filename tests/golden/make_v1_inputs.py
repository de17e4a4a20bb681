"""Writes v1-inputs.batchview-events: `python tests/golden/make_v1_inputs.py`.

What came to version 1 after its first release: pictures and texts of the
samples. test_golden.py holds the file to what it has always been.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from tb_batchview import encode
from tb_batchview.records import BatchRecord, GradientSummary, OutputRecord, OutputSpec
from tb_batchview.tfrecord import frame

TIME = 1780000000.5
# One pixel in grey, 128: the bytes of a PNG are its encoder's.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010800000000"
    "3a7e9b550000000a49444154789c6368000000820081"
    "77cd72b6"
    "0000000049454e44ae426082"
)
GRADIENTS = {"dense": GradientSummary(8, 0.5, 1.5, -1.0, 3.0, 0.25, 0, 4.5, np.array([4, 0, 3, 1]))}
INPUTS = [[PNG, PNG], [b"", PNG], None, ["good", "ü"]]
IDS = [[1, 2], [1, 3], [2, 1], [4, 5]]


def make() -> bytes:
    """Return the file: pictures, one of them new, none, and texts."""
    encoder = encode.EventEncoder({"model": "sequential", "writer": "tb_batchview 0.2.0"})
    payloads = [encode.encode_file_version(TIME)]
    for step, (inputs, ids) in enumerate(zip(INPUTS, IDS, strict=True)):
        output = OutputRecord(np.array([1.5, 2.5], np.float32), np.array([1, 2]), sample_ids=np.array(ids))
        shown = None if inputs is None else np.array(inputs, object)
        outputs = {"age": output}
        record = BatchRecord(
            "train", step, 0, step, 2, TIME + step, 0.5, outputs=outputs, gradients=GRADIENTS, inputs=shown
        )
        payloads.append(encoder.encode(record, {"age": OutputSpec("regression", 0)}))
    return b"".join(map(frame, payloads))


if __name__ == "__main__":
    path = Path(__file__).with_name("v1-inputs.batchview-events")
    path.write_bytes(make())
    sys.stdout.write(f"{path}: {path.stat().st_size} bytes\n")
