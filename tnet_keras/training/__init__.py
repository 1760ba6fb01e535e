"""Training: optimizer and schedule, the loop with its files, strategies, and commands."""

from tnet_keras.training.attention_summary import AttentionSummary
from tnet_keras.training.callbacks import PolicyCollapse, StopOnNonFiniteLoss
from tnet_keras.training.checkpoints import Checkpoints, restore
from tnet_keras.training.loop import TrainingResult, fit
from tnet_keras.training.optimizers import (
    OPTIMIZERS,
    SCHEDULES,
    GroupedAdam,
    GroupedAdamW,
    GroupedSGD,
    PiecewiseRate,
    freeze,
    make_optimizer,
)
from tnet_keras.training.strategy import (
    STRATEGIES,
    is_chief,
    is_multi_worker,
    make_strategy,
    wait_for_all,
)

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "STRATEGIES",
    "AttentionSummary",
    "Checkpoints",
    "GroupedAdam",
    "GroupedAdamW",
    "GroupedSGD",
    "PiecewiseRate",
    "PolicyCollapse",
    "StopOnNonFiniteLoss",
    "TrainingResult",
    "fit",
    "freeze",
    "is_chief",
    "is_multi_worker",
    "make_optimizer",
    "make_strategy",
    "restore",
    "wait_for_all",
]
