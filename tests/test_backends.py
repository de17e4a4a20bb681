"""Keras on JAX and on PyTorch, whichever KERAS_BACKEND says, against plain loops.

The truth is a loop of the backend's own from the same seed (`loops`),
scikit-learn, the same metric made anew, or NumPy; and always: training with
the callback is the same to the bit as without it. TensorFlow has tests of its
own in `test_callback` and `test_scenarios`.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BACKEND = os.environ.get("KERAS_BACKEND", "tensorflow")
if BACKEND not in ("jax", "torch"):
    pytest.skip("KERAS_BACKEND is neither jax nor torch", allow_module_level=True)
pytest.importorskip(BACKEND)
pytest.importorskip("keras")

import keras  # noqa: E402
import sklearn.metrics  # noqa: E402
from keras import ops  # noqa: E402
from PIL import Image  # noqa: E402

from tb_batchview import BatchViewCallback, handoff, load, record_predictions, tag, with_ids, writer  # noqa: E402
from tb_batchview.errors import BatchViewWarning  # noqa: E402
from tests import loops, models  # noqa: E402
from tests.fits import Act, assert_no_thread, dense, feed, messages, state_of, train_twice  # noqa: E402
from tests.models import (  # noqa: E402
    BATCH,
    LAYERS,
    Lazy,
    Looped,
    make_nested,
    make_recurrent,
    make_two_inputs,
)
from tests.tagged import Attention, attend  # noqa: E402

if BACKEND == "jax":
    import jax

    # The same step is compiled by many tests.
    _compiled = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    jax.config.update("jax_compilation_cache_dir", _compiled.name)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

# JAX compiles a step anew for a smaller last batch: two tests have one.
SAMPLES = 32
SIZES = [16, 16]
STARTS = (0, 16)
JAX = BACKEND == "jax"
# What else Keras offers on a backend; PyTorch runs eagerly, one step at a time.
DEFAULT: dict[str, Any] = {} if JAX else {"jit_compile": False}
EAGER: dict[str, Any] = {"run_eagerly": True}
MODES = {"default": DEFAULT} | ({"eager": EAGER, "three steps": {"steps_per_execution": 3}} if JAX else {})
only_jax = pytest.mark.skipif(not JAX, reason="of JAX")
only_torch = pytest.mark.skipif(JAX, reason="of PyTorch")

pytestmark = [
    pytest.mark.filterwarnings("ignore:Explicitly requested dtype int64"),  # Keras' MeanIoU on JAX.
]


@pytest.fixture(autouse=True)
def _rest_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handoff, "REST_SECONDS", 0.3)
    monkeypatch.setattr(writer, "FLUSH_SECONDS", 0.05)


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """JAX's functions are its own again after every test."""
    if not JAX:
        yield
        return
    import jax

    before = jax.value_and_grad, jax.grad
    yield
    assert (jax.value_and_grad, jax.grad) == before


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(SAMPLES, *shape)).astype("float32")


X = draw(8)
Y = np.random.default_rng(1).integers(0, 4, SAMPLES)
ONE_HOT = np.eye(4, dtype="float32")[Y]
SIZE = X.sum(1, keepdims=True)
# Of dropout: without one PyTorch draws from a generator that loading data uses too.
SEED = 5
SPARSE = "sparse_categorical_crossentropy"


def compiled(model: Any, loss: Any = SPARSE, **options: Any) -> Any:
    model.compile(**{"optimizer": keras.optimizers.Adam(0.01), "loss": loss} | DEFAULT | options)
    return model


def classifier() -> Any:
    return compiled(models.make_mlp(dropout=0.2), metrics=["accuracy"])


def train_by_hand(make: Callable[[], Any], total: loops.Total, x: Any, y: Any) -> list[dict[str, Any]]:
    keras.utils.set_random_seed(7)
    return loops.train_by_hand(make(), total, x, y, batch=BATCH, epochs=2)


def crossentropy(y: Any, p: Any) -> Any:
    return ops.mean(keras.losses.sparse_categorical_crossentropy(y, p))


def assert_predictions(run: Any, truth: list[dict[str, Any]], atol: float = 1e-5) -> None:
    """Compare predictions and losses; several outputs are dicts."""
    batches = run.batches("train")
    assert len(batches) == len(truth)
    for batch, true in zip(batches, truth, strict=True):
        expected, found = true["predictions"], batch.predictions
        if not isinstance(expected, dict):
            expected, found = {"": expected}, {"": found}
        assert set(found) == set(expected)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, atol=atol)
        assert batch.loss == pytest.approx(true["loss"], abs=atol)


def assert_classified(run: Any, phase: str = "train", y: Any = Y) -> None:
    """Compare what a classifier's batches say with their own predictions."""
    for batch in run.batches(phase):
        start = STARTS[batch.index] if phase == "train" else BATCH * batch.index
        np.testing.assert_array_equal(batch.targets.ravel(), y[start : start + batch.size])
        scores = batch.predictions[np.arange(batch.size), batch.targets.ravel()]
        np.testing.assert_allclose(batch.sample_loss, -np.log(scores), rtol=1e-3, atol=1e-5)
        accuracy = sklearn.metrics.accuracy_score(batch.targets.ravel(), batch.predictions.argmax(1))
        assert batch.metrics["accuracy"] == pytest.approx(accuracy, abs=1e-6)


def assert_as_found(model: Any) -> None:
    """Nothing of ours is left in any object of the model."""
    things = [model, *model._flatten_layers(), *model.metrics, model.optimizer, model._compile_loss]
    things += [flat.loss for flat in model._compile_loss._flat_losses or ()]
    for thing in things:
        found = [
            name
            for name, value in vars(thing).items()
            if "tb_batchview" in f"{getattr(value, '__module__', '')} {type(value).__module__}"
        ]
        assert found == [], thing


# --- what the loss saw ---


def make_regularised() -> Any:
    return keras.Sequential(
        [
            keras.Input((8,)),
            LAYERS.Dense(12, activation="relu", name="hidden", kernel_regularizer=keras.regularizers.L2(0.05)),
            LAYERS.Dropout(0.2, seed=SEED),
            LAYERS.Dense(4, activation="softmax", name="scores"),
        ]
    )


KINDS: dict[str, Any] = {
    "mlp": (make_regularised, (8,)),
    "convnet": (lambda: models.make_convnet(SEED), (8, 8, 3)),
    "transformer": (lambda: models.make_transformer(SEED), (6, 8)),
    "rnn": (lambda: models.make_rnn(SEED), (6, 8)),
}


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        pytest.param(kind, options, id=f"{kind}-{mode}")
        for kind in KINDS
        for mode, options in MODES.items()
        if mode == "default" or kind == "mlp"
    ],
)
def test_every_batch_is_what_the_loss_saw(kind: str, mode: dict[str, Any], tmp_path: Path):
    model, shape = KINDS[kind]
    x, y = draw(*shape), Y
    make = lambda: compiled(model(), metrics=["accuracy"], **mode)  # noqa: E731
    # Keras' recurrent dropout goes on otherwise after an evaluation.
    validation = (x[:BATCH], y[:BATCH]) if kind in ("mlp", "convnet") else None
    run = train_twice(make, feed(x, y, validation_data=validation), tmp_path)
    batches = run.batches("train")

    assert [(batch.epoch, batch.index, batch.size) for batch in batches] == [
        (epoch, index, size) for epoch in (0, 1) for index, size in enumerate(SIZES)
    ]
    assert_predictions(run, train_by_hand(make, crossentropy, x, y))
    assert_classified(run)
    assert run.layers
    if validation:
        assert_classified(run, "validation")
        assert [batch.size for batch in run.batches("validation")] == [BATCH] * 2


def test_a_ragged_end_of_several_steps_is_recorded_batch_by_batch(tmp_path: Path):
    options = {"steps_per_execution": 2} if JAX else {}
    x, y = np.tile(X, (3, 1))[:70], np.tile(Y, 3)[:70]
    run = train_twice(lambda: compiled(models.make_mlp(), **options), feed(x, y), tmp_path, histogram_freq=3)

    assert [batch.size for batch in run.batches("train")] == [16, 16, 16, 16, 6] * 2
    assert [batch.index for batch in run.batches("train")] == [0, 1, 2, 3, 4] * 2
    np.testing.assert_array_equal(np.concatenate([batch.targets.ravel() for batch in run.batches("train")[:5]]), y)
    assert run.layer("hidden").steps.tolist() == [0, 3, 6, 9]


