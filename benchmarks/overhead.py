"""What the callback costs in `model.fit`, as ratios to plain `fit`.

Each round runs every variant once, in turn and in one process, so that a slow
moment of the machine hits all of them; reported is the median over the rounds
of each variant's time divided by that of plain `fit` in the same round, with
the quartiles. All that is recorded is written to disk within that time.

Run: python benchmarks/overhead.py [--rounds N]
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from tb_batchview import BatchViewCallback

Callbacks = Callable[[str, np.ndarray], list[Any]]


class PredictOnBatch(keras.callbacks.Callback):
    """What people write today: another pass over a batch, after each step."""

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


def make_convnet() -> Any:
    """Return a small convolutional network with five layers worth a look."""
    layers = keras.layers
    return keras.Sequential(
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


def make_mlp() -> Any:
    """Return a network whose step takes less than a millisecond."""
    layers = keras.layers
    hidden = [layers.Dense(64, activation="relu") for _ in range(3)]
    return keras.Sequential([keras.Input((64,)), *hidden, layers.Dense(10, activation="softmax")])


# Name: what makes the model, its input shape, size of a batch, steps a round.
CASES: dict[str, tuple[Callable[[], Any], tuple[int, ...], int, int]] = {
    "convnet 32x32x3, batch 64": (make_convnet, (32, 32, 3), 64, 100),
    "MLP 64-64-64-64-10, batch 32": (make_mlp, (64,), 32, 1000),
}
VARIANTS: dict[str, Callbacks] = {
    "plain fit": lambda log_dir, x: [],
    "BatchViewCallback(layers=None)": lambda log_dir, x: [BatchViewCallback(log_dir, layers=None)],
    "BatchViewCallback()": lambda log_dir, x: [BatchViewCallback(log_dir)],
    "BatchViewCallback(histogram_freq=1)": lambda log_dir, x: [BatchViewCallback(log_dir, histogram_freq=1)],
    "keras TensorBoard(update_freq='batch')": lambda log_dir, x: [
        keras.callbacks.TensorBoard(log_dir, update_freq="batch")
    ],
    "predict_on_batch in a callback": lambda log_dir, x: [PredictOnBatch(x, whole=False)],
    "predict in a callback": lambda log_dir, x: [PredictOnBatch(x, whole=True)],
}
# Many times slower than the rest: fewer rounds tell as much.
SLOW_ROUNDS = {"predict in a callback": 2, "predict_on_batch in a callback": 3}


def time_fit(model: Any, x: np.ndarray, y: np.ndarray, batch: int, callbacks: list[Any]) -> float:
    """Return the seconds a step of one epoch took."""
    start = time.perf_counter()
    model.fit(x, y, batch_size=batch, epochs=1, verbose=0, callbacks=callbacks)
    return (time.perf_counter() - start) / -(-len(x) // batch)


def measure(case: str, rounds: int, variants: dict[str, Callbacks], folder: str) -> dict[str, Any]:
    """Time each variant in every round.

    Returns:
        Milliseconds a step of plain fit, and of every variant the ratios to
        plain fit and the seconds that its first fit took (with the tracing).
    """
    make_model, shape, batch, steps = CASES[case]
    random = np.random.default_rng(0)
    x = random.normal(size=(steps * batch, *shape)).astype("float32")
    y = random.integers(0, 10, len(x))
    fits: dict[str, Callable[[], float]] = {}
    first: dict[str, float] = {}
    for name, make_callbacks in variants.items():
        keras.utils.set_random_seed(0)
        model = make_model()
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        callbacks = make_callbacks(os.path.join(folder, str(len(fits))), x[:batch])
        fits[name] = functools.partial(time_fit, model, x, y, batch, callbacks)
        started = time.perf_counter()
        fits[name]()
        first[name] = time.perf_counter() - started
    ratios: dict[str, list[float]] = {name: [] for name in fits}
    plain: list[float] = []
    for number in range(rounds):
        names = [name for name in fits if number < SLOW_ROUNDS.get(name, rounds)]
        # Each variant stands first as often as the others.
        turn = number % len(names)
        times = {name: fits[name]() for name in names[turn:] + names[:turn]}
        plain.append(times["plain fit"])
        for name, seconds in times.items():
            ratios[name].append(seconds / times["plain fit"])
    return {
        "plain_ms_a_step": 1000 * statistics.median(plain),
        "first_fit_seconds": first,
        "ratios": {name: sorted(found) for name, found in ratios.items()},
    }


def main() -> None:
    """Measure every case and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--json", help="write the figures to this file, too")
    arguments = parser.parse_args()
    found = {}
    for case in CASES:
        folder = tempfile.mkdtemp()
        try:
            found[case] = measure(case, arguments.rounds, VARIANTS, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        print(f"\n{case}: plain fit {found[case]['plain_ms_a_step']:.2f} ms a step, {arguments.rounds} rounds")
        for name, ratios in found[case]["ratios"].items():
            compiling = found[case]["first_fit_seconds"][name]
            low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
            print(
                f"  {name:40} {statistics.median(ratios):6.2f}   ({low:.2f} to {high:.2f}), first fit {compiling:.1f} s"
            )
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
