"""Sinkhorn Top-K: optimal transport in float64, finite differences, closed forms, convergence."""

import warnings

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import logsumexp

from tnet_keras.ops import normalize_scores, sinkhorn_top_k


def plans(scores, k, epsilon, iterations):
    """Transport plans, in units of 1/n, `[B, N, K+1]` by log-domain iterations in float64."""
    scores = np.asarray(scores, np.float64)
    cost = (scores[..., None] - np.arange(k + 1)) ** 2
    mass = np.array([scores.shape[-1] - k] + [1.0] * k)
    columns = np.zeros((len(scores), 1, k + 1))
    for _ in range(iterations):
        rows = -epsilon * logsumexp((columns - cost) / epsilon, axis=2, keepdims=True)
        columns = -epsilon * logsumexp((rows - cost) / epsilon, axis=1, keepdims=True)
        columns += epsilon * np.log(mass)
    return np.exp((rows + columns - cost) / epsilon)


def finite_differences(scores, upstream, k, epsilon, iterations, step=1e-5):
    """`∂<G, indicators>/∂s [N]` of one image."""
    moves = step * np.eye(len(scores))
    plan = plans(np.concatenate([scores + moves, scores - moves]), k, epsilon, iterations)
    values = np.sum(plan[:, :, 1:] * upstream.T, axis=(1, 2))
    return (values[: len(scores)] - values[len(scores) :]) / (2 * step)


def value_and_gradient(scores, upstream, k, **options):
    scores = tf.convert_to_tensor(scores)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        indicators = sinkhorn_top_k(scores, k, **options)
        total = tf.reduce_sum(indicators * tf.cast(upstream, tf.float32))
    return indicators, tape.gradient(total, scores)


def gaussian(count, rows=1, seed=0):
    """Min-max normalised Gaussian scores, float32 `[rows, count]`."""
    values = np.random.default_rng(seed).normal(size=(rows, count)).astype(np.float32)
    return normalize_scores(values).numpy()


@pytest.mark.parametrize(("count", "k"), [(900, 10), (2028, 5)])
def test_defaults_converge_and_find_the_best(count, k):
    scores = gaussian(count, rows=3)
    indicators, error = sinkhorn_top_k(scores, k, return_error=True)
    assert indicators.shape == (3, k, count) and indicators.dtype == tf.float32
    assert error.shape == (3,) and np.max(error) < 2e-3
    indicators = indicators.numpy()
    np.testing.assert_allclose(indicators.sum(axis=2), 1.0, atol=1e-5)
    assert indicators.min() >= 0.0 and indicators.sum(axis=1).max() < 1 + 2e-3
    best = np.sort(np.argsort(-scores, axis=1)[:, :k], axis=1)
    found = np.sort(np.argsort(-indicators.sum(axis=1), axis=1)[:, :k], axis=1)
    np.testing.assert_array_equal(found, best)
    # Slots ascend by score.
    mean_scores = np.einsum("bkn,bn->bk", indicators, scores)
    assert (np.diff(mean_scores, axis=1) > 0).all()


def test_a_small_epsilon_is_the_hard_top_k_best_last():
    scores = np.array([[0.1, 0.9, 0.0, 0.6, 1.0, 0.3]], np.float32)
    indicators = sinkhorn_top_k(scores, 3, epsilon=1e-3, num_iterations=2000)
    np.testing.assert_allclose(indicators[0], np.eye(6)[[3, 1, 4]], atol=1e-3)


@pytest.mark.parametrize("difference", [-0.3, 0.0, 0.05, 0.4])
@pytest.mark.parametrize("epsilon", [0.1, 0.5])
def test_one_of_two_is_a_sigmoid(difference, epsilon):
    """k = 1, n = 2: the plan is `[[1-x, x], [x, 1-x]]` with `x = sigmoid((s0 - s1)/ε)`."""
    scores = np.array([[0.2 + difference, 0.2]], np.float32)
    indicators, gradient = value_and_gradient(scores, [[[1.0, -2.0]]], 1, epsilon=epsilon)
    share = 1 / (1 + np.exp(-difference / epsilon))
    slope = 3.0 * share * (1 - share) / epsilon
    np.testing.assert_allclose(indicators[0, 0], [share, 1 - share], rtol=1e-5)
    np.testing.assert_allclose(gradient[0], [slope, -slope], rtol=1e-4)


@pytest.mark.parametrize("iterations", [1, 2, 5, 200])
def test_is_the_plain_sinkhorn_iteration(iterations):
    scores, k, epsilon = gaussian(12, rows=2), 3, 0.1
    kernel = np.exp(-((scores.astype(np.float64)[..., None] - np.arange(k + 1)) ** 2) / epsilon)
    mass = np.array([9.0, 1.0, 1.0, 1.0])
    columns = np.ones((2, k + 1))
    for _ in range(iterations):
        rows = 1.0 / np.einsum("bnk,bk->bn", kernel, columns)
        columns = mass / np.einsum("bnk,bn->bk", kernel, rows)
    plan = rows[..., None] * kernel * columns[:, None]
    indicators, error = sinkhorn_top_k(
        scores, k, epsilon, iterations, tolerance=np.inf, return_error=True
    )
    np.testing.assert_allclose(indicators, plan[..., 1:].transpose(0, 2, 1), atol=1e-4)
    np.testing.assert_allclose(error, np.abs(plan.sum(axis=2) - 1).max(axis=1), atol=1e-4)


