"""The small models and files that the tests of this room share."""

import io

import numpy as np
from PIL import Image

from tnet_keras.backbones import Backbone
from tnet_keras.geometry import RegionGrid
from tnet_keras.layers import PatchSelection
from tnet_keras.models import (
    FullImageClassifier,
    NTSNet,
    NTSTopKClassifier,
    PatchSelectionClassifier,
    TNet,
)


def convnet(size, strides=(2, 2)):
    """A backbone of two layers."""
    options = {"filters": (4, 6), "strides": strides}
    return Backbone("convnet", input_shape=(size, size, 3), options=options)


def tnet(**overrides):
    """A TNet of 4 classes for images of 32 × 40 pixels."""
    arguments = {"grid": RegionGrid(3, 3, 0.5), "image_size": (32, 40), "locations": (2, 1)}
    arguments |= {"num_classes": 4, "unit_norm": False, "seed": 3}
    return TNet(convnet(16), **arguments | overrides)


def patch_selection():
    """A PatchSelectionClassifier of 4 classes, 2 patches of 16 pixels of 48."""
    selection = PatchSelection(2, image_size=(48, 48), view_size=(24, 24), patch_size=(16, 16))
    return PatchSelectionClassifier(convnet(16), selection, num_classes=4, seed=3)


def nts_top_k():
    """An NTSTopKClassifier of 4 classes, 2 patches."""
    selection = PatchSelection(2, image_size=(448, 448), view_size=None, patch_size=(64, 64))
    return NTSTopKClassifier(convnet(448, (8, 4)), selection, num_classes=4, seed=3)


def nts_net():
    """An NTSNet of 4 classes, 2 patches."""
    return NTSNet(
        convnet(448, (8, 4)), num_classes=4, num_patches=2, num_proposals=3, patch_size=(64, 64)
    )


def full_image():
    """A FullImageClassifier of 4 classes for images of 16 pixels."""
    return FullImageClassifier(convnet(16), num_classes=4)


def picture(height, width, seed=0):
    """uint8 `[height, width, 3]` with light and dark parts."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.BILINEAR))


def encoded(pixels, kind="PNG", **options):
    """Bytes of an image file."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()
