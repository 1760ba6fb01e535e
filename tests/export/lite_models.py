"""Tiny models of every kind that LiteRT files are made of, and what is in such a file."""

import numpy as np
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

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

OPTIONS = {"filters": [4, 6], "strides": [2, 2]}


def convnet(side=16, channels=3, **options):
    options = {**OPTIONS, **options}
    return Backbone("convnet", input_shape=(side, side, channels), options=options)


def tnet(**options):
    arguments = {"grid": RegionGrid(3, 3, 0.5), "image_size": (64, 64), "locations": (2,)}
    return TNet(convnet(), num_classes=4, **arguments | options)


def patch_selection(selector="hard", positions=False):
    # The view is smaller than the image: scores come from an antialiased view.
    selection = PatchSelection(
        2, image_size=(96, 80), view_size=(40, 40), patch_size=(16, 16), selector=selector
    )
    backbone = convnet(channels=5, positions=True) if positions else convnet()
    return PatchSelectionClassifier(backbone, selection, 4, position_channels=positions)


def full_image(**options):
    channels = 5 if options.get("position_channels") else 3
    return FullImageClassifier(convnet(channels=channels), num_classes=4, **options)


def nts(cls):
    backbone = Backbone(
        "convnet", input_shape=(448, 448, 3), options={"filters": (4, 8), "strides": (8, 4)}
    )
    if cls is NTSNet:
        return NTSNet(backbone, 4, num_patches=2, num_proposals=3, patch_size=(64, 64))
    selection = PatchSelection(2, (448, 448), view_size=None, patch_size=(64, 64))
    return NTSTopKClassifier(backbone, selection, 4)


MODELS = {
    "TNet of two levels": tnet,
    "TNet of three levels": lambda: tnet(locations=(2, 1)),
    "TNet with padding": lambda: tnet(
        grid=RegionGrid(5, 5, 0.34375), image_size=(112, 112), locations=(2, 1)
    ),
    "TNet for EfficientNet": lambda: tnet(
        aggregation="weighted", location_module="squeeze_excite", positional="add"
    ),
    "TNet on context": lambda: tnet(locations=()),
    "patch selection": patch_selection,
    "patch selection with positions": lambda: patch_selection(positions=True),
    "full image": full_image,
    "full image with positions": lambda: full_image(position_channels=True),
    "NTS-Top-K": lambda: nts(NTSTopKClassifier),
    "NTS-Net": lambda: nts(NTSNet),
}


def scenes(size, count, seed=0):
    """uint8 images with a smooth background and one bright square."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    images = np.empty((count, *size, 3), np.uint8)
    for image in images:
        slope = random.uniform(0, 90, (2, 3))
        image[:] = y[..., None] / size[0] * slope[0] + x[..., None] / size[1] * slope[1]
        side = min(size) // 4
        row, column = (random.integers(0, length - side) for length in size)
        image[row : row + side, column : column + side] = random.integers(120, 256, 3)
    return images


def expected(model, images):
    """What the model itself says."""
    if hasattr(model, "attend"):
        outputs = model.attend(images)
        outputs["box_scores"] = outputs["box_probabilities"]
        return outputs
    return {"probabilities": tf.nn.softmax(model(images))}


def operators(content):
    """Names of the operators in a LiteRT file; those of no built-in one by their own name."""
    names = {value: name for name, value in vars(schema.BuiltinOperator).items()}
    codes = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content)).operatorCodes
    return {
        code.customCode.decode()
        if code.customCode
        else names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        for code in codes
    }, any(code.customCode for code in codes)
