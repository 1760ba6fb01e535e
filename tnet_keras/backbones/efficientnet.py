"""EfficientNets of any width and depth, built by `keras.applications` and adapted.

Tan and Le, ICML 2019. The adaptations: the input arrives scaled, batch normalisation keeps
statistics per level, stochastic depth can count its blocks as TNet does, and the map is tapped
inside the network.
"""

import keras

# keras.applications exports B0 to B7 only; the builder for any width and depth, which the TNet
# experiments need, is private (present in Keras 3.15.1, the version this project pins).
from keras.src.applications.efficientnet import EfficientNet

from tnet_keras.backbones.conversion import with_level_statistics
from tnet_keras.backbones.own_network import layer_output
from tnet_keras.backbones.registry import register

# width, depth, and the block after which the CUB and NABirds models of TNet take their map.
VARIANTS = {
    "efficientnet_b0": (1.0, 1.0, "4a"),
    "efficientnet_b1": (1.0, 1.1, "3b"),
    "efficientnet_b2": (1.1, 1.2, "3b"),
    "efficientnet_b3": (1.2, 1.4, "3b"),
    "efficientnet_b4": (1.4, 1.8, "3b"),
    "efficientnet_b5": (1.6, 2.2, "3b"),
    "efficientnet_b6": (1.8, 2.6, "3a"),
    "efficientnet_b7": (2.0, 3.1, "3a"),
}
_FMOW_TAPS = {"fmow_3x3": "4c", "fmow_5x5": "3b"}


@register("efficientnet")
def efficientnet(
    input_shape,
    statistics_levels,
    width_coefficient=1.0,
    depth_coefficient=1.0,
    depth_divisor=8,
    activation="swish",
    drop_connect_rate=0.2,
    stochastic_depth_from=1,
    map_tap="fmow_3x3",
    map_layer=None,
    weights=None,
):
    """EfficientNet of any width and depth; layers are named as in `keras.applications`.

    Args:
        input_shape: `(H, W, C)`, ints, pixels.
        statistics_levels: int, pairs of moving statistics per normalisation.
        width_coefficient: float > 0, factor on the channels.
        depth_coefficient: float > 0, factor on the repeats of each block.
        depth_divisor: int, channels are rounded to multiples of it.
        activation: name of the activation.
        drop_connect_rate: float in [0, 1), stochastic depth of the last block; the b-th of n blocks
            drops its residual branch with probability `drop_connect_rate * b / n`.
        stochastic_depth_from: 1 = b counts from 1 (TNet's code), 0 = from 0 (Keras, the reference
            EfficientNet).
        map_tap: which map TNet takes: "fmow_3x3" (end of block 4c: 14x14 at 224 px), "fmow_5x5"
            (3b: 28x28) or "cub" (the CUB and NABirds models': 4a here and in B0, 3b in B1-B5, 3a in
            B6 and B7).
        map_layer: name of another layer whose output is the map, overrides `map_tap`.
        weights: None, "imagenet" (downloaded by Keras; `efficientnet_b0` to `b7` only, to be used
            with the "imagenet" input scaling) or the path of a weights file without classifier.

    Returns:
        `keras.Model` from `[B, H, W, C]` to `[map [B, m, m', c], vector [B, D]]`, D = 1280 * width
        rounded.

    Raises:
        ValueError: for an option out of range, or a map the network does not have.
    """
    if weights == "imagenet":
        raise ValueError(
            '`weights` must be None or a path for "efficientnet"; Keras has ImageNet weights for '
            f"{list(VARIANTS)}. Received: weights={weights!r}"
        )
    return _build(
        "efficientnet",
        "4a",
        input_shape,
        statistics_levels,
        width_coefficient=width_coefficient,
        depth_coefficient=depth_coefficient,
        depth_divisor=depth_divisor,
        activation=activation,
        drop_connect_rate=drop_connect_rate,
        stochastic_depth_from=stochastic_depth_from,
        map_tap=map_tap,
        map_layer=map_layer,
        weights=weights,
    )


def _register_variant(name, width, depth, cub_block):
    default_tap = "fmow_3x3" if name == "efficientnet_b0" else "cub"

    @register(name)
    def variant(
        input_shape,
        statistics_levels,
        drop_connect_rate=0.2,
        stochastic_depth_from=1,
        map_tap=default_tap,
        map_layer=None,
        weights=None,
    ):
        """EfficientNet of one published width and depth; options as in `efficientnet`."""
        return _build(
            name,
            cub_block,
            input_shape,
            statistics_levels,
            width_coefficient=width,
            depth_coefficient=depth,
            depth_divisor=8,
            activation="swish",
            drop_connect_rate=drop_connect_rate,
            stochastic_depth_from=stochastic_depth_from,
            map_tap=map_tap,
            map_layer=map_layer,
            weights=weights,
        )


