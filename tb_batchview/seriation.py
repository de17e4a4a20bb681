"""Order the classes of a confusion matrix so that those confused stand together.

Called by `answers`. Calls NumPy and nothing else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_NONE = -1.0  # below every similarity: what has been joined, and a cluster with itself


def order_confusable(counts: Array) -> Array:
    """Order classes so that confusable ones form blocks on the diagonal.

    How alike two classes are is the mean of the two shares in which one is
    taken for the other. Average linkage joins the most alike, as a chain of
    nearest neighbours; of the four ways to put two clusters side by side,
    the one whose touching classes are most alike is taken.

    Sources: F. Murtagh, "A survey of recent advances in hierarchical
    clustering algorithms", The Computer Journal 26 (1983) 354-359, for the
    chain; G. Gruvaeus and H. Wainer, "Two additions to hierarchical cluster
    analysis", Brit. J. Math. Stat. Psychol. 25 (1972) 200-206, for the sides.

    Args:
        counts: Shape (classes, classes), rows are targets.

    Returns:
        int32, shape (classes,): the row that stands first, second, …. The
        same matrix gives the same order; classes never confused keep theirs.
    """
    alike = measure_similarity(counts)
    classes = len(alike)
    similarity = alike.copy()
    np.fill_diagonal(similarity, _NONE)
    sizes = np.ones(classes)
    leaves: list[list[int]] = [[number] for number in range(classes)]
    chain: list[int] = []
    first = 0  # no cluster before it is left
    for _ in range(classes - 1):
        if not chain:
            while not leaves[first]:
                first += 1
            chain.append(first)
        while True:
            row = similarity[chain[-1]]
            nearest = int(row.argmax())
            # Where several are as near, going back ends the chain; it would go round in a circle.
            if len(chain) > 1 and row[nearest] <= row[chain[-2]]:
                break
            chain.append(nearest)
        kept, gone = sorted((chain.pop(), chain.pop()))
        leaves[kept], leaves[gone] = _put_side_by_side(leaves[kept], leaves[gone], alike), []
        total = sizes[kept] + sizes[gone]
        merged = (similarity[kept] * sizes[kept] + similarity[gone] * sizes[gone]) / total
        merged[(similarity[kept] == _NONE) | (similarity[gone] == _NONE)] = _NONE
        similarity[kept], similarity[:, kept] = merged, merged
        similarity[gone], similarity[:, gone] = _NONE, _NONE
        sizes[kept] = total
    return np.array(leaves[0] if classes else [], np.int32)


def measure_similarity(counts: Array) -> Array:
    """Return how alike classes are, 0 to 1; symmetric, with 0 on the diagonal.

    Half the share of the one's samples taken for the other, plus half the
    other way round. A class without samples has a share of 0.
    """
    support = counts.sum(axis=1, dtype=np.float64)
    shares = counts / np.maximum(support, 1)[:, None]
    alike: Array = (shares + shares.T) / 2
    np.fill_diagonal(alike, 0)
    return alike


def _put_side_by_side(left: list[int], right: list[int], alike: Array) -> list[int]:
    """Join two rows of classes, each turned round where that is better."""
    ways = (
        (alike[left[-1], right[0]], False, False),
        (alike[left[-1], right[-1]], False, True),
        (alike[left[0], right[0]], True, False),
        (alike[left[0], right[-1]], True, True),
    )
    _, turn_left, turn_right = max(ways, key=lambda way: way[0])
    return (left[::-1] if turn_left else left) + (right[::-1] if turn_right else right)