CASES = [(8, 2, 0.1, 150), (20, 3, 0.03, 800), (20, 3, 0.01, 2000), (12, 1, 0.02, 600)]
each_case = pytest.mark.parametrize(("count", "k", "epsilon", "iterations"), CASES)


@each_case
def test_gradient_is_that_of_finite_differences(count, k, epsilon, iterations):
    scores = gaussian(count, seed=1)
    upstream = np.random.default_rng(2).normal(size=(k, count))
    expected = finite_differences(scores[0], upstream, k, epsilon, iterations)
    indicators, gradient = value_and_gradient(
        scores, upstream, k, epsilon=epsilon, num_iterations=iterations
    )
    exact = plans(scores, k, epsilon, iterations)[0, :, 1:].T
    np.testing.assert_allclose(indicators[0], exact, atol=1e-4)
    assert np.linalg.norm(gradient[0] - expected) < 1e-3 * np.linalg.norm(expected)
    assert gradient.dtype == tf.float32 and abs(np.sum(gradient)) < 1e-4 * np.linalg.norm(expected)


@pytest.mark.parametrize(("count", "k"), [(8, 2), (20, 3), (12, 1)])
def test_gradient_is_algorithm_3(count, k, epsilon=0.1, iterations=300):
    """The backward pass as the SOFT paper prints it, in float64, far from decided."""
    scores = gaussian(count, seed=3)
    upstream = np.random.default_rng(4).normal(size=(k, count))
    plan = plans(scores, k, epsilon, iterations)[0] / count
    slopes = 2 * (scores[0].astype(np.float64)[:, None] - np.arange(k + 1))
    own = count * np.pad(upstream.T, [(0, 0), (1, 0)])
    weighted, bar = own * plan, plan[:, 1:]
    kernel = np.eye(k) / count - count * bar.T @ bar
    left = count * bar @ np.linalg.inv(kernel)
    row_sums, column_sums = weighted.sum(axis=1), weighted.sum(axis=0)[1:]
    u = left.T @ row_sums
    r = count * (row_sums + bar @ u) - left @ column_sums
    q = np.pad(np.linalg.solve(kernel, column_sums) - u, (1, 0))
    expected = np.sum(plan * (r[:, None] + q - own) / epsilon * slopes, axis=1)
    _, gradient = value_and_gradient(
        scores, upstream, k, epsilon=epsilon, num_iterations=iterations
    )
    assert np.linalg.norm(gradient[0] - expected) < 1e-3 * np.linalg.norm(expected)


def test_no_gradient_where_nothing_can_change():
    """A constant upstream gradient, of all slots or within each."""
    scores = gaussian(30, rows=2)
    for upstream in (np.full((2, 4, 30), 3.0), np.arange(4.0)[:, None] * np.ones((2, 1, 30))):
        indicators, gradient = value_and_gradient(scores, upstream, 4, epsilon=0.05)
        np.testing.assert_allclose(gradient, 0.0, atol=1e-4)
        assert 0.1 < np.max(indicators) < 0.99


@pytest.mark.parametrize("kind", ["eager", "xla"])
@pytest.mark.parametrize("epsilon", [1e-1, 1e-2, 1e-3, 1e-4])
def test_gradient_is_finite_where_selections_are_decided_tied_or_not_converged(epsilon, kind):
    upstream = np.random.default_rng(5).normal(size=(5, 2, 20))
    scores = np.stack([
        np.arange(20.0) * 2, np.zeros(20), np.linspace(0, 1, 20), np.eye(20)[3], gaussian(20)[0],
    ]).astype(np.float32)  # fmt: skip
    call = value_and_gradient if kind == "eager" else tf.function(
        value_and_gradient, jit_compile=True, autograph=False
    )  # fmt: skip
    options = {"epsilon": epsilon, "num_iterations": 200, "tolerance": np.inf}
    indicators, gradient = call(tf.constant(scores), tf.constant(upstream), 2, **options)
    assert np.isfinite(indicators).all() and np.isfinite(gradient).all()
    # Scores that lie two anchors apart: nothing to move, whatever ε.
    assert np.max(np.abs(gradient[0])) < 1e-4


