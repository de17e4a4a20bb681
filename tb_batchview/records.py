"""What is recorded of one batch: plain frozen values, checked on creation.

The capture and `BatchWriter.add_batch` make them, `encode` writes them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NoReturn, SupportsIndex

import numpy as np
import numpy.typing as npt

from tb_batchview.errors import ArgumentError

Array = npt.NDArray[Any]

TASKS = ("multiclass", "binary", "multilabel", "regression")
PHASES = ("train", "validation", "predict")
HISTOGRAM_BINS = 30


@dataclasses.dataclass(frozen=True)
class OutputSpec:
    """What is constant about one output (head) of the model.

    Attributes:
        task: One of `TASKS`.
        classes: Number of classes; of labels for multilabel, 2 for binary,
            0 for regression.
        activation: What turns predictions into probabilities: "softmax",
            "sigmoid", or None when they already are, or have none.
        class_names: One name per class, or None.
    """

    task: str
    classes: int
    activation: str | None = None
    class_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ArgumentError(f"task must be one of {', '.join(TASKS)}. Received: task={self.task!r}.")
        if self.activation not in (None, "softmax", "sigmoid"):
            raise ArgumentError(
                f"activation must be 'softmax', 'sigmoid' or None. Received: activation={self.activation!r}."
            )

    @property
    def has_classes(self) -> bool:
        """Tell whether each sample has one class."""
        return self.task in ("multiclass", "binary")


@dataclasses.dataclass(frozen=True)
class OutputRecord:
    """Arrays of one output in one batch; None where there is none.

    Attributes:
        predictions: What the loss saw, shape (samples, ...).
        targets: What the loss compared with, shape (samples, ...).
        sample_loss: float, shape (samples,), before weighting and reduction.
        sample_weight: float, shape (samples,).
        sample_ids: integers or strings, shape (samples,).
    """

    predictions: Array | None = None
    targets: Array | None = None
    sample_loss: Array | None = None
    sample_weight: Array | None = None
    sample_ids: Array | None = None

    def arrays(self) -> dict[str, Array]:
        """Return those that there are, by name."""
        # By hand: this is asked several times a batch, and fields() is slow.
        arrays = {
            "predictions": self.predictions,
            "targets": self.targets,
            "sample_loss": self.sample_loss,
            "sample_weight": self.sample_weight,
            "sample_ids": self.sample_ids,
        }
        return {name: array for name, array in arrays.items() if array is not None}

    def __post_init__(self) -> None:
        arrays = self.arrays()
        for name, array in arrays.items():
            if np.ndim(array) == 0:
                raise ArgumentError(f"{name} must have one entry per sample. Received: a single value, {array!r}.")
        sizes = {name: len(array) for name, array in arrays.items()}
        if len(set(sizes.values())) > 1:
            raise ArgumentError(
                "Arrays of one batch must have the same number of samples. Received: "
                + ", ".join(f"{name} of {size}" for name, size in sizes.items())
                + "."
            )


@dataclasses.dataclass(frozen=True)
class LayerSummary:
    """Figures of the values of one layer in one batch.

    Attributes:
        count: Number of values looked at (a sample of them in large layers).
        mean, std, min, max, zero_fraction: Of the finite ones; NaN when there
            are none.
        nonfinite: How many were NaN or infinite.
        histogram: Counts in equal bins from `min` to `max`, shape (bins,).
        unit_means: Mean of each unit or channel, shape (units,), or None.
        unit_zeros: Share of zeros of each, likewise: 1 is a dead unit.
        unit_saturated: Share of values at an end of what its activation can
            return, likewise; None where there is no such end.
    """

    count: float
    mean: float
    std: float
    min: float
    max: float
    zero_fraction: float
    nonfinite: float
    histogram: Array
    unit_means: Array | None = None
    unit_zeros: Array | None = None
    unit_saturated: Array | None = None

    @classmethod
    def of(cls, values: Array) -> LayerSummary:
        """Summarise the values of a layer.

        Args:
            values: Shape (samples, ..., units), integers or floats; with one
                dimension there are no units.
        """
        with np.errstate(all="ignore"):
            finite = np.isfinite(values)
            kept = values[finite].astype(np.float64)
            units = zeros = None
            if values.ndim > 1:
                axes = tuple(range(values.ndim - 1))
                seen = finite.sum(axis=axes)
                units = np.where(finite, values, 0).sum(axis=axes, dtype=np.float64) / seen
                units = units.astype(np.float32)
                zeros = (np.count_nonzero(values == 0, axis=axes) / seen).astype(np.float32)
            low, high = (float(kept.min()), float(kept.max())) if kept.size else (math.nan, math.nan)
            # The width first: half of it, so that the widest range is finite.
            places = (kept / 2 - low / 2) / (high / 2 - low / 2) * HISTOGRAM_BINS if high > low else np.zeros(kept.size)
            bins = np.clip(places, 0, HISTOGRAM_BINS - 1).astype(np.int64)
            return cls(
                count=float(values.size),
                mean=float(kept.mean()) if kept.size else math.nan,
                std=float(kept.std()) if kept.size else math.nan,
                min=low,
                max=high,
                zero_fraction=float(np.count_nonzero(kept == 0) / kept.size) if kept.size else math.nan,
                nonfinite=float(values.size - kept.size),
                histogram=np.bincount(bins, minlength=HISTOGRAM_BINS).astype(np.float32),
                unit_means=units,
                unit_zeros=zeros,
            )


@dataclasses.dataclass(frozen=True)
class GradientSummary:
    """Figures of the gradient of one layer's weights in one batch.

    Attributes:
        count: Number of values looked at (a sample of them in large layers).
        mean, std, min, max, zero_fraction: Of the finite ones; NaN when there
            are none.
        nonfinite: How many were NaN or infinite.
        norm: The L2 norm of all values of all weights of the layer; NaN or
            infinite when one of them is.
        histogram: Counts in equal bins from `min` to `max`, shape (bins,).
    """

    count: float
    mean: float
    std: float
    min: float
    max: float
    zero_fraction: float
    nonfinite: float
    norm: float
    histogram: Array

    @classmethod
    def of(cls, values: Array) -> GradientSummary:
        """Summarise the gradient of a layer.

        Args:
            values: Of all its weights, any shape, integers or floats.
        """
        flat = values.reshape(-1)
        summary = LayerSummary.of(flat)
        with np.errstate(all="ignore"):
            wide = flat.astype(np.float64)
            # A square may be more, or less, than a float64 can hold.
            peak = np.abs(wide).max(initial=0.0)
            peak = peak if np.isfinite(peak) and peak > 0 else 1.0
            norm = float(peak * np.sqrt(np.square(wide / peak).sum()))
        figures = {name.name: getattr(summary, name.name) for name in dataclasses.fields(cls) if name.name != "norm"}
        return cls(norm=norm, **figures)


@dataclasses.dataclass(frozen=True)
class BatchRecord:
    """One batch of one phase.

    Attributes:
        phase: One of `PHASES`.
        step: Number of the batch in its phase, or None: the next one.
        epoch: From 0.
        index: Number of the batch within its epoch, from 0.
        size: Number of samples.
        wall_time: End of the step, seconds since 1970.
        loss: The batch's own loss, NaN where there is none.
        metrics: The batch's own metrics by Keras' names.
        outputs: By output name; empty when this batch's arrays are not kept.
        layers: Summaries by layer name; empty when not summarised.
        gradients: Summaries of gradients by layer name, likewise.
        inputs: What the samples were, one each, or None: pictures or texts, or what
            makes them; as they are written an array of bytes (PNG, JPEG) or str objects,
            empty where there is none.
    """

    phase: str
    step: int | None
    epoch: int
    index: int
    size: int
    wall_time: float
    loss: float = math.nan
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    outputs: Mapping[str, OutputRecord] = dataclasses.field(default_factory=dict)
    layers: Mapping[str, LayerSummary] = dataclasses.field(default_factory=dict)
    gradients: Mapping[str, GradientSummary] = dataclasses.field(default_factory=dict)
    inputs: Any = None

    def __post_init__(self) -> None:
        if self.phase not in PHASES:
            raise ArgumentError(f"phase must be one of {', '.join(PHASES)}. Received: phase={self.phase!r}.")


class Opened:
    """What reads files that this process has open; copies are the same."""

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Say what to do in place of pickling."""
        raise TypeError(
            f"{type(self).__name__} cannot be pickled: it reads files that this process has open. "
            "Call load(log_dir) in the other process."
        )

    def __copy__(self) -> Opened:
        """Return the same."""
        return self

    def __deepcopy__(self, memo: object) -> Opened:
        """Return the same."""
        return self


def check_name(thing: str, name: Any) -> str:
    """Return the name of an output, a layer, a metric or a tag."""
    if not isinstance(name, str) or not 0 < len(name) <= 1000 or not name.isprintable():
        raise ArgumentError(f"The name of a {thing} must be a printable str of 1 to 1000. Received: name={name!r}.")
    return name


def check_count(name: str, value: Any, *, least: int = 1) -> int:
    """Return a whole number that is not below the least."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not least <= value < 2**63:
        raise ArgumentError(f"{name} must be a whole number of at least {least}. Received: {name}={value!r}.")
    return int(value)


def check_step(name: str, step: Any) -> int:
    """Return the first step that is not before a number, from 0.

    A range may begin before the first batch, and end after the last one.
    """
    if not isinstance(step, (int, float, np.integer, np.floating)) or step != step:
        raise ArgumentError(f"{name} must be the number of a batch. Received: {name}={step!r}.")
    return math.ceil(max(0, min(step, 2**63 - 1)))
