"""Training augmentation: pure functions of tensors, eager or inside `tf.data`."""

import tensorflow as tf


def shift(images, shifts, boxes=None):
    """Moves each image by whole pixels; what comes in over the border is a reflection.

    Args:
        images: `[B, H, W, C]`, any dtype, static H and W.
        shifts: `[B, 2]` int32, (down, right) in pixels, smaller than H and W in size.
        boxes: None or `[B, 4]` float (y0, x0, y1, x1) in pixels; moved along, and clipped to
            the image.

    Returns:
        Images as given, or a tuple of images and boxes if boxes were given.
    """
    height, width = images.shape[1], images.shape[2]

    def source(length, offset):
        position = tf.abs(tf.range(length)[None, :] - offset[:, None])
        return (length - 1) - tf.abs((length - 1) - position)

    images = tf.gather(images, source(height, shifts[:, 0]), batch_dims=1, axis=1)
    images = tf.gather(images, source(width, shifts[:, 1]), batch_dims=1, axis=2)
    if boxes is None:
        return images
    moved = boxes + tf.cast(tf.tile(shifts, (1, 2)), boxes.dtype)
    limit = tf.cast([height, width, height, width], boxes.dtype)
    return images, tf.clip_by_value(moved, 0.0, limit)


def random_shift(images, seed, limit, boxes=None):
    """`shift` by a uniform number of pixels in `[-limit, limit]` per axis and image.

    Args:
        images: `[B, H, W, C]`.
        seed: `[2]` integers; the same seed gives the same shifts.
        limit: int, pixels.
        boxes: None or `[B, 4]` float.

    Returns:
        As `shift`.
    """
    shape = (tf.shape(images)[0], 2)
    shifts = tf.random.stateless_uniform(shape, seed, -limit, limit + 1, tf.int32)
    return shift(images, shifts, boxes)


def random_flip(images, seed, boxes=None):
    """Mirrors each image left to right with probability 1/2.

    Args:
        images: `[B, H, W, C]`, any dtype.
        seed: `[2]` integers.
        boxes: None or `[B, 4]` float (y0, x0, y1, x1) in pixels; mirrored along.

    Returns:
        Images as given, or a tuple of images and boxes if boxes were given.
    """
    flipped = tf.random.stateless_uniform((tf.shape(images)[0],), seed) < 0.5
    width = tf.shape(images)[2]
    images = tf.where(flipped[:, None, None, None], images[:, :, ::-1], images)
    if boxes is None:
        return images
    y0, x0, y1, x1 = tf.unstack(boxes, axis=-1)
    width = tf.cast(width, boxes.dtype)
    mirrored = tf.stack([y0, width - x1, y1, width - x0], axis=-1)
    return images, tf.where(flipped[:, None], mirrored, boxes)


def crop_window(
    size, seed, boxes=None, area_range=(0.85, 1.0), aspect_ratio_range=(0.5, 2.0),
    min_object_covered=0.1, max_attempts=50,
):  # fmt: skip
    """Draws the rectangle that `distorted_crop` cuts out, for an image that may still be encoded.

    Args:
        size: `[2]` or `[3]` int32, (height, width, ...) in pixels.
        seed: `[2]` integers.
        boxes, area_range, aspect_ratio_range, min_object_covered, max_attempts: As of
            `distorted_crop`.

    Returns:
        `[4]` int32: (y, x, height, width) in pixels, as `tf.io.decode_and_crop_jpeg` takes it.
    """
    size = tf.stack([size[0], size[1], 3])
    if boxes is None:
        relative = tf.constant([[[0.0, 0.0, 1.0, 1.0]]])
    else:
        extent = tf.cast(tf.gather(size, [0, 1, 0, 1]), tf.float32)
        relative = tf.clip_by_value(tf.cast(boxes, tf.float32) / extent, 0.0, 1.0)[None]
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        size, relative, seed=seed, min_object_covered=min_object_covered,
        aspect_ratio_range=aspect_ratio_range, area_range=area_range, max_attempts=max_attempts,
        use_image_if_no_bounding_boxes=True,
    )  # fmt: skip
    # The extent of all channels is told as -1.
    return tf.concat([begin[:2], extent[:2]], axis=0)


def distorted_crop(
    image, seed, boxes=None, area_range=(0.85, 1.0), aspect_ratio_range=(0.5, 2.0),
    min_object_covered=0.1, max_attempts=50,
):  # fmt: skip
    """Cuts a random rectangle out of one image (the crop of Inception and TNet training).

    Args:
        image: `[H, W, C]`, any dtype.
        seed: `[2]` integers.
        boxes: None or `[N, 4]` float32 (y0, x0, y1, x1) in pixels, objects to keep partly in
            view; None: the whole image is the object, and so it is with N = 0.
        area_range: (low, high), fractions of the image's area.
        aspect_ratio_range: (low, high), width over height of the rectangle.
        min_object_covered: float, fraction of some object that must stay in view.
        max_attempts: int, tries before the whole image is returned.

    Returns:
        `[h, w, C]`, the dtype of `image`.
    """
    window = crop_window(
        tf.shape(image), seed, boxes, area_range, aspect_ratio_range, min_object_covered,
        max_attempts,
    )  # fmt: skip
    y, x, height, width = tf.unstack(window)
    part = image[y : y + height, x : x + width]
    return tf.ensure_shape(part, (None, None, image.shape[-1]))


