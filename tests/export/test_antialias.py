"""A model that resizes large images itself, with antialiasing: every way gives what it says."""

import csv

import numpy as np
import pytest
import tensorflow as tf

from tests.export import serving
from tnet_keras.export import export_for_serving, export_tflite, load_predictor
from tnet_keras.export.files import find_images, predict_files
from tnet_keras.export.signatures import read_images, resized
from tnet_keras.models import FullImageClassifier

NOISE = np.random.default_rng(0).integers(0, 256, (61, 90, 3), np.uint8)
WAYS = ("model.keras", "served")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A model, the folder with its files, and its probabilities for the large image."""
    folder = tmp_path_factory.mktemp("antialias")
    model = FullImageClassifier(serving.convnet(16), num_classes=4, antialias=True)
    model.classifier.dense.kernel.assign(model.classifier.dense.kernel * 50)
    model.save(folder / "model.keras")
    export_for_serving(model, folder / "served")
    expected = tf.nn.softmax(model(NOISE[None])).numpy()
    # A test that ways agree says nothing if any resize would do.
    plain = tf.nn.softmax(model(resized(NOISE[None], (16, 16)))).numpy()
    assert abs(plain - expected).max() > 0.01
    return model, folder, expected


def test_signatures_resize_as_the_model(exported):
    _, folder, expected = exported
    signatures = tf.saved_model.load(str(folder / "served" / "1")).signatures
    small = serving.encoded(serving.picture(16, 16))
    contents = tf.constant([serving.encoded(NOISE), b"text", small])
    for name in ("classify_bytes", "attend"):
        found = signatures[name](image_bytes=contents)
        np.testing.assert_allclose(found["probabilities"][:1], expected, atol=1e-5)
        assert found["status"].numpy().tolist() == [0, 3, 0]
    found = signatures["serving_default"](images=tf.constant(NOISE[None]))
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)
    vectors = exported[0].aggregated_features(NOISE[None])
    found = signatures["features"](image_bytes=contents)["features"][:1]
    np.testing.assert_allclose(found, vectors, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("way", WAYS)
def test_predictors_resize_as_the_model(exported, way):
    model, folder, expected = exported
    predictor = load_predictor(folder / way)
    assert predictor.antialias and predictor.image_size == (16, 16)
    both = predictor(np.stack([NOISE, NOISE]))["probabilities"]
    np.testing.assert_allclose(both, np.repeat(expected, 2, axis=0), atol=1e-5)
    small = serving.picture(16, 16)[None]
    own = tf.nn.softmax(model(small))
    np.testing.assert_allclose(predictor(small)["probabilities"], own, atol=1e-5)
    for images in (NOISE[None].astype(np.float32), NOISE, NOISE[None, :0]):
        with pytest.raises(ValueError, match=r"`images` must be uint8 \[B, H, W, 3\]. Received"):
            predictor(images)


@pytest.mark.parametrize("way", WAYS)
def test_tables_say_what_the_model_says(exported, way, tmp_path):
    model, folder, _ = exported
    pictures = [NOISE, serving.picture(40, 20), serving.picture(16, 16)]
    for number, pixels in enumerate(pictures):
        (tmp_path / f"{number}.png").write_bytes(serving.encoded(pixels))
    names = ["a", "b", "c", "d"]
    images, out = find_images(tmp_path), tmp_path / "out.csv"
    predict_files(load_predictor(folder / way), images, out, names, top=1)
    with open(out, encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row, pixels in zip(rows, pictures, strict=True):
        own = tf.nn.softmax(model(pixels[None]))[0].numpy()
        assert row["label"] == names[own.argmax()]
        assert float(row["probability"]) == pytest.approx(own.max(), abs=1e-5)
        assert (int(row["height"]), int(row["width"])) == pixels.shape[:2]


def test_lite_files_are_given_what_is_rounded(exported, tmp_path):
    pytest.importorskip("ai_edge_litert.interpreter")
    model, _, expected = exported
    predictor = load_predictor(export_tflite(model, tmp_path / "model.tflite"))
    description = (tmp_path / "model.tflite.json").read_text(encoding="utf-8")
    assert "with antialiasing" in description
    view = tf.round(tf.image.resize(NOISE[None], (16, 16), antialias=True))
    found = predictor(NOISE[None])["probabilities"]
    np.testing.assert_allclose(found, tf.nn.softmax(model(view)), atol=1e-4)
    np.testing.assert_allclose(found, expected, atol=0.1)


def test_nothing_is_rounded_on_the_way():
    files = tf.constant([serving.encoded(NOISE)])
    images, sizes, _ = read_images(files, (8, 9), 10**6, 10**6, (0, 0, 0), antialias=True)
    expected = tf.image.resize(NOISE[None], (8, 9), antialias=True)
    assert images.dtype == tf.float32 and sizes.numpy().tolist() == [[61, 90]]
    np.testing.assert_allclose(images, expected, atol=1e-4)
    same = resized(tf.constant(NOISE[None]), (61, 90), antialias=True)
    np.testing.assert_array_equal(same, NOISE[None].astype(np.float32))
