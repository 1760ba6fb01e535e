"""Reading what other people's code wrote."""

from tnet_keras.interop.original_tnet import (
    LoadReport,
    load_original_checkpoint,
    original_model,
    original_variables,
)

__all__ = ["LoadReport", "load_original_checkpoint", "original_model", "original_variables"]
