"""Each format, read back by another library, holds what load() has."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import math
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from recorded import SPECS, make_record, make_scores, write
from terminal import run_at_terminal

from tb_batchview import cli, export
from tb_batchview.errors import ArgumentError, BatchViewError, NotFoundError
from tb_batchview.export import Export, npz, selection, sqlite, tables, target
from tb_batchview.log import load
from tb_batchview.places import Place
from tb_batchview.records import BatchRecord, OutputRecord, OutputSpec
from tb_batchview.run import Run

parquet = pytest.importorskip("pyarrow.parquet")
dataset = pytest.importorskip("pyarrow.dataset")

HOSTILE = (
    'say "no"',
    "a,b",
    "two\nlines",
    "cr\rhere",
    " spaces ",
    "=1+1",
    "ä 日本 🙂",
    "'; DROP TABLE samples; --",
    "a\x00b",
    "",
)
FIGURES = ("target", "predicted", "confidence", "target_score", "sample_loss", "sample_weight", "error")
COLUMN = {"sample_loss": "loss", "sample_weight": "weight"}


# -- runs of every kind ------------------------------------------------------------------------------------------------


def sizes(batches: int = 7) -> list[int]:
    """Return the sizes of batches: the last one of an epoch is smaller."""
    return [8 if (step + 1) % 3 else 5 for step in range(batches)]


def records(make: Callable[[int, int, np.random.Generator], Mapping[str, OutputRecord]]) -> list[BatchRecord]:
    return [
        make_record(step, samples=samples, outputs=make(step, samples, np.random.default_rng(step)))
        for step, samples in enumerate(sizes())
    ]


def multiclass(directory: Path) -> None:
    """String ids, weights, NaN losses, targets that are none."""

    def make(step: int, samples: int, rng: np.random.Generator) -> Mapping[str, OutputRecord]:
        predictions, targets = make_scores(step, samples)
        targets = targets.copy()
        targets[0] = -1
        loss = rng.random(samples).astype(np.float32)
        loss[1] = np.nan
        predictions = predictions.copy()
        predictions[2, 1] = np.nan
        ids = np.array([HOSTILE[(step + number) % len(HOSTILE)] for number in range(samples)], object)
        return {"scores": OutputRecord(predictions, targets, loss, rng.random(samples).astype(np.float32), ids)}

    write(directory, records(make))


def regression(directory: Path) -> None:
    def make(step: int, samples: int, rng: np.random.Generator) -> Mapping[str, OutputRecord]:
        targets = rng.normal(size=(samples, 1)).astype(np.float32)
        predictions = targets + rng.normal(size=(samples, 1)).astype(np.float32)
        predictions[0] = np.inf
        return {"age": OutputRecord(predictions, targets, sample_ids=np.arange(samples) + 2**40)}

    write(directory, records(make), specs={"age": OutputSpec("regression", 0)})


def multilabel(directory: Path) -> None:
    def make(step: int, samples: int, rng: np.random.Generator) -> Mapping[str, OutputRecord]:
        targets = (rng.random((samples, 5)) < 0.5).astype(np.uint8)
        return {"tags": OutputRecord(rng.normal(size=(samples, 5)).astype(np.float64), targets)}

    write(directory, records(make), specs={"tags": OutputSpec("multilabel", 5, "sigmoid", ("a", "b", "c", "d", "e"))})


def binary(directory: Path) -> None:
    def make(step: int, samples: int, rng: np.random.Generator) -> Mapping[str, OutputRecord]:
        return {"spam": OutputRecord(rng.random((samples, 1)).astype(np.float32), rng.integers(0, 2, samples))}

    write(directory, records(make), specs={"spam": OutputSpec("binary", 2, None, ("no", "yes"))})


def headers(directory: Path) -> None:
    """Every third batch has its arrays, some of them not all."""

    def make(step: int, samples: int, rng: np.random.Generator) -> Mapping[str, OutputRecord]:
        predictions, targets = make_scores(step, samples)
        weight = None if step else np.ones(samples, np.float32)
        return {} if step % 3 else {"scores": OutputRecord(predictions, targets, None, weight)}

    write(directory, records(make))


def top_k(directory: Path) -> None:
    def make(step: int, samples: int, rng: np.random.Generator) -> Mapping[str, OutputRecord]:
        return {"scores": OutputRecord(*make_scores(step, samples))}

    write(directory, records(make), top_k=2)


def several(directory: Path) -> None:
    def make(step: int, samples: int, rng: np.random.Generator) -> Mapping[str, OutputRecord]:
        values = rng.normal(size=(samples, 1)).astype(np.float32)
        return {"age": OutputRecord(values, values + 1), "scores": OutputRecord(*make_scores(step, samples))}

    write(directory, records(make), specs={"age": OutputSpec("regression", 0), **SPECS})


CASES: dict[str, tuple[Callable[[Path], None], str]] = {
    "multiclass": (multiclass, "scores"),
    "regression": (regression, "age"),
    "multilabel": (multilabel, "tags"),
    "binary": (binary, "spam"),
    "headers": (headers, "scores"),
    "top_k": (top_k, "scores"),
    "several": (several, "scores"),
    "several, the other": (several, "age"),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Run, str]:
    make, output = CASES[request.param]
    make(tmp_path / "logs")
    return load(tmp_path / "logs")["."], output


def one(run: Run, values: Any, output: str) -> Any:
    return values[output] if len(run.outputs) > 1 else values


def plain(value: Any) -> Any:
    """Return a number or text of Python; None for NaN, which SQLite has not."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and math.isnan(value) else value


def number(text: str | None, kind: Any = np.float32) -> Any:
    return None if text in (None, "") else plain(kind(text))


def expect(run: Run, output: str, start: int = 0, stop: int = 10**9) -> list[dict[str, Any]]:
    """Return the rows that an export must have, from load()."""
    spec = run.outputs[output]
    rows = []
    for batch in run.batches("train"):
        arrays = {
            name: one(run, getattr(batch, name), output)
            for name in (*FIGURES, "targets", "predictions", "top_classes", "top_scores", "sample_ids")
            if hasattr(type(batch), name)
        }
        table = run.to_pandas("train")
        prefix = f"{output}/" if len(run.outputs) > 1 else ""
        here = table[table["step"] == batch.step]
        if (arrays["predictions"] is None and arrays["top_scores"] is None) or not start <= batch.step < stop:
            continue
        for sample in range(batch.size):
            row: dict[str, Any] = {"step": batch.step, "epoch": batch.epoch, "index": batch.index, "sample": sample}
            row["id"] = None if arrays["sample_ids"] is None else str(arrays["sample_ids"][sample])
            for figure in FIGURES:
                has = prefix + figure in here.columns
                row[COLUMN.get(figure, figure)] = plain(here[prefix + figure].iloc[sample]) if has else None
            for kind in ("target", "predicted"):
                names = spec.class_names if row[kind] is not None else None
                row[f"{kind}_name"] = names[row[kind]] if names and row[kind] >= 0 else None
            for kind in ("targets", "predictions", "top_classes", "top_scores"):
                wanted = kind != "targets" or spec.task in ("multilabel", "regression")
                if arrays[kind] is not None and wanted:
                    row[kind] = [plain(value) for value in arrays[kind][sample].reshape(-1)]
            rows.append(row)
    return rows


def as_values(values: list[Any], kind: str, run: Run, output: str) -> list[Any]:
    """Return texts as the numbers of the array's type."""
    array = next(
        array for batch in run.batches("train") if (array := one(run, getattr(batch, kind), output)) is not None
    )
    return [number(value, array.dtype.type) for value in values]


