"""The published systems: names, exact parameters and multiply-adds, published settings, overrides.

The counts were measured on the original code. "All variables" includes the reward baseline.
"""

import gc
import inspect

import keras
import numpy as np
import pytest

from tests.models.small_models import pixels
from tnet_keras.evaluation.profile import count_macs_by_locations, count_parameters
from tnet_keras.models import TNet, from_preset, preset_names, presets

# Per preset: trainable, all variables, multiply-adds by locations; () for a full image.
PUBLISHED = {
    "tnet_bagnet77_imagenet": (
        21_859_949,
        21_859_950,
        {(1,): 3_627_919_282, (2,): 5_431_773_298, (3,): 7.2356e9, (5,): 10.8433e9},
    ),
    "bagnet77_imagenet": (20_546_664, 20_546_664, {(): 18_423_134_976}),
    "tnet_efficientnet_b0_fmow_448": (
        4_517_575,
        4_559_592,
        {(1,): 770_091_842, (2,): 1_155_036_194, (3,): 1.5400e9},
    ),
    "tnet_efficientnet_b0_fmow_896": (
        4_517_575,
        4_559_592,
        {(2, 1): 1_925_172_436, (3, 1): 2.6952e9, (2, 2): 2.6951e9},
    ),
    "efficientnet_b0_fmow_224": (4_086_970, 4_128_986, {(): 384_614_112}),
    "efficientnet_b0_fmow_448": (4_086_970, 4_128_986, {(): 1_536_336_768}),
    "efficientnet_b0_fmow_896": (4_086_970, 4_128_986, {(): 6_143_227_392}),
    "tnet_efficientnet_b0_cub": (
        5_516_434,
        5_558_451,
        {(1,): 771_298_914, (3,): 1_541_190_178},
    ),
    "tnet_efficientnet_b1_cub": (8_007_410, 8_069_459, {(1,): 1.1387e9, (3,): 2.2763e9}),
    "tnet_efficientnet_b2_cub": (9_481_448, 9_549_017, {(1,): 1.3175e9, (3,): 2.6336e9}),
    "tnet_efficientnet_b3_cub": (12_785_326, 12_872_623, {(1,): 1.9251e9, (3,): 3.8487e9}),
    "tnet_efficientnet_b4_cub": (20_331_266, 20_456_467, {(1,): 3.0076e9, (3,): 6.0130e9}),
    "tnet_efficientnet_b0_nabirds": (5_971_189, 6_013_206, {}),
    "efficientnet_b0_cub": (4_263_748, 4_305_764, {(): 1.5365e9}),
    "efficientnet_b1_cub": (6_769_384, 6_831_432, {(): 2.2704e9}),
    "efficientnet_b2_cub": (7_982_794, 8_050_362, {(): 2.6266e9}),
    "efficientnet_b3_cub": (11_003_632, 11_090_928, {(): 3.8394e9}),
    "efficientnet_b4_cub": (17_907_216, 18_032_416, {(): 5.9987e9}),
}
# Those of the same network as a preset above, for 555 classes instead of 200: trainable parameters
# and all variables, where they were published.
NABIRDS = {
    "tnet_efficientnet_b1_nabirds": (8_462_165, 8_524_214),
    "tnet_efficientnet_b2_nabirds": (9_981_643, 10_049_212),
    "tnet_efficientnet_b3_nabirds": (13_330_961, 13_418_258),
    "tnet_efficientnet_b4_nabirds": (20_967_781, 21_092_982),
} | {f"efficientnet_b{variant}_nabirds": None for variant in range(5)}
WIDTHS = {"b0": 1280, "b1": 1280, "b2": 1408, "b3": 1536, "b4": 1792}
# Trainable parameters of patch selection and of the networks it was compared with.
PATCH_SELECTION = {
    "topk_traffic_signs_5": 67_189,
    "topk_traffic_signs_10": 67_189,
    "topk_billiards": 13_424_890,
    "topk_billiards_max": 11_450_106,
    "topk_billiards_mean": 11_450_106,
    "nts_topk_cub_mean": 27_402_925,
    "cnn_traffic_signs": 59_680 + 33 * 4,
    "resnet18_billiards": 11_176_512 + 513 * 9,
    "resnet18_billiards_downscaled": 11_176_512 + 513 * 9,
    "resnet18_billiards_position": 11_182_784 + 513 * 9,
}
DEMO = ["convnet_needle_digits", "tnet_needle_digits"]


def test_names():
    assert set(preset_names()) >= {*PUBLISHED, *NABIRDS, *PATCH_SELECTION, *DEMO}
    assert preset_names() == sorted(set(preset_names()))


