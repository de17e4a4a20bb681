"""JAX's part of `arrays`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tb_batchview.records import Array


class Scene:
    """The trace of the step that is watched, or the eager step."""

    def __init__(self, batch: Any) -> None:
        """Begin with what the step was given: arrays of its trace."""
        self._traces: list[Any] = []
        self.enter(batch)

    def enter(self, values: Any) -> None:
        """Take in the trace that values belong to (that of a gradient)."""
        for leaf in jax.tree_util.tree_leaves(values):
            trace = _trace_of(leaf)
            if trace is not None and all(trace is not known for known in self._traces):
                self._traces.append(trace)

    def functions(self) -> Iterator[Any]:
        """Yield nothing: only TensorFlow's functions keep their graphs."""
        return iter(())

    def holds(self, value: Any) -> bool:
        """Tell whether a value is an array of the step itself."""
        if not is_array(value):
            return False
        trace = _trace_of(value)
        return trace is None or any(trace is known for known in self._traces)


# `Tracer._trace` (JAX 0.4 to 0.10). Without it no traced value is known as the
# step's own, and nothing but the figures that Keras returns is recorded.
def _trace_of(value: Any) -> Any:
    return getattr(value, "_trace", value) if isinstance(value, jax.core.Tracer) else None


def is_array(value: Any) -> bool:
    """Tell whether a value is an array, traced or not.

    A step that runs eagerly is given its batch as NumPy's.
    """
    return isinstance(value, (jax.Array, np.ndarray))


def choose(condition: Any, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
    """Return what one of two functions computes, and compute only that."""
    if not isinstance(condition, jax.core.Tracer):
        # An eager step; a branch of JAX would be compiled anew each time.
        return yes() if condition else no()
    return jax.lax.cond(condition, yes, no)


def count(places: Any, size: int) -> Any:
    """Count how often each of the numbers below `size` occurs, as float32."""
    return jnp.zeros(size, jnp.float32).at[places].add(1.0)


def keep(gradient: Any) -> Any:
    """Return a gradient as it is now: nothing changes it later."""
    return gradient


def add_parts(parts: Sequence[Any], shape: tuple[int, ...]) -> Any:
    """Return the gradient, which is in one part."""
    return parts[0]


def is_merged(output: Any) -> bool:
    """Tell whether looking at an output could change a result.

    XLA decides what it fuses; nothing in the trace tells.
    """
    return False


def look_aside(output: Any) -> Callable[[], Any]:
    """Return a function that returns the output: XLA decides what it fuses."""
    return lambda: output


def to_numpy(value: Any) -> Array:
    """Copy an array from its devices: of several processes, the part here."""
    if isinstance(value, np.ndarray):
        array = value
    elif not value.is_fully_addressable:
        # One of each part that lies here, in the order of the rows.
        parts = {str(shard.index): shard for shard in value.addressable_shards}
        shards = sorted(parts.values(), key=lambda shard: [part.start or 0 for part in shard.index])
        arrays = [np.asarray(shard.data) for shard in shards]
        array = np.concatenate(arrays) if len(arrays) > 1 else arrays[0]
    else:
        array = np.asarray(value)
    # bfloat16 is none of NumPy's own dtypes.
    return array.astype(np.float32) if array.dtype.kind == "V" or array.dtype.name == "bfloat16" else array
