"""The plain network on the full image: outputs, loss, penalties, errors."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.models.small_models import (
    batch,
    classifier,
    convnet,
    copy_weights,
    own_backbone,
    own_network,
    pixels,
)
from tnet_keras.backbones import Backbone
from tnet_keras.models import FullImageClassifier


@pytest.mark.parametrize("make", [convnet, own_backbone])
def test_logits_are_the_classified_vector(make):
    model = classifier(make(), num_classes=7)
    images = pixels(3, 16, 16)
    logits = model(images)
    assert logits.shape == (3, 7) and logits.dtype == "float32"
    _, vector = model.backbone(images)
    kernel, bias = (w.numpy() for w in model.classifier.dense.weights)
    np.testing.assert_allclose(logits, vector.numpy() @ kernel + bias, atol=1e-5)
    np.testing.assert_allclose(model.predict(images, verbose=0), logits, atol=1e-5)


@pytest.mark.parametrize("size", [(16, 16), (32, 32), (24, 20), (9, 50), (1, 1)])
def test_other_sizes_are_resized(size):
    model = classifier(own_backbone())
    assert model.image_size == (16, 16)
    images = pixels(2, *size)
    view = tf.image.resize(images, (16, 16))
    np.testing.assert_allclose(model(images), model(view), atol=1e-4)
    if size == (32, 32):  # half the size is the mean of every 2x2 pixels
        halved = images.reshape(2, 16, 2, 16, 2, 3).mean((2, 4))
        np.testing.assert_allclose(model(images), model(halved), atol=1e-4)


def test_image_size_need_not_be_square():
    inputs = keras.Input((12, 20, 3))
    features = keras.layers.Conv2D(5, 4, strides=4)(inputs)
    network = keras.Model(inputs, features)
    model = classifier(Backbone(network))
    assert model.image_size == (12, 20)
    assert model(pixels(2, 12, 20)).shape == model(pixels(2, 40, 31)).shape == (2, 4)


def test_antialias_counts_every_pixel():
    images = pixels(2, 64, 64)
    model = classifier(own_backbone(), antialias=True)
    view = tf.image.resize(images, (16, 16), antialias=True)
    np.testing.assert_allclose(model(images), model(view), atol=1e-4)
    plain = copy_weights(model, classifier(own_backbone()))
    assert np.abs(plain(images) - model(images)).max() > 1e-3


def test_position_channels_follow_the_image():
    network = keras.Sequential([keras.Input((4, 6, 5)), keras.layers.Identity()])
    backbone = Backbone(network, input_scaling="unit")
    model = classifier(backbone, position_channels=True)
    seen = []
    model.backbone.scale_images = lambda images: (seen.append(images), images / 255)[1]
    model(pixels(2, 4, 6))
    (channels,) = seen
    np.testing.assert_array_equal(channels[..., :3], pixels(2, 4, 6))
    rows = np.linspace(0, 1, 4)[:, None].repeat(6, 1)
    columns = np.linspace(0, 1, 6)[None].repeat(4, 0)
    for image in channels.numpy() / 255:
        np.testing.assert_allclose(image[..., 3], rows, atol=1e-6)
        np.testing.assert_allclose(image[..., 4], columns, atol=1e-6)


def test_loss_by_hand():
    model = classifier(
        own_backbone(), l2=0.01, contrastive_weight=3.0, contrastive_margin=0.2, dropout=0.0
    )
    images, labels = batch(6, size=16)
    weights = np.array([1.0, 0.0, 2.0, 1.0, 0.5, 1.0])
    terms, outputs = model.training_terms(images, labels, weights, training=True)
    _, vector = model.backbone(images)
    log_probabilities = tf.nn.log_softmax(model(images)).numpy()
    cross_entropy = np.mean(-weights * log_probabilities[np.arange(6), labels])
    l2 = 0.01 * sum(np.sum(np.square(v.numpy())) for v in model.trainable_variables)
    unit = vector.numpy() / np.linalg.norm(vector, axis=-1, keepdims=True)
    similarity = unit @ unit.T
    same = labels[:, None] == labels
    pairs = np.where(same, 1 - similarity, np.maximum(similarity - 0.2, 0))
    expected = {"cross_entropy": cross_entropy, "l2": l2, "contrastive": 3.0 * pairs.mean()}
    assert set(terms) == {*expected, "total"}
    for name, value in (expected | {"total": sum(expected.values())}).items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(outputs["logits"], model(images), atol=1e-5)


@pytest.mark.parametrize("scope", ["all", "new_modules"])
def test_l2_spares_batch_normalisation_and_where_asked_the_backbone(scope):
    model = classifier(convnet(), l2=1.0, l2_scope=scope)
    terms, _ = model.training_terms(*batch(2, size=16), None, training=True)
    counted = [w.numpy() for w in model.classifier.dense.weights]
    if scope == "all":
        counted += [
            model.backbone.network.get_layer(name).kernel.numpy() for name in ("conv1", "conv2")
        ]
    np.testing.assert_allclose(terms["l2"], sum(np.sum(w**2) for w in counted), rtol=1e-5)


def test_only_what_is_configured_enters_the_loss():
    terms, _ = classifier().training_terms(*batch(4, size=16), None, training=False)
    assert set(terms) == {"cross_entropy", "total"}
    assert terms["total"] == terms["cross_entropy"]


def test_fit_lowers_the_loss_and_logs_its_metrics():
    model = classifier(own_backbone(), dropout=0.2)
    model.compile(keras.optimizers.Adam(0.01))
    images, labels = batch(8, size=16)
    logs = model.fit(
        images, labels, epochs=20, verbose=0, validation_data=(images, labels[:, None])
    ).history
    names = {"loss", "accuracy", "top_5_accuracy"}
    assert set(logs) == names | {f"val_{name}" for name in names}
    assert logs["val_loss"][-1] < 0.7 * logs["val_loss"][0]
    assert logs["top_5_accuracy"][-1] == 1.0  # of four classes


def test_dropout_is_seeded():
    images = pixels(4, 16, 16)

    def logits(seed):
        keras.utils.set_random_seed(0)
        return classifier(own_backbone(), dropout=0.5, seed=seed)(images, training=True)

    np.testing.assert_array_equal(logits(1), logits(1))
    assert np.abs(logits(1) - logits(2)).max() > 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": own_network}, "`backbone` must be a tnet_keras.backbones.Backbone.*Received"),
        ({"num_classes": 0}, "`num_classes` must be an integer of at least 1. Received: .*=0"),
        ({"num_classes": 2.0}, "`num_classes` must be an integer.*Received: num_classes=2.0"),
        ({"position_channels": True}, "`backbone` must take 5 channels.*Received: .*16, 3"),
        ({"l2_scope": "head"}, "`l2_scope` must be one of 'all', 'new_modules'. Received: .*head"),
    ],
)
def test_bad_arguments(arguments, message):
    if "backbone" in arguments:
        arguments = {"backbone": arguments["backbone"]()}
    with pytest.raises(ValueError, match=message):
        FullImageClassifier(**{"backbone": convnet(), "num_classes": 4} | arguments)
