"""The training loop: `fit` with its logs and checkpoints, and going on later."""

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
