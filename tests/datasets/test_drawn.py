"""Data sets of patch selection by name or by folder."""

import numpy as np
import pytest

from tests.datasets.billiards.tiny_tables import TINY, assert_same, examples
from tnet_keras.datasets import BILLIARD_LABELS, load, load_billiards, write_billiards


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "tables"
    write_billiards(path, {"train": 6, "test": 5}, seed=0, config=TINY)
    return path


def test_drawn_and_written_tables_are_the_same(folder):
    drawn = load_billiards("billiards", "test", 240, 2, num_examples=5, with_boxes=True)
    read = load_billiards(folder, "test", (240, 240), 2, with_boxes=True)
    assert drawn[1:] == read[1:] == (tuple("123456789"), 5)
    assert_same(examples(drawn.dataset, 5), examples(read.dataset, 5))


def test_counts_and_class_names():
    assert load_billiards("billiards", "train", 320, 4).num_examples is None
    assert load_billiards("billiards", "validation", 320, 4).num_examples == 2000
    assert load_billiards("billiards", "train", 320, 4, num_examples=12).num_examples == 12
    for label, classes in BILLIARD_LABELS.items():
        names = load_billiards("billiards", "test", 320, 4, label=label).class_names
        assert len(names) == classes
    assert names[0] == "1"
    sums = load_billiards("billiards", "test", 320, 4, label="sum_modulo_10").class_names
    assert sums == tuple("0123456789")


def test_a_name_leads_there_from_load():
    data = load("billiards", "test", 240, 3, seed=4, num_examples=3, with_boxes=True)
    same = load_billiards("billiards", "test", 240, 3, seed=4, num_examples=3, with_boxes=True)
    assert_same(examples(data.dataset, 3), examples(same.dataset, 3))


def test_small_tables_have_small_balls():
    for size, low, high in ((320, 34, 40), (1000, 52, 68)):
        data = load_billiards("billiards", "test", size, 2, num_examples=2, with_boxes=True)
        boxes = examples(data.dataset, 2)[2]
        sides = boxes[..., 2:] - boxes[..., :2]
        assert np.all((low - 0.01 <= sides) & (sides <= high + 0.01))


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("/no/such/tables", 240, "/no/such/tables"),
        ("billiards", (240, 320), r"image_size=\(240, 320\)"),
        ("billiards", 100, "image_size=100"),
    ],
)
def test_bad_names_and_sizes_are_named(name, size, message):
    with pytest.raises(ValueError, match=f"Received: .*{message}"):
        load_billiards(name, "test", size, 2)


def test_size_of_a_folder_is_its_own(folder):
    with pytest.raises(ValueError, match=r"240 x 240 pixels. Received: image_size=\(320, 320\)"):
        load_billiards(folder, "test", 320, 2)
