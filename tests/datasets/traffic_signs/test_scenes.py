"""What a scene shows, where, and what its annotation says about that."""

import dataclasses
import itertools
import json
import math

import keras
import numpy as np
import pytest

from tests.datasets.traffic_signs.tiny_scenes import TINY
from tnet_keras.datasets.traffic_signs import (
    TrafficScenes,
    TrafficScenesConfig,
    labelled_sign,
    traffic_sign_label,
)
from tnet_keras.datasets.traffic_signs.annotations import MISC_SIGNS, VISIBILITIES
from tnet_keras.datasets.traffic_signs.signs import SIGNS

LIMITS = ("50_SIGN", "70_SIGN", "80_SIGN")


@pytest.fixture(scope="module")
def annotations():
    scenes = TrafficScenes(TINY, "test", 0)
    return [scenes.annotate(index) for index in range(1500)]


def test_both_rules_give_the_class_that_was_drawn(annotations):
    labels = [traffic_sign_label(signs) for signs in annotations]
    assert None not in labels
    assert labels == [traffic_sign_label(signs, "ats") for signs in annotations]
    np.testing.assert_allclose(np.bincount(labels) / len(labels), TINY.class_shares, atol=0.04)
    for label in range(4):
        shares = tuple(float(label == other) for other in range(4))
        config = dataclasses.replace(TINY, class_shares=shares)
        scenes = TrafficScenes(config, "train", 1)
        assert {traffic_sign_label(scenes.annotate(index)) for index in range(50)} == {label}


def test_empty_scenes_show_signs_that_are_not_listed(annotations):
    empty = [signs for signs in annotations if traffic_sign_label(signs) == 0]
    shown = list(itertools.chain.from_iterable(empty))
    assert {one.visibility for one in shown} == {MISC_SIGNS}
    names = {one.name for one in shown}
    assert not names & set(LIMITS)
    assert {"30_SIGN", "60_SIGN", "90_SIGN", "100_SIGN", "NO_VEHICLES"} <= names
    assert any(not signs for signs in empty)


def test_scenes_with_a_limit_show_all_that_can_be_mistaken_for_it(annotations):
    listed = [signs for signs in annotations if traffic_sign_label(signs)]
    shown = list(itertools.chain.from_iterable(listed))
    assert {one.visibility for one in shown} == set(VISIBILITIES)
    assert {one.name for one in shown} == set(SIGNS)
    # Blurred, occluded or on a side road: limits of other values, and of the same.
    values = {one.name for one in shown if one.visibility != "VISIBLE"}
    assert set(LIMITS) <= values
    firsts = [signs[0] == labelled_sign(signs) for signs in listed if len(signs) > 1]
    assert 0.2 < np.mean(firsts) < 0.8  # The order of the file does not give it away.


def test_signs_keep_apart_and_off_the_border(annotations):
    diameters = []
    for signs in annotations:
        for one, other in itertools.combinations(signs, 2):
            (y0, x0, y1, x1), (v0, u0, v1, u1) = one.box, other.box
            assert y1 <= v0 or v1 <= y0 or x1 <= u0 or u1 <= x0
        for one in signs:
            y0, x0, y1, x1 = one.box
            assert min(y0, x0) >= 16 and y1 <= 216 - 16 and x1 <= 288 - 16
            diameters.append((y1 - y0) / SIGNS[one.name][1][0])
    assert min(diameters) > TINY.sign_diameter[0] - 0.1
    assert max(diameters) < TINY.sign_diameter[1] + 0.1


def test_the_sign_of_a_scene_is_never_left_out():
    # Hardly any room: the largest signs that a small image may have.
    config = dataclasses.replace(
        TINY, sign_diameter=(27.0, 27.0), margin=50.0, num_others=(6, 6), class_shares=(0, 1, 0, 0)
    )
    scenes = TrafficScenes(config, "train", 0)
    counts = []
    for index in range(100):
        signs = scenes.annotate(index)
        assert traffic_sign_label(signs) == 1
        counts.append(len(signs))
    assert min(counts) < 7


def test_a_scene_depends_on_seed_split_and_index_only():
    first, again = (TrafficScenes(TINY, "train", 3) for _ in range(2))
    again.draw(5)
    for index in (4, 0):
        (image, signs), (image_again, signs_again) = first.draw(index), again.draw(index)
        np.testing.assert_array_equal(image, image_again)
        assert signs == signs_again == first.annotate(index)
    images = {
        TrafficScenes(TINY, split, seed).draw(index)[0].tobytes()
        for split in ("train", "validation", "test")
        for seed in (0, 1)
        for index in range(3)
    }
    assert len(images) == 18


