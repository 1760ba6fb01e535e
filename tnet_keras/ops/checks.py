"""Checks of arguments: one clear line, before any graph is built."""

import numpy as np
import tensorflow as tf


def check_one_of(name, value, allowed):
    """Checks an argument that takes one of a few values.

    Args:
        name: The argument's name.
        value: What was received.
        allowed: The values it may take.

    Returns:
        The value.

    Raises:
        ValueError: If it is none of them.
    """
    if value not in allowed:
        raise ValueError(
            f"`{name}` must be one of {', '.join(map(repr, allowed))}. Received: {name}={value!r}"
        )
    return value


def check_count(name, value, least):
    """Checks an argument that counts something.

    Args:
        name: The argument's name.
        value: What was received.
        least: The least it may be.

    Raises:
        ValueError: If it is no integer of at least that.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(
            f"`{name}` must be an integer of at least {least}. Received: {name}={value!r}"
        )


def check_scores(scores, k):
    """Checks scores of candidates, and how many of them are to be chosen.

    Args:
        scores: `[B, N]`, float, with a static N of at least 1.
        k: How many, 1 ≤ k ≤ N.

    Returns:
        float32 `[B, N]`.

    Raises:
        ValueError: If one is not so, or the scores are eager and not finite.
        tf.errors.InvalidArgumentError: When a graph runs on scores that are not finite.
    """
    scores = tf.cast(tf.convert_to_tensor(scores), tf.float32)
    if scores.shape.rank != 2 or scores.shape[-1] is None:
        raise ValueError(
            f"`scores` must be [B, N] with a static N. Received: scores.shape={scores.shape}"
        )
    size = scores.shape[-1]
    if size == 0:
        raise ValueError("`scores` must hold at least one candidate. Received: N=0")
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= size:
        raise ValueError(
            f"`k` must be an integer from 1 to the number of candidates N={size}. Received: k={k!r}"
        )
    message = "`scores` must be finite. Received: NaN or infinite scores"
    if tf.executing_eagerly():
        if not bool(tf.reduce_all(tf.math.is_finite(scores))):
            raise ValueError(message)
        return scores
    with tf.control_dependencies(
        [tf.debugging.Assert(tf.reduce_all(tf.math.is_finite(scores)), [message])]
    ):
        return tf.identity(scores)
