"""What every experiment shares: its flags, and the way from a model and data to a report.

Everything goes to --workdir: report.json, report.md, accuracy_vs_compute.png, attention.png,
flags.txt (a flagfile that repeats the run), checkpoints, TensorBoard logs and a SavedModel.
Flags without a default are those of the preset.
"""

import abc
import json
import os
import pathlib
from collections.abc import Callable
from typing import NamedTuple

# TensorFlow's notes about oneDNN and missing GPUs would hide the progress bars.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from absl import flags

import tnet_keras
from tnet_keras import datasets, interop, training
from tnet_keras.evaluation import profile, report
from tnet_keras.export import export_for_serving
from tnet_keras.layers import SELECTORS
from tnet_keras.training import command, loop
from tnet_keras.visualization import draw_attention

FLAGS = flags.FLAGS

flags.DEFINE_string("name", None, "Name of the run.")
flags.DEFINE_string("workdir", None, "Folder to write to; runs/<name> if not given.")
flags.DEFINE_bool("overwrite", False, "Replace the run that is in the workdir.")
flags.DEFINE_bool("resume", False, "Go on with the unfinished run in the workdir.")
flags.DEFINE_bool("dry_run", False, "Build, train a step on noise, print plan and size, stop.")
flags.DEFINE_integer("seed", 0, "Seed of weights, data and sampling.", lower_bound=0)

flags.DEFINE_string("dataset", None, "Name of a data set, or a folder.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data.")
flags.DEFINE_integer("num_train_examples", None, "Drawn data: images; endless ones without.")
flags.DEFINE_integer("num_validation_examples", 500, "Drawn data: images.", lower_bound=1)
flags.DEFINE_integer("num_test_examples", 2000, "Drawn data: images.", lower_bound=1)
flags.DEFINE_bool("cache", False, "Drawn data: keep the training images in memory.")
flags.DEFINE_integer("random_shift", 0, "Drawn data: largest shift, pixels.", lower_bound=0)
flags.DEFINE_integer("warmup_examples", 0, "Drawn data: first ones are easier.", lower_bound=0)

flags.DEFINE_string("augmentation", None, "Recipe of the training images; see datasets.load.")
flags.DEFINE_enum("on_bad_image", None, ["error", "skip"], "What an unreadable image does.")

flags.DEFINE_string("preset", None, "Model; see tnet_keras.preset_names().")
flags.DEFINE_list("image_size", None, "Height and width, pixels.")
flags.DEFINE_enum("selector", None, list(SELECTORS), "What teaches where to look.")
flags.DEFINE_string("model_options", "{}", "JSON object: other arguments of from_preset.")

flags.DEFINE_string("warm_start", None, "Run, .keras file or checkpoint to take weights from.")
flags.DEFINE_list("warm_start_exclude", [], "Parts of the paths of variables not to take.")
flags.DEFINE_list("freeze", [], "Layers or parts of paths of variables that do not learn.")

flags.DEFINE_integer("epochs", 1, "Epochs.", lower_bound=1)
flags.DEFINE_integer("steps_per_epoch", None, "Steps; a pass over the data without.", lower_bound=1)
flags.DEFINE_integer("batch_size", 64, "Images per step.", lower_bound=1)
flags.DEFINE_integer("eval_batch_size", 100, "Images per batch of evaluation.", lower_bound=1)
flags.DEFINE_enum("optimizer", "adamw", list(training.OPTIMIZERS), "Optimizer.")
flags.DEFINE_float("learning_rate", 1e-3, "Highest learning rate.")
flags.DEFINE_integer("warmup_steps", 0, "Steps of rising learning rate.", lower_bound=0)
flags.DEFINE_enum("schedule", "cosine", list(training.SCHEDULES), "Course of the learning rate.")
flags.DEFINE_list("drops", ["0.8"], "piecewise: fractions of the training at which it drops.")
flags.DEFINE_float("drop_factor", 0.1, "piecewise: what a drop multiplies it by.")
flags.DEFINE_string("group_rates", None, "JSON object: layer or part of a path to its rate.")
flags.DEFINE_integer("accumulation_steps", 1, "Batches that make one update.", lower_bound=1)
flags.DEFINE_float("weight_decay", 0.0, "Decoupled weight decay.")
flags.DEFINE_float("clip_norm", None, "Largest norm of the gradients together.")
flags.DEFINE_float("clip_value", None, "Largest size of each value of the gradients.")
flags.DEFINE_enum(
    "precision", "float32", ["float32", "mixed_float16", "mixed_bfloat16"], "Dtype policy."
)
flags.DEFINE_enum("jit", "auto", ["auto", "true", "false"], "XLA; auto: on GPUs only.")
flags.DEFINE_enum("strategy", "one_device", list(training.strategy.STRATEGIES), "Where to train.")
flags.DEFINE_integer("pictures", 12, "Test images in attention.png.", lower_bound=1)
flags.DEFINE_bool("export", True, "Write a SavedModel.")

