"""Noise that is the same eagerly, in graphs and under XLA, for the same seed.

TensorFlow's stateless generators give the same bits everywhere if the generator is named, but make
other floats of them under XLA (TensorFlow 2.21, its issue 117644). So the floats are made here.
"""

import math

import numpy as np
import tensorflow as tf

_TINY = float(np.finfo(np.float32).tiny)


def uniform_noise(shape, seed):
    """Independent uniform numbers.

    Args:
        shape: Integers or an int32 tensor.
        seed: int32 `[2]`: same seed, same numbers.

    Returns:
        float32 of that shape, in [0, 1), multiples of 2^-23.
    """
    bits = tf.random.stateless_uniform(
        shape, seed, minval=None, maxval=None, dtype=tf.int32, alg="philox"
    )
    return tf.cast(bits & 0x7FFFFF, tf.float32) * 2.0**-23


def exponential_noise(shape, seed):
    """Independent Exp(1) numbers `-log u`; `-log` of them are Gumbel(0, 1).

    Args:
        shape: Integers or an int32 tensor.
        seed: int32 `[2]`: same seed, same numbers.

    Returns:
        float32 of that shape, positive, at most 87.4.
    """
    # 1 - 2^-23 is the largest uniform number: its logarithm is not 0.
    return -tf.math.log(tf.maximum(uniform_noise(shape, seed), _TINY))


def normal_noise(shape, seed):
    """Independent standard normal numbers, by the Box–Muller transform.

    A pair of numbers comes from one 32-bit word: 20 bits are the radius, 12 the angle. All moments
    of a pair over 4,096 equidistant angles are those of the circle up to the order 4,095.

    Args:
        shape: List of integers or scalar tensors, the last one an integer.
        seed: int32 `[2]`: same seed, same numbers.

    Returns:
        float32 of that shape, between -5.4 and 5.4.
    """
    *leading, last = shape
    bits = tf.random.stateless_uniform(
        [*leading, -(-last // 2)], seed, minval=None, maxval=None, dtype=tf.int32, alg="philox"
    )
    # An arithmetic shift: -2^19 ... 2^19 - 1, here and below the middle of each interval.
    share = tf.cast(tf.bitwise.right_shift(bits, 12), tf.float32) * 2.0**-20 + (0.5 + 2.0**-21)
    angle = tf.cast(bits & 0xFFF, tf.float32) * (2.0 * math.pi * 2.0**-12) + math.pi * 2.0**-12
    radius = tf.sqrt(tf.math.log(share) * -2.0)
    pairs = tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], axis=-1)
    return pairs[..., :last]
