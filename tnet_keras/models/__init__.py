"""Models: which parts, in which order, with which loss."""

from tnet_keras.models.full_image import FullImageClassifier
from tnet_keras.models.nts_net import NTSNet, NTSTopKClassifier
from tnet_keras.models.patch_selection import PatchSelectionClassifier
from tnet_keras.models.presets import from_preset, preset_names
from tnet_keras.models.tnet import TNet

__all__ = [
    "FullImageClassifier",
    "NTSNet",
    "NTSTopKClassifier",
    "PatchSelectionClassifier",
    "TNet",
    "from_preset",
    "preset_names",
]
