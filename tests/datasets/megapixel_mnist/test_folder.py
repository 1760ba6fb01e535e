"""Megapixel MNIST on disk: what was written is read again, broken files are named."""

import json
import os

import numpy as np
import pytest
import tensorflow as tf

from tests.datasets.megapixel_mnist.tiny_images import TINY, assert_same, examples, tiny
from tnet_keras.datasets.megapixel_mnist import (
    MegapixelMnistConfig,
    MegapixelMnistScenes,
    folder,
    read_megapixel_mnist,
    write_megapixel_mnist,
)
from tnet_keras.datasets.megapixel_mnist.folder import dense_image, sparse_image

equal = np.testing.assert_array_equal


@pytest.fixture(scope="module")
def image():
    scenes = MegapixelMnistScenes(MegapixelMnistConfig(), "train", 0, "sklearn")
    return scenes.draw(scenes.layout(0))


def test_sparse_and_dense_images_are_the_same(image):
    indices, values = sparse_image(image)
    assert (indices.dtype, values.dtype) == (np.int32, np.uint8)
    assert len(indices) == np.count_nonzero(image) and values.all() and (np.diff(indices) > 0).all()
    dense = dense_image(indices, values, 1500)
    assert isinstance(dense, np.ndarray) and dense.dtype == np.uint8
    equal(dense, image)
    traced = tf.function(dense_image)(tf.constant(indices), tf.constant(values), 1500)
    assert traced.dtype == tf.uint8 and traced.shape == (1500, 1500)
    equal(traced.numpy(), image)
    empty = sparse_image(np.zeros((3, 3), np.uint8))
    assert not dense_image(*map(tf.constant, empty), 3).numpy().any()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("mnist") / "made" / "digits"
    counts = {"train": 10, "validation": 0, "test": 3}
    write_megapixel_mnist(path, counts, seed=5, config=TINY, source="sklearn")
    return path


def test_what_was_written_is_read_again(written):
    assert os.listdir(written.parent) == ["digits"]  # Nothing temporary is left.
    assert sorted(os.listdir(written)) == ["about.json", "test.npz", "train.npz"]
    about = json.loads((written / "about.json").read_text())
    assert MegapixelMnistConfig.from_config(about["config"]) == TINY and about["seed"] == 5
    assert about["sources"].keys() == {"train", "test"} and "scikit" in about["sources"]["test"]
    for split, number, count in (("train", 10, 26), ("test", 3, 3)):
        arguments = {"seed": 5, "with_boxes": True, "start": 2}
        read = read_megapixel_mnist(written, split, 4, **arguments)
        drawn = tiny(split, num_examples=number, **arguments)
        assert read.element_spec == drawn.element_spec
        assert_same(examples(read, count), examples(drawn, count))
    assert len(read_megapixel_mnist(written, "test").element_spec) == 2


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"values": None}, r"must hold image_size, offsets, .* values"),
        ({"image_size": np.int32(0)}, r"`image_size` must be within 1 and 46340"),
        ({"image_size": np.int32(9)}, r"`indices` must lie in the image of 9 x 9 pixels"),
        ({"labels": np.int64([1, 2, 3])}, r"`labels` must be int32 with 1 axes"),
        ({"labels": np.int32([1, 2, 10])}, r"`labels` must be in \[0, 10\)"),
        ({"boxes": np.zeros((3, 3, 3), np.float32)}, r"boxes of four numbers"),
        ({"offsets": np.int64([0])}, r"`offsets` must rise from 0 and hold at least one"),
        ({"offsets": np.int64([0, 1, 2, 3])}, r"must be as many as `offsets` say"),
        ({"indices": lambda old: old[::-1]}, r"`indices` must rise within each image"),
        ({"indices": lambda old: -old}, r"`indices` must lie in the image of 190 x 190"),
        ({"labels": np.array([None] * 3)}, r"must be whole \(Object arrays .*\)"),
    ],
)
def test_files_that_do_not_fit_are_refused(written, tmp_path, changes, message):
    with np.load(written / "test.npz") as archive:
        parts = dict(archive)
    parts |= {k: v(parts[k]) if callable(v) else v for k, v in changes.items()}
    np.savez(tmp_path / "test.npz", **{k: v for k, v in parts.items() if v is not None})
    with pytest.raises(ValueError, match=message) as error:
        read_megapixel_mnist(tmp_path, "test")
    assert "\n" not in str(error.value) and "test.npz" in str(error.value)


def test_broken_and_missing_files_are_refused(written, tmp_path):
    whole = (written / "test.npz").read_bytes()
    np.save(tmp_path / "array.npy", np.zeros(3))
    array = (tmp_path / "array.npy").read_bytes()
    spoilt = whole[:900] + bytes(reversed(whole[900:1100])) + whole[1100:]
    for contents in (b"", b"text", whole[:-50], whole[: len(whole) // 2], array, spoilt):
        (tmp_path / "test.npz").write_bytes(contents)
        with pytest.raises(ValueError, match=r"must be whole \(.*\). Received: '.*test.npz'"):
            read_megapixel_mnist(tmp_path, "test")
    with pytest.raises(ValueError, match=r"\(No such file.*\). Received: '.*validation.npz'"):
        read_megapixel_mnist(written, "validation")


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_nothing_is_overwritten_and_what_fails_leaves_nothing(tmp_path, monkeypatch, error):
    (tmp_path / "mine").mkdir()
    with pytest.raises(ValueError, match=r"`path` must not exist.* Received: path='.*mine'"):
        write_megapixel_mnist(tmp_path / "mine", {"test": 1}, config=TINY, source="sklearn")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"`path` must be a folder that can be made \(.*\)"):
        write_megapixel_mnist(tmp_path / "file" / "x", {"test": 1}, config=TINY, source="sklearn")

    def fail(image):
        raise error("full")

    monkeypatch.setattr(folder, "sparse_image", fail)
    with pytest.raises(error, match="full"):
        write_megapixel_mnist(tmp_path / "new", {"test": 1}, config=TINY, source="sklearn")
    assert sorted(os.listdir(tmp_path)) == ["file", "mine"] and not os.listdir(tmp_path / "mine")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"counts": {"dev": 1}}, r"Received: split='dev'"),
        ({"counts": {}}, r"at least one image.*counts={}"),
        ({"counts": {"test": -1}}, r"counts={'test': -1}"),
        ({"counts": {"test": 1}, "seed": -1}, r"seed=-1"),
    ],
)
def test_bad_arguments(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_megapixel_mnist(tmp_path / "new", **arguments)
    assert os.listdir(tmp_path) == []
