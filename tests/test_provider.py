"""Runs read through a foreign data provider, beside the same runs read from their files."""

from __future__ import annotations

import gc
import itertools
import json
import os
import shutil
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from provided import connect, make_multiplexer, make_provider, run_data_server
from recorded import SPECS, TIME, append, event_file, frames, make_record, make_summary, write
from tensorboard import auth, context, errors
from tensorboard.backend.application import TensorBoardWSGI
from tensorboard.backend.event_processing import data_provider
from tensorboard.data import provider as data_providers
from tensorboard.plugins import base_plugin
from test_plugin import BASE, GOLDEN_REQUESTS, get_json, open_client, write_digits, write_others
from werkzeug.test import Client

from tb_batchview import load, metadata, provider, rebuilt
from tb_batchview.plugin import BatchViewPlugin
from tb_batchview.records import OutputRecord, OutputSpec

ALL = f"{BASE}runs"


@pytest.fixture(scope="module")
def logdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("logs")
    write_digits(directory, metrics_from=0)
    write_others(directory)
    write(directory / "long" / "one", [make_record(step) for step in range(300)])
    return directory


@pytest.fixture(scope="module")
def files(logdir: Path) -> Client:
    return open_client(logdir)


def open_plugin(source: Any, refresh_seconds: float = 0) -> tuple[BatchViewPlugin, Client]:
    tensorboard = base_plugin.TBContext(logdir="", data_provider=source)
    plugin = BatchViewPlugin(tensorboard, refresh_seconds=refresh_seconds, patience=60)
    return plugin, Client(TensorBoardWSGI([plugin], data_provider=source))


def open_provided(source: Any) -> Client:
    return open_plugin(source)[1]


def phases_of(client: Client) -> dict[str, list[tuple[str, int, int]]]:
    """Return phase, kept and seen, by run."""
    return {
        run["name"]: [(phase["name"], phase["batches"], phase["seen"]) for phase in run["phases"]]
        for run in get_json(client, "runs")["runs"]
    }


def warnings_of(client: Client, run: str = ".") -> dict[str, int]:
    answer = get_json(client, f"runs?run={run}")["runs"][0]
    return {item["message"]: item["count"] for item in answer["health"]["warnings"]}


def provided_files(plugin: BatchViewPlugin) -> list[Path]:
    """Return the event files made of what the provider has."""
    folders = [path for source in plugin._sources if source.provided for path in source.provided.find().values()]
    return sorted(path for folder in folders for path in folder.iterdir())


