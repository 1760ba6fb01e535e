"""Region grids against the original's recorded numbers and padded NumPy slices; coverage by pixels.

The sheet is what was read from the authors' code: TNet's grids, the score maps and anchors of
differentiable patch selection.
"""

import json
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tnet_keras.geometry import (
    NTS_ANCHORS,
    RegionGrid,
    coverage,
    lay_axis,
    score_map_boxes,
    score_map_size,
)

# size, cells, fraction: cell, stride, pad before, pad after, starts.
SHEET = {
    (224, 5, 0.34375): (77, 37, 1, 0, (-1, 36, 73, 110, 147)),
    (448, 3, 0.5): (224, 112, 0, 0, (0, 112, 224)),
    (896, 3, 0.5): (448, 224, 0, 0, (0, 224, 448)),
    (448, 5, 0.35): (157, 73, 1, 0, (-1, 72, 145, 218, 291)),
    # Half to even, products of floating point such as 90 · 0.35 = 31.499…, other numbers of cells.
    (90, 5, 0.35): (31, 15, 1, 0, (-1, 14, 29, 44, 59)),
    (50, 5, 0.35): (18, 8, 0, 0, (0, 8, 16, 24, 32)),
    (70, 5, 0.35): (24, 12, 1, 1, (-1, 11, 23, 35, 47)),
    (10, 5, 0.35): (4, 2, 1, 1, (-1, 1, 3, 5, 7)),
    (101, 3, 0.5): (50, 26, 1, 0, (-1, 25, 51)),
    (103, 3, 0.5): (52, 26, 1, 0, (-1, 25, 51)),
    (450, 4, 0.4): (180, 90, 0, 0, (0, 90, 180, 270)),
    (447, 2, 0.6): (268, 179, 0, 0, (0, 179)),
    # Cells that leave gaps.
    (100, 3, 0.25): (25, 38, 1, 0, (-1, 37, 75)),
    # One cell is centred.
    (10, 1, 0.5): (5, 0, -2, -3, (2,)),
    (10, 1, 1.0): (10, 0, 0, 0, (0,)),
}

sizes = st.integers(8, 70)
grids = st.builds(
    RegionGrid, st.integers(1, 5), st.integers(1, 5), st.floats(0.13, 1.0, allow_nan=False)
)


@pytest.mark.parametrize("laid", SHEET, ids=str)
def test_an_axis_is_laid_as_on_the_sheet(laid):
    cell, stride, before, after, starts = SHEET[laid]
    axis = lay_axis(*laid)
    assert (axis.cell, axis.stride, axis.pad_before, axis.pad_after) == (
        cell, stride, before, after
    )  # fmt: skip
    assert axis.starts == starts
    assert axis.size == laid[0]


@pytest.mark.parametrize("table", ["grids", "grids_extra"])
def test_grids_are_those_recorded_from_the_original(golden, table):
    records = json.loads((golden / "geometry.json").read_text())[table]
    for record in records:
        grid = RegionGrid(record["n"], record["n"], record["overlap"])
        for axis, name in zip(grid.axes(*record["image"]), ("axis_y", "axis_x"), strict=True):
            assert record[name] == {
                "size": axis.size,
                "patch": axis.cell,
                "stride": axis.stride,
                "starts": list(axis.starts),
                "pad_before": axis.pad_before,
                "pad_after": axis.pad_after,
            }
    assert len(records) > 10


def test_cells_are_numbered_as_recorded_from_the_original(golden):
    """Children's lattice coordinates tell the row and column of a chosen cell: (n·y+r, n·x+c)."""
    for record in json.loads((golden / "geometry.json").read_text())["child_coordinates"]:
        n = record["n"]
        grid = RegionGrid(n, n, 1 / n)
        boxes = grid.boxes(60, 120).reshape(-1, 4)
        for chosen, (y, x, _) in zip(record["chosen"], record["children_yxs"], strict=True):
            parent_y, parent_x = record["parents_yx"][chosen["parent"]]
            row, col = y - n * parent_y, x - n * parent_x
            corner = boxes[chosen["cell"], :2].tolist()
            assert corner == [row * 60 / n, col * 120 / n]


