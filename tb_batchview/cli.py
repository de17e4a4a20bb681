"""The command `tb-batchview`: what is recorded, and what is wrong with it.

Called from the shell. Calls `log` for what is recorded, `checks` for what is
wrong with it and `export` to write it elsewhere. Answers go to stdout, messages
to stderr. Exit 0; 1 for a finding or a failure; 2 for wrong usage.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from tb_batchview.address import hide_secrets, is_remote, local_path
from tb_batchview.checks import (
    Finding,
    check_installation,
    check_log,
    check_mirrors,
    check_run,
    format_bytes,
    printable,
)
from tb_batchview.errors import ArgumentError, BatchViewError, NotFoundError, RemoteError
from tb_batchview.export import FORMATS, TABLES, Export, Report
from tb_batchview.log import Log, load
from tb_batchview.progress import show_progress
from tb_batchview.run import Run
from tb_batchview.version import __version__


class _Logdir(click.Path):
    """A directory that is there, or the address of a remote one."""

    def __init__(self) -> None:
        super().__init__(exists=True, file_okay=False)

    def convert(self, value: Any, *about: Any) -> str:
        """Check a path; an address shows itself when it is opened."""
        return str(value) if is_remote(value) else str(super().convert(str(local_path(value)), *about))


_LOGDIR = click.argument("logdir", type=_Logdir())
_JSON = click.option("--json", "as_json", is_flag=True, help="answer in JSON")
_STEP = click.IntRange(min=0)


class _Commands(click.Group):
    """Ends in a sentence and status 1 where Python would end in a trace."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run a command."""
        try:
            return super().main(*arguments, **options)
        except (BatchViewError, OSError) as error:
            _give_up_stdout()
            _fail(printable(str(error)))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tb-batchview")
def main() -> None:
    """Look into what tb_batchview recorded, and write it elsewhere.

    LOGDIR is the directory given to BatchViewCallback or BatchWriter, or any
    above it, as for `tensorboard --logdir`; also a remote one, such as
    s3://bucket/logs (pip install "tb_batchview[remote]"). It may be read while
    training still writes.

    \b
    Begin with
      tb-batchview inspect logs        which runs and phases are there?
      tb-batchview doctor logs         why is something not there?
      tb-batchview export --help       how do I get it into pandas or SQL?
      tensorboard --logdir logs        the tab Batch View

    \b
    Exit status: 0; 1 for a finding or a failure; 2 for wrong usage. Answers
    go to stdout, messages and progress to stderr.
    """  # noqa: D301  (a backspace tells click to leave the lines as they are)


@main.command(short_help="Which runs and phases are there? How much of each?")
@_LOGDIR
@_JSON
def inspect(logdir: str, as_json: bool) -> None:
    """List the runs below LOGDIR, a line for each of their phases.

    \b
    The columns:
      batches kept, seen  in the files, and in the training; fewer are kept
                          where some were dropped, lost or are damaged
      samples, layers     recorded
      outputs             of the model: name (task, number of classes)
      file size           of the run
      health              what is wrong; `tb-batchview doctor` has the remedy

    \b
    Examples:
      tb-batchview inspect logs
      tb-batchview inspect logs --json | python -m json.tool

    Exit status: 0; 1 when nothing is recorded there; 2 for wrong usage.
    """  # noqa: D301
    log = _load(logdir)
    if as_json:
        _print(json.dumps([describe_run(run) for run in log.values()], indent=2))
    elif log:
        _print(format_table(*list_phases(log)))
    if not log:
        _fail_empty(logdir)


@main.command(short_help="What is wrong, and what to do about it?")
@_LOGDIR
@_JSON
def doctor(logdir: str, as_json: bool) -> None:
    """Find what is wrong with the installation or LOGDIR, and the remedy.

    Looks at the versions, at whether TensorBoard finds the plugin, and at
    every file: damaged or torn records, newer formats, dropped batches, and
    what the callback warned of. Each line begins with "ok" or, with the
    remedy below it, with "!!".

    \b
    Examples:
      tb-batchview doctor logs
      tb-batchview doctor logs --json | python -m json.tool

    Exit status: 0; 1 when there is something to look at; 2 for wrong usage.
    """  # noqa: D301
    findings = [*check_installation(), *_check_logdir(logdir)]
    if as_json:
        _print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            _print(f"{'!!' if finding.remedy else 'ok'} {finding.about}: {finding.state}")
            if finding.remedy:
                _print(f"   → {finding.remedy}")
    problems = sum(bool(finding.remedy) for finding in findings)
    if problems:
        _fail(f"{problems} to look at." if problems > 1 else "1 thing to look at.")


