"""TNet against the passes it is made of, and against the plain network on the full image.

Three compiled functions take turns on the same images in one process, so that a drift of the
machine's speed hits all of them:

* TNet-B0 at 896 px with 4 locations (2, then 1 each),
* 1 + 4 passes of the same backbone, same weights, at the base resolution and nothing else,
* EfficientNet-B0 at 896 px.

    python benchmarks/tnet_speed.py                # ratios, and one CSV per batch size

Peak memory is that of a fresh process each. Timings depend on the machine; the ratios are the
usable part.
"""

import csv
import json
import os
import pathlib
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "2")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import numpy as np
import tensorflow as tf
import timing
from absl import app, flags

import tnet_keras

_BATCH_SIZES = flags.DEFINE_list("batch_sizes", ["1", "8"], "Batch sizes to measure.")
_WARM_UP = flags.DEFINE_integer("warm_up", 10, "Calls before timing.", lower_bound=1)
_RUNS = flags.DEFINE_integer("runs", 50, "Timed calls of each function.", lower_bound=1)
_TNET = flags.DEFINE_string("tnet", "tnet_efficientnet_b0_fmow_896", "Preset of the TNet.")
_PLAIN = flags.DEFINE_string("plain", "efficientnet_b0_fmow_896", "Preset of the full image.")
_OUTPUT = flags.DEFINE_string("output", "benchmarks/results", "Folder of the CSV files.")
_MEMORY_OF = flags.DEFINE_string("memory_of", None, "Only run this function, print peak memory.")


def build(names, batch):
    """Compiled functions by name, and the images they take."""
    functions = {}
    tnet = plain = None
    if {"tnet", "passes"} & set(names):
        tnet = tnet_keras.from_preset(_TNET.value)
    if "plain" in names:
        plain = tnet_keras.from_preset(_PLAIN.value)
    height, width = (tnet or plain).image_size
    images = np.random.default_rng(0).integers(0, 256, (batch, height, width, 3), np.uint8)
    if "tnet" in names:
        functions["tnet"] = tf.function(lambda: tnet(images_tensor))
    if "passes" in names:
        views = 1 + int(np.cumprod(tnet.locations).sum())
        base = tf.random.stateless_uniform((batch, *tnet.base_resolution, 3), (0, 0), 0.0, 255.0)

        def passes():
            # A pass must depend on the one before, or the graph merges them.
            total, view = 0.0, base
            for _ in range(views):
                _, vector = tnet.backbone(view, level=1)
                total += vector
                view = base + 1e-20 * vector[0, 0]
            return total

        functions["passes"] = tf.function(passes)
    if "plain" in names:
        functions["plain"] = tf.function(lambda: plain(images_tensor))
    images_tensor = tf.constant(images)
    return functions


def peak_megabytes(name, batch):
    """Peak resident memory of a fresh process that runs one of the functions."""
    command = [sys.executable, __file__, f"--memory_of={name}", f"--batch_sizes={batch}"]
    command += [f"--tnet={_TNET.value}", f"--plain={_PLAIN.value}"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return json.loads(lines[-1])["peak_megabytes"]


def main(_):
    if _MEMORY_OF.value:
        (function,) = build((_MEMORY_OF.value,), int(_BATCH_SIZES.value[0])).values()
        for _ in range(3):
            function().numpy()
        print(json.dumps({"peak_megabytes": round(timing.own_peak_megabytes())}))
        return
    folder = pathlib.Path(_OUTPUT.value)
    folder.mkdir(parents=True, exist_ok=True)
    cores = len(os.sched_getaffinity(0))
    for batch in map(int, _BATCH_SIZES.value):
        functions = build(("tnet", "passes", "plain"), batch)
        times = timing.take_turns(functions, _WARM_UP.value, _RUNS.value)
        rows = []
        for name, values in times.items():
            p10, median, p90 = np.percentile(values, [10, 50, 90]).round(1)
            rows.append([name, batch, median, p10, p90, peak_megabytes(name, batch)])
        path = folder / f"infer-tf{tf.__version__}-fp32-cpu{cores}-b{batch}-896px.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["function", "batch", "median_ms", "p10_ms", "p90_ms", "peak_mb"])
            writer.writerows(rows)
        for row in rows:
            print("{:8s} batch {} median {:8.1f} ms  p10 {:8.1f}  p90 {:8.1f}  peak {} MB".format(
                *row
            ))
        median = {row[0]: row[2] for row in rows}
        # Pair by pair: each ratio is of calls that ran one after the other.
        pairs = {
            other: np.median(np.divide(times[a], times[b]))
            for other, a, b in (
                ("TNet / its backbone passes", "tnet", "passes"),
                ("full image / TNet", "plain", "tnet"),
            )
        }
        print(f"batch {batch}: TNet / its backbone passes {median['tnet'] / median['passes']:.3f} "
              f"(pairwise {pairs['TNet / its backbone passes']:.3f})")
        print(f"batch {batch}: full image / TNet {median['plain'] / median['tnet']:.2f} "
              f"(pairwise {pairs['full image / TNet']:.2f})", flush=True)


if __name__ == "__main__":
    app.run(main)
