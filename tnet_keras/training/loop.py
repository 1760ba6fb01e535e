"""The training loop: optimizer and schedule, `fit` with its logs and checkpoints, going on
later."""

import pathlib
import sys
import time
import zipfile
from typing import NamedTuple

import keras

from tnet_keras.training.callbacks import (
    Checkpoints,
    StopOnNonFiniteLoss,
    last_checkpoint,
    random_states,
    read_progress,
)

OPTIMIZERS = ("adamw", "adam", "sgd")


class TrainingResult(NamedTuple):
    """What a training gave.

    Fields:
        history: dict from the name of a log to its values, one per epoch of this run.
        train_seconds: Wall time of all epochs, validation and checkpoints included.
        epochs: Number of epochs done, those of earlier runs included.
    """

    history: dict
    train_seconds: float
    epochs: int


def make_optimizer(
    name="adamw",
    learning_rate=1e-3,
    steps=1,
    warmup_steps=0,
    weight_decay=0.0,
    clip_norm=None,
    clip_value=None,
    momentum=0.9,
):
    """Makes an optimizer whose learning rate follows half a cosine down to zero.

    After a linear rise over `warmup_steps` w to the learning rate η, step t of n has
    η · ½ · (1 + cos(π · (t - w) / (n - w))).

    Args:
        name: "adamw", "adam" or "sgd" (with Nesterov momentum).
        learning_rate: Highest learning rate η, positive.
        steps: Steps n of the whole training, at least 1.
        warmup_steps: Steps w of the rise, fewer than `steps`.
        weight_decay: Decoupled weight decay. Biases and normalisation parameters are exempt.
        clip_norm: Largest norm of all gradients together, or None.
        clip_value: Largest size of each value of the gradients, or None.
        momentum: Momentum of "sgd".

    Returns:
        `keras.optimizers.Optimizer`.

    Raises:
        ValueError: If an argument is outside its range.
    """
    if name not in OPTIMIZERS:
        raise ValueError(
            f"`name` must be one of {', '.join(map(repr, OPTIMIZERS))}. Received: name={name!r}"
        )
    if not learning_rate > 0:
        raise ValueError(
            f"`learning_rate` must be positive. Received: learning_rate={learning_rate}"
        )
    if steps < 1:
        raise ValueError(f"`steps` must be at least 1. Received: steps={steps}")
    if not 0 <= warmup_steps < steps:
        raise ValueError(
            f"`warmup_steps` must be in 0..{steps - 1}. Received: warmup_steps={warmup_steps}"
        )
    if not weight_decay >= 0:
        raise ValueError(
            f"`weight_decay` must not be negative. Received: weight_decay={weight_decay}"
        )
    for argument, value in (("clip_norm", clip_norm), ("clip_value", clip_value)):
        if value is not None and not value > 0:
            raise ValueError(
                f"`{argument}` must be positive or None. Received: {argument}={value}"
            )
    if clip_norm is not None and clip_value is not None:
        raise ValueError(
            "`clip_norm` and `clip_value` exclude each other. "
            f"Received: clip_norm={clip_norm}, clip_value={clip_value}"
        )
    if warmup_steps:
        schedule = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0,
            decay_steps=steps - warmup_steps,
            warmup_target=learning_rate,
            warmup_steps=warmup_steps,
        )
    else:
        schedule = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    options = {"learning_rate": schedule, "global_clipnorm": clip_norm, "clipvalue": clip_value}
    if weight_decay:
        options["weight_decay"] = weight_decay
    if name == "sgd":
        optimizer = keras.optimizers.SGD(momentum=momentum, nesterov=True, **options)
    elif name == "adam" and not weight_decay:
        optimizer = keras.optimizers.Adam(**options)
    else:
        # With decoupled decay Adam is AdamW; AdamW's own default decay must not slip in.
        options.setdefault("weight_decay", 0.0)
        optimizer = keras.optimizers.AdamW(**options)
    if weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def progress_mode():
    """Returns Keras's `verbose`: bars (1) on a terminal, a line per epoch (2) in a log file."""
    return 1 if sys.stdout.isatty() else 2


