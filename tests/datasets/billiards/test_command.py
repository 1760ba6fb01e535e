"""The command that writes tables."""

import os
import subprocess
import sys

import pytest

from tests.datasets.billiards.tiny_tables import TINY
from tests.datasets.reading import assert_same, examples
from tnet_keras.datasets import billiards, read_billiards
from tnet_keras.datasets.billiards.__main__ import main


def test_the_command_writes_tables(tmp_path, capsys):
    output = tmp_path / "tables"
    arguments = [f"--output={output}", "--train=2", "--valid=1", "--image_size=240", "--seed=5"]
    assert main(["billiards", *arguments]) == 0
    printed = capsys.readouterr()
    assert "3/3" in printed.out and f"Wrote 3 tables to {output}" in printed.out
    drawn = billiards("train", 2, 5, 2, TINY)
    assert_same(examples(read_billiards(output, "train", 2, 5), 2), examples(drawn, 2))
    assert main(["billiards", *arguments]) == 2
    assert "`path` must not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "error: Flag --output must say which folder to make."),
        (["--output=x"], "error: Flags --train, --valid or --test must say"),
        (["--output=x", "--train=-1"], "flag --train=-1"),
        (["--output=x", "--train=many"], "flag --train=many"),
        (["--output=x", "--train=1", "--image_size=60"], "error: `image_size` must hold"),
        (["--output=x", "--train=1", "--siez=9"], "Unknown command line flag 'siez'"),
        (["--output=x", "--train=1", "rest"], "error: Only flags are understood. Received: rest"),
    ],
)
def test_the_command_names_what_is_wrong_in_one_line(
    tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    assert main(["billiards", *arguments]) == 2
    printed = capsys.readouterr().err
    assert message in printed and printed.startswith("error: ") and printed.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_the_command_explains_itself(capsys):
    assert main(["billiards", "--help"]) == 0
    printed = capsys.readouterr().out
    assert "python -m tnet_keras.datasets.billiards" in printed and "--image_size" in printed


def test_the_module_runs_without_warnings(tmp_path):
    command = [sys.executable, "-W", "error::RuntimeWarning", "-m", "tnet_keras.datasets.billiards"]
    ran = subprocess.run(
        [*command, f"--output={tmp_path}", "--test=1"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 2 and "Warning" not in ran.stderr
    assert ran.stderr.splitlines()[-1].startswith("error: `path` must not exist")
