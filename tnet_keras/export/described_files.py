"""A model in one file for another program, and the JSON file beside it that says how to use it."""

import hashlib
import json
import os
import pathlib

import tensorflow as tf

from tnet_keras.export.checks import resizes_with_antialias
from tnet_keras.export.whole_files import check_new_file, whole_files

_PREPROCESSING = (
    "decode to RGB, upright (Exif orientation applied), transparency composed onto white",
    "resize the whole image to image_size: bilinear, half-pixel centres, {} antialiasing, aspect "
    "ratio not kept",
    "round to uint8, 0-255; scaling is part of the model",
)


def contract_of(model, class_names, content, input_shape, specs):
    """Describes a file.

    Args:
        model: The model that it is of.
        class_names: C str.
        content: bytes of the file.
        input_shape: list of the axes of the input `images`; None where open.
        specs: dict from the name of an output to its `tf.TensorSpec`.

    Returns:
        dict for JSON: class names, image size, preprocessing, input, outputs, bytes, SHA-256.
    """
    antialias = resizes_with_antialias(model)
    outputs = {
        name: {"shape": list(spec.shape), "dtype": spec.dtype.name} for name, spec in specs.items()
    }
    return {
        "class_names": class_names,
        "image_size": list(model.image_size),
        "input": {"name": "images", "shape": input_shape, "dtype": "uint8"},
        "preprocessing": [line.format("with" if antialias else "no") for line in _PREPROCESSING],
        "antialias": antialias,
        "outputs": outputs,
        "boxes": "(y0, x0, y1, x1), pixels of the input image, half-open",
        "model": type(model).__name__,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "tensorflow": tf.__version__,
    }


def check_new_described(name, path, suffix, overwrite=False):
    """Checks that a file and its description can be written, as `check_new_file`.

    Args:
        name: The argument's name, for the message.
        path: The file to write.
        suffix: How its name has to end, such as ".tflite".
        overwrite: Whether files may be there already.

    Returns:
        `pathlib.Path` of the file.

    Raises:
        ValueError: As `check_new_file`.
        FileExistsError: If one of them is there and `overwrite` is false.
    """
    path = check_new_file(name, path, suffix, overwrite)
    check_new_file(name, f"{path}.json", ".json", overwrite)
    return path


def write_described(path, content, contract):
    """Writes a file and its description, both or none.

    Args:
        path: `pathlib.Path`; missing folders are made. The description's has ".json" appended.
        content: bytes.
        contract: dict, see `contract_of`.

    Raises:
        OSError: If they cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_files(f"{path}.json", path) as (description, file):
        text = json.dumps(contract, indent=1, ensure_ascii=False) + "\n"
        description.write_text(text, encoding="utf-8")
        file.write_bytes(content)


def read_described(path):
    """Reads a file that was written with its description.

    Args:
        path: The file; its description lies beside it.

    Returns:
        `(content, contract)`: bytes, and the dict of the description.

    Raises:
        ValueError: If the description is missing or of another file.
    """
    path = pathlib.Path(os.fspath(path))
    content, sidecar = path.read_bytes(), pathlib.Path(f"{path}.json")
    try:
        contract = json.loads(sidecar.read_text(encoding="utf-8"))
        names, size, digest = (contract[key] for key in ("class_names", "image_size", "sha256"))
        if not isinstance(names, list) or len(size) != 2:
            raise ValueError("class_names or image_size")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"`model` must have its description beside it, as its export writes it. "
            f"Received: {str(sidecar)!r} that cannot be read ({error})"
        ) from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(
            f"`model` must be the file that its description is of. Received: model={str(path)!r} "
            "with another SHA-256"
        )
    return content, contract
