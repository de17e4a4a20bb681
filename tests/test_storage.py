"""Remote log directories: the batches of a local one, in segments, and a training that never waits for a network."""

# ruff: noqa: PT031 - warnings come from threads of the writer, some time before close() returns
from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tb_batchview import eventfile, metadata, objects, segments, storage
from tb_batchview.errors import ArgumentError, BatchViewError, BatchViewWarning
from tb_batchview.log import Run, load
from tb_batchview.writer import BatchWriter

fsspec = pytest.importorskip("fsspec")
from fsspec.implementations.memory import MemoryFileSystem  # noqa: E402

A, B = ({"model": name, "architecture": digest} for name, digest in (("a", "aa11"), ("b", "bb22")))
DEADLINE = 30
RUN = "weather://logs/run"


class Weather(MemoryFileSystem):
    """A store whose network may be away, slow, or not answer at all; it is emptied by each test."""

    protocol = "weather"
    store: dict[str, Any] = {}  # noqa: RUF012 - shared by all instances, as of its parent
    pseudo_dirs = [""]  # noqa: RUF012
    fails = ""
    # Held while nothing may arrive.
    gate = threading.Lock()
    sent: list[str] = []  # noqa: RUF012
    read: list[tuple[str, int]] = []  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol("memory://" + path.removeprefix("weather://"))

    def put_file(self, lpath: str, rpath: str, **options: Any) -> None:
        with self.gate:
            self._check()
            self.sent.append(rpath.rpartition("/")[2])
            super().put_file(lpath, rpath, **options)

    def pipe_file(self, path: str, value: bytes, **options: Any) -> None:
        self._check()
        super().pipe_file(path, value, **options)

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        self._check()
        return super().ls(path, detail=detail, **options)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        self._check()
        found = super().cat_file(path, start, end, **options)
        self.read.append((path.rpartition("/")[2], len(found)))
        return found

    def _check(self) -> None:
        if self.fails:
            raise OSError(self.fails)


