"""The command that writes billiard tables: `python -m tnet_keras.datasets.billiards --help`."""

import sys

from absl import flags

from tnet_keras.datasets.billiards.folder import write_billiards
from tnet_keras.datasets.billiards.scenes import BilliardsConfig

_USAGE = """Draws billiard tables and writes them to a new folder, in the layout of the authors of
"Differentiable Patch Selection for Image Recognition".

  python -m tnet_keras.datasets.billiards --output=tables --train=800 --valid=200 --test=1000
"""


def _flags():
    # Flags of its own: importing this module must not add to those of another command.
    values = flags.FlagValues()
    only = {"flag_values": values}
    flags.DEFINE_string("output", None, "Folder to make; must not exist.", **only)
    for name, published in (("train", "8,000"), ("valid", "2,000"), ("test", "10,000")):
        text = f"Number of tables in the folder {name} (published: {published})."
        flags.DEFINE_integer(name, 0, text, lower_bound=0, **only)
    flags.DEFINE_integer(
        "image_size", 1000,
        "Side of the images in pixels. Under 500 the balls are those of BilliardsConfig.small().",
        lower_bound=1, **only,
    )  # fmt: skip
    flags.DEFINE_integer("seed", 0, "Other seed, other tables.", lower_bound=0, **only)
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
            raise flags.Error("Flags --train, --valid or --test must say how many tables to draw.")
        config = BilliardsConfig.of_size(values.image_size)
        write_billiards(values.output, counts, values.seed, config, progress=True)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError, flags.Error) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(f"Wrote {sum(counts.values())} tables to {values.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