METRICS: dict[str, Callable[[], Any]] = {
    "auc": lambda: keras.metrics.AUC(num_thresholds=20, name="auc"),
    "precision": lambda: keras.metrics.Precision(name="precision"),
    "recall": lambda: keras.metrics.Recall(name="recall"),
    "f1": lambda: keras.metrics.F1Score(average="macro", threshold=0.5, name="f1"),
    "iou": lambda: keras.metrics.OneHotMeanIoU(4, name="iou"),
}


def decode(content: Any) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_pictures_are_those_of_the_batch(mode: dict[str, Any], tmp_path: Path):
    pixels = np.random.default_rng(3).integers(0, 256, (SAMPLES, 9, 7, 3)).astype(np.uint8)
    first = {"picture": pixels.transpose(0, 3, 1, 2) / np.float32(255), "numbers": X}

    def make() -> Any:
        inputs = {"picture": keras.Input((3, 9, 7), name="picture"), "numbers": keras.Input((8,), name="numbers")}
        joined = LAYERS.Concatenate()([LAYERS.Flatten()(inputs["picture"]), inputs["numbers"]])
        return compiled(keras.Model(inputs, LAYERS.Dense(4, activation="softmax")(joined)), **mode)

    run = train_twice(make, feed(first, Y), tmp_path / "pictures", inputs="thumbnails")
    texts = train_twice(make, feed(first, Y), tmp_path / "texts", inputs=lambda x: [repr(row) for row in x["numbers"]])

    for batch, text in zip(run.batches("train"), texts.batches("train"), strict=True):
        start = batch.index * BATCH
        for row, content in enumerate(batch.inputs):
            np.testing.assert_array_equal(decode(content), pixels[start + row])
            assert text.inputs[row] == repr(X[start + row])


@pytest.mark.parametrize("mode", [mode for name, mode in MODES.items() if name != "three steps"])
def test_metrics_with_a_state_have_the_value_of_the_batch_alone(mode: dict[str, Any], tmp_path: Path):
    make = lambda: compiled(  # noqa: E731
        dense(4, activation="softmax"), "categorical_crossentropy", metrics=[new() for new in METRICS.values()], **mode
    )
    run = train_twice(make, feed(X, ONE_HOT, validation_split=0.5), tmp_path)

    for batch in [*run.batches("train"), *run.batches("validation")]:
        assert set(batch.metrics) == set(METRICS)
        for name, new in METRICS.items():
            metric = new()
            metric.update_state(batch.targets, batch.predictions)
            assert batch.metrics[name] == pytest.approx(float(metric.result()), abs=1e-6), name
        chosen, true = batch.predictions > 0.5, batch.targets > 0.5
        options: dict[str, Any] = {"average": "macro", "zero_division": 0}
        assert batch.metrics["f1"] == pytest.approx(sklearn.metrics.f1_score(true, chosen, **options), abs=1e-5)
        options["average"] = "micro"
        assert batch.metrics["recall"] == pytest.approx(sklearn.metrics.recall_score(true, chosen, **options), abs=1e-5)


@pytest.mark.parametrize("kind", ["class", "sample"])
def test_weights_of_samples_are_recorded_and_weigh_the_loss(kind: str, tmp_path: Path):
    weights = np.linspace(0.1, 3, SAMPLES).astype("float32")
    options: dict[str, Any] = {"sample_weight": weights}
    if kind == "class":
        options = {"class_weight": {0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0}}
        weights = (Y + 1.0).astype("float32")
    top = keras.metrics.SparseTopKCategoricalAccuracy
    make = lambda: compiled(models.make_mlp(), metrics=["accuracy"], weighted_metrics=[top(2)])  # noqa: E731
    run = train_twice(make, feed(X, Y, validation_data=(X[:8], Y[:8]), **options), tmp_path)

    assert_classified(run)
    assert all(batch.sample_weight is None for batch in run.batches("validation"))
    for start, batch in zip(STARTS, run.batches("train"), strict=False):
        weight = weights[start : start + BATCH]
        np.testing.assert_allclose(batch.sample_weight, weight, rtol=1e-6)
        assert batch.loss == pytest.approx((weight * batch.sample_loss).mean(), rel=1e-4)


def make_heads(form: str) -> Any:
    inputs = keras.Input((8,))
    kind = LAYERS.Dense(4, activation="softmax", name="kind")(inputs)
    size = LAYERS.Dense(1, name="size")(inputs)
    return keras.Model(inputs, {"kind": kind, "size": size} if form == "dict" else [kind, size])


@pytest.mark.parametrize("form", ["dict", "list"])
def test_several_outputs_are_each_recorded_with_their_targets(form: str, tmp_path: Path):
    loss: Any = {"kind": SPARSE, "size": "mse"} if form == "dict" else [SPARSE, "mse"]
    y: Any = {"kind": Y, "size": SIZE} if form == "dict" else [Y, SIZE]

    def total(targets: Any, predictions: Any) -> Any:
        (kind, size), (first, second) = keras.tree.flatten(targets), keras.tree.flatten(predictions)
        return crossentropy(kind, first) + 0.25 * ops.mean(ops.square(second - size))

    weights = {"kind": 1.0, "size": 0.25} if form == "dict" else [1.0, 0.25]
    make = lambda: compiled(make_heads(form), loss, loss_weights=weights)  # noqa: E731
    run = train_twice(make, feed(X, y), tmp_path)
    truth = train_by_hand(make, total, X, y)
    for true in truth:
        if form == "list":
            true["predictions"] = dict(zip(("kind", "size"), true["predictions"], strict=True))

    assert_predictions(run, truth)
    assert {name: spec.task for name, spec in run.outputs.items()} == {"kind": "multiclass", "size": "regression"}
    for start, batch in zip(STARTS, run.batches("train"), strict=False):
        np.testing.assert_array_equal(batch.targets["kind"].ravel(), Y[start : start + BATCH])
        np.testing.assert_array_equal(batch.targets["size"], SIZE[start : start + BATCH])
        square = np.square(batch.predictions["size"] - batch.targets["size"])[:, 0]
        np.testing.assert_allclose(batch.sample_loss["size"], square, rtol=1e-4, atol=1e-6)


