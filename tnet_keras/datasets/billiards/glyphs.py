"""The digits 1 to 9 as strokes of our own, kept as distances: sharp at any size."""

import functools

import numpy as np

CELLS = 96  # Table cells per height of a digit: a pixel of a 20 pixel digit is about 5 cells.
MARGIN = 0.25  # Around the digit, in heights: there is no ink further away.


def _arc(centre, radii, start, stop, pieces=20):
    """Points (y, x) on an ellipse; angles in degrees, 0 to the right and 90 at the bottom."""
    angle = np.radians(np.linspace(start, stop, pieces + 1))
    return np.stack([np.sin(angle), np.cos(angle)], -1) * radii + centre


def _polylines():
    """Strokes of each digit as point lists (y, x) in heights, top left at (0, 0), width 0.6."""
    loop = _arc((0.68, 0.3), (0.32, 0.28), 0, 360, 32)
    stem = np.array([(0.74, 0.02), (0.52, 0.03), (0.32, 0.1), (0.16, 0.22), (0.0, 0.44)])
    return {
        1: [[(0.22, 0.1), (0.0, 0.36), (1.0, 0.36)]],
        2: [[*_arc((0.3, 0.29), (0.3, 0.27), -165, 20), (1.0, 0.02), (1.0, 0.58)]],
        3: [
            [
                *_arc((0.25, 0.28), (0.25, 0.25), -150, 90),
                *_arc((0.74, 0.28), (0.26, 0.29), -90, 150),
            ]
        ],
        4: [[(1.0, 0.44), (0.0, 0.44), (0.7, 0.0), (0.7, 0.62)]],
        5: [[(0.0, 0.52), (0.0, 0.1), (0.45, 0.06), *_arc((0.67, 0.28), (0.33, 0.3), -130, 150)]],
        6: [loop, stem],
        7: [[(0.0, 0.02), (0.0, 0.58), (1.0, 0.2)]],
        8: [
            _arc((0.24, 0.3), (0.24, 0.22), 0, 360, 32),
            _arc((0.74, 0.3), (0.26, 0.28), 0, 360, 32),
        ],
        9: [(1.0, 0.6) - loop, (1.0, 0.6) - stem],
    }


@functools.cache
def distance_tables():
    """Distance to the middle of the nearest stroke of each digit.

    Returns:
        `[9, S, S]` float32 in heights of a digit, for the digits 1 to 9. Cell (i, j) is centred
        `(i + 0.5 - S / 2) / CELLS` heights below, and as far for j right of, the digit's middle.
    """
    side = int(CELLS * (1 + 2 * MARGIN))
    line = (np.arange(side) + 0.5) / CELLS - side / CELLS / 2
    y, x = line[:, None] + 0.5, line[None, :] + 0.3
    tables = []
    for _, strokes in sorted(_polylines().items()):
        nearest = np.full((side, side), np.inf)
        for points in map(np.asarray, strokes):
            for (ay, ax), (dy, dx) in zip(points[:-1], np.diff(points, axis=0), strict=True):
                along = ((y - ay) * dy + (x - ax) * dx) / max(dy * dy + dx * dx, 1e-12)
                along = np.clip(along, 0.0, 1.0)
                squared = (y - ay - along * dy) ** 2 + (x - ax - along * dx) ** 2
                nearest = np.minimum(nearest, squared)
        tables.append(np.sqrt(nearest))
    return np.stack(tables).astype(np.float32)


def digit_ink(numbers, y, x, height, stroke):
    """Anti-aliased ink of digits at given points.

    Args:
        numbers: `[N]` ints in 1-9.
        y: `[N, h, w]` float32, points below the middle of each digit, in pixels.
        x: `[N, h, w]` float32, points right of the middle of each digit, in pixels.
        height: `[N]` float32, heights of the digits in pixels, ink included.
        stroke: `[N]` float32, thickness of their strokes as a fraction of the height.

    Returns:
        `[N, h, w]` float32 in [0, 1].
    """
    tables = distance_tables()
    side = tables.shape[1]
    # The middles of the strokes span one thickness less than the ink.
    thickness = (height * stroke)[:, None, None]
    scale = height[:, None, None] - thickness
    cells = np.float32(CELLS) / scale

    def cell(offset):
        index = (offset * cells + np.float32(side / 2)).astype(np.int32)
        return np.clip(index, 0, side - 1, out=index)

    at = cell(y) * side + cell(x) + (np.asarray(numbers, np.int32) - 1)[:, None, None] * side**2
    distance = tables.ravel()[at] * scale
    ink = thickness / 2 + np.float32(0.5) - distance
    return np.clip(ink, 0.0, 1.0, out=ink)
