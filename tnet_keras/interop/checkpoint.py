"""Filling a model from values with names: all that fits at once, or nothing."""

import dataclasses

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What became of a checkpoint.

    Attributes:
        matched: dict from the name of a value in the checkpoint to the path of our variable.
        missing: Paths of our variables that the checkpoint does not hold, or holds in another
            shape.
        unused: Names in the checkpoint that no variable of ours took (optimiser state and step
            counters are not listed).
    """

    matched: dict
    missing: list
    unused: list


def open_checkpoint(path):
    """Opens a TensorFlow checkpoint.

    Args:
        path: Its prefix (".../ckpt-0"), its ".index" file, or a folder (its latest one).

    Returns:
        What `tf.train.load_checkpoint` returns.

    Raises:
        ValueError: If there is none, or it cannot be read.
    """
    path = str(path)
    prefix = tf.train.latest_checkpoint(path) if tf.io.gfile.isdir(path) else path
    prefix = (prefix or path).removesuffix(".index")
    try:
        return tf.train.load_checkpoint(prefix)
    except (ValueError, tf.errors.OpError) as error:
        raise ValueError(
            f"`path` must lead to a TensorFlow checkpoint. Received: path={path}"
        ) from error


def read_values(reader, keys, path):
    """Reads tensors of an opened checkpoint.

    Args:
        reader: From `open_checkpoint`.
        keys: Names in the checkpoint.
        path: Where it lies, for the message.

    Returns:
        dict from key to array.

    Raises:
        ValueError: If the files are damaged.
    """
    try:
        return {key: np.asarray(reader.get_tensor(key)) for key in keys}
    except (IndexError, tf.errors.OpError) as error:  # TensorFlow raises both, by what is broken
        raise ValueError(
            f"`path` must lead to a whole checkpoint. Received: path={path} ({error})"
        ) from error


def match(wanted, shapes):
    """Finds which values fit which variables.

    Args:
        wanted: dict from the name of a value to the list of our variables that take it.
        shapes: dict from the name of each value there is to its shape.

    Returns:
        `LoadReport`.
    """
    matched, missing = {}, []
    for name, variables in wanted.items():
        for variable in variables:
            shape = tuple(variable.shape)
            if name in shapes and tuple(shapes[name]) == shape:
                matched[name] = variable.path
            else:
                found = f" (found {list(shapes[name])})" if name in shapes else ""
                missing.append(f"{variable.path} as {name} {list(shape)}{found}")
    return LoadReport(matched, missing, sorted(set(shapes) - set(matched)))


def check_fits(report, path):
    """Refuses a checkpoint that leaves something over on either side.

    Args:
        report: From `match`.
        path: Where the checkpoint lies, for the message.

    Raises:
        ValueError: If something is missing or unused; the first of it is named.
    """
    if report.missing or report.unused:
        first = (report.missing or report.unused)[0]
        raise ValueError(
            f"The checkpoint must fit the model: {len(report.missing)} variables without a value, "
            f"{len(report.unused)} values without a variable, first: {first}. "
            f"Received: path={path}"
        )


def fill(wanted, values):
    """Assigns values to the variables whose shape they have.

    Args:
        wanted: As in `match`.
        values: dict from name to array.
    """
    for name, variables in wanted.items():
        for variable in variables:
            if name in values and tuple(values[name].shape) == tuple(variable.shape):
                variable.assign(values[name])
