"""What a step saw, on its way from the device to NumPy.

`step` makes an `Observation` on the training thread; the writer's thread
reads it, which copies it from the device.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from tb_batchview.capture.gather import not_per_sample
from tb_batchview.capture.pack import Leaf, read_mark, unpack
from tb_batchview.capture.summary import SummaryLayout, decode_summary
from tb_batchview.records import Array, LayerSummary, OutputRecord
from tb_batchview.tasks import TaskHint


class Observation(NamedTuple):
    """What one call of a step function saw, still on the device.

    Attributes:
        vector: The packed tensors, not yet copied.
        lengths: How many numbers belong to each batch, when there are several
            in one call (steps_per_execution); None for one.
        layouts: How to read the numbers of a batch, by the mark they begin with.
        wall_time: When the call returned, seconds since 1970.
    """

    vector: Any
    lengths: Any
    layouts: Mapping[int, Layout]
    wall_time: float

    @property
    def nbytes(self) -> int:
        """Bytes that it keeps alive."""
        return int(self.vector.shape[0]) * 4

    @property
    def batches(self) -> int:
        """Number of batches in it.

        Keras itself has waited for such a call to end, so that asking for the
        lengths waits for nothing more.
        """
        return 1 if self.lengths is None else int(np.count_nonzero(self.lengths.numpy()))

    def read(self) -> list[Observed]:
        """Copy it from the device and take it apart; any thread may."""
        vector = np.ascontiguousarray(self.vector.numpy())
        if self.lengths is None:
            return [self._read_batch(vector)]
        ends = np.cumsum(self.lengths.numpy())
        return [self._read_batch(part) for part in np.split(vector, ends[:-1]) if len(part)]

    def _read_batch(self, vector: Array) -> Observed:
        return self.layouts[read_mark(vector)].read(vector)


class Observed(NamedTuple):
    """What one step saw, in NumPy.

    Attributes:
        size: Number of samples, 0 when that is not known.
        loss: The loss of the batch, NaN where there is none.
        metrics: Metrics of the batch by name.
        outputs: Arrays by output.
        layers: Summaries by layer; empty in a batch that is not summarised.
        hints: What the losses say about the outputs.
        problems: What had to be left out, one sentence each.
    """

    size: int
    loss: float
    metrics: dict[str, float]
    outputs: dict[str, OutputRecord]
    layers: dict[str, LayerSummary]
    hints: dict[str, TaskHint]
    problems: list[str]


class Layout(NamedTuple):
    """How the vector of one trace of the step is read.

    Attributes:
        leaves: The tensors in it.
        summaries: The layers in the tensor "layers".
        hints: What the losses say about the outputs.
    """

    leaves: list[Leaf]
    summaries: list[SummaryLayout]
    hints: dict[str, TaskHint]

    def read(self, vector: Array) -> Observed:
        """Take a packed vector apart."""
        size, loss = 0, float("nan")
        metrics: dict[str, float] = {}
        outputs: dict[str, dict[str, Array]] = {}
        layers: dict[str, LayerSummary] = {}
        for name, array in unpack(vector, self.leaves).items():
            kind, _, rest = name.partition("/")
            if kind == "size":
                size = int(array)
            elif kind == "loss":
                loss = float(array)
            elif kind == "metrics":
                metrics[rest] = float(array)
            elif kind == "outputs":
                output, _, field = rest.rpartition("/")
                outputs.setdefault(output, {})[field] = array
            elif kind == "layers" and array[0] > 0:
                layers = self._read_layers(array[1:])
        # Models return what they like: a codebook's use, one value of a batch.
        problems = [
            not_per_sample(name, field)
            for name, arrays in outputs.items()
            for field, array in arrays.items()
            if size and len(array) != size
        ]
        fitting = {
            name: {field: array for field, array in arrays.items() if not size or len(array) == size}
            for name, arrays in outputs.items()
        }
        records = {name: OutputRecord(**arrays) for name, arrays in fitting.items() if arrays}
        return Observed(size, loss, metrics, records, layers, self.hints, problems)

    def _read_layers(self, vector: Array) -> dict[str, LayerSummary]:
        ends = list(itertools.accumulate(summary.length for summary in self.summaries))
        return {
            summary.name: decode_summary(vector[end - summary.length : end], summary)
            for summary, end in zip(self.summaries, ends, strict=True)
        }
