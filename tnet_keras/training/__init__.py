"""Training: optimizer and schedule, the loop with its files, strategies, and commands."""

from tnet_keras.training.callbacks import Checkpoints, StopOnNonFiniteLoss
from tnet_keras.training.loop import TrainingResult, fit, restore
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
from tnet_keras.training.strategy import make_strategy

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "Checkpoints",
    "GroupedAdam",
    "GroupedAdamW",
    "GroupedSGD",
    "PiecewiseRate",
    "StopOnNonFiniteLoss",
    "TrainingResult",
    "fit",
    "freeze",
    "make_optimizer",
    "make_strategy",
    "restore",
]
