"""Ways to call `fit`, and to ask what it left behind, for tests on any backend."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from tb_batchview import BatchViewCallback, load
from tb_batchview.errors import BatchViewWarning
from tests.models import BATCH, LAYERS

# Trains a model with callbacks and returns the history.
Fit = Callable[..., Any]


def feed(x: Any, y: Any = None, **options: Any) -> Fit:
    """Return a `fit` of two epochs in the order of the data."""
    options = {"batch_size": BATCH, "epochs": 2, "shuffle": False, "verbose": 0} | options
    return lambda model, callbacks: model.fit(x, y, callbacks=callbacks, **options).history


def messages(caught: Any) -> list[str]:
    """Return what was warned of recording."""
    return sorted(
        str(warning.message).removeprefix("tb_batchview: ")
        for warning in caught
        if warning.category is BatchViewWarning
    )


class Act(keras.callbacks.Callback):
    """Does something at one moment of training."""

    def __init__(self, moment: str, act: Callable[[Any], Any], at: int = 1) -> None:
        super().__init__()
        self.act, self.at, self.count = act, at, 0
        setattr(self, moment, self._count)

    def _count(self, *_: Any, **__: Any) -> None:
        self.count += 1
        if self.count == self.at + 1:
            self.act(self.model)


def assert_no_thread(deadline: float = 20.0) -> None:
    end = time.monotonic() + deadline
    while any(thread.name.startswith("tb_batchview") for thread in threading.enumerate()):
        assert time.monotonic() < end, threading.enumerate()
        time.sleep(0.01)


def dense(units: int, *, shape: tuple[int, ...] = (8,), activation: str | None = None) -> Any:
    return keras.Sequential([keras.Input(shape), LAYERS.Dense(units, activation=activation, name="head")])


def state_of(model: Any) -> list[bytes]:
    variables = [*model.variables, *(model.optimizer.variables if model.optimizer else ())]
    return [keras.ops.convert_to_numpy(variable.value).tobytes() for variable in variables]


def train_twice(make: Callable[[], Any], fit: Fit, log_dir: Path, **options: Any) -> Any:
    """Train without and with the callback, and return what it recorded.

    Weights, the optimizer's state and the history must be the same.
    """
    found = []
    for callbacks in ([], [BatchViewCallback(log_dir, **{"histogram_freq": 2} | options)]):
        keras.utils.set_random_seed(7)
        model = make()
        found.append((fit(model, callbacks), state_of(model)))
    assert found[0][0] == found[1][0]
    assert found[0][1] == found[1][1]
    return load(log_dir).get(".")
