"""Faces of signs, and how scenes hide and blur them."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.datasets.traffic_signs.tiny_scenes import TINY
from tnet_keras.datasets.traffic_signs import TrafficScenes, traffic_sign_label
from tnet_keras.datasets.traffic_signs.painter import ScenePainter
from tnet_keras.datasets.traffic_signs.signs import SIGNS, number_ink, sign_face

LOOK = {
    "horizon": 110, "vanish": 144.0, "bend": 10.0, "overcast": 0.5, "dry": 0.5, "warm": 0.5,
    "brightness": 1.0, "clouds": 1, "pieces": [3, 4, 5, 6], "wood": (0.05, 0.1, 0),
    "things": [], "noise": (0, 0),
}  # fmt: skip
SIGN = {
    "name": "70_SIGN", "visibility": "VISIBLE", "y": 90.0, "x": 200.0, "diameter": 40.0,
    "scale": 20.0, "mount": "post", "squeeze": 1.0, "turn": 0.0, "digit_height": 0.8,
    "digit_stroke": 0.16, "light": 1.0, "piece": (0, 0), "blur": 0.25, "hidden": (0.5, 0.5, 1),
}  # fmt: skip


@pytest.fixture(scope="module")
def painter():
    return ScenePainter(216, 288, 0.0, 0.0)


def grid(side, radius):
    line = (np.arange(side, dtype=np.float32) + 0.5 - side / 2) / np.float32(radius)
    return np.meshgrid(line, line, indexing="ij")


@pytest.mark.parametrize("name", SIGNS)
def test_a_face_fills_its_box(name):
    y, x = grid(128, 50)
    color, cover = sign_face(name, y, x, 50)
    assert color.shape == (128, 128, 3) and color.dtype == cover.dtype == np.float32
    assert color.min() >= 0 and color.max() <= 255 and cover.min() == 0 and cover.max() == 1
    half_height, half_width = SIGNS[name][1]
    rows, columns = (np.flatnonzero(cover.max(axis) > 0.5) for axis in (1, 0))
    assert abs(len(rows) - 100 * half_height) <= 3 and abs(len(columns) - 100 * half_width) <= 3
    assert abs(rows.mean() - 63.5) <= 1 and abs(columns.mean() - 63.5) <= 1


def test_every_face_is_another_one():
    y, x = grid(64, 30)
    faces = []
    for name in SIGNS:
        color, cover = sign_face(name, y, x, 30)
        faces.append(color * cover[..., None])
    for index, face in enumerate(faces):
        others = [np.abs(face - other).mean() for other in faces[:index]]
        assert not others or min(others) > 1.5


@pytest.mark.parametrize("number, width", [("30", 1.3), ("50", 1.3), ("100", 1.6)])
def test_numbers_have_their_height_and_stay_inside_the_ring(number, width):
    y, x = grid(200, 1)
    ink = number_ink(number, y, x, 80.0, 0.16)
    rows, columns = (np.flatnonzero(ink.max(axis) > 0.5) for axis in (1, 0))
    height = 80 if len(number) == 2 else 64
    assert abs(len(rows) - height) <= 3
    assert len(columns) < width * 80
    assert np.hypot(y, x)[ink > 0.5].max() < 0.74 * 100  # 0.8 radii of 100 pixels.


def test_a_zero_is_an_upright_ring():
    y, x = grid(120, 1)
    ink = number_ink("0", y, x, 80.0, 0.16)
    np.testing.assert_allclose(ink, ink[::-1], atol=1e-5)
    np.testing.assert_allclose(ink, ink[:, ::-1], atol=1e-5)
    assert ink[60, 60] == 0 and ink[22:25, 60].min() > 0.9
    assert np.flatnonzero(ink.max(1) > 0.5).size > 1.3 * np.flatnonzero(ink.max(0) > 0.5).size


def face_of(painter, **changes):
    image = painter.paint([SIGN | changes], LOOK)[70:110, 180:220].astype(float)
    return image


def test_what_is_occluded_is_hidden_in_part(painter):
    clear = face_of(painter)
    y, x = grid(40, 20)
    inside = np.hypot(y, x) < 0.95
    for towards in np.linspace(0, 6, 7):
        for much in (0.4, 0.6):
            for shape in (1, 3):
                hidden = face_of(painter, visibility="OCCLUDED", hidden=(towards, much, shape))
                share = (np.abs(hidden - clear).max(-1) > 20)[inside].mean()
                assert 0.15 < share < 0.9, (towards, much, shape)


def test_what_is_blurred_has_no_number(painter):
    clear, blurred = face_of(painter), face_of(painter, visibility="BLURRED")

    def detail(image):
        inner = image[14:26, 12:28].mean(-1)
        return np.abs(np.diff(inner, axis=1)).mean()

    assert detail(blurred) < 0.3 * detail(clear)
    other = face_of(painter, visibility="BLURRED", name="50_SIGN")
    assert (
        np.abs(other - blurred).max() < 0.4 * np.abs(face_of(painter, name="50_SIGN") - clear).max()
    )


def test_side_roads_show_signs_aslant(painter):
    image = painter.paint([SIGN | {"visibility": "SIDE_ROAD", "squeeze": 0.35}], LOOK)
    plain = painter.paint([SIGN | {"y": 90.0, "diameter": 0.5}], LOOK)
    changed = np.abs(image.astype(int) - plain).max(-1)[70:108] > 20
    columns = np.flatnonzero(changed.any(0))
    assert abs(len(columns) - 0.35 * 40) <= 3


def test_noise_never_passes_black_or_white():
    def draw(*brightness):
        config = dataclasses.replace(TINY, noise=20.0, brightness=brightness)
        return TrafficScenes(config, "train", 0).draw(1)[0]

    # A value that passed the end would come back at the other one.
    assert draw(1.9, 2.0)[:20].min() > 60  # Of the sky.
    assert draw(0.01, 0.02).max() < 180


def test_noise_has_the_deviation_that_was_asked_for():
    quiet, loud = (
        TrafficScenes(dataclasses.replace(TINY, noise=noise), "train", 0).draw(0)[0].astype(float)
        for noise in (0.0, 6.0)
    )
    middle = (quiet > 40) & (quiet < 215)
    assert abs((loud - quiet)[middle].std() - 6.0) < 0.3


def test_numbers_can_be_read_but_hardly_after_downscaling():
    """Nearest mean face of each limit, at the very place that the annotation gives."""
    shares, rest = (0, 0.34, 0.33, 0.33), {"decoy_share": 0, "unclear_share": 0, "twin_share": 0}
    config = dataclasses.replace(TINY, class_shares=shares, num_others=(0, 0), **rest)
    scenes = TrafficScenes(config, "test", 3)
    images, signs = zip(*(scenes.draw(index) for index in range(300)), strict=True)
    labels = np.array([traffic_sign_label(one) - 1 for one in signs])
    boxes = np.float32([one[0].box for one in signs])
    grey = np.stack(images).astype(np.float32).mean(-1, keepdims=True)
    accuracy = []
    for scale in (1, 3):
        view = grey.reshape(300, 216 // scale, scale, 288 // scale, scale, 1).mean((2, 4))
        last = np.float32([216, 288, 216, 288]) / scale - 1  # Boxes of crops end at pixel centres.
        faces = tf.image.crop_and_resize(
            view, (boxes / scale - 0.5) / last, np.arange(300), (24, 24)
        ).numpy()[:, 4:20, 3:21]
        faces = faces.reshape(300, -1)
        faces -= faces.mean(1, keepdims=True)
        faces /= np.linalg.norm(faces, axis=1, keepdims=True)
        means = np.stack([faces[:150][labels[:150] == label].mean(0) for label in range(3)])
        means -= means.mean(0)
        read = np.argmax(faces[150:] @ means.T - (means**2).sum(1) / 2, axis=1)
        accuracy.append(np.mean(read == labels[150:]))
    assert accuracy[0] > 0.95
    assert accuracy[1] < 0.8 and accuracy[0] - accuracy[1] > 0.15, accuracy
