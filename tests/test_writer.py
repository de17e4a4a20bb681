"""The writer: everything taken is in a readable file, and nothing disturbs training."""

# ruff: noqa: PT031 - warnings come from the writer's thread, some time before close() returns
from __future__ import annotations

import _thread
import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tb_batchview import decode, metadata, tfrecord
from tb_batchview.errors import ArgumentError, BatchViewWarning
from tb_batchview.handoff import Handoff
from tb_batchview.log import load
from tb_batchview.records import BatchRecord, LayerSummary, OutputRecord, OutputSpec
from tb_batchview.tasks import TaskHint
from tb_batchview.writer import BatchWriter

SCORES = np.array([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]], np.float32)
TARGETS = np.array([0, 1])
DEADLINE = 30


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    names = [thread.name for thread in threading.enumerate()]
    assert "tb_batchview-writer" not in names


def files(log_dir: Path) -> list[Path]:
    return sorted((log_dir / "batchview").iterdir()) if (log_dir / "batchview").exists() else []


def read_file(path: Path) -> list[tuple[int, dict[str, np.ndarray]]]:
    """Return step and values of each event; every byte must be of a sound record."""
    content = path.read_bytes()
    with open(path, "rb") as file:
        frames = list(tfrecord.scan(file.fileno(), 0, len(content)))
    assert {frame.status for frame in frames} <= {"ok"}
    events = []
    for frame in frames:
        payload = content[frame.payload_position :][: frame.length]
        decoded = decode.decode_event(payload)
        events.append((decoded.step, {slot.tag: decode.slot_array(payload, slot) for slot in decoded.slots}))
    return events


def read_batches(log_dir: Path, phase: str = "train") -> list[tuple[int, dict[str, np.ndarray]]]:
    return [event for path in files(log_dir) for event in read_file(path) if f"{phase}/header" in event[1]]


def read_statuses(path: Path) -> list[metadata.Status]:
    return [metadata.parse_status(values["status"][0]) for _, values in read_file(path) if "status" in values]


def steps(log_dir: Path, phase: str = "train") -> list[int]:
    return [step for step, _ in read_batches(log_dir, phase)]


def record(phase: str = "train", **changes: Any) -> BatchRecord:
    outputs = {"out": OutputRecord(SCORES, TARGETS)}
    defaults = {"step": None, "epoch": 0, "index": 0, "size": 2, "wall_time": 1.0, "outputs": outputs}
    return BatchRecord(phase=phase, **{**defaults, **changes})


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "It did not happen in time."
        time.sleep(0.005)


def run_script(script: str, *arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        timeout=4 * DEADLINE,
        **options,
    )


def test_batches_are_read_back(tmp_path: Path):
    with BatchWriter(tmp_path) as writer:
        for number in range(20):
            writer.add_batch(
                predictions=SCORES + number,
                targets=TARGETS,
                loss=number / 2,
                metrics={"acc": 0.25},
                sample_loss=[1.0, 2.0],
                sample_ids=["a", "b"],
                epoch=number // 10,
                index=number % 10,
            )
        writer.add_batch(phase="validation", targets=TARGETS, predictions=SCORES)
    (path,) = files(tmp_path)
    assert metadata.is_event_file(path.name)
    batches = read_batches(tmp_path)
    assert [step for step, _ in batches] == list(range(20))
    for number, (_, values) in enumerate(batches):
        assert values["train/header"][:5].tolist() == [number // 10, number % 10, 2, number / 2, 0.25]
        np.testing.assert_array_equal(values["train/outputs/output/predictions"], SCORES + number)
        assert values["train/outputs/output/sample_ids"].tolist() == ["a", "b"]
    assert steps(tmp_path, "validation") == [0]


def test_tensorflow_reads_the_file(tmp_path: Path):
    tf = pytest.importorskip("tensorflow")
    with BatchWriter(tmp_path) as writer:
        for _ in range(3):
            writer.add_batch(predictions=SCORES, targets=TARGETS)
    events = [tf.compat.v1.Event.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(files(tmp_path)[0]))]
    assert events[0].file_version == "brain.Event:2"
    assert [event.step for event in events[1:4]] == [0, 1, 2]
    (value,) = (value for value in events[2].summary.value if value.tag.endswith("/predictions"))
    np.testing.assert_array_equal(tf.make_ndarray(value.tensor), SCORES)


