"""Layers: variables and configuration around the functions of `ops`."""

from tnet_keras.layers.aggregation import ClassifierHead, FeatureWeighting, MeanAggregation
from tnet_keras.layers.location import ContextLocationModule, SqueezeExciteLocationModule
from tnet_keras.layers.positional import PositionalEncoding, sinusoidal_code

__all__ = [
    "ClassifierHead",
    "ContextLocationModule",
    "FeatureWeighting",
    "MeanAggregation",
    "PositionalEncoding",
    "SqueezeExciteLocationModule",
    "sinusoidal_code",
]
