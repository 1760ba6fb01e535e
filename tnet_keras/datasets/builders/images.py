"""What the builders keep of an image: its file as it is, and boxes as TFDS has them."""

import io
import os

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image


def whole_image(file):
    """Reads an image file that can be decoded to its end.

    Args:
        file: str or path-like.

    Returns:
        bytes, as they are in the file.

    Raises:
        ValueError: if the file cannot be read or decoded; names it.
    """
    try:
        with open(file, "rb") as stream:
            contents = stream.read()
        with Image.open(io.BytesIO(contents)) as image:
            image.load()
    except (OSError, SyntaxError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it cannot be decoded"
        raise ValueError(
            f"Every image must be whole ({reason}). Received: {os.fspath(file)!r}"
        ) from error
    return contents


def relative_boxes(boxes, size):
    """Boxes as TFDS keeps them: parts of the image's height and width.

    Args:
        boxes: list of (y0, x0, y1, x1) in pixels; clipped to the image.
        size: (height, width) of the image, pixels.

    Returns:
        List of `tfds.features.BBox`.
    """
    height, width = size
    scaled = np.float64(boxes).reshape(-1, 4) / np.float64([height, width, height, width])
    return [tfds.features.BBox(*map(float, box)) for box in np.clip(scaled, 0.0, 1.0)]
