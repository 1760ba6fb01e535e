"""Antialiased views against TensorFlow's operator and a closed form."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tnet_keras.ops import downscale_view
from tnet_keras.ops.downscaling import triangle_weights

side = st.integers(1, 40)


@settings(deadline=None)
@given(side, side, side, side)
def test_equals_tensorflows_antialiased_resize(height, width, new_height, new_width):
    random = np.random.default_rng(height * 41 + width)
    images = random.integers(0, 256, (2, height, width, 3)).astype(np.uint8)
    size = (new_height, new_width)
    expected = tf.image.resize(images, size, method="bilinear", antialias=True)
    np.testing.assert_allclose(downscale_view(images, size), expected, atol=2e-3)


def test_weights_of_a_quarter_by_hand():
    # A triangle over eight pixels: 1, 3, 5, 7, 7, 5, 3, 1 sixteenths of a quarter of 8.
    inner = triangle_weights(16, 4)[1]
    np.testing.assert_allclose(inner[2:10] * 32, [1, 3, 5, 7, 7, 5, 3, 1], atol=1e-5)
    assert inner[:2].sum() + inner[10:].sum() == 0
    np.testing.assert_allclose(triangle_weights(37, 11).sum(1), 1, atol=1e-6)


def test_every_pixel_counts():
    images = tf.random.stateless_uniform((1, 32, 32, 1), [1, 2])
    with tf.GradientTape() as tape:
        tape.watch(images)
        view = downscale_view(images, (8, 8))
    assert np.all(tape.gradient(view, images) > 0)


def test_same_size_is_the_image_and_graphs_agree():
    images = np.random.default_rng(0).integers(0, 256, (2, 24, 40, 3)).astype(np.uint8)
    np.testing.assert_array_equal(downscale_view(images, (24, 40)), images)
    for jit in (False, True):
        traced = tf.function(lambda x: downscale_view(x, (7, 10)), jit_compile=jit)
        np.testing.assert_allclose(traced(images), downscale_view(images, (7, 10)), atol=1e-3)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="`images` must be.*Received"):
        downscale_view(np.zeros((4, 4, 3)), (2, 2))
    with pytest.raises(ValueError, match="`size` must be.*Received: size=\\(0, 2\\)"):
        downscale_view(np.zeros((1, 4, 4, 3)), (0, 2))
