"""Export to Parquet: a directory with one partition per phase.

Called by `export`; calls `selection` and `tables`, and pyarrow when it is
used: it is an optional dependency.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tb_batchview.errors import ArgumentError, BatchViewError
from tb_batchview.export.selection import CLASSES, FIGURES, Block, Found, Progress, Selection, ignore
from tb_batchview.export.tables import BATCH_COLUMNS, SAMPLE_COLUMNS, name_of
from tb_batchview.records import Array

PART = "part-0.parquet"
# A row group is held in memory until it is whole: so many rows, or so many values.
_GROUP_ROWS = 1 << 16
_GROUP_VALUES = 1 << 21


def load_pyarrow() -> Any:
    """Import pyarrow.

    Raises:
        BatchViewError: It is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise BatchViewError(
            'Parquet needs pyarrow. Install it: pip install "tb_batchview[parquet]", or export to another format.'
        ) from error
    return pyarrow


def partition(directory: Path, phase: str) -> Path:
    """Return the directory of a phase, named as Hive does."""
    return directory / f"phase={phase}"


def write_parquet(selection: Selection, directory: Path, kinds: Sequence[str], progress: Progress = ignore) -> None:
    """Write the samples as the part of a partition.

    Args:
        selection: After its survey.
        directory: Of the partition.
        kinds: With several values per sample: columns of lists.
        progress: Told how far it is.
    """
    arrow = load_pyarrow()
    schema = sample_schema(selection, kinds)
    width = len(SAMPLE_COLUMNS) + sum(selection.found[kind].width for kind in kinds)
    most = max(1, min(_GROUP_ROWS, _GROUP_VALUES // width))
    with _new_part(directory) as part, arrow.parquet.ParquetWriter(part, schema) as writer:
        group: list[Any] = []
        count = 0
        for block in selection.blocks(tuple(kinds)):
            if group and count + block.count > most:
                writer.write_table(arrow.Table.from_batches(group), row_group_size=most)
                group, count = [], 0
            group.append(_record_batch(arrow, selection, block, kinds, schema))
            count += block.count
            progress(len(selection.rows) + block.row - selection.rows.start + 1, 2 * len(selection.rows))
        if group:
            writer.write_table(arrow.Table.from_batches(group), row_group_size=most)


def write_parquet_batches(selection: Selection, directory: Path, progress: Progress = ignore) -> None:
    """Write the batches; as `write_parquet`."""
    arrow = load_pyarrow()
    schema = batch_schema(selection)
    with _new_part(directory) as part, arrow.parquet.ParquetWriter(part, schema) as writer:
        for rows, block in selection.batch_blocks():
            writer.write_table(arrow.table(block, schema=schema))
            progress(rows.stop - selection.rows.start, len(selection.rows))


@contextlib.contextmanager
def _new_part(directory: Path) -> Iterator[Path]:
    """Yield a name that no pattern of Parquet files finds; rename at the end.

    Some look into hidden directories too, and a file without an end would
    keep the other partitions from being read.
    """
    part = directory / f"{PART}.partial"
    yield part
    os.replace(part, directory / PART)


def sample_schema(selection: Selection, kinds: Sequence[str]) -> Any:
    """Return the columns of samples with their types."""
    arrow = load_pyarrow()
    types = dict.fromkeys(SAMPLE_COLUMNS, arrow.float32())
    types |= dict.fromkeys(("step", "epoch", "index", "sample"), arrow.int64())
    # Always text, so that all phases have the same type.
    types |= dict.fromkeys(("id", "target_name", "predicted_name"), arrow.string())
    types |= dict.fromkeys(("target", "predicted"), arrow.int32())
    fields = [arrow.field(name, types[name]) for name in SAMPLE_COLUMNS]
    fields += [arrow.field(kind, _list_of(arrow, selection.found[kind])) for kind in kinds]
    return arrow.schema(fields)


def batch_schema(selection: Selection) -> Any:
    """Return the columns of batches with their types."""
    arrow = load_pyarrow()
    types = {name: arrow.float64() if name == "wall_time" else arrow.int64() for name in BATCH_COLUMNS}
    return arrow.schema(list((types | dict.fromkeys(selection.batch_fields(), arrow.float64())).items()))


def check_neighbours(directory: Path, phase: str, schema: Any) -> None:
    """Refuse a partition whose columns are not those of the others.

    Readers take the columns of the first partition for those of all, and
    drop what it does not have without a word.

    Raises:
        ArgumentError: They differ.
    """
    arrow = load_pyarrow()
    for part in sorted(directory.glob(f"phase=*/{PART}")):
        if part.parent == partition(directory, phase):
            continue
        there = arrow.parquet.read_schema(part)
        if not there.equals(schema):
            different = {field.name for field in {*there} ^ {*schema}}
            raise ArgumentError(
                f"All partitions of a directory must have the same columns. Received: out={str(directory)!r}, where "
                f"{part.parent.name} differs in {', '.join(sorted(different)[:6])}. Give another directory."
            )


def _record_batch(arrow: Any, selection: Selection, block: Block, kinds: Sequence[str], schema: Any) -> Any:
    columns, count = selection.columns, block.count
    cells: dict[str, Any] = {
        name: np.full(count, getattr(columns, name)[block.row]) for name in ("step", "epoch", "index")
    }
    cells["sample"] = np.arange(block.first, block.first + count)
    ids = None if block.ids is None else block.ids.tolist()
    cells["id"] = None if ids is None else [None if value is None else str(value) for value in ids]
    for kind, name in FIGURES.items():
        array = block.arrays.get(kind)
        cells[name] = array
        if kind in CLASSES:
            cells[f"{name}_name"] = None if array is None else [name_of(selection.names, item) for item in array]
    for kind in kinds:
        cells[kind] = block.values(kind)
    return arrow.record_batch([_array(arrow, cells[field.name], count, field.type) for field in schema], schema=schema)


def _array(arrow: Any, cells: Any, count: int, of: Any) -> Any:
    """Return a column; a matrix becomes lists."""
    if cells is None:
        return arrow.nulls(count, of)
    if isinstance(cells, np.ndarray) and cells.ndim == 2:
        values = arrow.array(cells.reshape(-1).astype(of.value_type.to_pandas_dtype()))
        offsets = np.arange(count + 1, dtype=np.int32) * cells.shape[1]
        return arrow.ListArray.from_arrays(arrow.array(offsets, arrow.int32()), values, of)
    if isinstance(cells, np.ndarray):
        return arrow.array(_narrowed(cells, of), of)
    return arrow.array(cells, of)


def _narrowed(cells: Array, of: Any) -> Array:
    return np.ascontiguousarray(cells).astype(of.to_pandas_dtype())


def _list_of(arrow: Any, found: Found) -> Any:
    """Return a type of lists whose values are of a width readers know."""
    dtype = found.dtype
    assert dtype is not None, "only what is of one kind goes into a column"
    if dtype.kind == "f":
        dtype = np.dtype(np.float64 if dtype.itemsize > 4 else np.float32)
    # Named as Parquet names it, so that the schema is the same when it is read.
    return arrow.list_(arrow.field("element", arrow.from_numpy_dtype(dtype)))
