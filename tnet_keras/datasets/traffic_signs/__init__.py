"""Traffic signs: the speed limit in a large picture of a road.

The speed-limit subset of the Swedish traffic signs (Larsson and Felsberg, SCIA 2011), as it is used
in "Processing Megapixel Images with Deep Attention-Sampling Models" (ICML 2019) and "Differentiable
Patch Selection for Image Recognition" (CVPR 2021, arXiv 2104.03059): read from its own folders, or
scenes drawn here with the same annotations, which
`python -m tnet_keras.datasets.traffic_signs --help` writes to disk.
"""

from tnet_keras.datasets.traffic_signs.annotations import (
    TRAFFIC_SIGN_CLASSES,
    TrafficSign,
    labelled_sign,
    read_annotations,
    traffic_sign_label,
)
from tnet_keras.datasets.traffic_signs.folder import write_traffic_signs
from tnet_keras.datasets.traffic_signs.scenes import TrafficScenes, TrafficScenesConfig
from tnet_keras.datasets.traffic_signs.stream import read_traffic_signs, traffic_signs

__all__ = [
    "TRAFFIC_SIGN_CLASSES",
    "TrafficScenes",
    "TrafficScenesConfig",
    "TrafficSign",
    "labelled_sign",
    "read_annotations",
    "read_traffic_signs",
    "traffic_sign_label",
    "traffic_signs",
    "write_traffic_signs",
]
