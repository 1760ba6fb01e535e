"""Scorers of patch selection: from a cheap view, or a backbone's map, to a score per candidate."""

import keras
import tensorflow as tf

from tnet_keras.geometry import NTS_ANCHORS, score_map_size


class _SqueezeExcite(keras.layers.Layer):
    """Scales channels by a gate computed from their means: two bias-free dense layers."""

    def __init__(self, hidden, **kwargs):
        super().__init__(**kwargs)
        self.hidden = hidden

    def build(self, input_shape):
        channels = input_shape[-1]
        options = {"use_bias": False, "kernel_initializer": "lecun_normal"}
        self.squeeze = keras.layers.Dense(
            self.hidden, "relu", dtype=self.dtype_policy, name="squeeze", **options
        )
        self.excite = keras.layers.Dense(
            channels, "sigmoid", dtype=self.dtype_policy, name="excite", **options
        )
        self.squeeze.build((None, channels))
        self.excite.build((None, self.hidden))
        self.built = True

    def call(self, inputs):
        """Gate `[B, 1, .., C]` of `[B, .., C]`: over several maps if they are concatenated."""
        return self.excite(self.squeeze(inputs))


@keras.saving.register_keras_serializable(package="tnet_keras")
class ConvScorer(keras.layers.Layer):
    """The four-layer scorer of patch selection: one score per 8x8 block of a small view.

    Valid 3x3 convolutions of 8, 16, 32 and 1 filters, ReLU after the first three, then 8x8 max
    pooling: float32 scores `[B, rows, cols]` with `rows = (h - 16) // 8 + 1`. 6,321 parameters for
    RGB, 6,481 with squeeze-and-excite. (CVPR 2021.)

    Args:
        filters: Filters of the convolutions but the last.
        squeeze_excite: Whether channels are gated after all hidden convolutions but the first.
        reduction: Channels per hidden unit of the gate.

    Raises:
        ValueError: If the view is smaller than the receptive field of a score, 16 pixels.

    Example:

    ```python
    ConvScorer()(keras.ops.zeros((2, 64, 80, 3)))   # [2, 7, 9]
    ```
    """

    def __init__(self, filters=(8, 16, 32), squeeze_excite=False, reduction=16, **kwargs):
        super().__init__(**kwargs)
        self.filters = tuple(filters)
        self.squeeze_excite, self.reduction = squeeze_excite, reduction

    def build(self, input_shape):
        if len(input_shape) != 4:
            raise ValueError(f"A scorer takes views [B, h, w, C]. Received: shape={input_shape}")
        if input_shape[1] is not None and input_shape[2] is not None:
            score_map_size(input_shape[1:3])
        self.convolutions, self.gates = [], {}
        channels = input_shape[-1]
        for index, width in enumerate((*self.filters, 1), start=1):
            layer = keras.layers.Conv2D(
                width, 3, kernel_initializer="lecun_normal", dtype=self.dtype_policy,
                name=f"conv{index}",
            )  # fmt: skip
            layer.build((None, None, None, channels))
            self.convolutions.append(layer)
            if self.squeeze_excite and 1 < index <= len(self.filters):
                gate = _SqueezeExcite(
                    max(1, width // self.reduction), dtype=self.dtype_policy, name=f"gate{index}"
                )
                gate.build((None, width))
                setattr(self, f"gate{index}", gate)
                self.gates[index] = gate
            channels = width
        self.built = True

    def call(self, inputs):
        """Scores of a view.

        Args:
            inputs: `[B, h, w, C]`, float, scaled as the backbone's input.

        Returns:
            float32 `[B, rows, cols]`.
        """
        x = tf.cast(inputs, self.compute_dtype)
        for index, layer in enumerate(self.convolutions, start=1):
            x = layer(x)
            if index <= len(self.filters):
                x = tf.nn.relu(x)
            if index in self.gates:
                x *= self.gates[index](tf.reduce_mean(x, axis=[1, 2], keepdims=True))
        scores = tf.nn.max_pool2d(x, 8, 8, "VALID")
        return tf.cast(scores[..., 0], tf.float32)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *score_map_size(input_shape[1:3]))

    def get_config(self):
        return {
            **super().get_config(),
            "filters": list(self.filters),
            "squeeze_excite": self.squeeze_excite,
            "reduction": self.reduction,
        }


