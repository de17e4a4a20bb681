"""How a step takes its batches from the iterator, as Keras does it.

`tf_step` wraps what these functions return in a `tf.function`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def loop_once(one_step: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Take one batch: logs, vector, and no lengths."""

    def run_one(iterator: Any) -> Any:
        logs, vector = one_step(iterator.get_next())
        return logs, vector, None

    return run_one


def loop_many(one_step: Callable[[Any], Any], steps: int, unrolled: int) -> Callable[[Any], Any]:
    """Write Keras' loop over several batches, gathering each one's vector.

    The steps must be taken in one graph as Keras takes them: a step that finds
    no data when run by itself has half happened (counters and random seeds
    have moved on).
    """

    def run_many(iterator: Any) -> Any:
        # Its content is known once the body of the loop has been traced.
        nothing = tf.experimental.Optional.empty(None)
        vectors = tf.TensorArray(tf.float32, steps, infer_shape=False, element_shape=[None])
        for place in range(steps):
            # A place that is never written to could not be concatenated.
            vectors = vectors.write(place, tf.zeros([0]))
        lengths = tf.TensorArray(tf.int32, steps, element_shape=[]).unstack(tf.zeros([steps], tf.int32))

        def has_more(place: Any, logs: Any, data: Any, vectors: Any, lengths: Any) -> Any:
            return tf.logical_and(tf.less(place, steps), data.has_value())

        def one_more(place: Any, logs: Any, data: Any, vectors: Any, lengths: Any) -> Any:
            def step() -> Any:
                step_logs, vector = one_step(data.get_value())
                wrapped = tf.experimental.Optional.from_value(step_logs)
                nothing._element_spec = wrapped.element_spec
                return wrapped, vector

            def skip() -> Any:
                logs._element_spec = nothing._element_spec
                return logs, tf.zeros([0])

            more = has_more(place, logs, data, vectors, lengths)
            logs, vector = tf.cond(more, step, skip)
            # Beyond the last place when the unrolled steps do not divide.
            here = tf.minimum(place, steps - 1)
            vectors = tf.cond(more, lambda: vectors.write(here, vector), lambda: vectors)
            lengths = tf.cond(more, lambda: lengths.write(here, tf.size(vector)), lambda: lengths)
            data = tf.cond(tf.less(place + 1, steps), iterator.get_next_as_optional, lambda: data)
            return place + 1, logs, data, vectors, lengths

        def body(*state: Any) -> Any:
            for _ in range(min(unrolled, steps)):
                state = one_more(*state)
            return state

        start = (tf.constant(0), nothing, iterator.get_next_as_optional(), vectors, lengths)
        _, logs, _, vectors, lengths = tf.while_loop(has_more, body, start)
        logs._element_spec = nothing.element_spec
        return logs, vectors.concat(), lengths.stack()

    return run_many
