"""The routes over HTTP: against docs/http-api.md, the arrays written, bad input and many threads."""

from __future__ import annotations

import concurrent.futures
import gzip
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recorded import append, event_file, frames, make_record, make_summary, write
from sklearn import metrics
from tensorboard.backend.application import TensorBoardWSGI
from tensorboard.plugins import base_plugin
from werkzeug.test import Client, TestResponse

from tb_batchview import answers, identity, seriation, tfrecord
from tb_batchview import plugin as plugins
from tb_batchview.http import unpack_arrays
from tb_batchview.log import load
from tb_batchview.plugin import BatchViewPlugin, find_roots
from tb_batchview.records import BatchRecord, GradientSummary, LayerSummary, OutputRecord, OutputSpec
from tb_batchview.writer import BatchWriter

BASE = "/data/plugin/batchview/"
GOLDEN = Path(__file__).parent.parent / "tb_batchview_frontend" / "test" / "golden"
UPDATE = "UPDATE_GOLDEN"
TIME = 1_780_000_000.0
DIGITS = "run=digits&phase=train"
FLOWERS = "run=digits&phase=validation"  # the same twelve samples three times
AGAINST_VALIDATION = "against_run=digits&against_phase=validation"
AGAINST_REST = "against_run=digits&against_phase=train&against_start=12"

# All figures below are sums of powers of two: every mean of them is exact on every machine.