@pytest.fixture(scope="module", params=PUBLISHED)
def built(request):
    """Name and model of each published preset, built once."""
    yield request.param, from_preset(request.param)
    gc.collect()  # up to 20 million numbers each


def test_published_parameters_multiply_adds_and_settings(built):
    name, model = built
    trainable, everything, macs = PUBLISHED[name]
    assert count_parameters(model) == (everything, trainable)
    for locations, published in macs.items():
        (counted,) = count_macs_by_locations(model, [locations]).values()
        # Far inside the 0.5 % (BagNet) and 2 % (EfficientNet) that rounding in the paper allows.
        assert counted == pytest.approx(published, rel=1e-4), locations
    _, dataset = name.rsplit("_", 1)
    classes = {"imagenet": 1000, "cub": 200, "nabirds": 555}.get(dataset, 62)
    assert model.num_classes == classes
    if isinstance(model, TNet):
        assert (model.selection, model.rule, model.unit_norm) == ("top_k", "original", True)
        assert model.log_prob == "independent"
        assert model.initial_baseline == 0.5 and model.num_samples == 1
        assert model.base_resolution == ((77, 77) if dataset == "imagenet" else (224, 224))
        assert model.backbone.statistics_levels == 1
        assert model.grid.rows == model.grid.cols == len(model.map_indices)


@pytest.mark.parametrize("name", NABIRDS)
def test_nabirds_are_cub_with_more_classes(name):
    # The settings are compared instead of building large networks that are built above.
    twin = name.replace("nabirds", "cub")
    (cls, backbone, settings), (*same, twins) = (presets._presets()[x] for x in (name, twin))
    assert [cls, backbone] == same
    changed = {key: settings[key] for key in settings if settings[key] != twins[key]}
    expected = {"num_classes": 555, "contrastive_weight": 50.0}
    if name.startswith(("tnet_efficientnet_b3", "tnet_efficientnet_b4")):
        expected["locations"] = (3,)
    assert changed == expected
    if NABIRDS[name]:
        more = (555 - 200) * (WIDTHS[name.split("_")[2]] + 1)
        assert NABIRDS[name] == tuple(count + more for count in PUBLISHED[twin][:2])


# λc, λr, level cap, locations in training, dropout, drop rate of the last block, L2, contrastive.
@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("tnet_bagnet77_imagenet", (0.3, 0.3, None, (3,), None, None, 0, 0)),
        ("tnet_efficientnet_b0_fmow_448", (0.2, 0.2, None, (2,), 0.5, 0.3, 0, 0)),
        ("tnet_efficientnet_b0_fmow_896", (0.05, 0.05, 2, (2, 1), 0.5, 0.5, 0, 0)),
        ("tnet_efficientnet_b0_cub", (0.3, 0.3, None, (5,), 0.75, 0.5, 1e-4, 100)),
        ("tnet_efficientnet_b4_cub", (0.3, 0.3, None, (5,), 0.75, 0.5, 1e-4, 100)),
        ("tnet_efficientnet_b2_nabirds", (0.3, 0.3, None, (5,), 0.75, 0.5, 1e-4, 50)),
        ("tnet_efficientnet_b3_nabirds", (0.3, 0.3, None, (3,), 0.75, 0.5, 1e-4, 50)),
        ("efficientnet_b0_fmow_224", (None, None, None, None, 0.75, 0.5, 1e-5, 0)),
        ("efficientnet_b0_fmow_448", (None, None, None, None, 0.75, 0.3, 1e-5, 0)),
        ("efficientnet_b0_fmow_896", (None, None, None, None, 0.3, 0.2, 1e-5, 0)),
        ("efficientnet_b4_cub", (None, None, None, None, 0.75, 0.5, 1e-4, 100)),
    ],
)
def test_settings_of_the_published_trainings(name, published):
    cls, backbone, settings = presets._presets()[name]
    defaults = inspect.signature(cls.__init__).parameters
    found = [
        settings.get(key, defaults[key].default if key in defaults else None)
        for key in ("lambda_c", "lambda_r", "level_cap", "locations")
    ]
    found += [settings.get("dropout"), backbone["options"].get("drop_connect_rate")]
    found += [settings.get("l2", 0), settings.get("contrastive_weight", 0)]
    assert tuple(found) == published
    if cls is TNet:
        assert settings["lambda_f"] == 0.1


@pytest.mark.parametrize("name", PATCH_SELECTION)
def test_parameters_of_patch_selection(name):
    model = from_preset(name)
    assert count_parameters(model)[1] == PATCH_SELECTION[name]
    gc.collect()


