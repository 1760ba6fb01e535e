"""The plain network on the full image: what hard attention is compared with."""

import keras
import tensorflow as tf

from tnet_keras.backbones import Backbone
from tnet_keras.layers import ClassifierHead
from tnet_keras.learning import cross_entropy
from tnet_keras.models.checks import check_images, check_position_channels
from tnet_keras.models.hard_attention import HardAttentionModel
from tnet_keras.ops import downscale_view, resize_view


@keras.saving.register_keras_serializable(package="tnet_keras")
class FullImageClassifier(HardAttentionModel):
    """Backbone, global pooling and a linear classifier on the whole image.

    `model(images)` → float32 logits `[B, C]`; images `[B, H, W, 3]`, uint8 or float, 0–255, resized
    to the backbone's input size where they differ.

    Args:
        backbone: A `tnet_keras.backbones.Backbone`.
        num_classes: Number of classes C.
        dropout: Drop probability before the classifier.
        classifier_initializer: Kernel initialiser of the classifier, or None.
        position_channels: Whether two channels with the row and the column of each pixel follow
            the image's own, in 0–255 as those are: with the input scaling "unit" from 0 to 1, as
            the baselines of patch selection (CVPR 2021) have them. The backbone takes five
            channels then.
        antialias: Whether every pixel counts where images are resized (`downscale_view`), instead
            of those next to the new ones only (`resize_view`).
        seed: Seed of the dropout.
        **kwargs: `l2`, `l2_scope`, `contrastive_weight`, `contrastive_margin`, see
            `HardAttentionModel`, and what a Keras model takes.

    Raises:
        ValueError: If `backbone` is not a `Backbone`, or takes another number of channels.

    Example:

    ```python
    backbone = Backbone("convnet", input_shape=(64, 64, 3))
    FullImageClassifier(backbone, num_classes=10)(keras.ops.zeros((1, 64, 64, 3)))   # [1, 10]
    ```
    """

    def __init__(
        self,
        backbone,
        num_classes,
        dropout=0.0,
        classifier_initializer=None,
        position_channels=False,
        antialias=False,
        seed=None,
        **kwargs,
    ):
        head = ClassifierHead(
            num_classes, dropout, classifier_initializer, seed=seed, name="classifier"
        )
        super().__init__(num_classes=num_classes, seed=seed, **kwargs)
        if not isinstance(backbone, Backbone):
            raise ValueError(
                "`backbone` must be a tnet_keras.backbones.Backbone. "
                f"Received: backbone={backbone!r}"
            )
        check_position_channels(backbone, position_channels)
        self.backbone, self.classifier = backbone, head
        self.position_channels, self.antialias = position_channels, antialias
        self.image_size = backbone.image_shape[:2]
        backbone.build((None, *backbone.image_shape))
        head.build((None, backbone.feature_dim))
        self.built = True

    def build(self, input_shape=None):
        self.built = True

    def call(self, images, training=False):
        """Class logits.

        Args:
            images: `[B, H, W, 3]`, uint8 or float, 0–255.
            training: As in Keras.

        Returns:
            float32 `[B, C]`.
        """
        return self.classifier(self._features(images, training), training=training)

    def aggregated_features(self, images):
        """The vector of the image that the classifier sees (inference).

        Args:
            images: `[B, H, W, 3]`, uint8 or float, 0–255.

        Returns:
            `[B, D]`, the model's compute dtype.
        """
        return self._features(images, training=False)

    def _features(self, images, training):
        resize = downscale_view if self.antialias else resize_view
        view = resize(check_images(images), self.image_size)
        if self.position_channels:
            view = _with_positions(view)
        return self.backbone(view, level=1, training=training)[1]

    def training_terms(self, images, labels, sample_weight, training):
        """Mean cross-entropy and penalties; see `HardAttentionModel`.

        Args:
            images: `[B, H, W, 3]`.
            labels: int `[B]`.
            sample_weight: `[B]` or None.
            training: As in Keras.

        Returns:
            `(terms, outputs)`, two dicts.
        """
        vector = self._features(images, training)
        logits = self.classifier(vector, training=training)
        losses = cross_entropy(logits, labels)
        if sample_weight is not None:
            losses *= tf.cast(sample_weight, tf.float32)
        terms = {"cross_entropy": tf.reduce_mean(losses)}
        self.add_regularizers(terms, vector, labels)
        return terms, {"logits": logits, "labels": labels, "sample_weight": sample_weight}

    def get_config(self):
        return {
            **super().get_config(),
            "dropout": self.classifier.dropout,
            "classifier_initializer": self.classifier.kernel_initializer,
            "position_channels": self.position_channels,
            "antialias": self.antialias,
        }


def _with_positions(images):
    """Appends the coordinates of the pixels, from 0 (top, left) to 255: `[B, H, W, C + 2]`."""
    batch, height, width = tf.shape(images)[0], *images.shape[1:3]
    rows, columns = tf.meshgrid(
        tf.linspace(0.0, 255.0, height), tf.linspace(0.0, 255.0, width), indexing="ij"
    )
    positions = tf.tile(tf.stack([rows, columns], axis=-1)[None], [batch, 1, 1, 1])
    return tf.concat([tf.cast(images, tf.float32), positions], axis=-1)