def scores_of(step: int, samples: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities and targets; step 13 is wrong all over."""
    sample = np.arange(samples)
    targets = (sample * 3 + step) % classes
    wrong = (sample + step) % 5 == 0 if step != 13 else np.ones(samples, bool)
    predicted = np.where(wrong, (targets + 1 + sample % 2) % classes, targets)
    confidence = 0.5 + ((sample * 7 + step) % 16) / 32
    predictions = np.repeat((1 - confidence)[:, None] / 4, classes, axis=1)
    predictions[sample, (predicted + 1) % classes] += 1 - confidence - (classes - 1) * (1 - confidence) / 4
    predictions[sample, predicted] = confidence
    return predictions.astype(np.float32), targets.astype(np.int32)


def summary_of(step: int, scale: float) -> LayerSummary:
    histogram = np.array([32, 16, 8, 4, 2, 1, 0, 1], np.float32)
    # Unit 1 is dead from step 12 on, unit 3 is saturated in step 8; the mean of a unit is its number times the scale.
    return LayerSummary(
        64,
        scale,
        scale / 2,
        0,
        4 * scale,
        0.25 + step / 64,
        0,
        histogram,
        unit_means=scale * np.arange(4, dtype=np.float32),
        unit_zeros=np.array([0.25, 1 if step >= 12 else 0.5, 0, 0.125], np.float32),
        unit_saturated=np.array([0, 0, 0.25, 1 if step == 8 else 0.5], np.float32),
    )


def gradient_of(step: int, scale: float) -> GradientSummary:
    histogram = np.array([2, 4, 8, 2], np.float32)
    norm = float("nan") if step == 20 else 64 * scale if step == 13 else scale
    return GradientSummary(16, scale / 4, scale / 8, -scale, scale, 0.125, 0, norm=norm, histogram=histogram)


def write_digits(logdir: Path, metrics_from: int = 1) -> None:
    """Write 24 batches of a classifier with a spike, ids, weights, layers; the first has no metrics."""
    with BatchWriter(logdir / "digits", task="multiclass", class_names=["zero", "one", "two", "three"]) as writer:
        for step in range(24):
            samples = 12 if step % 8 == 7 else 16
            predictions, targets = scores_of(step, samples, 4)
            loss = (np.arange(samples) % 4 + 1) / 8 + (8 if step == 13 else 0)
            writer.add_batch(
                step=step,
                epoch=step // 8,
                index=step % 8,
                wall_time=TIME + step / 2,
                predictions={"probabilities": predictions},
                targets={"probabilities": targets},
                sample_loss={"probabilities": loss},
                sample_weight={"probabilities": np.full(samples, 0.5)},
                sample_ids={"probabilities": np.array([f"img_{step}_{i}.png" for i in range(samples)], object)},
                loss=float("nan") if step == 20 else float(loss.mean()),
                metrics={"accuracy": float(np.mean(predictions.argmax(axis=1) == targets))}
                if step >= metrics_from
                else {},
                histograms={"conv2d": summary_of(step, 1.0), "dense": summary_of(step, 8.0 if step == 13 else 2.0)}
                if step % 4 == 0 or step == 13
                else None,
                gradients={"conv2d": gradient_of(step, 0.25), "dense": gradient_of(step, 0.5)}
                if step % 4 == 0 or step == 13
                else None,
            )
            if step % 8 == 7:
                writer.add_batch(
                    phase="validation",
                    epoch=step // 8,
                    index=0,
                    wall_time=TIME + step / 2,
                    predictions={"probabilities": predictions},
                    targets={"probabilities": targets},
                    sample_ids={"probabilities": np.array([f"flower_{i}.png" for i in range(samples)], object)},
                    loss=0.5,
                )


def write_others(logdir: Path) -> None:
    """Write a regression, a multilabel, and a binary run."""
    sample = np.arange(8)
    with BatchWriter(logdir / "age", task="regression") as writer:
        for step in range(6):
            truth = (sample * 5 + step)[:, None] / 4
            error = ((sample - 4) / 8)[:, None] * (6 - step)
            writer.add_batch(step=step, wall_time=TIME + step, predictions=truth + error, targets=truth, loss=0.25)
    with BatchWriter(logdir / "tags", task="multilabel", class_names=["cat", "dog", "sky"]) as writer:
        for step in range(6):
            truth = ((sample[:, None] + np.arange(3) * step) % 3 == 0).astype(np.float32)
            scores = np.where((sample[:, None] + np.arange(3)) % 4 == 0, 1 - truth, truth) * 0.5 + 0.25
            texts = [f"picture {number} of step {step}" for number in sample.tolist()]
            writer.add_batch(
                step=step, wall_time=TIME + step, predictions=scores, targets=truth, loss=0.5, inputs=texts
            )
    with BatchWriter(logdir / "spam", task="binary", class_names=["ham", "spam"]) as writer:
        for step in range(6):
            truth = (sample + step) % 2
            scores = np.where(sample % 4 == 0, 1 - truth, truth) * 0.5 + 0.25
            writer.add_batch(step=step, wall_time=TIME + step, predictions=scores[:, None], targets=truth, loss=0.5)


@pytest.fixture(scope="module")
def logdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("logs")
    write_digits(directory)
    write_others(directory)
    return directory


def open_client(logdir: Path) -> Client:
    plugin = BatchViewPlugin(base_plugin.TBContext(logdir=str(logdir)), refresh_seconds=0, patience=60)
    return Client(TensorBoardWSGI([plugin]))


@pytest.fixture(scope="module")
def client(logdir: Path) -> Client:
    return open_client(logdir)


def get_json(client: Client, request: str) -> Any:
    response = client.get(BASE + request)
    assert response.status_code == 200, response.get_data(as_text=True)
    assert response.content_type == "application/json"
    return json.loads(response.get_data())


def get_arrays(client: Client, request: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    response = client.get(BASE + request)
    assert response.status_code == 200, response.get_data(as_text=True)
    assert response.content_type == "application/octet-stream"
    return unpack_arrays(response.get_data())


# --- the document ---

# The requests whose answers the samples of each section show, in their order.
DOCUMENTED = {
    "runs": ["runs?run=digits"],
    "batches": [
        f"batches?{DIGITS}&points=100",
        f"batches?{DIGITS}&sort=loss&descending=1",
        f"batches?{DIGITS}&{AGAINST_REST}",
    ],
    "batch": [f"batch?{DIGITS}&step=13&outcome=wrong"],
    "sample": [f"sample?{DIGITS}&step=13&sample=2"],
    "thumbnail": ["thumbnail?run=tags&phase=train&step=2&sample=1"],
    "samples": [f"samples?{DIGITS}&outcome=wrong"],
    "data_map": [f"data_map?{DIGITS}"],
    "joined": [f"joined?{FLOWERS}&against_run=digits&against_phase=validation&against_stop=2"],
    "classes": [
        f"classes?{DIGITS}",
        "classes?run=age&phase=train",
        f"classes?{DIGITS}&{AGAINST_REST}",
        "classes?run=age&phase=train&against_run=age&against_phase=train&against_start=3",
    ],
    "confusion": [f"confusion?{DIGITS}", f"confusion?{DIGITS}&order=clustered", f"confusion?{DIGITS}&{AGAINST_REST}"],
    "class_trend": [f"class_trend?{DIGITS}&points=8"],
    "calibration": [f"calibration?{DIGITS}"],
    "thresholds": ["thresholds?run=spam&phase=train"],
    "residuals": ["residuals?run=age&phase=train"],
    "label_errors": ["label_errors?run=tags&phase=train"],
    "layers": [f"layers?{DIGITS}"],
    "layer": [f"layer?{DIGITS}&layer=dense"],
    "units": [f"units?{DIGITS}&layer=dense"],
    "dead_units": [f"dead_units?{DIGITS}&layer=dense"],
    "gradients": [f"gradients?{DIGITS}"],
    "gradient": [f"gradient?{DIGITS}&layer=dense"],
    "doctor": ["doctor?run=digits"],
}
DOCUMENTED_TABLES = [f"export?{DIGITS}&start=2&stop=3&scores=0", f"export?{DIGITS}&table=batches&start=2&stop=4"]


def documented_samples(root: Path) -> Iterator[tuple[str, int, Any]]:
    text = (root / "docs" / "http-api.md").read_text("utf-8")
    for section in text.split("\n## ")[1:]:
        route = re.match(r"`([a-z_]+)`\n", section)
        for number, block in enumerate(re.findall(r"```json\n(.*?)```", section, re.DOTALL)):
            assert route is not None, section[:40]
            yield route[1], number, json.loads(block)


def assert_alike(documented: Any, answered: Any, path: str) -> None:
    """Compare keys and kinds of values, all the way down."""
    if documented is None or answered is None:
        return
    if isinstance(documented, dict):
        assert isinstance(answered, dict), path
        assert set(documented) == set(answered), path
        for key in documented:
            assert_alike(documented[key], answered[key], f"{path}.{key}")
    elif path.endswith(".arrays"):
        assert [(item["name"], item["dtype"]) for item in documented] == [
            (item["name"], item["dtype"]) for item in answered
        ], path
    elif isinstance(documented, list):
        assert isinstance(answered, list), path
        for item in answered:
            assert_alike(documented[0] if documented else item, item, f"{path}[]")
    else:
        kinds = [
            "number" if isinstance(value, (int, float)) or value == "NaN" else type(value).__name__
            for value in (documented, answered)
        ]
        assert kinds[0] == kinds[1], path


def test_every_answer_has_the_keys_of_the_document(client: Client, root: Path) -> None:
    seen = []
    for route, number, documented in documented_samples(root):
        response = client.get(BASE + DOCUMENTED[route][number])
        body = response.get_data()
        if response.content_type == "application/json":
            answered = json.loads(body)
        else:
            answered = json.loads(body[8 : 8 + int.from_bytes(body[4:8], "little")])
        assert_alike(documented, answered, route)
        seen.append((route, number))
    assert seen == [(route, number) for route, requests in DOCUMENTED.items() for number in range(len(requests))]


def test_every_table_has_the_lines_of_the_document(client: Client, root: Path) -> None:
    text = (root / "docs" / "http-api.md").read_text("utf-8")
    blocks = re.findall(r"`(export\?[^`]+)`[^`]*```csv\n(.*?)```", text, re.DOTALL)

    assert [request for request, _ in blocks] == DOCUMENTED_TABLES
    for request, block in blocks:
        response = client.get(BASE + request)
        assert response.content_type == "text/csv; charset=utf-8"
        assert response.get_data(as_text=True).startswith(block)


def test_every_route_is_documented(root: Path) -> None:
    plugin = BatchViewPlugin(base_plugin.TBContext(logdir="."))
    text = (root / "docs" / "http-api.md").read_text("utf-8")

    assert {route.split("/")[1] for route in plugin.get_plugin_apps()} == {
        re.split("[/`]", title)[0] for title in re.findall(r"^## `([^`]+)`", text, re.MULTILINE)
    }


# --- golden answers, which the tests of the frontend read ---

GOLDEN_REQUESTS = {
    "runs.json": "runs",
    "run.json": "runs?run=digits",
    "timeline.bin": f"batches?{DIGITS}&points=1000",
    "timeline-decimated.bin": f"batches?{DIGITS}&points=5",
    "timeline-regression.bin": "batches?run=age&phase=train&points=1000",
    "batches.json": f"batches?{DIGITS}&limit=50",
    "batch.json": f"batch?{DIGITS}&step=13&outcome=wrong",
    "batch-regression.json": "batch?run=age&phase=train&step=2",
    "sample.json": f"sample?{DIGITS}&step=13&sample=2",
    "sample-multilabel.json": "sample?run=tags&phase=train&step=2&sample=1",
    "thumbnail-text.json": "thumbnail?run=tags&phase=train&step=2&sample=1",
    "samples.json": f"samples?{DIGITS}&target=1&predicted=2&sort=confidence&descending=1",
    "sample-history.json": f"sample?{FLOWERS}&step=2&sample=3",
    "samples-each.json": f"samples?{FLOWERS}&each=last&sort=margin",
    "data_map.bin": f"data_map?{FLOWERS}",
    "classes.json": f"classes?{DIGITS}&sort=recall",
    "classes-multilabel.json": "classes?run=tags&phase=train",
    "classes-regression.json": "classes?run=age&phase=train",
    "confusion.bin": f"confusion?{DIGITS}",
    "confusion-binary.bin": "confusion?run=spam&phase=train",
    "confusion-clustered.bin": f"confusion?{DIGITS}&order=clustered",
    "class_trend.bin": f"class_trend?{DIGITS}&points=8",
    "calibration.json": f"calibration?{DIGITS}",
    "thresholds.bin": "thresholds?run=spam&phase=train",
    "residuals.bin": "residuals?run=age&phase=train",
    "label_errors.bin": "label_errors?run=tags&phase=train",
    "layers.json": f"layers?{DIGITS}",
    "layer.bin": f"layer?{DIGITS}&layer=dense",
    "batches-against.json": f"batches?{DIGITS}&sort=loss_change&limit=6&{AGAINST_VALIDATION}",
    "joined.json": f"joined?{FLOWERS}&against_run=digits&against_phase=validation&against_stop=2&sort=loss_change",
    "classes-against.json": f"classes?{DIGITS}&stop=12&sort=recall_change&{AGAINST_REST}",
    "confusion-against.bin": f"confusion?{DIGITS}&stop=12&{AGAINST_REST}",
    "layer-against.bin": f"layer?{DIGITS}&layer=dense&stop=12&{AGAINST_REST}",
    "units.bin": f"units?{DIGITS}&layer=dense",
    "units-saturated.bin": f"units?{DIGITS}&layer=dense&figure=saturated_fraction&points=3&limit=2",
    "dead_units.json": f"dead_units?{DIGITS}&layer=dense&last=3",
    "gradients.bin": f"gradients?{DIGITS}",
    "gradient.bin": f"gradient?{DIGITS}&layer=dense",
}


def golden_answer(client: Client, logdir: Path, request: str) -> bytes:
    response = client.get(BASE + request)
    assert response.status_code == 200, response.get_data(as_text=True)
    body = response.get_data()
    if response.content_type != "application/json":
        return body
    answer = json.loads(body)
    if "logdir" in answer:
        assert answer["logdir"] == str(logdir)
        answer["logdir"] = "/home/ada/logs"
    return (json.dumps(answer, indent=1) + "\n").encode()


@pytest.mark.parametrize("name", GOLDEN_REQUESTS)
def test_golden_answers_are_current(client: Client, logdir: Path, name: str) -> None:
    answer = golden_answer(client, logdir, GOLDEN_REQUESTS[name])
    if os.environ.get(UPDATE):
        GOLDEN.mkdir(parents=True, exist_ok=True)
        (GOLDEN / name).write_bytes(answer)

    assert (GOLDEN / name).read_bytes() == answer, f"Run {UPDATE}=1 pytest tests/test_plugin.py, and look at the diff."


# --- what the answers say ---


def all_samples(steps: range) -> tuple[np.ndarray, np.ndarray]:
    drawn = [scores_of(step, 12 if step % 8 == 7 else 16, 4) for step in steps]
    predicted = np.concatenate([predictions.argmax(axis=1) for predictions, _ in drawn])
    return np.concatenate([targets for _, targets in drawn]), predicted


def test_runs_lists_what_was_written(client: Client) -> None:
    answer = get_json(client, "runs")

    assert [run["name"] for run in answer["runs"]] == ["age", "digits", "spam", "tags"]
    digits = answer["runs"][1]
    assert [phase["name"] for phase in digits["phases"]] == ["train", "validation"]
    assert digits["phases"][0]["samples"] == 21 * 16 + 3 * 12
    assert digits["outputs"] == [{"name": "probabilities", "task": "multiclass", "classes": 4, "activation": None}]
    assert digits["layers"] == ["conv2d", "dense"]


def test_timeline_keeps_every_batch_when_there_is_room(client: Client) -> None:
    header, arrays = get_arrays(client, f"batches?{DIGITS}&points=1000")

    assert header["bucket"] == 1
    assert arrays["step"].tolist() == list(range(24))
    assert arrays["loss_mean"][13] == pytest.approx(8.3125)
    assert np.isnan(arrays["loss_mean"][20])
    assert arrays["nonfinite"].tolist() == [int(step == 20) for step in range(24)]
    assert [spike["step"] for spike in header["spikes"]] == [20, 13]
    rows = {row["step"]: row for row in get_json(client, f"batches?{DIGITS}")["rows"]}
    of_batch = {key: rows[20][key] for key in ("step", "epoch", "loss", "error_rate", "worst")}
    assert header["spikes"][0] == of_batch | {"loss": "NaN", "ratio": None}
    assert of_batch["worst"]["count"] > 0
    assert header["epochs"] == [{"epoch": epoch, "step": 8 * epoch} for epoch in range(3)]
    target, predicted = all_samples(range(24))
    assert header["error_rate"] == pytest.approx(np.mean(target != predicted))
    assert sum(header["outcomes"].values()) == len(target)


def test_timeline_of_a_range_compares_with_what_was_before(client: Client) -> None:
    header, arrays = get_arrays(client, f"batches?{DIGITS}&points=3&start=12&stop=18")

    assert (header["batches"], header["first_step"], header["last_step"]) == (6, 12, 17)
    assert arrays["step"].tolist() == [12, 14, 16]
    assert arrays["loss_max"][0] == pytest.approx(8.3125)
    assert [spike["step"] for spike in header["spikes"]] == [13]


def test_an_empty_range_has_empty_answers(client: Client) -> None:
    header, arrays = get_arrays(client, f"batches?{DIGITS}&points=10&start=500")
    assert (header["batches"], header["first_step"], header["loss"], header["spikes"]) == (0, None, None, [])
    assert {array.shape for array in arrays.values()} == {(0,)}

    assert get_json(client, f"batches?{DIGITS}&start=500")["rows"] == []
    assert get_json(client, f"batches?{DIGITS}&start=500")["maxima"] == {"loss": None, "error_rate": None}
    assert get_json(client, f"samples?{DIGITS}&start=5&stop=5")["samples"] == []
    assert get_json(client, f"classes?{DIGITS}&start=500")["accuracy"] is None
    assert get_json(client, f"layers?{DIGITS}&start=500")["layers"] == []
    assert get_arrays(client, f"confusion?{DIGITS}&start=500")[1]["counts"].sum() == 0
    assert get_arrays(client, f"layer?{DIGITS}&layer=dense&start=500")[1]["histogram"].shape == (0, 60)


def test_a_batch_without_layers_names_the_nearest_that_has_them(client: Client) -> None:
    answers = [get_json(client, f"batch?{DIGITS}&step={step}") for step in range(24)]

    having = [answer["step"] for answer in answers if answer["layers"]]
    assert 0 < len(having) < 24
    for answer in answers:
        assert answer["summarised"] in having
        assert abs(answer["summarised"] - answer["step"]) == min(abs(step - answer["step"]) for step in having)
    assert get_json(client, "batch?run=spam&phase=train&step=0")["summarised"] is None


def test_batches_are_sorted_and_paged(client: Client) -> None:
    answer = get_json(client, f"batches?{DIGITS}&sort=loss&descending=1&limit=2&offset=0")

    assert [row["step"] for row in answer["rows"]] == [13, 0]
    assert answer["total"] == 24
    assert answer["maxima"]["loss"] == pytest.approx(8.3125)
    # Missing values come last in both directions: step 0 has no accuracy.
    for descending in (0, 1):
        page = get_json(client, f"batches?{DIGITS}&sort=metrics.accuracy&descending={descending}&offset=23&limit=5")
        assert [(row["step"], row["metrics"]) for row in page["rows"]] == [(0, {"accuracy": None})]


def test_find_gives_the_page_that_holds_a_batch(client: Client) -> None:
    for request in ("sort=step", "sort=loss&descending=1", "sort=confidence"):
        answer = get_json(client, f"batches?{DIGITS}&{request}&limit=5&find=17")
        assert 17 in [row["step"] for row in answer["rows"]]
        assert answer["offset"] % 5 == 0


def test_worst_confusion_is_the_most_frequent_of_the_batch(client: Client) -> None:
    for row in get_json(client, f"batches?{DIGITS}")["rows"]:
        target, predicted = all_samples(range(row["step"], row["step"] + 1))
        confusion = metrics.confusion_matrix(target, predicted, labels=range(4))
        np.fill_diagonal(confusion, 0)
        first, second = np.unravel_index(confusion.argmax(), confusion.shape)
        assert row["worst"] == {"target": first, "predicted": second, "count": confusion.max()}


def test_an_output_without_samples_in_a_phase_has_empty_answers(tmp_path: Path) -> None:
    spec = OutputSpec("multiclass", 4)
    write(tmp_path / "one", [make_record(step, outputs={}) for step in range(3)], specs={"scores": spec})
    client = open_client(tmp_path)

    header, arrays = get_arrays(client, "confusion?run=one&phase=train")

    assert (header["batches"], header["samples"]) == (3, 0)
    assert arrays["counts"].shape == (4, 4)
    assert not arrays["counts"].any()
    assert [row["support"] for row in get_json(client, "classes?run=one&phase=train")["classes"]] == [0] * 4
    assert get_json(client, "samples?run=one&phase=train")["total"] == 0


def test_batch_shows_its_samples(client: Client) -> None:
    predictions, targets = scores_of(13, 16, 4)

    answer = get_json(client, f"batch?{DIGITS}&step=13&sort=sample&descending=0")

    assert (answer["previous"], answer["next"], answer["total"]) == (12, 14, 16)
    assert [sample["sample"] for sample in answer["samples"]] == list(range(16))
    assert [sample["target"] for sample in answer["samples"]] == targets.tolist()
    assert [sample["id"] for sample in answer["samples"]] == [f"img_13_{number}.png" for number in range(16)]
    assert [sample["weight"] for sample in answer["samples"]] == [0.5] * 16
    for sample, scores in zip(answer["samples"], predictions, strict=True):
        best = np.argsort(-scores, kind="stable")[:3]
        assert sample["top"] == [{"class": int(number), "score": float(scores[number])} for number in best]
    assert sum(mix["target"] for mix in answer["class_mix"]) == 16
    dense = answer["layers"][1]
    assert (dense["layer"], dense["mean"], dense["before"]["mean"]) == ("dense", 8.0, 2.0)


@pytest.mark.parametrize(
    ("filters", "keep"),
    [
        ("outcome=correct", lambda target, predicted, sure: target == predicted),
        ("outcome=wrong", lambda target, predicted, sure: target != predicted),
        ("outcome=confidently_wrong", lambda target, predicted, sure: (target != predicted) & sure),
        ("outcome=wrong&target=2", lambda target, predicted, sure: (target != predicted) & (target == 2)),
        ("target=1&predicted=2", lambda target, predicted, sure: (target == 1) & (predicted == 2)),
    ],
)
def test_samples_are_filtered(client: Client, filters: str, keep: Any) -> None:
    target, predicted = all_samples(range(24))
    confidence = np.concatenate([scores_of(step, 12 if step % 8 == 7 else 16, 4)[0].max(axis=1) for step in range(24)])

    answer = get_json(client, f"samples?{DIGITS}&{filters}&limit=500")

    expected = keep(target, predicted, confidence >= 0.8)
    assert answer["total"] == np.count_nonzero(expected)
    assert [sample["target"] for sample in answer["samples"]] == target[expected].tolist()
    assert [sample["predicted"] for sample in answer["samples"]] == predicted[expected].tolist()


def flowers() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores, targets and what was predicted, each by time and sample."""
    drawn = [scores_of(step, 12, 4) for step in (7, 15, 23)]
    scores = np.stack([predictions for predictions, _ in drawn])
    return scores, np.stack([targets for _, targets in drawn]), scores.argmax(axis=-1)


def test_samples_are_filtered_by_ranges(client: Client) -> None:
    rows = get_json(client, f"samples?{DIGITS}&limit=500")["samples"]

    answer = get_json(
        client, f"samples?{DIGITS}&confidence_min=0.625&confidence_max=0.75&loss_min=0.25&loss_max=1e1&limit=500"
    )

    expected = [row for row in rows if 0.625 <= row["confidence"] <= 0.75 and 0.25 <= row["loss"] <= 10]
    assert answer["samples"] == expected
    assert 0 < len(expected) < len(rows)


def test_samples_are_filtered_by_ids(client: Client) -> None:
    def ask(more: str) -> list[tuple[int, str]]:
        return [(row["step"], row["id"]) for row in get_json(client, f"samples?{FLOWERS}&{more}")["samples"]]

    assert ask("id=flower_3.png") == [(step, "flower_3.png") for step in range(3)]
    assert ask("id=flower_3") == []
    assert ask("id_part=ER_1") == [(step, f"flower_{i}.png") for step in range(3) for i in (1, 10, 11)]
    assert ask("id_part=er_1&id=flower_10.png&start=1") == [(1, "flower_10.png"), (2, "flower_10.png")]
    assert len(ask("id_part=er_1")) == 9, "the same question again"
    assert ask("each=last&stop=2") == [(1, f"flower_{i}.png") for i in range(12)]
    assert get_json(client, f"samples?{FLOWERS}")["identified"]
    assert not get_json(client, "samples?run=age&phase=train")["identified"]


def test_samples_are_filtered_by_how_they_were_learned(client: Client) -> None:
    scores, targets, predicted = flowers()
    right = targets == predicted
    of_target = np.take_along_axis(scores, targets[..., None], axis=-1)[..., 0]

    def ask(more: str) -> list[str]:
        return [row["id"] for row in get_json(client, f"samples?{FLOWERS}&each=last&{more}")["samples"]]

    def names(marks: np.ndarray) -> list[str]:
        return [f"flower_{number}.png" for number in np.flatnonzero(marks)]

    forgotten = (right[:-1] & ~right[1:]).any(axis=0)
    assert ask("learning=forgotten") == names(forgotten)
    assert ask("learning=never_learned") == names(~right.any(axis=0))
    assert ask("learning=never_learned&stop=1") == names(~right[0])
    low, spread = of_target.mean(axis=0) <= 0.5, of_target.std(axis=0) >= 0.25
    assert ask("mean_target_score_max=0.5&variability_min=0.25") == names(low & spread)
    assert 0 < np.count_nonzero(low & spread) < 12
    rows = get_json(client, f"samples?{FLOWERS}&each=last&sort=mean_target_score")["samples"]
    assert [row["id"] for row in rows] == [
        f"flower_{number}.png" for number in np.argsort(of_target.mean(axis=0).astype(np.float32), kind="stable")
    ]
    assert rows[0]["dynamics"]["mean_target_score"] == pytest.approx(of_target.mean(axis=0).min())


def test_history_of_a_sample_is_each_time_it_was_seen(client: Client) -> None:
    scores, targets, predicted = flowers()

    answer = get_json(client, f"sample?{FLOWERS}&step=1&sample=5")

    assert [(time["step"], time["epoch"], time["sample"]) for time in answer["history"]] == [
        (step, step, 5) for step in range(3)
    ]
    assert [time["predicted"] for time in answer["history"]] == predicted[:, 5].tolist()
    assert [time["target"] for time in answer["history"]] == targets[:, 5].tolist()
    assert [time["confidence"] for time in answer["history"]] == scores[:, 5].max(axis=-1).tolist()
    assert (answer["seen"], answer["dynamics"]["seen"], answer["history_refused"]) == (3, 3, None)
    without = get_json(client, "sample?run=age&phase=train&step=1&sample=5")
    assert (without["history"], without["seen"], without["dynamics"]) == ([], 0, None)


def test_history_is_left_out_where_there_are_too_many_samples(logdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "MOST_SAMPLES", 10)
    client = open_client(logdir)

    answer = get_json(client, f"sample?{FLOWERS}&step=1&sample=5")

    assert answer["history"] == []
    assert "up to 10 samples" in answer["history_refused"]
    assert client.get(BASE + f"samples?{FLOWERS}&id=x").status_code == 400


def test_only_the_last_times_of_a_long_history_are_sent(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MAX_HISTORY", 2)

    answer = get_json(client, f"sample?{FLOWERS}&step=0&sample=5")

    assert ([time["step"] for time in answer["history"]], answer["seen"]) == ([1, 2], 3)


def test_data_map_has_a_point_for_each_id(client: Client) -> None:
    scores, targets, predicted = flowers()
    of_target = np.take_along_axis(scores, targets[..., None], axis=-1)[..., 0]

    header, arrays = get_arrays(client, f"data_map?{FLOWERS}")

    assert (header["ids"], header["shown"], header["samples"]) == (12, 12, 36)
    assert header["names"] == [f"flower_{number}.png" for number in range(12)]
    assert np.allclose(arrays["mean_target_score"], of_target.mean(axis=0))
    assert np.allclose(arrays["variability"], of_target.std(axis=0))
    assert np.allclose(arrays["correctness"], (targets == predicted).mean(axis=0))
    assert (arrays["step"].tolist(), arrays["sample"].tolist()) == ([2] * 12, list(range(12)))
    header, arrays = get_arrays(client, f"data_map?{FLOWERS}&stop=2&limit=5")
    assert (header["ids"], header["shown"]) == (12, 5)
    assert header["names"] == [f"flower_{number}.png" for number in (0, 2, 4, 7, 9)]
    assert arrays["seen"].tolist() == [2] * 5
    assert get_arrays(client, f"data_map?{FLOWERS}&start=2&stop=2")[0]["shown"] == 0


def test_samples_find_their_way_back_to_the_batch(client: Client) -> None:
    for sample in get_json(client, f"samples?{DIGITS}&sort=loss&descending=1&offset=3&limit=40")["samples"]:
        assert sample["id"] == f"img_{sample['step']}_{sample['sample']}.png"
        alone = get_json(client, f"sample?{DIGITS}&step={sample['step']}&sample={sample['sample']}")
        assert {key: alone[key] for key in sample} == sample


def test_sample_holds_all_scores(client: Client) -> None:
    answer = get_json(client, f"sample?{DIGITS}&step=5&sample=2")

    scores = scores_of(5, 16, 4)[0][2]
    assert [score["score"] for score in answer["scores"]] == sorted(scores.tolist(), reverse=True)
    assert all(scores[score["class"]] == score["score"] for score in answer["scores"])
    assert "target_values" not in answer


def test_sample_of_a_regression_holds_values(client: Client) -> None:
    answer = get_json(client, "sample?run=age&phase=train&step=2&sample=1")

    assert answer["scores"] == [{"class": 0, "score": 1.75 - 1.5}]
    assert (answer["target_values"], answer["error"]) == ([1.75], 1.5)
    assert (answer["target"], answer["predicted"], answer["top"]) == (None, None, [])


def test_sample_of_many_labels_holds_their_truth(client: Client) -> None:
    answer = get_json(client, "sample?run=tags&phase=train&step=2&sample=3")

    assert [score["class"] for score in answer["scores"]] == [0, 1, 2]
    assert answer["target_values"] == [1.0, 0.0, 0.0]
    assert answer["error"] == pytest.approx(1 / 3)


def test_classes_equal_scikit_learn(client: Client) -> None:
    target, predicted = all_samples(range(4, 20))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(target, predicted)

    answer = get_json(client, f"classes?{DIGITS}&start=4&stop=20")

    rows = answer["classes"]
    assert [row["class"] for row in rows] == [0, 1, 2, 3]
    assert [row["support"] for row in rows] == support.tolist()
    assert np.allclose([[row[name] for row in rows] for name in ("precision", "recall", "f1")], [precision, recall, f1])
    assert answer["accuracy"] == pytest.approx(metrics.accuracy_score(target, predicted))
    assert (answer["batches"], answer["samples"]) == (16, len(target))


def test_classes_are_sorted(client: Client) -> None:
    rows = get_json(client, f"classes?{DIGITS}&sort=recall")["classes"]

    assert [row["recall"] for row in rows] == sorted(row["recall"] for row in rows)


def test_confusion_equals_scikit_learn(client: Client) -> None:
    target, predicted = all_samples(range(24))

    header, arrays = get_arrays(client, f"confusion?{DIGITS}")

    assert arrays["counts"].tolist() == metrics.confusion_matrix(target, predicted).tolist()
    assert (arrays["labels"].tolist(), header["shown"]) == ([0, 1, 2, 3], 4)


def test_confusion_shows_the_classes_with_most_errors(client: Client) -> None:
    full = get_arrays(client, f"confusion?{DIGITS}")[1]["counts"].astype(int)
    errors = full.sum(axis=0) + full.sum(axis=1) - 2 * full.diagonal()

    header, arrays = get_arrays(client, f"confusion?{DIGITS}&limit=2")

    assert (header["classes"], header["shown"]) == (4, 2)
    worst = sorted(np.argsort(-errors, kind="stable")[:2].tolist())
    assert arrays["labels"].tolist() == worst
    assert arrays["counts"].tolist() == full[np.ix_(worst, worst)].tolist()


def test_class_trend_counts_windows(client: Client) -> None:
    header, arrays = get_arrays(client, f"class_trend?{DIGITS}&start=2&points=8")

    assert (header["batches"], header["window"], header["shown"]) == (22, 3, 4)
    assert arrays["step"].tolist() == list(range(2, 24, 3))
    assert arrays["last_step"].tolist() == [4, 7, 10, 13, 16, 19, 22, 23]
    for window, step in enumerate(range(2, 24, 3)):
        target, predicted = all_samples(range(step, min(step + 3, 24)))
        confusion = metrics.confusion_matrix(target, predicted, labels=range(4))
        assert arrays["support"][window].tolist() == confusion.sum(axis=1).tolist()
        assert arrays["predicted"][window].tolist() == confusion.sum(axis=0).tolist()
        assert arrays["hits"][window].tolist() == confusion.diagonal().tolist()


def test_class_trend_shows_the_classes_with_most_errors(client: Client) -> None:
    whole = get_arrays(client, f"class_trend?{DIGITS}&points=1")[1]
    errors = (whole["support"] + whole["predicted"] - 2 * whole["hits"])[0].astype(int)

    header, arrays = get_arrays(client, f"class_trend?{DIGITS}&points=3&limit=2")

    assert (header["classes"], header["shown"]) == (4, 2)
    assert arrays["labels"].tolist() == sorted(np.argsort(-errors, kind="stable")[:2].tolist())
    assert arrays["support"].shape == (3, 2)


def test_class_trend_of_labels_and_of_no_classes(client: Client) -> None:
    report = get_json(client, "classes?run=tags&phase=train")["classes"]
    arrays = get_arrays(client, "class_trend?run=tags&phase=train&points=2")[1]

    assert arrays["support"].sum(axis=0).tolist() == [row["support"] for row in report]
    assert arrays["predicted"].sum(axis=0).tolist() == [row["predicted"] for row in report]
    assert client.get(BASE + "class_trend?run=age&phase=train").status_code == 400


def test_samples_of_a_regression_tell_their_values(client: Client, logdir: Path) -> None:
    worst = get_json(client, "samples?run=age&phase=train&sort=error&descending=1&limit=3")["samples"]

    batches = {batch.step: batch for batch in load(logdir)["age"].batches("train")}

    for row in worst:
        batch = batches[row["step"]]
        target, predicted = batch.targets[row["sample"], 0], batch.predictions[row["sample"], 0]
        assert row["values"] == [{"target": target, "predicted": predicted}]
        assert row["error"] == pytest.approx(abs(target - predicted))
    assert all("values" not in row for row in get_json(client, f"samples?{DIGITS}")["samples"])


def test_reliability_and_curves_are_those_of_the_range(client: Client, logdir: Path) -> None:
    run = load(logdir)["spam"]
    expected = run.threshold_curve("train", 1, 5)

    header, arrays = get_arrays(client, "thresholds?run=spam&phase=train&start=1&stop=5")
    answer = get_json(client, "calibration?run=spam&phase=train&start=1&stop=5")

    assert (header["positives"], header["negatives"]) == (16, 16)
    assert header["roc_auc"] == pytest.approx(expected.roc_auc)
    assert arrays["true_positives"].tolist() == expected.true_positives.tolist()
    # A quarter is wrong, and all have a confidence of three quarters.
    some = [row for row in answer["bins"] if row["count"]]
    assert [(row["count"], row["accuracy"]) for row in some] == [(32, 0.75)]
    assert (answer["samples"], answer["error"]) == (32, pytest.approx(0.0, abs=1 / 2048))


def test_residuals_are_the_values_of_the_batches(client: Client) -> None:
    header, arrays = get_arrays(client, "residuals?run=age&phase=train&points=24")

    assert (header["samples"], header["drawn"], header["values"]) == (48, 24, 1)
    assert arrays["step"].tolist() == np.repeat(np.arange(6), 4).tolist()
    assert arrays["target"].tolist() == ((arrays["sample"] * 5 + arrays["step"]) / 4).tolist()
    residual = (arrays["sample"] - 4) / 8 * (6 - arrays["step"])
    assert (arrays["predicted"] - arrays["target"]).tolist() == residual.tolist()
    assert get_arrays(client, "residuals?run=age&phase=train&start=3&stop=3")[0]["drawn"] == 0


def test_labels_that_are_wrong_together_are_counted(client: Client) -> None:
    sample, label = np.arange(8), np.arange(3)
    wrong = np.tile((sample[:, None] + label) % 4 == 0, (6, 1)).astype(int)

    header, arrays = get_arrays(client, "label_errors?run=tags&phase=train")
    _, worst = get_arrays(client, "label_errors?run=tags&phase=train&limit=2")

    assert arrays["counts"].tolist() == (wrong.T @ wrong).tolist()
    assert (header["samples"], arrays["labels"].tolist(), worst["labels"].tolist()) == (48, [0, 1, 2], [0, 1])


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (f"thresholds?{DIGITS}", 400),
        (f"residuals?{DIGITS}", 400),
        (f"label_errors?{DIGITS}", 400),
        ("calibration?run=age&phase=train", 400),
        ("residuals?run=age&phase=train&value=1", 404),
    ],
)
def test_what_does_not_fit_the_task_is_refused(client: Client, request_: str, status: int) -> None:
    assert client.get(BASE + request_).status_code == status


