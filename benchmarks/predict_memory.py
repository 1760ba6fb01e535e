"""Memory of experiments/predict.py over many files, some of them broken.

    PYTHONPATH=. python benchmarks/predict_memory.py --files=1000 --broken=20

Draws JPEG files of many sizes, asks a small untrained TNet about a tenth of them and about all,
each in a process of its own, and prints the rows, the files that were named as broken, the exit
codes and both peaks of memory. Fails unless the counts are right and the peaks are within
--tolerance.
"""

import csv
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_integer("files", 1000, "Files.", lower_bound=10)
flags.DEFINE_integer("broken", 20, "How many of them are broken.", lower_bound=0)
flags.DEFINE_integer("side", 1000, "Longest side of an image, pixels.", lower_bound=32)
flags.DEFINE_float("tolerance", 1.1, "Largest ratio of the peaks.")

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Runs the command and then says how much memory it took at most.
_MEASURED = (
    "import sys; sys.path[:0] = sys.argv[1:3]\n"
    "import predict, timing\n"
    "try: predict.main(['predict.py', *sys.argv[3:]])\n"
    "finally: print('peak', timing.own_peak_megabytes())\n"
)


def write_files(folder, count, broken, side):
    """Draws `count` JPEG files, `broken` of which are cut short, of text or empty."""
    import tensorflow as tf

    random = np.random.default_rng(0)
    bad = set(random.choice(count, broken, replace=False).tolist())
    for number in range(count):
        height, width = random.integers(side // 2, side + 1, 2)
        coarse = random.integers(0, 256, (1, 8, 8, 3)).astype(np.float32)
        pixels = tf.cast(tf.image.resize(coarse, (height, width))[0], tf.uint8)
        contents = tf.io.encode_jpeg(pixels).numpy()
        if number in bad:
            contents = (contents[: len(contents) // 2], b"no image", b"")[number % 3]
        (folder / f"{number:05d}.jpg").write_bytes(contents)
    return bad


def ask(model, images, out):
    """Exit code of the command, and its peak of memory in megabytes."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(ROOT / "experiments"), str(ROOT / "benchmarks"),
         f"--model={model}", f"--images={images}", f"--out={out}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("peak ")]
    if not lines:
        sys.exit(done.stderr)
    return done.returncode, float(lines[-1].split()[1])


def main(argv):
    """Draws the files, asks twice, prints and checks."""
    del argv
    from tnet_keras import Backbone, RegionGrid, TNet

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "images").mkdir()
        bad = write_files(folder / "images", FLAGS.files, FLAGS.broken, FLAGS.side)
        backbone = Backbone("convnet", input_shape=(64, 64, 3))
        model = TNet(backbone, 10, RegionGrid(3, 3, 0.5), image_size=(256, 256))
        model.save(folder / "model.keras")
        tenth = f"{folder}/images/{'[0-9]' * 4}0.jpg"
        code, few = ask(folder / "model.keras", tenth, folder / "few.csv")
        print(f"{len(range(0, FLAGS.files, 10)):,} files: exit code {code}, peak {few:.0f} MB")
        code, many = ask(folder / "model.keras", folder / "images", folder / "all.csv")
        with open(folder / "all.csv", encoding="utf-8", newline="") as stream:
            rows = len(list(csv.DictReader(stream)))
        named = set()
        if bad:
            with open(folder / "all.errors.csv", encoding="utf-8", newline="") as stream:
                named = {int(pathlib.Path(row["path"]).stem) for row in csv.DictReader(stream)}
        print(f"{FLAGS.files:,} files: exit code {code}, peak {many:.0f} MB")
        print(f"{rows:,} rows, {len(named):,} named as broken; ratio of peaks {many / few:.3f}")
        right = rows == FLAGS.files - len(bad) and named == bad and code == (3 if bad else 0)
        if not right or many > few * FLAGS.tolerance:
            sys.exit("not as it should be")


if __name__ == "__main__":
    app.run(main)
