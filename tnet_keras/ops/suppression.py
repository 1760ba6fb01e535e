"""Greedy non-maximum suppression with a fixed number of results, as NTS-Net needs it."""

import numpy as np
import tensorflow as tf

from tnet_keras.ops.checks import check_count, check_scores


def greedy_suppression(boxes, scores, count, iou_threshold):
    """Takes the best box, drops all that overlap it too much, and goes on with the rest.

    A box is dropped if its intersection over union with a taken one is at least the threshold
    (NTS-Net, ECCV 2018; `tf.image.non_max_suppression` drops only what is above it). Where fewer
    than `count` boxes are left, the best of the dropped ones fill up.

    Args:
        boxes: `[N, 4]`, float `(y0, x0, y1, x1)`, the same for every image.
        scores: `[B, N]`, float, finite.
        count: How many to return for each image, 1 ≤ count ≤ N, static.
        iou_threshold: In (0, 1].

    Returns:
        int32 `[B, count]`, indices of boxes: those that were taken, best first, then those that
        fill up, best first.

    Raises:
        ValueError: If an argument is outside its range.
    """
    boxes = tf.cast(boxes, tf.float32)
    if boxes.shape.rank != 2 or boxes.shape[-1] != 4:
        raise ValueError(f"`boxes` must be [N, 4]. Received: boxes.shape={boxes.shape}")
    check_count("count", count, 1)
    if count > boxes.shape[0]:
        raise ValueError(
            f"`count` must be at most the number of boxes N={boxes.shape[0]}. "
            f"Received: count={count}"
        )
    if not 0 < iou_threshold <= 1:
        raise ValueError(
            f"`iou_threshold` must be in (0, 1]. Received: iou_threshold={iou_threshold}"
        )
    scores = check_scores(scores, count)
    if boxes.shape[0] != scores.shape[1]:
        raise ValueError(
            f"`boxes` must be [N, 4] for the N={scores.shape[1]} scores of an image. "
            f"Received: boxes.shape={boxes.shape}"
        )
    # "Above the number just below it" is "at least".
    threshold = float(np.nextafter(np.float32(iou_threshold), np.float32(0)))

    def one_image(own):
        taken, valid = tf.image.non_max_suppression_padded(
            boxes, own, count, threshold, pad_to_max_output_size=True
        )
        # Padding repeats index 0: only the first `valid` entries count.
        order = tf.where(tf.range(count) < valid, taken, -1)
        kept = tf.reduce_any(tf.range(boxes.shape[0])[:, None] == order[None], axis=1)
        # Rank by score, the taken ones before all others.
        ranks = tf.argsort(tf.argsort(own, direction="DESCENDING", stable=True))
        key = tf.where(kept, ranks, ranks + boxes.shape[0])
        return tf.argsort(key)[:count]

    return tf.map_fn(one_image, scores, fn_output_signature=tf.TensorSpec([count], tf.int32))
