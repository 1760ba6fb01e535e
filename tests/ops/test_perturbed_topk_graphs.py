"""Perturbed Top-K: σ = 0, seeds, chunks, dtypes, graphs, replicas, memory and bad input."""

import numpy as np
import pytest
import tensorflow as tf

from tnet_keras.ops import hard_top_k, normalize_scores, perturbed_top_k

MODES = ("full", "full_baseline", "diagonal")
each_mode = pytest.mark.parametrize("mode", MODES)
SCORES = np.random.default_rng(0).uniform(size=(2, 9)).astype(np.float32)
UPSTREAM = np.random.default_rng(1).normal(size=(2, 3, 9)).astype(np.float32)
NAN, INF = float("nan"), float("inf")


def value_and_gradient(scores, sigma=0.2, k=3, upstream=UPSTREAM, **options):
    """Indicators and the gradient of the scores."""
    scores = tf.convert_to_tensor(scores)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        indicators = perturbed_top_k(scores, k, sigma, **{"num_samples": 60, "seed": 5} | options)
        total = tf.reduce_sum(indicators * upstream)
    return indicators, tape.gradient(total, scores)


def compiled(function, kind="graph", **options):
    """The function as it is, as a graph or compiled by XLA."""
    if kind == "eager":
        return function
    return tf.function(function, jit_compile=kind == "xla", autograph=False, **options)


@pytest.mark.parametrize("kind", ["eager", "graph", "xla"])
# 1/41 is the first reciprocal that falls short: 41 times it is less than 1.
@pytest.mark.parametrize("num_samples", [41, 55, 500])
@pytest.mark.parametrize("chunk_size", [None, 7])
def test_sigma_zero_is_the_hard_top_k_bit_for_bit_without_gradient(kind, num_samples, chunk_size):
    scores = tf.concat([SCORES, np.zeros((1, 9)), np.round(3 * SCORES)], axis=0)  # ties too
    upstream = np.ones((5, 3, 9), np.float32)

    def both(scores, sigma):
        soft = value_and_gradient(
            scores, sigma, upstream=upstream, num_samples=num_samples, chunk_size=chunk_size
        )
        return *soft, hard_top_k(scores, 3)

    indicators, gradient, hard = compiled(both, kind)(tf.cast(scores, tf.float32), tf.constant(0.0))
    np.testing.assert_array_equal(indicators, hard)
    np.testing.assert_array_equal(gradient, np.zeros_like(scores))
    best = np.sort(np.argsort(-scores.numpy(), axis=1, kind="stable")[:, :3], axis=1)
    np.testing.assert_array_equal(hard, np.eye(9)[best])


@each_mode
@pytest.mark.parametrize("noise", ["normal", "gumbel"])
def test_sigma_zero_has_no_gradient_in_any_mode(mode, noise):
    indicators, gradient = value_and_gradient(SCORES, 0.0, mode=mode, noise=noise)
    np.testing.assert_array_equal(indicators, hard_top_k(SCORES, 3))
    np.testing.assert_array_equal(gradient, np.zeros_like(SCORES))


def test_a_decided_selection_is_hard():
    scores = np.linspace(0, 1, 9, dtype=np.float32)[None]
    for sigma in (1e-4, 1e-3, 1e-2):
        np.testing.assert_array_equal(perturbed_top_k(scores, 3, sigma), hard_top_k(scores, 3))


def test_hard_top_k_has_no_gradient():
    scores = tf.constant(SCORES)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        indicators = hard_top_k(scores, 3)
    assert tape.gradient(indicators, scores) is None
    assert indicators.dtype == tf.float32 and indicators.shape == (2, 3, 9)


def test_normalized_scores():
    scores = tf.constant([[2.0, -1.0, 0.5], [4.0, 4.0, 4.0]])
    low, high = -1.0, 2.0
    expected = [[(s - low) / (high - low + 1e-5) for s in (2.0, -1.0, 0.5)], [0.0, 0.0, 0.0]]
    np.testing.assert_allclose(normalize_scores(scores), expected, rtol=1e-6)
    assert normalize_scores(tf.cast(scores, tf.bfloat16)).dtype == tf.float32
    np.testing.assert_allclose(normalize_scores(scores, epsilon=3.0)[0], [0.5, 0.0, 0.25])


