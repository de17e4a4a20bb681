"""Copies of remote files: whole, of what is there now, nowhere else, and gone at the end."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

pytest.importorskip("fsspec")

from faulty import ENOUGH, Faulty, event_path, faulty, list_files, put, record, wait_for
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recorded import frames, make_record, make_scores

from tb_batchview import address, bucket, copies, index, mirror, scratch
from tb_batchview.copies import Copies
from tb_batchview.errors import NotFoundError, RemoteError
from tb_batchview.log import load
from tb_batchview.mirror import Mirror

__all__ = ["faulty"]  # a fixture
URL = "faulty://logs"


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faulty: type[Faulty]) -> Iterator[None]:
    """Keep copies where a test sees them, and end what it began."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    made: list[Mirror] = []
    make = Mirror.__init__

    def remember(self: Mirror, *arguments: object, **options: object) -> None:
        make(self, *arguments, **options)  # type: ignore[arg-type]
        made.append(self)

    with mock.patch.object(Mirror, "__init__", remember):
        yield
    for one in made:
        one.close()


def copy_all(one: Mirror) -> dict[str, bytes]:
    one.update()
    return list_files(one.path)


def remote() -> dict[str, bytes]:
    """Return the event files of the store, as the index would find them."""
    return {
        path.removeprefix("/logs/"): file.getvalue()
        for path, file in sorted(Faulty.store.items())
        if path.split("/")[-2] == "batchview" and index.is_ours(path.split("/")[-1])
    }


def test_what_is_loaded_is_what_was_recorded() -> None:
    record("sweep/a", 5)
    record("", 2)
    put("/logs/sweep/a/events.out.tfevents.1.keras", b"of another")
    put("/logs/checkpoint", b"x" * 1000)

    log = load(URL)

    assert list(log) == [".", "sweep/a"]
    batches = log["sweep/a"].batches("train")
    assert [batch.step for batch in batches] == [0, 1, 2, 3, 4]
    for batch in batches:
        np.testing.assert_array_equal(batch.predictions, make_scores(batch.step)[0])
    assert [path for path, _, _ in Faulty.parts if "batchview" not in path] == []


