"""The many ways in which people train, each against an independent truth.

The truth is a plain eager loop from the same seed, the same metric made anew
and updated once, scikit-learn, or NumPy; and always: training with the
callback is the same to the bit as without it.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import pickle
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf

from tb_batchview import BatchViewCallback, handoff, load, writer
from tb_batchview.capture import keras_names
from tb_batchview.errors import BatchViewWarning
from tests import models
from tests.fits import Act, Fit, assert_no_thread, dense, feed, messages, train_twice
from tests.models import BATCH, LAYERS, Lazy, Looped, make_nested, make_recurrent, make_two_inputs

SAMPLES = 40
SIZES = [16, 16, 8]

GRAPH: dict[str, Any] = {"jit_compile": False}
XLA: dict[str, Any] = {"jit_compile": True}
EAGER: dict[str, Any] = {"run_eagerly": True}


@pytest.fixture(autouse=True)
def _rest_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handoff, "REST_SECONDS", 0.3)
    monkeypatch.setattr(writer, "FLUSH_SECONDS", 0.05)


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(SAMPLES, *shape)).astype("float32")


def draw_classes(*shape: int, classes: int = 4, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, classes, (SAMPLES, *shape))


X = draw(8)
Y = draw_classes()
ONE_HOT = np.eye(4, dtype="float32")[Y]
SIZE = X.sum(1, keepdims=True)


def train_by_hand(make: Callable[[], Any], total: Callable[[Any, Any], Any], x: Any, y: Any) -> list[dict[str, Any]]:
    """Train eagerly for two epochs, in order; `total` is the loss."""
    keras.utils.set_random_seed(7)
    model, batches = make(), []
    for _ in range(2):
        for start in range(0, SAMPLES, BATCH):
            inputs, targets = tf.nest.map_structure(lambda array, at=start: array[at : at + BATCH], (x, y))
            with tf.GradientTape() as tape:
                predictions = model(inputs, training=True)
                loss = total(targets, predictions) + sum(model.losses)
            gradients = tape.gradient(loss, model.trainable_variables)
            model.optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
            batches.append({"predictions": tf.nest.map_structure(np.asarray, predictions), "loss": float(loss)})
    return batches


def assert_predictions(
    recorded: Any, truth: list[dict[str, Any]], names: tuple[str, ...] = (), atol: float = 1e-5
) -> None:
    """Compare predictions and losses, of several outputs in their order."""
    batches = recorded.batches("train")
    assert len(batches) == len(truth)
    for batch, true in zip(batches, truth, strict=True):
        expected = true["predictions"]
        if names and not isinstance(expected, dict):
            expected = dict(zip(names, expected, strict=True))
        for name, values in expected.items() if names else [("", expected)]:
            found = batch.predictions[name] if names else batch.predictions
            np.testing.assert_allclose(found, values, atol=atol)
        assert batch.loss == pytest.approx(true["loss"], abs=10 * atol)


def compiled(model: Any, loss: Any = "sparse_categorical_crossentropy", **options: Any) -> Any:
    model.compile(**{"optimizer": keras.optimizers.Adam(0.01), "loss": loss, "jit_compile": False} | options)
    return model


# --- outputs ---


def make_heads(form: str, activation: str | None = None) -> Any:
    inputs = keras.Input((8,))
    kind = LAYERS.Dense(4, activation="softmax", name="kind")(inputs)
    size = LAYERS.Dense(4 if activation else 1, activation=activation, name="size")(inputs)
    return keras.Model(inputs, {"kind": kind, "size": size} if form == "dict" else [kind, size])


SPARSE, SQUARE = "sparse_categorical_crossentropy", "mse"
HEADS = {
    "list, list": ("list", [SPARSE, SQUARE], [Y, SIZE], None),
    "list, dict": ("list", {"kind": SPARSE, "size": SQUARE}, {"kind": Y, "size": SIZE}, None),
    "dict, dict": ("dict", {"kind": SPARSE, "size": SQUARE}, {"kind": Y, "size": SIZE}, None),
    "weighted list": ("list", [SPARSE, SQUARE], [Y, SIZE], [1.0, 0.25]),
    "weighted dict": ("dict", {"kind": SPARSE, "size": SQUARE}, {"kind": Y, "size": SIZE}, {"kind": 1.0, "size": 0.25}),
}


@pytest.mark.parametrize("case", HEADS.values(), ids=HEADS)
def test_several_outputs_are_each_recorded_with_their_targets(case: Any, tmp_path: Path):
    form, loss, y, weights = case
    factor = 0.25 if weights else 1.0

    def total(targets: Any, predictions: Any) -> Any:
        (kind, size), (first, second) = tf.nest.flatten(targets), tf.nest.flatten(predictions)
        square = tf.reduce_mean(tf.square(second - size))
        return tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(kind, first)) + factor * square

    make = lambda: compiled(make_heads(form), loss, loss_weights=weights)  # noqa: E731
    run = train_twice(make, feed(X, y), tmp_path)

    assert_predictions(run, train_by_hand(make, total, X, y), ("kind", "size"))
    assert {name: spec.task for name, spec in run.outputs.items()} == {"kind": "multiclass", "size": "regression"}
    for start, batch in zip((0, 16, 32), run.batches("train"), strict=False):
        np.testing.assert_array_equal(batch.targets["kind"].ravel(), Y[start : start + BATCH])
        np.testing.assert_array_equal(batch.targets["size"], SIZE[start : start + BATCH])
        square = np.square(batch.predictions["size"] - batch.targets["size"])[:, 0]
        np.testing.assert_allclose(batch.sample_loss["size"], square, rtol=1e-4, atol=1e-6)
        score = batch.predictions["kind"][np.arange(batch.size), batch.targets["kind"].ravel()]
        np.testing.assert_allclose(batch.sample_loss["kind"], -np.log(score), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("shared", [True, False], ids=["one object", "one name"])
def test_one_loss_for_several_outputs_gives_each_its_own(shared: bool, tmp_path: Path):
    y = [Y, Y[::-1].copy()]

    def make() -> Any:
        loss: Any = SPARSE
        if shared:
            function = keras.losses.SparseCategoricalCrossentropy()
            loss = [function, function]
        return compiled(make_heads("list", "softmax"), loss)

    run = train_twice(make, feed(X, y), tmp_path)
    for batch in run.batches("train"):
        for name in ("kind", "size"):
            scores = batch.predictions[name][np.arange(batch.size), batch.targets[name].ravel()]
            np.testing.assert_allclose(batch.sample_loss[name], -np.log(scores), rtol=1e-3, atol=1e-5)
        assert batch.loss == pytest.approx(sum(values.mean() for values in batch.sample_loss.values()), rel=1e-4)


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize("form", ["list", "dict"])
def test_an_output_without_a_target_has_only_predictions(form: str, tmp_path: Path):
    loss, y = ([SPARSE, None], [Y, SIZE]) if form == "list" else ({"kind": SPARSE}, {"kind": Y})
    run = train_twice(lambda: compiled(make_heads(form), loss), feed(X, y), tmp_path)
    batch = run.batches("train")[0]

    np.testing.assert_array_equal(batch.targets["kind"].ravel(), Y[:BATCH])
    assert set(batch.predictions) == {"kind", "size"}
    assert {name for name, values in batch.sample_loss.items() if values is not None} == {"kind"}


class Sampling(keras.layers.Layer):
    """Draws from a normal distribution, and adds its divergence to the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.seeds = keras.random.SeedGenerator(3)

    def call(self, inputs: Any) -> Any:
        mean, log = keras.ops.split(inputs, 2, axis=-1)
        self.add_loss(-0.5 * keras.ops.mean(1 + log - mean**2 - keras.ops.exp(log)))
        return mean + keras.ops.exp(0.5 * log) * keras.random.normal(keras.ops.shape(mean), seed=self.seeds)


