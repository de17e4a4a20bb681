"""Counted answers are kept, never those of another moment, range, run or client; who waits for files holds no turn."""

from __future__ import annotations

import concurrent.futures
import gzip
import itertools
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded import append, event_file, frames, make_record, write
from sklearn import metrics
from tensorboard.backend.application import TensorBoardWSGI
from tensorboard.plugins import base_plugin
from test_workers import share, write_worker
from werkzeug.test import Client

from tb_batchview import answers
from tb_batchview import plugin as plugins
from tb_batchview.http import pack, pack_arrays, unpack_arrays
from tb_batchview.plugin import BatchViewPlugin
from tb_batchview.records import OutputRecord, OutputSpec

BASE = "/data/plugin/batchview/"
ENOUGH = 30.0  # seconds that nothing should take
COUNTED = ("classes", "confusion", "class_trend")
RUN = "run=a&phase=train"


def open_plugin(logdir: Path) -> tuple[BatchViewPlugin, Client]:
    plugin = BatchViewPlugin(base_plugin.TBContext(logdir=str(logdir)), refresh_seconds=0, patience=60)
    return plugin, Client(TensorBoardWSGI([plugin]))


def ask(client: Client, request: str) -> bytes:
    response = client.get(BASE + request)
    assert response.status_code == 200, response.get_data(as_text=True)
    return response.get_data()


