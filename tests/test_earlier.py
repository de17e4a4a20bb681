"""A log_dir that holds the run of another model: a new run beside it, and one warning."""

# ruff: noqa: PT031 - warnings come from the writer's thread, some time before close() returns
from __future__ import annotations

import os
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
from recorded import append, event_file, frames, make_record, make_summary, write

from tb_batchview import metadata
from tb_batchview.earlier import Earlier
from tb_batchview.errors import BatchViewWarning
from tb_batchview.log import load
from tb_batchview.records import BatchRecord
from tb_batchview.writer import BatchWriter

A, B, C = ({"model": name, "architecture": digest} for name, digest in (("a", "aa11"), ("b", "bb22"), ("c", "cc33")))
ANOTHER = "holds batches of another model"


def record(log_dir: Path, run: dict[str, str] | None, batches: int = 2, **options: Any) -> BatchWriter:
    """Train: write some batches, and close."""
    writer = BatchWriter(log_dir, run=run, **options)
    for _ in range(batches):
        writer.add_batch(loss=1.0)
    writer.close()
    return writer


def steps(log_dir: Path) -> list[int]:
    return [batch.step for batch in load(log_dir)["."].batches("train")]


def test_the_same_model_goes_on(tmp_path: Path) -> None:
    record(tmp_path / "run", A)
    writer = record(tmp_path / "run", {**A, "keras": "99"})

    assert writer.log_dir == str(tmp_path / "run")
    assert steps(tmp_path / "run") == [0, 1, 2, 3]
    assert os.listdir(tmp_path) == ["run"]


def test_another_model_is_a_new_run_and_says_so_once(tmp_path: Path) -> None:
    record(tmp_path / "run", A)

    with pytest.warns(BatchViewWarning, match=ANOTHER) as caught:
        writer = record(tmp_path / "run", B)

    (message,) = {str(warning.message) for warning in caught}
    assert len(caught) == 1
    assert message == (
        f"tb_batchview: {tmp_path}/run holds batches of another model: those of this one are in {tmp_path}/run-2. "
        "Give each model a log_dir of its own."
    )
    assert writer.log_dir == str(tmp_path / "run-2")
    assert (steps(tmp_path / "run"), steps(tmp_path / "run-2")) == ([0, 1], [0, 1])
    # Who looks at the new run is told too.
    ((kind, told, count),) = load(tmp_path)["run-2"].health.warnings
    assert (kind, f"tb_batchview: {told}", count) == ("write", message, 1)


def test_each_model_finds_its_run_again(tmp_path: Path) -> None:
    record(tmp_path / "run", A)
    for run in (B, C, B, C, C):
        with pytest.warns(BatchViewWarning, match=ANOTHER):
            record(tmp_path / "run", run)
    record(tmp_path / "run", A)

    assert sorted(os.listdir(tmp_path)) == ["run", "run-2", "run-3"]
    assert [len(steps(tmp_path / name)) for name in ("run", "run-2", "run-3")] == [4, 4, 6]


@pytest.mark.parametrize(("first", "second"), [(None, None), (None, A), (A, None), ({"model": "x"}, {"model": "y"})])
def test_without_a_digest_on_both_sides_the_run_goes_on(tmp_path: Path, first: Any, second: Any) -> None:
    record(tmp_path / "run", first)
    writer = record(tmp_path / "run", second)

    assert (writer.log_dir, steps(tmp_path / "run")) == (str(tmp_path / "run"), [0, 1, 2, 3])


def test_a_directory_of_something_else_is_not_free(tmp_path: Path) -> None:
    record(tmp_path / "run", A)
    (tmp_path / "run-2").mkdir()
    (tmp_path / "run-2" / "notes.txt").write_text("mine")
    (tmp_path / "run-3").write_text("a file")
    record(tmp_path / "run-4", None)
    (tmp_path / "run-5" / "batchview").mkdir(parents=True)

    with pytest.warns(BatchViewWarning, match=ANOTHER):
        writer = record(tmp_path / "run", B)

    assert writer.log_dir == str(tmp_path / "run-5")


