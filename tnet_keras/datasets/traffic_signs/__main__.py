"""The command that writes traffic scenes: `python -m tnet_keras.datasets.traffic_signs --help`."""

import sys

from absl import flags

from tnet_keras.datasets.traffic_signs.folder import FORMATS, write_traffic_signs
from tnet_keras.datasets.traffic_signs.scenes import TrafficScenesConfig
from tnet_keras.datasets.write_command import run_write_command

_USAGE = """Draws traffic scenes and writes them to a new folder, in the layout of the Swedish
traffic signs: images and annotations.txt in Set1Part0 (train) and Set2Part0 (test).

  python -m tnet_keras.datasets.traffic_signs --output=scenes --train=747 --test=684
"""
_PUBLISHED = {"train": "747", "valid": "none", "test": "684"}


def _define(flag_values):
    flags.DEFINE_integer(
        "height", 960,
        "Height of the images in pixels; the width is 4/3 of it. Under 512 the signs are "
        "those of TrafficScenesConfig.small().",
        lower_bound=1, flag_values=flag_values,
    )  # fmt: skip
    flags.DEFINE_enum("format", "jpeg", list(FORMATS), "Of the images.", flag_values=flag_values)


def _write(values, counts):
    config = TrafficScenesConfig.of_size(values.height, round(values.height * 4 / 3))
    write_traffic_signs(values.output, counts, values.seed, config, values.format, progress=True)


def main(argv=None):
    """Runs the command.

    Args:
        argv: list of str, the command line, the program's name first; None: the process's.

    Returns:
        Exit code, see `run_write_command`.
    """
    return run_write_command(_USAGE, "scenes", _PUBLISHED, _define, _write, argv)


if __name__ == "__main__":
    sys.exit(main())
