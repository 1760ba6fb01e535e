"""The published programs' TFRecords, as encoded images in an order that can begin anywhere."""

import os

import tensorflow as tf

from tnet_keras.datasets.encoded_images import EncodedImages
from tnet_keras.datasets.original_records import read_original_records
from tnet_keras.datasets.streams import check_shard, endless_passes, seeded_shuffle

PREFIX = "original_records:"
_CLASSES = {"imagenet": 1000, "fmow": 62, "cub": 200, "nabirds": 555}
_SHUFFLE_BUFFER = 10_000


def original_images(name, split, data_dir, shard=(0, 1)):
    """Opens a split of the TFRecords that the published TNet programs write.

    A training stream reads the records in their order, which the programs have shuffled, and
    shuffles 10,000 of them, by numbers that are a function of the seed and the pass. To begin in
    the middle of a pass, the records before it are read, but not decoded.

    Args:
        name: "original_records:" and "imagenet", "fmow", "cub" or "nabirds".
        split: "train", "validation" or "test"; the test images of all but fMoW are those that the
            programs call validation.
        data_dir: the folder of the records.
        shard: (index, count): of every `count` records, the worker `index` decodes one. Every
            worker reads all.

    Returns:
        `EncodedImages`. Classes are known by number.

    Raises:
        ValueError: if the name is unknown, `data_dir` is not given or holds no such records, or
            `shard` is out of range.
    """
    dataset = name.removeprefix(PREFIX)
    if dataset not in _CLASSES:
        raise ValueError(
            f"`name` must be {PREFIX!r} and one of {tuple(_CLASSES)}. Received: name={name!r}"
        )
    if data_dir is None:
        raise ValueError(f"`data_dir` must be the folder of {name}. Received: data_dir=None")
    records = read_original_records(data_dir, dataset, split)
    index, count = check_shard(shard, records.num_examples)
    part = records.dataset.enumerate().shard(count, index)
    num_examples = len(range(index, records.num_examples, count))

    def order(endless, seed, start):
        if not endless:
            return tf.data.Dataset.zip((tf.data.Dataset.range(num_examples), part)).skip(start)

        def one_pass(number):
            return seeded_shuffle(part, min(_SHUFFLE_BUFFER, num_examples), (seed, number + 1))

        return endless_passes(one_pass, num_examples, start)

    def fetch(index, record):
        return {
            "image": record["image"], "label": record["label"], "name": record["file_name"],
            "index": index, "boxes": record["bboxes"],
        }  # fmt: skip

    classes = tuple(str(number) for number in range(_CLASSES[dataset]))

    def identity():
        folder = data_dir if os.path.isdir(data_dir) else os.path.dirname(data_dir)
        paths = [os.path.join(folder, entry) for entry in sorted(os.listdir(folder or "."))]
        stats = [os.stat(path) for path in paths]
        sizes = [(stat.st_size, stat.st_mtime_ns) for stat in stats]
        return name, split, (index, count), paths, sizes

    return EncodedImages(order, lambda element: fetch(*element), num_examples, classes, identity)
