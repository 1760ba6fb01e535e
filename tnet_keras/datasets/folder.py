"""Images in class sub-folders as a `tf.data` stream."""

import hashlib
import numbers
import os
import re
import warnings
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from tnet_keras.datasets.bad_images import BadImages
from tnet_keras.datasets.encoded_images import EncodedImages, check_reading, image_batches
from tnet_keras.datasets.streams import SPLITS, check_shard, check_stream, example_order
from tnet_keras.ops.decode import MAX_PIXELS

EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
# First bytes of a file: BMP, JPEG, PNG, RIFF....WEBP. Names do not matter, contents do.
_SIGNATURES = re.compile(rb"BM|\xff\xd8\xff|\x89PNG\r\n\x1a\n|RIFF....WEBP", re.DOTALL)
# Images that people have, and that this reader does not read.
_OTHER_IMAGES = (
    ".tif", ".tiff", ".gif", ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".dcm", ".dicom",
    ".svs", ".ndpi", ".dng", ".ppm", ".pgm", ".exr",
)  # fmt: skip
_SPLIT_FOLDERS = {"train": ("train",), "validation": ("val", "validation"), "test": ("test",)}


class ImageFolder(NamedTuple):
    """A stream of labelled images read from a folder.

    Fields:
        dataset: `tf.data.Dataset` of `[B, H, W, 3]` uint8 images and `[B]` int32 labels.
        class_names: tuple of str; the label is the position in it.
        num_examples: int, images in the split, or in the worker's part of it.
        bad_images: `BadImages` with `on_bad_image="skip"`, else None.
        names: function from a `range` of positions in the stream to their files, a list of str.
        begin: function from a position to `dataset` from there on.
    """

    dataset: tf.data.Dataset
    class_names: tuple
    num_examples: int
    bad_images: BadImages | None = None
    names: Callable | None = None
    begin: Callable | None = None


def image_folder(
    path, image_size, batch_size, split="train", training=None, seed=0, start=0,
    augmentation="crop_flip", on_bad_image="error", cache="none", shard=(0, 1),
    cache_dir=None, max_pixels=MAX_PIXELS,
):  # fmt: skip
    """Reads PNG, JPEG, WebP and BMP images from class sub-folders.

    Two layouts are known: `path/{train,val|validation,test}/<class>/...`, and `path/<class>/...`,
    of which each class is then cut 80 / 10 / 10 % (at least one image each) in an order that
    depends on `seed` and the names of files only, so that further files move few of those that
    were there. Classes are numbered in the order of their sorted names. Hidden files and files with
    other extensions are ignored, and what is in further sub-folders. The whole image is resized
    bilinearly without antialiasing, aspect ratio not kept, as in the evaluation of TNet.

    Args:
        path: str or path-like, the data folder.
        image_size: int or (height, width), pixels.
        batch_size: int >= 1. Training streams hold full batches only.
        split: "train", "validation" or "test".
        training: bool, or None for `split == "train"`. Training streams never end, each pass in
            its own order, and are augmented; others are one pass in order.
        seed: int >= 0, of the split, the order and the augmentation.
        start: int, how many examples of the stream to leave out (to resume).
        augmentation: str, what happens to training images, a key of `AUGMENTATIONS`: "none";
            "crop_flip" (85-100 % of the area, aspect ratio 0.5-2, flipped at random); ...
        on_bad_image: "error": files whose first bytes are no image are refused at once, others
            end the stream when they are read. "skip": they are left out, see `bad_images`.
        cache: "none"; or to read all files at once and keep them, encoded, "memory" or "disk": in
            one file, which is quicker where many small files lie far away.
        shard: (index, count): of every `count` files, the worker `index` reads one.
        cache_dir: str or path-like, folder for the cache "disk". What was kept there of the same
            files is read; nothing is ever removed that is whole.
        max_pixels: int >= 1, largest height * width of an image.

    Returns:
        `ImageFolder`.

    Raises:
        ValueError: if an argument is out of range, the folder is missing, unreadable or empty, has
            fewer than two classes, a class has no image (or, in the second layout, fewer than
            three), a split is missing, splits hold different classes, there are too few images
            for a batch, or a file is no image.

    Warns:
        UserWarning: if a class folder holds images that are not read: of other kinds, or in
            sub-folders.

    Example:
        for number, name in enumerate(["cat", "dog"] * 3):  # three tiny images of each class
            os.makedirs(f"photos/{name}", exist_ok=True)
            pixels = tf.fill((4, 4, 3), tf.cast(40 * number, tf.uint8))
            tf.io.write_file(f"photos/{name}/{number}.png", tf.io.encode_png(pixels))
        data = image_folder("photos", image_size=(448, 448), batch_size=2)
        images, labels = next(iter(data.dataset))
    """
    image_size = check_image_size(image_size)
    training = check_stream(split, training, batch_size, seed, start)
    check_reading(
        augmentation, on_bad_image, cache, cache_dir=cache_dir, max_pixels=max_pixels
    )
    files, class_names = _find_files(os.fspath(path), split, seed)
    shard = check_shard(shard, len(files))
    files = files[shard[0] :: shard[1]]
    if on_bad_image == "error":
        for file, _ in files:
            _check_signature(file)
    names = tf.constant([os.fsencode(file) for file, _ in files])
    labels = tf.constant([label for _, label in files], tf.int32)

    def order(endless, seed, start):
        return example_order(len(files), endless, seed, start)

    def fetch(index):
        return {
            "image": tf.io.read_file(names[index]), "label": labels[index],
            "name": names[index], "index": index,
        }  # fmt: skip

    def identity():
        stats = [os.stat(file) for file, _ in files]
        return files, [(stat.st_size, stat.st_mtime_ns) for stat in stats]

    data = image_batches(
        EncodedImages(order, fetch, len(files), class_names, identity), image_size, batch_size,
        training, seed, start, augmentation, on_bad_image=on_bad_image, cache=cache, shard=shard,
        cache_dir=cache_dir, max_pixels=max_pixels,
    )  # fmt: skip
    return ImageFolder(*data)


