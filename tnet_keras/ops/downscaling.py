"""Antialiased views: every pixel of the large image counts."""

import numpy as np
import tensorflow as tf

from tnet_keras.ops.patches import check_rank, check_size


def downscale_view(images, size):
    """Resizes whole images: bilinear, half-pixel centres, antialiased.

    Equals `tf.image.resize(..., antialias=True)`, and is two matrix products with constant
    weights: unlike TensorFlow's own operator they compile under XLA, convert to TFLite with
    built-in operators and have a gradient everywhere. The cost grows with the image; `resize_view`
    is what costs the same at any ratio, and misses what lies between the pixels it reads.

    Args:
        images: `[B, H, W, C]`, any numeric dtype, range kept. `H`, `W` static.
        size: `(height, width)` of the result, pixels.

    Returns:
        float32 `[B, height, width, C]`.

    Raises:
        ValueError: If `images` is not of rank 4 or `size` not two positive integers.
    """
    images = tf.convert_to_tensor(images)
    check_rank("images", images, 4, "[B, H, W, C]")
    size = check_size("size", size)
    view = tf.cast(images, tf.float32)
    height, width, channels = images.shape[1:]
    if size[0] != height:
        rows = tf.reshape(view, [-1, height, width * channels])
        view = tf.matmul(tf.constant(triangle_weights(height, size[0])), rows)
        view = tf.reshape(view, [-1, size[0], width, channels])
    if size[1] != width:
        # Columns and channels at once: the matrix that keeps the channels apart would be larger.
        view = tf.einsum("bhwc,vw->bhvc", view, tf.constant(triangle_weights(width, size[1])))
    return view


def triangle_weights(length, size):
    """Weights of the pixels of a line in each pixel of the resized line.

    Output pixel i is the mean of the input under a triangle around (i + 1/2) · length / size, as
    wide on each side as the ratio, one pixel at least.

    Args:
        length: int, pixels of the line.
        size: int, pixels of the resized line.

    Returns:
        float32 array `[size, length]`; rows sum to 1.
    """
    ratio = length / size
    centres = (np.arange(size) + 0.5) * ratio
    distance = np.abs(np.arange(length) + 0.5 - centres[:, None])
    weights = np.maximum(0.0, 1.0 - distance / max(ratio, 1.0))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
