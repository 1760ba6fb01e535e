"""Billiard tables as pure functions of (seed, split, index): what lies where, and a picture."""

import dataclasses
import math
import numbers

import keras
import numpy as np

from tnet_keras.datasets.billiards.painter import (
    BALL_COLORS,
    GRAIN_PIECES,
    STAIN_PIECES,
    TablePainter,
)
from tnet_keras.datasets.config import DrawnConfig, check_ranges
from tnet_keras.datasets.streams import SPLITS, check_split

COLORS = tuple(BALL_COLORS)
NUMBERS = 9

# In diameters of a ball: the white disc, and how far a number lies off its middle at most per axis.
_DISC, _OFF_CENTRE = 0.5, 0.04
# A digit is 0.66 as wide as high, so that its corners lie 0.6 heights from its middle.
_HIGHEST = (_DISC / 2 - 1.1 * _OFF_CENTRE) / 0.6
_STAINS = 0.2  # Blur of the stains, in heights of a digit.
_LAYOUTS = 32  # Tried at once; about every third has balls that do not touch.
_MOST_OVERLAPS = 6.0
_SMALL = 500  # Pixels; the balls of the published task need more room.


@keras.saving.register_keras_serializable(package="tnet_keras")
@dataclasses.dataclass(frozen=True)
class BilliardsConfig(DrawnConfig):
    """What a table of `billiards` looks like. The defaults are those of the published task:
    numbers readable in 100 x 100 patches of 1000 x 1000 pixels, but not after downscaling by 4.

    Args:
        image_size: int, side of the square image in pixels.
        ball_diameter: (low, high), pixels, uniform.
        num_balls: (low, high), balls per table, uniform, both ends included.
        digit_height: (low, high), height of the numbers in pixels, uniform.
        digit_stroke: (low, high), thickness of their strokes as a fraction of the height, at most
            0.25; uniform.
        digit_ink: (low, high), how black they are, 1 at most; uniform.
        ball_gap: float >= 0, pixels kept free between any two balls.
        rail_width: float >= 0, width of the rail (wood and cushion) in pixels; balls lie inside.
        rotation: float in [0, 45], largest rotation of a number in degrees.
        tilt: float in [0, 20], largest angle in degrees between the middle of a number and the
            direction of the camera.
        brightness: (low, high), strength of the light, 1 is usual; uniform.
        light_elevation: (low, high), degrees above the table, within 25-90; uniform.
        wear: float in [0, 0.2], standard deviation of the stains on the balls, as a fraction of
            their colour. Stains are about as large as the strokes of a number: downscaled, the one
            cannot be told from the other.
        grain: float in [0, 10], standard deviation of the cloth's grain in percent of its
            brightness.
        vignette: float in [0, 0.5], how much darker the corners are than the middle.

    Raises:
        ValueError: if a range is not (low, high) with `0 < low <= high`, a value is out of its
            bounds, the highest number does not fit on the smallest ball, or the balls hardly fit
            on the table without touching.
    """

    image_size: int = 1000
    ball_diameter: tuple = (52.0, 68.0)
    num_balls: tuple = (4, 8)
    digit_height: tuple = (10.0, 12.0)
    digit_stroke: tuple = (0.12, 0.2)
    digit_ink: tuple = (0.7, 1.0)
    ball_gap: float = 4.0
    rail_width: float = 36.0
    rotation: float = 20.0
    tilt: float = 12.0
    brightness: tuple = (0.8, 1.15)
    light_elevation: tuple = (35.0, 60.0)
    wear: float = 0.08
    grain: float = 3.0
    vignette: float = 0.25

    def __post_init__(self):
        check_ranges(self, (
            "ball_diameter", "num_balls", "digit_height", "digit_stroke", "digit_ink", "brightness",
            "light_elevation",
        ))  # fmt: skip
        if not all(isinstance(number, numbers.Integral) for number in self.num_balls):
            raise ValueError(f"`num_balls` must be two ints. Received: num_balls={self.num_balls}")
        for name, low, high in (
            ("ball_gap", 0, math.inf), ("rail_width", 0, math.inf), ("rotation", 0, 45),
            ("tilt", 0, 20), ("wear", 0, 0.2), ("grain", 0, 10), ("vignette", 0, 0.5),
        ):  # fmt: skip
            if not low <= getattr(self, name) <= high:
                raise ValueError(
                    f"`{name}` must lie between {low} and {high}. "
                    f"Received: {name}={getattr(self, name)}"
                )
        for name, low, high in (
            ("digit_stroke", 0, 0.25), ("digit_ink", 0, 1), ("brightness", 0, 2),
            ("light_elevation", 25, 90),
        ):  # fmt: skip
            value = getattr(self, name)
            if value[0] < low or value[1] > high:
                raise ValueError(
                    f"`{name}` must lie within {low} and {high}. Received: {name}={value}"
                )
        highest = self.ball_diameter[0] * _HIGHEST
        if self.digit_height[1] > highest:
            raise ValueError(
                f"`digit_height` must be at most {highest:.4g}, to fit on the disc of the smallest "
                f"ball. Received: digit_height={self.digit_height}"
            )
        # Two balls dropped at random overlap with this probability; all pairs together must leave
        # a fair share of layouts without overlap, of which one is then drawn.
        apart = self.ball_diameter[1] + self.ball_gap
        pairs = self.num_balls[1] * (self.num_balls[1] - 1) / 2
        room = math.sqrt(pairs * math.pi * apart**2 / _MOST_OVERLAPS)
        least = np.ceil(2 * self.rail_width + self.ball_diameter[1] + max(room, 1.0) + 2)
        if self.image_size < least:
            raise ValueError(
                f"`image_size` must hold the balls at random places, at least {least:.0f} pixels. "
                f"Received: image_size={self.image_size}"
            )

    @classmethod
    def small(cls, image_size=320):
        """The same task in small: readable numbers on balls of 34-40 pixels.

        Args:
            image_size: int, side of the image in pixels, at best 250-400.

        Returns:
            `BilliardsConfig`.
        """
        return cls(
            image_size=image_size,
            ball_diameter=(34.0, 40.0),
            digit_height=(10.0, 11.5),
            ball_gap=2.0,
            rail_width=12.0,
        )

    @classmethod
    def of_size(cls, image_size):
        """The published task at a size: with `small` balls where those would find no room.

        Args:
            image_size: int, side of the image in pixels.

        Returns:
            `BilliardsConfig`: the defaults from 500 pixels, else `small(image_size)`.
        """
        return cls.small(image_size) if image_size < _SMALL else cls(image_size=image_size)