# Where a run goes, and whether over another, is no part of what repeats it.
NOT_RECORDED = ("workdir", "overwrite", "resume", "dry_run", "traceback")
# What may be different when a run is resumed, because it begins after the training.
MAY_CHANGE = (
    "eval_locations", "eval_patches", "eval_batch_size", "pictures", "export", "num_test_examples",
)  # fmt: skip


class Rival(NamedTuple):
    """A model that is trained beside the main one, to compare.

    Fields:
        label: Its row in the report.
        build: Function without arguments that makes the model.
        epochs, steps_per_epoch, batch_size, learning_rate: As the flags of the same names.
    """

    label: str
    build: Callable
    epochs: int
    steps_per_epoch: int | None
    batch_size: int
    learning_rate: float


def integers(name, texts):
    """Reads the integers of a list flag."""
    try:
        return tuple(int(text) for text in texts)
    except ValueError:
        raise ValueError(f"`{name}` must be integers. Received: {name}={','.join(texts)}") from None


def number_of_examples(split):
    """How many images a split of a drawn data set has, by its flag."""
    return {
        "train": FLAGS.num_train_examples,
        "validation": FLAGS.num_validation_examples,
        "test": FLAGS.num_test_examples,
    }[split]


def full_image_network(model):
    """Builds the network that sees the full image through a copy of the model's backbone."""
    config = model.backbone.get_config()
    config.update(input_shape=(*model.image_size, 3), statistics_levels=1, name="backbone")
    return tnet_keras.FullImageClassifier(
        tnet_keras.Backbone.from_config(config),
        model.num_classes,
        dropout=model.get_config()["dropout"],
        seed=FLAGS.seed,
    )


def json_object(name):
    """Reads a flag that is a JSON object."""
    text = FLAGS[name].value
    try:
        return dict(json.loads(text))
    except (TypeError, ValueError):
        raise ValueError(f"`{name}` must be a JSON object. Received: {name}={text}") from None


def model_options():
    """Reads --model_options and --image_size: arguments of `from_preset`."""
    options = json_object("model_options")
    if FLAGS.image_size is not None:
        options["image_size"] = integers("image_size", FLAGS.image_size)
    return options


def build_preset(options, preset=None):
    """Builds the preset of the flags; `options` change it."""
    try:
        return tnet_keras.from_preset(preset or FLAGS.preset, **options)
    except TypeError as error:
        # A value of the wrong JSON type; flags of their own have been checked by then.
        raise ValueError(
            f"`model_options` must hold values of the right types ({error}). "
            f"Received: model_options={FLAGS.model_options}"
        ) from error


def open_data(split, image_size, batch_size, **options):
    """Opens one split of --dataset with what the shared flags say.

    Args:
        split, image_size, batch_size: As for `tnet_keras.datasets.load`.
        **options: Its other arguments.

    Returns:
        `tnet_keras.datasets.Data`.
    """
    if FLAGS.dataset in datasets.DRAWN_NAMES:
        options.setdefault("num_examples", number_of_examples(split))
    else:
        if split == "train" and FLAGS.augmentation is not None:
            options.setdefault("augmentation", FLAGS.augmentation)
        if FLAGS.on_bad_image is not None:
            options.setdefault("on_bad_image", FLAGS.on_bad_image)
    return datasets.load(
        FLAGS.dataset, split, image_size, batch_size, FLAGS.seed, data_dir=FLAGS.data_dir,
        **options,
    )  # fmt: skip