class Reconstruction(keras.layers.Layer):
    """Adds the distance of two inputs to the loss."""

    def call(self, inputs: Any) -> Any:
        first, second = inputs
        self.add_loss(keras.ops.mean(keras.ops.square(first - second)))
        return second


def make_vae() -> Any:
    inputs = keras.Input((8,))
    decoded = LAYERS.Dense(8)(Sampling()(LAYERS.Dense(4)(inputs)))
    return compiled(keras.Model(inputs, Reconstruction()([inputs, decoded])), None)


def test_a_model_that_only_adds_losses_has_predictions_and_a_loss(tmp_path: Path):
    run = train_twice(make_vae, feed(X), tmp_path)

    assert_predictions(run, train_by_hand(make_vae, lambda y, p: 0.0, X, X))
    assert run.batches("train")[0].targets is None
    assert [batch.size for batch in run.batches("train")] == SIZES * 2


def test_an_autoencoder_has_its_inputs_as_targets(tmp_path: Path):
    make = lambda: compiled(keras.Sequential([keras.Input((8,)), LAYERS.Dense(3), LAYERS.Dense(8)]), "mse")  # noqa: E731
    run = train_twice(make, feed(X, X), tmp_path)

    assert_predictions(run, train_by_hand(make, lambda y, p: tf.reduce_mean(tf.square(y - p)), X, X))
    for batch in run.batches("train"):
        np.testing.assert_allclose(
            batch.sample_loss, np.square(batch.predictions - batch.targets).mean(1), rtol=1e-4, atol=1e-6
        )


