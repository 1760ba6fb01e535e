"""A plain convolutional net, small enough to train on a laptop in minutes."""

import keras
import numpy as np
from keras import ops

from tnet_keras.backbones.normalization import LevelBatchNormalization
from tnet_keras.backbones.registry import register


@keras.saving.register_keras_serializable(package="tnet_keras")
class PositionChannels(keras.layers.Layer):
    """Appends the row and the column of each position to a map, both from -1 to 1.

    `[B, H, W, C]` → `[B, H, W, C + 2]`, in the dtype of the map; the middle of an axis of one
    position is 0.
    """

    def call(self, features):
        """Appends the two channels.

        Args:
            features: `[B, H, W, C]`, static H and W.

        Returns:
            `[B, H, W, C + 2]`.
        """
        height, width = features.shape[1], features.shape[2]
        rows, columns = (
            np.linspace(-1, 1, side) if side > 1 else np.zeros(1) for side in (height, width)
        )
        grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)[None]
        grid = ops.cast(grid, features.dtype)
        return ops.concatenate([features, ops.repeat(grid, ops.shape(features)[0], axis=0)], -1)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], input_shape[-1] + 2)


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
    coordinates=False,
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
        coordinates: bool, whether a 1x1 convolution with normalisation and ReLU follows the last
            map, which sees two more channels: the row and the column of each position, from -1 to
            1. The pooled vector can then say where in the patch something lies.

    Returns:
        `keras.Model` from `[B, H, W, C]` to `[map [B, m, m', c], vector [B, filters[-1]]]`.

    Raises:
        ValueError: if `filters` and `strides` do not fit together, `map_layer` is out of range or
            `pooling` is unknown.
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
    inputs = keras.Input(input_shape, name="images")
    x = inputs
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
    if coordinates:
        x = PositionChannels(name="position_channels")(x)
        x = keras.layers.Conv2D(
            filters[-1], 1, use_bias=False, kernel_initializer="he_normal", name="position_conv"
        )(x)
        x = LevelBatchNormalization(statistics_levels, momentum=momentum, name="position_bn")(x)
        x = keras.layers.ReLU(name="position_relu")(x)
    pool = {"average": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}
    vector = pool[pooling](name=f"{pooling}_pool")(x)
    return keras.Model(inputs, [outputs[map_layer - 1], vector], name="convnet")
