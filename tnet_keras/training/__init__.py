"""Training: optimizer and schedule, the loop with its files, strategies, and commands."""

from tnet_keras.training.callbacks import Checkpoints, StopOnNonFiniteLoss
from tnet_keras.training.loop import TrainingResult, fit, make_optimizer, restore
from tnet_keras.training.strategy import make_strategy

__all__ = [
    "Checkpoints",
    "StopOnNonFiniteLoss",
    "TrainingResult",
    "fit",
    "make_optimizer",
    "make_strategy",
    "restore",
]
