"""Warm-up requests: read back as a server reads them, and replayed."""

import sys

import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from tests.export import serving
from tnet_keras.export import export_for_serving, write_warmup

FILE = "assets.extra/tf_serving_warmup_requests"


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """An exported version without warm-up requests."""
    return export_for_serving(serving.full_image(), tmp_path_factory.mktemp("export") / "name")


def test_every_signature_is_replayed(tmp_path):
    folder = export_for_serving(serving.full_image(), tmp_path / "name", warmup=(1, 3))
    signatures = tf.saved_model.load(str(folder)).signatures
    seen = []
    for record in tf.data.TFRecordDataset(str(folder / FILE)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        assert request.model_spec.name == "name"
        inputs = {name: tf.constant(tf.make_ndarray(x)) for name, x in request.inputs.items()}
        outputs = signatures[request.model_spec.signature_name](**inputs)
        assert not any(outputs["status"])
        seen.append((request.model_spec.signature_name, len(outputs["status"])))
    assert sorted(seen) == sorted((name, size) for name in signatures for size in (1, 3))


def test_mistakes_are_named_and_nothing_is_written(plain, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="`path` must be a version that .* Received: path="):
        write_warmup(tmp_path)
    for sizes in ((), (0,), ("a",)):
        with pytest.raises(ValueError, match="`batch_sizes` must be positive integers. Received"):
            write_warmup(plain, sizes)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "tensorflow_serving", None)
        patch.setitem(sys.modules, "tensorflow_serving.apis", None)
        message = r"need the package tensorflow-serving-api: pip install 'tnet_keras\[serving\]'"
        with pytest.raises(ImportError, match=message):
            write_warmup(plain)
        with pytest.raises(ImportError, match=message):
            export_for_serving(serving.full_image(), tmp_path / "model", warmup=(1,))
    with monkeypatch.context() as patch:
        patch.setattr("os.rename", lambda source, target: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_warmup(plain)
    assert not list(tmp_path.iterdir())
    assert [entry.name for entry in (plain / "assets.extra").iterdir()] == ["contract.json"]


def test_requests_are_never_overwritten(plain):
    file = write_warmup(plain)
    before = file.read_bytes()
    with pytest.raises(FileExistsError, match="`path` must not hold warm-up requests yet. Receiv"):
        write_warmup(plain)
    assert file.read_bytes() == before
    file.unlink()