@keras.saving.register_keras_serializable(package="tnet_keras")
class RegionProposalScorer(keras.layers.Layer):
    """The proposal net of NTS-Net: scores of 1,614 anchors over three levels of a pyramid.

    From a backbone's map, 3x3 convolutions of stride 1, 2 and 2 (same padding, ReLU), optionally
    one squeeze-and-excite gate over all positions of the three maps, then a 1x1 convolution per
    level. Scores come level by level, in each anchor type by anchor type (as
    `AnchorLevel.anchor_boxes`), row-major. 2,657,301 parameters on 2,048 channels, 8,192 more with
    the gate. (NTS-Net, ECCV 2018; the gate: patch selection, CVPR 2021.)

    Args:
        filters: Filters of the 3x3 convolutions.
        squeeze_excite: Whether the maps are gated.
        gate_hidden: Hidden units of the gate.

    Example:

    ```python
    RegionProposalScorer(filters=8)(keras.ops.zeros((2, 14, 14, 32)))   # [2, 1614]
    ```
    """

    def __init__(self, filters=128, squeeze_excite=False, gate_hidden=32, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.squeeze_excite, self.gate_hidden = squeeze_excite, gate_hidden

    def build(self, input_shape):
        first = NTS_ANCHORS[0].positions
        if len(input_shape) != 4 or tuple(input_shape[1:3]) != (first, first):
            raise ValueError(
                f"The proposal net takes maps [B, {first}, {first}, C]. "
                f"Received: shape={tuple(input_shape)}"
            )
        self.down, self.heads = [], []
        channels = input_shape[-1]
        for index, level in enumerate(NTS_ANCHORS, start=1):
            types = len(level.scales) * len(level.aspect_ratios)
            options = {"kernel_initializer": "lecun_normal", "dtype": self.dtype_policy}
            down = keras.layers.Conv2D(
                self.filters, 3, strides=1 if index == 1 else 2, padding="same", activation="relu",
                name=f"down{index}", **options,
            )  # fmt: skip
            down.build((None, None, None, channels))
            head = keras.layers.Conv2D(types, 1, name=f"head{index}", **options)
            head.build((None, None, None, self.filters))
            self.down.append(down)
            self.heads.append(head)
            channels = self.filters
        if self.squeeze_excite:
            self.gate = _SqueezeExcite(self.gate_hidden, dtype=self.dtype_policy, name="gate")
            self.gate.build((None, self.filters))
        self.built = True

    def call(self, inputs):
        """Scores of all anchors.

        Args:
            inputs: `[B, 14, 14, C]`, float.

        Returns:
            float32 `[B, 1614]`.
        """
        x, maps = tf.cast(inputs, self.compute_dtype), []
        for layer in self.down:
            x = layer(x)
            maps.append(x)
        if self.squeeze_excite:
            flat = [tf.reshape(m, [-1, m.shape[1] * m.shape[2], self.filters]) for m in maps]
            mean = tf.reduce_mean(tf.concat(flat, axis=1), axis=1)
            gate = self.gate(mean)[:, None, None]
            maps = [m * gate for m in maps]
        scores = []
        for layer, features in zip(self.heads, maps, strict=True):
            by_type = tf.transpose(layer(features), [0, 3, 1, 2])
            scores.append(tf.reshape(by_type, [-1, by_type.shape[1] * features.shape[1] ** 2]))
        return tf.cast(tf.concat(scores, axis=1), tf.float32)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], sum(map(len, _flat_anchors())))

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "squeeze_excite": self.squeeze_excite,
            "gate_hidden": self.gate_hidden,
        }


def _flat_anchors():
    return [boxes for level in NTS_ANCHORS for boxes in level.anchor_boxes()]
