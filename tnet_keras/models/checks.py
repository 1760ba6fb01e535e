"""Checks of what models are built with and called on: one clear line before any work is done."""

import numpy as np
import tensorflow as tf


def check_images(images, channels=3):
    """Checks a batch of images before any work is done.

    Rank, channels and dtype are checked always; the range of values and NaN only where values are
    there to look at (eager, not uint8).

    Args:
        images: `[B, H, W, C]`, uint8 or float in 0–255.
        channels: Number of channels C that is wanted.

    Returns:
        The images as a tensor.

    Raises:
        ValueError: If rank, channels, dtype, range or a NaN makes the batch unusable.
    """
    if isinstance(images, np.ndarray) and images.dtype == np.float64:
        images = images.astype(np.float32)
    images = tf.convert_to_tensor(images)
    if images.shape.rank != 4 or images.shape[-1] != channels:
        raise ValueError(
            f"`images` must be [B, H, W, {channels}]. Received: images.shape={images.shape}"
        )
    if images.shape[1] is None or images.shape[2] is None:
        raise ValueError(
            "`images` must have a static height and width. Keras gives them up when `predict` (or "
            "`fit`, `evaluate`) meets a second size: call `make_predict_function(force=True)` (or "
            f"`compile`) before it. Received: images.shape={images.shape}"
        )
    if not (images.dtype.is_floating or images.dtype.is_integer):
        raise ValueError(f"`images` must be uint8 or float. Received: dtype={images.dtype.name}")
    known = tf.executing_eagerly() and isinstance(images, tf.Tensor)
    if known and images.dtype != tf.uint8 and tf.size(images) > 0:
        values = tf.cast(images, tf.float32)
        if bool(tf.reduce_any(~tf.math.is_finite(values))):
            raise ValueError("`images` must be finite. Received: NaN or infinite values")
        low, high = float(tf.reduce_min(values)), float(tf.reduce_max(values))
        # Interpolation in a user's own pipeline may overshoot by rounding.
        if low < -0.5 or high > 255.5:
            raise ValueError(
                f"`images` must be in the range 0-255. Received: min={low:g}, max={high:g}"
            )
    return images


def check_position_channels(backbone, position_channels):
    """Checks that a backbone takes the channels it will be given.

    Args:
        backbone: A `Backbone`.
        position_channels: Whether two channels of positions follow the three colours.

    Raises:
        ValueError: If it takes another number of channels.
    """
    channels = 5 if position_channels else 3
    if backbone.image_shape[-1] != channels:
        raise ValueError(
            f"`backbone` must take {channels} channels with "
            f"position_channels={position_channels}. "
            f"Received: backbone.image_shape={backbone.image_shape}"
        )


def check_targets(labels, sample_weight, num_classes, batch=None):
    """Checks the labels of a batch, and the weights of its images.

    The values of labels are looked at only where they are there to look at (eager).

    Args:
        labels: `[B]` or `[B, 1]`, whole numbers in 0..C-1.
        sample_weight: `[B]` or `[B, 1]`, or None.
        num_classes: Number of classes C.
        batch: B, or None where it is not known.

    Returns:
        `(labels, sample_weight)`: int32 `[B]`; float32 `[B]` or None.

    Raises:
        ValueError: If one has another shape, or a label is no class.
    """

    def vector(name, value):
        value = tf.convert_to_tensor(value)
        if value.shape.rank == 2 and value.shape[-1] == 1:
            value = value[:, 0]
        if value.shape.rank != 1 or (batch and value.shape[0] not in (None, batch)):
            raise ValueError(
                f"`{name}` must be [B]{f' with B={batch}' if batch else ''}. "
                f"Received: {name}.shape={value.shape}"
            )
        return value

    labels = vector("labels", labels)
    if tf.executing_eagerly() and tf.size(labels) > 0:
        values = labels.numpy()
        low, high = values.min(), values.max()
        if low < 0 or high >= num_classes or not np.array_equal(values, np.floor(values)):
            raise ValueError(
                f"`labels` must be whole numbers in 0..{num_classes - 1}. "
                f"Received: dtype={values.dtype}, min={low}, max={high}"
            )
    if sample_weight is not None:
        sample_weight = tf.cast(vector("sample_weight", sample_weight), tf.float32)
    return tf.cast(labels, tf.int32), sample_weight


def check_locations(locations, levels, grid):
    """Checks the number of cells per level.

    Args:
        locations: Iterable of integers, one per level that chooses; `()` = context only.
        levels: Number of levels L of the model.
        grid: The `RegionGrid`.

    Returns:
        Tuple of integers without trailing zeros.

    Raises:
        ValueError: If there are more entries than L - 1, or one is not in 0..K, or a positive one
            follows a zero.
    """
    try:
        checked = tuple(locations)
    except TypeError:
        checked = None
    if checked is None or not all(
        isinstance(k, (int, np.integer)) and not isinstance(k, bool) for k in checked
    ):
        raise ValueError(
            "`locations` must be a tuple of integers, cells per level. "
            f"Received: locations={locations!r}"
        )
    if len(checked) > levels - 1:
        raise ValueError(
            f"`locations` must have at most {levels - 1} entries for {levels} levels. "
            f"Received: locations={checked}"
        )
    if any(not 0 <= k <= grid.num_cells for k in checked):
        raise ValueError(
            f"`locations` must lie in 0..K with K={grid.num_cells} cells. "
            f"Received: locations={checked}"
        )
    while checked and checked[-1] == 0:
        checked = checked[:-1]
    if 0 in checked:
        raise ValueError(
            "`locations` must not go on after a level without locations. "
            f"Received: locations={checked}"
        )
    return tuple(int(k) for k in checked)


