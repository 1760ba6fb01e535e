"""Every registered network: parameters, maps and vectors against the published ones."""

import keras
import numpy as np
import pytest

from tnet_keras.backbones import Backbone, LevelBatchNormalization
from tnet_keras.backbones.convnet import SoftArgmax


def count(variables):
    return sum(int(np.prod(v.shape)) for v in variables if "seed_generator" not in v.path)


def network(name, size=77, levels=1, **options):
    return Backbone(name, (size, size, 3), statistics_levels=levels, options=options).network


@pytest.mark.parametrize(
    ("name", "size", "options", "map_shape", "feature_dim", "parameters"),
    [
        ("convnet", 77, {}, (10, 10, 128), 128, 215_704),
        ("convnet", 77, {"map_layer": 4}, (20, 20, 64), 128, 215_704),
        ("bagnet77", 77, {}, (9, 9, 1024), 512, 20_033_664),
        ("bagnet77", 224, {"multi_factor": 1}, (27, 27, 256), 512, 10_595_178 - 971_370),
        ("bagnet77_lowd", 224, {}, (19, 19, 512), 512, 20_574_249 - 513 * 1001),
        ("resnet18", 64, {}, (2, 2, 512), 512, 11_176_512),
        ("resnet18", 64, {"map_layer": 2}, (8, 8, 128), 512, 11_176_512),
        ("resnet50", 64, {}, (2, 2, 2048), 2048, 23_508_032),
        ("thin_resnet", 100, {}, (13, 13, 32), 32, 59_680),
        ("thin_resnet", 100, {"map_layer": 1}, (50, 50, 32), 32, 59_680),
    ],
)
def test_published_sizes(name, size, options, map_shape, feature_dim, parameters):
    backbone = Backbone(name, (size, size, 3), options=options)
    assert backbone.map_shape == map_shape
    assert backbone.feature_dim == feature_dim
    assert count(backbone.trainable_variables) == parameters


# Trainable parameters and all variables, without a classifier (measured on TNet's own code).
EFFICIENTNETS = [
    ("efficientnet_b0", (14, 14, 80), 1280, 4_007_548, 4_049_564),
    ("efficientnet_b1", (28, 28, 40), 1280, 6_513_184, 6_575_232),
    ("efficientnet_b2", (28, 28, 48), 1408, 7_700_994, 7_768_562),
    ("efficientnet_b3", (28, 28, 48), 1536, 10_696_232, 10_783_528),
    ("efficientnet_b4", (28, 28, 56), 1792, 17_548_616, 17_673_816),
]


@pytest.mark.parametrize(
    ("name", "map_shape", "feature_dim", "trainable", "everything"), EFFICIENTNETS
)
def test_efficientnet_sizes(name, map_shape, feature_dim, trainable, everything):
    backbone = Backbone(name, (224, 224, 3))
    assert backbone.map_shape == map_shape
    assert backbone.feature_dim == feature_dim
    assert count(backbone.trainable_variables) == trainable
    assert count(backbone.variables) == everything


@pytest.mark.parametrize(
    ("name", "size", "options"),
    [
        ("convnet", (51, 38), {}),
        ("bagnet77", (78, 85), {"width": 1 / 16, "feature_dim": 24}),
        ("bagnet77", (78, 85), {"width": 1 / 16, "num_dropout_layers": 4, "keep_prob": 0.5}),
        ("bagnet77_lowd", (78, 93), {"width": 1 / 16}),
        ("resnet18", (45, 38), {"stem_relu": False}),
        ("thin_resnet", (45, 38), {"filters": 8}),
        ("efficientnet", (45, 38), {"width_coefficient": 0.25}),
    ],
)
def test_odd_sizes_run_and_learn(name, size, options):
    backbone = Backbone(name, (*size, 3), statistics_levels=2, options=options)
    images = np.random.default_rng(0).integers(0, 256, (2, *size, 3)).astype("uint8")
    for training in (False, True):
        features, vector = backbone(images, level=2, training=training)
        assert features.shape == (2, *backbone.map_shape)
        assert vector.shape == (2, backbone.feature_dim)
        assert np.isfinite(features).all() and np.isfinite(vector).all()


def test_vector_is_the_mean_over_positions():
    backbone = Backbone("convnet", (40, 40, 3))
    features, vector = backbone(np.full((1, 40, 40, 3), 9.0, "float32"))
    np.testing.assert_allclose(vector, np.mean(features, (1, 2)), rtol=1e-5)
    backbone = Backbone("convnet", (40, 40, 3), options={"pooling": "max"})
    features, vector = backbone(np.eye(40, dtype="float32")[None, ..., None] * [9.0, 50.0, 200.0])
    np.testing.assert_array_equal(vector, np.max(features, (1, 2)))


