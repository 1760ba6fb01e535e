"""The published systems by name, with the settings of their training runs.

A TNet preset is the released system: deterministic top-k in training, unit-norm location logits,
the rule "original". Everything can be overridden: `from_preset(name, selection="sample")`.
"""

import copy
import inspect

from tnet_keras.backbones import Backbone
from tnet_keras.geometry import RegionGrid
from tnet_keras.layers import (
    ConcatenationAggregation,
    ConvScorer,
    MaxAggregation,
    MeanAggregation,
    PatchSelection,
    SumAggregation,
    TransformerAggregation,
)
from tnet_keras.models.full_image import FullImageClassifier
from tnet_keras.models.hard_attention import HardAttentionModel
from tnet_keras.models.nts_net import NTSTopKClassifier
from tnet_keras.models.patch_selection import PatchSelectionClassifier
from tnet_keras.models.tnet import TNet

_BACKBONE_ARGUMENTS = ("input_shape", "input_scaling", "statistics_levels", "options")

_RELEASED = {
    "selection": "top_k",
    "rule": "original",
    "unit_norm": True,
    "lambda_f": 0.1,
}
_BAGNET = {
    "builder": "bagnet77",
    "options": {"num_dropout_layers": 1, "keep_prob": 0.5},
}
# Patch selection as published, but for the gradient: the released one keeps its diagonal only.
_TOP_K = {"sigma": 0.05, "num_samples": 500, "noise": "normal"}
_AGGREGATIONS = {
    "concat": ConcatenationAggregation,
    "max": MaxAggregation,
    "mean": MeanAggregation,
    "sum": SumAggregation,
    "transformer": TransformerAggregation,
}
_BIRDS = {"cub": (200, 100.0), "nabirds": (555, 50.0)}


def _efficientnet(variant, size, drop_connect_rate, **options):
    return {
        "builder": f"efficientnet_b{variant}",
        "input_shape": (size, size, 3),
        "options": {"drop_connect_rate": drop_connect_rate, **options},
    }


def _small(num_classes, num_patches, image_size, view_size, patch, aggregation, first_stride=1):
    """Patch selection with a network and a scorer that train in minutes."""
    return (
        PatchSelectionClassifier,
        {
            "builder": "convnet",
            "input_shape": (patch, patch, 3),
            "input_scaling": "unit",
            "options": {
                "filters": (16, 32, 64, 128), "strides": (first_stride, 3 - first_stride, 2, 2),
                "pooling": "max",
            },
        },
        {
            "num_classes": num_classes,
            "aggregation": aggregation,
            "scorer": {"filters": (8, 8, 16)},
            "selection": {
                **_TOP_K,
                "num_patches": num_patches,
                "image_size": image_size,
                "view_size": view_size,
                "patch_size": (patch, patch),
            },
        },
    )  # fmt: skip


