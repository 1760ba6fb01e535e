"""Megapixel MNIST: the published rules on many images, where digits come from, sparse files."""

import gzip
import itertools
import json
import os
import struct

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import logging

from tests.conftest import REPOSITORY
from tnet_keras.datasets import megapixel_mnist as module
from tnet_keras.datasets.megapixel_mnist import (
    MegapixelMnistConfig,
    MegapixelMnistScenes,
    dense_image,
    megapixel_mnist,
    read_megapixel_mnist,
    sparse_image,
    write_megapixel_mnist,
)
from tnet_keras.datasets.mnist_digits import low_resolution, mnist_digits, noise_patterns
from tnet_keras.datasets.needle_scenes import source_digits

equal = np.testing.assert_array_equal
PUBLISHED = MegapixelMnistConfig()
TINY = MegapixelMnistConfig(image_size=190, num_noise=4, num_patterns=6, low_resolution_scale=0.2)
MNIST = REPOSITORY.parent / "shared" / "data" / "mnist"


def examples(stream, count):
    """The first `count` examples of a stream as NumPy arrays."""
    parts = zip(*itertools.islice(stream.unbatch().as_numpy_iterator(), count), strict=True)
    return [np.stack(part) for part in parts]


def tiny(split="train", batch_size=4, **arguments):
    arguments = {"config": TINY, "source": "sklearn", "with_boxes": True} | arguments
    return megapixel_mnist(split, batch_size, **arguments)


def assert_same(first, second):
    for a, b in zip(first, second, strict=True):
        equal(a, b)


@pytest.fixture(scope="module")
def scenes():
    return MegapixelMnistScenes(PUBLISHED, "train", 0, "sklearn")


@pytest.fixture(scope="module")
def layouts(scenes):
    return [scenes.layout(index) for index in range(600)]


def test_the_configuration_is_the_published_one():
    assert tuple(PUBLISHED.get_config().values()) == (1500, 5, 3, 50, 50, 0.12)
    easy = MegapixelMnistConfig.easy()
    assert (easy.image_size, easy.num_noise, easy.low_resolution_scale) == (500, 0, 0.2)
    assert MegapixelMnistConfig.small().num_noise == 4
    assert MegapixelMnistConfig.small(1500).num_noise == 50
    assert MegapixelMnistConfig.from_config(easy.get_config()) == easy
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(easy))
    assert restored == easy


def test_three_digits_are_of_the_class_and_two_of_others(scenes, layouts):
    for layout in layouts:
        classes = scenes.digits.labels[layout.digits]
        assert len(classes) == 5 and (classes[:3] == layout.label).all()
        assert (classes[3:] != layout.label).all()
    others = scenes.digits.labels[np.concatenate([layout.digits[3:] for layout in layouts])]
    for classes in ([layout.label for layout in layouts], others):
        share = np.bincount(classes, minlength=10) / len(classes)
        np.testing.assert_allclose(share, 0.1, atol=0.04)
    # With replacement: 1,800 draws of about 1,080 source digits, most of which come up.
    assert 700 < len(np.unique([layout.digits[:3] for layout in layouts])) < 1000


def test_digits_are_anywhere_without_overlap(layouts):
    for layout in layouts:
        corners = layout.corners[:5]
        assert corners.dtype == np.int32 and corners.shape == (5, 2)
        for first, second in itertools.combinations(corners, 2):
            assert (np.abs(first - second) >= 28).any()
        equal(layout.boxes, [[y, x, y + 28, x + 28] for y, x in corners[:3]])
    corners = np.concatenate([layout.corners[:5] for layout in layouts])
    assert corners.min() >= 0 and corners.max() <= 1472
    for axis in (0, 1):
        counts, _ = np.histogram(corners[:, axis], bins=8, range=(0, 1473))
        np.testing.assert_allclose(counts / len(corners), 1 / 8, atol=0.03)


def test_crowded_canvases_reach_both_borders_without_overlap():
    config = MegapixelMnistConfig(image_size=183, num_noise=0)
    scenes = MegapixelMnistScenes(config, "test", 0, "sklearn")
    corners = np.stack([scenes.layout(index).corners for index in range(400)])
    assert (corners.min(), corners.max()) == (0, 155)
    apart = np.abs(corners[:, :, None] - corners[:, None]).max(-1)
    assert apart[:, ~np.eye(5, dtype=bool)].min() == 28  # They may touch.


def test_noise_keeps_away_from_the_upper_left_border(layouts):
    corners = np.concatenate([layout.corners[5:] for layout in layouts])
    assert corners.shape == (50 * len(layouts), 2)
    assert (corners.min(), corners.max()) == (28, 1471)
    counts = np.bincount(np.concatenate([layout.noise for layout in layouts]), minlength=50)
    assert counts.shape == (50,) and counts.min() > 450


