"""SavedModels for serving: bytes in, answer out, wherever TensorFlow serves."""

import contextlib
import json
import numbers
import os
import pathlib
import shutil
import tempfile

import keras
import tensorflow as tf

from tnet_keras.export.checks import (
    check_exportable,
    checked_class_names,
    resizes_with_antialias,
)
from tnet_keras.export.signatures import (
    ADAPTIVE,
    answer,
    attended,
    attended_until_sure,
    read_images,
    resized,
    with_status,
)
from tnet_keras.export.warmup import serving_messages, write_warmup
from tnet_keras.geometry import total_locations
from tnet_keras.ops.decode import DECODE_STATUSES, MAX_BYTES, MAX_PIXELS, WHITE


def export_for_serving(
    model,
    path,
    version=None,
    class_names=None,
    top=5,
    locations=(),
    max_pixels=MAX_PIXELS,
    max_bytes=MAX_BYTES,
    background=WHITE,
    on_bad_image="status",
    allow_untrained=False,
    warmup=(),
    verbose=False,
    adaptive=(),
):
    """Writes `path/<version>/`, a SavedModel that TensorFlow serves without this package.

    Signatures; B is open, and no answer depends on what else is in the batch:

    * `serving_default`: `images`, uint8 `[B, h, w, 3]`, of any size.
    * `classify_bytes`: `image_bytes`, string `[B]`, JPEG, PNG, GIF, BMP and WebP files of mixed
      sizes, read by `tnet_keras.ops.decode_image`.
    * `attend`: `image_bytes`; all outputs of the model's `attend`, and those below.
    * `features`: `image_bytes`; `features` float32 `[B, D]`, the vector the classifier sees.
    * `classify_bytes_3`, `attend_2_1`, `attend_context`, …: as those, for each of `locations`.
    * `classify_bytes_adaptive`, with `adaptive`: `image_bytes` and `threshold`, float32 `[B]`; as
      `classify_bytes`, see `tnet_keras.export.signatures.attended_until_sure`, with `stage` beside.

    All but `features` give `probabilities`, `labels`, `scores`, `boxes` (in pixels of the upright
    image that was sent), `box_scores`, `levels`, `image_sizes`, see
    `tnet_keras.export.signatures.answer`; all give `status` int32 `[B]`, positions in
    `DECODE_STATUSES`. A model without locations gives boxes `[B, 0, 4]`. The row of an image that
    could not be read holds zeros and empty labels.

    Images of another size are resized as in training: without antialiasing, or with it for a
    `FullImageClassifier` that has `antialias`.

    The folder `assets.extra` holds `contract.json`: class names, image size, limits and statuses.
    A version appears whole or not at all, and none is ever overwritten.

    Args:
        model: A built model of this package.
        path: Folder of the model; its name is the name to serve under. Made if missing.
        version: int ≥ 1; None for the one after the highest that is there.
        class_names: C str, or None for "0", "1", ….
        top: int ≥ 1, k, most classes to name; no more than there are.
        locations: Tuples as in `attend`, such as `[(3,), (2, 1), ()]`: the number of locations is
            fixed in a graph, so each gets signatures of its own.
        max_pixels: int ≥ 1, see `decode_image`.
        max_bytes: int ≥ 1, see `decode_image`.
        background: (red, green, blue), see `decode_image`.
        on_bad_image: "status": it gets its status; "error": the request fails.
        allow_untrained: Whether a model whose optimiser has made no step is exported. (That of a
            model without an optimiser cannot be known.)
        warmup: Batch sizes to write warm-up requests for, see `write_warmup`; () for none. Needs
            the extra `serving`.
        verbose: Whether Keras lists the endpoints.
        adaptive: Tuples as in `attend` with ever more places, such as `[(), (1,), (3,)]`: the
            stages of `classify_bytes_adaptive`. () for no such signature.

    Returns:
        `pathlib.Path`, the folder of the version.

    Raises:
        ValueError: If an argument is outside its range, or the model is not built, not trained, or
            has weights that are not finite.
        FileExistsError: If the version is there.
        OSError: If the folder cannot be written to.
        ImportError: If `warmup` is asked for without the extra `serving`.
    """
    if warmup:
        serving_messages()
    check_exportable(model, allow_untrained)
    class_names = checked_class_names(model, class_names)
    for name, value in (("top", top), ("max_pixels", max_pixels), ("max_bytes", max_bytes)):
        if not isinstance(value, numbers.Integral) or value < 1:
            raise ValueError(f"`{name}` must be an integer of at least 1. Received: {name}={value}")
    if on_bad_image not in ("status", "error"):
        raise ValueError(
            f"`on_bad_image` must be 'status' or 'error'. Received: on_bad_image={on_bad_image!r}"
        )
    suffixes = _checked_locations("locations", model, locations)
    stages = tuple(_checked_locations("adaptive", model, adaptive).values())
    places = [total_locations(stage) for stage in stages]
    if stages and (len(stages) < 2 or places != sorted(set(places))):
        raise ValueError(
            "`adaptive` must hold at least two numbers of locations, each with more places. "
            f"Received: adaptive={adaptive!r}"
        )
    path = pathlib.Path(path)
    version = _checked_version(path, version)
    reading = {"max_pixels": max_pixels, "max_bytes": max_bytes, "background": background}
    functions = _functions(
        model, class_names, min(top, len(class_names)), suffixes, stages, reading,
        on_bad_image == "error",
    )  # fmt: skip
    contract = {
        "class_names": class_names,
        "image_size": list(model.image_size),
        "signatures": sorted(functions),
        "adaptive": [list(stage) for stage in stages],
        "statuses": DECODE_STATUSES,
        "antialias": resizes_with_antialias(model),
        **reading,
    }
    with _new_version(path, version) as folder:
        # Keras 3.15 finds the variables in the endpoints; `track` would store each a second time.
        archive = keras.export.ExportArchive()
        images = tf.TensorSpec((None, None, None, 3), tf.uint8, name="images")
        image_bytes = tf.TensorSpec((None,), tf.string, name="image_bytes")
        threshold = tf.TensorSpec((None,), tf.float32, name="threshold")
        for name, function in functions.items():
            specs = [images if name == "serving_default" else image_bytes]
            if name == ADAPTIVE:
                specs.append(threshold)
            archive.add_endpoint(name, function, specs)
        archive.write_out(str(folder), verbose=verbose)
        extra = folder / "assets.extra"
        extra.mkdir(exist_ok=True)
        text = json.dumps(contract, indent=1, ensure_ascii=False) + "\n"
        (extra / "contract.json").write_text(text, encoding="utf-8")
        if warmup:
            write_warmup(folder, warmup)
    return path / str(version)


