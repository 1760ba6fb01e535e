"""Trains, measures, reports and exports a TNet.

    python experiments/imagenet_tnet.py --flagfile=experiments/flagfiles/needle_digits.flags
    python experiments/imagenet_tnet.py --preset=tnet_bagnet77_imagenet --dry_run

Everything goes to --workdir: report.json, report.md, accuracy_vs_compute.png, attention.png,
flags.txt (a flagfile that repeats the run), checkpoints, TensorBoard logs and a SavedModel.
Flags without a default are those of the preset.
"""

import json
import math
import os
import pathlib

# TensorFlow's notes about oneDNN and missing GPUs would hide the progress bars.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf
from absl import flags

import tnet_keras
from tnet_keras import datasets, training
from tnet_keras.evaluation import evaluate_policy, profile, report
from tnet_keras.export import export_saved_model
from tnet_keras.models.checks import check_locations
from tnet_keras.training import command, loop
from tnet_keras.visualization import draw_attention

FLAGS = flags.FLAGS

flags.DEFINE_string("name", "imagenet_tnet", "Name of the run.")
flags.DEFINE_string("workdir", None, "Folder to write to; runs/<name> if not given.")
flags.DEFINE_bool("overwrite", False, "Replace the run that is in the workdir.")
flags.DEFINE_bool("resume", False, "Go on with the unfinished run in the workdir.")
flags.DEFINE_bool("dry_run", False, "Build the model, print its size as JSON, and stop.")
flags.DEFINE_integer("seed", 0, "Seed of weights, data and sampling.", lower_bound=0)

flags.DEFINE_string("dataset", "needle_digits", "needle_digits, imagenet2012 or a folder.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps imagenet2012.")
flags.DEFINE_integer("num_train_examples", None, "needle_digits: scenes; endless ones without.")
flags.DEFINE_integer("num_validation_examples", 500, "needle_digits: scenes.", lower_bound=1)
flags.DEFINE_integer("num_test_examples", 2000, "needle_digits: scenes.", lower_bound=1)
flags.DEFINE_bool("cache", False, "needle_digits: keep the training scenes in memory.")
flags.DEFINE_integer("random_shift", 0, "needle_digits: pixels.", lower_bound=0)
flags.DEFINE_integer("warmup_examples", 0, "needle_digits: first ones have larger digits.")
flags.DEFINE_float("warmup_scale", 1.0, "needle_digits: how much larger the first digit is.")

flags.DEFINE_string("preset", "tnet_needle_digits", "Model; see tnet_keras.preset_names().")
flags.DEFINE_list("image_size", None, "Height and width, pixels.")
flags.DEFINE_list("locations", None, "Locations per grid and level in training, such as 2,1.")
flags.DEFINE_list("eval_locations", None, "Locations to evaluate with, such as 0,1,2,2x1.")
flags.DEFINE_enum("selection", None, ["sample", "top_k"], "Choice of locations in training.")
flags.DEFINE_enum("rule", None, ["paper", "original"], "Learning rule.")
flags.DEFINE_integer("samples", None, "Location samples per image in training.", lower_bound=1)
flags.DEFINE_float("lambda_f", None, "Weight of the policy terms.")
flags.DEFINE_float("lambda_c", None, "Share of the sequence in the class loss; 1: no others.")
flags.DEFINE_float("lambda_r", None, "Share of the sequence in the policy loss; 1: no others.")
flags.DEFINE_enum(
    "batch_norm_statistics", None, ["per_level", "shared"], "Moving averages of batch norm."
)
flags.DEFINE_string("model_options", "{}", "JSON object: other arguments of from_preset.")