@main.command(short_help="How do I get a run as CSV, NumPy, SQLite or Parquet?")
@_LOGDIR
@click.option("--run", help="name of the run, as inspect lists it; needed when there are several")
@click.option("--phase", help="train, validation or predict; needed when there are several")
@click.option("--format", "form", type=click.Choice(FORMATS), required=True, help="what to write")
@click.option("--out", required=True, metavar="PATH", help='where to; "-" writes CSV to stdout')
@click.option("--output", metavar="NAME", help="output of the model; needed when there are several")
@click.option("--table", type=click.Choice(TABLES), help="one row per sample (default) or batch; csv and parquet only")
@click.option("--start", type=_STEP, metavar="STEP", help="first batch, by its step")
@click.option("--stop", type=_STEP, metavar="STEP", help="step after the last batch")
@click.option("--scores/--no-scores", default=True, help="all scores of each sample (default), or none")
@click.option("--overwrite", is_flag=True, help="replace what is there")
def export(
    logdir: str,
    run: str | None,
    phase: str | None,
    form: str,
    out: str,
    output: str | None,
    table: str | None,
    start: int | None,
    stop: int | None,
    scores: bool,
    overwrite: bool,
) -> None:
    """Write a phase of a run below LOGDIR to a file of another format.

    \b
      csv      a line per sample; with --table batches, per batch
      npz      arrays for numpy.load; where PATH does not end in .npz, a
               directory of .npy files for numpy.load(…, mmap_mode="r")
      sqlite   tables of batches, metrics, samples and classes
      parquet  PATH/phase=…/part-0.parquet for pandas, DuckDB, Spark

    Memory does not grow with the run. PATH appears when it is complete: an
    interrupted export leaves nothing. docs/export.md has the columns.

    \b
    Examples:
      tb-batchview export logs --run a --phase train --format csv --out - | head
      tb-batchview export logs --run a --phase train --format csv --table batches --out a.csv
      tb-batchview export logs --run a --phase train --format npz --no-scores --out a.npz
      tb-batchview export logs --run a --phase train --format sqlite --out a.db
      tb-batchview export logs --run a --phase train --format parquet --start 10 --stop 20 --out a

    Exit status: 0; 1 when it failed or damaged batches were left out; 2 for
    wrong usage, such as a run that is not there or a PATH that is.
    """  # noqa: D301
    log = _load(logdir)
    if not log:
        _fail_empty(logdir)
    try:
        chosen = log[_only("run", run, list(log))]
        job = Export(
            chosen,
            _only("phase", phase, chosen.phases),
            out,
            form=form,
            output=output,
            table=table,
            start=start,
            stop=stop,
            scores=scores,
            overwrite=overwrite,
        )
    except (ArgumentError, NotFoundError) as error:
        raise click.UsageError(str(error)) from error
    for left in job.leftovers:
        _warn_of(left)
    note = "" if job.partial is None else f"Until it is complete it is called {printable(str(job.partial))}."
    # A bar among lines that come to the same screen would be in their way.
    hidden = out == "-" and sys.stdout is not None and sys.stdout.isatty()
    try:
        with _ended_as_by_ctrl_c(), show_progress("Exporting", note=note, hidden=hidden) as progress:
            report = job.write(progress)
    except BrokenPipeError:
        # Whoever read it (head, say) has enough: no message. Python must not complain when it closes stdout either.
        _give_up_stdout()
        sys.exit(1)
    except (BatchViewError, OSError) as error:
        _give_up_stdout()
        _fail(f"The export failed. {printable(str(error))}")
    _tell(report)


# -- what is recorded --------------------------------------------------------------------------------------------------


def describe_run(run: Run) -> dict[str, Any]:
    """Return what is known of a run, for JSON."""
    return {
        "name": run.name,
        "phases": [
            {
                "name": name,
                "batches": len(phase),
                "seen": phase.seen,
                "samples": int(phase.size.sum()),
                "first_step": int(phase.step[0]) if len(phase) else None,
                "last_step": int(phase.step[-1]) if len(phase) else None,
            }
            for name, phase in run.view.phases.items()
        ],
        "outputs": [{"name": name, "task": spec.task, "classes": spec.classes} for name, spec in run.outputs.items()],
        "metrics": list(run.metrics),
        "layers": list(run.layers),
        "health": {
            **dataclasses.asdict(run.health),
            "warnings": [
                {"kind": kind, "message": message, "count": count} for kind, message, count in run.health.warnings
            ],
        },
    }


