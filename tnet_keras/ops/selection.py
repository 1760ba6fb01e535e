"""Choosing k of K cells, and the log-probability of the choice.

Scores are sanitised first, so every input has a defined result: NaN counts as -inf and is chosen
only when nothing else is left; +inf comes first; ties go to the lowest cell index.
"""

import tensorflow as tf

from tnet_keras.ops.noise import exponential_noise

# What infinite logits count as in log-probabilities and entropies: inf - inf would be NaN.
_HUGE = 1e30


def _check(scores, k, name):
    scores = tf.cast(tf.convert_to_tensor(scores), tf.float32)
    if scores.shape.rank is None or scores.shape.rank < 1 or scores.shape[-1] is None:
        raise ValueError(
            f"`{name}` must be [..., K] with a static K. Received: {name}.shape={scores.shape}"
        )
    cells = scores.shape[-1]
    if isinstance(k, bool) or not isinstance(k, int) or not 0 <= k <= cells:
        raise ValueError(
            f"`k` must be an integer from 0 to the number of cells K={cells}. Received: k={k!r}"
        )
    return tf.where(tf.math.is_nan(scores), -float("inf"), scores)


def _finite(logits):
    return tf.clip_by_value(tf.where(tf.math.is_nan(logits), -_HUGE, logits), -_HUGE, _HUGE)


def top_k_cells(scores, k):
    """The k best cells in ascending cell order, as TNet takes them at inference.

    Args:
        scores: `[..., K]` scores, logits or probabilities; see the module for NaN, ±inf and ties.
        k: How many, 0 ≤ k ≤ K, static.

    Returns:
        int32 `[..., k]`, cell indices, ascending.

    Raises:
        ValueError: If `k` is not an integer in 0..K.
    """
    return tf.sort(ranked_cells(scores, k), axis=-1)


def ranked_cells(scores, k):
    """The k best cells, best first; the order in which greedy selection draws them.

    Args:
        scores: `[..., K]` scores, logits or probabilities.
        k: How many, 0 ≤ k ≤ K, static.

    Returns:
        int32 `[..., k]`, cell indices, best first, ties by lowest index.

    Raises:
        ValueError: If `k` is not an integer in 0..K.
    """
    return tf.math.top_k(_check(scores, k, "scores"), k, sorted=True).indices


def sample_without_replacement(logits, k, seed):
    """Draws k different cells one after the other, each from softmax of what is left.

    Gumbel top-k: the k largest of `logits + g`, g ~ Gumbel(0, 1) independent, in descending order,
    are distributed as sequential draws without replacement (the Plackett–Luce model). This is the
    sampling that the TNet paper describes for training.

    Args:
        logits: `[..., K]` unnormalised log-probabilities; -inf is drawn only as a last resort.
        k: How many, 0 ≤ k ≤ K, static.
        seed: int32 `[2]`, the seed of `tf.random.stateless_*`: same seed, same draw.

    Returns:
        int32 `[..., k]`, cell indices in the order drawn.

    Raises:
        ValueError: If `k` is not an integer in 0..K.
    """
    logits = _check(logits, k, "logits")
    gumbel = -tf.math.log(exponential_noise(tf.shape(logits), seed))
    return tf.math.top_k(logits + gumbel, k, sorted=True).indices


def location_log_probs(logits, cells, method="plackett_luce"):
    """Log-probability of each drawn cell; the sum over the last axis is that of the sequence.

    * `plackett_luce`: each draw given those before it, exactly,
      `log p(l_j | l_1..l_{j-1}) = z_{l_j} - log Σ_{i not in l_1..l_{j-1}} exp z_i`.
      Over all ordered samples the probabilities sum to 1 (the TNet paper's sequence probability).
    * `independent`: `log(softmax(z)_{l_j} + 1e-10)`, no renormalisation, no order: what the
      released TNet code sums.

    Args:
        logits: `[..., K]`, float; NaN counts as -inf, ±inf as ±1e30.
        cells: int `[..., k]` cell indices in the order drawn.
        method: "plackett_luce" or "independent".

    Returns:
        float32 `[..., k]`, each at most 0 (up to 1e-10).

    Raises:
        ValueError: If `method` is unknown.
    """
    logits = _finite(_check(logits, 0, "logits"))
    cells = tf.cast(cells, tf.int32)
    batch_dims = logits.shape.rank - 1
    if method == "independent":
        chosen = tf.gather(tf.nn.softmax(logits), cells, batch_dims=batch_dims)
        return tf.math.log(chosen + 1e-10)
    if method != "plackett_luce":
        raise ValueError(
            f"`method` must be 'plackett_luce' or 'independent'. Received: method={method!r}"
        )
    chosen = tf.gather(logits, cells, batch_dims=batch_dims)
    drawn = tf.one_hot(cells, logits.shape[-1], dtype=tf.float32)
    gone = tf.cumsum(drawn, axis=-2, exclusive=True) > 0.5
    left = tf.where(gone, -float("inf"), logits[..., None, :])
    return chosen - tf.reduce_logsumexp(left, axis=-1)


def policy_entropy(logits):
    """Entropy of the location policy, `-Σ p log p`.

    Args:
        logits: `[..., K]`, float; NaN counts as -inf, ±inf as ±1e30.

    Returns:
        float32 `[...]`, nats, from 0 to log K.
    """
    log_probs = tf.nn.log_softmax(_finite(tf.cast(logits, tf.float32)))
    return -tf.reduce_sum(log_probs * tf.exp(log_probs), axis=-1)
