"""Served models: the numbers of the model, any batch, without this package."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.export import serving
from tnet_keras.datasets.augmentation import prepare_image
from tnet_keras.export import export_for_serving
from tnet_keras.ops import DECODE_STATUSES, decode_image

NAMES = ["ant", "bee", "cat", "dog"]
ANSWERS = {
    "probabilities", "labels", "scores", "boxes", "box_scores", "levels", "image_sizes", "status",
}  # fmt: skip


@pytest.fixture(autouse=True)
def fresh_keras():
    """No test needs it, and clearing Keras has TensorFlow prepare every loaded graph anew."""


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A TNet, the folder of its version, and its signatures."""
    model = serving.tnet()
    path = tmp_path_factory.mktemp("export") / "insects"
    folder = export_for_serving(model, path, class_names=NAMES, top=3, locations=[(3,), ()])
    return model, folder, tf.saved_model.load(str(folder)).signatures


@pytest.fixture(scope="module")
def mixed():
    """Bytes of mixed sizes and kinds, good and bad, and their statuses."""
    files = [
        serving.encoded(serving.picture(32, 40)),
        b"",
        serving.encoded(serving.picture(70, 50, 1), "JPEG"),
        serving.encoded(serving.picture(9, 100, 2), "WEBP"),
        serving.encoded(serving.picture(32, 40, 3))[:-30],
    ]
    return files, [0, 1, 0, 0, 5]


def assert_same(ours, theirs, tolerance=1e-6):
    """Compares dicts of outputs: floats within a tolerance, everything else exactly."""
    assert set(ours) == set(theirs)
    for name, value in ours.items():
        if value.dtype.is_floating:
            np.testing.assert_allclose(value, theirs[name], atol=tolerance, err_msg=name)
        else:
            np.testing.assert_array_equal(value, theirs[name], err_msg=name)


def test_only_the_version_is_left_behind(exported):
    _, folder, signatures = exported
    assert [entry.name for entry in folder.parent.iterdir()] == ["1"]
    assert set(signatures) == {
        "serving_default", "classify_bytes", "attend", "features",
        "classify_bytes_3", "attend_3", "classify_bytes_context", "attend_context",
    }  # fmt: skip
    contract = json.loads((folder / "assets.extra" / "contract.json").read_text("utf-8"))
    assert contract["class_names"] == NAMES
    assert contract["image_size"] == [32, 40]
    assert contract["statuses"] == list(DECODE_STATUSES)
    assert contract["signatures"] == sorted(signatures)


def test_inputs_and_outputs_have_their_names(exported):
    signatures = exported[2]
    (spec,) = signatures["serving_default"].structured_input_signature[1].values()
    assert (spec.name, spec.dtype) == ("images", tf.uint8)
    assert spec.shape.as_list() == [None, None, None, 3]
    for name in set(signatures) - {"serving_default"}:
        (spec,) = signatures[name].structured_input_signature[1].values()
        assert (spec.name, spec.dtype) == ("image_bytes", tf.string)
        assert spec.shape.as_list() == [None]
    assert set(signatures["serving_default"].structured_outputs) == ANSWERS
    assert set(signatures["classify_bytes"].structured_outputs) == ANSWERS
    for signature in signatures.values():
        # The REST gateway of TensorFlow Serving would encode what ends so.
        assert not [name for name in signature.structured_outputs if name.endswith("_bytes")]
        assert all(spec.shape[0] is None for spec in signature.structured_outputs.values())


@pytest.mark.parametrize("batch", [1, 3])
def test_pixels_give_the_models_numbers(exported, batch):
    model, _, signatures = exported
    images = np.stack([serving.picture(32, 40, seed) for seed in range(batch)])
    served = signatures["serving_default"](images=tf.constant(images))
    expected = model.attend(images)
    probabilities = expected["probabilities"].numpy()
    np.testing.assert_allclose(served["probabilities"], probabilities, atol=1e-6)
    np.testing.assert_array_equal(served["boxes"], expected["boxes"])
    np.testing.assert_array_equal(served["levels"], expected["levels"])
    np.testing.assert_allclose(served["box_scores"], expected["box_probabilities"], atol=1e-6)
    best = np.argsort(-probabilities, axis=1)[:, :3]
    np.testing.assert_array_equal(served["labels"], np.array(NAMES, "S")[best])
    np.testing.assert_array_equal(served["scores"], np.sort(served["probabilities"])[:, :0:-1])
    assert served["image_sizes"].numpy().tolist() == [[32, 40]] * batch
    assert not np.any(served["status"])


def test_bytes_give_the_numbers_of_the_resized_pixels(exported):
    model, _, signatures = exported
    pixels = serving.picture(70, 50, 1)
    contents = tf.constant([serving.encoded(pixels)])
    small = prepare_image(pixels, (32, 40))[None]
    served, expected = signatures["attend"](image_bytes=contents), model.attend(small)
    for name in ("logits", "feature_logits", "feature_weights", "attended_logits"):
        np.testing.assert_allclose(served[name], expected[name], atol=1e-6)
    for level in (1, 2):
        np.testing.assert_array_equal(served[f"selected_{level}"], expected["selected"][level - 1])
        np.testing.assert_allclose(
            served[f"location_probabilities_{level}"],
            expected["location_probabilities"][level - 1],
            atol=1e-6,
        )
    scale = np.array([70 / 32, 50 / 40] * 2)
    np.testing.assert_allclose(served["boxes"], expected["boxes"] * scale, rtol=1e-6)
    large = signatures["serving_default"](images=tf.constant(pixels[None]))
    np.testing.assert_allclose(large["probabilities"], expected["probabilities"], atol=1e-6)
    np.testing.assert_allclose(large["boxes"], served["boxes"])
    features = signatures["features"](image_bytes=contents)["features"]
    np.testing.assert_allclose(features, model.aggregated_features(small), atol=1e-6)


