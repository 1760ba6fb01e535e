"""LiteRT (TensorFlow Lite) files for phones and small computers: built-in operators only."""

import pathlib
import tempfile

import numpy as np
import tensorflow as tf

from tnet_keras.export.checks import check_exportable, check_portable, checked_class_names
from tnet_keras.export.described_files import check_new_described, contract_of, write_described
from tnet_keras.export.quiet import quiet
from tnet_keras.export.signatures import portable_answers
from tnet_keras.models import NTSNet
from tnet_keras.ops.checks import check_one_of

VARIANTS = ("float32", "float16", "dynamic_range", "int8")
#: Images that int8 is calibrated with; more are not read.
MOST_REPRESENTATIVE = 200


def export_tflite(
    model,
    path,
    variant="float32",
    representative=None,
    class_names=None,
    locations=None,
    allow_untrained=False,
    overwrite=False,
):
    """Writes a LiteRT file for one image at a time, and a JSON file that says how to use it.

    Signature `serving_default`: `images`, uint8 `[1, H, W, 3]`, RGB, of the model's image size, to

    * `probabilities` float32 `[1, C]`;
    * of models that attend: `boxes` float32 `[1, T, 4]`, `(y0, x0, y1, x1)` in pixels of the image
      given; `box_scores` float32 `[1, T]`, the probability of each chosen location; `levels` int32
      `[1, T]`.

    Only operators that every LiteRT interpreter has built in are used. Boxes are whole numbers in
    every variant: they are computed as integers, which are not quantised. Which cells are chosen
    depends on the network, whose numbers "int8" changes most.

    `path` with ".json" appended holds class names, image size, preprocessing, outputs, variant,
    sizes and the SHA-256 of the file.

    Args:
        model: A built model of this package that computes in float32.
        path: File to write, ending in ".tflite"; missing folders are made.
        variant: "float32"; "float16": weights of half the size; "dynamic_range": weights of 8 bits,
            arithmetic in float; "int8": weights and activations of 8 bits where operators allow.
        representative: For "int8": uint8 images `[n, H, W, 3]` of the model's image size as the
            training pipeline gives them, or an iterable of such batches, of which the first 200
            images are used.
        class_names: C str, or None for "0", "1", ….
        locations: As in the model's `attend`, or None for its own.
        allow_untrained: Whether a model whose optimiser has made no step is exported.
        overwrite: Whether files that are there may be replaced.

    Returns:
        `pathlib.Path` of the file.

    Raises:
        ValueError: If an argument is outside its range, the model is not built, not trained, not
            finite, does not compute in float32, or uses what LiteRT has not: a random selection;
            with "int8", the suppression of overlapping anchors of `NTSNet`.
        FileExistsError: If a file is there and `overwrite` is false.
    """
    check_one_of("variant", variant, VARIANTS)
    _check_model(model, variant, allow_untrained)
    names = checked_class_names(model, class_names)
    images = _checked_representative(representative, variant, tuple(model.image_size))
    path = check_new_described("path", path, ".tflite", overwrite)
    function = _serving_function(model, locations)  # raises where `locations` do not fit
    content = _convert(model, function, variant, images)
    specs = function.structured_outputs
    contract = contract_of(model, names, content, [1, *model.image_size, 3], specs)
    contract |= {
        "variant": variant,
        "representative_images": None if images is None else len(images),
    }
    write_described(path, content, contract)
    return path


def _check_model(model, variant, allow_untrained):
    check_exportable(model, allow_untrained)
    check_portable(model, "LiteRT")
    # TensorFlow 2.21: calibrating this model ends the whole process, most likely because of its
    # NonMaxSuppression.
    if variant == "int8" and isinstance(model, NTSNet):
        raise ValueError(
            "`variant` must not be 'int8' for NTSNet: the suppression of overlapping anchors "
            f"cannot be calibrated. Received: variant={variant!r}"
        )


def _checked_representative(representative, variant, image_size):
    """uint8 `[n, H, W, 3]`, or None for other variants than int8."""
    if variant != "int8":
        if representative is not None:
            raise ValueError(
                "`representative` is for variant='int8' only. "
                f"Received: representative with variant={variant!r}"
            )
        return None
    wanted = f"uint8 images [n, {image_size[0]}, {image_size[1]}, 3]"
    if representative is None:
        raise ValueError(
            f"`representative` must be {wanted} for variant='int8'. Received: representative=None"
        )
    if hasattr(representative, "shape"):
        representative = [representative]
    batches, count = [], 0
    try:
        for batch in representative:
            batch = np.asarray(batch)
            if batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[1:] != (*image_size, 3):
                raise ValueError(
                    f"`representative` must be {wanted}. "
                    f"Received: {batch.dtype.name} of shape {batch.shape}"
                )
            batches.append(batch[: MOST_REPRESENTATIVE - count])
            count += len(batches[-1])
            if count >= MOST_REPRESENTATIVE:
                break
    except TypeError:
        raise ValueError(
            f"`representative` must be {wanted}, or an iterable of such. "
            f"Received: {type(representative).__name__}"
        ) from None
    if not count:
        raise ValueError(f"`representative` must be {wanted}, n >= 1. Received: no images")
    return np.concatenate(batches)


def _serving_function(model, locations):
    """The signature as a traced function."""

    @tf.function(
        input_signature=[tf.TensorSpec((1, *model.image_size, 3), tf.uint8, name="images")],
        autograph=False,
    )
    def serving_default(images):
        return portable_answers(model, images, locations)

    return serving_default.get_concrete_function()


def _convert(model, function, variant, images):
    """The bytes of the file."""
    module = tf.Module()
    module.variables_of_model = [v._value for v in model.variables]
    with tempfile.TemporaryDirectory() as folder, quiet("tensorflow"):
        saved = str(pathlib.Path(folder) / "saved_model")
        tf.saved_model.save(module, saved, signatures={"serving_default": function})
        converter = tf.lite.TFLiteConverter.from_saved_model(
            saved, signature_keys=["serving_default"]
        )
        operators = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if variant != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if variant == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if variant == "int8":
            converter.representative_dataset = lambda: ({"images": x[None]} for x in images)
            # What has no 8 bit kernel (the selection, the encoding of places) stays as it is.
            operators = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, *operators]
        converter.target_spec.supported_ops = operators
        try:
            return converter.convert()
        except Exception as error:
            # The converter's own class of errors is private.
            if type(error).__name__ != "ConverterError":
                raise
            first = str(error).split("\n")[0]
            raise ValueError(
                "`model` must convert to built-in operators of LiteRT. "
                f"Received: model={type(model).__name__}, whose conversion says: {first}"
            ) from error
