"""Megapixel MNIST through TFDS: drawn from MNIST's files or read from ours, refused if broken."""

import gzip
import struct

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.datasets.builders.preparing import (
    assert_equal_to,
    assert_refused,
    pixels,
    prepare,
    read,
)
from tests.datasets.megapixel_mnist.tiny_images import TINY
from tests.datasets.reading import examples
from tnet_keras.datasets import megapixel_mnist, write_megapixel_mnist
from tnet_keras.datasets.builders import AttentionSamplingMnist, AttentionSamplingMnistConfig
from tnet_keras.datasets.megapixel_mnist import MegapixelMnistConfig

COUNTS = {"train": 4, "validation": 2, "test": 3}
# What is drawn in the tests; the published sizes would take minutes.
FEW = AttentionSamplingMnistConfig(
    name="few", description="Tiny.", scenes=TINY, counts=COUNTS, seed=5
)


def write_idx(folder):
    """MNIST's four files, with a few invented digits; two of them gzipped, as downloaded."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for part, count in (("train", 240), ("t10k", 30)):
        images = random.integers(0, 256, (count, 28, 28), np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        contents = struct.pack(">4I", 2051, count, 28, 28) + images.tobytes()
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(contents))
        contents = struct.pack(">2I", 2049, count) + labels.tobytes()
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(contents)


@pytest.fixture
def idx(tmp_path):
    write_idx(tmp_path / "manual")
    return tmp_path


@pytest.fixture
def written(tmp_path):
    write_megapixel_mnist(tmp_path / "manual", COUNTS, seed=5, config=TINY, source="sklearn")
    return tmp_path


def assert_holds(builder, source):
    """Asserts that a prepared data set holds what the stream of a source gives."""
    for split, count in COUNTS.items():
        assert builder.info.splits[split].num_examples == count
        stream = megapixel_mnist(split, 2, 5, count, TINY, source, with_boxes=True, training=False)
        images, labels, boxes = examples(stream, count)
        prepared = read(builder, split, "index")
        assert [example["index"] for example in prepared] == list(range(count))
        assert_equal_to(prepared, images, labels)
        size = (TINY.image_size,) * 2
        found = [pixels(example["bboxes"], size) for example in prepared]
        np.testing.assert_allclose(found, boxes, atol=1e-3)


def test_drawn_from_mnists_files(idx):
    builder = prepare(AttentionSamplingMnist, idx, FEW, num_shards=2)
    assert builder.info.full_name == "attention_sampling_mnist/few/1.0.0"
    assert builder.info.splits["train"].num_shards == 2
    assert_holds(builder, idx / "manual")


def test_read_from_our_files(written):
    builder = prepare(AttentionSamplingMnist, written, "written")
    assert_holds(builder, "sklearn")
    example = next(iter(builder.as_dataset("test")))
    assert example["image"].shape == (TINY.image_size, TINY.image_size, 1)
    test = tfds.load(
        "attention_sampling_mnist/written", data_dir=written / "data", split="test",
        as_supervised=True,
    )  # fmt: skip
    assert len(test) == 3


def test_no_validation_is_no_error(written):
    (written / "manual" / "validation.npz").unlink()
    builder = prepare(AttentionSamplingMnist, written, "written")
    assert sorted(builder.info.splits) == ["test", "train"]


def test_configurations_are_the_published_ones():
    configs = AttentionSamplingMnist.builder_configs
    assert list(configs) == ["published", "easy", "written"]
    assert configs["published"].scenes == MegapixelMnistConfig()
    assert configs["easy"].scenes == MegapixelMnistConfig.easy()
    assert configs["published"].counts == {"train": 5000, "validation": 1000, "test": 1000}


def change(name, contents):
    def spoil(manual):
        (manual / name).write_bytes(contents)

    return spoil


def remove(*names):
    return lambda manual: [(manual / name).unlink() for name in names]


@pytest.mark.parametrize(
    "spoil, message",
    [
        (remove("t10k-labels-idx1-ubyte"), r"four IDX files .* mirror .*, without t10k-labels"),
        (
            remove("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte"),
            r"Received: manual_dir='.*manual', without train-images",
        ),
        (change("t10k-labels-idx1-ubyte", b""), r"IDX file of labels must begin .*'.*t10k-labels"),
        (change("train-images-idx3-ubyte.gz", b"\x1f\x8b\x08"), r"must be whole .*'.*train-images"),
        (
            change("t10k-labels-idx1-ubyte", struct.pack(">2I", 2049, 3) + b"\1\2\3"),
            r"Every image must have a label. Received: 30 images, 3 labels in '.*t10k-labels",
        ),
    ],
)
def test_broken_mnist_is_refused_in_one_line(idx, spoil, message):
    spoil(idx / "manual")
    assert_refused(AttentionSamplingMnist, idx, message, FEW)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (remove("test.npz"), r"'written' train.npz and test.npz, .*manual', without test.npz"),
        (change("test.npz", b""), r"Every .npz file must be whole .* Received: '.*test.npz'"),
        (change("test.npz", b"PK\3\4 broken"), r"Every .npz file must be whole .*'.*test.npz'"),
    ],
)
def test_our_files_broken_are_refused_in_one_line(written, spoil, message):
    spoil(written / "manual")
    assert_refused(AttentionSamplingMnist, written, message, "written")


@pytest.mark.parametrize("config", ["published", "easy", "written"])
def test_nothing_there(tmp_path, config):
    message = r"must hold MNIST's four IDX .* manual_dir='.*manual', which is missing or empty"
    assert_refused(AttentionSamplingMnist, tmp_path, message, config)
