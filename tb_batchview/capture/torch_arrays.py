"""PyTorch's part of `arrays`: every step runs eagerly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import torch

from tb_batchview.records import Array


class Scene:
    """The step that is watched."""

    def __init__(self, batch: Any) -> None:
        """Begin."""

    def functions(self) -> Iterator[Any]:
        """Yield nothing: only TensorFlow's functions keep their graphs."""
        return iter(())

    def holds(self, value: Any) -> bool:
        """Tell whether a value is a tensor with numbers."""
        # Keras builds models by running them on the device "meta".
        return is_array(value) and not getattr(value, "is_meta", False)


def is_array(value: Any) -> bool:
    """Tell whether a value is a dense tensor.

    `train_on_batch` hands NumPy's arrays to the step as they are.
    """
    return isinstance(value, np.ndarray) or (isinstance(value, torch.Tensor) and value.layout == torch.strided)


def choose(condition: Any, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
    """Return what one of two functions computes; on a CPU only that."""
    if isinstance(condition, torch.Tensor) and condition.device.type != "cpu":
        # To look at it would have training wait for the device.
        return select(condition, yes(), no())
    return yes() if condition else no()


def select(condition: torch.Tensor, yes: Any, no: Any) -> Any:
    """Return the one or the other structure, chosen on the device."""
    return keras.tree.map_structure(lambda one, other: torch.where(condition, one, other), yes, no)


def count(places: Any, size: int) -> Any:
    """Count how often each of the numbers below `size` occurs, as float32."""
    # Not bincount, which waits for the device to learn the largest.
    places = places.reshape(-1).long()
    counts = torch.zeros(size, dtype=torch.float32, device=places.device)
    return counts.scatter_add_(0, places, torch.ones_like(places, dtype=torch.float32))


def keep(gradient: Any) -> Any:
    """Copy a gradient: a loop may set it to zero, or clip it, in place."""
    return gradient.detach().clone() if isinstance(gradient, torch.Tensor) else gradient


def add_parts(parts: Sequence[Any], shape: tuple[int, ...]) -> Any:
    """Return the gradient, which is in one part."""
    return parts[0]


def is_merged(output: Any) -> bool:
    """Tell whether looking at an output could change a result: never."""
    return False


def look_aside(output: Any) -> Callable[[], Any]:
    """Return a function that returns the output: steps run eagerly."""
    return lambda: output


def to_numpy(value: Any) -> Array:
    """Copy a tensor from the device."""
    if isinstance(value, np.ndarray):
        return value
    value = value.detach()
    array: Array = (value.float() if value.dtype == torch.bfloat16 else value).cpu().numpy()
    return array
