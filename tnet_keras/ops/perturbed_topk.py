"""Perturbed Top-K: a Top-K whose average over noise has a gradient (CVPR 2021).

With `Y(s)` the k best candidates of the scores s as one-hot rows, ordered by index, and noise Z,

    Ybar(s) = E[Y(s + σ Z)]                                              forward, by N samples
    ∂L/∂s   = E[<G, Y(s + σ Z)> ν(Z)] / σ,   G = ∂L/∂Ybar                 backward, same samples

where `ν = -∇ log density`: `ν(z) = z` for normal noise, `1 - exp(-z)` for Gumbel noise. Two closed
forms stand beside the estimate in the tests: n = 2, k = 1 with normal noise gives
`Ybar[0] = Φ((s0 - s1) / (√2 σ))`, and k = 1 with Gumbel noise gives `Ybar = softmax(s / σ)`.

Rows are never one-hot tensors here. A sample is k sorted indices; the forward pass scatters them
into counts, the backward pass gathers G at them. Noise is added to the scores in descending order:
the Top-K of a sample then meets nearly all of its winners first, and takes half the time.
"""

import numpy as np
import tensorflow as tf

from tnet_keras.ops.checks import check_count, check_one_of, check_scores
from tnet_keras.ops.noise import exponential_noise, normal_noise

NOISES = ("normal", "gumbel")
PERTURBED_TOP_K_MODES = ("full", "full_baseline", "diagonal")
# Noise that is alive at one time if the caller sets no chunk: the caches like it, and so do people.
_DEFAULT_CHUNK_BYTES = 16 * 2**20
# A batch of unknown size is taken for this many images when chunks are laid out.
_ASSUMED_BATCH = 32


def normalize_scores(scores, epsilon=1e-5):
    """Min-max normalisation per image: `(s - min s) / (max s - min s + ε)`.

    It fixes what σ means whatever the scale of the scorer. The gradient flows through minimum and
    maximum (patch selection, CVPR 2021, released code).

    Args:
        scores: `[..., N]`, float.
        epsilon: Added to the denominator; equal scores give zeros.

    Returns:
        float32 `[..., N]`, in [0, 1].
    """
    scores = tf.cast(scores, tf.float32)
    low = tf.reduce_min(scores, axis=-1, keepdims=True)
    high = tf.reduce_max(scores, axis=-1, keepdims=True)
    return (scores - low) / (high - low + epsilon)


def hard_top_k(scores, k):
    """Indicators of the k best candidates, ordered by index; what σ = 0 gives, bit for bit.

    Args:
        scores: `[B, N]`, float, finite.
        k: How many, 1 ≤ k ≤ N, static.

    Returns:
        float32 `[B, K, N]`, one-hot rows, without gradient.

    Raises:
        ValueError: As `perturbed_top_k`.
    """
    scores = check_scores(scores, k)
    return tf.stop_gradient(tf.one_hot(_sorted_indices(scores, k), scores.shape[-1]))


def perturbed_top_k(
    scores,
    k,
    sigma,
    num_samples=500,
    noise="normal",
    mode="full_baseline",
    seed=None,
    chunk_size=None,
):
    """Soft indicators of the k best candidates, with a gradient to the scores.

    Modes of the gradient, from the same samples as the forward pass:

    * `full`: the whole Jacobian product of the paper's equation,
      `∂L/∂s_i = Σ_m (Σ_jl G_jl Y_m,jl) ν(Z_m)_i / (N σ)`.
    * `full_baseline`: the same with the mean of the other samples' `<G, Y>` subtracted from each;
      equal in expectation, less noisy once the selection is decided.
    * `diagonal`: as the authors released it. Only `∂Ybar_ji / ∂s_i` is kept; all cross terms are
      dropped, so it is biased, and much less noisy.

    σ and the seed have no gradient. σ = 0 is the hard Top-K with zero gradient.

    Args:
        scores: `[B, N]`, float, finite; usually `normalize_scores` of a scorer's output.
        k: How many candidates, 1 ≤ k ≤ N, static.
        sigma: Scale σ ≥ 0 of the noise: a number or a scalar tensor.
        num_samples: Samples N of the noise per image, at least 1 (2 for `full_baseline`).
        noise: "normal" or "gumbel".
        mode: "full", "full_baseline" or "diagonal". The default is chosen by measurement: scorers
            of billiard tables learned by it with each of three seeds, by "full" with two
            (docs/selectors_billiards.md).
        seed: int, or int32 `[2]`: same seed (and `chunk_size`), same samples. None draws a seed
            from TensorFlow's global generator.
        chunk_size: Samples drawn at one time. Peak memory is about
            `3 · 4 · B · chunk_size · N` bytes; None keeps one such array below 16 MB.

    Returns:
        float32 `[B, K, N]`: row j is the distribution of the j-th smallest chosen index. Rows sum
        to 1, columns to at most 1 (the probability that the candidate is chosen).

    Raises:
        ValueError: If an argument is outside its range, or the scores are eager and not finite.
        tf.errors.InvalidArgumentError: In a graph, if scores are not finite or σ is negative
            (not under XLA, which has no assertions).

    Example:

    ```python
    scores = tf.constant([[0.1, 0.9, 0.4, 0.8]])
    indicators = perturbed_top_k(scores, k=2, sigma=0.05, seed=0)   # [1, 2, 4]
    ```
    """
    scores = check_scores(scores, k)
    sigma = _check_sigma(sigma)
    check_one_of("noise", noise, NOISES)
    check_one_of("mode", mode, PERTURBED_TOP_K_MODES)
    least = 2 if mode == "full_baseline" else 1
    check_count("num_samples", num_samples, least)
    if chunk_size is None:
        row = 4 * (scores.shape[0] or _ASSUMED_BATCH) * scores.shape[1]
        chunk_size = _DEFAULT_CHUNK_BYTES // row
    else:
        check_count("chunk_size", chunk_size, 1)
    chunk_size = min(max(1, chunk_size), num_samples)
    seed = _as_seed(seed)
    # The gradient of a custom op may not depend on Python state: all of it goes in as arguments.
    return _estimate(k, num_samples, noise, mode, chunk_size)(scores, sigma, seed)


