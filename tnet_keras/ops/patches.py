"""Cutting boxes out of large images: only the pixels of the chosen boxes are ever read."""

import contextlib
import contextvars
import operator

import numpy as np
import tensorflow as tf

# TNet pads with zeros after mapping pixels to [-1, 1]: mid-grey in the 0-255 range kept here.
MID_GREY = 127.5
# Whether what is traced now goes to TFLite, which has no resize from integers to floats.
_for_lite = contextvars.ContextVar("for_lite", default=False)


@contextlib.contextmanager
def lite_operators():
    """Inside, whole images are resized by operators that TFLite has built in.

    `tf.image.resize` of uint8 has no kernel there, and a float copy of a large image would cost
    four times its memory. Gathering the rows and columns that are read gives the same numbers.

    Yields:
        None.
    """
    token = _for_lite.set(True)
    try:
        yield
    finally:
        _for_lite.reset(token)


def check_rank(name, tensor, rank, meaning):
    """Checks the rank of an argument.

    Args:
        name: The argument's name.
        tensor: What was received.
        rank: The rank it must have.
        meaning: What its axes are, for the message.

    Raises:
        ValueError: If the rank is another.
    """
    if tensor.shape.rank != rank:
        raise ValueError(f"`{name}` must be {meaning}. Received: {name}.shape={tensor.shape}")


def _check_boxes(name, boxes):
    check_rank(name, boxes, 3, "[B, T, 4] of (y0, x0, y1, x1)")
    if boxes.shape[-1] != 4:
        raise ValueError(f"`{name}` must be [B, T, 4]. Received: {name}.shape={boxes.shape}")


def check_size(name, value):
    """Checks an argument that is a size in pixels.

    Args:
        name: The argument's name.
        value: What was received.

    Returns:
        `(height, width)`, ints.

    Raises:
        ValueError: If it is not two positive integers.
    """
    try:
        height, width = (operator.index(v) for v in value)
    except (TypeError, ValueError):
        height = width = 0
    if height < 1 or width < 1:
        raise ValueError(
            f"`{name}` must be two positive integers (height, width). Received: {name}={value!r}"
        )
    return height, width


def resize_view(images, size):
    """Resizes whole images: bilinear, half-pixel centres, no antialias.

    Without antialias the cost does not grow with the image: at ratio 4, four of every sixteen
    pixels are read (TNet, released code).

    Args:
        images: `[B, H, W, C]`, any numeric dtype, range kept.
        size: `(height, width)` of the result, pixels.

    Returns:
        float32 `[B, height, width, C]`.

    Raises:
        ValueError: If `images` is not of rank 4 or `size` not two positive integers.
    """
    images = tf.convert_to_tensor(images)
    check_rank("images", images, 4, "[B, H, W, C]")
    size = check_size("size", size)
    if tuple(images.shape[1:3]) == size:
        return tf.cast(images, tf.float32)
    if images.dtype in (tf.bfloat16, tf.int8, tf.uint32, tf.uint64):
        images = tf.cast(images, tf.float32)
    if _for_lite.get() and images.dtype.is_integer and None not in images.shape[1:3]:
        return _resize_by_gathering(images, size)
    return tf.cast(tf.image.resize(images, size, method="bilinear", antialias=False), tf.float32)


def _resize_by_gathering(images, size):
    """What `tf.image.resize` gives, from the rows and columns that it reads and no others."""

    def taps(length, count):
        position = (np.arange(count, dtype=np.float32) + np.float32(0.5)) * np.float32(
            length / count
        ) - np.float32(0.5)
        first = np.floor(position)
        index = np.clip([first, first + 1], 0, length - 1).astype(np.int32)
        return index, position - first

    (row, row_fraction), (column, column_fraction) = map(taps, images.shape[1:3], size)
    values = tf.gather(tf.gather(images, row.ravel(), axis=1), column.ravel(), axis=2)
    values = tf.cast(values, tf.float32)
    left, right = values[:, :, : size[1]], values[:, :, size[1] :]
    values = left + (right - left) * tf.constant(column_fraction[:, None])
    top, bottom = values[:, : size[0]], values[:, size[0] :]
    return top + (bottom - top) * tf.constant(row_fraction[:, None, None])


