"""Take the pictures of the README from the demo's runs: `make screens`."""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

from PIL import Image  # TensorBoard requires it
from playwright.sync_api import Browser, expect

if __package__ in (None, ""):  # called as a script
    sys.path.insert(0, str(Path(__file__).parent.parent))

from browser.host import ROOT, run_chromium, run_tensorboard, wait_until, watch

WIDTH = 1440
# Name and height of the picture: the state of the page, as in a shared link.
PICTURES = {
    ("batches", 860): {"run": "swapped-labels", "batch": 410, "batchSort": "-loss", "start": 180},
    ("classes", 860): {"run": "swapped-labels", "tab": "classes", "start": 360, "target": 3, "predicted": 5},
    ("layers", 1350): {"run": "swapped-labels", "tab": "layers", "layer": "dense"},
}


def take(browser: Browser, url: str, height: int, theme: str) -> bytes:
    """Take one picture: a PNG of 256 colours, a third of the size."""
    context = browser.new_context(viewport={"width": WIDTH, "height": height}, reduced_motion="reduce")
    # TensorBoard keeps the theme here; the "dark" of the browser is not asked for.
    context.add_init_script(f"localStorage.setItem('_tb_global_settings', '{{\"theme\":\"{theme}\"}}')")
    watched = watch(context)
    watched.page.goto(url)
    expect(watched.plugin.get_by_test_id("badge")).to_contain_text("720 of 720")
    expect(watched.plugin.get_by_text("Loading…")).to_have_count(0)
    watched.page.wait_for_load_state("networkidle")
    watched.frame.evaluate("document.fonts.ready.then(() => new Promise(requestAnimationFrame))")
    wait_until(lambda: watched.plugin.locator("canvas").count() > 0, "a picture")
    shot = watched.page.screenshot(animations="disabled", caret="hide")
    context.close()
    assert watched.errors == [], watched.errors
    picture = (
        Image.open(io.BytesIO(shot))
        .convert("RGB")
        .quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
    )
    small = io.BytesIO()
    picture.save(small, "PNG", optimize=True)
    return small.getvalue()


def main() -> None:
    """Train the demo, unless its runs are given, and take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images", help="where the pictures go")
    parser.add_argument("--logdir", type=Path, help="runs of the demo (default: train them anew)")
    options = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        parser.error("Chromium must be on PATH. Received: none. Install it: apt-get install chromium.")

    with tempfile.TemporaryDirectory() as folder:
        logdir = options.logdir or Path(folder) / "logs"
        if options.logdir is None:
            subprocess.run([sys.executable, "demo/train.py", "--logdir", str(logdir)], cwd=ROOT, check=True)
        with run_tensorboard(logdir) as address, run_chromium(chromium) as browser:
            options.out.mkdir(parents=True, exist_ok=True)
            for (name, height), state in PICTURES.items():
                keys = "".join(f"&p.batchview.{key}={quote(str(value))}" for key, value in state.items())
                for theme in ("light", "dark"):
                    file = options.out / f"{name}-{theme}.png"
                    file.write_bytes(take(browser, f"{address}#batchview{keys}", height, theme))
                    print(file)


if __name__ == "__main__":
    main()