class Verbose(keras.Model):
    """Returns more than its predictions, some of it not per sample."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = LAYERS.Dense(6, activation="relu")
        self.head = LAYERS.Dense(4)

    def call(self, inputs: Any) -> Any:
        hidden = self.hidden(inputs)
        used = keras.ops.mean(hidden, axis=0)
        return {"scores": self.head(hidden), "hidden": hidden, "used": used, "mean": keras.ops.mean(used)}


def test_a_model_that_returns_more_than_predictions_is_recorded_where_it_is_per_sample(tmp_path: Path):
    loss = {"scores": keras.losses.SparseCategoricalCrossentropy(from_logits=True)}
    with pytest.warns(BatchViewWarning) as caught:
        run = train_twice(lambda: compiled(Verbose(), loss), feed(X, {"scores": Y}), tmp_path)
    batch = run.batches("train")[0]

    assert [message.partition(" are not")[0] for message in messages(caught)] == [
        "The predictions of output 'mean'",
        "The predictions of output 'used'",
    ]
    assert set(batch.predictions) == {"scores", "hidden"}
    assert run.outputs["scores"].activation == "softmax"
    assert [batch.size for batch in run.batches("train")] == SIZES * 2


class OwnLoss(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.head = LAYERS.Dense(1)

    def call(self, inputs: Any) -> Any:
        return self.head(inputs)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        return keras.ops.mean(keras.ops.abs(y - y_pred))


def test_a_model_with_a_loss_of_its_own_is_recorded(tmp_path: Path):
    make = lambda: compiled(OwnLoss(), None)  # noqa: E731
    run = train_twice(make, feed(X, SIZE), tmp_path)

    assert_predictions(run, train_by_hand(make, lambda y, p: tf.reduce_mean(tf.abs(y - p)), X, SIZE))
    assert run.batches("train")[0].sample_loss is None


@pytest.mark.parametrize("mode", [GRAPH, EAGER], ids=["graph", "eager"])
def test_a_loss_of_a_single_number_is_warned_of_and_the_rest_recorded(mode: dict[str, Any], tmp_path: Path):
    def mean_square(y: Any, p: Any) -> Any:
        return tf.reduce_mean(tf.square(y - p))

    make = lambda: compiled(keras.Sequential([keras.Input((8,)), LAYERS.Dense(1)]), mean_square, **mode)  # noqa: E731
    with pytest.warns(BatchViewWarning) as caught:
        run = train_twice(make, feed(X, SIZE), tmp_path)

    assert messages(caught) == ["The loss 'mean_square' returns a single number: there is no loss per sample."]
    assert_predictions(run, train_by_hand(make, mean_square, X, SIZE))
    assert run.batches("train")[0].sample_loss is None


# --- metrics ---


def assert_metrics(run: Any, metrics: dict[str, Callable[[], Any]], phase: str = "train") -> None:
    """Compare with the same metric made anew, for each batch alone."""
    for batch in run.batches(phase):
        for name, make in metrics.items():
            metric = make()
            metric.update_state(batch.targets, batch.predictions)
            assert batch.metrics[name] == pytest.approx(float(metric.result()), abs=1e-6), name
        assert set(batch.metrics) == set(metrics)


@pytest.mark.parametrize("mode", [GRAPH, XLA, EAGER], ids=["graph", "xla", "eager"])
def test_metrics_with_a_state_have_the_value_of_the_batch_alone(mode: dict[str, Any], tmp_path: Path):
    metrics = {
        "auc": lambda: keras.metrics.AUC(num_thresholds=20, name="auc"),
        "precision": lambda: keras.metrics.Precision(name="precision"),
        "recall": lambda: keras.metrics.Recall(name="recall"),
        "f1": lambda: keras.metrics.F1Score(average="macro", threshold=0.5, name="f1"),
        "iou": lambda: keras.metrics.OneHotMeanIoU(4, name="iou"),
        "accuracy": lambda: keras.metrics.CategoricalAccuracy(name="accuracy"),
    }
    make = lambda: compiled(  # noqa: E731
        keras.Sequential([keras.Input((8,)), LAYERS.Dense(4, activation="softmax")]),
        "categorical_crossentropy",
        metrics=[metric() for metric in metrics.values()],
        **mode,
    )
    run = train_twice(make, feed(X, ONE_HOT, validation_split=0.2), tmp_path)

    assert_metrics(run, metrics)
    assert_metrics(run, metrics, "validation")
    batch = run.batches("train")[0]
    chosen, true = batch.predictions > 0.5, batch.targets > 0.5
    options: dict[str, Any] = {"average": "macro", "zero_division": 0}
    assert batch.metrics["f1"] == pytest.approx(sklearn.metrics.f1_score(true, chosen, **options), abs=1e-6)
    options["average"] = "micro"
    assert batch.metrics["recall"] == pytest.approx(sklearn.metrics.recall_score(true, chosen, **options), abs=1e-6)


def test_a_metric_of_several_numbers_is_warned_of_and_left_out(tmp_path: Path):
    make = lambda: compiled(  # noqa: E731
        keras.Sequential([keras.Input((8,)), LAYERS.Dense(4, activation="softmax")]),
        "categorical_crossentropy",
        metrics=[keras.metrics.F1Score(average=None, name="f1"), "accuracy"],
    )
    model = make()
    with pytest.warns(BatchViewWarning) as caught:
        model.fit(X, ONE_HOT, batch_size=BATCH, verbose=0, callbacks=[BatchViewCallback(tmp_path)])

    assert messages(caught) == ["The metric 'f1' is not a single number and is not recorded."]
    assert set(load(tmp_path)["."].batches("train")[0].metrics) == {"accuracy"}


def test_weighted_metrics_are_weighted_and_the_others_are_not(tmp_path: Path):
    weights = np.linspace(0.1, 3, SAMPLES).astype("float32")
    make = lambda: compiled(  # noqa: E731
        keras.Sequential([keras.Input((8,)), LAYERS.Dense(1)]), "mse", metrics=["mae"], weighted_metrics=["mse"]
    )
    run = train_twice(make, feed(X, SIZE, sample_weight=weights), tmp_path)

    for batch in run.batches("train"):
        error = (batch.predictions - batch.targets)[:, 0]
        weight = batch.sample_weight
        values = {name.removeprefix("compile_metrics_"): value for name, value in batch.metrics.items()}
        assert sorted(values) == ["mae", "mse"]
        assert values["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-4)
        assert values["mse"] == pytest.approx(np.average(error**2, weights=weight), rel=1e-4)
        assert batch.loss == pytest.approx((weight * error**2).mean(), rel=1e-4)


class Gathering(keras.metrics.Metric):
    """Keeps its state where Keras does not see it."""

    def __init__(self, kind: str) -> None:
        super().__init__(name="gathered")
        self.state: Any = [] if kind == "list" else tf.Variable(0.0)

    def update_state(self, y: Any, p: Any, sample_weight: Any = None) -> None:
        error = tf.reduce_sum(tf.abs(y - p))
        if isinstance(self.state, tf.Variable):
            self.state.assign_add(error)
        else:
            self.state.append(float(error))

    def result(self) -> Any:
        return tf.convert_to_tensor(self.state) if isinstance(self.state, tf.Variable) else sum(self.state)


@pytest.mark.parametrize(("kind", "mode"), [("list", EAGER), ("variable", EAGER), ("variable", GRAPH)])
def test_a_metric_whose_state_keras_does_not_see_is_left_alone_and_the_others_recorded(
    kind: str, mode: Any, tmp_path: Path
):
    make = lambda: compiled(dense(1), "mse", metrics=[Gathering(kind), "mae"], **mode)  # noqa: E731
    with pytest.warns(BatchViewWarning) as caught:
        run = train_twice(make, feed(X, SIZE), tmp_path)

    assert len(messages(caught)) == 1
    assert "The metric 'gathered' has no value of its own for a batch: it keeps its state in" in messages(caught)[0]
    for batch in run.batches("train"):
        error = np.abs(batch.predictions - batch.targets).mean()
        assert batch.metrics == {"mae": pytest.approx(error, rel=1e-5)}
        assert batch.loss > 0


class Tracking(keras.Model):
    """Keeps running means of its own, updated in a step of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.head = LAYERS.Dense(1)
        self.mean = keras.metrics.Mean(name="mean_error")
        self.rooted = keras.metrics.RootMeanSquaredError(name="rooted")

    def call(self, inputs: Any) -> Any:
        return self.head(inputs)

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            predictions = self(x, training=True)
            loss = self.compute_loss(x=x, y=y, y_pred=predictions)
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        self.mean.update_state(tf.abs(y - predictions))
        self.rooted.update_state(y[:4], predictions[:4])
        self.rooted.update_state(y[4:], predictions[4:])
        return {"loss": loss, "mean_error": self.mean.result(), "rooted": self.rooted.result()}


