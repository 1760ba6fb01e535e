"""BagNets of receptive field 77: TNet's, and the low-dimensional one of Saccader.

Both are ResNet-50-like nets in which most 3x3 convolutions are 1x1 ones, so that an output sees 77
pixels of the image (BagNets: Brendel and Bethge, ICLR 2019).
"""

import keras

from tnet_keras.backbones.normalization import LevelBatchNormalization
from tnet_keras.backbones.registry import register

_BLOCKS = (3, 4, 6, 3)
_WIDTHS = (64, 128, 256, 512)
_STRIDES = (2, 2, 2, 1)
_BLOCKS_WITH_3X3 = 2


def _scaled(channels, width):
    return max(1, round(channels * width))


def _check_positive(**values):
    for name, value in values.items():
        if isinstance(value, bool) or not value > 0:
            raise ValueError(f"`{name}` must be positive. Received: {name}={value!r}")


@register("bagnet77")
def bagnet77(
    input_shape,
    statistics_levels,
    multi_factor=4,
    width=1.0,
    feature_dim=512,
    keep_prob=1.0,
    num_dropout_layers=0,
):
    """TNet's BagNet-77 (Papadopoulos et al., NeurIPS 2021): 20,033,664 parameters.

    No batch normalisation, convolutions with bias, leaky ReLU of slope 0.2. The map is the
    output of part 4 (9x9x1024 at 77 px) before any dropout, the vector the spatial mean of part 6.

    Args:
        input_shape: `(H, W, C)`, ints, pixels.
        statistics_levels: int; nothing here has moving statistics, so it changes nothing.
        multi_factor: int >= 1, channels leaving a block over channels inside.
        width: float > 0, factor on the channels of parts 1 to 5.
        feature_dim: int, D, channels of part 6.
        keep_prob: float in (0, 1], probability that dropout keeps a channel (whole channels drop).
        num_dropout_layers: int 0-4, places of dropout counted from the output: after part 6, also
            after part 5, 4, 3.

    Returns:
        `keras.Model` from `[B, H, W, C]` to `[map [B, m, m', c], vector [B, feature_dim]]`.

    Raises:
        ValueError: for an option out of range.
    """
    del statistics_levels
    _check_positive(multi_factor=multi_factor, width=width, feature_dim=feature_dim)
    if not 0 < keep_prob <= 1:
        raise ValueError(f"`keep_prob` must be in (0, 1]. Received: keep_prob={keep_prob}")
    if num_dropout_layers not in range(5):
        raise ValueError(
            "`num_dropout_layers` must be an int from 0 to 4. "
            f"Received: num_dropout_layers={num_dropout_layers}"
        )

    def dropout(x, part):
        if part > 6 - num_dropout_layers:
            x = keras.layers.SpatialDropout2D(1 - keep_prob, name=f"part{part}_dropout")(x)
        return x

    inputs = keras.Input(input_shape, name="images")
    x = _biased_conv(inputs, _scaled(64, width), 3, 1, "valid", "part1")
    x = _leaky(x, "part1_activation")
    for index, (blocks, channels, stride) in enumerate(
        zip(_BLOCKS, _WIDTHS, _STRIDES, strict=True)
    ):
        part = index + 2
        for block in range(1, blocks + 1):
            x = _leaky_block(
                x,
                kernel_size=3 if block <= _BLOCKS_WITH_3X3 else 1,
                channels=_scaled(channels, width),
                stride=stride if block == 1 else 1,
                padding="valid" if block == 1 and part in (4, 5) else "same",
                multi_factor=multi_factor,
                name=f"part{part}_block{block}",
            )
        if part == 4:
            features = x
        if part > 2:
            x = dropout(x, part)
    x = _biased_conv(x, feature_dim, 1, 1, "same", "part6")
    x = dropout(_leaky(x, "part6_activation"), 6)
    vector = keras.layers.GlobalAveragePooling2D(name="average_pool")(x)
    return keras.Model(inputs, [features, vector], name="bagnet77")


def _biased_conv(x, channels, kernel_size, stride, padding, name):
    return keras.layers.Conv2D(
        channels,
        kernel_size,
        strides=stride,
        padding=padding,
        kernel_initializer="glorot_normal",
        name=name,
    )(x)


def _leaky(x, name):
    return keras.layers.LeakyReLU(negative_slope=0.2, name=name)(x)


