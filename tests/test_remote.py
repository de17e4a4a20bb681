"""Remote log directories in TensorBoard, in the command line, and of a real S3 server."""

from __future__ import annotations

import functools
import http.server
import json
import os
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fsspec")

from click.testing import CliRunner, Result
from faulty import ENOUGH, Faulty, event_path, faulty, record, wait_for
from recorded import frames, make_record, make_scores, write
from tensorboard.backend.application import TensorBoardWSGI
from tensorboard.plugins import base_plugin
from werkzeug.test import Client

from tb_batchview import cli, copies, mirror
from tb_batchview.loader import _open_remote
from tb_batchview.log import Log, load
from tb_batchview.mirror import Mirror
from tb_batchview.plugin import BatchViewPlugin, find_roots

__all__ = ["faulty"]  # a fixture
BASE = "/data/plugin/batchview/"


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faulty: type[Faulty]) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(mirror, "LEAST_PAUSE", 0.01)
    monkeypatch.setattr(mirror, "MOST_PAUSE", 0.01)
    monkeypatch.setattr(mirror, "MOST_FAILED_PAUSE", 0.01)


class Flags:
    def __init__(self, logdir_spec: str) -> None:
        self.logdir_spec = logdir_spec


@pytest.fixture
def open_plugin() -> Iterator[Callable[..., tuple[BatchViewPlugin, Client]]]:
    plugins = []

    def open_one(logdir: str = "", spec: str = "") -> tuple[BatchViewPlugin, Client]:
        context = base_plugin.TBContext(logdir=logdir, flags=Flags(spec))
        plugins.append(BatchViewPlugin(context, refresh_seconds=0))
        return plugins[-1], Client(TensorBoardWSGI([plugins[-1]]))

    yield open_one
    for plugin in plugins:
        for root in plugin._roots.values():
            if isinstance(root, Mirror):
                root.close()


def get(client: Client, request: str, status: int = 200) -> Any:
    response = client.get(BASE + request)
    assert response.status_code == status, response.get_data()
    return json.loads(response.get_data()) if status == 200 else response.get_data(as_text=True)


def batches(client: Client, run: str) -> int:
    runs = {found["name"]: found for found in get(client, "runs")["runs"]}
    return sum(phase["batches"] for phase in runs.get(run, {"phases": []})["phases"])


def run_cli(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, arguments, prog_name="tb-batchview")


# -- in TensorBoard ----------------------------------------------------------------------------------------------------


def test_the_plugin_shows_a_remote_run_and_follows_it(open_plugin: Callable[..., Any]) -> None:
    record("a", 3)
    plugin, client = open_plugin("faulty://logs")

    wait_for(plugin.is_active)
    assert Faulty.parts == [], "copied before anybody asked"
    wait_for(lambda: batches(client, "a") == 3)
    answer = get(client, "runs")
    assert (answer["logdir"], answer["indexing"]) == ("faulty://logs", None)
    one = get(client, "sample?run=a&phase=train&step=2&sample=1")
    target = int(make_scores(2)[1][1])
    assert one["target"] == target

    record("a", 7)
    wait_for(lambda: batches(client, "a") == 7)
    Faulty.store.clear()
    wait_for(lambda: get(client, "runs")["runs"] == [])


def test_runs_of_a_logdir_spec_may_be_remote(open_plugin: Callable[..., Any], tmp_path: Path) -> None:
    write(tmp_path / "local" / "x", [make_record(0)])
    record("a", 1)
    _, client = open_plugin(spec=f"far:faulty://logs,near:{tmp_path / 'local'}")

    wait_for(lambda: [run["name"] for run in get(client, "runs")["runs"]] == ["far/a", "near/x"])


@pytest.mark.parametrize(
    ("spec", "roots"),
    [
        ("s3://logs/x", {"": "s3://logs/x"}),
        ("a:s3://b/x,gs://c", {"a": "s3://b/x", "": "gs://c"}),
        ("a:file:///x", {"a": Path("/x")}),
    ],
)
def test_the_addresses_of_a_logdir_spec(spec: str, roots: dict[str, object]) -> None:
    assert find_roots(base_plugin.TBContext(logdir="", flags=Flags(spec))) == (spec, roots)


