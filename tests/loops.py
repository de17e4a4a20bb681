"""Plain training loops of JAX and of PyTorch: the independent truth of a batch.

Nothing of Keras' fit, and nothing of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

# The loss of targets and predictions, without what layers add to it.
Total = Callable[[Any, Any], Any]


def to_numpy(structure: Any) -> Any:
    """Copy tensors to NumPy, float16 and the like as float32."""
    return keras.tree.map_structure(
        lambda value: np.array(keras.ops.convert_to_numpy(keras.ops.cast(value, "float32"))), structure
    )


def train_by_hand(model: Any, total: Total, x: Any, y: Any, *, batch: int, epochs: int) -> list[dict[str, Any]]:
    """Train a compiled model in order.

    Returns:
        Of each batch "predictions", "loss" and the trainable "weights" that
        gave them, in NumPy.
    """
    model.optimizer.build(model.trainable_variables)
    train = {"jax": _make_jax_step, "torch": _make_torch_step}[keras.backend.backend()](model, total)
    samples = len(keras.tree.flatten(x)[0])
    batches = []
    for start in [start for _ in range(epochs) for start in range(0, samples, batch)]:
        cut = lambda array, start=start: array[start : start + batch]  # noqa: E731
        predictions, loss, weights = train(keras.tree.map_structure(cut, x), keras.tree.map_structure(cut, y))
        batches.append({"predictions": predictions, "loss": loss, "weights": weights})
    return batches


def _make_jax_step(model: Any, total: Total) -> Callable[[Any, Any], Any]:
    import jax

    def compute(trained: Any, fixed: Any, x: Any, y: Any) -> Any:
        predictions, fixed, losses = model.stateless_call(trained, fixed, x, training=True, return_losses=True)
        return total(y, predictions) + sum(losses), (predictions, fixed)

    state = [
        [variable.value for variable in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables, model.optimizer.variables)
    ]

    @jax.jit
    def update(trained: Any, fixed: Any, optimizer: Any, x: Any, y: Any) -> Any:
        differentiate = jax.value_and_grad(compute, has_aux=True)
        (loss, (predictions, fixed)), gradients = differentiate(trained, fixed, x, y)
        trained, optimizer = model.optimizer.stateless_apply(optimizer, gradients, trained)
        return (trained, fixed, optimizer), (predictions, loss)

    def step(x: Any, y: Any) -> Any:
        weights = to_numpy(state[0])
        state[:], (predictions, loss) = update(*state, x, y)
        return to_numpy(predictions), float(loss), weights

    return step


def _make_torch_step(model: Any, total: Total) -> Callable[[Any, Any], Any]:
    import torch

    def step(x: Any, y: Any) -> Any:
        weights = to_numpy([variable.value for variable in model.trainable_variables])
        x, y = (keras.tree.map_structure(keras.ops.convert_to_tensor, value) for value in (x, y))
        predictions = model(x, training=True)
        model.zero_grad()
        loss = total(y, predictions) + sum(model.losses)
        loss.backward()
        trained = model.trainable_variables[:]
        with torch.no_grad():
            model.optimizer.apply([variable.value.grad for variable in trained], trained)
            return to_numpy(predictions), float(loss), weights

    return step
