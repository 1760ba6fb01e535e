"""Makes a folder of saved_models/ from a finished run: served, on a phone, in Keras, described.

    python experiments/publish.py --run=runs/needle_digits --output=saved_models/needle_digits_tnet

The folder gets `1/` (a SavedModel with warm-up requests), `model.keras` (without the optimizer),
`model.tflite` and its description, `labels.txt`, and `README.md`, the model
card: what it was trained on and how, what was measured, what it takes, and a SHA-256 of every file.
It appears whole or not at all.
"""

import hashlib
import json
import os
import pathlib
import tempfile

# TensorFlow's notes about oneDNN and missing GPUs would hide what is printed.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from absl import flags

from tnet_keras.evaluation import profile
from tnet_keras.export import export_for_serving, export_tflite
from tnet_keras.training import command

FLAGS = flags.FLAGS

flags.DEFINE_string("run", None, "Folder of a finished run.")
flags.DEFINE_string("output", None, "Folder to make.")
flags.DEFINE_string("what", "", "What the model is for, a sentence.")
flags.DEFINE_string("limits", "", "What it is not for, a sentence.")
flags.DEFINE_enum(
    "lite_variant", "dynamic_range", ["float32", "float16", "dynamic_range"], "Of model.tflite."
)
flags.DEFINE_list("class_names", None, "Names of the classes; else their numbers.")


def card(report, model, names, files):
    """Writes the model card, Markdown."""
    own = str(report["locations"])
    random = report.get("accuracy_random_locations", {}).get(own)
    facts = {
        "data": report["dataset"],
        "preset": report["preset"],
        "seed": report["seed"],
        f"test accuracy, {own} places looked at": f"{report['accuracy'][own]:.4f}",
        "the same at random places": None if random is None else f"{random:.4f}",
        "test images": f"{report['images']:,}",
        "hit rate": f"{report['hit_rate']:.4f}" if "hit_rate" in report else None,
        "parameters": f"{profile.count_parameters(model)[0]:,}",
        "million multiply-adds per image": f"{report['macs'][own] / 1e6:.1f}",
        "trained on": f"{report['hardware']}, {report['train_seconds']:.0f} s",
        "variant of model.tflite": FLAGS.lite_variant,
    }
    facts = {name: value for name, value in facts.items() if value is not None}
    height, width = model.image_size
    lines = [
        f"# {pathlib.Path(FLAGS.output).name}", "", FLAGS.what, "", "| | |", "|---|---|",
        *(f"| {name} | {value} |" for name, value in facts.items()), "", "Trained by", "", "```",
        report["command"], "```", "", "and published by", "", "```", command.command_line(), "```",
        "",
        f"**Input.** RGB images, 0-255, resized to {height}x{width} pixels inside; "
        "`classify_bytes` takes JPEG, PNG, GIF, BMP and WebP files of any size. "
        f"**Output.** {len(names)} classes ({', '.join(names)}) and the boxes that were looked at.",
        "", f"**Limits.** {FLAGS.limits}", "",
        "Versions: " + ", ".join(f"{k} {v}" for k, v in report["versions"].items()) + ".", "",
        "| file | bytes | SHA-256 |", "|---|---|---|",
        *(f"| {name} | {len(data):,} | {hashlib.sha256(data).hexdigest()} |"
          for name, data in files.items()),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def main():
    run, output = pathlib.Path(FLAGS.run or ""), pathlib.Path(FLAGS.output or "")
    if not FLAGS.output or output.exists():
        raise ValueError(f"`output` must be a folder to make. Received: output={FLAGS.output}")
    if not FLAGS.run or not (run / "report.json").is_file():
        raise ValueError(f"`run` must be the folder of a finished run. Received: run={FLAGS.run}")
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    # The state that the report's figures were measured with.
    model = keras.saving.load_model(run / "checkpoints" / "last.keras", compile=False)
    names = FLAGS.class_names or report.get("class_names")
    names = names or [str(label) for label in range(model.num_classes)]
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as temporary:
        folder = pathlib.Path(temporary) / output.name
        export_for_serving(model, folder, 1, names, warmup=(1,))
        model.save(folder / "model.keras")
        export_tflite(model, folder / "model.tflite", FLAGS.lite_variant, class_names=names)
        (folder / "labels.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*")) if path.is_file()
        }  # fmt: skip
        (folder / "README.md").write_text(card(report, model, names, files), encoding="utf-8")
        os.rename(folder, output)
    print(f"Wrote {output}: {sum(map(len, files.values())):,} bytes")


if __name__ == "__main__":
    command.run(main)
