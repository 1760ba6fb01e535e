"""Traffic scenes as a `tf.data` stream: drawn on the fly, or read from the Swedish set's folders.

A stream is a function of the position in it: it does not depend on batch size or parallelism, can
be resumed anywhere, and two readers see the same data.
"""

import numpy as np
import tensorflow as tf

from tnet_keras.datasets.augment import check_shift, shift_with_black
from tnet_keras.datasets.encoded_images import checked_image
from tnet_keras.datasets.needle_scenes import choose
from tnet_keras.datasets.streams import (
    DEFAULT_EVALUATION_EXAMPLES,
    batches,
    check_stream,
    counter_uniform,
    example_order,
)
from tnet_keras.datasets.traffic_signs.annotations import check_rule, traffic_sign_label
from tnet_keras.datasets.traffic_signs.folder import find_scenes, label_box
from tnet_keras.datasets.traffic_signs.scenes import TrafficScenes, TrafficScenesConfig
from tnet_keras.ops.decode import decode_image

_AUGMENT_STREAM = 0x7AFF1C516115EED5  # Keeps augmentation apart from other numbers of a seed.
# a * x + b of pixels in [0, 1], as published: ranges of a and b, and how often.
_CONTRAST, _OFFSET, _OFTEN = (0.8, 1.2), (-0.1, 0.1), 0.8


def traffic_signs(
    split="train",
    batch_size=16,
    seed=0,
    num_examples=None,
    config=None,
    with_boxes=False,
    training=None,
    random_shift=0,
    start=0,
    random_contrast=False,
):
    """Scenes at a road whose label is the speed limit: none, 50, 70 or 80.

    A stand-in for the speed-limit subset of the Swedish traffic signs. Training streams never end;
    every pass over `num_examples` scenes is in a new order (with `num_examples=None` no scene is
    ever repeated). Other streams are one pass in order. Scenes are drawn in NumPy as the stream is
    read, by two threads side by side.

    Args:
        split: "train", "validation" or "test". No two splits share a scene.
        batch_size: int >= 1. Training streams hold full batches only.
        seed: int >= 0. Same seed, same scene at the same index.
        num_examples: int or None. None: endless fresh scenes in training, 2,000 otherwise
            (published: 747 for training, 684 for testing).
        config: `TrafficScenesConfig` or None for its defaults, 960 x 1280;
            `TrafficScenesConfig.small()` is one for a CPU.
        with_boxes: bool, also yield the box of the sign that decides.
        training: bool, or None for `split == "train"`. Adds the augmentation that is asked for and
            makes the stream endless.
        random_shift: int >= 0, pixels; in training each image is shifted by up to that much in y
            and x, black coming in over the border (published: 100 at 960 x 1280).
        start: int >= 0, how many examples of the stream to leave out (to resume); costs nothing.
        random_contrast: bool; in training the pixels x, in [0, 1], of each image become a x + b
            with probability 0.8, a uniform in [0.8, 1.2], b in [-0.1, 0.1] (published), clipped.

    Returns:
        `tf.data.Dataset` of `(images, labels)` or `(images, labels, boxes)`: `[B, H, W, 3]` uint8,
        `[B]` int32, positions in `TRAFFIC_SIGN_CLASSES`, and `[B, 4]` float32 (y0, x0, y1, x1) in
        pixels, half-open; shifted along and clipped to the image, zeros for EMPTY.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        config = TrafficScenesConfig.small()
        dataset = traffic_signs("test", 4, num_examples=8, config=config, with_boxes=True)
        images, labels, boxes = next(iter(dataset))
    """
    training = check_stream(split, training, batch_size, seed, start, random_shift, num_examples)
    if not training and num_examples is None:
        num_examples = DEFAULT_EVALUATION_EXAMPLES
    config = TrafficScenesConfig() if config is None else config
    size = (config.height, config.width)
    check_shift(random_shift, min(size))
    scenes = TrafficScenes(config, split, seed)

    def draw(index):
        image, signs = scenes.draw(index)
        return image, np.int32(traffic_sign_label(signs)), label_box(signs)

    def read(index):
        outputs = (tf.uint8, tf.int32, tf.float32)
        return tf.numpy_function(draw, [index], outputs, stateful=False)

    order = example_order(num_examples, training, seed, start)
    augment = _Augmentation(seed, random_shift, random_contrast) if training else None
    return _batches(order, read, size, batch_size, training, augment, with_boxes)