def make(run: Run, out: Path | str, form: str, output: str | None = None, **options: Any) -> export.Report:
    return Export(run, "train", out, form=form, output=output, **options).write()


# -- the formats -------------------------------------------------------------------------------------------------------


def test_csv_holds_every_sample(case: tuple[Run, str], tmp_path: Path) -> None:
    run, output = case
    report = make(run, tmp_path / "a.csv", "csv", output)

    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))

    expected = expect(run, output)
    assert report.samples == len(read) == len(expected) > 0
    for row, wanted in zip(read, expected, strict=True):
        found: dict[str, Any] = {name: int(row[name]) for name in ("step", "epoch", "index", "sample")}
        found["id"] = row["id"] if wanted["id"] == "" else row["id"] or None
        found |= {name: number(row[name], int) for name in ("target", "predicted")}
        found |= {name: row[name] or None for name in ("target_name", "predicted_name")}
        found |= {name: number(row[name]) for name in ("confidence", "target_score", "loss", "weight", "error")}
        for kind in ("targets", "predictions", "top_classes", "top_scores"):
            values = [row[name] for name in row if name.rpartition("_")[0] == kind]
            if values:
                found[kind] = as_values(values, kind, run, output)
        assert found == wanted


def test_sqlite_holds_every_sample(case: tuple[Run, str], tmp_path: Path) -> None:
    run, output = case
    make(run, tmp_path / "a.sqlite", "sqlite", output)
    database = sqlite3.connect(tmp_path / "a.sqlite")
    database.row_factory = sqlite3.Row

    read = [dict(row) for row in database.execute("SELECT * FROM samples ORDER BY step, sample")]
    database.close()

    for row in read:
        row["id"] = None if row["id"] is None else str(row["id"])
        for kind in ("targets", "predictions", "top_classes", "top_scores"):
            if row[kind] is None:
                del row[kind]
            else:
                row[kind] = as_values(json.loads(row[kind]), kind, run, output)
        # They are float32; SQLite has only float64, in which each is exact.
        assert all(row[name] is None or np.float32(row[name]) == row[name] for name in ("confidence", "loss", "error"))
    assert read == expect(run, output)


def test_parquet_holds_every_sample(case: tuple[Run, str], tmp_path: Path) -> None:
    run, output = case
    make(run, tmp_path / "table", "parquet", output)

    read = dataset.dataset(tmp_path / "table", partitioning="hive").to_table().to_pylist()

    for row in read:
        assert row.pop("phase") == "train"
        for name, value in row.items():
            row[name] = [plain(item) for item in value] if isinstance(value, list) else plain(value)
    assert read == [{**row} for row in expect(run, output)]


@pytest.mark.parametrize("form", ["file", "directory"])
def test_numpy_holds_every_sample(case: tuple[Run, str], tmp_path: Path, form: str) -> None:
    run, output = case
    out = tmp_path / "a.npz" if form == "file" else tmp_path / "arrays"
    make(run, out, "npz", output)

    if form == "file":
        with np.load(out) as archive:
            arrays = dict(archive)
    else:
        arrays = {path.stem: np.load(path, mmap_mode="r") for path in out.iterdir()}
        assert isinstance(arrays["step"], np.memmap)

    batches = [
        batch
        for batch in run.batches("train")
        if one(run, batch.predicted, output) is not None or one(run, batch.predictions, output) is not None
    ]
    assert arrays["step"].tolist() == [batch.step for batch in batches for _ in range(batch.size)]
    assert arrays["epoch"].tolist() == [batch.epoch for batch in batches for _ in range(batch.size)]
    assert arrays["sample"].tolist() == [sample for batch in batches for sample in range(batch.size)]
    for name in ("targets", "predictions", "top_classes", "top_scores", "predicted", "target", "sample_loss"):
        parts = [one(run, getattr(batch, name), output) for batch in batches]
        assert (name in arrays) == (parts[0] is not None), name
        if name in arrays:
            whole = np.concatenate(parts)
            assert arrays[name].dtype == whole.dtype
            assert np.array_equal(arrays[name], whole, equal_nan=whole.dtype.kind == "f"), name
    ids = [one(run, batch.sample_ids, output) for batch in batches]
    assert ("sample_ids" in arrays) == (ids[0] is not None)
    if ids[0] is not None:
        assert arrays["sample_ids"].tolist() == [value for part in ids for value in part.tolist()]
    assert arrays["batch_step"].tolist() == [batch.step for batch in run.batches("train")]
    assert arrays["batch_loss"].tolist() == [batch.loss for batch in run.batches("train")]
    assert arrays["metric_names"].tolist() == ["accuracy"]
    assert arrays["batch_metrics"][:, 0].tolist() == [batch.metrics["accuracy"] for batch in run.batches("train")]


def test_pandas_opens_parquet_and_csv_alike(tmp_path: Path) -> None:
    headers(tmp_path / "logs")
    run = load(tmp_path / "logs")["."]
    make(run, tmp_path / "table", "parquet")
    make(run, tmp_path / "a.csv", "csv")

    from_parquet = pd.read_parquet(tmp_path / "table")
    from_csv = pd.read_csv(tmp_path / "a.csv", keep_default_na=True)

    assert from_parquet["phase"].unique().tolist() == ["train"]
    for name in ("step", "sample", "target", "predicted", "target_name"):
        assert from_parquet[name].tolist() == from_csv[name].tolist()
    scores = np.stack(from_parquet["predictions"])
    assert np.array_equal(scores, from_csv[[f"predictions_{k}" for k in range(4)]].to_numpy(np.float32))


# -- the table of batches ----------------------------------------------------------------------------------------------


def write_batches(directory: Path) -> None:
    """Losses that are NaN, a metric that some batches have, hostile names."""
    write(
        directory,
        [
            make_record(0, metrics={"loss": 0.25, 'a"b,\n': math.nan}),
            make_record(1, metrics={"loss": 0.5}, loss=math.nan, outputs={}),
            make_record(2, metrics={"LOSS": math.inf}),
        ],
    )


def test_batches_in_csv(tmp_path: Path) -> None:
    write_batches(tmp_path / "logs")
    run = load(tmp_path / "logs")["."]
    make(run, tmp_path / "a.csv", "csv", table="batches")

    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    assert list(rows[0]) == [
        *("step", "epoch", "index", "size", "wall_time", "loss", "error_rate", "confidence"),
        *("metrics/loss", 'metrics/a"b,\n', "metrics/LOSS"),
    ]
    assert [row["metrics/loss"] for row in rows] == ["0.25", "0.5", ""]
    assert [row['metrics/a"b,\n'] for row in rows] == ["nan", "", ""]
    assert [row["metrics/LOSS"] for row in rows] == ["", "", "inf"]
    batches = run.batches("train")
    assert [float(rows[0][name]) for name in ("wall_time", "loss", "error_rate", "confidence")] == [
        *(batches[0].wall_time, batches[0].loss, batches[0].error_rate, batches[0].confidence),
    ]
    assert rows[1]["loss"] == "nan"


def test_batches_in_parquet(tmp_path: Path) -> None:
    write_batches(tmp_path / "logs")
    make(load(tmp_path / "logs")["."], tmp_path / "table", "parquet", table="batches")

    table = parquet.read_table(tmp_path / "table" / "phase=train" / "part-0.parquet").to_pydict()

    assert table["step"] == [0, 1, 2]
    assert table["metrics/loss"] == [0.25, 0.5, None]
    assert table["metrics/LOSS"] == [None, None, math.inf]
    assert math.isnan(table['metrics/a"b,\n'][0])


