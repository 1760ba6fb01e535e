"""Blended windows against an einsum over all windows, which are slices of padded NumPy images."""

import gc

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tnet_keras.ops import blend_windows

GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(0, 256, (2, 11, 14, 3)).astype(np.uint8)
SIZE = (4, 5)
# Eleven candidates: inside, leaving the image on every side, and one wholly outside.
CORNERS = [[0, 0], [7, 9], [-2, 3], [9, 4], [3, -3], [5, 12], [-3, -4], [10, 13], [2, 6], [2, 7],
           [13, 20]]  # fmt: skip
BOXES = np.concatenate([CORNERS, np.add(CORNERS, SIZE)], axis=-1)
COUNT, SLOTS = len(BOXES), 3
TOLERANCE = {"rtol": 1e-5, "atol": 1e-3}


def all_windows(images, boxes, pad_value=0.0):
    """`[B, N, h, w, C]`: every window of every image, by NumPy."""
    images, far = np.asarray(images, np.float64), 40
    padded = np.pad(images, [(0, 0), (far, far), (far, far), (0, 0)], constant_values=pad_value)
    y0, x0, y1, x1 = np.asarray(boxes, int).T + far
    return np.stack(
        [padded[:, y0[i] : y1[i], x0[i] : x1[i]] for i in range(len(boxes))],
        axis=1,
    )


def blended(images, boxes, indicators, pad_value=0.0):
    """The definition: patch[b, j] = Σ_i indicators[b, j, i] · window[b, i]."""
    return np.einsum("bji,bihwc->bjhwc", indicators, all_windows(images, boxes, pad_value))


def sparse_indicators(touched, slots=SLOTS, count=COUNT, generator=GENERATOR):
    """`[B, K, N]`: weights of every slot over the touched candidates of each image."""
    indicators = np.zeros((len(touched), slots, count), np.float32)
    for row, candidates in zip(indicators, touched, strict=True):
        row[:, candidates] = generator.uniform(0.1, 1.0, (slots, len(candidates)))
    return indicators


# Image 0 touches two candidates and image 1 six: a chunk reaches beyond those of image 0.
INDICATORS = sparse_indicators([[2, 9], [0, 3, 4, 6, 7, 10]])
WEIGHTS = GENERATOR.normal(size=(2, SLOTS, *SIZE, 3)).astype(np.float32)


def expected_gradient(images, boxes, indicators, weights, pad_value=0.0):
    """dL/d indicators of L = Σ weights · patch: of the touched candidates, 0 for the others."""
    products = np.einsum("bjhwc,bihwc->bji", weights, all_windows(images, boxes, pad_value))
    return np.where(np.any(indicators > 0.0, axis=1, keepdims=True), products, 0.0)


def value_and_gradient(images, indicators, weights=WEIGHTS, boxes=BOXES, **options):
    """The patches and the gradient of their weighted sum with respect to the indicators."""
    with tf.GradientTape() as tape:
        tape.watch(indicators)
        patches = blend_windows(images, boxes, indicators, **options)
        loss = tf.reduce_sum(weights * patches)
    return patches, tape.gradient(loss, indicators)


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 4, 11, 50])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_patches_and_gradient_are_those_of_the_sum_over_all_windows(dtype, chunk_size):
    images = tf.constant(IMAGES.astype(dtype))
    patches, gradient = value_and_gradient(
        images, tf.constant(INDICATORS), chunk_size=chunk_size, pad_value=127.5
    )
    assert patches.dtype == tf.float32
    assert patches.shape == (2, SLOTS, *SIZE, 3)
    np.testing.assert_allclose(patches, blended(IMAGES, BOXES, INDICATORS, 127.5), **TOLERANCE)
    expected = expected_gradient(IMAGES, BOXES, INDICATORS, WEIGHTS, 127.5)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-2)


@st.composite
def scenes(draw):
    """Images, boxes of one size in and around them, and indicators that may touch nothing."""
    height, width, channels = draw(st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(1)))
    size = draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    count, slots, batch = draw(st.integers(1, 9)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    corners = random.integers(-8, 10, (count, 2))
    boxes = np.concatenate([corners, corners + size], axis=-1)
    touched = [np.flatnonzero(random.uniform(size=count) < 0.5) for _ in range(batch)]
    images = random.integers(0, 256, (batch, height, width, channels)).astype(np.uint8)
    return images, boxes, sparse_indicators(touched, slots, count, random), size


@settings(max_examples=40)
@given(scene=scenes(), chunk_size=st.integers(1, 10), pad_value=st.sampled_from([0.0, -3.0]))
def test_any_sizes_and_chunks(scene, chunk_size, pad_value):
    images, boxes, indicators, size = scene
    weights = np.ones((*indicators.shape[:2], *size, 1), np.float32)
    patches, gradient = value_and_gradient(
        images, tf.constant(indicators), weights, boxes, chunk_size=chunk_size, pad_value=pad_value
    )
    np.testing.assert_allclose(patches, blended(images, boxes, indicators, pad_value), **TOLERANCE)
    expected = expected_gradient(images, boxes, indicators, weights, pad_value)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-2)


