"""The initialisers of the EfficientNet family: their variance, and where they are cut off."""

import numpy as np
import pytest

from tnet_keras.layers.initializers import conv_initializer, dense_initializer

# Initialiser, kernel, variance. A 3x3 convolution to 64 channels has fan-out 9 * 64.
CASES = [
    (conv_initializer, (3, 3, 48, 64), 2 / (9 * 64)),
    (conv_initializer, (1, 1, 400, 25), 2 / 25),
    (dense_initializer, (400, 50), 1 / (3 * 50)),
]


@pytest.mark.parametrize(("initializer", "shape", "variance"), CASES)
def test_variance_follows_the_fan_out(initializer, shape, variance):
    values = np.asarray(initializer()(shape))
    assert np.var(values) == pytest.approx(variance, rel=0.05)
    assert abs(np.mean(values)) < 5 * np.sqrt(variance / values.size)


def test_convolutions_are_normal_without_tails():
    """Cut at two standard deviations of a normal that is wider, so that the variance is met."""
    values = np.asarray(conv_initializer()((1, 1, 400, 50))) / np.sqrt(2 / 50)
    cut = 2 / 0.87962566103423978  # standard deviation of a unit normal cut at 2
    assert 0.95 * cut < np.abs(values).max() <= cut + 1e-4
    # P(|z| > 1) of a unit normal cut at 2.
    assert np.mean(np.abs(values) > cut / 2) == pytest.approx(0.28476, abs=0.02)


def test_dense_layers_are_uniform():
    values = np.asarray(dense_initializer()((400, 50))) * np.sqrt(50)
    assert 0.99 < np.abs(values).max() <= 1
    shares = np.histogram(values, bins=4, range=(-1, 1))[0] / values.size
    np.testing.assert_allclose(shares, [0.25] * 4, atol=0.02)


@pytest.mark.parametrize("initializer", [conv_initializer, dense_initializer])
def test_every_call_gives_a_fresh_initializer(initializer):
    """One shared object would give two layers of one shape the same weights."""
    first, second = initializer(), initializer()
    assert first is not second
    assert np.abs(np.asarray(first((20, 30))) - np.asarray(second((20, 30)))).max() > 0
