"""Exports of real trainings hold, value by value, what TensorFlow reads from the files."""

from __future__ import annotations

import csv
import json
import re
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tb_batchview import BatchViewCallback, BatchWriter, load
from tb_batchview.export import Export

pytest.importorskip("pyarrow.parquet")

SAMPLES, BATCH = 70, 16  # the last batch of an epoch is smaller
NAMES = ("cat", "dog", "fox", "owl")
RNG = np.random.default_rng(3)
X = RNG.normal(size=(SAMPLES, 8)).astype("float32")
Y = {
    "kind": RNG.integers(0, 4, SAMPLES),
    "size": RNG.normal(size=(SAMPLES, 2)).astype("float32"),
    "tags": (RNG.random((SAMPLES, 3)) < 0.4).astype("float32"),
}
TASKS = {"kind": "multiclass", "size": "regression", "tags": "multilabel"}


def train(logs: Path) -> None:
    """Fit a model with an output of each task, its samples weighted."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8,))
    heads = {"kind": (4, "softmax"), "size": (2, None), "tags": (3, "sigmoid")}
    outputs = {
        name: keras.layers.Dense(units, activation=how, name=name)(inputs) for name, (units, how) in heads.items()
    }
    model = keras.Model(inputs, outputs)
    model.compile(
        "sgd",
        {"kind": "sparse_categorical_crossentropy", "size": "mse", "tags": "binary_crossentropy"},
        metrics={"kind": ["accuracy"]},
    )
    callback = BatchViewCallback(logs / "heads", class_names={"kind": NAMES})
    weights = {name: RNG.random(SAMPLES).astype("float32") for name in Y}
    model.fit(
        X, Y, sample_weight=weights, validation_data=(X, Y), batch_size=BATCH, epochs=2, verbose=0, callbacks=[callback]
    )


def train_top_k(logs: Path) -> None:
    """Fit a classifier of which the two largest scores are kept."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, activation="softmax", name="kind")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    callback = BatchViewCallback(logs / "top", top_k=2, class_names=NAMES)
    model.fit(X, Y["kind"], batch_size=BATCH, epochs=2, verbose=0, callbacks=[callback])


def write_workers(logs: Path) -> None:
    """Record a loop of two workers whose samples have ids."""
    # Side by side, as processes are: one that begins later goes on with the steps.
    with ExitStack() as stack:
        writers = [stack.enter_context(BatchWriter(logs / "workers", worker=number, workers=2)) for number in range(2)]
        for step in range(5):
            for worker, writer in enumerate(writers):
                scores = RNG.dirichlet(np.ones(4), 6 - worker).astype("float32")
                ids = [f"img_{step}_{worker}_{number}.png" for number in range(len(scores))]
                targets = RNG.integers(0, 4, len(scores))
                writer.add_batch(step=step, predictions=scores, targets=targets, loss=0.5, sample_ids=ids)


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("logs")
    train(directory)
    train_top_k(directory)
    write_workers(directory)
    return directory


# -- the truth: TensorFlow's reader, and nothing of ours ---------------------------------------------------------------


def read_events(run: Path) -> Iterator[tuple[int, str, str, str, list[str], Any]]:
    """Yield step, phase, output, kind, fields and array of all values."""
    for path in sorted((run / "batchview").iterdir(), key=lambda path: re.findall(r"\.worker(\d+)\.", path.name)):
        said: dict[str, dict[str, Any]] = {}
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                if value.metadata.plugin_data.content:
                    said[value.tag] = json.loads(value.metadata.plugin_data.content)
                content = said[value.tag]
                array = tf.make_ndarray(value.tensor)
                yield (
                    event.step,
                    content.get("phase", ""),
                    content.get("output", ""),
                    content["kind"],
                    content.get("fields", []),
                    array,
                )


def read_truth(run: Path, phase: str, output: str) -> tuple[dict[str, np.ndarray], dict[int, dict[str, float]]]:
    """Return the arrays of one output by kind, and the headers by step.

    The shares of several workers stand one after the other in each step.
    """
    parts: dict[str, dict[int, list[Any]]] = defaultdict(lambda: defaultdict(list))
    headers: dict[int, dict[str, float]] = {}
    for step, of_phase, of_output, kind, fields, array in read_events(run):
        if of_phase != phase:
            continue
        if kind == "header":
            headers[step] = dict(zip(fields, array.tolist(), strict=True))
        elif of_output == output:
            parts[kind][step].append(array)
    arrays = {kind: [array for step in sorted(found) for array in found[step]] for kind, found in parts.items()}
    arrays["step"] = [np.full(len(array), step) for step in sorted(headers) for array in parts["targets"][step]]
    return {kind: np.concatenate(found) for kind, found in arrays.items()}, headers


# -- what the formats hold, by libraries that know nothing of ours -----------------------------------------------------


def from_csv(out: Path) -> dict[str, Any]:
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    table: dict[str, Any] = {}
    spread: dict[str, list[Any]] = defaultdict(list)
    for name in rows[0]:
        cells = [row[name] for row in rows]
        kind, _, number = name.rpartition("_")
        if number.isdigit():
            spread[kind].append(cells)
        else:
            table[name] = cells
    return table | {kind: np.array(cells).T for kind, cells in spread.items()}


def from_sqlite(out: Path) -> dict[str, Any]:
    with closing(sqlite3.connect(out)) as database:
        table = pd.read_sql("SELECT * FROM samples ORDER BY step, sample", database)
    read = {name: table[name].tolist() for name in table}
    values = ("predictions", "targets", "top_classes", "top_scores")
    return read | {name: [json.loads(cell) for cell in read[name]] for name in values if read[name][0] is not None}