def test_parts_are_described_by_names_and_dicts():
    small = {
        "input_shape": (16, 16, 3), "options": {"filters": (4,), "strides": (4,)},
        "selection": {
            "image_size": (64, 64), "view_size": (32, 32), "patch_size": (16, 16), "num_patches": 2,
        },
    }  # fmt: skip
    model = from_preset("topk_billiards_small", **small, scorer={"filters": (4, 4)})
    assert model.aggregation.pooling == "max" and model.aggregation.residual == "gated"
    assert len(model.scorer.convolutions) == 3
    for name, cls in presets._AGGREGATIONS.items():
        found = from_preset("topk_billiards_small", **small, aggregation=name).aggregation
        assert type(found) is cls
    layer = presets._AGGREGATIONS["max"](name="aggregation")
    assert from_preset("topk_billiards_small", **small, aggregation=layer).aggregation is layer
    with pytest.raises(ValueError, match="`aggregation` must be one of .*Received.*median"):
        from_preset("topk_billiards_small", **small, aggregation={"name": "median"})


@pytest.mark.parametrize("name", DEMO)
def test_demo(name):
    model = from_preset(name)
    assert model.num_classes == 10 and model.image_size == (224, 224)
    assert model(pixels(1, 224, 224)).shape == (1, 10)
    if name.startswith("tnet"):
        assert (model.selection, model.rule, model.unit_norm) == ("sample", "paper", False)
        assert model.base_resolution == (77, 77) and model.backbone.statistics_levels == 2


def test_overrides_of_model_and_backbone():
    model = from_preset(
        "tnet_needle_digits",
        num_classes=7,
        image_size=(96, 112),
        locations=(2, 1),
        selection="top_k",
        seed=5,
        input_shape=(32, 32, 3),
        input_scaling="unit",
        statistics_levels=3,
        options={"filters": (4, 8), "strides": (2, 2)},
    )
    assert (model.levels, model.locations, model.num_classes) == (3, (2, 1), 7)
    assert (model.selection, model.rule, model.seed) == ("top_k", "paper", 5)
    assert model.image_size == (96, 112) and model.base_resolution == (32, 32)
    assert model.backbone.input_scaling == "unit" and model.backbone.statistics_levels == 3
    assert model.backbone.feature_dim == 8
    assert from_preset("convnet_needle_digits", dropout=0.25).classifier.dropout == 0.25


def test_options_are_merged_into_those_of_the_preset():
    model = from_preset("tnet_bagnet77_imagenet", options={"keep_prob": 0.9}, num_classes=3)
    options = model.backbone.get_config()["options"]
    assert options == {"num_dropout_layers": 1, "keep_prob": 0.9}
    # An override changes one model, not the preset.
    model = from_preset("tnet_needle_digits", options={"filters": (4,), "strides": (4,)})
    assert model.backbone.feature_dim == 4
    assert from_preset("tnet_needle_digits").backbone.feature_dim == 128


def test_position_channels_widen_the_backbone():
    wide = from_preset("topk_billiards_small", position_channels=True)
    assert wide.backbone.image_shape == (52, 52, 5) and wide.position_channels
    narrow = from_preset(
        "resnet18_billiards_position", position_channels=False, input_shape=(64, 64, 5)
    )
    assert narrow.backbone.image_shape == (64, 64, 3)


def test_weights_are_random():
    def kernel(seed):
        keras.utils.set_random_seed(seed)
        return from_preset("tnet_needle_digits").classifier.dense.kernel.numpy()

    np.testing.assert_array_equal(kernel(1), kernel(1))
    assert np.abs(kernel(1) - kernel(2)).max() > 0


def test_unknown_name():
    message = "`name` must be a preset: bagnet77_imagenet, .*Received: name='tnet_b0'"
    with pytest.raises(ValueError, match=message):
        from_preset("tnet_b0")


@pytest.mark.parametrize(
    ("name", "override", "message"),
    [
        ("tnet_needle_digits", {"locatoins": (1,)}, "of TNet or its back.*Received: .'locatoins'"),
        ("tnet_needle_digits", {"backbone": None}, "of TNet or its back.*Received: .'backbone'"),
        ("convnet_needle_digits", {"grid": 3}, "of FullImageClassifier or its.*Received: .'grid'"),
        ("tnet_needle_digits", {"options": {"depth": 3}}, "`options` of backbone.*Received"),
        ("tnet_needle_digits", {"selection": "best"}, "`selection` must be one of.*Received"),
        ("tnet_needle_digits", {"statistics_levels": 0}, "`statistics_levels` must be.*Received"),
    ],
)
def test_unknown_overrides(name, override, message):
    with pytest.raises(ValueError, match=message):
        from_preset(name, **override)
