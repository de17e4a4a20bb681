"""`record_predictions`: any data, one pass, against the model called eagerly."""

from __future__ import annotations

import io
import itertools
import sys
import tracemalloc
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import keras
import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf
from PIL import Image

from tb_batchview import BatchViewCallback, BatchWriter, load, predictions, record_predictions
from tb_batchview.errors import ArgumentError, BatchViewError, BatchViewWarning
from tests import models
from tests.fits import Act, assert_no_thread, messages, state_of
from tests.models import BATCH, CLASSES, LAYERS, SAMPLES

SIZES = [16, 16, 16, 16, 6]
X, Y = models.make_data((8,))
ONE_HOT = np.eye(CLASSES, dtype="float32")[Y]
WEIGHTS = np.linspace(0.5, 2, SAMPLES).astype("float32")


def compiled(model: Any, loss: Any = "sparse_categorical_crossentropy", **options: Any) -> Any:
    model.compile(**{"optimizer": "adam", "loss": loss, "metrics": ["accuracy"], "jit_compile": False} | options)
    return model


@pytest.fixture(scope="module")
def model() -> Any:
    """Return one model for all tests that leave it as it was, as all must."""
    return compiled(models.make_mlp(dropout=0.3))


def joined(run: Any, field: str, phase: str = "predict") -> np.ndarray:
    return np.concatenate([getattr(batch, field) for batch in run.batches(phase)])


def pieces(*arrays: np.ndarray, size: int = BATCH) -> Iterator[tuple[np.ndarray, ...]]:
    for start in range(0, len(arrays[0]), size):
        yield tuple(array[start : start + size] for array in arrays)


