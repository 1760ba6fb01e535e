"""From JPEG bytes to an answer, stage by stage, for images of several sizes.

    python benchmarks/served_stages.py --sides=896,4096

A TNet whose image size is that of the file (no resize before it looks), two locations at 224 px:
what it costs to decode grows with the file, what the network does with its views does not.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from absl import app, flags
from timing import take_turns

import tnet_keras
from tnet_keras.ops import extract_patches, resize_view
from tnet_keras.ops.decode import decode_image

FLAGS = flags.FLAGS

flags.DEFINE_list("sides", ["896", "4096"], "Sides of the square images, pixels.")
flags.DEFINE_integer("runs", 15, "Runs of each stage; the median counts.")
flags.DEFINE_string("preset", "tnet_efficientnet_b0_fmow_448", "A TNet of two levels.")


def stages_of(model, contents):
    """One function per stage, each with what it needs ready."""
    image = decode_image(contents)[0][None]
    side = image.shape[1]
    view = model.backbone.image_shape[:2]
    chosen = tf.constant([[0, 4]])
    windows = tf.gather(tf.cast(model.grid.boxes(side, side), tf.int32), chosen)
    cell = model.grid.cell_size(side, side)
    views = tf.concat([resize_view(image, view)] * (1 + chosen.shape[1]), axis=0)
    network = tf.function(lambda x: model.backbone(x, level=1, training=False)[1])
    decode = tf.function(lambda x: decode_image(x)[0])
    shape = image.shape
    whole = tf.function(
        lambda x: model.attend(tf.ensure_shape(decode_image(x)[0][None], shape))["probabilities"]
    )
    shrink = tf.function(lambda x: resize_view(x, view))
    crop = tf.function(lambda x: extract_patches(x, windows, view, box_size=cell))
    return {
        "decode": lambda: decode(contents),
        "view": lambda: shrink(image),
        "crop": lambda: crop(image),
        "network, 3 views": lambda: network(views),
        "bytes to answer": lambda: whole(contents),
    }


def main(_):
    generator = np.random.default_rng(0)
    rows = {}
    for side in map(int, FLAGS.sides):
        small = generator.integers(0, 256, (side // 8, side // 8, 3)).astype(np.float32)
        pixels = tf.cast(tf.image.resize(small, (side, side), "bicubic"), tf.int32)
        contents = tf.io.encode_jpeg(tf.cast(tf.clip_by_value(pixels, 0, 255), tf.uint8))
        model = tnet_keras.from_preset(FLAGS.preset, image_size=(side, side), locations=(2,))
        times = take_turns(stages_of(model, contents), 2, FLAGS.runs)
        rows[side] = {name: np.median(values) for name, values in times.items()}
    print("| side, pixels | " + " | ".join(next(iter(rows.values()))) + " |")
    print("|---" * (1 + len(next(iter(rows.values())))) + "|")
    for side, times in rows.items():
        print(f"| {side:,} | " + " | ".join(f"{time:.1f} ms" for time in times.values()) + " |")


if __name__ == "__main__":
    app.run(main)
