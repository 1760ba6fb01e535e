"""LiteRT files: the model's numbers and boxes, built-in operators only, whole or absent."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest

from tests.export.lite_models import (
    MODELS,
    convnet,
    expected,
    operators,
    patch_selection,
    scenes,
    tnet,
)
from tnet_keras.export import export_tflite
from tnet_keras.export.described_files import read_described
from tnet_keras.export.tflite import MOST_REPRESENTATIVE, VARIANTS
from tnet_keras.layers import PatchSelection
from tnet_keras.models import NTSNet, PatchSelectionClassifier

litert = pytest.importorskip("ai_edge_litert.interpreter")
# Converting takes a second for each: one model of every way to look.
SOME = ("TNet with padding", "patch selection", "full image")


def answers(content, images):
    """What the interpreter says about images, one by one."""
    run = litert.Interpreter(model_content=content, num_threads=1).get_signature_runner()
    outputs = [run(images=image[None]) for image in images]
    return {name: np.concatenate([o[name] for o in outputs]) for name in outputs[0]}


def exported(model, path, variant="float32", **options):
    if variant == "int8":
        options.setdefault("representative", scenes(model.image_size, 40, seed=9))
    return export_tflite(model, path, variant, **options).read_bytes()


@pytest.mark.parametrize("name", MODELS)
def test_float32_is_the_model(name, tmp_path):
    model = MODELS[name]()
    images = scenes(model.image_size, 3 if name.startswith("NTS") else 8)
    content = exported(model, tmp_path / "model.tflite")
    names, custom = operators(content)
    assert not custom, names
    found, wanted = answers(content, images), expected(model, images)
    np.testing.assert_allclose(found["probabilities"], wanted["probabilities"], atol=1e-5)
    where = {"boxes", "box_scores", "levels"} if len(wanted.get("boxes", [[]])[0]) else set()
    assert set(found) == {"probabilities"} | where
    if where:
        np.testing.assert_array_equal(found["boxes"], wanted["boxes"])
        np.testing.assert_array_equal(found["levels"], wanted["levels"])
        np.testing.assert_allclose(found["box_scores"], wanted["box_scores"], atol=1e-5)


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize(("variant", "tolerance"), [("float16", 2e-3), ("dynamic_range", 1e-2)])
def test_smaller_weights_stay_close(name, variant, tolerance, tmp_path):
    model = MODELS[name]()
    images = scenes(model.image_size, 8)
    content = exported(model, tmp_path / "model.tflite", variant)
    assert not operators(content)[1]
    found, wanted = answers(content, images), expected(model, images)
    np.testing.assert_allclose(found["probabilities"], wanted["probabilities"], atol=tolerance)
    if "boxes" in found:
        np.testing.assert_array_equal(found["boxes"], wanted["boxes"])


@pytest.mark.parametrize("name", SOME)
def test_eight_bits_choose_boxes_that_exist(name, tmp_path):
    model = MODELS[name]()
    images = scenes(model.image_size, 20)
    content = exported(model, tmp_path / "model.tflite", "int8")
    names, custom = operators(content)
    assert not custom and "QUANTIZE" in names
    found, wanted = answers(content, images), expected(model, images)
    np.testing.assert_allclose(found["probabilities"], wanted["probabilities"], atol=0.15)
    if "boxes" in found:
        # To the pixel: every box is one of the boxes that the model itself could choose.
        np.testing.assert_array_equal(found["boxes"], np.rint(found["boxes"]))
        same = (found["boxes"] == np.asarray(wanted["boxes"])).all(axis=(1, 2))
        assert same.mean() >= 0.7


def test_int8_boxes_are_exact_where_the_cells_agree(tmp_path):
    model = tnet(image_size=(640, 512), unit_norm=False)
    images = scenes(model.image_size, 10)
    found = answers(exported(model, tmp_path / "model.tflite", "int8"), images)
    table = {tuple(box) for box in model.grid.boxes(640, 512)}
    assert all(tuple(box) in table for boxes in found["boxes"] for box in boxes)


def test_large_tables_are_not_rounded(tmp_path):
    """A table of more than 1,024 floats would become one of 8 bits."""
    selection = PatchSelection(2, (600, 600), view_size=(160, 160), patch_size=(16, 16))
    model = PatchSelectionClassifier(convnet(), selection, num_classes=4)
    assert selection.boxes.size > 1024
    images = scenes((600, 600), 4)
    found = answers(exported(model, tmp_path / "model.tflite", "dynamic_range"), images)
    table = {tuple(box) for box in selection.boxes}
    assert all(tuple(box) in table for boxes in found["boxes"] for box in boxes)


def test_locations_can_be_chosen(tmp_path):
    model = tnet()
    images = scenes(model.image_size, 2)
    found = answers(exported(model, tmp_path / "model.tflite", locations=(3,)), images)
    np.testing.assert_array_equal(found["boxes"], model.attend(images, locations=(3,))["boxes"])


def test_the_image_stays_bytes(tmp_path):
    """No tensor of floats is as large as the image."""
    model = tnet(image_size=(256, 256))
    content = exported(model, tmp_path / "model.tflite")
    interpreter = litert.Interpreter(model_content=content)
    large = [
        detail["dtype"]
        for detail in interpreter.get_tensor_details()
        if np.prod(detail["shape"]) >= 256 * 256 * 3
    ]
    assert large and set(large) == {np.uint8}


def test_description_lies_beside(tmp_path):
    model = tnet()
    names = ["Ä", "猫", "c", "d"]
    path = export_tflite(model, tmp_path / "new" / "model.tflite", class_names=names)
    assert {p.name for p in path.parent.iterdir()} == {"model.tflite", "model.tflite.json"}
    content, contract = read_described(path)
    assert content == path.read_bytes() and contract["bytes"] == len(content)
    assert contract["class_names"] == names and contract["image_size"] == [64, 64]
    assert contract["input"] == {"name": "images", "shape": [1, 64, 64, 3], "dtype": "uint8"}
    assert contract["outputs"]["boxes"] == {"shape": [1, 2, 4], "dtype": "float32"}
    assert "no antialiasing" in " ".join(contract["preprocessing"])
    path.write_bytes(content + b" ")
    with pytest.raises(ValueError, match="`model` must be the file that its description is of"):
        read_described(path)
    (path.parent / "model.tflite.json").write_text("{")
    with pytest.raises(ValueError, match="`model` must have its description beside it"):
        read_described(path)


def test_runs_without_tensorflow(tmp_path):
    model = tnet()
    path = export_tflite(model, tmp_path / "model.tflite")
    images = scenes(model.image_size, 1)
    np.save(tmp_path / "images.npy", images)
    code = (
        "import json, sys, numpy as np\n"
        "from ai_edge_litert.interpreter import Interpreter\n"
        "run = Interpreter(sys.argv[1]).get_signature_runner('serving_default')\n"
        "outputs = run(images=np.load(sys.argv[2]))\n"
        "assert not {'tensorflow', 'keras', 'tnet_keras'} & set(sys.modules)\n"
        "print(json.dumps(outputs['boxes'].tolist()))\n"
    )
    arguments = [sys.executable, "-c", code, str(path), str(tmp_path / "images.npy")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    np.testing.assert_array_equal(json.loads(done.stdout), model.attend(images)["boxes"])


def test_never_over_a_file_unless_asked(tmp_path):
    model = tnet()
    path = tmp_path / "model.tflite"
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="`path` must not exist yet"):
        export_tflite(model, path)
    assert path.read_bytes() == b"mine" and len(list(tmp_path.iterdir())) == 1
    export_tflite(model, path, overwrite=True)
    assert path.read_bytes() != b"mine"


def test_nothing_is_left_of_a_failure(tmp_path, monkeypatch):
    def fail(source, target):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no space left"):
        export_tflite(tnet(), tmp_path / "model.tflite")
    assert not list(tmp_path.iterdir())


def test_at_most_so_many_images_calibrate(tmp_path):
    def endless():
        while True:
            yield scenes((64, 64), 32)

    path = export_tflite(tnet(), tmp_path / "m.tflite", "int8", endless())
    assert read_described(path)[1]["representative_images"] == MOST_REPRESENTATIVE


def a_batch(dtype=np.uint8, shape=(2, 64, 64, 3)):
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "int4"}, "`variant` must be one of"),
        ({"class_names": ["a"]}, "`class_names` must be 4 names, one per class. Received: 1"),
        ({"class_names": "abcd"}, "`class_names` must be 4 names"),
        ({"representative": a_batch()}, "`representative` is for variant='int8' only"),
        ({"variant": "int8"}, "`representative` must be uint8 images .* representative=None"),
        ({"variant": "int8", "representative": a_batch(np.float32)}, "Received: float32 of shape"),
        ({"variant": "int8", "representative": a_batch(shape=(2, 32, 64, 3))}, r"\(2, 32, 64, 3\)"),
        ({"variant": "int8", "representative": a_batch()[0]}, r"Received: uint8 of shape \(64, 64"),
        ({"variant": "int8", "representative": [a_batch()[0]]}, r"of shape \(64, 64, 3\)"),
        ({"variant": "int8", "representative": a_batch()[:0]}, "n >= 1. Received: no images"),
        ({"variant": "int8", "representative": []}, "Received: no images"),
        ({"variant": "int8", "representative": 3}, "or an iterable of such. Received: int"),
        ({"path": "model.lite"}, "`path` must end in .tflite"),
        ({"locations": (2, 2)}, "`locations`"),
    ],
)
def test_bad_arguments(arguments, message, tmp_path):
    path = tmp_path / arguments.pop("path", "model.tflite")
    with pytest.raises(ValueError, match=message):
        export_tflite(tnet(), path, **arguments)
    assert not list(tmp_path.iterdir())


def random_selection():
    return patch_selection("random")


def random_tnet():
    return tnet(selector="random")


def half_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    return tnet()


def not_finite():
    model = tnet()
    model.weights[0].assign(np.full(model.weights[0].shape, np.nan))
    return model


def compiled():
    model = tnet()
    model.compile("sgd")
    return model


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: keras.Sequential(), "`model` must be a model of tnet_keras. Received: model=Sequ"),
        (random_selection, "`model` must choose by its scores"),
        (random_tnet, "`model` must choose by its scores"),
        (half_precision, "`model` must compute in float32"),
        (not_finite, "`model` must have finite weights. .* NaN or infinity in"),
        (compiled, "`model` must be trained, or allow_untrained=True"),
    ],
)
def test_unsuitable_models(build, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_tflite(build(), tmp_path / "model.tflite")
    assert not list(tmp_path.iterdir())


def test_nts_net_has_no_int8(tmp_path):
    model = MODELS["NTS-Net"]()
    assert isinstance(model, NTSNet)
    with pytest.raises(ValueError, match="`variant` must not be 'int8' for NTSNet"):
        export_tflite(model, tmp_path / "m.tflite", "int8", scenes((448, 448), 1))


def test_variants_are_told():
    assert VARIANTS == ("float32", "float16", "dynamic_range", "int8")
