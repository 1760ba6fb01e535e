"""Streams of traffic scenes: functions of the position, whatever the batch size."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.datasets.reading import assert_same, examples
from tests.datasets.traffic_signs.tiny_scenes import TINY, scenes
from tnet_keras.datasets.traffic_signs import (
    TrafficScenes,
    labelled_sign,
    traffic_sign_label,
    traffic_signs,
)


def test_shapes_dtypes_and_ranges():
    dataset = traffic_signs("test", 4, num_examples=6, config=TINY, with_boxes=True)
    images, labels, boxes = dataset.element_spec
    assert images.shape.as_list() == [None, 216, 288, 3]
    assert labels.shape.as_list() == [None] and boxes.shape.as_list() == [None, 4]
    assert (images.dtype, labels.dtype, boxes.dtype) == (tf.uint8, tf.int32, tf.float32)
    assert [len(batch[1]) for batch in dataset] == [4, 2]
    assert len(traffic_signs("test", 4, num_examples=6, config=TINY).element_spec) == 2
    assert int(traffic_signs("test", 100, config=TINY).cardinality()) == 20


def test_the_default_is_of_the_published_size():
    images, _ = next(iter(traffic_signs(batch_size=1)))
    assert images.shape == (1, 960, 1280, 3)


def test_labels_and_boxes_are_those_of_the_annotation():
    images, labels, boxes = scenes(20, split="test")
    drawn = TrafficScenes(TINY, "test", 0)
    for index in range(20):
        image, signs = drawn.draw(index)
        np.testing.assert_array_equal(images[index], image)
        assert labels[index] == traffic_sign_label(signs)
        sign = labelled_sign(signs)
        np.testing.assert_array_equal(boxes[index], np.float32(sign.box if sign else [0] * 4))
    assert set(labels) == {0, 1, 2, 3}


def test_a_stream_does_not_depend_on_the_batch_size():
    arguments = {"random_shift": 5, "random_contrast": True}
    assert_same(scenes(9, batch_size=9, **arguments), scenes(9, batch_size=2, **arguments))


@pytest.mark.parametrize("number", [None, 7])
def test_start_resumes_training(number):
    arguments = {"num_examples": number, "random_shift": 6, "random_contrast": True}
    whole, resumed = scenes(20, **arguments), scenes(8, start=12, **arguments)
    assert_same([part[12:] for part in whole], resumed)


def test_training_passes_reshuffle_a_fixed_set():
    images, _, _ = scenes(18, batch_size=3, num_examples=9)
    sums = images.sum((1, 2, 3), dtype=np.int64)
    first, second = sums[:9].tolist(), sums[9:].tolist()
    assert first != second and sorted(first) == sorted(second)


def test_random_shift_moves_scene_and_box():
    images, labels, boxes = scenes(24, batch_size=8)
    moved_images, moved_labels, moved_boxes = scenes(24, batch_size=8, random_shift=16)
    np.testing.assert_array_equal(labels, moved_labels)
    assert not moved_boxes[labels == 0].any()
    shifts = np.rint((moved_boxes - boxes)[:, :2]).astype(int)
    assert np.abs(shifts).max() <= 16 and len(np.unique(shifts)) > 10
    # The margin of the scenes is as wide: no sign is lost or cut.
    np.testing.assert_allclose(moved_boxes, boxes + np.tile(shifts, 2), atol=1e-4)
    for image, moved, (down, right) in zip(
        images[labels > 0], moved_images[labels > 0], shifts[labels > 0], strict=True
    ):
        padded = np.pad(image, ((16, 16), (16, 16), (0, 0)))
        expected = padded[16 - down : 232 - down, 16 - right : 304 - right]
        np.testing.assert_array_equal(moved, expected)


def test_random_contrast_is_one_line_per_image():
    images, _, _ = scenes(60, batch_size=20)
    changed, _, _ = scenes(60, batch_size=20, random_contrast=True)
    same, slopes, offsets = 0, [], []
    for image, other in zip(images, changed, strict=True):
        if np.array_equal(image, other):
            same += 1
            continue
        inside = (other > 2) & (other < 253)
        slope, offset = np.polyfit(image[inside].astype(float), other[inside].astype(float), 1)
        expected = np.clip(slope * image.astype(float) + offset, 0, 255)
        assert np.abs(expected - other).max() < 1.5  # Both are rounded.
        slopes.append(slope)
        offsets.append(offset)
    assert 0.05 < same / 60 < 0.4  # Published: 0.2.
    assert 0.79 < min(slopes) < 0.88 and 1.12 < max(slopes) < 1.21
    assert -26.5 < min(offsets) < -15 and 15 < max(offsets) < 26.5


def test_evaluation_is_never_augmented():
    evaluated = {"split": "test", "num_examples": 2}
    augmented = scenes(2, random_shift=10, random_contrast=True, **evaluated)
    assert_same(scenes(2, **evaluated), augmented)
    trained = traffic_signs("test", 2, 0, 2, TINY, training=True, random_shift=10)
    assert not np.array_equal(examples(trained, 2)[0], augmented[0])


def test_fit_takes_the_stream():
    model = keras.Sequential(
        [keras.layers.AveragePooling2D(72), keras.layers.Flatten(), keras.layers.Dense(4)]
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    stream = traffic_signs("train", 2, config=TINY)
    history = model.fit(stream, steps_per_epoch=2, shuffle=False, verbose=0)
    assert len(history.history["loss"]) == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"split": "valid"}, r"`split` must be one of .* Received: split='valid'"),
        ({"batch_size": 0}, r"`batch_size` must be at least 1. Received: batch_size=0"),
        ({"seed": -1}, r"`seed` must be at least 0. Received: seed=-1"),
        ({"num_examples": 0}, r"`num_examples` must be at least 1. Received: num_examples=0"),
        ({"random_shift": -2}, r"Received: random_shift=-2"),
        ({"random_shift": 960}, r"`random_shift` must be less than .* random_shift=960"),
        ({"start": -1}, r"Received: start=-1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        traffic_signs(**arguments)
