"""What kinds of numbers were recorded of the original, and how far ours may be from them."""

import re

import numpy as np

# What the last part of a name says about a number.
KINDS = {
    "integer": "boxes|pos_yxs|cells|reward|feature_reward|T_counted|locations_per_image"
    "|adv_attended_locations",
    "activation": "logits|aggregated|V|fprime|F|loc_raw|feature_logits",
    "probability": "agg_weights|loc_probs|seq_logprob|chosen_logprobs|adv_location_probs",
    "view": "input_sample|input_mean_std|pos_code",
    "gap": "topk_gap",
    "loss": r"loss\.\w+|train_loss",
    "baseline": "baseline_before|baseline_after|baseline",
    "moving mean": "bn_after/.*moving_mean",
    "moving variance": "bn_after/.*moving_variance",
    "gradient norm": r"grad_l2(\.L\d)?|grad_absmax",
    "gradient sum": r"grad_sum(\.L\d)?",
    "gradient": "grad/.*",
    "variable": "var_sum|var_l2",
    "given": "images|labels|trainable_names|all_variable_names|grad_is_zero_in_theory"
    "|grad_noise_rel",
}
TOLERANCES = {
    "activation": 5e-4,  # of the largest
    "probability": 1e-4,  # of the largest
    "view": 1e-5,  # absolute; inputs are in [-1, 1]
    "gap": 1e-4,  # of the ratio of two probabilities
    "loss": 2e-4,  # of the value
    "baseline": 1e-6,  # absolute
    "moving mean": 5e-6,  # of the largest
    "moving variance": 5e-6,  # of the largest, with the biased variance
}
_PREFIX = re.compile(r"^(ref64/)?((eval|train_\w+|after_step)\.)?(level\d\.)?")


def kinds_of(key):
    """Names of the kinds that a recorded number belongs to; one of `KINDS` if all is well.

    Args:
        key: Name it was recorded by.

    Returns:
        List of str.
    """
    name = _PREFIX.sub("", key)
    return [kind for kind, pattern in KINDS.items() if re.fullmatch(pattern, name)]


def apart(key, ours, recorded):
    """How far two numbers are apart, in the unit of `TOLERANCES` for their kind.

    Args:
        key: Name it was recorded by.
        ours: Array.
        recorded: Array of the same shape.

    Returns:
        float.
    """
    assert ours.shape == recorded.shape, f"{key}: {ours.shape} instead of {recorded.shape}"
    ours, recorded = ours.astype(np.float64), recorded.astype(np.float64)
    (kind,) = kinds_of(key)
    if kind == "gap":  # recorded as ratio - 1
        return np.max(np.abs((1 + ours) / (1 + recorded) - 1))
    difference = np.max(np.abs(ours - recorded))
    if kind in ("view", "baseline"):
        return difference
    return difference / max(np.max(np.abs(recorded)), 1e-30)
