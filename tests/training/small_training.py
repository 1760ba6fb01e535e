"""The small model and stream that the tests of this room share."""

import keras
import tensorflow as tf

from tests.models.small_models import own_backbone
from tnet_keras import training
from tnet_keras.layers import PatchSelection
from tnet_keras.models import PatchSelectionClassifier


def small_model(steps=12, **options):
    keras.utils.set_random_seed(4)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8, "tanh"),
            keras.layers.Dropout(0.2, seed=1),
            keras.layers.Dense(3),
        ]
    )
    optimizer = training.make_optimizer(
        steps=steps, learning_rate=0.02, weight_decay=0.01, warmup_steps=2, **options
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


def batches(start=0):
    """An endless stream of batches that is a pure function of the position in it."""

    def draw(position):
        seed = tf.stack([position, tf.constant(7, tf.int64)])
        x = tf.random.stateless_normal((16, 4), seed)
        return x, tf.argmax(x[:, :3], axis=-1)

    return tf.data.Dataset.range(start, 1_000_000).map(draw)


def patch_selection(selector, **options):
    """A patch selection of 2 among 9 candidates in 32x32 images, 4 classes, no batch norm."""
    selection = PatchSelection(
        2, image_size=(32, 32), view_size=(32, 32), patch_size=(16, 16), selector=selector,
        **options,
    )  # fmt: skip
    return PatchSelectionClassifier(own_backbone(), selection, 4, seed=3)
