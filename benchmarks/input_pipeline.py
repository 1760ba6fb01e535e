"""How fast `load` hands out training images, and how long a training waits for them.

ImageNet's own TFDS builder prepares invented JPEG files in a temporary folder; two ways to read
them take turns:

* "load": `tnet_keras.datasets.load`, as the experiments train: shuffle, crop, resize, flip, batch,
* "plain": the same work in the `tf.data` that a user would write: read, parse, decode the whole
  image, crop, resize, flip, batch, prefetch.

Then a TNet-B0 at 448 px is trained on each. The share of waiting is the time of `next(iterator)`
over that time and the training step's together; batches are prefetched while a step runs.

    python benchmarks/input_pipeline.py            # images per second, share of waiting, CSV files

Timings depend on the machine; the ratios are the usable part.
"""

import csv
import io
import os
import pathlib
import tarfile
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import app, flags, logging

import tnet_keras
from tnet_keras import datasets

_SIDES = flags.DEFINE_list("sides", ["448", "896"], "Sides of the images in pixels.")
_IMAGES = flags.DEFINE_integer("images", 256, "Different images of each size.", lower_bound=2)
_BATCH = flags.DEFINE_integer("batch", 32, "Images per batch.", lower_bound=1)
_BATCHES = flags.DEFINE_integer("batches", 40, "Timed batches of a turn.", lower_bound=1)
_WARM_UP = flags.DEFINE_integer("warm_up", 10, "Batches, or steps, before timing.", lower_bound=1)
_TURNS = flags.DEFINE_integer("turns", 5, "Turns of each pipeline.", lower_bound=1)
_TNET = flags.DEFINE_string("tnet", "tnet_efficientnet_b0_cub", "Preset of the TNet.")
_TRAIN_BATCH = flags.DEFINE_integer("train_batch", 8, "Images per step.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 20, "Timed training steps of a turn.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", "benchmarks/results", "Folder of the CSV files.")


def noisy_jpeg(random, side):
    """The bytes of a soft random image with some noise: about as hard to decode as a photo."""
    soft = tf.image.resize(random.integers(0, 256, (side // 16, side // 16, 3)), (side, side))
    pixels = soft + random.normal(0.0, 6.0, soft.shape)
    pixels = tf.cast(tf.clip_by_value(pixels, 0.0, 255.0), tf.uint8)
    return tf.io.encode_jpeg(pixels, quality=90).numpy()


def pack(members):
    """The bytes of a tar file of (name, bytes) pairs."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, contents in members:
            info = tarfile.TarInfo(name)
            info.size = len(contents)
            archive.addfile(info, io.BytesIO(contents))
    return buffer.getvalue()


def prepare(folder, side):
    """Prepares images of one size as ImageNet in `folder`; returns bytes per image."""
    random, manual = np.random.default_rng(side), folder / "manual"
    manual.mkdir(parents=True)
    images = [noisy_jpeg(random, side) for _ in range(_IMAGES.value)]
    classes = ("n01440764", "n01443537")  # The labels 0 and 1.
    inner = [
        (f"{name}.tar", pack([(f"{name}_{i}.JPEG", x) for i, x in enumerate(images[k::2])]))
        for k, name in enumerate(classes)
    ]
    (manual / "ILSVRC2012_img_train.tar").write_bytes(pack(inner))
    # The builder wants it, nothing reads it.
    validation = pack([("ILSVRC2012_val_00000001.JPEG", images[0])])
    (manual / "ILSVRC2012_img_val.tar").write_bytes(validation)
    configuration = tfds.download.DownloadConfig(manual_dir=manual)
    tfds.builder("imagenet2012", data_dir=folder).download_and_prepare(
        download_config=configuration
    )
    return sum(map(len, images)) / len(images)


def plain_pipeline(folder, side, batch):
    """What a user would write without this package, with its crops and its dtype."""
    features = {
        "image": tf.io.FixedLenFeature((), tf.string),
        "label": tf.io.FixedLenFeature((), tf.int64),
    }

    def read(record):
        example = tf.io.parse_single_example(record, features)
        image = tf.io.decode_jpeg(example["image"], channels=3)
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            tf.shape(image), tf.constant([[[0.0, 0.0, 1.0, 1.0]]]), min_object_covered=0.1,
            aspect_ratio_range=(0.5, 2.0), area_range=(0.85, 1.0), max_attempts=50,
        )  # fmt: skip
        image = tf.image.resize(tf.slice(image, begin, size), (side, side))
        image = tf.image.random_flip_left_right(image)
        return tf.cast(tf.round(image), tf.uint8), example["label"]

    files = sorted(str(file) for file in folder.glob("imagenet2012/*/*-train.tfrecord*"))
    records = tf.data.TFRecordDataset(files, num_parallel_reads=tf.data.AUTOTUNE)
    examples = records.shuffle(_IMAGES.value).repeat().map(read, tf.data.AUTOTUNE)
    return examples.batch(batch, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def pipelines(folder, side, batch):
    """The two endless streams of batches by name."""
    loaded = datasets.load("imagenet2012", "train", side, batch, data_dir=folder)
    return {"load": loaded.dataset, "plain": plain_pipeline(folder, side, batch)}


def images_per_second(dataset, batch):
    """Rate of a stream that is read as fast as it goes, once it is warm."""
    iterator = iter(dataset)
    for _ in range(_WARM_UP.value):
        next(iterator)
    start = time.perf_counter()
    for _ in range(_BATCHES.value):
        next(iterator)
    return batch * _BATCHES.value / (time.perf_counter() - start)


def waiting_and_training(dataset, step):
    """Milliseconds of `next(iterator)` and of the training step, means over the steps."""
    iterator = iter(dataset)
    waited = trained = 0.0
    for number in range(-_WARM_UP.value, _STEPS.value):
        start = time.perf_counter()
        batch = next(iterator)
        ready = time.perf_counter()
        step(batch)["loss"].numpy()
        if number >= 0:
            waited += ready - start
            trained += time.perf_counter() - ready
    return 1e3 * waited / _STEPS.value, 1e3 * trained / _STEPS.value


def take_turns(streams, measure):
    """Measures streams in turns, so that a drift of the machine's speed hits all of them."""
    results = {name: [] for name in streams}
    for _ in range(_TURNS.value):
        # Only one stream is open at a time: an open one goes on filling its buffers.
        for name, dataset in streams.items():
            results[name].append(measure(dataset))
    return results


def write(name, header, rows):
    """Writes one CSV file to the folder of results."""
    folder = pathlib.Path(_OUTPUT.value)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def measure_rates(folder, side, file_bytes):
    """Images per second of both streams; prints them and writes a CSV file."""
    batch, cores = _BATCH.value, len(os.sched_getaffinity(0))
    rates = take_turns(
        pipelines(folder, side, batch), lambda dataset: images_per_second(dataset, batch)
    )
    rows = []
    for name, values in rates.items():
        p10, median, p90 = np.percentile(values, [10, 50, 90]).round(1)
        rows.append([name, batch, round(file_bytes), median, p10, p90])
        print(f"{side} px {name:5s} median {median:8.1f} images/s  p10 {p10:8.1f}  p90 {p90:8.1f}")
    ratio = np.median(np.divide(rates["load"], rates["plain"]))
    print(f"{side} px: load / plain {ratio:.3f}, {file_bytes / 1e3:.0f} kB per image", flush=True)
    header = ["pipeline", "batch", "file_bytes", "median_images_per_s", "p10", "p90"]
    write(f"input-tf{tf.__version__}-uint8-cpu{cores}-b{batch}-{side}px.csv", header, rows)


def measure_waiting(folder):
    """Share of a TNet's training that is waiting, for both streams; prints and writes it."""
    model = tnet_keras.from_preset(_TNET.value)
    side, batch, cores = model.image_size[0], _TRAIN_BATCH.value, len(os.sched_getaffinity(0))
    if not (folder / str(side)).is_dir():
        prepare(folder / str(side), side)
    model.compile("adamw")
    step = tf.function(model.train_step)
    measured = take_turns(
        pipelines(folder / str(side), side, batch),
        lambda dataset: waiting_and_training(dataset, step),
    )
    rows = []
    for name, values in measured.items():
        waited, trained = np.transpose(values)
        share = np.median(waited / (waited + trained))
        rows.append(
            [name, batch, np.median(waited).round(2), np.median(trained).round(1), share.round(4)]
        )
        print("{:5s} batch {}: waits {} ms, trains {} ms, share of waiting {}".format(*rows[-1]))
    header = ["pipeline", "batch", "median_wait_ms", "median_step_ms", "median_share"]
    write(f"waiting-tf{tf.__version__}-fp32-cpu{cores}-b{batch}-{side}px.csv", header, rows)


def main(_):
    tfds.disable_progress_bar()
    logging.set_verbosity(logging.ERROR)  # TFDS tells of every step.
    for name, batch in (("batch", _BATCH.value), ("train_batch", _TRAIN_BATCH.value)):
        if batch > _IMAGES.value:
            raise app.UsageError(f"--{name} must be at most --images, {_IMAGES.value}.")
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        for side in map(int, _SIDES.value):
            measure_rates(folder / str(side), side, prepare(folder / str(side), side))
        measure_waiting(folder)


if __name__ == "__main__":
    app.run(main)
