"""TFRecord framing: what wraps an event in a file, and the scan that finds it again.

The writer frames each event; the writer (for the last steps of older files)
and the index scan. Both arms use it. Files are read with `os.pread`, never
mapped: a mapped file that somebody truncates ends the process with SIGBUS.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

import crc32c
import numpy as np
import numpy.typing as npt

HEADER_BYTES = 12
FOOTER_BYTES = 4
# Protobuf cannot hold more in one message.
MAX_PAYLOAD_BYTES = 2**31 - 1
# Read at a time; also the most that is in memory, whatever the records' size.
CHUNK_BYTES = 1 << 20

_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_HEADER = struct.Struct("<QI")


class Frame(NamedTuple):
    """One record of a file, or a stretch of it that cannot be read.

    Attributes:
        position: Of its first byte in the file.
        payload_position: Of the first byte of its payload.
        length: Bytes of the payload; of the whole stretch when "lost".
        status: "ok"; "corrupt": the payload's checksum is wrong, the next
            record can be found; "lost": the length's checksum is wrong, so
            that everything up to the next sound header is skipped.
    """

    position: int
    payload_position: int
    length: int
    status: str

    @property
    def end(self) -> int:
        """Return the position to go on from."""
        return self.payload_position + self.length + (0 if self.status == "lost" else FOOTER_BYTES)


def mask(crc: int) -> int:
    """Return the checksum as TFRecord stores it."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def frame_pieces(payload: bytes) -> tuple[bytes, bytes, bytes]:
    """Return what stands before the payload, the payload, what follows."""
    length = _LENGTH.pack(len(payload))
    return length + _CRC.pack(mask(crc32c.crc32c(length))), payload, _CRC.pack(mask(crc32c.crc32c(payload)))


def frame(payload: bytes) -> bytes:
    """Return the record of a payload: length, payload and checksums."""
    return b"".join(frame_pieces(payload))


def scan(fd: int, position: int, size: int) -> Iterator[Frame]:
    """Yield the complete records between two positions of a file.

    Ends at a record that is not complete at `size` (a torn tail): scan again
    from `Frame.end` of the last one once the file has grown. The checksum of
    every payload is verified.

    Args:
        fd: Descriptor of the file, open for reading.
        position: Where a record begins.
        size: Bytes of the file to look at.
    """
    window = _Window(fd, size)
    while position + HEADER_BYTES + FOOTER_BYTES <= size:
        header = window.read(position, HEADER_BYTES)
        if len(header) < HEADER_BYTES:
            return
        length, crc = _HEADER.unpack(header)
        if length > MAX_PAYLOAD_BYTES or crc != mask(crc32c.crc32c(header[:8])):
            found = _find_header(window, position + 1, size)
            yield Frame(position, position, found - position, "lost")
            position = found
            continue
        start = position + HEADER_BYTES
        stop = start + length
        if stop + FOOTER_BYTES > size:
            return
        payload_crc = window.checksum(start, length)
        footer = window.read(stop, FOOTER_BYTES)
        if payload_crc is None or len(footer) < FOOTER_BYTES:
            return
        yield Frame(position, start, length, "ok" if _CRC.unpack(footer)[0] == mask(payload_crc) else "corrupt")
        position = stop + FOOTER_BYTES


class _Window:
    """A part of a file held in memory, moved forward as it is read."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._size = size
        self._start = 0
        self._bytes = memoryview(b"")

    def read(self, position: int, count: int) -> memoryview:
        """Return `count` (at most `CHUNK_BYTES`) bytes; fewer at the end."""
        begin = position - self._start
        if begin < 0 or begin + count > len(self._bytes):
            self._bytes = memoryview(os.pread(self._fd, min(CHUNK_BYTES, self._size - position), position))
            self._start, begin = position, 0
        return self._bytes[begin : begin + count]

    def checksum(self, position: int, count: int) -> int | None:
        """Return the CRC32C of a range, None when the file has shrunk."""
        crc = 0
        while count:
            piece = self.read(position, min(count, CHUNK_BYTES))
            if not piece:
                return None
            crc = crc32c.crc32c(piece, crc)
            position += len(piece)
            count -= len(piece)
        return crc


def _find_header(window: _Window, position: int, size: int) -> int:
    """Return where the next sound header begins; the end if there is none.

    The end is the first position whose header is not complete at `size`, so
    that a later scan goes on from there.
    """
    while position + HEADER_BYTES <= size:
        piece = window.read(position, min(CHUNK_BYTES, size - position))
        if len(piece) < HEADER_BYTES:
            break
        sound = np.flatnonzero(_sound_headers(np.frombuffer(piece, np.uint8)))
        if len(sound):
            return position + int(sound[0])
        position += len(piece) - HEADER_BYTES + 1
    return position


def _sound_headers(content: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Tell at which offsets a length with its right checksum stands."""
    count = len(content) - HEADER_BYTES + 1
    crc = np.full(count, 0xFFFFFFFF, np.uint32)
    for byte in range(8):
        crc = _TABLE[(crc ^ content[byte : byte + count]) & np.uint32(0xFF)] ^ (crc >> np.uint32(8))
    crc ^= np.uint32(0xFFFFFFFF)
    masked = ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(0xA282EAD8)
    stored = sum(content[8 + byte : 8 + byte + count].astype(np.uint32) << np.uint32(8 * byte) for byte in range(4))
    # The upper half of a length below 2**31 is zero: no chance match there.
    small = (content[3 : 3 + count] < 0x80) & ~content[4 : 4 + count].astype(bool)
    for byte in range(5, 8):
        small &= ~content[byte : byte + count].astype(bool)
    return np.asarray((masked == stored) & small)


def _crc_table() -> npt.NDArray[np.uint32]:
    """Return the CRC32C of each byte value, for many headers at a time."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> np.uint32(1)) ^ np.uint32(0x82F63B78), table >> np.uint32(1))
    return table.astype(np.uint32)


_TABLE = _crc_table()
