"""The handwritten digits of megapixel MNIST, and where they come from.

MNIST's where it is at hand, else scikit-learn's, enlarged. Nothing is ever downloaded.
"""

import gzip
import os
import struct
import zlib
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from tnet_keras.datasets.megapixel_mnist.stamps import DIGIT_SIZE
from tnet_keras.datasets.needle_scenes import NUM_CLASSES, source_digits
from tnet_keras.datasets.streams import SPLITS, check_split

_IMAGES, _LABELS = "images", "labels"
_IDX = {_IMAGES: 3, _LABELS: 1}  # Number of axes; the magic number is 2048 + that.
_GZIP = b"\x1f\x8b"
_TRAIN_SHARES = (11 / 12, 1 / 12)  # Of MNIST's 60,000 training digits: 55,000 and 5,000.
_LONE_SHARES = (0.6, 0.2, 0.2)


class MnistDigits(NamedTuple):
    """The digits of one split.

    Fields:
        images: `[N, 28, 28]` uint8, ink white (255) on black.
        labels: `[N]` int32 in 0-9; every class occurs.
        source: str, where they come from, for logs and reports.
    """

    images: np.ndarray
    labels: np.ndarray
    source: str


def mnist_digits(split, source="auto"):
    """Finds the digits of one split. No digit is in two splits; nothing is downloaded.

    MNIST's test digits are "test". Its training digits are cut, class by class in a fixed random
    order, into "train" (55,000) and "validation" (5,000). A folder with only one of the two is
    cut 60 / 20 / 20 % in the same way, as scikit-learn's digits are (see `source_digits`).

    Args:
        split: "train", "validation" or "test".
        source: one of

            - "auto": "mnist" if it is prepared, else "sklearn", said in a warning of the log;
            - "mnist": as prepared by TFDS in `$TFDS_DATA_DIR` or `~/tensorflow_datasets`;
            - "sklearn": scikit-learn's 1,797 digits of 8 x 8 pixels, enlarged bilinearly;
            - str or path-like: a folder with the IDX files as published, gzipped or not:
              `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-...`.

    Returns:
        `MnistDigits`; its `source` says which was taken.

    Raises:
        ValueError: if the split is unknown, the source is not there, a file is unreadable, broken
            or does not fit, or a class has no digit in the split; names the file.

    Example:
        digits = mnist_digits("test", source="sklearn")
        print(digits.source, digits.images.shape)
    """
    check_split(split)
    source = os.fspath(source)
    if source == "auto":
        source = "mnist" if _prepared_mnist() else "sklearn"
        if source == "sklearn":
            logging.warning(
                "MNIST is not prepared in %s: taking scikit-learn's digits of 8 x 8 pixels.",
                _tfds_folder(),
            )
    if source == "sklearn":
        return _enlarged_digits(split)
    if source == "mnist":
        digits = _tfds_digits(split)
    elif os.path.isdir(source):
        digits = _folder_digits(source, split)
    else:
        raise ValueError(
            "`source` must be 'auto', 'mnist', 'sklearn' or a folder with MNIST's IDX files. "
            f"Received: source={source!r}"
        )
    missing = np.setdiff1d(np.arange(NUM_CLASSES), digits.labels)
    if missing.size:
        raise ValueError(
            f"`source` must hold digits of every class for each split. Received: source={source!r} "
            f"without a {missing[0]} for {split!r}"
        )
    return digits


def _enlarged_digits(split):
    small, labels, _ = source_digits(split)
    large = tf.image.resize(small[..., None], (DIGIT_SIZE, DIGIT_SIZE), method="bilinear")
    images = np.rint(255.0 * large[..., 0].numpy()).astype(np.uint8)
    return MnistDigits(images, labels, "scikit-learn's 8 x 8 digits, enlarged")


