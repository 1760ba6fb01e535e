"""From a folder of image files to a table: one line per image, bad files by name and reason."""

import csv
import glob
import json
import os
import pathlib
import stat
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tnet_keras.export.whole_files import check_new_file, check_writable, whole_files
from tnet_keras.folder_walk import walk_folders
from tnet_keras.ops.decode import DECODE_STATUSES, MAX_BYTES, MAX_PIXELS, decode_image
from tnet_keras.ops.image_headers import IMAGE_KINDS, image_kind, image_size, jpeg_header
from tnet_keras.visualization import draw_boxes

#: Files of a folder that count as images; files that are named one by one may be called anything.
EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
_LONGEST_SIDE = 1024  # of drawn pictures, pixels
# Undecodable bytes of a file's name are written as they were found.
_TEXT = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}


class Images(NamedTuple):
    """Which files to read.

    Fields:
        paths: list of str, sorted.
        root: Folder that all of them lie in.
        left_out: int, files of a folder that are not named like images.
    """

    paths: list
    root: str
    left_out: int


class Counts(NamedTuple):
    """What became of the files.

    Fields:
        read: int, files with a line in the table.
        bad: int, files that are named in the table of errors.
    """

    read: int
    bad: int


def find_images(pattern):
    """Finds image files.

    Args:
        pattern: A file; a folder, of which all files with one of `EXTENSIONS` are taken, those of
            sub-folders too (links are followed, each folder is read once), hidden ones not; or a
            pattern with `*`, `?`, `[…]` or `**`.

    Returns:
        `Images`, at least one.

    Raises:
        ValueError: If there is none, or the folder cannot be read.
    """
    pattern = os.fspath(pattern)
    if os.path.isdir(pattern):
        found, left_out = [], 0

        def refuse(error):
            raise ValueError(
                f"`images` must be a folder that can be read ({error.strerror}). "
                f"Received: images={error.filename!r}"
            ) from error

        for folder, names in walk_folders(pattern, refuse):
            images = [name for name in names if name.lower().endswith(EXTENSIONS)]
            left_out += len(names) - len(images)
            found += [os.path.join(folder, name) for name in images]
        if not found:
            raise ValueError(
                f"`images` must hold image files ({', '.join(EXTENSIONS)}). "
                f"Received: images={pattern!r}, a folder without any"
            )
        return Images(sorted(found), pattern, left_out)
    if os.path.lexists(pattern):
        return Images([pattern], os.path.dirname(pattern), 0)
    found = sorted(path for path in glob.glob(pattern, recursive=True) if not os.path.isdir(path))
    if not found:
        raise ValueError(
            f"`images` must be a file, a folder or a pattern. Received: images={pattern!r}, which "
            "is not there"
        )
    root = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in found])
    return Images(found, root, 0)


