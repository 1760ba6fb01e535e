"""Paints a billiard table: cloth, wooden rail, shaded balls with their numbers and shadows."""

import numpy as np

from tnet_keras.datasets.billiards.glyphs import digit_ink

#: Colours of the balls, RGB in 0-255 under a light of strength 1.
BALL_COLORS = {
    "green": (34, 142, 62),
    "blue": (34, 76, 198),
    "purple": (116, 52, 158),
    "yellow": (238, 196, 46),
    "red": (204, 36, 40),
    "orange": (238, 118, 34),
}
_DISC = (244, 242, 234)
_INK = (18, 18, 20)
# A table's colour is a mixture of two, drawn once per scene.
_CLOTHS = np.array([(44, 108, 84), (58, 100, 124)], np.float32)
_WOODS = np.array([(96, 60, 36), (140, 92, 56)], np.float32)

_NOMINAL = 100  # The level of a pixel that shows its material's colour as it is.
_WOOD_LEVELS = 128  # Levels from here on are of wood, those below of cloth.
_GRAIN = 12  # Largest departure of the grain from the mean, in levels.
_SLOPE = 6  # Largest departure of the light's slope from the mean, in levels, per axis.
_AMBIENT, _GLOSS, _BOUNCE = 0.42, 0.85, 0.12
_SHADOW, _CONTACT = 0.5, 0.35

#: From how many places, per axis, a piece of the grain and of the stains can be cut.
GRAIN_PIECES, STAIN_PIECES = 64, 256


