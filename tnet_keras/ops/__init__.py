"""Functions of tensors: no variables, no Keras state. One function, one equation."""

from tnet_keras.ops.patches import extract_patches, resize_view
from tnet_keras.ops.selection import (
    location_log_probs,
    policy_entropy,
    ranked_cells,
    sample_without_replacement,
    top_k_cells,
)

__all__ = [
    "extract_patches",
    "location_log_probs",
    "policy_entropy",
    "ranked_cells",
    "resize_view",
    "sample_without_replacement",
    "top_k_cells",
]
