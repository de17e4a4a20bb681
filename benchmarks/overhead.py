"""What the callback costs in `model.fit`, as ratios to plain `fit`.

The models of all variants live in one process and are trained in short blocks,
each one call of `fit` with all that belongs to it: a block of a variant stands
between two blocks of plain `fit`, and its ratio is to the mean of these two, so
that a slow moment of the machine hits both. Variants come in random order;
reported is the median of many ratios with its bootstrap interval. A block ends
when all that was recorded is in the file: the callback closes it within `fit`.

CPU time, which other programs on the machine disturb less, stands beside it:
of the whole process as a ratio, of the training thread as a difference to
plain `fit`, and of the writer's thread, in microseconds a step.

Run: python benchmarks/overhead.py [--minutes N]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from tb_batchview import BatchViewCallback

Callbacks = Callable[[str, np.ndarray], list[Any]]

PLAIN = "plain fit"
# Resamplings of the ratios for the interval of their median.
RESAMPLINGS = 2000
# Fits of a single batch, for what `fit` costs apart from its steps.
SHORT_FITS = 15


class PredictAgain(keras.callbacks.Callback):
    """What people write today: another pass over a batch after each step."""

    def __init__(self, inputs: np.ndarray, *, whole: bool) -> None:
        super().__init__()
        self._inputs = inputs
        self._whole = whole

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Predict one batch again."""
        if self._whole:
            self.model.predict(self._inputs, verbose=0)
        else:
            self.model.predict_on_batch(self._inputs)


class WriterClock(keras.callbacks.Callback):
    """Reads the CPU time of a callback's writer thread, just before it ends.

    Must stand before that callback, whose `on_train_end` ends the thread.
    """

    def __init__(self, recorder: BatchViewCallback) -> None:
        super().__init__()
        self._writer = recorder._writer
        self.seconds = 0.0

    def on_train_end(self, logs: Any = None) -> None:
        """Wait until the thread has done its work; read its clock."""
        self._writer.flush()
        for thread in threading.enumerate():
            if thread.name == "tb_batchview-writer" and thread.ident is not None:
                self.seconds = time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


@dataclasses.dataclass(frozen=True)
class Block:
    """Seconds a step that one call of `fit` took.

    Attributes:
        wall: By the clock.
        process: CPU time of all threads.
        training: CPU time of the thread that called `fit`.
        writer: CPU time of the callback's own thread.
    """

    wall: float
    process: float
    training: float
    writer: float


@dataclasses.dataclass(frozen=True)
class Variant:
    """A way to train that is compared with plain `fit`.

    Attributes:
        make_callbacks: Makes the callbacks of its model, from a directory and
            the inputs of a batch.
        every: It takes part in every n-th round: what differs much from plain
            `fit` needs fewer blocks to show it.
        is_slow: Whether it is many times slower, so that shorter blocks must
            do.
    """

    make_callbacks: Callbacks
    every: int = 1
    is_slow: bool = False


@dataclasses.dataclass(frozen=True)
class Case:
    """A model to train.

    Attributes:
        make_model: Makes it.
        shape: Of one sample.
        batch: Samples in a batch.
        steps: Batches in a block.
        slow_steps: The same for what is many times slower.
    """

    make_model: Callable[[], Any]
    shape: tuple[int, ...]
    batch: int
    steps: int
    slow_steps: int


def make_convnet(kind: Any = keras.Sequential) -> Any:
    """Return a small convolutional network with five layers worth a look."""
    layers = keras.layers
    return kind(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )


def make_mlp(kind: Any = keras.Sequential) -> Any:
    """Return a network whose step takes about a millisecond."""
    layers = keras.layers
    hidden = [layers.Dense(64, activation="relu") for _ in range(3)]
    return kind([keras.Input((64,)), *hidden, layers.Dense(10, activation="softmax")])


def record(log_dir: str, **options: Any) -> list[Any]:
    """Return the callback, and before it the clock of its thread."""
    recorder = BatchViewCallback(log_dir, **options)
    return [WriterClock(recorder), recorder]


CASES = {
    "convnet 32x32x3, batch 64": Case(make_convnet, (32, 32, 3), 64, 50, 10),
    "MLP 64-64-64-64-10, batch 32": Case(make_mlp, (64,), 32, 500, 25),
}
VARIANTS = {
    PLAIN: Variant(lambda log_dir, x: []),
    "BatchViewCallback(layers=None)": Variant(lambda log_dir, x: record(log_dir, layers=None)),
    "BatchViewCallback()": Variant(lambda log_dir, x: record(log_dir)),
    "BatchViewCallback(histogram_freq=1)": Variant(lambda log_dir, x: record(log_dir, histogram_freq=1)),
    "keras TensorBoard(update_freq='batch')": Variant(
        lambda log_dir, x: [keras.callbacks.TensorBoard(log_dir, update_freq="batch")], every=4
    ),
    "predict_on_batch in a callback": Variant(lambda log_dir, x: [PredictAgain(x, whole=False)], every=4),
    "predict in a callback": Variant(lambda log_dir, x: [PredictAgain(x, whole=True)], every=8, is_slow=True),
}


