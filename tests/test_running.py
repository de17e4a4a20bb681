"""Sums and spikes of growing runs: the same as counting the range at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tb_batchview import analysis, running
from tb_batchview.running import RunningSpikes, RunningSums
from tb_batchview.views import SampleView


def make_view(sizes: list[int], classes: int = 3, seed: int = 0) -> SampleView:
    """Return as many batches of random classes, some samples without one."""
    generator = np.random.default_rng(seed)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    target, predicted = generator.integers(-1, classes, (2, starts[-1])).astype(np.int32)
    confidence = generator.random(starts[-1]).astype(np.float32)
    return SampleView(starts, {"target": target, "predicted": predicted, "confidence": confidence})


def cut(view: SampleView, batches: int) -> SampleView:
    """Return the snapshot of when there were fewer batches."""
    return SampleView(
        view.starts[: batches + 1],
        {name: column[: view.starts[batches]] for name, column in view.columns.items()},
        view.sums,
    )


def count_pairs(view: SampleView, first: int, last: int, classes: int) -> list[list[int]]:
    table = [[0] * classes for _ in range(classes)]
    span = slice(view.starts[first], view.starts[last])
    for target, predicted in zip(view.columns["target"][span], view.columns["predicted"][span], strict=True):
        if target >= 0 and predicted >= 0:
            table[target][predicted] += 1
    return table


def test_an_older_snapshot_needs_no_batch_that_came_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "MOST_SUMS", 8)
    whole = make_view([3] * 50)
    whole.count_confusion(3, 0, 50)

    for batches in range(50):
        view = cut(whole, batches)
        assert view.count_confusion(3, 0, batches).tolist() == count_pairs(view, 0, batches, 3)
        assert view.count_confusion(3, batches // 2, batches).tolist() == count_pairs(view, batches // 2, batches, 3)


@settings(deadline=None)
@given(st.lists(st.integers(0, 20), max_size=40), st.data())
def test_any_range_of_any_snapshot_is_counted(sizes: list[int], data: st.DataObject) -> None:
    whole = make_view(sizes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "MOST_SUMS", data.draw(st.sampled_from([2, 3, 8, 4096])))
        patch.setattr(running, "BYTES_PER_SAMPLE", data.draw(st.sampled_from([0, 2, 1000])))
        for _ in range(4):
            batches = data.draw(st.integers(0, len(sizes)))
            first = data.draw(st.integers(0, batches))
            last = data.draw(st.integers(first, batches))
            view = cut(whole, batches)

            table = count_pairs(view, first, last, 3)
            support, predicted, hits = view.count_classes(3, (first, last))[0].tolist()

            assert view.count_confusion(3, first, last).tolist() == table
            assert support == [sum(row) for row in table]
            assert predicted == [sum(column) for column in zip(*table, strict=True)]
            assert hits == [table[number][number] for number in range(3)]
            assert view.count_outcomes(first, last).sum() == sum(support)


def test_samples_are_looked_at_once_however_often_a_range_is_asked_for() -> None:
    view = make_view([64] * 4096)
    looked = 0

    def count(first: int, last: int) -> np.ndarray:
        nonlocal looked
        looked += last - first
        return analysis.count_confusion(view.column("target", first, last), view.column("predicted", first, last), 3)

    sums = RunningSums()
    for number in range(100):
        sums.count(count, (10 * number, 4096 - 10 * number), batches=4096, samples=len(view.columns["target"]))

    # All once, and then what lies between the ends of a range and the nearest sums.
    assert looked == 4096


def test_sums_stay_within_their_bound() -> None:
    sums = RunningSums()
    samples = 1_000_000
    size = 0
    for batches in (10, 1_000, 100_000, 10_000_000):
        sums.count(
            lambda first, last: np.full((100, 100), last - first), (0, batches), batches=batches, samples=samples
        )
        kept, size = sums._sums, sums._size
        assert sum(item.nbytes for item in kept[1:]) <= min(running.MOST_BYTES, running.BYTES_PER_SAMPLE * samples)
    assert size > 1


def test_no_sum_is_kept_where_it_is_as_large_as_the_samples() -> None:
    view = make_view([4] * 50, classes=1000)

    assert view.count_confusion(1000, 3, 47).sum() > 0
    assert len(view.sums["confusion", 1000]._sums) == 1


def test_threads_that_count_at_once_agree() -> None:
    sizes = np.random.default_rng(1).integers(0, 30, 3_000).tolist()
    whole = make_view(sizes)

    def ask(seed: int) -> bool:
        generator = np.random.default_rng(seed)
        batches = int(generator.integers(1, 3_001))
        first, last = sorted(generator.integers(0, batches + 1, 2).tolist())
        counted = cut(whole, batches).count_confusion(3, first, last)
        target, predicted = whole.column("target", first, last), whole.column("predicted", first, last)
        return np.array_equal(counted, analysis.count_confusion(target, predicted, 3))

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(300)))


def test_spikes_of_a_growing_run_are_those_of_the_whole() -> None:
    generator = np.random.default_rng(2)
    losses = 1 + 0.1 * generator.random(2_000)
    losses[generator.integers(0, 2_000, 30)] *= generator.uniform(3, 20, 30)
    losses[[5, 700, 701, 1_500]] = np.nan
    rows, ratios = analysis.mark_spikes(losses)
    spikes = RunningSpikes()

    for last in (1, 40, 41, 690, 701, 702, 1_999, 2_000):
        first = last // 3
        within = (rows >= first) & (rows < last)
        expected = analysis.rank_spikes(losses, rows[within], ratios[within], 20)
        assert str(spikes.find(losses[:last], first, last, 20)) == str(expected)

    # An older snapshot does not see what came after it.
    assert all(spike.row < 50 for spike in spikes.find(losses[:50], 0, 50, 20))
