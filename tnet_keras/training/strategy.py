"""Where a model trains: on one device, mirrored over several, on several workers, on a TPU."""

import functools
import json
import os

import tensorflow as tf

STRATEGIES = ("one_device", "mirrored", "multi_worker", "tpu")


def make_strategy(name):
    """Makes the distribution strategy of a name.

    Args:
        name: "one_device"; "mirrored": synchronous copies on all GPUs, or on all logical CPUs where
            there is no GPU; "multi_worker": synchronous copies on all devices of the workers that
            the environment variable TF_CONFIG names, one process each; "tpu": on all cores of the
            TPU that the environment variable TPU_NAME names, or of this machine.

    Returns:
        `tf.distribute.Strategy`. Build and compile the model in its `scope()`.

    Raises:
        ValueError: If the name is unknown, the workers are not described, or there is no TPU.
    """
    if name not in STRATEGIES:
        raise ValueError(
            f"`name` must be one of {', '.join(map(repr, STRATEGIES))}. Received: name={name!r}"
        )
    if name == "one_device":
        return tf.distribute.get_strategy()
    return {"mirrored": _mirrored, "multi_worker": _multi_worker, "tpu": _tpu}[name]()


def is_multi_worker(strategy):
    """Tells whether a strategy has several processes.

    Args:
        strategy: A `tf.distribute.Strategy`.

    Returns:
        bool.
    """
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def is_chief(strategy):
    """Tells whether this process is the one that writes files; the only process always is.

    Args:
        strategy: A `tf.distribute.Strategy`.

    Returns:
        bool.
    """
    if not is_multi_worker(strategy):
        return True
    resolver = strategy.cluster_resolver
    if resolver is None or resolver.task_type is None:
        return True
    has_chief = bool(resolver.cluster_spec().as_dict().get("chief"))
    first = "chief" if has_chief else "worker"
    return (resolver.task_type, resolver.task_id or 0) == (first, 0)


def wait_for_all(strategy):
    """Returns once every worker has called it; at once where there is one process.

    A worker that ended while another still uses TensorFlow would be reported as lost there.

    Args:
        strategy: A `tf.distribute.Strategy`.
    """
    if is_multi_worker(strategy):
        one = tf.function(lambda: strategy.run(lambda: tf.ones(())), autograph=False)
        strategy.reduce(tf.distribute.ReduceOp.SUM, one(), axis=None)


@functools.cache
def _mirrored():
    # Two of them in one process mix up their collectives in TensorFlow 2.21: "Shape mismatch in the
    # collective instance" as soon as a second model has other shapes.
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


@functools.cache
def _multi_worker():
    text = os.environ.get("TF_CONFIG", "")
    try:
        config = json.loads(text)
        known = config["cluster"][config["task"]["type"]][config["task"]["index"]]
    except (ValueError, KeyError, IndexError, TypeError):
        known = None
    if not known:
        raise ValueError(
            "`name` 'multi_worker' needs the environment variable TF_CONFIG, such as "
            '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}. '
            f"Received: TF_CONFIG={text!r}"
        )
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise ValueError(
            "`name` 'multi_worker' must be asked for before TensorFlow has done anything else. "
            f"Received: {str(error).partition(chr(10))[0]}"
        ) from error


@functools.cache
def _tpu():
    address = os.environ.get("TPU_NAME", "")
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(address)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    # Without a name, TensorFlow asks a cloud's metadata server: OSError where there is none.
    except (ValueError, OSError, tf.errors.OpError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            "`name` 'tpu' needs a TPU; the environment variable TPU_NAME names one. "
            f"Received: TPU_NAME={address!r} ({reason})"
        ) from error
    return tf.distribute.TPUStrategy(resolver)
