"""TNet whose location module is taught by something else than REINFORCE."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.models.small_models import batch, own_backbone, pixels, tnet
from tnet_keras.geometry import RegionGrid
from tnet_keras.layers import SELECTORS
from tnet_keras.models import TNet, traversal

MANY = {"num_samples": 64, "seed": 1}


def selecting(selector, **overrides):
    """A TNet of 3 x 3 cells without dropout or batch normalisation."""
    arguments = {"selector": selector, "dropout": 0.0, "selection": "top_k"} | overrides
    if selector != "reinforce":
        arguments.setdefault("selector_options", MANY)
    return tnet(own_backbone(), **arguments)


def module_gradient(model, images, labels):
    """Largest gradient of the class terms alone in the location module and in the backbone."""
    with tf.GradientTape() as tape:
        terms, _ = model.training_terms(images, labels, None, training=True)
        loss = terms["sequence_cross_entropy"] + terms["feature_cross_entropy"]
    parts = [model.location_module.trainable_variables, model.backbone.trainable_variables]
    gradients = tape.gradient(loss, parts)
    return [max(0.0 if g is None else np.abs(g).max() for g in part) for part in gradients]


@pytest.mark.parametrize("selector", SELECTORS)
def test_who_teaches_the_location_module(selector):
    images, labels = batch(4)
    module, backbone = module_gradient(selecting(selector), images, labels)
    assert backbone > 1e-5
    assert (module > 1e-7) == (selector in ("perturbed", "sinkhorn"))


@pytest.mark.parametrize("selector", SELECTORS)
def test_trains_in_a_few_steps(selector):
    model = selecting(selector)
    model.compile(keras.optimizers.Adam(0.02), jit_compile=False)
    images, labels = batch(16)
    history = model.fit(images, labels, epochs=6, batch_size=8, verbose=0).history["loss"]
    assert np.all(np.isfinite(history)) and history[-1] < history[0]
    if selector != "reinforce":
        assert float(model.chooser.step) == 12


@pytest.mark.parametrize("selector", ["perturbed", "sinkhorn", "hard"])
def test_inference_is_that_of_reinforce(selector):
    images = pixels(3)
    reference = selecting("reinforce")
    model = selecting(selector)
    shared = [weight for weight in model.weights if not weight.path.endswith("step")]
    for weight, theirs in zip(shared, reference.weights, strict=True):
        weight.assign(theirs)
    for name, value in reference.attend(images).items():
        for ours, theirs in zip(
            tf.nest.flatten(model.attend(images)[name]), tf.nest.flatten(value), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs, err_msg=name)


def test_without_noise_training_looks_at_the_best_cells():
    images = pixels(3)
    model = selecting("perturbed", selector_options={"sigma": 0.0, "num_samples": 3})
    np.testing.assert_allclose(model(images, training=True), model(images), atol=1e-4)


def test_a_soft_view_is_the_mix_of_the_cells_and_their_positions(monkeypatch):
    model = selecting("sinkhorn", locations=(1,))
    images = pixels(2)
    shares = np.zeros((2, 1, 9), np.float32)
    shares[:, 0, 2], shares[:, 0, 7] = 0.25, 0.75

    def softly(scores, **_):
        return {"indicators": tf.constant(shares), "selected": tf.constant([[7], [7]])}

    monkeypatch.setattr(model, "chooser", _Fixed(softly))
    seen, places = [], []
    extract, encode = traversal._extract, traversal._encode
    monkeypatch.setattr(
        traversal, "_extract", lambda m, x, *a: (seen.append(x), extract(m, x, *a))[1]
    )
    monkeypatch.setattr(
        traversal, "_encode", lambda m, v, p, n: (places.append(p), encode(m, v, p, n))[1]
    )
    model(images, training=True)
    boxes = model.grid.boxes(32, 32).astype(int)
    padded = np.pad(images.astype(float), ((0, 0), (16, 16), (16, 16), (0, 0)),
                    constant_values=127.5)  # fmt: skip
    cells = [padded[:, y0 + 16 : y1 + 16, x0 + 16 : x1 + 16] for y0, x0, y1, x1 in boxes]
    mixed = 0.25 * cells[2] + 0.75 * cells[7]
    np.testing.assert_allclose(seen[1], tf.image.resize(mixed, (16, 16)), atol=1e-3)
    expected = 0.25 * np.array([0, 2, 1]) + 0.75 * np.array([2, 1, 1])
    np.testing.assert_allclose(places[1], [[expected]] * 2, atol=1e-6)


class _Fixed:
    """A chooser that gives what it is told."""

    def __init__(self, function):
        self.function = function

    def __call__(self, scores, **options):
        return self.function(scores, **options)

    def is_soft(self, training):
        return training


def test_random_ignores_the_policy_at_inference_too():
    model = selecting("random", locations=(1,))
    chosen = [int(model.attend(pixels(1))["selected"][0][0, 0, 0]) for _ in range(40)]
    assert len(set(chosen)) > 4


def test_a_saved_model_keeps_its_selector_and_step(tmp_path):
    model = selecting("perturbed", selector_options={"sigma": 0.1, "decay_steps": 10, **MANY})
    model.compile(keras.optimizers.Adam(0.02), jit_compile=False)
    model.fit(*batch(8), epochs=2, batch_size=4, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.selector == "perturbed" and float(loaded.chooser.step) == 4
    assert float(loaded.chooser.current_sigma()) == pytest.approx(0.06)
    images = pixels(2)
    np.testing.assert_allclose(loaded(images), model(images), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"selector": "best"}, "`selector` must be one of.*Received: selector='best'"),
        ({"selector": "perturbed", "locations": (2, 1)}, "two levels.*Received: levels=3"),
        ({"selector": "sinkhorn", "num_samples": 2}, "num_samples=1. Received: .*num_samples=2"),
        ({"selector": "hard", "selector_options": {"sigma": -1.0}}, "`sigma`.*Received: .*-1.0"),
    ],
)
def test_bad_selectors_are_named(arguments, message):
    grid = RegionGrid(3, 3, 0.5)
    given = {"grid": grid, "image_size": (32, 32), "num_classes": 4, **arguments}
    with pytest.raises(ValueError, match=message):
        TNet(own_backbone(), **given)
