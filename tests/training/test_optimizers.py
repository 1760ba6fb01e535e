"""Optimizers: schedules, weight decay, groups with rates of their own, frozen variables."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.models.small_models import DETERMINISTIC, batch, copy_weights, own_backbone, tnet
from tnet_keras import training
from tnet_keras.training import optimizers


def learning_rates(**options):
    optimizer = training.make_optimizer(**options)
    schedule = optimizer._learning_rate
    return np.array([float(schedule(step)) for step in range(options["steps"] + 1)])


def test_cosine_falls_from_the_learning_rate_to_zero():
    rates = learning_rates(learning_rate=0.5, steps=10)
    expected = 0.5 * 0.5 * (1 + np.cos(np.pi * np.arange(11) / 10))
    np.testing.assert_allclose(rates, expected, atol=1e-7)


def test_warmup_rises_linearly_and_ends_with_the_training():
    rates = learning_rates(learning_rate=0.4, steps=20, warmup_steps=4)
    np.testing.assert_allclose(rates[:5], [0.0, 0.1, 0.2, 0.3, 0.4], atol=1e-6)
    assert rates[-1] == pytest.approx(0.0, abs=1e-7)
    assert np.all(np.diff(rates[4:]) < 0)


def test_piecewise_drops_at_fractions_of_the_training():
    rates = learning_rates(learning_rate=0.5, steps=10, schedule="piecewise")
    np.testing.assert_allclose(rates, [0.5] * 8 + [0.05] * 3, rtol=1e-6)
    rates = learning_rates(
        learning_rate=0.5, steps=20, schedule="piecewise", drops=(0.7, 0.85), drop_factor=0.5,
        warmup_steps=2,
    )  # fmt: skip
    expected = [0.0, 0.25] + [0.5] * 12 + [0.25] * 3 + [0.125] * 4
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_constant_stays_after_its_rise():
    np.testing.assert_allclose(
        learning_rates(learning_rate=0.5, steps=5, schedule="constant", warmup_steps=1),
        [0.0, 0.5, 0.5, 0.5, 0.5, 0.5],
    )


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
@pytest.mark.parametrize("groups", [None, {"classifier": 0.1}])
def test_weight_decay_spares_biases(name, groups):
    model = tnet(own_backbone())
    optimizer = training.make_optimizer(name, weight_decay=0.01, group_rates=groups, model=model)
    optimizer.build(model.trainable_variables)
    decayed = {v.name for v in model.trainable_variables if optimizer._use_weight_decay(v)}
    assert decayed == {"kernel"}


def test_no_weight_decay_means_none():
    assert not training.make_optimizer(weight_decay=0.0).weight_decay
    assert type(training.make_optimizer("adam")) is keras.optimizers.Adam


@pytest.mark.parametrize(("nesterov", "expected"), [(False, -2.9), (True, -4.61)])
def test_momentum_is_the_plain_one_if_asked(nesterov, expected):
    # Velocities 1, 1.9; the look ahead adds 0.9 of each velocity less 0.9 of the last one.
    optimizer = training.make_optimizer("sgd", 1.0, schedule="constant", nesterov=nesterov)
    variable = keras.Variable([0.0])
    for _ in range(2):
        optimizer.apply_gradients([(tf.constant([1.0]), variable)])
    np.testing.assert_allclose(variable, [expected], atol=1e-6)


def test_values_of_gradients_are_clipped():
    optimizer = training.make_optimizer("sgd", 1.0, steps=10**6, clip_value=0.25, momentum=0.0)
    variable = keras.Variable([1.0, 1.0, 1.0])
    optimizer.apply_gradients([(tf.constant([0.1, -3.0, 9.0]), variable)])
    np.testing.assert_allclose(variable, [0.9, 1.25, 0.75], atol=1e-6)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"name": "lion"}, "`name`.*'adamw'.*Received: name='lion'"),
        ({"learning_rate": 0.0}, "`learning_rate`.*Received"),
        ({"learning_rate": float("nan")}, "`learning_rate`.*Received"),
        ({"steps": 0}, "`steps`.*Received: steps=0"),
        ({"steps": 3, "warmup_steps": 3}, "`warmup_steps` must be in 0..2.*Received"),
        ({"weight_decay": -1.0}, "`weight_decay`.*Received"),
        ({"clip_norm": 0.0}, "`clip_norm`.*Received"),
        ({"clip_value": -1.0}, "`clip_value` must be positive or None. Received: clip_value=-1.0"),
        ({"clip_norm": 1.0, "clip_value": 1.0}, "exclude each other. Received: .*clip_value=1.0"),
        ({"schedule": "step"}, "`schedule` must be one of 'cosine'.*Received: schedule='step'"),
        ({"schedule": "piecewise", "drops": ()}, r"`drops`.*at least one. Received: drops=\[\]"),
        ({"schedule": "piecewise", "drops": (0.9, 0.8)}, "`drops` must be ascending.*Received"),
        ({"schedule": "piecewise", "drops": (1.0,)}, "`drops`.*Received"),
        ({"drop_factor": 1.0}, "`drop_factor`.*Received: drop_factor=1.0"),
        ({"accumulation_steps": 0}, "`accumulation_steps`.*Received: accumulation_steps=0"),
        ({"group_rates": {"classifier": 1.0}}, "`model` must be given.*Received: model=None"),
    ],
)
def test_bad_optimizer_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        training.make_optimizer(**options)


def gradients(model, count, seed=0):
    random = np.random.default_rng(seed)
    return [
        [tf.constant(random.normal(size=v.shape), tf.float32) for v in model.trainable_variables]
        for _ in range(count)
    ]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("adam", {}),
        ("adamw", {"weight_decay": 0.1, "schedule": "piecewise", "drops": (0.5,)}),
        ("sgd", {"weight_decay": 0.1, "warmup_steps": 2}),
    ],
)
def test_groups_equal_an_optimizer_for_each(name, options):
    # As published: new modules 1e-3, backbone 1e-4, the same schedule.
    single, pair = tnet(own_backbone()), tnet(own_backbone())
    copy_weights(single, pair)
    one = training.make_optimizer(
        name, 1e-3, 6, group_rates={"backbone": 1e-4}, model=single, **options
    )
    new = training.make_optimizer(name, 1e-3, 6, **options)
    old = training.make_optimizer(name, 1e-4, 6, **options)
    inside = {id(v) for v in pair.backbone.trainable_variables}
    assert 0 < len(inside) < len(pair.trainable_variables)
    for values in gradients(single, 6):
        one.apply_gradients(zip(values, single.trainable_variables, strict=True))
        pairs = list(zip(values, pair.trainable_variables, strict=True))
        new.apply_gradients([(g, v) for g, v in pairs if id(v) not in inside])
        old.apply_gradients([(g, v) for g, v in pairs if id(v) in inside])
    for ours, theirs in zip(single.trainable_variables, pair.trainable_variables, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-7, err_msg=ours.path)


def test_first_name_counts_and_the_rest_has_the_plain_rate():
    model = tnet(own_backbone())
    optimizer = training.make_optimizer(
        "sgd", 0.1, momentum=0.0, schedule="constant", model=model,
        group_rates={"classifier/dense/bias": 0.4, "classifier": 0.2, "backbone": 0.01},
    )  # fmt: skip
    before = {v.path: v.numpy() for v in model.trainable_variables}
    optimizer.apply_gradients([(tf.ones(v.shape), v) for v in model.trainable_variables])
    moves = {v.path: (before[v.path] - v.numpy()).max() for v in model.trainable_variables}
    expected = {"classifier/dense/bias": 0.4, "classifier/dense/kernel": 0.2, "map/kernel": 0.01}
    expected["location_module/hidden/kernel"] = 0.1
    for path, move in expected.items():
        assert moves[path] == pytest.approx(move, rel=1e-4), path


def test_groups_are_saved_whole(tmp_path):
    model = tnet(own_backbone(), **DETERMINISTIC)
    model.compile(training.make_optimizer(steps=9, group_rates={"backbone": 1e-5}, model=model))
    model.train_on_batch(*batch(4))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.rate_factors == model.optimizer.rate_factors
    for one in (model, loaded):
        one.train_on_batch(*batch(4, seed=1))
    for ours, theirs in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-7, err_msg=ours.path)


def test_groups_on_two_replicas():
    strategy = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )
    single = tnet(own_backbone(), **DETERMINISTIC)
    with strategy.scope():
        double = tnet(own_backbone(), **DETERMINISTIC)
    copy_weights(single, double)
    for model in (single, double):
        with model.distribute_strategy.scope():
            model.compile(
                training.make_optimizer(
                    "sgd", 0.1, 9, weight_decay=0.1, group_rates={"backbone": 0.01}, model=model
                )
            )
        data = tf.data.Dataset.from_tensor_slices(batch(16)).batch(8)
        model.fit(data, verbose=0, shuffle=False)
    for ours, theirs in zip(double.weights, single.weights, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=0, atol=1e-6)


def test_accumulated_batches_make_one_update():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    optimizer = training.make_optimizer(
        "sgd", 1.0, schedule="constant", momentum=0.0, accumulation_steps=2
    )
    optimizer.build(model.trainable_variables)
    kernel = model.trainable_variables[0].numpy()
    for value, moved in ((1.0, 0.0), (3.0, 2.0)):
        optimizer.apply([tf.fill(v.shape, value) for v in model.trainable_variables])
        np.testing.assert_allclose(kernel - model.trainable_variables[0], moved, atol=1e-6)


def test_frozen_variables_do_not_move():
    model = tnet(own_backbone(), **DETERMINISTIC)
    count = len(model.backbone.trainable_variables) + 2
    assert training.freeze(model, ["backbone", "positional_encoding"]) == count
    model.compile(training.make_optimizer("sgd", 0.1))
    before = {v.path: v.numpy() for v in model.weights}
    model.train_on_batch(*batch(4))
    moved = {v.path for v in model.weights if np.any(v.numpy() != before[v.path])}
    assert "classifier/dense/kernel" in moved
    assert not {p for p in moved if p.startswith(("map", "vector", "positional_encoding"))}


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda model: training.freeze(model, ["head"]), "begin with map, .*Received: name='head'"),
        (lambda model: training.freeze(model, [""]), "Received: name=''"),
        (lambda model: training.freeze(model, ["/"]), "something to train. Received: names=/"),
        (
            lambda model: training.make_optimizer(group_rates={"backbone": 0.0}, model=model),
            "`group_rates` must be positive. Received: group_rates={'backbone': 0.0}",
        ),
        (
            lambda model: optimizers.GroupedSGD({"no/kernel": 2.0}).build(
                model.trainable_variables
            ),
            "`rate_factors` must name.*Received: rate_factors of 'no/kernel'",
        ),
    ],
)
def test_bad_names(function, message):
    with pytest.raises(ValueError, match=message):
        function(tnet(own_backbone()))
