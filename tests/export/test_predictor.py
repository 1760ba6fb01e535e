"""One predictor for three kinds of file: the same answers, and one clear line for other files."""

import json
import shutil

import keras
import numpy as np
import pytest

from tests.export.lite_models import expected, full_image, scenes, tnet
from tnet_keras.export import export_for_serving, export_tflite, load_predictor

pytest.importorskip("ai_edge_litert.interpreter")
NAMES = ["ant", "bée", "猫", "dog"]


@pytest.fixture(scope="module", params=["attending", "full image"])
def files(request, tmp_path_factory):
    """A model, and its file of every kind."""
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("models")
    model = full_image() if request.param == "full image" else tnet(unit_norm=False)
    model.save(folder / "model.keras")
    export_for_serving(model, folder / "saved_model", version=9, class_names=NAMES)
    shutil.copytree(folder / "saved_model" / "9", folder / "saved_model" / "10")
    export_tflite(model, folder / "model.tflite", class_names=NAMES)
    return model, folder


@pytest.mark.parametrize("kind", ["model.keras", "saved_model", "saved_model/9", "model.tflite"])
def test_every_kind_answers_as_the_model(files, kind):
    model, folder = files
    predictor = load_predictor(folder / kind)
    assert predictor.image_size == model.image_size
    assert predictor.class_names == (None if kind == "model.keras" else NAMES)
    images = scenes(model.image_size, 5)
    for part in (images, images[:1]):
        found, wanted = predictor(part), expected(model, part)
        assert set(found) == {"probabilities", "boxes", "box_scores", "levels"}
        np.testing.assert_allclose(found["probabilities"], wanted["probabilities"], atol=1e-5)
        np.testing.assert_array_equal(found["boxes"], wanted.get("boxes", found["boxes"]))
        np.testing.assert_array_equal(found["levels"], wanted.get("levels", found["levels"]))
        np.testing.assert_allclose(
            found["box_scores"], wanted.get("box_scores", found["box_scores"]), atol=1e-5
        )
        assert found["boxes"].shape == (len(part), found["levels"].shape[1], 4)


def test_highest_version_is_taken(files):
    _, folder = files
    (folder / "saved_model" / "notes").mkdir(exist_ok=True)
    pb = folder / "saved_model" / "10" / "saved_model.pb"
    content = pb.read_bytes()
    pb.write_bytes(b"broken")
    try:
        with pytest.raises(ValueError, match="`model` must be a SavedModel that loads. .*/10'"):
            load_predictor(folder / "saved_model")
    finally:
        pb.write_bytes(content)


def test_class_names_of_the_run(files, tmp_path):
    model, folder = files
    (tmp_path / "checkpoints").mkdir()
    inside = tmp_path / "checkpoints" / "best.keras"
    inside.write_bytes((folder / "model.keras").read_bytes())
    for written, names in ((NAMES, NAMES), (["a"], None)):
        (tmp_path / "report.json").write_text(json.dumps({"class_names": written}))
        assert load_predictor(inside).class_names == names


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((1, 8, 8, 3), np.uint8), r"`images` must be uint8 \[B, (64|16), (64|16), 3\]"),
        (np.zeros((1, 64, 64, 3), np.float32), "`images` must be uint8 .* float32"),
    ],
)
def test_images_of_another_kind(files, images, message):
    with pytest.raises(ValueError, match=message):
        load_predictor(files[1] / "model.tflite")(images)


def test_unknown_models(tmp_path):
    other = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    other.save(tmp_path / "other.keras")
    (tmp_path / "broken.keras").write_text("no zip")
    (tmp_path / "broken.tflite").write_text("no model")
    (tmp_path / "broken.onnx").write_text("no model")
    (tmp_path / "model.h5").write_text("other")
    (tmp_path / "empty").mkdir()
    other.export(tmp_path / "foreign", verbose=False)
    for name, message in {
        "absent.keras": "`model` must be a .keras, .tflite or .onnx file or .* not there",
        "model.h5": "a SavedModel folder. Received: .* another file",
        "empty": "Received: .* a folder without saved_model.pb",
        "broken.keras": "`model` must be a .keras file that loads",
        "broken.tflite": "`model` must have its description beside it",
        "other.keras": "`model` must hold one of FullImageClassifier, .* with Sequential",
        "foreign": "`model` must have a signature with `images` and `probabilities`",
    }.items():
        with pytest.raises(ValueError, match=message) as caught:
            load_predictor(tmp_path / name)
        assert "\n" not in str(caught.value)
