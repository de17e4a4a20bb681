"""TensorFlow's part of `arrays`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tb_batchview.records import Array

# Sums and products that TensorFlow's optimizer may write anew as one sum
# (grappler's arithmetic_optimizer: AddOpsRewrite, HoistCommonFactor and
# MinimizeBroadcasts), but only while nobody else looks at the inner one.
_SUMS = ("Add", "AddV2", "AddN")
_PRODUCTS = ("Mul", "Div", "RealDiv")
_SIZES = ("Shape", "ShapeN", "Rank", "Size")
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
# How each of them is computed once more.
_ANEW: dict[str, Callable[..., Any]] = {
    "Add": tf.add,
    "AddV2": tf.add,
    "AddN": lambda *parts: tf.add_n(parts),
    "Mul": tf.multiply,
    "Div": lambda one, other: tf.raw_ops.Div(x=one, y=other),
    "RealDiv": tf.divide,
}


class Scene:
    """The graph, or the eager step, that is watched."""

    def __init__(self, batch: Any) -> None:
        """Begin in the graph in which the step will run."""
        self._graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()

    def functions(self) -> Iterator[Any]:
        """Yield the graphs of the functions that the step calls."""
        waiting, seen = [] if self._graph is None else [self._graph], set()
        while waiting:
            graph = waiting.pop()
            for operation in graph.get_operations():
                if operation.type not in _CALLS:
                    continue
                # `Graph._get_function` and the graph of what it returns (2.16 to
                # 2.21). Without them what is tagged inside is passed over.
                called = getattr(graph._get_function(operation.get_attr("f").name), "graph", None)
                if called is not None and id(called) not in seen:
                    seen.add(id(called))
                    waiting.append(called)
                    yield called

    def holds(self, value: Any) -> bool:
        """Tell whether a value is a tensor of the step itself."""
        if isinstance(value, tf.IndexedSlices):
            # The gradient of an embedding: of the rows that were looked up.
            return self.holds(value.values)
        if not isinstance(value, tf.Tensor):
            return False
        # Keras builds a model by running it on symbols, in a graph that is
        # thrown away.
        return not tf.is_symbolic_tensor(value) if self._graph is None else getattr(value, "graph", None) is self._graph


def is_array(value: Any) -> bool:
    """Tell whether a value is a dense tensor."""
    return isinstance(value, tf.Tensor)


def choose(condition: Any, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
    """Return what one of two functions computes, and compute only that."""
    return tf.cond(condition, yes, no)


def count(places: Any, size: int) -> Any:
    """Count how often each of the numbers below `size` occurs, as float32."""
    # The raw op: the only count that is fast with and without XLA;
    # tf.math.bincount needs a constant size there and has none.
    return tf.raw_ops.DenseBincount(input=places, size=size, weights=tf.constant([], tf.float32), binary_output=False)


def keep(gradient: Any) -> Any:
    """Return a gradient as it is now: nothing changes it later."""
    return gradient


def add_parts(parts: Sequence[Any], shape: tuple[int, ...]) -> Any:
    """Return the sum of the parts of a gradient, as a dense tensor."""
    dense = [
        tf.math.unsorted_segment_sum(part.values, part.indices, shape[0])
        if isinstance(part, tf.IndexedSlices)
        else part
        for part in parts
    ]
    return tf.add_n(dense) if len(dense) > 1 else dense[0]


def is_merged(output: Any) -> bool:
    """Tell whether looking at a layer's output could change the last bit.

    Args:
        output: A tensor of a graph whose step is complete.
    """
    if tf.executing_eagerly():
        return False
    made_by = output.op.type
    used_by = [operation.type for operation in output.consumers() if operation.type not in _SIZES]
    if len(used_by) != 1:
        return False
    return (used_by[0] in _SUMS and made_by in _SUMS + _PRODUCTS) or (used_by[0] == made_by == "Mul")


def look_aside(output: Any) -> Callable[[], Any]:
    """Return a function that computes an output without looking at it.

    Args:
        output: A tensor of a graph whose step is complete. What TensorFlow
            would merge into the next sum is computed once more from what it
            is of; anything else is returned.

    Returns:
        To be called in a branch, which shares no operations with the step.
    """
    if not is_merged(output):
        return lambda: output
    compute = _ANEW[output.op.type]
    # All are looked at before the first is computed, which is to look at them.
    parts = [look_aside(part) for part in output.op.inputs]
    return lambda: compute(*[part() for part in parts])


def to_codes(texts: Any, nbytes: int) -> Any:
    """Return the first bytes of each text, as int32, zeros behind them."""
    flat = tf.reshape(texts, [-1])
    return tf.io.decode_raw(flat, tf.int32, fixed_length=nbytes)


def copy_array(value: Any) -> Any:
    """Return a tensor of an array, which a loop may use again.

    What is none, or no tensor can be made of, is returned as it is.
    """
    if isinstance(value, np.ndarray):
        with contextlib.suppress(Exception):
            return tf.constant(value)
    return value


def to_numpy(value: Any) -> Array:
    """Copy an eager tensor from the device."""
    array: Array = (tf.cast(value, tf.float32) if value.dtype == tf.bfloat16 else value).numpy()
    return array
