"""Reading what other people's code wrote."""

from tnet_keras.interop.checkpoint import LoadReport
from tnet_keras.interop.efficientnet import efficientnet_variables, load_efficientnet_checkpoint
from tnet_keras.interop.original_tnet import (
    load_original_checkpoint,
    original_model,
    original_variables,
)
from tnet_keras.interop.warm_start import warm_start

__all__ = [
    "LoadReport",
    "efficientnet_variables",
    "load_efficientnet_checkpoint",
    "load_original_checkpoint",
    "original_model",
    "original_variables",
    "warm_start",
]
