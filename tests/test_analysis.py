"""Counting and summarising: against scikit-learn, plain loops and invariants."""

from __future__ import annotations

import dataclasses
import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics

from tb_batchview import analysis, tasks
from tb_batchview.records import OutputRecord, OutputSpec

pairs = st.integers(2, 6).flatmap(
    lambda classes: st.tuples(
        st.just(classes),
        st.lists(st.tuples(st.integers(-1, classes - 1), st.integers(-1, classes - 1)), max_size=60),
    )
)
losses = hnp.arrays(np.float64, st.integers(0, 60), elements=st.floats(-1e6, 1e6) | st.just(np.nan) | st.just(np.inf))


def draw_classes(samples: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    target = generator.integers(0, classes, samples).astype(np.int32)
    predicted = np.where(generator.random(samples) < 0.7, target, generator.integers(0, classes, samples))
    return target, predicted.astype(np.int32)


def split(drawn: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    columns = np.array(drawn, np.int32).reshape(-1, 2)
    return columns[:, 0], columns[:, 1]


def test_confusion_equals_scikit_learn() -> None:
    target, predicted = draw_classes(500, 7)
    expected = metrics.confusion_matrix(target, predicted, labels=range(7))

    confusion = analysis.count_confusion(target, predicted, 7)

    assert confusion.dtype == np.int64
    assert confusion.tolist() == expected.tolist()


def test_confusion_leaves_out_samples_without_a_class() -> None:
    target, predicted = np.array([0, -1, 1, 1, 5]), np.array([0, 1, -1, 0, 1])

    assert analysis.count_confusion(target, predicted, 2).tolist() == [[1, 0], [1, 0]]


@settings(deadline=None)
@given(pairs)
def test_confusion_sums_to_the_samples_that_have_classes(drawn: tuple[int, list[tuple[int, int]]]) -> None:
    classes, samples = drawn
    target, predicted = split(samples)

    confusion = analysis.count_confusion(target, predicted, classes)

    assert confusion.sum() == sum(first >= 0 and second >= 0 for first, second in samples)


@settings(deadline=None)
@given(pairs, st.randoms())
def test_permuting_samples_changes_no_confusion(drawn: tuple[int, list[tuple[int, int]]], random: object) -> None:
    classes, samples = drawn
    shuffled = list(samples)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    assert np.array_equal(
        analysis.count_confusion(*split(samples), classes), analysis.count_confusion(*split(shuffled), classes)
    )


def test_class_report_equals_scikit_learn() -> None:
    target, predicted = draw_classes(800, 6)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(target, predicted, zero_division=np.nan)

    report = analysis.report_classes(target, predicted, 6)

    assert np.allclose(report.precision, precision)
    assert np.allclose(report.recall, recall)
    assert np.allclose(report.f1, f1)
    assert report.support.tolist() == support.tolist()
    assert report.accuracy == pytest.approx(metrics.accuracy_score(target, predicted))
    assert report.macro_f1 == pytest.approx(metrics.f1_score(target, predicted, average="macro"))


def test_class_report_says_what_is_not_defined() -> None:
    # Class 1 is never predicted, class 2 never a target, class 3 neither.
    target = np.array([0, 0, 0, 0, 0, 1, 1, -1, 3])
    predicted = np.array([0, 0, 0, 0, 2, 0, 0, 1, -1])

    report = analysis.report_classes(target, predicted, 4, ("a", "b", "c"))

    assert [math.isnan(row.precision) for row in report] == [False, True, False, True]
    assert [math.isnan(row.recall) for row in report] == [False, False, True, True]
    assert [math.isnan(row.f1) for row in report] == [False, False, False, True]
    assert [(row.most_confused, row.most_confused_count) for row in report] == [(2, 1), (0, 2), (None, 0), (None, 0)]
    assert [row.class_name for row in report] == ["a", "b", "c", None]
    # As scikit-learn: a class that occurs on one side counts, with an F1 of 0.
    assert report.macro_f1 == pytest.approx((8 / 11 + 0 + 0) / 3)


@settings(deadline=None)
@given(pairs)
def test_class_report_of_a_confusion_matrix_is_that_of_its_samples(drawn: tuple[int, list[tuple[int, int]]]) -> None:
    classes, samples = drawn
    confusion = analysis.count_confusion(*split(samples), classes)
    expected = analysis.report_classes(*split(samples), classes, ("a", "b"))

    report = analysis.report_confusion(confusion, ("a", "b"))

    for field in dataclasses.fields(report):
        found, wanted = getattr(report, field.name), getattr(expected, field.name)
        assert np.array_equal(found, wanted, equal_nan=True) if field.name != "class_names" else found == wanted


def test_a_report_is_a_table_to_be_read() -> None:
    report = analysis.report_confusion(
        np.array([[8, 2, 0], [1, 3, 0], [0, 0, 0]]), ("cat", "a\nlong " + "x" * 99, "fox")
    )

    assert repr(report) == "ClassReport(3 classes, 14 samples, accuracy=0.7857, macro_f1=0.7544)"
    assert str(report).splitlines() == [
        "class                           support  precision  recall     f1  most taken for",
        f"cat                                  10      0.889   0.800  0.842  a long {'x' * 22}… (2)",
        f"a long {'x' * 22}…        4      0.600   0.750  0.667  cat (1)",
        "fox                                   0        nan     nan    nan",
        "accuracy 0.786, macro F1 0.754, 14 samples",
    ]


def test_a_report_of_many_classes_is_not_told_in_full() -> None:
    lines = str(analysis.report_confusion(np.eye(150, dtype=int))).splitlines()

    assert (len(lines), lines[1].split()[0], lines[-3].split()[0], lines[-2]) == (103, "0", "99", "and 50 more")


def test_class_report_of_nothing_is_empty() -> None:
    report = analysis.report_classes(np.zeros(0, int), np.zeros(0, int), 2)

    assert (report.samples, report.support.tolist()) == (0, [0, 0])
    assert math.isnan(report.accuracy)
    assert math.isnan(report.macro_f1)


def test_class_report_refuses_a_class_that_is_not() -> None:
    with pytest.raises(IndexError, match=r"class must be below 2. Received: class=2"):
        analysis.report_classes(np.zeros(0, int), np.zeros(0, int), 2)[2]


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_equals_published_values(successes: int, total: int, low: float, high: float) -> None:
    found = analysis.wilson_interval(np.array([successes]), np.array([total]))

    assert (round(float(found[0][0]), 4), round(float(found[1][0]), 4)) == (low, high)


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(0, 1000))
def test_wilson_interval_holds_the_share(first: int, second: int) -> None:
    successes, total = sorted((first, second))
    low, high = analysis.wilson_interval(np.array([successes]), np.array([total]))

    if total:
        assert 0 <= low[0] <= successes / total <= high[0] <= 1
    else:
        assert np.isnan([low[0], high[0]]).all()


def test_bounds_of_f1_are_those_of_the_share_it_follows_from() -> None:
    # 60 right, 15 missed, 25 wrongly called so: F* is 60 of 100, whose Wilson interval is 0.5020 to 0.6906.
    low, high = analysis.bound_f1(np.array([60, 0, 0]), np.array([100, 20, 0]))

    assert [low[0], high[0]] == pytest.approx([2 * share / (1 + share) for share in (0.50200, 0.69060)], abs=1e-5)
    assert (low[1], round(float(high[1]), 4)) == (0, round(2 * 0.16113 / 1.16113, 4))
    assert np.isnan([low[2], high[2]]).all()


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=60))
def test_every_figure_of_a_report_lies_within_its_bounds(pairs: list[tuple[int, int]]) -> None:
    target, predicted = np.array(pairs, np.int64).reshape(-1, 2).T
    report = analysis.report_classes(target, predicted, 4)

    for name in ("precision", "recall", "f1"):
        low, value, high = (getattr(report, name + end) for end in ("_low", "", "_high"))
        known = ~np.isnan(value)
        assert (~np.isnan(low)).tolist() == (~np.isnan(high)).tolist() == known.tolist()
        assert (low[known] <= value[known] + 1e-12).all()
        assert (value[known] <= high[known] + 1e-12).all()
        assert getattr(report[0], f"{name}_low") == pytest.approx(low[0], nan_ok=True)