@given(grid=grids, height=sizes, width=sizes)
def test_boxes_lie_where_windows_slide_over_the_padded_image(grid, height, width):
    axes = grid.axes(height, width)
    # Cells as large as the image lie on one another: there is nothing to slide.
    assume(all(axis.stride or len(axis.starts) == 1 for axis in axes))
    # Every pixel holds its own coordinates; the padding holds -1.
    image = np.stack(np.mgrid[:height, :width], axis=-1)
    crop = [slice(max(-axis.pad_before, 0), axis.size - max(-axis.pad_after, 0)) for axis in axes]
    pads = [(max(axis.pad_before, 0), max(axis.pad_after, 0)) for axis in axes]
    padded = np.pad(image[tuple(crop)], [*pads, (0, 0)], constant_values=-1)
    windows = np.lib.stride_tricks.sliding_window_view(
        padded, grid.cell_size(height, width), axis=(0, 1)
    )[:: max(axes[0].stride, 1), :: max(axes[1].stride, 1)]
    assert windows.shape[:2] == (grid.rows, grid.cols)
    boxes = grid.boxes(height, width)
    assert boxes.dtype == np.float32 and boxes.shape == (grid.num_cells, 4)
    windows = windows.reshape(grid.num_cells, 2, *windows.shape[3:])
    for window, (y0, x0, y1, x1) in zip(windows, boxes.astype(int), strict=True):
        y, x = np.mgrid[y0:y1, x0:x1]
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        np.testing.assert_array_equal(window, np.where(inside, [y, x], -1))


@given(grid=grids, height=sizes, width=sizes)
def test_padding_is_even_and_one_more_in_front(grid, height, width):
    for axis, cells in zip(grid.axes(height, width), (grid.rows, grid.cols), strict=True):
        assert axis.pad_before - axis.pad_after in (0, 1)
        # The shortest stride that reaches the end: less padding than one stride per gap.
        assert axis.pad_before + axis.pad_after < max(cells - 1, 1) or cells == 1
        assert axis.starts[-1] + axis.cell == axis.size + axis.pad_after
        assert abs(axis.cell - axis.size * grid.cell) <= 0.5


@given(grid=grids, height=sizes, width=sizes)
def test_cells_cover_the_image_unless_they_are_too_small(grid, height, width):
    cell_height, cell_width = grid.cell_size(height, width)
    boxes = grid.boxes(height, width)
    share = coverage(boxes, np.full(grid.num_cells, 2), height, width)[2]
    reaches = grid.rows * cell_height >= height and grid.cols * cell_width >= width
    assert (share == 1.0) == reaches


@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    corners=st.lists(st.tuples(*[st.integers(-3, 12)] * 4, st.integers(1, 3)), max_size=6),
)
def test_coverage_is_the_union_of_pixels(height, width, corners):
    masks = {}
    for *box, level in corners:
        y0, x0, y1, x1 = box
        mask = masks.setdefault(level, np.zeros((height, width), bool))
        mask[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = True
    boxes, levels = [corner[:4] for corner in corners], [corner[4] for corner in corners]
    expected = {1: 1.0} | {level: mask.mean() for level, mask in masks.items() if level > 1}
    assert coverage(boxes, levels, height, width) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("boxes", "share"),
    [
        ([[0, 0, 2.5, 4]], 2.5 * 4 / 40),
        ([[0, 0, 2.5, 4], [0.5, 1, 1.5, 3]], 2.5 * 4 / 40),
        ([[-10, -10, 0.25, 100]], 0.25 * 8 / 40),
        ([[5, 8, 9, 9]], 0.0),
        ([[1, 1, 1, 5]], 0.0),
    ],
)
def test_coverage_of_boxes_between_pixels(boxes, share):
    got = coverage(boxes, [2] * len(boxes), 5, 8)
    assert got == pytest.approx({1: 1.0, 2: share})


@pytest.mark.parametrize("boxes", [[], np.zeros((0, 4))])
def test_nothing_attended_leaves_level_one(boxes):
    assert coverage(boxes, [], 5, 8) == {1: 1.0}


@pytest.mark.parametrize(
    ("grid", "image", "levels", "expected"),
    [
        (RegionGrid(3, 3, 0.5), (896, 896), 3, [(896, 896), (448, 448), (224, 224)]),
        (RegionGrid(5, 5, 0.34375), (224, 224), 3, [(224, 224), (77, 77), (26, 26)]),
        (RegionGrid(5, 5, 0.35), (448, 448), 3, [(448, 448), (157, 157), (55, 55)]),
        (RegionGrid(3, 3, 0.5), (101, 103), 2, [(101, 103), (50, 52)]),
        (RegionGrid(2, 4, 0.5), (np.int64(40), 60), 1, [(40, 60)]),
    ],
)
def test_sizes_of_the_levels(grid, image, levels, expected):
    sizes_of_levels = grid.level_sizes(*image, levels)
    assert sizes_of_levels == expected
    assert all(type(side) is int for size in sizes_of_levels for side in size)


