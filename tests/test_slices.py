"""A run read a little at a time: the same in the end, and in order on the way."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded import append, event_file, frames, make_record, write
from strategies import settings
from test_blocks import contents, describe, taking

from tb_batchview import index, load, metadata, store, tfrecord
from tb_batchview.log import Log
from tb_batchview.store import RunStore
from tb_batchview.views import RunView


def open_run(directory: Path) -> RunStore:
    return RunStore(directory / metadata.DIRECTORY)


@contextmanager
def ticking(chunk: int = tfrecord.CHUNK_BYTES) -> Iterator[None]:
    """Let the clock of the store go on by a second with each look at it."""
    ticks = count()
    clock = SimpleNamespace(monotonic=lambda: float(next(ticks)))
    with mock.patch.object(store, "time", clock), mock.patch.object(tfrecord, "CHUNK_BYTES", chunk):
        yield


def age(logdir: Path, names: str) -> None:
    """Let each run be newer than the next one: the newest has the first turn."""
    for seconds, name in enumerate(names):
        for file in (logdir / name).rglob("*.batchview"):
            os.utime(file, (1e9 - seconds, 1e9 - seconds))


def steps(view: RunView) -> list[int]:
    return view.phases["train"].step.tolist() if "train" in view.phases else []


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("slices")


@settings(max_examples=200)
@given(
    files=st.lists(contents(), min_size=1, max_size=2),
    cut=st.floats(0, 1),
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=6),
    chunk=st.sampled_from([64, 900, 5000, tfrecord.CHUNK_BYTES]),
    many=st.booleans(),
)
def test_slices_of_any_length_come_to_the_same(
    directory: Path, files: list[bytes], cut: float, lengths: list[int], chunk: int, many: bool
) -> None:
    sliced, part = open_run(directory / "whole"), open_run(directory / "part")
    paths = {number: [event_file(directory / name, number) for name in ("whole", "part")] for number in (0, 1)}
    for path in [path for pair in paths.values() for path in pair]:
        path.unlink(missing_ok=True)
    files[-1] = files[-1][: int(cut * len(files[-1]))]
    for number, content in enumerate(files):
        paths[number][0].write_bytes(content)
    with taking(many=many, chunk=chunk):
        expected = open_run(directory / "whole").refresh()

    sliced.look()
    turns = 0
    with taking(many=many, chunk=chunk), ticking(chunk):
        while not sliced.read(lengths[turns % len(lengths)]):
            turns += 1
            # Nothing is counted twice: each slice takes a step at least.
            assert turns <= sum(map(len, files)) + 2
            if sliced._changed:
                continue  # a snapshot would have been too dear
            # What is shown on the way is what the files were read so far.
            for number, file in enumerate(sorted(sliced._index.files, key=lambda file: file.path.name)):
                paths[number][1].write_bytes(files[number][: file.position])
            part = open_run(directory / "part")
            assert describe(sliced.view.phases) == describe(part.refresh().phases)
            rests = [len(files[file.number]) - file.position for file in sliced._index.files if file.pending]
            assert sliced.view.unread == sum(rests)

    assert describe(sliced.view) == describe(expected)
    assert sliced.view.unread == 0
    assert sliced.read(0)


def test_looking_tells_files_and_sizes_before_anything_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, [make_record(step) for step in range(3)])
    run = open_run(tmp_path)

    run.look()

    size = path.stat().st_size
    assert (run.view.health.files, run.view.health.bytes, run.view.unread) == (1, size, size)
    assert (run.view.exists, run.view.phases, run.view.health.torn_files) == (True, {}, 0)


def test_a_torn_end_is_not_unread(tmp_path: Path) -> None:
    path = write(tmp_path, [make_record(0)])
    append(path, b"\x08")
    run = open_run(tmp_path)

    view = run.refresh()

    assert (view.unread, view.health.torn_files) == (0, 1)


def test_a_run_that_grows_while_it_is_read(tmp_path: Path) -> None:
    pieces = frames([make_record(step) for step in range(40)])
    path = event_file(tmp_path)
    path.write_bytes(b"".join(pieces[:11]))
    run = open_run(tmp_path)

    with ticking():
        run.look()
        for piece in pieces[11:]:
            run.read(0)
            append(path, piece)
            run.look()
            assert steps(run.view) == list(range(len(steps(run.view))))
        while not run.read(0):
            pass

    assert steps(run.view) == list(range(40))
    assert run.view.health.corrupt_records == 0


@pytest.mark.parametrize("change", ["replaced", "rewritten", "deleted", "truncated"])
@pytest.mark.parametrize("looked", [True, False])
def test_a_run_that_is_made_anew_while_it_is_read(tmp_path: Path, change: str, looked: bool) -> None:
    path = write(tmp_path, [make_record(step) for step in range(20)])
    other = b"".join(frames([make_record(step, samples=9) for step in range(100, 140)], run={"model": "other"}))
    # Another time in the first record, as another writer has.
    other = tfrecord.frame(bytes([*tfrecord_payload(other)[:-1], 7])) + other[len(frames([])[0]) :]
    run = open_run(tmp_path)
    with ticking(500):
        run.look()
        run.read(3)
        before = steps(run.view)
        assert 0 < len(before) < 20
        if change == "replaced":
            (tmp_path / "new").write_bytes(other)
            os.replace(tmp_path / "new", path)
        elif change == "rewritten":
            path.write_bytes(other)
        elif change == "deleted":
            path.unlink()
        else:
            os.truncate(path, 100)
        if not looked:
            assert run.read(3)
            assert steps(run.view) == before
        run.look()
        # What was known stays until there is something else, or nothing at all.
        assert steps(run.view) == ([] if change == "deleted" else before)
        while not run.read(3):
            pass

    assert steps(run.view) == (list(range(100, 140)) if change in ("replaced", "rewritten") else [])
    assert run.view.exists is (change != "deleted")
    assert run.view.health.corrupt_records == 0


def tfrecord_payload(content: bytes) -> bytes:
    """Return the payload of the first record."""
    return content[12 : 12 + int.from_bytes(content[:8], "little")]


def test_snapshots_take_a_fifth_of_the_time_at_most(tmp_path: Path) -> None:
    write(tmp_path, [make_record(step) for step in range(60)])
    run = open_run(tmp_path)
    now, spent = [0.0], [0.0]
    view_phases = run._view_phases

    def view() -> object:
        now[0] += 10
        spent[0] += 10
        return view_phases()

    def read_clock() -> float:
        now[0] += 0.5
        return now[0]

    with (
        mock.patch.object(run, "_view_phases", view),
        mock.patch.object(store, "time", SimpleNamespace(monotonic=read_clock)),
        mock.patch.object(tfrecord, "CHUNK_BYTES", 500),
    ):
        run.look()
        while not run.read(0):
            pass

    # The first and the last one are always made.
    assert 30 <= spent[0] <= 20 + now[0] / 5
    assert steps(run.view) == list(range(60))


def test_what_cannot_be_taken_in_stops_one_run_and_says_so(tmp_path: Path) -> None:
    path = write(tmp_path, [make_record(step) for step in range(20)])
    run = open_run(tmp_path)
    with ticking(500):
        run.look()
        run.read(3)
    before = run.view

    run.give_up(ValueError("three is not four"))
    append(path, b"more")
    run.look()

    assert run.read()
    assert run.view.phases == before.phases
    assert run.view.unread == 0
    message = "Reading stopped, shown is what was read before: ValueError: three is not four."
    assert run.view.health.warnings == (("read", message, 1),)
    path.unlink()
    write(tmp_path, [make_record(step) for step in range(5)])
    assert steps(run.refresh()) == list(range(5))
    assert run.view.health.warnings == ()


# -- several runs ------------------------------------------------------------------------------------------------------


def open_log(directory: Path) -> Log:
    return Log({"": directory})


def test_a_small_run_is_there_while_a_huge_one_is_read(tmp_path: Path) -> None:
    write(tmp_path / "a", [make_record(step) for step in range(200)])
    for name in ("b", "c"):
        write(tmp_path / name, [make_record(step) for step in range(3)])
    log = open_log(tmp_path)

    age(tmp_path, "abc")
    with ticking(500):
        log.look()
        assert list(log) == ["a", "b", "c"]
        log.prefer("c")
        turns = []
        while (run := log.next_pending()) is not None:
            turns.append(run._index.directory.parent.name)
            run.read(8)
            if turns == ["c", "a", "b"]:
                assert [log.is_read(name) for name in "abc"] == [False, True, True]
                assert not log.is_read()

    assert turns[:5] == ["c", "a", "b", "a", "a"]
    assert [len(run.batches("train")) for run in log.values()] == [200, 3, 3]


def test_the_run_asked_for_has_every_second_turn(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path / name, [make_record(step) for step in range(40)])
    log = open_log(tmp_path)
    turns = []

    age(tmp_path, "abc")
    with ticking(500):
        log.look()
        log.prefer("b")
        for _ in range(8):
            run = log.next_pending()
            assert run is not None
            turns.append(run._index.directory.parent.name)
            run.read(0)
            log.look()

    assert turns[::2] == ["b"] * 4
    assert turns[1::2] == ["a", "c", "a", "c"]


def test_a_look_that_was_cut_short_leaves_no_run_behind(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / name, [make_record(step) for step in range(3)])
    log = load(tmp_path)
    log.prefer("a")
    for name in "ab":
        append(event_file(tmp_path / name), frames([make_record(3)])[1])

    with mock.patch.object(log["b"]._source, "look", side_effect=RuntimeError), pytest.raises(RuntimeError):
        log.look()
    assert log.next_pending() is not None
    log.refresh()

    assert [len(run.batches("train")) for run in log.values()] == [4, 4]


def test_loading_tells_how_far_it_is(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / name, [make_record(step) for step in range(40)])
    said: list[tuple[int, int]] = []
    total = sum(path.stat().st_size for path in tmp_path.rglob("*.batchview"))

    with ticking(500), mock.patch("tb_batchview.log.SLICE_SECONDS", 0):
        log = load(tmp_path, progress=lambda read, total: said.append((read, total)))

    assert [len(run.batches("train")) for run in log.values()] == [40, 40]
    assert said[-1] == (total, total)
    assert len(said) > 10
    assert said == sorted(said)
    assert {whole for _, whole in said} == {total}


def test_loading_an_empty_directory_tells_so(tmp_path: Path) -> None:
    said: list[tuple[int, int]] = []

    load(tmp_path, progress=lambda read, total: said.append((read, total)))

    assert said == [(0, 0)]


def test_a_snapshot_of_all_runs_stays_as_it_is(tmp_path: Path) -> None:
    path = write(tmp_path / "a", [make_record(step) for step in range(3)])
    log = load(tmp_path)

    before = log.snapshot()
    append(path, frames([make_record(3)])[1])
    write(tmp_path / "b", [make_record(0)])
    log.refresh()

    assert [len(run.batches("train")) for run in before.values()] == [3]
    assert [len(run.batches("train")) for run in log.snapshot().values()] == [4, 1]


def test_readers_see_whole_snapshots_while_a_run_is_read_in_slices(tmp_path: Path) -> None:
    # Two writers of the same steps: what is read of the second file replaces what there was, in order.
    write(tmp_path, [make_record(step, samples=4) for step in range(300)])
    write(tmp_path, [make_record(step, samples=4) for step in range(150, 450)], number=1)
    run = open_run(tmp_path)
    done, wrong = threading.Event(), []

    def check() -> None:
        while not done.is_set():
            phase = run.view.phases.get("train")
            if phase is None:
                continue
            samples = phase.outputs["scores"]
            whole = len(phase) == len(phase.field("loss")) == len(samples.starts) - 1
            if not (whole and np.all(np.diff(phase.step) > 0) and 4 * len(phase) == len(samples.column("target"))):
                wrong.append(len(phase))

    readers = [threading.Thread(target=check) for _ in range(3)]
    for reader in readers:
        reader.start()
    with mock.patch.object(tfrecord, "CHUNK_BYTES", 2000):
        run.look()
        while not run.read(0):
            pass
    done.set()
    for reader in readers:
        reader.join()

    assert wrong == []
    assert steps(run.view) == list(range(450))
    assert run.view.health.warnings == (("read", "Batches that were recorded twice: the later file counts.", 150),)


def test_index_goes_on_where_it_was_left(tmp_path: Path) -> None:
    """A reader that does not come back to the generator loses nothing either."""
    write(tmp_path, [make_record(step, samples=step % 3) for step in range(30)])
    run = index.RunIndex(tmp_path / metadata.DIRECTORY)
    run.look()
    found: list[int] = []

    while run.pending:
        entries = run.read()
        for entry in entries:
            found += [entry.step] if isinstance(entry, index.Entry) else np.asarray(entry.step).tolist()  # type: ignore[union-attr]
            entries.close()  # type: ignore[attr-defined]

    assert found == list(range(30))


def test_a_run_is_read_only_when_its_snapshot_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a", [make_record(step) for step in range(5)])
    log = Log({"": tmp_path})
    said = []
    publish = RunStore._publish

    def publish_late(self: RunStore) -> None:
        said.append(log.is_read("a"))
        publish(self)

    monkeypatch.setattr(RunStore, "_publish", publish_late)
    log.look()
    run = log.next_pending()
    assert run is not None
    run.read()

    assert (said, log.is_read("a")) == ([False], True)
