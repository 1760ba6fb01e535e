"""The training loop: `fit` with its logs and checkpoints, and going on later."""

import contextlib
import csv
import os
import pathlib
import sys
import time
import warnings
from typing import NamedTuple

import keras
import tensorflow as tf

from tnet_keras.training.callbacks import StopOnNonFiniteLoss
from tnet_keras.training.checkpoints import Checkpoints, restore_callbacks, restore_metrics
from tnet_keras.training.distributed_loop import fit_distributed
from tnet_keras.training.strategy import is_chief, is_multi_worker


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


def progress_mode():
    """Returns Keras's `verbose`: bars (1) on a terminal, a line per epoch (2) in a log file."""
    return 1 if sys.stdout.isatty() else 2


def check_lengths(epochs, steps_per_epoch, checkpoint_steps=None, steps_per_execution=1):
    """Checks the lengths that `fit` takes, before anything is made.

    Args:
        epochs: At least 1.
        steps_per_epoch: At least 1, a multiple of `steps_per_execution`.
        checkpoint_steps: None, or as `steps_per_epoch`.
        steps_per_execution: At least 1.

    Raises:
        ValueError: If a length is less than 1, or lengths do not fit each other.
    """
    lengths = {
        "epochs": epochs,
        "steps_per_epoch": steps_per_epoch,
        "checkpoint_steps": 1 if checkpoint_steps is None else checkpoint_steps,
        "steps_per_execution": steps_per_execution,
    }
    for name, value in lengths.items():
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}")
    for name, value in (
        ("steps_per_epoch", steps_per_epoch),
        ("checkpoint_steps", checkpoint_steps),
    ):
        if value is not None and value % steps_per_execution:
            raise ValueError(
                f"`steps_per_execution` must divide `{name}`. Received: "
                f"steps_per_execution={steps_per_execution}, {name}={value}"
            )


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
    checkpoint_steps=None,
    steps_per_execution=1,
):
    """Trains a compiled model and keeps its logs and checkpoints.

    Into `workdir` go `checkpoints/` (see `checkpoints.Checkpoints`), `tensorboard/` and
    `training.csv`. A training that was killed at any moment goes on from its last checkpoint to the
    weights and metrics that it would have had, on a CPU to the last bit if operations are
    deterministic.

    Keras trains, except where it cannot: on several workers, and several steps per execution on
    several replicas, are this package's own loop. Of several workers the chief alone writes.

    Args:
        model: A built and compiled model.
        dataset: Endless stream of (global) batches, of the examples that are still to come.
        epochs: Number of epochs in all, those of an interrupted run included.
        steps_per_epoch: Steps of an epoch.
        workdir: Existing folder for the files, or None for no files.
        validation_data: Batches to measure after each epoch, or None.
        progress: What `restore` returned with the model, to go on from there, or None.
        monitor: Log by which the best checkpoint is chosen, the higher the better.
        verbose: As in Keras; None for bars on a terminal and lines elsewhere.
        callbacks: Further Keras callbacks; a `StopOnNonFiniteLoss` among them takes the place of
            the plain one. What `get_state` of a callback returns is kept with the checkpoints and
            given to its `set_state` when a training goes on, which is over if `stopped` is then
            true.
        checkpoint_steps: Steps between two checkpoints within an epoch, or None: at most one epoch
            is then done again.
        steps_per_execution: Steps in a row without a return to Python; divides `steps_per_epoch`
            and `checkpoint_steps`.

    Returns:
        `TrainingResult`.

    Raises:
        ValueError: If a length is less than 1, or lengths do not fit each other.
        FloatingPointError: If the loss becomes NaN or infinite.
        OSError: If a checkpoint cannot be written.
    """
    check_lengths(epochs, steps_per_epoch, checkpoint_steps, steps_per_execution)
    first_epoch, first_step = (progress["epochs"], progress["step"]) if progress else (0, 0)
    if not first_step < steps_per_epoch:
        raise ValueError(
            "`steps_per_epoch` must be more than the steps of the unfinished epoch. "
            f"Received: steps_per_epoch={steps_per_epoch} after {first_step} steps"
        )
    strategy = model.distribute_strategy
    # The look at the loss comes first, so that no checkpoint holds what it refuses.
    guards = [c for c in callbacks if isinstance(c, StopOnNonFiniteLoss)]
    others = [c for c in callbacks if not isinstance(c, StopOnNonFiniteLoss)]
    # What is kept of an epoch holds what these make of it.
    stateful = [c for c in others if hasattr(c, "get_state") and hasattr(c, "set_state")]
    others = [c for c in others if c not in stateful]
    restore_callbacks(stateful, progress)
    if progress and any(getattr(c, "stopped", False) for c in stateful):
        epochs = first_epoch
    used = [*(guards or [StopOnNonFiniteLoss()]), *stateful]
    if first_step:
        used.append(_GoOnWithinEpoch(first_epoch, first_step, progress["metrics"]))
    loggers = []
    chief = is_chief(strategy)
    if workdir is not None:
        workdir = pathlib.Path(workdir)
        table = workdir / "training.csv"
        if chief:
            (workdir / "checkpoints").mkdir(exist_ok=True)
            if progress:
                _keep_rows(table, first_epoch)
            loggers = [
                keras.callbacks.CSVLogger(str(table), append=progress is not None),
                keras.callbacks.TensorBoard(str(workdir / "tensorboard"), write_graph=False),
            ]
        # Rows come before the state: those without a state are written again when a run goes on.
        used += [
            *loggers,
            Checkpoints(
                workdir / "checkpoints", monitor, progress, checkpoint_steps, chief, stateful
            ),
        ]
    # An epoch is kept before others look at it: what they get wrong does not cost it.
    used += others
    verbose = progress_mode() if verbose is None else verbose
    options = {
        "epochs": epochs, "initial_epoch": first_epoch, "steps_per_epoch": steps_per_epoch,
        "validation_data": validation_data, "callbacks": used,
        "verbose": verbose if chief else 0,
    }  # fmt: skip
    start = time.perf_counter()
    try:
        if is_multi_worker(strategy) or (
            strategy.num_replicas_in_sync > 1 and steps_per_execution > 1
        ):
            history = fit_distributed(
                model, dataset, first_step=first_step, steps_per_execution=steps_per_execution,
                **options,
            )  # fmt: skip
        else:
            with ends_expected(validation_data):
                history = _fit_with_keras(model, dataset, first_step, steps_per_execution, options)
    except BaseException:
        # Keras closes the files of its callbacks only when a training ends well.
        for logger in loggers:
            logger.on_train_end()
        raise
    seconds = time.perf_counter() - start + (progress["train_seconds"] if progress else 0.0)
    values = {name: [float(x) for x in series] for name, series in history.history.items()}
    done = history.epoch[-1] + 1 if history.epoch else first_epoch
    return TrainingResult(values, seconds, done)


