"""One way to ask any trained model: a `.keras` file, a SavedModel or a LiteRT file."""

import json
import os
import pathlib

import keras
import numpy as np
import tensorflow as tf

from tnet_keras import models
from tnet_keras.export.tflite import read_tflite
from tnet_keras.models.hard_attention import HardAttentionModel


class Predictor:
    """A loaded model that answers for images of its own size.

    Attributes:
        image_size: (height, width) of the images it takes, pixels.
        class_names: list of str; None where the model's file does not say.

    Args:
        run: Function from uint8 images `[B, H, W, 3]` to a dict of arrays or tensors.
        image_size: See the attribute.
        class_names: See the attribute.

    Example:

    ```python
    predictor = Predictor(lambda images: {"probabilities": np.ones((len(images), 1))}, (8, 8), ["a"])
    predictor(np.zeros((2, 8, 8, 3), np.uint8))["boxes"].shape    # (2, 0, 4)
    ```
    """

    def __init__(self, run, image_size, class_names=None):
        self._run = run
        self.image_size = tuple(int(side) for side in image_size)
        self.class_names = class_names

    def __call__(self, images):
        """Classifies images and says where the model looked.

        Args:
            images: uint8 `[B, H, W, 3]` of `image_size`, RGB.

        Returns:
            dict of arrays: `probabilities` float32 `[B, C]`; `boxes` float32 `[B, T, 4]`, `(y0, x0,
            y1, x1)` in pixels of the images; `box_scores` float32 `[B, T]`; `levels` int32
            `[B, T]`. T = 0 for models without locations.

        Raises:
            ValueError: If the images have another size or dtype.
        """
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.shape[1:] != (*self.image_size, 3):
            raise ValueError(
                f"`images` must be uint8 [B, {self.image_size[0]}, {self.image_size[1]}, 3]. "
                f"Received: {images.dtype.name} of shape {images.shape}"
            )
        outputs = {name: np.asarray(value) for name, value in self._run(images).items()}
        batch = len(images)
        nowhere = {
            "boxes": np.zeros((batch, 0, 4), np.float32),
            "box_scores": np.zeros((batch, 0), np.float32),
            "levels": np.zeros((batch, 0), np.int32),
        }
        outputs.setdefault("box_scores", outputs.pop("box_probabilities", nowhere["box_scores"]))
        wanted = {name: outputs.get(name, value) for name, value in nowhere.items()}
        return {"probabilities": outputs["probabilities"], **wanted}


def load_predictor(path):
    """Loads a model for asking, whatever kind of file it is.

    Args:
        path: A `.keras` file of a model of this package; a SavedModel that this package exported,
            either the folder of one version or the folder above, of which the highest version is
            taken; or a `.tflite` file of `export_tflite`, with its description beside it.

    Returns:
        `Predictor`. The class names of a `.keras` file are those of the `report.json` of the run
        that it lies in, if it lies in one.

    Raises:
        ValueError: If the path is none of these.
    """
    path = pathlib.Path(os.fspath(path))
    if path.suffix == ".keras" and path.is_file():
        return _load_keras(path)
    if path.suffix == ".tflite" and path.is_file():
        return _load_tflite(path)
    if path.is_dir():
        folder = _saved_model_in(path)
        if folder is not None:
            return _load_saved_model(folder)
    kind = "a folder without saved_model.pb" if path.is_dir() else "another file"
    kind = kind if path.exists() else "not there"
    raise ValueError(
        "`model` must be a .keras file, a SavedModel folder or a .tflite file. "
        f"Received: model={str(path)!r}, {kind}"
    )


def _load_keras(path):
    try:
        model = keras.saving.load_model(path, compile=False)
    except Exception as error:
        # Keras and zipfile raise errors of many classes for a file that is no model.
        first = " ".join(str(error).split("\n")[0].split())
        raise ValueError(
            "`model` must be a .keras file that loads. "
            f"Received: model={str(path)!r} ({type(error).__name__}: {first})"
        ) from error
    if not isinstance(model, HardAttentionModel):
        raise ValueError(
            f"`model` must hold one of {', '.join(n for n in models.__all__ if n[0].isupper())}. "
            f"Received: model={str(path)!r} with {type(model).__name__}"
        )

    @tf.function(autograph=False)
    def run(images):
        if hasattr(model, "attend"):
            outputs = model.attend(images)
            names = ("probabilities", "boxes", "box_probabilities", "levels")
            return {name: outputs[name] for name in names}
        return {"probabilities": tf.nn.softmax(tf.cast(model(images, training=False), tf.float32))}

    # An open batch axis: the last batch of a folder is traced no second time.
    spec = tf.TensorSpec((None, *model.image_size, 3), tf.uint8)
    traced = run.get_concrete_function(spec)
    return Predictor(
        lambda images: traced(tf.constant(images)),
        model.image_size,
        _names_of_run(path, model.num_classes),
    )


def _names_of_run(path, count):
    """Class names in the report of the run whose folder, or sub-folder, the file lies in."""
    for folder in list(path.absolute().parents)[:3]:
        try:
            names = json.loads((folder / "report.json").read_text(encoding="utf-8"))["class_names"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if isinstance(names, list) and len(names) == count:
            return [str(name) for name in names]
    return None


def _saved_model_in(path):
    """The folder that holds `saved_model.pb`: `path`, or the highest version in it, or None."""
    if (path / "saved_model.pb").is_file():
        return path
    versions = [
        folder
        for folder in path.iterdir()
        if folder.name.isdecimal() and (folder / "saved_model.pb").is_file()
    ]
    return max(versions, key=lambda folder: int(folder.name), default=None)


def _load_saved_model(folder):
    try:
        contract = (folder / "assets.extra" / "contract.json").read_text(encoding="utf-8")
        contract = json.loads(contract)
    except (OSError, ValueError):
        contract = {}
    try:
        loaded = tf.saved_model.load(str(folder))
    except Exception as error:
        first = " ".join(str(error).split("\n")[0].split())
        raise ValueError(
            "`model` must be a SavedModel that loads. "
            f"Received: model={str(folder)!r} ({type(error).__name__}: {first})"
        ) from error
    # Older exports say where they looked in `attend` only.
    for name in ("attend", "serving_default"):
        signature = loaded.signatures.get(name)
        inputs = {} if signature is None else signature.structured_input_signature[1]
        if list(inputs) == ["images"] and "probabilities" in signature.structured_outputs:
            size = contract.get("image_size", inputs["images"].shape.as_list()[1:3])
            if None not in size:

                def run(images, signature=signature):
                    return signature(images=tf.constant(images))

                predictor = Predictor(run, size, contract.get("class_names"))
                predictor.loaded = loaded  # a signature does not keep its variables alive
                return predictor
    raise ValueError(
        "`model` must have a signature with `images` and `probabilities`, and say its image size, "
        f"as this package exports it. Received: model={str(folder)!r}"
    )


def _load_tflite(path):
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ValueError(
            "`model` needs ai-edge-litert for .tflite files: pip install 'tnet_keras[lite]'. "
            f"Received: model={str(path)!r}"
        ) from error

    content, contract = read_tflite(path)
    interpreter = Interpreter(model_content=content, num_threads=os.cpu_count())
    runner = interpreter.get_signature_runner("serving_default")

    def run(images):
        # The file is for one image; its outputs are views of memory that the next call changes.
        answers = [runner(images=image[None]) for image in images]
        return {name: np.concatenate([a[name] for a in answers]) for name in answers[0]}

    return Predictor(run, contract["image_size"], contract["class_names"])
