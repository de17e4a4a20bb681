"""The columns of the exported tables, and CSV.

Called by `export`, and by the other formats of tables for their columns.
Calls `selection`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

import numpy as np

from tb_batchview.export.selection import CLASSES, FIGURES, Block, Progress, Selection, ignore
from tb_batchview.records import Array

# The columns of samples that every run has, so that tables of several phases or runs fit together.
SAMPLE_COLUMNS = (
    *("step", "epoch", "index", "sample", "id", "target", "target_name", "predicted", "predicted_name"),
    *("confidence", "target_score", "loss", "weight", "error"),
)
BATCH_COLUMNS = ("step", "epoch", "index", "size", "wall_time")
# More columns than this no reader of CSV takes.
MAX_CSV_VALUES = 10_000


def list_values(
    selection: Selection, *, scores: bool, most: int | None = None, one_kind: bool = False
) -> tuple[tuple[str, ...], list[str]]:
    """Tell which arrays of several values per sample a table holds.

    Args:
        selection: After its survey.
        scores: Whether any are asked for.
        most: Values of one sample that fit.
        one_kind: Whether all batches must have integers, or all floats.

    Returns:
        Their kinds, and a notice for each that does not fit a table.
    """
    kinds: list[str] = []
    notices: list[str] = []
    if not scores or selection.spec is None:
        return (), []
    # Where a sample has one class, the column `target` tells it.
    targets = ("targets",) if selection.spec.task in ("multilabel", "regression") else ()
    for kind in (*targets, "predictions", "top_classes", "top_scores"):
        found = selection.found.get(kind)
        if found is None:
            continue
        too_many = most is not None and found.width > most
        if found.text or found.rank > 1 or too_many or (one_kind and found.dtype is None):
            notices.append(
                f"{kind} are left out of the table: they are not one row of numbers of one kind per sample, "
                "or of too many. Use --format npz for them."
            )
        else:
            kinds.append(kind)
    return tuple(kinds), notices


def write_csv(selection: Selection, stream: BinaryIO, kinds: Sequence[str], progress: Progress = ignore) -> None:
    """Write the samples, one per line; as `csv_samples`."""
    for piece in csv_samples(selection, kinds, progress):
        stream.write(piece)


def write_csv_batches(selection: Selection, stream: BinaryIO, progress: Progress = ignore) -> None:
    """Write the batches, one per line; as `csv_batches`."""
    for piece in csv_batches(selection, progress):
        stream.write(piece)


def csv_samples(selection: Selection, kinds: Sequence[str], progress: Progress = ignore) -> Iterator[bytes]:
    """Yield the table of samples, a part of a batch at a time.

    Args:
        selection: After its survey.
        kinds: With one column per value.
        progress: Told how far it is.

    Yields:
        UTF-8, whole lines, which end with LF.
    """
    head = [*SAMPLE_COLUMNS]
    for kind in kinds:
        head += [f"{kind}_{number}" for number in range(selection.found[kind].width)]
    yield _line(head)
    names = [_quoted(name) for name in selection.names]
    for block in selection.blocks(tuple(kinds)):
        columns = [*_csv_columns(selection, block, names)]
        for kind in kinds:
            columns += _spread(block.values(kind), selection.found[kind].width, block.count)
        lines = "\n".join(map(",".join, zip(*columns, strict=True)))
        yield lines.encode() + b"\n"
        progress(len(selection.rows) + block.row - selection.rows.start + 1, 2 * len(selection.rows))


def csv_batches(selection: Selection, progress: Progress = ignore) -> Iterator[bytes]:
    """Yield the table of batches, some at a time; as `csv_samples`."""
    head = [*BATCH_COLUMNS, *selection.batch_fields()]
    yield _line(head)
    for rows, block in selection.batch_blocks():
        cells = [["" if value is None else repr(value) for value in block[name]] for name in head]
        yield ("\n".join(map(",".join, zip(*cells, strict=True))) + "\n").encode()
        progress(rows.stop - selection.rows.start, len(selection.rows))


def name_of(names: Sequence[str], number: int) -> str | None:
    """Return the name of a class, None when it has none."""
    return names[number] if 0 <= number < len(names) else None


def _csv_columns(selection: Selection, block: Block, names: Sequence[str]) -> Iterator[Iterable[str]]:
    """Yield the cells of the columns that every run has."""
    columns, count = selection.columns, block.count
    nothing = [""] * count
    for name in ("step", "epoch", "index"):
        yield [str(getattr(columns, name)[block.row])] * count
    yield map(str, range(block.first, block.first + count))
    ids = [] if block.ids is None else block.ids.tolist()
    yield nothing if block.ids is None else ["" if value is None else _quoted(str(value)) for value in ids]
    for kind in FIGURES:
        array = block.arrays.get(kind)
        yield nothing if array is None else _texts(array)
        if kind in CLASSES:
            yield nothing if array is None else [name_of(names, number) or "" for number in array.tolist()]


def _spread(values: Array | None, width: int, count: int) -> Iterator[list[str]]:
    """Yield the cells of `width` columns; empty where there are fewer."""
    for number in range(width):
        if values is None or number >= values.shape[1]:
            yield [""] * count
        else:
            yield _texts(values[:, number])


def _texts(array: Array) -> list[str]:
    """Return numbers as text that reads back as the same number.

    Each is the shortest for its type: 0.1 for the float32 nearest to it.
    """
    if array.dtype.kind == "b":
        array = array.view(np.uint8)
    return [str(value) for value in array]


def _line(cells: Iterable[str]) -> bytes:
    return (",".join(map(_quoted, cells)) + "\n").encode()


def _quoted(text: str) -> str:
    """Quote where needed.

    The csv module of Python below 3.13 leaves a lone CR unquoted when lines
    end with LF, and reads it as the end of a line.
    """
    if any(letter in text for letter in '",\r\n') or text != text.strip():
        text = '"' + text.replace('"', '""') + '"'
    return text
