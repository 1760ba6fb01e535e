"""Data sets that TFDS has prepared, as encoded images in an order that can begin anywhere."""

import tensorflow as tf

from tnet_keras.datasets.encoded_images import EncodedImages
from tnet_keras.datasets.streams import check_shard, endless_passes, seeded_shuffle

#: What TFDS calls our splits. ImageNet publishes no labels for its test images: the validation
#: images are what papers report. The birds have no validation split: their test images are looked
#: at.
TFDS_SPLITS = {
    "imagenet2012": {"train": "train", "validation": "validation", "test": "validation"},
    "caltech_birds2011": {"train": "train", "validation": "test", "test": "test"},
    "nabirds": {"train": "train", "validation": "test", "test": "test"},
    "fmow_rgb": {"train": "train", "validation": "validation", "test": "test"},
    "swedish_traffic_signs": {"train": "train", "validation": "validation", "test": "test"},
    "kubric_billiards": {"train": "train", "validation": "validation", "test": "test"},
    "attention_sampling_mnist": {"train": "train", "validation": "validation", "test": "test"},
}
_BOXES, _NAMES = ("bboxes", "bbox"), ("file_name", "image/filename")
_SHUFFLE_BUFFER = 10_000  # Encoded images, as in the original's training.
_PARALLEL_FILES = 16


def is_tfds_name(name):
    """Whether a name, or what stands before its `/`, is a key of `TFDS_SPLITS`."""
    return name.partition("/")[0] in TFDS_SPLITS


def tfds_images(name, split, data_dir=None, shard=(0, 1)):
    """Opens a split of a data set that TFDS has prepared.

    A training stream shuffles the files, reads up to 16 side by side, and shuffles 10,000
    examples, all by numbers that are a function of the seed and the pass. To begin in the middle
    of a pass, the encoded examples before it are read, but not decoded.

    Args:
        name: str, a key of `TFDS_SPLITS`, with `/` and a configuration behind it if not the first.
        split: "train", "validation" or "test".
        data_dir: where TFDS keeps its data; None: its default.
        shard: (index, count): the worker `index` reads one of `count` equal parts.

    Returns:
        `EncodedImages`.

    Raises:
        ValueError: if the configuration is unknown, the data or the split are not prepared, are
            kept in another format than TFRecord, or `shard` is out of range.
    """
    # Imported here: TFDS takes a third of a second that other data sets need not pay.
    import tensorflow_datasets as tfds

    from tnet_keras.datasets import builders  # noqa: F401 (makes their names known)

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (ValueError, tfds.core.DatasetNotFoundError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"`name` must be a data set and a configuration that TFDS knows ({reason}). "
            f"Received: name={name!r}"
        ) from error
    source = TFDS_SPLITS[builder.name][split]
    if not builder.is_prepared() or source not in builder.info.splits:
        raise ValueError(
            f"`data_dir` must hold {name} prepared by TFDS (its files may need a manual "
            f"download, see the TFDS catalogue), with split {source!r}. "
            f"Received: data_dir={str(builder.data_path)!r}"
        )
    if builder.info.file_format.value != "tfrecord":
        raise ValueError(
            f"`data_dir` must hold {name} as TFRecord files. "
            f"Received: data_dir={str(builder.data_path)!r} with {builder.info.file_format.value}"
        )
    shard = check_shard(shard, builder.info.splits[source].num_examples)
    part = builder.info.splits[tfds.even_splits(source, n=shard[1])[shard[0]]]
    return EncodedImages(
        _order(part.file_instructions), _fetch(builder.info.features), part.num_examples,
        tuple(builder.info.features["label"].names),
        lambda: _identity(builder, part.file_instructions),
    )  # fmt: skip


def _identity(builder, instructions):
    files = [(str(one.filename), one.skip, one.take) for one in instructions]
    stats = [tf.io.gfile.stat(file) for file, _, _ in files]
    return builder.info.full_name, files, [(stat.length, stat.mtime_nsec) for stat in stats]


def _order(instructions):
    """The order of `EncodedImages`, of parts of TFRecord files."""
    files = tf.constant([str(one.filename) for one in instructions])
    skips = tf.constant([one.skip for one in instructions], tf.int64)
    takes = tf.constant([one.take for one in instructions], tf.int64)
    takes = tf.where(takes < 0, [one.examples_in_shard for one in instructions] - skips, takes)
    firsts = tf.cumsum(takes, exclusive=True)
    count = int(tf.reduce_sum(takes))

    def examples(file):
        records = tf.data.TFRecordDataset(files[file]).skip(skips[file]).take(takes[file])
        return records.enumerate(firsts[file])

    def read(numbers):
        return tf.data.Dataset.from_tensor_slices(numbers).interleave(
            examples, cycle_length=_PARALLEL_FILES, num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )  # fmt: skip

    every = tf.range(len(instructions))

    def order(endless, seed, start):
        if not endless:
            one_pass = tf.data.Dataset.zip((tf.data.Dataset.range(count), read(every)))
            return one_pass.skip(start)

        def one_pass(number):
            shuffled = tf.random.experimental.stateless_shuffle(every, seed=[seed, number])
            return seeded_shuffle(read(shuffled), min(_SHUFFLE_BUFFER, count), (seed, number + 1))

        return endless_passes(one_pass, count, start)

    return order


def _fetch(features):
    """The fetch of `EncodedImages`, of serialised examples of TFDS."""
    import tensorflow_datasets as tfds

    boxes = next((key for key in _BOXES if key in features), None)
    name = next((key for key in _NAMES if key in features), None)
    wanted = {key: True for key in ("image", "label", boxes, name) if key}
    decoders = tfds.decode.PartialDecoding(wanted, {"image": tfds.decode.SkipDecoding()})

    def fetch(index, serialized):
        parts = decoders.extract_features(features)
        example = parts.deserialize_example(serialized, decoders=decoders.decoders)
        found = {"image": example["image"], "label": example["label"], "index": index}
        found["name"] = example[name] if name else tf.strings.as_string(index)
        if boxes:
            found["boxes"] = tf.reshape(example[boxes], (-1, 4))
        return found

    return lambda element: fetch(*element)