@pytest.fixture(scope="module", params=["python", "server"])
def whole(request: pytest.FixtureRequest, logdir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Return a plugin whose provider keeps all."""
    if request.param == "python":
        yield open_provided(make_provider(logdir, 0))
        return
    with run_data_server(logdir, tmp_path_factory.mktemp("server"), "all") as address, connect(address) as source:
        yield open_provided(source)


@pytest.mark.parametrize("name", [name for name in GOLDEN_REQUESTS if "runs" not in name and name != "run.json"])
def test_every_answer_is_that_of_the_files(whole: Client, files: Client, name: str) -> None:
    wanted, found = (client.get(BASE + GOLDEN_REQUESTS[name]) for client in (files, whole))

    assert wanted.status_code == found.status_code == 200, found.get_data(as_text=True)
    assert found.get_data() == wanted.get_data()


def test_the_runs_are_those_of_the_files_but_for_their_sizes(whole: Client, files: Client) -> None:
    answers = [get_json(client, "runs") for client in (files, whole)]
    for answer in answers:
        for run in answer["runs"]:
            assert run["health"].pop("bytes") > 0
    location = answers[0].pop("logdir")

    assert answers[0].pop("data_provider") is None
    assert answers[1].pop("data_provider") == {"location": location, "failure": ""}
    assert answers[1].pop("logdir") == ""
    assert answers[0] == answers[1]
    assert [run["name"] for run in answers[1]["runs"]] == ["age", "digits", "long/one", "spam", "tags"]


@pytest.mark.parametrize("loader", ["python", "server"])
def test_of_few_batches_every_number_is_that_of_the_file(logdir: Path, tmp_path: Path, loader: str) -> None:
    if loader == "python":
        compare_few(logdir, make_provider(logdir, 10))
    else:
        with run_data_server(logdir, tmp_path, "10") as address, connect(address) as source:
            compare_few(logdir, source)


def compare_few(logdir: Path, source: Any) -> None:
    client = open_provided(source)
    run = load(logdir)["long/one"]
    truth = {batch.step: batch for batch in run.batches("train")}
    rows = get_json(client, "batches?run=long/one&phase=train")["rows"]

    assert phases_of(client)["long/one"] == [("train", 10, 300)]
    assert len(rows) == 10
    assert rows[-1]["step"] == 299  # TensorBoard keeps the last
    for row in rows:
        batch = truth[row["step"]]
        one = get_json(client, f"batch?run=long/one&phase=train&step={row['step']}&sort=sample&descending=0")
        assert (row["epoch"], row["index"], row["size"], row["loss"]) == (batch.epoch, batch.index, 8, batch.loss)
        assert row["metrics"] == batch.metrics
        assert row["error_rate"] == batch.error_rate
        assert [sample["predicted"] for sample in one["samples"]] == batch.predicted.tolist()
        assert [sample["target"] for sample in one["samples"]] == batch.target.tolist()
        scores = get_json(client, f"sample?run=long/one&phase=train&step={row['step']}&sample=5")["scores"]
        np.testing.assert_array_equal(
            np.array([score["score"] for score in sorted(scores, key=lambda score: score["class"])], np.float32),
            batch.predictions[5],
        )


def test_the_doctor_says_what_a_data_provider_means(logdir: Path) -> None:
    client = open_provided(make_provider(logdir, 5))

    findings = get_json(client, "doctor?run=long/one")["findings"]
    everything = get_json(client, "doctor")["findings"]

    assert findings[0]["about"] == "data provider"
    assert str(logdir) in findings[0]["state"]
    assert "--samples-per-plugin=batchview=all" in findings[0]["remedy"]
    assert {"train: 5 of 300 batches"} < {finding["state"] for finding in findings}
    assert findings[0] in everything


# --- growing ---


def test_what_is_new_is_appended(tmp_path: Path) -> None:
    pieces = frames([make_record(step) for step in range(40)])
    path = event_file(tmp_path / "a")
    path.write_bytes(b"".join(pieces[:11]))
    multiplexer = make_multiplexer(tmp_path, 0)
    plugin, client = open_plugin(data_provider.MultiplexerDataProvider(multiplexer, ""))
    assert phases_of(client) == {"a": [("train", 10, 10)]}
    (before,) = provided_files(plugin)
    content, inode = before.read_bytes(), before.stat().st_ino
    for piece in pieces[11:]:
        append(path, piece)
    multiplexer.Reload()

    assert phases_of(client) == {"a": [("train", 40, 40)]}
    assert provided_files(plugin) == [before]
    assert before.read_bytes().startswith(content)
    assert before.stat().st_ino == inode
    wanted = open_client(tmp_path).get(f"{BASE}confusion?run=a&phase=train").get_data()
    assert client.get(f"{BASE}confusion?run=a&phase=train").get_data() == wanted


def test_what_is_no_longer_kept_is_no_longer_shown(tmp_path: Path) -> None:
    pieces = frames([make_record(step) for step in range(200)])
    path = event_file(tmp_path / "a")
    path.write_bytes(b"".join(pieces[:21]))
    multiplexer = make_multiplexer(tmp_path, 10)
    plugin, client = open_plugin(data_provider.MultiplexerDataProvider(multiplexer, ""))
    assert phases_of(client) == {"a": [("train", 10, 20)]}
    before = provided_files(plugin)
    for piece in pieces[21:]:
        append(path, piece)
    multiplexer.Reload()

    assert phases_of(client) == {"a": [("train", 10, 200)]}
    after = provided_files(plugin)
    assert len(after) == 1
    assert after != before
    kept = {event.step for event in multiplexer.Tensors("a/batchview", "train/header")}
    assert {row["step"] for row in get_json(client, "batches?run=a&phase=train")["rows"]} == kept


def test_nothing_is_read_again_while_nothing_is_new(logdir: Path) -> None:
    source = Counted(make_provider(logdir, 0))
    client = open_provided(source)
    get_json(client, "runs")
    reads = source.calls["read_tensors"]
    for _ in range(3):
        get_json(client, "runs")

    assert source.calls["read_tensors"] == reads > 0
    assert source.calls["list_tensors"] >= 4


class Counted:
    """A data provider that counts what it is asked, and may fail."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self.calls: dict[str, int] = {}
        self.asked: list[dict[str, Any]] = []
        self.broken: dict[str, Exception] = {}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if not hasattr(self.source, name):
            raise AttributeError(name)

        def call(ctx: Any = None, **options: Any) -> Any:
            self.calls[name] = self.calls.get(name, 0) + 1
            self.asked.append({"name": name, "ctx": ctx, **options})
            if name in self.broken:
                raise self.broken[name]
            return getattr(self.source, name)(ctx, **options)

        return call


def test_a_run_that_is_gone_is_gone(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / name, [make_record(0)])
    multiplexer = make_multiplexer(tmp_path, 0)
    source = Fake({})
    real = data_provider.MultiplexerDataProvider(multiplexer, "")
    source.list_tensors, source.read_tensors = real.list_tensors, real.read_tensors  # type: ignore[method-assign]
    plugin, client = open_plugin(source)
    assert sorted(phases_of(client)) == ["a", "b"]
    listed = real.list_tensors(context.RequestContext(), experiment_id="", plugin_name="batchview")
    del listed["b/batchview"]
    source.list_tensors = lambda *_, **__: listed  # type: ignore[method-assign]

    assert sorted(phases_of(client)) == ["a"]
    assert len(provided_files(plugin)) == 1


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_whatever_is_kept_of_each_series_is_shown_as_it_was_recorded(whole_series: Any, data: st.DataObject) -> None:
    series, truth = whole_series
    source = Fake({})
    plugin, client = open_plugin(source)
    for _ in range(data.draw(st.integers(1, 3), "looks")):
        kept = {tag: data.draw(st.sets(st.integers(0, 11)), tag) for tag in series}
        tags = {
            tag: (content, [item for item in items if item[0] in kept[tag]])
            for tag, (content, items) in series.items()
            if kept[tag]
        }
        source.runs = {"run/batchview": tags} if tags else {}
        get_json(client, "runs")

    run = plugin._sources.of("").log.get("run")
    found = {batch.step: batch for batch in run.batches("train")} if run is not None and run.phases else {}
    assert set(found) == kept["train/header"]
    for step, batch in found.items():
        wanted = truth[step]
        assert (batch.epoch, batch.index, batch.size, batch.loss) == (wanted.epoch, wanted.index, 8, wanted.loss)
        assert batch.metrics == wanted.metrics
        for kind in ("predictions", "targets", "target", "predicted", "sample_loss"):
            array = getattr(batch, kind)
            if step in kept[f"train/outputs/scores/{kind}"]:
                np.testing.assert_array_equal(array, getattr(wanted, kind))
            else:
                assert array is None
    assert client.get(f"{BASE}doctor").status_code == 200


@pytest.fixture(scope="module")
def whole_series(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[int, Any]]:
    """Return twelve batches as a provider has them, and as they are read from their file."""
    folder = tmp_path_factory.mktemp("series")
    write(folder, [make_record(step) for step in range(12)])
    source = make_provider(folder, 0)
    asked = {"experiment_id": "", "plugin_name": "batchview"}
    ((run, listed),) = source.list_tensors(context.RequestContext(), **asked).items()
    read = source.read_tensors(context.RequestContext(), downsample=100, **asked)[run]
    series = {
        tag: (listed[tag].plugin_content, [(item.step, item.wall_time, item.numpy) for item in read[tag]])
        for tag in listed
    }
    return series, {batch.step: batch for batch in load(folder)["."].batches("train")}


def test_files_that_the_system_cleared_away_are_made_again(tmp_path: Path) -> None:
    write(tmp_path, [make_record(step) for step in range(6)])
    plugin, client = open_plugin(make_provider(tmp_path, 0))
    assert phases_of(client) == {".": [("train", 6, 6)]}
    (path,) = provided_files(plugin)
    for everything in (False, True):
        if everything:
            shutil.rmtree(path.parent.parent)
        else:
            path.unlink()
        get_json(client, "runs")  # notices it
        assert phases_of(client) == {".": [("train", 6, 6)]}
        assert get_json(client, "sample?run=.&phase=train&step=5&sample=1")["scores"]
        (path,) = provided_files(plugin)
    assert path.parent.parent.stat().st_mode & 0o077 == 0


# --- what a provider does not tell ---


def test_metrics_that_the_first_batch_had_not_are_left_out_and_said(tmp_path: Path) -> None:
    metrics: list[dict[str, float]] = [{}, {"accuracy": 0.5}, {"accuracy": 0.25, "auc": 0.75}, {}]
    write(tmp_path, [make_record(step, metrics=found) for step, found in enumerate(metrics)])
    client = open_provided(make_provider(tmp_path, 0))
    wanted = get_json(open_client(tmp_path), "batches?run=.&phase=train")["rows"]

    rows = get_json(client, "batches?run=.&phase=train")["rows"]

    assert rows == [{**row, "metrics": {}} for row in wanted]
    assert warnings_of(client) == {
        "Metrics of batches that have others than the first one: a data provider does not tell their names.": 2
    }


def test_figures_of_other_outputs_are_not_taken_for_those_of_the_first(tmp_path: Path) -> None:
    both = {name: make_record(1).outputs["scores"] for name in ("scores", "second")}
    specs = {**SPECS, "second": SPECS["scores"]}
    content = frames([make_record(0)]) + frames([make_record(1, outputs=both)], specs=specs)[1:]
    event_file(tmp_path).write_bytes(b"".join(content))

    rows = get_json(open_provided(make_provider(tmp_path, 0)), "batches?run=.&phase=train&output=scores")["rows"]

    assert [(row["step"], row["loss"]) for row in rows] == [(0, rows[0]["loss"]), (1, make_record(1).loss)]
    assert isinstance(rows[0]["error_rate"], float)
    assert rows[1]["error_rate"] is None or rows[1]["error_rate"] == "NaN"


def test_arrays_without_their_header_are_counted(tmp_path: Path) -> None:
    records = [
        make_record(step, **({"layers": {"dense": make_summary(step)}} if step % 10 == 0 else {}))
        for step in range(200)
    ]
    write(tmp_path, records)
    client = open_provided(make_provider(tmp_path, 10))
    multiplexer = make_multiplexer(tmp_path, 10)
    kept, layers = (
        {event.step for event in multiplexer.Tensors("batchview", tag)}
        for tag in ("train/header", "train/layers/dense/summary")
    )

    lost = len(layers - kept)
    assert lost > 0
    message = "Arrays and summaries of batches whose header the data provider did not keep are left out."
    assert warnings_of(client) == {message: lost}


def test_of_several_workers_one_is_shown_and_it_is_said(tmp_path: Path) -> None:
    for worker in range(2):
        records = [make_record(step, wall_time=TIME + step + worker / 8) for step in range(12)]
        path = event_file(tmp_path, worker)
        path.write_bytes(b"".join(frames(records, worker=worker, workers=2)))
    client = open_provided(make_provider(tmp_path, 0))

    assert phases_of(client) == {".": [("train", 12, 12)]}
    assert [row["size"] for row in get_json(client, "batches?run=.&phase=train")["rows"]] == [8] * 12
    message = "A data provider does not tell workers apart: of each batch one worker's share is shown."
    assert warnings_of(client) == {message: 12}


def test_of_batches_recorded_twice_the_later_one_counts(tmp_path: Path) -> None:
    write(tmp_path, [make_record(step) for step in range(4)])
    write(tmp_path, [make_record(step, wall_time=TIME + 100 + step, loss=9.0) for step in (2, 3)], number=1)
    client = open_provided(make_provider(tmp_path, 0))

    rows = get_json(client, "batches?run=.&phase=train")["rows"]
    assert [row["loss"] for row in rows[2:]] == [9.0, 9.0]
    assert warnings_of(client) == {"Batches that were recorded twice: the later one counts.": 2}


def test_what_a_writer_said_is_said_and_counts_what_was_lost(tmp_path: Path) -> None:
    statuses = [
        metadata.Status("dropped", "No room.", 3, {"train": 15}),
        metadata.Status("capture", "No loss.", 2, {"train": 15}),
        metadata.Status("closed", "", 1, {"train": 15}),
    ]
    write(tmp_path, [make_record(step) for step in range(12)], statuses=statuses)
    files, client = open_client(tmp_path), open_provided(make_provider(tmp_path, 0))

    assert phases_of(client) == phases_of(files) == {".": [("train", 12, 15)]}
    health, wanted = (get_json(one, "runs")["runs"][0]["health"] for one in (client, files))
    assert health["dropped_batches"] == wanted["dropped_batches"] == 3
    assert sorted(item["message"] for item in health["warnings"]) == ["No loss.", "No room."]


def test_a_newer_format_is_refused_with_both_versions() -> None:
    content = HEADER.replace(b'"version":1', b'"version":7')
    client = open_provided(Fake({"run": {"train/header": (content, [numbers(0)])}}))

    health = get_json(client, "runs")["runs"][0]["health"]
    assert health["refused_files"] == 1
    assert any("Received: version=7" in item["message"] for item in health["warnings"])


# --- hostile ---


class Fake:
    """A data provider that answers as it is told: content and (step, wall time, array)s by run and tag."""

    def __init__(self, runs: dict[Any, Any]) -> None:
        self.runs = runs
        self.reads: list[int] = []
        self.series: dict[
            str, tuple[int, float]
        ] = {}  # what is listed of a tag, where its data are not to be looked at

    def experiment_metadata(self, ctx: Any, *, experiment_id: str) -> Any:
        return data_providers.ExperimentMetadata(data_location="fake://")

    def list_plugins(self, ctx: Any, *, experiment_id: str) -> list[str]:
        return []

    def list_runs(self, ctx: Any, *, experiment_id: str) -> list[Any]:
        return [types.SimpleNamespace(run_name=run) for run in self.runs]

    def list_tensors(self, ctx: Any, *, experiment_id: str, plugin_name: str, run_tag_filter: Any = None) -> Any:
        def series(tag: str, content: Any, data: Any) -> Any:
            step, time = self.series.get(tag) or map(max, zip(*[item[:2] for item in data], strict=True))
            return data_providers.TensorTimeSeries(
                max_step=step, max_wall_time=time, plugin_content=content, description="", display_name=""
            )

        return {run: {tag: series(tag, *what) for tag, what in tags.items()} for run, tags in self.runs.items()}

    def read_tensors(
        self, ctx: Any, *, experiment_id: str, plugin_name: str, downsample: int, run_tag_filter: Any
    ) -> Any:
        self.reads.append(downsample)
        return {
            run: {
                tag: [data_providers.TensorDatum(*item) for item in self.runs[run][tag][1][-downsample:]]
                for tag in run_tag_filter.tags
                if tag in self.runs[run]
            }
            for run in run_tag_filter.runs
            if run in self.runs
        }


HEADER = metadata.header_content(
    "train", ("epoch", "index", "size", "loss"), {"scores": OutputSpec("regression", 0)}, {}
)


def numbers(step: int, *more: float) -> tuple[int, float, np.ndarray]:
    return step, TIME + step, np.array([0, step, 8, 0.5, *more])


def one_run(**tags: Any) -> dict[str, Any]:
    """Return three sound batches, and more."""
    return {"run/batchview": {"train/header": (HEADER, [numbers(step) for step in range(3)]), **tags}}


ODD = "Arrays of the data provider that are not as the format has them are left out."


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(8, complex),
        [1.0, 2.0],
        None,
        np.array([object()] * 8),
        np.zeros(8, [("a", "f4")]),
        np.zeros(8, "M8[s]"),
        np.zeros(8, np.longdouble),
    ],
    ids=["complex", "list", "none", "objects", "structured", "dates", "long doubles"],
)
@pytest.mark.parametrize("kind", ["predictions", "sample_loss"])
def test_arrays_that_are_none_of_the_formats_are_left_out_and_counted(kind: str, array: Any) -> None:
    content = metadata.output_content("train", "scores", kind)
    data = [(1, TIME + 1, array), (2, TIME + 2, np.full(8, 0.5, np.float32))]
    client = open_provided(Fake(one_run(**{metadata.output_tag("train", "scores", kind): (content, data)})))

    assert phases_of(client) == {"run": [("train", 3, 3)]}
    assert warnings_of(client, "run") == {ODD: 1}
    assert get_json(client, "runs")["runs"][0]["health"]["corrupt_records"] == 0