def test_one_hot_indicators_give_the_very_windows():
    chosen = np.array([[2, 6, 9], [0, 8, 1]])
    patches = blend_windows(IMAGES, BOXES, np.eye(COUNT, dtype=np.float32)[chosen])
    expected = [all_windows(IMAGES, BOXES)[b, chosen[b]] for b in range(2)]
    np.testing.assert_array_equal(patches, expected)


@pytest.mark.parametrize("pad_value", [None, 127.5, 255.0])
def test_outside_the_image_is_the_pad_value(pad_value):
    box = [[-2, -1, 2, 4]]
    options = {} if pad_value is None else {"pad_value": pad_value}
    patch = blend_windows(IMAGES, box, np.ones((2, 1, 1), np.float32), **options).numpy()[:, 0]
    assert (patch[:, :2] == (pad_value or 0.0)).all()
    assert (patch[:, :, :1] == (pad_value or 0.0)).all()
    np.testing.assert_array_equal(patch[:, 2:, 1:], IMAGES[:, :2, :4])


def test_windows_may_be_larger_than_the_image():
    box = [[-3, -2, 13, 18], [-1, -1, 15, 19]]
    indicators = np.array([[[0.25, 0.75]]] * 2, np.float32)
    patches = blend_windows(IMAGES, box, indicators, pad_value=9.0)
    np.testing.assert_allclose(patches, blended(IMAGES, box, indicators, 9.0), **TOLERANCE)


@pytest.mark.parametrize("chunk_size", [2, 4])
def test_untouched_candidates_get_no_gradient(chunk_size):
    # The last candidate, wholly outside, is touched as well: grey, so that it has a gradient.
    _, gradient = value_and_gradient(
        IMAGES, tf.constant(INDICATORS), chunk_size=chunk_size, pad_value=127.5
    )
    touched = INDICATORS.any(axis=1)
    assert (np.abs(gradient).max(axis=1)[touched] > 1.0).all()
    assert (gradient.numpy().transpose(0, 2, 1)[~touched] == 0.0).all()


def test_slots_that_do_not_select_a_touched_candidate_get_its_gradient():
    """Full estimators need it: a slot's weight of 0 may grow when another slot samples it."""
    indicators = np.zeros((2, SLOTS, COUNT), np.float32)
    indicators[:, 0, 4] = 1.0
    _, gradient = value_and_gradient(IMAGES, tf.constant(indicators))
    expected = expected_gradient(IMAGES, BOXES, indicators, WEIGHTS)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-2)
    assert (np.abs(gradient[:, :, 4]) > 1.0).all()


def test_nothing_selected_gives_zeros():
    indicators = tf.zeros([2, SLOTS, COUNT])
    patches, gradient = value_and_gradient(IMAGES, indicators)
    np.testing.assert_array_equal(patches, np.zeros_like(WEIGHTS))
    np.testing.assert_array_equal(gradient, np.zeros_like(indicators))


def test_gradient_is_a_central_difference():
    """Patches are linear in the indicators, so that any step along the touched gives the slope."""
    step = sparse_indicators([[2, 9], [0, 3, 4, 6, 7, 10]]) * 0.05
    ahead, behind = (
        blend_windows(IMAGES, BOXES, INDICATORS + sign * step, chunk_size=3) for sign in (1.0, -1.0)
    )
    slope = np.sum(WEIGHTS * (ahead - behind).numpy() / 2, dtype=np.float64)
    _, gradient = value_and_gradient(IMAGES, tf.constant(INDICATORS), chunk_size=3)
    assert np.sum(gradient * step, dtype=np.float64) == pytest.approx(slope, rel=1e-3)


@pytest.mark.parametrize("watched", [False, True])
def test_no_gradient_flows_to_the_images(watched):
    images, indicators = tf.constant(IMAGES, tf.float32), tf.constant(INDICATORS)
    with tf.GradientTape() as tape:
        tape.watch([images, indicators] if watched else [images])
        loss = tf.reduce_sum(blend_windows(images, BOXES, indicators))
    assert tape.gradient(loss, images) is None


def test_windows_are_not_kept_for_the_backward_pass():
    indicators, chunk_shape = tf.constant(INDICATORS), (2, 4, np.prod(SIZE) * 3)
    with tf.GradientTape() as tape:
        tape.watch(indicators)
        patches = blend_windows(IMAGES, BOXES, indicators, chunk_size=4)
        gc.collect()
        alive = [thing for thing in gc.get_objects() if isinstance(thing, tf.Tensor)]
    assert any(thing is patches for thing in alive)
    assert not [thing for thing in alive if thing.shape == chunk_shape]


