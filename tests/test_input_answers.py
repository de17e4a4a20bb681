"""The route `thumbnail` over HTTP: what was recorded, files that ids name, and nothing else."""

from __future__ import annotations

import argparse
import concurrent.futures
import io
import json
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from recorded import frames, make_record, write
from tensorboard import program
from tensorboard.backend.application import TensorBoardWSGI
from tensorboard.backend.security_validator import SecurityValidatorMiddleware
from tensorboard.plugins import base_plugin
from tensorboard.plugins.core import core_plugin
from werkzeug.test import Client, TestResponse

from tb_batchview.loader import BatchViewLoader
from tb_batchview.pictures import MAX_FILE_BYTES
from tb_batchview.plugin import BatchViewPlugin
from tb_batchview.writer import BatchWriter

BASE = "/data/plugin/batchview/"
RNG = np.random.default_rng(7)
SMALL = RNG.integers(0, 256, (6, 28, 28), np.uint8)
LARGE = np.repeat(np.repeat(RNG.integers(0, 256, (6, 5, 5, 3), np.uint8), 12, axis=1), 12, axis=2)
TEXTS = ["plain", '<img src=x onerror="alert(1)">', "NaN", "\u202e\u05e9\u05dc\u05d5\u05dd", '{"text": 1}', ""]
SCORES = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]]
TARGETS = np.array([0, 1, 2, 1, 2, 0])


def write_run(logdir: Path, name: str, **fields: Any) -> None:
    with BatchWriter(logdir / name, task="multiclass") as writer:
        writer.add_batch(predictions=SCORES, targets=TARGETS, loss=0.5, **fields)


@pytest.fixture(scope="module")
def logdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("logs")
    write_run(directory, "small", inputs=SMALL)
    write_run(directory, "large", inputs=LARGE)
    write_run(directory, "text", inputs=TEXTS)
    write_run(directory, "nothing")
    write_run(directory, "numbers", sample_ids=np.arange(6))
    with BatchWriter(directory / "epochs", task="multiclass") as writer:
        for order in (np.arange(6), np.array([3, 5, 1, 0, 2, 4])):
            ids = np.array([f"{number}.png" for number in order], object)
            writer.add_batch(predictions=SCORES, targets=TARGETS, loss=0.5, sample_ids=ids, inputs=SMALL[order])
    return directory


def open_client(logdir: Path, images: Path | str = "") -> Client:
    flags = argparse.Namespace(batchview_images_dir=str(images), logdir_spec="")
    context = base_plugin.TBContext(logdir=str(logdir), flags=flags)
    return Client(TensorBoardWSGI([BatchViewPlugin(context, refresh_seconds=0, patience=60)]))


@pytest.fixture(scope="module")
def client(logdir: Path) -> Client:
    return open_client(logdir)


def ask(client: Client, run: str, sample: int, step: int = 0, **headers: str) -> TestResponse:
    request = f"{BASE}thumbnail?run={run}&phase=train&step={step}&sample={sample}"
    return client.get(request, headers={name.replace("_", "-"): text for name, text in headers.items()})


def pixels_of(response: TestResponse) -> np.ndarray:
    assert response.status_code == 200, response.get_data(as_text=True)
    image = Image.open(io.BytesIO(response.get_data()))
    assert response.content_type == Image.MIME[str(image.format)]
    return np.asarray(image)


def refusal_of(response: TestResponse) -> str:
    assert response.status_code == 404, response.get_data(as_text=True)
    assert response.content_type.startswith("text/plain")
    return response.get_data(as_text=True).removeprefix("Not found: ")


def kinds_of(client: Client) -> dict[str, Any]:
    runs = json.loads(client.get(BASE + "runs").get_data())["runs"]
    return {run["name"]: run["phases"][0]["inputs"] for run in runs}


# --- what was recorded ---


