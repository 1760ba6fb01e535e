"""Records of the published programs: keys, offsets of labels, names of shards, what is refused."""

import numpy as np
import pytest
import tensorflow as tf

from tests.datasets.original_writer import original_record, write_original_records
from tnet_keras.datasets import read_original_records

FIRST_LABELS = {"imagenet": 1, "fmow": 0, "cub": 1, "nabirds": 0}
LAST_LABELS = {"imagenet": 1000, "fmow": 61, "cub": 200, "nabirds": 554}
BOXES = [[], [(0.25, 0.0, 1.0, 0.5)], [(0.0, 0.5, 0.5, 1.0), (0.125, 0.25, 0.375, 0.5)]]


def records(dataset, count=5):
    """Records whose images are their numbers; label, counted from 0, is twice the number."""
    made = []
    for number in range(count):
        boxes = BOXES[number % 3] if dataset in ("imagenet", "fmow") else None
        label = FIRST_LABELS[dataset] + 2 * number
        made.append(
            original_record(b"%d" % number, label, b"%d.jpg" % number, b"class", boxes=boxes)
        )
    return made


@pytest.mark.parametrize("dataset", FIRST_LABELS)
def test_what_is_written_is_read(tmp_path, dataset):
    one_based = dataset in ("cub", "nabirds")
    write_original_records(tmp_path, "train", records(dataset), 2, one_based)
    write_original_records(tmp_path, "validation", records(dataset, 3), 1, one_based)
    (tmp_path / "labels.txt").write_text("not a shard")
    read = read_original_records(tmp_path, dataset, "train")
    assert read.num_examples == 5 == read.dataset.cardinality()
    examples = list(read.dataset.as_numpy_iterator())
    assert [example["image"] for example in examples] == [b"0", b"1", b"2", b"3", b"4"]
    for number, example in enumerate(examples):
        assert example["label"] == 2 * number and example["label"].dtype == np.int64
        assert example["file_name"] == b"%d.jpg" % number and example["text"] == b"class"
        boxes = BOXES[number % 3] if not one_based else []
        assert example["bboxes"].dtype == np.float32
        np.testing.assert_array_equal(example["bboxes"], np.reshape(boxes, (-1, 4)))
    assert read.dataset.element_spec["bboxes"].shape == (None, 4)
    validation = read_original_records(str(tmp_path), dataset, "validation")
    assert validation.num_examples == 3 == len(list(validation.dataset))
    if dataset == "fmow":
        with pytest.raises(ValueError, match="`path` must hold shards test-00000-of-<number>"):
            read_original_records(tmp_path, dataset, "test")
        write_original_records(tmp_path, "test", records(dataset, 2), 1)
        assert read_original_records(tmp_path, dataset, "test").num_examples == 2
    else:
        assert read_original_records(tmp_path, dataset, "test").num_examples == 3


@pytest.mark.parametrize("dataset", FIRST_LABELS)
def test_last_labels(tmp_path, dataset):
    record = original_record(b"", LAST_LABELS[dataset], b"", b"")
    write_original_records(tmp_path, "train", [record], 1)
    (example,) = read_original_records(tmp_path, dataset, "train").dataset
    assert example["label"] == LAST_LABELS[dataset] - FIRST_LABELS[dataset]
    assert example["bboxes"].shape == (0, 4)


def test_patterns_may_choose_shards(tmp_path):
    folder = tmp_path / "all[1]"
    write_original_records(folder, "train", records("fmow", 6), 3)
    write_original_records(folder, "validation", records("fmow", 1), 1)
    assert read_original_records(folder, "fmow", "train").num_examples == 6
    (folder / "train-00001-of-00003").unlink()
    pattern = str(tmp_path / "all*" / "*")
    read = read_original_records(pattern, "fmow", "train")
    assert [example["image"] for example in read.dataset.as_numpy_iterator()] == [
        b"0", b"1", b"4", b"5",
    ]  # fmt: skip
    assert read_original_records(pattern.replace("/*", "/v*"), "fmow", "validation")[1] == 1


def spoiled(name, change):
    def spoil(folder):
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return spoil


def rewritten(**changes):
    def spoil(folder):
        write_original_records(folder, "train", [records("imagenet")[1] | changes] * 2, 2)

    return spoil


SHARD = "train-00001-of-00002"


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda folder: (folder / SHARD).unlink(), f"must hold all 2 shards .* without {SHARD}"),
        (lambda folder: (folder / SHARD).rename(folder / "train-00001-of-00003"),
         "must hold the shards of one run. .*-of-00002 and -of-00003"),
        (spoiled(SHARD, lambda b: b""), f"{SHARD} holds no records"),
        (spoiled(SHARD, lambda b: b[:-1]), f"{SHARD} is cut off or no TFRecord file, after 1 rec"),
        (spoiled(SHARD, lambda b: b[:5]), f"{SHARD} is cut off or no TFRecord file, after 0 rec"),
        (spoiled("train-00000-of-00002", lambda b: b[:20] + b"???" + b[23:]),
         "train-00000-of-00002 must hold records of tf.train.Example"),
        (rewritten(**{"image/encoded": None}), "the first record lacks the key 'image/encoded'"),
        (rewritten(**{"image/class/label": None}), "lacks the key 'image/class/label'"),
        (rewritten(**{"image/class/label": 0}),
         r"a record of imagenet must be in \[1, 1001\). Received: \[0\]"),
        (rewritten(**{"image/class/label": 1001}), r"Received: \[1001\]"),
        (rewritten(**{"image/class/label": b"1"}), r"Received: \[\]"),
    ],
)  # fmt: skip
def test_bad_input_is_named(tmp_path, spoil, message):
    write_original_records(tmp_path, "train", records("imagenet", 4), 2)
    spoil(tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        read_original_records(tmp_path, "imagenet", "train")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("none", "cub", "train"), "`path` must hold shards train-00000-of-<number> or train-0001"),
        ((".", "fMoW", "train"), "`dataset` must be one of .* Received: dataset='fMoW'"),
        ((".", "cub", "val"), "`split` must be one of"),
    ],
)
def test_bad_arguments_are_named(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        read_original_records(*arguments)


def test_a_later_label_out_of_range_stops_the_stream(tmp_path):
    bad = original_record(b"", 62, b"bad.jpg", b"", boxes=[])
    write_original_records(tmp_path, "train", [*records("fmow", 1), bad], 1)
    stream = iter(read_original_records(tmp_path, "fmow", "train").dataset)
    next(stream)
    with pytest.raises(tf.errors.InvalidArgumentError, match="out of range.*bad.jpg"):
        next(stream)