class BilliardScenes:
    """Draws tables from their indices.

    Args:
        config: `BilliardsConfig`.
        split: "train", "validation" or "test".
        seed: int >= 0.

    Raises:
        ValueError: for another split.
    """

    def __init__(self, config, split, seed):
        check_split(split)
        self._config, self._seed, self._split = config, seed, SPLITS.index(split)
        self._painter = TablePainter(
            config.image_size, config.rail_width, config.grain, config.vignette,
            math.ceil(config.ball_diameter[1]) + 2, _DISC,
            config.wear, _STAINS * sum(config.digit_height) / 2,
        )  # fmt: skip

    def annotate(self, index, own_numbers=1.0):
        """Says what is on a table without drawing it.

        Args:
            index: int >= 0, which table.
            own_numbers: float in [0, 1], see `draw`.

        Returns:
            List of dicts, one per ball, as the authors' JSON files have them: `position`
            ([x, y], here the centre in pixels), `number` (1-9), `color` (a name); and `box`,
            [y0, x0, y1, x1] in pixels, half-open.
        """
        return _annotation(self._layout(self._random(index), own_numbers))

    def draw(self, index, own_numbers=1.0):
        """Draws a table.

        Args:
            index: int >= 0, which table.
            own_numbers: float in [0, 1], probability that each ball has a number of its own;
                otherwise all balls of the table show that of the first. Another probability is
                another table.

        Returns:
            Tuple of `[S, S, 3]` uint8 and the annotation, as of `annotate`.
        """
        random = self._random(index)
        balls = self._layout(random, own_numbers)
        annotation = _annotation(balls)
        look = self._look(random, balls)
        return self._painter.paint(balls, look), annotation

    def _random(self, index):
        sequence = np.random.SeedSequence(self._seed, spawn_key=(self._split, int(index)))
        return np.random.default_rng(sequence)

    def _layout(self, random, own_numbers):
        """Which balls lie where: dict of `[N]` arrays."""
        config = self._config
        count = random.integers(config.num_balls[0], config.num_balls[1], endpoint=True)
        # Hundredths of a pixel: so that JSON files stay short, and say exactly what was drawn.
        diameter = np.round(random.uniform(*config.ball_diameter, count), 2)
        margin = config.rail_width + diameter / 2 + 1
        apart = (diameter[:, None] + diameter[None, :]) / 2 + config.ball_gap
        first, second = np.triu_indices(count, 1)
        apart = apart[first, second] ** 2
        while True:  # Ends: `BilliardsConfig` sees to it that enough layouts are free of overlaps.
            centre = random.random((_LAYOUTS, 2, count))
            centre = np.round(margin + centre * (config.image_size - 2 * margin), 2)
            squared = ((centre[..., first] - centre[..., second]) ** 2).sum(1)
            free = np.flatnonzero((squared >= apart).all(1))
            if free.size:
                break
        x, y = centre[free[0]]
        number = random.integers(1, NUMBERS, count, endpoint=True)
        color = random.integers(0, len(COLORS), count)
        if own_numbers < 1 and random.random() >= own_numbers:
            number[:] = number[0]
        return {"x": x, "y": y, "diameter": diameter, "number": number, "color": color}

    def _look(self, random, balls):
        """Light, cloth and how the numbers lie: completes `balls`, returns the table's look."""
        config = self._config
        count = len(balls["x"])
        balls["height"] = random.uniform(*config.digit_height, count)
        balls["stroke"] = random.uniform(*config.digit_stroke, count)
        balls["ink"] = random.uniform(*config.digit_ink, count)
        shifts = random.uniform(-_OFF_CENTRE, _OFF_CENTRE, (2, count)) * balls["diameter"]
        balls["shift_y"], balls["shift_x"] = shifts
        balls["piece_y"], balls["piece_x"] = random.integers(0, STAIN_PIECES, (2, count))
        balls["angle"] = np.radians(random.uniform(-config.rotation, config.rotation, count))
        towards = random.uniform(0.0, 2 * np.pi, count)
        # The square root spreads the middles of the discs evenly over a cap of the ball.
        away = np.sqrt(random.random(count)) * math.sin(math.radians(config.tilt))
        balls["tilt_y"], balls["tilt_x"] = away * np.sin(towards), away * np.cos(towards)
        cloth, wood = random.random(2)
        return {
            "cloth": cloth,
            "wood": wood,
            "brightness": random.uniform(*config.brightness),
            "azimuth": random.uniform(0.0, 2 * np.pi),
            "elevation": np.radians(random.uniform(*config.light_elevation)),
            "slope": random.uniform(-1.0, 1.0, 2),
            "piece": random.integers(0, GRAIN_PIECES, 2),
        }


def _annotation(balls):
    columns = (balls[key].tolist() for key in ("x", "y", "diameter", "number", "color"))
    return [
        {
            "position": [x, y],
            "number": number,
            "color": COLORS[color],
            "box": [round(edge, 3) for edge in (y - d / 2, x - d / 2, y + d / 2, x + d / 2)],
        }
        for x, y, d, number, color in zip(*columns, strict=True)
    ]
