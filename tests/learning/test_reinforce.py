"""TNet's learning rule against numbers worked out by hand and an enumerated exact gradient."""

import itertools
import math

import numpy as np
import pytest
import tensorflow as tf

from tnet_keras.learning import (
    RewardWeights,
    baseline_target,
    cross_entropy,
    hit_reward,
    loss_terms,
    policy_loss,
    update_baseline,
)
from tnet_keras.ops import location_log_probs, sample_without_replacement

# Two classes; probabilities 3/4 and 1/4, 1/4 and 3/4, or a tie.
FIRST, SECOND, TIE = [math.log(3), 0.0], [0.0, math.log(3)], [0.0, 0.0]
GOOD, BAD, EVEN = math.log(4 / 3), math.log(4), math.log(2)  # their cross-entropies

LABELS = [0, 1]
LOGITS = [FIRST, FIRST]  # a hit and a miss
FEATURE_LOGITS = [
    [FIRST, FIRST, SECOND, TIE],  # context good | good hit, bad miss, even hit
    [TIE, FIRST, SECOND, SECOND],  # context even | bad miss, good hit, good hit
]
LOG_PROBS = [[-1.0, -2.0, -3.0], [-0.5, -1.5, -2.5]]
LEVELS = [2, 2, 3]
BASELINE = 0.25
# Advantages are 0.75 for a hit and -0.25 for a miss.
SEQUENCE_POLICY = (0.75 * 6.0 - 0.25 * 4.5) / 2
FEATURE_POLICY = {
    None: ((0.75 * 1 - 0.25 * 2 + 0.75 * 3) / 3 + (-0.25 * 0.5 + 0.75 * 1.5 + 0.75 * 2.5) / 3) / 2,
    2: ((0.75 * 1 - 0.25 * 2) / 2 + (-0.25 * 0.5 + 0.75 * 1.5) / 2) / 2,
    1: 0.0,
}
FEATURE_CROSS_ENTROPY = {
    ("paper", None): (3 * GOOD + 2 * BAD + EVEN) / 6,
    ("paper", 2): (2 * GOOD + 2 * BAD) / 4,
    ("paper", 1): 0.0,
    ("original", None): (4 * GOOD + 2 * BAD + 2 * EVEN) / 8,
    ("original", 2): (3 * GOOD + 2 * BAD + EVEN) / 6,
    ("original", 1): (GOOD + EVEN) / 2,
}
F, C, R = 0.1, 0.3, 0.2
NAMES = ["sequence_cross_entropy", "sequence_policy", "feature_cross_entropy", "feature_policy"]


def case(rule="paper", level_cap=None, weights=None, rows=(0, 1), times=1, **changes):
    """The hand-made batch above, some of its rows, repeated."""
    take = list(rows) * times
    arguments = {
        "logits": tf.gather(LOGITS, take),
        "feature_logits": tf.gather(FEATURE_LOGITS, take),
        "labels": tf.gather(LABELS, take),
        "log_probs": tf.gather(LOG_PROBS, take),
        "levels": LEVELS,
        "baseline": BASELINE,
        "weights": weights or RewardWeights(F, C, R, level_cap),
        "rule": rule,
    }
    return loss_terms(**(arguments | changes))


def numbers(terms):
    assert sorted(terms) == sorted(NAMES)
    assert all(term.shape == () and term.dtype == tf.float32 for term in terms.values())
    return [float(terms[name]) for name in NAMES]


@pytest.mark.parametrize("level_cap", [None, 3, 2, 1])
@pytest.mark.parametrize("rule", ["paper", "original"])
def test_terms_are_those_worked_out_by_hand(rule, level_cap):
    terms, rewards = case(rule, level_cap)
    cap = None if level_cap == 3 else level_cap
    due = [
        C * (GOOD + BAD) / 2,
        F * R * SEQUENCE_POLICY,
        (1 - C) * FEATURE_CROSS_ENTROPY[rule, cap],
        F * (1 - R) * FEATURE_POLICY[cap],
    ]
    np.testing.assert_allclose(numbers(terms), due, rtol=1e-5, atol=1e-7)
    counted = {None: 3, 2: 2, 1: 0}[cap]
    assert rewards["sequence"].numpy().tolist() == [1.0, 0.0]
    hits = [[1.0, 0.0, 1.0][:counted], [0.0, 1.0, 1.0][:counted]]
    assert rewards["feature"].numpy().tolist() == hits


