"""The command that writes traffic scenes: `python -m tnet_keras.datasets.traffic_signs --help`."""

import sys

from absl import flags

from tnet_keras.datasets.traffic_signs.folder import FORMATS, write_traffic_signs
from tnet_keras.datasets.traffic_signs.scenes import TrafficScenesConfig

_USAGE = """Draws traffic scenes and writes them to a new folder, in the layout of the Swedish
traffic signs: images and annotations.txt in Set1Part0 (train) and Set2Part0 (test).

  python -m tnet_keras.datasets.traffic_signs --output=scenes --train=747 --test=684
"""


def _flags():
    # Flags of its own: importing this module must not add to those of another command.
    values = flags.FlagValues()
    only = {"flag_values": values}
    flags.DEFINE_string("output", None, "Folder to make; must not exist.", **only)
    for name, published in (("train", "747"), ("valid", "none"), ("test", "684")):
        text = f"Number of scenes for {name} (published: {published})."
        flags.DEFINE_integer(name, 0, text, lower_bound=0, **only)
    flags.DEFINE_integer(
        "height", 960,
        "Height of the images in pixels; the width is 4/3 of it. Under 512 the signs are "
        "those of TrafficScenesConfig.small().",
        lower_bound=1, **only,
    )  # fmt: skip
    flags.DEFINE_enum("format", "jpeg", list(FORMATS), "Of the images.", **only)
    flags.DEFINE_integer("seed", 0, "Other seed, other scenes.", lower_bound=0, **only)
    flags.DEFINE_bool("help", False, "Show this text.", short_name="?", **only)
    return values


def main(argv=None):
    """Runs the command.

    Args:
        argv: list of str, the command line, the program's name first; None: the process's.

    Returns:
        Exit code: 0 done, 2 an error that was named in one line on stderr, 130 interrupted.
    """
    values = _flags()
    try:
        rest = values(sys.argv if argv is None else argv)
        if values.help:
            print(f"{_USAGE}\n{values.get_help()}")
            return 0
        if rest[1:]:
            raise flags.Error(f"Only flags are understood. Received: {' '.join(rest[1:])}")
        if not values.output:
            raise flags.Error("Flag --output must say which folder to make.")
        counts = {"train": values.train, "validation": values.valid, "test": values.test}
        if not any(counts.values()):
            raise flags.Error("Flags --train, --valid or --test must say how many scenes to draw.")
        config = TrafficScenesConfig.of_size(values.height, round(values.height * 4 / 3))
        write_traffic_signs(
            values.output, counts, values.seed, config, values.format, progress=True
        )
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError, flags.Error) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(f"Wrote {sum(counts.values())} scenes to {values.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
