"""How fast batches are written, beside other ways to keep them.

Predictions (float32) and targets (int32) of batch after batch, by each writer
in turn in one process, again and again, in another order each time; every
figure is the median. Of each writer: the time in which its caller waits,
the time until everything is with the operating system and the file is closed
(nobody calls fsync), and the CPU time of the process, threads included.

"storage" is what writes the event file, `EventEncoder` and `EventFile`, given
records of the two arrays and nothing else: the same bytes as the others have
to keep. `BatchWriter` is everything: it copies the arrays, so that the caller
may use them again, works out class, confidence and score of each sample, error
rate and mean confidence, and writes these too, in a thread of its own.

`np.memmap` must be told beforehand how many batches there will be.

Run: python benchmarks/writing.py [--growth] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from tensorboard.compat.proto import event_pb2, summary_pb2

from tb_batchview import BatchWriter, encode, metadata
from tb_batchview.eventfile import EventFile
from tb_batchview.records import BatchRecord, OutputRecord, OutputSpec

Array = npt.NDArray[Any]
Add = Callable[[int, Array, Array], None]
End = Callable[[], None]

SIZES = {(64, 10): 2_000, (128, 1000): 200}
# Batches of each size to see whether a batch costs more in a long run: the largest takes 5 GB.
GROWTH = {(64, 10): (1_000, 10_000, 100_000, 1_000_000), (128, 1000): (1_000, 10_000)}
GROWING = ("np.memmap, size known", "storage", "BatchWriter")
# Different batches, in turn.
DIFFERENT = 8
BASELINE = "np.memmap, size known"


class Taken(NamedTuple):
    """Seconds of one writer for all batches."""

    caller: float
    total: float
    cpu: float


def open_raw(directory: Path, batches: int, shape: tuple[int, int]) -> tuple[Add, End]:
    """Write bytes one after the other: what nobody could read."""
    file = (directory / "raw").open("wb")

    def add(step: int, predictions: Array, targets: Array) -> None:
        file.write(predictions.data)
        file.write(targets.data)

    return add, file.close


def open_memmap(directory: Path, batches: int, shape: tuple[int, int]) -> tuple[Add, End]:
    maps = [
        np.memmap(directory / "predictions", np.float32, "w+", shape=(batches, *shape)),
        np.memmap(directory / "targets", np.int32, "w+", shape=(batches, shape[0])),
    ]

    def add(step: int, predictions: Array, targets: Array) -> None:
        maps[0][step] = predictions
        maps[1][step] = targets

    return add, maps.clear


def open_save(directory: Path, batches: int, shape: tuple[int, int]) -> tuple[Add, End]:
    kept: tuple[list[Array], list[Array]] = ([], [])

    def add(step: int, predictions: Array, targets: Array) -> None:
        # Copies, since a loop uses its buffers again.
        kept[0].append(predictions.copy())
        kept[1].append(targets.copy())

    def end() -> None:
        np.save(directory / "predictions.npy", np.stack(kept[0]))
        np.save(directory / "targets.npy", np.stack(kept[1]))

    return add, end


def open_sqlite(directory: Path, batches: int, shape: tuple[int, int]) -> tuple[Add, End]:
    database = sqlite3.connect(directory / "batches.db")
    database.execute("CREATE TABLE batches (step INTEGER PRIMARY KEY, predictions BLOB, targets BLOB)")

    def add(step: int, predictions: Array, targets: Array) -> None:
        with database:
            database.execute("INSERT INTO batches VALUES (?, ?, ?)", (step, predictions.data, targets.data))

    return add, database.close


def make_event(step: int, predictions: Array, targets: Array) -> event_pb2.Event:
    """Return an event with the two arrays, as TensorBoard's classes make it."""
    event = event_pb2.Event(step=step, wall_time=time.time())
    for tag, array, dtype in (("predictions", predictions, "DT_FLOAT"), ("targets", targets, "DT_INT32")):
        tensor = {"dtype": dtype, "tensor_shape": {"dim": [{"size": size} for size in array.shape]}}
        value = summary_pb2.Summary.Value(tag=tag, tensor=tensor)
        value.tensor.tensor_content = array.tobytes()
        event.summary.value.append(value)
    return event


def open_event_file_writer(directory: Path, batches: int, shape: tuple[int, int]) -> tuple[Add, End]:
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(directory))

    def add(step: int, predictions: Array, targets: Array) -> None:
        writer.add_event(make_event(step, predictions, targets))

    return add, writer.close


def open_records(directory: Path, batches: int, shape: tuple[int, int]) -> tuple[Add, End]:
    """Write with TensorFlow what `storage` writes: the same bytes."""
    import tensorflow as tf

    writer = tf.io.TFRecordWriter(str(directory / "records"))
    prepare = prepare_storage()

    def add(step: int, predictions: Array, targets: Array) -> None:
        writer.write(b"".join(prepare(step, predictions, targets)))

    return add, writer.close


def open_summary(directory: Path, batches: int, shape: tuple[int, int]) -> tuple[Add, End]:
    import tensorflow as tf

    writer = tf.summary.create_file_writer(str(directory))

    def add(step: int, predictions: Array, targets: Array) -> None:
        with writer.as_default(step=step):
            tf.summary.write("predictions", predictions)
            tf.summary.write("targets", targets)

    return add, writer.close


