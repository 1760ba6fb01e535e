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
from tnet_keras.datasets.streams import Data
from tnet_keras.datasets.synthetic import DEFAULT_EVALUATION_EXAMPLES


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
    training = options.get("training")
    training = split == "train" if training is None else training
    if name == "billiards":
        if height != width:
            raise ValueError(
                f"`image_size` of billiards must be square. Received: image_size={image_size}"
            )
        options.setdefault("config", BilliardsConfig.of_size(height))
        dataset = billiards(split, batch_size, **options)
        count = options.get("num_examples") or (None if training else DEFAULT_EVALUATION_EXAMPLES)
    else:
        _check_folder(name, "billiards")
        images, _, size = find_tables(name, split, label, options.get("with_boxes", False))
        if size != (height, width):
            raise ValueError(
                f"`image_size` must be that of the tables, {size[0]} x {size[1]} pixels. "
                f"Received: image_size={(height, width)}"
            )
        dataset, count = read_billiards(name, split, batch_size, **options), len(images)
    classes = BILLIARD_LABELS[label]
    # Nine classes are the numbers 1 to 9, ten are last digits.
    return Data(dataset, tuple(str(i + (classes == 9)) for i in range(classes)), count)


def _check_folder(name, drawn):
    if not os.path.isdir(name):
        raise ValueError(f"`name` must be {drawn!r} or an existing folder. Received: name={name!r}")
