"""TFDS builders of data sets as their owners hand them out; importing this registers them.

`tfds.builder(name)` knows them afterwards. Nothing else of the package imports this: TFDS takes a
third of a second that other users need not pay.
"""

from tnet_keras.datasets.builders.billiards import KubricBilliards
from tnet_keras.datasets.builders.fmow_rgb import FMOW_LABELS, FmowRgb, FmowRgbConfig
from tnet_keras.datasets.builders.megapixel_mnist import (
    AttentionSamplingMnist,
    AttentionSamplingMnistConfig,
)
from tnet_keras.datasets.builders.nabirds import Nabirds
from tnet_keras.datasets.builders.prepare import prepare
from tnet_keras.datasets.builders.swedish_traffic_signs import SwedishTrafficSigns

__all__ = [
    "FMOW_LABELS",
    "AttentionSamplingMnist",
    "AttentionSamplingMnistConfig",
    "FmowRgb",
    "FmowRgbConfig",
    "KubricBilliards",
    "Nabirds",
    "SwedishTrafficSigns",
    "prepare",
]