def test_small_pictures_are_those_recorded_to_the_bit(client: Client) -> None:
    for number, picture in enumerate(SMALL):
        response = ask(client, "small", number)
        assert response.content_type == "image/png"
        np.testing.assert_array_equal(pixels_of(response), picture)


def test_large_pictures_are_jpeg_and_look_as_they_did(client: Client) -> None:
    for number, picture in enumerate(LARGE):
        response = ask(client, "large", number)
        assert response.content_type == "image/jpeg"
        difference = np.abs(pixels_of(response).astype(int) - picture)
        assert np.median(difference) < 8


def test_a_picture_is_that_of_its_id_in_every_epoch(client: Client) -> None:
    for row, number in enumerate([3, 5, 1, 0, 2, 4]):
        np.testing.assert_array_equal(pixels_of(ask(client, "epochs", row, step=1)), SMALL[number])


def test_texts_come_as_json(client: Client) -> None:
    for number, text in enumerate(TEXTS[:5]):
        response = ask(client, "text", number)
        assert (response.status_code, response.content_type) == (200, "application/json")
        assert json.loads(response.get_data()) == {"text": text}


def test_nothing_is_guessed_from_the_content(client: Client) -> None:
    for run in ("small", "large", "text"):
        assert ask(client, run, 0).headers["X-Content-Type-Options"] == "nosniff"
    assert ask(client, "small", 0).headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_a_browser_keeps_a_picture_and_asks_whether_it_is_the_one(client: Client) -> None:
    first, other = ask(client, "small", 0), ask(client, "small", 1)

    again = ask(client, "small", 0, If_None_Match=first.headers["ETag"])
    changed = ask(client, "small", 1, If_None_Match=first.headers["ETag"])

    assert first.headers["ETag"] != other.headers["ETag"]
    assert "no-cache" in first.headers["Cache-Control"]
    assert "immutable" not in first.headers["Cache-Control"]
    assert (again.status_code, again.get_data()) == (304, b"")
    assert (changed.status_code, changed.get_data()) == (200, other.get_data())


