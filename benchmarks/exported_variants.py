"""Accuracy, agreement with Keras, size and latency of every exported variant of one model.

    python benchmarks/exported_variants.py --model=saved_models/needle_digits_tnet/model.keras

Needle digits, test split; int8 is calibrated with images of the training stream. Latency is the
median of single images, one after the other.
"""

import importlib.util
import os
import pathlib
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from absl import app, flags

from tnet_keras import datasets
from tnet_keras.export import export_for_serving, export_onnx, export_tflite, load_predictor
from tnet_keras.export.tflite import VARIANTS

FLAGS = flags.FLAGS

flags.DEFINE_string("model", "saved_models/needle_digits_tnet/model.keras", "A .keras file.")
flags.DEFINE_integer("images", 2000, "Test images.")
flags.DEFINE_integer("timed", 100, "Images that are timed.")
flags.DEFINE_integer("seed", 1, "Seed of the scenes: that of the training.")


def size_of(path):
    """Bytes of a file, or of the files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def main(_):
    model = keras.saving.load_model(FLAGS.model, compile=False)
    size = model.image_size
    test = datasets.load("needle_digits", "test", size, 1, FLAGS.seed, num_examples=FLAGS.images)
    images, labels = map(np.concatenate, zip(*((i, y) for i, y in test.dataset), strict=True))
    train = datasets.load("needle_digits", "train", size, 200, FLAGS.seed)
    representative = np.asarray(next(iter(train.dataset))[0])
    print("| variant | MB | accuracy | same class as Keras | same boxes | ms an image |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        kept = folder / "model.keras"
        model.save(kept)
        files = {"Keras": kept, "SavedModel": export_for_serving(model, folder / "served", 1)}
        for variant in VARIANTS:
            calibration = representative if variant == "int8" else None
            files[f"LiteRT {variant}"] = export_tflite(
                model, folder / f"{variant}.tflite", variant, calibration
            )
        if importlib.util.find_spec("tf2onnx"):
            files["ONNX"] = export_onnx(model, folder / "model.onnx")
        wanted = None
        for name, path in files.items():
            predictor = load_predictor(path)
            predictor(images[:1])
            found, times = [], []
            for image in images:
                start = time.perf_counter()
                found.append(predictor(image[None]))
                times.append(time.perf_counter() - start)
            classes = np.array([answer["probabilities"][0].argmax() for answer in found])
            boxes = np.array([answer["boxes"][0] for answer in found])
            wanted = wanted or (classes, boxes)
            same_boxes = (boxes == wanted[1]).all((1, 2)).mean()
            print(
                f"| {name} | {size_of(path) / 1e6:.2f} | {(classes == labels).mean():.4f} | "
                f"{(classes == wanted[0]).mean():.4f} | {same_boxes:.4f} | "
                f"{1e3 * np.median(times[: FLAGS.timed]):.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    app.run(main)
