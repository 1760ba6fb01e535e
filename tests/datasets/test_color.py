"""The colour distortion against Python's own colour spaces, eagerly and inside tf.data."""

import colorsys

import numpy as np
import pytest
import tensorflow as tf

from tnet_keras.datasets.color import COLOR_ORDERS, distort_color, random_color

IMAGE = np.random.default_rng(0).integers(90, 166, (4, 5, 3)).astype(np.uint8)
FACTORS = {"b": 0.05, "s": 1.3, "h": -0.1, "c": 0.7}


def in_hsv(image, change):
    pixels = [
        colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*rgb))) for rgb in image.reshape(-1, 3)
    ]
    return np.reshape(pixels, image.shape)


def reference(image, order):
    steps = {
        "b": lambda x: x + FACTORS["b"],
        "s": lambda x: in_hsv(x, lambda h, s, v: (h, min(1.0, s * FACTORS["s"]), v)),
        "h": lambda x: in_hsv(x, lambda h, s, v: ((h + FACTORS["h"]) % 1.0, s, v)),
        "c": lambda x: (x - x.mean((0, 1))) * FACTORS["c"] + x.mean((0, 1)),
    }
    image = image / 255.0
    for letter in order:
        image = steps[letter](image)
    return 255.0 * np.clip(image, 0.0, 1.0)


@pytest.mark.parametrize("case", range(4))
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_each_order_is_the_one_published(case, dtype):
    order = ("bshc", "sbch", "chbs", "hscb")[case]
    got = distort_color(IMAGE.astype(dtype), case, *(FACTORS[key] for key in "bshc"))
    np.testing.assert_allclose(got, reference(IMAGE, order), atol=2e-2)
    assert got.dtype == tf.float32


def test_results_are_clipped_but_the_fifth_case_changes_nothing():
    image = tf.constant([[[-5.0, 100.0, 260.0]]])
    np.testing.assert_array_equal(distort_color(image, 4, 0.1, 1.5, 0.2, 1.5), image)
    bright = distort_color(tf.fill((2, 2, 3), 250.0), 0, 0.1, 1.0, 0.0, 1.0)
    np.testing.assert_array_equal(bright, np.full((2, 2, 3), 255.0))


def test_random_color_draws_five_cases_evenly():
    image = tf.constant(IMAGE)
    seeds = tf.stack([tf.zeros((500,), tf.int64), tf.range(500, dtype=tf.int64)], axis=1)
    dataset = tf.data.Dataset.from_tensor_slices(seeds).map(lambda seed: random_color(image, seed))
    drawn = np.stack(list(dataset.as_numpy_iterator()))
    unchanged = (drawn == IMAGE).all((1, 2, 3)).sum()
    assert 65 < unchanged < 140  # 100 expected
    assert len({one.tobytes() for one in drawn}) == 500 - unchanged + 1
    for number in range(5):
        np.testing.assert_allclose(random_color(image, [0, number]), drawn[number], atol=1e-4)
    assert len(COLOR_ORDERS) == 4


def test_random_color_keeps_to_the_published_ranges(monkeypatch):
    calls = []
    monkeypatch.setattr(
        "tnet_keras.datasets.color.distort_color", lambda image, *drawn: calls.append(drawn)
    )
    for number in range(300):
        random_color(None, [1, number])
    drawn = np.array(calls, float)
    assert set(drawn[:, 0]) == {0, 1, 2, 3, 4}
    low, high = [-32 / 255, 0.5, -0.2, 0.5], [32 / 255, 1.5, 0.2, 1.5]
    assert (drawn[:, 1:] >= low).all() and (drawn[:, 1:] <= high).all()
    spread = drawn[:, 1:].max(0) - drawn[:, 1:].min(0)
    assert (spread > 0.95 * np.subtract(high, low)).all()
