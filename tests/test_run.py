"""One run: counts against other libraries, layers, tables."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded import SPECS, make_record, make_scores, make_summary, write, write_run
from sklearn import metrics

from tb_batchview.decode import Slot
from tb_batchview.errors import ArgumentError, BatchViewError, NotFoundError
from tb_batchview.log import Log, load
from tb_batchview.places import Place, read_array
from tb_batchview.records import OutputRecord, OutputSpec
from tb_batchview.writer import BatchWriter


def test_a_run_tells_what_it_has(tmp_path: Path) -> None:
    write_run(tmp_path, layers={"dense": make_summary(1), "conv": make_summary(2)})

    run = load(tmp_path)["."]

    assert (run.phases, run.metrics, run.layers) == (("train",), ("accuracy",), ("dense", "conv"))
    assert run.class_names == ("cat", "dog", "car", "tree")
    assert run.outputs == dict(SPECS)
    assert run.health.files == 1


def test_several_outputs_come_by_name(tmp_path: Path) -> None:
    values = np.arange(8, dtype=np.float32)[:, None]
    outputs = {"scores": make_record(0).outputs["scores"], "age": OutputRecord(values + 1, values)}
    specs = {**SPECS, "age": OutputSpec("regression", 0)}
    write(tmp_path, [make_record(0, outputs=outputs)], specs=specs)
    run = load(tmp_path)["."]
    batch = run.batches("train")[0]

    assert batch.predictions["age"].tolist() == (values + 1).tolist()
    assert np.array_equal(batch.targets["scores"], make_scores(0)[1])
    assert batch.sample_loss["age"] is None
    assert batch.error_rate["age"] == 1.0
    assert run.class_names == {"scores": ("cat", "dog", "car", "tree"), "age": None}
    assert run.confusion("train", output="scores").sum() == 8
    with pytest.raises(ArgumentError, match=r"output must be named. Received: none. Run '.' has 'scores', 'age'"):
        run.confusion("train")
    with pytest.raises(ArgumentError, match="Received: output='age' of task 'regression'"):
        run.class_report("train", output="age")


def test_confusion_counts_a_range_of_steps(tmp_path: Path) -> None:
    write_run(tmp_path, 30)
    run = load(tmp_path)["."]

    for start, stop in ((None, None), (5, 12), (None, 3), (29, None), (7, 7)):
        scores = [make_scores(step) for step in range(30)[slice(start, stop)]]
        target = np.concatenate([targets for _, targets in scores] or [[]])
        predicted = np.concatenate([predictions.argmax(axis=1) for predictions, _ in scores] or [[]])
        expected = np.zeros((4, 4), int)
        np.add.at(expected, (target.astype(int), predicted.astype(int)), 1)
        assert run.confusion("train", start, stop).tolist() == expected.tolist()


def test_a_matrix_too_large_for_memory_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [make_record(0)], specs={"scores": OutputSpec("multiclass", 20_001)})

    with pytest.raises(ArgumentError, match=r"must be of at most 20000 classes. Received: 20001. Use class_report"):
        load(tmp_path)["."].confusion("train")


def test_class_report_equals_scikit_learn(tmp_path: Path) -> None:
    write_run(tmp_path, 30)
    scores = [make_scores(step) for step in range(10, 30)]
    target = np.concatenate([targets for _, targets in scores])
    predicted = np.concatenate([predictions.argmax(axis=1) for predictions, _ in scores])
    precision, recall, f1, support = metrics.precision_recall_fscore_support(target, predicted)

    report = load(tmp_path)["."].class_report("train", start=10)

    assert np.allclose([report.precision, report.recall, report.f1], [precision, recall, f1])
    assert [row.support for row in report] == support.tolist()
    assert report[2].class_name == "car"


def test_multilabel_report_is_counted_from_the_arrays(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    targets = (generator.random((3, 16, 5)) < 0.5).astype(np.float32)
    logits = (generator.normal(size=(3, 16, 5)) + 2 * targets - 1).astype(np.float32)
    records = [
        make_record(step, samples=16, outputs={"scores": OutputRecord(logits[step], targets[step])})
        for step in range(3)
    ]
    write(tmp_path, records, specs={"scores": OutputSpec("multilabel", 5, "sigmoid")})
    precision, recall, _, _ = metrics.precision_recall_fscore_support(
        targets[1:].reshape(-1, 5), logits[1:].reshape(-1, 5) >= 0
    )

    run = load(tmp_path)["."]
    report = run.class_report("train", start=1)
    trend = run.class_trend("train", start=1, windows=2)

    assert np.allclose([report.precision, report.recall], [precision, recall])
    assert report.samples == 32
    assert (trend.window, trend.step.tolist()) == (1, [1, 2])
    assert trend.support.tolist() == targets[1:].sum(axis=1).tolist()
    assert trend.predicted.tolist() == (logits[1:] >= 0).sum(axis=1).tolist()


def test_labels_are_not_read_again_for_another_range(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    values = generator.random((2, 40, 16, 5)).astype(np.float32)
    records = [
        make_record(step, samples=16, outputs={"scores": OutputRecord(values[0, step], values[1, step].round())})
        for step in range(40)
    ]
    write(tmp_path, records, specs={"scores": OutputSpec("multilabel", 5)})
    reads: list[Place] = []

    def read(place: Place, slot: Slot) -> np.ndarray:
        reads.append(place)
        return read_array(place, slot)

    log = Log({"": tmp_path}, reader=read)
    log.refresh()
    reports = [log["."].class_report("train", start, 40).support.tolist() for start in range(20)]

    # Two arrays of each batch, then those up to the nearest sum, which are four batches apart.
    assert 2 * 40 <= len(reads) <= 2 * 40 + 20 * 2 * 3
    assert reports == [(values[1, start:] >= 0.5).sum(axis=(0, 1)).tolist() for start in range(20)]


def test_class_trend_counts_windows_of_a_range(tmp_path: Path) -> None:
    write_run(tmp_path, 30)
    trend = load(tmp_path)["."].class_trend("train", 4, 27, windows=6)

    assert (trend.window, trend.step.tolist()) == (4, [4, 8, 12, 16, 20, 24])
    assert trend.last_step.tolist() == [7, 11, 15, 19, 23, 26]
    for number, step in enumerate(trend.step.tolist()):
        scores = [make_scores(other) for other in range(step, min(step + 4, 27))]
        target = np.concatenate([targets for _, targets in scores])
        predicted = np.concatenate([predictions.argmax(axis=1) for predictions, _ in scores])
        precision, recall, f1, support = metrics.precision_recall_fscore_support(
            target, predicted, labels=range(4), zero_division=np.nan
        )
        assert trend.support[number].tolist() == support.tolist()
        for found, expected in ((trend.precision, precision), (trend.recall, recall), (trend.f1, f1)):
            assert np.allclose(found[number], expected, equal_nan=True)


def test_class_trend_of_nothing_is_empty(tmp_path: Path) -> None:
    write_run(tmp_path, 3)
    run = load(tmp_path)["."]

    assert run.class_trend("train", 2, 2).recall.shape == (0, 4)
    assert run.class_trend("train", 2, 2).last_step.shape == (0,)
    with pytest.raises(ArgumentError, match=r"windows must be a whole number of at least 1. Received: windows=0."):
        run.class_trend("train", windows=0)


def test_a_layer_is_told_by_batch(tmp_path: Path) -> None:
    layers = [{"dense": make_summary(step)} if step % 5 == 0 else {} for step in range(20)]
    write(tmp_path, [make_record(step, layers=layers[step]) for step in range(20)])

    layer = load(tmp_path)["."].layer("dense")

    assert layer.steps.tolist() == [0, 5, 10, 15]
    assert layer.mean.tolist() == [0.5, 5.5, 10.5, 15.5]
    assert (layer.std.tolist(), layer.zero_fraction.tolist()) == ([0.25] * 4, [0.125] * 4)
    assert (layer.min.tolist(), layer.max.tolist()) == ([0, 5, 10, 15], [1, 6, 11, 16])
    assert layer.nonfinite.tolist() == [0] * 4
    assert layer.histograms.tolist() == [[10.0] * 6] * 4
    assert np.allclose(layer.edges[1], np.linspace(5, 6, 7))
    assert layer.unit_means.tolist() == [[step + 0.5] * 3 for step in (0, 5, 10, 15)]


def test_a_layer_is_averaged_over_a_range(tmp_path: Path) -> None:
    layers = [{"dense": make_summary(step)} if step % 5 == 0 else {} for step in range(20)]
    write(tmp_path, [make_record(step, layers=layers[step]) for step in range(20)])
    layer = load(tmp_path)["."].layer("dense")

    average = layer.average(5, 15)

    assert (average.batches, average.mean, average.min, average.max) == (2, 8.0, 5.0, 11.0)
    assert average.std == pytest.approx(np.sqrt(0.25**2 + 2.5**2))
    assert average.unit_means is not None
    assert average.unit_means.tolist() == [8.0] * 3
    assert average.histogram.sum() == pytest.approx(120)
    assert (average.edges[0], average.edges[-1]) == (5.0, 11.0)


def test_the_average_of_no_batch_is_not_a_number(tmp_path: Path) -> None:
    write_run(tmp_path, layers={"dense": make_summary(0)})

    average = load(tmp_path)["."].layer("dense").average(100)

    assert (average.batches, average.unit_means, average.histogram.sum()) == (0, None, 0)
    assert np.isnan([average.mean, average.std, average.min, average.max, average.zero_fraction]).all()


def test_pandas_gets_a_row_per_sample(tmp_path: Path) -> None:
    ids = np.array([f"img_{number}" for number in range(8)], object)
    records = []
    for step in range(3):
        predictions, targets = make_scores(step)
        weights = np.full(8, 0.5, np.float32)
        output = OutputRecord(predictions, targets, None, weights, ids) if step else None
        records.append(make_record(step, outputs={"scores": output} if output else {}))
    write(tmp_path, records)

    table = load(tmp_path)["."].to_pandas("train")

    assert list(table.columns) == [
        *("step", "epoch", "index", "sample", "target", "predicted", "confidence", "target_score"),
        *("sample_weight", "sample_id"),
    ]
    assert table["step"].tolist() == [1] * 8 + [2] * 8
    assert table["sample"].tolist() == [*range(8), *range(8)]
    assert table["target"].tolist() == [*make_scores(1)[1], *make_scores(2)[1]]
    assert table["sample_id"].tolist() == [*ids, *ids]
    assert table["sample_weight"].tolist() == [0.5] * 16


def test_pandas_gets_columns_for_each_output(tmp_path: Path) -> None:
    values = np.arange(8, dtype=np.float32)[:, None]
    outputs = {"scores": make_record(0).outputs["scores"], "age": OutputRecord(values + 1, values)}
    write(tmp_path, [make_record(0, outputs=outputs)], specs={**SPECS, "age": OutputSpec("regression", 0)})

    table = load(tmp_path)["."].to_pandas("train")

    assert table["age/error"].tolist() == [1.0] * 8
    assert table["scores/target"].tolist() == make_scores(0)[1].tolist()


def test_without_pandas_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path)
    monkeypatch.setitem(sys.modules, "pandas", None)

    with pytest.raises(BatchViewError, match=r"to_pandas needs pandas. Install it: pip install pandas"):
        load(tmp_path)["."].to_pandas("train")


@pytest.mark.parametrize("ask", ["confusion", "class_report", "class_trend", "calibration", "draw_values"])
@pytest.mark.parametrize(("start", "stop"), [("3", None), (math.nan, None), (0, [5])])
def test_a_range_is_of_numbers(tmp_path: Path, ask: str, start: Any, stop: Any) -> None:
    write_run(tmp_path, 6)
    name, value = ("start", start) if stop is None else ("stop", stop)
    with pytest.raises(
        ArgumentError, match=re.escape(f"{name} must be the number of a batch. Received: {name}={value!r}.")
    ):
        getattr(load(tmp_path)["."], ask)("train", start, stop)


def test_a_range_may_end_anywhere(tmp_path: Path) -> None:
    write_run(tmp_path, 6)
    run = load(tmp_path)["."]
    whole = run.confusion("train").tolist()

    for start, stop in ((-(10**30), 10**30), (np.int64(-1), np.uint64(2**64 - 1)), (-math.inf, math.inf), (0.0, 5.5)):
        assert run.confusion("train", start, stop).tolist() == whole
    for start, stop in ((4, 2), (10**30, None), (math.inf, None), (None, -1)):
        assert not run.confusion("train", start, stop).any()


def test_steps_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path, 3)
    batches = load(tmp_path)["."].batches("train")
    for step in (None, "1", [1], math.nan):
        with pytest.raises(ArgumentError, match="step must be the number of a batch"):
            batches.at_step(step)  # type: ignore[arg-type]
    for step in (-1, 10**30, 0.5):
        with pytest.raises(NotFoundError, match="step must be a batch that was kept"):
            batches.at_step(step)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ask", "name"), [("class_trend", "windows"), ("draw_values", "batches"), ("draw_values", "samples")]
)
@pytest.mark.parametrize("count", [0, -3, 1.5, "2", None])
def test_counts_are_whole_numbers(tmp_path: Path, ask: str, name: str, count: Any) -> None:
    write_run(tmp_path, 3)
    with pytest.raises(ArgumentError, match=f"{name} must be a whole number of at least 1. Received: {name}="):
        getattr(load(tmp_path)["."], ask)("train", **{name: count})


@pytest.mark.parametrize("sample_id", [3.7, None, b"3", math.nan, [3]])
def test_a_sample_is_found_by_its_own_id_alone(tmp_path: Path, sample_id: Any) -> None:
    with BatchWriter(tmp_path) as writer:
        writer.add_batch(predictions=np.eye(4), targets=np.arange(4), sample_ids=np.arange(4))
    run = load(tmp_path)["."]
    with pytest.raises(ArgumentError, match=r"sample_id must be a whole number or a str. Received: sample_id="):
        run.sample_history("train", sample_id)
    assert run.sample_history("train", np.int32(3)).target.tolist() == [3]


def test_a_layer_past_float32_has_no_edges_there(tmp_path: Path) -> None:
    with BatchWriter(tmp_path) as writer:
        for value in (1.0, 1e300):
            writer.add_batch(loss=0.5, histograms={"dense": np.array([[-value, value]])})
    edges = load(tmp_path)["."].layer("dense").edges
    assert edges[0, [0, -1]].tolist() == [-1, 1]
    assert np.isnan(edges[1]).all()


def write_decisions(directory: Path, task: str) -> tuple[np.ndarray, np.ndarray]:
    """Write pixels, tokens or a mask; return class numbers of all of them."""
    generator = np.random.default_rng(5)
    targets = generator.integers(-1, 3 if task == "multiclass" else 2, (9, 6, 4, 5))
    logits = generator.normal(size=(*targets.shape, 3 if task == "multiclass" else 1)).astype(np.float32)
    with BatchWriter(directory, task=task) as writer:
        for step in range(9):
            size = 6 if step < 8 else 2
            writer.add_batch(predictions=logits[step, :size], targets=targets[step, :size], loss=0.5)
    targets[8, 2:] = -1
    return targets, logits.argmax(axis=-1) if task == "multiclass" else (logits[..., 0] > 0).astype(int)


@pytest.mark.parametrize("task", ["multiclass", "binary"])
def test_several_decisions_of_a_sample_count_each(tmp_path: Path, task: str) -> None:
    targets, predicted = write_decisions(tmp_path, task)
    run = load(tmp_path)["."]
    labels = range(int(predicted.max()) + 1)

    for start, stop in ((0, 9), (2, 7), (8, 9), (4, 4)):
        known = targets[start:stop] >= 0
        pair = targets[start:stop][known], predicted[start:stop][known]
        expected = metrics.confusion_matrix(*pair, labels=labels) if len(pair[0]) else np.zeros((len(labels),) * 2)
        assert run.confusion("train", start, stop).tolist() == expected.tolist()
        report = run.class_report("train", start, stop)
        assert (report.samples, report.support.tolist()) == (len(pair[0]), expected.sum(axis=1).tolist())
        assert run.calibration("train", start, stop).count.sum() == len(pair[0])
    trend = run.class_trend("train", windows=3)
    assert trend.support.tolist() == [
        [np.count_nonzero(targets[step : step + 3] == label) for label in labels] for step in (0, 3, 6)
    ]
    assert 1 - run.class_report("train", 0, 1).accuracy == pytest.approx(
        np.mean(targets[0] != predicted[0], where=targets[0] >= 0)
    )


def test_several_decisions_of_labels_count_each(tmp_path: Path) -> None:
    generator = np.random.default_rng(6)
    scores = generator.random((3, 4, 5, 2)).astype(np.float32)
    targets = generator.integers(0, 2, scores.shape)
    with BatchWriter(tmp_path, task="multilabel") as writer:
        for step in range(3):
            writer.add_batch(predictions=scores[step], targets=targets[step], loss=0.5)
    truth, decided = targets[1:].reshape(-1, 2), scores[1:].reshape(-1, 2) > 0.5
    run = load(tmp_path)["."]

    report = run.class_report("train", 1)
    wrong = (truth != decided).astype(int)

    expected = metrics.precision_recall_fscore_support(truth, decided)
    assert np.allclose([report.precision, report.recall, report.f1, report.support], expected)
    assert run.label_errors("train", 1).tolist() == (wrong.T @ wrong).tolist()
    assert report.accuracy == pytest.approx(1 - np.mean([batch.error_rate for batch in run.batches("train")[1:]]))


def test_a_report_of_too_many_decisions_by_class_is_refused(tmp_path: Path) -> None:
    with BatchWriter(tmp_path, task="multiclass") as writer:
        writer.add_batch(predictions=np.zeros((1, 2, 5000), np.float32), targets=np.zeros((1, 2), int), loss=0.5)
    run = load(tmp_path)["."]
    with pytest.raises(ArgumentError, match=r"At most 4000 classes can be reported of samples with several decisions"):
        run.class_report("train")
    assert run.class_trend("train").support[0, 0] == 2
