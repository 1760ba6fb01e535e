"""Folders in the published layout: written whole or not at all, read with care."""

import json
import math
import os

import numpy as np
import pytest
from PIL import Image

from tests.datasets.billiards.tiny_tables import COLORS, TINY, ball
from tests.datasets.reading import assert_same, examples
from tnet_keras.datasets import BilliardsConfig, billiards, read_billiards, write_billiards
from tnet_keras.datasets.billiards import BilliardScenes


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("billiards") / "made" / "tables"
    write_billiards(path, {"train": 12, "validation": 2, "test": 3}, seed=5, config=TINY)
    return path


def test_written_folders_have_the_published_layout(written):
    assert sorted(os.listdir(written.parent)) == ["tables"]  # Nothing temporary is left.
    assert sorted(os.listdir(written)) == ["about.json", "test", "train", "valid"]
    assert sorted(os.listdir(written / "test")) == [
        f"{i}.{k}" for i in "012" for k in ("json", "png")
    ]
    balls = json.loads((written / "valid" / "1.json").read_text())
    assert balls == BilliardScenes(TINY, "validation", 5).annotate(1)
    assert {"position", "number", "color"} <= balls[0].keys()
    about = json.loads((written / "about.json").read_text())
    assert BilliardsConfig.from_config(about["config"]) == TINY and about["seed"] == 5


@pytest.mark.parametrize("split, count", [("train", 12), ("validation", 2), ("test", 3)])
def test_what_was_written_is_read_again(written, split, count):
    arguments = {"split": split, "batch_size": 2, "seed": 5, "with_boxes": True, "random_shift": 3}
    read = read_billiards(written, **arguments)
    drawn = billiards(num_examples=count, config=TINY, **arguments)
    assert read.element_spec == drawn.element_spec
    number = count if split != "train" else 30
    assert_same(examples(read, number), examples(drawn, number))
    resumed = read_billiards(written, start=1, **arguments)
    assert_same([part[1:] for part in examples(read, number)], examples(resumed, number - 1))


