"""Thumbnails of files that anybody may have made: shown, bounded, or refused in a sentence."""

from __future__ import annotations

import io
import os
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from tb_batchview import pictures
from tb_batchview.errors import NotFoundError
from tb_batchview.pictures import ImagesDirectory, make_thumbnail

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def decoded(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def noise(width: int, height: int, *bands: int) -> np.ndarray:
    return np.random.default_rng(width).integers(0, 256, (height, width, *bands), np.uint8)


def huge_png(width: int, height: int) -> bytes:
    """Return a file of few bytes that says it has many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = zlib.compress(bytes((width // 8 + 1) * min(height, 1000)), 9)
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("bands", [(), (3,), (4,)])
def test_a_small_picture_keeps_every_pixel(bands: tuple[int, ...]) -> None:
    pixels = noise(64, 48, *bands)

    content, content_type = make_thumbnail(encoded(Image.fromarray(pixels)))

    assert content_type == "image/png"
    np.testing.assert_array_equal(np.asarray(decoded(content)), pixels)


def test_sixteen_bits_are_scaled_not_cut() -> None:
    pixels = np.array([[0, 257, 32896, 65535]], np.uint16)

    shown = decoded(make_thumbnail(encoded(Image.fromarray(pixels))).content)

    assert np.asarray(shown).tolist() == [[0, 1, 128, 255]]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("size", [(1000, 500), (300, 900), (257, 1), (1, 3000)])
def test_a_large_picture_is_made_small_and_keeps_its_shape(form: str, size: tuple[int, int]) -> None:
    content, content_type = make_thumbnail(encoded(Image.new("RGB", size, (200, 40, 40)), form))

    shown = decoded(content)
    assert content_type == Image.MIME[str(shown.format)]
    assert max(shown.size) == 256
    assert shown.size == tuple(max(1, round(side * 256 / max(size))) for side in size)
    np.testing.assert_allclose(np.asarray(shown.convert("RGB"), int)[0, 0], (200, 40, 40), atol=6)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_every_kind_of_colours_is_shown(mode: str) -> None:
    grey = Image.fromarray(np.tile(np.repeat(np.array([0, 255], np.uint8), 150), (200, 1)))
    content = encoded(grey.convert(mode), "JPEG" if mode == "CMYK" else "PNG")

    shown = np.asarray(decoded(make_thumbnail(content).content).convert("L"), int)

    assert shown[:, :100].max() < 8
    assert shown[:, -100:].min() > 247


def test_transparency_is_kept() -> None:
    pixels = noise(300, 300, 4)
    pixels[:, :150, 3] = 0
    pixels[:, 150:, 3] = 255

    shown = np.asarray(decoded(make_thumbnail(encoded(Image.fromarray(pixels))).content))

    assert shown[:, :120, 3].max() == 0
    assert shown[:, -120:, 3].min() == 255


def test_nothing_but_pixels_is_taken_over() -> None:
    image = Image.fromarray(noise(300, 300, 3))
    exif = Image.Exif()
    exif[0x010E] = "at home"
    exif[0x0112] = 6  # turned by a quarter: the model is given it as it is stored
    content = encoded(image, "JPEG", exif=exif, comment=b"secret", icc_profile=b"profile") + b"<script>more</script>"

    shown = make_thumbnail(content).content

    for part in (b"at home", b"secret", b"profile", b"script", b"Exif"):
        assert part in content
        assert part not in shown
    assert decoded(shown).size == (256, 256)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is no picture that can be read"),
        (b"<svg/>", "it is no picture that can be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is no picture that can be read"),
        (encoded(Image.new("RGB", (9, 9)), "TIFF"), "it is no picture that can be read"),
        (encoded(Image.fromarray(noise(90, 90)))[:-4000], "it is no picture that can be read"),
        (huge_png(8_000, 8_000), "it has more than 32 million pixels"),
        (huge_png(500_000, 500_000), "it has more than 32 million pixels"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.png").write_bytes(content)

    with pytest.raises(NotFoundError) as refused:
        ImagesDirectory(str(tmp_path)).find("a.png")

    assert str(refused.value) == (
        "The id of a sample must be the name of a picture in the directory of --batchview_images_dir. "
        f"Received: id='a.png': {reason}."
    )


def test_a_bomb_takes_no_memory(tmp_path: Path) -> None:
    import tracemalloc

    (tmp_path / "a.png").write_bytes(huge_png(16_000, 8_000))
    directory = ImagesDirectory(str(tmp_path))
    tracemalloc.start()
    with pytest.raises(NotFoundError):
        directory.find("a.png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 4 << 20


def test_a_file_is_decoded_once_until_it_changes(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(Image.new("RGB", (9, 9), (255, 0, 0))))
    directory = ImagesDirectory(str(tmp_path))
    with mock.patch.object(pictures, "make_thumbnail", wraps=make_thumbnail) as make:
        first = directory.find("a.png")
        assert directory.find("./a.png") is first
        assert make.call_count == 1

        (tmp_path / "a.png").write_bytes(encoded(Image.new("RGB", (9, 9), (0, 0, 255))))
        os.utime(tmp_path / "a.png", ns=(1, 1))
        second = directory.find("a.png")

    assert make.call_count == 2
    assert decoded(first.content).getpixel((0, 0)) == (255, 0, 0)
    assert decoded(second.content).getpixel((0, 0)) == (0, 0, 255)


def test_what_is_kept_is_bounded(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(encoded(Image.fromarray(noise(60, 60 + number))))
    with mock.patch.object(pictures, "MAX_KEPT_BYTES", 10_000):
        directory = ImagesDirectory(str(tmp_path))

    sizes = [len(directory.find(f"{number}.png").content) for number in range(6)]

    assert sum(sizes) > 10_000
    assert 0 < directory._kept.bytes <= 10_000


def in_child(work: Callable[[], bool]) -> int:
    """Fork; return what the child ends with: 0 if the work is done."""
    child = os.fork()
    if child == 0:
        os._exit(0 if work() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="This system has no fork.")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_while_pictures_are_made_leaves_no_lock_behind(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(Image.new("RGB", (9, 9))))
    directory = ImagesDirectory(str(tmp_path))
    held = [directory._decoding.acquire(), directory._decoding.acquire(), directory._kept._lock.acquire()]

    def find() -> bool:
        timer = threading.Timer(20, os._exit, [2])
        timer.daemon = True
        timer.start()
        return directory.find("a.png").content_type == "image/png"

    assert all(held)
    assert in_child(find) == 0
