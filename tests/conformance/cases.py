"""The table of the conformance tests: how to build each public class, and on what to call it."""

import collections.abc
import dataclasses

import keras
import numpy as np

from tnet_keras.backbones import Backbone
from tnet_keras.geometry import RegionGrid
from tnet_keras.layers import ConvScorer, PatchSelection, TransformerAggregation


@dataclasses.dataclass(frozen=True)
class LayerCase:
    """One way to build and call a public layer or model.

    Attributes:
        kwargs: Function without arguments that returns the constructor's keyword arguments. They
            are made anew for every instance, because layers among them must not be shared.
        inputs: Function without arguments that returns the tuple of positional arguments of the
            call: NumPy arrays with a leading batch axis, or nests of them.
        mixed_dtypes: Dtype names of the outputs, flattened, under the policy `mixed_bfloat16`.
        call_kwargs: Keyword arguments of the call that are no tensors.
        tolerance: Absolute difference allowed between an eager call and a traced one.
    """

    kwargs: collections.abc.Callable
    inputs: collections.abc.Callable
    mixed_dtypes: tuple
    call_kwargs: dict = dataclasses.field(default_factory=dict)
    tolerance: float = 1e-5


def normal(*shape):
    """Returns a float32 array of standard normal numbers, the same in every call."""
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


def pixels(*shape):
    """Returns a uint8 array of uniform pixels, the same in every call."""
    return np.random.default_rng(0).integers(0, 256, shape).astype("uint8")


def backbone(**kwargs):
    """Returns a backbone for 16x16 views: map [B, 4, 4, 6], vector [B, 6]."""
    options = {"filters": (4, 6), "strides": (2, 2)}
    return Backbone("convnet", input_shape=(16, 16, 3), options=options, **kwargs)


def own_network():
    """Returns a functional model as a user might bring it, with batch normalisation inside."""
    images = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, strides=4)(images)
    return keras.Model(images, keras.layers.BatchNormalization()(x))


def tnet(**kwargs):
    """Returns the keyword arguments of a small TNet; `kwargs` override them."""
    grid = RegionGrid(3, 3, 0.5)
    return {"backbone": backbone(), "num_classes": 5, "grid": grid, "image_size": (32, 32)} | kwargs


def map_and_vector():
    """Returns the arguments of a location module on a grid of 3x4 cells."""
    return ((normal(2, 3, 4, 6), normal(2, 5)),)


def wide_backbone():
    """A backbone whose map of a 448 px image has 14 x 14 positions."""
    options = {"filters": (4, 8), "strides": (8, 4)}
    return Backbone("convnet", input_shape=(448, 448, 3), options=options)


def patch_selection(**kwargs):
    """Returns the keyword arguments of a patch selection with 9 candidates of 16x16 pixels."""
    sizes = {"image_size": (48, 48), "view_size": (32, 32), "patch_size": (16, 16)}
    return {"num_patches": 2, **sizes, "num_samples": 20, "seed": 3} | kwargs


def patches_and_scores():
    """Returns the arguments of a patch selection."""
    return ((pixels(2, 48, 48, 3), normal(2, 9)),)


