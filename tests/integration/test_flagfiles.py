"""Every flagfile: its header, its flags, and one training step of its model."""

import importlib
import json
import math
import pathlib
import re

import pytest

import tnet_keras
from tests.integration.commands import run_here

FOLDER = pathlib.Path(importlib.import_module("experiment").__file__).parent / "flagfiles"
FLAGFILES = sorted(FOLDER.glob("*.flags"))
# The published rows of the fact sheets that have a flagfile each.
PUBLISHED = {
    "imagenet_tnet", "imagenet_tnet_no_per_feature", "imagenet_bagnet77", "fmow_tnet_448",
    "fmow_tnet_896", "fmow_efficientnet_b0_crop", "fmow_efficientnet_b0_224",
    "fmow_efficientnet_b0_448", "fmow_efficientnet_b0_896", "traffic_signs_topk_5",
    "traffic_signs_topk_10", "traffic_signs_cnn", "billiards_topk", "billiards_topk_max",
    "billiards_topk_mean", "billiards_resnet18", "billiards_resnet18_position",
    "billiards_resnet18_downscaled", "cub_nts_topk_mean", "cub_nts_topk_concat",
    *(f"{birds}_{kind}_b{i}" for birds in ("cub", "nabirds")
      for kind in ("tnet", "efficientnet") for i in range(5)),
}  # fmt: skip
# Numbers of all variables that the fact sheets give: measured on the originals.
VARIABLES = {
    "imagenet_tnet": 21_859_950, "imagenet_bagnet77": 20_546_664, "fmow_tnet_448": 4_559_592,
    "fmow_tnet_896": 4_559_592, "fmow_efficientnet_b0_448": 4_128_986, "cub_tnet_b0": 5_558_451,
    "cub_tnet_b1": 8_069_459, "cub_tnet_b2": 9_549_017, "cub_tnet_b3": 12_872_623,
    "cub_tnet_b4": 20_456_467, "nabirds_tnet_b0": 6_013_206, "nabirds_tnet_b1": 8_524_214,
    "nabirds_tnet_b2": 10_049_212, "nabirds_tnet_b3": 13_418_258, "nabirds_tnet_b4": 21_092_982,
    "cub_efficientnet_b0": 4_305_764, "cub_efficientnet_b1": 6_831_432,
    "cub_efficientnet_b2": 8_050_362, "cub_efficientnet_b3": 11_090_928,
    "cub_efficientnet_b4": 18_032_416,
}  # fmt: skip


def test_every_published_run_has_a_flagfile():
    assert {path.stem for path in FLAGFILES} >= PUBLISHED


@pytest.mark.parametrize("path", FLAGFILES, ids=lambda path: path.stem)
def test_flagfile_says_what_it_is_and_trains_a_step(path, capsys, monkeypatch, repository):
    monkeypatch.chdir(repository)  # a flagfile may name another one
    text = path.read_text(encoding="utf-8")
    for entry in ("What", "Paper", "Hardware"):
        assert re.search(rf"^# {entry}: \S", text, re.MULTILINE), entry
    found = re.search(
        rf"^# command: python experiments/(\w+)\.py --flagfile=experiments/flagfiles/{path.name}",
        text, re.MULTILINE,
    )  # fmt: skip
    assert found, "no command line"
    run_here(importlib.import_module(found[1]), f"--flagfile={path}", "--dry_run")
    printed = capsys.readouterr().out.splitlines()
    measured = json.loads(printed[-1])
    assert math.isfinite(measured["loss"])
    assert f"{measured['parameters']:,} variables" in " ".join(printed[:-1])
    if path.stem in VARIABLES:
        assert measured["parameters"] == VARIABLES[path.stem]


def test_every_preset_trains_a_step(capsys):
    """Flagfiles train the others; these two have none of their own."""
    named = set()
    for path in FLAGFILES:
        named |= set(re.findall(r"^--preset=(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    left = {"convnet_needle_digits": "full_image", "topk_megapixel_mnist": "megapixel_mnist_topk"}
    assert named | left.keys() == set(tnet_keras.preset_names())
    for preset, script in left.items():
        run_here(importlib.import_module(script), f"--preset={preset}", "--dry_run")
        assert math.isfinite(json.loads(capsys.readouterr().out.splitlines()[-1])["loss"])
