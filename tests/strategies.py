"""Drawn batch records, for tests of what is written and read.

`from strategies import batch_records`: the tests' directory is on the path
while pytest runs. Importing it also settles how hypothesis draws: the same
every time, without deadlines (machines that test are busy ones).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tb_batchview.records import PHASES, BatchRecord, GradientSummary, LayerSummary, OutputRecord, OutputSpec

# A batch, and the specs of its outputs.
Drawn = tuple[BatchRecord, dict[str, OutputSpec]]

settings.register_profile("drawn", derandomize=True, deadline=None, database=None)
settings.load_profile("drawn")

# Every dtype of the format, in both byte orders.
DTYPES = [
    np.dtype(order + code)
    for code in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")
    for order in ("<", ">")
]

# Text that a protobuf string holds: no surrogates.
names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
floats = st.floats(width=32)
dtypes = st.sampled_from(DTYPES)


def arrays(dtype: Any, shape: Any) -> st.SearchStrategy[np.ndarray]:
    """Return arrays, some of them not contiguous, NaN and infinities too."""
    drawn = hnp.arrays(dtype, shape)
    # Every second row of twice as many; columns first.
    return drawn.flatmap(
        lambda array: st.sampled_from([array, np.repeat(array, 2, axis=0)[::2], np.asfortranarray(array)])
    )


@st.composite
def outputs(draw: st.DrawFn, samples: int | None = None) -> tuple[OutputSpec, OutputRecord]:
    """Return an output of any task, and arrays that fit it."""
    if samples is None:
        samples = draw(st.integers(0, 6))
    task = draw(st.sampled_from(["multiclass", "binary", "multilabel", "regression"]))
    classes = {"binary": 2, "regression": 0}[task] if task in ("binary", "regression") else draw(st.integers(2, 5))
    if task == "regression":
        shape: tuple[int, ...] = (samples, *draw(st.lists(st.integers(1, 3), max_size=2)))
        targets_shape = shape
    elif task == "binary":
        shape = draw(st.sampled_from([(samples,), (samples, 1)]))
        targets_shape = draw(st.sampled_from([(samples,), (samples, 1)]))
    else:
        inner = draw(st.sampled_from([(), (), (2,), (2, 3)]))
        shape = (samples, *inner, classes)
        targets_shape = shape if task == "multilabel" else draw(st.sampled_from([shape, (samples, *inner)]))
    activation = (
        None
        if task == "regression"
        else draw(st.sampled_from([None, "softmax" if task == "multiclass" else "sigmoid"]))
    )
    class_names = draw(st.none() | st.lists(names, min_size=classes, max_size=classes).map(tuple)) if classes else None
    ids = st.one_of(
        hnp.arrays(np.int64, samples),
        st.lists(st.text(max_size=8), min_size=samples, max_size=samples).map(lambda ids: np.array(ids, object)),
    )
    record = OutputRecord(
        predictions=draw(st.none() | dtypes.flatmap(lambda dtype: arrays(dtype, shape))),
        targets=draw(st.none() | dtypes.flatmap(lambda dtype: arrays(dtype, targets_shape))),
        sample_loss=draw(st.none() | arrays(np.float32, samples)),
        sample_weight=draw(st.none() | arrays(np.float32, samples)),
        sample_ids=draw(st.none() | ids),
    )
    return OutputSpec(task, classes, activation, class_names), record


@st.composite
def layer_summaries(draw: st.DrawFn) -> LayerSummary:
    """Return a summary with any figures."""
    figures = draw(st.lists(floats, min_size=7, max_size=7))
    histogram = draw(hnp.arrays(np.float32, st.integers(0, 5)))
    by_unit = [draw(st.none() | hnp.arrays(np.float32, st.integers(0, 5))) for _ in range(3)]
    return LayerSummary(*figures, histogram, *by_unit)


@st.composite
def gradient_summaries(draw: st.DrawFn) -> GradientSummary:
    """Return the summary of a gradient with any figures."""
    figures = draw(st.lists(floats, min_size=8, max_size=8))
    return GradientSummary(*figures, draw(hnp.arrays(np.float32, st.integers(0, 5))))


@st.composite
def batch_records(draw: st.DrawFn) -> tuple[BatchRecord, dict[str, OutputSpec]]:
    """Return a batch with up to two outputs, and their specs."""
    samples = draw(st.integers(0, 6))
    drawn = draw(st.dictionaries(names, outputs(samples), max_size=2))
    record = BatchRecord(
        phase=draw(st.sampled_from(PHASES)),
        step=draw(st.integers(0, 2**63 - 1)),
        epoch=draw(st.integers(0, 1000)),
        index=draw(st.integers(0, 1000)),
        size=samples,
        wall_time=draw(st.floats(0, 1e12)),
        loss=draw(st.floats()),
        metrics=draw(st.dictionaries(names, st.floats(), max_size=3)),
        outputs={name: record for name, (_, record) in drawn.items()},
        layers=draw(st.dictionaries(names, layer_summaries(), max_size=2)),
        gradients=draw(st.dictionaries(names, gradient_summaries(), max_size=2)),
    )
    return record, {name: spec for name, (spec, _) in drawn.items()}
