"""Files: a fresh process loads what was saved, and goes on with a training as if never stopped."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.models.small_models import (
    assert_same_weights,
    batch,
    classifier,
    convnet,
    own_backbone,
    pixels,
    tnet,
)
from tnet_keras import training
from tnet_keras.training.checkpoints import last_checkpoint

# What a user types who has nothing but the file: no class of ours is named.
LOAD = """
import sys
import keras
import numpy as np
import tnet_keras
for path in sys.argv[1:]:
    model = keras.saving.load_model(path)
    saved = np.load(path + ".npz")
    outputs = model.predict(saved["images"], verbose=0)
    np.testing.assert_allclose(outputs, saved["outputs"], rtol=0, atol=1e-6, err_msg=path)
    assert model.optimizer.iterations.numpy() == 1, model.optimizer.iterations
    print(type(model).__name__, end=" ")
"""
GO_ON = """
import sys
from tests import conftest  # one thread per operation, as in the process that began
from tests.models import test_serialization
test_serialization.go_on(sys.argv[1])
"""


def own_location_module():
    """Returns a location module as a user may bring it, for maps [B, 3, 3, 6], vectors [B, 8]."""
    features, vector = keras.Input((3, 3, 6)), keras.Input((8,))
    scores = keras.layers.Reshape((9,))(keras.layers.Conv2D(1, 1)(features))
    return keras.Model([features, vector], scores + keras.layers.Dense(9)(vector))


MODELS = {
    "levels": lambda: tnet(
        convnet(statistics_levels=3),
        locations=(2, 1),
        location_module="squeeze_excite",
        positional="add",
        aggregation="weighted",
        classifier_initializer=keras.initializers.RandomNormal(0.0, 0.1, seed=1),
        rule="original",
        level_cap=2,
        map_indices=(0, 2, 3),
        dropout=0.5,
        l2=1e-4,
        l2_scope="new_modules",
        contrastive_weight=0.1,
    ),
    "own": lambda: tnet(
        own_backbone(statistics_levels=2),
        location_module=own_location_module(),
        num_samples=2,
        initial_baseline=0.1,
    ),
    "full": lambda: classifier(convnet(), dropout=0.5, l2=1e-4),
}


def run(script, *arguments, cwd):
    """Runs a script in a fresh interpreter and returns what it prints."""
    result = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=cwd, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def test_a_fresh_process_loads_and_predicts_the_same(tmp_path, repository):
    paths, names = [], []
    for name, make in MODELS.items():
        model = make()
        model.compile(keras.optimizers.Adam(0.01))
        images, labels = batch(4)
        model.train_on_batch(images, labels)  # moves statistics, baseline and optimizer
        paths.append(str(tmp_path / f"{name}.keras"))
        names.append(type(model).__name__)
        model.save(paths[-1])
        np.savez(paths[-1], images=images, outputs=model.predict(images, verbose=0))
    assert run(LOAD, *paths, cwd=repository) == names


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_file_holds_everything(make, tmp_path):
    model = make()
    for number, weight in enumerate(model.weights):
        weight.assign(np.random.default_rng(number).uniform(0.1, 1, weight.shape))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_same_weights(loaded, model)
    assert [w.path for w in loaded.weights] == [w.path for w in model.weights]
    ours, theirs = loaded.get_config(), model.get_config()
    for name in ours.keys() - {"classifier_initializer", "location_module"}:  # objects
        assert ours[name] == theirs[name], name
    np.testing.assert_allclose(loaded(pixels(2)), model(pixels(2)), atol=1e-6)


def begin():
    """Returns a compiled TNet with all that is random in it: samples, dropout, weights."""
    keras.utils.set_random_seed(8)
    model = tnet(convnet(statistics_levels=2), locations=(2,), num_samples=2, dropout=0.3)
    optimizer = training.make_optimizer(steps=10, warmup_steps=2, weight_decay=0.01, clip_norm=1.0)
    model.compile(optimizer)
    return model


def endless(start):
    """Returns a stream of batches that is a pure function of the position in it."""

    def draw(position):
        seed = tf.stack([position, tf.constant(5, tf.int64)])
        images = tf.random.stateless_uniform((4, 32, 32, 3), seed, 0, 256, tf.int32)
        return tf.cast(images, tf.uint8), tf.reduce_max(images[:, 0, 0], axis=-1) % 4

    return tf.data.Dataset.range(start, 1_000_000).map(draw)


def go_on(workdir):
    """Makes the second five of ten steps, from what the first five left in a folder."""
    model = begin()
    progress = training.restore(model, workdir)
    assert progress["epochs"] == 1 and int(model.optimizer.iterations) == 5
    training.fit(model, endless(5), 2, 5, workdir, progress=progress, verbose=0)


def test_restart_in_a_fresh_process_is_bit_for_bit(tmp_path, repository):
    straight = begin()
    training.fit(straight, endless(0), 2, 5, verbose=0)
    training.fit(begin(), endless(0), 1, 5, tmp_path, verbose=0)
    run(GO_ON, str(tmp_path), cwd=repository)
    resumed = keras.saving.load_model(last_checkpoint(tmp_path / "checkpoints"))
    assert_same_weights(resumed, straight)
    assert int(resumed.optimizer.iterations) == 10
    for ours, theirs in zip(
        resumed.optimizer.variables, straight.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    assert straight.baseline.numpy() != 0.5