def test_bagnet77_has_no_batch_normalisation_and_stable_names():
    net = network("bagnet77", width=1 / 16)
    assert not [x for x in net.layers if isinstance(x, LevelBatchNormalization)]
    convolutions = [x.name for x in net.layers if isinstance(x, keras.layers.Conv2D)]
    blocks = [(2, 3), (3, 4), (4, 6), (5, 3)]
    wanted = {"part1", "part6"}
    for part, repeats in blocks:
        wanted.add(f"part{part}_block1_shortcut")
        for block in range(1, repeats + 1):
            wanted.update(f"part{part}_block{block}_comp_{i}" for i in (1, 2, 3))
    assert set(convolutions) == wanted


def test_bagnet77_part_sizes():
    net = network("bagnet77", width=1 / 16)
    sizes = {2: 38, 3: 19, 4: 9, 5: 7}
    for part, size in sizes.items():
        assert net.get_layer(f"part{part}_block1_add").output.shape[1:3] == (size, size)


def test_bagnet77_dropout_drops_whole_channels_after_the_map():
    kept = network("bagnet77", width=1 / 16, feature_dim=64)
    dropped = network("bagnet77", width=1 / 16, feature_dim=64, num_dropout_layers=3, keep_prob=0.5)
    names = [x.name for x in dropped.layers if isinstance(x, keras.layers.SpatialDropout2D)]
    assert names == ["part4_dropout", "part5_dropout", "part6_dropout"]
    dropped.set_weights(kept.get_weights())
    images = np.random.default_rng(0).uniform(-1, 1, (2, 77, 77, 3)).astype("float32")
    for mine, wanted in zip(dropped(images, training=False), kept(images), strict=True):
        np.testing.assert_allclose(mine, wanted, atol=1e-6)
    features, vector = dropped(images, training=True)
    np.testing.assert_allclose(features, kept(images)[0], atol=1e-6)  # the map comes before
    assert 0.2 < np.mean(np.asarray(vector) == 0) < 0.8


def test_bagnet77_lowd_blocks_start_as_their_shortcut():
    net = network("bagnet77_lowd", size=93, width=1 / 16)
    for layer in net.layers:
        if isinstance(layer, LevelBatchNormalization):
            assert layer.momentum == 0.9 and layer.epsilon == 1e-5
            last_of_block = layer.name.endswith("_bn_3")
            np.testing.assert_array_equal(layer.gamma, 0.0 if last_of_block else 1.0)
    assert not [x for x in net.layers if isinstance(x, keras.layers.Conv2D) and x.use_bias]
    assert net.output[0].shape[1:3] == (3, 3)  # 77 + 2 steps of 8


def test_bagnet77_lowd_released_bug_keeps_the_parameters():
    fixed = network("bagnet77_lowd", width=1 / 16)
    released = network("bagnet77_lowd", width=1 / 16, released_shortcut_bug=True)
    assert count(fixed.trainable_variables) == count(released.trainable_variables)
    normalised = released.get_layer("part2_block1_shortcut_bn").input
    assert normalised is released.get_layer("part2_block1_bn_3").output


def test_resnets_as_published():
    net = network("resnet50", size=32)
    gammas = {x.name: np.asarray(x.gamma) for x in net.layers if "bn" in x.name}
    assert all((gamma == (not name.endswith("_3_bn"))).all() for name, gamma in gammas.items())
    assert net.get_layer("stem_bn").momentum == 0.99
    assert net.get_layer("stage1_block1_1_bn").momentum == 0.9
    names = [layer.name for layer in network("resnet18", size=32, stem_relu=False).layers]
    assert "stem_activation" not in names