def test_classes_found_by_a_search_are_paged_and_sorted_alone(client: Client) -> None:
    everything = get_json(client, f"classes?{DIGITS}&sort=recall")

    found = get_json(client, f"classes?{DIGITS}&sort=recall&search=%20O")  # zero, one, two: parts of names, in any case

    expected = [row for row in everything["classes"] if row["class"] != 3]
    assert found == everything | {"total": 3, "classes": expected}
    assert [row["class"] for row in get_json(client, f"classes?{DIGITS}&search=3")["classes"]] == [3]
    assert get_json(client, f"classes?{DIGITS}&search=nothing")["classes"] == []


def test_search_finds_classes_without_names_by_part_of_their_number(logdir: Path) -> None:
    with BatchWriter(logdir / "unnamed") as writer:
        writer.add_batch(predictions=np.eye(13, dtype=np.float32), targets=np.arange(13))

    found = get_json(open_client(logdir), "classes?run=unnamed&phase=train&search=1")

    assert [row["class"] for row in found["classes"]] == [1, 10, 11, 12]


def test_clustered_order_comes_only_when_asked_for(client: Client) -> None:
    plain = get_arrays(client, f"confusion?{DIGITS}")
    arrays = get_arrays(client, f"confusion?{DIGITS}&order=clustered")[1]

    assert "clustered" not in plain[1]
    assert arrays["counts"].tolist() == plain[1]["counts"].tolist()
    assert sorted(arrays["clustered"].tolist()) == [0, 1, 2, 3]
    assert arrays["clustered"].tolist() == seriation.order_confusable(plain[1]["counts"]).tolist()
    few = get_arrays(client, f"confusion?{DIGITS}&order=clustered&limit=2")[1]
    assert sorted(few["clustered"].tolist()) == [0, 1]  # rows of the answer, not class numbers