def test_a_store_that_does_not_answer_holds_up_nothing_else(open_plugin: Callable[..., Any], tmp_path: Path) -> None:
    write(tmp_path / "x", [make_record(0)])
    record("a", 1)
    Faulty.gate.clear()
    plugin, client = open_plugin(spec=f"far:faulty://logs,near:{tmp_path}")

    wait_for(lambda: batches(client, "near/x") == 1)
    begun = time.monotonic()
    answer = get(client, "runs")
    assert plugin.is_active()
    assert "still being looked through" in get(client, "batches?run=far/a&phase=train", 404)
    assert "still being looked through" in str(get(client, "doctor")["findings"])

    assert time.monotonic() - begun < ENOUGH / 3
    assert answer["indexing"] == {"read_bytes": answer["indexing"]["bytes"], "bytes": answer["indexing"]["bytes"]}
    Faulty.gate.set()
    wait_for(lambda: batches(client, "far/a") == 1)
    assert get(client, "runs")["indexing"] is None


def test_the_run_that_is_asked_for_is_copied_first_by_its_name_in_the_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "BATCH_PIECES", 1)
    paths = [record(f"run{number}", 1) for number in range(5)]
    log = Log({"a": Mirror("faulty://logs"), "b": Mirror("faulty://logs/run4")})

    log.prefer("a/run2")
    log.look()

    assert [path for path, _, _ in Faulty.parts][:2] == [paths[2], paths[4]]


def test_an_address_where_nothing_is_yet(open_plugin: Callable[..., Any]) -> None:
    _, client = open_plugin("faulty://later")
    wait_for(lambda: get(client, "runs")["indexing"] is None)

    found = {found["about"]: found for found in get(client, "doctor")["findings"]}
    assert found["remote faulty://later"]["state"] == "there is nothing"
    assert found["runs"]["state"] == "none below faulty://later"
    assert 'BatchViewCallback("faulty://later/run-1")' in found["runs"]["remedy"]


def test_what_is_still_to_be_copied_is_shown(open_plugin: Callable[..., Any]) -> None:
    path = record("a", 3)
    size = len(Faulty.store[path].getvalue())
    held = threading.Event()
    cat_file = Faulty.cat_file

    def cat(*arguments: Any, **options: Any) -> Any:
        assert held.wait(ENOUGH)
        return cat_file(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Faulty, "cat_file", cat)
        _, client = open_plugin("faulty://logs")
        wait_for(lambda: bool(get(client, "runs")["runs"]))
        wait_for(lambda: get(client, "runs")["indexing"] == {"read_bytes": 0, "bytes": size})
        (run,) = get(client, "runs")["runs"]
        assert run["indexing"] == {"read_bytes": 0, "bytes": size}
        assert "still being read" in get(client, "batches?run=a&phase=train", 404)
        held.set()
        wait_for(lambda: batches(client, "a") == 3)
    wait_for(lambda: get(client, "runs")["indexing"] is None)


def test_a_store_that_refuses_is_told_and_tried_again(open_plugin: Callable[..., Any]) -> None:
    record("a", 2)
    Faulty.listing[""] = PermissionError("no access")
    plugin, client = open_plugin("faulty://logs")

    wait_for(lambda: client.get(BASE + "runs").status_code == 500)
    assert "faulty://logs could not be looked at: PermissionError: no access. It is tried again." in get(
        client, "runs", 500
    )
    assert not plugin.is_active()
    findings = get(client, "doctor")["findings"]
    assert [(found["about"], bool(found["remedy"])) for found in findings if "no access" in found["state"]] == [
        ("remote faulty://logs", True)
    ]

    Faulty.listing.clear()
    wait_for(lambda: client.get(BASE + "runs").status_code == 200 and batches(client, "a") == 2)
    wait_for(plugin.is_active)

    Faulty.listing[""] = OSError("network is unreachable")
    # What was read before stays on screen, with a warning.
    wait_for(lambda: "network is unreachable" in str(get(client, "runs")["runs"][0]["health"]["warnings"]))
    assert batches(client, "a") == 2


# -- the command line --------------------------------------------------------------------------------------------------


