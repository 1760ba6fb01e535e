"""Megapixel MNIST's published rules on many images: what lies where, and what covers what."""

import itertools

import keras
import numpy as np
import pytest

from tnet_keras.datasets.megapixel_mnist import MegapixelMnistConfig, MegapixelMnistScenes

equal = np.testing.assert_array_equal
PUBLISHED = MegapixelMnistConfig()


@pytest.fixture(scope="module")
def scenes():
    return MegapixelMnistScenes(PUBLISHED, "train", 0, "sklearn")


@pytest.fixture(scope="module")
def layouts(scenes):
    return [scenes.layout(index) for index in range(600)]


def test_the_configuration_is_the_published_one():
    assert tuple(PUBLISHED.get_config().values()) == (1500, 5, 3, 50, 50, 0.12)
    easy = MegapixelMnistConfig.easy()
    assert (easy.image_size, easy.num_noise, easy.low_resolution_scale) == (500, 0, 0.2)
    assert MegapixelMnistConfig.small().num_noise == 4
    assert MegapixelMnistConfig.small(1500).num_noise == 50
    assert MegapixelMnistConfig.from_config(easy.get_config()) == easy
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(easy))
    assert restored == easy


def test_three_digits_are_of_the_class_and_two_of_others(scenes, layouts):
    for layout in layouts:
        classes = scenes.digits.labels[layout.digits]
        assert len(classes) == 5 and (classes[:3] == layout.label).all()
        assert (classes[3:] != layout.label).all()
    others = scenes.digits.labels[np.concatenate([layout.digits[3:] for layout in layouts])]
    for classes in ([layout.label for layout in layouts], others):
        share = np.bincount(classes, minlength=10) / len(classes)
        np.testing.assert_allclose(share, 0.1, atol=0.04)
    # With replacement: 1,800 draws of about 1,080 source digits, most of which come up.
    assert 700 < len(np.unique([layout.digits[:3] for layout in layouts])) < 1000


def test_digits_are_anywhere_without_overlap(layouts):
    for layout in layouts:
        corners = layout.corners[:5]
        assert corners.dtype == np.int32 and corners.shape == (5, 2)
        for first, second in itertools.combinations(corners, 2):
            assert (np.abs(first - second) >= 28).any()
        equal(layout.boxes, [[y, x, y + 28, x + 28] for y, x in corners[:3]])
    corners = np.concatenate([layout.corners[:5] for layout in layouts])
    assert corners.min() >= 0 and corners.max() <= 1472
    for axis in (0, 1):
        counts, _ = np.histogram(corners[:, axis], bins=8, range=(0, 1473))
        np.testing.assert_allclose(counts / len(corners), 1 / 8, atol=0.03)


def test_crowded_canvases_reach_both_borders_without_overlap():
    config = MegapixelMnistConfig(image_size=183, num_noise=0)
    scenes = MegapixelMnistScenes(config, "test", 0, "sklearn")
    corners = np.stack([scenes.layout(index).corners for index in range(400)])
    assert (corners.min(), corners.max()) == (0, 155)
    apart = np.abs(corners[:, :, None] - corners[:, None]).max(-1)
    assert apart[:, ~np.eye(5, dtype=bool)].min() == 28  # They may touch.


def test_noise_keeps_away_from_the_upper_left_border(layouts):
    corners = np.concatenate([layout.corners[5:] for layout in layouts])
    assert corners.shape == (50 * len(layouts), 2)
    assert (corners.min(), corners.max()) == (28, 1471)
    counts = np.bincount(np.concatenate([layout.noise for layout in layouts]), minlength=50)
    assert counts.shape == (50,) and counts.min() > 450


def test_later_stamps_replace_earlier_ones():
    config = MegapixelMnistConfig(image_size=300, num_noise=20)
    scenes = MegapixelMnistScenes(config, "train", 0, "sklearn")
    overwritten = 0
    for layout in map(scenes.layout, range(40)):
        image = scenes.draw(layout)
        assert image.shape == (300, 300) and image.dtype == np.uint8
        owner = np.full((300, 300), -1)
        for number, (y, x) in enumerate(layout.corners):
            owner[y : y + 28, x : x + 28] = number
        assert not image[owner < 0].any()
        stamps = [*scenes.digits.images[layout.digits], *scenes.patterns[layout.noise]]
        for number, (stamp, (y, x)) in enumerate(zip(stamps, layout.corners, strict=True)):
            mine = owner[y : y + 28, x : x + 28] == number
            equal(image[y : y + 28, x : x + 28][mine], stamp[mine])
            overwritten += number < 5 and not mine.all()
    assert overwritten > 20  # Noise does hide digits, never the other way round.


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"image_size": 182}, r"within 183 and 46340.*image_size=182"),
        ({"image_size": 1e3}, r"`image_size` must be an int of at least 1"),
        ({"num_target": 2}, r"more than half of the 5 .* num_target=2"),
        ({"num_target": 6}, r"not more than all. Received: num_target=6"),
        ({"low_resolution_scale": 0.03}, r"low_resolution_scale=0.03"),
    ],
)
def test_bad_config(arguments, message):
    with pytest.raises(ValueError, match=message):
        MegapixelMnistConfig(**arguments)