def fit(
    model,
    dataset,
    epochs,
    steps_per_epoch,
    workdir=None,
    validation_data=None,
    progress=None,
    monitor="val_accuracy",
    verbose=None,
    callbacks=(),
):
    """Trains a compiled model and keeps its logs and checkpoints.

    Into `workdir` go `checkpoints/` (see `callbacks.Checkpoints`), `tensorboard/` and
    `training.csv`.

    Args:
        model: A built and compiled model.
        dataset: Endless stream of batches, of the examples that are still to come.
        epochs: Number of epochs in all, those of an interrupted run included.
        steps_per_epoch: Steps of an epoch.
        workdir: Existing folder for the files, or None for no files.
        validation_data: Batches to measure after each epoch, or None.
        progress: What `restore` returned with the model, to go on from there, or None.
        monitor: Log by which the best checkpoint is chosen, the higher the better.
        verbose: As in Keras; None for bars on a terminal and lines elsewhere.
        callbacks: Further Keras callbacks.

    Returns:
        `TrainingResult`.

    Raises:
        ValueError: If `epochs` or `steps_per_epoch` is less than 1.
        FloatingPointError: If the loss becomes NaN or infinite.
    """
    for name, value in (("epochs", epochs), ("steps_per_epoch", steps_per_epoch)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}")
    first_epoch = progress["epochs"] if progress else 0
    # The look at the loss comes first, so that no checkpoint holds what it refuses.
    used = [StopOnNonFiniteLoss(), *callbacks]
    loggers = []
    if workdir is not None:
        workdir = pathlib.Path(workdir)
        (workdir / "checkpoints").mkdir(exist_ok=True)
        loggers = [
            keras.callbacks.CSVLogger(str(workdir / "training.csv"), append=first_epoch > 0),
            keras.callbacks.TensorBoard(str(workdir / "tensorboard"), write_graph=False),
        ]
        used += [Checkpoints(workdir / "checkpoints", monitor, progress), *loggers]
    start = time.perf_counter()
    try:
        history = model.fit(
            dataset,
            epochs=epochs,
            initial_epoch=first_epoch,
            steps_per_epoch=steps_per_epoch,
            validation_data=validation_data,
            callbacks=used,
            # A stream brings its own order; Keras 3.15 warns where this is left True.
            shuffle=False,
            verbose=progress_mode() if verbose is None else verbose,
        )
    except BaseException:
        # Keras closes the files of its callbacks only when a training ends well.
        for logger in loggers:
            logger.on_train_end()
        raise
    seconds = time.perf_counter() - start + (progress["train_seconds"] if progress else 0.0)
    values = {name: [float(x) for x in series] for name, series in history.history.items()}
    return TrainingResult(values, seconds, epochs)


def restore(model, workdir):
    """Brings a model and its optimizer to the last state that `fit` kept.

    Args:
        model: A built model, compiled with an optimizer of the same kind.
        workdir: Folder that was given to `fit`; it need not exist.

    Returns:
        The `progress` for `fit`: dict with `epochs` done, `train_seconds` and `best`; None if there
        is nothing to go on from.

    Raises:
        ValueError: If the last state is damaged, or does not belong to the progress beside it.
    """
    folder = pathlib.Path(workdir) / "checkpoints"
    progress = read_progress(folder)
    if progress is not None:
        # The state is read into an optimizer that has its variables already; a loaded model would
        # have forgotten which variables are exempt from weight decay.
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        path = last_checkpoint(folder)
        try:
            model.load_weights(path)
        except (zipfile.BadZipFile, OSError, KeyError) as error:
            raise ValueError(
                f"The last state must be a whole .keras file. Received: {path} ({error})"
            ) from error
        progress = read_progress(folder, int(model.optimizer.iterations.numpy()))
        for variable, state in zip(random_states(model), progress["random_states"], strict=True):
            variable.assign(state)
    return progress
