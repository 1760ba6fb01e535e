"""TNet's learning rule, equations (1)–(3) of the paper, as pure functions of numbers.

Rows are episodes: with M samples per image a batch of N images has R = N·M rows, each with its own
draw of locations and its image's label repeated. Every mean below is over rows, so the estimator is
normalised by 1/(N·M) as in the paper (the released code divides by N only, which is M times too
large for M > 1).

Where the paper and the released code differ, `rule` chooses:

| point | "paper" | "original" |
|---|---|---|
| per-feature cross-entropy | mean over the attended locations | mean over context and locations |
| baseline | mean sequence reward | λr · sequence + (1-λr) · mean per-feature reward |

(The log-probability that goes in is chosen by `ops.location_log_probs`: exact sequence probability
for the paper, plain sum for the original.)
"""

import dataclasses

import tensorflow as tf

RULES = ("paper", "original")


@dataclasses.dataclass(frozen=True)
class RewardWeights:
    """The weights of TNet's loss.

    Args:
        lambda_f: λf ≥ 0, weight of all policy-gradient terms.
        lambda_c: λc in [0, 1], share of the sequence term in the cross-entropy; 1 switches the
            per-feature regularisation of the classifier off.
        lambda_r: λr in [0, 1], share of the sequence term in the policy gradient; 1 switches the
            per-feature regularisation of the policy off.
        level_cap: Last level whose features enter the per-feature terms, at least 1; None for all.

    Raises:
        ValueError: If a weight is outside its range.
    """

    lambda_f: float = 0.1
    lambda_c: float = 0.3
    lambda_r: float = 0.3
    level_cap: int | None = None

    def __post_init__(self):
        if not self.lambda_f >= 0:  # NaN too
            raise ValueError(f"`lambda_f` must be at least 0. Received: lambda_f={self.lambda_f}")
        for name in ("lambda_c", "lambda_r"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"`{name}` must be in [0, 1]. Received: {name}={value}")
        if self.level_cap is not None and self.level_cap < 1:
            raise ValueError(
                "`level_cap` must be None or at least 1. "
                f"Received: level_cap={self.level_cap}"
            )


def check_rule(rule):
    """Checks the name of a variant of the rule.

    Args:
        rule: "paper" or "original".

    Returns:
        The same name.

    Raises:
        ValueError: If it is neither.
    """
    if rule not in RULES:
        raise ValueError(f"`rule` must be 'paper' or 'original'. Received: rule={rule!r}")
    return rule


def hit_reward(logits, labels):
    """Reward R = 1 if the label has the top logit, else 0; ties count as a hit.

    Args:
        logits: `[..., C]`, float.
        labels: int `[...]`, in 0..C-1.

    Returns:
        float32 `[...]`, 0 or 1, without gradient.
    """
    logits = tf.stop_gradient(tf.cast(logits, tf.float32))
    labels = tf.cast(labels, tf.int32)
    own = tf.gather(logits, labels[..., None], axis=-1, batch_dims=logits.shape.rank - 1)[..., 0]
    return tf.cast(own >= tf.reduce_max(logits, axis=-1), tf.float32)


def cross_entropy(logits, labels):
    """Softmax cross-entropy `-log softmax(z)_y`.

    Args:
        logits: `[..., C]`, float.
        labels: int `[...]`, in 0..C-1.

    Returns:
        float32 `[...]`, nats, at least 0.
    """
    return tf.nn.sparse_softmax_cross_entropy_with_logits(
        tf.cast(labels, tf.int32), tf.cast(logits, tf.float32)
    )


def policy_loss(log_probs, rewards, baseline):
    """REINFORCE surrogate `stop(R - b) · (-log p)`; its gradient ascends the expected reward.

    Args:
        log_probs: float `[...]`, log-probability of what was drawn.
        rewards: float `[...]`, reward of each draw.
        baseline: Scalar b.

    Returns:
        float32 `[...]`.
    """
    advantage = tf.stop_gradient(tf.cast(rewards, tf.float32) - tf.cast(baseline, tf.float32))
    return -advantage * tf.cast(log_probs, tf.float32)


