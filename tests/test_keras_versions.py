"""Which Keras is at work, what every version gives, and what is refused.

`make test-keras` runs this with each version. Here is what differs between
them; `test_callback` has the rest.
"""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

from tb_batchview import BatchViewCallback, load
from tb_batchview.errors import BatchViewError, BatchViewWarning
from tests import models

# Before 3.7 Keras kept losses without their places, had no way to wrap a step, and wrote several of a call out.
KERAS = tuple(map(int, keras.__version__.split(".")[:2]))
BATCHES = [slice(start, start + 10) for start in range(0, 40, 10)]
X, KIND = (array[:40] for array in models.make_data((8,)))
SIZE = X.sum(1, keepdims=True)


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


def test_the_graph_of_the_step_is_written_where_keras_writes_it(tmp_path: Path):
    written = []
    for folder in ("without", "with"):
        callbacks: list[Any] = [keras.callbacks.TensorBoard(tmp_path / folder)]
        if folder == "with":
            callbacks.append(BatchViewCallback(tmp_path / folder))
        make_heads("one", {"jit_compile": False}).fit(X, KIND, verbose=0, callbacks=callbacks)
        reader = EventMultiplexer().AddRunsFromDirectory(str(tmp_path / folder)).Reload()
        tags = reader.Runs()["train"]
        written.append((tags["graph"], sorted(tags["tensors"])))
    assert written[1] == written[0]
    assert written[0][0] == (KERAS < (3, 7))


def make_heads(form: str, mode: dict[str, Any]) -> Any:
    """Return a model with one output, or two in a list or dict, the last name first."""
    keras.utils.set_random_seed(7)
    inputs = keras.Input((8,))
    heads = {
        "size": models.LAYERS.Dense(1, name="size")(inputs),
        "kind": models.LAYERS.Dense(models.CLASSES, activation="softmax", name="kind")(inputs),
    }
    outputs = {"one": heads["kind"], "list": list(heads.values()), "dict": heads}[form]
    losses = {"size": "mse", "kind": "sparse_categorical_crossentropy"}
    loss = {"one": losses["kind"], "list": list(losses.values()), "dict": losses}[form]
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.Adam(0.01), loss, **mode)
    return model


def train_twice(form: str, mode: dict[str, Any], log_dir: Path) -> None:
    """Train without and with the callback, which must be the same."""
    targets = {"one": KIND, "list": [SIZE, KIND], "dict": {"size": SIZE, "kind": KIND}}[form]
    options = {"batch_size": 10, "epochs": 2, "shuffle": False, "verbose": 0, "validation_data": (X, targets)}
    found = []
    for callbacks in ([], [BatchViewCallback(log_dir)]):
        model = make_heads(form, mode)
        history = model.fit(X, targets, callbacks=callbacks, **options).history
        found.append((history, [weight.tobytes() for weight in model.get_weights()]))
    (plain, weights), (watched, watched_weights) = found
    assert weights == watched_weights
    if KERAS < (3, 7):
        # Its evaluation is one graph with the running mean, in which TensorFlow folds the constants of the loss
        # into those of the mean, but only while nobody else looks at the loss.
        assert plain.pop("val_loss") == pytest.approx(watched.pop("val_loss"), rel=1e-6)
    assert plain == watched


@pytest.mark.parametrize("mode", [{"jit_compile": False}, {"run_eagerly": True}], ids=["graph", "eager"])
@pytest.mark.parametrize("form", ["one", "list", "dict"])
def test_every_batch_is_recorded_with_the_loss_of_each_sample(form: str, mode: dict[str, Any], tmp_path: Path):
    train_twice(form, mode, tmp_path)
    run = load(tmp_path)["."]
    initial = make_heads(form, mode)

    for phase in ("train", "validation"):
        batches = run.batches(phase)
        assert [batch.size for batch in batches] == [10] * 8
        for place, batch in zip(BATCHES * 2, batches, strict=True):
            predictions, losses, targets = (
                {"kind": value} if form == "one" else value
                for value in (batch.predictions, batch.sample_loss, batch.targets)
            )
            np.testing.assert_array_equal(targets["kind"].ravel(), KIND[place])
            scores = predictions["kind"][np.arange(10), KIND[place]]
            np.testing.assert_allclose(losses["kind"], -np.log(scores), rtol=1e-3, atol=1e-5)
            if form != "one":
                square = np.square(predictions["size"] - SIZE[place])[:, 0]
                np.testing.assert_allclose(losses["size"], square, rtol=1e-3)
            assert batch.loss == pytest.approx(sum(values.mean() for values in losses.values()), rel=1e-4)
    first, true = run.batches("train")[0].predictions, initial(X[:10])
    if form == "one":
        first, true = {"kind": first}, {"kind": true}
    elif form == "list":
        true = dict(zip(("size", "kind"), true, strict=True))
    assert list(first) == list(true)
    for name, expected in true.items():
        np.testing.assert_allclose(first[name], expected, atol=1e-5)


@pytest.mark.parametrize("mode", [{"jit_compile": False}, {"run_eagerly": True}], ids=["graph", "eager"])
def test_several_steps_in_one_call_are_recorded_or_warned_of_once(mode: dict[str, Any], tmp_path: Path):
    if KERAS >= (3, 7):
        train_twice("one", mode | {"steps_per_execution": 2}, tmp_path)
        assert [batch.size for batch in load(tmp_path)["."].batches("train")] == [10] * 8
        return
    with pytest.warns(BatchViewWarning) as caught:
        train_twice("one", mode | {"steps_per_execution": 2}, tmp_path)
    texts = [str(warning.message) for warning in caught if warning.category is BatchViewWarning]
    reason = f"Keras {keras.__version__} hides what happens in a call of several steps"
    assert [reason in text for text in texts] == [True]
