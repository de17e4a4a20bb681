"""Export what was recorded: CSV, NumPy, SQLite, Parquet.

Called by `cli`. Calls `run`. An export reads batch by batch, in memory that
does not grow with their number, and appears under its name only when it is
complete. docs/export.md has the columns.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from tb_batchview import index
from tb_batchview.errors import ArgumentError
from tb_batchview.export import npz, parquet, sqlite, tables, target
from tb_batchview.export.selection import Progress, Selection, ignore
from tb_batchview.run import Run
from tb_batchview.version import __version__

FORMATS = ("csv", "npz", "sqlite", "parquet")
TABLES = ("samples", "batches")
STDOUT = "-"


@dataclasses.dataclass(frozen=True)
class Report:
    """What was exported.

    Attributes:
        path: Where it is; None when it went to stdout or another stream.
        batches: How many.
        samples: How many.
        unreadable: Batches whose samples were left out as damaged.
        notices: What is not there, or not as one might expect; sentences.
    """

    path: Path | None
    batches: int
    samples: int
    unreadable: int
    notices: tuple[str, ...]


class Export:
    """An export that can be made: all names are known, the place is free."""

    def __init__(
        self,
        run: Run,
        phase: str,
        out: str | os.PathLike[str],
        *,
        form: str,
        output: str | None = None,
        table: str | None = None,
        start: int | None = None,
        stop: int | None = None,
        scores: bool = True,
        overwrite: bool = False,
    ) -> None:
        """Check everything; nothing is written yet.

        Args:
            run: The run; what comes later is not exported.
            phase: Of the run.
            out: File or directory; "-" for CSV to stdout.
            form: One of `FORMATS`.
            output: Of the run; need not be named when there is one.
            table: One of `TABLES`, for CSV and Parquet; the other formats
                hold both.
            start: First step.
            stop: Step after the last one.
            scores: Whether what has several values per sample goes with it.
            overwrite: Whether what is there may be replaced.

        Raises:
            NotFoundError: There is no such phase or output.
            ArgumentError: Something asked for cannot be.
            BatchViewError: pyarrow is needed and not installed.
        """
        if form not in FORMATS:
            raise ArgumentError(f"format must be one of {', '.join(FORMATS)}. Received: format={form!r}.")
        if table is not None and table not in TABLES:
            raise ArgumentError(f"table must be one of {', '.join(TABLES)}. Received: table={table!r}.")
        if table is not None and form in ("npz", "sqlite"):
            raise ArgumentError(f"table must be left out: {form} holds both. Received: table={table!r}.")
        if table == "batches" and not scores:
            raise ArgumentError("The table of batches has no scores to leave out. Received: scores=False.")
        self._selection = Selection(run, phase, output, start, stop)
        self._form, self._table = form, table or TABLES[0]
        self._scores, self._overwrite = scores, overwrite
        self._stdout = os.fspath(out) == STDOUT
        if self._stdout and form != "csv":
            raise ArgumentError(f"Only CSV can go to stdout. Received: format={form!r}. Name a file.")
        self._path = Path(out).expanduser()
        # As it is named: what /dev/stdout links to is no path.
        self._stream = self._stdout or (form == "csv" and target.is_stream(self._path))
        if not self._stream:
            # Below a link, so that it is its target that is replaced.
            self._path = self._path.resolve()
        # NumPy's own rule: an .npz is a file; a slash says directory.
        self._in_files = form == "npz" and (
            os.fspath(out).endswith(("/", os.sep)) or self._path.suffix.lower() != ".npz"
        )
        if form == "parquet":
            parquet.load_pyarrow()
        self._check_place()

    @property
    def path(self) -> Path | None:
        """Return what will appear; None for a stream."""
        if self._stream:
            return None
        return parquet.partition(self._path, self._selection.phase) if self._form == "parquet" else self._path

    @property
    def partial(self) -> Path | None:
        """Return what it is called until it is complete."""
        return None if self.path is None else target.partial(self.path)

    @property
    def leftovers(self) -> list[Path]:
        """Return what exports to this place left that were killed."""
        return [] if self.path is None else target.list_leftovers(self.path)

    def write(self, progress: Progress = ignore) -> Report:
        """Write it.

        Args:
            progress: Called with how much is done and how much there is.

        Raises:
            BatchViewError: What was recorded is gone, or a library failed.
            OSError: The disk is full, for instance.
        """
        selection = self._selection
        samples = self._form in ("npz", "sqlite") or self._table == "samples"
        if samples:
            selection.survey(progress)
        notices = _WRITERS[self._form](self, progress)
        return Report(
            path=self.path,
            batches=len(selection.rows),
            samples=selection.samples,
            unreadable=len(selection.unreadable),
            notices=tuple(notices),
        )

    def _check_place(self) -> None:
        path, overwrite = self.path, self._overwrite
        if path is None:
            return
        if index.is_ours(path.name):
            raise ArgumentError(f"out must not be named as a recording is. Received: out={str(path)!r}.")
        if self._form == "parquet":
            if self._path.exists() and not self._path.is_dir():
                raise ArgumentError(f"out must be a directory for Parquet. Received: out={str(self._path)!r}.")
            if self._path.is_dir():
                target.check_directory(path, ".parquet", overwrite=overwrite)
            else:
                target.check(self._path, overwrite=overwrite)
        elif self._in_files:
            target.check_directory(path, ".npy", overwrite=overwrite)
        else:
            target.check_file(path, overwrite=overwrite)

    def _write_csv(self, progress: Progress) -> list[str]:
        selection = self._selection
        with self._open_stream() as stream:
            if self._table == "batches":
                tables.write_csv_batches(selection, stream, progress)
                return []
            kinds, notices = tables.list_values(selection, scores=self._scores, most=tables.MAX_CSV_VALUES)
            tables.write_csv(selection, stream, kinds, progress)
            return notices

    def _write_npz(self, progress: Progress) -> list[str]:
        with contextlib.ExitStack() as stack:
            if self._in_files:
                folder = stack.enter_context(target.new_directory(self._path, ".npy", overwrite=self._overwrite))
                opener = stack.enter_context(npz.open_directory(folder))
            else:
                file = stack.enter_context(target.new_file(self._path, overwrite=self._overwrite))
                opener = stack.enter_context(npz.open_zip(file))
            return npz.write_arrays(self._selection, opener, self._info(), scores=self._scores, progress=progress)

    def _write_sqlite(self, progress: Progress) -> list[str]:
        kinds, notices = tables.list_values(self._selection, scores=self._scores)
        with target.new_file(self._path, overwrite=self._overwrite) as file:
            sqlite.write_sqlite(self._selection, file, kinds, self._info(), progress)
        return notices

    def _write_parquet(self, progress: Progress) -> list[str]:
        selection = self._selection
        kinds: tuple[str, ...] = ()
        notices: list[str] = []
        if self._table == "batches":
            schema = parquet.batch_schema(selection)
        else:
            # A float64 column would not hold every int64.
            kinds, notices = tables.list_values(selection, scores=self._scores, one_kind=True)
            schema = parquet.sample_schema(selection, kinds)
        parquet.check_neighbours(self._path, selection.phase, schema)
        place = parquet.partition(self._path, selection.phase)
        with (
            target.parent(self._path),
            target.new_directory(place, ".parquet", overwrite=self._overwrite) as folder,
        ):
            if self._table == "batches":
                parquet.write_parquet_batches(selection, folder, progress)
            else:
                parquet.write_parquet(selection, folder, kinds, progress)
        return notices

    @contextlib.contextmanager
    def _open_stream(self) -> Iterator[BinaryIO]:
        """Open where CSV goes: stdout, a pipe, or a new file."""
        if self._stdout:
            if sys.stdout is None:  # that is how Python shows one that is closed
                raise OSError(errno.EBADF, "stdout is closed")
            yield sys.stdout.buffer
            # Here, where a closed pipe is noticed, and not when Python ends.
            sys.stdout.buffer.flush()
        elif self.path is None:
            with self._path.open("wb") as stream:
                yield stream
        else:
            with target.new_file(self.path, overwrite=self._overwrite) as file, file.open("wb") as stream:
                yield stream

    def _info(self) -> dict[str, str]:
        """Return what a file says about itself."""
        selection = self._selection
        # A directory may have a name that is no text.
        run = selection.run.encode("utf-8", "replace").decode()
        info = {"run": run, "phase": selection.phase, "writer": f"tb_batchview {__version__}"}
        if selection.output is not None and selection.spec is not None:
            info |= {
                "output": selection.output,
                "task": selection.spec.task,
                "classes": str(selection.spec.classes),
                "activation": selection.spec.activation or "",
            }
        return info


_WRITERS: Mapping[str, Callable[[Export, Progress], list[str]]] = {
    "csv": Export._write_csv,
    "npz": Export._write_npz,
    "sqlite": Export._write_sqlite,
    "parquet": Export._write_parquet,
}
