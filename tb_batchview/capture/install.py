"""Puts the stand-in of the backend in use in the place of Keras' own step."""

from __future__ import annotations

import weakref
from typing import Any

import keras

from tb_batchview.capture import keras_names
from tb_batchview.capture.predict_step import PredictStep
from tb_batchview.capture.step import Recorder, TappedStep
from tb_batchview.ids import split_ids

BACKENDS = ("tensorflow", "jax", "torch")

# The recorders whose models may be built from batches with ids.
_living: weakref.WeakSet[Recorder] = weakref.WeakSet()


def _step_class() -> type[TappedStep]:
    # Here, since only the backend in use need be installed.
    if keras.backend.backend() == "jax":
        from tb_batchview.capture.jax_step import JaxStep

        return JaxStep
    if keras.backend.backend() == "torch":
        from tb_batchview.capture.torch_step import TorchStep

        return TorchStep
    from tb_batchview.capture.tf_step import TensorFlowStep

    return TensorFlowStep


def install(
    model: Any, phase: str, recorder: Recorder, reuse: TappedStep | None = None, *, records: bool = True
) -> TappedStep | None:
    """Have a model's steps watched for a recorder.

    Args:
        model: A Keras model.
        phase: "train", "validation" or "predict".
        recorder: Who receives what the steps saw.
        reuse: What an earlier call returned: used again, with its compiled
            graph, if it stands for the same function of Keras.
        records: Whether the recorder wants to know of them. If not, ids are
            taken out of the batches, and that is all.

    Returns:
        The stand-in, or None when the model has no step function (it is not
        compiled).
    """
    current = keras_names.made_step_function(model, phase)
    if current is None:
        return None
    if isinstance(current, TappedStep):
        current.join(recorder, records=records)
        return current
    if reuse is not None and reuse.original is current and reuse.model is model:
        reuse.join(recorder, records=records)
        step = reuse
    else:
        step = (PredictStep if phase == "predict" else _step_class())(model, phase, current)
        step.join(recorder, records=records)
    keras_names.set_step_function(model, phase, step)
    return step


def build_without_ids(recorder: Recorder) -> None:
    """Have Keras build models from batches without ids, as long as one lives.

    Some backends build them before a callback is told of anything.
    """
    _living.add(recorder)
    weakref.finalize(recorder, _build_as_before).atexit = False
    keras_names.build_without(split_ids)


def _build_as_before() -> None:
    # Not its length, which counts the one that is dying.
    if not list(_living):
        keras_names.build_as_before()


def find_worker() -> tuple[int, int]:
    """Return the number of this process, and how many train together.

    Of JAX's processes, once `jax.distributed.initialize` was called; it is not
    called here, nor are JAX's devices looked for, which would be too early.
    """
    if keras.backend.backend() != "jax":
        return 0, 1
    from tb_batchview.capture.jax_processes import find_process

    return find_process()
