"""What every command shares: one clear line for an error, and a folder that holds whole runs."""

import os
import pathlib
import re
import shlex
import shutil
import sys
import tempfile

from absl import app, flags

# Lines of TensorFlow's errors that say where in a graph, not what.
_PLACE = re.compile(r"Graph execution error|Detected at node|<stack traces|Error in|File \"")
#: Everything a run writes into its folder; nothing else is ever touched there.
OUTPUTS = (
    "report.json",
    "report.md",
    "accuracy_vs_compute.png",
    "attention.png",
    "flags.txt",
    "training.csv",
    "checkpoints",
    "tensorboard",
    "baseline",
    "rivals",
    "saved_model",
)
FINISHED, STARTED = "report.json", "flags.txt"
#: How the line of a run's flagfile begins that says what the folder of its data held.
DATA_COMMENT = "# Files of the data="
_REMOVED = ".removed"


def run(main, argv=None, values=None):
    """Parses the flags and runs a command; what goes wrong is said in one line on stderr.

    Exit codes: 0 done, 2 an error that is named, 130 interrupted. With `--traceback` errors show
    where they came from instead.

    Args:
        main: Function without arguments, called after the flags are parsed.
        argv: Command line, or None for that of the process.
        values: `absl.flags.FlagValues` of a command with flags of its own, "help" among them; None
            for those that all modules share.
    """
    if values is None:
        values = flags.FLAGS
        app.define_help_flags()
    if "traceback" not in values:
        text = "Show where an error came from."
        flags.DEFINE_bool("traceback", False, text, flag_values=values)
    argv = sys.argv if argv is None else argv
    try:
        rest = values(argv)
        if len(rest) > 1:
            raise flags.Error(f"Only flags are understood. Received: {shlex.join(rest[1:])}")
    except flags.Error as error:
        _fail(error)
    if values.traceback:
        main()
        return
    try:
        main()
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError, ArithmeticError, flags.Error) as error:
        _fail(error)
    except Exception as error:
        # TensorFlow's errors (an image that cannot be decoded, memory that runs out) have a class
        # of their own; importing TensorFlow here would delay the message about a misspelt flag.
        if type(error).__module__.startswith("tensorflow."):
            _fail(error)
        raise


def _fail(error):
    print(f"error: {cause(error)}", file=sys.stderr)
    sys.exit(2)


def cause(error):
    """The one line of an error that names what is wrong.

    An error of the operating system is one line; others may have notes below it, and those that
    TensorFlow raises inside a graph have places in the graph above it.

    Args:
        error: An exception.

    Returns:
        Text without line breaks.
    """
    for line in str(error).split("\n"):
        line = " ".join(re.sub(r"\{\{[^}]*\}\}", "", line).split())
        if line and not _PLACE.match(line):
            return line
    return type(error).__name__


def serialize_flags(module, leave_out=()):
    """Writes down the flags of one module as a flagfile, defaults included.

    Args:
        module: Name of the module that defined the flags.
        leave_out: Names of flags that are no part of the record.

    Returns:
        Text, one `--name=value` per line; flags without a value are left out.
    """
    own = flags.FLAGS.flags_by_module_dict().get(module, [])
    lines = [
        flag.serialize() for flag in sorted(own, key=lambda f: f.name) if flag.name not in leave_out
    ]
    return "".join(f"{line}\n" for line in lines if line)


def check_workdir(path, overwrite=False, resume=False):
    """Checks that a run may write to a folder, without leaving anything behind.

    Args:
        path: The folder; it need not exist.
        overwrite: Whether an earlier run there may be replaced.
        resume: Whether an unfinished run there may be continued.

    Returns:
        `pathlib.Path` of the folder.

    Raises:
        ValueError: If the folder cannot be written to, or holds a run.
    """
    path = pathlib.Path(path)
    existing = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    try:
        # Asking for permissions is not enough: a read-only file system, or the superuser.
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise ValueError(
            f"`workdir` must be a folder that can be written to ({error.strerror}). "
            f"Received: workdir={str(path)!r}"
        ) from error
    if overwrite and resume:
        raise ValueError("`overwrite` and `resume` exclude each other. Received: both")
    if overwrite:
        return path
    found = [name for name in OUTPUTS if (path / name).exists()]
    if FINISHED in found:
        raise ValueError(
            "`workdir` holds a finished run; choose another --workdir or --name, or replace it "
            f"with --overwrite. Received: workdir={str(path)!r}"
        )
    if found and STARTED not in found:
        raise ValueError(
            f"`workdir` holds {found[0]}, but no {STARTED} to go on by; replace it with "
            f"--overwrite, without --resume. Received: workdir={str(path)!r}"
        )
    if found and not resume:
        raise ValueError(
            f"`workdir` holds {found[0]} of an unfinished run; go on with --resume, or replace it "
            f"with --overwrite. Received: workdir={str(path)!r}"
        )
    return path


def check_same_run(path, flag_lines, may_change=()):
    """Checks that an unfinished run is resumed with the flags that it was started with.

    Args:
        path: Folder of the run; without a record of its flags there is nothing to check.
        flag_lines: Text of `serialize_flags` for the flags of now.
        may_change: Names of flags that may be different.

    Raises:
        ValueError: If another flag, or what is in the folder of the data, is different.
    """
    record = pathlib.Path(path) / STARTED
    if not record.is_file():
        return
    then, now = set(record.read_text(encoding="utf-8").splitlines()), set(flag_lines.splitlines())
    if not any(line.startswith(DATA_COMMENT) for line in then):  # by an earlier version
        now = {line for line in now if not line.startswith(DATA_COMMENT)}
    changed = then ^ now
    if any(line.startswith(DATA_COMMENT) for line in changed):
        raise ValueError(
            "`resume` goes on with the data that a run was started with. "
            f"Received: {''.join(line for line in now if line.startswith('--dataset='))} "
            "whose files are others now"
        )
    names = {line.removeprefix("--").partition("=")[0] for line in changed}
    # `--nocache` and `--cache` name one flag.
    names = {name if name in flags.FLAGS else name.removeprefix("no") for name in names}
    changed = sorted(names - set(may_change))
    if changed:
        raise ValueError(
            "`resume` goes on with the flags that a run was started with, as in its flags.txt. "
            f"Received: other values of {', '.join(changed)}"
        )


def make_workdir(path, overwrite=False):
    """Makes the folder of a run. With `overwrite`, the outputs of an earlier run are removed.

    A kill in between leaves an unfinished run with whole outputs, or none: either can be replaced
    by the same command, and gone on with by --resume.

    Args:
        path: The folder, checked by `check_workdir`.
        overwrite: Whether to remove the known outputs; other files stay.
    """
    path = pathlib.Path(path)
    path.mkdir(parents=True, exist_ok=True)
    # To move a folder takes one step, to remove it many: no half of one is met by what goes on.
    removed = path / _REMOVED
    if removed.is_dir():
        shutil.rmtree(removed)
    if not overwrite:
        return
    removed.mkdir()
    # First it is no longer finished; what it can be known by goes last.
    between = [name for name in OUTPUTS if name not in (FINISHED, STARTED)]
    for name in (FINISHED, *between, STARTED):
        if os.path.lexists(path / name):
            os.replace(path / name, removed / name)
    shutil.rmtree(removed)


def command_line(argv=None):
    """Returns the command as it can be typed again.

    Args:
        argv: Command line, or None for that of the process.
    """
    return shlex.join(["python", *(sys.argv if argv is None else argv)])
