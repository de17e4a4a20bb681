"""Batches as Python sees them: a sequence, and arrays that are views."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from recorded import TIME, append, event_file, frames, make_record, make_scores, make_summary, write, write_run

from tb_batchview import maps
from tb_batchview.errors import NotFoundError
from tb_batchview.log import load
from tb_batchview.records import OutputRecord


def test_batches_are_a_sequence(tmp_path: Path) -> None:
    write_run(tmp_path)
    batches = load(tmp_path)["."].batches("train")

    assert len(batches) == 20
    assert [batch.step for batch in batches] == list(range(20))
    assert [batch.step for batch in batches[5:15:4]] == [5, 9, 13]
    assert batches[-1].step == batches.at_step(19).step == 19
    with pytest.raises(IndexError, match=r"batch must be from -20 to 19. Received: batch=20"):
        batches[20]


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


def is_view_of_a_map(array: np.ndarray) -> bool:
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, memoryview) and type(base.obj).__name__ == "mmap"


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


def test_reading_twice_gives_the_same_memory(tmp_path: Path) -> None:
    write_run(tmp_path)
    batches = load(tmp_path)["."].batches("train")

    once, again = batches[7].predictions, batches[5:9][2].predictions

    assert np.shares_memory(once, again)
    assert not np.shares_memory(once, batches[8].predictions)
    assert (once.flags.owndata, once.flags.writeable) == (False, False)


def test_a_truncated_file_is_an_error_not_a_crash(tmp_path: Path) -> None:
    write_run(tmp_path)
    run = load(tmp_path)["."]
    assert run.batches("train")[19].predictions is not None  # mapped from here on
    os.truncate(event_file(tmp_path), 2000)

    with pytest.raises(NotFoundError, match="was deleted, replaced or truncated"):
        _ = run.batches("train")[19].predictions


def test_files_that_were_read_do_not_stay_open(tmp_path: Path) -> None:
    """A sweep has more files than a process may have open."""
    for number in range(maps.MOST_MAPS + 20):
        write_run(tmp_path / str(number), 1)
    log = load(tmp_path)
    before = len(os.listdir("/dev/fd"))
    held = log["0"].batches("train")[0].targets
    expected = held.tolist()
    total = sum(run.batches("train")[0].predictions.sum() for run in log.values())
    assert len(os.listdir("/dev/fd")) <= before + maps.MOST_MAPS + 1
    # What is held keeps its file, and is the same memory as what is read later.
    assert np.shares_memory(held, log["0"].batches("train")[0].targets)
    assert (held.tolist(), total > 0) == (expected, True)


def test_what_reads_files_says_how_another_process_gets_it(tmp_path: Path) -> None:
    write_run(tmp_path, 2)
    log = load(tmp_path)
    batches = log["."].batches("train")
    for opened in (log, log["."], batches, batches[0]):
        message = rf"{type(opened).__name__} cannot be pickled: .* Call load\(log_dir\) in the other process\."
        with pytest.raises(TypeError, match=message):
            pickle.dumps(opened)
        assert copy.copy(opened) is copy.deepcopy(opened) is opened
    assert pickle.loads(pickle.dumps(batches[0].targets)).tolist() == batches[0].targets.tolist()


def test_batches_are_equal_that_are_the_same_record(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 4)
    write_run(tmp_path / "b", 4)
    log = load(tmp_path)
    batches = log["a"].batches("train")

    assert batches[2] == log["a"].snapshot().batches("train")[-2] != batches[1]
    assert batches[2] != log["b"].batches("train")[2]
    assert batches[1] in batches[::-1]
    assert batches[1] not in batches[2:]
    assert batches.index(batches[3]) == 3
    assert len({batches[0], batches[0], batches[1]}) == 2
    assert batches[0] != 0
