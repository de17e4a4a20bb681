"""Event files for the tests of the reading arm, record by record."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tb_batchview import decode, encode, metadata, tfrecord
from tb_batchview.records import BatchRecord, LayerSummary, OutputRecord, OutputSpec

TIME = 1_780_000_000.0
CLASSES = 4
SPEC = OutputSpec("multiclass", CLASSES, None, ("cat", "dog", "car", "tree"))
SPECS: Mapping[str, OutputSpec] = {"scores": SPEC}
MODEL = {"model": "test"}


def make_scores(step: int, samples: int = 8, classes: int = CLASSES) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities and targets of a step: the same each time."""
    generator = np.random.default_rng(step)
    targets = generator.integers(0, classes, samples).astype(np.int32)
    logits = generator.normal(size=(samples, classes)) + 2 * np.eye(classes)[targets]
    powers = np.exp(logits)
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32), targets


def make_summary(step: int, units: int = 3) -> LayerSummary:
    """Return the summary of values that are `step` to `step + 1`."""
    return LayerSummary(60, step + 0.5, 0.25, step, step + 1, 0.125, 0, np.full(6, 10.0), np.full(units, step + 0.5))


def make_record(step: int, *, samples: int = 8, phase: str = "train", **changes: Any) -> BatchRecord:
    """Return a batch of a classifier with four classes."""
    predictions, targets = make_scores(step, samples)
    loss = -np.log(predictions[np.arange(samples), targets]).astype(np.float32)
    fields: dict[str, Any] = {
        "phase": phase,
        "step": step,
        "epoch": step // 10,
        "index": step % 10,
        "size": samples,
        "wall_time": TIME + step,
        "loss": float(loss.mean()) if samples else 0.0,
        "metrics": {"accuracy": float((predictions.argmax(axis=1) == targets).mean()) if samples else 0.0},
        "outputs": {"scores": OutputRecord(predictions=predictions, targets=targets, sample_loss=loss)},
    }
    return BatchRecord(**{**fields, **changes})


def frames(
    records: Iterable[BatchRecord],
    *,
    specs: Mapping[str, OutputSpec] = SPECS,
    statuses: Iterable[metadata.Status] = (),
    top_k: int | None = None,
    run: Mapping[str, str] = MODEL,
    worker: int = 0,
    workers: int = 1,
) -> list[bytes]:
    """Return the framed records of a file, the version first."""
    encoder = encode.EventEncoder(run, worker, workers)
    payloads = [encode.encode_file_version(TIME)]
    payloads += [encoder.encode(record, specs, top_k) for record in records]
    payloads += [encoder.encode_status(status, step=i, wall_time=TIME) for i, status in enumerate(statuses)]
    return [tfrecord.frame(payload) for payload in payloads]


def event_file(directory: Path, number: int = 0, pid: int = 7) -> Path:
    """Return the path of a run's event file; its directory is made."""
    folder = directory / metadata.DIRECTORY
    folder.mkdir(parents=True, exist_ok=True)
    return folder / metadata.file_name(1_780_000_000 + number, "host", pid, number)


def write(directory: Path, records: Iterable[BatchRecord], *, number: int = 0, **options: Any) -> Path:
    """Write an event file of a run and return its path."""
    path = event_file(directory, number)
    path.write_bytes(b"".join(frames(records, **options)))
    return path


def write_run(directory: Path, batches: int = 20, **changes: Any) -> None:
    """Write a run of so many batches, all changed alike."""
    write(directory, [make_record(step, **changes) for step in range(batches)])


def append(path: Path, content: bytes) -> None:
    """Append bytes to a file, as a writer does."""
    with path.open("ab") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def read_arrays(payload: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of an event by tag."""
    return {slot.tag: decode.slot_array(payload, slot) for slot in decode.decode_event(payload).slots}


def assert_same(left: np.ndarray, right: np.ndarray) -> None:
    """Compare arrays with their types and shapes."""
    assert (left.dtype, left.shape) == (right.dtype, right.shape)
    np.testing.assert_array_equal(left, right)
