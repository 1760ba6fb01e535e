"""Megapixel MNIST on disk, sparse: one `<split>.npz` each, written whole or not at all.

An image is all but black, so that only its inked pixels are kept: their flat positions and values.
"""

import os
import zipfile
import zlib

import numpy as np
import tensorflow as tf

from tnet_keras.datasets.megapixel_mnist.scenes import (
    LARGEST,
    MegapixelMnistConfig,
    MegapixelMnistScenes,
)
from tnet_keras.datasets.needle_scenes import NUM_CLASSES
from tnet_keras.datasets.new_folder import check_counts, new_folder

# What a file of the sparse images holds: types and numbers of axes.
_PARTS = {
    "image_size": (np.int32, 0), "offsets": (np.int64, 1), "indices": (np.int32, 1),
    "values": (np.uint8, 1), "labels": (np.int32, 1), "boxes": (np.float32, 3),
}  # fmt: skip


def sparse_image(image):
    """Keeps the pixels of an image that are not black.

    Args:
        image: `[S, S]` uint8.

    Returns:
        Tuple of `[N]` int32, rising positions in the flattened image, and `[N]` uint8, values.
    """
    indices = np.flatnonzero(image != 0).astype(np.int32)  # Of truth values: ten times as fast.
    return indices, image.ravel()[indices]


def dense_image(indices, values, image_size):
    """Inverse of `sparse_image`.

    Args:
        indices: `[N]` int32, different positions in the flattened image: array or tensor.
        values: `[N]` uint8, alike.
        image_size: int, side of the image in pixels.

    Returns:
        `[S, S]` uint8, black elsewhere: a tensor if `indices` is one, else an array.
    """
    if tf.is_tensor(indices):
        flat = tf.scatter_nd(indices[:, None], values, [image_size * image_size])
        return tf.reshape(flat, (image_size, image_size))
    flat = np.zeros(image_size * image_size, np.uint8)
    flat[indices] = values
    return flat.reshape(image_size, image_size)


def write_megapixel_mnist(path, counts, seed=0, config=None, source="auto"):
    """Draws images and writes them, sparse, to a new folder: one `<split>.npz` each.

    Written to a temporary folder beside it, which is renamed when it is complete: an error, a full
    disk or Ctrl-C leaves nothing behind. `about.json` says how the images were drawn and where the
    digits come from. 5,000 images of the published task take about 45 MB.

    Args:
        path: str or path-like, the folder to make; must not exist.
        counts: dict from "train", "validation" or "test" to the number of images; at least one
            must be positive.
        seed: int >= 0; the images are those of `megapixel_mnist` with the same seed.
        config: `MegapixelMnistConfig` or None for its defaults.
        source: where the digits come from, as of `mnist_digits`.

    Raises:
        ValueError: if an argument is out of range, the folder exists or cannot be made, or the
            source does not hold the digits.

    Example:
        config = MegapixelMnistConfig.easy()
        write_megapixel_mnist("few_digits", {"test": 3}, config=config, source="sklearn")
    """
    check_counts(counts, seed, "image")
    config = MegapixelMnistConfig() if config is None else config
    drawn = {k: MegapixelMnistScenes(config, k, seed, source) for k in counts if counts[k]}
    sources = {split: scenes.digits.source for split, scenes in drawn.items()}
    about = {"config": config.get_config(), "seed": seed, "sources": sources}
    with new_folder(path, about) as folder:
        size = np.int32(config.image_size)
        for split, scenes in drawn.items():
            parts = _draw_all(scenes, counts[split])
            np.savez_compressed(folder / f"{split}.npz", image_size=size, **parts)


def _draw_all(scenes, count):
    """Images 0 to `count` - 1 one after the other; `offsets` says where each begins and ends."""
    layouts = [scenes.layout(index) for index in range(count)]
    indices, values = zip(*(sparse_image(scenes.draw(each)) for each in layouts), strict=True)
    return {
        "offsets": np.cumsum([0, *map(len, indices)], dtype=np.int64),
        "indices": np.concatenate(indices),
        "values": np.concatenate(values),
        "labels": np.array([each.label for each in layouts], np.int32),
        "boxes": np.stack([each.boxes for each in layouts]),
    }


def find_images(path, split):
    """Reads and checks the file of one split.

    Args:
        path: str or path-like, the folder.
        split: "train", "validation" or "test".

    Returns:
        Dict of arrays: `image_size`, a scalar int32; `offsets`, `[N + 1]` int64, where the pixels
        of each of the N images begin and end; `indices` and `values`, `[P]` int32 and uint8, the
        pixels of all images as of `sparse_image`; `labels`, `[N]` int32; `boxes`, `[N, M, 4]`
        float32 in pixels.

    Raises:
        ValueError: if the file is missing, unreadable or broken; names it.
    """
    file = os.path.join(os.fspath(path), f"{split}.npz")
    try:
        # Opened here: NumPy leaves files open that are no whole archive.
        with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
            parts = {name: archive[name] for name in _PARTS}
    except KeyError as error:
        raise ValueError(f"{file!r} must hold {', '.join(_PARTS)}. {error.args[0]}") from error
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"Every .npz file must be whole ({reason}). Received: {file!r}") from error
    if wrong := _wrong(**parts):
        raise ValueError(f"{wrong}. Received: {file!r}")
    return parts


def _wrong(**parts):
    """Which rule the arrays of a file break, or None."""
    for name, (dtype, axes) in _PARTS.items():
        if parts[name].dtype != dtype or parts[name].ndim != axes:
            return f"`{name}` must be {np.dtype(dtype)} with {axes} axes"
    image_size, offsets, indices, values, labels, boxes = (parts[name] for name in _PARTS)
    if not 1 <= image_size <= LARGEST:
        return f"`image_size` must be within 1 and {LARGEST}"
    if len(offsets) < 2 or offsets[0] != 0 or (np.diff(offsets) < 0).any():
        return "`offsets` must rise from 0 and hold at least one image"
    if not offsets[-1] == len(indices) == len(values):
        return "`indices` and `values` must be as many as `offsets` say"
    if not len(offsets) - 1 == len(labels) == len(boxes) or boxes.shape[2] != 4:
        return "Every image must have a label, and boxes of four numbers"
    if labels.min() < 0 or labels.max() >= NUM_CLASSES:
        return f"`labels` must be in [0, {NUM_CLASSES})"
    if indices.size and not 0 <= indices.min() <= indices.max() < int(image_size) ** 2:
        return f"`indices` must lie in the image of {image_size} x {image_size} pixels"
    rises = np.diff(indices, prepend=-1) > 0
    rises[offsets[:-1][offsets[:-1] < len(indices)]] = True  # The first pixel of each image.
    return None if rises.all() else "`indices` must rise within each image"
