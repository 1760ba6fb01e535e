"""EfficientNets: what is adapted from keras.applications, and what stays as it is."""

import keras
import numpy as np
import pytest

from tnet_keras.backbones import Backbone, LevelBatchNormalization
from tnet_keras.backbones.efficientnet import VARIANTS


def small(size=64, levels=1, **options):
    options = {"width_coefficient": 0.25, **options}
    return Backbone("efficientnet", (size, size, 3), statistics_levels=levels, options=options)


def drop_rates(backbone):
    layers = backbone.network.layers
    return {x.name: x.rate for x in layers if isinstance(x, keras.layers.Dropout)}


def test_starts_at_the_stem_and_keeps_names():
    names = [layer.name for layer in small().network.layers]
    assert names[:4] == ["images", "stem_conv_pad", "stem_conv", "stem_bn"]
    assert {"block1a_dwconv", "block2a_expand_conv", "block4c_add", "top_bn"} <= set(names)
    assert len(set(names)) == len(names)


def test_every_normalisation_has_statistics_per_level():
    network = small(levels=3).network
    normalisations = [x for x in network.layers if isinstance(x, LevelBatchNormalization)]
    assert len(normalisations) == 2 + 16 * 3 - 1
    assert not [x for x in network.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert {(x.levels, x.momentum, x.epsilon) for x in normalisations} == {(3, 0.99, 1e-3)}


def test_pretrained_weights_give_the_outputs_of_keras_applications(tmp_path):
    size = 75
    theirs = keras.applications.EfficientNetB0(
        include_top=False, weights=None, pooling="avg", input_shape=(size, size, 3)
    )
    random = np.random.default_rng(0)
    for variable in theirs.weights:
        if variable.path.endswith("moving_mean"):
            variable.assign(random.normal(0, 0.1, variable.shape))
    path = str(tmp_path / "b0.weights.h5")
    theirs.save_weights(path)
    ours = Backbone(
        "efficientnet_b0",
        (size, size, 3),
        input_scaling="unit",  # an unadapted Normalization layer leaves [0, 1]
        statistics_levels=2,
        options={"weights": path},
    )
    images = random.integers(0, 256, (2, size, size, 3)).astype("float32")
    wanted = theirs(images, training=False)
    for level in (1, 2):
        np.testing.assert_allclose(ours(images, level=level)[1], wanted, atol=1e-5, rtol=1e-4)
    assert "weights" not in ours.get_config()["options"]


def test_stochastic_depth_counts_from_one():
    rates = drop_rates(small(drop_connect_rate=0.32))
    # At this width the first block has a shortcut, which Keras gives no dropout.
    wanted = {"1a": 1, "2b": 3, "3b": 5, "4b": 7, "4c": 8, "5b": 10, "5c": 11, "6b": 13, "6c": 14}
    wanted["6d"] = 15
    assert rates == pytest.approx({f"block{k}_drop": 0.02 * b for k, b in wanted.items()})


def test_stochastic_depth_of_keras():
    rates = drop_rates(small(drop_connect_rate=0.32, stochastic_depth_from=0))
    wanted = {"2b": 2, "3b": 4, "4b": 6, "4c": 7, "5b": 9, "5c": 10, "6b": 12, "6c": 13, "6d": 14}
    assert rates == pytest.approx({f"block{k}_drop": 0.02 * b for k, b in wanted.items()})


def test_stochastic_depth_drops_whole_images_in_training_only():
    backbone = small(size=32, drop_connect_rate=0.9)
    (first,) = [x for x in backbone.network.layers if x.name == "block6d_drop"]
    outputs = np.asarray(first(np.ones((400, 2, 2, 3), "float32"), training=True))
    per_image = outputs.reshape(400, -1)
    assert (per_image == per_image[:, :1]).all()
    np.testing.assert_allclose(outputs.max(), 1 / (1 - 0.9 * 15 / 16), rtol=1e-5)
    assert np.mean(per_image[:, 0] == 0) == pytest.approx(0.9 * 15 / 16, abs=0.06)
    images = np.full((2, 32, 32, 3), 7.0, "float32")
    np.testing.assert_array_equal(backbone(images)[1], backbone(images)[1])


def test_no_dropout_without_stochastic_depth():
    assert drop_rates(small(drop_connect_rate=0.0)) == {}


@pytest.mark.parametrize(
    ("options", "layer", "side"),
    [
        ({}, "block4c_add", 4),
        ({"map_tap": "cub"}, "block4a_project_bn", 4),
        ({"map_tap": "fmow_5x5"}, "block3b_add", 8),
        ({"map_layer": "block2a_project_bn"}, "block2a_project_bn", 16),
        ({"depth_coefficient": 0.7}, "block4c_add", 4),
    ],
)
def test_map_is_the_end_of_a_block(options, layer, side):
    backbone = small(**options)
    assert backbone.map_shape[:2] == (side, side)
    assert backbone.network.outputs[0] is backbone.network.get_layer(layer).output


def test_cub_taps():
    assert [tap for _, _, tap in VARIANTS.values()] == ["4a", *["3b"] * 5, "3a", "3a"]


def test_depth_without_the_tapped_block():
    with pytest.raises(ValueError, match="`map_tap` must .*4c.*Received: blocks"):
        small(depth_coefficient=0.3)


def test_unknown_map_layer():
    with pytest.raises(ValueError, match="`map_layer` must .*Received: map_layer='block9z_add'"):
        small(map_layer="block9z_add")
