"""The trained models of the repository: whole, small, served, and as good as their cards say."""

import hashlib
import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf

from tnet_keras import datasets
from tnet_keras.export import load_predictor

ROOT = pathlib.Path(__file__).resolve().parents[2] / "saved_models"
FOLDERS = sorted(path for path in ROOT.iterdir() if path.is_dir())
IMAGES = 300


def card(folder):
    return (folder / "README.md").read_text(encoding="utf-8")


def fact(folder, name):
    return re.search(rf"^\| {name}[^|]*\| ([^|]+) \|$", card(folder), re.MULTILINE)[1].strip()


def scenes_of(folder, size, seed):
    name = fact(folder, "data")
    data = datasets.load(name, "test", size, 100, seed, num_examples=IMAGES)
    images, labels = map(np.concatenate, zip(*data.dataset, strict=True))
    return images, labels


def test_there_are_models():
    assert FOLDERS
    listed = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"`{folder.name}`" in listed for folder in FOLDERS)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_folder_is_whole_and_small(folder):
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*") if path.is_file() and path.name != "README.md"
    }  # fmt: skip
    listed = dict(re.findall(r"^\| (\S+) \| [\d,]+ \| ([0-9a-f]{64}) \|$", card(folder), re.M))
    assert {name: hashlib.sha256(data).hexdigest() for name, data in found.items()} == listed
    sizes = {}  # of the served version, of the .keras file, of the LiteRT file
    for name, data in found.items():
        part = name.partition("/")[0]
        sizes[part] = sizes.get(part, 0) + len(data)
    assert max(sizes.values()) <= 5e6, sizes
    for name in ("1/saved_model.pb", "1/assets.extra/tf_serving_warmup_requests", "labels.txt"):
        assert name in found


@pytest.mark.parametrize("kind", ["model.keras", "1", "model.tflite"])
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_kind_is_as_accurate_as_the_card_says(folder, kind):
    predictor = load_predictor(folder / kind)
    names = (folder / "labels.txt").read_text(encoding="utf-8").splitlines()
    assert predictor.class_names == names
    images, labels = scenes_of(folder, predictor.image_size, int(fact(folder, "seed")))
    if kind == "model.tflite":  # one image at a time
        images, labels = images[:100], labels[:100]
    batches = np.split(images, len(images) // 50)
    found = np.concatenate([predictor(batch)["probabilities"].argmax(-1) for batch in batches])
    stated = float(fact(folder, "test accuracy"))
    # Three standard errors of a share of so many images.
    margin = 3 * np.sqrt(stated * (1 - stated) / len(labels))
    assert abs((found == labels).mean() - stated) <= margin


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_served_bytes_are_answered_with_labels_and_boxes(folder):
    signature = tf.saved_model.load(folder / "1").signatures["classify_bytes"]
    image = tf.cast(tf.random.stateless_uniform((90, 120, 3), (1, 2), 0, 256, tf.int32), tf.uint8)
    answer = signature(image_bytes=tf.stack([tf.io.encode_png(image), tf.constant(b"no image")]))
    names = (folder / "labels.txt").read_text(encoding="utf-8").splitlines()
    assert set(answer["labels"][0].numpy().astype(str)) <= set(names)
    assert answer["image_sizes"][0].numpy().tolist() == [90, 120]
    y0, x0, y1, x1 = np.moveaxis(answer["boxes"][0].numpy(), -1, 0)
    assert ((y0 < y1) & (x0 < x1) & (y1 <= 121) & (x1 <= 121)).all()
    assert answer["status"][0] == 0 and answer["status"][1] > 0
