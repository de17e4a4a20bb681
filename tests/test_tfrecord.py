"""The framing against TensorFlow's own reader and writer, and against damage."""

from __future__ import annotations

import os
import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import settings

from tb_batchview import tfrecord
from tb_batchview.tfrecord import Frame, Stretch, frame, scan, scan_stretches


def scan_bytes(tmp_path: Path, content: bytes, position: int = 0, size: int | None = None) -> list[Frame]:
    path = tmp_path / "records"
    path.write_bytes(content)
    with open(path, "rb") as file:
        return list(scan(file.fileno(), position, len(content) if size is None else size))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tfrecord")


def test_frame_of_known_payload():
    # From the CRC32C of RFC 3720 for 32 zero bytes, 0x8A9136AA, masked by hand.
    crc = 0x8A9136AA
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32
    assert frame(bytes(32))[-4:] == struct.pack("<I", masked)


@settings(max_examples=30)
@given(payloads=st.lists(st.binary(max_size=50), max_size=5))
def test_tensorflow_reads_what_is_framed(directory: Path, payloads: list[bytes]):
    tf = pytest.importorskip("tensorflow")
    path = directory / "framed"
    path.write_bytes(b"".join(map(frame, payloads)))
    assert [record.numpy() for record in tf.data.TFRecordDataset(str(path))] == payloads


@settings(max_examples=30)
@given(payloads=st.lists(st.binary(max_size=50), max_size=5))
def test_scan_finds_what_tensorflow_writes(directory: Path, payloads: list[bytes]):
    tf = pytest.importorskip("tensorflow")
    path = directory / "written"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for payload in payloads:
            writer.write(payload)
    content = path.read_bytes()
    frames = scan_bytes(directory, content)
    assert [f.status for f in frames] == ["ok"] * len(payloads)
    assert [content[f.payload_position :][: f.length] for f in frames] == payloads


def test_a_file_cut_at_any_byte_yields_the_whole_records_before(tmp_path: Path):
    records = [frame(bytes([n]) * n) for n in range(0, 40, 7)]
    content = b"".join(records)
    whole = scan_bytes(tmp_path, content)
    ends = [f.end for f in whole]
    for cut in range(len(content) + 1):
        assert scan_bytes(tmp_path, content[:cut]) == [f for f in whole if f.end <= cut], cut
    assert ends[-1] == len(content)


def test_torn_tail_is_read_when_complete(tmp_path: Path):
    first, second = frame(b"first"), frame(b"second")
    content = first + second
    (before,) = scan_bytes(tmp_path, content, size=len(content) - 1)
    (after,) = scan_bytes(tmp_path, content, position=before.end)
    assert after == Frame(len(first), len(first) + 12, 6, "ok")


@pytest.mark.parametrize("byte", range(12, 12 + 50 + 4))
def test_corrupt_payload_is_skipped(tmp_path: Path, byte: int):
    content = bytearray(frame(b"x" * 50) + frame(b"next"))
    content[byte] ^= 0x40
    assert scan_bytes(tmp_path, bytes(content)) == [Frame(0, 12, 50, "corrupt"), Frame(66, 78, 4, "ok")]


@pytest.mark.parametrize("byte", range(12))
def test_corrupt_length_is_lost_up_to_the_next_header(tmp_path: Path, byte: int):
    content = bytearray(frame(b"before") + frame(b"x" * 50) + frame(b"next"))
    content[22 + byte] ^= 0x01
    assert scan_bytes(tmp_path, bytes(content)) == [
        Frame(0, 12, 6, "ok"),
        Frame(22, 22, 66, "lost"),
        Frame(88, 100, 4, "ok"),
    ]


def test_absurd_length_with_its_right_checksum_is_lost(tmp_path: Path):
    length = struct.pack("<Q", 2**62)
    header = length + struct.pack("<I", tfrecord.mask(tfrecord.crc32c.crc32c(length)))
    content = header + b"garbage" + frame(b"next")
    assert [f.status for f in scan_bytes(tmp_path, content)] == ["lost", "ok"]


def test_garbage_to_the_end_is_one_lost_stretch_and_later_records_are_found(tmp_path: Path):
    garbage = b"\xab" * 3_000_000
    content = frame(b"first") + garbage
    first, lost = scan_bytes(tmp_path, content)
    assert (lost.status, lost.position) == ("lost", first.end)
    # Less than a header is left to be looked at again.
    assert len(content) - lost.end < tfrecord.HEADER_BYTES
    longer = content + frame(b"late")
    *_, last = scan_bytes(tmp_path, longer, position=lost.end)
    assert longer[last.payload_position :][: last.length] == b"late"


