"""Joins what the replicas of a strategy saw into what the batch was.

Called by `tf_step` in cross-replica context. With one replica there is nothing
to join.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def merge_logs(strategy: Any, logs: Any) -> Any:
    """Average the logs over the replicas, as Keras does."""
    return tf.nest.map_structure(lambda value: tf.reduce_mean(strategy.experimental_local_results(value), axis=0), logs)


def merge_pieces(strategy: Any, pieces: Any) -> Any:
    """Make the whole batch of its parts on the replicas.

    Args:
        strategy: Of the model.
        pieces: "tensors" as `gather` names them, "states" of the metrics, the
            vector of "layers" and the "gradients" by layer, each with a value
            per replica.

    Returns:
        The same structure with a value each: arrays in the order of the data,
        the loss weighted by samples (as Keras' loss tracker does), states
        summed. Layers are those of the first replica. Of a gradient all values
        are returned: to add them costs time, and they may not be looked at.
    """
    if strategy.num_replicas_in_sync == 1:
        return pieces
    local = strategy.experimental_local_results
    tensors = {name: local(value) for name, value in pieces["tensors"].items()}
    merged = {name: tf.concat(values, 0) for name, values in tensors.items() if name not in ("size", "loss")}
    if "size" in tensors:
        merged["size"] = tf.add_n(tensors["size"])
        if "loss" in tensors:
            # Each replica's loss comes divided by their number.
            sizes = [tf.cast(size, tensors["loss"][0].dtype) for size in tensors["size"]]
            products = [loss * size for loss, size in zip(tensors["loss"], sizes, strict=True)]
            merged["loss"] = tf.math.divide_no_nan(tf.add_n(products) * len(sizes), tf.add_n(sizes))
    states = {name: [tf.add_n(local(state)) for state in values] for name, values in pieces["states"].items()}
    layers = None if pieces["layers"] is None else local(pieces["layers"])[0]
    gradients = {name: [local(value) for value in values] for name, values in (pieces["gradients"] or {}).items()}
    return {"tensors": merged, "states": states, "layers": layers, "gradients": gradients}
