"""Where a model looks while it learns, in TensorBoard."""

import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf

from tnet_keras.training.checkpoints import random_states
from tnet_keras.visualization import draw_attention


class AttentionSummary(keras.callbacks.Callback):
    """Writes what a model attends to on a fixed batch of images, every few epochs.

    For each level from 2 on `locations/level_<l>`, a histogram of the chosen cells, and
    `location_probabilities/level_<l>`, one of the likeliest cell's probability; and `attention`,
    the picture of `visualization.draw_attention`. The training is not changed by it: the model's
    random numbers go on from where they were.

    Args:
        folder: Folder for TensorBoard; it need not exist.
        images: `[B, H, W, 3]`, uint8 or float, range 0–255; the fixed batch.
        labels: `[B]` integers.
        class_names: Sequence of text, by class.
        every: Epochs between two summaries; the last epoch of a training is always drawn.
        pictures: Images in the picture; the histograms are of all.
        **options: Further arguments of `draw_attention`, such as `grid`.

    Raises:
        ValueError: If `every` or `pictures` is less than 1, or images and labels differ in number.
    """

    def __init__(self, folder, images, labels, class_names, every=5, pictures=8, **options):
        super().__init__()
        for name, value in (("every", every), ("pictures", pictures)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}")
        self.images, self.labels = np.asarray(images), np.asarray(labels)
        if not len(self.images) or len(self.images) != len(self.labels):
            raise ValueError(
                "`images` and `labels` must be equally many, at least one. "
                f"Received: {len(self.images)} images, {len(self.labels)} labels"
            )
        self.folder, self.class_names, self.every = str(folder), class_names, every
        self.pictures, self.options = pictures, options
        self.writer = None

    def on_train_begin(self, logs=None):
        self.writer = tf.summary.create_file_writer(self.folder)

    def on_epoch_end(self, epoch, logs=None):
        last = epoch + 1 == (self.params or {}).get("epochs")
        if (epoch + 1) % self.every and not last:
            return
        # Some models count their draws in evaluation, too.
        generators = random_states(self.model)
        states = [generator.numpy() for generator in generators]
        outputs = self.model.attend(self.images)
        for generator, state in zip(generators, states, strict=True):
            generator.assign(state)
        with self.writer.as_default(epoch + 1):
            for level, (cells, probabilities) in enumerate(
                zip(outputs["selected"], outputs["location_probabilities"], strict=True), start=2
            ):
                tf.summary.histogram(f"locations/level_{level}", cells)
                tf.summary.histogram(
                    f"location_probabilities/level_{level}", tf.reduce_max(probabilities, -1)
                )
            tf.summary.image("attention", self._picture(outputs)[None])
        self.writer.flush()

    def on_train_end(self, logs=None):
        if self.writer is not None:
            self.writer.close()
            self.writer = None

    def _picture(self, outputs):
        count = self.pictures
        few = {
            name: [part[:count] for part in value] if isinstance(value, list) else value[:count]
            for name, value in outputs.items()
        }
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "attention.png"
            draw_attention(
                self.images[:count], few, self.labels[:count], self.class_names, path,
                **self.options,
            )  # fmt: skip
            return tf.io.decode_png(path.read_bytes(), channels=3)
