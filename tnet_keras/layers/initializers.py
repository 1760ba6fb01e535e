"""Initialisers of the EfficientNet family, shared by the layers of TNet's EfficientNet models."""

import keras


def conv_initializer():
    """He-like initialiser of convolutions: truncated normal, variance 2 / fan-out.

    Returns:
        A fresh `keras.initializers.VarianceScaling`.
    """
    return keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal")


def dense_initializer():
    """Initialiser of dense layers: uniform, variance 1 / (3 · fan-out).

    Returns:
        A fresh `keras.initializers.VarianceScaling`.
    """
    return keras.initializers.VarianceScaling(1.0 / 3.0, "fan_out", "uniform")
