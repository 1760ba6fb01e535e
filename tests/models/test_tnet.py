"""What a TNet learns from: terms of its loss, who is trained by which, samples, baseline."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.models.small_models import (
    DETERMINISTIC,
    assert_same_weights,
    batch,
    convnet,
    copy_weights,
    own_backbone,
    pixels,
    tnet,
)

POLICY = ("sequence_policy", "feature_policy")
CLASSES = ("sequence_cross_entropy", "feature_cross_entropy")
LOGS = {"loss", "accuracy", "top_5_accuracy", "reward", "baseline", "policy_entropy"}


def sums_of_gradients(model, term, **arguments):
    """Returns the sum of |gradient| of a term by variable path; None where there is no gradient."""
    images, labels = batch(6)
    with tf.GradientTape() as tape:
        terms = model.loss_terms(images, labels, **arguments)
    gradients = tape.gradient(terms[term], model.trainable_variables)
    return {
        v.path: None if g is None else float(tf.reduce_sum(tf.abs(g)))
        for v, g in zip(model.trainable_variables, gradients, strict=True)
    }


def paths(part):
    """Returns the paths of a layer's trainable variables."""
    return {v.path for v in part.trainable_variables}


@pytest.mark.parametrize("selection", ["sample", "top_k"])
@pytest.mark.parametrize("rule", ["paper", "original"])
def test_gradient_routing(rule, selection):
    model = tnet(
        locations=(2, 1),
        rule=rule,
        selection=selection,
        aggregation="weighted",
        location_module="squeeze_excite",
        positional="add",
        l2=0.1,
        contrastive_weight=1.0,
        contrastive_margin=-1.0,
    )
    everything = {v.path for v in model.trainable_variables}
    assert len(everything) == len(model.trainable_variables)
    policy = paths(model.location_module)
    weighting = paths(model.aggregation)
    for term in POLICY:
        moved = {path for path, size in sums_of_gradients(model, term).items() if size}
        assert moved <= policy, term
        # Nothing but the shift of all logits is without effect.
        assert policy - moved <= {model.location_module.output_conv.bias.path}, term
    for term in (*CLASSES, "contrastive"):
        sizes = sums_of_gradients(model, term)
        assert all(sizes[path] is None for path in policy), term  # never through a selection
        # The weights of the mixture only matter to what is mixed, and a common shift to nothing.
        outside = policy | (weighting if term == "feature_cross_entropy" else set())
        outside |= {model.aggregation.output_dense.bias.path}
        outside |= paths(model.classifier) if term == "contrastive" else set()
        assert {path for path, size in sizes.items() if size} >= everything - outside, term
    l2 = {path for path, size in sums_of_gradients(model, "l2").items() if size is not None}
    exempt = {path for path in everything if path.split("/")[-1] in ("gamma", "beta")}
    assert exempt and l2 == everything - exempt


def test_l2_of_new_modules_spares_the_backbone():
    model = tnet(l2=0.5, l2_scope="new_modules")
    terms = model.loss_terms(*batch(2))
    backbone = paths(model.backbone)
    new = [v.numpy() for v in model.trainable_variables if v.path not in backbone]
    expected = 0.5 * sum(np.sum(np.square(v)) for v in new)
    np.testing.assert_allclose(terms["l2"], expected, rtol=1e-5)
    whole = tnet(l2=0.5).loss_terms(*batch(2))
    assert whole["l2"] > terms["l2"]


@pytest.mark.parametrize("cap", [None, 2, 1])
@pytest.mark.parametrize("rule", ["paper", "original"])
def test_terms_of_the_loss_by_hand(rule, cap):
    weights = {"lambda_f": 0.4, "lambda_c": 0.25, "lambda_r": 0.35, "level_cap": cap}
    arguments = {"locations": (2, 2), "rule": rule, "initial_baseline": 0.3} | DETERMINISTIC
    model = tnet(own_backbone(), **arguments, **weights)
    images, labels = batch(7)
    out = tf.nest.map_structure(lambda x: x.numpy(), model.attend(images))
    terms = model.loss_terms(images, labels)

    def cross_entropy(logits):
        return -tf.nn.log_softmax(logits).numpy()[np.arange(7), labels]

    def advantage(logits):
        return (logits.argmax(-1) == labels) - 0.3

    # The log-probability of each location, in the order of the boxes.
    if rule == "original":
        log_probs = np.log(out["box_probabilities"] + 1e-10)
    else:  # the second draw of a grid is one of the cells that are left
        log_probs, rows = np.zeros((7, 6)), np.arange(7)
        for start in (0, 2, 4):  # three grids, two cells each
            pair = out["box_probabilities"][:, start : start + 2]
            first, best, other = pair.argmax(-1), pair.max(-1), pair.min(-1)
            log_probs[rows, start + first] = np.log(best)
            log_probs[rows, start + 1 - first] = np.log(other / (1 - best))
    counted = {None: range(6), 2: range(2), 1: ()}[cap]
    single = out["feature_logits"]
    per_feature = [1 + k for k in counted] + ([0] if rule == "original" else [])
    expected = {
        "sequence_cross_entropy": 0.25 * cross_entropy(out["logits"]).mean(),
        "sequence_policy": 0.4 * 0.35 * (-log_probs.sum(1) * advantage(out["logits"])).mean(),
        "feature_cross_entropy": 0.75
        * np.mean([cross_entropy(single[:, k]) for k in per_feature] or [0.0]),
        "feature_policy": 0.4
        * 0.65
        * np.mean([-log_probs[:, k] * advantage(single[:, 1 + k]) for k in counted] or [0.0]),
    }
    assert set(terms) == {*expected, "total"}
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(terms["total"], sum(expected.values()), atol=1e-5)


