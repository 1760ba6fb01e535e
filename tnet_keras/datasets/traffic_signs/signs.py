"""The faces of road signs, drawn anti-aliased at any size: speed limits and what looks like them.

Coordinates are (y, x) in radii of the sign, (0, 0) its middle; a face fits into [-1, 1]^2.
"""

import numpy as np

from tnet_keras.datasets.billiards.glyphs import digit_ink

RED, YELLOW, BLUE = (192, 32, 40), (238, 188, 36), (28, 82, 168)
WHITE, BLACK = (232, 232, 228), (26, 26, 28)
_INNER = 0.74  # Radius of the disc inside the red ring.
_ZERO = 0.28  # Half the width of a zero in heights, as that of the other digits.


def _disc(y, x, radius=1.0):
    return np.hypot(y, x) - np.float32(radius)


def _rectangle(y, x, half_height, half_width):
    return np.maximum(np.abs(y) - np.float32(half_height), np.abs(x) - np.float32(half_width))


def _diamond(y, x, radius=1.0):
    return (np.abs(y) + np.abs(x) - np.float32(radius)) * np.float32(0.7071)


def _triangle(y, x, inner=0.577):
    # Equilateral, on its base, its box centred; `inner` is the radius of the inscribed circle.
    y = y - np.float32(0.289)
    return np.maximum(y, np.float32(0.866) * np.abs(x) - np.float32(0.5) * y) - np.float32(inner)


def _slash(y, x, half_width=0.1):
    return np.abs(y - x) * np.float32(0.7071) - np.float32(half_width)


def _ring(inside, *marks):
    return (RED, _disc), (inside, lambda y, x: _disc(y, x, _INNER)), *marks


def _arrow(sign):
    # Down and to one side, as "keep right" and "keep left" point.
    def shaft(y, x):
        along, across = (y + sign * x) * np.float32(0.7071), (y - sign * x) * np.float32(0.7071)
        return np.maximum(np.abs(across) - np.float32(0.12), np.abs(along) - np.float32(0.5))

    def head(y, x):
        return np.maximum(np.maximum(y, sign * x) - np.float32(0.5), np.float32(0.3) - y - sign * x)

    return (WHITE, lambda y, x: _disc(y, x)), (BLUE, lambda y, x: _disc(y, x, 0.94)), (
        WHITE, shaft), (WHITE, head)  # fmt: skip


def _panel(color, ink, lines):
    # A board with lines of writing, too small to read.
    def writing(y, x):
        nearest = np.minimum.reduce(
            [_rectangle(y - at, x + lean, 0.08, 0.62) for at, lean in lines]
        )
        gaps = np.abs((x * np.float32(3.7)) % 1 - np.float32(0.5)) * np.float32(0.27)
        return np.maximum(nearest, np.float32(0.04) - gaps)

    return (
        (ink, lambda y, x: _rectangle(y, x, 0.62, 1.0)),
        (color, lambda y, x: _rectangle(y, x, 0.56, 0.94)),
        (ink, writing),
    )


def _car(at):
    return lambda y, x: np.minimum(
        _rectangle(y - 0.08, x - at, 0.14, 0.2), _rectangle(y + 0.1, x - at, 0.12, 0.13)
    )


