"""Noise: its distribution, its seeds, and the same numbers under XLA."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tnet_keras.ops.noise import exponential_noise, normal_noise, uniform_noise

KINDS = {
    "uniform": (uniform_noise, stats.uniform()),
    "exponential": (exponential_noise, stats.expon()),
    "normal": (normal_noise, stats.norm()),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


@each_kind
def test_follows_its_distribution(kind):
    draw, distribution = KINDS[kind]
    values = draw([40, 2501], [3, 4]).numpy()
    assert values.shape == (40, 2501) and values.dtype == np.float32
    assert stats.kstest(values.ravel(), distribution.cdf).pvalue > 1e-3
    # Neither the halves of a row nor neighbouring rows know of each other.
    for a, b in ((values[:, :1250], values[:, 1250:2500]), (values[:-1], values[1:])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.02


@each_kind
def test_same_seed_same_numbers_eagerly_in_graphs_and_under_xla(kind):
    draw = KINDS[kind][0]
    shape, seed = [3, 7], tf.constant([5, 6])
    eager = draw(shape, seed)
    for jit_compile in (False, True):
        traced = tf.function(lambda seed: draw(shape, seed), jit_compile=jit_compile)
        np.testing.assert_allclose(traced(seed), eager, rtol=2e-6, atol=2e-6)
    assert not np.allclose(draw(shape, [5, 7]), eager)


def test_exponential_noise_is_positive_and_finite():
    values = exponential_noise([1_000_000], [0, 1]).numpy()
    assert np.all(values > 0) and np.all(np.isfinite(np.log(values)))
