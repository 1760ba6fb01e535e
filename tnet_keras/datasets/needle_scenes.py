"""Draws the scenes of `needle_digits`: one handwritten digit among strokes over noise.

A scene is a pure function of (seed, split, scene index): it does not depend on the batch it is
drawn in.
"""

import dataclasses
import math

import keras
import numpy as np
import tensorflow as tf

from tnet_keras.datasets.config import DrawnConfig, check_ranges
from tnet_keras.datasets.streams import SPLITS, check_split, counter_uniform
from tnet_keras.datasets.strokes import INK_THRESHOLD, draw_strokes

NUM_CLASSES = 10

_CELL = 4  # Source digits are enlarged 4x (bicubic) once; scenes then resample them bilinearly.
_SOURCE_CELLS = 8  # scikit-learn's digits are 8x8.
_PLACEMENT_TRIES = 6  # A stroke on top of the digit in all of 6 tries: about 1 in 10^5.
_NOISE_ROWS = 4096


@keras.saving.register_keras_serializable(package="tnet_keras")
@dataclasses.dataclass(frozen=True)
class NeedleDigitsConfig(DrawnConfig):
    """What makes a `needle_digits` scene easy or hard.

    Args:
        image_size: int, side of the square scene in pixels.
        digit_size: (low, high), side in pixels of the square that the 8x8 source digit is drawn
            to, uniform. Drawn so in every split.
        rotation: float, largest rotation of the digit in degrees, training only.
        digit_contrast: float >= 1, factor on the digit's ink before it is clipped at its peak; the
            source digits are soft, strokes are not.
        shear: float, largest horizontal shear of the digit (pixels per pixel), training only.
        num_distractors: (low, high), strokes per scene, uniform, both ends included.
        stroke_length: (low, high), distance between the ends of a stroke in pixels.
        stroke_width: (low, high), thickness of a stroke in pixels.
        stroke_bend: float in [0, 1], how curved strokes are (see `strokes.draw_strokes`).
        brightness: (low, high), peak value in 0-255; one draw per scene, shared by the digit and
            all its distractors.
        noise_mean: float, mean of the background in 0-255.
        noise_std: float, standard deviation of the background.
        clearance: int, pixels kept free of strokes around the digit's box.
        margin: int, pixels kept free of digits along the border of the scene.
        stroke_bank: int, how many different strokes are drawn per split.

    Raises:
        ValueError: if a range is not (low, high) with `0 < low <= high`, or the largest digit or
            stroke does not fit into the scene.
    """

    image_size: int = 224
    digit_size: tuple = (18.0, 24.0)
    digit_contrast: float = 1.25
    rotation: float = 12.0
    shear: float = 0.15
    num_distractors: tuple = (12, 16)
    stroke_length: tuple = (12.0, 26.0)
    stroke_width: tuple = (2.0, 3.5)
    stroke_bend: float = 0.6
    brightness: tuple = (200.0, 255.0)
    noise_mean: float = 50.0
    noise_std: float = 20.0
    clearance: int = 2
    margin: int = 0
    stroke_bank: int = 2048

    def __post_init__(self):
        check_ranges(self, (
            "digit_size", "num_distractors", "stroke_length", "stroke_width", "brightness"
        ))  # fmt: skip
        if self.digit_contrast < 1:
            raise ValueError(
                "`digit_contrast` must be at least 1. Received: "
                f"digit_contrast={self.digit_contrast}"
            )
        if self.brightness[1] > 255:
            raise ValueError(
                f"`brightness` must be at most 255. Received: brightness={self.brightness}"
            )
        for name in (
            "rotation", "shear", "stroke_bend", "noise_mean", "noise_std", "clearance", "margin"
        ):  # fmt: skip
            if getattr(self, name) < 0:
                raise ValueError(
                    f"`{name}` must not be negative. Received: {name}={getattr(self, name)}"
                )
        stroke = self.stroke_length[1] * (1 + self.stroke_bend) + self.stroke_width[1] + 4
        largest = max(self.digit_window() + 2 * self.margin, math.ceil(stroke))
        if largest > self.image_size:
            raise ValueError(
                "`image_size` must hold the largest digit and stroke, at least "
                f"{largest} pixels. Received: image_size={self.image_size}"
            )

    def digit_window(self, scale=1.0):
        """Side of a window that holds any digit drawn larger than configured.

        Args:
            scale: float, how many times larger.

        Returns:
            int, pixels, odd.
        """
        # The source gets one empty cell around it, hence 10/8; then rotation and shear.
        side = self.digit_size[1] * scale * (_SOURCE_CELLS + 2) / _SOURCE_CELLS
        angle = math.radians(min(self.rotation, 45.0))
        side = math.ceil(side * (math.cos(angle) + math.sin(angle)) * (1 + self.shear)) + 2
        return side | 1  # Always odd: a digit's pixels must not depend on the size of its window.


