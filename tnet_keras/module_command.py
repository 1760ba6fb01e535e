"""What every `python -m tnet_keras...` command shares: flags, and one line for what is wrong."""

import sys

from absl import flags


def run_module_command(values, usage, action, argv=None, errors=()):
    """Parses the flags of a command and runs it.

    Args:
        values: `absl.flags.FlagValues` with the command's own flags: importing its module must not
            add to those of another command.
        usage: Text above the flags in the help.
        action: Function without arguments, called after the flags are parsed; returns the exit
            code, None for 0.
        argv: list of str, the command line, the program's name first; None: the process's.
        errors: Classes of errors, beside ValueError, OSError and those of flags, that name in their
            message what is wrong.

    Returns:
        Exit code: that of `action`, 2 for an error that was named in one line on stderr, 130
        interrupted.

    Raises:
        Exception: what `action` raises of other classes: a mistake of ours, with its traceback.
    """
    flags.DEFINE_bool("help", False, "Show this text.", short_name="?", flag_values=values)
    try:
        rest = values(sys.argv if argv is None else argv)
        if values.help:
            print(f"{usage}\n{values.get_help()}")
            return 0
        if rest[1:]:
            raise flags.Error(f"Only flags are understood. Received: {' '.join(rest[1:])}")
        return action() or 0
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError, flags.Error, *errors) as error:
        return _named(error)
    except Exception as error:
        # TensorFlow's errors (a full disk) have a class of their own; importing TensorFlow here
        # would delay the message about a misspelt flag.
        if type(error).__module__.startswith("tensorflow."):
            return _named(error)
        raise


def _named(error):
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return 2
