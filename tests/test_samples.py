"""Pages of samples: the same as filtering and sorting all of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tb_batchview import analysis, dynamics, samples
from tb_batchview.identity import Ids
from tb_batchview.records import OutputSpec
from tb_batchview.samples import OUTCOMES, Filter, Followed, Samples
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


BOUNDS = st.sampled_from([None, -1.0, 0.1, 0.5, 0.9, 1e300])


def order_bounds(pair: tuple[float | None, float | None]) -> tuple[float | None, float | None]:
    low, high = pair
    return pair if low is None or high is None or low <= high else (high, low)


RANGES = st.tuples(BOUNDS, BOUNDS).map(order_bounds)


def within(value: float, bounds: tuple[float | None, float | None]) -> bool:
    low, high = bounds
    if bounds == (None, None):
        return True
    # The columns have single precision: past its greatest number there is only infinity.
    low, high = (None if end is None else np.inf if end > 1e38 else float(np.float32(end)) for end in (low, high))
    return not np.isnan(value) and (low is None or value >= low) and (high is None or value <= high)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=12),
    st.builds(
        Filter,
        st.sampled_from(OUTCOMES),
        confidence=RANGES,
        loss=RANGES,
        each=st.sampled_from(samples.EACH),
        learning=st.sampled_from(samples.LEARNING),
        mean_target_score=RANGES,
        variability=RANGES,
    ),
    st.sampled_from((*SORTS, *dynamics.FIGURES)),
    st.booleans(),
    st.data(),
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # infinite scores have no mean
def test_any_page_of_followed_samples_is_that_of_all_sorted(
    sizes: list[int], chosen: Filter, sort: str, descending: bool, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, len(sizes)))
    last = data.draw(st.integers(first, len(sizes)))
    seed, ids = data.draw(st.integers(0, 50)), data.draw(st.integers(1, 5))
    wanted = data.draw(st.none() | st.lists(st.booleans(), min_size=ids, max_size=ids))
    found = make_samples(sizes, 0, len(sizes), seed=seed)
    codes = np.random.default_rng(seed).integers(-1, ids, len(found)).astype(np.int32)
    begin, end = int(found._view.starts[first]), int(found._view.starts[last])
    names = [f"id {code}" for code in range(ids)]
    known = Ids(codes, {name: code for code, name in enumerate(names)}, list(names))
    columns = [found.column(name)[begin:end] for name in ("target", "predicted", "confidence", "target_score")]
    figures = dynamics.follow_samples(codes[begin:end], ids, *columns)
    rows = list_rows(sizes, first, last, seed=seed)
    kept = []
    for number, row in enumerate(rows):
        code = int(codes[begin + number])
        row |= {
            name: float(np.float32(getattr(figures, name)[code])) if code >= 0 else np.nan for name in dynamics.FIGURES
        }
        by_id = chosen.learning != "all" or {chosen.mean_target_score, chosen.variability} != {(None, None)}
        if (
            keep(row, chosen, "multiclass")
            and within(row["confidence"], chosen.confidence)
            and within(row["loss"], chosen.loss)
            and (chosen.each == "all" or (code >= 0 and code not in codes[begin + number + 1 : end]))
            and (wanted is None or (code >= 0 and wanted[code]))
            and (not by_id or row["seen"] > 0)
            and (chosen.learning != "forgotten" or row["forgetting"] > 0)
            and (chosen.learning != "never_learned" or row["correctness"] == 0)
            and within(row["mean_target_score"], chosen.mean_target_score)
            and within(row["variability"], chosen.variability)
        ):
            kept.append((number, row))
    absent = [
        item for item in kept if np.isnan(item[1][sort]) or (item[1][sort] < 0 and sort in ("target", "predicted"))
    ]
    present = [item for item in kept if item not in absent]
    present.sort(key=lambda item: (-1 if descending else 1) * item[1][sort])
    expected = [number for number, _ in [*present, *absent]]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "STRETCH", data.draw(st.sampled_from([1, 7, 1 << 16])))
        looked = Samples(found._view, SPEC, first, last, Followed(known, figures))
        marks = None if wanted is None else np.array(wanted)
        numbers, total = looked.find(
            dataclasses.replace(chosen, codes=marks), sort, descending=descending, offset=2, limit=20
        )

    assert total == len(expected)
    assert numbers.tolist() == expected[2:22]
    assert looked.codes(numbers).tolist() == codes[begin + numbers].tolist()


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
