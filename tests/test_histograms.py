"""Histograms with axes of their own: onto a common axis, merged, cropped."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tb_batchview import analysis
from tb_batchview.histograms import MERGED_BINS, Histograms, join, usual_range, whole_range


def rebin(low: np.ndarray, high: np.ndarray, counts: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return Histograms.of(low, high, counts).between(edges)


histograms = st.lists(
    st.tuples(
        st.floats(-1e3, 1e3),
        st.floats(0, 1e3),
        st.lists(st.integers(0, 100), min_size=5, max_size=5),
    ),
    min_size=1,
    max_size=6,
)


@settings(deadline=None)
@given(histograms, st.integers(1, 80))
def test_rebinning_conserves_mass(drawn: list[tuple[float, float, list[int]]], bins: int) -> None:
    low = np.array([first for first, _, _ in drawn])
    high = low + np.array([width for _, width, _ in drawn])
    counts = np.array([row for _, _, row in drawn], np.float32)

    spread = rebin(low, high, counts, analysis.common_edges(low, high, bins))

    assert spread.shape == (len(drawn), bins)
    assert (spread >= 0).all()
    assert np.allclose(spread.sum(axis=1), counts.sum(axis=1))


def test_rebinning_equals_numpy_on_values_that_lie_evenly() -> None:
    values = np.linspace(0, 1, 40_001)[:-1] + 1 / 80_000
    counts, _ = np.histogram(values, bins=16, range=(0, 1))
    edges = np.linspace(-0.5, 1.5, 41)
    expected, _ = np.histogram(values, bins=edges)

    spread = rebin(np.array([0.0]), np.array([1.0]), counts[None, :], edges)

    assert np.allclose(spread[0], expected, atol=1)


def test_a_histogram_of_one_value_falls_into_its_bin() -> None:
    edges = np.array([0.0, 1.0, 2.0, 3.0])
    low = np.array([1.0, 3.0, 0.5])

    spread = rebin(low, low, np.array([[2, 3], [1, 0], [0, 4]]), edges)

    assert spread.tolist() == [[0, 5, 0], [0, 0, 1], [4, 0, 0]]


def test_a_histogram_that_is_not_finite_counts_as_empty() -> None:
    low, high = np.array([np.nan, 0.0]), np.array([np.nan, 2.0])

    edges = analysis.common_edges(low, high, 2)

    assert edges.tolist() == [0.0, 1.0, 2.0]
    assert rebin(low, high, np.array([[5, 5], [1, 3]]), edges).tolist() == [[0, 0], [1, 3]]
    assert rebin(low, high, np.array([[5, 5], [np.inf, 3]]), edges).tolist() == [[0, 0], [0, 3]]


# --- merged ---


def grid(least: float, most: float) -> st.SearchStrategy[float]:
    """Draw numbers that no rounding brings to one another."""
    return st.integers(round(least * 1024), round(most * 1024)).map(lambda number: number / 1024)


parts = st.lists(
    st.tuples(
        grid(-1e3, 1e3) | st.just(np.nan) | st.just(0.0),
        grid(0, 1e3) | st.just(0.0) | st.just(1e30),
        st.lists(st.integers(0, 1000), min_size=4, max_size=4),
    ),
    min_size=8,
    max_size=8,
)


def make(drawn: list[tuple[float, float, list[int]]]) -> Histograms:
    low = np.array([first for first, _, _ in drawn])
    return Histograms.of(low, low + np.array([width for _, width, _ in drawn]), np.array([row for *_, row in drawn]))


@settings(deadline=None)
@given(parts)
def test_merging_keeps_the_mass_and_the_ends(drawn: list[tuple[float, float, list[int]]]) -> None:
    rows = make(drawn)

    for merged in (rows.merged(8), rows.merged(2).merged(4)):
        assert merged.total.tolist() == [rows.total.sum()]
        assert (np.diff(merged.below[0]) >= 0).all()
        assert (np.diff(merged.knots[0]) >= 0).all()
        assert whole_range([merged]) == whole_range([rows])


@settings(deadline=None)
@given(parts, st.lists(grid(-2e3, 2e3), min_size=2, max_size=9, unique=True))
def test_a_merged_count_is_right_up_to_one_bin(drawn: list[tuple[float, float, list[int]]], ends: list[float]) -> None:
    rows, edges = make(drawn), np.sort(ends)
    merged = rows.merged(8)
    axis = np.concatenate([merged._edge(np.array([number])) for number in range(sum(MERGED_BINS) + 1)])

    found, expected = merged.below_at(edges)[0], rows.below_at(edges).sum(axis=0)

    for edge, count, right in zip(edges[:-1], found[:-1], expected[:-1], strict=True):
        # What is below the bin that the edge is in, and with it.
        first = max(int(np.searchsorted(axis, edge, side="left")) - 1, 0)
        last = min(int(np.searchsorted(axis, edge, side="right")), len(axis) - 1)
        slack = 1e-9 * rows.total.sum()
        assert merged.below[0, first] - slack <= count <= merged.below[0, last] + slack
        assert merged.below[0, first] - slack <= right <= merged.below[0, last] + slack


def test_one_wild_batch_costs_the_others_no_detail() -> None:
    rng = np.random.default_rng(0)
    values = [rng.normal(size=4000) * (1e6 if batch == 3 else 1.0) for batch in range(32)]
    rows = join(
        [Histograms.of(v.min(keepdims=True), v.max(keepdims=True), np.histogram(v, 30)[0][None]) for v in values]
    )
    edges = np.linspace(-3, 3, 13)
    expected = sum(np.histogram(v, edges)[0] for number, v in enumerate(values) if number != 3)

    for merged in (rows.merged(8).merged(4), rows.merged(32)):
        assert np.abs(merged.between(edges)[0] - expected).sum() < 0.03 * expected.sum()


def test_the_usual_range_leaves_out_what_hardly_any_histogram_has() -> None:
    counts = np.full((40, 10), 7)
    low, high = np.full(40, -1.0), np.full(40, 2.0)
    plain = Histograms.of(low, high, counts)
    high[17] = 1e9
    wild = Histograms.of(low, high, counts)

    assert usual_range([plain]) == whole_range([plain]) == (-1.0, 2.0)
    assert whole_range([wild]) == (-1.0, 1e9)
    first, last = usual_range([wild[:20], wild[20:]]) or (0.0, 0.0)
    assert (first, last) == (-1.0, pytest.approx(2.15))
    # Of a few histograms one may be left out from eight on; three of forty are no exception.
    assert usual_range([wild[11:18]]) == (-1.0, 1e9)
    assert (usual_range([wild[10:18]]) or (0, 0))[1] < 3
    high[:3] = 1e9
    assert usual_range([Histograms.of(low, high, counts)]) == (-1.0, 1e9)


def test_a_wild_batch_within_a_block_is_left_out_by_its_mass() -> None:
    high = np.full(4096, 2.0)
    high[5] = 1e9
    block = Histograms.of(np.zeros(4096), high, np.full((4096, 10), 7)).merged(4096)

    assert whole_range([block]) == (0.0, 1e9)
    assert (usual_range([block]) or (0, 0))[1] < 3


def test_without_values_there_is_no_range() -> None:
    nothing = Histograms.of(np.array([np.nan]), np.array([1.0]), np.array([[1, 2]]))

    assert (usual_range([]), whole_range([nothing]), usual_range([nothing])) == (None, None, None)
    assert nothing.merged(1).total.tolist() == [0]
    constant = Histograms.of(np.ones(9), np.ones(9), np.full((9, 3), 4))
    assert usual_range([constant]) == (1.0, 1.0)
    assert constant.merged(9).between(np.array([0.0, 1.0, 2.0])).tolist() == [[0, 108]]


def test_other_bins_keep_mass_and_ends() -> None:
    rows = Histograms.of(np.array([0.0, 5.0]), np.array([4.0, 5.0]), np.array([[1, 2, 3, 4], [1, 0, 0, 2]]))

    assert rows.with_bins(4) is rows
    assert np.diff(rows.with_bins(8).below).tolist()[0] == [0.5, 0.5, 1, 1, 1.5, 1.5, 2, 2]
    assert rows.with_bins(2).below[:, -1].tolist() == [10, 3]
