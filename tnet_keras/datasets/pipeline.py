"""One way to every data set: a name or a folder in, batches of images and labels out."""

import dataclasses
import os

import numpy as np

from tnet_keras.datasets.drawn import (
    load_billiards,
    load_megapixel_mnist,
    load_traffic_signs,
)
from tnet_keras.datasets.encoded_images import check_reading, image_batches
from tnet_keras.datasets.folder import check_image_size, image_folder
from tnet_keras.datasets.needle_scenes import NUM_CLASSES, NeedleDigitsConfig
from tnet_keras.datasets.original_source import PREFIX, original_images
from tnet_keras.datasets.streams import (
    DEFAULT_EVALUATION_EXAMPLES,
    Data,
    check_split,
    check_stream,
)
from tnet_keras.datasets.synthetic import needle_digits
from tnet_keras.datasets.tfds_source import TFDS_SPLITS, is_tfds_name, tfds_images
from tnet_keras.ops.decode import MAX_PIXELS

_DRAWN = {
    "billiards": load_billiards,
    "traffic_signs": load_traffic_signs,
    "megapixel_mnist": load_megapixel_mnist,
}
#: Data sets that are drawn when they are read; they need no files.
DRAWN_NAMES = ("needle_digits", *_DRAWN)
NAMES = (*DRAWN_NAMES, *TFDS_SPLITS)
# What only images that are read from disk have.
_READING = ("augmentation", "on_bad_image", "shard", "cache_dir", "max_pixels")


def load(name, split, image_size, batch_size, seed=0, training=None, data_dir=None, **options):
    """Opens a data set.

    Args:
        name: "needle_digits", "billiards", "traffic_signs" or "megapixel_mnist" (drawn, see
            `load_billiards` and its neighbours); a data set that TFDS has prepared, with its
            configuration if there are several: "imagenet2012", "caltech_birds2011", "nabirds",
            "fmow_rgb", "fmow_rgb/cropped" and so on; "original_records:fmow" and so on for the
            TFRecords of the published programs (see `original_images`); or the path of a folder
            of class sub-folders (see `image_folder`).
        split: "train", "validation" or "test". The "test" of ImageNet is its validation set, the
            "validation" of the birds their test set.
        image_size: int or (height, width), pixels.
        batch_size: int >= 1.
        seed: int >= 0: scenes, order and augmentation.
        training: bool, or None for `split == "train"`. Training streams are endless, shuffled,
            augmented and made of full batches.
        data_dir: where TFDS keeps its data; None: its default. Or the folder of the TFRecords.
        **options: further arguments of the data set's own function. Of all that is read:
            `start`, `augmentation`, `on_bad_image`, `cache`, `cache_dir`, `shard` and `max_pixels`
            as of `image_folder`; but for folders also `resize`, (height, width): images are resized
            to that and then cropped.

    Returns:
        `Data`. Its stream from example `start` on is the stream without its first examples, and
        its iterators can be saved in a `tf.train.Checkpoint`.

    Raises:
        ValueError: if the name is neither known nor a folder, the data are not prepared, or an
            argument is out of range.

    Example:
        data = load("needle_digits", "test", image_size=224, batch_size=100)
        images, labels = next(iter(data.dataset))
    """
    check_split(split)
    size = check_image_size(image_size)
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1. Received: batch_size={batch_size}")
    training = split == "train" if training is None else bool(training)
    if name in DRAWN_NAMES:
        for option in _READING:
            if option in options:
                raise ValueError(
                    f"`{option}` must not be given for images that are drawn, as those of {name}. "
                    f"Received: {option}={options[option]!r}"
                )
    if name == "needle_digits":
        return _load_needle_digits(split, size, batch_size, seed, training, **options)
    if name in _DRAWN:
        return _DRAWN[name](name, split, size, batch_size, seed, training=training, **options)
    if is_tfds_name(name) or name.startswith(PREFIX):
        return _load_encoded(name, split, size, batch_size, seed, training, data_dir, **options)
    if os.path.isdir(name):
        return Data(*image_folder(name, size, batch_size, split, training, seed, **options))
    raise ValueError(
        f"`name` must be one of {NAMES} or an existing folder. Received: name={name!r}"
    )


def _load_needle_digits(split, image_size, batch_size, seed, training, config=None, **options):
    if image_size[0] != image_size[1]:
        raise ValueError(
            f"`image_size` of needle_digits must be square. Received: image_size={image_size}"
        )
    config = dataclasses.replace(config or NeedleDigitsConfig(), image_size=image_size[0])
    dataset = needle_digits(split, batch_size, seed, training=training, config=config, **options)
    count = options.get("num_examples") or (None if training else DEFAULT_EVALUATION_EXAMPLES)
    return Data(dataset, tuple(str(digit) for digit in range(NUM_CLASSES)), count)


def _load_encoded(
    name, split, image_size, batch_size, seed, training, data_dir, start=0,
    augmentation="crop_flip", resize=None, on_bad_image="error", cache="none", shard=(0, 1),
    cache_dir=None, max_pixels=MAX_PIXELS,
):  # fmt: skip
    check_stream(split, training, batch_size, seed, start)
    check_reading(augmentation, on_bad_image, cache, resize, cache_dir, max_pixels)
    open_split = original_images if name.startswith(PREFIX) else tfds_images
    encoded = open_split(name, split, data_dir, shard)
    return image_batches(
        encoded, image_size, batch_size, training, seed, start, augmentation, resize, on_bad_image,
        cache, shard, cache_dir, max_pixels,
    )  # fmt: skip


def check_labels(labels, num_classes):
    """Refuses labels that a model of `num_classes` classes cannot have.

    Args:
        labels: array or eager tensor of integers, any shape.
        num_classes: int.

    Raises:
        ValueError: if labels are not integers in `[0, num_classes)`.
    """
    values = np.asarray(labels)
    if not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"`labels` must be integers. Received: labels of dtype {values.dtype}")
    if values.size and (values.min() < 0 or values.max() >= num_classes):
        raise ValueError(
            f"`labels` must be in [0, {num_classes}). "
            f"Received: labels from {values.min()} to {values.max()}"
        )
