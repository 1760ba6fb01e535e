"""The Swedish traffic signs through TFDS: prepared from the owners' layout, refused if broken."""

import errno
import shutil
import zipfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from tests.datasets.builders.preparing import (
    assert_equal_to,
    assert_refused,
    pixels,
    prepare,
    read,
)
from tests.datasets.reading import examples
from tests.datasets.traffic_signs.tiny_scenes import TINY
from tnet_keras.datasets import TRAFFIC_SIGN_CLASSES, read_traffic_signs, write_traffic_signs
from tnet_keras.datasets.builders import SwedishTrafficSigns, swedish_traffic_signs
from tnet_keras.datasets.traffic_signs.folder import find_scenes

COUNTS = {"train": 9, "validation": 2, "test": 4}
# Two visible limits in an image, the second one larger; one image has nothing visible.
LINES = """000000.jpg:VISIBLE, 9, 9, 5, 5, X, 50_SIGN;VISIBLE, 40, 32, 20.5x, 2, X, 80_SIGN;
000001.jpg:OCCLUDED, 9, 9, 5, 5, PROHIBITORY, 70_SIGN;
000002.jpg:MISC_SIGNS;
000003.jpg:VISIBLE, 300, 20, 270, -3, PROHIBITORY, 70_SIGN;BLURRED, 9, 9, 5, 5, X, 50_SIGN;
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("signs")
    write_traffic_signs(root / "manual", COUNTS, seed=5, config=TINY)
    return root


@pytest.fixture
def owners(written, tmp_path):
    """A folder with the owners' two sets; the test set has annotations of our own."""
    for name in ("Set1Part0", "Set2Part0"):
        shutil.copytree(written / "manual" / name, tmp_path / "manual" / name)
    (tmp_path / "manual" / "Set2Part0" / "annotations.txt").write_text(LINES)
    return tmp_path


def zip_images(folder, inner=""):
    """Puts the images of a set into an archive beside its folder, as they are handed out."""
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as archive:
        for image in folder.glob("*.jpg"):
            archive.write(image, inner + image.name)
            image.unlink()


def test_what_was_prepared_equals_what_the_folder_has(written):
    builder = prepare(SwedishTrafficSigns, written, num_shards=2)
    assert builder.info.full_name == "swedish_traffic_signs/top_k/1.0.0"
    assert tuple(builder.info.features["label"].names) == TRAFFIC_SIGN_CLASSES
    for split, count in COUNTS.items():
        assert builder.info.splits[split].num_examples == count
        assert builder.info.splits[split].num_shards == 2
        prepared = read(builder, split)
        stream = read_traffic_signs(written / "manual", split, 2, training=False, with_boxes=True)
        images, labels, boxes = examples(stream, count)
        assert_equal_to(prepared, images, labels)
        files, *_, size = find_scenes(written / "manual", split, "top_k")
        for example, file, box in zip(prepared, files, boxes, strict=True):
            assert file.endswith(example["file_name"].decode())
            with open(file, "rb") as stream:
                assert example["image"] == stream.read()  # As it is, not encoded again.
            assert bool(len(example["bboxes"])) == bool(example["label"])
            for first in example["bboxes"][:1]:
                np.testing.assert_allclose(pixels(first, size), box, atol=1e-3)
    assert any(example["label"] for example in read(builder, "train"))


@pytest.mark.parametrize("inner", [None, "", "Set2Part0/"])
def test_owners_files(owners, inner):
    if inner is not None:
        zip_images(owners / "manual" / "Set2Part0", inner)
    builder = prepare(SwedishTrafficSigns, owners)
    assert sorted(builder.info.splits) == ["test", "train"]
    first, empty, last = read(builder, "test")
    assert [x["file_name"] for x in (first, empty, last)] == [
        f"00000{number}.jpg".encode() for number in (0, 2, 3)
    ]
    assert [x["label"] for x in (first, empty, last)] == [1, 0, 2]
    size = (TINY.height, TINY.width)
    small, large = (5, 5, 9, 9), (2, 20.5, 32, 40)
    np.testing.assert_allclose(pixels(first["bboxes"], size), [small, large], atol=1e-4)
    assert empty["bboxes"].shape == (0, 4)
    np.testing.assert_allclose(  # Clipped to the image.
        pixels(last["bboxes"], size), [(0, 270, 20, TINY.width)], atol=1e-4
    )
    # Nothing unpacked is left.
    assert {file.name for file in (owners / "data").iterdir()} == {
        "downloads", "swedish_traffic_signs",
    }  # fmt: skip


def test_the_other_rule_is_another_configuration(owners):
    builder = prepare(SwedishTrafficSigns, owners, config="ats")
    first = read(builder, "test")[0]
    assert first["label"] == 3
    np.testing.assert_allclose(
        pixels(first["bboxes"], (TINY.height, TINY.width)),
        [(2, 20.5, 32, 40), (5, 5, 9, 9)],
        atol=1e-4,
    )
    # What is prepared stays when another configuration cannot be.
    shutil.rmtree(owners / "manual" / "Set1Part0")
    with pytest.raises(ValueError, match="without Set1Part0/annotations.txt"):
        prepare(SwedishTrafficSigns, owners, config="top_k")
    folder = owners / "data" / "swedish_traffic_signs"
    assert sorted(file.name for file in folder.iterdir()) == [".config", "ats"]
    assert len(read(SwedishTrafficSigns(data_dir=owners / "data", config="ats"), "test")) == 3


