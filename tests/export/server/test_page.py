"""The page about deployment does what it says: its commands are run as they stand there."""

import contextlib
import os
import pathlib
import re
import subprocess
import sys

import keras
import pytest
from google.protobuf import text_format

from tests.export.server.conftest import as_file, model_config, picture, small_tnet
from tests.export.server.stand_in import StandIn
from tnet_keras.ops.decode import DECODE_STATUSES, MAX_BYTES, MAX_PIXELS

PAGE = pathlib.Path(__file__).parents[3] / "docs" / "deployment.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = "# Not run here"
BLOCKS = BLOCK.findall(PAGE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The folder that the page speaks of: two trained models and some images."""
    folder = tmp_path_factory.mktemp("page")
    for seed, name in enumerate(("digits", "digits_longer")):
        (folder / "runs" / name / "checkpoints").mkdir(parents=True)
        keras.utils.set_random_seed(seed)
        small_tnet().save(folder / "runs" / name / "checkpoints" / "best.keras")
    (folder / "images").mkdir()
    (folder / "images" / "1.jpg").write_bytes(as_file(picture(70, 50, 1), "JPEG"))
    (folder / "images" / "2.png").write_bytes(as_file(picture(48, 48, 2)))
    return folder


class Reader:
    """Someone who runs the page from top to bottom.

    Args:
        place: The folder to do it in.
        stand_in: The server that is started where the page starts one.
    """

    def __init__(self, place, stand_in):
        self.place, self.stand_in = place, stand_in
        binaries = pathlib.Path(sys.executable).parent
        self.environment = os.environ | {
            "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(PAGE.parents[1]),
            "no_proxy": "localhost",
        }

    def run(self, kind, text):
        """Runs a block; returns what it printed."""
        text = text.replace("http://localhost:8501", self.stand_in.rest)
        text = text.replace("localhost:8500", self.stand_in.grpc)
        # No test is about how fast a busy machine answers.
        text = text.replace("timeout=60", "timeout=600")
        text = text.replace("--model=digits ", "--model=digits --timeout=600 ")
        command = ["bash", "-euo", "pipefail", "-c", text]
        if kind == "python":
            command = [sys.executable, "-c", text]
        result = subprocess.run(
            command, cwd=self.place, env=self.environment, capture_output=True, text=True
        )
        assert result.returncode == 0, f"{text}\n{result.stdout}\n{result.stderr}"
        config = self.place / "models.config"
        if config.is_file():
            # The server polls this file; in a container the models are elsewhere.
            models = f'"{self.place}/saved_models/'
            self.stand_in.servables.configure(config.read_text().replace('"/models/', models))
        return result.stdout


def test_the_page_from_top_to_bottom(place):
    printed = []
    with contextlib.ExitStack() as stack:
        stand_in = stack.enter_context(StandIn("model_config_list {}"))
        reader = Reader(place, stand_in)
        for kind, text in BLOCKS:
            if kind == "text":
                version = place / "saved_models" / "digits" / "1"
                there = [path for path in version.rglob("*") if path.is_file()]
                assert sorted(str(path.relative_to(place)) for path in there) == text.split()
            elif not text.startswith(NOT_RUN):
                printed.append((text, reader.run(kind, text)))
    everything = "".join(output for _, output in printed)
    lines = everything.splitlines()
    # Both servers gave one line per image, and version 1 again after version 2.
    first = [line for line in lines if line.startswith("images/1.jpg: ")]
    second = [line for line in lines if line.startswith("images/2.png: ")]
    assert len(first) == 2 and len(set(first)) == 1
    assert len(second) == 3 and len(set(second)) == 1
    assert everything.count('"predictions"') == 3
    answers = [output for text, output in printed if "/versions/1:predict" in text]
    one, two = answers[0].split('"predictions"')[1:]
    assert one != two, "the versions are different models"
    assert 'request_count{model_name="digits",status="OK"}' in everything
    assert '"AVAILABLE"' in everything


def test_what_needs_more_than_is_here_is_marked():
    for kind, text in BLOCKS:
        assert kind in ("bash", "python", "text")
        if re.search(r"\b(docker|tensorflow_model_server)\b", text):
            assert text.startswith(NOT_RUN)
    assert sum(text.startswith(NOT_RUN) for _, text in BLOCKS) == 1


def test_numbers_of_the_page():
    page = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) \| ([\w ]+) \|$", page, re.MULTILINE)
    assert [(int(number), words) for number, words in rows] == list(enumerate(DECODE_STATUSES))
    limits = re.search(r"`--max_pixels` \(([\d,]+) .*?`--max_bytes` \(([\d,]+)\)", page)
    assert [int(limit.replace(",", "")) for limit in limits.groups()] == [MAX_PIXELS, MAX_BYTES]


def test_model_config_is_what_the_server_would_read(exported):
    # A field that TensorFlow Serving does not know is refused by its own messages.
    with pytest.raises(text_format.ParseError, match="no field named"):
        StandIn(model_config(exported[1], policy="colour: 'red'"))