def test_the_commands_take_an_address(tmp_path: Path) -> None:
    record("a", 3)
    record("b", 2, phase="validation")
    out = tmp_path / "a.npz"

    listed = run_cli("inspect", "--json", "faulty://logs")
    exported = run_cli(
        *("export", "faulty://logs", "--run", "a", "--phase", "train", "--format", "npz", "--out", str(out))
    )
    checked = run_cli("doctor", "--json", "faulty://logs")

    assert [(run["name"], run["phases"][0]["batches"]) for run in json.loads(listed.stdout)] == [("a", 3), ("b", 2)]
    assert (listed.exit_code, exported.exit_code, exported.output) == (0, 0, exported.stderr)
    np.testing.assert_array_equal(np.load(out)["predictions"][8:16], make_scores(1)[0])
    states = {found["about"]: found["state"] for found in json.loads(checked.stdout)}
    assert states["remote faulty://logs"].startswith("2 file(s), ")
    assert list((tmp_path / "temporary").iterdir()) == []


def test_doctor_tells_what_the_store_refuses() -> None:
    path = record("a", 2)
    record("..", 1)
    Faulty.reading[path] = PermissionError("not yours")

    partly = run_cli("doctor", "faulty://logs")
    Faulty.listing[""] = PermissionError("no access")
    refused = run_cli("doctor", "faulty://user:secret@logs")

    assert partly.exit_code == 1
    assert "1 file(s) could not be copied. events.out.tfevents" in partly.stdout
    assert "PermissionError: not yours" in partly.stdout
    assert "1 file(s) have names that no copy can have" in partly.stdout
    assert refused.exit_code == 1
    assert "!! remote faulty://…@logs: faulty://…@logs could not be looked at: PermissionError" in refused.stdout
    assert "secret" not in refused.output


@pytest.mark.parametrize(
    ("url", "status", "message"),
    [
        ("faulty://nowhere", 2, "log_dir must be a directory that exists. Received: log_dir='faulty://nowhere'."),
        ("nosuch://b/x", 1, "nosuch://b/x must be of a store that fsspec knows"),
        ("faulty://logs/a", 1, "Nothing is recorded below faulty://logs/a. Ask `tb-batchview doctor` why."),
    ],
)
def test_an_address_where_nothing_is(url: str, status: int, message: str) -> None:
    Faulty().pipe("/logs/a/other", b"x")

    result = run_cli("inspect", url)

    assert (result.exit_code, result.stdout) == (status, "")
    assert message in result.stderr


def test_doctor_leads_from_where_the_files_are_to_the_run() -> None:
    record("a", 1)

    result = run_cli("doctor", "faulty://logs/a/batchview/")

    assert "→ tb-batchview doctor faulty://logs/a\n" in result.stdout


# -- what is not loaded, and what TensorBoard loads --------------------------------------------------------------------


def test_who_reads_local_directories_loads_no_fsspec(tmp_path: Path, loaded: Callable[[str], set[str]]) -> None:
    write(tmp_path / "a", [make_record(0)])

    found = loaded(
        "from tensorboard.plugins import base_plugin\n"
        "from tb_batchview import cli, load\n"
        "from tb_batchview.plugin import BatchViewPlugin\n"
        f"assert len(load({str(tmp_path)!r})) == 1\n"
        f"plugin = BatchViewPlugin(base_plugin.TBContext(logdir={str(tmp_path)!r}))\n"
        "assert plugin.is_active()\n"
    )

    assert "tb_batchview.mirror" in found
    assert {name for name in found if name.split(".")[0] in ("fsspec", "s3fs", "boto3", "aiohttp")} == set()


_OPENED = """
import argparse
from tensorboard.compat import tf
{before}
from tb_batchview.loader import BatchViewLoader
BatchViewLoader().fix_flags(argparse.Namespace({flags}))
assert tf.__version__ {found} "stub", tf.__version__
# What tf.summary of this process is made of stays.
from tensorboard.compat import tf2
assert tf2.name == "compat.v2 of TensorFlow"
"""


