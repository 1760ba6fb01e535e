"""Each augmentation against NumPy, eagerly and inside tf.data."""

import numpy as np
import pytest
import tensorflow as tf

from tnet_keras.datasets import (
    distorted_crop,
    random_contrast,
    random_flip,
    random_shift,
    random_shift_with_black,
    resized_crop,
    shift,
)

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 12, 15, 2)).astype(np.uint8)
BOXES = np.array([[0, 0, 4, 5], [3, 6, 9, 11], [8, 10, 12, 15]], np.float32)


def inside_tf_data(function, *tensors):
    """`function` applied by a dataset whose one element holds the tensors."""
    dataset = tf.data.Dataset.from_tensors(tensors).map(function)
    return next(iter(dataset))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_shift_is_a_crop_of_the_reflected_image(dtype):
    images = IMAGES.astype(dtype)
    shifts = np.array([[0, 0], [4, -7], [-11, 14]], np.int32)
    got, boxes = shift(tf.constant(images), tf.constant(shifts), tf.constant(BOXES))
    assert got.dtype == dtype
    for image, moved, (down, right) in zip(images, got, shifts, strict=True):
        padded = np.pad(image, ((11, 11), (14, 14), (0, 0)), mode="reflect")
        expected = padded[11 - down : 23 - down, 14 - right : 29 - right]
        np.testing.assert_array_equal(moved, expected)
    np.testing.assert_array_equal(boxes, [[0, 0, 4, 5], [7, 0, 12, 4], [0, 15, 1, 15]])
    again, _ = inside_tf_data(shift, images, shifts, BOXES)
    np.testing.assert_array_equal(got, again)


def test_shift_without_boxes_returns_images_alone():
    np.testing.assert_array_equal(shift(tf.constant(IMAGES), tf.zeros((3, 2), tf.int32)), IMAGES)


def test_random_shift_is_seeded_and_limited():
    images = tf.zeros((400, 20, 20, 1), tf.uint8)
    centre = tf.constant([[9.0, 9.0, 11.0, 11.0]] * 400)
    _, boxes = random_shift(images, [1, 2], 3, centre)
    moved = (boxes - centre).numpy()[:, :2]
    assert set(moved.ravel()) == {-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0}
    assert not np.array_equal(moved[:, 0], moved[:, 1])
    inside = inside_tf_data(lambda a, b: random_shift(a, [1, 2], 3, b), images, centre)
    np.testing.assert_array_equal(boxes, inside[1])
    assert not np.array_equal(boxes, random_shift(images, [1, 3], 3, centre)[1])


def test_random_flip_mirrors_about_half_of_the_images_and_their_boxes():
    images = np.random.default_rng(1).integers(0, 256, (200, 4, 6, 3)).astype(np.uint8)
    boxes = np.tile(np.array([[1, 0, 3, 2]], np.float32), (200, 1))
    got, moved = random_flip(tf.constant(images), [0, 5], tf.constant(boxes))
    flipped = moved.numpy()[:, 1] == 4
    assert 70 < flipped.sum() < 130
    np.testing.assert_array_equal(moved.numpy()[flipped], [[1, 4, 3, 6]] * flipped.sum())
    np.testing.assert_array_equal(moved.numpy()[~flipped], boxes[~flipped])
    expected = np.where(flipped[:, None, None, None], images[:, :, ::-1], images)
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(random_flip(tf.constant(images), [0, 5]), expected)
    again, _ = inside_tf_data(lambda a, b: random_flip(a, [0, 5], b), images, boxes)
    np.testing.assert_array_equal(got, again)


def test_distorted_crop_is_a_rectangle_of_the_asked_area():
    # Pixels hold their own coordinates, so that a crop tells where it was cut.
    y, x = np.mgrid[:60, :80]
    image = tf.constant(np.stack([y, x], -1).astype(np.uint8))
    sizes = set()
    for number in range(40):
        crop = distorted_crop(image, [3, number]).numpy()
        height, width, _ = crop.shape
        assert 0.84 <= height * width / 4800 <= 1.0
        top, left = crop[0, 0].astype(int)
        np.testing.assert_array_equal(crop, image[top : top + height, left : left + width])
        sizes.add((height, width))
    assert len(sizes) > 10


