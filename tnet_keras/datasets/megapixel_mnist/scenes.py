"""Megapixel MNIST as pure functions of (seed, split, index): what lies where, and an image."""

import dataclasses
import math
import numbers
from typing import NamedTuple

import keras
import numpy as np

from tnet_keras.datasets.config import DrawnConfig
from tnet_keras.datasets.megapixel_mnist.digits import mnist_digits
from tnet_keras.datasets.megapixel_mnist.stamps import DIGIT_SIZE, noise_patterns, paste
from tnet_keras.datasets.needle_scenes import NUM_CLASSES
from tnet_keras.datasets.streams import SPLITS

#: Largest side of an image in pixels: flat positions are int32.
LARGEST = math.isqrt(2**31)


@keras.saving.register_keras_serializable(package="tnet_keras")
@dataclasses.dataclass(frozen=True)
class MegapixelMnistConfig(DrawnConfig):
    """What an image of `megapixel_mnist` holds. The defaults are those of the published task.

    Args:
        image_size: int, side of the square canvas in pixels.
        num_digits: int >= 1, digits per image, each 28 x 28 pixels, without overlap.
        num_target: int, how many of them are of the target class, which is the label: over half.
        num_noise: int >= 0, noise stamps per image, 28 x 28 pixels each; pasted after the digits.
        num_patterns: int >= 1, different noise stamps per split.
        low_resolution_scale: float in [1/28, 1], side of the image of `low_resolution` over ours.

    Raises:
        ValueError: if a value is out of range, or the canvas too small (at least half of the places
            must be free for the last digit).
    """

    image_size: int = 1500
    num_digits: int = 5
    num_target: int = 3
    num_noise: int = 50
    num_patterns: int = 50
    low_resolution_scale: float = 0.12

    def __post_init__(self):
        for name, low in (
            ("image_size", 1), ("num_digits", 1), ("num_target", 1), ("num_noise", 0),
            ("num_patterns", 1),
        ):  # fmt: skip
            value = getattr(self, name)
            if not isinstance(value, numbers.Integral) or value < low:
                raise ValueError(
                    f"`{name}` must be an int of at least {low}. Received: {name}={value}"
                )
        if not self.num_digits < 2 * self.num_target <= 2 * self.num_digits:
            raise ValueError(
                f"`num_target` must be more than half of the {self.num_digits} digits and not "
                f"more than all. Received: num_target={self.num_target}"
            )
        # Each digit forbids the next ones a square of 2 * 28 - 1 corners.
        taken = (2 * DIGIT_SIZE - 1) * math.sqrt(2 * (self.num_digits - 1))
        room = max(1, math.ceil(taken), DIGIT_SIZE + 2 if self.num_noise else 0)
        least = DIGIT_SIZE - 1 + room
        if not least <= self.image_size <= LARGEST:
            raise ValueError(
                f"`image_size` must be within {least} and {LARGEST} pixels. "
                f"Received: image_size={self.image_size}"
            )
        if not 1 / DIGIT_SIZE <= self.low_resolution_scale <= 1:
            raise ValueError(
                f"`low_resolution_scale` must be within 1/{DIGIT_SIZE} and 1. "
                f"Received: low_resolution_scale={self.low_resolution_scale}"
            )

    @classmethod
    def easy(cls):
        """The published easy variant: 500 x 500 pixels, no noise, scale 0.2.

        Returns:
            `MegapixelMnistConfig`.
        """
        return cls(image_size=500, num_noise=0, low_resolution_scale=0.2)

    @classmethod
    def small(cls, image_size=400):
        """A smaller task for CPUs, not a published one: as much noise per area, scale 0.2.

        Args:
            image_size: int, side of the canvas in pixels.

        Returns:
            `MegapixelMnistConfig`.
        """
        # More noise would paste over so many digits that the label becomes a matter of chance.
        num_noise = max(1, round(50 * (image_size / 1500) ** 2))
        return cls(image_size=image_size, num_noise=num_noise, low_resolution_scale=0.2)