def make_optimizer(model, learning_rate, steps):
    """Makes the optimizer of the flags.

    Args:
        model: The built model that it is for.
        learning_rate: Highest learning rate.
        steps: Steps of the whole training.
    """
    try:
        drops = [float(text) for text in FLAGS.drops]
    except ValueError:
        raise ValueError(
            f"`drops` must be numbers. Received: drops={','.join(FLAGS.drops)}"
        ) from None
    return training.make_optimizer(
        FLAGS.optimizer, learning_rate, steps, FLAGS.warmup_steps, FLAGS.weight_decay,
        FLAGS.clip_norm, FLAGS.clip_value, schedule=FLAGS.schedule, drops=drops,
        drop_factor=FLAGS.drop_factor, accumulation_steps=FLAGS.accumulation_steps,
        group_rates=json_object("group_rates") if FLAGS.group_rates else None, model=model,
    )  # fmt: skip


def prepare(model):
    """Gives a model the weights it starts from, and freezes what is not to learn."""
    if FLAGS.warm_start is not None:
        taken = interop.warm_start(model, FLAGS.warm_start, FLAGS.warm_start_exclude)
        print(
            f"Took {len(taken.matched)} variables from {FLAGS.warm_start}; it has none for "
            f"{len(taken.missing)} and {len(taken.unused)} that were not wanted",
            flush=True,
        )
    if FLAGS.freeze:
        training.freeze(model, FLAGS.freeze)


class Experiment(abc.ABC):
    """One experiment: the parts in which it differs from others. `run` does the rest.

    A subclass sets `defaults` (values of shared flags) and `recorded` (one flag of each module
    whose flags, beside the shared ones, are the record of a run), and implements `build_model`,
    `load`, `locations` and `evaluate`.
    """

    defaults = {}
    recorded = ()

    @abc.abstractmethod
    def build_model(self, num_classes=None):
        """Builds the model of the flags, for the data's classes once they are known."""

    def load(self, split, image_size, batch_size, **options):
        """Opens one split of the data; `start` among the options leaves examples out."""
        return open_data(split, image_size, batch_size, **options)

    def image_size(self, model):
        """Height and width of the images of the data, pixels."""
        return model.image_size

    @abc.abstractmethod
    def locations(self, model):
        """The numbers of locations to evaluate with, a list of tuples."""

    @abc.abstractmethod
    def evaluate(self, model, data, chosen):
        """Measures the model on the test data; returns a part of the report."""

    def rivals(self, model):
        """Models to train beside: dict from a name to `Rival`; "baseline" is the full image's."""
        return {}

    def drawing(self, model):
        """Further arguments of `draw_attention`."""
        return {}


def without_boxes(images, labels, *_):
    """What a model is evaluated on."""
    return images, labels


def check_batches(strategy, examples, rivals):
    """Refuses batches that some replica would get no image of: Keras 3.15 fails on those."""
    replicas = strategy.num_replicas_in_sync
    sizes = {"batch_size": FLAGS.batch_size, "eval_batch_size": FLAGS.eval_batch_size}
    sizes.update({f"{name}_batch_size": rival.batch_size for name, rival in rivals.items()})
    for name, value in sizes.items():
        if value % replicas:
            raise ValueError(
                f"`{name}` must be a multiple of the {replicas} replicas. Received: {name}={value}"
            )
    last = (examples or 0) % FLAGS.eval_batch_size
    if replicas > 1 and 0 < last < replicas:
        raise ValueError(
            f"`eval_batch_size` must leave no last batch of fewer images than the {replicas} "
            f"replicas. Received: eval_batch_size={FLAGS.eval_batch_size} for {examples} images"
        )