def test_of_a_file_that_grew_only_what_is_new_is_copied() -> None:
    whole = b"".join(frames([make_record(step, samples=200) for step in range(9)]))
    path = event_path("a")
    put(path, whole[: len(whole) // 2])
    log = load(URL)
    run = log["a"]
    known = len(run.batches("train"))
    (copy,) = log.mirrors[0].path.rglob("*.batchview")
    inode = copy.stat().st_ino
    put(path, whole)
    Faulty.parts.clear()

    log.refresh()

    assert 0 < known < 9
    assert len(run.batches("train")) == 9
    assert copy.read_bytes() == whole
    assert copy.stat().st_ino == inode
    assert Faulty.parts == [(path, len(whole) // 2 - copies.OVERLAP_BYTES, len(whole))]


def test_a_run_alone_takes_in_what_is_new() -> None:
    record("a", 2)
    run = load(URL)["a"]
    record("a", 3)

    assert run.refresh()
    assert len(run.batches("train")) == 3


def test_nothing_is_asked_for_where_nothing_changed() -> None:
    record("a", 3)
    one = Mirror(URL)
    before = copy_all(one)
    Faulty.parts.clear()

    assert copy_all(one) == before == remote()
    assert Faulty.parts == []


@pytest.mark.parametrize(("steps", "samples"), [(3, 8), (2, 8), (9, 8), (1, 400)])
def test_a_file_that_was_written_anew_is_another(steps: int, samples: int) -> None:
    record("a", 3)
    log = load(URL)
    (copy,) = log.mirrors[0].path.rglob("*.batchview")
    inode = copy.stat().st_ino
    record("a", steps, first=100, samples=samples)

    log.refresh()

    assert list_files(log.mirrors[0].path) == remote()
    assert copy.stat().st_ino != inode
    assert [batch.step for batch in log["a"].batches("train")] == list(range(100, 100 + steps))


def test_a_file_that_is_written_anew_while_it_is_copied_is_none_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "PIECE_BYTES", 5000)
    monkeypatch.setattr(copies, "BATCH_PIECES", 1)
    path = record("a", 40, samples=50)
    cat_file = Faulty.cat_file

    def cat(store: Faulty, *arguments: object, **options: object) -> bytes:
        if len(Faulty.parts) == 2:
            record("a", 40, first=100, samples=50)
        return cat_file(store, *arguments, **options)  # type: ignore[arg-type]

    with mock.patch.object(Faulty, "cat_file", cat):
        one = Mirror(URL)
        (part,) = copy_all(one).values()

    assert len(Faulty.parts) > 4
    assert len(part) > 20_000
    assert Faulty.store[path].getvalue().startswith(part)
    assert copy_all(one) == remote()


def test_what_is_deleted_there_is_deleted_here() -> None:
    paths = [record("a", 2), record("a", 2, first=2, number=1), record("b/c", 2)]
    log = load(URL)
    assert list(log) == ["a", "b/c"]

    del Faulty.store[paths[2]], Faulty.store[paths[1]]
    log.refresh()

    assert list(log) == ["a"]
    assert [batch.step for batch in log["a"].batches("train")] == [0, 1]
    assert [path.name for path in log.mirrors[0].path.iterdir()] == ["a"]

    Faulty.store.clear()
    log.refresh()

    assert list(log) == []
    assert list(log.mirrors[0].path.iterdir()) == []


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_copies_are_what_is_there_whatever_was_done(data: st.DataObject) -> None:
    Faulty.store.clear()
    names = [event_path(run, number) for run in ("", "a", "b/c") for number in range(2)]
    one = Mirror(URL)
    with mock.patch.multiple(copies, PIECE_BYTES=7, BATCH_BYTES=30, BATCH_PIECES=3, OVERLAP_BYTES=3):
        for _ in range(data.draw(st.integers(1, 5))):
            for _ in range(data.draw(st.integers(1, 4))):
                path = data.draw(st.sampled_from(names))
                before = Faulty.store[path].getvalue() if path in Faulty.store else b""
                # By chance, so that three bytes that are the same are of the same file.
                new = os.urandom(data.draw(st.sampled_from([0, 1, 6, 7, 8, 40])))
                match data.draw(st.sampled_from(["append", "replace", "delete"])):
                    case "append":
                        put(path, before + new)
                    case "replace":
                        put(path, new)
                    case "delete":
                        Faulty.store.pop(path, None)

            for _ in range(2):  # what is found to be another is copied with the next look
                found = copy_all(one)
            assert found == remote()
    one.close()


def test_pieces_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "PIECE_BYTES", 10_000)
    monkeypatch.setattr(copies, "BATCH_BYTES", 30_000)
    for run in range(5):
        record(f"run{run}", 20, samples=50)
    asked = []
    read = bucket.Bucket.read

    def count(self: bucket.Bucket, parts: list[bucket.Part]) -> list[bytes | Exception]:
        asked.append(sum(part.stop - part.start for part in parts))
        return read(self, parts)

    with mock.patch.object(bucket.Bucket, "read", count):
        assert copy_all(Mirror(URL)) == remote()
    assert max(stop - start for _, start, stop in Faulty.parts) <= 10_000 + copies.OVERLAP_BYTES
    assert max(asked) <= 30_000 + 10_000 + 4 * copies.OVERLAP_BYTES
    assert len(asked) > 3


# -- names -------------------------------------------------------------------------------------------------------------


def test_no_name_leads_out_of_the_directory(tmp_path: Path) -> None:
    sound = record("a", 1)
    content = Faulty.store[sound].getvalue()
    name = sound.rpartition("/")[2]
    hostile = [
        f"/logs/../../../evil/batchview/{name}",
        f"/logs/a/../../../evil/batchview/{name}",
        f"/logs//absolute/batchview/{name}",
        f"/logs/./batchview/{name}",
        f"/logs/{'n' * 256}/batchview/{name}",
        f"/logs/nul\0byte/batchview/{name}",
        f"/logs/half\ud800/batchview/{name}",
        f"/logs/{'/'.join('d' * 40)}/batchview/{name}",
        f"/logs/batchview/within/batchview/{name}",
        f"/logs/x/batchview/..{'y' * 300}{name}",
        f"{sound}/batchview/{name}",  # a folder where a file is
    ]
    for path in hostile:
        put(path, content)
    before = set(tmp_path.rglob("*"))

    one = Mirror(URL)
    found = copy_all(one)

    assert found == {sound.removeprefix("/logs/"): content}
    assert all(one.path in path.parents or path == one.path for path in set(tmp_path.rglob("*")) - before)
    assert one.report().refused == len(hostile)


def test_a_name_that_is_taken_here_leaves_the_other_file_alone() -> None:
    """As where upper and lower case are the same to the file system."""
    one = Mirror(URL)
    path = record("a", 2)
    kept = one.path / path.removeprefix("/logs/")
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"another's")

    assert copy_all(one) == {path.removeprefix("/logs/"): b"another's"}
    assert "FileExistsError" in one.report().uncopied[0]


def test_no_more_files_than_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "MAX_FILES", 3)
    for run in range(5):
        record(f"run{run}", 1)
    one = Mirror(URL)

    assert len(copy_all(one)) == 3
    assert one.report().refused == 2