def test_batches_in_sqlite(tmp_path: Path) -> None:
    write_batches(tmp_path / "logs")
    make(load(tmp_path / "logs")["."], tmp_path / "a.db", "sqlite")

    database = sqlite3.connect(tmp_path / "a.db")
    steps = database.execute('SELECT step, epoch, "index", size, loss FROM batches').fetchall()
    metrics = database.execute("SELECT * FROM metrics ORDER BY step, name").fetchall()
    classes = database.execute("SELECT * FROM classes").fetchall()
    info = dict(database.execute("SELECT * FROM info"))
    database.close()

    assert steps == [(0, 0, 0, 8, make_record(0).loss), (1, 0, 1, 8, None), (2, 0, 2, 8, make_record(2).loss)]
    assert metrics == [(0, 'a"b,\n', None), (0, "loss", 0.25), (1, "loss", 0.5), (2, "LOSS", math.inf)]
    assert classes == [(0, "cat"), (1, "dog"), (2, "car"), (3, "tree")]
    assert (info["run"], info["phase"], info["task"], info["complete"]) == (".", "train", "multiclass", "1")


def test_a_run_without_outputs_has_batches(tmp_path: Path) -> None:
    write(tmp_path / "logs", [make_record(0, outputs={})], specs={})
    run = load(tmp_path / "logs")["."]

    make(run, tmp_path / "a.csv", "csv", table="batches")
    report = make(run, tmp_path / "b.csv", "csv")
    make(run, tmp_path / "c.npz", "npz")

    assert (tmp_path / "a.csv").read_text().splitlines()[0].endswith("wall_time,loss,metrics/accuracy")
    assert (report.batches, report.samples) == (1, 0)
    with np.load(tmp_path / "c.npz") as archive:
        assert archive["batch_step"].tolist() == [0]


# -- ranges, columns, shapes -------------------------------------------------------------------------------------------


def test_a_range_of_steps(tmp_path: Path) -> None:
    multiclass(tmp_path / "logs")
    run = load(tmp_path / "logs")["."]
    for form, name in (("csv", "a.csv"), ("npz", "a.npz"), ("sqlite", "a.db"), ("parquet", "a")):
        make(run, tmp_path / name, form, start=2, stop=4)

    expected = [2] * 5 + [3] * 8
    assert pd.read_csv(tmp_path / "a.csv")["step"].tolist() == expected
    with np.load(tmp_path / "a.npz") as archive:
        assert (archive["step"].tolist(), archive["batch_step"].tolist()) == (expected, [2, 3])
    with sqlite3.connect(tmp_path / "a.db") as database:
        assert [step for (step,) in database.execute("SELECT step FROM samples")] == expected
        assert database.execute("SELECT step FROM batches").fetchall() == [(2,), (3,)]
    database.close()
    assert pd.read_parquet(tmp_path / "a")["step"].tolist() == expected


def test_an_empty_range_is_an_empty_table(tmp_path: Path) -> None:
    multiclass(tmp_path / "logs")
    run = load(tmp_path / "logs")["."]
    for form, name in (("csv", "a.csv"), ("npz", "a.npz"), ("sqlite", "a.db"), ("parquet", "a")):
        assert make(run, tmp_path / name, form, start=50).samples == 0

    assert len(pd.read_csv(tmp_path / "a.csv")) == len(pd.read_parquet(tmp_path / "a")) == 0
    with np.load(tmp_path / "a.npz") as archive:
        assert archive["step"].shape == (0,)


def test_scores_can_stay_away(tmp_path: Path) -> None:
    multilabel(tmp_path / "logs")
    run = load(tmp_path / "logs")["."]
    for form, name in (("csv", "a.csv"), ("npz", "a.npz"), ("parquet", "a")):
        make(run, tmp_path / name, form, scores=False)

    assert (tmp_path / "a.csv").read_text().splitlines()[0] == ",".join(tables.SAMPLE_COLUMNS)
    assert pd.read_parquet(tmp_path / "a").columns.tolist() == [*tables.SAMPLE_COLUMNS, "phase"]
    with np.load(tmp_path / "a.npz") as archive:
        assert {"predictions", "targets"} & set(archive) == set()