def test_noise_patterns_are_two_strokes_from_upper_corners():
    patterns = noise_patterns(3000, np.random.default_rng(0))
    assert patterns.shape == (3000, 28, 28) and patterns.dtype == np.uint8
    inked = patterns > 0
    assert patterns[inked].min() == 204 and patterns[inked].max() == 255
    assert patterns[inked].mean() == pytest.approx(0.9 * 255, abs=0.2)
    assert inked[:, 0, 0].all()  # Where the first stroke begins.
    # The second begins there too, or mirrored: 2 * 0.33 * 0.67, and a few flat strokes from afar.
    assert inked[:, 0, 27].mean() == pytest.approx(0.442 + 0.02, abs=0.03)
    # One pixel wide, 28 long: along rows or along columns.
    assert inked.sum(axis=(1, 2)).max() <= 56 and inked.sum(axis=(1, 2)).min() >= 28
    rows, columns = inked.any(2), inked.any(1)
    assert (rows.all(1) | columns.all(1)).all()
    # Never steeper than 72 degrees: where no stroke is mirrored, the lowest end on the left.
    last_row = inked[~inked[:, 0, 27], 27].any(0)
    assert np.argmax(last_row) == round(27 / np.tan(np.radians(72)))
    assert len(np.unique(patterns.reshape(3000, -1), axis=0)) == 3000


def test_later_stamps_replace_earlier_ones():
    config = MegapixelMnistConfig(image_size=300, num_noise=20)
    scenes = MegapixelMnistScenes(config, "train", 0, "sklearn")
    overwritten = 0
    for layout in map(scenes.layout, range(40)):
        image = scenes.draw(layout)
        assert image.shape == (300, 300) and image.dtype == np.uint8
        owner = np.full((300, 300), -1)
        for number, (y, x) in enumerate(layout.corners):
            owner[y : y + 28, x : x + 28] = number
        assert not image[owner < 0].any()
        stamps = [*scenes.digits.images[layout.digits], *scenes.patterns[layout.noise]]
        for number, (stamp, (y, x)) in enumerate(zip(stamps, layout.corners, strict=True)):
            mine = owner[y : y + 28, x : x + 28] == number
            equal(image[y : y + 28, x : x + 28][mine], stamp[mine])
            overwritten += number < 5 and not mine.all()
    assert overwritten > 20  # Noise does hide digits, never the other way round.


@pytest.mark.parametrize("config, side, size", [(PUBLISHED, 3, 180), (TINY, 5, 38)])
def test_low_resolution_downscales_stamps_not_the_canvas(config, side, size):
    scenes = MegapixelMnistScenes(config, "test", 3, "sklearn")
    layout = scenes.layout(1)
    stamps = scenes.stamps(layout)
    scale = config.low_resolution_scale
    small = low_resolution(stamps, layout.corners, config.image_size, scale)
    assert small.shape == (size, size) and small.dtype == np.uint8
    expected = np.zeros((size, size), np.uint8)
    resized = tf.image.resize(stamps[..., None], (side, side), antialias=True)[..., 0]
    for stamp, (y, x) in zip(tf.cast(tf.round(resized), tf.uint8), layout.corners, strict=True):
        y, x = int(y * scale), int(x * scale)
        expected[y : y + side, x : x + side] = stamp
    equal(small, expected)
    canvas = tf.image.resize(scenes.draw(layout)[..., None], (size, size), antialias=True)[..., 0]
    assert np.abs(canvas - small).max() > 20


def test_low_resolution_stays_inside_at_the_last_corner():
    stamps = np.full((1, 28, 28), 200, np.uint8)
    for scale in (0.12, 0.2, 0.29, 0.5, 1.0):
        size = int(scale * 100 + 1e-6)
        small = low_resolution(stamps, [(72, 72)], 100, scale)
        assert small.shape == (size, size) and set(np.unique(small)) <= {0, 200}
        assert (small == 200).sum() == int(28 * scale + 1e-6) ** 2


def test_sparse_and_dense_images_are_the_same(scenes, layouts):
    image = scenes.draw(layouts[0])
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


