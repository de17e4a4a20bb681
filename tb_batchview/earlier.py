"""What earlier trainings left in a log_dir: their last steps, their model.

`writer` asks before its first batch, to go on after them or beside them. Calls
`eventfile` for the names and `decode` for the fronts of the records.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from tb_batchview import decode, metadata, tfrecord
from tb_batchview.errors import BatchViewError
from tb_batchview.eventfile import event_files
from tb_batchview.records import PHASES

# In the `run` of a file: a digest of the model's layers.
ARCHITECTURE = "architecture"
# Holds step and the first tag of every event.
_FRONT_BYTES = 4096
# Of other models side by side; nobody has so many.
_MAX_SIBLINGS = 10_000
_MOST_STEPS = 2**62
_HEADER_TAGS = {metadata.header_tag(phase): phase for phase in PHASES}


class Earlier:
    """The files of earlier trainings in a log_dir and its siblings.

    The siblings of `logs/a` are `logs/a-2`, `logs/a-3`, …

    One writer alone counts all files that are there when it is asked. Several
    workers of one training must come to the same answers, whoever writes
    first: of the others they count only what was there when the writer was
    made.
    """

    def __init__(self, log_dir: str, worker: int, workers: int) -> None:
        self.log_dir = log_dir
        self._worker = worker
        self._then: dict[str, frozenset[str]] | None = None
        if workers > 1:
            self._then = {log_dir: frozenset(_list(log_dir))}
            for sibling in self._siblings():
                if _is_free(sibling):
                    break
                self._then[sibling] = frozenset(_list(sibling))

    def choose(self, architecture: str) -> str:
        """Return where a model belongs: a directory without another's run.

        Args:
            architecture: Its digest; "" when nothing tells models apart.
        """
        found = self._architecture(self.log_dir) if architecture else ""
        if found in ("", architecture):
            return self.log_dir
        for sibling in self._siblings():
            if self._is_free(sibling) or self._architecture(sibling) == architecture:
                return sibling
        return self.log_dir

    def files(self, log_dir: str) -> list[str]:
        """Return the names of the files that count, oldest first."""
        names = _list(log_dir)
        if self._then is None:
            return names
        then = self._then.get(log_dir, frozenset())
        return [name for name in names if name in then or metadata.file_worker(name) == self._worker]

    def _siblings(self) -> Iterator[str]:
        return (f"{self.log_dir}-{number}" for number in range(2, _MAX_SIBLINGS))

    def _is_free(self, log_dir: str) -> bool:
        if self._then is None:
            return _is_free(log_dir)
        # Another worker may just have begun there.
        return log_dir not in self._then and not self.files(log_dir)

    def _architecture(self, log_dir: str) -> str:
        """Return the digest of the model that was recorded last, or ""."""
        for name in reversed(self.files(log_dir)):
            found = _read_architecture(os.path.join(log_dir, metadata.DIRECTORY, name))
            if found:
                return found
        return ""


def last_steps(path: str) -> dict[str, int]:
    """Return the last step of each phase in a file; nothing if unreadable."""
    steps: dict[str, int] = {}
    with contextlib.suppress(OSError):
        for phase, step, _ in _batches(path):
            # Nobody trained so long, and no step would come after the greatest.
            if step < _MOST_STEPS:
                steps[phase] = max(step, steps.get(phase, -1))
    return steps


def _list(log_dir: str) -> list[str]:
    return event_files(os.path.join(log_dir, metadata.DIRECTORY))


def _is_free(log_dir: str) -> bool:
    """Tell whether a directory is not there, or has nothing in it."""
    try:
        names = set(os.listdir(log_dir))
    except (NotADirectoryError, PermissionError):
        return False
    except OSError:
        return True  # what else is wrong is told when a file is opened
    return not names or (names == {metadata.DIRECTORY} and not _list(log_dir))


def _read_architecture(path: str) -> str:
    """Return what a file says of its model; "" if nothing."""
    with contextlib.suppress(OSError, BatchViewError):
        # The first batch of a file says it; no other need.
        for _, _, frame in _batches(path):
            fd = tfrecord.open_file(path)
            try:
                event = decode.decode_event(tfrecord.read_payload(fd, frame))
            finally:
                os.close(fd)
            contents = [metadata.parse_content(slot.content) for slot in event.slots if slot.content]
            return next((content.run.get(ARCHITECTURE, "") for content in contents if content.kind == "header"), "")
    return ""


def _batches(path: str) -> Iterator[tuple[str, int, tfrecord.Frame]]:
    """Yield phase and step of each batch in a file, and where it is."""
    fd = tfrecord.open_file(path)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return
        for frame in tfrecord.scan(fd, 0, os.fstat(fd).st_size):
            if frame.status == "ok":
                with contextlib.suppress(BatchViewError):
                    front = os.pread(fd, min(frame.length, _FRONT_BYTES), frame.payload_position)
                    step, tag = decode.peek_event(front)
                    if tag in _HEADER_TAGS:
                        yield _HEADER_TAGS[tag], step, frame
    finally:
        os.close(fd)
