"""Billiard tables as a `tf.data` stream: drawn on the fly, or read from the authors' folders.

A stream is a function of the position in it: it does not depend on batch size or parallelism, can
be resumed anywhere, and two readers see the same data.
"""

import numpy as np
import tensorflow as tf

from tnet_keras.datasets.augment import check_shift, shift_with_black
from tnet_keras.datasets.billiards.folder import find_tables
from tnet_keras.datasets.billiards.labels import billiard_label, check_label, outermost
from tnet_keras.datasets.billiards.scenes import BilliardScenes, BilliardsConfig
from tnet_keras.datasets.needle_scenes import choose
from tnet_keras.datasets.streams import (
    DEFAULT_EVALUATION_EXAMPLES,
    batches,
    check_stream,
    counter_uniform,
    example_order,
)

_SHIFT_STREAM = 0x0B1111A2D5C0FFEE  # Keeps the shifts apart from other numbers of the same seed.


def billiards(
    split="train",
    batch_size=16,
    seed=0,
    num_examples=None,
    config=None,
    label="max_left_right",
    with_boxes=False,
    training=None,
    cache=False,
    random_shift=0,
    warmup_examples=0,
    start=0,
):
    """Tables of 4-8 numbered balls, of which the outermost two decide about the label.

    Training streams never end; every pass over `num_examples` tables is in a new order (with
    `num_examples=None` no table is ever repeated). Other streams are one pass in order. Tables are
    drawn in NumPy as the stream is read, by two threads side by side.

    Args:
        split: "train", "validation" or "test". No two splits share a table.
        batch_size: int >= 1. Training streams hold full batches only.
        seed: int >= 0. Same seed, same table at the same index.
        num_examples: int or None. None: endless fresh tables in training, 2,000 otherwise.
        config: `BilliardsConfig` or None for its defaults, the published task;
            `BilliardsConfig.small()` is one for a CPU.
        label: which of the published questions is asked, see `billiard_label`.
        with_boxes: bool, also yield the boxes of the leftmost and the rightmost ball.
        training: bool, or None for `split == "train"`. Adds the random shift and makes the stream
            endless.
        cache: bool, keep each of the `num_examples` tables in memory once it is drawn (one byte
            per value: 4,000 tables of 320 x 320 take 1.2 GB, 8,000 of 1000 x 1000 take 24 GB).
        random_shift: int >= 0, pixels; in training each table is shifted by up to that much in y
            and x, black coming in over the border (published: 50 at 1000 x 1000).
        warmup_examples: int >= 0. All balls of the i-th training example show the same number, with
            a probability that falls from 1 at i = 0 to 0 at i = `warmup_examples`: numbers can be
            learned before places. (Not published.)
        start: int >= 0, how many examples of the stream to leave out (to resume); costs nothing.

    Returns:
        `tf.data.Dataset` of `(images, labels)` or `(images, labels, boxes)`: `[B, S, S, 3]` uint8,
        `[B]` int32, and `[B, 2, 4]` float32 (y0, x0, y1, x1) in pixels, half-open, of the leftmost
        and the rightmost ball; shifted along, and clipped to the image.

    Raises:
        ValueError: if an argument is out of range, `cache` is set for an endless stream of fresh
            tables, or a warm-up is asked for with `cache` or outside training.

    Example:
        config = BilliardsConfig.small(image_size=256)
        dataset = billiards("test", batch_size=4, num_examples=8, config=config, with_boxes=True)
        images, labels, boxes = next(iter(dataset))
    """
    check_label(label)
    training = check_stream(split, training, batch_size, seed, start, random_shift, num_examples)
    if cache and training and num_examples is None:
        raise ValueError("`cache` needs a fixed `num_examples`. Received: num_examples=None")
    if warmup_examples < 0 or (warmup_examples and (cache or not training)):
        raise ValueError(
            "`warmup_examples` must be at least 0, and needs training=True and cache=False. "
            f"Received: warmup_examples={warmup_examples}, training={training}, cache={cache}"
        )
    if not training and num_examples is None:
        num_examples = DEFAULT_EVALUATION_EXAMPLES
    config = BilliardsConfig() if config is None else config
    size = config.image_size
    check_shift(random_shift, size)
    scenes = BilliardScenes(config, split, seed)
    if cache:
        kept = np.empty((num_examples, size, size, 3), np.uint8)
        drawn = np.zeros(num_examples, bool)

    def draw(position, index):
        if not cache:
            own = min(1.0, float(position) / warmup_examples) if warmup_examples else 1.0
            image, balls = scenes.draw(index, own)
        else:
            balls = scenes.annotate(index)
            if not drawn[index]:
                kept[index] = scenes.draw(index)[0]
                drawn[index] = True
            image = kept[index]
        return image, np.int32(billiard_label(balls, label)), _boxes(balls)

    def read(position, index):
        outputs = (tf.uint8, tf.int32, tf.float32)
        return tf.numpy_function(draw, [position, index], outputs, stateful=False)

    order = example_order(num_examples, training, seed, start)
    limit = random_shift if training else 0
    return _batches(order, read, (size, size), batch_size, seed, training, limit, with_boxes)