def test_normalization_passes_the_gradient_through_minimum_and_maximum():
    weights, start = np.array([0.3, -2.0, 1.0]), np.array([2.0, -1.0, 0.5])
    scores = tf.constant(start[None], tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        total = tf.reduce_sum(normalize_scores(scores) * weights)

    def total_at(moved):
        return np.sum((moved - moved.min()) / (np.ptp(moved) + 1e-5) * weights)

    steps = 1e-6 * np.eye(3)
    expected = [(total_at(start + step) - total_at(start - step)) / 2e-6 for step in steps]
    np.testing.assert_allclose(tape.gradient(total, scores)[0], expected, rtol=1e-4)


@each_mode
@pytest.mark.parametrize("noise", ["normal", "gumbel"])
@pytest.mark.parametrize("chunk_size", [None, 25])
def test_same_seed_same_numbers_eagerly_in_graphs_and_under_xla(mode, noise, chunk_size):
    def call(scores):
        return value_and_gradient(scores, mode=mode, noise=noise, chunk_size=chunk_size)

    scores = tf.constant(SCORES)
    indicators, gradient = call(scores)
    for kind in ("eager", "graph", "xla"):
        again, gradient_again = compiled(call, kind)(scores)
        np.testing.assert_allclose(again, indicators, atol=1e-6)
        np.testing.assert_allclose(gradient_again, gradient, rtol=1e-4, atol=1e-4)


def test_seeds():
    def of(seed, **options):
        return perturbed_top_k(SCORES, 3, 0.2, num_samples=60, seed=seed, **options).numpy()

    np.testing.assert_array_equal(of(5), of([0, 5]))
    np.testing.assert_array_equal(of(5), of(tf.constant([0, 5], tf.int64)))
    assert (of(5) != of(6)).any() and (of(5) != of([1, 5])).any()
    # None draws from TensorFlow's own generator.
    tf.random.set_seed(1)
    first, second = of(None), of(None)
    tf.random.set_seed(1)
    np.testing.assert_array_equal(of(None), first)
    assert (first != second).any()


@pytest.mark.parametrize("kind", ["graph", "xla"])
def test_no_seed_is_new_noise_in_every_run_of_a_graph(kind):
    run = compiled(lambda scores: value_and_gradient(scores, seed=None, chunk_size=20), kind)
    for first, second in zip(run(tf.constant(SCORES)), run(tf.constant(SCORES)), strict=True):
        assert not np.allclose(first, second)


def test_images_of_a_batch_have_noise_of_their_own():
    indicators = perturbed_top_k(np.tile(SCORES[:1], (3, 1)), 3, 0.5, num_samples=50, seed=1)
    assert len(np.unique(indicators.numpy().reshape(3, -1), axis=0)) == 3


@each_mode
@pytest.mark.parametrize("chunk_size", [1, 7, 33, 99, 100, 1000])
def test_every_sample_weighs_the_same_whatever_the_chunks(chunk_size, mode):
    options = {"num_samples": 100, "mode": mode, "chunk_size": chunk_size}
    indicators, gradient = value_and_gradient(SCORES, **options)
    np.testing.assert_allclose(np.sum(indicators, axis=2), 1.0, atol=1e-6)
    counts = 100 * indicators.numpy()
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-4)
    rows, upstream = np.tile(SCORES[:1], (400, 1)), UPSTREAM[:1]
    chunked, other = (
        value_and_gradient(rows, upstream=upstream, **options | {"chunk_size": size, "seed": size})
        for size in (chunk_size, 50)
    )
    for ours, theirs in zip(chunked, other, strict=True):
        ours, theirs = ours.numpy(), theirs.numpy()
        deviation = np.sqrt((ours.var(axis=0) + theirs.var(axis=0)) / 400) + 1e-6
        assert np.max(np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) / deviation) < 4


def test_sigma_may_be_a_number_a_tensor_or_a_variable():
    expected, gradient = value_and_gradient(SCORES, 0.3)
    graph = compiled(value_and_gradient)
    double = tf.constant(0.3, tf.float64)
    for sigma in (tf.constant(0.3), double, tf.Variable(0.3), np.float32(0.3)):
        for call in (value_and_gradient, graph):
            ours, ours_gradient = call(tf.constant(SCORES), sigma)
            np.testing.assert_allclose(ours, expected, atol=1e-6)
            np.testing.assert_allclose(ours_gradient, gradient, rtol=1e-4, atol=1e-4)


