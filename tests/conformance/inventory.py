"""What the package holds: its modules, and the public classes and functions defined in them."""

import importlib
import inspect
import pathlib
import pkgutil

import keras

import tnet_keras

ROOT = pathlib.Path(tnet_keras.__path__[0])


def module_names():
    """Returns the dotted names of all modules of the package, itself included."""
    walked = pkgutil.walk_packages([str(ROOT)], prefix="tnet_keras.")
    return ["tnet_keras", *(module.name for module in walked)]


def public_objects(kind):
    """Finds what is public: defined in the package under names without a leading underscore.

    Args:
        kind: A predicate such as `inspect.isclass`.

    Returns:
        Dict from dotted name (where it is defined, not where it is exported) to the object.
    """
    found = {}
    for name in module_names():
        if any(part.startswith("_") for part in name.split(".")):
            continue
        for _, value in inspect.getmembers(importlib.import_module(name), kind):
            if value.__module__ == name and not value.__name__.startswith("_"):
                found[f"{name}.{value.__qualname__}"] = value
    return dict(sorted(found.items()))


def exported_objects():
    """Finds what a user is meant to import: what a room, or the package itself, shows.

    Returns:
        List of objects. A room is a folder with what its `__init__` names, or a single file.
    """
    rooms = [name for name in module_names() if name.count(".") <= 1]
    return [
        value
        for room in map(importlib.import_module, rooms)
        for name, value in vars(room).items()
        if not name.startswith("_") and (inspect.isclass(value) or inspect.isfunction(value))
    ]


def is_layer(value):
    """Tells whether an object is a Keras layer class; models are layers too."""
    return inspect.isclass(value) and issubclass(value, keras.layers.Layer)


def is_configurable(value):
    """Tells whether an object is another class with a configuration: a schedule, a metric..."""
    return inspect.isclass(value) and not is_layer(value) and hasattr(value, "get_config")
