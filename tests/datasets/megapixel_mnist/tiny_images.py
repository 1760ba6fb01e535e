"""Small images of scikit-learn's digits, and how tests read a stream of them."""

import itertools

import numpy as np

from tnet_keras.datasets.megapixel_mnist import MegapixelMnistConfig, megapixel_mnist

TINY = MegapixelMnistConfig(image_size=190, num_noise=4, num_patterns=6, low_resolution_scale=0.2)


def examples(stream, count):
    """The first `count` examples of a stream as NumPy arrays."""
    parts = zip(*itertools.islice(stream.unbatch().as_numpy_iterator(), count), strict=True)
    return [np.stack(part) for part in parts]


def tiny(split="train", batch_size=4, **arguments):
    arguments = {"config": TINY, "source": "sklearn", "with_boxes": True} | arguments
    return megapixel_mnist(split, batch_size, **arguments)


def assert_same(first, second):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
