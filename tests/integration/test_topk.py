"""The experiments with patch selection as a user runs them: whole, on little data; bad input."""

import importlib
import json

import pytest
import tensorflow as tf

from tests.integration import commands
from tests.integration.commands import one_line

SCRIPTS = ("billiards_topk", "traffic_signs_topk", "megapixel_mnist_topk")
SMALL = (
    "--num_train_examples=32", "--num_validation_examples=10", "--num_test_examples=10",
    "--batch_size=8", "--eval_batch_size=5", "--epochs=1", "--pictures=2", "--seed=3",
    "--noise_samples=20",
)  # fmt: skip


def run_here(name, *arguments):
    commands.run_here(importlib.import_module(name), *arguments)


@pytest.fixture(scope="module", params=SCRIPTS)
def finished(request, tmp_path_factory, repository):
    """Name of a script, and the folder of a run in a process of its own."""
    workdir = tmp_path_factory.mktemp("runs") / "small"
    rivals = "mean,selector_random,"
    rivals += "downscaled" if request.param == "billiards_topk" else "same_backbone"
    done = commands.run_apart(
        repository, request.param, *SMALL, f"--rivals={rivals}", f"--workdir={workdir}",
        "--eval_patches=2,3",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return request.param, workdir, rivals.split(",")


def test_run_writes_everything_a_run_has(finished):
    name, workdir, rivals = finished
    assert {path.name for path in workdir.iterdir()} == {
        "report.json", "report.md", "accuracy_vs_compute.png", "attention.png", "flags.txt",
        "training.csv", "checkpoints", "tensorboard", "rivals", "saved_model",
    }  # fmt: skip
    assert {path.name for path in (workdir / "rivals").iterdir()} == set(rivals)
    for picture in workdir.glob("*.png"):
        assert tf.io.decode_png(tf.io.read_file(str(picture))).shape[0] > 200


def test_report_holds_every_figure(finished):
    name, workdir, rivals = finished
    report = json.loads((workdir / "report.json").read_text())
    own = report["locations"]
    assert own == {"billiards_topk": "10", "traffic_signs_topk": "5"}.get(name, "8")
    for key in ("accuracy", "accuracy_random_locations", "macs", "coverage"):
        assert set(report[key]) == {"2", "3", own}, key
    for key in ("hit_rate", "hit_rate_random", "object_coverage", "majority"):
        assert 0.0 <= report[key] <= 1.0, key
    assert list(report["rivals"]) == rivals
    for rival in report["rivals"].values():
        assert 0.0 <= rival["accuracy"] <= 1.0 and rival["macs"] > 0 and rival["examples"] == 32
    text = (workdir / "report.md").read_text()
    assert f"Patch selection, {own} patches" in text
    assert all(rival["label"] in text for rival in report["rivals"].values())


def test_flags_of_a_run_are_a_flagfile_that_repeats_it(finished, tmp_path):
    name, workdir, _ = finished
    run_here(
        name, f"--flagfile={workdir / 'flags.txt'}", "--noexport", "--rivals=",
        f"--workdir={tmp_path}/again",
    )  # fmt: skip
    first, again = (
        json.loads((folder / "report.json").read_text()) for folder in (workdir, tmp_path / "again")
    )
    # Two threads add floats in any order: the same run is not the same to the last bit.
    assert again["object_coverage"] == pytest.approx(first["object_coverage"], abs=0.1)
    for key in ("seed", "majority", "macs", "train_examples", "locations"):
        assert again[key] == first[key], key


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--patches=1000"], "1000"),
        (["--patches=0"], "patches"),
        (["--eval_patches=3,many"], "many"),
        (["--eval_patches=500"], "500"),
        (["--sigma=-1"], "sigma"),
        (["--selector=best"], "best"),
        (["--aggregation=median"], "median"),
        (["--rivals=mean,median"], "median"),
        (["--preset=tnet_needle_digits"], "tnet_needle_digits"),
        (["--preset=resnet18_billiards"], "resnet18_billiards"),
        (["--dataset=/no/such/tables"], "/no/such/tables"),
        (["--image_size=320,240"], "240"),
        (["--image_size=30,30"], "30"),
        (["--warmup_examples=-1"], "warmup_examples"),
        (["--warmup_examples=8", "--cache"], "warmup_examples"),
        (["--clip_value=0"], "clip_value"),
        (["--model_options=[1"], "model_options"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(arguments, named, capsys, tmp_path):
    workdir = tmp_path / "run"
    with pytest.raises(SystemExit) as raised:
        run_here("billiards_topk", *SMALL, f"--workdir={workdir}", *arguments)
    assert raised.value.code == 2
    assert named in one_line(capsys)
    assert not workdir.exists()


@pytest.mark.parametrize("of_a_folder", [False, True])
def test_sigma_falls_over_a_training_of_known_length_only(of_a_folder, capsys, tmp_path):
    arguments = ["--epochs=1", f"--workdir={tmp_path}/run"]
    if of_a_folder:
        # How many images are drawn says nothing of a folder.
        arguments += [f"--dataset={tmp_path}", "--num_train_examples=64"]
    with pytest.raises(SystemExit):
        run_here("billiards_topk", *arguments)
    assert "`steps_per_epoch` must be given for sigma to fall" in one_line(capsys)
    assert not (tmp_path / "run").exists()
