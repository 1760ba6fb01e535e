"""ResNet-18 and ResNet-50, and the thin pre-activation net of the traffic-sign experiments."""

import keras

from tnet_keras.backbones.normalization import LevelBatchNormalization
from tnet_keras.backbones.registry import register

_STAGE_CHANNELS = (64, 128, 256, 512)


class _Parts:
    """Convolutions and normalisations with the settings all nets of this file share."""

    def __init__(self, statistics_levels):
        self.statistics_levels = statistics_levels

    def conv(self, x, channels, kernel_size, stride, name):
        return keras.layers.Conv2D(
            channels,
            kernel_size,
            strides=stride,
            padding="same",
            use_bias=False,
            kernel_initializer="lecun_normal",
            name=name,
        )(x)

    def normalize(self, x, name, gamma="ones", momentum=0.9):
        return LevelBatchNormalization(
            self.statistics_levels,
            momentum=momentum,
            epsilon=1e-5,
            gamma_initializer=gamma,
            name=name,
        )(x)

    def conv_normalize(self, x, channels, kernel_size, stride, name, gamma="ones"):
        x = self.conv(x, channels, kernel_size, stride, f"{name}_conv")
        return self.normalize(x, f"{name}_bn", gamma)


def _pick_stage(stages, map_layer):
    map_layer = len(stages) if map_layer is None else map_layer
    if isinstance(map_layer, bool) or map_layer not in range(1, len(stages) + 1):
        raise ValueError(
            f"`map_layer` must be a stage, an int from 1 to {len(stages)}, or None for the last. "
            f"Received: map_layer={map_layer!r}"
        )
    return stages[map_layer - 1]


def _resnet(name, input_shape, statistics_levels, repeats, block, stem_relu, map_layer):
    parts = _Parts(statistics_levels)
    inputs = keras.Input(input_shape, name="images")
    x = parts.conv(inputs, 64, 7, 2, "stem_conv")
    # The framework's default momentum in the published code, unlike in the blocks.
    x = parts.normalize(x, "stem_bn", momentum=0.99)
    if stem_relu:
        x = keras.layers.ReLU(name="stem_activation")(x)
    x = keras.layers.MaxPooling2D(3, strides=2, padding="same", name="stem_pool")(x)
    stages = []
    for stage, (count, channels) in enumerate(zip(repeats, _STAGE_CHANNELS, strict=True), start=1):
        for index in range(1, count + 1):
            stride = 2 if index == 1 and stage > 1 else 1
            x = block(parts, x, channels, stride, f"stage{stage}_block{index}")
        stages.append(x)
    vector = keras.layers.GlobalAveragePooling2D(name="average_pool")(x)
    return keras.Model(inputs, [_pick_stage(stages, map_layer), vector], name=name)


def _shortcut(parts, x, channels, stride, name):
    if stride == 1 and x.shape[-1] == channels:
        return x
    return parts.conv_normalize(x, channels, 1, stride, f"{name}_shortcut")


def _basic_block(parts, x, channels, stride, name):
    shortcut = _shortcut(parts, x, channels, stride, name)
    x = parts.conv_normalize(x, channels, 3, stride, f"{name}_1")
    x = keras.layers.ReLU(name=f"{name}_1_activation")(x)
    x = parts.conv_normalize(x, channels, 3, 1, f"{name}_2")
    x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return keras.layers.ReLU(name=f"{name}_activation")(x)


def _bottleneck(parts, x, channels, stride, name):
    shortcut = _shortcut(parts, x, 4 * channels, stride, name)
    x = parts.conv_normalize(x, channels, 1, 1, f"{name}_1")
    x = keras.layers.ReLU(name=f"{name}_1_activation")(x)
    x = parts.conv_normalize(x, channels, 3, stride, f"{name}_2")
    x = keras.layers.ReLU(name=f"{name}_2_activation")(x)
    x = parts.conv_normalize(x, 4 * channels, 1, 1, f"{name}_3", gamma="zeros")
    x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return keras.layers.ReLU(name=f"{name}_activation")(x)