def test_doctor_says_what_the_command_says(client: Client, logdir: Path) -> None:
    command = [sys.executable, "-m", "tb_batchview", "doctor", "--json", str(logdir)]
    printed = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=False).stdout)

    findings = get_json(client, "doctor")["findings"]

    assert findings == printed
    about = [finding for finding in findings if finding["about"] == "run age"]
    assert get_json(client, "doctor?run=age")["findings"] == about
    assert client.get(BASE + "doctor?run=nobody").status_code == 404


def test_layer_histograms_are_shares(client: Client) -> None:
    header, arrays = get_arrays(client, f"layer?{DIGITS}&layer=dense&points=3")

    # Summarised are the steps 0, 4, 8, 12, 13, 16 and 20.
    assert (header["batches"], header["window"], header["units"]) == (7, 3, 4)
    assert arrays["step"].tolist() == [0, 12, 20]
    assert (header["low"], header["high"]) == (0.0, 32.0)
    assert np.allclose(arrays["histogram"].sum(axis=1), 1)
    assert arrays["mean"].tolist() == [2.0, 4.0, 2.0]
    assert arrays["max"].tolist() == [8.0, 32.0, 8.0]


def test_the_usual_axis_of_a_layer_leaves_out_a_batch_gone_wild(tmp_path: Path) -> None:
    def summary(step: int) -> LayerSummary:
        scale = 1e6 if step == 13 else 1.0
        return LayerSummary(40, scale, scale, 0, 4 * scale, 0, 0, np.array([10, 10, 10, 10], np.float32))

    write(tmp_path / "a", [make_record(step, layers={"dense": summary(step)}) for step in range(40)])
    client = open_client(tmp_path)
    request = "layer?run=a&phase=train&layer=dense&points=40"

    header, arrays = get_arrays(client, f"{request}&axis=usual")
    whole_header, whole = get_arrays(client, request)

    assert (header["low"], header["least"], header["greatest"]) == (0.0, 0.0, 4e6)
    assert header["high"] == pytest.approx(4.2)
    assert np.flatnonzero(arrays["above"]).tolist() == [13]
    assert np.allclose(arrays["histogram"].sum(axis=1) + arrays["above"], 1)
    assert np.count_nonzero(arrays["histogram"][0]) > 50
    assert (whole_header["low"], whole_header["high"]) == (0.0, 4e6)
    assert not whole["below"].any()
    assert not whole["above"].any()
    assert np.array_equal(whole["max"], arrays["max"])


