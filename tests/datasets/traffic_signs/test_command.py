"""The command that writes traffic scenes."""

import os
import subprocess
import sys

import pytest

from tests.datasets.reading import assert_same, examples
from tests.datasets.traffic_signs.tiny_scenes import TINY
from tnet_keras.datasets.traffic_signs import read_traffic_signs, traffic_signs
from tnet_keras.datasets.traffic_signs.__main__ import main


def test_the_command_writes_scenes(tmp_path, capsys):
    output = tmp_path / "scenes"
    arguments = [f"--output={output}", "--train=2", "--valid=1", "--height=216", "--seed=5"]
    arguments.append("--format=png")
    assert main(["traffic_signs", *arguments]) == 0
    printed = capsys.readouterr()
    assert "3/3" in printed.out and f"Wrote 3 scenes to {output}" in printed.out
    drawn = traffic_signs("train", 2, 5, 2, TINY)
    assert_same(examples(read_traffic_signs(output, "train", 2, 5), 2), examples(drawn, 2))
    assert main(["traffic_signs", *arguments]) == 2
    assert "`path` must not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "error: Flag --output must say which folder to make."),
        (["--output=x"], "error: Flags --train, --valid or --test must say"),
        (["--output=x", "--train=-1"], "flag --train=-1"),
        (["--output=x", "--train=many"], "flag --train=many"),
        (["--output=x", "--train=1", "--height=60"], "error: `height` must lie between"),
        (["--output=x", "--train=1", "--format=gif"], "flag --format=gif"),
        (["--output=x", "--train=1", "--siez=9"], "Unknown command line flag 'siez'"),
        (["--output=x", "--train=1", "rest"], "error: Only flags are understood. Received: rest"),
    ],
)
def test_the_command_names_what_is_wrong_in_one_line(
    tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    assert main(["traffic_signs", *arguments]) == 2
    printed = capsys.readouterr().err
    assert message in printed and printed.startswith("error: ") and printed.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_the_command_explains_itself(capsys):
    assert main(["traffic_signs", "--help"]) == 0
    printed = capsys.readouterr().out
    assert "python -m tnet_keras.datasets.traffic_signs" in printed and "--height" in printed


def test_the_module_runs_without_warnings(tmp_path):
    module = "tnet_keras.datasets.traffic_signs"
    command = [sys.executable, "-W", "error::RuntimeWarning", "-m", module]
    ran = subprocess.run(
        [*command, f"--output={tmp_path}", "--test=1"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 2 and "Warning" not in ran.stderr
    assert ran.stderr.splitlines()[-1].startswith("error: `path` must not exist")
