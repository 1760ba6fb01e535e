"""A plain convolutional net, small enough to train on a laptop in minutes."""

import keras
import numpy as np
from keras import ops

from tnet_keras.backbones.normalization import LevelBatchNormalization
from tnet_keras.backbones.registry import register


@keras.saving.register_keras_serializable(package="tnet_keras")
class SoftArgmax(keras.layers.Layer):
    """Says where in the image the places lie that a few learned maps are strongest at.

    Each of the `heads` is a linear map of the features, a softmax over its positions, and the mean
    row and column under it, x. Those are coded by `sin` and `cos` of `π / 2 · 2^i · x` for i from 0
    to `frequencies` - 1: the first tells the whole image apart, the last a few pixels. Call with
    `(features [B, h, w, C], coordinates [B, H, W, 2])`, the coordinates of the pixels in 0 to 1;
    returns float32 `[B, heads · 4 · frequencies]`.

    Args:
        heads: Places that are looked for, at least 1.
        frequencies: Octaves of the code, at least 1.
    """

    def __init__(self, heads=4, frequencies=6, **kwargs):
        # A softmax is taken in float32 whatever the policy.
        super().__init__(autocast=False, **kwargs)
        self.heads, self.frequencies = heads, frequencies

    def build(self, input_shape):
        width = input_shape[0][-1]
        self.kernel = self.add_weight(
            name="kernel", shape=(width, self.heads), initializer="he_normal", dtype="float32"
        )

    def call(self, inputs):
        features, coordinates = (ops.cast(part, "float32") for part in inputs)
        height, width, channels = features.shape[1:]
        coordinates = ops.image.resize(coordinates, (height, width), data_format="channels_last")
        flat = ops.reshape(features, (-1, height * width, channels))
        logits = ops.matmul(flat, self.kernel)
        # Not `ops.softmax`: Keras 3.15 warns where there is one position only.
        weights = ops.exp(logits - ops.max(logits, axis=1, keepdims=True))
        weights /= ops.sum(weights, axis=1, keepdims=True)
        places = ops.reshape(coordinates, (-1, height * width, 2))
        means = ops.einsum("bph,bpc->bhc", weights, places)
        octaves = (np.pi / 2 * 2.0 ** np.arange(self.frequencies)).astype("float32")
        angles = ops.expand_dims(means, -1) * octaves
        code = ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)
        return ops.reshape(code, (-1, 4 * self.heads * self.frequencies))

    def compute_output_shape(self, input_shape):
        return (input_shape[0][0], 4 * self.heads * self.frequencies)

    def get_config(self):
        return {**super().get_config(), "heads": self.heads, "frequencies": self.frequencies}


@register("convnet")
def convnet(
    input_shape,
    statistics_levels,
    filters=(24, 32, 48, 64, 96, 128),
    strides=(2, 1, 2, 1, 2, 1),
    kernel_size=3,
    momentum=0.9,
    map_layer=None,
    pooling="average",
    positions=False,
):
    """A chain of 3x3 convolution (no bias), batch normalisation and ReLU; 215,704 parameters.

    At 77 px the maps are 39, 39, 20, 20, 10 and 10 pixels wide.

    Args:
        input_shape: `(H, W, C)`, ints, pixels.
        statistics_levels: int, pairs of moving statistics per normalisation.
        filters: channels of every convolution, ints >= 1.
        strides: stride of every convolution, ints >= 1, as many as `filters`.
        kernel_size: int >= 1.
        momentum: float in [0, 1], of the moving statistics. 0.9 follows a training of minutes.
        map_layer: 1-based index of the convolution whose output is the map; None = the last.
        pooling: "average" or "max", how the last map becomes the vector. The largest response is
            the better summary of something small in a large patch.
        positions: bool, whether the vector also says where in the image it saw something
            (`SoftArgmax`), for tasks in which order or distance counts. The input has five channels
            then: three colours and, with the input scaling "unit", the rows and columns of the
            pixels from 0 to 1. Convolutions see the colours only.

    Returns:
        `keras.Model` from `[B, H, W, C]` to `[map [B, m, m', c], vector [B, D]]`, where D is
        `filters[-1]`, and 96 more with `positions`.

    Raises:
        ValueError: if `filters` and `strides` do not fit together, `map_layer` is out of range,
            `pooling` is unknown, or `positions` are asked for without their channels.
    """
    if not filters or len(filters) != len(strides):
        raise ValueError(
            "`filters` and `strides` must be as long as each other, and not empty. "
            f"Received: filters={tuple(filters)}, strides={tuple(strides)}"
        )
    map_layer = len(filters) if map_layer is None else map_layer
    if isinstance(map_layer, bool) or map_layer not in range(1, len(filters) + 1):
        raise ValueError(
            f"`map_layer` must be an int from 1 to {len(filters)} (the number of convolutions), "
            f"or None. Received: map_layer={map_layer!r}"
        )
    if pooling not in ("average", "max"):
        raise ValueError(f"`pooling` must be 'average' or 'max'. Received: pooling={pooling!r}")
    if positions and input_shape[-1] != 5:
        raise ValueError(
            "`input_shape` must have 5 channels, with row and column, with positions=True. "
            f"Received: input_shape={tuple(input_shape)}"
        )
    inputs = keras.Input(input_shape, name="images")
    x = inputs[..., :3] if positions else inputs
    outputs = []
    for index, (channels, stride) in enumerate(zip(filters, strides, strict=True), start=1):
        x = keras.layers.Conv2D(
            channels,
            kernel_size,
            strides=stride,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            name=f"conv{index}",
        )(x)
        x = LevelBatchNormalization(statistics_levels, momentum=momentum, name=f"bn{index}")(x)
        x = keras.layers.ReLU(name=f"relu{index}")(x)
        outputs.append(x)
    pool = {"average": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}
    vector = pool[pooling](name=f"{pooling}_pool")(x)
    if positions:
        places = SoftArgmax(name="places")([x, inputs[..., 3:]])
        vector = keras.layers.Concatenate(name="vector")([vector, places])
    return keras.Model(inputs, [outputs[map_layer - 1], vector], name="convnet")
