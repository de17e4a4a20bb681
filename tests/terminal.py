"""A terminal for commands to write to, and what then stands on it."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path


def run_at_terminal(command: Sequence[str], directory: Path) -> tuple[int, bytes, bytes]:
    """Run a command whose stderr is a terminal.

    Returns:
        Its exit status, what it wrote to stdout, and what the terminal shows.
    """
    screen, terminal = os.openpty()
    with subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, stderr=terminal) as done:
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):  # which is how Linux says that nobody has the terminal any more
            while piece := os.read(screen, 1 << 16):
                shown += piece
        assert done.stdout is not None
        printed = done.stdout.read()
    os.close(screen)
    return done.returncode, printed, shown
