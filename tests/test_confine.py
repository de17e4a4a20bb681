"""A file below a directory is opened, and nothing else, whatever its name and whoever moves things meanwhile."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tb_batchview import confine
from tb_batchview.confine import RefusedError, open_below, read_whole

SECRET = b"outside"


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    """A directory with a few files, and a secret beside it."""
    directory = tmp_path / "inside"
    (directory / "cats").mkdir(parents=True)
    (directory / "cats" / "1.png").write_bytes(b"cat")
    (directory / "plain.png").write_bytes(b"plain")
    (tmp_path / "secret.png").write_bytes(SECRET)
    (tmp_path / "inside-too").mkdir()
    (tmp_path / "inside-too" / "secret.png").write_bytes(SECRET)
    return directory


def read(directory: Path, name: str) -> bytes:
    with open_below(str(directory), name) as fd:
        return read_whole(fd, 1 << 20)


@pytest.fixture(params=["held", "again"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open files as where folders can be held open, and as where they cannot."""
    monkeypatch.setattr(confine, "_HOLDS", request.param == "held")


@pytest.mark.usefixtures("both_ways")
def test_files_below_the_directory_are_read(inside: Path) -> None:
    (inside / "linked.png").symlink_to("cats/1.png")
    (inside / "folder").symlink_to("cats")
    (inside / "b\\c ü\u202f猫.png").write_bytes(b"odd")

    assert read(inside, "plain.png") == b"plain"
    assert read(inside, "cats/1.png") == b"cat"
    assert read(inside, "./cats//1.png") == b"cat"
    assert read(inside, "linked.png") == b"cat"
    assert read(inside, "folder/1.png") == b"cat"
    assert read(inside, "b\\c ü\u202f猫.png") == b"odd"


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "it is not the name of a file"),
        ("a\0b", "it is not the name of a file"),
        ("x" * 4097, "it is not the name of a file"),
        ("x" * 4000, "there is no such file"),
        ("\ud800", "there is no such file"),
        ("/etc/passwd", "it must be relative, without .."),
        ("//etc/passwd", "it must be relative, without .."),
        ("../secret.png", "it must be relative, without .."),
        ("cats/../plain.png", "it must be relative, without .."),
        ("..", "it must be relative, without .."),
        ("../inside-too/secret.png", "it must be relative, without .."),
        ("missing.png", "there is no such file"),
        ("plain.png/1.png", "there is no such file"),
        (".", "it is no regular file"),
        ("cats", "it is no regular file"),
        ("cats/", "it is no regular file"),
        ("pipe", "it is no regular file"),
        ("socket", "it is no regular file"),
        ("zero", "it leads out of the directory"),
        ("out.png", "it leads out of the directory"),
        ("out/secret.png", "it leads out of the directory"),
        ("too/secret.png", "it leads out of the directory"),
        ("round", "there is no such file"),
        ("dangling", "there is no such file"),
    ],
)
def test_what_is_no_file_below_the_directory_is_refused(
    inside: Path, monkeypatch: pytest.MonkeyPatch, name: str, reason: str
) -> None:
    os.mkfifo(inside / "pipe")
    monkeypatch.chdir(inside)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
    (inside / "zero").symlink_to("/dev/zero")
    (inside / "out.png").symlink_to("../secret.png")
    (inside / "out").symlink_to("..")
    (inside / "too").symlink_to(inside.parent / "inside-too")
    (inside / "round").symlink_to("round")
    (inside / "dangling").symlink_to("nowhere")
    before = len(os.listdir("/dev/fd"))

    with pytest.raises(RefusedError) as refused, open_below(str(inside), name):
        pass

    assert str(refused.value) == reason
    assert len(os.listdir("/dev/fd")) == before, "a descriptor is left open"


@pytest.mark.skipif(not confine._HOLDS, reason="This system cannot hold a folder open.")
@pytest.mark.parametrize("where", ["file", "folder"])
def test_a_link_put_there_after_the_name_was_looked_at_is_not_followed(
    inside: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """At the worst moment: the real path is known, nothing is open yet."""
    real_path = os.path.realpath

    def swap(path: str, *, strict: bool = False) -> str:
        found = real_path(path, strict=strict)
        if strict:
            monkeypatch.setattr(os.path, "realpath", real_path)
            if where == "file":
                (inside / "cats" / "1.png").unlink()
                (inside / "cats" / "1.png").symlink_to(inside.parent / "secret.png")
            else:
                (inside / "cats").rename(inside / "dogs")
                (inside.parent / "inside-too" / "1.png").write_bytes(SECRET)
                (inside / "cats").symlink_to(inside.parent / "inside-too")
        return found

    monkeypatch.setattr(os.path, "realpath", swap)

    with pytest.raises(RefusedError):
        read(inside, "cats/1.png")


@pytest.mark.skipif(not confine._HOLDS, reason="This system cannot hold a folder open.")
def test_a_folder_that_keeps_changing_never_gives_what_is_outside(inside: Path) -> None:
    (inside.parent / "inside-too" / "1.png").write_bytes(SECRET)
    (inside / "link").symlink_to(inside.parent / "inside-too")
    stop = threading.Event()

    def exchange() -> None:
        while not stop.is_set():
            for old, new in (("cats", "kept"), ("link", "cats"), ("cats", "link"), ("kept", "cats")):
                (inside / old).rename(inside / new)

    thread = threading.Thread(target=exchange)
    thread.start()
    seen = set()
    try:
        for _ in range(1500):
            with contextlib.suppress(RefusedError):
                seen.add(read(inside, "cats/1.png"))
    finally:
        stop.set()
        thread.join()

    assert seen <= {b"cat"}
    assert read(inside, "cats/1.png") == b"cat"


@given(name=st.text(st.sampled_from("./\\a\0:~ \ud800é"), max_size=12))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_name_leads_out(inside: Path, name: str) -> None:
    with contextlib.suppress(RefusedError):
        assert read(inside, name) != SECRET


def test_files_that_are_too_large_are_refused(inside: Path) -> None:
    with (inside / "large").open("wb") as file:
        file.truncate(1 << 40)
    (inside / "just").write_bytes(bytes(100))

    with open_below(str(inside), "large") as fd, pytest.raises(RefusedError, match="it is larger than 1 MB"):
        read_whole(fd, 1 << 20)
    with open_below(str(inside), "just") as fd, pytest.raises(RefusedError):
        read_whole(fd, 99)
    with open_below(str(inside), "just") as fd:
        assert len(read_whole(fd, 100)) == 100


def test_a_file_that_grows_while_it_is_read_is_refused(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it says of its size is not what it has: as files of /proc do, too."""
    (inside / "grows").write_bytes(bytes(1000))
    with open_below(str(inside), "grows") as fd:
        monkeypatch.setattr(os, "fstat", lambda _: os.stat_result([0] * 10))
        with pytest.raises(RefusedError):
            read_whole(fd, 999)


def test_a_directory_that_is_a_link_is_the_users_own_choice(inside: Path) -> None:
    (inside.parent / "chosen").symlink_to("inside")

    assert read(inside.parent / "chosen", "cats/1.png") == b"cat"
    with pytest.raises(RefusedError, match="there is no such file"):
        read(inside.parent / "nowhere", "cats/1.png")
