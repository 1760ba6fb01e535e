"""Differentiable patch selection (CVPR 2021): a scorer trained through a Top-K."""

import keras
import tensorflow as tf

from tnet_keras.backbones import Backbone
from tnet_keras.layers import ClassifierHead, ConvScorer, MeanAggregation, PatchSelection
from tnet_keras.learning import cross_entropy
from tnet_keras.models.checks import (
    check_images,
    check_position_channels,
    forced_candidates,
)
from tnet_keras.models.hard_attention import HardAttentionModel
from tnet_keras.models.selecting import SelectingMixin
from tnet_keras.ops import downscale_view
from tnet_keras.ops.checks import check_count


@keras.saving.register_keras_serializable(package="tnet_keras")
class PatchSelectionClassifier(SelectingMixin, HardAttentionModel):
    """Scores the regions of a small view, cuts out the best few, classifies those together.

    `model(images)` → float32 logits `[B, C]`; images `[B, H, W, 3]`, uint8 or float, 0–255, of the
    selection's image size.

    A view of the image is scored by a small network; the selection layer chooses K patches (in
    training by whatever its `selector` says); one backbone turns each into a vector; they are
    aggregated; `Dense(D) → swish → Dense(C)` classifies. The loss is the mean cross-entropy, minus
    `entropy_weight` times the entropy of the softmax of the raw scores (soft selectors and
    "reinforce" only), and with the selector "reinforce" the policy gradient of the hit reward with
    a moving baseline.

    Args:
        backbone: A `Backbone`; its input size is the size of the patches.
        selection: A `PatchSelection` with a `view_size`.
        num_classes: Number of classes C.
        scorer: Layer from a view `[B, h, w, 3]` to scores `[B, rows, cols]`; None for a
            `ConvScorer`. Views are scaled as the backbone's input is.
        aggregation: Layer from `[B, K, D]` (or, with `takes_indicators`, that and the indicators)
            to a vector and the weights of the patches; None for `MeanAggregation`.
        hidden_units: Width of the hidden layer of the head; None for that of the aggregated vector,
            0 for no hidden layer.
        entropy_weight: Weight of the entropy of the scores; positive rewards high entropy.
        scorer_delay: Training steps before the scorer learns. (Not published.) While the backbone
            cannot read them yet, objects are noise that the loss is lower without: a scorer that
            learns from the first step on learns to avoid them. Until then it chooses by its random
            weights (convolutions under a max-pooling favour what is rich in contrast), and soft
            selectors take one noise sample instead of the mean of many: whole patches, no blends.
        policy_weight: Weight of the policy gradient ("reinforce").
        initial_baseline: First value of the reward baseline ("reinforce").
        position_channels: Whether two channels with the row and the column of each pixel in the
            image follow those of the patches, see `PatchSelection.pixel_positions`: for tasks in
            which order or distance counts. The backbone takes five channels then; the scorer takes
            three. (Patch selection, CVPR 2021, has it for its baselines.)
        dropout: Drop probability before the last dense layer.
        seed: Seed of noise, draws and dropout.
        **kwargs: `l2`, `l2_scope`, `contrastive_weight`, `contrastive_margin`, see
            `HardAttentionModel`, and what a Keras model takes.

    Raises:
        ValueError: If parts do not fit each other.

    Example:

    ```python
    selection = PatchSelection(2, image_size=(96, 96), view_size=(48, 48), patch_size=(32, 32))
    backbone = Backbone("convnet", input_shape=(32, 32, 3))
    model = PatchSelectionClassifier(backbone, selection, num_classes=9)
    model.attend(keras.ops.zeros((1, 96, 96, 3)))["boxes"].shape    # (1, 2, 4)
    ```
    """

    def __init__(
        self,
        backbone,
        selection,
        num_classes,
        scorer=None,
        aggregation=None,
        hidden_units=None,
        entropy_weight=0.01,
        scorer_delay=0,
        policy_weight=1.0,
        initial_baseline=0.5,
        position_channels=False,
        dropout=0.0,
        seed=None,
        **kwargs,
    ):
        head = ClassifierHead(num_classes, dropout, "lecun_normal", seed=seed, name="classifier")
        super().__init__(num_classes=num_classes, seed=seed, **kwargs)
        if not isinstance(backbone, Backbone):
            raise ValueError(
                "`backbone` must be a tnet_keras.backbones.Backbone. "
                f"Received: backbone={backbone!r}"
            )
        if not isinstance(selection, PatchSelection) or selection.view_size is None:
            raise ValueError(
                "`selection` must be a PatchSelection with a `view_size`. "
                f"Received: selection={selection!r}"
            )
        if selection.patch_size != backbone.image_shape[:2]:
            raise ValueError(
                f"`backbone` must take the {selection.patch_size} patches of the selection. "
                f"Received: backbone.image_shape={backbone.image_shape}"
            )
        check_position_channels(backbone, position_channels)
        if selection.selector == "sinkhorn" and getattr(aggregation, "fixed_count", False):
            raise ValueError(
                "`aggregation` must not depend on the order of the patches with "
                "selector='sinkhorn', which orders them by score in training only. "
                f"Received: aggregation={aggregation!r}"
            )
        self.backbone, self.classifier = backbone, head
        self.scorer = ConvScorer(name="scorer") if scorer is None else scorer
        self.aggregation = (
            MeanAggregation(name="aggregation") if aggregation is None else aggregation
        )
        self.hidden_units, self.position_channels = hidden_units, position_channels
        check_count("scorer_delay", scorer_delay, 0)
        self.scorer_delay = scorer_delay
        self.image_size = selection.image_size
        self.set_selection(selection, entropy_weight, policy_weight, initial_baseline)
        self._build_parts()

    def _build_parts(self):
        self.backbone.build((None, *self.backbone.image_shape))
        if not self.scorer.built:
            self.scorer.build((None, *self.selection.view_size, 3))
        width, k = self.backbone.feature_dim, self.selection.num_patches
        features, indicators = (None, k, width), (None, k, self.selection.num_candidates)
        takes = getattr(self.aggregation, "takes_indicators", False)
        if not self.aggregation.built:
            self.aggregation.build((features, indicators) if takes else features)
        width = getattr(self.aggregation, "output_dim", None) or width
        units = width if self.hidden_units is None else self.hidden_units
        self.hidden = None
        if units:
            self.hidden = keras.layers.Dense(
                units, "swish", kernel_initializer="lecun_normal", name="hidden"
            )
            self.hidden.build((None, width))
            width = units
        self.classifier.build((None, width))
        self.built = True

    def build(self, input_shape=None):
        self.built = True

    def call(self, images, training=False, locations=None):
        """Class logits.

        Args:
            images: `[B, H, W, 3]`, uint8 or float, 0–255.
            training: Whether patches are chosen as in training.
            locations: `(K,)`, number of patches, or None for the model's own.

        Returns:
            float32 `[B, C]`.
        """
        return self._forward(images, training, self._count(locations))["logits"]

    def attend(self, images, locations=None, cells=None):
        """Classifies and says where it looked (inference: the K best candidates).

        There is no context vector: entry 0 of the features has weight 0 and zero logits.

        Args:
            images: `[B, H, W, 3]`, uint8 or float, 0–255.
            locations: `(K,)`, number of patches, or None for the model's own.
            cells: Optional list with one int `[B, 1, K]`: candidates to take instead of the best.

        Returns:
            dict as of `TNet.attend`: `logits`, `probabilities`, `boxes`, `levels` (all 2),
            `location_probabilities` (one `[B, 1, N]`, softmax of the scores), `selected` (one
            `[B, 1, K]`), `box_probabilities`, `feature_logits`, `feature_weights`,
            `attended_logits`.

        Raises:
            ValueError: If the images, locations or cells are not usable.
        """
        selected = None
        if cells is not None:
            selected, locations = forced_candidates(cells)
        k = self._count(locations)
        path = self._forward(images, False, k, selected)
        probabilities = tf.nn.softmax(path["scores"])
        chosen = path["selected"]
        batch = tf.shape(chosen)[0]
        width = path["features"].shape[-1]
        alone = self._aggregate(
            tf.reshape(path["features"], [-1, 1, width]),
            tf.reshape(path["indicators"], [-1, 1, self.selection.num_candidates]),
            False,
        )[0]
        feature_logits = tf.reshape(self._classify(alone, False), [batch, k, self.num_classes])
        return {
            "logits": path["logits"],
            "probabilities": tf.nn.softmax(path["logits"]),
            "boxes": path["boxes"],
            "levels": tf.fill([batch, k], 2),
            "location_probabilities": [probabilities[:, None]],
            "selected": [chosen[:, None]],
            "box_probabilities": tf.gather(probabilities, chosen, batch_dims=1),
            "feature_logits": tf.pad(feature_logits, [[0, 0], [1, 0], [0, 0]]),
            "feature_weights": tf.pad(path["weights"], [[0, 0], [1, 0]]),
            "attended_logits": path["logits"],
        }

    def aggregated_features(self, images):
        """The aggregated vector of the K best patches, before the hidden layer (inference).

        Args:
            images: `[B, H, W, 3]`, uint8 or float, 0–255.

        Returns:
            `[B, D]`, the model's compute dtype.
        """
        return self._forward(images, False, self.selection.num_patches)["aggregated"]

    def _count(self, locations):
        if locations is None:
            return self.selection.num_patches
        counts = locations if isinstance(locations, (tuple, list)) else ()
        most = self.selection.num_candidates
        if len(counts) != 1 or counts[0] not in range(1, most + 1):
            raise ValueError(
                f"`locations` must be (K,) with K in 1..{most}: there is no context vector. "
                f"Received: locations={locations!r}"
            )
        if getattr(self.aggregation, "fixed_count", False) and counts[0] != (
            self.selection.num_patches
        ):
            raise ValueError(
                "`locations` cannot be changed with this aggregation. "
                f"Received: locations={locations!r}, built for {self.selection.num_patches}"
            )
        return int(counts[0])

    def _forward(self, images, training, k, selected=None):
        images = check_images(images)
        view = downscale_view(images, self.selection.view_size)
        scores = self.scorer(self.backbone.scale_images(view))
        scores = tf.reshape(scores, [-1, self.selection.num_candidates])
        # None where nothing is drawn: inference changes no variable.
        seed = self.next_seed() if self.selection.uses_seed(training) else None

        def select(scores, selected=selected):
            return self.selection(
                (images, scores), training=training, num_patches=k, selected=selected, seed=seed
            )

        if training and self.scorer_delay:
            still = tf.stop_gradient(scores)
            soft = self.selection.is_soft(training)
            path = tf.cond(
                tf.convert_to_tensor(self.selection.step) < float(self.scorer_delay),
                lambda: select(still, self.selection.crisp(still, k, seed) if soft else None),
                lambda: select(scores),
            )
        else:
            path = select(scores)
        patches = path["patches"]
        if self.position_channels:
            positions = self.selection.pixel_positions(path["indicators"])
            patches = tf.concat([patches, positions], axis=-1)
        patches = tf.reshape(patches, [-1, *self.backbone.image_shape])
        vectors = self.backbone(patches, level=1, training=training)[1]
        features = tf.reshape(vectors, [-1, k, vectors.shape[-1]])
        vector, weights = self._aggregate(features, path["indicators"], training)
        return {
            **path,
            "scores": scores,
            "features": features,
            "aggregated": vector,
            "weights": weights,
            "logits": self._classify(vector, training),
        }

    def _aggregate(self, features, indicators, training):
        if getattr(self.aggregation, "takes_indicators", False):
            return self.aggregation((features, indicators), training=training)
        return self.aggregation(features)

    def _classify(self, vector, training):
        hidden = vector if self.hidden is None else self.hidden(vector)
        return self.classifier(hidden, training=training)

    def training_terms(self, images, labels, sample_weight, training):
        """Cross-entropy, entropy and policy terms; see `HardAttentionModel`.

        Args:
            images: `[B, H, W, 3]`.
            labels: int `[B]`.
            sample_weight: `[B]` or None.
            training: As in Keras.

        Returns:
            `(terms, outputs)`, two dicts.
        """
        path = self._forward(images, training, self.selection.num_patches)
        weights = 1.0 if sample_weight is None else tf.cast(sample_weight, tf.float32)
        logits = path["logits"]
        terms = {"cross_entropy": tf.reduce_mean(weights * cross_entropy(logits, labels))}
        own_terms, reported = self.selection_terms(path, logits, labels, weights)
        terms |= own_terms
        self.add_regularizers(terms, path["aggregated"], labels)
        outputs = {"logits": logits, "labels": labels, "sample_weight": sample_weight}
        return terms, outputs | reported

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "scorer": serialize(self.scorer),
            "aggregation": serialize(self.aggregation),
            "hidden_units": self.hidden_units,
            "scorer_delay": self.scorer_delay,
            "position_channels": self.position_channels,
            "dropout": self.classifier.dropout,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        for part in ("selection", "scorer", "aggregation"):
            if isinstance(config[part], dict):
                config[part] = keras.saving.deserialize_keras_object(config[part])
        return super().from_config(config)