@pytest.mark.parametrize(
    ("step", "time"), [(-1, TIME), (2**63, TIME), ("x", TIME), (1, float("nan")), (1, float("inf")), (1, None)]
)
def test_steps_and_times_that_cannot_be_are_left_out_and_counted(step: Any, time: Any) -> None:
    content = metadata.output_content("train", "scores", "sample_loss")
    source = Fake(one_run(loss=(content, [numbers(0)])))
    source.runs["run/batchview"]["loss"][1][0] = (step, time, np.zeros(8))
    source.series = {"loss": (2, TIME)}
    client = open_provided(source)

    assert phases_of(client) == {"run": [("train", 3, 3)]}
    assert warnings_of(client, "run") == {ODD: 1}


@pytest.mark.parametrize(
    ("kind", "array"),
    [
        ("predictions", np.array(1.0)),
        ("sample_loss", np.zeros((8, 2), np.float32)),
        ("sample_loss", np.array(["a"] * 8)),
        ("target", np.zeros(8, np.float32)),
        ("header", np.zeros(3)),
        ("header", np.zeros((2, 2))),
        ("header", np.zeros(4, np.int32)),
        ("inputs", np.array(["a"] * 3, object).reshape(3, 1)),
    ],
)
def test_a_batch_of_arrays_that_cannot_be_is_left_out_and_counted_as_in_a_file(kind: str, array: Any) -> None:
    source = Fake(one_run())
    if kind == "header":
        source.runs["run/batchview"]["train/header"][1][1] = (1, TIME + 1, array)
    else:
        content = metadata.output_content("train", "scores", kind)
        content = metadata.inputs_content("train", "text") if kind == "inputs" else content
        source.runs["run/batchview"]["odd"] = (content, [(1, TIME + 1, array)])
    client = open_provided(source)

    assert phases_of(client) == {"run": [("train", 2, 3)]}
    assert get_json(client, "runs")["runs"][0]["health"]["corrupt_records"] == 1