def test_only_touched_windows_are_read():
    indicators = sparse_indicators([[0, 8], [1, 2]])
    looked_at = np.zeros(IMAGES.shape, bool)
    for b, candidate in ((0, 0), (0, 8), (1, 1), (1, 2)):
        y0, x0, y1, x1 = np.maximum(BOXES[candidate], 0)
        looked_at[b, y0:y1, x0:x1] = True
    poisoned = np.where(looked_at, IMAGES, np.nan).astype(np.float32)
    patches, gradient = value_and_gradient(poisoned, tf.constant(indicators), chunk_size=2)
    clean, clean_gradient = value_and_gradient(IMAGES, tf.constant(indicators), chunk_size=2)
    np.testing.assert_array_equal(patches, clean)
    np.testing.assert_array_equal(gradient, clean_gradient)


RUNS = {
    "graph": tf.function,
    "xla": lambda function: tf.function(function, jit_compile=True),
    "dynamic batch": lambda function: tf.function(
        function,
        input_signature=[
            tf.TensorSpec([None, *IMAGES.shape[1:]], tf.uint8),
            tf.TensorSpec([None, SLOTS, COUNT]),
        ],
    ),
}


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("chunk_size", [3, 8])
def test_every_way_to_run_gives_the_eager_numbers(run, chunk_size):
    def call(images, indicators):
        return value_and_gradient(images, indicators, chunk_size=chunk_size, pad_value=127.5)

    tensors = tf.constant(IMAGES), tf.constant(INDICATORS)
    eager, eager_gradient = call(*tensors)
    patches, gradient = RUNS[run](call)(*tensors)
    np.testing.assert_allclose(patches, eager, **TOLERANCE)
    np.testing.assert_allclose(gradient, eager_gradient, rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(patches, blended(IMAGES, BOXES, INDICATORS, 127.5), **TOLERANCE)


def test_one_graph_serves_every_batch():
    def call(images, indicators):
        return value_and_gradient(images, indicators, weights=1.0, chunk_size=3)

    graph = RUNS["dynamic batch"](call)
    assert graph.get_concrete_function().structured_outputs[0].shape == (None, SLOTS, *SIZE, 3)
    for batch in (1, 2):
        patches, gradient = graph(IMAGES[:batch], INDICATORS[:batch])
        expected = blended(IMAGES[:batch], BOXES, INDICATORS[:batch])
        np.testing.assert_allclose(patches, expected, **TOLERANCE)
        assert gradient.shape == (batch, SLOTS, COUNT)
        assert graph.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float64])
def test_indicators_of_other_dtypes(dtype):
    indicators = tf.cast(INDICATORS, dtype)
    patches, gradient = value_and_gradient(IMAGES, indicators, WEIGHTS / 64)
    assert patches.dtype == tf.float32 and gradient.dtype == dtype
    expected = blended(IMAGES, BOXES, tf.cast(indicators, tf.float32))
    np.testing.assert_allclose(patches, expected, **TOLERANCE)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"images": IMAGES[0]}, r"`images` must be \[B, H, W, C\] .*Received: images\.shape="),
        ({"boxes": BOXES[0]}, r"`boxes` must be \[N, 4\]\. Received: boxes\.shape=\(4,\)"),
        ({"boxes": BOXES[:, :3]}, r"`boxes` must be \[N, 4\]\. Received: boxes\.shape=\(11, 3\)"),
        ({"boxes": np.zeros((0, 4))}, r"`boxes` must be \[N, 4\]\. Received: boxes\.shape=\(0, 4"),
        ({"boxes": BOXES + 0.5}, r"`boxes` must have whole numbers and one common size\. Received"),
        (
            {"boxes": BOXES + np.eye(COUNT, 4, -2, int)},
            r"`boxes` must have whole numbers and one common size\. Received: sizes",
        ),
        (
            {"boxes": BOXES[:, [2, 1, 0, 3]]},
            r"`boxes` must have whole numbers .*Received: sizes \(height, width\) \[\[-4, 5\]\]",
        ),
        (
            {"indicators": INDICATORS[0]},
            r"`indicators` must be \[B, K, N\] with N=11 boxes\. Received: indicators\.shape=",
        ),
        (
            {"indicators": INDICATORS[:, :, 1:]},
            r"`indicators` must be \[B, K, N\] with N=11 boxes\. Received: .*\(2, 3, 10\)",
        ),
        ({"chunk_size": 0}, r"`chunk_size` must be an integer of at least 1\. Received: chunk_si"),
        ({"chunk_size": 2.0}, r"`chunk_size` must be an integer .*Received: chunk_size=2\.0"),
    ],
)
def test_wrong_arguments_are_named(changed, message):
    arguments = {"images": IMAGES, "boxes": BOXES, "indicators": INDICATORS} | changed
    with pytest.raises(ValueError, match=message):
        blend_windows(**arguments)


@pytest.mark.parametrize("shape", [[2, None, 14, 3], [2, 11, None, 3], [2, 11, 14, None]])
def test_images_without_a_static_size_are_named(shape):
    graph = tf.function(
        lambda images: blend_windows(images, BOXES, INDICATORS),
        input_signature=[tf.TensorSpec(shape)],
    )
    with pytest.raises(ValueError, match="`images` must be .* with a static H, W and C. Received"):
        graph.get_concrete_function()
