"""Layers: variables and configuration around the functions of `ops`."""

from tnet_keras.layers.aggregation import (
    ClassifierHead,
    ConcatenationAggregation,
    FeatureWeighting,
    MaxAggregation,
    MeanAggregation,
    SumAggregation,
)
from tnet_keras.layers.location import ContextLocationModule, SqueezeExciteLocationModule
from tnet_keras.layers.patch_selection import PatchSelection
from tnet_keras.layers.positional import PositionalEncoding, sinusoidal_code
from tnet_keras.layers.scorers import ConvScorer, RegionProposalScorer
from tnet_keras.layers.selector import SELECTORS, Selector
from tnet_keras.layers.transformer import TransformerAggregation

__all__ = [
    "SELECTORS",
    "ClassifierHead",
    "ConcatenationAggregation",
    "ContextLocationModule",
    "ConvScorer",
    "FeatureWeighting",
    "MaxAggregation",
    "MeanAggregation",
    "PatchSelection",
    "PositionalEncoding",
    "RegionProposalScorer",
    "Selector",
    "SqueezeExciteLocationModule",
    "SumAggregation",
    "TransformerAggregation",
    "sinusoidal_code",
]
