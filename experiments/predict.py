"""Asks a trained model about a file, a folder or a pattern, and writes a table.

    python experiments/predict.py --model=runs/demo/saved_model --images=photos --out=answers.csv

One line per image: path, the most probable classes with their probabilities, height and width, and
where the model looked, `[[y0, x0, y1, x1], …]` in pixels of the upright image. Files that cannot be
read are listed with the reason on stderr and in answers.errors.csv. Images are read one after the
other: memory does not grow with their number.

Exit codes: 0 all files were read; 3 some were not; 2 nothing could be done; 130 interrupted.
"""

import os
import sys

# TensorFlow's notes about oneDNN and missing GPUs would hide the progress bar.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import flags

from tnet_keras.training import command

# Flags of its own: those of the experiments have other meanings under the same names.
FLAGS = flags.FlagValues()
SOME_BAD = 3


def _define(kind, name, default, text, **options):
    kind(name, default, text, flag_values=FLAGS, **options)


_define(
    flags.DEFINE_string, "model", None, "A .keras, .tflite or .onnx file or a SavedModel folder."
)
_define(flags.DEFINE_string, "images", None, "An image file, a folder, or a pattern: 'a/**/*.jpg'.")
_define(flags.DEFINE_string, "out", None, "CSV file to write.")
_define(
    flags.DEFINE_bool, "overwrite", False, "Replace --out and the pictures of --draw, if there."
)
_define(
    flags.DEFINE_string, "draw", None,
    "Folder for pictures of the images with their boxes: sub-folders as those of the images, the "
    "names with .png appended. Nothing that is there is replaced without --overwrite.",
)  # fmt: skip
_define(flags.DEFINE_string, "labels", None, "Text file, a class name a line; else the model's.")
_define(flags.DEFINE_bool, "help", False, "Show this text.", short_name="?")
for _name, _default, _text in (
    ("top", 5, "Classes to name for each image."),
    ("batch_size", 8, "Images that the model sees together."),
    ("max_pixels", 2**26, "Larger images are refused before they are decoded."),
    ("max_bytes", 2**26, "Longer files are refused before they are read."),
):
    _define(flags.DEFINE_integer, _name, _default, _text, lower_bound=1)


class Progress:
    """A bar on a terminal; nothing where stderr goes to a file."""

    def __init__(self, total):
        self.total, self.shown = total, sys.stderr.isatty()

    def __call__(self, done, bad):
        if self.shown:
            bar = "=" * (30 * done // self.total)
            end = "\n" if done == self.total else ""
            text = f"\r[{bar:30}] {done:,} of {self.total:,} files, {bad:,} bad"
            print(text, end=end, file=sys.stderr, flush=True)


def main(argv=None):
    """Runs the command.

    Args:
        argv: Command line, or None for that of the process.
    """
    FLAGS.unparse_flags()
    for name in FLAGS:
        FLAGS[name].unparse()
    command.run(_main, argv, FLAGS)


def _main():
    if FLAGS.help:
        print(f"{__doc__}\n{FLAGS.get_help()}")
        return
    for name in ("model", "images", "out"):
        if not FLAGS[name].value:
            raise ValueError(f"`{name}` must be given. Received: {name}={FLAGS[name].value}")
    # Imported here, so that a misspelt flag is named at once.
    from tnet_keras.export import files, load_predictor
    from tnet_keras.export.class_names import read_class_names
    from tnet_keras.export.whole_files import check_new_file

    out = check_new_file("out", FLAGS.out, ".csv", FLAGS.overwrite)
    images = files.find_images(FLAGS.images)
    names = read_class_names("labels", FLAGS.labels) if FLAGS.labels else None
    predictor = load_predictor(FLAGS.model)
    counts = files.predict_files(
        predictor, images, out, predictor.class_names if names is None else names, FLAGS.top,
        FLAGS.batch_size, FLAGS.max_pixels, FLAGS.max_bytes, FLAGS.draw, FLAGS.overwrite,
        Progress(len(images.paths)),
    )  # fmt: skip
    if images.left_out:
        print(f"left out {images.left_out:,} files not named like images", file=sys.stderr)
    errors = out.with_suffix(".errors.csv")
    if counts.bad:
        # The table is the list; what is on the terminal may scroll away.
        for path, reason in files.read_errors(errors):
            print(f"bad: {path}: {reason}", file=sys.stderr)
    if not counts.read:
        old = f" {out} is of an earlier run." if out.exists() else ""
        raise ValueError(
            f"None of the files could be read; see {errors}.{old} Received: images={FLAGS.images}"
        )
    print(f"{counts.read:,} images: {out}" + (f"; {counts.bad:,} bad: {errors}" * bool(counts.bad)))
    if counts.bad:
        sys.exit(SOME_BAD)


if __name__ == "__main__":
    main()