# The cases of each public layer or model, by the dotted name of the place where it is defined.
CASES = {
    "tnet_keras.backbones.backbone.Backbone": [
        LayerCase(
            kwargs=lambda: {
                "builder": "convnet",
                "input_shape": (16, 16, 3),
                "input_scaling": "unit",
                "statistics_levels": 2,
                "options": {"filters": (4, 6), "strides": (2, 2)},
            },
            inputs=lambda: (pixels(2, 16, 16, 3),),
            call_kwargs={"level": 2},
            mixed_dtypes=("bfloat16", "bfloat16"),
        ),
        LayerCase(
            kwargs=lambda: {"builder": own_network(), "statistics_levels": 2},
            inputs=lambda: (pixels(2, 16, 16, 3),),
            mixed_dtypes=("bfloat16", "bfloat16"),
        ),
    ],
    "tnet_keras.backbones.convnet.SoftArgmax": [
        LayerCase(
            kwargs=lambda: {"heads": 3, "frequencies": 2},
            inputs=lambda: ([normal(2, 4, 3, 5), normal(2, 8, 6, 2)],),
            mixed_dtypes=("float32",),
        ),
    ],
    "tnet_keras.backbones.normalization.LevelBatchNormalization": [
        LayerCase(
            kwargs=lambda: {"levels": 2, "momentum": 0.9, "epsilon": 1e-5},
            inputs=lambda: (normal(2, 4, 4, 3),),
            mixed_dtypes=("bfloat16",),
        ),
    ],
    "tnet_keras.layers.aggregation.ClassifierHead": [
        LayerCase(
            kwargs=lambda: {"num_classes": 5, "dropout": 0.2, "seed": 1},
            inputs=lambda: (normal(2, 3, 8),),
            mixed_dtypes=("float32",),
        ),
    ],
    "tnet_keras.layers.aggregation.ConcatenationAggregation": [
        LayerCase(
            kwargs=dict,
            inputs=lambda: (normal(2, 3, 8),),
            mixed_dtypes=("bfloat16", "float32"),
        ),
    ],
    "tnet_keras.layers.aggregation.FeatureWeighting": [
        LayerCase(
            kwargs=lambda: {"reduction": 2},
            inputs=lambda: (normal(2, 3, 8),),
            mixed_dtypes=("bfloat16", "float32"),
        ),
    ],
    "tnet_keras.layers.aggregation.MaxAggregation": [
        LayerCase(
            kwargs=dict,
            inputs=lambda: (normal(2, 3, 8),),
            mixed_dtypes=("bfloat16", "float32"),
        ),
    ],
    "tnet_keras.layers.aggregation.MeanAggregation": [
        LayerCase(
            kwargs=dict,
            inputs=lambda: (normal(2, 3, 8),),
            mixed_dtypes=("bfloat16", "float32"),
        ),
    ],
    "tnet_keras.layers.aggregation.SumAggregation": [
        LayerCase(
            kwargs=lambda: {"epsilon": 1e-5},
            inputs=lambda: (normal(2, 3, 8),),
            mixed_dtypes=("bfloat16", "float32"),
        ),
    ],
    "tnet_keras.layers.location.ContextLocationModule": [
        LayerCase(
            kwargs=lambda: {"hidden": 4, "leaky_slope": 0.1},
            inputs=map_and_vector,
            mixed_dtypes=("float32",),
        ),
    ],
    "tnet_keras.layers.location.SqueezeExciteLocationModule": [
        LayerCase(
            kwargs=lambda: {"unit_norm": False},
            inputs=map_and_vector,
            mixed_dtypes=("float32",),
        ),
    ],
    "tnet_keras.layers.patch_selection.PatchSelection": [
        LayerCase(
            kwargs=lambda: patch_selection(decay_steps=10, sigma=0.1),
            inputs=patches_and_scores,
            # boxes, entropy, indicators, patches, selected
            mixed_dtypes=("float32", "float32", "float32", "float32", "int32"),
            call_kwargs={"training": True},
            tolerance=1e-3,
        ),
        LayerCase(
            kwargs=lambda: patch_selection(centres="as_released", selector="random"),
            inputs=patches_and_scores,
            mixed_dtypes=("float32", "float32", "float32", "float32", "int32"),
        ),
    ],
    "tnet_keras.layers.selector.Selector": [
        LayerCase(
            kwargs=lambda selector=selector: {"selector": selector, "num_samples": 50, "seed": 1},
            inputs=lambda: (normal(3, 12),),
            # indicators, log_probs, selected
            # Indicators, log-probabilities of "reinforce", choices, transport errors of "sinkhorn".
            mixed_dtypes=("float32",) * (2 if selector == "reinforce" else 1)
            + ("int32",)
            + ("float32",) * (selector == "sinkhorn"),
            call_kwargs={"k": 2, "training": True},
        )
        for selector in ("perturbed", "sinkhorn", "hard", "random", "reinforce")
    ],
    "tnet_keras.layers.positional.PositionalEncoding": [
        LayerCase(
            kwargs=lambda form=form: {"form": form, "code_dim": 13},
            inputs=lambda: ((normal(3, 12), np.float32([[0, 0, 0], [4, 2, 1], [1, 3, 2]])),),
            mixed_dtypes=("bfloat16",),
        )
        for form in ("concat", "add")
    ],
    "tnet_keras.layers.scorers.ConvScorer": [
        LayerCase(
            kwargs=lambda: {"filters": (4, 6), "squeeze_excite": True, "reduction": 2},
            inputs=lambda: (normal(2, 32, 40, 3),),
            mixed_dtypes=("float32",),
        ),
    ],
    "tnet_keras.layers.scorers.RegionProposalScorer": [
        LayerCase(
            kwargs=lambda: {"filters": 4, "squeeze_excite": True, "gate_hidden": 2},
            inputs=lambda: (normal(2, 14, 14, 8),),
            mixed_dtypes=("float32",),
        ),
    ],
    "tnet_keras.layers.transformer.TransformerAggregation": [
        LayerCase(
            kwargs=lambda: {"hidden": 8, "num_layers": 2, "num_heads": 2, "seed": 1},
            inputs=lambda: ((normal(2, 3, 6), np.full((2, 3, 4), 0.25, np.float32)),),
            mixed_dtypes=("bfloat16", "float32"),
        ),
    ],
    "tnet_keras.models.full_image.FullImageClassifier": [
        LayerCase(
            kwargs=lambda: {"backbone": backbone(), "num_classes": 5, "dropout": 0.2},
            inputs=lambda: (pixels(2, 24, 20, 3),),
            mixed_dtypes=("float32",),
        ),
    ],
    "tnet_keras.models.nts_net.NTSTopKClassifier": [
        LayerCase(
            kwargs=lambda: {
                "backbone": wide_backbone(),
                "selection": PatchSelection(
                    2, image_size=(448, 448), view_size=None, patch_size=(32, 32), seed=1
                ),
                "num_classes": 5,
                "head": "concat",
            },
            inputs=lambda: (pixels(2, 448, 448, 3),),
            mixed_dtypes=("float32",),
        ),
    ],
    "tnet_keras.models.nts_net.NTSNet": [
        LayerCase(
            kwargs=lambda: {
                "backbone": wide_backbone(),
                "num_classes": 5,
                "num_patches": 2,
                "patch_size": (32, 32),
            },
            inputs=lambda: (pixels(2, 448, 448, 3),),
            mixed_dtypes=("float32",),
        ),
    ],
    "tnet_keras.models.patch_selection.PatchSelectionClassifier": [
        LayerCase(
            kwargs=lambda: {
                "backbone": backbone(),
                "selection": PatchSelection(**patch_selection()),
                "num_classes": 5,
                "scorer": ConvScorer(filters=(4, 4, 4)),
                "aggregation": TransformerAggregation(hidden=8, num_layers=1, num_heads=2),
                "hidden_units": 7,
            },
            inputs=lambda: (pixels(2, 48, 48, 3),),
            mixed_dtypes=("float32",),
        ),
    ],
    "tnet_keras.models.tnet.TNet": [
        LayerCase(
            kwargs=tnet,
            inputs=lambda: (pixels(2, 32, 32, 3),),
            mixed_dtypes=("float32",),
        ),
        LayerCase(
            kwargs=lambda: tnet(
                backbone=backbone(statistics_levels=3),
                image_size=(48, 40),
                locations=(2, 1),
                location_module="squeeze_excite",
                positional="add",
                aggregation="weighted",
                rule="original",
                selection="top_k",
                level_cap=2,
                l2=1e-5,
            ),
            inputs=lambda: (pixels(2, 48, 40, 3),),
            mixed_dtypes=("float32",),
        ),
    ],
}

