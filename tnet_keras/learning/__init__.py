"""Learning rules: numbers in, numbers out."""

from tnet_keras.learning.regularizers import contrastive_loss, l2_penalty
from tnet_keras.learning.reinforce import (
    RewardWeights,
    baseline_target,
    cross_entropy,
    hit_reward,
    loss_terms,
    policy_loss,
    update_baseline,
)

__all__ = [
    "RewardWeights",
    "baseline_target",
    "contrastive_loss",
    "cross_entropy",
    "hit_reward",
    "l2_penalty",
    "loss_terms",
    "policy_loss",
    "update_baseline",
]