def read_billiards(
    path,
    split="train",
    batch_size=16,
    seed=0,
    label="max_left_right",
    with_boxes=False,
    training=None,
    random_shift=0,
    start=0,
):
    """Reads tables from folders as the authors published them, or as `write_billiards` writes them.

    The folders `train`, `valid` and `test` hold `<id>.png` and `<id>.json` for each table; the JSON
    is an annotation as `billiard_label` takes it. Tables are ordered by their ids. The stream of
    what `write_billiards` wrote equals that of `billiards` for the same arguments.

    Args:
        path: str or path-like, the folder that holds the folders of the splits.
        split: "train", "validation" (the folder `valid`) or "test".
        batch_size: int >= 1. Training streams hold full batches only.
        seed: int >= 0, of the order and the shifts.
        label: which of the published questions is asked, see `billiard_label`.
        with_boxes: bool, also yield the boxes of the leftmost and the rightmost ball. Needs a
            `box` [y0, x0, y1, x1] of every ball, which the authors' files do not have.
        training: bool, or None for `split == "train"`; as of `billiards`.
        random_shift: int >= 0, pixels; as of `billiards`.
        start: int >= 0, how many examples of the stream to leave out (to resume).

    Returns:
        `tf.data.Dataset`, as of `billiards`; transparency of the images is dropped.

    Raises:
        ValueError: if an argument is out of range, the folder is missing or empty, a file is
            unreadable, broken or incomplete, an image has no annotation or the other way round, or
            images differ in size. Every file is looked at before the first batch.

    Example:
        from tnet_keras.datasets import write_billiards

        config = BilliardsConfig.small(image_size=256)
        write_billiards("tables", {"test": 2}, config=config)
        images, labels = next(iter(read_billiards("tables", "test")))
    """
    check_label(label)
    training = check_stream(split, training, batch_size, seed, start, random_shift)
    images, annotations, size = find_tables(path, split, label, with_boxes)
    check_shift(random_shift, min(size))
    names = tf.constant(images)
    labels = tf.constant([billiard_label(balls, label) for balls in annotations], tf.int32)
    if with_boxes:
        boxes = tf.constant(np.stack([_boxes(balls) for balls in annotations]))

    def read(position, index):
        image = tf.io.decode_png(tf.io.read_file(names[index]), channels=3)
        return image, labels[index], boxes[index] if with_boxes else tf.zeros((2, 4))

    order = example_order(len(images), training, seed, start)
    limit = random_shift if training else 0
    return _batches(order, read, size, batch_size, seed, training, limit, with_boxes)


def _boxes(balls):
    return np.array([ball["box"] for ball in outermost(balls)], np.float32)


def _batches(order, read, size, batch_size, seed, training, limit, with_boxes):
    def example(position, index):
        image, label, boxes = read(position, index)
        image.set_shape((*size, 3))
        label.set_shape(())
        boxes.set_shape((2, 4))
        if limit:
            uniform = counter_uniform(seed + _SHIFT_STREAM, position[None], 2)[0]
            image, boxes = shift_with_black(image, choose(uniform, 2 * limit + 1) - limit, boxes)
        return (image, label, boxes) if with_boxes else (image, label)

    return batches(order, example, batch_size, training)
