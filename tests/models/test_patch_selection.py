"""PatchSelectionClassifier: outputs, gradients, training with every selector, files."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tnet_keras.backbones import Backbone
from tnet_keras.layers import (
    ConcatenationAggregation,
    MaxAggregation,
    PatchSelection,
    SumAggregation,
    TransformerAggregation,
)
from tnet_keras.models import PatchSelectionClassifier, from_preset

CLASSES = 3


def classifier(selector="perturbed", aggregation=None, num_patches=2, backbone=None, **options):
    selection = PatchSelection(
        num_patches, image_size=(48, 48), view_size=(32, 32), patch_size=(16, 16),
        selector=selector, num_samples=100, epsilon=0.05, seed=1,
    )  # fmt: skip
    backbone = backbone or Backbone(
        "convnet", input_shape=(16, 16, 3), options={"filters": [6, 8], "strides": [2, 2]}
    )
    return PatchSelectionClassifier(
        backbone, selection, CLASSES, aggregation=aggregation, seed=2, **options
    )


def bright_squares(count, seed=0):
    """Dark images with one coloured square: the class is its colour."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 40, (count, 48, 48, 3)).astype(np.uint8)
    labels = random.integers(0, CLASSES, count).astype(np.int32)
    for image, label in zip(images, labels, strict=True):
        y, x = random.integers(4, 32, 2)
        image[y : y + 10, x : x + 10, label] = 250
    return images, labels


@pytest.mark.parametrize(
    "aggregation",
    [None, MaxAggregation, SumAggregation, ConcatenationAggregation, TransformerAggregation],
)
def test_attend_gives_what_every_model_gives(aggregation):
    options = {"hidden": 8, "num_layers": 1, "num_heads": 2}
    options = options if aggregation is TransformerAggregation else {}
    model = classifier(aggregation=aggregation and aggregation(**options))
    images, _ = bright_squares(3)
    outputs = model.attend(images)
    shapes = {name: value.shape for name, value in outputs.items() if not isinstance(value, list)}
    assert shapes == {
        "logits": (3, CLASSES),
        "probabilities": (3, CLASSES),
        "boxes": (3, 2, 4),
        "levels": (3, 2),
        "box_probabilities": (3, 2),
        "feature_logits": (3, 3, CLASSES),
        "feature_weights": (3, 3),
        "attended_logits": (3, CLASSES),
    }
    np.testing.assert_allclose(model(images), outputs["logits"], atol=1e-5)
    (probabilities,), (selected,) = outputs["location_probabilities"], outputs["selected"]
    assert probabilities.shape == (3, 1, 9) and selected.shape == (3, 1, 2)
    np.testing.assert_allclose(tf.reduce_sum(probabilities, -1), 1.0, atol=1e-5)
    np.testing.assert_allclose(tf.reduce_sum(outputs["feature_weights"], -1), 1.0, atol=1e-5)
    assert np.all(outputs["levels"] == 2)


def test_one_patch_alone_says_what_its_feature_says():
    model = classifier()
    images, _ = bright_squares(2)
    both = model.attend(images)
    first = both["selected"][0][:, :, :1]
    alone = model.attend(images, cells=[first])
    np.testing.assert_allclose(alone["logits"], both["feature_logits"][:, 1], atol=1e-5)


def test_number_of_patches_changes_without_retraining():
    model = classifier()
    images, _ = bright_squares(2)
    assert model.attend(images, locations=(4,))["boxes"].shape == (2, 4, 4)
    fixed = classifier(aggregation=ConcatenationAggregation())
    for wrong, subject in (((), model), ((10,), model), ((1, 1), model), ((1,), fixed)):
        with pytest.raises(ValueError, match="locations"):
            subject.attend(images, locations=wrong)