flags.DEFINE_integer("epochs", 1, "Epochs.", lower_bound=1)
flags.DEFINE_integer("steps_per_epoch", None, "Steps; a pass over the data without.", lower_bound=1)
flags.DEFINE_integer("batch_size", 64, "Images per step.", lower_bound=1)
flags.DEFINE_integer("eval_batch_size", 100, "Images per batch of evaluation.", lower_bound=1)
flags.DEFINE_enum("optimizer", "adamw", list(loop.OPTIMIZERS), "Optimizer.")
flags.DEFINE_float("learning_rate", 1e-3, "Highest learning rate.")
flags.DEFINE_integer("warmup_steps", 0, "Steps of rising learning rate.", lower_bound=0)
flags.DEFINE_float("weight_decay", 0.0, "Decoupled weight decay.")
flags.DEFINE_float("clip_norm", None, "Largest norm of the gradients together.")
flags.DEFINE_enum(
    "precision", "float32", ["float32", "mixed_float16", "mixed_bfloat16"], "Dtype policy."
)
flags.DEFINE_enum("jit", "auto", ["auto", "true", "false"], "XLA; auto: on GPUs only.")
flags.DEFINE_enum("strategy", "one_device", list(training.strategy.STRATEGIES), "Where to train.")
flags.DEFINE_integer("baseline_epochs", 0, "Full-image network of the same backbone.")
flags.DEFINE_integer("baseline_steps_per_epoch", None, "As steps_per_epoch.", lower_bound=1)
flags.DEFINE_integer("baseline_batch_size", None, "As batch_size.", lower_bound=1)
flags.DEFINE_float("baseline_learning_rate", None, "As learning_rate.")
flags.DEFINE_integer("pictures", 12, "Test images in attention.png.", lower_bound=1)
flags.DEFINE_bool("export", True, "Write a SavedModel.")

# Where a run goes, and whether over another, is no part of what repeats it.
NOT_RECORDED = ("workdir", "overwrite", "resume", "dry_run", "traceback")
# What may be different when a run is resumed, because it begins after the training.
MAY_CHANGE = ("eval_locations", "eval_batch_size", "pictures", "export", "num_test_examples")


def integers(name, texts):
    """Reads the integers of a list flag."""
    try:
        return tuple(int(text) for text in texts)
    except ValueError:
        raise ValueError(f"`{name}` must be integers. Received: {name}={','.join(texts)}") from None


def build_model(num_classes=None):
    """Builds the preset with what the flags change in it."""
    try:
        overrides = dict(json.loads(FLAGS.model_options))
    except (TypeError, ValueError):
        raise ValueError(
            f"`model_options` must be a JSON object. Received: model_options={FLAGS.model_options}"
        ) from None
    given = {
        "num_classes": num_classes,
        "selection": FLAGS.selection,
        "rule": FLAGS.rule,
        "num_samples": FLAGS.samples,
        "lambda_f": FLAGS.lambda_f,
        "lambda_c": FLAGS.lambda_c,
        "lambda_r": FLAGS.lambda_r,
    }
    overrides.update({name: value for name, value in given.items() if value is not None})
    if FLAGS.image_size is not None:
        overrides["image_size"] = integers("image_size", FLAGS.image_size)
    if FLAGS.locations is not None:
        overrides["locations"] = integers("locations", FLAGS.locations)
    if FLAGS.batch_norm_statistics == "shared":
        overrides["statistics_levels"] = 1
    overrides = {"seed": FLAGS.seed, **overrides}
    try:
        model = tnet_keras.from_preset(FLAGS.preset, **overrides)
        if FLAGS.batch_norm_statistics == "per_level":
            levels = getattr(model, "levels", 1)
            if model.backbone.statistics_levels != levels:
                model = tnet_keras.from_preset(
                    FLAGS.preset, **overrides, statistics_levels=levels
                )
        return model
    except TypeError as error:
        # A value of the wrong JSON type; flags of their own have been checked by then.
        raise ValueError(
            f"`model_options` must hold values of the right types ({error}). "
            f"Received: model_options={FLAGS.model_options}"
        ) from error


def build_baseline(model):
    """Builds the network that sees the full image through a copy of the model's backbone."""
    config = model.backbone.get_config()
    config.update(input_shape=(*model.image_size, 3), statistics_levels=1, name="backbone")
    return tnet_keras.FullImageClassifier(
        tnet_keras.Backbone.from_config(config),
        model.num_classes,
        dropout=model.classifier.dropout,
        seed=FLAGS.seed,
    )