def test_tensorboard_lists_the_tags(tmp_path: Path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with BatchWriter(tmp_path) as writer:
        writer.add_batch(predictions=SCORES, targets=TARGETS)
    found = accumulator.EventAccumulator(str(tmp_path / "batchview")).Reload()
    assert "train/outputs/output/predictions" in found.Tags()["tensors"]
    assert found.SummaryMetadata("train/header").plugin_data.plugin_name == "batchview"


def test_loop_may_use_its_buffers_again(tmp_path: Path):
    buffer, targets = SCORES.copy(), TARGETS.copy()
    with BatchWriter(tmp_path) as writer:
        for number in range(5):
            buffer[:] = number
            targets[:] = number % 3
            writer.add_batch(predictions=buffer, targets=targets, histograms={"d": buffer})
    for number, (_, values) in enumerate(read_batches(tmp_path)):
        assert values["train/outputs/output/predictions"].tolist() == np.full((2, 3), number).tolist()
        assert values["train/layers/d/summary"][1] == number


def test_steps_go_on_where_older_files_ended(tmp_path: Path):
    for _ in range(2):
        with BatchWriter(tmp_path) as writer:
            writer.add_batch(loss=1.0)
            writer.add_batch(loss=1.0)
            writer.add_batch(phase="validation", loss=1.0)
    with BatchWriter(tmp_path) as writer:
        writer.submit(lambda: [record(), record("predict")], nbytes=1, batches=2)
    assert (steps(tmp_path), steps(tmp_path, "validation"), steps(tmp_path, "predict")) == (
        [0, 1, 2, 3, 4],
        [0, 1],
        [0],
    )
    assert len(files(tmp_path)) == 3
    assert writer.last_steps == {"train": 4, "validation": 1, "predict": 0}


def test_steps_go_on_where_another_writer_ended(tmp_path: Path):
    first, second = BatchWriter(tmp_path), BatchWriter(tmp_path)
    for writer in (first, second, first, first, second):
        writer.add_batch(loss=1.0)
        writer.close()
    assert steps(tmp_path) == [0, 1, 2, 3, 4]
    assert [path.name for path in files(tmp_path)] == sorted(path.name for path in files(tmp_path))


def test_steps_go_on_after_a_damaged_file(tmp_path: Path):
    with BatchWriter(tmp_path) as writer:
        for _ in range(4):
            writer.add_batch(predictions=SCORES)
    (path,) = files(tmp_path)
    content = bytearray(path.read_bytes())
    with open(path, "rb") as file:
        frames = list(tfrecord.scan(file.fileno(), 0, len(content)))
    # The last batch is torn off, the second is corrupt.
    content[frames[2].payload_position + 5] ^= 1
    path.write_bytes(content[: frames[4].end - 3])
    (path.parent / metadata.file_name(1, "garbage", 1, 1)).write_bytes(b"\x00garbage" * 100)
    with BatchWriter(tmp_path) as writer:
        writer.add_batch(loss=0.0)
    assert writer.last_steps == {"train": 3}


def test_batches_are_counted_within_their_epoch(tmp_path: Path):
    with BatchWriter(tmp_path) as writer:
        for epoch in (0, 0, 0, 1, 1):
            writer.add_batch(epoch=epoch, loss=1.0)
        writer.add_batch(epoch=1, phase="validation", loss=1.0)
        writer.add_batch(epoch=1, index=7, loss=1.0)
    run = load(tmp_path)["."]

    assert [batch.index for batch in run.batches("train")] == [0, 1, 2, 0, 1, 7]
    assert [batch.index for batch in run.batches("validation")] == [0]


def test_given_steps_are_kept_and_must_grow(tmp_path: Path):
    with BatchWriter(tmp_path) as writer:
        writer.add_batch(step=10, loss=1.0)
        writer.add_batch(loss=1.0)
        writer.add_batch(step=20, loss=1.0)
        for step in (20, 3):
            with pytest.raises(ArgumentError, match=f"step must be greater than 20, .*'train'.* Received: step={step}"):
                writer.add_batch(step=step, loss=1.0)
        writer.add_batch(step=0, phase="validation", loss=1.0)
    with BatchWriter(tmp_path) as writer, pytest.raises(ArgumentError, match="step must be greater than 20"):
        writer.add_batch(step=0, loss=1.0)
    assert steps(tmp_path) == [10, 11, 20]


def test_step_given_by_a_thunk_must_grow_too(tmp_path: Path):
    with BatchWriter(tmp_path) as writer, pytest.warns(BatchViewWarning, match="step must be greater than 5"):
        writer.submit(lambda: [record(step=5)], nbytes=1)
        writer.submit(lambda: [record(step=5)], nbytes=1)
        writer.submit(lambda: [record()], nbytes=1)
        writer.close()
    assert (steps(tmp_path), writer.dropped) == ([5, 6], 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"class_names": "abc"}, "class_names must be a sequence of str"),
        ({"class_names": []}, "class_names must be a sequence of str"),
        ({"class_names": {"out": [1, 2]}}, "class_names must be a sequence of str"),
        ({"task": "cooking"}, "task must be 'auto' or one of .* Received: task='cooking'"),
        ({"task": {"out": None}}, "task must be 'auto' or one of"),
        ({"update_freq": 0}, "update_freq must be a whole number of at least 1. Received: update_freq=0"),
        ({"top_k": 0}, "top_k must be"),
        ({"top_k": 1.5}, "top_k must be"),
        ({"max_pending_mb": 0}, "max_pending_mb must be a number above 0"),
        ({"max_pending_mb": "1"}, "max_pending_mb must be a number above 0"),
        ({"on_full": "panic"}, "on_full must be 'wait' or 'drop'. Received: on_full='panic'"),
        ({"run": {"model": 3}}, "run must be a dict of str to str"),
    ],
)
def test_wrong_settings_are_refused(tmp_path: Path, arguments: dict[str, Any], words: str):
    with pytest.raises(ArgumentError, match=words):
        BatchWriter(tmp_path, **arguments)