@pytest.mark.parametrize(
    ("name", "options", "argument"),
    [
        ("convnet", {"filters": [8, 8], "strides": [1]}, "filters"),
        ("convnet", {"filters": [], "strides": []}, "filters"),
        ("convnet", {"map_layer": 7}, "map_layer"),
        ("convnet", {"pooling": "sum"}, "pooling"),
        ("bagnet77", {"keep_prob": 0}, "keep_prob"),
        ("bagnet77", {"num_dropout_layers": 5}, "num_dropout_layers"),
        ("bagnet77", {"width": 0}, "width"),
        ("bagnet77", {"multi_factor": -1}, "multi_factor"),
        ("bagnet77_lowd", {"feature_dim": 0}, "feature_dim"),
        ("resnet18", {"map_layer": 5}, "map_layer"),
        ("resnet50", {"map_layer": "last"}, "map_layer"),
        ("thin_resnet", {"filters": 0}, "filters"),
        ("thin_resnet", {"blocks": 1.5}, "blocks"),
        ("efficientnet", {"width_coefficient": 0}, "width_coefficient"),
        ("efficientnet", {"depth_coefficient": -1}, "depth_coefficient"),
        ("efficientnet", {"drop_connect_rate": 1}, "drop_connect_rate"),
        ("efficientnet", {"stochastic_depth_from": 2}, "stochastic_depth_from"),
        ("efficientnet", {"map_tap": "5x5"}, "map_tap"),
        ("efficientnet", {"weights": "imagenet"}, "weights"),
        ("efficientnet_b0", {"width_coefficient": 2.0}, "options"),
    ],
)
def test_option_errors(name, options, argument):
    with pytest.raises(ValueError, match=rf"`{argument}` .*Received: \w+="):
        Backbone(name, (96, 96, 3), options=options)


def test_bagnet77_lowd_needs_77_pixels():
    with pytest.raises(
        ValueError, match="`input_shape` .* at least 77x77 .*Received: input_shape="
    ):
        Backbone("bagnet77_lowd", (77, 76, 3))


def test_soft_argmax_codes_the_place_of_the_strongest_response():
    layer = SoftArgmax(heads=2, frequencies=3)
    features = np.zeros((1, 3, 5, 2), np.float32)
    features[0, 2, 0, 0] = features[0, 1, 3, 1] = 80.0
    rows, columns = np.meshgrid(np.linspace(0.1, 0.3, 3), np.linspace(0.4, 0.8, 5), indexing="ij")
    coordinates = np.stack([rows, columns], axis=-1)[None]
    layer.build([features.shape, coordinates.shape])
    layer.kernel.assign(np.eye(2))  # a head for each channel
    found = np.asarray(layer([features, coordinates])).reshape(2, 2, 2, 3)
    angles = np.pi / 2 * np.array([1, 2, 4])
    for head, place in enumerate(([0.3, 0.4], [0.2, 0.7])):
        for axis, x in enumerate(place):
            expected = [np.sin(angles * x), np.cos(angles * x)]
            np.testing.assert_allclose(found[head, axis], expected, atol=1e-5)
    # A map without a strongest place means the middle.
    layer.kernel.assign(np.zeros((2, 2)))
    middle = np.asarray(layer([features, coordinates])).reshape(2, 2, 2, 3)
    np.testing.assert_allclose(middle[0, 0, 0], np.sin(angles * 0.2), atol=1e-5)
    one = layer([np.ones((1, 1, 1, 2), np.float32), np.full((1, 4, 4, 2), 0.5, np.float32)])
    found = np.reshape(one, (2, 2, 2, 3))[0, 0, 0]
    np.testing.assert_allclose(found, np.sin(angles / 2), atol=1e-5)


def test_positions_tell_where_in_the_image_something_lies():
    """Without them a convolutional net with max-pooling sees the same far from the borders."""
    images = np.zeros((2, 64, 64, 5), np.float32)
    images[..., 3], images[..., 4] = np.meshgrid(*2 * [np.linspace(0, 255, 64)], indexing="ij")
    images[0, 24:28, 16:20, :3] = 255
    images[1, 24:28, 40:44, :3] = 255
    options = {"filters": [4, 6], "strides": [2, 2], "pooling": "max"}
    plain = np.asarray(Backbone("convnet", (64, 64, 3), options=options)(images[..., :3])[1])
    np.testing.assert_allclose(plain[0], plain[1], atol=1e-6)
    network = Backbone("convnet", (64, 64, 5), "unit", options={**options, "positions": True})
    vectors = np.asarray(network(images)[1])
    assert vectors.shape == (2, 6 + 96) and network.feature_dim == 6 + 96
    # Two convolutions and normalisations, and four maps of six features.
    assert count(network.trainable_variables) == 9 * 3 * 4 + 8 + 9 * 4 * 6 + 12 + 6 * 4
    np.testing.assert_allclose(vectors[0, :6], vectors[1, :6], atol=1e-6)  # of colours only
    assert np.abs(vectors[0, 6:] - vectors[1, 6:]).max() > 0.01
    with pytest.raises(ValueError, match="`input_shape` must have 5 channels.*Received: .*64, 3"):
        Backbone("convnet", (64, 64, 3), options={"positions": True})
