"""A new folder appears when it is complete, or not at all."""

import json
import os
import stat

import pytest

from tnet_keras.datasets.new_folder import new_folder


def test_it_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "above" / "new"
    with new_folder(str(path), {"seed": 3}) as folder:
        (folder / "part").mkdir()
        (folder / "part" / "data").write_text("whole")
        assert not path.exists()
    assert os.listdir(tmp_path / "above") == ["new"]  # Nothing temporary is left.
    assert (path / "part" / "data").read_text() == "whole"
    assert json.loads((path / "about.json").read_text()) == {"seed": 3}
    (tmp_path / "usual").mkdir()  # Others may read it as they may read any other folder.
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_fails_leaves_nothing(tmp_path, error):
    with pytest.raises(error), new_folder(tmp_path / "new", {}) as folder:
        (folder / "data").write_text("half")
        raise error
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_nothing_is_overwritten(tmp_path, kind, when):
    path = tmp_path / "mine"

    def make():
        if kind == "folder":
            path.mkdir()
        elif kind == "file":
            path.write_text("mine")
        else:
            path.symlink_to("nowhere")

    if when == "before":
        make()
    with pytest.raises(ValueError, match=r"`path` must not exist.* Received: path='.*mine'"):
        with new_folder(path, {}):
            make()
    assert os.listdir(tmp_path) == ["mine"] and (kind != "folder" or not os.listdir(path))


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"folder that can be made \(.*\). Received: path='.*new'"):
        with new_folder(tmp_path / "file" / "new", {}):
            pass
    assert os.listdir(tmp_path) == ["file"]