@pytest.mark.parametrize("names", [{"cat": 0, "dog": 1}, {0: "cat", 1: "dog"}])
def test_class_names_with_numbers_are_told_whole_and_how_to_mend_them(tmp_path: Path, names: dict[Any, Any]):
    with pytest.raises(ArgumentError, match="class_names must") as raised:
        BatchWriter(tmp_path, class_names=names)
    assert f"Received: class_names={names}. Of a dict" in str(raised.value)


def test_a_message_tells_a_large_value_in_one_line(tmp_path: Path):
    with pytest.raises(ArgumentError) as raised:
        BatchWriter(np.zeros((100, 100)))  # arguments in another order
    assert len(str(raised.value)) < 300
    assert "\n" not in str(raised.value)


def test_a_log_dir_in_the_home_directory_is_where_load_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    with BatchWriter("~/logs") as writer:
        writer.add_batch(loss=1.0)
    assert writer.log_dir == str(tmp_path / "logs")
    assert len(load("~/logs")["."].batches("train")) == 1


@pytest.mark.parametrize(
    "log_dir", ["nowhere://bucket/logs", "s3://", "memory:///", Path("s3://x/y"), "file://", "", "a\0b", b"x", 3, None]
)
def test_only_paths_and_addresses_are_taken(log_dir: Any):
    with pytest.raises(ArgumentError, match="log_dir must "):
        BatchWriter(log_dir)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"predictions": SCORES, "targets": [0]}, "same number of samples. Received: predictions of 2, targets of 1"),
        ({"predictions": {"a": SCORES, "b": SCORES[:1]}}, r"All outputs must have the same number .* \[1, 2\]"),
        ({"predictions": {"a": SCORES, "b": SCORES}, "targets": TARGETS}, "targets must be a dict by output name"),
        ({"predictions": 3.0}, "predictions must have one entry per sample. Received: a single value"),
        ({"predictions": [[1, 2], [3]]}, "predictions must be an array"),
        ({"predictions": ["a", "b"]}, "predictions must be of integers, booleans or floats"),
        ({"predictions": SCORES.astype(complex)}, "predictions must be of .* Received: dtype=complex128"),
        ({"sample_ids": [0.5, 1.5]}, "sample_ids must be integers below"),
        ({"predictions": {3: SCORES}}, "The name of a output must be"),
        ({"phase": "test"}, "phase must be one of train, validation, predict. Received: phase='test'"),
        ({"step": -1}, "step must be a whole number of at least 0"),
        ({"step": 1.0}, "step must be a whole number"),
        ({"epoch": True}, "epoch must be a whole number"),
        ({"index": -1}, "index must be a whole number"),
        ({"loss": "low"}, "loss must be a number. Received: loss='low'"),
        ({"loss": [1.0, 2.0]}, "loss must be a number"),
        ({"metrics": {"acc": None}}, "acc must be a number"),
        ({"metrics": {3: 1.0}}, "The name of a metric must be"),
        ({"wall_time": "now"}, "wall_time must be a number"),
        ({"histograms": {"d": "x"}}, r"histograms\['d'\] must be of"),
        ({"predictions": SCORES, "targets": np.zeros((2, 7))}, "Targets must fit the predictions of task 'multiclass'"),
    ],
)
def test_wrong_batches_are_refused_at_once_and_change_nothing(tmp_path: Path, arguments: dict[str, Any], words: str):
    with BatchWriter(tmp_path) as writer:
        if "targets" in arguments and "fit" in words:
            writer.hints = {"output": TaskHint("multiclass")}
        with pytest.raises(ArgumentError, match=words):
            writer.add_batch(**arguments)
        writer.add_batch(loss=1.0)
    assert steps(tmp_path) == [0]


def test_class_names_must_fit_the_first_batch(tmp_path: Path):
    words = r"one name for each of the 3 classes\. Received: 2 names"
    with BatchWriter(tmp_path, class_names=["a", "b"]) as writer, pytest.raises(ArgumentError, match=words):
        writer.add_batch(predictions=SCORES, targets=TARGETS)


@pytest.mark.parametrize("argument", [{"class_names": {"ouput": ["a"]}}, {"task": {"ouput": "binary"}}])
def test_settings_of_an_output_that_is_not_there_are_refused(tmp_path: Path, argument: dict[str, Any]):
    words = r"must be for outputs of the model. Received: \['ouput'\]"
    with BatchWriter(tmp_path, **argument) as writer, pytest.raises(ArgumentError, match=words):
        writer.add_batch(predictions=SCORES, targets=TARGETS)


