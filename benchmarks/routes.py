"""How long each route of the plugin takes, ten requests at once.

A run of 64 samples a batch, the summary of two layers in every tenth, is
written (one of 1,000 classes in some minutes: every cell of its matrix is filled) and
served by a real `tensorboard`. For each route ten clients ask at the same time,
each for ranges, batches, classes and orders of its own, drawn at random; half of
the ranges are the whole run. Told are the first answer (what is counted once),
and the median, the 95 % quantile and the greatest of the others, as the clients
see them: HTTP, compression and the wait for the nine others included. Next to
them, to have something to compare with, the same for TensorBoard's own route
`data/plugins_listing`.

A page in the middle of millions of samples sorted by loss is told apart: it
ranks all of them.

With --cpu nothing is served: told is the CPU time that an answer takes, which
other work on the machine hardly changes, when it is asked for the first time
and when it is asked for again and nothing is new. Each request has a thread of
its own, as in TensorBoard.

Run: python benchmarks/routes.py [--cpu] [--batches N] [--classes N [N ...]]
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode, urlparse

import numpy as np
from reading import SAMPLES, add_batch, make_run, write_pattern
from tensorboard.backend.application import TensorBoardWSGI
from tensorboard.plugins import base_plugin
from werkzeug.test import Client

from tb_batchview import BatchWriter
from tb_batchview.plugin import BatchViewPlugin

CLIENTS = 10
MANY_CLASSES = 100  # of more the scores are kept in part, and the batches do not repeat
BASE = "data/plugin/batchview/"


@contextmanager
def serve(logdir: Path) -> Iterator[tuple[str, int]]:
    """Run TensorBoard; the value is its host and port."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as tensorboard:
        try:
            for line in tensorboard.stdout or ():
                if address := re.search(r"TensorBoard \S+ at (http://\S+)", line):
                    found = urlparse(address.group(1))
                    yield found.hostname or "localhost", found.port or 6006
                    return
            raise RuntimeError("TensorBoard did not start.")
        finally:
            tensorboard.terminate()


def fill_run(log_dir: Path, batches: int, classes: int) -> None:
    """Write a run of random predictions, no batch like another.

    A batch that is repeated would leave most cells of a large matrix empty.
    """
    rng = np.random.default_rng(0)
    drawn = rng.dirichlet(np.ones(classes), SAMPLES).astype(np.float32)
    with BatchWriter(log_dir, top_k=5) as writer:
        for step in range(batches):
            # The same scores of other classes: to draw a million of them for each batch would take hours.
            scores = np.roll(drawn[rng.permutation(SAMPLES)], rng.integers(classes), axis=1)
            add_batch(writer, rng, step, scores)


def ask(address: tuple[str, int], request: str) -> tuple[float, bytes]:
    """Return the seconds until an answer is there, and the answer."""
    begin = time.perf_counter()
    connection = http.client.HTTPConnection(*address, timeout=600)
    connection.request("GET", f"/{request}", headers={"Accept-Encoding": "gzip"})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    if response.status != 200:
        raise RuntimeError(f"{request} must be answered. Received: {response.status}, {content[:200]!r}.")
    seconds = time.perf_counter() - begin
    return seconds, gzip.decompress(content) if response.getheader("Content-Encoding") == "gzip" else content


def make_requests(batches: int, classes: int, layers: list[str]) -> dict[str, Callable[[random.Random], str]]:
    """Return for each route what one client asks for."""

    def span(draw: random.Random) -> dict[str, object]:
        if draw.random() < 0.5:
            return {}
        start, stop = sorted(draw.sample(range(batches), 2))
        return {"start": start, "stop": stop}

    def route(name: str, **fixed: object) -> Callable[[random.Random], str]:
        def make(draw: random.Random) -> str:
            asked = {key: value(draw) if callable(value) else value for key, value in fixed.items()}
            where = {"run": "big", "phase": "train"} if name != "runs" else {}
            ranged = span(draw) if name not in ("runs", "batch", "sample") else {}
            return f"{BASE}{name}?{urlencode(where | ranged | asked)}"

        return make

    def step(draw: random.Random) -> int:
        return draw.randrange(batches)

    def number(draw: random.Random) -> int:
        return draw.randrange(classes)

    def order(*names: str) -> Callable[[random.Random], str]:
        return lambda draw: draw.choice(names)

    return {
        "runs": route("runs"),
        "batches, timeline": route("batches", points=1000),
        "batches, a page": route("batches", sort=order("step", "loss", "confidence"), limit=200),
        "batch": route("batch", step=step),
        "sample": route("sample", step=step, sample=3),
        "classes": route("classes", sort=order("recall", "support")),
        "confusion": route("confusion"),
        "class_trend": route("class_trend", points=100),
        "samples by step": route("samples", outcome=order("all", "wrong")),
        "samples by loss": route("samples", sort="loss", descending=1, outcome=order("all", "confidently_wrong")),
        "samples of a cell": route("samples", sort="loss", target=number, predicted=number),
        "layers": route("layers"),
        "layer": route("layer", layer=order(*layers)),
        "samples, far page": route("samples", sort="loss", offset=lambda draw: draw.randrange(16_384, 10**6)),
    }


