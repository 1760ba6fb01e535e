"""NTSTopKClassifier and NTSNet: outputs, losses, who teaches whom, training, files, bad input."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.models.small_models import pixels
from tnet_keras.backbones import Backbone
from tnet_keras.geometry import NTS_ANCHORS
from tnet_keras.layers import PatchSelection
from tnet_keras.models.nts_net import NTSNet, NTSTopKClassifier, ranking_loss

CLASSES = 3
SELECTORS = ["perturbed", "sinkhorn", "hard", "random", "reinforce"]
ANCHORS = np.concatenate([boxes for level in NTS_ANCHORS for boxes in level.anchor_boxes()])


def convnet(size=448, filters=(4, 6), strides=(8, 4), **options):
    """Returns a backbone for 448 px with a map of 14x14."""
    return Backbone(
        "convnet", input_shape=(size, size, 3), options={"filters": filters, "strides": strides},
        **options,
    )  # fmt: skip


def selection_of(selector="perturbed", num_patches=2, **options):
    sizes = {"image_size": (448, 448), "view_size": None, "patch_size": (32, 32)}
    return PatchSelection(
        num_patches, selector=selector, num_samples=20, epsilon=0.05, **sizes | options
    )


def top_k(selector="perturbed", num_patches=2, backbone=None, **options):
    selection = selection_of(selector, num_patches)
    return NTSTopKClassifier(backbone or convnet(), selection, CLASSES, **{"seed": 2} | options)


def nts_net(**options):
    sizes = {"num_patches": 2, "num_proposals": 4, "patch_size": (32, 32)}
    return NTSNet(convnet(), CLASSES, **{"seed": 2} | sizes | options)


MODELS = {
    "mean": top_k,
    "concat": lambda **options: top_k(head="concat", **options),
    "nts_net": nts_net,
}


def images_of(count):
    return pixels(count, 448, 448), np.arange(count, dtype="int32") % CLASSES


def gradients(model, term, variables):
    """Norms of the gradients of one term of the loss, 0 where there is none."""

    @tf.function(autograph=False)
    def norms(images, labels):
        with tf.GradientTape() as tape:
            terms, _ = model.training_terms(images, labels, None, training=True)
            value = terms[term]
        found = tape.gradient(value, variables)
        return [0.0 if g is None else tf.norm(tf.convert_to_tensor(g)) for g in found]

    return [float(norm) for norm in norms(*map(tf.constant, images_of(2)))]


@pytest.mark.parametrize("kind", MODELS)
def test_attend_gives_what_every_model_gives(kind):
    model = MODELS[kind]()
    images, _ = images_of(2)
    outputs = model.attend(images)
    shapes = {name: value.shape for name, value in outputs.items() if not isinstance(value, list)}
    assert shapes == {
        "logits": (2, CLASSES),
        "probabilities": (2, CLASSES),
        "boxes": (2, 2, 4),
        "levels": (2, 2),
        "box_probabilities": (2, 2),
        "feature_logits": (2, 3, CLASSES),
        "feature_weights": (2, 3),
        "attended_logits": (2, CLASSES),
    }
    np.testing.assert_allclose(model(images), outputs["logits"], atol=1e-5)
    (probabilities,), (selected,) = outputs["location_probabilities"], outputs["selected"]
    assert probabilities.shape == (2, 1, 1614) and selected.shape == (2, 1, 2)
    np.testing.assert_allclose(tf.reduce_sum(probabilities, -1), 1.0, atol=1e-5)
    np.testing.assert_array_equal(outputs["boxes"], ANCHORS[selected[:, 0]])
    weights = [0.5, 0.25, 0.25] if kind == "mean" else [1 / 3] * 3
    np.testing.assert_allclose(outputs["feature_weights"], [weights] * 2, atol=1e-6)
    assert np.all(outputs["levels"] == 2)


@pytest.mark.parametrize("kind", MODELS)
def test_logits_are_the_heads_of_the_vectors(kind):
    model = MODELS[kind]()
    images, _ = images_of(2)
    outputs = model.attend(images)
    features, vector = model.backbone(images)
    boxes = outputs["boxes"].numpy().astype(int)
    parts = []
    for image, own in zip(images, boxes, strict=True):
        fill = 0 if kind != "nts_net" else 127.5
        padded = np.pad(image.astype("float32"), ((448, 448), (448, 448), (0, 0)),
                        constant_values=fill)  # fmt: skip
        patches = [
            tf.image.resize(padded[448 + y0 : 448 + y1, 448 + x0 : 448 + x1], (32, 32))
            for y0, x0, y1, x1 in own
        ]
        parts.append(model.backbone(tf.stack(patches), any_size=True)[1])
    parts = np.stack(parts)
    if kind == "mean":
        combined = parts.mean(axis=1) + vector
    else:
        combined = np.concatenate([parts[:, 0], parts[:, 1], vector], axis=1)
    np.testing.assert_allclose(outputs["logits"], model.combined_head(combined), atol=1e-4)
    expected = np.concatenate([model.global_head(vector)[:, None], model.part_head(parts)], axis=1)
    np.testing.assert_allclose(outputs["feature_logits"], expected, atol=1e-4)
    scores = tf.nn.softmax(model.scorer(features))
    np.testing.assert_allclose(outputs["location_probabilities"][0][:, 0], scores, atol=1e-6)


@pytest.mark.parametrize("kind", MODELS)
def test_number_of_patches_changes_without_retraining(kind):
    model = MODELS[kind]()
    images, _ = images_of(1)
    outputs = model.attend(images, locations=())
    assert outputs["boxes"].shape == (1, 0, 4) and outputs["feature_weights"].shape == (1, 1)
    assert outputs["selected"] == [] and "attended_logits" not in outputs
    np.testing.assert_array_equal(outputs["logits"], outputs["feature_logits"][:, 0])
    np.testing.assert_array_equal(model(images, locations=()), outputs["logits"])
    if kind == "mean":
        assert model.attend(images, locations=(3,))["boxes"].shape == (1, 3, 4)
    wrong = [(1615,), (1, 1), (-1,), 3, (1.5,)]
    for locations in wrong if kind == "mean" else [*wrong, (1,), (3,)]:
        with pytest.raises(ValueError, match="`locations` must be .*Received: locations="):
            model.attend(images, locations=locations)


def test_given_candidates_are_taken():
    model = top_k()
    images, _ = images_of(2)
    cells = np.int32([[[3, 900]], [[10, 1600]]])
    outputs = model.attend(images, cells=[cells])
    np.testing.assert_array_equal(outputs["selected"][0], cells)
    for wrong in (cells[:, 0], cells.astype("float32")):
        with pytest.raises(ValueError, match=r"`cells` must be a list with one int \[B, 1, K\]"):
            model.attend(images, cells=[wrong])


@pytest.mark.parametrize("selector", SELECTORS)
def test_terms_of_the_loss(selector):
    model = top_k(selector, dropout=0.0)
    images, labels = images_of(2)
    weight = tf.constant([2.0, 0.5])
    terms, outputs = model.training_terms(images, tf.constant(labels), weight, training=False)
    soft = selector not in ("hard", "random")
    names = {"global_cross_entropy", "combined_cross_entropy", "part_cross_entropy", "total"}
    assert terms.keys() == (names | {"entropy"} if soft else names)
    assert float(terms["total"]) == pytest.approx(
        sum(float(term) for name, term in terms.items() if name != "total"), abs=1e-5
    )
    if selector != "random":
        attended = model.attend(images)
        losses = -tf.nn.log_softmax(attended["feature_logits"]).numpy()
        own = np.take_along_axis(losses, labels[:, None, None], axis=-1)[..., 0]
        global_loss = (weight * own[:, 0]).numpy().mean()
        parts_loss = (weight[:, None] * own[:, 1:]).numpy().mean()
        assert float(terms["global_cross_entropy"]) == pytest.approx(global_loss, abs=1e-4)
        assert float(terms["part_cross_entropy"]) == pytest.approx(parts_loss, abs=1e-4)
    if soft:
        p = attended["location_probabilities"][0].numpy()
        entropy = -(p * np.log(p)).sum(axis=-1).mean()
        assert float(terms["entropy"]) == pytest.approx(-0.05 * entropy, abs=1e-4)
        assert float(outputs["score_entropy"]) == pytest.approx(entropy, abs=1e-3)


@pytest.mark.parametrize("selector", SELECTORS)
def test_gradients_reach_the_scorer_only_through_a_selector_that_has_one(selector):
    model = top_k(selector, entropy_weight=0.0)
    found = gradients(model, "total", model.scorer.trainable_variables)
    assert any(norm > 0 for norm in found) == (selector not in ("hard", "random"))


def test_the_proposal_net_does_not_teach_the_backbone():
    model = top_k()
    assert not any(gradients(model, "entropy", model.backbone.trainable_variables))
    assert any(gradients(model, "entropy", model.scorer.trainable_variables))


def test_ranking_teaches_the_scores_and_nothing_else_does():
    model = nts_net()
    scorer, backbone = model.scorer.trainable_variables, model.backbone.trainable_variables
    for term in ("global_cross_entropy", "combined_cross_entropy", "part_cross_entropy"):
        assert not any(gradients(model, term, scorer))
        assert any(gradients(model, term, backbone))
    assert any(gradients(model, "ranking", scorer))
    assert not any(gradients(model, "ranking", backbone))


def test_ranking_loss():
    losses = np.float32([[0.1, 0.2, 3.0]])
    assert float(ranking_loss([[5.0, 4.0, 3.0]], losses)[0]) == 0.0
    # Pairs (0, 1), (0, 2), (1, 2): 1 - s_i + s_j = 0.5, 1.5 and 2.
    assert float(ranking_loss([[1.0, 0.5, 1.5]], losses)[0]) == pytest.approx(4.0)
    assert float(ranking_loss([[1.0, 1.0, 1.0]], [[2.0, 2.0, 2.0]])[0]) == 0.0


def test_nts_net_takes_anchors_that_overlap_little_and_combines_the_best():
    model = nts_net()
    images, labels = images_of(2)
    path = model._forward(images, False, 2, proposals=4)
    scores = tf.gather(path["scores"], path["selected"], batch_dims=1).numpy()
    assert path["part_logits"].shape == (2, 4, CLASSES)
    assert (np.diff(scores, axis=1) <= 0).all()
    np.testing.assert_array_equal(scores[:, 0], tf.reduce_max(path["scores"], axis=1))
    for boxes in path["boxes"].numpy():
        low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
        high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
        common = np.maximum(high - low, 0).prod(axis=-1)
        area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=-1)
        overlap = common / (area[:, None] + area[None] - common)
        assert (overlap[~np.eye(4, dtype=bool)] < 0.25).all()
    np.testing.assert_allclose(path["logits"], model(images), atol=1e-5)


@pytest.mark.parametrize("kind", MODELS)
def test_dropout_is_shared_by_the_heads_and_off_at_inference(kind):
    model = MODELS[kind](dropout=0.5)
    images, _ = images_of(2)
    np.testing.assert_array_equal(model(images), model(images))
    # One vector is dropped once for its own head and for the combined one.
    calls = []
    drop = model.drop.call
    model.drop.call = lambda *args, **options: calls.append(1) or drop(*args, **options)
    model(images, training=False)
    assert len(calls) == 2


def test_image_and_parts_share_statistics_unless_told_otherwise():
    images, labels = images_of(2)
    for levels in (1, 2):
        model = top_k("hard", backbone=convnet(statistics_levels=levels))
        (norm,) = (x for x in model._flatten_layers() if x.name == "bn1")
        model.training_terms(images, tf.constant(labels), None, training=True)
        assert len(norm.moving_means) == levels
        assert all(np.abs(mean).max() > 0 for mean in norm.moving_means)


@pytest.mark.parametrize("training", [False, True])
def test_a_backbone_of_any_size_is_that_of_another_size(training):
    large, small = convnet(), convnet(32)
    small.set_weights(large.get_weights())
    patches = pixels(3, 32, 32)
    both = [
        backbone(patches, training=training, **options)
        for backbone, options in ((large, {"any_size": True}), (small, {}))
    ]
    for ours, theirs in zip(*both, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    for ours, theirs in zip(large.weights, small.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    with pytest.raises(ValueError, match="`images` must have the shape.*Received: images.shape="):
        large(patches)
    with pytest.raises(ValueError, match="`images` must have the shape.*Received: images.shape="):
        large(patches[..., :1], any_size=True)


@pytest.mark.parametrize(("kind", "metric"), [("mean", "sigma"), ("nts_net", "ranking")])
def test_training_lowers_the_loss(kind, metric):
    options = {} if kind == "nts_net" else {"selector": "hard"}
    model = MODELS[kind](dropout=0.0, **options)
    model.compile(keras.optimizers.Adam(1e-2), jit_compile=False)
    images, labels = images_of(6)
    history = model.fit(images, labels, epochs=8, batch_size=6, verbose=0).history
    assert history["loss"][-1] < history["loss"][0] and metric in history


@pytest.mark.parametrize("kind", ["mean", "nts_net"])
def test_whole_train_step_compiles_under_xla(kind):
    # Blending 21 kinds of anchors takes XLA minutes to compile on a CPU; this takes seconds.
    model = top_k("reinforce") if kind == "mean" else nts_net()
    model.compile(keras.optimizers.Adam(1e-3), jit_compile=True)
    images, labels = images_of(2)
    assert np.isfinite(model.train_on_batch(images, labels, return_dict=True)["loss"])


def test_sigma_falls_with_every_step():
    model = NTSTopKClassifier(convnet(), selection_of(decay_steps=4), CLASSES, seed=2)
    model.compile(keras.optimizers.Adam(1e-3), jit_compile=False)
    images, labels = images_of(2)
    logs = [model.train_on_batch(images, labels, return_dict=True) for _ in range(2)]
    np.testing.assert_allclose([log["sigma"] for log in logs], [0.05, 0.0375], atol=1e-6)
    assert all(np.isfinite(log["loss"]) for log in logs)
    assert float(model.selection.step) == 2.0


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    model = top_k("hard")
    images, labels = images_of(2)
    outputs = model.attend(images)
    assert {x.dtype for x in (outputs["logits"], outputs["feature_logits"])} == {tf.float32}
    model.compile(keras.optimizers.Adam(1e-3), jit_compile=False)
    assert np.isfinite(model.train_on_batch(images, labels, return_dict=True)["loss"])


def test_nts_net_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = nts_net()
    images, labels = images_of(2)
    model.compile(keras.optimizers.Adam(1e-3), jit_compile=False)
    assert np.isfinite(model.train_on_batch(images, labels, return_dict=True)["loss"])


@pytest.mark.parametrize("kind", [*MODELS, "reinforce"])
def test_a_file_holds_everything(kind, tmp_path):
    model = top_k("reinforce") if kind == "reinforce" else MODELS[kind]()
    images, labels = images_of(3)  # a mean reward of three is never the first baseline, 0.5
    if kind == "reinforce":
        model.compile(keras.optimizers.Adam(1e-3), jit_compile=False)
        model.train_on_batch(images, labels)
        assert float(model.baseline) != 0.5
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    # As JSON: what is read from a file has lists where tuples were.
    assert json.dumps(loaded.get_config()) == json.dumps(model.get_config())
    np.testing.assert_allclose(loaded(images), model(images), atol=1e-6)
    if kind == "reinforce":
        assert float(loaded.baseline) == float(model.baseline)
        assert float(loaded.selection.step) == 1.0


def flat_network():
    """A network that takes images of one size only."""
    images = keras.Input((448, 448, 3))
    features = keras.layers.Conv2D(2, 32, strides=32, name="map")(images)
    vector = keras.layers.Dense(3)(keras.layers.Flatten()(features))
    return keras.Model(images, [features, vector])


def small_view():
    return PatchSelection(2, image_size=(448, 448), view_size=(64, 64), patch_size=(32, 32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": "resnet50"}, "`backbone` must be a tnet_keras.*Received: backbone="),
        ({"backbone": lambda: convnet(224)}, r"`backbone` must take \(448, 448\) images.*Received"),
        ({"backbone": lambda: convnet(strides=(4, 4))}, r"give a \(14, 14\) map.*\(28, 28, 6\)"),
        ({"backbone": lambda: Backbone(flat_network())}, "must be fully convolutional.*Received"),
        ({"selection": "perturbed"}, "`selection` must be a PatchSelection.*Received: selection="),
        ({"selection": small_view}, "`selection` must be .*view_size=None. Received: selection="),
        (
            {"selection": lambda: selection_of(image_size=(400, 448))},
            r"`selection` must be .*image_size=\(448, 448\).*Received: .*400",
        ),
        (
            {"selection": lambda: selection_of("sinkhorn"), "head": "concat"},
            "`head` must be 'mean' with selector='sinkhorn'.*Received: head='concat'",
        ),
        ({"head": "sum"}, "`head` must be one of.*Received: head='sum'"),
        ({"dropout": 1.0}, r"`dropout` must be in \[0, 1\). Received: dropout=1.0"),
        ({"num_classes": 0}, "`num_classes` must be an integer of at least 1. Received"),
    ],
)
def test_parts_that_do_not_fit_are_named(change, message):
    parts = {"backbone": convnet, "selection": selection_of, "num_classes": 3} | change
    parts = {name: part() if callable(part) else part for name, part in parts.items()}
    with pytest.raises(ValueError, match=message):
        NTSTopKClassifier(**parts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_patches": 0}, "`num_patches` must be an integer of at least 1. Received"),
        ({"num_proposals": 1}, "`num_proposals` must be an integer of at least 2. Received"),
    ],
)
def test_nts_net_names_what_is_wrong(change, message):
    with pytest.raises(ValueError, match=message):
        nts_net(**change)


@pytest.mark.parametrize("size", [(447, 448, 3), (224, 224, 3), (448, 448, 1)])
def test_images_of_another_size_are_refused(size):
    with pytest.raises(ValueError, match="`images` must .*Received"):
        top_k()(np.zeros((1, *size), "uint8"))
