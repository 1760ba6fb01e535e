"""Checkpoints: going on exactly where a training was cut off, and what happens on a full disk."""

import csv
import errno
import json
import signal
import subprocess
import sys
import types
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.training.small_training import batches, small_model
from tnet_keras import training
from tnet_keras.training import checkpoints

EPOCHS, STEPS = 3, 6


class Cut(Exception):
    """What stands for a kill in this process."""


class CutAt(keras.callbacks.Callback):
    """Ends the training after a step, before anything else sees it."""

    def __init__(self, epoch, step):
        super().__init__()
        self.at, self.epoch = (epoch, step), 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch + 1) == self.at:
            raise Cut


def fit(workdir, resume=False, callbacks=(), **options):
    workdir.mkdir(exist_ok=True)
    model = small_model(steps=EPOCHS * STEPS)
    progress = training.restore(model, workdir) if resume else None
    done = progress["epochs"] * STEPS + progress["step"] if progress else 0
    result = training.fit(
        model, batches(done), EPOCHS, STEPS, workdir, batches(500).take(2), progress, verbose=0,
        callbacks=callbacks, **options,
    )  # fmt: skip
    return model, result


def assert_same_state(model, expected):
    """Compares weights and the state of the optimizer, bit for bit."""
    for mine, theirs in ((model, expected), (model.optimizer, expected.optimizer)):
        for variable, other in zip(mine.variables, theirs.variables, strict=True):
            np.testing.assert_array_equal(variable, other, err_msg=variable.path)


def rows(workdir):
    with open(workdir / "training.csv", newline="") as file:
        return list(csv.reader(file))


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """An uninterrupted training: its model, its history and the rows of its table."""
    workdir = tmp_path_factory.mktemp("straight")
    keras.utils.clear_session(free_memory=False)
    model, result = fit(workdir)
    return model, result.history, rows(workdir)


@pytest.mark.parametrize(
    ("cut", "options", "expected"),
    [
        ((1, 5), {"checkpoint_steps": 2}, (1, 4)),  # the fifth step is done again
        ((1, 5), {}, (1, 0)),  # the whole epoch is
        ((0, 3), {"checkpoint_steps": 2}, (0, 2)),
        ((2, 6), {"checkpoint_steps": 3, "steps_per_execution": 3}, (2, 3)),
    ],
)
def test_cut_off_training_ends_like_an_uninterrupted_one(
    cut, options, expected, straight, tmp_path
):
    with pytest.raises(Cut):
        fit(tmp_path, callbacks=[CutAt(*cut)], **options)
    progress = checkpoints.read_progress(tmp_path / "checkpoints")
    assert (progress["epochs"], progress["step"]) == expected
    model, result = fit(tmp_path, resume=True, **options)
    expected_model, history, table = straight
    assert_same_state(model, expected_model)
    # The metrics of the epoch that was cut are those of the whole epoch.
    for name, series in history.items():
        np.testing.assert_allclose(result.history[name], series[expected[0] :], rtol=1e-6)
    assert [row[0] for row in rows(tmp_path)] == [row[0] for row in table]


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_goes_on_too(policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    try:
        expected, _ = fit(tmp_path / "straight")
        with pytest.raises(Cut):
            fit(tmp_path / "cut", callbacks=[CutAt(1, 5)], checkpoint_steps=2)
        model, _ = fit(tmp_path / "cut", resume=True, checkpoint_steps=2)
    finally:
        keras.config.set_dtype_policy("float32")
    assert ("loss_scale" in type(model.optimizer).__module__) == (policy == "mixed_float16")
    assert_same_state(model, expected)


def test_replicas_go_on_too(tmp_path):
    strategy = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )
    with strategy.scope():
        expected, _ = fit(tmp_path / "straight")
        with pytest.raises(Cut):
            fit(tmp_path / "cut", callbacks=[CutAt(1, 5)], checkpoint_steps=2)
        model = small_model(steps=EPOCHS * STEPS)
    # Outside of the scope, as in a run.
    progress = training.restore(model, tmp_path / "cut")
    assert (progress["epochs"], progress["step"]) == (1, 4)
    training.fit(
        model, batches(STEPS + 4), EPOCHS, STEPS, tmp_path / "cut",
        batches(500).take(2), progress, verbose=0, checkpoint_steps=2,
    )  # fmt: skip
    assert_same_state(model, expected)


