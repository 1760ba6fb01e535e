"""Registering backbones by name."""

import keras
import pytest

from tnet_keras.backbones import Backbone, get, names, register


def test_names():
    assert names() == sorted(names())
    wanted = {"convnet", "bagnet77", "bagnet77_lowd", "resnet18", "resnet50", "thin_resnet"}
    assert wanted | {f"efficientnet_b{i}" for i in range(8)} | {"efficientnet"} == set(names())


def test_get_tells_scaling_and_options():
    entry = get("bagnet77")
    assert entry.input_scaling == "symmetric"
    assert entry.option_names() == [
        "feature_dim",
        "keep_prob",
        "multi_factor",
        "num_dropout_layers",
        "width",
    ]


def one_convolution(input_shape, statistics_levels, channels=4):
    inputs = keras.Input(input_shape)
    features = keras.layers.Conv2D(channels, 3)(inputs)
    return keras.Model(inputs, [features, keras.layers.GlobalAveragePooling2D()(features)])


def test_a_registered_builder_is_a_backbone(monkeypatch):
    monkeypatch.setattr("tnet_keras.backbones.registry._entries", {})
    assert register("one_convolution", input_scaling="unit")(one_convolution) is one_convolution
    backbone = Backbone("one_convolution", (9, 9, 3), options={"channels": 5})
    assert backbone.map_shape == (7, 7, 5)
    assert backbone.input_scaling == "unit"
    with pytest.raises(ValueError, match="`name` must .*Received: name='one_convolution'"):
        register("one_convolution")(one_convolution)


def test_a_builder_must_give_map_and_vector(monkeypatch):
    monkeypatch.setattr("tnet_keras.backbones.registry._entries", {})

    @register("identity")
    def identity(input_shape, statistics_levels):
        inputs = keras.Input(input_shape)
        return keras.Model(inputs, inputs)

    with pytest.raises(ValueError, match="two outputs.*Received: outputs of shape"):
        Backbone("identity")


def test_errors():
    with pytest.raises(ValueError, match="`name` must be one of .*Received: name='vgg'"):
        get("vgg")
    with pytest.raises(ValueError, match="`input_scaling` must .*Received: input_scaling='bgr'"):
        register("new", input_scaling="bgr")
    with pytest.raises(ValueError, match="`name` must be a non-empty str. Received: name=3"):
        register(3)