def prepare_storage() -> Callable[[int, Array, Array], list[metadata.Payload]]:
    """Return what makes an event of a prepared record of the two arrays."""
    encoder = encode.EventEncoder({})
    # An output without targets, and one without predictions: nothing is to be compared.
    specs = {name: OutputSpec("regression", 0) for name in ("predictions", "targets")}
    prepared: dict[int, BatchRecord] = {}

    def prepare(step: int, predictions: Array, targets: Array) -> list[metadata.Payload]:
        record = prepared.get(id(predictions))
        if record is None:
            outputs = {"predictions": OutputRecord(predictions), "targets": OutputRecord(targets=targets)}
            record = prepared[id(predictions)] = BatchRecord("train", 0, 0, 0, len(targets), 1.78e9, 0.5, {}, outputs)
        # The record is prepared; only its step is another.
        object.__setattr__(record, "step", step)
        return encoder.encode_pieces(record, specs)

    return prepare


def open_storage(directory: Path, batches: int, shape: tuple[int, int]) -> tuple[Add, End]:
    file = EventFile(str(directory))
    prepare = prepare_storage()

    def add(step: int, predictions: Array, targets: Array) -> None:
        file.append(prepare(step, predictions, targets))

    return add, file.close


def open_batch_writer(directory: Path, batches: int, shape: tuple[int, int]) -> tuple[Add, End]:
    writer = BatchWriter(directory)

    def add(step: int, predictions: Array, targets: Array) -> None:
        writer.add_batch(predictions=predictions, targets=targets, loss=0.5)

    def end() -> None:
        writer.close()
        if writer.dropped or writer.warnings:
            raise RuntimeError(f"Every batch must be written. Received: {writer.warnings}.")

    return add, end


WRITERS: dict[str, Callable[[Path, int, tuple[int, int]], tuple[Add, End]]] = {
    "file.write, raw bytes": open_raw,
    BASELINE: open_memmap,
    "lists, then np.save": open_save,
    "SQLite, a commit a batch": open_sqlite,
    "tf.summary.write, two tags": open_summary,
    "tf.io.TFRecordWriter": open_records,
    "EventFileWriter": open_event_file_writer,
    "storage": open_storage,
    "BatchWriter": open_batch_writer,
}


def make_batches(shape: tuple[int, int]) -> list[tuple[Array, Array]]:
    """Return some batches of a classifier."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(DIFFERENT):
        predictions = rng.random(shape, np.float32) ** 4
        predictions /= predictions.sum(axis=1, keepdims=True)
        made.append((predictions, rng.integers(0, shape[1], shape[0]).astype(np.int32)))
    return made


def measure(name: str, batches: int, shape: tuple[int, int]) -> Taken:
    """Write a run and time it."""
    made = make_batches(shape)
    with tempfile.TemporaryDirectory() as directory:
        begin, cpu = time.perf_counter(), time.process_time()
        add, end = WRITERS[name](Path(directory), batches, shape)
        waited = time.perf_counter()
        for step in range(batches):
            predictions, targets = made[step % DIFFERENT]
            add(step, predictions, targets)
        waited = time.perf_counter() - waited
        end()
        return Taken(waited, time.perf_counter() - begin, time.process_time() - cpu)


def compare(names: list[str], batches: int, shape: tuple[int, int], repeats: int) -> dict[str, list[Taken]]:
    """Measure all in turn; the first round is for loading and warming up."""
    taken: dict[str, list[Taken]] = {name: [] for name in names}
    for number in range(repeats + 1):
        order = random.Random(number).sample(names, len(names))
        for name in order:
            # Slow ones need fewer batches; what a file costs once is little beside them.
            fewer = batches // 10 if name == "EventFileWriter" or number == 0 else batches
            found = measure(name, max(fewer, 10), shape)
            if number:
                taken[name].append(Taken(*(seconds / max(fewer, 10) for seconds in found)))
    return taken


def print_figures(shape: tuple[int, int], batches: int, taken: dict[str, list[Taken]]) -> None:
    """Print microseconds a batch, and ratios to the mapped array."""
    print(f"\n{shape[0]} x {shape[1]}, {batches} batches, microseconds a batch (median of {len(taken[BASELINE])})")
    print(f"  {'':28} {'caller':>9} {'total':>9} {'CPU':>9} {'total, ratio':>13} {'CPU, ratio':>11}")
    base = taken[BASELINE]
    for name, found in taken.items():
        caller, total, cpu = (statistics.median(values) * 1e6 for values in zip(*found, strict=True))
        by_total = statistics.median(own.total / other.total for own, other in zip(found, base, strict=True))
        by_cpu = statistics.median(own.cpu / other.cpu for own, other in zip(found, base, strict=True))
        print(f"  {name:28} {caller:9.1f} {total:9.1f} {cpu:9.1f} {by_total:13.2f} {by_cpu:11.2f}", flush=True)


def main() -> None:
    """Measure both sizes, or runs of growing length, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="runs of each writer (default: 7)")
    parser.add_argument("--growth", action="store_true", help="measure runs of 1,000 to 1,000,000 batches instead")
    parser.add_argument("--most", type=int, default=10**6, help="batches of the longest run (default: 1,000,000)")
    parser.add_argument("--json", help="write the figures to this file, too")
    options = parser.parse_args()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    everything = []
    for shape in SIZES:
        for batches in GROWTH[shape] if options.growth else (SIZES[shape],):
            if batches > options.most:
                continue
            needed = 3 * batches * (4 * shape[0] * (shape[1] + 1) + 2000)
            if shutil.disk_usage(tempfile.gettempdir()).free < needed:
                sys.exit(f"{batches} batches need {needed / 1e9:.0f} GB free in {tempfile.gettempdir()}; set TMPDIR.")
            taken = compare(list(GROWING if options.growth else WRITERS), batches, shape, options.repeats)
            print_figures(shape, batches, taken)
            everything.append({"shape": shape, "batches": batches, "taken": taken})
    if options.json:
        Path(options.json).write_text(json.dumps(everything, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
