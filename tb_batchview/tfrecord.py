"""TFRecord framing: what wraps an event in a file, and the scan that finds it again.

The writer frames each event; the writer (for the last steps of older files)
and the index scan, the index many records at a time. Both arms use it. Files are read with `os.pread`, never
mapped: a mapped file that somebody truncates ends the process with SIGBUS.
"""

from __future__ import annotations

import functools
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, overload

import crc32c
import numpy as np
import numpy.typing as npt

from tb_batchview.errors import FormatError

HEADER_BYTES = 12
FOOTER_BYTES = 4
# Protobuf cannot hold more in one message.
MAX_PAYLOAD_BYTES = 2**31 - 1
# Read at a time; also the most that is in memory, whatever the records' size.
CHUNK_BYTES = 1 << 21
# Searched at a time for a header, which takes some forty times as much memory.
_SEARCHED_BYTES = 1 << 18
# A longer payload is not read whole to look at what is in it.
LONG_BYTES = 1 << 20
# Read at a time of a long payload, and how often: a walk passes by the bulk of each
# of its values with one read. More is a record made to keep a reader busy.
_LONG_READ_BYTES = 1 << 16
_LONG_READS = 1 << 17
_LONG_LOOKS = 1 << 22
_LEAST_BYTES = HEADER_BYTES + FOOTER_BYTES

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


class Stretch(NamedTuple):
    """Sound records that follow each other in a part of a file.

    Attributes:
        content: A part of the file.
        position: Of its first byte in the file.
        starts: int64, where in `content` the payload of each record begins.
        lengths: int64, bytes of each payload.
    """

    content: bytes
    position: int
    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]

    def frame(self, number: int) -> Frame:
        """Return one of the records."""
        start = self.position + int(self.starts[number])
        return Frame(start - HEADER_BYTES, start, int(self.lengths[number]), "ok")


class LongPayload:
    """A payload in its file, of which parts are read as they are asked for.

    What walks through an event looks at a few bytes around each value; the
    bulk of a long one need not be in memory for that.
    """

    def __init__(self, fd: int, frame: Frame) -> None:
        self._fd = fd
        self._position = frame.payload_position
        self._length = frame.length
        self._start = 0
        self._bytes = b""
        self._reads, self._looks = _LONG_READS, _LONG_LOOKS

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, key: int) -> int: ...

    @overload
    def __getitem__(self, key: slice) -> bytes: ...

    def __getitem__(self, key: int | slice) -> int | bytes:
        """Return a byte, or a copy of a part.

        Raises:
            FormatError: There is no end to it, or the file has shrunk.
        """
        self._looks -= 1
        start, stop, _ = key.indices(self._length) if isinstance(key, slice) else (key, key + 1, 1)
        if start < self._start or stop > self._start + len(self._bytes):
            self._reads -= 1
            count = max(stop - start, min(_LONG_READ_BYTES, self._length - start))
            self._start, self._bytes = start, os.pread(self._fd, count, self._position + start)
            if len(self._bytes) < count:
                raise FormatError("A record must still be in its file while it is read.")
        if self._reads < 0 or self._looks < 0:
            raise FormatError(f"A record of {self._length} bytes must be read in at most {_LONG_READS} parts.")
        part = self._bytes[start - self._start : stop - self._start]
        return part if isinstance(key, slice) else part[0]


def read_payload(fd: int, frame: Frame) -> bytes | LongPayload:
    """Return a record's payload, to be walked through."""
    if frame.length > LONG_BYTES:
        return LongPayload(fd, frame)
    return os.pread(fd, frame.length, frame.payload_position)


def open_file(path: str | Path) -> int:
    """Open a file for reading; it must be closed.

    Without waiting: opening a pipe that has taken the place of a file would
    take for ever. Reading from one fails at once.
    """
    flags = ("O_CLOEXEC", "O_BINARY", "O_NONBLOCK")
    return os.open(path, os.O_RDONLY | sum(getattr(os, flag, 0) for flag in flags))


