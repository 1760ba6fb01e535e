"""The Backbone layer: scaling, levels, own networks, configuration, saving, precision."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tnet_keras.backbones import Backbone, LevelBatchNormalization

TINY = {"filters": [6, 8], "strides": [2, 2]}


def images(batch=3, size=16, seed=0, dtype="float32"):
    return np.random.default_rng(seed).integers(0, 256, (batch, size, size, 3)).astype(dtype)


def tiny(**arguments):
    return Backbone("convnet", (16, 16, 3), options=TINY, **arguments)


def own_network(outputs="both", shape=(16, 16, 3)):
    """A small network with Keras batch normalisation, one of them in a nested model."""
    inner_inputs = keras.Input((None, None, 5))
    inner_outputs = keras.layers.BatchNormalization(name="inner_bn")(inner_inputs)
    inner = keras.Model(inner_inputs, inner_outputs, name="inner")
    inputs = keras.Input(shape)
    x = keras.layers.Conv2D(5, 3, strides=2, padding="same", name="conv")(inputs)
    x = keras.layers.BatchNormalization(momentum=0.5, name="bn")(x)
    x = features = keras.layers.ReLU(name="features")(inner(x))
    if outputs != "map":
        x = keras.layers.Dense(7, name="dense")(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, [features, x] if outputs == "both" else x, name="own")
    random = np.random.default_rng(1)
    for variable in model.weights:
        if "moving" in variable.path:
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
    return model


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize(
    ("scaling", "formula"),
    [
        ("symmetric", lambda x: x / 127.5 - 1),
        ("unit", lambda x: x / 255),
        ("imagenet", lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]),
        ("none", lambda x: x),
    ],
)
def test_input_scaling(scaling, formula, dtype):
    pixels = images(dtype=dtype)
    backbone = tiny(input_scaling=scaling)
    np.testing.assert_allclose(
        backbone.scale_images(pixels), formula(pixels.astype("float64")), atol=1e-5
    )
    scaled = formula(pixels.astype("float64")).astype("float32")
    wanted = backbone.network(scaled)
    for mine, other in zip(backbone(pixels), wanted, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-4, rtol=1e-4)


def test_default_scaling_is_the_registered_one():
    assert tiny().input_scaling == "symmetric"
    assert Backbone("thin_resnet", (16, 16, 3)).input_scaling == "unit"


def test_defaults():
    backbone = Backbone("convnet")
    assert backbone.image_shape == (77, 77, 3)
    assert backbone.map_shape == (10, 10, 128)
    assert backbone.feature_dim == 128


def test_levels_are_trained_and_evaluated_apart():
    backbone = tiny(statistics_levels=2)
    dark, bright = images() * 0.2, images(seed=1) * 0.2 + 200
    for _ in range(60):
        backbone(dark, level=1, training=True)
        backbone(bright, level=2, training=True)
    normalisation = backbone.network.get_layer("bn1")
    assert np.abs(normalisation.moving_means[0] - normalisation.moving_means[1]).max() > 0.3
    for inputs, level in ((dark, 1), (bright, 2)):
        batch_statistics = backbone(inputs, level=level, training=True)[1]
        np.testing.assert_allclose(backbone(inputs, level=level)[1], batch_statistics, atol=0.05)
    assert np.abs(backbone(bright, level=1)[1] - backbone(bright, level=2)[1]).max() > 0.3


def test_shared_statistics_as_the_original():
    backbone = tiny(statistics_levels=1)
    backbone(images(), level=1, training=True)
    after_one = backbone.network.get_layer("bn1").moving_mean.numpy().copy()
    backbone(images(seed=1) * 0.1, level=2, training=True)
    assert np.abs(backbone.network.get_layer("bn1").moving_mean - after_one).max() > 1e-3
    np.testing.assert_array_equal(backbone(images(), level=1)[1], backbone(images(), level=2)[1])


@pytest.mark.parametrize("jit_compile", [False, True])
def test_compiled(jit_compile):
    backbone = tiny(statistics_levels=2)
    step = tf.function(
        lambda x: (backbone(x, level=1), backbone(x, level=2, training=True)),
        jit_compile=jit_compile,
    )
    pixels = tf.constant(images(dtype="uint8"))
    (_, first), (_, second) = step(pixels)
    np.testing.assert_allclose(second, backbone(pixels, level=2, training=True)[1], atol=1e-5)
    np.testing.assert_allclose(first, backbone(pixels, level=1)[1], atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_precision_belongs_to_the_layer(policy):
    backbone = tiny(dtype=policy)
    pixels = images()
    features, vector = backbone(pixels, training=True)
    dtype = keras.DTypePolicy(policy).compute_dtype
    assert features.dtype == vector.dtype == dtype
    assert backbone.network.get_layer("bn1").gamma.dtype == "float32"
    assert keras.config.dtype_policy().name == "float32"
    copy = Backbone.from_config(backbone.get_config())
    assert copy.network.get_layer("conv1").compute_dtype == dtype
    reference = tiny()
    reference.set_weights(backbone.get_weights())
    wanted = np.asarray(reference(pixels)[1])
    np.testing.assert_allclose(np.asarray(backbone(pixels)[1], "float32"), wanted, atol=0.05)


def test_frozen_backbone_uses_its_moving_statistics():
    for backbone in (tiny(trainable=False), tiny()):
        backbone.trainable = False
        np.testing.assert_allclose(backbone(images(), training=True)[1], backbone(images())[1])
        assert backbone.trainable_variables == []


@pytest.mark.parametrize("outputs", ["both", "vector", "map"])
@pytest.mark.parametrize("levels", [1, 2])
def test_own_network_keeps_its_function(outputs, levels):
    model = own_network(outputs)
    options = {"map_layer": "features"} if outputs == "vector" else None
    backbone = Backbone(model, statistics_levels=levels, input_scaling="unit", options=options)
    assert backbone.map_shape == (8, 8, 5)
    assert backbone.feature_dim == (5 if outputs == "map" else 7)
    for level in range(1, levels + 1):
        features, vector = backbone(images(), level=level)
        wanted = model(images() / 255)
        if outputs == "both":
            np.testing.assert_allclose(features, wanted[0], atol=1e-5)
            np.testing.assert_allclose(vector, wanted[1], atol=1e-5)
        elif outputs == "vector":
            np.testing.assert_allclose(vector, wanted, atol=1e-5)
        else:
            np.testing.assert_allclose(features, wanted, atol=1e-5)
            np.testing.assert_allclose(vector, np.mean(wanted, (1, 2)), atol=1e-5)
    layer = backbone.network.get_layer("bn")
    assert isinstance(layer, LevelBatchNormalization)
    assert (layer.levels, layer.momentum) == (levels, 0.5)
    inner = backbone.network.get_layer("inner").get_layer("inner_bn")
    assert isinstance(inner, LevelBatchNormalization)
    backbone(images(), level=levels, training=True)
    if levels == 2:
        np.testing.assert_array_equal(inner.moving_means[0], model.layers[3].weights[2])


def test_own_network_is_copied():
    model = own_network()
    before = [np.array(w) for w in model.get_weights()]
    backbone = Backbone(model)
    backbone(images(), training=True)
    backbone.network.get_layer("conv").kernel.assign_add(np.ones((3, 3, 3, 5)))
    for mine, wanted in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, wanted)


def test_own_network_of_open_size():
    backbone = Backbone(own_network(shape=(None, None, 3)), (20, 12, 3))
    assert backbone.map_shape == (10, 6, 5)


def test_own_sequential_network():
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Conv2D(4, 3, name="conv"),
            keras.layers.BatchNormalization(),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    backbone = Backbone(model, statistics_levels=2, options={"map_layer": "conv"})
    assert (backbone.map_shape, backbone.feature_dim) == ((14, 14, 4), 4)


def test_own_network_that_rescales_gets_pixels():
    inputs = keras.Input((16, 16, 3))
    outputs = keras.layers.Conv2D(4, 3)(keras.layers.Rescaling(1 / 255)(inputs))
    assert Backbone(keras.Model(inputs, outputs)).input_scaling == "none"
    assert Backbone(own_network()).input_scaling == "symmetric"


@pytest.mark.parametrize("own", [False, True])
def test_configuration_round_trip(own):
    if own:
        backbone = Backbone(
            own_network("vector"), statistics_levels=2, options={"map_layer": "features"}
        )
    else:
        backbone = tiny(statistics_levels=2, input_scaling="unit", name="eye")
    copy = Backbone.from_config(backbone.get_config())
    assert copy.get_config() == backbone.get_config()
    assert [v.path for v in copy.variables] == [v.path for v in backbone.variables]
    copy.set_weights(backbone.get_weights())
    np.testing.assert_array_equal(copy(images(), level=2)[1], backbone(images(), level=2)[1])


LOAD = """
import sys, keras, numpy as np
import tnet_keras.backbones
for path in sys.argv[1:]:
    data = np.load(path + ".npz")
    outputs = keras.models.load_model(path).predict(data["images"], verbose=0)
    np.testing.assert_allclose(outputs, data["outputs"], atol=1e-6)