def ask_anew(logdir: Path, request: str) -> bytes:
    """Ask a plugin that has never been asked: nothing can be kept."""
    return ask(open_plugin(logdir)[1], request)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the answers that were made, by name, as they are made."""
    names: list[str] = []

    def watch(name: str, make: Any) -> Any:
        def watched(*arguments: Any, **options: Any) -> Any:
            names.append(name)
            return make(*arguments, **options)

        return watched

    for name, function in (("classes", "class_rows"), ("confusion", "confusion"), ("class_trend", "class_trend")):
        monkeypatch.setattr(answers, function, watch(name, getattr(answers, function)))
    return names


@pytest.mark.parametrize("route", COUNTED)
def test_what_is_asked_again_is_made_once(tmp_path: Path, made: list[str], route: str) -> None:
    write(tmp_path / "a", [make_record(step) for step in range(20)])
    _, client = open_plugin(tmp_path)

    found = [
        ask(client, f"{route}?{RUN}&{part}") for part in ("stop=7", "stop=7", "stop=8", "stop=7", "start=1&stop=7")
    ]

    assert found[0] == found[1] == found[3]
    assert len(set(found)) == 3
    assert made == [route] * 3


@pytest.mark.parametrize("route", COUNTED)
def test_answers_follow_a_run_that_grows(tmp_path: Path, made: list[str], route: str) -> None:
    pieces = frames([make_record(step) for step in range(40)])
    path = event_file(tmp_path / "a")
    path.write_bytes(b"".join(pieces[:11]))
    _, client = open_plugin(tmp_path)

    for before, stop in itertools.pairwise((10, 10, 11, 25, 40)):
        append(path, b"".join(pieces[1 + before : 1 + stop]))
        for part in ("", "&start=5", "&stop=30", "&start=2&stop=9"):
            assert ask(client, f"{route}?{RUN}{part}") == ask_anew(tmp_path, f"{route}?{RUN}{part}"), (stop, part)

    made.clear()
    append(path, frames([make_record(40)])[1])
    ask(client, f"{route}?{RUN}&start=2&stop=9")
    assert made == []  # what lies before the new batch is what it was
    ask(client, f"{route}?{RUN}&start=2")
    assert made == [route]


@pytest.mark.parametrize("route", COUNTED)
def test_a_run_made_anew_has_answers_of_its_own(tmp_path: Path, route: str) -> None:
    write(tmp_path / "a", [make_record(step) for step in range(12)])
    _, client = open_plugin(tmp_path)
    before = ask(client, f"{route}?{RUN}&start=2&stop=9")

    shutil.rmtree(tmp_path / "a")
    staged = tmp_path.with_name(f"{tmp_path.name}-staged")
    changed = [make_record(step, outputs=make_record(step + 100).outputs) for step in range(12)]
    write(staged / "a", changed)
    (staged / "a").rename(tmp_path / "a")
    after = ask(client, f"{route}?{RUN}&start=2&stop=9")

    assert after != before
    assert after == ask_anew(tmp_path, f"{route}?{RUN}&start=2&stop=9")


@pytest.mark.parametrize("route", COUNTED)
def test_batches_recorded_again_count_in_the_range_they_are_in(tmp_path: Path, route: str) -> None:
    write(tmp_path / "a", [make_record(step) for step in range(12)])
    _, client = open_plugin(tmp_path)
    request = f"{route}?{RUN}&start=2&stop=9"
    before = ask(client, request)

    # A training that was resumed: the later file counts.
    again = [make_record(step, outputs=make_record(step + 100).outputs) for step in range(5, 12)]
    write(tmp_path / "a", again, number=1)
    after = ask(client, request)

    assert after != before
    assert after == ask_anew(tmp_path, request)


@pytest.mark.parametrize("route", COUNTED)
def test_answers_follow_workers_that_are_behind(tmp_path: Path, route: str) -> None:
    write_worker(tmp_path / "a", [share(step, 0) for step in range(8)], 0, 2)
    late = frames([share(step, 1) for step in range(8)], worker=1, workers=2)
    path = event_file(tmp_path / "a", 1)
    path.write_bytes(b"".join(late[:4]))
    _, client = open_plugin(tmp_path)

    for piece in (b"", late[4], b"".join(late[5:])):
        append(path, piece)
        request = f"{route}?{RUN}&stop=6"
        assert ask(client, request) == ask_anew(tmp_path, request)


def test_run_b_is_part_of_what_an_answer_depends_on(tmp_path: Path) -> None:
    write(tmp_path / "a", [make_record(step) for step in range(12)])
    pieces = frames([make_record(step) for step in range(12)])
    path = event_file(tmp_path / "b")
    path.write_bytes(b"".join(pieces[:8]))
    _, client = open_plugin(tmp_path)

    for piece in (b"", pieces[8], b"".join(pieces[9:])):
        append(path, piece)
        for route in ("classes", "confusion"):
            request = f"{route}?{RUN}&against_run=b&against_phase=train"
            assert ask(client, request) == ask_anew(tmp_path, request)


def test_class_names_that_come_later_are_searched(tmp_path: Path) -> None:
    nameless = {"scores": OutputSpec("multiclass", 4)}
    write(tmp_path / "a", [make_record(step) for step in range(3)], specs=nameless)
    _, client = open_plugin(tmp_path)
    request = f"classes?{RUN}&search=dog&stop=3"
    assert json.loads(ask(client, request))["total"] == 0

    write(tmp_path / "a", [make_record(step) for step in range(3, 5)], number=1)

    assert json.loads(ask(client, request))["total"] == 1


def test_a_client_without_gzip_has_an_answer_of_its_own(tmp_path: Path) -> None:
    names = tuple(f"class {number}" for number in range(200))
    specs = {"scores": OutputSpec("multiclass", 200, None, names)}
    write(tmp_path / "a", [make_record(step) for step in range(5)], specs=specs)
    _, client = open_plugin(tmp_path)

    takes = {"Accept-Encoding": "gzip"}
    for route, stop in itertools.product(COUNTED, (4, 5)):
        request = f"{BASE}{route}?{RUN}&stop={stop}"
        # Whichever comes first, and whatever was kept for it.
        orders = [takes, {}, takes, {}] if stop == 4 else [{}, takes, {}, takes]
        found = [client.get(request, headers=headers) for headers in orders]
        plain, packed = (
            [response for response in found if response.content_encoding == kind] for kind in (None, "gzip")
        )
        assert len(plain) == len(packed) == 2
        assert {gzip.decompress(response.get_data()) for response in packed} == {plain[0].get_data()}
        assert plain[0].get_data() == plain[1].get_data()
        assert len({response.content_type for response in found}) == 1


def test_of_many_who_ask_for_the_same_one_has_it_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: list[str]
) -> None:
    write(tmp_path / "a", [make_record(step) for step in range(12)])
    _, client = open_plugin(tmp_path)
    ask(client, "runs")
    begun, go_on = threading.Event(), threading.Event()
    make = answers.class_rows

    def slow(*arguments: Any) -> Any:
        begun.set()
        assert go_on.wait(ENOUGH)
        return make(*arguments)

    monkeypatch.setattr(answers, "class_rows", slow)
    monkeypatch.setattr(plugins, "MOST_WAIT", 2 * ENOUGH)
    with concurrent.futures.ThreadPoolExecutor(9) as pool:
        same = [pool.submit(ask, client, f"classes?{RUN}") for _ in range(8)]
        assert begun.wait(ENOUGH)
        # The seven who wait for it take no turn: there is one left for another question.
        other = pool.submit(ask, client, f"confusion?{RUN}")
        assert other.result(ENOUGH) == ask_anew(tmp_path, f"confusion?{RUN}")
        go_on.set()
        found = {future.result(ENOUGH) for future in same}

    assert made.count("classes") == 1
    assert found == {ask_anew(tmp_path, f"classes?{RUN}")}


def test_an_answer_that_cannot_be_made_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a", [make_record(step) for step in range(12)])
    plugin, client = open_plugin(tmp_path)

    for _ in range(2):
        assert client.get(f"{BASE}classes?{RUN}&sort=shoe_size").status_code == 400
    assert len(plugin._kept) == 0
    ask(client, f"classes?{RUN}")
    assert len(plugin._kept) == 1


def test_kept_answers_stay_within_their_bytes(tmp_path: Path) -> None:
    write(tmp_path / "a", [make_record(step) for step in range(40)])
    plugin, client = open_plugin(tmp_path)
    plugin._kept.limit = 20_000

    for stop in range(40):
        for route in COUNTED:
            ask(client, f"{route}?{RUN}&stop={stop}")

    assert 0 < plugin._kept.bytes <= 20_000
    assert len(plugin._kept) < 20


def test_who_waits_for_files_keeps_no_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        write(tmp_path / name, [make_record(step) for step in range(12)])
    plugin, client = open_plugin(tmp_path)
    ask(client, "runs")
    waiting, go_on = threading.Semaphore(0), threading.Event()
    look = plugin._sources.of("").refresher.ask

    def wait_for_a(run: str | None = None) -> None:
        if run == "a":
            waiting.release()
            assert go_on.wait(ENOUGH)
        look(run)

    monkeypatch.setattr(plugin._sources.of("").refresher, "ask", wait_for_a)
    monkeypatch.setattr(plugins, "MOST_WAIT", 2 * ENOUGH)
    with concurrent.futures.ThreadPoolExecutor(plugins.AT_ONCE + 3) as pool:
        held = [pool.submit(ask, client, f"batches?{RUN}") for _ in range(plugins.AT_ONCE + 1)]
        for _ in held:
            assert waiting.acquire(timeout=ENOUGH)
        asked = pool.submit(ask, client, "batches?run=b&phase=train")
        try:
            assert json.loads(asked.result(ENOUGH / 2))["total"] == 12
        finally:
            go_on.set()
        assert [json.loads(future.result(ENOUGH))["total"] for future in held] == [12] * len(held)


@pytest.mark.parametrize(
    ("greatest", "dtype"), [(255, "uint8"), (256, "uint16"), (65_535, "uint16"), (65_536, "uint32")]
)
def test_counts_are_of_the_smallest_type_that_holds_them(greatest: int, dtype: str) -> None:
    for given in (np.uint32, np.int64):
        narrowed = answers.narrow_counts(np.array([[0, 3], [greatest, 1]], given))
        assert narrowed.dtype == dtype
        assert narrowed.tolist() == [[0, 3], [greatest, 1]]
    assert answers.narrow_counts(np.zeros((0, 0), np.uint32)).dtype == "uint8"
    assert answers.narrow_counts(np.array([2**40])).tolist() == [2**32 - 1]


def test_a_matrix_of_many_samples_equals_scikit_learn(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    targets = np.where(generator.random(3000) < 0.4, 2, generator.integers(0, 4, 3000)).astype(np.int32)
    predicted = np.where(generator.random(3000) < 0.8, targets, generator.integers(0, 4, 3000))
    scores = np.eye(4, dtype=np.float32)[predicted]
    write(tmp_path / "a", [make_record(0, outputs={"scores": OutputRecord(predictions=scores, targets=targets)})])

    _, arrays = unpack_arrays(ask(open_plugin(tmp_path)[1], f"confusion?{RUN}"))

    assert arrays["counts"].dtype == "uint16"
    assert arrays["counts"].tolist() == metrics.confusion_matrix(targets, predicted).tolist()


@pytest.mark.parametrize("size", [10, 20_000, 400_000])
def test_answers_are_compressed_without_loss(size: int) -> None:
    generator = np.random.default_rng(4)
    counts = generator.poisson(6, size).astype(np.uint8)
    for answer in (pack_arrays({"shown": 1}, {"counts": counts}), {"classes": counts.tolist()}):
        plain, packed = pack(answer, gzipped=False), pack(answer, gzipped=True)
        assert packed.gzipped == (len(plain.content) >= 1024)
        assert not plain.gzipped
        assert (gzip.decompress(packed.content) if packed.gzipped else packed.content) == plain.content
        assert packed == pack(answer, gzipped=True)  # the same answer is the same bytes
        assert packed.content_type == plain.content_type
