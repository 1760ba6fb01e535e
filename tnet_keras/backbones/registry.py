"""The backbones that can be asked for by name."""

import inspect
from collections.abc import Callable
from typing import NamedTuple

INPUT_SCALINGS = ("symmetric", "unit", "imagenet", "none")

_entries = {}


class Registration(NamedTuple):
    """A registered backbone: its `builder` and the `input_scaling` it expects by default."""

    builder: Callable
    input_scaling: str

    def option_names(self):
        """Returns the names of the options the builder takes, a sorted list of str."""
        parameters = list(inspect.signature(self.builder).parameters)
        return sorted(parameters[2:])


def register(name, input_scaling="symmetric"):
    """Make a backbone builder available under a name (a decorator).

    The builder is called as `builder(input_shape, statistics_levels, **options)` and returns a
    functional `keras.Model` from one scaled float image `[B, H, W, C]` to the list
    `[map [B, m, m', c], vector [B, D]]`. Options must be JSON-serialisable and have defaults.

    Args:
        name: str, not taken yet.
        input_scaling: "symmetric" (x / 127.5 - 1), "unit" (x / 255), "imagenet" ((x / 255 - mean)
            / std of ImageNet, per channel) or "none": what the network's input is by default.

    Returns:
        The decorator; it returns the builder unchanged.

    Raises:
        ValueError: if the name is taken or the scaling unknown.
    """
    if input_scaling not in INPUT_SCALINGS:
        raise ValueError(
            f"`input_scaling` must be one of {INPUT_SCALINGS}. "
            f"Received: input_scaling={input_scaling!r}"
        )
    if not isinstance(name, str) or not name:
        raise ValueError(f"`name` must be a non-empty str. Received: name={name!r}")

    def decorate(builder):
        if name in _entries:
            raise ValueError(f"`name` must not be a registered backbone. Received: name={name!r}")
        _entries[name] = Registration(builder, input_scaling)
        return builder

    return decorate


def get(name):
    """Looks a backbone up.

    Args:
        name: str, one of `names()`.

    Returns:
        `Registration`: its builder and default input scaling.

    Raises:
        ValueError: if there is no such backbone.
    """
    if not isinstance(name, str) or name not in _entries:
        raise ValueError(f"`name` must be one of {names()}. Received: name={name!r}")
    return _entries[name]


def names():
    """Returns the names of all registered backbones, a sorted list of str."""
    return sorted(_entries)
