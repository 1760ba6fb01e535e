"""Where regions lie: grids of candidate cells, boxes in image pixels, and what they cover.

Everything here is plain Python and NumPy on static sizes. It is evaluated once, before any graph is
built, so cell sizes and start pixels are constants of the compiled model.
"""

import dataclasses
import math

import numpy as np

# One score of the conv scorer (four valid 3x3 convolutions, 8x8 pooling) sees 16 view pixels.
SCORER_STRIDE, SCORER_FIELD = 8, 16


def total_locations(locations):
    """Number of regions looked at in an image.

    Args:
        locations: Tuple of locations per grid and level; `(2, 1)` means two, then one in each.

    Returns:
        Integer; 4 for `(2, 1)`.
    """
    grids, total = 1, 0
    for count in locations:
        grids *= count
        total += grids
    return total


@dataclasses.dataclass(frozen=True)
class Axis:
    """One axis of a region grid laid over `size` pixels.

    Attributes:
        size: Length of the parent along this axis, pixels.
        cell: Side of a cell, pixels.
        stride: Distance between the starts of neighbouring cells, pixels.
        pad_before: Zero pixels in front of the parent that the first cell reaches into. Negative
            when a single cell is centred inside the parent.
        pad_after: The same behind the parent.
        starts: First pixel of every cell in unpadded coordinates; negative inside the padding.
    """

    size: int
    cell: int
    stride: int
    pad_before: int
    pad_after: int
    starts: tuple


def lay_axis(size, cells, fraction):
    """Lays `cells` cells of side `fraction · size` along one axis, as TNet does.

    With round-half-to-even and n cells:

        cell   = round(size · fraction)
        stride = ceil((size - cell) / (n - 1))
        pad    = (n - 1) · stride + cell - size,   before = ceil(pad / 2)
        start_i = i · stride - before

    The cells are overlapping when `fraction > 1 / n`. One cell (n = 1) is centred.
    (TNet, NeurIPS 2021, as its released code computes it.)

    Args:
        size: Length of the parent, pixels, at least 1.
        cells: Number of cells n, at least 1.
        fraction: Cell side as a fraction of the parent, in (0, 1].

    Returns:
        An `Axis`.

    Raises:
        ValueError: If the parent is so small that a cell would have no pixel.
    """
    # Python's round is round-half-to-even, and the product is a float64: both as the original.
    cell = round(size * fraction)
    if cell < 1:
        raise ValueError(
            "The image is smaller than the grid allows: a cell of "
            f"{fraction} of its side has no pixel. Received: size={size}, cells={cells}"
        )
    stride = math.ceil((size - cell) / (cells - 1)) if cells > 1 else 0
    pad = (cells - 1) * stride + cell - size
    before = math.ceil(pad / 2)
    starts = tuple(i * stride - before for i in range(cells))
    return Axis(size, cell, stride, before, pad - before, starts)