def mask(crc: int) -> int:
    """Return the checksum as TFRecord stores it."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def frame_pieces(pieces: Sequence[bytes | memoryview]) -> list[bytes | memoryview]:
    """Return the record of a payload that is in pieces: them in a frame.

    Args:
        pieces: Views must be of bytes.
    """
    crc = length = 0
    for piece in pieces:
        crc = crc32c.crc32c(piece, crc)
        length += len(piece)
    return [_header(length), *pieces, _CRC.pack(mask(crc))]


@functools.lru_cache(maxsize=1024)
def _header(length: int) -> bytes:
    """Return what stands before a payload; most have the length of another."""
    packed = _LENGTH.pack(length)
    return packed + _CRC.pack(mask(crc32c.crc32c(packed)))


def frame(payload: bytes) -> bytes:
    """Return the record of a payload: length, payload and checksums."""
    return b"".join(frame_pieces([payload]))


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
    while (found := _find_frame(window, position, size)) is not None:
        yield found
        position = found.end


def scan_stretches(fd: int, position: int, size: int) -> Iterator[Stretch | Frame]:
    """Yield what `scan` does, sound records many at a time.

    A `Frame` is a record that is not sound, or not in one piece in memory.

    Args:
        fd: Descriptor of the file, open for reading.
        position: Where a record begins.
        size: Bytes of the file to look at.
    """
    window = _Window(fd, size)
    while position + _LEAST_BYTES <= size:
        content, begin = window.ahead(position)
        starts, lengths = _find_sound(content, position - begin)
        if starts:
            yield Stretch(content, begin, np.array(starts, np.int64), np.array(lengths, np.int64))
            position = begin + starts[-1] + lengths[-1] + FOOTER_BYTES
        found = _find_frame(window, position, size)
        if found is None:
            return
        yield found
        position = found.end


def _find_sound(content: bytes, begin: int) -> tuple[list[int], list[int]]:
    """Return start and length of the payloads up to where none is sound."""
    starts, lengths = [], []
    view = memoryview(content)
    while begin + _LEAST_BYTES <= len(view):
        length, crc = _HEADER.unpack_from(view, begin)
        start = begin + HEADER_BYTES
        stop = start + length
        begin = stop + FOOTER_BYTES
        # No length too large is in memory.
        if begin > len(view) or crc != mask(crc32c.crc32c(view[start - HEADER_BYTES : start - 4])):
            break
        if _CRC.unpack_from(view, stop)[0] != mask(crc32c.crc32c(view[start:stop])):
            break
        starts.append(start)
        lengths.append(length)
    return starts, lengths


def _find_frame(window: _Window, position: int, size: int) -> Frame | None:
    """Return what begins at a position, None if it is not complete."""
    if position + _LEAST_BYTES > size:
        return None
    header = window.read(position, HEADER_BYTES)
    if len(header) < HEADER_BYTES:
        return None
    length, crc = _HEADER.unpack(header)
    if length > MAX_PAYLOAD_BYTES or crc != mask(crc32c.crc32c(header[:8])):
        found = _find_header(window, position + 1, size)
        return Frame(position, position, found - position, "lost")
    start = position + HEADER_BYTES
    stop = start + length
    if stop + FOOTER_BYTES > size:
        return None
    payload_crc = window.checksum(start, length)
    footer = window.read(stop, FOOTER_BYTES)
    if payload_crc is None or len(footer) < FOOTER_BYTES:
        return None
    return Frame(position, start, length, "ok" if _CRC.unpack(footer)[0] == mask(payload_crc) else "corrupt")


class _Window:
    """A part of a file held in memory, moved forward as it is read."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._size = size
        self._start = 0
        self._bytes = b""

    def read(self, position: int, count: int) -> memoryview:
        """Return `count` (at most `CHUNK_BYTES`) bytes; fewer at the end."""
        begin = position - self._start
        if begin < 0 or begin + count > len(self._bytes):
            self._bytes = os.pread(self._fd, min(CHUNK_BYTES, self._size - position), position)
            self._start, begin = position, 0
        return memoryview(self._bytes)[begin : begin + count]

    def ahead(self, position: int) -> tuple[bytes, int]:
        """Return what is in memory around a position, and where it begins."""
        self.read(position, _LEAST_BYTES)
        return self._bytes, self._start

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
        piece = window.read(position, min(_SEARCHED_BYTES, size - position))
        if len(piece) < HEADER_BYTES:
            break
        content = np.frombuffer(piece, np.uint8)
        # Zeros are no header: a file may have a hole of any size.
        if content.any():
            sound = np.flatnonzero(_sound_headers(content))
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