def specs_of(path: Path) -> list[dict[str, OutputSpec]]:
    """Return the outputs of each header metadata in a file."""
    content = path.read_bytes()
    with open(path, "rb") as file:
        frames = list(tfrecord.scan(file.fileno(), 0, len(content)))
    slots = [decode.decode_event(content[f.payload_position :][: f.length]).slots for f in frames]
    contents = [metadata.parse_content(slot.content) for some in slots for slot in some if slot.content]
    return [dict(content.outputs) for content in contents if content.kind == "header"]


def test_several_outputs(tmp_path: Path):
    values = np.array([[1.0], [2.0]])
    with BatchWriter(tmp_path, class_names={"kind": ["a", "b", "c"]}) as writer:
        writer.add_batch(
            predictions={"kind": SCORES, "age": values}, targets={"kind": TARGETS, "age": values}, sample_ids=[7, 8]
        )
    ((_, found),) = read_batches(tmp_path)
    assert found["train/outputs/kind/sample_ids"].tolist() == found["train/outputs/age/sample_ids"].tolist() == [7, 8]
    assert specs_of(files(tmp_path)[0]) == [
        {"kind": OutputSpec("multiclass", 3, None, ("a", "b", "c")), "age": OutputSpec("regression", 0)}
    ]


def test_names_that_do_not_fit_a_thunk_are_left_out_with_a_warning(tmp_path: Path):
    with BatchWriter(tmp_path, class_names=["a"]) as writer, pytest.warns(BatchViewWarning, match="Received: 1 names"):
        writer.submit(lambda: [record(), record()], nbytes=1, batches=2)
        writer.close()
    assert steps(tmp_path) == [0, 1]
    assert specs_of(files(tmp_path)[0]) == [{"out": OutputSpec("multiclass", 3)}]


def test_hints_tell_the_task_and_the_user_has_the_last_word(tmp_path: Path):
    with BatchWriter(tmp_path) as writer:
        writer.hints = {"output": TaskHint("multiclass", True)}
        writer.add_batch(predictions=SCORES, targets=TARGETS)
        writer.flush()
        writer.hints = {"output": TaskHint("regression", None)}
        writer.add_batch(predictions=SCORES, targets=SCORES)
    assert specs_of(files(tmp_path)[0]) == [
        {"output": OutputSpec("multiclass", 3, "softmax")},
        {"output": OutputSpec("regression", 0)},
    ]
    with BatchWriter(tmp_path, task="multilabel") as writer:
        writer.hints = {"output": TaskHint("binary", True)}
        writer.add_batch(predictions=SCORES, targets=SCORES)
    assert specs_of(files(tmp_path)[1]) == [{"output": OutputSpec("multilabel", 3, "sigmoid")}]


def test_task_is_told_again_when_targets_come(tmp_path: Path):
    with BatchWriter(tmp_path) as writer:
        writer.add_batch(predictions=SCORES * 3)
        writer.add_batch(predictions=SCORES * 3, targets=TARGETS)
        writer.add_batch(predictions=SCORES * 3)
    assert specs_of(files(tmp_path)[0]) == [
        {"output": OutputSpec("regression", 0)},
        {"output": OutputSpec("multiclass", 3, "softmax")},
    ]


def test_update_freq_keeps_arrays_of_every_nth_batch_of_each_phase(tmp_path: Path):
    with BatchWriter(tmp_path, update_freq=3) as writer:
        for number in range(7):
            writer.add_batch(predictions=SCORES, targets=TARGETS, loss=number)
            if number < 2:
                writer.add_batch(phase="validation", predictions=SCORES, targets=TARGETS)
    kept = ["train/outputs/output/predictions" in values for _, values in read_batches(tmp_path)]
    assert kept == [True, False, False, True, False, False, True]
    assert [values["train/header"][3] for _, values in read_batches(tmp_path)] == list(range(7))
    assert ["validation/outputs/output/target" in v for _, v in read_batches(tmp_path, "validation")] == [True, False]


def test_top_k_keeps_the_largest_scores(tmp_path: Path):
    with BatchWriter(tmp_path, top_k=1) as writer:
        writer.add_batch(predictions=SCORES, targets=TARGETS)
    ((_, values),) = read_batches(tmp_path)
    assert values["train/outputs/output/top_classes"].tolist() == [[0], [2]]
    assert "train/outputs/output/predictions" not in values


