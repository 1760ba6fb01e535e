"""A whole run on two workers, two processes of this machine: one of them measures and reports."""

import json
import os
import subprocess
import sys

from tests.training.test_distributed_loop import free_ports

SMALL = (
    "--strategy=multi_worker", "--num_train_examples=32", "--num_validation_examples=8",
    "--num_test_examples=8", "--batch_size=16", "--eval_batch_size=8", "--epochs=1",
    "--pictures=2", "--seed=3", "--eval_locations=0,2", "--noexport",
)  # fmt: skip


def start(repository, workers, index, *arguments):
    told = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
    environment = {
        **os.environ, "TF_CONFIG": json.dumps(told), "CUDA_VISIBLE_DEVICES": "-1",
        "PYTHONPATH": str(repository),
    }  # fmt: skip
    script = str(repository / "experiments" / "imagenet_tnet.py")
    return subprocess.Popen(
        [sys.executable, script, *SMALL, *arguments], cwd=repository, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_the_chief_reports_and_the_other_says_so(repository, tmp_path):
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    # A shared folder, as the workers of a cluster have.
    both = [start(repository, workers, i, f"--workdir={tmp_path / 'run'}") for i in (0, 1)]
    try:
        printed = [process.communicate(timeout=280) for process in both]
    finally:
        for process in both:
            process.kill()
    for process, (_, errors) in zip(both, printed, strict=True):
        assert process.returncode == 0, errors[-2000:]
    assert "Written to" in printed[0][0]
    assert "Done: the chief measures and reports" in printed[1][0]
    assert "Written to" not in printed[1][0]
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert set(report["accuracy"]) == {"0", "2"}
    assert report["train_examples"] == 32
    assert len((tmp_path / "run" / "training.csv").read_text().splitlines()) == 2


def test_rivals_are_refused_in_one_line(repository, tmp_path):
    workers = [f"127.0.0.1:{port}" for port in free_ports(1)]
    process = start(repository, workers, 0, "--baseline_epochs=1", f"--workdir={tmp_path / 'run'}")
    try:
        _, errors = process.communicate(timeout=200)
    finally:
        process.kill()
    assert process.returncode == 2
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert "baseline" in line and "multi_worker" in line
    assert not (tmp_path / "run").exists()
