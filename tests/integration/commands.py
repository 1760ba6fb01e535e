"""How these tests run the experiments' scripts: in this process, or in one of their own."""

import subprocess
import sys

import experiment
from absl import flags


def run_here(script, *arguments):
    """Runs a script in this process; what other tests set is forgotten first.

    Args:
        script: Module of the script.
        *arguments: Flags.
    """
    flags.FLAGS.unparse_flags()
    for module, defined in flags.FLAGS.flags_by_module_dict().items():
        if module in ("tnet", "topk", experiment.__name__, script.__name__):
            for flag in defined:
                flag.unparse()
    script.main([f"{script.__name__}.py", *map(str, arguments)])


def run_apart(repository, name, *arguments):
    """Runs a script in a process of its own, from the root of the repository."""
    script = str(repository / "experiments" / f"{name}.py")
    return subprocess.run(
        [sys.executable, script, *map(str, arguments)],
        cwd=repository, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def one_line(capsys):
    """The one line on stderr that an error is told in."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]
