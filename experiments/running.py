"""A run: from the parts of an experiment to a trained model, its report and its export.

Everything goes to --workdir: report.json, report.md, accuracy_vs_compute.png, attention.png,
flags.txt (a flagfile that repeats the run), checkpoints, TensorBoard logs and a SavedModel.
"""

import json
import os

# First: it keeps TensorFlow's start-up notes away.
import experiment as shared
import keras
import numpy as np
import tensorflow as tf
from absl import flags

from tnet_keras import training
from tnet_keras.evaluation import profile, report
from tnet_keras.export import export_for_serving
from tnet_keras.training import command, loop
from tnet_keras.visualization import draw_attention

FLAGS = flags.FLAGS

# Where a run goes, and whether over another, is no part of what repeats it.
NOT_RECORDED = ("workdir", "overwrite", "resume", "dry_run", "traceback")
# What may be different when a run is resumed, because the training does not depend on it.
MAY_CHANGE = (
    "eval_locations", "eval_patches", "eval_batch_size", "pictures", "export", "num_test_examples",
    "checkpoint_steps", "attention_every", "data_dir", "cache_dir",
)  # fmt: skip


def without_boxes(images, labels, *_):
    """What a model is evaluated on."""
    return images, labels


def images_of_a_pass(strategy, data):
    """How many images a pass has; None for endless ones.

    Where bad images are left out, a pass is needed to know. It is made where it matters whether
    the last batch has an image for each replica.
    """
    if data.bad_images is None or strategy.num_replicas_in_sync == 1:
        return data.num_examples
    return sum(len(labels) for _, labels, *_ in data.dataset)


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

    def __init__(
        self, experiment, model, image_size, budget, opened, validation, flag="steps_per_epoch"
    ):
        self.experiment, self.model, self.budget = experiment, model, budget
        self.image_size = image_size
        # Images that are kept in memory are read once, whatever is trained on them.
        key = (tuple(image_size), budget.batch_size)
        if key not in opened:
            opened[key] = experiment.load("train", image_size, budget.batch_size)
        self.data = data = opened[key]
        steps = budget.steps_per_epoch
        if steps is None and data.num_examples is None:
            raise ValueError(f"`{flag}` must be given for endless data. Received: {flag}=None")
        self.steps = steps or max(1, data.num_examples // budget.batch_size)
        loop.check_lengths(
            budget.epochs, self.steps, FLAGS.checkpoint_steps, FLAGS.steps_per_execution
        )
        self.examples = 0  # until they are trained on
        optimizer = shared.make_optimizer(
            model, budget.learning_rate, budget.epochs * self.steps, grouped=budget.build is None
        )
        model.compile(optimizer, jit_compile={"true": True, "false": False}.get(FLAGS.jit, "auto"))
        self.alarm, self.pictured = self._alarm(), self._pictured(validation)

    def run(self, validation, folder):
        """Trains; goes on where an earlier run stopped if --resume says so."""
        folder.mkdir(parents=True, exist_ok=True)  # of a rival
        progress = training.restore(self.model, folder) if FLAGS.resume else None
        stream = self.data.dataset
        if progress:
            done = (progress["epochs"] * self.steps + progress["step"]) * self.budget.batch_size
            stream = self._from(done)
        result = training.fit(
            self.model, stream, self.budget.epochs, self.steps, folder,
            validation_data=validation, progress=progress, callbacks=self._callbacks(folder),
            checkpoint_steps=FLAGS.checkpoint_steps, steps_per_execution=FLAGS.steps_per_execution,
        )  # fmt: skip
        self.examples = result.epochs * self.steps * self.budget.batch_size
        return result

    def _from(self, position):
        if self.data.begin is not None:
            return self.data.begin(position)
        data = self.experiment.load(
            "train", self.image_size, self.budget.batch_size, start=position
        )
        return data.dataset

    def _alarm(self):
        """Watches the policy's entropy, if --entropy_floor says so."""
        if FLAGS.entropy_floor is None or self.budget.build is not None:  # not of a rival
            return []
        known = [metric.name for metric in self.model.metrics]
        monitor = next((m for m in ("policy_entropy", "score_entropy") if m in known), None)
        if monitor is None:
            raise ValueError(
                "`entropy_floor` needs a model that has a policy. "
                f"Received: entropy_floor={FLAGS.entropy_floor} with preset={FLAGS.preset}"
            )
        return [
            training.PolicyCollapse(
                FLAGS.entropy_floor, FLAGS.entropy_epochs, FLAGS.stop_on_collapse, monitor
            )
        ]

    def _pictured(self, validation):
        """The validation images that --attention_every draws, and their classes, or None."""
        if FLAGS.attention_every is None or self.budget.build is not None:
            return None
        several = training.is_multi_worker(self.model.distribute_strategy)
        if not hasattr(self.model, "attend") or several:
            raise ValueError(
                "`attention_every` needs a model that attends, and one worker. "
                f"Received: attention_every={FLAGS.attention_every} with preset={FLAGS.preset}, "
                f"strategy={FLAGS.strategy}"
            )
        few = validation.dataset.unbatch().batch(FLAGS.pictures)
        images, labels, *_ = next(iter(few))
        return images, labels, validation.class_names

    def _callbacks(self, folder):
        size, names = self.budget.batch_size, self.data.names
        used = [training.StopOnNonFiniteLoss(batch_size=size, names=names), *self.alarm]
        if self.pictured is not None:
            used.append(
                training.AttentionSummary(
                    folder / "tensorboard" / "attention", *self.pictured, FLAGS.attention_every,
                    FLAGS.pictures, **self.experiment.drawing(self.model),
                )
            )  # fmt: skip
        return used


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
    shared.check_data_flags(experiment)
    keras.config.set_dtype_policy(FLAGS.precision)
    # Workers must find each other before TensorFlow does anything else.
    strategy = training.make_strategy("one_device" if FLAGS.dry_run else FLAGS.strategy)
    keras.utils.set_random_seed(FLAGS.seed)
    if FLAGS.deterministic:
        tf.config.experimental.enable_op_determinism()
    if FLAGS.dry_run:
        _dry_run(experiment)
        return
    chief = training.is_chief(strategy)
    workdir = shared.workdir()
    if chief:
        command.check_workdir(workdir, FLAGS.overwrite, FLAGS.resume)
    # absl knows the script that was started by another name than its module's.
    modules = map(FLAGS.find_module_defining_flag, ("preset", *experiment.recorded))
    leave_out = (*NOT_RECORDED, *shared.without_effect(experiment))
    own_flags = "".join(command.serialize_flags(name, leave_out) for name in modules)
    own_flags += shared.data_record()
    if FLAGS.resume:
        command.check_same_run(workdir, own_flags, MAY_CHANGE)
    with strategy.scope():
        model = experiment.build_model()
        size = experiment.image_size(model)
        data = experiment.load("test", size, FLAGS.eval_batch_size)
        if len(data.class_names) != model.num_classes:
            model = experiment.build_model(len(data.class_names))
        chosen = experiment.locations(model)
        rivals = experiment.rivals(model)
        if rivals and training.is_multi_worker(strategy):
            raise ValueError(
                "Rivals must be left out where several workers train. "
                f"Received: {', '.join(rivals)} with strategy={FLAGS.strategy}"
            )
        print(f"[1/5] Opening {FLAGS.dataset}", flush=True)
        validation = experiment.load("validation", size, FLAGS.eval_batch_size)
        for split in (validation, data):
            check_batches(strategy, images_of_a_pass(strategy, split), rivals)
        shared.prepare(model, workdir)
        budget = shared.Rival(
            FLAGS.preset, None, FLAGS.epochs, FLAGS.steps_per_epoch, FLAGS.batch_size,
            FLAGS.learning_rate,
        )  # fmt: skip
        opened = {}
        main = _Training(experiment, model, size, budget, opened, validation)
        others = {
            name: _Training(
                experiment, rival.build(), size, rival, opened, validation,
                f"{name}_steps_per_epoch",
            )
            for name, rival in rivals.items()
        }  # fmt: skip
    # The scope ends here: what the chief alone does inside it would wait for the other workers.
    # Every mistake that can be found without training has been found by now.
    if chief:
        command.make_workdir(workdir, FLAGS.overwrite)
        with report.atomic_path(workdir / "flags.txt") as path:
            path.write_text(own_flags, encoding="utf-8")
    print(f"[2/5] Training {FLAGS.preset}; everything goes to {workdir}", flush=True)
    result = main.run(validation.dataset, workdir)
    if not chief:
        print("Done: the chief measures and reports", flush=True)
        training.wait_for_all(strategy)
        return
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
        print(f"[3/5] Training beside it: {other.budget.label}", flush=True)
        _add_rival(measured, name, other, validation.dataset, data.dataset, workdir)
    print("[4/5] Measuring accuracy, policy and compute on the test images", flush=True)
    measured.update(experiment.evaluate(model, data, chosen))
    # Skipped images are counted as they are met: not before a pass is done.
    parts = {"train": main.data, "validation": validation, "test": data}
    skipped = {name: part.bad_images for name, part in parts.items() if part.bad_images is not None}
    if skipped:
        measured["bad_images"] = {name: bad.count for name, bad in skipped.items()}
        for name, bad in skipped.items():
            if bad.count:
                print(f"Left out of {name}: {bad}", flush=True)
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
        # A resumed run that was trained to its end has a new optimizer, which made no step.
        export_for_serving(
            model, workdir / "saved_model", 1, data.class_names, allow_untrained=True
        )
    report.write_report(measured, workdir)
    print(f"\n{report.markdown(measured)}\nWritten to {workdir}", flush=True)
    training.wait_for_all(strategy)


def _dry_run(experiment):
    """Builds the model, trains one step on two noise images, and prints plan and size."""
    model = experiment.build_model()
    if FLAGS.freeze:
        training.freeze(model, FLAGS.freeze)
    size = experiment.image_size(model)
    measured = {**profile.profile(model, experiment.locations(model)), "input_shape": [*size, 3]}
    # Without --steps_per_epoch the data set decides, which a dry run does not open.
    steps = FLAGS.steps_per_epoch or max(1000, FLAGS.warmup_steps + 1)
    optimizer = shared.make_optimizer(model, FLAGS.learning_rate, FLAGS.epochs * steps)
    # Without a graph: a step of a large network takes seconds then, its tracing a minute.
    model.compile(optimizer, jit_compile=FLAGS.jit == "true", run_eagerly=FLAGS.jit != "true")
    random = np.random.default_rng(FLAGS.seed)
    images = random.integers(0, 256, (2, *size, 3), np.uint8)
    labels = random.integers(0, model.num_classes, 2)
    logs = model.train_on_batch(images, labels, return_dict=True)
    if not np.isfinite(logs["loss"]):
        raise FloatingPointError(f"The loss must be finite. Received: loss={logs['loss']}")
    length = f"{FLAGS.steps_per_epoch} steps" if FLAGS.steps_per_epoch else "a pass over the data"
    print(
        f"{FLAGS.preset} on {FLAGS.dataset}: {FLAGS.epochs} epochs of {length}, "
        f"{FLAGS.batch_size} images of {size[0]} x {size[1]} pixels a step\n"
        f"{FLAGS.optimizer}, learning rate {FLAGS.learning_rate:g}, {FLAGS.schedule}"
        + "".join(f", {rate}" for rate in FLAGS.group_rates)
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
    with loop.ends_expected(test):
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
