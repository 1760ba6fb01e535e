"""`kill -9` at any moment: the same command goes on to the weights of an uninterrupted run."""

import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

import tnet_keras

ARGUMENTS = (
    "--num_train_examples=64", "--num_validation_examples=20", "--num_test_examples=10",
    "--batch_size=8", "--eval_batch_size=10", "--epochs=2", "--pictures=2", "--seed=3",
    "--eval_locations=0,2", "--noexport", "--deterministic", "--resume", "--checkpoint_steps=2",
)  # fmt: skip


def start(repository, workdir):
    # One thread, so that sums have one order.
    threads = {"TF_NUM_INTRAOP_THREADS": "1", "CUDA_VISIBLE_DEVICES": "-1"}
    return subprocess.Popen(
        [sys.executable, "experiments/imagenet_tnet.py", *ARGUMENTS, f"--workdir={workdir}"],
        cwd=repository, env={**os.environ, **threads}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finish(process):
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output[-3000:]


@pytest.fixture(scope="module")
def straight(repository, tmp_path_factory):
    """Folder of a run that nothing interrupted."""
    workdir = tmp_path_factory.mktemp("runs") / "straight"
    finish(start(repository, workdir))
    return workdir


def wait_for(process, condition):
    while not condition():
        assert process.poll() is None, process.stdout.read()[-3000:]
        time.sleep(0.02)


def test_killed_run_ends_like_an_uninterrupted_one(straight, repository, tmp_path):
    workdir = tmp_path / "killed"
    last = workdir / "checkpoints" / "last.keras"
    # Killed right after a first checkpoint, and in the middle of writing a later one.
    process = start(repository, workdir)
    wait_for(process, last.is_file)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()  # closes the pipe, too
    size, hidden = last.stat().st_size, last.with_name(".last.keras")
    process = start(repository, workdir)
    wait_for(process, lambda: hidden.exists() and hidden.stat().st_size < size)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()  # closes the pipe, too
    finish(start(repository, workdir))
    assert tnet_keras.TNet  # loading needs the package
    ours, theirs = (
        keras.saving.load_model(folder / "checkpoints" / "last.keras", compile=False).get_weights()
        for folder in (workdir, straight)
    )
    for first, second in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(first, second)
    tables = [(folder / "training.csv").read_text() for folder in (workdir, straight)]
    assert tables[0] == tables[1]
