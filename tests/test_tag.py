"""`tag`: tensors of a step that the user names, against a loop of their own that computes them.

Each is trained twice, with and without the callback: to the bit the same.
JAX and PyTorch are in `test_backends`.
"""

from __future__ import annotations

import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from tb_batchview import BatchViewCallback, BatchWriter, handoff, load, tag, tagging, writer
from tb_batchview.errors import BatchViewWarning
from tests.fits import feed, messages, train_twice
from tests.models import BATCH, LAYERS
from tests.tagged import Attention, attend

SAMPLES = 40
STARTS = (0, 16, 32)
X = np.random.default_rng(0).normal(size=(SAMPLES, 5, 3)).astype("float32")
Y = np.random.default_rng(1).integers(0, 4, SAMPLES)

GRAPH: dict[str, Any] = {"jit_compile": False}
XLA: dict[str, Any] = {"jit_compile": True}
EAGER: dict[str, Any] = {"run_eagerly": True}
MODES = {"graph": GRAPH, "xla": XLA, "eager": EAGER, "three steps": GRAPH | {"steps_per_execution": 3}}


@pytest.fixture(autouse=True)
def _rest_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handoff, "REST_SECONDS", 0.3)
    monkeypatch.setattr(writer, "FLUSH_SECONDS", 0.05)


@pytest.fixture(autouse=True)
def _nobody_listens() -> Iterator[None]:
    yield
    assert tagging._listeners == ()


def compiled(model: Any, **options: Any) -> Any:
    loss = "sparse_categorical_crossentropy"
    model.compile(**{"optimizer": keras.optimizers.SGD(0.1), "loss": loss} | GRAPH | options)
    return model


def attentive(kind: type[Any] = keras.Model) -> Any:
    inputs = keras.Input(X.shape[1:])
    hidden = LAYERS.Flatten()(Attention(name="attend")(inputs))
    return kind(inputs, LAYERS.Dense(4, activation="softmax", name="head")(hidden))


def around(call: Any) -> Any:
    """Return a model with a layer that calls a function on (samples, 15)."""

    class Around(keras.layers.Layer):
        def call(self, inputs: Any) -> Any:
            return call(inputs)

    layers = [keras.Input(X.shape[1:]), LAYERS.Flatten(), LAYERS.Dense(6, name="hidden"), Around(name="around")]
    return compiled(keras.Sequential([*layers, LAYERS.Dense(4, activation="softmax", name="head")]))


def attend_by_hand(model: Any, steps: int, starts: tuple[int, ...] = STARTS) -> list[dict[str, Any]]:
    """Train eagerly, and compute each batch's attention from its weights with NumPy."""
    found = []
    for step in range(steps):
        start = starts[step % len(starts)]
        x, y = X[start : start + BATCH], Y[start : start + BATCH]
        kernel = model.get_layer("attend").get_weights()[0]
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(y, model(x, training=True)))
        gradients = tape.gradient(loss, model.trainable_variables)
        model.optimizer.apply(gradients, model.trainable_variables)
        norm = np.sqrt(sum(np.square(gradient.numpy()).sum() for gradient in gradients))
        found.append({"attention": attend(x, kernel), "norm": norm})
    return found


