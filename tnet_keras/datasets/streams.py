"""What a data set hands out; the order of examples and their random numbers.

Both are pure functions of a position in a stream.

A training stream that is a function of its position can be resumed anywhere, and does not depend
on batch size, parallelism or prefetching.
"""

import numbers
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tnet_keras.datasets.bad_images import BadImages

#: Examples of a stream that is not for training, where nothing else is asked for.
DEFAULT_EVALUATION_EXAMPLES = 2000
SPLITS = ("train", "validation", "test")
_ENDLESS = np.iinfo(np.int64).max


class Data(NamedTuple):
    """A data set ready for `fit` or `evaluate`.

    Fields:
        dataset: `tf.data.Dataset` of `[B, H, W, 3]` uint8 images and `[B]` int32 labels (and
            `[B, 4]` or `[B, M, 4]` float32 boxes where asked for).
        class_names: tuple of str, one per label.
        num_examples: int, examples of one pass, or None for an endless stream of new ones.
        bad_images: `BadImages` that fills while images are read and bad ones left out; else None.
        names: function from a `range` of positions in the whole stream (of one that begins later,
            too) to what their images are called, such as files, a list of str; None if drawn.
        begin: function from a position to `dataset` from there on, which reads nothing again that
            is kept in memory; None if `load` with `start` costs no more.
    """

    dataset: tf.data.Dataset
    class_names: tuple
    num_examples: int | None
    bad_images: BadImages | None = None
    names: Callable | None = None
    begin: Callable | None = None


