"""The random resizes: which methods, how often, and the same inside tf.data."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from tnet_keras.datasets.resizing import (
    RESIZE_METHODS,
    random_resize,
    random_resize_as_released,
)

IMAGE = np.random.default_rng(0).integers(0, 256, (12, 15, 3)).astype(np.uint8)
SIZE = (8, 20)
EXPECTED = {
    method: tf.image.resize(IMAGE.astype(np.float32), SIZE, method=method, antialias=False)
    for method in RESIZE_METHODS
}


def counted(function, draws):
    """How often each method was drawn, by the images that came out."""
    seeds = tf.data.Dataset.range(draws).map(lambda n: tf.stack([3, n]))
    images = seeds.map(lambda seed: function(tf.constant(IMAGE), SIZE, seed))
    assert images.element_spec == tf.TensorSpec((*SIZE, 3), tf.float32)
    found = collections.Counter()
    for image in images.as_numpy_iterator():
        distances = {name: np.abs(image - other).max() for name, other in EXPECTED.items()}
        nearest = min(distances, key=distances.get)
        assert distances[nearest] < 1e-3
        found[nearest] += 1
    return found


def test_the_eight_methods_differ_and_are_drawn_evenly():
    found = counted(random_resize, 800)
    assert set(found) == set(RESIZE_METHODS) and len(RESIZE_METHODS) == 8
    assert sum((count - 100) ** 2 / 100 for count in found.values()) < 24.3  # 7 degrees, 0.1 %


def test_as_released_draws_two_methods_46_to_114():
    found = counted(random_resize_as_released, 800)
    assert set(found) == {"bilinear", "mitchellcubic"}
    assert abs(found["bilinear"] - 800 * 46 / 160) < 42  # 3.3 standard deviations


@pytest.mark.parametrize("function", [random_resize, random_resize_as_released])
def test_the_seed_decides(function):
    first = function(IMAGE, SIZE, [1, 2])
    np.testing.assert_array_equal(first, function(tf.constant(IMAGE), SIZE, [1, 2]))
    assert len({function(IMAGE, SIZE, [1, n]).numpy().tobytes() for n in range(20)}) > 1
