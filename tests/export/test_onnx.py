"""ONNX files: the model's numbers and boxes in ONNX Runtime, any batch, whole or absent."""

import json
import sys

import keras
import numpy as np
import pytest

from tests.export.lite_models import MODELS, expected, patch_selection, scenes, tnet
from tnet_keras.export import export_onnx, load_predictor
from tnet_keras.export.described_files import read_described

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")
CONVERTED = [name for name in MODELS if name != "NTS-Net"]


@pytest.mark.parametrize("name", CONVERTED)
def test_onnx_is_the_model(name, tmp_path):
    model = MODELS[name]()
    path = export_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    for count in (3, 1):
        images = scenes(model.image_size, count, seed=count)
        found = dict(zip(names, session.run(names, {"images": images}), strict=True))
        wanted = expected(model, images)
        where = {"boxes", "box_scores", "levels"} if len(wanted.get("boxes", [[]])[0]) else set()
        assert set(found) == {"probabilities"} | where
        np.testing.assert_allclose(found["probabilities"], wanted["probabilities"], atol=1e-5)
        for each in where:
            np.testing.assert_allclose(found[each], wanted[each], atol=1e-5, err_msg=each)
    contract = json.loads((tmp_path / "model.onnx.json").read_text(encoding="utf-8"))
    assert {key: value["dtype"] for key, value in contract["outputs"].items()} == {
        key: value.dtype.name for key, value in found.items()
    }


def test_predictor_asks_it(tmp_path):
    model = tnet()
    images = scenes(model.image_size, 3)
    path = export_onnx(model, tmp_path / "new" / "model.onnx", list("abcd"), locations=(3,))
    predictor = load_predictor(path)
    assert predictor.class_names == list("abcd")
    assert predictor.image_size == tuple(model.image_size)
    found, wanted = predictor(images), model.attend(images, locations=(3,))
    np.testing.assert_allclose(found["probabilities"], wanted["probabilities"], atol=1e-5)
    np.testing.assert_array_equal(found["boxes"], wanted["boxes"])
    content, contract = read_described(path)
    assert contract["bytes"] == len(content) and contract["input"]["shape"] == [None, 64, 64, 3]
    assert sorted(file.name for file in path.parent.iterdir()) == ["model.onnx", "model.onnx.json"]


def untrained():
    model = tnet()
    model.compile(keras.optimizers.SGD())
    return model


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (MODELS["NTS-Net"], {}, "`model` must not be NTSNet"),
        (lambda: patch_selection("random"), {}, "ONNX would draw the same cells"),
        (untrained, {}, "`model` must be trained"),
        (lambda: "no model", {}, "`model` must be a model of tnet_keras. Received: model=str"),
        (tnet, {"class_names": ["a"]}, "`class_names` must be 4 names"),
        (tnet, {"locations": (99,)}, "`locations`"),
    ],
)
def test_nothing_is_written_for(make, options, message, tmp_path):
    with pytest.raises(ValueError, match=message) as caught:
        export_onnx(make(), tmp_path / "model.onnx", **options)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_layers_without_an_operator_are_named(monkeypatch, tmp_path):
    import tf2onnx

    def refuse(*_, **__):
        raise RuntimeError("Tensorflow op [x: Qr]\nis not supported")

    monkeypatch.setattr(tf2onnx.convert, "from_function", refuse)
    with pytest.raises(ValueError, match="must convert to ONNX.*Qr. is not supported"):
        export_onnx(tnet(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_files_that_are_there_stay(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="`path` must not exist yet"):
        export_onnx(tnet(), path)
    assert path.read_text() == "mine"
    with pytest.raises(ValueError, match="`path` must end in .onnx"):
        export_onnx(tnet(), tmp_path / "model.tflite")


def test_missing_converter_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(ImportError, match=r"tnet_keras\[onnx\]"):
        export_onnx(tnet(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