def check_image_size(image_size):
    """(height, width) from an int or a pair.

    Args:
        image_size: int or pair of int, pixels.

    Returns:
        Tuple of two ints.

    Raises:
        ValueError: unless both are positive integers.
    """
    pair = (
        (image_size, image_size) if isinstance(image_size, numbers.Integral) else tuple(image_size)
    )
    if len(pair) != 2 or not all(isinstance(side, numbers.Integral) and side > 0 for side in pair):
        raise ValueError(
            "`image_size` must be a positive int or (height, width). "
            f"Received: image_size={image_size}"
        )
    return int(pair[0]), int(pair[1])


def _sub_folders(path):
    try:
        with os.scandir(path) as entries:
            return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except OSError as error:
        raise ValueError(
            f"`path` must be a readable folder ({error.strerror}). Received: path={path!r}"
        ) from error


def _images_in(path):
    try:
        with os.scandir(path) as entries:
            entries = [entry for entry in entries if not entry.name.startswith(".")]
        found = sorted(
            entry.path
            for entry in entries
            if entry.is_file() and entry.name.lower().endswith(EXTENSIONS)
        )
    except OSError as error:
        raise ValueError(
            f"`path` holds a class folder that cannot be read ({error.strerror}). "
            f"Received: path={path!r}"
        ) from error
    if not found:
        raise ValueError(
            "Every class must hold at least one image "
            f"({', '.join(EXTENSIONS)}). Received: class folder {path!r} without any"
        )
    folders = sum(entry.is_dir() for entry in entries)
    others = sum(entry.name.lower().endswith(_OTHER_IMAGES) for entry in entries)
    if folders or others:
        warnings.warn(
            f"Only {', '.join(EXTENSIONS)} files right in a class folder are read. Received: "
            f"{path!r} with {others} images of other kinds and {folders} sub-folders beside "
            f"{len(found)} images",
            stacklevel=2,
        )
    return found


def _classes_of(path, received):
    classes = _sub_folders(path)
    if len(classes) < 2:
        raise ValueError(
            "`path` must hold at least two class folders. "
            f"Received: path={received!r} with classes {classes}"
        )
    return classes


def _find_files(path, split, seed):
    """List of (file, label) of one split, and the class names."""
    folders = _sub_folders(path)
    if not folders:
        raise ValueError(
            "`path` must hold class folders, or train, validation and test folders of them. "
            f"Received: path={path!r} without any folder"
        )
    if "train" in folders:
        present = [name for name in _SPLIT_FOLDERS[split] if name in folders]
        if not present:
            raise ValueError(
                f"`path` has no folder for split {split!r} (one of {_SPLIT_FOLDERS[split]}), which "
                "it must have because it has one called 'train'. "
                f"Received: path={path!r} with {folders}"
            )
        classes = _classes_of(os.path.join(path, "train"), path)
        here = os.path.join(path, present[0])
        if (found := _sub_folders(here)) != classes:
            differing = sorted(set(found) ^ set(classes))
            raise ValueError(
                "All splits must hold the same class folders. "
                f"Received: {here!r} and its train folder differ in {differing}"
            )
        listed = [_images_in(os.path.join(here, name)) for name in classes]
    else:
        classes = _classes_of(path, path)
        listed = [_images_in(os.path.join(path, name)) for name in classes]
        listed = [
            _cut(images, split, f"{seed}/{name}/")
            for name, images in zip(classes, listed, strict=True)
        ]
    files = [(file, label) for label, images in enumerate(listed) for file in images]
    return files, tuple(classes)


def _cut(images, split, salt):
    """The part of one class's images that belongs to a split: 80 / 10 / 10 %, none empty."""
    if len(images) < 3:
        raise ValueError(
            "A class must hold at least three images to be cut into train, validation and test. "
            f"Received: class folder {os.path.dirname(images[0])!r} with {len(images)}"
        )

    def rank(file):
        name = os.fsencode(salt + os.path.basename(file))
        return hashlib.blake2b(name, digest_size=8).digest()

    part = max(1, round(0.1 * len(images)))
    order = sorted(images, key=rank)
    pieces = (order[2 * part :], order[:part], order[part : 2 * part])
    return sorted(pieces[SPLITS.index(split)])


def _check_signature(file):
    """Raises ValueError unless the file starts like an image that can be decoded."""
    try:
        with open(file, "rb") as stream:
            first = stream.read(16)
    except OSError as error:
        raise ValueError(
            f"Every image must be readable ({error.strerror}). Received: {file!r}"
        ) from error
    if not _SIGNATURES.match(first):
        raise ValueError(
            "Every image must be a PNG, JPEG, WebP or BMP file by its contents. "
            f"Received: {file!r} starting with {first!r}"
        )
