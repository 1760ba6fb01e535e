"""ONNX files, by way of tf2onnx: the model for programs that run neither TensorFlow nor LiteRT."""

import tensorflow as tf

from tnet_keras.export.checks import check_exportable, check_portable, checked_class_names
from tnet_keras.export.described_files import check_new_described, contract_of, write_described
from tnet_keras.export.quiet import quiet
from tnet_keras.export.signatures import portable_answers
from tnet_keras.models import NTSNet

#: Version of the operator set; ONNX Runtime has known it since 1.14.
OPSET = 18


def export_onnx(
    model, path, class_names=None, locations=None, allow_untrained=False, overwrite=False
):
    """Writes an ONNX file for batches of any size, and a JSON file that says how to use it.

    Input `images`, uint8 `[B, H, W, 3]`, RGB, of the model's image size; outputs

    * `probabilities` float32 `[B, C]`;
    * of models that attend: `boxes` float32 `[B, T, 4]`, `(y0, x0, y1, x1)` in pixels of the image
      given; `box_scores` float32 `[B, T]`, the probability of each chosen location; `levels` int32
      `[B, T]`.

    Images are turned into floats in the file, which takes four times their memory. `path` with
    ".json" appended holds class names, image size, preprocessing, outputs and the SHA-256.

    Args:
        model: A built model of this package that computes in float32.
        path: File to write, ending in ".onnx"; missing folders are made.
        class_names: C str, or None for "0", "1", ….
        locations: As in the model's `attend`, or None for its own.
        allow_untrained: Whether a model whose optimiser has made no step is exported.
        overwrite: Whether files that are there may be replaced.

    Returns:
        `pathlib.Path` of the file.

    Raises:
        ImportError: If tf2onnx is not installed (extra `onnx`).
        ValueError: If an argument is outside its range, the model is not built, not trained, not
            finite, does not compute in float32, chooses at random, is an `NTSNet`, or has a layer
            that tf2onnx cannot convert.
        FileExistsError: If a file is there and `overwrite` is false.
    """
    check_exportable(model, allow_untrained)
    check_portable(model, "ONNX")
    if isinstance(model, NTSNet):
        raise ValueError(
            "`model` must not be NTSNet: tf2onnx 1.17 converts its suppression of overlapping "
            f"anchors to a loop that ONNX Runtime refuses. Received: model={model.name!r}"
        )
    names = checked_class_names(model, class_names)
    path = check_new_described("path", path, ".onnx", overwrite)
    try:
        import tf2onnx
    except ImportError as error:
        raise ImportError(
            "`export_onnx` needs tf2onnx: pip install 'tnet_keras[onnx]'. Received: none installed"
        ) from error
    specs = [tf.TensorSpec((None, *model.image_size, 3), tf.uint8, name="images")]

    @tf.function(input_signature=specs, autograph=False)
    def answer(images):
        # Padding, masking and resizing of bytes exist in TensorFlow only.
        return portable_answers(model, tf.cast(images, tf.float32), locations)

    specified = answer.get_concrete_function().structured_outputs  # raises if `locations` are wrong
    try:
        with quiet("tf2onnx"):
            converted, _ = tf2onnx.convert.from_function(answer, input_signature=specs, opset=OPSET)
    except Exception as error:
        # What it raises depends on the operator.
        first = " ".join(str(error).split())[:200]
        raise ValueError(
            "`model` must convert to ONNX. "
            f"Received: model={type(model).__name__}, whose conversion says: {first}"
        ) from error
    content = converted.SerializeToString()
    contract = contract_of(model, names, content, [None, *model.image_size, 3], specified)
    write_described(path, content, contract | {"opset": OPSET})
    return path
