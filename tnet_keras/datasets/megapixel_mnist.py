"""Megapixel MNIST: three digits of one class among others and strokes on a large black canvas.

The data set of "Processing Megapixel Images with Deep Attention-Sampling Models" (Katharopoulos
and Fleuret, ICML 2019, arXiv 1905.03711), drawn anew by the published rules. The label is the class
that three of the five digits have. An image is all but black, so that it is kept sparse: the flat
positions of its inked pixels, and their values.

A stream is a function of the position in it: it does not depend on batch size or parallelism, can
be resumed anywhere, and two readers see the same data.
"""

import dataclasses
import json
import math
import numbers
import os
import pathlib
import tempfile
import zipfile
import zlib
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tnet_keras.datasets.mnist_digits import DIGIT_SIZE, mnist_digits, noise_patterns, paste
from tnet_keras.datasets.needle_scenes import NUM_CLASSES, SPLITS, check_split
from tnet_keras.datasets.streams import example_order

DEFAULT_EXAMPLES = {"train": 5000, "validation": 1000, "test": 1000}

# What a file of the sparse images holds: types and numbers of axes.
_PARTS = {
    "image_size": (np.int32, 0), "offsets": (np.int64, 1), "indices": (np.int32, 1),
    "values": (np.uint8, 1), "labels": (np.int32, 1), "boxes": (np.float32, 3),
}  # fmt: skip
_LARGEST = math.isqrt(2**31)  # Flat positions are int32.


