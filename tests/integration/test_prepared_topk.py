"""The experiments with patch selection on what the TFDS builders prepare, here from fake files."""

import importlib
import json

import pytest

from tests.datasets.billiards.tiny_tables import TINY as TABLES
from tests.datasets.megapixel_mnist.tiny_images import TINY as DIGITS
from tests.datasets.traffic_signs.tiny_scenes import TINY as SCENES
from tests.integration.commands import one_line, run_here
from tnet_keras.datasets import write_billiards, write_megapixel_mnist, write_traffic_signs
from tnet_keras.datasets.builders import prepare

COUNTS = {"train": 4, "validation": 2, "test": 3}
SMALL = (
    "--epochs=1", "--steps_per_epoch=1", "--batch_size=2", "--eval_batch_size=2", "--pictures=1",
    "--noexport", "--noise_samples=4",
)  # fmt: skip
# Script, configuration that is prepared, name and flags that open it, what writes the files.
CASES = [
    ("billiards_topk", "kubric_billiards", "rightmost_number", "kubric_billiards",
     ["--label=rightmost_number", "--augmentation=billiards"],
     lambda folder: write_billiards(folder, COUNTS, config=TABLES)),
    ("traffic_signs_topk", "swedish_traffic_signs", "ats", "swedish_traffic_signs",
     ["--label_rule=ats", "--augmentation=traffic", "--cache"],
     lambda folder: write_traffic_signs(folder, COUNTS, config=SCENES)),
    ("megapixel_mnist_topk", "attention_sampling_mnist", "written",
     "attention_sampling_mnist/written", ["--augmentation=none"],
     lambda folder: write_megapixel_mnist(folder, COUNTS, config=DIGITS, source="sklearn")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("script", "builder", "config", "name", "arguments", "write"), CASES, ids=lambda x: str(x)[:9]
)
def test_prepared_data_are_trained_on(script, builder, config, name, arguments, write, tmp_path):
    write(tmp_path / "manual")
    prepare(builder, tmp_path / "manual", tmp_path / "data", config)
    run_here(
        importlib.import_module(script), *SMALL, *arguments, f"--dataset={name}",
        f"--data_dir={tmp_path / 'data'}", f"--workdir={tmp_path / 'run'}",
    )  # fmt: skip
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["dataset"] == name and report["images"] == 3 and report["train_examples"] == 2
    assert (tmp_path / "run" / "attention.png").is_file()


def test_data_that_are_not_prepared_are_named(capsys, tmp_path):
    with pytest.raises(SystemExit):
        run_here(
            importlib.import_module("billiards_topk"), *SMALL, "--dataset=kubric_billiards",
            f"--data_dir={tmp_path}", f"--workdir={tmp_path / 'run'}",
        )  # fmt: skip
    assert "`data_dir` must hold kubric_billiards/max_left_right prepared" in one_line(capsys)
    assert not (tmp_path / "run").exists()
