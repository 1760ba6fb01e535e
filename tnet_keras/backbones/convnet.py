"""A plain convolutional net, small enough to train on a laptop in minutes."""

import keras
import numpy as np
from keras import ops

from tnet_keras.backbones.normalization import LevelBatchNormalization
from tnet_keras.backbones.registry import register


@keras.saving.register_keras_serializable(package="tnet_keras")
class MeanPositions(keras.layers.Layer):
    """Says for each channel of a map where it is strongest: `[B, H, W, C]` → `[B, 2 C]` float32.

    The softmax over positions of a channel weights their rows and columns, which count from -1 to
    1; all rows come first. The middle of an axis of one position is 0.
    """

    def __init__(self, **kwargs):
        # A softmax is taken in float32 whatever the policy.
        super().__init__(autocast=False, **kwargs)

    def call(self, features):
        """Finds the mean positions.

        Args:
            features: `[B, H, W, C]`, static H, W and C.

        Returns:
            `[B, 2 C]` float32, in -1 to 1.
        """
        height, width, channels = features.shape[1:]
        rows, columns = (
            np.linspace(-1, 1, side) if side > 1 else np.zeros(1) for side in (height, width)
        )
        flat = ops.reshape(ops.cast(features, "float32"), (-1, height * width, channels))
        # Not `ops.softmax`: Keras 3.15 warns where there is one position only.
        weights = ops.exp(flat - ops.max(flat, axis=1, keepdims=True))
        weights /= ops.sum(weights, axis=1, keepdims=True)
        places = np.stack([np.repeat(rows, width), np.tile(columns, height)]).astype("float32")
        return ops.reshape(ops.einsum("ap,bpc->bac", places, weights), (-1, 2 * channels))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], 2 * input_shape[-1])


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
        positions: bool, whether the vector also says where in the patch each channel is strongest
            (`MeanPositions`), for tasks in which order or distance counts.

    Returns:
        `keras.Model` from `[B, H, W, C]` to `[map [B, m, m', c], vector [B, D]]`, where D is
        `filters[-1]`, or three times as many with `positions`.

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
    pool = {"average": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}
    vector = pool[pooling](name=f"{pooling}_pool")(x)
    if positions:
        places = MeanPositions(name="mean_positions")(x)
        vector = keras.layers.Concatenate(name="vector")([vector, places])
    return keras.Model(inputs, [outputs[map_layer - 1], vector], name="convnet")
