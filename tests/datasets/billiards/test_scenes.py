"""The published rules of the tables, measured on annotations and on pictures."""

import dataclasses
import itertools
import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.datasets.billiards.tiny_tables import COLORS, TINY
from tnet_keras.datasets import BILLIARD_LABELS, BilliardsConfig, billiard_label
from tnet_keras.datasets.billiards import BilliardScenes
from tnet_keras.datasets.billiards.glyphs import digit_ink
from tnet_keras.datasets.billiards.painter import BALL_COLORS


@pytest.fixture(scope="module")
def annotations():
    scenes = BilliardScenes(TINY, "test", 0)
    return [scenes.annotate(index) for index in range(4000)]


def test_priors_are_the_published_ones(annotations):
    def shares(label):
        labels = [billiard_label(balls, label) for balls in annotations]
        return np.bincount(labels, minlength=BILLIARD_LABELS[label]) / len(labels)

    expected = (2 * np.arange(1, 10) - 1) / 81
    assert expected[-1] == 17 / 81
    np.testing.assert_allclose(shares("max_left_right"), expected, atol=0.025)
    np.testing.assert_allclose(shares("rightmost_number"), 1 / 9, atol=0.02)
    np.testing.assert_allclose(shares("sum_modulo_10"), 1 / 10, atol=0.02)
    assert shares("min_or_max_by_color")[[0, 8]].min() > 0.15  # All cool or all warm: min or max.


def test_balls_follow_the_rules(annotations):
    every = list(itertools.chain.from_iterable(annotations))
    counts = np.bincount([len(balls) for balls in annotations], minlength=9)
    assert counts[:4].sum() == 0
    np.testing.assert_allclose(counts[4:] / 4000, 1 / 5, atol=0.03)
    for key, values in (("number", range(1, 10)), ("color", COLORS)):
        drawn = [one[key] for one in every]
        assert set(drawn) == set(values)
        shares = [drawn.count(value) / len(drawn) for value in values]
        np.testing.assert_allclose(shares, 1 / len(values), atol=0.015)
    boxes = np.array([one["box"] for one in every])
    diameters = boxes[:, 2:] - boxes[:, :2]
    np.testing.assert_allclose(diameters[:, 0], diameters[:, 1], atol=2e-3)
    assert 33.999 < diameters.min() < 34.1 and 39.9 < diameters.max() < 40.001
    assert boxes[:, :2].min() >= 12 and boxes[:, 2:].max() <= 240 - 12
    positions = np.array([one["position"] for one in every])
    np.testing.assert_allclose(positions, (boxes[:, :2] + boxes[:, 2:])[:, ::-1] / 2, atol=2e-3)
    # Numbers and places have nothing to do with each other: repeats are allowed.
    assert any(len({one["number"] for one in balls}) < len(balls) for balls in annotations)


def test_balls_keep_apart(annotations):
    for balls in annotations[:500]:
        for one, other in itertools.combinations(balls, 2):
            radii = [(item["box"][2] - item["box"][0]) / 2 for item in (one, other)]
            assert math.dist(one["position"], other["position"]) >= sum(radii) + 2 - 0.01


def test_a_crowded_table_is_filled_and_one_too_crowded_refused():
    with pytest.raises(ValueError, match=r"`image_size` must hold .* at least (\d+) pixels") as one:
        BilliardsConfig.small(image_size=100)
    least = int(one.value.args[0].split("at least ")[1].split()[0])
    config = dataclasses.replace(BilliardsConfig.small(image_size=least), num_balls=(8, 8))
    assert len(BilliardScenes(config, "train", 0).annotate(0)) == 8


def test_every_ball_shows_its_colour():
    scenes = BilliardScenes(dataclasses.replace(TINY, light_elevation=(85, 90)), "test", 0)
    palette = np.array(list(BALL_COLORS.values()), float)
    palette /= np.linalg.norm(palette, axis=1, keepdims=True)
    seen = []
    for index in range(12):
        image, balls = scenes.draw(index)
        for one in balls:
            (x, y), (y0, _, y1, _) = one["position"], one["box"]
            radius = (y1 - y0) / 2
            rows, columns = np.mgrid[0:240, 0:240] + 0.5
            distance = np.hypot(rows - y, columns - x)
            ring = (distance < 0.95 * radius) & (distance > 0.75 * radius)
            color = np.median(image[ring], axis=0)
            nearest = np.argmax(palette @ (color / np.linalg.norm(color)))
            assert COLORS[nearest] == one["color"]
            seen.append(one["color"])
    assert set(seen) == set(COLORS)