def test_tensorboard_has_nothing_to_complain_of(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """It wants a type of every answer, of one without content, too."""
    guarded = Client(SecurityValidatorMiddleware(client.application))
    first = ask(guarded, "small", 0)

    again = ask(guarded, "small", 0, If_None_Match=first.headers["ETag"])

    assert (again.status_code, again.content_type) == (304, "image/png")
    assert ask(guarded, "text", 0).status_code == 200
    assert ask(guarded, "nothing", 0).status_code == 404
    assert caplog.messages == []


def test_head_has_no_body(client: Client) -> None:
    response = client.head(f"{BASE}thumbnail?run=small&phase=train&step=0&sample=0")

    assert (response.status_code, response.get_data()) == (200, b"")
    assert response.content_type == "image/png"


def test_runs_tell_what_there_is(client: Client) -> None:
    assert kinds_of(client) == {
        "epochs": "images",
        "large": "images",
        "nothing": None,
        "numbers": None,
        "small": "images",
        "text": "text",
    }


@pytest.mark.parametrize(
    ("run", "step", "sample", "sentence"),
    [
        ("small", 0, 6, "sample must be below 6 in batch 0. Received: sample=6."),
        ("small", 7, 0, "step must be a batch"),
        ("nowhere", 0, 0, "run must be one of"),
        ("nothing", 0, 0, "The input of sample 0 of batch 0 was not recorded. Record inputs, or show files"),
        ("text", 0, 5, "The input of sample 5 of batch 0 was not recorded."),
        ("numbers", 0, 1, "The input of sample 1 of batch 0 was not recorded."),
    ],
)
def test_where_there_is_none_a_sentence_says_so(
    client: Client, run: str, step: int, sample: int, sentence: str
) -> None:
    assert sentence in refusal_of(ask(client, run, sample, step))


@pytest.mark.parametrize("parameter", ["id=0.png", "path=/etc/passwd", "file=0.png", "url=http://a/", "dir=/"])
def test_a_request_cannot_name_a_file(client: Client, parameter: str) -> None:
    response = client.get(f"{BASE}thumbnail?run=small&phase=train&step=0&sample=0&{parameter}")

    assert response.status_code == 400
    assert "parameters must be of run, phase, output, step, sample." in response.get_data(as_text=True)


def test_bytes_that_are_no_picture_are_not_sent(tmp_path: Path) -> None:
    """Whatever the file says they are."""
    hostile = [
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        b"<html><script>alert(1)</script></html>",
        b"\x89PNG\r\n\x1a\n<script>alert(1)</script>",
        b"GIF89a<script>alert(1)</script>",
        b"\xff\xd8\xff\xe0",
        b"%PDF-1.7",
        bytes(100),
        b"RIFF\x00\x00\x00\x00WEBPVP8 ",
    ]
    write(tmp_path / "run", [make_record(0, inputs=np.array(hostile, object))])
    client = open_client(tmp_path)

    assert kinds_of(client) == {"run": "images"}
    for number in range(len(hostile)):
        assert "was not recorded" in refusal_of(ask(client, "run", number))
    warnings = json.loads(client.get(BASE + "runs").get_data())["runs"][0]["health"]["warnings"]
    assert [(item["kind"], item["count"]) for item in warnings] == [("read", len(hostile))]


def test_texts_that_begin_like_pictures_are_texts(tmp_path: Path) -> None:
    texts = ["RIFF1234WEBPVP8 ", "GIF89a", "BM", "%PDF", "a", "b", "c", "d"]
    write(tmp_path / "run", [make_record(0, inputs=np.array(texts, object))])
    client = open_client(tmp_path)

    found = [json.loads(ask(client, "run", number).get_data())["text"] for number in range(8)]

    assert found == texts


def test_each_of_several_workers_has_its_own_samples(tmp_path: Path) -> None:
    writers = [BatchWriter(tmp_path / "run", task="multiclass", worker=worker, workers=2) for worker in range(2)]
    for worker, writer in enumerate(writers):
        half = slice(3 * worker, 3 * worker + 3)
        writer.add_batch(predictions=SCORES[half], targets=TARGETS[half], loss=0.5, inputs=SMALL[half])
    for writer in writers:
        writer.close()
    client = open_client(tmp_path)

    assert kinds_of(client) == {"run": "images"}
    for number, picture in enumerate(SMALL):
        np.testing.assert_array_equal(pixels_of(ask(client, "run", number)), picture)


def test_of_several_outputs_any_has_the_inputs(tmp_path: Path) -> None:
    with BatchWriter(tmp_path / "run") as writer:
        both = {"predictions": {"a": SCORES, "b": SCORES}, "targets": {"a": TARGETS, "b": TARGETS}}
        writer.add_batch(loss=0.5, inputs=SMALL, **both)
    client = open_client(tmp_path)

    for output in ("a", "b"):
        response = client.get(f"{BASE}thumbnail?run=run&phase=train&step=0&sample=2&output={output}")
        np.testing.assert_array_equal(pixels_of(response), SMALL[2])


# --- files that ids name ---


@pytest.fixture
def images(tmp_path: Path) -> Path:
    directory = tmp_path / "images"
    (directory / "cats").mkdir(parents=True)
    for name, colour in (("red.png", (255, 0, 0)), ("cats/1.png", (0, 255, 0)), ("0.png", (0, 0, 255))):
        Image.new("RGB", (40, 30), colour).save(directory / name)
    Image.new("RGB", (400, 300), (255, 0, 0)).save(tmp_path / "secret.png")
    return directory


def write_ids(directory: Path, *ids: str) -> Path:
    """Write a run whose samples have these ids; return its log directory."""
    assert len(ids) <= 6
    padded = [*ids, *(f"none-{number}" for number in range(6 - len(ids)))]
    write_run(directory / "logs", "run", sample_ids=np.array(padded, object))
    return directory / "logs"


def test_files_are_shown_by_the_ids_that_name_them(tmp_path: Path, images: Path) -> None:
    client = open_client(write_ids(tmp_path, "red.png", "cats/1.png", "./cats//1.png"), images)

    assert kinds_of(client) == {"run": "images"}
    shown = [pixels_of(ask(client, "run", number)) for number in range(3)]
    assert [picture.shape for picture in shown] == [(30, 40, 3)] * 3
    assert [picture[0, 0].tolist() for picture in shown] == [[255, 0, 0], [0, 255, 0], [0, 255, 0]]
    headers = ask(client, "run", 0).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert ask(client, "run", 0, If_None_Match=headers["ETag"]).status_code == 304


def test_without_the_flag_no_file_is_shown(tmp_path: Path, images: Path) -> None:
    client = open_client(write_ids(tmp_path, "red.png", str(images / "red.png")))

    assert kinds_of(client) == {"run": None}
    assert "was not recorded" in refusal_of(ask(client, "run", 0))
    assert "was not recorded" in refusal_of(ask(client, "run", 1))


def test_what_was_recorded_comes_before_files(logdir: Path, images: Path) -> None:
    client = open_client(logdir, images)

    assert kinds_of(client)["text"] == "text"
    np.testing.assert_array_equal(pixels_of(ask(client, "epochs", 0)), SMALL[0])


def test_numbers_name_no_file(logdir: Path, images: Path) -> None:
    (images / "1").write_bytes((images / "red.png").read_bytes())
    client = open_client(logdir, images)

    assert kinds_of(client)["numbers"] is None
    assert "was not recorded" in refusal_of(ask(client, "numbers", 1))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../secret.png", "it must be relative, without .."),
        ("cats/../../secret.png", "it must be relative, without .."),
        ("/etc/passwd", "it must be relative, without .."),
        ("red.png\0.txt", "it is not the name of a file"),
        ("x" * 5000, "it is not the name of a file"),
        ("missing.png", "there is no such file"),
        ("%2e%2e/secret.png", "there is no such file"),
        ("file:///etc/passwd", "there is no such file"),
        ("~/secret.png", "there is no such file"),
        ("cats", "it is no regular file"),
        ("pipe", "it is no regular file"),
        ("out.png", "it leads out of the directory"),
        ("out/secret.png", "it leads out of the directory"),
        ("zero", "it leads out of the directory"),
        ("huge.png", f"it is larger than {MAX_FILE_BYTES >> 20} MB"),
        ("text.png", "it is no picture that can be read"),
        ("vector.svg", "it is no picture that can be read"),
        ("program.py", "it is no picture that can be read"),
    ],
)
def test_ids_that_name_no_picture_are_refused(tmp_path: Path, images: Path, name: str, reason: str) -> None:
    os.mkfifo(images / "pipe")
    (images / "out.png").symlink_to(tmp_path / "secret.png")
    (images / "out").symlink_to("..")
    (images / "zero").symlink_to("/dev/zero")
    with (images / "huge.png").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    (images / "text.png").write_text("no picture")
    (images / "vector.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (images / "program.py").write_text("raise SystemExit")
    client = open_client(write_ids(tmp_path, name), images)

    assert refusal_of(ask(client, "run", 0)) == (
        "The id of a sample must be the name of a picture in the directory of --batchview_images_dir. "
        f"Received: id={name[:80]!r}: {reason}."
    )


def test_a_directory_that_is_made_later_is_found(tmp_path: Path, images: Path) -> None:
    logdir = write_ids(tmp_path, "red.png")
    client = open_client(logdir, tmp_path / "later")
    assert kinds_of(client) == {"run": None}
    assert refusal_of(ask(client, "run", 0)).endswith("there is no such file.")

    images.rename(tmp_path / "later")

    assert kinds_of(client) == {"run": "images"}
    assert pixels_of(ask(client, "run", 0))[0, 0].tolist() == [255, 0, 0]


def test_a_file_that_changes_is_shown_anew(tmp_path: Path, images: Path) -> None:
    client = open_client(write_ids(tmp_path, "red.png"), images)
    before = ask(client, "run", 0)
    Image.new("RGB", (41, 30), (0, 0, 255)).save(images / "red.png")

    after = ask(client, "run", 0, If_None_Match=before.headers["ETag"])

    assert pixels_of(after)[0, 0].tolist() == [0, 0, 255]


def test_many_ask_at_once(tmp_path: Path, images: Path) -> None:
    logdir = write_ids(tmp_path, "red.png", "cats/1.png", "0.png", "../secret.png", "missing", "cats")
    client = open_client(logdir, images)
    expected = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]

    def look(number: int) -> object:
        response = ask(client, "run", number % 6)
        return response.status_code if number % 6 > 2 else pixels_of(response)[0, 0].tolist()

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        found = list(pool.map(look, range(240)))

    assert found == [*expected, 404, 404, 404] * 40