@pytest.mark.parametrize("level_cap", [None, 2])
@pytest.mark.parametrize("rule", ["paper", "original"])
def test_no_locations_leave_defined_terms_without_policy(rule, level_cap):
    features = tf.constant(FEATURE_LOGITS)[:, :1]
    terms, rewards = case(
        rule, level_cap, feature_logits=features, log_probs=tf.zeros([2, 0]), levels=[]
    )
    context = (GOOD + EVEN) / 2 if rule == "original" else 0.0
    due = [C * (GOOD + BAD) / 2, 0.0, (1 - C) * context, 0.0]
    np.testing.assert_allclose(numbers(terms), due, rtol=1e-5)
    assert rewards["feature"].shape == (2, 0)
    target = baseline_target(rewards, RewardWeights(F, C, R, level_cap), rule)
    assert float(target) == pytest.approx(0.5)


@pytest.mark.parametrize("rule", ["paper", "original"])
@pytest.mark.parametrize("samples", [2, 3])
def test_samples_per_image_are_averaged(rule, samples):
    np.testing.assert_allclose(
        numbers(case(rule, times=samples)[0]), numbers(case(rule)[0]), rtol=1e-5
    )


@pytest.mark.parametrize("rule", ["paper", "original"])
def test_terms_are_the_mean_of_the_rows_alone(rule):
    alone = [numbers(case(rule, rows=[row])[0]) for row in (0, 1, 1)]
    together = numbers(case(rule, rows=(0, 1, 1))[0])
    np.testing.assert_allclose(together, np.mean(alone, axis=0), rtol=1e-5)


@pytest.mark.parametrize("rule", ["paper", "original"])
@pytest.mark.parametrize("sample_weight", [[2.0, 0.0], [0.5, 3.0], [1, 1], [0.0, 0.0]])
def test_rows_are_weighted(rule, sample_weight):
    terms, rewards = case(rule, sample_weight=tf.constant(sample_weight))
    alone = [numbers(case(rule, rows=[row])[0]) for row in (0, 1)]
    np.testing.assert_allclose(numbers(terms), np.dot(sample_weight, alone) / 2, rtol=1e-5)
    assert rewards["sequence"].numpy().tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("weights", "gone"),
    [
        (RewardWeights(lambda_f=0.0), ["sequence_policy", "feature_policy"]),
        (RewardWeights(lambda_c=1.0), ["feature_cross_entropy"]),
        (RewardWeights(lambda_c=0.0), ["sequence_cross_entropy"]),
        (RewardWeights(lambda_r=1.0), ["feature_policy"]),
        (RewardWeights(lambda_r=0.0), ["sequence_policy"]),
    ],
)
def test_extreme_weights_switch_terms_off(weights, gone):
    terms, _ = case(weights=weights)
    assert [name for name in NAMES if float(terms[name]) == 0.0] == gone


@pytest.mark.parametrize("rule", ["paper", "original"])
def test_cross_entropy_trains_the_classifier_and_reinforce_only_the_policy(rule):
    logits, features = tf.constant(LOGITS), tf.constant(FEATURE_LOGITS)
    log_probs, baseline = tf.constant(LOG_PROBS), tf.constant(BASELINE)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([logits, features, log_probs, baseline])
        terms, rewards = case(
            rule, logits=logits, feature_logits=features, log_probs=log_probs, baseline=baseline
        )
        policy = terms["sequence_policy"] + terms["feature_policy"]
        classes = terms["sequence_cross_entropy"] + terms["feature_cross_entropy"]
    sources = [logits, features, baseline]
    assert tape.gradient(policy, sources) == [None, None, None]
    assert tape.gradient(rewards["sequence"], sources) == [None, None, None]
    assert tape.gradient(rewards["feature"], sources) == [None, None, None]
    assert tape.gradient(classes, [log_probs, baseline]) == [None, None]
    softmax = tf.nn.softmax(logits) - tf.one_hot(LABELS, 2)
    np.testing.assert_allclose(tape.gradient(classes, logits), C * softmax / 2, rtol=1e-5)
    # -(R - b) of the sequence for every location, plus that of the location itself.
    sequence, feature = [[0.75], [-0.25]], [[0.75, -0.25, 0.75], [-0.25, 0.75, 0.75]]
    due = -F * (R * np.array(sequence) / 2 + (1 - R) * np.array(feature) / (2 * 3))
    np.testing.assert_allclose(tape.gradient(policy, log_probs), due, rtol=1e-5)