def test_pictures_of_scores_go_only_into_arrays(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    masks = rng.random((2, 6, 4, 4, 3)).astype(np.float32)
    made = [
        make_record(step, samples=6, outputs={"mask": OutputRecord(masks[step], rng.integers(0, 3, (6, 4, 4)))})
        for step in range(2)
    ]
    write(tmp_path / "logs", made, specs={"mask": OutputSpec("multiclass", 3)})
    run = load(tmp_path / "logs")["."]

    report = make(run, tmp_path / "a.csv", "csv")
    make(run, tmp_path / "a.npz", "npz")

    assert [notice.split()[0] for notice in report.notices] == ["predictions"]
    table = pd.read_csv(tmp_path / "a.csv")
    assert table.columns.tolist() == list(tables.SAMPLE_COLUMNS)
    assert table["error"].to_numpy(np.float32).tolist() == [
        value
        for batch in run.batches("train")
        for value in run.to_pandas("train").query(f"step == {batch.step}")["error"]
    ]
    with np.load(tmp_path / "a.npz") as archive:
        assert np.array_equal(archive["predictions"], masks.reshape(12, 4, 4, 3))


def test_arrays_of_different_shapes_stay_apart(tmp_path: Path) -> None:
    lengths = [3, 5, 3]
    made = [
        make_record(step, samples=2, outputs={"tokens": OutputRecord(np.full((2, length, 7), step, np.float32))})
        for step, length in enumerate(lengths)
    ]
    write(tmp_path / "logs", made, specs={"tokens": OutputSpec("multiclass", 7)})
    run = load(tmp_path / "logs")["."]

    report = make(run, tmp_path / "a.npz", "npz")
    make(run, tmp_path / "arrays", "npz")

    assert report.notices == ("predictions have no common shape: each batch has its own array, predictions/<step>.",)
    for step, length in enumerate(lengths):
        with np.load(tmp_path / "a.npz") as archive:
            assert archive[f"predictions/{step}"].tolist() == np.full((2, length, 7), step).tolist()
        assert np.load(tmp_path / "arrays" / "predictions" / f"{step}.npy", mmap_mode="r").shape == (2, length, 7)


def test_ids_may_be_of_both_kinds_or_missing(tmp_path: Path) -> None:
    ids = [np.arange(8) + 2**50, np.array([f"x{i}" for i in range(8)], object), None]
    made = [
        make_record(step, outputs={"scores": OutputRecord(*make_scores(step), sample_ids=ids[step])})
        for step in range(3)
    ]
    write(tmp_path / "logs", made)
    run = load(tmp_path / "logs")["."]
    make(run, tmp_path / "a.npz", "npz")
    make(run, tmp_path / "a.db", "sqlite")

    with np.load(tmp_path / "a.npz") as archive:
        assert archive["sample_ids"].tolist() == [*map(str, ids[0].tolist()), *ids[1], *[""] * 8]
    with sqlite3.connect(tmp_path / "a.db") as database:
        assert [value for (value,) in database.execute("SELECT id FROM samples ORDER BY step, sample")] == [
            *ids[0].tolist(),
            *ids[1],
            *[None] * 8,
        ]
    database.close()


def test_a_long_id_does_not_fill_the_disk(tmp_path: Path) -> None:
    ids = np.array(["x" * 2000, *"abcdefg"], object)
    write(tmp_path / "logs", [make_record(0, outputs={"scores": OutputRecord(*make_scores(0), sample_ids=ids)})])

    report = make(load(tmp_path / "logs")["."], tmp_path / "a.npz", "npz")

    assert report.notices == ("sample_ids are left out: one has 2000 letters, and every one would take that room.",)


def test_a_csv_of_too_many_columns_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    multiclass(tmp_path / "logs")
    monkeypatch.setattr(tables, "MAX_CSV_VALUES", 3)

    report = make(load(tmp_path / "logs")["."], tmp_path / "a.csv", "csv")

    assert len(report.notices) == 1
    assert (tmp_path / "a.csv").read_text().split("\n")[0] == ",".join(tables.SAMPLE_COLUMNS)


def test_samples_may_have_no_values_at_all(tmp_path: Path) -> None:
    empty = OutputRecord(np.zeros((8, 0), np.float32), np.zeros((8, 0), np.float32))
    write(tmp_path / "logs", [make_record(0, outputs={"x": empty})], specs={"x": OutputSpec("regression", 0)})
    run = load(tmp_path / "logs")["."]

    for form, name in PLACES:
        assert make(run, f"{tmp_path}/{name}", form).samples == 8

    assert pd.read_parquet(tmp_path / "a")["predictions"].map(len).tolist() == [0] * 8
    with np.load(tmp_path / "a.npz") as archive:
        assert archive["predictions"].shape == (8, 0)


ODD = [
    np.zeros((8, 4), np.float16),
    np.arange(32, dtype=np.uint64).reshape(8, 4) + 2**63,
    np.arange(32, dtype=np.int64).reshape(8, 4) - 2**60,
    np.ones((8, 4), bool),
    np.zeros((8, 4, 2), np.float32),
    np.zeros((8, 3), np.float64),
    np.zeros(8, np.int8),
    None,
]


@pytest.mark.parametrize("first", range(len(ODD)))
@pytest.mark.parametrize("second", range(len(ODD)))
def test_no_mixture_of_arrays_is_too_odd(tmp_path: Path, first: int, second: int) -> None:
    ids = np.arange(8)
    made = [
        make_record(step, outputs={"x": OutputRecord(ODD[number], ODD[number], sample_ids=ids)})
        for step, number in enumerate((first, second, first))
    ]
    write(tmp_path / "logs", made, specs={"x": OutputSpec("regression", 0)})
    run = load(tmp_path / "logs")["."]

    for form, name in PLACES:
        report = make(run, f"{tmp_path}/{name}", form)
        assert (report.samples, report.unreadable) == (24, 0)

    with np.load(tmp_path / "a.npz") as archive:
        found = dict(archive)
    for step, number in enumerate((first, second, first)):
        array = ODD[number]
        if array is not None:
            there = (
                found[f"predictions/{step}"]
                if "predictions" not in found
                else found["predictions"][found["step"] == step]
            )
            assert there.tolist() == array.tolist()
            if "predictions" not in found:
                assert there.dtype == array.dtype


def test_parquet_rounds_no_integer_of_a_mixed_column(tmp_path: Path) -> None:
    made = [make_record(step, outputs={"x": OutputRecord(ODD[number], None)}) for step, number in enumerate((2, 5))]
    write(tmp_path / "logs", made, specs={"x": OutputSpec("regression", 0)})

    report = make(load(tmp_path / "logs")["."], tmp_path / "a", "parquet")

    assert "predictions" not in pd.read_parquet(tmp_path / "a")
    assert [notice.split()[0] for notice in report.notices] == ["predictions"]


def test_batches_without_samples_are_batches(tmp_path: Path) -> None:
    write(tmp_path / "logs", [make_record(0), make_record(1, samples=0), make_record(2)])
    run = load(tmp_path / "logs")["."]

    for form, name in PLACES:
        report = make(run, f"{tmp_path}/{name}", form)
        assert (report.batches, report.samples) == (3, 16)


@settings(deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=2))
def test_any_text_reads_back_from_csv(cells: list[str]) -> None:
    line = tables._line(cells).decode()

    assert list(csv.reader(io.StringIO(line, newline=""))) == [cells]


@settings(deadline=None)
@given(arrays(np.float32, 20) | arrays(np.float64, 20) | arrays(np.float16, 20) | arrays(np.int64, 20))
def test_any_number_reads_back_exactly(values: np.ndarray) -> None:
    from_csv = np.array([values.dtype.type(text) for text in tables._texts(values)])
    from_json = [math.nan if value is None else value for value in json.loads(sqlite._json(values))]

    assert np.array_equal(from_csv, values, equal_nan=values.dtype.kind == "f")
    assert np.array_equal(np.array(from_json, values.dtype), values, equal_nan=values.dtype.kind == "f")


@pytest.mark.parametrize("text", HOSTILE)
def test_a_field_of_csv_reads_as_it_was(text: str) -> None:
    if "\0" in text and sys.version_info < (3, 11):
        pytest.skip("the csv module reads no NUL")
    line = tables._line([text, "1", text]).decode()

    assert list(csv.reader(io.StringIO(line, newline=""))) == [[text, "1", text]]


def test_a_batch_that_cannot_be_read_is_left_out_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    multiclass(tmp_path / "logs")
    run = load(tmp_path / "logs")["."]
    place = selection.Selection.place

    def broken(self: selection.Selection, row: int) -> Place:
        if row == 3:
            raise selection.FormatError("damaged")
        return place(self, row)

    monkeypatch.setattr(selection.Selection, "place", broken)
    for form, name in (("csv", "a.csv"), ("npz", "a.npz"), ("sqlite", "a.db"), ("parquet", "a")):
        report = make(run, tmp_path / name, form)
        assert (report.unreadable, report.samples) == (1, sum(sizes()) - 8)

    assert sorted(set(pd.read_csv(tmp_path / "a.csv")["step"])) == [0, 1, 2, 4, 5, 6]
    with np.load(tmp_path / "a.npz") as archive:
        assert archive["predictions"].shape == (sum(sizes()) - 8, 4)


# -- complete or not at all --------------------------------------------------------------------------------------------

PLACES = [("csv", "a.csv"), ("npz", "a.npz"), ("npz", "arrays/"), ("sqlite", "a.db"), ("parquet", "a")]


@pytest.mark.parametrize(("form", "name"), PLACES)
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_an_interrupted_export_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, name: str, error: BaseException
) -> None:
    multiclass(tmp_path / "logs")
    run = load(tmp_path / "logs")["."]
    (tmp_path / "out").mkdir()
    job = Export(run, "train", f"{tmp_path}/out/{name}", form=form)
    read = Run.read
    reads = 0

    def failing(self: Run, *arguments: Any) -> Any:
        nonlocal reads
        reads += 1
        if reads > 60:
            assert len(list((tmp_path / "out").rglob("*.partial*"))) >= 1, "it must be under way"
            raise error
        return read(self, *arguments)

    monkeypatch.setattr(Run, "read", failing)
    with pytest.raises(type(error)):
        job.write()

    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(("form", "name"), PLACES)
def test_what_is_there_is_kept_unless_it_may_be_replaced(tmp_path: Path, form: str, name: str) -> None:
    multiclass(tmp_path / "logs")
    run = load(tmp_path / "logs")["."]
    out = f"{tmp_path}/{name}"
    make(run, out, form, stop=2)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    with pytest.raises(ArgumentError, match=r"out must not exist yet\. Received: out=.* or --overwrite to replace it"):
        Export(run, "train", out, form=form)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    make(run, out, form, overwrite=True)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert before.keys() == after.keys()
    assert before != after


