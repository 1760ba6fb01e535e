"""Translation and rotation against NumPy enumerations, eagerly and inside tf.data."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tnet_keras.datasets.warp import random_translation_rotation, rotate, translate

IMAGE = np.random.default_rng(0).integers(1, 256, (11, 14, 3)).astype(np.uint8)


def moved(image, source):
    """Pixel by pixel: `source` tells where output (y, x) comes from."""
    result = np.zeros_like(image)
    height, width, _ = image.shape
    for y in range(height):
        for x in range(width):
            from_y, from_x = (math.floor(value + 0.5) for value in source(y, x))
            if 0 <= from_y < height and 0 <= from_x < width:
                result[y, x] = image[from_y, from_x]
    return result


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("offset", [(0.0, 0.0), (2.0, -3.0), (-1.3, 0.8), (0.4, 13.0)])
def test_translate(offset, dtype):
    image = IMAGE.astype(dtype)
    got = translate(image, offset)
    expected = moved(image, lambda y, x: (y - offset[0], x - offset[1]))
    np.testing.assert_array_equal(got, expected)
    assert got.dtype == dtype
    inside = tf.data.Dataset.from_tensors(image).map(lambda one: translate(one, offset))
    np.testing.assert_array_equal(next(iter(inside)), expected)


@pytest.mark.parametrize("degrees", [0.0, 7.3, -19.1, 45.0])
def test_rotate(degrees):
    angle = math.radians(degrees)
    cosine, sine = math.cos(angle), math.sin(angle)

    def source(y, x):
        y, x = y - 5.0, x - 6.5
        return 5.0 + sine * x + cosine * y, 6.5 + cosine * x - sine * y

    expected = moved(IMAGE, source)
    np.testing.assert_array_equal(rotate(tf.constant(IMAGE), angle), expected)
    inside = tf.data.Dataset.from_tensors(IMAGE).map(lambda one: rotate(one, angle))
    np.testing.assert_array_equal(next(iter(inside)), expected)


def test_a_quarter_turn_is_counter_clockwise():
    square = tf.constant(IMAGE[:9, :9])
    np.testing.assert_array_equal(rotate(square, math.pi / 2), np.rot90(square))


def test_random_movement_keeps_size_and_range():
    y, x = np.mgrid[:200, :100]
    image = tf.constant(np.stack([y, x, 0 * x + 1], -1).astype(np.float32))
    seeds = tf.data.Dataset.range(200).map(lambda n: tf.stack([5, n]))
    drawn = seeds.map(lambda seed: random_translation_rotation(image, seed))
    assert drawn.element_spec.shape == (200, 100, 3)
    downs, rights, angles = [], [], []
    for number, one in enumerate(drawn.as_numpy_iterator()):
        # What the middle shows, and how it changes downwards, tell the movement.
        downs.append(99.5 - one[99:101, 49:51, 0].mean())
        rights.append(49.5 - one[99:101, 49:51, 1].mean())
        down = one[150, 50, :2] - one[50, 50, :2]
        angles.append(math.degrees(math.atan2(down[1], down[0])))
        if number < 3:
            eager = random_translation_rotation(image, [5, number])
            np.testing.assert_array_equal(eager, one)
    for values, limit, slack in ((downs, 20, 1), (rights, 10, 1), (angles, 20, 1)):
        assert limit * 0.9 < max(values) <= limit + slack
        assert -limit - slack <= min(values) < -limit * 0.9
