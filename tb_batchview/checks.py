"""What is wrong with the installation or with what is recorded, and the remedy.

Called by `cli` and `plugin`. Calls `run` for what is recorded; the versions come
from the installed packages' metadata, so that nothing heavy is imported.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path

from tb_batchview.address import hide_secrets, is_remote, local_path
from tb_batchview.metadata import DIRECTORY
from tb_batchview.mirror import Mirror
from tb_batchview.run import Run
from tb_batchview.version import __version__

_PACKAGES = ("tensorboard", "numpy", "protobuf", "crc32c", "keras", "tensorflow", "tensorflow-cpu")
# TensorBoard before 2.21 finds plugins by pkg_resources, which setuptools 82 dropped.
_TENSORBOARD_WITHOUT_PKG_RESOURCES = (2, 21)
_SETUPTOOLS_WITHOUT_PKG_RESOURCES = (82,)


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of `doctor`.

    Attributes:
        about: What was looked at.
        state: What was found.
        remedy: What to do; empty when nothing is wrong.
    """

    about: str
    state: str
    remedy: str = ""


def check_installation() -> Iterator[Finding]:
    """Look at versions, the entry point and the bundle."""
    versions = {name: version for name in _PACKAGES if (version := _version(name))}
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    yield Finding("versions", f"tb_batchview {__version__}, Python {platform.python_version()}, {listed}")
    if _release("tensorboard") < _TENSORBOARD_WITHOUT_PKG_RESOURCES and (
        _release("setuptools") >= _SETUPTOOLS_WITHOUT_PKG_RESOURCES
    ):
        yield Finding(
            "TensorBoard",
            f"{_version('tensorboard')} cannot start with setuptools {_version('setuptools')}",
            'pip install "setuptools<82", or a TensorBoard of 2.21 or newer',
        )
    points = metadata.entry_points(group="tensorboard_plugins", name="batchview")
    if points:
        yield Finding("plugin", "registered with the TensorBoard of this Python")
    else:
        yield Finding(
            "plugin",
            "not registered with the TensorBoard of this Python",
            f"{sys.executable} -m pip install tb_batchview, and start TensorBoard from the same environment",
        )
    if (Path(__file__).parent / "static" / "index.js").is_file():
        yield Finding("frontend", "bundled")
    else:
        yield Finding("frontend", "the bundle is missing", "make frontend in a checkout; otherwise install again")


def check_provider(location: str, failure: str, further: int) -> Iterator[Finding]:
    """Tell that there are no files, and what it means."""
    yield Finding(
        "data provider",
        f"the runs are read through TensorBoard's data provider ({printable(location) or 'of no name'}), "
        "which keeps some batches of each run",
        "start it with --samples-per-plugin=batchview=all to keep all of them; better, tensorboard --logdir",
    )
    if further:
        yield Finding("data provider", f"{further} more run(s) are not shown", "give it a smaller log directory")
    if failure:
        yield Finding("data provider", printable(failure), "look whether it runs; it is asked again all the time")


def check_mirrors(mirrors: Iterable[Mirror]) -> Iterator[Finding]:
    """Look at what is copied of remote directories."""
    for report in (mirror.report() for mirror in mirrors):
        about = f"remote {printable(report.url)}"
        if report.failure:
            # It names the remedy where there is one.
            yield Finding(about, printable(report.failure), "look at the address, the rights and the network")
        elif not report.listed:
            yield Finding(about, "is still being looked through")
        copied = f"{format_bytes(report.copied)} of {format_bytes(report.bytes)}"
        tried = f", {report.failures} time(s) in vain" if report.failures else ""
        if report.listed and not report.exists:
            yield Finding(about, "there is nothing", "look at the address; it may also be that nothing is written yet")
        elif report.listed:
            yield Finding(about, f"{report.files} file(s), {copied} copied{tried}")
        if report.uncopied:
            first, count = report.uncopied[0], len(report.uncopied)
            yield Finding(
                about,
                f"{count} file(s) could not be copied. {printable(first)}",
                "look at the rights; it is tried again as long as TensorBoard runs",
            )
        if report.refused:
            yield Finding(
                about,
                f"{report.refused} file(s) have names that no copy can have, or are too many",
                "rename them, or give a directory further down",
            )
        if report.stopped:
            yield Finding(about, printable(report.stopped), "make room, or set TMPDIR to a directory of another disk")


def check_log(log: Mapping[str, Run], logdir: str | os.PathLike[str] | None) -> Iterator[Finding]:
    """Look at all runs of a log directory, None where there is none."""
    if not log and logdir is None:
        yield Finding(
            "runs",
            "none that the data provider has",
            "record with BatchViewCallback below the directory that it reads; see docs/how-it-works.md",
        )
    elif not log and logdir is not None:
        remote = is_remote(logdir)
        given = hide_secrets(os.fspath(logdir))
        place = given.rstrip("/") if remote else str(local_path(logdir).resolve())
        above, _, last = place.replace(os.sep, "/").rpartition("/")
        remedy = f'model.fit(…, callbacks=[BatchViewCallback("{printable(given)}/run-1")]), or give another directory'
        if last == DIRECTORY:
            # Where the files are is not where the run is.
            remedy = f"tb-batchview doctor {printable(above)}"
        yield Finding("runs", f"none below {printable(place)}", remedy)
    for run in log.values():
        yield from check_run(run)


def check_run(run: Run) -> Iterator[Finding]:
    """Look at the files and the batches of a run."""
    health, about = run.health, f"run {printable(run.name)}"
    workers = f"{health.workers} workers, " if health.workers > 1 else ""
    yield Finding(about, f"{workers}{health.files} file(s), {format_bytes(health.bytes)}")
    for name, phase in run.view.phases.items():
        state = f"{name}: {len(phase):,} of {phase.seen:,} batches"
        remedy = "some were not kept, by what is said below or because a writer was killed; see docs/messages.md"
        yield Finding(about, state, remedy if len(phase) < phase.seen else "")
    if health.torn_files:
        # No fault: a file that grows, or whose writer was killed, ends within a record.
        yield Finding(
            about, f"{health.torn_files} file(s) end within a record: being written, or the writer was killed"
        )
    if health.corrupt_records:
        yield Finding(
            about,
            f"{health.corrupt_records} corrupt record(s) were left out",
            "copy the files again if they were copied while being written; otherwise look at the disk",
        )
    if health.refused_files:
        yield Finding(
            about, f"{health.refused_files} file(s) of a newer format were left out", "pip install -U tb_batchview"
        )
    if health.dropped_batches:
        yield Finding(
            about,
            f"{health.dropped_batches} batch(es) were dropped while recording",
            'on_full="wait", a greater max_pending_mb, or less to write: top_k, update_freq, histogram_freq',
        )
    for kind, message, count in health.warnings:
        if kind != "dropped":
            times = f" ({count} times)" if count > 1 else ""
            yield Finding(about, printable(message) + times, "look it up in docs/messages.md")


def format_bytes(count: int) -> str:
    """Return a size as people read it."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def printable(text: str) -> str:
    """Escape what would steer a terminal: names come from files."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _release(package: str) -> tuple[int, ...]:
    """Return the first numbers of a version; () when it is not installed."""
    numbers = _version(package).split(".")[:2]
    return tuple(int(number) for number in numbers if number.isdigit())