def test_a_failure_keeps_what_was_to_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    multiclass(tmp_path / "logs")
    run = load(tmp_path / "logs")["."]
    make(run, tmp_path / "arrays", "npz")
    before = {path: path.read_bytes() for path in (tmp_path / "arrays").iterdir()}
    rename = os.rename

    def failing(source: Any, destination: Any) -> None:
        if str(source).endswith(".partial"):
            raise OSError(errno.EIO, "Input/output error")
        rename(source, destination)

    monkeypatch.setattr(target.os, "rename", failing)
    with pytest.raises(OSError, match="Input/output error"):
        make(run, tmp_path / "arrays", "npz", overwrite=True, stop=2)

    assert before == {path: path.read_bytes() for path in (tmp_path / "arrays").iterdir()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["arrays", "logs"]


def test_a_directory_of_other_files_is_never_replaced(tmp_path: Path) -> None:
    multiclass(tmp_path / "logs")
    run = load(tmp_path / "logs")["."]
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("\\end{document}")

    for form in ("npz", "csv", "sqlite"):
        with pytest.raises(ArgumentError, match="out must be"):
            Export(run, "train", tmp_path / "home", form=form, overwrite=True)

    assert (tmp_path / "home" / "thesis.tex").is_file()


def test_phases_join_in_one_directory_of_parquet(tmp_path: Path) -> None:
    made = [make_record(step, phase=phase) for phase in ("train", "validation") for step in range(3)]
    write(tmp_path / "logs", made)
    run = load(tmp_path / "logs")["."]
    for phase in ("train", "validation"):
        Export(run, phase, tmp_path / "table", form="parquet").write()

    table = pd.read_parquet(tmp_path / "table")

    assert table.groupby("phase", observed=True).size().to_dict() == {"train": 24, "validation": 24}


@pytest.mark.parametrize("table", ["samples", "batches"])
def test_a_partition_under_way_is_in_no_glob_of_parquet(tmp_path: Path, table: str) -> None:
    """As `read_parquet('table/**/*.parquet')` looks for the others."""
    made = [make_record(step, phase=phase) for phase in ("train", "validation") for step in range(3)]
    write(tmp_path / "logs", made)
    run = load(tmp_path / "logs")["."]
    Export(run, "train", tmp_path / "table", form="parquet", table=table).write()
    done = list((tmp_path / "table").rglob("*.parquet"))
    seen = []

    def progress(*_: int) -> None:
        seen.append(list((tmp_path / "table").rglob("*.parquet")))

    Export(run, "validation", tmp_path / "table", form="parquet", table=table).write(progress)

    assert seen == [done] * len(seen) != []
    assert len(list((tmp_path / "table").rglob("*.parquet"))) == 2


def test_partitions_must_fit_together(tmp_path: Path) -> None:
    write(tmp_path / "logs", [make_record(0, phase=phase) for phase in ("train", "validation")])
    run = load(tmp_path / "logs")["."]
    make(run, tmp_path / "table", "parquet")

    with pytest.raises(ArgumentError, match=r"must have the same columns.*phase=train differs in predictions"):
        Export(run, "validation", tmp_path / "table", form="parquet", scores=False).write()

    assert [path.name for path in (tmp_path / "table").iterdir()] == ["phase=train"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    multiclass(tmp_path / "logs")
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")

    make(load(tmp_path / "logs")["."], tmp_path / "link.csv", "csv", overwrite=True)

    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text().startswith("step,")


def test_csv_goes_into_a_named_pipe(tmp_path: Path) -> None:
    multilabel(tmp_path / "logs")
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.PIPE)

    report = make(load(tmp_path / "logs")["."], tmp_path / "pipe", "csv")

    printed, _ = reader.communicate(timeout=60)
    assert report.path is None
    assert len(printed.splitlines()) == 1 + sum(sizes())
    assert (tmp_path / "pipe").is_fifo()


# -- while it is written -----------------------------------------------------------------------------------------------


def test_sqlite_is_read_by_another_process_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "logs", [make_record(step) for step in range(40)])
    monkeypatch.setattr(sqlite, "_ROWS_PER_COMMIT", 90)
    job = Export(load(tmp_path / "logs")["."], "train", tmp_path / "a.db", form="sqlite")
    query = (
        "import sqlite3, sys; d = sqlite3.connect(sys.argv[1]);"
        "print(*d.execute('SELECT count(*), count(DISTINCT step) FROM samples').fetchone(),"
        " *d.execute('SELECT count(*) FROM batches').fetchone())"
    )
    seen: list[list[int]] = []

    def look(done: int, total: int) -> None:
        if done == total * 3 // 4:
            asked = subprocess.run([sys.executable, "-c", query, str(job.partial)], capture_output=True, text=True)
            assert asked.stderr == ""
            seen.append([int(word) for word in asked.stdout.split()])

    job.write(look)

    ((samples, steps, batches),) = seen
    # Whole batches, some of them, and not yet all.
    assert samples == 8 * steps == 8 * batches
    assert 0 < samples < 320
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.db", "logs"]


READING = """
import glob, os, sqlite3, sys, time
partial, final = sys.argv[1:]
counts, end = [], time.monotonic() + 60
while not os.path.exists(final) and time.monotonic() < end:
    try:
        with sqlite3.connect(f"file:{partial}?mode=rw", uri=True) as database:
            query = "SELECT count(*), count(DISTINCT step), (SELECT count(*) FROM batches) FROM samples"
            counts.append(database.execute(query).fetchone())
        database.close()
    except sqlite3.OperationalError:
        continue  # before its tables are there, and in the moment in which it gets its final name
    if counts[-1] not in counts[:-1]:
        print(counts[-1][0], flush=True)
assert counts == sorted(counts), "it must only grow"
assert all(samples == 16 * steps == 16 * batches for samples, steps, batches in counts), "batches must be whole"
"""