def loss_terms(
    logits, feature_logits, labels, log_probs, levels, baseline, weights, rule, sample_weight=None
):
    """The four terms of TNet's loss (to be minimised), each already weighted.

        sequence_cross_entropy = λc · mean_i CE(z_i, y_i)
        sequence_policy        = λf·λr · mean_i (R_i - b)(-log p(l_i))
        feature_cross_entropy  = (1-λc) · mean_i mean_k CE(z_ik, y_i)
        feature_policy         = λf·(1-λr) · mean_i mean_k (R_ik - b)(-log p(l_ik))

    i runs over rows, k over the locations up to `level_cap` (and, in the cross-entropy of the rule
    "original", the context vector k = 0). Without any location the policy terms are 0, and the
    per-feature cross-entropy is that of the context vector (original) or 0 (paper).

    Args:
        logits: `[R, C]` logits of the aggregated feature.
        feature_logits: `[R, 1+T, C]` logits of every single feature, index 0 = context.
        labels: int `[R]`, in 0..C-1.
        log_probs: `[R, T]` log-probability of each location; their sum is the sequence's.
        levels: `T` integers, static: the level of each location (2 and up).
        baseline: Scalar b.
        weights: `RewardWeights`.
        rule: "paper" or "original".
        sample_weight: Optional `[R]` weight of each row.

    Returns:
        `(terms, rewards)`: a dict of four float32 scalars; and a dict with `sequence` `[R]`,
        `feature` `[R, T']`, the rewards of the sequence and of the T' counted locations.
    """
    check_rule(rule)
    kept = counted(levels, weights.level_cap)
    log_probs = tf.cast(log_probs, tf.float32)
    labels = tf.cast(labels, tf.int32)
    rewards = hit_reward(logits, labels)
    inside = tf.gather(feature_logits, [1 + k for k in kept], axis=1) if kept else None
    feature_rewards = (
        hit_reward(inside, tf.repeat(labels[:, None], len(kept), axis=1))
        if kept
        else tf.zeros_like(rewards)[:, None][:, :0]
    )

    def mean(values):
        if sample_weight is not None:
            values = values * tf.cast(sample_weight, tf.float32)
        return tf.reduce_mean(values)

    entering = ([0] if rule == "original" else []) + [1 + k for k in kept]
    zero = tf.zeros([], tf.float32)
    feature_cross_entropy = feature_policy = sequence_policy = zero
    if entering:
        chosen = tf.gather(feature_logits, entering, axis=1)
        repeated = tf.repeat(labels[:, None], len(entering), axis=1)
        feature_cross_entropy = mean(tf.reduce_mean(cross_entropy(chosen, repeated), axis=1))
    if levels:
        sequence_policy = mean(policy_loss(tf.reduce_sum(log_probs, axis=1), rewards, baseline))
    if kept:
        own = tf.gather(log_probs, kept, axis=1)
        feature_policy = mean(tf.reduce_mean(policy_loss(own, feature_rewards, baseline), axis=1))
    f, c, r = weights.lambda_f, weights.lambda_c, weights.lambda_r
    terms = {
        "sequence_cross_entropy": c * mean(cross_entropy(logits, labels)),
        "sequence_policy": f * r * sequence_policy,
        "feature_cross_entropy": (1.0 - c) * feature_cross_entropy,
        "feature_policy": f * (1.0 - r) * feature_policy,
    }
    return terms, {"sequence": rewards, "feature": feature_rewards}


def counted(levels, level_cap):
    """Which locations enter the per-feature terms.

    Args:
        levels: Integers, the level of each location.
        level_cap: Last level that counts, or None for all.

    Returns:
        List of the locations' indices.
    """
    return [i for i, level in enumerate(levels) if level_cap is None or level <= level_cap]


def baseline_target(rewards, weights, rule):
    """What the moving baseline follows: the mean reward of this step.

        paper:    mean_i R_i                                             (equation 2)
        original: λr · mean_i R_i + (1-λr) · mean_{i,k} R_ik

    Args:
        rewards: dict of `sequence` `[R]` and `feature` `[R, T]`, as `loss_terms` returns.
        weights: `RewardWeights`.
        rule: "paper" or "original".

    Returns:
        float32 scalar in [0, 1].
    """
    check_rule(rule)
    sequence = tf.reduce_mean(rewards["sequence"])
    if rule == "paper" or rewards["feature"].shape[1] == 0:
        return sequence
    feature = tf.reduce_mean(rewards["feature"])
    return weights.lambda_r * sequence + (1.0 - weights.lambda_r) * feature


def update_baseline(baseline, target, momentum=0.9):
    """Exponential moving average `b ← 0.9 b + 0.1 · target` (equation 2).

    Args:
        baseline: Scalar b before the step.
        target: Scalar, see `baseline_target`.
        momentum: Weight of the old value, in [0, 1].

    Returns:
        float32 scalar, the new baseline.
    """
    return momentum * tf.cast(baseline, tf.float32) + (1.0 - momentum) * target
