"""Resizing by a method drawn at random, as TNet's training means to do, and as it does."""

import tensorflow as tf

#: The methods that the training of TNet is meant to draw from.
RESIZE_METHODS = (
    "bilinear", "lanczos3", "lanczos5", "bicubic", "gaussian", "nearest", "area", "mitchellcubic",
)  # fmt: skip
#: What the released training resizes with: counts of 160 draws. Its branches ignore their input,
#: so that all methods run and one of the quick ones wins.
RELEASED_COUNTS = {"bilinear": 46, "mitchellcubic": 114}


def _resize(image, size, methods, index):
    image = tf.cast(image, tf.float32)

    def by(method):
        return lambda: tf.image.resize(image, size, method=method, antialias=False)

    return tf.ensure_shape(
        tf.switch_case(index, [by(method) for method in methods]), (*size, image.shape[-1])
    )


def random_resize(image, size, seed):
    """Resizes one image by one of `RESIZE_METHODS`, each as likely.

    Args:
        image: `[h, w, C]` uint8 or float, range 0 to 255.
        size: (height, width), pixels; the aspect ratio is not kept.
        seed: `[2]` integers; the same seed gives the same method.

    Returns:
        `[height, width, C]` float32, half-pixel centres, no antialiasing. Cubic and Lanczos
        methods overshoot: values may lie outside of the range.
    """
    index = tf.random.stateless_uniform((), seed, 0, len(RESIZE_METHODS), tf.int32)
    return _resize(image, size, RESIZE_METHODS, index)


def random_resize_as_released(image, size, seed):
    """Resizes one image by bilinear or Mitchell-cubic interpolation, 46 to 114.

    These are the methods, and their measured shares, that the released training of TNet uses
    where it means `random_resize`.

    Args:
        image: `[h, w, C]` uint8 or float, range 0 to 255.
        size: (height, width), pixels; the aspect ratio is not kept.
        seed: `[2]` integers; the same seed gives the same method.

    Returns:
        `[height, width, C]` float32, half-pixel centres, no antialiasing.
    """
    bilinear = RELEASED_COUNTS["bilinear"]
    drawn = tf.random.stateless_uniform((), seed, 0, sum(RELEASED_COUNTS.values()), tf.int32)
    return _resize(image, size, tuple(RELEASED_COUNTS), tf.cast(drawn >= bilinear, tf.int32))