def test_a_context_vector_gets_gradient_only_in_the_original():
    for rule, reached in (("paper", False), ("original", True)):
        features = tf.constant(FEATURE_LOGITS)
        with tf.GradientTape() as tape:
            tape.watch(features)
            term = case(rule, feature_logits=features)[0]["feature_cross_entropy"]
        gradient = tape.gradient(term, features).numpy()
        assert gradient[:, 0].any() == reached
        assert gradient[:, 1:].any(axis=-1).all()


@pytest.mark.parametrize(
    ("logits", "label", "reward"),
    [
        ([1.0, 2.0, 0.0], 1, 1.0),
        ([1.0, 2.0, 0.0], 0, 0.0),
        ([2.0, 2.0, 0.0], 0, 1.0),
        ([2.0, 2.0, 0.0], 1, 1.0),
        ([0.0, 0.0, 0.0], 2, 1.0),
        ([-1.0, float("-inf"), -1.0], 1, 0.0),
    ],
)
def test_ties_count_as_hits(logits, label, reward):
    assert float(hit_reward(tf.constant(logits), label)) == reward
    assert hit_reward(tf.constant([[logits]]), [[label]]).numpy().tolist() == [[reward]]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_numbers_are_float32_whatever_comes_in(dtype):
    logits = tf.cast(LOGITS, dtype)
    assert hit_reward(logits, LABELS).dtype == tf.float32
    losses = cross_entropy(logits, tf.constant(LABELS, tf.int64))
    assert losses.dtype == tf.float32
    np.testing.assert_allclose(losses, [GOOD, BAD], rtol=1e-2)
    assert policy_loss(logits, tf.cast(1, dtype), 0.5).dtype == tf.float32


def test_policy_loss_is_advantage_times_surprise_without_gradient_of_the_advantage():
    log_probs, rewards = tf.constant([-1.0, -2.0, 0.0]), tf.constant([1.0, 0.0, 1.0])
    baseline = tf.constant(0.25)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([log_probs, rewards, baseline])
        losses = policy_loss(log_probs, rewards, baseline)
    np.testing.assert_allclose(losses, [0.75, -0.5, 0.0], rtol=1e-6)
    np.testing.assert_allclose(tape.gradient(losses, log_probs), [-0.75, 0.25, -0.75], rtol=1e-6)
    assert tape.gradient(losses, [rewards, baseline]) == [None, None]