def _tfds_folder():
    return os.path.expanduser(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")


def _prepared_mnist():
    """The folder of the newest MNIST that TFDS prepared, or None.

    Looked for by name: `tfds.builder` would ask the network about a data set it does not find.
    """
    root = os.path.join(_tfds_folder(), "mnist")
    versions = []
    for name in os.listdir(root) if os.path.isdir(root) else ():
        numbers = name.split(".")
        whole = os.path.isfile(os.path.join(root, name, "dataset_info.json"))
        if whole and len(numbers) == 3 and all(number.isdecimal() for number in numbers):
            versions.append((tuple(map(int, numbers)), name))
    return os.path.join(root, max(versions)[1]) if versions else None


def _tfds_digits(split):
    folder = _prepared_mnist()
    if folder is None:
        raise ValueError(
            "`source` 'mnist' needs MNIST prepared by TFDS; a folder with its IDX files can be "
            f"given instead. Received: source='mnist', not found in {_tfds_folder()!r}"
        )
    # Imported here: TFDS takes a third of a second that other sources need not pay.
    import tensorflow_datasets as tfds

    part = "test" if split == "test" else "train"
    whole = tfds.builder_from_directory(folder).as_dataset(split=part, batch_size=-1)
    images = whole["image"].numpy()[..., 0]
    labels = whole["label"].numpy().astype(np.int32)
    return _published_part(images, labels, split, f"MNIST, prepared by TFDS in {folder}")


def _folder_digits(folder, split):
    """The digits of a split from IDX files, by whichever of the two published pairs are there."""
    pairs = {part: _idx_pair(folder, part) for part in ("train", "t10k")}
    pairs = {part: pair for part, pair in pairs.items() if pair}
    if not pairs:
        raise ValueError(
            "`source` must hold MNIST's IDX files (train-images-idx3-ubyte, "
            f"train-labels-idx1-ubyte, t10k-...; or .gz). Received: source={folder!r}"
        )
    if len(pairs) == 2:
        images, labels = _read_pair(*pairs["t10k" if split == "test" else "train"])
        return _published_part(images, labels, split, f"MNIST, IDX files in {folder}")
    (part, pair), *_ = pairs.items()
    images, labels = _read_pair(*pair)
    chosen = _cut(labels, _LONE_SHARES, SPLITS.index(split))
    name = f"MNIST, {part} IDX files in {folder}, cut in three"
    return MnistDigits(images[chosen], labels[chosen], name)


def _published_part(images, labels, split, name):
    """Of MNIST's test digits all, of its training digits the part that belongs to `split`."""
    if split != "test":
        chosen = _cut(labels, _TRAIN_SHARES, SPLITS.index(split))
        images, labels = images[chosen], labels[chosen]
    return MnistDigits(images, labels, name)


def _cut(labels, shares, number):
    """Positions of one part of the digits: each class in a fixed random order, cut by shares."""
    random = np.random.default_rng(20240229)
    chosen = []
    for label in range(NUM_CLASSES):
        # Not in the order of the files: MNIST's writers are not mixed evenly in it.
        members = random.permutation(np.flatnonzero(labels == label))
        cuts = np.rint(np.cumsum(shares)[:-1] * len(members)).astype(int)
        chosen.append(np.split(members, cuts)[number])
    return np.sort(np.concatenate(chosen))


def _idx_pair(folder, part):
    """Paths of the images and the labels of "train" or "t10k", or None if neither is there."""
    found = {}
    for kind, axes in _IDX.items():
        # Some mirrors write a dot instead of the second hyphen.
        names = (f"{part}-{kind}{dash}idx{axes}-ubyte{end}" for dash in "-." for end in ("", ".gz"))
        files = [os.path.join(folder, name) for name in names]
        found[kind] = next((file for file in files if os.path.lexists(file)), None)
    if (found[_IMAGES] is None) != (found[_LABELS] is None):
        kind = _IMAGES if found[_IMAGES] is None else _LABELS
        raise ValueError(
            "`source` must hold images and labels. "
            f"Received: {folder!r} without {part}-{kind}-idx{_IDX[kind]}-ubyte"
        )
    return (found[_IMAGES], found[_LABELS]) if found[_IMAGES] else None


def _read_pair(images_file, labels_file):
    images, labels = _read_idx(images_file, _IMAGES), _read_idx(labels_file, _LABELS)
    if images.shape[1:] != (DIGIT_SIZE, DIGIT_SIZE):
        raise ValueError(
            f"MNIST's images must be {DIGIT_SIZE} x {DIGIT_SIZE}. Received: {images_file!r} of "
            f"{images.shape[1]} x {images.shape[2]}"
        )
    if len(images) != len(labels):
        raise ValueError(
            "Every image must have a label. "
            f"Received: {len(images)} images, {len(labels)} labels in {labels_file!r}"
        )
    if labels.size and labels.max() >= NUM_CLASSES:
        raise ValueError(
            f"MNIST's labels must be 0-9. Received: {labels_file!r} with {labels.max()}"
        )
    return images, labels.astype(np.int32)


def _read_idx(file, kind):
    """The uint8 array of an IDX file, gzipped or not whatever its name: contents decide."""
    try:
        with open(file, "rb") as stream:
            contents = stream.read()
    except OSError as error:
        raise ValueError(
            f"Every IDX file must be readable ({error.strerror}). Received: {file!r}"
        ) from error
    if contents.startswith(_GZIP):
        try:
            contents = gzip.decompress(contents)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(
                f"Every gzip file must be whole ({error}). Received: {file!r}"
            ) from error
    axes = _IDX[kind]
    header, magic = 4 * (1 + axes), struct.pack(">I", 2048 + axes)
    if len(contents) < header or not contents.startswith(magic):
        raise ValueError(
            f"An IDX file of {kind} must begin with {magic.hex()} and {axes} sizes. "
            f"Received: {file!r} beginning with {contents[:4].hex() or 'nothing'}"
        )
    shape = struct.unpack(f">{axes}I", contents[4:header])
    count = int(np.prod(shape, dtype=object))  # Python's ints: broken sizes must not overflow.
    if len(contents) - header != count:
        raise ValueError(
            f"An IDX file must hold what its header says, {' x '.join(map(str, shape))} bytes. "
            f"Received: {file!r} with {len(contents) - header}"
        )
    return np.frombuffer(contents, np.uint8, offset=header).reshape(shape)