def assert_summary(layer: Any, place: int, values: np.ndarray) -> None:
    assert layer.mean[place] == pytest.approx(values.mean(), rel=1e-4)
    assert layer.std[place] == pytest.approx(values.std(), rel=1e-4)
    assert layer.min[place] == pytest.approx(values.min(), rel=1e-4)
    assert layer.max[place] == pytest.approx(values.max(), rel=1e-4)
    np.testing.assert_allclose(layer.unit_means[place], values.reshape(-1, values.shape[-1]).mean(0), rtol=1e-4)
    assert np.asarray(layer.histograms[place]).sum() == values.size


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_a_tensor_tagged_in_a_layer_is_summarised_among_the_layers(mode: dict[str, Any], tmp_path: Path):
    make = lambda: compiled(attentive(), **mode)  # noqa: E731
    # XLA takes seconds to compile a step of another size, or of another phase.
    starts, validation = (STARTS[:2], None) if mode is XLA else (STARTS, (X[:BATCH], Y[:BATCH]))
    x, y = (X[:32], Y[:32]) if mode is XLA else (X, Y)
    run = train_twice(make, feed(x, y, validation_data=validation), tmp_path, histogram_freq=2)
    keras.utils.set_random_seed(7)
    truth = attend_by_hand(make(), 2 * len(starts), starts)

    assert set(run.layers) == {"attention", "head"}
    layer = run.layer("attention")
    assert layer.steps.tolist() == list(range(0, 2 * len(starts), 2))
    for place, step in enumerate(layer.steps.tolist()):
        assert_summary(layer, place, truth[step]["attention"])
    assert not validation or run.layer("attention", "validation").steps.tolist() == [0]
    assert run.batches("train")[2].layers["attention"].mean == layer.mean[1]


class OwnStep(keras.Model):
    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        tag("norm", tf.linalg.global_norm(gradients))
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss}


class DecoratedStep(OwnStep):
    @tf.function
    def train_step(self, data: Any) -> Any:
        return super().train_step(data)


@pytest.mark.parametrize(
    ("kind", "mode"), [(OwnStep, GRAPH), (OwnStep, EAGER), (DecoratedStep, GRAPH), (DecoratedStep, EAGER)]
)
def test_a_number_tagged_in_a_step_of_ones_own_is_kept_as_it_is(kind: Any, mode: dict[str, Any], tmp_path: Path):
    make = lambda: compiled(attentive(kind), **mode)  # noqa: E731
    run = train_twice(make, feed(X, Y), tmp_path, layers=None, histogram_freq=1)
    keras.utils.set_random_seed(7)
    truth = attend_by_hand(make(), 6)

    assert set(run.layers) == {"attention", "norm"}
    np.testing.assert_allclose(run.layer("norm").mean, [true["norm"] for true in truth], rtol=1e-4)
    assert run.layer("norm").steps.tolist() == list(range(6))
    assert run.layer("norm").std.tolist() == [0.0] * 6
    assert_summary(run.layer("attention"), 5, truth[5]["attention"])


class StatelessStep(keras.Model):
    def train_step(self, data: Any) -> Any:
        x, y = data
        weights = [
            [weight.value for weight in part] for part in (self.trainable_variables, self.non_trainable_variables)
        ]
        scores, _ = self.stateless_call(*weights, x)  # In the scope in which Keras builds models, too.
        return {"loss": self.compute_loss(x, y, scores)}


def test_what_is_tagged_in_a_stateless_call_is_recorded(tmp_path: Path):
    run = train_twice(lambda: compiled(attentive(StatelessStep)), feed(X, Y, epochs=1), tmp_path)

    assert run.layer("attention").steps.tolist() == [0, 2]