def test_shapes_dtypes_and_ranges():
    stream = tiny("test", 8, num_examples=12)
    images, labels, boxes = stream.element_spec
    assert images.shape.as_list() == [None, 190, 190, 3]
    assert labels.shape.as_list() == [None] and boxes.shape.as_list() == [None, 3, 4]
    assert (images.dtype, labels.dtype, boxes.dtype) == (tf.uint8, tf.int32, tf.float32)
    assert [len(batch[1]) for batch in stream] == [8, 4]
    assert len(tiny("test", with_boxes=False).element_spec) == 2
    images, labels, boxes = examples(stream, 12)
    scenes = MegapixelMnistScenes(TINY, "test", 0, "sklearn")
    for index in range(12):
        layout = scenes.layout(index)
        assert labels[index] == layout.label
        equal(boxes[index], layout.boxes)
        equal(images[index], np.repeat(scenes.draw(layout)[..., None], 3, axis=-1))


def test_as_many_examples_as_published():
    for split, batches in (("train", 50), ("validation", 10), ("test", 10)):
        assert int(tiny(split, 100, training=False).cardinality()) == batches


def test_an_image_depends_on_seed_split_and_index_only():
    reference = examples(tiny("test", 24, num_examples=24), 24)
    assert_same(reference, examples(tiny("test", 5, num_examples=30), 24))
    for other in (tiny("test", seed=1), tiny("validation")):
        assert not np.array_equal(reference[2], examples(other, 24)[2])
    keys = itertools.product(("train", "test"), (0, 1))
    patterns = [MegapixelMnistScenes(TINY, *key, "sklearn").patterns for key in keys]
    assert not any(np.array_equal(a, b) for a, b in itertools.combinations(patterns, 2))


def test_training_passes_reshuffle_a_fixed_set_and_can_be_resumed():
    arguments = {"num_examples": 10, "seed": 4}
    whole = examples(tiny(batch_size=4, **arguments), 40)
    order = [boxes.tobytes() for boxes in whole[2]]
    passes = [order[first : first + 10] for first in range(0, 40, 10)]
    fixed = {boxes.tobytes() for boxes in examples(tiny(training=False, **arguments), 10)[2]}
    assert all(set(each) == fixed for each in passes) and passes[0] != passes[1] != passes[2]
    for start, batch_size in ((3, 1), (10, 4), (27, 7)):
        resumed = tiny(batch_size=batch_size, start=start, **arguments)
        assert_same([part[start : start + 7] for part in whole], examples(resumed, 7))
    rest = examples(tiny("test", num_examples=9, start=5), 9)
    assert_same([part[5:] for part in examples(tiny("test", num_examples=9), 9)], rest)


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


IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


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

    monkeypatch.setattr(module, "sparse_image", fail)
    with pytest.raises(error, match="full"):
        write_megapixel_mnist(tmp_path / "new", {"test": 1}, config=TINY, source="sklearn")
    assert sorted(os.listdir(tmp_path)) == ["file", "mine"] and not os.listdir(tmp_path / "mine")


@pytest.mark.parametrize(
    "function, arguments, message",
    [
        (tiny, {"split": "dev"}, r"`split` must be one of .* Received: split='dev'"),
        (tiny, {"batch_size": 0}, r"`batch_size` must be at least 1. Received: batch_size=0"),
        (tiny, {"seed": -1}, r"`seed` must be at least 0. Received: seed=-1"),
        (tiny, {"start": -1}, r"`start` must be at least 0. Received: start=-1"),
        (tiny, {"num_examples": 0}, r"`num_examples` must be at least 1. .* num_examples=0"),
        (tiny, {"source": "nist"}, r"`source` must be 'auto', .* Received: source='nist'"),
        (read_megapixel_mnist, {"path": "x", "seed": -1}, r"`seed` must be at least 0."),
        (write_megapixel_mnist, {"path": "x", "counts": {"dev": 1}}, r"Received: split='dev'"),
        (write_megapixel_mnist, {"path": "x", "counts": {}}, r"at least one image.*counts={}"),
        (write_megapixel_mnist, {"path": "x", "counts": {"test": -1}}, r"counts={'test': -1}"),
        (write_megapixel_mnist, {"path": "x", "counts": {"test": 1}, "seed": -1}, r"seed=-1"),
        (MegapixelMnistConfig, {"image_size": 182}, r"within 183 and 46340.*image_size=182"),
        (MegapixelMnistConfig, {"image_size": 1e3}, r"`image_size` must be an int of at least 1"),
        (MegapixelMnistConfig, {"num_target": 2}, r"more than half of the 5 .* num_target=2"),
        (MegapixelMnistConfig, {"num_target": 6}, r"not more than all. Received: num_target=6"),
        (MegapixelMnistConfig, {"low_resolution_scale": 0.03}, r"low_resolution_scale=0.03"),
    ],
)
def test_bad_arguments(function, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        function(**arguments)
    assert os.listdir(tmp_path) == []
