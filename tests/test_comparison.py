"""Two runs against each other: against loops over their rows and classes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tb_batchview import analysis, comparison
from tb_batchview.errors import ArgumentError
from tb_batchview.records import OutputSpec

STEPS = st.lists(st.integers(0, 40), max_size=12)


@given(STEPS, STEPS.map(lambda steps: sorted(set(steps))))
def test_each_step_finds_its_row(steps: list[int], other: list[int]) -> None:
    rows = comparison.match_steps(np.array(steps, np.int64), np.array(other, np.int64))

    assert rows.tolist() == [other.index(step) if step in other else -1 for step in steps]


def test_classes_in_another_order_are_matched_by_name() -> None:
    found = comparison.match_classes(
        OutputSpec("multiclass", 3, None, ("cat", "dog", "car")),
        OutputSpec("multiclass", 4, None, ("dog", "sky", "cat", "sea")),
    )

    assert (found.numbers.tolist(), found.by, found.missing) == ([2, 0, -1], "name", 2)


@pytest.mark.parametrize(
    "names",
    [
        (None, None),
        (("a", "b", "c"), None),
        (("a", "a", "c"), ("a", "b")),  # which "a"?
        (("a", "", "c"), ("a", "b")),
        (("a", "b"), ("b", "a")),  # class 2 has no name
    ],
)
def test_classes_without_names_of_their_own_are_matched_by_number(
    names: tuple[tuple[str, ...] | None, tuple[str, ...] | None],
) -> None:
    found = comparison.match_classes(
        OutputSpec("multiclass", 3, None, names[0]), OutputSpec("multiclass", 2, None, names[1])
    )

    assert (found.numbers.tolist(), found.by, found.missing) == ([0, 1, -1], "number", 0)


@pytest.mark.parametrize(
    ("task", "other", "alike"),
    [("multiclass", "binary", True), ("multilabel", "multilabel", True), ("multiclass", "multilabel", False)],
)
def test_only_tasks_of_one_kind_are_compared(task: str, other: str, alike: bool) -> None:
    specs = OutputSpec(task, 2), OutputSpec(other, 2)
    if alike:
        comparison.check_tasks(*specs)
        return
    with pytest.raises(ArgumentError, match="Received: 'multiclass' against 'multilabel'"):
        comparison.check_tasks(*specs)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=60), st.permutations(range(4)))
def test_changes_are_those_of_the_matching_rows(samples: list[tuple[int, int]], order: list[int]) -> None:
    target, predicted = (np.array([pair[side] for pair in samples], np.int64) for side in (0, 1))
    report = analysis.report_classes(target, predicted, 4)
    other = analysis.report_classes(target[::2], predicted[::2], 3)
    numbers = np.where(np.array(order) < 3, order, -1)

    changes = comparison.compare_reports(report, other, numbers)

    for number, match in enumerate(numbers.tolist()):
        row = report[number]
        for name in comparison.FIGURES:
            expected = np.nan if match < 0 else getattr(row, name) - getattr(other[match], name)
            np.testing.assert_equal(changes.by[name][number], expected)
        for name in comparison.BOUNDED:
            if match < 0:
                assert not changes.apart[name][number]
                continue
            ends = [(getattr(item, f"{name}_low"), getattr(item, f"{name}_high")) for item in (row, other[match])]
            assert changes.apart[name][number] == (ends[0][0] > ends[1][1] or ends[1][0] > ends[0][1])


def test_a_matrix_of_some_classes_is_put_among_all() -> None:
    spread = comparison.spread_counts(np.array([[1, 2], [3, 4]]), np.array([0, 2]), 3)

    assert spread.tolist() == [[1, 0, 2], [0, 0, 0], [3, 0, 4]]
