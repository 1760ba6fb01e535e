"""The command that prepares a data set: `python -m tnet_keras.datasets.builders --help`."""

import inspect
import sys

import tensorflow as tf
import tensorflow_datasets as tfds
from absl import flags

from tnet_keras.datasets import builders
from tnet_keras.module_command import run_module_command

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

    def action():
        if not values.dataset:
            raise flags.Error(f"Flag --dataset must name a builder, such as {names}.")
        if not sys.stderr.isatty():
            tfds.disable_progress_bar()
        counts = builders.prepare(values.dataset, values.manual_dir, values.data_dir, values.config)
        for split, count in counts.items():
            print(f"{split}: {count} examples")

    # TFDS's own builders assert what their files must be.
    return run_module_command(values, _USAGE, action, argv, (AssertionError, tf.errors.OpError))


if __name__ == "__main__":
    sys.exit(main())