LABELS = (draw(4, seed=2) > 0).astype("float32")
FORMS = {
    "regression": (1, None, lambda: keras.losses.MeanSquaredError(), SIZE, "regression"),
    "binary logits": (1, None, lambda: keras.losses.BinaryCrossentropy(from_logits=True), LABELS[:, :1], "binary"),
    "multilabel": (4, "sigmoid", lambda: keras.losses.BinaryCrossentropy(), LABELS, "multilabel"),
    "one-hot": (4, None, lambda: keras.losses.CategoricalCrossentropy(from_logits=True), ONE_HOT, "multiclass"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_target_is_recorded_as_given_with_its_loss(form: str, tmp_path: Path):
    units, activation, loss, targets, task = FORMS[form]
    make = lambda: compiled(dense(units, activation=activation), loss())  # noqa: E731
    run = train_twice(make, feed(X, targets), tmp_path)

    assert_predictions(run, train_by_hand(make, lambda y, p: loss()(y, p), X, targets))
    assert run.outputs["head"].task == task
    for start, batch in zip(STARTS, run.batches("train"), strict=False):
        np.testing.assert_array_equal(batch.targets, targets[start : start + BATCH])
        one_by_one = [
            float(loss()(batch.targets[place : place + 1], batch.predictions[place : place + 1]))
            for place in range(batch.size)
        ]
        np.testing.assert_allclose(batch.sample_loss, one_by_one, rtol=1e-4, atol=1e-6)


def test_masked_tokens_do_not_count_in_the_loss_of_a_sample(tmp_path: Path):
    words = np.random.default_rng(3).integers(1, 9, (SAMPLES, 6))
    words[:, 4:] = 0
    words[::2, 2:] = 0
    y = np.random.default_rng(4).integers(0, 4, (SAMPLES, 6))
    make = lambda: compiled(  # noqa: E731
        keras.Sequential(
            [
                keras.Input((6,)),
                LAYERS.Embedding(9, 4, mask_zero=True),
                LAYERS.LSTM(4, return_sequences=True),
                LAYERS.Dense(4, activation="softmax"),
            ]
        )
    )
    run = train_twice(make, feed(words, y), tmp_path)

    for start, batch in zip(STARTS, run.batches("train"), strict=False):
        kept = words[start : start + BATCH] != 0
        losses = -np.log(np.take_along_axis(batch.predictions, batch.targets[..., np.newaxis], -1)[..., 0])
        np.testing.assert_allclose(batch.sample_loss, (losses * kept).sum(1) / kept.sum(1), rtol=1e-3)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_is_recorded_as_the_loss_saw_it(policy: str, tmp_path: Path):
    def make() -> Any:
        keras.mixed_precision.set_global_policy(policy)
        try:
            # Keras wraps the optimizer in one that scales the loss for float16.
            return compiled(models.make_mlp(), metrics=["accuracy"])
        finally:
            keras.mixed_precision.set_global_policy("float32")

    run = train_twice(make, feed(X, Y), tmp_path)
    batches = run.batches("train")

    if policy == "mixed_bfloat16":
        truth = train_by_hand(make, crossentropy, X, Y)
        for batch, true in zip(batches, truth, strict=True):
            np.testing.assert_allclose(batch.predictions, true["predictions"], atol=2e-2)
    for batch in batches:
        score = batch.predictions.astype("float64")[np.arange(batch.size), batch.targets.ravel()]
        np.testing.assert_allclose(batch.sample_loss, -np.log(score), rtol=2e-2)
        assert batch.loss == pytest.approx(batch.sample_loss.mean(), rel=2e-3)
    assert set(run.layers) == {"hidden", "scores"}


OPTIMIZERS = {
    "accumulated": lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=2),
    "averaged": lambda: keras.optimizers.SGD(0.05, momentum=0.9, use_ema=True, ema_overwrite_frequency=2),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01), dynamic_growth_steps=2),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizers_of_every_kind_train_the_same(optimizer: str, tmp_path: Path):
    make = lambda: compiled(models.make_mlp(dropout=0.2), optimizer=OPTIMIZERS[optimizer](), metrics=["accuracy"])  # noqa: E731
    run = train_twice(make, feed(X, Y), tmp_path)

    assert_classified(run)
    for batch in run.batches("train"):
        assert batch.loss == pytest.approx(batch.sample_loss.mean(), rel=1e-4)


# --- layers ---


def test_the_figures_of_a_layer_are_those_of_its_outputs(tmp_path: Path):
    make = lambda: compiled(make_regularised(), optimizer=keras.optimizers.SGD(0.1))  # noqa: E731
    run = train_twice(make, feed(X, Y), tmp_path, histogram_freq=2)
    truth = train_by_hand(make, crossentropy, X, Y)
    layer = run.layer("hidden")

    assert layer.steps.tolist() == [0, 2]
    assert run.layers == ("hidden", "scores")
    for place, step in enumerate(layer.steps.tolist()):
        kernel, bias = truth[step]["weights"][:2]
        start = STARTS[step % 2]
        outputs = np.maximum(X[start : start + BATCH] @ kernel + bias, 0)
        assert layer.mean[place] == pytest.approx(outputs.mean(), abs=1e-5)
        assert layer.std[place] == pytest.approx(outputs.std(), abs=1e-5)
        assert layer.zero_fraction[place] == pytest.approx((outputs == 0).mean(), abs=1e-6)
        np.testing.assert_allclose(layer.unit_means[place], outputs.mean(0), atol=1e-5)
        counts, _ = np.histogram(outputs, bins=30, range=(outputs.min(), outputs.max()))
        assert np.abs(np.asarray(layer.histograms[place]) - counts).sum() <= 4  # On the border of two bins.


def test_units_are_those_of_the_outputs(tmp_path: Path):
    make = lambda: compiled(  # noqa: E731
        keras.Sequential(
            [
                keras.Input((8,)),
                LAYERS.Dense(12, activation="relu", name="hidden"),
                LAYERS.Dense(6, activation="tanh", name="bent", bias_initializer="ones"),
                LAYERS.Dense(4, activation="softmax", name="scores"),
            ]
        )
    )
    run = train_twice(make, feed(X, Y, epochs=1), tmp_path, histogram_freq=1)
    keras.utils.set_random_seed(7)
    model = make()
    hidden = model.layers[0](X[:16])
    bent = ops.convert_to_numpy(model.layers[1](hidden))
    hidden = ops.convert_to_numpy(hidden)

    np.testing.assert_allclose(run.layer("hidden").unit_zeros[0], (hidden == 0).mean(0), atol=1e-6)
    np.testing.assert_allclose(run.layer("bent").unit_saturated[0], (np.abs(bent) >= 0.98).mean(0), atol=1e-6)
    assert run.layer("hidden").unit_saturated.shape[1] == 0


def differentiate(model: Any, x: Any, y: Any) -> list[np.ndarray]:
    """Return the gradients of the mean crossentropy by the weights."""
    if JAX:
        values = [variable.value for variable in model.trainable_variables]
        rest = [variable.value for variable in model.non_trainable_variables]
        loss = lambda values: crossentropy(y, model.stateless_call(values, rest, x, training=True)[0])  # noqa: E731
        return [np.asarray(one) for one in jax.grad(loss)(values)]
    model.zero_grad()
    crossentropy(ops.convert_to_tensor(y), model(x, training=True)).backward()
    return [ops.convert_to_numpy(variable.value.grad).copy() for variable in model.trainable_variables]


GRADED: dict[str, Callable[[], Any]] = {
    "plain": lambda: keras.optimizers.Adam(0.01),
    "clipped": lambda: keras.optimizers.SGD(0.1, momentum=0.9, clipnorm=0.01),
    "accumulated": lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=2),
    "scaled": lambda: keras.optimizers.Adam(0.01, loss_scale_factor=1024.0),
    "scaled dynamically": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(0.01), initial_scale=2.0**10, dynamic_growth_steps=2
    ),
}


@pytest.mark.parametrize(
    ("optimizer", "mode"),
    [
        pytest.param(optimizer, options, id=f"{optimizer}-{mode}")
        for optimizer in GRADED
        for mode, options in MODES.items()
        if mode == "default" or optimizer == "plain"
    ],
)
def test_gradients_are_those_of_the_loss(optimizer: str, mode: dict[str, Any], tmp_path: Path):
    weights: list[list[np.ndarray]] = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            # JAX has the values elsewhere while it trains.
            if JAX:
                self.model.jax_state_sync()
            weights.append([np.array(weight) for weight in self.model.get_weights()])

    make = lambda: compiled(models.make_mlp(), optimizer=GRADED[optimizer](), **mode)  # noqa: E731
    run = train_twice(make, feed(X, Y), tmp_path, gradients=True, histogram_freq=1)
    model = make()
    weights.append(model.get_weights())
    feed(X, Y)(make(), [Watch()])
    several = bool(mode.get("steps_per_execution"))
    assert run.gradient_layers == ("hidden", "scores")
    assert run.gradients("hidden").steps.tolist() == [0, 1, 2, 3]
    for step in (0,) if several else range(4):
        model.set_weights(weights[step])
        start = STARTS[step % 2]
        found = differentiate(model, X[start : start + 16], Y[start : start + 16])
        for name, parts in (("hidden", found[:2]), ("scores", found[2:])):
            flat = np.concatenate([part.ravel() for part in parts])
            summary = run.batches("train")[step].gradients[name]
            assert summary.norm == pytest.approx(np.linalg.norm(flat), rel=1e-5)
            assert (summary.mean, summary.std) == pytest.approx((flat.mean(), flat.std()), rel=1e-4, abs=1e-7)
            assert summary.histogram.sum() == summary.count == flat.size


@pytest.mark.parametrize("kind", ["convnet", "rnn"])
def test_models_of_every_shape_train_the_same_with_gradients(kind: str, tmp_path: Path):
    model, shape = KINDS[kind]
    run = train_twice(lambda: compiled(model()), feed(draw(*shape), Y), tmp_path, gradients=True, histogram_freq=1)
    assert run.gradient_layers
    for name in run.gradient_layers:
        assert (run.gradients(name).norm > 0).all()


