"""How much later does TensorBoard answer because of the plugin?

Starts `tensorboard` on the same runs with and without the plugin, in turn, and
times the start until the list of plugins is answered. The aim is a difference
of at most 0.2 s. `make bench` calls this.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np

from tb_batchview import BatchWriter

# Both variants go through the same filter, so that it costs both the same.
LAUNCHER = """
import importlib.metadata, sys
found, hidden = importlib.metadata.distributions, sys.argv.pop(1)
importlib.metadata.distributions = lambda **named: [item for item in found(**named) if item.name != hidden]
from tensorboard.main import run_main
run_main()
"""


def write_run(logdir: Path, batches: int) -> None:
    """Write a run, so that both variants have something to load."""
    rng = np.random.default_rng(0)
    with BatchWriter(logdir / "run") as writer:
        for _ in range(batches):
            scores = rng.dirichlet(np.ones(10), 32).astype("float32")
            writer.add_batch(predictions=scores, targets=rng.integers(0, 10, 32), loss=float(rng.random()))


def time_start(logdir: Path, arguments: list[str], *, hidden: str) -> float:
    """Return the seconds until TensorBoard listed its plugins."""
    command = [sys.executable, "-c", LAUNCHER, hidden, "--logdir", str(logdir), "--port", "0", *arguments]
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as tensorboard:
        try:
            said = ""
            for line in tensorboard.stdout or ():
                said += line
                if address := re.search(r"TensorBoard \S+ at (http://\S+)", line):
                    break
            else:
                raise RuntimeError(f"TensorBoard did not start:\n{said}")
            with urllib.request.urlopen(address.group(1) + "data/plugins_listing") as answer:
                listed = json.load(answer)
            seconds = time.perf_counter() - begin
        finally:
            tensorboard.terminate()
    if ("batchview" in listed) != (hidden != "tb_batchview"):
        raise RuntimeError("The plugin is not installed here, or was not hidden. Run: make bench")
    return seconds


def main() -> None:
    """Time both variants in turn and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="starts of each variant (default: 9)")
    parser.add_argument("--batches", type=int, default=2000, help="batches in the run that is loaded (default: 2000)")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        write_run(Path(folder), options.batches)
        for loader in ("--load_fast=auto", "--load_fast=false"):
            time_start(Path(folder), [loader], hidden="nothing")  # fills the caches of the disk
            pairs = [
                tuple(time_start(Path(folder), [loader], hidden=hidden) for hidden in ("nothing", "tb_batchview"))
                for _ in range(options.rounds)
            ]
            with_plugin, without = (statistics.median(column) for column in zip(*pairs, strict=True))
            difference = statistics.median(a - b for a, b in pairs)
            print(
                f"{loader}: {with_plugin:.2f} s with, {without:.2f} s without the plugin; "
                f"median difference {difference:+.3f} s over {options.rounds} pairs"
            )


if __name__ == "__main__":
    main()
