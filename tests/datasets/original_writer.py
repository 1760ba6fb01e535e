"""Writes TFRecords as the published TNet programs do; for tests only."""

import pathlib

import tensorflow as tf


def feature(value):
    """A feature of text, whole numbers or fractions; a list of them is the value itself."""
    values = value if isinstance(value, list) else [value]
    if all(isinstance(item, bytes) for item in values) and values:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if all(isinstance(item, int) for item in values) and values:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def original_record(image, label, name, text, size=(4, 5), boxes=None, **more):
    """One record.

    Args:
        image: bytes.
        label: int as it stands in the record.
        name: bytes, name of the file.
        text: bytes, name of the class.
        size: (height, width).
        boxes: None, or list of (ymin, xmin, ymax, xmax).
        **more: further features, by the last part of their key; None removes one.

    Returns:
        dict from keys to values.
    """
    record = {
        "image/encoded": image, "image/format": b"JPEG", "image/colorspace": b"RGB",
        "image/channels": 3, "image/height": size[0], "image/width": size[1],
        "image/filename": name, "image/class/label": label, "image/class/text": text,
    }  # fmt: skip
    if boxes is not None:
        for place, side in enumerate(("ymin", "xmin", "ymax", "xmax")):
            record[f"image/object/bbox/{side}"] = [float(box[place]) for box in boxes]
        record["image/object/bbox/label"] = [label] * len(boxes)
    return record | more


def write_original_records(folder, split, records, shards, one_based=False):
    """Writes records to shards, in order.

    Args:
        folder: Where to.
        split: "train", "validation" or "test".
        records: list of dicts as of `original_record`.
        shards: How many files.
        one_based: Whether shards are named as for CUB and NABirds: 4 digits, from 1.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        number, digits = (shard + 1, 4) if one_based else (shard, 5)
        path = folder / f"{split}-{number:0{digits}}-of-{shards:0{digits}}"
        with tf.io.TFRecordWriter(str(path)) as writer:
            here = slice(shard * len(records) // shards, (shard + 1) * len(records) // shards)
            for record in records[here]:
                features = {k: feature(v) for k, v in record.items() if v is not None}
                features = tf.train.Features(feature=features)
                writer.write(tf.train.Example(features=features).SerializeToString())
