"""predict.py as a user runs it: tables, bad files by name, exit codes, nothing half-written."""

import csv
import json
import os

import keras
import numpy as np
import predict
import pytest
import tensorflow as tf
from PIL import Image

from tests.export.lite_models import scenes, tnet
from tests.integration import commands
from tests.integration.commands import one_line
from tnet_keras.export import export_for_serving, export_tflite, files

pytest.importorskip("ai_edge_litert.interpreter")
NAMES = ["ant", "bée", "猫", "dog"]
KINDS = ("model.keras", "saved_model", "model.tflite")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folder with one model in every kind of file."""
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("models")
    model = tnet(unit_norm=False)
    model.save(folder / "model.keras")
    export_for_serving(model, folder / "saved_model", class_names=NAMES)
    export_tflite(model, folder / "model.tflite", class_names=NAMES)
    (folder / "names.txt").write_text("\n".join(NAMES) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Folder with 40 files of which three are broken; sizes, kinds and names differ."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "sub ordner").mkdir()
    suffixes = ("png", "jpg", "bmp", "webp", "gif")
    for number in range(37):
        size = (30 + 5 * (number % 7), 90 - number)
        name = f"{'sub ordner/' * (number % 2)}größe {number:02d}.{suffixes[number % 5]}"
        Image.fromarray(scenes(size, 1, number)[0]).save(folder / name)
    whole = (folder / "sub ordner" / "größe 01.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("no image")
    (folder / "empty.JPEG").touch()
    (folder / "notes.txt").write_text("no image by its name")
    (folder / ".hidden.png").touch()
    return folder


def run(*arguments):
    """Runs the script in this process; returns its exit code."""
    try:
        predict.main(["predict.py", *arguments])
    except SystemExit as exit:
        return exit.code
    return 0


def table(path):
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def tables(models, photos, tmp_path_factory):
    """The table that each kind of model wrote, and its folder."""
    folder = tmp_path_factory.mktemp("tables")
    for kind in KINDS:
        labels = [f"--labels={models}/names.txt"] * (kind == "model.keras")
        out = folder / kind / "answers.csv"
        assert run(f"--model={models / kind}", f"--images={photos}", f"--out={out}", *labels) == 3
    return {kind: table(folder / kind / "answers.csv") for kind in KINDS}, folder


def test_three_kinds_give_the_same_rows(tables, photos):
    first, *others = tables[0].values()
    assert len(first) == 37
    assert [row["path"] for row in first] == sorted(row["path"] for row in first)
    assert all(os.path.isfile(row["path"]) for row in first)
    for rows in others:
        for mine, theirs in zip(first, rows, strict=True):
            assert list(mine) == list(theirs)
            for name in mine:
                if "probability" in name:
                    assert float(mine[name]) == pytest.approx(float(theirs[name]), abs=1e-4)
                elif name == "box_scores":
                    close = pytest.approx(json.loads(theirs[name]), abs=1e-4)
                    assert json.loads(mine[name]) == close
                else:
                    assert mine[name] == theirs[name], name


def test_rows_say_what_the_model_says(tables, models):
    model = keras.saving.load_model(models / "model.keras")
    for row in tables[0]["model.keras"][:6]:
        with Image.open(row["path"]) as opened:
            pixels = np.asarray(opened.convert("RGB"))
        height, width = pixels.shape[:2]
        assert (row["height"], row["width"]) == (str(height), str(width))
        if row["path"].endswith(("jpg", "webp")):
            continue  # decoders may differ by a step of grey
        image = tf.round(tf.image.resize(pixels[None], model.image_size))
        outputs = model.attend(tf.cast(image, tf.uint8))
        chances = np.asarray(outputs["probabilities"])[0]
        assert row["label"] == NAMES[chances.argmax()]
        assert float(row["probability"]) == pytest.approx(chances.max(), abs=1e-5)
        assert {row[f"label{n}"] for n in ("", "_2", "_3", "_4")} == set(NAMES)
        scale = np.array([height, width] * 2) / 64
        np.testing.assert_allclose(
            json.loads(row["boxes"]), outputs["boxes"][0] * scale, atol=0.006
        )
        assert json.loads(row["levels"]) == [2, 2]


def test_bad_files_are_named_with_the_reason(tables, photos):
    for kind in KINDS:
        folder = tables[1] / kind
        assert {path.name for path in folder.iterdir()} == {"answers.csv", "answers.errors.csv"}
        reasons = {row["path"]: row["reason"] for row in table(folder / "answers.errors.csv")}
        assert reasons == {
            f"{photos}/empty.JPEG": "empty",
            f"{photos}/text.png": "unknown format",
            f"{photos}/truncated.jpg": "broken or truncated",
        }


def test_what_the_terminal_says(models, photos, tmp_path, capfd):
    out = tmp_path / "answers.csv"
    assert run(f"--model={models}/model.keras", f"--images={photos}", f"--out={out}") == 3
    said = capfd.readouterr()
    assert f"bad: {photos}/text.png: unknown format\n" in said.err
    assert said.err.count("bad: ") == 3
    assert "left out 1 files not named like images" in said.err
    assert "37 images: " in said.out and "3 bad: " in said.out
    # Without labels classes are numbered.
    assert {row["label"] for row in table(out)} <= {"0", "1", "2", "3"}


def test_a_pattern_and_pictures(models, photos, tmp_path):
    arguments = (f"--model={models}/model.tflite", f"--images={photos}/**/*.bmp", "--top=2")
    out, drawn = tmp_path / "answers.csv", tmp_path / "drawn"
    (tmp_path / "answers.errors.csv").write_text("of an earlier run")
    assert run(*arguments, f"--out={out}", f"--draw={drawn}", "--batch_size=3") == 0
    rows = table(out)
    assert len(rows) == 7 and list(rows[0])[:5] == [
        "path", "label", "probability", "label_2", "probability_2",
    ]  # fmt: skip
    assert not (tmp_path / "answers.errors.csv").exists()
    pictures = sorted(path.name for path in drawn.rglob("*.png"))
    assert pictures == sorted(os.path.basename(row["path"]) + ".png" for row in rows)
    for row in rows:
        (picture,) = drawn.rglob(os.path.basename(row["path"]) + ".png")
        with Image.open(picture) as opened:
            assert opened.size == (int(row["width"]), int(row["height"]))


def test_pictures_of_one_name_and_of_an_earlier_run(models, tmp_path, capsys):
    for number, folder in enumerate(("a", "b")):
        (tmp_path / "in" / folder).mkdir(parents=True)
        image = Image.fromarray(scenes((64, 64 + number), 1, number)[0])
        image.save(tmp_path / "in" / folder / "same.png")
    drawn = tmp_path / "drawn"
    arguments = f"--model={models}/model.keras", f"--draw={drawn}"
    for images in ("in", "in/*/same.png"):
        out = tmp_path / f"{images.count('*')}.csv"
        asked = (*arguments, f"--images={tmp_path}/{images}", f"--out={out}")
        assert run(*asked, "--overwrite") == 0
        for number, folder in enumerate(("a", "b")):
            with Image.open(drawn / folder / "same.png.png") as opened:
                assert opened.size == (64 + number, 64)
        assert len(list(drawn.rglob("*.png"))) == 2
    (drawn / "a" / "same.png.png").unlink()
    (drawn / "b" / "same.png.png").write_text("mine")
    asked = (*arguments, f"--images={tmp_path}/in", f"--out={tmp_path}/new/answers.csv")
    capsys.readouterr()
    assert run(*asked) == 2
    assert "`draw` must not hold these pictures yet" in one_line(capsys)
    assert (drawn / "b" / "same.png.png").read_text() == "mine"
    assert not (tmp_path / "new").exists() and not list((drawn / "a").iterdir())


def test_one_file_under_any_name(models, tmp_path):
    Image.fromarray(scenes((64, 64), 1)[0]).save(tmp_path / "x", format="PNG")
    odd = os.fsencode(tmp_path) + b"/\xff[1].png"  # no UTF-8, and a pattern that matches another
    os.rename(tmp_path / "x", odd)
    out = tmp_path / "answers.csv"
    arguments = f"--model={models}/model.keras", f"--out={out}"
    assert run(*arguments, f"--images={os.fsdecode(odd)}") == 0
    assert b"\xff[1].png" in out.read_bytes()


def test_too_large_images_are_refused_with_their_size(models, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.jpg", "c.gif", "d.bmp", "e.webp"):
        Image.fromarray(scenes((40, 51), 1)[0]).save(tmp_path / "in" / name)
    Image.fromarray(scenes((40, 50), 1)[0]).save(tmp_path / "in" / "fits.png")
    out = tmp_path / "answers.csv"
    arguments = f"--model={models}/model.keras", f"--images={tmp_path}/in", f"--out={out}"
    assert run(*arguments, "--max_pixels=2000") == 3
    assert [row["path"] for row in table(out)] == [f"{tmp_path}/in/fits.png"]
    reasons = {row["reason"] for row in table(tmp_path / "answers.errors.csv")}
    assert reasons == {"too many pixels: 40 x 51, more than 2,000"}
    assert run(*arguments, "--max_bytes=10", "--overwrite") == 2
    reasons = [row["reason"] for row in table(tmp_path / "answers.errors.csv")]
    assert len(reasons) == 6 and all(r.startswith("too many bytes: ") for r in reasons)


def test_linked_folders_are_read_once(models, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "in").mkdir()
    for folder in ("elsewhere", "in"):
        Image.fromarray(scenes((64, 64), 1)[0]).save(tmp_path / folder / "a.png")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in")
    out = tmp_path / "answers.csv"
    assert run(f"--model={models}/model.keras", f"--images={tmp_path}/in", f"--out={out}") == 0
    paths = [row["path"] for row in table(out)]
    assert paths == [f"{tmp_path}/in/a.png", f"{tmp_path}/in/link/a.png"]


def test_unreadable_things(models, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    os.mkfifo(tmp_path / "in" / "pipe.png")
    (tmp_path / "in" / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "in" / "zero.png").symlink_to("/dev/zero")
    out = tmp_path / "answers.csv"
    assert run(f"--model={models}/model.keras", f"--images={tmp_path}/in", f"--out={out}") == 2
    assert "None of the files could be read" in one_line(capsys)
    assert not out.exists()
    reasons = [row["reason"] for row in table(tmp_path / "answers.errors.csv")]
    assert reasons == ["No such file or directory", "no regular file", "no regular file"]


def test_bad_input_is_one_line_and_leaves_nothing(models, photos, tmp_path, capsys):
    (tmp_path / "none").mkdir()
    (tmp_path / "there.csv").write_text("mine")
    (tmp_path / "latin.txt").write_bytes(b"\xff\n")
    (tmp_path / "mine.errors.csv").mkdir()
    before = {path.name for path in tmp_path.iterdir()}
    good = {
        "model": f"{models}/model.keras", "images": str(photos),
        "out": f"{tmp_path}/new/answers.csv",
    }  # fmt: skip
    for change, message in (
        ({"images": f"{tmp_path}/none"}, "`images` must hold image files"),
        ({"images": f"{tmp_path}/*.jpg"}, "`images` must be a file, a folder or a pattern"),
        ({"images": ""}, "`images` must be given"),
        ({"model": f"{tmp_path}/absent.keras"}, "`model` must be a .keras, .tflite or .onnx file"),
        ({"out": f"{tmp_path}/there.csv"}, "`out` must not exist yet"),
        ({"out": f"{tmp_path}/answers.txt"}, "`out` must end in .csv"),
        ({"out": f"{tmp_path}/there.csv/answers.csv"}, "`out` must be in a folder that can be wri"),
        ({"out": "/proc/answers.csv"}, "`out` must be in a folder that can be written to"),
        ({"labels": f"{tmp_path}/latin.txt"}, "`labels` must be a text file in UTF-8"),
        ({"labels": f"{photos}/notes.txt"}, "`class_names` must be 4 names, one per class"),
        ({"draw": f"{tmp_path}/there.csv"}, "`draw` must be a folder"),
        ({"draw": "/proc/pictures"}, "`draw` must be in a folder that can be written to"),
        ({"out": f"{tmp_path}/mine.csv"}, "`out` must be a file"),
        ({"batch_size": "0"}, "batch_size"),
        ({"max_pixels": "0"}, "max_pixels"),
        ({"nonsense": "0"}, "nonsense"),
    ):
        flags = [f"--{name}={value}" for name, value in (good | change).items()]
        assert run(*flags) == 2, change
        assert message in one_line(capsys), change
        assert {path.name for path in tmp_path.iterdir()} == before, change
    assert (tmp_path / "there.csv").read_text() == "mine"


def test_nothing_is_half_written(models, photos, tmp_path, monkeypatch):
    original, calls = files.read_image, []

    def interrupted(*arguments, **limits):
        calls.append(arguments)
        if len(calls) > 20:
            raise KeyboardInterrupt
        return original(*arguments, **limits)

    monkeypatch.setattr(files, "read_image", interrupted)
    (tmp_path / "answers.csv").write_text("of an earlier run")
    arguments = f"--images={photos}", f"--out={tmp_path}/answers.csv", "--overwrite"
    assert run(f"--model={models}/model.keras", *arguments) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["answers.csv"]
    assert (tmp_path / "answers.csv").read_text() == "of an earlier run"


def test_help(capsys):
    assert run("--help") == 0
    assert "Exit codes: 0 all files were read; 3 some were not" in capsys.readouterr().out


def test_as_a_command(repository, models, photos, tmp_path):
    done = commands.run_apart(
        repository, "predict", f"--model={models}/model.tflite", f"--images={photos}",
        f"--out={tmp_path}/answers.csv",
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert len(table(tmp_path / "answers.csv")) == 37
    assert [line for line in done.stderr.splitlines() if "Traceback" in line] == []