@dataclasses.dataclass(frozen=True)
class RegionGrid:
    """A grid of overlapping candidate regions, relative to whatever parent it is laid over.

    Cells are numbered row-major from the top left. Height and width are handled apart with the
    same fraction, so a parent that is not square has cells that are not square.

    Args:
        rows: Number of cell rows, at least 1.
        cols: Number of cell columns, at least 1.
        cell: Side of a cell as a fraction of the parent's side, in (0, 1].

    Raises:
        ValueError: If an argument is outside its range.

    Example:

    ```python
    grid = RegionGrid(rows=5, cols=5, cell=0.34375)
    grid.cell_size(224, 224)      # (77, 77)
    grid.starts(224, 224)[0]      # (-1, 36, 73, 110, 147)
    ```
    """

    rows: int
    cols: int
    cell: float

    def __post_init__(self):
        for name in ("rows", "cols"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise ValueError(
                    f"`{name}` must be an integer of at least 1. Received: {name}={value!r}"
                )
        number = isinstance(self.cell, (int, float, np.number))
        if not number or not 0.0 < self.cell <= 1.0:
            raise ValueError(
                "`cell` must be a fraction of the parent's side in (0, 1]. "
                f"Received: cell={self.cell!r}"
            )

    @property
    def num_cells(self):
        """Number of candidate regions K = rows · cols."""
        return self.rows * self.cols

    def axes(self, height, width):
        """Lays both axes over a parent.

        Args:
            height: Parent height, pixels.
            width: Parent width, pixels.

        Returns:
            `(y, x)`, two `Axis`.

        Raises:
            ValueError: If the parent is smaller than the grid allows.
        """
        return lay_axis(height, self.rows, self.cell), lay_axis(width, self.cols, self.cell)

    def cell_size(self, height, width):
        """Size of one cell of a `height` × `width` parent.

        Args:
            height: Parent height, pixels.
            width: Parent width, pixels.

        Returns:
            `(height, width)` of a cell, integers, pixels.
        """
        y, x = self.axes(height, width)
        return y.cell, x.cell

    def starts(self, height, width):
        """Start pixels of the cell rows and columns.

        Args:
            height: Parent height, pixels.
            width: Parent width, pixels.

        Returns:
            `(row_starts, column_starts)`: tuples of integers, pixels of the unpadded parent.
        """
        y, x = self.axes(height, width)
        return y.starts, x.starts

    def boxes(self, height, width):
        """Boxes of all cells in pixels of the parent.

        Args:
            height: Parent height, pixels.
            width: Parent width, pixels.

        Returns:
            float32 array `[K, 4]` of half-open `(y0, x0, y1, x1)`, row-major. A box may leave the
            parent by the grid's zero padding.
        """
        y, x = self.axes(height, width)
        y0, x0 = np.meshgrid(y.starts, x.starts, indexing="ij")
        return (
            np.stack([y0, x0, y0 + y.cell, x0 + x.cell], axis=-1)
            .reshape(self.num_cells, 4)
            .astype(np.float32)
        )

    def nearest_indices(self, height, width, map_height, map_width):
        """Positions of a feature map that are nearest to the centres of the cells.

        The map is taken to cover the whole parent, its position p centred at (p + ½) / map size.

        Args:
            height: Parent height, pixels.
            width: Parent width, pixels.
            map_height: Rows of the feature map.
            map_width: Columns of the feature map.

        Returns:
            `(rows, cols)`: tuples of integers, one per cell row and one per cell column. Positions
            repeat when the map is coarser than the grid.
        """
        result = []
        for axis, length in zip(self.axes(height, width), (map_height, map_width), strict=True):
            centres = (np.asarray(axis.starts) + axis.cell / 2) / axis.size
            nearest = np.rint(centres * length - 0.5).astype(int)
            result.append(tuple(np.clip(nearest, 0, length - 1).tolist()))
        return tuple(result)

    def level_sizes(self, height, width, levels):
        """Sizes of the crops of each level, in pixels of the input image.

        Args:
            height: Image height, pixels.
            width: Image width, pixels.
            levels: Number of levels, at least 1; level 1 is the whole image.

        Returns:
            List of `levels` tuples `(height, width)`, integers.
        """
        sizes = [(int(height), int(width))]
        for _ in range(levels - 1):
            sizes.append(self.cell_size(*sizes[-1]))
        return sizes


def coverage(boxes, levels, height, width):
    """Which share of the image was looked at, at each resolution.

    The share is that of the union of the boxes: pixels that several boxes share count once, and
    what lies outside the image does not count.

    Args:
        boxes: `[T, 4]` half-open `(y0, x0, y1, x1)` in pixels of the image.
        levels: `[T]` integer level of each box; the level decides the resolution it was seen at.
        height: Image height, pixels.
        width: Image width, pixels.

    Returns:
        dict from level (int) to the covered fraction of the image, in [0, 1]. Level 1, the whole
        downscaled image, is always there with 1.0.

    Raises:
        ValueError: If the shapes do not fit.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4) if np.size(boxes) == 0 else np.asarray(
        boxes, np.float64
    )
    levels = np.asarray(levels, np.int64).reshape(-1)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or len(levels) != len(boxes):
        raise ValueError(
            "`boxes` must be [T, 4] and `levels` [T]. "
            f"Received: boxes.shape={boxes.shape}, levels.shape={levels.shape}"
        )
    result = {1: 1.0}
    for level in np.unique(levels).tolist():
        if level > 1:
            area = _union_area(boxes[levels == level], height, width)
            result[level] = area / float(height * width)
    return result


def _union_area(boxes, height, width):
    """Area of the union of boxes inside the image, by coordinate compression (exact)."""
    y = np.clip(boxes[:, [0, 2]], 0, height)
    x = np.clip(boxes[:, [1, 3]], 0, width)
    ys, xs = np.unique(y), np.unique(x)
    if len(ys) < 2 or len(xs) < 2:
        return 0.0
    inside = (
        (y[:, 0, None] <= ys[None, :-1]) & (ys[None, 1:] <= y[:, 1, None])
    )[:, :, None] & ((x[:, 0, None] <= xs[None, :-1]) & (xs[None, 1:] <= x[:, 1, None]))[:, None, :]
    cells = np.diff(ys)[:, None] * np.diff(xs)[None, :]
    return float((inside.any(axis=0) * cells).sum())


def score_map_boxes(image_size, view_size, map_size, patch_size, centres="receptive_field"):
    """Boxes of the patches that the positions of a scorer's map stand for.

    The scorer sees the image resized to the view; its map has one score per candidate. Two
    placements, for position r of an axis of H pixels, h view pixels and g positions:

    * `receptive_field`: the patch is centred on what the score saw,
      `(stride · r + field / 2) · H / h` with `stride` and `field` of the scorer (8 and 16: four
      valid 3x3 convolutions, then 8x8 pooling).
    * `as_released`: patch start `r · step - (patch - step) // 2` with `step = H // g`. Centres are
      off the evidence by up to 15 pixels in the published runs. (CVPR 2021, released code.)

    Args:
        image_size: `(H, W)` of the images, pixels.
        view_size: `(h, w)` of what the scorer sees, pixels.
        map_size: `(rows, cols)` of the scorer's map.
        patch_size: `(height, width)` of a patch, pixels of the image.
        centres: "receptive_field" or "as_released".

    Returns:
        float32 `[N, 4]`, row-major, whole numbers, half-open `(y0, x0, y1, x1)` in pixels of the
        image; a box may leave the image.

    Raises:
        ValueError: If a patch is larger than the image, or `centres` is unknown.
    """
    if centres not in ("receptive_field", "as_released"):
        raise ValueError(
            "`centres` must be 'receptive_field' or 'as_released'. "
            f"Received: centres={centres!r}"
        )
    starts = []
    for size, view, count, patch in zip(image_size, view_size, map_size, patch_size, strict=True):
        if not 1 <= patch <= size:
            raise ValueError(
                "`patch_size` must not be larger than the image, and at least 1. "
                f"Received: patch_size={tuple(patch_size)}, image_size={tuple(image_size)}"
            )
        positions = np.arange(count)
        if centres == "as_released":
            step = size // count
            starts.append(positions * step - (patch - step) // 2)
        else:
            middle = (SCORER_STRIDE * positions + SCORER_FIELD / 2) * size / view
            starts.append(np.rint(middle - patch / 2).astype(int))
    y0, x0 = (start.reshape(-1) for start in np.meshgrid(*starts, indexing="ij"))
    boxes = np.stack([y0, x0, y0 + patch_size[0], x0 + patch_size[1]], axis=-1)
    return boxes.astype(np.float32)


def score_map_size(view_size):
    """Size of the map of a scorer with four valid 3x3 convolutions and 8x8 pooling.

    Args:
        view_size: `(height, width)` of what the scorer sees, pixels.

    Returns:
        `(rows, cols)`, integers, at least 1.

    Raises:
        ValueError: If the view is smaller than the receptive field of one score.
    """
    if min(view_size) < SCORER_FIELD:
        raise ValueError(
            f"The scorer must see at least its receptive field of {SCORER_FIELD} pixels. "
            f"Received: view_size={tuple(view_size)}"
        )
    return tuple((int(size) - SCORER_FIELD) // SCORER_STRIDE + 1 for size in view_size)


@dataclasses.dataclass(frozen=True)
class AnchorLevel:
    """Anchors of one level of a pyramid: every scale and aspect ratio at every position.

    Args:
        positions: Rows and columns of the level's square map.
        stride: Pixels of the image between neighbouring positions.
        base: Side of an anchor of scale 1, pixels.
        scales: Factors on the side.
        aspect_ratios: Width over height.
    """

    positions: int
    stride: int
    base: float
    scales: tuple
    aspect_ratios: tuple = (0.667, 1.0, 1.5)

    def anchor_boxes(self):
        """Boxes of all anchors, by type: scale by scale, in each the aspect ratios.

        An anchor of height `int(base · scale / sqrt(ratio))` and width `int(base · scale ·
        sqrt(ratio))` starts at `i · stride - ceil((height - stride) / 2)`.

        Returns:
            List of float32 `[positions², 4]`, whole numbers, row-major, pixels of the image.
        """
        result = []
        for scale in self.scales:
            for ratio in self.aspect_ratios:
                side = self.base * scale
                height, width = int(side / math.sqrt(ratio)), int(side * math.sqrt(ratio))
                steps = np.arange(self.positions) * self.stride
                y0, x0 = np.meshgrid(
                    steps - math.ceil((height - self.stride) / 2),
                    steps - math.ceil((width - self.stride) / 2),
                    indexing="ij",
                )
                boxes = np.stack([y0, x0, y0 + height, x0 + width], axis=-1)
                result.append(boxes.reshape(-1, 4).astype(np.float32))
        return result


# The 1,614 anchors of NTS-Net for 448 px images, over maps of 14, 7 and 4 positions.
NTS_ANCHORS = (
    AnchorLevel(14, 32, 48, (2 ** (1 / 3), 2 ** (2 / 3))),
    AnchorLevel(7, 64, 96, (2 ** (1 / 3), 2 ** (2 / 3))),
    AnchorLevel(4, 128, 192, (1.0, 2 ** (1 / 3), 2 ** (2 / 3))),
)