def extract_patches(images, boxes, size, box_size=None, bounds=None, margin=0, pad_value=MID_GREY):
    """Cuts boxes out of images and resizes each to one size (bilinear, half-pixel centres).

    Equals cutting a box out of the padded image and calling `tf.image.resize` on it, without
    antialias. Two ways lead there:

    * `box_size` given: the boxes have integer corners and share one static size. Each is one
      contiguous slice (measured: three times faster than gathering taps).
    * `box_size=None`: any real boxes, each of its own size, by gathering the four neighbours of
      each output pixel.

    Both work eagerly, in graphs, under XLA with static shapes, in `tf.data`, and convert to TFLite
    with built-in operators. There is a gradient with respect to `images`, none to `boxes`.

    Args:
        images: `[B, H, W, C]`, integer or float, range kept (0–255 by convention). `H`, `W` static.
        boxes: `[B, T, 4]` half-open `(y0, x0, y1, x1)` in pixels of the images, float or integer.
            Any part outside the image reads as `pad_value`.
        size: `(height, width)` of every patch, pixels.
        box_size: `(height, width)` of every box in pixels, static integers, or None.
        bounds: Optional `[B, T, 4]` in pixels: what lies outside reads as `pad_value` too. TNet's
            deeper levels use it: a crop of a crop may not see past its parent.
        margin: How far, in pixels, a box may leave the image when `box_size` is given; boxes
            further out are moved back to that margin. Static integer of at least 0.
        pad_value: What is read outside, in the images' range.

    Returns:
        float32 `[B, T, height, width, C]`.

    Raises:
        ValueError: If a rank or size is wrong, `margin` is not an integer of at least 0, or
            `box_size` is larger than the image with its margin.
    """
    images = tf.convert_to_tensor(images)
    boxes = _as_boxes(boxes, box_size)
    check_rank("images", images, 4, "[B, H, W, C]")
    _check_boxes("boxes", boxes)
    if images.shape[1] is None or images.shape[2] is None:
        raise ValueError(
            "`images` must have a static height and width. "
            f"Received: images.shape={images.shape}"
        )
    if bounds is not None:
        bounds = _as_boxes(bounds, box_size)
        _check_boxes("bounds", bounds)
    size = check_size("size", size)
    if boxes.shape[1] == 0:
        return tf.zeros([tf.shape(images)[0], 0, *size, images.shape[-1]], tf.float32)
    if box_size is None:
        return _gather_taps(images, boxes, size, bounds, pad_value)
    return _slice(images, boxes, size, check_size("box_size", box_size), bounds, margin, pad_value)


def _as_boxes(boxes, box_size):
    """Whole-numbered boxes stay integers where they are sliced: TFLite would quantise floats."""
    boxes = tf.stop_gradient(tf.convert_to_tensor(boxes))
    whole = box_size is not None and boxes.dtype.is_integer
    return tf.cast(boxes, tf.int32 if whole else tf.float32)


