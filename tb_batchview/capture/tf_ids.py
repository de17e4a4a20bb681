"""Ids that are tensors of a graph of TensorFlow, as rows of integers.

What `ids.encode_ids` does with NumPy: `ids.with_ids` calls it for tensors in
`dataset.map`, `gather` for texts among the inputs of a model.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tb_batchview.errors import ArgumentError
from tb_batchview.ids import DIGEST_FACTOR, MOST_BYTES, TAIL_BYTES, TEXT_WIDTH


def encode_tensor(ids: Any) -> Any:
    """Return ids as rows of integers.

    Args:
        ids: Strings or integers, of rank 0 (one sample) or 1, or of shape
            (samples, 1).

    Returns:
        int32, shape (samples, width); of one sample (width,).

    Raises:
        ArgumentError: They are of another kind or shape.
    """
    if not isinstance(ids, tf.Tensor) or not (ids.dtype == tf.string or ids.dtype.is_integer) or ids.dtype == tf.uint64:
        raise ArgumentError(
            "ids must be texts (file names) or whole numbers below 2**63. Received: a "
            f"{type(ids).__name__} of dtype {getattr(ids, 'dtype', '?')}."
        )
    if ids.shape.rank == 2 and ids.shape[1] == 1:
        ids = ids[:, 0]
    if ids.shape.rank not in (0, 1):
        raise ArgumentError(
            f"ids must be one for each sample. Received: shape={ids.shape}. If it is not known, use ids.set_shape."
        )
    return _encode_texts(ids) if ids.dtype == tf.string else tf.bitcast(tf.cast(ids, tf.int64), tf.int32)


def _encode_texts(ids: Any) -> Any:
    flat = tf.reshape(ids, [-1])
    lengths = tf.strings.length(flat)
    whole = tf.io.decode_raw(flat, tf.int32, fixed_length=MOST_BYTES)
    starts = tf.maximum(lengths - TAIL_BYTES, 0)
    tails = tf.strings.substr(flat, starts, tf.fill(tf.shape(starts), TAIL_BYTES))
    cut = tf.concat(
        [tf.bitcast(_digest(flat, lengths), tf.int32), tf.io.decode_raw(tails, tf.int32, fixed_length=TAIL_BYTES)], 1
    )
    words = tf.where((lengths > MOST_BYTES)[:, None], cut, whole)
    codes = tf.concat([lengths[:, None], words], 1)
    return (
        tf.reshape(codes, [TEXT_WIDTH]) if ids.shape.rank == 0 else tf.ensure_shape(codes, [ids.shape[0], TEXT_WIDTH])
    )


def _digest(texts: Any, lengths: Any) -> Any:
    """Compute `ids.digest`; int64 counts modulo 2**64 like uint64."""
    longest = tf.maximum(tf.reduce_max(lengths), 1)
    letters = tf.cast(tf.io.decode_raw(texts, tf.uint8, fixed_length=longest), tf.int64)
    powers = tf.math.cumprod(tf.fill([longest], tf.constant(DIGEST_FACTOR, tf.int64)))
    return tf.reduce_sum(letters * powers, 1)
