"""LevelBatchNormalization against Keras' own layer, and its statistics per level."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tnet_keras.backbones import LevelBatchNormalization, statistics_level


def images(shape=(3, 5, 4, 6), seed=0):
    return np.random.default_rng(seed).normal(1.0, 2.0, shape).astype("float32")


def trained(layer, inputs):
    """Outputs, gradients and variables after one call in training mode."""
    inputs = tf.convert_to_tensor(inputs)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs, training=True)
        loss = tf.reduce_sum(outputs**2 * tf.linspace(0.5, 1.5, inputs.shape[-1]))
    gradients = tape.gradient(loss, [inputs, *[v.value for v in layer.trainable_variables]])
    return [outputs, *gradients, *[v.value for v in layer.variables]]


@pytest.mark.parametrize("shape", [(3, 5, 4, 6), (8, 7, 6), (9, 6)])
@pytest.mark.parametrize("epsilon", [1e-3, 1e-5])
def test_equals_keras_in_training_and_after(shape, epsilon):
    inputs = images(shape)
    ours = LevelBatchNormalization(momentum=0.9, epsilon=epsilon)
    theirs = keras.layers.BatchNormalization(momentum=0.9, epsilon=epsilon)
    for layer in (ours, theirs):
        layer.build(shape)
        layer.gamma.assign(np.linspace(0.5, 1.5, 6))
        layer.beta.assign(np.linspace(-1, 1, 6))
    for mine, wanted in zip(trained(ours, inputs), trained(theirs, inputs), strict=True):
        np.testing.assert_allclose(mine, wanted, atol=2e-5, rtol=1e-5)
    np.testing.assert_allclose(ours.moving_mean, theirs.moving_mean, atol=1e-6)
    np.testing.assert_allclose(ours.moving_variance, theirs.moving_variance, atol=1e-6)
    np.testing.assert_allclose(ours(inputs), theirs(inputs), atol=1e-6, rtol=1e-6)


def test_outputs_in_training_equal_keras_to_the_last_digits():
    inputs = images()
    ours = LevelBatchNormalization()(inputs, training=True)
    theirs = keras.layers.BatchNormalization()(inputs, training=True)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_the_biased_variance_is_averaged():
    layer = LevelBatchNormalization(momentum=0.0)
    inputs = images((2, 1, 2, 3))  # N = 4: the unbiased variance is a third larger
    layer(inputs, training=True)
    np.testing.assert_allclose(layer.moving_variance, inputs.var((0, 1, 2)), rtol=1e-5)


def test_a_single_position_has_variance_zero():
    layer = LevelBatchNormalization(momentum=0.0)
    inputs = images((1, 1, 1, 6))
    np.testing.assert_allclose(layer(inputs, training=True), np.zeros((1, 1, 1, 6)), atol=1e-6)
    np.testing.assert_array_equal(layer.moving_variance, np.zeros(6))
    np.testing.assert_allclose(layer.moving_mean, inputs[0, 0, 0], rtol=1e-6)


def test_levels_keep_their_own_statistics():
    layer = LevelBatchNormalization(levels=2, momentum=0.0)
    first, second = images(), images(seed=1) * 3 - 5
    with statistics_level(1):
        layer(first, training=True)
    with statistics_level(2):
        layer(second, training=True)
    np.testing.assert_allclose(layer.moving_means[0], first.mean((0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(layer.moving_means[1], second.mean((0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(layer.moving_variances[1], second.var((0, 1, 2)), rtol=1e-4)
    for level, inputs in ((1, first), (2, second), (3, second)):  # 3 uses the last
        with statistics_level(level):
            outputs = layer(inputs, training=False)
        np.testing.assert_allclose(np.mean(outputs, (0, 1, 2)), 0, atol=1e-4)
    assert np.abs(np.mean(layer(second), (0, 1, 2))).min() > 0.5  # level 1 is the default


def test_shared_statistics_see_every_level():
    layer = LevelBatchNormalization(levels=1, momentum=0.5)
    for level, value in ((1, 2.0), (2, 4.0)):
        with statistics_level(level):
            layer(np.full((2, 3, 3, 1), value, "float32"), training=True)
    np.testing.assert_allclose(layer.moving_mean, [0.5 * (0.5 * 2) + 0.5 * 4])
    assert len(layer.non_trainable_variables) == 2


def test_the_context_is_restored():
    layer = LevelBatchNormalization(levels=2, momentum=0.0)
    with statistics_level(2):
        with pytest.raises(RuntimeError), statistics_level(1):
            raise RuntimeError
        layer(images(), training=True)
    np.testing.assert_array_equal(layer.moving_means[0], np.zeros(6))
    assert np.abs(layer.moving_means[1]).max() > 0


def test_variable_names():
    layer = LevelBatchNormalization(levels=3, name="bn")
    layer.build((None, None, None, 2))
    assert [variable.path for variable in layer.variables] == [
        "bn/gamma",
        "bn/beta",
        "bn/moving_mean",
        "bn/moving_variance",
        "bn/moving_mean_level2",
        "bn/moving_variance_level2",
        "bn/moving_mean_level3",
        "bn/moving_variance_level3",
    ]
    assert {variable.aggregation for variable in layer.non_trainable_variables} == {"mean"}


def test_a_frozen_layer_leaves_its_statistics():
    layer = LevelBatchNormalization(trainable=False)
    inputs = images()
    outputs = layer(inputs, training=True)
    np.testing.assert_allclose(outputs, inputs / np.sqrt(1.001), rtol=1e-5)
    np.testing.assert_array_equal(layer.moving_mean, np.zeros(6))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16", "float64"])
def test_statistics_are_float32_under_every_policy(policy):
    layer = LevelBatchNormalization(dtype=policy, momentum=0.0)
    inputs = 100 + images((8, 8, 8, 6))
    outputs = layer(inputs, training=True)
    assert outputs.dtype == layer.compute_dtype
    assert {variable.dtype for variable in layer.variables} == {"float32"}
    np.testing.assert_allclose(layer.moving_mean, inputs.mean((0, 1, 2)), rtol=2e-3)
    assert np.abs(np.mean(np.asarray(outputs, "float32"), (0, 1, 2))).max() < 0.1
    evaluated = layer(inputs, training=False)
    assert evaluated.dtype == outputs.dtype
    np.testing.assert_allclose(
        np.asarray(evaluated, "float32"), np.asarray(outputs, "float32"), atol=0.05
    )


@pytest.mark.parametrize("jit_compile", [False, True])
def test_in_a_graph(jit_compile):
    inputs = images()
    eager, compiled = LevelBatchNormalization(2), LevelBatchNormalization(2)
    compiled.build(inputs.shape)

    @tf.function(jit_compile=jit_compile)
    def step(x):
        with statistics_level(2):
            return compiled(x, training=True)

    with statistics_level(2):
        wanted = eager(inputs, training=True)
    np.testing.assert_allclose(step(inputs), wanted, atol=1e-5)
    for mine, other in zip(compiled.variables, eager.variables, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-6)


def test_replicas_average_their_statistics():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        layer = LevelBatchNormalization(levels=2, momentum=0.0)
        layer.build((None, 2, 2, 1))

    @tf.function
    def step(inputs):
        with statistics_level(2):
            layer(inputs, training=True)

    values = tf.constant([1.0, 5.0])
    distributed = strategy.experimental_distribute_values_from_function(
        lambda context: tf.fill([3, 2, 2, 1], values[context.replica_id_in_sync_group])
    )
    strategy.run(step, args=(distributed,))
    np.testing.assert_allclose(layer.moving_means[1], [3.0])
    np.testing.assert_allclose(layer.moving_means[0], [0.0])


def test_configuration_round_trip():
    layer = LevelBatchNormalization(
        levels=2,
        momentum=0.8,
        epsilon=1e-4,
        center=False,
        gamma_initializer="zeros",
        gamma_regularizer=keras.regularizers.L2(0.1),
        gamma_constraint="non_neg",
    )
    copy = LevelBatchNormalization.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    copy.build((None, 4, 4, 2))
    assert copy.beta is None
    np.testing.assert_array_equal(copy.gamma, [0, 0])


@pytest.mark.parametrize(
    "arguments",
    [{"levels": 0}, {"levels": 1.0}, {"levels": True}, {"momentum": 1.5}, {"epsilon": 0}],
)
def test_argument_errors(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=rf"`{name}` must .*Received: {name}="):
        LevelBatchNormalization(**arguments)


@pytest.mark.parametrize("shape", [(2,), (2, 2, 2, 2, 2)])
def test_rank_errors(shape):
    with pytest.raises(ValueError, match="`inputs` .* Received: inputs.shape="):
        LevelBatchNormalization()(np.zeros(shape, "float32"))


@pytest.mark.parametrize("level", [0, -1, 1.0, "1", True])
def test_level_errors(level):
    with pytest.raises(ValueError, match="`level` must .* Received: level="):
        with statistics_level(level):
            pass