def test_the_labelled_sign_is_red_and_yellow_where_the_box_is():
    scenes = TrafficScenes(TINY, "test", 0)
    seen = 0
    for index in range(40):
        image, signs = scenes.draw(index)
        assert image.shape == (216, 288, 3) and image.dtype == np.uint8
        one = labelled_sign(signs)
        if one is None:
            continue
        seen += 1
        y0, x0, y1, x1 = one.box
        rows, columns = np.mgrid[0:216, 0:288] + 0.5
        y, x = (rows - (y0 + y1) / 2) * 2 / (y1 - y0), (columns - (x0 + x1) / 2) * 2 / (x1 - x0)
        radius = np.hypot(y, x)
        red = image[(radius > 0.8) & (radius < 0.94)].mean(0)
        assert red[0] > 2 * red[1] and red[0] > 2 * red[2]
        yellow = np.percentile(image[radius < 0.66], 75, axis=0)
        assert yellow[0] > 1.8 * yellow[2] and yellow[1] > 1.4 * yellow[2]
    assert seen > 10


def test_the_full_size_has_the_published_one():
    config = TrafficScenesConfig()
    assert (config.height, config.width) == (960, 1280)
    assert max(config.class_shares) < 0.5
    assert TrafficScenesConfig.of_size(960, 1280) == config
    assert TrafficScenesConfig.of_size(512, 700).sign_diameter == config.sign_diameter
    assert TrafficScenesConfig.of_size(216, 288) == TINY


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"sign_diameter": (50, 40)}, r"`sign_diameter` must be \(low, high\).*=\(50, 40\)"),
        ({"sign_diameter": (50, math.inf)}, r"sign_diameter=\(50, inf\)"),
        ({"sign_diameter": (50, 140)}, r"`sign_diameter` must be at most 120, .*=\(50, 140\)"),
        ({"margin": 400}, r"`sign_diameter` must be at most 40, .*"),
        ({"digit_height": (0.1, 0.2, 0.3)}, r"digit_height=\(0.1, 0.2, 0.3\)"),
        ({"digit_height": (0.3, 0.5)}, r"`digit_height` must be at most 0.42. .*\(0.3, 0.5\)"),
        ({"digit_stroke": (0.1, 0.3)}, r"`digit_stroke` must be at most 0.25. .*\(0.1, 0.3\)"),
        ({"brightness": (1, 3)}, r"`brightness` must be at most 2. .*brightness=\(1, 3\)"),
        ({"class_shares": (0.5, 0.5)}, r"`class_shares` must be 4 numbers .*=\(0.5, 0.5\)"),
        ({"class_shares": (0.5, 0.5, 0.5, -0.5)}, r"`class_shares` must be 4 numbers"),
        ({"class_shares": (math.nan, 0, 0, 1)}, r"`class_shares` must be 4 numbers"),
        ({"class_shares": (0.3, 0.3, 0.3, 0.3)}, r"that sum to 1. Received: class_shares="),
        ({"num_others": (0, 2.5)}, r"`num_others` must be two ints .*num_others=\(0, 2.5\)"),
        ({"num_others": (3, 2)}, r"`num_others` must be two ints .*num_others=\(3, 2\)"),
        ({"num_others": (3,)}, r"`num_others` must be two ints .*num_others=\(3,\)"),
        ({"height": 50}, r"`height` must lie between 96 and inf. Received: height=50"),
        ({"width": math.nan}, r"`width` must lie between 128 and inf. Received: width=nan"),
        ({"decoy_share": 2}, r"`decoy_share` must lie between 0 and 1. Received: decoy_share=2"),
        ({"gantry_share": -1}, r"`gantry_share` must lie between 0 and 1"),
        ({"margin": -1}, r"`margin` must lie between 0 and inf. Received: margin=-1"),
        ({"wear": 0.5}, r"`wear` must lie between 0 and 0.3. Received: wear=0.5"),
        ({"noise": 30}, r"`noise` must lie between 0 and 20. Received: noise=30"),
    ],
)
def test_bad_config(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        TrafficScenesConfig(**arguments)
    assert "\n" not in str(error.value)


def test_bad_split():
    with pytest.raises(ValueError, match=r"`split` must be one of .* Received: split='valid'"):
        TrafficScenes(TINY, "valid", 0)


def test_config_round_trip():
    config = TrafficScenesConfig(height=900, sign_diameter=[30, 50], num_others=[1, 2])
    assert TrafficScenesConfig.from_config(json.loads(json.dumps(config.get_config()))) == config
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(config))
    assert restored == config and restored.sign_diameter == (30, 50)
    assert TrafficScenesConfig.small(300, 400).width == 400