def test_trackers_of_the_users_own_have_the_value_of_the_batch_alone(tmp_path: Path):
    run = train_twice(lambda: compiled(Tracking(), "mse"), feed(X, SIZE), tmp_path)

    for batch in run.batches("train"):
        error = batch.predictions - batch.targets
        assert batch.metrics == {
            "mean_error": pytest.approx(np.abs(error).mean(), rel=1e-4),
            "rooted": pytest.approx(np.sqrt(np.square(error).mean()), rel=1e-4),
        }


# --- targets and predictions of every form ---


LABELS = (draw(4, seed=2) > 0).astype("float32")
FORMS = {
    "smoothed": (4, "softmax", keras.losses.CategoricalCrossentropy(label_smoothing=0.1), ONE_HOT, "multiclass", None),
    "one-hot logits": (
        4,
        None,
        keras.losses.CategoricalCrossentropy(from_logits=True),
        ONE_HOT,
        "multiclass",
        "softmax",
    ),
    "focal": (4, "softmax", keras.losses.CategoricalFocalCrossentropy(), ONE_HOT, "multiclass", None),
    "binary logits": (
        1,
        None,
        keras.losses.BinaryCrossentropy(from_logits=True),
        LABELS[:, :1],
        "binary",
        "sigmoid",
    ),
    "multilabel logits": (
        4,
        None,
        keras.losses.BinaryCrossentropy(from_logits=True),
        LABELS,
        "multilabel",
        "sigmoid",
    ),
    "hinge": (1, "tanh", keras.losses.Hinge(), 2 * LABELS[:, :1] - 1, None, None),
}


@pytest.mark.parametrize("case", FORMS.values(), ids=FORMS)
def test_every_form_of_target_is_recorded_as_given_with_its_loss(case: Any, tmp_path: Path):
    units, activation, loss, targets, task, turned = case
    make = lambda: compiled(dense(units, activation=activation), copy.deepcopy(loss))  # noqa: E731
    run = train_twice(make, feed(X, targets), tmp_path)

    assert_predictions(run, train_by_hand(make, lambda y, p: loss(y, p), X, targets))
    assert task is None or (run.outputs["head"].task, run.outputs["head"].activation) == (task, turned)
    for start, batch in zip((0, 16, 32), run.batches("train"), strict=False):
        np.testing.assert_array_equal(batch.targets, targets[start : start + BATCH])
        one_by_one = [
            float(loss(batch.targets[place : place + 1], batch.predictions[place : place + 1]))
            for place in range(batch.size)
        ]
        np.testing.assert_allclose(batch.sample_loss, one_by_one, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 2), (5,)], ids=["pixels", "tokens"])
def test_several_decisions_per_sample_have_the_mean_of_their_losses(shape: tuple[int, ...], tmp_path: Path):
    x, y = draw(*shape, 8), draw_classes(*shape)
    make = lambda: compiled(dense(4, shape=(*shape, 8), activation="softmax"), metrics=["accuracy"])  # noqa: E731
    run = train_twice(make, feed(x, y), tmp_path)

    for start, batch in zip((0, 16, 32), run.batches("train"), strict=False):
        np.testing.assert_array_equal(batch.targets, y[start : start + BATCH])
        scores = np.take_along_axis(batch.predictions, batch.targets[..., np.newaxis], -1)[..., 0]
        axes = tuple(range(1, scores.ndim))
        np.testing.assert_allclose(batch.sample_loss, -np.log(scores).mean(axes), rtol=1e-3)
        assert batch.metrics["accuracy"] == pytest.approx((batch.predictions.argmax(-1) == batch.targets).mean())


def test_masked_tokens_do_not_count_in_the_loss_of_a_sample(tmp_path: Path):
    words = draw_classes(6, classes=9)
    words[:, 4:] = 0
    words[::2, 2:] = 0
    words[:, 0] = 3
    y = draw_classes(6)
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

    for start, batch in zip((0, 16, 32), run.batches("train"), strict=False):
        kept = words[start : start + BATCH] != 0
        losses = -np.log(np.take_along_axis(batch.predictions, batch.targets[..., np.newaxis], -1)[..., 0])
        np.testing.assert_allclose(batch.sample_loss, (losses * kept).sum(1) / kept.sum(1), rtol=1e-3)


def test_weights_for_each_token_are_kept_as_their_mean(tmp_path: Path):
    x, y = draw(5, 8), draw_classes(5)
    weights = np.random.default_rng(5).uniform(size=(SAMPLES, 5)).astype("float32")
    make = lambda: compiled(dense(4, shape=(5, 8), activation="softmax"))  # noqa: E731
    run = train_twice(make, feed(x, y, sample_weight=weights), tmp_path)

    np.testing.assert_allclose(run.batches("train")[0].sample_weight, weights[:BATCH].mean(1), rtol=1e-5)


