"""The bounded hand-off from the training thread to the writer's thread.

`writer` puts jobs in; a thread of ours takes them out in order. Putting one
is an append to a deque and wakes nobody: a wake-up per training step (as
`queue.Queue` does) costs 0.1 to 0.2 ms, so the thread looks every 0.2 s, or
when much has gathered. Looking every 0.05 s took the thread half as much time
again (`benchmarks/overhead.py`, convnet).
"""

from __future__ import annotations

import collections
import os
import threading
import time
from collections.abc import Callable

_POLL_SECONDS = 0.2
# So much that waits wakes the thread, or half of the limit.
_WAKE_JOBS = 64
_WAKE_BYTES = 8 << 20
# After so long without a job the thread ends: nobody tells it when a training
# was interrupted, and while it lives it keeps all it knows of alive.
REST_SECONDS = 10.0
# How often somebody who waits makes sure that the thread still lives.
_CHECK_SECONDS = 0.1

Job = Callable[[], None]


class Handoff:
    """A queue of jobs bounded by bytes, and the thread that does them."""

    def __init__(self, limit: float, idle: Job, finish: Job, may_rest: Callable[[], bool] = lambda: True) -> None:
        """Make a hand-off; the thread starts with the first job.

        Args:
            limit: Bytes that may wait. A job that is larger by itself waits
                until it is alone.
            idle: Called by the thread between jobs, at least every 0.2 s.
            finish: Called by the thread when it ends on `close`.
            may_rest: Tells whether the thread may end when there is no job;
                called by it.
        """
        self._limit = limit
        self._wake_bytes = min(limit / 2, _WAKE_BYTES)
        self._idle = idle
        self._finish = finish
        self._may_rest = may_rest
        self._jobs: collections.deque[tuple[Job, int]] = collections.deque()
        self._pending = 0
        # Jobs ever put, and ever done: what `drain` compares.
        self._put = 0
        self._done = 0
        self._changed = threading.Condition()
        self._wake = threading.Event()
        self._closing = False
        # Whether `finish` is still to be called.
        self._unfinished = False
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()

    def put(self, job: Job, nbytes: int, *, wait: bool) -> bool:
        """Add a job; return False where it did not fit.

        Args:
            job: Called in the thread. It must not raise.
            nbytes: What it holds in memory; with 0 there is always room.
            wait: Block until there is room. False gives up instead.
        """
        if self.is_foreign():
            return False
        with self._changed:
            if not self._keep_alive():
                return False
            while nbytes and self._pending and self._pending + nbytes > self._limit:
                # A job that puts another would wait for itself.
                if not wait or self._thread is threading.current_thread() or not self._keep_alive():
                    return False
                self._wake.set()
                self._changed.wait(_CHECK_SECONDS)
            self._jobs.append((job, nbytes))
            self._pending += nbytes
            self._put += 1
            much = self._pending >= self._wake_bytes or len(self._jobs) >= _WAKE_JOBS
        if much and not self._wake.is_set():
            self._wake.set()
        return True

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until all that was put before is done; False if it is not."""
        if self.is_foreign() or self._thread is threading.current_thread():
            return False
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            goal = self._put
            while self._done < goal:
                if not self._keep_alive() or (deadline is not None and time.monotonic() >= deadline):
                    return False
                self._wake.set()
                left = _CHECK_SECONDS if deadline is None else max(0.0, deadline - time.monotonic())
                self._changed.wait(min(_CHECK_SECONDS, left))
        return True

    def close(self) -> None:
        """Do all jobs, then end the thread and wait for its end.

        An interrupt while waiting is raised afterwards; a second one gives
        the thread up (it ends by itself when its job does).
        """
        if self.is_foreign() or self._thread is threading.current_thread():
            return
        interrupted: KeyboardInterrupt | None = None
        self._closing = True
        try:
            if self._thread is None and self._unfinished:
                with self._changed:
                    started = self._keep_alive()
                if not started:  # Python is ending.
                    self._unfinished = False
                    self._finish()
            while (thread := self._thread) is not None and (thread.is_alive() or self._jobs):
                try:
                    with self._changed:
                        # A job that came while the thread was ending.
                        if not self._keep_alive():
                            break
                    self._wake.set()
                    thread.join(_CHECK_SECONDS)
                except KeyboardInterrupt as error:
                    if interrupted is not None:
                        raise
                    interrupted = error
        finally:
            self._closing = False
        self._thread = None
        if interrupted is not None:
            raise interrupted

    def is_idle(self) -> bool:
        """Tell whether there is no thread, hence nothing to wait for."""
        return self._thread is None

    def is_foreign(self) -> bool:
        """Tell whether this is a forked child: the thread is the parent's."""
        return self._pid != os.getpid()

    def _keep_alive(self) -> bool:
        """Start the thread, or again if it died; False if there can be none."""
        if self._thread is None or not self._thread.is_alive():
            # A daemon, since Python waits for other threads before it runs
            # the exit handler that closes the writer.
            self._thread = threading.Thread(target=self._run, name="tb_batchview-writer", daemon=True)
            try:
                self._thread.start()
                self._unfinished = True
            except RuntimeError:  # Python is ending, or no more threads.
                self._thread = None
        return self._thread is not None

    def _run(self) -> None:
        resting = False
        last = time.monotonic()
        try:
            while not resting:
                closing = self._closing
                while self._jobs:
                    job, nbytes = self._jobs.popleft()
                    try:
                        job()
                    finally:
                        # What the job held must be gone before its bytes count as free.
                        del job
                        with self._changed:
                            self._pending -= nbytes
                            self._done += 1
                            self._changed.notify_all()
                    self._idle()
                    last = time.monotonic()
                self._idle()
                # Looked at before the jobs were done: none came after it.
                if closing:
                    return
                self._wake.wait(_POLL_SECONDS)
                self._wake.clear()
                resting = time.monotonic() - last >= REST_SECONDS and self._may_rest() and self._rest()
        finally:
            try:
                if not resting:
                    self._unfinished = False
                    self._finish()
            finally:
                with self._changed:
                    self._changed.notify_all()

    def _rest(self) -> bool:
        """Let the next job start another thread; False if one has come."""
        with self._changed:
            if self._jobs or self._closing:
                return False
            self._thread = None
            return True
