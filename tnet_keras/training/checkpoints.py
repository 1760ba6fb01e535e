"""Checkpoints: the whole state of a training in one file, and the way back into it."""

import json
import math
import os
import pathlib
import re
import time
import zipfile

import keras
import numpy as np
import tensorflow as tf

_LAST, _BEST = "last.keras", "best.keras"
_PROGRESS = "progress.json"


class Checkpoints(keras.callbacks.Callback):
    """Keeps the last and the best state of a training, optimizer included.

    `last.keras` and `best.keras` are ordinary Keras files that appear whole or not at all.
    `last.keras` also holds a `progress.json`: how many epochs are done, how many steps of the next
    one, its metrics so far, how many seconds it all took, the best value, where the model's random
    numbers are, and the states of other callbacks. A copy of it, for people, lies beside.

    With several workers every worker has this callback, because reading some variables takes all of
    them; one of them writes.

    Args:
        folder: Existing folder to write to.
        monitor: Name of the log that is best when it is highest. Epochs without it never are.
        progress: What `read_progress` returned, to go on from there; None for a new training.
        every_steps: Steps of an epoch between two checkpoints within it; None for one checkpoint
            after every epoch.
        writes: Whether this worker writes.
        stateful: Callbacks whose `get_state()`, JSON types, is kept; they must come before this
            one.

    Raises:
        ValueError: If `every_steps` is less than 1.
        OSError: In training, if a state cannot be written. The previous one is left alone.
        FloatingPointError: In training, if a weight is not finite.
    """

    def __init__(
        self, folder, monitor="val_accuracy", progress=None, every_steps=None, writes=True,
        stateful=(),
    ):  # fmt: skip
        super().__init__()
        if every_steps is not None and every_steps < 1:
            raise ValueError(
                f"`every_steps` must be at least 1 or None. Received: every_steps={every_steps}"
            )
        self.folder = pathlib.Path(folder)
        self.monitor, self.every_steps, self.writes = monitor, every_steps, writes
        self.stateful = tuple(stateful)
        progress = progress or {"epochs": 0, "step": 0, "train_seconds": 0.0, "best": None}
        self.progress = {
            name: progress[name] for name in ("epochs", "step", "train_seconds", "best")
        }
        self.clock = None

    def on_train_begin(self, logs=None):
        self.clock = time.perf_counter()

    def on_epoch_begin(self, epoch, logs=None):
        self.saved_step = self.progress["step"]

    def on_train_batch_end(self, batch, logs=None):
        done = batch + 1
        if not self.every_steps or done <= self.saved_step:
            return
        # The end of the epoch is saved with its validation.
        whole = done >= (self.params or {}).get("steps", math.inf)
        if done // self.every_steps > self.saved_step // self.every_steps and not whole:
            self.saved_step = self.progress["step"] = done
            metrics = [variable.numpy().tolist() for variable in metric_variables(self.model)]
            self._save_last(metrics)

    def on_epoch_end(self, epoch, logs=None):
        self.progress.update(epochs=epoch + 1, step=0)
        value = (logs or {}).get(self.monitor)
        best = self.progress["best"]
        if value is not None and (best is None or value > best):
            self.progress["best"] = float(value)
            self._save(_BEST, None)
        self._save_last([])

    def _save_last(self, metrics):
        now = time.perf_counter()
        self.progress["train_seconds"] += now - self.clock
        self.clock = now
        states = [variable.numpy().tolist() for variable in random_states(self.model)]
        text = json.dumps(
            {
                **self.progress,
                "iterations": int(self.model.optimizer.iterations.numpy()),
                "metrics": metrics,
                "callbacks": [[type(each).__name__, each.get_state()] for each in self.stateful],
                "random_states": states,
                "variables": _signature(self.model),
            }
        )
        self._save(_LAST, text)

    def _save(self, name, text):
        for variable in self.model.variables:
            if variable.dtype.startswith(("float", "bfloat")):
                if not bool(tf.reduce_all(tf.math.is_finite(variable.value))):
                    raise FloatingPointError(
                        "A weight is no longer finite, and no checkpoint of it is written. "
                        f"Received: {variable.path}"
                    )
        if not self.writes:
            return

        def write(hidden):
            self.model.save(hidden)
            if text is not None:
                # In the same file as the state: there is no moment at which they do not agree.
                with zipfile.ZipFile(hidden, "a") as archive:
                    archive.writestr(_PROGRESS, text)
            with open(hidden, "rb+") as file:
                os.fsync(file.fileno())

        told = "A checkpoint could not be written; the one before it is untouched."
        self._replace(name, write, told)
        if text is not None:
            told = "A checkpoint was written, but not the copy of its progress beside it."
            self._replace(
                _PROGRESS, lambda path: path.write_text(text + "\n", encoding="utf-8"), told
            )

    def _replace(self, name, write, told):
        """Writes a file whole or not at all; `told` is what an error begins with."""
        hidden = self.folder / f".{name}"
        try:
            write(hidden)
            os.replace(hidden, self.folder / name)
        # A full disk reaches us as OSError from the zip file, as RuntimeError from HDF5.
        except (OSError, RuntimeError, zipfile.BadZipFile) as error:
            hidden.unlink(missing_ok=True)
            reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
            raise OSError(f"{told} Received: {self.folder / name} ({reason})") from error


