"""Reliability and thresholds: against scikit-learn, on scores of whole steps."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from recorded import make_record, write
from sklearn import metrics
from sklearn.calibration import calibration_curve

from tb_batchview import calibration
from tb_batchview.calibration import FINE, calibrate, count_confidences, count_positives, trace_thresholds
from tb_batchview.errors import ArgumentError
from tb_batchview.log import load
from tb_batchview.records import OutputRecord, OutputSpec


def draw(samples: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return targets and scores of class 1 in the middle of a step each."""
    generator = np.random.default_rng(seed)
    target = generator.integers(0, 2, samples).astype(np.int32)
    score = np.clip(generator.beta(2, 3, samples) + 0.25 * target, 0, 0.999)
    return target, ((np.floor(score * FINE) + 0.5) / FINE).astype(np.float32)


def decide(score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    predicted = (score > 0.5).astype(np.int32)
    return predicted, np.where(predicted == 1, score, 1 - score)


def test_reliability_equals_scikit_learn() -> None:
    target, score = draw(5_000)
    predicted, confidence = decide(score)
    right = (predicted == target).astype(int)
    accuracy, mean = calibration_curve(right, confidence, n_bins=16, strategy="uniform")

    found = calibrate(count_confidences(target, predicted, confidence), bins=16)

    some = found.count > 0
    assert np.allclose(found.accuracy[some], accuracy)
    assert np.allclose(found.confidence[some], mean)
    weights = found.count[some] / len(target)
    assert found.error == pytest.approx(float(np.sum(weights * np.abs(accuracy - mean))))
    assert found.greatest_error == pytest.approx(float(np.max(np.abs(accuracy - mean))))


def test_mean_confidence_is_within_half_a_step() -> None:
    generator = np.random.default_rng(1)
    confidence = generator.random(10_000).astype(np.float32)
    zeros = np.zeros(10_000, np.int32)

    found = calibrate(count_confidences(zeros, zeros, confidence), bins=1)

    assert found.confidence[0] == pytest.approx(float(confidence.mean()), abs=0.5 / FINE)


def test_curves_equal_scikit_learn() -> None:
    target, score = draw(3_000)

    curve = trace_thresholds(count_positives(target, *decide(score)))

    assert curve.roc_auc == pytest.approx(metrics.roc_auc_score(target, score))
    assert curve.average_precision == pytest.approx(metrics.average_precision_score(target, score))
    for number in (0, 300, 512, 513, 1000):
        predicted = score >= curve.thresholds[number]
        (_, false_positives), (_, true_positives) = metrics.confusion_matrix(target, predicted, labels=[0, 1])
        assert (curve.true_positives[number], curve.false_positives[number]) == (true_positives, false_positives)
    assert (curve.positives, curve.negatives) == (target.sum(), (1 - target).sum())


def test_the_middle_threshold_predicts_as_the_model_did() -> None:
    # float32 rounds the confidence of a score just below a half to a half.
    score = np.array([0.5 - 1e-8, 0.5, np.nextafter(np.float32(0.5), np.float32(1)), 0.0, 1.0], np.float64)
    predicted = (score > 0.5).astype(np.int32)
    confidence = np.maximum(score, 1 - score).astype(np.float32)

    counts = count_positives(np.ones(5, np.int32), predicted, confidence)

    assert counts[1][FINE // 2 :].sum() == predicted.sum()


def test_samples_without_class_or_score_are_left_out() -> None:
    target, predicted = np.array([0, -1, 1, 1], np.int32), np.array([0, 1, -1, 1], np.int32)
    confidence = np.array([0.9, 0.9, 0.9, np.nan], np.float32)

    assert count_confidences(target, predicted, confidence).sum() == 1
    assert count_positives(target, predicted, confidence).sum() == 1


def test_nothing_has_no_figures() -> None:
    nothing = np.zeros((2, FINE), np.int64)
    curve = trace_thresholds(nothing)

    assert math.isnan(calibrate(nothing).error)
    assert math.isnan(curve.average_precision)
    assert math.isnan(curve.roc_auc)
    assert np.isnan(curve.precision).all()


def test_ranges_of_a_run_are_judged(tmp_path: Path) -> None:
    target, score = draw(64 * 30)
    records = [
        make_record(
            step,
            samples=64,
            outputs={"scores": OutputRecord(score[64 * step :][:64, None], target[64 * step :][:64])},
        )
        for step in range(30)
    ]
    write(tmp_path, records, specs={"scores": OutputSpec("binary", 2)})
    run = load(tmp_path)["."]

    for start, stop in ((None, None), (3, 17), (29, 30)):
        part = slice(64 * (start or 0), None if stop is None else 64 * stop)
        curve = run.threshold_curve("train", start, stop)
        expected = calibrate(count_confidences(target[part], *decide(score[part])))
        assert curve.roc_auc == pytest.approx(metrics.roc_auc_score(target[part], score[part]))
        assert run.calibration("train", start, stop).count.tolist() == expected.count.tolist()


def test_a_curve_of_another_task_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [make_record(0)])

    with pytest.raises(ArgumentError, match=r"A threshold curve needs a binary output. Received: task 'multiclass'."):
        load(tmp_path)["."].threshold_curve("train")
    assert len(load(tmp_path)["."].calibration("train").count) == calibration.BINS