def test_outputs_that_are_not_finite_are_counted(tmp_path: Path):
    x = X.copy()
    x[0, 0] = np.nan
    model = compiled(dense(1), "mse")
    model.fit(
        x,
        SIZE,
        batch_size=BATCH,
        epochs=1,
        shuffle=False,
        verbose=0,
        callbacks=[BatchViewCallback(tmp_path, histogram_freq=1)],
    )
    run = load(tmp_path)["."]

    assert np.isnan(run.batches("train")[0].loss)
    assert run.batches("train")[0].layers["head"].nonfinite == 1


SHAPES: dict[str, Any] = {
    "looped": (Looped, X, {"again", "again#1", "again#2", "head"}),
    "lazy": (Lazy, X, {"hidden", "head"}),
    "nested": (make_nested, X, {"shared", "shared#1", "head"}),
    "recurrent": (make_recurrent, draw(5, 8), {"head"}),
    "dict inputs": (make_two_inputs, {"left": X, "right": X[::-1].copy()}, {"head"}),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_models_of_every_shape_are_recorded_and_train_the_same(kind: str, tmp_path: Path):
    make, x, layers = SHAPES[kind]
    run = train_twice(lambda: compiled(make(), metrics=["accuracy"]), feed(x, Y), tmp_path)

    assert [batch.size for batch in run.batches("train")] == SIZES * 2
    assert layers <= {name.split("/")[-1] for name in run.layers}
    assert_classified(run)


# --- what the user tags ---

ROWS = draw(5, 3)


class Telling(keras.Model):
    """Tags the loss that a step reports."""

    def train_step(self, *arguments: Any) -> Any:
        result = super().train_step(*arguments)
        tag("reported", (result[0] if JAX else result)["loss"])
        return result


def make_attentive(kind: type[Any] = Telling) -> Any:
    inputs = keras.Input(ROWS.shape[1:])
    hidden = LAYERS.Flatten()(Attention(name="attend")(inputs))
    return kind(inputs, LAYERS.Dense(4, activation="softmax", name="head")(hidden))


@pytest.mark.parametrize("mode", [mode for name, mode in MODES.items() if name != "three steps"])
def test_what_is_tagged_in_a_layer_and_a_step_is_recorded(mode: dict[str, Any], tmp_path: Path):
    make = lambda: compiled(make_attentive(), **mode)  # noqa: E731
    # JAX is slow where it does not compile.
    steps = [0] if mode is EAGER else [0, 2]
    run = train_twice(make, feed(ROWS, Y, epochs=len(steps)), tmp_path, histogram_freq=2)
    truth = train_by_hand(make, crossentropy, ROWS, Y)
    layer = run.layer("attention")

    assert set(run.layers) == {"attention", "reported", "head"}
    assert layer.steps.tolist() == steps
    for place, step in enumerate(steps):
        values = attend(ROWS[:BATCH], truth[step]["weights"][0])
        assert (layer.mean[place], layer.std[place]) == pytest.approx((values.mean(), values.std()), rel=1e-4)
        np.testing.assert_allclose(layer.unit_means[place], values.reshape(-1, 5).mean(0), rtol=1e-4)
        # That of the epoch so far is that of its first batch.
        assert run.layer("reported").mean[place] == pytest.approx(run.batches("train")[step].loss, rel=1e-5)


class Careless(keras.layers.Layer):
    """Tags what cannot be recorded, and what is changed afterwards."""

    def call(self, inputs: Any) -> Any:
        doubled = 2 * inputs
        if JAX:
            import jax

            for name, wrap in (("jit", jax.jit), ("map", jax.vmap), ("checkpoint", jax.checkpoint)):
                doubled = wrap(lambda x, name=name: tag(name, x))(doubled)
        tag("doubled", doubled)
        tag("number", 0.5)
        tag("", doubled)
        if not JAX and not doubled.is_meta:
            doubled.mul_(3)
        return doubled


def test_what_cannot_be_tagged_is_warned_of_and_what_is_changed_later_is_as_it_was(tmp_path: Path):
    make = lambda: compiled(  # noqa: E731
        keras.Sequential([keras.Input((8,)), Careless(), LAYERS.Dense(4, activation="softmax", name="head")])
    )
    with pytest.warns(BatchViewWarning) as caught:
        run = train_twice(make, feed(X, Y), tmp_path)

    lost = [
        "What is tagged inside a loop, a branch or a compiled function of the step's own cannot leave it and is not "
        "recorded: checkpoint, jit, map. Tag what is returned from it."
    ]
    assert messages(caught) == [
        "The name of a tag must be a printable str of 1 to 1000. Received: name=''.",
        "What is tagged 'number' must be a dense tensor, and is not recorded. Received: float. Tag what "
        "keras.ops.convert_to_tensor makes of it.",
        *(lost if JAX else []),
    ]
    assert set(run.layers) == {"doubled", "head"}
    np.testing.assert_allclose(run.layer("doubled").unit_means[0], 2 * X[:BATCH].mean(0), rtol=1e-4, atol=1e-6)


# --- steps, losses and metrics of one's own ---


class Gathering(keras.metrics.Metric):
    """Keeps its state where Keras does not see it."""

    def __init__(self) -> None:
        super().__init__(name="gathered")
        self.state: list[Any] = []

    def update_state(self, y: Any, p: Any, sample_weight: Any = None) -> None:
        self.state.append(float(ops.convert_to_numpy(ops.sum(ops.abs(y - p)))))

    def result(self) -> Any:
        return ops.convert_to_tensor(sum(self.state), "float32")


@only_torch  # On JAX Keras itself cannot use it.
def test_a_metric_whose_state_keras_does_not_see_is_warned_of_and_left_alone(tmp_path: Path):
    make = lambda: compiled(dense(1), "mse", metrics=[Gathering()], **EAGER)  # noqa: E731
    with pytest.warns(BatchViewWarning) as caught:
        run = train_twice(make, feed(X, SIZE), tmp_path)

    assert len(messages(caught)) == 1
    assert "'gathered' has no value of its own for a batch: it keeps its state in state" in messages(caught)[0]
    assert run.batches("train")[0].metrics == {}


class Adversaries(keras.Model):
    """Two models against each other; nobody ever calls this one."""

    def __init__(self) -> None:
        super().__init__()
        self.maker = dense(8)
        self.judge = dense(1)
        self.judged = keras.metrics.Mean(name="gap")

    def call(self, inputs: Any) -> Any:
        return self.judge(self.maker(inputs))  # Keras builds with it.

    def gap(self, real: Any) -> Any:
        return ops.mean(self.judge(self.maker(real))) - ops.mean(self.judge(real))


class JaxAdversaries(Adversaries):
    def train_step(self, state: Any, data: Any) -> Any:
        import jax

        trained, fixed, optimizer, measured = state

        def compute(trained: Any) -> Any:
            pairs = zip(self.trainable_variables, trained, strict=True)
            with keras.StatelessScope(state_mapping=list(pairs)):
                return self.gap(data)

        gap, gradients = jax.value_and_grad(compute)(trained)
        trained, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trained)
        place = next(at for at, metric in enumerate(self.metrics) if metric is self.judged)
        first = sum(len(metric.variables) for metric in self.metrics[:place])
        after = self.judged.stateless_update_state(measured[first : first + 2], gap)
        measured = [*measured[:first], *after, *measured[first + 2 :]]
        return {"gap": self.judged.stateless_result(after)}, (trained, fixed, optimizer, measured)


class TorchAdversaries(Adversaries):
    def train_step(self, data: Any) -> Any:
        import torch

        self.zero_grad()
        gap = self.gap(data)
        gap.backward()
        trained = self.trainable_variables[:]
        with torch.no_grad():
            self.optimizer.apply([variable.value.grad for variable in trained], trained)
        self.judged.update_state(gap)
        return {"gap": self.judged.result()}


def test_two_models_against_each_other_have_sizes_metrics_and_layers(tmp_path: Path):
    kind = JaxAdversaries if JAX else TorchAdversaries
    make = lambda: compiled(kind(), None)  # noqa: E731
    run = train_twice(make, feed(X), tmp_path)

    assert [batch.size for batch in run.batches("train")] == SIZES * 2
    assert {"head", "head#1"} <= {name.split("/")[-1] for name in run.layers} or len(run.layers) >= 2
    assert all("gap" in batch.metrics for batch in run.batches("train"))


