"""How fast a sweep is opened and chosen from: many runs in one directory.

Fifty runs of 64 samples a batch are opened by the plugin as a page does it, in
turn with one run of as many batches in all, and with `load()` of the same
fifty:

- first: the list of runs is there, which the page draws;
- newest: the run that was written to last is read to its end, and shown;
- all: every run is read;
- list: what the page asks every few seconds, the look at the files included,
  once all is read; beside it the same of the one run.

Told are the medians, and the ratios of what was measured in the same turn. The
runs are links to one file, which is in the system's cache.

Run: python benchmarks/sweep.py [--runs N] [--batches N] [--repeats N]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reading import clock, find_file, make_run, write_pattern
from tensorboard.plugins import base_plugin
from werkzeug.test import Client

import tb_batchview
from tb_batchview.plugin import BatchViewPlugin

PAUSE = 0.005  # seconds between two questions of a page that cannot wait
POLLS = 20


def make_sweep(logdir: Path, single: Path, runs: int, batches: int) -> None:
    """Write `runs` runs, and one of as many batches in all."""
    with tempfile.TemporaryDirectory() as folder:
        pattern = write_pattern(Path(folder))
    make_run(single / "all", pattern, runs * batches)
    make_run(logdir / "run 0", pattern, batches)
    file = find_file(logdir / "run 0")
    for number in range(1, runs):
        link = (
            logdir
            / f"augmentation=flips-and-crops learning_rate={number / 1000} run {number}"
            / "batchview"
            / file.name
        )
        link.parent.mkdir(parents=True)
        os.link(file, link)


def ask(page: Client, run: str | None = None) -> Any:
    """Ask for all runs, or for one."""
    return page.get("/", query_string={} if run is None else {"run": run}).get_json()


def wait(done: Callable[[], bool]) -> None:
    """Ask until it is so."""
    while not done():
        time.sleep(PAUSE)


def open_page(logdir: Path) -> tuple[Client, dict[str, float]]:
    """Open a log directory as the page does; tell the seconds until each moment."""
    plugin = BatchViewPlugin(base_plugin.TBContext(logdir=str(logdir)), refresh_seconds=0)
    page = Client(plugin.get_plugin_apps()["/runs"])
    begin = time.perf_counter()
    runs = ask(page)["runs"]
    seconds = {"first": time.perf_counter() - begin}
    newest = max(runs, key=lambda run: run["updated"] or 0)["name"]
    wait(lambda: ask(page, newest)["runs"][0]["indexing"] is None)
    seconds["newest"] = time.perf_counter() - begin
    wait(lambda: ask(page)["indexing"] is None)
    seconds["all"] = time.perf_counter() - begin
    return page, seconds


def measure(logdir: Path, single: Path, repeats: int) -> dict[str, list[tuple[float, float]]]:
    """Return for each moment the seconds of the sweep and those of the one run, by turns."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ("first", "newest", "all", "list", "load()")}
    for number in range(repeats + 1):
        many, ours = open_page(logdir)
        one, theirs = open_page(single)
        turn = {name: (ours[name], theirs[name]) for name in ours}
        polls = [(clock(ask, many)[1], clock(ask, one)[1]) for _ in range(POLLS)]
        turn["list"] = statistics.median(first for first, _ in polls), statistics.median(other for _, other in polls)
        turn["load()"] = clock(tb_batchview.load, logdir)[1], clock(tb_batchview.load, single)[1]
        if number:  # the first turn warms up
            for name, pair in turn.items():
                found[name].append(pair)
    return found


def main() -> None:
    """Measure, and print a row for each moment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50, metavar="N")
    parser.add_argument("--batches", type=int, default=5_000, metavar="N", help="of each run (default: 5000)")
    parser.add_argument("--repeats", type=int, default=5, metavar="N")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        logdir, single = Path(folder, "sweep"), Path(folder, "single")
        make_sweep(logdir, single, options.runs, options.batches)
        print(f"{options.runs} runs of {options.batches:,} batches, and one of {options.runs * options.batches:,}:")
        for name, pairs in measure(logdir, single, options.repeats).items():
            many, one = (statistics.median(pair[place] for pair in pairs) for place in (0, 1))
            ratios = [ours / theirs for ours, theirs in pairs]
            print(
                f"  {name:7} {many * 1e3:8.1f} ms   one run {one * 1e3:8.1f} ms   "
                f"ratio {statistics.median(ratios):5.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            )


if __name__ == "__main__":
    main()