def list_phases(log: Log) -> tuple[list[str], list[list[str]]]:
    """Return the head and the rows of the table of `inspect`."""
    head = ["run", "phase", "batches kept", "seen", "samples", "layers", "outputs", "file size", "health"]
    several = any(run.health.workers > 1 for run in log.values())
    if several:
        head.insert(1, "workers")
    rows = []
    for run in log.values():
        outputs = ", ".join(f"{name} ({spec.task}, {spec.classes})" for name, spec in run.outputs.items())
        health = "; ".join(finding.state for finding in check_run(run) if finding.remedy) or "ok"
        phases = {
            name: (len(phase), phase.seen, int(phase.size.sum()), len(phase.layers))
            for name, phase in run.view.phases.items()
        }
        # A run of which nothing could be read must not be missing: its health says why.
        for name, counts in (phases or {"-": (0, 0, 0, 0)}).items():
            workers = [f"{run.health.workers:,}"] if several else []
            figures = (*(f"{count:,}" for count in counts), outputs or "-", format_bytes(run.health.bytes), health)
            rows.append([run.name, *workers, name, *figures])
    return head, rows


def format_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align columns; numbers to the right."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in (head, *cells)) for column in range(len(head))]
    right = [bool(cells) and all(row[column][:1].isdigit() for row in cells) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in (head, *cells)
    )


# -- export ------------------------------------------------------------------------------------------------------------


def _only(thing: str, name: str | None, known: Sequence[str]) -> str:
    """Return a name that need not be given where there is one."""
    if name is None and len(known) == 1:
        return known[0]
    if name is None:
        raise ArgumentError(f"{thing} must be named. Received: none. There is {', '.join(map(repr, known)) or 'none'}.")
    return name


def _warn_of(left: Path) -> None:
    """Say what an export that was killed had no time to take away."""
    if left.suffix == ".old":
        click.echo(f"An export was killed while it replaced {printable(str(left))}. Rename or delete that.", err=True)
    else:
        click.echo(
            f"Left by an export that was killed, unless another machine still writes it: {printable(str(left))}. "
            "Delete it.",
            err=True,
        )


@contextlib.contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end an export as Ctrl-C does.

    Then nothing half stays. What is ignored, as after nohup, still is.
    """
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    taken = [number for number, handler in before.items() if handler is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _tell(report: Report) -> None:
    """Say what was exported and what was not."""
    for notice in report.notices:
        click.echo(notice, err=True)
    if report.path is not None:
        click.echo(
            f"Exported {report.batches:,} batches, {report.samples:,} samples: {printable(str(report.path))}", err=True
        )
    if report.unreadable:
        _fail(f"{report.unreadable:,} damaged batches were left out. Ask `tb-batchview doctor`.")


def _load(logdir: str) -> Log:
    # Of a remote directory everything is copied first, with a bar of its own.
    with show_progress("Opening") as progress:
        try:
            return load(logdir, progress)
        except NotFoundError as error:
            raise click.UsageError(str(error)) from error


def _check_logdir(logdir: str) -> list[Finding]:
    """Look at everything below a directory, also at one out of reach."""
    try:
        log = _load(logdir)
    except RemoteError as error:
        about = f"remote {printable(hide_secrets(logdir))}"
        return [Finding(about, printable(str(error)), "look at the address, the rights and the network")]
    return [*check_mirrors(log.mirrors), *check_log(log, logdir)]


def _print(text: str) -> None:
    """Write to stdout, or say that it is not there."""
    if sys.stdout is None:  # that is how Python shows one that is closed
        raise OSError(errno.EBADF, "stdout is closed")
    click.echo(text)


def _give_up_stdout() -> None:
    """Keep Python from complaining again of a stdout that takes no more."""
    if sys.stdout is not None:
        try:
            sys.stdout.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail_empty(logdir: str) -> NoReturn:
    _fail(f"Nothing is recorded below {printable(hide_secrets(logdir))}. Ask `tb-batchview doctor` why.")


def _fail(message: str) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(1)
