"""Pages of samples: the same as filtering and sorting all of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tb_batchview import analysis, samples
from tb_batchview.records import OutputSpec
from tb_batchview.samples import OUTCOMES, Filter, Samples
from tb_batchview.views import SampleView

SPEC = OutputSpec("multiclass", 3)
SORTS = ("step", "sample", *samples.COLUMNS)


def make_samples(sizes: list[int], first: int, last: int, task: str = "multiclass", seed: int = 0) -> Samples:
    """Return samples with ties, NaN, infinities and some without classes."""
    generator = np.random.default_rng(seed)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    values = np.array([0.1, 0.5, 0.8, 0.9, np.nan, np.inf, -np.inf], np.float32)
    columns = dict(
        zip(("target", "predicted"), generator.integers(-1, 3, (2, starts[-1])).astype(np.int32), strict=True)
    )
    for name in ("confidence", "target_score", "sample_loss", *(["error"] if task != "multiclass" else [])):
        columns[name] = generator.choice(values, starts[-1])
    return Samples(SampleView(starts, columns), OutputSpec(task, 3), first, last)


def list_rows(
    sizes: list[int], first: int, last: int, task: str = "multiclass", seed: int = 0
) -> list[dict[str, float]]:
    """Return the same as a list of rows."""
    found = make_samples(sizes, 0, len(sizes), task, seed)._view
    rows = []
    for step in range(first, last):
        for sample in range(sizes[step]):
            place = int(found.starts[step]) + sample
            row = {name: float(column[place]) for name, column in found.columns.items()} | {
                "step": step,
                "sample": sample,
            }
            row["loss"] = row["sample_loss"]
            if task == "multiclass":
                known = row["target"] >= 0 and row["predicted"] >= 0
                row["error"] = float(row["target"] != row["predicted"]) if known else np.nan
            rows.append(row)
    return rows


def keep(row: dict[str, float], chosen: Filter, task: str) -> bool:
    known = row["target"] >= 0 and row["predicted"] >= 0
    several = row["target"] < 0 and task == "multilabel"
    right = (known and row["target"] == row["predicted"]) or (several and row["error"] == 0)
    wrong = (known and row["target"] != row["predicted"]) or (several and row["error"] > 0)
    outcome = {
        "all": True,
        "correct": right,
        "wrong": wrong,
        "confidently_wrong": wrong and row["confidence"] >= np.float32(analysis.CONFIDENT),
    }
    return (
        outcome[chosen.outcome]
        and chosen.target in (None, row["target"])
        and chosen.predicted in (None, row["predicted"])
    )


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=12),
    st.sampled_from(["multiclass", "multilabel", "regression"]),
    st.builds(Filter, st.sampled_from(OUTCOMES), st.none() | st.integers(0, 2), st.none() | st.integers(0, 2)),
    st.sampled_from(SORTS),
    st.booleans(),
    st.data(),
)
def test_any_page_is_that_of_all_sorted(
    sizes: list[int], task: str, chosen: Filter, sort: str, descending: bool, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, len(sizes)))
    last = data.draw(st.integers(first, len(sizes)))
    seed, offset, limit = data.draw(st.integers(0, 50)), data.draw(st.integers(0, 60)), data.draw(st.integers(1, 60))
    rows = [
        (number, row) for number, row in enumerate(list_rows(sizes, first, last, task, seed)) if keep(row, chosen, task)
    ]
    absent = [
        item for item in rows if np.isnan(item[1][sort]) or (sort in ("target", "predicted") and item[1][sort] < 0)
    ]
    known = [item for item in rows if item not in absent]
    known.sort(key=lambda item: (-1 if descending else 1) * item[1][sort])
    expected = [number for number, _ in [*known, *absent]]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "STRETCH", data.draw(st.sampled_from([1, 4, 7, 1 << 16])))
        found = make_samples(sizes, first, last, task, seed)
        numbers, total = found.find(chosen, sort, descending=descending, offset=offset, limit=limit)
        counted = found.count(chosen)

    assert total == counted == len(expected)
    assert numbers.tolist() == expected[offset : offset + limit]


def test_a_page_of_millions_of_samples_is_the_same_near_and_far(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(3)
    starts = np.arange(0, 1_000_001, 100)
    loss = generator.exponential(size=1_000_000).astype(np.float32)
    found = Samples(SampleView(starts, {"sample_loss": loss}), SPEC, 0, 10_000)
    expected = np.argsort(-loss, kind="stable")

    for offset in (0, 100, 5_000, 500_000, 999_950):
        numbers, total = found.find(Filter(), "loss", descending=True, offset=offset, limit=100)
        assert (numbers.tolist(), total) == (expected[offset : offset + 100].tolist(), 1_000_000)


def test_errors_are_averaged_from_the_counts() -> None:
    rows = [row["error"] for row in list_rows([5] * 20, 3, 17)]

    assert make_samples([5] * 20, 3, 17).mean_error() == pytest.approx(np.nanmean(rows))
    assert make_samples([0] * 4, 0, 4).mean_error() is None


def test_samples_are_located_among_empty_batches() -> None:
    found = make_samples([0, 2, 0, 0, 3, 0], 1, 6)

    assert [found.locate(number) for number in range(len(found))] == [(1, 0), (1, 1), (4, 0), (4, 1), (4, 2)]
    assert found.take("sample", np.array([4, 0, 3])).tolist() == [2, 0, 1]