@pytest.mark.parametrize(
    ("answers", "failure"),
    [
        ({"list_tensors": lambda *_, **__: None}, "FormatError: A data provider must answer with a dict"),
        ({"list_tensors": lambda *_, **__: [1]}, "Received: list."),
        ({"list_tensors": lambda: {}}, "TypeError"),
        ({"list_tensors": None}, "TypeError"),
        ({"read_tensors": None}, "TypeError"),
        ({"read_tensors": lambda *_, **__: None}, "Received: NoneType."),
        ({"read_tensors": lambda *_, **__: {"run/batchview": {"train/header": 7}}}, "TypeError"),
    ],
)
def test_a_provider_that_fails_is_an_empty_page_that_says_why(answers: dict[str, Any], failure: str) -> None:
    source = Fake(one_run())
    for name, answer in answers.items():
        setattr(source, name, answer)
    client = open_provided(source)

    answer = get_json(client, "runs")
    assert failure in answer["data_provider"]["failure"]
    assert all(run["phases"] == [] for run in answer["runs"])
    assert any(failure in finding["state"] for finding in get_json(client, "doctor")["findings"])


def test_a_provider_need_not_say_where_its_data_are() -> None:
    source = Fake(one_run())
    source.experiment_metadata = None  # type: ignore[assignment]
    client = open_provided(source)

    assert phases_of(client) == {"run": [("train", 3, 3)]}
    assert get_json(client, "runs")["data_provider"] == {"location": "", "failure": ""}