def test_large_answers_are_gzipped_when_the_client_takes_it(client: Client) -> None:
    request = BASE + f"batches?{DIGITS}&points=1000"
    plain = client.get(request)
    packed = client.get(request, headers={"Accept-Encoding": "br, gzip"})
    refused = client.get(request, headers={"Accept-Encoding": "gzip;q=0"})

    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.get_data()) == plain.get_data() == refused.get_data()
    assert "Content-Encoding" not in plain.headers
    assert "Content-Encoding" not in refused.headers


def test_arrays_begin_on_multiples_of_eight(client: Client) -> None:
    for request in (f"batches?{DIGITS}&points=7", f"confusion?{DIGITS}&limit=3", f"layer?{DIGITS}&layer=dense"):
        body = client.get(BASE + request).get_data()
        length = int.from_bytes(body[4:8], "little")
        assert body[:4] == b"BVA1"
        assert (8 + length) % 8 == 0
        assert all(item["offset"] % 8 == 0 for item in json.loads(body[8 : 8 + length])["arrays"])


# --- other recordings ---


# --- run B ---


def test_batches_are_put_beside_those_of_the_same_step(client: Client) -> None:
    rows = get_json(client, f"batches?{DIGITS}&{AGAINST_VALIDATION}")["rows"]
    others = {row["step"]: row for row in get_json(client, "batches?run=digits&phase=validation")["rows"]}

    assert [row["against"] for row in rows] == [
        {key: value for key, value in others[row["step"]].items() if key != "worst"} if row["step"] in others else None
        for row in rows
    ]
    assert len(others) == 3


@pytest.mark.parametrize("name", ["loss", "error_rate", "confidence"])
def test_batches_are_sorted_by_their_change(client: Client, name: str) -> None:
    request = f"batches?{DIGITS}&{AGAINST_VALIDATION}&sort={name}_change&descending=1"
    rows = get_json(client, request)["rows"]
    found = get_json(client, f"{request}&find=2&limit=1")

    changes = [row[name] - row["against"][name] for row in rows if row["against"] is not None]
    assert changes == sorted(changes, reverse=True)
    assert len(changes) == 3
    assert [row["against"] is None for row in rows] == [False] * 3 + [True] * 21
    assert rows[found["offset"]]["step"] == 2


def test_classes_against_another_range_equal_two_answers(client: Client) -> None:
    answer = get_json(client, f"classes?{DIGITS}&stop=12&{AGAINST_REST}&sort=recall_change&descending=1")
    one = get_json(client, f"classes?{DIGITS}&stop=12")
    two = get_json(client, f"classes?{DIGITS}&start=12")

    assert {key: answer["against"][key] for key in ("batches", "samples", "accuracy", "macro_f1")} == {
        key: two[key] for key in ("batches", "samples", "accuracy", "macro_f1")
    }
    assert answer["calibration_error"] == get_json(client, f"calibration?{DIGITS}&stop=12")["error"]
    assert answer["against"]["calibration_error"] == get_json(client, f"calibration?{DIGITS}&start=12")["error"]
    for row in answer["classes"]:
        number = row["class"]
        assert row["against"] == two["classes"][number]
        assert {key: row[key] for key in one["classes"][number]} == one["classes"][number]
        assert row["change"]["recall"] == pytest.approx(row["recall"] - two["classes"][number]["recall"], abs=1e-9)
    changes = [row["change"]["recall"] for row in answer["classes"]]
    assert changes == sorted(changes, reverse=True)


def named(names: tuple[str, ...]) -> dict[str, OutputSpec]:
    return {"scores": OutputSpec("multiclass", len(names), None, names)}


def test_a_run_with_its_classes_in_another_order_is_compared_by_name(tmp_path: Path) -> None:
    names = ("cat", "dog", "car", "tree")
    order = [2, 0, 3]  # its class 0 is "car"; there is no "dog"
    drawn = {step: scores_of(step, 16, 4) for step in range(3)}
    write(
        tmp_path / "a",
        [
            make_record(step, samples=16, outputs={"scores": OutputRecord(scores, targets)})
            for step, (scores, targets) in drawn.items()
        ],
        specs=named(names),
    )
    kept = {}
    for step, (scores, targets) in drawn.items():
        keep = np.isin(targets, order) & np.isin(scores.argmax(axis=1), order)
        kept[step] = (scores[keep][:, order], np.array([order.index(target) for target in targets[keep]], np.int32))
    write(
        tmp_path / "b",
        [
            make_record(step, samples=len(targets), outputs={"scores": OutputRecord(scores, targets)})
            for step, (scores, targets) in kept.items()
        ],
        specs=named(tuple(names[number] for number in order)),
    )
    client = open_client(tmp_path)

    header, arrays = get_arrays(client, "confusion?run=a&phase=train&against_run=b&against_phase=train")
    cut_header, cut = get_arrays(client, "confusion?run=a&phase=train&limit=2&against_run=b&against_phase=train")
    rows = get_json(client, "classes?run=a&phase=train&against_run=b&against_phase=train")

    expected = arrays["counts"].copy()
    expected[1] = expected[:, 1] = 0
    assert arrays["against_counts"].tolist() == expected.tolist()
    assert arrays["against_labels"].tolist() == [1, -1, 0, 2]
    assert {**header["against"], "samples": None, "batches": None} == {
        "batches": None, "samples": None, "classes": 3, "matched_by": "name", "unmatched": 1, "missing": 0,
    }  # fmt: skip
    labels = cut["labels"].tolist()
    assert cut["against_counts"].tolist() == expected[np.ix_(labels, labels)].tolist()
    assert cut_header["shown"] == 2
    assert [row["against"] and row["against"]["class"] for row in rows["classes"]] == [1, None, 0, 2]
    assert rows["classes"][1]["change"] == dict.fromkeys(("support", "precision", "recall", "f1"))


def write_seen(directory: Path, seed: int, batches: list[list[Any]]) -> list[tuple[Any, int, int, float, int, int]]:
    """Write batches of samples with these ids; return what each was."""
    rng = np.random.default_rng(seed)
    seen = []
    records = []
    for step, ids in enumerate(batches):
        scores = rng.dirichlet(np.ones(4), len(ids)).astype(np.float32)
        targets = np.array([len(str(item)) % 4 for item in ids], np.int32)
        loss = rng.random(len(ids)).astype(np.float32)
        output = OutputRecord(scores, targets, sample_loss=loss, sample_ids=np.array(ids, object))
        records.append(make_record(step, samples=len(ids), outputs={"scores": output}))
        for place, item in enumerate(ids):
            seen.append((item, int(targets[place]), int(scores[place].argmax()), float(loss[place]), step, place))
    write(directory, records)
    return seen


