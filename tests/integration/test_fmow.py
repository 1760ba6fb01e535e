"""From a satellite data set as it is handed out to a report, in both stages of the paper."""

import json

import fmow_tnet
import full_image
import keras
import numpy as np
import pytest

from tests.datasets.builders.fake_fmow import write_fake_fmow
from tests.integration.commands import one_line, run_here
from tnet_keras.datasets.builders.__main__ import main as prepare

NETWORK = json.dumps({"input_shape": [32, 32, 3],
                      "options": {"filters": [8, 12], "strides": [2, 2]}})  # fmt: skip
SMALL = (
    "--dataset=fmow_rgb", "--preset=tnet_needle_digits", f"--model_options={NETWORK}",
    "--image_size=64,64", "--batch_size=6", "--eval_batch_size=6", "--epochs=2",
    "--steps_per_epoch=3", "--pictures=2", "--seed=1", "--noexport",
)  # fmt: skip


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fmow")
    counts = {"train": 6, "val": 2, "test": 2}
    write_fake_fmow(folder / "manual", images_per_split=counts, size=(48, 64), raw_test=True)
    line = ["prepare", "--dataset=fmow_rgb", f"--manual_dir={folder / 'manual'}"]
    assert prepare([*line, f"--data_dir={folder / 'data'}"]) == 0
    return folder / "data"


@pytest.fixture(scope="module")
def stages(data_dir, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    run_here(fmow_tnet, *SMALL, f"--data_dir={data_dir}", "--locations=2", "--eval_locations=0,1,2",
             f"--workdir={runs / 'first'}")  # fmt: skip
    run_here(fmow_tnet, *SMALL, f"--data_dir={data_dir}", "--locations=2,1", "--epochs=1",
             "--eval_locations=0,1x1,2x1", "--attention_every=1", "--freeze=conv1",
             f"--warm_start={runs / 'first'}",
             f"--workdir={runs / 'second'}")  # fmt: skip
    return runs


def test_both_stages_end_in_a_report(stages):
    first, second = (
        json.loads((stages / name / "report.json").read_text()) for name in ("first", "second")
    )
    assert set(first["accuracy"]) == {"0", "1", "2"}
    assert set(second["accuracy"]) == {"0", "2", "4"}
    assert first["images"] == second["images"] == 6
    # The third level is the same network again.
    assert first["parameters"] == second["parameters"]
    assert first["trainable_parameters"] - second["trainable_parameters"] == 3 * 3 * 3 * 8
    assert (stages / "second" / "attention.png").is_file()


def test_second_stage_keeps_what_is_frozen(stages):
    first, second = (
        keras.saving.load_model(stages / name / "checkpoints" / "best.keras", compile=False)
        for name in ("first", "second")
    )
    kernels = [model.backbone.network.get_layer("conv1").kernel for model in (first, second)]
    np.testing.assert_array_equal(*map(np.asarray, kernels))


@pytest.mark.parametrize("flag", ["--attention_every=1", "--entropy_floor=0.5"])
def test_watching_a_policy_needs_one_and_costs_no_earlier_run(flag, data_dir, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "report.json").write_text("{}")
    with pytest.raises(SystemExit):
        run_here(
            full_image, "--dataset=fmow_rgb", f"--data_dir={data_dir}", "--batch_size=6",
            "--preset=convnet_needle_digits", f"--model_options={NETWORK}", "--overwrite",
            f"--workdir={tmp_path / 'run'}", flag,
        )  # fmt: skip
    assert flag.removeprefix("--") in one_line(capsys)
    assert (tmp_path / "run" / "report.json").read_text() == "{}"


def test_crops_of_the_full_image_network(data_dir, tmp_path):
    manual = data_dir.parent / "manual"
    line = ["prepare", "--dataset=fmow_rgb", "--config=cropped", f"--manual_dir={manual}"]
    assert prepare([*line, f"--data_dir={data_dir}"]) == 0
    run_here(
        full_image, "--dataset=fmow_rgb/cropped", f"--data_dir={data_dir}", "--augmentation=fmow",
        "--preset=convnet_needle_digits", f"--model_options={NETWORK}", "--batch_size=6",
        "--eval_batch_size=6", "--steps_per_epoch=2", "--schedule=piecewise", "--lr_drops=0.5",
        '--group_rates=backbone=1e-4', "--title=Small network",
        f"--workdir={tmp_path / 'run'}",
    )  # fmt: skip
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert 0 <= report["accuracy"]["0"] <= report["top_5_accuracy"] <= 1
    assert "| Small network |" in (tmp_path / "run" / "report.md").read_text()
    assert not (tmp_path / "run" / "attention.png").exists()
    assert (tmp_path / "run" / "saved_model" / "1" / "saved_model.pb").is_file()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--data_dir=/no/such/folder"], "fmow_rgb"),
        (["--augmentation=of_dreams"], "of_dreams"),
        (["--warm_start=/no/such/run"], "/no/such/run"),
        (["--freeze=of_dreams"], "of_dreams"),
        (['--group_rates={"of_dreams": 1}'], "of_dreams"),
        (["--schedule=piecewise", "--lr_drops=0.9,0.5"], "0.9"),
        (["--lr_drops=often"], "often"),
        (["--batch_size=99"], "99"),
        (["--entropy_floor=0"], "floor=0"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(arguments, named, data_dir, tmp_path, capsys):
    with pytest.raises(SystemExit) as raised:
        run_here(fmow_tnet, *SMALL, f"--data_dir={data_dir}", f"--workdir={tmp_path / 'run'}",
                 *arguments)  # fmt: skip
    assert raised.value.code == 2
    assert named in one_line(capsys)
    assert not (tmp_path / "run").exists()
