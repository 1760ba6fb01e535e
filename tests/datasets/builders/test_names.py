"""The builders' names: known to TFDS, and none that TFDS has itself."""

import importlib.util
import pathlib

import tensorflow_datasets as tfds

from tnet_keras.datasets import builders

OURS = [
    value
    for value in vars(builders).values()
    if isinstance(value, type) and issubclass(value, tfds.core.DatasetBuilder)
]


def test_names_are_known_to_tfds():
    assert OURS
    for builder in OURS:
        assert tfds.builder_cls(builder.name) is builder


def test_no_name_is_one_of_tfds():
    root = pathlib.Path(importlib.util.find_spec("tensorflow_datasets").origin).parent
    # One folder for each of its data sets, and modules of the older ones.
    theirs = {file.stem for file in root.rglob("*.py")} | {file.name for file in root.rglob("*/")}
    assert {"mnist", "imagenet2012"} <= theirs
    assert not [builder.name for builder in OURS if builder.name in theirs]
