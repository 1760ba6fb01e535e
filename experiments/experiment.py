"""What every experiment shares: its flags, and the parts that are made by them.

Flags without a default are those of the preset. What is done with the parts is in running.py.
"""

import abc
import json
import os
import pathlib
from collections.abc import Callable
from typing import NamedTuple

# TensorFlow's notes about oneDNN and missing GPUs would hide the progress bars.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import flags

import tnet_keras
from tnet_keras import datasets, interop, training
from tnet_keras.datasets.encoded_images import CACHES
from tnet_keras.datasets.tfds_source import is_tfds_name
from tnet_keras.layers import SELECTORS
from tnet_keras.training.command import DATA_COMMENT

FLAGS = flags.FLAGS


class _CacheParser(flags.ArgumentParser):
    """Reads --cache, which may have no value."""

    syntactic_help = f"one of {', '.join(CACHES)}; without a value: memory"

    def parse(self, argument):
        value = {"true": "memory", "false": "none"}.get(argument, argument)
        if value not in CACHES:
            raise ValueError(f"value should be {self.syntactic_help}")
        return value

    def flag_type(self):
        return "string"


class _CacheFlag(flags.Flag):
    """--cache, --nocache, --cache=disk."""

    def __init__(self):
        text = "Read images once and keep them; of drawn data those of training, in memory only."
        super().__init__(_CacheParser(), None, "cache", "none", text, boolean=True)

    def serialize(self):
        return {"none": "--nocache", "memory": "--cache"}.get(self.value, f"--cache={self.value}")


flags.DEFINE_string("name", None, "Name of the run.")
flags.DEFINE_string("workdir", None, "Folder to write to; runs/<name> if not given.")
flags.DEFINE_bool("overwrite", False, "Replace the run that is in the workdir.")
flags.DEFINE_bool("resume", False, "Go on with the unfinished run in the workdir, if any.")
flags.DEFINE_bool("dry_run", False, "Build, train a step on noise, print plan and size, stop.")
flags.DEFINE_integer("seed", 0, "Seed of weights, data and sampling.", lower_bound=0)

flags.DEFINE_string("dataset", None, "Name of a data set, or a folder.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data.")
flags.DEFINE_integer("num_train_examples", None, "Drawn data: images; endless ones without.")
flags.DEFINE_integer("num_validation_examples", 500, "Drawn data: images.", lower_bound=1)
flags.DEFINE_integer("num_test_examples", 2000, "Drawn data: images.", lower_bound=1)
flags.DEFINE_flag(_CacheFlag())
flags.DEFINE_string("cache_dir", None, "--cache=disk: where; <workdir>/cache if not given.")
flags.DEFINE_integer("random_shift", 0, "Drawn data: largest shift, pixels.", lower_bound=0)
flags.DEFINE_integer("warmup_examples", 0, "Drawn data: first ones are easier.", lower_bound=0)

flags.DEFINE_string("augmentation", None, "Recipe of the training images; see datasets.load.")
flags.DEFINE_enum("on_bad_image", None, ["error", "skip"], "What an unreadable image does.")
flags.DEFINE_integer("max_pixels", None, "Largest image, height times width.", lower_bound=1)

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
flags.DEFINE_bool("nesterov", True, "sgd: Nesterov's momentum.")
flags.DEFINE_float("learning_rate", 1e-3, "Highest learning rate.")
flags.DEFINE_integer("warmup_steps", 0, "Steps of rising learning rate.", lower_bound=0)
flags.DEFINE_float("weight_decay", 0.0, "Decoupled weight decay.")
flags.DEFINE_float("clip_norm", None, "Largest norm of the gradients together.")
flags.DEFINE_float("clip_value", None, "Largest size of each value of the gradients.")
flags.DEFINE_enum("schedule", "cosine", list(training.SCHEDULES), "Of the learning rate.")
flags.DEFINE_list("lr_drops", ["0.8"], "piecewise: fractions of the steps where the rate drops.")
flags.DEFINE_float("lr_drop_factor", 0.1, "piecewise: what a drop multiplies the rate by.")
flags.DEFINE_integer("accumulation_steps", 1, "Batches that make one update.", lower_bound=1)
flags.DEFINE_list("group_rates", [], "Learning rates of parts, such as backbone=1e-4.")
flags.DEFINE_integer("checkpoint_steps", None, "Steps between checkpoints.", lower_bound=1)
flags.DEFINE_integer("steps_per_execution", 1, "Steps without a return to Python.", lower_bound=1)
flags.DEFINE_bool("deterministic", False, "Repeat runs to the last bit, at some speed.")
flags.DEFINE_integer("attention_every", None, "Epochs between pictures.", lower_bound=1)
flags.DEFINE_float("entropy_floor", None, "Warn where the policy's entropy stays below, nats.")
flags.DEFINE_integer("entropy_epochs", 3, "Epochs below --entropy_floor.", lower_bound=1)
flags.DEFINE_bool("stop_on_collapse", False, "End the training then.")
flags.DEFINE_enum(
    "precision", "float32", ["float32", "mixed_float16", "mixed_bfloat16"], "Dtype policy."
)
flags.DEFINE_enum("jit", "auto", ["auto", "true", "false"], "XLA; auto: on GPUs only.")
flags.DEFINE_enum("strategy", "one_device", list(training.strategy.STRATEGIES), "Where to train.")
flags.DEFINE_integer("pictures", 12, "Test images in attention.png.", lower_bound=1)
flags.DEFINE_bool("export", True, "Write a SavedModel.")