def test_a_provider_without_methods_is_an_empty_page() -> None:
    client = open_provided(types.SimpleNamespace())

    assert get_json(client, "runs")["runs"] == []
    assert "no attribute" in get_json(client, "runs")["data_provider"]["failure"]


def test_odd_names_and_series_are_passed_by() -> None:
    good = one_run()["run/batchview"]
    source = Fake({"../../etc/batchview": good, "batchview": good, ".": good, 7: good, "\x00\u202e/batchview": good})
    listed = source.list_tensors

    def list_more(*arguments: Any, **options: Any) -> Any:
        answer = {**listed(*arguments, **options)}
        for tags in answer.values():
            tags.update({"none": None, "number": 7, 8: tags["train/header"]})
            tags["bytes"] = types.SimpleNamespace(plugin_content="text", max_step=1, max_wall_time=1)
            tags["step"] = types.SimpleNamespace(plugin_content=HEADER, max_step="x", max_wall_time=1)
            tags["json"] = types.SimpleNamespace(plugin_content=b"{", max_step=1, max_wall_time=1)
        return {**answer, "no series": 7, "none": None}

    source.list_tensors = list_more  # type: ignore[method-assign]
    plugin, client = open_plugin(source)

    kept = [("train", 3, 3)]
    found = phases_of(client)
    # Names are only shown: the folders of the files have numbers.
    assert found == {"../../etc": kept, ".": kept, "\x00\u202e": kept} | {
        name: kept for name in found if name == "batchview"
    }
    assert all(path.parent.name.isdigit() for path in provided_files(plugin))


