"""Versions appear whole or not at all; mistakes are named before anything is written."""

import numpy as np
import pytest

from tests.export import serving
from tnet_keras.export import export_for_serving


def nan_model():
    model = serving.full_image()
    model.classifier.set_weights([weight * np.nan for weight in model.classifier.get_weights()])
    return model


def compiled_model():
    model = serving.full_image()
    model.compile()
    return model


def test_versions_count_up_and_are_never_overwritten(tmp_path):
    model, path = serving.full_image(), tmp_path / "models" / "name"
    assert export_for_serving(model, path).name == "1"
    (path / "9").mkdir()
    (path / "notes").mkdir()
    before = (path / "1" / "saved_model.pb").read_bytes()
    with pytest.raises(FileExistsError, match="`version` must not exist yet.* Received: version=1"):
        export_for_serving(model, path, version=1)
    assert export_for_serving(model, path).name == "10"
    assert (path / "1" / "saved_model.pb").read_bytes() == before
    assert sorted(entry.name for entry in path.iterdir()) == ["1", "10", "9", "notes"]


@pytest.mark.parametrize(
    "make, options, message",
    [
        (lambda: "name", {}, "`model` must be a model of tnet_keras. Received: model=str"),
        (nan_model, {}, "`model` must have finite weights. Received: .* NaN or infinity in "),
        (compiled_model, {}, "`model` must be trained, or allow_untrained=True. Received: model="),
        (serving.full_image, {"class_names": ["a"]}, "`class_names` must be 4 names.*: 1 names"),
        (serving.full_image, {"class_names": "abcd"}, "`class_names` must be 4 names"),
        (serving.full_image, {"top": 0}, "`top` must be an integer of at least 1. Received: top=0"),
        (serving.full_image, {"version": 0}, "`version` must be an integer of at least 1. Rec"),
        (serving.full_image, {"version": "a"}, "`version` must be an integer of at least 1. Rec"),
        (serving.full_image, {"max_pixels": 0}, "`max_pixels` must be an integer of at least 1"),
        (serving.full_image, {"background": (0, 0)}, "`background` must be three integers"),
        (serving.full_image, {"on_bad_image": "skip"}, "`on_bad_image` must be 'status' or 'err"),
        (serving.full_image, {"warmup": (0,)}, "`batch_sizes` must be positive integers"),
        (serving.full_image, {"locations": [(1,)]}, "`locations` must hold tuples of integers, fo"),
        (serving.tnet, {"locations": [3]}, "`locations` must hold tuples of integers"),
        (serving.tnet, {"locations": [(2,), [2]]}, "`locations` must differ: signature names wou"),
        (serving.tnet, {"locations": [(2, 1, 1)]}, "`locations` must"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(make, options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_for_serving(make(), tmp_path / "model", **options)
    assert not list(tmp_path.iterdir())


def test_a_path_that_is_a_file_or_closed(tmp_path, monkeypatch):
    model = serving.full_image()
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="`path` must be a folder. Received: path=.*, a file"):
        export_for_serving(model, tmp_path / "file")
    with pytest.raises(NotADirectoryError, match="`path` must be a folder that can be written to"):
        export_for_serving(model, tmp_path / "file" / "model")

    def closed(prefix, dir):
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr("tempfile.mkdtemp", closed)
    with pytest.raises(
        PermissionError, match=r"`path` must be .* written to \(Permission denied\). Received: path"
    ):
        export_for_serving(model, tmp_path / "model")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_nothing_is_left_of_a_failure(tmp_path, monkeypatch):
    def fail(source, target):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.rename", fail)
    with pytest.raises(OSError, match="no space left"):
        export_for_serving(serving.full_image(), tmp_path / "model")
    assert not list(tmp_path.iterdir())
