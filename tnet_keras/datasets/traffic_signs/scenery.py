"""Paints what lies behind the signs: sky, hills, a wood, fields, a road in perspective, houses."""

import math

import numpy as np

from tnet_keras.datasets.traffic_signs.roadside import CROWNS, paint_car, paint_house, paint_tree
from tnet_keras.datasets.traffic_signs.textures import (
    ground_grain,
    smooth_noise,
    tree_line,
    tree_stamp,
)

EYE = 1.3  # Height of the camera over the road in metres.
#: Edges of our lane and of the other one in metres right of the camera.
ROAD = (-5.6, 2.2)
_LANE = -1.8  # The line between the lanes.
_DASHES = 0.2  # Lines between the lanes: how often they come.
_LEVELS = 28  # Grey levels of the ground's grain, for each of nine strips across the road.
_PIECES = 0.25  # How much wider than an image textures are, as a fraction of its width.

_ZENITH = np.array([(84, 132, 196), (150, 162, 176)], np.float32)
_PALE = np.array([(214, 226, 236), (206, 210, 214)], np.float32)
_GRASS = np.array([(86, 106, 58), (134, 126, 82)], np.float32)
_LEAVES = np.array([(40, 62, 34), (62, 84, 38)], np.float32)
_HAZE = (128, 146, 158)
_PAINTERS = {"house": paint_house, "tree": paint_tree, "car": paint_car}
_GRAVEL, _ASPHALT, _LINE = (126, 118, 108), (98, 98, 102), (214, 214, 208)
# How strong the grain of each strip is.
_ROUGH = np.array([0.5, 0.3, 0.1, 0.16, 0.1, 0.16, 0.1, 0.3, 0.5], np.float32)
# Weights of two or three colours in a palette of 256 that runs from one to the next.
_RAMPS = {
    stops: np.maximum(
        1 - np.abs(np.linspace(0, stops - 1, 256)[:, None] - np.arange(stops)), 0
    ).astype(np.float32)
    for stops in (2, 3)
}


