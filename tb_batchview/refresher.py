"""Keep a log fresh from a thread of its own, so that no request waits for files.

Called by `plugin` with each request; looks and reads through `log`. The thread
is started by the first question, reads what it began to its end, sleeps while
nobody asks, and never ends for an error.
"""

from __future__ import annotations

import logging
import threading
import time

from tb_batchview.log import SLICE_SECONDS, Log

# A request waits at most so long for what is new: until the first look is done, and later.
FIRST_PATIENCE = 0.5
PATIENCE = 0.1
# A vast logdir takes long to walk: then a fifth of the time at most.
_LOOK_SHARE = 5
# The thread ends after so long without a question, and starts again with the next.
_IDLE_SECONDS = 60.0
# Different failures to log.
_MOST_SAID = 100

_LOGGER = logging.getLogger(__name__)


class Refresher:
    """Looks at the files of a log when asked, and reads what is new.

    Attributes:
        failure: Why the last look failed, or "".
        failures: How often looking or reading failed.
    """

    def __init__(self, log: Log, seconds: float, patience: float | None = None) -> None:
        """Prepare; the thread starts with the first question.

        Args:
            log: Which nobody else refreshes.
            seconds: Least time between two looks at the files.
            patience: How long a question waits for an answer that is whole;
                None: `FIRST_PATIENCE` and `PATIENCE`.
        """
        self._log = log
        self._seconds = self._pause = seconds
        self._patience = patience
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        # Looks, by number: asked for, begun, finished.
        self._wanted = self._begun = self._finished = 0
        self._begun_at = 0.0
        self._said: set[str] = set()
        self.failure = ""
        self.failures = 0

    @property
    def looked(self) -> bool:
        """Tell whether it is known which runs there are."""
        return self._finished > 0

    def ask(self, run: str | None = None) -> None:
        """Have the files looked at if that is due, and wait a little for it.

        Args:
            run: The one that the question is about; it is read first.
        """
        with self._changed:
            if run is not None:
                self._log.prefer(run)
            if not self._begun or time.monotonic() - self._begun_at >= self._pause:
                # A look that has begun may have missed what was written since.
                self._wanted = self._begun + 1
                self._start()
                self._changed.notify_all()
            mine = self._wanted
            if self._finished >= mine:
                return
            patience = self._patience
            if patience is None:
                patience = PATIENCE if self.looked else FIRST_PATIENCE
            self._changed.wait_for(
                lambda: self._finished >= min(mine, self._wanted) and self._log.is_read(run), patience
            )

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            # A daemon: it must not keep the process from ending.
            self._thread = threading.Thread(target=self._run, name="batchview-refresh", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while self._look_if_wanted() or self._read_on() or self._sleep():
            pass

    def _look_if_wanted(self) -> bool:
        """Look at the files if somebody asked; tell whether it was so."""
        with self._changed:
            if self._wanted == self._begun:
                return False
            self._begun = self._wanted
            self._begun_at = time.monotonic()
        failure = ""
        try:
            self._log.look()
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
            self._count(f"The log directory could not be looked at: {failure}")
        with self._changed:
            self.failure = failure
            self._finished = self._begun
            # Whoever asked meanwhile is served by this look, unless each question is to have its own.
            if self._seconds:
                self._wanted = self._begun
                self._pause = max(self._seconds, _LOOK_SHARE * (time.monotonic() - self._begun_at))
            self._changed.notify_all()
        return True

    def _read_on(self) -> bool:
        """Read one run for a moment; tell whether there was anything to read."""
        store = self._log.next_pending()
        if store is None:
            return False
        try:
            store.read(SLICE_SECONDS)
        except Exception as error:
            store.give_up(error)
            self._count(f"A run could not be read: {type(error).__name__}: {error}")
        with self._changed:
            self._changed.notify_all()
        return True

    def _sleep(self) -> bool:
        """Wait for a question; tell whether there was one."""
        with self._changed:
            asked = self._changed.wait_for(lambda: self._wanted > self._begun, _IDLE_SECONDS)
            if not asked:
                self._thread = None
            return asked

    def _count(self, message: str) -> None:
        """Log a failure the first time that it occurs."""
        self.failures += 1
        if message not in self._said and len(self._said) < _MOST_SAID:
            self._said.add(message)
            _LOGGER.warning("Batch View: %s", message, exc_info=True)