def test_by_name(written):
    prepare(SwedishTrafficSigns, written)
    test = tfds.load(
        "swedish_traffic_signs", data_dir=written / "data", split="test", as_supervised=True
    )
    image, label = next(iter(test))
    assert image.shape == (TINY.height, TINY.width, 3) and label.dtype == "int64"


def change(name, edit):
    def spoil(manual):
        edit(manual / name)

    return spoil


def leave_out_pixels(file):
    contents = file.read_bytes()
    file.write_bytes(contents[: contents.index(b"\xff\xda")] + contents[-2:])


def zip_twice(folder):
    zip_images(folder)
    with pytest.warns(UserWarning, match="Duplicate name"):
        with zipfile.ZipFile(folder.with_suffix(".zip"), "a") as archive:
            archive.writestr("000000.jpg", b"again")


def zip_of_the_other_set(folder):
    zip_images(folder)
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as archive:
        archive.writestr("image_9.jpg", b"\xff\xd8\xff")


def no_archive(folder):
    zip_images(folder)
    folder.with_suffix(".zip").write_bytes(b"<html>404</html>")


def cut_archive(folder):
    zip_images(folder)
    archive = folder.with_suffix(".zip")
    archive.write_bytes(archive.read_bytes()[:-30])


def append(line):
    return lambda file: file.write_text(file.read_text() + line)


LIST = "Set2Part0/annotations.txt"
IMAGE = "Set2Part0/000003.jpg"


@pytest.mark.parametrize(
    "spoil, message",
    [
        (
            shutil.rmtree,
            r"must hold Set1Part0/annotations.txt .* Linköping University .* "
            r"Received: manual_dir='.*manual', which is missing or empty",
        ),
        (change(LIST, lambda file: file.unlink()), r"manual', without Set2Part0/annotations.txt"),
        (
            change("Set2Part0", lambda folder: [f.unlink() for f in folder.glob("*.jpg")]),
            r"manual', without images in Set2Part0 and without Set2Part0.zip",
        ),
        (change(LIST, append("x.jpg VISIBLE\n")), r"`file:records`, .*: line 5 of '.*annot.*txt'"),
        (change(LIST, append("x.jpg:VISIBLE, 9, 9;")), r"must have 7 fields .*: line 5 of '"),
        (change(LIST, append("000000.jpg:")), r"listed once, here again '000000.jpg'.*: line 5"),
        (change(LIST, append("x.jpg:")), r"readable \(No such file.*\). Received: '.*x.jpg'"),
        (change(LIST, lambda file: file.write_text("")), r"rule 'top_k' labels. .* none in '"),
        (change(IMAGE, lambda file: file.unlink()), r"\(No such file .*Received: '.*000003.jpg'"),
        (change(IMAGE, lambda file: file.write_bytes(b"")), r"neither JPEG .*'.*000003.jpg'"),
        (change(IMAGE, leave_out_pixels), r"000003.jpg cannot be decoded as an image"),
        (
            change(IMAGE, lambda file: Image.new("RGB", (30, 20)).save(file)),
            r"the same size, here 216 x 288. Received: '.*000003.jpg' of 20 x 30",
        ),
        (
            change("Set2Part0", zip_twice),
            r"every file once. Received: '.*' with '000000.jpg' twice",
        ),
        (
            change("Set2Part0", zip_of_the_other_set),
            r"\(No such file .*Received: '.*Set2Part0.zip-.*000000.jpg'",
        ),
        (change("Set2Part0", no_archive), r"whole .zip or .tar .* Received: '.*Set2Part0.zip'"),
        (change("Set2Part0", cut_archive), r"whole .zip or .tar .* Received: '.*Set2Part0.zip'"),
    ],
)
def test_what_is_broken_is_refused_in_one_line(owners, spoil, message):
    spoil(owners / "manual")
    assert_refused(SwedishTrafficSigns, owners, message)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
@pytest.mark.parametrize("moment", ["generating", "unpacking"])
def test_what_stops_halfway_leaves_nothing(owners, monkeypatch, moment, error):
    def stop(*arguments):
        raise error

    zip_images(owners / "manual" / "Set2Part0")
    if moment == "generating":
        monkeypatch.setattr(swedish_traffic_signs, "relative_boxes", stop)
    else:
        monkeypatch.setattr(zipfile.ZipFile, "extractall", stop)
    with pytest.raises(type(error)):
        prepare(SwedishTrafficSigns, owners)
    assert {file.name for file in (owners / "data").iterdir()} == {"downloads"}


def test_another_rule_is_no_configuration(owners):
    config = tfds.core.BuilderConfig(name="largest")
    assert_refused(SwedishTrafficSigns, owners, "`rule` must be one of", config)
    with pytest.raises(ValueError, match="largest"):
        SwedishTrafficSigns(data_dir=owners / "data", config="largest")
