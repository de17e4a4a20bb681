"""Units and gradients in windows: against figures counted from the arrays themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded import make_record, write
from tensorboard.backend.application import TensorBoardWSGI
from tensorboard.plugins import base_plugin
from werkzeug.test import Client

from tb_batchview import rollups
from tb_batchview.http import unpack_arrays
from tb_batchview.kept import Kept
from tb_batchview.log import load
from tb_batchview.plugin import BatchViewPlugin
from tb_batchview.records import GradientSummary, LayerSummary

UNITS = 7
BATCHES = 400
BASE = "/data/plugin/batchview/"
FIGURES = {"mean": "unit_means", "zero_fraction": "unit_zeros", "saturated_fraction": "unit_saturated"}


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    """Begin each test with nothing kept."""
    kept = Kept()
    monkeypatch.setattr(rollups, "KEPT", kept)
    return kept


def summarise(number: int) -> LayerSummary:
    """Return a layer of which unit 2 is often dead, unit 5 from 300 on, and unit 4 saturated in the second half."""
    rng = np.random.default_rng(number)
    values = np.abs(rng.normal(size=(8, UNITS))).astype(np.float32)
    values[:, 2] *= number % 3 == 0
    values[:, 5] *= number < 300
    saturated = rng.integers(0, 8, UNITS) / 8
    saturated[4] = float(number >= 200)
    summary = LayerSummary.of(values)
    fields: dict[str, Any] = {**vars(summary), "unit_saturated": saturated.astype(np.float32)}
    return LayerSummary(**fields)


def slope(number: int, layer: int) -> GradientSummary:
    """Return a gradient that shrinks with the layer; that of layer 1 is NaN in batch 50 and infinite in 51."""
    values = np.random.default_rng(number).normal(size=12) * 10.0 ** (-2 * layer)
    if layer == 1 and number in (50, 51):
        values[0] = np.nan if number == 50 else np.inf
    return GradientSummary.of(values)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Record a layer and two gradients in every second batch, a third one in every sixth."""
    folder = tmp_path_factory.mktemp("units")
    records = []
    for number in range(BATCHES):
        slopes = {f"layer_{place}": slope(number, place) for place in range(3) if place < 2 or number % 3 == 0}
        layers = {"dense": summarise(number)}
        records.append(make_record(2 * number, outputs={}, metrics={}, layers=layers, gradients=slopes))
    write(folder / "a", records)
    return folder


def ask(folder: Path, request: str) -> Any:
    plugin = BatchViewPlugin(base_plugin.TBContext(logdir=str(folder)), refresh_seconds=0, patience=60)
    response = Client(TensorBoardWSGI([plugin])).get(f"{BASE}{request}")
    assert response.status_code == 200, response.get_data(as_text=True)
    return response.json if response.content_type == "application/json" else unpack_arrays(response.get_data())