def test_one_series_that_cannot_be_read_costs_no_other(tmp_path: Path) -> None:
    write(tmp_path, [make_record(step) for step in range(6)])
    source = Counted(make_provider(tmp_path, 0))
    read = source.source.read_tensors

    def refuse(ctx: Any, *, run_tag_filter: Any, **options: Any) -> Any:
        if "train/outputs/scores/predictions" in run_tag_filter.tags:
            raise RuntimeError("more than\n 256 MB")
        return read(ctx, run_tag_filter=run_tag_filter, **options)

    source.source.read_tensors = refuse
    client = open_provided(source)

    assert phases_of(client) == {".": [("train", 6, 6)]}
    message = "TensorBoard's data provider could not be read: RuntimeError: more than 256 MB."
    assert warnings_of(client) == {message: 1}
    rows = get_json(client, "batches?run=.&phase=train")["rows"]
    assert rows == get_json(open_client(tmp_path), "batches?run=.&phase=train")["rows"]
    # When it goes well again, it is all there.
    source.source.read_tensors = read
    assert warnings_of(client) == {}
    assert get_json(client, "sample?run=.&phase=train&step=5&sample=1")["scores"]


def test_what_was_read_stays_while_the_provider_fails(tmp_path: Path) -> None:
    path = write(tmp_path, [make_record(step) for step in range(6)])
    multiplexer = make_multiplexer(tmp_path, 0)
    source = Counted(data_provider.MultiplexerDataProvider(multiplexer, ""))
    client = open_provided(source)
    assert phases_of(client) == {".": [("train", 6, 6)]}
    for piece in frames([make_record(step) for step in range(8)])[7:]:
        append(path, piece)
    multiplexer.Reload()
    for name in ("list_tensors", "read_tensors"):
        source.broken = {name: RuntimeError("no such luck")}
        answer = get_json(client, "runs")
        assert answer["data_provider"]["failure"] == "RuntimeError: no such luck"
        assert phases_of(client) == {".": [("train", 6, 6)]}
    source.broken = {}

    assert phases_of(client) == {".": [("train", 8, 8)]}
    assert get_json(client, "runs")["data_provider"]["failure"] == ""


