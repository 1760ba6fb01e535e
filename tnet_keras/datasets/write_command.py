"""What the commands that write drawn data to disk share: `python -m tnet_keras.datasets.<name>`."""

from absl import flags

from tnet_keras.module_command import run_module_command


def run_write_command(usage, noun, published, define, write, argv=None):
    """Parses the flags of a command, writes a folder, and says in one line what is wrong.

    Args:
        usage: Text above the flags in the help.
        noun: What is drawn, plural.
        published: dict from "train", "valid" and "test" to how many were published, text.
        define: function of `flag_values=`, that defines the command's own flags there.
        write: function of the flags' values and of the counts by split, that writes the folder.
        argv: list of str, the command line, the program's name first; None: the process's.

    Returns:
        Exit code: 0 done, 2 an error that was named in one line on stderr, 130 interrupted.
    """
    values = flags.FlagValues()
    only = {"flag_values": values}
    flags.DEFINE_string("output", None, "Folder to make; must not exist.", **only)
    for name, number in published.items():
        text = f"Number of {noun} for {name} (published: {number})."
        flags.DEFINE_integer(name, 0, text, lower_bound=0, **only)
    flags.DEFINE_integer("seed", 0, f"Other seed, other {noun}.", lower_bound=0, **only)
    define(**only)

    def action():
        if not values.output:
            raise flags.Error("Flag --output must say which folder to make.")
        counts = {"train": values.train, "validation": values.valid, "test": values.test}
        if not any(counts.values()):
            raise flags.Error(f"Flags --train, --valid or --test must say how many {noun} to draw.")
        write(values, counts)
        print(f"Wrote {sum(counts.values())} {noun} to {values.output}")

    return run_module_command(values, usage, action, argv)