def test_label_report_equals_scikit_learn() -> None:
    generator = np.random.default_rng(3)
    targets = (generator.random((200, 4)) < 0.4).astype(np.float32)
    scores = np.clip(targets * 0.4 + generator.random((200, 4)) * 0.6, 0, 1)
    predicted = scores >= 0.5
    precision, recall, f1, support = metrics.precision_recall_fscore_support(targets, predicted, zero_division=np.nan)

    report = analysis.report_labels(analysis.count_labels(targets, scores))

    assert np.allclose([report.precision, report.recall, report.f1], [precision, recall, f1])
    assert report.support.tolist() == support.tolist()
    assert report.accuracy == pytest.approx(1 - metrics.hamming_loss(targets, predicted))
    assert [row.most_confused for row in report] == [None] * 4


def test_labels_are_counted_as_their_errors_are() -> None:
    """A score of one half is no label, and a masked target no decision."""
    generator = np.random.default_rng(4)
    scores = generator.choice(np.array([0.25, 0.5, 0.75], np.float32), (300, 4))
    targets = generator.choice(np.array([0, 0.5, 1, np.nan], np.float32), (300, 4))
    error = tasks.derive(OutputSpec("multilabel", 4), OutputRecord(scores, targets))["error"]
    known = ~np.isnan(targets)

    report = analysis.report_labels(analysis.count_labels(targets, scores))
    wrong = analysis.count_label_errors(targets, scores)

    for label in range(4):
        truth, decided = (values[known[:, label], label] > 0.5 for values in (targets, scores))
        expected = metrics.precision_recall_fscore_support(truth, decided, average="binary")
        assert np.allclose([report.precision[label], report.recall[label], report.f1[label]], expected[:3])
        assert wrong[label, label] == np.count_nonzero(truth != decided)
    share = np.nansum(error * known.sum(axis=1)) / known.sum()
    assert report.accuracy == pytest.approx(1 - share)
    assert wrong.trace() == round(share * known.sum())


