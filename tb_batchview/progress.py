"""A bar on stderr for what takes long, if a person looks on.

Called by `cli` with what counts its work. A pipe, a file and a log never get
one, and what is done at once has none to flicker.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import click

Progress = Callable[[int, int], None]

# What takes less than this many seconds needs no bar.
DELAY = 0.5
# Steps of a bar: to draw it costs more than a batch.
_STEPS = 1000


@contextlib.contextmanager
def show_progress(label: str, *, note: str = "", hidden: bool = False) -> Iterator[Progress]:
    """Yield what is to be told how much is done and how much there is.

    Args:
        label: In front of the bar.
        note: A line above the bar; comes only with it.
        hidden: Show nothing, though stderr is a terminal.
    """
    if hidden or sys.stderr is None or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    begin = time.monotonic()
    with contextlib.ExitStack() as stack:
        bars: list[Any] = []

        def show(done: int, total: int) -> None:
            if not bars:
                if done >= total or time.monotonic() - begin < DELAY:
                    return
                if note:
                    click.echo(note, err=True)
                bars.append(stack.enter_context(click.progressbar(length=_STEPS, label=label, file=sys.stderr)))
            steps = _STEPS * done // max(total, 1) - bars[0].pos
            if steps > 0:
                bars[0].update(steps)

        yield show
