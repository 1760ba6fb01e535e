"""TNet's way through the scales: view, score, select, cut, and again."""

import numpy as np
import tensorflow as tf

from tnet_keras.ops import (
    blend_windows,
    extract_patches,
    location_log_probs,
    policy_entropy,
    ranked_cells,
    resize_view,
    sample_without_replacement,
)
from tnet_keras.ops.patches import MID_GREY


def traverse(model, images, locations, training, selection, cells, num_samples):
    """Walks the levels of a TNet.

    Args:
        model: The `TNet`.
        images: `[B, H, W, 3]`, checked.
        locations: Cells per view at each level, checked.
        training: As in Keras.
        selection: "sample" or "top_k".
        cells: None, or the cells to take: a list of int32 `[B, grids, k]`.
        num_samples: M; the walk is made M times per image, R = B · M rows, image-major.

    Returns:
        dict: `features` `[R, 1+T, D]`, position-encoded; `boxes` float32 `[R, T, 4]`; `levels`,
        list of T integers; `level_of_box` int32 `[R, T]`; and lists with one entry per level that
        chooses: `location_logits` `[R, grids, K]`, `cells` int32 `[R, grids, k]` ascending,
        `entropies` `[R · grids]`; `log_probs` and `box_probabilities` `[R, T]`.
    """
    height, width = images.shape[1:3]
    sizes = model.grid.level_sizes(height, width, len(locations) + 1)
    batch = tf.shape(images)[0]
    rows = batch * num_samples

    features_map, vector = _extract(model, resize_view(images, model.base_resolution), 1, training)
    if num_samples > 1:  # the first look is the same for all samples of an image
        features_map = tf.repeat(features_map, num_samples, axis=0)
        vector = tf.repeat(vector, num_samples, axis=0)
    # Integers until the end: floats would be rounded in a quantised export.
    whole = tf.constant([[[0, 0, height, width]]], tf.int32)
    boxes = bounds = tf.tile(whole, [rows, 1, 1])
    positions = tf.zeros([rows, 1, 3], tf.float32)
    views, margin = 1, 0
    path = {"location_logits": [], "cells": [], "entropies": [], "levels": []}
    features = [_encode(model, vector, positions, views)]
    all_boxes, log_probs, probabilities = [], [], []

    for level, k in enumerate(locations, start=1):
        # The policy is trained by its own terms only: no class gradient enters here.
        logits = model.location_module(
            (tf.stop_gradient(features_map), tf.stop_gradient(vector))
        )
        logits = tf.cast(logits, tf.float32)
        forced = None if cells is None else cells[level - 1]
        chosen, chosen_log_probs, indicators = _choose(
            model, logits, k, selection, forced, training
        )

        axes = model.grid.axes(*sizes[level - 1])
        pads = [max(0, pad) for axis in axes for pad in (axis.pad_before, axis.pad_after)]
        margin += max(pads)
        # Only a padded grid below level 1 can see past its parent.
        parents, parent_bounds = boxes, bounds
        boxes = _children(model.grid, sizes[level - 1], parents, chosen, k)
        limits = _intersect(parents, parent_bounds)
        bounds = tf.repeat(limits, k, axis=1)
        views *= k
        if indicators is None:
            positions = _child_positions(model.grid, positions, chosen, level, k)
            patches = extract_patches(
                images,
                tf.reshape(boxes, [batch, num_samples * views, 4]),
                size=model.base_resolution,
                box_size=sizes[level],
                bounds=(
                    tf.reshape(bounds, [batch, num_samples * views, 4])
                    if level > 1 and max(pads)
                    else None
                ),
                margin=margin,
            )
            patches = tf.reshape(patches, [rows * views, *patches.shape[2:]])
        else:
            positions = _mean_positions(model.grid, indicators, level)
            windows = model.grid.boxes(height, width)
            blended = blend_windows(images, windows, indicators, MID_GREY)
            blended = tf.reshape(blended, [rows * views, *blended.shape[2:]])
            patches = resize_view(blended, model.base_resolution)
        features_map, vector = _extract(model, patches, level + 1, training)

        features.append(_encode(model, vector, positions, views))
        all_boxes.append(boxes)
        grids = views // k
        path["location_logits"].append(tf.reshape(logits, [rows, grids, model.grid.num_cells]))
        path["cells"].append(tf.reshape(chosen, [rows, grids, k]))
        path["entropies"].append(policy_entropy(logits))
        path["levels"] += [level + 1] * views
        log_probs.append(tf.reshape(chosen_log_probs, [rows, views]))
        chosen_probabilities = tf.gather(tf.nn.softmax(logits), chosen, batch_dims=1)
        probabilities.append(tf.reshape(chosen_probabilities, [rows, views]))

    def joined(parts, *tail):
        return tf.concat(parts, axis=1) if parts else tf.zeros([rows, 0, *tail], tf.float32)

    path["features"] = tf.concat(features, axis=1)
    path["boxes"] = tf.cast(joined(all_boxes, 4), tf.float32)
    path["log_probs"] = joined(log_probs)
    path["box_probabilities"] = joined(probabilities)
    levels = tf.reshape(tf.constant(path["levels"], tf.int32), [1, -1])
    path["level_of_box"] = tf.tile(levels, [rows, 1])
    return path


