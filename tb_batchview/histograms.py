"""Histograms with axes of their own: merged, put onto a common axis, cropped.

Called by `rollups` and `layers`. NumPy only: no function here reads a file or
keeps anything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# Of a merged histogram: from its least value, over the range that most of its parts have, to its greatest one.
MERGED_BINS = (16, 96, 16)
# Of a recorded histogram; more are joined, as a number from a file is not to be trusted with memory.
MOST_BINS = 1024
# Of each histogram, on either side, may lie outside the usual range …
TAIL = 0.001
# … and so many of the histograms altogether: one in twenty, or one of a few.
_UNUSUAL, _FEW = 20, 8
# Room on either side of the usual range, a share of its width.
_PAD = 0.05
# Places to work out at a time: what is in a processor's cache is many times faster.
_CHUNK = 1 << 16


@dataclasses.dataclass(frozen=True)
class Histograms:
    """Histograms, a row each; values are taken to lie evenly within a bin.

    Attributes:
        knots: float64, shape (rows, segments + 1), ascending: a histogram has
            equal bins between each two of them.
        bins: How many bins each segment has.
        below: float64, shape (rows, sum of bins + 1): count of values below
            each edge; the last one is all of them.
    """

    knots: Array
    bins: tuple[int, ...]
    below: Array

    @classmethod
    def of(cls, low: Array, high: Array, counts: Array) -> Histograms:
        """Take recorded histograms.

        Args:
            low: Least value of each histogram, shape (rows,).
            high: Greatest value, same shape. Equal to `low`: a single value.
            counts: Shape (rows, bins), in equal bins from `low` to `high`.
                Where one of these is not finite, or a count negative, it
                counts as empty.
        """
        low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
        usable = np.isfinite(low) & np.isfinite(high)
        low, high = np.where(usable, low, 0.0), np.where(usable, high, 0.0)
        counts = np.where(usable[:, None] & np.isfinite(counts), counts, 0.0)
        below = np.zeros((len(counts), counts.shape[1] + 1))
        np.cumsum(np.maximum(counts, 0.0), axis=1, out=below[:, 1:])
        return cls(np.stack([low, np.maximum(low, high)], axis=1), (counts.shape[1],), below)

    def __len__(self) -> int:
        return len(self.below)

    @property
    def total(self) -> Array:
        """Return how many values each histogram has."""
        return self.below[:, -1]

    @property
    def nbytes(self) -> int:
        """Return the memory they take."""
        return self.knots.nbytes + self.below.nbytes

    def __getitem__(self, rows: slice) -> Histograms:
        return Histograms(self.knots[rows], self.bins, self.below[rows])

    def below_at(self, edges: Array) -> Array:
        """Count the values below each edge, those at the last one with them.

        Args:
            edges: Ascending, shape (edges,), or (rows, edges).

        Returns:
            float64, shape (rows, edges).
        """
        edges = np.asarray(edges, np.float64)
        counts = np.zeros((len(self), edges.shape[-1]))
        step = max(1, _CHUNK // max(1, edges.shape[-1]))
        for first in range(0, len(self) if self.below.shape[1] > 1 else 0, step):
            rows = slice(first, first + step)
            self[rows]._below_at(edges if edges.ndim == 1 else edges[rows], counts[rows])
        return counts

    def _below_at(self, edges: Array, out: Array) -> None:
        place = np.zeros(out.shape)
        for number, bins in enumerate(self.bins):
            start, width = self.knots[:, number, None], np.diff(self.knots[:, number : number + 2], axis=1)
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                part = (edges - start) / width
            np.clip(part, 0.0, 1.0, out=part)
            thin = np.flatnonzero(width[:, 0] <= 0)
            if len(thin):
                # No width: all of it lies at `start`, in the bin that begins there.
                part[thin] = (edges if edges.ndim == 1 else edges[thin]) > start[thin]
            place += part * bins
        whole = np.minimum(place.astype(np.int64), self.below.shape[1] - 2)
        place -= whole
        whole += np.arange(len(self))[:, None] * self.below.shape[1]
        flat = np.ascontiguousarray(self.below).reshape(-1)
        left = flat[whole]
        whole += 1
        np.add(left, (flat[whole] - left) * place, out=out)
        out[:, -1] = np.where(edges[..., -1] >= self.knots[:, -1], self.total, out[:, -1])

    def between(self, edges: Array) -> Array:
        """Count the values between each two edges.

        Where the edges span all of a histogram its sum is kept; what lies
        outside is left out.

        Returns:
            float64, shape (rows, edges - 1).
        """
        # Rounding must not make a count negative.
        return np.maximum(np.diff(self.below_at(edges), axis=1), 0.0)

    def with_bins(self, bins: int) -> Histograms:
        """Return histograms of one segment with another number of bins."""
        if self.bins == (bins,):
            return self
        share = np.arange(bins + 1) / bins
        edges = self.knots[:, :1] + np.diff(self.knots, axis=1) * share
        edges[:, -1] = self.knots[:, -1]
        return Histograms(self.knots, (bins,), self.below_at(edges))

    def merged(self, size: int) -> Histograms:
        """Merge every `size` consecutive histograms into one.

        Their sums add up exactly. The axis reaches from the least to the
        greatest value; most bins are where all but a quarter of them lie at
        either end, so that one wild batch costs the others no detail.

        Returns:
            As many as are whole, with `MERGED_BINS`.
        """
        count = len(self) // size
        parts = self[slice(0, count * size)]
        some = (parts.total > 0).reshape(count, size)
        inner = parts.knots[:, 1:-1] if len(parts.bins) > 1 else parts.knots
        ends = [parts.knots[:, 0], inner[:, 0], inner[:, -1], parts.knots[:, -1]]
        fills = [np.inf, np.inf, -np.inf, -np.inf]
        low, first, last, high = (
            np.sort(np.where(some, end.reshape(count, size), fill), axis=1)
            for end, fill in zip(ends, fills, strict=True)
        )
        rows, aside = np.arange(count), some.sum(axis=1) // 4
        knots = np.stack([low[:, 0], first[rows, aside], last[rows, size - 1 - aside], high[:, -1]], axis=1)
        knots[~some.any(axis=1)] = 0.0
        edges = np.concatenate(
            [
                knots[:, number, None] + np.diff(knots[:, number : number + 2], axis=1) * (np.arange(bins) / bins)
                for number, bins in enumerate(MERGED_BINS)
            ]
            + [knots[:, -1:]],
            axis=1,
        )
        # Rounding must not leave an edge beyond the one that follows.
        np.maximum.accumulate(np.minimum(edges, knots[:, -1:]), axis=1, out=edges)
        below = parts.below_at(np.repeat(edges, size, axis=0)).reshape(count, size, edges.shape[1]).sum(axis=1)
        return Histograms(knots, MERGED_BINS, np.maximum.accumulate(below, axis=1))

    def inner_range(self) -> tuple[Array, Array]:
        """Return where all but `TAIL` of each histogram begins and ends.

        Returns:
            Edges of bins, float64; of the histograms that are not empty.
        """
        some = self[:] if not len(self) else Histograms(*self._rows(self.total > 0))
        if not len(some):
            return np.zeros(0), np.zeros(0)
        first = (some.below > TAIL * some.total[:, None]).argmax(axis=1) - 1
        last = (some.below >= (1 - TAIL) * some.total[:, None]).argmax(axis=1)
        return some._edge(first), some._edge(last)

    def _rows(self, chosen: Array) -> tuple[Array, tuple[int, ...], Array]:
        return self.knots[chosen], self.bins, self.below[chosen]

    def _edge(self, number: Array) -> Array:
        """Return an edge of each histogram, by its number."""
        edge = self.knots[:, 0].copy()
        for place, bins in enumerate(self.bins):
            part = np.clip(number - sum(self.bins[:place]), 0, bins) / bins
            edge += np.diff(self.knots[:, place : place + 2], axis=1)[:, 0] * part
        return edge


def join(parts: Sequence[Histograms]) -> Histograms:
    """Put histograms of the same bins one below the other."""
    return Histograms(
        np.concatenate([part.knots for part in parts]),
        parts[0].bins,
        np.concatenate([part.below for part in parts]),
    )


def whole_range(parts: Sequence[Histograms]) -> tuple[float, float] | None:
    """Return the least and greatest value; None where there is none."""
    ends = [part.knots[part.total > 0] for part in parts]
    if not any(map(len, ends)):
        return None
    return min(float(end[:, 0].min()) for end in ends if len(end)), max(float(e[:, -1].max()) for e in ends if len(e))


def usual_range(parts: Sequence[Histograms]) -> tuple[float, float] | None:
    """Return the range that shows most of most histograms.

    Of each histogram `TAIL` at either end does not count, and of the
    histograms those that reach farthest: one in twenty, or one where there
    are few. Where that would not at least halve the range, nothing is left
    out; None where there are no values.
    """
    whole = whole_range(parts)
    if whole is None:
        return None
    found = [part.inner_range() for part in parts]
    low, high = (np.sort(np.concatenate(ends)) for ends in zip(*found, strict=True))
    aside = max(len(low) // _UNUSUAL, int(len(low) >= _FEW))
    first, last = float(low[aside]), float(high[-1 - aside])
    pad = _PAD * (last - first)
    usual = max(whole[0], first - pad), min(whole[1], last + pad)
    # Histograms of a single value have no width to show anything in.
    if not last > first or 2 * (usual[1] - usual[0]) >= whole[1] - whole[0]:
        return whole
    return usual