def read_progress(folder):
    """Reads how far the training went whose checkpoints lie in a folder.

    Args:
        folder: Folder that `Checkpoints` wrote to; it need not exist.

    Returns:
        dict with `epochs` and `step` done (`step` of the epoch after those), `train_seconds`,
        `best`, `iterations`, `metrics`, `callbacks`, `random_states` and `variables`; or None if
        there is nothing to go on from.

    Raises:
        ValueError: If the last state is damaged.
    """
    path = last_checkpoint(folder)
    if not path.is_file():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            if damaged:
                raise zipfile.BadZipFile(f"{damaged} is damaged")
            return json.loads(archive.read(_PROGRESS))
    except (zipfile.BadZipFile, OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"The last state must be a whole .keras file. Received: {path} ({error})"
        ) from error


def restore(model, workdir):
    """Brings a model and its optimizer to the last state that `fit` kept.

    Args:
        model: A built model, compiled with an optimizer of the same kind.
        workdir: Folder that was given to `fit`; it need not exist.

    Returns:
        The `progress` for `fit`: dict with `epochs` done, `step` done of the epoch after those,
        `train_seconds`, `best`, and what `fit` needs beside; None if there is nothing to go on
        from.

    Raises:
        ValueError: If the last state is damaged, or another model's or optimizer's.
    """
    folder = pathlib.Path(workdir) / "checkpoints"
    progress = read_progress(folder)
    if progress is None:
        return None
    path = last_checkpoint(folder)
    with model.distribute_strategy.scope():
        # The state is read into an optimizer that has its variables already; a loaded model would
        # have forgotten which variables are exempt from weight decay.
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        check_same_variables(progress["variables"], _signature(model), path)
        model.load_weights(path)
        for variable, state in zip(random_states(model), progress["random_states"], strict=True):
            variable.assign(state)
    return progress


def check_same_variables(saved, own, path):
    """Checks that a checkpoint belongs to a model, and names the first variable that differs.

    Args:
        saved: List of (path, shape) of the variables in the checkpoint, in order.
        own: The same of the model.
        path: The checkpoint's file.

    Raises:
        ValueError: If there is a difference.
    """
    saved, own = ([[_plain(name), list(shape)] for name, shape in each] for each in (saved, own))
    for index in range(max(len(saved), len(own))):
        theirs = saved[index] if index < len(saved) else None
        ours = own[index] if index < len(own) else None
        if theirs != ours:
            told = ["nothing" if x is None else f"{x[0]} {list(x[1])}" for x in (theirs, ours)]
            raise ValueError(
                "The checkpoint must be of the same model and optimizer. "
                f"Received: {path} with {told[0]} where the model has {told[1]}"
            )


def _signature(model):
    """[path, shape] of every variable."""
    return [
        [variable.path, list(variable.shape)]
        for variable in (*model.variables, *model.optimizer.variables)
    ]


def _plain(path):
    """A path without the numbers that Keras adds to repeated names.

    And without the loss-scaling optimizer's name: the variables of the one inside have it before
    theirs if they are made in the first step, and not if they are made before it.
    """
    return re.sub(r"_\d+(?=[_/]|$)", "", path).removeprefix("loss_scale_optimizer/")


def random_states(model):
    """Finds the states of a model's seed generators, which Keras 3.15 saves in no file.

    Args:
        model: A built model.

    Returns:
        List of uint32 variables `[2]`, in an order that depends on the model's structure only.
    """
    return [v for v in model.variables if v.path.endswith("seed_generator_state")]


def metric_variables(model):
    """Finds the variables of a model's metrics, in an order that depends on its structure only.

    Args:
        model: A compiled model.

    Returns:
        List of variables.
    """
    return [variable for metric in model.metrics for variable in metric.variables]


def restore_callbacks(callbacks, progress):
    """Gives callbacks the states that `Checkpoints` kept of them.

    Args:
        callbacks: Those with `get_state` and `set_state`, in the order of then.
        progress: As of `read_progress`, or None. Nothing is done about a callback that is new.
    """
    kept = (progress or {}).get("callbacks", [])
    for callback, (name, state) in zip(callbacks, kept, strict=False):
        if type(callback).__name__ == name:
            callback.set_state(state)


def restore_metrics(model, values, add=False):
    """Gives the metrics of an epoch that was left in the middle their values back.

    Args:
        model: A compiled model.
        values: `metrics` of the progress.
        add: Whether to add to what the metrics have counted since; all of them are sums.

    Returns:
        bool, whether the model has as many variables of metrics; else nothing is done.
    """
    variables = metric_variables(model)
    if len(variables) != len(values):
        return False
    for variable, value in zip(variables, values, strict=True):
        value = np.asarray(value, variable.dtype)
        variable.assign(value + variable.numpy() if add else value)
    return True


def last_checkpoint(folder):
    """Path of the last state in a folder that `Checkpoints` writes to.

    Args:
        folder: The folder.

    Returns:
        `pathlib.Path`.
    """
    return pathlib.Path(folder) / _LAST
