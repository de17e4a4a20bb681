"""Answers while files are still being read: soon, consistent, and in the end whole."""

from __future__ import annotations

import concurrent.futures
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from gate import ENOUGH, Gate, hold_up
from recorded import append, event_file, frames, make_record, write
from tensorboard.backend.application import TensorBoardWSGI
from tensorboard.plugins import base_plugin
from werkzeug.test import Client

from tb_batchview import index, refresher, tfrecord
from tb_batchview.http import unpack_arrays
from tb_batchview.log import Log
from tb_batchview.plugin import BatchViewPlugin
from tb_batchview.refresher import Refresher

BASE = "/data/plugin/batchview/"


def open_client(logdir: Path, **options: Any) -> Client:
    return Client(TensorBoardWSGI([BatchViewPlugin(base_plugin.TBContext(logdir=str(logdir)), **options)]))


def get(client: Client, request: str, status: int = 200) -> Any:
    response = client.get(BASE + request)
    text = response.get_data()
    assert response.status_code == status, text
    if response.content_type == "application/octet-stream":
        return unpack_arrays(text)
    return json.loads(text) if status == 200 else text.decode()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + ENOUGH
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        threading.Event().wait(0.002)


@pytest.fixture
def gate() -> Iterator[Gate]:
    with hold_up() as gate:
        yield gate


def steps(client: Client, run: str) -> list[int]:
    header, arrays = get(client, f"batches?run={run}&phase=train&points=1000")
    assert header["samples"] == 8 * header["batches"]
    return [int(step) for step in arrays["step"]]


def test_first_answers_come_while_a_run_is_being_read(tmp_path: Path, gate: Gate) -> None:
    path = write(tmp_path / "a", [make_record(step) for step in range(30)])
    size = path.stat().st_size
    client = open_client(tmp_path, refresh_seconds=1000, patience=0)
    get(client, "runs")
    assert gate.held.wait(ENOUGH)

    first = get(client, "runs")
    assert first["indexing"] == {"read_bytes": 0, "bytes": size}
    assert (first["runs"][0]["name"], first["runs"][0]["phases"]) == ("a", [])
    assert first["runs"][0]["indexing"] == first["indexing"]
    assert first["runs"][0]["health"]["bytes"] == size
    assert "The run is still being read" in get(client, "batches?run=a&phase=train", 404)

    gate.open(11, wait=True)  # the first record is the file's version
    part = get(client, "runs")["runs"][0]
    assert 0 < part["indexing"]["read_bytes"] < part["indexing"]["bytes"] == size
    assert part["phases"][0]["batches"] == 10
    assert part["health"]["torn_files"] == 0
    assert steps(client, "a") == list(range(10))
    assert get(client, "confusion?run=a&phase=train")[1]["counts"].sum() == 80
    assert "The run is still being read" in get(client, "batch?run=a&phase=train&step=20", 404)

    gate.open()
    wait_for(lambda: get(client, "runs")["indexing"] is None)
    assert steps(client, "a") == list(range(30))
    assert get(client, "runs")["runs"][0]["indexing"] is None
    assert "still being read" not in get(client, "batch?run=a&phase=train&step=99", 404)


def test_no_question_waits_longer_than_the_patience_while_reading_is_stuck(tmp_path: Path, gate: Gate) -> None:
    write(tmp_path / "a", [make_record(step) for step in range(3)])
    client = open_client(tmp_path, refresh_seconds=0)
    waits = []
    wait_for_change = threading.Condition.wait_for

    def wait(condition: threading.Condition, done: Callable[[], bool], timeout: float | None = None) -> bool:
        if threading.current_thread() is threading.main_thread():
            waits.append(timeout)
        return wait_for_change(condition, done, timeout)

    with mock.patch.object(threading.Condition, "wait_for", wait):
        for _ in range(3):
            assert get(client, "runs")["indexing"] is not None
    assert waits == [refresher.FIRST_PATIENCE, refresher.PATIENCE, refresher.PATIENCE]


