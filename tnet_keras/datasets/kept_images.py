"""Encoded images read once and kept: in memory, or in one file beside a run."""

import contextlib
import errno
import hashlib
import os
import pathlib
import shutil
import tempfile
import zipfile

import numpy as np
import tensorflow as tf

from tnet_keras.datasets.streams import example_order

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_IMAGES, _INDEX = "images.bin", "index.npz"


def in_memory(encoded):
    """Reads all encoded images at once, so that any order costs no more reading.

    Args:
        encoded: `EncodedImages`.

    Returns:
        `EncodedImages` with the examples of the first one; each pass of a training stream is a
        permutation of all.
    """
    ragged = _one_pass(encoded).map(
        lambda example: {
            key: tf.RaggedTensor.from_tensor(value) if key == "boxes" else value
            for key, value in example.items()
        }
    )
    together = next(iter(ragged.ragged_batch(encoded.num_examples)))

    def fetch(index):
        example = {key: value[index] for key, value in together.items()}
        if "boxes" in example:
            example["boxes"] = tf.reshape(example["boxes"].flat_values, (-1, 4))
        return example

    return _any_order(encoded, fetch)


def on_disk(encoded, folder):
    """Copies all encoded images to one file, so that any order reads from there.

    The file appears whole or not at all, in a sub-folder named by what the images are of: other
    data, another split, or files that have changed are another one, and a second run only reads.
    Processes that need the same one at the same time wait for the first. What a killed process left
    half-written, and what has been damaged since, is removed and written anew.

    Args:
        encoded: `EncodedImages`.
        folder: str or path-like, where such files are; it need not exist.

    Returns:
        `EncodedImages`, as of `in_memory`.

    Raises:
        OSError: if the file cannot be written.
    """
    name = hashlib.sha256(repr(encoded.identity()).encode()).hexdigest()[:16]
    kept = pathlib.Path(folder) / name
    parts = _read_index(kept)
    if parts is None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with _alone(kept.with_name(f".{name}.lock")) as alone:
            if _read_index(kept) is None:
                _write(encoded, kept, alone)
        parts = _read_index(kept)
    if parts is None:
        raise OSError(f"What was kept of the images could not be read back. Received: {kept}")
    # Open for as long as the process: a worker that is done may remove the folder.
    images = os.open(kept / _IMAGES, os.O_RDONLY)
    ends, box_ends = (tf.constant(parts.pop(key)) for key in ("ends", "box_ends"))
    boxes = tf.constant(parts.pop("boxes"))
    together = {key: tf.constant(value) for key, value in parts.items()}

    def read(begin, end):
        return os.pread(images, end - begin, begin)

    def fetch(index):
        example = {key: value[index] for key, value in together.items()}
        arguments = [ends[index], ends[index + 1]]
        image = tf.numpy_function(read, arguments, tf.string, stateful=False)
        example["image"] = tf.ensure_shape(image, ())
        if box_ends.shape[0] > 1:
            example["boxes"] = boxes[box_ends[index] : box_ends[index + 1]]
        return example

    return _any_order(encoded, fetch)


def _one_pass(encoded):
    return encoded.order(endless=False, seed=0, start=0).map(
        lambda _, element: encoded.fetch(element),
        num_parallel_calls=tf.data.AUTOTUNE, deterministic=True,
    )  # fmt: skip


def _any_order(encoded, fetch):
    def order(endless, seed, start):
        return example_order(encoded.num_examples, endless, seed, start)

    return encoded._replace(order=order, fetch=fetch)


def _read_index(kept):
    """The arrays of an index, or None unless it and the images are there and whole."""
    try:
        # Opened here: NumPy leaves a damaged file open.
        with open(kept / _INDEX, "rb") as file, np.load(file) as archive:
            parts = {key: archive[key] for key in archive.files}
        whole = (kept / _IMAGES).stat().st_size == parts["ends"][-1]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return parts if whole else None


@contextlib.contextmanager
def _alone(path):
    """Waits until no other process is inside; yields whether that is certain."""
    with open(path, "wb") as lock:
        certain = fcntl is not None
        if certain:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError:  # Some file systems have no locks.
                certain = False
        yield certain


def _write(encoded, kept, alone):
    if alone:
        # Whoever began these is no more.
        for path in kept.parent.glob(f".{kept.name}-*"):
            shutil.rmtree(path, ignore_errors=True)
    hidden = pathlib.Path(tempfile.mkdtemp(prefix=f".{kept.name}-", dir=kept.parent))
    try:
        small, ends, box_ends = {}, [0], [0]
        with open(hidden / _IMAGES, "wb") as file:
            for example in _one_pass(encoded).as_numpy_iterator():
                image = example.pop("image")
                file.write(image)
                ends.append(ends[-1] + len(image))
                if "boxes" in example:
                    box_ends.append(box_ends[-1] + len(example["boxes"]))
                for key, value in example.items():
                    small.setdefault(key, []).append(value)
            file.flush()
            os.fsync(file.fileno())
        boxes = np.concatenate([*small.pop("boxes", []), np.zeros((0, 4), np.float32)])
        parts = {key: np.array(values) for key, values in small.items()}
        with open(hidden / _INDEX, "wb") as file:
            np.savez(file, ends=ends, box_ends=box_ends, boxes=boxes, **parts)
            file.flush()
            os.fsync(file.fileno())
        # `mkdtemp` makes folders that only their owner can enter.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(hidden, 0o777 & ~mask)
        if kept.exists():  # damaged
            shutil.rmtree(kept)
        try:
            os.rename(hidden, kept)
        except OSError as error:
            # Without a lock another process may have been as fast, with the same.
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