def test_scores_that_are_no_number_decide_no_label() -> None:
    scores = np.array([[np.nan, 0.75], [np.nan, 0.25], [0.75, 0.75]], np.float32)
    targets = np.array([[1, 1], [0, 1], [1, 0]])

    report = analysis.report_labels(analysis.count_labels(targets, scores))

    assert (report.support.tolist(), report.predicted.tolist()) == ([1, 2], [1, 2])
    assert report.accuracy == 0.5
    assert analysis.count_label_errors(targets, scores).tolist() == [[0, 0], [0, 2]]


@settings(deadline=None)
@given(pairs)
def test_most_confused_is_the_largest_cell_of_its_row(drawn: tuple[int, list[tuple[int, int]]]) -> None:
    classes, samples = drawn
    confusion = analysis.count_confusion(*split(samples), classes)
    np.fill_diagonal(confusion, 0)

    report = analysis.report_classes(*split(samples), classes)

    assert report.most_confused_count.tolist() == confusion.max(axis=1).tolist()
    expected = [int(row.argmax()) if row.any() else -1 for row in confusion]
    assert report.most_confused.tolist() == expected


def test_a_report_of_many_classes_needs_no_matrix() -> None:
    classes = 1_000_000
    target, predicted = np.array([5, 5, 5, classes - 1]), np.array([5, 7, 7, 0])

    report = analysis.report_classes(target, predicted, classes)

    assert (report[5].support, report[5].recall, report[5].most_confused) == (3, pytest.approx(1 / 3), 7)
    assert report[classes - 1].most_confused == 0


def test_picked_classes_are_those_with_most_errors() -> None:
    target, predicted = np.array([0, 1, 1, 2, 2, 2, 0, -1, 3]), np.array([3, 2, 2, 1, 2, 2, 0, 2, 9])

    counts = analysis.count_classes(target, predicted, 4)

    assert counts.tolist() == [[2, 2, 3, 0], [1, 1, 4, 1], [1, 0, 2, 0]]
    assert analysis.pick_classes(counts, 2).tolist() == [1, 2]
    assert analysis.pick_classes(counts, 9).tolist() == [0, 1, 2, 3]


def test_renumbered_classes_are_places_among_the_chosen() -> None:
    assert analysis.renumber(np.array([7, 2, 5, -1, 9]), np.array([2, 7]), 8).tolist() == [1, 0, -1, -1, -1]


@settings(deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 3)), max_size=12), min_size=1, max_size=6))
def test_worst_confusion_equals_a_count_by_hand(batches: list[list[tuple[int, int]]]) -> None:
    target, predicted = split([pair for batch in batches for pair in batch])
    starts = np.cumsum([0, *(len(batch) for batch in batches)])

    found = analysis.find_worst_confusions(target, predicted, starts)

    for number, batch in enumerate(batches):
        wrong = [pair for pair in batch if pair[0] != pair[1] and min(pair) >= 0]
        most = max((wrong.count(pair) for pair in wrong), default=0)
        expected = (*min((p for p in wrong if wrong.count(p) == most), default=(-1, -1)), most)
        assert tuple(int(column[number]) for column in found) == expected


