"""Sinusoidal positional encoding over (y, x, scale)."""

import keras
import numpy as np
import tensorflow as tf

from tnet_keras.layers.initializers import dense_initializer
from tnet_keras.ops.checks import check_count

MAX_INVERSE_FREQUENCY = 100.0


def sinusoidal_code(positions, dim):
    """Sinusoidal code of positions (y, x, s).

    With m = floor(dim / 6) frequencies `w_i = 100^(-i / (m-1))`, i = 0..m-1:

        [sin(y·w), cos(y·w), sin(x·w), cos(x·w), sin(s·w), cos(s·w), zeros(dim - 6m)]

    (TNet; the maximum inverse frequency is 100.)

    Args:
        positions: `[..., 3]`, (row, column, level - 1) on the lattice of the level's cells.
        dim: Length of the code, at least 6.

    Returns:
        float32 `[..., dim]`, in [-1, 1].

    Raises:
        ValueError: If `dim` is less than 6.
    """
    count = int(dim) // 6
    if count < 1:
        raise ValueError(f"`dim` must be at least 6. Received: dim={dim}")
    exponent = np.arange(count) / (count - 1) if count > 1 else np.zeros(1)
    frequencies = tf.constant(np.exp(-np.log(MAX_INVERSE_FREQUENCY) * exponent), tf.float32)
    positions = tf.cast(positions, tf.float32)
    angles = positions[..., None] * frequencies
    waves = tf.stack([tf.sin(angles), tf.cos(angles)], axis=-2)  # [..., 3, 2, m]
    lead = tf.shape(positions)[:-1]
    code = tf.reshape(waves, tf.concat([lead, [6 * count]], axis=0))
    tail = tf.zeros(tf.concat([lead, [dim - 6 * count]], axis=0), tf.float32)
    code = tf.concat([code, tail], axis=-1)
    return tf.ensure_shape(code, [*positions.shape[:-1], dim])


@keras.saving.register_keras_serializable(package="tnet_keras")
class PositionalEncoding(keras.layers.Layer):
    """Mixes a feature vector with the code of where it comes from.

    Call with `(features [N, D], positions [N, 3])`; returns `[N, D]`.

    Args:
        form: "concat": Dense(concat(V, code)), no activation (TNet on ImageNet); or "add":
            swish(V + Dense(code)) (TNet's EfficientNet models).
        code_dim: Length P of the code, at least 6; None for D with "concat" and D // 4 with "add".

    Raises:
        ValueError: If `form` is unknown or `code_dim` less than 6.

    Example:

    ```python
    layer = PositionalEncoding(form="add")
    layer((keras.ops.ones((4, 32)), keras.ops.zeros((4, 3))))   # [4, 32]
    ```
    """

    def __init__(self, form="concat", code_dim=None, **kwargs):
        super().__init__(**kwargs)
        if form not in ("concat", "add"):
            raise ValueError(f"`form` must be 'concat' or 'add'. Received: form={form!r}")
        if code_dim is not None:
            check_count("code_dim", code_dim, 6)
        self.form = form
        self.code_dim = code_dim

    def build(self, input_shape):
        width = input_shape[0][-1]
        self._code_dim = self.code_dim or (width if self.form == "concat" else max(6, width // 4))
        self.dense = keras.layers.Dense(
            width,
            kernel_initializer="glorot_normal" if self.form == "concat" else dense_initializer(),
            dtype=self.dtype_policy,
            name="dense",
        )
        self.dense.build((None, self._code_dim + (width if self.form == "concat" else 0)))
        self.built = True

    def call(self, inputs):
        features, positions = inputs
        code = tf.cast(sinusoidal_code(positions, self._code_dim), features.dtype)
        if self.form == "concat":
            return self.dense(tf.concat([features, code], axis=-1))
        return tf.nn.silu(features + self.dense(code))

    def get_config(self):
        return {**super().get_config(), "form": self.form, "code_dim": self.code_dim}
