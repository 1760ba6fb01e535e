"""Patch selection against its feature network on the full image, at one megapixel.

The set-up of the paper's speed benchmark (CVPR 2021): ResNet-50 features, max pooling, a scorer
with squeeze-excite on the image downscaled by 4, ten patches of 100 x 100 px out of 1000 x 1000,
batch 2, hard Top-K. Compiled functions take turns on the same images in one process:

* the whole model,
* the ten patches through the feature network and nothing else,
* the view and its scores and nothing else,
* the same feature network on the full image, with a linear classifier,
* a ResNet-18 on the full image.

    python benchmarks/patch_selection_speed.py

Timings depend on the machine; the ratios are the usable part.
"""

import csv
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "2")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import numpy as np
import tensorflow as tf
import timing
from absl import app, flags

import tnet_keras
from tnet_keras.evaluation import count_macs
from tnet_keras.evaluation.profile import count_macs_by_locations
from tnet_keras.ops import downscale_view

_BATCH = flags.DEFINE_integer("batch", 2, "Images per call.", lower_bound=1)
_WARM_UP = flags.DEFINE_integer("warm_up", 3, "Calls before timing.", lower_bound=1)
_RUNS = flags.DEFINE_integer("runs", 15, "Timed calls of each function.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", "benchmarks/results", "Folder of the CSV file.")
_SIDE = 1000


def main(_):
    resnet50 = tnet_keras.Backbone("resnet50", (100, 100, 3), input_scaling="unit")
    selective = tnet_keras.from_preset("topk_billiards_max", scorer={"squeeze_excite": True})
    selective = type(selective)(
        resnet50, selective.selection, 9, selective.scorer, selective.aggregation
    )
    plain = {
        name: tnet_keras.FullImageClassifier(
            tnet_keras.Backbone(name, (_SIDE, _SIDE, 3), input_scaling="unit"), 9
        )
        for name in ("resnet50", "resnet18")
    }
    random = np.random.default_rng(0)
    shape = (_BATCH.value, _SIDE, _SIDE, 3)
    images = tf.constant(random.integers(0, 256, shape, np.uint8))
    patches = tf.random.stateless_uniform((10 * _BATCH.value, 100, 100, 3), (0, 0), 0.0, 255.0)

    def score():
        view = downscale_view(images, selective.selection.view_size)
        return selective.scorer(selective.backbone.scale_images(view))

    functions = {
        "patch selection": lambda: selective(images),
        "its ten patches": lambda: resnet50(patches, level=1)[1],
        "its view and scores": score,
        "full image, ResNet-50": lambda: plain["resnet50"](images),
        "full image, ResNet-18": lambda: plain["resnet18"](images),
    }
    functions = {name: tf.function(f, autograph=False) for name, f in functions.items()}
    times = timing.take_turns(functions, _WARM_UP.value, _RUNS.value)
    (macs,) = count_macs_by_locations(selective, [(10,)]).values()
    counts = {"patch selection": macs}
    for name, label in (("resnet50", "ResNet-50"), ("resnet18", "ResNet-18")):
        counts[f"full image, {label}"] = count_macs(plain[name], (_SIDE, _SIDE, 3))
    rows = [
        [name, *np.percentile(values, [50, 10, 90]).round(1), counts.get(name, "")]
        for name, values in times.items()
    ]
    folder = pathlib.Path(_OUTPUT.value)
    folder.mkdir(parents=True, exist_ok=True)
    cores = len(os.sched_getaffinity(0))
    name = f"patches-tf{tf.__version__}-fp32-cpu{cores}-b{_BATCH.value}-{_SIDE}px.csv"
    with (folder / name).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["function", "median_ms", "p10_ms", "p90_ms", "multiply_adds"])
        writer.writerows(rows)
    for name, median, low, high, count in rows:
        rate = 1e3 * _BATCH.value / median
        print(f"{name:24s} median {median:8.1f} ms  p10 {low:8.1f}  p90 {high:8.1f}  "
              f"{rate:6.2f} images/s  {count:,} multiply-adds" if count else
              f"{name:24s} median {median:8.1f} ms  p10 {low:8.1f}  p90 {high:8.1f}")
    ours = np.array(times["patch selection"])
    for name in ("full image, ResNet-50", "full image, ResNet-18"):
        ratio = np.median(np.array(times[name]) / ours)
        work = counts[name] / macs
        print(f"{name} / patch selection: time {ratio:.2f}, multiply-adds {work:.2f}")


if __name__ == "__main__":
    app.run(main)
