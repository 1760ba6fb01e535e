"""Sinkhorn Top-K: a Top-K relaxed to entropic optimal transport (SOFT, NeurIPS 2020).

The n scores, of mass 1/n each, are moved to k + 1 anchors 0, 1, …, k: anchor 0 takes the n - k
rejected candidates, anchor j the one that is j-th from below among the chosen. The plan solves

    min_Γ <Γ, C> + ε Σ Γ (log Γ - 1),   C_ij = (s_i - j)²,   Γ 1 = 1/n,   Γᵀ 1 = (n-k, 1, …, 1)/n

by Sinkhorn iterations in the log domain, and is differentiated in closed form at the optimum rather
than through the iterations. All of it is in units of 1/n here: `p = nΓ`, rows of mass 1.
"""

import math
import warnings

import tensorflow as tf

from tnet_keras.ops.checks import check_count, check_scores

# Added where slots share no candidate: the gradient is 0 there, but so is what it is divided by.
# Well above the rounding of float64 sums up to 1, and far below what shows in a float32 gradient.
_RIDGE = 1e-13


def sinkhorn_top_k(scores, k, epsilon=1e-2, num_iterations=500, tolerance=1e-2, return_error=False):
    """Soft indicators of the k best candidates by optimal transport.

    Slots are ordered by score, ascending: the last slot is the best candidate (in
    `perturbed_top_k` they are ordered by index). A small ε is sharp and converges slowly: on
    min-max normalised Gaussian scores with n = 900 and k = 10, ε = 1e-2 converges and finds all of
    the true Top-K; ε = 1e-4 with 2,000 iterations does not.

    The error is `max_i |Σ_j p_ij - 1|` over all candidates and anchors: by how much a candidate's
    mass is off, as a share of it. Indicators alone do not show it (anchor 0 is not among them), and
    the gradient is exact only where it is small.

    Args:
        scores: `[B, N]`, float, finite; usually `normalize_scores` of a scorer's output.
        k: How many, 1 ≤ k < N, static.
        epsilon: Weight ε > 0 of the entropy.
        num_iterations: Iterations, at least 1.
        tolerance: Largest error that counts as converged.
        return_error: Whether to return the error too, e.g. for a metric.

    Returns:
        float32 `[B, K, N]`: rows sum to 1; columns to at most 1, up to the error. With
        `return_error`, a pair of that and the error, float32 `[B]`, at least 0.

    Raises:
        ValueError: If an argument is outside its range, or the scores are eager and not finite.
        tf.errors.InvalidArgumentError: In a graph, if scores are not finite (not under XLA, which
            has no assertions).

    Warns:
        RuntimeWarning: If it has not converged; eagerly only, because a compiled graph cannot warn:
            there the returned error is what to look at.
    """
    scores = check_scores(scores, k)
    if k == scores.shape[-1]:
        raise ValueError(f"`k` must be less than the number of candidates N={k}. Received: k={k}")
    if not 0 < epsilon < math.inf:
        raise ValueError(f"`epsilon` must be a finite number above 0. Received: epsilon={epsilon}")
    check_count("num_iterations", num_iterations, 1)
    indicators, error = _transport(k, float(epsilon), num_iterations)(scores)
    if tf.executing_eagerly() and float(tf.reduce_max(error)) > tolerance:
        warnings.warn(
            "Sinkhorn Top-K has not converged: a candidate has "
            f"{100 * float(tf.reduce_max(error)):.1f} % too much or too little. "
            f"Received: epsilon={epsilon}, num_iterations={num_iterations}",
            RuntimeWarning,
            stacklevel=2,
        )
    return (indicators, error) if return_error else indicators


