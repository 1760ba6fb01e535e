"""The folder of a run: refused, resumed, replaced; and killed while it was being replaced."""

import os
import shutil

import pytest

from tnet_keras.training import command


class Kill(BaseException):
    """What stands for a kill in this process."""


def finished_run(path, leave_out=()):
    """Makes what a finished run leaves, and a file of somebody else."""
    path.mkdir()
    for name in command.OUTPUTS:
        if name in leave_out:
            continue
        if "." in name:
            (path / name).write_text("old")
        else:
            (path / name).mkdir()
            (path / name / "part").write_text("old")
    (path / "notes.txt").write_text("mine")
    return path


def test_overwrite_removes_what_runs_write_and_nothing_else(tmp_path):
    run = finished_run(tmp_path / "run")
    (run / "tensorboard" / "part").unlink()
    (run / "tensorboard").rmdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("kept")
    (run / "tensorboard").symlink_to(elsewhere)
    command.make_workdir(command.check_workdir(run, overwrite=True), overwrite=True)
    assert [path.name for path in run.iterdir()] == ["notes.txt"]
    assert (elsewhere / "kept").is_file()


@pytest.mark.parametrize("moves", range(len(command.OUTPUTS) + 1))
def test_killed_while_it_replaced_a_run(moves, tmp_path, monkeypatch):
    run = finished_run(tmp_path / "run")
    done = []

    def replace(source, target, real=os.replace):
        if len(done) == moves:
            raise Kill
        done.append(source)
        real(source, target)

    def rmtree(path, real=shutil.rmtree):
        shutil.os.unlink(path / "report.json")  # killed with a half of it removed
        raise Kill

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        patch.setattr(shutil, "rmtree", rmtree)
        with pytest.raises(Kill):
            command.make_workdir(run, overwrite=True)
    for name in command.OUTPUTS:  # whole or gone
        path = run / name
        assert path.is_file() or (path / "part").is_file() or not path.exists()
    if moves == 0:
        with pytest.raises(ValueError, match="holds a finished run"):
            command.check_workdir(run)
    elif moves < len(command.OUTPUTS):
        with pytest.raises(ValueError, match="go on with --resume, or replace it with --overwrite"):
            command.check_workdir(run)
        command.check_workdir(run, resume=True)  # the advice can be taken
    else:
        command.check_workdir(run)
    command.make_workdir(command.check_workdir(run, overwrite=True), overwrite=True)
    assert [path.name for path in run.iterdir()] == ["notes.txt"]


def test_what_a_kill_left_behind_is_cleared_by_a_run_that_goes_on(tmp_path):
    run = finished_run(tmp_path / "run", leave_out=["report.json"])
    (run / ".removed").mkdir()
    (run / ".removed" / "report.json").write_text("old")
    command.make_workdir(command.check_workdir(run, resume=True))
    assert not (run / ".removed").exists() and (run / "checkpoints" / "part").is_file()


@pytest.mark.parametrize("resume", [False, True])
def test_run_without_its_flags_can_only_be_replaced(resume, tmp_path):
    run = finished_run(tmp_path / "run", leave_out=["report.json", "flags.txt"])
    message = "holds report.md, but no flags.txt to go on by; replace it with --overwrite, without"
    with pytest.raises(ValueError, match=message):
        command.check_workdir(run, resume=resume)
    command.check_workdir(run, overwrite=True)


def test_run_goes_on_with_the_data_it_was_started_with(tmp_path):
    record = tmp_path / command.STARTED
    line = f"{command.DATA_COMMENT}0123456789abcdef\n"
    record.write_text(f"--seed=1\n{line}", encoding="utf-8")
    command.check_same_run(tmp_path, f"--seed=1\n{line}")
    now = f"--dataset=photos\n--seed=1\n{command.DATA_COMMENT}f\n"
    with pytest.raises(ValueError, match="the data .* Received: --dataset=photos whose files are"):
        command.check_same_run(tmp_path, now)
    # Runs of earlier versions say nothing of their data.
    record.write_text("--seed=1\n", encoding="utf-8")
    command.check_same_run(tmp_path, f"--seed=1\n{line}")