@pytest.mark.parametrize("selector", ["perturbed", "sinkhorn", "reinforce", "hard", "random"])
def test_gradients_reach_the_scorer_only_through_a_selector_that_has_one(selector):
    model = classifier(selector)
    images, labels = bright_squares(4)
    with tf.GradientTape() as tape:
        terms, _ = model.training_terms(images, tf.constant(labels), None, training=True)
    scorer = tape.gradient(terms["total"], model.scorer.trainable_variables)
    found = any(g is not None and float(tf.norm(g)) > 0 for g in scorer)
    assert found == (selector not in ("hard", "random"))
    assert ("policy" in terms) == (selector == "reinforce")
    assert ("entropy" in terms) == (selector not in ("hard", "random"))
    assert float(terms["total"]) == pytest.approx(
        sum(float(term) for name, term in terms.items() if name != "total"), abs=1e-5
    )


def test_position_channels_tell_two_places_apart(tmp_path):
    network = {"options": {"filters": [6, 8], "strides": [2, 2]}, "input_shape": (16, 16, 5)}
    model = classifier(backbone=Backbone("convnet", **network), position_channels=True)
    kernel = model.backbone.network.get_layer("conv1").kernel
    kernel.assign(kernel + 0.1)  # positions start with no weight
    images = np.full((1, 48, 48, 3), 90, np.uint8)
    # The same pixels everywhere: only the places differ.
    there, here = (model.attend(images, cells=[[[[cell]]]])["logits"] for cell in (0, 8))
    assert np.abs(there - here).max() > 1e-4
    without = classifier()
    there, here = (without.attend(images, cells=[[[[cell]]]])["logits"] for cell in (0, 8))
    np.testing.assert_allclose(there, here, atol=1e-6)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again(images), model(images), atol=1e-6)


def test_training_finds_the_square():
    keras.utils.set_random_seed(1)
    images, labels = bright_squares(256)
    model = classifier(num_patches=1)
    model.compile(keras.optimizers.Adam(5e-3, clipvalue=1.0))
    model.fit(images, labels, epochs=14, batch_size=32, verbose=0, shuffle=True)
    test_images, test_labels = bright_squares(128, seed=9)
    scores = model.evaluate(test_images, test_labels, verbose=0, return_dict=True)
    assert scores["accuracy"] > 0.9
    boxes = model.attend(test_images)["boxes"][:, 0].numpy().astype(int)
    lit = [
        image[max(y0, 0) : y1, max(x0, 0) : x1].max() > 200
        for image, (y0, x0, y1, x1) in zip(test_images, boxes, strict=True)
    ]
    assert np.mean(lit) > 0.9


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains(policy):
    keras.config.set_dtype_policy(policy)
    model = classifier()
    model.compile(keras.optimizers.Adam(5e-3))
    images, labels = bright_squares(64)
    history = model.fit(images, labels, epochs=4, batch_size=32, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]


def test_whole_train_step_compiles_under_xla():
    model = classifier()
    model.compile(keras.optimizers.Adam(1e-3), jit_compile=True)
    images, labels = bright_squares(16)
    logs = model.train_on_batch(images, labels, return_dict=True)
    assert np.isfinite(logs["loss"])
    assert float(model.selection.step) == 1.0


def test_two_replicas_train_and_keep_one_state():
    strategy = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )
    with strategy.scope():
        model = classifier("reinforce")
        model.compile(keras.optimizers.Adam(1e-3))
    images, labels = bright_squares(32)
    model.fit(images, labels, epochs=1, batch_size=8, verbose=0)
    assert model.selection.step.numpy() == 4.0
    assert 0.0 <= model.baseline.numpy() <= 1.0


def test_step_and_baseline_survive_a_file(tmp_path):
    model = classifier("reinforce")
    model.compile(keras.optimizers.Adam(1e-3))
    images, labels = bright_squares(16)
    model.fit(images, labels, epochs=2, batch_size=8, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert float(loaded.selection.step) == 4.0
    assert float(loaded.baseline) == pytest.approx(float(model.baseline))
    np.testing.assert_allclose(loaded(images), model(images), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"backbone": "convnet"}, "backbone"),
        ({"selection": "perturbed"}, "selection"),
        ({"backbone": Backbone("convnet", input_shape=(20, 20, 3))}, "backbone"),
        ({"position_channels": True}, "`backbone` must take 5 channels.*Received: .*16, 3"),
    ],
)
def test_parts_that_do_not_fit_are_named(change, named):
    model = classifier()
    parts = {"backbone": model.backbone, "selection": model.selection, "num_classes": 3}
    with pytest.raises(ValueError, match=named):
        PatchSelectionClassifier(**{**parts, **change})