def counter_uniform(key, counters, count):
    """Uniform random numbers that are a pure function of (key, counter, position in the row).

    SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014):
    its finaliser applied to `key + n * gamma`. TensorFlow's own stateless generators take one
    seed per call, not one per row.

    Args:
        key: int, selects the stream; taken modulo 2^64.
        counters: `[B]` integers >= 0, one per row.
        count: int, numbers per row.

    Returns:
        `[B, count]` float32 in [0, 1), multiples of 2^-24.
    """

    def word(number):
        return tf.constant(number % 2**64, tf.uint64)

    n = tf.cast(counters, tf.uint64)[:, None] * word(count) + tf.cast(tf.range(count), tf.uint64)
    z = word(key) + (n + word(1)) * word(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = tf.bitwise.bitwise_xor(z, tf.bitwise.right_shift(z, word(shift))) * word(factor)
    z = tf.bitwise.bitwise_xor(z, tf.bitwise.right_shift(z, word(31)))
    top = tf.bitwise.right_shift(z, word(40))  # 24 bits: all that a float32 holds exactly.
    return tf.cast(top, tf.float32) * 2.0**-24


def example_order(num_examples, endless, seed, start=0):
    """Which example is read at which position of a stream.

    Args:
        num_examples: int, or None for a stream that never returns to an example (endless only).
        endless: bool. True: passes without end, each in its own random order. False: one pass in
            the order of the examples.
        seed: int, decides the random orders.
        start: int, the first position; positions before it cost nothing.

    Returns:
        `tf.data.Dataset` of pairs of int64 scalars: (position, example index).
    """
    if not endless:
        return tf.data.Dataset.range(start, num_examples).map(lambda i: (i, i))
    if num_examples is None:
        return tf.data.Dataset.range(start, _ENDLESS).map(lambda i: (i, i))

    def one_pass(number):
        every = tf.range(num_examples, dtype=tf.int64)
        shuffled = tf.random.experimental.stateless_shuffle(every, seed=[seed, number])
        return tf.data.Dataset.from_tensor_slices(shuffled)

    return endless_passes(one_pass, num_examples, start)


def example_names(names, endless, seed):
    """What the examples at given positions of `example_order` are called.

    Args:
        names: list of str, one per example.
        endless: bool, as of `example_order`.
        seed: int, as of `example_order`.

    Returns:
        Function from a `range` of positions to a list of str.
    """

    def find(positions):
        order = example_order(len(names), endless, seed, positions.start).take(len(positions))
        return [names[index] for _, index in order.as_numpy_iterator()]

    return find


def endless_passes(one_pass, num_examples, start=0):
    """Passes over examples without end.

    Args:
        one_pass: function of the number of a pass, int64 scalar, that returns a `tf.data.Dataset`
            of its examples.
        num_examples: int, examples of a pass.
        start: int, how many examples to leave out. Whole passes cost nothing; what is left out of
            a pass is read.

    Returns:
        `tf.data.Dataset` of pairs: (position, int64 scalar; example).
    """
    passes = tf.data.Dataset.range(start // num_examples, _ENDLESS).flat_map(one_pass)
    positions = tf.data.Dataset.range(start, _ENDLESS)
    return tf.data.Dataset.zip((positions, passes.skip(start % num_examples)))


def seeded_shuffle(dataset, buffer_size, seed):
    """`Dataset.shuffle` by a seed that may be a tensor, and by nothing else.

    TensorFlow 2.21's own mixes the global seed in, and refuses tensors when that is set.

    Args:
        dataset: `tf.data.Dataset`.
        buffer_size: int >= 1.
        seed: pair of integers or int64 scalars, not both 0, which would be no seed.

    Returns:
        `tf.data.Dataset`, the same order in each iteration.
    """
    structure = dataset.element_spec
    parts = tf.nest.flatten(structure)
    variant = tf.raw_ops.ShuffleDataset(
        input_dataset=tf.data.experimental.to_variant(dataset), buffer_size=buffer_size,
        seed=tf.cast(seed[0], tf.int64), seed2=tf.cast(seed[1], tf.int64),
        output_types=[part.dtype for part in parts], output_shapes=[part.shape for part in parts],
        reshuffle_each_iteration=False,
    )  # fmt: skip
    return tf.data.experimental.from_variant(variant, structure)


def check_shard(shard, num_examples):
    """Checks which part of a stream a worker reads.

    Args:
        shard: (index, count), 0 <= index < count <= num_examples.
        num_examples: int, examples of one pass over all.

    Returns:
        Tuple of two ints.

    Raises:
        ValueError: if it is out of range.
    """
    pair = tuple(shard) if isinstance(shard, tuple | list) else ()
    good = len(pair) == 2 and all(isinstance(number, numbers.Integral) for number in pair)
    if not (good and 0 <= pair[0] < pair[1] <= num_examples):
        raise ValueError(
            "`shard` must be (index, count) with 0 <= index < count, and at most one part for each "
            f"of the {num_examples} examples. Received: shard={shard}"
        )
    return int(pair[0]), int(pair[1])


def check_split(split):
    """Raises ValueError unless `split` is one of `SPLITS`."""
    if split not in SPLITS:
        raise ValueError(f"`split` must be one of {SPLITS}. Received: split={split!r}")


def check_stream(split, training, batch_size, seed, start, random_shift=0, num_examples=None):
    """Checks what every stream is asked for.

    Args:
        split: must be one of `SPLITS`.
        training: bool, or None for `split == "train"`.
        batch_size: must be at least 1.
        seed: must be at least 0.
        start: must be at least 0.
        random_shift: must be at least 0.
        num_examples: must be at least 1, or None.

    Returns:
        bool, whether the stream is one for training.

    Raises:
        ValueError: for what is out of range.
    """
    check_split(split)
    for name, value, low in (
        ("batch_size", batch_size, 1), ("seed", seed, 0), ("random_shift", random_shift, 0),
        ("start", start, 0), ("num_examples", 1 if num_examples is None else num_examples, 1),
    ):  # fmt: skip
        if value < low:
            raise ValueError(f"`{name}` must be at least {low}. Received: {name}={value}")
    return split == "train" if training is None else bool(training)


def batches(order, example, batch_size, training):
    """Reads the examples of a stream, two side by side, and puts them into batches.

    Args:
        order: as of `example_order`.
        example: function of position and index, int64 scalars, that returns a tuple of tensors.
        batch_size: int >= 1.
        training: bool; training streams hold full batches only.

    Returns:
        `tf.data.Dataset`.
    """
    examples = order.map(example, num_parallel_calls=2, deterministic=True)
    return examples.batch(batch_size, drop_remainder=training).prefetch(2)