def test_nothing_to_go_on_from_begins_anew(straight, tmp_path):
    model, _ = fit(tmp_path, resume=True)
    np.testing.assert_array_equal(model.get_weights()[0], straight[0].get_weights()[0])


def test_step_checkpoint_needs_a_longer_epoch(tmp_path):
    with pytest.raises(Cut):
        fit(tmp_path, callbacks=[CutAt(0, 5)], checkpoint_steps=2)
    model = small_model(steps=18)
    progress = training.restore(model, tmp_path)
    with pytest.raises(ValueError, match="`steps_per_epoch` .*Received: steps_per_epoch=4 after 4"):
        training.fit(model, batches(), EPOCHS, 4, tmp_path, progress=progress)


def saver_of(folder, model=None, **options):
    saver = training.Checkpoints(folder, **options)
    saver.set_model(model or small_model())
    saver.model.optimizer.build(saver.model.trainable_variables)
    saver.on_train_begin()
    return saver


def test_best_checkpoint_survives_a_restart(tmp_path):
    saver_of(tmp_path).on_epoch_end(0, {"val_accuracy": 0.9})
    best = (tmp_path / "best.keras").read_bytes()
    again = saver_of(tmp_path, progress=checkpoints.read_progress(tmp_path))
    again.on_epoch_end(1, {"val_accuracy": 0.8})
    assert (tmp_path / "best.keras").read_bytes() == best
    assert checkpoints.read_progress(tmp_path)["epochs"] == 2