@register("resnet18")
def resnet18(input_shape, statistics_levels, stem_relu=True, map_layer=None):
    """ResNet-18 v1 (He et al., CVPR 2016): 11,176,512 trainable parameters, D = 512.

    Args:
        input_shape: `(H, W, C)`, ints, pixels.
        statistics_levels: int, pairs of moving statistics per normalisation.
        stem_relu: whether a ReLU follows the first normalisation. False = as the released code of
            patch selection (Cordonnier et al., CVPR 2021) has it.
        map_layer: stage 1-4 whose output is the map (4, 8, 16 or 32 px per position); None = 4.

    Returns:
        `keras.Model` from `[B, H, W, C]` to `[map [B, m, m', c], vector [B, 512]]`.

    Raises:
        ValueError: if `map_layer` is no stage.
    """
    return _resnet(
        "resnet18",
        input_shape,
        statistics_levels,
        (2, 2, 2, 2),
        _basic_block,
        stem_relu,
        map_layer,
    )


@register("resnet50")
def resnet50(input_shape, statistics_levels, stem_relu=True, map_layer=None):
    """ResNet-50 v1 (He et al., CVPR 2016): 23,508,032 trainable parameters, D = 2048.

    The last gamma of every block starts at 0, the stride is on the 3x3 convolution.

    Args:
        input_shape: `(H, W, C)`, ints, pixels.
        statistics_levels: int, pairs of moving statistics per normalisation.
        stem_relu: whether a ReLU follows the first normalisation (see `resnet18`).
        map_layer: stage 1-4 whose output is the map; None = 4.

    Returns:
        `keras.Model` from `[B, H, W, C]` to `[map [B, m, m', c], vector [B, 2048]]`.

    Raises:
        ValueError: if `map_layer` is no stage.
    """
    return _resnet(
        "resnet50",
        input_shape,
        statistics_levels,
        (3, 4, 6, 3),
        _bottleneck,
        stem_relu,
        map_layer,
    )


@register("thin_resnet", input_scaling="unit")
def thin_resnet(input_shape, statistics_levels, filters=32, blocks=3, map_layer=None):
    """Thin pre-activation residual net of attention sampling: 59,680 parameters, D = 32.

    A 3x3 convolution, residual blocks of stride 2 whose shortcut starts after the first
    normalisation and ReLU, then normalisation and ReLU (Katharopoulos and Fleuret, ICML 2019;
    Cordonnier et al., CVPR 2021).

    Args:
        input_shape: `(H, W, C)`, ints, pixels.
        statistics_levels: int, pairs of moving statistics per normalisation.
        filters: int >= 1, channels of every convolution.
        blocks: int >= 1, residual blocks.
        map_layer: block whose output is the map (2, 4, 8 ... px per position); None = the last,
            after the closing normalisation and ReLU.

    Returns:
        `keras.Model` from `[B, H, W, C]` to `[map [B, m, m', filters], vector [B, filters]]`.

    Raises:
        ValueError: for an option out of range.
    """
    for name, value in (("filters", filters), ("blocks", blocks)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"`{name}` must be an int of at least 1. Received: {name}={value!r}")
    parts = _Parts(statistics_levels)
    inputs = keras.Input(input_shape, name="images")
    x = parts.conv(inputs, filters, 3, 1, "stem_conv")
    stages = []
    for index in range(1, blocks + 1):
        name = f"block{index}"
        x = keras.layers.ReLU(name=f"{name}_activation_1")(parts.normalize(x, f"{name}_bn_1"))
        shortcut = parts.conv(x, filters, 1, 2, f"{name}_shortcut")
        x = parts.conv(x, filters, 3, 2, f"{name}_conv_1")
        x = keras.layers.ReLU(name=f"{name}_activation_2")(parts.normalize(x, f"{name}_bn_2"))
        x = parts.conv(x, filters, 3, 1, f"{name}_conv_2")
        x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
        stages.append(x)
    x = keras.layers.ReLU(name="activation")(parts.normalize(x, "bn"))
    stages[-1] = x
    vector = keras.layers.GlobalAveragePooling2D(name="average_pool")(x)
    return keras.Model(inputs, [_pick_stage(stages, map_layer), vector], name="thin_resnet")