def _extract(model, views, level, training):
    """Backbone, and its map reduced to one position per cell: `[N, rows, cols, c]`, `[N, D]`."""
    features_map, vector = model.backbone(views, level=level, training=training)
    rows, cols = model.map_indices, model.map_indices
    if rows is None:
        rows, cols = model.grid.nearest_indices(
            *model.image_size, features_map.shape[1], features_map.shape[2]
        )
    for axis, index in ((1, rows), (2, cols)):
        features_map = tf.gather(features_map, tf.constant(index, tf.int32), axis=axis)
    return features_map, vector


def _encode(model, vector, positions, views):
    encoded = model.positional((vector, tf.reshape(positions, [-1, 3])))
    return tf.reshape(encoded, [-1, views, encoded.shape[-1]])


def _choose(model, logits, k, selection, forced, training):
    """Cells `[N, k]` ascending, the log-probability of each, and soft indicators or None.

    Log-probabilities are those in the order the cells were drawn. They are 0 where no policy
    gradient is wanted: soft indicators have a gradient of their own.
    """
    if forced is not None:
        drawn = tf.reshape(forced, [-1, k])
    elif model.chooser is not None and (training or model.selector == "random"):
        outputs = model.chooser(logits, k=k, training=training, seed=model.next_seed())
        soft = model.chooser.is_soft(training)
        zeros = tf.zeros_like(outputs["selected"], tf.float32)
        return outputs["selected"], zeros, outputs["indicators"] if soft else None
    elif selection == "sample":
        drawn = sample_without_replacement(tf.stop_gradient(logits), k, model.next_seed())
    else:
        drawn = ranked_cells(tf.stop_gradient(logits), k)
    log_probs = location_log_probs(logits, drawn, model.log_prob)
    order = tf.argsort(drawn, axis=-1)
    return (
        tf.gather(drawn, order, batch_dims=1),
        tf.gather(log_probs, order, batch_dims=1),
        None,
    )


def _children(grid, parent_size, parents, chosen, k):
    """Boxes of the chosen cells in image pixels, int32: `[R, G, 4]`, `[R·G, k]` → `[R, G·k, 4]`."""
    relative = tf.gather(tf.constant(grid.boxes(*parent_size).astype(np.int32)), chosen)
    origin = tf.reshape(parents[..., :2], [-1, 1, 2])
    boxes = relative + tf.concat([origin, origin], axis=-1)
    return tf.reshape(boxes, [-1, parents.shape[1] * k, 4])


def _intersect(boxes, bounds):
    return tf.concat(
        [
            tf.maximum(boxes[..., :2], bounds[..., :2]),
            tf.minimum(boxes[..., 2:], bounds[..., 2:]),
        ],
        axis=-1,
    )


def _mean_positions(grid, indicators, level):
    """(y, x, s) of softly chosen cells of the whole image: means under their indicators."""
    cells = tf.range(grid.num_cells)
    places = tf.stack([cells // grid.cols, cells % grid.cols, tf.fill(cells.shape, level)], axis=1)
    return tf.matmul(indicators, tf.cast(places, tf.float32)[None])


def _child_positions(grid, positions, chosen, level, k):
    """(y, x, s) of the chosen cells: (rows·y + r, cols·x + c, level)."""
    row = tf.cast(chosen // grid.cols, tf.float32)
    col = tf.cast(chosen % grid.cols, tf.float32)
    parent = tf.reshape(positions, [-1, 1, 3])
    y = parent[..., 0] * grid.rows + row
    x = parent[..., 1] * grid.cols + col
    children = tf.stack([y, x, tf.fill(tf.shape(y), float(level))], axis=-1)
    return tf.reshape(children, [-1, positions.shape[1] * k, 3])