@pytest.fixture
def published(tmp_path):
    """Two tables as the authors lay them out: transparent PNG files, world coordinates."""
    folder = tmp_path / "test"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name, numbers in (("2", (3, 8, 4)), ("10", (9, 1, 2))):
        pixels = random.integers(0, 256, (20, 24, 4), np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
        balls = [ball(x, n, c) for x, n, c in zip((-1.5, 2.25, 0), numbers, COLORS, strict=False)]
        (folder / f"{name}.json").write_text(json.dumps(balls))
    return tmp_path


def test_published_files_are_read_in_the_order_of_their_numbers(published):
    images, labels = examples(read_billiards(published, "test", 2), 2)
    np.testing.assert_array_equal(labels, [8 - 1, 9 - 1])
    for image, name in zip(images, ("2", "10"), strict=True):
        with Image.open(published / "test" / f"{name}.png") as file:
            assert file.mode == "RGBA"
            np.testing.assert_array_equal(image, np.asarray(file)[..., :3])
    _, sums = examples(read_billiards(published, "test", 2, label="sum_modulo_10"), 2)
    np.testing.assert_array_equal(sums, [5, 2])


def change_ball(**changes):
    def change(folder):
        balls = json.loads((folder / "10.json").read_text())
        balls[1] = {k: v for k, v in (balls[1] | changes).items() if v is not None}
        (folder / "10.json").write_text(json.dumps(balls))

    return change


def write(name, text):
    return lambda folder: (folder / name).write_bytes(text)


def cut_image(folder):
    (folder / "10.png").write_bytes((folder / "10.png").read_bytes()[:-40])


def resize_image(folder):
    Image.new("RGB", (24, 21)).save(folder / "10.png")


@pytest.mark.parametrize(
    "spoil, arguments, message",
    [
        (write("10.json", b"[{"), {}, r"must be JSON \(.*\). Received: '.*10.json'"),
        (write("10.json", b"\xff\xfe\xff"), {}, r"must be JSON \(.*\). Received: '.*10.json'"),
        (write("10.json", b"{}"), {}, r"must be a list of balls. Received: '.*10.json'"),
        (write("10.json", b"[]"), {}, r"must be a list of balls. Received: '.*10.json'"),
        (write("10.json", b"[7]"), {}, r"ball 0 of '.*10.json' without 'position'"),
        (change_ball(number=None), {}, r"Received: ball 1 of '.*10.json' without 'number'"),
        (change_ball(color=None), {}, r"Received: ball 1 of '.*10.json' without 'color'"),
        (change_ball(number=10), {}, r"its number 1-9.* ball 1 of '.*10.json' with number=10"),
        (change_ball(number=True), {}, r"ball 1 of '.*10.json' with number=True"),
        (change_ball(position=[]), {}, r"ball 1 of '.*10.json' with position=\[\]"),
        (change_ball(position=[math.nan]), {}, r"ball 1 of '.*10.json' with position=\[nan\]"),
        (change_ball(position=["left"]), {}, r"with position=\['left'\]"),
        (lambda folder: None, {"with_boxes": True}, r"ball 0 of '.*2.json' without 'box'"),
        (
            write(
                "2.json", b'[{"position": [1], "number": 1, "color": "red", "box": [3, 1, 2, 4]}]'
            ),
            {"with_boxes": True},
            r"ball 0 of '.*2.json' with box=\[3, 1, 2, 4\]",
        ),
        (
            write("10.json", b'[{"position": [1], "number": 1, "color": [1, 0, 0]}]'),
            {"label": "min_or_max_by_color"},
            r"`color` must be one of .* Received: color=\[1, 0, 0\] in '.*10.json'",
        ),
        (lambda folder: (folder / "10.png").unlink(), {}, r"test' without '10.png'"),
        (lambda folder: (folder / "2.json").unlink(), {}, r"test' without '2.json'"),
        (write("10.png", b"GIF89a"), {}, r"must be a whole PNG file. Received: '.*10.png'"),
        (write("10.png", b""), {}, r"must be a whole PNG file. Received: '.*10.png'"),
        (cut_image, {}, r"must be a whole PNG file. Received: '.*10.png'"),
        (resize_image, {}, r"here 20 x 24. Received: '.*10.png' of 21 x 24"),
        (
            lambda folder: [file.unlink() for file in folder.iterdir()],
            {},
            r"must hold tables \(<id>.png, <id>.json\). Received: an empty '.*test'",
        ),
        (
            lambda folder: None,
            {"split": "validation"},
            r"`path` must hold a readable folder 'valid' \(No such file.*\). Received: path='.*'",
        ),
        (lambda folder: None, {"split": "valid"}, r"`split` must be one of .* split='valid'"),
        (lambda folder: None, {"label": "sum"}, r"`label` must be one of .* label='sum'"),
        (lambda folder: None, {"random_shift": 20}, r"less than .* 20 pixels.* random_shift=20"),
    ],
)
def test_spoilt_folders_are_refused_in_one_line(published, spoil, arguments, message):
    spoil(published / "test")
    with pytest.raises(ValueError, match=message) as error:
        read_billiards(published, **({"split": "test"} | arguments))
    assert "\n" not in str(error.value)


def test_hidden_and_foreign_files_are_left_alone(published):
    (published / "test" / ".10.png").write_bytes(b"")
    (published / "test" / "README.txt").write_text("tables")
    assert len(examples(read_billiards(published, "test", 2), 2)[1]) == 2


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_nothing_is_overwritten(tmp_path, kind):
    path = tmp_path / "tables"
    if kind == "folder":
        path.mkdir()
    elif kind == "file":
        path.write_text("mine")
    else:
        path.symlink_to("nowhere")
    with pytest.raises(ValueError, match=r"`path` must not exist.* Received: path='.*tables'"):
        write_billiards(path, {"test": 1}, config=TINY)
    assert os.listdir(tmp_path) == ["tables"] and path.is_symlink() == (kind == "link")


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_fails_halfway_leaves_nothing(tmp_path, monkeypatch, error):
    def annotate(scenes, index):
        if index == 2:
            raise error("full")
        return []

    monkeypatch.setattr(BilliardScenes, "annotate", annotate)
    with pytest.raises(error, match="full"):
        write_billiards(tmp_path / "tables", {"train": 1, "test": 4}, config=TINY)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "counts, arguments, message",
    [
        ({"valid": 1}, {}, r"`split` must be one of .* Received: split='valid'"),
        ({"test": -1}, {}, r"`counts` must not be negative. Received: counts={'test': -1}"),
        ({"test": 0}, {}, r"`counts` must ask for at least one table. Received: counts="),
        ({}, {}, r"`counts` must ask for at least one table. Received: counts={}"),
        ({"test": 1}, {"seed": -1}, r"`seed` must be at least 0. Received: seed=-1"),
    ],
)
def test_bad_arguments_of_writing(tmp_path, counts, arguments, message):
    with pytest.raises(ValueError, match=message):
        write_billiards(tmp_path / "tables", counts, config=TINY, **arguments)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"`path` must be a folder that can be made \(.*\)"):
        write_billiards(tmp_path / "file" / "tables", {"test": 1}, config=TINY)