def read_file(path, max_bytes=MAX_BYTES):
    """Reads the bytes of one file; whatever it is, it does not wait for it.

    Args:
        path: The file.
        max_bytes: int ≥ 1, longest file; a longer one is not even read.

    Returns:
        bytes.

    Raises:
        ValueError: If it cannot be read, or is a folder, a pipe, a socket or a device; the message
            is the reason alone.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("no regular file")
        if status.st_size > max_bytes:
            raise ValueError(f"too many bytes: {status.st_size:,}, more than {max_bytes:,}")
        with open(path, "rb") as stream:
            contents = stream.read(max_bytes + 1)
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
    return contents


def read_image(path, size, max_pixels=MAX_PIXELS, max_bytes=MAX_BYTES):
    """Reads one file with all the checks that `decode_image` makes.

    Args:
        path: The file.
        size: (height, width) to resize to, pixels; None to keep the image as it is.
        max_pixels: int ≥ 1, see `decode_image`.
        max_bytes: int ≥ 1, longest file; a longer one is not even read.

    Returns:
        `(image, original, picture)`: uint8 `[height, width, 3]`, resized as the training pipeline
        does; (height, width) of the upright image in the file; the image itself, uint8.

    Raises:
        ValueError: If it cannot be read; the message is the reason alone.
    """
    contents = read_file(path, max_bytes)
    picture, code = decode_image(contents, max_pixels, max_bytes)
    reason = DECODE_STATUSES[int(code)]
    if reason == "too many pixels":
        height, width, components = _header_size(contents)
        limit = max_pixels * 3 // 4 if components > 3 else max_pixels
        raise ValueError(f"too many pixels: {height} x {width}, more than {limit:,}")
    if reason != "ok":
        raise ValueError(reason)
    image = picture
    if size is not None and tuple(picture.shape[:2]) != tuple(size):
        image = tf.image.resize(picture, size, method="bilinear", antialias=False)
        image = tf.cast(tf.round(image), tf.uint8)
    return image.numpy(), tuple(picture.shape[:2]), picture


def _header_size(contents):
    contents = tf.constant(contents)
    kind = image_kind(contents)
    if IMAGE_KINDS[int(kind)] == "JPEG":
        return jpeg_header(contents)[0].numpy().tolist()
    return [*image_size(contents, kind).numpy().tolist(), 3]


def predict_files(
    predictor,
    images,
    out,
    class_names,
    top=5,
    batch_size=8,
    max_pixels=MAX_PIXELS,
    max_bytes=MAX_BYTES,
    draw=None,
    overwrite=False,
    progress=None,
):
    """Asks a model about files and writes a table, one line per image in the order of the files.

    Columns of `out`: `path`; `label`, `probability`; `label_2`, `probability_2`, …, to the k most
    probable classes; `height`, `width` of the upright image; and as JSON `boxes`, a list of `[y0,
    x0, y1, x1]` in its pixels, `box_scores` and `levels`.

    Files that cannot be read are listed, `path` and `reason`, in a table beside it:
    `predictions.errors.csv` for `predictions.csv`. Without any there is no such file, and one of an
    earlier run is removed.

    Both are written line by line under other names and renamed in the end. If no file could be
    read, `out` is not written. Memory is that of a batch, however many files there are.

    Args:
        predictor: A `Predictor`.
        images: `Images`.
        out: File to write, ending in ".csv"; missing folders are made.
        class_names: list of str by class, or None for numbers.
        top: int ≥ 1, k, most classes to name; no more than there are.
        batch_size: int ≥ 1, images that the model sees together.
        max_pixels: int ≥ 1, larger images are refused before they are decoded.
        max_bytes: int ≥ 1, longer files are refused before they are read.
        draw: Folder to put pictures of the images with their boxes into, or None. Sub-folders are
            those of the images, names are theirs with ".png" appended: no two share one.
        overwrite: Whether an existing `out` and existing pictures may be replaced.
        progress: Function of (files done, files bad), called after each file, or None.

    Returns:
        `Counts`.

    Raises:
        ValueError: If an argument is outside its range, or the classes are not as many as names.
        FileExistsError: If `out` or one of the pictures exists and `overwrite` is false.
    """
    limits = {"max_pixels": max_pixels, "max_bytes": max_bytes}
    for name, value in {"top": top, "batch_size": batch_size, **limits}.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"`{name}` must be an integer of at least 1. Received: {name}={value}")
    out = check_new_file("out", out, ".csv", overwrite)
    errors = check_new_file("out", out.with_suffix(".errors.csv"), ".csv", overwrite=True)
    if draw is not None:
        if os.path.exists(draw) and not os.path.isdir(draw):
            raise ValueError(f"`draw` must be a folder. Received: draw={str(draw)!r}, a file")
        check_writable("draw", pathlib.Path(draw))
    if draw is not None and not overwrite:
        _check_new_pictures(draw, images)
    blank = np.zeros((1, *predictor.image_size, 3), np.uint8)
    count = predictor(blank)["probabilities"].shape[1]
    names = [str(number) for number in range(count)] if class_names is None else class_names
    if len(names) != count:
        raise ValueError(
            f"`class_names` must be {count} names, one per class. Received: {len(names)} names"
        )
    top = min(top, count)
    # A model that resizes by its own rule is given each image as it is, alone.
    size_to_read = None if predictor.antialias else predictor.image_size
    batch_size = 1 if predictor.antialias else batch_size
    done, bad, batch = 0, 0, []
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_files(errors, out) as (errors_file, out_file):
        with open(out_file, "w", **_TEXT) as rows, open(errors_file, "w", **_TEXT) as reasons:
            table, listing = csv.writer(rows), csv.writer(reasons)
            table.writerow(_header(top))
            listing.writerow(["path", "reason"])

            def answer():
                outputs = predictor(np.stack([item[1] for item in batch]))
                for index, (path, _, size, picture) in enumerate(batch):
                    one = {name: value[index] for name, value in outputs.items()}
                    one["boxes"] = _scaled(one["boxes"], size, predictor.image_size)
                    table.writerow([path, *_cells(one, names, top, size)])
                    if draw is not None:
                        where = outputs["boxes"][index]
                        one["boxes"] = _scaled(where, picture.shape[:2], predictor.image_size)
                        _draw(_picture_file(draw, path, images.root), picture, one, names)
                batch.clear()

            for path in images.paths:
                try:
                    image, size, picture = read_image(path, size_to_read, **limits)
                except ValueError as error:
                    listing.writerow([path, error])
                    bad += 1
                else:
                    picture = None if draw is None else _reduced(picture)
                    batch.append((path, image, size, picture))
                    done += 1
                if len(batch) == batch_size:
                    answer()
                if progress is not None:
                    progress(done + bad, bad)
            if batch:
                answer()
        if not done:
            out_file.unlink()
        if not bad:
            errors_file.unlink()
            errors.unlink(missing_ok=True)
    return Counts(done, bad)


def _header(top):
    further = [f"{name}_{n}" for n in range(2, top + 1) for name in ("label", "probability")]
    where = ["height", "width", "boxes", "box_scores", "levels"]
    return ["path", "label", "probability", *further, *where]


def _scaled(boxes, size, image_size):
    scale = np.float32(np.array(size) / np.array(image_size))
    return boxes * np.tile(scale, 2)


def _cells(one, names, top, size):
    best = np.argsort(-one["probabilities"], kind="stable")[:top]
    said = [cell for c in best for cell in (names[c], f"{one['probabilities'][c]:.6f}")]
    boxes = [[round(float(edge), 2) for edge in box] for box in one["boxes"]]
    scores = [round(float(score), 6) for score in one["box_scores"]]
    return [*said, *size, *map(json.dumps, (boxes, scores, one["levels"].tolist()))]


def _reduced(picture):
    """A picture of a size to look at, so that a batch of large ones fits into memory."""
    scale = min(1.0, _LONGEST_SIDE / max(picture.shape[:2]))
    size = [max(1, round(side * scale)) for side in picture.shape[:2]]
    return tf.cast(tf.round(tf.image.resize(picture, size, method="area")), tf.uint8).numpy()


def _picture_file(folder, path, root):
    return pathlib.Path(folder) / f"{os.path.relpath(path, root or '.')}.png"


def _check_new_pictures(folder, images):
    if not os.path.isdir(folder):
        return
    for path in images.paths:
        file = _picture_file(folder, path, images.root)
        if os.path.lexists(file):
            raise FileExistsError(
                "`draw` must not hold these pictures yet, or they be replaced with overwrite. "
                f"Received: draw={str(folder)!r} with {str(file)!r}"
            )


def _draw(file, picture, one, names):
    file.parent.mkdir(parents=True, exist_ok=True)
    best = int(np.argmax(one["probabilities"]))
    caption = f"{names[best]} ({100 * one['probabilities'][best]:.0f} %)"
    with whole_files(file) as (temporary,):
        draw_boxes(picture, one["boxes"], one["levels"], caption, temporary)


def read_errors(path):
    """Reads a table of files that could not be read.

    Args:
        path: The file that `predict_files` wrote.

    Yields:
        `(path, reason)`, as text.
    """
    with open(path, **_TEXT) as stream:
        for row in csv.DictReader(stream):
            # A terminal may refuse the undecodable bytes of a name.
            yield row["path"].encode("utf-8", "replace").decode("utf-8"), row["reason"]