def read_traffic_signs(
    path,
    split="train",
    batch_size=16,
    seed=0,
    rule="top_k",
    with_boxes=False,
    training=None,
    random_shift=0,
    start=0,
    random_contrast=False,
):
    """Reads the speed-limit subset of the Swedish set, or what `write_traffic_signs` wrote.

    `path/Set1Part0` (train) and `path/Set2Part0` (test) each hold images and their
    `annotations.txt`; put the file of that name that belongs to each set into its folder. Images
    are in the order of the file; images that are not listed, or that the rule drops, are left out.
    The stream of what was written as PNG equals that of `traffic_signs` for the same arguments.

    Args:
        path: str or path-like, the folder that holds the folders of the splits.
        split: "train", "validation" (the folder `ValidationPart0`) or "test".
        batch_size: int >= 1. Training streams hold full batches only.
        seed: int >= 0, of the order and the augmentation.
        rule: "top_k" or "ats", which sign decides; see `labelled_sign`.
        with_boxes: bool, also yield the box of the sign that decides.
        training: bool, or None for `split == "train"`; as of `traffic_signs`.
        random_shift: int >= 0, pixels; as of `traffic_signs`.
        start: int >= 0, how many examples of the stream to leave out (to resume).
        random_contrast: bool; as of `traffic_signs`.

    Returns:
        `tf.data.Dataset`, as of `traffic_signs`. Transparency is composed onto white.

    Raises:
        ValueError: if an argument is out of range, the folder is missing, a line of the
            annotations is broken, an image is missing, broken or stored turned (by Exif), or images
            differ in size. Every file is looked at before the first batch; one that turns out to
            be broken inside ends the stream with one line that names it.

    Example:
        from tnet_keras.datasets.traffic_signs import write_traffic_signs

        write_traffic_signs("scenes", {"test": 2}, config=TrafficScenesConfig.small())
        images, labels = next(iter(read_traffic_signs("scenes", "test")))
    """
    training = check_stream(split, training, batch_size, seed, start, random_shift)
    check_rule(rule)
    images, labels, boxes, size = find_scenes(path, split, rule)
    check_shift(random_shift, min(size))
    names, labels, boxes = tf.constant(images), tf.constant(labels), tf.constant(boxes)

    def read(index):
        image, status = decode_image(tf.io.read_file(names[index]))
        return checked_image(image, status, names[index]), labels[index], boxes[index]

    order = example_order(len(images), training, seed, start)
    augment = _Augmentation(seed, random_shift, random_contrast) if training else None
    return _batches(order, read, size, batch_size, training, augment, with_boxes)


class _Augmentation:
    """The augmentation of the published run, a function of the position in the stream."""

    def __init__(self, seed, limit, contrast):
        self._key, self._limit, self._contrast = seed + _AUGMENT_STREAM, limit, contrast

    def __call__(self, position, image, box):
        uniform = counter_uniform(self._key, position[None], 5)[0]
        if self._limit:
            shift = choose(uniform[:2], 2 * self._limit + 1) - self._limit
            # An image without a sign has no box that could move.
            known = tf.cast(tf.reduce_any(box != 0.0), box.dtype)
            image, boxes = shift_with_black(image, shift, box[None])
            box = boxes[0] * known
        if self._contrast:
            often, factor, offset = tf.unstack(uniform[2:])
            changed = often < _OFTEN
            factor = tf.where(changed, _CONTRAST[0] + factor * (_CONTRAST[1] - _CONTRAST[0]), 1.0)
            offset = tf.where(changed, _OFFSET[0] + offset * (_OFFSET[1] - _OFFSET[0]), 0.0)
            pixels = factor * tf.cast(image, tf.float32) + 255.0 * offset
            image = tf.cast(tf.round(tf.clip_by_value(pixels, 0.0, 255.0)), tf.uint8)
        return image, box


def _batches(order, read, size, batch_size, training, augment, with_boxes):
    def example(position, index):
        image, label, box = read(index)
        image.set_shape((*size, 3))
        label.set_shape(())
        box.set_shape((4,))
        if augment:
            image, box = augment(position, image, box)
        return (image, label, box) if with_boxes else (image, label)

    return batches(order, example, batch_size, training)
