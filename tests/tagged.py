"""A layer that tags what it computes, for tests on any backend; and the same in NumPy."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from tb_batchview import tag


class Attention(keras.layers.Layer):
    """Attends to the rows of its input, and tags how."""

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(shape[-1], shape[-1]), name="kernel")

    def call(self, inputs: Any) -> Any:
        scores = ops.softmax(ops.matmul(ops.matmul(inputs, self.kernel), ops.transpose(inputs, (0, 2, 1))))
        return ops.matmul(tag("attention", scores), inputs)


def attend(inputs: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Compute what `Attention` tags."""
    logits = inputs @ kernel @ inputs.transpose(0, 2, 1)
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)
