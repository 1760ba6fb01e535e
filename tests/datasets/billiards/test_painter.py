"""A painted ball against what was asked for: place, size, colour, number, light."""

import math

import numpy as np
import pytest

from tnet_keras.datasets.billiards.painter import TablePainter


def one_ball(**changes):
    """A ball of 60 pixels with its middle at (y, x) = (70.25, 60.5) for `TablePainter.paint`."""
    values = {
        "y": 70.25, "x": 60.5, "diameter": 60.0, "number": 5, "color": 1, "height": 16.0,
        "stroke": 0.17, "ink": 1.0, "angle": 0.0, "shift_y": 0.0, "shift_x": 0.0, "tilt_y": 0.0,
        "tilt_x": 0.0, "piece_y": 3, "piece_x": 9,
    }  # fmt: skip
    return {key: np.array([value]) for key, value in (values | changes).items()}


def paint(wear=0.0, elevation=0.8, **changes):
    painter = TablePainter(128, 8.0, 2.0, 0.2, 62, 0.5, wear, 2.0)
    look = {
        "cloth": 0.3, "wood": 0.5, "brightness": 1.0, "azimuth": 2.0, "elevation": elevation,
        "slope": (0.5, -0.5), "piece": (5, 7),
    }  # fmt: skip
    return painter.paint(one_ball(**changes), look).astype(int)


def extent(changed):
    """(y0, x0, y1, x1) of what is true."""
    y, x = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    return np.array([y[0], x[0], y[-1] + 1, x[-1] + 1])


def test_a_ball_is_where_it_is_said_to_be():
    changed = (paint(color=1) != paint(color=3)).any(-1)
    box = (70.25 - 30, 60.5 - 30, 70.25 + 30, 60.5 + 30)
    np.testing.assert_allclose(extent(changed), box, atol=1.0)
    # A disc, without the white one with the number: that does not depend on the colour.
    # Pixels that are covered in part count as changed, hence half a pixel on either side.
    assert changed.sum() == pytest.approx(math.pi * (30.5**2 - 14.5**2), rel=0.03)
    y, x = np.nonzero(changed)
    assert np.hypot(y + 0.5 - 70.25, x + 0.5 - 60.5).max() <= 31


def test_a_number_is_as_high_and_black_as_it_is_said_to_be():
    blank = paint(ink=0.0)
    for height in (10.0, 20.0):
        darker = (blank - paint(height=height)).max(-1)
        y0, x0, y1, x1 = extent(darker > 60)
        assert y1 - y0 == pytest.approx(height, abs=1.6)
        assert 0.4 * height < x1 - x0 < 0.8 * height
        assert (y0 + y1) / 2 == pytest.approx(70.25, abs=1) and darker.max() > 130
    half = (blank - paint(height=20.0, ink=0.5)).max(-1)
    assert half.max() == pytest.approx(darker.max() / 2, rel=0.05)
    moved = extent((blank - paint(height=20.0, shift_y=3.0, shift_x=-2.0)).max(-1) > 60)
    np.testing.assert_allclose(moved - [y0, x0, y1, x1], [3, -2, 3, -2], atol=1)
    thin, thick = ((blank - paint(height=20.0, stroke=s)).sum() for s in (0.12, 0.2))
    assert thick > 1.3 * thin


def test_a_tilted_disc_lies_off_the_middle_and_is_foreshortened():
    white = paint(ink=0.0, color=1).min(-1) > 100  # Blue balls are dark in red.
    y0, x0, y1, x1 = extent(white)
    assert y1 - y0 == pytest.approx(30, abs=2) and x1 - x0 == pytest.approx(30, abs=2)
    tilted = extent(paint(ink=0.0, color=1, tilt_x=-0.3).min(-1) > 100)
    assert (tilted[1] + tilted[3]) / 2 == pytest.approx(60.5 - 0.3 * 30, abs=2)
    assert tilted[3] - tilted[1] < x1 - x0


def test_light_comes_from_its_side_and_shadows_fall_on_the_other():
    # Azimuth 2: from below and the left, the y axis pointing down.
    image = paint(color=1).sum(-1)
    towards, away = np.array([math.sin(2), math.cos(2)]), np.array([70.25, 60.5])

    def at(distance):
        y, x = np.rint(away + distance * towards).astype(int)
        return image[y - 1 : y + 2, x - 1 : x + 2].mean()

    assert at(22) > 1.3 * at(-22)  # On the ball.
    assert at(45) > 1.2 * at(-38)  # On the cloth.


def test_stains_change_the_ball_only():
    clean, worn = paint(), paint(wear=0.1)
    changed = (clean != worn).any(-1)
    np.testing.assert_allclose(extent(changed), (40, 30, 101, 91), atol=2)
    ratio = worn[changed] / np.maximum(clean[changed], 1)
    assert np.median(ratio) == pytest.approx(1, abs=0.1) and 0.03 < ratio.std() < 0.15