def _presets():
    presets = {
        "tnet_bagnet77_imagenet": (
            TNet,
            {**_BAGNET, "input_shape": (77, 77, 3)},
            {
                **_RELEASED,
                "num_classes": 1000,
                "grid": RegionGrid(5, 5, 0.34375),
                "image_size": (224, 224),
                "locations": (3,),
                "location_module": "context",
                "positional": "concat",
                "map_indices": (0, 2, 4, 6, 8),
                "classifier_initializer": "glorot_normal",
            },
        ),
        "bagnet77_imagenet": (
            FullImageClassifier,
            {
                "builder": "bagnet77",
                "input_shape": (224, 224, 3),
                "options": {"num_dropout_layers": 1, "keep_prob": 0.375},
            },
            {"num_classes": 1000, "classifier_initializer": "glorot_normal"},
        ),
    }
    fmow = {
        **_RELEASED,
        "num_classes": 62,
        "grid": RegionGrid(3, 3, 0.5),
        "location_module": "squeeze_excite",
        "positional": "add",
        "map_indices": (2, 6, 10),
        "dropout": 0.5,
    }
    presets["tnet_efficientnet_b0_fmow_448"] = (
        TNet,
        _efficientnet(0, 224, 0.3, map_tap="fmow_3x3"),
        {**fmow, "image_size": (448, 448), "locations": (2,), "lambda_c": 0.2, "lambda_r": 0.2},
    )
    presets["tnet_efficientnet_b0_fmow_896"] = (
        TNet,
        _efficientnet(0, 224, 0.5, map_tap="fmow_3x3"),
        {
            **fmow,
            "image_size": (896, 896),
            "locations": (2, 1),
            "lambda_c": 0.05,
            "lambda_r": 0.05,
            "level_cap": 2,
        },
    )
    for size, dropout, drop_connect_rate in ((224, 0.75, 0.5), (448, 0.75, 0.3), (896, 0.3, 0.2)):
        presets[f"efficientnet_b0_fmow_{size}"] = (
            FullImageClassifier,
            _efficientnet(0, size, drop_connect_rate),
            {"num_classes": 62, "dropout": dropout, "l2": 1e-5},
        )
    for birds, (classes, contrastive) in _BIRDS.items():
        shared = {
            "num_classes": classes,
            "dropout": 0.75,
            "l2": 1e-4,
            # The released code leaves the pretrained backbone out of its L2 term.
            "l2_scope": "new_modules",
            "contrastive_weight": contrastive,
            "contrastive_margin": 0.4,
        }
        for variant in range(5):
            presets[f"tnet_efficientnet_b{variant}_{birds}"] = (
                TNet,
                _efficientnet(variant, 224, 0.5, map_tap="cub"),
                {
                    **_RELEASED,
                    **shared,
                    "grid": RegionGrid(5, 5, 0.35),
                    "image_size": (448, 448),
                    "locations": (3 if birds == "nabirds" and variant > 2 else 5,),
                    "location_module": "squeeze_excite",
                    "positional": "add",
                    "aggregation": "weighted",
                    "map_indices": (2, 4, 6, 8, 10) if variant == 0 else (5, 9, 13, 17, 21),
                    "lambda_c": 0.3,
                    "lambda_r": 0.3,
                },
            )
            presets[f"efficientnet_b{variant}_{birds}"] = (
                FullImageClassifier,
                _efficientnet(variant, 448, 0.5, map_tap="cub"),
                shared,
            )
    for patches in (5, 10):
        presets[f"topk_traffic_signs_{patches}"] = (
            PatchSelectionClassifier,
            {"builder": "thin_resnet", "input_shape": (100, 100, 3)},
            {
                "num_classes": 4,
                "selection": {
                    **_TOP_K,
                    "num_patches": patches,
                    "image_size": (960, 1280),
                    "view_size": (320, 426),
                    "patch_size": (100, 100),
                },
            },
        )
    presets["cnn_traffic_signs"] = (
        FullImageClassifier,
        {"builder": "thin_resnet", "input_shape": (960, 1280, 3)},
        {"num_classes": 4},
    )
    for suffix, aggregation in (("", "transformer"), ("_max", "max"), ("_mean", "mean")):
        presets[f"topk_billiards{suffix}"] = (
            PatchSelectionClassifier,
            {"builder": "resnet18", "input_shape": (100, 100, 3), "input_scaling": "unit"},
            {
                "num_classes": 9,
                "aggregation": aggregation,
                "selection": {
                    **_TOP_K,
                    "num_patches": 10,
                    "image_size": (1000, 1000),
                    "view_size": (250, 250),
                    "patch_size": (100, 100),
                },
            },
        )
    resnet18 = {"builder": "resnet18", "input_scaling": "unit"}
    for suffix, shape in (
        ("", (1000, 1000, 3)), ("_position", (1000, 1000, 5)), ("_downscaled", (250, 250, 3)),
    ):  # fmt: skip
        presets[f"resnet18_billiards{suffix}"] = (
            FullImageClassifier,
            {**resnet18, "input_shape": shape},
            {"num_classes": 9, "position_channels": shape[-1] == 5, "antialias": True},
        )
    # Zeros after pixels were mapped to [-1, 1]: mid-grey here.
    anchors = {**_TOP_K, "image_size": (448, 448), "view_size": None, "pad_value": 127.5}
    for head in ("mean", "concat"):
        presets[f"nts_topk_cub_{head}"] = (
            NTSTopKClassifier,
            {"builder": "resnet50", "input_shape": (448, 448, 3)},
            {
                "num_classes": 200,
                "head": head,
                "selection": {**anchors, "num_patches": 4, "patch_size": (224, 224)},
            },
        )
    presets["nts_topk_small"] = (
        NTSTopKClassifier,
        {
            "builder": "convnet",
            "input_shape": (448, 448, 3),
            "options": {"filters": (16, 32, 48, 64, 128), "strides": (2, 2, 2, 2, 2)},
        },
        {
            "num_classes": 10,
            "dropout": 0.0,
            "selection": {**anchors, "num_patches": 2, "patch_size": (96, 96)},
        },
    )
    presets["topk_megapixel_mnist"] = _small(10, 10, (1500, 1500), (375, 375), 64, "max")
    # The demos: the published geometries in small, with networks that a laptop trains in minutes.
    transformer = {
        "name": "transformer", "hidden": 128, "num_layers": 2, "pooling": "max",
        "residual": "gated",
    }  # fmt: skip
    presets["topk_billiards_small"] = _small(9, 10, (320, 320), (80, 80), 52, transformer, 2)
    presets["topk_traffic_signs_small"] = _small(4, 5, (240, 320), (80, 106), 48, "max")
    presets["topk_megapixel_mnist_small"] = _small(10, 8, (400, 400), (133, 133), 52, "max")
    # The paper's ImageNet geometry with a network that a laptop trains in minutes.
    presets["tnet_needle_digits"] = (
        TNet,
        {"builder": "convnet", "input_shape": (77, 77, 3), "statistics_levels": 2},
        {
            "num_classes": 10,
            "grid": RegionGrid(5, 5, 0.34375),
            "image_size": (224, 224),
            "locations": (2,),
            "location_module": "context",
            "unit_norm": False,
            "positional": "concat",
            "selection": "sample",
            "rule": "paper",
            "lambda_f": 1.0,
        },
    )
    presets["convnet_needle_digits"] = (
        FullImageClassifier,
        {"builder": "convnet", "input_shape": (224, 224, 3)},
        {"num_classes": 10},
    )
    return presets