def _functions(model, class_names, top, suffixes, stages, reading, fail):
    """The signatures by name."""
    size = tuple(model.image_size)
    antialias = resizes_with_antialias(model)
    reading = reading | {"antialias": antialias}

    def classified(images, sizes, status, locations=None):
        outputs = answer(attended(model, images, locations), class_names, top, sizes, size)
        return with_status(outputs, status, fail)

    def serving_default(images):
        batch, sent = tf.shape(images)[0], tf.shape(images)[1:3]
        sizes, status = tf.tile(sent[None], [batch, 1]), tf.zeros([batch], tf.int32)
        return classified(resized(images, size, antialias), sizes, status)

    def features(image_bytes):
        images, _, status = read_images(image_bytes, size, **reading)
        vectors = tf.cast(model.aggregated_features(images), tf.float32)
        return with_status({"features": vectors}, status, fail)

    def classify_bytes(locations):
        def function(image_bytes):
            return classified(*read_images(image_bytes, size, **reading), locations)

        return function

    def attend(locations):
        def function(image_bytes):
            images, sizes, status = read_images(image_bytes, size, **reading)
            outputs = attended(model, images, locations)
            outputs |= answer(outputs, class_names, top, sizes, size)
            return with_status(outputs, status, fail)

        return function

    functions = {
        "serving_default": serving_default,
        "classify_bytes": classify_bytes(None),
        "attend": attend(None),
        "features": features,
    }
    for suffix, own in suffixes.items():
        functions[f"classify_bytes_{suffix}"] = classify_bytes(own)
        functions[f"attend_{suffix}"] = attend(own)
    if stages:

        def adaptive(image_bytes, threshold):
            images, sizes, status = read_images(image_bytes, size, **reading)
            outputs = attended_until_sure(model, images, threshold, stages)
            stage = outputs["stage"]
            outputs = answer(outputs, class_names, top, sizes, size) | {"stage": stage}
            return with_status(outputs, status, fail)

        functions[ADAPTIVE] = adaptive
    return functions


def _checked_locations(name, model, locations):
    """The locations by the suffix that their signatures get."""
    suffixes = {}
    for own in locations:
        if not isinstance(own, (tuple, list)) or not hasattr(model, "attend"):
            raise ValueError(
                f"`{name}` must hold tuples of integers, for a model that has locations. "
                f"Received: {name}={locations!r}"
            )
        suffix = "_".join(str(count) for count in own) or "context"
        if suffix in suffixes:
            raise ValueError(
                f"`{name}` must differ: signature names would clash (attend_{suffix}). "
                f"Received: {name}={locations!r}"
            )
        suffixes[suffix] = tuple(own)
        # Whether the model can do it it says itself, before anything is written.
        model.attend(tf.zeros((1, *model.image_size, 3), tf.uint8), locations=tuple(own))
    return suffixes


def _checked_version(path, version):
    if version is not None and (not isinstance(version, numbers.Integral) or version < 1):
        raise ValueError(
            f"`version` must be an integer of at least 1. Received: version={version!r}"
        )
    if not path.exists():
        return version or 1
    if not path.is_dir():
        raise FileExistsError(f"`path` must be a folder. Received: path={str(path)!r}, a file")
    if version is None:
        names = [entry.name for entry in path.iterdir()]
        return 1 + max((int(name) for name in names if name.isdecimal()), default=0)
    if os.path.lexists(path / str(version)):
        raise FileExistsError(
            "`version` must not exist yet: nothing is overwritten. "
            f"Received: version={version} in path={str(path)!r}"
        )
    return version


@contextlib.contextmanager
def _new_version(path, version):
    """A folder that becomes the version at the end, or goes away."""
    was_there = path.exists()
    temporary = None
    try:
        try:
            path.mkdir(parents=True, exist_ok=True)
            # The name is no number: a server that watches the folder takes it for no version.
            temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{version}-", dir=path))
        except OSError as error:
            raise type(error)(
                f"`path` must be a folder that can be written to ({error.strerror}). "
                f"Received: path={str(path)!r}"
            ) from error
        yield temporary
        temporary.chmod(0o755)  # `mkdtemp` makes folders that only their owner can read
        os.rename(temporary, path / str(version))
    except BaseException:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        if not was_there:
            with contextlib.suppress(OSError):
                path.rmdir()
        raise
