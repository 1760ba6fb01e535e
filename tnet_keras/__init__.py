"""Hard attention for large images: look at a small copy, choose a few regions, look closely there.

Keras 3 on TensorFlow. `from_preset(name)` builds a published system; `models`, `layers`, `ops`,
`learning`, `backbones` and `geometry` hold its parts.
"""

from tnet_keras import backbones, geometry, interop, layers, learning, models, ops
from tnet_keras.backbones import Backbone
from tnet_keras.geometry import RegionGrid, coverage
from tnet_keras.models import (
    FullImageClassifier,
    NTSTopKClassifier,
    PatchSelectionClassifier,
    TNet,
    from_preset,
    preset_names,
)

__version__ = "0.1.0"

__all__ = [
    "Backbone",
    "FullImageClassifier",
    "NTSTopKClassifier",
    "PatchSelectionClassifier",
    "RegionGrid",
    "TNet",
    "backbones",
    "coverage",
    "from_preset",
    "geometry",
    "interop",
    "layers",
    "learning",
    "models",
    "ops",
    "preset_names",
]
