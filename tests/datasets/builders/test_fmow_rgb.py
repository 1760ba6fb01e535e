"""fMoW-rgb: labels, boxes, crops, smaller copies, matching of the test set, and what is refused."""

import io
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from tests.datasets.builders.fake_fmow import CATEGORIES, write_fake_fmow
from tnet_keras.datasets.builders import FMOW_LABELS, FmowRgb, FmowRgbConfig, prepare
from tnet_keras.datasets.builders.fmow_rgb import box_with_context
from tnet_keras.datasets.builders.image_files import shrunk_jpeg

SKIP = {"image": tfds.decode.SkipDecoding()}


@pytest.fixture(autouse=True)
def no_progress_bars():
    tfds.disable_progress_bar()
    yield
    tfds.enable_progress_bar()


def read(tmp_path, split, config=None):
    """Examples of a split by file name; image still encoded."""
    builder = FmowRgb(data_dir=tmp_path / "data", config=config)
    if not builder.is_prepared():
        download = tfds.download.DownloadConfig(manual_dir=tmp_path / "manual")
        builder.download_and_prepare(download_config=download)
    examples = list(tfds.as_numpy(builder.as_dataset(split=split, decoders=SKIP)))
    found = {example["file_name"].decode(): example for example in examples}
    assert len(found) == len(examples)
    return found