class Rows(keras.utils.PyDataset):
    """X and Y, and what is told at the ends of a pass."""

    def __init__(self, size: int = BATCH, **options: Any) -> None:
        super().__init__(**options)
        self.size, self.told = size, []

    def __len__(self) -> int:
        return -(-SAMPLES // self.size)

    def __getitem__(self, place: int) -> Any:
        return X[place * self.size : (place + 1) * self.size], Y[place * self.size : (place + 1) * self.size]

    def on_epoch_begin(self) -> None:
        self.told.append("begin")

    def on_epoch_end(self) -> None:
        self.told.append("end")


def rows() -> Any:
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(BATCH)


class Frame:
    """What pandas' tables are to those who slice them."""

    iloc = None

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape = array, array.shape

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.array

    def __getitem__(self, place: Any) -> Any:
        raise KeyError(place)


# --- data ---

DATA: dict[str, Callable[[], tuple[Any, dict[str, Any]]]] = {
    "arrays": lambda: ((X, Y), {"batch_size": BATCH}),
    "arrays with weights": lambda: ((X, Y, WEIGHTS), {"batch_size": BATCH}),
    "inputs and targets": lambda: (X, {"y": Y, "sample_weight": WEIGHTS, "batch_size": BATCH}),
    "keywords": lambda: (None, {"x": X, "y": Y.tolist(), "batch_size": BATCH}),
    "tables": lambda: (Frame(X), {"y": Frame(Y), "batch_size": BATCH}),
    "tensors": lambda: ((tf.constant(X), tf.constant(Y)), {"batch_size": BATCH}),
    "dataset": lambda: (rows(), {}),
    "dataset of unknown length": lambda: (rows().filter(lambda x, y: True), {}),
    "repeated dataset": lambda: (rows().repeat(), {"steps": 5}),
    "PyDataset": lambda: (Rows(), {}),
    "PyDataset with workers": lambda: (Rows(workers=2, max_queue_size=3), {}),
    "generator": lambda: (pieces(X, Y, WEIGHTS), {}),
    "endless generator": lambda: ((batch for _ in itertools.count() for batch in pieces(X, Y)), {"steps": 5}),
    "iterator": lambda: (map(list, pieces(X, Y)), {}),
    "list of batches": lambda: (list(pieces(X, Y)), {}),
    "batches of lists": lambda: (
        ((x.tolist(), y.tolist()) for x, y in pieces(X, Y))
        and (
            [(x, y.tolist()) for x, y in pieces(X, Y)],
            {},
        )
    ),
    "function": lambda: (
        (pieces, {"data_arguments": {}})
        and (
            lambda size: pieces(X, Y, size=size),
            {"data_arguments": {"size": BATCH}},
        )
    ),
    "function without arguments": lambda: (rows, {}),
    "class": lambda: (Rows, {"data_arguments": {"size": BATCH, "workers": 1}}),
}


@pytest.mark.parametrize("kind", DATA)
def test_data_of_every_kind_is_recorded_beside_its_true_values(kind: str, model: Any, tmp_path: Path):
    data, options = DATA[kind]()
    run = record_predictions(model, data, tmp_path, **options)
    scores = model(X).numpy()
    batches = run.batches("predict")

    assert [batch.size for batch in batches] == SIZES
    assert [(batch.step, batch.epoch, batch.index) for batch in batches] == [(place, 0, place) for place in range(5)]
    np.testing.assert_allclose(joined(run, "predictions"), scores, atol=1e-6)
    np.testing.assert_array_equal(joined(run, "target"), Y)
    np.testing.assert_array_equal(run.confusion("predict"), sklearn.metrics.confusion_matrix(Y, scores.argmax(1)))
    np.testing.assert_allclose(joined(run, "sample_loss"), -np.log(scores[np.arange(SAMPLES), Y]), atol=1e-5)
    weighted = "weights" in kind or kind in ("inputs and targets", "generator")
    for (_, y, weights), batch in zip(pieces(X, Y, WEIGHTS), batches, strict=True):
        factors = weights if weighted else np.ones(len(y))
        assert batch.loss == pytest.approx(float((batch.sample_loss * factors).mean()), abs=1e-5)
        assert batch.metrics["accuracy"] == pytest.approx(float((batch.predictions.argmax(1) == y).mean()), abs=1e-6)
        assert (batch.sample_weight is not None) == weighted
        if weighted:
            np.testing.assert_allclose(batch.sample_weight, weights)


def test_a_pydataset_is_told_of_its_pass_and_gives_each_batch_once(model: Any, tmp_path: Path):
    data = Rows()
    record_predictions(model, data, tmp_path)
    assert data.told == ["begin", "end"]


def test_shuffled_data_stay_with_their_targets(tmp_path: Path):
    place = np.arange(SAMPLES, dtype="float32")[:, None]
    data = tf.data.Dataset.from_tensor_slices((X, place)).shuffle(SAMPLES, reshuffle_each_iteration=True).batch(BATCH)
    model = keras.Sequential([keras.Input((8,)), LAYERS.Dense(1)])
    for name, given in {"plain": model, "compiled": compiled(model, "mse", metrics=[])}.items():
        run = record_predictions(given, data, tmp_path / name)
        found = joined(run, "targets").ravel().astype(int)
        assert sorted(found) == list(range(SAMPLES))
        assert list(found) != sorted(found)
        np.testing.assert_allclose(joined(run, "predictions"), model(X[found]), atol=1e-5)


def test_exactly_as_many_batches_are_taken_as_asked_for_and_each_goes_through_the_model_once(tmp_path: Path):
    calls: list[int] = []

    class Counting(keras.Sequential):
        def call(self, *args: Any, **kwargs: Any) -> Any:
            calls.append(1)
            return super().call(*args, **kwargs)

    model = Counting([keras.Input((8,)), LAYERS.Dense(CLASSES, activation="softmax")])
    calls.clear()  # Keras built it.
    data = pieces(X, Y)
    run = record_predictions(compiled(model, run_eagerly=True), data, tmp_path, steps=2)

    assert len(run.batches("predict")) == len(calls) == 2
    np.testing.assert_array_equal(next(data)[1], Y[32:48])


def test_steps_are_as_many_as_there_are_at_most(model: Any, tmp_path: Path):
    assert len(record_predictions(model, (X, Y), tmp_path / "arrays", steps=2).batches("predict")) == 2
    assert len(record_predictions(model, Rows(), tmp_path / "few", steps=9).batches("predict")) == 5
    assert len(record_predictions(model, pieces(X, Y), tmp_path / "generator", steps=9).batches("predict")) == 5


# --- tasks ---


@pytest.mark.parametrize("is_compiled", [True, False], ids=["compiled", "not compiled"])
@pytest.mark.parametrize("targets", ["numbers", "column", "one-hot"])
def test_class_numbers_come_from_numbers_and_from_one_hot(targets: str, is_compiled: bool, tmp_path: Path):
    model = models.make_mlp()
    y = {"numbers": Y, "column": Y[:, None], "one-hot": ONE_HOT}[targets]
    if is_compiled:
        compiled(model, "categorical_crossentropy" if targets == "one-hot" else "sparse_categorical_crossentropy")
    run = record_predictions(model, lambda: pieces(X, y), tmp_path, class_names=["a", "b", "c", "d"])
    predicted = model(X).numpy().argmax(1)

    np.testing.assert_array_equal(joined(run, "target"), Y)
    np.testing.assert_array_equal(joined(run, "predicted"), predicted)
    np.testing.assert_array_equal(run.confusion("predict"), sklearn.metrics.confusion_matrix(Y, predicted))
    assert run.class_names == ("a", "b", "c", "d")
    assert (joined(run, "sample_loss") is not None) if is_compiled else run.batches("predict")[0].sample_loss is None
    report = run.class_report("predict")
    truth = sklearn.metrics.classification_report(Y, predicted, output_dict=True, zero_division=np.nan)
    np.testing.assert_allclose(report.recall, [truth[str(number)]["recall"] for number in range(CLASSES)])


@pytest.mark.parametrize("is_compiled", [True, False], ids=["compiled", "not compiled"])
def test_a_binary_output_is_recorded(is_compiled: bool, tmp_path: Path):
    model = keras.Sequential([keras.Input((8,)), LAYERS.Dense(1, activation="sigmoid")])
    y = (Y > 1).astype("float32")
    if is_compiled:
        compiled(model, "binary_crossentropy")
    run = record_predictions(model, (X, y), tmp_path)
    chosen = model(X).numpy()[:, 0] > 0.5

    assert [spec.task for spec in run.outputs.values()] == ["binary"]
    np.testing.assert_array_equal(run.confusion("predict"), sklearn.metrics.confusion_matrix(y, chosen))


@pytest.mark.parametrize("is_compiled", [True, False], ids=["compiled", "not compiled"])
def test_several_labels_are_recorded(is_compiled: bool, tmp_path: Path):
    model = keras.Sequential([keras.Input((8,)), LAYERS.Dense(3, activation="sigmoid")])
    y = np.random.default_rng(3).integers(0, 2, (SAMPLES, 3)).astype("float32")
    if is_compiled:
        compiled(model, "binary_crossentropy", metrics=[])
    run = record_predictions(model, (X, y), tmp_path)
    report = run.class_report("predict")

    assert [spec.task for spec in run.outputs.values()] == ["multilabel"]
    options: Any = {"average": None, "zero_division": np.nan}
    chosen = model(X).numpy() > 0.5
    np.testing.assert_allclose(report.recall, sklearn.metrics.recall_score(y, chosen, **options))
    np.testing.assert_allclose(report.precision, sklearn.metrics.precision_score(y, chosen, **options))


@pytest.mark.parametrize("is_compiled", [True, False], ids=["compiled", "not compiled"])
def test_regression_is_recorded(is_compiled: bool, tmp_path: Path):
    model = keras.Sequential([keras.Input((8,)), LAYERS.Dense(2)])
    y = X[:, :2] * 2
    if is_compiled:
        compiled(model, "mse", metrics=["mae"])
    run = record_predictions(model, (X, y), tmp_path)
    distance = np.abs(model(X).numpy() - y)

    assert [spec.task for spec in run.outputs.values()] == ["regression"]
    assert np.mean([batch.error_rate * batch.size for batch in run.batches("predict")]) * 3 / SAMPLES == pytest.approx(
        distance.mean(), rel=1e-4
    )
    if is_compiled:
        np.testing.assert_allclose(joined(run, "sample_loss"), (distance**2).mean(1), rtol=1e-3, atol=1e-6)


def make_heads(form: str) -> Any:
    inputs = keras.Input((8,))
    kind = LAYERS.Dense(CLASSES, activation="softmax", name="kind")(inputs)
    size = LAYERS.Dense(1, name="size")(inputs)
    return keras.Model(inputs, {"kind": kind, "size": size} if form == "dict" else [kind, size])


@pytest.mark.parametrize("is_compiled", [True, False], ids=["compiled", "not compiled"])
@pytest.mark.parametrize("form", ["list", "dict"])
def test_several_outputs_have_their_own_targets(form: str, is_compiled: bool, tmp_path: Path):
    model = make_heads(form)
    size = X.sum(1, keepdims=True)
    y: Any = {"kind": Y, "size": size} if form == "dict" else [Y, size]
    if is_compiled:
        losses: Any = {"kind": "sparse_categorical_crossentropy", "size": "mse"}
        compiled(model, losses if form == "dict" else list(losses.values()), metrics=None)
    run = record_predictions(model, X, tmp_path / "all", y=y, class_names={"kind": list("abcd")})
    predicted = model(X)
    kind, true_size = (predicted["kind"], predicted["size"]) if form == "dict" else predicted

    assert {name: spec.task for name, spec in run.outputs.items()} == {"kind": "multiclass", "size": "regression"}
    matrix = sklearn.metrics.confusion_matrix(Y, kind.numpy().argmax(1))
    np.testing.assert_array_equal(run.confusion("predict", output="kind"), matrix)
    found = np.concatenate([batch.predictions["size"] for batch in run.batches("predict")])
    np.testing.assert_allclose(found, true_size, atol=1e-5)
    np.testing.assert_array_equal(np.concatenate([batch.targets["size"] for batch in run.batches("predict")]), size)

    run = record_predictions(model, lambda: [(X, tuple(y) if form == "list" else y)], tmp_path / "one", outputs="kind")
    assert list(run.outputs) == ["kind"]
    np.testing.assert_array_equal(run.confusion("predict"), matrix)
    with pytest.raises(
        ArgumentError, match=r"outputs must be names of outputs. Received: \['knd'\]. There are: kind, size"
    ):
        record_predictions(model, X, tmp_path / "none", y=y, outputs=["knd"])


# --- what is no compiled model ---


class Foreign:
    """A tensor of another library, on its device and part of a gradient."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def detach(self) -> Foreign:
        return self

    def cpu(self) -> Any:
        return self.array


def test_a_function_may_make_the_predictions(tmp_path: Path):
    model = models.make_mlp()
    scores = model(X).numpy()
    forms: dict[str, Callable[[Any], Any]] = {
        "array": lambda x: model(x).numpy(),
        "list": lambda x: model(x).numpy().tolist(),
        "tensor": lambda x: Foreign(model(x).numpy()),
    }
    for name, function in forms.items():
        run = record_predictions(function, (X, Y), tmp_path / name)
        np.testing.assert_allclose(joined(run, "predictions"), scores, atol=1e-6)
        np.testing.assert_array_equal(run.confusion("predict"), sklearn.metrics.confusion_matrix(Y, scores.argmax(1)))
    run = record_predictions(
        lambda x: {"a": x[:, :3], "b": x[:, 3:]}, X, tmp_path / "two", y={"a": X[:, :3], "b": X[:, 3:]}
    )
    assert [batch.error_rate["a"] if isinstance(batch.error_rate, dict) else 0 for batch in run.batches("predict")]
    assert {name: spec.task for name, spec in run.outputs.items()} == {"a": "regression", "b": "regression"}


def test_a_loss_that_does_not_fit_the_targets_is_warned_of_and_the_predictions_recorded(tmp_path: Path):
    model = compiled(models.make_mlp())
    with pytest.warns(BatchViewWarning) as caught:
        run = record_predictions(model, (X, ONE_HOT), tmp_path)

    assert len(messages(caught)) == 1
    assert messages(caught)[0].startswith("Predictions are recorded without loss and metrics, for the model cannot be")
    assert run.batches("predict")[0].metrics == {}
    np.testing.assert_array_equal(joined(run, "target"), Y)


def test_a_model_compiled_without_a_loss_is_recorded_as_one_that_is_not_compiled(tmp_path: Path):
    model = models.make_mlp()
    model.compile("adam")
    np.testing.assert_array_equal(joined(record_predictions(model, (X, Y), tmp_path), "target"), Y)


# --- the model stays as it was ---


class Remembering(keras.metrics.Metric):
    """Keeps state that Keras does not know of."""

    def __init__(self) -> None:
        super().__init__(name="remembering")
        self.total = self.add_variable((), "zeros", name="total")
        self.seen: list[int] = []
        self.raw = tf.Variable(0.0)
        self.updates = 0

    def update_state(self, y: Any, p: Any, sample_weight: Any = None) -> None:
        self.seen.append(len(y))
        self.updates += 1
        self.raw.assign_add(1.0)
        self.total.assign_add(1.0)

    def result(self) -> Any:
        return self.total + 0.0


class Doubting(keras.layers.Layer):
    """Drops units in inference, too."""

    def __init__(self) -> None:
        super().__init__()
        self.seeds = keras.random.SeedGenerator(5)

    def call(self, inputs: Any) -> Any:
        return keras.random.dropout(inputs, 0.5, seed=self.seeds)


def all_of(model: Any, metric: Any, *, metrics: bool) -> list[Any]:
    values = [keras.ops.convert_to_numpy(variable.value).tobytes() for variable in model.metrics_variables]
    own = [list(metric.seen), metric.updates, float(metric.raw), list(vars(metric))]
    functions = [model.train_function, model.test_function, model.predict_function]
    return [state_of(model), values if metrics else [], own, functions, sorted(vars(model))]


@pytest.mark.filterwarnings("ignore:tb_batchview. The metric 'remembering' has no value")
@pytest.mark.parametrize("trained", [False, True], ids=["new", "trained"])
def test_a_model_is_left_as_it_was_found(trained: bool, tmp_path: Path):
    model = compiled(keras.Sequential([keras.Input((8,)), Doubting(), LAYERS.Dense(CLASSES, activation="softmax")]))
    metric = Remembering()
    compiled(model, metrics=["accuracy", metric], run_eagerly=True)
    if trained:
        model.fit(X, Y, verbose=0, validation_data=(X, Y))
        model.predict(X, verbose=0)
    before = all_of(model, metric, metrics=trained)

    record_predictions(model, (X, Y), tmp_path / "whole")
    assert all_of(model, metric, metrics=trained) == before

    def broken() -> Iterator[Any]:
        yield from pieces(X, Y)
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        record_predictions(model, broken, tmp_path / "broken")
    assert all_of(model, metric, metrics=trained) == before
    with pytest.raises(ArgumentError):
        record_predictions(model, (X, Y), tmp_path / "wrong", outputs="nothing")
    assert all_of(model, metric, metrics=trained) == before


def test_predictions_in_the_middle_of_a_training_change_nothing_of_it(tmp_path: Path):
    found = []
    for moment in (None, "on_train_batch_end"):
        keras.utils.set_random_seed(7)
        model = compiled(models.make_mlp(dropout=0.3))
        record = lambda model: record_predictions(model, (X[:64], Y[:64]), tmp_path / "test")  # noqa: E731
        callbacks: list[Any] = [BatchViewCallback(tmp_path / str(moment))]
        callbacks += [Act(moment, record), Act("on_epoch_end", record, at=0)] if moment else []
        options = {"batch_size": BATCH, "epochs": 2, "validation_split": 0.25, "verbose": 0}
        found.append((model.fit(X[:64], Y[:64], callbacks=callbacks, **options).history, state_of(model)))
    assert found[0] == found[1]
    assert len(load(tmp_path / "test")["."].batches("predict")) == 4
    run = load(tmp_path / "on_train_batch_end")["."]
    assert [len(run.batches(phase)) for phase in ("train", "validation")] == [6, 2]


# --- one pass after another ---


def test_a_further_pass_goes_on_and_samples_are_followed_by_their_ids(tmp_path: Path):
    model = models.make_mlp()
    names = [f"{place}.png" for place in range(SAMPLES)]
    histories = []
    for _ in range(3):
        run = record_predictions(model, (X, Y), tmp_path, batch_size=BATCH, sample_ids=names, phase="validation")
        histories.append(model(X[20:21]).numpy()[0, Y[20]])
        model.layers[-1].bias.assign_add([0.5, 0.0, 0.0, -0.5])

    assert run.phases == ("validation",)
    assert [(batch.step, batch.epoch, batch.index) for batch in run.batches("validation")] == [
        (place, place // 5, place % 5) for place in range(15)
    ]
    history = run.sample_history("validation", "20.png")
    assert list(history.epoch) == [0, 1, 2]
    np.testing.assert_allclose(history.target_score, histories, atol=1e-6)


def test_step_and_epoch_may_be_said(model: Any, tmp_path: Path):
    run = record_predictions(model, (X, Y), tmp_path, step=100, epoch=7)
    assert [(batch.step, batch.epoch, batch.index) for batch in run.batches("predict")] == [
        (100, 7, 0),
        (101, 7, 1),
        (102, 7, 2),
    ]
    with pytest.raises(ArgumentError, match="step must be greater than 102, the last one of phase 'predict'"):
        record_predictions(model, (X, Y), tmp_path, step=100)


def test_another_model_has_a_run_of_its_own_beside_it(model: Any, tmp_path: Path):
    record_predictions(model, (X, Y), tmp_path / "run")
    other = keras.Sequential([keras.Input((8,)), LAYERS.Dense(CLASSES)])
    with pytest.warns(BatchViewWarning, match="holds batches of another model"):
        run = record_predictions(other, (X, Y), tmp_path / "run")
    assert len(run.batches("predict")) == 3
    assert sorted(load(tmp_path)) == ["run", "run-2"]


def test_top_k_scores_are_kept(model: Any, tmp_path: Path):
    run = record_predictions(model, (X, Y), tmp_path, top_k=2)
    np.testing.assert_allclose(
        np.sort(joined(run, "top_scores"))[:, ::-1], np.sort(model(X).numpy())[:, :-3:-1], atol=1e-6
    )


def test_pictures_and_texts_of_the_samples_are_kept(tmp_path: Path):
    pictures = np.random.default_rng(0).integers(0, 256, (20, 6, 6, 3)).astype("uint8")
    model = keras.Sequential([keras.Input((6, 6, 3)), LAYERS.Flatten(), LAYERS.Dense(CLASSES)])
    run = record_predictions(
        model, (pictures, Y[:20]), tmp_path / "pictures", inputs="thumbnails", sample_ids=range(20)
    )
    kind, content = run.input_of("predict", step=0, row=3)
    assert kind == "image/png"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), pictures[3])

    name = lambda x: [f"sample {row.sum()}" for row in x]  # noqa: E731
    run = record_predictions(model, (pictures, Y[:20]), tmp_path / "texts", inputs=name, sample_ids=range(20))
    assert run.input_of("predict", step=0, row=3) == f"sample {pictures[3].sum()}"


def test_of_several_inputs_the_one_that_looks_like_pictures_or_texts_is_kept(tmp_path: Path):
    pictures = np.random.default_rng(0).integers(0, 256, (20, 6, 6, 3)).astype("uint8")
    numbers, texts = np.zeros((20, 5), "float32"), np.array([[f"text {place}".encode()] for place in range(20)])
    score = lambda x: np.zeros((len(x["numbers"]), CLASSES))  # noqa: E731
    both = {"numbers": numbers, "picture": pictures}
    run = record_predictions(score, (both, Y[:20]), tmp_path / "pictures", inputs="thumbnails")
    _, content = run.input_of("predict", step=0, row=3)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), pictures[3])

    data = tf.data.Dataset.from_tensor_slices(({"numbers": numbers, "text": texts}, Y[:20])).batch(8)
    run = record_predictions(score, data, tmp_path / "texts", inputs="thumbnails")
    assert run.input_of("predict", step=1, row=3) == "text 11"

    neither = {"numbers": numbers, "more": numbers}
    with pytest.raises(ArgumentError, match="No input of the model looks like a picture or a text"):
        record_predictions(score, (neither, Y[:20]), tmp_path / "neither", inputs="thumbnails")


@pytest.mark.parametrize("kind", ["arrays", "dataset"])
def test_a_function_of_inputs_is_given_what_a_callback_gives_it(kind: str, tmp_path: Path):
    x = {"picture": np.full((6, 4, 4), 0.5, "float32"), "text": np.array([["ü"]] * 6)}
    x["text"] = np.char.encode(x["text"], "utf-8")
    given = tf.data.Dataset.from_tensor_slices((x, Y[:6])).batch(6) if kind == "dataset" else (x, Y[:6])

    def show(x: Any) -> Any:
        assert x["text"].tolist() == [["ü"]] * 6
        x["picture"] *= 255  # in place
        return x["picture"].round().astype("uint8")

    run = record_predictions(lambda x: np.zeros((6, CLASSES)), given, tmp_path, inputs=show)
    _, content = run.input_of("predict", step=0, row=3)
    assert np.asarray(Image.open(io.BytesIO(content))).tolist() == [[128] * 4] * 4
    assert x["picture"].max() == 0.5


def test_a_function_of_inputs_may_return_pictures_of_several_sizes(tmp_path: Path):
    show = lambda x: [Image.new("L", (3 + place, 4)) for place in range(len(x))]  # noqa: E731
    run = record_predictions(lambda x: np.zeros((len(x), CLASSES)), (X[:3], Y[:3]), tmp_path, inputs=show)
    sizes = [Image.open(io.BytesIO(content)).size for content in run.batches("predict")[0].inputs]
    assert sizes == [(3, 4), (4, 4), (5, 4)]


@pytest.mark.parametrize("outputs", [3, None, np.zeros((2, CLASSES)), [["a"]] * 9, {"a": np.zeros((9, 2)), "b": 1}])
def test_a_function_must_return_numbers_of_each_sample(outputs: Any, tmp_path: Path):
    with pytest.raises(ArgumentError, match="model must return numbers, one row per sample"):
        record_predictions(lambda x: outputs, (X[:9], Y[:9]), tmp_path)
    assert not load(tmp_path)


# --- memory, interruption, what is shown ---


def test_memory_does_not_grow_with_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(predictions, "_MAX_PENDING_MB", 4)
    batch = np.zeros((64, 4), "float32"), np.zeros((64, 4096), "float32")  # 1 MB of targets

    def data(count: int) -> Iterator[Any]:
        for _ in range(count):
            yield batch[0], batch[1].copy()

    def peak(count: int) -> int:
        tracemalloc.reset_peak()
        record_predictions(lambda x: np.zeros((64, 4096), "float32"), data(count), tmp_path / str(count))
        return tracemalloc.get_traced_memory()[1]

    tracemalloc.start()
    try:
        peak(2)
        few, many = peak(12), peak(60)
    finally:
        tracemalloc.stop()
    assert many < few + 4e6 < 40e6
    assert (tmp_path / "60").exists()
    assert load(tmp_path / "60")["."].health.bytes > 100e6


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_came_before_an_error_in_the_data_stays_readable(error: Any, model: Any, tmp_path: Path):
    raised = error("the disk is gone")

    def broken() -> Iterator[Any]:
        yield from itertools.islice(pieces(X, Y), 3)
        raise raised

    with pytest.raises(error) as caught:
        record_predictions(model, broken, tmp_path)

    assert caught.value is raised
    assert caught.value.__notes__ == [
        f"tb_batchview: the 3 batches (48 samples) before this error are in {tmp_path} and can be read."
    ]
    run = load(tmp_path)["."]
    np.testing.assert_array_equal(joined(run, "target"), Y[:48])
    assert run.health.torn_files == 0
    assert_no_thread()


def test_an_error_of_the_model_is_raised_as_it_is(tmp_path: Path):
    model = models.make_mlp()
    with pytest.raises(ValueError, match="to have value 8"):
        record_predictions(model, (X[:, :5], Y), tmp_path / "plain")
    with (
        pytest.raises(ValueError, match="to have value 8"),
        pytest.warns(BatchViewWarning, match="cannot be evaluated"),
    ):
        record_predictions(compiled(model), (X[:, :5], Y), tmp_path / "compiled")


def test_a_directory_that_cannot_be_written_is_an_error(model: Any, tmp_path: Path):
    (tmp_path / "file").write_text("no directory")
    with (
        pytest.warns(BatchViewWarning, match="cannot be written"),
        pytest.raises(BatchViewError, match=r"Nothing could be recorded in .*file: Nothing is recorded: "),
    ):
        record_predictions(model, (X, Y), tmp_path / "file")


@pytest.mark.parametrize(
    ("verbose", "data", "expected"),
    [
        ("auto", (X, Y), None),
        (0, (X, Y), None),
        (1, (X, Y), "3/3"),
        (1, "generator", "5/Unknown"),
    ],
)
def test_a_bar_is_shown_where_somebody_looks(
    verbose: Any, data: Any, expected: str | None, model: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    record_predictions(model, pieces(X, Y) if data == "generator" else data, tmp_path, verbose=verbose)
    shown = capfd.readouterr()
    assert expected in shown.out if expected else shown.out == ""


@pytest.mark.parametrize(
    ("shell", "shows"), [(None, False), (types.SimpleNamespace(kernel=1), True), (object(), False)]
)
def test_a_notebook_has_a_bar_of_its_own_accord(
    shell: Any, shows: bool, model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    ipython = types.SimpleNamespace(get_ipython=lambda: shell)
    # That of a notebook may be imported anywhere.
    with mock.patch.dict(sys.modules, {"IPython": ipython, "ipykernel": mock.Mock()}):
        record_predictions(model, (X, Y), tmp_path)

    assert ("3/3" in capsys.readouterr().out) == shows


def test_a_terminal_has_a_bar_of_its_own_accord(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    record_predictions(model, (X, Y), tmp_path / "first")
    assert "3/3" in capsys.readouterr().out
    record_predictions(model, (X, Y), tmp_path / "second", verbose=0)
    assert capsys.readouterr().out == ""


# --- what is wrong is said ---


def endless() -> Iterator[Any]:
    while True:
        yield X, Y


class Endless(keras.utils.PyDataset):
    @property
    def num_batches(self) -> None:
        return None

    def __getitem__(self, place: int) -> Any:
        return X, Y


WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "array alone": (X, {}, r"data must have targets: .* Received: a ndarray without y"),
    "dict alone": ({"a": X}, {}, "data must have targets: .* Received: a dict without y"),
    "dataset of inputs": (tf.data.Dataset.from_tensors(X), {}, "data must have targets"),
    "generator of inputs": ((x for x in [X]), {}, "data must have targets: .* Received: a ndarray without y"),
    "tuple of one": ((X,), {}, "data must have targets: .* Received: a tuple of 1"),
    "no targets in a batch": ([(X, None)], {}, "data must have targets"),
    "nothing": (None, {}, "data must be arrays, a tf.data.Dataset"),
    "number": (3, {}, "data must be arrays, .* Received: data=3"),
    "both": (X, {"x": X, "y": Y}, "data must be given once. Received: data and x"),
    "targets twice": ((X, Y), {"y": Y}, "Targets and weights must be given once"),
    "targets of a dataset": (rows(), {"y": Y}, "y and sample_weight are for arrays"),
    "lengths": ((X, Y[:-1]), {}, "same number of samples. Received: x of 70, y of 69"),
    "weights": ((X, Y, WEIGHTS[:3]), {}, "Received: x of 70, y of 70, sample_weight of 3"),
    "lengths in a batch": ([(X[:4], Y[:3])], {}, "Received: x of 4, y of 3"),
    "single samples": (tf.data.Dataset.from_tensor_slices((X, Y)), {}, "must come in batches. Received: y as .*batch"),
    "texts": ((X, np.array(["cat"] * SAMPLES)), {}, "Targets must be numbers, one row per sample, .* outputs scores"),
    "another output": (
        X,
        {"y": {"kind": Y}},
        "in the structure of the outputs scores. Received: y of {'kind': 'int64'}",
    ),
    "no samples": ((X[:0], Y[:0]), {}, "at least one sample"),
    "no batches": (iter(()), {}, "at least one batch. Received: none"),
    "empty dataset": (rows().take(0), {}, "at least one batch"),
    "endless dataset": (rows().repeat(), {}, "never end. Received: steps=None. .* steps=100"),
    "endless PyDataset": (Endless(), {}, "data of type Endless never end"),
    "endless generator": (endless, {}, "data of type generator never end"),
    "cycle": (itertools.cycle([(X, Y)]), {}, "data of type cycle never end"),
    "batch_size": (rows(), {"batch_size": 8}, "batch_size is for arrays"),
    "arguments": ((X, Y), {"data_arguments": {"a": 1}}, "data_arguments are for a function"),
    "ids": ((X, Y), {"sample_ids": ["a"]}, "one id for each sample. Received: 1 ids for 70 samples"),
    "id": ((X, Y), {"sample_ids": "abc"}, "Received: sample_ids='abc'"),
    "few ids": (pieces(X, Y), {"sample_ids": range(20)}, "Received: 4 ids more for a batch of 16"),
    "many ids": (pieces(X, Y), {"sample_ids": range(80)}, "Received: 80 ids for 70 samples"),
    "phase": ((X, Y), {"phase": "test"}, "phase must be one of train, validation, predict. Received: phase='test'"),
    "steps": ((X, Y), {"steps": 0}, "steps must be a whole number of at least 1"),
    "epoch": ((X, Y), {"epoch": -1}, "epoch must be a whole number of at least 0"),
    "verbose": ((X, Y), {"verbose": 2}, "verbose must be 'auto', 0 or 1"),
    "inputs": ((X, Y), {"inputs": 3}, "inputs must be None, 'thumbnails' or a function"),
    "outputs": ((X, Y), {"outputs": [3]}, r"outputs must be names of outputs. Received: outputs=\[3\]"),
    "names": ((X, Y), {"class_names": ["a"]}, "one name for each of the 4 classes"),
    "task": ((X, Y), {"task": "binary"}, "task 'binary' must have one score per sample"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_say_what_must_be(case: str, tmp_path: Path):
    data, options, message = WRONG[case]
    with pytest.raises(ArgumentError, match=message):
        record_predictions(models.make_mlp(), data, tmp_path / "run", **options)


def test_texts_for_targets_are_refused_without_a_word_of_the_loss(
    model: Any, tmp_path: Path, recwarn: pytest.WarningsRecorder
):
    texts = np.array(["cat"] * SAMPLES)
    with pytest.raises(ArgumentError, match="Targets must be numbers"):
        record_predictions(model, (X, texts), tmp_path / "run")
    assert [str(warning.message) for warning in recwarn] == []


def test_what_is_no_model_and_no_directory_is_refused(model: Any, tmp_path: Path):
    with pytest.raises(ArgumentError, match=r"model must be a keras.Model, or a function"):
        record_predictions("model.keras", (X, Y), tmp_path)
    with pytest.raises(ArgumentError, match=r"log_dir must be a str or os.PathLike. Received: log_dir=None"):
        record_predictions(model, (X, Y))


def test_a_model_of_several_replicas_is_refused_with_the_way_to_do_it(tmp_path: Path):
    class Replicated(keras.Sequential):
        distribute_strategy = types.SimpleNamespace(num_replicas_in_sync=2)

    with pytest.raises(ArgumentError, match=r"model must be on one replica. Received: a model of 2 replicas"):
        record_predictions(Replicated([keras.Input((8,)), LAYERS.Dense(4)]), (X, Y), tmp_path)


# --- the same by Keras' own loops, with the callback ---


def test_evaluate_with_the_callback_records_all_that_belongs_to_a_batch(tmp_path: Path):
    model = compiled(models.make_mlp(dropout=0.3))
    callback = BatchViewCallback(tmp_path, record=["validation"])
    model.evaluate(tf.data.Dataset.from_tensor_slices((X, Y, WEIGHTS)).batch(BATCH), verbose=0, callbacks=[callback])
    run = load(tmp_path)["."]
    scores = model(X).numpy()

    assert run.phases == ("validation",)
    assert [batch.size for batch in run.batches("validation")] == SIZES
    np.testing.assert_allclose(joined(run, "predictions", "validation"), scores, atol=1e-6)
    np.testing.assert_array_equal(joined(run, "target", "validation"), Y)
    np.testing.assert_allclose(joined(run, "sample_weight", "validation"), WEIGHTS)
    losses = -np.log(scores[np.arange(SAMPLES), Y])
    np.testing.assert_allclose(joined(run, "sample_loss", "validation"), losses, atol=1e-5)
    for place, batch in enumerate(run.batches("validation")):
        part = slice(place * BATCH, (place + 1) * BATCH)
        assert batch.loss == pytest.approx(float((losses * WEIGHTS)[part].mean()), abs=1e-5)
        assert batch.metrics["accuracy"] == pytest.approx(float((scores.argmax(1) == Y)[part].mean()), abs=1e-6)


def test_predict_with_the_callback_records_predictions_alone(tmp_path: Path):
    model = make_heads("dict")
    callback = BatchViewCallback(tmp_path, record=["predict"])
    # Keras hands on the inputs alone, and so there are no targets.
    for _ in range(2):
        model.predict(tf.data.Dataset.from_tensor_slices((X, Y)).batch(BATCH), verbose=0, callbacks=[callback])
    run = load(tmp_path)["."]
    batches = run.batches("predict")

    assert [(batch.step, batch.index, batch.size) for batch in batches] == [
        (place, place % 5, SIZES[place % 5]) for place in range(10)
    ]
    np.testing.assert_allclose(
        np.concatenate([batch.predictions["kind"] for batch in batches[:5]]), model(X)["kind"], atol=1e-6
    )
    assert batches[0].targets == {"kind": None, "size": None}
    assert np.isnan(batches[0].loss)


def test_predict_gives_several_batches_as_one_where_several_steps_are_one_call(tmp_path: Path):
    model = compiled(models.make_mlp(), steps_per_execution=2)
    callback = BatchViewCallback(tmp_path, record=["predict"])
    predicted = model.predict(X, batch_size=BATCH, verbose=0, callbacks=[callback])
    batches = load(tmp_path)["."].batches("predict")

    assert [batch.size for batch in batches] == [32, 32, 6]
    np.testing.assert_array_equal(np.concatenate([batch.predictions for batch in batches]), predicted)


def test_a_last_batch_of_one_number_is_predicted_like_the_others(tmp_path: Path):
    model = keras.Sequential([keras.Input((8,)), LAYERS.Dense(1)])
    callback = BatchViewCallback(tmp_path, record=["predict"])
    predicted = model.predict(X[:17], batch_size=BATCH, verbose=0, callbacks=[callback])
    batches = load(tmp_path)["."].batches("predict")

    assert [batch.predictions.shape for batch in batches] == [(16, 1), (1, 1)]
    np.testing.assert_array_equal(np.concatenate([batch.predictions for batch in batches]), predicted)


def test_predictions_stand_beside_those_of_a_writer(model: Any, tmp_path: Path):
    with BatchWriter(tmp_path) as writer:
        writer.add_batch(phase="predict", predictions=np.ones((2, CLASSES)) / CLASSES, targets=[0, 1])
    run = record_predictions(model, (X, Y), tmp_path)
    assert [batch.step for batch in run.batches("predict")] == [0, 1, 2, 3]