def test_histograms_are_those_of_numpy(tmp_path: Path):
    values = np.random.default_rng(3).normal(size=(16, 5, 4)).astype(np.float32)
    values[0, 0, 0], values[1, 1, 1], values[2, 2, 2] = np.nan, np.inf, 0
    summary = LayerSummary(1, 2, 3, 4, 5, 6, 0, np.arange(3))
    with BatchWriter(tmp_path) as writer:
        writer.add_batch(histograms={"a": values, "b": summary, "c": np.array([7, 7]), "d": [np.nan]})
    ((_, found),) = read_batches(tmp_path)
    kept = values[np.isfinite(values)].astype(np.float64)
    expected = [320, kept.mean(), kept.std(), kept.min(), kept.max(), 1 / 318, 2]
    np.testing.assert_allclose(found["train/layers/a/summary"], expected, rtol=1e-5)
    counts, _ = np.histogram(kept, bins=30)
    np.testing.assert_array_equal(found["train/layers/a/histogram"], counts)
    means = np.where(np.isfinite(values), values, np.nan)
    np.testing.assert_allclose(found["train/layers/a/unit_means"], np.nanmean(means, axis=(0, 1)), rtol=1e-4)
    assert found["train/layers/b/summary"].tolist() == [1, 2, 3, 4, 5, 6, 0]
    assert found["train/layers/c/summary"].tolist() == [2, 7, 0, 7, 7, 0, 0]
    assert found["train/layers/c/histogram"].tolist() == [2] + [0] * 29
    np.testing.assert_array_equal(found["train/layers/d/summary"], [1, *[np.nan] * 5, 1])


def test_file_is_opened_with_the_first_batch(tmp_path: Path):
    log_dir = tmp_path / "deep" / "er"
    with BatchWriter(log_dir):
        pass
    assert not log_dir.exists()
    with BatchWriter(log_dir) as writer:
        writer.add_batch(loss=1.0)
        assert writer.flush(DEADLINE)
        assert steps(log_dir) == [0]


def test_close_says_what_was_seen_and_may_be_repeated(tmp_path: Path):
    writer = BatchWriter(tmp_path, run={"model": "m"})
    writer.add_batch(loss=1.0)
    writer.add_batch(phase="validation", loss=1.0)
    writer.close()
    writer.close()
    (path,) = files(tmp_path)
    assert read_statuses(path) == [metadata.Status("closed", "", 1, {"train": 1, "validation": 1})]


def test_writer_opens_a_new_file_after_close(tmp_path: Path):
    writer = BatchWriter(tmp_path)
    for _ in range(3):
        writer.add_batch(predictions=SCORES, targets=TARGETS)
        writer.close()
    assert steps(tmp_path) == [0, 1, 2]
    assert [read_statuses(path)[-1].seen for path in files(tmp_path)] == [{"train": 1}] * 3
    # Each file says everything by itself.
    assert [len(specs_of(path)) for path in files(tmp_path)] == [1, 1, 1]


def test_thunk_that_raises_is_counted_and_leaves_a_gap(tmp_path: Path):
    def fail() -> list[BatchRecord]:
        raise RuntimeError("The device is gone.")

    def fail_late() -> Iterator[BatchRecord]:
        yield record()
        raise RuntimeError("The device is gone.")

    writer = BatchWriter(tmp_path)
    with pytest.warns(BatchViewWarning, match=r"could not be recorded: RuntimeError: The device is gone") as caught:
        for thunk, batches in ((lambda: [record()], 1), (fail, 2), (fail_late, 3), (lambda: [record()], 1)):
            assert writer.submit(thunk, nbytes=1, batches=batches, phase="train")
        writer.close()
    assert len(caught) == 1
    assert (steps(tmp_path), writer.dropped, writer.seen) == ([0, 3, 6], 4, {"train": 7})
    message = "A batch could not be recorded: RuntimeError: The device is gone."
    *_, capture, closed = read_statuses(files(tmp_path)[0])
    assert (capture.kind, capture.message, capture.count) == ("capture", message, 2)
    assert closed == metadata.Status("closed", "", 1, {"train": 7})


def test_batch_that_cannot_be_encoded_is_counted(tmp_path: Path):
    bad = record(outputs={"out": OutputRecord(targets=np.array([1j, 2j]))})
    with (
        BatchWriter(tmp_path) as writer,
        pytest.warns(BatchViewWarning, match=r"targets must be of .*dtype=complex128"),
    ):
        writer.submit(lambda: [record(), bad, record()], nbytes=1, batches=3)
        writer.close()
    assert (steps(tmp_path), writer.dropped) == ([0, 2], 1)


