"""What the first request costs after a server has replayed the warm-up requests.

    PYTHONPATH=. python benchmarks/first_request.py --model=saved_models/needle_digits_tnet/1

For each model a process of its own loads the exported version and replays
`assets.extra/tf_serving_warmup_requests`, as TensorFlow Serving does before it takes traffic. Then
each signature is asked once, and 20 times more. The images are other ones than those of the warm-up
requests, of the model's own size. With --nowarmup nothing is replayed, for comparison. Python's
garbage collector, which a server does not have, is off while requests are timed.

Needs the extra `serving`. Fails if a first request takes more than --most times the median of the
later ones.
"""

import gc
import json
import os
import pathlib
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_multi_string(
    "model", ["saved_models/needle_digits_tnet"],
    "Exported version, or the folder above, of which the highest is taken; repeatable.",
)  # fmt: skip
flags.DEFINE_integer("runs", 20, "Later requests of each signature.", lower_bound=1)
flags.DEFINE_bool("warmup", True, "Replay the warm-up requests.")
flags.DEFINE_float("most", 2.0, "Largest ratio of the first request to the median.")
flags.DEFINE_bool("one", False, "Measure in this process; what the script calls itself with.")


def version_of(path):
    """The folder that holds `saved_model.pb`: `path`, or the highest version in it."""
    from tnet_keras.export.predictor import find_version

    version = find_version(path) if path.is_dir() else None
    if version is None:
        sys.exit(f"error: `model` must be an exported folder. Received: model={str(path)!r}")
    return version


def replay(folder, signatures):
    """Answers the warm-up requests; returns how many there were."""
    import tensorflow as tf

    from tnet_keras.export.warmup import WARMUP_FILE, serving_messages

    requests = folder / "assets.extra" / WARMUP_FILE
    if not requests.is_file():
        sys.exit(f"error: `model` must hold warm-up requests. Received: model={str(folder)!r}")
    _, prediction_log_pb2 = serving_messages()
    count = 0
    for record in tf.data.TFRecordDataset(str(requests)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        request = log.predict_log.request
        inputs = {
            name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()
        }
        answer(signatures[request.model_spec.signature_name], inputs)
        count += 1
    return count


def answer(signature, inputs):
    """Milliseconds until all outputs are there."""
    start = time.perf_counter()
    for value in signature(**inputs).values():
        value.numpy()
    return 1e3 * (time.perf_counter() - start)


def measure(folder):
    """Rows of the table: signature, first request, median of the later ones, in ms."""
    import tensorflow as tf

    signatures = tf.saved_model.load(str(folder)).signatures
    contract = json.loads((folder / "assets.extra" / "contract.json").read_text(encoding="utf-8"))
    count = replay(folder, signatures) if FLAGS.warmup else 0
    height, width = contract["image_size"]
    # Drawn in NumPy: nothing of TensorFlow is warmed up but what the requests warm up.
    coarse = np.random.default_rng(1).integers(0, 256, (-(-height // 8), -(-width // 8), 3))
    pixels = coarse.astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    contents = tf.constant([tf.io.encode_jpeg(pixels).numpy()])
    gc.collect()
    gc.disable()
    rows = []
    for name in contract["signatures"]:
        inputs = {"image_bytes": contents}
        if name == "serving_default":
            inputs = {"images": tf.constant(pixels[None])}
        first, *later = [answer(signatures[name], inputs) for _ in range(1 + FLAGS.runs)]
        rows.append((name, first, float(np.median(later))))
    return count, rows


def main(_):
    if FLAGS.one:
        print(json.dumps(measure(pathlib.Path(FLAGS.model[-1]))))
        return
    worst = 0.0
    print("| model | signature | first request | median of later | ratio |")
    print("|---|---|---|---|---|")
    for path in FLAGS.model:
        folder = version_of(pathlib.Path(path))
        warmup = "--warmup" if FLAGS.warmup else "--nowarmup"
        command = [sys.executable, __file__, "--one", f"--model={folder}", warmup]
        done = subprocess.run(
            [*command, f"--runs={FLAGS.runs}"], stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            sys.exit(done.returncode)
        count, rows = json.loads(done.stdout.splitlines()[-1])
        for name, first, later in rows:
            worst = max(worst, first / later)
            print(f"| {folder} | {name} | {first:.1f} ms | {later:.1f} ms | {first / later:.2f} |")
        print(f"{count} warm-up requests replayed", file=sys.stderr)
    if FLAGS.warmup and worst > FLAGS.most:
        sys.exit(f"a first request took {worst:.2f} times the median, more than {FLAGS.most:g}")


if __name__ == "__main__":
    app.run(main)