# --- models and optimizers of every kind ---


class Noisy(keras.layers.Layer):
    """Draws with TensorFlow's own generator, seeded by the place in the graph."""

    def call(self, inputs: Any) -> Any:
        return inputs + tf.random.normal(tf.shape(inputs), stddev=0.1)


def make_noisy() -> Any:
    inputs = keras.Input((8,))
    noisy = LAYERS.Lambda(lambda values: values * tf.random.uniform([], 0.5, 1.5))(Noisy()(inputs))
    return keras.Model(inputs, LAYERS.Dense(4, activation="softmax", name="head")(LAYERS.Dropout(0.2)(noisy)))


def make_augmented() -> Any:
    return keras.Sequential(
        [
            keras.Input((4, 4, 2)),
            LAYERS.RandomFlip("horizontal", seed=5),
            LAYERS.Conv2D(3, 2),
            LAYERS.GroupNormalization(1),
            LAYERS.Flatten(),
            LAYERS.Dense(4, activation="softmax", name="head"),
        ]
    )


KINDS: dict[str, Any] = {
    "looped": (Looped, X, {"again", "again#1", "again#2", "head"}),
    "lazy": (Lazy, X, {"hidden", "head"}),
    "nested": (make_nested, X, {"shared", "head"}),
    "recurrent": (make_recurrent, draw(5, 8), {"head"}),
    "dict inputs": (make_two_inputs, {"left": X, "right": X[::-1].copy()}, {"head"}),
    "noisy": (make_noisy, X, {"head"}),
    "augmented": (make_augmented, draw(4, 4, 2), {"head"}),
}


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        pytest.param(KINDS[kind], mode, id=f"{kind}-{name}")
        for kind in KINDS
        for name, mode in (("graph", GRAPH), ("eager", EAGER), ("xla", XLA))
        # XLA takes long over some, and gives tf.random another seed each time.
        if name != "xla" or kind == "dict inputs"
    ],
)
def test_models_of_every_kind_are_recorded_and_train_the_same(kind: Any, mode: dict[str, Any], tmp_path: Path):
    make, x, layers = kind
    # Under XLA any layer looked at may change the last bit.
    options: dict[str, Any] = {"layers": None} if mode is XLA else {}
    run = train_twice(lambda: compiled(make(), metrics=["accuracy"], **mode), feed(x, Y), tmp_path, **options)
    batches = run.batches("train")

    assert [batch.size for batch in batches] == SIZES * 2
    assert mode is XLA or layers <= {name.split("/")[-1] for name in run.layers}
    for start, batch in zip((0, 16, 32), batches, strict=False):
        np.testing.assert_array_equal(batch.targets.ravel(), Y[start : start + BATCH])
        right = batch.predictions.argmax(1) == batch.targets.ravel()
        assert batch.metrics == {"accuracy": pytest.approx(right.mean())}
        assert batch.loss == pytest.approx(batch.sample_loss.mean(), rel=1e-4)


OPTIMIZERS = {
    "accumulated": lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=2),
    "averaged": lambda: keras.optimizers.SGD(0.05, momentum=0.9, use_ema=True, ema_overwrite_frequency=2),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01), dynamic_growth_steps=2),
}


