"""What backdrops are cut from: noise, grain that lies on the ground, the shapes of trees."""

import numpy as np


def smooth_noise(random, shape, power, stretch=(1.0, 1.0)):
    """Noise whose amplitude falls with frequency; mean 0, standard deviation 1.

    Args:
        random: `np.random.Generator`.
        shape: (rows, columns).
        power: float, amplitude is proportional to frequency^-power.
        stretch: pair of float, factors on the frequencies along rows and columns.

    Returns:
        `[rows, columns]` float32.
    """
    white = np.fft.rfft2(random.standard_normal(shape))
    y = np.fft.fftfreq(shape[0])[:, None] * stretch[0]
    x = np.fft.rfftfreq(shape[1])[None, :] * stretch[1]
    frequency = np.sqrt(y**2 + x**2 + 1.0 / max(shape) ** 2)
    noise = np.fft.irfft2(white * frequency**-power, shape)
    return ((noise - noise.mean()) / noise.std()).astype(np.float32)


def ground_grain(random, rows, wide, eye, levels):
    """Grain that lies on the ground, row by row below the horizon, plus grain of the picture.

    Args:
        random: `np.random.Generator`.
        rows: int.
        wide: int, columns.
        eye: float, height of the camera over the ground in metres.
        levels: int, how many grey levels there are.

    Returns:
        `[rows, wide]` uint8 in [0, levels).
    """
    tile = smooth_noise(random, (128, 256), 0.7)
    place = np.arange(wide)
    grain = np.empty((rows, wide), np.float32)
    for row in range(rows):
        metre = (row + 1) / eye
        line = tile[int(4000.0 / (row + 4)) % len(tile)]
        grain[row] = np.interp(place / metre * 12.0, np.arange(len(line)), line, period=len(line))
    grain += 0.7 * random.standard_normal(grain.shape)
    return np.clip(levels / 2 * (1 + 0.3 * grain), 0, levels - 1).astype(np.uint8)


def tree_line(random, wide, height, pointed):
    """How high a wood stands at each column.

    Args:
        random: `np.random.Generator`.
        wide: int, columns.
        height: int, of the image in pixels: trees are a part of it apart.
        pointed: bool, whether these are firs.

    Returns:
        `[wide]` float, 0.4-1.3.
    """
    place = np.arange(wide)
    top = np.full(wide, 0.45)
    for _ in range(max(int(9 * wide / height), 4) * 4):
        middle, tall = random.uniform(0, wide), random.uniform(0.6, 1.2)
        aside = np.abs(place - middle) / height
        tree = tall - 11.0 * aside if pointed else tall - 260.0 * aside**2
        top = np.maximum(top, tree)
    return top + 0.03 * random.standard_normal(wide)


def tree_stamp(random, pointed, side=96):
    """The crown of a tree.

    Args:
        random: `np.random.Generator`.
        pointed: bool, whether it is a fir.
        side: int, pixels.

    Returns:
        `[side, side]` uint8 grey levels, 0 where there are no leaves.
    """
    line = (np.arange(side) + 0.5) / side
    y, x = line[:, None], 2 * np.abs(line[None, :] - 0.5)
    rough = smooth_noise(random, (side, side), 0.9)
    if pointed:
        inside = 1.0 * y - x + 0.12 * np.sin(40 * y) * y
    else:
        inside = 0.9 - np.hypot(2 * y - 1, x)
    light = 110 + 34 * rough + 70 * (line[None, :] - 0.5) - 50 * (y - 0.5)
    return np.where(inside + 0.09 * rough > 0.03, np.clip(light, 1, 255), 0).astype(np.uint8)