@pytest.mark.parametrize("stop", [None, 2])
def test_samples_of_two_runs_are_joined_by_their_ids(tmp_path: Path, stop: int | None) -> None:
    ids = ["a", "bb", "ccc", "dddd", "e", "ff", "ggg", "hhhh"]
    one = write_seen(tmp_path / "a", 1, [ids[:4], ids[4:], ["bb", "new", "e"]])
    two = write_seen(tmp_path / "b", 2, [ids[::-1][:5], ["a", "bb", "other"], ids[2:6]])
    client = open_client(tmp_path)
    ends = "" if stop is None else f"&stop={stop}&against_stop={stop}"
    request = f"joined?run=a&phase=train&against_run=b&against_phase=train{ends}"

    last = [{item: rest for item, *rest in seen if stop is None or rest[3] < stop} for seen in (one, two)]
    both = [item for item in last[0] if item in last[1]]
    names = {
        (True, True): "both_correct",
        (True, False): "only_a",
        (False, True): "only_b",
        (False, False): "both_wrong",
    }
    kinds = {item: names[last[0][item][0] == last[0][item][1], last[1][item][0] == last[1][item][1]] for item in both}
    answer = get_json(client, f"{request}&sort=loss_change&descending=1")
    assert answer["counts"] == {
        kind: sum(value == kind for value in kinds.values())
        for kind in ("both_correct", "only_a", "only_b", "both_wrong")
    }
    assert (answer["only_in_a"], answer["only_in_b"]) == tuple(
        len(set(last[side]) - set(last[1 - side])) for side in (0, 1)
    )
    assert [row["id"] for row in answer["samples"]] == sorted(
        both, key=lambda item: last[1][item][2] - last[0][item][2]
    )
    for row in answer["samples"]:
        assert row["joint"] == kinds[row["id"]]
        for shown, found in ((row, last[0]), (row["against"], last[1])):
            assert [shown[key] for key in ("target", "predicted", "step", "sample")] == [
                *found[row["id"]][:2], *found[row["id"]][3:]
            ]  # fmt: skip
    for kind in ("both_correct", "only_a", "only_b", "both_wrong"):
        part = get_json(client, f"{request}&joint={kind}")
        assert {row["id"] for row in part["samples"]} == {item for item in both if kinds[item] == kind}
        assert part["counts"] == answer["counts"]


def test_nothing_is_joined_without_ids(client: Client) -> None:
    answer = get_json(client, f"joined?{DIGITS}&against_run=spam&against_phase=train")

    assert (answer["identified"], answer["identified_against"], answer["total"]) == (True, False, 0)


def test_targets_that_differ_are_counted_by_name(tmp_path: Path) -> None:
    scores = np.eye(3, dtype=np.float32)
    for run, names, targets in (("a", ("x", "y", "z"), [0, 1, 2]), ("b", ("z", "y", "x"), [2, 1, 2])):
        output = OutputRecord(scores, np.array(targets, np.int32), sample_ids=np.array([1, 2, 3]))
        write(tmp_path / run, [make_record(0, samples=3, outputs={"scores": output})], specs=named(names))
    answer = get_json(open_client(tmp_path), "joined?run=a&phase=train&against_run=b&against_phase=train")

    assert answer["targets_differ"] == 1  # sample 3 is z in A and x in B
    assert answer["counts"] == {"both_correct": 2, "only_a": 1, "only_b": 0, "both_wrong": 0}


def test_a_layer_and_the_other_share_an_axis(client: Client) -> None:
    one = f"layer?{DIGITS}&layer=dense&stop=12"
    two = f"layer?{DIGITS}&layer=dense&start=12"
    apart = [get_arrays(client, request)[0] for request in (one, two)]
    back = AGAINST_REST.replace("against_start=12", "against_stop=12")
    beside = [get_arrays(client, request) for request in (f"{one}&{AGAINST_REST}", f"{two}&{back}")]

    low, high = min(header["low"] for header in apart), max(header["high"] for header in apart)
    assert apart[0]["high"] < apart[1]["high"]
    assert [(header["low"], header["high"]) for header, _ in beside] == [(low, high)] * 2
    for _, arrays in beside:
        np.testing.assert_allclose(arrays["histogram"].sum(axis=1), 1.0, rtol=1e-6)


def test_a_gradient_and_the_other_share_an_axis(tmp_path: Path) -> None:
    for run, scale in (("a", 0.5), ("b", 2.0)):
        write(tmp_path / run, [make_record(0, gradients={"dense": gradient_of(0, scale)})])
    client = open_client(tmp_path)

    def ends(run: str, other: str = "") -> tuple[float, float]:
        against = f"&against_run={other}&against_phase=train" if other else ""
        header, arrays = get_arrays(client, f"gradient?run={run}&phase=train&layer=dense{against}")
        np.testing.assert_allclose(arrays["histogram"].sum(axis=1), 1.0, rtol=1e-6)
        return header["low"], header["high"]

    assert [ends("a"), ends("b")] == [(-0.5, 0.5), (-2.0, 2.0)]
    assert [ends("a", "b"), ends("b", "a")] == [(-2.0, 2.0)] * 2


def test_a_layer_that_has_another_name_in_the_other_run_shares_its_axis(tmp_path: Path) -> None:
    for run, layer, scale in (("a", "dense", 0.5), ("b", "dense_2", 2.0)):
        values = {layer: np.linspace(-scale, scale, 32, dtype=np.float32).reshape(8, 4)}
        with BatchWriter(tmp_path / run) as writer:
            writer.add_batch(histograms=values, gradients=values)
    client = open_client(tmp_path)

    for route in ("layer", "gradient"):
        request = f"{route}?run=a&phase=train&layer=dense"
        there = "&against_run=b&against_phase=train&against_layer=dense_2"
        header, _ = get_arrays(client, request + there)
        assert (header["low"], header["high"]) == (-2.0, 2.0)
        answer = client.get(f"{BASE}{request}&against_run=b&against_phase=train")
        assert (answer.status_code, "There is 'dense_2'" in answer.get_data(as_text=True)) == (404, True)
        assert client.get(f"{BASE}{request}&against_layer=dense_2").status_code == 400


def serve(tmp_path: Path, records: list[BatchRecord], **options: Any) -> Client:
    write(tmp_path / "a", records, **options)
    return open_client(tmp_path)


@pytest.mark.parametrize("activation", [None, "softmax", "sigmoid"])
def test_scores_of_which_only_the_largest_were_kept_are_probabilities(tmp_path: Path, activation: str | None) -> None:
    generator = np.random.default_rng(4)
    values = generator.normal(size=(8, 6))
    if activation is None:
        values = np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)
    values = values.astype(np.float32)
    task = "multilabel" if activation == "sigmoid" else "multiclass"
    targets = (generator.random((8, 6)) < 0.5).astype(np.float32) if task == "multilabel" else np.arange(8) % 6
    records = [make_record(0, outputs={"scores": OutputRecord(values, targets)})]
    specs = {"scores": OutputSpec(task, 6, activation)}
    whole = serve(tmp_path / "whole", records, specs=specs)
    cut = serve(tmp_path / "cut", records, specs=specs, top_k=3)

    for number in range(8):
        request = f"sample?run=a&phase=train&step=0&sample={number}"
        expected, found = get_json(whole, request), get_json(cut, request)
        assert len(found["scores"]) == 3
        assert [score["class"] for score in found["top"]] == [score["class"] for score in expected["top"]]
        for mine, theirs in zip(found["scores"], expected["scores"], strict=False):
            assert mine["score"] == pytest.approx(theirs["score"], rel=1e-5)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_largest_scores_of_a_diverged_training_are_those_of_all(tmp_path: Path, activation: str) -> None:
    inf, nan = np.inf, np.nan
    values = np.array([[-1e3, -2e3, -3e3], [inf, 2, 1], [inf, inf, 0], [3, -inf, -inf], [-inf] * 3, [1, inf, nan]])
    task = "multilabel" if activation == "sigmoid" else "multiclass"
    targets = np.eye(3)[np.arange(6) % 3] if task == "multilabel" else np.arange(6) % 3
    records = [make_record(0, samples=6, outputs={"scores": OutputRecord(values.astype(np.float32), targets)})]
    specs = {"scores": OutputSpec(task, 3, activation)}
    clients = [serve(tmp_path / str(k), records, specs=specs, top_k=k) for k in (None, 2)]

    for number in range(6):
        whole, cut = (get_json(client, f"sample?run=a&phase=train&step=0&sample={number}") for client in clients)
        scores = {score["class"]: score["score"] for score in whole["scores"]}
        assert all(score["score"] == pytest.approx(scores[score["class"]]) for score in cut["scores"])
        assert len(cut["scores"]) == 2


def test_a_vocabulary_of_classes_fits(tmp_path: Path) -> None:
    classes = 50_000
    predictions = np.zeros((4, classes), np.float32)
    predictions[np.arange(4), [7, 49_999, 3, 3]] = 1
    targets = np.array([7, 49_999, 3, 20_000])
    records = [make_record(0, samples=4, outputs={"scores": OutputRecord(predictions, targets)})]
    client = serve(tmp_path, records, specs={"scores": OutputSpec("multiclass", classes)})

    header, arrays = get_arrays(client, "confusion?run=a&phase=train&limit=2")
    answer = get_json(client, "classes?run=a&phase=train&sort=support&descending=1&limit=2")
    batch = get_json(client, "batch?run=a&phase=train&step=0&sort=sample&descending=0")

    assert (header["classes"], header["shown"], header["samples"]) == (classes, 2, 4)
    assert arrays["labels"].tolist() == [3, 20_000]
    assert arrays["counts"].tolist() == [[1, 0], [1, 0]]
    assert (answer["total"], answer["accuracy"], len(answer["classes"])) == (classes, 0.75, 2)
    assert [sample["top"][0]["class"] for sample in batch["samples"]] == [7, 49_999, 3, 3]


