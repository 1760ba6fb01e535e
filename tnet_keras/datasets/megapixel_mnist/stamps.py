"""The stamps of megapixel MNIST, 28 x 28 pixels each: noise, and how stamps become an image."""

import math

import numpy as np
import tensorflow as tf

DIGIT_SIZE = 28  # Pixels, both sides of any stamp.

_STEEPEST = math.radians(72.0)
_FLIP = 0.33
_SCALED = 1e-6  # 0.29 * 100 is a little less than 29; positions are rounded down.


def noise_patterns(count, random):
    """Draws the noise stamps of a data set.

    A stamp is the union of two straight strokes, one pixel wide, from the corner (0, 0) at 0-72
    degrees below the horizontal, uniform. The second strokes are the first ones shuffled, of which
    each is flipped left to right with probability 0.33, and then once more with the same
    probability: as published, where both flips act on the same axis, so that 44 % end up flipped.
    Every inked pixel has a value of its own, uniform between 0.8 and 1 of 255.

    Args:
        count: int >= 1.
        random: `numpy.random.Generator`.

    Returns:
        `[count, 28, 28]` uint8.
    """
    strokes = np.zeros((count, DIGIT_SIZE, DIGIT_SIZE), bool)
    step = np.arange(DIGIT_SIZE)
    for stroke, slope in zip(strokes, np.tan(_STEEPEST * random.random(count)), strict=True):
        # Along whichever axis is longer, so that the stroke has no holes.
        y, x = (step * slope, step) if slope <= 1 else (step, step / slope)
        stroke[np.rint(y).astype(int), np.rint(x).astype(int)] = True
    others = strokes[random.permutation(count)]
    for flipped in random.random((2, count)) < _FLIP:
        others[flipped] = others[flipped, :, ::-1]
    ink = np.rint(255 * random.uniform(0.8, 1.0, strokes.shape)).astype(np.uint8)
    return np.where(strokes | others, ink, np.uint8(0))


def paste(stamps, corners, image_size):
    """Pastes stamps onto a black canvas, later ones over earlier ones.

    Args:
        stamps: `[K, h, w]` uint8. A stamp replaces all pixels under it, its black ones too.
        corners: `[K, 2]` integers, (y, x) of their top left pixels; stamps lie inside the canvas.
        image_size: int, side of the canvas in pixels.

    Returns:
        `[image_size, image_size]` uint8.
    """
    canvas = np.zeros((image_size, image_size), np.uint8)
    for stamp, (y, x) in zip(stamps, corners.tolist(), strict=True):
        canvas[y : y + stamp.shape[0], x : x + stamp.shape[1]] = stamp
    return canvas


def low_resolution(stamps, corners, image_size, scale):
    """Makes the published low-resolution image: every stamp is downscaled, then pasted.

    This is not the canvas resized: here a digit keeps the same few pixels wherever it lies, and a
    stamp that is pasted over another replaces whole small pixels. Stamps of `28 * scale` pixels
    (published: 3), bilinear with antialiasing, at corners times `scale`; both rounded down.

    Args:
        stamps: `[K, 28, 28]` uint8 in the order in which they are pasted.
        corners: `[K, 2]` integers, (y, x) of their top left pixels on the canvas.
        image_size: int, side of the canvas in pixels.
        scale: float in [1/28, 1], as `MegapixelMnistConfig.low_resolution_scale`.

    Returns:
        `[s, s]` uint8 with s = `image_size * scale`, rounded down.

    Example:
        from tnet_keras.datasets.megapixel_mnist import mnist_digits

        images = mnist_digits("test", source="sklearn").images[:2]
        small = low_resolution(images, [(0, 0), (300, 472)], image_size=500, scale=0.2)
    """

    def scaled(value):
        return np.floor(np.asarray(value) * scale + _SCALED).astype(int)

    side, size = int(scaled(DIGIT_SIZE)), int(scaled(image_size))
    small = tf.image.resize(stamps[..., None], (side, side), method="bilinear", antialias=True)
    small = np.clip(np.rint(small[..., 0].numpy()), 0, 255).astype(np.uint8)
    return paste(small, scaled(corners), size)