def check_levels(levels, locations):
    """Checks the number of levels.

    Args:
        levels: An integer of at least 1, or None for one more than there are `locations`.
        locations: Cells per level.

    Returns:
        Integer.

    Raises:
        ValueError: If it is no such integer.
    """
    if levels is None:
        return len(locations) + 1 if hasattr(locations, "__len__") else 1
    if isinstance(levels, bool) or not isinstance(levels, (int, np.integer)) or levels < 1:
        raise ValueError(f"`levels` must be an integer of at least 1. Received: levels={levels!r}")
    return int(levels)


def check_image_size(image_size):
    """Checks the size of the images.

    Args:
        image_size: `(height, width)`, pixels.

    Returns:
        Tuple of two integers.

    Raises:
        ValueError: If it is anything else.
    """
    try:
        height, width = (int(size) for size in image_size)
    except (TypeError, ValueError):
        raise ValueError(
            f"`image_size` must be (height, width) in pixels. Received: image_size={image_size!r}"
        ) from None
    return height, width


def check_map_indices(map_indices, grid, map_shape):
    """Checks which positions of the backbone's map serve as the cells of a grid.

    Args:
        map_indices: Indices, one per row or column, or None.
        grid: The `RegionGrid`.
        map_shape: `(m, m', c)`, shape of the map.

    Returns:
        Tuple of integers, or None.

    Raises:
        ValueError: If the grid is not square, or there are more or fewer indices than its rows, or
            one is outside the map.
    """
    if map_indices is None:
        return None
    checked = tuple(int(index) for index in map_indices)
    smallest = min(map_shape[:2])
    if not len(checked) == grid.rows == grid.cols or not all(0 <= i < smallest for i in checked):
        raise ValueError(
            "`map_indices` must hold one index per row and column of a square grid, each in "
            f"0..{smallest - 1}. Received: map_indices={map_indices!r} for a "
            f"{grid.rows}x{grid.cols} grid"
        )
    return checked


def forced_candidates(cells):
    """Reads candidates that are to be taken instead of a model's choice of patches.

    Args:
        cells: A list with one int `[B, 1, K]`, or an empty one for no patches.

    Returns:
        `(selected, locations)`: int32 `[B, K]` and `(K,)`, or None and `()` for no patches.

    Raises:
        ValueError: If it is anything else.
    """
    levels = [tf.convert_to_tensor(level) for level in cells]
    fit = (x.shape.rank == 3 and x.shape[1] == 1 and x.dtype.is_integer for x in levels)
    if len(levels) > 1 or not all(fit):
        raise ValueError(
            "`cells` must be a list with one int [B, 1, K]. "
            f"Received: cells={[f'{level.dtype.name} {level.shape}' for level in levels]}"
        )
    if not levels:
        return None, ()
    return tf.cast(levels[0][:, 0], tf.int32), (levels[0].shape[-1],)


def check_cells(cells, locations, levels, grid, batch):
    """Checks cells that are to be taken instead of the policy's own.

    Their values are looked at only where they are there to look at (eager).

    Args:
        cells: One int `[B, grids, k]` per level that chooses, cell indices in 0..K-1.
        locations: Cells per level, or None for those that `cells` holds.
        levels: Number of levels L of the model.
        grid: The `RegionGrid`.
        batch: B, or None where it is not known.

    Returns:
        `(cells, locations)`: list of int32 `[B, grids, k]`; tuple of integers.

    Raises:
        ValueError: If a shape does not fit the locations, or a value is no cell.
    """
    cells = [tf.convert_to_tensor(level) for level in cells]
    shapes = [tuple(level.shape) for level in cells]
    if locations is None:
        locations = tuple(shape[-1] if shape else 0 for shape in shapes)
    locations = check_locations(locations, levels, grid)
    grids = np.cumprod([1, *locations])[:-1].tolist()
    wanted = [(batch, *rest) for rest in zip(grids, locations, strict=True)]
    batches = {shape[:1] for shape in shapes} - {(None,), (batch,)}
    if (
        [shape[1:] for shape in shapes] != [shape[1:] for shape in wanted]
        or (batch and batches)
        or not all(level.dtype.is_integer for level in cells)
    ):
        raise ValueError(
            f"`cells` must be integers [B, grids, k], one tensor per level: {wanted} for "
            f"locations={locations}. "
            f"Received: cells={[f'{level.dtype.name} {level.shape}' for level in cells]}"
        )
    for level in cells if tf.executing_eagerly() else []:
        low, high = int(tf.reduce_min(level)), int(tf.reduce_max(level))
        if low < 0 or high >= grid.num_cells:
            raise ValueError(
                f"`cells` must lie in 0..{grid.num_cells - 1}. Received: min={low}, max={high}"
            )
    return [tf.cast(level, tf.int32) for level in cells], locations
