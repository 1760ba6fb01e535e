"""The command that prepares a data set: `python -m tnet_keras.datasets.builders --help`."""

import inspect
import sys

import tensorflow as tf
import tensorflow_datasets as tfds
from absl import flags

from tnet_keras.datasets import builders

_USAGE = """Prepares a data set with TFDS from the files that its owner hands out, and prints how
many examples each split has. Nothing is downloaded; on an error nothing is left behind.

  python -m tnet_keras.datasets.builders --dataset=fmow_rgb --manual_dir=... --data_dir=...
"""


def builder_names():
    """Names of the builders of this package.

    Returns:
        list of str, sorted.
    """
    found = [value for value in vars(builders).values() if inspect.isclass(value)]
    return sorted(cls.name for cls in found if issubclass(cls, tfds.core.DatasetBuilder))


def main(argv=None):
    """Runs the command.

    Args:
        argv: list of str, the command line, the program's name first; None: the process's.

    Returns:
        Exit code: 0 done, 2 an error that was named in one line on stderr, 130 interrupted.
    """
    # Flags of its own: importing this module must not add to those of another command.
    values = flags.FlagValues()
    only = {"flag_values": values}
    names = ", ".join(builder_names())
    flags.DEFINE_string("dataset", None, f"Any builder of TFDS; of this package: {names}.", **only)
    flags.DEFINE_string("config", None, "Configuration of it; default: its first.", **only)
    flags.DEFINE_string(
        "manual_dir", None, "Folder of the owner's files; default: downloads/manual in data_dir.",
        **only,
    )  # fmt: skip
    flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data; default: as TFDS.", **only)
    flags.DEFINE_bool("help", False, "Show this text.", short_name="?", **only)
    try:
        rest = values(sys.argv if argv is None else argv)
        if values.help:
            print(f"{_USAGE}\n{values.get_help()}")
            return 0
        if rest[1:]:
            raise flags.Error(f"Only flags are understood. Received: {' '.join(rest[1:])}")
        if not values.dataset:
            raise flags.Error(f"Flag --dataset must name a builder, such as {names}.")
        if not sys.stderr.isatty():
            tfds.disable_progress_bar()
        counts = builders.prepare(values.dataset, values.manual_dir, values.data_dir, values.config)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    # TFDS's own builders assert what their files must be.
    except (ValueError, OSError, AssertionError, tf.errors.OpError, flags.Error) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    for split, count in counts.items():
        print(f"{split}: {count} examples")
    return 0


if __name__ == "__main__":
    sys.exit(main())
