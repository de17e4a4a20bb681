"""What a step saw, on its way from the device to NumPy.

The step makes an `Observation` on the training thread; the writer's thread
reads it, which copies it from the device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from tb_batchview.capture import arrays
from tb_batchview.capture.carried import read_ids
from tb_batchview.capture.gather import not_per_sample
from tb_batchview.capture.gradients import decode_gradient
from tb_batchview.capture.inputs import SeenInputs, read_inputs
from tb_batchview.capture.summary import decode_summary
from tb_batchview.records import Array, GradientSummary, LayerSummary, OutputRecord
from tb_batchview.tasks import TaskHint


class Observation(Protocol):
    """What one call of a step function saw, still on the device."""

    @property
    def wall_time(self) -> float:
        """When the call returned, seconds since 1970."""

    @property
    def nbytes(self) -> int:
        """Bytes that it keeps alive."""

    @property
    def batches(self) -> int:
        """Number of batches in it."""

    def read(self) -> list[Observed]:
        """Copy it from the device and take it apart; any thread may."""


class Observed(NamedTuple):
    """What one step saw, in NumPy.

    Attributes:
        size: Number of samples, 0 when that is not known.
        loss: The loss of the batch, NaN where there is none.
        metrics: Metrics of the batch by name.
        outputs: Arrays by output.
        layers: Summaries by layer; empty in a batch that is not summarised.
        gradients: Likewise.
        turn: Steps before this one, counted up to a common multiple of what
            the recorders asked for: tells whose turn it is.
        hints: What the losses say about the outputs.
        problems: What had to be left out, one sentence each.
        ids: Of the samples, by where they were (`carried.name_place`).
        inputs: What the samples were, where that is wanted.
    """

    size: int
    loss: float
    metrics: dict[str, float]
    outputs: dict[str, OutputRecord]
    layers: dict[str, LayerSummary]
    gradients: dict[str, GradientSummary]
    turn: int
    hints: Mapping[str, TaskHint]
    problems: list[str]
    ids: Mapping[str, Array]
    inputs: SeenInputs = SeenInputs(None, None)


class Tensors(NamedTuple):
    """An `Observation` of one batch, as tensors by their names.

    Attributes:
        tensors: As `gather` names them, "layers/<name>" with the figures of
            `summarise`, "gradients/<name>" with those of `summarise_gradients`.
        hints: What the losses say about the outputs.
        wall_time: When the step returned, seconds since 1970.
        turn: Steps before this one.
    """

    tensors: Mapping[str, Any]
    hints: Mapping[str, TaskHint]
    wall_time: float
    turn: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes that it keeps alive, at most eight for each number."""
        return sum(8 * math.prod(tensor.shape) for tensor in self.tensors.values())

    @property
    def batches(self) -> int:
        """One."""
        return 1

    def read(self) -> list[Observed]:
        """Copy the tensors from the device."""
        named = {
            name: tensor if isinstance(tensor, np.ndarray) else arrays.to_numpy(tensor)
            for name, tensor in self.tensors.items()
        }
        return [read_observed(named, self.hints, self.turn)]


def read_observed(named: Mapping[str, Array], hints: Mapping[str, TaskHint], turn: int) -> Observed:
    """Sort what a step saw by what it is.

    Args:
        named: As `gather` names it, "layers/<name>" and "gradients/<name>".
        hints: What the losses say about the outputs.
        turn: Steps before this one.
    """
    size, loss = 0, float("nan")
    metrics: dict[str, float] = {}
    outputs: dict[str, dict[str, Array]] = {}
    layers: dict[str, LayerSummary] = {}
    gradients: dict[str, GradientSummary] = {}
    inputs: dict[str, Array] = {}
    ids: dict[str, tuple[str, Array]] = {}
    for name, array in named.items():
        kind, _, rest = name.partition("/")
        if kind == "size":
            size = int(array)
        elif kind == "loss":
            loss = float(array)
        elif kind == "metrics":
            metrics[rest] = float(array)
        elif kind == "layers":
            layers[rest] = decode_summary(array)
        elif kind == "gradients":
            gradients[rest] = decode_gradient(array)
        elif kind == "inputs":
            inputs[rest] = array
        elif kind in ("ids", "plain_ids"):
            ids[rest] = kind, array
        elif kind == "outputs":
            output, _, field = rest.rpartition("/")
            outputs.setdefault(output, {})[field] = array
    if not size:
        size = next((len(array) for fields in outputs.values() for array in fields.values() if array.ndim), 0)
    # Models return what they like: a codebook's use, one value of a batch.
    problems = [
        not_per_sample(name, field)
        for name, fields in outputs.items()
        for field, array in fields.items()
        if array.ndim == 0 or len(array) != size
    ]
    fitting = {
        name: {field: array for field, array in fields.items() if array.ndim and len(array) == size}
        for name, fields in outputs.items()
    }
    records = {name: OutputRecord(**fields) for name, fields in fitting.items() if fields}
    if any(len(array) != size for array in inputs.values()):
        problems.append("The inputs are not one per sample of the batch and are not recorded.")
        inputs = {}
    known = {place: read_ids(kind, array, size, problems) for place, (kind, array) in ids.items()}
    found = {place: array for place, array in known.items() if array is not None}
    shown = read_inputs(inputs)
    return Observed(size, loss, metrics, records, layers, gradients, turn, hints, problems, found, shown)
