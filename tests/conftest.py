"""What several test modules share: the demo's runs, and Chromium."""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

# Before anything loads TensorFlow, here or in a process that a test starts.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

ROOT = Path(__file__).parent.parent
DEMO_EPOCHS = 2


@pytest.fixture(autouse=True)
def _end_writers() -> Iterator[None]:
    """End what an interrupted training left open: its thread must not meet the next test."""
    yield
    if "tb_batchview.writer" in sys.modules:
        for writer in list(sys.modules["tb_batchview.writer"]._open_writers):
            writer.close()


@pytest.fixture(scope="module", params=["memory", "files"])
def columns_in(request: pytest.FixtureRequest) -> Iterator[str]:
    """Keep the reader's columns where those of a short run are, and where those of a long one are."""
    from tb_batchview import growing

    if request.param == "memory":
        yield request.param
        return
    maps = 0
    make_map = growing._File.map

    def count(file: growing._File, size: int) -> mmap.mmap:
        nonlocal maps
        maps += 1
        return make_map(file, size)

    with (
        mock.patch.object(growing, "LARGEST_IN_MEMORY", 64),
        mock.patch.object(growing._File, "map", count),
        # Thousands of files: a disk takes its time for each.
        mock.patch.object(tempfile, "tempdir", "/dev/shm" if os.access("/dev/shm", os.W_OK) else None),
    ):
        yield request.param
    assert maps > 0


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the top folder of the project."""
    return ROOT


@pytest.fixture
def loaded() -> Callable[[str], set[str]]:
    """Return what tells the modules that some code loads, in a process of its own."""

    def run(code: str) -> set[str]:
        code = f"import sys; before = set(sys.modules)\n{code}\nprint(*sorted(set(sys.modules) - before))"
        command = [sys.executable, "-c", code]
        return set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())

    return run


@pytest.fixture(scope="session")
def demo_logdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train the demo once, with few epochs, in a process of its own."""
    logdir = tmp_path_factory.mktemp("demo") / "logs"
    command = [sys.executable, "demo/train.py", "--logdir", str(logdir), "--epochs", str(DEMO_EPOCHS)]
    # `python demo/train.py` puts demo/ on the path, not the project, which need not be installed here.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}
    finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return logdir


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return the path of a Chromium; where there is none, skip, but fail in CI."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        complain = pytest.fail if os.environ.get("CI") else pytest.skip
        complain("The browser tests need Chromium on PATH: apt-get install chromium")
    return found
