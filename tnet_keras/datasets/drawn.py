"""The data sets of patch selection by name or folder: drawn on the fly, or read from disk."""

import os

from tnet_keras.datasets.billiards import (
    BILLIARD_LABELS,
    BilliardsConfig,
    billiards,
    read_billiards,
)
from tnet_keras.datasets.billiards.folder import find_tables
from tnet_keras.datasets.folder import check_image_size
from tnet_keras.datasets.megapixel_mnist import (
    MegapixelMnistConfig,
    megapixel_mnist,
    read_megapixel_mnist,
)
from tnet_keras.datasets.streams import Data
from tnet_keras.datasets.synthetic import DEFAULT_EVALUATION_EXAMPLES
from tnet_keras.datasets.traffic_signs import (
    TRAFFIC_SIGN_CLASSES,
    TrafficScenesConfig,
    read_traffic_signs,
    traffic_signs,
)
from tnet_keras.datasets.traffic_signs.folder import find_scenes


def load_billiards(name, split, image_size, batch_size, seed=0, label="max_left_right", **options):
    """Opens billiard tables.

    Args:
        name: "billiards" for drawn tables, or the folder of tables on disk.
        split: "train", "validation" or "test".
        image_size: int or (height, width), pixels; drawn tables are square. Under 500 they are
            those of `BilliardsConfig.small`.
        batch_size: int >= 1.
        seed: int >= 0.
        label: The question, one of `BILLIARD_LABELS`.
        **options: Further arguments of `billiards` or `read_billiards`.

    Returns:
        `Data`.

    Raises:
        ValueError: if an argument is out of range, or the folder is not what it must be.

    Example:
        data = load_billiards("billiards", "test", 256, batch_size=4, num_examples=8)
        images, labels = next(iter(data.dataset))
    """
    height, width = check_image_size(image_size)
    options = {"seed": seed, "label": label, **options}
    if name == "billiards":
        if height != width:
            raise ValueError(
                f"`image_size` of billiards must be square. Received: image_size={image_size}"
            )
        options.setdefault("config", BilliardsConfig.of_size(height))
        dataset = billiards(split, batch_size, **options)
        count = options.get("num_examples")
        if count is None and not _trains(split, options):
            count = DEFAULT_EVALUATION_EXAMPLES
    else:
        _check_folder(name, "billiards")
        images, _, size = find_tables(name, split, label, options.get("with_boxes", False))
        _check_size((height, width), size)
        dataset, count = read_billiards(name, split, batch_size, **options), len(images)
    classes = BILLIARD_LABELS[label]
    # Nine classes are the numbers 1 to 9, ten are last digits.
    return Data(dataset, tuple(str(i + (classes == 9)) for i in range(classes)), count)


def load_traffic_signs(name, split, image_size, batch_size, seed=0, rule="top_k", **options):
    """Opens traffic scenes.

    Args:
        name: "traffic_signs" for drawn scenes, or the folder of the Swedish set.
        split: "train", "validation" or "test".
        image_size: (height, width), pixels.
        batch_size: int >= 1.
        seed: int >= 0.
        rule: Of a folder, how annotations become a label, see `traffic_sign_label`.
        **options: Further arguments of `traffic_signs` or `read_traffic_signs`.

    Returns:
        `Data`.

    Raises:
        ValueError: if an argument is out of range, or the folder is not what it must be.

    Example:
        data = load_traffic_signs("traffic_signs", "test", (240, 320), 4, num_examples=8)
        images, labels = next(iter(data.dataset))
    """
    size = check_image_size(image_size)
    options = {"seed": seed, **options}
    if name == "traffic_signs":
        options.setdefault("config", TrafficScenesConfig.of_size(*size))
        dataset = traffic_signs(split, batch_size, **options)
        count = options.get("num_examples")
        if count is None and not _trains(split, options):
            count = DEFAULT_EVALUATION_EXAMPLES
    else:
        _check_folder(name, "traffic_signs")
        images, _, _, found = find_scenes(name, split, rule)
        _check_size(size, found)
        dataset, count = (
            read_traffic_signs(name, split, batch_size, rule=rule, **options),
            len(images),
        )
    return Data(dataset, TRAFFIC_SIGN_CLASSES, count)


def load_megapixel_mnist(name, split, image_size, batch_size, seed=0, source="auto", **options):
    """Opens megapixel MNIST.

    Args:
        name: "megapixel_mnist" for drawn images, or a folder of `write_megapixel_mnist`.
        split: "train", "validation" or "test".
        image_size: int or (height, width), pixels; square. Other sizes than the published 1500 are
            those of `MegapixelMnistConfig.small`.
        batch_size: int >= 1.
        seed: int >= 0.
        source: Where drawn digits come from, see `megapixel_mnist`.
        **options: Further arguments of `megapixel_mnist` or `read_megapixel_mnist`.

    Returns:
        `Data`; its training images are a fixed number that is gone through again and again.

    Raises:
        ValueError: if an argument is out of range, or the folder is not what it must be.

    Example:
        data = load_megapixel_mnist("megapixel_mnist", "test", 300, 4, num_examples=8)
        images, labels = next(iter(data.dataset))
    """
    size = check_image_size(image_size)
    if size[0] != size[1]:
        raise ValueError(
            f"`image_size` of megapixel_mnist must be square. Received: image_size={image_size}"
        )
    options = {"seed": seed, **options}
    if name == "megapixel_mnist":
        published = MegapixelMnistConfig()
        small = MegapixelMnistConfig.small
        config = published if size[0] == published.image_size else small(size[0])
        options.setdefault("config", config)
        dataset = megapixel_mnist(split, batch_size, source=source, **options)
        count = options.get("num_examples") or (5000 if split == "train" else 1000)
    else:
        _check_folder(name, "megapixel_mnist")
        dataset = read_megapixel_mnist(name, split, batch_size, **options)
        _check_size(size, tuple(dataset.element_spec[0].shape[1:3]))
        once = read_megapixel_mnist(name, split, 1, training=False)
        count = int(once.cardinality())
    return Data(dataset, tuple(str(digit) for digit in range(10)), count)


def _trains(split, options):
    training = options.get("training")
    return split == "train" if training is None else training


def _check_size(size, found):
    if found != size:
        raise ValueError(
            f"`image_size` must be that of the images, {found[0]} x {found[1]} pixels. "
            f"Received: image_size={size}"
        )


def _check_folder(name, drawn):
    if not os.path.isdir(name):
        raise ValueError(f"`name` must be {drawn!r} or an existing folder. Received: name={name!r}")
