"""A real TensorBoard process, and a real page that is watched for errors."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Frame, FrameLocator, Page, expect, sync_playwright

ROOT = Path(__file__).parent.parent.parent
STARTING = 90.0  # seconds a TensorBoard with TensorFlow may take to start on a busy machine
PATIENCE = 30_000  # milliseconds a page may take to show something

expect.set_options(timeout=PATIENCE)


@contextlib.contextmanager
def run_tensorboard(
    logdir: Path | str, *arguments: str, main: Sequence[str] = ("-m", "tensorboard.main")
) -> Iterator[str]:
    """Run `tensorboard`, or another `main`, on a free port; the value is its address.

    With `--grpc_data_provider` it has no log directory, and only runs there.
    """
    place = () if any("--grpc_data_provider" in argument for argument in arguments) else ("--logdir", str(logdir))
    command = [sys.executable, *main, *place, "--port", "0", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}
    said: list[str] = []
    address: list[str] = []
    ready = threading.Event()

    def listen(tensorboard: subprocess.Popen[str]) -> None:
        for line in tensorboard.stdout or ():
            said.append(line)
            if found := re.search(r"TensorBoard \S+ at (http://\S+)", line):
                address.append(found.group(1))
                ready.set()
        ready.set()  # it ended

    with subprocess.Popen(
        command,
        cwd=logdir if isinstance(logdir, Path) else None,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as tensorboard:
        listener = threading.Thread(target=listen, args=(tensorboard,), daemon=True)
        listener.start()
        try:
            ready.wait(STARTING)
            assert address, "TensorBoard did not start:\n" + "".join(said)
            yield address[0]
        finally:
            tensorboard.terminate()
            tensorboard.wait()
            listener.join()


@dataclasses.dataclass
class Watched:
    """A page with what went wrong in it, in any of its frames."""

    page: Page
    errors: list[str]

    @property
    def plugin(self) -> FrameLocator:
        """Return the frame of our plugin, for looking things up in it."""
        return self.page.frame_locator("iframe[src*='name=batchview']")

    @property
    def frame(self) -> Frame:
        """Return the frame of our plugin, for running code in it."""
        wait_until(lambda: self._frame() is not None, "the frame of the plugin")
        frame = self._frame()
        assert frame is not None
        return frame

    def _frame(self) -> Frame | None:
        return next((frame for frame in self.page.frames if "name=batchview" in frame.url), None)


@contextlib.contextmanager
def run_chromium(executable: str) -> Iterator[Browser]:
    """Run a headless Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable)
        try:
            yield browser
        finally:
            browser.close()


# Runs in every frame before any script of the page.
REPORT_CSP = """
addEventListener("securitypolicyviolation", (event) => console.error(
  `CSP violation in ${location.pathname}: ${event.violatedDirective} blocked ${event.blockedURI || event.sample}`));
"""


def watch(context: BrowserContext) -> Watched:
    """Open a page whose console errors, failures and CSP violations are kept."""
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.add_init_script(REPORT_CSP)
    errors: list[str] = []

    page.on("console", lambda message: errors.append(f"console: {message.text}") if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(f"exception: {error}"))
    page.on(
        "response",
        lambda response: errors.append(f"{response.status}: {response.url}") if response.status >= 400 else None,
    )
    return Watched(page, errors)


def wait_until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE / 1000, every: float = 0.05) -> None:
    """Poll until `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain for {what}"
        time.sleep(every)