# -- failures ----------------------------------------------------------------------------------------------------------


def test_a_store_that_refuses_is_an_error_of_load_and_a_warning_later() -> None:
    record("a", 2)
    Faulty.listing[""] = PermissionError("no access")
    with pytest.raises(RemoteError, match=r"faulty://logs could not be looked at: PermissionError: no access\."):
        load(URL)

    Faulty.listing.clear()
    log = load(URL)
    record("a", 3)
    Faulty.listing[""] = OSError("network is unreachable")
    log.refresh()
    log.refresh()

    (warning,) = log["a"].health.warnings
    assert warning[0] == "read"
    assert "network is unreachable. It is tried again." in warning[1]
    assert warning[2] == 2
    assert len(log["a"].batches("train")) == 2

    Faulty.listing.clear()
    log.refresh()

    assert log["a"].health.warnings == ()
    assert len(log["a"].batches("train")) == 3


def test_a_directory_that_is_not_there() -> None:
    with pytest.raises(
        NotFoundError, match=r"log_dir must be a directory that exists\. Received: log_dir='faulty://no"
    ):
        load("faulty://nowhere")


def test_a_file_that_cannot_be_read_keeps_no_other_from_being_read() -> None:
    record("a", 2)
    record("b", 2)
    Faulty.reading["/a/"] = PermissionError("not yours")

    log = load(URL)

    assert len(log["b"].batches("train")) == 2
    assert log["b"].health.warnings == ()
    assert log["a"].phases == ()
    ((_, message, count),) = log["a"].health.warnings
    assert "could not be copied" in message
    assert "PermissionError: not yours. It is tried again." in message
    assert (count, log["a"].view.unread) == (1, 0)

    Faulty.reading.clear()
    log.refresh()

    assert len(log["a"].batches("train")) == 2
    assert log["a"].health.warnings == ()


def test_what_cannot_be_listed_is_not_taken_for_deleted() -> None:
    """A store that walks through folders passes by, in silence, what it may not read."""
    record("a", 2)
    record("b", 2)
    log = load("walking://logs")
    assert list(log) == ["a", "b"]
    assert Faulty.listed == 0

    Faulty.listing["/logs/b"] = PermissionError("no access")
    log.refresh()

    assert list(log) == ["a", "b"]
    assert "no access" in log.mirrors[0].failure


