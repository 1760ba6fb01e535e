"""Choosing cells, sampling without replacement, and the probability of what was drawn."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from tnet_keras.ops import (
    location_log_probs,
    policy_entropy,
    ranked_cells,
    sample_without_replacement,
    top_k_cells,
)

INF = float("inf")
NAN = float("nan")
LOGITS = [0.5, -1.0, 0.2, 1.3, -0.4]


def sequences(logits, k):
    """Every ordered sample of k cells with its Plackett–Luce probability, in float64."""
    weights = np.exp(np.asarray(logits, np.float64))
    table = {}
    for sequence in itertools.permutations(range(len(weights)), k):
        left, probability = weights.sum(), 1.0
        for cell in sequence:
            probability *= weights[cell] / left
            left -= weights[cell]
        table[sequence] = probability
    return table


def repeated(logits, rows):
    return tf.repeat(tf.constant([logits], tf.float32), rows, axis=0)


@pytest.mark.parametrize(
    ("scores", "k", "ranked"),
    [
        ([0.1, 0.9, 0.5, 0.7], 3, [1, 3, 2]),
        ([1.0, 2.0, 2.0, 1.0, 2.0], 4, [1, 2, 4, 0]),
        ([0.0, 0.0, 0.0], 2, [0, 1]),
        ([NAN, -5.0, 1.0], 3, [2, 1, 0]),
        ([NAN, -INF, 1.0], 2, [2, 0]),
        ([-INF, NAN, -3e38], 3, [2, 0, 1]),
        ([3e38, INF, 1.0, INF], 3, [1, 3, 0]),
        ([NAN, NAN, NAN], 2, [0, 1]),
        ([-INF, 4.0, INF], 3, [2, 1, 0]),
    ],
)
def test_order_ties_and_special_values(scores, k, ranked):
    cells = ranked_cells(tf.constant([scores]), k)
    assert cells.dtype == tf.int32
    assert cells.numpy().tolist() == [ranked]
    assert top_k_cells(tf.constant([scores]), k).numpy().tolist() == [sorted(ranked)]


@pytest.mark.parametrize("shape", [(5,), (2, 5), (2, 3, 5)])
@pytest.mark.parametrize("k", [0, 1, 5])
def test_every_leading_shape_and_k_from_none_to_all(shape, k):
    scores = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    best = np.argsort(-scores, axis=-1, kind="stable")[..., :k]
    np.testing.assert_array_equal(ranked_cells(scores, k), best)
    np.testing.assert_array_equal(top_k_cells(scores, k), np.sort(best, axis=-1))
    drawn = sample_without_replacement(scores, k, [1, 2])
    assert drawn.shape == shape[:-1] + (k,)
    assert location_log_probs(scores, drawn).shape == shape[:-1] + (k,)


def test_all_cells_are_a_permutation():
    drawn = sample_without_replacement(repeated(LOGITS, 50), 5, [3, 4])
    np.testing.assert_array_equal(np.sort(drawn, axis=1), np.tile(np.arange(5), (50, 1)))


@pytest.mark.parametrize("k", [-1, 4, 2.0, True, "2", None], ids=repr)
@pytest.mark.parametrize(
    "choose",
    [top_k_cells, ranked_cells, lambda scores, k: sample_without_replacement(scores, k, [0, 0])],
    ids=["top_k_cells", "ranked_cells", "sample_without_replacement"],
)
def test_wrong_k_is_named(choose, k):
    with pytest.raises(ValueError, match=r"`k` must be an integer from 0 to .*K=3\. Received: k="):
        choose(tf.zeros([2, 3]), k)


@pytest.mark.parametrize(
    ("choose", "name"),
    [
        (lambda scores: top_k_cells(scores, 1), "scores"),
        (lambda scores: ranked_cells(scores, 1), "scores"),
        (lambda scores: sample_without_replacement(scores, 1, [0, 0]), "logits"),
        (lambda scores: location_log_probs(scores, [[0]]), "logits"),
    ],
)
def test_scores_without_a_static_number_of_cells_are_named(choose, name):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        choose(tf.constant(1.0))
    graph = tf.function(choose, input_signature=[tf.TensorSpec([1, None])], autograph=False)
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        graph.get_concrete_function()


def test_unknown_method_is_named():
    with pytest.raises(ValueError, match="`method` must be .*Received: method='greedy'"):
        location_log_probs(tf.zeros([1, 3]), [[0]], method="greedy")


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_ordered_sequences_have_plackett_luce_frequencies(k):
    draws = 40_000
    expected = sequences(LOGITS, k)
    drawn = sample_without_replacement(repeated(LOGITS, draws), k, [11, k]).numpy()
    observed = dict.fromkeys(expected, 0)
    for row in map(tuple, drawn.tolist()):
        observed[row] += 1
    # Rare sequences share one class: the chi-square test wants about five expected in each.
    common = [sequence for sequence in expected if expected[sequence] * draws >= 5]
    seen = [observed[sequence] for sequence in common]
    due = [expected[sequence] * draws for sequence in common]
    if len(common) < len(expected):
        seen.append(draws - sum(seen))
        due.append(draws - sum(due))
    assert scipy.stats.chisquare(seen, due).pvalue > 1e-3


@pytest.mark.parametrize("k", [1, 2, 4])
def test_every_cell_is_included_as_often_as_enumerated(k):
    draws = 40_000
    table = sequences(LOGITS, k)
    drawn = sample_without_replacement(repeated(LOGITS, draws), k, [12, k]).numpy()
    for cell in range(len(LOGITS)):
        due = draws * sum(p for sequence, p in table.items() if cell in sequence)
        seen = int((drawn == cell).any(axis=1).sum())
        assert scipy.stats.chisquare([seen, draws - seen], [due, draws - due]).pvalue > 1e-3


def test_wrong_probabilities_would_be_noticed():
    """The power of the tests above: a slightly different policy fails."""
    draws = 40_000
    drawn = sample_without_replacement(repeated(LOGITS, draws), 2, [11, 2]).numpy()
    table = sequences(np.asarray(LOGITS) + [0.1, 0.0, 0.0, 0.0, 0.0], 2)
    seen = [int((drawn == sequence).all(axis=1).sum()) for sequence in table]
    due = np.array(list(table.values())) * draws
    assert scipy.stats.chisquare(seen, due).pvalue < 1e-6


def test_impossible_cells_are_drawn_only_as_a_last_resort():
    logits = repeated([-INF, 0.0, NAN, 1.0], 500)
    two = sample_without_replacement(logits, 2, [5, 6]).numpy()
    assert set(two.ravel()) == {1, 3}
    everything = sample_without_replacement(logits, 4, [5, 6]).numpy()
    np.testing.assert_array_equal(np.sort(everything[:, :2], axis=1), np.tile([1, 3], (500, 1)))


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_probabilities_of_all_ordered_samples_sum_to_one(k):
    table = sequences(LOGITS, k)
    cells = np.array(list(table))
    log_probs = location_log_probs(repeated(LOGITS, len(cells)), cells).numpy().sum(axis=1)
    np.testing.assert_allclose(np.exp(log_probs), list(table.values()), rtol=1e-5)
    assert np.exp(log_probs.astype(np.float64)).sum() == pytest.approx(1.0, abs=1e-5)


def test_whole_orders_agree_with_tensorflow_probability():
    cells = np.array(list(itertools.permutations(range(5))), np.int32)
    reference = tfp.distributions.PlackettLuce(tf.exp(tf.constant(LOGITS))).log_prob(cells)
    ours = tf.reduce_sum(location_log_probs(repeated(LOGITS, len(cells)), cells), axis=1)
    np.testing.assert_allclose(ours, reference, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_partial_orders_are_the_sum_over_their_completions(k):
    orders = np.array(list(itertools.permutations(range(5))), np.int32)
    whole = tfp.distributions.PlackettLuce(tf.exp(tf.constant(LOGITS))).prob(orders).numpy()
    for sequence in itertools.permutations(range(5), k):
        due = whole[(orders[:, :k] == sequence).all(axis=1)].sum()
        log_probs = location_log_probs([LOGITS], [sequence])
        assert math.exp(float(tf.reduce_sum(log_probs))) == pytest.approx(due, rel=1e-4)


@pytest.mark.parametrize(
    ("logits", "cells", "due"),
    [
        ([0.0, -INF, 0.0], [2, 0, 1], [-math.log(2), 0.0, 0.0]),
        ([0.0, INF, 0.0], [1, 2, 0], [0.0, -math.log(2), 0.0]),
        # Among equal infinities the lowest index is drawn for certain.
        ([-INF, 0.0, NAN], [1, 0, 2], [0.0, 0.0, 0.0]),
        ([INF, INF, 0.0], [0, 1, 2], [0.0, 0.0, 0.0]),
    ],
)
def test_draws_that_had_no_choice_are_certain(logits, cells, due):
    np.testing.assert_allclose(location_log_probs([logits], [cells]), [due], atol=1e-6)


def test_an_impossible_cell_is_practically_impossible():
    log_probs = location_log_probs([[0.0, -INF, NAN, 1.0]] * 2, [[1], [2]])
    assert (log_probs.numpy() < -1e20).all()


def test_independent_adds_up_plain_softmax_probabilities():
    cells = np.array([[3, 0, 1], [4, 2, 3]])
    softmax = np.exp(LOGITS) / np.exp(LOGITS).sum()
    ours = location_log_probs(repeated(LOGITS, 2), cells, method="independent")
    np.testing.assert_allclose(ours, np.log(softmax[cells] + 1e-10), rtol=1e-5)
    floor = location_log_probs([[0.0, -INF]], [[1]], method="independent")
    assert float(floor[0, 0]) == pytest.approx(math.log(1e-10), rel=1e-6)


def test_a_shift_of_all_logits_changes_nothing():
    cells = [[3, 1, 0]]
    for method in ("plackett_luce", "independent"):
        plain = location_log_probs([LOGITS], cells, method)
        shifted = location_log_probs([np.add(LOGITS, 50.0)], cells, method)
        np.testing.assert_allclose(shifted, plain, rtol=1e-4, atol=1e-5)


def test_the_seed_decides_the_draw():
    logits = repeated(LOGITS, 100)
    first = sample_without_replacement(logits, 3, [1, 2]).numpy()
    np.testing.assert_array_equal(first, sample_without_replacement(logits, 3, [1, 2]))
    assert (first != sample_without_replacement(logits, 3, [1, 3]).numpy()).any()
    assert (first != sample_without_replacement(logits, 3, [2, 2]).numpy()).any()


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_eager_graph_and_xla_agree(jit_compile):
    def draw(logits, seed):
        drawn = sample_without_replacement(logits, 3, seed)
        log_probs = location_log_probs(logits, drawn)
        return drawn, log_probs, policy_entropy(logits), top_k_cells(logits, 2)

    # Some ties and an impossible cell besides the ordinary rows.
    logits = tf.concat([repeated(LOGITS, 60), [[0.0] * 5, [-INF, 0.0, 1.0, 1.0, 2.0]]], axis=0)
    seed = tf.constant([7, 8])
    compiled = tf.function(draw, jit_compile=jit_compile)(logits, seed)
    for ours, eager in zip(compiled, draw(logits, seed), strict=True):
        if eager.dtype.is_integer:
            np.testing.assert_array_equal(ours, eager)
        else:
            np.testing.assert_allclose(ours, eager, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(dtype):
    half = tf.cast(repeated(LOGITS, 20), dtype)
    full = tf.cast(half, tf.float32)
    np.testing.assert_array_equal(top_k_cells(half, 3), top_k_cells(full, 3))
    drawn = sample_without_replacement(half, 3, [1, 1])
    np.testing.assert_array_equal(drawn, sample_without_replacement(full, 3, [1, 1]))
    for method in ("plackett_luce", "independent"):
        ours = location_log_probs(half, drawn, method)
        assert ours.dtype == tf.float32
        np.testing.assert_array_equal(ours, location_log_probs(full, drawn, method))
    assert policy_entropy(half).dtype == tf.float32


@pytest.mark.parametrize(
    ("logits", "cells"),
    [
        ([0.0, -INF, 1.0], [2, 0]),
        ([0.0, NAN, 1.0], [2, 0]),
        ([0.0, -INF, 1.0], [2, 0, 1]),
        ([0.0, -INF, -INF], [0, 1, 2]),
        ([-INF, -INF, -INF], [0, 1]),
        ([0.0, INF, 1.0], [1, 2]),
        ([1e4, -1e4, 0.0], [0, 2, 1]),
    ],
)
@pytest.mark.parametrize("method", ["plackett_luce", "independent"])
def test_values_and_gradients_are_finite_at_extreme_logits(logits, cells, method):
    logits = tf.constant([logits])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        log_probs = location_log_probs(logits, [cells], method)
        entropy = policy_entropy(logits)
    assert np.isfinite(log_probs).all()
    assert (log_probs.numpy() <= 1e-6).all()
    assert np.isfinite(entropy).all()
    assert np.isfinite(tape.gradient(log_probs, logits)).all()
    assert np.isfinite(tape.gradient(entropy, logits)).all()


def test_gradient_of_a_draw_is_what_was_drawn_minus_what_was_expected():
    logits = tf.constant([[0.0, -INF, math.log(3.0)]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        log_probs = location_log_probs(logits, [[2]])
    np.testing.assert_allclose(tape.gradient(log_probs, logits), [[-0.25, 0.0, 0.25]], atol=1e-6)


@pytest.mark.parametrize(
    ("logits", "entropy"),
    [
        ([0.0, 0.0, 0.0, 0.0], math.log(4)),
        ([7.0, 7.0, -INF, -INF], math.log(2)),
        ([NAN, 1.0, 1.0, 1.0], math.log(3)),
        ([100.0, 0.0, 0.0, 0.0], 0.0),
        ([math.log(3), 0.0], math.log(4) - 0.75 * math.log(3)),
    ],
)
def test_entropy_has_its_closed_form(logits, entropy):
    assert float(policy_entropy([logits])[0]) == pytest.approx(entropy, abs=1e-6)


def test_gradient_of_the_entropy_is_its_closed_form():
    logits = tf.constant([LOGITS])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        entropy = policy_entropy(logits)
    softmax = np.exp(LOGITS) / np.exp(LOGITS).sum()
    due = -softmax * (np.log(softmax) + float(entropy[0]))
    np.testing.assert_allclose(tape.gradient(entropy, logits), [due], rtol=1e-4, atol=1e-6)
