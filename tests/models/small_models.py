"""The small models and batches that the tests of this room share."""

import keras
import numpy as np

from tnet_keras.backbones import Backbone
from tnet_keras.geometry import RegionGrid
from tnet_keras.models import FullImageClassifier, TNet

# Selection by top-k, and nothing else that is random: two runs of the same weights agree.
DETERMINISTIC = {"selection": "top_k", "dropout": 0.0}


def convnet(**arguments):
    """Returns a backbone with batch normalisation: 16x16 view, map [B, 4, 4, 6], vector [B, 6]."""
    options = {"filters": (4, 6), "strides": (2, 2)}
    return Backbone("convnet", input_shape=(16, 16, 3), options=options, **arguments)


def own_network(size=16):
    """Returns a network as a user brings it, without batch normalisation: rows do not mix."""
    images = keras.Input((size, size, 3))
    features = keras.layers.Conv2D(6, 4, strides=4, activation="tanh", name="map")(images)
    pooled = keras.layers.GlobalAveragePooling2D()(features)
    return keras.Model(images, [features, keras.layers.Dense(8, name="vector")(pooled)])


def own_backbone(size=16, **arguments):
    """Returns a backbone around `own_network`."""
    return Backbone(own_network(size), **arguments)


def tnet(backbone=None, **overrides):
    """Returns a TNet of 4 classes for 32x32 images; with a policy that is not nearly uniform."""
    arguments = {
        "num_classes": 4,
        "grid": RegionGrid(3, 3, 0.5),
        "image_size": (32, 32),
        "locations": (2,),
        "unit_norm": False,
        "seed": 3,
    }
    return TNet(backbone or convnet(), **arguments | overrides)


def classifier(backbone=None, **overrides):
    """Returns a FullImageClassifier of 4 classes for 16x16 images."""
    return FullImageClassifier(backbone or convnet(), **{"num_classes": 4, "seed": 3} | overrides)


def pixels(count, height=32, width=32, seed=0):
    """Returns uint8 images `[count, height, width, 3]` with light and dark quarters."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 128, (count, height, width, 3))
    rows, cols = -(-height // 2), -(-width // 2)
    quarters = random.integers(0, 2, (count, 2, 2, 3)).repeat(rows, axis=1).repeat(cols, axis=2)
    return (images + 127 * quarters[:, :height, :width]).astype("uint8")


def batch(count, seed=0, size=32):
    """Returns images and int32 labels in 0..3, `[count]`."""
    return pixels(count, size, size, seed), (np.arange(count) % 4).astype("int32")


def copy_weights(source, target):
    """Gives a model the weights of another one with the same structure, and returns it."""
    target.set_weights(source.get_weights())
    return target


def assert_same_weights(model, other, **tolerances):
    """Asserts that all weights of two models agree, the baseline and moving statistics too."""
    for ours, theirs in zip(model.weights, other.weights, strict=True):
        np.testing.assert_allclose(
            ours.numpy(), theirs.numpy(), **{"rtol": 0, "atol": 0} | tolerances, err_msg=ours.path
        )
