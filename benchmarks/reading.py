"""How fast a run is opened, followed and looked at.

Questions about runs of 64 samples in 10 classes a batch, the summary of
two layers in every tenth batch:

- opening: `tb_batchview.load` beside TensorBoard's `EventFileLoader` and
  beside `tf.data.TFRecordDataset` with every event parsed, on the same file
  and in turn in one process. These two only walk through the events;
- memory: what opening takes in a fresh process, at its peak;
- following: a refresh after 100 more batches, again and again until the run
  is twice as long: by then every column has needed more room once;
- looking: the predictions of a batch chosen at random, and the confusion
  matrix of all samples;
- several files (`--several`, alone): a refresh after 100 more batches where a
  resumed training overlaps the first one, where two trainings write into one
  directory at once, and where two workers record one training;
- large files (`--large`, alone): opening files of some and of ten times as many
  batches of 1 GB, whose predictions are zeros and holes in the file.

A run is made from a short one of `BatchWriter`, whose records are repeated
with steps and times of their own. Times are the clock's, CPU times those of
the process, with `--several` those of the thread; the file is in the system's
cache.

Run: python benchmarks/reading.py [--batches N [N ...]] [--several | --large]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import tb_batchview
from tb_batchview import BatchWriter, encode, tfrecord
from tb_batchview.records import BatchRecord, OutputRecord, OutputSpec

SAMPLES, CLASSES, LAYERS, EVERY = 64, 10, 2, 10
# Batches that are written, and repeated from the second hundred on: the first records say more, once.
WRITTEN, FIRST = 1100, 100
ADDED = 100
LARGE = 10**9  # bytes of predictions
_MB = 1e6


def add_batch(writer: BatchWriter, rng: np.random.Generator, step: int, scores: npt.NDArray[np.float32]) -> None:
    """Add a batch of random targets to what was predicted, and now and then of layers."""
    targets = rng.integers(0, scores.shape[1], SAMPLES)
    losses = -np.log(scores[np.arange(SAMPLES), targets] + 1e-7)
    layers = {f"dense_{number}": rng.normal(size=(SAMPLES, 32)) for number in range(LAYERS)}
    writer.add_batch(
        predictions=scores,
        targets=targets,
        loss=float(losses.mean()),
        metrics={"accuracy": float((scores.argmax(1) == targets).mean())},
        sample_loss=losses,
        histograms=None if step % EVERY else layers,
    )


def write_pattern(log_dir: Path, classes: int = CLASSES, top_k: int | None = None, **options: Any) -> list[bytes]:
    """Write a short run and return the payloads of its file."""
    rng = np.random.default_rng(0)
    with BatchWriter(log_dir, top_k=top_k, **options) as writer:
        for step in range(WRITTEN):
            scores = rng.dirichlet(np.ones(classes), SAMPLES).astype(np.float32)
            add_batch(writer, rng, step, scores)
    path = find_file(log_dir)
    content = path.read_bytes()
    with path.open("rb") as file:
        frames = list(tfrecord.scan(file.fileno(), 0, len(content)))
    path.unlink()
    # First the version, last the status that the writer has closed the file.
    return [content[frame.payload_position :][: frame.length] for frame in frames[:-1]]


def with_step(payload: bytes, step: int) -> bytes:
    """Return the event of a batch with another step, a second after the last."""
    stop = 10 if payload[9] == 0x10 else 8  # a step of 0 is not written
    while stop > 8 and payload[stop] & 0x80:
        stop += 1
    digits = [step >> shift & 0x7F for shift in range(0, max(1, step.bit_length()), 7)]
    varint = bytes([*(digit | 0x80 for digit in digits[:-1]), digits[-1]])
    return b"\x09" + struct.pack("<d", 1.78e9 + step) + b"\x10" + varint + payload[stop + 1 :]


def repeat(pattern: list[bytes], batches: int) -> Iterator[bytes]:
    """Yield the framed records of a run without an end to its steps."""
    yield from map(tfrecord.frame, pattern[: batches + 1])
    for step in itertools.count(WRITTEN):
        yield tfrecord.frame(with_step(pattern[1 + FIRST + (step - FIRST) % (WRITTEN - FIRST)], step))


def make_run(log_dir: Path, pattern: list[bytes], batches: int) -> Iterator[bytes]:
    """Write a run; return the records to go on with."""
    records = repeat(pattern, batches)
    path = log_dir / "batchview" / "events.out.tfevents.1780000000.host.1.0000.batchview"
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.writelines(itertools.islice(records, batches + 1))
    return records


def make_large(log_dir: Path, batches: int) -> None:
    """Write a run whose predictions are as many GB as there are batches, all of them holes."""
    predictions = np.zeros((SAMPLES, LARGE // SAMPLES), np.uint8)
    outputs = {"out": OutputRecord(predictions, sample_loss=np.ones(SAMPLES))}
    encoder, specs = encode.EventEncoder({}), {"out": OutputSpec("regression", 0)}
    path = log_dir / "batchview" / "events.out.tfevents.1780000000.host.1.0000.batchview"
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.write(tfrecord.frame(encode.encode_file_version(1.78e9)))
        for step in range(batches):
            record = BatchRecord("train", step, 0, step, SAMPLES, 1.78e9, 0.5, {}, outputs)
            for piece in tfrecord.frame_pieces(encoder.encode_pieces(record, specs)):
                if len(piece) < predictions.nbytes:
                    file.write(piece)
                else:
                    file.seek(len(piece), os.SEEK_CUR)


def begin_at(pattern: list[bytes], first: int) -> Iterator[bytes]:
    """Yield the framed records of a run whose steps begin anywhere."""
    yield tfrecord.frame(pattern[0])
    for number in itertools.count():
        place = number if number < WRITTEN else FIRST + (number - FIRST) % (WRITTEN - FIRST)
        yield tfrecord.frame(with_step(pattern[1 + place], first + number))


def find_file(log_dir: Path) -> Path:
    """Return the only event file of a run."""
    (path,) = log_dir.glob("batchview/*")
    return path


def open_run(log_dir: Path) -> int:
    """Open a run as a user does."""
    return len(tb_batchview.load(log_dir)["."].batches("train"))


def open_loader(log_dir: Path) -> int:
    """Walk through a run with TensorBoard's loader."""
    from tensorboard.backend.event_processing import event_file_loader

    return sum(1 for event in event_file_loader.EventFileLoader(str(find_file(log_dir))).Load() if event.summary.value)


