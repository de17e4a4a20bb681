"""The public reading API: the runs of a log, by name, and as they grow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from recorded import append, event_file, frames, make_record, make_scores, make_summary, write_run

from tb_batchview import log as logs
from tb_batchview.errors import ArgumentError, NotFoundError
from tb_batchview.log import Log, load


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


def test_of_a_relative_directory_is_told_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFoundError) as raised:
        load("nowhere")
    assert str(raised.value).endswith(f"Received: log_dir='nowhere', which is {tmp_path / 'nowhere'}.")


def test_what_is_no_path_and_a_directory_without_a_run_are_told(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"log_dir must be a str or os.PathLike. Received: log_dir=None"):
        load(None)  # type: ignore[arg-type]
    with pytest.raises(NotFoundError, match=r"There is none. Ask `tb-batchview doctor` why"):
        load(tmp_path)["first"]


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


def test_reading_loads_neither_tensorflow_nor_keras_nor_pandas(
    tmp_path: Path, loaded: Callable[[str], set[str]]
) -> None:
    write_run(tmp_path)

    found = loaded(
        "import tb_batchview\n"
        f"run = tb_batchview.load({str(tmp_path)!r})['.']\n"
        "run.class_report('train'), run.batches('train')[0].predictions"
    )

    assert "tb_batchview.batches" in found
    assert found & {"tensorflow", "keras", "pandas", "tb_batchview.encode"} == set()


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
