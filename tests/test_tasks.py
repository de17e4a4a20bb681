"""What predictions and targets mean, against plain recomputation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import outputs, settings

from tb_batchview.errors import ArgumentError
from tb_batchview.records import OutputRecord, OutputSpec
from tb_batchview.tasks import TaskHint, derive, error_rate, mean_confidence, resolve_spec, scores, top_scores

UNKNOWN = TaskHint()
RNG = np.random.default_rng(7)
LOGITS = RNG.normal(0, 3, (8, 4)).astype(np.float32)
PROBABILITIES = (np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)).astype(np.float32)
CLASSES = np.array([0, 1, 2, 3, 3, 2, 1, 0])
ONE_HOT = np.eye(4, dtype=np.float32)[CLASSES]
LABELS = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 1, 1], [0, 1, 0, 0]] * 2, np.float32)
HALF = np.linspace(0, 1, 8, dtype=np.float32)
BITS = np.array([0, 1, 0, 1, 1, 1, 0, 0])


@pytest.mark.parametrize(
    ("predictions", "targets", "expected"),
    [
        (PROBABILITIES, CLASSES, OutputSpec("multiclass", 4)),
        (PROBABILITIES, CLASSES[:, None], OutputSpec("multiclass", 4)),
        (PROBABILITIES, CLASSES.astype(np.float32), OutputSpec("multiclass", 4)),
        (PROBABILITIES, np.where(CLASSES == 3, 255, CLASSES), OutputSpec("multiclass", 4)),
        (LOGITS, CLASSES, OutputSpec("multiclass", 4, "softmax")),
        (LOGITS, ONE_HOT, OutputSpec("multiclass", 4, "softmax")),
        (PROBABILITIES, ONE_HOT * 0.9 + 0.025, OutputSpec("multiclass", 4)),
        (PROBABILITIES.astype(np.float16), ONE_HOT, OutputSpec("multiclass", 4)),
        (PROBABILITIES.reshape(2, 4, 4), CLASSES.reshape(2, 4), OutputSpec("multiclass", 4)),
        (PROBABILITIES, LABELS, OutputSpec("multilabel", 4)),
        (LOGITS, LABELS, OutputSpec("multilabel", 4, "sigmoid")),
        (LOGITS, LOGITS + 1, OutputSpec("regression", 0)),
        (LOGITS, CLASSES + 0.5, OutputSpec("regression", 0)),
        (HALF, BITS, OutputSpec("binary", 2)),
        (HALF[:, None], BITS, OutputSpec("binary", 2)),
        (HALF, BITS[:, None].astype(np.float64), OutputSpec("binary", 2)),
        (LOGITS[:, 0], BITS, OutputSpec("binary", 2, "sigmoid")),
        (HALF, CLASSES, OutputSpec("regression", 0)),
        (HALF, HALF, OutputSpec("regression", 0)),
        (PROBABILITIES, None, OutputSpec("multiclass", 4)),
        (LOGITS, None, OutputSpec("regression", 0)),
        (np.full((2, 3), np.nan), np.array([0, 1]), OutputSpec("multiclass", 3)),
        (np.zeros((0, 3)), np.zeros(0, int), OutputSpec("multiclass", 3)),
        (np.zeros((4, 0)), np.zeros(4, int), OutputSpec("regression", 0)),
    ],
)
def test_task_is_told_from_the_first_batch(predictions: Any, targets: Any, expected: OutputSpec):
    assert resolve_spec(UNKNOWN, predictions, targets) == expected


@pytest.mark.parametrize(
    ("hint", "predictions", "targets", "expected"),
    [
        (TaskHint("multiclass", False), LOGITS, CLASSES, OutputSpec("multiclass", 4)),
        (TaskHint("multiclass", True), PROBABILITIES, CLASSES, OutputSpec("multiclass", 4, "softmax")),
        (TaskHint("binary", True), HALF, BITS, OutputSpec("binary", 2, "sigmoid")),
        (TaskHint("binary", None), HALF, BITS, OutputSpec("binary", 2)),
        (TaskHint("binary", False), PROBABILITIES, LABELS, OutputSpec("multilabel", 4)),
        (TaskHint("binary"), PROBABILITIES, CLASSES, OutputSpec("multiclass", 4)),
        (TaskHint("regression"), HALF, BITS, OutputSpec("regression", 0)),
        (TaskHint("regression", True), PROBABILITIES, ONE_HOT, OutputSpec("regression", 0)),
        (TaskHint("regression"), LOGITS, HALF[:, None], OutputSpec("regression", 0)),
        (TaskHint("auto"), HALF, BITS, OutputSpec("binary", 2)),
        (TaskHint("multilabel"), PROBABILITIES, ONE_HOT, OutputSpec("multilabel", 4)),
        (TaskHint("multiclass"), None, CLASSES, OutputSpec("multiclass", 0)),
    ],
)
def test_hint_goes_before_the_arrays(hint: TaskHint, predictions: Any, targets: Any, expected: OutputSpec):
    assert resolve_spec(hint, predictions, targets) == expected


def test_names_must_be_as_many_as_classes():
    assert resolve_spec(UNKNOWN, PROBABILITIES, CLASSES, list("abcd")).class_names == ("a", "b", "c", "d")
    with pytest.raises(ArgumentError, match=r"each of the 4 classes. Received: 3 names"):
        resolve_spec(UNKNOWN, PROBABILITIES, CLASSES, list("abc"))
    with pytest.raises(ArgumentError, match=r"each of the 2 classes. Received: 1 names"):
        resolve_spec(UNKNOWN, HALF, BITS, ["yes"])


def test_names_alone_tell_classes():
    assert resolve_spec(UNKNOWN, None, CLASSES, list("abcd")) == OutputSpec("multiclass", 4, None, tuple("abcd"))


@pytest.mark.parametrize(
    ("task", "predictions", "targets", "words"),
    [
        ("multiclass", PROBABILITIES, np.zeros((8, 3)), r"\(8, 3\) and predictions of shape \(8, 4\)"),
        ("multiclass", PROBABILITIES, np.zeros(5, int), r"\(5,\) and predictions of shape \(8, 4\)"),
        ("multiclass", HALF, CLASSES, r"one score per class .* shape \(8,\). Use task='binary'"),
        ("binary", HALF, LABELS, r"\(8, 4\) and predictions of shape \(8,\)"),
        ("multilabel", PROBABILITIES, CLASSES, r"\(8,\) and predictions of shape \(8, 4\)"),
        ("regression", HALF, LABELS, r"\(8, 4\) and predictions of shape \(8,\)"),
        ("cooking", HALF, BITS, r"task='cooking'"),
    ],
)
def test_targets_that_the_task_cannot_have_are_refused(task: str, predictions: Any, targets: Any, words: str):
    with pytest.raises(ArgumentError, match=words):
        resolve_spec(TaskHint(task), predictions, targets)


finite_logits = hnp.arrays(np.float64, (3, 4), elements=st.floats(-50, 50))


@given(finite_logits)
def test_softmax_is_the_ratio_of_powers(logits: np.ndarray):
    expected = [[math.exp(x) / math.fsum(math.exp(y) for y in row) for x in row] for row in logits.tolist()]
    np.testing.assert_allclose(scores(OutputSpec("multiclass", 4, "softmax"), logits), expected, rtol=1e-6, atol=1e-30)


@given(finite_logits)
def test_sigmoid_is_one_over_one_plus_power(logits: np.ndarray):
    expected = [[1 / (1 + math.exp(-x)) for x in row] for row in logits.tolist()]
    np.testing.assert_allclose(scores(OutputSpec("multilabel", 4, "sigmoid"), logits), expected, rtol=1e-6)


def test_huge_and_infinite_logits_have_their_limits():
    logits = np.array([[1e30, 0, 0], [np.inf, 0, -np.inf], [np.inf, np.inf, 0], [-1e38, -1e38, -1e38]], np.float32)
    third = np.float32(1 / 3)
    np.testing.assert_array_equal(
        scores(OutputSpec("multiclass", 3, "softmax"), logits),
        np.array([[1, 0, 0], [1, 0, 0], [0.5, 0.5, 0], [third, third, third]], np.float32),
    )
    np.testing.assert_array_equal(
        scores(OutputSpec("binary", 2, "sigmoid"), np.array([1e30, -np.inf, 0], np.float32)),
        np.array([[0, 1], [1, 0], [0.5, 0.5]], np.float32),
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8])
def test_scores_are_float32(dtype: Any):
    for spec in (OutputSpec("multiclass", 2, "softmax"), OutputSpec("multilabel", 2), OutputSpec("regression", 0)):
        assert scores(spec, np.ones((3, 2), dtype)).dtype == np.float32
    assert scores(OutputSpec("binary", 2, "sigmoid"), np.ones(3, dtype)).shape == (3, 2)


def check(derived: dict[str, np.ndarray], **expected: list[float]) -> None:
    assert {name: array.tolist() for name, array in derived.items()} == {
        name: pytest.approx(values, nan_ok=True) for name, values in expected.items()
    }
    for name, array in derived.items():
        assert array.dtype == (np.int32 if name in ("target", "predicted") else np.float32)


THREE = np.array([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75], [0.25, 0.5, 0.25]], np.float32)
DECISIONS = {"predicted": [0, 2, 1], "confidence": [0.5, 0.75, 0.5]}


@pytest.mark.parametrize(
    "targets",
    [
        np.array([0, 1, 2]),
        np.array([[0], [1], [2]], np.uint8),
        np.array([0.0, 1.0, 2.0]),
        np.eye(3),
        np.eye(3) * 0.7 + 0.1,
        np.eye(3, dtype=bool),
    ],
    ids=str,
)
def test_multiclass_decisions(targets: np.ndarray):
    derived = derive(OutputSpec("multiclass", 3), OutputRecord(THREE, targets))
    check(derived, target=[0, 1, 2], **DECISIONS, target_score=[0.5, 0.125, 0.25])
    assert error_rate(derived) == pytest.approx(2 / 3)
    assert mean_confidence(derived) == pytest.approx(1.75 / 3)


@pytest.mark.parametrize(
    "targets",
    [
        np.array([0, 255, -1]),
        np.array([0.0, np.nan, np.inf]),
        np.array([0, 2**63, 3], np.uint64),
        np.array([[1, 0, 0], [0, 0, 0], [np.nan, 1, 0]]),
    ],
    ids=str,
)
def test_targets_that_are_no_class_are_minus_one_and_do_not_count(targets: np.ndarray):
    derived = derive(OutputSpec("multiclass", 3), OutputRecord(THREE, targets))
    check(derived, target=[0, -1, -1], **DECISIONS, target_score=[0.5, math.nan, math.nan])
    assert error_rate(derived) == 0


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_prediction_with_a_nan_decides_nothing(activation: str | None):
    predictions = np.array([[0.0, np.nan, 1.0], [0, 0, 1.0]], np.float32)
    derived = derive(OutputSpec("multiclass", 3, activation), OutputRecord(predictions, np.array([2, 2])))
    assert derived["predicted"].tolist() == [-1, 2]
    assert np.isnan(derived["confidence"]).tolist() == [True, False]
    assert error_rate(derived) == 0.5


def test_binary_decisions():
    predictions = np.array([[0.25], [0.5], [0.75], [np.nan]], np.float32)
    targets = np.array([1.0, 0.0, 0.9, 1.0])
    derived = derive(OutputSpec("binary", 2), OutputRecord(predictions, targets))
    check(
        derived,
        target=[1, 0, 1, 1],
        predicted=[0, 0, 1, -1],
        confidence=[0.75, 0.5, 0.75, math.nan],
        target_score=[0.25, 0.5, 0.75, math.nan],
    )
    assert error_rate(derived) == 0.5


def test_multilabel_error_is_the_share_of_wrong_labels():
    predictions = np.array([[0.9, 0.1, 0.6, 0.5], [np.nan, 0.9, 0.9, 0.9]])
    targets = np.array([[1, 1, 0, 0], [0, 1, 1, np.nan]])
    check(derive(OutputSpec("multilabel", 4), OutputRecord(predictions, targets)), error=[0.5, 1 / 3])


def test_regression_error_is_the_mean_absolute_one():
    spec = OutputSpec("regression", 0)
    check(derive(spec, OutputRecord(np.array([[1.0, 2], [3, 4]]), np.array([[0, 4], [3, 0]]))), error=[1.5, 2])
    check(derive(spec, OutputRecord(np.array([[1.0], [2.0]]), np.array([3, 5]))), error=[2, 3])
    check(derive(spec, OutputRecord(np.array([[1.0, 3], [2, 2]]), np.array([[3], [5]]))), error=[1, 3])
    check(derive(spec, OutputRecord(np.array([np.nan, 1e300]), np.array([3.0, -1e300]))), error=[math.nan, math.inf])


def test_several_decisions_a_sample_have_only_an_error():
    predictions = np.eye(3)[np.array([[0, 1, 2, 2], [0, 0, 0, 0], [1, 1, 1, 1]])]
    targets = np.array([[0, 1, 0, 0], [0, 0, 255, 1], [-1, -1, -1, -1]])
    expected = {"error": [0.5, 1 / 3, math.nan]}
    spec = OutputSpec("multiclass", 3)
    check(derive(spec, OutputRecord(predictions, targets)), **expected)
    check(derive(spec, OutputRecord(predictions, targets[..., None])), **expected)
    squares = predictions.reshape(3, 2, 2, 3), targets.reshape(3, 2, 2)
    check(derive(spec, OutputRecord(*squares)), **expected)
    assert error_rate(derive(spec, OutputRecord(*squares))) == pytest.approx(5 / 12)
    pixels = OutputRecord(np.full((1, 2, 2, 1), 0.75), np.array([[[1, 1], [1, 0]]]))
    check(derive(OutputSpec("binary", 2), pixels), error=[0.25])


def test_what_the_arrays_do_not_tell_is_left_out():
    spec = OutputSpec("multiclass", 3)
    check(derive(spec, OutputRecord(THREE)), **DECISIONS)
    check(derive(spec, OutputRecord(targets=np.array([0, 7]))), target=[0, -1])
    check(derive(spec, OutputRecord(THREE, np.zeros((3, 5)))), **DECISIONS)
    check(derive(spec, OutputRecord(np.zeros((3, 7)), np.zeros(3))))
    check(derive(OutputSpec("regression", 0), OutputRecord(THREE)))
    check(derive(OutputSpec("regression", 0), OutputRecord(THREE, np.zeros((3, 5)))))
    assert math.isnan(error_rate({}))
    assert math.isnan(mean_confidence({}))


@settings(max_examples=400)
@given(outputs())
def test_any_arrays_give_one_value_a_sample(drawn: tuple[OutputSpec, OutputRecord]):
    spec, output = drawn
    derived = derive(spec, output)
    sized = [array for array in (output.predictions, output.targets) if array is not None]
    assert {array.shape for array in derived.values()} <= {(len(array),) for array in sized}
    for name in ("target", "predicted"):
        if name in derived:
            assert all(-1 <= number < spec.classes for number in derived[name])


@settings(max_examples=200)
@given(outputs(), st.randoms(use_true_random=False))
def test_order_of_samples_changes_nothing(drawn: tuple[OutputSpec, OutputRecord], random: Any):
    spec, output = drawn
    if output.predictions is None or output.targets is None:
        return
    order = list(range(len(output.predictions)))
    random.shuffle(order)
    shuffled = derive(spec, OutputRecord(output.predictions[order], output.targets[order]))
    for name, array in derive(spec, output).items():
        np.testing.assert_array_equal(shuffled[name], array[order])


@given(hnp.arrays(np.float32, (4, 6), elements=st.floats(-5, 5, width=32)), st.integers(1, 8))
def test_top_scores_are_those_of_a_full_sort(predictions: np.ndarray, k: int):
    kept, classes = top_scores(predictions, k)
    full = np.sort(predictions, axis=1)[:, ::-1][:, :k]
    np.testing.assert_array_equal(kept, full)
    np.testing.assert_array_equal(np.take_along_axis(predictions, classes, 1), full)
    assert all(len(set(row)) == len(row) for row in classes.tolist())


def test_top_scores_put_nan_last():
    kept, classes = top_scores(np.array([[np.nan, 1.0, 3.0, 2.0]]), 3)
    assert (kept.tolist(), classes.tolist()) == ([[3.0, 2.0, 1.0]], [[2, 3, 1]])


def test_top_scores_hold_the_decision():
    spec = resolve_spec(UNKNOWN, LOGITS, CLASSES)
    derived = derive(spec, OutputRecord(LOGITS, CLASSES))
    kept, classes = top_scores(LOGITS, 2)
    np.testing.assert_array_equal(classes[:, 0], derived["predicted"])
    # As docs/data-format.md tells readers to come by the other probabilities.
    second = derived["confidence"] * np.exp(kept[:, 1] - kept[:, 0])
    np.testing.assert_allclose(second, np.sort(PROBABILITIES, axis=1)[:, -2], rtol=1e-5)
