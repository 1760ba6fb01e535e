"""The comparison of ways to learn where to look: which runs are made, and how they are laid out."""

import importlib
import json
import pathlib
import subprocess
import types

import pytest
from absl import flags

compare = importlib.import_module("compare_selectors")


@pytest.fixture
def made(monkeypatch):
    """Stands in for the runs: keeps their command lines and writes what a run writes."""
    lines = []

    def run(line, **_):
        given = dict(flag[2:].split("=", 1) for flag in line if flag[:2] == "--" and "=" in flag)
        lines.append(given)
        folder = pathlib.Path(given["workdir"])
        folder.mkdir(parents=True)
        hit = 0.5 if given["selector"] == "random" else 0.9
        report = {
            "locations": "(2,)", "accuracy": {"(0,)": 0.1, "(2,)": hit + int(given["seed"]) / 100},
            "accuracy_random_locations": 0.3, "hit_rate": {"(2,)": hit}, "images": 1000,
            "hardware": "2 CPU cores",
        }  # fmt: skip
        (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
        return types.SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    return lines


def command(tmp_path, *more):
    for flag in flags.FLAGS.flags_by_module_dict()[compare.__name__]:
        flag.unparse()
    folders = [f"--runs={tmp_path / 'runs'}", f"--output={tmp_path / 'docs'}"]
    flags.FLAGS(["compare_selectors.py", *folders, "--seeds=1,2", *more])
    compare.main()


@pytest.mark.parametrize("task", ["needle_digits", "billiards"])
def test_every_way_is_trained_once_with_each_seed_and_laid_out(task, tmp_path, made):
    command(tmp_path, f"--task={task}")
    assert len(made) == 12 and len({line["workdir"] for line in made}) == 12
    assert [line["seed"] for line in made] == ["1"] * 6 + ["2"] * 6
    assert sorted({line["selector"] for line in made}) == [
        "perturbed", "random", "reinforce", "sinkhorn"
    ]  # fmt: skip
    page = (tmp_path / "docs" / f"selectors_{task}.md").read_text(encoding="utf-8")
    assert "| random | 2 | 0.515 ± 0.007 | 0.300 ± 0.000 | 0.500 ± 0.000 |" in page
    assert page.count("0.915") == 5
    assert (tmp_path / "docs" / f"selectors_{task}.png").stat().st_size > 1000
    command(tmp_path, f"--task={task}")
    assert len(made) == 12  # nothing was trained again


def test_finished_runs_of_other_flags_are_refused(tmp_path, made):
    command(tmp_path)
    (one, *_) = (tmp_path / "runs" / "needle_digits").iterdir()
    record = one / "command.txt"
    record.write_text(record.read_text(encoding="utf-8").replace("--epochs=", "--epochs=1"))
    with pytest.raises(ValueError, match=f"`runs` must hold runs of the same flags.*{one.name}"):
        command(tmp_path)


def test_nothing_to_lay_out_is_said(tmp_path):
    with pytest.raises(ValueError, match="`runs` must hold finished runs. Received"):
        command(tmp_path, "--notrain")
    assert not (tmp_path / "docs").exists()