@pytest.mark.parametrize("name", ["classify_bytes", "attend", "features"])
def test_no_answer_depends_on_the_rest_of_the_batch(exported, mixed, name):
    signature = exported[2][name]
    files, statuses = mixed
    together = signature(image_bytes=tf.constant(files))
    assert together["status"].numpy().tolist() == statuses
    for row, (contents, status) in enumerate(zip(files, statuses, strict=True)):
        alone = signature(image_bytes=tf.constant([contents]))
        assert_same(alone, {key: value[row : row + 1] for key, value in together.items()})
        for key, value in alone.items():
            if status and key != "status":
                nothing = b"" if value.dtype == tf.string else 0
                assert np.all(value.numpy() == nothing), key


def test_boxes_are_those_of_the_upright_image(exported):
    model, _, signatures = exported
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    lying = serving.encoded(serving.picture(30, 60, 4), "JPEG", exif=exif)
    served = signatures["classify_bytes"](image_bytes=tf.constant([lying]))
    assert served["image_sizes"].numpy().tolist() == [[60, 30]]
    expected = model.attend(prepare_image(decode_image(lying)[0], (32, 40))[None])
    np.testing.assert_allclose(served["probabilities"], expected["probabilities"], atol=1e-6)
    scale = np.array([60 / 32, 30 / 40] * 2)
    np.testing.assert_allclose(served["boxes"], expected["boxes"] * scale, rtol=1e-6)


def test_other_numbers_of_locations(exported):
    model, _, signatures = exported
    pixels = serving.picture(32, 40, 5)
    contents = tf.constant([serving.encoded(pixels)])
    for suffix, locations in (("3", (3,)), ("context", ())):
        expected = model.attend(pixels[None], locations=locations)
        for name in ("classify_bytes", "attend"):
            served = signatures[f"{name}_{suffix}"](image_bytes=contents)
            np.testing.assert_allclose(
                served["probabilities"], expected["probabilities"], atol=1e-6
            )
            np.testing.assert_array_equal(served["boxes"], expected["boxes"])


ALONE = """
import json, sys
sys.modules["tnet_keras"] = None  # importing it raises
import tensorflow as tf
signature = tf.saved_model.load(sys.argv[1]).signatures["classify_bytes"]
files = [open(name, "rb").read() for name in sys.argv[2:]]
served = signature(image_bytes=tf.constant(files))
print(json.dumps({name: served[name].numpy().tolist() for name in ("probabilities", "status")}))
"""


def test_a_process_without_the_package_serves_it(exported, mixed, tmp_path):
    _, folder, signatures = exported
    files, statuses = mixed
    names = [tmp_path / str(number) for number in range(len(files))]
    for name, contents in zip(names, files, strict=True):
        name.write_bytes(contents)
    command = [sys.executable, "-I", "-c", ALONE, str(folder), *map(str, names)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    served = json.loads(result.stdout)
    assert served["status"] == statuses
    expected = signatures["classify_bytes"](image_bytes=tf.constant(files))
    np.testing.assert_allclose(served["probabilities"], expected["probabilities"], atol=1e-5)


MODELS = {
    "tnet-context": lambda: serving.tnet(locations=(), levels=2),
    "tnet-perturbed": lambda: serving.tnet(
        locations=(2,), selector="perturbed", positional="add", aggregation="weighted"
    ),
    "patch-selection": serving.patch_selection,
    "nts-top-k": serving.nts_top_k,
    "nts-net": serving.nts_net,
    "full-image": serving.full_image,
}


@pytest.mark.parametrize("name", MODELS)
def test_every_model_exports(name, tmp_path):
    model = MODELS[name]()
    folder = export_for_serving(model, tmp_path / "model", version=7)
    assert folder == tmp_path / "model" / "7"
    signatures = tf.saved_model.load(str(folder)).signatures
    assert set(signatures) == {"serving_default", "classify_bytes", "attend", "features"}
    pixels = np.stack([serving.picture(*model.image_size, seed) for seed in range(2)])
    files = tf.constant([*map(serving.encoded, pixels), b"no image"])
    assert set(signatures["classify_bytes"].structured_outputs) == ANSWERS
    served = signatures["attend"](image_bytes=files)
    assert set(served) >= ANSWERS
    assert served["status"].numpy().tolist() == [0, 0, 3]
    expected = tf.nn.softmax(model(pixels))
    np.testing.assert_allclose(served["probabilities"][:2], expected, atol=1e-5)
    assert set(served["labels"].numpy()[0]) == {b"0", b"1", b"2", b"3"}
    boxes = model.attend(pixels)["boxes"] if hasattr(model, "attend") else np.zeros((2, 0, 4))
    np.testing.assert_allclose(served["boxes"][:2], boxes, atol=1e-4)
    features = signatures["features"](image_bytes=files)["features"]
    np.testing.assert_allclose(features[:2], model.aggregated_features(pixels), atol=1e-5)