@keras.saving.register_keras_serializable(package="tnet_keras")
@dataclasses.dataclass(frozen=True)
class MegapixelMnistConfig:
    """What an image of `megapixel_mnist` holds. The defaults are those of the published task.

    Args:
        image_size: int, side of the square canvas in pixels.
        num_digits: int >= 1, digits per image, each 28 x 28 pixels, without overlap.
        num_target: int, how many of them are of the target class, which is the label: over half.
        num_noise: int >= 0, noise stamps per image, 28 x 28 pixels each; pasted after the digits.
        num_patterns: int >= 1, different noise stamps per split.
        low_resolution_scale: float in [1/28, 1], side of the image of `low_resolution` over ours.

    Raises:
        ValueError: if a value is out of range, or the canvas too small (at least half of the places
            must be free for the last digit).
    """

    image_size: int = 1500
    num_digits: int = 5
    num_target: int = 3
    num_noise: int = 50
    num_patterns: int = 50
    low_resolution_scale: float = 0.12

    def __post_init__(self):
        for name, low in (
            ("image_size", 1), ("num_digits", 1), ("num_target", 1), ("num_noise", 0),
            ("num_patterns", 1),
        ):  # fmt: skip
            value = getattr(self, name)
            if not isinstance(value, numbers.Integral) or value < low:
                raise ValueError(
                    f"`{name}` must be an int of at least {low}. Received: {name}={value}"
                )
        if not self.num_digits < 2 * self.num_target <= 2 * self.num_digits:
            raise ValueError(
                f"`num_target` must be more than half of the {self.num_digits} digits and not "
                f"more than all. Received: num_target={self.num_target}"
            )
        # Each digit forbids the next ones a square of 2 * 28 - 1 corners.
        taken = (2 * DIGIT_SIZE - 1) * math.sqrt(2 * (self.num_digits - 1))
        room = max(1, math.ceil(taken), DIGIT_SIZE + 2 if self.num_noise else 0)
        least = DIGIT_SIZE - 1 + room
        if not least <= self.image_size <= _LARGEST:
            raise ValueError(
                f"`image_size` must be within {least} and {_LARGEST} pixels. "
                f"Received: image_size={self.image_size}"
            )
        if not 1 / DIGIT_SIZE <= self.low_resolution_scale <= 1:
            raise ValueError(
                f"`low_resolution_scale` must be within 1/{DIGIT_SIZE} and 1. "
                f"Received: low_resolution_scale={self.low_resolution_scale}"
            )

    @classmethod
    def easy(cls):
        """The published easy variant: 500 x 500 pixels, no noise, scale 0.2.

        Returns:
            `MegapixelMnistConfig`.
        """
        return cls(image_size=500, num_noise=0, low_resolution_scale=0.2)

    @classmethod
    def small(cls, image_size=400):
        """A smaller task for CPUs, not a published one: as much noise per area, scale 0.2.

        Args:
            image_size: int, side of the canvas in pixels.

        Returns:
            `MegapixelMnistConfig`.
        """
        # More noise would paste over so many digits that the label becomes a matter of chance.
        num_noise = max(1, round(50 * (image_size / 1500) ** 2))
        return cls(image_size=image_size, num_noise=num_noise, low_resolution_scale=0.2)

    def get_config(self):
        """The fields as a dict of JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config):
        """Inverse of `get_config`."""
        return cls(**config)


class Layout(NamedTuple):
    """What lies where in one image; later stamps are pasted over earlier ones.

    Fields:
        label: int32 in 0-9, the class of the target digits.
        digits: `[num_digits]` int, positions among the source digits; the target digits first.
        noise: `[num_noise]` int, which patterns.
        corners: `[num_digits + num_noise, 2]` int32, (y, x) of the top left pixel of each stamp.
        boxes: `[num_target, 4]` float32 (y0, x0, y1, x1) in pixels, of the target digits' stamps.
    """

    label: np.int32
    digits: np.ndarray
    noise: np.ndarray
    corners: np.ndarray
    boxes: np.ndarray


class MegapixelMnistScenes:
    """Draws images from their indices: pure functions of (seed, split, index).

    Args:
        config: `MegapixelMnistConfig`.
        split: "train", "validation" or "test".
        seed: int >= 0. Splits differ whatever the seed; no seed gives the authors' very images.
        source: where the digits come from, as of `mnist_digits`.

    Attributes:
        digits: `MnistDigits`; `digits.source` says where they come from.
        patterns: `[num_patterns, 28, 28]` uint8, the noise stamps, as of `noise_patterns`.

    Raises:
        ValueError: for another split, or a source that does not hold its digits.
    """

    def __init__(self, config, split, seed, source="auto"):
        self.digits = mnist_digits(split, source)
        self._config, self._seed, self._split = config, seed, SPLITS.index(split)
        self.patterns = noise_patterns(config.num_patterns, self._random())
        same = [self.digits.labels == label for label in range(NUM_CLASSES)]
        self._same = [np.flatnonzero(each) for each in same]
        self._other = [np.flatnonzero(~each) for each in same]

    def _random(self, *index):
        key = (self._split, *map(int, index))
        return np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=key))

    def layout(self, index):
        """Says what lies where without drawing it.

        Args:
            index: int >= 0, which image.

        Returns:
            `Layout`.
        """
        config, random = self._config, self._random(index)
        label = np.int32(random.integers(NUM_CLASSES))
        same, other = self._same[label], self._other[label]
        targets = same[random.integers(len(same), size=config.num_target)]
        others = other[random.integers(len(other), size=config.num_digits - config.num_target)]
        last = config.image_size - DIGIT_SIZE  # The last corner inside the canvas.
        corners = np.empty((config.num_digits + config.num_noise, 2), np.int32)
        number = 0
        while number < config.num_digits:  # Ends: the configuration leaves half of the places free.
            corners[number] = random.integers(0, last, 2, endpoint=True)
            apart = np.abs(corners[:number] - corners[number]) >= DIGIT_SIZE
            number += apart.any(axis=1).all()
        noise = random.integers(config.num_patterns, size=config.num_noise)
        if config.num_noise:  # As published: from 28 on, and never at the last corner.
            corners[config.num_digits :] = random.integers(DIGIT_SIZE, last, (config.num_noise, 2))
        first = corners[: config.num_target]
        boxes = np.concatenate([first, first + DIGIT_SIZE], axis=1).astype(np.float32)
        return Layout(label, np.concatenate([targets, others]), noise, corners, boxes)

    def stamps(self, layout):
        """Looks up the stamps of an image; their corners are `layout.corners`.

        Args:
            layout: `Layout`.

        Returns:
            `[num_digits + num_noise, 28, 28]` uint8 in the order in which they are pasted.
        """
        return np.concatenate([self.digits.images[layout.digits], self.patterns[layout.noise]])

    def draw(self, layout):
        """Pastes the stamps of an image onto a black canvas.

        Args:
            layout: `Layout`.

        Returns:
            `[S, S]` uint8. A stamp replaces all of its 28 x 28 pixels, the black ones too.
        """
        return paste(self.stamps(layout), layout.corners, self._config.image_size)


def sparse_image(image):
    """Keeps the pixels of an image that are not black.

    Args:
        image: `[S, S]` uint8.

    Returns:
        Tuple of `[N]` int32, rising positions in the flattened image, and `[N]` uint8, values.
    """
    indices = np.flatnonzero(image != 0).astype(np.int32)  # Of truth values: ten times as fast.
    return indices, image.ravel()[indices]


def dense_image(indices, values, image_size):
    """Inverse of `sparse_image`.

    Args:
        indices: `[N]` int32, different positions in the flattened image: array or tensor.
        values: `[N]` uint8, alike.
        image_size: int, side of the image in pixels.

    Returns:
        `[S, S]` uint8, black elsewhere: a tensor if `indices` is one, else an array.
    """
    if tf.is_tensor(indices):
        flat = tf.scatter_nd(indices[:, None], values, [image_size * image_size])
        return tf.reshape(flat, (image_size, image_size))
    flat = np.zeros(image_size * image_size, np.uint8)
    flat[indices] = values
    return flat.reshape(image_size, image_size)


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
    training = _check(split, batch_size, seed, training, start, num_examples)
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


def _check(split, batch_size, seed, training, start, num_examples=None):
    """Whether the stream is one for training; raises ValueError for what is out of range."""
    check_split(split)
    for name, value, low in (
        ("batch_size", batch_size, 1), ("seed", seed, 0), ("start", start, 0),
        ("num_examples", 1 if num_examples is None else num_examples, 1),
    ):  # fmt: skip
        if value < low:
            raise ValueError(f"`{name}` must be at least {low}. Received: {name}={value}")
    return split == "train" if training is None else bool(training)


def _batches(order, read, image_size, batch_size, training, with_boxes):
    def example(position, index):
        image, label, boxes = read(index)
        image.set_shape((image_size, image_size))
        image = tf.repeat(image[..., None], 3, axis=-1)
        return (image, label, boxes) if with_boxes else (image, label)

    examples = order.map(example, num_parallel_calls=2, deterministic=True)
    return examples.batch(batch_size, drop_remainder=training).prefetch(2)


def write_megapixel_mnist(path, counts, seed=0, config=None, source="auto"):
    """Draws images and writes them, sparse, to a new folder: one `<split>.npz` each.

    Written to a temporary folder beside it, which is renamed when it is complete: an error, a full
    disk or Ctrl-C leaves nothing behind. `about.json` says how the images were drawn and where the
    digits come from. 5,000 images of the published task take about 45 MB.

    Args:
        path: str or path-like, the folder to make; must not exist.
        counts: dict from "train", "validation" or "test" to the number of images; at least one
            must be positive.
        seed: int >= 0; the images are those of `megapixel_mnist` with the same seed.
        config: `MegapixelMnistConfig` or None for its defaults.
        source: where the digits come from, as of `mnist_digits`.

    Raises:
        ValueError: if an argument is out of range, the folder exists or cannot be made, or the
            source does not hold the digits.

    Example:
        config = MegapixelMnistConfig.easy()
        write_megapixel_mnist("few_digits", {"test": 3}, config=config, source="sklearn")
    """
    path = pathlib.Path(path)
    for split in counts:
        check_split(split)
    if min(counts.values(), default=0) < 0 or not any(counts.values()):
        raise ValueError(
            "`counts` must not be negative and ask for at least one image. "
            f"Received: counts={counts}"
        )
    if seed < 0:
        raise ValueError(f"`seed` must be at least 0. Received: seed={seed}")
    _check_new(path)
    config = MegapixelMnistConfig() if config is None else config
    drawn = {k: MegapixelMnistScenes(config, k, seed, source) for k in counts if counts[k]}
    sources = {split: scenes.digits.source for split, scenes in drawn.items()}
    about = json.dumps({"config": config.get_config(), "seed": seed, "sources": sources}, indent=1)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent)
    except OSError as error:
        raise ValueError(
            f"`path` must be a folder that can be made ({error.strerror}). "
            f"Received: path={str(path)!r}"
        ) from error
    with temporary as outer:
        # A folder inside it: the temporary folder itself is closed to other users.
        inner = pathlib.Path(outer) / path.name
        inner.mkdir()
        (inner / "about.json").write_text(about + "\n", encoding="utf-8")
        size = np.int32(config.image_size)
        for split, scenes in drawn.items():
            parts = _draw_all(scenes, counts[split])
            np.savez_compressed(inner / f"{split}.npz", image_size=size, **parts)
        _check_new(path)  # Renaming would replace an empty folder that was made meanwhile.
        inner.rename(path)


def _check_new(path):
    if os.path.lexists(path):
        raise ValueError(
            f"`path` must not exist: nothing is overwritten. Received: path={str(path)!r}"
        )


def _draw_all(scenes, count):
    """Images 0 to `count` - 1 one after the other; `offsets` says where each begins and ends."""
    layouts = [scenes.layout(index) for index in range(count)]
    indices, values = zip(*(sparse_image(scenes.draw(each)) for each in layouts), strict=True)
    return {
        "offsets": np.cumsum([0, *map(len, indices)], dtype=np.int64),
        "indices": np.concatenate(indices),
        "values": np.concatenate(values),
        "labels": np.array([each.label for each in layouts], np.int32),
        "boxes": np.stack([each.boxes for each in layouts]),
    }


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
        config = MegapixelMnistConfig.small(image_size=200)
        write_megapixel_mnist("digits", {"test": 4}, config=config, source="sklearn")
        images, labels = next(iter(read_megapixel_mnist("digits", "test", batch_size=4)))
    """
    training = _check(split, batch_size, seed, training, start)
    parts = _read_file(os.path.join(os.fspath(path), f"{split}.npz"))
    image_size = int(parts["image_size"])
    offsets, indices, values, labels, boxes = (
        tf.constant(parts[name]) for name in _PARTS if name != "image_size"
    )

    def read(index):
        inked = slice(offsets[index], offsets[index + 1])
        image = dense_image(indices[inked], values[inked], image_size)
        return image, labels[index], boxes[index]

    order = example_order(len(parts["labels"]), training, seed, start)
    return _batches(order, read, image_size, batch_size, training, with_boxes)


