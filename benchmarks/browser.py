"""How fast the page follows the reader: scrolling, and stepping with the keys.

A run of 64 samples a batch, the summary of two layers in every tenth, is
served by a real `tensorboard` and opened in a real Chromium, whose own clock
is read:

- scrolling: the table of all batches from its top to its end, 240 frames at
  equal distances, so that every frame needs other rows: the time between
  frames;
- stepping: `→` once the batch before is shown and its neighbours may have
  come, as a reader does; from the key until the next batch is painted: samples,
  class mix and layers. The first frame after it counts, so that 16.7 ms are
  the least a screen of 60 Hz allows for;
- a key held down: batches shown a second, of the 30 that the key repeats.

Beside the clock's times stands the CPU time of the page's main thread, which
other work on the machine does not change.

Run: python benchmarks/browser.py [--batches N]
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from playwright.sync_api import expect
from reading import make_run, write_pattern

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from browser.host import Watched, run_chromium, run_tensorboard, watch

STEPS = 100
FRAMES = 240

# Runs in the frame of the page.
COMMON = """
const frame = () => new Promise(requestAnimationFrame);
const soon = () => new Promise((resolve) => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = resolve;
  port2.postMessage(0);
});
const title = () => document.querySelector('[data-testid="batch-title"]').textContent;
const press = (key) => document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
"""
SCROLL = (
    f"async (frames) => {{ {COMMON}"
    """
  const scroller = document.querySelector("#batches .scroll");
  const end = scroller.scrollHeight - scroller.clientHeight;
  const times = [];
  let before = await frame();
  for (let number = 1; number <= frames; number += 1) {
    scroller.scrollTop = (end * number) / frames;
    const now = await frame();
    times.push(now - before);
    before = now;
  }
  return times;
}"""
)
STEP = (
    f"async (steps) => {{ {COMMON}"
    """
  const times = [];
  for (let number = 0; number < steps; number += 1) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    const before = title();
    const begin = performance.now();
    press("ArrowRight");
    while (title() === before) await soon();
    await frame();
    await soon();  // after the frame's rendering
    times.push(performance.now() - begin);
  }
  return times;
}"""
)
HOLD = (
    f"async (seconds) => {{ {COMMON}"
    """
  const key = setInterval(() => press("ArrowRight"), 1000 / 30);
  const begin = performance.now();
  let [shown, before] = [0, title()];
  while (performance.now() - begin < seconds * 1000) {
    await frame();
    if (title() !== before) shown += 1;
    before = title();
  }
  clearInterval(key);
  return shown / seconds;
}"""
)


def describe(watched: Watched, name: str, script: str, count: int) -> None:
    """Run a script that returns times; print their quantiles and the CPU time of each, in milliseconds."""
    cdp = watched.page.context.new_cdp_session(watched.page)
    cdp.send("Performance.enable", {"timeDomain": "threadTicks"})

    def read_cpu() -> float:
        metrics = cdp.send("Performance.getMetrics")["metrics"]
        return next(float(metric["value"]) for metric in metrics if metric["name"] == "ThreadTime")

    before = read_cpu()
    median, late, last = np.quantile(watched.frame.evaluate(script, count), [0.5, 0.95, 1.0])
    cpu = (read_cpu() - before) * 1000 / count
    print(f"{name:<34} {median:7.1f} ms {late:7.1f} ms {last:7.1f} ms {cpu:7.1f} ms")


def main() -> None:
    """Serve a run and use its page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=100_000)
    options = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        parser.error("Chromium must be on PATH. Received: none. Install it: apt-get install chromium.")

    with tempfile.TemporaryDirectory() as folder:
        logdir = Path(folder, "run")
        make_run(logdir, write_pattern(Path(folder, "pattern")), options.batches)
        with run_tensorboard(logdir) as address, run_chromium(chromium) as browser:
            watched = watch(browser.new_context(viewport={"width": 1440, "height": 900}))
            middle = options.batches // 2
            watched.page.goto(f"{address}#batchview")
            expect(watched.plugin.get_by_test_id("badge")).to_contain_text(f"{options.batches:,} of")
            watched.page.goto("about:blank")
            watched.page.goto(f"{address}#batchview&p.batchview.batch={middle}")
            title = watched.plugin.get_by_test_id("batch-title")
            expect(title).to_have_text(f"Batch {middle:,}")
            watched.page.wait_for_timeout(1000)

            print(f"{options.batches:,} batches{'':<19} {'median':>10} {'95 %':>10} {'greatest':>10} {'CPU':>10}")
            describe(watched, "→, until the next batch is painted", STEP, STEPS)
            held = watched.frame.evaluate(HOLD, 4)
            watched.page.wait_for_timeout(1000)
            describe(watched, "frames while scrolling", SCROLL, FRAMES)
            print(f"→ held down: {held:.1f} batches a second of 30")
            if watched.errors:
                raise RuntimeError(f"The page must run without errors. Received: {watched.errors}.")


if __name__ == "__main__":
    main()
