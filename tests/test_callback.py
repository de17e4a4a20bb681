"""BatchViewCallback on real `model.fit`, compared with an independent loop."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tb_batchview import BatchViewCallback, load
from tb_batchview.errors import BatchViewError, BatchViewWarning
from tests import models

MODES = {
    "default": {},
    "graph": {"jit_compile": False},
    "xla": {"jit_compile": True},
    "eager": {"run_eagerly": True},
    "several steps in one call": {"jit_compile": False, "steps_per_execution": 3},
    "several steps in one call, xla": {"jit_compile": True, "steps_per_execution": 3},
    "several steps in one call, eager": {"run_eagerly": True, "steps_per_execution": 3},
}
modes = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)


def compiled(model: Any, mode: dict[str, Any], **options: Any) -> Any:
    options = {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]} | options
    model.compile(optimizer=keras.optimizers.Adam(0.01), **options, **mode)
    return model


def fit(model: Any, x: Any, y: Any, callbacks: list[Any], **options: Any) -> Any:
    options = {"batch_size": models.BATCH, "epochs": 2, "shuffle": False, "verbose": 0} | options
    return model.fit(x, y, callbacks=callbacks, **options).history


def assert_same_training(make_model: Any, shape: tuple[int, ...], mode: dict[str, Any], log_dir: Path) -> None:
    x, y = models.make_data(shape)
    found = []
    for callbacks in ([], [BatchViewCallback(log_dir, histogram_freq=2)]):
        model = compiled(make_model(), mode)
        history = fit(model, x, y, callbacks, epochs=3, shuffle=True, validation_split=0.2)
        found.append((history, [weight.tobytes() for weight in model.get_weights()]))
    assert found[0] == found[1]


@modes
def test_records_what_an_eager_loop_from_the_same_seed_computes(mode: dict[str, Any], tmp_path: Path):
    x, y = models.make_data((8,))
    truth = models.train_by_hand(
        models.make_mlp(),
        keras.losses.SparseCategoricalCrossentropy(),
        keras.optimizers.Adam(0.01),
        x,
        y,
        epochs=2,
    )

    fit(compiled(models.make_mlp(), mode), x, y, [BatchViewCallback(tmp_path)])
    batches = load(tmp_path)["."].batches("train")

    assert [len(batch.targets) for batch in batches] == [16, 16, 16, 16, 6] * 2
    assert [(batch.step, batch.epoch, batch.index) for batch in batches] == [(n, n // 5, n % 5) for n in range(10)]
    for batch, true in zip(batches, truth, strict=True):
        np.testing.assert_allclose(batch.predictions, true["predictions"], atol=1e-5)
        np.testing.assert_array_equal(batch.targets.ravel(), true["targets"])
        assert batch.loss == pytest.approx(true["loss"], abs=1e-5)
        scores = true["predictions"][np.arange(len(true["targets"])), true["targets"]]
        np.testing.assert_allclose(batch.sample_loss, -np.log(scores), atol=1e-4)
        right = true["predictions"].argmax(1) == true["targets"]
        assert batch.metrics == {"accuracy": pytest.approx(right.mean())}
        assert batch.size == len(true["targets"])


@modes
def test_training_an_mlp_is_the_same_to_the_bit(mode: dict[str, Any], tmp_path: Path):
    assert_same_training(lambda: models.make_mlp(dropout=0.3), (8,), mode, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [MODES["graph"], MODES["eager"]], ids=["graph", "eager"])
@pytest.mark.parametrize(
    ("make_model", "shape"),
    [(models.make_convnet, (8, 8, 3)), (models.make_transformer, (6, 8)), (models.make_rnn, (6, 8))],
    ids=["convnet", "transformer", "rnn"],
)
def test_training_is_the_same_to_the_bit(make_model: Any, shape: tuple[int, ...], mode: dict[str, Any], tmp_path: Path):
    assert_same_training(make_model, shape, mode, tmp_path)


@modes
def test_validation_equals_predict_with_the_weights_of_the_moment(mode: dict[str, Any], tmp_path: Path):
    x, y = models.make_data((8,))
    model = compiled(models.make_mlp(dropout=0.3), mode)
    fit(model, x, y, [BatchViewCallback(tmp_path)], epochs=1, validation_data=(x[:20], y[:20]))
    batches = load(tmp_path)["."].batches("validation")

    recorded = np.concatenate([batch.predictions for batch in batches])
    np.testing.assert_allclose(recorded, model.predict(x[:20], verbose=0), atol=1e-6)
    assert [(batch.step, batch.epoch, batch.index, batch.size) for batch in batches] == [(0, 0, 0, 16), (1, 0, 1, 4)]


def test_weights_of_classes_and_samples_are_those_the_loss_was_given(tmp_path: Path):
    x, y = models.make_data((8,))
    class_weight = {0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0}
    fit(compiled(models.make_mlp(), {}), x, y, [BatchViewCallback(tmp_path)], class_weight=class_weight)

    for batch in load(tmp_path)["."].batches("train"):
        np.testing.assert_array_equal(
            batch.sample_weight, [class_weight[int(target)] for target in batch.targets.ravel()]
        )
        assert batch.loss == pytest.approx(float(np.mean(batch.sample_weight * batch.sample_loss)), rel=1e-5)


def test_the_loss_holds_the_regularisers(tmp_path: Path):
    x, y = models.make_data((8,))
    model = keras.Sequential(
        [keras.Input((8,)), models.LAYERS.Dense(models.CLASSES, activation="softmax", kernel_regularizer="l2")]
    )
    initial = [np.array(weight) for weight in model.get_weights()]
    fit(compiled(model, {}), x, y, [BatchViewCallback(tmp_path)], epochs=1)

    batch = load(tmp_path)["."].batches("train")[0]
    assert batch.loss == pytest.approx(batch.sample_loss.mean() + 0.01 * np.square(initial[0]).sum(), rel=1e-5)


@pytest.mark.parametrize("kind", ["dataset", "generator", "py_dataset"])
def test_every_way_to_feed_data_gives_the_same_batches(kind: str, tmp_path: Path):
    x, y = models.make_data((8,))

    class Batches(keras.utils.PyDataset):
        def __len__(self) -> int:
            return -(-len(x) // models.BATCH)

        def __getitem__(self, number: int) -> Any:
            place = slice(number * models.BATCH, (number + 1) * models.BATCH)
            return x[place], y[place]

    batches = Batches()
    feeds = {
        "dataset": tf.data.Dataset.from_tensor_slices((x, y)).batch(models.BATCH),
        "generator": (batches[number] for number in range(len(batches))),
        "py_dataset": batches,
    }
    model = compiled(models.make_mlp(), {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras' own, of a generator that ends.
        model.fit(feeds[kind], epochs=1, shuffle=False, verbose=0, callbacks=[BatchViewCallback(tmp_path)])
    recorded = load(tmp_path)["."].batches("train")

    np.testing.assert_array_equal(np.concatenate([batch.targets.ravel() for batch in recorded]), y)
    assert [batch.size for batch in recorded] == [16, 16, 16, 16, 6]


@pytest.mark.parametrize("mode", [MODES["graph"], MODES["xla"], MODES["eager"]], ids=["graph", "xla", "eager"])
def test_layer_summaries_are_those_of_the_layers_outputs(mode: dict[str, Any], tmp_path: Path):
    x, y = models.make_data((8,))
    model = compiled(models.make_mlp(), mode)
    hidden = model.get_layer("hidden")(x[: models.BATCH]).numpy()
    fit(model, x, y, [BatchViewCallback(tmp_path, histogram_freq=2)], epochs=1)
    run = load(tmp_path)["."]

    layer = run.layer("hidden")
    assert list(layer.steps) == [0, 2, 4]
    assert layer.mean[0] == pytest.approx(hidden.mean(), rel=1e-5)
    assert layer.std[0] == pytest.approx(hidden.std(), rel=1e-5)
    assert (layer.min[0], layer.max[0]) == (pytest.approx(hidden.min()), pytest.approx(hidden.max()))
    assert layer.zero_fraction[0] == pytest.approx(np.mean(hidden == 0))
    counts, _ = np.histogram(hidden, bins=30, range=(hidden.min(), hidden.max()))
    assert np.abs(np.asarray(layer.histograms[0]) - counts).sum() <= 2  # A value on an edge may fall to either side.
    np.testing.assert_allclose(layer.unit_means[0], hidden.mean(0), rtol=1e-4, atol=1e-6)
    assert run.layers == ("hidden", "scores")


def test_layers_can_be_named_and_left_out(tmp_path: Path):
    x, y = models.make_data((8,))
    model = models.make_mlp()
    chosen = {"names": ["scores"], "globs": ["h*"], "objects": [model.get_layer("hidden")], "none": None}
    recorded = {}
    for name, layers in chosen.items():
        fit(compiled(model, {}), x, y, [BatchViewCallback(tmp_path / name, layers=layers)], epochs=1)
        recorded[name] = load(tmp_path)[name].layers

    assert recorded == {"names": ("scores",), "globs": ("hidden",), "objects": ("hidden",), "none": ()}


def test_the_model_is_left_as_found(tmp_path: Path):
    x, y = models.make_data((8,))
    model = compiled(models.make_mlp(), {})
    fit(model, x, y, [], epochs=1, validation_split=0.2)
    functions, threads = (model.train_function, model.test_function), threading.active_count()
    attributes = {id(thing): sorted(thing.__dict__) for thing in (model, *model.layers)}
    fit(model, x, y, [BatchViewCallback(tmp_path)], epochs=1, validation_split=0.2)

    assert (model.train_function, model.test_function) == functions
    assert {id(thing): sorted(thing.__dict__) for thing in (model, *model.layers)} == attributes
    assert threading.active_count() == threads


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_after_an_error_in_another_callback_the_model_trains_as_before(error: type[BaseException], tmp_path: Path):
    class Bomb(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 2:
                raise error("on purpose")

    x, y = models.make_data((8,))
    found = []
    for callbacks in ([], [BatchViewCallback(tmp_path)]):
        model = compiled(models.make_mlp(dropout=0.3), {})
        with pytest.raises(error, match="on purpose"):
            fit(model, x, y, [*callbacks, Bomb()])
        history = fit(model, x, y, [])
        found.append((history, [weight.tobytes() for weight in model.get_weights()]))
    assert found[0] == found[1]
    assert not type(model.train_function).__module__.startswith("tb_batchview")


def test_a_second_fit_goes_on_with_the_steps(tmp_path: Path):
    x, y = models.make_data((8,))
    callback = BatchViewCallback(tmp_path)
    model = compiled(models.make_mlp(), {})
    fit(model, x, y, [callback], epochs=1)
    fit(model, x, y, [callback], epochs=1)
    fit(model, x, y, [BatchViewCallback(tmp_path)], epochs=1)

    assert [batch.step for batch in load(tmp_path)["."].batches("train")] == list(range(15))


def test_another_model_in_the_same_log_dir_gets_a_run_of_its_own(tmp_path: Path):
    x, y = models.make_data((8,))
    log_dir = tmp_path / "run"
    fit(compiled(models.make_mlp(), {}), x, y, [BatchViewCallback(log_dir)], epochs=1)
    # The same layers made anew: the training goes on.
    fit(compiled(models.make_mlp(), {}), x, y, [BatchViewCallback(log_dir)], epochs=1)
    other = keras.Sequential([keras.layers.Dense(5, activation="relu"), keras.layers.Dense(4, activation="softmax")])
    with pytest.warns(BatchViewWarning, match="run-2") as caught:
        fit(compiled(other, {}), x, y, [BatchViewCallback(log_dir)], epochs=1)

    assert len([warning for warning in caught if warning.category is BatchViewWarning]) == 1
    runs = load(tmp_path)
    assert {name: len(run.batches("train")) for name, run in runs.items()} == {"run": 10, "run-2": 5}
    predicted = other.predict(x[:16], verbose=0).shape
    assert runs["run-2"].batches("train")[0].predictions.shape == predicted


def printed_by_fit(callbacks: list[Any], capfd: pytest.CaptureFixture[str], **options: Any) -> str:
    """Return what `fit` prints, without what depends on the time."""
    x, y = models.make_data((8,))
    model = compiled(models.make_mlp(dropout=0.2), {})
    capfd.readouterr()
    model.fit(x, y, batch_size=16, epochs=2, shuffle=False, validation_split=0.3, callbacks=callbacks, **options)
    lines = re.split(r"[\r\n\x08]+", capfd.readouterr().out)
    return "\n".join(re.sub(r"\d+(s|ms|us)(/step|/epoch)?", "", line) for line in lines if "val_" in line)


@pytest.mark.parametrize("verbose", [1, 2])
def test_the_progress_that_keras_prints_is_the_same(verbose: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    plain = printed_by_fit([], capfd, verbose=verbose)
    with_callback = printed_by_fit([BatchViewCallback(tmp_path)], capfd, verbose=verbose)

    assert plain.count("val_accuracy") == 2
    assert with_callback == plain


def test_a_model_compiled_anew_between_fits_is_recorded(tmp_path: Path):
    x, y = models.make_data((8,))
    callback = BatchViewCallback(tmp_path)
    model = models.make_mlp()
    for metrics in (["accuracy"], ["sparse_top_k_categorical_accuracy"]):
        fit(compiled(model, {}, metrics=metrics), x, y, [callback], epochs=1)
    batches = load(tmp_path)["."].batches("train")

    assert set(batches[0].metrics) == {"accuracy"}
    assert set(batches[5].metrics) == {"sparse_top_k_categorical_accuracy"}


def test_two_callbacks_record_the_same_batches(tmp_path: Path):
    x, y = models.make_data((8,))
    callbacks = [BatchViewCallback(tmp_path / name, layers=layers) for name, layers in (("a", "auto"), ("b", None))]
    fit(compiled(models.make_mlp(), {}), x, y, callbacks, epochs=1)
    log = load(tmp_path)

    for first, second in zip(log["a"].batches("train"), log["b"].batches("train"), strict=True):
        np.testing.assert_array_equal(first.predictions, second.predictions)
    assert (log["a"].layers, log["b"].layers) == (("hidden", "scores"), ())


@modes
def test_two_callbacks_have_layers_each_in_its_own_turn(mode: dict[str, Any], tmp_path: Path):
    x, y = models.make_data((8,))
    callbacks = [BatchViewCallback(tmp_path / str(freq), histogram_freq=freq) for freq in (2, 3, 0)]
    fit(compiled(models.make_mlp(), mode), x, y, callbacks)
    log = load(tmp_path)

    assert log["2"].layer("hidden").steps.tolist() == [0, 2, 4, 6, 8]
    assert log["3"].layer("hidden").steps.tolist() == [0, 3, 6, 9]
    assert log["0"].layers == ()


def test_predictions_of_logits_are_kept_as_logits_and_shown_as_probabilities(tmp_path: Path):
    x, y = models.make_data((8,))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    fit(compiled(models.make_mlp(activation=None), {}, loss=loss), x, y, [BatchViewCallback(tmp_path)], epochs=1)
    run = load(tmp_path)["."]

    assert (run.outputs["scores"].task, run.outputs["scores"].activation) == ("multiclass", "softmax")
    assert np.abs(run.batches("train")[0].predictions.sum(1) - 1).max() > 0.1


def mean_distance(true: Any, predicted: Any) -> Any:
    return keras.ops.mean(keras.ops.abs(true - predicted), -1)


TASKS = [
    ("sparse_categorical_crossentropy", "softmax", 4, lambda y: y, "multiclass"),
    ("categorical_crossentropy", "softmax", 4, lambda y: np.eye(4)[y], "multiclass"),
    ("binary_crossentropy", "sigmoid", 1, lambda y: (y > 1).astype("float32"), "binary"),
    ("binary_crossentropy", "sigmoid", 3, lambda y: (y[:, None] > np.arange(3)).astype("float32"), "multilabel"),
    ("mse", None, 1, lambda y: y.astype("float32"), "regression"),
    (mean_distance, None, 2, lambda y: np.stack([y * 0.3, y], 1), "regression"),
]


@pytest.mark.parametrize(("loss", "activation", "units", "targets", "task"), TASKS)
def test_the_task_is_told(loss: Any, activation: Any, units: int, targets: Any, task: str, tmp_path: Path):
    x, y = models.make_data((8,))
    model = keras.Sequential([keras.Input((8,)), models.LAYERS.Dense(units, activation=activation, name="head")])
    fit(compiled(model, {}, loss=loss, metrics=[]), x, targets(y), [BatchViewCallback(tmp_path)], epochs=1)
    run = load(tmp_path)["."]

    assert run.outputs["head"].task == task
    np.testing.assert_allclose(
        np.concatenate([batch.targets.reshape(batch.size, -1) for batch in run.batches("train")]),
        targets(y).reshape(len(y), -1),
    )


def test_every_output_of_a_model_is_recorded(tmp_path: Path):
    x, y = models.make_data((8,))
    keras.utils.set_random_seed(7)
    inputs = keras.Input((8,))
    first = models.LAYERS.Dense(4, activation="softmax", name="kind")(inputs)
    second = models.LAYERS.Dense(1, name="size")(inputs)
    model = keras.Model(inputs, {"kind": first, "size": second})
    targets = {"kind": y, "size": x.sum(1, keepdims=True)}
    expected = model(x[: models.BATCH])
    compiled(model, {}, loss={"kind": "sparse_categorical_crossentropy", "size": "mse"}, metrics={"kind": ["accuracy"]})
    history = fit(model, x, targets, [BatchViewCallback(tmp_path)], epochs=1)
    run = load(tmp_path)["."]
    batch = run.batches("train")[0]

    assert {name: spec.task for name, spec in run.outputs.items()} == {"kind": "multiclass", "size": "regression"}
    first = {name: values[: models.BATCH] for name, values in targets.items()}
    for name in targets:
        np.testing.assert_allclose(batch.predictions[name], expected[name], atol=1e-5)
        np.testing.assert_array_equal(batch.targets[name].ravel(), first[name].ravel())
    np.testing.assert_allclose(batch.sample_loss["size"], np.square(expected["size"] - first["size"])[:, 0], rtol=1e-4)
    assert set(batch.metrics) == set(history) - {"loss"} == {"kind_accuracy", "kind_loss", "size_loss"}
    assert batch.metrics["size_loss"] == pytest.approx(float(batch.sample_loss["size"].mean()), rel=1e-4)


class OwnSteps(keras.Model):
    """A model with steps of its own, which never call `compute_loss`."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = models.make_mlp(dropout=0.3)
        self.tracker = keras.metrics.Mean(name="loss")

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.inner(inputs, training=training)

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            predictions = self(x, training=True)
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(y, predictions))
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        self.tracker.update_state(loss)
        return {"loss": self.tracker.result()}


