"""Take the pictures of the README and of the gallery from recorded runs: `make screens`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image  # TensorBoard requires it
from playwright.sync_api import Browser, FrameLocator, ViewportSize, expect

if __package__ in (None, ""):  # called as a script
    sys.path.insert(0, str(Path(__file__).parent.parent))

from browser.gallery_runs import write_runs
from browser.host import ROOT, Watched, run_chromium, run_tensorboard, watch
from tb_batchview import BatchWriter

THEMES = ("light", "dark")
WIDTH = 1440
MARGIN = 14  # pixels around a part of the page


@dataclasses.dataclass(frozen=True)
class Picture:
    """What a picture is of."""

    height: int
    state: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # of the page, as in a shared link
    part: str = ""  # hook of the panel that is shown alone, or its CSS selector, instead of the page
    width: int = WIDTH
    logdir: str = "runs"
    act: Callable[[FrameLocator], None] = lambda plugin: None


def click(hook: str) -> Callable[[FrameLocator], None]:
    """Return what clicks there."""
    return lambda plugin: plugin.get_by_test_id(hook).click()


DEMO = {"run": "swapped-labels"}
PAIR = {"run": "digits-fast", "runB": "digits-slow"}
PICTURES: dict[str, Picture] = {
    "batches": Picture(860, {**DEMO, "batch": 410, "batchSort": "-loss", "start": 180}),
    "timeline": Picture(860, {**DEMO, "start": 360, "stop": 540, "zoom": 1, "logLoss": 1, "batch": 410}, "timeline"),
    "batch": Picture(1300, {**DEMO, "batch": 410, "outcome": "wrong", "sample": "410.4"}, "batch"),
    "batches-compared": Picture(1180, {**PAIR, "batch": 300}),
    "classes": Picture(
        1180, {**DEMO, "tab": "classes", "start": 360, "order": "clustered", "target": 3, "predicted": 5}
    ),
    "classes-of-a-thousand": Picture(1000, {"run": "species", "tab": "classes", "order": "clustered"}),
    "matrix-part": Picture(
        1000, {"run": "species", "tab": "classes", "order": "clustered", "part": "0_0_50"}, "confusion"
    ),
    "pairs": Picture(1800, {**DEMO, "tab": "classes", "start": 360}, "pairs"),
    "class-trend": Picture(2400, {**DEMO, "tab": "classes"}, "trend"),
    "reliability": Picture(2400, {**DEMO, "phase": "validation", "tab": "classes"}, "calibration"),
    "classes-compared": Picture(1500, {**PAIR, "tab": "classes", "phase": "validation"}),
    "binary": Picture(1250, {"run": "tumours", "tab": "classes", "threshold": 0.35}),
    "regression": Picture(1250, {"run": "diabetes", "tab": "classes"}),
    "labels": Picture(1100, {"run": "labels", "tab": "classes"}),
    "samples": Picture(900, {**PAIR, "runB": "", "tab": "samples", "map": 0, "outcome": "wrong", "confidence": "0.7~"}),
    "data-map": Picture(1150, {**PAIR, "runB": "", "tab": "samples", "box": "0~0.4~0~0.25", "each": "last"}),
    "history": Picture(
        1150,
        {**PAIR, "runB": "", "tab": "samples", "each": "last", "sampleSort": "-forgetting"},
        "sample",
        act=lambda plugin: plugin.get_by_test_id("samples-table").locator("tr[aria-rowindex='2']").click(),
    ),
    "samples-compared": Picture(1100, {**PAIR, "tab": "samples", "phase": "validation", "joint": "only_a"}),
    "layers": Picture(1250, {**DEMO, "tab": "layers", "layer": "dense", "batch": 410}),
    "histograms": Picture(
        2600, {**DEMO, "tab": "layers", "layer": "conv_2"}, ".panel:has(> .twin [data-testid=layer-heatmap])"
    ),
    "ridgelines": Picture(
        2600, {**DEMO, "tab": "layers", "layer": "conv_2"}, ".twin:has([data-testid=layer-ridgeline])"
    ),
    "units": Picture(2600, {**DEMO, "tab": "layers", "layer": "dense", "unitOrder": "zeros"}, "units"),
    "dead-units": Picture(2600, {**DEMO, "tab": "layers", "layer": "dense"}, "[aria-label='Dead units']"),
    "gradients": Picture(900, {**DEMO, "tab": "layers", "layer": "dense", "batch": 410}, "gradients"),
    "layers-compared": Picture(1500, {"run": "swapped-labels", "runB": "clean", "tab": "layers", "layer": "dense"}),
    "empty": Picture(760, logdir="empty"),
    "indexing": Picture(860, logdir="large"),
    "error": Picture(560, logdir="error"),
    "checks": Picture(620, logdir="damaged", act=click("doctor")),
    "narrow": Picture(1500, {**DEMO, "batch": 410}, width=420),
    "keys": Picture(760, {**DEMO}, act=click("keys")),
}


def settle(watched: Watched) -> None:
    """Wait until the page shows what it is to show."""
    plugin = watched.plugin
    expect(plugin.locator("h1, [data-testid=error]").first).to_be_attached()
    expect(plugin.get_by_text("Loading…")).to_have_count(0)
    watched.page.wait_for_load_state("networkidle")
    watched.frame.evaluate("document.fonts.ready.then(() => new Promise(requestAnimationFrame))")


def take(browser: Browser, address: str, picture: Picture, theme: str) -> bytes:
    """Take one picture: a PNG."""
    size = ViewportSize(width=picture.width, height=picture.height)
    context = browser.new_context(viewport=size, reduced_motion="reduce")
    # TensorBoard keeps the theme here; the "dark" of the browser is not asked for.
    context.add_init_script(f"localStorage.setItem('_tb_global_settings', '{{\"theme\":\"{theme}\"}}')")
    watched = watch(context)
    if picture.logdir == "error":
        watched.page.route("**/batchview/runs*", lambda route: route.fulfill(status=503, body="The plugin is busy."))
    if picture.logdir == "empty":  # whatever the folder of these pictures is called
        watched.page.route(
            "**/batchview/runs*", lambda route: route.fulfill(json={**route.fetch().json(), "logdir": "logs"})
        )
    keys = "".join(f"&p.batchview.{key}={quote(str(value))}" for key, value in picture.state.items())
    watched.page.goto(f"{address}#batchview{keys}")
    settle(watched)
    picture.act(watched.plugin)
    settle(watched)
    clip = None
    if picture.part:
        selector = picture.part if "=" in picture.part else f"[data-testid='{picture.part}']"
        panel = watched.plugin.locator(selector).first
        panel.scroll_into_view_if_needed()
        box = panel.bounding_box()
        assert box is not None
        left, top = max(0, box["x"] - MARGIN), max(0, box["y"] - MARGIN)
        clip = {
            "x": left,
            "y": top,
            "width": min(picture.width, box["x"] + box["width"] + MARGIN) - left,
            "height": min(picture.height, box["y"] + box["height"] + MARGIN) - top,
        }
    shot = watched.page.screenshot(animations="disabled", caret="hide", **({"clip": clip} if clip else {}))
    errors = [error for error in watched.errors if picture.logdir != "error" or "503" not in error]
    context.close()
    assert errors == [], errors
    return shot


def shrink(shot: bytes) -> bytes:
    """Turn a PNG into a WebP of 256 colours, a fifth of the size."""
    picture = (
        Image.open(io.BytesIO(shot))
        .convert("RGB")
        .quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
    )
    small = io.BytesIO()
    picture.convert("RGB").save(small, "WEBP", lossless=True, quality=100, method=6)
    return small.getvalue()


@contextlib.contextmanager
def serve(folder: Path, runs: Path) -> Iterator[dict[str, str]]:
    """Run a TensorBoard for each log directory that the pictures are of; the value are their addresses."""
    (folder / "empty").mkdir()
    with BatchWriter(folder / "damaged" / "copied-too-early", task="binary") as writer:
        for step in range(60):
            writer.add_batch(predictions=[[0.2 + step / 200], [0.7]], targets=[[0], [1]], loss=1 / (1 + step / 20))
    (file,) = (folder / "damaged").rglob("*.tfevents.*")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content)
    with BatchWriter(folder / "large" / "large", task="binary") as writer:
        for step in range(200):
            writer.add_batch(predictions=[[0.2 + step / 400], [0.7]], targets=[[0], [1]], loss=1 / (1 + step / 20))
    held_up = (str(Path(__file__).parent / "held_up.py"),)
    with (
        run_tensorboard(runs) as of_runs,
        run_tensorboard(folder / "empty") as of_nothing,
        run_tensorboard(folder / "large", main=held_up) as of_large,
        run_tensorboard(folder / "damaged") as of_damaged,
    ):
        yield {
            "runs": of_runs,
            "error": of_nothing,
            "empty": of_nothing,
            "large": of_large,
            "damaged": of_damaged,
        }
        (folder / "large" / "go").touch()


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the demo and the gallery's models, unless their runs are given, and take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"which ones (default: all): {', '.join(PICTURES)}")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images", help="where the pictures go")
    parser.add_argument("--logdir", type=Path, help="runs of an earlier call (default: train them anew)")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(PICTURES):
        parser.error(f"The names must be those of pictures. Received: {', '.join(sorted(unknown))}.")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        parser.error("Chromium must be on PATH. Received: none. Install it: apt-get install chromium.")

    with tempfile.TemporaryDirectory() as folder:
        runs = options.logdir or Path(folder) / "runs"
        if not runs.exists():
            subprocess.run([sys.executable, "demo/train.py", "--logdir", str(runs)], cwd=ROOT, check=True)
            write_runs(runs)
        options.out.mkdir(parents=True, exist_ok=True)
        with serve(Path(folder), runs) as addresses, run_chromium(chromium) as browser:
            for name in options.names or PICTURES:
                picture = PICTURES[name]
                for theme in THEMES:
                    file = options.out / f"{name}-{theme}.webp"
                    file.write_bytes(shrink(take(browser, addresses[picture.logdir], picture, theme)))
                    print(f"{file} {file.stat().st_size:,} bytes", flush=True)


if __name__ == "__main__":
    main()