#: Layers of each face, (RGB, signed distance) from the ground up; of limits without the number.
FACES = {
    "NO_STOPPING_NO_STANDING": _ring(
        BLUE,
        (RED, lambda y, x: np.maximum(_slash(y, x), _disc(y, x))),
        (RED, lambda y, x: np.maximum(_slash(y, -x), _disc(y, x))),
    ),
    "NO_PARKING": _ring(BLUE, (RED, lambda y, x: np.maximum(_slash(y, x), _disc(y, x)))),
    "NO_ENTRY": ((RED, _disc), (YELLOW, lambda y, x: _rectangle(y, x, 0.17, 0.7))),
    "NO_VEHICLES": _ring(YELLOW),
    "NO_OVERTAKING": _ring(YELLOW, (RED, _car(-0.3)), (BLACK, _car(0.3))),
    "NO_TURN": _ring(
        YELLOW,
        (BLACK, lambda y, x: _rectangle(y - 0.12, x - 0.2, 0.34, 0.09)),
        (BLACK, lambda y, x: _rectangle(y + 0.22, x + 0.06, 0.09, 0.34)),
        (RED, lambda y, x: np.maximum(_slash(y, x), _disc(y, x))),
    ),
    "PASS_RIGHT_SIDE": _arrow(1),
    "PASS_LEFT_SIDE": _arrow(-1),
    "WARNING": (
        (RED, _triangle),
        (YELLOW, lambda y, x: _triangle(y, x, 0.4)),
        (BLACK, lambda y, x: _rectangle(y - 0.18, x, 0.26, 0.08)),
        (BLACK, lambda y, x: _disc(y - 0.58, x, 0.08)),
    ),
    "GIVE_WAY": (
        (RED, lambda y, x: _triangle(-y, x)),
        (YELLOW, lambda y, x: _triangle(-y, x, 0.36)),
    ),
    "PRIORITY_ROAD": (
        (WHITE, _diamond),
        (YELLOW, lambda y, x: _diamond(y, x, 0.7)),
    ),
    "PEDESTRIAN_CROSSING": (
        (WHITE, lambda y, x: _rectangle(y, x, 0.86, 0.86)),
        (BLUE, lambda y, x: _rectangle(y, x, 0.8, 0.8)),
        (WHITE, lambda y, x: _triangle(y, x, 0.38)),
        (BLACK, lambda y, x: _rectangle(y - 0.28, x, 0.22, 0.07)),
        (BLACK, lambda y, x: _disc(y + 0.06, x, 0.09)),
    ),
    "DIRECTION": _panel(BLUE, WHITE, ((-0.24, 0.1), (0.2, -0.06))),
    "PLACE_NAME": _panel(WHITE, BLACK, ((0.0, 0.0),)),
}
#: Type and half the (height, width) of each sign in radii.
SIGNS = {
    **{f"{number}_SIGN": ("PROHIBITORY", (1, 1)) for number in (30, 50, 60, 70, 80, 90, 100)},
    "NO_STOPPING_NO_STANDING": ("PROHIBITORY", (1, 1)),
    "NO_PARKING": ("PROHIBITORY", (1, 1)),
    "NO_ENTRY": ("PROHIBITORY", (1, 1)),
    "NO_VEHICLES": ("PROHIBITORY", (1, 1)),
    "NO_OVERTAKING": ("PROHIBITORY", (1, 1)),
    "NO_TURN": ("PROHIBITORY", (1, 1)),
    "PASS_RIGHT_SIDE": ("MANDATORY", (1, 1)),
    "PASS_LEFT_SIDE": ("MANDATORY", (1, 1)),
    "WARNING": ("WARNING", (0.866, 1)),
    "GIVE_WAY": ("PRIORITY", (0.866, 1)),
    "PRIORITY_ROAD": ("PRIORITY", (1, 1)),
    "PEDESTRIAN_CROSSING": ("INFORMATION", (0.86, 0.86)),
    "DIRECTION": ("INFORMATION", (0.62, 1)),
    "PLACE_NAME": ("INFORMATION", (0.62, 1)),
}


def sign_face(name, y, x, radius, digit_height=0.8, digit_stroke=0.17):
    """Colours and coverage of one sign at given points.

    Args:
        name: str, one of `SIGNS`.
        y: `[h, w]` float32, points below the middle, in radii.
        x: `[h, w]` float32, points right of the middle, in radii.
        radius: float, of the sign in pixels: how sharp edges are.
        digit_height: float, height of a limit's number in radii.
        digit_stroke: float, thickness of its strokes as a fraction of that height.

    Returns:
        Tuple of `[h, w, 3]` float32 RGB in 0-255, and `[h, w]` float32 coverage in [0, 1].
    """
    limit = name not in FACES
    layers = _ring(YELLOW) if limit else FACES[name]
    radius = np.float32(radius)

    def coverage(shape):
        return np.clip(np.float32(0.5) - shape(y, x) * radius, 0.0, 1.0)

    color = np.empty((*y.shape, 3), np.float32)
    color[...] = layers[0][0]
    for paint, shape in layers[1:]:
        color += (np.float32(paint) - color) * coverage(shape)[..., None]
    if limit:
        number = name.removesuffix("_SIGN")
        ink = number_ink(number, y * radius, x * radius, digit_height * radius, digit_stroke)
        color += (np.float32(BLACK) - color) * ink[..., None]
    return color, coverage(layers[0][1])


def number_ink(number, y, x, height, stroke):
    """Anti-aliased ink of a number of two or three digits.

    Args:
        number: str of digits, such as "50".
        y: `[h, w]` float32, points below the middle of the number, in pixels.
        x: `[h, w]` float32, points right of the middle of the number, in pixels.
        height: float, of the digits in pixels; three digits are made smaller, to be no wider.
        stroke: float, thickness of the strokes as a fraction of the height.

    Returns:
        `[h, w]` float32 in [0, 1].
    """
    if len(number) > 2:
        height = 0.8 * height
    narrow = 0.88 if len(number) < 3 else 0.74
    pitch = (0.6 + stroke + 0.08) * narrow * height
    total = np.zeros(y.shape, np.float32)
    for place, digit in enumerate(number):
        across = (x - np.float32((place - (len(number) - 1) / 2) * pitch)) / np.float32(narrow)
        if digit == "0":
            ink = _zero_ink(y, across, height, stroke)
        else:
            size = np.float32([height]), np.float32([stroke])
            ink = digit_ink([int(digit)], y[None], across[None], *size)[0]
        np.maximum(total, ink, out=total)
    return total


def _zero_ink(y, x, height, stroke):
    # As `digit_ink`, of an oval with straight sides: its distance needs no table.
    thickness = np.float32(height * stroke)
    scale = np.float32(height) - thickness
    ends = np.maximum(np.abs(y) - np.float32(0.5 - _ZERO) * scale, 0.0)
    distance = np.abs(np.hypot(ends, x) - np.float32(_ZERO) * scale)
    return np.clip(thickness / 2 + np.float32(0.5) - distance, 0.0, 1.0)