def locations_to_evaluate(model):
    """Reads --eval_locations; by default up to five locations, one more at each deeper level."""
    if isinstance(model, tnet_keras.models.PatchSelectionClassifier):
        return [(model.selection.num_patches,)]
    if not isinstance(model, tnet_keras.TNet):
        return [()]
    if FLAGS.eval_locations is not None:
        texts = FLAGS.eval_locations
        chosen = {integers("eval_locations", text.split("x")) for text in texts}
    elif model.levels == 1:
        chosen = {()}
    else:
        counts = (1, 2, 3, 5) if model.levels == 2 else (1, 2, 3)
        deeper = (1,) * (model.levels - 2)
        chosen = {(), *((count, *deeper) for count in counts if count <= model.grid.num_cells)}
    chosen = {check_locations(item, model.levels, model.grid) for item in chosen}
    if FLAGS.eval_locations is None:
        # Where a default looks at as many regions as the model's own, the model's own counts.
        own = profile.total_locations(model.locations)
        chosen = {item for item in chosen if profile.total_locations(item) != own}
    chosen.add(model.locations)
    return list(profile.keyed_locations(chosen).values())


def load(split, model, batch_size, **options):
    """Opens one split of the data set."""
    if FLAGS.dataset == "needle_digits":
        if split == "train":
            options.update(
                num_examples=FLAGS.num_train_examples,
                cache=FLAGS.cache,
                random_shift=FLAGS.random_shift,
                warmup_examples=FLAGS.warmup_examples,
                warmup_scale=FLAGS.warmup_scale,
            )
        else:
            count = {"validation": FLAGS.num_validation_examples, "test": FLAGS.num_test_examples}
            options.update(num_examples=count[split], with_boxes=split == "test")
    return datasets.load(
        FLAGS.dataset, split, model.image_size, batch_size, FLAGS.seed,
        data_dir=FLAGS.data_dir, **options,
    )  # fmt: skip


def without_boxes(images, labels, *_):
    """What a model is evaluated on."""
    return images, labels


def check_batches(strategy, examples):
    """Refuses batches that some replica would get no image of: Keras 3.15 fails on those."""
    replicas = strategy.num_replicas_in_sync
    for name in ("batch_size", "eval_batch_size", "baseline_batch_size"):
        value = FLAGS[name].value
        if value is not None and value % replicas:
            raise ValueError(
                f"`{name}` must be a multiple of the {replicas} replicas. Received: {name}={value}"
            )
    last = (examples or 0) % FLAGS.eval_batch_size
    if replicas > 1 and 0 < last < replicas:
        raise ValueError(
            f"`eval_batch_size` must leave no last batch of fewer images than the {replicas} "
            f"replicas. Received: eval_batch_size={FLAGS.eval_batch_size} for {examples} images"
        )


