"""Folders of images: layouts, formats, names, splits, and what is refused."""

import itertools
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tnet_keras.datasets import folder_digest, image_folder
from tnet_keras.datasets.augmentation import prepare_image

CLASSES = ("Bär", "cat 1", "ぞう")


def picture(number, size=(9, 7)):
    """A small random picture, (width, height) `size`."""
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3))
    return Image.fromarray(pixels.astype(np.uint8))


def fill(folder, count, first=0):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        picture(number).save(folder / f"{number:03}.png")


@pytest.fixture
def flat(tmp_path):
    """Three classes of 20 images directly in the folder."""
    for label, name in enumerate(CLASSES):
        fill(tmp_path / name, 20, first=20 * label)
    return tmp_path


def collect(data):
    images, labels = zip(*data.dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def test_flat_folder_is_cut_80_10_10(flat):
    parts = {}
    for split, count in (("train", 48), ("validation", 6), ("test", 6)):
        data = image_folder(flat, (7, 9), 4, split, training=False)
        assert data.class_names == tuple(sorted(CLASSES)) and data.num_examples == count
        images, labels = collect(data)
        assert images.shape == (count, 7, 9, 3) and images.dtype == np.uint8
        assert labels.dtype == np.int32
        np.testing.assert_array_equal(np.bincount(labels), [count // 3] * 3)
        parts[split] = {image.tobytes() for image in images}
    assert len(set.union(*parts.values())) == 60  # unresized pictures: every file in one split

    again = image_folder(flat, (7, 9), 4, "test", seed=0)
    other = image_folder(flat, (7, 9), 4, "test", seed=1)
    assert {i.tobytes() for i in collect(again)[0]} == parts["test"]
    assert {i.tobytes() for i in collect(other)[0]} != parts["test"]


def test_further_files_move_few_of_those_that_were_there(flat):
    def files():
        found = {}
        for split in ("train", "validation", "test"):
            data = image_folder(flat, 8, 2, split, training=False)
            found.update(dict.fromkeys(data.names(range(data.num_examples)), split))
        return found

    before = files()
    for name in CLASSES:
        fill(flat / name, 5, first=100)
    after = files()
    assert len(before) == 60 and len(after) == 75
    moved = [name for name in before if before[name] != after[name]]
    assert len(moved) <= 6
    assert not any((before[name], after[name]) == ("train", "test") for name in moved)


def test_images_that_are_not_read_are_told(flat):
    picture(0).save(flat / CLASSES[0] / "more.tif")
    (flat / CLASSES[1] / "further").mkdir()
    with pytest.warns(UserWarning) as caught:
        data = image_folder(flat, 8, 2, "test")
    assert data.num_examples == 6
    told = "\n".join(str(warning.message) for warning in caught)
    assert "with 1 images of other kinds and 0 sub-folders beside 20 images" in told
    assert "with 0 images of other kinds and 1 sub-folders beside 20 images" in told


def test_digest_tells_states_of_a_folder_apart(flat):
    (flat / "loop").symlink_to(flat)
    digest = folder_digest(flat)
    assert len(digest) == 16
    (flat / CLASSES[0] / ".hidden").write_text("no part of it")
    assert folder_digest(str(flat)) == digest
    file = flat / CLASSES[0] / "000.png"
    file.write_bytes(file.read_bytes() + b"\0")
    longer = folder_digest(flat)
    file.rename(file.with_name("other.png"))
    assert len({digest, longer, folder_digest(flat)}) == 3


@pytest.mark.parametrize("augmentation", ["none", "crop_flip"])
def test_largest_image_can_be_chosen(augmentation, flat):
    options = {"split": "train", "augmentation": augmentation}
    with pytest.raises(tf.errors.InvalidArgumentError, match="too many pixels, more than .*=62"):
        next(iter(image_folder(flat, 8, 2, max_pixels=62, **options).dataset))
    next(iter(image_folder(flat, 8, 2, max_pixels=63, **options).dataset))
    skipped = image_folder(flat, 8, 2, "test", on_bad_image="skip", max_pixels=62)
    with pytest.raises(tf.errors.InvalidArgumentError, match="6 of 6 images left out"):
        list(skipped.dataset)
    with pytest.raises(ValueError, match="`max_pixels` must be an integer of at least 1"):
        image_folder(flat, 8, 2, max_pixels=0)


def test_labels_belong_to_their_pictures(flat):
    images, labels = collect(image_folder(str(flat), (7, 9), 5, "train", training=False))
    names = sorted(CLASSES)
    expected = {np.asarray(picture(n)).tobytes(): n // 20 for n in range(60)}
    for image, label in zip(images, labels, strict=True):
        assert CLASSES[expected[image.tobytes()]] == names[label]


@pytest.mark.parametrize("folder", ["val", "validation"])
def test_folder_with_splits(tmp_path, folder):
    for part, count in (("train", 4), (folder, 2), ("test", 1)):
        for name in CLASSES:
            fill(tmp_path / part / name, count)
    for split, count in (("train", 12), ("validation", 6), ("test", 3)):
        data = image_folder(tmp_path, 8, 2, split, training=False)
        assert data.num_examples == count == len(collect(data)[1])
        assert data.class_names == tuple(sorted(CLASSES))


FORMATS = {
    "a.png": {},
    "b.PNG": {},
    "c.jpg": {"quality": 95, "subsampling": 0},
    "d.JPEG": {"quality": 95, "subsampling": 0},
    "e.bmp": {},
    "f.webp": {"lossless": True},
    "g.webp": {"quality": 100},
}


def test_every_format(tmp_path):
    y, x = np.mgrid[:240:10, :160:10]
    smooth = Image.fromarray(np.stack([x, y, 0 * x], -1).astype(np.uint8))
    for name in ("x", "y"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for file, arguments in FORMATS.items():
            smooth.save(tmp_path / "train" / name / file, **arguments)
    images, _ = collect(image_folder(tmp_path, (24, 16), 14, "train", training=False))
    expected = np.broadcast_to(np.asarray(smooth), (7, 24, 16, 3)).astype(int)
    np.testing.assert_array_equal(images[[0, 1, 4, 5]], expected[:4])
    np.testing.assert_allclose(images[:7].astype(int), expected, atol=8)


def test_training_is_endless_full_seeded_and_augmented(flat):
    def first(count, **arguments):
        data = image_folder(flat, (7, 9), 5, "train", **arguments)
        batches = list(itertools.islice(data.dataset.as_numpy_iterator(), count))
        assert all(images.shape == (5, 7, 9, 3) for images, _ in batches)
        return [np.concatenate(part) for part in zip(*batches, strict=True)]

    images, labels = first(20)
    np.testing.assert_array_equal(images, first(20)[0])
    assert not np.array_equal(labels, first(20, seed=3)[1])
    np.testing.assert_array_equal(images[35:], first(13, start=35)[0])
    plain = first(20, augmentation="none")[0]
    assert not np.array_equal(images, plain)
    files = {np.asarray(picture(number)).tobytes() for number in range(60)}
    assert {image.tobytes() for image in plain} <= files
    assert len({image.tobytes() for image in plain[:48]}) == 48


def test_augmentation_is_the_same_eagerly_and_inside_tf_data():
    image = tf.constant(np.asarray(picture(0, (40, 30))))
    eager = prepare_image(image, (16, 16), [1, 2])
    dataset = tf.data.Dataset.from_tensors(image)
    inside = next(iter(dataset.map(lambda one: prepare_image(one, (16, 16), [1, 2]))))
    np.testing.assert_array_equal(eager, inside)
    assert not np.array_equal(eager, prepare_image(image, (16, 16), [1, 3]))


def test_hidden_and_other_files_are_ignored(flat):
    fill(flat / ".cache", 1)
    (flat / "readme.txt").write_text("about")
    (flat / CLASSES[0] / "notes.txt").write_text("about")
    (flat / CLASSES[0] / ".thumb.png").write_text("broken")
    assert image_folder(flat, 8, 2, "train").num_examples == 48


def expect_refusal(message, path, *arguments, **keywords):
    with pytest.raises(ValueError, match=message) as caught:
        image_folder(path, *(arguments or (8, 2)), **keywords)
    assert "\n" not in str(caught.value)


def test_missing_folder(tmp_path):
    expect_refusal(
        r"`path` must be a readable folder \(No such file.*Received: path=.*gone", tmp_path / "gone"
    )


def test_file_instead_of_folder(tmp_path):
    (tmp_path / "file").write_text("")
    expect_refusal(r"`path` must be a readable folder \(Not a directory\)", tmp_path / "file")


def test_unreadable_folder(flat, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", denied)  # root may read everything, so chmod shows nothing
    expect_refusal(r"`path` must be a readable folder \(Permission denied\)", flat)


def test_empty_folder(tmp_path):
    expect_refusal(
        r"`path` must hold class folders.* Received: path=.* without any folder", tmp_path
    )


def test_class_without_image(flat):
    (flat / "empty").mkdir()
    expect_refusal(
        r"Every class must hold at least one image.* Received: class folder '.*empty'", flat
    )


def test_class_too_small_to_cut(flat):
    fill(flat / "small", 2)
    expect_refusal(r"at least three images.* Received: class folder '.*small' with 2", flat)


def test_only_one_class(flat):
    for name in CLASSES[1:]:
        shutil.rmtree(flat / name)
    expect_refusal(r"at least two class folders. Received: path=.* with classes \['Bär'\]", flat)


def test_missing_split(tmp_path):
    for name in CLASSES:
        fill(tmp_path / "train" / name, 1)
    expect_refusal(r"no folder for split 'validation'", tmp_path, 8, 2, "validation")


def test_splits_with_different_classes(tmp_path):
    for name in CLASSES:
        fill(tmp_path / "train" / name, 1)
    for name in (*CLASSES[:2], "dog"):
        fill(tmp_path / "test" / name, 1)
    expect_refusal(r"same class folders.* differ in \['dog', 'ぞう'\]", tmp_path, 8, 2, "test")


@pytest.mark.parametrize("mode", ["P", "1"])
def test_bmp_with_a_palette(tmp_path, mode):
    for name in CLASSES:
        fill(tmp_path / "train" / name, 1)
    palette = picture(0).convert(mode)
    palette.save(tmp_path / "train" / sorted(CLASSES)[0] / "000.bmp")
    images, _ = collect(image_folder(tmp_path, (7, 9), 4, "train", training=False))
    np.testing.assert_array_equal(images[0], np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_bmp_in_grey_or_with_transparency(tmp_path, mode):
    grey = picture(0).convert("L")
    for name in CLASSES:
        fill(tmp_path / "train" / name, 1)
    grey.convert(mode).save(tmp_path / "train" / sorted(CLASSES)[0] / "000.bmp")
    images, _ = collect(image_folder(tmp_path, (7, 9), 4, "train", training=False))
    np.testing.assert_array_equal(images[0], np.asarray(grey.convert("RGB")))


@pytest.mark.parametrize("contents", [b"", b"not an image at all"])
def test_file_that_is_no_image(flat, contents):
    (flat / CLASSES[0] / "bad.png").write_bytes(contents)
    expect_refusal(r"Every image must be a PNG, JPEG, WebP or BMP.* Received: '.*bad.png'", flat)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((0, 2), r"`image_size` must be a positive int.* Received: image_size=0"),
        (((8, 8, 3), 2), r"`image_size` must be .* Received: image_size=\(8, 8, 3\)"),
        ((8, 0), r"`batch_size` must be at least 1. Received: batch_size=0"),
        ((8, 2, "dev"), r"`split` must be one of .* Received: split='dev'"),
        ((8, 2, "train", None, -1), r"`seed` must be at least 0. Received: seed=-1"),
        ((8, 2, "train", None, 0, -1), r"`start` must be at least 0. Received: start=-1"),
    ],
)
def test_bad_arguments(flat, arguments, message):
    expect_refusal(message, flat, *arguments)