# --- bounds ---


def test_memory_and_disk_are_bounded_and_what_is_left_out_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = np.random.default_rng(0).random((8, 1000)).astype(np.float32)
    record = {"outputs": {"scores": OutputRecord(predictions=wide, targets=wide)}}
    specs = {"scores": OutputSpec("regression", 0)}
    write(tmp_path, [make_record(step, **record) for step in range(100)], specs=specs)
    monkeypatch.setattr(provider, "MAX_RUN_BYTES", 1 << 20)
    source = Counted(make_provider(tmp_path, 0))
    plugin, client = open_plugin(source)

    assert phases_of(client) == {".": [("train", 100, 100)]}
    ((message, count),) = warnings_of(client).items()
    assert "too large" in message
    assert count == 2  # of targets and predictions
    assert sum(path.stat().st_size for path in provided_files(plugin)) < 1 << 20
    # It is asked for no more than fits.
    large = [call for call in source.asked if call["name"] == "read_tensors" and call["downsample"] > 1]
    for call in large:
        if any(tag.endswith(("predictions", "targets")) for tag in call["run_tag_filter"].tags):
            assert call["downsample"] * wide.nbytes <= 1 << 20
    monkeypatch.setattr(provider, "MAX_BYTES", 0)
    nothing = open_provided(make_provider(tmp_path, 0))
    assert phases_of(nothing) == {".": []}
    assert sum(warnings_of(nothing).values()) >= 4


def test_where_answers_have_a_limit_fewer_arrays_are_asked_for(tmp_path: Path) -> None:
    write(tmp_path, [make_record(step) for step in range(100)])
    source = make_provider(tmp_path, 0)
    read = source.read_tensors

    def refuse(ctx: Any, *, run_tag_filter: Any, downsample: int, **options: Any) -> Any:
        if "train/outputs/scores/predictions" in run_tag_filter.tags and downsample > 20:
            raise RuntimeError("Received message larger than max")
        return read(ctx, run_tag_filter=run_tag_filter, downsample=downsample, **options)

    source.read_tensors = refuse
    plugin, client = open_plugin(source)

    assert phases_of(client) == {".": [("train", 100, 100)]}
    assert warnings_of(client) == {
        "Series of the data provider that are too large were read in part, or not at all.": 1
    }
    truth = load(tmp_path)["."].batches("train")
    found = plugin._sources.of("").log["."].batches("train")
    whole = [batch.step for batch in found if batch.predictions is not None]
    assert 2 <= len(whole) <= 20
    for step in whole:
        np.testing.assert_array_equal(found[step].predictions, truth[step].predictions)


def test_more_runs_and_batches_than_there_may_be_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = [numbers(step) for step in range(30)]
    source = Fake({f"run{number}": {"train/header": (HEADER, batches)} for number in range(5)})
    monkeypatch.setattr(provider, "MAX_RUNS", 2)
    monkeypatch.setattr(provider, "MAX_POINTS", 10)
    client = open_provided(source)

    assert phases_of(client) == {f"run{number}": [("train", 10, 30)] for number in range(2)}
    assert max(source.reads) == 10
    assert sum(warnings_of(client, "run0").values()) == 1
    assert "3 more run(s) are not shown" in [item["state"] for item in get_json(client, "doctor")["findings"]]


def test_a_full_disk_leaves_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Fake(one_run())
    plugin, client = open_plugin(source)
    assert phases_of(client) == {"run": [("train", 3, 3)]}
    (path,) = provided_files(plugin)
    content = path.read_bytes()

    def fail_late(pieces: Any) -> Any:
        raise OSError(28, "No space left on device")

    source.runs["run/batchview"]["train/header"][1].append(numbers(3))
    with monkeypatch.context() as patch:
        patch.setattr(rebuilt.tfrecord, "frame_pieces", fail_late)
        assert "No space left" in get_json(client, "runs")["data_provider"]["failure"]
        assert phases_of(client) == {"run": [("train", 3, 3)]}
        assert path.read_bytes() == content

    assert phases_of(client) == {"run": [("train", 4, 4)]}


# --- who asks ---


class ByHeader(auth.AuthProvider):  # type: ignore[misc]
    def authenticate(self, environ: dict[str, Any]) -> str:
        return str(environ.get("HTTP_X_USER", ""))


