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


def test_normal_noise_has_the_moments_and_the_independence_of_normal_numbers():
    values = normal_noise([200, 10_000], [7, 8]).numpy().astype(np.float64)
    assert np.abs(values).max() < 5.4
    # Standard errors of the moments of 2 million normal numbers: 1/√n, √2/√n, √15/√n, √96/√n.
    for power, moment, error in ((1, 0, 1), (2, 1, 2**0.5), (3, 0, 15**0.5), (4, 3, 96**0.5)):
        assert abs((values**power).mean() - moment) < 4 * error / values.size**0.5
    # The two numbers of one word are on one circle, yet their squares do not know of each other.
    first, second = values[:, :5000] ** 2, values[:, 5000:] ** 2
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 4 / first.size**0.5