class TablePainter:
    """Paints tables of one size. Holds what all tables share: vignette, rail, grain.

    Args:
        image_size: int, side of the image in pixels.
        rail_width: float, pixels.
        grain: float, standard deviation of the cloth's grain in percent of its brightness.
        vignette: float in [0, 0.5], how much darker the corners are than the middle.
        window: int, side of a window in pixels that holds any ball.
        disc: float, diameter of the white disc as a fraction of that of the ball.
        wear: float, standard deviation of the stains on the balls, as a fraction of their colour.
        wear_size: float, standard deviation of the Gaussian that blurs the stains, in pixels.
    """

    def __init__(self, image_size, rail_width, grain, vignette, window, disc, wear, wear_size):
        self._size, self._window = image_size, window
        # From the middle of the disc to its edge through the ball, in radii.
        self._chord = np.float32(2 * np.sin(np.arcsin(disc) / 2))
        random = np.random.default_rng(20210407)  # The same cloth on every table.
        fine = random.standard_normal((image_size + GRAIN_PIECES,) * 2, dtype=np.float32)
        coarse = sum(np.roll(fine, shift, axis=(0, 1)) for shift in ((0, 3), (2, 1), (3, 0)))
        noise = (0.8 * fine + 0.35 * coarse) * grain
        self._grain = (np.clip(noise, -_GRAIN, _GRAIN) + _GRAIN).astype(np.uint8)
        line = (np.arange(image_size, dtype=np.float32) + 0.5) / image_size
        radius = (line[:, None] - 0.5) ** 2 + (line[None, :] - 0.5) ** 2
        light = 1.0 - 2.0 * vignette * radius
        edge = np.minimum(line, 1.0 - line) * image_size
        edge = np.minimum(edge[:, None], edge[None, :])
        wood = edge < 0.6 * rail_width
        if rail_width:
            cushion = (edge >= 0.6 * rail_width) & (edge < rail_width)
            light = np.where(cushion, 0.72 * light, light)
            beyond = np.clip((edge - rail_width) / (0.6 * rail_width), 0.0, 1.0)
            light = np.where(edge >= rail_width, light * (0.75 + 0.25 * beyond), light)
            across = edge / (0.6 * rail_width)
            rings = np.sin(9.0 * across + 5.0 * np.sin(7.0 * (line[:, None] - line[None, :])))
            light = np.where(wood, 0.75 + 0.3 * np.sin(np.pi * across) + 0.05 * rings, light)
        level = np.clip(light * _NOMINAL, _GRAIN + 2 * _SLOPE, 127 - _GRAIN - 2 * _SLOPE)
        level -= _GRAIN + 2 * _SLOPE
        self._level = (level + np.where(wood, _WOOD_LEVELS, 0)).astype(np.uint8)
        self._stains = _stains(random, STAIN_PIECES + window, wear, wear_size)

    def paint(self, balls, look):
        """Paints one table.

        Args:
            balls: dict of `[N]` arrays. `x` and `y`: centres in pixels; `diameter`: pixels;
                `number`: ints in 1-9; `color`: positions in `BALL_COLORS`; `height`: of the digits
                in pixels; `stroke`: their thickness, as a fraction of the height; `ink`: how black
                they are, in [0, 1]; `angle`: how far they are turned, in radians; `shift_y` and
                `shift_x`: where on the disc their middles are, in pixels; `tilt_y` and `tilt_x`:
                where the middles of the discs are, in radii from those of the balls; `piece_y` and
                `piece_x`: ints, which pieces of the stains they have.
            look: dict. `cloth` and `wood`: in [0, 1], which colour; `brightness`: 1 is usual;
                `azimuth` and `elevation`: where the light is, in radians; `slope`: pair in
                [-1, 1], how the light falls off over y and x; `piece`: pair of ints, which piece
                of the grain.

        Returns:
            `[S, S, 3]` uint8.
        """
        image = self._paint_table(look)
        light = _direction(look["azimuth"], look["elevation"])
        for slices, shadow in self._shadows(balls, light):
            window = image[slices]
            np.multiply(window, shadow[..., None], out=window, casting="unsafe")
        corner, cover, color = self._balls(balls, light, look)
        side = self._window
        cover = cover[..., None]
        color *= cover
        color += np.float32(0.5)  # What follows cuts off the fraction.
        for (y, x), one_cover, one_color in zip(corner.tolist(), cover, color, strict=True):
            window = image[y : y + side, x : x + side]
            one_color += window * (np.float32(1.0) - one_cover)
            window[...] = one_color
        return image

    def _paint_table(self, look):
        size = self._size
        y, x = look["piece"]
        line = np.linspace(-1.0, 1.0, size) * _SLOPE
        fall_y, fall_x = ((slope * line + _SLOPE).astype(np.uint8) for slope in look["slope"])
        level = self._level + self._grain[y : y + size, x : x + size]
        level += fall_y[:, None]
        level += fall_x[None, :]
        colors = np.zeros((256, 4), np.uint8)  # Four bytes: looked up as one number, 3x as fast.
        strength = np.arange(128)[:, None] / _NOMINAL * look["brightness"]
        for first, ends, mix in (
            (0, _CLOTHS, look["cloth"]),
            (_WOOD_LEVELS, _WOODS, look["wood"]),
        ):
            color = ends[0] * (1.0 - mix) + ends[1] * mix
            colors[first : first + 128, :3] = np.clip(np.rint(strength * color), 0, 255)
        looked_up = np.take(colors.view(np.uint32)[:, 0], level)
        return np.ascontiguousarray(looked_up.view(np.uint8).reshape(size, size, 4)[..., :3])

    def _shadows(self, balls, light):
        """Yields (slices of the image, factor `[h, w]`): one soft shadow per ball."""
        down = max(float(light[2]), 0.2)
        away = -light[:2] / down  # Where the middle of the shadow lies, in radii.
        length = float(np.hypot(*away))
        along = away / max(length, 1e-6)
        stretch = np.float32(down)  # The shadow of a sphere is an ellipse, 1 / sin(elevation) long.
        for cy, cx, diameter in zip(balls["y"], balls["x"], balls["diameter"], strict=True):
            radius = diameter / 2
            reach = 1.3 * radius / down
            middle = np.array([cy, cx]) + 0.9 * radius * away
            low = np.minimum(middle - reach, (cy - 1.4 * radius, cx - 1.4 * radius))
            high = np.maximum(middle + reach, (cy + 1.4 * radius, cx + 1.4 * radius))
            low = np.clip(np.floor(low), 0, self._size).astype(int)
            high = np.clip(np.ceil(high), 0, self._size).astype(int)
            y = ((np.arange(low[0], high[0]) + 0.5 - cy) / radius).astype(np.float32)[:, None]
            x = ((np.arange(low[1], high[1]) + 0.5 - cx) / radius).astype(np.float32)[None, :]
            contact = np.clip((1.4 - np.sqrt(y * y + x * x)) * 2.0, 0.0, 1.0)
            y, x = y - np.float32(0.9 * away[0]), x - np.float32(0.9 * away[1])
            lengthwise = (y * along[0] + x * along[1]) * stretch
            across = x * along[0] - y * along[1]
            soft = np.clip(1.25 - np.sqrt(lengthwise**2 + across**2), 0.0, 0.5) * 2.0
            soft = soft * soft * (3.0 - 2.0 * soft)
            factor = (1.0 - _SHADOW * soft) * (1.0 - _CONTACT * contact)
            yield (slice(low[0], high[0]), slice(low[1], high[1])), factor.astype(np.float32)

    def _balls(self, balls, light, look):
        """Corners `[N, 2]` of the windows, coverage `[N, P, P]`, colours `[N, P, P, 3]`."""
        side = self._window
        radius = (balls["diameter"] / 2)[:, None, None].astype(np.float32)
        centre = np.stack([balls["y"], balls["x"]], -1)
        corner = np.clip(np.rint(centre - side / 2), 0, self._size - side).astype(int)
        offset = corner[:, :, None] + np.arange(side) + 0.5 - centre[:, :, None]
        offset = offset.astype(np.float32)
        y, x = offset[:, 0, :, None] / radius, offset[:, 1, None, :] / radius
        squared = y * y + x * x
        cover = np.clip((1.0 - np.sqrt(squared)) * radius + np.float32(0.5), 0.0, 1.0)
        z = np.sqrt(np.maximum(1.0 - squared, 0.0))

        tint = np.array(list(BALL_COLORS.values()), np.float32)[balls["color"]]
        albedo = np.empty((*cover.shape, 3), np.float32)
        albedo[...] = tint[:, None, None, :]
        # The disc lies well inside the ball: the rim of the windows is left out.
        inner = slice(int(side * 0.12), side - int(side * 0.12))
        inside = (slice(None), inner, inner)
        disc, ink = self._numbers(balls, radius, y[:, inner], x[:, :, inner], z[inside])
        painted = albedo[inside]
        painted += (np.float32(_DISC) - painted) * disc[..., None]
        painted += (np.float32(_INK) - painted) * (ink * disc)[..., None]

        steps = np.arange(side)
        rows, columns = balls["piece_y"][:, None] + steps, balls["piece_x"][:, None] + steps
        albedo *= self._stains[rows[:, :, None], columns[:, None, :]][..., None]

        diffuse = np.maximum(y * light[0] + x * light[1] + z * light[2], 0.0)
        half = light + np.float32([0.0, 0.0, 1.0])
        half /= np.linalg.norm(half)
        shine = np.maximum(y * half[0] + x * half[1] + z * half[2], 0.0)
        for _ in range(6):  # To the 64th power.
            shine *= shine
        shine[inside] *= 1.0 - np.float32(0.7) * disc  # The disc is matt: numbers stay readable.
        shade = _AMBIENT + (1.05 - _AMBIENT) * diffuse
        shade *= np.float32(look["brightness"])
        cloth = _CLOTHS[0] * (1.0 - look["cloth"]) + _CLOTHS[1] * look["cloth"]
        color = albedo
        color *= shade[..., None]
        color += ((1.0 - z) * np.float32(_BOUNCE))[..., None] * cloth.astype(np.float32)
        color += (shine * np.float32(255 * _GLOSS))[..., None]
        return corner, cover, np.minimum(color, np.float32(255.0), out=color)

    def _numbers(self, balls, radius, y, x, z):
        """Coverage of the white discs and ink of the numbers on them, both `[N, w, w]`."""
        tilt_y, tilt_x, angle, shift_y, shift_x, blackness = (
            balls[key].astype(np.float32)[:, None, None]
            for key in ("tilt_y", "tilt_x", "angle", "shift_y", "shift_x", "ink")
        )
        tilt_z = np.sqrt(1.0 - tilt_y**2 - tilt_x**2)
        # Chord from the middle of the disc: the distance between two points of the unit sphere.
        cosine = y * tilt_y + x * tilt_x + z * tilt_z
        chord = np.sqrt(np.maximum(2.0 - 2.0 * cosine, 0.0)) * radius
        disc = np.clip(radius * self._chord + np.float32(0.5) - chord, 0.0, 1.0)
        # Two directions along the disc, as flat in the image as can be, then turned.
        right_x = np.sqrt(1.0 - tilt_x**2)
        right = (-tilt_y * tilt_x / right_x, right_x, -tilt_z * tilt_x / right_x)
        below = (tilt_z / right_x, np.zeros_like(tilt_x), -tilt_y / right_x)
        on_x = (y * right[0] + x * right[1] + z * right[2]) * radius
        on_y = (y * below[0] + z * below[2]) * radius
        sine, cosine = np.sin(angle), np.cos(angle)
        ink = digit_ink(
            balls["number"],
            on_y * cosine - on_x * sine - shift_y,
            on_x * cosine + on_y * sine - shift_x,
            balls["height"].astype(np.float32),
            balls["stroke"].astype(np.float32),
        )
        return disc, ink * blackness


def _stains(random, side, wear, blur):
    """Factors `[side, side]` float32 around 1: blurred noise."""
    noise = random.standard_normal((side, side))
    frequency = np.fft.fftfreq(side)
    squared = frequency[:, None] ** 2 + frequency[None, :] ** 2
    noise = np.fft.ifft2(np.fft.fft2(noise) * np.exp(-2 * (np.pi * blur) ** 2 * squared)).real
    return np.maximum(1.0 + wear * noise / noise.std(), 0.0).astype(np.float32)


def _direction(azimuth, elevation):
    """Unit vector (y, x, towards the camera), float32, to a light."""
    flat = np.cos(elevation)
    return np.array([flat * np.sin(azimuth), flat * np.cos(azimuth), np.sin(elevation)], np.float32)