def test_class_mix_counts_both_sides() -> None:
    target, predicted = np.array([3, 3, 3, 1, -1]), np.array([3, 1, 1, 1, 0])

    assert analysis.mix_classes(target, predicted, 100) == [(1, 1, 3), (3, 3, 1), (0, 0, 1)]
    assert analysis.mix_classes(target, predicted, 1) == [(1, 1, 3)]


def test_outcomes_part_the_samples_that_have_classes() -> None:
    target, predicted = np.array([0, 1, 1, 0, -1, 2]), np.array([0, 1, 0, 1, 1, 2])
    confidence = np.array([0.8, 0.79, 0.9, 0.5, 0.9, np.nan], np.float32)

    counts = dict(zip(analysis.OUTCOMES, analysis.count_outcomes(target, predicted, confidence), strict=True))

    assert counts == {"correct_confident": 1, "correct_unsure": 2, "wrong_unsure": 1, "wrong_confident": 1}


singles = hnp.arrays(np.float32, st.integers(1, 60), elements=st.floats(width=32))
numbers = hnp.arrays(np.int32, st.integers(1, 60), elements=st.integers(-(2**31), 2**31 - 1))


@settings(deadline=None)
@given(singles | numbers)
def test_rank_codes_are_in_the_order_of_the_values(values: np.ndarray) -> None:
    codes = analysis.rank_codes(values)

    missing = np.array([math.isnan(value) if values.dtype.kind == "f" else value < 0 for value in values.tolist()])
    assert analysis.mark_missing(values).tolist() == missing.tolist() == (codes == analysis.RANK_CODES - 1).tolist()
    known = values[~missing]
    for first, first_code in zip(known.tolist(), codes[~missing].tolist(), strict=True):
        for second, second_code in zip(known.tolist(), codes[~missing].tolist(), strict=True):
            assert first_code <= second_code if first <= second else first_code >= second_code


@settings(deadline=None)
@given(singles | numbers, st.integers(0, analysis.RANK_CODES - 2), st.integers(0, analysis.RANK_CODES - 2))
def test_marked_codes_are_those_of_the_range(values: np.ndarray, least: int, greatest: int) -> None:
    codes = analysis.rank_codes(values)
    drawn = [(least, greatest), *((int(code), int(code)) for code in codes), (int(codes.min()), int(codes.max()))]

    for low, high in drawn:
        inside = (codes >= low) & (codes <= high) & ~analysis.mark_missing(values)
        assert analysis.mark_codes(values, low, high).tolist() == inside.tolist()


@settings(deadline=None)
@given(losses, st.booleans())
def test_sorting_puts_missing_values_last_in_both_directions(values: np.ndarray, descending: bool) -> None:
    order = analysis.sort_order(values, descending=descending)
    ordered = values[order]
    there = ordered[~np.isnan(ordered)]

    assert sorted(order.tolist()) == list(range(len(values)))
    assert there.tolist() == sorted(values[~np.isnan(values)], reverse=descending)
    assert np.isnan(ordered[len(there) :]).all()


@settings(deadline=None)
@given(st.integers(0, 400), st.integers(0, 400), st.integers(0, 60), st.integers(0, 99), st.booleans())
def test_a_page_of_an_order_is_that_of_the_whole(
    rows: int, offset: int, limit: int, seed: int, descending: bool
) -> None:
    # Few different values, so that the border falls among equal ones.
    drawn = np.random.default_rng(seed).choice([0.0, 1.0, 2.0, 3.0, np.inf, -np.inf, np.nan], rows)

    page = slice(offset, offset + limit)

    whole = analysis.sort_order(drawn, descending=descending)
    found = analysis.sort_order(drawn, descending=descending, offset=page.start, stop=page.stop)

    assert found.tolist() == whole[page].tolist()


def test_sorting_keeps_the_order_of_equal_values() -> None:
    values = np.array([1.0, 2.0, 1.0, 2.0])

    assert analysis.sort_order(values).tolist() == [0, 2, 1, 3]
    assert analysis.sort_order(values, descending=True).tolist() == [1, 3, 0, 2]
    assert analysis.sort_order(np.array([3, -1, 0, -1])).tolist() == [2, 0, 1, 3]