def test_sqlite_is_read_from_begin_to_end_of_its_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "logs", [make_record(step, samples=16) for step in range(400)])
    monkeypatch.setattr(sqlite, "_ROWS_PER_COMMIT", 200)
    job = Export(load(tmp_path / "logs")["."], "train", tmp_path / "a.db", form="sqlite")
    command = [sys.executable, "-c", READING, str(job.partial), str(job.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reader:
        seen = []

        def meet(done: int, total: int) -> None:
            assert reader.stdout is not None
            if done in (total * 5 // 8, total * 7 // 8):
                # Waits until there is something new to see.
                seen.append(int(reader.stdout.readline()))

        assert job.write(meet).samples == 6400
        _, errors = reader.communicate(timeout=60)

    assert (reader.returncode, errors) == (0, "")
    assert 0 <= seen[0] < seen[1] < 6400


def test_a_reader_of_sqlite_does_not_stop_the_export(tmp_path: Path) -> None:
    write(tmp_path / "logs", [make_record(step) for step in range(10)])
    job = Export(load(tmp_path / "logs")["."], "train", tmp_path / "a.db", form="sqlite")
    readers: list[sqlite3.Connection] = []

    def look(done: int, total: int) -> None:
        if done > total // 2 and not readers:
            readers.append(sqlite3.connect(job.partial))  # type: ignore[arg-type]
            readers[0].execute("SELECT count(*) FROM samples").fetchall()

    job.write(look)
    readers[0].close()

    with sqlite3.connect(tmp_path / "a.db") as database:
        assert database.execute("SELECT count(*) FROM samples").fetchone() == (80,)
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


def test_a_reader_who_keeps_a_transaction_makes_it_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "logs", [make_record(step) for step in range(10)])
    monkeypatch.setattr(sqlite, "_BUSY_SECONDS", 0.01)
    monkeypatch.setattr(sqlite, "_ROWS_PER_COMMIT", 9)
    job = Export(load(tmp_path / "logs")["."], "train", tmp_path / "a.db", form="sqlite")
    readers: list[sqlite3.Connection] = []

    def look(done: int, total: int) -> None:
        if done == total * 3 // 4:
            readers.append(sqlite3.connect(job.partial, isolation_level=None))  # type: ignore[arg-type]
            readers[0].execute("BEGIN")
            readers[0].execute("SELECT count(*) FROM samples").fetchall()

    with pytest.raises(BatchViewError, match="could not write the database: somebody kept reading it"):
        job.write(look)
    readers[0].close()

    assert [path.name for path in tmp_path.iterdir()] == ["logs"]


def test_sqlite_finds_batches_and_classes_by_index(tmp_path: Path) -> None:
    multiclass(tmp_path / "logs")
    make(load(tmp_path / "logs")["."], tmp_path / "a.db", "sqlite")
    database = sqlite3.connect(tmp_path / "a.db")

    plans = [
        database.execute(f"EXPLAIN QUERY PLAN SELECT * FROM samples WHERE {condition}").fetchone()[3]
        for condition in ("step = 3", "target = 1 AND predicted = 2")
    ]
    mode = database.execute("PRAGMA journal_mode").fetchone()
    database.close()

    assert "USING INDEX samples_by_batch (step=?)" in plans[0]
    assert "USING INDEX samples_by_class (target=? AND predicted=?)" in plans[1]
    assert mode == ("delete",)  # one file, which a read-only directory can hold


def test_what_comes_later_is_not_exported(tmp_path: Path) -> None:
    write(tmp_path / "logs", [make_record(step) for step in range(3)])
    log = load(tmp_path / "logs")
    job = Export(log["."], "train", tmp_path / "a.csv", form="csv")
    write(tmp_path / "logs", [make_record(step) for step in range(3, 6)], number=1)
    log.refresh()

    assert len(log["."].batches("train")) == 6
    assert job.write().batches == 3


# -- memory ------------------------------------------------------------------------------------------------------------


def peak(run: Run, out: Path, form: str, table: str | None = None) -> int:
    job = Export(run, "train", out, form=form, table=table)
    tracemalloc.start()
    try:
        job.write()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("form", "name", "table"),
    [*((form, name, None) for form, name in PLACES), ("csv", "b.csv", "batches"), ("parquet", "b", "batches")],
)
def test_memory_does_not_grow_with_the_number_of_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, name: str, table: str | None
) -> None:
    # Pieces so small that the short run fills several of each.
    monkeypatch.setattr(selection, "_BATCHES", 16)
    monkeypatch.setattr(npz, "_PIECE_ROWS", 16)
    monkeypatch.setattr(sqlite, "_ROWS_PER_COMMIT", 500)
    monkeypatch.setattr(export.parquet, "_GROUP_ROWS", 500)
    outputs = {"scores": OutputRecord(*make_scores(0, 64), sample_ids=np.arange(64))}
    peaks = []
    for batches in (50, 1000):
        logs = tmp_path / f"logs{batches}"
        write(logs, [make_record(step, samples=64, outputs=outputs) for step in range(batches)])
        run = load(logs)["."]
        for number in range(2):  # what is imported and cached the first time does not count
            memory = peak(run, tmp_path / f"{batches}-{number}-{name.strip('/')}", form, table)
        peaks.append(memory)

    # One column of the 64,000 samples of the long run would be 256 kB, all scores 1 MB. What grows
    # is Parquet's description of its row groups.
    assert peaks[1] < peaks[0] + 60_000, peaks


# -- wrong usage -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"phase": "predict"}, NotFoundError, "Received: phase='predict'. There is 'train'"),
        ({"output": "x"}, NotFoundError, "Received: output='x'. There is 'age', 'scores'"),
        ({"output": None}, ArgumentError, "output must be named. Received: none. Run '.' has 'age', 'scores'"),
        ({"form": "xls"}, ArgumentError, "format must be one of csv, npz, sqlite, parquet. Received: format='xls'"),
        ({"table": "epochs"}, ArgumentError, "table must be one of samples, batches. Received: table='epochs'"),
        ({"table": "batches", "scores": False}, ArgumentError, "has no scores to leave out"),
        ({"form": "npz", "table": "batches"}, ArgumentError, "table must be left out: npz holds both"),
        ({"form": "sqlite", "out": "-"}, ArgumentError, "Only CSV can go to stdout. Received: format='sqlite'"),
        ({"start": 5, "stop": 2}, ArgumentError, "start must not be greater than stop. Received: start=5, stop=2"),
        ({"out": "nowhere/a.csv"}, ArgumentError, "out must be in a directory that exists"),
        ({"form": "parquet", "out": "file"}, ArgumentError, "out must be a directory for Parquet"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    several(tmp_path / "logs")
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    run = load(tmp_path / "logs")["."]
    options = {"phase": "train", "out": "a", "form": "csv", "output": "age", **changes}

    with pytest.raises(error, match=message.replace(".", r"\.").replace("(", r"\(")):
        Export(run, **options)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "logs"]


def test_without_pyarrow_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    multiclass(tmp_path / "logs")
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(
        BatchViewError, match=r'Parquet needs pyarrow\. Install it: pip install "tb_batchview\[parquet\]"'
    ):
        Export(load(tmp_path / "logs")["."], "train", tmp_path / "a", form="parquet")


def test_a_recording_is_never_replaced(tmp_path: Path) -> None:
    multiclass(tmp_path / "logs")
    (file,) = (tmp_path / "logs" / "batchview").iterdir()

    with pytest.raises(ArgumentError, match="out must not be named as a recording is"):
        Export(load(tmp_path / "logs")["."], "train", file, form="csv", overwrite=True)


def test_a_recording_that_was_deleted_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "logs"
    multiclass(path)
    job = Export(load(path)["."], "train", tmp_path / "a.csv", form="csv")
    for file in (path / "batchview").iterdir():
        file.unlink()

    with pytest.raises(NotFoundError, match="was deleted, replaced or truncated"):
        job.write()

    assert sorted(found.name for found in tmp_path.iterdir()) == ["logs"]


def test_npz_members_are_as_np_savez_writes_them(tmp_path: Path) -> None:
    multilabel(tmp_path / "logs")
    make(load(tmp_path / "logs")["."], tmp_path / "a.npz", "npz")

    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert archive.testzip() is None
        assert {item.compress_type for item in archive.infolist()} == {zipfile.ZIP_STORED}


# -- the command -------------------------------------------------------------------------------------------------------


def run_command(root: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "tb_batchview", "export", *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, check=False, timeout=120, **options)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, ["export", *map(str, arguments)], prog_name="tb-batchview")


def test_the_command_writes_and_says_what(tmp_path: Path) -> None:
    multiclass(tmp_path / "logs" / "a")
    for form, name in PLACES:
        out = f"{tmp_path}/{name}"

        result = invoke(tmp_path / "logs", "--run", "a", "--phase", "train", "--format", form, "--out", out)

        there = Path(out) / "phase=train" if form == "parquet" else Path(out)
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr == f"Exported 7 batches, {sum(sizes())} samples: {there}\n"
        assert there.exists()


