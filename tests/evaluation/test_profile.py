"""Multiply-adds and parameters against counts made by hand."""

import keras
import pytest
import tensorflow as tf

from tnet_keras.evaluation import profile


def spec(*shape):
    return tf.TensorSpec(shape, tf.float32)


def test_small_network_by_hand():
    network = keras.Sequential(
        [
            keras.Input((16, 12, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(8, 3, strides=2, padding="same"),
            keras.layers.BatchNormalization(),
            keras.layers.DepthwiseConv2D(5, padding="valid"),
            keras.layers.Conv2D(4, 1),
            keras.layers.Conv2D(6, 3, groups=2, padding="same"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(7),
        ]
    )
    expected = (
        8 * 6 * 8 * 3 * 3 * 3  # stride-2 convolution
        + 4 * 2 * 8 * 5 * 5  # depthwise, valid
        + 4 * 2 * 4 * 8  # 1x1
        + 4 * 2 * 6 * 3 * 3 * 2  # two groups of two input channels each
        + 6 * 7  # dense
    )
    assert profile.count_macs(network, (16, 12, 3)) == expected


def test_parameters_with_and_without_moving_statistics():
    network = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization()]
    )
    assert profile.count_parameters(network) == (3 * 3 * 3 * 4 + 4 + 16, 3 * 3 * 3 * 4 + 4 + 8)


def test_unbuilt_model_is_an_error():
    with pytest.raises(ValueError, match="must be built"):
        profile.count_parameters(keras.layers.Dense(3))


def test_transposed_convolution():
    layer = keras.layers.Conv2DTranspose(5, 3, strides=2, padding="same")
    assert profile.count_macs(layer, [spec(1, 4, 6, 2)]) == 4 * 6 * 2 * 3 * 3 * 5


@pytest.mark.parametrize(
    "equation, shapes, expected",
    [
        ("bnd,bd->bn", [(2, 3, 4), (2, 4)], 24),
        ("...i,ij->...j", [(2, 3, 4), (4, 5)], 120),
        ("...ij,...jk->...ik", [(7, 1, 2, 3), (1, 6, 3, 4)], 7 * 6 * 2 * 3 * 4),
        ("ij->ji", [(3, 4)], 0),
    ],
)
def test_einsum(equation, shapes, expected):
    specs = [spec(*shape) for shape in shapes]
    assert profile.count_macs(lambda *x: tf.einsum(equation, *x), specs) == expected


@pytest.mark.parametrize("transpose", [False, True])
def test_matrix_products(transpose):
    left = spec(3, 2) if transpose else spec(2, 3)
    assert (
        profile.count_macs(lambda a, b: tf.matmul(a, b, transpose_a=transpose), [left, spec(3, 5)])
        == 30
    )
    left = spec(4, 3, 2) if transpose else spec(4, 2, 3)
    assert (
        profile.count_macs(lambda a, b: tf.matmul(a, b, adjoint_a=transpose), [left, spec(4, 3, 5)])
        == 120
    )


def test_nested_functions_count_and_dropped_results_do_not():
    @tf.function
    def inner(x):
        return tf.matmul(x, tf.ones((4, 5))), tf.matmul(x, tf.ones((4, 100)))

    @tf.function
    def outer(x):
        used, _ = inner(x)
        tf.matmul(x, tf.ones((4, 1000)))
        return used

    assert profile.count_macs(lambda x: outer(x), [spec(1, 4)]) == 20


def test_loops_count_every_round():
    @tf.function
    def range_loop(x):
        for _ in tf.range(1, 8, 2):
            x = tf.matmul(x, tf.ones((4, 4)))
        return x

    assert profile.count_macs(lambda x: range_loop(x), [spec(1, 4)]) == 4 * 16
    mapped = profile.count_macs(
        lambda x: tf.map_fn(lambda row: tf.linalg.matvec(tf.ones((3, 4)), row), x), [spec(6, 4)]
    )
    assert mapped == 6 * 12


def test_branches_count_the_dearer_side():
    def branch(x):
        return tf.cond(
            tf.reduce_sum(x) > 0,
            lambda: tf.matmul(x, tf.ones((4, 2))),
            lambda: tf.matmul(tf.matmul(x, tf.ones((4, 4))), tf.ones((4, 2))),
        )

    assert profile.count_macs(branch, [spec(1, 4)]) == 24


def test_loop_without_static_rounds_is_an_error():
    def endless(x):
        return tf.while_loop(
            lambda value: tf.reduce_sum(value) < 10.0,
            lambda value: (tf.matmul(value, 2 * tf.eye(4)),),
            (x,),
        )

    with pytest.raises(ValueError, match="number of rounds is static"):
        profile.count_macs(endless, [spec(1, 4)])


def test_dynamic_shape_is_an_error():
    with pytest.raises(ValueError, match="static shapes.*MatMul"):
        profile.count_macs(lambda x: tf.matmul(x, tf.ones((4, 4))), [spec(None, 4)])


def test_total_and_keys_of_locations():
    totals = [profile.total_locations(chosen) for chosen in [(), (2,), (2, 1), (2, 2), (3, 1)]]
    assert totals == [0, 2, 4, 6, 6]
    assert profile.keyed_locations([(5,), (), (2, 1)]) == {"0": (), "4": (2, 1), "5": (5,)}
    with pytest.raises(ValueError, match="different number of regions"):
        profile.keyed_locations([(2, 2), (3, 1)])


def test_profile_of_a_classifier_without_locations():
    classifier = keras.Sequential([keras.Input((6, 6, 3)), keras.layers.Conv2D(2, 3)])
    classifier.image_size = (6, 6)
    assert profile.profile(classifier) == {
        "parameters": 56,
        "trainable_parameters": 56,
        "macs": {"0": 4 * 4 * 2 * 27},
        "input_shape": [6, 6, 3],
    }
