"""Where megapixel MNIST's digits come from: scikit-learn, IDX files, TFDS; broken files."""

import gzip
import os
import struct

import numpy as np
import pytest
import tensorflow as tf
from absl import logging

from tests.conftest import REPOSITORY
from tnet_keras.datasets import source_digits
from tnet_keras.datasets.megapixel_mnist import mnist_digits

equal = np.testing.assert_array_equal
MNIST = REPOSITORY.parent / "shared" / "data" / "mnist"
IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def test_scikit_learns_digits_are_enlarged():
    parts = [mnist_digits(split, "sklearn") for split in ("train", "validation", "test")]
    assert sum(len(part.labels) for part in parts) == 1797
    images, labels, source = parts[1]
    assert images.shape == (len(labels), 28, 28) and images.dtype == np.uint8
    assert labels.dtype == np.int32 and images.max() == 255 and "scikit-learn" in source
    small, small_labels, _ = source_digits("validation")
    equal(labels, small_labels)
    # The middles of every seventh new and every second old pixel lie 0.07 old pixels apart.
    np.testing.assert_allclose(images[:, 1::7, 1::7] / 255, small[:, ::2, ::2], atol=0.15)


def numbered(count):
    """Images that say which one they are, and labels that take turns."""
    images = np.zeros((count, 28, 28), np.uint8)
    images[:, 10, 10], images[:, 11, 11] = np.arange(count) // 256, np.arange(count) % 256
    images[:, 14, 14] = 255
    return images, (np.arange(count) % 10).astype(np.uint8)


def idx(array, sizes=None):
    sizes = array.shape if sizes is None else sizes
    return struct.pack(f">{1 + len(sizes)}I", 2048 + len(sizes), *sizes) + array.tobytes()


def write_idx(folder, part, count, dash="-", suffix="", compress=False):
    folder.mkdir(exist_ok=True)
    for kind, axes, array in zip(("images", "labels"), (3, 1), numbered(count), strict=True):
        contents = gzip.compress(idx(array)) if compress else idx(array)
        (folder / f"{part}-{kind}{dash}idx{axes}-ubyte{suffix}").write_bytes(contents)
    return folder


def found(folder):
    """Which of the numbered images each split has."""
    parts = {}
    for split in ("train", "validation", "test"):
        digits = mnist_digits(split, folder)
        number = digits.images[:, 10, 10].astype(int) * 256 + digits.images[:, 11, 11]
        equal(digits.labels, number % 10)
        assert digits.labels.dtype == np.int32 and str(folder) in digits.source
        parts[split] = number.tolist()
    return parts


@pytest.mark.parametrize("part", ["train", "t10k"])
@pytest.mark.parametrize(
    "form",
    [{}, {"suffix": ".gz", "compress": True}, {"dash": "."}, {"suffix": ".gz"}, {"compress": True}],
)
def test_one_pair_of_idx_files_is_cut_in_three(tmp_path, part, form):
    parts = found(write_idx(tmp_path, part, 400, **form))
    assert [len(numbers) for numbers in parts.values()] == [240, 80, 80]
    assert sorted(sum(parts.values(), [])) == list(range(400))
    assert found(tmp_path) == parts
    # Mixed: the halves of MNIST's test digits were written by different people.
    assert 150 < np.mean(parts["train"]) < 250 and 150 < np.mean(parts["test"]) < 250


def test_both_pairs_of_idx_files_are_used_as_published(tmp_path):
    write_idx(tmp_path, "train", 600)
    parts = found(write_idx(tmp_path, "t10k", 50, suffix=".gz", compress=True))
    assert parts["test"] == list(range(50))
    assert [len(parts[split]) for split in ("train", "validation")] == [550, 50]
    assert sorted(parts["train"] + parts["validation"]) == list(range(600))


@pytest.mark.skipif(not MNIST.is_dir(), reason=f"MNIST's test digits are absent: {MNIST}")
def test_mnists_own_files():
    parts = [mnist_digits(split, MNIST) for split in ("train", "validation", "test")]
    assert sum(len(part.labels) for part in parts) == 10_000
    assert len({image.tobytes() for part in parts for image in part.images}) == 10_000
    assert parts[0].source == f"MNIST, t10k IDX files in {MNIST}, cut in three"


