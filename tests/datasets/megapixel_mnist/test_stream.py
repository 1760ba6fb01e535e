"""Streams of megapixel MNIST: functions of the position, whatever the batch size."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tests.datasets.megapixel_mnist.tiny_images import TINY, assert_same, examples, tiny
from tnet_keras.datasets.megapixel_mnist import MegapixelMnistScenes, read_megapixel_mnist

equal = np.testing.assert_array_equal


def test_shapes_dtypes_and_ranges():
    stream = tiny("test", 8, num_examples=12)
    images, labels, boxes = stream.element_spec
    assert images.shape.as_list() == [None, 190, 190, 3]
    assert labels.shape.as_list() == [None] and boxes.shape.as_list() == [None, 3, 4]
    assert (images.dtype, labels.dtype, boxes.dtype) == (tf.uint8, tf.int32, tf.float32)
    assert [len(batch[1]) for batch in stream] == [8, 4]
    assert len(tiny("test", with_boxes=False).element_spec) == 2
    images, labels, boxes = examples(stream, 12)
    scenes = MegapixelMnistScenes(TINY, "test", 0, "sklearn")
    for index in range(12):
        layout = scenes.layout(index)
        assert labels[index] == layout.label
        equal(boxes[index], layout.boxes)
        equal(images[index], np.repeat(scenes.draw(layout)[..., None], 3, axis=-1))


def test_as_many_examples_as_published():
    for split, batches in (("train", 50), ("validation", 10), ("test", 10)):
        assert int(tiny(split, 100, training=False).cardinality()) == batches


def test_an_image_depends_on_seed_split_and_index_only():
    reference = examples(tiny("test", 24, num_examples=24), 24)
    assert_same(reference, examples(tiny("test", 5, num_examples=30), 24))
    for other in (tiny("test", seed=1), tiny("validation")):
        assert not np.array_equal(reference[2], examples(other, 24)[2])
    keys = itertools.product(("train", "test"), (0, 1))
    patterns = [MegapixelMnistScenes(TINY, *key, "sklearn").patterns for key in keys]
    assert not any(np.array_equal(a, b) for a, b in itertools.combinations(patterns, 2))


def test_training_passes_reshuffle_a_fixed_set_and_can_be_resumed():
    arguments = {"num_examples": 10, "seed": 4}
    whole = examples(tiny(batch_size=4, **arguments), 40)
    order = [boxes.tobytes() for boxes in whole[2]]
    passes = [order[first : first + 10] for first in range(0, 40, 10)]
    fixed = {boxes.tobytes() for boxes in examples(tiny(training=False, **arguments), 10)[2]}
    assert all(set(each) == fixed for each in passes) and passes[0] != passes[1] != passes[2]
    for start, batch_size in ((3, 1), (10, 4), (27, 7)):
        resumed = tiny(batch_size=batch_size, start=start, **arguments)
        assert_same([part[start : start + 7] for part in whole], examples(resumed, 7))
    rest = examples(tiny("test", num_examples=9, start=5), 9)
    assert_same([part[5:] for part in examples(tiny("test", num_examples=9), 9)], rest)


@pytest.mark.parametrize(
    "function, arguments, message",
    [
        (tiny, {"split": "dev"}, r"`split` must be one of .* Received: split='dev'"),
        (tiny, {"batch_size": 0}, r"`batch_size` must be at least 1. Received: batch_size=0"),
        (tiny, {"seed": -1}, r"`seed` must be at least 0. Received: seed=-1"),
        (tiny, {"start": -1}, r"`start` must be at least 0. Received: start=-1"),
        (tiny, {"num_examples": 0}, r"`num_examples` must be at least 1. .* num_examples=0"),
        (tiny, {"source": "nist"}, r"`source` must be 'auto', .* Received: source='nist'"),
        (read_megapixel_mnist, {"path": "x", "seed": -1}, r"`seed` must be at least 0."),
    ],
)
def test_bad_arguments(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(**arguments)