def open_dataset(log_dir: Path) -> int:
    """Walk through a run with TensorFlow and parse every event."""
    import tensorflow as tf
    from tensorboard.compat.proto import event_pb2

    records = tf.data.TFRecordDataset(str(find_file(log_dir)))
    return sum(1 for record in records if event_pb2.Event.FromString(record.numpy()).summary.value)


READERS: dict[str, Callable[[Path], int]] = {
    "tb_batchview.load": open_run,
    "EventFileLoader": open_loader,
    "TFRecordDataset": open_dataset,
}


def clock(call: Callable[..., Any], *arguments: Any) -> tuple[Any, float, float]:
    """Return what a call returns, its seconds and its CPU seconds."""
    begin, cpu = time.perf_counter(), time.process_time()
    result = call(*arguments)
    return result, time.perf_counter() - begin, time.process_time() - cpu


def time_readers(log_dir: Path, batches: int, repeats: int) -> dict[str, list[tuple[float, float]]]:
    """Open a run with each reader in turn, again and again."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in READERS}
    for number in range(repeats + 1):
        for name, read in READERS.items():
            count, seconds, cpu = clock(read, log_dir)
            if count != batches:
                raise RuntimeError(f"{name} must read all {batches} batches. Received: {count}.")
            # The first time imports are done, and the file comes into the cache.
            if number:
                found[name].append((seconds, cpu))
    return found


def read_memory(field: str) -> int:
    """Return a figure of this process's memory as Linux tells it, bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def measure_memory(log_dir: Path, reader: str, short: Path) -> int:
    """Return by how much the peak grows when a run is opened."""
    READERS[reader](short)  # what is imported is not counted
    before = read_memory("VmRSS")
    READERS[reader](log_dir)
    return read_memory("VmHWM") - before


def run_child(log_dir: Path, reader: str, short: Path) -> int:
    """Measure the memory in a fresh process."""
    command = [sys.executable, __file__, "--child", str(log_dir), reader, str(short)]
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=quiet)
    return int(json.loads(answer.stdout.splitlines()[-1]))