def read_numbers(image, balls, templates, reach, scale):
    """Whether template matching near the middle of each ball reads its number."""
    side = templates.shape[1]
    flat = templates.reshape(len(templates), -1)
    right = []
    for one in balls:
        x, y = (int(value / scale) for value in one["position"])
        low = [value - reach - side // 2 for value in (y, x)]
        cut = image[low[0] : low[0] + side + 2 * reach, low[1] : low[1] + side + 2 * reach]
        windows = np.lib.stride_tricks.sliding_window_view(cut, (side, side)).reshape(-1, side**2)
        windows = windows - windows.mean(1, keepdims=True)
        windows /= np.linalg.norm(windows, axis=1, keepdims=True)
        best = (windows @ flat.T).max(0)  # Of each template over all places.
        right.append(np.argmax(best.reshape(9, -1).max(1)) + 1 == one["number"])
    return right


@pytest.mark.parametrize(
    "config, count", [(BilliardsConfig.small(), 60), (BilliardsConfig(image_size=520), 40)]
)
def test_numbers_can_be_read_but_not_after_downscaling(config, count):
    height = np.float32(np.mean(config.digit_height))
    side = 4 * (int(height * 1.3) // 4) + 4
    templates, small_templates = [], []
    for number, degrees in itertools.product(range(1, 10), (-16, -8, 0, 8, 16)):
        cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))

        def draw(side, shift, number=number, cosine=cosine, sine=sine):
            line = np.arange(side, dtype=np.float32) + 0.5 - side / 2
            y, x = line[:, None] - shift[0], line[None, :] - shift[1]
            y, x = (y * cosine - x * sine)[None], (x * cosine + y * sine)[None]
            stroke = np.array([0.16], np.float32)
            return -digit_ink([number], y, x, np.array([height]), stroke)[0]

        templates.append(draw(side, (0, 0)))
        for shift in itertools.product((-1.5, -0.5, 0.5, 1.5), repeat=2):
            small_templates.append(draw(side + 8, shift))  # A cell of white around it.
    small_templates = tf.image.resize(
        np.stack(small_templates)[..., None], ((side + 8) // 4,) * 2, antialias=True
    ).numpy()[..., 0]

    def normalised(group):
        group = group - group.mean((1, 2), keepdims=True)
        return group / np.linalg.norm(group, axis=(1, 2), keepdims=True)

    scenes = BilliardScenes(config, "test", 3)
    sharp, blurred = [], []
    for index in range(count):
        image, balls = scenes.draw(index)
        grey = image.astype(np.float32).mean(-1)
        quarter = (config.image_size // 4,) * 2
        small = tf.image.resize(grey[..., None], quarter, antialias=True).numpy()[..., 0]
        reach = int(0.16 * config.ball_diameter[1])
        sharp += read_numbers(grey, balls, normalised(np.stack(templates)), reach, 1)
        blurred += read_numbers(small, balls, normalised(small_templates), reach // 4 + 1, 4)
    assert np.mean(sharp) > 0.92
    assert np.mean(blurred) < 0.4


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"ball_diameter": (70, 60)}, r"`ball_diameter` must be \(low, high\).*=\(70, 60\)"),
        ({"num_balls": (4, 8.5)}, r"`num_balls` must be two ints. Received: num_balls=\(4, 8.5\)"),
        ({"ball_diameter": (60, math.inf)}, r"`image_size` must hold .* at least inf pixels"),
        ({"num_balls": (0, 3)}, r"num_balls=\(0, 3\)"),
        ({"digit_height": (8, 9, 10)}, r"digit_height=\(8, 9, 10\)"),
        ({"digit_height": (10, 20)}, r"`digit_height` must be at most 17.85, .*=\(10, 20\)"),
        ({"digit_stroke": (0.1, 0.3)}, r"`digit_stroke` must lie within 0 and 0.25.*\(0.1, 0.3\)"),
        ({"digit_ink": (0.5, 1.5)}, r"`digit_ink` must lie within 0 and 1.*=\(0.5, 1.5\)"),
        ({"brightness": (1, 3)}, r"`brightness` must lie within 0 and 2.*=\(1, 3\)"),
        ({"light_elevation": (5, 50)}, r"`light_elevation` must lie within 25 and 90.*=\(5, 50\)"),
        ({"ball_gap": -1.0}, r"`ball_gap` must lie between 0 and inf. Received: ball_gap=-1.0"),
        ({"rail_width": math.nan}, r"`rail_width` must lie between 0 and inf.*=nan"),
        ({"rotation": 60}, r"`rotation` must lie between 0 and 45. Received: rotation=60"),
        ({"tilt": 30}, r"`tilt` must lie between 0 and 20. Received: tilt=30"),
        ({"wear": 0.5}, r"`wear` must lie between 0 and 0.2. Received: wear=0.5"),
        ({"grain": 11}, r"`grain` must lie between 0 and 10. Received: grain=11"),
        ({"vignette": 0.8}, r"`vignette` must lie between 0 and 0.5. Received: vignette=0.8"),
        ({"image_size": 300}, r"`image_size` must hold .* Received: image_size=300"),
    ],
)
def test_bad_config(arguments, message):
    with pytest.raises(ValueError, match=message):
        BilliardsConfig(**arguments)


def test_config_round_trip():
    config = BilliardsConfig(image_size=600, ball_diameter=[50, 55], tilt=3.0)
    assert BilliardsConfig.from_config(json.loads(json.dumps(config.get_config()))) == config
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(config))
    assert restored == config and restored.ball_diameter == (50, 55)
    assert BilliardsConfig.small(300).image_size == 300
