"""Stamps of megapixel MNIST: strokes of noise, and the published low-resolution image."""

import numpy as np
import pytest
import tensorflow as tf

from tests.datasets.megapixel_mnist.tiny_images import TINY
from tnet_keras.datasets.megapixel_mnist import (
    MegapixelMnistConfig,
    MegapixelMnistScenes,
    low_resolution,
)
from tnet_keras.datasets.megapixel_mnist.stamps import noise_patterns

equal = np.testing.assert_array_equal


def test_noise_patterns_are_two_strokes_from_upper_corners():
    patterns = noise_patterns(3000, np.random.default_rng(0))
    assert patterns.shape == (3000, 28, 28) and patterns.dtype == np.uint8
    inked = patterns > 0
    assert patterns[inked].min() == 204 and patterns[inked].max() == 255
    assert patterns[inked].mean() == pytest.approx(0.9 * 255, abs=0.2)
    assert inked[:, 0, 0].all()  # Where the first stroke begins.
    # The second begins there too, or mirrored: 2 * 0.33 * 0.67, and a few flat strokes from afar.
    assert inked[:, 0, 27].mean() == pytest.approx(0.442 + 0.02, abs=0.03)
    # One pixel wide, 28 long: along rows or along columns.
    assert inked.sum(axis=(1, 2)).max() <= 56 and inked.sum(axis=(1, 2)).min() >= 28
    rows, columns = inked.any(2), inked.any(1)
    assert (rows.all(1) | columns.all(1)).all()
    # Never steeper than 72 degrees: where no stroke is mirrored, the lowest end on the left.
    last_row = inked[~inked[:, 0, 27], 27].any(0)
    assert np.argmax(last_row) == round(27 / np.tan(np.radians(72)))
    assert len(np.unique(patterns.reshape(3000, -1), axis=0)) == 3000


@pytest.mark.parametrize("config, side, size", [(MegapixelMnistConfig(), 3, 180), (TINY, 5, 38)])
def test_low_resolution_downscales_stamps_not_the_canvas(config, side, size):
    scenes = MegapixelMnistScenes(config, "test", 3, "sklearn")
    layout = scenes.layout(1)
    stamps = scenes.stamps(layout)
    scale = config.low_resolution_scale
    small = low_resolution(stamps, layout.corners, config.image_size, scale)
    assert small.shape == (size, size) and small.dtype == np.uint8
    expected = np.zeros((size, size), np.uint8)
    resized = tf.image.resize(stamps[..., None], (side, side), antialias=True)[..., 0]
    for stamp, (y, x) in zip(tf.cast(tf.round(resized), tf.uint8), layout.corners, strict=True):
        y, x = int(y * scale), int(x * scale)
        expected[y : y + side, x : x + side] = stamp
    equal(small, expected)
    canvas = tf.image.resize(scenes.draw(layout)[..., None], (size, size), antialias=True)[..., 0]
    assert np.abs(canvas - small).max() > 20


def test_low_resolution_stays_inside_at_the_last_corner():
    stamps = np.full((1, 28, 28), 200, np.uint8)
    for scale in (0.12, 0.2, 0.29, 0.5, 1.0):
        size = int(scale * 100 + 1e-6)
        small = low_resolution(stamps, [(72, 72)], 100, scale)
        assert small.shape == (size, size) and set(np.unique(small)) <= {0, 200}
        assert (small == 200).sum() == int(28 * scale + 1e-6) ** 2
