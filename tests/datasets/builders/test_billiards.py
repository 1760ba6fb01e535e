"""Billiard tables through TFDS: from folders or one archive, refused if broken."""

import json
import shutil
import tarfile

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.datasets.billiards.tiny_tables import TINY
from tests.datasets.builders.preparing import (
    assert_equal_to,
    assert_refused,
    pixels,
    prepare,
    read,
)
from tests.datasets.reading import examples
from tnet_keras.datasets import BILLIARD_LABELS, read_billiards, write_billiards
from tnet_keras.datasets.billiards.folder import FOLDERS
from tnet_keras.datasets.builders import KubricBilliards

COUNTS = {"train": 5, "validation": 2, "test": 3}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("billiards")
    write_billiards(root / "manual", COUNTS, seed=5, config=TINY)
    return root


@pytest.fixture
def copied(written, tmp_path):
    shutil.copytree(written / "manual", tmp_path / "manual")
    return tmp_path


def pack(manual, name="tables.tar", inner="tables", mode="w", again=()):
    """Replaces the folders by the archive that holds them."""
    files = [manual / folder for folder in FOLDERS.values() if (manual / folder).is_dir()]
    with tarfile.open(manual / name, mode) as archive:
        for file in (*files, *(manual / each for each in again)):
            archive.add(file, f"{inner}/{file.relative_to(manual)}" if inner else file.name)
    for file in files:
        shutil.rmtree(file)


@pytest.mark.parametrize("label", BILLIARD_LABELS)
def test_what_was_prepared_equals_what_the_folder_has(written, label):
    builder = prepare(KubricBilliards, written, label, num_shards=2)
    assert builder.info.full_name == f"kubric_billiards/{label}/1.0.0"
    names = builder.info.features["label"].names
    assert names == [str(i + (label != "sum_modulo_10")) for i in range(BILLIARD_LABELS[label])]
    for split, count in COUNTS.items():
        assert builder.info.splits[split].num_examples == count
        assert builder.info.splits[split].num_shards == 2
        stream = read_billiards(
            written / "manual", split, 2, label=label, training=False, with_boxes=True
        )
        images, labels, boxes = examples(stream, count)
        prepared = read(builder, split)
        assert_equal_to(prepared, images, labels)
        for index, (example, pair) in enumerate(zip(prepared, boxes, strict=True)):
            folder = written / "manual" / FOLDERS[split]
            assert example["file_name"] == f"{index}.png".encode()
            assert example["image"] == (folder / f"{index}.png").read_bytes()
            balls = json.loads((folder / f"{index}.json").read_text())
            assert list(example["numbers"]) == [ball["number"] for ball in balls]
            found = pixels(example["bboxes"][example["outermost"]], (TINY.image_size,) * 2)
            np.testing.assert_allclose(found, pair, atol=1e-3)


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"inner": "", "name": "tables.tar.xz", "mode": "w:xz"},
        {"name": "tables.tgz", "mode": "w:gz"},
        None,
    ],
)
def test_archives_and_folders_give_the_same(copied, written, form):
    if form is None:  # Unpacked by hand, with the folder that was around them.
        (copied / "manual").rename(copied / "tables")
        (copied / "manual").mkdir()
        (copied / "tables").rename(copied / "manual" / "tables")
    else:
        pack(copied / "manual", **form)
    prepared = read(prepare(KubricBilliards, copied), "validation")
    stream = read_billiards(written / "manual", "validation", 2)
    assert_equal_to(prepared, *examples(stream, 2))
    assert {file.name for file in (copied / "data").iterdir()} == {"downloads", "kubric_billiards"}


def edit_balls(manual, edit):
    for file in (manual / "test").glob("*.json"):
        balls = json.loads(file.read_text())
        for ball in balls:
            edit(ball)
        file.write_text(json.dumps(balls))


def test_published_annotations_have_no_boxes(copied):
    edit_balls(copied / "manual", lambda ball: ball.pop("box"))
    builder = prepare(KubricBilliards, copied)
    assert all(example["bboxes"].shape == (0, 4) for example in read(builder, "test"))
    assert all(len(example["bboxes"]) for example in read(builder, "train"))


def test_by_name(written):
    prepare(KubricBilliards, written)
    test = tfds.load("kubric_billiards", data_dir=written / "data", split="test")
    assert next(iter(test))["image"].shape == (TINY.image_size, TINY.image_size, 3)


def change(name, edit):
    def spoil(manual):
        edit(manual / name)

    return spoil


def empty(manual):
    for folder in FOLDERS.values():
        shutil.rmtree(manual / folder)


def two_archives(manual):
    pack(manual)
    shutil.copy(manual / "tables.tar", manual / "more.tar.xz")


def wrong_archive(manual):
    shutil.rmtree(manual / "valid")
    pack(manual)


def no_archive(manual):
    pack(manual)
    (manual / "tables.tar").write_bytes(b"")


def cut_archive(manual):
    pack(manual)
    file = manual / "tables.tar"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def escape(manual):
    pack(manual, inner="../tables")


def garble(file):
    contents = bytearray(file.read_bytes())
    middle = len(contents) // 2
    contents[middle : middle + 40] = bytes(40)
    file.write_bytes(contents)


def forget_one_box(manual):
    edit_balls(manual, lambda ball: ball.pop("box"))
    file = manual / "test" / "1.json"
    balls = json.loads(file.read_text())
    balls[1]["box"] = [1, 2, 3, 4]
    file.write_text(json.dumps(balls))


@pytest.mark.parametrize(
    "spoil, message",
    [
        (
            shutil.rmtree,
            r"must hold the authors' billiards archive .*CVPR 2021.* "
            r"Received: manual_dir='.*manual', which is missing or empty",
        ),
        (empty, r"manual', without an archive and without the three folders"),
        (two_archives, r"manual', with several archives: more.tar.xz, tables.tar"),
        (wrong_archive, r"must hold folders train, valid, test. .*'.*.tar' with \['tables'\]"),
        (no_archive, r"must be a whole .zip or .tar file \(.*\). Received: '.*tables.tar'"),
        (cut_archive, r"must be a whole .zip or .tar file \(.*\). Received: '.*tables.tar'"),
        (escape, r"must be a whole .zip or .tar file \(.* outside .*\). Received: '.*tables.tar'"),
        (
            lambda manual: pack(manual, again=("about.json", "about.json")),
            r"hold every file once. Received: '.*tables.tar' with 'tables/about.json' twice",
        ),
        (change("test/1.png", lambda file: file.unlink()), r"Received: '.*test' without '1.png'"),
        (change("test/1.json", lambda file: file.unlink()), r"'.*test' without '1.json'"),
        (change("test/1.png", lambda file: file.write_bytes(b"")), r"whole PNG .*'.*test/1.png'"),
        (change("test/1.png", garble), r"test/1.png cannot be decoded as an image"),
        (change("test/1.json", lambda file: file.write_text("[{")), r"be JSON .*'.*test/1.json'"),
        (forget_one_box, r"must have .*box. Received: ball 0 of '.*test/0.json' without 'box'"),
    ],
)
def test_what_is_broken_is_refused_in_one_line(copied, spoil, message):
    spoil(copied / "manual")
    assert_refused(KubricBilliards, copied, message)


def test_another_question_is_no_configuration(copied):
    config = tfds.core.BuilderConfig(name="sum")
    with pytest.raises(ValueError, match="`label` must be one of .* label='sum'"):
        KubricBilliards(data_dir=copied / "data", config=config).info  # noqa: B018
