"""Drawn data on disk: a new folder appears when it is complete, or not at all."""

import contextlib
import json
import os
import pathlib
import sys
import tempfile

import keras
import tensorflow as tf

from tnet_keras.datasets.streams import check_split


@contextlib.contextmanager
def new_folder(path, about):
    """Makes a folder that appears when it is complete, or not at all.

    What is written goes to a temporary folder beside it, which is renamed at the end: an error, a
    full disk or Ctrl-C leaves nothing behind.

    Args:
        path: str or path-like, the folder; must not exist. Folders above it are made.
        about: dict of JSON types, how its data were made; written to `about.json` in it.

    Yields:
        `pathlib.Path`, the folder to write to.

    Raises:
        ValueError: if `path` exists, or cannot be made.
    """
    path = pathlib.Path(path)
    _check_new(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent)
    except OSError as error:
        raise ValueError(
            f"`path` must be a folder that can be made ({error.strerror}). "
            f"Received: path={str(path)!r}"
        ) from error
    with temporary as outer:
        # A folder inside it: the temporary folder itself is closed to other users.
        inner = pathlib.Path(outer) / path.name
        inner.mkdir()
        (inner / "about.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        yield inner
        _check_new(path)  # Renaming would replace an empty folder that was made meanwhile.
        inner.rename(path)


def _check_new(path):
    if os.path.lexists(path):
        raise ValueError(
            f"`path` must not exist: nothing is overwritten. Received: path={str(path)!r}"
        )


def check_counts(counts, seed, noun):
    """Checks what a folder of drawn data is asked to hold.

    Args:
        counts: dict from splits to how many there shall be.
        seed: must be at least 0.
        noun: What is counted, for the message.

    Raises:
        ValueError: for an unknown split, a negative count, no count at all or a negative seed.
    """
    for split, count in counts.items():
        check_split(split)
        if count < 0:
            raise ValueError(f"`counts` must not be negative. Received: counts={counts}")
    if not any(counts.values()):
        raise ValueError(f"`counts` must ask for at least one {noun}. Received: counts={counts}")
    if seed < 0:
        raise ValueError(f"`seed` must be at least 0. Received: seed={seed}")


def progress_bar(counts, noun):
    """A progress bar over all that is written.

    Args:
        counts: dict from splits to how many there are.
        noun: What is counted.

    Returns:
        `keras.utils.Progbar`.
    """
    # A log file gets a line every ten seconds.
    interval = 0.1 if sys.stdout.isatty() else 10.0
    return keras.utils.Progbar(sum(counts.values()), interval=interval, unit_name=noun)


def encoded_images(draw, count, encode):
    """Draws images, two side by side, and encodes them.

    Args:
        draw: function of an index that returns `[H, W, 3]` uint8, in NumPy.
        count: int, how many.
        encode: function of such a tensor that returns its bytes as a string tensor.

    Returns:
        Iterator over bytes, in order.
    """

    def encoded(index):
        image = tf.numpy_function(draw, [index], tf.uint8, stateful=False)
        image.set_shape((None, None, 3))
        return encode(image)

    images = tf.data.Dataset.range(count).map(encoded, num_parallel_calls=2, deterministic=True)
    return images.prefetch(2).as_numpy_iterator()
