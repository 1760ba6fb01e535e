"""The contract of every public class: it survives its configuration, a file, bfloat16, tracing."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import tree

from tests.conformance import inventory
from tests.conformance.cases import BASES, CASES, CONFIGURATIONS

LAYERS = inventory.public_objects(inventory.is_layer)
CONFIGURABLE = inventory.public_objects(inventory.is_configurable)
# A stale entry fails in the tests of the table, not in every test of the contract.
LAYER_CASES = [
    pytest.param(LAYERS[name], case, id=f"{name}-{number}")
    for name, cases in CASES.items()
    for number, case in enumerate(cases, start=1)
    if name in LAYERS
]
KNOWN_CONFIGURATIONS = [name for name in CONFIGURATIONS if name in CONFIGURABLE]

each_layer_case = pytest.mark.parametrize(("cls", "case"), LAYER_CASES)


def build(cls, case):
    """Returns a new instance of a layer, its inputs, and the outputs of the call that built it."""
    layer = cls(**case.kwargs())
    inputs = case.inputs()
    return layer, inputs, tree.flatten(layer(*inputs, **case.call_kwargs))


def assert_close(actual, expected, tolerance):
    """Asserts that two nests of tensors agree in number, dtype and value."""
    actual, expected = tree.flatten(actual), tree.flatten(expected)
    assert [x.dtype for x in actual] == [x.dtype for x in expected]
    for ours, theirs in zip(actual, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


def as_json(value):
    """Returns a configuration or a serialisable object as text that compares by value."""
    return json.dumps(keras.saving.serialize_keras_object(value), sort_keys=True)


def copy_by_configuration(instance):
    """Returns a copy made by `from_config`, having asserted that no copy changes the configuration.

    The other way to a copy, through JSON and the registered name, is checked beside it.
    """
    config = instance.get_config()
    expected = as_json(config)
    copy = type(instance).from_config(config)
    assert as_json(copy.get_config()) == expected
    read_back = keras.saving.deserialize_keras_object(json.loads(as_json(instance)))
    assert type(read_back) is type(instance)
    assert as_json(read_back.get_config()) == expected
    return copy


def test_every_public_layer_has_a_case():
    assert sorted(CASES) == sorted(LAYERS.keys() - BASES), "cases.py: CASES is out of step"


def test_every_configurable_class_has_a_case():
    known = sorted(CONFIGURABLE.keys() - BASES)
    assert sorted(CONFIGURATIONS) == known, "cases.py: CONFIGURATIONS is out of step"


@pytest.mark.parametrize("name", sorted(BASES))
def test_bases_have_subclasses_in_the_table(name):
    known = [(LAYERS | CONFIGURABLE)[case] for case in CASES | CONFIGURATIONS]
    assert any(issubclass(cls, (LAYERS | CONFIGURABLE)[name]) for cls in known)


@pytest.mark.parametrize("name", sorted((LAYERS | CONFIGURABLE).keys() - BASES))
def test_registered_under_the_package(name):
    cls = (LAYERS | CONFIGURABLE)[name]
    registered = keras.saving.get_registered_name(cls)
    assert registered == f"tnet_keras>{cls.__name__}"
    assert keras.saving.get_registered_object(registered) is cls


@pytest.mark.parametrize("name", KNOWN_CONFIGURATIONS)
def test_configuration_round_trip(name):
    instance = CONFIGURABLE[name](**CONFIGURATIONS[name])
    assert type(copy_by_configuration(instance)) is CONFIGURABLE[name]


@each_layer_case
def test_layer_configuration_round_trip(cls, case):
    layer, inputs, outputs = build(cls, case)
    copy = copy_by_configuration(layer)
    copy(*inputs, **case.call_kwargs)
    assert [w.shape for w in copy.weights] == [w.shape for w in layer.weights]
    copy.set_weights(layer.get_weights())
    assert_close(copy(*inputs, **case.call_kwargs), outputs, 1e-6)


@each_layer_case
def test_saves_and_loads_without_custom_objects(cls, case, tmp_path):
    layer, inputs, outputs = build(cls, case)
    path = tmp_path / "model.keras"
    if isinstance(layer, keras.Model):
        layer.save(path)
        loaded = keras.saving.load_model(path)(*inputs, **case.call_kwargs)
    else:  # a file holds models: wrap the layer in one
        symbols = tree.map_structure(lambda x: keras.Input(x.shape[1:], dtype=x.dtype.name), inputs)
        called = tree.flatten(layer(*symbols, **case.call_kwargs))
        keras.Model(tree.flatten(symbols), called).save(path)
        loaded = keras.saving.load_model(path)(tree.flatten(inputs))
    assert_close(loaded, outputs, 1e-6)


@each_layer_case
def test_mixed_precision(cls, case):
    keras.config.set_dtype_policy("mixed_bfloat16")
    layer, _, outputs = build(cls, case)
    assert {w.dtype for w in layer.trainable_weights} <= {"float32"}
    assert tuple(x.dtype.name for x in outputs) == case.mixed_dtypes
    for x in outputs:
        assert np.isfinite(tf.cast(x, "float32")).all()


@each_layer_case
def test_eager_equals_traced(cls, case):
    layer, inputs, outputs = build(cls, case)
    traced = tf.function(lambda *x: layer(*x, **case.call_kwargs))
    assert_close(traced(*tree.map_structure(tf.constant, inputs)), outputs, case.tolerance)