def test_one_writer_for_two_models_one_after_the_other(tmp_path: Path) -> None:
    """As a callback that is given to one model and then to another."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        writer = BatchWriter(tmp_path / "run")
        places = []
        for run in (A, B, A, B):
            writer.run = run
            writer.add_batch(loss=1.0)
            places.append(Path(writer.log_dir).name)
            writer.close()

    assert places == ["run", "run-2", "run", "run-2"]
    assert (steps(tmp_path / "run"), steps(tmp_path / "run-2")) == ([0, 1], [0, 1])
    assert [ANOTHER in str(warning.message) for warning in caught] == [True]


def test_a_model_told_before_the_first_batch_counts(tmp_path: Path) -> None:
    record(tmp_path / "run", A)
    writer = BatchWriter(tmp_path / "run")
    assert writer.log_dir == str(tmp_path / "run")
    assert writer.last_steps == {"train": 1}

    with pytest.warns(BatchViewWarning, match=ANOTHER):
        writer.run = B
        assert writer.log_dir == str(tmp_path / "run-2")
    assert writer.last_steps == {}
    writer.close()


def test_another_model_after_an_interrupted_training_is_kept_apart(tmp_path: Path) -> None:
    """Nobody closed the writer; what the first model left goes where it belongs."""
    writer = BatchWriter(tmp_path / "run", run=A)
    for _ in range(50):
        writer.submit(lambda: [BatchRecord("train", None, 0, 0, 0, 1.0)], nbytes=1, phase="train")
    with pytest.warns(BatchViewWarning, match=ANOTHER):
        writer.run = B
        writer.add_batch(loss=1.0)
        writer.close()

    assert (len(steps(tmp_path / "run")), steps(tmp_path / "run-2")) == (50, [0])


def test_what_waits_of_a_training_that_crashed_comes_before_the_next(tmp_path: Path) -> None:
    crashed = BatchWriter(tmp_path / "run", run=A)
    for _ in range(5):
        crashed.submit(lambda: [BatchRecord("train", None, 0, 0, 0, 1.0)], nbytes=1, phase="train")
    record(tmp_path / "run", A)

    assert steps(tmp_path / "run") == list(range(7))
    crashed.close()


def test_other_constants_told_on_the_way_change_nothing(tmp_path: Path) -> None:
    writer = BatchWriter(tmp_path / "run", run=A)
    writer.add_batch(loss=1.0)
    for run in ({**A, "keras": "99"}, {"model": "a"}):
        writer.run = run
        writer.add_batch(loss=1.0)
    writer.close()

    assert (writer.log_dir, steps(tmp_path / "run")) == (str(tmp_path / "run"), [0, 1, 2])
    assert len(os.listdir(tmp_path / "run" / "batchview")) == 1


def test_batches_that_are_fetched_later_go_the_same_way(tmp_path: Path) -> None:
    record(tmp_path / "run", A)
    writer = BatchWriter(tmp_path / "run", run=B)
    with pytest.warns(BatchViewWarning, match=ANOTHER):
        writer.submit(lambda: [BatchRecord("train", None, 0, 0, 0, 1.0)], nbytes=1)
        writer.close()

    assert (steps(tmp_path / "run"), steps(tmp_path / "run-2")) == ([0, 1], [0])


def test_all_workers_choose_the_same_directory(tmp_path: Path) -> None:
    """Whoever writes first: the others must not take its directory for one that is taken."""
    record(tmp_path / "run", A)
    record(tmp_path / "run-2", C)
    for _ in range(2):
        writers = [BatchWriter(tmp_path / "run", run=B, worker=worker, workers=3) for worker in range(3)]
        with pytest.warns(BatchViewWarning, match=ANOTHER):
            for writer in writers:
                writer.add_batch(loss=1.0)
                writer.close()
        assert {writer.log_dir for writer in writers} == {str(tmp_path / "run-3")}

    run = load(tmp_path)["run-3"]
    assert [shard.step.tolist() for shard in run.view.phases["train"].shards] == [[0, 1]] * 3


def test_workers_of_one_model_after_the_other(tmp_path: Path) -> None:
    writers = [BatchWriter(tmp_path / "run", worker=worker, workers=2) for worker in range(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BatchViewWarning)
        for run in (A, B, C, B):
            for writer in writers:
                writer.run = run
                writer.add_batch(loss=1.0)
                writer.close()

    sizes = {name: len(load(tmp_path / name)["."].batches("train")) for name in sorted(os.listdir(tmp_path))}
    assert sizes == {"run": 1, "run-2": 2, "run-3": 1}


def test_the_model_is_told_by_the_newest_file_that_tells_one(tmp_path: Path) -> None:
    write(tmp_path, [make_record(0)], run=A)
    write(tmp_path, [make_record(1)], run=B, number=1)
    write(tmp_path, [make_record(2)], number=2)

    assert Earlier(str(tmp_path), 0, 1).choose("bb22") == str(tmp_path)
    assert Earlier(str(tmp_path), 0, 1).choose("aa11") == f"{tmp_path}-2"


def test_the_model_is_found_behind_other_records(tmp_path: Path) -> None:
    """A status and a large batch before it, a torn end after it."""
    layers = {f"layer {number}": make_summary(0) for number in range(500)}
    pieces = frames([make_record(0, samples=3000, layers=layers)], run=A, statuses=[metadata.Status("capture", "x")])
    event_file(tmp_path).write_bytes(b"".join([pieces[0], pieces[2], pieces[1], pieces[1][:50]]))

    assert Earlier(str(tmp_path), 0, 1).choose("bb22") == f"{tmp_path}-2"


@pytest.mark.parametrize("content", [b"", b"not a record", b"\0" * 4096])
def test_a_damaged_file_tells_no_model(tmp_path: Path, content: bytes) -> None:
    append(event_file(tmp_path), content)

    assert Earlier(str(tmp_path), 0, 1).choose("bb22") == str(tmp_path)


def test_a_name_that_cannot_be_longer_ends_the_search(tmp_path: Path) -> None:
    log_dir = tmp_path / ("n" * 255)
    record(log_dir, A)

    with pytest.warns(BatchViewWarning) as caught:
        record(log_dir, B)

    assert sorted({str(warning.message).split()[1] for warning in caught}) == [str(log_dir), "Nothing"]


def test_a_writer_asked_by_several_threads_decides_once(tmp_path: Path) -> None:
    record(tmp_path / "run", A)
    writer = BatchWriter(tmp_path / "run", run=B)
    found: list[str] = []
    with pytest.warns(BatchViewWarning, match=ANOTHER) as caught:
        threads = [threading.Thread(target=lambda: found.append(writer.log_dir)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert (set(found), len(caught)) == ({str(tmp_path / "run-2")}, 1)
    writer.close()
