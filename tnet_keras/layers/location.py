"""Location modules: from a backbone's map to a logit for every candidate cell."""

import keras
import numpy as np
import tensorflow as tf

from tnet_keras.layers.initializers import conv_initializer
from tnet_keras.ops.checks import check_count


def unit_norm_logits(logits):
    """Scales logits to Euclidean norm 1, as the released TNet does before its softmax.

    This bounds the policy: no probability can exceed 0.1036 for K = 25 or 0.2653 for K = 9.
    All-zero logits stay zero (the released code divides by zero there).

    Args:
        logits: `[..., K]`, float.

    Returns:
        float32 `[..., K]`.
    """
    return tf.math.l2_normalize(tf.cast(logits, tf.float32), axis=-1, epsilon=1e-24)


class _LocationModule(keras.layers.Layer):
    """What both forms share: the two learned coordinates and the optional unit norm."""

    def __init__(self, unit_norm=True, **kwargs):
        super().__init__(**kwargs)
        self.unit_norm = unit_norm
        # One learned scale and shift per axis, from the identity.
        self.row_affine = keras.layers.Dense(
            1, kernel_initializer="ones", dtype=self.dtype_policy, name="row_affine"
        )
        self.col_affine = keras.layers.Dense(
            1, kernel_initializer="ones", dtype=self.dtype_policy, name="col_affine"
        )

    def build(self, input_shape):
        map_shape, vector_shape = input_shape
        if len(map_shape) != 4 or len(vector_shape) != 2:
            raise ValueError(
                "A location module takes (map [B, rows, cols, c], vector [B, D]). "
                f"Received: shapes={tuple(map_shape)}, {tuple(vector_shape)}"
            )
        self.row_affine.build((None, 1))
        self.col_affine.build((None, 1))
        self._build_convolutions(tuple(map_shape), tuple(vector_shape))
        self.built = True

    def _append_coordinates(self, x):
        rows, cols = x.shape[1], x.shape[2]

        def line(length, affine):
            # One cell has no extent: its coordinate is the middle.
            ends = np.linspace(-1.0, 1.0, length) if length > 1 else np.zeros(1)
            return tf.cast(affine(tf.constant(ends[:, None], tf.float32)), x.dtype)

        shape = [tf.shape(x)[0], rows, cols, 1]
        row = tf.broadcast_to(line(rows, self.row_affine)[:, None], shape)
        col = tf.broadcast_to(line(cols, self.col_affine)[None], shape)
        return tf.concat([x, row, col], axis=-1)

    def raw_logits(self, inputs):
        """Logits before the unit norm.

        Args:
            inputs: `(map [B, rows, cols, c], vector [B, D])`.

        Returns:
            float32 `[B, rows · cols]`, row-major.
        """
        scores = self._score(*inputs)
        cells = scores.shape[1] * scores.shape[2]
        return tf.cast(tf.reshape(scores, [-1, cells]), tf.float32)

    def call(self, inputs):
        logits = self.raw_logits(inputs)
        return unit_norm_logits(logits) if self.unit_norm else logits

    def get_config(self):
        return {**super().get_config(), "unit_norm": self.unit_norm}


@keras.saving.register_keras_serializable(package="tnet_keras")
class ContextLocationModule(_LocationModule):
    """TNet's location module of the ImageNet model: the context vector is tiled over the cells.

    concat(map, tiled vector, row, column) → 1×1 conv, leaky ReLU 0.2 → 1×1 conv to one logit
    (→ unit norm). Output: float32 logits `[B, rows · cols]`, row-major.

    Args:
        hidden: Width of the hidden layer, at least 1; None for the width of the vector.
        unit_norm: Whether logits are scaled to Euclidean norm 1 (as published).
        leaky_slope: Negative slope of the activation.

    Raises:
        ValueError: If `hidden` is less than 1.

    Example:

    ```python
    module = ContextLocationModule()
    logits = module((keras.ops.ones((2, 5, 5, 8)), keras.ops.ones((2, 16))))   # [2, 25]
    ```
    """

    def __init__(self, hidden=None, unit_norm=True, leaky_slope=0.2, **kwargs):
        super().__init__(unit_norm=unit_norm, **kwargs)
        if hidden is not None:
            check_count("hidden", hidden, 1)
        self.hidden = hidden
        self.leaky_slope = leaky_slope

    def _build_convolutions(self, map_shape, vector_shape):
        rows, cols, channels = map_shape[1:]
        hidden = self.hidden or vector_shape[-1]
        self.hidden_conv = keras.layers.Conv2D(
            hidden, 1, kernel_initializer="glorot_normal", dtype=self.dtype_policy, name="hidden"
        )
        self.output_conv = keras.layers.Conv2D(
            1, 1, kernel_initializer="glorot_normal", dtype=self.dtype_policy, name="output"
        )
        self.hidden_conv.build((None, rows, cols, channels + vector_shape[-1] + 2))
        self.output_conv.build((None, rows, cols, hidden))

    def _score(self, features, vector):
        rows, cols = features.shape[1], features.shape[2]
        tiled = tf.tile(tf.cast(vector, features.dtype)[:, None, None], [1, rows, cols, 1])
        x = self._append_coordinates(tf.concat([features, tiled], axis=-1))
        x = tf.nn.leaky_relu(self.hidden_conv(x), self.leaky_slope)
        return self.output_conv(x)

    def get_config(self):
        return {**super().get_config(), "hidden": self.hidden, "leaky_slope": self.leaky_slope}


@keras.saving.register_keras_serializable(package="tnet_keras")
class SqueezeExciteLocationModule(_LocationModule):
    """TNet's location module of the EfficientNet models: context by squeeze-and-excite.

    1×1 conv, swish → squeeze-and-excite over the grid (mean → c/2, swish → c, sigmoid) →
    concat(row, column) → 1×1 conv, swish → 1×1 conv to one logit (→ unit norm). The vector is not
    used. Output: float32 logits `[B, rows · cols]`, row-major.

    Args:
        unit_norm: Whether logits are scaled to Euclidean norm 1 (as published).

    Example:

    ```python
    module = SqueezeExciteLocationModule()
    logits = module((keras.ops.ones((2, 3, 3, 80)), keras.ops.ones((2, 1280))))   # [2, 9]
    ```
    """

    def _build_convolutions(self, map_shape, vector_shape):
        rows, cols, channels = map_shape[1:]

        def conv(width, name, inputs, activation=None):
            layer = keras.layers.Conv2D(
                width, 1, activation=activation, kernel_initializer=conv_initializer(),
                dtype=self.dtype_policy, name=name,
            )
            layer.build((None, rows, cols, inputs))
            return layer

        self.first_conv = conv(channels, "first", channels, "swish")
        narrow = max(1, channels // 2)
        self.squeeze = conv(narrow, "squeeze", channels, "swish")
        self.excite = conv(channels, "excite", narrow, "sigmoid")
        self.final_conv = conv(channels, "final", channels + 2, "swish")
        self.output_conv = conv(1, "output", channels)

    def _score(self, features, vector):
        x = self.first_conv(features)
        x *= self.excite(self.squeeze(tf.reduce_mean(x, axis=[1, 2], keepdims=True)))
        return self.output_conv(self.final_conv(self._append_coordinates(x)))
