"""A client of a model server, and its command: `python -m tnet_keras.export.client --help`."""

import collections
import io
import numbers
import os
import pathlib
import sys

import numpy as np
import PIL.Image
from absl import flags

from tnet_keras.export.files import find_images, read_file
from tnet_keras.export.transports import transport
from tnet_keras.module_command import run_module_command
from tnet_keras.ops.decode import DECODE_STATUSES

# As `experiments/predict.py` has it.
SOME_BAD = 3
# A batch is sent when it has reached this many bytes, however few images it holds.
_BATCH_BYTES = 2**25
# What the server allows it says itself; a request cannot hold 2 GiB.
_LONGEST_FILE = 2**30
_USAGE = """Asks a model server about images and prints one line for each.

  python -m tnet_keras.export.client --server=http://localhost:8501 --model=digits --images=folder

Exit code: 0 every image was read, 3 some could not be, 2 an error or none, 130 interrupted.
"""


class ServingClient:
    """Asks a model that `export_for_serving` wrote and that a model server holds.

    Images are sent in batches of at most `batch_size`; no answer depends on what else is in one.

    Args:
        server: "http://host:8501" or "https://…" for REST; "host:8500" or "grpc://host:8500" for
            gRPC, unencrypted, which needs the extra `serving`.
        model: Name that the model is served under.
        signature: A signature of the model, such as "classify_bytes" (images as files), "attend" or
            "serving_default" (pixels).
        version: int ≥ 1, or None for the newest.
        timeout: Seconds to wait for an answer, > 0.
        batch_size: int ≥ 1, most images in a request. For `serving_default`, only images of one
            size share a request.
        threshold: For "classify_bytes_adaptive": how probable the most probable class must be for
            an answer without further looks.

    Raises:
        ValueError: If an argument is outside its range.
        ImportError: If gRPC is asked for without the extra `serving`.

    Example:

    ```python
    client = ServingClient("http://localhost:8501", "digits")
    # for answer in client.each(["a.jpg", "b.png"]):
    #     print(answer["labels"][0], answer["scores"][0], answer["boxes"])
    client.close()
    ```
    """

    def __init__(
        self,
        server,
        model,
        signature="classify_bytes",
        version=None,
        timeout=60.0,
        batch_size=16,
        threshold=None,
    ):
        for name, value in (("model", model), ("signature", signature)):
            if not isinstance(value, str) or not value:
                raise ValueError(f"`{name}` must be a name. Received: {name}={value!r}")
        for name, value in (("version", version), ("batch_size", batch_size)):
            allowed = name == "version" and value is None
            if not allowed and (not _is_integer(value) or value < 1):
                raise ValueError(
                    f"`{name}` must be an integer of at least 1. Received: {name}={value!r}"
                )
        if isinstance(timeout, bool) or not isinstance(timeout, numbers.Real) or not timeout > 0:
            raise ValueError(f"`timeout` must be above 0 seconds. Received: timeout={timeout!r}")
        if threshold is not None and not isinstance(threshold, numbers.Real):
            raise ValueError(f"`threshold` must be a number. Received: threshold={threshold!r}")
        self._threshold = threshold
        self._transport = transport(server, model, version, timeout)
        self._signature = signature
        self._pixels = signature == "serving_default"
        self._batch_size = batch_size

    def classify(self, images):
        """Asks about images.

        Args:
            images: One image or an iterable of them. An image is a path, the bytes of a file (JPEG,
                PNG, GIF, BMP or WebP), or a uint8 array `[H, W, 3]`, which is sent losslessly.
                `serving_default` takes arrays only.

        Returns:
            list of dicts, one per image in order, of what the signature gives for it; of those that
            classify: `labels` list of k str and `scores` float32 `[k]`, the most probable classes,
            best first; `probabilities` float32 `[C]`; `boxes` float32 `[T, 4]`, `(y0, x0, y1, x1)`
            in pixels of the upright image that was sent; `box_scores` float32 `[T]`; `levels` int32
            `[T]`; and always `status` int, 0 if the image was read, and `reason` str, the words for
            it in `DECODE_STATUSES`.

        Raises:
            ValueError: If an image is of another kind, or the server does not hold the model,
                version or signature.
            OSError: If a file cannot be read; if the server cannot be reached or takes too long.
            RuntimeError: If the server refuses the request for another reason.
        """
        return list(self.each(images))

    def each(self, images):
        """Asks about images one batch after the other, in bounded memory.

        Args:
            images: See `classify`.

        Yields:
            dicts, see `classify`, and the same errors.
        """
        if isinstance(images, (str, bytes, os.PathLike)):
            images = [images]
        elif isinstance(images, np.ndarray) and images.ndim == 3:
            images = [images]
        batch, size = [], 0
        for image in images:
            content = _pixels(image) if self._pixels else _file(image)
            length = content.nbytes if self._pixels else len(content)
            full = len(batch) == self._batch_size or size + length > _BATCH_BYTES
            if batch and (full or (self._pixels and batch[0].shape != content.shape)):
                yield from self._answers(batch)
                batch, size = [], 0
            batch.append(content)
            size += length
        if batch:
            yield from self._answers(batch)

    def versions(self):
        """The versions of the model that the server knows.

        Returns:
            dict from int to a state such as "AVAILABLE".

        Raises:
            ValueError: If the server does not hold the model.
            OSError: If the server cannot be reached or takes too long.
            RuntimeError: If it refuses the request for another reason.
        """
        return self._transport.versions()

    def close(self):
        """Closes the connection."""
        self._transport.close()

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        self.close()

    def _answers(self, batch):
        inputs = {"images": np.stack(batch)} if self._pixels else {"image_bytes": batch}
        if self._threshold is not None:
            inputs["threshold"] = np.full(len(batch), self._threshold, np.float32)
        outputs = self._transport.predict(self._signature, inputs)
        wrong = [key for key, value in outputs.items() if np.shape(value)[:1] != (len(batch),)]
        if wrong or "status" not in outputs:
            raise RuntimeError(
                f"The server's answer must hold a status and one entry per image ({len(batch)}). "
                f"Received: outputs {sorted(outputs)}, of other length: {sorted(wrong)}"
            )
        for index in range(len(batch)):
            yield _answer({key: value[index] for key, value in outputs.items()})


