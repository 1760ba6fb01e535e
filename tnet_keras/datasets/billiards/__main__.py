"""The command that writes billiard tables: `python -m tnet_keras.datasets.billiards --help`."""

import sys

from absl import flags

from tnet_keras.datasets.billiards.folder import write_billiards
from tnet_keras.datasets.billiards.scenes import BilliardsConfig
from tnet_keras.datasets.write_command import run_write_command

_USAGE = """Draws billiard tables and writes them to a new folder, in the layout of the authors of
"Differentiable Patch Selection for Image Recognition".

  python -m tnet_keras.datasets.billiards --output=tables --train=800 --valid=200 --test=1000
"""
_PUBLISHED = {"train": "8,000", "valid": "2,000", "test": "10,000"}


def _define(flag_values):
    flags.DEFINE_integer(
        "image_size", 1000,
        "Side of the images in pixels. Under 500 the balls are those of BilliardsConfig.small().",
        lower_bound=1, flag_values=flag_values,
    )  # fmt: skip


def _write(values, counts):
    config = BilliardsConfig.of_size(values.image_size)
    write_billiards(values.output, counts, values.seed, config, progress=True)


def main(argv=None):
    """Runs the command.

    Args:
        argv: list of str, the command line, the program's name first; None: the process's.

    Returns:
        Exit code, see `run_write_command`.
    """
    return run_write_command(_USAGE, "tables", _PUBLISHED, _define, _write, argv)


if __name__ == "__main__":
    sys.exit(main())
