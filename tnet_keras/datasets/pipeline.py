"""One way to every data set: a name or a folder in, batches of images and labels out."""

import dataclasses
import os

import numpy as np
import tensorflow as tf

from tnet_keras.datasets.augment import resized_crop
from tnet_keras.datasets.drawn import (
    load_billiards,
    load_megapixel_mnist,
    load_traffic_signs,
)
from tnet_keras.datasets.folder import (
    check_image_size,
    decode_image,
    image_folder,
    prepare_image,
)
from tnet_keras.datasets.needle_scenes import NUM_CLASSES, NeedleDigitsConfig
from tnet_keras.datasets.streams import DEFAULT_EVALUATION_EXAMPLES, Data, check_split
from tnet_keras.datasets.synthetic import needle_digits

_DRAWN = {
    "billiards": load_billiards,
    "traffic_signs": load_traffic_signs,
    "megapixel_mnist": load_megapixel_mnist,
}
#: Data sets that are drawn when they are read; they need no files.
DRAWN_NAMES = ("needle_digits", *_DRAWN)
NAMES = ("needle_digits", "imagenet2012", "caltech_birds2011", *_DRAWN)
_SHUFFLE_BUFFER = 10_000  # Encoded images, as in the original's training.
# What TFDS calls our splits. ImageNet publishes no labels for its test images: the validation
# images are what papers report. CUB has no validation split: its test images are looked at.
_TFDS_SPLITS = {
    "imagenet2012": {"train": "train", "validation": "validation", "test": "validation"},
    "caltech_birds2011": {"train": "train", "validation": "test", "test": "test"},
}


def load(name, split, image_size, batch_size, seed=0, training=None, data_dir=None, **options):
    """Opens a data set.

    Args:
        name: "needle_digits", "billiards", "traffic_signs" or "megapixel_mnist" (see
            `load_billiards` and its neighbours); "imagenet2012" or "caltech_birds2011" (prepared
            with TFDS; with `resize`, (height, width), images are resized to that and then
            cropped); or the path of a folder of class sub-folders (see `image_folder`).
        split: "train", "validation" or "test". The "test" of ImageNet is its validation set, the
            "validation" of CUB its test set.
        image_size: int or (height, width), pixels.
        batch_size: int >= 1.
        seed: int >= 0: scenes, order and augmentation.
        training: bool, or None for `split == "train"`. Training streams are endless, shuffled,
            augmented and made of full batches.
        data_dir: where TFDS keeps its data; None: its default. Used for data sets of TFDS.
        **options: further arguments of the data set's own function.

    Returns:
        `Data`.

    Raises:
        ValueError: if the name is neither known nor a folder, the data are not prepared, or an
            argument is out of range.

    Example:
        data = load("needle_digits", "test", image_size=224, batch_size=100)
        images, labels = next(iter(data.dataset))
    """
    check_split(split)
    height, width = check_image_size(image_size)
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1. Received: batch_size={batch_size}")
    training = split == "train" if training is None else bool(training)
    if name == "needle_digits":
        return _load_needle_digits(split, (height, width), batch_size, seed, training, **options)
    if name in _DRAWN:
        return _DRAWN[name](
            name, split, (height, width), batch_size, seed, training=training, **options
        )
    if name in _TFDS_SPLITS:
        return _load_tfds(
            name, split, (height, width), batch_size, seed, training, data_dir, **options
        )
    if os.path.isdir(name):
        return Data(
            *image_folder(name, (height, width), batch_size, split, training, seed, **options)
        )
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


def _load_tfds(
    name, split, image_size, batch_size, seed, training, data_dir, augment=True, resize=None
):
    # Imported here: TFDS takes a third of a second that other data sets need not pay.
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=data_dir)
    source = _TFDS_SPLITS[name][split]
    if not builder.is_prepared() or source not in builder.info.splits:
        raise ValueError(
            f"`data_dir` must hold {name} prepared by TFDS (its files may need a manual "
            f"download, see the TFDS catalogue). Received: data_dir={str(builder.data_path)!r}"
        )
    count = builder.info.splits[source].num_examples
    if training and count < batch_size:
        raise ValueError(
            f"`batch_size` must be at most the {count} examples of the split. "
            f"Received: batch_size={batch_size}"
        )
    examples = builder.as_dataset(
        split=source,
        shuffle_files=training,
        decoders={"image": tfds.decode.SkipDecoding()},
        read_config=tfds.ReadConfig(shuffle_seed=seed),
    )
    if training:
        examples = examples.shuffle(min(_SHUFFLE_BUFFER, count), seed=seed).repeat()

    def prepare(position, example):
        seeds = [seed, position] if training and augment else None
        image = decode_image(example["image"])
        if resize is None:
            image = prepare_image(image, image_size, seeds)
        else:
            image = resized_crop(image, resize, image_size, seeds)
        return image, tf.cast(example["label"], tf.int32)

    dataset = examples.enumerate().map(
        prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    dataset = dataset.batch(batch_size, drop_remainder=training).prefetch(tf.data.AUTOTUNE)
    return Data(dataset, tuple(builder.info.features["label"].names), count)


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
