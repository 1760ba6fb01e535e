"""`experiments/imagenet_tnet.py` as a user runs it: whole, on little data; and with bad input."""

import json
import shutil

import imagenet_tnet
import numpy as np
import pytest
import tensorflow as tf

from tests.integration import commands
from tests.integration.commands import one_line

SMALL = (
    "--num_train_examples=64", "--num_validation_examples=20", "--num_test_examples=30",
    "--batch_size=16", "--eval_batch_size=10", "--epochs=1", "--pictures=2", "--seed=3",
    "--eval_locations=0,1,2",
)  # fmt: skip


def run_here(*arguments):
    commands.run_here(imagenet_tnet, *arguments)


def run_apart(repository, *arguments):
    return commands.run_apart(repository, "imagenet_tnet", *arguments)


def write_images(folder, classes=("cat", "dog"), count=6, size=40):
    random = np.random.default_rng(0)
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            image = random.integers(0, 100, (size, size, 3), np.uint8) + np.uint8(100 * label)
            tf.io.write_file(str(folder / name / f"{index}.png"), tf.io.encode_png(image))
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory, repository):
    workdir = tmp_path_factory.mktemp("runs") / "small"
    done = run_apart(repository, *SMALL, "--baseline_epochs=1", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr[-2000:]
    return workdir


def test_run_writes_everything_a_run_has(finished):
    expected = {
        "report.json", "report.md", "accuracy_vs_compute.png", "attention.png", "flags.txt",
        "training.csv", "checkpoints", "tensorboard", "baseline", "saved_model",
    }  # fmt: skip
    assert {path.name for path in finished.iterdir()} == expected
    assert (finished / "saved_model" / "1" / "saved_model.pb").is_file()
    for picture in finished.glob("*.png"):
        assert tf.io.decode_png(tf.io.read_file(str(picture))).shape[0] > 200


def test_report_holds_every_figure(finished):
    report = json.loads((finished / "report.json").read_text())
    by_locations = ("accuracy", "accuracy_random_locations", "macs", "coverage")
    for name in by_locations:
        assert set(report[name]) == {"0", "1", "2"}, name
    for name in (
        "accuracy_oracle_location", "accuracy_attended_only", "hit_rate", "hit_rate_random",
        "baseline_accuracy",
    ):  # fmt: skip
        assert 0.0 <= report[name] <= 1.0, name
    assert report["baseline_macs"] > report["macs"]["2"] > report["macs"]["0"]
    assert report["parameters"] > report["trainable_parameters"] > 200_000
    assert report["train_seconds"] > 0
    assert 0.0 <= report["policy_entropy"] <= report["policy_entropy_uniform"]
    assert report["seed"] == 3
    assert report["versions"]["tensorflow"] == tf.__version__


def test_flags_of_a_run_are_a_flagfile_that_repeats_it(finished, tmp_path):
    run_here(f"--flagfile={finished / 'flags.txt'}", "--noexport", f"--workdir={tmp_path}/again")
    first, again = (
        json.loads((folder / "report.json").read_text())
        for folder in (finished, tmp_path / "again")
    )
    assert again["seed"] == first["seed"]
    assert set(again["accuracy"]) == set(first["accuracy"])
    assert again["baseline_accuracy"] is not None


def test_finished_run_is_not_overwritten(finished, capsys):
    before = (finished / "report.json").read_bytes()
    with pytest.raises(SystemExit) as raised:
        run_here(*SMALL, f"--workdir={finished}")
    assert raised.value.code == 2
    assert "finished run" in one_line(capsys)
    assert (finished / "report.json").read_bytes() == before


def test_unfinished_run_is_resumed_with_its_own_flags_only(finished, tmp_path, capsys):
    workdir = tmp_path / "unfinished"
    shutil.copytree(finished, workdir)
    (workdir / "report.json").unlink()
    flagfile = f"--flagfile={workdir / 'flags.txt'}"
    with pytest.raises(SystemExit) as raised:
        run_here(flagfile, "--resume", "--seed=4", "--lambda_f=0.5", f"--workdir={workdir}")
    assert raised.value.code == 2
    assert "lambda_f, seed" in one_line(capsys)
    # All epochs are done and the SavedModel is written: what is left is measured and reported.
    run_here(flagfile, "--resume", f"--workdir={workdir}")
    first, again = (
        json.loads((folder / "report.json").read_text()) for folder in (finished, workdir)
    )
    assert again["accuracy"] == first["accuracy"]
    assert again["train_examples"] == first["train_examples"]


def test_statistics_per_level_means_every_level(capsys):
    run_here(
        "--preset=tnet_efficientnet_b0_fmow_896", "--batch_norm_statistics=per_level", "--dry_run"
    )
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    # Two more pairs of moving averages than the published 42,016 numbers.
    assert printed["parameters"] - 4_559_592 == 2 * 42_016


def test_folder_of_class_folders_is_trained_on(tmp_path):
    folder = write_images(tmp_path / "images")
    options = {"input_shape": [16, 16, 3], "options": {"filters": [4, 6], "strides": [2, 2]}}
    run_here(
        f"--dataset={folder}", "--image_size=32,32", f"--model_options={json.dumps(options)}",
        "--batch_size=4", "--epochs=1", "--steps_per_epoch=2", f"--workdir={tmp_path}/run",
        "--noexport", "--eval_locations=0,2", "--pictures=2",
    )  # fmt: skip
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert set(report["accuracy"]) == {"0", "2"}
    assert "hit_rate" not in report  # a folder knows no boxes
    assert (tmp_path / "run" / "attention.png").is_file()


def test_dry_run_prints_one_json_object_as_its_last_line(capsys, tmp_path):
    run_here("--preset=tnet_efficientnet_b0_fmow_448", "--dry_run", f"--workdir={tmp_path}/none")
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed["preset"] == "tnet_efficientnet_b0_fmow_448"
    assert printed["parameters"] == 4_559_592
    assert printed["trainable_parameters"] == 4_517_575
    assert printed["input_shape"][-3:] == [448, 448, 3]
    assert printed["macs"]["2"] == pytest.approx(1_155_036_194, rel=0.02)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--preset=tnet_of_dreams"], "tnet_of_dreams"),
        (["--no_such_flag=1"], "no_such_flag"),
        (["needle_digits"], "needle_digits"),
        (["--epochs=0"], "epochs"),
        (["--locations=2,0,1"], "locations=(2, 0, 1)"),
        (["--locations=2,2", '--model_options={"levels": 2}'], "locations=(2, 2)"),
        (["--locations=26"], "26"),
        (["--eval_locations=0,many"], "many"),
        (["--eval_locations=0,30"], "30"),
        (["--eval_locations=1x1"], "(1, 1)"),
        (['--model_options={"l2": null}'], "model_options"),
        (["--preset=topk_traffic_signs_5"], "topk_traffic_signs_5"),
        (["--overwrite", "--resume"], "resume"),
        (["--image_size=2,2"], "2"),
        (["--model_options=[1"], "model_options"),
        (["--preset=convnet_needle_digits"], "convnet_needle_digits"),
        (["--dataset=/no/such/folder"], "/no/such/folder"),
        (["--learning_rate=-1"], "learning_rate"),
        (["--lambda_c=2"], "lambda_c"),
        (["--workdir=/proc/no/run"], "/proc/no/run"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(arguments, named, capsys, tmp_path):
    workdir = tmp_path / "run"
    with pytest.raises(SystemExit) as raised:
        run_here(*SMALL, f"--workdir={workdir}", *arguments)
    assert raised.value.code == 2
    assert named in one_line(capsys)
    assert not workdir.exists()


def test_empty_folder_and_empty_class_are_named(capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    images = write_images(tmp_path / "images")
    (images / "zebra").mkdir()
    for folder, named in ((tmp_path / "empty", "empty"), (images, "zebra")):
        with pytest.raises(SystemExit) as raised:
            run_here(f"--dataset={folder}", f"--workdir={tmp_path}/run")
        assert raised.value.code == 2
        assert named in one_line(capsys)
    assert not (tmp_path / "run").exists()


def test_error_of_a_process_has_no_traceback(repository, tmp_path):
    done = run_apart(repository, "--preset=unknown", f"--workdir={tmp_path}/run")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "Received: preset='unknown'" in done.stderr or "name='unknown'" in done.stderr
    assert not (tmp_path / "run").exists()