def test_the_provider_is_asked_in_the_name_of_each_request(tmp_path: Path) -> None:
    write(tmp_path, [make_record(0)])
    source = Counted(make_provider(tmp_path, 0))
    listed = source.source.list_runs

    def list_runs(ctx: Any, *, experiment_id: str) -> Any:
        if ctx.auth.get("user") != "ada":
            raise errors.PermissionDeniedError("not yours")
        return listed(ctx, experiment_id=experiment_id)

    source.source.list_runs = list_runs
    plugin = BatchViewPlugin(base_plugin.TBContext(logdir="", data_provider=source), refresh_seconds=0, patience=60)
    app = TensorBoardWSGI([plugin], data_provider=source, auth_providers={"user": ByHeader()})
    client = Client(app)

    answer = client.get(ALL, headers={"X-User": "ada"})
    assert json.loads(answer.get_data())["runs"][0]["name"] == "."
    assert {call["ctx"].auth.get("user") for call in source.asked} == {"ada"}
    # What was read for one is not for all.
    for path in (ALL, f"{BASE}batch?run=.&phase=train&step=0", f"{BASE}doctor"):
        refused = client.get(path, headers={"X-User": "eve"})
        assert (refused.status_code, "not yours" in refused.get_data(as_text=True)) == (403, True)
    assert client.get(ALL, headers={"X-User": "ada"}).status_code == 200


def test_each_experiment_has_its_runs_and_the_oldest_go() -> None:
    class Experiments(Fake):
        def list_tensors(self, ctx: Any, *, experiment_id: str, **options: Any) -> Any:
            self.runs = {f"of {experiment_id}": one_run()["run/batchview"]}
            return super().list_tensors(ctx, experiment_id=experiment_id, **options)

    source = Experiments({})
    plugin = BatchViewPlugin(base_plugin.TBContext(logdir="", data_provider=source), refresh_seconds=0, patience=60)
    app = TensorBoardWSGI([plugin], data_provider=source)
    client = Client(app)
    folders = []
    for number in range(6):
        answer = client.get(f"/experiment/e{number}{ALL}")
        runs = json.loads(answer.get_data())["runs"]
        assert [run["name"] for run in runs] == [f"of e{number}"]
        folders += [one.provided.find()[f"of e{number}"] for one in itertools.islice(reversed([*plugin._sources]), 1)]

    assert [folder.exists() for folder in folders] == [False, False, True, True, True, True]


# --- the host ---


def test_active_by_what_tensorboard_asks_and_then_by_what_was_read(tmp_path: Path) -> None:
    write(tmp_path, [make_record(0)])
    real = make_provider(tmp_path, 0)
    plugin, client = open_plugin(real)
    assert json.loads(client.get("/data/plugins_listing").get_data())["batchview"]["enabled"]
    assert not plugin.is_active()  # nobody was asked: that is not cheap

    silent = Fake(one_run())
    plugin, client = open_plugin(silent)
    assert not json.loads(client.get("/data/plugins_listing").get_data())["batchview"]["enabled"]
    get_json(client, "runs")
    assert plugin.is_active()


def test_files_are_read_where_there_is_a_logdir(tmp_path: Path) -> None:
    write(tmp_path, [make_record(0)])
    source = Counted(make_provider(tmp_path, 0))
    plugin = BatchViewPlugin(
        base_plugin.TBContext(logdir=str(tmp_path), data_provider=source), refresh_seconds=0, patience=60
    )
    answer = get_json(Client(TensorBoardWSGI([plugin])), "runs")

    assert (answer["data_provider"], source.calls) == (None, {})
    assert answer["runs"][0]["name"] == "."


def test_the_files_are_removed_with_the_plugin(logdir: Path) -> None:
    plugin, client = open_plugin(make_provider(logdir, 2))
    get_json(client, "runs")
    folder = provided_files(plugin)[0].parent.parent
    assert len([*folder.iterdir()]) == 5
    assert os.stat(folder).st_mode & 0o077 == 0  # nobody else's
    for source in plugin._sources:
        assert source.provided is not None
        source.provided.close()
        assert source.provided.find() == {}
    del plugin, client
    gc.collect()

    assert not folder.exists()


def test_a_context_is_that_of_the_request() -> None:
    source = Counted(Fake(one_run()))
    client = open_provided(source)
    get_json(client, "runs")

    assert all(isinstance(call["ctx"], context.RequestContext) for call in source.asked)
    assert {call["experiment_id"] for call in source.asked} == {""}
    assert {call["plugin_name"] for call in source.asked if call["name"].endswith("tensors")} == {"batchview"}
