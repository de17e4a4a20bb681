"""Runs in a remote store: what is there, and where the next segment goes.

`writer` and `earlier` use it in place of `LocalStorage` for a `log_dir` such as
`s3://bucket/run`. Calls `objects` for the store, `segments` for the files.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from tb_batchview import decode, metadata, segments, tfrecord
from tb_batchview.address import hide_secrets
from tb_batchview.earlier import LocalStorage, last_steps, read_architecture
from tb_batchview.errors import BatchViewError
from tb_batchview.eventfile import EventFile
from tb_batchview.objects import ObjectStore, describe, join
from tb_batchview.segments import Closed, Segment, Sender

# The end of a segment tells the last step of each phase; its beginning tells the model.
_END_BYTES = 1 << 16
_BEGIN_BYTES = 1 << 18
# What does not (copies of local files) is looked at so far back.
_FOREIGN_BYTES = 64 << 20
# Of the newest objects of each worker; one that was killed may have been overtaken.
_NEWEST = 3
_MOST_FOREIGN = 16
# In the local directory of segments: where they belong.
NOTE = "belongs-to.txt"


class _End(NamedTuple):
    """What an object tells of the last steps.

    Attributes:
        steps: By phase.
        is_told: Whether its writer says so, which counts those before it too.
    """

    steps: Mapping[str, int]
    is_told: bool


class RemoteStorage(LocalStorage):
    """The runs below an address, with a local directory for what is not sent.

    What the store says of earlier trainings is asked for before the first
    batch, and with the patience of `objects`; segments are sent by a thread.
    """

    is_remote = True
    goes_on = False

    def __init__(self, log_dir: str, complain: Callable[[str, str, int], None]) -> None:
        """Open a store, and make sure that it can be written.

        Args:
            log_dir: Address of a run.
            complain: Counts a problem: kind, message, how often.

        Raises:
            ArgumentError: A package is missing, or there is no such protocol.
            BatchViewError: It cannot be written, listed or read.
        """
        self._store = ObjectStore(log_dir)
        self._complain = complain
        self._sender = Sender(self._store.send, complain)
        # Containers have the same name and number of process; no object may take the name of another.
        self._host = f"{socket.gethostname()}.{secrets.token_hex(3)}"
        # By run: its objects by name, those written here among them.
        self._found: dict[str, dict[str, int]] = {}
        # By run: the local directory of its segments.
        self._spools: dict[str, str] = {}
        # When the training began, by its first segment.
        self._begun: float | None = None
        self._newest: tuple[str, Segment] | None = None
        # What was read of objects, by run and name.
        self._ends: dict[tuple[str, str], _End] = {}
        try:
            self._store.check(log_dir)
            # Now: when the first batch comes, the network may be away.
            self._list(log_dir)
            self._read_steps(log_dir, sorted(self._found[log_dir]))
        except Exception as error:
            raise BatchViewError(
                "log_dir must be where objects can be written, listed and read. Received: log_dir="
                f"{hide_secrets(log_dir)!r} ({describe(error)}). Look whether the bucket is there, and what the "
                "credentials may do."
            ) from error

    def directory(self, log_dir: str) -> str:
        """Return the address of a run's objects."""
        return join(log_dir, metadata.DIRECTORY)

    def names(self, log_dir: str) -> list[str]:
        """Return the names of a run's objects, oldest first.

        Where the store does not answer, those that were there when it did.
        """
        with self._complaining(log_dir):
            self._list(log_dir)
        self._register()
        return sorted(self._found.setdefault(log_dir, {}))

    def is_free(self, log_dir: str) -> bool:
        """Tell whether there is nothing below an address."""
        # Where nobody answers: to ask for the next one would not help.
        names: set[str] = set()
        with self._complaining(log_dir):
            names = {entry.name for entry in self._store.list(log_dir)}
        return not names or (names == {metadata.DIRECTORY} and not self.names(log_dir))

    def architecture(self, log_dir: str, names: Sequence[str]) -> str:
        """Return what the newest objects say of their model; "" if nothing."""
        with self._complaining(log_dir):
            for place, name in enumerate(list(reversed(names))[:_MOST_FOREIGN]):
                nbytes = self._found.get(log_dir, {}).get(name, 0)
                for most in (_BEGIN_BYTES, _FOREIGN_BYTES):
                    with self._part(log_dir, name, 0, min(nbytes, most)) as path:
                        found = read_architecture(path)
                    if found:
                        return found
                    # Either there is none, or the first batch is large: as the others then are.
                    if nbytes <= most or place:
                        break
        return ""

    def last_steps(self, log_dir: str, names: Sequence[str]) -> dict[str, int]:
        """Return the last step of each phase, by the newest objects' ends."""
        steps: dict[str, int] = {}
        with self._complaining(log_dir):
            steps = self._read_steps(log_dir, names)
        return steps

    def holds(self, log_dir: str, name: str) -> bool:
        """Tell whether an object that was written here is still there.

        As far as is known: by the last look at the whole directory.
        """
        self._register()
        return name in self._found.get(log_dir, {})

    def create(self, log_dir: str, worker: int | None) -> EventFile:
        """Return the next segment of a run."""
        if log_dir not in self._found:
            self.names(log_dir)
        if self._begun is None:
            self._begun = time.monotonic()
        self._register()
        segment = Segment(
            self._spool(log_dir),
            self.directory(log_dir),
            self._sender,
            worker=worker,
            after=max(self._found[log_dir], default=""),
            host=self._host,
            age=segments.segment_age(time.monotonic() - self._begun),
        )
        self._newest = log_dir, segment
        return segment

    def make_room(self, file: EventFile | None, nbytes: int, *, wait: bool) -> bool:
        """Tell whether a batch may be kept on the local disk."""
        self._register()
        nbytes += 0 if file is None else file.nbytes
        if self._sender.make_room(nbytes, wait=False):
            return True
        if file is not None and wait:
            # It may take a while: what there is must be in the file.
            file.flush()
        return self._sender.make_room(nbytes, wait=wait)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until all that is closed is sent."""
        return self._sender.drain(segments.FINISH_SECONDS if seconds is None else seconds)

    def finish(self) -> str:
        """Wait as `wait` does; say what is not sent, and where it lies."""
        self._begun = None
        if not self.wait():
            waiting = self._sender.waiting
            if waiting:
                return _describe_rest(waiting, self._sender.failure)
        for log_dir, spool in list(self._spools.items()):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(spool, NOTE))
            with contextlib.suppress(OSError):
                os.rmdir(spool)
            del self._spools[log_dir]
        return ""

    def _list(self, log_dir: str) -> None:
        """Take note of a run's objects."""
        listed = self._store.list(self.directory(log_dir))
        # On their way.
        names = {os.path.basename(segment.path) for segment in self._sender.waiting}
        known = {name: nbytes for name, nbytes in dict(self._found.get(log_dir, {})).items() if name in names}
        found = {entry.name: entry.nbytes for entry in listed if metadata.is_event_file(entry.name)}
        self._found[log_dir] = known | found

    def _read_steps(self, log_dir: str, names: Sequence[str]) -> dict[str, int]:
        steps: dict[str, int] = {}
        looked: dict[int | None, int] = {}
        told: set[int | None] = set()
        for name in reversed(names):
            worker = metadata.file_worker(name)
            looked[worker] = looked.get(worker, 0) + 1
            if looked[worker] > (_NEWEST if worker in told else _MOST_FOREIGN):
                continue
            end = self._read_end(log_dir, name)
            if end.is_told:
                told.add(worker)
            for phase, step in end.steps.items():
                steps[phase] = max(step, steps.get(phase, -1))
        return steps

    def _read_end(self, log_dir: str, name: str) -> _End:
        """Return the last steps of an object, which never changes."""
        end = self._ends.get((log_dir, name))
        if end is None:
            nbytes = self._found.get(log_dir, {}).get(name, 0)
            with self._part(log_dir, name, nbytes - _END_BYTES, nbytes) as path:
                steps = _read_told(path)
            if steps is not None:
                end = _End(steps, is_told=True)
            else:
                with self._part(log_dir, name, nbytes - _FOREIGN_BYTES, nbytes) as path:
                    end = _End(last_steps(path), is_told=False)
            self._ends[log_dir, name] = end
        return end

    def _spool(self, log_dir: str) -> str:
        """Return the local directory of a run's segments."""
        spool = self._spools.get(log_dir)
        if spool is None or not os.path.isdir(spool):
            spool = self._spools[log_dir] = tempfile.mkdtemp(prefix=f"tb_batchview-{os.getpid()}-")
            # For whoever finds it after a kill.
            with open(os.path.join(spool, NOTE), "w", encoding="utf-8") as note:
                note.write(hide_secrets(self.directory(log_dir)) + "\n")
        return spool

    def _register(self) -> None:
        """Count the segment that was made last among what is there."""
        if self._newest is not None:
            log_dir, segment = self._newest
            if segment.name:
                self.goes_on = True
                self._found.setdefault(log_dir, {})[segment.name] = segment.nbytes

    @contextlib.contextmanager
    def _part(self, log_dir: str, name: str, start: int, stop: int) -> Iterator[str]:
        """Have a part of an object in a local file."""
        address = join(self.directory(log_dir), name)
        content = self._store.read(address, max(0, start), stop) if stop > 0 else b""
        with tempfile.TemporaryDirectory(prefix="tb_batchview-") as directory:
            path = os.path.join(directory, name)
            with open(path, "wb") as file:
                file.write(content)
            yield path

    @contextlib.contextmanager
    def _complaining(self, log_dir: str) -> Iterator[None]:
        """Tell of what cannot be read; training goes on."""
        try:
            yield
        except Exception as error:
            directory = hide_secrets(self.directory(log_dir))
            message = f"What is in {directory} already could not be read ({describe(error)}): steps may be given twice."
            self._complain("write", message, 1)


