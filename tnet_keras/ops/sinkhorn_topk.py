"""Sinkhorn Top-K: a Top-K relaxed to entropic optimal transport (SOFT, NeurIPS 2020).

The n scores, of mass 1/n each, are moved to k + 1 anchors 0, 1, …, k: anchor 0 takes the n - k
rejected candidates, anchor j the one that is j-th from below among the chosen. The plan solves

    min_Γ <Γ, C> + ε Σ Γ (log Γ - 1),   C_ij = (s_i - j)²,   Γ 1 = 1/n,   Γᵀ 1 = (n-k, 1, …, 1)/n

by Sinkhorn iterations in the log domain, and is differentiated in closed form at the optimum rather
than through the iterations.
"""

import warnings

import tensorflow as tf

from tnet_keras.ops.checks import check_count, check_scores


def sinkhorn_top_k(scores, k, epsilon=1e-2, num_iterations=500, tolerance=1e-2):
    """Soft indicators of the k best candidates by optimal transport.

    Slots are ordered by score, ascending: the last slot is the best candidate (in
    `perturbed_top_k` they are ordered by index). A small ε is sharp and converges slowly: on
    min-max normalised Gaussian scores with n = 900 and k = 10, ε = 1e-2 converges and finds all of
    the true Top-K; ε = 1e-4 with 2,000 iterations does not.

    Args:
        scores: `[B, N]`, float, finite; usually `normalize_scores` of a scorer's output.
        k: How many, 1 ≤ k < N, static.
        epsilon: Weight ε > 0 of the entropy.
        num_iterations: Iterations, at least 1.
        tolerance: Largest relative error of a row's mass that counts as converged.

    Returns:
        float32 `[B, K, N]`. Rows sum to 1; columns to at most 1 where it has converged.

    Raises:
        ValueError: If an argument is outside its range, or the scores are eager and not finite.

    Warns:
        RuntimeWarning: If it has not converged; eagerly only, because a compiled graph cannot warn:
            there `sinkhorn_error` of the result is what to look at.
    """
    scores = check_scores(scores, k)
    if k == scores.shape[-1]:
        raise ValueError(f"`k` must be less than the number of candidates N={k}. Received: k={k}")
    if not epsilon > 0:
        raise ValueError(f"`epsilon` must be positive. Received: epsilon={epsilon}")
    check_count("num_iterations", num_iterations, 1)
    indicators = _transport(k, float(epsilon), num_iterations)(scores)
    if tf.executing_eagerly():
        error = float(tf.reduce_max(sinkhorn_error(indicators)))
        if error > tolerance:
            warnings.warn(
                f"Sinkhorn Top-K has not converged: a candidate holds {100 * error:.1f} % more "
                f"than its mass. Received: epsilon={epsilon}, num_iterations={num_iterations}",
                RuntimeWarning,
                stacklevel=2,
            )
    return indicators


def sinkhorn_error(indicators):
    """By how much the most overloaded candidate exceeds its mass: `max(0, max_i Σ_j Y_ji - 1)`.

    Args:
        indicators: `[B, K, N]` of `sinkhorn_top_k`.

    Returns:
        float32 `[B]`, at least 0.
    """
    load = tf.reduce_sum(tf.cast(indicators, tf.float32), axis=1)
    return tf.nn.relu(tf.reduce_max(load, axis=-1) - 1.0)


def _transport(k, epsilon, num_iterations):
    """The op for fixed Python arguments: scores `[B, N]` → indicators `[B, K, N]`."""

    @tf.custom_gradient
    def op(scores):
        # An eager tape records what happens in here too, and would keep every iteration.
        scores = tf.stop_gradient(scores)
        count = float(scores.shape[-1])
        anchors = tf.range(k + 1, dtype=tf.float32)
        cost = tf.square(scores[..., None] - anchors)
        mass = tf.constant([(count - k) / count] + [1.0 / count] * k)

        def soft_minimum(values, axis):
            return -epsilon * tf.reduce_logsumexp(-values / epsilon, axis=axis)

        def iterate(step, rows, columns):
            rows = soft_minimum(cost - columns[:, None], 2) - epsilon * tf.math.log(count)
            columns = soft_minimum(cost - rows[..., None], 1) + epsilon * tf.math.log(mass)
            return step + 1, rows, columns

        _, rows, columns = tf.while_loop(
            lambda step, *_: step < num_iterations,
            iterate,
            (tf.constant(0), tf.zeros_like(scores), tf.zeros_like(cost[:, 0])),
        )
        plan = tf.exp((rows[..., None] + columns[:, None] - cost) / epsilon)
        indicators = count * tf.transpose(plan[..., 1:], [0, 2, 1])

        def gradient(upstream):
            # In float64: K is nearly singular where the selection is nearly decided.
            plan64, scores64 = tf.cast(plan, tf.float64), tf.cast(scores, tf.float64)
            own = count * tf.transpose(tf.cast(upstream, tf.float64), [0, 2, 1])
            own = tf.pad(own, [[0, 0], [0, 0], [1, 0]])
            change = _cost_gradient(own, plan64, tf.cast(mass, tf.float64), epsilon)
            slope = 2.0 * (scores64[..., None] - tf.cast(anchors, tf.float64))
            return tf.cast(tf.reduce_sum(change * slope, axis=-1), tf.float32)

        return indicators, gradient

    return op


def _cost_gradient(upstream, plan, mass, epsilon):
    """∂L/∂C of an entropic transport plan at its optimum, from `G = ∂L/∂Γ`.

    With row masses μ, and bars for "without the first column" (one constraint is redundant):
    `P = G∘Γ`, `K = diag(ν̄) - Γ̄ᵀ diag(1/μ) Γ̄`, `L = diag(1/μ) Γ̄ K⁻¹`, `g1` and `g2` the row and
    column sums of P, `u = Lᵀ g1`, `r = g1/μ + diag(1/μ) Γ̄ u - L g2`, `q = K⁻¹ g2 - u`:
    `∂L/∂C = Γ∘(-G + r 1ᵀ + 1 qᵀ)/ε`. (SOFT, NeurIPS 2020, its algorithm 3.)

    Args:
        upstream: G, float64 `[B, N, K+1]`.
        plan: Γ, float64 `[B, N, K+1]`.
        mass: ν, float64 `[K+1]`.
        epsilon: ε.

    Returns:
        float64 `[B, N, K+1]`.
    """
    inverse_mu = float(plan.shape[1])
    weighted = upstream * plan
    bar = plan[..., 1:]
    kernel = tf.linalg.diag(mass[1:]) - inverse_mu * tf.matmul(bar, bar, transpose_a=True)
    inverse = tf.linalg.inv(kernel)
    left = inverse_mu * tf.matmul(bar, inverse)
    row_sums = tf.reduce_sum(weighted, axis=2)[..., None]
    column_sums = tf.reduce_sum(weighted, axis=1)[:, 1:, None]
    u = tf.matmul(left, row_sums, transpose_a=True)
    r = inverse_mu * (row_sums + tf.matmul(bar, u)) - tf.matmul(left, column_sums)
    q = tf.matmul(inverse, column_sums) - u
    q = tf.pad(tf.transpose(q, [0, 2, 1]), [[0, 0], [0, 0], [1, 0]])
    return plan * (r + q - upstream) / epsilon