class TorchStep(keras.Model):
    """A step in the style of Keras' guide for PyTorch, without `compute_loss`."""

    def train_step(self, data: Any) -> Any:
        import torch

        x, y = data
        self.zero_grad()
        predictions = self(x, training=True)
        loss = ops.mean(keras.losses.sparse_categorical_crossentropy(y, predictions))
        loss.backward()
        trained = self.trainable_variables[:]
        with torch.no_grad():
            self.optimizer.apply([variable.value.grad for variable in trained], trained)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
            else:
                metric.update_state(y, predictions)
        return {metric.name: metric.result() for metric in self.metrics}


def subclassed(kind: type[Any]) -> Any:
    inputs = keras.Input((8,))
    hidden = LAYERS.Dropout(0.2, seed=SEED)(LAYERS.Dense(12, activation="relu", name="hidden")(inputs))
    return kind(inputs, LAYERS.Dense(4, activation="softmax", name="scores")(hidden))


@only_torch
def test_a_step_of_ones_own_on_torch_is_recorded(tmp_path: Path):
    make = lambda: compiled(subclassed(TorchStep), metrics=["accuracy"])  # noqa: E731
    run = train_twice(make, feed(X, Y), tmp_path)
    truth = train_by_hand(make, crossentropy, X, Y)

    for batch, true in zip(run.batches("train"), truth, strict=True):
        np.testing.assert_allclose(batch.predictions, true["predictions"], atol=1e-5)
        assert set(batch.metrics) == {"accuracy"}
    assert run.layers == ("hidden", "scores")


class JaxStep(keras.Model):
    """A step in the style of Keras' guide for JAX; the kind of gradient varies."""

    differentiate = "attribute"

    def compute_loss_and_updates(self, trained: Any, fixed: Any, x: Any, y: Any, training: bool = False) -> Any:
        predictions, fixed = self.stateless_call(trained, fixed, x, training=training)
        return self.compute_loss(x, y, predictions), (predictions, fixed)

    def gradient(self) -> Any:
        import jax

        if self.differentiate == "imported":
            from jax import value_and_grad

            return IMPORTED[0](self.compute_loss_and_updates, has_aux=True) if IMPORTED else value_and_grad
        if self.differentiate == "compiled":
            return jax.jit(
                jax.value_and_grad(self.compute_loss_and_updates, has_aux=True), static_argnames=("training",)
            )
        if self.differentiate == "by grad":

            def flat(*args: Any, **options: Any) -> Any:
                loss, (predictions, fixed) = self.compute_loss_and_updates(*args, **options)
                return loss, (loss, predictions, fixed)

            def both(*args: Any, **options: Any) -> Any:
                gradients, (loss, predictions, fixed) = jax.grad(flat, 0, True)(*args, **options)
                return (loss, (predictions, fixed)), gradients

            return both
        return jax.value_and_grad(self.compute_loss_and_updates, 0, True)

    def train_step(self, state: Any, data: Any) -> Any:
        trained, fixed, optimizer, measured = state
        x, y = data
        (loss, (predictions, fixed)), gradients = self.gradient()(trained, fixed, x, y, training=True)
        trained, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trained)
        logs, after = {}, []
        for metric in self.metrics:
            before = measured[len(after) : len(after) + len(metric.variables)]
            given = (loss,) if metric.name == "loss" else (y, predictions)
            before = metric.stateless_update_state(before, *given)
            logs[metric.name] = metric.stateless_result(before)
            after += before
        return logs, (trained, fixed, optimizer, after)


IMPORTED: list[Any] = []


