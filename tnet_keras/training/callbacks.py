"""What happens between the steps of a training: checkpoints, and an early end on nonsense."""

import json
import math
import os
import pathlib
import time

import keras

_PROGRESS = "progress.json"
_LAST, _BEST = "last.keras", "best.keras"


class StopOnNonFiniteLoss(keras.callbacks.Callback):
    """Raises as soon as the loss is NaN or infinite, before a checkpoint of it can be written.

    Args:
        every: Steps between two looks; the end of an epoch is always looked at. A look waits for
            the device.

    Raises:
        FloatingPointError: If the loss is not finite.
    """

    def __init__(self, every=20):
        super().__init__()
        self.every = every
        self.epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (batch + 1) % self.every == 0:
            self._check(logs, f"step {batch + 1} of epoch {self.epoch + 1}")

    def on_epoch_end(self, epoch, logs=None):
        self._check(logs, f"the end of epoch {epoch + 1}")

    def _check(self, logs, moment):
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            raise FloatingPointError(
                "The loss is no longer finite; a smaller learning rate or gradient clipping may "
                f"help. Received: loss={loss} at {moment}"
            )


class Checkpoints(keras.callbacks.Callback):
    """Keeps the last and the best state of a training, optimizer included, after every epoch.

    `last.keras` and `best.keras` appear whole or not at all. `progress.json` beside them says how
    many epochs are done, how many seconds they took, what the best value was, and where the
    model's random numbers are.

    Args:
        folder: Existing folder to write to.
        monitor: Name of the log that is best when it is highest. Epochs without it never are.
        progress: What `read_progress` returned, to go on from there; None for a new training.
    """

    def __init__(self, folder, monitor="val_accuracy", progress=None):
        super().__init__()
        self.folder = pathlib.Path(folder)
        self.monitor = monitor
        self.progress = dict(progress or {"epochs": 0, "train_seconds": 0.0, "best": None})
        for name in ("random_states", "iterations"):
            self.progress.pop(name, None)
        self.clock = None

    def on_train_begin(self, logs=None):
        self.clock = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        value = (logs or {}).get(self.monitor)
        best = self.progress["best"]
        if value is not None and (best is None or value > best):
            self.progress["best"] = float(value)
            self.model.save(self.folder / f".{_BEST}")
            os.replace(self.folder / f".{_BEST}", self.folder / _BEST)
        # A training that is killed while it saves must leave the previous state alone. The progress
        # that belongs to the new state lies ready before the state itself takes its place.
        self.model.save(self.folder / f".{_LAST}")
        now = time.perf_counter()
        self.progress["epochs"] = epoch + 1
        self.progress["train_seconds"] += now - self.clock
        self.clock = now
        states = [variable.numpy().tolist() for variable in random_states(self.model)]
        text = json.dumps(
            self.progress
            | {"random_states": states, "iterations": int(self.model.optimizer.iterations.numpy())}
        )
        (self.folder / f".{_PROGRESS}").write_text(text + "\n", encoding="utf-8")
        os.replace(self.folder / f".{_LAST}", self.folder / _LAST)
        os.replace(self.folder / f".{_PROGRESS}", self.folder / _PROGRESS)


def read_progress(folder, iterations=None):
    """Reads how far the training went whose checkpoints lie in a folder.

    Args:
        folder: Folder that `Checkpoints` wrote to; it need not exist.
        iterations: Steps that the last state has behind it, or None. A training that was killed
            between its last two renames has the progress of that state lying ready beside the old
            one.

    Returns:
        dict with `epochs`, `train_seconds`, `best`, `random_states` and `iterations`, or None if
        there is nothing to go on from.

    Raises:
        ValueError: If no progress in the folder belongs to the state.
    """
    folder = pathlib.Path(folder)
    names = [name for name in (_PROGRESS, f".{_PROGRESS}") if (folder / name).is_file()]
    if not names or not (folder / _LAST).is_file():
        return None
    if iterations is None:
        return json.loads((folder / names[0]).read_text(encoding="utf-8"))
    for name in names:
        progress = json.loads((folder / name).read_text(encoding="utf-8"))
        if progress["iterations"] == iterations:
            return progress
    raise ValueError(
        f"{folder / _PROGRESS} must belong to the state beside it. "
        f"Received: a state of {iterations} steps"
    )


def random_states(model):
    """Finds the states of a model's seed generators, which Keras 3.15 saves in no file.

    Args:
        model: A built model.

    Returns:
        List of uint32 variables `[2]`, in an order that depends on the model's structure only.
    """
    return [v for v in model.variables if v.path.endswith("seed_generator_state")]


def last_checkpoint(folder):
    """Path of the last state in a folder that `Checkpoints` writes to.

    Args:
        folder: The folder.

    Returns:
        `pathlib.Path`.
    """
    return pathlib.Path(folder) / _LAST