def test_while_the_first_look_is_stuck_an_unknown_run_may_yet_be_found(tmp_path: Path) -> None:
    write(tmp_path / "a", [make_record(0)])
    stuck, look = threading.Event(), Log.look

    def wait(log: Log) -> None:
        assert stuck.wait(ENOUGH)
        look(log)

    with mock.patch.object(Log, "look", wait):
        client = open_client(tmp_path, patience=0)
        answer = get(client, "runs")
        assert (answer["runs"], answer["indexing"]) == ([], {"read_bytes": 0, "bytes": 0})
        assert "still being looked through" in get(client, "runs?run=a", 404)
        assert "still being looked through" in get(client, "batches?run=a&phase=train", 404)
        stuck.set()
        wait_for(lambda: [run["name"] for run in get(client, "runs")["runs"]] == ["a"])

    assert "There is 'a'" in get(client, "runs?run=b", 404)


def test_the_run_that_is_asked_for_is_read_first(tmp_path: Path, gate: Gate) -> None:
    # The newest would be first without being asked for.
    write(tmp_path / "tiny", [make_record(step) for step in range(4)])
    write(tmp_path / "small", [make_record(step) for step in range(40)])
    write(tmp_path / "huge", [make_record(step) for step in range(500)])
    client = open_client(tmp_path, refresh_seconds=1000, patience=0)
    get(client, "runs")
    assert gate.held.wait(ENOUGH)
    get(client, "runs?run=tiny")

    # Five records, every second turn, and a few more.
    gate.open(16, wait=True)

    runs = {run["name"]: run for run in get(client, "runs")["runs"]}
    assert runs["tiny"]["indexing"] is None
    assert runs["tiny"]["phases"][0]["batches"] == 4
    assert runs["huge"]["indexing"] is not None
    assert runs["small"]["indexing"] is not None


def test_fifty_runs_are_listed_before_any_is_read_and_the_newest_is_read_first(tmp_path: Path) -> None:
    for number in range(50):
        path = write(tmp_path / f"width={8 * number} seed=7", [make_record(step) for step in range(3)])
        os.utime(path, (1_000_000 + (number == 20), 1_000_000 + (number == 20)))
    log = Log({"": tmp_path})
    log.look()

    # As people count: 8 before 16.
    assert list(log) == [f"width={8 * number} seed=7" for number in range(50)]
    read, total = log.progress
    assert (read, total) == (0, sum(path.stat().st_size for path in tmp_path.rglob("*.batchview")))
    store = log.next_pending()
    assert store is not None
    store.read()
    assert [run.name for run in log.values() if run.view.updated is not None] == ["width=160 seed=7"]


def test_many_threads_ask_while_a_growing_run_is_read(tmp_path: Path) -> None:
    pieces = frames([make_record(step) for step in range(400)])
    path = event_file(tmp_path / "a")
    path.write_bytes(b"".join(pieces[:201]))
    client = open_client(tmp_path, refresh_seconds=0.01, patience=0.01)
    read = index.EventFile._read_piece
    partial = threading.Event()

    def read_slowly(file: index.EventFile, fd: int, piece: Any) -> Any:
        threading.Event().wait(0.001)
        return read(file, fd, piece)

    def ask(thread: int) -> list[str]:
        problems, seen, rounds = [], 0, 0
        while rounds < 12:
            runs = get(client, "runs")["runs"]
            if not runs or not runs[0]["phases"]:
                continue
            answer = runs[0]
            rounds += 1
            if answer["indexing"] is not None:
                partial.set()
            phase = answer["phases"][0]
            if phase["samples"] != 8 * phase["batches"] or phase["last_step"] != phase["batches"] - 1:
                problems.append(f"runs {phase}")
            header, arrays = get(client, "confusion?run=a&phase=train")
            if not int(arrays["counts"].sum()) == header["samples"] == 8 * header["batches"]:
                problems.append(f"confusion {header}")
            if not seen <= phase["batches"] <= header["batches"]:
                problems.append(f"{header['batches']} after {phase['batches']} after {seen}")
            seen = header["batches"]
            batch = get(client, f"batch?run=a&phase=train&step={thread % seen}")
            if len(batch["samples"]) != 8 or batch["next"] not in (None, thread % seen + 1):
                problems.append(f"batch {thread}")
        return problems

    with (
        mock.patch.object(index.EventFile, "_read_piece", read_slowly),
        mock.patch.object(tfrecord, "CHUNK_BYTES", 64),
        mock.patch.object(refresher, "SLICE_SECONDS", 0.0),
        concurrent.futures.ThreadPoolExecutor(16) as pool,
    ):
        asked = [pool.submit(ask, thread) for thread in range(16)]
        for piece in pieces[201:]:
            append(path, piece)
        assert [problem for future in asked for problem in future.result()] == []
        assert partial.is_set()

        def is_whole() -> bool:
            phases = get(client, "runs")["runs"][0]["phases"]
            return bool(phases and phases[0]["batches"] == 400)

        wait_for(is_whole)


