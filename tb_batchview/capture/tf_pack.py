"""All that a step hands out, as one vector of float32.

Every tensor that leaves a `tf.function` costs time on the training thread and
a copy from the device, so `tf_step` packs them bit by bit into one, a
`PackedTensors`, which is taken apart on the writer's thread.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tb_batchview.capture.observation import Observed, read_observed
from tb_batchview.records import Array
from tb_batchview.tasks import TaskHint

_WIDENED = {tf.float16: tf.float32, tf.bfloat16: tf.float32, tf.bool: tf.int32, tf.int8: tf.int32}
_WIDENED |= {tf.int16: tf.int32, tf.uint16: tf.int32}


class Leaf(NamedTuple):
    """One tensor in the vector.

    Attributes:
        name: What it is.
        shape: Its static shape; None for a size known only at run time.
        packed: The dtype its bits have in the vector.
        dtype: The dtype it had, and gets back.
    """

    name: str
    shape: tuple[int | None, ...]
    packed: np.dtype[Any]
    dtype: np.dtype[Any]


def pack(tensors: dict[str, Any], mark: int) -> tuple[Any, list[Leaf]]:
    """Put tensors into one vector.

    Args:
        tensors: By name, each for which `is_recordable` holds.
        mark: A number that is put first, to know the layout again by.

    Returns:
        The vector, float32 of rank 1, and the layout that `unpack` needs.
    """
    leaves = []
    sizes = [tf.constant([mark], tf.int32)]
    parts = []
    for name, tensor in tensors.items():
        wide = tf.cast(tensor, _WIDENED[tensor.dtype]) if tensor.dtype in _WIDENED else tensor
        shape = tuple(tensor.shape.as_list())
        # bfloat16 has no NumPy dtype of its own: it stays float32.
        dtype = np.dtype(np.float32) if tensor.dtype == tf.bfloat16 else np.dtype(tensor.dtype.as_numpy_dtype)
        leaves.append(Leaf(name, shape, np.dtype(wide.dtype.as_numpy_dtype), dtype))
        if None in shape:
            sizes.append(tf.shape(tensor))
        parts.append(_bits(wide))
    return tf.concat([tf.bitcast(tf.concat(sizes, 0), tf.float32), *parts], 0), leaves


def _bits(tensor: Any) -> Any:
    flat = tf.reshape(tensor, [-1])
    if flat.dtype == tf.uint8:
        # Pictures: four to a number, with zeros behind the last.
        flat = tf.reshape(tf.pad(flat, [[0, -tf.size(flat) % 4]]), [-1, 4])
        return tf.bitcast(flat, tf.float32)
    if flat.dtype == tf.float32:
        return flat
    # Eight-byte numbers become rows of two.
    return tf.reshape(tf.bitcast(flat, tf.float32), [-1])


def read_mark(vector: Array) -> int:
    """Return the number that `pack` put first."""
    return int(vector[:1].view(np.int32)[0])


def unpack(vector: Array, leaves: list[Leaf]) -> dict[str, Array]:
    """Take a vector apart.

    Args:
        vector: What `pack` made, as a contiguous NumPy array of float32.
        leaves: The layout that `pack` returned.

    Returns:
        The arrays by name, of their own dtypes; views where nothing had to be
        narrowed.
    """
    position = 1
    shapes: list[tuple[int, ...]] = []
    for leaf in leaves:
        if None in leaf.shape:
            rank = len(leaf.shape)
            shapes.append(tuple(int(size) for size in vector[position : position + rank].view(np.int32)))
            position += rank
        else:
            shapes.append(tuple(size for size in leaf.shape if size is not None))
    arrays = {}
    for leaf, shape in zip(leaves, shapes, strict=True):
        size = math.prod(shape)
        length = -(-size * leaf.packed.itemsize // 4)
        # Eight-byte numbers may lie on a multiple of four only, which NumPy
        # handles.
        bits = vector[position : position + length].view(leaf.packed)[:size].reshape(shape)
        arrays[leaf.name] = bits if leaf.dtype == leaf.packed else bits.astype(leaf.dtype)
        position += length
    return arrays


class PackedTensors(NamedTuple):
    """The `Observation` of one call of a step in a graph.

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


class Layout(NamedTuple):
    """How the vector of one trace of the step is read.

    Attributes:
        leaves: The tensors in it.
        figures: Of the tensor "layers": where the figures of each layer are
            behind its first number, which is 0 if they were not computed,
            else the count of the step and 1.
        gradients: The same of the tensor "gradients".
        hints: What the losses say about the outputs.
    """

    leaves: list[Leaf]
    figures: dict[str, slice]
    gradients: dict[str, slice]
    hints: dict[str, TaskHint]

    def read(self, vector: Array) -> Observed:
        """Take a packed vector apart."""
        named = unpack(vector, self.leaves)
        count = 0
        for kind, figures in (("layers", self.figures), ("gradients", self.gradients)):
            vector = named.pop(kind, np.zeros(1, np.float32))
            if vector[0]:
                count = int(vector[0]) - 1
                named |= {name: vector[1:][place] for name, place in figures.items()}
        return read_observed(named, self.hints, count)