@pytest.fixture(autouse=True)
def _fair_weather(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    fsspec.register_implementation("weather", Weather, clobber=True)
    Weather.store.clear()
    Weather.pseudo_dirs[:] = [""]
    Weather.sent.clear()
    Weather.read.clear()
    Weather.fails = ""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(storage.tempfile, "tempdir", str(tmp_path / "temporary"))
    yield
    Weather.fails = ""
    wait_for(lambda: "tb_batchview-sender" not in {thread.name for thread in threading.enumerate()})


@pytest.fixture
def _small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Close a segment after a few batches."""
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 20_000)


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a second where it would be minutes."""
    monkeypatch.setattr(segments, "STALLED_SECONDS", 1.0)
    monkeypatch.setattr(segments, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(segments, "_MOST_PAUSE", 0.05)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "It did not happen in time."
        time.sleep(0.005)


def names(log_dir: str = "/logs/run") -> list[str]:
    """List the segments that are in the store."""
    return sorted(path.rpartition("/")[2] for path in Weather.store if path.startswith(f"{log_dir}/batchview/events"))


def copy(path: Path) -> Path:
    """Copy all objects to a local directory, with nothing but what the store holds."""
    for name, file in list(Weather.store.items()):
        target = path / name.removeprefix("/logs/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.getvalue())
    return path


def read(path: Path, name: str = "run") -> Run:
    return load(copy(path))[name]


def add(writer: BatchWriter, count: int, begin: int = 0, **options: Any) -> None:
    for number in range(begin, begin + count):
        rng = np.random.default_rng(number)
        writer.add_batch(
            predictions=rng.random((16, 10), np.float32),
            targets=rng.integers(0, 10, 16),
            sample_loss=rng.random(16, np.float32),
            sample_ids=[f"file{number % 5}_{row}.png" for row in range(16)],
            inputs=np.full((16, 6, 6), number, np.uint8),
            histograms={"dense": rng.random((16, 4), np.float32)},
            loss=number / 2,
            metrics={"accuracy": number / 7},
            wall_time=float(number),
            **options,
        )


def put_on_disk(writer: BatchWriter) -> None:
    """Do at once what is done every second."""
    writer._handoff.put(writer._flush, 0, wait=True)
    writer._handoff.drain()


def leftovers(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "temporary").rglob("*"))


@pytest.mark.usefixtures("_small_segments")
def test_the_batches_are_those_of_a_local_log_dir_bit_for_bit(tmp_path: Path) -> None:
    for log_dir in (tmp_path / "local" / "run", RUN):
        with BatchWriter(log_dir, run=A, class_names=[f"class {number}" for number in range(10)]) as writer:
            for epoch in range(3):
                add(writer, 20, 20 * epoch, epoch=epoch)
                add(writer, 5, 100 + epoch, epoch=epoch, phase="validation")
        assert (writer.warnings, writer.dropped) == ((), 0)

    local, remote = load(tmp_path / "local")["run"], read(tmp_path / "mirror")

    assert len(names()) > 5
    assert sorted(Weather.sent) == names()
    assert all(len(Weather.store[f"/logs/run/batchview/{name}"].getvalue()) < 40_000 for name in names())
    assert remote.health.files == len(names())
    assert (remote.health.warnings, remote.health.torn_files, remote.health.corrupt_records) == ((), 0, 0)
    assert (remote.phases, remote.outputs, remote.class_names) == (local.phases, local.outputs, local.class_names)
    for phase in ("train", "validation"):
        pairs = list(zip(local.batches(phase), remote.batches(phase), strict=True))
        assert len(pairs) == {"train": 60, "validation": 15}[phase]
        for one, other in pairs:
            for field in ("step", "epoch", "index", "size", "wall_time", "loss", "metrics"):
                assert getattr(one, field) == getattr(other, field)
            for field in ("predictions", "targets", "sample_loss", "sample_ids"):
                first, second = np.asarray(getattr(one, field)), np.asarray(getattr(other, field))
                assert first.dtype == second.dtype
                np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(local.confusion(phase, 0, 99), remote.confusion(phase, 0, 99))
    # Of each id one picture, also where another segment has it.
    assert remote.input_of("train", 59, 3) == local.input_of("train", 59, 3)
    np.testing.assert_array_equal(remote.layer("dense").mean, local.layer("dense").mean)
    assert leftovers(tmp_path) == []


def test_news_are_sent_while_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No batch comes after it, and nobody closes the writer."""
    monkeypatch.setattr(segments, "FIRST_SECONDS", 1.0)
    writer = BatchWriter(RUN)
    add(writer, 3)
    wait_for(lambda: len(names()) == 1)
    assert [batch.step for batch in read(tmp_path / "first").batches("train")] == [0, 1, 2]

    add(writer, 2)
    wait_for(lambda: len(names()) == 2)
    assert [batch.step for batch in read(tmp_path / "second").batches("train")] == [0, 1, 2, 3, 4]
    writer.close()


def test_segments_get_longer_as_the_training_does() -> None:
    def count(seconds: float) -> int:
        elapsed, found = 0.0, 0
        while elapsed < seconds:
            elapsed += segments.segment_age(elapsed)
            found += 1
        return found

    assert [segments.segment_age(elapsed) for elapsed in (0, 600, 7200, 10**6)] == [30, 30, 72, 1800]
    assert [count(days * 86400) for days in (1 / 24, 1, 7)] == [119, 438, 748]


@pytest.mark.usefixtures("_small_segments")
def test_a_kill_leaves_what_was_sent_readable_and_the_rest_on_the_disk(tmp_path: Path) -> None:
    writer = BatchWriter(RUN)
    add(writer, 40)
    wait_for(lambda: len(names()) >= 4)
    writer._handoff.drain()
    wait_for(lambda: not writer._storage._sender.waiting)
    put_on_disk(writer)

    run = read(tmp_path / "mirror")
    steps = [batch.step for batch in run.batches("train")]
    assert steps == list(range(len(steps)))
    assert 0 < len(steps) <= 40
    assert run.health.torn_files == 0
    # What is missing is whole, too, and says where it belongs.
    (spool,) = (tmp_path / "temporary").iterdir()
    assert (spool / storage.NOTE).read_text() == f"{RUN}/batchview\n"
    assert spool.name.startswith(f"tb_batchview-{os.getpid()}-")
    for path in spool.glob("*.batchview"):
        (tmp_path / "mirror" / "run" / "batchview" / path.name).write_bytes(path.read_bytes())
    assert [batch.step for batch in load(tmp_path / "mirror")["run"].batches("train")] == list(range(40))
    writer.close()


@pytest.mark.usefixtures("_small_segments")
def test_steps_go_on_after_reading_the_ends_of_the_newest_objects_alone(tmp_path: Path) -> None:
    with BatchWriter(RUN, run=A) as writer:
        add(writer, 3, phase="validation")
        add(writer, 60)
    assert len(names()) > 5
    Weather.read.clear()

    with BatchWriter(RUN, run=A) as writer:
        assert writer.last_steps == {"train": 59, "validation": 2}
        assert max(nbytes for name, nbytes in Weather.read) <= 1 << 16
        looked = {name for name, _ in Weather.read}
        assert looked <= set(names()[-3:])
        add(writer, 5)
        add(writer, 1, phase="validation")

    run = read(tmp_path / "mirror")
    assert [batch.step for batch in run.batches("train")] == list(range(65))
    assert [batch.step for batch in run.batches("validation")] == list(range(4))
    assert run.health.warnings == ()


def test_steps_go_on_although_the_network_is_away_when_training_begins(tmp_path: Path) -> None:
    with BatchWriter(RUN, run=A) as writer:
        add(writer, 10)
    writer = BatchWriter(RUN, run=A)
    Weather.fails = "the network is away"
    with pytest.warns(BatchViewWarning, match="already could not be read"):
        assert writer.last_steps == {"train": 9}
    Weather.fails = ""
    add(writer, 2)
    writer.close()

    assert [batch.step for batch in read(tmp_path / "mirror").batches("train")] == list(range(12))


def test_steps_go_on_after_files_that_were_copied_from_a_local_directory(tmp_path: Path) -> None:
    with BatchWriter(tmp_path / "run", run=A) as writer:
        add(writer, 2, phase="validation")
        add(writer, 9)
    (path,) = (tmp_path / "run" / "batchview").iterdir()
    # Its last record is torn, as after a kill.
    Weather().pipe_file(f"/logs/run/batchview/{path.name}", path.read_bytes()[:-5])

    with BatchWriter(RUN, run=A) as writer:
        assert writer.last_steps == {"train": 8, "validation": 1}
        add(writer, 1)
    assert names()[0] == path.name
    assert len(names()) == 2


@pytest.mark.usefixtures("_small_segments")
def test_another_model_gets_a_run_beside_it_and_finds_it_again(tmp_path: Path) -> None:
    with BatchWriter(RUN, run=A) as writer:
        add(writer, 30)
    for _ in range(2):
        with pytest.warns(BatchViewWarning, match="holds batches of another model"):
            with BatchWriter(RUN, run=B) as writer:
                add(writer, 4)
            assert writer.log_dir == f"{RUN}-2"
    with BatchWriter(RUN, run=A) as writer:
        add(writer, 1)

    log = load(copy(tmp_path))
    assert {name: len(log[name].batches("train")) for name in log} == {"run": 31, "run-2": 8}


def test_workers_write_objects_of_their_own(tmp_path: Path) -> None:
    with BatchWriter(RUN, worker=0, workers=2) as first, BatchWriter(RUN, worker=1, workers=2) as second:
        for writer in (first, second):
            add(writer, 4)
    with BatchWriter(RUN, worker=0, workers=2) as first, BatchWriter(RUN, worker=1, workers=2) as second:
        for writer in (first, second):
            add(writer, 1)
            assert writer.last_steps == {"train": 4}

    run = read(tmp_path / "mirror")
    assert [(batch.step, batch.size) for batch in run.batches("train")] == [(step, 32) for step in range(5)]


def test_what_a_crashed_training_left_is_sent_before_the_next_looks(tmp_path: Path) -> None:
    crashed = BatchWriter(RUN, run=A)
    add(crashed, 5)
    with BatchWriter(RUN, run=A) as writer:
        add(writer, 2)
    assert [batch.step for batch in read(tmp_path).batches("train")] == list(range(7))
    crashed.close()


@pytest.mark.usefixtures("_small_segments", "_impatient")
def test_a_network_that_comes_back_costs_nothing(tmp_path: Path) -> None:
    with pytest.warns(BatchViewWarning, match="could not be sent") as caught, BatchWriter(RUN) as writer:
        add(writer, 10)
        Weather.fails = "the network is away"
        add(writer, 30, 10)
        wait_for(lambda: len(writer.warnings) == 1 and writer.warnings[0].count > 1)
        sent = len(names())
        Weather.fails = ""
        add(writer, 5, 40)

    assert len(caught) == 1
    message = str(caught[0].message)
    assert message == (
        f"tb_batchview: Batches could not be sent to {RUN}/batchview (OSError: the network is away). It is tried "
        "again; until then they are kept on the local disk."
    )
    assert len(names()) > sent
    run = read(tmp_path / "mirror")
    assert [batch.step for batch in run.batches("train")] == list(range(45))
    assert (writer.dropped, run.health.dropped_batches) == (0, 0)
    # Who looks at the run is told, too.
    assert [(kind, f"tb_batchview: {told}") for kind, told, _ in run.health.warnings] == [("write", message)]
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("on_full", ["wait", "drop"])
@pytest.mark.usefixtures("_small_segments", "_impatient")
def test_the_local_disk_is_bounded_and_what_does_not_fit_is_counted(
    on_full: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "SPOOL_BYTES", 100_000)
    most = 0
    with pytest.warns(BatchViewWarning) as caught, BatchWriter(RUN, on_full=on_full) as writer:
        add(writer, 10)
        writer.flush()
        Weather.fails = "the network is away"
        for number in range(100):
            add(writer, 1, 10 + number)
            if number % 10 == 9:
                writer._handoff.drain(DEADLINE)
                most = max(most, sum(path.stat().st_size for path in leftovers(tmp_path) if path.is_file()))
        dropped = writer.dropped
        Weather.fails = ""
        # As soon as there is room again.
        wait_for(lambda: not writer._storage._sender.waiting)
        add(writer, 5, 110)

    assert 50_000 < most < 110_000
    assert 30 < dropped < 90
    assert sorted(str(warning.message).split(" (")[0] for warning in caught) == [
        f"tb_batchview: Batches could not be sent to {RUN}/batchview",
        "tb_batchview: Batches were dropped because those before them could not be sent in time.",
    ]
    run = read(tmp_path / "mirror")
    steps = [batch.step for batch in run.batches("train")]
    assert len(steps) == 115 - dropped
    assert steps[-5:] == list(range(110, 115))
    assert (run.health.dropped_batches, writer.dropped) == (dropped, dropped)
    # Each batch that is there is the one of its step.
    assert [batch.loss for batch in run.batches("train")] == [step / 2 for step in steps]


@pytest.mark.usefixtures("_small_segments")
def test_a_slow_network_is_waited_for_where_that_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SPOOL_BYTES", 60_000)
    send = Weather.put_file

    def send_slowly(self: Weather, lpath: str, rpath: str, **options: Any) -> None:
        time.sleep(0.05)
        send(self, lpath, rpath, **options)

    monkeypatch.setattr(Weather, "put_file", send_slowly)
    with BatchWriter(RUN, on_full="wait", max_pending_mb=0.01) as writer:
        add(writer, 80)

    assert (writer.dropped, writer.warnings) == (0, ())
    assert [batch.step for batch in read(tmp_path).batches("train")] == list(range(80))


@pytest.mark.usefixtures("_small_segments", "_impatient")
def test_the_end_names_what_could_not_be_sent_and_where_it_lies(tmp_path: Path) -> None:
    writer = BatchWriter(RUN)
    add(writer, 10)
    assert writer.flush()
    Weather.fails = "the network is away"
    add(writer, 20, 10)
    begun = time.monotonic()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        writer.close()
        writer.close()
    assert time.monotonic() - begun < 10

    (message,) = (str(warning.message) for warning in caught if "not sent (" in str(warning.message))
    found = re.fullmatch(
        r"tb_batchview: (\d+) batches \(([\d.]+) MB\) are not sent \(OSError: the network is away\). It is tried "
        r"again while this process lives; after it, copy (.*)/\*\.batchview to weather://logs/run/batchview/",
        message,
    )
    assert found is not None, message
    assert int(found[1]) == 20
    run = read(tmp_path / "mirror")
    assert [batch.step for batch in run.batches("train")] == list(range(10))
    # To do what it says gives the whole run.
    for path in Path(found[3]).glob("*.batchview"):
        (tmp_path / "mirror" / "run" / "batchview" / path.name).write_bytes(path.read_bytes())
    assert [batch.step for batch in load(tmp_path / "mirror")["run"].batches("train")] == list(range(30))

    Weather.fails = ""
    wait_for(lambda: len(read(tmp_path / "late").batches("train")) == 30)


@pytest.mark.usefixtures("_small_segments", "_impatient")
def test_a_store_that_does_not_answer_holds_up_neither_training_nor_its_end(tmp_path: Path) -> None:
    writer = BatchWriter(RUN)
    with Weather.gate, pytest.warns(BatchViewWarning, match=r"are not sent \(no answer in time\)"):
        begun = time.monotonic()
        add(writer, 30)
        writer.close()
        assert time.monotonic() - begun < 10
        assert names() == []
    wait_for(lambda: len(names()) > 0 and not writer._storage._sender.waiting)
    assert [batch.step for batch in read(tmp_path).batches("train")] == list(range(30))


def test_a_warning_alone_is_told_at_the_end(tmp_path: Path) -> None:
    with BatchWriter(RUN) as writer:
        add(writer, 2)
    with pytest.warns(BatchViewWarning, match="odd"), BatchWriter(RUN) as writer:
        writer.warn("capture", "An odd thing.")
        put_on_disk(writer)
        assert len(names()) == 1
    with BatchWriter(RUN) as writer:
        assert writer.last_steps == {"train": 1}

    assert read(tmp_path).health.warnings == (("capture", "An odd thing.", 1),)
    assert len(names()) == 2


def test_flush_makes_an_object_and_gives_up_in_time() -> None:
    writer = BatchWriter(f"{RUN}/")
    assert writer.log_dir == RUN
    assert writer.flush()
    assert names() == []
    add(writer, 1)
    assert writer.flush(DEADLINE)
    assert len(names()) == 1
    add(writer, 1)
    with Weather.gate:
        assert not writer.flush(0.2)
    assert writer.flush()
    assert len(names()) == 2
    writer.close()
    assert len(names()) == 2


def test_a_full_local_disk_costs_the_batches_that_do_not_fit_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with pytest.warns(BatchViewWarning, match=r"could not be written to .*No space left") as caught:
        writer = BatchWriter(RUN)
        add(writer, 5)
        assert writer.flush()
        with monkeypatch.context() as patch:
            patch.setattr(eventfile, "_create", refuse)
            add(writer, 3, 5)
            put_on_disk(writer)
        add(writer, 4, 8)
        put_on_disk(writer)
        with monkeypatch.context() as patch:
            patch.setattr(eventfile, "_write", refuse)
            writer.close()

    assert len(caught) == 1
    run = read(tmp_path / "mirror")
    steps = [batch.step for batch in run.batches("train")]
    assert steps == [0, 1, 2, 3, 4, 8, 9, 10, 11]
    assert run.health.torn_files == 0
    assert writer.dropped == 3
    assert leftovers(tmp_path) == []


@pytest.mark.usefixtures("_small_segments", "_impatient")
def test_a_segment_that_somebody_deleted_counts_as_dropped(tmp_path: Path) -> None:
    writer = BatchWriter(RUN)
    Weather.gate.acquire()
    add(writer, 20)
    writer._handoff.drain()
    gone = writer._storage._sender.waiting[1]
    os.unlink(gone.path)
    Weather.gate.release()
    with pytest.warns(BatchViewWarning, match="somebody deleted the local file"):
        writer.close()
    run = read(tmp_path / "mirror")
    assert len(run.batches("train")) == 20 - gone.batches
    assert {(kind, count) for kind, _, count in run.health.warnings} <= {("dropped", gone.batches)}


def test_what_is_wrong_with_the_store_is_told_before_training() -> None:
    Weather.fails = "The specified bucket does not exist"
    words = re.escape(
        "log_dir must be where objects can be written, listed and read. Received: log_dir='weather://logs/run' "
        "(OSError: The specified bucket does not exist). Look whether the bucket is there, and what the "
        "credentials may do."
    )
    with pytest.raises(BatchViewError, match=words):
        BatchWriter(RUN)


def test_a_store_that_does_not_answer_is_told_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "ANSWER_SECONDS", 0.2)
    waits = threading.Event()
    monkeypatch.setattr(Weather, "pipe_file", lambda *_, **__: waits.wait(DEADLINE))
    with pytest.raises(BatchViewError, match=r"no answer within 0\.2 seconds"):
        BatchWriter(RUN)
    waits.set()


def test_the_check_leaves_nothing_behind() -> None:
    writer = BatchWriter(RUN)
    assert dict(Weather.store) == {}
    writer.close()
    assert dict(Weather.store) == {}


@pytest.mark.parametrize(
    ("missing", "log_dir", "words"),
    [
        ("fsspec.core", RUN, 'must have fsspec installed. .* Install it: pip install "tb_batchview\\[remote\\]"'),
        ("gcsfs", "gs://bucket/run", "Received: log_dir='gs://bucket/run' .* Install it: pip install gcsfs"),
        ("s3fs", "s3://bucket/run", "Received: log_dir='s3://bucket/run' .* Install it: pip install s3fs"),
        ("", "nowhere://bucket/run", "an address that fsspec can open. .*Protocol not known: nowhere"),
    ],
)
def test_a_missing_package_is_named(missing: str, log_dir: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing:
        monkeypatch.setitem(sys.modules, missing, None)
        monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, log_dir.partition(":")[0], raising=False)
    with pytest.raises(ArgumentError, match=words):
        BatchWriter(log_dir)


def test_secrets_of_an_address_are_not_shown() -> None:
    assert objects.hide_secrets("ftp://me:secret@host/x@y (ftp://me:secret@host)") == "ftp://…@host/x@y (ftp://…@host)"
    with pytest.raises(ArgumentError) as caught:
        BatchWriter("nowhere://me:secret@host/run")
    assert "secret" not in str(caught.value)


def test_a_file_address_is_a_local_directory(tmp_path: Path) -> None:
    with BatchWriter(f"file://{tmp_path}/run") as writer:
        add(writer, 2)
    assert writer.log_dir == f"{tmp_path}/run"
    assert len(load(tmp_path)["run"].batches("train")) == 2


def test_a_local_log_dir_does_not_load_fsspec(tmp_path: Path) -> None:
    code = (
        "import sys; from tb_batchview import BatchWriter\n"
        f"with BatchWriter({str(tmp_path)!r}) as writer: writer.add_batch(loss=1.0)\n"
        "print('fsspec' in sys.modules, 's3fs' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed == "False False\n"


def test_the_end_of_a_segment_tells_the_last_steps() -> None:
    status = metadata.Status("closed", "", 1, {"train": 2}, {"train": 719, "validation": 49})
    assert metadata.parse_status(metadata.status_text(status)) == status
    assert b"last" not in metadata.status_text(metadata.Status("closed", ""))


EXIT = """
import concurrent.futures, sys
import fsspec
from fsspec.implementations.local import LocalFileSystem

class Pooled(LocalFileSystem):  # as asyncio looks up hosts: in the threads of a pool
    protocol = "pooled"

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol("/" + path.removeprefix("pooled://").lstrip("/"))

    def put_file(self, *arguments, **options):
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            pool.submit(super().put_file, *arguments, **options).result()

fsspec.register_implementation("pooled", Pooled)

from tb_batchview import BatchWriter
writer = BatchWriter("pooled://" + sys.argv[1])
for number in range(5):
    writer.add_batch(loss=number)
"""


def test_a_process_that_ends_without_closing_sends_all(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", EXIT, str(tmp_path / "logs" / "run")]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=2 * DEADLINE)

    assert ended.stderr == ""
    assert [batch.loss for batch in load(tmp_path / "logs")["run"].batches("train")] == [0, 1, 2, 3, 4]


# -- Keras -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keras() -> Any:
    return pytest.importorskip("keras")


def make_model(keras: Any) -> Any:
    keras.utils.set_random_seed(7)
    layers = [keras.layers.Dense(8, activation="relu", name="hidden"), keras.layers.Dense(3, activation="softmax")]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def make_samples() -> tuple[Any, Any]:
    rng = np.random.default_rng(3)
    return rng.normal(size=(60, 4)).astype("float32"), rng.integers(0, 3, 60)


def test_fit_records_in_a_store_what_it_records_on_a_disk(
    keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tb_batchview import BatchViewCallback

    monkeypatch.setattr(segments, "SEGMENT_BYTES", 8_000)
    x, y = make_samples()
    weights = {}
    for log_dir in (str(tmp_path / "local" / "run"), RUN):
        model = make_model(keras)
        callback = BatchViewCallback(log_dir, histogram_freq=2, class_names=["cat", "dog", "fox"])
        model.fit(x, y, batch_size=8, epochs=2, validation_split=0.2, callbacks=[callback], verbose=0, shuffle=False)
        model.fit(x, y, batch_size=8, epochs=1, callbacks=[callback], verbose=0, shuffle=False)
        weights[log_dir] = model.get_weights()

    for one, other in zip(*weights.values(), strict=True):
        np.testing.assert_array_equal(one, other)
    local, remote = load(tmp_path / "local")["run"], read(tmp_path / "mirror")
    assert len(names()) > 3
    assert remote.health.warnings == ()
    for phase, count in (("train", 20), ("validation", 4)):
        pairs = list(zip(local.batches(phase), remote.batches(phase), strict=True))
        assert len(pairs) == count
        for one, other in pairs:
            assert (one.step, one.epoch, one.index, one.loss, one.metrics) == (
                other.step,
                other.epoch,
                other.index,
                other.loss,
                other.metrics,
            )
            np.testing.assert_array_equal(one.predictions, other.predictions)
            np.testing.assert_array_equal(one.targets, other.targets)
    np.testing.assert_array_equal(local.layer("hidden").histograms[0], remote.layer("hidden").histograms[0])


@pytest.mark.usefixtures("_impatient")
def test_fit_goes_on_and_ends_when_the_network_is_away(keras: Any, tmp_path: Path) -> None:
    from tb_batchview import BatchViewCallback

    x, y = make_samples()
    model, alone = make_model(keras), make_model(keras)
    callback = BatchViewCallback(RUN)
    Weather.fails = "the network is away"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(x, y, batch_size=8, callbacks=[callback], verbose=0)
    assert sorted(str(warning.message)[14:].split(" (")[0] for warning in caught) == [
        "8 batches",
        f"Batches could not be sent to {RUN}/batchview",
        f"What is in {RUN}/batchview already could not be read",
    ]
    alone.fit(x, y, batch_size=8, verbose=0)

    for one, other in zip(model.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert names() == []
    Weather.fails = ""
    wait_for(lambda: len(names()) == 1)
    assert len(read(tmp_path).batches("train")) == 8


def test_predictions_are_recorded_pass_after_pass(keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tb_batchview import predictions, record_predictions

    def load_copy(log_dir: str) -> Any:
        assert log_dir == RUN
        return load(copy(tmp_path) / "run")

    # What is written is looked at here, not how it is read.
    monkeypatch.setattr(predictions, "load", load_copy)
    x, y = make_samples()
    model = make_model(keras)
    (tmp_path / "run").mkdir()
    for _ in range(2):
        run = record_predictions(model, x, RUN, y=y, batch_size=20, verbose=0)

    assert [(batch.step, batch.epoch) for batch in run.batches("predict")] == [
        (0, 0),
        (1, 0),
        (2, 0),
        (3, 1),
        (4, 1),
        (5, 1),
    ]
    np.testing.assert_allclose(run.batches("predict")[5].predictions, model.predict(x[40:], verbose=0), rtol=1e-6)


# -- a store that is like S3 -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """Start a server in a process of its own, and have its bucket."""
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    boto3 = pytest.importorskip("boto3")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    settings = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://localhost:{port}",
    }
    with (
        pytest.MonkeyPatch.context() as patch,
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server,
    ):
        for name, value in settings.items():
            patch.setenv(name, value)

        def answers() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True
            return False

        wait_for(answers)
        client = boto3.client("s3")
        client.create_bucket(Bucket="bucket")
        yield client
        client.close()
        server.terminate()


@pytest.mark.usefixtures("_small_segments")
def test_s3_holds_the_run_and_the_next_training_goes_on(s3: Any, tmp_path: Path) -> None:
    with BatchWriter("s3://bucket/team/run", run=A) as writer:
        add(writer, 2, phase="validation")
        add(writer, 30)
        assert writer.flush()
        add(writer, 10, 30)
    with BatchWriter("s3://bucket/team/run", run=A) as writer:
        assert writer.last_steps == {"train": 39, "validation": 1}
        add(writer, 3, 40)
    message = "those of this one are in s3://bucket/team/run-2"
    with pytest.warns(BatchViewWarning, match=message), BatchWriter("s3://bucket/team/run", run=B) as writer:
        add(writer, 1)

    for entry in s3.list_objects_v2(Bucket="bucket")["Contents"]:
        target = tmp_path / "mirror" / entry["Key"]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(s3.get_object(Bucket="bucket", Key=entry["Key"])["Body"].read())
    log = load(tmp_path / "mirror" / "team")
    assert sorted(log) == ["run", "run-2"]
    assert len(list((tmp_path / "mirror" / "team" / "run" / "batchview").iterdir())) > 3
    assert [(batch.step, batch.loss) for batch in log["run"].batches("train")] == [(n, n / 2) for n in range(43)]
    assert (log["run"].health.warnings, writer.dropped) == ((), 0)


def test_a_bucket_that_is_not_there_is_told_before_training(s3: Any) -> None:
    words = r"log_dir='s3://missing/run' \(FileNotFoundError: The specified bucket does not exist\). Look whether"
    with pytest.raises(BatchViewError, match=words):
        BatchWriter("s3://missing/run")
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["bucket"]