def _transport(k, epsilon, num_iterations):
    """The op for fixed Python arguments: scores `[B, N]` → indicators `[B, K, N]`, error `[B]`."""

    @tf.custom_gradient
    def op(scores):
        # An eager tape records what happens in here too, and would keep every iteration.
        scores = tf.stop_gradient(scores)
        anchors = tf.range(k + 1, dtype=tf.float32)
        mass = tf.constant([float(scores.shape[-1] - k)] + [1.0] * k)
        # C without s_i² and j²: they only shift the potentials, and cost digits of the exponents.
        cost = -2.0 * scores[..., None] * anchors

        def soft_minimum(values, axis):
            return -epsilon * tf.reduce_logsumexp(-values / epsilon, axis=axis)

        def row_potentials(columns):
            return soft_minimum(cost - columns[:, None], 2)

        def iterate(step, columns):
            columns = soft_minimum(cost - row_potentials(columns)[..., None], 1)
            return step + 1, columns + epsilon * tf.math.log(mass)

        _, columns = tf.while_loop(
            lambda step, _: step < num_iterations - 1,
            iterate,
            # Potentials 0 of the whole cost.
            (tf.constant(0), tf.zeros_like(cost[:, 0]) - tf.square(anchors)),
        )
        # The last update of the columns is a softmax, so that they sum up exactly.
        rows = row_potentials(columns)
        plan = mass * tf.nn.softmax((rows[..., None] - cost) / epsilon, axis=1)
        error = tf.reduce_max(tf.abs(tf.reduce_sum(plan, axis=2) - 1.0), axis=1)

        def gradient(upstream, _):
            upstream = tf.transpose(tf.cast(upstream, tf.float64), [0, 2, 1])
            upstream = tf.pad(upstream, [[0, 0], [0, 0], [1, 0]])
            result = _score_gradient(upstream, tf.cast(plan, tf.float64), epsilon)
            return tf.cast(result, tf.float32)

        return (tf.transpose(plan[..., 1:], [0, 2, 1]), error), gradient

    return op


def _score_gradient(upstream, plan, epsilon):
    """∂L/∂s of an entropic transport plan p at its optimum, from `G = ∂L/∂p`.

    With `W = pᵀp` off the diagonal, `M = (G∘p)ᵀp` and q the solution of

        (diag(W 1) - W) q = (M - Mᵀ) 1,   q_0 = 0

    it is, for `A = G - 1 qᵀ`, a covariance over the anchors of each candidate:

        ∂L/∂s_i = 2/ε Σ_j p_ij (A_ij - Σ_l p_il A_il) j

    This is algorithm 3 of SOFT (NeurIPS 2020), `K = diag(ν̄) - Γ̄ᵀ diag(1/μ) Γ̄` and all, with the
    marginals `Σ_l p_il = 1` put in. That leaves no difference of nearly equal numbers where a
    selection is nearly decided and K nearly singular. O(nk² + k³).

    Args:
        upstream: G, float64 `[B, N, K+1]`, 0 for anchor 0.
        plan: p, float64 `[B, N, K+1]`.
        epsilon: ε.

    Returns:
        float64 `[B, N]`.
    """
    shares = tf.math.divide_no_nan(plan, tf.reduce_sum(plan, axis=2, keepdims=True))
    meetings = tf.matmul(shares, shares, transpose_a=True)
    meetings = tf.linalg.set_diag(meetings, tf.zeros_like(meetings[..., 0]))
    kernel = tf.linalg.diag(tf.reduce_sum(meetings, axis=2) + _RIDGE) - meetings
    flow = tf.matmul(upstream * shares, shares, transpose_a=True)
    pull = tf.reduce_sum(flow - tf.transpose(flow, [0, 2, 1]), axis=2)
    potentials = tf.linalg.solve(kernel[:, 1:, 1:], pull[:, 1:, None])[..., 0]
    change = upstream - tf.pad(potentials, [[0, 0], [1, 0]])[:, None]
    change -= tf.reduce_sum(shares * change, axis=2, keepdims=True)
    anchors = tf.range(plan.shape[2], dtype=tf.float64)
    return 2.0 / epsilon * tf.reduce_sum(shares * change * anchors, axis=2)
