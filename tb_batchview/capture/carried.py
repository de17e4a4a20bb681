"""Ids in a batch: where they are, and what they become in a record.

Called by the steps, which hand the model the batch without those of
`with_ids`, and by `observation`, where they are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np

from tb_batchview.errors import ArgumentError
from tb_batchview.ids import decode_ids, split_ids
from tb_batchview.records import Array

# Where the user's data has ids already: a key or a place of x.
Place = str | int
# The place of those of `with_ids`, as their name in an observation.
ATTACHED = ""
_INTEGERS = {"int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"}


class Carried:
    """The ids of the batches of one step function."""

    def __init__(self) -> None:
        """Begin before the first batch."""
        # Whether the batches so far have ids, by where they are.
        self._had: dict[str, bool] = {}

    def take(self, batch: Any, places: Iterable[Place], problems: list[str]) -> tuple[Any, dict[str, Any]]:
        """Take ids out of a batch, and look for those that stay in it.

        Args:
            batch: As Keras hands it to a step.
            places: Where in x the recorders want ids to be found.
            problems: Takes a sentence where there are none.

        Returns:
            What the model is to see, and arrays of ids by `name_place`.
        """
        batch, found = split_ids(batch)
        ids = {ATTACHED: found[0]} if len(found) == 1 else {}
        if len(found) > 1:
            problems.append(
                "Sample ids are not recorded: several inputs were given to with_ids, each with its own. Give it all of "
                "them together, as a tuple or a dict."
            )
        for place in places:
            value = _at(batch, place)
            if value is not None and not isinstance(value, (Mapping, tuple, list)):
                ids[name_place(place)] = value
            elif not found:
                problems.append(
                    f"sample_ids must name a part of x, a key of its dict or a place in its tuple. Received: "
                    f"sample_ids={place!r}. There is {_parts_of(batch)}."
                )
        for name in {*ids, *self._had}:
            if self._had.setdefault(name, name in ids) != (name in ids):
                problems.append("Some batches have no sample ids: their samples are of unknown identity.")
        return batch, ids


def name_place(place: Place | None) -> str:
    """Return the name of the ids that a recorder wants."""
    return ATTACHED if place is None else repr(place)


def name_tensors(ids: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """Name the arrays of ids.

    "ids/<place>", or "plain_ids/<place>" where they are plain whole numbers.

    Args:
        ids: By `name_place`.
        problems: Takes a sentence for what can be no ids.
    """
    named = {}
    for name, value in ids.items():
        dtype = _dtype_of(value)
        if name == ATTACHED:
            named[f"ids/{name}"] = value
        elif dtype == "string":  # TensorFlow alone has tensors of texts.
            from tb_batchview.capture.tf_ids import encode_tensor

            try:
                named[f"ids/{name}"] = encode_tensor(value)
            except ArgumentError as error:
                problems.append(refuse(error))
        elif dtype in _INTEGERS:
            named[f"plain_ids/{name}"] = value
        else:
            problems.append(
                f"sample_ids must name whole numbers or texts. Received: sample_ids={name}, of dtype {dtype}."
            )
    return named


def read_ids(kind: str, array: Array, size: int, problems: list[str]) -> Array | None:
    """Return the ids of a batch, or None where they can be none.

    Args:
        kind: "ids" or "plain_ids", as `name_tensors` has it.
        array: Of integers.
        size: Samples in the batch.
        problems: Takes a sentence for what is wrong.
    """
    cut = False
    try:
        if kind == "ids":
            array, cut = decode_ids(array)
        elif array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        if array.dtype.kind == "u" and array.size and int(array.max()) >= 2**63:
            raise ArgumentError(f"ids that are numbers must fit into 64 bits with a sign. Received: {array.max()}.")
    except ArgumentError as error:
        problems.append(refuse(error))
        return None
    if array.ndim != 1 or len(array) != size:
        problems.append("The sample ids are not one per sample of the batch and are not recorded.")
        return None
    if cut:
        problems.append(
            "Of sample ids over 128 bytes only the end is recorded, with a mark that tells each from others: the whole "
            "cannot leave dataset.map or another process. Use shorter ones, such as paths below the folder of the data."
        )
    return array


def refuse(error: Exception | str) -> str:
    """Say that a batch is recorded without ids, and why."""
    return f"The sample ids of a batch are not recorded: {error}"


def take_attached(x: Any, size: int, problems: list[str]) -> tuple[Any, Array | None]:
    """Return inputs without the ids of `with_ids`, and these.

    Args:
        x: Of one batch, its ids in NumPy.
        size: Samples in it.
        problems: Takes a sentence for what is wrong.
    """
    x, ids = Carried().take((x,), (), problems)
    return x[0], read_ids("ids", np.asarray(ids[ATTACHED]), size, problems) if ids else None


def _dtype_of(value: Any) -> str:
    dtype = getattr(value, "dtype", None)
    try:
        return str(keras.backend.standardize_dtype(dtype or type(value).__name__))
    except ValueError:  # None that Keras knows.
        return str(dtype)


def _at(batch: Any, place: Place) -> Any:
    x = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
    if isinstance(place, str):
        return x.get(place) if isinstance(x, Mapping) else None
    try:
        return x[place] if isinstance(x, (tuple, list)) else None
    except IndexError:
        return None


def _parts_of(batch: Any) -> str:
    x = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
    if isinstance(x, Mapping):
        return f"a dict of {', '.join(map(repr, x))}"
    return f"a tuple of {len(x)}" if isinstance(x, (tuple, list)) else "a single array"
