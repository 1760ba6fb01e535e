"""Data sets: `tf.data` streams of uint8 images, labels and, where known, boxes."""

from tnet_keras.datasets.augment import distorted_crop, random_flip, random_shift, shift
from tnet_keras.datasets.billiards import (
    BILLIARD_LABELS,
    BilliardsConfig,
    billiard_label,
    billiards,
    read_billiards,
    write_billiards,
)
from tnet_keras.datasets.drawn import load_billiards
from tnet_keras.datasets.folder import ImageFolder, image_folder
from tnet_keras.datasets.needle_scenes import NeedleDigitsConfig, source_digits
from tnet_keras.datasets.pipeline import check_labels, load
from tnet_keras.datasets.streams import Data
from tnet_keras.datasets.synthetic import needle_digits

__all__ = [
    "BILLIARD_LABELS",
    "BilliardsConfig",
    "Data",
    "ImageFolder",
    "NeedleDigitsConfig",
    "billiard_label",
    "billiards",
    "check_labels",
    "distorted_crop",
    "image_folder",
    "load",
    "load_billiards",
    "needle_digits",
    "random_flip",
    "random_shift",
    "read_billiards",
    "shift",
    "source_digits",
    "write_billiards",
]
