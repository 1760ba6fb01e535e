"""Data sets of patch selection by name or by folder: billiards, traffic signs, megapixel MNIST."""

import numpy as np
import pytest

from tests.datasets.billiards.tiny_tables import TINY
from tests.datasets.reading import assert_same, examples
from tnet_keras.datasets import (
    BILLIARD_LABELS,
    TRAFFIC_SIGN_CLASSES,
    BilliardsConfig,
    MegapixelMnistConfig,
    TrafficScenesConfig,
    load,
    load_billiards,
    load_megapixel_mnist,
    load_traffic_signs,
    megapixel_mnist,
    traffic_signs,
    write_billiards,
    write_megapixel_mnist,
    write_traffic_signs,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "tables"
    write_billiards(path, {"train": 6, "test": 5}, seed=0, config=TINY)
    return path


def test_drawn_and_written_tables_are_the_same(folder):
    drawn = load_billiards("billiards", "test", 240, 2, num_examples=5, with_boxes=True)
    read = load_billiards(folder, "test", (240, 240), 2, with_boxes=True)
    assert drawn[1:3] == read[1:3] == (tuple("123456789"), 5)
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


@pytest.mark.parametrize(
    "loader, name, size",
    [
        (load_billiards, "billiards", 240),
        (load_traffic_signs, "traffic_signs", (180, 240)),
        (load_megapixel_mnist, "megapixel_mnist", 200),
    ],
)
def test_a_name_leads_there_from_load(loader, name, size):
    options = {"seed": 4, "num_examples": 3, "with_boxes": True}
    if name == "megapixel_mnist":
        options["source"] = "sklearn"
    data, same = load(name, "test", size, 3, **options), loader(name, "test", size, 3, **options)
    assert data[1:] == same[1:]
    assert_same(examples(data.dataset, 3), examples(same.dataset, 3))
    # Training sets that are looked at in order, once.
    once = load(name, "train", size, 3, training=False, **options)
    assert once.num_examples == 3 and int(once.dataset.cardinality()) == 1


def test_small_tables_have_small_balls():
    for size, low, high in ((320, 34, 40), (1000, 52, 68)):
        data = load_billiards("billiards", "test", size, 2, num_examples=2, with_boxes=True)
        boxes = examples(data.dataset, 2)[2]
        sides = boxes[..., 2:] - boxes[..., :2]
        assert np.all((low - 0.01 <= sides) & (sides <= high + 0.01))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "scenes"
    config = TrafficScenesConfig.small(180, 240)
    write_traffic_signs(path, {"train": 6, "test": 5}, config=config, image_format="png")
    return path


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "digits"
    config = MegapixelMnistConfig.small(200)
    write_megapixel_mnist(path, {"train": 6, "test": 5}, config=config, source="sklearn")
    return path


def test_drawn_and_written_scenes_are_the_same(scenes):
    drawn = load_traffic_signs(
        "traffic_signs", "test", (180, 240), 2, num_examples=5, with_boxes=True
    )
    read = load_traffic_signs(scenes, "test", (180, 240), 2, with_boxes=True)
    assert drawn[1:3] == read[1:3] == (TRAFFIC_SIGN_CLASSES, 5)
    assert_same(examples(drawn.dataset, 5), examples(read.dataset, 5))
    # The other rule may choose the other of two equal signs: same labels, other boxes.
    other = load_traffic_signs(scenes, "test", (180, 240), 2, rule="ats", with_boxes=True)
    assert_same(examples(drawn.dataset, 5)[:2], examples(other.dataset, 5)[:2])


def test_drawn_and_written_digits_are_the_same(digits):
    options = {"source": "sklearn", "with_boxes": True}
    drawn = load_megapixel_mnist("megapixel_mnist", "test", 200, 2, num_examples=5, **options)
    read = load_megapixel_mnist(digits, "test", (200, 200), 2, **options)
    assert drawn[1:3] == read[1:3] == (tuple("0123456789"), 5)
    assert_same(examples(drawn.dataset, 5), examples(read.dataset, 5))
    train = load_megapixel_mnist(digits, "train", 200, 2, start=7)
    assert train.num_examples == 6 and len(train.dataset.element_spec) == 2


def test_counts_of_scenes_and_digits():
    name, size = "traffic_signs", (180, 240)
    assert load_traffic_signs(name, "train", size, 4).num_examples is None
    assert load_traffic_signs(name, "train", size, 4, training=False).num_examples == 2000
    assert load_traffic_signs(name, "validation", size, 4).num_examples == 2000
    assert load_traffic_signs(name, "train", size, 4, num_examples=12).num_examples == 12
    counts = {"train": 5000, "validation": 1000, "test": 1000}
    for split, count in counts.items():
        data = load_megapixel_mnist("megapixel_mnist", split, 200, 4, source="sklearn")
        assert data.num_examples == count
    number = {"source": "sklearn", "num_examples": 7}
    assert load_megapixel_mnist("megapixel_mnist", "train", 200, 4, **number).num_examples == 7


def test_the_size_chooses_the_configuration():
    drawn = load_traffic_signs("traffic_signs", "test", (960, 1280), 1, num_examples=1)
    assert_same(examples(drawn.dataset, 1), examples(traffic_signs("test", 1, num_examples=1), 1))
    options = {"num_examples": 1, "source": "sklearn"}
    for size, config in (
        (1500, MegapixelMnistConfig()),
        (500, MegapixelMnistConfig.small(500)),
    ):
        drawn = load_megapixel_mnist("megapixel_mnist", "test", size, 1, **options)
        same = megapixel_mnist("test", 1, config=config, **options)
        assert_same(examples(drawn.dataset, 1), examples(same, 1))
    easy = MegapixelMnistConfig.easy()
    drawn = load_megapixel_mnist("megapixel_mnist", "test", 500, 1, config=easy, **options)
    assert_same(
        examples(drawn.dataset, 1), examples(megapixel_mnist("test", 1, config=easy, **options), 1)
    )


@pytest.mark.parametrize(
    "loader, name, size, message",
    [
        (load_billiards, "/no/such/tables", 240, "/no/such/tables"),
        (load_billiards, "billiards", (240, 320), r"image_size=\(240, 320\)"),
        (load_billiards, "billiards", 100, "image_size=100"),
        (load_traffic_signs, "/no/such/scenes", (180, 240), "/no/such/scenes"),
        (load_traffic_signs, "traffic_signs", (170, 240), r"image_size=\(170, 240\)"),
        (load_traffic_signs, "traffic_signs", 100, r"image_size=\(100, 100\)"),
        (load_traffic_signs, "traffic_signs", (512, 400), r"image_size=\(512, 400\)"),
        (load_megapixel_mnist, "/no/such/digits", 200, "/no/such/digits"),
        (load_megapixel_mnist, "megapixel_mnist", (200, 300), r"image_size=\(200, 300\)"),
        (load_megapixel_mnist, "megapixel_mnist", 100, "image_size=100"),
    ],
)
def test_bad_names_and_sizes_are_named(loader, name, size, message):
    with pytest.raises(ValueError, match=f"`(name|image_size)`.* Received: .*{message}"):
        loader(name, "test", size, 2)


@pytest.mark.parametrize("loader", [load_billiards, load_traffic_signs, load_megapixel_mnist])
def test_bad_splits_are_named_whether_drawn_or_read(loader, tmp_path):
    for name in (loader.__name__.removeprefix("load_"), tmp_path):
        with pytest.raises(ValueError, match="`split` must be one of .* Received: split='dev'"):
            loader(name, "dev", (240, 240), 2)


def test_bad_rules_are_named_whether_drawn_or_read(scenes):
    for name in ("traffic_signs", scenes):
        with pytest.raises(ValueError, match="`rule` must be one of .* Received: rule='first'"):
            load_traffic_signs(name, "test", (180, 240), 2, rule="first")


@pytest.mark.parametrize(
    "loader, name, config, size",
    [
        (load_billiards, "billiards", BilliardsConfig(), "1000 x 1000"),
        (load_traffic_signs, "traffic_signs", TrafficScenesConfig(), "960 x 1280"),
        (load_megapixel_mnist, "megapixel_mnist", MegapixelMnistConfig.easy(), "500 x 500"),
    ],
)
def test_a_configuration_of_another_size_is_named(loader, name, config, size):
    with pytest.raises(ValueError, match=rf"{size} pixels. Received: image_size=\(240, 240\)"):
        loader(name, "test", 240, 2, config=config)


def test_size_of_a_folder_is_its_own(folder):
    with pytest.raises(ValueError, match=r"240 x 240 pixels. Received: image_size=\(320, 320\)"):
        load_billiards(folder, "test", 320, 2)


def test_sizes_of_other_folders_are_their_own_too(scenes, digits):
    with pytest.raises(ValueError, match=r"180 x 240 pixels. Received: image_size=\(240, 320\)"):
        load_traffic_signs(scenes, "test", (240, 320), 2)
    with pytest.raises(ValueError, match=r"200 x 200 pixels. Received: image_size=\(300, 300\)"):
        load_megapixel_mnist(digits, "test", 300, 2)
