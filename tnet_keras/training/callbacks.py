"""What happens between the steps of a training: an early end on nonsense, and alarms."""

import math

import keras


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