def prepare(model, epochs, steps, batch_size, learning_rate, flag="steps_per_epoch"):
    """Opens the training data of a model and compiles it; returns the stream and the steps."""
    data = load("train", model, batch_size)
    if steps is None and data.num_examples is None:
        raise ValueError(f"`{flag}` must be given for endless data. Received: {flag}=None")
    steps = steps or max(1, data.num_examples // batch_size)
    optimizer = training.make_optimizer(
        FLAGS.optimizer, learning_rate, epochs * steps, FLAGS.warmup_steps, FLAGS.weight_decay,
        FLAGS.clip_norm,
    )  # fmt: skip
    model.compile(optimizer, jit_compile={"true": True, "false": False}.get(FLAGS.jit, "auto"))
    return data.dataset, steps


def train(model, stream, steps, validation, folder, epochs, batch_size):
    """Trains a prepared model; goes on where an earlier run stopped if --resume says so."""
    progress = training.restore(model, folder) if FLAGS.resume else None
    # imagenet2012 has no cheap way to the middle of its stream: it starts over.
    if progress and FLAGS.dataset != "imagenet2012":
        done = progress["epochs"] * steps * batch_size
        stream = load("train", model, batch_size, start=done).dataset
    return training.fit(
        model, stream, epochs, steps, folder, validation_data=validation, progress=progress
    )


def main():
    keras.config.set_dtype_policy(FLAGS.precision)
    keras.utils.set_random_seed(FLAGS.seed)
    if FLAGS.dry_run:
        model = build_model()
        measured = profile.profile(model, locations_to_evaluate(model))
        print(json.dumps({"preset": FLAGS.preset, **measured}))
        return
    workdir = pathlib.Path(FLAGS.workdir or os.path.join("runs", FLAGS.name))
    command.check_workdir(workdir, FLAGS.overwrite, FLAGS.resume)
    own_flags = command.serialize_flags(FLAGS.find_module_defining_flag("preset"), NOT_RECORDED)
    if FLAGS.resume:
        command.check_same_run(workdir, own_flags, MAY_CHANGE)
    strategy = training.make_strategy(FLAGS.strategy)
    with strategy.scope():
        model = build_model()
        if not isinstance(model, tnet_keras.TNet):
            raise ValueError(f"`preset` must be a TNet. Received: preset={FLAGS.preset!r}")
        data = load("test", model, FLAGS.eval_batch_size)
        if len(data.class_names) != model.num_classes:
            model = build_model(len(data.class_names))
        chosen = locations_to_evaluate(model)
        print(f"[1/5] Opening {FLAGS.dataset}", flush=True)
        validation = load("validation", model, FLAGS.eval_batch_size)
        for split in (validation, data):
            check_batches(strategy, split.num_examples)
        validation = validation.dataset
        stream, steps = prepare(
            model, FLAGS.epochs, FLAGS.steps_per_epoch, FLAGS.batch_size, FLAGS.learning_rate
        )
        baseline = build_baseline(model) if FLAGS.baseline_epochs else None
        if baseline is not None:
            baseline_batch_size = FLAGS.baseline_batch_size or FLAGS.batch_size
            baseline_stream, baseline_steps = prepare(
                baseline, FLAGS.baseline_epochs, FLAGS.baseline_steps_per_epoch,
                baseline_batch_size, FLAGS.baseline_learning_rate or FLAGS.learning_rate,
                flag="baseline_steps_per_epoch",
            )  # fmt: skip

        # Every mistake that can be found without training has been found by now.
        command.make_workdir(workdir, FLAGS.overwrite)
        with report.atomic_path(workdir / "flags.txt") as path:
            path.write_text(own_flags, encoding="utf-8")
        print(f"[2/5] Training {FLAGS.preset}; everything goes to {workdir}", flush=True)
        result = train(model, stream, steps, validation, workdir, FLAGS.epochs, FLAGS.batch_size)
        gpus = len(tf.config.list_physical_devices("GPU"))
        measured = {
            "name": FLAGS.name,
            "command": command.command_line(),
            "dataset": FLAGS.dataset,
            "preset": FLAGS.preset,
            "seed": FLAGS.seed,
            "train_seconds": result.train_seconds,
            "train_examples": FLAGS.epochs * steps * FLAGS.batch_size,
            "hardware": f"{os.cpu_count()} CPU cores, {gpus} GPUs",
            "versions": report.versions(),
            "baseline_accuracy": None,
            "baseline_macs": None,
        }
        if baseline is not None:
            print("[3/5] Training the full-image network of the same backbone", flush=True)
            (workdir / "baseline").mkdir(exist_ok=True)
            result = train(
                baseline, baseline_stream, baseline_steps, validation, workdir / "baseline",
                FLAGS.baseline_epochs, baseline_batch_size,
            )  # fmt: skip
            scores = baseline.evaluate(
                data.dataset.map(without_boxes), return_dict=True, verbose=loop.progress_mode()
            )
            measured.update(
                baseline_accuracy=scores["accuracy"],
                baseline_macs=profile.count_macs(baseline, (*baseline.image_size, 3)),
                baseline_train_seconds=result.train_seconds,
                baseline_examples=FLAGS.baseline_epochs * baseline_steps * baseline_batch_size,
            )
    print("[4/5] Measuring accuracy, policy and compute on the test images", flush=True)
    measured.update(
        evaluate_policy(model, data.dataset, chosen, FLAGS.seed, verbose=loop.progress_mode()),
        policy_entropy_uniform=math.log(model.grid.num_cells),
    )
    measured["parameters"], measured["trainable_parameters"] = profile.count_parameters(model)
    print("[5/5] Drawing and exporting", flush=True)
    images, labels, *boxes = (part[: FLAGS.pictures] for part in next(iter(data.dataset)))
    with report.atomic_path(workdir / "attention.png") as path:
        draw_attention(
            images, model.attend(images), labels, data.class_names, path,
            true_boxes=boxes[0] if boxes else None, base_resolution=model.base_resolution,
            grid=model.grid,
        )  # fmt: skip
    if FLAGS.export and not (workdir / "saved_model" / "1").exists():
        export_saved_model(model, workdir / "saved_model" / "1")
    report.write_report(measured, workdir)
    print(f"\n{report.markdown(measured)}\nWritten to {workdir}", flush=True)


if __name__ == "__main__":
    command.run(main)
