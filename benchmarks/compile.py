"""What the callback costs before the first batch is done.

TensorFlow traces the step of a model once before it runs it, and once more
where Keras makes variables in it or shapes change. How often that happens is
counted in `compute_loss` itself, with and without the callback; the time is
that from the call of `fit` to the end of its first batch, in turn and with a
new model each time, as a difference to plain `fit`. CPU time of the thread
that traces stands beside it: other programs disturb it less.

Run: python benchmarks/compile.py [--rounds N]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from overhead import make_convnet, make_mlp

from tb_batchview import BatchViewCallback

PLAIN = "plain fit"
BATCH = 32
# Two batches of full size and one that is smaller: it has a shape of its own.
SAMPLES = 2 * BATCH + 5


class Counted(keras.Sequential):
    """A model that counts how often Python runs its step: once a trace."""

    runs = 0

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """Count the call."""
        self.runs += 1
        return super().compute_loss(*args, **kwargs)


class FirstBatch(keras.callbacks.Callback):
    """Notes when the first batch was done."""

    def __init__(self) -> None:
        super().__init__()
        self.at = 0.0
        self.cpu = 0.0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Note the times once."""
        if not self.at:
            self.at, self.cpu = time.perf_counter(), time.thread_time()


def make_deep(kind: Any) -> Any:
    """Return a deep network, whose layers are all summarised."""
    layers = keras.layers
    hidden = [layers.Conv2D(8, 3, padding="same", activation="relu") for _ in range(24)]
    return kind([keras.Input((8, 8, 3)), *hidden, layers.Flatten(), layers.Dense(10, activation="softmax")])


CASES: dict[str, Callable[[Any], Any]] = {
    "MLP of 4 layers": make_mlp,
    "convnet, 5 layers summarised": make_convnet,
    "convnet, 25 layers summarised": make_deep,
}
VARIANTS: dict[str, Callable[[str], list[Any]]] = {
    PLAIN: lambda log_dir: [],
    "BatchViewCallback(layers=None)": lambda log_dir: [BatchViewCallback(log_dir, layers=None)],
    "BatchViewCallback()": lambda log_dir: [BatchViewCallback(log_dir)],
}


def time_first(
    make_model: Callable[[Any], Any], callbacks: list[Any], x: np.ndarray, y: np.ndarray
) -> dict[str, float]:
    """Train a new model; return seconds to its first batch, and its traces."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    model = make_model(Counted)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.runs = 0
    first = FirstBatch()
    begin, cpu = time.perf_counter(), time.thread_time()
    # The last one: what other callbacks do with the batch belongs to it.
    model.fit(x, y, batch_size=BATCH, epochs=2, verbose=0, validation_data=(x, y), callbacks=[*callbacks, first])
    fit_runs = model.runs
    model.fit(x, y, batch_size=BATCH, verbose=0, validation_data=(x, y), callbacks=callbacks)
    return {
        "seconds": first.at - begin,
        "cpu": first.cpu - cpu,
        "traces": fit_runs,
        "traces_again": model.runs - fit_runs,
    }


def measure(make_model: Callable[[Any], Any], rounds: int) -> dict[str, list[dict[str, float]]]:
    """Train every variant in each round, in rotating order."""
    shape = make_model(Counted).input_shape[1:]
    random = np.random.default_rng(0)
    x, y = random.normal(size=(SAMPLES, *shape)).astype("float32"), random.integers(0, 10, SAMPLES)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    for number in range(rounds + 1):
        turn = number % len(VARIANTS)
        names = list(VARIANTS)
        for name in names[turn:] + names[:turn]:
            folder = tempfile.mkdtemp()
            try:
                first = time_first(make_model, VARIANTS[name](folder), x, y)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            if number:  # The first round warms TensorFlow up.
                found[name].append(first)
    return found


def main() -> None:
    """Measure every case and print a table for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="new models of each variant (default: 5)")
    parser.add_argument("--json", help="write the figures to this file, too")
    options = parser.parse_args()
    found = {}
    for case, make_model in CASES.items():
        found[case] = measure(make_model, options.rounds)
        plain = found[case][PLAIN]
        print(f"\n{case}: plain fit {statistics.median(run['seconds'] for run in plain):.2f} s to its first batch")
        for name, runs in found[case].items():
            more = sorted(run["seconds"] - other["seconds"] for run, other in zip(runs, plain, strict=True))
            cpu = statistics.median(run["cpu"] - other["cpu"] for run, other in zip(runs, plain, strict=True))
            traces, again = (sorted({run[key] for run in runs}) for key in ("traces", "traces_again"))
            print(
                f"  {name:40} {statistics.median(more):+.2f} s ({more[0]:+.2f} to {more[-1]:+.2f}), CPU {cpu:+.2f} s; "
                f"step run in Python {', '.join(map(str, traces))} times, in a second fit {', '.join(map(str, again))}"
            )
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