@settings(deadline=None)
@given(losses, st.integers(1, 20))
def test_buckets_lose_no_extreme_and_no_value(values: np.ndarray, points: int) -> None:
    size = analysis.bucket_size(len(values), points)
    buckets = analysis.cut_buckets(values, size)
    pieces = [values[first : first + size] for first in range(0, len(values), size)]

    assert len(buckets.mean) == len(pieces) <= points
    for number, piece in enumerate(pieces):
        finite = piece[np.isfinite(piece)]
        assert buckets.nonfinite[number] == len(piece) - len(finite)
        if len(finite):
            assert (buckets.min[number], buckets.max[number]) == (finite.min(), finite.max())
            assert buckets.mean[number] == pytest.approx(finite.mean(), abs=1e-6)
            assert finite.min() <= buckets.mean[number] <= finite.max()
        else:
            assert np.isnan([buckets.min[number], buckets.max[number], buckets.mean[number]]).all()


def test_smoothing_takes_the_median_of_the_neighbours() -> None:
    buckets = analysis.cut_buckets(np.array([1.0, 2.0, 6.0, np.nan, 4.0]), 1)

    assert analysis.smooth_buckets(buckets, 3).tolist() == [1.5, 2.0, 4.0, 5.0, 4.0]
    assert analysis.smooth_buckets(buckets, 1)[:3].tolist() == [1.0, 2.0, 6.0]


