"""Moving and turning an image inside its frame, as TNet's training on birds does.

Inside `tf.data` on a CPU only: the operation has no XLA kernel.
"""

import math

import tensorflow as tf

_TRANSLATION = 0.1  # Of the height and the width.
_ROTATION = math.radians(20.0)


def _transform(image, matrix):
    """Each output pixel (x, y) is the input pixel nearest to matrix (x, y, 1), or zero."""
    matrix = tf.cast(tf.stack([*matrix, 0.0, 0.0]), tf.float32)
    result = tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None], transforms=matrix[None], output_shape=tf.shape(image)[:2],
        fill_value=0.0, interpolation="NEAREST", fill_mode="CONSTANT",
    )[0]  # fmt: skip
    return tf.ensure_shape(result, image.shape)


def translate(image, offset):
    """Moves one image; what comes in over the border is zero.

    Args:
        image: `[H, W, C]` uint8 or float32.
        offset: `[2]` float, (down, right) in pixels. Fractions go to the nearest pixel.

    Returns:
        As `image`.
    """
    down, right = tf.unstack(tf.cast(offset, tf.float32))
    return _transform(image, (1.0, 0.0, -right, 0.0, 1.0, -down))


def rotate(image, angle):
    """Turns one image about its middle; corners that nothing turns into are zero.

    The output at (x, y) is the input nearest to the middle plus R (x, y), R the rotation matrix
    of the angle and (x, y) taken from the middle: ((W - 1) / 2, (H - 1) / 2).

    Args:
        image: `[H, W, C]` uint8 or float32.
        angle: scalar, radians, counter-clockwise as seen.

    Returns:
        As `image`.
    """
    size = tf.cast(tf.shape(image), tf.float32)
    middle_x, middle_y = (size[1] - 1.0) / 2.0, (size[0] - 1.0) / 2.0
    cosine, sine = tf.cos(angle), tf.sin(angle)
    x_offset = middle_x - (cosine * middle_x - sine * middle_y)
    y_offset = middle_y - (sine * middle_x + cosine * middle_y)
    return _transform(image, (cosine, -sine, x_offset, sine, cosine, y_offset))


def random_translation_rotation(image, seed):
    """`translate`, then `rotate`, as published for CUB-200-2011 and NABirds.

    Translation is uniform in +-10 % of height and width, rotation in +-20 degrees. Each takes the
    nearest pixel.

    Args:
        image: `[H, W, C]` uint8 or float32.
        seed: `[2]` integers; the same seed gives the same movement.

    Returns:
        As `image`.
    """
    drawn = tf.random.stateless_uniform((3,), seed, -1.0, 1.0)
    size = tf.cast(tf.shape(image)[:2], tf.float32)
    moved = translate(image, drawn[:2] * _TRANSLATION * size)
    return rotate(moved, drawn[2] * _ROTATION)
