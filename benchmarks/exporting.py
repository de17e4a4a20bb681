"""How fast a run is exported, and in how much memory.

Runs of 64 samples in 10 classes a batch are exported to each format:

- memory: what a process takes of its own while it exports, at its peak, beside
  what it took with the run open, in a fresh process each. The mapped pages of
  the recording are not its own: the system takes them back when it needs them;
- time: as a ratio to reading the same arrays with `load()`, which all formats
  have to do, and of CSV also to `pandas.DataFrame.to_csv` of the same table,
  run in turn in one process.

Everything is on one disk and, when it is read, in the system's cache.

Run: python benchmarks/exporting.py [--batches N [N ...]] [--formats NAME ...]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from reading import SAMPLES, clock, find_file, make_run, read_memory, write_pattern

import tb_batchview
from tb_batchview.export import Export

# Name of the variant: format, and what PATH is called.
FORMATS = {
    "csv": ("csv", "out.csv"),
    "npz": ("npz", "out.npz"),
    ".npy files": ("npz", "out"),
    "sqlite": ("sqlite", "out.db"),
    "parquet": ("parquet", "out"),
}
READ = ("predictions", "targets", "target", "predicted", "sample_loss")
# A look at the memory costs more than a batch.
EVERY = 20
# pandas holds everything: of longer runs it is not asked.
MOST_PANDAS = 10_000
_MB = 1e6


def open_run(log_dir: Path) -> Any:
    """Open the only run of a directory."""
    return tb_batchview.load(log_dir)["."]


def read_all(log_dir: Path) -> int:
    """Read every array of a run that the exports hold."""
    values = 0
    for batch in open_run(log_dir).batches("train"):
        values += sum(np.array(getattr(batch, name)).size for name in READ)
    return values


def export(log_dir: Path, variant: str, place: Path, progress: Callable[[int, int], None] | None = None) -> int:
    """Export a run and return the size of what came out."""
    form, name = FORMATS[variant]
    job = Export(open_run(log_dir), "train", place / name, form=form)
    report = job.write(progress) if progress else job.write()
    if report.samples != SAMPLES * report.batches:
        raise RuntimeError(f"Every sample must be exported. Received: {report.samples} of {report.batches} batches.")
    size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    shutil.rmtree(place)
    place.mkdir()
    return size


def export_by_pandas(log_dir: Path, place: Path) -> int:
    """Write the same table of samples as CSV with pandas."""
    run = open_run(log_dir)
    table = run.to_pandas("train")
    scores = np.concatenate([batch.predictions for batch in run.batches("train")])
    for number in range(scores.shape[1]):
        table[f"predictions_{number}"] = scores[:, number]
    table.to_csv(place / "pandas.csv", index=False)
    size = (place / "pandas.csv").stat().st_size
    (place / "pandas.csv").unlink()
    return size


def measure_memory(log_dir: Path, variant: str, short: Path) -> int:
    """Return by how much this process's own memory grows at its peak."""
    with tempfile.TemporaryDirectory(dir=log_dir.parent) as directory:
        export(short, variant, Path(directory))  # what is imported is not counted
        run = open_run(log_dir)  # nor what holds the columns
        form, name = FORMATS[variant]
        job = Export(run, "train", Path(directory) / name, form=form)
        before = peak = read_memory("RssAnon")
        calls = 0

        def look(done: int, total: int) -> None:
            nonlocal calls, peak
            calls += 1
            if calls % EVERY == 0:
                peak = max(peak, read_memory("RssAnon"))

        job.write(look)
    return peak - before


def run_child(log_dir: Path, variant: str, short: Path) -> int:
    """Measure the memory in a fresh process."""
    command = [sys.executable, __file__, "--child", str(log_dir), variant, str(short)]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return int(json.loads(answer.stdout.splitlines()[-1]))


def measure(log_dir: Path, variants: list[str], batches: int, repeats: int, short: Path) -> dict[str, dict[str, Any]]:
    """Measure each format on one run, all of them in turn."""
    found: dict[str, dict[str, Any]] = {name: {"times": [], "ratios": []} for name in variants}
    if "csv" in variants and batches <= MOST_PANDAS:
        found["pandas.to_csv"] = {"times": [], "ratios": []}
    with tempfile.TemporaryDirectory(dir=log_dir.parent) as directory:
        place = Path(directory)
        for number in range(repeats + 1):
            for name, figures in found.items():
                _, plain, _ = clock(read_all, log_dir)
                if name in FORMATS:
                    size, seconds, _ = clock(export, log_dir, name, place)
                else:
                    size, seconds, _ = clock(export_by_pandas, log_dir, place)
                # The first time imports are done, and the file comes into the cache.
                if number or not repeats:
                    figures["times"].append(seconds)
                    figures["ratios"].append(seconds / plain)
                    figures["size"] = size
    for name in variants:
        found[name]["memory"] = run_child(log_dir, name, short)
    return found


def print_figures(batches: int, size: int, found: dict[str, dict[str, Any]]) -> None:
    """Print what was measured of one run."""
    print(f"\n{batches} batches, {size / _MB:.0f} MB")
    print("  format            seconds   us a batch   times reading   size, MB   memory at its peak, MB")
    for name, figures in found.items():
        seconds, ratio = statistics.median(figures["times"]), statistics.median(figures["ratios"])
        memory = f"{figures['memory'] / _MB:+.1f}" if "memory" in figures else ""
        print(
            f"  {name:14} {seconds:10.2f} {seconds / batches * 1e6:12.0f} {ratio:15.1f} "
            f"{figures['size'] / _MB:10.0f} {memory:>24}"
        )
    if "pandas.to_csv" in found:
        ratios = [
            ours / pandas for ours, pandas in zip(found["csv"]["times"], found["pandas.to_csv"]["times"], strict=True)
        ]
        print(f"  csv takes {statistics.median(ratios):.2f} times as long as pandas")


def main() -> None:
    """Measure runs of several lengths and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1_000, 10_000, 50_000], metavar="N")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS), metavar="NAME")
    parser.add_argument("--repeats", type=int, default=3, help="exports that are timed, after one that is not")
    parser.add_argument("--json", help="write the figures to this file, too")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        log_dir, variant, short = options.child
        print(json.dumps(measure_memory(Path(log_dir), variant, Path(short))))
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    everything = {}
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        pattern = write_pattern(folder / "pattern")
        make_run(folder / "short", pattern, 200)
        for batches in options.batches:
            log_dir = folder / str(batches)
            make_run(log_dir, pattern, batches)
            size = find_file(log_dir).stat().st_size
            found = measure(log_dir, options.formats, batches, options.repeats, folder / "short")
            print_figures(batches, size, found)
            everything[batches] = found
            find_file(log_dir).unlink()
    if options.json:
        Path(options.json).write_text(json.dumps(everything, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
