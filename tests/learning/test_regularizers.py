"""The two penalties of the published runs, against NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tnet_keras.learning import contrastive_loss, l2_penalty


def contrastive_by_hand(features, labels, margin):
    """Pair by pair, in float64."""
    total = 0.0
    for own, label in zip(features, labels, strict=True):
        for other, other_label in zip(features, labels, strict=True):
            cosine = own @ other / np.linalg.norm(own) / np.linalg.norm(other)
            total += 1.0 - cosine if label == other_label else max(cosine - margin, 0.0)
    return total / len(labels) ** 2


def test_l2_is_the_sum_of_squares_over_everything():
    variables = [
        tf.Variable([[1.0, -2.0], [0.5, 0.0]]),
        keras.Variable(np.array([3.0, -1.0], np.float32)),
        tf.constant(2.0),
        tf.constant([0.5, 1.5], tf.float16),
    ]
    penalty = l2_penalty(variables)
    assert penalty.dtype == tf.float32
    assert float(penalty) == 5.25 + 10.0 + 4.0 + 2.5


def test_l2_of_nothing_is_zero():
    assert float(l2_penalty([])) == 0.0


def test_l2_does_not_overflow_in_half_precision():
    assert float(l2_penalty([tf.constant([1000.0], tf.float16)])) == 1e6


def test_gradient_of_l2_is_twice_the_variable():
    variables = [tf.Variable([[1.0, -2.0]]), tf.Variable(0.0), tf.Variable([3.0])]
    with tf.GradientTape() as tape:
        penalty = l2_penalty(variables)
    for gradient, variable in zip(tape.gradient(penalty, variables), variables, strict=True):
        np.testing.assert_array_equal(gradient, 2.0 * variable.numpy())


@pytest.mark.parametrize("margin", [-1.0, 0.0, 0.4, 1.0])
@pytest.mark.parametrize("labels", [[0, 1, 0, 2, 1, 0], [0] * 6, [0, 1, 2, 3, 4, 5]], ids=str)
def test_contrastive_is_the_mean_over_all_pairs(labels, margin):
    features = np.random.default_rng(0).normal(0.5, 1.0, size=(6, 4))
    loss = contrastive_loss(tf.constant(features, tf.float32), labels, margin)
    assert loss.dtype == tf.float32
    due = contrastive_by_hand(features, labels, margin)
    np.testing.assert_allclose(loss, due, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("features", "labels", "margin", "due"),
    [
        ([[1.0, 0.0], [5.0, 0.0]], [0, 0], 0.4, 0.0),
        ([[1.0, 0.0], [5.0, 0.0]], [0, 1], 0.4, 2 * 0.6 / 4),
        ([[1.0, 0.0], [0.0, 2.0]], [0, 0], 0.4, 2 * 1.0 / 4),
        ([[1.0, 0.0], [0.0, 2.0]], [0, 1], 0.4, 0.0),
        ([[1.0, 0.0], [-3.0, 0.0]], [7, 7], 0.4, 2 * 2.0 / 4),
        ([[3.0, 4.0], [1.0, 0.0]], [0, 1], 0.4, 2 * 0.2 / 4),
        ([[2.0, 1.0]], [3], 0.4, 0.0),
    ],
)
def test_contrastive_of_simple_pairs(features, labels, margin, due):
    loss = contrastive_loss(tf.constant(features), labels, margin)
    assert float(loss) == pytest.approx(due, abs=1e-6)


def test_contrastive_depends_on_directions_only():
    features = tf.random.stateless_normal([5, 3], seed=[0, 1])
    lengths = tf.constant([[0.1], [1.0], [3.0], [10.0], [100.0]])
    labels = tf.constant([0, 1, 1, 0, 2], tf.int64)
    plain = contrastive_loss(features, labels, 0.2)
    assert float(plain) > 0.01
    np.testing.assert_allclose(contrastive_loss(features * lengths, labels, 0.2), plain, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_contrastive_of_half_precision_is_computed_in_float32(dtype):
    half = tf.cast(tf.random.stateless_normal([5, 3], seed=[0, 1]), dtype)
    loss = contrastive_loss(half, [0, 1, 1, 0, 2], 0.2)
    assert loss.dtype == tf.float32
    full = contrastive_loss(tf.cast(half, tf.float32), [0, 1, 1, 0, 2], 0.2)
    np.testing.assert_array_equal(loss, full)


def test_gradient_of_contrastive_agrees_with_finite_differences():
    features = np.random.default_rng(1).normal(0.5, 1.0, size=(4, 3))
    labels, margin = [0, 1, 0, 2], 0.1
    variable = tf.Variable(features, dtype=tf.float32)
    with tf.GradientTape() as tape:
        loss = contrastive_loss(variable, labels, margin)
    due = np.zeros_like(features)
    for index in np.ndindex(features.shape):
        step = np.zeros_like(features)
        step[index] = 1e-6
        higher = contrastive_by_hand(features + step, labels, margin)
        due[index] = (higher - contrastive_by_hand(features - step, labels, margin)) / 2e-6
    np.testing.assert_allclose(tape.gradient(loss, variable), due, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "features",
    [
        [[0.0, 0.0], [0.0, 0.0], [1.0, 2.0]],
        [[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]],
        [[1e15, 0.0], [1e-8, 0.0], [-1e8, 1.0]],
    ],
    ids=["zero", "equal", "extreme"],
)
def test_contrastive_and_its_gradient_are_finite(features):
    variable = tf.Variable(features)
    with tf.GradientTape() as tape:
        loss = contrastive_loss(variable, [0, 1, 0], 0.4)
    assert np.isfinite(loss)
    assert float(loss) >= -1e-6
    assert np.isfinite(tape.gradient(loss, variable)).all()
