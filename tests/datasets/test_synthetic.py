"""The needle_digits scenes: what the issue promises about them, measured on the pixels."""

import dataclasses
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from tnet_keras.datasets import NeedleDigitsConfig, needle_digits, source_digits
from tnet_keras.datasets.strokes import draw_strokes

# A bank of 64 strokes is drawn in a few milliseconds; everything else as in the demo.
QUICK = NeedleDigitsConfig(stroke_bank=64)
BLACK = dataclasses.replace(QUICK, noise_mean=0.0, noise_std=0.0)


def examples(count, batch_size=16, **arguments):
    """The first `count` scenes of a stream as NumPy arrays."""
    arguments = {"config": QUICK, "with_boxes": True, "split": "train"} | arguments
    split = arguments.pop("split")
    dataset = needle_digits(split, batch_size, **arguments)
    batches = list(itertools.islice(dataset.as_numpy_iterator(), -(-count // batch_size)))
    return [np.concatenate(part)[:count] for part in zip(*batches, strict=True)]


def assert_same(first, second):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def outside(grey, box, gap=0):
    """`grey` with the digit's box (and a gap around it) blackened."""
    y0, x0, y1, x1 = box.astype(int)
    grey = grey.copy()
    grey[max(y0 - gap, 0) : y1 + gap, max(x0 - gap, 0) : x1 + gap] = 0
    return grey


@pytest.fixture(scope="module")
def plain():
    """48 test scenes without noise, digit 24 px."""
    config = dataclasses.replace(BLACK, digit_size=(24, 24))
    return examples(48, split="test", num_examples=48, config=config)


def test_shapes_dtypes_and_ranges():
    dataset = needle_digits("test", 8, num_examples=12, config=QUICK, with_boxes=True)
    images, labels, boxes = dataset.element_spec
    assert images.shape.as_list() == [None, 224, 224, 3]
    assert labels.shape.as_list() == [None] and boxes.shape.as_list() == [None, 4]
    assert (images.dtype, labels.dtype, boxes.dtype) == (tf.uint8, tf.int32, tf.float32)
    batches = list(dataset)
    assert [len(batch[1]) for batch in batches] == [8, 4]
    assert len(needle_digits("test", 8, num_examples=12, config=QUICK).element_spec) == 2
    images, labels, boxes = (np.concatenate(part) for part in zip(*batches, strict=True))
    assert images.shape == (12, 224, 224, 3)
    assert labels.min() >= 0 and labels.max() <= 9
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= 224).all()
    np.testing.assert_array_equal(images[..., 0], images[..., 2])


def test_evaluation_has_2000_examples_by_default():
    dataset = needle_digits("test", 100, config=QUICK)
    assert int(dataset.cardinality()) == 20


def test_source_digits_are_split_without_overlap():
    splits = {name: source_digits(name) for name in ("train", "validation", "test")}
    positions = [set(part[2].tolist()) for part in splits.values()]
    assert sum(map(len, positions)) == 1797 == len(set.union(*positions))
    assert [len(part) for part in positions] == pytest.approx([1078, 360, 359], abs=3)
    for images, labels, _ in splits.values():
        assert images.shape[1:] == (8, 8) and images.dtype == np.float32
        assert 0 <= images.min() and images.max() == 1.0
        share = np.bincount(labels, minlength=10) / len(labels)
        np.testing.assert_allclose(share, 0.1, atol=0.01)
    pixels = [{image.tobytes() for image in part[0]} for part in splits.values()]
    assert not (pixels[0] & pixels[1] or pixels[0] & pixels[2] or pixels[1] & pixels[2])


def test_the_label_is_the_digit_that_is_drawn(plain):
    def normalised(image):
        y, x = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
        cut = image[y[0] : y[-1] + 1, x[0] : x[-1] + 1, None].astype(np.float32)
        small = tf.image.resize(cut, (8, 8), antialias=True).numpy().ravel()
        return small / np.linalg.norm(small)

    images, labels, boxes = plain
    sources, source_labels, _ = source_digits("test")
    bank = np.stack([normalised(source) for source in sources])
    read = []
    for image, (y0, x0, y1, x1) in zip(images, boxes.astype(int), strict=True):
        read.append(source_labels[np.argmax(bank @ normalised(image[y0:y1, x0:x1, 0]))])
    assert np.mean(np.array(read) == labels) >= 0.95
    assert len(set(labels.tolist())) == 10


def test_the_box_is_tight_around_the_digit(plain):
    images, _, boxes = plain
    for grey, box in zip(images[..., 0], boxes, strict=True):
        y0, x0, y1, x1 = box.astype(int)
        inside = grey[y0:y1, x0:x1] > 0
        assert inside.any(1)[[0, -1]].all() and inside.any(0)[[0, -1]].all()
        # Two clear pixels around it: nothing of the digit is left out, no stroke touches it.
        ring = np.pad(grey, 2)[y0 : y1 + 4, x0 : x1 + 4].copy()
        ring[2:-2, 2:-2] = 0
        assert not ring.any()
    height = boxes[:, 2] - boxes[:, 0]
    assert 24 <= height.min() and height.max() <= 24 * 10 / 8


def test_digit_sizes_follow_the_range():
    config = dataclasses.replace(BLACK, digit_size=(18, 30))
    _, _, boxes = examples(400, 100, config=config, training=False, num_examples=400)
    height = boxes[:, 2] - boxes[:, 0]
    # Faint ink around the outermost of the eight cells belongs to the box: up to one cell each.
    assert 18 <= height.min() <= 21 and 31 <= height.max() <= 30 * 10 / 8


def test_digits_are_anywhere():
    _, _, boxes = examples(600, 100)
    corners = boxes[:, :2] / (224 - (boxes[:, 2:] - boxes[:, :2]))
    for axis in (0, 1):
        counts, _ = np.histogram(corners[:, axis], bins=6, range=(0, 1))
        assert counts.min() > 60
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= 224).all()


def test_digit_and_every_stroke_reach_the_same_peak(plain):
    images, _, boxes = plain
    eight = np.ones((3, 3))
    for grey, box in zip(images[..., 0], boxes, strict=True):
        y0, x0, y1, x1 = box.astype(int)
        peak = grey[y0:y1, x0:x1].max()
        assert 200 <= peak <= 255
        strokes = outside(grey, box)
        components, count = ndimage.label(strokes, eight)
        peaks = ndimage.maximum(strokes, components, range(1, count + 1))
        np.testing.assert_array_equal(peaks, peak)


def test_number_of_distractors():
    # Dots hardly ever overlap, so that connected components count them.
    config = dataclasses.replace(BLACK, stroke_length=(1, 1), stroke_width=(2, 2))
    images, _, boxes = examples(96, config=config)
    counts = np.array(
        [ndimage.label(outside(i, b), np.ones((3, 3)))[1] for i, b in zip(images[..., 0], boxes,
                                                                         strict=True)]
    )  # fmt: skip
    assert counts.max() == 16
    assert np.mean(counts >= 12) >= 0.95 and counts.min() >= 10
    assert QUICK.num_distractors[0] >= 12


def test_strokes_stay_whole_at_the_border():
    # A stroke that ran over the right border would come back at the left as a second component.
    config = dataclasses.replace(
        BLACK, image_size=128, num_distractors=(1, 1), stroke_length=(20, 26)
    )
    images, _, boxes = examples(200, 100, config=config)
    for grey, box in zip(images[..., 0], boxes, strict=True):
        assert ndimage.label(outside(grey, box), np.ones((3, 3)))[1] == 1


def test_background_is_noise_of_the_given_moments():
    config = dataclasses.replace(QUICK, noise_mean=80.0, noise_std=15.0)
    images, _, _ = examples(4, config=config)
    quiet = images[images < 80 + 4 * 15].astype(float)
    assert quiet.mean() == pytest.approx(80, abs=2) and quiet.std() == pytest.approx(15, abs=2)
    assert not np.array_equal(images[0, :9], images[1, :9])


def test_a_scene_depends_on_seed_split_and_index_only():
    reference = examples(24, batch_size=24)
    assert_same(reference, examples(24, batch_size=5))
    assert not np.array_equal(reference[2], examples(24, seed=1)[2])
    assert not np.array_equal(reference[2], examples(24, split="validation", training=True)[2])


def test_only_training_rotates_and_shears():
    config = dataclasses.replace(BLACK, rotation=12.0, shear=0.15)
    still = dataclasses.replace(config, rotation=0.0, shear=0.0)
    turned = examples(12, config=config)
    assert not np.array_equal(turned[2], examples(12, config=still)[2])
    evaluated = examples(12, config=config, training=False, num_examples=12)
    assert_same(evaluated, examples(12, config=still, training=False, num_examples=12))


def test_start_resumes_training():
    for number in (None, 20):
        whole = examples(50, num_examples=number)
        resumed = examples(19, num_examples=number, start=31)
        assert_same([part[31:] for part in whole], resumed)


def test_training_passes_reshuffle_a_fixed_set():
    images, labels, boxes = examples(24, batch_size=12, num_examples=12)
    first, second = boxes[:12].tolist(), boxes[12:].tolist()
    assert first != second and sorted(first) == sorted(second)
    scenes = examples(12, batch_size=12, num_examples=12, cache=True)
    assert_same([images[:12], labels[:12], boxes[:12]], scenes)


def test_cached_evaluation_equals_fresh():
    arguments = {"split": "test", "num_examples": 10, "batch_size": 4}
    assert_same(examples(10, **arguments), examples(10, cache=True, **arguments))


def test_random_shift_moves_scene_and_box_and_keeps_the_digit_whole():
    config = dataclasses.replace(BLACK, num_distractors=(1, 1))
    still = dataclasses.replace(config, margin=12)
    images, labels, boxes = examples(64, config=still)
    moved_images, moved_labels, moved_boxes = examples(64, config=config, random_shift=12)
    np.testing.assert_array_equal(labels, moved_labels)
    shifts = (moved_boxes - boxes)[:, :2]
    assert np.abs(shifts).max() == 12 and len(np.unique(shifts)) > 15
    np.testing.assert_array_equal(moved_boxes - boxes, np.tile(shifts, 2))
    for image, moved, box, moved_box in zip(images, moved_images, boxes, moved_boxes, strict=True):
        (a, b, c, d), (e, f, g, h) = box.astype(int), moved_box.astype(int)
        np.testing.assert_array_equal(image[a:c, b:d], moved[e:g, f:h])
    evaluated = examples(4, config=config, random_shift=12, training=False, num_examples=4)
    assert_same(evaluated, examples(4, config=config, training=False, num_examples=4))


def test_warm_up_shrinks_the_digit():
    count = 96
    usual = examples(count, training=True)
    warm = examples(count, warmup_examples=64, warmup_scale=1.5)
    np.testing.assert_array_equal(usual[1], warm[1])

    def side(boxes):
        return (boxes[:, 2:] - boxes[:, :2]).sum(1)

    ratio = side(warm[2]) / side(usual[2])
    np.testing.assert_allclose(ratio[:4], 1.5, atol=0.12)
    np.testing.assert_allclose(ratio[30:34], 1.25, atol=0.12)
    assert_same([part[64:] for part in usual], [part[64:] for part in warm])


def test_fit_takes_the_stream():
    model = keras.Sequential(
        [
            keras.layers.Rescaling(1 / 255),
            keras.layers.AveragePooling2D(32),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    stream = needle_digits("train", 8, config=QUICK)
    history = model.fit(stream, epochs=2, steps_per_epoch=2, shuffle=False, verbose=0)
    assert np.isfinite(history.history["loss"]).all() and len(history.history["loss"]) == 2


def test_config_round_trip():
    config = NeedleDigitsConfig(digit_size=(20, 22), num_distractors=[13, 14])
    copy = NeedleDigitsConfig.from_config(config.get_config())
    assert copy == config and copy.num_distractors == (13, 14)
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(config))
    assert restored == config


def test_straight_strokes_have_their_length_and_width():
    strokes = draw_strokes(20, (30, 30), (3, 3), bend=0.0, seed=0)
    assert len(strokes) == 20
    for ink in strokes:
        assert ink.max() == 1.0 and ink.dtype == np.float32
        # A rectangle 30 x 3 with round ends of radius 1.5.
        assert ink.sum() == pytest.approx(30 * 3 + np.pi * 1.5**2, rel=0.06)
        assert np.hypot(*np.subtract(ink.shape, 3.0)) == pytest.approx(30, abs=3)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"split": "dev"}, r"`split` must be one of .* Received: split='dev'"),
        ({"batch_size": 0}, r"`batch_size` must be at least 1. Received: batch_size=0"),
        ({"seed": -1}, r"`seed` must be at least 0. Received: seed=-1"),
        ({"num_examples": 0}, r"`num_examples` must be at least 1. Received: num_examples=0"),
        ({"random_shift": -2}, r"Received: random_shift=-2"),
        ({"start": -1}, r"Received: start=-1"),
        ({"cache": True}, r"`cache` needs a fixed `num_examples`. Received: num_examples=None"),
        ({"warmup_scale": 0.5}, r"`warmup_scale` must be at least 1. Received: warmup_scale=0.5"),
        (
            {"warmup_examples": 9, "training": False},
            r"`warmup_examples` needs training=True .* Received: warmup_examples=9, training=False",
        ),
        ({"warmup_scale": 9.0}, r"`warmup_scale` must leave .* Received: warmup_scale=9.0"),
        ({"random_shift": 120}, r"`image_size` must hold .* Received: image_size=224"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        needle_digits(**arguments)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"digit_size": (24, 18)}, r"`digit_size` must be \(low, high\).*digit_size=\(24, 18\)"),
        ({"num_distractors": (0, 3)}, r"num_distractors=\(0, 3\)"),
        ({"stroke_width": (2, 3, 4)}, r"stroke_width=\(2, 3, 4\)"),
        ({"brightness": (200, 256)}, r"`brightness` must be at most 255"),
        ({"digit_contrast": 0.5}, r"`digit_contrast` must be at least 1.*digit_contrast=0.5"),
        ({"noise_std": -1.0}, r"`noise_std` must not be negative. Received: noise_std=-1.0"),
        ({"margin": -1}, r"`margin` must not be negative. Received: margin=-1"),
        ({"image_size": 32}, r"`image_size` must hold .* Received: image_size=32"),
        ({"digit_size": (200, 220)}, r"`image_size` must hold .* Received: image_size=224"),
    ],
)
def test_bad_config(arguments, message):
    with pytest.raises(ValueError, match=message):
        NeedleDigitsConfig(**arguments)
