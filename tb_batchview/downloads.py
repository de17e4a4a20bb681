"""A run as CSV for a browser to save, sent a piece at a time.

Called by `plugin`; calls `export` for the tables, which are those of the
command. Memory does not grow with the run: a batch is read when those before it
are sent.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterable, Iterator

from tensorboard import errors
from werkzeug import wrappers

from tb_batchview.export import TABLES as TABLES
from tb_batchview.export import tables
from tb_batchview.export.selection import Selection

# Each holds a thread of TensorBoard's for as long as its client reads.
MOST_AT_ONCE = 4
_PIECE_BYTES = 1 << 16
_MAX_NAME = 100
_under_way = threading.BoundedSemaphore(MOST_AT_ONCE)


class BusyError(errors.PublicError):
    """As many exports as may be are under way."""

    http_code = 503

    def __init__(self) -> None:
        super().__init__(
            f"At most {MOST_AT_ONCE} exports are sent at once. Ask again when one is done, or use tb-batchview export."
        )
        self.headers = [("Retry-After", "10")]


def respond_csv(selection: Selection, table: str, *, scores: bool) -> wrappers.Response:
    """Answer with a table that is read while it is sent.

    Args:
        selection: What is exported.
        table: One of `TABLES`.
        scores: Whether what has several values per sample goes with it.

    Raises:
        BusyError: Too many others are being sent.
    """
    if not _under_way.acquire(blocking=False):
        raise BusyError
    done = contextlib.ExitStack()
    done.callback(_under_way.release)
    try:
        # Where the samples cannot be read, this says so while it can be said.
        if table == "samples":
            selection.survey()
            kinds, _ = tables.list_values(selection, scores=scores, most=tables.MAX_CSV_VALUES)
            lines = tables.csv_samples(selection, kinds)
        else:
            lines = tables.csv_batches(selection)
        response = wrappers.Response(_gather(lines, done), content_type="text/csv; charset=utf-8")
    except BaseException:
        done.close()
        raise
    # An answer that nobody began to read ends here, any other where it does: once.
    response.call_on_close(done.close)
    response.headers["Content-Disposition"] = f'attachment; filename="{file_name(selection, table)}"'
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Batchview-Unreadable"] = str(len(selection.unreadable))
    return response


def file_name(selection: Selection, table: str) -> str:
    """Return a name that every file system and every header takes."""
    parts = (selection.run, selection.output or "")
    run, output = (re.sub(r"[^A-Za-z0-9._-]+", "_", part)[:_MAX_NAME].strip("._-") for part in parts)
    return "-".join(part for part in (run or "run", selection.phase, output, table) if part) + ".csv"


def _gather(lines: Iterable[bytes], done: contextlib.ExitStack) -> Iterator[bytes]:
    """Yield larger pieces: small batches are a few lines each."""
    held: list[bytes] = []
    size = 0
    with done:
        for piece in lines:
            held.append(piece)
            size += len(piece)
            if size >= _PIECE_BYTES:
                yield b"".join(held)
                held, size = [], 0
        yield b"".join(held)