class DecoratedSteps(OwnSteps):
    @tf.function
    def train_step(self, data: Any) -> Any:
        return super().train_step(data)


@pytest.mark.parametrize("make_model", [OwnSteps, DecoratedSteps])
@pytest.mark.parametrize("mode", [MODES["graph"], MODES["xla"], MODES["eager"]], ids=["graph", "xla", "eager"])
def test_steps_of_the_users_own_are_recorded_and_stay_the_same(make_model: Any, mode: dict[str, Any], tmp_path: Path):
    x, y = models.make_data((8,))
    found = []
    for callbacks in ([], [BatchViewCallback(tmp_path)]):
        model = make_model()
        model.compile(optimizer=keras.optimizers.Adam(0.01), **mode)
        found.append((fit(model, x, y, callbacks), [weight.tobytes() for weight in model.get_weights()]))
    run = load(tmp_path)["."]
    first = run.batches("train")[0]
    scores = first.predictions[np.arange(16), y[:16]]

    assert found[0] == found[1]
    assert [batch.size for batch in run.batches("train")] == [16, 16, 16, 16, 6] * 2
    np.testing.assert_array_equal(first.targets, y[:16])
    assert first.loss == pytest.approx(float(-np.log(scores).mean()), rel=1e-4)


def test_a_mirrored_strategy_is_recorded_as_one_batch_in_the_order_of_the_data():
    # In a process of its own: the devices must be split before TensorFlow starts.
    script = """
import tempfile
import keras, numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from tb_batchview import BatchViewCallback, load, tag, with_ids
from tests import models

class Tagging(keras.layers.Layer):
    def call(self, inputs):
        return tag("tagged", inputs)

x, y = models.make_data((8,))
log_dir = tempfile.mkdtemp()
names = np.array([f"{number}.png" for number in range(len(x))])
found = []
def show(x):
    return [repr(row.tolist()) for row in x]

phases = ("train", "validation", "predict")
for callbacks in ([], [BatchViewCallback(log_dir, histogram_freq=2, inputs=show, record=phases)]):
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        model = keras.Sequential([keras.Input((8,)), Tagging(), *models.make_mlp(dropout=0.2).layers])
        metrics = ["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2, name="top2")]
        model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=metrics)
    options = dict(batch_size=16, epochs=2, shuffle=False, verbose=0, validation_split=0.2)
    history = model.fit(with_ids(x, names) if callbacks else x, y, callbacks=callbacks, **options).history
    model.predict(with_ids(x, names) if callbacks else x, batch_size=16, verbose=0, callbacks=callbacks)
    found.append((history, [weight.tobytes() for weight in model.get_weights()]))
assert found[0] == found[1]

batches = load(log_dir)["."].batches("train")
assert [batch.size for batch in batches] == [16, 16, 16, 8] * 2
assert np.array_equal(np.concatenate([batch.targets.ravel() for batch in batches[:4]]), y[:56])
assert [text for batch in batches[:4] for text in batch.inputs] == show(x[:56])
for phase, expected in (("train", names[:56]), ("validation", names[56:]), ("predict", names)):
    part = list(load(log_dir)["."].batches(phase))[: -(-len(expected) // 16)]
    assert np.array_equal(np.concatenate([batch.sample_ids for batch in part]), expected), phase
for batch in batches:
    right = batch.predictions.argmax(1) == batch.targets.ravel()
    assert np.isclose(batch.metrics["accuracy"], right.mean())
    assert np.isclose(batch.loss, batch.sample_loss.mean(), rtol=1e-5)
assert list(batches[0].layers) == ["hidden", "scores", "tagged"]
assert np.allclose(batches[0].layers["tagged"].unit_means, x[:8].mean(0), atol=1e-6)  # Of the first replica.
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("mode", [MODES["graph"], MODES["eager"]], ids=["graph", "eager"])
def test_a_loop_of_train_on_batch_is_recorded_through_the_callbacks_hooks(mode: dict[str, Any], tmp_path: Path):
    x, y = models.make_data((8,))
    model = compiled(models.make_mlp(), mode)
    callbacks = keras.callbacks.CallbackList([BatchViewCallback(tmp_path)], model=model)
    # Not what train_on_batch returns: before Keras 3.9 that is a running mean.
    truth = models.train_by_hand(
        models.make_mlp(),
        keras.losses.SparseCategoricalCrossentropy(),
        keras.optimizers.Adam(0.01),
        x[:48],
        y[:48],
        epochs=2,
    )
    callbacks.on_train_begin()
    for epoch in range(2):
        callbacks.on_epoch_begin(epoch)
        for number in range(3):
            place = slice(16 * number, 16 * number + 16)
            callbacks.on_train_batch_begin(number)
            buffers = x[place].copy(), y[place].copy(), np.ones(16, "float32")
            model.train_on_batch(*buffers)
            for buffer in buffers:
                buffer[:] = 0  # A loop may use them again.
            callbacks.on_train_batch_end(number)
        callbacks.on_epoch_end(epoch)
    callbacks.on_train_end()
    batches = load(tmp_path)["."].batches("train")

    assert [(batch.epoch, batch.index) for batch in batches] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    np.testing.assert_array_equal(np.concatenate([batch.targets.ravel() for batch in batches]), [*y[:48]] * 2)
    np.testing.assert_array_equal(np.concatenate([batch.sample_weight for batch in batches]), np.ones(96))
    assert [batch.loss for batch in batches] == pytest.approx([batch["loss"] for batch in truth], abs=1e-5)


def test_update_freq_keeps_the_figures_of_every_batch(tmp_path: Path):
    x, y = models.make_data((8,))
    fit(compiled(models.make_mlp(), {}), x, y, [BatchViewCallback(tmp_path, update_freq=2)], epochs=1)
    batches = load(tmp_path)["."].batches("train")

    assert [batch.predictions is not None for batch in batches] == [True, False, True, False, True]
    assert all(np.isfinite(batch.loss) for batch in batches)


def test_evaluate_and_predict_alone_are_recorded(tmp_path: Path):
    x, y = models.make_data((8,))
    model = compiled(models.make_mlp(), {})
    callback = BatchViewCallback(tmp_path, record=("validation", "predict"))
    model.evaluate(x, y, batch_size=models.BATCH, verbose=0, callbacks=[callback])
    predicted = model.predict(x, batch_size=models.BATCH, verbose=0, callbacks=[callback])
    run = load(tmp_path)["."]

    for phase in ("validation", "predict"):
        np.testing.assert_array_equal(np.concatenate([batch.predictions for batch in run.batches(phase)]), predicted)


def test_a_saved_model_and_a_checkpoint_know_nothing_of_the_callback(tmp_path: Path):
    x, y = models.make_data((8,))
    model = compiled(models.make_mlp(), {})
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", save_freq=2)
    fit(model, x, y, [BatchViewCallback(tmp_path / "run"), checkpoint], epochs=1)
    model.save(tmp_path / "model.keras")

    np.testing.assert_array_equal(
        keras.models.load_model(tmp_path / "model.keras").predict(x, verbose=0), model.predict(x, verbose=0)
    )
    assert keras.models.load_model(tmp_path / "best.keras").count_params() == model.count_params()


def test_a_directory_that_cannot_be_written_warns_once_and_training_goes_on(tmp_path: Path):
    (tmp_path / "file").write_text("not a directory")
    x, y = models.make_data((8,))
    model = compiled(models.make_mlp(), {})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = fit(model, x, y, [BatchViewCallback(tmp_path / "file")])

    assert len([warning for warning in caught if "file" in str(warning.message)]) == 1
    assert len(history["loss"]) == 2


def test_a_metric_that_cannot_be_replayed_warns_once_and_the_rest_is_recorded(tmp_path: Path):
    class Odd(keras.metrics.Mean):
        def stateless_reset_state(self) -> Any:
            raise TypeError("no state of its own")

    x, y = models.make_data((8,))
    model = compiled(models.make_mlp(), {}, metrics=["accuracy"])
    model.odd = Odd(name="odd")
    step = model.train_step

    def train_step(data: Any) -> Any:
        logs = step(data)
        model.odd.update_state(1.0)
        return logs

    model.train_step = train_step
    with pytest.warns(UserWarning, match="odd"):
        fit(model, x, y, [BatchViewCallback(tmp_path)], epochs=1)
    run = load(tmp_path)["."]
    assert set(run.batches("train")[0].metrics) == {"accuracy"}
    assert "odd" in " ".join(message for _, message, _ in run.health.warnings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": "dense"}, "layers must be.*'dense'"),
        ({"layers": [3]}, r"layers must be.*\[3\]"),
        ({"histogram_freq": -1}, "histogram_freq must be.*at least 0.*-1"),
        ({"histogram_freq": 1.5}, "histogram_freq.*1.5"),
        ({"update_freq": 0}, "update_freq must be.*at least 1.*0"),
        ({"record": "train"}, "record must be a list of phases.*'train'"),
        ({"record": ["test"]}, "record must.*test"),
        ({"task": "ranking"}, "task.*'ranking'"),
        ({"class_names": "cat"}, "class_names.*'cat'"),
        ({"class_names": [1, 2]}, r"class_names.*\[1, 2\]"),
        ({"top_k": 0}, "top_k.*0"),
        ({"max_pending_mb": -3}, "max_pending_mb.*-3"),
        ({"on_full": "stop"}, "on_full.*'stop'"),
    ],
)
def test_wrong_arguments_are_named_at_once(arguments: dict[str, Any], message: str, tmp_path: Path):
    with pytest.raises(ValueError, match=message):
        BatchViewCallback(tmp_path, **arguments)
    assert not os.listdir(tmp_path)


def test_a_log_dir_that_is_no_path_is_named_at_once():
    with pytest.raises(ValueError, match=r"log_dir.*3"):
        BatchViewCallback(3)


def test_a_layer_that_does_not_exist_is_named_before_training(tmp_path: Path):
    x, y = models.make_data((8,))
    with pytest.raises(ValueError, match=r"'hiden'.*hidden, dropout.*, scores"):
        fit(compiled(models.make_mlp(), {}), x, y, [BatchViewCallback(tmp_path, layers=["hiden"])])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cat", "dog"], "one name for each of the 4 classes. Received: 2 names"),
        ({"scores": ["cat"]}, "one name for each of the 4 classes. Received: 1 names for output 'scores'"),
        ({"score": ["cat"]}, r"outputs of the model. Received: \['score'\]. There are: scores"),
    ],
)
def test_class_names_that_fit_no_output_are_named_before_training(names: Any, message: str, tmp_path: Path):
    x, y = models.make_data((8,))
    with pytest.raises(ValueError, match=message):
        fit(compiled(models.make_mlp(), {}), x, y, [BatchViewCallback(tmp_path, class_names=names)])


def test_class_names_of_a_model_that_is_built_late_are_warned_of(tmp_path: Path):
    x, y = models.make_data((8,))
    model = keras.Sequential([keras.layers.Dense(4, activation="softmax")])
    with pytest.warns(BatchViewWarning, match="one name for each of the 4 classes. Received: 2 names"):
        fit(compiled(model, {}), x, y, [BatchViewCallback(tmp_path, class_names=["cat", "dog"])])
    assert len(load(tmp_path)["."].batches("train")) == 10


def test_names_for_one_score_are_those_of_its_two_classes(tmp_path: Path):
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1, activation="sigmoid")])
    x, y = models.make_data((8,))
    fit(
        compiled(model, {}, loss="binary_crossentropy"),
        x,
        y % 2,
        [BatchViewCallback(tmp_path, class_names=["no", "yes"])],
    )
    assert load(tmp_path)["."].class_names == ("no", "yes")


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("multilabel", r"Targets must fit the predictions of task 'multilabel'.*\(16, 1\) and .*\(16, 4\)"),
        ("binary", r"Predictions of task 'binary' must have one score per sample.*\(16, 4\)"),
    ],
)
def test_a_task_that_cannot_be_is_warned_of_with_the_shapes(task: str, message: str, tmp_path: Path):
    x, y = models.make_data((8,))
    with pytest.warns(BatchViewWarning, match=message):
        fit(compiled(models.make_mlp(), {}), x, y[:, None], [BatchViewCallback(tmp_path, task=task)])
    assert load(tmp_path)["."].outputs["scores"].task == "multiclass"


def test_what_is_no_model_of_keras_3_is_refused(tmp_path: Path):
    with pytest.raises(BatchViewError, match="Keras 3"):
        BatchViewCallback(tmp_path).set_model(object())
