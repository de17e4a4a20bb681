"""How much memory the callback takes while a model trains.

Two questions, each answered in fresh processes that train the same model with
and without the callback, in turn:

- the peak: how much more memory than plain `fit` a training has ever had;
- the slope: whether memory grows with the number of batches, from samples
  taken during one long training, beside the slope of plain `fit` itself.

Memory is what Linux counts as resident (VmRSS, and VmHWM for the peak), all of
TensorFlow included. Everything recorded is written to disk.

Run: python benchmarks/memory.py [--repeats N] [--batches 100000]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# TensorFlow is imported in the child processes only: this one stays small.
VARIANTS: dict[str, dict[str, Any] | None] = {
    "plain fit": None,
    "BatchViewCallback(layers=None)": {"layers": None},
    "BatchViewCallback()": {},
    "BatchViewCallback(histogram_freq=1)": {"histogram_freq": 1},
}
GROWING = ("plain fit", "BatchViewCallback()")
# Memory is looked at this often, in batches.
EVERY = 500
# Batches of an epoch of the long training.
EPOCH = 1000
_MB = 1 << 20


def read_memory(field: str) -> int:
    """Return bytes of this process, as Linux counts them: VmRSS or VmHWM."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    match = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    if match is None:
        raise RuntimeError(f"/proc/self/status must name {field}, which only Linux does.")
    return int(match[1]) * 1024


def train(case: str, variant: str, batches: int, log_dir: str) -> dict[str, Any]:
    """Train in this process; return the memory it took, in bytes."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import numpy as np
    from overhead import make_convnet

    from tb_batchview import BatchViewCallback

    class Sampler(keras.callbacks.Callback):
        """Looks at the memory now and then."""

        def __init__(self) -> None:
            super().__init__()
            self.batches = 0
            self.samples: list[tuple[int, int]] = []

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            """Count the batch."""
            self.batches += 1
            if not self.batches % EVERY:
                self.samples.append((self.batches, read_memory("VmRSS")))

    keras.utils.set_random_seed(0)
    layers = keras.layers
    if case == "convnet":
        batch, size = 64, 50 * 64
        model = make_convnet()
    else:
        batch, size = 16, EPOCH * 16
        hidden = layers.Dense(16, activation="relu")
        model = keras.Sequential([keras.Input((16,)), hidden, layers.Dense(10, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    rng = np.random.default_rng(0)
    x = rng.normal(size=(size, *model.input_shape[1:])).astype("float32")
    y = rng.integers(0, 10, size)
    options = VARIANTS[variant]
    sampler = Sampler()
    callbacks = [sampler] if options is None else [sampler, BatchViewCallback(log_dir, **options)]
    before = read_memory("VmRSS")
    begin = time.perf_counter()
    model.fit(x, y, batch_size=batch, epochs=batches * batch // size, verbose=0, callbacks=callbacks)
    seconds = time.perf_counter() - begin
    written = sum(path.stat().st_size for path in Path(log_dir).rglob("*") if path.is_file())
    if options is not None and not written:
        raise RuntimeError("Nothing was recorded.")
    return {
        "before": before,
        "peak": read_memory("VmHWM"),
        "samples": sampler.samples,
        "written": written,
        "seconds": seconds,
        "batches": sampler.batches,
    }


def run_child(case: str, variant: str, batches: int) -> dict[str, Any]:
    """Train in a fresh process."""
    with tempfile.TemporaryDirectory() as log_dir:
        command = [sys.executable, __file__, "--child", case, variant, str(batches), log_dir]
        answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(answer.stdout.splitlines()[-1])


def fit_slope(samples: list[tuple[int, int]]) -> float:
    """Return the median slope over all pairs of samples (Theil and Sen).

    Robust against the few jumps by which an allocator takes its memory.
    """
    pairs = itertools.combinations(samples, 2)
    return statistics.median((later[1] - sooner[1]) / (later[0] - sooner[0]) for sooner, later in pairs)


def measure_peak(repeats: int, batches: int) -> dict[str, Any]:
    """Compare the peaks of each variant with that of plain fit."""
    peaks: dict[str, list[int]] = {name: [] for name in VARIANTS}
    for number in range(repeats):
        names = list(VARIANTS)
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            peaks[name].append(run_child("convnet", name, batches)["peak"])
    plain = peaks["plain fit"]
    print(f"\nPeak over {batches} batches of the convnet, batch 64: median of {repeats} processes each")
    for name, found in peaks.items():
        more = statistics.median(found) - statistics.median(plain)
        low, high = (f"{value / _MB:.0f}" for value in (min(found), max(found)))
        print(f"  {name:40} {statistics.median(found) / _MB:6.0f} MB ({low} to {high}), {more / _MB:+.0f} MB")
    return {"batches": batches, "peaks": peaks}


def measure_growth(batches: int) -> dict[str, Any]:
    """Compare how memory grows during a long training."""
    found: dict[str, Any] = {}
    print(f"\nResident memory over {batches} tiny batches, looked at every {EVERY}; slope after the first fifth")
    for name in GROWING:
        run = run_child("tiny", name, batches)
        late = [(at, size) for at, size in run["samples"] if at > run["batches"] // 5]
        slope = fit_slope(late)
        found[name] = {**run, "slope": slope}
        sizes = [size for _, size in late]
        print(
            f"  {name:40} {sizes[0] / _MB:6.1f} MB, at the end {sizes[-1] / _MB:.1f} MB; {slope:+.1f} bytes a batch, "
            f"{slope * 1e6 / _MB:+.1f} MB in a million; {run['written'] / _MB:.0f} MB written; "
            f"{run['seconds']:.0f} s"
        )
    return found


def main() -> None:
    """Measure both and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="processes of each variant for the peak (default: 5)")
    parser.add_argument("--peak-batches", type=int, default=500, help="batches of each of them (default: 500)")
    parser.add_argument("--batches", type=int, default=20_000, help="of the long training (default: 20000)")
    parser.add_argument("--json", help="write the figures to this file, too")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        case, variant, batches, log_dir = options.child
        print(json.dumps(train(case, variant, int(batches), log_dir)))
        return
    found = {"peak": measure_peak(options.repeats, options.peak_batches), "growth": measure_growth(options.batches)}
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
