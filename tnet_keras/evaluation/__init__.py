"""Evaluation: what a policy is worth, what a model costs, and the report of a run."""

from tnet_keras.evaluation.full_image import evaluate_full_image
from tnet_keras.evaluation.policy import evaluate_policy
from tnet_keras.evaluation.profile import count_macs, count_parameters
from tnet_keras.evaluation.report import write_report
from tnet_keras.evaluation.selection import evaluate_selection

__all__ = [
    "count_macs",
    "count_parameters",
    "evaluate_full_image",
    "evaluate_policy",
    "evaluate_selection",
    "write_report",
]