@pytest.mark.parametrize(
    ("rule", "level_cap", "target"),
    [
        ("paper", None, 0.5),
        ("paper", 1, 0.5),
        ("original", None, R * 0.5 + (1 - R) * 4 / 6),
        ("original", 2, R * 0.5 + (1 - R) * 2 / 4),
        ("original", 1, 0.5),
    ],
)
@pytest.mark.parametrize("momentum", [None, 0.0, 0.75, 1.0])
def test_the_baseline_follows_the_mean_reward(rule, level_cap, target, momentum):
    weights = RewardWeights(F, C, R, level_cap)
    followed = baseline_target(case(rule, level_cap)[1], weights, rule)
    assert float(followed) == pytest.approx(target)
    tiled = baseline_target(case(rule, level_cap, times=3)[1], weights, rule)
    assert float(tiled) == pytest.approx(target)
    if momentum is None:
        assert float(update_baseline(0.3, followed)) == pytest.approx(0.27 + 0.1 * target)
    else:
        moved = update_baseline(tf.constant(0.3), followed, momentum)
        assert float(moved) == pytest.approx(momentum * 0.3 + (1 - momentum) * target)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lambda_f", -0.1),
        ("lambda_f", float("nan")),
        ("lambda_c", -0.1),
        ("lambda_c", 1.1),
        ("lambda_c", float("nan")),
        ("lambda_r", -1e-6),
        ("lambda_r", 2),
        ("level_cap", 0),
        ("level_cap", -1),
    ],
)
def test_weights_out_of_range_are_named(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be .*Received: {name}={value}"):
        RewardWeights(**{name: value})


def test_weights_at_the_ends_of_their_ranges_are_allowed():
    weights = RewardWeights(lambda_f=0, lambda_c=1, lambda_r=0, level_cap=1)
    assert (weights.lambda_f, weights.lambda_c, weights.lambda_r, weights.level_cap) == (0, 1, 0, 1)
    assert RewardWeights() == RewardWeights(0.1, 0.3, 0.3, None)


def test_unknown_rule_is_named():
    message = "`rule` must be 'paper' or 'original'. Received: rule='code'"
    with pytest.raises(ValueError, match=message):
        case("code")
    with pytest.raises(ValueError, match=message):
        baseline_target(case()[1], RewardWeights(), "code")


def expected_reward(logits, table):
    """Σ p(first, second) · reward over all ordered pairs of different cells, in float64."""
    weights = np.exp(logits)
    total = 0.0
    for first, second in itertools.permutations(range(len(weights)), 2):
        probability = weights[first] / weights.sum()
        probability *= weights[second] / (weights.sum() - weights[first])
        total += probability * table[first, second]
    return total


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize(("seed", "baseline"), [(0, 0.0), (0, "mean"), (1, 0.5)])
def test_reinforce_estimates_the_exact_gradient_of_the_expected_reward(seed, baseline, ordered):
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=9).astype(np.float32)
    table = generator.uniform(size=(9, 9)).astype(np.float32)
    if not ordered:  # the reward of a pair of patches, whichever was drawn first
        table = np.maximum(table, table.T)
    steps = 1e-5 * np.eye(9)
    exact = np.array(
        [expected_reward(logits + s, table) - expected_reward(logits - s, table) for s in steps]
    ) / (2e-5)
    if baseline == "mean":
        baseline = expected_reward(logits.astype(np.float64), table)

    draws = 200_000
    variable = tf.Variable(logits)
    with tf.GradientTape() as tape:
        rows = tf.repeat(variable[None], draws, axis=0)
        cells = sample_without_replacement(tf.stop_gradient(rows), 2, [seed, 9])
        log_probs = tf.reduce_sum(location_log_probs(rows, cells), axis=1)
        loss = tf.reduce_mean(policy_loss(log_probs, tf.gather_nd(table, cells), baseline))
    estimate = -tape.gradient(loss, variable).numpy()

    cosine = exact @ estimate / np.linalg.norm(exact) / np.linalg.norm(estimate)
    assert cosine >= 0.99
    assert np.linalg.norm(estimate) == pytest.approx(np.linalg.norm(exact), rel=0.05)


def test_the_plain_sum_of_log_probabilities_is_no_exact_gradient():
    """Why the rule of the paper needs the sequence's own probability; enumerated, no sampling."""
    generator = np.random.default_rng(0)
    logits, table = 2.0 * generator.normal(size=9), generator.uniform(size=(9, 9))
    steps = 1e-5 * np.eye(9)
    exact = np.array(
        [expected_reward(logits + s, table) - expected_reward(logits - s, table) for s in steps]
    ) / (2e-5)
    pairs = np.array(list(itertools.permutations(range(9), 2)))
    gradients = {}
    for method in ("plackett_luce", "independent"):
        variable = tf.Variable(logits, dtype=tf.float32)
        with tf.GradientTape() as tape:
            rows = tf.repeat(variable[None], len(pairs), axis=0)
            chance = tf.exp(tf.reduce_sum(location_log_probs(rows, pairs), axis=1))
            log_probs = tf.reduce_sum(location_log_probs(rows, pairs, method), axis=1)
            losses = policy_loss(log_probs, tf.gather_nd(table, pairs), 0.0)
            loss = tf.reduce_sum(tf.stop_gradient(chance) * losses)
        gradients[method] = -tape.gradient(loss, variable).numpy()
    np.testing.assert_allclose(gradients["plackett_luce"], exact, atol=1e-5)
    assert np.abs(gradients["independent"] - exact).max() > 0.01