def resized_crop(image, resize, size, seed=None):
    """Resizes one image and cuts a part out: the middle, or with a seed any part, flipped or not.

    Differentiable patch selection (CVPR 2021) trains on CUB so: 600 px, of them 448.

    Args:
        image: `[h, w, C]`, any numeric dtype.
        resize: (height, width) to resize to, pixels; the aspect ratio is not kept.
        size: (height, width) of the part, pixels, at most `resize`.
        seed: None, or a pair of integers.

    Returns:
        `[height, width, C]` uint8: bilinear, half-pixel centres, no antialiasing.

    Raises:
        ValueError: if the part is larger than the resized image.
    """
    if size[0] > resize[0] or size[1] > resize[1]:
        raise ValueError(
            f"`resize` must be at least the size {tuple(size)}. Received: resize={tuple(resize)}"
        )
    image = tf.image.resize(image, resize, method="bilinear", antialias=False)
    image = tf.cast(tf.round(image), tf.uint8)
    if seed is None:
        top, left = (resize[0] - size[0]) // 2, (resize[1] - size[1]) // 2
        return image[top : top + size[0], left : left + size[1]]
    crop_seed, flip_seed = tf.unstack(tf.random.split(tf.cast(seed, tf.int64), 2))
    part = tf.image.stateless_random_crop(image, (*size, image.shape[-1]), crop_seed)
    return tf.image.stateless_random_flip_left_right(part, flip_seed)


def check_shift(random_shift, side):
    """Raises ValueError unless `random_shift` is less than `side`, of images; both in pixels."""
    if random_shift >= side:
        raise ValueError(
            f"`random_shift` must be less than the shorter side of the images, {side} pixels. "
            f"Received: random_shift={random_shift}"
        )


def shift_with_black(image, shift, boxes):
    """Moves one image by whole pixels; what comes in over the border is black.

    Zero padding followed by a random crop, as the authors train, does just that.

    Args:
        image: `[H, W, 3]`, any dtype, static H and W.
        shift: `[2]` int32, (down, right) in pixels, smaller than H and W in size.
        boxes: `[N, 4]` float32 (y0, x0, y1, x1) in pixels.

    Returns:
        Tuple of the image and the boxes, moved along and clipped to the image.
    """
    height, width = image.shape[0], image.shape[1]
    extent = tf.constant([height, width])
    lost = tf.maximum(-shift, 0)  # What leaves at the top and on the left.
    kept = tf.slice(image, [lost[0], lost[1], 0], [*tf.unstack(extent - tf.abs(shift)), 3])
    before = tf.maximum(shift, 0)
    padding = tf.stack([before, tf.abs(shift) - before], axis=1)
    moved = tf.pad(kept, tf.concat([padding, [[0, 0]]], axis=0))
    moved.set_shape((height, width, 3))
    boxes += tf.cast(tf.tile(shift, [2]), boxes.dtype)
    return moved, tf.clip_by_value(boxes, 0.0, tf.cast(tf.tile(extent, [2]), boxes.dtype))


def random_shift_with_black(image, seed, fraction=0.05):
    """`shift_with_black` by a uniform number of whole pixels, as published for billiard tables.

    Args:
        image: `[H, W, 3]`, any dtype, static H and W.
        seed: `[2]` integers; the same seed gives the same shift.
        fraction: float in [0, 1), largest shift down or up, right or left, over H (published: 50 of
            1000 pixels).

    Returns:
        As `image`.

    Raises:
        ValueError: if `fraction` is out of range, or as much as W.
    """
    limit = round(fraction * image.shape[0])
    if fraction < 0.0 or limit >= min(image.shape[:2]):
        raise ValueError(
            "`fraction` must be at least 0 and leave something of the image. "
            f"Received: fraction={fraction} of {image.shape[0]} x {image.shape[1]} pixels"
        )
    shift = tf.random.stateless_uniform((2,), seed, -limit, limit + 1, tf.int32)
    return shift_with_black(image, shift, tf.zeros((0, 4)))[0]


def random_contrast(image, seed):
    """Varies contrast and brightness in four of five images, as published for traffic signs.

    a x + b of pixels x in [0, 1], a uniform in [0.8, 1.2] and b in [-0.1, 0.1]; clipped.

    Args:
        image: `[H, W, C]`, any numeric dtype, range 0 to 255.
        seed: `[2]` integers; the same seed gives the same a and b.

    Returns:
        `[H, W, C]` float32, range 0 to 255.
    """
    often, factor, offset = tf.unstack(tf.random.stateless_uniform((3,), seed))
    image = tf.cast(image, tf.float32)
    changed = (0.8 + 0.4 * factor) * image + 255.0 * (0.2 * offset - 0.1)
    return tf.where(often < 0.8, tf.clip_by_value(changed, 0.0, 255.0), image)
