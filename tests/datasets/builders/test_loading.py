"""What the builders prepare from fake files is opened by `tnet_keras.datasets.load`."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from tests.datasets.billiards.tiny_tables import TINY as TABLES
from tests.datasets.builders.fake_nabirds import write_fake_nabirds
from tests.datasets.builders.preparing import read
from tests.datasets.megapixel_mnist.tiny_images import TINY as DIGITS
from tests.datasets.reading import examples
from tests.datasets.traffic_signs.tiny_scenes import TINY as SCENES
from tnet_keras.datasets import (
    load,
    write_billiards,
    write_megapixel_mnist,
    write_traffic_signs,
)
from tnet_keras.datasets.builders import prepare
from tnet_keras.ops.decode import decode_image

COUNTS = {"train": 6, "validation": 2, "test": 3}


def write_birds(folder):
    write_fake_nabirds(folder)


def write_tables(folder):
    write_billiards(folder, COUNTS, config=TABLES)


def write_scenes(folder):
    write_traffic_signs(folder, COUNTS, config=SCENES)


def write_digits(folder):
    write_megapixel_mnist(folder, COUNTS, config=DIGITS, source="sklearn")


# Configuration, what writes the files, splits, and whether examples have names.
KINDS = {
    "nabirds": (None, write_birds, ("train", "test"), True),
    "kubric_billiards": ("sum_modulo_10", write_tables, tuple(COUNTS), True),
    "swedish_traffic_signs": ("ats", write_scenes, tuple(COUNTS), True),
    "attention_sampling_mnist": ("written", write_digits, tuple(COUNTS), False),
}


@pytest.fixture(scope="module", params=KINDS)
def prepared(request, tmp_path_factory):
    """Name of a data set with its configuration, its folder, and what is known of it."""
    config, write, splits, named = KINDS[request.param]
    root = tmp_path_factory.mktemp("fake")
    write(root / "manual")
    prepare(request.param, root / "manual", root / "data", config)
    name = f"{request.param}/{config}" if config else request.param
    return name, root / "data", splits, named


def by_image(images, labels):
    """Pairs of an image's bytes and its label, in one order."""
    return sorted(
        (image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)
    )


def test_every_split_is_loaded_whole(prepared):
    name, data_dir, splits, named = prepared
    builder = tfds.builder(name, data_dir=data_dir)
    for split in splits:
        kept = read(builder, split, key="file_name" if named else "index")
        size = (40, 56)
        data = load(name, split, size, 2, training=False, data_dir=data_dir)
        assert data.num_examples == builder.info.splits[split].num_examples == len(kept)
        assert data.class_names == tuple(builder.info.features["label"].names)
        images, labels = examples(data.dataset, len(kept))
        assert images.shape == (len(kept), *size, 3) and images.dtype == np.uint8
        decoded = [decode_image(tf.constant(example["image"]))[0] for example in kept]
        expected = [tf.image.resize(image, size) for image in decoded]
        expected = np.round(np.clip(expected, 0, 255)).astype(np.uint8)
        assert by_image(images, labels) == by_image(expected, [one["label"] for one in kept])
        if named:
            files = dict(zip((one["file_name"].decode() for one in kept), kept, strict=True))
            found = [files[file]["label"] for file in data.names(range(len(kept)))]
            np.testing.assert_array_equal(found, labels)


@pytest.mark.parametrize("augmentation", ["fmow", "none"])  # with boxes, and without
def test_cache_on_disk_gives_what_memory_gives(augmentation, prepared, tmp_path):
    name, data_dir, _, _ = prepared
    options = {"augmentation": augmentation, "data_dir": data_dir, "seed": 3}
    disk = load(name, "train", 16, 2, cache="disk", cache_dir=tmp_path, **options)
    memory = load(name, "train", 16, 2, cache="memory", **options)
    for ours, theirs in zip(examples(disk.dataset, 8), examples(memory.dataset, 8), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert disk.names(range(3, 8)) == memory.names(range(3, 8))


def test_training_stream_names_its_examples_and_begins_anywhere(prepared):
    name, data_dir, _, _ = prepared
    options = {"augmentation": "none", "data_dir": data_dir, "seed": 3}
    data = load(name, "train", 16, 2, **options)
    images, labels = examples(data.dataset, 10)
    later = examples(load(name, "train", 16, 2, start=4, **options).dataset, 6)
    for ours, theirs in zip(later, examples(data.begin(4), 6), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(later[0], images[4:])
    names = data.names(range(10))
    assert data.names(range(4, 10)) == names[4:]
    # The same name, the same image.
    for name in set(names):
        places = [place for place, other in enumerate(names) if other == name]
        assert len({images[place].tobytes() for place in places}) == 1
