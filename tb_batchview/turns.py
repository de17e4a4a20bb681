"""Few work at once, the others in the order in which they came.

Used by `plugin`, whose requests come in a thread each.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator


class Turns:
    """Lets threads work, a few at once.

    Not `threading.Semaphore`: there a thread that comes just as another ends
    goes before those that wait, and the one that was woken waits behind them
    all again.
    """

    def __init__(self, at_once: int, most_wait: float) -> None:
        """Let nobody work yet.

        Args:
            at_once: Threads that work at the same time.
            most_wait: Seconds after which a thread works anyhow: one that
                takes long holds up the others for no longer.
        """
        self._most_wait = most_wait
        self._free = at_once
        self._lock = threading.Lock()
        # Each held until it is the turn of who waits for it.
        self._waiting: deque[threading.Lock] = deque()

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn; it ends with the block."""
        mine = self._take()
        try:
            yield
        finally:
            if mine:
                self._give()

    def _take(self) -> bool:
        """Wait for a turn; tell whether there was one."""
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            gate = threading.Lock()
            gate.acquire()
            self._waiting.append(gate)
        if gate.acquire(timeout=self._most_wait):
            return True
        with self._lock:
            if gate in self._waiting:
                self._waiting.remove(gate)
                return False
        # It was given just after the time was over.
        return True

    def _give(self) -> None:
        """Hand a turn to who has waited longest."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1
