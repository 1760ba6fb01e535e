"""AugMix and cutout: seeded, eager and inside tf.data, closed forms."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tnet_keras.datasets import aug_mix, cutout
from tnet_keras.datasets.aug_mix import _operations
from tnet_keras.datasets.warp import rotate

IMAGE = np.random.default_rng(0).integers(40, 200, (24, 32, 3)).astype(np.uint8)


def stream(change, parallel, count=16):
    numbers = tf.data.Dataset.range(count)
    images = numbers.map(
        lambda number: change(tf.constant(IMAGE), tf.stack([7, number])),
        num_parallel_calls=parallel,
    )
    return np.stack(list(images.as_numpy_iterator()))


@pytest.mark.parametrize("change", [aug_mix, cutout])
def test_it_is_a_function_of_the_seed_whatever_the_parallelism(change):
    first = stream(change, 2)
    np.testing.assert_array_equal(first, stream(change, None))
    assert first.shape == (16, 24, 32, 3) and first.dtype == np.float32
    assert 0.0 <= first.min() and first.max() <= 255.0
    assert len({image.tobytes() for image in first}) > 12
    np.testing.assert_allclose(change(IMAGE, [7, 1]), first[1], atol=1e-3)


def test_operations_are_what_their_names_say():
    x = IMAGE.astype(np.float32)
    results = [
        operation().numpy()
        for operation in _operations(tf.constant(x), tf.constant(0.4), tf.constant(-1.0))
    ]
    assert len(results) == 9
    low, high = x.min((0, 1)), x.max((0, 1))
    np.testing.assert_allclose(results[0], (x - low) * 255.0 / (high - low), atol=1e-3)
    assert len(np.unique(results[1])) > 100 and results[1].max() == 255.0  # equalised
    np.testing.assert_array_equal(results[2], IMAGE >> 4 << 4)  # int(0.4 * 3) = 1 of 5 bits less
    np.testing.assert_allclose(results[3], rotate(x, math.pi / 6 * 0.4), atol=1e-3)
    np.testing.assert_array_equal(results[4], np.where(x < 102.0, x, 255.0 - x))
    for result in results[5:7]:
        assert not np.allclose(result, x)
    np.testing.assert_array_equal(results[7][:, :-4], x[:, 4:])  # 0.4 of a third of 32 columns
    np.testing.assert_array_equal(results[8][:-3], x[3:])  # 0.4 of a third of 24 rows


def test_mixture_is_convex():
    # Whatever moves or turns, and stretches nothing, leaves a grey image grey or brings in black.
    grey = tf.fill((16, 16, 3), tf.constant(100, tf.uint8))
    for number in range(8):
        mixed = aug_mix(grey, [1, number], severity=0.01).numpy()
        assert mixed.shape == (16, 16, 3) and 0.0 <= mixed.min() and mixed.max() <= 255.0


def test_cutout_covers_a_square_with_the_mean():
    covered = cutout(IMAGE, [3, 1], fraction=0.5).numpy()
    differs = (covered != IMAGE).any(-1)
    rows, columns = np.flatnonzero(differs.any(1)), np.flatnonzero(differs.any(0))
    inside = covered[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert len(rows) <= 12 and len(columns) <= 12  # half of 24 pixels, less at the border
    np.testing.assert_allclose(inside, np.broadcast_to(IMAGE.mean((0, 1)), inside.shape), rtol=1e-5)
    sides = [(stream(cutout, 2) != IMAGE).any(-1).any(axis).sum(1).max() for axis in (1, 2)]
    assert sides == [6, 6]


@pytest.mark.parametrize(
    ("function", "name", "value"),
    [(aug_mix, "severity", 0.0), (aug_mix, "severity", 1.5), (cutout, "fraction", 0.0),
     (cutout, "fraction", 1.1)],
)  # fmt: skip
def test_bad_strength(function, name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be in .*Received: {name}={value}"):
        function(IMAGE, [0, 0], **{name: value})