@pytest.mark.parametrize(
    ("name", "trainable"),
    [
        ("topk_traffic_signs_5", 67_189),
        ("topk_billiards_mean", 11_450_106),
        ("topk_billiards", 13_424_890),
    ],
)
def test_published_systems_have_the_published_parameters(name, trainable):
    model = from_preset(name, selection={"selector": "hard"})
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == trainable
    assert model.selection.selector == "hard"
    assert model.selection.sigma == 0.05


@pytest.mark.parametrize("selector", ["perturbed", "sinkhorn"])
def test_scorer_learns_only_after_its_delay(selector):
    model = classifier(selector, scorer_delay=3, entropy_weight=0.01)
    model.compile(keras.optimizers.Adam(0.05), jit_compile=False)
    images, labels = bright_squares(4)
    before = [value.copy() for value in model.scorer.get_weights()]
    features = model.backbone.get_weights()
    moved = []
    for _ in range(5):
        model.train_on_batch(images, labels)
        now = model.scorer.get_weights()
        moved.append(max(np.abs(a - b).max() for a, b in zip(before, now, strict=True)))
    assert moved[:3] == [0.0] * 3 and moved[3] > 0 and moved[4] > 0
    assert any(
        np.abs(a - b).max() > 0 for a, b in zip(features, model.backbone.get_weights(), strict=True)
    )
    assert classifier(scorer_delay=3).get_config()["scorer_delay"] == 3
    with pytest.raises(ValueError, match="`scorer_delay`.*Received: scorer_delay=-1"):
        classifier(scorer_delay=-1)


def test_order_of_sinkhorn_slots_is_refused_where_it_matters():
    with pytest.raises(ValueError, match="`aggregation` must not depend on the order.*Received"):
        classifier(selector="sinkhorn", aggregation=ConcatenationAggregation())


@pytest.mark.parametrize(
    ("selector", "in_training", "in_inference"),
    [
        ("perturbed", 1, 0),
        ("reinforce", 1, 0),
        ("sinkhorn", 0, 0),
        ("hard", 0, 0),
        ("random", 1, 1),
    ],
)
def test_seeds_are_drawn_only_where_something_is_drawn(selector, in_training, in_inference):
    """A served model changes no variable."""
    model = classifier(selector)
    images = bright_squares(2)[0]
    model(images)  # built
    for training, changes in ((True, in_training), (False, in_inference)):
        before = model.seed_generator.state.numpy()
        model(images, training=training)
        assert bool(np.any(model.seed_generator.state.numpy() != before)) == bool(changes)


@pytest.mark.parametrize("cells", [[], [np.zeros((2, 1, 2))], [np.zeros((2, 2), int)]])
def test_candidates_to_take_are_checked(cells):
    with pytest.raises(ValueError, match="`(cells|locations)` must be"):
        classifier("hard").attend(bright_squares(2)[0], cells=cells)


@pytest.mark.parametrize("locations", [3, (2.5,), "2", ((1,),)])
def test_locations_that_are_no_count_are_named(locations):
    with pytest.raises(ValueError, match="`locations` must be"):
        classifier("hard").attend(bright_squares(2)[0], locations=locations)


def test_training_tells_how_far_the_transport_is_from_converged():
    model = classifier("sinkhorn")
    model.compile(keras.optimizers.SGD(1e-3))
    images, labels = bright_squares(4)
    logs = model.train_on_batch(images, labels, return_dict=True)
    assert 0.0 < logs["transport_error"] < 1.0
    assert "transport_error" not in classifier("perturbed").scalar_metrics
