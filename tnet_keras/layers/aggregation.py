"""From the vectors of all looked-at views to one vector, and to class logits."""

import keras
import tensorflow as tf

from tnet_keras.layers.initializers import dense_initializer
from tnet_keras.ops.checks import check_count


@keras.saving.register_keras_serializable(package="tnet_keras")
class MeanAggregation(keras.layers.Layer):
    """Plain mean over the feature vectors (TNet on ImageNet and fMoW).

    Call with `[B, N, D]`; returns `(aggregated [B, D], weights float32 [B, N])`, weights 1/N.

    Example:

    ```python
    MeanAggregation()(keras.ops.ones((2, 3, 8)))[0].shape   # (2, 8)
    ```
    """

    def build(self, input_shape):
        self.built = True

    def call(self, features):
        return tf.reduce_mean(features, axis=1), _equal_weights(features)


@keras.saving.register_keras_serializable(package="tnet_keras")
class FeatureWeighting(keras.layers.Layer):
    """Weighted mean with learned weights (TNet on CUB-200 and NABirds).

    X `[B, N, D]`; g = sigmoid(Dense_D(swish(Dense_{D/4}(mean_N X)))); one logit per vector from
    Dense_1(X · g); weights a = softmax over N; output Σ_n a_n X_n with the original X.
    Call with `[B, N, D]`; returns `(aggregated [B, D], weights float32 [B, N])`; the returned
    weights carry no gradient.

    Args:
        reduction: D divided by this is the width of the bottleneck, at least 1.

    Raises:
        ValueError: If `reduction` is less than 1.

    Example:

    ```python
    FeatureWeighting()(keras.ops.ones((2, 3, 8)))[1]   # all 1/3
    ```
    """

    def __init__(self, reduction=4, **kwargs):
        super().__init__(**kwargs)
        check_count("reduction", reduction, 1)
        self.reduction = reduction

    def build(self, input_shape):
        width = input_shape[-1]

        def dense(units, name, inputs, activation=None):
            layer = keras.layers.Dense(
                units, activation=activation, kernel_initializer=dense_initializer(),
                dtype=self.dtype_policy, name=name,
            )
            layer.build((None, inputs))
            return layer

        hidden = max(1, width // self.reduction)
        self.squeeze = dense(hidden, "squeeze", width, "swish")
        self.excite = dense(width, "excite", hidden, "sigmoid")
        self.output_dense = dense(1, "output", width)
        self.built = True

    def call(self, features):
        gate = self.excite(self.squeeze(tf.reduce_mean(features, axis=1)))
        logits = self.output_dense(features * gate[:, None])[..., 0]
        weights = tf.nn.softmax(tf.cast(logits, tf.float32))
        mixed = tf.reduce_sum(tf.cast(weights, features.dtype)[..., None] * features, axis=1)
        return mixed, tf.stop_gradient(weights)

    def get_config(self):
        return {**super().get_config(), "reduction": self.reduction}


@keras.saving.register_keras_serializable(package="tnet_keras")
class MaxAggregation(keras.layers.Layer):
    """Largest value of each feature over the vectors (patch selection).

    Call with `[B, N, D]`; returns `(aggregated [B, D], weights float32 [B, N])`: the weight of a
    vector is the share of features that it is the largest in (the first one where several are),
    without gradient.

    Example:

    ```python
    MaxAggregation()(keras.ops.ones((2, 3, 8)))[1]   # [1, 0, 0]
    ```
    """

    def build(self, input_shape):
        self.built = True

    def call(self, features):
        winners = tf.one_hot(tf.argmax(features, axis=1), tf.shape(features)[1])
        return tf.reduce_max(features, axis=1), tf.reduce_mean(winners, axis=1)


@keras.saving.register_keras_serializable(package="tnet_keras")
class SumAggregation(keras.layers.Layer):
    """Sum over the vectors, then layer normalisation (patch selection).

    Call with `[B, N, D]`; returns `(aggregated [B, D], weights float32 [B, N])`, weights 1/N.

    Args:
        epsilon: Added to the variance.

    Example:

    ```python
    SumAggregation()(keras.ops.ones((2, 3, 8)))[0].shape   # (2, 8)
    ```
    """

    def __init__(self, epsilon=1e-6, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.norm = keras.layers.LayerNormalization(
            epsilon=epsilon, dtype=self.dtype_policy, name="norm"
        )

    def build(self, input_shape):
        self.norm.build((None, input_shape[-1]))
        self.built = True

    def call(self, features):
        return self.norm(tf.reduce_sum(features, axis=1)), _equal_weights(features)

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}


@keras.saving.register_keras_serializable(package="tnet_keras")
class ConcatenationAggregation(keras.layers.Layer):
    """All vectors one after the other: a fixed number of them, in their order.

    Call with `[B, N, D]`; returns `(aggregated [B, N · D], weights float32 [B, N])`, weights 1/N.
    Fewer vectors than it was built for are filled up with zeros.

    Example:

    ```python
    ConcatenationAggregation()(keras.ops.ones((2, 3, 8)))[0].shape   # (2, 24)
    ```
    """

    #: Models do not let the number of locations be changed at call time.
    fixed_count = True

    def build(self, input_shape):
        if input_shape[1] is None:
            raise ValueError(
                f"Concatenation needs a fixed number of vectors. Received: shape={input_shape}"
            )
        self.count, self.output_dim = input_shape[1], input_shape[1] * input_shape[2]
        self.built = True

    def call(self, features):
        missing = self.count - features.shape[1]
        padded = tf.pad(features, [[0, 0], [0, missing], [0, 0]])
        return tf.reshape(padded, [-1, self.output_dim]), _equal_weights(features)


def _equal_weights(features):
    shape = tf.shape(features)[:2]
    return tf.fill(shape, 1.0 / tf.cast(shape[1], tf.float32))


@keras.saving.register_keras_serializable(package="tnet_keras")
class ClassifierHead(keras.layers.Layer):
    """Dropout and one dense layer, float32 logits under every dtype policy.

    Works on any leading axes: `[..., D]` → `[..., num_classes]`.

    Args:
        num_classes: Number of classes C, at least 1.
        dropout: Drop probability before the dense layer, in [0, 1).
        kernel_initializer: Initialiser of the dense layer; None for that of EfficientNet.
        seed: Seed of the dropout.

    Raises:
        ValueError: If `num_classes` is less than 1 or `dropout` outside [0, 1).

    Example:

    ```python
    ClassifierHead(num_classes=10)(keras.ops.ones((2, 3, 8))).shape   # (2, 3, 10)
    ```
    """

    def __init__(self, num_classes, dropout=0.0, kernel_initializer=None, seed=None, **kwargs):
        super().__init__(**kwargs)
        if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
            raise ValueError(
                "`num_classes` must be an integer of at least 1. "
                f"Received: num_classes={num_classes!r}"
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"`dropout` must be in [0, 1). Received: dropout={dropout}")
        self.num_classes = num_classes
        self.dropout = dropout
        self.kernel_initializer = kernel_initializer
        self.seed = seed
        self.drop = keras.layers.Dropout(dropout, seed=seed, dtype=self.dtype_policy)
        self.dense = keras.layers.Dense(
            num_classes,
            kernel_initializer=kernel_initializer or dense_initializer(),
            dtype="float32",
            name="dense",
        )

    def build(self, input_shape):
        self.dense.build((None, input_shape[-1]))
        self.built = True

    def call(self, features, training=None):
        return self.dense(tf.cast(self.drop(features, training=training), tf.float32))

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "dropout": self.dropout,
            "kernel_initializer": self.kernel_initializer,
            "seed": self.seed,
        }
