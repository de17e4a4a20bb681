"""Follow the event files of one run: which records are complete, and where.

Called by `store`. Calls `tfrecord` for the framing, `blocks` for stretches of
records whose layouts are known, and else `decode` for the walk through an event
and `metadata` for what its values are. Files are read with `os.pread`, in parts:
the bulk of a record is passed by for its checksum, and not kept.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tb_batchview import blocks, decode, layouts, metadata, tfrecord
from tb_batchview.blocks import Block
from tb_batchview.errors import FormatError, VersionError
from tb_batchview.layouts import Entry, KnownLayout, make_layout
from tb_batchview.metadata import Content, Status

# Different lengths, and layouts of one length, to remember per file. Ids that
# are strings make every record another length: there nothing is remembered.
_KNOWN_LENGTHS = 256
_KNOWN_PER_LENGTH = 8
# Of all that is remembered between values.
_KNOWN_BYTES = 1 << 25
# Of different metadata in one file: a thousand classes with long names, said anew six hundred times.
MAX_METADATA_BYTES = 1 << 26
# A status is a sentence.
MAX_STATUS_BYTES = 1 << 16
# Records to try to take in at once, or to take in one by one, after a record of a layout that is new.
_TRIED = 64
# A file whose first bytes changed was written anew, even if it has not shrunk.
_HEAD_BYTES = 64


class StatusEntry(NamedTuple):
    """A status in a file."""

    file: int
    status: Status


class EventFile:
    """One event file, read as far as it is complete.

    Attributes:
        path: Of the file.
        number: In the order in which the files of the run were found.
        identity: Device and inode, to notice a replaced file.
        position: Where the next record begins.
        size: Bytes, when looked at last.
        modified: When something was written last, by the file system.
        corrupt: Records skipped so far.
        refused: Why this file is not read, or "".
        pending: Whether the last look found something that is still to be read.
        worker: Number of the process that wrote it; None: not known yet.
        workers: How many trained together, by its account.
    """

    def __init__(self, path: Path, number: int) -> None:
        self.path = path
        self.number = number
        self.identity = (0, 0)
        self.position = 0
        self.size = 0
        self.modified = 0.0
        self.corrupt = 0
        self.refused = ""
        self.pending = False
        self.worker: int | None = None
        self.workers = 1
        self._head = b""
        self._looked_at = (-1, -1)
        self._lost_until = -1
        # What was said last for each tag, and what before: from which position on.
        self._contents: dict[str, Content] = {}
        self._history: dict[str, list[tuple[int, Content]]] = {}
        self._parsed: dict[bytes, Content] = {}
        self._parsed_bytes = self._known_bytes = 0
        self._known: dict[int, list[KnownLayout]] = {}

    @property
    def torn(self) -> bool:
        """Tell whether the file ends within a record."""
        return not self.refused and not self.pending and self.position < self.size

    @property
    def unread(self) -> int:
        """Return how many bytes are still to be read; a torn end is none."""
        return max(0, self.size - self.position) if self.pending else 0

    def take_note(self, found: os.stat_result) -> None:
        """Remember that there may be something new in the file."""
        self.modified = found.st_mtime
        if not self.refused and (found.st_size, found.st_mtime_ns) != self._looked_at:
            self.size = found.st_size
            self.pending = True

    def was_replaced(self, found: os.stat_result) -> bool:
        """Tell whether what was read before is no longer in the file."""
        if not self.position and not self._head:
            return False
        if (found.st_dev, found.st_ino) != self.identity or found.st_size < self.size:
            return True
        if (found.st_size, found.st_mtime_ns) == self._looked_at:
            return False
        with _opened(self.path) as fd:
            return os.pread(fd, len(self._head), 0) != self._head

    def read(self, enough: Callable[[], bool]) -> Iterator[Block | Entry | StatusEntry]:
        """Yield the batches and statuses that are complete since last time.

        Stops between two records once there is `enough`, after one at least;
        the file is then still `pending`, and the next time goes on there.
        """
        with _opened(self.path) as fd:
            found = os.fstat(fd)
            if self.position and self._is_another(fd, found):
                self.pending = False
                return  # replaced since it was looked at: the next look will tell
            self.identity = (found.st_dev, found.st_ino)
            self.size = found.st_size
            # Only whole: a longer head next time would look like another file.
            if len(self._head) < _HEAD_BYTES:
                self._head = os.pread(fd, min(_HEAD_BYTES, self.size), 0)
            try:
                for piece in tfrecord.scan_stretches(fd, self.position, self.size):
                    for entry in self._read_piece(fd, piece):
                        yield entry
                        if enough():
                            return
                    # Records may hold nothing of ours, however many there are.
                    if enough():
                        return
            except VersionError as error:
                self.refused = str(error)
            else:
                self._looked_at = (found.st_size, found.st_mtime_ns)
            self.pending = False

    def _is_another(self, fd: int, found: os.stat_result) -> bool:
        """Tell whether an open file is not the one that was read so far."""
        if (found.st_dev, found.st_ino) != self.identity or found.st_size < self.position:
            return True
        # Long after it was looked at, it may have been written anew and be as long already.
        return os.pread(fd, len(self._head), 0) != self._head

    def contents_at(self, position: int) -> Mapping[str, Content]:
        """Return what holds for each tag at a position of the file."""
        found = {
            tag: next((content for start, content in reversed(said) if start <= position), None)
            for tag, said in self._history.items()
        }
        return {tag: content for tag, content in found.items() if content is not None}

    def _read_piece(self, fd: int, piece: tfrecord.Stretch | tfrecord.Frame) -> Iterator[Block | Entry | StatusEntry]:
        return self._read_stretch(fd, piece) if isinstance(piece, tfrecord.Stretch) else self._read_one(fd, piece)

    def _read_stretch(self, fd: int, stretch: tfrecord.Stretch) -> Iterator[Block | Entry | StatusEntry]:
        """Take in sound records, many at once where their layouts are known."""
        count = len(stretch.starts)
        done, tried = 0, count
        while done < count:
            last = min(done + tried, count)
            block = blocks.match(self._known, stretch, done, last, self.number)
            if block is None:
                alone = min(_TRIED, last - done)
            else:
                done += len(block)
                self.position = stretch.frame(done - 1).end
                yield block
                alone = min(1, last - done)
            # Doubled: what is tried in vain is little beside what was taken in.
            tried = _TRIED if alone else 2 * tried
            for number in range(done, done + alone):
                yield from self._read_one(fd, stretch.frame(number))
            done += alone

    def _read_one(self, fd: int, frame: tfrecord.Frame) -> Iterator[Entry | StatusEntry]:
        """Take in what the scan found as a single record."""
        try:
            entry = self._read_frame(fd, frame)
        except VersionError:
            raise
        except FormatError:
            self.corrupt += 1
            entry = None
        self.position = frame.end
        if entry is not None:
            yield entry

    def _read_frame(self, fd: int, frame: tfrecord.Frame) -> Entry | StatusEntry | None:
        if frame.status != "ok":
            # A lost stretch may be reported in pieces as the file grows.
            goes_on = frame.status == "lost" and frame.position == self._lost_until
            self.corrupt += not goes_on
            self._lost_until = frame.end if frame.status == "lost" else -1
            return None
        known = self._known.get(frame.length, ())
        if known:
            ahead = max(item.read_ahead for item in known)
            front = os.pread(fd, ahead, frame.payload_position)
            for item in known:
                if (entry := item.match(fd, frame, front, self.number)) is not None:
                    return entry
        return self._walk(tfrecord.read_payload(fd, frame), frame)

    def _walk(self, payload: decode.Walkable, frame: tfrecord.Frame) -> Entry | StatusEntry | None:
        event = decode.decode_event(payload)
        news = self._parse_news(event)
        contents = collections.ChainMap(news, self._contents)
        try:
            status = next((slot for slot in event.slots if _kind(contents, slot) == "status"), None)
            found = make_layout(event, contents) if status is None else _read_status(payload, status)
        except FormatError:
            # What is said once in a file counts, but a record that is refused takes nothing back.
            news = {tag: content for tag, content in news.items() if tag not in self._contents}
            raise
        finally:
            self._learn(news, frame.payload_position)
        if isinstance(found, Status):
            return StatusEntry(self.number, found)
        layout = found
        if layout is None:
            return None
        if event.step < 0:
            raise FormatError(f"Step of a batch must not be negative. Received: step={event.step}.")
        known = KnownLayout.of(layout, event, payload)
        if known is not None and (len(self._known) < _KNOWN_LENGTHS or frame.length in self._known):
            self._remember(known, frame.length)
        return Entry(
            layout=layout,
            file=self.number,
            position=frame.payload_position,
            length=frame.length,
            step=event.step,
            wall_time=event.wall_time,
            front=payload if isinstance(payload, bytes) else bytes(payload[: layout.front_stop]),
            summaries={
                key: bytes(payload[slot.offset : slot.offset + slot.nbytes])
                for key, slot in layout.layers.items()
                if key[1] in layouts.SUMMARIES
            },
        )

    def _remember(self, known: KnownLayout, length: int) -> None:
        """Remember a layout by the length of its records; forget others."""
        size = sum(len(constant) for _, _, constant in (*known.near, *known.far))
        self._known_bytes += size
        if self._known_bytes > _KNOWN_BYTES:
            self._known.clear()
            self._known_bytes = size
        same_length = self._known.setdefault(length, [])
        same_length.insert(0, known)
        del same_length[_KNOWN_PER_LENGTH:]

    def _parse(self, content: bytes) -> Content:
        """Read the content of metadata; the same bytes are the same object."""
        parsed = self._parsed.get(content)
        if parsed is None:
            parsed = metadata.parse_content(content)
            self._parsed_bytes += len(content)
            if self._parsed_bytes > MAX_METADATA_BYTES:
                raise FormatError(f"Metadata of a file must have at most {MAX_METADATA_BYTES} bytes.")
            self._parsed[content] = parsed
        return parsed

    def _parse_news(self, event: decode.DecodedEvent) -> dict[str, Content]:
        """Return the metadata of this event that were not said before."""
        said: dict[str, Content] = {}
        for slot in event.slots:
            if slot.content and slot.plugin_name == metadata.PLUGIN_NAME:
                content = self._parse(slot.content)
                # The first word counts: what was read before must not become another's.
                if self.worker is None and content.kind in ("header", "status"):
                    self.worker, self.workers = content.worker, content.workers
                said[slot.tag] = content
        return {tag: content for tag, content in said.items() if self._contents.get(tag) != content}

    def _learn(self, news: Mapping[str, Content], position: int) -> None:
        """Let metadata hold from a position on."""
        if news:
            self._contents.update(news)
            for tag, content in news.items():
                self._history.setdefault(tag, []).append((position, content))
            self._known.clear()
            self._known_bytes = 0


class RunIndex:
    """The event files of one run, in the order of their names.

    Not thread-safe: the store that owns it has the lock.

    Attributes:
        directory: The `batchview` directory of the run.
        files: By number; numbers are given in the order of finding.
        unreadable: What could not be opened: message by file name.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files: list[EventFile] = []
        self.unreadable: dict[str, str] = {}

    def look(self) -> bool:
        """Look for new files.

        Returns:
            True if a file was deleted, truncated or replaced: then all
            files are read from the start again, and what was read before
            no longer holds. What is new is `pending`.
        """
        found = self._find()
        known = {file.path.name: file for file in self.files}
        gone = any(name not in found for name in known)
        if gone or any(self._is_other(file, found[name]) for name, file in known.items()):
            self.files = []
            known = {}
            reset = True
        else:
            reset = False
        for name in sorted(found):
            if name not in known:
                known[name] = EventFile(self.directory / name, len(self.files))
                self.files.append(known[name])
            known[name].take_note(found[name])
        return reset

    @property
    def pending(self) -> bool:
        """Tell whether something that was looked at is still to be read."""
        return any(file.pending for file in self.files)

    @property
    def modified(self) -> float:
        """Return when something was written last, by the file system."""
        return max((file.modified for file in self.files), default=0.0)

    def read(self, enough: Callable[[], bool] = lambda: False) -> Iterator[Block | Entry | StatusEntry]:
        """Yield what is new in the files, one file after the other.

        Args:
            enough: Asked between two records; once it is true, and stays so,
                reading stops, and goes on there the next time.
        """
        for file in sorted(self.files, key=lambda file: file.path.name):
            if not file.pending:
                continue
            self.unreadable.pop(file.path.name, None)
            try:
                yield from file.read(enough)
                if enough():
                    return
            except OSError as error:
                file.pending = False
                self.unreadable[file.path.name] = f"{file.path.name} cannot be read: {error.strerror or error}."

    def _is_other(self, file: EventFile, found: os.stat_result) -> bool:
        try:
            return file.was_replaced(found)
        except OSError:
            return True

    def _find(self) -> dict[str, os.stat_result]:
        """Return the event files that are there, by name."""
        found = {}
        before, self.unreadable = self.unreadable, {}
        try:
            names = os.listdir(self.directory)
        except OSError:
            return {}
        for name in names:
            if not is_ours(name):
                continue
            try:
                status = os.stat(self.directory / name)
            except OSError as error:
                self.unreadable[name] = f"{name} cannot be read: {error.strerror or error}."
                continue
            # Opening a pipe of that name would wait for ever.
            if stat.S_ISREG(status.st_mode):
                found[name] = status
                # It holds until it has been tried again.
                if name in before:
                    self.unreadable[name] = before[name]
        return found


def is_ours(name: str) -> bool:
    """Tell by its name whether a file is read; users rename and copy them."""
    return "tfevents" in name and name.endswith(metadata.FILE_SUFFIX)


def _kind(contents: Mapping[str, Content], slot: decode.Slot) -> str:
    content = contents.get(slot.tag)
    return content.kind if content is not None else ""


def _read_status(payload: decode.Walkable, slot: decode.Slot) -> Status:
    if slot.dtype is not None or slot.shape not in ((), (1,)) or slot.nbytes > MAX_STATUS_BYTES:
        raise FormatError(f"A status must hold one text of at most {MAX_STATUS_BYTES} bytes.")
    text = payload[slot.offset : slot.offset + slot.nbytes]
    return metadata.parse_status(decode.slot_array(text, dataclasses.replace(slot, offset=0)).item())


class _opened:
    """Open a file for reading, and close it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> int:
        self._fd = tfrecord.open_file(self._path)
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
