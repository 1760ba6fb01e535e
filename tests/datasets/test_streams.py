"""Random numbers and orders that depend on the position in the stream alone."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tnet_keras.datasets.streams import counter_uniform, example_order, seeded_shuffle


def test_counter_uniform_is_splitmix64():
    # The first outputs of SplitMix64 seeded with 1234567 (the generator's usual test vector).
    words = [
        6457827717110365317, 3203168211198807973, 9817491932198370423,
        4593380528125082431, 16408922859458223821,
    ]  # fmt: skip
    expected = [(word >> 40) * 2.0**-24 for word in words]
    got = counter_uniform(1234567, tf.constant([0], tf.int64), 5)
    assert got.dtype == tf.float32
    np.testing.assert_array_equal(got[0], np.array(expected, np.float32))


def test_counter_uniform_rows_do_not_depend_on_their_batch():
    counters = tf.range(7, dtype=tf.int64)
    together = counter_uniform(3, counters, 4).numpy()
    alone = [counter_uniform(3, counters[i : i + 1], 4)[0].numpy() for i in range(7)]
    traced = tf.function(counter_uniform)(3, counters, 4)
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together, traced)
    assert not np.array_equal(together, counter_uniform(4, counters, 4))


def test_counter_uniform_is_uniform():
    values = counter_uniform(-5, tf.range(2000, dtype=tf.int64), 10).numpy().ravel()
    assert 0.0 <= values.min() and values.max() < 1.0
    counts, _ = np.histogram(values, bins=20, range=(0, 1))
    assert ((counts - 1000) ** 2 / 1000).sum() < 43.8  # chi-squared, 19 degrees, 0.1 %


def read(dataset, count=None):
    return [tuple(map(int, pair)) for pair in itertools.islice(dataset, count)]


def test_one_pass_is_in_order():
    assert read(example_order(4, False, seed=0)) == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert read(example_order(4, False, seed=0, start=3)) == [(3, 3)]


def test_endless_passes_hold_every_example_once_in_new_orders():
    order = read(example_order(20, True, seed=1), 60)
    assert [position for position, _ in order] == list(range(60))
    passes = [[index for _, index in order[i : i + 20]] for i in (0, 20, 40)]
    assert all(sorted(one) == list(range(20)) for one in passes)
    assert passes[0] != passes[1] != passes[2]
    assert order == read(example_order(20, True, seed=1), 60)
    assert order != read(example_order(20, True, seed=2), 60)


@pytest.mark.parametrize("start", [1, 20, 33])
def test_start_resumes_the_stream(start):
    whole = read(example_order(20, True, seed=1), 50)
    assert read(example_order(20, True, seed=1, start=start), 50 - start) == whole[start:]


def test_seeded_shuffle_depends_on_its_seed_alone():
    dataset = tf.data.Dataset.range(30).map(
        lambda i: {"number": i, "text": tf.strings.as_string(i)}
    )

    def shuffled(seed, global_seed=None):
        tf.random.set_seed(global_seed)
        numbers = seeded_shuffle(dataset, 10, seed)
        return [int(one["number"]) for one in numbers]

    first = shuffled((0, 1), global_seed=3)
    assert sorted(first) == list(range(30)) and first != list(range(30))
    assert first[0] < 10  # of the first buffer
    assert first == shuffled((0, 1), global_seed=4)
    assert first != shuffled((0, 2)) and first != shuffled((1, 1))


def test_without_a_number_no_example_returns():
    assert read(example_order(None, True, seed=1, start=5), 3) == [(5, 5), (6, 6), (7, 7)]
