"""Which Keras is at work, and what is refused: `make test-keras` runs this with each version."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tb_batchview import BatchViewCallback
from tb_batchview.errors import BatchViewError


def test_the_keras_that_was_asked_for_is_the_one_at_work():
    # Nothing else would show that an older version was not found.
    asked = os.environ.get("KERAS_VERSION") or importlib.metadata.version("keras")
    assert keras.__version__ == asked


class Sequential:
    """Tells callbacks of itself as the models of tf_keras do."""

    __module__ = "tf_keras.src.engine.sequential"

    def __init__(self) -> None:
        self.trained = False

    def fit(self, x: Any, y: Any, *, callbacks: list[Any], **options: Any) -> None:
        for callback in callbacks:
            callback.set_model(self)
        self.trained = True

    evaluate = fit


def assert_refused(model: Any, log_dir: Path) -> None:
    refusal = r"Received: tf_keras\..*\.Sequential\. Models of tf_keras \(Keras 2\) are not supported"
    for run in (model.fit, model.evaluate):
        with pytest.raises(BatchViewError, match=refusal):
            run(np.ones((4, 2)), np.ones((4, 3)), verbose=0, callbacks=[BatchViewCallback(log_dir)])
    assert list(log_dir.iterdir()) == []


def test_a_model_named_as_those_of_tf_keras_is_refused_before_it_trains(tmp_path: Path):
    model = Sequential()
    assert_refused(model, tmp_path)
    assert not model.trained


def test_a_model_of_tf_keras_is_refused_before_it_trains(tmp_path: Path):
    tf_keras = pytest.importorskip("tf_keras", reason="tf_keras (Keras 2) is not here; `make test-keras` has it")
    model = tf_keras.Sequential([tf_keras.layers.Dense(3)])
    model.compile("sgd", "mse")
    assert_refused(model, tmp_path)
    assert model.optimizer.iterations.numpy() == 0
