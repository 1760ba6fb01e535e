"""Folders in the layout of the Swedish set: written whole or not at all, read with care."""

import json
import os

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.datasets.reading import assert_same, examples
from tests.datasets.traffic_signs.tiny_scenes import TINY, scenes
from tnet_keras.datasets.traffic_signs import (
    TrafficScenes,
    TrafficScenesConfig,
    read_annotations,
    read_traffic_signs,
    traffic_sign_label,
    traffic_signs,
    write_traffic_signs,
)
from tnet_keras.datasets.traffic_signs.annotations import MISC_SIGNS
from tnet_keras.ops.decode import decode_image

COUNTS = {"train": 10, "validation": 2, "test": 3}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("traffic") / "made" / "scenes"
    write_traffic_signs(path, COUNTS, seed=5, config=TINY, image_format="png")
    return path


def test_written_folders_have_the_published_layout(written):
    assert os.listdir(written.parent) == ["scenes"]  # Nothing temporary is left.
    folders = ["Set1Part0", "Set2Part0", "ValidationPart0"]
    assert sorted(os.listdir(written)) == [*folders, "about.json"]
    files = [f"{number:06}.png" for number in range(3)]
    assert sorted(os.listdir(written / "Set2Part0")) == [*files, "annotations.txt"]
    drawn = TrafficScenes(TINY, "test", 5)
    for index, (file, signs) in enumerate(
        read_annotations(written / "Set2Part0" / "annotations.txt").items()
    ):
        assert file == files[index]
        assert signs == [one for one in drawn.annotate(index) if one.visibility != MISC_SIGNS]
        assert traffic_sign_label(signs) == traffic_sign_label(drawn.annotate(index))
    about = json.loads((written / "about.json").read_text())
    assert TrafficScenesConfig.from_config(about["config"]) == TINY and about["seed"] == 5


@pytest.mark.parametrize("split", COUNTS)
def test_what_was_written_is_read_again(written, split):
    arguments = {
        "split": split, "batch_size": 2, "seed": 5, "with_boxes": True, "random_shift": 3,
        "random_contrast": True,
    }  # fmt: skip
    read = read_traffic_signs(written, **arguments)
    drawn = traffic_signs(num_examples=COUNTS[split], config=TINY, **arguments)
    assert read.element_spec == drawn.element_spec
    number = 24 if split == "train" else COUNTS[split]
    assert_same(examples(read, number), examples(drawn, number))
    assert_same(
        examples(read_traffic_signs(written, rule="ats", **arguments), number)[:2],
        examples(drawn, number)[:2],
    )
    resumed = read_traffic_signs(written, start=1, **arguments)
    assert_same([part[1:] for part in examples(read, number)], examples(resumed, number - 1))


def test_jpeg_is_close(tmp_path):
    write_traffic_signs(tmp_path / "scenes", {"test": 2}, config=TINY)
    assert (tmp_path / "scenes" / "Set2Part0" / "000001.jpg").is_file()
    images, labels, boxes = examples(
        read_traffic_signs(tmp_path / "scenes", "test", 2, with_boxes=True), 2
    )
    drawn = scenes(2, split="test")
    assert_same((labels, boxes), drawn[1:])
    assert np.abs(images.astype(int) - drawn[0]).mean() < 6  # Noise of standard deviation 5.


LINES = """a.jpg:MISC_SIGNS;
b.jpg:VISIBLE, 9, 9, 5, 5, PROHIBITORY, 50_SIGN;VISIBLE, 20, 20, 2, 2, PROHIBITORY, 80_SIGN;
c.png:VISIBLE, 9, 9, 5, 5, PRIORITY, GIVE_WAY;
d.png:BLURRED, 9, 9, 5, 5, PROHIBITORY, 70_SIGN;VISIBLE, 19, 18, 17, 15, PROHIBITORY, 70_SIGN;
e.jpg:OCCLUDED, 9, 9, 5, 5, PROHIBITORY, 70_SIGN;
"""


@pytest.fixture
def published(tmp_path):
    """Images and annotations of our own in the published layout; two are dropped, one unlisted."""
    folder = tmp_path / "Set2Part0"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name in ("a.jpg", "b.jpg", "d.png", "unlisted.jpg"):
        Image.fromarray(random.integers(0, 256, (20, 24, 3), np.uint8)).save(folder / name)
    (folder / "annotations.txt").write_text(LINES)
    return tmp_path


def test_published_files_are_read_by_either_rule(published):
    images, labels, boxes = examples(read_traffic_signs(published, "test", 2, with_boxes=True), 3)
    np.testing.assert_array_equal(labels, [0, 1, 2])
    np.testing.assert_array_equal(boxes, [[0, 0, 0, 0], [5, 5, 9, 9], [15, 17, 18, 19]])
    with Image.open(published / "Set2Part0" / "d.png") as image:
        np.testing.assert_array_equal(images[2], np.asarray(image))
    ats = read_traffic_signs(published, "test", 2, rule="ats", with_boxes=True)
    _, labels, boxes = examples(ats, 2)
    # The blurred 70 comes second, so that the rule takes the visible one.
    np.testing.assert_array_equal(labels, [0, 3])
    np.testing.assert_array_equal(boxes[1], [2, 2, 20, 20])