# What can be varied in the training images of drawn data sets, by shared flags.
_DRAWN = {
    "needle_digits": {"cache", "random_shift"},
    "billiards": {"cache", "random_shift", "warmup_examples"},
    "traffic_signs": {"random_shift"},
    "megapixel_mnist": set(),
}
_READ = {"augmentation", "on_bad_image", "cache", "max_pixels"}
# Flags that do something with some data only, and the values that ask for nothing.
_UNSAID = {
    "augmentation": None, "on_bad_image": None, "data_dir": None, "cache": "none",
    "cache_dir": None, "max_pixels": None, "random_shift": 0, "warmup_examples": 0,
}  # fmt: skip


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


def numbers(name, texts):
    """Reads the numbers of a list flag."""
    try:
        return tuple(float(text) for text in texts)
    except ValueError:
        raise ValueError(f"`{name}` must be numbers. Received: {name}={','.join(texts)}") from None


def group_rates():
    """Reads --group_rates: dict from the name of a part to its learning rate."""
    parts = [text.partition("=") for text in FLAGS.group_rates]
    if not all(name and rate for name, _, rate in parts):
        raise ValueError(
            f"`group_rates` must be name=rate. Received: group_rates={','.join(FLAGS.group_rates)}"
        )
    return dict(
        zip(
            [name for name, _, _ in parts],
            numbers("group_rates", [rate for _, _, rate in parts]),
            strict=True,
        )
    )


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
    channels = model.backbone.image_shape[-1]
    config.update(input_shape=(*model.image_size, channels), statistics_levels=1, name="backbone")
    return tnet_keras.FullImageClassifier(
        tnet_keras.Backbone.from_config(config),
        model.num_classes,
        dropout=model.get_config()["dropout"],
        position_channels=channels == 5,
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


def workdir():
    """The folder of the run."""
    return pathlib.Path(FLAGS.workdir or os.path.join("runs", FLAGS.name))


def is_prepared():
    """Whether --dataset is one that TFDS has prepared."""
    return is_tfds_name(FLAGS.dataset)


def is_folder():
    """Whether --dataset is a folder of files."""
    return os.path.isdir(FLAGS.dataset) and not is_prepared()


def data_record():
    """A comment for the record of a run that says what a folder of data holds; else nothing."""
    if not is_folder():
        return ""
    return f"{DATA_COMMENT}{datasets.folder_digest(FLAGS.dataset)}\n"


def without_effect(experiment):
    """Finds the flags of the data that say something and do nothing.

    Args:
        experiment: An `Experiment`.

    Returns:
        List of names.
    """
    used = set(experiment.data_flags())
    if FLAGS.cache == "disk":
        # Drawn images are nowhere that they could be far from.
        used = used - {"cache"} if FLAGS.dataset in _DRAWN else used | {"cache_dir"}
    unsaid = {**_UNSAID, **experiment.own_data_flags}
    return [name for name in unsaid if name not in used and FLAGS[name].value != unsaid[name]]


def check_data_flags(experiment):
    """Refuses flags of the data that are given and have no effect.

    Args:
        experiment: An `Experiment`.

    Raises:
        ValueError: If there is one; those that an experiment sets by default do not count.
    """
    for name in without_effect(experiment):
        if FLAGS[name].present:
            raise ValueError(
                f"`{name}` has no effect on the data set {FLAGS.dataset}. "
                f"Received: {name}={FLAGS[name].value}"
            )


def open_data(split, image_size, batch_size, name=None, **options):
    """Opens one split of --dataset with what the shared flags say.

    Args:
        split, image_size, batch_size: As for `tnet_keras.datasets.load`.
        name: Of the data set, where it is not just --dataset.
        **options: Other arguments of `load`.

    Returns:
        `tnet_keras.datasets.Data`.
    """
    if FLAGS.dataset in datasets.DRAWN_NAMES:
        options.setdefault("num_examples", number_of_examples(split))
        for flag in sorted(_DRAWN[FLAGS.dataset]) if split == "train" else ():
            if FLAGS[flag].value != _UNSAID[flag]:
                options.setdefault(flag, True if flag == "cache" else FLAGS[flag].value)
    else:
        if split == "train" and FLAGS.augmentation is not None:
            options.setdefault("augmentation", FLAGS.augmentation)
        for flag in ("on_bad_image", "max_pixels"):
            if FLAGS[flag].value is not None:
                options.setdefault(flag, FLAGS[flag].value)
        options.setdefault("cache", FLAGS.cache)
        if FLAGS.cache == "disk":
            options.setdefault("cache_dir", FLAGS.cache_dir or str(workdir() / "cache"))
    return datasets.load(
        name or FLAGS.dataset, split, image_size, batch_size, FLAGS.seed, data_dir=FLAGS.data_dir,
        **options,
    )  # fmt: skip


def make_optimizer(model, learning_rate, steps, grouped=True):
    """Makes the optimizer of the flags.

    Args:
        model: The built model that it is for.
        learning_rate: Highest learning rate.
        steps: Steps of the whole training.
        grouped: Whether --group_rates counts; a rival may have none of the parts it names.
    """
    return training.make_optimizer(
        FLAGS.optimizer, learning_rate, steps, FLAGS.warmup_steps, FLAGS.weight_decay,
        FLAGS.clip_norm, FLAGS.clip_value, nesterov=FLAGS.nesterov, schedule=FLAGS.schedule,
        drops=numbers("lr_drops", FLAGS.lr_drops), drop_factor=FLAGS.lr_drop_factor,
        accumulation_steps=FLAGS.accumulation_steps,
        group_rates=group_rates() if grouped else None, model=model,
    )  # fmt: skip


def prepare(model, workdir):
    """Gives a model the weights it starts from, and freezes what is not to learn.

    A run that goes on has its own weights: what it started from need not be there any more.
    """
    goes_on = FLAGS.resume and (workdir / "checkpoints" / "last.keras").is_file()
    if FLAGS.warm_start is not None and not goes_on:
        taken = interop.warm_start(model, FLAGS.warm_start, FLAGS.warm_start_exclude)
        print(
            f"Took {len(taken.matched)} variables from {FLAGS.warm_start}; it has none for "
            f"{len(taken.missing)} and {len(taken.unused)} that were not wanted",
            flush=True,
        )
    if FLAGS.freeze:
        training.freeze(model, FLAGS.freeze)


class Experiment(abc.ABC):
    """One experiment: the parts in which it differs from others; `running.run` does the rest.

    A subclass sets `defaults` (values of shared flags), `recorded` (one flag of each module whose
    flags, beside the shared ones, are the record of a run) and `own_data_flags` (its own flags that
    do something with some data only, and the values that ask for nothing), and implements
    `build_model`, `load`, `locations` and `evaluate`.
    """

    defaults = {}
    recorded = ()
    own_data_flags = {}

    @abc.abstractmethod
    def build_model(self, num_classes=None):
        """Builds the model of the flags, for the data's classes once they are known."""

    def load(self, split, image_size, batch_size, **options):
        """Opens one split of the data; `start` among the options leaves examples out."""
        return open_data(split, image_size, batch_size, **options)

    def data_flags(self):
        """Names of the flags of the data that do something with --dataset."""
        if FLAGS.dataset in _DRAWN:
            return set(_DRAWN[FLAGS.dataset])
        return _READ if is_folder() else _READ | {"data_dir"}

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
