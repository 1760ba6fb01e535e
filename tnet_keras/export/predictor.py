"""One way to ask any trained model: a `.keras` file, a SavedModel, a LiteRT or an ONNX file."""

import json
import os
import pathlib

import keras
import numpy as np
import tensorflow as tf

from tnet_keras import models
from tnet_keras.export.checks import resizes_with_antialias
from tnet_keras.export.class_names import names_beside
from tnet_keras.export.described_files import read_described
from tnet_keras.export.signatures import attended, resized
from tnet_keras.models.hard_attention import HardAttentionModel


class Predictor:
    """A loaded model that answers for images of its own size.

    Attributes:
        image_size: (height, width) of the images it takes, pixels.
        class_names: list of str; None where the model's file does not say.
        antialias: Whether it takes images of any size, as the model resizes them by its own rule,
            with antialiasing.

    Args:
        run: Function from uint8 images `[B, H, W, 3]` to a dict of arrays or tensors.
        image_size: See the attribute.
        class_names: See the attribute.
        antialias: See the attribute.

    Example:

    ```python
    predictor = Predictor(lambda images: {"probabilities": np.ones((len(images), 1))}, (8, 8))
    predictor(np.zeros((2, 8, 8, 3), np.uint8))["boxes"].shape    # (2, 0, 4)
    ```
    """

    def __init__(self, run, image_size, class_names=None, antialias=False):
        self._run = run
        self.image_size = tuple(int(side) for side in image_size)
        self.class_names = class_names
        self.antialias = antialias

    def __call__(self, images):
        """Classifies images and says where the model looked.

        Args:
            images: uint8 `[B, H, W, 3]`, B ≥ 1, RGB, of `image_size`; with `antialias` of any one
                size.

        Returns:
            dict of arrays: `probabilities` float32 `[B, C]`; `boxes` float32 `[B, T, 4]`, `(y0, x0,
            y1, x1)` in pixels of the images; `box_scores` float32 `[B, T]`; `levels` int32
            `[B, T]`. T = 0 for models without locations.

        Raises:
            ValueError: If the images have another size or dtype.
        """
        images = np.asarray(images)
        size = ("H", "W") if self.antialias else self.image_size
        fits = images.ndim == 4 and images.shape[3] == 3 and images.size
        if not self.antialias:
            fits = fits and images.shape[1:3] == self.image_size
        if images.dtype != np.uint8 or not fits:
            raise ValueError(
                f"`images` must be uint8 [B, {size[0]}, {size[1]}, 3]. "
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
            taken; or a `.tflite` file of `export_tflite` or an `.onnx` file of `export_onnx`, with
            its description beside it.

    Returns:
        `Predictor`. The class names of a `.keras` file are found by `names_beside`.

    Raises:
        ValueError: If the path is none of these.
    """
    path = pathlib.Path(os.fspath(path))
    if path.suffix == ".keras" and path.is_file():
        return _load_keras(path)
    if path.suffix == ".tflite" and path.is_file():
        return _load_tflite(path)
    if path.suffix == ".onnx" and path.is_file():
        return _load_onnx(path)
    if path.is_dir():
        folder = find_version(path)
        if folder is not None:
            return _load_saved_model(folder)
    kind = "a folder without saved_model.pb" if path.is_dir() else "another file"
    kind = kind if path.exists() else "not there"
    raise ValueError(
        "`model` must be a .keras, .tflite or .onnx file or a SavedModel folder. "
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
        outputs = attended(model, images)
        names = ("probabilities", "boxes", "box_probabilities", "levels")
        return {name: outputs[name] for name in names}

    # An open batch axis: the last batch of a folder is traced no second time.
    antialias = resizes_with_antialias(model)
    dtype = tf.float32 if antialias else tf.uint8
    traced = run.get_concrete_function(tf.TensorSpec((None, *model.image_size, 3), dtype))
    return Predictor(
        lambda images: traced(resized(tf.constant(images), model.image_size, antialias)),
        model.image_size,
        names_beside(path, model.num_classes),
        antialias,
    )


def find_version(path):
    """Finds the folder that holds `saved_model.pb`.

    Args:
        path: `pathlib.Path` of a folder.

    Returns:
        `path`, or the highest version in it, or None.
    """
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
    contract = contract if isinstance(contract, dict) else {}
    try:
        loaded = tf.saved_model.load(str(folder))
    except Exception as error:
        first = " ".join(str(error).split("\n")[0].split())
        raise ValueError(
            "`model` must be a SavedModel that loads. "
            f"Received: model={str(folder)!r} ({type(error).__name__}: {first})"
        ) from error
    signature = loaded.signatures.get("serving_default")
    inputs = {} if signature is None else signature.structured_input_signature[1]
    if list(inputs) != ["images"] or "probabilities" not in signature.structured_outputs:
        raise ValueError(
            "`model` must have a signature with `images` and `probabilities`, as "
            f"export_for_serving writes it. Received: model={str(folder)!r}"
        )
    size = contract.get("image_size") or inputs["images"].shape.as_list()[1:3]
    if None in size:
        raise ValueError(
            "`model` must say its image size in assets.extra/contract.json, as export_for_serving "
            f"writes it. Received: model={str(folder)!r}"
        )

    def run(images):
        # By way of `loaded`: a signature alone does not keep the variables of its model alive.
        return loaded.signatures["serving_default"](images=tf.constant(images))

    return Predictor(run, size, contract.get("class_names"), contract.get("antialias", False))


def _load_tflite(path):
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ValueError(
            "`model` needs ai-edge-litert for .tflite files: pip install 'tnet_keras[lite]'. "
            f"Received: model={str(path)!r}"
        ) from error

    content, contract = read_described(path)
    interpreter = Interpreter(model_content=content, num_threads=os.cpu_count())
    runner = interpreter.get_signature_runner("serving_default")

    size, antialias = contract["image_size"], contract.get("antialias", False)

    def run(images):
        images = _as_bytes(images, size, antialias)
        # The file is for one image; its outputs are views of memory that the next call changes.
        answers = [runner(images=image[None]) for image in images]
        return {name: np.concatenate([a[name] for a in answers]) for name in answers[0]}

    return Predictor(run, size, contract["class_names"], antialias)


def _load_onnx(path):
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(
            "`model` needs onnxruntime for .onnx files: pip install 'tnet_keras[onnx]'. "
            f"Received: model={str(path)!r}"
        ) from error

    content, contract = read_described(path)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    size, antialias = contract["image_size"], contract.get("antialias", False)

    def run(images):
        images = _as_bytes(images, size, antialias)
        return dict(zip(names, session.run(names, {"images": images}), strict=True))

    return Predictor(run, size, contract["class_names"], antialias)


def _as_bytes(images, size, antialias):
    """Files for other programs take uint8 of their own size, whatever the model resizes."""
    return np.uint8(np.rint(resized(tf.constant(images), size, True))) if antialias else images
