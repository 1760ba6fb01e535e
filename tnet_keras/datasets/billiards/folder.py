"""Billiard tables on disk, as the authors lay them out: written whole or not at all.

`<folder>/{train,valid,test}/<id>.png` is the image of a table, `<id>.json` beside it the list of
its balls.
"""

import json
import os
import struct

import numpy as np
import tensorflow as tf

from tnet_keras.datasets.billiards.labels import billiard_label
from tnet_keras.datasets.billiards.scenes import NUMBERS, BilliardScenes, BilliardsConfig
from tnet_keras.datasets.new_folder import check_counts, encoded_images, new_folder, progress_bar

#: The folder of each split.
FOLDERS = {"train": "train", "validation": "valid", "test": "test"}
_PNG, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


def write_billiards(path, counts, seed=0, config=None, progress=False):
    """Draws tables and writes them to a new folder in the authors' layout.

    Everything is written to a temporary folder beside it, which is renamed when it is complete: an
    error, a full disk or Ctrl-C leaves nothing behind. `about.json` says how the tables were drawn;
    each ball's `box` [y0, x0, y1, x1] in pixels stands beside the published keys.

    Args:
        path: str or path-like, the folder to make; must not exist.
        counts: dict from "train", "validation" or "test" to the number of tables; at least one
            must be positive.
        seed: int >= 0; the tables are those of `billiards` with the same seed.
        config: `BilliardsConfig` or None for its defaults.
        progress: bool, show a progress bar.

    Raises:
        ValueError: if an argument is out of range, the folder exists, or cannot be made.

    Example:
        write_billiards("few_tables", {"train": 3}, config=BilliardsConfig.small(image_size=256))
    """
    check_counts(counts, seed, "table")
    config = BilliardsConfig() if config is None else config
    about = {"config": config.get_config(), "seed": seed}
    shown = progress_bar(counts, "table") if progress else None
    with new_folder(path, about) as folder:
        for split, count in counts.items():
            if count:
                scenes = BilliardScenes(config, split, seed)
                _write_split(folder / FOLDERS[split], scenes, count, shown)


def _write_split(folder, scenes, count, shown):
    folder.mkdir()

    def encode(image):
        return tf.io.encode_png(image, compression=1)

    images = encoded_images(lambda index: scenes.draw(index)[0], count, encode)
    for index, image in enumerate(images):
        (folder / f"{index}.png").write_bytes(image)
        text = json.dumps(scenes.annotate(index))
        (folder / f"{index}.json").write_text(text, encoding="utf-8")
        if shown:
            shown.add(1)


def find_tables(path, split, label, with_boxes):
    """Looks at every file of one split.

    Args:
        path: str or path-like, the folder that holds the folders of the splits.
        split: "train", "validation" or "test".
        label: the question that the annotations must be able to answer.
        with_boxes: bool, whether every ball must have a box.

    Returns:
        Tuple of a list of image files, a list of annotations, and (height, width) of the images,
        in the order of the ids.

    Raises:
        ValueError: if anything is missing, unreadable, broken or does not fit; names the file.
    """
    folder = os.path.join(os.fspath(path), FOLDERS[split])
    try:
        names = {name for name in os.listdir(folder) if not name.startswith(".")}
    except OSError as error:
        raise ValueError(
            f"`path` must hold a readable folder {FOLDERS[split]!r} ({error.strerror}). "
            f"Received: path={os.fspath(path)!r}"
        ) from error
    ids = {kind: {n[: -len(kind)] for n in names if n.endswith(kind)} for kind in (".png", ".json")}
    if not ids[".png"] | ids[".json"]:
        raise ValueError(
            f"`path` must hold tables (<id>.png, <id>.json). Received: an empty {folder!r}"
        )
    for kind, other in ((".png", ".json"), (".json", ".png")):
        if missing := _ordered(ids[other] - ids[kind]):
            raise ValueError(
                f"Every table must have an image and an annotation. Received: {folder!r} without "
                f"{missing[0] + kind!r}"
            )
    images, annotations, size = [], [], None
    for table in _ordered(ids[".png"]):
        image, annotation = (os.path.join(folder, table + kind) for kind in (".png", ".json"))
        found = _image_size(image)
        size = size or found
        if found != size:
            raise ValueError(
                f"All images must have the same size, here {size[0]} x {size[1]}. "
                f"Received: {image!r} of {found[0]} x {found[1]}"
            )
        images.append(image)
        annotations.append(_read_annotation(annotation, label, with_boxes))
    return images, annotations, size


def _ordered(ids):
    # Plain numbers in the order of their values, whether padded with zeros or not.
    return sorted(ids, key=lambda name: (len(name.lstrip("0")), name.lstrip("0"), name))


def _image_size(file):
    """(height, width) of a PNG file; ValueError unless it begins and ends as one."""
    try:
        with open(file, "rb") as stream:
            first = stream.read(24)
            stream.seek(-min(len(_PNG_END), len(first)), os.SEEK_END)
            last = stream.read()
    except OSError as error:
        raise ValueError(
            f"Every image must be readable ({error.strerror}). Received: {file!r}"
        ) from error
    if len(first) < 24 or not first.startswith(_PNG) or last != _PNG_END:
        raise ValueError(f"Every image must be a whole PNG file. Received: {file!r}")
    width, height = struct.unpack(">II", first[16:])
    return height, width


def _read_annotation(file, label, with_boxes):
    """The list of balls in one JSON file, checked."""
    try:
        with open(file, "rb") as stream:
            balls = json.loads(stream.read())
    except OSError as error:
        raise ValueError(
            f"Every annotation must be readable ({error.strerror}). Received: {file!r}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"Every annotation must be JSON ({error}). Received: {file!r}") from error
    if not isinstance(balls, list) or not balls:
        raise ValueError(f"Every annotation must be a list of balls. Received: {file!r}")
    needed = {"position": _is_position, "number": _is_number, "color": lambda color: True}
    if with_boxes:
        needed["box"] = _is_box
    for place, ball in enumerate(balls):
        for key, holds in needed.items():
            if not isinstance(ball, dict) or key not in ball:
                raise ValueError(
                    f"Every ball must have {', '.join(needed)}. "
                    f"Received: ball {place} of {file!r} without {key!r}"
                )
            if not holds(ball[key]):
                raise ValueError(
                    "A ball's position must be [x, y, ...], its number 1-9, its box "
                    "[y0, x0, y1, x1]. "
                    f"Received: ball {place} of {file!r} with {key}={ball[key]!r}"
                )
    try:
        billiard_label(balls, label)
    except ValueError as error:
        raise ValueError(f"{error} in {file!r}") from error
    return balls


def _is_real(value):
    # Not true for NaN either. Larger numbers than that are no positions.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def _is_position(value):
    return isinstance(value, list) and value and all(map(_is_real, value))


def _is_number(value):
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= NUMBERS


def _is_box(value):
    if not (isinstance(value, list) and len(value) == 4 and all(map(_is_real, value))):
        return False
    y0, x0, y1, x1 = np.float64(value)
    return y0 < y1 and x0 < x1