@pytest.mark.parametrize(
    "file, contents, message",
    [
        (IMAGES, b"", r"must begin with 00000803 and 3 sizes.*images-idx3-ubyte' .* nothing"),
        (IMAGES, b"\x89PNG" * 9, r"must begin with 00000803 .*ubyte' beginning with 89504e47"),
        (LABELS, idx(numbered(50)[0]), r"labels must begin with 00000801 and 1 sizes"),
        (IMAGES, idx(numbered(50)[0])[:-9], r"50 x 28 x 28 bytes. .*ubyte' with 39191"),
        (IMAGES, idx(numbered(50)[0]) + b"0", r"50 x 28 x 28 bytes. .*ubyte' with 39201"),
        (IMAGES, idx(numbered(50)[0], (2**32 - 1,) * 3), r"4294967295 x .* with 39200"),
        (IMAGES, gzip.compress(idx(numbered(50)[0]))[:-20], r"gzip file must be whole \(.*ubyte'"),
        (IMAGES, b"\x1f\x8b" + b"\xff" * 40, r"gzip file must be whole \(.*ubyte'"),
        (IMAGES, idx(np.zeros((50, 8, 8), np.uint8)), r"be 28 x 28. .*idx3-ubyte' of 8 x 8"),
        (LABELS, idx(numbered(49)[1]), r"a label. Received: 50 images, 49 labels in .*idx1-ubyte'"),
        (LABELS, idx(numbered(50)[1] + np.uint8(1)), r"labels must be 0-9. .*ubyte' with 10"),
        (LABELS, idx(numbered(50)[1] % np.uint8(9)), r"every class .* without a 9 for 'test'"),
        (LABELS, None, r"images and labels. Received: '.*' without t10k-labels-idx1-ubyte"),
        (IMAGES, None, r"images and labels. Received: '.*' without t10k-images-idx3-ubyte"),
    ],
)
def test_broken_idx_files_are_refused_in_one_line(tmp_path, file, contents, message):
    write_idx(tmp_path, "t10k", 50)
    if contents is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(contents)
    with pytest.raises(ValueError, match=message) as error:
        mnist_digits("test", tmp_path)
    assert "\n" not in str(error.value)


def test_unreadable_sources_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`source` must hold MNIST's IDX files .*source='.*'"):
        mnist_digits("test", tmp_path)
    write_idx(tmp_path, "train", 50)
    (tmp_path / "train-images-idx3-ubyte").unlink()
    (tmp_path / "train-images-idx3-ubyte").mkdir()
    with pytest.raises(ValueError, match=r"must be readable \(Is a directory\).*idx3-ubyte'"):
        mnist_digits("test", tmp_path)


def test_without_mnist_auto_takes_scikit_learns_and_says_so(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(logging, "warning", lambda *message: said.append(message[0] % message[1:]))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "absent"))
    assert "scikit-learn" in mnist_digits("test").source
    assert len(said) == 1 and f"MNIST is not prepared in {tmp_path}/absent" in said[0]
    with pytest.raises(ValueError, match=r"'mnist' needs MNIST prepared by TFDS.*in '.*absent'"):
        mnist_digits("test", "mnist")
    os.makedirs(tmp_path / "absent" / "mnist" / "3.0.1.incomplete123")
    assert "scikit-learn" in mnist_digits("test").source


def test_auto_takes_the_mnist_that_tfds_prepared(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    splits = {}
    for name, count in (("train", 240), ("test", 30)):
        images, labels = numbered(count)
        columns = {"image": images[..., None], "label": labels.astype(np.int64)}
        splits[name] = tf.data.Dataset.from_tensor_slices(columns)
    image, label = tfds.features.Image(shape=(28, 28, 1)), tfds.features.ClassLabel(num_classes=10)
    features = tfds.features.FeaturesDict({"image": image, "label": label})
    tfds.dataset_builders.TfDataBuilder(
        name="mnist", version="3.0.1", split_datasets=splits, features=features, data_dir=tmp_path
    ).download_and_prepare()
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    digits = {split: mnist_digits(split) for split in ("train", "validation", "test")}
    assert [len(part.labels) for part in digits.values()] == [220, 20, 30]
    for part in digits.values():
        assert part.source == f"MNIST, prepared by TFDS in {tmp_path}/mnist/3.0.1"
        assert part.images.shape[1:] == (28, 28) and part.images.dtype == np.uint8
        equal(part.labels, part.images[:, 11, 11] % 10)