# Constructor arguments of each other public class with a `get_config` (schedules, callbacks,
# metrics, descriptions of data), by the dotted name of the place where it is defined.
CONFIGURATIONS = {
    "tnet_keras.datasets.billiards.scenes.BilliardsConfig": {
        "image_size": 600,
        "num_balls": (4, 6),
    },
    "tnet_keras.datasets.megapixel_mnist.scenes.MegapixelMnistConfig": {
        "image_size": 600,
        "num_noise": 7,
    },
    "tnet_keras.datasets.needle_scenes.NeedleDigitsConfig": {
        "image_size": 160,
        "digit_size": (20.0, 22.0),
    },
    "tnet_keras.datasets.traffic_signs.scenes.TrafficScenesConfig": {
        "height": 480,
        "width": 640,
        "sign_diameter": (20.0, 40.0),
        "margin": 50.0,
    },
    "tnet_keras.training.optimizers.GroupedAdam": {"rate_factors": {"kernel": 0.1}},
    "tnet_keras.training.optimizers.GroupedAdamW": {
        "rate_factors": {"kernel": 0.1},
        "weight_decay": 0.01,
    },
    "tnet_keras.training.optimizers.GroupedSGD": {"rate_factors": {"kernel": 0.1}},
    "tnet_keras.training.optimizers.PiecewiseRate": {
        "learning_rate": 0.1,
        "boundaries": (8, 9),
        "warmup_steps": 2,
    },
}

# Public classes that nobody builds: their subclasses stand in the table.
BASES = {
    "tnet_keras.datasets.config.DrawnConfig",
    "tnet_keras.models.hard_attention.HardAttentionModel",
    "tnet_keras.models.selecting.SelectingMixin",
}