def test_one_graph_serves_every_sigma_and_batch_and_sigma_has_no_gradient():
    @tf.function(input_signature=[tf.TensorSpec([None, 9]), tf.TensorSpec([])])
    def graph(scores, sigma):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([scores, sigma])
            indicators = perturbed_top_k(scores, 3, sigma, num_samples=20, seed=1, chunk_size=8)
        assert tape.gradient(indicators, sigma) is None
        return indicators, tape.gradient(indicators, scores)

    assert graph.get_concrete_function().structured_outputs[0].shape == (None, 3, 9)
    for batch, sigma in ((1, 0.0), (2, 0.3), (2, 0.01)):
        scores = SCORES[:batch]
        indicators, gradient = graph(scores, sigma)
        expected = perturbed_top_k(scores, 3, sigma, num_samples=20, seed=1, chunk_size=8)
        np.testing.assert_allclose(indicators, expected, atol=1e-6)
        assert gradient.shape == (batch, 9) and np.isfinite(gradient).all()
    assert graph.experimental_get_tracing_count() == 1


@each_mode
@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float64])
def test_other_dtypes_are_float32_inside(dtype, mode):
    scores = tf.cast(SCORES, dtype)
    indicators, gradient = value_and_gradient(scores, mode=mode)
    same, same_gradient = value_and_gradient(tf.cast(scores, tf.float32), mode=mode)
    assert indicators.dtype == tf.float32 and gradient.dtype == dtype
    np.testing.assert_array_equal(indicators, same)
    np.testing.assert_array_equal(gradient, tf.cast(same_gradient, dtype))


def test_replicas_may_have_seeds_of_their_own():
    strategy = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )

    @tf.function
    def run(fold):
        def step():
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            return value_and_gradient(SCORES, seed=[0, 5] + tf.stack([0, fold * replica]))

        return [strategy.experimental_local_results(x) for x in strategy.run(step)]

    expected = value_and_gradient(SCORES)
    for fold, same in ((0, True), (1, False)):
        for (first, second), one in zip(run(tf.constant(fold)), expected, strict=True):
            np.testing.assert_allclose(first, one, rtol=1e-4, atol=1e-4)
            assert np.allclose(second, first, rtol=1e-4, atol=1e-4) == same


def tensor_sizes(graph):
    """Number of elements of every tensor in a concrete function and all functions it calls."""
    definition = graph.graph.as_graph_def(add_shapes=True)
    nodes = [*definition.node, *(n for f in definition.library.function for n in f.node_def)]
    shapes = [tf.TensorShape(s) for n in nodes for s in n.attr["_output_shapes"].list.shape]
    known = [s for s in shapes if s.num_elements() is not None]
    # Accumulators of a loop are flat and their length is not static; nothing else is unknown.
    unknown = [s for s in shapes if s.num_elements() is None and s.rank is not None]
    assert all([d for d in s.as_list() if d != 1] == [None] for s in unknown)
    return [s.num_elements() for s in known]


@each_mode
@pytest.mark.parametrize("chunk_size", [None, 10])
def test_no_dense_tensor_of_all_samples_exists(mode, chunk_size):
    batch, samples, k, size = 2, 100, 3, 50
    spec, upstream = tf.TensorSpec([batch, size]), np.ones((batch, k, size), np.float32)

    def call(scores):
        return value_and_gradient(
            scores, k=k, upstream=upstream, num_samples=samples, mode=mode, chunk_size=chunk_size
        )

    sizes = tensor_sizes(compiled(call).get_concrete_function(spec))
    noise, indices = batch * (chunk_size or samples) * size, batch * samples * k
    assert noise in sizes and max(sizes) <= max(noise, indices, batch * k * size)

    def one_hot(scores):
        return tf.one_hot(tf.math.top_k(scores[:, None] + tf.zeros([samples, 1]), k).indices, size)

    # What this test looks for is seen where it exists.
    dense = tensor_sizes(compiled(one_hot).get_concrete_function(spec))
    assert max(dense) == batch * samples * k * size


def test_default_chunks_bound_the_noise():
    """32 x 2028 candidates, 500 samples: 130 MB of noise in chunks of at most 16 MB."""
    graph = compiled(lambda scores: perturbed_top_k(scores, 5, 0.05))
    sizes = tensor_sizes(graph.get_concrete_function(tf.TensorSpec([32, 2028])))
    assert 2**20 < max(sizes) <= 2**22


