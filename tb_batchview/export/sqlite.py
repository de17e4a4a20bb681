"""Export to an SQLite database that can be queried while it is written.

Called by `export`; calls `selection` and `tables`.
"""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tb_batchview.errors import BatchViewError
from tb_batchview.export.selection import CLASSES, FIGURES, Block, Progress, Selection, ignore
from tb_batchview.export.tables import SAMPLE_COLUMNS, name_of
from tb_batchview.records import Array

# Between two of them a reader sees nothing new.
_ROWS_PER_COMMIT = 20_000
# How long a reader may keep us from finishing.
_BUSY_SECONDS = 60.0

_SCHEMA = """
CREATE TABLE info (key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE classes (number INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE batches (step INTEGER PRIMARY KEY, epoch INTEGER, "index" INTEGER, size INTEGER, wall_time REAL,
    loss REAL, error_rate REAL, confidence REAL);
CREATE TABLE metrics (step INTEGER, name TEXT, value REAL, PRIMARY KEY (step, name)) WITHOUT ROWID;
CREATE TABLE samples (step INTEGER, epoch INTEGER, "index" INTEGER, sample INTEGER, id, target INTEGER,
    target_name TEXT, predicted INTEGER, predicted_name TEXT, confidence REAL, target_score REAL, loss REAL,
    weight REAL, error REAL, targets TEXT, predictions TEXT, top_classes TEXT, top_scores TEXT);
CREATE UNIQUE INDEX samples_by_batch ON samples (step, sample);
CREATE INDEX samples_by_class ON samples (target, predicted);
"""
_VALUES = ("targets", "predictions", "top_classes", "top_scores")


def write_sqlite(
    selection: Selection, path: Path, kinds: Sequence[str], info: Mapping[str, str], progress: Progress = ignore
) -> None:
    """Write batches and samples.

    Args:
        selection: After its survey.
        path: Of a file that is not there yet.
        kinds: With several values per sample: JSON arrays.
        info: What the table of that name holds.
        progress: Told how far it is.

    Raises:
        BatchViewError: SQLite could not.
    """
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)) as database:
            # Then readers and the writer do not wait for each other.
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")
            database.executescript("BEGIN;" + _SCHEMA)
            database.executemany("INSERT INTO info VALUES (?, ?)", [*info.items(), ("complete", "0")])
            database.executemany("INSERT INTO classes VALUES (?, ?)", enumerate(selection.names))
            database.execute("COMMIT")
            _fill(database, selection, tuple(kinds), progress)
            database.execute("UPDATE info SET value = '1' WHERE key = 'complete'")
            _settle(database)
    except sqlite3.Error as error:
        raise BatchViewError(f"SQLite could not write the database: {error}.") from error


def _fill(database: sqlite3.Connection, selection: Selection, kinds: tuple[str, ...], progress: Progress) -> None:
    """Insert batch by batch, each with its samples in one transaction."""
    marks = ", ".join("?" * (len(SAMPLE_COLUMNS) + len(_VALUES)))
    insert_samples = f"INSERT INTO samples VALUES ({marks})"
    blocks = selection.blocks(kinds)
    block = next(blocks, None)
    pending = 0
    database.execute("BEGIN")
    for rows, batches in selection.batch_blocks():
        for number, row in enumerate(rows):
            _insert_batch(database, {name: values[number] for name, values in batches.items()})
            pending += 1
            while block is not None and block.row == row:
                database.executemany(insert_samples, _samples(selection, block))
                pending += block.count
                block = next(blocks, None)
            if pending >= _ROWS_PER_COMMIT:
                database.execute("COMMIT")
                database.execute("BEGIN")
                pending = 0
            progress(len(selection.rows) + row - selection.rows.start + 1, 2 * len(selection.rows))
    database.execute("COMMIT")


def _settle(database: sqlite3.Connection) -> None:
    """Bring everything into the one file."""
    busy, _, _ = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise sqlite3.OperationalError("somebody kept reading it")
    # A reader that is still connected keeps the mode as it is, which harms nobody.
    database.execute("PRAGMA busy_timeout=0")
    with contextlib.suppress(sqlite3.OperationalError):
        database.execute("PRAGMA journal_mode=DELETE")


def _insert_batch(database: sqlite3.Connection, batch: Mapping[str, Any]) -> None:
    names = ("step", "epoch", "index", "size", "wall_time", "loss", "error_rate", "confidence")
    database.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [batch.get(name) for name in names])
    metrics = [
        (batch["step"], name.removeprefix("metrics/"), value)
        for name, value in batch.items()
        if name.startswith("metrics/") and value is not None
    ]
    # One that is not a number is NULL: that is how SQLite stores NaN.
    database.executemany("INSERT INTO metrics VALUES (?, ?, ?)", metrics)


def _samples(selection: Selection, block: Block) -> Iterator[tuple[Any, ...]]:
    """Return the rows of a block, in the order of the columns."""
    columns, count = selection.columns, block.count
    nothing = [None] * count
    cells: list[Sequence[Any]] = [[getattr(columns, name)[block.row].item()] * count for name in _BATCH_OF_SAMPLE]
    cells.append(range(block.first, block.first + count))
    cells.append(nothing if block.ids is None else block.ids.tolist())
    for kind in FIGURES:
        array = block.arrays.get(kind)
        cells.append(nothing if array is None else array.tolist())
        if kind in CLASSES:
            names = [None] * count if array is None else [name_of(selection.names, item) for item in array.tolist()]
            cells.append(names)
    for kind in _VALUES:
        values = block.values(kind)
        cells.append(nothing if values is None else [_json(row) for row in values])
    return zip(*cells, strict=True)


_BATCH_OF_SAMPLE = ("step", "epoch", "index")


def _json(row: Array) -> str:
    """Return numbers as JSON, which has neither NaN nor infinities.

    NaN is null. 9e999 is read as infinity by SQLite, Python and others.
    """
    if row.dtype.kind == "f":
        return "[" + ", ".join(_json_float(value, str(value)) for value in row) + "]"
    return json.dumps(row.tolist())


def _json_float(value: float, text: str) -> str:
    if math.isfinite(value):
        return text
    return "null" if math.isnan(value) else "9e999" if value > 0 else "-9e999"
