"""Perturbed Top-K: closed forms, enumerations and finite differences of value and gradient."""

import itertools
import math

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies
from hypothesis.extra import numpy as arrays
from scipy import stats

from tnet_keras.ops import hard_top_k, perturbed_top_k

UNBIASED = ("full", "full_baseline")
MODES = (*UNBIASED, "diagonal")
each_mode = pytest.mark.parametrize("mode", MODES)
each_unbiased_mode = pytest.mark.parametrize("mode", UNBIASED)


def value_and_gradient(scores, upstream, k, sigma, **options):
    """Indicators `[B, K, N]` and the scores' gradient `[B, N]` for an upstream `[B, K, N]`."""
    scores = tf.convert_to_tensor(scores)
    upstream = tf.cast(upstream, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        indicators = perturbed_top_k(scores, k, sigma, **options)
        total = tf.reduce_sum(indicators * upstream)
    return indicators, tape.gradient(total, scores)


def replicated(scores, upstream, k, sigma, rows, **options):
    """The same for one image in many rows, each with noise of its own: two float64 arrays."""
    scores = tf.tile(tf.constant(scores, tf.float32)[None], [rows, 1])
    upstream = tf.tile(tf.cast(upstream, tf.float32)[None], [rows, 1, 1])
    return [np.asarray(x, np.float64) for x in
            value_and_gradient(scores, upstream, k, sigma, **options)]  # fmt: skip


def errors(samples, expected):
    """How far the mean over rows is from what is expected, in standard errors."""
    deviation = samples.std(axis=0, ddof=1) / math.sqrt(len(samples))
    # Where all rows agree the mean has to be right up to rounding.
    return np.abs(samples.mean(axis=0) - expected) / np.maximum(deviation, 1e-6)


def gumbel_top_k(scores, k, sigma):
    """Exact `Ybar [K, N]` with Gumbel noise: all ordered draws of the Plackett–Luce model."""
    weights = np.exp(np.asarray(scores, np.float64) / sigma)
    result = np.zeros((k, len(weights)))
    for drawn in itertools.permutations(range(len(weights)), k):
        left, probability = weights.sum(), 1.0
        for candidate in drawn:
            probability *= weights[candidate] / left
            left -= weights[candidate]
        result[range(k), sorted(drawn)] += probability
    return result


def gumbel_jacobian(scores, k, sigma, step=1e-5):
    """Exact `∂Ybar/∂s [K, N, N]`, the last axis that of s."""
    moves = step * np.eye(len(scores))
    return np.stack([(gumbel_top_k(scores + move, k, sigma) - gumbel_top_k(scores - move, k, sigma))
                     / (2 * step) for move in moves], axis=-1)  # fmt: skip


@each_mode
@pytest.mark.parametrize(
    "options",
    [
        {"num_samples": 2000, "rows": 200},
        # The smallest N: a baseline that is not of the *other* samples would halve the gradient.
        {"num_samples": 2, "rows": 200_000},
        # Forward and backward have to draw the same noise again, the last chunk is cut short.
        {"num_samples": 20, "rows": 20_000, "chunk_size": 7},
    ],
    ids=["one chunk", "two samples", "chunks"],
)
def test_two_candidates_have_a_closed_form(mode, options):
    sigma, (g0, g1) = 0.1, (1.3, -0.4)
    indicators, gradient = replicated(
        [0.55, 0.5], [[g0, g1]], 1, sigma, mode=mode, seed=1, **options
    )
    scale = math.sqrt(2) * sigma
    share, slope = stats.norm.cdf(0.05 / scale), stats.norm.pdf(0.05 / scale) / scale
    assert share == pytest.approx(0.6382, abs=1e-4) and slope == pytest.approx(2.6500, abs=1e-4)
    assert errors(indicators, [[share, 1 - share]]).max() < 3
    full, diagonal = [(g0 - g1) * slope, (g1 - g0) * slope], [g0 * slope, g1 * slope]
    assert errors(gradient, diagonal if mode == "diagonal" else full).max() < 3
    # The two are far apart for this test.
    assert errors(gradient, full if mode == "diagonal" else diagonal).max() > 10


SCORES = np.array([-0.6, 1.9, -0.2, 1.1, -1.0])


def test_enumeration_is_softmax_for_one_slot():
    """The enumeration that the next tests lean on, against the closed form and §1.9's numbers."""
    softmax = np.exp(SCORES / 0.5) / np.exp(SCORES / 0.5).sum()
    np.testing.assert_allclose(softmax, [0.0055, 0.8152, 0.0122, 0.1646, 0.0025], atol=5e-5)
    np.testing.assert_allclose(gumbel_top_k(SCORES, 1, 0.5)[0], softmax, rtol=1e-12)
    jacobian = (np.diag(softmax) - np.outer(softmax, softmax)) / 0.5
    np.testing.assert_allclose(gumbel_jacobian(SCORES, 1, 0.5)[0], jacobian, atol=1e-9)


@pytest.mark.parametrize("k", [1, 2])
@each_mode
def test_gumbel_noise_gives_the_exact_value_and_every_entry_of_the_jacobian(k, mode):
    """One slot is `softmax(s/σ)`; more are the Plackett–Luce model, sorted by index."""
    exact, worst, squares = gumbel_jacobian(SCORES, k, 0.5), [], []
    for slot, candidate in itertools.product(range(k), range(5)):
        upstream = np.zeros((k, 5))
        upstream[slot, candidate] = 1.0
        indicators, gradient = replicated(
            SCORES, upstream, k, 0.5, rows=100, num_samples=3000,
            noise="gumbel", mode=mode, seed=10 * slot + candidate,
        )  # fmt: skip
        expected = exact[slot, candidate]
        if mode == "diagonal":
            expected = expected * np.eye(5)[candidate]
        worst.append(errors(indicators, gumbel_top_k(SCORES, k, 0.5)).max())
        squares.append(errors(gradient, expected) ** 2)
        worst.append(math.sqrt(squares[-1].max()))
    # Two slots are three times as many numbers, among which larger errors are due.
    assert max(worst) < 3.0 + (k > 1)
    # And they are as far off as such errors are, not just within wide bounds.
    assert np.mean(squares) < 1.6


def test_sum_of_slots_is_the_probability_to_be_chosen():
    """Normal noise, three slots: inclusion by quadrature, `∫ P(more than n-k others below x)`."""
    scores, sigma, k = np.array([0.1, 0.5, 0.45, 0.9]), 0.3, 2
    grid = np.linspace(-2, 3, 4001)
    below = stats.norm.cdf((grid - scores[:, None]) / sigma)
    expected = np.zeros(4)
    for i in range(4):
        others = [j for j in range(4) if j != i]
        chosen = sum(
            np.prod([1 - below[j] if j in above else below[j] for j in others], axis=0)
            for size in range(k) for above in itertools.combinations(others, size)
        )  # fmt: skip
        density = stats.norm.pdf(grid, scores[i], sigma)
        expected[i] = np.trapezoid(density * chosen, grid)
    indicators, _ = replicated(scores, np.ones((k, 4)), k, sigma, 200, num_samples=500, seed=3)
    assert expected.sum() == pytest.approx(k)
    assert errors(indicators.sum(axis=1), expected).max() < 3


def drawn(noise, seed):
    """Noise directions `ν(Z) [B, N]` of single samples, read off the gradient of a constant."""
    scores = np.random.default_rng(0).normal(size=(20_000, 3)).astype(np.float32)
    indicators, gradient = value_and_gradient(
        scores, np.full((20_000, 2, 3), 0.5), 2, 2.0,
        num_samples=1, mode="full", noise=noise, seed=seed,
    )  # fmt: skip
    return scores, indicators.numpy(), 2.0 * gradient.numpy()


@pytest.mark.parametrize("noise", ["normal", "gumbel"])
def test_identity_probe(noise):
    """The gradient of the identity is the identity, `E[ν(Z) Zᵀ] = I`; and Z did the choosing."""
    scores, indicators, direction = drawn(noise, seed=4)
    z = direction if noise == "normal" else -np.log1p(-direction)
    products = direction[:, :, None] * z[:, None, :]
    assert errors(products, np.eye(3)).max() < 3
    distribution = stats.norm if noise == "normal" else stats.gumbel_r
    assert stats.kstest(z.ravel(), distribution.cdf).pvalue > 1e-3
    left_out = np.argmin(scores + 2.0 * z, axis=1)
    assert (indicators.sum(axis=1).argmin(axis=1) == left_out).all()


@pytest.mark.parametrize("k", [1, 3, 10])
@each_unbiased_mode
def test_directional_finite_differences_with_common_random_numbers(k, mode):
    rng = np.random.default_rng(k)
    scores, upstream = rng.uniform(size=12), rng.normal(size=(k, 12))
    directions = np.linalg.qr(rng.normal(size=(12, 12)))[0][:6]
    step, common = 0.02, {"rows": 50, "num_samples": 2000, "seed": 7}

    def loss(moved):
        moved = tf.tile(tf.constant(moved, tf.float32)[None], [common["rows"], 1])
        indicators = perturbed_top_k(moved, k, 0.2, common["num_samples"], seed=common["seed"])
        return float(np.sum(np.mean(indicators, axis=0, dtype=np.float64) * upstream))

    differences = [(loss(scores + step * d) - loss(scores - step * d)) / (2 * step)
                   for d in directions]  # fmt: skip
    _, gradient = replicated(scores, upstream, k, 0.2, mode=mode, **common)
    slopes = directions @ gradient.mean(axis=0)
    norms = np.linalg.norm(slopes), np.linalg.norm(differences)
    assert slopes @ differences / (norms[0] * norms[1]) >= 0.99
    assert norms[0] / norms[1] == pytest.approx(1.0, abs=0.05)


def test_directional_derivative_of_the_squared_norm():
    """§1.9 (e): the whole Jacobian agrees with a central difference, the diagonal does not."""
    scores, sigma = np.array([-0.6, -0.5, 0.5]), 0.5
    direction = np.random.default_rng(2).normal(size=3)
    direction /= np.linalg.norm(direction)

    def mean(moved, mode="full", upstream=None):
        upstream = np.zeros((1, 3)) if upstream is None else upstream
        values, gradient = replicated(
            moved, upstream, 1, sigma, rows=100, num_samples=5000, seed=5, mode=mode
        )
        return values.mean(axis=0), gradient.mean(axis=0)

    ahead, behind = (np.sum(mean(scores + sign * 1e-2 * direction)[0] ** 2) for sign in (1, -1))
    slope = (ahead - behind) / 2e-2
    upstream = 2 * mean(scores)[0]
    found = {mode: mean(scores, mode, upstream)[1] @ direction for mode in MODES}
    assert found["full"] == pytest.approx(slope, abs=0.02)
    assert found["full_baseline"] == pytest.approx(slope, abs=0.02)
    assert abs(found["diagonal"] - slope) > 0.1


def test_baseline_changes_nothing_but_the_variance():
    scores = np.array([0.0, 0.1, 0.2, 0.6, 0.95, 1.0])
    upstream = np.random.default_rng(6).normal(size=(2, 6)) + 3.0
    options = {"k": 2, "sigma": 0.1, "rows": 4000, "num_samples": 50, "seed": 8}
    gradients = [replicated(scores, upstream, mode=mode, **options)[1] for mode in UNBIASED]
    assert errors(gradients[1] - gradients[0], 0.0).max() < 3
    assert gradients[1].var(axis=0).sum() < 0.1 * gradients[0].var(axis=0).sum()


def test_only_the_whole_jacobian_is_shift_invariant():
    scores, upstream = SCORES, np.random.default_rng(9).normal(size=(2, 5)) + 1.0
    options = {"k": 2, "sigma": 0.5, "rows": 400, "num_samples": 200, "seed": 2}
    sums = {mode: replicated(scores, upstream, mode=mode, **options)[1].sum(1) for mode in MODES}
    assert errors(sums["full"], 0.0) < 3 and errors(sums["full_baseline"], 0.0) < 3
    assert errors(sums["diagonal"], 0.0) > 10


@pytest.mark.parametrize("k", [1, 2])
def test_fenchel_young_gradient(k):
    """§1.9 (f): `Ybar(s) - y` sums to 0 and grows from the perturbed optimum to a wrong label."""
    def chosen(seed):
        return replicated(SCORES, np.zeros((k, 5)), k, 0.5, 50, num_samples=2000,
                          seed=seed)[0].mean(axis=0).sum(axis=0)  # fmt: skip

    optimum = chosen(1)
    hard = hard_top_k(SCORES[None], k).numpy()[0].sum(axis=0)
    wrong = hard_top_k(-SCORES[None], k).numpy()[0].sum(axis=0)
    gradients = [optimum - label for label in (chosen(2), hard, wrong)]
    np.testing.assert_allclose([g.sum() for g in gradients], 0.0, atol=1e-5)
    norms = [np.linalg.norm(g) for g in gradients]
    assert norms[0] < 0.01 < norms[1] < norms[2]


@each_mode
@pytest.mark.parametrize("noise", ["normal", "gumbel"])
@pytest.mark.parametrize("k", [1, 3])
def test_equals_the_formula_on_the_same_samples(mode, noise, k):
    """Explicit one-hot rows and noise of six single-sample calls against one call of six."""
    rng, samples, sigma = np.random.default_rng(3), 6, 0.7
    scores = rng.normal(size=(2, 5)).astype(np.float32)
    upstream = rng.normal(size=(2, k, 5)).astype(np.float32)
    rows, noises = zip(
        *(
            value_and_gradient(scores, np.full((2, k, 5), 1 / k), k, sigma,
                               num_samples=1, mode="full", noise=noise, seed=[m, 11])
            for m in range(samples)
        ),
        strict=True,
    )  # fmt: skip
    rows, noises = np.stack(rows, axis=1), sigma * np.stack(noises, axis=1)  # bmkn, bmn
    assert set(np.unique(rows)) == {0.0, 1.0}
    weights = np.einsum("bmkn,bkn->bm", rows, upstream)
    others = (weights.sum(axis=1, keepdims=True) - weights) / (samples - 1)
    expected = {
        "full": np.einsum("bm,bmn->bn", weights, noises),
        "full_baseline": np.einsum("bm,bmn->bn", weights - others, noises),
        "diagonal": np.einsum("bkn,bmkn,bmn->bn", upstream, rows, noises),
    }[mode] / (samples * sigma)
    indicators, gradient = value_and_gradient(
        scores, upstream, k, sigma, num_samples=samples, noise=noise, mode=mode,
        seed=11, chunk_size=1,
    )  # fmt: skip
    np.testing.assert_allclose(indicators, rows.mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-4)


@hypothesis.settings(max_examples=40)
@hypothesis.given(
    scores=arrays.arrays(
        np.float32,
        strategies.tuples(strategies.integers(1, 3), strategies.integers(1, 8)),
        elements=strategies.floats(-5, 5, width=32),
    ),
    share=strategies.floats(0, 1),
    sigma=strategies.sampled_from([0.0, 0.01, 0.5, 10.0]),
    noise=strategies.sampled_from(["normal", "gumbel"]),
    mode=strategies.sampled_from(MODES),
    samples=strategies.integers(2, 12),
    chunk=strategies.sampled_from([None, 1, 5]),
)
def test_invariants(scores, share, sigma, noise, mode, samples, chunk):
    batch, size = scores.shape
    k = 1 + round(share * (size - 1))
    indicators, gradient = value_and_gradient(
        scores, np.ones((batch, k, size)), k, sigma,
        num_samples=samples, noise=noise, mode=mode, seed=1, chunk_size=chunk,
    )  # fmt: skip
    assert indicators.shape == (batch, k, size) and indicators.dtype == tf.float32
    indicators = indicators.numpy()
    np.testing.assert_allclose(indicators.sum(axis=2), 1.0, atol=1e-6)
    assert indicators.min() >= 0.0 and indicators.sum(axis=1).max() <= 1.0 + 1e-6
    # Slots are ordered by index in every sample, so that the mean index rises by at least 1.
    assert (np.diff(indicators @ np.arange(size), axis=1) >= 1 - 1e-4).all()
    assert np.isfinite(gradient).all()
    if k == size:
        np.testing.assert_array_equal(indicators, np.tile(np.eye(size), (batch, 1, 1)))
    if mode == "full_baseline":  # <G, Y> is the same number in every sample
        np.testing.assert_allclose(gradient, 0.0, atol=1e-3)