class Scenery:
    """Paints backdrops of one size. Holds what all of them share: clouds, grain, tree shapes.

    Args:
        height: int, of the image in pixels.
        width: int, of the image in pixels.
        headroom: int, levels that colours keep away from 0 and 255.
    """

    def __init__(self, height, width, headroom):
        self._height, self._width, self._headroom = height, width, headroom
        random = np.random.default_rng(20110523)  # The same clouds and trees for every seed.
        self.spare = max(int(_PIECES * width), 1)  # Places that a texture can be cut from.
        wide, sky = width + self.spare, int(0.62 * height) + 1
        clouds = smooth_noise(random, (sky, wide), 1.7, (1.0, 2.5))
        self._clouds = [
            np.clip(strength * (clouds - low), 0, 120).astype(np.uint8)
            for strength, low in ((40, 1.4), (60, 0.3), (45, -1.5))
        ]
        leaves = smooth_noise(random, (sky, wide), 0.8) + 0.5 * random.standard_normal((sky, wide))
        self._leaves = np.clip(48 + 20 * leaves, 0, 95).astype(np.uint8)
        self._ground = ground_grain(random, int(0.62 * height) + 2, wide, EYE, _LEVELS)
        self._tops = [tree_line(random, wide, height, pointed) for pointed in (True, False)]
        self._trees = [tree_stamp(random, shape % 2 == 0) for shape in range(CROWNS)]

    def paint(self, look):
        """Paints one backdrop.

        Args:
            look: dict. `horizon`: int, row; `vanish`: float, column where the road goes; `bend`:
                float, pixels that its far end is off; `overcast`, `dry`, `warm`: in [0, 1];
                `brightness`: 1 is usual; `clouds`: int in [0, 3); `pieces`: four ints in
                [0, spare); `wood`: (base, slope, kind), height of the wood in parts of the image
                at the road and how it rises to the sides, and 0 or 1; `things`: list of dicts,
                houses, trees and cars from far to near.

        Returns:
            `[H, W, 4]` uint8, RGB and a byte to be left out.
        """
        image = np.empty((self._height, self._width), np.uint32)
        self._paint_sky(image, look)
        self._paint_wood(image, look)
        self._paint_ground(image, look)
        bytes_ = image.view(np.uint8).reshape(self._height, self._width, 4)
        for thing in look["things"]:
            _PAINTERS[thing["kind"]](self, bytes_, look, thing)
        return bytes_

    def shade(self, color, look):
        """Colours under the light of a scene.

        Args:
            color: `[..., 3]` RGB in 0-255.
            look: dict, as of `paint`.

        Returns:
            `[..., 3]` float32.
        """
        warm = np.float32([1.0 + 0.05 * look["warm"], 1.0, 1.0 - 0.08 * look["warm"]])
        low, high = self._headroom, 255 - self._headroom
        return np.clip(np.float32(color) * (warm * np.float32(look["brightness"])), low, high)

    def ground_row(self, look, scale):
        """Row of the ground where a metre takes `scale` pixels, in a scene that looks `look`."""
        return look["horizon"] + EYE * scale

    def ground_column(self, look, scale, right):
        """Column of what stands `right` metres right of the camera, where a metre is `scale` pixels
        in a scene that looks `look`."""
        return look["vanish"] + self._bend(look, EYE * scale) + right * scale

    def fill(self, image, y0, x0, y1, x1, color):
        """Fills a box, its edges rounded to pixels.

        Args:
            image: `[H, W, 4]` uint8, changed.
            y0: float, upper edge in pixels, as `x0` the left, `y1` the lower, `x1` the right one.
            color: `[3]`, as `shade` gives it.
        """
        y0, x0, y1, x1 = (max(math.floor(edge + 0.5), 0) for edge in (y0, x0, y1, x1))
        image[y0:y1, x0:x1, :3] = color

    def paint_leaves(self, image, look, top, left, tall, wide, shape, tone):
        """Paints the crown of a tree, or a twig before a sign.

        Args:
            image: `[H, W, 4]` uint8, changed.
            look: dict, as of `paint`.
            top: float, row.
            left: float, column.
            tall: float, pixels.
            wide: float, pixels.
            shape: int in [0, CROWNS).
            tone: float, 1 is usual, less is darker.
        """
        y, x = round(top), round(left)
        tall, wide = max(round(tall), 1), max(round(wide), 1)
        rows = np.arange(max(-y, 0), min(tall, self._height - y))
        columns = np.arange(max(-x, 0), min(wide, self._width - x))
        if not (len(rows) and len(columns)):
            return
        stamp = self._trees[shape]
        side = len(stamp)
        level = stamp[(rows * side // tall)[:, None], columns * side // wide]
        leaves = tone * _mix(_LEAVES, look["dry"])
        colors = self._palette(look, 0.4 * leaves, 1.9 * leaves)
        y, x = y + rows[0], x + columns[0]
        target = image.view(np.uint32)[y : y + len(rows), x : x + len(columns), 0]
        np.copyto(target, np.take(colors, level), where=level > 0)

    def _bend(self, look, below):
        far = 1.0 - below / (self._height - look["horizon"])
        return look["bend"] * far**3

    def _palette(self, look, *stops):
        # One number per colour: looked up at once, several times as fast as three bytes.
        colors = np.zeros((256, 4), np.uint8)
        colors[:, :3] = _RAMPS[len(stops)] @ self.shade(stops, look)
        return colors.view(np.uint32)[:, 0]

    def _paint_sky(self, image, look):
        rows, at = look["horizon"], look["pieces"][0]
        ramp = np.linspace(0, 1, rows) ** 1.5 * 135
        level = self._clouds[look["clouds"]][:rows, at : at + self._width]
        level = level + ramp.astype(np.uint8)[:, None]
        ends = [_mix(pair, look["overcast"]) for pair in (_ZENITH, _PALE)]
        np.take(self._palette(look, *ends), level, out=image[:rows])

    def _paint_wood(self, image, look):
        base, slope, kind = look["wood"]
        rows, at, width = look["horizon"], look["pieces"][1], self._width
        aside = np.abs(np.arange(width) - look["vanish"] - look["bend"]) / width
        tall = (base + slope * aside) * self._height * self._tops[kind][at : at + width]
        tall = np.minimum(tall, rows - 1).astype(np.int16)
        top = rows - int(tall.max())
        haze = np.clip(150 - 300 * aside, 0, 150).astype(np.uint8)
        level = self._leaves[: rows - top, at : at + width] + haze
        leaves = _mix(_LEAVES, look["dry"])
        colors = self._palette(look, 0.5 * leaves, 1.5 * leaves, _HAZE)
        hidden = np.arange(top, rows, dtype=np.int16)[:, None] >= (rows - tall)[None, :]
        np.copyto(image[top:rows], np.take(colors, level), where=hidden)

    def _paint_ground(self, image, look):
        rows, at = self._height - look["horizon"], look["pieces"][2]
        below = np.arange(1, rows + 1)
        scale = below / EYE
        middle = look["vanish"] + self._bend(look, below)
        level = self._ground[:rows, at : at + self._width].copy()
        # Nine strips from left to right; where the middle line has a gap, its width is zero.
        ahead = _DASHES * self._height / below + look["pieces"][3] / self.spare
        dash = 0.07 * (ahead % 1.0 < 0.4)
        left, right = ROAD
        edges = (
            left - 0.9, left, left + 0.12, _LANE - dash, _LANE + dash, right - 0.12, right,
            right + 0.9,
        )  # fmt: skip
        columns = np.arange(self._width, dtype=np.int16)[None, :]
        inside = np.empty(level.shape, bool)
        step = np.empty(level.shape, np.uint8)
        for edge in edges:
            place = np.clip(np.rint(middle + edge * scale), -1, self._width).astype(np.int16)
            np.greater_equal(columns, place[:, None], out=inside)
            np.multiply(inside.view(np.uint8), np.uint8(_LEVELS), out=step)
            level += step
        grass = _mix(_GRASS, look["dry"])
        strips = (grass, _GRAVEL, _LINE, _ASPHALT, _LINE, _ASPHALT, _LINE, _GRAVEL, grass)
        grain = np.linspace(-1, 1, _LEVELS)[:, None]
        strips = np.float32(strips)[:, None] * (1 + _ROUGH[:, None, None] * grain)
        colors = np.zeros((256, 4), np.uint8)
        colors[: len(_ROUGH) * _LEVELS, :3] = self.shade(strips, look).reshape(-1, 3)
        np.take(colors.view(np.uint32)[:, 0], level, out=image[look["horizon"] :])


def _mix(ends, share):
    return ends[0] * (1 - share) + ends[1] * share