print("equal")
"""


def test_saved_models_load_in_a_fresh_process(tmp_path, repository):
    backbones = [tiny(statistics_levels=2), Backbone(own_network(), statistics_levels=2)]
    paths = []
    for index, backbone in enumerate(backbones):
        inputs = keras.Input((16, 16, 3))
        first, second = backbone(inputs, level=1)[1], backbone(inputs, level=2)[1]
        model = keras.Model(inputs, keras.layers.Concatenate()([first, second]))
        backbone(images(seed=2), level=2, training=True)
        paths.append(str(tmp_path / f"model{index}.keras"))
        model.save(paths[-1])
        np.savez(paths[-1], images=images(), outputs=model.predict(images(), verbose=0))
    result = subprocess.run(
        [sys.executable, "-c", LOAD, *paths], cwd=repository, capture_output=True, text=True
    )
    assert result.stdout.strip() == "equal", result.stderr


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"builder": "alexnet"}, "name"),
        ({"builder": 3}, "builder"),
        ({"input_shape": (16, 16)}, "input_shape"),
        ({"input_shape": (16, 0, 3)}, "input_shape"),
        ({"input_shape": (16, None, 3)}, "input_shape"),
        ({"input_shape": (16, 16, 1), "input_scaling": "imagenet"}, "input_shape"),
        ({"input_scaling": "bgr"}, "input_scaling"),
        ({"statistics_levels": 0}, "statistics_levels"),
        ({"options": {"widht": 1}}, "options"),
        ({"options": {"momentum": np.zeros(3)}}, "options"),
        ({"options": [("momentum", 1)]}, "options"),
    ],
)
def test_argument_errors(arguments, name):
    with pytest.raises(ValueError, match=rf"`{name}` .*Received: {name}"):
        Backbone(**{"builder": "convnet", **arguments})


@pytest.mark.parametrize("shape", [(2, 16, 16), (2, 16, 17, 3), (2, 16, 16, 1)])
def test_image_shape_errors(shape):
    with pytest.raises(ValueError, match=r"`images` must .*Received: images.shape="):
        tiny()(np.zeros(shape, "float32"))


@pytest.mark.parametrize("level", [0, 1.5, None])
def test_level_errors(level):
    with pytest.raises(ValueError, match="`level` must .*Received: level="):
        tiny()(images(), level=level)


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


class HidesStatistics(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.normalization = keras.layers.BatchNormalization()

    def call(self, inputs):
        return self.normalization(inputs)

    def compute_output_shape(self, input_shape):
        return input_shape


def chain(*layers, shape=(16, 16, 3)):
    return keras.Sequential([keras.Input(shape), *layers])


def swapped():
    inputs = keras.Input((16, 16, 3))
    return keras.Model(inputs, [keras.layers.GlobalAveragePooling2D()(inputs), inputs])


@pytest.mark.parametrize(
    ("build", "arguments", "message"),
    [
        (Subclassed, {}, "`builder` must be a functional"),
        (lambda: chain(keras.layers.Dense(3), shape=(4,)), {}, "one image input"),
        (swapped, {}, "two outputs, map .* and vector"),
        (lambda: own_network("vector"), {}, "`options` must be .*map_layer"),
        (lambda: own_network("vector"), {"options": {"map_layer": "dense"}}, "`map_layer` must"),
        (lambda: own_network("vector"), {"options": {"width": 2}}, r"\['map_layer'\]"),
        (own_network, {"options": {"map_layer": "features"}}, r"outputs \[map, vector\]"),
        (own_network, {"input_shape": (17, 16, 3)}, "`input_shape` must agree"),
        (lambda: own_network(shape=(None, None, 3)), {}, "`input_shape` must be given"),
        (lambda: chain(keras.layers.BatchNormalization(axis=1)), {}, "last axis"),
        (lambda: chain(keras.layers.BatchNormalization(synchronized=True)), {}, "synchronized=F"),
        (lambda: chain(keras.layers.BatchNormalization(renorm=True)), {}, "renorm=False"),
        (lambda: chain(HidesStatistics()), {"statistics_levels": 2}, "`statistics_levels` must"),
    ],
)
def test_own_network_errors(build, arguments, message):
    with pytest.raises(ValueError, match=rf"{message}[\s\S]*Received: "):
        Backbone(build(), **arguments)
