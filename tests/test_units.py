"""What is recorded of single units, against the activations of an eager model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tb_batchview import BatchViewCallback, BatchWriter, load
from tb_batchview.errors import ArgumentError
from tb_batchview.records import LayerSummary
from tests import recorded
from tests.fits import feed, train_twice
from tests.models import BATCH, LAYERS, Looped

SAMPLES = 40
X = np.random.default_rng(0).normal(size=(SAMPLES, 8)).astype("float32")
Y = np.random.default_rng(1).integers(0, 4, SAMPLES)
MODES: dict[str, dict[str, Any]] = {"graph": {"jit_compile": False}, "xla": {"jit_compile": True}}
MODES["eager"] = {"run_eagerly": True}


class Keep(keras.callbacks.Callback):
    """Computes the layers' outputs before each batch, eagerly."""

    def on_train_begin(self, logs: Any = None) -> None:
        self.outputs: list[list[np.ndarray]] = []

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        values, outputs = X[BATCH * batch : BATCH * (batch + 1)], []
        for layer in self.model.layers:
            values = layer(values)
            outputs.append(np.array(values))
        self.outputs.append(outputs)


def make() -> Any:
    """Return a network with dead units, saturated ones and others."""
    keras.utils.set_random_seed(7)
    model = keras.Sequential(
        [
            keras.Input((8,)),
            LAYERS.Dense(12, activation="relu", name="hidden"),
            LAYERS.Dense(6, activation="tanh", name="bent"),
            LAYERS.Dense(4, activation="softmax", name="scores"),
        ]
    )
    kernel, bias = model.get_layer("hidden").get_weights()
    bias[[2, 5]] = -100
    model.get_layer("hidden").set_weights([kernel, bias])
    kernel, bias = model.get_layer("bent").get_weights()
    bias[[0, 4]] = 50, -50
    model.get_layer("bent").set_weights([kernel, bias])
    return model


def compiled(**mode: Any) -> Any:
    model = make()
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", **mode)
    return model


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_means_zeros_and_ends_of_units_are_those_of_an_eager_model(mode: dict[str, Any], tmp_path: Path):
    keep = Keep()
    run = train_twice(
        lambda: compiled(**mode), lambda m, c: feed(X, Y)(m, [*c, keep] if c else c), tmp_path, histogram_freq=1
    )
    for place, name in enumerate(("hidden", "bent", "scores")):
        log, truth = run.layer(name), [outputs[place] for outputs in keep.outputs]
        np.testing.assert_allclose(log.unit_means, [one.mean(0) for one in truth], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(log.unit_zeros, [(one == 0).mean(0) for one in truth], atol=1e-6)
        np.testing.assert_array_equal(log.dead, [(one == 0).all(0).sum() for one in truth])
    hidden, bent = run.layer("hidden"), run.layer("bent")
    assert set(hidden.dead_units(last=6)) >= {2, 5}
    truth = [outputs[0] for outputs in keep.outputs]
    assert hidden.dead_units(last=6) == np.flatnonzero((np.concatenate(truth) == 0).all(0)).tolist()
    assert hidden.dead_units() == np.flatnonzero((truth[-1] == 0).all(0)).tolist()

    ends = [np.abs(outputs[1]) >= np.float32(0.98) for outputs in keep.outputs]
    np.testing.assert_allclose(bent.unit_saturated, [one.mean(0) for one in ends], atol=1e-6)
    np.testing.assert_array_equal(bent.saturated, [one.all(0).sum() for one in ends])
    assert bent.saturated_units(last=6) == np.flatnonzero(np.concatenate(ends).all(0)).tolist()
    assert {0, 4} <= set(bent.saturated_units(last=6))
    assert hidden.unit_saturated.shape == (6, 0)
    assert np.isnan(hidden.saturated).all()
    assert hidden.saturated_units() == []

    summary = run.batches("train")[1].layers["bent"]
    np.testing.assert_array_equal(summary.unit_saturated, bent.unit_saturated[1])
    np.testing.assert_array_equal(summary.unit_zeros, bent.unit_zeros[1])


@pytest.mark.parametrize("wanted", ["all", ["again"], ["a*"]])
def test_every_call_of_a_layer_has_its_units(wanted: Any, tmp_path: Path):
    model = Looped()
    model.compile("sgd", "sparse_categorical_crossentropy")
    first = np.asarray(model(X[:BATCH]))
    assert first.shape == (BATCH, 4)
    hidden = X[:BATCH]
    truth = []
    for _ in range(3):
        hidden = np.tanh(hidden @ np.asarray(model.again.kernel) + np.asarray(model.again.bias))
        truth.append(hidden)
    feed(X, Y, epochs=1)(model, [BatchViewCallback(tmp_path, layers=wanted, histogram_freq=1)])
    run = load(tmp_path)["."]

    assert run.layers[:3] == ("again", "again#1", "again#2")
    for name, values in zip(run.layers, truth, strict=False):
        np.testing.assert_allclose(run.layer(name).unit_means[0], values.mean(0), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(run.layer(name).unit_saturated[0], (np.abs(values) >= 0.98).mean(0), atol=1e-6)


def test_layers_of_a_loop_of_ones_own_have_zeros_by_unit(tmp_path: Path):
    values = np.random.default_rng(3).normal(size=(5, 4, 6)).astype("float32").clip(0)
    values[..., 1] = 0
    with BatchWriter(tmp_path) as writer:
        writer.add_batch(histograms={"map": values, "flat": values[0, 0]})
    run = load(tmp_path)["."]

    np.testing.assert_allclose(run.layer("map").unit_zeros[0], (values == 0).mean(axis=(0, 1)), rtol=1e-6)
    assert run.layer("map").dead_units() == [1]
    assert run.layer("map").dead[0] == 1
    assert run.layer("flat").dead_units() == []
    assert np.isnan(run.layer("flat").dead).all()


def test_runs_without_shares_of_zeros_have_no_dead_units(tmp_path: Path):
    summary = LayerSummary(4, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, np.array([4]), np.zeros(2))
    recorded.write(tmp_path, [recorded.make_record(step, layers={"dense": summary}) for step in range(3)])
    log = load(tmp_path)["."].layer("dense")

    assert log.dead_units(last=2) == []
    assert np.isnan(log.dead).all()
    np.testing.assert_array_equal(log.unit_means, np.zeros((3, 2)))


@pytest.mark.parametrize("last", [0, -1, 1.5, True])
def test_how_many_batches_to_look_at_must_be_a_number(last: Any, tmp_path: Path):
    recorded.write(tmp_path, [recorded.make_record(0, layers={"dense": recorded.make_summary(0)})])
    with pytest.raises(ArgumentError, match="last must be a whole number of at least 1"):
        load(tmp_path)["."].layer("dense").dead_units(last=last)
