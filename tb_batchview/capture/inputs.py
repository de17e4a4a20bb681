"""Takes what the samples were out of a step: pictures, texts, or all of x.

`step` calls `name_inputs` after the user's step, `observation` calls
`read_inputs` on the writer's thread. Nothing here feeds back into the step.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tb_batchview.capture import arrays
from tb_batchview.capture.summary import rank_of
from tb_batchview.capture.tap import Sight
from tb_batchview.records import Array

# What a recorder wants: the input that looks like a picture or a text, or x.
THUMBNAILS = "thumbnails"
WHOLE = "x"
# Pictures are made smaller in the step while they stay as long as this.
_LEAST_PIXELS = 64
# Of a text.
MAX_TEXT_BYTES = 1000
_CHANNELS = (1, 3, 4)
_PICTURE, _TEXT = "picture", "text"

NOTHING_SHOWN = (
    "No input of the model looks like a picture or a text: inputs='thumbnails' keeps nothing. Give inputs a function "
    "that makes pictures or texts of x."
)


class SeenInputs(NamedTuple):
    """What a step was given.

    Attributes:
        thumbnails: Pictures, shape (samples, height, width[, channels]), or
            texts, str objects of shape (samples,); None where not wanted, or
            nothing looks like either.
        x: As the model was given it, with arrays of NumPy, lists as tuples,
            and texts as str; None where not wanted.
    """

    thumbnails: Array | None
    x: Any


def name_inputs(sight: Sight, wanted: Iterable[str], problems: list[str]) -> dict[str, Any]:
    """Name the tensors that tell what the samples were.

    Args:
        sight: What the step showed.
        wanted: `THUMBNAILS`, `WHOLE` or both.
        problems: Takes a sentence for what is left out.

    Returns:
        Tensors by "inputs/<form>/<path>".
    """
    wanted = set(wanted)
    if not wanted:
        return {}
    leaves = dict(_walk(_given(sight), ()))
    own = {path: leaf for path, leaf in leaves.items() if sight.belongs(leaf) and rank_of(leaf)}
    named: dict[str, Any] = {}
    if THUMBNAILS in wanted:
        found = find_shown(own.values())
        if found is None:
            problems.append(NOTHING_SHOWN)
        elif is_text(found):
            named[f"inputs/{THUMBNAILS}/{_TEXT}"] = _to_codes(found, MAX_TEXT_BYTES)
        else:
            named[f"inputs/{THUMBNAILS}/{_PICTURE}"] = shrink(found)
    if WHOLE in wanted:
        if len(own) < len(leaves):
            lost = ", ".join(f"{type(leaf).__name__}" for path, leaf in leaves.items() if path not in own)
            problems.append(f"x has parts that cannot be recorded, and inputs is not called: {lost}.")
        else:
            for path, leaf in own.items():
                form = _TEXT if is_text(leaf) else _PICTURE
                value = _to_codes(leaf, MAX_TEXT_BYTES) if is_text(leaf) else leaf
                named[f"inputs/{WHOLE}/{form}/{path!r}"] = value
    return named


def read_inputs(named: Mapping[str, Array]) -> SeenInputs:
    """Sort the arrays that `name_inputs` named, without "inputs/"."""
    thumbnails, parts = None, {}
    for name, array in named.items():
        kind, _, rest = name.partition("/")
        form, _, path = rest.partition("/")
        value = _to_texts(array) if form == _TEXT else array
        if kind == THUMBNAILS:
            thumbnails = value
        else:
            parts[ast.literal_eval(path)] = value
    return SeenInputs(thumbnails, _build(parts) if parts else None)


def shrink(pictures: Any) -> Any:
    """Return pictures with channels last, and smaller if they are large.

    Each pixel is the mean of a block; what is left at the right and at the
    bottom is cut off.

    Args:
        pictures: Shape (samples, height, width), or with channels.
    """
    rank = len(pictures.shape)
    first = rank == 4 and _channel_axis(pictures.shape) == 1
    height, width = (2, 3) if first else (1, 2)
    sides = pictures.shape[height], pictures.shape[width]
    by = 1 if None in sides else max(sides) // _LEAST_PIXELS
    if by >= 2:
        dtype = keras.backend.standardize_dtype(pictures.dtype)
        across, down = min(by, sides[1]), min(by, sides[0])
        rows, columns = sides[0] // down, sides[1] // across
        pictures = (
            pictures[:, :, : rows * down, : columns * across]
            if first
            else pictures[:, : rows * down, : columns * across]
        )
        channels = [pictures.shape[1 if first else 3]] if rank == 4 else []
        blocks = [rows, down, columns, across]
        shape = [-1, *channels, *blocks] if first else [-1, *blocks, *channels]
        means = ops.mean(ops.reshape(ops.cast(pictures, "float32"), shape), axis=(height + 1, height + 3))
        # What is uint8 needs no range to be shown.
        pictures = ops.cast(ops.round(means), "uint8") if dtype == "uint8" else means
    return ops.transpose(pictures, (0, 2, 3, 1)) if first else pictures


def is_text(value: Any) -> bool:
    """Tell whether a tensor holds texts."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "OSTU"
    return getattr(value.dtype, "name", str(value.dtype)) == "string"


