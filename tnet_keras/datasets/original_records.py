"""The TFRecords that the published TNet programs write, read as a `tf.data` stream."""

import glob
import os
import re
import struct
from typing import NamedTuple

import tensorflow as tf
from google.protobuf.message import DecodeError

from tnet_keras.datasets.streams import check_split


class _Layout(NamedTuple):
    """What differs between the data sets."""

    first_label: int
    num_classes: int
    has_test: bool


_LAYOUTS = {
    "imagenet": _Layout(1, 1000, False),
    "fmow": _Layout(0, 62, True),
    "cub": _Layout(1, 200, False),
    "nabirds": _Layout(0, 555, False),
}
# `train-00000-of-01024` (ImageNet, fMoW: from 0) or `train-0001-of-0016` (CUB, NABirds: from 1).
_SHARD = re.compile(r"(train|validation|test)-(\d{4,5})-of-(\d{4,5})")
_KEYS = ("image/encoded", "image/filename", "image/class/text", "image/class/label")
_SIDES = ("ymin", "xmin", "ymax", "xmax")
_BOXES = "image/object/bbox/"
# A record is the length of its data (8 bytes), a check sum (4), the data, and another check sum.
_HEAD, _TAIL = 12, 4


class OriginalRecords(NamedTuple):
    """One split of the published programs' TFRecords.

    Fields:
        dataset: `tf.data.Dataset` of dicts, see `read_original_records`.
        num_examples: int, records in the split.
    """

    dataset: tf.data.Dataset
    num_examples: int


