"""The transformer over patch vectors: parameters, order, positions and dropout."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tnet_keras.layers import TransformerAggregation

SMALL = {"hidden": 16, "num_heads": 2, "num_layers": 2}


def batch(count=3, width=8, candidates=20, seed=1):
    """Returns features [2, count, width] and one-hot indicators [2, count, candidates]."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(2, count, width)).astype("float32")
    chosen = np.stack([random.permutation(candidates)[:count] for _ in range(2)])
    return features, np.eye(candidates, dtype="float32")[chosen]


def aggregation(**overrides):
    """Returns a built aggregation with random weights, biases and positions included."""
    layer = TransformerAggregation(**SMALL | overrides)
    layer(batch())
    random = np.random.default_rng(2)
    layer.set_weights([random.normal(0.1, 0.4, value.shape) for value in layer.get_weights()])
    return layer


def test_parameters_of_the_original():
    layer = TransformerAggregation()
    layer.build([(None, 10, 512), (None, 10, 900)])
    assert layer.count_params() == 2_173_952
    assert layer.position.count_params() == 461_312
    assert len(layer.blocks) == 3


def test_shapes_and_weights():
    aggregated, weights = aggregation()(batch())
    assert aggregated.shape == (2, 16) and weights.dtype == tf.float32
    np.testing.assert_allclose(weights, np.full((2, 3), 1 / 3), rtol=1e-6)


def test_another_number_of_patches():
    aggregated, weights = aggregation()(batch(count=5))
    assert aggregated.shape == (2, 16)
    np.testing.assert_allclose(weights, np.full((2, 5), 1 / 5), rtol=1e-6)


def normalised(layer, x):
    scale, shift = layer.get_weights()
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-6) * scale + shift


def attention(layer, x):
    """Multi-head self-attention in NumPy."""
    query, query_bias, key, key_bias, value, value_bias, output, output_bias = layer.get_weights()
    queries, keys, values = (
        np.einsum("bkd,dhe->bhke", x, kernel) + bias[:, None]
        for kernel, bias in ((query, query_bias), (key, key_bias), (value, value_bias))
    )
    logits = np.einsum("bhke,bhje->bhkj", queries, keys) / np.sqrt(queries.shape[-1])
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    weights = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return np.einsum("bhkj,bhje,hed->bkd", weights, values, output) + output_bias


def linear(layer, x):
    kernel, bias = layer.get_weights()
    return x @ kernel + bias


def test_the_formula():
    """Position, projection, then per block: attention, sum, norm, network, sum, norm; summed."""
    layer = aggregation()
    features, indicators = batch()
    x = linear(layer.projection, features + linear(layer.position, indicators))
    for block in layer.blocks:
        x = normalised(block["attention_norm"], x + attention(block["attention"], x))
        widened = np.maximum(linear(block["widen"], x), 0)
        assert widened.shape == (2, 3, 32)
        x = normalised(block["network_norm"], x + linear(block["narrow"], widened))
    aggregated, _ = layer((features, indicators))
    np.testing.assert_allclose(aggregated, x.sum(axis=1), rtol=1e-3, atol=1e-4)


def test_order_of_the_patches_does_not_matter():
    """As long as the indicators move with the features."""
    layer = aggregation()
    features, indicators = batch(count=4)
    order = [2, 0, 3, 1]
    expected, _ = layer((features, indicators))
    permuted, _ = layer((features[:, order], indicators[:, order]))
    np.testing.assert_allclose(permuted, expected, rtol=1e-4, atol=1e-5)
    apart, _ = layer((features[:, order], indicators))
    assert np.abs(apart - expected).max() > 1e-2


def test_patches_of_different_images_do_not_mix():
    layer = aggregation()
    features, indicators = batch()
    together, _ = layer((features, indicators))
    alone, _ = layer((features[:1], indicators[:1]))
    np.testing.assert_allclose(alone, together[:1], rtol=1e-4, atol=1e-5)


def test_soft_indicators_are_the_mean_of_the_embeddings():
    """Seen through features that the mean of two embeddings, without the bias, is added to."""
    layer = aggregation()
    features, _ = batch(count=1)
    shares = np.zeros((2, 1, 20), "float32")
    shares[:, 0, 3], shares[:, 0, 7] = 0.25, 0.75
    embeddings, bias = layer.position.get_weights()
    mean = 0.25 * embeddings[3] + 0.75 * embeddings[7]
    np.testing.assert_allclose(layer.position(shares)[:, 0], [mean + bias] * 2, rtol=1e-5)
    soft, _ = layer((features, shares))
    shifted, _ = layer((features + mean, np.zeros_like(shares)))
    np.testing.assert_allclose(soft, shifted, rtol=1e-4, atol=1e-5)
    one_hot, _ = layer((features, np.eye(20, dtype="float32")[[[3], [3]]]))
    embedded, _ = layer((features + embeddings[3], np.zeros_like(shares)))
    np.testing.assert_allclose(one_hot, embedded, rtol=1e-4, atol=1e-5)
    assert np.abs(one_hot - soft).max() > 1e-2


def test_gradients_reach_indicators_and_every_weight():
    """The indicators carry the gradient of the selection."""
    layer = aggregation()
    features, indicators = map(tf.constant, batch())
    with tf.GradientTape() as tape:
        tape.watch([features, indicators])
        loss = tf.reduce_sum(layer((features, indicators))[0] ** 2)
    gradients = tape.gradient(loss, [features, indicators, *layer.trainable_variables])
    # Position and projection, and per block four projections of attention, two layers, two norms.
    assert len(gradients) == 2 + 4 + 2 * (8 + 4 + 4)
    largest = [np.abs(gradient).max() for gradient in gradients]
    assert min(largest[:2]) > 1e-3
    # The bias of a key shifts all logits of a query alike: softmax does not see it.
    paths = [variable.path for variable in layer.trainable_variables]
    unseen = [path for path, size in zip(paths, largest[2:], strict=True) if size < 1e-4]
    assert [path.rsplit("/", 2)[1:] for path in unseen] == [["key", "bias"]] * 2