def test_the_command_writes_csv_alone_to_stdout(tmp_path: Path) -> None:
    multilabel(tmp_path / "logs" / "a")
    make(load(tmp_path / "logs")["a"], tmp_path / "a.csv", "csv", start=1, stop=3, scores=False)

    result = invoke(tmp_path / "logs", "--format", "csv", "--out", "-", "--start", 1, "--stop", 3, "--no-scores")

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (tmp_path / "a.csv").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run", "x"], "Received: run='x'. There is 'a', 'b'."),
        ([], "run must be named. Received: none. There is 'a', 'b'."),
        (["--run", "a", "--phase", "predict"], "Received: phase='predict'. There is 'train'."),
        (["--run", "a", "--output", "x"], "Received: output='x'. There is 'scores'."),
        (["--run", "b"], "Run 'b' has 'age', 'scores'."),
        (["--run", "a", "--start", "-1"], "-1 is not in the range x>=0."),
        (["--run", "a", "--start", "3", "--stop", "1"], "Received: start=3, stop=1."),
        (["--run", "a", "--format", "xls"], "'xls' is not one of"),
        (["--run", "a", "--format", "npz", "--table", "batches"], "npz holds both."),
    ],
)
def test_wrong_usage_exits_with_2(tmp_path: Path, arguments: list[str], message: str) -> None:
    multiclass(tmp_path / "logs" / "a")
    several(tmp_path / "logs" / "b")

    result = invoke(tmp_path / "logs", "--format", "csv", "--out", tmp_path / "a.csv", *arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert message in " ".join(result.stderr.split())
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]


def test_a_target_that_exists_exits_with_2_and_is_kept(tmp_path: Path) -> None:
    multiclass(tmp_path / "logs")
    (tmp_path / "a.csv").write_text("mine")
    arguments = (tmp_path / "logs", "--format", "csv", "--out", tmp_path / "a.csv")

    assert invoke(*arguments).exit_code == 2
    assert (tmp_path / "a.csv").read_text() == "mine"
    assert invoke(*arguments, "--overwrite").exit_code == 0
    assert (tmp_path / "a.csv").read_text().startswith("step,epoch")


def test_failures_exit_with_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = invoke(tmp_path, "--format", "csv", "--out", "-")
    multiclass(tmp_path / "logs")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    without = invoke(tmp_path / "logs", "--format", "parquet", "--out", tmp_path / "a")

    assert (empty.exit_code, empty.stdout) == (1, "")
    assert empty.stderr == f"Nothing is recorded below {tmp_path}. Ask `tb-batchview doctor` why.\n"
    assert (without.exit_code, without.stdout) == (1, "")
    assert 'pip install "tb_batchview[parquet]"' in without.stderr


def test_damaged_batches_are_told_and_exit_with_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    multiclass(tmp_path / "logs")
    count = selection.Selection.survey

    def broken(self: selection.Selection, *arguments: Any) -> None:
        count(self, *arguments)
        self.unreadable.add(3)

    monkeypatch.setattr(selection.Selection, "survey", broken)
    result = invoke(tmp_path / "logs", "--format", "csv", "--out", tmp_path / "a.csv")

    assert (result.exit_code, (tmp_path / "a.csv").exists()) == (1, True)
    assert result.stderr.endswith("1 damaged batches were left out. Ask `tb-batchview doctor`.\n")


def test_a_terminal_gets_a_progress_bar_of_what_is_long(tmp_path: Path, root: Path) -> None:
    write(tmp_path / "logs", [make_record(step) for step in range(50)])
    code = "import sys; from tb_batchview import cli, progress; progress.DELAY = float(sys.argv.pop(1)); cli.main()"
    shown = {}
    for delay in ("0", "60"):
        arguments = ["export", f"{tmp_path}/logs", "--format", "csv", "--out", f"{tmp_path}/{delay}.csv"]
        status, printed, shown[delay] = run_at_terminal([sys.executable, "-c", code, delay, *arguments], root)
        assert (status, printed) == (0, b"")

    assert b"Until it is complete it is called" in shown["0"]
    assert b"Exporting  [" in shown["0"]
    assert b"100%" in shown["0"]
    assert shown["60"].decode() == f"Exported 50 batches, 400 samples: {tmp_path}/60.csv\r\n"


def test_a_closed_pipe_is_quiet(tmp_path: Path, root: Path) -> None:
    write(tmp_path / "logs", [make_record(step, samples=64) for step in range(300)])
    command = f"{sys.executable} -m tb_batchview export {tmp_path}/logs --format csv --out - | head -n 2"

    done = subprocess.run(
        ["bash", "-c", f'{command}; echo "${{PIPESTATUS[0]}}"'], cwd=root, capture_output=True, text=True, timeout=120
    )

    first, second, status = done.stdout.splitlines()
    assert (first.split(",")[0], second.split(",")[0], status, done.stderr) == ("step", "0", "1", "")


@pytest.mark.parametrize(("redirect", "message"), [(">/dev/full", "No space left"), (">&-", "stdout is closed")])
def test_a_stdout_that_takes_nothing_is_one_sentence(tmp_path: Path, root: Path, redirect: str, message: str) -> None:
    # So little that it fits into the buffer, and fails only when that is flushed.
    write(tmp_path / "logs", [make_record(0)])
    command = f"{sys.executable} -m tb_batchview export {tmp_path}/logs --format csv --out - {redirect}"

    done = subprocess.run(["bash", "-c", command], cwd=root, capture_output=True, text=True, timeout=120)

    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1), done.stderr
    assert message in done.stderr


def test_csv_goes_where_the_shell_says(tmp_path: Path, root: Path) -> None:
    multilabel(tmp_path / "logs")
    export_to = f"{sys.executable} -m tb_batchview export {tmp_path}/logs --format csv --no-scores --out"

    for command in (f"{export_to} /dev/stdout | cat", f"{export_to} >(cat) | cat"):
        done = subprocess.run(["bash", "-c", command], cwd=root, capture_output=True, text=True, timeout=120)

        assert (done.stderr, len(done.stdout.splitlines())) == ("", 1 + sum(sizes()))


# Gets a signal from itself in the middle of writing: no race between two processes.
STRUCK = """
import os, signal, sys
from pathlib import Path
from tb_batchview import cli
from tb_batchview.run import Run
number, place, ignored = int(sys.argv.pop(1)), Path(sys.argv.pop(1)), sys.argv.pop(1) == "ignored"
if number != signal.SIGKILL:
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    signal.signal(number, signal.SIG_IGN if ignored else usual)  # whatever the tests were started with
read, reads = Run.read, 0
def counting(self, *arguments):
    global reads
    reads += 1
    if reads == 900:
        assert [name for name in os.listdir(place) if name.endswith(".partial")], "it must be under way"
        os.kill(os.getpid(), number)
    return read(self, *arguments)
Run.read = counting
cli.main(sys.argv[1:])
"""


