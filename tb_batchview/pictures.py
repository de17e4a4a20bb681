"""Thumbnails of picture files that ids of samples name.

Called by `input_answers` and `plugin`. Calls `confine` for the files. Pillow is
loaded with the first file; what it is given was made by anybody.
"""

from __future__ import annotations

import io
import os
import threading
from typing import TYPE_CHECKING

from tb_batchview import confine
from tb_batchview.errors import NotFoundError
from tb_batchview.http import Picture
from tb_batchview.kept import Kept

if TYPE_CHECKING:
    from PIL.Image import Image

FLAG = "--batchview_images_dir"
SIDE = 256  # pixels of a thumbnail
MAX_FILE_BYTES = 32 << 20
MAX_PIXELS = 32_000_000  # of a file: up to 128 MB, decoded
MAX_KEPT_BYTES = 16 << 20
# Each may take as much memory as the largest picture.
_DECODED_AT_ONCE = 2
# Up to this side every pixel is seen, and must be right.
_LOSSLESS_SIDE = 64
# Others, such as EPS, run programs or are seldom looked at by anybody who mends them.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")


class ImagesDirectory:
    """Thumbnails of the picture files in one directory, by their names."""

    def __init__(self, directory: str) -> None:
        """Remember where the pictures are; nothing is read yet.

        Args:
            directory: Path, relative to the working directory of now.
        """
        self.path = os.path.abspath(os.path.expanduser(directory))
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._kept = Kept(MAX_KEPT_BYTES)
        self._decoding = threading.Semaphore(_DECODED_AT_ONCE)

    @property
    def exists(self) -> bool:
        """Tell whether there is such a directory now."""
        return os.path.isdir(self.path)

    def find(self, name: str) -> Picture:
        """Return the thumbnail of a file.

        Args:
            name: Of a file, relative to the directory; not trusted.

        Raises:
            NotFoundError: No picture is there by that name, or none that may
                be shown.
        """
        if self._process != os.getpid():
            self._start()  # a thread that a fork left behind may have held a lock
        try:
            with confine.open_below(self.path, name) as fd:
                found = os.fstat(fd)
                key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
                picture: Picture | None = self._kept.get(key)
                if picture is None:
                    with self._decoding:
                        picture = make_thumbnail(confine.read_whole(fd, MAX_FILE_BYTES))
                    self._kept.put(key, picture, len(picture.content))
            return picture
        except (confine.RefusedError, OSError) as error:
            raise NotFoundError(
                f"The id of a sample must be the name of a picture in the directory of {FLAG}. "
                f"Received: id={name[:80]!r}: {error}."
            ) from error


def make_thumbnail(content: bytes) -> Picture:
    """Return a picture of at most `SIDE` pixels a side, made anew.

    Nothing of the file but its pixels gets into it, as they are: not turned,
    as a model is given them.

    Raises:
        RefusedError: It is no picture, a broken one, or too large.
    """
    from PIL import Image

    too_many = confine.RefusedError(f"it has more than {MAX_PIXELS // 1_000_000} million pixels")
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise too_many
            image.draft("RGB", (SIDE, SIDE))  # a JPEG is decoded at a fraction of its size
            shown = _to_eight_bits(image)
            # JPEG has no transparency, and blurs what has few colours.
            lossless = max(shown.size) <= _LOSSLESS_SIDE or image.mode in ("1", "P") or shown.mode == "RGBA"
            shown.thumbnail((SIDE, SIDE))
            clean = Image.new(shown.mode, shown.size)
            clean.paste(shown)
            file = io.BytesIO()
            clean.save(file, format="PNG" if lossless else "JPEG", quality=85)
            return Picture(file.getvalue(), "image/png" if lossless else "image/jpeg")
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise too_many from None
    except confine.RefusedError:
        raise
    except Exception as error:  # a broken file makes Pillow raise almost anything
        raise confine.RefusedError("it is no picture that can be read") from error


def _to_eight_bits(image: Image) -> Image:
    """Return a picture in colours that every browser shows."""
    if image.mode.startswith("I"):  # 16 bits, of which Pillow would cut off what is above 255
        return image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    if image.mode in ("L", "RGB", "RGBA"):
        return image
    if image.mode == "1":
        return image.convert("L")
    return image.convert("RGBA" if image.mode in ("LA", "PA") or "transparency" in image.info else "RGB")