def read_original_records(path, dataset, split):
    """Reads TFRecords written by the published TNet programs, shard after shard, in order.

    Examples are dicts: `image` (scalar string, the encoded image), `label` (int64, from 0: the 1
    that the records of ImageNet and CUB count from is subtracted), `bboxes` (`[N, 4]` float32,
    (ymin, xmin, ymax, xmax) in [0, 1]; N = 0 for CUB and NABirds), `file_name` and `text` (scalar
    strings; the class's name). Image size, format and synset are in the records, too, but are not
    needed by anything.

    Args:
        path: str or path-like: the folder of the shards, all of which must be there, or a pattern
            such as "records/train-0000*", which may choose some. Both published ways to name
            shards are known: `train-00000-of-01024` from 0, and `train-0001-of-0016` from 1.
        dataset: "imagenet", "fmow", "cub" or "nabirds".
        split: "train", "validation" or "test". Only fMoW has records of its own for "test";
            elsewhere it is the validation set, whose results are the published ones.

    Returns:
        `OriginalRecords`.

    Raises:
        ValueError: if an argument is not one of those named, there is no shard of the split, one is
            missing, empty or cut off, or its first record is none of this data set. While the
            stream is read, a label out of range raises `tf.errors.InvalidArgumentError`.

    Example:
        values = {f"image/{key}": b"..." for key in ("encoded", "filename", "class/text")}
        features = {
            key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
            for key, value in values.items()
        }
        number = tf.train.Int64List(value=[7])
        features["image/class/label"] = tf.train.Feature(int64_list=number)
        record = tf.train.Example(features=tf.train.Features(feature=features))
        with tf.io.TFRecordWriter("train-0001-of-0001") as writer:
            writer.write(record.SerializeToString())
        records = read_original_records(".", "cub", "train")
        assert records.num_examples == 1
        assert next(iter(records.dataset))["label"] == 6
    """
    if dataset not in _LAYOUTS:
        raise ValueError(
            f"`dataset` must be one of {tuple(_LAYOUTS)}. Received: dataset={dataset!r}"
        )
    check_split(split)
    layout = _LAYOUTS[dataset]
    prefix = "validation" if split == "test" and not layout.has_test else split
    files = _find_shards(os.fspath(path), prefix)
    count = sum(_count_records(file) for file in files)
    _check_first(files[0], dataset, layout)
    records = tf.data.TFRecordDataset(files)
    parsed = records.map(
        lambda record: _parse(record, layout),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    return OriginalRecords(parsed.apply(tf.data.experimental.assert_cardinality(count)), count)


def _find_shards(path, prefix):
    """Sorted files of the shards of a split."""
    is_folder = os.path.isdir(path)
    found = {}
    for file in glob.glob(os.path.join(glob.escape(path), "*") if is_folder else path):
        match = _SHARD.fullmatch(os.path.basename(file))
        if match and match[1] == prefix and os.path.isfile(file):
            found[file] = match
    if not found:
        raise ValueError(
            f"`path` must hold shards {prefix}-00000-of-<number> or {prefix}-0001-of-<number>. "
            f"Received: path={path!r} without any"
        )
    if is_folder:
        totals = {match[3] for match in found.values()}
        if len(totals) > 1:
            raise ValueError(
                f"`path` must hold the shards of one run. Received: path={path!r} with {prefix} "
                f"shards -of-{' and -of-'.join(sorted(totals))}"
            )
        (total,) = totals
        first = 1 if len(total) == 4 else 0
        there = {match[2] for match in found.values()}
        expected = [f"{first + i:0{len(total)}}" for i in range(int(total))]
        missing = [number for number in expected if number not in there]
        if missing:
            raise ValueError(
                f"`path` must hold all {int(total)} shards of {prefix}. Received: path={path!r} "
                f"without {prefix}-{missing[0]}-of-{total}"
            )
    return sorted(found)


def _count_records(file):
    """Counts the records of a file by their lengths alone; nothing is decoded."""
    size, position, count = os.path.getsize(file), 0, 0
    with open(file, "rb") as stream:
        while position < size:
            stream.seek(position)
            head = stream.read(_HEAD)
            if len(head) == _HEAD:
                position += _HEAD + struct.unpack("<Q", head[:8])[0] + _TAIL
            if len(head) < _HEAD or position > size:
                raise ValueError(f"{file} is cut off or no TFRecord file, after {count} records")
            count += 1
    if not count:
        raise ValueError(f"{file} holds no records")
    return count


def _check_first(file, dataset, layout):
    """Looks at one record before anything is built."""
    try:
        record = next(iter(tf.data.TFRecordDataset(file))).numpy()
        features = tf.train.Example.FromString(record).features.feature
    except (tf.errors.OpError, DecodeError):  # A false check sum; a record of something else.
        raise ValueError(f"{file} must hold records of tf.train.Example") from None
    for name in _KEYS:
        if name not in features:
            raise ValueError(f"{file}: the first record lacks the key {name!r}")
    labels = features["image/class/label"].int64_list.value
    label = labels[0] - layout.first_label if len(labels) == 1 else -1
    if not 0 <= label < layout.num_classes:
        raise ValueError(
            f"{file}: the label of a record of {dataset} must be in [{layout.first_label}, "
            f"{layout.first_label + layout.num_classes}). Received: {list(labels)}"
        )


def _parse(record, layout):
    known = {key: tf.io.FixedLenFeature((), tf.string) for key in _KEYS}
    known["image/class/label"] = tf.io.FixedLenFeature((), tf.int64)
    # Records of CUB and NABirds lack these keys: that is a list of no boxes, too.
    known |= {_BOXES + side: tf.io.RaggedFeature(tf.float32) for side in _SIDES}
    features = tf.io.parse_single_example(record, known)
    label = features["image/class/label"] - layout.first_label
    in_range = tf.debugging.Assert(
        (label >= 0) & (label < layout.num_classes),
        ["A label is out of range in the record of", features["image/filename"], label],
    )
    with tf.control_dependencies([in_range]):
        label = tf.identity(label)
    return {
        "image": features["image/encoded"],
        "label": label,
        "bboxes": tf.stack([features[_BOXES + side] for side in _SIDES], axis=-1),
        "file_name": features["image/filename"],
        "text": features["image/class/text"],
    }
