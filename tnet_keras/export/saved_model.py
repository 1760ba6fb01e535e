"""SavedModels for serving."""

import os
import pathlib
import shutil
import tempfile

import keras
import tensorflow as tf


def export_saved_model(model, path, verbose=False):
    """Writes a SavedModel with named outputs and an open batch axis.

    Signatures, both of `images`, uint8 `[B, H, W, 3]` of the model's own image size:

    * `serving_default`: `logits` and `probabilities`, float32 `[B, C]`.
    * `attend` (models that attend): all outputs of `TNet.attend`. Entries of lists are numbered by
      the level that chooses: `location_probabilities_1`, `selected_1`, ….

    The folder appears whole or not at all, and never over an existing one.

    Args:
        model: A built model with `image_size`, such as `TNet` or `FullImageClassifier`.
        path: Folder to make; for TensorFlow Serving it ends in a version number, `…/saved_model/1`.
            Missing parents are made.
        verbose: Whether Keras lists the endpoints.

    Raises:
        FileExistsError: If `path` exists.
    """
    path = pathlib.Path(path)
    if path.exists():
        raise FileExistsError(f"`path` must not exist yet. Received: path={str(path)!r}")
    images = tf.TensorSpec((None, *model.image_size, 3), tf.uint8, name="images")
    archive = keras.export.ExportArchive()
    archive.track(model)

    def serving_default(images):
        logits = tf.cast(model(images, training=False), tf.float32)
        return {"logits": logits, "probabilities": tf.nn.softmax(logits)}

    archive.add_endpoint("serving_default", serving_default, [images])
    if hasattr(model, "attend"):
        archive.add_endpoint("attend", lambda images: named_outputs(model.attend(images)), [images])
    path.parent.mkdir(parents=True, exist_ok=True)
    # The name is no number, so a server that watches the parent never takes it for a version.
    temporary = tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        archive.write_out(temporary, verbose=verbose)
        os.chmod(temporary, 0o755)  # `mkdtemp` makes folders that only their owner can read
        os.rename(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def named_outputs(outputs):
    """Flattens what `attend` returns into one dict of tensors, as a signature needs it.

    Args:
        outputs: dict of tensors and of lists of tensors.

    Returns:
        dict of tensors; entry i (from 1) of the list `name` is called `name_i`.
    """
    result = {}
    for name, value in outputs.items():
        if isinstance(value, (list, tuple)):
            result.update({f"{name}_{index}": item for index, item in enumerate(value, start=1)})
        else:
            result[name] = value
    return result
