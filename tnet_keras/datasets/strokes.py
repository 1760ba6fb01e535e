"""Anti-aliased curved strokes, drawn once in NumPy and pasted many times by `synthetic.py`."""

import numpy as np

INK_THRESHOLD = 0.1  # Fainter ink drowns in the background noise; dropping it keeps boxes tight.


def _distance_to_polyline(points, window):
    """Distance from every pixel centre of a square window to a polyline.

    Args:
        points: `[N, S + 1, 2]` float32, the corners (y, x) of `N` polylines, in pixels.
        window: int, side of the window in pixels.

    Returns:
        `[N, window, window]` float32, distances in pixels.
    """
    centres = np.arange(window, dtype=np.float32) + 0.5
    y, x = centres[None, :, None], centres[None, None, :]
    nearest = np.full((len(points), window, window), np.inf, np.float32)
    for start, end in zip(points[:, :-1].swapaxes(0, 1), points[:, 1:].swapaxes(0, 1), strict=True):
        (ay, ax), (dy, dx) = start.T[..., None, None], (end - start).T[..., None, None]
        along = ((y - ay) * dy + (x - ax) * dx) / np.maximum(dy * dy + dx * dx, 1e-6)
        along = np.clip(along, 0.0, 1.0)
        nearest = np.minimum(nearest, (y - ay - along * dy) ** 2 + (x - ax - along * dx) ** 2)
    return np.sqrt(nearest)


def draw_strokes(count, length, width, bend, seed, segments=8):
    """Draws random strokes: quadratic Bezier curves with round ends.

    Args:
        count: int, how many strokes.
        length: (low, high), distance between the two ends in pixels, drawn uniformly.
        width: (low, high), thickness in pixels, drawn uniformly.
        bend: float in [0, 1], largest distance of the middle control point from the chord, as a
            fraction of the length; 0 draws straight strokes only.
        seed: int or sequence of ints for `numpy.random.default_rng`.
        segments: int, straight pieces that each curve is cut into.

    Returns:
        List of `count` float32 arrays `[h, w]`: the ink of each stroke, in [0, 1] with maximum 1,
        cut to its tight extent. Ink under `INK_THRESHOLD` is 0.
    """
    random = np.random.default_rng(seed)
    window = int(np.ceil(length[1] * (1 + bend) + width[1])) + 4
    time = np.linspace(0.0, 1.0, segments + 1)[:, None]
    strokes = []
    for first in range(0, count, 256):  # Blocks bound the memory of the distance maps.
        size = min(256, count - first)
        angle = random.uniform(0, 2 * np.pi, size)
        half = random.uniform(*length, size) / 2
        bow = random.uniform(-bend, bend, size) * 2 * half
        thickness = random.uniform(*width, size)[:, None, None]
        chord = np.stack([np.sin(angle), np.cos(angle)], -1)
        normal = np.stack([-chord[:, 1], chord[:, 0]], -1)
        centre = window / 2 + random.uniform(-0.5, 0.5, (size, 2))  # Any subpixel phase.
        a, b = centre - half[:, None] * chord, centre + half[:, None] * chord
        middle = centre + bow[:, None] * normal
        a, b, middle = a[:, None], b[:, None], middle[:, None]
        points = (1 - time) ** 2 * a + 2 * time * (1 - time) * middle + time**2 * b
        distance = _distance_to_polyline(points.astype(np.float32), window)
        ink = np.clip(thickness / 2 + 0.5 - distance, 0.0, 1.0)
        ink /= ink.max(axis=(1, 2), keepdims=True)
        ink[ink < INK_THRESHOLD] = 0.0
        for patch in ink.astype(np.float32):
            rows, columns = np.flatnonzero(patch.any(1)), np.flatnonzero(patch.any(0))
            strokes.append(patch[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    return strokes
