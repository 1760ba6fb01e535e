"""The loop: files, going on where a training stopped, and refusing nonsense."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tnet_keras import training
from tnet_keras.training import callbacks, loop


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


def test_fit_writes_logs_and_checkpoints(tmp_path):
    model = small_model()
    result = loop.fit(
        model, batches(), 3, 4, tmp_path, validation_data=batches(500).take(2), verbose=0
    )
    assert len(result.history["loss"]) == len(result.history["val_accuracy"]) == 3
    assert result.epochs == 3
    assert result.train_seconds > 0
    assert len((tmp_path / "training.csv").read_text().splitlines()) == 4
    assert list((tmp_path / "tensorboard").rglob("events.*"))
    files = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert files == ["best.keras", "last.keras", "progress.json"]
    progress = json.loads((tmp_path / "checkpoints" / "progress.json").read_text())
    assert progress["epochs"] == 3
    assert progress["best"] == max(result.history["val_accuracy"])
    loaded = keras.saving.load_model(tmp_path / "checkpoints" / "last.keras")
    np.testing.assert_array_equal(loaded.get_weights()[0], model.get_weights()[0])


def test_fit_without_a_folder_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loop.fit(small_model(), batches(), 1, 2, verbose=0)
    assert not list(tmp_path.iterdir())


def test_restarted_training_equals_an_uninterrupted_one(tmp_path):
    straight = small_model()
    loop.fit(straight, batches(), 4, 3, verbose=0)

    loop.fit(small_model(), batches(), 2, 3, tmp_path, verbose=0)
    resumed = small_model()
    progress = training.restore(resumed, tmp_path)
    assert progress["epochs"] == 2
    assert int(resumed.optimizer.iterations) == 6
    result = loop.fit(resumed, batches(2 * 3), 4, 3, tmp_path, progress=progress, verbose=0)
    assert len(result.history["loss"]) == 2
    assert result.train_seconds > progress["train_seconds"]
    for ours, theirs in zip(resumed.get_weights(), straight.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert len((tmp_path / "training.csv").read_text().splitlines()) == 5


def test_best_checkpoint_survives_a_restart(tmp_path):
    saver = callbacks.Checkpoints(tmp_path)
    saver.set_model(small_model())
    saver.on_train_begin()
    saver.on_epoch_end(0, {"val_accuracy": 0.9})
    best = (tmp_path / "best.keras").read_bytes()
    again = callbacks.Checkpoints(tmp_path, progress=callbacks.read_progress(tmp_path))
    again.set_model(small_model())
    again.on_train_begin()
    again.on_epoch_end(1, {"val_accuracy": 0.8})
    assert (tmp_path / "best.keras").read_bytes() == best
    assert callbacks.read_progress(tmp_path)["epochs"] == 2


def test_nothing_to_restore(tmp_path):
    assert training.restore(small_model(), tmp_path / "absent") is None


def test_loss_that_is_not_finite_stops_before_a_checkpoint(tmp_path):
    def poisoned(position, batch):
        x, y = batch
        return tf.where(position >= 5, x * np.nan, x), y

    stream = batches().enumerate().map(poisoned)
    with pytest.raises(FloatingPointError, match="loss=nan at the end of epoch 2"):
        loop.fit(small_model(), stream, 4, 4, tmp_path, verbose=0)
    assert callbacks.read_progress(tmp_path / "checkpoints")["epochs"] == 1
    guard = callbacks.StopOnNonFiniteLoss(every=2)
    guard.on_train_batch_end(0, {"loss": float("inf")})
    with pytest.raises(FloatingPointError, match="step 2 of epoch 1"):
        guard.on_train_batch_end(1, {"loss": float("inf")})


def test_failing_stream_leaves_its_own_error(tmp_path):
    with pytest.raises(ValueError, match="incompatible"):
        loop.fit(small_model(), batches().map(lambda x, y: (x[:, :2], y)), 1, 1, tmp_path)


@pytest.mark.parametrize("name", ["epochs", "steps_per_epoch"])
def test_bad_lengths(name):
    lengths = {"epochs": 1, "steps_per_epoch": 1} | {name: 0}
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1.*Received: {name}=0"):
        loop.fit(small_model(), batches(), **lengths)


def test_mirrored_strategy_has_every_device():
    strategy = training.make_strategy("mirrored")
    assert strategy.num_replicas_in_sync == len(tf.config.list_logical_devices("CPU"))
    assert training.make_strategy("one_device").num_replicas_in_sync == 1


def test_unknown_strategy():
    with pytest.raises(ValueError, match="'one_device', 'mirrored'. Received: name='tpu'"):
        training.make_strategy("tpu")
