"""RandAugment on keras-cv's operations: seeded, eager and inside tf.data, closed forms."""

import numpy as np
import pytest
import tensorflow as tf

from tnet_keras.datasets.rand_augment import _operations, rand_augment

IMAGE = np.random.default_rng(0).integers(40, 200, (24, 32, 3)).astype(np.uint8)


def test_it_is_a_function_of_the_seed_whatever_the_parallelism():
    def stream(parallel):
        seeds = tf.data.Dataset.range(24).map(lambda n: tf.stack([7, n]))
        return np.stack(
            list(
                seeds.map(
                    lambda seed: rand_augment(tf.constant(IMAGE), seed), num_parallel_calls=parallel
                ).as_numpy_iterator()
            )
        )

    first = stream(2)
    np.testing.assert_array_equal(first, stream(None))
    assert first.shape == (24, 24, 32, 3) and first.dtype == np.float32
    assert 0.0 <= first.min() and first.max() <= 255.0
    assert len({image.tobytes() for image in first}) > 20
    for number in range(3):
        np.testing.assert_allclose(rand_augment(IMAGE, [7, number]), first[number], atol=1e-3)


def equalized(image):
    """Histogram equalisation of each channel as keras-cv does it."""
    result = np.empty_like(image)
    for channel in range(3):
        histogram = np.bincount(image[..., channel].ravel(), minlength=256)
        step = (histogram.sum() - histogram[histogram > 0].min()) // 255
        table = (np.cumsum(histogram) + step // 2) // step
        table = np.clip(np.concatenate([[0], table[:-1]]), 0, 255)
        result[..., channel] = table[image[..., channel]]
    return result


def test_operations_are_what_their_names_say():
    image = tf.cast(IMAGE, tf.float32)[None]
    strengths, sign, uniform = tf.constant([0.2, 0.4]), tf.constant(-1.0), tf.constant(0.5)
    operations = _operations(image, strengths, sign, uniform, 0.5)
    results = [operation()[0].numpy() for operation in operations]
    assert len(results) == 10
    x = IMAGE.astype(np.float32)
    low, high = x.min((0, 1)), x.max((0, 1))
    stretched = (x - low) * 255.0 / (high - low)
    np.testing.assert_allclose(results[0], stretched, atol=1e-3)
    np.testing.assert_array_equal(results[1], equalized(IMAGE))
    added = np.clip(x + 22.0, 0, 255)
    np.testing.assert_allclose(results[2], np.where(added < 153.0, added, 255 - added), atol=1e-3)
    grey = x @ [0.2989, 0.587, 0.114]
    np.testing.assert_allclose(results[3], 0.8 * x + 0.2 * grey[..., None], atol=0.1)
    mean = x.mean((0, 1))
    np.testing.assert_allclose(results[4], np.clip((x - mean) * 1.25 + mean, 0, 255), atol=1e-2)
    np.testing.assert_allclose(results[5], np.clip(x + 63.75, 0, 255), atol=1e-3)
    np.testing.assert_allclose(results[8][:, 8:], x[:, :-8], atol=1e-3)  # 0.25 of 32 columns
    np.testing.assert_allclose(results[9][6:], x[:-6], atol=1e-3)  # 0.25 of 24 rows
    for result in results[6:8]:
        assert not np.allclose(result, x)


@pytest.mark.parametrize("name", ["magnitude", "magnitude_stddev"])
def test_bad_strength(name):
    with pytest.raises(ValueError, match=rf"`{name}` must be in \[0, 1\]. Received: {name}=1.5"):
        rand_augment(IMAGE, [0, 0], **{name: 1.5})
