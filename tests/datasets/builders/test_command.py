"""The command that prepares data sets of TFDS."""

import re

import pytest
import tensorflow_datasets as tfds

from tests.datasets.builders.fake_fmow import write_fake_fmow
from tnet_keras.datasets.builders.__main__ import builder_names, main


@pytest.fixture(autouse=True)
def progress_bars_come_back():
    yield
    tfds.enable_progress_bar()


def test_the_command_prepares_and_counts(tmp_path, capsys):
    write_fake_fmow(tmp_path, images_per_split={"train": 3, "val": 2, "test": 1}, raw_test=True)
    arguments = [f"--manual_dir={tmp_path}", f"--data_dir={tmp_path / 'data'}"]
    for config in ([], ["--config=cropped"], ["--config=full"]):
        assert main(["builders", "--dataset=fmow_rgb", *arguments, *config]) == 0
        printed = capsys.readouterr().out
        assert printed.endswith("train: 9 examples\nvalidation: 6 examples\ntest: 3 examples\n")
    assert {path.name for path in (tmp_path / "data/fmow_rgb").iterdir()} >= {"full", "cropped"}


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "error: Flag --dataset must name a builder, such as attention_sampling_mnist, "),
        (["--dataset=fmow"], "error: `name` must be the name of a TFDS builder. Received: name='f"),
        (["--dataset=fmow_rgb", "--config=half"], "error: `config` must be one of ('full', 'crop"),
        (["--dataset=nabirds", "--config=full"], "error: `config` must be one of () for nabirds"),
        (["--dataset=nabirds"], "error: `manual_dir` must hold nabirds/ of the NABirds release"),
        (["--dataset=imagenet2012"], "error: Manual directory "),
        (["--dataste=x"], "Unknown command line flag 'dataste'"),
        (["--dataset=nabirds", "rest"], "error: Only flags are understood. Received: rest"),
    ],
)
def test_the_command_names_what_is_wrong_in_one_line(tmp_path, capsys, arguments, message):
    places = [f"--manual_dir={tmp_path / 'none'}", f"--data_dir={tmp_path / 'data'}"]
    assert main(["builders", *places, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_data_folder_that_is_a_file_is_named(tmp_path, capsys):
    write_fake_fmow(tmp_path, images_per_split=1)
    (tmp_path / "data").write_text("")
    arguments = [f"--manual_dir={tmp_path}", f"--data_dir={tmp_path / 'data'}"]
    assert main(["builders", "--dataset=fmow_rgb", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1


def test_help_names_the_builders(capsys):
    assert main(["builders", "--help"]) == 0
    assert ", ".join(builder_names()) in " ".join(capsys.readouterr().out.split())
    assert {"fmow_rgb", "nabirds"} <= set(builder_names())


def test_only_the_builders_import_tfds_when_they_are_imported(repository):
    package = repository / "tnet_keras"
    slow = re.compile(r"^(import|from) (tensorflow_datasets|tnet_keras.datasets.builders)", re.M)
    late = re.compile(r"^from tnet_keras.datasets import .*builders", re.M)
    for path in package.rglob("*.py"):
        if "builders" not in path.parts:
            text = path.read_text(encoding="utf-8")
            assert not slow.search(text) and not late.search(text), path
