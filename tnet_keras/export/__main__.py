"""The command that exports a trained model for serving: `python -m tnet_keras.export --help`."""

import pathlib
import sys

import keras
from absl import flags

from tnet_keras.export.class_names import names_beside, read_class_names
from tnet_keras.export.saved_model import export_for_serving
from tnet_keras.module_command import run_module_command
from tnet_keras.ops.decode import MAX_BYTES, MAX_PIXELS

_USAGE = """Writes a trained model as a SavedModel that TensorFlow Serving loads.

  python -m tnet_keras.export --model=runs/digits/checkpoints/best.keras --output=served/digits
"""


def main(argv=None):
    """Runs the command.

    Args:
        argv: list of str, the command line, the program's name first; None: the process's.

    Returns:
        Exit code: 0 done, 2 an error that was named in one line on stderr, 130 interrupted.
    """
    values = _define()

    def action():
        for name in ("model", "output"):
            if not values[name].value:
                raise flags.Error(f"Flag --{name} must be given.")
        print(f"Wrote {_export(values)}")

    return run_module_command(values, _USAGE, action, argv, (ImportError,))


def _define():
    values = flags.FlagValues()
    only = {"flag_values": values}
    flags.DEFINE_string("model", None, "The trained model, a .keras file.", **only)
    flags.DEFINE_string(
        "output", None, "Folder of the served model; its versions are folders in it.", **only
    )
    flags.DEFINE_integer(
        "version", None, "Version to write (default: the next one).", lower_bound=1, **only
    )
    flags.DEFINE_string(
        "class_names", None, "Text file, a class name a line (default: the run's).", **only
    )
    flags.DEFINE_integer("top", 5, "Most classes to name.", lower_bound=1, **only)
    flags.DEFINE_multi_string(
        "locations", [],
        "Further numbers of locations to serve, such as 3 or 2,1, or context for none; repeatable.",
        **only,
    )  # fmt: skip
    flags.DEFINE_multi_string(
        "adaptive", [],
        "Numbers of locations, ever more, for a signature that takes a threshold and looks at more "
        "where it is not as sure: --adaptive=context --adaptive=1 --adaptive=3.",
        **only,
    )  # fmt: skip
    flags.DEFINE_integer(
        "max_pixels", MAX_PIXELS, "Largest image, height times width.", lower_bound=1, **only
    )
    flags.DEFINE_integer("max_bytes", MAX_BYTES, "Longest file.", lower_bound=1, **only)
    flags.DEFINE_enum(
        "on_bad_image", "status", ["status", "error"],
        "Whether an unreadable image gets a status or fails the request.", **only,
    )  # fmt: skip
    flags.DEFINE_bool("warmup", True, "Also write warm-up requests (extra `serving`).", **only)
    flags.DEFINE_bool("allow_untrained", False, "Export a model that made no step.", **only)
    return values


def _export(values):
    path = pathlib.Path(values.model)
    if not path.is_file():
        raise flags.Error(f"Flag --model must name a .keras file. Received: {values.model}")
    class_names = None
    if values.class_names:
        class_names = read_class_names("class_names", values.class_names)
    locations = [_parsed("locations", text) for text in values.locations]
    adaptive = [_parsed("adaptive", text) for text in values.adaptive]
    try:
        model = keras.saving.load_model(path)
    except Exception as error:
        # Keras and zipfile raise errors of many classes for a file that is no model.
        raise flags.Error(
            f"Flag --model must name a .keras file of this package. Received: {values.model}: "
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from error
    if class_names is None and hasattr(model, "num_classes"):
        class_names = names_beside(path, model.num_classes)
        found = "numbers" if class_names is None else ", ".join(class_names)
        print(f"Names of the classes: {found}")
    return export_for_serving(
        model,
        values.output,
        values.version,
        class_names,
        values.top,
        locations,
        values.max_pixels,
        values.max_bytes,
        on_bad_image=values.on_bad_image,
        allow_untrained=values.allow_untrained,
        warmup=(1,) if values.warmup else (),
        adaptive=adaptive,
    )


def _parsed(name, text):
    if text == "context":
        return ()
    try:
        return tuple(int(count) for count in text.split(","))
    except ValueError:
        raise flags.Error(
            f"Flag --{name} must be integers such as 2,1, or context. Received: {text}"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
