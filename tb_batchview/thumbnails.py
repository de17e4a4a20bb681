"""What the samples were, small enough to keep: pictures and texts.

Called by `writer` in its thread. Pillow encodes: TensorBoard needs it anyway,
and it lets other threads run meanwhile.

PNG keeps pictures of up to 32 pixels as they are; larger ones become JPEG.
Measured on crops of photographs, 64 × 64 in colour: PNG 7.9 kB, JPEG 1.6 kB,
WebP 1.0 kB, but WebP takes five to ten times as long, `tf.io.decode_image`
does not know it, and not every build of Pillow has it. At 28 × 28 in grey PNG
(0.6 kB) is no larger than JPEG.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tb_batchview.errors import ArgumentError
from tb_batchview.records import Array

# The longest side of a picture; up to here it is kept to the bit.
MOST_PIXELS = 64
LOSSLESS_PIXELS = 32
_JPEG_QUALITY = 85
# Of a text.
MOST_CHARACTERS = 1000
# Of all pictures and texts that one writer keeps.
BUDGET_BYTES = 256 << 20
# What remembering an id costs counts too, so that the budget bounds memory as well.
_ID_BYTES = 64

# A stretch of floats is known after so many batches, from so many values of each.
_RANGE_BATCHES = 64
_RANGE_VALUES = 1024
_PERCENTILES = (0.5, 99.5)


class NewInputs(NamedTuple):
    """What of a batch is to be kept.

    Attributes:
        values: Objects, shape (samples,): bytes of a PNG or JPEG, or str;
            empty where there is none, or an earlier batch has it.
        ids: Keys of the samples that are in it for the first time.
        nbytes: What it takes of the budget.
    """

    values: Array
    ids: tuple[Any, ...]
    nbytes: int


class Thumbnails:
    """Makes small pictures of batches, of each id one, within a budget."""

    def __init__(self, budget: int) -> None:
        """Begin with nothing kept, and so many bytes to go."""
        self._left = budget
        self._ids: set[Any] = set()
        self._range = ValueRange()

    @property
    def is_full(self) -> bool:
        """Tell whether the budget is used up."""
        return self._left <= 0

    def lacks(self, phase: str, ids: Array | None) -> bool:
        """Tell whether any sample of a batch is still to be kept."""
        return ids is None or any(_key(phase, item) not in self._ids for item in ids.tolist())

    def make(self, phase: str, give: Callable[[], Array | Sequence[Array]], ids: Array | None) -> NewInputs | None:
        """Return what is to be kept of a batch, None if nothing.

        Args:
            phase: Ids are those of one phase.
            give: Returns pictures or texts, one of each sample; called where
                they are needed.
            ids: Of the samples, where they are known.

        Raises:
            ArgumentError: They are no pictures.
        """
        if not self.lacks(phase, ids):
            return None
        inputs = give()
        if not len(inputs):
            return None
        keys = [None] * len(inputs) if ids is None else [_key(phase, item) for item in ids.tolist()]
        new: dict[Any, int] = {}
        rows = []
        for row, key in enumerate(keys):
            if key is None or (key not in self._ids and key not in new):
                rows.append(row)
                if key is not None:
                    new[key] = row
        values = np.empty(len(inputs), object)
        values[:] = b""
        if is_text(inputs):
            values[:] = ""
            values[rows] = [str(inputs[row])[:MOST_CHARACTERS] for row in rows]
        else:
            pictures = self._to_bytes(inputs, rows)
            for row, picture in zip(rows, pictures, strict=True):
                values[row] = encode_picture(picture)
        nbytes = sum(len(value) for value in values) + _ID_BYTES * len(new)
        return NewInputs(values, tuple(new), nbytes)

    def remember(self, kept: NewInputs) -> None:
        """Count what was written."""
        self._left -= kept.nbytes
        self._ids.update(kept.ids)

    def forget(self) -> None:
        """Keep the picture of each id once more; the budget stays."""
        self._ids.clear()

    def _to_bytes(self, inputs: Array | Sequence[Array], rows: list[int]) -> list[Array]:
        """Return some of the pictures as uint8, channels last."""
        if isinstance(inputs, np.ndarray) and inputs.dtype != object:
            # The range is learned of all, whatever is kept.
            return list(self._range.scale(channels_last(inputs, batched=True), rows))
        pictures = [channels_last(np.asarray(picture), batched=False) for picture in inputs]
        return [self._range.scale(picture[None], [0])[0] for picture in [pictures[row] for row in rows]]


class ValueRange:
    """What black and white are in arrays of floats, learned as they come.

    uint8 is taken as it is. Otherwise the 0.5th and 99.5th percentile of up to
    1,024 values of each of the first 64 batches tell: [0, 1], [-1, 1] and
    [0, 255] where the values lie in one of these (with a twentieth to spare),
    else the percentiles themselves are black and white (standardised values,
    digits from 0 to 16).
    """

    def __init__(self) -> None:
        """Begin with nothing seen."""
        self._seen: list[Array] = []
        self.low, self.high = 0.0, 1.0

    def scale(self, pictures: Array, rows: list[int]) -> Array:
        """Return some pictures of a batch as uint8."""
        if pictures.dtype == np.uint8:
            return pictures[rows]
        self.learn(pictures)
        with np.errstate(all="ignore"):
            values = pictures[rows].astype(np.float32)
            scaled = np.rint((values - self.low) * (255 / (self.high - self.low)))
            return np.nan_to_num(scaled, nan=0, posinf=255, neginf=0).clip(0, 255).astype(np.uint8)

    def learn(self, pictures: Array) -> None:
        """Take a batch into account, if it is one of the first."""
        if len(self._seen) >= _RANGE_BATCHES:
            return
        flat = pictures.reshape(-1)
        # Odd, so that all channels have their share.
        values = flat[:: max(1, flat.size // _RANGE_VALUES) | 1].astype(np.float64)
        values = values[np.isfinite(values)]
        if not values.size:
            return
        self._seen.append(values)
        low, high = (float(value) for value in np.percentile(np.concatenate(self._seen), _PERCENTILES))
        self.low, self.high = _usual(low, high)


def _usual(low: float, high: float) -> tuple[float, float]:
    """Return the usual range that values lie in, else their own."""
    # Dark pictures in [0, 255] are brighter than digits from 0 to 16.
    if low >= -0.05 and high <= 1.05:
        return 0.0, 1.0
    if low >= -1.05 and high <= 1.05:
        return -1.0, 1.0
    if low >= 0.0 and 32 < high <= 260:
        return 0.0, 255.0
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def is_text(inputs: Any) -> bool:
    """Tell whether inputs are texts."""
    return len(inputs) > 0 and isinstance(inputs[0], str)


def channels_last(pictures: Array, *, batched: bool, first: bool = False) -> Array:
    """Return pictures as (…, height, width, channels).

    Args:
        pictures: Shape (height, width), or with 1, 3 or 4 channels behind or
            in front; with samples in front where `batched`.
        batched: Whether there are several.
        first: What is taken for the channels where both ends could be.

    Raises:
        ArgumentError: They are no pictures.
    """
    shape = pictures.shape[batched:]
    kind = pictures.dtype.kind
    if kind not in "buif" or (len(shape) == 2 and 0 in shape):
        shape = ()
    if len(shape) == 2:
        return pictures[..., None]
    if len(shape) == 3 and 0 not in shape:
        fits = [axis for axis in ((0, 2) if first else (2, 0)) if shape[axis] in (1, 3, 4)]
        if fits:
            return np.moveaxis(pictures, fits[0] - 3, -1)
    raise ArgumentError(
        "inputs must be pictures, of shape (samples, height, width) or with 1, 3 or 4 channels, or texts. "
        f"Received: dtype={pictures.dtype}, shape={pictures.shape}. Give a function that makes pictures or texts of "
        "them."
    )


def encode_picture(pixels: Array) -> bytes:
    """Return a picture as PNG or JPEG, made smaller if it is large.

    Args:
        pixels: uint8, shape (height, width, 1, 3 or 4).
    """
    # Late: importing it takes a while, and most runs need none.
    from PIL import Image

    pixels = np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    image = Image.fromarray(pixels)
    longest = max(image.size)
    if longest > MOST_PIXELS:
        size = tuple(max(1, round(side * MOST_PIXELS / longest)) for side in image.size)
        # The mean of what falls on a pixel.
        image = image.resize((size[0], size[1]), Image.Resampling.BOX)
    content = io.BytesIO()
    if max(image.size) <= LOSSLESS_PIXELS or image.mode == "RGBA":
        image.save(content, "PNG")
    else:
        image.save(content, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return content.getvalue()


def _key(phase: str, item: Any) -> Any:
    """Return what an id is remembered by; None for none.

    Of a text its hash: file names would take more memory than pictures. Two
    texts of one hash cost the second its picture, and nothing else.
    """
    if item is None or item == "" or item == b"":
        return None
    if isinstance(item, bytes):
        item = item.decode("utf-8", "backslashreplace")
    return (phase, hash(item)) if isinstance(item, str) else (phase, item)