def read_predictions(batches: Any, number: int) -> Any:
    """Read the predictions of a batch from its file."""
    return np.array(batches[number].predictions)


def follow(log: Any, log_dir: Path, more: Iterator[bytes], refreshes: int) -> list[tuple[float, float]]:
    """Take in some batches more, as often as told."""
    found = []
    for _ in range(refreshes):
        with find_file(log_dir).open("ab") as file:
            file.writelines(itertools.islice(more, ADDED))
        _, seconds, cpu = clock(log.refresh)
        found.append((seconds, cpu))
    return found


def look_around(log_dir: Path, more: Iterator[bytes], refreshes: int) -> dict[str, Any]:
    """Follow an open run, and look at some of its batches and at all."""
    log = tb_batchview.load(log_dir)
    longer = len(log["."].batches("train")) // ADDED
    refreshing = follow(log, log_dir, more, refreshes)
    run = log["."]
    batches = run.batches("train")
    rng = np.random.default_rng(0)
    reading = []
    for number in rng.integers(0, len(batches), 1000).tolist():
        _, seconds, _ = clock(read_predictions, batches, number)
        reading.append(seconds)
    matrix, seconds, cpu = clock(run.confusion, "train")
    if matrix.sum() != SAMPLES * len(batches):
        raise RuntimeError(f"Every sample must be counted. Received: {matrix.sum()} of {SAMPLES * len(batches)}.")
    growing = refreshing + follow(log, log_dir, more, longer - refreshes)
    return {"refresh": refreshing, "grow": growing, "read": reading, "confusion": (seconds, cpu)}


def print_figures(batches: int, size: int, found: dict[str, Any]) -> None:
    """Print what was measured of one run."""
    print(f"\n{batches} batches, {size / _MB:.0f} MB")
    ours = statistics.median(seconds for seconds, _ in found["times"]["tb_batchview.load"])
    for name, times in found["times"].items():
        seconds, cpu = (statistics.median(values) for values in zip(*times, strict=True))
        ratio = statistics.median(
            other / own for (other, _), (own, _) in zip(times, found["times"]["tb_batchview.load"], strict=True)
        )
        print(
            f"  open, {name:20} {seconds:8.3f} s, CPU {cpu:8.3f} s, {seconds / batches * 1e6:6.1f} us a batch, "
            f"{ratio:5.1f} times as long; memory {found['memory'][name] / _MB:+7.1f} MB"
        )
    refresh, grow = (sorted(seconds * 1e3 for seconds, _ in found[name]) for name in ("refresh", "grow"))
    reading = np.percentile(np.array(found["read"]) * 1e6, [50, 99])
    print(
        f"  refresh after {ADDED} batches: {statistics.median(refresh):.1f} ms, at most {refresh[-1]:.1f} ms "
        f"({len(refresh)} times); opening again would take {ours * 1e3:.0f} ms\n"
        f"  until the run is twice as long: median {statistics.median(grow):.1f} ms, 99 of 100 within "
        f"{np.percentile(grow, 99):.1f} ms, at most {grow[-1]:.1f} ms, "
        f"CPU {max(cpu for _, cpu in found['grow']) * 1e3:.1f} ms ({len(grow)} times)\n"
        f"  predictions of a batch: {reading[0]:.0f} us, 99 of 100 within {reading[1]:.0f} us\n"
        f"  confusion of all samples: {found['confusion'][0] * 1e3:.0f} ms, CPU {found['confusion'][1] * 1e3:.0f} ms"
    )