def windows_of(size: int, first: int, last: int) -> list[np.ndarray]:
    """Return which summaries each window has: they begin at multiples of its size."""
    numbers = np.arange(first, last)
    return [numbers[numbers // size == window] for window in np.unique(numbers // size)]


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize(("start", "stop", "points"), [(None, None, 50), (31, 555, 13), (700, None, 200), (40, 42, 5)])
def test_units_in_windows_are_those_of_the_batches(
    recorded: Path, figure: str, start: int | None, stop: int | None, points: int
) -> None:
    asked = "".join(f"&{key}={value}" for key, value in (("start", start), ("stop", stop)) if value is not None)
    header, arrays = ask(recorded, f"units?run=a&phase=train&layer=dense&figure={figure}&points={points}{asked}")
    same, layer = ask(recorded, f"layer?run=a&phase=train&layer=dense&points={points}{asked}")

    summaries = [summarise(number) for number in range(BATCHES)]
    chosen = [n for n in range(BATCHES) if (start is None or 2 * n >= start) and (stop is None or 2 * n < stop)]
    table = np.array([getattr(summaries[n], FIGURES[figure]) for n in range(BATCHES)], np.float64)
    dead = np.array([summary.unit_zeros == 1 for summary in summaries])
    saturated = np.array([summary.unit_saturated == 1 for summary in summaries])
    parts = windows_of(header["window"], chosen[0], chosen[-1] + 1)

    assert (header["batches"], header["units"], header["shown"]) == (len(chosen), UNITS, UNITS)
    assert header["window"] == same["window"]
    assert len(parts) <= points
    np.testing.assert_array_equal(arrays["step"], layer["step"])
    assert arrays["step"].tolist() == [2 * part[0] for part in parts]
    np.testing.assert_allclose(arrays["values"], [table[part].mean(axis=0) for part in parts], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(arrays["dead_units"], [dead[part].sum(axis=1).mean() for part in parts], rtol=1e-6)
    np.testing.assert_allclose(
        arrays["saturated_units"], [saturated[part].sum(axis=1).mean() for part in parts], rtol=1e-6
    )
    np.testing.assert_allclose(arrays[figure], table[chosen].mean(axis=0), rtol=1e-5, atol=1e-7)
    assert arrays["dead_batches"].tolist() == dead[chosen].sum(axis=0).tolist()
    assert arrays["saturated_batches"].tolist() == saturated[chosen].sum(axis=0).tolist()


def test_of_many_units_the_odd_ones_and_an_even_draw_are_shown(recorded: Path) -> None:
    whole = ask(recorded, "units?run=a&phase=train&layer=dense")[1]
    header, arrays = ask(recorded, "units?run=a&phase=train&layer=dense&limit=5")

    # Unit 4 is saturated in 200 batches, unit 2 dead in 266, unit 5 in 100.
    assert (header["units"], header["shown"]) == (UNITS, 5)
    assert arrays["unit"].tolist() == [0, 2, 3, 4, 6]
    np.testing.assert_array_equal(arrays["values"], whole["values"][:, arrays["unit"]])
    np.testing.assert_array_equal(arrays["mean"], whole["mean"][arrays["unit"]])


@pytest.mark.parametrize(("last", "dead", "saturated"), [(1, [5], [4]), (100, [5], [4]), (101, [], [4]), (300, [], [])])
def test_list_of_dead_units_is_that_of_the_last_batches(
    recorded: Path, last: int, dead: list[int], saturated: list[int]
) -> None:
    answer = ask(recorded, f"dead_units?run=a&phase=train&layer=dense&last={last}")

    assert answer["dead"] == {"total": len(dead), "units": dead}
    assert answer["saturated"] == {"total": len(saturated), "units": saturated}
    assert (answer["batches"], answer["last_step"]) == (last, 2 * BATCHES - 2)
    assert answer["first_step"] == 2 * (BATCHES - last)


def test_list_of_dead_units_ends_with_the_range(recorded: Path) -> None:
    log = load(recorded)["a"].layer("dense")
    answer = ask(recorded, "dead_units?run=a&phase=train&layer=dense&last=20&start=676&stop=680")

    assert answer == {
        "layer": "dense",
        "batches": 2,
        "first_step": 676,
        "last_step": 678,
        "units": UNITS,
        "dead": {"total": 1, "units": [5]},
        "saturated": {"total": 1, "units": [4]},
    }
    assert log.dead_units(1, stop=675) == [2, 5]
    assert log.dead_units(1, stop=674) == [5]  # step 672 is summary 336, a multiple of three
    assert ask(recorded, "dead_units?run=a&phase=train&layer=dense&start=9999")["batches"] == 0


@pytest.mark.parametrize(("start", "stop", "points"), [(None, None, 20), (90, 330, 500), (None, 2, 1), (600, 608, 3)])
def test_norms_in_windows_are_those_of_the_gradients(
    recorded: Path, start: int | None, stop: int | None, points: int
) -> None:
    asked = "".join(f"&{key}={value}" for key, value in (("start", start), ("stop", stop)) if value is not None)
    header, arrays = ask(recorded, f"gradients?run=a&phase=train&points={points}{asked}")

    chosen = [n for n in range(BATCHES) if (start is None or 2 * n >= start) and (stop is None or 2 * n < stop)]
    parts = windows_of(header["window"], chosen[0], chosen[-1] + 1)
    assert header["batches"] == len(chosen)
    assert arrays["step"].tolist() == [2 * part[0] for part in parts]
    assert [layer["name"] for layer in header["layers"]] == ["layer_0", "layer_1", "layer_2"]
    for place in range(3):
        norms = np.array([slope(n, place).norm if place < 2 or n % 3 == 0 else -1 for n in range(BATCHES)])
        for window, part in enumerate(parts):
            own = norms[part][norms[part] != -1]
            finite = own[np.isfinite(own)]
            assert arrays["nonfinite"][window, place] == len(own) - len(finite)
            expected = [finite.mean(), finite.min(), finite.max()] if len(finite) else [np.nan] * 3
            found = [arrays[name][window, place] for name in ("mean", "min", "max")]
            np.testing.assert_allclose(found, expected, rtol=1e-5)
        own = norms[chosen][norms[chosen] != -1]
        assert header["layers"][place]["batches"] == len(own)
        assert header["layers"][place]["nonfinite"] == np.count_nonzero(~np.isfinite(own))


def test_many_layers_have_fewer_windows(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tb_batchview.layer_answers.NORM_CELLS", 30)
    monkeypatch.setattr("tb_batchview.layer_answers.MAX_LAYERS", 2)

    header, arrays = ask(recorded, "gradients?run=a&phase=train&points=200")

    assert (header["total"], len(header["layers"])) == (3, 2)
    assert arrays["mean"].shape == (13, 2)  # of 32 summaries each


def test_gradient_in_windows_is_that_of_its_average(recorded: Path) -> None:
    header, arrays = ask(recorded, "gradient?run=a&phase=train&layer=layer_1&points=40&start=100")
    average = load(recorded)["a"].gradients("layer_1").average(100)
    values = np.concatenate([np.random.default_rng(n).normal(size=12) * 0.01 for n in range(52, BATCHES)])

    assert average.mean == pytest.approx(values.mean(), abs=1e-4)
    assert header["average"]["mean"] == pytest.approx(average.mean)
    assert header["average"]["std"] == pytest.approx(average.std)
    assert (header["average"]["min"], header["average"]["max"]) == (average.min, average.max)
    assert header["average"]["nonfinite"] == 2
    assert (header["least"], header["greatest"]) == (average.min, average.max)
    np.testing.assert_allclose(arrays["histogram"].sum(axis=1), 1, rtol=1e-5)
    assert average.unit_means is None


def test_average_of_a_layer_is_in_its_answer(recorded: Path) -> None:
    header = ask(recorded, "layer?run=a&phase=train&layer=dense&start=33&stop=500")[0]
    average = load(recorded)["a"].layer("dense").average(33, 500)

    found = header["average"]
    for name in ("mean", "std", "min", "max", "zero_fraction"):
        assert found[name] == pytest.approx(getattr(average, name), rel=1e-9)


def test_a_layer_without_units_has_none_to_show(tmp_path: Path) -> None:
    bare = LayerSummary.of(np.arange(8.0))
    write(tmp_path / "a", [make_record(step, outputs={}, metrics={}, layers={"flat": bare}) for step in range(4)])

    header, arrays = ask(tmp_path, "units?run=a&phase=train&layer=flat")
    answer = ask(tmp_path, "dead_units?run=a&phase=train&layer=flat")
    norms, nothing = ask(tmp_path, "gradients?run=a&phase=train")

    assert (header["units"], header["figures"], arrays["values"].shape) == (0, [], (0, 0))
    assert (answer["units"], answer["dead"], answer["saturated"]) == (None, *[{"total": 0, "units": []}] * 2)
    assert (norms["batches"], norms["layers"], nothing["mean"].shape) == (0, [], (0, 0))
