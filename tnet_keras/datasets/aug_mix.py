"""AugMix (Hendrycks et al., ICLR 2020) and cutout (DeVries and Taylor, 2017): labels stay whole.

As in `rand_augment.py` each number is a function of the seed, and the layers of keras-cv only do
what it says: `keras_cv.layers.AugMix` draws from generators with a state of their own.
"""

import tensorflow as tf

from tnet_keras.datasets.rand_augment import keras_cv_layers
from tnet_keras.datasets.warp import rotate, translate

_CHAINS, _DEPTH, _ALPHA = 3, 3, 1.0  # The paper's, and the defaults of keras-cv.
_LEAST = 0.01  # Least strength of an operation, keras-cv's.


def _operations(image, strength, sign):
    """Nine functions without arguments that each return the changed image, `[H, W, 3]`."""
    layers = keras_cv_layers()
    height, width = image.shape[0], image.shape[1]
    bits = 5 - tf.cast(strength * 3.0, tf.int32)  # that are lost
    step = tf.cast(tf.bitwise.left_shift(1, bits), tf.float32)
    sheared = tf.reshape(0.3 * sign * strength, (1, 1))

    def apply(name, transformations=None):
        return lambda: layers[name].augment_images(image[None], transformations=transformations)[0]

    return [
        apply("auto_contrast"),
        apply("equalize"),
        lambda: tf.floor(tf.floor(image) / step) * step,
        lambda: rotate(image, strength * tf.constant(3.14159265 / 6.0)),
        lambda: tf.where(image < 255.0 * strength, image, 255.0 - image),
        apply("shear", {"shear_x": sheared, "shear_y": None}),
        apply("shear", {"shear_x": None, "shear_y": sheared}),
        lambda: translate(image, (0.0, tf.floor(strength * width / 3.0) * sign)),
        lambda: translate(image, (tf.floor(strength * height / 3.0) * sign, 0.0)),
    ]


def aug_mix(image, seed, severity=0.3):
    """Mixes one image with a mixture of three of its kin, each changed by one to three operations.

    (1 - m) x + m (w1 x1 + w2 x2 + w3 x3), m of Beta(1, 1), w of Dirichlet(1, 1, 1). Operations and
    strengths are those of `keras_cv.layers.AugMix`: contrast stretched to the full range, histogram
    equalised, fewer grey levels, rotated, solarised, sheared along x or y, moved along x or y.
    (The Jensen-Shannon loss of the paper is no part of it.)

    Args:
        image: `[H, W, 3]` uint8 or float, range 0 to 255, static shape.
        seed: `[2]` integers; the same seed gives the same image.
        severity: float in [0.01, 1], how strong an operation is at most: 1 rotates by 30 degrees,
            moves by a third of the side, shears by 0.3.

    Returns:
        `[H, W, 3]` float32, range 0 to 255.

    Raises:
        ValueError: if `severity` is out of range.

    Example:
        image = tf.zeros((8, 8, 3), tf.uint8)
        mixed = aug_mix(image, seed=(1, 2))
    """
    if not _LEAST <= severity <= 1.0:
        raise ValueError(f"`severity` must be in [{_LEAST}, 1]. Received: severity={severity}")
    image = tf.clip_by_value(tf.cast(image, tf.float32), 0.0, 255.0)
    seeds = tf.random.split(tf.cast(seed, tf.int64), 3 + 3 * _CHAINS * _DEPTH)
    gammas = tf.random.stateless_gamma((_CHAINS,), seeds[0], _ALPHA)
    weights = gammas / tf.reduce_sum(gammas)
    gammas = tf.random.stateless_gamma((2,), seeds[1], _ALPHA)
    share = gammas[0] / tf.reduce_sum(gammas)
    depths = tf.random.stateless_uniform((_CHAINS,), seeds[2], 1, _DEPTH + 1, tf.int32)
    seeds = tf.reshape(seeds[3:], (_CHAINS * _DEPTH, 3, 2))

    def step(number, changed, mixture):
        chain, place = number // _DEPTH, number % _DEPTH
        changed = tf.where(tf.equal(place, 0), image, changed)
        choice_seed, strength_seed, sign_seed = tf.unstack(seeds[number])
        strength = tf.random.stateless_uniform((), strength_seed, _LEAST, severity)
        sign = tf.where(tf.random.stateless_uniform((), sign_seed) < 0.5, -1.0, 1.0)
        operations = _operations(changed, strength, sign)
        choice = tf.random.stateless_uniform((), choice_seed, 0, len(operations), tf.int32)
        choice = tf.where(place < depths[chain], choice, len(operations))
        changed = tf.switch_case(choice, [*operations, lambda: changed])
        changed = tf.ensure_shape(tf.clip_by_value(changed, 0.0, 255.0), image.shape)
        weight = tf.where(tf.equal(place, _DEPTH - 1), weights[chain], 0.0)
        return number + 1, changed, mixture + weight * changed

    # A loop, so that a graph holds the operations once.
    _, _, mixture = tf.while_loop(
        lambda number, *_: number < _CHAINS * _DEPTH, step, (0, image, tf.zeros_like(image))
    )
    return tf.clip_by_value((1.0 - share) * image + share * mixture, 0.0, 255.0)


def cutout(image, seed, fraction=0.25):
    """Covers a square of one image with its mean colour; the middle of it is anywhere.

    What lies over the border is lost, so that a square may be covered in part only. An object that
    is smaller than the square can vanish: the label does not know.

    Args:
        image: `[H, W, 3]` uint8 or float.
        seed: `[2]` integers; the same seed gives the same square.
        fraction: float in (0, 1], side of the square over the shorter side of the image.

    Returns:
        `[H, W, 3]` float32.

    Raises:
        ValueError: if `fraction` is out of range.

    Example:
        image = tf.zeros((8, 8, 3), tf.uint8)
        covered = cutout(image, seed=(1, 2))
    """
    if not 0.0 < fraction <= 1.0:
        raise ValueError(f"`fraction` must be in (0, 1]. Received: fraction={fraction}")
    image = tf.cast(image, tf.float32)
    size = tf.shape(image)[:2]
    side = fraction * tf.cast(tf.reduce_min(size), tf.float32)
    middle = tf.random.stateless_uniform((2,), seed) * tf.cast(size, tf.float32)

    def inside(axis):
        centres = tf.range(size[axis], dtype=tf.float32) + 0.5
        return tf.abs(centres - middle[axis]) < side / 2.0

    covered = (inside(0)[:, None] & inside(1)[None, :])[..., None]
    return tf.where(covered, tf.reduce_mean(image, axis=(0, 1)), image)