def test_tokens_are_counted_as_classes(tmp_path: Path) -> None:
    predictions = np.eye(4, dtype=np.float32)[np.array([[0, 1, 1], [3, 3, 2]])]
    targets = np.array([[0, 1, 2], [3, -1, 3]])
    records = [make_record(step, samples=2, outputs={"scores": OutputRecord(predictions, targets)}) for step in (0, 1)]
    client = serve(tmp_path, records, specs={"scores": OutputSpec("multiclass", 4)})

    whole = get_arrays(client, "confusion?run=a&phase=train")[1]["counts"]
    some = get_arrays(client, "confusion?run=a&phase=train&limit=2")[1]
    classes = get_json(client, "classes?run=a&phase=train")
    trend = get_arrays(client, "class_trend?run=a&phase=train")[1]

    assert whole.tolist() == [[2, 0, 0, 0], [0, 2, 0, 0], [0, 2, 0, 0], [0, 0, 2, 2]]
    assert whole[np.ix_(some["labels"], some["labels"])].tolist() == some["counts"].tolist()
    assert (classes["accuracy"], classes["samples"]) == (0.6, 4)
    assert [row["support"] for row in classes["classes"]] == [2, 2, 2, 4]
    assert trend["support"].sum() == 10
    assert get_json(client, "calibration?run=a&phase=train")["samples"] == 10


def test_an_absurd_number_of_classes_is_refused(tmp_path: Path) -> None:
    output = OutputRecord(np.zeros((1, 1), np.float32))
    client = serve(
        tmp_path,
        [make_record(0, samples=1, outputs={"scores": output})],
        specs={"scores": OutputSpec("multiclass", 2**31 - 1)},
    )

    for route in ("classes", "confusion"):
        response = client.get(BASE + f"{route}?run=a&phase=train")
        assert response.status_code == 400
        assert "At most 1000000 classes can be counted" in response.get_data(as_text=True)


def test_predictions_without_targets_are_neither_right_nor_wrong(tmp_path: Path) -> None:
    output = OutputRecord(scores_of(0, 8, 4)[0])
    client = serve(tmp_path, [make_record(0, phase="predict", outputs={"scores": output}, loss=float("nan"))])

    answer = get_json(client, "batch?run=a&phase=predict&step=0")

    assert answer["counts"] == {"all": 8, "wrong": 0, "confidently_wrong": 0}
    assert {(sample["target"], sample["error"], sample["loss"]) for sample in answer["samples"]} == {(None,) * 3}
    assert answer["error_rate"] is None
    assert get_json(client, "samples?run=a&phase=predict&outcome=correct")["total"] == 0
    header, _ = get_arrays(client, "batches?run=a&phase=predict&points=5")
    assert (header["error_rate"], set(header["outcomes"].values())) == (None, {0})


def test_several_decisions_a_sample_are_judged_by_their_errors(tmp_path: Path) -> None:
    # Two tokens a sample: the first one right everywhere, the second in half of the samples.
    predictions = np.eye(4, dtype=np.float32)[np.array([[0, 1], [1, 2], [2, 3], [3, 0]])]
    targets = np.array([[0, 1], [1, 1], [2, 3], [3, 3]])
    client = serve(tmp_path, [make_record(0, samples=4, outputs={"scores": OutputRecord(predictions, targets)})])

    answer = get_json(client, "batch?run=a&phase=train&step=0&sort=sample&descending=0")

    assert [sample["error"] for sample in answer["samples"]] == [0, 0.5, 0, 0.5]
    assert [sample["top"] for sample in answer["samples"]] == [[]] * 4
    assert (answer["counts"]["wrong"], answer["error_rate"]) == (2, 0.25)
    assert get_json(client, "samples?run=a&phase=train&outcome=correct")["total"] == 2


def test_several_outputs_must_be_named(tmp_path: Path) -> None:
    values = np.arange(8, dtype=np.float32)[:, None]
    outputs = {"scores": make_record(0).outputs["scores"], "age": OutputRecord(values + 1, values)}
    client = serve(
        tmp_path,
        [make_record(0, outputs=outputs)],
        specs={"scores": OutputSpec("multiclass", 4), "age": OutputSpec("regression", 0)},
    )

    response = client.get(BASE + "batches?run=a&phase=train")

    assert response.status_code == 400
    assert "output must be named. Received: none. Run 'a' has 'scores', 'age'" in response.get_data(as_text=True)
    assert get_json(client, "batches?run=a&phase=train&output=age")["rows"][0]["error_rate"] == 1.0
    assert get_json(client, "classes?run=a&phase=train&output=age")["mean_absolute_error"] == 1.0


def test_batches_with_only_a_header_have_figures_but_no_samples(tmp_path: Path) -> None:
    client = serve(tmp_path, [make_record(0), make_record(1, outputs={}), make_record(2)])

    answer = get_json(client, "batch?run=a&phase=train&step=1")

    assert (answer["size"], answer["total"], answer["samples"], answer["class_mix"]) == (8, 0, [], [])
    assert (answer["error_rate"], answer["loss"]) == (None, make_record(1).loss)
    header, arrays = get_arrays(client, "batches?run=a&phase=train&points=9")
    assert (header["batches"], header["samples"]) == (3, 16)
    assert np.isnan(arrays["error_mean"]).tolist() == [False, True, False]
    response = client.get(BASE + "sample?run=a&phase=train&step=1&sample=0")
    assert (response.status_code, "sample must be below 0 in batch 1" in response.get_data(as_text=True)) == (404, True)


def test_ids_too_long_for_a_browser_are_texts(tmp_path: Path) -> None:
    output = make_record(0).outputs["scores"]
    ids = np.array([0, -5, 2**53 - 1, 2**53, -(2**60), 7, 8, 9])
    record = make_record(0, outputs={"scores": OutputRecord(output.predictions, output.targets, sample_ids=ids)})
    client = serve(tmp_path, [record])

    samples = get_json(client, "samples?run=a&phase=train")["samples"]

    assert [sample["id"] for sample in samples] == [0, -5, 2**53 - 1, str(2**53), str(-(2**60)), 7, 8, 9]


# --- bad input ---


@pytest.mark.parametrize(
    ("request_", "status", "message"),
    [
        ("batches", 400, "run must be given"),
        ("batches?run=digits", 400, "phase must be given"),
        ("batches?run=digits&phase=", 400, "phase must be given"),
        (
            "batches?run=digits&phase=test",
            400,
            "phase must be one of train, validation, predict. Received: phase='test'",
        ),
        ("batches?run=digits&phase=predict", 404, "There is 'train', 'validation'"),
        ("batches?run=../../etc&phase=train", 404, "There is 'age', 'digits', 'spam', 'tags'"),
        (f"batches?{DIGITS}&output=x", 404, "There is 'probabilities'"),
        (f"batches?{DIGITS}&bogus=1", 400, "Received: 'bogus'"),
        (f"batches?{DIGITS}&run=age", 400, "run must be given once"),
        ("batches?phase=train&run=" + "x" * 5000, 400, "run must have at most 4096 characters. Received: 5000"),
        *(
            (f"batches?{DIGITS}&start={text}", 400, "start must be a whole number from 0")
            for text in ("-1", "1.5", "NaN", "1e3", "0x1", "٣", "1_0", "%20", "9" * 30, "True")
        ),
        (f"batches?{DIGITS}&start=7&stop=5", 400, "start must not be greater than stop. Received: start=7, stop=5"),
        (f"batches?{DIGITS}&points=0", 400, "points must be a whole number from 1 to 5000"),
        (f"batches?{DIGITS}&points=5001", 400, "points must be a whole number from 1 to 5000"),
        (f"batches?{DIGITS}&points=5&sort=loss", 400, "sort must be left out of a timeline"),
        (f"batches?{DIGITS}&limit=501", 400, "limit must be a whole number from 1 to 500"),
        (f"batches?{DIGITS}&limit=0", 400, "limit must be a whole number from 1 to 500"),
        (f"batches?{DIGITS}&sort=metrics.x", 400, "sort must be one of step, epoch, size, loss"),
        (f"batches?{DIGITS}&descending=yes", 400, "descending must be one of 0, 1"),
        (f"batches?{DIGITS}&find=500", 404, "find must be a batch of the range that was kept. Received: find=500"),
        (f"batch?{DIGITS}", 400, "step must be given"),
        (
            f"batch?{DIGITS}&step=24",
            404,
            "step must be a batch that was kept. Received: step=24. Kept are 24 from 0 to 23",
        ),
        (f"batch?{DIGITS}&step=1&outcome=bad", 400, "outcome must be one of all, correct, wrong, confidently_wrong"),
        (f"batch?{DIGITS}&step=1&target=-1", 400, "target must be a whole number"),
        (f"batch?{DIGITS}&step=1&start=0", 400, "Received: 'start'"),
        (f"sample?{DIGITS}&step=1", 400, "sample must be given"),
        (f"sample?{DIGITS}&step=1&sample=16", 404, "sample must be below 16 in batch 1. Received: sample=16"),
        (f"samples?{DIGITS}&sort=weight", 400, "sort must be one of step, target"),
        *(
            (f"samples?{DIGITS}&loss_min={text}", 400, "loss_min must be a decimal number. Received: loss_min=")
            for text in ("NaN", "inf", "1e999", "0x1", "1_0", "٣", "%20", "1" * 50, "-")
        ),
        (f"samples?{DIGITS}&loss_min=2&loss_max=1", 400, "loss_min must not be greater than loss_max"),
        (f"samples?{DIGITS}&each=first", 400, "each must be one of all, last"),
        (f"samples?{DIGITS}&learning=x", 400, "learning must be one of all, forgotten, never_learned"),
        ("samples?run=age&phase=train&id=x", 404, "phase 'train' has none. Record them: add_batch(…, sample_ids=ids)"),
        ("samples?run=age&phase=train&sort=margin", 400, "A data map needs one class per sample"),
        ("data_map?run=spam&phase=train", 404, "Samples can be followed only by their ids"),
        ("data_map?run=tags&phase=train", 400, "A data map needs one class per sample"),
        (f"batch?{DIGITS}&step=1&loss_min=1", 400, "Received: 'loss_min'"),
        (f"classes?{DIGITS}&sort=name", 400, "sort must be one of class, support"),
        ("classes?run=age&phase=train&sort=name", 400, "sort must be one of class, support"),
        ("confusion?run=age&phase=train", 400, "one class per sample. Received: output='output' of task 'regression'"),
        (f"confusion?{DIGITS}&limit=1001", 400, "limit must be a whole number from 1 to 1000"),
        (f"confusion?{DIGITS}&order=name", 400, "order must be one of class, clustered. Received: order='name'"),
        (f"layer?{DIGITS}", 400, "layer must be given"),
        (f"layer?{DIGITS}&layer=x", 404, "There is 'conv2d', 'dense'"),
        (f"layer?{DIGITS}&layer=dense&axis=log", 400, "axis must be"),
        (f"layer?{DIGITS}&layer=dense&points=501", 400, "points must be a whole number from 1 to 500"),
        ("runs?run=x", 404, "run must be one of those recorded. Received: run='x'"),
        ("runs?phase=train", 400, "Received: 'phase'"),
        ("static/nothing.js", 404, "must be one of the frontend's"),
        ("static/..%2Fplugin.py", 404, "must be one of the frontend's"),
        ("static/%2Fetc%2Fpasswd", 404, "must be one of the frontend's"),
        ("static/", 404, ""),
    ],
)
def test_bad_input_gets_a_sentence(client: Client, request_: str, status: int, message: str) -> None:
    response = client.get(BASE + request_)

    assert response.status_code == status, response.get_data(as_text=True)
    assert message in response.get_data(as_text=True)
    assert response.content_type.startswith("text/plain")