def source_digits(split):
    """The handwritten digits of one split (scikit-learn's 1,797, UCI Optical Recognition).

    Digits of each class are permuted with a fixed seed and cut 60 / 20 / 20 %, so that no source
    digit is in two splits, whatever the seed of the scenes.

    Args:
        split: "train", "validation" or "test".

    Returns:
        Tuple of `[N, 8, 8]` float32 in [0, 1], `[N]` int32 labels in 0-9, and `[N]` int32, the
        positions of the digits in `sklearn.datasets.load_digits()`.

    Raises:
        ValueError: for another split.
    """
    check_split(split)
    # Imported here: loading scikit-learn takes a second that other data sets need not pay.
    from sklearn.datasets import load_digits

    digits = load_digits()
    random = np.random.default_rng(20240229)
    chosen = []
    for label in range(NUM_CLASSES):
        members = random.permutation(np.flatnonzero(digits.target == label))
        cuts = [round(0.6 * len(members)), round(0.8 * len(members))]
        chosen.append(np.split(members, cuts)[SPLITS.index(split)])
    chosen = np.sort(np.concatenate(chosen)).astype(np.int32)
    images = (digits.images[chosen] / 16.0).astype(np.float32)
    return images, digits.target[chosen].astype(np.int32), chosen


class NeedleScenes:
    """Draws scenes from their indices. Holds the banks of digits, strokes and noise as tensors.

    Args:
        config: `NeedleDigitsConfig`.
        split: "train", "validation" or "test".
        seed: int >= 0.
        training: bool, whether digits are rotated and sheared.
        largest_scale: float, the largest `scale` that calls will use.
    """

    def __init__(self, config, split, seed, training, largest_scale):
        self._config, self._training = config, training
        self._window = config.digit_window(largest_scale)
        stream = np.random.SeedSequence([seed, SPLITS.index(split)])
        self._key = int(stream.generate_state(1, np.uint64)[0])
        digits, labels, _ = source_digits(split)
        # One empty cell around each digit lets ink that touches the edge fade instead of stop.
        padded = np.pad(digits, ((0, 0), (1, 1), (1, 1)))[..., None]
        side = (_SOURCE_CELLS + 2) * _CELL
        enlarged = tf.image.resize(padded, (side, side), method="bicubic").numpy()
        enlarged = np.clip(enlarged / enlarged.max(axis=(1, 2), keepdims=True), 0.0, 1.0)
        self._digits, self._labels = tf.constant(enlarged), tf.constant(labels)
        strokes = draw_strokes(
            config.stroke_bank, config.stroke_length, config.stroke_width, config.stroke_bend,
            stream.generate_state(4).tolist(),
        )  # fmt: skip
        # Only the inked pixels of a stroke are kept: offset from its corner, and value.
        most = max(np.count_nonzero(stroke) for stroke in strokes)
        offsets = np.zeros((len(strokes), most), np.int32)
        ink = np.zeros((len(strokes), most), np.float32)
        for index, stroke in enumerate(strokes):
            y, x = np.nonzero(stroke)
            offsets[index, : len(y)] = y * config.image_size + x
            ink[index, : len(y)] = stroke[y, x]
        self._stroke_offsets, self._stroke_ink = tf.constant(offsets), tf.constant(ink)
        extents = np.array([stroke.shape for stroke in strokes], np.float32)
        self._stroke_extents = tf.constant(extents)
        noise = np.random.default_rng(stream.spawn(1)[0]).normal(
            config.noise_mean, config.noise_std, (_NOISE_ROWS, config.image_size)
        )
        self._noise = tf.constant(np.clip(np.rint(noise), 0, 255).astype(np.uint8))

    def __call__(self, indices, scale):
        """Draws a batch of scenes.

        Args:
            indices: `[B]` int64, which scenes.
            scale: `[B]` float32, factor on the size of each digit.

        Returns:
            `[B, H, W]` uint8 grey scenes, `[B]` int32 labels in 0-9, and `[B, 4]` float32 boxes
            (y0, x0, y1, x1) in pixels, half-open, tight around the digit's ink.
        """
        config, size = self._config, self._config.image_size
        batch, strokes = tf.shape(indices)[0], int(config.num_distractors[1])
        tries = _PLACEMENT_TRIES
        uniform = counter_uniform(self._key, indices, 10 + strokes * (1 + 2 * tries) + size)
        u, stroke_u, place_u, noise_u = tf.split(
            uniform, [10, strokes, strokes * tries * 2, size], axis=1
        )
        source = choose(u[:, 0], self._labels.shape[0])
        ink, window_box = self._draw_digits(source, u[:, 1:6], scale)
        extent = window_box[:, 2:] - window_box[:, :2]
        corner = float(config.margin) + tf.floor(
            u[:, 6:8] * (size - 2.0 * config.margin - extent + 1.0)
        )
        boxes = tf.concat([corner, corner + extent], axis=1)
        peak = config.brightness[0] + u[:, 8] * (config.brightness[1] - config.brightness[0])
        peak = tf.round(peak)

        background = tf.gather(self._noise, choose(noise_u, _NOISE_ROWS))
        base = tf.range(batch) * (size * size)

        # The digit's window may hang over the border, its ink does not: clipped pixels carry 0.
        origin = tf.cast(corner - window_box[:, :2], tf.int32)
        steps = tf.range(self._window)[None, :]
        y = tf.clip_by_value(origin[:, 0:1] + steps, 0, size - 1)
        x = tf.clip_by_value(origin[:, 1:2] + steps, 0, size - 1)
        digit_at = base[:, None, None] + y[:, :, None] * size + x[:, None, :]
        digit_value = ink * peak[:, None, None]

        stroke = choose(stroke_u, config.stroke_bank)
        stroke_corner = self._place_strokes(
            tf.gather(self._stroke_extents, stroke),
            tf.reshape(place_u, (batch, strokes, tries, 2)),
            boxes,
        )
        low, high = config.num_distractors
        shown = tf.range(strokes)[None, :] < int(low) + choose(u[:, 9:10], int(high) - int(low) + 1)
        stroke_peak = tf.where(shown, peak[:, None], 0.0)
        stroke_at = (
            base[:, None, None]
            + (stroke_corner[..., 0] * size + stroke_corner[..., 1])[..., None]
            + tf.gather(self._stroke_offsets, stroke)
        )
        stroke_value = tf.gather(self._stroke_ink, stroke) * stroke_peak[..., None]

        at = tf.concat([tf.reshape(digit_at, [-1]), tf.reshape(stroke_at, [-1])], 0)
        value = tf.concat([tf.reshape(digit_value, [-1]), tf.reshape(stroke_value, [-1])], 0)
        images = tf.tensor_scatter_nd_max(
            tf.reshape(background, [-1]), at[:, None], tf.cast(tf.round(value), tf.uint8)
        )
        images = tf.reshape(images, (batch, size, size))
        return images, tf.gather(self._labels, source), boxes

    def _draw_digits(self, source, u, scale):
        """Ink `[B, w, w]` in [0, 1] of the digits `source`, and the box `[B, 4]` of that ink."""
        config = self._config
        low, high = config.digit_size
        side = (low + u[:, 0] * (high - low)) * scale
        zoom = _SOURCE_CELLS * _CELL / side  # Source pixels per scene pixel.
        if self._training:
            angle = (2.0 * u[:, 1] - 1.0) * math.radians(config.rotation)
            shear = (2.0 * u[:, 2] - 1.0) * config.shear
        else:
            angle, shear = tf.zeros_like(side), tf.zeros_like(side)
        cos, sin = tf.cos(angle) * zoom, tf.sin(angle) * zoom
        # Output pixel (x, y) reads input pixel A (x, y) + b; the centre of the digit falls within
        # half a pixel of the centre of the window.
        a = tf.stack([cos, shear * cos - sin, sin, shear * sin + cos], axis=1)
        middle_in = ((_SOURCE_CELLS + 2) * _CELL - 1) / 2
        y_out, x_out = tf.unstack((self._window - 1) / 2 + u[:, 3:5] - 0.5, axis=1)
        bx = middle_in - a[:, 0] * x_out - a[:, 1] * y_out
        by = middle_in - a[:, 2] * x_out - a[:, 3] * y_out
        zero = tf.zeros_like(bx)
        ink = tf.raw_ops.ImageProjectiveTransformV3(
            images=tf.gather(self._digits, source),
            transforms=tf.stack([a[:, 0], a[:, 1], bx, a[:, 2], a[:, 3], by, zero, zero], axis=1),
            output_shape=[self._window, self._window],
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode="CONSTANT",
        )[..., 0]
        ink *= config.digit_contrast / tf.reduce_max(ink, axis=(1, 2), keepdims=True)
        ink = tf.minimum(ink, 1.0)
        ink = tf.where(ink < INK_THRESHOLD, 0.0, ink)
        edges = []
        for axis in (2, 1):
            inked = tf.cast(tf.reduce_max(ink, axis=axis) > 0.0, tf.int32)
            edges.append(tf.argmax(inked, axis=1, output_type=tf.int32))
            edges.append(self._window - tf.argmax(inked[:, ::-1], axis=1, output_type=tf.int32))
        y0, y1, x0, x1 = edges
        return ink, tf.cast(tf.stack([y0, x0, y1, x1], axis=1), tf.float32)

    def _place_strokes(self, extents, u, boxes):
        """Corner `[B, S, 2]` int32 of each stroke: the first of its tries that clears the digit."""
        size, clearance = self._config.image_size, float(self._config.clearance)
        corners = tf.floor(u * (size - extents[:, :, None] + 1.0))
        ends = corners + extents[:, :, None]
        before = ends <= boxes[:, None, None, :2] - clearance
        after = corners >= boxes[:, None, None, 2:] + clearance
        free = tf.reduce_any(before | after, axis=-1)
        first = tf.argmax(tf.cast(free, tf.int32), axis=2, output_type=tf.int32)
        return tf.cast(tf.gather(corners, first, batch_dims=2), tf.int32)


def choose(uniform, count):
    """Integers in `[0, count)`, int32, from uniform numbers in [0, 1)."""
    return tf.minimum(tf.cast(uniform * count, tf.int32), count - 1)
