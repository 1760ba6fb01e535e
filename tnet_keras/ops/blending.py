"""Soft patches: windows of an image mixed by selection weights, without keeping the windows."""

import numpy as np
import tensorflow as tf

from tnet_keras.ops.patches import extract_patches


def blend_windows(images, boxes, indicators, pad_value=0.0, chunk_size=8):
    """Mixes the windows of candidate regions by how much each slot selects them.

        patch[b, j] = Σ_i indicators[b, j, i] · window[b, i]

    Only candidates that some slot of the image selects at all are cut out (with perturbed Top-K:
    those that were sampled at least once), a few at a time; the backward pass cuts them out again
    instead of keeping them. Both are exact, because the others weigh nothing and, in either
    estimator of `perturbed_top_k`, receive no gradient. Memory is that of `B · chunk_size` windows,
    whatever N is. (Differentiable patch selection, CVPR 2021, the weighted sum of patches.)

    Args:
        images: `[B, H, W, C]`, uint8 or float, range kept. No gradient flows to them.
        boxes: `[N, 4]` array of half-open `(y0, x0, y1, x1)` in pixels, whole numbers, all of one
            size, the same for every image; what lies outside the image reads as `pad_value`.
        indicators: `[B, K, N]`, float, at least 0.
        pad_value: What is read outside, in the images' range.
        chunk_size: Windows cut out of each image at one time, an integer of at least 1.

    Returns:
        float32 `[B, K, h, w, C]`. The gradient to `indicators` is that of the touched candidates,
        0 for all others.

    Raises:
        ValueError: If the boxes have no common size, shapes do not fit, or `chunk_size` is not an
            integer of at least 1.
    """
    images = tf.stop_gradient(tf.convert_to_tensor(images))
    indicators = tf.cast(indicators, tf.float32)
    boxes, size = _check_boxes(boxes)
    if images.shape.rank != 4 or None in images.shape[1:]:
        raise ValueError(
            "`images` must be [B, H, W, C] with a static H, W and C. "
            f"Received: images.shape={images.shape}"
        )
    if indicators.shape.rank != 3 or indicators.shape[-1] != len(boxes):
        raise ValueError(
            f"`indicators` must be [B, K, N] with N={len(boxes)} boxes. "
            f"Received: indicators.shape={indicators.shape}"
        )
    if isinstance(chunk_size, bool) or not isinstance(chunk_size, int) or chunk_size < 1:
        raise ValueError(
            f"`chunk_size` must be an integer of at least 1. Received: chunk_size={chunk_size!r}"
        )
    height, width, channels = images.shape[1:]
    slots, count = indicators.shape[1], len(boxes)
    chunk_size = min(chunk_size, count)
    pixels = size[0] * size[1] * channels
    outside = np.max([-boxes[:, :2], boxes[:, 2:] - [height, width]])
    margin = int(max(0, outside))
    batch = tf.shape(indicators)[0]

    def touched_first(indicators):
        """Candidates `[B, N']`, the touched ones first, and how many chunks they fill at most."""
        touched = tf.reduce_any(indicators > 0.0, axis=1)
        # A stable order by top_k; argsort has no XLA kernel for booleans.
        order = tf.math.top_k(tf.cast(touched, tf.int32), count).indices
        most = tf.reduce_max(tf.reduce_sum(tf.cast(touched, tf.int32), axis=1))
        padding = -count % chunk_size
        # What fills up the last chunk repeats the first candidate, with weight 0.
        return tf.pad(order, [[0, 0], [0, padding]]), -(-most // chunk_size)

    def cut(order, chunk):
        """Candidates `[B, chunk]`, their windows `[B, chunk, h·w·C]`, and whether they count."""
        first = chunk * chunk_size
        chosen = tf.slice(order, [0, first], [-1, chunk_size])
        chosen = tf.ensure_shape(chosen, (images.shape[0], chunk_size))
        windows = extract_patches(
            images, tf.gather(tf.constant(boxes, tf.float32), chosen), size=size, box_size=size,
            margin=margin, pad_value=pad_value,
        )  # fmt: skip
        counts = tf.cast(first + tf.range(chunk_size) < count, tf.float32)
        return chosen, tf.reshape(windows, [-1, chunk_size, pixels]), counts

    @tf.custom_gradient
    def op(indicators):
        # An eager tape records what happens in here too, and would keep every window for it.
        indicators = tf.stop_gradient(indicators)
        order, chunks = touched_first(indicators)

        def forward(chunk, total):
            chosen, windows, counts = cut(order, chunk)
            weights = tf.gather(indicators, chosen, axis=2, batch_dims=1) * counts
            return chunk + 1, total + tf.matmul(weights, windows)

        _, total = tf.while_loop(
            lambda chunk, _: chunk < chunks,
            forward,
            (tf.constant(0), tf.zeros([batch, slots, pixels])),
            shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, slots, pixels])),
            parallel_iterations=1,
        )

        def gradient(upstream):
            upstream = tf.reshape(tf.cast(upstream, tf.float32), [-1, slots, pixels])

            def backward(chunk, result):
                chosen, windows, counts = cut(order, chunk)
                products = tf.matmul(windows, upstream, transpose_b=True) * counts[:, None]
                rows = tf.broadcast_to(tf.range(batch)[:, None], tf.shape(chosen))
                at = tf.stack([rows, chosen], axis=-1)
                return chunk + 1, tf.tensor_scatter_nd_add(result, at, products)

            _, result = tf.while_loop(
                lambda chunk, _: chunk < chunks,
                backward,
                (tf.constant(0), tf.zeros([batch, count, slots])),
                shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, count, slots])),
                parallel_iterations=1,
            )
            # A chunk may reach beyond the touched candidates of one image.
            touched = tf.reduce_any(indicators > 0.0, axis=1, keepdims=True)
            return tf.where(touched, tf.transpose(result, [0, 2, 1]), 0.0)

        patches = tf.reshape(total, [batch, slots, *size, channels])
        return tf.ensure_shape(patches, (indicators.shape[0], slots, *size, channels)), gradient

    return op(indicators)


def _check_boxes(boxes):
    boxes = np.asarray(boxes)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes):
        raise ValueError(f"`boxes` must be [N, 4]. Received: boxes.shape={boxes.shape}")
    whole = np.rint(boxes).astype(np.int64)
    sizes = np.unique(whole[:, 2:] - whole[:, :2], axis=0)
    if np.any(whole != boxes) or len(sizes) != 1 or np.any(sizes < 1):
        raise ValueError(
            "`boxes` must have whole numbers and one common size. "
            f"Received: sizes (height, width) {sizes.tolist()[:4]}"
        )
    return whole, (int(sizes[0, 0]), int(sizes[0, 1]))
