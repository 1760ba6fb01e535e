"""Whole training steps under XLA and in half precision; lowering for TPUs where that can be had."""

import importlib.util
import os
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
    convnet,
    own_backbone,
    tnet,
)
from tests.training.small_training import patch_selection
from tnet_keras import datasets
from tnet_keras.geometry import RegionGrid


def train(make, jit_compile):
    keras.utils.set_random_seed(0)
    model = make()
    model.compile(keras.optimizers.SGD(0.05), jit_compile=jit_compile)
    data = tf.data.Dataset.from_tensor_slices(batch(12)).batch(4, drop_remainder=True)
    logs = model.fit(data, verbose=0, shuffle=False).history
    return model, logs


@pytest.mark.parametrize(
    "make",
    [
        # XLA draws other random numbers: what is compared draws none.
        lambda: tnet(own_backbone(), **DETERMINISTIC),
        lambda: tnet(convnet(statistics_levels=2), **DETERMINISTIC),
        lambda: patch_selection("hard"),
        lambda: patch_selection("sinkhorn"),
    ],
    ids=["tnet", "tnet_batch_norm", "patches_hard", "patches_sinkhorn"],
)
def test_compiled_training_equals_the_plain_one(make):
    (plain, plain_logs), (compiled, logs) = (train(make, jit) for jit in (False, True))
    assert compiled.jit_compile and not plain.jit_compile
    assert_same_weights(compiled, plain, atol=1e-5)
    for name, series in plain_logs.items():
        np.testing.assert_allclose(logs[name], series, atol=1e-4, err_msg=name)


def test_noise_compiles():
    # Noise is drawn and many samples are averaged: what comes out is near, not equal.
    def make():
        return patch_selection("perturbed", num_samples=100)

    (_, plain_logs), (model, logs) = (train(make, jit) for jit in (False, True))
    assert int(model.optimizer.iterations) == 3
    np.testing.assert_allclose(logs["loss"], plain_logs["loss"], rtol=0.05)


def needle_losses(policy):
    """Losses of 12 steps on needle digits, and the accuracy on the same scenes afterwards."""
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(0)
    data = datasets.load("needle_digits", "test", 64, 16, num_examples=64).dataset.cache()
    model = tnet(
        convnet(statistics_levels=2), num_classes=10, grid=RegionGrid(3, 3, 0.5),
        image_size=(64, 64), **DETERMINISTIC,
    )  # fmt: skip
    model.compile(keras.optimizers.Adam(0.01))
    history = model.fit(data, epochs=3, verbose=0, shuffle=False).history
    return model, history["loss"]


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_learns_as_float32_does(policy):
    # Not the accuracy of a whole training, which takes longer than a test may: that is
    # `experiments/imagenet_tnet.py --flagfile=experiments/flagfiles/needle_digits.flags
    # --precision=mixed_bfloat16`. Here the losses of the first epochs are the same to 3 %.
    _, expected = needle_losses("float32")
    model, losses = needle_losses(policy)
    np.testing.assert_allclose(losses, expected, rtol=0.03)
    assert losses[-1] < losses[0]
    if policy == "mixed_float16":
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        assert float(model.optimizer.dynamic_scale) > 1.0
        assert float(model.optimizer.dynamic_scale) == float(2**15)  # no step was skipped
    else:
        assert isinstance(model.optimizer, keras.optimizers.Adam)


TPU = """
import tensorflow as tf
from tests.models.small_models import own_backbone, tnet
visible = [d for d in tf.config.list_physical_devices() if d.device_type == "CPU"]
tf.config.set_visible_devices(visible)
model = tnet(own_backbone())
weights = [w.value for w in model.trainable_variables]
others = [w.value for w in model.non_trainable_variables]

@tf.function(jit_compile=True, autograph=False)
def gradients(images, weights, others):
    with tf.GradientTape() as tape:
        tape.watch(weights)
        logits, _ = model.stateless_call(weights, others, images, training=True)
        loss = tf.reduce_mean(logits ** 2)
    return tape.gradient(loss, weights)

text = gradients.experimental_get_compiler_ir(
    tf.zeros((4, 32, 32, 3)), [tf.constant(w) for w in weights], [tf.constant(w) for w in others]
)(stage="hlo", platform_name="TPU")
assert "HloModule" in text
"""


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="needs tensorflow-tpu==2.20.0 and libtpu==0.0.18, which replace tensorflow",
)
def test_a_training_step_is_lowered_for_tpus(repository):
    # Lowering only, in a process of its own; nothing is executed. Without the first variable
    # libtpu waits for a cloud's metadata server.
    environment = {
        **os.environ, "TPU_SKIP_MDS_QUERY": "1", "TPU_ACCELERATOR_TYPE": "v5e-1",
        "TPU_WORKER_ID": "0", "TPU_WORKER_HOSTNAMES": "127.0.0.1",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", TPU], cwd=repository, env=environment, capture_output=True,
        text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
