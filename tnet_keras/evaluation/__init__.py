"""Evaluation: what a policy is worth, what a model costs, and the report of a run."""

from tnet_keras.evaluation.policy import evaluate_policy
from tnet_keras.evaluation.profile import count_macs, count_parameters
from tnet_keras.evaluation.report import write_report

__all__ = ["count_macs", "count_parameters", "evaluate_policy", "write_report"]
