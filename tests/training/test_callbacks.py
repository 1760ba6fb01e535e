"""Callbacks: nonsense is stopped and named, a collapsed policy is told, attention is drawn."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator

from tests.models.small_models import batch, own_backbone, tnet
from tests.training.small_training import batches, small_model
from tnet_keras import datasets, training
from tnet_keras.geometry import RegionGrid
from tnet_keras.training import checkpoints


def poisoned(position, examples):
    x, y = examples
    return tf.where(position == 5, x * np.nan, x), y


def test_loss_that_is_not_finite_is_named_and_not_saved(tmp_path):
    stream = batches().enumerate().map(poisoned)
    guard = training.StopOnNonFiniteLoss(
        batch_size=16, names=lambda positions: [f"{p}.png" for p in positions if p % 8 == 0]
    )
    message = r"loss=nan at step 2 of epoch 2, examples 80 to 95 of the stream \(80.png, 88.png\)$"
    with pytest.raises(FloatingPointError, match=message):
        training.fit(small_model(), stream, 4, 4, tmp_path, verbose=0, callbacks=[guard])
    assert checkpoints.read_progress(tmp_path / "checkpoints")["epochs"] == 1


def write_images(folder, count, black):
    """Small images in two classes, all of one colour; the one of number `black` is black."""
    for number in range(count):
        path = folder / "train" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = tf.fill((4, 4, 3), tf.cast(0 if number == black else 100 + number, tf.uint8))
        tf.io.write_file(str(path), tf.io.encode_png(image))


@pytest.mark.parametrize("first_step", [0, 1])
def test_files_of_the_batch_are_named(first_step, tmp_path):
    write_images(tmp_path, count=24, black=13)
    options = {"seed": 1, "augmentation": "none"}
    data = datasets.load(str(tmp_path), "train", 4, 8, start=8 * first_step, **options)
    # The quotient of the pixels and the brightest of them, 0 / 0 in a black image.
    bright = keras.layers.Lambda(lambda x: x / keras.ops.max(x, axis=(1, 2, 3), keepdims=True))
    model = keras.Sequential(
        [keras.Input((4, 4, 3)), bright, keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, jit_compile=False)
    guard = training.StopOnNonFiniteLoss(batch_size=8, names=data.names)
    done = {"epochs": 0, "step": first_step, "train_seconds": 0.0, "best": None, "metrics": []}
    with pytest.raises(FloatingPointError) as raised:
        training.fit(
            model, data.dataset, 2, 3, progress=done if first_step else None, verbose=0,
            callbacks=[guard],
        )  # fmt: skip
    told = r"step (\d) of epoch (\d), examples (\d+) to (\d+) of .* \((.*) and 3 more\)$"
    found = re.search(told, str(raised.value))
    step, epoch, first, last = map(int, found.groups()[:4])
    assert (first, last) == (24 * (epoch - 1) + 8 * step - 8, 24 * (epoch - 1) + 8 * step - 1)
    named = data.names(range(first, last + 1))
    assert found[5].split(", ") == named[:5]
    assert str(tmp_path / "train" / "b" / "13.png") in named


def test_files_that_are_gone_do_not_hide_the_loss(tmp_path):
    def names(positions):
        raise FileNotFoundError("gone")

    guard = training.StopOnNonFiniteLoss(batch_size=2, names=names)
    guard.set_params({"steps": 5})
    guard.on_epoch_begin(0)
    guard.on_train_batch_begin(3)
    message = r"at step 4 of epoch 1, examples 6 to 7 .*cannot be read: FileNotFoundError\)"
    with pytest.raises(FloatingPointError, match=message):
        guard.on_train_batch_end(3, {"loss": float("nan")})


def test_a_look_now_and_then():
    guard = training.StopOnNonFiniteLoss(every=2)
    guard.set_params({"steps": 5})
    guard.on_epoch_begin(0)
    guard.on_train_batch_end(0, {"loss": float("inf")})
    with pytest.raises(FloatingPointError, match="loss=inf at one of steps 1 to 2 of epoch 1$"):
        guard.on_train_batch_end(1, {"loss": float("inf")})
    guard.on_epoch_begin(1)
    for step in range(5):
        guard.on_train_batch_end(step, {"loss": 1.0})
    with pytest.raises(FloatingPointError, match="loss=nan at step 5 of epoch 2$"):
        guard.on_epoch_end(1, {"loss": float("nan")})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "`every` must be at least 1. Received: every=0"),
        ({"names": str}, "`names` need the `batch_size`. Received: batch_size=None"),
    ],
)
def test_bad_arguments_of_the_guard(options, message):
    with pytest.raises(ValueError, match=message):
        training.StopOnNonFiniteLoss(**options)


def alarm_for(entropies, **options):
    """Shows an alarm the entropies of some epochs; returns after how many it wants to stop."""
    alarm = training.PolicyCollapse(0.5, **options)
    model = tnet(own_backbone())
    model.compile("sgd")
    model.stop_training = False
    alarm.set_model(model)
    alarm.on_train_begin()
    for epoch, entropy in enumerate(entropies):
        alarm.on_epoch_end(epoch, {"policy_entropy": entropy})
        if model.stop_training:
            return epoch + 1
    return None


def test_collapsed_policy_is_told_once():
    message = "policy_entropy was 0.1 at the end of epoch 4, and below the floor of 0.5 for 2 epoch"
    with pytest.warns(UserWarning, match=message) as caught:
        assert alarm_for([0.4, 0.6, 0.4, 0.1, 0.1, 0.1], epochs=2) is None
    assert len(caught) == 1
    assert alarm_for([0.4, 0.6, 0.4, 0.6], epochs=2, stop=True) is None


def test_collapsed_policy_stops_the_training_if_asked_to():
    with pytest.warns(UserWarning, match="the training ends here"):
        assert alarm_for([0.4, 0.3, 0.2, 0.1], epochs=3, stop=True) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"floor": 0.0}, "`floor` must be positive. Received: floor=0.0"),
        ({"floor": 1.0, "epochs": 0}, "`epochs` must be at least 1. Received: epochs=0"),
    ],
)
def test_bad_arguments_of_the_alarm(options, message):
    with pytest.raises(ValueError, match=message):
        training.PolicyCollapse(**options)


def test_alarm_needs_a_policy():
    with pytest.raises(ValueError, match="`monitor` must.*Received: monitor='policy_entropy'"):
        training.fit(
            small_model(), batches(), 1, 1, verbose=0, callbacks=[training.PolicyCollapse(0.1)]
        )


def test_attention_is_drawn_on_a_fixed_batch(tmp_path):
    def trained(callbacks):
        keras.utils.set_random_seed(0)
        grid = RegionGrid(3, 3, 0.5)
        model = tnet(own_backbone(), grid=grid, image_size=(64, 64), locations=(2, 1))
        model.compile(keras.optimizers.SGD(0.1))
        data = tf.data.Dataset.from_tensor_slices(batch(4, size=64)).batch(4).repeat()
        training.fit(model, data, 3, 1, verbose=0, callbacks=callbacks)
        return model.get_weights()

    images, labels = batch(6, size=64)
    summary = training.AttentionSummary(tmp_path, images, labels, "abcd", every=2, pictures=2)
    drawn = trained([summary])
    for ours, theirs in zip(drawn, trained([]), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    events = event_accumulator.EventAccumulator(str(tmp_path), {"tensors": 0}).Reload()
    tags = {
        "attention", "locations/level_2", "locations/level_3", "location_probabilities/level_2",
        "location_probabilities/level_3",
    }  # fmt: skip
    assert set(events.Tags()["tensors"]) == tags
    for tag in tags:
        assert [event.step for event in events.Tensors(tag)] == [2, 3]
    buckets = tf.make_ndarray(events.Tensors("locations/level_2")[0].tensor_proto)
    assert buckets[:, 2].sum() == 6 * 2
    assert buckets[0, 0] >= 0 and buckets[-1, 1] <= 8
    width, height, png = tf.make_ndarray(events.Tensors("attention")[0].tensor_proto)
    assert tf.io.decode_png(png).shape == (int(height), int(width), 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "`every` must be at least 1. Received: every=0"),
        ({"pictures": 0}, "`pictures` must be at least 1. Received: pictures=0"),
        ({"labels": [1]}, "equally many, at least one. Received: 2 images, 1 labels"),
    ],
)
def test_bad_arguments_of_the_summary(options, message, tmp_path):
    images, labels = batch(2)
    with pytest.raises(ValueError, match=message):
        training.AttentionSummary(
            **{"folder": tmp_path, "images": images, "labels": labels, "class_names": "abcd"}
            | options
        )
