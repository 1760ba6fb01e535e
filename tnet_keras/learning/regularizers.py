"""Penalties that the published TNet runs add to the rule."""

import tensorflow as tf


def l2_penalty(variables):
    """Sum of squares `Σ_v ||v||²` (no factor ½).

    Args:
        variables: Variables or tensors of any shape.

    Returns:
        float32 scalar.
    """
    total = tf.zeros([], tf.float32)
    for variable in variables:
        total += tf.reduce_sum(tf.square(tf.cast(tf.convert_to_tensor(variable), tf.float32)))
    return total


def contrastive_loss(features, labels, margin):
    """Pulls features of one class together and pushes others below a similarity margin.

    With `u = (h + 1e-10) / ||h + 1e-10||` and `S = u uᵀ`, the mean over all pairs of the batch,
    diagonal included, of `1 - S` for the same class and `max(S - margin, 0)` for different ones
    (TNet's bird runs, released code).

    Args:
        features: `[R, D]`, float.
        labels: int `[R]`.
        margin: Similarity below which a pair of different classes costs nothing, in [-1, 1].

    Returns:
        float32 scalar, at least 0.
    """
    features = tf.cast(features, tf.float32) + 1e-10
    unit = features / tf.norm(features, axis=-1, keepdims=True)
    similarity = tf.matmul(unit, unit, transpose_b=True)
    same = tf.cast(labels, tf.int32)[:, None] == tf.cast(labels, tf.int32)[None, :]
    return tf.reduce_mean(tf.where(same, 1.0 - similarity, tf.nn.relu(similarity - margin)))
