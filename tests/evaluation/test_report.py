"""The files of a report: complete, readable, and there or not there."""

import json
import os
import stat

import numpy as np
import pytest
from matplotlib import image

from tnet_keras.evaluation import report

RESULT = {
    "name": "needle_digits",
    "accuracy": {"0": 0.45, "1": 0.93, "2": 0.95, "10": 0.96},
    "accuracy_random_locations": {"0": 0.45, "1": 0.47, "2": 0.5, "10": 0.7},
    "accuracy_attended_only_by_locations": {"1": 0.9, "2": 0.92},
    "accuracy_oracle_location": 0.97,
    "hit_rate": 0.961,
    "hit_rate_random": 0.17,
    "coverage": {"0": 0.0, "1": 0.118, "2": 0.22, "10": 0.8},
    "macs": {"0": 44e6, "1": 88e6, "2": 132e6, "10": 484e6},
    "baseline_accuracy": 0.8,
    "baseline_macs": 372e6,
    "policy_entropy": 2.1,
    "parameters": 440123,
    "train_seconds": 301.25,
    "seed": 7,
    "versions": {"python": "3.12.1", "tensorflow": "2.21.0"},
    "command": "python experiments/imagenet_tnet.py --seed=7",
}


def test_all_three_files(tmp_path):
    report.write_report(RESULT, tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["accuracy_vs_compute.png", "report.json", "report.md"]
    assert json.loads((tmp_path / "report.json").read_text()) == RESULT
    picture = image.imread(tmp_path / "accuracy_vs_compute.png")
    assert picture.shape[:2] == (690, 1080)
    assert len(np.unique(picture.reshape(-1, picture.shape[-1]), axis=0)) > 20


def test_markdown_holds_every_number_in_order_of_locations():
    text = report.markdown(RESULT)
    rows = [line for line in text.splitlines() if line.startswith(("| TNet", "| full-image"))]
    assert rows == [
        "| TNet, 0 locations | 45.0 % | 45.0 % |  | 0.0 % | 44.00 |",
        "| TNet, 1 location | 93.0 % | 47.0 % | 90.0 % | 11.8 % | 88.00 |",
        "| TNet, 2 locations | 95.0 % | 50.0 % | 92.0 % | 22.0 % | 132.00 |",
        "| TNet, 10 locations | 96.0 % | 70.0 % |  | 80.0 % | 484.00 |",
        "| full-image baseline | 80.0 % |  |  | 100.0 % | 372.00 |",
    ]
    for wanted in ("97.0 %", "96.1 %", "17.0 %", "2.100", "440,123", "301 s", "--seed=7", "2.21.0"):
        assert wanted in text


def test_report_of_an_experiment_without_boxes_or_baseline(tmp_path):
    short = {"name": "folder", "accuracy": {"0": 0.5}, "macs": {"0": 1e6}}
    report.write_report(short, tmp_path)
    assert (tmp_path / "accuracy_vs_compute.png").is_file()
    text = (tmp_path / "report.md").read_text()
    assert "TNet, 0 locations" in text
    assert "baseline" not in text


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    with pytest.raises(ValueError, match="finite numbers.*nan"):
        report.write_report(RESULT | {"hit_rate": float("nan")}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_atomic_path_replaces_only_when_the_block_ends_well(tmp_path):
    target = tmp_path / "report.json"
    target.write_text("old")
    with pytest.raises(RuntimeError), report.atomic_path(target) as path:
        path.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    with report.atomic_path(target) as path:
        assert path.suffix == ".json"
        path.write_text("new")
    assert target.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~mask


def test_versions_name_the_main_packages():
    found = report.versions()
    assert {"python", "tensorflow", "keras", "numpy"} <= set(found)
    assert found["numpy"] == np.__version__
