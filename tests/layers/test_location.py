"""Location modules: parameters, the formula, the coordinate channels and the bound of unit norm."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tnet_keras.layers import ContextLocationModule, SqueezeExciteLocationModule
from tnet_keras.layers.location import unit_norm_logits

MODULES = [ContextLocationModule, SqueezeExciteLocationModule]


def built(module, map_shape, vector_width):
    """Returns the module after its first call, with random weights, biases included."""
    module((np.zeros((1, *map_shape), "float32"), np.zeros((1, vector_width), "float32")))
    random = np.random.default_rng(7)
    for variable in module.trainable_variables:
        variable.assign(random.normal(0.3, 0.5, variable.shape))
    return module


def inputs(map_shape, vector_width, count=2):
    random = np.random.default_rng(1)
    features = random.normal(size=(count, *map_shape)).astype("float32")
    return features, random.normal(size=(count, vector_width)).astype("float32")


def pointwise(layer, x):
    """A 1x1 convolution in NumPy, float64."""
    kernel, bias = (variable.numpy().astype("float64") for variable in (layer.kernel, layer.bias))
    return x @ kernel.reshape(kernel.shape[-2:]) + bias


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def swish(x):
    return x * sigmoid(x)


def with_coordinates(module, x):
    """Appends row and column coordinates, -1 .. 1, each times its scale plus its shift."""
    rows, cols = x.shape[1:3]
    lines = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, cols), indexing="ij")
    channels = [
        np.broadcast_to(float(affine.kernel[0, 0]) * line + float(affine.bias[0]), x.shape[:3])
        for affine, line in zip((module.row_affine, module.col_affine), lines, strict=True)
    ]
    return np.concatenate([x, *(channel[..., None] for channel in channels)], axis=-1)


def test_context_module_has_the_parameters_of_the_original():
    module = built(ContextLocationModule(), (5, 5, 1024), 512)
    assert module.count_params() == 788_485


@pytest.mark.parametrize(
    ("channels", "parameters"), [(80, 19_725), (40, 5_065), (48, 7_229), (56, 9_777)]
)
def test_squeeze_excite_module_has_the_parameters_of_the_original(channels, parameters):
    module = built(SqueezeExciteLocationModule(), (3, 3, channels), 16)
    assert module.count_params() == parameters


@pytest.mark.parametrize("module_class", MODULES)
def test_coordinates_start_from_the_identity(module_class):
    module = module_class()
    module(inputs((3, 3, 4), 6))
    values = [
        float(keras.ops.squeeze(variable))
        for affine in (module.row_affine, module.col_affine)
        for variable in (affine.kernel, affine.bias)
    ]
    assert values == [1, 0, 1, 0]


@pytest.mark.parametrize(("cells", "highest"), [(25, 0.1036), (9, 0.2653)])
def test_unit_norm_bounds_the_policy(cells, highest):
    logits = np.random.default_rng(0).normal(0, 100, (2000, cells))
    probabilities = tf.nn.softmax(unit_norm_logits(logits)).numpy()
    assert probabilities.max() <= highest + 5e-5
    best = np.full((1, cells), -1.0)
    best[0, 3] = cells - 1
    reached = tf.nn.softmax(unit_norm_logits(best)).numpy().max()
    assert reached == pytest.approx(highest, abs=5e-5)
    ratios = probabilities.max(axis=1) / probabilities.min(axis=1)
    assert ratios.max() <= np.exp(np.sqrt(2)) * 1.001


@pytest.mark.parametrize("scale", [1e-9, 1e-6, 1.0, 1e6])
def test_unit_norm_is_one_at_any_scale(scale):
    logits = scale * np.random.default_rng(0).normal(size=(4, 2, 9)).astype("float32")
    norms = np.linalg.norm(unit_norm_logits(logits), axis=-1)
    np.testing.assert_allclose(norms, np.ones((4, 2)), rtol=1e-5)


def test_zero_logits_give_a_uniform_policy_and_finite_gradients():
    logits = tf.zeros((2, 9))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        probabilities = tf.nn.softmax(unit_norm_logits(logits))
        loss = tf.reduce_sum(probabilities * tf.range(9.0))
    np.testing.assert_allclose(probabilities, np.full((2, 9), 1 / 9), rtol=1e-6)
    assert np.isfinite(tape.gradient(loss, logits)).all()


@pytest.mark.parametrize("grid", [(5, 5), (2, 4)])
@pytest.mark.parametrize("hidden", [None, 7])
def test_context_module_is_the_formula(grid, hidden):
    rows, cols = grid
    module = built(ContextLocationModule(hidden=hidden), (rows, cols, 3), 4)
    features, vector = inputs((rows, cols, 3), 4)
    tiled = np.broadcast_to(vector[:, None, None], (2, rows, cols, 4))
    x = np.concatenate([features, tiled], axis=-1).astype("float64")
    x = pointwise(module.hidden_conv, with_coordinates(module, x))
    x = np.where(x > 0, x, 0.2 * x)
    expected = pointwise(module.output_conv, x).reshape(2, rows * cols)
    assert module.hidden_conv.kernel.shape == (1, 1, 3 + 4 + 2, hidden or 4)
    raw = module.raw_logits((features, vector))
    np.testing.assert_allclose(raw, expected, rtol=1e-4, atol=1e-5)
    unit = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(module((features, vector)), unit, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("grid", [(3, 3), (2, 4)])
def test_squeeze_excite_module_is_the_formula(grid):
    rows, cols = grid
    module = built(SqueezeExciteLocationModule(unit_norm=False), (rows, cols, 6), 4)
    features, vector = inputs((rows, cols, 6), 4)
    x = swish(pointwise(module.first_conv, features.astype("float64")))
    squeezed = swish(pointwise(module.squeeze, x.mean(axis=(1, 2), keepdims=True)))
    x = x * sigmoid(pointwise(module.excite, squeezed))
    x = swish(pointwise(module.final_conv, with_coordinates(module, x)))
    expected = pointwise(module.output_conv, x).reshape(2, rows * cols)
    assert module.squeeze.kernel.shape == (1, 1, 6, 3)
    np.testing.assert_allclose(module((features, vector)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("channel", "expected"),
    [
        (0, [[10, 11, 12], [13, 14, 15]]),  # F
        (1, [[20, 20, 20], [20, 20, 20]]),  # V
        (2, [[21, 21, 21], [21, 21, 21]]),
        (3, [[-1, -1, -1], [1, 1, 1]]),  # row
        (4, [[-1, 0, 1], [-1, 0, 1]]),  # column
    ],
)
def test_order_of_the_channels_and_of_the_cells(channel, expected):
    """One input channel is passed through at a time."""
    module = ContextLocationModule(hidden=1, leaky_slope=1.0, unit_norm=False)
    features = np.arange(10, 16, dtype="float32").reshape(1, 2, 3, 1)
    vector = np.array([[20, 21]], "float32")
    module((features, vector))
    kernel = np.zeros((1, 1, 5, 1))
    kernel[0, 0, channel] = 1
    module.hidden_conv.kernel.assign(kernel)
    module.output_conv.kernel.assign(np.ones((1, 1, 1, 1)))
    np.testing.assert_allclose(module((features, vector)), [np.ravel(expected)], atol=1e-6)


def test_the_coordinate_of_a_single_row_is_the_middle():
    module = ContextLocationModule(hidden=1, leaky_slope=1.0, unit_norm=False)
    batch = inputs((1, 3, 1), 1, count=1)
    module(batch)
    module.hidden_conv.kernel.assign(np.array([0, 0, 1, 10]).reshape(1, 1, 4, 1))
    module.output_conv.kernel.assign(np.ones((1, 1, 1, 1)))
    np.testing.assert_allclose(module(batch), [[-10, 0, 10]], atol=1e-6)


def test_context_reaches_the_logits():
    """By the vector in one module, by the other cells in the other."""
    features, vector = inputs((3, 3, 6), 4)
    context = built(ContextLocationModule(unit_norm=False), (3, 3, 6), 4)
    assert np.abs(context((features, vector)) - context((features, vector + 1))).min() > 1e-4
    module = built(SqueezeExciteLocationModule(unit_norm=False), (3, 3, 6), 4)
    before = module((features, vector)).numpy()
    np.testing.assert_array_equal(before, module((features, vector + 1)))
    features[:, 0, 0] += 3.0
    assert np.abs(before - module((features, vector)))[:, 1:].max() > 1e-4


@pytest.mark.parametrize("module_class", MODULES)
@pytest.mark.parametrize("unit_norm", [True, False])
def test_logits_are_float32_under_mixed_precision(module_class, unit_norm):
    module = module_class(unit_norm=unit_norm, dtype="mixed_float16")
    features, vector = inputs((3, 4, 6), 8)
    logits = module((features.astype("float16"), vector.astype("float16")))
    assert logits.dtype == tf.float32 and logits.shape == (2, 12)
    assert module.output_conv.compute_dtype == "float16"
    assert np.isfinite(logits).all()
    if unit_norm:
        np.testing.assert_allclose(np.linalg.norm(logits, axis=1), [1, 1], rtol=1e-5)


@pytest.mark.parametrize("module_class", MODULES)
def test_every_variable_gets_a_gradient(module_class):
    module = built(module_class(), (3, 3, 6), 4)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(module(inputs((3, 3, 6), 4)) * tf.range(9.0))
    gradients = tape.gradient(loss, module.trainable_variables)
    assert all(np.abs(gradient).max() > 0 for gradient in gradients)


@pytest.mark.parametrize("module_class", MODULES)
@pytest.mark.parametrize(
    ("map_shape", "vector_shape"), [((2, 3, 3), (2, 4)), ((2, 3, 3, 6), (2, 1, 1, 4))]
)
def test_wrong_shapes_are_an_error(module_class, map_shape, vector_shape):
    with pytest.raises(ValueError, match=r"A location module takes .*Received: shapes="):
        module_class()((np.zeros(map_shape, "float32"), np.zeros(vector_shape, "float32")))


@pytest.mark.parametrize("hidden", [0, -2, 1.5])
def test_a_hidden_layer_without_width_is_an_error(hidden):
    message = rf"`hidden` must be an integer of at least 1. Received: hidden={hidden}"
    with pytest.raises(ValueError, match=message):
        ContextLocationModule(hidden=hidden)


def test_squeeze_and_excite_of_a_single_channel():
    module = built(SqueezeExciteLocationModule(), (3, 3, 1), 4)
    assert module.squeeze.kernel.shape == (1, 1, 1, 1)
    logits = module(inputs((3, 3, 1), 4))
    assert logits.shape == (2, 9) and np.isfinite(logits).all()
