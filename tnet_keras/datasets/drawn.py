"""The data sets of patch selection by name or folder: drawn on the fly, or read from disk."""

import os

from tnet_keras.datasets.billiards import (
    BilliardsConfig,
    billiards,
    read_billiards,
)
from tnet_keras.datasets.billiards.folder import find_tables
from tnet_keras.datasets.billiards.labels import label_names
from tnet_keras.datasets.folder import check_image_size
from tnet_keras.datasets.megapixel_mnist import (
    MegapixelMnistConfig,
    megapixel_mnist,
    read_megapixel_mnist,
)
from tnet_keras.datasets.megapixel_mnist.folder import find_images
from tnet_keras.datasets.megapixel_mnist.stream import DEFAULT_EXAMPLES
from tnet_keras.datasets.needle_scenes import NUM_CLASSES
from tnet_keras.datasets.streams import (
    DEFAULT_EVALUATION_EXAMPLES,
    Data,
    check_split,
    example_names,
)
from tnet_keras.datasets.traffic_signs import (
    TRAFFIC_SIGN_CLASSES,
    TrafficScenesConfig,
    read_traffic_signs,
    traffic_signs,
)
from tnet_keras.datasets.traffic_signs.annotations import check_rule
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
    check_split(split)
    size, names = check_image_size(image_size), None
    options = {"seed": seed, "label": label, **options}
    if name == "billiards":
        _check_square(size, name)
        config = options.pop("config", None) or BilliardsConfig.of_size(size[0])
        _check_size(size, (config.image_size, config.image_size))
        dataset = billiards(split, batch_size, config=config, **options)
        count = _count(split, options)
    else:
        _check_folder(name, "billiards")
        images, _, found = find_tables(name, split, label, options.get("with_boxes", False))
        _check_size(size, found)
        dataset, count = read_billiards(name, split, batch_size, **options), len(images)
        names = example_names(images, _endless(split, options), seed)
    return Data(dataset, label_names(label), count, names=names)


def load_traffic_signs(name, split, image_size, batch_size, seed=0, rule="top_k", **options):
    """Opens traffic scenes.

    Args:
        name: "traffic_signs" for drawn scenes, or the folder of the Swedish set.
        split: "train", "validation" or "test".
        image_size: int or (height, width), pixels. Under a height of 512 drawn scenes are those of
            `TrafficScenesConfig.small`.
        batch_size: int >= 1.
        seed: int >= 0.
        rule: How annotations of a folder become a label, "top_k" or "ats", see
            `traffic_sign_label`. Drawn scenes have the same label by both; their boxes are those
            of "top_k", which of two equal signs may choose another.
        **options: Further arguments of `traffic_signs` or `read_traffic_signs`.

    Returns:
        `Data`.

    Raises:
        ValueError: if an argument is out of range, or the folder is not what it must be.

    Example:
        data = load_traffic_signs("traffic_signs", "test", (240, 320), 4, num_examples=8)
        images, labels = next(iter(data.dataset))
    """
    check_split(split)
    check_rule(rule)
    size, names = check_image_size(image_size), None
    options = {"seed": seed, **options}
    if name == "traffic_signs":
        config = options.pop("config", None) or _traffic_config(size)
        _check_size(size, (config.height, config.width))
        dataset = traffic_signs(split, batch_size, config=config, **options)
        count = _count(split, options)
    else:
        _check_folder(name, "traffic_signs")
        images, _, _, found = find_scenes(name, split, rule)
        _check_size(size, found)
        dataset = read_traffic_signs(name, split, batch_size, rule=rule, **options)
        count = len(images)
        names = example_names(images, _endless(split, options), seed)
    return Data(dataset, TRAFFIC_SIGN_CLASSES, count, names=names)


def load_megapixel_mnist(name, split, image_size, batch_size, seed=0, source="auto", **options):
    """Opens megapixel MNIST.

    Args:
        name: "megapixel_mnist" for drawn images, or a folder of `write_megapixel_mnist`.
        split: "train", "validation" or "test".
        image_size: int or (height, width), pixels; square. Drawn images of 1500 pixels are the
            published ones, others those of `MegapixelMnistConfig.small`; the published easy ones
            need `config=MegapixelMnistConfig.easy()` and its 500 pixels.
        batch_size: int >= 1.
        seed: int >= 0.
        source: Where the digits of drawn images come from, as of `mnist_digits`.
        **options: Further arguments of `megapixel_mnist` or `read_megapixel_mnist`.

    Returns:
        `Data`; its training images are a fixed number that is gone through again and again.

    Raises:
        ValueError: if an argument is out of range, or the folder is not what it must be.

    Example:
        data = load_megapixel_mnist("megapixel_mnist", "test", 300, 4, num_examples=8)
        images, labels = next(iter(data.dataset))
    """
    check_split(split)
    size = check_image_size(image_size)
    options = {"seed": seed, **options}
    if name == "megapixel_mnist":
        _check_square(size, name)
        config = options.pop("config", None)
        if config is None:
            published = MegapixelMnistConfig()
            small = size[0] != published.image_size
            config = MegapixelMnistConfig.small(size[0]) if small else published
        _check_size(size, (config.image_size, config.image_size))
        dataset = megapixel_mnist(split, batch_size, config=config, source=source, **options)
        count = options.get("num_examples") or DEFAULT_EXAMPLES[split]
    else:
        _check_folder(name, "megapixel_mnist")
        images = find_images(name, split)
        _check_size(size, (int(images["image_size"]),) * 2)
        dataset = read_megapixel_mnist(name, split, batch_size, **options)
        count = len(images["labels"])
    return Data(dataset, tuple(str(digit) for digit in range(NUM_CLASSES)), count)


def _traffic_config(size):
    try:
        return TrafficScenesConfig.of_size(*size)
    except ValueError as error:  # Speaks of the signs, which the caller has not chosen.
        raise ValueError(
            "`image_size` must have room for a road and its signs: 176 x 128 pixels at least, and "
            f"456 wide from a height of 512. Received: image_size={size}"
        ) from error


def _endless(split, options):
    training = options.get("training")
    return split == "train" if training is None else bool(training)


def _count(split, options):
    """Examples of one pass over what is drawn; None for an endless stream of new ones."""
    default = None if _endless(split, options) else DEFAULT_EVALUATION_EXAMPLES
    return options.get("num_examples") or default


def _check_square(size, name):
    if size[0] != size[1]:
        raise ValueError(f"`image_size` of {name} must be square. Received: image_size={size}")


def _check_size(size, found):
    if found != size:
        raise ValueError(
            f"`image_size` must be that of the images, {found[0]} x {found[1]} pixels. "
            f"Received: image_size={size}"
        )


def _check_folder(name, drawn):
    if not os.path.isdir(name):
        raise ValueError(f"`name` must be {drawn!r} or an existing folder. Received: name={name!r}")
