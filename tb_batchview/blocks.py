"""Take in many records at once: those whose layouts are already known.

Training writes long stretches of records in which the same bytes stand between
the values. Their values are taken out with NumPy, all records of a layout at a
time, in the file's order. Called by `index`, which takes what is in no block
record by record; `columns` takes the values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tb_batchview.layouts import STEP_START, KnownLayout, Layout
from tb_batchview.tfrecord import Stretch

Array = npt.NDArray[Any]

# Fewer records, or fewer of each length, are as fast one by one.
LEAST = 8


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
    """Batches that follow each other in a file.

    Attributes:
        file: Number of the file in `RunIndex.files`.
        groups: The layouts and which batches are of each, ascending; that of
            the last batch comes last.
        position: int64, of the payloads in the file.
        length: int64, of the payloads, bytes.
        step: int64.
        wall_time: float64.
    """

    file: int
    groups: tuple[tuple[Layout, Array], ...]
    position: Array
    length: Array
    step: Array
    wall_time: Array
    _content: bytes
    _starts: Array

    def __len__(self) -> int:
        return len(self.step)

    def take(self, rows: Array, offset: int, dtype: Any, count: int) -> Array:
        """Return what stands at an offset of some batches' payloads.

        Returns:
            Of shape (rows, count), a copy.
        """
        dtype = np.dtype(dtype)
        return _gather(self._content, self._starts[rows] + offset, count * dtype.itemsize).view(dtype)


def match(
    known: Mapping[int, Sequence[KnownLayout]], stretch: Stretch, first: int, last: int, file: int
) -> Block | None:
    """Return the records of a stretch up to one of no known layout.

    Args:
        known: Layouts by the length of their records, in the order to try.
        stretch: Sound records.
        first: Number of the first record to look at.
        last: Number of the one to stop before.
        file: Number of the file.

    Returns:
        None where they are too few or of too many lengths to be worth it.
    """
    lengths, starts = stretch.lengths[first:last], stretch.starts[first:last]
    distinct, place = np.unique(lengths, return_inverse=True)
    if len(starts) < LEAST * len(distinct):
        return None
    items: list[KnownLayout] = []
    which = np.full(len(starts), -1)
    for number, length in enumerate(distinct.tolist()):
        rows = np.flatnonzero(place == number)
        for item in known.get(length, ()):
            fit = _fits(item, stretch.content, starts[rows])
            which[rows[fit]] = len(items)
            items.append(item)
            rows = rows[~fit]
            if not len(rows):
                break
    strange = np.flatnonzero(which < 0)
    count = int(strange[0]) if len(strange) else len(which)
    if count < LEAST:
        return None
    starts, lengths, which = starts[:count], lengths[:count], which[:count]
    groups = [(item, np.flatnonzero(which == number)) for number, item in enumerate(items)]
    groups = sorted((group for group in groups if len(group[1])), key=lambda group: int(group[1][-1]))
    step = np.empty(count, np.int64)
    for item, rows in groups:
        step[rows] = _steps(item, stretch.content, starts[rows])
    return Block(
        file=file,
        groups=tuple((item.layout, rows) for item, rows in groups),
        position=stretch.position + starts,
        length=lengths,
        step=step,
        wall_time=_gather(stretch.content, starts + 1, 8).view("<f8")[:, 0],
        _content=stretch.content,
        _starts=starts,
    )


def _fits(item: KnownLayout, content: bytes, starts: Array) -> Array:
    """Tell which records, all of its length, are of a layout."""
    fit = np.ones(len(starts), bool)
    for start, stop, constant in (*item.near, *item.far):
        fit &= (_gather(content, starts + start, stop - start) == np.frombuffer(constant, np.uint8)).all(axis=1)
    # A varint ends with the first byte below 128; ten of them may be 2**63 or more.
    more = _gather(content, starts + STEP_START, item.step_stop - STEP_START) >= 0x80
    fit &= more[:, :-1].all(axis=1) & ~more[:, -1]
    return fit if item.step_stop < STEP_START + 10 else np.zeros(len(starts), bool)


def _steps(item: KnownLayout, content: bytes, starts: Array) -> Array:
    """Return the steps of records of a layout."""
    digits = _gather(content, starts + STEP_START, item.step_stop - STEP_START) & 0x7F
    return (digits.astype(np.int64) << (7 * np.arange(digits.shape[1]))).sum(axis=1)


def _gather(content: bytes, starts: Array, count: int) -> Array:
    """Return as many bytes from each start, of shape (starts, count)."""
    windows: Array = np.ndarray((len(content) - count + 1, count), np.uint8, content, strides=(1, 1))
    return windows[starts]