def measure(address: tuple[str, int], make: Callable[[random.Random], str], rounds: int) -> tuple[float, list[float]]:
    """Return the seconds of the first answer, and of all later ones."""
    draws = [random.Random(seed) for seed in range(CLIENTS)]
    first, _ = ask(address, make(random.Random(CLIENTS)))
    with ThreadPoolExecutor(CLIENTS) as clients:
        times = clients.map(lambda draw: [ask(address, make(draw))[0] for _ in range(rounds)], draws)
        return first, [seconds for client in times for seconds in client]


def measure_cpu(client: Client, requests: list[str]) -> list[float]:
    """Return the CPU seconds of each answer."""

    def ask_once(request: str) -> float:
        begin = time.thread_time()
        response = client.get(f"/{request}", headers={"Accept-Encoding": "gzip"})
        seconds = time.thread_time() - begin
        if response.status_code != 200:
            raise RuntimeError(f"{request} must be answered. Received: {response.status}, {response.data[:200]!r}.")
        return seconds

    taken = []
    for request in requests:
        with ThreadPoolExecutor(1) as thread:
            taken.append(thread.submit(ask_once, request).result())
    return taken


def print_cpu(logdir: Path, batches: int, classes: int, rounds: int) -> None:
    """Print the CPU time of every route, in milliseconds."""
    plugin = BatchViewPlugin(base_plugin.TBContext(logdir=str(logdir)), patience=600)
    client = Client(TensorBoardWSGI([plugin]))
    run = json.loads(client.get(f"/{BASE}runs").data)["runs"][0]
    print(f"\n{batches} batches, {classes} classes; CPU milliseconds of an answer")
    for name, make in make_requests(batches, classes, run["layers"]).items():
        draw = random.Random(0)
        measure_cpu(client, [make(draw)])  # what is counted once
        requests = list(dict.fromkeys(make(draw) for _ in range(rounds)))
        first, again = (np.array(measure_cpu(client, requests)) * 1e3 for _ in range(2))
        low, high = np.percentile(first, [50, 95])
        print(f"  {name:20} first: median {low:6.2f}   p95 {high:6.2f}   again: median {np.median(again):6.2f}")


def print_row(name: str, first: float, times: list[float]) -> None:
    """Print the figures of a route, in milliseconds."""
    middle, high = np.percentile(np.array(times) * 1e3, [50, 95])
    print(
        f"  {name:20} first {first * 1e3:7.1f}   median {middle:6.1f}   p95 {high:6.1f}   max {max(times) * 1e3:6.1f}"
    )


def main() -> None:
    """Measure every route for runs of few and of many classes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=100_000, metavar="N")
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 1000], metavar="N")
    parser.add_argument("--rounds", type=int, default=20, help="requests of each client and route (default: 20)")
    parser.add_argument("--cpu", action="store_true", help="measure the CPU time of each answer instead")
    options = parser.parse_args()
    for classes in options.classes:
        with tempfile.TemporaryDirectory() as directory:
            logdir = Path(directory)
            if classes > MANY_CLASSES:
                fill_run(logdir / "big", options.batches, classes)
            else:
                make_run(logdir / "big", write_pattern(logdir / "pattern", classes=classes), options.batches)
            if options.cpu:
                print_cpu(logdir, options.batches, classes, 5 * options.rounds)
                continue
            with serve(logdir) as address:
                print(f"\n{options.batches} batches, {classes} classes; {CLIENTS} clients; milliseconds")
                begin = time.perf_counter()
                _, content = ask(address, f"{BASE}runs")
                while (runs := json.loads(content)["runs"])[0]["phases"][0]["batches"] < options.batches:
                    _, content = ask(address, f"{BASE}runs")
                print(f"  all batches are there after {time.perf_counter() - begin:.2f} s")
                asked = make_requests(options.batches, classes, runs[0]["layers"])
                print_row("data/plugins_listing", *measure(address, lambda _: "data/plugins_listing", options.rounds))
                for name, make in asked.items():
                    print_row(name, *measure(address, make, options.rounds))


if __name__ == "__main__":
    main()