def test_a_worker_that_does_not_write(tmp_path):
    saver_of(tmp_path, writes=False).on_epoch_end(0, {"val_accuracy": 0.9})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("unable to write\n!")]
)
def test_full_disk_leaves_the_previous_checkpoint(error, monkeypatch, tmp_path):
    saver_of(tmp_path).on_epoch_end(0, {})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def save(self, path):
        path.write_bytes(b"half of a ")
        raise error

    monkeypatch.setattr(keras.Sequential, "save", save)
    with pytest.raises(
        OSError, match="is untouched. Received: .*last.keras .(No space|unable)"
    ) as e:
        saver_of(tmp_path).on_epoch_end(1, {})
    assert "\n" not in str(e.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert checkpoints.read_progress(tmp_path)["epochs"] == 1


def test_real_limit_on_the_size_of_files(tmp_path, repository):
    # A limit of the operating system stands for a disk that is full in the middle of a file.
    saver_of(tmp_path).on_epoch_end(0, {})
    script = """
import resource, sys
from tests import conftest
from tests.training.test_checkpoints import saver_of
saver = saver_of(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    saver.on_epoch_end(1, {})
except OSError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=repository, capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip
    assert "is untouched. Received: " in done.stdout, done.stderr[-1000:]
    assert "File too large" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.keras", "progress.json"]
    assert checkpoints.read_progress(tmp_path)["epochs"] == 1


def test_killed_while_it_saves(straight, tmp_path, repository):
    # The process kills itself between the bytes of the new state and its renaming.
    script = """
import os, pathlib, signal, sys
from tests import conftest
from tests.training.test_checkpoints import fit
real, saved = os.replace, []
def replace(source, target):
    if str(target).endswith("last.keras"):
        saved.append(target)
        if len(saved) == 4:
            os.kill(os.getpid(), signal.SIGKILL)
    real(source, target)
os.replace = replace
fit(pathlib.Path(sys.argv[1]), checkpoint_steps=2)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=repository, capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr[-1000:]
    progress = checkpoints.read_progress(tmp_path / "checkpoints")
    assert (progress["epochs"], progress["step"]) == (1, 0)  # after 2, 4 and 6 steps
    assert (tmp_path / "checkpoints" / ".last.keras").exists()
    model, _ = fit(tmp_path, resume=True, checkpoint_steps=2)
    for ours, theirs in zip(model.weights, straight[0].weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_damaged_checkpoint_is_named(tmp_path):
    fit(tmp_path)
    path = tmp_path / "checkpoints" / "last.keras"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match="must be a whole .keras file. Received: .*last.keras"):
        training.restore(small_model(), tmp_path)


def test_another_architecture_is_named_by_its_first_difference(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    saver_of(tmp_path / "checkpoints").on_epoch_end(0, {})
    wider = keras.Sequential([keras.Input((4,)), keras.layers.Dense(9), keras.layers.Dense(3)])
    wider.compile("adam")
    before = wider.get_weights()[0]
    with pytest.raises(ValueError) as raised:
        training.restore(wider, tmp_path)
    assert "sequential/dense/kernel [4, 8] where the model has sequential/dense/kernel [4, 9]" in (
        str(raised.value)
    )
    assert "\n" not in str(raised.value)
    np.testing.assert_array_equal(wider.get_weights()[0], before)


def test_another_optimizer_is_named(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    saver_of(tmp_path / "checkpoints").on_epoch_end(0, {})
    with pytest.raises(ValueError, match="adam_w/iteration .*where the model has sgd/iteration"):
        training.restore(small_model(name="sgd"), tmp_path)


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    saver = saver_of(tmp_path)
    saver.model.weights[1].assign(np.full(8, np.nan))
    with pytest.raises(FloatingPointError, match="no checkpoint.*Received: .*dense.*/bias"):
        saver.on_epoch_end(0, {"val_accuracy": 0.5})
    assert not list(tmp_path.iterdir())


def test_progress_is_in_the_state_and_beside_it(tmp_path):
    saver_of(tmp_path).on_epoch_end(0, {"val_accuracy": 0.5})
    with zipfile.ZipFile(tmp_path / "last.keras") as archive:
        inside = json.loads(archive.read("progress.json"))
    assert inside == json.loads((tmp_path / "progress.json").read_text())
    assert (inside["epochs"], inside["step"], inside["best"]) == (1, 0, 0.5)
    assert isinstance(keras.saving.load_model(tmp_path / "last.keras"), keras.Sequential)


def test_copy_of_the_progress_that_cannot_be_written_is_named_itself(tmp_path):
    (tmp_path / "progress.json").mkdir()  # a file cannot take its place
    message = r"A checkpoint was written, but not the copy.* Received: .*progress.json \(.+\)$"
    with pytest.raises(OSError, match=message):
        saver_of(tmp_path).on_epoch_end(0, {})
    assert checkpoints.read_progress(tmp_path)["epochs"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.keras", "progress.json"]


class Entropies(keras.callbacks.Callback):
    """Puts entropies into the logs of epochs; stands first."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def on_train_begin(self, logs=None):
        self.model.policy_entropy = keras.metrics.Mean("policy_entropy")

    def on_epoch_end(self, epoch, logs=None):
        logs["policy_entropy"] = self.values[epoch]

    def get_state(self):
        return {}

    def set_state(self, state):
        pass


@pytest.mark.parametrize("stop", [False, True])
def test_alarm_goes_on_counting_in_a_resumed_training(stop, tmp_path, monkeypatch):
    told = []
    warn = types.SimpleNamespace(warn=lambda message, **_: told.append(message))
    monkeypatch.setattr(training.callbacks, "warnings", warn)

    def run(workdir, epochs, resume=False):
        workdir.mkdir(exist_ok=True)
        model = small_model()
        progress = training.restore(model, workdir) if resume else None
        alarm = training.PolicyCollapse(0.5, epochs=3, stop=stop, monitor="policy_entropy")
        entropies = Entropies([0.9, *[0.1] * 5])
        result = training.fit(
            model, batches(), epochs, 1, workdir, progress=progress, verbose=0,
            callbacks=[entropies, alarm],
        )  # fmt: skip
        return result.epochs

    last = 4 if stop else 5
    message = "at the end of epoch 4, and below the floor of 0.5 for 3 epochs"
    assert run(tmp_path / "straight", 5) == last
    assert len(told) == 1 and message in told[0]
    run(tmp_path / "cut", 2)
    run(tmp_path / "cut", 3, resume=True)
    assert len(told) == 1
    assert run(tmp_path / "cut", 5, resume=True) == last
    assert len(told) == 2 and told[1] == told[0]
    # The alarm is not told again, and what was stopped stays so.
    assert run(tmp_path / "cut", 6, resume=True) == (4 if stop else 6)
    assert len(told) == 2


def test_bad_every_steps(tmp_path):
    with pytest.raises(ValueError, match="`every_steps`.*Received: every_steps=0"):
        training.Checkpoints(tmp_path, every_steps=0)
