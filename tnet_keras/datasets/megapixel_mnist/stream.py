"""Megapixel MNIST as a `tf.data` stream: drawn on the fly, or read from disk.

A stream is a function of the position in it: it does not depend on batch size or parallelism, can
be resumed anywhere, and two readers see the same data.
"""

import tensorflow as tf

from tnet_keras.datasets.megapixel_mnist.folder import dense_image, find_images
from tnet_keras.datasets.megapixel_mnist.scenes import MegapixelMnistConfig, MegapixelMnistScenes
from tnet_keras.datasets.streams import batches, check_stream, example_order

DEFAULT_EXAMPLES = {"train": 5000, "validation": 1000, "test": 1000}


def megapixel_mnist(
    split="train",
    batch_size=16,
    seed=0,
    num_examples=None,
    config=None,
    source="auto",
    with_boxes=False,
    training=None,
    start=0,
):
    """Images with five digits, three of one class; the label is that class.

    Training streams never end, every pass over the `num_examples` images in a new order; others are
    one pass in order. Images are drawn in NumPy as the stream is read.

    Args:
        split: "train", "validation" or "test". No two splits share a digit.
        batch_size: int >= 1. Training streams hold full batches only.
        seed: int >= 0. Same seed, same image at the same index.
        num_examples: int >= 1, or None for the published 5,000 for training, 1,000 for testing (and
            1,000 for validation, which was not published).
        config: `MegapixelMnistConfig` or None for its defaults, the published task;
            `MegapixelMnistConfig.small()` is one for a CPU.
        source: where the digits come from, as of `mnist_digits`, which also says what "auto" is.
        with_boxes: bool, also yield the boxes of the target digits.
        training: bool, or None for `split == "train"`. Makes the stream endless; there is no
            augmentation, as published.
        start: int >= 0, how many examples of the stream to leave out (to resume); costs nothing.

    Returns:
        `tf.data.Dataset` of `(images, labels)` or `(images, labels, boxes)`: `[B, S, S, 3]` uint8,
        grey; `[B]` int32 in 0-9; `[B, num_target, 4]` float32 (y0, x0, y1, x1) in pixels,
        half-open, of the whole 28 x 28 stamps.

    Raises:
        ValueError: if an argument is out of range, or the source does not hold the digits.

    Example:
        config = MegapixelMnistConfig.small(image_size=200)
        dataset = megapixel_mnist("test", 4, config=config, source="sklearn", with_boxes=True)
        images, labels, boxes = next(iter(dataset))
    """
    training = check_stream(split, training, batch_size, seed, start, num_examples=num_examples)
    num_examples = DEFAULT_EXAMPLES[split] if num_examples is None else num_examples
    config = MegapixelMnistConfig() if config is None else config
    scenes = MegapixelMnistScenes(config, split, seed, source)

    def draw(index):
        layout = scenes.layout(index)
        return scenes.draw(layout), layout.label, layout.boxes

    def read(index):
        outputs = (tf.uint8, tf.int32, tf.float32)
        image, label, boxes = tf.numpy_function(draw, [index], outputs, stateful=False)
        return image, tf.ensure_shape(label, ()), tf.ensure_shape(boxes, (config.num_target, 4))

    order = example_order(num_examples, training, seed, start)
    return _batches(order, read, config.image_size, batch_size, training, with_boxes)


def read_megapixel_mnist(
    path, split="train", batch_size=16, seed=0, with_boxes=False, training=None, start=0
):
    """Reads what `write_megapixel_mnist` wrote; the stream equals that of `megapixel_mnist`.

    Args:
        path: str or path-like, the folder.
        split: "train", "validation" or "test": the file `<split>.npz`, kept in memory as it is.
        batch_size: int >= 1. Training streams hold full batches only.
        seed: int >= 0, of the order of training streams.
        with_boxes: bool, also yield the boxes of the target digits.
        training: bool, or None for `split == "train"`; as of `megapixel_mnist`.
        start: int >= 0, how many examples of the stream to leave out (to resume); costs nothing.

    Returns:
        `tf.data.Dataset`, as of `megapixel_mnist`.

    Raises:
        ValueError: if an argument is out of range, or the file is missing, unreadable or broken;
            names the file.

    Example:
        from tnet_keras.datasets import write_megapixel_mnist

        config = MegapixelMnistConfig.small(image_size=200)
        write_megapixel_mnist("digits", {"test": 4}, config=config, source="sklearn")
        images, labels = next(iter(read_megapixel_mnist("digits", "test", batch_size=4)))
    """
    training = check_stream(split, training, batch_size, seed, start)
    parts = find_images(path, split)
    image_size = int(parts["image_size"])
    names = ("offsets", "indices", "values", "labels", "boxes")
    offsets, indices, values, labels, boxes = (tf.constant(parts[name]) for name in names)

    def read(index):
        inked = slice(offsets[index], offsets[index + 1])
        image = dense_image(indices[inked], values[inked], image_size)
        return image, labels[index], boxes[index]

    order = example_order(len(parts["labels"]), training, seed, start)
    return _batches(order, read, image_size, batch_size, training, with_boxes)


def _batches(order, read, image_size, batch_size, training, with_boxes):
    def example(position, index):
        image, label, boxes = read(index)
        image.set_shape((image_size, image_size))
        image = tf.repeat(image[..., None], 3, axis=-1)
        return (image, label, boxes) if with_boxes else (image, label)

    return batches(order, example, batch_size, training)
