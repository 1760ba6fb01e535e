"""Pictures of attention: right size, something on them, and clear errors."""

import itertools

import numpy as np
import pytest
from matplotlib import image

from tnet_keras.geometry import RegionGrid
from tnet_keras.visualization import draw_attention

GRID = RegionGrid(5, 5, 0.34375)
NAMES = [f"class {index}" for index in range(10)]


def outputs(batch, locations=2, grid=GRID):
    generator = np.random.default_rng(0)
    cells = generator.dirichlet(np.ones(grid.num_cells), (batch, 1))
    chosen = np.sort(cells.argsort(axis=-1)[..., -locations:], axis=-1)
    return {
        "probabilities": generator.dirichlet(np.ones(10), batch),
        "boxes": grid.boxes(224, 224)[chosen[:, 0]],
        "levels": np.full((batch, locations), 2, np.int32),
        "location_probabilities": [cells],
        "box_probabilities": np.take_along_axis(cells, chosen, axis=-1)[:, 0],
    }


def images(batch, height=224, width=224):
    return np.random.default_rng(1).integers(0, 256, (batch, height, width, 3), np.uint8)


def drawn(path, batch, values, **options):
    draw_attention(images(batch), values, np.arange(batch) % 10, NAMES, path, **options)
    return image.imread(path)


def test_rows_and_columns_decide_the_size(tmp_path):
    options = {"base_resolution": (77, 77), "true_boxes": np.full((5, 4), 20.0)}
    one = drawn(tmp_path / "one.png", 2, outputs(2), columns=2)
    three = drawn(tmp_path / "three.png", 5, outputs(5), columns=2, **options)
    assert one.shape[1] == three.shape[1]
    assert three.shape[0] > 2.5 * one.shape[0]
    assert min(one.shape[:2]) > 400


def test_chosen_boxes_show_in_their_colour(tmp_path):
    picture = drawn(tmp_path / "a.png", 1, outputs(1), columns=1)[..., :3]
    orange = np.array([0xFF, 0xB0, 0x00]) / 255
    assert (np.abs(picture - orange).max(axis=-1) < 0.02).sum() > 500


def test_right_is_green_and_wrong_is_red(tmp_path):
    values = outputs(1)
    values["probabilities"] = np.eye(10)[[3]]
    counts = {}
    for label in (3, 4):
        draw_attention(images(1), values, [label], NAMES, tmp_path / "a.png", columns=1)
        picture = image.imread(tmp_path / "a.png")[..., :3]
        for name, colour in (("green", (0x1F, 0x9D, 0x55)), ("red", (0xD0, 0x31, 0x2D))):
            close = np.abs(picture - np.array(colour) / 255).max(axis=-1) < 0.02
            counts[label, name] = close.sum()
    assert counts[3, "green"] > 50 > counts[3, "red"]
    assert counts[4, "red"] > 50 > counts[4, "green"]


@pytest.mark.parametrize("label", [3, 4])
def test_names_that_are_long_or_that_the_font_lacks(label, tmp_path):
    values = outputs(1)
    values["probabilities"] = np.eye(10)[[3]]
    names = ["ぞう $x{", "a name that is much too long to be written out"] * 5
    draw_attention(images(1), values, [label], names, tmp_path / "a.png", columns=1)
    assert image.imread(tmp_path / "a.png").shape[0] > 200


def test_context_only_has_no_boxes_and_no_policy(tmp_path):
    values = outputs(1)
    values["boxes"] = np.zeros((1, 0, 4), np.float32)
    values["levels"] = np.zeros((1, 0), np.int32)
    values["box_probabilities"] = np.zeros((1, 0))
    values["location_probabilities"] = []
    assert drawn(tmp_path / "a.png", 1, values).shape[0] > 200


def test_grids_and_images_that_are_not_square(tmp_path):
    grid = RegionGrid(2, 4, 0.5)
    values = outputs(2, grid=grid)
    path = tmp_path / "a.png"
    draw_attention(images(2, 120, 240), values, [0, 1], NAMES, path, grid=grid)
    assert path.is_file()
    draw_attention(images(2, 120, 240), values, [0, 1], NAMES, path, grid=(2, 4))
    # Without a grid, eight candidates make no square: the map is left out.
    draw_attention(images(2, 120, 240), values, [0, 1], NAMES, tmp_path / "b.png")
    assert (tmp_path / "b.png").is_file()
    with pytest.raises(ValueError, match="`grid` must have .* 8. Received: 3 x 4 cells"):
        draw_attention(images(2, 120, 240), values, [0, 1], NAMES, path, grid=(3, 4))


def test_several_true_boxes_and_many_chosen_ones(tmp_path):
    values = outputs(1, locations=7)
    none = np.zeros((1, 2, 4), np.float32)
    one, two = none.copy(), none.copy()
    one[0, 0] = two[0, 0] = (20, 30, 60, 80)
    two[0, 1] = (100, 110, 150, 170)
    pictures = [
        drawn(tmp_path / f"{name}.png", 1, values, true_boxes=boxes)
        for name, boxes in (("none", none), ("one", one), ("two", two))
    ]
    for first, second in itertools.pairwise(pictures):
        assert (first != second).any()  # a box without an area is not drawn


def test_batches_that_do_not_fit_are_errors(tmp_path):
    with pytest.raises(ValueError, match="equally many.*2 images, 2 labels, 3 outputs"):
        drawn(tmp_path / "a.png", 2, outputs(3))
    with pytest.raises(ValueError, match="at least one.*0 images"):
        drawn(tmp_path / "a.png", 0, outputs(0))
    with pytest.raises(ValueError, match="`columns`.*Received: columns=0"):
        drawn(tmp_path / "a.png", 1, outputs(1), columns=0)
    assert not list(tmp_path.iterdir())