@pytest.mark.parametrize("backbone", [convnet, own_backbone])
def test_samples_equal_the_tiled_batch(backbone):
    arguments = {"locations": (2, 1), "contrastive_weight": 1.0} | DETERMINISTIC
    model = tnet(backbone(), num_samples=3, **arguments)
    tiled = copy_weights(model, tnet(backbone(), **arguments))
    images, labels = batch(4)
    results = []
    for played, x, y in ((model, images, labels), (tiled, images.repeat(3, 0), labels.repeat(3))):
        with tf.GradientTape() as tape:
            terms = played.loss_terms(x, y)
        results.append((terms, tape.gradient(terms["total"], played.trainable_variables)))
    (ours, our_gradients), (theirs, their_gradients) = results
    for name in theirs:
        np.testing.assert_allclose(ours[name], theirs[name], atol=1e-5, err_msg=name)
    for mine, other in zip(our_gradients, their_gradients, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-4)


def test_samples_make_rows_image_by_image():
    model = tnet(own_backbone(), num_samples=3, locations=(2, 1))
    images, labels = batch(4)
    assert model(images, training=True).shape == (12, 4)
    assert model(images).shape == (4, 4)  # inference plays once
    terms, outputs = model.training_terms(images, labels, np.arange(4.0), training=True)
    assert all(term.shape == () for term in terms.values())
    assert outputs["logits"].shape == (12, 4)
    np.testing.assert_array_equal(outputs["labels"], labels.repeat(3))
    np.testing.assert_array_equal(outputs["sample_weight"], np.arange(4).repeat(3))
    assert outputs["rewards"]["sequence"].shape == (12,)
    assert outputs["rewards"]["feature"].shape == (12, 4)
    rows = outputs["logits"].numpy().reshape(4, 3, 4)
    assert np.ptp(rows, axis=1).max() > 1e-3  # the samples of an image differ
    _, outputs = model.training_terms(images, labels, None, training=False)
    assert outputs["logits"].shape == (4, 4)


@pytest.mark.parametrize("selection", ["sample", "top_k"])
def test_training_draws_from_the_policy(selection):
    count = 1500
    model = tnet(own_backbone(), locations=(1,), num_samples=count, selection=selection)
    model.location_module.output_conv.kernel.assign(model.location_module.output_conv.kernel * 3)
    images = pixels(1)
    probabilities = model.attend(images)["location_probabilities"][0].numpy()[0, 0]
    of_cell = model.attend(images.repeat(9, 0), cells=[np.arange(9)[:, None, None]])["logits"]
    drawn = model(images, training=True).numpy()
    distances = np.abs(drawn[:, None] - of_cell.numpy()).max(-1)
    assert distances.min(1).max() < 1e-5
    shares = np.bincount(distances.argmin(1), minlength=9) / count
    if selection == "top_k":
        probabilities = np.eye(9)[probabilities.argmax()]
    # Three standard deviations of a share are at most 0.039.
    np.testing.assert_allclose(shares, probabilities, atol=0.039)


def test_same_seed_same_draws():
    images = pixels(6)

    def logits(seed):
        keras.utils.set_random_seed(1)
        model = tnet(own_backbone(), seed=seed, dropout=0.3)
        return np.stack([model(images, training=True) for _ in range(2)])

    first, again, other = logits(3), logits(3), logits(4)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    assert np.abs(first[0] - first[1]).max() > 1e-3  # and every call draws anew


@pytest.mark.parametrize("rule", ["paper", "original"])
def test_train_step_moves_the_baseline(rule, tmp_path):
    model = tnet(
        own_backbone(), locations=(2, 1), rule=rule, lambda_r=0.3, level_cap=2, **DETERMINISTIC
    )
    model.compile("sgd")
    images, labels = batch(8)
    out = model.attend(images)
    sequence = np.mean(np.argmax(out["logits"], -1) == labels)
    inside = np.argmax(out["feature_logits"], -1)[:, 1:3] == labels[:, None]
    reward = sequence if rule == "paper" else 0.3 * sequence + 0.7 * np.mean(inside)
    model.train_on_batch(images, labels)
    moved = 0.9 * 0.5 + 0.1 * reward
    np.testing.assert_allclose(model.baseline, moved, atol=1e-6)
    logs = model.evaluate(images, labels, return_dict=True, verbose=0)
    assert model.baseline.numpy() == np.float32(logs["baseline"])  # evaluation leaves it alone
    np.testing.assert_allclose(model.baseline, moved, atol=1e-6)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.baseline.numpy() == model.baseline.numpy()
    model.save_weights(tmp_path / "model.weights.h5")
    other = tnet(own_backbone(), locations=(2, 1))
    other.load_weights(tmp_path / "model.weights.h5")
    assert_same_weights(other, model)


