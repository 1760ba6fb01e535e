"""Patch selection: what is cut out, what has a gradient, and how σ falls."""

import numpy as np
import pytest
import tensorflow as tf

from tnet_keras.layers import SELECTORS, PatchSelection

SIZES = {"image_size": (48, 64), "view_size": (32, 40), "patch_size": (16, 20)}


def selection(num_patches=2, **options):
    return PatchSelection(num_patches, **{**SIZES, "num_samples": 50, "seed": 5, **options})


def images_and_scores(layer, batch=3, seed=0):
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (batch, *layer.image_size, 3), np.uint8)
    scores = random.standard_normal((batch, layer.num_candidates)).astype(np.float32)
    return tf.constant(images), tf.constant(scores)


def window(image, box):
    """The pixels of a box, zeros outside the image."""
    y0, x0, y1, x1 = np.asarray(box).astype(int)
    padded = np.pad(image.astype(np.float32), ((50, 50), (50, 50), (0, 0)))
    return padded[y0 + 50 : y1 + 50, x0 + 50 : x1 + 50]


@pytest.mark.parametrize("centres", ["receptive_field", "as_released"])
def test_inference_cuts_out_the_best_candidates_and_nothing_else(centres):
    layer = selection(centres=centres)
    images, scores = images_and_scores(layer)
    outputs = layer((images, scores))
    best = np.sort(np.argsort(-scores.numpy(), axis=1)[:, :2], axis=1)
    np.testing.assert_array_equal(outputs["selected"], best)
    for row in range(3):
        for slot in range(2):
            box = layer.boxes[best[row, slot]]
            np.testing.assert_array_equal(outputs["boxes"][row, slot], box)
            expected = window(images[row].numpy(), box)
            np.testing.assert_allclose(outputs["patches"][row, slot], expected, atol=1e-4)
            assert outputs["indicators"][row, slot, best[row, slot]] == 1.0
    assert float(tf.reduce_sum(outputs["indicators"])) == 6.0


@pytest.mark.parametrize("jit_compile", [None, False, True])
def test_sigma_zero_in_training_is_inference_bit_for_bit(jit_compile):
    layer = selection(sigma=0.0)
    images, scores = images_and_scores(layer)

    def both(images, scores):
        return layer((images, scores), training=True), layer((images, scores))

    if jit_compile is not None:
        both = tf.function(both, jit_compile=jit_compile)
    soft, hard = both(images, scores)
    for name in ("indicators", "selected", "boxes"):
        np.testing.assert_array_equal(soft[name], hard[name])
    # Mixing sums over windows: one of weight 1 and others of weight 0.
    np.testing.assert_array_equal(soft["patches"], hard["patches"])


