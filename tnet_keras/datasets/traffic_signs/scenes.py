"""Traffic scenes as pure functions of (seed, split, index): which signs stand where, a picture."""

import dataclasses
import math
import numbers

import keras
import numpy as np

from tnet_keras.datasets.config import DrawnConfig, check_ranges
from tnet_keras.datasets.streams import SPLITS, check_split
from tnet_keras.datasets.traffic_signs.annotations import (
    MISC_SIGNS,
    TRAFFIC_SIGN_CLASSES,
    TrafficSign,
)
from tnet_keras.datasets.traffic_signs.layout import choose_signs, place_signs
from tnet_keras.datasets.traffic_signs.painter import PIECES, ScenePainter
from tnet_keras.datasets.traffic_signs.roadside import BODIES, CROWNS, ROOFS, WALLS
from tnet_keras.datasets.traffic_signs.signs import SIGNS

_SMALL = 512  # Pixels; the signs of the full size need more room.
_LEAST = (96, 128)  # Smallest (height, width) in which a road is a road.


@keras.saving.register_keras_serializable(package="tnet_keras")
@dataclasses.dataclass(frozen=True)
class TrafficScenesConfig(DrawnConfig):
    """What a scene of `traffic_signs` looks like. The defaults have the size of the Swedish set.

    Args:
        height: int, of the image in pixels, at least 96.
        width: int, of the image in pixels, at least 128.
        class_shares: four floats that sum to 1, shares of EMPTY, 50_SIGN, 70_SIGN and 80_SIGN.
        sign_diameter: (low, high), pixels; log-uniform, as if at different distances.
        digit_height: (low, high), height of a limit's number as a fraction of the diameter, at
            most 0.42; uniform.
        digit_stroke: (low, high), thickness of its strokes as a fraction of its height, at most
            0.25; uniform.
        num_others: (low, high), other signs per scene, uniform, both ends included.
        decoy_share: float in [0, 1], share of scenes with one more sign that a limit is mistaken
            for: 30, 60, 90 or 100, or another sign in red and yellow.
        twin_share: float in [0, 1], of scenes with a limit, share in which it stands there twice.
        unclear_share: float in [0, 1], of scenes with a limit, share that also shows a 50, 70 or
            80 that is blurred, occluded or meant for a side road.
        gantry_share: float in [0, 1], share of signs that hang over the road.
        margin: float >= 0, pixels kept free of signs along the border: a shift by so much loses
            none.
        brightness: (low, high), strength of the light, 1 is usual; uniform.
        wear: float in [0, 0.3], standard deviation of the stains on signs, as a fraction of their
            colour.
        noise: float in [0, 20], standard deviation of the camera's noise in 0-255.

    Raises:
        ValueError: if a range is not (low, high) with `0 < low <= high`, a value is out of its
            bounds, shares do not sum to 1, or the largest sign does not fit into the image.
    """

    height: int = 960
    width: int = 1280
    class_shares: tuple = (0.4, 0.2, 0.2, 0.2)
    sign_diameter: tuple = (26.0, 64.0)
    digit_height: tuple = (0.36, 0.42)
    digit_stroke: tuple = (0.14, 0.19)
    num_others: tuple = (0, 3)
    decoy_share: float = 0.5
    twin_share: float = 0.2
    unclear_share: float = 0.25
    gantry_share: float = 0.12
    margin: float = 100.0
    brightness: tuple = (0.7, 1.1)
    wear: float = 0.08
    noise: float = 4.0

    def __post_init__(self):
        for name in ("class_shares", "num_others"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check_ranges(self, ("sign_diameter", "digit_height", "digit_stroke", "brightness"))
        shares, classes = self.class_shares, len(TRAFFIC_SIGN_CLASSES)
        if len(shares) != classes or not min(shares) >= 0 or not abs(sum(shares) - 1) < 1e-6:
            raise ValueError(
                f"`class_shares` must be {classes} numbers >= 0 that sum to 1. "
                f"Received: class_shares={shares}"
            )
        low_high = self.num_others
        whole = all(isinstance(number, numbers.Integral) for number in low_high)
        if len(low_high) != 2 or not whole or not 0 <= low_high[0] <= low_high[1]:
            raise ValueError(
                "`num_others` must be two ints with 0 <= low <= high. "
                f"Received: num_others={low_high}"
            )
        for name, low, high in (
            ("height", _LEAST[0], math.inf), ("width", _LEAST[1], math.inf), ("decoy_share", 0, 1),
            ("twin_share", 0, 1), ("unclear_share", 0, 1), ("gantry_share", 0, 1),
            ("margin", 0, math.inf), ("wear", 0, 0.3), ("noise", 0, 20),
        ):  # fmt: skip
            if not low <= getattr(self, name) <= high:
                raise ValueError(
                    f"`{name}` must lie between {low} and {high}. "
                    f"Received: {name}={getattr(self, name)}"
                )
        for name, high in (("digit_height", 0.42), ("digit_stroke", 0.25), ("brightness", 2)):
            if getattr(self, name)[1] > high:
                raise ValueError(
                    f"`{name}` must be at most {high}. Received: {name}={getattr(self, name)}"
                )
        # Signs also need room to stand apart.
        most = min(self.height / 8, (min(self.height, self.width) - 2 * self.margin) / 4)
        if self.sign_diameter[1] > most:
            raise ValueError(
                f"`sign_diameter` must be at most {most:.4g}, an eighth of the height and a fourth "
                f"of what `margin` leaves. Received: sign_diameter={self.sign_diameter}"
            )

    @classmethod
    def small(cls, height=240, width=320):
        """The same task in small: signs of 17-22 pixels, larger in proportion.

        Their numbers can be read at full resolution, but hardly after downscaling by 3.

        Args:
            height: int, of the image in pixels, at best 240-360.
            width: int, of the image in pixels, at best 4/3 of the height.

        Returns:
            `TrafficScenesConfig`.
        """
        return cls(
            height=height,
            width=width,
            sign_diameter=(17.0, 22.0),
            digit_height=(0.34, 0.4),
            num_others=(0, 2),
            margin=16.0,
            wear=0.14,
            noise=5.0,
        )

    @classmethod
    def of_size(cls, height, width):
        """The task at a size: with the signs of `small` where the others would find no room.

        Args:
            height: int, of the image in pixels.
            width: int, of the image in pixels.

        Returns:
            `TrafficScenesConfig`: the defaults from a height of 512 pixels, else `small`.
        """
        make = cls.small if height < _SMALL else cls
        return make(height=height, width=width)


class TrafficScenes:
    """Draws scenes from their indices. The class is drawn first, then what shows it.

    Both published rules give every scene the class it was drawn for. An empty scene may show any
    sign but a 50, 70 or 80; its signs are annotated as MISC_SIGNS, which do not count.

    Args:
        config: `TrafficScenesConfig`.
        split: "train", "validation" or "test".
        seed: int >= 0.
    """

    def __init__(self, config, split, seed):
        check_split(split)
        self._config, self._seed, self._split = config, seed, SPLITS.index(split)
        self._painter = ScenePainter(config.height, config.width, config.noise, config.wear)

    def annotate(self, index):
        """Says which signs a scene shows without drawing it.

        Args:
            index: int >= 0, which scene.

        Returns:
            List of `TrafficSign`, in the order of the file.
        """
        return self._layout(self._random(index))[2]

    def draw(self, index):
        """Draws a scene.

        Args:
            index: int >= 0, which scene.

        Returns:
            Tuple of `[H, W, 3]` uint8 and the annotation, as of `annotate`.
        """
        random = self._random(index)
        look, signs, annotation = self._layout(random)
        self._finish_look(random, look)
        for sign in signs:
            self._finish_sign(random, sign)
        return self._painter.paint(signs, look), annotation

    def _random(self, index):
        sequence = np.random.SeedSequence(self._seed, spawn_key=(self._split, int(index)))
        return np.random.default_rng(sequence)

    def _layout(self, random):
        """Where the road goes, what stands at it, and what a file says about that."""
        config = self._config
        below = np.cumsum(config.class_shares)[:-1]
        label = int(np.searchsorted(below, random.random(), side="right"))
        look = {
            "horizon": round(config.height * random.uniform(0.45, 0.53)),
            "vanish": config.width * random.uniform(0.44, 0.56),
            "bend": config.width * random.uniform(-0.08, 0.08),
        }
        chosen = choose_signs(random, label, config)
        signs = place_signs(random, chosen, self._painter.scenery, look, config)
        order = random.permutation(len(signs))
        return look, signs, [_record(signs[at], listed=label > 0) for at in order]

    def _finish_look(self, random, look):
        """Light, weather and what stands in the fields: completes `look`."""
        config = self._config
        look["overcast"], look["dry"], look["warm"] = random.random(3)
        look["brightness"] = random.uniform(*config.brightness)
        look["clouds"] = int(random.integers(3))
        look["pieces"] = random.integers(0, self._painter.scenery.spare, 4)
        look["noise"] = random.integers(0, PIECES, 2)
        look["wood"] = (random.uniform(0.01, 0.08), random.uniform(0.02, 0.45), random.integers(2))
        things = []
        nearest = config.height * 0.1  # Pixels per metre.
        for _ in range(random.integers(0, 3)):
            wide = random.uniform(7, 16)
            right = random.uniform(12, 30) if random.random() < 0.5 else -random.uniform(16, 34)
            things.append({
                "kind": "house", "scale": nearest * random.uniform(0.08, 0.2),
                "right": right if right > 0 else right - wide, "width": wide,
                "height": random.choice((2.9, 5.6)), "wall": random.integers(len(WALLS)),
                "roof": random.integers(len(ROOFS)),
            })  # fmt: skip
        for _ in range(random.integers(1, 7)):
            shape = int(random.integers(CROWNS))
            right = random.uniform(5.5, 22) if random.random() < 0.5 else -random.uniform(10, 28)
            things.append({
                "kind": "tree", "scale": nearest * random.uniform(0.1, 0.42), "right": right,
                "height": random.uniform(3.0, 7.5), "shape": shape,
                "slim": random.uniform(0.4, 0.6) if shape % 2 == 0 else random.uniform(0.7, 1.0),
                "tone": random.uniform(0.75, 1.3),
            })  # fmt: skip
        for _ in range(random.integers(0, 3)):
            ahead = random.random() < 0.5
            things.append({
                "kind": "car", "scale": nearest * random.uniform(0.12, 0.7),
                "right": 0.2 if ahead else -3.7, "ahead": ahead,
                "body": random.integers(len(BODIES)),
            })  # fmt: skip
        look["things"] = sorted(things, key=lambda thing: thing["scale"])

    def _finish_sign(self, random, sign):
        """How a sign looks: completes `sign`."""
        config = self._config
        sign["turn"] = math.radians(random.uniform(-4, 4))
        sign["digit_height"] = 2 * random.uniform(*config.digit_height)
        sign["digit_stroke"] = random.uniform(*config.digit_stroke)
        sign["light"] = random.uniform(0.85, 1.1)
        sign["piece"] = random.integers(0, PIECES, 2)
        sign["blur"] = random.uniform(0.22, 0.34)
        sign["hidden"] = (random.uniform(0, 2 * math.pi), random.uniform(0.4, 0.6),
                          1 + 2 * int(random.integers(2)))  # fmt: skip


def _record(sign, listed):
    kind, (half_height, half_width) = SIGNS[sign["name"]]
    radius = sign["diameter"] / 2
    y, x = half_height * radius, half_width * radius * sign["squeeze"]
    edges = (sign["x"] + x, sign["y"] + y, sign["x"] - x, sign["y"] - y)
    visibility = sign["visibility"] if listed else MISC_SIGNS
    return TrafficSign(visibility, *(round(edge, 2) for edge in edges), kind, sign["name"])