def _read_file(file):
    """The arrays of one split, checked."""
    try:
        # Opened here: NumPy leaves files open that are no whole archive.
        with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
            parts = {name: archive[name] for name in _PARTS}
    except KeyError as error:
        raise ValueError(f"{file!r} must hold {', '.join(_PARTS)}. {error.args[0]}") from error
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"Every .npz file must be whole ({reason}). Received: {file!r}") from error
    if wrong := _wrong(**parts):
        raise ValueError(f"{wrong}. Received: {file!r}")
    return parts


def _wrong(**parts):
    """Which rule the arrays of a file break, or None."""
    for name, (dtype, axes) in _PARTS.items():
        if parts[name].dtype != dtype or parts[name].ndim != axes:
            return f"`{name}` must be {np.dtype(dtype)} with {axes} axes"
    image_size, offsets, indices, values, labels, boxes = (parts[name] for name in _PARTS)
    if not 1 <= image_size <= _LARGEST:
        return f"`image_size` must be within 1 and {_LARGEST}"
    if len(offsets) < 2 or offsets[0] != 0 or (np.diff(offsets) < 0).any():
        return "`offsets` must rise from 0 and hold at least one image"
    if not offsets[-1] == len(indices) == len(values):
        return "`indices` and `values` must be as many as `offsets` say"
    if not len(offsets) - 1 == len(labels) == len(boxes) or boxes.shape[2] != 4:
        return "Every image must have a label, and boxes of four numbers"
    if labels.min() < 0 or labels.max() >= NUM_CLASSES:
        return f"`labels` must be in [0, {NUM_CLASSES})"
    if indices.size and not 0 <= indices.min() <= indices.max() < int(image_size) ** 2:
        return f"`indices` must lie in the image of {image_size} x {image_size} pixels"
    rises = np.diff(indices, prepend=-1) > 0
    rises[offsets[:-1][offsets[:-1] < len(indices)]] = True  # The first pixel of each image.
    return None if rises.all() else "`indices` must rise within each image"
