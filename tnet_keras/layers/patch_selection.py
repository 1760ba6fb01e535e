"""Patch selection: from scores of candidate regions to the pixels of a few of them."""

import keras
import numpy as np
import tensorflow as tf

from tnet_keras.geometry import NTS_ANCHORS, score_map_boxes, score_map_size
from tnet_keras.ops import (
    blend_windows,
    extract_patches,
    location_log_probs,
    normalize_scores,
    perturbed_top_k,
    policy_entropy,
    sample_without_replacement,
    sinkhorn_top_k,
    top_k_cells,
)
from tnet_keras.ops.checks import check_one_of

SELECTORS = ("perturbed", "sinkhorn", "hard", "random", "reinforce")
SOFT_SELECTORS = ("perturbed", "sinkhorn")


@keras.saving.register_keras_serializable(package="tnet_keras")
class PatchSelection(keras.layers.Layer):
    """Chooses K of N candidate regions by their scores and cuts them out of the full image.

    In training, the soft selectors mix windows by their indicators, so that the scores have a
    gradient; all others, and every selector but "random" at inference, cut out the K best (or
    drawn) regions and nothing else.

    * "perturbed": perturbed Top-K on min-max normalised scores (CVPR 2021);
    * "sinkhorn": optimal-transport Top-K on the same;
    * "hard": the K best, no gradient to the scores;
    * "random": uniform without replacement, in training and at inference: the control;
    * "reinforce": drawn without replacement from the softmax of the scores; `log_probs` is what a
      policy gradient needs.

    Args:
        num_patches: K, at least 1.
        image_size: `(H, W)` of the images, pixels.
        view_size: `(h, w)` of what a `ConvScorer` sees, pixels; None for the 1,614 anchors of
            NTS-Net on 448 px images, scored by a `RegionProposalScorer`.
        patch_size: `(height, width)` of a patch. Candidates of a scorer's map have this size in
            the image; anchors are resized to it.
        selector: How patches are chosen in training, see above.
        centres: "receptive_field" or "as_released", see `geometry.score_map_boxes`.
        sigma: Scale σ ≥ 0 of the noise at the start.
        decay_steps: Training steps over which σ falls linearly to 0; None for none. The step is a
            saved variable.
        num_samples: Samples of the noise.
        noise: "normal" or "gumbel".
        mode: Gradient of the perturbed Top-K: "full", "full_baseline" or "diagonal".
        epsilon: Regularisation of the Sinkhorn Top-K.
        pad_value: What is read outside the image, 0–255.
        seed: Seed of noise and draws.

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
        mode="full",
        epsilon=1e-2,
        pad_value=0.0,
        seed=None,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        check_one_of("selector", selector, SELECTORS)
        if not sigma >= 0:
            raise ValueError(f"`sigma` must be at least 0. Received: sigma={sigma}")
        if decay_steps is not None and decay_steps < 1:
            raise ValueError(
                f"`decay_steps` must be None or at least 1. Received: decay_steps={decay_steps}"
            )
        self.num_patches = num_patches
        self.image_size = tuple(int(side) for side in image_size)
        self.view_size = None if view_size is None else tuple(int(side) for side in view_size)
        self.patch_size = tuple(int(side) for side in patch_size)
        self.selector, self.centres = selector, centres
        self.sigma, self.decay_steps = float(sigma), decay_steps
        self.num_samples, self.noise, self.mode = num_samples, noise, mode
        self.epsilon, self.pad_value, self.seed = epsilon, pad_value, seed
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
        if isinstance(num_patches, bool) or not 1 <= num_patches <= len(self.boxes):
            raise ValueError(
                f"`num_patches` must be from 1 to the number of candidates N={len(self.boxes)}. "
                f"Received: num_patches={num_patches!r}"
            )
        self.step = self.add_weight(
            shape=(),
            initializer="zeros",
            trainable=False,
            dtype="float32",
            # Every replica counts the same steps.
            aggregation="only_first_replica",
            name="step",
        )
        self.built = True

    def build(self, input_shape=None):
        self.built = True

    @property
    def num_candidates(self):
        """N, number of candidate regions."""
        return len(self.boxes)

    def current_sigma(self):
        """σ at the current step: `σ · max(0, 1 - step / decay_steps)`, float32 scalar."""
        if self.decay_steps is None:
            return tf.constant(self.sigma)
        left = 1.0 - tf.convert_to_tensor(self.step) / float(self.decay_steps)
        return self.sigma * tf.maximum(left, 0.0)

    def count_step(self):
        """Counts one training step, after which σ is smaller."""
        self.step.assign_add(1.0)

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
            softmax of the raw scores, nats; `log_probs` `[B, K]` with "reinforce" in training.

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
        if seed is None:
            seed = tf.constant([0, self.seed or 0], tf.int32)
        result = {"entropy": policy_entropy(scores)}
        soft = training and selected is None and self.selector in SOFT_SELECTORS
        if soft:
            indicators = self._soft_indicators(scores, k, seed)
            chosen = tf.argmax(indicators, axis=-1, output_type=tf.int32)
            patches = self._blend(images, indicators)
        else:
            chosen = self._choose(scores, k, seed, training) if selected is None else selected
            if training and self.selector == "reinforce":
                result["log_probs"] = location_log_probs(scores, chosen)
            chosen = tf.sort(tf.cast(chosen, tf.int32), axis=-1)
            indicators = tf.one_hot(chosen, self.num_candidates)
            patches = self._slice(images, chosen)
        boxes = tf.gather(tf.constant(self.boxes), chosen)
        result.update(patches=patches, indicators=indicators, selected=chosen, boxes=boxes)
        return result

    def _soft_indicators(self, scores, k, seed):
        normalized = normalize_scores(scores)
        if self.selector == "sinkhorn":
            return sinkhorn_top_k(normalized, k, epsilon=self.epsilon)
        return perturbed_top_k(
            normalized, k, self.current_sigma(), self.num_samples, self.noise, self.mode, seed
        )

    def _choose(self, scores, k, seed, training):
        """Candidates int32 `[B, k]`, in the order drawn where they are drawn."""
        if self.selector == "random":
            return sample_without_replacement(tf.zeros_like(scores), k, seed)
        if self.selector == "reinforce" and training:
            return sample_without_replacement(tf.stop_gradient(scores), k, seed)
        # The scores as the soft selectors see them, so that σ = 0 and inference agree bit for bit.
        return top_k_cells(normalize_scores(scores), k)

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
        boxes = tf.gather(tf.constant(self.boxes), chosen)
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
            "selector": self.selector,
            "centres": self.centres,
            "sigma": self.sigma,
            "decay_steps": self.decay_steps,
            "num_samples": self.num_samples,
            "noise": self.noise,
            "mode": self.mode,
            "epsilon": self.epsilon,
            "pad_value": self.pad_value,
            "seed": self.seed,
        }