def _is_integer(value):
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _file(image):
    """The bytes to send for an image."""
    if isinstance(image, bytes):
        return image
    if isinstance(image, (str, os.PathLike)):
        path = pathlib.Path(image)
        if path.exists() and not path.is_file():
            # Reading a pipe would wait for somebody to write.
            raise OSError(f"`images` must be regular files. Received: {str(path)!r}")
        return path.read_bytes()
    stream = io.BytesIO()
    PIL.Image.fromarray(_pixels(image)).save(stream, "PNG")
    return stream.getvalue()


def _pixels(image):
    shape = getattr(image, "shape", None)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        if len(shape) == 3 and shape[2] == 3 and image.size:
            return image
    what = type(image).__name__ if shape is None else f"{image.dtype} of shape {shape}"
    raise ValueError(
        "`images` must be uint8 arrays [H, W, 3], or files or their bytes for a signature that "
        f"takes bytes. Received: {what}"
    )


def _answer(row):
    status = int(row["status"])
    known = 0 <= status < len(DECODE_STATUSES)
    row = row | {"status": status, "reason": DECODE_STATUSES[status] if known else "unknown"}
    if "labels" in row:
        row["labels"] = [str(label) for label in row["labels"]]
    if "boxes" in row:
        # JSON does not say what an empty list is empty of.
        row["boxes"] = np.reshape(row["boxes"], (-1, 4)).astype(np.float32)
    for name, dtype in (("box_scores", np.float32), ("levels", np.int32)):
        if name in row:
            row[name] = np.asarray(row[name], dtype)
    return row


def main(argv=None):
    """Runs the command.

    Args:
        argv: list of str, the command line, the program's name first; None: the process's.

    Returns:
        Exit code: 0 every image was read, 3 some could not be, 2 none could be or an error, which
        is named in one line on stderr, 130 interrupted.
    """
    values = _define()

    def action():
        for name in ("server", "model", "images"):
            if not values[name].value:
                raise flags.Error(f"Flag --{name} must be given.")
        return _print_answers(values)

    return run_module_command(values, _USAGE, action, argv, (RuntimeError, ImportError))


def _define():
    values = flags.FlagValues()
    only = {"flag_values": values}
    flags.DEFINE_string(
        "server", None, "http://host:8501 for REST, host:8500 for gRPC (extra `serving`).", **only
    )
    flags.DEFINE_string("model", None, "Name that the model is served under.", **only)
    flags.DEFINE_multi_string(
        "images", [], "A file, a folder, or a pattern such as 'folder/*.jpg'; repeatable.", **only
    )
    flags.DEFINE_string("signature", "classify_bytes", "Signature that takes bytes.", **only)
    flags.DEFINE_integer("version", None, "Default: the newest.", lower_bound=1, **only)
    flags.DEFINE_float("timeout", 60.0, "Seconds to wait for an answer.", **only)
    flags.DEFINE_integer("batch_size", 16, "Images in a request.", lower_bound=1, **only)
    flags.DEFINE_float("threshold", None, "Of classify_bytes_adaptive.", **only)
    return values


def _print_answers(values):
    paths = [path for pattern in values.images for path in find_images(pattern).paths]
    options = (
        values.signature, values.version, values.timeout, values.batch_size, values.threshold
    )  # fmt: skip
    read, bad = 0, 0
    # Files that were looked at and have no line yet, in order: path, and why it is not sent.
    waiting = collections.deque()

    def contents():
        for path in paths:
            try:
                content = read_file(path, _LONGEST_FILE)
            except ValueError as error:
                waiting.append((path, str(error)))
            else:
                waiting.append((path, None))
                yield content

    def tell_unsent():
        count = 0
        while waiting and waiting[0][1] is not None:
            _tell(waiting[0][0], f"not read: {waiting.popleft()[1]}")
            count += 1
        return count

    with ServingClient(values.server, values.model, *options) as client:
        for answer in client.each(contents()):
            if "labels" not in answer:
                raise ValueError(
                    "`signature` must give labels. "
                    f"Received: signature={values.signature!r}, which gives {sorted(answer)}"
                )
            bad += tell_unsent()
            _tell(waiting.popleft()[0], _line(answer))
            good = answer["status"] == 0
            read, bad = read + good, bad + (not good)
        bad += tell_unsent()
    if not read:
        raise ValueError(
            f"None of the {len(paths):,} files could be read. "
            f"Received: images={', '.join(values.images)}"
        )
    return SOME_BAD if bad else 0


def _tell(path, text):
    # A terminal may refuse the undecodable bytes of a name.
    print(f"{path.encode('utf-8', 'replace').decode('utf-8')}: {text}", flush=True)


def _line(answer):
    if answer["status"]:
        return f"not read: {answer['reason']}"
    boxes = [
        f"({', '.join(f'{edge:g}' for edge in box)})" for box in answer["boxes"].round(2).tolist()
    ]
    looked = f", looked at {' '.join(boxes)}" if boxes else ""
    return f"{answer['labels'][0]} {answer['scores'][0]:.4f}{looked}"


if __name__ == "__main__":
    sys.exit(main())