def test_a_run_deleted_and_made_anew_while_it_is_read(tmp_path: Path, gate: Gate) -> None:
    write(tmp_path / "a", [make_record(step) for step in range(30)])
    client = open_client(tmp_path, refresh_seconds=0, patience=0)
    get(client, "runs")
    assert gate.held.wait(ENOUGH)
    gate.open(6, wait=True)
    assert steps(client, "a") == list(range(5))

    shutil.rmtree(tmp_path / "a")
    gate.open(1)  # the look comes between two pieces, and finds nothing
    wait_for(lambda: get(client, "runs")["runs"] == [])
    # Whole at once: of a file that is just being written, a look sees a part.
    staged = tmp_path.with_name(f"{tmp_path.name}-staged")
    write(staged / "a", [make_record(step, samples=8) for step in range(100, 120)], number=1)
    (staged / "a").rename(tmp_path / "a")
    gate.open()

    def is_read() -> bool:
        answer = get(client, "runs")
        return bool(answer["runs"]) and answer["indexing"] is None

    wait_for(is_read)
    assert steps(client, "a") == list(range(100, 120))


def test_a_look_that_fails_is_told_and_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "a", [make_record(0)])
    client = open_client(tmp_path, refresh_seconds=0, patience=ENOUGH)
    get(client, "runs")

    with mock.patch.object(Log, "look", side_effect=RuntimeError("no such luck")):
        for _ in range(3):
            response = client.get(BASE + "runs")
            assert response.status_code == 500
        text = response.get_data(as_text=True)
        assert "could not be looked at: RuntimeError: no such luck" in text
        assert "3 times" in text
        # What is known is still there.
        assert steps(client, "a") == [0]

    assert len(caplog.records) == 1
    assert [run["name"] for run in get(client, "runs")["runs"]] == ["a"]


def test_a_run_that_cannot_be_read_stops_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = {name: write(tmp_path / name, [make_record(0)]) for name in "ab"}
    client = open_client(tmp_path, refresh_seconds=0, patience=ENOUGH)
    get(client, "runs")
    read = index.EventFile.read

    def fail(file: index.EventFile, enough: Any) -> Any:
        if file.path == paths["a"]:
            raise ValueError("three is not four")
        return read(file, enough)

    for path in paths.values():
        append(path, frames([make_record(1)])[1])
    with mock.patch.object(index.EventFile, "read", fail):
        answers = [get(client, "runs") for _ in range(3)]

    for answer in answers:
        a, b = answer["runs"]
        assert answer["indexing"] is None
        assert [warning["message"] for warning in a["health"]["warnings"]] == [
            "Reading stopped, shown is what was read before: ValueError: three is not four."
        ]
        assert b["health"]["warnings"] == []
        assert (steps(client, "a"), steps(client, "b")) == ([0], [0, 1])
    assert len(caplog.records) == 1


def test_the_thread_sleeps_while_nobody_asks_ends_and_starts_again(tmp_path: Path) -> None:
    write(tmp_path / "a", [make_record(0)])
    log = Log({"": tmp_path})
    fresh = Refresher(log, 0, ENOUGH)
    assert fresh._thread is None

    with mock.patch.object(refresher, "_IDLE_SECONDS", 0.01), mock.patch.object(log, "look", wraps=log.look) as look:
        fresh.ask()
        first = fresh._thread
        assert first is None or first.daemon
        wait_for(lambda: fresh._thread is None)
        assert look.call_count == 1
        write(tmp_path / "b", [make_record(0)])
        fresh.ask()
        assert look.call_count == 2

    assert list(log) == ["a", "b"]


def test_a_slow_look_takes_a_fifth_of_the_time(tmp_path: Path) -> None:
    log, now = Log({"": tmp_path}), [0.0]
    fresh = Refresher(log, 1.0, ENOUGH)

    def look() -> None:
        now[0] += 10

    with mock.patch.object(log, "look", side_effect=look) as looked, mock.patch.object(refresher, "time") as clock:
        clock.monotonic = lambda: now[0]
        for _ in range(100):
            fresh.ask()
            now[0] += 1

    # A hundred seconds of questions, and what the looks themselves took.
    assert looked.call_count == round((100 + 10 * looked.call_count) / 50)
