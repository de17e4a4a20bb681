"""What earlier trainings left in a log_dir: their last steps, their model.

`writer` asks before its first batch, to go on after them or beside them. Calls
`eventfile` for the files and `decode` for the fronts of the records. What is
remote is `storage`'s.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence

from tb_batchview import decode, metadata, tfrecord
from tb_batchview.errors import BatchViewError
from tb_batchview.eventfile import EventFile, event_files
from tb_batchview.records import PHASES

# In the `run` of a file: a digest of the model's layers.
ARCHITECTURE = "architecture"
# Holds step and the first tag of every event.
_FRONT_BYTES = 4096
# Of other models side by side; nobody has so many.
_MAX_SIBLINGS = 10_000
_MOST_STEPS = 2**62
_HEADER_TAGS = {metadata.header_tag(phase): phase for phase in PHASES}


class LocalStorage:
    """Where runs are: directories of this machine.

    Of other machines see `storage.RemoteStorage`.
    """

    is_remote = False
    # Whether a file that cannot be opened is one of many.
    goes_on = False

    def directory(self, log_dir: str) -> str:
        """Return the directory of a run's files."""
        return os.path.join(log_dir, metadata.DIRECTORY)

    def names(self, log_dir: str) -> list[str]:
        """Return the names of a run's files, oldest first."""
        return event_files(self.directory(log_dir))

    def is_free(self, log_dir: str) -> bool:
        """Tell whether a directory is not there, or has nothing in it."""
        try:
            names = set(os.listdir(log_dir))
        except (NotADirectoryError, PermissionError):
            return False
        except OSError:
            return True  # what else is wrong is told when a file is opened
        return not names or (names == {metadata.DIRECTORY} and not self.names(log_dir))

    def architecture(self, log_dir: str, names: Sequence[str]) -> str:
        """Return what the newest of some files says of its model, or ""."""
        found = (read_architecture(os.path.join(self.directory(log_dir), name)) for name in reversed(names))
        return next(filter(None, found), "")

    def last_steps(self, log_dir: str, names: Sequence[str]) -> dict[str, int]:
        """Return the last step of each phase in some files of a run."""
        steps: dict[str, int] = {}
        for name in names:
            for phase, step in last_steps(os.path.join(self.directory(log_dir), name)).items():
                steps[phase] = max(step, steps.get(phase, -1))
        return steps

    def holds(self, log_dir: str, name: str) -> bool:
        """Tell whether a file that was written here is still there."""
        return os.path.exists(os.path.join(self.directory(log_dir), name))

    def create(self, log_dir: str, worker: int | None) -> EventFile:
        """Return the next file of a run, which opens when it is written."""
        return EventFile(self.directory(log_dir), worker)

    def make_room(self, file: EventFile | None, nbytes: int, *, wait: bool) -> bool:
        """Tell whether a batch may be written, wait until it may."""
        return True

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until all that is closed is where it belongs.

        Args:
            seconds: To wait at most; None is as long as at the end.

        Returns:
            Whether it is.
        """
        return True

    def finish(self) -> str:
        """Wait for the same at the end; say what is wrong if it is not."""
        return ""


class Earlier:
    """The files of earlier trainings in a log_dir and its siblings.

    The siblings of `logs/a` are `logs/a-2`, `logs/a-3`, …

    One writer alone counts all files that are there when it is asked. Several
    workers of one training must come to the same answers, whoever writes
    first: of the others they count only what was there when the writer was
    made.
    """

    def __init__(self, log_dir: str, worker: int, workers: int, storage: LocalStorage | None = None) -> None:
        self.log_dir = log_dir
        self._storage = LocalStorage() if storage is None else storage
        self._worker = worker
        self._then: dict[str, frozenset[str]] | None = None
        if workers > 1:
            self._then = {log_dir: frozenset(self._storage.names(log_dir))}
            for sibling in self._siblings():
                if self._storage.is_free(sibling):
                    break
                self._then[sibling] = frozenset(self._storage.names(sibling))

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
        names = self._storage.names(log_dir)
        if self._then is None:
            return names
        then = self._then.get(log_dir, frozenset())
        return [name for name in names if name in then or metadata.file_worker(name) == self._worker]

    def _siblings(self) -> Iterator[str]:
        return (f"{self.log_dir}-{number}" for number in range(2, _MAX_SIBLINGS))

    def _is_free(self, log_dir: str) -> bool:
        if self._then is None:
            return self._storage.is_free(log_dir)
        # Another worker may just have begun there.
        return log_dir not in self._then and not self.files(log_dir)

    def _architecture(self, log_dir: str) -> str:
        """Return the digest of the model that was recorded last, or ""."""
        return self._storage.architecture(log_dir, self.files(log_dir))


def last_steps(path: str) -> dict[str, int]:
    """Return the last step of each phase in a file; nothing if unreadable."""
    steps: dict[str, int] = {}
    with contextlib.suppress(OSError):
        for phase, step, _ in _batches(path):
            # Nobody trained so long, and no step would come after the greatest.
            if step < _MOST_STEPS:
                steps[phase] = max(step, steps.get(phase, -1))
    return steps


def read_architecture(path: str) -> str:
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