def test_warnings_made_errors_do_not_reach_training(tmp_path: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with BatchWriter(tmp_path) as writer:
            writer.warn("capture", "Something is missing.")
            writer.submit(lambda: 1 / 0, nbytes=1)  # type: ignore[arg-type, return-value]
            writer.submit(lambda: [record()], nbytes=1)
    assert steps(tmp_path) == [0]
    assert {status.count for status in writer.warnings} == {1}


def test_warning_comes_once_and_is_counted(tmp_path: Path):
    writer = BatchWriter(tmp_path)
    with pytest.warns(BatchViewWarning, match="^tb_batchview: No loss.$") as caught:
        for _ in range(3):
            writer.warn("capture", "No loss.")
        writer.close()
    assert len(caught) == 1
    assert writer.warnings == (metadata.Status("capture", "No loss.", 3),)
    capture, closed = read_statuses(files(tmp_path)[0])
    assert (capture, closed.kind) == (metadata.Status("capture", "No loss.", 3), "closed")


def test_many_different_warnings_are_bounded(tmp_path: Path):
    writer = BatchWriter(tmp_path)
    with pytest.warns(BatchViewWarning) as caught:
        for number in range(1000):
            writer.warn("capture", f"Number {number}.")
    assert len(caught) == len(writer.warnings) < 100
    assert sum(status.count for status in writer.warnings) == 1000
    writer.close()


def test_directory_that_cannot_be_written_warns_once(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    writer = BatchWriter(tmp_path / "file" / "logs")
    with pytest.warns(BatchViewWarning, match="Nothing is recorded: .* cannot be written") as caught:
        writer.submit(lambda: [record()], nbytes=1)
        assert not writer.flush(DEADLINE)
        evaluated: list[int] = []
        for _ in range(100):
            assert not writer.submit(lambda: evaluated.append(1) or [], nbytes=1)
            writer.add_batch(loss=1.0)
        writer.close()
        writer.add_batch(loss=1.0)
        writer.close()
    assert (len(caught), evaluated, writer.dropped) == (1, [], 202)


class Gate:
    """A thunk that holds the writer's thread until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()

    def __call__(self) -> list[BatchRecord]:
        self.entered.set()
        assert self.open.wait(DEADLINE)
        return [record()]


def test_full_queue_drops_and_shows_the_gap(tmp_path: Path):
    writer = BatchWriter(tmp_path, max_pending_mb=1, on_full="drop")
    gate = Gate()
    writer.submit(gate, nbytes=1 << 19, phase="train")
    assert gate.entered.wait(DEADLINE)
    with pytest.warns(BatchViewWarning, match="dropped because writing could not keep up"):
        taken = [writer.submit(lambda: [record()], nbytes=1 << 19, phase="train") for _ in range(4)]
    gate.open.set()
    assert writer.flush(DEADLINE)
    assert writer.submit(lambda: [record()], nbytes=1 << 19, phase="train")
    writer.close()
    assert taken == [True, False, False, False]
    assert (steps(tmp_path), writer.dropped, writer.seen) == ([0, 1, 5], 3, {"train": 6})
    *_, dropped, closed = read_statuses(files(tmp_path)[0])
    assert (dropped.kind, dropped.count, closed.seen) == ("dropped", 3, {"train": 6})


def test_full_queue_waits_and_loses_nothing(tmp_path: Path):
    writer = BatchWriter(tmp_path, max_pending_mb=1, on_full="wait")
    gate = Gate()
    writer.submit(gate, nbytes=1 << 20)
    assert gate.entered.wait(DEADLINE)
    taken: list[bool] = []
    caller = threading.Thread(
        target=lambda: taken.extend(writer.submit(lambda: [record()], nbytes=1 << 20) for _ in "abc")
    )
    caller.start()
    # It cannot have put anything while the gate is shut.
    caller.join(0.05)
    assert caller.is_alive()
    assert taken == []
    gate.open.set()
    caller.join(DEADLINE)
    writer.close()
    assert (taken, steps(tmp_path), writer.dropped) == ([True] * 3, [0, 1, 2, 3], 0)


def test_a_batch_that_waits_is_of_few_objects(tmp_path: Path):
    # Python's garbage collector looks at those of all that wait, again and again: what a batch takes grew with them.
    go_on = threading.Event()
    predictions, targets = np.eye(4, dtype=np.float32), np.arange(4)

    def hold_up() -> list[BatchRecord]:
        go_on.wait(30)
        return []

    with BatchWriter(tmp_path) as writer:
        writer.add_batch(predictions=predictions, targets=targets, loss=0.5)
        writer.submit(hold_up, nbytes=1, batches=0)
        try:
            gc.collect()
            before = len(gc.get_objects())
            for _ in range(300):
                writer.add_batch(predictions=predictions, targets=targets, loss=0.5)
            objects = len(gc.get_objects()) - before
        finally:
            go_on.set()

    assert objects < 6 * 300
    assert len(load(tmp_path)["."].batches("train")) == 301


def test_job_larger_than_the_bound_goes_alone(tmp_path: Path):
    with BatchWriter(tmp_path, max_pending_mb=0.001) as writer:
        for _ in range(5):
            assert writer.submit(lambda: [record()], nbytes=1 << 30)
    assert steps(tmp_path) == [0, 1, 2, 3, 4]


def test_thunk_that_uses_the_writer_does_not_wait_for_itself(tmp_path: Path):
    writer = BatchWriter(tmp_path, max_pending_mb=0.001)
    answers: list[bool] = []

    def thunk() -> list[BatchRecord]:
        answers.append(writer.submit(lambda: [record()], nbytes=1 << 20))
        answers.append(writer.flush())
        writer.close()
        return [record()]

    with pytest.warns(BatchViewWarning, match="could not keep up"):
        writer.submit(thunk, nbytes=1 << 20)
        writer.close()
    assert (answers, steps(tmp_path)) == ([False, False], [0])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_thread_that_died_is_replaced():
    done: list[int] = []
    handoff = Handoff(10, idle=lambda: None, finish=lambda: None)

    def die() -> None:
        raise SystemExit

    for number in range(5):
        assert handoff.put(die, 8, wait=True)
        assert handoff.put(lambda number=number: done.append(number), 8, wait=True)
    assert handoff.drain(DEADLINE)
    handoff.close()
    assert done == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("jobs", "nbytes", "least"), [(128, 0, 64), (1, 6, 1)], ids=["many", "large"])
def test_much_that_waits_wakes_the_thread(monkeypatch: pytest.MonkeyPatch, jobs: int, nbytes: int, least: int):
    monkeypatch.setattr("tb_batchview.handoff._POLL_SECONDS", 10 * DEADLINE)
    done: list[int] = []
    handoff = Handoff(10, idle=lambda: None, finish=lambda: None)
    assert handoff.put(lambda: None, 0, wait=True)
    # From here on the thread sleeps for longer than the test waits.
    assert handoff.drain(DEADLINE)

    for number in range(jobs):
        assert handoff.put(lambda number=number: done.append(number), nbytes, wait=False)
    wait_for(lambda: len(done) >= least)

    handoff.close()
    assert done == list(range(jobs))


def test_flush_gives_up_in_time(tmp_path: Path):
    writer = BatchWriter(tmp_path)
    gate = Gate()
    writer.submit(gate, nbytes=1)
    assert gate.entered.wait(DEADLINE)
    assert not writer.flush(0.01)
    gate.open.set()
    assert writer.flush(DEADLINE)
    writer.close()


def test_interrupted_close_still_writes_all(tmp_path: Path):
    writer = BatchWriter(tmp_path)

    def interrupt() -> list[BatchRecord]:
        wait_for(lambda: writer._handoff._closing)
        _thread.interrupt_main()
        return [record()]

    writer.submit(interrupt, nbytes=1)
    for _ in range(50):
        writer.submit(lambda: [record()], nbytes=1)
    # A shell starts what runs in the background without a handler.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            writer.close()
    finally:
        signal.signal(signal.SIGINT, before)
    assert steps(tmp_path) == list(range(51))
    assert read_statuses(files(tmp_path)[0])[-1].kind == "closed"


def test_batches_of_several_threads_are_all_written(tmp_path: Path):
    with BatchWriter(tmp_path, max_pending_mb=0.001) as writer:

        def add() -> None:
            for _ in range(50):
                writer.add_batch(predictions=SCORES, targets=TARGETS)

        callers = [threading.Thread(target=add) for _ in range(4)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(DEADLINE)
    assert steps(tmp_path) == list(range(200))


WRITE_UNTIL_KILLED = """
import sys, numpy as np
from tb_batchview.writer import BatchWriter
writer = BatchWriter(sys.argv[1])
scores = np.random.default_rng(0).random((64, 100))
for number in range(10**9):
    writer.add_batch(predictions=scores, loss=number)
    if number == 300:
        writer.flush()
        print("flushed", flush=True)
"""


def test_killed_writer_leaves_a_readable_file(tmp_path: Path):
    process = subprocess.Popen([sys.executable, "-c", WRITE_UNTIL_KILLED, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"flushed\n"
        process.send_signal(signal.SIGKILL)
        process.wait(DEADLINE)
    found = read_batches(tmp_path)
    assert len(found) >= 301
    assert [values["train/header"][3] for _, values in found] == list(range(len(found)))
    with BatchWriter(tmp_path) as writer:
        writer.add_batch(loss=1.0)
    assert steps(tmp_path) == list(range(len(found) + 1))


def test_what_was_not_closed_is_written_at_exit(tmp_path: Path):
    script = """
import sys
from tb_batchview.writer import BatchWriter
writer = BatchWriter(sys.argv[1])
for _ in range(100):
    writer.add_batch(loss=1.0)
"""
    run_script(script, tmp_path)
    assert steps(tmp_path) == list(range(100))
    assert read_statuses(files(tmp_path)[0])[-1] == metadata.Status("closed", "", 1, {"train": 100})


def test_forked_child_leaves_the_file_alone(tmp_path: Path):
    script = """
import os, sys
from tb_batchview.writer import BatchWriter
writer = BatchWriter(sys.argv[1])
writer.add_batch(loss=1.0)
child = os.fork()
if child == 0:
    writer.add_batch(loss=2.0)
    assert not writer.submit(lambda: [], nbytes=1)
    assert not writer.flush()
    writer.close()
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
writer.add_batch(loss=3.0)
writer.close()
"""
    run_script(script, tmp_path)
    assert [values["train/header"][3] for _, values in read_batches(tmp_path)] == [1.0, 3.0]
    assert len(files(tmp_path)) == 1


def test_full_disk_ends_the_file_with_a_whole_record(tmp_path: Path):
    # A limit on the size of files stands for the full disk: it too takes part of a record.
    script = """
import resource, sys, warnings, numpy as np
from tb_batchview.writer import BatchWriter
warnings.simplefilter("ignore")
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
writer = BatchWriter(sys.argv[1])
scores = np.zeros((10, 100))
for number in range(60):
    if number == 20:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_001, hard))
    if number == 40:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    writer.add_batch(predictions=scores, loss=number)
    writer.flush()
