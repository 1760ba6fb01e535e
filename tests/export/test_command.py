"""The command `python -m tnet_keras.export`."""

import json

import pytest

from tests.export import serving
from tnet_keras.export.__main__ import main


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model in a file."""
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    serving.full_image().save(path)
    return path


def run(*arguments):
    return main(["export", *map(str, arguments)])


def test_it_writes_a_version(saved, tmp_path, capsys):
    names = tmp_path / "names.txt"
    names.write_text("ant\nbee\ncat\ndog\n", encoding="utf-8")
    output = tmp_path / "served"
    assert run(f"--model={saved}", f"--output={output}", f"--class_names={names}", "--top=2") == 0
    assert capsys.readouterr().out.endswith(f"Wrote {output / '1'}\n")
    extra = output / "1" / "assets.extra"
    assert json.loads((extra / "contract.json").read_text())["class_names"][1] == "bee"
    assert (extra / "tf_serving_warmup_requests").is_file()


def test_names_of_the_classes_are_those_of_the_run(saved, tmp_path, capsys):
    run_folder = tmp_path / "run" / "checkpoints"
    run_folder.mkdir(parents=True)
    (run_folder / "best.keras").write_bytes(saved.read_bytes())
    (run_folder / "labels.txt").write_text("ant\nbee\ncat\ndog\n\n")
    for names in (["ant", "bee", "cat", "dog"], ["a", "b", "c", "d"]):
        output = tmp_path / names[0]
        given = f"--model={run_folder}/best.keras", f"--output={output}", "--nowarmup"
        assert run(*given) == 0
        assert f"Names of the classes: {', '.join(names)}\n" in capsys.readouterr().out
        contract = json.loads((output / "1" / "assets.extra" / "contract.json").read_text())
        assert contract["class_names"] == names
        # The report of a run counts more than a text file.
        (tmp_path / "run" / "report.json").write_text('{"class_names": ["a", "b", "c", "d"]}')


def test_help(capsys):
    assert run("--help") == 0
    shown = capsys.readouterr().out
    assert "--max_pixels" in shown and "python -m tnet_keras.export" in shown


def test_mistakes_are_named_in_one_line(saved, tmp_path, capsys):
    output = tmp_path / "served"
    broken = tmp_path / "broken.keras"
    broken.write_text("no model")
    damaged = saved.with_name("damaged.keras")
    contents = bytearray(saved.read_bytes())
    middle = len(contents) // 2
    contents[middle : middle + 40] = bytes(40)
    damaged.write_bytes(contents)
    given = f"--model={saved}", f"--output={output}"
    for arguments, message in [
        ((given[1],), "Flag --model must be given."),
        ((given[0],), "Flag --output must be given."),
        ((*given, "more"), "Only flags are understood. Received: more"),
        ((f"--model={tmp_path}/none.keras", given[1]), "Flag --model must name a .keras file"),
        ((f"--model={broken}", given[1]), "Flag --model must name a .keras file of this package"),
        ((*given, "--locations=a"), "Flag --locations must be integers such as 2,1, or context"),
        ((*given, "--adaptive=a"), "Flag --adaptive must be integers such as 2,1, or context"),
        ((*given, "--adaptive=1"), "`adaptive` must hold tuples of integers, for a model that"),
        ((*given, "--locations=2"), "`locations` must hold tuples of integers, for a model that"),
        ((*given, f"--class_names={tmp_path}/none"), "`class_names` must be a text file"),
        ((*given, f"--class_names={saved.parent}"), "Is a directory"),
        ((f"--model={damaged}", given[1]), "Flag --model must name a .keras file of this package"),
        ((*given, "--top=0"), "top"),
        ((given[0], f"--output={broken}"), "`path` must be a folder. Received"),
    ]:
        assert run(*arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error and error.count("\n") == 1, error
    assert [entry.name for entry in tmp_path.iterdir()] == ["broken.keras"]