def strike(
    root: Path, number: int, out: Path, arguments: list[str], *, ignored: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run an export that a signal hits."""
    how = "ignored" if ignored else "usual"
    command = [sys.executable, "-c", STRUCK, str(int(number)), str(out), how, *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(("form", "name"), PLACES)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_export_that_is_ended_leaves_nothing(
    tmp_path: Path, root: Path, form: str, name: str, number: signal.Signals
) -> None:
    write(tmp_path / "logs", [make_record(step, samples=64) for step in range(300)])
    (tmp_path / "out").mkdir()
    out = tmp_path / "out" / name if form == "parquet" else tmp_path / "out"
    arguments = ["export", f"{tmp_path}/logs", "--format", form, "--out", f"{tmp_path}/out/{name}"]

    done = strike(root, number, out, arguments)

    assert (done.returncode, done.stdout, done.stderr.strip()) == (1, "", "Aborted!")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_signal_that_is_ignored_ends_no_export(tmp_path: Path, root: Path) -> None:
    write(tmp_path / "logs", [make_record(step, samples=64) for step in range(300)])
    arguments = ["export", f"{tmp_path}/logs", "--format", "csv", "--out", f"{tmp_path}/a.csv"]

    done = strike(root, signal.SIGHUP, tmp_path, arguments, ignored=True)  # as after nohup

    assert (done.returncode, done.stdout) == (0, "")
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 1 + 300 * 64


@pytest.mark.parametrize(("form", "name"), PLACES)
def test_a_kill_leaves_nothing_under_the_final_name(tmp_path: Path, root: Path, form: str, name: str) -> None:
    write(tmp_path / "logs", [make_record(step, samples=64) for step in range(300)])
    (tmp_path / "out").mkdir()
    out = tmp_path / "out" / name if form == "parquet" else tmp_path / "out"
    final = out / "phase=train" if form == "parquet" else out / name.rstrip("/")
    arguments = ["export", f"{tmp_path}/logs", "--format", form, "--out", f"{tmp_path}/out/{name}"]

    done = strike(root, signal.SIGKILL, out, arguments)

    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGKILL, "", "")
    left = sorted(final.parent.iterdir())
    assert left
    assert all(path.name.startswith(f".{final.name}.") for path in left)
    again = run_command(root, *arguments[1:])
    told = [line for line in again.stderr.decode().splitlines() if line.startswith("Left by an export that was killed")]
    assert again.returncode == 0
    assert len(told) == len(left)
    assert all(f"{path}. Delete it." in line for path, line in zip(left, told, strict=True))
    assert sorted({*final.parent.iterdir()} - {final}) == left


def test_an_export_that_still_runs_is_not_told_as_left(tmp_path: Path) -> None:
    multiclass(tmp_path / "logs")
    run = load(tmp_path / "logs")["."]
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        (tmp_path / f".a.csv.{other.pid}.partial").touch()
        (tmp_path / f".b.csv.{other.pid}.partial").touch()
        job = Export(run, "train", tmp_path / "a.csv", form="csv")

        assert job.leftovers == []
        other.communicate(b"\n")
    assert job.leftovers == [tmp_path / f".a.csv.{other.pid}.partial"]


def test_what_a_killed_export_left_is_named_with_what_to_do(tmp_path: Path) -> None:
    multiclass(tmp_path / "logs")
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    ours = [f".a.db.{ended.pid}.{end}" for end in ("old", "partial", "partial-shm", "partial-wal")]
    for name in (*ours, f".b.db.{ended.pid}.partial", ".a.db.x.partial", f"a.db.{ended.pid}.partial", ".a.db.1.tmp"):
        (tmp_path / name).touch()

    result = invoke(tmp_path / "logs", "--format", "sqlite", "--out", tmp_path / "a.db")

    lines = result.stderr.splitlines()
    assert (result.exit_code, len(lines)) == (0, 5)
    assert lines[0] == f"An export was killed while it replaced {tmp_path}/{ours[0]}. Rename or delete that."
    for line, name in zip(lines[1:4], ours[1:], strict=True):
        assert line.endswith(f" another machine still writes it: {tmp_path}/{name}. Delete it.")
    assert all((tmp_path / name).exists() for name in ours)


def test_a_directory_that_takes_no_file_is_refused_at_once(tmp_path: Path) -> None:
    # Root may write anywhere: then as nobody, in a place that nobody can reach.
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        multiclass(place / "logs")
        (place / "out").mkdir(mode=0o555)
        place.chmod(0o755)
        code = (
            "import os, sys, pyarrow.parquet; from tb_batchview import cli\n"
            "if os.getuid() == 0: os.setresuid(65534, 65534, 65534)\n"
            "cli.main(sys.argv[1:])"
        )
        arguments = ["export", str(place / "logs")]
        for form, name in PLACES:
            done = subprocess.run(
                [sys.executable, "-c", code, *arguments, "--format", form, "--out", f"{place}/out/{name}"],
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
            )

            assert (done.returncode, done.stdout) == (2, ""), done.stderr
            told = " ".join(done.stderr.split())
            assert "out must be in a directory that may be written to. Received: out=" in told
            assert list((place / "out").iterdir()) == []


def test_a_run_whose_name_is_no_text_is_exported(tmp_path: Path) -> None:
    multilabel(tmp_path / "run")
    os.mkdir(os.fsencode(tmp_path / "logs"))
    os.rename(tmp_path / "run", os.fsencode(tmp_path / "logs" / "r") + b"\xff")
    (run,) = load(tmp_path / "logs").values()

    for form, name in PLACES:
        make(run, f"{tmp_path}/{name}", form)

    with contextlib.closing(sqlite3.connect(tmp_path / "a.db")) as database:
        assert database.execute("SELECT value FROM info WHERE key = 'run'").fetchone() == ("r?",)


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, root: Path) -> None:
    write(tmp_path / "logs", [make_record(step, samples=64) for step in range(100)])
    for form, name in PLACES:
        limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536)); import signal;"
        code = (
            f"{limit} signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "from tb_batchview import cli; cli.main(sys.argv[1:])"
        )
        arguments = ["export", f"{tmp_path}/logs", "--format", form, "--out", f"{tmp_path}/{name}"]

        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=root, capture_output=True, text=True, timeout=120
        )

        assert (done.returncode, done.stdout) == (1, ""), done.stderr
        assert done.stderr.startswith("The export failed. "), done.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["logs"]


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root may mount")
def test_a_disk_that_is_full_is_said_and_left_empty(tmp_path: Path, root: Path) -> None:
    write(tmp_path / "logs", [make_record(step, samples=64) for step in range(100)])
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "none", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("may not mount")
    try:
        for form, name in PLACES:
            done = run_command(root, f"{tmp_path}/logs", "--format", form, "--out", f"{disk}/{name}")

            assert (done.returncode, done.stdout) == (1, b""), done.stderr
            assert done.stderr.startswith(b"The export failed. ")
            assert len(done.stderr.splitlines()) == 1
            assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# -- the documentation -------------------------------------------------------------------------------------------------


def test_every_column_is_documented(tmp_path: Path, root: Path) -> None:
    page = (root / "docs" / "export.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)))
    multilabel(tmp_path / "logs")
    run = load(tmp_path / "logs")["."]
    make(run, tmp_path / "a.db", "sqlite")
    make(run, tmp_path / "a.npz", "npz")
    with sqlite3.connect(tmp_path / "a.db") as database:
        made = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        info = database.execute("SELECT key FROM info").fetchall()
    database.close()
    with np.load(tmp_path / "a.npz") as archive:
        arrays_made = set(archive)

    assert set(tables.SAMPLE_COLUMNS) | set(tables.BATCH_COLUMNS) | arrays_made | {name for (name,) in made} <= named
    assert all(key in page for (key,) in info)


def test_the_query_of_the_documentation_runs(tmp_path: Path, root: Path) -> None:
    binary(tmp_path / "logs")
    make(load(tmp_path / "logs")["."], tmp_path / "train.db", "sqlite")
    (query,) = re.findall(r'sqlite3 train.db "(.+)"', (root / "docs" / "export.md").read_text(encoding="utf-8"))

    with sqlite3.connect(tmp_path / "train.db") as database:
        rows = database.execute(query).fetchall()
        score = database.execute("SELECT json_extract(predictions, '$[0]') FROM samples LIMIT 1").fetchone()[0]
    database.close()

    batches = list(load(tmp_path / "logs")["."].batches("train"))
    wrong = sum(int(np.count_nonzero(batch.target != batch.predicted)) for batch in batches)
    assert sum(count for *_, count in rows) == wrong > 0
    assert np.float32(score) == batches[0].predictions[0, 0]