@pytest.mark.parametrize("route", ["runs", f"batches?{DIGITS}", "static/index.js"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_only_reading_is_allowed(client: Client, route: str, method: str) -> None:
    response = client.open(BASE + route, method=method)

    assert (response.status_code, response.headers["Allow"]) == (405, "GET, HEAD")
    assert client.head(BASE + route).status_code == 200


def payloads(pieces: list[bytes]) -> list[bytearray]:
    return [bytearray(piece[tfrecord.HEADER_BYTES : -tfrecord.FOOTER_BYTES]) for piece in pieces]


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=4)
)
def test_no_content_of_a_file_breaks_a_route(tmp_path: Path, changes: list[tuple[int, int, int]]) -> None:
    ids = np.array(list("abcdefgh"), object)
    output = make_record(0).outputs["scores"]
    outputs = {"scores": OutputRecord(output.predictions, output.targets, output.sample_loss, None, ids)}
    layers = {"dense": make_summary(1)}
    records = [make_record(step, outputs=outputs, layers=layers) for step in range(4)]
    contents = payloads(frames(records))
    for record, place, value in changes:
        contents[record][place % len(contents[record])] = value
    # The checksums are right: only what is inside is wrong.
    event_file(tmp_path / "a").write_bytes(b"".join(tfrecord.frame(bytes(content)) for content in contents))
    client = open_client(tmp_path)

    for request in (
        "runs",
        "runs?run=a",
        *(f"{route}?run=a&phase=train" for route in ("batches", "samples", "classes", "confusion", "layers")),
        "batches?run=a&phase=train&points=9",
        "batch?run=a&phase=train&step=2",
        "sample?run=a&phase=train&step=2&sample=0",
        "samples?run=a&phase=train&each=last&id_part=a",
        "data_map?run=a&phase=train",
        "layer?run=a&phase=train&layer=dense",
    ):
        assert client.get(BASE + request).status_code in (200, 400, 404), request


# --- files ---


def test_the_entry_module_is_there_even_without_a_bundle(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugins, "_STATIC", tmp_path / "nothing")

    response = client.get(BASE + "static/index.js")

    assert response.status_code == 200
    assert response.content_type == "text/javascript; charset=utf-8"
    assert "make frontend" in response.get_data(as_text=True)
    assert "export function render()" in response.get_data(as_text=True)


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("index.js", "text/javascript; charset=utf-8"),
        ("style.css", "text/css; charset=utf-8"),
        ("index.js.map", "application/json"),
        ("font.woff2", "font/woff2"),
        ("mark.svg", "image/svg+xml; charset=utf-8"),
    ],
)
def test_files_of_the_frontend_have_their_types(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content_type: str
) -> None:
    (tmp_path / name).write_bytes(b"content of " + name.encode())
    monkeypatch.setattr(plugins, "_STATIC", tmp_path)

    response = client.get(BASE + "static/" + name)

    assert (response.get_data(), response.content_type) == (b"content of " + name.encode(), content_type)
    assert response.headers["Cache-Control"] == "no-cache, must-revalidate"


# --- the host ---


def test_the_tab_is_described(logdir: Path) -> None:
    plugin = BatchViewPlugin(base_plugin.TBContext(logdir=str(logdir)))

    described = plugin.frontend_metadata()

    assert (described.es_module_path, described.tab_name) == ("/static/index.js", "Batch View")


def test_active_as_soon_as_there_is_a_run(tmp_path: Path) -> None:
    plugin = BatchViewPlugin(base_plugin.TBContext(logdir=str(tmp_path)), refresh_seconds=0, patience=60)
    (tmp_path / "batchview").mkdir()
    before = plugin.is_active()
    write(tmp_path / "a", [make_record(0)])
    after = plugin.is_active()
    event_file(tmp_path / "a").unlink()

    assert (before, after, plugin.is_active()) == (False, True, True)


def test_activity_is_looked_for_at_most_so_often(tmp_path: Path) -> None:
    plugin = BatchViewPlugin(base_plugin.TBContext(logdir=str(tmp_path)), refresh_seconds=1000, patience=60)
    assert not plugin.is_active()
    write(tmp_path / "a", [make_record(0)])

    assert not plugin.is_active()


def test_files_are_looked_at_at_most_so_often(tmp_path: Path) -> None:
    plugin = BatchViewPlugin(base_plugin.TBContext(logdir=str(tmp_path)), refresh_seconds=1000, patience=60)
    client = Client(TensorBoardWSGI([plugin]))
    assert get_json(client, "runs")["runs"] == []
    write(tmp_path / "a", [make_record(0)])

    assert get_json(client, "runs")["runs"] == []


def test_a_logdir_that_is_not_there_yet_is_empty_until_it_is(tmp_path: Path) -> None:
    client = open_client(tmp_path / "later")
    assert get_json(client, "runs")["runs"] == []
    write(tmp_path / "later", [make_record(0)])

    assert [run["name"] for run in get_json(client, "runs")["runs"]] == ["."]


class Flags:
    def __init__(self, logdir_spec: str) -> None:
        self.logdir_spec = logdir_spec


@pytest.mark.parametrize(
    ("logdir", "spec", "roots"),
    [
        ("/logs", "", {"": "/logs"}),
        ("", "a:/x,b:/y/z", {"a": "/x", "b": "/y/z"}),
        ("", "/only", {"": "/only"}),
        ("a:/x", "a:/x", {"a": "/x"}),
        ("", "/with:colon/in", {"": "/with:colon/in"}),
        ("", "", {}),
    ],
)
def test_the_logdir_is_found_where_tensorboard_keeps_it(logdir: str, spec: str, roots: dict[str, str]) -> None:
    found = find_roots(base_plugin.TBContext(logdir=logdir, flags=Flags(spec)))

    assert found == (logdir or spec, {name: Path(path) for name, path in roots.items()})


def test_the_home_directory_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    assert find_roots(base_plugin.TBContext(logdir="~/logs", flags=None)) == ("~/logs", {"": tmp_path / "logs"})


def test_runs_of_a_logdir_spec_carry_its_names(tmp_path: Path) -> None:
    write(tmp_path / "x", [make_record(0)])
    write(tmp_path / "y" / "sub", [make_record(0)])
    context = base_plugin.TBContext(logdir="", flags=Flags(f"a:{tmp_path / 'x'},b:{tmp_path / 'y'}"))
    client = Client(TensorBoardWSGI([BatchViewPlugin(context, patience=60)]))

    assert [run["name"] for run in get_json(client, "runs")["runs"]] == ["a", "b/sub"]


def test_many_threads_get_whole_answers_while_training_writes(tmp_path: Path) -> None:
    pieces = frames([make_record(step) for step in range(120)])
    path = event_file(tmp_path / "a")
    path.write_bytes(b"".join(pieces[:21]))
    client = open_client(tmp_path)

    def ask(thread: int) -> list[str]:
        problems = []
        seen = 0
        for _ in range(15):
            header, arrays = get_arrays(client, "confusion?run=a&phase=train")
            if int(arrays["counts"].sum()) != header["samples"] or header["samples"] != 8 * header["batches"]:
                problems.append(f"confusion {header}")
            if header["batches"] < seen:
                problems.append(f"{header['batches']} after {seen}")
            seen = header["batches"]
            row = get_json(client, f"batches?run=a&phase=train&find={thread}&limit=1")["rows"][0]
            batch = get_json(client, f"batch?run=a&phase=train&step={thread}")
            if batch["loss"] != row["loss"] or len(batch["samples"]) != 8:
                problems.append(f"batch {thread}")
        return problems

    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        asked = [pool.submit(ask, thread) for thread in range(10)]
        for piece in pieces[21:]:
            append(path, piece)
        assert [problem for future in asked for problem in future.result()] == []
    assert get_json(client, "runs")["runs"][0]["phases"][0]["batches"] == 120


def test_a_batch_that_is_gone_is_not_found(tmp_path: Path) -> None:
    path = write(tmp_path / "a", [make_record(step) for step in range(5)])
    plugin = BatchViewPlugin(base_plugin.TBContext(logdir=str(tmp_path)), refresh_seconds=1000, patience=60)
    client = Client(TensorBoardWSGI([plugin]))
    get_json(client, "runs")
    os.truncate(path, 1000)

    response: TestResponse = client.get(BASE + "batch?run=a&phase=train&step=4")

    assert response.status_code == 404
    assert "was deleted, replaced or truncated" in response.get_data(as_text=True)


def test_the_plugin_loads_neither_tensorflow_nor_keras(loaded: Callable[[str], set[str]]) -> None:
    found = loaded("import tb_batchview.plugin")

    assert "tb_batchview.plugin" in found
    assert found & {"tensorflow", "keras", "pandas", "tb_batchview.writer", "tb_batchview.encode"} == set()
