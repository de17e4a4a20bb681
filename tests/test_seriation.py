"""The clustered order: a permutation, the same every time, and one that a reference agrees with."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from tb_batchview.seriation import measure_similarity, order_confusable


def count_runs(groups: np.ndarray) -> int:
    return 1 + int(np.count_nonzero(np.diff(groups)))


def test_similarity_is_the_mean_of_both_shares() -> None:
    counts = np.array([[6, 2, 0], [1, 9, 0], [0, 0, 0]])

    alike = measure_similarity(counts)

    assert alike == pytest.approx(np.array([[0, (2 / 8 + 1 / 10) / 2, 0], [(2 / 8 + 1 / 10) / 2, 0, 0], [0, 0, 0]]))


@pytest.mark.parametrize("size", [2, 5, 8])
def test_scattered_blocks_are_found(size: int) -> None:
    generator = np.random.default_rng(size)
    groups = generator.permutation(np.repeat(np.arange(40 // size), size))
    counts = (groups[:, None] == groups) * generator.integers(1, 9, (len(groups), len(groups)))
    counts += np.diag(generator.integers(20, 90, len(groups)))

    order = order_confusable(counts)

    assert count_runs(groups[order]) == 40 // size


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 12).flatmap(lambda n: arrays(np.int64, (n, n), elements=st.integers(0, 4))))
def test_order_has_every_class_once_and_is_the_same_again(counts: np.ndarray) -> None:
    order = order_confusable(counts)

    assert sorted(order.tolist()) == list(range(len(counts)))
    assert order.dtype == np.int32
    assert order_confusable(counts).tolist() == order.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_every_cluster_of_scipy_stands_together(seed: int) -> None:
    """Average linkage by another implementation; no two similarities are the same."""
    counts = np.random.default_rng(seed).integers(1, 10_000, (30, 30))
    alike = measure_similarity(counts)
    joined = hierarchy.linkage(squareform(1 - alike, checks=False), "average")

    places = np.argsort(order_confusable(counts))

    root, nodes = hierarchy.to_tree(joined, rd=True)
    assert root.get_count() == 30
    for node in nodes:
        taken = sorted(places[node.pre_order()].tolist())
        assert taken == list(range(taken[0], taken[0] + len(taken)))


@pytest.mark.parametrize("seed", range(5))
def test_neighbours_are_nearly_as_alike_as_the_tree_allows(seed: int) -> None:
    """Against the best order of the same tree, which takes too long for many classes."""
    counts = np.random.default_rng(seed).integers(1, 100, (40, 40))
    alike = measure_similarity(counts)
    best = hierarchy.leaves_list(
        hierarchy.linkage(squareform(1 - alike, checks=False), "average", optimal_ordering=True)
    )

    def along(order: np.ndarray) -> float:
        return float(alike[order[:-1], order[1:]].sum())

    assert along(order_confusable(counts)) > 0.9 * along(best)
    assert along(order_confusable(counts)) > 1.2 * along(np.arange(40))


@pytest.mark.parametrize("classes", [0, 1, 4])
def test_classes_never_confused_keep_their_order(classes: int) -> None:
    assert order_confusable(np.diag(np.arange(classes))).tolist() == list(range(classes))