def test_a_model_built_in_its_first_step_has_its_tags(tmp_path: Path):
    class Late(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.attend, self.flat = Attention(), LAYERS.Flatten()
            self.head = LAYERS.Dense(4, activation="softmax", name="head")

        def call(self, inputs: Any) -> Any:
            return self.head(tag("flat", self.flat(self.attend(inputs))))

    run = train_twice(lambda: compiled(Late()), feed(X, Y, epochs=1), tmp_path)

    assert {"attention", "flat"} <= set(run.layers)
    assert run.batches("train")[0].layers["attention"].count == 16 * 5 * 5


def test_a_name_that_comes_again_is_numbered_and_small_tensors_change_no_layer(tmp_path: Path):
    def call(inputs: Any) -> Any:
        for part in (inputs, 2 * inputs):
            assert tag("part", part) is part
        tag("row", ops.mean(inputs, 0)[None])
        tag("block/number", ops.max(inputs))
        return inputs

    run = train_twice(lambda: around(call), feed(X, Y), tmp_path, layers=["hidden", "head"], histogram_freq=1)
    hidden = run.layer("hidden")

    assert set(run.layers) == {"hidden", "head", "part", "part#1", "row", "block/number"}
    np.testing.assert_allclose(run.layer("part#1").mean, 2 * run.layer("part").mean, rtol=1e-4)
    np.testing.assert_array_equal(run.layer("part").unit_means, hidden.unit_means)
    # A vector is whole, with a first axis of one; the layer, of the same width, has all of its rows.
    np.testing.assert_allclose(run.layer("row").unit_means, hidden.unit_means, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(run.layer("block/number").mean, hidden.max, rtol=1e-6)
    assert [batch.layers["hidden"].count for batch in run.batches("train")] == [96, 96, 48] * 2
    assert [batch.layers["row"].count for batch in run.batches("train")] == [6] * 6


def test_a_name_that_a_layer_has_gets_one_of_its_own_and_a_warning(tmp_path: Path):
    def call(inputs: Any) -> Any:
        return tag("hidden", ops.relu(inputs))

    with pytest.warns(BatchViewWarning) as caught:
        run = train_twice(lambda: around(call), feed(X, Y), tmp_path)

    assert messages(caught) == [
        "A layer is recorded as 'hidden', and what is tagged so as 'hidden (tag)'. Give the tag another name."
    ]
    assert set(run.layers) == {"hidden", "hidden (tag)", "head"}
    assert (run.layer("hidden").min < 0).all()
    assert (run.layer("hidden (tag)").min == 0).all()


def test_a_name_of_a_layer_that_is_not_recorded_is_free(tmp_path: Path):
    run = train_twice(lambda: around(lambda inputs: tag("hidden", ops.relu(inputs))), feed(X, Y), tmp_path, layers=None)

    assert run.layers == ("hidden",)
    assert (run.layer("hidden").min == 0).all()


@tf.function
def innermost(inputs: Any) -> Any:
    return tag("innermost", 2 * inputs)


# Traced in the training without the callback: in that with it nobody calls `tag` again.
@tf.function
def outermost(inputs: Any) -> Any:
    return innermost(tag("outermost", inputs))


INNER: dict[str, Callable[[Any], Any]] = {
    "branch": lambda x: tf.cond(tf.reduce_sum(x) > 0, lambda: tag("branch", 2 * x), lambda: 2 * x),
    "map": lambda x: ops.map(lambda row: tag("map", 2 * row), x),
    # Outside and inside: there is a value of the first round only.
    "while": lambda x: tf.while_loop(
        lambda i, x: i < 2, lambda i, x: (i + 1, tag("while", x + 1)), (tf.constant(0), tag("while", x))
    )[1],
    "fresh": lambda x: tf.function(lambda x: tag("fresh", 2 * x))(x),
    "traced before": outermost,
}


def test_what_cannot_leave_a_loop_a_branch_or_a_function_is_warned_of_once(tmp_path: Path):
    def call(inputs: Any) -> Any:
        for inner in INNER.values():
            inputs = inner(inputs)
        return tag("outer", inputs)

    with pytest.warns(BatchViewWarning) as caught:
        run = train_twice(lambda: around(call), feed(X, Y), tmp_path)

    assert messages(caught) == [
        "What is tagged inside a loop, a branch or a compiled function of the step's own cannot leave it and is not "
        "recorded: branch, fresh, innermost, map, outermost, while. Tag what is returned from it."
    ]
    assert set(run.layers) == {"hidden", "head", "outer"}


class Cell(keras.layers.Layer):
    state_size = output_size = 3

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
        state = tag("state", ops.tanh(inputs + states[0]))
        return state, [state]


def test_a_cell_of_an_rnn_is_warned_of_and_its_first_round_not_taken_for_all(tmp_path: Path):
    def make() -> Any:
        head = LAYERS.Dense(4, activation="softmax", name="head")
        return compiled(keras.Sequential([keras.Input(X.shape[1:]), LAYERS.RNN(Cell()), head]))

    with pytest.warns(BatchViewWarning, match="cannot leave it and is not recorded: state"):
        run = train_twice(make, feed(X, Y), tmp_path)

    assert "state" not in run.layers


@pytest.mark.parametrize("mode", [GRAPH, EAGER], ids=["graph", "eager"])
def test_what_is_no_tensor_of_numbers_with_a_name_is_warned_of_once(mode: dict[str, Any], tmp_path: Path):
    def call(inputs: Any) -> Any:
        tag(inputs, "swapped")
        tag("", inputs)
        tag("two\nlines", inputs)
        assert tag("rate", 0.1) == 0.1
        tag("nothing", None)
        tag("list", [inputs])
        tag("sparse", tf.sparse.from_dense(inputs))
        tag("wave", tf.cast(inputs, tf.complex64))
        tag("text", tf.strings.as_string(inputs))
        return tag("good", inputs)

    with pytest.warns(BatchViewWarning) as caught:
        run = train_twice(lambda: compiled(around(call), **mode), feed(X, Y), tmp_path, histogram_freq=1)

    kind = "EagerTensor" if mode is EAGER else "SymbolicTensor"
    no_name = "The name of a tag must be a printable str of 1 to 1000. Received: name="
    dense = " must be a dense tensor, and is not recorded. Received: "
    hint = ". Tag what keras.ops.convert_to_tensor makes of it."
    numbers = f" must be numbers of a known rank, and is not recorded. Received: a {kind} of dtype <dtype: '"
    assert [re.sub(r"<class '.*'>", "<class>", message) for message in messages(caught)] == [
        f"{no_name}''.",
        f"{no_name}'two\\nlines'.",
        f"{no_name}<class>.",
        f"What is tagged 'list'{dense}list{hint}",
        f"What is tagged 'nothing'{dense}NoneType{hint}",
        f"What is tagged 'rate'{dense}float{hint}",
        f"What is tagged 'sparse'{dense}SparseTensor{hint}",
        f"What is tagged 'text'{numbers}string'>.",
        f"What is tagged 'wave'{numbers}complex64'>.",
    ]
    assert set(run.layers) == {"hidden", "head", "good"}


def chained(inputs: Any) -> Any:
    # Each sum has one reader, the next: TensorFlow makes one sum of them all, while nobody else looks on.
    left, right = inputs * inputs, ops.sin(inputs)
    first = tag("first", left + right)
    second = tag("second", first + ops.cos(inputs))
    return tag("third", second + 0.1 * right)


def test_a_sum_that_would_be_merged_is_recorded_and_changes_nothing(tmp_path: Path):
    from tb_batchview.capture import tf_arrays

    merged = []

    def look(output: Any, before: Any = tf_arrays.is_merged) -> bool:
        merged.append(before(output))
        return merged[-1]

    x = np.tile(X, (4, 1, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf_arrays, "is_merged", look)
        run = train_twice(lambda: around(chained), feed(x, np.tile(Y, 4)), tmp_path, histogram_freq=1)
    keras.utils.set_random_seed(7)
    kernel, bias = around(chained).get_weights()[:2]
    hidden = X[:16].reshape(16, -1) @ kernel + bias
    first = np.square(hidden) + np.sin(hidden)
    second = first + np.cos(hidden)

    assert merged.count(True) >= 3  # It is a case of what it is to show.
    for name, values in (("first", first), ("second", second), ("third", second + 0.1 * np.sin(hidden))):
        assert_summary(run.layer(name), 0, values)


def test_sums_of_several_parts_quotients_and_products_are_computed_once_more(tmp_path: Path):
    def call(inputs: Any) -> Any:
        parts = tag("parts", tf.add_n([inputs, inputs * inputs, tf.sin(inputs)]))
        product = tag("product", tf.cos(inputs) * inputs)
        quotient = tag("quotient", tf.exp(inputs) / 3.0)
        return parts + product + quotient

    run = train_twice(lambda: around(call), feed(X, Y), tmp_path, histogram_freq=1)
    keras.utils.set_random_seed(7)
    kernel, bias = around(call).get_weights()[:2]
    hidden = X[:16].reshape(16, -1) @ kernel + bias

    assert_summary(run.layer("parts"), 0, hidden + hidden * hidden + np.sin(hidden))
    assert_summary(run.layer("product"), 0, np.cos(hidden) * hidden)
    assert_summary(run.layer("quotient"), 0, np.exp(hidden) / 3)


def test_shapes_known_late_and_empty_ones_are_recorded(tmp_path: Path):
    def call(inputs: Any) -> Any:
        tag("positive", tf.boolean_mask(inputs, inputs > 0))
        tag("rows", tf.boolean_mask(inputs, inputs[:, 0] > 0))
        tag("empty", inputs[:0])
        tag("flags", inputs > 0)
        tag("halves", tf.cast(inputs, tf.bfloat16))
        return inputs

    run = train_twice(lambda: around(call), feed(X, Y), tmp_path, histogram_freq=1)
    keras.utils.set_random_seed(7)
    kernel, bias = around(call).get_weights()[:2]
    hidden = X[:16].reshape(16, -1) @ kernel + bias

    first = run.batches("train")[0].layers
    assert (first["positive"].count, first["positive"].mean) == pytest.approx(
        ((hidden > 0).sum(), hidden[hidden > 0].mean()), rel=1e-5
    )
    np.testing.assert_allclose(first["rows"].unit_means, hidden[hidden[:, 0] > 0].mean(0), rtol=1e-4)
    assert first["empty"].count == 0
    assert first["flags"].mean == pytest.approx((hidden > 0).mean())
    assert first["halves"].mean == pytest.approx(hidden.mean(), abs=0.01)
    assert first["hidden"].count == hidden.size


def test_two_callbacks_have_tags_each_in_its_own_turn_and_one_may_want_none(tmp_path: Path):
    keras.utils.set_random_seed(7)
    freqs = {"two": 2, "three": 3, "never": 0}
    callbacks = [BatchViewCallback(tmp_path / name, histogram_freq=freq) for name, freq in freqs.items()]
    feed(X, Y)(compiled(attentive()), callbacks)
    log = load(tmp_path)

    assert log["two"].layer("attention").steps.tolist() == [0, 2, 4]
    assert log["three"].layer("attention").steps.tolist() == [0, 3]
    assert log["never"].layers == ()


def test_a_callback_that_wants_no_layers_hears_nothing(tmp_path: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", BatchViewWarning)
        run = train_twice(lambda: around(lambda x: tag("", x)), feed(X, Y), tmp_path, histogram_freq=0)

    assert run.layers == ()


def test_outside_of_a_recorded_step_nothing_is_done(tmp_path: Path):
    thing = object()

    assert tag("anything", thing) is thing
    assert tag(None, thing) is thing  # type: ignore[arg-type]
    model = compiled(attentive())
    model.fit(X, Y, verbose=0)
    model.predict(X, verbose=0)
    with BatchWriter(tmp_path) as by_hand:
        values = model.get_layer("attend")(X)
        by_hand.add_batch(predictions=model.predict(X, verbose=0), targets=Y, histograms={"attended": values})
    assert load(tmp_path)["."].layers == ("attended",)


def test_other_threads_are_not_recorded(tmp_path: Path):
    def call(inputs: Any) -> Any:
        other = threading.Thread(target=tag, args=("elsewhere", tf.constant([1.0])))
        other.start()
        other.join()
        return tag("here", inputs)

    run = train_twice(lambda: compiled(around(call), **EAGER), feed(X, Y, epochs=1), tmp_path)

    assert set(run.layers) == {"hidden", "head", "here"}


def test_an_error_in_the_step_leaves_no_listener(tmp_path: Path):
    def fail(inputs: Any) -> Any:
        if not isinstance(inputs, keras.KerasTensor) and tagging._listeners:
            raise RuntimeError("on purpose")
        return tag("never", inputs)

    with pytest.raises(RuntimeError, match="on purpose"):
        feed(X, Y)(compiled(around(fail)), [BatchViewCallback(tmp_path)])

    assert tagging._listeners == ()


def test_tag_alone_loads_nothing(loaded: Callable[[str], set[str]]):
    found = {name.split(".")[0] for name in loaded("from tb_batchview import tag; tag('name', 1.0)")}

    assert found - sys.stdlib_module_names == {"tb_batchview"}
