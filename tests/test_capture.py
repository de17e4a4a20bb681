"""The parts of the capture, each against NumPy."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tb_batchview.capture import keras_names
from tb_batchview.capture.gather import at_path, is_recordable, name_outputs
from tb_batchview.capture.hints import read_loss_hint
from tb_batchview.capture.layers import find_bounds, name_owners, select_layers, walk_layers
from tb_batchview.capture.summary import BINS, decode_summary, name_figures, plan_figures, plan_sampling, summarise
from tb_batchview.capture.tf_pack import pack, read_mark, unpack
from tb_batchview.capture.thin import MAX_VALUES, choose_positions, thin
from tb_batchview.errors import ArgumentError
from tests import models

DTYPES = ("float16", "float32", "float64", "bool", "int8", "uint8", "int16", "int32", "int64", "uint16", "uint32")


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 4), max_size=3)), max_size=5),
    st.integers(0, 2**32 - 1),
)
def test_what_is_packed_comes_back_to_the_bit(kinds: list[tuple[str, list[int]]], seed: int):
    random = np.random.default_rng(seed)
    arrays = {}
    for number, (dtype, shape) in enumerate(kinds):
        size = int(np.prod(shape))
        bits = np.frombuffer(random.bytes(size * np.dtype(dtype).itemsize), dtype=np.uint8)
        arrays[str(number)] = (bits % 2 == 0 if dtype == "bool" else bits.view(dtype)).reshape(shape)
    vector, leaves = pack({name: tf.constant(array) for name, array in arrays.items()}, mark=seed % 1000)
    found = unpack(vector.numpy(), leaves)

    assert read_mark(vector.numpy()) == seed % 1000
    assert {name: (array.dtype, array.shape) for name, array in found.items()} == {
        name: (array.dtype, array.shape) for name, array in arrays.items()
    }
    for name, array in arrays.items():
        if array.dtype == np.float16:  # A NaN may come back with another payload from the widening.
            np.testing.assert_array_equal(found[name], array)
        else:
            assert found[name].tobytes() == array.tobytes()


@pytest.mark.parametrize("jit_compile", [False, True])
def test_sizes_known_only_at_run_time_are_packed_too(jit_compile: bool):
    leaves: list[Any] = []

    @tf.function(jit_compile=jit_compile, input_signature=[tf.TensorSpec([None, 3]), tf.TensorSpec([None], tf.int64)])
    def step(first: Any, second: Any) -> Any:
        vector, leaves[:] = pack({"first": first, "second": second}, mark=1)
        return vector

    first, second = np.arange(6, dtype="float32").reshape(2, 3), np.array([2**40, -1, 7])
    found = unpack(step(first, second).numpy(), leaves)

    np.testing.assert_array_equal(found["first"], first)
    np.testing.assert_array_equal(found["second"], second)


def test_what_has_no_dense_numbers_cannot_be_packed():
    assert not is_recordable(tf.constant(["a"]))
    assert not is_recordable(tf.ragged.constant([[1], [2, 3]]))
    assert not is_recordable(tf.sparse.from_dense([[1, 0]]))
    assert not is_recordable(None)


@given(st.lists(st.integers(1, 200), min_size=1, max_size=3))
def test_sampling_sees_every_channel_equally_often(sizes: list[int]):
    plan = plan_sampling((None, *sizes))
    assert plan is not None
    places = (np.arange(int(np.prod(sizes)))[:: plan.stride])[: plan.values]

    assert len(places) == plan.values
    if plan.units:
        assert set(np.bincount(places % sizes[-1], minlength=sizes[-1])) == {plan.values // sizes[-1]}


def summary_of(values: np.ndarray, *, jit_compile: bool = False, bounds: Any = None) -> Any:
    @tf.function(jit_compile=jit_compile)
    def step(tensor: Any) -> Any:
        return summarise({"layer": tensor}, bounds)[0].figures[0]

    return decode_summary(step(tf.constant(values)).numpy())


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("shape", [(5,), (5, 7), (4, 9, 3), (2, 3, 3, 4)])
def test_a_small_layer_is_summarised_whole(shape: tuple[int, ...], jit_compile: bool):
    values = np.random.default_rng(3).normal(size=shape).astype("float32")
    values[values < 0] = 0
    found = summary_of(values, jit_compile=jit_compile)

    assert found.count == values.size
    assert (found.mean, found.std) == (pytest.approx(values.mean(), rel=1e-5), pytest.approx(values.std(), rel=1e-5))
    assert (found.min, found.max) == (values.min(), values.max())
    assert found.zero_fraction == pytest.approx((values == 0).mean())
    assert found.histogram.sum() == values.size
    counts, _ = np.histogram(values, BINS, (values.min(), values.max()))
    assert np.abs(found.histogram - counts).sum() <= 2  # A value on an edge may fall to either side.
    if len(shape) > 1:
        np.testing.assert_allclose(found.unit_means, values.reshape(-1, shape[-1]).mean(0), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found.unit_zeros, (values.reshape(-1, shape[-1]) == 0).mean(0), rtol=1e-5)
    assert found.unit_saturated is None


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("shape", [(5, 1), (5, 7), (4, 6, 6, 5)])
def test_values_at_an_end_are_counted_by_unit(shape: tuple[int, ...], jit_compile: bool, broken: bool):
    values = np.tanh(3 * np.random.default_rng(3).normal(size=shape)).astype("float32")
    values[..., 0] = -1
    if broken:
        values.reshape(-1)[1] = np.inf
    found = summary_of(values, jit_compile=jit_compile, bounds={"layer": (-0.98, 0.98), "another": (0.0, 1.0)})

    rows = values.reshape(-1, shape[-1])
    finite = np.isfinite(rows)
    beyond = (np.abs(rows) >= np.float32(0.98)) & finite
    np.testing.assert_allclose(found.unit_saturated, beyond.sum(0) / finite.sum(0), rtol=1e-5)
    assert found.unit_saturated[0] == 1
    np.testing.assert_allclose(found.unit_means, np.where(finite, rows, 0).sum(0) / finite.sum(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(found.unit_zeros, 0)


def test_layers_that_can_be_saturated_and_others_of_one_form_keep_their_figures():
    random = np.random.default_rng(5)
    values = {name: random.uniform(-1, 1, size=(6, 7)).astype("float32") for name in "abcd"}
    bounds = {"b": (-0.5, 0.5), "d": (-0.9, 0.1)}
    tensors = {name: tf.constant(array) for name, array in values.items()}
    figures = name_figures(summarise(tensors, bounds), values)
    places = plan_figures(tensors, bounds)

    row = np.concatenate([group.figures.numpy().ravel() for group in summarise(tensors, bounds)])
    for name, array in values.items():
        vector = figures[f"layers/{name}"].numpy()
        np.testing.assert_array_equal(row[places[name]], vector)
        found = decode_summary(vector)
        np.testing.assert_allclose(found.unit_means, array.mean(0), rtol=1e-4, atol=1e-6)
        if name in bounds:
            low, high = bounds[name]
            np.testing.assert_allclose(found.unit_saturated, ((array <= low) | (array >= high)).mean(0), rtol=1e-5)
        else:
            assert found.unit_saturated is None


@pytest.mark.parametrize(
    ("layer", "bounds"),
    [
        (models.LAYERS.Dense(2, activation="sigmoid"), (0.01, 0.99)),
        (models.LAYERS.Conv2D(2, 1, activation="tanh"), (-0.98, 0.98)),
        (models.LAYERS.Activation("hard_sigmoid"), (0.01, 0.99)),
        (models.LAYERS.Dense(2, activation=keras.activations.relu6), (-np.inf, 5.94)),
        (models.LAYERS.ReLU(max_value=2.0), (-np.inf, 1.98)),
        (models.LAYERS.ReLU(), None),
        (models.LAYERS.ReLU(max_value=2.0, negative_slope=0.1), None),
        (models.LAYERS.Dense(2, activation="relu"), None),
        (models.LAYERS.Dense(2, activation=lambda x: x), None),
        (models.LAYERS.SimpleRNN(2), (-0.98, 0.98)),
        (models.LAYERS.LSTM(2), None),  # Its output is a product with a gate.
        (models.LAYERS.Flatten(), None),
    ],
)
def test_where_a_layer_is_saturated_is_told_by_its_activation(layer: Any, bounds: Any):
    assert find_bounds(layer) == bounds


def test_weights_are_of_the_layer_that_is_named_in_layers():
    model = make_nested()
    owners = name_owners(model)

    trainable = [owners[id(weight)] for weight in model.trainable_weights]
    assert list(dict.fromkeys(trainable)) == ["times", "rnn", "norm", "dense"]
    assert {owners[id(weight)] for weight in model.get_layer("rnn").weights} == {"rnn"}
    assert set(owners) >= {id(weight) for weight in model.variables}


def test_operations_that_must_be_deterministic_count_without_the_op_that_is_not_so_on_every_device(
    monkeypatch: pytest.MonkeyPatch,
):
    values = np.random.default_rng(3).normal(size=(5, 70)).astype("float32")
    values[0, 0] = np.nan
    plain = summary_of(values)
    monkeypatch.setattr(keras_names, "is_deterministic", lambda: True)

    @tf.function
    def step(tensor: Any) -> Any:
        return summarise({"layer": tensor})[0].figures[0]

    graph = step.get_concrete_function(tf.TensorSpec([5, 70])).graph
    assert not [operation for operation in graph.get_operations() if "Bincount" in operation.type]
    np.testing.assert_array_equal(summary_of(values).histogram, plain.histogram)


def test_a_large_map_is_sampled_and_its_channels_keep_their_places():
    channels = np.arange(16, dtype="float32")
    values = np.broadcast_to(channels, (3, 40, 40, 16)).copy()
    found = summary_of(values)

    assert found.count < values.size / 10
    assert found.mean == pytest.approx(7.5)
    np.testing.assert_array_equal(found.unit_means, channels)


@pytest.mark.parametrize("broken", [False, True])
def test_layers_of_one_form_are_summarised_together_as_each_alone(broken: bool):
    random = np.random.default_rng(5)
    shapes = {"wide": (6, 9, 9, 4), "flat": (6, 7), "wide too": (6, 9, 9, 4), "more rows": (12, 7)}
    values = {name: random.normal(size=shape).astype("float32") for name, shape in shapes.items()}
    if broken:
        values["wide too"][0, 0, 0, 0] = np.inf

    groups = summarise({name: tf.constant(array) for name, array in values.items()})

    assert [group.names for group in groups] == [["wide", "wide too"], ["flat", "more rows"]]
    figures = name_figures(groups, values)
    assert list(figures) == [f"layers/{name}" for name in values]
    values["more rows"] = values["more rows"][:6]  # As many as the other of its form has.
    for name, array in values.items():
        found, alone = decode_summary(figures[f"layers/{name}"].numpy()), summary_of(array)
        assert dataclasses.astuple(found)[:7] == pytest.approx(dataclasses.astuple(alone)[:7], rel=1e-5)
        np.testing.assert_array_equal(found.histogram, alone.histogram)
        np.testing.assert_allclose(found.unit_means, alone.unit_means, rtol=1e-4, atol=1e-6)


def test_values_that_are_not_finite_are_counted_and_left_out():
    found = summary_of(np.array([[1.0, np.nan, 3.0], [np.inf, -np.inf, 5.0]], "float32"))

    assert (found.count, found.nonfinite, found.mean, found.min, found.max) == (6, 3, 3, 1, 5)
    assert found.histogram.sum() == 3


@pytest.mark.parametrize("extreme", [3e38, 2e-38])
def test_a_range_beyond_float32_is_summarised(extreme: float):
    found = summary_of(np.array([[-extreme, 0.0, extreme]], "float32"))

    assert (found.min, found.max) == (-np.float32(extreme), np.float32(extreme))
    assert found.histogram.sum() == 3


def test_a_layer_of_one_value_is_summarised():
    found = summary_of(np.full((4, 3), 2.5, "float32"))

    assert (found.mean, found.std, found.min, found.max) == (2.5, 0, 2.5, 2.5)
    assert (found.histogram[0], found.histogram.sum()) == (12, 12)


def test_a_layer_without_a_finite_value_has_no_figures():
    found = summary_of(np.full((2, 3), np.nan, "float32"))

    assert (found.count, found.nonfinite) == (6, 6)
    assert np.isnan([found.mean, found.std, found.min, found.max, found.zero_fraction]).all()
    assert found.histogram.sum() == 0


def make_nested() -> Any:
    inner = keras.Sequential([keras.Input((8,)), models.LAYERS.Dense(8, name="dense")], name="encoder")
    cell = models.LAYERS.RNN(models.LAYERS.LSTMCell(4, name="cell"), name="rnn")
    inputs = keras.Input((5, 8))
    hidden = models.LAYERS.TimeDistributed(inner, name="times")(inputs)
    normal = models.LAYERS.BatchNormalization(name="norm")(cell(hidden))
    return keras.Model(inputs, models.LAYERS.Dense(2, name="dense")(models.LAYERS.Dropout(0.1, name="drop")(normal)))


def test_layers_inside_layers_are_named_by_their_path():
    names = walk_layers(make_nested())

    assert {"times/encoder/dense", "rnn/cell", "dense"} <= set(names)
    assert names["times/encoder/dense"] is not names["dense"]


def test_auto_leaves_out_normalisation_passive_layers_and_what_runs_in_loops():
    assert list(select_layers(make_nested(), "auto")) == ["times", "rnn", "dense"]


def test_auto_looks_into_models_and_layers_of_the_users_own():
    class Block(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__(name="block")
            self.dense = models.LAYERS.Dense(8, name="inner")

        def call(self, inputs: Any) -> Any:
            return self.dense(inputs)

    inner = keras.Sequential([keras.Input((8,)), models.LAYERS.Dense(8, name="dense")], name="encoder")
    inputs = keras.Input((8,))
    model = keras.Model(inputs, Block()(inner(inputs)))

    assert list(select_layers(model, "auto")) == ["encoder/dense", "block/inner"]


class Branch(keras.Model):
    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        self.first = models.LAYERS.Dense(8, name="first")
        self.inner = keras.Sequential([keras.Input((8,)), models.LAYERS.Dense(8, name="a0")], name="inner")

    def call(self, inputs: Any) -> Any:
        return self.inner(self.first(inputs))


def make_deep() -> Any:
    inputs = keras.Input((8,))
    hidden = Branch("right")(Branch("left")(inputs))
    outer = keras.Model(inputs, models.LAYERS.Dense(2, name="head")(hidden), name="deep")
    outer_inputs = keras.Input((8,))
    return keras.Model(outer_inputs, models.LAYERS.Dense(2, name="last")(outer(outer_inputs)))


DEEP = ["deep/left/first", "deep/left/inner/a0", "deep/right/first", "deep/right/inner/a0", "deep/head", "last"]


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (["last"], ["last"]),
        (["deep/left/first"], ["deep/left/first"]),
        (["first"], ["deep/left/first", "deep/right/first"]),  # By the layer's own name, wherever it is.
        (["*/first"], ["deep/left/first", "deep/right/first"]),
        (["deep/right/*"], ["deep/right/first", "deep/right/inner", "deep/right/inner/a0"]),
        (["?ead", "LAST", "l?st"], ["deep/head", "last"]),
        (["a[0-3]"], ["deep/left/inner/a0", "deep/right/inner/a0"]),
        (("last", "deep"), ["deep", "last"]),  # In the order of the model; a model is a layer too.
        ("auto", DEEP),
        (None, []),
    ],
)
def test_layers_are_chosen_by_name_and_glob(wanted: Any, chosen: list[str]):
    model = make_deep()
    if wanted == ["?ead", "LAST", "l?st"]:
        with pytest.raises(ArgumentError, match="'LAST', which matches none of: deep, deep/left, "):
            select_layers(model, wanted)  # Letters count.
        wanted = ["?ead", "l?st"]
    assert list(select_layers(model, wanted)) == chosen


def test_a_name_that_is_no_glob_of_itself_is_a_name():
    model = keras.Model()
    model.first, model.second = models.LAYERS.Dense(2, name="a[0]"), models.LAYERS.Dense(2, name="a0")

    assert list(select_layers(model, ["a[0]"])) == ["a[0]", "a0"]


def test_layers_are_chosen_as_objects_and_all():
    model = make_deep()
    right = model.get_layer("deep").get_layer("right")

    assert select_layers(model, [right.first, model.get_layer("last")]) == {
        "deep/right/first": right.first,
        "last": model.get_layer("last"),
    }
    everything = select_layers(model, "all")
    assert set(DEEP) < set(everything)
    assert not [layer for layer in everything.values() if isinstance(layer, keras.layers.InputLayer)]
    with pytest.raises(ArgumentError, match="which matches none of"):
        select_layers(model, [models.LAYERS.Dense(2)])


@pytest.mark.parametrize(
    ("loss", "hint"),
    [
        (keras.losses.SparseCategoricalCrossentropy(from_logits=True), ("multiclass", True)),
        (keras.losses.CategoricalCrossentropy(label_smoothing=0.1), ("multiclass", False)),
        (keras.losses.BinaryFocalCrossentropy(from_logits=True), ("binary", True)),
        (keras.losses.MeanSquaredError(), ("regression", None)),
        (keras.losses.Huber(), ("regression", None)),
        (lambda true, predicted: predicted, (None, None)),
    ],
)
def test_a_loss_tells_the_task(loss: Any, hint: tuple[Any, Any]):
    assert read_loss_hint(loss) == hint


def test_outputs_are_named_by_the_model_by_keys_or_by_their_place():
    named = keras.Sequential([keras.Input((2,)), models.LAYERS.Dense(1, name="head")])

    assert name_outputs(named, 1) == {(): ("head", 1)}
    assert name_outputs(keras.Model(), {"a": 1, "b": {"c": 2}}) == {("a",): ("a", 1), ("b", "c"): ("b/c", 2)}
    assert name_outputs(keras.Model(), [1, 2]) == {(0,): ("0", 1), (1,): ("1", 2)}


def test_what_belongs_to_an_output_is_found_by_name_path_or_for_all():
    assert at_path({"a": 1}, (0,), "a") == 1
    assert at_path([1, 2], (1,), "b") == 2
    assert at_path(5, (1,), "b") == 5
    assert at_path([5], (), "b") == 5
    assert at_path({"x": 1}, ("a",), "a") is None


@given(st.integers(1, 100_000), st.integers(1, 4096))
def test_positions_are_spread_over_all_and_none_twice(count: int, kept: int):
    chosen = choose_positions(count, kept)

    assert min(kept, count) / 2 <= len(chosen) <= kept
    assert (np.diff(chosen) > 0).all()
    assert chosen[0] >= 0
    assert chosen[-1] < count
    width = -(-count // kept)
    np.testing.assert_array_equal(chosen // width, np.arange(len(chosen)))  # One of each stratum.


def test_positions_of_a_count_known_late_are_the_same():
    for count, kept in ((5, 10), (1000, 64), (65536, 195)):
        late = np.asarray(choose_positions(tf.constant(count), kept))
        assert len(late) == len(choose_positions(count, kept))
        assert np.abs(late - choose_positions(count, kept)).max() <= 1  # float32 against float64.


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("targets_shape", [(40, 40), (40, 40, 1), (40, 40, 5)])
def test_large_outputs_keep_the_same_positions_of_predictions_and_targets(
    targets_shape: tuple[int, ...], jit_compile: bool, known: bool
):
    # Every value tells its position.
    places = np.arange(1600, dtype="float32").reshape(40, 40)
    predictions = np.broadcast_to(places[None, :, :, None], (2, 40, 40, 5))
    targets = np.broadcast_to(places.reshape(40, 40, *[1] * (len(targets_shape) - 2)), (2, *targets_shape))
    shape = [40, 40] if known else [None, None]
    problems: list[str] = []

    @tf.function(
        jit_compile=jit_compile,
        input_signature=[
            tf.TensorSpec([None, *shape, 5]),
            tf.TensorSpec([None, *shape, *targets_shape[2:]]),
        ],
    )
    def step(first: Any, second: Any) -> Any:
        return thin("mask", {"predictions": first, "targets": second, "sample_loss": 1}, problems)

    found = step(tf.constant(predictions), tf.constant(targets))

    kept = found["predictions"].shape[1]
    assert MAX_VALUES // 5 // 2 <= kept <= MAX_VALUES // 5
    assert found["predictions"].shape == (2, kept, 5)
    assert found["targets"].shape == (2, kept, *targets_shape[2:])
    expected = found["predictions"].numpy()[0, :, 0]
    np.testing.assert_array_equal(found["targets"].numpy().reshape(2, kept, -1)[1, :, 0], expected)
    assert len(set(expected)) == kept
    assert problems[:1] == [
        "The predictions of output 'mask' are large: at most 819 positions of each sample are recorded. "
        "Its losses are of all."
    ]


def test_small_outputs_and_one_decision_per_sample_are_kept_whole():
    for shape in ((2, 100_000), (2, 8, 512), (2,)):
        fields = {"predictions": tf.zeros(shape)}
        assert thin("scores", fields, []) is fields


def test_large_targets_of_other_positions_are_left_out_and_named():
    problems: list[str] = []
    found = thin("mask", {"predictions": tf.zeros((2, 90, 90)), "targets": tf.zeros((2, 80, 80))}, problems)

    assert list(found) == ["predictions"]
    assert problems[0].startswith("The targets of output 'mask' are large and have other positions")
