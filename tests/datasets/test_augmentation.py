"""The named recipes: which parts they are made of, eagerly and inside tf.data."""

import numpy as np
import pytest
import tensorflow as tf

from tnet_keras.datasets import augmentation as recipes
from tnet_keras.datasets.augment import distorted_crop
from tnet_keras.datasets.augmentation import AUGMENTATIONS, prepare_image
from tnet_keras.datasets.color import random_color
from tnet_keras.datasets.resizing import random_resize, random_resize_as_released
from tnet_keras.datasets.warp import random_translation_rotation

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
# Those that have tests of their own.
OTHERS = ("randaugment", "augmix", "cutout", "billiards", "traffic")
BOXES = np.array([[0.8, 0.8, 1.0, 1.0]], np.float32)


def test_resize_is_bilinear_without_antialiasing():
    small = prepare_image(tf.constant(IMAGE), (20, 25))
    # Half-pixel centres at an exact half: each output pixel is the mean of 2 x 2.
    expected = IMAGE.reshape(20, 2, 25, 2, 3).mean((1, 3))
    np.testing.assert_allclose(np.asarray(small, float), expected, atol=0.51)
    assert small.dtype == tf.uint8


@pytest.mark.parametrize("name", [name for name in AUGMENTATIONS if name not in OTHERS])
def test_a_recipe_is_its_published_parts_in_order(name):
    crop_seed, flip_seed, resize_seed, distort_seed = recipes._seeds([3, 4])
    image = tf.constant(IMAGE)
    if name != "none":
        pixels = BOXES * [40, 50, 40, 50]
        keeps = name.startswith(("imagenet", "fmow"))
        image = distorted_crop(image, crop_seed, tf.constant(pixels, tf.float32) if keeps else None)
    if name in ("none", "crop_flip"):
        image = tf.image.resize(image, (16, 20))
    elif name.endswith("as_released"):
        image = random_resize_as_released(image, (16, 20), resize_seed)
    else:
        image = random_resize(image, (16, 20), resize_seed)
    if name != "none":
        image = tf.image.stateless_random_flip_left_right(image, flip_seed)
    if name.startswith(("imagenet", "fmow")):
        image = random_color(image, distort_seed)
    if name.startswith("birds"):
        image = random_translation_rotation(image, distort_seed)
    expected = np.rint(np.clip(image, 0, 255)).astype(np.uint8)
    got = prepare_image(tf.constant(IMAGE), (16, 20), [3, 4], name, BOXES)
    np.testing.assert_array_equal(got, expected)
    dataset = tf.data.Dataset.from_tensors((IMAGE, BOXES)).map(
        lambda image, boxes: prepare_image(image, (16, 20), [3, 4], name, boxes)
    )
    assert dataset.element_spec == tf.TensorSpec((16, 20, 3), tf.uint8)
    # Graphs fuse float operations: a value at .5 may be rounded to the other side.
    np.testing.assert_allclose(next(iter(dataset)).numpy().astype(int), expected, atol=1)


def test_boxes_keep_their_objects_in_view():
    y, x = np.mgrid[:100, :100]
    image = tf.constant(np.stack([y, x, 0 * x], -1).astype(np.uint8))
    recipe = AUGMENTATIONS["imagenet"]._replace(crop=True)
    box = tf.constant([[0.97, 0.0, 1.0, 0.03]])
    windows = [
        recipes.choose_window(tf.shape(image)[:2], [0, number], recipe, box).numpy()
        for number in range(60)
    ]
    for top, left, height, _ in windows:
        covered = max(0, top + height - 97) * max(0, 3 - left)
        assert covered >= 0.1 * 9 - 1e-6
    without = [
        recipes.choose_window(tf.shape(image)[:2], [0, number], AUGMENTATIONS["birds"], box)
        for number in range(60)
    ]
    assert not np.array_equal(windows, without)


def test_no_boxes_at_all_are_the_whole_image():
    nothing = prepare_image(IMAGE, (8, 8), [1, 2], "imagenet", tf.zeros((0, 4)))
    np.testing.assert_array_equal(nothing, prepare_image(IMAGE, (8, 8), [1, 2], "imagenet"))


def test_unknown_recipe():
    with pytest.raises(ValueError, match=r"`augmentation` must be one of .*augmentation='sepia'"):
        prepare_image(IMAGE, (8, 8), [1, 2], "sepia")


@pytest.mark.parametrize("name", OTHERS)
def test_other_recipes_are_functions_of_the_seed(name):
    def stream():
        seeds = tf.data.Dataset.range(6)
        images = seeds.map(
            lambda number: prepare_image(tf.constant(IMAGE), (16, 20), [3, number], name),
            num_parallel_calls=2,
        )
        assert images.element_spec == tf.TensorSpec((16, 20, 3), tf.uint8)
        return np.stack(list(images.as_numpy_iterator()))

    first = stream()
    np.testing.assert_array_equal(first, stream())
    assert len({image.tobytes() for image in first}) >= 4
