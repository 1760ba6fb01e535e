"""Training with `fit` as Keras offers it: callbacks, precision, compilation, several replicas."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.models.small_models import (
    DETERMINISTIC,
    assert_same_weights,
    batch,
    classifier,
    convnet,
    copy_weights,
    own_backbone,
    pixels,
    tnet,
)
from tnet_keras.geometry import RegionGrid

SILENT = {"verbose": 0, "shuffle": False}


def stream(count, size=4):
    """Returns a data set of batches, of the images of `batch(count)`."""
    return tf.data.Dataset.from_tensor_slices(batch(count)).batch(size, drop_remainder=True)


def test_fit_with_callbacks(tmp_path):
    def compiled():
        model = tnet(convnet(statistics_levels=2))
        model.compile(keras.optimizers.Adam(0.01))
        return model

    def fit(model, epochs):
        callbacks = [
            keras.callbacks.BackupAndRestore(str(tmp_path / "backup"), delete_checkpoint=False),
            keras.callbacks.CSVLogger(str(tmp_path / "log.csv"), append=True),
            keras.callbacks.ModelCheckpoint(
                str(tmp_path / "best.keras"), monitor="val_reward", mode="max", save_best_only=True
            ),
            keras.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=9),
            keras.callbacks.TerminateOnNaN(),
            keras.callbacks.LambdaCallback(
                on_epoch_begin=lambda epoch, logs: begun.append(
                    (epoch, int(model.optimizer.iterations), model.baseline.numpy())
                )
            ),
        ]
        data = {"x": stream(8), "validation_data": stream(8)}
        return model.fit(**data, epochs=epochs, callbacks=callbacks, **SILENT).history

    begun = []
    first = compiled()
    fit(first, 2)
    baseline = first.baseline.numpy()
    history = fit(compiled(), 3)  # goes on from the backup
    assert begun[2] == (2, 4, baseline)  # after two epochs of two steps
    assert len(history["val_policy_entropy"]) == 1
    header, *rows = (tmp_path / "log.csv").read_text().splitlines()
    assert len(rows) == 3 and "val_baseline" in header.split(",")
    best = keras.saving.load_model(tmp_path / "best.keras")
    assert best(pixels(2)).shape == (2, 4)
    assert int(best.optimizer.iterations) in (2, 4, 6)


def test_several_steps_per_execution_equal_single_steps():
    models = []
    for steps in (1, 4):
        keras.utils.set_random_seed(0)
        model = tnet(locations=(2, 1), dropout=0.2)  # random numbers go on from step to step
        model.compile(keras.optimizers.SGD(0.05), steps_per_execution=steps)
        logs = model.fit(stream(32), **SILENT).history
        models.append((model, logs))
    (single, single_logs), (multiple, logs) = models
    assert int(multiple.optimizer.iterations) == 8
    assert_same_weights(multiple, single, atol=1e-6)
    for name, series in single_logs.items():
        np.testing.assert_allclose(logs[name], series, atol=1e-5, err_msg=name)


def test_xla_agrees_with_the_plain_step():
    # XLA draws other numbers. But all four cells are drawn, and the sum of independent
    # log-probabilities does not know in which order.
    arguments = {"grid": RegionGrid(2, 2, 0.5), "locations": (4,), "log_prob": "independent"}
    models = []
    for jit_compile in (False, True):
        keras.utils.set_random_seed(0)
        model = tnet(own_backbone(size=8), image_size=(16, 16), **arguments)
        model.compile(keras.optimizers.SGD(0.05), jit_compile=jit_compile)
        data = tf.data.Dataset.from_tensor_slices(batch(12, size=16)).batch(4, drop_remainder=True)
        logs = model.fit(data, **SILENT).history
        models.append((model, logs))
    (plain, plain_logs), (compiled, logs) = models
    assert compiled.jit_compile and not plain.jit_compile
    assert_same_weights(compiled, plain, atol=1e-5)
    for name, series in plain_logs.items():
        np.testing.assert_allclose(logs[name], series, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("make", [tnet, classifier])
def test_mixed_precision_lowers_the_loss(make, policy):
    keras.config.set_dtype_policy(policy)
    model = make()
    model.compile(keras.optimizers.Adam(0.01))
    images, labels = batch(8, size=32 if make is tnet else 16)
    logs = model.fit(images, labels, epochs=15, batch_size=8, verbose=0).history
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    assert np.isfinite(logs["loss"]).all()
    assert np.mean(logs["loss"][-3:]) < 0.9 * np.mean(logs["loss"][:3])
    assert model.dtype_policy.name == policy
    assert {v.dtype for v in model.weights} == {"float32"}
    assert model(images).dtype == "float32"


def test_loss_scale_leaves_the_gradients_alone():
    # What a scaled step changes is what an unscaled one changes.
    models = []
    for scale in (None, 1024.0):
        model = tnet(own_backbone(), **DETERMINISTIC)
        copy_weights(models[0] if models else model, model)
        optimizer = keras.optimizers.SGD(0.1)
        if scale:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=scale)
        model.compile(optimizer)
        models.append(model)
    for model in models:
        model.fit(*batch(4), **SILENT)
    assert_same_weights(*models, atol=1e-6)


def test_gradient_clipping():
    model = tnet(own_backbone())
    before = [v.numpy() for v in model.trainable_variables]
    model.compile(keras.optimizers.SGD(1.0, global_clipnorm=0.01))
    model.fit(*batch(4), verbose=0)
    moves = [v.numpy() - old for v, old in zip(model.trainable_variables, before, strict=True)]
    assert np.sqrt(sum(np.sum(move**2) for move in moves)) == pytest.approx(0.01, rel=1e-3)


def test_gradient_accumulation():
    arguments = {"lambda_f": 0.0} | DETERMINISTIC  # the baseline would move between the two halves
    whole, halves = tnet(own_backbone(), **arguments), tnet(own_backbone(), **arguments)
    start = copy_weights(whole, tnet(own_backbone(), **arguments))
    copy_weights(whole, halves)
    whole.compile(keras.optimizers.SGD(0.1))
    halves.compile(keras.optimizers.SGD(0.1, gradient_accumulation_steps=2))
    images, labels = batch(8)
    halves.train_on_batch(images[:4], labels[:4])
    start.baseline.assign(halves.baseline)
    assert_same_weights(halves, start)  # nothing moves before the second half
    halves.train_on_batch(images[4:], labels[4:])
    whole.train_on_batch(images, labels)
    halves.baseline.assign(whole.baseline)
    assert_same_weights(halves, whole, atol=1e-6)
    assert np.abs(whole.classifier.dense.kernel - start.classifier.dense.kernel).max() > 1e-4


@pytest.fixture
def mirrored():
    """Two replicas on the two logical CPUs."""
    # Not the default, collective operations: TensorFlow 2.21 numbers those of every strategy of a
    # process alike, and a second model of other shapes fails: "Shape mismatch in the collective".
    return tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )


def test_two_replicas_equal_one_of_twice_the_batch(mirrored):
    # No batch normalisation and no contrastive term, which look at the replica's own batch.
    arguments = {"num_samples": 2, "l2": 1e-3, "rule": "original"} | DETERMINISTIC
    single = tnet(own_backbone(), **arguments)
    with mirrored.scope():
        double = tnet(own_backbone(), **arguments)
        double.compile(keras.optimizers.SGD(0.1))
    copy_weights(single, double)
    single.compile(keras.optimizers.SGD(0.1))
    # A global batch of 8 is 2 x 4.
    logs = [model.fit(stream(16, 8), **SILENT).history for model in (single, double)]
    assert int(single.optimizer.iterations) == 2
    assert single.baseline.numpy() != 0.5
    assert_same_weights(double, single, atol=1e-6)
    assert logs[0].keys() == logs[1].keys()
    for name, series in logs[0].items():
        np.testing.assert_allclose(logs[1][name], series, atol=1e-5, err_msg=name)
    copies = mirrored.experimental_local_results(double.baseline.value)
    assert len(copies) == 2 and copies[0].numpy() == copies[1].numpy()
    images, labels = batch(8)
    expected = single.evaluate(images, labels, verbose=0)
    np.testing.assert_allclose(double.evaluate(images, labels, verbose=0), expected, atol=1e-5)
    np.testing.assert_allclose(double.predict(images, verbose=0), single(images), atol=1e-5)


def test_replicas_draw_different_cells(mirrored):
    with mirrored.scope():
        model = tnet(own_backbone(), locations=(2,))
    images = tf.constant(pixels(8))
    drawn = mirrored.run(tf.function(lambda: model(images, training=True)))
    first, second = (part.numpy() for part in mirrored.experimental_local_results(drawn))
    assert np.abs(first - second).max() > 1e-3


def test_batch_normalisation_and_samples_on_two_replicas(mirrored):
    with mirrored.scope():
        model = tnet(convnet(statistics_levels=2), num_samples=2, contrastive_weight=0.1)
        model.compile(keras.optimizers.Adam(0.01))
    logs = model.fit(stream(16, 8), **SILENT).history
    assert np.isfinite(logs["loss"]).all()
    statistics = model.backbone.network.get_layer("bn1").moving_means[1]
    assert np.abs(statistics.numpy()).max() > 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("jit_compile", True), ("steps_per_execution", 4), ("gradient_accumulation_steps", 2)],
)
@pytest.mark.parametrize("make", [tnet, classifier])
def test_what_keras_cannot_do_with_two_replicas(mirrored, make, name, value):
    arguments = {"optimizer": keras.optimizers.SGD(0.1), name: value}
    if name == "gradient_accumulation_steps":
        arguments = {"optimizer": keras.optimizers.SGD(0.1, gradient_accumulation_steps=value)}
    message = f"`{name}` does not work with several.*Received: {name}={value} with 2 replicas"
    with mirrored.scope(), pytest.raises(ValueError, match=message):
        make(own_backbone()).compile(**arguments)


def test_a_loss_of_the_users_is_refused():
    with pytest.raises(ValueError, match="`loss` must be None: TNet has its own. Received: loss="):
        tnet(own_backbone()).compile("sgd", loss="mse")