@pytest.mark.parametrize("mode", [GRAPH, EAGER], ids=["graph", "eager"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_optimizers_of_every_kind_train_the_same(optimizer: Any, mode: dict[str, Any], tmp_path: Path):
    make = lambda: compiled(models.make_mlp(dropout=0.2), optimizer=optimizer(), **mode)  # noqa: E731
    run = train_twice(make, feed(X, Y), tmp_path)

    for batch in run.batches("train"):
        score = batch.predictions[np.arange(batch.size), batch.targets.ravel()]
        assert batch.loss == pytest.approx(-np.log(score).mean(), rel=1e-4)


@pytest.mark.parametrize("mode", [GRAPH, EAGER], ids=["graph", "eager"])
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_is_recorded_as_the_loss_saw_it(policy: str, mode: dict[str, Any], tmp_path: Path):
    def make() -> Any:
        keras.mixed_precision.set_global_policy(policy)
        try:
            return compiled(models.make_mlp(), metrics=["accuracy"], **mode)
        finally:
            keras.mixed_precision.set_global_policy("float32")

    run = train_twice(make, feed(X, Y), tmp_path)
    keras.utils.set_random_seed(7)
    first = np.asarray(make()(X[:BATCH], training=True), "float32")
    batch = run.batches("train")[0]

    np.testing.assert_allclose(batch.predictions, first, atol=2e-2)
    score = batch.predictions.astype("float64")[np.arange(BATCH), Y[:BATCH]]
    np.testing.assert_allclose(batch.sample_loss, -np.log(score), rtol=2e-2)
    assert batch.loss == pytest.approx(batch.sample_loss.mean(), rel=2e-3)
    assert set(run.layers) == {"hidden", "scores"}


class Adversaries(keras.Model):
    """Two models against each other; nobody ever calls this one."""

    def __init__(self) -> None:
        super().__init__()
        self.maker = dense(8, shape=(3,))
        self.judge = dense(1)
        self.seeds = keras.random.SeedGenerator(11)
        self.judged = keras.metrics.Mean(name="judge_loss")

    def compile(self, judge_optimizer: Any, maker_optimizer: Any, **options: Any) -> None:
        super().compile(**options)
        self.judge_optimizer, self.maker_optimizer = judge_optimizer, maker_optimizer

    def train_step(self, real: Any) -> Any:
        noise = keras.random.normal((keras.ops.shape(real)[0], 3), seed=self.seeds)
        with tf.GradientTape() as tape:
            gap = tf.reduce_mean(self.judge(self.maker(noise))) - tf.reduce_mean(self.judge(real))
        weights = self.judge.trainable_variables
        self.judge_optimizer.apply_gradients(zip(tape.gradient(gap, weights), weights, strict=True))
        with tf.GradientTape() as tape:
            fooled = -tf.reduce_mean(self.judge(self.maker(noise)))
        weights = self.maker.trainable_variables
        self.maker_optimizer.apply_gradients(zip(tape.gradient(fooled, weights), weights, strict=True))
        self.judged.update_state(gap)
        return {"judge_loss": self.judged.result()}


@pytest.mark.parametrize("mode", [GRAPH, EAGER], ids=["graph", "eager"])
def test_models_that_play_against_each_other_have_figures_without_predictions(mode: dict[str, Any], tmp_path: Path):
    def make() -> Any:
        model = Adversaries()
        model.compile(keras.optimizers.Adam(0.01), keras.optimizers.Adam(0.01), **mode)
        return model

    run = train_twice(make, feed(X), tmp_path)
    alone: list[float] = []
    keras.utils.set_random_seed(7)
    model = make()
    for start in (0, 16, 32) * 2:
        model.judged.reset_state()
        alone.append(float(model.train_step(tf.constant(X[start : start + BATCH]))["judge_loss"]))

    assert [batch.size for batch in run.batches("train")] == SIZES * 2
    assert [batch.metrics["judge_loss"] for batch in run.batches("train")] == pytest.approx(alone, abs=1e-5)
    # One makes twice, the other judges three times.
    assert [name.partition("#")[2] for name in run.layers] == ["", "", "1", "1", "2"]


class OwnFunction(keras.Model):
    """Makes the function that fit calls by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.head = LAYERS.Dense(4, activation="softmax", name="head")

    def call(self, inputs: Any) -> Any:
        return self.head(inputs)

    def make_train_function(self, force: bool = False) -> Any:
        if self.train_function is None or force:
            self.train_function = tf.function(lambda iterator: self.train_step(next(iterator)))
        return self.train_function


def test_a_model_that_makes_its_own_train_function_is_recorded(tmp_path: Path):
    run = train_twice(lambda: compiled(OwnFunction()), feed(X, Y), tmp_path)

    assert [batch.size for batch in run.batches("train")] == SIZES * 2
    np.testing.assert_array_equal(np.concatenate([batch.targets.ravel() for batch in run.batches("train")[:3]]), Y)


def test_layers_that_are_made_late_can_be_named_and_a_wrong_name_is_warned_of(tmp_path: Path):
    run = train_twice(lambda: compiled(Lazy()), feed(X, Y), tmp_path / "right", layers=["hidden"])
    with pytest.warns(BatchViewWarning) as caught:
        train_twice(lambda: compiled(Lazy()), feed(X, Y), tmp_path / "wrong", layers=["hiden", "head"])

    assert run.layers == ("hidden",)
    assert len(messages(caught)) == 1
    assert "'hiden', which matches none of: hidden, dropout" in messages(caught)[0]
    assert load(tmp_path)["wrong"].layers == ("head",)


@pytest.mark.parametrize("asked", ["auto", ["scale", "head"]])
def test_auto_leaves_out_a_product_that_only_feeds_a_sum(asked: Any, tmp_path: Path):
    inputs = keras.Input((8,))
    scaled = LAYERS.Rescaling(0.5, name="scale")(LAYERS.Dense(8, name="dense")(inputs))
    outputs = LAYERS.Dense(1, name="head")(LAYERS.Add(name="sum")([scaled, inputs]))
    model = compiled(keras.Model(inputs, outputs), "mse")
    model.fit(X, SIZE, verbose=0, callbacks=[BatchViewCallback(tmp_path, layers=asked)])

    expected = ("dense", "sum", "head") if asked == "auto" else ("scale", "head")
    assert load(tmp_path)["."].layers == expected


# --- data of every kind ---


class Rows(keras.utils.PyDataset):
    def __len__(self) -> int:
        return 3

    def __getitem__(self, number: int) -> Any:
        place = slice(number * BATCH, (number + 1) * BATCH)
        return X[place], Y[place]


def endless() -> Iterator[Any]:
    while True:
        for start in (0, 16, 32):
            yield X[start : start + BATCH], Y[start : start + BATCH]


def rows() -> Any:
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(BATCH)


def of_unknown_length() -> Any:
    spec = (tf.TensorSpec((None, 8), tf.float32), tf.TensorSpec((None,), tf.int64))
    return tf.data.Dataset.from_generator(
        lambda: ((X[at : at + BATCH], Y[at : at + BATCH]) for at in (0, 16, 32)), output_signature=spec
    )


FEEDS: dict[str, Any] = {
    "unknown length": lambda: feed(of_unknown_length()),
    "unknown length, several steps": lambda: feed(of_unknown_length()),
    "endless": lambda: feed(endless(), steps_per_epoch=3),
    "repeated": lambda: feed(rows().repeat(), steps_per_epoch=3),
    "workers": lambda: feed(Rows(workers=2)),
    "processes": lambda: feed(Rows(workers=2, use_multiprocessing=True)),
}


@pytest.mark.filterwarnings("ignore:.*ran out of data")
@pytest.mark.parametrize("kind", FEEDS)
def test_data_of_every_kind_is_recorded_in_its_order(kind: str, tmp_path: Path):
    several = {"steps_per_execution": 2} if "several" in kind else {}
    fit = lambda model, callbacks: FEEDS[kind]()(model, callbacks)  # noqa: E731
    run = train_twice(lambda: compiled(models.make_mlp(dropout=0.2), **several), fit, tmp_path)
    batches = run.batches("train")

    assert [batch.size for batch in batches] == SIZES * 2
    assert [(batch.epoch, batch.index) for batch in batches] == [
        (epoch, index) for epoch in (0, 1) for index in range(3)
    ]
    for epoch in (batches[:3], batches[3:]):
        np.testing.assert_array_equal(np.concatenate([batch.targets.ravel() for batch in epoch]), Y)


def test_validation_now_and_then_is_recorded_with_its_epoch_and_without_class_weights(tmp_path: Path):
    fit = feed(
        X,
        Y,
        epochs=4,
        validation_data=rows().repeat(),
        validation_freq=2,
        validation_steps=2,
        class_weight={0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0},
    )
    run = train_twice(lambda: compiled(models.make_mlp()), fit, tmp_path)
    batches = run.batches("validation")

    assert [(batch.epoch, batch.index, batch.size) for batch in batches] == [
        (1, 0, 16),
        (1, 1, 16),
        (3, 0, 16),
        (3, 1, 16),
    ]
    assert all(batch.sample_weight is None for batch in batches)
    assert all(batch.sample_weight is not None for batch in run.batches("train"))


# --- callbacks, errors, and what comes after ---


def fit_with(others: Callable[[], list[Any]], *, first: bool = False, **options: Any) -> Fit:
    def fit(model: Any, callbacks: list[Any]) -> Any:
        around = others()
        return feed(X, Y, **options)(model, [*around, *callbacks] if first else [*callbacks, *around])

    return fit


def assert_as_found(model: Any) -> None:
    """Nothing of ours is left in any object of the model."""
    things = [model, *model._flatten_layers(), *model.metrics, model.optimizer, model._compile_loss]
    things += [flat.loss for flat in keras_names.flat_losses(model)]
    for thing in things:
        found = [name for name, value in vars(thing).items() if "tb_batchview" in str(getattr(value, "__module__", ""))]
        assert found == [], thing


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_callbacks_of_keras_work_before_and_after_ours(first: bool, tmp_path: Path):
    def others() -> list[Any]:
        return [
            keras.callbacks.EarlyStopping(patience=1, restore_best_weights=True, monitor="val_loss", min_delta=10.0),
            keras.callbacks.ReduceLROnPlateau(patience=1, monitor="val_loss", min_delta=10.0),
            keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", save_freq=2),
            keras.callbacks.BackupAndRestore(tmp_path / "backup", save_freq=2),
        ]

    fit = fit_with(others, first=first, epochs=5, validation_split=0.4)
    run = train_twice(lambda: compiled(models.make_mlp(dropout=0.2)), fit, tmp_path / "run")
    assert len(run.batches("train")) == 2 * 2
    assert keras.models.load_model(tmp_path / "best.keras").count_params() > 0


MOMENTS = [
    "on_train_begin",
    "on_epoch_begin",
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_test_begin",
    "on_test_batch_begin",
    "on_test_batch_end",
    "on_test_end",
    "on_epoch_end",
    "on_train_end",
]


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_error_at_any_moment_leaves_the_model_training_as_before(moment: str, tmp_path: Path):
    def stop(model: Any) -> None:
        raise RuntimeError("on purpose")

    def fit(model: Any, callbacks: list[Any]) -> Any:
        with pytest.raises(RuntimeError, match="on purpose"):
            feed(X, Y, validation_split=0.4)(model, [*callbacks, Act(moment, stop, at=0)])
        history = feed(X, Y, validation_split=0.4)(model, [])
        assert_as_found(model)
        return history

    train_twice(lambda: compiled(models.make_mlp(dropout=0.2), run_eagerly=True), fit, tmp_path)
    assert_no_thread()


@pytest.mark.parametrize("mode", [GRAPH, EAGER], ids=["while tracing", "eager"])
def test_an_interrupt_inside_a_step_leaves_no_trace(mode: dict[str, Any], tmp_path: Path):
    class Fuse(keras.layers.Layer):
        burn = False

        def call(self, inputs: Any) -> Any:
            if self.burn:
                raise KeyboardInterrupt
            return inputs * 1.0

    def fit(model: Any, callbacks: list[Any]) -> Any:
        fuse = model.layers[0]
        fuse.burn = True
        with pytest.raises(KeyboardInterrupt):
            feed(X, Y)(model, callbacks)
        assert_only_functions(model)
        fuse.burn = False
        return feed(X, Y)(model, [])

    def make() -> Any:
        model = compiled(keras.Sequential([keras.Input((8,)), Fuse(), LAYERS.Dense(4, activation="softmax")]), **mode)
        # Keras itself cannot go on after an interrupt that finds this half done.
        model.optimizer.build(model.trainable_variables)
        return model

    train_twice(make, fit, tmp_path)
    assert_no_thread()


def assert_only_functions(model: Any) -> None:
    """Right after an error only the function of the step may be ours."""
    for layer in model.layers:
        assert not any("tb_batchview" in str(getattr(value, "__module__", "")) for value in vars(layer).values())


def test_evaluate_and_train_on_batch_inside_a_fit_stay_what_they_are(tmp_path: Path):
    found: list[Any] = []

    def act(model: Any) -> None:
        found.append(model.evaluate(X, Y, batch_size=BATCH, verbose=0))
        found.append(model.train_on_batch(X[:4], Y[:4]))
        found.append(model.predict(X[:4], verbose=0).tolist())

    # Before a step, too, when our callback has been told of it and Keras has not yet taken it.
    for moment in ("on_train_batch_begin", "on_train_batch_end", "on_epoch_end"):
        found.clear()
        fit = fit_with(lambda moment=moment: [Act(moment, act)], validation_split=0.4)
        run = train_twice(lambda: compiled(models.make_mlp(dropout=0.2)), fit, tmp_path / moment)
        assert found[:3] == found[3:]
        assert [batch.size for batch in run.batches("train")] == [16, 8] * 2
        assert [batch.size for batch in run.batches("validation")] == [16] * 2


def test_a_fit_inside_a_fit_with_the_same_callback_records_both(tmp_path: Path):
    def fit(model: Any, callbacks: list[Any]) -> Any:
        inner = lambda model: feed(X[:8], Y[:8], epochs=1)(model, callbacks)  # noqa: E731
        return feed(X, Y)(model, [*callbacks, Act("on_train_batch_end", inner)])

    run = train_twice(lambda: compiled(models.make_mlp(dropout=0.2)), fit, tmp_path)
    assert [batch.size for batch in run.batches("train")] == [16, 16, 8, 8, 16, 16, 8]


@pytest.mark.parametrize("moment", ["on_epoch_end", "on_train_batch_end"])
def test_a_model_compiled_anew_while_it_trains_does_what_keras_does(moment: str, tmp_path: Path):
    def fit(model: Any, callbacks: list[Any]) -> Any:
        again = Act(moment, lambda model: (compiled(model, metrics=["accuracy"]), model.make_train_function()))
        try:
            return feed(X, Y, epochs=3)(model, [*callbacks, again])
        except Exception as error:
            return repr(error)

    run = train_twice(lambda: compiled(models.make_mlp(dropout=0.2)), fit, tmp_path)
    assert [batch.size for batch in run.batches("train")] == SIZES * 3


def test_one_callback_serves_two_models(tmp_path: Path):
    callback = BatchViewCallback(tmp_path)
    found = []
    for callbacks in ([], [callback]):
        keras.utils.set_random_seed(7)
        pair = [compiled(models.make_mlp(dropout=0.2)) for _ in range(2)]
        found.append([feed(X, Y, epochs=1)(model, callbacks) for model in (*pair, pair[0])])

    assert found[0] == found[1]
    assert [batch.size for batch in load(tmp_path)["."].batches("train")] == SIZES * 3


@pytest.mark.parametrize("moment", ["on_train_batch_end", "on_epoch_end", "on_train_end"])
def test_copies_of_a_model_know_nothing_of_the_callback(moment: str, tmp_path: Path):
    copies: list[Any] = []

    def act(model: Any) -> None:
        copies.append([pickle.loads(pickle.dumps(model)), copy.deepcopy(model), keras.models.clone_model(model)])

    train_twice(lambda: compiled(models.make_mlp()), fit_with(lambda: [Act(moment, act, at=0)]), tmp_path)
    plain, ours = copies
    for first, second in zip(plain, ours, strict=True):
        assert set(vars(first)) == set(vars(second))
        assert second.layers[0].name == first.layers[0].name
    np.testing.assert_array_equal(ours[0](X), plain[0](X))
    np.testing.assert_array_equal(ours[1](X), plain[1](X))
    assert feed(X, Y)(ours[0], []) == feed(X, Y)(plain[0], [])
    assert_as_found(ours[0])


def test_the_callback_works_inside_a_callback_list_given_to_fit(tmp_path: Path):
    def fit(model: Any, callbacks: list[Any]) -> Any:
        together = keras.callbacks.CallbackList(callbacks, add_history=True, model=model, epochs=2, steps=3)
        return feed(X, Y)(model, together)

    run = train_twice(lambda: compiled(models.make_mlp()), fit, tmp_path)
    assert [batch.size for batch in run.batches("train")] == SIZES * 2


@pytest.mark.parametrize("interrupted", [False, True])
@pytest.mark.parametrize("mode", [GRAPH, EAGER], ids=["graph", "eager"])
def test_nothing_is_kept_alive(mode: dict[str, Any], interrupted: bool, tmp_path: Path):
    def stop(model: Any) -> None:
        raise RuntimeError("on purpose")

    def train() -> list[Any]:
        model, callback = compiled(models.make_mlp(), **mode), BatchViewCallback(tmp_path)
        with contextlib.suppress(RuntimeError):
            feed(X, Y)(model, [callback, *([Act("on_train_batch_end", stop)] if interrupted else [])])
        return [weakref.ref(model), weakref.ref(model.layers[0]), weakref.ref(callback)]

    references = train()
    assert_no_thread()
    keras.backend.clear_session()
    gc.collect()
    assert [reference() for reference in references] == [None] * 3


@pytest.mark.slow
@pytest.mark.parametrize("mode", [GRAPH, EAGER], ids=["graph", "eager"])
def test_many_steps_leave_nothing_behind(mode: dict[str, Any], tmp_path: Path):
    counts: list[tuple[int, int]] = []

    def count(model: Any) -> None:
        # What still waits to be written is no growth.
        assert callback._writer.flush(60)
        gc.collect()
        step = model.train_function
        counts.append((len(gc.get_objects()), len(step._layouts) + len(step._eager) + len(step._complaints)))

    model, callback = compiled(dense(1), "mse", **mode), BatchViewCallback(tmp_path, histogram_freq=2)
    many = 1500 if mode is GRAPH else 300
    data = tf.data.Dataset.from_tensors((X[:2], SIZE[:2])).repeat()
    moments = [Act("on_train_batch_end", count, at=at) for at in (many // 3, many - 10)]
    model.fit(data, steps_per_epoch=many, shuffle=False, verbose=0, callbacks=[callback, *moments])

    assert counts[0][1] == counts[1][1] <= 2
    assert counts[1][0] - counts[0][0] < many // 6
    assert len(load(tmp_path)["."].batches("train")) == many
