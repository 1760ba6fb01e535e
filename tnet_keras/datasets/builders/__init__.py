"""TFDS builders of data sets as their owners hand them out; importing this registers them.

`tfds.builder(name)` knows them afterwards. Nothing else of the package imports this: TFDS takes a
third of a second that other users need not pay.
"""

from tnet_keras.datasets.builders.fmow_rgb import FMOW_LABELS, FmowRgb, FmowRgbConfig
from tnet_keras.datasets.builders.nabirds import Nabirds
from tnet_keras.datasets.builders.prepare import prepare

__all__ = ["FMOW_LABELS", "FmowRgb", "FmowRgbConfig", "Nabirds", "prepare"]
