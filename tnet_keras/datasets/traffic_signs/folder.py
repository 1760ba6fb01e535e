"""Traffic scenes on disk, in the layout of the Swedish set: written whole or not at all.

`<folder>/{Set1Part0,ValidationPart0,Set2Part0}/` hold the images of a split and their
`annotations.txt`.
"""

import os

import numpy as np
import tensorflow as tf
from PIL import Image

from tnet_keras.datasets.new_folder import check_counts, encoded_images, new_folder, progress_bar
from tnet_keras.datasets.traffic_signs.annotations import (
    format_line,
    labelled_sign,
    read_annotations,
    traffic_sign_label,
)
from tnet_keras.datasets.traffic_signs.scenes import TrafficScenes, TrafficScenesConfig

#: The folder of each split. The Swedish set has none for validation.
FOLDERS = {"train": "Set1Part0", "validation": "ValidationPart0", "test": "Set2Part0"}
ANNOTATIONS = "annotations.txt"
#: Ending of the files of each format.
FORMATS = {"jpeg": "jpg", "png": "png"}
_QUALITY = 95
_ORIENTATION = 0x0112  # the Exif tag
# What a whole file has among its last bytes; some cameras write more behind it.
_ENDS, _TAIL = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}, 4096


def write_traffic_signs(path, counts, seed=0, config=None, image_format="jpeg", progress=False):
    """Draws scenes and writes them to a new folder in the layout of the Swedish set.

    Everything is written to a temporary folder beside it, which is renamed when it is complete: an
    error, a full disk or Ctrl-C leaves nothing behind. `about.json` says how scenes were drawn.

    Args:
        path: str or path-like, the folder to make; must not exist.
        counts: dict from "train" (Set1Part0), "validation" (ValidationPart0) or "test" (Set2Part0)
            to the number of scenes; at least one must be positive.
        seed: int >= 0; the scenes are those of `traffic_signs` with the same seed.
        config: `TrafficScenesConfig` or None for its defaults.
        image_format: "jpeg", as in the Swedish set, or "png": larger, but keeps every pixel.
        progress: bool, show a progress bar.

    Raises:
        ValueError: if an argument is out of range, the folder exists, or cannot be made.

    Example:
        write_traffic_signs("few_scenes", {"train": 3}, config=TrafficScenesConfig.small())
    """
    check_counts(counts, seed, "scene")
    if image_format not in FORMATS:
        raise ValueError(
            f"`image_format` must be one of {tuple(FORMATS)}. "
            f"Received: image_format={image_format!r}"
        )
    config = TrafficScenesConfig() if config is None else config
    about = {"config": config.get_config(), "seed": seed, "image_format": image_format}
    shown = progress_bar(counts, "scene") if progress else None
    with new_folder(path, about) as folder:
        for split, count in counts.items():
            if count:
                scenes = TrafficScenes(config, split, seed)
                _write_split(folder / FOLDERS[split], scenes, count, image_format, shown)


def _write_split(folder, scenes, count, image_format, shown):
    folder.mkdir()

    def encode(image):
        if image_format == "png":
            return tf.io.encode_png(image, compression=1)
        return tf.io.encode_jpeg(image, quality=_QUALITY)

    images = encoded_images(lambda index: scenes.draw(index)[0], count, encode)
    lines = []
    for index, image in enumerate(images):
        name = f"{index:06}.{FORMATS[image_format]}"
        (folder / name).write_bytes(image)
        lines.append(format_line(name, scenes.annotate(index)) + "\n")
        if shown:
            shown.add(1)
    (folder / ANNOTATIONS).write_text("".join(lines), encoding="utf-8")


def find_scenes(path, split, rule):
    """Looks at every image of one split that a rule does not drop.

    Args:
        path: str or path-like, the folder that holds the folders of the splits.
        split: "train", "validation" or "test".
        rule: "top_k" or "ats", see `traffic_sign_label`.

    Returns:
        Tuple of a list of image files in the order of `annotations.txt`, `[N]` int32 labels,
        `[N, 4]` float32 boxes of the signs that decided (zeros where there is none), and (height,
        width) of the images.

    Raises:
        ValueError: if anything is missing, unreadable, broken or does not fit; names the file.
    """
    folder = os.path.join(os.fspath(path), FOLDERS[split])
    if not os.path.isdir(folder):
        raise ValueError(
            f"`path` must hold a folder {FOLDERS[split]!r}. Received: path={os.fspath(path)!r}"
        )
    scenes, size = labelled_scenes(folder, os.path.join(folder, ANNOTATIONS), rule)
    images, labels, signs = zip(*scenes, strict=True)
    boxes = np.stack([label_box(each, rule) for each in signs])
    return list(images), np.int32(labels), boxes, size


def labelled_scenes(folder, annotations, rule):
    """Looks at every image of a folder that a rule does not drop.

    Args:
        folder: str, where the images are.
        annotations: str, the file that lists them.
        rule: "top_k" or "ats", see `traffic_sign_label`.

    Returns:
        Tuple of a list of (image file, label, list of `TrafficSign`) in the order of the
        annotations, not empty, and (height, width) of the images.

    Raises:
        ValueError: if anything is missing, unreadable, broken or does not fit; names the file.
    """
    scenes, size = [], None
    for name, signs in read_annotations(annotations).items():
        label = traffic_sign_label(signs, rule)
        if label is None:
            continue
        image = os.path.join(folder, name)
        found = _image_size(image)
        size = size or found
        if found != size:
            raise ValueError(
                f"All images must have the same size, here {size[0]} x {size[1]}. "
                f"Received: {image!r} of {found[0]} x {found[1]}"
            )
        scenes.append((image, label, signs))
    if not scenes:
        raise ValueError(
            f"`path` must hold images that the rule {rule!r} labels. Received: none in {folder!r}"
        )
    return scenes, size


def label_box(signs, rule="top_k"):
    """Box of the sign that an image is labelled by.

    Args:
        signs: list of `TrafficSign`, in the order of the file.
        rule: "top_k" or "ats", see `labelled_sign`.

    Returns:
        `[4]` float32 (y0, x0, y1, x1) in pixels; zeros if there is none.
    """
    sign = labelled_sign(signs, rule)
    return np.float32((0, 0, 0, 0) if sign is None else sign.box)


def _image_size(file):
    """(height, width) of a JPEG or PNG file; ValueError unless it begins and ends as one."""
    try:
        with open(file, "rb") as stream:
            with Image.open(stream, formats=tuple(_ENDS)) as image:
                (width, height), kind = image.size, image.format
                turned = kind == "JPEG" and image.getexif().get(_ORIENTATION, 1) in range(2, 9)
            stream.seek(-min(_TAIL, os.path.getsize(file)), os.SEEK_END)
            whole = _ENDS[kind] in stream.read()
    except (OSError, SyntaxError) as error:
        reason = getattr(error, "strerror", None) or "neither JPEG nor PNG"
        raise ValueError(f"Every image must be readable ({reason}). Received: {file!r}") from error
    if not whole:
        raise ValueError(f"Every image must be a whole file. Received: {file!r}")
    if turned:
        # Boxes are in pixels as stored; a reader turns the image.
        raise ValueError(f"Every image must be stored upright. Received: {file!r}, turned by Exif")
    return height, width
