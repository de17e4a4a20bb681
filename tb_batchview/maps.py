"""Map the files of a log into memory: arrays are views of them.

Called by `log`. Calls `places` for which file, `decode` for the array.
"""

from __future__ import annotations

import mmap
import threading
import weakref
from pathlib import Path

from tb_batchview import decode
from tb_batchview.places import JoinedSlot, Place, gone, open_place, read_joined
from tb_batchview.records import Array

# A map keeps its file open, of which a process may have 256 to 1,024, and on the disk after it was deleted.
MOST_MAPS = 64


class Maps:
    """Mapped files; arrays handed out keep their map alive."""

    def __init__(self, root: object = None) -> None:
        """Prepare; no file is opened yet.

        Args:
            root: What keeps the files there, for as long as any may be read.
        """
        self._root = root
        self._lock = threading.Lock()
        # The last ones that were read, and those that an array still needs.
        self._recent: dict[tuple[Path, tuple[int, int]], mmap.mmap] = {}
        self._alive: weakref.WeakValueDictionary[tuple[Path, tuple[int, int]], mmap.mmap]
        self._alive = weakref.WeakValueDictionary()

    def read(self, place: Place, slot: decode.Slot) -> Array:
        """Return an array of a batch: a view into the mapped file.

        What several workers recorded is put together: a copy.

        Raises:
            NotFoundError: The file was deleted, replaced or truncated.
        """
        if isinstance(slot, JoinedSlot):
            return read_joined(place, slot, self.read)
        stop, file = place.position + place.length, (place.path, place.identity)
        with self._lock:
            mapped = self._recent.pop(file, None) or self._alive.get(file)
            if mapped is None or len(mapped) < stop:
                with open_place(place) as fd:
                    mapped = mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
                self._alive[file] = mapped
            self._recent[file] = mapped
            if len(self._recent) > MOST_MAPS:
                del self._recent[next(iter(self._recent))]
        # Past the end of a truncated file a map is a bus error, which nothing can catch.
        if mapped.size() < stop:
            raise gone(place)
        return decode.slot_array(memoryview(mapped)[place.position : stop], slot)
