"""Functions of tensors: no variables, no Keras state. One function, one equation."""

from tnet_keras.ops.blending import blend_windows
from tnet_keras.ops.decode import DECODE_STATUSES, decode_image
from tnet_keras.ops.downscaling import downscale_view
from tnet_keras.ops.patches import extract_patches, resize_view
from tnet_keras.ops.perturbed_topk import (
    PERTURBED_TOP_K_MODES,
    hard_top_k,
    normalize_scores,
    perturbed_top_k,
)
from tnet_keras.ops.selection import (
    location_log_probs,
    policy_entropy,
    ranked_cells,
    sample_without_replacement,
    top_k_cells,
)
from tnet_keras.ops.sinkhorn_topk import sinkhorn_top_k
from tnet_keras.ops.suppression import greedy_suppression

__all__ = [
    "DECODE_STATUSES",
    "PERTURBED_TOP_K_MODES",
    "blend_windows",
    "decode_image",
    "downscale_view",
    "extract_patches",
    "greedy_suppression",
    "hard_top_k",
    "location_log_probs",
    "normalize_scores",
    "perturbed_top_k",
    "policy_entropy",
    "ranked_cells",
    "resize_view",
    "sample_without_replacement",
    "sinkhorn_top_k",
    "top_k_cells",
]