def write(name, contents):
    return lambda folder: (folder / name).write_bytes(contents)


def cut(name):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-30])


def resize(folder):
    Image.new("RGB", (24, 21)).save(folder / "b.jpg")


def turn(folder):
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.new("RGB", (24, 20)).save(folder / "b.jpg", exif=exif)


def nothing(folder):
    pass


@pytest.mark.parametrize(
    "spoil, arguments, message",
    [
        (write("annotations.txt", b"a.jpg:SEEN, 1;"), {}, r"here 2 in .*line 1 of '.*tions.txt'"),
        (
            lambda folder: (folder / "annotations.txt").unlink(),
            {},
            r"annotations must be readable \(No such file.*\). Received: '.*annotations.txt'",
        ),
        (write("annotations.txt", b""), {}, r"images that the rule 'top_k' labels. Received: none"),
        (
            lambda folder: (folder / "b.jpg").unlink(),
            {},
            r"Every image must be readable \(No such file.*\). Received: '.*b.jpg'",
        ),
        (write("b.jpg", b""), {}, r"readable \(neither JPEG nor PNG\). Received: '.*b.jpg'"),
        (
            write("b.jpg", b"GIF89a" + bytes(40)),
            {},
            r"\(neither JPEG nor PNG\). Received: '.*b.jpg",
        ),
        (cut("b.jpg"), {}, r"must be a whole file. Received: '.*b.jpg'"),
        (cut("d.png"), {}, r"must be a whole file. Received: '.*d.png'"),
        (turn, {}, r"must be stored upright. Received: '.*b.jpg', turned by Exif"),
        (resize, {}, r"here 20 x 24. Received: '.*b.jpg' of 21 x 24"),
        (nothing, {"split": "train"}, r"`path` must hold a folder 'Set1Part0'. Received: path='"),
        (nothing, {"split": "valid"}, r"`split` must be one of .* split='valid'"),
        (nothing, {"rule": "first"}, r"`rule` must be one of .* rule='first'"),
        (nothing, {"random_shift": 20}, r"less than .* 20 pixels.* random_shift=20"),
    ],
)
def test_spoilt_folders_are_refused_in_one_line(published, spoil, arguments, message):
    spoil(published / "Set2Part0")
    with pytest.raises(ValueError, match=message) as error:
        read_traffic_signs(published, **({"split": "test"} | arguments))
    assert "\n" not in str(error.value)


def test_pixels_are_those_of_the_plain_decoder(published):
    for file in sorted(published.rglob("*.jpg")):
        pixels = tf.io.decode_image(file.read_bytes(), channels=3, expand_animations=False)
        image, status = decode_image(file.read_bytes())
        assert status == 0
        np.testing.assert_array_equal(image, pixels)


def test_an_image_that_is_broken_inside_is_named(published):
    file = published / "Set2Part0" / "d.png"
    contents = bytearray(file.read_bytes())
    contents[contents.index(b"IDAT") + 8] ^= 0xFF
    file.write_bytes(contents)
    stream = read_traffic_signs(published, "test", batch_size=1)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"readable \(broken.*d\.png"):
        list(stream)


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_nothing_is_overwritten(tmp_path, kind):
    path = tmp_path / "scenes"
    if kind == "folder":
        path.mkdir()
    elif kind == "file":
        path.write_text("mine")
    else:
        path.symlink_to("nowhere")
    with pytest.raises(ValueError, match=r"`path` must not exist.* Received: path='.*scenes'"):
        write_traffic_signs(path, {"test": 1}, config=TINY)
    assert os.listdir(tmp_path) == ["scenes"] and path.is_symlink() == (kind == "link")


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_fails_halfway_leaves_nothing(tmp_path, monkeypatch, error):
    def annotate(scenes, index):
        if index == 2:
            raise error("full")
        return []

    monkeypatch.setattr(TrafficScenes, "annotate", annotate)
    with pytest.raises(error, match="full"):
        write_traffic_signs(tmp_path / "scenes", {"train": 1, "test": 4}, config=TINY)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "counts, arguments, message",
    [
        ({"valid": 1}, {}, r"`split` must be one of .* Received: split='valid'"),
        ({"test": -1}, {}, r"`counts` must not be negative. Received: counts={'test': -1}"),
        ({"test": 0}, {}, r"`counts` must ask for at least one scene. Received: counts="),
        ({}, {}, r"`counts` must ask for at least one scene. Received: counts={}"),
        ({"test": 1}, {"seed": -1}, r"`seed` must be at least 0. Received: seed=-1"),
        ({"test": 1}, {"image_format": "gif"}, r"`image_format` must be one of .*='gif'"),
    ],
)
def test_bad_arguments_of_writing(tmp_path, counts, arguments, message):
    with pytest.raises(ValueError, match=message):
        write_traffic_signs(tmp_path / "scenes", counts, config=TINY, **arguments)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"`path` must be a folder that can be made \(.*\)"):
        write_traffic_signs(tmp_path / "file" / "scenes", {"test": 1}, config=TINY)