def _leaky_block(x, kernel_size, channels, stride, padding, multi_factor, name):
    shortcut = x
    if padding == "valid" and kernel_size > 1:
        shortcut = keras.layers.Cropping2D((kernel_size - 1) // 2, name=f"{name}_crop")(shortcut)
    if stride > 1 or shortcut.shape[-1] != multi_factor * channels:
        shortcut = _biased_conv(
            shortcut, multi_factor * channels, 1, stride, "same", f"{name}_shortcut"
        )
    x = _leaky(_biased_conv(x, channels, 1, 1, "same", f"{name}_comp_1"), f"{name}_activation_1")
    x = _biased_conv(x, channels, kernel_size, stride, padding, f"{name}_comp_2")
    x = _leaky(x, f"{name}_activation_2")
    x = _biased_conv(x, multi_factor * channels, 1, 1, "same", f"{name}_comp_3")
    x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return _leaky(x, f"{name}_activation_3")


@register("bagnet77_lowd", input_scaling="imagenet")
def bagnet77_lowd(
    input_shape, statistics_levels, width=1.0, feature_dim=512, released_shortcut_bug=False
):
    """Saccader's BagNet-77-lowD (Elsayed, Kornblith and Le, NeurIPS 2019): 20,060,736 parameters.

    Batch normalisation (momentum 0.9, epsilon 1e-5, last gamma of a block starts at 0), ReLU, no
    biases, and no padding anywhere, so that each position of the map sees a clean 77x77 window; the
    image must have at least 77x77 pixels. The map is the 512-channel 1x1 convolution (19x19 at
    224 px), the vector its spatial mean. The layer `part5_block3_activation_3` gives the
    2048 channels that Saccader's attention network reads.

    Args:
        input_shape: `(H, W, C)`, ints, pixels.
        statistics_levels: int, pairs of moving statistics per normalisation.
        width: float > 0, factor on the channels of parts 1 to 5.
        feature_dim: int, D, channels of the last convolution.
        released_shortcut_bug: the released code normalises the main branch a second time in
            blocks with a projection and leaves the projection as it is; True = do the same
            (needed for its published weights). The number of parameters is equal.

    Returns:
        `keras.Model` from `[B, H, W, C]` to `[map [B, m, m', D], vector [B, D]]`.

    Raises:
        ValueError: for an option out of range or an image below 77 pixels.
    """
    _check_positive(width=width, feature_dim=feature_dim)
    if min(input_shape[:2]) < 77:
        raise ValueError(
            "`input_shape` of bagnet77_lowd must be at least 77x77 pixels. "
            f"Received: input_shape={tuple(input_shape)}"
        )

    def normalize(x, name, gamma="ones"):
        return LevelBatchNormalization(
            statistics_levels, momentum=0.9, epsilon=1e-5, gamma_initializer=gamma, name=name
        )(x)

    inputs = keras.Input(input_shape, name="images")
    x = normalize(_valid_conv(inputs, _scaled(64, width), 3, 1, "part1"), "part1_bn")
    x = keras.layers.ReLU(name="part1_activation")(x)
    for index, (blocks, base, stride) in enumerate(zip(_BLOCKS, _WIDTHS, _STRIDES, strict=True)):
        channels = _scaled(base, width)
        for block in range(1, blocks + 1):
            name = f"part{index + 2}_block{block}"
            kernel_size = 3 if block <= _BLOCKS_WITH_3X3 else 1
            step = stride if block == 1 else 1
            shortcut = x
            if kernel_size > 1:
                shortcut = keras.layers.Cropping2D(1, name=f"{name}_crop")(shortcut)
            projected = step > 1 or shortcut.shape[-1] != 4 * channels
            if projected:
                shortcut = _valid_conv(shortcut, 4 * channels, 1, step, f"{name}_shortcut")
                if not released_shortcut_bug:
                    shortcut = normalize(shortcut, f"{name}_shortcut_bn")
            x = normalize(_valid_conv(x, channels, 1, 1, f"{name}_comp_1"), f"{name}_bn_1")
            x = keras.layers.ReLU(name=f"{name}_activation_1")(x)
            x = _valid_conv(x, channels, kernel_size, step, f"{name}_comp_2")
            x = keras.layers.ReLU(name=f"{name}_activation_2")(normalize(x, f"{name}_bn_2"))
            x = _valid_conv(x, 4 * channels, 1, 1, f"{name}_comp_3")
            x = normalize(x, f"{name}_bn_3", gamma="zeros")
            if projected and released_shortcut_bug:
                x = normalize(x, f"{name}_shortcut_bn")
            x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
            x = keras.layers.ReLU(name=f"{name}_activation_3")(x)
    x = normalize(_valid_conv(x, feature_dim, 1, 1, "part6"), "part6_bn")
    features = keras.layers.ReLU(name="part6_activation")(x)
    vector = keras.layers.GlobalAveragePooling2D(name="average_pool")(features)
    return keras.Model(inputs, [features, vector], name="bagnet77_lowd")


def _valid_conv(x, channels, kernel_size, stride, name):
    return keras.layers.Conv2D(
        channels,
        kernel_size,
        strides=stride,
        padding="valid",
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)