def _estimate(k, num_samples, noise, mode, chunk_size):
    """The op for fixed Python arguments: `(scores, sigma, seed)` → indicators."""
    chunks = -(-num_samples // chunk_size)

    def draw(scores, seed, chunk):
        shape = [tf.shape(scores)[0], chunk_size, scores.shape[1]]
        values = _noise(noise, shape, seed + tf.stack([chunk, 0]))
        return tuple(tf.ensure_shape(v, (scores.shape[0], chunk_size, scores.shape[1]))
                     for v in values)  # fmt: skip

    def counted(chunk):
        # Samples beyond the last are drawn, so that shapes are static, and weigh nothing.
        return tf.cast(chunk * chunk_size + tf.range(chunk_size) < num_samples, tf.float32)

    @tf.custom_gradient
    def op(scores, sigma, seed):
        # An eager tape records what happens in here too, and would keep all of it.
        scores, sigma = tf.stop_gradient(scores), tf.stop_gradient(sigma)
        batch, size = tf.shape(scores)[0], scores.shape[1]
        # Candidates by rank, the best first and the lower index first of equals, and the inverse.
        order = tf.argsort(scores, axis=-1, direction="DESCENDING", stable=True)
        ranks = tf.argsort(order, axis=-1)
        ranked = tf.gather(scores, order, batch_dims=1)[:, None]

        def forward(chunk):
            z, direction = draw(scores, seed, chunk)
            chosen = tf.math.top_k(ranked + sigma * z, k, sorted=False).indices
            indices = tf.sort(_take(order, chosen), axis=-1)
            weights = tf.broadcast_to(counted(chunk)[None, :, None], tf.shape(indices))
            totals = _scatter(_slot_index(indices, size), weights, batch * k * size)
            # The diagonal needs the noise at chosen candidates only, which is small enough to keep.
            kept = direction
            if mode == "diagonal":
                kept = tf.gather(direction, _take(ranks, indices), batch_dims=2)
            return totals, indices, kept

        if chunks == 1:
            totals, indices, kept = forward(tf.constant(0))
            indices = indices[None]
            kept = kept[None]
        else:
            totals, indices, kept = _accumulate(forward, chunks, batch * k * size, mode)
        # Graph compilers divide by multiplying with 1/N: N times that can fall short of 1.
        shares = tf.where(totals < float(num_samples), totals / float(num_samples), 1.0)
        indicators = tf.reshape(shares, [batch, k, size])
        indicators.set_shape((scores.shape[0], k, size))

        def gradient(upstream):
            upstream = tf.cast(upstream, tf.float32)
            if mode == "full_baseline":
                mean = tf.reduce_sum(upstream * indicators, axis=[1, 2])
            flat = tf.reshape(upstream, [-1])

            def backward(chunk):
                slots = _slot_index(indices[chunk], size)
                at_chosen = tf.gather(flat, slots) * counted(chunk)[None, :, None]
                if mode == "diagonal":
                    here = tf.range(batch)[:, None, None] * size + indices[chunk]
                    return _scatter(here, at_chosen * kept[chunk], batch * size)
                weights = tf.reduce_sum(at_chosen, axis=-1)
                if mode == "full_baseline":
                    # Minus the mean of the other N - 1 samples: (w - mean) N / (N - 1).
                    leave_one_out = num_samples / (num_samples - 1)
                    weights = (weights - mean[:, None]) * counted(chunk) * leave_one_out
                # Noise of several chunks is drawn again rather than kept.
                direction = kept[0] if chunks == 1 else draw(scores, seed, chunk)[1]
                return tf.reshape(tf.matmul(weights[:, None], direction), [-1])

            if chunks == 1:
                total = backward(tf.constant(0))
            else:
                total = tf.while_loop(
                    lambda chunk, _: chunk < chunks,
                    lambda chunk, sum_: (chunk + 1, sum_ + backward(chunk)),
                    (tf.constant(0), tf.zeros([batch * size])),
                    shape_invariants=(tf.TensorShape([]), tf.TensorShape([None])),
                    parallel_iterations=1,
                )[1]
            safe = tf.where(sigma > 0.0, sigma, 1.0)
            scaled = tf.reshape(total, [batch, size]) / (float(num_samples) * safe)
            if mode != "diagonal":
                scaled = tf.gather(scaled, ranks, batch_dims=1)
            return tf.where(sigma > 0.0, scaled, tf.zeros_like(scaled)), None, None

        return indicators, gradient

    return op


def _accumulate(forward, chunks, size, mode):
    """Runs the chunks one after the other; sums the totals and keeps the indices of all."""
    keep = mode == "diagonal"

    def body(chunk, totals, indices, kept):
        more, chosen, direction = forward(chunk)
        indices = indices.write(chunk, chosen)
        if keep:
            kept = kept.write(chunk, direction)
        return chunk + 1, totals + more, indices, kept

    _, totals, indices, kept = tf.while_loop(
        lambda chunk, *_: chunk < chunks,
        body,
        (
            tf.constant(0),
            tf.zeros([size]),
            tf.TensorArray(tf.int32, chunks),
            tf.TensorArray(tf.float32, chunks if keep else 0),
        ),
        shape_invariants=(
            tf.TensorShape([]), tf.TensorShape([None]), tf.TensorShape(None), tf.TensorShape(None)
        ),
        parallel_iterations=1,
    )  # fmt: skip
    return totals, indices.stack(), kept.stack() if keep else None


def _noise(name, shape, seed):
    """Noise Z of a shape, and the direction ν(Z) that weighs its sample in the gradient."""
    if name == "normal":
        z = normal_noise(shape, seed)
        return z, z
    exponential = exponential_noise(shape, seed)  # exp(-z) of Gumbel noise z
    return -tf.math.log(exponential), 1.0 - exponential


def _sorted_indices(scores, k):
    """Indices int32 `[..., k]` of the k largest scores, ascending; ties go to the lowest index."""
    return tf.sort(tf.math.top_k(scores, k, sorted=False).indices, axis=-1)


def _take(rows, indices):
    """Entries of `[B, N]` at indices `[B, S, k]` of each row: `[B, S, k]`."""
    flat = tf.reshape(indices, [tf.shape(indices)[0], -1])
    return tf.reshape(tf.gather(rows, flat, batch_dims=1), tf.shape(indices))


def _slot_index(indices, size):
    """Positions of (image, slot, candidate) in a flat `[B · K · N]`: int32 `[B, S, k]`."""
    batch, k = tf.shape(indices)[0], indices.shape[-1]
    first = tf.range(batch)[:, None] * k + tf.range(k)[None]
    return first[:, None] * size + indices


def _scatter(positions, values, size):
    """Sums values at flat positions of a float32 vector of a given size."""
    return tf.math.unsorted_segment_sum(
        tf.reshape(values, [-1]), tf.reshape(positions, [-1]), size
    )


def _as_seed(seed):
    if seed is None:
        return tf.random.uniform([2], maxval=np.iinfo(np.int32).max, dtype=tf.int32)
    seed = tf.cast(tf.convert_to_tensor(seed), tf.int32)
    return tf.stack([0, seed]) if seed.shape.rank == 0 else seed


def _check_sigma(sigma):
    sigma = tf.cast(tf.convert_to_tensor(sigma), tf.float32)
    if sigma.shape.rank != 0:
        raise ValueError(f"`sigma` must be a scalar. Received: sigma.shape={sigma.shape}")
    constant = sigma if tf.executing_eagerly() else tf.get_static_value(sigma)
    if constant is not None:
        if not float(constant) >= 0.0 or not np.isfinite(float(constant)):
            raise ValueError(
                f"`sigma` must be a finite number of at least 0. Received: sigma={float(constant)}"
            )
        return sigma
    with tf.control_dependencies(
        [tf.debugging.Assert(sigma >= 0.0, ["`sigma` must be at least 0. Received:", sigma])]
    ):
        return tf.identity(sigma)