_PRESETS = _presets()


def preset_names():
    """Names of all presets.

    Returns:
        Sorted list of str.
    """
    return sorted(_PRESETS)


def from_preset(name, **overrides):
    """Builds a published system by name, with random weights.

    Args:
        name: One of `preset_names()`.
        **overrides: Any argument of the model, and of its backbone `input_shape`, `input_scaling`,
            `statistics_levels` and `options` (merged into the preset's); with `position_channels`
            the backbone gets its five channels. Of a model that selects patches, `selection` is a
            dict of arguments of `PatchSelection`, merged into the preset's; `aggregation` is a
            layer, a name ("mean", "max", "sum", "concat", "transformer") or a dict of a `name` and
            arguments; `scorer` a layer or a dict of arguments of `ConvScorer`.

    Returns:
        A `TNet`, `PatchSelectionClassifier`, `NTSTopKClassifier` or `FullImageClassifier`, built.

    Raises:
        ValueError: If there is no such preset, or an override is no argument of its model.

    Example:

    ```python
    model = from_preset("tnet_needle_digits", locations=(1,))
    ```
    """
    if name not in _PRESETS:
        raise ValueError(
            f"`name` must be a preset: {', '.join(preset_names())}. Received: name={name!r}"
        )
    model_class, backbone, arguments = copy.deepcopy(_PRESETS[name])
    unknown = sorted(set(overrides) - _argument_names(model_class))
    if unknown:
        raise ValueError(
            f"Overrides must be arguments of {model_class.__name__} or its backbone. "
            f"Received: {unknown}"
        )
    for key in _BACKBONE_ARGUMENTS:
        if key in overrides:
            value = overrides.pop(key)
            backbone[key] = {**backbone.get("options", {}), **value} if key == "options" else value
    if isinstance(overrides.get("selection"), dict):
        overrides["selection"] = {**arguments.get("selection", {}), **overrides["selection"]}
    # A model for fewer or more levels than published is asked for by its locations.
    arguments.update(overrides)
    if "position_channels" in overrides:
        channels = 5 if overrides["position_channels"] else 3
        backbone["input_shape"] = (*backbone["input_shape"][:2], channels)
    # Layers are described here and made anew for every model.
    if isinstance(arguments.get("selection"), dict):
        arguments["selection"] = PatchSelection(**arguments["selection"], name="selection")
    if model_class is PatchSelectionClassifier:
        arguments["aggregation"] = _aggregation(arguments.get("aggregation", "mean"))
        if isinstance(arguments.get("scorer"), dict):
            arguments["scorer"] = ConvScorer(**arguments["scorer"], name="scorer")
    return model_class(Backbone(**backbone), **arguments)


def _aggregation(described):
    """Makes the layer that a name or a dict describes."""
    if isinstance(described, str):
        described = {"name": described}
    if not isinstance(described, dict):
        return described
    options = dict(described)
    name = options.pop("name", None)
    if name not in _AGGREGATIONS:
        raise ValueError(
            f"`aggregation` must be one of {', '.join(_AGGREGATIONS)}. "
            f"Received: aggregation={described!r}"
        )
    return _AGGREGATIONS[name](**options, name="aggregation")


def _argument_names(model_class):
    """Names of what can be overridden: arguments of a model, of its base and of its backbone."""
    names = {*_BACKBONE_ARGUMENTS, "dtype", "trainable"}
    for cls in (model_class, HardAttentionModel):
        names |= inspect.signature(cls.__init__).parameters.keys()
    return names - {"self", "backbone", "kwargs"}
