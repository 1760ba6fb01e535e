"""A folder with files that are no images: a run stops and names the first, or leaves them out."""

import json

import imagenet_tnet
import pytest

from tests.integration.commands import one_line, run_here
from tests.integration.test_imagenet_tnet import write_images

NETWORK = json.dumps({"input_shape": [16, 16, 3],
                      "options": {"filters": [4, 6], "strides": [2, 2]}})  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    folder = write_images(tmp_path / "images", count=12)
    whole = sorted((folder / "cat").iterdir())
    for path in whole[:3]:  # cut off: what stands at the start is still a PNG
        path.write_bytes(path.read_bytes()[:200])
    return folder


def run(folder, workdir, *arguments):
    run_here(
        imagenet_tnet, f"--dataset={folder}", "--image_size=32,32", f"--model_options={NETWORK}",
        "--batch_size=4", "--steps_per_epoch=6", "--eval_locations=0,2", "--pictures=1",
        "--noexport", "--seed=1", f"--workdir={workdir}", *arguments,
    )  # fmt: skip


def test_error_names_the_file(folder, tmp_path, capsys):
    with pytest.raises(SystemExit) as raised:
        run(folder, tmp_path / "run")
    assert raised.value.code == 2
    line = one_line(capsys)
    assert str(folder / "cat") in line and "broken or truncated" in line
    assert not (tmp_path / "run" / "report.json").exists()


def test_skip_counts_them_in_the_report(folder, tmp_path, capsys):
    run(folder, tmp_path / "run", "--on_bad_image=skip")
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert sum(report["bad_images"].values()) == 3
    assert "Unreadable images left out" in (tmp_path / "run" / "report.md").read_text()
    assert "Left out of train: " in capsys.readouterr().out
