"""Billiards: the larger number of the leftmost and the rightmost ball on a large table.

The data set of "Differentiable Patch Selection for Image Recognition" (Cordonnier et al., CVPR
2021, arXiv 2104.03059), drawn anew by the published rules or read from the authors' folders.
`python -m tnet_keras.datasets.billiards --help` writes it to disk.
"""

from tnet_keras.datasets.billiards.folder import write_billiards
from tnet_keras.datasets.billiards.labels import BILLIARD_LABELS, billiard_label
from tnet_keras.datasets.billiards.scenes import BilliardScenes, BilliardsConfig
from tnet_keras.datasets.billiards.stream import billiards, read_billiards

__all__ = [
    "BILLIARD_LABELS",
    "BilliardScenes",
    "BilliardsConfig",
    "billiard_label",
    "billiards",
    "read_billiards",
    "write_billiards",
]
