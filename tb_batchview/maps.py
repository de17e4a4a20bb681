"""Map the files of a log into memory: arrays are views of them.

Called by `log`. Calls `places` for which file, `decode` for the array.
"""

from __future__ import annotations

import mmap
import threading
from pathlib import Path

from tb_batchview import decode
from tb_batchview.places import JoinedSlot, Place, gone, open_place, read_joined
from tb_batchview.records import Array


class Maps:
    """Mapped files; arrays handed out keep their map alive."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._maps: dict[tuple[Path, tuple[int, int]], mmap.mmap] = {}

    def read(self, place: Place, slot: decode.Slot) -> Array:
        """Return an array of a batch: a view into the mapped file.

        What several workers recorded is put together: a copy.

        Raises:
            NotFoundError: The file was deleted, replaced or truncated.
        """
        if isinstance(slot, JoinedSlot):
            return read_joined(place, slot, self.read)
        stop = place.position + place.length
        with self._lock:
            mapped = self._maps.get((place.path, place.identity))
            if mapped is None or len(mapped) < stop:
                with open_place(place) as fd:
                    mapped = mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
                self._maps[place.path, place.identity] = mapped
        # Past the end of a truncated file a map is a bus error, which nothing can catch.
        if mapped.size() < stop:
            raise gone(place)
        return decode.slot_array(memoryview(mapped)[place.position : stop], slot)
