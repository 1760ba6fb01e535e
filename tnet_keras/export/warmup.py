"""Warm-up requests: a server replays them when it loads a version, before it takes traffic."""

import contextlib
import json
import os
import pathlib
import tempfile

import numpy as np
import tensorflow as tf

from tnet_keras.export.signatures import ADAPTIVE

WARMUP_FILE = "tf_serving_warmup_requests"

_SQUARE = 16  # Pixels.


def write_warmup(path, batch_sizes=(1,)):
    """Writes `assets.extra/tf_serving_warmup_requests` into an exported version.

    One request per signature and batch size, each with images of the model's own size: squares of
    random colours. The file is a TFRecord of `PredictionLog` messages, as TensorFlow Serving reads
    it.

    Args:
        path: Folder of a version that `export_for_serving` wrote, `…/name/1`.
        batch_sizes: ints ≥ 1, the batch sizes to warm up for, such as the server's
            `allowed_batch_sizes`.

    Returns:
        `pathlib.Path`, the file.

    Raises:
        ImportError: If the package `tensorflow-serving-api` (the extra `serving`) is missing.
        ValueError: If `path` is no such folder, or `batch_sizes` are not positive integers.
        FileExistsError: If the file is there.
    """
    messages = serving_messages()
    path = pathlib.Path(path)
    extra = path / "assets.extra"
    try:
        contract = json.loads((extra / "contract.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            "`path` must be a version that `export_for_serving` wrote. "
            f"Received: path={str(path)!r} without assets.extra/contract.json"
        ) from error
    batch_sizes = tuple(batch_sizes)
    if not batch_sizes or not all(isinstance(size, int) and size > 0 for size in batch_sizes):
        raise ValueError(
            f"`batch_sizes` must be positive integers. Received: batch_sizes={batch_sizes}"
        )
    target = extra / WARMUP_FILE
    if target.exists():
        raise FileExistsError(
            f"`path` must not hold warm-up requests yet. Received: path={str(path)!r}"
        )
    name = path.resolve().parent.name
    # Squares of random colours: noise would make files of several times the size.
    height, width = contract["image_size"]
    squares = (-(-height // _SQUARE), -(-width // _SQUARE), 3)
    pixels = np.random.default_rng(0).integers(0, 256, squares, np.uint8)
    pixels = pixels.repeat(_SQUARE, axis=0).repeat(_SQUARE, axis=1)[:height, :width]
    contents = tf.io.encode_jpeg(pixels).numpy()
    handle, temporary = tempfile.mkstemp(prefix=f".{WARMUP_FILE}-", dir=extra)
    os.close(handle)
    try:
        with tf.io.TFRecordWriter(temporary) as writer:
            for signature in contract["signatures"]:
                for size in batch_sizes:
                    if signature == "serving_default":
                        inputs = {"images": np.repeat(pixels[None], size, axis=0)}
                    else:
                        inputs = {"image_bytes": np.array([contents] * size, object)}
                    if signature == ADAPTIVE:
                        # Every stage is run.
                        inputs["threshold"] = np.full(size, 2.0, np.float32)
                    log = _predict_log(messages, name, signature, inputs)
                    writer.write(log.SerializeToString())
        os.chmod(temporary, 0o644)
        os.rename(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    return target


def serving_messages():
    """The modules of TensorFlow Serving's messages.

    Returns:
        `(predict_pb2, prediction_log_pb2)`.

    Raises:
        ImportError: If the package `tensorflow-serving-api` (the extra `serving`) is missing.
    """
    try:
        from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
    except ImportError as error:
        raise ImportError(
            "Warm-up requests need the package tensorflow-serving-api: "
            "pip install 'tnet_keras[serving]'"
        ) from error
    return predict_pb2, prediction_log_pb2


def _predict_log(messages, name, signature, inputs):
    predict_pb2, prediction_log_pb2 = messages
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    predict_log = prediction_log_pb2.PredictLog(request=request)
    return prediction_log_pb2.PredictionLog(predict_log=predict_log)
