"""The functions behind the signatures, each on its own."""

import numpy as np
import pytest
import tensorflow as tf

from tests.export import serving
from tnet_keras.datasets.folder import prepare_image
from tnet_keras.export.signatures import read_images, resized, sent_boxes, with_status


@pytest.mark.parametrize("size", [(20, 30), (7, 64), (33, 17)])
def test_images_are_resized_as_in_training(size):
    pixels = serving.picture(33, 17)
    found = resized(tf.constant(pixels[None]), size)
    np.testing.assert_array_equal(found[0], prepare_image(pixels, size))


def test_images_of_mixed_sizes_are_read():
    pixels = serving.picture(12, 9), serving.picture(5, 30, 1)
    files = tf.constant([*map(serving.encoded, pixels), b"text"])
    images, sizes, status = read_images(files, (8, 8), 200, 10**6, (0, 0, 0))
    assert sizes.numpy().tolist() == [[12, 9], [5, 30], [1, 1]]
    assert status.numpy().tolist() == [0, 0, 3]
    for image, own in zip(images, pixels, strict=False):
        np.testing.assert_array_equal(image, prepare_image(own, (8, 8)))
    assert read_images(files, (8, 8), 120, 10**6, (0, 0, 0))[2].numpy().tolist() == [0, 4, 3]


def test_boxes_in_pixels_of_the_image_that_was_sent():
    boxes = tf.constant([[[0.0, 0, 8, 16]], [[2.0, 4, 4, 8]]])
    found = sent_boxes(boxes, tf.constant([[80, 32], [4, 8]]), (8, 16))
    assert found.numpy().tolist() == [[[0, 0, 80, 32]], [[1, 2, 2, 4]]]


def test_one_bad_image_can_fail_the_request():
    outputs = {"scores": tf.ones([2, 3]), "labels": tf.constant([["a"], ["b"]])}
    kept = with_status(outputs, tf.constant([0, 5]), fail=False)
    assert kept["scores"].numpy().tolist() == [[1, 1, 1], [0, 0, 0]]
    assert kept["labels"].numpy().tolist() == [[b"a"], [b""]]
    assert kept["status"].numpy().tolist() == [0, 5]
    with pytest.raises(tf.errors.InvalidArgumentError, match="every image must be readable"):
        with_status(outputs, tf.constant([0, 5]), fail=True)
    assert with_status(outputs, tf.constant([0, 0]), fail=True)["scores"].numpy().sum() == 6