def test_a_level_without_pixels_is_named():
    with pytest.raises(ValueError, match="smaller than the grid allows.* Received: size=2"):
        RegionGrid(2, 2, 0.25).level_sizes(8, 8, 3)


@pytest.mark.parametrize(
    ("grid", "image", "feature_map", "expected"),
    [
        # Centres ¼, ½, ¾ of a map of 14: 3, 6½ (either neighbour is as near), 10.
        (RegionGrid(3, 3, 0.5), (448, 448), (14, 14), ((3, 6, 10), (3, 6, 10))),
        # Not square: every axis for itself.
        (RegionGrid(1, 2, 0.5), (60, 100), (5, 8), ((2,), (2, 6))),
        # The map is coarser than the grid.
        (RegionGrid(4, 4, 0.25), (64, 64), (2, 1), ((0, 0, 1, 1), (0, 0, 0, 0))),
        # Map and grid coincide.
        (RegionGrid(5, 5, 0.2), (100, 100), (5, 5), (tuple(range(5)), tuple(range(5)))),
    ],
)
def test_nearest_positions_of_a_map(grid, image, feature_map, expected):
    assert grid.nearest_indices(*image, *feature_map) == expected


@given(grid=grids, height=sizes, width=sizes, rows=st.integers(1, 30), cols=st.integers(1, 30))
def test_no_position_of_the_map_is_nearer(grid, height, width, rows, cols):
    boxes = grid.boxes(height, width).reshape(grid.rows, grid.cols, 4).astype(float)
    centres = ((boxes[:, 0, 0] + boxes[:, 0, 2]) / 2, (boxes[0, :, 1] + boxes[0, :, 3]) / 2)
    nearest = grid.nearest_indices(height, width, rows, cols)
    for indices, middle, side, length in zip(
        nearest, centres, (height, width), (rows, cols), strict=True
    ):
        positions = (np.arange(length) + 0.5) * side / length
        distances = np.abs(positions - middle[:, None])
        chosen = distances[np.arange(len(indices)), list(indices)]
        np.testing.assert_allclose(chosen, distances.min(axis=1), atol=1e-9)


@pytest.mark.parametrize("value", [0, -1, 2.0, "3", True, None], ids=repr)
@pytest.mark.parametrize("name", ["rows", "cols"])
def test_wrong_numbers_of_cells_are_named(name, value):
    message = rf"`{name}` must be an integer of at least 1\. Received: {name}={value!r}"
    with pytest.raises(ValueError, match=message):
        RegionGrid(**{"rows": 2, "cols": 2, "cell": 0.5, name: value})


@pytest.mark.parametrize("value", [0.0, -0.5, 1.01, float("nan"), float("inf"), "0.5", None])
def test_wrong_cell_fractions_are_named(value):
    with pytest.raises(ValueError, match=r"`cell` must be a fraction .*Received: cell="):
        RegionGrid(2, 2, value)


def test_numpy_integers_are_integers_and_grids_are_values():
    assert RegionGrid(np.int64(3), np.int32(2), 0.5).num_cells == 6
    assert RegionGrid(3, 2, 0.5) == RegionGrid(3, 2, 0.5)
    assert len({RegionGrid(3, 2, 0.5), RegionGrid(3, 2, 0.5), RegionGrid(2, 3, 0.5)}) == 2


def test_a_parent_smaller_than_the_grid_allows_is_named():
    with pytest.raises(ValueError, match=r"no pixel\. Received: size=1, cells=5"):
        lay_axis(1, 5, 0.35)
    for call in ("axes", "cell_size", "starts", "boxes"):
        with pytest.raises(ValueError, match="smaller than the grid allows"):
            getattr(RegionGrid(5, 5, 0.35), call)(100, 1)


