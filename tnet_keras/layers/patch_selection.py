"""Patch selection: from scores of candidate regions to the pixels of a few of them."""

import keras
import numpy as np
import tensorflow as tf

from tnet_keras.geometry import NTS_ANCHORS, score_map_boxes, score_map_size
from tnet_keras.layers.selector import Selector
from tnet_keras.ops import blend_windows, extract_patches, policy_entropy


@keras.saving.register_keras_serializable(package="tnet_keras")
class PatchSelection(Selector):
    """Chooses K of N candidate regions by their scores and cuts them out of the full image.

    In training, the soft selectors of `Selector` mix windows by their indicators, so that the
    scores have a gradient; all others, and every selector but "random" at inference, cut out the K
    best (or drawn) regions and nothing else.

    Args:
        num_patches: K, at least 1.
        image_size: `(H, W)` of the images, pixels.
        view_size: `(h, w)` of what a `ConvScorer` sees, pixels; None for the 1,614 anchors of
            NTS-Net on 448 px images, scored by a `RegionProposalScorer`.
        patch_size: `(height, width)` of a patch. Candidates of a scorer's map have this size in
            the image; anchors are resized to it.
        selector: How patches are chosen in training, see `Selector`.
        centres: "receptive_field" or "as_released", see `geometry.score_map_boxes`.
        sigma, decay_steps, num_samples, noise, mode, epsilon, seed: See `Selector`.
        pad_value: What is read outside the image, 0–255.

    Raises:
        ValueError: If an argument is outside its range, the patches are larger than the image or
            the view is smaller than the scorer's receptive field.

    Example:

    ```python
    layer = PatchSelection(2, image_size=(96, 96), view_size=(48, 48), patch_size=(32, 32))
    outputs = layer((keras.ops.zeros((1, 96, 96, 3)), keras.ops.zeros((1, 25))))
    outputs["patches"].shape   # (1, 2, 32, 32, 3)
    ```
    """

    def __init__(
        self,
        num_patches,
        image_size,
        view_size,
        patch_size,
        selector="perturbed",
        centres="receptive_field",
        sigma=0.05,
        decay_steps=None,
        num_samples=500,
        noise="normal",
        mode="full_baseline",
        epsilon=1e-2,
        pad_value=0.0,
        seed=None,
        **kwargs,
    ):
        super().__init__(
            selector=selector, sigma=sigma, decay_steps=decay_steps, num_samples=num_samples,
            noise=noise, mode=mode, epsilon=epsilon, seed=seed, **kwargs,
        )  # fmt: skip
        self.num_patches = num_patches
        self.image_size = tuple(int(side) for side in image_size)
        self.view_size = None if view_size is None else tuple(int(side) for side in view_size)
        self.patch_size = tuple(int(side) for side in patch_size)
        self.centres, self.pad_value = centres, pad_value
        # Groups of candidates of one size each; together they are the N candidates in order.
        self.map_size = None
        if self.view_size is None:
            self.groups = [boxes for level in NTS_ANCHORS for boxes in level.anchor_boxes()]
        else:
            self.map_size = score_map_size(self.view_size)
            self.groups = [
                score_map_boxes(
                    self.image_size, self.view_size, self.map_size, self.patch_size, centres
                )
            ]
        self.boxes = np.concatenate(self.groups)
        # An entropic transport needs somebody to reject.
        most = len(self.boxes) - (selector == "sinkhorn")
        whole = isinstance(num_patches, (int, np.integer)) and not isinstance(num_patches, bool)
        if not whole or not 1 <= num_patches <= most:
            raise ValueError(
                f"`num_patches` must be an integer from 1 to {most}, of N={len(self.boxes)} "
                f"candidates. Received: num_patches={num_patches!r}"
            )

    @property
    def num_candidates(self):
        """N, number of candidate regions."""
        return len(self.boxes)

    def call(self, inputs, training=False, num_patches=None, selected=None, seed=None):
        """Chooses and cuts out.

        Args:
            inputs: `(images [B, H, W, C], scores [B, N])`: uint8 or float pixels in 0–255, and raw
                scores, candidates in the order of `boxes`.
            training: As in Keras.
            num_patches: K at this call, or None for the layer's own.
            selected: Optional int `[B, K]`, candidates to take instead of the best.
            seed: int32 `[2]` for noise and draws; None for the layer's `seed` in every call.

        Returns:
            dict: `patches` float32 `[B, K, h, w, C]`, 0–255; `indicators` float32 `[B, K, N]`, rows
            ordered by candidate (by score for "sinkhorn"); `selected` int32 `[B, K]` and `boxes`
            float32 `[B, K, 4]`, each slot's likeliest candidate; `entropy` `[B]`, that of the
            softmax of the raw scores, nats; `log_probs` `[B, K]` with "reinforce" and
            `transport_error` `[B]` with "sinkhorn" in training.

        Raises:
            ValueError: If shapes do not fit.
        """
        images, scores = inputs
        images, scores = tf.convert_to_tensor(images), tf.cast(scores, tf.float32)
        if tuple(images.shape[1:3]) != self.image_size or images.shape.rank != 4:
            raise ValueError(
                f"`images` must be [B, {self.image_size[0]}, {self.image_size[1]}, C]. "
                f"Received: images.shape={tuple(images.shape)}"
            )
        if scores.shape.rank != 2 or scores.shape[1] != self.num_candidates:
            raise ValueError(
                f"`scores` must be [B, {self.num_candidates}]. "
                f"Received: scores.shape={tuple(scores.shape)}"
            )
        k = self.num_patches if num_patches is None else num_patches
        result = {"entropy": policy_entropy(scores)}
        if selected is None:
            result.update(super().call(scores, k, training, seed))
        else:
            chosen = tf.sort(tf.cast(selected, tf.int32), axis=-1)
            result["selected"] = chosen
            result["indicators"] = tf.one_hot(chosen, self.num_candidates)
            if training and self.selector == "sinkhorn":
                # As a choice of its own has it: both branches of a condition must be alike.
                result["transport_error"] = tf.zeros(tf.shape(scores)[:1])
        chosen = result["selected"]
        if selected is None and self.is_soft(training):
            result["patches"] = self._blend(images, result["indicators"])
        else:
            result["patches"] = self._slice(images, chosen)
        return {**result, "boxes": tf.cast(self._boxes_of(chosen), tf.float32)}

    def pixel_positions(self, indicators):
        """Where in the image the pixels of patches come from, as two channels.

        Row and column are 0 at the first pixel of the image and 255 at its last one, as colours
        are; pixels outside the image go on in both directions. Of a blend of windows they are the
        mean, so that scores have a gradient through them too.

        Args:
            indicators: float `[B, K, N]`, rows that sum to 1.

        Returns:
            float32 `[B, K, h, w, 2]`, row first.
        """
        boxes = tf.constant(self.boxes.astype(np.int32))
        edges = tf.matmul(
            tf.cast(indicators, tf.float32),
            tf.tile(tf.cast(boxes, tf.float32)[None], [tf.shape(indicators)[0], 1, 1]),
        )
        axes = []
        for axis in range(2):
            first, last = edges[..., axis, None], edges[..., axis + 2, None]
            side = self.patch_size[axis]
            middles = (tf.range(side, dtype=tf.float32) + 0.5) / side
            pixels = first + (last - first) * middles - 0.5
            axes.append(pixels * (255.0 / max(1, self.image_size[axis] - 1)))
        rows, columns = axes
        height, width = self.patch_size
        return tf.stack(
            [
                tf.tile(rows[:, :, :, None], [1, 1, 1, width]),
                tf.tile(columns[:, :, None, :], [1, 1, height, 1]),
            ],
            axis=-1,
        )

    def _boxes_of(self, chosen):
        # Whole numbers as integers: a quantised export would round the floats of a table.
        return tf.gather(tf.constant(self.boxes.astype(np.int32)), chosen)

    def _blend(self, images, indicators):
        total, first = 0.0, 0
        for boxes in self.groups:
            part = indicators[:, :, first : first + len(boxes)]
            first += len(boxes)
            mixed = blend_windows(images, boxes, part, self.pad_value)
            total += self._resize(mixed)
        return total

    def _resize(self, patches):
        if tuple(patches.shape[2:4]) == self.patch_size:
            return patches
        k, channels = patches.shape[1], patches.shape[-1]
        flat = tf.reshape(patches, [-1, *patches.shape[2:]])
        flat = tf.image.resize(flat, self.patch_size, method="bilinear", antialias=False)
        return tf.reshape(flat, [-1, k, *self.patch_size, channels])

    def _slice(self, images, chosen):
        boxes = self._boxes_of(chosen)
        if len(self.groups) > 1:
            return extract_patches(images, boxes, size=self.patch_size, pad_value=self.pad_value)
        outside = np.max([-self.boxes[:, :2], self.boxes[:, 2:] - self.image_size])
        return extract_patches(
            images, boxes, size=self.patch_size, box_size=self.patch_size,
            margin=int(max(0, outside)), pad_value=self.pad_value,
        )  # fmt: skip

    def get_config(self):
        return {
            **super().get_config(),
            "num_patches": self.num_patches,
            "image_size": list(self.image_size),
            "view_size": None if self.view_size is None else list(self.view_size),
            "patch_size": list(self.patch_size),
            "centres": self.centres,
            "pad_value": self.pad_value,
        }