@only_jax
@pytest.mark.parametrize("mode", [mode for name, mode in MODES.items() if name != "three steps"])
@pytest.mark.parametrize("differentiate", ["attribute", "by grad"])
def test_a_step_of_ones_own_on_jax_is_recorded(differentiate: str, mode: dict[str, Any], tmp_path: Path):
    def make() -> Any:
        model = subclassed(JaxStep)
        model.differentiate = differentiate
        return compiled(model, metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")], **mode)

    run = train_twice(make, feed(X, Y), tmp_path)

    assert_predictions(run, train_by_hand(make, crossentropy, X, Y))
    assert_classified(run)
    assert run.layers == ("hidden", "scores")


@only_jax
@pytest.mark.parametrize("mode", [mode for name, mode in MODES.items() if name != "three steps"])
@pytest.mark.parametrize("differentiate", ["imported", "compiled"])
def test_what_a_gradient_out_of_sight_hides_is_warned_of_and_left_out(
    differentiate: str, mode: dict[str, Any], tmp_path: Path
):
    import jax

    IMPORTED[:] = [jax.value_and_grad]  # As `from jax import value_and_grad` at the top of a file.

    def make() -> Any:
        model = subclassed(JaxStep)
        model.differentiate = differentiate
        return compiled(model, metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")], **mode)

    with pytest.warns(BatchViewWarning) as caught:
        run = train_twice(make, feed(X, Y), tmp_path)

    assert any("from jax import value_and_grad" in message for message in messages(caught))
    assert [batch.size for batch in run.batches("train")] == SIZES * 2
    assert all(set(batch.metrics) >= {"accuracy"} for batch in run.batches("train"))
    assert run.outputs == {}
    assert run.layers == ()


def squash(x: Any) -> Any:
    return ops.tanh(x) * 1.5


class Nested(keras.layers.Layer):
    """Transforms a layer of its own, in one of JAX's ways."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.inner = LAYERS.Dense(8, activation="tanh", name="inner")

    def build(self, shape: Any) -> None:
        self.inner.build(shape)

    def call(self, inputs: Any) -> Any:
        import jax

        energy = lambda x: ops.sum(ops.square(self.inner(x)))  # noqa: E731
        if self.way == "grad":
            return self.inner(inputs) + jax.grad(energy)(inputs)
        if self.way == "value_and_grad":
            value, gradient = jax.value_and_grad(energy)(inputs)
            return gradient + 0.01 * value
        if self.way == "vmap of grad":
            return jax.vmap(jax.grad(lambda row: energy(row[None])))(inputs)
        if self.way == "vmap":
            return jax.vmap(lambda row: self.inner(row[None])[0])(inputs)
        if self.way == "checkpoint":
            return jax.checkpoint(lambda x: self.inner(x))(inputs)
        if self.way == "jit":
            return jax.jit(lambda x: self.inner(x) + jax.grad(energy)(x))(inputs)
        if self.way == "scan":
            step = lambda carry, _: (carry + jax.grad(energy)(carry), None)  # noqa: E731
            return jax.lax.scan(step, inputs, None, length=2)[0]
        if self.way == "closed over in scan":
            step = lambda carry, _: (carry + jax.grad(lambda w: w * 2.0)(1.0) * self.inner(carry), None)  # noqa: E731
            return jax.lax.scan(step, inputs, None, length=2)[0]
        if self.way == "cond":
            return jax.lax.cond(ops.sum(inputs) > 0, lambda x: self.inner(x), lambda x: -self.inner(x), inputs)
        if self.way == "jacobian":
            return jax.vmap(jax.jacfwd(lambda row: self.inner(row[None])[0]))(inputs)[:, 0]
        assert self.way == "custom_vjp"
        function = jax.custom_vjp(squash)
        function.defvjp(lambda x: (squash(x), x), lambda x, g: (g * (1 - ops.square(ops.tanh(x))),))
        return function(self.inner(inputs))


WAYS = ["grad", "value_and_grad", "vmap of grad", "vmap", "checkpoint", "jit", "scan", "closed over in scan", "cond"]


@only_jax
@pytest.mark.filterwarnings("ignore:.*Layers that run inside:tb_batchview.errors.BatchViewWarning")
@pytest.mark.parametrize("mode", ["default", "eager"])
@pytest.mark.parametrize("way", [*WAYS, "jacobian", "custom_vjp"])
def test_transformations_inside_a_layer_stay_what_they_are(way: str, mode: str, tmp_path: Path):
    if mode == "eager" and way not in ("grad", "scan", "vmap of grad"):
        pytest.skip("of a compiled step")
    make = lambda: compiled(  # noqa: E731
        keras.Sequential([keras.Input((8,)), Nested(way), LAYERS.Dense(4, activation="softmax", name="scores")]),
        metrics=["accuracy"],
        **MODES[mode],
    )
    run = train_twice(make, feed(X, Y), tmp_path, layers=["nested*/inner", "inner", "scores"])

    assert_predictions(run, train_by_hand(make, crossentropy, X, Y))
    assert_classified(run)
    assert "scores" in run.layers


class Penalised(keras.Model):
    """Adds the gradient of its output by its input to the loss."""

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        import jax

        slope = jax.grad(lambda inputs: ops.sum(self(inputs, training=False)))(x)
        return super().compute_loss(x, y, y_pred, sample_weight) + ops.mean(ops.square(slope))


@only_jax
def test_a_penalty_on_gradients_is_in_the_loss_and_the_first_call_is_recorded(tmp_path: Path):
    def make() -> Any:
        inputs = keras.Input((8,))
        hidden = LAYERS.Dense(6, activation="tanh", name="hidden")(inputs)
        return compiled(Penalised(inputs, LAYERS.Dense(1, name="head")(hidden)), "mse")

    run = train_twice(make, feed(X, SIZE), tmp_path)
    for batch in run.batches("train"):
        square = np.square(batch.predictions - batch.targets)[:, 0]
        np.testing.assert_allclose(batch.sample_loss, square, rtol=1e-3, atol=1e-5)
        assert batch.loss > square.mean()
    assert {"hidden", "head"} <= set(run.layers)


# --- one fit after another, errors, and what comes after ---


@pytest.mark.parametrize("again", ["same", "other", "compiled"])
def test_fits_with_and_without_the_callback_follow_each_other(again: str, tmp_path: Path):
    fit = feed(X, Y, validation_split=0.5)

    def fit_all(model: Any, callbacks: list[Any]) -> Any:
        history = [fit(model, callbacks), fit(model, [])]
        assert_as_found(model)
        if again == "compiled":
            compiled(model, metrics=["accuracy"])
        elif again == "other" and callbacks:
            callbacks = [BatchViewCallback(tmp_path, histogram_freq=1)]
        return [*history, fit(model, callbacks)]

    run = train_twice(classifier, fit_all, tmp_path)
    assert [batch.size for batch in run.batches("train")] == [16] * 4
    assert [batch.size for batch in run.batches("validation")] == [16] * 4
    assert_classified(run)


def test_two_callbacks_record_the_same_each_with_its_layers(tmp_path: Path):
    def fit(model: Any, callbacks: list[Any]) -> Any:
        more = [BatchViewCallback(tmp_path / "second", layers=["scores"], histogram_freq=3)] if callbacks else []
        history = feed(X, Y)(model, [*callbacks, *more])
        assert_as_found(model)
        return history

    first = train_twice(classifier, fit, tmp_path / "first")
    second = load(tmp_path)["second"]
    assert (first.layers, second.layers) == (("hidden", "scores"), ("scores",))
    assert first.layer("scores").steps.tolist() == [0, 2]
    assert second.layer("scores").steps.tolist() == [0, 3]
    for one, other in zip(first.batches("train"), second.batches("train"), strict=True):
        np.testing.assert_array_equal(one.predictions, other.predictions)
        assert one.loss == other.loss


@pytest.mark.parametrize(
    "moment", ["on_train_begin", "on_train_batch_begin", "on_train_batch_end", "on_test_batch_end", "on_epoch_end"]
)
def test_an_error_at_any_moment_leaves_the_model_training_as_before(moment: str, tmp_path: Path):
    def stop(model: Any) -> None:
        raise RuntimeError("on purpose")

    def fit(model: Any, callbacks: list[Any]) -> Any:
        with pytest.raises(RuntimeError, match="on purpose"):
            feed(X, Y, validation_split=0.5)(model, [*callbacks, Act(moment, stop, at=0)])
        history = feed(X, Y, validation_split=0.5)(model, [])
        assert_as_found(model)
        return history

    train_twice(classifier, fit, tmp_path)
    assert_no_thread()


class Fuse(keras.layers.Layer):
    burn: Any = None

    def call(self, inputs: Any) -> Any:
        if self.burn is not None:
            raise self.burn
        return inputs * 1.0


def light(model: Any, burn: Any) -> None:
    model.layers[0].burn = burn


def make_fused(mode: dict[str, Any]) -> Any:
    return compiled(keras.Sequential([keras.Input((8,)), Fuse(), LAYERS.Dense(4, activation="softmax")]), **mode)


@pytest.mark.parametrize("burn", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interrupt_inside_a_step_leaves_the_model_training_as_before(burn: Any, tmp_path: Path):
    def fit(model: Any, callbacks: list[Any]) -> Any:
        with pytest.raises(burn):
            feed(X, Y)(model, [*callbacks, Act("on_train_batch_begin", lambda model: light(model, burn))])
        for layer in model.layers:
            assert not any("tb_batchview" in str(getattr(value, "__module__", "")) for value in vars(layer).values())
        model.layers[0].burn = None
        history = feed(X, Y)(model, [])
        assert_as_found(model)
        return history

    train_twice(lambda: make_fused(EAGER), fit, tmp_path)
    assert_no_thread()


@only_jax  # Keras itself cannot go on after an error in the first step: it holds the only weights.
@pytest.mark.parametrize("burn", [KeyboardInterrupt, ZeroDivisionError])
def test_an_error_while_a_step_is_traced_leaves_nothing_behind(burn: Any, tmp_path: Path):
    model = make_fused(DEFAULT)
    with pytest.raises(burn):
        feed(X, Y)(model, [BatchViewCallback(tmp_path), Act("on_train_begin", lambda model: light(model, burn), at=0)])
    for layer in model.layers:
        assert not any("tb_batchview" in str(getattr(value, "__module__", "")) for value in vars(layer).values())
    assert_no_thread()


def test_evaluate_and_predict_alone_are_recorded(tmp_path: Path):
    model = classifier()
    callback = BatchViewCallback(tmp_path, record=("validation", "predict"))
    model.evaluate(X, Y, batch_size=BATCH, verbose=0, callbacks=[callback])
    found = model.predict(X, batch_size=BATCH, verbose=0, callbacks=[callback])
    run = load(tmp_path)["."]

    assert run.phases == ("validation", "predict")
    for phase in run.phases:
        recorded = np.concatenate([batch.predictions for batch in run.batches(phase)])
        np.testing.assert_allclose(recorded, found, atol=1e-6)
    assert_classified(run, "validation")
    assert_as_found(model)


def test_a_loop_of_train_on_batch_is_recorded_by_the_hooks(tmp_path: Path):
    def fit(model: Any, callbacks: list[Any]) -> Any:
        together = keras.callbacks.CallbackList(callbacks, model=model)
        together.on_train_begin()
        logs = []
        for number, start in enumerate(STARTS):
            together.on_train_batch_begin(number)
            logs.append(model.train_on_batch(X[start : start + BATCH], Y[start : start + BATCH]))
            together.on_train_batch_end(number)
        together.on_train_end()
        return [[float(value) for value in values] for values in logs]

    run = train_twice(classifier, fit, tmp_path)
    assert [batch.size for batch in run.batches("train")] == SIZES
    assert_classified(run)


def test_a_model_is_saved_during_and_after_training_as_without(tmp_path: Path):
    def fit(model: Any, callbacks: list[Any]) -> Any:
        place = tmp_path / ("with.keras" if callbacks else "without.keras")
        history = feed(X, Y)(model, [*callbacks, keras.callbacks.ModelCheckpoint(place, save_freq=2)])
        during = keras.models.load_model(place).predict(X, verbose=0)
        model.save(place)
        again = keras.models.load_model(place)
        return history, during.tolist(), again.predict(X, verbose=0).tolist(), feed(X, Y)(again, [])

    train_twice(classifier, fit, tmp_path / "run")


@pytest.mark.parametrize("interrupted", [False, True])
def test_nothing_is_kept_alive(interrupted: bool, tmp_path: Path):
    def stop(model: Any) -> None:
        raise RuntimeError("on purpose")

    def train() -> list[Any]:
        model, callback = classifier(), BatchViewCallback(tmp_path)
        with contextlib.suppress(RuntimeError):
            feed(X, Y)(model, [callback, *([Act("on_train_batch_end", stop)] if interrupted else [])])
        return [weakref.ref(model), weakref.ref(model.layers[0]), weakref.ref(callback)]

    references = train()
    assert_no_thread()
    keras.backend.clear_session()
    gc.collect()
    assert [reference() for reference in references] == [None] * 3


# --- data of every kind ---


class Rows(keras.utils.PyDataset):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, number: int) -> Any:
        place = slice(number * BATCH, (number + 1) * BATCH)
        return X[place], Y[place]


def endless() -> Iterator[Any]:
    while True:
        for start in STARTS:
            yield X[start : start + BATCH], Y[start : start + BATCH]


def torch_loader() -> Any:
    import torch

    return torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)), batch_size=BATCH
    )


FEEDS: dict[str, Any] = {
    "generator": lambda: feed(endless(), steps_per_epoch=2),
    "workers": lambda: feed(Rows(workers=2)),
    "DataLoader": lambda: feed(torch_loader()),
}


@pytest.mark.parametrize("kind", FEEDS)
def test_data_of_every_kind_is_recorded_in_its_order(kind: str, tmp_path: Path):
    if kind == "DataLoader":
        pytest.importorskip("torch")
    fit = lambda model, callbacks: FEEDS[kind]()(model, callbacks)  # noqa: E731
    run = train_twice(lambda: compiled(models.make_mlp(), metrics=["accuracy"]), fit, tmp_path)

    for epoch in (run.batches("train")[:2], run.batches("train")[2:]):
        # Of a PyDataset Keras takes the first batch to build the model with, and gives it last.
        order = [
            next(at for at in STARTS if np.array_equal(Y[at : at + BATCH], batch.targets.ravel())) for batch in epoch
        ]
        assert sorted(order) == list(STARTS)
        assert kind == "workers" or order == list(STARTS)
        for start, batch in zip(order, epoch, strict=True):
            assert batch.size == len(Y[start : start + BATCH])
            score = batch.predictions[np.arange(batch.size), batch.targets.ravel()]
            np.testing.assert_allclose(batch.sample_loss, -np.log(score), rtol=1e-3, atol=1e-5)


# --- what is not recorded, and what it costs ---


@only_torch
def test_torch_compile_is_refused_with_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import torch

    monkeypatch.setattr(torch, "compile", lambda function: function)  # A compiler of C++ is not everywhere.
    make = lambda: compiled(models.make_mlp(), metrics=["accuracy"], jit_compile=True)  # noqa: E731
    with pytest.warns(BatchViewWarning) as caught:
        run = train_twice(make, feed(X, Y, validation_split=0.5), tmp_path)

    assert len(messages(caught)) == 1
    assert "jit_compile=True is not supported" in messages(caught)[0]
    assert run is None or not run.phases


@only_jax
def test_nnx_is_refused_with_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(keras.config, "is_nnx_enabled", lambda: True, raising=False)
    with pytest.warns(BatchViewWarning) as caught:
        run = train_twice(classifier, feed(X, Y, validation_split=0.5), tmp_path)

    assert len(messages(caught)) == 1
    assert "NNX is not supported" in messages(caught)[0]
    assert run is None or not run.phases


class Counted(keras.layers.Layer):
    """Counts how often Python runs it."""

    count = 0

    def call(self, inputs: Any) -> Any:
        Counted.count += 1
        return inputs * 1.0


def test_python_runs_a_step_as_often_as_without_the_callback(tmp_path: Path):
    counts = []
    for callbacks in ([], [BatchViewCallback(tmp_path, histogram_freq=2)]):
        model = compiled(keras.Sequential([keras.Input((8,)), Counted(), LAYERS.Dense(1)]), "mse")
        Counted.count = 0
        feed(X[:32], SIZE[:32], epochs=4, batch_size=4)(model, callbacks)
        counts.append(Counted.count)
    assert counts[0] == counts[1] <= (2 if JAX else 33)  # Once to build it.


@only_torch
def test_a_branch_on_a_device_is_chosen_without_waiting_for_it():
    import torch

    from tb_batchview.capture import torch_arrays

    one, other = [torch.ones(3)], [torch.full((3,), torch.nan)]
    assert torch_arrays.select(torch.tensor(True), one, other)[0].tolist() == [1.0] * 3
    assert torch_arrays.select(torch.tensor(False), other, one)[0].tolist() == [1.0] * 3


def test_two_trainings_in_two_threads_are_each_recorded(tmp_path: Path):
    x = [X, X[::-1].copy()]
    y = [Y, Y[::-1].copy()]

    def train(number: int, callbacks: list[Any]) -> Any:
        model = built[number]
        history = feed(x[number], y[number])(model, callbacks)
        return history, state_of(model)

    found: list[Any] = []
    for ours in (False, True):
        results: dict[int, Any] = {}
        built = [classifier(), classifier()]
        barrier = threading.Barrier(2)

        def work(number: int, ours: bool = ours, results: Any = results, barrier: Any = barrier) -> None:
            callbacks = [BatchViewCallback(tmp_path / str(number))] if ours else []
            barrier.wait()
            results[number] = train(number, callbacks)

        threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found.append([results[number] for number in (0, 1)])
    if JAX:  # PyTorch's dropout draws from one generator for all threads.
        assert found[0] == found[1]
    for number in (0, 1):
        assert_classified(load(tmp_path)[str(number)], y=y[number])


@only_jax
def test_a_thread_that_takes_gradients_meanwhile_is_left_alone(tmp_path: Path):
    import jax

    stop = threading.Event()
    failures: list[BaseException] = []
    done = []

    def differentiate() -> None:
        try:
            while not stop.is_set():
                value, gradient = jax.jit(jax.value_and_grad(lambda x: x**2))(3.0)
                assert (float(value), float(gradient)) == (9.0, 6.0)
                done.append(1)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=differentiate)
    thread.start()
    try:
        run = train_twice(classifier, feed(X, Y), tmp_path)
    finally:
        stop.set()
        thread.join()
    assert failures == []
    assert done
    assert_classified(run)


# --- several devices and processes ---


def train_in_processes(
    count: int, log_dir: str, tmp_path: Path, *, devices: int = 1, recording: int = 2, warned: bool = False
) -> list[Any]:
    """Train in processes of their own and return what each came to."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        port = found.getsockname()[1]
    root = Path(__file__).parent.parent
    environment = {
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "PYTHONPATH": str(root),
        "JAX_COMPILATION_CACHE_DIR": _compiled.name,
    }
    results = [tmp_path / f"result-{bool(log_dir)}-{number}.json" for number in range(count)]
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "tests/jax_processes.py",
                *(str(number), str(count), str(port), log_dir if number < recording else "", str(result)),
            ],
            cwd=root,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, result in enumerate(results)
    ]
    errors = [process.communicate(timeout=240)[1] for process in processes]
    for process, error in zip(processes, errors, strict=True):
        assert process.returncode == 0, error
        assert ("BatchViewWarning" in error) == (warned and process is processes[0]), error
    return [json.loads(result.read_text()) for result in results]