@settings(deadline=None)
@given(losses, st.integers(1, 5), st.integers(0, 12))
def test_smoothing_is_a_running_median_averaged_over_half_the_window(values: np.ndarray, size: int, half: int) -> None:
    buckets = analysis.cut_buckets(values, size)

    def around(series: list[float], place: int, reach: int) -> list[float]:
        return [value for value in series[max(0, place - reach) : place + reach + 1] if not math.isnan(value)]

    # As the docstring says it, one value at a time.
    means = buckets.mean.tolist()
    near = [around(means, place, half) for place in range(len(means))]
    medians = [statistics.median(some) if some else math.nan for some in near]
    short = max(0, (2 * half + 1) // 2 - 1) // 2
    near = [around(medians, place, short) for place in range(len(means))]
    expected = [math.fsum(some) / len(some) if some else math.nan for some in near]

    assert analysis.smooth_buckets(buckets, 2 * half + 1) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("size", [1, 7])
def test_smoothing_leaves_no_trace_of_a_spike(size: int) -> None:
    calm = np.linspace(2.0, 0.5, 700)
    spiked = calm.copy()
    spiked[[100, 101, 350]] = [1e300, np.inf, 20.0]
    smooth, expected = (analysis.smooth_buckets(analysis.cut_buckets(values, size), 15) for values in (spiked, calm))

    # At most the medians around it move on to a neighbour.
    assert smooth == pytest.approx(expected, abs=(calm[0] - calm[1]) * 2 * size)


def test_smoothing_follows_a_step_where_it_is() -> None:
    steps = np.repeat([2.0, 0.5], 50)

    smooth = analysis.smooth_buckets(analysis.cut_buckets(steps, 1), 9)

    assert set(smooth[:48]) == {2.0}
    assert set(smooth[52:]) == {0.5}


def test_smoothing_of_values_that_are_not_finite_is_missing() -> None:
    buckets = analysis.cut_buckets(np.full(40, np.nan), 2)

    assert np.isnan(analysis.smooth_buckets(buckets, 5)).all()


def test_smoothing_of_nothing_is_empty() -> None:
    assert analysis.smooth_buckets(analysis.cut_buckets(np.zeros(0), 1), 5).tolist() == []


def noisy_losses(batches: int) -> np.ndarray:
    generator = np.random.default_rng(5)
    return np.exp(-np.arange(batches) / 300) + 0.05 * generator.random(batches) + 0.3


def find_spikes(losses: np.ndarray, limit: int = 50) -> list[analysis.Spike]:
    return analysis.rank_spikes(losses, *analysis.mark_spikes(losses), limit)


def test_planted_spikes_are_found_and_nothing_else() -> None:
    values = noisy_losses(40_000)
    values[417], values[30_000], values[16_384] = 9.0, 30.0, 5.0
    before = np.median(values[30_000 - analysis.SPIKE_WINDOW : 30_000])

    spikes = find_spikes(values)

    assert [spike.row for spike in spikes] == [30_000, 16_384, 417]
    assert spikes[0].ratio == pytest.approx(30.0 / before)


def test_batches_that_are_not_finite_come_first_once_a_streak() -> None:
    values = noisy_losses(300)
    values[100] = 50.0
    values[200:210] = np.nan
    values[250] = np.inf

    spikes = find_spikes(values)

    assert [(spike.row, spike.ratio is None) for spike in spikes] == [(200, True), (250, True), (100, False)]


def test_a_falling_noisy_loss_has_no_spike() -> None:
    assert find_spikes(noisy_losses(2_000)) == []


@pytest.mark.parametrize("before", [np.zeros(0), np.ones(analysis.SPIKE_MINIMUM - 1), np.zeros(40), np.full(40, -1.0)])
def test_a_loss_that_cannot_be_compared_is_no_spike(before: np.ndarray) -> None:
    assert find_spikes(np.append(before, 100.0)) == []


def test_spikes_are_limited() -> None:
    values = noisy_losses(2_000)
    values[100::100] = 40.0

    assert len(find_spikes(values, limit=5)) == 5


def test_epochs_are_where_their_number_changes_and_where_batches_are_counted_anew() -> None:
    epochs, steps = np.array([0, 0, 1, 1, 3, 3, 3, 3]), np.arange(0, 16, 2)
    index = np.array([0, 1, 0, 1, 0, 1, 2, 3])
    again = np.array([0, 1, 0, 1, 0, 1, 0, 0])  # broken off, and resumed with the same epoch, twice

    assert analysis.find_epochs(epochs, index, steps, 100) == [(0, 0), (1, 4), (3, 8)]
    assert analysis.find_epochs(epochs, again, steps, 100) == [(0, 0), (1, 4), (3, 8), (3, 12), (3, 14)]
    assert analysis.find_epochs(np.zeros(8, int), np.arange(8) % 4, steps, 100) == [(0, 0), (0, 8)]
    assert analysis.find_epochs(epochs, index, steps, 2) == [(0, 0), (3, 8)]
    assert analysis.find_epochs(epochs[:0], index[:0], steps[:0], 2) == []


def summarise(values: np.ndarray) -> list[float]:
    return [
        len(values),
        float(values.mean()),
        float(values.std()),
        float(values.min()),
        float(values.max()),
        float(np.mean(values == 0)),
        0,
    ]


@settings(deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=12), st.integers(1, 5), st.integers(0, 99))
def test_merged_moments_are_those_of_all_values_together(sizes: list[int], window: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    # A mean far from zero: what a naive sum of squares gets wrong.
    batches = [np.maximum(generator.normal(1e4, 3, size), 1e4) - 1e4 + 1e3 for size in sizes]

    merged = analysis.merge_moments(np.array([summarise(batch) for batch in batches]), window)

    for number, first in enumerate(range(0, len(batches), window)):
        together = summarise(np.concatenate(batches[first : first + window]))
        found = [getattr(merged, field)[number] for field in ("count", "mean", "std", "min", "max", "zero_fraction")]
        assert found == pytest.approx(together[:6], rel=1e-9, abs=1e-9)


def test_merging_leaves_out_a_batch_without_a_finite_value() -> None:
    broken = [10, np.nan, np.nan, np.nan, np.nan, np.nan, 10]

    merged = analysis.merge_moments(np.array([[4, 2.0, 1.0, 0.0, 4.0, 0.25, 0], broken, broken]), 2)

    assert (merged.mean.tolist()[0], merged.max.tolist()[0], merged.zero_fraction.tolist()[0]) == (2.0, 4.0, 0.25)
    assert merged.nonfinite.tolist() == [10, 10]
    assert analysis.merge_moments(np.array([[np.inf, 1, 1, 1, 1, 1, np.inf]]), 1).count.tolist() == [np.inf]
    assert np.isnan([merged.mean[1], merged.std[1], merged.min[1], merged.max[1]]).all()


def test_common_edges_have_a_width_even_for_one_value() -> None:
    assert analysis.common_edges(np.array([2.0]), np.array([2.0]), 2).tolist() == [1.0, 2.0, 3.0]
    assert analysis.common_edges(np.zeros(0), np.zeros(0), 1).tolist() == [0.0, 1.0]


def test_windows_add_up_rows() -> None:
    rows = np.arange(10).reshape(5, 2)

    assert analysis.sum_windows(rows, 2).tolist() == [[2, 4], [10, 12], [8, 9]]
    assert analysis.sum_windows(rows[:0], 2).shape == (0, 2)


def test_normalised_rows_sum_to_one() -> None:
    assert analysis.normalise_rows(np.array([[1.0, 3.0], [0.0, 0.0]])).tolist() == [[0.25, 0.75], [0.0, 0.0]]
