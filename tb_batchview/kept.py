"""What was worked out once and may be needed again, in bounded memory.

Used by `rollups`, of which a process has one, whatever the number of runs, and
by `plugin` for its answers.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Any

# Of all runs of a process together.
LIMIT_BYTES = 64 << 20


class Kept:
    """Values by key; those not used for longest go when there are too many."""

    def __init__(self, limit: int = LIMIT_BYTES) -> None:
        """Keep nothing yet.

        Args:
            limit: Bytes to hold at most.
        """
        self.limit = limit
        self.bytes = 0
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()
        # What is being made, and how many threads make it or wait for it.
        self._making: dict[Hashable, tuple[threading.RLock, int]] = {}

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable) -> Any:
        """Return what is kept, None if it is not; it counts as used."""
        with self._lock:
            found = self._values.get(key)
            if found is None:
                return None
            self._values.move_to_end(key)
            return found[0]

    def put(self, key: Hashable, value: Any, size: int, *, passing: bool = False) -> None:
        """Keep a value in place of what was kept under its key.

        Args:
            key: Its name.
            value: Not to be changed later.
            size: Its bytes; one larger than all there may be is not kept.
            passing: It served to make another: the first to go.
        """
        with self._lock:
            before = self._values.pop(key, None)
            self.bytes -= 0 if before is None else before[1]
            if size > self.limit:
                return
            # Room first, lest what is only passing should be the first to go itself.
            while self._values and self.bytes + size > self.limit:
                _, (_, freed) = self._values.popitem(last=False)
                self.bytes -= freed
            self._values[key] = (value, size)
            self._values.move_to_end(key, last=not passing)
            self.bytes += size

    @contextlib.contextmanager
    def making(self, key: Hashable) -> Iterator[None]:
        """Hold up others that make the same, so that one does."""
        with self._lock:
            lock, threads = self._making.get(key) or (threading.RLock(), 0)
            self._making[key] = lock, threads + 1
        try:
            with lock:
                yield
        finally:
            with self._lock:
                threads = self._making[key][1] - 1
                if threads:
                    self._making[key] = lock, threads
                else:
                    del self._making[key]