@pytest.mark.parametrize(
    ("boxes", "levels"),
    [([[0, 0, 1, 1]], [2, 2]), ([[0, 0, 1, 1]], []), ([0, 0, 1, 1], [2]), ([[0, 0, 1]], [2])],
)
def test_boxes_and_levels_that_do_not_fit_are_named(boxes, levels):
    with pytest.raises(ValueError, match=r"`boxes` must be \[T, 4\].*Received: boxes\.shape="):
        coverage(boxes, levels, 5, 8)


# image, view, map, step, padding on top and left of the published patch-selection runs.
TRAFFIC = ((960, 1280), (320, 426), (39, 52), 24, 38)
BILLIARD = ((1000, 1000), (250, 250), (30, 30), 33, 33)


@pytest.mark.parametrize(
    ("run", "lag", "drift"), [(TRAFFIC, 12, 0), (BILLIARD, 15, 1)], ids=["traffic", "billiard"]
)
def test_patches_of_the_published_score_maps(run, lag, drift):
    image, view, score_map, step, pad = run
    assert score_map_size(view) == score_map
    released = score_map_boxes(image, view, score_map, (100, 100), centres="as_released")
    rows, cols = (index.reshape(-1) for index in np.indices(score_map))
    np.testing.assert_array_equal(released[:, 0], rows * step - pad)
    np.testing.assert_array_equal(released[:, 1], cols * step - pad)
    np.testing.assert_array_equal(released[:, 2:] - released[:, :2], 100)
    # Score r is of view rows 8r … 8r + 15.
    centred = score_map_boxes(image, view, score_map, (100, 100))
    for axis, index in enumerate((rows, cols)):
        evidence = (8 * index + 8) * image[axis] / view[axis]
        middle = (centred[:, axis] + centred[:, 2 + axis]) / 2
        np.testing.assert_allclose(middle, evidence, atol=0.5)
    # The released patches lag behind; billiard's steps of 33 catch up with the 32 of the evidence.
    np.testing.assert_array_equal((centred - released)[:, 0], lag - drift * rows)


def test_score_maps_of_every_size():
    # Four valid 3x3 convolutions take 8 pixels; windows of 8 fit so often into the rest.
    for side in range(16, 80):
        assert score_map_size((side, 16)) == (len(range(0, side - 8 - 7, 8)), 1)


def test_a_view_below_the_receptive_field_is_named():
    with pytest.raises(ValueError, match=r"field of 16 pixels\. Received: view_size=\(40, 15\)"):
        score_map_size((40, 15))


@pytest.mark.parametrize("patch", [(101, 10), (10, 101), (0, 10)])
def test_a_patch_that_does_not_fit_is_named(patch):
    with pytest.raises(ValueError, match="`patch_size` must not be larger .*Received: patch_size="):
        score_map_boxes((100, 100), (50, 50), (5, 5), patch)


def test_unknown_centres_are_named():
    with pytest.raises(ValueError, match="`centres` must be .*Received: centres='middle'"):
        score_map_boxes((100, 100), (50, 50), (5, 5), (10, 10), centres="middle")


# Height and width of the anchors at the aspect ratios 0.667, 1 and 1.5, scale by scale.
ANCHORS = (
    ((74, 49), (60, 60), (49, 74), (93, 62), (76, 76), (62, 93)),
    ((148, 98), (120, 120), (98, 148), (186, 124), (152, 152), (124, 186)),
    ((235, 156), (192, 192), (156, 235), (296, 197), (241, 241), (197, 296), (373, 248),
     (304, 304), (248, 373)),
)  # fmt: skip


def test_anchors_are_those_of_nts_net():
    number = 0
    for level, shapes in zip(NTS_ANCHORS, ANCHORS, strict=True):
        positions = (np.indices((level.positions,) * 2).reshape(2, -1).T + 0.5) * level.stride
        types = level.anchor_boxes()
        assert [tuple((boxes[0, 2:] - boxes[0, :2]).astype(int)) for boxes in types] == list(shapes)
        for boxes, shape in zip(types, shapes, strict=True):
            number += len(boxes)
            np.testing.assert_array_equal(boxes[:, 2:] - boxes[:, :2], [shape] * len(boxes))
            # Centred on the position, to the half pixel that whole numbers leave.
            assert np.abs((boxes[:, :2] + boxes[:, 2:]) / 2 - positions).max() <= 0.5
            # The original pads so much at the top and left.
            top, left = (math.ceil((side - level.stride) / 2) for side in shape)
            np.testing.assert_array_equal(boxes[0, :2], [-top, -left])
    assert number == 1614
