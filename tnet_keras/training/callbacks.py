"""What happens between the steps of a training: an early end on nonsense, and an alarm."""

import math
import warnings

import keras
import tensorflow as tf

_NAMED = 5  # Names that an error has room for.


class StopOnNonFiniteLoss(keras.callbacks.Callback):
    """Raises as soon as the loss is NaN or infinite, before a checkpoint of it can be written.

    The error names the step, and, given the batch size, the examples of it: their positions in the
    seeded stream of this run, and their names where something knows them.

    Args:
        every: Steps between two looks; the end of an epoch is always looked at. The bad step is
            then one of the last so many. (Keras 3.15 fetches the loss in every step anyway.)
        batch_size: Images per step, all replicas together; None if positions say nothing.
        names: Function from a `range` of positions to their names, such as files, as `names` of
            `tnet_keras.datasets.Data`; or None. The error holds the first five.

    Raises:
        ValueError: If `every` is less than 1, or `names` come without `batch_size`.
        FloatingPointError: In training, if the loss is not finite.
    """

    def __init__(self, every=1, batch_size=None, names=None):
        super().__init__()
        if every < 1:
            raise ValueError(f"`every` must be at least 1. Received: every={every}")
        if names is not None and batch_size is None:
            raise ValueError("`names` need the `batch_size`. Received: batch_size=None")
        self.every, self.batch_size, self.names = every, batch_size, names
        self.epoch, self.looked = 0, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.looked = epoch, 0

    def on_train_batch_begin(self, batch, logs=None):
        # An epoch that was left in the middle need not begin at its first step.
        if not self.looked:
            self.looked = batch

    def on_train_batch_end(self, batch, logs=None):
        if batch + 1 >= self.looked + self.every:
            self._check(logs, batch + 1)
            self.looked = batch + 1

    def on_epoch_end(self, epoch, logs=None):
        self.epoch = epoch
        self._check(logs, (self.params or {}).get("steps"))

    def _check(self, logs, step):
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            raise FloatingPointError(
                "The loss is no longer finite; a smaller learning rate or gradient clipping may "
                f"help. Received: loss={loss} at {self._moment(step)}"
            )

    def _moment(self, step):
        if step is None or step <= self.looked:
            return f"the end of epoch {self.epoch + 1}"
        first = self.looked + 1
        steps = f"step {step}" if first == step else f"one of steps {first} to {step}"
        moment = f"{steps} of epoch {self.epoch + 1}"
        per_epoch = (self.params or {}).get("steps")
        if self.batch_size is None or per_epoch is None:
            return moment
        before = self.epoch * per_epoch
        positions = range((before + first - 1) * self.batch_size, (before + step) * self.batch_size)
        moment += f", examples {positions[0]} to {positions[-1]} of the stream"
        if self.names is not None:
            moment += f" ({self._named(positions)})"
        return moment

    def _named(self, positions):
        try:
            names = [str(name) for name in self.names(positions)]
        except (OSError, ValueError, tf.errors.OpError) as error:
            # What is wrong with the loss is the news, whatever became of the files.
            return f"their names cannot be read: {type(error).__name__}"
        more = len(names) - _NAMED
        return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


class PolicyCollapse(keras.callbacks.Callback):
    """Warns, once, when the location policy has stopped exploring; stops the training if asked to.

    A policy whose entropy is near 0 chooses the same cells whatever it sees, and a policy gradient
    that samples from it gets no news of the others. `fit` keeps how far it has come with the state
    of the training: one that goes on later is told at the same epoch, and one that was stopped
    stays so.

    Args:
        floor: Entropy, nats; below it the policy counts as collapsed. A uniform policy over K cells
            has log K.
        epochs: Epochs in a row below the floor before the alarm.
        stop: Whether to end the training then.
        monitor: Name of the log with the mean entropy of a training epoch.

    Raises:
        ValueError: If `floor` is not positive or `epochs` less than 1; at the start of the
            training, if the model has no metric of the name.
    """

    def __init__(self, floor, epochs=3, stop=False, monitor="policy_entropy"):
        super().__init__()
        if not floor > 0:
            raise ValueError(f"`floor` must be positive. Received: floor={floor}")
        if epochs < 1:
            raise ValueError(f"`epochs` must be at least 1. Received: epochs={epochs}")
        self.floor, self.epochs, self.stop, self.monitor = floor, epochs, stop, monitor
        self.below, self.warned, self.stopped = 0, False, False

    def get_state(self):
        """What a training that goes on needs to know.

        Returns:
            dict of JSON types.
        """
        return {"below": self.below, "warned": self.warned, "stopped": self.stopped}

    def set_state(self, state):
        """Goes on from what `get_state` returned.

        Args:
            state: The dict.
        """
        self.below, self.warned = state["below"], state["warned"]
        self.stopped = state["stopped"]

    def on_train_begin(self, logs=None):
        known = [metric.name for metric in self.model.metrics]
        if self.monitor not in known:
            raise ValueError(
                f"`monitor` must be one of the model's metrics, {', '.join(known)}. "
                f"Received: monitor={self.monitor!r}"
            )

    def on_epoch_end(self, epoch, logs=None):
        entropy = float((logs or {})[self.monitor])
        self.below = self.below + 1 if entropy < self.floor else 0
        if self.below < self.epochs:
            return
        if not self.warned:
            self.warned = True
            warnings.warn(
                f"The location policy has collapsed: {self.monitor} was {entropy:.4g} at the end "
                f"of epoch {epoch + 1}, and below the floor of {self.floor:.4g} for "
                f"{self.epochs} epochs"
                f"{'; the training ends here' if self.stop else ''}.",
                stacklevel=2,
            )
        if self.stop:
            self.stopped = self.model.stop_training = True