def test_a_growing_run_gets_its_inputs_known(tmp_path: Path) -> None:
    """What there is to show is remembered, and looked for again when there is more."""
    path = write(tmp_path / "run", [make_record(0)])
    client = open_client(tmp_path)
    assert kinds_of(client) == {"run": None}

    pictures = [b""] * 7 + [pictures_png()]
    grown = frames([make_record(0), make_record(1, inputs=np.array(pictures, object))])
    path.write_bytes(b"".join(grown))

    assert kinds_of(client) == {"run": "images"}


def pictures_png() -> bytes:
    file = io.BytesIO()
    Image.new("L", (5, 5)).save(file, "PNG")
    return file.getvalue()


# --- the flag ---


def findings(client: Client) -> list[dict[str, str]]:
    return json.loads(client.get(BASE + "doctor").get_data())["findings"]  # type: ignore[no-any-return]


def test_doctor_tells_where_pictures_are_from(logdir: Path, tmp_path: Path) -> None:
    about = "pictures by id"
    assert [finding for finding in findings(open_client(logdir)) if finding["about"] == about] == []

    right, wrong = findings(open_client(logdir, tmp_path)), findings(open_client(logdir, tmp_path / "no\x1b"))

    assert {"about": about, "state": f"files in {tmp_path}", "remedy": ""} in right
    assert {
        "about": about,
        "state": f"{tmp_path}/no\\x1b is no directory",
        "remedy": "tensorboard --batchview_images_dir DIR, where the ids name files",
    } in wrong


