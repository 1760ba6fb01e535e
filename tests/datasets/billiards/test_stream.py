"""Streams of tables: functions of the position, whatever the batch size."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tests.datasets.billiards.tiny_tables import TINY, tables
from tests.datasets.reading import assert_same, examples
from tnet_keras.datasets import BILLIARD_LABELS, billiard_label, billiards
from tnet_keras.datasets.augment import shift_with_black
from tnet_keras.datasets.billiards import BilliardScenes


def test_shapes_dtypes_and_ranges():
    dataset = billiards("test", 4, num_examples=6, config=TINY, with_boxes=True)
    images, labels, boxes = dataset.element_spec
    assert images.shape.as_list() == [None, 240, 240, 3]
    assert labels.shape.as_list() == [None] and boxes.shape.as_list() == [None, 2, 4]
    assert (images.dtype, labels.dtype, boxes.dtype) == (tf.uint8, tf.int32, tf.float32)
    assert [len(batch[1]) for batch in dataset] == [4, 2]
    assert len(billiards("test", 4, num_examples=6, config=TINY).element_spec) == 2
    assert int(billiards("test", 100, config=TINY).cardinality()) == 20
    assert billiards().element_spec[0].shape.as_list() == [16, 1000, 1000, 3]


@pytest.mark.parametrize("label", BILLIARD_LABELS)
def test_labels_and_boxes_are_those_of_the_annotation(label):
    images, labels, boxes = tables(6, split="test", label=label)
    scenes = BilliardScenes(TINY, "test", 0)
    for index in range(6):
        image, balls = scenes.draw(index)
        assert balls == scenes.annotate(index)
        np.testing.assert_array_equal(images[index], image)
        assert labels[index] == billiard_label(balls, label)
        by_place = sorted(balls, key=lambda one: one["position"][0])
        expected = np.float32([by_place[0]["box"], by_place[-1]["box"]])
        np.testing.assert_array_equal(boxes[index], expected)


def test_a_table_depends_on_seed_split_and_index_only():
    reference = tables(9, batch_size=9)
    assert_same(reference, tables(9, batch_size=2))
    drawn = {
        json.dumps(BilliardScenes(TINY, split, seed).annotate(index))
        for split in ("train", "validation", "test")
        for seed in (0, 1)
        for index in range(50)
    }
    assert len(drawn) == 300


@pytest.mark.parametrize("number", [None, 7])
def test_start_resumes_training(number):
    whole = tables(20, num_examples=number, random_shift=6)
    resumed = tables(8, num_examples=number, random_shift=6, start=12)
    assert_same([part[12:] for part in whole], resumed)


def test_training_passes_reshuffle_a_fixed_set():
    _, _, boxes = tables(18, batch_size=3, num_examples=9)
    first, second = boxes[:9].tolist(), boxes[9:].tolist()
    assert first != second and sorted(first) == sorted(second)


def test_cached_tables_equal_fresh_ones():
    arguments = {"num_examples": 5, "random_shift": 4}
    assert_same(tables(13, **arguments), tables(13, cache=True, **arguments))
    evaluated = billiards("test", 2, num_examples=5, config=TINY, cache=True)
    assert_same(examples(evaluated, 5), examples(evaluated, 5))


def test_random_shift_moves_table_and_boxes():
    images, labels, boxes = tables(24, batch_size=8)
    moved_images, moved_labels, moved_boxes = tables(24, batch_size=8, random_shift=10)
    np.testing.assert_array_equal(labels, moved_labels)
    shifts = np.rint((moved_boxes - boxes)[:, 0, :2]).astype(int)
    assert np.abs(shifts).max() <= 10 and len(np.unique(shifts)) > 10
    np.testing.assert_allclose(
        moved_boxes - boxes, np.tile(shifts[:, None], 2) + 0 * boxes, atol=1e-4
    )
    for image, moved, (down, right) in zip(images, moved_images, shifts, strict=True):
        padded = np.pad(image, ((10, 10), (10, 10), (0, 0)))
        expected = padded[10 - down : 250 - down, 10 - right : 250 - right]
        np.testing.assert_array_equal(moved, expected)
    evaluated = {"split": "test", "num_examples": 2}
    assert_same(tables(2, **evaluated), tables(2, random_shift=10, **evaluated))


@given(st.integers(3, 9), st.integers(3, 9), st.data())
def test_shift_is_zero_padding_and_crop(height, width, data):
    down = data.draw(st.integers(1 - height, height - 1))
    right = data.draw(st.integers(1 - width, width - 1))
    image = np.random.default_rng(0).integers(1, 255, (height, width, 3), np.uint8)
    padded = np.pad(image, ((height, height), (width, width), (0, 0)))
    expected = padded[height - down :, width - right :][:height, :width]
    box = np.float32([[0, 1, 2, 3]])
    moved, moved_box = shift_with_black(tf.constant(image), tf.constant([down, right]), box)
    np.testing.assert_array_equal(moved, expected)
    unclipped = box + np.float32([down, right, down, right])
    np.testing.assert_array_equal(moved_box, np.clip(unclipped, 0, [height, width] * 2))


def test_fit_takes_the_stream():
    model = keras.Sequential(
        [keras.layers.AveragePooling2D(54), keras.layers.Flatten(), keras.layers.Dense(9)]
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    stream = billiards("train", 2, config=TINY)
    history = model.fit(stream, steps_per_epoch=2, shuffle=False, verbose=0)
    assert len(history.history["loss"]) == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"split": "valid"}, r"`split` must be one of .* Received: split='valid'"),
        ({"label": "sum"}, r"`label` must be one of .* Received: label='sum'"),
        ({"batch_size": 0}, r"`batch_size` must be at least 1. Received: batch_size=0"),
        ({"seed": -1}, r"`seed` must be at least 0. Received: seed=-1"),
        ({"num_examples": 0}, r"`num_examples` must be at least 1. Received: num_examples=0"),
        ({"random_shift": -2}, r"Received: random_shift=-2"),
        ({"random_shift": 1000}, r"`random_shift` must be less than .* random_shift=1000"),
        ({"start": -1}, r"Received: start=-1"),
        ({"cache": True}, r"`cache` needs a fixed `num_examples`. Received: num_examples=None"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        billiards(**arguments)


def test_warmup_begins_with_one_number_and_ends_with_the_published_tables():
    scenes = BilliardScenes(TINY, "train", 0)
    numbers = [
        {ball["number"] for ball in scenes.annotate(index, index / 400)} for index in range(400)
    ]
    same = np.array([len(found) == 1 for found in numbers])
    assert same[:20].mean() > 0.8 and same[-20:].mean() < 0.2
    assert 0.4 < same.mean() < 0.6
    first = [next(iter(found)) for found in numbers[:100]]
    assert set(first) == set(range(1, 10))
    images, labels, boxes = tables(45, warmup_examples=40)
    for index in (0, 10, 39):
        image, balls = scenes.draw(index, index / 40)
        assert balls == scenes.annotate(index, index / 40)
        np.testing.assert_array_equal(images[index], image)
        assert labels[index] == billiard_label(balls, "max_left_right")
    # After the warm-up come the usual tables.
    assert_same([part[40:] for part in tables(45)], [images[40:], labels[40:], boxes[40:]])
    resumed = tables(15, warmup_examples=40, start=30)
    assert_same(resumed, [images[30:], labels[30:], boxes[30:]])


@pytest.mark.parametrize(
    "arguments",
    [
        {"warmup_examples": -1},
        {"warmup_examples": 5, "split": "test"},
        {"warmup_examples": 5, "cache": True, "num_examples": 8},
    ],
)
def test_warmup_that_cannot_be_is_named(arguments):
    with pytest.raises(ValueError, match="`warmup_examples` must.*Received: warmup_examples="):
        tables(1, **arguments)