def assert_parallel(run: Any) -> None:
    """Compare what a parallel training recorded with a plain loop."""

    def make() -> Any:
        keras.utils.set_random_seed(3)
        hidden = LAYERS.Dense(12, activation="relu", name="hidden")
        parts = [keras.Input((8,)), hidden, LAYERS.Dropout(0.3, seed=5), LAYERS.Dense(4, activation="softmax")]
        return compiled(keras.Sequential(parts), optimizer="adam")

    from tests import jax_processes

    x, y = jax_processes.make_data()
    truth = loops.train_by_hand(make(), crossentropy, x, y, batch=16, epochs=jax_processes.EPOCHS)
    assert_predictions(run, truth)
    for number, batch in enumerate(run.batches("train")):
        targets = y[number % 2 * 16 :][:16]
        np.testing.assert_array_equal(batch.targets.ravel(), targets)
        assert list(batch.inputs) == jax_processes.show(x[number % 2 * 16 :][:16])
        scores = batch.predictions[np.arange(16), targets]
        np.testing.assert_allclose(batch.sample_loss, -np.log(scores), rtol=1e-3, atol=1e-5)
        assert batch.metrics["accuracy"] == pytest.approx((batch.predictions.argmax(1) == targets).mean())
    assert [batch.size for batch in run.batches("validation")] == [16] * 2
    assert run.layers == ("hidden", "scores")
    assert run.layer("hidden").steps.tolist() == [0, 2]