@pytest.mark.parametrize(("given", "expected"), [([], ""), (["--batchview_images_dir", "pictures"], "pictures")])
def test_tensorboard_knows_the_flag(tmp_path: Path, given: list[str], expected: str) -> None:
    board = program.TensorBoard(plugins=[core_plugin.CorePluginLoader, BatchViewLoader])

    board.configure(argv=["tensorboard", "--logdir", str(tmp_path), *given])

    assert board.flags.batchview_images_dir == expected


def test_a_flag_that_cannot_be_added_does_not_end_tensorboard(caplog: pytest.LogCaptureFixture) -> None:
    parser = argparse.ArgumentParser()
    BatchViewLoader().define_flags(parser)

    BatchViewLoader().define_flags(parser)
    BatchViewLoader().define_flags(None)  # type: ignore[arg-type]

    caplog.set_level(logging.WARNING)
    assert [message.partition(":")[0] for message in caplog.messages] == ["Batch View could not add its flag"] * 2
    assert parser.parse_args([]).batchview_images_dir == ""


def test_a_directory_relative_to_where_tensorboard_was_started(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    client = open_client(write_ids(tmp_path, "red.png"), images.name)
    monkeypatch.chdir("/")

    assert pixels_of(ask(client, "run", 0))[0, 0].tolist() == [255, 0, 0]
