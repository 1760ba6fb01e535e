"""How the tests of the builders prepare a data set, read it back, and look at what is left."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from tests.datasets.reading import assert_same
from tnet_keras.ops.decode import decode_image


def prepare(builder_class, root, config=None, manual=None, **download):
    """Prepares a data set in `root/data` from `root/manual`; returns the builder."""
    builder = builder_class(data_dir=root / "data", config=config)
    manual = root / "manual" if manual is None else manual
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=manual, **download)
    )
    return builder


def read(builder, split, key="file_name"):
    """Examples of a split in the order of a feature; images are left as bytes."""
    decoders = {"image": tfds.decode.SkipDecoding()}
    examples = builder.as_dataset(split=split, decoders=decoders).as_numpy_iterator()
    return sorted(examples, key=lambda example: example[key])


def decoded(examples):
    """The images of examples, as readers of folders give them."""
    return np.stack([decode_image(tf.constant(example["image"]))[0] for example in examples])


def assert_equal_to(examples, images, labels):
    """Asserts that examples have the images and labels of a stream."""
    assert_same((decoded(examples), [example["label"] for example in examples]), (images, labels))


def pixels(boxes, size):
    """Boxes of TFDS in pixels of an image of (height, width)."""
    return boxes * np.float32([*size, *size])


def assert_refused(builder_class, root, message, config=None, manual=None):
    """Asserts that nothing is prepared, in one line, and that nothing is left of the attempt."""
    with pytest.raises(ValueError, match=message) as error:
        prepare(builder_class, root, config, manual)
    assert type(error.value) is ValueError and "\n" not in str(error.value)
    data = root / "data"
    # TFDS makes the folder of its downloads, whether there is anything to download or not.
    files = [str(file) for file in pathlib.Path(data).rglob("*") if file.is_file()]
    assert not files and {file.name for file in data.iterdir()} <= {"downloads"}
