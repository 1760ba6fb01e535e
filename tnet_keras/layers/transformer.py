"""Aggregation of patches by a small transformer with learned, soft positions."""

import keras
import tensorflow as tf

_RESIDUALS = ("post_norm", "gated")
_POOLINGS = {"sum": tf.reduce_sum, "mean": tf.reduce_mean, "max": tf.reduce_max}


@keras.saving.register_keras_serializable(package="tnet_keras")
class TransformerAggregation(keras.layers.Layer):
    """Transformer over the vectors of the patches, then pooled (patch selection, CVPR 2021).

    Each patch vector gets a learned position: a dense layer of its row of indicators, which for a
    one-hot row is the embedding of that candidate and for a soft row their mean. Then a projection
    to `hidden`, and blocks of multi-head self-attention and a ReLU network of width 2 · hidden,
    each followed by dropout, the residual sum and layer normalisation (ε 1e-6).
    Call with `(features [B, K, D], indicators [B, K, N])`; returns
    `(aggregated [B, hidden], weights float32 [B, K])`, weights 1/K.

    The released code leaves the dropout on at evaluation; `dropout_at_inference` does the same.

    Args:
        hidden: Width, divisible by `num_heads`.
        num_layers: Blocks.
        num_heads: Attention heads.
        dropout: Drop probability.
        dropout_at_inference: Whether dropout is on at inference too.
        pooling: "sum" (published), "mean" or "max" over the K tokens that leave the blocks.
        residual: "post_norm" (published): layer normalisation after each sum; or "gated": before
            attention and network, and what they give is multiplied by learned gains that start at
            0, so that an untrained layer passes its tokens through. That trains much faster on
            few examples.
        position_initializer: Keras initialiser of the learned positions, a name or a dict. That of
            the original makes them small against the features; larger ones are learned faster.
        seed: Seed of the dropout.

    Raises:
        ValueError: If `hidden` is not divisible by `num_heads`, or `pooling` or `residual` is
            unknown.

    Example:

    ```python
    layer = TransformerAggregation(hidden=16, num_heads=2, num_layers=1)
    layer((keras.ops.ones((2, 3, 8)), keras.ops.ones((2, 3, 20)) / 20))[0].shape   # (2, 16)
    ```
    """

    #: Is called with the indicators beside the features.
    takes_indicators = True

    def __init__(
        self,
        hidden=256,
        num_layers=3,
        num_heads=8,
        dropout=0.1,
        dropout_at_inference=False,
        pooling="sum",
        residual="post_norm",
        position_initializer="lecun_normal",
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if hidden % num_heads:
            raise ValueError(
                "`hidden` must be divisible by `num_heads`. "
                f"Received: hidden={hidden}, num_heads={num_heads}"
            )
        for name, value, known in (
            ("pooling", pooling, tuple(_POOLINGS)), ("residual", residual, _RESIDUALS),
        ):  # fmt: skip
            if value not in known:
                raise ValueError(
                    f"`{name}` must be one of {', '.join(known)}. Received: {name}={value!r}"
                )
        self.pooling, self.residual = pooling, residual
        self.position_initializer = keras.initializers.get(position_initializer)
        self.hidden, self.num_layers, self.num_heads = hidden, num_layers, num_heads
        self.output_dim = hidden
        self.dropout, self.dropout_at_inference, self.seed = dropout, dropout_at_inference, seed

    def build(self, input_shape):
        features, indicators = input_shape
        width, candidates = features[-1], indicators[-1]

        def dense(units, inputs, name, activation=None, initializer="lecun_normal"):
            layer = keras.layers.Dense(
                units, activation, kernel_initializer=initializer, dtype=self.dtype_policy,
                name=name,
            )  # fmt: skip
            layer.build((None, None, inputs))
            return layer

        initializer = self.position_initializer
        self.position = dense(width, candidates, "position", initializer=initializer)
        self.projection = dense(self.hidden, width, "projection")
        tokens = (None, None, self.hidden)
        self.blocks = []
        for index in range(1, self.num_layers + 1):
            attention = keras.layers.MultiHeadAttention(
                self.num_heads, self.hidden // self.num_heads, kernel_initializer="lecun_normal",
                dtype=self.dtype_policy, name=f"attention{index}",
            )  # fmt: skip
            attention.build(tokens, tokens)
            block = {
                "attention": attention,
                "widen": dense(2 * self.hidden, self.hidden, f"widen{index}", "relu"),
                "narrow": dense(self.hidden, 2 * self.hidden, f"narrow{index}"),
            }
            for part in ("attention", "network"):
                norm = keras.layers.LayerNormalization(
                    epsilon=1e-6, dtype=self.dtype_policy, name=f"{part}_norm{index}"
                )
                norm.build(tokens)
                seed = None if self.seed is None else self.seed + 2 * index + (part == "network")
                drop = keras.layers.Dropout(
                    self.dropout, seed=seed, dtype=self.dtype_policy, name=f"{part}_drop{index}"
                )
                block[f"{part}_norm"], block[f"{part}_drop"] = norm, drop
                if self.residual == "gated":
                    block[f"{part}_gain"] = self.add_weight(
                        shape=(self.hidden,), initializer="zeros", name=f"{part}_gain{index}"
                    )
            self.blocks.append(block)
        self.built = True

    def call(self, inputs, training=False):
        features, indicators = inputs
        training = training or self.dropout_at_inference
        x = features + self.position(tf.cast(indicators, features.dtype))
        x = self.projection(x)
        for block in self.blocks:
            for part, change in (("attention", self._attend), ("network", self._widen)):
                norm, drop = block[f"{part}_norm"], block[f"{part}_drop"]
                if self.residual == "gated":
                    gain = tf.cast(block[f"{part}_gain"], x.dtype)
                    x += gain * drop(change(block, norm(x)), training=training)
                else:
                    x = norm(x + drop(change(block, x), training=training))
        shape = tf.shape(features)[:2]
        weights = tf.fill(shape, 1.0 / tf.cast(shape[1], tf.float32))
        return _POOLINGS[self.pooling](x, axis=1), weights

    @staticmethod
    def _attend(block, x):
        return block["attention"](x, x)

    @staticmethod
    def _widen(block, x):
        return block["narrow"](block["widen"](x))

    def get_config(self):
        return {
            **super().get_config(),
            "hidden": self.hidden,
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
            "dropout": self.dropout,
            "dropout_at_inference": self.dropout_at_inference,
            "pooling": self.pooling,
            "residual": self.residual,
            "position_initializer": keras.initializers.serialize(self.position_initializer),
            "seed": self.seed,
        }