def test_distorted_crop_inside_tf_data_with_unknown_size():
    image = tf.constant(np.random.default_rng(2).integers(0, 256, (30, 40, 3)).astype(np.uint8))
    eager = distorted_crop(image, [3, 4])
    signature = tf.TensorSpec((None, None, 3), tf.uint8)
    dataset = tf.data.Dataset.from_generator(lambda: iter([image]), output_signature=signature)
    inside = next(iter(dataset.map(lambda one: distorted_crop(one, [3, 4]))))
    np.testing.assert_array_equal(eager, inside)


def test_distorted_crop_keeps_the_boxes_in_view():
    y, x = np.mgrid[:50, :50]
    image = tf.constant(np.stack([y, x], -1).astype(np.uint8))
    box = tf.constant([[40.0, 40.0, 50.0, 50.0]])
    for number in range(30):
        crop = distorted_crop(
            image, [0, number], box, area_range=(0.2, 0.5), min_object_covered=0.9,
            max_attempts=1000,
        ).numpy()  # fmt: skip
        assert tuple(crop[-1, -1]) >= (48, 48)
        covered = ((crop >= 40).all(-1)).sum()
        assert covered >= 85


def test_resized_crop_takes_the_middle_or_a_seeded_part():
    image = IMAGES[0]
    resized = np.rint(tf.image.resize(image, (20, 30))).astype(np.uint8)
    np.testing.assert_array_equal(resized_crop(image, (20, 30), (8, 10)), resized[6:14, 10:20])
    every = {
        part.tobytes()
        for top in range(13)
        for left in range(21)
        for part in [resized[top : top + 8, left : left + 10]]
        for part in (part, part[:, ::-1])
    }
    drawn = {
        inside_tf_data(
            lambda x, seed=seed: resized_crop(x, (20, 30), (8, 10), [7, seed]), image
        ).numpy().tobytes()
        for seed in range(12)
    }  # fmt: skip
    assert len(drawn) > 8 and drawn <= every
    with pytest.raises(ValueError, match=r"`resize` must be at least.*Received: resize=\(8, 8\)"):
        resized_crop(image, (8, 8), (9, 8))


def test_random_shift_with_black_moves_by_a_part_of_the_height():
    image = np.random.default_rng(0).integers(1, 256, (20, 30, 3)).astype(np.uint8)
    seen = set()
    for number in range(12):
        moved = random_shift_with_black(tf.constant(image), [0, number], fraction=0.1).numpy()
        rows, columns = moved.any((1, 2)), moved.any((0, 2))
        black = [int(np.argmax(rows)), int(np.argmax(rows[::-1])), int(np.argmax(columns))]
        seen.add(tuple(black))
        assert max(black) <= 2 and np.argmax(columns[::-1]) <= 2
    assert len(seen) > 5
    with pytest.raises(ValueError, match="`fraction` must be .* Received: fraction=1.5 of 20 x 30"):
        random_shift_with_black(image, [0, 0], fraction=1.5)


def test_random_contrast_is_a_line_through_most_images():
    image = tf.constant(np.linspace(60, 180, 300).reshape(10, 10, 3), tf.float32)
    unchanged = 0
    for number in range(60):
        slope, offset = np.polyfit(
            image.numpy().ravel(), random_contrast(image, [5, number]).numpy().ravel(), 1
        )
        unchanged += slope == pytest.approx(1.0, abs=1e-6) and offset == pytest.approx(0, abs=1e-3)
        assert 0.799 <= slope <= 1.201 and abs(offset) <= 25.6
    assert 4 <= unchanged <= 22  # one of five