@pytest.mark.parametrize(
    "gap", [0, 1, 11, 12, 2**18 - 12, 2**18, tfrecord.CHUNK_BYTES - 12, tfrecord.CHUNK_BYTES, 2_500_000]
)
def test_next_header_is_found_wherever_it_lies_in_a_chunk(tmp_path: Path, gap: int):
    content = b"\xff" * 12 + b"\xab" * gap + frame(b"next")
    lost, found = scan_bytes(tmp_path, content)
    assert (lost.length, found.position, found.status) == (12 + gap, 12 + gap, "ok")


def test_payload_larger_than_a_chunk_is_checked(tmp_path: Path):
    payload = os.urandom(2 * tfrecord.CHUNK_BYTES + 12345)
    content = bytearray(frame(b"small") + frame(payload) + frame(b"next"))
    assert [f.status for f in scan_bytes(tmp_path, bytes(content))] == ["ok", "ok", "ok"]
    content[-30] ^= 1
    assert [f.status for f in scan_bytes(tmp_path, bytes(content))] == ["ok", "corrupt", "ok"]


def test_file_that_shrinks_during_the_scan_ends_it(tmp_path: Path):
    content = frame(b"first") + frame(b"x" * 3 * tfrecord.CHUNK_BYTES)
    assert [f.length for f in scan_bytes(tmp_path, content[: len(content) // 2], size=len(content))] == [5]


def test_a_hole_is_one_lost_stretch_whatever_its_size(tmp_path: Path):
    size = 50_000_000
    with (tmp_path / "records").open("wb") as file:
        file.seek(size)
        file.write(frame(b"next"))
    with (tmp_path / "records").open("rb") as file:
        tracemalloc.start()
        lost, found = scan(file.fileno(), 0, size + 20)
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert (lost, found) == (Frame(0, 0, size, "lost"), Frame(size, size + 12, 4, "ok"))
    assert taken < 20_000_000


def flatten(pieces: Iterator[Stretch | Frame]) -> Iterator[Frame]:
    for piece in pieces:
        if isinstance(piece, Frame):
            yield piece
        else:
            yield from map(piece.frame, range(len(piece.starts)))


@settings(max_examples=200)
@given(
    payloads=st.lists(st.binary(max_size=40), min_size=1, max_size=12),
    flips=st.lists(st.tuples(st.integers(0), st.integers(1, 255)), max_size=3),
    cut=st.integers(0),
    chunk=st.integers(16, 200),
)
def test_stretches_are_the_records_of_a_scan(
    directory: Path, payloads: list[bytes], flips: list[tuple[int, int]], cut: int, chunk: int
):
    content = bytearray(b"".join(map(frame, payloads)))
    for position, change in flips:
        content[position % len(content)] ^= change
    content = content[: cut % (len(content) + 1)] if cut % 2 else content
    expected = scan_bytes(directory, bytes(content))
    with (
        open(directory / "records", "rb") as file,
        mock.patch.object(tfrecord, "CHUNK_BYTES", chunk),
        mock.patch.object(tfrecord, "_SEARCHED_BYTES", chunk),
    ):
        assert list(flatten(scan_stretches(file.fileno(), 0, len(content)))) == expected


@given(content=st.binary(max_size=200))
def test_any_bytes_end_the_scan_in_order(directory: Path, content: bytes):
    frames = scan_bytes(directory, content)
    positions = [0, *(f.end for f in frames)]
    assert [f.position for f in frames] == positions[:-1]
    assert positions == sorted(positions)
    assert positions[-1] <= len(content)


@settings(max_examples=200)
@given(
    payloads=st.lists(st.binary(max_size=40), min_size=1, max_size=5),
    flips=st.lists(st.tuples(st.integers(0), st.integers(1, 255)), min_size=1, max_size=3),
    cut=st.integers(0),
)
def test_a_damaged_file_never_yields_another_record(
    directory: Path, payloads: list[bytes], flips: list[tuple[int, int]], cut: int
):
    content = bytearray(b"".join(map(frame, payloads)))
    for position, change in flips:
        content[position % len(content)] ^= change
    content = content[: cut % (len(content) + 1)] if cut % 2 else content
    read = [
        content[f.payload_position :][: f.length] for f in scan_bytes(directory, bytes(content)) if f.status == "ok"
    ]
    # Those that are read are of those that were written, in order.
    waiting = iter(payloads)
    assert all(payload in waiting for payload in read)