@pytest.mark.parametrize(
    ("count", "k", "epsilon", "iterations"),
    [
        (900, 10, 1e-4, 2000),  # what the patch selection paper's authors released
        (900, 10, 1e-2, 50),
        # No candidate is chosen more than once, and yet they are not the best ones.
        (2028, 5, 1e-3, 200),
    ],
)
def test_warns_where_it_has_not_converged(count, k, epsilon, iterations):
    scores = gaussian(count)
    with pytest.warns(RuntimeWarning, match=r"has not converged: .* % too much or too little\. "
                      rf"Received: epsilon={epsilon}, num_iterations={iterations}$"):  # fmt: skip
        indicators, error = sinkhorn_top_k(scores, k, epsilon, iterations, return_error=True)
    assert error[0] > 0.1
    if count == 2028:
        load = indicators.numpy()[0].sum(axis=0)
        assert load.max() < 1.0
        assert set(np.argsort(-load)[:5]) != set(np.argsort(-scores[0])[:5])


def test_tolerance_decides_about_the_warning():
    scores = gaussian(40)
    with pytest.warns(RuntimeWarning, match="has not converged"):
        sinkhorn_top_k(scores, 3, epsilon=0.05, num_iterations=10, tolerance=1e-3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sinkhorn_top_k(scores, 3, epsilon=0.05, num_iterations=10, tolerance=10.0)
    assert not caught


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("batch", [None, 2])
def test_graphs_give_the_eager_numbers_and_the_error(jit_compile, batch):
    scores, upstream = gaussian(30, rows=2), np.random.default_rng(7).normal(size=(4, 30))

    def call(scores):
        with tf.GradientTape() as tape:
            tape.watch(scores)
            indicators, error = sinkhorn_top_k(scores, 4, 0.05, 20, tolerance=10, return_error=True)
            total = tf.reduce_sum(indicators * tf.cast(upstream, tf.float32))
        return indicators, error, tape.gradient(total, scores)

    graph = tf.function(
        call, jit_compile=jit_compile, input_signature=[tf.TensorSpec([batch, 30])]
    )
    assert graph.get_concrete_function().structured_outputs[0].shape == (batch, 4, 30)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outputs = graph(scores)
    assert not caught and outputs[1][0] > 1e-2
    for ours, eager in zip(outputs, call(tf.constant(scores)), strict=True):
        np.testing.assert_allclose(ours, eager, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float64])
def test_other_dtypes_are_float32_outside(dtype):
    scores, upstream = tf.cast(gaussian(20), dtype), np.ones((3, 20)) * np.arange(20)
    indicators, gradient = value_and_gradient(scores, upstream, 3, epsilon=0.1)
    same, same_gradient = value_and_gradient(tf.cast(scores, tf.float32), upstream, 3, epsilon=0.1)
    assert indicators.dtype == tf.float32 and gradient.dtype == dtype
    np.testing.assert_array_equal(indicators, same)
    np.testing.assert_array_equal(gradient, tf.cast(same_gradient, dtype))


WRONG = [
    ({"k": 0}, r"`k` must be .*Received: k=0"),
    ({"k": 5}, r"`k` must be .*N=4\. Received: k=5"),
    ({"k": 4}, r"`k` must be less than the number of candidates N=4\. Received: k=4"),
    ({"k": 1.0}, r"`k` must be .*Received: k=1\.0"),
    ({"scores": np.zeros((1, 0))}, r"`scores` must hold at least one candidate\. Received: N=0"),
    ({"scores": np.zeros(4)}, r"`scores` must be \[B, N\].*Received: scores\.shape=\(4,\)"),
    ({"epsilon": 0.0}, r"`epsilon` must be .*Received: epsilon=0\.0"),
    ({"epsilon": -1.0}, r"`epsilon` must be .*Received: epsilon=-1\.0"),
    ({"epsilon": float("nan")}, r"`epsilon` must be .*Received: epsilon=nan"),
    ({"epsilon": float("inf")}, r"`epsilon` must be .*Received: epsilon=inf"),
    ({"num_iterations": 0}, r"`num_iterations` must be .*Received: num_iterations=0"),
    ({"num_iterations": 1.5}, r"`num_iterations` must be .*Received: num_iterations=1\.5"),
]


@pytest.mark.parametrize(("changed", "message"), WRONG)
def test_wrong_arguments_are_named(changed, message):
    arguments = {"scores": np.ones((1, 4)), "k": 2} | changed
    scores = tf.constant(arguments.pop("scores"), tf.float32)
    for call in (sinkhorn_top_k, tf.function(sinkhorn_top_k, autograph=False)):
        with pytest.raises(ValueError, match=message):
            call(scores, **arguments)


def test_scores_that_are_not_finite_are_named():
    scores = tf.constant([[0.0, float("nan"), 1.0]])
    with pytest.raises(ValueError, match="^`scores` must be finite. Received: NaN or inf[^\n]*$"):
        sinkhorn_top_k(scores, 1)
    graph = tf.function(lambda scores: sinkhorn_top_k(scores, 1), autograph=False)
    with pytest.raises(tf.errors.InvalidArgumentError, match="`scores` must be finite. Received"):
        graph(scores)