WRONG = {
    "k too large": ({"k": 10}, r"`k` must be .* N=9\. Received: k=10"),
    "k of 0": ({"k": 0}, r"`k` must be an integer from 1 .*Received: k=0"),
    "k negative": ({"k": -1}, r"`k` must be .*Received: k=-1"),
    "k no integer": ({"k": 2.0}, r"`k` must be .*Received: k=2\.0"),
    "k a boolean": ({"k": True}, r"`k` must be .*Received: k=True"),
    "no candidates": ({"scores": np.zeros((2, 0))}, r"`scores` must hold at least one.*N=0"),
    "rank 1": ({"scores": SCORES[0]}, r"`scores` must be \[B, N\].*scores\.shape=\(9,\)"),
    "rank 3": ({"scores": SCORES[None]}, r"`scores` must be \[B, N\].*\(1, 2, 9\)"),
    "no samples": (
        {"num_samples": 0, "mode": "full"}, r"`num_samples` must be .*at least 1.*num_samples=0"
    ),
    "half a sample": ({"num_samples": 0.5}, r"`num_samples` must be .*num_samples=0\.5"),
    "one sample with a baseline": (
        {"num_samples": 1, "mode": "full_baseline"}, r"`num_samples` must be .*at least 2"
    ),
    "sigma negative": ({"sigma": -0.1}, r"`sigma` must be .*at least 0.*sigma=-0\.1"),
    "sigma NaN": ({"sigma": NAN}, r"`sigma` must be a finite.*sigma=nan"),
    "sigma infinite": ({"sigma": INF}, r"`sigma` must be a finite.*sigma=inf"),
    "sigma a vector": ({"sigma": [0.1, 0.2]}, r"`sigma` must be a scalar.*sigma\.shape=\(2,\)"),
    "noise unknown": ({"noise": "cauchy"}, r"`noise` must be .*'normal', 'gumbel'.*'cauchy'"),
    "mode unknown": ({"mode": "exact"}, r"`mode` must be one of 'full'.*Received: mode='exact'"),
    "chunk of 0": ({"chunk_size": 0}, r"`chunk_size` must be .*at least 1.*chunk_size=0"),
}  # fmt: skip
NOT_FINITE = [SCORES * np.where(np.arange(9) == 4, wrong, 1.0) for wrong in (NAN, INF, -INF)]


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("kind", ["eager", "graph", "xla"])
def test_wrong_arguments_are_named_before_anything_runs(case, kind):
    changed, message = WRONG[case]
    arguments = {"scores": SCORES, "k": 3, "sigma": 0.1} | changed
    scores = tf.constant(arguments.pop("scores"), tf.float32)
    with pytest.raises(ValueError, match=message) as raised:
        compiled(lambda scores: perturbed_top_k(scores, **arguments), kind)(scores)
    assert raised.value.args[0].count("Received:") == 1


@pytest.mark.parametrize("scores", NOT_FINITE, ids=["nan", "inf", "-inf"])
@pytest.mark.parametrize("hard", [False, True])
def test_scores_that_are_not_finite_are_named(scores, hard):
    def function(scores):
        return hard_top_k(scores, 3) if hard else perturbed_top_k(scores, 3, 0.1)

    scores = tf.constant(scores, tf.float32)
    with pytest.raises(ValueError, match=r"^`scores` must be finite\. Received: NaN or inf[^\n]*$"):
        function(scores)
    with pytest.raises(tf.errors.InvalidArgumentError, match="`scores` must be finite. Received"):
        compiled(function)(scores)


@pytest.mark.parametrize("sigma", [-0.1, NAN])
def test_a_sigma_that_turns_out_wrong_in_a_graph_is_named(sigma):
    graph = compiled(lambda sigma: perturbed_top_k(SCORES, 3, sigma))
    with pytest.raises(tf.errors.InvalidArgumentError, match="`sigma` must be at least 0"):
        graph(tf.constant(sigma))


def test_an_unknown_number_of_candidates_is_named():
    graph = compiled(
        lambda scores: perturbed_top_k(scores, 1, 0.1), input_signature=[tf.TensorSpec([2, None])]
    )
    with pytest.raises(ValueError, match=r"`scores` must be \[B, N\] with a static N\. Received"):
        graph.get_concrete_function()
