"""Paints what stands between the signs: houses, trees, cars; and the leaves before a sign."""

import numpy as np

#: Of houses: walls (the first is the red that red signs are mistaken for), and roofs.
WALLS = ((142, 44, 36), (196, 178, 128), (206, 204, 196), (124, 128, 132))
ROOFS = ((92, 52, 44), (62, 62, 66))
#: Of cars.
BODIES = ((158, 30, 34), (34, 62, 120), (44, 46, 50), (198, 200, 202), (206, 172, 44))
#: Kinds of crowns: even ones are pointed.
CROWNS = 4
_FRAME, _GLASS, _TRUNK = (218, 216, 210), (46, 54, 66), (70, 58, 46)
_PANE, _PLATE, _TYRE, _SHADOW = (52, 62, 72), (210, 206, 180), (24, 24, 26), (40, 40, 42)
_TAIL_LIGHT, _HEAD_LIGHT = (198, 24, 26), (232, 232, 214)


def paint_house(scenery, image, look, house):
    """Paints a house with a roof and rows of windows.

    Args:
        scenery: `Scenery`.
        image: `[H, W, 4]` uint8, changed.
        look: dict, as of `Scenery.paint`.
        house: dict. `scale`: pixels per metre; `right`: metres right of the camera; `width` and
            `height`: metres; `wall` and `roof`: positions in `WALLS` and `ROOFS`.
    """
    metre = house["scale"]
    base = scenery.ground_row(look, metre) + 0.2 * metre
    left = scenery.ground_column(look, metre, house["right"])
    wide, tall = house["width"] * metre, house["height"] * metre
    wall, roof, frame, glass = scenery.shade(
        (WALLS[house["wall"]], ROOFS[house["roof"]], _FRAME, _GLASS), look
    )
    steps = max(int(0.35 * tall), 2)
    for step in range(steps):  # It narrows upwards.
        inset = (step / steps * 0.9 - 0.4) * metre
        y = base - tall - step
        scenery.fill(image, y - 1, left + inset, y, left + wide - inset, roof)
    scenery.fill(image, base - tall, left, base, left + wide, wall)
    high, broad, edge = 1.3 * metre, 1.0 * metre, 0.12 * metre
    for level in range(int(house["height"] / 2.7)):
        for place in range(int(house["width"] / 2.2)):
            y = base - (2.4 + 2.7 * level) * metre
            x = left + (0.7 + 2.2 * place) * metre
            scenery.fill(image, y, x, y + high, x + broad, frame)
            scenery.fill(image, y + edge, x + edge, y + high - edge, x + broad - edge, glass)


def paint_tree(scenery, image, look, tree):
    """Paints a tree.

    Args:
        scenery: `Scenery`.
        image: `[H, W, 4]` uint8, changed.
        look: dict, as of `Scenery.paint`.
        tree: dict. `scale`: pixels per metre; `right`: metres right of the camera; `height`:
            metres; `slim`: width as a fraction of the height; `shape`: int in [0, CROWNS);
            `tone`: 1 is usual, less is darker.
    """
    metre = tree["scale"]
    base = scenery.ground_row(look, metre) + 0.1 * metre
    x = scenery.ground_column(look, metre, tree["right"])
    tall = tree["height"] * metre
    paint_trunk(scenery, image, look, base - 0.4 * tall, base, x, 0.15 * metre)
    wide = tree["slim"] * tall
    top = base - 1.12 * tall
    scenery.paint_leaves(image, look, top, x - wide / 2, tall, wide, tree["shape"], tree["tone"])


def paint_trunk(scenery, image, look, top, base, x, half):
    """Paints the trunk of a tree.

    Args:
        scenery: `Scenery`.
        image: `[H, W, 4]` uint8, changed.
        look: dict, as of `Scenery.paint`.
        top: float, row where it begins.
        base: float, row where it ends.
        x: float, column of its middle.
        half: float, half its width in pixels.
    """
    scenery.fill(image, top, x - half, base, x + half, scenery.shade(_TRUNK, look))


def paint_car(scenery, image, look, car):
    """Paints a car ahead, seen from behind, or one that comes towards the camera.

    Args:
        scenery: `Scenery`.
        image: `[H, W, 4]` uint8, changed.
        look: dict, as of `Scenery.paint`.
        car: dict. `scale`: pixels per metre; `right`: metres right of the camera; `ahead`: bool;
            `body`: position in `BODIES`.
    """
    metre = car["scale"]
    base = scenery.ground_row(look, metre)
    x = scenery.ground_column(look, metre, car["right"])
    body = np.float32(BODIES[car["body"]])
    lamp = _TAIL_LIGHT if car["ahead"] else _HEAD_LIGHT
    parts = (  # Upper edge, left, lower edge, right in metres over the road, and colour.
        (0.12, -0.95, -0.05, 0.95, _SHADOW),
        (0.35, -0.8, 0.0, -0.58, _TYRE),
        (0.35, 0.58, 0.0, 0.8, _TYRE),
        (0.85, -0.86, 0.25, 0.86, body),
        (1.38, -0.66, 0.85, 0.66, 0.85 * body),
        (1.3, -0.58, 0.9, 0.58, _PANE),
        (0.5, -0.3, 0.38, 0.3, _PLATE),
        (0.76, -0.82, 0.6, -0.56, lamp),
        (0.76, 0.56, 0.6, 0.82, lamp),
    )
    colors = scenery.shade([part[4] for part in parts], look)
    for (y0, x0, y1, x1, _), color in zip(parts, colors, strict=True):
        scenery.fill(
            image, base - y0 * metre, x + x0 * metre, base - y1 * metre, x + x1 * metre, color
        )
