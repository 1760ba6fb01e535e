"""Encoded images on their way into records: checked, cut, made smaller; and their boxes."""

import pathlib

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

_JPEG = b"\xff\xd8\xff"
_QUALITY = 100


def read_image(path, jpeg_only=False):
    """Reads an image file and makes sure that it can be decoded to its end.

    JPEGs are decoded at an eighth of their size: all bytes are read, few pixels computed.

    Args:
        path: str or path-like.
        jpeg_only: bool, whether other formats are refused. Names do not matter, contents do.

    Returns:
        Tuple of the file's bytes, its height and its width in pixels.

    Raises:
        ValueError: if the file is empty, is cut off, or is no image.
    """
    path = pathlib.Path(path)
    contents = path.read_bytes()
    if not contents:
        raise ValueError(f"{path} is empty (zero bytes)")
    is_jpeg = contents.startswith(_JPEG)
    if jpeg_only and not is_jpeg:
        raise ValueError(f"{path} must be a JPEG image. Received: first bytes {contents[:4]!r}")
    try:
        if is_jpeg:
            height, width = tf.io.extract_jpeg_shape(contents).numpy()[:2]
            tf.io.decode_jpeg(contents, channels=3, ratio=8)
        else:
            shape = tf.io.decode_image(contents, channels=3, expand_animations=False).shape
            height, width = shape[:2]
    except (tf.errors.InvalidArgumentError, tf.errors.UnknownError):
        raise ValueError(f"{path} cannot be decoded as an image") from None
    return contents, int(height), int(width)


def shrunk_jpeg(contents, height, width, maximum_min_dim):
    """Makes a JPEG smaller if its shorter side exceeds a limit, as published for TNet's records.

    Decoded at 1/2, 1/4 or 1/8 where the shorter side exceeds 2, 4 or 8 times the limit; then one
    bilinear resize (half-pixel centres, no antialiasing) that makes the shorter side equal to the
    limit and keeps the aspect ratio; encoded with quality 100.

    Args:
        contents: bytes of the JPEG.
        height: int, its height in pixels.
        width: int, its width in pixels.
        maximum_min_dim: int, the limit in pixels.

    Returns:
        bytes; those given, untouched, if the image is small enough.
    """
    shorter = min(height, width)
    if shorter <= maximum_min_dim:
        return contents
    ratio = max(ratio for ratio in (1, 2, 4, 8) if shorter > ratio * maximum_min_dim)
    size = [round(side * maximum_min_dim / shorter) for side in (height, width)]
    image = tf.io.decode_jpeg(contents, channels=3, ratio=ratio)
    image = tf.image.resize(image, size, method="bilinear", antialias=False)
    image = tf.saturate_cast(tf.round(image), tf.uint8)
    return tf.io.encode_jpeg(image, quality=_QUALITY).numpy()


def cut_jpeg(image, box):
    """Cuts a rectangle out of an image.

    Args:
        image: `[H, W, 3]` uint8, decoded.
        box: (y0, x0, y1, x1), int, pixels, half-open, inside the image.

    Returns:
        bytes of a JPEG of quality 100.
    """
    y0, x0, y1, x1 = box
    return tf.io.encode_jpeg(image[y0:y1, x0:x1], quality=_QUALITY).numpy()


def relative_box(x, y, width, height, image_height, image_width, place):
    """Turns a box in pixels into the box of TFDS; what lies outside the image is cut off.

    Args:
        x: float, left side, pixels.
        y: float, upper side, pixels.
        width: float >= 0, pixels.
        height: float >= 0, pixels.
        image_height: int, pixels.
        image_width: int, pixels.
        place: Where the box was read, for the message.

    Returns:
        `tfds.features.BBox` (ymin, xmin, ymax, xmax) in [0, 1].

    Raises:
        ValueError: if the box has a negative side or lies wholly outside the image.
    """
    received = f"Received: box=[{x:g}, {y:g}, {width:g}, {height:g}]"
    if width < 0 or height < 0:
        raise ValueError(f"{place}: the sides of a box must not be negative. {received}")
    before = (x < 0 and x + width <= 0) or (y < 0 and y + height <= 0)
    if before or x >= image_width or y >= image_height:
        raise ValueError(
            f"{place}: a box must touch its image of height {image_height} and width "
            f"{image_width}. {received}"
        )
    ends = (y / image_height, x / image_width)
    ends += ((y + height) / image_height, (x + width) / image_width)
    return tfds.features.BBox(*(min(max(float(end), 0.0), 1.0) for end in ends))


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


def image_features(label):
    """The features that builders with labels, boxes and file names share.

    Args:
        label: `tfds.features.ClassLabel`.

    Returns:
        `tfds.features.FeaturesDict`: `image` uint8 `[H, W, 3]`, `label` int64, `bboxes` float32
        `[N, 4]` (ymin, xmin, ymax, xmax) in [0, 1], `file_name` string.
    """
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
            "label": label,
            "bboxes": tfds.features.Sequence(tfds.features.BBoxFeature()),
            "file_name": tfds.features.Text(),
        }
    )
