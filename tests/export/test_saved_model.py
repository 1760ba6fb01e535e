"""SavedModels: same numbers as the model, any batch size, whole or absent."""

import numpy as np
import pytest
import tensorflow as tf

from tnet_keras.backbones import Backbone
from tnet_keras.export import export_saved_model
from tnet_keras.geometry import RegionGrid
from tnet_keras.models import FullImageClassifier, TNet

OPTIONS = {"filters": [4, 6], "strides": [2, 2]}


def small_tnet(**options):
    backbone = Backbone("convnet", input_shape=(16, 16, 3), options=OPTIONS)
    arguments = {"grid": RegionGrid(3, 3, 0.5), "image_size": (32, 32), "locations": (2,)}
    return TNet(backbone, num_classes=4, **arguments | options)


def some_images(count, size=32):
    return np.random.default_rng(count).integers(0, 256, (count, size, size, 3), np.uint8)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    model = small_tnet(locations=(2, 1))
    path = tmp_path_factory.mktemp("export") / "saved_model" / "1"
    export_saved_model(model, path)
    return model, path


def test_only_the_version_is_left_behind(exported):
    _, path = exported
    assert [entry.name for entry in path.parent.iterdir()] == ["1"]
    assert (path / "saved_model.pb").is_file()


@pytest.mark.parametrize("batch", [1, 3])
def test_signatures_give_the_models_numbers(exported, batch):
    model, path = exported
    images = some_images(batch)
    signatures = tf.saved_model.load(str(path)).signatures
    served = signatures["serving_default"](images=tf.constant(images))
    np.testing.assert_allclose(served["logits"], model(images), atol=1e-5)
    assert set(served) == {"logits", "probabilities"}
    attended = signatures["attend"](images=tf.constant(images))
    expected = model.attend(images)
    for name in ("boxes", "levels", "feature_logits", "attended_logits", "box_probabilities"):
        np.testing.assert_allclose(attended[name], expected[name], atol=1e-5)
    for level in (1, 2):
        selected = expected["selected"][level - 1]
        np.testing.assert_array_equal(attended[f"selected_{level}"], selected)
        np.testing.assert_allclose(
            attended[f"location_probabilities_{level}"],
            expected["location_probabilities"][level - 1],
            atol=1e-5,
        )


def test_input_is_named_and_bytes(exported):
    _, path = exported
    signature = tf.saved_model.load(str(path)).signatures["serving_default"]
    (spec,) = signature.structured_input_signature[1].values()
    assert spec.name == "images"
    assert spec.dtype == tf.uint8
    assert spec.shape.as_list() == [None, 32, 32, 3]


def test_never_over_an_existing_version(exported):
    model, path = exported
    with pytest.raises(FileExistsError, match="`path` must not exist yet. Received"):
        export_saved_model(model, path)


def test_nothing_is_left_of_a_failure(tmp_path, monkeypatch):
    def fail(source, target):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.rename", fail)
    with pytest.raises(OSError, match="no space left"):
        export_saved_model(small_tnet(), tmp_path / "saved_model" / "1")
    assert not list((tmp_path / "saved_model").iterdir())


def test_classifier_without_locations_has_one_signature(tmp_path):
    backbone = Backbone("convnet", input_shape=(16, 16, 3), options=OPTIONS)
    model = FullImageClassifier(backbone, num_classes=4)
    export_saved_model(model, tmp_path / "1")
    loaded = tf.saved_model.load(str(tmp_path / "1"))
    assert set(loaded.signatures) == {"serving_default"}
    images = some_images(2, size=16)
    served = loaded.signatures["serving_default"](images=tf.constant(images))
    np.testing.assert_allclose(served["logits"], model(images), atol=1e-5)