def _slice(images, boxes, size, box_size, bounds, margin, pad_value):
    """Boxes of one static size with integer corners: a slice each, then one batched resize."""
    batch, count = tf.shape(images)[0], boxes.shape[1] or tf.shape(boxes)[1]
    height, width, channels = images.shape[1:]
    if isinstance(margin, bool) or not isinstance(margin, int) or margin < 0:
        raise ValueError(f"`margin` must be an integer of at least 0. Received: margin={margin!r}")
    if box_size[0] > height + 2 * margin or box_size[1] > width + 2 * margin:
        raise ValueError(
            "`box_size` must fit into the image with its margin. "
            f"Received: box_size={box_size}, margin={margin}, images.shape={images.shape}"
        )
    if margin:
        # Any value would do, it is masked below. But a Pad of uint8 is no built-in operator of
        # TFLite in TensorFlow 2.21; a value other than 0 gives PadV2, which is one.
        sides = [margin, margin]
        images = tf.pad(images, [[0, 0], sides, sides, [0, 0]], constant_values=1)
    starts = boxes[..., :2]
    if not boxes.dtype.is_integer:
        starts = tf.cast(tf.round(starts), tf.int32)
    starts += margin
    last = tf.constant([height + 2 * margin - box_size[0], width + 2 * margin - box_size[1]])
    starts = tf.reshape(tf.clip_by_value(starts, 0, last), [-1, 2])
    owners = tf.repeat(tf.range(batch), count)

    def cut(item):
        owner, start = item
        window = tf.slice(
            images, tf.stack([owner, start[0], start[1], 0]), [1, *box_size, channels]
        )
        return window[0]

    windows = tf.map_fn(
        cut,
        (owners, starts),
        fn_output_signature=tf.TensorSpec((*box_size, channels), images.dtype),
    )
    if margin or bounds is not None:
        windows = _mask_outside(
            tf.cast(windows, tf.float32),
            starts - margin,
            None if bounds is None else tf.reshape(bounds, [-1, 4]),
            (height, width),
            pad_value,
        )
    patches = resize_view(windows, size)
    return tf.reshape(patches, [batch, count, *size, channels])


def _mask_outside(windows, starts, bounds, image_size, pad_value):
    """Replaces the pixels of windows `[N, h, w, C]` outside the image or bounds."""
    inside = []
    for axis in (0, 1):
        position = starts[:, axis, None] + tf.range(windows.shape[1 + axis])
        ok = (position >= 0) & (position < image_size[axis])
        if bounds is not None:
            position = tf.cast(position, bounds.dtype)
            ok &= (position >= bounds[:, axis, None]) & (position < bounds[:, 2 + axis, None])
        inside.append(ok)
    keep = inside[0][:, :, None, None] & inside[1][:, None, :, None]
    return tf.where(keep, windows, tf.cast(pad_value, windows.dtype))


def _gather_taps(images, boxes, size, bounds, pad_value):
    """Any real boxes: the four neighbours of every output pixel, gathered by flat index."""
    batch = tf.shape(images)[0]
    height, width, channels = images.shape[1:]
    flat = tf.reshape(images, [batch, height * width, channels])

    def axis_taps(axis, length, limit):
        low, high = boxes[..., axis, None], boxes[..., 2 + axis, None]
        step = (tf.range(length, dtype=tf.float32) + 0.5) / length
        position = low + step * (high - low) - 0.5
        # Like resizing a crop: taps never leave the crop, its edge pixels are repeated.
        position = tf.clip_by_value(position, low, tf.maximum(high - 1.0, low))
        first = tf.floor(position)
        fraction = position - first
        second = tf.minimum(first + 1.0, tf.maximum(tf.math.ceil(high) - 1.0, first))
        taps = []
        for tap in (first, second):
            ok = (tap >= 0.0) & (tap < float(limit))
            if bounds is not None:
                ok &= (tap >= bounds[..., axis, None]) & (tap < bounds[..., 2 + axis, None])
            taps.append((tf.cast(tf.clip_by_value(tap, 0.0, limit - 1.0), tf.int32), ok))
        return taps, fraction

    rows, row_fraction = axis_taps(0, size[0], height)
    cols, col_fraction = axis_taps(1, size[1], width)

    def read(row, col):
        index = row[0][..., :, None] * width + col[0][..., None, :]
        values = tf.cast(tf.gather(flat, index, batch_dims=1), tf.float32)
        inside = row[1][..., :, None] & col[1][..., None, :]
        return tf.where(inside[..., None], values, tf.cast(pad_value, tf.float32))

    fy, fx = row_fraction[..., :, None, None], col_fraction[..., None, :, None]
    top = read(rows[0], cols[0]) * (1.0 - fx) + read(rows[0], cols[1]) * fx
    bottom = read(rows[1], cols[0]) * (1.0 - fx) + read(rows[1], cols[1]) * fx
    return top * (1.0 - fy) + bottom * fy
