"""The public reading API: runs, batches as views, counts, layers, tables."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from recorded import SPECS, TIME, append, event_file, frames, make_record, make_scores, make_summary, write
from sklearn import metrics

from tb_batchview import log as logs
from tb_batchview.decode import Slot
from tb_batchview.errors import ArgumentError, BatchViewError, NotFoundError
from tb_batchview.log import Log, load
from tb_batchview.places import Place, read_array
from tb_batchview.records import OutputRecord, OutputSpec


def write_run(directory: Path, batches: int = 20, **changes: object) -> None:
    write(directory, [make_record(step, **changes) for step in range(batches)])  # type: ignore[arg-type]


def is_view_of_a_map(array: np.ndarray) -> bool:
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, memoryview) and type(base.obj).__name__ == "mmap"


def test_runs_are_named_by_their_path(tmp_path: Path) -> None:
    write_run(tmp_path)
    write_run(tmp_path / "a")
    write_run(tmp_path / "a" / "b c")
    (tmp_path / "nothing").mkdir()

    log = load(tmp_path)

    assert list(log) == [".", "a", "a/b c"]
    assert log["a"].name == "a"
    assert (len(log), "a" in log, "x" in log) == (3, True, False)


def test_runs_are_sorted_as_people_count(tmp_path: Path) -> None:
    names = ["lr=3e-4", "lr=0.01", "lr=0.1 run 02", "lr=0.1 run 2", "lr=0.1 run 10", "lr=0.25", "lr=0.5"]
    names += ["run", "run" + "8" * 200, "run1" + "0" * 200, "run9e999"]
    for name in reversed(names):
        write_run(tmp_path / name, 1)

    assert list(load(tmp_path)) == names


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    write_run(tmp_path / "elsewhere" / "one")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "logs")

    assert list(load(tmp_path / "logs")) == ["link/one"]


def test_the_walk_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(10):
        write_run(tmp_path / f"run{number}", 1)
    monkeypatch.setattr(logs, "MAX_DIRECTORIES", 5)

    assert len(load(tmp_path)) == 4


def test_a_directory_that_is_not_there_is_named() -> None:
    with pytest.raises(NotFoundError, match=r"log_dir must be a directory that exists. Received: log_dir='/nowhere'"):
        load("/nowhere")


def test_nothing_recorded_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "a" / "batchview").mkdir(parents=True)

    assert dict(load(tmp_path)) == {}


def test_roots_with_names_put_them_first(tmp_path: Path) -> None:
    write_run(tmp_path / "x")
    write_run(tmp_path / "y" / "sub")
    log = Log({"a": tmp_path / "x", "b": tmp_path / "y"})
    log.refresh()

    assert list(log) == ["a", "b/sub"]


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda log: log["x"], "run must be one of those recorded. Received: run='x'. There is 'a'."),
        (
            lambda log: log["a"].batches("predict"),
            "phase must be one of those recorded of run 'a'. Received: phase='predict'. There is 'train'.",
        ),
        (
            lambda log: log["a"].confusion("train", output="x"),
            "output must be one of those recorded of run 'a'. Received: output='x'. There is 'scores'.",
        ),
        (
            lambda log: log["a"].layer("x"),
            "layer must be one of those recorded of phase 'train' of run 'a'. Received: layer='x'. There is none.",
        ),
        (
            lambda log: log["a"].batches("train").at_step(99),
            "step must be a batch that was kept. Received: step=99. Kept are 20 from 0 to 19.",
        ),
    ],
)
def test_unknown_names_get_a_list_of_what_there_is(tmp_path: Path, ask: object, message: str) -> None:
    write_run(tmp_path / "a")
    log = load(tmp_path)

    with pytest.raises(NotFoundError) as caught:
        ask(log)  # type: ignore[operator]

    assert str(caught.value) == message


def test_a_run_tells_what_it_has(tmp_path: Path) -> None:
    write_run(tmp_path, layers={"dense": make_summary(1), "conv": make_summary(2)})

    run = load(tmp_path)["."]

    assert (run.phases, run.metrics, run.layers) == (("train",), ("accuracy",), ("dense", "conv"))
    assert run.class_names == ("cat", "dog", "car", "tree")
    assert run.outputs == dict(SPECS)
    assert run.health.files == 1


def test_batches_are_a_sequence(tmp_path: Path) -> None:
    write_run(tmp_path)
    batches = load(tmp_path)["."].batches("train")

    assert len(batches) == 20
    assert [batch.step for batch in batches] == list(range(20))
    assert [batch.step for batch in batches[5:15:4]] == [5, 9, 13]
    assert batches[-1].step == batches.at_step(19).step == 19
    with pytest.raises(IndexError, match=r"batch must be from -20 to 19. Received: batch=20"):
        batches[20]


def test_a_batch_holds_what_the_loss_saw(tmp_path: Path) -> None:
    ids = np.arange(100, 108)
    weights = np.linspace(0, 1, 8).astype(np.float32)
    predictions, targets = make_scores(3)
    output = OutputRecord(predictions, targets, -np.log(predictions[np.arange(8), targets]), weights, ids)
    record = make_record(3, outputs={"scores": output}, layers={"dense": make_summary(3)})
    write(tmp_path, [record])

    batch = load(tmp_path)["."].batches("train")[0]

    assert (batch.phase, batch.step, batch.epoch, batch.index, batch.size) == ("train", 3, 0, 3, 8)
    assert (batch.wall_time, batch.loss, batch.metrics) == (TIME + 3, record.loss, record.metrics)
    assert batch.error_rate == pytest.approx(np.mean(predictions.argmax(axis=1) != targets))
    assert batch.confidence == pytest.approx(predictions.max(axis=1).mean())
    expected = {
        "predictions": predictions,
        "targets": targets,
        "target": targets,
        "predicted": predictions.argmax(axis=1),
        "sample_loss": output.sample_loss,
        "sample_weight": weights,
        "sample_ids": ids,
    }
    for name, array in expected.items():
        assert np.array_equal(getattr(batch, name), array), name
    assert (batch.top_scores, batch.top_classes) == (None, None)
    summary = batch.layers["dense"]
    assert (summary.mean, summary.max, summary.histogram.tolist()) == (3.5, 4.0, [10.0] * 6)


def test_arrays_are_read_only_views_into_the_map(tmp_path: Path) -> None:
    write_run(tmp_path)
    batch = load(tmp_path)["."].batches("train")[7]

    for array in (batch.predictions, batch.targets, batch.sample_loss):
        assert is_view_of_a_map(array)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_arrays_outlive_the_log_and_the_file(tmp_path: Path) -> None:
    write_run(tmp_path)
    predictions = load(tmp_path)["."].batches("train")[7].predictions
    event_file(tmp_path).unlink()

    assert np.array_equal(predictions, make_scores(7)[0])


def test_a_truncated_file_is_an_error_not_a_crash(tmp_path: Path) -> None:
    write_run(tmp_path)
    run = load(tmp_path)["."]
    assert run.batches("train")[19].predictions is not None  # mapped from here on
    os.truncate(event_file(tmp_path), 2000)

    with pytest.raises(NotFoundError, match="was deleted, replaced or truncated"):
        _ = run.batches("train")[19].predictions


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


def test_a_batch_with_only_a_header_has_no_arrays(tmp_path: Path) -> None:
    write(tmp_path, [make_record(0), make_record(1, outputs={}, metrics={})])

    batch = load(tmp_path)["."].batches("train")[1]

    assert [batch.predictions, batch.targets, batch.sample_loss, batch.sample_ids] == [None] * 4
    assert (batch.loss, batch.metrics, batch.layers) == (make_record(1).loss, {}, {})
    assert np.isnan([batch.error_rate, batch.confidence]).all()


def test_top_scores_stand_in_for_predictions(tmp_path: Path) -> None:
    write(tmp_path, [make_record(0)], top_k=2)
    predictions = make_scores(0)[0]

    batch = load(tmp_path)["."].batches("train")[0]

    assert batch.predictions is None
    assert np.array_equal(batch.top_scores, -np.sort(-predictions, axis=1)[:, :2])
    assert np.array_equal(batch.top_classes[:, 0], predictions.argmax(axis=1))


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
    with pytest.raises(ArgumentError, match=r"windows must be at least 1. Received: windows=0."):
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


def test_refresh_takes_in_what_came_since(tmp_path: Path) -> None:
    pieces = frames([make_record(step) for step in range(10)])
    path = event_file(tmp_path)
    path.write_bytes(b"".join(pieces[:6]))
    log = load(tmp_path)
    run, before = log["."], log["."].batches("train")
    first = before[4].predictions

    append(path, b"".join(pieces[6:]))
    write_run(tmp_path / "new", 1)
    log.refresh()

    assert (len(before), len(run.batches("train")), list(log)) == (5, 10, [".", "new"])
    # A larger map replaces the smaller one; what was handed out stays.
    assert np.array_equal(run.batches("train")[9].predictions, make_scores(9)[0])
    assert np.array_equal(first, make_scores(4)[0])


def test_a_snapshot_does_not_grow(tmp_path: Path) -> None:
    pieces = frames([make_record(step) for step in range(10)])
    path = event_file(tmp_path)
    path.write_bytes(b"".join(pieces[:6]))
    log = load(tmp_path)
    snapshot = log["."].snapshot()

    append(path, b"".join(pieces[6:]))
    log.refresh()

    assert (len(snapshot.batches("train")), len(log["."].batches("train"))) == (5, 10)


def test_a_deleted_run_disappears(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    write_run(tmp_path / "b")
    log = load(tmp_path)
    event_file(tmp_path / "a").unlink()

    log.refresh()

    assert list(log) == ["b"]


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


def test_reading_loads_neither_tensorflow_nor_keras_nor_pandas(tmp_path: Path, root: Path) -> None:
    write_run(tmp_path)
    code = (
        "import sys, tb_batchview\n"
        f"run = tb_batchview.load({str(tmp_path)!r})['.']\n"
        "run.class_report('train'), run.batches('train')[0].predictions\n"
        "print(sorted({'tensorflow', 'keras', 'pandas'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_places_and_slices_count_from_either_end(tmp_path: Path) -> None:
    write_run(tmp_path)
    batches = load(tmp_path)["."].batches("train")

    cases = [slice(-3, None), slice(None, None, -1), slice(-15, -2, 3), slice(50, 60), slice(None, 0), slice(12, 3, -4)]
    for case in cases:
        assert [batch.step for batch in batches[case]] == list(range(20))[case], case
    assert [batch.step for batch in batches[4:16][::-2][-3:]] == list(range(20))[4:16][::-2][-3:]
    assert [batch.step for batch in reversed(batches)] == list(range(19, -1, -1))
    assert (batches[np.int64(7)].step, batches[-20].step) == (7, 0)
    for number in (20, -21):
        with pytest.raises(IndexError, match=rf"batch must be from -20 to 19. Received: batch={number}"):
            batches[number]
    with pytest.raises(IndexError, match=r"There is no batch. Received: batch=0"):
        batches[:0][0]


def test_a_slice_knows_only_its_own_steps(tmp_path: Path) -> None:
    write(tmp_path, [make_record(step) for step in range(0, 40, 2)])
    batches = load(tmp_path)["."].batches("train")

    assert batches[5:10].at_step(12).step == batches[::-1].at_step(12).step == 12
    for step in (8, 11, 20, -1):
        with pytest.raises(NotFoundError, match=rf"step must be a batch that was kept. Received: step={step}"):
            batches[5:10].at_step(step)


def test_a_loop_over_batches_is_not_moved_by_a_refresh(tmp_path: Path) -> None:
    pieces = frames([make_record(step) for step in range(10)])
    path = event_file(tmp_path)
    path.write_bytes(b"".join(pieces[:6]))
    log = load(tmp_path)
    seen = []

    for number, batch in enumerate(log["."].batches("train")):
        append(path, pieces[6 + number])
        log.refresh()
        seen.append((batch.step, batch.predictions[0, 0]))

    assert seen == [(step, make_scores(step)[0][0, 0]) for step in range(5)]
    assert len(log["."].batches("train")) == 10


def test_reading_twice_gives_the_same_memory(tmp_path: Path) -> None:
    write_run(tmp_path)
    batches = load(tmp_path)["."].batches("train")

    once, again = batches[7].predictions, batches[5:9][2].predictions

    assert np.shares_memory(once, again)
    assert not np.shares_memory(once, batches[8].predictions)
    assert (once.flags.owndata, once.flags.writeable) == (False, False)


def test_a_close_name_is_suggested(tmp_path: Path) -> None:
    write_run(tmp_path / "first", layers={"dense_1": make_summary(0), "dense_2": make_summary(0)})
    write_run(tmp_path / "second")
    log = load(tmp_path)
    asked: list[tuple[object, str]] = [
        (lambda: log["frist"], "first"),
        (lambda: log["sec"], "second"),
        (lambda: log["logs/second"], "second"),
        (lambda: log["first"].layer("dense1"), "dense_1"),
    ]

    for ask, close in asked:
        with pytest.raises(NotFoundError, match=rf"Did you mean '{close}'\?$"):
            ask()  # type: ignore[operator]
    for name in ("zzz", "", "x" * 100_000, 7):
        with pytest.raises(NotFoundError) as caught:
            log[name]  # type: ignore[index]
        assert "Did you mean" not in str(caught.value)
