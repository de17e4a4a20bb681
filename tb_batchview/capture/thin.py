"""Keeps a few positions of outputs with many: pixels, tokens, time steps.

A segmentation of 256 × 256 pixels in 21 classes is 5 MB a sample. `gather`
calls `thin` so that what leaves the device is bounded.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import ops

from tb_batchview.capture.summary import rank_of

# Numbers kept of each sample's predictions. Of one position all are kept, even
# if they are more (the words of a vocabulary).
MAX_VALUES = 4096
# Fractional parts of multiples of the golden ratio are spread evenly, and fall
# into step with no width of a picture.
_GOLDEN = (math.sqrt(5) - 1) / 2


def thin(output: str, fields: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    """Keep the same positions of predictions and targets.

    Of as many strata of equal length as may be kept, one position of each is,
    at a place within it that differs from one to the next.

    Args:
        output: Its name.
        fields: "predictions" of shape (samples, *positions, values), and maybe
            "targets" of (samples, *positions, ...).
        problems: Takes a sentence when something is left out.

    Returns:
        The fields, with one axis of the positions kept where they are too
        many.
    """
    predictions = fields["predictions"]
    rank = rank_of(predictions)
    if rank is None or rank < 3:
        return fields
    positions, values = tuple(predictions.shape[1:-1]), predictions.shape[-1]
    if values is None or math.prod(size or MAX_VALUES for size in positions) * values <= MAX_VALUES:
        return fields
    kept = max(1, MAX_VALUES // values)
    chosen = choose_positions(
        ops.prod(ops.shape(predictions)[1:-1]) if None in positions else math.prod(positions), kept
    )
    thinned = {"predictions": _take(predictions, chosen, len(positions))}
    targets = fields.get("targets")
    if targets is not None and _has_positions(targets, positions):
        thinned["targets"] = _take(targets, chosen, len(positions))
    elif targets is not None and math.prod(size or MAX_VALUES for size in targets.shape[1:]) > MAX_VALUES:
        problems.append(
            f"The targets of output {output!r} are large and have other positions than its predictions: they are not "
            "recorded."
        )
        fields = {name: value for name, value in fields.items() if name != "targets"}
    problems.append(
        f"The predictions of output {output!r} are large: at most {kept} positions of each sample are recorded. "
        "Its losses are of all."
    )
    return fields | thinned


def choose_positions(count: Any, kept: int) -> Any:
    """Choose at most `kept` of `count` positions, in rising order, as int32.

    Args:
        count: A number, or a scalar tensor where it is known only at run time.
        kept: At most so many.
    """
    if not isinstance(count, int):
        count = ops.cast(count, "int32")
        width = ops.maximum((count + kept - 1) // kept, 1)
        strata = (count + width - 1) // width
        number = ops.arange(strata, dtype="int32")
        within = ops.floor(_fraction(ops.cast(number, "float32") * _GOLDEN, ops) * ops.cast(width, "float32"))
        return ops.minimum(number * width + ops.cast(within, "int32"), count - 1)
    width = max(-(-count // kept), 1)
    numbers = np.arange(-(-count // width))
    return np.minimum(numbers * width + np.floor(_fraction(numbers * _GOLDEN, np) * width), count - 1).astype(np.int32)


def _fraction(values: Any, library: Any) -> Any:
    return values - library.floor(values)


def _has_positions(targets: Any, positions: tuple[int | None, ...]) -> bool:
    found = tuple(targets.shape[1 : 1 + len(positions)])
    return len(found) == len(positions) and all(
        None in (here, there) or here == there for here, there in zip(found, positions, strict=True)
    )


def _take(values: Any, chosen: Any, axes: int) -> Any:
    rest = tuple(values.shape[1 + axes :])
    # Of the batch's and the positions' sizes at most one need be told.
    size = ops.shape(values)[0]
    return ops.take(ops.reshape(values, (size, -1, *rest)), chosen, axis=1)