def edit(path, **changes):
    """Changes keys of a JSON file; None removes a key."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def size_of(contents):
    """(height, width) of an encoded image."""
    return Image.open(io.BytesIO(contents)).size[::-1]


def test_labels_are_in_the_published_order():
    assert len(FMOW_LABELS) == 62 == len(set(FMOW_LABELS))
    rest = [name for name in FMOW_LABELS if name != "impoverished_settlement"]
    assert rest == sorted(rest) and FMOW_LABELS[42] == "impoverished_settlement"
    assert FMOW_LABELS[0] == "airport" and FMOW_LABELS[61] == "zoo"


def test_whole_images_keep_their_bytes_and_have_their_boxes(tmp_path):
    root = write_fake_fmow(tmp_path / "manual", images_per_split={"train": 3, "val": 2, "test": 1})
    for split, name, count in (
        ("train", "train", 9),
        ("validation", "val", 6),
        ("test", "test", 3),
    ):
        found = read(tmp_path, split)
        assert len(found) == count
        for path in (root / name).rglob("*_rgb.jpg"):
            example = found[path.name]
            assert example["image"] == path.read_bytes()
            assert FMOW_LABELS[example["label"]] == path.parts[-3]
            box = json.loads(path.with_suffix(".json").read_text())["bounding_boxes"][1]["box"]
            x, y, w, h = box
            expected = [[y / 32, x / 40, (y + h) / 32, (x + w) / 40]]
            np.testing.assert_allclose(example["bboxes"], expected, atol=1e-6)
    builder = FmowRgb(data_dir=tmp_path / "data")
    assert builder.info.features["label"].names == list(FMOW_LABELS)
    image, label = next(iter(builder.as_dataset(split="test", as_supervised=True)))
    assert image.shape == (32, 40, 3) and image.dtype == tf.uint8 and label.dtype == tf.int64


def test_boxes_are_chosen_and_clipped(tmp_path):
    root = write_fake_fmow(tmp_path / "manual", images_per_split=1)
    boxes = [
        {"category": "airport", "ID": 5, "box": [-4, 8, 14, 100]},
        {"category": "zoo", "ID": 6, "box": [0, 0, 9, 9]},
        {"category": "airport", "ID": -1, "box": [500, 0, 9, 9]},
        {"category": "airport", "ID": 7, "box": [20, 0, 20, 16]},
    ]
    edit(root / "train/airport/airport_0/airport_0_0_rgb.json", bounding_boxes=boxes)
    alone = {"category": "barn", "ID": 0, "box": [10, 8, 20, 16]}  # a dict, not a list
    edit(root / "train/barn/barn_0/barn_0_0_rgb.json", bounding_boxes=alone)
    edit(root / "train/zoo/zoo_0/zoo_0_0_rgb.json", bounding_boxes=[])
    found = read(tmp_path, "train")
    bboxes = {name[:3]: example["bboxes"] for name, example in found.items()}
    np.testing.assert_allclose(bboxes["air"], [[0.25, 0, 1, 0.25], [0, 0.5, 0.5, 1]])
    np.testing.assert_allclose(bboxes["bar"], [[0.25, 0.25, 0.75, 0.75]])
    assert bboxes["zoo"].shape == (0, 4)


def test_large_images_are_made_smaller(tmp_path):
    write_fake_fmow(tmp_path / "manual", images_per_split=1, size=(60, 45))
    limits = {30: (40, 30), 45: (60, 45), 22: (29, 22), 10: (13, 10)}
    whole = read(tmp_path, "train")
    for limit, size in limits.items():
        config = FmowRgbConfig(name=f"full_{limit}", maximum_min_dim=limit)
        found = read(tmp_path, "train", config)
        for name, example in found.items():
            assert size_of(example["image"]) == size
            np.testing.assert_allclose(example["bboxes"], whole[name]["bboxes"])
            if limit == 45:
                assert example["image"] == whole[name]["image"]


def test_smaller_copies_are_one_bilinear_resize_of_a_decoding_at_the_published_ratio():
    pixels = np.random.default_rng(0).integers(0, 256, (150, 180, 3)).astype(np.uint8)
    contents = tf.io.encode_jpeg(pixels, quality=100).numpy()
    for limit, ratio in ((149, 1), (75, 1), (74, 2), (38, 2), (37, 4), (19, 4), (18, 8), (9, 8)):
        decoded = tf.io.decode_jpeg(contents, ratio=ratio)
        expected = tf.round(tf.image.resize(decoded, (limit, round(180 * limit / 150))))
        expected = tf.io.encode_jpeg(tf.cast(expected, tf.uint8), quality=100)
        assert shrunk_jpeg(contents, 150, 180, limit) == expected.numpy()
    assert shrunk_jpeg(contents, 150, 180, 150) is contents


def test_context_grows_by_the_share_of_the_side():
    # Images of 1000 x 100; share of the height decides over rows only, of the width over columns.
    for side, grown in ((500, 37), (499, 49), (400, 40), (399, 59), (300, 45), (299, 74), (200, 50),
                        (199, 99), (100, 50), (99, 99), (10, 10)):  # fmt: skip
        y0, x0, y1, x1 = box_with_context(45, 450, 10, side, 1000, 100)
        assert (y0, y1) == (max(450 - grown, 0), min(450 + side + grown, 1000))
        assert (x0, x1) == (40, 60)
    assert box_with_context(0, 0, 100, 1000, 1000, 100) == (0, 0, 1000, 100)
    assert box_with_context(-3, 990, 8, 30, 1000, 100) == (960, 0, 1000, 13)


def test_crops_are_cut_out_of_the_decoded_image(tmp_path):
    root = write_fake_fmow(tmp_path / "manual", images_per_split=1)
    boxes = [
        {"category": "airport", "ID": 5, "box": [10, 8, 8, 16]},  # shares 0.2 and 0.5
        {"category": "airport", "ID": 6, "box": [10, 8, 2, 16]},
        {"category": "airport", "ID": 7, "box": [10, 8, 16, 2]},
        {"category": "airport", "ID": 8, "box": [30, 20, 3, 3]},
        {"category": "airport", "ID": -1, "box": [10, 8, 8, 16]},
    ]
    edit(root / "train/airport/airport_0/airport_0_0_rgb.json", bounding_boxes=boxes)
    found = read(tmp_path, "train", "cropped")
    assert sorted(found) == [
        "airport_5/airport_0_0_rgb.jpg",
        "airport_8/airport_0_0_rgb.jpg",
        "barn_1000/barn_0_0_rgb.jpg",
        "zoo_1000/zoo_0_0_rgb.jpg",
    ]
    example = found["airport_5/airport_0_0_rgb.jpg"]
    assert size_of(example["image"]) == (18, 12) and example["label"] == 0
    np.testing.assert_array_equal(example["bboxes"], [[0, 0, 1, 1]])
    path = root / "train/airport/airport_0/airport_0_0_rgb.jpg"
    whole = tf.cast(tf.io.decode_jpeg(path.read_bytes()), tf.float32)
    crop = tf.cast(tf.io.decode_jpeg(example["image"]), tf.float32)
    assert np.abs(crop - whole[7:25, 8:20]).mean() < 8
    # 3 pixels are 3/40 and 3/32 of the sides: three pixels more at each end.
    assert size_of(found["airport_8/airport_0_0_rgb.jpg"]["image"]) == (9, 9)


def test_large_crops_are_made_smaller(tmp_path):
    write_fake_fmow(tmp_path / "manual", images_per_split=1)
    config = FmowRgbConfig(name="tiny", cropped=True, maximum_min_dim=12)
    for example in read(tmp_path, "test", config).values():
        assert min(size_of(example["image"])) == 12


@pytest.mark.parametrize("place", [".", "groundtruth"])
def test_the_test_set_as_handed_out_is_matched(tmp_path, place):
    matched = write_fake_fmow(tmp_path / "matched", images_per_split=3)
    root = write_fake_fmow(tmp_path / "manual", images_per_split=3, raw_test=True)
    (root / place).mkdir(exist_ok=True)
    for name in ("test_gt", "test_gt_mapping.json") if place != "." else ():
        shutil.move(root / name, root / place)
    found = read(tmp_path, "test")
    paths = {path.name: path for path in (matched / "test").rglob("*.jpg")}
    assert sorted(found) == sorted(paths)
    for name, example in found.items():
        assert example["image"] == paths[name].read_bytes()
        assert FMOW_LABELS[example["label"]] == paths[name].parts[-3]
        assert example["bboxes"].shape == (1, 4)


def test_sharding_and_same_order_each_time(tmp_path):
    write_fake_fmow(tmp_path / "manual", images_per_split=4)
    orders = []
    for folder in ("a", "b"):
        builder = FmowRgb(data_dir=tmp_path / folder)
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(
                manual_dir=tmp_path / "manual", num_shards=3
            )
        )
        assert builder.info.splits["train"].shard_lengths == [4, 4, 4]
        examples = tfds.as_numpy(builder.as_dataset(split="train"))
        orders.append([example["file_name"] for example in examples])
    assert orders[0] == orders[1] and len(set(orders[0])) == 12


AIRPORT = "train/airport/airport_0/airport_0_0_rgb"


def without(name):
    return lambda root: shutil.rmtree(root / name) if (root / name).is_dir() else (
        root / name
    ).unlink()  # fmt: skip


def with_changes(**changes):
    return lambda root: edit(root / f"{AIRPORT}.json", **changes)


def with_box(**changes):
    box = {"category": "airport", "ID": 1, "box": [1, 2, 3, 4]} | changes
    box = {key: value for key, value in box.items() if value is not None}
    return with_changes(bounding_boxes=[box])


def with_bytes(change):
    def spoil(root):
        path = root / f"{AIRPORT}.jpg"
        path.write_bytes(change(path.read_bytes()))

    return spoil


def renamed(old, new):
    return lambda root: (root / old).rename(root / new)


def copied(old, new):
    def spoil(root):
        shutil.copytree(root / old, root / new)

    return spoil


def emptied(root):
    for path in (root / "val").rglob("*_rgb.jpg"):
        path.unlink()


def as_png(root):
    path = root / f"{AIRPORT}.jpg"
    Image.open(path).save(path, format="png")


@pytest.mark.parametrize(
    "spoil, message",
    [
        (shutil.rmtree, "`manual_dir` must hold fmow-rgb/ of the fMoW-rgb release"),
        (renamed(".", "../fmow-full"), "must hold the folder fmow-rgb of .* with .'fmow-full'."),
        (without("val"), "fmow-rgb must hold val of the fMoW-rgb release"),
        (emptied, "val must hold images <category>/.* Received: a folder without any"),
        (renamed("train/zoo", "train/moon_base"), "moon_base: 'moon_base' is none of the 62"),
        (without(f"{AIRPORT}.json"), f"{AIRPORT}.json is missing"),
        (lambda root: (root / f"{AIRPORT}.json").write_text("{"), "must be a JSON file"),
        (with_changes(img_height=None), f"{AIRPORT}.json lacks the key 'img_height'"),
        (with_changes(bounding_boxes=None), "lacks the key 'bounding_boxes'"),
        (with_changes(img_width=41), "must hold the size of its image. Received: img_height=32, i"),
        (with_box(ID=None), "lacks the key 'ID'"),
        (with_box(category=None), "lacks the key 'category'"),
        (with_box(box=None), "lacks the key 'box'"),
        (with_box(box=[1, 2, 3]), r"a box must have 4 numbers. Received: box=\[1"),
        (with_box(box=[1, 2, 3, "x"]), "must be numbers. Received"),
        (with_box(box=7), "of a box must be numbers. Received: 7"),
        (with_box(box=[40, 2, 3, 3]), "box of ID 1: a box must touch its image of height 32"),
        (with_box(box=[-9, 2, 9, 3]), "a box must touch its image"),
        (with_box(box=[1, 2, -3, 3]), "the sides of a box must not be negative"),
        (with_changes(bounding_boxes=5), "bounding_boxes must be"),
        (with_bytes(lambda contents: b""), f"{AIRPORT}.jpg is empty"),
        (with_bytes(lambda contents: contents[:-300]), f"{AIRPORT}.jpg cannot be decoded"),
        (with_bytes(lambda contents: contents[:9]), f"{AIRPORT}.jpg cannot be decoded"),
        (with_bytes(lambda contents: b"text"), "must be a JPEG image"),
        (as_png, "must be a JPEG image. Received: first bytes b'.x89PNG'"),
        (copied("train/airport/airport_0", "train/airport/airport_1"), "name of another image"),
    ],
)
def test_bad_input_is_named_and_nothing_is_left(tmp_path, spoil, message):
    root = write_fake_fmow(tmp_path / "manual", images_per_split=1)
    spoil(root)
    with pytest.raises(ValueError, match=message) as error:
        prepare("fmow_rgb", tmp_path / "manual", tmp_path / "data")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "data").exists()


def with_mapping(change):
    def spoil(root):
        path = root / "test_gt_mapping.json"
        path.write_text(json.dumps(change(json.loads(path.read_text()))))

    return spoil


@pytest.mark.parametrize(
    "spoil, message",
    [
        (without("test_gt_mapping.json"), "must hold test_gt_mapping.json of the fMoW-rgb release"),
        (with_mapping(lambda entries: {}), "must hold a list"),
        (with_mapping(lambda entries: [{"input": "a"}]), "lacks the key 'output'"),
        (with_mapping(lambda entries: entries[1:]), "0000000 has no category"),
        (with_mapping(lambda entries: [*entries, entries[0]]), "twice"),
        (with_mapping(lambda e: [*e, {"input": "x/zoo_9", "output": "test/9"}]), "9 is missing"),
        (with_mapping(lambda e: [{"input": "x/moon_9", "output": "y"}]), "'moon' is none of the"),
        (without("test_gt/zoo/zoo_0/zoo_0_0_rgb.json"), "zoo_0_0_rgb.json is missing"),
    ],
)
def test_bad_ground_truth_is_named(tmp_path, spoil, message):
    root = write_fake_fmow(tmp_path / "manual", images_per_split=1, raw_test=True)
    spoil(root)
    with pytest.raises(ValueError, match=message) as error:
        prepare("fmow_rgb", tmp_path / "manual", tmp_path / "data")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "data").exists()


def test_crops_need_a_box(tmp_path):
    root = write_fake_fmow(tmp_path / "manual", images_per_split=1)
    for path in (root / "val").rglob("*.json"):
        edit(path, bounding_boxes=[])
    with pytest.raises(ValueError, match="val holds no box that can be cut out"):
        prepare("fmow_rgb", tmp_path / "manual", tmp_path / "data", "cropped")
    assert not (tmp_path / "data").exists()
    counts = prepare("fmow_rgb", tmp_path / "manual", tmp_path / "data")
    assert counts == {"train": 3, "validation": 3, "test": 3}


def test_limit_is_checked(tmp_path):
    write_fake_fmow(tmp_path / "manual", images_per_split=1)
    config = FmowRgbConfig(name="none", maximum_min_dim=0)
    with pytest.raises(ValueError, match="`maximum_min_dim` must be at least 1"):
        read(tmp_path, "train", config)


def test_fake_categories_differ(tmp_path):
    write_fake_fmow(tmp_path / "manual", images_per_split=2, size=(64, 64))
    builder = FmowRgb(data_dir=tmp_path / "data")
    download = tfds.download.DownloadConfig(manual_dir=tmp_path / "manual")
    builder.download_and_prepare(download_config=download)
    colours = {}
    for image, label in tfds.as_numpy(builder.as_dataset(split="train", as_supervised=True)):
        colours.setdefault(FMOW_LABELS[label], []).append(image.mean((0, 1)).argmax())
    assert set(colours) == set(CATEGORIES) and len({tuple(x) for x in colours.values()}) == 3