class _Training:
    """A compiled model with its stream, ready to be trained."""

    def __init__(self, experiment, model, image_size, budget, flag="steps_per_epoch"):
        self.experiment, self.model, self.budget = experiment, model, budget
        self.image_size = image_size
        data = experiment.load("train", image_size, budget.batch_size)
        steps = budget.steps_per_epoch
        if steps is None and data.num_examples is None:
            raise ValueError(f"`{flag}` must be given for endless data. Received: {flag}=None")
        self.steps = steps or max(1, data.num_examples // budget.batch_size)
        self.stream = data.dataset
        self.examples = budget.epochs * self.steps * budget.batch_size
        optimizer = make_optimizer(model, budget.learning_rate, budget.epochs * self.steps)
        model.compile(optimizer, jit_compile={"true": True, "false": False}.get(FLAGS.jit, "auto"))

    def run(self, validation, folder):
        """Trains; goes on where an earlier run stopped if --resume says so."""
        folder.mkdir(parents=True, exist_ok=True)  # of a rival
        progress = training.restore(self.model, folder) if FLAGS.resume else None
        if progress:
            done = progress["epochs"] * self.steps * self.budget.batch_size
            self.stream = self.experiment.load(
                "train", self.image_size, self.budget.batch_size, start=done
            ).dataset
        return training.fit(
            self.model, self.stream, self.budget.epochs, self.steps, folder,
            validation_data=validation, progress=progress,
        )  # fmt: skip


def run(experiment, argv=None):
    """Runs an experiment as a command.

    Args:
        experiment: An `Experiment`.
        argv: Command line, or None for that of the process.
    """
    for name, value in experiment.defaults.items():
        FLAGS.set_default(name, value)
    command.run(lambda: _main(experiment), argv)


def _main(experiment):
    keras.config.set_dtype_policy(FLAGS.precision)
    keras.utils.set_random_seed(FLAGS.seed)
    if FLAGS.dry_run:
        _dry_run(experiment)
        return
    workdir = pathlib.Path(FLAGS.workdir or os.path.join("runs", FLAGS.name))
    command.check_workdir(workdir, FLAGS.overwrite, FLAGS.resume)
    # absl knows the script that was started by another name than its module's.
    modules = map(FLAGS.find_module_defining_flag, ("preset", *experiment.recorded))
    own_flags = "".join(command.serialize_flags(name, NOT_RECORDED) for name in modules)
    if FLAGS.resume:
        command.check_same_run(workdir, own_flags, MAY_CHANGE)
    strategy = training.make_strategy(FLAGS.strategy)
    with strategy.scope():
        model = experiment.build_model()
        size = experiment.image_size(model)
        data = experiment.load("test", size, FLAGS.eval_batch_size)
        if len(data.class_names) != model.num_classes:
            model = experiment.build_model(len(data.class_names))
        chosen = experiment.locations(model)
        rivals = experiment.rivals(model)
        print(f"[1/5] Opening {FLAGS.dataset}", flush=True)
        validation = experiment.load("validation", size, FLAGS.eval_batch_size)
        for split in (validation, data):
            check_batches(strategy, split.num_examples, rivals)
        budget = Rival(
            FLAGS.preset, None, FLAGS.epochs, FLAGS.steps_per_epoch, FLAGS.batch_size,
            FLAGS.learning_rate,
        )  # fmt: skip
        main = _Training(experiment, model, size, budget)
        others = {
            name: _Training(experiment, rival.build(), size, rival, f"{name}_steps_per_epoch")
            for name, rival in rivals.items()
        }

        prepare(model)
        # Every mistake that can be found without training has been found by now.
        command.make_workdir(workdir, FLAGS.overwrite)
        with report.atomic_path(workdir / "flags.txt") as path:
            path.write_text(own_flags, encoding="utf-8")
        print(f"[2/5] Training {FLAGS.preset}; everything goes to {workdir}", flush=True)
        result = main.run(validation.dataset, workdir)
        gpus = len(tf.config.list_physical_devices("GPU"))
        measured = {
            "name": FLAGS.name,
            "command": command.command_line(),
            "dataset": FLAGS.dataset,
            "class_names": list(data.class_names),
            "preset": FLAGS.preset,
            "seed": FLAGS.seed,
            "train_seconds": result.train_seconds,
            "train_examples": main.examples,
            "hardware": f"{os.cpu_count()} CPU cores, {gpus} GPUs",
            "versions": report.versions(),
            "baseline_accuracy": None,
            "baseline_macs": None,
        }
        for name, other in others.items():
            print(f"[3/5] Training the {other.budget.label}", flush=True)
            _add_rival(measured, name, other, validation.dataset, data.dataset, workdir)
    print("[4/5] Measuring accuracy, policy and compute on the test images", flush=True)
    measured.update(experiment.evaluate(model, data, chosen))
    measured["parameters"], measured["trainable_parameters"] = profile.count_parameters(model)
    print("[5/5] Drawing and exporting", flush=True)
    if hasattr(model, "attend"):
        images, labels, *boxes = (part[: FLAGS.pictures] for part in next(iter(data.dataset)))
        with report.atomic_path(workdir / "attention.png") as path:
            draw_attention(
                images, model.attend(images), labels, data.class_names, path,
                true_boxes=boxes[0] if boxes else None, **experiment.drawing(model),
            )  # fmt: skip
    if FLAGS.export and not (workdir / "saved_model" / "1").exists():
        export_for_serving(
            model, workdir / "saved_model", 1, data.class_names, allow_untrained=True
        )
    report.write_report(measured, workdir)
    print(f"\n{report.markdown(measured)}\nWritten to {workdir}", flush=True)


def _dry_run(experiment):
    """Builds the model, trains one step on two noise images, and prints plan and size."""
    model = experiment.build_model()
    if FLAGS.freeze:
        training.freeze(model, FLAGS.freeze)
    measured = profile.profile(model, experiment.locations(model))
    # Without --steps_per_epoch the data set decides, which a dry run does not open.
    steps = FLAGS.steps_per_epoch or max(1000, FLAGS.warmup_steps + 1)
    optimizer = make_optimizer(model, FLAGS.learning_rate, FLAGS.epochs * steps)
    # Without a graph: a step of a large network takes seconds then, its tracing a minute.
    model.compile(optimizer, jit_compile=FLAGS.jit == "true", run_eagerly=FLAGS.jit != "true")
    random = np.random.default_rng(FLAGS.seed)
    images = random.integers(0, 256, (2, *model.image_size, 3), np.uint8)
    labels = random.integers(0, model.num_classes, 2)
    logs = model.train_on_batch(images, labels, return_dict=True)
    if not np.isfinite(logs["loss"]):
        raise FloatingPointError(f"The loss must be finite. Received: loss={logs['loss']}")
    length = f"{FLAGS.steps_per_epoch} steps" if FLAGS.steps_per_epoch else "a pass over the data"
    print(
        f"{FLAGS.preset} on {FLAGS.dataset}: {FLAGS.epochs} epochs of {length}, "
        f"{FLAGS.batch_size} images a step\n"
        f"{FLAGS.optimizer}, learning rate {FLAGS.learning_rate:g}, {FLAGS.schedule}"
        + (f", {FLAGS.group_rates}" if FLAGS.group_rates else "")
        + (f"\nstarts from {FLAGS.warm_start}" if FLAGS.warm_start else "")
        + f"\n{measured['parameters']:,} variables, {measured['trainable_parameters']:,} of them "
        f"trainable; a step on two noise images has the loss {float(logs['loss']):.3f}",
        flush=True,
    )
    print(json.dumps({"preset": FLAGS.preset, **measured, "loss": float(logs["loss"])}))


def _add_rival(measured, name, other, validation, test, workdir):
    """Trains a rival, measures it on the test images and enters it into the report."""
    folder = workdir / name if name == "baseline" else workdir / "rivals" / name
    result = other.run(validation, folder)
    scores = other.model.evaluate(
        test.map(without_boxes), return_dict=True, verbose=loop.progress_mode()
    )
    facts = {
        "accuracy": scores["accuracy"],
        "macs": profile.count_macs(other.model, (*other.image_size, 3)),
        "train_seconds": result.train_seconds,
        "examples": other.examples,
    }
    if name == "baseline":
        measured.update({f"baseline_{key}": value for key, value in facts.items()})
    else:
        label = other.budget.label
        measured.setdefault("rivals", {})[name] = {"label": label, **facts}