@pytest.mark.parametrize(
    ("before", "flags", "found"),
    [
        ("", "logdir='s3://b/x', logdir_spec=''", "=="),
        ("", "logdir='', logdir_spec='a:/x,b:memory://x'", "=="),
        # TensorBoard asks for the version before it loads any plugin.
        ("assert tf.__version__ != 'stub'", "logdir='s3://b/x'", "=="),
        ("", "logdir='gs://b/x', logdir_spec=''", "!="),
        ("", "logdir='/logs', logdir_spec=''", "!="),
    ],
)
def test_tensorboard_leaves_tensorflow_alone_only_where_it_would_end(
    before: str, flags: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loaded: Callable[..., Any]
) -> None:
    """With a TensorFlow that loads at once."""
    (tmp_path / "tensorflow.py").write_text(
        "from types import SimpleNamespace as Space\n__version__ = '2.21.0'\n"
        "compat = Space(v2=Space(name='compat.v2 of TensorFlow'))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    assert "tb_batchview.loader" in loaded(_OPENED.format(before=before, flags=flags, found=found))


def test_without_fsspec_tensorboard_is_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tb_batchview.loader.find_spec", lambda name: True if name == "tensorflow" else None)
    monkeypatch.delitem(sys.modules, "tensorboard.compat.notf", raising=False)

    _open_remote(Flags("s3://b/x"))

    assert caplog.messages == ['Batch View: s3:// is read through fsspec: pip install "tb_batchview[remote]"']
    assert "tensorboard.compat.notf" not in sys.modules


# -- a real S3 server --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Serve a bucket, and tell all who look for S3 where."""
    s3fs = pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (
            ("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port())),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ):
            patch.setenv(name, value)
        store = s3fs.S3FileSystem(skip_instance_cache=True)
        store.mkdir("bucket")
        yield store
    server.stop()


def put_run(store: Any, run: str, steps: int, *, first: int = 0) -> None:
    content = b"".join(frames([make_record(step) for step in range(first, first + steps)]))
    store.pipe("bucket" + event_path(run), content)


def test_an_s3_bucket_is_loaded_and_followed(s3: Any) -> None:
    put_run(s3, "a", 3)
    for number in range(40):  # read several at once
        put_run(s3, f"many/{number}", 1)
    log = load("s3://bucket/logs")

    assert len(log) == 41
    np.testing.assert_array_equal(log["a"].batches("train")[2].predictions, make_scores(2)[0])

    put_run(s3, "a", 5)
    put_run(s3, "many/1", 1, first=7)
    s3.rm("bucket/logs/many/0", recursive=True)
    log.refresh()

    assert len(log) == 40
    assert [batch.step for batch in log["a"].batches("train")] == [0, 1, 2, 3, 4]
    assert [batch.step for batch in log["many/1"].batches("train")] == [7]


@pytest.mark.slow
def test_tensorboard_shows_a_run_of_s3(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("playwright")
    from browser.host import run_tensorboard

    put_run(s3, "shown/a", 4)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))

    def ask(address: str, route: str) -> Any:
        with urllib.request.urlopen(f"{address}/{route}", timeout=ENOUGH) as response:
            return json.load(response)

    with run_tensorboard("s3://bucket/logs/shown", "--reload_interval", "1") as address:
        address = address.rstrip("/")
        runs: list[Any] = []

        def shown() -> bool:
            runs[:] = ask(address, "data/plugin/batchview/runs")["runs"]
            return [phase["batches"] for run in runs for phase in run["phases"]] == [4]

        wait_for(shown)
        assert [run["name"] for run in runs] == ["a"]
        assert ask(address, "data/plugins_listing")["batchview"]["enabled"]
        wait_for(lambda: [name for name in os.listdir(tmp_path / "temporary") if name.startswith("batchview-")] != [])
    assert [name for name in os.listdir(tmp_path / "temporary") if name.startswith("batchview-")] == []


# -- a plain web server ------------------------------------------------------------------------------------------------


def test_a_web_server_that_gives_whole_files_is_read(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    write(tmp_path / "www" / "x y", [make_record(step) for step in range(50)])
    handler = functools.partial(Handler, directory=str(tmp_path / "www"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            log = load(f"http://127.0.0.1:{server.server_port}/")
            assert {name: len(run.batches("train")) for name, run in log.items()} == {"x y": 50}
            write(tmp_path / "www" / "x y", [make_record(step) for step in range(80)])
            log.refresh()
            assert len(log["x y"].batches("train")) == 80
        finally:
            server.shutdown()
            thread.join()
    log.refresh()
    assert "Cannot connect" in log["x y"].health.warnings[0][1]