for _name, _coefficients in VARIANTS.items():
    _register_variant(_name, *_coefficients)


def _build(
    name,
    cub_block,
    input_shape,
    statistics_levels,
    *,
    width_coefficient,
    depth_coefficient,
    depth_divisor,
    activation,
    drop_connect_rate,
    stochastic_depth_from,
    map_tap,
    map_layer,
    weights,
):
    _check(width_coefficient, depth_coefficient, drop_connect_rate, stochastic_depth_from)
    taps = {**_FMOW_TAPS, "cub": cub_block}
    if map_tap not in taps:
        raise ValueError(f"`map_tap` must be one of {list(taps)}. Received: map_tap={map_tap!r}")
    template = EfficientNet(
        width_coefficient,
        depth_coefficient,
        default_size=input_shape[0],
        drop_connect_rate=drop_connect_rate,
        depth_divisor=depth_divisor,
        activation=activation,
        name=name.replace("_", ""),  # also the name of the weights file Keras downloads
        include_top=False,
        weights=weights,
        input_tensor=keras.Input(input_shape),
        pooling="avg",
        weights_name=name[-2:],
    )
    features = layer_output(template, map_layer or _block_end(template, taps[map_tap]))
    # Starting after the two or three scaling layers leaves them and their statistics out.
    scaled = template.get_layer("stem_conv_pad").input
    network = with_level_statistics(
        keras.Model(scaled, [features, template.output], name=name),
        statistics_levels,
        keras.Input(input_shape, name="images"),
        keep_weights=weights is not None,
        **_stochastic_depth(template, drop_connect_rate, stochastic_depth_from),
    )
    return network


def _check(width_coefficient, depth_coefficient, drop_connect_rate, stochastic_depth_from):
    for name, value in (
        ("width_coefficient", width_coefficient),
        ("depth_coefficient", depth_coefficient),
    ):
        if not value > 0:
            raise ValueError(f"`{name}` must be positive. Received: {name}={value!r}")
    if not 0 <= drop_connect_rate < 1:
        raise ValueError(
            "`drop_connect_rate` must be in [0, 1). "
            f"Received: drop_connect_rate={drop_connect_rate!r}"
        )
    if stochastic_depth_from not in (0, 1):
        raise ValueError(
            "`stochastic_depth_from` must be 0 or 1. "
            f"Received: stochastic_depth_from={stochastic_depth_from!r}"
        )


def _block_end(template, block):
    """Name of the layer that ends a block: the addition, or the last normalisation without one."""
    names = {layer.name for layer in template.layers}
    end = f"block{block}_add"
    if end not in names:
        end = f"block{block}_project_bn"
    if end not in names:
        raise ValueError(
            f"`map_tap` must be a block of the network; this depth has no block {block}. "
            f"Received: blocks {_blocks(template)}"
        )
    return end


def _blocks(template):
    """Names of all blocks, such as "4c", in order."""
    suffix = "_project_bn"
    return [
        layer.name.removeprefix("block").removesuffix(suffix)
        for layer in template.layers
        if layer.name.endswith(suffix)
    ]


def _stochastic_depth(template, rate, first):
    """Arguments of `with_level_statistics` that set every block's drop probability."""
    blocks = _blocks(template)
    rates = {
        f"block{block}_drop": rate * (index + first) / len(blocks)
        for index, block in enumerate(blocks)
    }
    names = {layer.name for layer in template.layers}
    # Keras leaves out the dropout of probability 0; narrow nets have a shortcut in that block too.
    missing = {
        f"block{block}_project_bn": f"block{block}_drop"
        for block in blocks
        if f"block{block}_add" in names
        and f"block{block}_drop" not in names
        and rates[f"block{block}_drop"] > 0
    }

    def drop(name):
        return keras.layers.Dropout(rates[name], noise_shape=(None, 1, 1, 1), name=name)

    def replace_layer(layer):
        return drop(layer.name) if layer.name in rates else None

    def call_function(layer, *args, **kwargs):
        outputs = layer(*args, **kwargs)
        if layer.name in missing:
            outputs = drop(missing[layer.name])(outputs)
        return outputs

    return {"replace_layer": replace_layer, "call_function": call_function}
