"""Networks that turn an image into a map for the location module and a feature vector."""

from tnet_keras.backbones import (  # noqa: F401  (importing a network's module registers it)
    bagnet as _bagnet,
)
from tnet_keras.backbones import convnet as _convnet  # noqa: F401
from tnet_keras.backbones import efficientnet as _efficientnet  # noqa: F401
from tnet_keras.backbones import resnet as _resnet  # noqa: F401
from tnet_keras.backbones.backbone import Backbone
from tnet_keras.backbones.normalization import LevelBatchNormalization, statistics_level
from tnet_keras.backbones.registry import get, names, register

__all__ = [
    "Backbone",
    "LevelBatchNormalization",
    "get",
    "names",
    "register",
    "statistics_level",
]