@only_jax
@pytest.mark.slow
def test_several_devices_of_one_process_are_recorded_in_the_order_of_the_data(tmp_path: Path):
    plain = train_in_processes(1, "", tmp_path, devices=2)
    assert train_in_processes(1, str(tmp_path / "run"), tmp_path, devices=2) == plain
    assert_parallel(load(tmp_path)["run"])


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Train in two processes without the callback."""
    return train_in_processes(2, "", tmp_path_factory.mktemp("plain"))


@only_jax
@pytest.mark.slow
def test_two_processes_record_their_shares_of_each_batch(plain: list[Any], tmp_path: Path):
    assert train_in_processes(2, str(tmp_path / "run"), tmp_path) == plain
    assert plain[0] == plain[1]
    assert_parallel(load(tmp_path)["run"])


@only_jax
@pytest.mark.slow
def test_a_callback_in_one_of_two_processes_only_leaves_training_alone(plain: list[Any], tmp_path: Path):
    found = train_in_processes(2, str(tmp_path / "run"), tmp_path, recording=1, warned=True)
    assert found == plain
    assert not load(tmp_path)["run"].phases


# --- record_predictions ---


DATA: dict[str, Callable[[], Any]] = {
    "arrays": lambda: (X, Y),
    "PyDataset": Rows,
    "generator": lambda: ((X[start : start + BATCH], Y[start : start + BATCH]) for start in STARTS),
    "DataLoader": torch_loader,
}


@pytest.mark.parametrize("is_compiled", [True, False], ids=["compiled", "not compiled"])
@pytest.mark.parametrize("kind", DATA)
def test_predictions_for_data_are_recorded_beside_their_true_values(kind: str, is_compiled: bool, tmp_path: Path):
    if kind == "DataLoader":
        pytest.importorskip("torch")
    model = models.make_mlp(dropout=0.3)
    if is_compiled:
        compiled(model, metrics=["accuracy"])
        model.evaluate(X[:BATCH], Y[:BATCH], verbose=0)

    def state() -> list[Any]:
        return [ops.convert_to_numpy(each.value).tolist() for each in (*model.variables, *model.metrics_variables)]

    before = state()
    functions = model.test_function, model.predict_function
    options = {"batch_size": BATCH} if kind == "arrays" else {}
    run = record_predictions(model, DATA[kind](), tmp_path, **options)
    scores = ops.convert_to_numpy(model(X))
    batches = run.batches("predict")

    assert [batch.size for batch in batches] == SIZES
    np.testing.assert_allclose(np.concatenate([batch.predictions for batch in batches]), scores, atol=1e-6)
    np.testing.assert_array_equal(run.confusion("predict"), sklearn.metrics.confusion_matrix(Y, scores.argmax(1)))
    if is_compiled:
        losses = np.concatenate([batch.sample_loss for batch in batches])
        np.testing.assert_allclose(losses, -np.log(scores[np.arange(SAMPLES), Y]), atol=1e-5)
        right = (scores.argmax(1) == Y).reshape(-1, BATCH).mean(1)
        assert [batch.metrics["accuracy"] for batch in batches] == pytest.approx(list(right))
    assert state() == before
    assert (model.test_function, model.predict_function) == functions


def test_predictions_in_the_middle_of_a_training_change_nothing_of_it(tmp_path: Path):
    found = []
    for moments in ((), ("on_train_batch_end", "on_epoch_end")):
        keras.utils.set_random_seed(7)
        model = compiled(models.make_mlp(dropout=0.3), metrics=["accuracy"])
        record = lambda model: record_predictions(model, (X, Y), tmp_path / "test", batch_size=BATCH)  # noqa: E731
        callbacks = [Act(moment, record, at=0) for moment in moments]
        found.append((feed(X, Y)(model, callbacks), state_of(model)))
    assert found[0] == found[1]
    assert len(load(tmp_path / "test")["."].batches("predict")) == 4


# --- ids of samples ---


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize("numbers", [False, True], ids=["texts", "numbers"])
def test_ids_follow_their_samples_and_training_is_the_same(mode: dict[str, Any], numbers: bool, tmp_path: Path):
    """Also of a model that Keras builds from the first batch, before any callback."""
    targets = np.arange(SAMPLES)
    names = 10**12 + targets if numbers else np.array([f"{'folder/' * 20}{number}.png" for number in targets])

    def make() -> Any:
        model = keras.Sequential([LAYERS.Dropout(0.2), LAYERS.Dense(SAMPLES, activation="softmax")])
        return compiled(model, **mode)

    def fit(model: Any, callbacks: list[Any]) -> Any:
        x = with_ids(X, names) if callbacks else X
        history = feed(x, targets, shuffle=True, validation_split=0.5)(model, callbacks)
        return history, model.predict(x, batch_size=BATCH, verbose=0, callbacks=callbacks).tolist()

    run = train_twice(make, fit, tmp_path, record=("train", "predict"))

    batches = run.batches("train")
    for batch in batches:
        assert batch.sample_ids.tolist() == [names[target] for target in batch.targets.ravel()]
    assert sorted(batches[1].targets.ravel()) == list(range(16))
    assert np.concatenate([batch.sample_ids for batch in run.batches("predict")]).tolist() == names.tolist()


def test_ids_among_the_inputs_are_recorded_and_stay_there(tmp_path: Path):
    def make() -> Any:
        inputs = {"left": keras.Input((8,), name="left"), "number": keras.Input((), dtype="int32", name="number")}
        hidden = LAYERS.Concatenate()([LAYERS.Embedding(SAMPLES, 2)(inputs["number"]), inputs["left"]])
        return compiled(keras.Model(inputs, LAYERS.Dense(4, activation="softmax", name="head")(hidden)))

    fit = feed({"left": X, "number": np.arange(SAMPLES)}, Y, shuffle=True)
    run = train_twice(make, fit, tmp_path, sample_ids="number")

    for epoch in (0, 1):
        batches = [batch for batch in run.batches("train") if batch.epoch == epoch]
        numbers = np.concatenate([batch.sample_ids for batch in batches])
        np.testing.assert_array_equal(Y[numbers], np.concatenate([batch.targets.ravel() for batch in batches]))
        assert sorted(numbers) == list(range(SAMPLES))


@only_torch
def test_what_torch_compiles_trains_without_the_ids_too(tmp_path: Path):
    model = compiled(keras.Sequential([LAYERS.Dense(4, activation="softmax")]), jit_compile=True)
    # Compiled in earnest it would take a minute: it is what data the step is given that counts.
    given: list[Any] = []
    model.make_train_function()
    model.train_function = lambda data: given.extend(data) or {}
    callback = BatchViewCallback(tmp_path)
    callback.set_model(model)
    callback.on_train_begin()
    callback.on_train_batch_begin(0)
    batch = with_ids(X, range(SAMPLES)), Y
    with pytest.warns(BatchViewWarning, match="Keras on PyTorch with jit_compile=True is not supported"):
        model.train_function([batch])
    callback.on_train_end()

    assert given[0][0] is X


@only_jax
def test_ids_of_a_distribution_are_whole_or_none(tmp_path: Path):
    """JAX cuts whole numbers on its devices to 32 bits."""
    names = 10**12 + np.arange(SAMPLES)
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=jax.devices()[:1]))
    try:
        feed(with_ids(X, names), Y, epochs=1)(classifier(), [BatchViewCallback(tmp_path / "carried")])
        callback = BatchViewCallback(tmp_path / "named", sample_ids="right")
        model = compiled(make_two_inputs())
        with pytest.warns(BatchViewWarning, match="sample_ids are not recorded under a distribution"):
            feed({"left": X, "right": X}, Y, epochs=1)(model, [callback])
    finally:
        keras.distribution.set_distribution(None)

    carried, named = (load(tmp_path)[name].batches("train") for name in ("carried", "named"))
    assert np.concatenate([batch.sample_ids for batch in carried]).tolist() == names.tolist()
    assert [batch.sample_ids for batch in named] == [None, None]
