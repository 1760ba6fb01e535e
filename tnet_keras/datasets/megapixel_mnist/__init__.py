"""Megapixel MNIST: three digits of one class among others and strokes on a large black canvas.

The data set of "Processing Megapixel Images with Deep Attention-Sampling Models" (Katharopoulos
and Fleuret, ICML 2019, arXiv 1905.03711), drawn anew by the published rules. The label is the class
that three of the five digits have.
"""

from tnet_keras.datasets.megapixel_mnist.digits import MnistDigits, mnist_digits
from tnet_keras.datasets.megapixel_mnist.folder import write_megapixel_mnist
from tnet_keras.datasets.megapixel_mnist.scenes import MegapixelMnistConfig, MegapixelMnistScenes
from tnet_keras.datasets.megapixel_mnist.stamps import low_resolution
from tnet_keras.datasets.megapixel_mnist.stream import megapixel_mnist, read_megapixel_mnist

__all__ = [
    "MegapixelMnistConfig",
    "MegapixelMnistScenes",
    "MnistDigits",
    "low_resolution",
    "megapixel_mnist",
    "mnist_digits",
    "read_megapixel_mnist",
    "write_megapixel_mnist",
]
