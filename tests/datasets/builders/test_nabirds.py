"""NABirds: labels, names, boxes, bytes, splits, and what is refused."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from tests.datasets.builders.fake_nabirds import CLASSES, write_fake_nabirds
from tnet_keras.datasets.builders import Nabirds, prepare

SKIP = {"image": tfds.decode.SkipDecoding()}
FIRST = "images/1010/" + "0" * 32 + ".jpg"


@pytest.fixture(autouse=True)
def no_progress_bars():
    tfds.disable_progress_bar()
    yield
    tfds.enable_progress_bar()


def prepared(tmp_path):
    prepare("nabirds", tmp_path / "manual", tmp_path / "data")
    return Nabirds(data_dir=tmp_path / "data")


def replace(name, old, new):
    """Replaces text in a file, once."""

    def spoil(root):
        text = (root / name).read_text()
        assert old in text
        (root / name).write_text(text.replace(old, new, 1))

    return spoil


def test_images_labels_and_boxes(tmp_path):
    root = write_fake_nabirds(tmp_path / "manual")
    builder = prepared(tmp_path)
    # Classes by first appearance in images.txt, names whole.
    names = list(reversed(CLASSES.values()))
    assert builder.info.features["label"].names == names
    boxes = [line.split() for line in (root / "bounding_boxes.txt").read_text().splitlines()]
    count = 0
    for split in ("train", "test"):
        assert builder.info.splits[split].num_examples == 6
        for example in tfds.as_numpy(builder.as_dataset(split=split, decoders=SKIP)):
            number = int(example["file_name"][:-4], 16)
            assert (number < 6) == (split == "train") and example["label"] == number % 3
            class_number = list(reversed(CLASSES))[number % 3]
            path = root / "images" / f"{int(class_number):04}" / example["file_name"].decode()
            assert example["image"] == path.read_bytes()
            x, y, w, h = map(int, boxes[number][1:])
            expected = [[y / 32, x / 40, (y + h) / 32, (x + w) / 40]]
            np.testing.assert_allclose(example["bboxes"], expected, atol=1e-6)
            count += 1
    assert count == 12
    # The names are part of the data set: who reads it needs no manual folder.
    from_files = tfds.builder_from_directory(builder.data_path)
    assert from_files.info.features["label"].names == names
    assert next(iter(from_files.as_dataset(split="train")))["image"].shape == (32, 40, 3)


def test_boxes_are_optional(tmp_path):
    write_fake_nabirds(tmp_path / "manual", images_per_split=1, boxes=False)
    for example in tfds.as_numpy(prepared(tmp_path).as_dataset(split="test")):
        assert example["bboxes"].shape == (0, 4)


def test_only_names_that_classes_share_are_told_apart(tmp_path):
    classes = {"3": "Oak Titmouse", "4": "Snow Goose", "7": "Oak Titmouse"}
    write_fake_nabirds(tmp_path / "manual", classes, images_per_split=1)
    names = ["Oak Titmouse (class 7)", "Snow Goose", "Oak Titmouse (class 3)"]
    assert prepared(tmp_path).info.features["label"].names == names


def test_other_formats_keep_their_bytes(tmp_path):
    root = write_fake_nabirds(tmp_path / "manual", images_per_split=1)
    pixels = np.asarray(Image.open(root / FIRST))
    Image.fromarray(pixels).save(root / FIRST, format="png")
    examples = tfds.as_numpy(prepared(tmp_path).as_dataset(split="train"))
    found = {example["file_name"]: example["image"] for example in examples}
    np.testing.assert_array_equal(found[(root / FIRST).name.encode()], pixels)


def test_prepared_a_second_time_it_stays(tmp_path):
    root = write_fake_nabirds(tmp_path / "manual", images_per_split=1)
    before = prepared(tmp_path).data_path
    (root / "images.txt").unlink()
    assert prepare("nabirds", tmp_path / "manual", tmp_path / "data") == {"train": 3, "test": 3}
    assert before.exists()


def test_an_error_leaves_what_was_there(tmp_path):
    (tmp_path / "data" / "other").mkdir(parents=True)
    write_fake_nabirds(tmp_path / "manual", images_per_split=1)
    with pytest.raises(ValueError, match="fmow-rgb"):
        prepare("fmow_rgb", tmp_path / "manual", tmp_path / "data")
    assert [path.name for path in (tmp_path / "data").rglob("*")] == ["other"]


KEY = "00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize(
    "spoil, message",
    [
        (
            lambda root: root.rename(root.parent / "birds"),
            "must hold the folder nabirds of the N",
        ),
        (lambda root: (root / "sizes.txt").unlink(), "must hold sizes.txt of the NABirds release"),
        (lambda root: (root / FIRST).unlink(), f"{FIRST} is missing; .*images.txt names it"),
        (lambda root: (root / FIRST).write_bytes(b""), f"{FIRST} is empty"),
        (lambda root: (root / FIRST).write_bytes(b"text"), f"{FIRST} cannot be decoded"),
        (lambda root: (root / "sizes.txt").write_text(""), "sizes.txt holds no lines"),
        (lambda root: (root / "sizes.txt").write_bytes(b"\xff\xfe"), "sizes.txt must be text in"),
        (replace("sizes.txt", "40 32", "40"), "sizes.txt, line 1: a key and 2 values must stand"),
        (replace("sizes.txt", "40 32", "40 x"), "sizes.txt: sizes must be numbers"),
        (replace("sizes.txt", "40 32", "32 40"), "sizes.txt must hold the size of .*: 32 x 40 for"),
        (replace("sizes.txt", KEY, "x"), f"sizes.txt lacks the image '{KEY}' of images.txt"),
        (replace("bounding_boxes.txt", KEY, "x"), "bounding_boxes.txt lacks the image"),
        (
            replace("bounding_boxes.txt", KEY, f"x 9\n{KEY}"),
            "boxes.txt, line 1: a key and 4 values",
        ),
        (replace("image_class_labels.txt", "1010", "77"), "classes.txt lacks the class '77' of"),
        (replace("train_test_split.txt", " 1", " 2"), "must have 0 or 1. Received: '2'"),
        (replace("images.txt", "00001.jpg", "00000.jpg"), "has the name of another image"),
        (replace("images.txt", f"{KEY[:7]}1", f"{KEY[:7]}0"), f"line 2: '{KEY}' is there twice"),
    ],
)
def test_bad_input_is_named_and_nothing_is_left(tmp_path, spoil, message):
    root = write_fake_nabirds(tmp_path / "manual", images_per_split=1)
    spoil(root)
    with pytest.raises(ValueError, match=message) as error:
        prepare("nabirds", tmp_path / "manual", tmp_path / "data")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "data").exists()


def test_boxes_outside_and_empty_splits_are_named(tmp_path):
    root = write_fake_nabirds(tmp_path / "manual", images_per_split=1)
    boxes, split = root / "bounding_boxes.txt", root / "train_test_split.txt"
    lines = boxes.read_text().splitlines()
    boxes.write_text("\n".join([f"{KEY} 40 2 3 4", *lines[1:]]))
    with pytest.raises(ValueError, match=f"bounding_boxes.txt, image '{KEY}': a box must touch"):
        prepare("nabirds", tmp_path / "manual", tmp_path / "data")
    split.write_text(split.read_text().replace(" 0\n", " 1\n"))
    with pytest.raises(ValueError, match=r"must give images to test \(0\). Received: none"):
        prepare("nabirds", tmp_path / "manual", tmp_path / "data")
    assert not (tmp_path / "data").exists()
