"""Where a model trains: which strategies there are, and what they say when they cannot be."""

import json
import urllib.error

import pytest
import tensorflow as tf

from tnet_keras import training


def test_mirrored_strategy_has_every_device():
    strategy = training.make_strategy("mirrored")
    assert strategy.num_replicas_in_sync == len(tf.config.list_logical_devices("CPU"))
    assert training.make_strategy("one_device").num_replicas_in_sync == 1
    assert training.is_chief(strategy)


def test_unknown_strategy():
    message = "'one_device', 'mirrored', 'multi_worker', 'tpu'. Received: name='tpus'"
    with pytest.raises(ValueError, match=message):
        training.make_strategy("tpus")


@pytest.mark.parametrize("text", ["", "{}", '{"cluster": {"worker": []}, "task": 3}'])
def test_workers_that_are_not_described(text, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match="needs the environment variable TF_CONFIG.*Received: "):
        training.make_strategy("multi_worker")


def test_workers_asked_for_too_late(monkeypatch):
    workers = {"cluster": {"worker": ["127.0.0.1:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(workers))
    tf.config.list_logical_devices()
    with pytest.raises(ValueError, match="before TensorFlow has done anything else. Received: "):
        training.make_strategy("multi_worker")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("Please provide a TPU Name to connect to."),
        urllib.error.URLError("Name or service not known"),
        tf.errors.NotFoundError(None, None, "'ConfigureDistributedTPU' not registered\n\nmore"),
    ],
)
def test_no_tpu(error, monkeypatch):
    def resolver(address):
        raise error  # the real one asks the network

    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", resolver)
    monkeypatch.setenv("TPU_NAME", "")
    with pytest.raises(ValueError, match="needs a TPU.*Received: TPU_NAME='' .[P<']") as raised:
        training.make_strategy("tpu")
    assert "\n" not in str(raised.value)
