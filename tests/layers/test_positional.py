"""Positional encoding: the code's values, the recorded codes and both combinations."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tnet_keras.layers import PositionalEncoding
from tnet_keras.layers.positional import sinusoidal_code

POSITIONS = np.array([[0, 0, 0], [1, 2, 1], [4, 3, 1], [24, 17, 2]], "float32")


def features(width, count=4):
    return np.random.default_rng(1).normal(size=(count, width)).astype("float32")


def with_random_weights(layer, batch):
    layer(batch)
    random = np.random.default_rng(2)
    layer.set_weights([random.normal(0, 0.5, value.shape) for value in layer.get_weights()])
    return layer


def test_check_value_of_four_frequencies():
    code = sinusoidal_code(np.array([1.0, 2.0, 1.0]), 24).numpy()
    np.testing.assert_allclose(code[:4], [0.8415, 0.2138, 0.0464, 0.0100], atol=5e-5)
    np.testing.assert_allclose(code[4:8], [0.5403, 0.9769, 0.9989, 0.99995], atol=5e-5)
    frequencies = np.array([1, 0.21544, 0.04642, 0.01])
    np.testing.assert_allclose(code[8:12], np.sin(2 * frequencies), atol=5e-5)
    np.testing.assert_allclose(code[12:16], np.cos(2 * frequencies), atol=5e-5)
    # The level has the same value as the row here, and so the same code.
    np.testing.assert_array_equal(code[16:], code[:8])


@pytest.mark.parametrize("count", [2, 4, 53])
def test_far_positions_keep_their_phase(count):
    """The closed form in float64, at places of a fourth level on a grid of 5x5."""
    frequencies = 100.0 ** (-np.arange(count) / (count - 1))
    expected = [wave(p * frequencies) for p in (124.0, 77.0, 3.0) for wave in (np.sin, np.cos)]
    code = sinusoidal_code([[124, 77, 3]], 6 * count)
    np.testing.assert_allclose(code, [np.concatenate(expected)], rtol=0, atol=2e-5)


def test_codes_of_the_original(golden):
    records = json.loads((golden / "geometry.json").read_text())["position_codes"]
    assert {record["P"] for record in records} == {15, 24, 320, 512}
    for record in records:
        positions = np.array([vector["yxs"] for vector in record["vectors"]], "int32")
        expected = np.array([vector["code"] for vector in record["vectors"]])
        code = sinusoidal_code(positions, record["P"])
        np.testing.assert_allclose(code, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("dim", "zeros"), [(6, 0), (11, 5), (15, 3), (24, 0), (320, 2), (352, 4), (384, 0), (512, 2)]
)
def test_the_tail_is_zero(dim, zeros):
    """And nothing but the tail: every other column is not zero at some position."""
    code = sinusoidal_code(POSITIONS, dim).numpy()
    assert code.shape == (len(POSITIONS), dim) and code.dtype == np.float32
    np.testing.assert_array_equal(code[:, dim - zeros :], np.zeros((len(POSITIONS), zeros)))
    assert (code[:, : dim - zeros] != 0).any(axis=0).all()


def test_one_frequency_is_one():
    expected = [np.sin(1), np.cos(1), np.sin(2), np.cos(2), np.sin(3), np.cos(3)]
    np.testing.assert_allclose(sinusoidal_code([1.0, 2.0, 3.0], 6), expected, atol=1e-6)


def test_any_leading_axes():
    positions = POSITIONS.reshape(2, 2, 3)
    code = sinusoidal_code(positions, 24)
    assert code.shape == (2, 2, 24)
    np.testing.assert_array_equal(np.reshape(code, (4, 24)), sinusoidal_code(POSITIONS, 24))


def test_positions_on_a_lattice_have_different_codes():
    lattice = np.stack(np.meshgrid(*[np.arange(9)] * 2, [1, 2]), axis=-1).reshape(-1, 3)
    code = sinusoidal_code(lattice, 24).numpy()
    distances = np.linalg.norm(code[:, None] - code, axis=-1) + 10 * np.eye(len(lattice))
    assert len(lattice) == 162 and distances.min() > 0.1


@pytest.mark.parametrize("dim", [0, 5])
def test_a_code_shorter_than_one_frequency_is_an_error(dim):
    with pytest.raises(ValueError, match=rf"`dim` must be at least 6. Received: dim={dim}"):
        sinusoidal_code(POSITIONS, dim)


@pytest.mark.parametrize("code_dim", [0, 5, 12.5])
def test_a_layer_names_its_own_argument_for_too_short_a_code(code_dim):
    message = rf"`code_dim` must be an integer of at least 6. Received: code_dim={code_dim}"
    with pytest.raises(ValueError, match=message):
        PositionalEncoding(code_dim=code_dim)


def test_an_unknown_form_is_an_error():
    with pytest.raises(ValueError, match=r"`form` must be 'concat' or 'add'.*form='multiply'"):
        PositionalEncoding(form="multiply")


@pytest.mark.parametrize(
    ("form", "width", "parameters"), [("concat", 512, 524_800), ("add", 1280, 410_880)]
)
def test_parameters_of_the_original(form, width, parameters):
    layer = PositionalEncoding(form=form)
    assert layer((features(width), POSITIONS)).shape == (len(POSITIONS), width)
    assert layer.count_params() == parameters


@pytest.mark.parametrize(
    ("form", "width", "code_dim", "expected"),
    [
        ("concat", 8, None, (16, 8)),
        ("concat", 8, 13, (21, 8)),
        ("add", 64, None, (16, 64)),
        ("add", 8, None, (6, 8)),  # 8 // 4 would be too short a code
        ("add", 8, 13, (13, 8)),
    ],
)
def test_length_of_the_code(form, width, code_dim, expected):
    layer = PositionalEncoding(form=form, code_dim=code_dim)
    layer((features(width), POSITIONS))
    assert layer.dense.kernel.shape == expected


@pytest.mark.parametrize("code_dim", [None, 13])
def test_concat_is_a_linear_layer_of_both(code_dim):
    """V comes first; no activation."""
    batch = (features(12), POSITIONS)
    layer = with_random_weights(PositionalEncoding("concat", code_dim), batch)
    code = sinusoidal_code(POSITIONS, code_dim or 12).numpy()
    kernel, bias = layer.get_weights()
    expected = batch[0] @ kernel[:12] + code @ kernel[12:] + bias
    np.testing.assert_allclose(layer(batch), expected, rtol=1e-4, atol=1e-5)
    assert expected.min() < -1


@pytest.mark.parametrize("code_dim", [None, 13])
def test_add_is_swish_of_the_sum(code_dim):
    batch = (features(32), POSITIONS)
    layer = with_random_weights(PositionalEncoding("add", code_dim), batch)
    code = sinusoidal_code(POSITIONS, code_dim or 8).numpy()
    kernel, bias = layer.get_weights()
    total = batch[0] + code @ kernel + bias
    expected = total / (1 + np.exp(-total))
    np.testing.assert_allclose(layer(batch), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["concat", "add"])
def test_every_row_is_encoded_by_itself(form):
    values = features(12)
    layer = with_random_weights(PositionalEncoding(form), (values, POSITIONS))
    together = layer((values, POSITIONS))
    alone = [layer((values[i : i + 1], POSITIONS[i : i + 1]))[0] for i in range(len(values))]
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", ["concat", "add"])
def test_gradients_reach_features_and_weights(form):
    values = tf.constant(features(12))
    layer = with_random_weights(PositionalEncoding(form), (values, POSITIONS))
    with tf.GradientTape() as tape:
        tape.watch(values)
        loss = tf.reduce_sum(layer((values, POSITIONS)) ** 2)
    gradients = tape.gradient(loss, [values, *layer.trainable_variables])
    assert len(gradients) == 3
    assert all(np.abs(gradient).max() > 0 for gradient in gradients)


@pytest.mark.parametrize("form", ["concat", "add"])
def test_integer_positions_under_mixed_precision(form):
    """The code is computed in float32: far positions keep their phase in float16."""
    layer = PositionalEncoding(form, dtype="mixed_float16")
    positions = np.array([[124, 3, 3], [123, 3, 3]], "int32")
    values = features(24, count=2).astype("float16")
    result = layer((values, positions))
    reference = PositionalEncoding(form)
    reference((values.astype("float32"), positions))
    reference.set_weights(layer.get_weights())
    assert result.dtype == tf.float16
    expected = reference((values.astype("float32"), positions))
    np.testing.assert_allclose(tf.cast(result, tf.float32), expected, atol=0.01)