def _to_codes(texts: Any, nbytes: int) -> Any:
    # Tensors of texts are TensorFlow's alone.
    from tb_batchview.capture.tf_arrays import to_codes

    return to_codes(texts, nbytes)


def _given(sight: Sight) -> Any:
    """Return x: as the loss was given it, else that of the batch."""
    x = sight.inputs.get("x")
    batch = sight.batch
    from_batch = keras.utils.unpack_x_y_sample_weight(batch)[0] if isinstance(batch, tuple) else batch
    leaves = [] if x is None else [leaf for _, leaf in _walk(x, ())]
    # To look at what the step made of it could change the last bit.
    strange = any(not sight.belongs(leaf) or (not is_text(leaf) and arrays.is_merged(leaf)) for leaf in leaves)
    return from_batch if not leaves or strange else x


def find_shown(leaves: Iterable[Any]) -> Any:
    """Return the first that looks like a picture, else a text, else a plane."""
    leaves = list(leaves)
    plain = [leaf for leaf in leaves if not is_text(leaf)]
    tests = (
        (plain, lambda leaf: rank_of(leaf) == 4 and _channel_axis(leaf.shape) is not None),
        (leaves, lambda leaf: is_text(leaf) and (rank_of(leaf) == 1 or tuple(leaf.shape[1:]) == (1,))),
        (plain, _is_plane),
    )
    for candidates, test in tests:
        for leaf in candidates:
            if test(leaf):
                return leaf
    return None


def _channel_axis(shape: Any) -> int | None:
    """Return where the channels of a picture are; None if nowhere."""
    order = (1, 3) if keras.config.image_data_format() == "channels_first" else (3, 1)
    return next((axis for axis in order if shape[axis] in _CHANNELS), None)


def _is_plane(leaf: Any) -> bool:
    """Tell pictures without channels from sequences of vectors, by shape."""
    if rank_of(leaf) != 3 or None in leaf.shape[1:]:
        return False
    height, width = leaf.shape[1:]
    return min(height, width) >= 8 and max(height, width) <= 2 * min(height, width)


def _walk(structure: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield the tensors of a structure: keys of dicts come in tuples."""
    if isinstance(structure, Mapping):
        for key, inner in structure.items():
            yield from _walk(inner, (*path, (key,)))
    elif isinstance(structure, (list, tuple)):
        for place, inner in enumerate(structure):
            yield from _walk(inner, (*path, place))
    elif structure is not None:
        yield path, structure


def _build(parts: dict[tuple[Any, ...], Any]) -> Any:
    """Put together what `_walk` took apart."""
    if () in parts:
        return parts[()]
    inner: dict[Any, dict[tuple[Any, ...], Any]] = {}
    for path, value in parts.items():
        inner.setdefault(path[0], {})[path[1:]] = value
    if isinstance(next(iter(inner)), tuple):
        return {key[0]: _build(rest) for key, rest in inner.items()}
    return tuple(_build(inner[place]) for place in sorted(inner))


def _to_texts(codes: Array) -> Array:
    texts = np.empty(len(codes), object)
    width = math.prod(codes.shape[1:]) * codes.itemsize
    for row, text in enumerate(np.ascontiguousarray(codes).reshape(len(codes), -1)):
        texts[row] = text.tobytes()[:width].rstrip(b"\0").decode("utf-8", "replace")
    return texts
