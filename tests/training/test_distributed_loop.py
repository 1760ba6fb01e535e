"""The loop for several replicas: it does what Keras's does, on two replicas and on two workers."""

import json
import os
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.models.small_models import (
    DETERMINISTIC,
    assert_same_weights,
    batch,
    copy_weights,
    own_backbone,
    tnet,
)
from tests.training.small_training import patch_selection
from tnet_keras import training
from tnet_keras.training.distributed_loop import fit_distributed


@pytest.fixture
def mirrored():
    """Two replicas on the two logical CPUs."""
    # As in tests/models/test_training.py: not the default, collective operations.
    return tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )


def tnet_without_batch_norm():
    # Batch normalisation sees the replica's own batch, 8 images and not 16.
    return tnet(own_backbone(), **DETERMINISTIC)


class Steps(keras.callbacks.Callback):
    """Remembers every step's logs, and the loss's sum over the steps."""

    def __init__(self):
        super().__init__()
        self.logs, self.calls = [], []

    def on_train_batch_begin(self, batch, logs=None):
        self.calls.append(("begin", batch))

    def on_train_batch_end(self, batch, logs=None):
        self.calls.append(("end", batch))
        self.logs.append(dict(logs))


def stream(count=48):
    return tf.data.Dataset.from_tensor_slices(batch(count)).batch(16, drop_remainder=True)


@pytest.mark.parametrize("make", [tnet_without_batch_norm, lambda: patch_selection("sinkhorn")])
def test_two_replicas_of_8_equal_one_of_16_step_by_step(make, mirrored):
    single = make()
    single.compile(keras.optimizers.SGD(0.05))
    with mirrored.scope():
        double = make()
        double.compile(keras.optimizers.SGD(0.05))
    copy_weights(single, double)
    steps = [Steps(), Steps()]
    options = {"epochs": 2, "steps_per_epoch": 2}
    history = single.fit(
        stream().repeat(), validation_data=stream(32), callbacks=[steps[0]], verbose=0,
        shuffle=False, **options,
    )  # fmt: skip
    ours = fit_distributed(
        double, stream().repeat(), validation_data=stream(32), callbacks=[steps[1]], **options
    )
    assert steps[0].calls == steps[1].calls
    for theirs, own in zip(steps[0].logs, steps[1].logs, strict=True):
        assert theirs.keys() == own.keys()
        for name, value in theirs.items():  # loss, accuracy, reward, baseline…
            assert own[name] == pytest.approx(value, abs=2e-5), name
    assert history.history.keys() == ours.history.keys()
    for name, series in history.history.items():
        np.testing.assert_allclose(ours.history[name], series, atol=2e-5, err_msg=name)
    # Two halves are summed in another order than the whole.
    assert_same_weights(double, single, atol=2e-5)
    assert int(double.optimizer.iterations.numpy()) == 4


def test_several_steps_per_execution_on_two_replicas(mirrored, tmp_path):
    start, models, histories = tnet_without_batch_norm(), [], []
    for steps in (1, 3):
        with mirrored.scope():
            model = tnet_without_batch_norm()
            model.compile(keras.optimizers.SGD(0.05))
        copy_weights(start, model)
        workdir = tmp_path / str(steps)
        workdir.mkdir()
        result = training.fit(
            model, stream().repeat(), 2, 3, workdir, stream(32), verbose=0,
            steps_per_execution=steps, callbacks=[counter := Steps()],
        )  # fmt: skip
        models.append(model)
        histories.append(result.history)
        assert len(counter.logs) == 6 // steps
        assert (workdir / "checkpoints" / "last.keras").is_file()
        assert len((workdir / "training.csv").read_text().splitlines()) == 3
    assert_same_weights(*models, atol=1e-6)
    assert histories[0].keys() == histories[1].keys()
    for name, series in histories[0].items():
        np.testing.assert_allclose(histories[1][name], series, atol=1e-5, err_msg=name)


def test_the_last_batch_of_a_validation_may_be_smaller(mirrored):
    with mirrored.scope():
        model = tnet_without_batch_norm()
        model.compile(keras.optimizers.SGD(0.05))
    data = tf.data.Dataset.from_tensor_slices(batch(22)).batch(16)
    history = fit_distributed(model, stream().repeat(), 1, 1, validation_data=data)
    single = copy_weights(model, tnet_without_batch_norm())
    single.compile()
    expected = single.evaluate(data, return_dict=True, verbose=0)
    for name, value in expected.items():
        assert history.history[f"val_{name}"][0] == pytest.approx(value, abs=1e-5), name


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def start_worker(repository, folder, config=None):
    folder.mkdir(exist_ok=True)
    environment = {
        **os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": str(repository),
    }  # fmt: skip
    environment.pop("TF_CONFIG", None)
    if config:
        environment["TF_CONFIG"] = json.dumps(config)
    return subprocess.Popen(
        [sys.executable, "-m", "tests.training.worker", str(folder)], cwd=repository,
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_two_workers_equal_one_process_with_the_global_batch(repository, tmp_path):
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    processes = [
        start_worker(
            repository,
            tmp_path / "both",
            {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}},
        )
        for index in (0, 1)
    ]
    processes.append(start_worker(repository, tmp_path / "alone"))
    try:
        for process in processes:
            output, _ = process.communicate(timeout=240)
            assert process.returncode == 0, output[-3000:]
    finally:
        for process in processes:
            process.kill()
    first, second, alone = (
        list(np.load(tmp_path / path).values())
        for path in ("both/weights0.npz", "both/weights1.npz", "alone/weights0.npz")
    )
    for ours, theirs, expected in zip(first, second, alone, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6)
    histories = [
        json.loads((tmp_path / path).read_text())
        for path in ("both/history0.json", "both/history1.json", "alone/history0.json")
    ]
    assert histories[0] == histories[1]
    assert histories[0].keys() == histories[2].keys()
    for name, series in histories[2].items():
        np.testing.assert_allclose(histories[0][name], series, atol=1e-5, err_msg=name)
    run = tmp_path / "both" / "run"
    assert len((run / "training.csv").read_text().splitlines()) == 3  # one worker writes
    assert len(list((run / "tensorboard" / "train").iterdir())) == 1