def from_parquet(out: Path) -> dict[str, Any]:
    table = pd.read_parquet(out)
    return {name: np.stack(table[name]) if table[name].dtype == object else table[name].tolist() for name in table}


def from_duckdb(out: Path) -> dict[str, Any]:
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect() as database:
        rows = database.sql(f"SELECT * FROM '{out}/phase=*/*.parquet' ORDER BY step, sample")
        return dict(zip(rows.columns, zip(*rows.fetchall(), strict=True), strict=True))


def from_npz(out: Path) -> dict[str, Any]:
    with np.load(out) as archive:
        return named(dict(archive))


def from_npy(out: Path) -> dict[str, Any]:
    arrays = {path.stem: np.load(path, mmap_mode="r") for path in out.iterdir()}
    assert all(isinstance(array, np.memmap) for array in arrays.values() if array.size and array.ndim)
    return named(arrays)


def named(arrays: dict[str, Any]) -> dict[str, Any]:
    """Return arrays by the names that tables have."""
    names = {"sample_loss": "loss", "sample_weight": "weight", "sample_ids": "id"}
    return {names.get(name, name): array for name, array in arrays.items()}


READERS: dict[str, tuple[str, str, Callable[[Path], dict[str, Any]]]] = {
    "csv": ("csv", "a.csv", from_csv),
    "sqlite": ("sqlite", "a.db", from_sqlite),
    "pandas": ("parquet", "a", from_parquet),
    "duckdb": ("parquet", "a", from_duckdb),
    "npz": ("npz", "a.npz", from_npz),
    "npy": ("npz", "a", from_npy),
}
CASES = [
    *(("heads", phase, output) for phase in ("train", "validation") for output in TASKS),
    ("top", "train", "kind"),
    ("workers", "train", "output"),
]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("run", "phase", "output"), CASES)
def test_every_value_is_what_tensorflow_reads(
    logs: Path, tmp_path: Path, run: str, phase: str, output: str, reader: str
) -> None:
    form, name, read = READERS[reader]
    truth, headers = read_truth(logs / run, phase, output)
    report = Export(load(logs)[run], phase, tmp_path / name, form=form, output=output).write()

    found = read(tmp_path / name)

    assert report.batches == len(headers) == {"train": 10, "validation": 10}[phase] // (2 if run == "workers" else 1)
    assert report.samples == len(truth["step"]) == (55 if run == "workers" else 2 * SAMPLES)
    compared = {"step": "step", "sample_loss": "loss", "sample_weight": "weight", "predictions": "predictions"}
    compared |= {"top_classes": "top_classes", "top_scores": "top_scores", "sample_ids": "id"}
    compared |= {"targets": "targets"} if TASKS.get(output, "multiclass") != "multiclass" else {"target": "target"}
    for kind, column in compared.items():
        array = truth.get(kind)
        if array is None and kind == "target":
            array = truth["targets"].ravel()
        if array is None:
            assert kind in ("sample_loss", "sample_weight", "predictions", "top_classes", "top_scores", "sample_ids")
            continue
        if array.dtype == object:
            assert list(found[column]) == [text.decode() for text in array], kind
        else:
            assert np.array_equal(np.array(found[column]).astype(array.dtype), array), kind
    if output == "kind":
        assert {"top_scores" if run == "top" else "predictions", "sample_loss"} <= set(truth)


@pytest.mark.parametrize(("form", "name"), [("csv", "a.csv"), ("parquet", "a")])
def test_every_figure_of_a_batch_is_what_tensorflow_reads(logs: Path, tmp_path: Path, form: str, name: str) -> None:
    _, headers = read_truth(logs / "heads", "train", "kind")
    Export(load(logs)["heads"], "train", tmp_path / name, form=form, output="kind", table="batches").write()

    table = pd.read_csv(tmp_path / name) if form == "csv" else pd.read_parquet(tmp_path / name)

    fields = {"loss": "loss", "epoch": "epoch", "index": "index", "size": "size"}
    fields |= {f"outputs/kind/{figure}": figure for figure in ("error_rate", "confidence")}
    fields |= {field: field for field in headers[0] if field.startswith("metrics/")}
    assert len(fields) > 6
    assert table["step"].tolist() == sorted(headers)
    for field, column in fields.items():
        assert table[column].tolist() == [headers[step][field] for step in sorted(headers)], field


def test_partitions_are_as_hive_and_spark_read_them(logs: Path, tmp_path: Path) -> None:
    for phase in ("train", "validation"):
        Export(load(logs)["heads"], phase, tmp_path / "table", form="parquet", output="kind").write()

    # Spark takes key=value directories for columns, and leaves out what begins with "." or "_".
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.parquet")) == [
        "table/phase=train/part-0.parquet",
        "table/phase=validation/part-0.parquet",
    ]
    assert sorted(path.name for path in (tmp_path / "table").iterdir()) == ["phase=train", "phase=validation"]


def test_duckdb_and_pandas_know_the_phase(logs: Path, tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    for phase in ("train", "validation"):
        Export(load(logs)["heads"], phase, tmp_path / "table", form="parquet", output="kind").write()
    (tmp_path / "table" / ".phase=predict.1.partial").mkdir()  # of an export under way
    (tmp_path / "table" / ".phase=predict.1.partial" / "part-0.parquet").write_bytes(b"PAR1")

    with duckdb.connect() as database:
        query = f"SELECT phase, count(*) FROM '{tmp_path}/table/phase=*/*.parquet' GROUP BY 1 ORDER BY 1"
        counted = database.sql(query).fetchall()

    assert counted == [("train", 2 * SAMPLES), ("validation", 2 * SAMPLES)]
    table = pd.read_parquet(tmp_path / "table")
    assert table.groupby("phase", observed=True).size().to_dict() == dict(counted)