def test_copies_that_something_else_deleted_come_again() -> None:
    record("a", 2)
    record("b", 2)
    one = Mirror(URL)
    before = copy_all(one)
    shutil.rmtree(one.path / "a")
    next((one.path / "b" / "batchview").iterdir()).write_bytes(b"cut")

    assert copy_all(one) == before


def test_copying_stops_before_the_disk_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    record("a", 2)
    free = 49_000
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1_000_000, 0, free))
    log = load(URL)

    ((_, message, _),) = log["a"].health.warnings
    assert message.startswith("Copying stopped: less than 5% of the disk would be free in ")
    assert (log["a"].phases, log["a"].view.unread) == ((), 0)
    assert Faulty.parts == []

    free = 60_000
    log.refresh()

    assert len(log["a"].batches("train")) == 2
    assert log["a"].health.warnings == ()
    assert log.mirrors[0].report().stopped == ""


# -- packages and addresses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "missing", "message"),
    [
        (
            "s3://b/x",
            ["fsspec", "fsspec.core"],
            r's3://b/x is read through fsspec.*pip install "tb_batchview\[remote\]"',
        ),
        ("gs://b/x", ["gcsfs"], "gs://b/x needs the package of its store.*gcsfs.*Install it: s3fs for s3://, gcsfs"),
        ("nosuch://b/x", [], "nosuch://b/x must be of a store that fsspec knows.*nosuch"),
    ],
)
def test_a_package_that_is_missing_is_named(
    url: str, missing: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(RemoteError, match=message):
        load(url)


def test_secrets_of_an_address_are_not_shown() -> None:
    Faulty.listing[""] = OSError("faulty://user:secret@logs/x is away")

    with pytest.raises(RemoteError) as raised:
        load("faulty://user:secret@logs/x")

    assert "secret" not in str(raised.value)
    assert "faulty://…@logs/x" in str(raised.value)


@pytest.mark.parametrize(
    ("log_dir", "remote"),
    [
        ("s3://bucket/logs", True),
        ("simplecache::s3://bucket/logs", True),
        ("gs://b", True),
        ("/logs", False),
        ("logs::2", False),
        ("C://logs", False),
        ("file:///logs", False),
        (Path("/a/s3:/b"), False),
    ],
)
def test_which_directories_are_remote(log_dir: str | Path, remote: bool) -> None:
    assert address.is_remote(log_dir) is remote


def test_a_local_address_is_read_where_it_is(tmp_path: Path) -> None:
    Faulty.store.clear()
    content = b"".join(frames([make_record(0)]))
    folder = tmp_path / "with space" / "a" / "batchview"
    folder.mkdir(parents=True)
    (folder / event_path("a").rpartition("/")[2]).write_bytes(content)

    log = load((tmp_path / "with space").as_uri())

    assert list(log) == ["a"]
    assert log.mirrors == ()


# -- the end -----------------------------------------------------------------------------------------------------------


def test_copies_are_there_while_anything_may_be_read_and_gone_then() -> None:
    record("a", 3)
    log = load(URL)
    path = log.mirrors[0].path
    batches = log["a"].batches("train")
    del log
    gc.collect()

    np.testing.assert_array_equal(batches[2].predictions, make_scores(2)[0])
    assert oct(path.stat().st_mode & 0o777) == "0o700"
    scores = batches[1].predictions
    del batches
    gc.collect()

    np.testing.assert_array_equal(scores, make_scores(1)[0])


_PROCESS = """
import os, sys, tempfile, time
import fsspec
from tb_batchview import mirror
fsspec.filesystem("memory").pipe("/logs/a/batchview/events.out.tfevents.1.h.1.0001.batchview", b"x")
one = mirror.Mirror("memory://logs")
one.update()
assert len(list(one.path.rglob("*.batchview"))) == 1
if os.fork() == 0:
    sys.exit()  # runs what is to be run at exit, but it is not its own
os.wait()
assert one.path.is_dir()
print(one.path, flush=True)
if sys.argv[1:]:
    time.sleep(60)
"""


@pytest.mark.skipif(os.name == "nt", reason="a fork and a kill")
def test_copies_are_gone_with_the_process_and_else_with_the_next(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary"), "PYTHONPATH": str(root)}
    command = [sys.executable, "-W", "ignore", "-c", _PROCESS]

    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert not Path(ended.stdout.strip()).exists()

    with subprocess.Popen([*command, "wait"], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        monkeypatch.setattr(scratch, "_YOUNG_SECONDS", 0.0)
        Mirror(URL).update()
        assert left.is_dir(), "of a process that lives"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert left.is_dir()

    one = Mirror(URL)
    one.update()

    assert not left.exists()
    assert one.path.exists()


# -- in the background -------------------------------------------------------------------------------------------------


def test_nobody_waits_for_a_store_that_does_not_answer() -> None:
    record("a", 2)
    Faulty.gate.clear()
    one = Mirror(URL, background=True)

    begun = time.monotonic()
    one.look()
    assert time.monotonic() - begun < ENOUGH / 3
    assert not one.listed

    Faulty.gate.set()
    wait_for(lambda: list_files(one.path) == remote())
    assert one.listed


def test_listing_alone_copies_nothing() -> None:
    record("a", 2)
    one = Mirror(URL, background=True)

    one.ask(copy=False)
    wait_for(lambda: one.listed)

    assert one.found
    assert Faulty.parts == []
    one.look()
    wait_for(lambda: list_files(one.path) == remote())


def test_listings_are_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "LEAST_PAUSE", 1000.0)
    record("a", 2)
    one = Mirror(URL, background=True)

    for _ in range(50):
        one.look()
    wait_for(lambda: list_files(one.path) == remote())
    for _ in range(50):
        one.look()

    assert Faulty.listed == 1


def test_without_news_and_with_failures_the_next_listing_is_later() -> None:
    record("a", 1)
    one = Mirror(URL)
    pauses = []
    for _ in range(5):
        one.update()
        pauses.append(one._pause)
    Faulty.listing[""] = OSError("away")
    for _ in range(5):
        one.update()
        pauses.append(one._pause)
    Faulty.listing.clear()
    record("a", 2)
    one.update()
    pauses.append(one._pause)

    assert pauses == [2, 4, 8, 10, 10, 20, 40, 60, 60, 60, 2]
    assert one.report().failures == 5


def test_the_run_that_is_asked_for_is_copied_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "BATCH_PIECES", 1)
    paths = [record(f"run{number}", 2) for number in range(6)]
    one = Mirror(URL)

    one.prefer("run3")
    one.update()

    assert Faulty.parts[0][0] == paths[3]
    # The others as they are new.
    assert [path for path, _, _ in Faulty.parts[1:]] == [paths[number] for number in (5, 4, 2, 1, 0)]


def test_a_fault_of_ours_does_not_end_the_thread() -> None:
    record("a", 2)
    one = Mirror(URL, background=True)
    with mock.patch.object(Copies, "take_note", side_effect=RuntimeError("a fault")):
        one.look()
        wait_for(lambda: "RuntimeError: a fault" in one.failure)
    one._due = 0.0
    one.look()

    wait_for(lambda: list_files(one.path) == remote())
    assert one.failure == ""


def test_closing_is_for_good() -> None:
    record("a", 1)
    one = Mirror(URL, background=True)
    one.look()
    wait_for(lambda: one.listed)
    one.close()

    one.look()
    one.update()

    assert not one.path.exists()


def test_a_part_of_a_server_that_gives_whole_files_is_cut_out() -> None:
    assert bucket._clip(b"0123456789", bucket.Part("x", 2, 5)) == b"234"
    assert bucket._clip(b"234", bucket.Part("x", 2, 5)) == b"234"
