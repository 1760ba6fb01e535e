"""Aggregations of feature vectors, and the classifier on top."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tnet_keras.layers import (
    ClassifierHead,
    ConcatenationAggregation,
    FeatureWeighting,
    MaxAggregation,
    MeanAggregation,
    SumAggregation,
)

EXACT = {
    "mean": (MeanAggregation, lambda x: x.mean(axis=1)),
    "max": (MaxAggregation, lambda x: x.max(axis=1)),
    "concatenation": (ConcatenationAggregation, lambda x: x.reshape(len(x), -1)),
}


def vectors(batch=2, count=3, width=8, seed=1):
    return np.random.default_rng(seed).normal(size=(batch, count, width)).astype("float32")


def with_random_weights(layer, batch):
    layer(batch)
    random = np.random.default_rng(2)
    layer.set_weights([random.normal(0, 0.5, value.shape) for value in layer.get_weights()])
    return layer


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("name", EXACT)
def test_aggregated_vector(name):
    layer, formula = EXACT[name]
    x = vectors()
    np.testing.assert_allclose(layer()(x)[0], formula(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layer", [MeanAggregation, SumAggregation, ConcatenationAggregation])
@pytest.mark.parametrize("count", [1, 4])
def test_equal_weights(layer, count):
    weights = layer()(vectors(count=count))[1]
    assert weights.dtype == tf.float32
    np.testing.assert_allclose(weights, np.full((2, count), 1 / count), rtol=1e-6)


@pytest.mark.parametrize(
    "layer",
    [MeanAggregation, FeatureWeighting, MaxAggregation, SumAggregation, ConcatenationAggregation],
)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_dtypes_under_mixed_precision(layer, dtype):
    mixed, weights = layer(dtype=f"mixed_{dtype}")(tf.cast(vectors(), dtype))
    assert mixed.dtype == dtype and weights.dtype == tf.float32
    assert np.isfinite(tf.cast(mixed, tf.float32)).all()
    np.testing.assert_allclose(tf.reduce_sum(weights, axis=1), [1, 1], rtol=1e-6)


@pytest.mark.parametrize(
    "layer", [MeanAggregation, FeatureWeighting, MaxAggregation, SumAggregation]
)
def test_order_of_the_vectors_does_not_matter(layer):
    x = vectors(count=5)
    aggregation = with_random_weights(layer(), x)
    order = [3, 0, 4, 1, 2]
    mixed, weights = aggregation(x)
    other, other_weights = aggregation(x[:, order])
    np.testing.assert_allclose(other, mixed, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(other_weights, weights.numpy()[:, order], rtol=1e-4, atol=1e-6)


def test_feature_weighting_has_the_parameters_of_the_original():
    layer = FeatureWeighting()
    layer(vectors(count=2, width=1280))
    assert layer.count_params() == 822_081


@pytest.mark.parametrize("reduction", [4, 3, 100])
def test_feature_weighting_is_the_formula(reduction):
    x = vectors(count=4, width=12)
    layer = with_random_weights(FeatureWeighting(reduction=reduction), x)
    squeeze, squeeze_bias, excite, excite_bias, output, output_bias = layer.get_weights()
    assert squeeze.shape == (12, max(1, 12 // reduction))
    hidden = x.mean(axis=1) @ squeeze + squeeze_bias
    gate = sigmoid((hidden * sigmoid(hidden)) @ excite + excite_bias)
    logits = ((x * gate[:, None]) @ output + output_bias)[..., 0]
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    mixed, weights = layer(x)
    np.testing.assert_allclose(weights, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.sum(weights, axis=1), [1, 1], rtol=1e-6)
    # The original vectors are mixed, not the gated ones.
    np.testing.assert_allclose(mixed, np.einsum("bn,bnd->bd", expected, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reduction", [0, -1, 2.5, True])
def test_feature_weighting_needs_a_whole_reduction(reduction):
    message = rf"`reduction` must be an integer of at least 1. Received: reduction={reduction}"
    with pytest.raises(ValueError, match=message):
        FeatureWeighting(reduction=reduction)


def test_feature_weighting_of_equal_vectors_is_the_mean():
    x = np.repeat(vectors(count=1), 3, axis=1)
    mixed, weights = FeatureWeighting()(x)
    np.testing.assert_allclose(weights, np.full((2, 3), 1 / 3), rtol=1e-5)
    np.testing.assert_allclose(mixed, x[:, 0], rtol=1e-5)


def test_no_gradient_through_the_returned_weights():
    """But one through the mixture, to the vectors and to what makes the weights."""
    x = tf.constant(vectors())
    layer = with_random_weights(FeatureWeighting(), x)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        mixed, weights = layer(x)
        of_mixed = tf.reduce_sum(mixed**2)
        of_weights = tf.reduce_sum(weights**2)
    sources = [x, layer.squeeze.kernel, layer.excite.kernel, layer.output_dense.kernel]
    sources = [getattr(source, "value", source) for source in sources]
    assert tape.gradient(of_weights, sources) == [None] * 4
    assert all(np.abs(gradient).max() > 0 for gradient in tape.gradient(of_mixed, sources))


def test_max_weights_are_the_shares_of_the_features():
    x = np.array([[[5, 1, 0, 2], [4, 3, 0, 9], [0, 2, 0, 9]]], "float32")
    mixed, weights = MaxAggregation()(x)
    np.testing.assert_array_equal(mixed, [[5, 3, 0, 9]])
    # Of equal features the first vector's counts.
    np.testing.assert_array_equal(weights, [[0.5, 0.5, 0]])


def test_max_sends_gradient_to_the_largest_only():
    x = tf.constant([[[5.0, 1.0], [4.0, 3.0]]])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        mixed, weights = MaxAggregation()(x)
    np.testing.assert_array_equal(tape.gradient(mixed, x), [[[1, 0], [0, 1]]])
    assert tape.gradient(weights, x) is None


@pytest.mark.parametrize("epsilon", [1e-6, 0.1])
def test_sum_is_normalised(epsilon):
    x = vectors()
    layer = with_random_weights(SumAggregation(epsilon=epsilon), x)
    scale, shift = layer.get_weights()
    total = x.sum(axis=1)
    centred = total - total.mean(axis=1, keepdims=True)
    unit = centred / np.sqrt(total.var(axis=1, keepdims=True) + epsilon)
    np.testing.assert_allclose(layer(x)[0], unit * scale + shift, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_concatenation_fills_up_with_zeros(count):
    layer = ConcatenationAggregation()
    layer(vectors(count=3))
    x = vectors(count=count)
    joined, weights = layer(x)
    expected = np.concatenate([x.reshape(2, -1), np.zeros((2, 8 * (3 - count)))], axis=1)
    np.testing.assert_array_equal(joined, expected)
    assert layer.output_dim == 24 and weights.shape == (2, count)


def test_concatenation_needs_a_fixed_count():
    assert ConcatenationAggregation.fixed_count
    with pytest.raises(ValueError, match=r"Concatenation needs a fixed number of vectors. Rec"):
        ConcatenationAggregation().build((None, None, 8))


@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (2, 1, 1)])
def test_head_is_a_linear_layer_on_any_leading_axes(lead):
    x = np.random.default_rng(1).normal(size=(4, *lead, 8)).astype("float32")
    head = with_random_weights(ClassifierHead(num_classes=5), x)
    kernel, bias = head.get_weights()
    logits = head(x)
    assert logits.shape == (4, *lead, 5) and head.count_params() == 45
    np.testing.assert_allclose(logits, x @ kernel + bias, rtol=1e-4, atol=1e-5)


def test_head_drops_in_training_only():
    """Half of 4,000 ones is dropped, the rest doubled: the sum of what is left keeps its mean."""
    x = np.ones((8, 500), "float32")
    head = ClassifierHead(num_classes=1, dropout=0.5, seed=1)
    head(x)
    head.set_weights([np.ones((500, 1)), np.zeros(1)])
    np.testing.assert_array_equal(head(x), np.full((8, 1), 500))
    np.testing.assert_array_equal(head(x, training=False), np.full((8, 1), 500))
    dropped = head(x, training=True).numpy()
    assert np.ptp(dropped) > 0 and abs(dropped.mean() - 500) < 40
    np.testing.assert_array_equal(dropped % 2, np.zeros((8, 1)))
    assert np.abs(dropped - head(x, training=True)).max() > 0


def test_head_draws_follow_the_seed():
    x = np.ones((4, 64), "float32")
    heads = [ClassifierHead(num_classes=3, dropout=0.5, seed=seed) for seed in (1, 1, 2)]
    for head in heads:
        head(x)
        head.dense.set_weights([np.ones((64, 3)), np.zeros(3)])
    first, second, other = (head(x, training=True).numpy() for head in heads)
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - other).max() > 0


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_head_logits_are_float32_under_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)  # inner layers without a dtype of their own follow it
    head = ClassifierHead(num_classes=5, dropout=0.5)
    x = tf.cast(vectors(), head.compute_dtype)
    logits = head(x)
    kernel, bias = head.get_weights()
    assert logits.dtype == tf.float32 and kernel.dtype == np.float32
    # Multiplied in float32 too, not only cast afterwards.
    expected = tf.cast(x, tf.float32).numpy() @ kernel + bias
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)


def test_head_initialiser():
    zero, default = ClassifierHead(3, kernel_initializer="zeros"), ClassifierHead(300)
    for head in (zero, default):
        head(vectors())
    np.testing.assert_array_equal(zero.dense.kernel, np.zeros((8, 3)))
    # Uniform of variance 1 / (3 fan-out) lies within 1 / sqrt(fan-out).
    largest = np.abs(default.dense.kernel).max()
    assert 0.95 / np.sqrt(300) < largest <= 1 / np.sqrt(300)


@pytest.mark.parametrize("num_classes", [0, -1, 2.0, True, None, "3"])
def test_head_needs_a_number_of_classes(num_classes):
    with pytest.raises(ValueError, match=r"`num_classes` must be an integer of at least 1. Rec"):
        ClassifierHead(num_classes=num_classes)


@pytest.mark.parametrize("dropout", [-0.1, 1.0, 1.5, float("nan")])
def test_head_needs_a_probability_of_dropout(dropout):
    with pytest.raises(ValueError, match=rf"`dropout` must be in .*Received: dropout={dropout}"):
        ClassifierHead(num_classes=3, dropout=dropout)