def time_several(folder: Path, batches: int, refreshes: int) -> dict[str, dict[str, list[float]]]:
    """Follow runs of two files, the CPU milliseconds of the thread each time.

    Returns:
        By case: of the refresh, and of the first look at all losses after it.
    """
    alone = write_pattern(folder / "alone")
    workers = [write_pattern(folder / f"worker{number}", worker=number, workers=2) for number in (0, 1)]
    # Of each file: its records, where its steps begin, batches to begin with, and batches more before each refresh.
    cases = {
        "one file": [(alone, 0, batches, ADDED)],
        "a resumed training overlaps": [(alone, 0, batches, 0), (alone, batches // 2, 1000, ADDED)],
        "it has passed the old end": [(alone, 0, batches // 2, 0), (alone, batches // 4, batches // 2, ADDED)],
        "two trainings at once": [(alone, 0, batches, ADDED // 2), (alone, batches // 2, 1000, ADDED // 2)],
        "two workers": [(pattern, 0, batches, ADDED) for pattern in workers],
        "two workers, one 2,000 behind": [
            (pattern, 0, batches - 2000 * number, ADDED) for number, pattern in enumerate(workers)
        ],
    }
    found = {}
    for case, files in cases.items():
        log_dir = folder / case.replace(" ", "-")
        paths = [log_dir / "batchview" / f"events.out.tfevents.178000000{n}.host.1.000{n}.batchview" for n in (0, 1)]
        paths[0].parent.mkdir(parents=True)
        records = [begin_at(pattern, first) for pattern, first, _, _ in files]
        for path, more, (_, _, count, _) in zip(paths, records, files, strict=False):
            with path.open("wb") as file:
                file.writelines(itertools.islice(more, 1 + count))
        log = tb_batchview.load(log_dir)
        refreshing, looking = [], []
        for _ in range(refreshes):
            for path, more, (_, _, _, added) in zip(paths, records, files, strict=False):
                if added:
                    with path.open("ab") as file:
                        file.writelines(itertools.islice(more, added))
            begin = time.thread_time()
            log.refresh()
            refreshed = time.thread_time()
            log["."].view.phases["train"].field("loss")
            refreshing.append((refreshed - begin) * 1e3)
            looking.append((time.thread_time() - refreshed) * 1e3)
        found[case] = {"refresh": refreshing, "look": looking}
        print(
            f"  {case:32} {len(log['.'].batches('train')):9,} batches: median {statistics.median(refreshing):7.2f} ms, "
            f"at most {max(refreshing):7.2f} ms; then all losses {statistics.median(looking):6.2f} ms",
            flush=True,
        )
        for path in log_dir.glob("batchview/*"):
            path.unlink()
    return found


def main() -> None:
    """Measure runs of several lengths and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1_000, 10_000, 50_000, 200_000], metavar="N")
    parser.add_argument("--repeats", type=int, default=3, help="openings by each reader (default: 3)")
    parser.add_argument("--refreshes", type=int, default=30, help="refreshes that are timed (default: 30)")
    parser.add_argument("--several", action="store_true", help="only refreshes of runs of several files")
    parser.add_argument("--large", action="store_true", help="only openings of files of 2 and 20 GB")
    parser.add_argument("--json", help="write the figures to this file, too")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        log_dir, reader, short = options.child
        print(json.dumps(measure_memory(Path(log_dir), reader, Path(short))))
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    everything: dict[int, Any] = {}
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        if options.several:
            for batches in options.batches:
                print(f"\nCPU time of a refresh after {ADDED} batches, {batches:,} to begin with")
                everything[batches] = time_several(folder / str(batches), batches, options.refreshes)
            options.batches = []
        if options.large:
            make_large(folder / "short", 1)
            for batches in (2, 20):
                log_dir = folder / str(batches)
                make_large(log_dir, batches)
                memory = run_child(log_dir, "tb_batchview.load", folder / "short")
                count, seconds, _ = clock(open_run, log_dir)
                print(f"{batches} GB: {count} batches after {seconds:.1f} s, +{memory / _MB:.1f} MB")
            options.batches = []
        pattern = write_pattern(folder / "pattern") if options.batches else []
        if pattern:
            make_run(folder / "short", pattern, 100)
        for batches in options.batches:
            log_dir = folder / str(batches)
            more = make_run(log_dir, pattern, batches)
            size = find_file(log_dir).stat().st_size
            found: dict[str, Any] = {"times": time_readers(log_dir, batches, options.repeats)}
            found["memory"] = {name: run_child(log_dir, name, folder / "short") for name in READERS}
            found |= look_around(log_dir, more, options.refreshes)
            print_figures(batches, size, found)
            everything[batches] = found
            find_file(log_dir).unlink()
    if options.json:
        Path(options.json).write_text(json.dumps(everything, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