class Trainee:
    """A model with its callbacks, trained block by block."""

    def __init__(self, case: Case, variant: Variant, folder: str) -> None:
        """Make the model; the first block will compile its step."""
        random = np.random.default_rng(0)
        count = (case.slow_steps if variant.is_slow else case.steps) * case.batch
        self._x = random.normal(size=(count, *case.shape)).astype("float32")
        self._y = random.integers(0, 10, count)
        self._batch = case.batch
        keras.utils.set_random_seed(0)
        self._model = case.make_model()
        self._model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        self._callbacks = variant.make_callbacks(folder, self._x[: case.batch])

    def train(self, steps: int | None = None) -> Block:
        """Train one block, or only so many steps of it."""
        count = len(self._x) if steps is None else steps * self._batch
        x, y = self._x[:count], self._y[:count]
        wall, process, training = time.perf_counter(), time.process_time(), time.thread_time()
        self._model.fit(x, y, batch_size=self._batch, epochs=1, verbose=0, callbacks=self._callbacks)
        took = (time.perf_counter() - wall, time.process_time() - process, time.thread_time() - training)
        writer = sum(callback.seconds for callback in self._callbacks if isinstance(callback, WriterClock))
        return Block(*(seconds * self._batch / count for seconds in (*took, writer)))


@dataclasses.dataclass
class Pair:
    """A block of a variant, and the mean of the plain ones beside it."""

    block: Block
    plain: Block

    def ratio(self, figure: str) -> float:
        """Return a figure of the variant by that of plain `fit`."""
        return getattr(self.block, figure) / getattr(self.plain, figure)


def mean_block(first: Block, second: Block) -> Block:
    """Return the means of each figure."""
    pairs = zip(dataclasses.astuple(first), dataclasses.astuple(second), strict=True)
    return Block(*(statistics.fmean(pair) for pair in pairs))


def measure(case: Case, seconds: float, folder: str) -> dict[str, Any]:
    """Train all variants of a case in turn until the time is up.

    Returns:
        By variant its pairs of blocks ("pairs") and the milliseconds that a
        `fit` of a single batch takes ("short").
    """
    trainees = {
        name: Trainee(case, variant, os.path.join(folder, str(number)))
        for number, (name, variant) in enumerate(VARIANTS.items())
    }
    stop = time.monotonic() + seconds
    for trainee in trainees.values():
        trainee.train()  # Compiles.
    short: dict[str, list[float]] = {name: [] for name in trainees}
    for _ in range(SHORT_FITS):
        for name, trainee in trainees.items():
            short[name].append(1000 * trainee.train(steps=1).wall)
    pairs: dict[str, list[Pair]] = {name: [] for name in trainees}
    random = np.random.default_rng(1)
    before = trainees[PLAIN].train()
    number = 0
    while time.monotonic() < stop:
        names = [name for name, variant in VARIANTS.items() if not number % variant.every]
        number += 1
        # Plain fit is a variant, too: its ratio to its neighbours is the noise.
        for name in random.permutation(names):
            block = trainees[name].train()
            after = trainees[PLAIN].train()
            pairs[name].append(Pair(block, mean_block(before, after)))
            before = after
    return {"pairs": pairs, "short": {name: statistics.median(found) for name, found in short.items()}}


def interval(values: list[float]) -> tuple[float, float, float]:
    """Return the median and its bootstrap interval of 95 percent."""
    random = np.random.default_rng(2)
    medians = np.median(random.choice(values, (RESAMPLINGS, len(values))), axis=1)
    low, high = np.percentile(medians, (2.5, 97.5))
    return statistics.median(values), float(low), float(high)


def summarise(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the figures of each variant."""
    return {
        name: {
            "blocks": len(pairs),
            "wall": interval([pair.ratio("wall") for pair in pairs]),
            "process": interval([pair.ratio("process") for pair in pairs]),
            "training_us": 1e6 * statistics.median(pair.block.training - pair.plain.training for pair in pairs),
            "writer_us": 1e6 * statistics.median(pair.block.writer for pair in pairs),
            "plain_ms": 1000 * statistics.median(pair.plain.wall for pair in pairs),
            "short_ms": found["short"][name] - found["short"][PLAIN],
        }
        for name, pairs in found["pairs"].items()
    }


def print_table(title: str, figures: dict[str, dict[str, Any]]) -> None:
    """Print one row for each variant."""
    print(f"\n{title}: plain fit {figures[PLAIN]['plain_ms']:.2f} ms a step")
    print(
        f"  {'':40} {'time, by plain fit':>22} {'CPU time, by plain fit':>24} "
        f"{'training':>10} {'writer':>8} {'begin, end':>11} {'blocks':>6}"
    )
    for name, row in figures.items():
        wall, process = (f"{row[key][0]:.3f} ({row[key][1]:.3f} to {row[key][2]:.3f})" for key in ("wall", "process"))
        print(
            f"  {name:40} {wall:>22} {process:>24} {row['training_us']:+7.0f} µs {row['writer_us']:5.0f} µs "
            f"{row['short_ms']:+8.1f} ms {row['blocks']:6}"
        )


def main() -> None:
    """Measure every case and print a table for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=6.5, help="of training in all (default: 6.5)")
    parser.add_argument("--case", choices=CASES, action="append", help="only this one")
    parser.add_argument("--json", help="write the figures to this file, too")
    options = parser.parse_args()
    cases = options.case or list(CASES)
    found = {}
    for name in cases:
        folder = tempfile.mkdtemp()
        try:
            found[name] = summarise(measure(CASES[name], 60 * options.minutes / len(cases), folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        print_table(name, found[name])
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
