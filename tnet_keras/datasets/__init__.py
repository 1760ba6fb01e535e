"""Data sets: `tf.data` streams of uint8 images, labels and, where known, boxes."""

from tnet_keras.datasets.aug_mix import aug_mix, cutout
from tnet_keras.datasets.augment import (
    distorted_crop,
    random_contrast,
    random_flip,
    random_shift,
    random_shift_with_black,
    resized_crop,
    shift,
)
from tnet_keras.datasets.augmentation import AUGMENTATIONS, Augmentation, prepare_image
from tnet_keras.datasets.bad_images import BadImages
from tnet_keras.datasets.billiards import (
    BILLIARD_LABELS,
    BilliardsConfig,
    billiard_label,
    billiards,
    read_billiards,
    write_billiards,
)
from tnet_keras.datasets.color import distort_color, random_color
from tnet_keras.datasets.drawn import (
    load_billiards,
    load_megapixel_mnist,
    load_traffic_signs,
)
from tnet_keras.datasets.folder import ImageFolder, image_folder
from tnet_keras.datasets.folder_digest import folder_digest
from tnet_keras.datasets.megapixel_mnist import (
    MegapixelMnistConfig,
    megapixel_mnist,
    read_megapixel_mnist,
    write_megapixel_mnist,
)
from tnet_keras.datasets.needle_scenes import NeedleDigitsConfig, source_digits
from tnet_keras.datasets.original_records import OriginalRecords, read_original_records
from tnet_keras.datasets.pipeline import DRAWN_NAMES, check_labels, load
from tnet_keras.datasets.rand_augment import rand_augment
from tnet_keras.datasets.resizing import random_resize, random_resize_as_released
from tnet_keras.datasets.streams import Data
from tnet_keras.datasets.synthetic import needle_digits
from tnet_keras.datasets.traffic_signs import (
    TRAFFIC_SIGN_CLASSES,
    TrafficScenesConfig,
    TrafficSign,
    labelled_sign,
    read_annotations,
    read_traffic_signs,
    traffic_sign_label,
    traffic_signs,
    write_traffic_signs,
)
from tnet_keras.datasets.warp import random_translation_rotation, rotate, translate

__all__ = [
    "AUGMENTATIONS",
    "Augmentation",
    "BILLIARD_LABELS",
    "BadImages",
    "BilliardsConfig",
    "DRAWN_NAMES",
    "Data",
    "ImageFolder",
    "MegapixelMnistConfig",
    "NeedleDigitsConfig",
    "OriginalRecords",
    "TRAFFIC_SIGN_CLASSES",
    "TrafficScenesConfig",
    "TrafficSign",
    "aug_mix",
    "billiard_label",
    "billiards",
    "check_labels",
    "cutout",
    "distort_color",
    "distorted_crop",
    "folder_digest",
    "image_folder",
    "labelled_sign",
    "load",
    "load_billiards",
    "load_megapixel_mnist",
    "load_traffic_signs",
    "megapixel_mnist",
    "needle_digits",
    "prepare_image",
    "rand_augment",
    "random_color",
    "random_contrast",
    "random_flip",
    "random_resize",
    "random_resize_as_released",
    "random_shift",
    "random_shift_with_black",
    "random_translation_rotation",
    "read_annotations",
    "read_billiards",
    "read_megapixel_mnist",
    "read_original_records",
    "read_traffic_signs",
    "resized_crop",
    "rotate",
    "shift",
    "source_digits",
    "traffic_sign_label",
    "traffic_signs",
    "translate",
    "write_billiards",
    "write_megapixel_mnist",
    "write_traffic_signs",
]
