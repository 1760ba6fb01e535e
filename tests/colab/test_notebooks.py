"""The notebooks run from top to bottom, and are kept with what a whole run put out."""

import base64
import io

import nbclient
import nbformat
import pytest
from PIL import Image

NAMES = ("quickstart", "serving")
MOST_BYTES = 400_000
PICTURES = ("image/png", "image/jpeg")


def read(repository, name):
    """The notebook as it is kept."""
    return nbformat.read(repository / "colab" / f"{name}.ipynb", as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook):
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def text(notebook):
    """All that was printed."""
    printed = [output for output in outputs(notebook) if output.get("name") == "stdout"]
    return "".join(output.text for output in printed)


def check_ran(notebook):
    """Every code cell ran, in order and without an error, and there is a picture."""
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    assert not [output for output in outputs(notebook) if output.output_type == "error"]
    pictures = [
        data for output in outputs(notebook)
        for kind, data in output.get("data", {}).items() if kind in PICTURES
    ]  # fmt: skip
    assert pictures
    for data in pictures:
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            picture.load()
            assert min(picture.size) >= 100


@pytest.mark.parametrize("name", NAMES)
def test_kept_outputs(repository, name):
    notebook = read(repository, name)
    nbformat.validate(notebook)
    check_ran(notebook)
    assert (repository / "colab" / f"{name}.ipynb").stat().st_size < MOST_BYTES
    # A path of the machine that it ran on would help nobody.
    assert not [line for line in text(notebook).splitlines() if "/home/" in line or "/tmp/" in line]


def test_kept_quickstart_has_learned(repository):
    rows = [line.split() for line in text(read(repository, "quickstart")).splitlines()]
    rows = {row[0]: row for row in rows if row and row[-1] == "million"}
    assert list(rows) == ["0", "1", "2"]
    context, two, random = (
        float(value.rstrip("%")) for value in (rows["0"][1], rows["2"][1], rows["2"][2])
    )
    # Ten classes: by guessing it would be 10 %.
    assert two > 50
    assert two > random + 10 and two > context + 10


def test_kept_serving_answers(repository):
    printed = text(read(repository, "serving"))
    assert "4_half.jpg  broken or truncated" in printed
    assert "5_text.jpg  unknown format" in printed
    assert "digits_float32.tflite" in printed and "difference to Keras" in printed


@pytest.mark.parametrize("name", NAMES)
def test_installs_only_what_is_missing(repository, name):
    first = code_cells(read(repository, name))[0].source
    assert 'REPOSITORY = ""' in first
    assert first.index('find_spec("tnet_keras") is None') < first.index("%pip install")


@pytest.mark.parametrize("name", NAMES)
def test_runs(repository, name, tmp_path, monkeypatch):
    monkeypatch.setenv("TNET_KERAS_QUICK", "1")
    monkeypatch.setenv("PYTHONPATH", str(repository))
    # Neither the reader's settings nor a history file take part.
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    folder = tmp_path / "run"
    folder.mkdir()
    notebook = read(repository, name)
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    check_ran(notebook)
    kept = code_cells(read(repository, name))
    # Where the whole run printed or drew something, so does this one.
    for cell, other in zip(code_cells(notebook), kept, strict=True):
        told = {output.output_type for output in other.outputs if output.get("name") != "stderr"}
        assert told <= {output.output_type for output in cell.outputs}
    version = folder / "saved_models" / "digits" / "1"
    assert (version / "saved_model.pb").is_file()
