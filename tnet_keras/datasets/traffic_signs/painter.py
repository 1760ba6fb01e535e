"""Paints a traffic scene: signs on posts and gantries before a backdrop, and the camera's noise."""

import math

import numpy as np

from tnet_keras.datasets.traffic_signs.roadside import paint_trunk
from tnet_keras.datasets.traffic_signs.scenery import Scenery
from tnet_keras.datasets.traffic_signs.signs import SIGNS, sign_face
from tnet_keras.datasets.traffic_signs.textures import smooth_noise

_STEEL = (118, 122, 126)
#: Where the posts of a gantry stand, in metres right of the camera.
GANTRY = (-7.2, 3.8)
_STAINS = 256  # Side of the picture that stains on signs are cut from.
#: From how many places, per axis, a piece of the stains or of the noise can be cut.
PIECES = 64


class ScenePainter:
    """Paints scenes of one size.

    Args:
        height: int, of the image in pixels.
        width: int, of the image in pixels.
        noise: float >= 0, standard deviation of the camera's noise in 0-255.
        wear: float >= 0, standard deviation of the stains on signs as a fraction of their colour.
    """

    def __init__(self, height, width, noise, wear):
        self._height, self._width = height, width
        # Noise is at most so many levels, and every colour that far from 0 and 255.
        self._most = math.ceil(3 * noise)
        self.scenery = Scenery(height, width, self._most)
        random = np.random.default_rng(20110523)
        tile = random.standard_normal((height + PIECES, width + PIECES, 3), np.float32) * noise
        tile = np.clip(np.rint(tile), -self._most, self._most) + self._most
        self._noise = tile.astype(np.uint8)
        stains = smooth_noise(random, (_STAINS, _STAINS), 0.5)
        self._stains = np.maximum(1.0 + np.float32(wear) * stains, 0.0)

    def paint(self, signs, look):
        """Paints one scene.

        Args:
            signs: list of dicts. `name`: one of `SIGNS`; `visibility`: one of `VISIBILITIES`; `y`
                and `x`: middle in pixels; `diameter`: pixels; `scale`: pixels per metre there;
                `mount`: "post" or "gantry"; `squeeze`: in (0, 1], how wide it looks; `turn`:
                radians; `digit_height` in radii and `digit_stroke` of a limit; `light`: 1 is usual;
                `piece`: two ints in [0, PIECES); `blur`: standard deviation in radii of what is
                BLURRED; `hidden`: (from where, how much, shape) of what is OCCLUDED: radians,
                fraction of the diameter, and int in [0, CROWNS).
            look: dict, as of `Scenery.paint`, and `noise`: two ints in [0, PIECES).

        Returns:
            `[H, W, 3]` uint8.
        """
        image = self.scenery.paint(look)
        signs = sorted(signs, key=lambda sign: sign["scale"])  # From far to near.
        for sign in signs:
            self._paint_mount(image, look, sign)
        for sign in signs:
            self._paint_sign(image, look, sign)
        y, x = look["noise"]
        noise = self._noise[y : y + self._height, x : x + self._width]
        # May pass 255 and comes back: the sum modulo 256 is right, the result never passes.
        noisy = image[..., :3] + noise
        noisy -= np.uint8(self._most)
        return noisy

    def _paint_mount(self, image, look, sign):
        scenery, scale, y = self.scenery, sign["scale"], sign["y"]
        ground = scenery.ground_row(look, scale)
        bright, dark = scenery.shade(np.multiply.outer((1.15, 0.75), _STEEL), look)
        if sign["mount"] == "gantry":
            places = [scenery.ground_column(look, scale, right) for right in GANTRY]
            half, thick = 0.14 * scale, 0.15 * scale
            scenery.fill(image, y - thick, places[0], y, places[1], bright)
            scenery.fill(image, y, places[0], y + thick, places[1], dark)
            top = y - 2 * thick
        else:
            places, half, top = [sign["x"]], 0.045 * scale, y - 0.4 * sign["diameter"]
        for x in places:
            scenery.fill(image, top, x - half, ground, x, bright)
            scenery.fill(image, top, x, ground, x + half, dark)

    def _paint_sign(self, image, look, sign):
        radius = sign["diameter"] / 2
        blurred = sign["visibility"] == "BLURRED"
        spread = sign["blur"] * radius if blurred else 0.0
        side = 2 * math.ceil(1.1 * radius + 2 + 3 * spread)
        corner = [math.floor(sign[axis] - side / 2 + 0.5) for axis in ("y", "x")]
        line = np.arange(side, dtype=np.float32) + np.float32(0.5)
        y = ((line + np.float32(corner[0] - sign["y"])) / np.float32(radius))[:, None]
        x = ((line + np.float32(corner[1] - sign["x"])) / np.float32(radius))[None, :]
        sine, cosine = np.float32(math.sin(sign["turn"])), np.float32(math.cos(sign["turn"]))
        across = (x * cosine + y * sine) / np.float32(sign["squeeze"])
        down = y * cosine - x * sine
        color, cover = sign_face(
            sign["name"], down, across, radius, sign["digit_height"], sign["digit_stroke"]
        )
        piece_y, piece_x = sign["piece"]
        stains = self._stains[piece_y : piece_y + side, piece_x : piece_x + side]
        color *= np.float32(sign["light"])
        if stains.shape == cover.shape:  # Signs larger than the picture of stains are clean.
            color *= stains[..., None]
        face = np.concatenate([self.scenery.shade(color, look), np.ones_like(color[..., :1])], -1)
        face *= cover[..., None]
        if blurred:
            face = _blurred(face, spread)
        low = np.maximum(np.negative(corner), 0)
        high = np.minimum(np.subtract((self._height, self._width), corner), side)
        face = face[low[0] : high[0], low[1] : high[1]]
        target = image[
            corner[0] + low[0] : corner[0] + high[0], corner[1] + low[1] : corner[1] + high[1], :3
        ]
        target[...] = target * (np.float32(1.0) - face[..., 3:]) + (face[..., :3] + np.float32(0.5))
        if sign["visibility"] == "OCCLUDED":
            self._hide(image, look, sign)

    def _hide(self, image, look, sign):
        towards, much, shape = sign["hidden"]
        half_height, half_width = SIGNS[sign["name"]][1]
        radius = sign["diameter"] / 2
        # Its middle at the edge of the sign would hide nearly half of it.
        away = 1.3 * (1.0 - much)
        y = sign["y"] + away * radius * half_height * math.sin(towards)
        x = sign["x"] + away * radius * half_width * sign["squeeze"] * math.cos(towards)
        size = 1.25 * sign["diameter"]
        ground = self.scenery.ground_row(look, sign["scale"])
        paint_trunk(self.scenery, image, look, y, ground, x, 0.06 * sign["scale"])
        top, left = y - size / 2, x - size / 2
        self.scenery.paint_leaves(image, look, top, left, size, size, shape, 0.9)


def _blurred(image, spread):
    """Gaussian blur of `[h, w, C]` float32, `spread` pixels wide; what is outside counts as 0."""
    reach = math.ceil(2.5 * spread)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(spread, 1e-3)) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    for axis in (0, 1):
        source = np.moveaxis(image, axis, 0)
        total = np.zeros_like(source)
        for offset, weight in enumerate(weights, start=-reach):
            ahead, back = max(offset, 0), max(-offset, 0)
            count = max(len(source) - abs(offset), 0)
            total[ahead : ahead + count] += weight * source[back : back + count]
        image = np.moveaxis(total, 0, axis)
    return image