@pytest.mark.parametrize(
    ("training", "dropout_at_inference", "dropout", "random"),
    [
        (False, False, 0.5, False),
        (None, False, 0.5, False),
        (True, False, 0.5, True),
        (False, True, 0.5, True),
        (None, True, 0.5, True),
        (True, True, 0.5, True),
        (True, True, 0.0, False),
    ],
)
def test_dropout(training, dropout_at_inference, dropout, random):
    inputs = batch()
    layer = aggregation(dropout=dropout, dropout_at_inference=dropout_at_inference)
    reference = aggregation(dropout=0.0)
    first, second = (layer(inputs, training=training)[0].numpy() for _ in range(2))
    expected = reference(inputs)[0].numpy()
    if random:
        assert np.abs(first - second).max() > 1e-2
        assert np.abs(first - expected).max() > 1e-2
    else:
        np.testing.assert_array_equal(first, second)
        np.testing.assert_allclose(first, expected, rtol=1e-6)


@pytest.mark.parametrize("dropout_at_inference", [False, True])
def test_dropout_within_a_model(dropout_at_inference):
    """`predict` is without it and with it, as the option says."""
    inputs = [keras.Input((3, 8)), keras.Input((3, 20))]
    layer = TransformerAggregation(
        **SMALL, dropout=0.5, dropout_at_inference=dropout_at_inference, seed=1
    )
    model = keras.Model(inputs, layer(inputs)[0])
    first, second = (model.predict(batch(), verbose=0) for _ in range(2))
    assert (np.abs(first - second).max() > 1e-2) == dropout_at_inference


def test_draws_follow_the_seed():
    first, second, other = (
        aggregation(dropout=0.5, seed=seed)(batch(), training=True)[0] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - other).max() > 1e-2


def test_configuration_round_trip():
    arguments = {
        "hidden": 12, "num_layers": 1, "num_heads": 3, "dropout": 0.2,
        "dropout_at_inference": True, "seed": 5,
    }  # fmt: skip
    config = TransformerAggregation(**arguments).get_config()
    assert {name: config[name] for name in arguments} == arguments
    copy = TransformerAggregation.from_config(json.loads(json.dumps(config)))
    assert copy.get_config() == config and copy.output_dim == 12


def test_file_round_trip(tmp_path):
    """All weights are found, those of layers within the blocks too."""
    inputs = [keras.Input((3, 8)), keras.Input((3, 20))]
    layer = aggregation()
    model = keras.Model(inputs, layer(inputs)[0])
    model.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras")
    assert len(restored.weights) == len(model.weights) == 4 + 2 * 16
    for ours, theirs in zip(restored.weights, model.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(
        restored.predict(batch(), verbose=0), model.predict(batch(), verbose=0)
    )


def test_mixed_precision():
    layer = TransformerAggregation(**SMALL, dtype="mixed_bfloat16")
    features, indicators = batch()
    aggregated, weights = layer((tf.cast(features, tf.bfloat16), indicators))
    assert aggregated.dtype == tf.bfloat16 and weights.dtype == tf.float32
    assert np.isfinite(tf.cast(aggregated, tf.float32)).all()


@pytest.mark.parametrize(("hidden", "num_heads"), [(16, 3), (10, 8)])
def test_width_must_be_divisible_by_the_heads(hidden, num_heads):
    message = rf"`hidden` must be divisible by `num_heads`. .*{hidden}, num_heads={num_heads}"
    with pytest.raises(ValueError, match=message):
        TransformerAggregation(hidden=hidden, num_heads=num_heads)


def test_gated_branches_pass_tokens_through_at_first():
    """x + gain · branch(norm(x)), with gains of 0 before training."""
    features, indicators = batch()
    layer = TransformerAggregation(**SMALL, residual="gated", pooling="mean")
    fresh, _ = layer((features, indicators))
    x = linear(layer.projection, features + linear(layer.position, indicators))
    np.testing.assert_allclose(fresh, x.mean(axis=1), rtol=1e-4, atol=1e-5)
    layer = aggregation(residual="gated", pooling="mean")
    x = linear(layer.projection, features + linear(layer.position, indicators))
    for block in layer.blocks:
        attended = attention(block["attention"], normalised(block["attention_norm"], x))
        x = x + block["attention_gain"].numpy() * attended
        normed = normalised(block["network_norm"], x)
        widened = np.maximum(linear(block["widen"], normed), 0)
        x = x + block["network_gain"].numpy() * linear(block["narrow"], widened)
    aggregated, _ = layer((features, indicators))
    np.testing.assert_allclose(aggregated, x.mean(axis=1), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("pooling", ["sum", "mean", "max"])
def test_pooling(pooling):
    layer = aggregation(pooling=pooling)
    layer.set_weights(aggregation().get_weights())
    inputs = batch(count=1)
    expected, _ = aggregation()(inputs)
    np.testing.assert_allclose(layer(inputs)[0], expected, rtol=1e-5)  # of one token all are equal
    two = [np.repeat(part, 2, axis=1) for part in inputs]  # two equal tokens
    factor = {"sum": 2, "mean": 1, "max": 1}[pooling]
    np.testing.assert_allclose(layer(two)[0], factor * expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["pooling", "residual"])
def test_unknown_options_are_named(name):
    with pytest.raises(ValueError, match=f"`{name}` must be one of .*Received: {name}='cls'"):
        TransformerAggregation(**SMALL, **{name: "cls"})