class Layout(NamedTuple):
    """What lies where in one image; later stamps are pasted over earlier ones.

    Fields:
        label: int32 in 0-9, the class of the target digits.
        digits: `[num_digits]` int, positions among the source digits; the target digits first.
        noise: `[num_noise]` int, which patterns.
        corners: `[num_digits + num_noise, 2]` int32, (y, x) of the top left pixel of each stamp.
        boxes: `[num_target, 4]` float32 (y0, x0, y1, x1) in pixels, of the target digits' stamps.
    """

    label: np.int32
    digits: np.ndarray
    noise: np.ndarray
    corners: np.ndarray
    boxes: np.ndarray


class MegapixelMnistScenes:
    """Draws images from their indices: pure functions of (seed, split, index).

    Args:
        config: `MegapixelMnistConfig`.
        split: "train", "validation" or "test".
        seed: int >= 0. Splits differ whatever the seed; no seed gives the authors' very images.
        source: where the digits come from, as of `mnist_digits`.

    Attributes:
        digits: `MnistDigits`; `digits.source` says where they come from.
        patterns: `[num_patterns, 28, 28]` uint8, the noise stamps, as of `noise_patterns`.

    Raises:
        ValueError: for another split, or a source that does not hold its digits.
    """

    def __init__(self, config, split, seed, source="auto"):
        self.digits = mnist_digits(split, source)
        self._config, self._seed, self._split = config, seed, SPLITS.index(split)
        self.patterns = noise_patterns(config.num_patterns, self._random())
        same = [self.digits.labels == label for label in range(NUM_CLASSES)]
        self._same = [np.flatnonzero(each) for each in same]
        self._other = [np.flatnonzero(~each) for each in same]

    def _random(self, *index):
        key = (self._split, *map(int, index))
        return np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=key))

    def layout(self, index):
        """Says what lies where without drawing it.

        Args:
            index: int >= 0, which image.

        Returns:
            `Layout`.
        """
        config, random = self._config, self._random(index)
        label = np.int32(random.integers(NUM_CLASSES))
        same, other = self._same[label], self._other[label]
        targets = same[random.integers(len(same), size=config.num_target)]
        others = other[random.integers(len(other), size=config.num_digits - config.num_target)]
        last = config.image_size - DIGIT_SIZE  # The last corner inside the canvas.
        corners = np.empty((config.num_digits + config.num_noise, 2), np.int32)
        number = 0
        while number < config.num_digits:  # Ends: the configuration leaves half of the places free.
            corners[number] = random.integers(0, last, 2, endpoint=True)
            apart = np.abs(corners[:number] - corners[number]) >= DIGIT_SIZE
            number += apart.any(axis=1).all()
        noise = random.integers(config.num_patterns, size=config.num_noise)
        if config.num_noise:  # As published: from 28 on, and never at the last corner.
            corners[config.num_digits :] = random.integers(DIGIT_SIZE, last, (config.num_noise, 2))
        first = corners[: config.num_target]
        boxes = np.concatenate([first, first + DIGIT_SIZE], axis=1).astype(np.float32)
        return Layout(label, np.concatenate([targets, others]), noise, corners, boxes)

    def stamps(self, layout):
        """Looks up the stamps of an image; their corners are `layout.corners`.

        Args:
            layout: `Layout`.

        Returns:
            `[num_digits + num_noise, 28, 28]` uint8 in the order in which they are pasted.
        """
        return np.concatenate([self.digits.images[layout.digits], self.patterns[layout.noise]])

    def draw(self, layout):
        """Pastes the stamps of an image onto a black canvas.

        Args:
            layout: `Layout`.

        Returns:
            `[S, S]` uint8. A stamp replaces all of its 28 x 28 pixels, the black ones too.
        """
        return paste(self.stamps(layout), layout.corners, self._config.image_size)
