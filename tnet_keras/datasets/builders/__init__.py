"""TFDS builders: data sets as their owners hand them out, prepared once, read by name.

Importing this package makes the names known to `tfds.builder` and `tfds.load`.
"""

from tnet_keras.datasets.builders.billiards import KubricBilliards
from tnet_keras.datasets.builders.megapixel_mnist import (
    AttentionSamplingMnist,
    AttentionSamplingMnistConfig,
)
from tnet_keras.datasets.builders.swedish_traffic_signs import SwedishTrafficSigns

__all__ = [
    "AttentionSamplingMnist",
    "AttentionSamplingMnistConfig",
    "KubricBilliards",
    "SwedishTrafficSigns",
]
