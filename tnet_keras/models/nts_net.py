"""NTS-Net and NTS-Top-K: anchors scored on the backbone's map, parts seen by the same backbone."""

import keras
import numpy as np
import tensorflow as tf

from tnet_keras.backbones import Backbone
from tnet_keras.geometry import NTS_ANCHORS
from tnet_keras.layers import ClassifierHead, PatchSelection, RegionProposalScorer
from tnet_keras.learning import cross_entropy
from tnet_keras.models.checks import check_images, forced_candidates
from tnet_keras.models.hard_attention import HardAttentionModel
from tnet_keras.models.selecting import SelectingMixin
from tnet_keras.ops import extract_patches, greedy_suppression
from tnet_keras.ops.checks import check_count, check_one_of

HEADS = ("mean", "concat")
_IOU_THRESHOLD = 0.25
_MAP_SIZE = (NTS_ANCHORS[0].positions,) * 2
_IMAGE_SIZE = (NTS_ANCHORS[0].positions * NTS_ANCHORS[0].stride,) * 2
# [1614, 4], in the order of the scores of a `RegionProposalScorer`.
_ANCHORS = np.concatenate([boxes for level in NTS_ANCHORS for boxes in level.anchor_boxes()])


class _ProposalModel(HardAttentionModel):
    """What both models share: one backbone for image and parts, a proposal net, three heads.

    A subclass implements `_propose(images, scores, training, count, selected)`, which returns a
    dict of `patches` `[B, count, h, w, C]`, `selected` `[B, count]` and `boxes` `[B, count, 4]`;
    and `_own_terms(path, part_losses, labels, weights)`, which returns two dicts of scalars: terms
    of the loss, and what is reported.
    """

    def __init__(
        self, backbone, num_classes, num_patches, patch_size, scorer, head, dropout, seed, **kwargs
    ):
        check_one_of("head", head, HEADS)
        if not 0 <= dropout < 1:
            raise ValueError(f"`dropout` must be in [0, 1). Received: dropout={dropout}")
        heads = [
            ClassifierHead(num_classes, kernel_initializer="lecun_normal", name=f"{name}_head")
            for name in ("global", "part", "combined")
        ]
        super().__init__(num_classes=num_classes, seed=seed, **kwargs)
        self.image_size, self.patch_size = _IMAGE_SIZE, tuple(patch_size)
        # Parts that are combined, and parts that training looks at.
        self.num_patches = self.num_proposals = num_patches
        _check_backbone(backbone, self.patch_size)
        self.backbone, self.scorer, self.head = backbone, scorer, head
        self.global_head, self.part_head, self.combined_head = heads
        # One draw for all heads: the combined one sees the very vectors that the others see.
        self.drop = keras.layers.Dropout(dropout, seed=seed, dtype=self.dtype_policy, name="drop")
        if not self.scorer.built:
            self.scorer.build((None, *backbone.map_shape))
        for layer, vectors in zip(heads, (1, 1, 1 + num_patches * (head == "concat")), strict=True):
            layer.build((None, vectors * backbone.feature_dim))
        self.built = True

    def build(self, input_shape=None):
        self.built = True

    def call(self, images, training=False, locations=None):
        """Class logits of the combined head.

        Args:
            images: `[B, 448, 448, 3]`, uint8 or float, 0–255.
            locations: `(K,)`, number of patches, `()` for the image alone (the global head), or
                None for the model's own.

        Returns:
            float32 `[B, C]`.
        """
        return self._forward(images, training, self._count(locations))["logits"]

    def attend(self, images, locations=None, cells=None):
        """Classifies and says where it looked.

        Args:
            images: `[B, 448, 448, 3]`, uint8 or float, 0–255.
            locations: `(K,)`, number of patches, `()` for the image alone, or None for the model's
                own.
            cells: Optional list with one int `[B, 1, K]`: candidates to take instead of the
                model's choice.

        Returns:
            dict as of `TNet.attend`: `logits`, `probabilities`, `boxes`, `levels` (all 2),
            `location_probabilities` (one `[B, 1, 1614]`, softmax of the scores), `selected` (one
            `[B, 1, K]`), `box_probabilities`, `feature_logits` `[B, 1+K, C]` (entry 0: the image,
            by the global head; the others by the part head), `feature_weights` (of the mean: ½ for
            the image, ½ for all parts; concatenated: all the same), `attended_logits` (the mean of
            the parts' logits; absent without parts).

        Raises:
            ValueError: If the images, locations or cells are not usable.
        """
        selected = None
        if cells is not None:
            selected, locations = forced_candidates(cells)
        k = self._count(locations)
        path = self._forward(images, False, k, selected)
        batch = tf.shape(path["logits"])[0]
        equal = k == 0 or self.head == "concat"
        weights = [1.0 / (1 + k)] * (1 + k) if equal else [0.5] + [0.5 / k] * k
        outputs = {
            "logits": path["logits"],
            "probabilities": tf.nn.softmax(path["logits"]),
            "boxes": path.get("boxes", tf.zeros([batch, 0, 4])),
            "levels": tf.fill([batch, k], 2),
            "location_probabilities": [],
            "selected": [],
            "box_probabilities": tf.zeros([batch, 0]),
            "feature_logits": path["global_logits"][:, None],
            "feature_weights": tf.repeat(tf.constant([weights]), batch, axis=0),
        }
        if k:
            probabilities, parts = tf.nn.softmax(path["scores"]), path["part_logits"]
            outputs |= {
                "location_probabilities": [probabilities[:, None]],
                "selected": [path["selected"][:, None]],
                "box_probabilities": tf.gather(probabilities, path["selected"], batch_dims=1),
                "feature_logits": tf.concat([outputs["feature_logits"], parts], axis=1),
                "attended_logits": tf.reduce_mean(parts, axis=1),
            }
        return outputs

    def aggregated_features(self, images):
        """The vector of image and parts that the combined head sees (inference).

        Args:
            images: `[B, 448, 448, 3]`, uint8 or float, 0–255.

        Returns:
            `[B, D]`, the model's compute dtype.
        """
        return self._forward(images, False, self.num_patches)["combined"]

    def _count(self, locations):
        if locations is None:
            return self.num_patches
        allowed, text = range(len(_ANCHORS) + 1), f"in 0..{len(_ANCHORS)}"
        if self.head == "concat":
            allowed, text = (0, self.num_patches), f"{self.num_patches}, as built"
        counts = locations if isinstance(locations, (tuple, list)) else (-1,)
        if len(counts) > 1 or not all(k in allowed for k in counts):
            raise ValueError(
                f"`locations` must be () or (K,) with K {text}. Received: locations={locations!r}"
            )
        return int(sum(counts))

    def _forward(self, images, training, k, selected=None, proposals=None):
        """Everything from pixels to logits; `proposals` ≥ k parts are seen, k are combined."""
        images = check_images(images)
        features, vector = self.backbone(images, level=1, training=training)
        vector = self.drop(vector, training=training)
        path = {"global_logits": self.global_head(vector)}
        if k == 0:
            return {**path, "logits": path["global_logits"]}
        # The proposal net does not teach the backbone.
        scores = self.scorer(tf.stop_gradient(features))
        path |= self._propose(images, scores, training, proposals or k, selected)
        patches = path.pop("patches")
        parts = tf.reshape(patches, [-1, *patches.shape[2:]])
        parts = self.backbone(parts, level=2, training=training, any_size=True)[1]
        parts = tf.reshape(parts, [-1, patches.shape[1], vector.shape[-1]])
        parts = self.drop(parts, training=training)
        if self.head == "mean":
            combined = tf.reduce_mean(parts[:, :k], axis=1) + vector
        else:
            combined = tf.concat([parts[:, :k], vector[:, None]], axis=1)
            combined = tf.reshape(combined, [-1, (1 + k) * vector.shape[-1]])
        return {
            **path,
            "scores": scores,
            "part_logits": self.part_head(parts),
            "combined": combined,
            "logits": self.combined_head(combined),
        }

    def training_terms(self, images, labels, sample_weight, training):
        """The three cross-entropies and a model's own terms; see `HardAttentionModel`."""
        path = self._forward(images, training, self.num_patches, proposals=self.num_proposals)
        weights = 1.0 if sample_weight is None else tf.cast(sample_weight, tf.float32)
        part_labels = tf.repeat(labels[:, None], self.num_proposals, axis=1)
        part_losses = cross_entropy(path["part_logits"], part_labels)
        losses = {
            "global_cross_entropy": cross_entropy(path["global_logits"], labels),
            "combined_cross_entropy": cross_entropy(path["logits"], labels),
            "part_cross_entropy": tf.reduce_mean(part_losses, axis=1),
        }
        own_terms, reported = self._own_terms(path, part_losses, labels, weights)
        terms = {name: tf.reduce_mean(weights * loss) for name, loss in losses.items()} | own_terms
        self.add_regularizers(terms, path["combined"], labels)
        outputs = {"logits": path["logits"], "labels": labels, "sample_weight": sample_weight}
        return terms, outputs | reported

    def get_config(self):
        return {
            **super().get_config(),
            "scorer": keras.saving.serialize_keras_object(self.scorer),
            "dropout": self.drop.rate,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        for part in ("selection", "scorer"):
            if isinstance(config.get(part), dict):
                config[part] = keras.saving.deserialize_keras_object(config[part])
        return super().from_config(config)


@keras.saving.register_keras_serializable(package="tnet_keras")
class NTSTopKClassifier(SelectingMixin, _ProposalModel):
    """NTS-Net's regions, chosen by a Top-K that is trained through (CVPR 2021).

    `model(images)` → float32 logits `[B, C]`; images `[B, 448, 448, 3]`, uint8 or float, 0–255.

    The backbone turns the image into a map and a vector; a proposal net scores 1,614 anchors on the
    map (no gradient from there into the backbone); the selection layer cuts out K patches; the same
    backbone turns each into a vector; dropout. Three linear heads classify the image, every part,
    and all of it together. With the cross-entropies of the three heads, of the parts the mean over
    all parts, and H the entropy of the softmax of the raw scores:

        loss = CE_global + CE_combined + CE_parts - entropy_weight · H

    H counts for soft selectors and "reinforce" only; "reinforce" adds the policy gradient of the
    combined head's hit reward, with a moving baseline.

    Args:
        backbone: A fully convolutional `Backbone` for 448 px images with a 14x14 map. With
            `statistics_levels=2` image and parts have moving statistics of their own; published: 1.
        selection: A `PatchSelection` of 448 px images with `view_size=None`.
        num_classes: Number of classes C.
        scorer: Layer from the map to scores `[B, 1614]`; None for a `RegionProposalScorer` with
            squeeze-and-excite.
        head: What the combined head sees: "mean", the mean of the parts plus the image's vector;
            "concat", the parts, then the image's vector, one after the other.
        entropy_weight: Weight of the entropy of the scores; positive rewards high entropy.
        policy_weight: Weight of the policy gradient ("reinforce").
        initial_baseline: First value of the reward baseline ("reinforce").
        dropout: Drop probability of the vectors of image and parts, in [0, 1).
        seed: Seed of noise, draws and dropout.
        **kwargs: `l2`, `l2_scope`, `contrastive_weight`, `contrastive_margin`, see
            `HardAttentionModel`, and what a Keras model takes.

    Raises:
        ValueError: If parts do not fit each other.

    Example:

    ```python
    options = {"filters": (4, 8), "strides": (8, 4)}
    backbone = Backbone("convnet", input_shape=(448, 448, 3), options=options)
    selection = PatchSelection(2, image_size=(448, 448), view_size=None, patch_size=(64, 64))
    model = NTSTopKClassifier(backbone, selection, num_classes=9)
    model.attend(keras.ops.zeros((1, 448, 448, 3)))["boxes"].shape    # (1, 2, 4)
    ```
    """

    def __init__(
        self,
        backbone,
        selection,
        num_classes,
        scorer=None,
        head="mean",
        entropy_weight=0.05,
        policy_weight=1.0,
        initial_baseline=0.5,
        dropout=0.5,
        seed=None,
        **kwargs,
    ):
        sizes = getattr(selection, "image_size", None), getattr(selection, "view_size", None)
        if not isinstance(selection, PatchSelection) or sizes != (_IMAGE_SIZE, None):
            raise ValueError(
                f"`selection` must be a PatchSelection with image_size={_IMAGE_SIZE} and "
                f"view_size=None. Received: selection={selection!r} with {sizes}"
            )
        if head == "concat" and selection.selector == "sinkhorn":
            raise ValueError(
                "`head` must be 'mean' with selector='sinkhorn', which orders patches by score in "
                f"training only. Received: head={head!r}"
            )
        scorer = scorer or RegionProposalScorer(squeeze_excite=True, name="scorer")
        super().__init__(
            backbone, num_classes, selection.num_patches, selection.patch_size, scorer, head,
            dropout, seed, **kwargs,
        )  # fmt: skip
        self.set_selection(selection, entropy_weight, policy_weight, initial_baseline)

    def _propose(self, images, scores, training, count, selected):
        # None where nothing is drawn: inference changes no variable.
        seed = self.next_seed() if self.selection.uses_seed(training) else None
        return self.selection(
            (images, scores), training=training, num_patches=count, selected=selected, seed=seed
        )

    def _own_terms(self, path, part_losses, labels, weights):
        return self.selection_terms(path, path["logits"], labels, weights)

    def get_config(self):
        return {**super().get_config(), "head": self.head}


@keras.saving.register_keras_serializable(package="tnet_keras")
class NTSNet(_ProposalModel):
    """The original NTS-Net: suppression of overlapping anchors, and a ranking loss (ECCV 2018).

    `model(images)` → float32 logits `[B, C]`; images `[B, 448, 448, 3]`, uint8 or float, 0–255.

    As `NTSTopKClassifier` with the head "concat", but the patches are the best anchors whose
    intersection over union with better ones is below 0.25, best first, and no cross-entropy teaches
    the scores. Training looks at `num_proposals` parts, of which the best `num_patches` are
    combined, and the scores learn to rank them as the part head's cross-entropies do:

        loss = CE_global + CE_combined + CE_parts + ranking_loss

    The authors' dropout stays on at inference by mistake; here it does not. Their anchors have
    fractional edges; these are whole pixels.

    Args:
        backbone: A fully convolutional `Backbone` for 448 px images with a 14x14 map.
        num_classes: Number of classes C.
        num_patches: K, parts that are combined.
        num_proposals: M ≥ K, parts that are looked at in training.
        patch_size: `(height, width)` that anchors are resized to, pixels.
        scorer: Layer from the map to scores `[B, 1614]`; None for a `RegionProposalScorer`.
        dropout: Drop probability of the vectors of image and parts, in [0, 1).
        seed: Seed of the dropout.
        **kwargs: As for `NTSTopKClassifier`.

    Raises:
        ValueError: If an argument is outside its range or the backbone does not fit.

    Example:

    ```python
    options = {"filters": (4, 8), "strides": (8, 4)}
    backbone = Backbone("convnet", input_shape=(448, 448, 3), options=options)
    model = NTSNet(backbone, num_classes=9, num_patches=2, patch_size=(64, 64))
    model.attend(keras.ops.zeros((1, 448, 448, 3)))["boxes"].shape    # (1, 2, 4)
    ```
    """

    extra_metrics = ("ranking",)

    def __init__(
        self,
        backbone,
        num_classes,
        num_patches=4,
        num_proposals=6,
        patch_size=(224, 224),
        scorer=None,
        dropout=0.5,
        seed=None,
        **kwargs,
    ):
        check_count("num_patches", num_patches, 1)
        check_count("num_proposals", num_proposals, num_patches)
        scorer = scorer or RegionProposalScorer(name="scorer")
        super().__init__(
            backbone, num_classes, num_patches, patch_size, scorer, "concat", dropout, seed,
            **kwargs,
        )  # fmt: skip
        self.num_proposals = num_proposals

    def _propose(self, images, scores, training, count, selected):
        if selected is None:
            selected = greedy_suppression(_ANCHORS, scores, count, _IOU_THRESHOLD)
        # Whole numbers as integers: a quantised export would round the floats of a table.
        boxes = tf.gather(tf.constant(_ANCHORS.astype(np.int32)), selected)
        boxes = tf.cast(boxes, tf.float32)
        patches = extract_patches(images, boxes, size=self.patch_size)
        return {"patches": patches, "selected": selected, "boxes": boxes}

    def _own_terms(self, path, part_losses, labels, weights):
        scores = tf.gather(path["scores"], path["selected"], batch_dims=1)
        ranking = tf.reduce_mean(weights * ranking_loss(scores, part_losses))
        return {"ranking": ranking}, {"ranking": ranking}

    def get_config(self):
        return {
            **super().get_config(),
            "num_patches": self.num_patches,
            "num_proposals": self.num_proposals,
            "patch_size": list(self.patch_size),
        }


def ranking_loss(scores, losses):
    """Hinge loss of every pair of parts whose scores are not ordered as their losses are.

    `Σ_i Σ_{j: loss_j > loss_i} max(0, 1 - s_i + s_j)` (NTS-Net, ECCV 2018): a part that is
    classified better has the higher score.

    Args:
        scores: `[B, M]`, float.
        losses: `[B, M]`, float; only their order counts, they get no gradient.

    Returns:
        float32 `[B]`, at least 0; 0 where the scores are ordered, at least 1 apart.
    """
    scores, losses = tf.cast(scores, tf.float32), tf.cast(losses, tf.float32)
    hinge = tf.nn.relu(1.0 - scores[:, :, None] + scores[:, None, :])
    counts = tf.cast(losses[:, None, :] > losses[:, :, None], tf.float32)
    return tf.reduce_sum(hinge * counts, axis=[1, 2])


def _check_backbone(backbone, patch_size):
    """Checks that a backbone has the map that the anchors lie on, and takes patches as well."""
    if not isinstance(backbone, Backbone):
        raise ValueError(
            f"`backbone` must be a tnet_keras.backbones.Backbone. Received: backbone={backbone!r}"
        )
    if backbone.image_shape[:2] != _IMAGE_SIZE or backbone.map_shape[:2] != _MAP_SIZE:
        raise ValueError(
            f"`backbone` must take {_IMAGE_SIZE} images and give a {_MAP_SIZE} map. Received: "
            f"backbone.image_shape={backbone.image_shape}, map_shape={backbone.map_shape}"
        )
    patch = keras.KerasTensor((1, *patch_size, backbone.image_shape[-1]), "float32")
    try:
        width = backbone(patch, any_size=True)[1].shape[-1]
    except (TypeError, ValueError, tf.errors.InvalidArgumentError):
        width = None
    if width != backbone.feature_dim:
        raise ValueError(
            "`backbone` must be fully convolutional: it sees whole images and patches. "
            f"Received: a network that does not take patches of patch_size={patch_size}"
        )
