"""What predictions and targets mean: the task, probabilities, decisions.

`writer` tells the task from the loss or the first batch and derives each
sample's decision, which `encode` writes; the reading arm turns predictions
into probabilities. NumPy only. Shapes: predictions are
`(samples, ..., classes)`; with more than two dimensions each sample has
several decisions (per pixel, per token) and only their share of wrong ones is
derived.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tb_batchview.errors import ArgumentError
from tb_batchview.records import TASKS, Array, OutputRecord, OutputSpec

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

# How far sums of probabilities may be from 1: float16 softmax over a thousand
# classes misses by several thousandths.
_SUM_TOLERANCE = 2e-2
_RANGE_TOLERANCE = 1e-3


class TaskHint(NamedTuple):
    """What the loss, or the user, says about an output.

    Attributes:
        task: One of `TASKS`; None or "auto" when not known.
        from_logits: Whether predictions still need softmax or sigmoid; None
            when not known.
    """

    task: str | None = None
    from_logits: bool | None = None


def resolve_spec(
    hint: TaskHint,
    predictions: Array | None,
    targets: Array | None,
    class_names: Sequence[str] | None = None,
) -> OutputSpec:
    """Tell what an output means from its loss and its first batch.

    "binary" with several scores a sample is multilabel (what Keras'
    `BinaryCrossentropy` computes), or multiclass when the targets are class
    numbers.

    Args:
        hint: What is known; the rest is told from shapes, dtypes and values.
        predictions: Shape (samples, ...), or None when there are none.
        targets: Shape (samples, ...), or None when there are none.
        class_names: One name per class.

    Raises:
        ArgumentError: The task does not fit the arrays, or the number of
            names is not that of the classes.
    """
    task, from_logits = hint
    if task not in (None, "auto", *TASKS):
        raise ArgumentError(f"task must be 'auto' or one of {', '.join(TASKS)}. Received: task={task!r}.")
    if predictions is None:
        names = tuple(class_names) if class_names is not None else None
        known = task if task is not None and task != "auto" else "multiclass" if names else "regression"
        return OutputSpec(known, _class_count(known, len(names or ())), None, names)
    if task is None or task == "auto":
        task = _guess_task(predictions, targets)
    else:
        if task == "binary" and _last(predictions) > 1:
            task = "multiclass" if _are_class_numbers(predictions, targets) else "multilabel"
        _check_shapes(task, predictions, targets)
    classes = _class_count(task, _last(predictions))
    names = tuple(class_names) if class_names is not None else None
    if names is not None and classes and len(names) != classes:
        raise ArgumentError(
            f"class_names must have one name for each of the {classes} classes. Received: {len(names)} names."
        )
    return OutputSpec(task, classes, _activation(task, from_logits, predictions), names if classes else None)


def scores(spec: OutputSpec, predictions: Array) -> Floats:
    """Return the probabilities that predictions stand for, as float32.

    Args:
        spec: Of the output.
        predictions: As the loss saw them, shape (samples, ..., classes).

    Returns:
        Multiclass: shape (samples, ..., classes). Binary: shape
        (samples, ..., 2), the second column is the probability of class 1.
        Multilabel: shape (samples, ..., labels), each for itself. Regression:
        the values as they are.
    """
    values = np.asarray(predictions)
    if values.ndim == 1 and spec.task != "regression":
        values = values[:, np.newaxis]
    # float64 goes through the exponential in full before it is cut.
    values = values.astype(np.float64 if values.dtype.itemsize > 4 else np.float32, copy=False)
    if spec.activation == "softmax":
        values = _softmax(values)
    elif spec.activation == "sigmoid":
        values = _sigmoid(values)
    if values.dtype != np.float32:
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
    if spec.task == "binary":
        return np.concatenate([1 - values, values], axis=-1)
    return values


def derive(spec: OutputSpec, output: OutputRecord) -> dict[str, Array]:
    """Return each sample's decision, as docs/data-format.md names it.

    Never raises for values: a prediction with a NaN has `predicted` -1 and
    `confidence` NaN; a target that is no class is -1, with `target_score`
    NaN. What the arrays do not tell is left out.

    Returns:
        One class per sample: "target", "predicted" (int32, (samples,)),
        "confidence", "target_score" (float32, (samples,)). Otherwise
        "error" (float32, (samples,)): the share of wrong labels or decisions,
        or the mean absolute error; NaN where there is nothing to compare.
    """
    predictions, targets = output.predictions, output.targets
    derived: dict[str, Array] = {}
    if spec.task == "regression":
        if predictions is not None and targets is not None and _fits(spec.task, predictions, targets):
            derived["error"] = _absolute_error(predictions, targets)
        return derived
    if spec.task == "multilabel":
        if predictions is not None and targets is not None and _fits(spec.task, predictions, targets):
            derived["error"] = _wrong_labels(scores(spec, predictions), targets)
        return derived
    shape = None if predictions is None else _decision_shape(predictions)
    target = None if targets is None else _target_classes(spec, targets, shape)
    if predictions is None:
        return {} if target is None or target.ndim != 1 else {"target": target}
    probabilities = scores(spec, predictions)
    if len(predictions) and probabilities.shape[-1] != spec.classes:
        return {}
    if probabilities.ndim > 2:
        return {} if target is None else {"error": _wrong_decisions(_decide(spec, probabilities), target)}
    if target is not None:
        derived["target"] = target
    derived["predicted"], derived["confidence"] = _decide_surely(spec, probabilities)
    if target is not None:
        derived["target_score"] = _pick(probabilities, target)
    return derived


def decide_all(spec: OutputSpec, predictions: Array, targets: Array) -> tuple[Ints, Ints, Floats] | None:
    """Return every decision of a batch whose samples have several.

    Returns:
        Target, predicted and confidence as `derive` has them, of all
        positions of all samples one after the other; None where targets and
        predictions do not fit.
    """
    target = _target_classes(spec, targets, _decision_shape(predictions))
    probabilities = scores(spec, predictions)
    if target is None or probabilities.shape[-1] != spec.classes:
        return None
    return target.reshape(-1), *_decide_surely(spec, probabilities.reshape(target.size, spec.classes))


def find_strays(name: str, spec: OutputSpec, output: OutputRecord) -> str:
    """Return what to say of targets that are no class, "" of others.

    Negative ones are none: losses leave samples out by -1 or -100. Of pixels
    and tokens there may be one above the classes for that, too.
    """
    targets = output.targets
    if not spec.has_classes or targets is None or targets.dtype.kind not in "iuf" or targets.size != len(targets):
        return ""
    if not (targets >= spec.classes).any():
        return ""
    return (
        f"Targets of output {name!r} must be class numbers from 0 to {spec.classes - 1}. Received: "
        f"{np.nanmax(targets):g}. Samples of other numbers count in no class: subtract 1 from numbers that begin at 1."
    )


def error_rate(derived: dict[str, Array]) -> float:
    """Return the share of wrong samples, or the mean of their errors.

    Samples without a target do not count. NaN where there is none.
    """
    if "error" in derived:
        return _mean(derived["error"])
    if "target" not in derived or "predicted" not in derived:
        return math.nan
    known = derived["target"] >= 0
    count = int(np.count_nonzero(known))
    wrong = int(np.count_nonzero(known & (derived["target"] != derived["predicted"])))
    return wrong / count if count else math.nan


def mean_confidence(derived: dict[str, Array]) -> float:
    """Return the mean confidence of a batch; NaN where there is none."""
    return _mean(derived["confidence"]) if "confidence" in derived else math.nan


def _mean(values: Array) -> float:
    """Return the mean of those that are not NaN; NaN when all are."""
    # Infinities of both signs have no mean, which is no warning to anybody.
    with np.errstate(invalid="ignore", over="ignore"):
        total = float(np.add.reduce(values, dtype=np.float64))
        if math.isnan(total):
            values = values[~np.isnan(values)]
            total = float(np.add.reduce(values, dtype=np.float64))
    return total / len(values) if len(values) else math.nan


def top_scores(predictions: Array, k: int) -> tuple[Array, Ints]:
    """Return the k largest of each row and where they stand.

    Args:
        predictions: Shape (samples, classes).
        k: At most the number of classes are kept.

    Returns:
        Scores as they came (float32) and classes (int32), both of shape
        (samples, k), largest first. NaN comes last.
    """
    k = min(k, predictions.shape[1])
    order = np.where(np.isnan(predictions), -np.inf, predictions)
    # The k largest first, so that only they are sorted.
    classes = np.argpartition(-order, k - 1, axis=1)[:, :k] if k < order.shape[1] else _columns(order)
    ranks = np.lexsort((classes, -np.take_along_axis(order, classes, 1)), axis=1)
    classes = np.take_along_axis(classes, ranks, 1)
    with np.errstate(over="ignore"):
        kept = np.take_along_axis(predictions, classes, 1).astype(np.float32)
    return kept, classes.astype(np.int32)


def _columns(array: Array) -> Array:
    return np.broadcast_to(np.arange(array.shape[1]), array.shape)


def _last(predictions: Array) -> int:
    """Return the number of scores of one decision."""
    return int(predictions.shape[-1]) if predictions.ndim > 1 else 1


def _decision_shape(predictions: Array) -> tuple[int, ...]:
    """Return the shape of decisions: one per sample, or several."""
    return predictions.shape[:-1] if predictions.ndim > 1 else predictions.shape


def _class_count(task: str, last: int) -> int:
    return {"binary": 2, "regression": 0}.get(task, last)


def _are_class_numbers(predictions: Array, targets: Array | None) -> bool:
    """Tell whether targets have one number where predictions have scores."""
    if targets is None:
        return False
    shape = _decision_shape(predictions)
    return targets.shape in (shape, (*shape, 1))


def _guess_task(predictions: Array, targets: Array | None) -> str:
    """Tell the task from the arrays of the first batch."""
    last = _last(predictions)
    if targets is None:
        # Only rows that are a distribution speak for themselves.
        return "multiclass" if last > 1 and _are_distributions(predictions) else "regression"
    if last > 1:
        if _are_class_numbers(predictions, targets):
            return "multiclass" if _are_whole(targets, last) else "regression"
        if targets.shape != predictions.shape:
            return "regression"
        if _are_distributions(targets):
            return "multiclass"
        return "multilabel" if _are_zeros_and_ones(targets) else "regression"
    if targets.size == predictions.size and _are_zeros_and_ones(targets):
        return "binary"
    return "regression"


def _are_whole(targets: Array, classes: int) -> bool:
    """Tell whether these can be class numbers.

    Keras takes class numbers as floats too. Numbers past the classes are
    allowed among integers (a label to ignore, as 255), not among floats.
    """
    if targets.dtype.kind in "iub":
        return True
    values = targets[np.isfinite(targets)]
    return bool(len(values) and np.all(values == np.trunc(values)) and values.min() >= -1 and values.max() < classes)


def _are_distributions(values: Array) -> bool:
    """Tell whether each row is of probabilities that sum to one."""
    rows = values.reshape(-1, values.shape[-1]).astype(np.float64)
    rows = rows[np.isfinite(rows).all(axis=1)]
    if not len(rows):
        return False
    return bool(_in_unit_range(rows) and np.all(np.abs(rows.sum(axis=1) - 1) <= _SUM_TOLERANCE))


def _in_unit_range(values: Array) -> bool:
    return bool(values.min() >= -_RANGE_TOLERANCE and values.max() <= 1 + _RANGE_TOLERANCE)


def _are_zeros_and_ones(values: Array) -> bool:
    return values.size > 0 and bool(np.all((values == 0) | (values == 1)))


def _activation(task: str, from_logits: bool | None, predictions: Array) -> str | None:
    """Return what turns predictions into probabilities."""
    if task == "regression" or from_logits is False:
        return None
    function = "softmax" if task == "multiclass" else "sigmoid"
    if from_logits:
        return function
    if task == "multiclass":
        finite = np.isfinite(predictions).all(axis=-1).any()
        return None if not finite or _are_distributions(predictions) else function
    values = predictions[np.isfinite(predictions)]
    return None if not values.size or _in_unit_range(values.astype(np.float64)) else function


def _check_shapes(task: str, predictions: Array, targets: Array | None) -> None:
    """Raise where predictions or targets cannot be of the task."""
    shapes = f"predictions of shape {predictions.shape}"
    if task == "multiclass" and _last(predictions) < 2:
        raise ArgumentError(
            f"Predictions of task 'multiclass' must have one score per class in the last axis. Received: {shapes}. "
            "Use task='binary' for one score per sample."
        )
    if targets is not None and not _fits(task, predictions, targets):
        raise ArgumentError(
            f"Targets must fit the predictions of task {task!r}. "
            f"Received: targets of shape {targets.shape} and {shapes}."
        )


def _fits(task: str, predictions: Array, targets: Array) -> bool:
    """Tell whether targets of this shape can be compared."""
    if len(predictions) != len(targets):
        return False
    if targets.size == predictions.size and (task != "multiclass" or targets.shape == predictions.shape):
        return True
    if task == "multiclass":
        return _are_class_numbers(predictions, targets)
    if task != "regression" or not targets.size or not predictions.size:
        return False
    try:
        return np.broadcast_shapes(targets.shape, predictions.shape) == predictions.shape
    except ValueError:
        return False


def _softmax(logits: Array) -> Array:
    """Return the softmax of the last axis; +inf takes all."""
    if not logits.shape[-1]:
        return logits
    top = logits.max(axis=-1, keepdims=True)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        shifted = np.where(np.isposinf(top), np.where(np.isposinf(logits), 0, -np.inf), logits - top)
        powers = np.exp(shifted.astype(logits.dtype, copy=False))
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def _sigmoid(logits: Array) -> Array:
    """Return the logistic function, without overflow."""
    with np.errstate(under="ignore"):
        power = np.exp(-np.abs(logits))
        return np.where(logits >= 0, 1 / (1 + power), power / (1 + power))


def _decide(spec: OutputSpec, probabilities: Floats) -> Ints:
    """Return the most probable class; -1 where there is a NaN."""
    if not probabilities.size:
        return np.full(probabilities.shape[:-1], -1, np.int32)
    if spec.task == "binary":
        # Keras counts a probability above one half as class 1.
        predicted = (probabilities[..., 1] > 0.5).astype(np.int32)
    else:
        predicted = probabilities.argmax(axis=-1).astype(np.int32)
    return np.where(np.isnan(probabilities).any(axis=-1), np.int32(-1), predicted)


def _decide_surely(spec: OutputSpec, probabilities: Floats) -> tuple[Ints, Floats]:
    """Return the class of each row, and its probability; NaN for class -1."""
    if spec.task == "binary" or not probabilities.size:
        predicted = _decide(spec, probabilities)
        return predicted, _pick(probabilities, predicted)
    # argmax stops at the first NaN, so that one look at each row tells it.
    predicted = probabilities.argmax(axis=-1)
    confidence = probabilities[np.arange(len(predicted)), predicted]
    return np.where(np.isnan(confidence), -1, predicted).astype(np.int32), confidence


def _target_classes(spec: OutputSpec, targets: Array, shape: tuple[int, ...] | None) -> Ints | None:
    """Return targets as class numbers, None when their shape is another.

    Args:
        spec: Of the output.
        targets: Class numbers, or rows of one value per class.
        shape: Of the decisions; None without predictions.
    """
    one_hot = spec.task == "multiclass" and targets.ndim > 1 and targets.shape[-1] == spec.classes > 1
    if one_hot and shape in (None, targets.shape[:-1]):
        return _largest(targets)
    if shape is None:
        shape = targets.shape[:-1] if targets.ndim > 1 and targets.shape[-1] == 1 else targets.shape
    if targets.size != math.prod(shape):
        return None
    values = targets.reshape(shape)
    if spec.task == "binary" and values.dtype.kind == "f":
        # Smoothed targets are classes too.
        valid = (values >= 0) & (values <= 1)
        return np.where(valid, values > 0.5, -1).astype(np.int32)
    # NaN compares false.
    valid = (values >= 0) & (values < spec.classes)
    if valid.all():
        return values.astype(np.int32)
    return np.where(valid, np.where(valid, values, 0).astype(np.int32), np.int32(-1))


def _largest(targets: Array) -> Ints:
    """Return the class of one-hot or smoothed rows; -1 for an empty row."""
    empty = np.isnan(targets).any(axis=-1) | (targets.max(axis=-1) <= 0)
    return np.where(empty, -1, targets.argmax(axis=-1)).astype(np.int32)


def _pick(probabilities: Floats, classes: Ints) -> Floats:
    """Return each row's probability of a class; NaN for class -1."""
    if not probabilities.size:
        return np.full(len(classes), np.nan, np.float32)
    # For -1 this is the last class, which is not taken.
    picked = probabilities[np.arange(len(classes)), classes]
    return np.where(classes >= 0, picked, np.float32(np.nan))