def _read_told(path: str) -> Mapping[str, int] | None:
    """Return the last steps that the end of a segment tells, if it does."""
    with contextlib.suppress(OSError, BatchViewError):
        fd = tfrecord.open_file(path)
        try:
            size = os.fstat(fd).st_size
            frame = next((found for found in tfrecord.scan(fd, 0, size) if found.end == size), None)
            if frame is not None and frame.status == "ok":
                payload = os.pread(fd, frame.length, frame.payload_position)
                for slot in decode.decode_event(payload).slots:
                    if slot.tag == metadata.STATUS_TAG:
                        return metadata.parse_status(decode.slot_array(payload, slot)[0]).last or None
        finally:
            os.close(fd)
    return None


def _describe_rest(waiting: Sequence[Closed], failure: str) -> str:
    """Return where that lies which could not be sent, and where it belongs."""
    batches = sum(segment.batches for segment in waiting)
    nbytes = sum(segment.nbytes for segment in waiting)
    paths = {os.path.dirname(segment.path): segment.directory for segment in waiting}
    copies = "; ".join(f"{spool}/*{metadata.FILE_SUFFIX} to {address}/" for spool, address in paths.items())
    return (
        f"{batches} batches ({nbytes / 1e6:.1f} MB) are not sent ({failure or 'no answer in time'}). It is tried again "
        f"while this process lives; after it, copy {copies}"
    )
