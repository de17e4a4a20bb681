"""How samples were learned: the same as going through each one's history."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import make_record, make_scores, write

from tb_batchview import dynamics
from tb_batchview.dynamics import follow_samples, mark_last
from tb_batchview.errors import ArgumentError
from tb_batchview.log import load
from tb_batchview.records import OutputRecord, OutputSpec


def draw_columns(seed: int, samples: int, ids: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    scores = generator.dirichlet(np.ones(3), samples).astype(np.float32)
    target = generator.integers(-1, 3, samples).astype(np.int32)
    columns = {
        "codes": generator.integers(-1, ids, samples).astype(np.int32),
        "target": target,
        "predicted": scores.argmax(axis=1).astype(np.int32),
        "confidence": scores.max(axis=1),
        "target_score": np.where(target < 0, np.nan, scores[np.arange(samples), target]).astype(np.float32),
    }
    broken = generator.random(samples) < 0.1  # a prediction of NaN
    columns["predicted"][broken] = -1
    columns["confidence"][broken] = columns["target_score"][broken] = np.nan
    return columns


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(0, 80), st.integers(1, 12))
def test_figures_are_those_of_each_history(seed: int, samples: int, ids: int) -> None:
    columns = draw_columns(seed, samples, ids)

    found = follow_samples(count=ids, **columns)

    for code in range(ids):
        mine = [
            place for place in range(samples) if columns["codes"][place] == code and columns["target_score"][place] >= 0
        ]
        right = [columns["target"][place] == columns["predicted"][place] for place in mine]
        scores = [float(columns["target_score"][place]) for place in mine]
        margin = [
            max(0.0, 2 * float(columns["confidence"][place]) - 1)
            if hit
            else score - float(columns["confidence"][place])
            for place, hit, score in zip(mine, right, scores, strict=True)
        ]
        assert found.seen[code] == len(mine)
        assert found.forgetting[code] == sum(a and not b for a, b in itertools.pairwise(right))
        figures = [getattr(found, name)[code] for name in dynamics.FIGURES if name not in ("seen", "forgetting")]
        expected = [np.mean(scores), np.std(scores), np.mean(right), np.mean(margin)] if mine else [np.nan] * 4
        assert figures == pytest.approx(expected, rel=1e-5, abs=1e-6, nan_ok=True)
        assert found.never_learned[code] == (bool(mine) and not any(right))


def test_figures_equal_pandas_on_real_batches(tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    records = []
    for step in range(40):
        predictions, targets = make_scores(step, 16)
        ids = generator.integers(0, 50, 16)
        records.append(
            make_record(step, samples=16, outputs={"scores": OutputRecord(predictions, targets, sample_ids=ids)})
        )
    write(tmp_path, records)
    run = load(tmp_path)["."]
    table = run.to_pandas("train")
    table = table[(table.step >= 5) & (table.step < 33)]
    table["right"] = (table.target == table.predicted).astype(float)
    table["forgets"] = table.groupby("sample_id").right.diff() == -1
    groups = table.groupby("sample_id", sort=False)

    found = run.data_map("train", 5, 33)

    by_id = pandas.DataFrame({name: getattr(found, name) for name in dynamics.FIGURES}, index=found.ids)
    assert found.ids.dtype == np.int64
    assert set(by_id.index) == set(groups.groups)
    by_id = by_id.loc[list(groups.groups)]
    assert by_id.seen.tolist() == groups.size().loc[by_id.index].tolist()
    assert np.allclose(by_id.mean_target_score, groups.target_score.mean().loc[by_id.index])
    assert np.allclose(by_id.variability, groups.target_score.std(ddof=0).loc[by_id.index], atol=1e-6)
    assert np.allclose(by_id.correctness, groups.right.mean().loc[by_id.index])
    assert by_id.forgetting.tolist() == groups.forgets.sum().loc[by_id.index].tolist()


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_margin_is_exact_or_the_least_it_can_be(classes: int) -> None:
    generator = np.random.default_rng(classes)
    scores = generator.dirichlet(np.ones(classes), 500)
    target, predicted = generator.integers(0, classes, 500), scores.argmax(axis=1)
    others = scores.copy()
    others[np.arange(500), target] = -1
    truth = scores[np.arange(500), target] - others.max(axis=1)

    found = dynamics.margins(target, predicted, scores.max(axis=1), scores[np.arange(500), target])

    exact = (target != predicted) | (classes == 2)
    assert np.allclose(found[exact], truth[exact])
    assert np.all(found <= truth + 1e-12)
    assert np.all((found >= 0) == (truth >= 0))


@given(st.lists(st.integers(-1, 4), max_size=30))
def test_the_last_time_of_each_is_marked(codes: list[int]) -> None:
    expected = [code >= 0 and code not in codes[place + 1 :] for place, code in enumerate(codes)]

    assert mark_last(np.array(codes, np.int32), 5).tolist() == expected


def test_an_even_draw_keeps_all_or_spreads() -> None:
    assert dynamics.draw_evenly(np.arange(4), 4).tolist() == [0, 1, 2, 3]
    assert dynamics.draw_evenly(np.arange(10), 4).tolist() == [0, 2, 5, 7]


def test_labels_and_numbers_have_histories_and_no_map(tmp_path: Path) -> None:
    values = np.arange(8, dtype=np.float32)[:, None]
    output = OutputRecord(values + 1, values, sample_ids=np.arange(8) // 2)
    write(tmp_path, [make_record(0, outputs={"age": output})], specs={"age": OutputSpec("regression", 0)})
    run = load(tmp_path)["."]

    assert run.sample_history("train", 1).error.tolist() == [1, 1]
    with pytest.raises(ArgumentError, match=r"data map needs one class per sample\. Received: output='age'"):
        run.data_map("train")
