"""The loop: files, going on where a training stopped, and refusing nonsense."""

import json

import keras
import numpy as np
import pytest

from tests.training.small_training import batches, small_model
from tnet_keras import training
from tnet_keras.training import loop


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


def test_nothing_to_restore(tmp_path):
    assert training.restore(small_model(), tmp_path / "absent") is None


def test_failing_stream_leaves_its_own_error(tmp_path):
    with pytest.raises(ValueError, match="incompatible"):
        loop.fit(small_model(), batches().map(lambda x, y: (x[:, :2], y)), 1, 1, tmp_path)


@pytest.mark.parametrize(
    "name", ["epochs", "steps_per_epoch", "checkpoint_steps", "steps_per_execution"]
)
def test_bad_lengths(name):
    lengths = {"epochs": 1, "steps_per_epoch": 1} | {name: 0}
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1.*Received: {name}=0"):
        loop.fit(small_model(), batches(), **lengths)
