"""Where a model trains: on one device or mirrored over several."""

import functools

import tensorflow as tf

STRATEGIES = ("one_device", "mirrored")


def make_strategy(name):
    """Makes the distribution strategy of a name.

    Args:
        name: "one_device", or "mirrored": synchronous copies on all GPUs, or on all logical CPUs
            where there is no GPU.

    Returns:
        `tf.distribute.Strategy`. Build and compile the model in its `scope()`.

    Raises:
        ValueError: If the name is unknown.
    """
    if name not in STRATEGIES:
        raise ValueError(
            f"`name` must be one of {', '.join(map(repr, STRATEGIES))}. Received: name={name!r}"
        )
    if name == "one_device":
        return tf.distribute.get_strategy()
    return _mirrored()


@functools.cache
def _mirrored():
    # Two of them in one process mix up their collectives in TensorFlow 2.21: "Shape mismatch in the
    # collective instance" as soon as a second model has other shapes.
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])
