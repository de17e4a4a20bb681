"""Make the files of this machine what those of a remote directory are.

`mirror` has it look at a listing, and copy piece after piece. Calls `bucket` for
parts of files, `scratch` for the copies, `index` for what is an event file.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from tb_batchview import index, metadata
from tb_batchview.bucket import Bucket, Found, Part
from tb_batchview.scratch import FREE_SHARE, Scratch

# What is asked of the store at once, and held in memory.
PIECE_BYTES = 8 << 20
BATCH_BYTES = 32 << 20
BATCH_PIECES = 16
# So much of what is there already is read again: if it is another, the file was written anew.
OVERLAP_BYTES = 4096

MAX_FILES = 100_000
MAX_DEPTH = 32
_MAX_NAME = 255  # bytes of a name in a folder


@dataclasses.dataclass
class Copy:
    """An event file and what is copied of it.

    Attributes:
        found: As it was listed last.
        path: Of the copy.
        copied: Bytes that are there.
        version: What it was when it was copied to its end.
        made: Whether the copy is there, be it empty.
        anew: Where it is copied once more, since it is another file now.
        failure: Why it could not be copied the last time, or "".
    """

    found: Found
    path: Path
    copied: int = 0
    version: tuple[str, ...] | None = None
    made: bool = False
    anew: Path | None = None
    failure: str = ""

    @property
    def remaining(self) -> int:
        """Return how many bytes are still to be copied."""
        return max(0, self.found.size - self.copied)

    @property
    def target(self) -> Path:
        """Return where the next bytes belong."""
        return self.anew or self.path


class Copies:
    """The event files of a remote directory, and how far each is copied.

    One thread at a time may call `take_note` and `copy_some`.

    Attributes:
        all: As they were listed last.
        refused: Files whose names no copy can have, or too many.
        failures: How often a file was tried in vain.
        stopped: Why nothing more is copied, or "".
        blocked: Whether to try again only after the next listing.
    """

    def __init__(self, bucket: Bucket, scratch: Scratch, say: Callable[[str], None]) -> None:
        """Begin with none.

        Args:
            bucket: Where the files are.
            scratch: Where the copies belong.
            say: Told what went wrong.
        """
        self._bucket = bucket
        self._scratch = scratch
        self._say = say
        self.all: Sequence[Copy] = ()
        self.refused = self.failures = 0
        self.stopped = ""
        self.blocked = False
        self._by_path: dict[str, Copy] = {}
        # By the local directory of their run.
        self._runs: dict[Path, list[Copy]] = {}
        # To be copied, the next one at the end.
        self._queue: list[Copy] = []
        self._first: Path | None = None
        self._sorted = True
        self._numbers = itertools.count()

    @property
    def pending(self) -> bool:
        """Tell whether there is anything to copy now."""
        return bool(self._queue) and not self.blocked

    @property
    def remaining(self) -> int:
        """Return how many bytes are to be copied."""
        return sum(copy.remaining for copy in self._queue)

    def of_run(self, directory: Path) -> Sequence[Copy]:
        """Return the files of a run, by its local directory."""
        return self._runs.get(directory, ())

    def prefer(self, directory: Path) -> None:
        """Copy the run of one local directory before the others."""
        if directory != self._first:
            self._first = directory
            self._sorted = False

    def try_again(self) -> None:
        """Have another try at what failed."""
        self._queue = self._find_pending()

    def take_note(self, listed: Sequence[Found]) -> bool:
        """Make, end or begin anew what is copied, by a listing.

        Returns:
            Whether anything is new.
        """
        self.refused = 0
        places: dict[str, tuple[Found, tuple[str, ...]]] = {}
        for found in listed:
            parts = tuple(found.name.split("/"))
            if not _is_event_file(parts):
                continue
            if _is_safe(parts) and len(places) < MAX_FILES:
                places[found.path] = found, parts
            else:
                self.refused += 1
        news = False
        copies: dict[str, Copy] = {}
        for path, copy in self._by_path.items():
            if path in places:
                copies[path] = copy
            else:
                news = True
                self._scratch.remove(*filter(None, (copy.path if copy.made else None, copy.anew)))
        for path, (found, parts) in places.items():
            known = copies.get(path)
            if known is not None:
                news |= (known.found.size, known.found.version) != (found.size, found.version)
                self._compare(known, found)
                continue
            news = True
            copies[path] = Copy(found, self._scratch.path.joinpath(*parts))
            self._make(copies[path])
        runs: dict[Path, list[Copy]] = {}
        for copy in copies.values():
            runs.setdefault(copy.path.parent, []).append(copy)
        self._by_path, self._runs, self.all = copies, runs, tuple(copies.values())
        self.blocked = False
        self._queue = self._find_pending()
        return news

    def _compare(self, copy: Copy, found: Found) -> None:
        """Begin a copy anew if its file is another one now."""
        copy.found = found
        if not copy.made:
            self._make(copy)
            return
        replaced = found.size < copy.copied or (found.size == copy.copied and copy.version not in (None, found.version))
        # Something may tidy up among temporary files.
        if replaced or not self._scratch.holds(copy.target, copy.copied):
            self._begin_anew(copy)

    def _make(self, copy: Copy) -> None:
        """Make the copy, empty: so its run is seen at once."""
        if self._guard(copy, lambda: self._scratch.make(copy.path, copy.found.modified)):
            copy.made, copy.failure = True, ""

    def _begin_anew(self, copy: Copy) -> None:
        """Copy to another file, which takes the place when it is complete."""
        copy.anew = copy.anew or copy.path.with_name(f".copy-{next(self._numbers)}")
        copy.copied, copy.version = 0, None
        self._guard(copy, lambda: self._scratch.empty(copy.target))

    def _find_pending(self) -> list[Copy]:
        """Return what is to be copied, what is most wanted at the end."""
        first = self._first
        self._sorted = True
        pending = [copy for copy in self.all if copy.made and (copy.remaining or copy.anew is not None)]

        def rank(copy: Copy) -> tuple[bool, bool, float]:
            # What was begun is ended; of the others the newest run is the one that is looked at.
            modified = copy.found.modified
            return copy.path.parent == first, copy.copied > 0, 0.0 if math.isnan(modified) else modified

        return sorted(pending, key=rank)

    def copy_some(self) -> int:
        """Copy the next pieces; return how many bytes came."""
        if not self._sorted:
            self._queue = self._find_pending()
        asked, pieces = self._next_pieces()
        size = sum(part.stop - part.start for _, part in pieces)
        if not self._scratch.has_room(size):
            self.blocked = True
            self.stopped = (
                f"Copying stopped: less than {FREE_SHARE:.0%} of the disk would be free in "
                f"{self._scratch.path.parent}. "
                "Make room there, or set TMPDIR to another disk; it goes on by itself."
            )
            self._say(self.stopped)
            return 0
        self.stopped = ""
        came = 0
        contents = self._bucket.read([part for _, part in pieces]) if pieces else []
        waiting: set[int] = set()
        for (copy, part), content in zip(pieces, contents, strict=True):
            if id(copy) not in waiting:
                before = copy.copied
                if not self._take(copy, part, content):
                    waiting.add(id(copy))
                came += max(0, copy.copied - before)
        for copy in asked:
            if not copy.remaining and id(copy) not in waiting:
                self._end(copy)
        # What failed, has shrunk or is another waits for the next listing; what has more to come stays.
        kept = [copy for copy in asked if copy.remaining and id(copy) not in waiting]
        self._queue[len(self._queue) - len(asked) :] = reversed(kept)
        return came

    def _next_pieces(self) -> tuple[list[Copy], list[tuple[Copy, Part]]]:
        """Return whose turn it is, and what to ask the store for at once."""
        asked: list[Copy] = []
        pieces: list[tuple[Copy, Part]] = []
        room = BATCH_BYTES
        for copy in reversed(self._queue):
            if len(pieces) >= BATCH_PIECES or room <= 0:
                break
            asked.append(copy)
            position = copy.copied
            while position < copy.found.size and len(pieces) < BATCH_PIECES and room > 0:
                stop = min(position + PIECE_BYTES, copy.found.size)
                pieces.append((copy, Part(copy.found.path, max(0, position - OVERLAP_BYTES), stop)))
                room -= stop - position
                position = stop
        return asked, pieces

    def _take(self, copy: Copy, part: Part, content: bytes | Exception) -> bool:
        """Append a piece; tell whether the next one of the file may follow."""
        if isinstance(content, Exception):
            self._fail_copy(copy, self._bucket.explain(content))
            return False
        try:
            known = copy.copied - part.start
            if self._scratch.read(copy.target, part.start, known) != content[:known]:
                # Written anew while it grew, or while it was copied.
                self._begin_anew(copy)
                return False
            self._scratch.write(copy.target, copy.copied, content[known:], copy.found.modified)
        except OSError as error:
            self._fail_copy(copy, self._bucket.explain(error))
            return False
        copy.copied += len(content) - known
        copy.failure = ""
        return copy.copied == part.stop

    def _end(self, copy: Copy) -> None:
        """Put a file in its place once it is there to its end."""
        copy.version = copy.found.version
        anew = copy.anew
        if anew is not None and self._guard(copy, lambda: self._scratch.replace(anew, copy.path)):
            copy.anew, copy.failure = None, ""

    def _guard(self, copy: Copy, act: Callable[[], None]) -> bool:
        """Do something with the files of this machine; count a failure."""
        try:
            act()
        except (OSError, ValueError) as error:
            self._fail_copy(copy, self._bucket.explain(error))
            return False
        return True

    def _fail_copy(self, copy: Copy, message: str) -> None:
        copy.failure = f"{copy.path.name}: {message}"
        self.failures += 1
        self._say(f"A file of {self._bucket.url} could not be copied: {copy.failure}")


def _is_event_file(parts: Sequence[str]) -> bool:
    """Tell whether the index would find a file of this name."""
    return len(parts) >= 2 and parts[-2] == metadata.DIRECTORY and index.is_ours(parts[-1])


def _is_safe(parts: Sequence[str]) -> bool:
    """Tell whether a name stays below the directory, as each file's must."""
    if len(parts) > MAX_DEPTH + 2 or metadata.DIRECTORY in parts[:-2]:
        return False
    forbidden = {"\0", "/", os.sep, os.altsep or "/"} | ({":"} if os.name == "nt" else set())
    for part in parts:
        try:
            size = len(part.encode())
        except UnicodeEncodeError:
            return False
        if part in ("", ".", "..") or size > _MAX_NAME or any(letter in part for letter in forbidden):
            return False
    return True