writer.close()
print(writer.dropped)
"""
    dropped = int(run_script(script, tmp_path).stdout)
    found = [int(values["train/header"][3]) for _, values in read_batches(tmp_path)]
    assert dropped > 0
    assert len(found) == 60 - dropped
    assert set(range(10)) | set(range(40, 60)) <= set(found)
    statuses = [status for status in read_statuses(files(tmp_path)[0]) if status.kind == "write"]
    assert "could not be written" in statuses[-1].message
    # What names the values was in what was lost, or before: it is said again.
    assert len(specs_of(files(tmp_path)[0])) >= 2


def test_writer_needs_no_tensorflow(tmp_path: Path):
    script = """
import sys, numpy as np
from tb_batchview import BatchWriter
with BatchWriter(sys.argv[1]) as writer:
    writer.add_batch(predictions=np.eye(3), targets=[0, 1, 2])
print([name for name in sys.modules if name.partition(".")[0] in ("tensorflow", "keras", "torch", "jax")])
"""
    assert run_script(script, tmp_path).stdout == "[]\n"


def test_metadata_of_the_run_is_in_every_file(tmp_path: Path):
    writer = BatchWriter(tmp_path, run={"model": "one"})
    writer.add_batch(loss=1.0)
    writer.flush()
    writer.run = {"model": "two"}
    writer.add_batch(loss=1.0)
    writer.close()
    content = files(tmp_path)[0].read_bytes()
    with contextlib.closing(open(files(tmp_path)[0], "rb")) as file:
        frames = list(tfrecord.scan(file.fileno(), 0, len(content)))
    payloads = [content[f.payload_position :][: f.length] for f in frames]
    contents = [slot.content for payload in payloads for slot in decode.decode_event(payload).slots if slot.content]
    runs = [dict(metadata.parse_content(content).run) for content in contents if b"header" in content]
    from tb_batchview.version import __version__

    assert runs == [{"model": name, "writer": f"tb_batchview {__version__}"} for name in ("one", "two")]


def test_relative_directory_is_that_of_the_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    writer = BatchWriter(Path("logs"))
    (tmp_path / "elsewhere").mkdir()
    os.chdir(tmp_path / "elsewhere")
    writer.add_batch(loss=1.0)
    writer.close()
    assert steps(tmp_path / "logs") == [0]


def test_thread_ends_by_itself_when_nothing_comes_and_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tb_batchview.handoff.REST_SECONDS", 0.0)
    writer = BatchWriter(tmp_path)
    for _ in range(3):
        writer.add_batch(predictions=SCORES, targets=TARGETS)
        wait_for(writer._handoff.is_idle)
    writer.close()

    assert steps(tmp_path) == [0, 1, 2]
    assert len(files(tmp_path)) == 1
    assert read_statuses(files(tmp_path)[0])[-1].kind == "closed"


def test_forgotten_writer_keeps_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tb_batchview.handoff.REST_SECONDS", 0.0)
    writer = BatchWriter(tmp_path)
    writer.add_batch(predictions=SCORES, targets=TARGETS)
    assert writer.flush(DEADLINE)
    wait_for(writer._handoff.is_idle)
    file, reference = weakref.ref(writer._file), weakref.ref(writer)
    fd = writer._file._fd
    del writer
    gc.collect()

    assert (reference(), file()) == (None, None)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    assert steps(tmp_path) == [0]


def test_targets_that_are_no_class_are_warned_of_once_and_counted(tmp_path: Path):
    told = pytest.warns(BatchViewWarning, match="class numbers from 0 to 2. Received: 3")
    with told as warned, BatchWriter(tmp_path, task="multiclass") as writer:
        for numbers in ([1, 2], [3, 1], [7, 8], [-1, -100]):
            writer.add_batch(predictions=SCORES, targets=numbers)
    assert len(warned) == 1
    run = load(tmp_path)["."]
    assert [(kind, count) for kind, _, count in run.health.warnings] == [("capture", 2)]
    assert run.batches("train")[2].targets.tolist() == [7, 8]


@pytest.mark.parametrize(
    ("task", "targets"),
    [
        ("multiclass", np.eye(3)[:2] * 5),  # rows, not numbers
        ("multiclass", np.array([0.0, np.nan])),
        ("multilabel", np.array([[0, 5, 1], [9, 0, 1]])),
        ("regression", np.array([[7.0, 8, 9], [7, 8, 9]])),
    ],
)
def test_targets_that_are_no_class_numbers_are_not_taken_for_them(tmp_path: Path, task: str, targets: Any):
    with BatchWriter(tmp_path, task=task) as writer:
        writer.add_batch(predictions=SCORES, targets=targets)
    assert writer.warnings == ()