def test_soft_patches_are_the_indicator_weighted_sum_of_windows():
    layer = selection(sigma=0.3)
    images, scores = images_and_scores(layer)
    outputs = layer((images, scores), training=True)
    windows = np.stack([[window(i, b) for b in layer.boxes] for i in images.numpy()])
    expected = np.einsum("bkn,bnhwc->bkhwc", outputs["indicators"], windows)
    assert np.max(outputs["indicators"]) < 1.0
    np.testing.assert_allclose(outputs["patches"], expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("selector", SELECTORS)
def test_which_selectors_give_the_scores_a_gradient(selector):
    layer = selection(selector=selector, sigma=0.3, epsilon=0.1)
    images, scores = images_and_scores(layer)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        outputs = layer((images, scores), training=True)
        total = tf.reduce_mean(outputs["patches"][..., :10, :, :])
        policy = tf.reduce_sum(outputs.get("log_probs", tf.zeros([])))
        total = policy if selector == "reinforce" else total
    gradient = tape.gradient(total, scores)
    if selector in ("hard", "random"):
        assert gradient is None
    else:
        assert float(tf.norm(gradient)) > 0
        # Adding a constant to all scores changes nothing.
        np.testing.assert_allclose(tf.reduce_sum(gradient, axis=1), 0.0, atol=2e-2)


def test_random_is_uniform_and_ignores_the_scores():
    layer = selection(selector="random")
    images, scores = images_and_scores(layer, batch=1)
    count = layer.num_candidates
    drawn = np.zeros(count)
    for seed in range(300):
        chosen = layer((images, 100 * scores), seed=tf.constant([seed, 1]))["selected"].numpy()[0]
        assert len(set(chosen)) == 2
        drawn[chosen] += 1
    expected = 600 / count
    assert np.sum((drawn - expected) ** 2 / expected) < count + 4 * np.sqrt(2 * count)


def test_sigma_falls_linearly_to_zero_and_stays_there():
    layer = selection(sigma=0.2, decay_steps=4)
    seen = []
    for _ in range(6):
        seen.append(float(layer.current_sigma()))
        layer.count_step()
    np.testing.assert_allclose(seen, [0.2, 0.15, 0.1, 0.05, 0.0, 0.0], atol=1e-7)
    assert layer.step in layer.non_trainable_variables


def test_number_of_patches_changes_at_call_time():
    layer = selection()
    outputs = layer(images_and_scores(layer), num_patches=4)
    assert outputs["patches"].shape == (3, 4, 16, 20, 3)


def test_given_candidates_are_cut_out():
    layer = selection()
    images, scores = images_and_scores(layer)
    outputs = layer((images, scores), selected=tf.constant([[5, 1]] * 3))
    np.testing.assert_array_equal(outputs["selected"], [[1, 5]] * 3)


def test_positions_of_pixels_are_those_of_the_image_and_the_mean_of_a_blend():
    layer = selection()
    rows, columns = np.meshgrid(np.linspace(0, 255, 48), np.linspace(0, 255, 64), indexing="ij")
    inside = next(
        index for index, (y0, x0, y1, x1) in enumerate(layer.boxes)
        if y0 >= 0 and x0 >= 0 and y1 <= 48 and x1 <= 64
    )  # fmt: skip
    y0, x0, y1, x1 = layer.boxes[inside].astype(int)
    hard = tf.one_hot([[inside]], layer.num_candidates)
    expected = np.stack([rows, columns], axis=-1)[y0:y1, x0:x1]
    np.testing.assert_allclose(layer.pixel_positions(hard)[0, 0], expected, atol=1e-3)
    # Rows and columns go on outside the image in equal steps.
    everywhere = layer.pixel_positions(tf.eye(layer.num_candidates)[None])[0].numpy()
    np.testing.assert_allclose(np.diff(everywhere[..., 0], axis=1), 255 / 47, atol=1e-3)
    np.testing.assert_allclose(np.diff(everywhere[..., 1], axis=2), 255 / 63, atol=1e-3)
    weights = tf.nn.softmax(tf.random.stateless_normal([1, 2, layer.num_candidates], [1, 2]))
    blend = np.einsum("kn,nhwc->khwc", weights[0], everywhere)
    np.testing.assert_allclose(layer.pixel_positions(weights)[0], blend, atol=1e-3)


def test_anchors_are_resized_to_one_size():
    layer = PatchSelection(
        2, image_size=(448, 448), view_size=None, patch_size=(32, 32), sigma=0.0, num_samples=2
    )
    assert layer.num_candidates == 1614
    images, scores = images_and_scores(layer, batch=1)
    # One small anchor and one of 373 x 248 pixels.
    scores = scores - 10 + 20 * tf.one_hot([40], 1614) + 30 * tf.one_hot([1585], 1614)
    hard = layer((images, scores))
    soft = layer((images, scores), training=True)
    np.testing.assert_array_equal(hard["selected"], [[40, 1585]])
    for slot, index in enumerate((40, 1585)):
        cut = window(np.pad(images[0].numpy(), ((200, 200), (200, 200), (0, 0))),
                     layer.boxes[index] + 200)  # fmt: skip
        expected = tf.image.resize(cut, (32, 32), antialias=False)
        np.testing.assert_allclose(hard["patches"][0, slot], expected, atol=0.02)
        np.testing.assert_allclose(soft["patches"][0, slot], expected, atol=0.02)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"num_patches": 0}, "num_patches"),
        ({"num_patches": 100}, "num_patches"),
        ({"selector": "best"}, "selector"),
        ({"sigma": -0.1}, "sigma"),
        ({"mode": "other"}, "mode"),
        ({"noise": "other"}, "noise"),
        ({"num_samples": 0}, "num_samples"),
        ({"num_samples": 1}, "num_samples"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"sigma": float("inf")}, "sigma"),
        ({"seed": "one"}, "seed"),
        ({"num_patches": 2.5}, "num_patches"),
        ({"num_patches": len(selection().boxes), "selector": "sinkhorn"}, "num_patches"),
        ({"decay_steps": 0}, "decay_steps"),
        ({"patch_size": (49, 10)}, "patch_size"),
        ({"view_size": (15, 40)}, "receptive field"),
        ({"centres": "middle"}, "centres"),
    ],
)
def test_bad_arguments_are_named(options, named):
    with pytest.raises(ValueError, match=named):
        selection(**options)


def test_bad_inputs_are_named():
    layer = selection()
    images, scores = images_and_scores(layer)
    with pytest.raises(ValueError, match="images"):
        layer((images[:, :20], scores))
    with pytest.raises(ValueError, match="scores"):
        layer((images, scores[:, :3]))
    for training in (False, True):
        with pytest.raises(ValueError, match="`scores` must be finite"):
            layer((images, scores * np.nan), training=training)
