"""The route `export`: the tables of the command, sent a piece at a time."""

from __future__ import annotations

import http.client
import re
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from recorded import make_record, write
from tensorboard.backend.application import TensorBoardWSGI
from tensorboard.plugins import base_plugin
from test_plugin import BASE, open_client, write_digits, write_others
from werkzeug import serving
from werkzeug.test import Client, EnvironBuilder, run_wsgi_app

from tb_batchview import downloads
from tb_batchview.errors import BatchViewError
from tb_batchview.export import Export
from tb_batchview.export.selection import Selection
from tb_batchview.log import load
from tb_batchview.plugin import BatchViewPlugin
from tb_batchview.writer import BatchWriter

DIGITS = "export?run=digits&phase=train"


@pytest.fixture(scope="module")
def logdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("logs")
    write_digits(directory)
    write_others(directory)
    return directory


@pytest.fixture(scope="module")
def client(logdir: Path) -> Client:
    return open_client(logdir)


def exported(logdir: Path, folder: Path, run: str, **options: Any) -> bytes:
    phase = options.pop("phase", "train")
    Export(load(logdir)[run], phase, folder / "table.csv", form="csv", overwrite=True, **options).write()
    return (folder / "table.csv").read_bytes()


CASES: dict[str, dict[str, Any]] = {
    "run=digits&phase=train": {"run": "digits"},
    "run=digits&phase=train&table=samples&scores=1&output=probabilities": {"run": "digits"},
    "run=digits&phase=train&scores=0&start=3&stop=9": {"run": "digits", "scores": False, "start": 3, "stop": 9},
    "run=digits&phase=train&table=batches&start=20": {"run": "digits", "table": "batches", "start": 20},
    "run=digits&phase=train&start=9&stop=9": {"run": "digits", "start": 9, "stop": 9},
    "run=digits&phase=validation": {"run": "digits", "phase": "validation"},
    "run=age&phase=train": {"run": "age"},
    "run=tags&phase=train": {"run": "tags"},
    "run=spam&phase=train&table=batches": {"run": "spam", "table": "batches"},
}


@pytest.mark.parametrize("request_", CASES)
def test_tables_are_those_of_the_command(request_: str, client: Client, logdir: Path, tmp_path: Path) -> None:
    response = client.get(f"{BASE}export?{request_}")

    assert response.status_code == 200
    assert response.content_type == "text/csv; charset=utf-8"
    assert response.headers["X-Batchview-Unreadable"] == "0"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.get_data() == exported(logdir, tmp_path, **CASES[request_])


@pytest.mark.parametrize(
    ("request_", "status", "message"),
    [
        ("export?phase=train", 400, "run must be given"),
        ("export?run=digits&phase=test", 400, "phase must be one of"),
        ("export?run=digit&phase=train", 404, "Did you mean 'digits'"),
        ("export?run=../digits&phase=train", 404, "run must be one of those recorded"),
        ("export?run=age&phase=validation", 404, "phase must be one of those recorded"),
        (f"{DIGITS}&output=logits", 404, "output must be one of those recorded"),
        (f"{DIGITS}&table=metrics", 400, "table must be one of samples, batches"),
        (f"{DIGITS}&scores=yes", 400, "scores must be one of 0, 1"),
        (f"{DIGITS}&start=5&stop=4", 400, "start must not be greater than stop"),
        (f"{DIGITS}&format=npz", 400, "parameters must be of run, phase"),
        (f"{DIGITS}&out=/etc/passwd", 400, "parameters must be of run, phase"),
    ],
)
def test_what_cannot_be_is_said(request_: str, status: int, message: str, client: Client) -> None:
    response = client.get(BASE + request_)
    assert (response.status_code, message in response.get_data(as_text=True)) == (status, True)


def test_only_get_and_head(client: Client) -> None:
    assert client.post(BASE + DIGITS).status_code == 405
    for _ in range(2 * downloads.MOST_AT_ONCE):
        response = client.head(BASE + DIGITS)
        assert (response.status_code, response.get_data()) == (200, b"")
        response.close()


NAMES = ['a"b', "täglich", "a b;c=d", "line\nbreak", "..", "x" * 200, "deep/er", "%0d%0aX: y"]