@pytest.mark.parametrize("statistics_levels", [1, 3])
def test_statistics_per_level_or_shared(statistics_levels):
    # All nine cells at both levels, so that what is looked at does not depend on the policy.
    model = tnet(
        convnet(statistics_levels=statistics_levels), image_size=(64, 64), locations=(9, 9)
    )
    images = pixels(2, 64, 64)
    boxes = model.attend(images)["boxes"].numpy().astype(int)
    conv, bn = (model.backbone.network.get_layer(name) for name in ("conv1", "bn1"))
    views = [images]
    for chosen in (boxes[:, :9], boxes[:, 9:]):
        cut = [
            image[y0:y1, x0:x1]
            for image, own in zip(images, chosen, strict=True)
            for y0, x0, y1, x1 in own
        ]
        views.append(np.stack(cut))
    means = []
    for level_views in views:
        resized = tf.image.resize(level_views, (16, 16))
        means.append(np.mean(conv(model.backbone.scale_images(resized)), axis=(0, 1, 2)))
    model(images, training=True)
    if statistics_levels == 3:
        expected = [0.1 * mean for mean in means]
    else:
        expected = [0.1 * (0.81 * means[0] + 0.9 * means[1] + means[2])]
    assert np.abs(means[0] - means[2]).max() > 1e-3
    np.testing.assert_allclose(np.stack(bn.moving_means), expected, atol=1e-5)


def test_names_of_metrics_in_the_logs():
    model = tnet(own_backbone(), num_classes=7)
    model.compile("sgd")
    images, labels = batch(8)
    logs = model.fit(images, labels, validation_data=(images, labels), epochs=2, verbose=0).history
    assert set(logs) == LOGS | {f"val_{name}" for name in LOGS}
    assert all(len(series) == 2 for series in logs.values())
    # At evaluation they are means over the whole set, computed here from `attend`.
    logs = model.evaluate(images, labels, batch_size=4, return_dict=True, verbose=0)
    out = model.attend(images)
    order = np.argsort(-out["logits"].numpy())
    hits = np.mean(order[:, 0] == labels)
    probabilities = out["location_probabilities"][0].numpy()
    entropy = -np.sum(probabilities * np.log(probabilities), -1).mean()
    expected = {
        "loss": float(model.training_terms(images, labels, None, training=False)[0]["total"]),
        "accuracy": hits,
        "top_5_accuracy": np.mean(np.any(order[:, :5] == labels[:, None], axis=1)),
        "reward": hits,
        "baseline": model.baseline.numpy(),
        "policy_entropy": entropy,
    }
    assert set(logs) == set(expected) == LOGS
    for name, value in expected.items():
        np.testing.assert_allclose(logs[name], value, atol=1e-5, err_msg=name)


def test_sample_weight():
    model = tnet(own_backbone(), locations=(2, 1), l2=1e-3, **DETERMINISTIC)
    images, labels = batch(4)
    weights = np.array([2.0, 0.0, 0.5, 1.0])
    single = [model.loss_terms(images[i : i + 1], labels[i : i + 1]) for i in range(4)]
    together = model.loss_terms(images, labels, sample_weight=weights)
    for name in (*POLICY, *CLASSES):
        expected = np.mean(weights * [float(terms[name]) for terms in single])
        np.testing.assert_allclose(together[name], expected, atol=1e-5, err_msg=name)


def test_images_of_weight_zero_teach_nothing():
    model = tnet(own_backbone(), **DETERMINISTIC)
    before = copy_weights(model, tnet(own_backbone()))
    images, labels = batch(4)
    model.compile(keras.optimizers.SGD(0.1))
    model.fit(images, labels, sample_weight=np.zeros((4, 1)), verbose=0)
    before.baseline.assign(model.baseline)  # it follows the rewards of all images
    assert_same_weights(model, before)


def test_weighted_metrics_are_weighted():
    model = tnet(own_backbone(), **DETERMINISTIC)
    images, _ = batch(4)
    labels = np.argmax(model(images), -1)
    labels[2:] = (labels[2:] + 1) % 4  # two right, two wrong
    metric = keras.metrics.SparseCategoricalAccuracy(name="weighted_accuracy")
    model.compile("sgd", weighted_metrics=[metric])
    logs = model.evaluate(
        images, labels, sample_weight=np.array([3.0, 0, 0, 1]), return_dict=True, verbose=0
    )
    assert logs["weighted_accuracy"] == 0.75
    assert logs["accuracy"] == 0.5