@contextlib.contextmanager
def ends_expected(dataset):
    """Keeps Keras from warning that data of unknown length end, as those without bad images do.

    Args:
        dataset: `tf.data.Dataset` that is gone through inside, or None.

    Yields:
        None.
    """
    unknown = (
        isinstance(dataset, tf.data.Dataset)
        and int(dataset.cardinality()) == tf.data.UNKNOWN_CARDINALITY
    )
    with warnings.catch_warnings():
        if unknown:
            warnings.filterwarnings("ignore", "Your input ran out of data")
        yield


def _fit_with_keras(model, dataset, first_step, steps_per_execution, options):
    if steps_per_execution > 1 and model.steps_per_execution != steps_per_execution:
        model.steps_per_execution = steps_per_execution
        model.train_function = model.test_function = None
    if first_step:
        model.make_train_function()
        whole, left = model.train_function, first_step // model.steps_per_execution

        def train_or_skip(iterator):
            # Keras 3.15 begins an epoch at its first step only. The steps that are done already
            # take nothing from the stream and change nothing.
            nonlocal left
            if left:
                left -= 1
                return {}
            return whole(iterator)

        model.train_function = train_or_skip
    try:
        # A stream brings its own order; Keras 3.15 warns where `shuffle` is left True.
        return model.fit(dataset, shuffle=False, **options)
    finally:
        if first_step:
            model.train_function = whole


class _GoOnWithinEpoch(keras.callbacks.Callback):
    """Gives the metrics their values back in the epoch that was left in the middle."""

    def __init__(self, epoch, step, metrics):
        super().__init__()
        self.epoch, self.step, self.metrics, self.pending = epoch, step, metrics, False

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            self.pending = not restore_metrics(self.model, self.metrics)

    def on_train_batch_end(self, batch, logs=None):
        # Keras 3.15 makes the metrics that `compile` was given in the first step of a training.
        if self.pending and batch >= self.step:
            restore_metrics(self.model, self.metrics, add=True)
            self.pending = False


def _keep_rows(path, epochs):
    """Takes the rows of epochs that will be done again out of a table; and one half written."""
    if not path.is_file():
        return
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = [*csv.reader(file)] or [[]]
    kept = [
        row
        for row in rows
        if len(row) == len(header) and row[0].isdecimal() and int(row[0]) < epochs
    ]
    hidden = path.with_name(f".{path.name}")
    with open(hidden, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *kept] if kept else [])
    os.replace(hidden, path)