def test_file_names_are_safe_whatever_a_run_is_called(tmp_path: Path) -> None:
    for name in [name for name in NAMES if name != ".."]:
        write(tmp_path / name, [make_record(0)])
    write(tmp_path, [make_record(0)])
    client = open_client(tmp_path)
    found = set()
    for name in load(tmp_path):
        response = client.get(f"{BASE}export?run={quote(name)}&phase=train&table=batches")
        assert response.status_code == 200, response.get_data(as_text=True)
        header = response.headers["Content-Disposition"]
        assert re.fullmatch(r'attachment; filename="[A-Za-z0-9][A-Za-z0-9._-]{0,250}\.csv"', header), header
        found.add(header)
        response.close()
    assert len(found) == len(NAMES)
    assert 'attachment; filename="run-train-scores-batches.csv"' in found


def application(logdir: Path) -> Any:
    plugin = BatchViewPlugin(base_plugin.TBContext(logdir=str(logdir)), refresh_seconds=0, patience=60)
    return TensorBoardWSGI([plugin])


def ask(app: Any, query: str) -> tuple[Any, str, Any]:
    """Ask without reading the answer."""
    return run_wsgi_app(app, EnvironBuilder(path=f"{BASE}export", query_string=query).get_environ())


def write_wide(logdir: Path, batches: int) -> Any:
    predictions, targets = np.random.default_rng(0).random((16, 1000), np.float32), np.zeros(16, int)
    with BatchWriter(logdir / "run", task="multiclass") as writer:
        for _ in range(batches):
            writer.add_batch(predictions=predictions, targets=targets)
    return application(logdir)


def test_memory_does_not_grow_with_the_table(tmp_path: Path) -> None:
    def measure(batches: int) -> tuple[int, int]:
        app = write_wide(tmp_path / str(batches), batches)
        ask(app, "run=run&phase=train&table=batches")[0].close()  # so that it is indexed
        tracemalloc.start()
        try:
            pieces, status, _ = ask(app, "run=run&phase=train")
            assert status == "200 OK"
            return sum(map(len, pieces)), tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    measure(2)
    (small, few), (large, many) = measure(8), measure(40)
    assert large - small > 4e6
    assert many - few < 5e5


def test_a_batch_is_read_when_those_before_it_are_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app, read, before = write_wide(tmp_path, 40), [], Selection._ids

    def count(self: Selection, place: Any) -> Any:
        read.append(place)
        return before(self, place)

    monkeypatch.setattr(Selection, "_ids", count)
    pieces, _, _ = ask(app, "run=run&phase=train")
    next(iter(pieces))
    assert 0 < len(read) < 5
    pieces.close()


def test_few_are_sent_at_once_and_those_that_end_make_room(client: Client, logdir: Path) -> None:
    app = application(logdir)
    query = DIGITS.partition("?")[2]
    held = [ask(app, query)[0] for _ in range(downloads.MOST_AT_ONCE)]
    busy = client.get(BASE + DIGITS)
    assert (busy.status_code, busy.headers["Retry-After"]) == (503, "10")
    assert b"At most 4 exports are sent at once." in busy.get_data()
    held.pop().close()  # A client that went away.
    assert client.get(BASE + DIGITS).status_code == 200
    for pieces in held:
        pieces.close()
    # Neither does an error keep a place.
    for _ in range(2 * downloads.MOST_AT_ONCE):
        assert client.get(f"{BASE}{DIGITS}&output=none").status_code == 404
    for _ in range(2 * downloads.MOST_AT_ONCE):
        assert client.get(BASE + DIGITS).status_code == 200


@pytest.fixture
def server(logdir: Path) -> Iterator[Any]:
    """Serve as TensorBoard does: a thread for each request, HTTP/1.1."""

    class Handler(serving.WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, type: str, message: str, *args: Any) -> None:
            pass

    made = serving.ThreadedWSGIServer("127.0.0.1", 0, application(logdir), Handler)
    made.log = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def test_a_table_that_breaks_off_is_not_taken_for_a_whole_one(
    server: Any, logdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch() -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
        connection.request("GET", BASE + DIGITS)
        response = connection.getresponse()
        assert (response.status, response.getheader("Transfer-Encoding")) == (200, "chunked")
        try:
            return response.read()
        finally:
            connection.close()

    assert fetch() == exported(logdir, tmp_path, "digits")

    monkeypatch.setattr(downloads, "_PIECE_BYTES", 1)
    before = Selection._ids

    def fail(self: Selection, place: Any) -> Any:
        if len(seen) > 5:
            raise BatchViewError("gone")
        seen.append(place)
        return before(self, place)

    seen: list[Any] = []
    monkeypatch.setattr(Selection, "_ids", fail)
    with pytest.raises(http.client.IncompleteRead):
        fetch()