def _mean_known(wrong: Array, known: Array) -> Floats:
    """Return each sample's share of wrong ones among the known."""
    axes = tuple(range(1, wrong.ndim))
    counts = known.sum(axis=axes)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((wrong & known).sum(axis=axes) / counts, np.float32)


def _wrong_decisions(predicted: Ints, target: Ints) -> Floats:
    return _mean_known(predicted != target, target >= 0)


def _wrong_labels(probabilities: Floats, targets: Array) -> Floats:
    targets = targets.reshape(probabilities.shape)
    known = ~np.isnan(targets) if targets.dtype.kind == "f" else np.ones(targets.shape, bool)
    wrong = (probabilities > 0.5) != (targets > 0.5)
    # A NaN is no label: wrong, whatever the target.
    return _mean_known(wrong | np.isnan(probabilities), known)


def _absolute_error(predictions: Array, targets: Array) -> Floats:
    """Return each sample's mean absolute error."""
    if not predictions.size:
        return np.full(len(predictions), np.nan, np.float32)
    if targets.size == predictions.size:
        # Aligned by sample: (n, 1) and (n,) must not become (n, n).
        targets = targets.reshape(predictions.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        differences = predictions.astype(np.float64) - targets
        np.abs(differences, out=differences)
        return differences.reshape(len(differences), -1).mean(axis=1).astype(np.float32)
