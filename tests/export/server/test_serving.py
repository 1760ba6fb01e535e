"""One image, every way to the model: the same probabilities, the same boxes."""

import base64
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.export.server.conftest import (
    NAMES,
    PatientClient,
    as_file,
    model_config,
    picture,
    small_tnet,
)
from tests.export.server.stand_in import StandIn
from tnet_keras.export import export_for_serving
from tnet_keras.export.signatures import resized
from tnet_keras.ops import decode_image

# What has to be the same, and how closely. Boxes are whole pixels scaled in float32.
TOLERANCES = {"probabilities": 1e-5, "scores": 1e-5, "box_scores": 1e-5, "boxes": 1e-4}


def keras_answers(model, paths):
    """What the model itself says about files, by the steps that the graph is to take."""
    answers = []
    for path in paths:
        pixels, status = decode_image(path.read_bytes())
        assert status == 0
        outputs = model.attend(resized(pixels[None], model.image_size))
        best = np.argsort(-outputs["probabilities"][0].numpy())[:3]
        height, width = pixels.shape[:2]
        scale = np.array([height / 48, width / 48] * 2, np.float32)
        answers.append(
            {
                "probabilities": outputs["probabilities"][0].numpy(),
                "labels": [NAMES[index] for index in best],
                "scores": outputs["probabilities"][0].numpy()[best],
                "boxes": outputs["boxes"][0].numpy() * scale,
                "box_scores": outputs["box_probabilities"][0].numpy(),
                "levels": outputs["levels"][0].numpy(),
                "status": 0,
            }
        )
    return answers


def assert_same(answers, expected):
    """Asserts that lists of answers, each a dict, agree."""
    assert len(answers) == len(expected)
    for answer, one in zip(answers, expected, strict=True):
        assert list(answer["labels"]) == list(one["labels"])
        assert answer["status"] == one["status"]
        np.testing.assert_array_equal(answer["levels"], one["levels"])
        for name, tolerance in TOLERANCES.items():
            np.testing.assert_allclose(answer[name], one[name], rtol=0, atol=tolerance)


def by_row(outputs):
    """A list of dicts from a dict of arrays."""
    rows = [
        {key: value[i] for key, value in outputs.items()} for i in range(len(outputs["status"]))
    ]
    for row in rows:
        row["labels"] = [getattr(x, "decode", lambda x=x: x)() for x in row["labels"]]
    return rows


@pytest.fixture(scope="module")
def expected(exported, files):
    answers = keras_answers(exported[0], files)
    # A test that boxes agree says nothing if they are always the same.
    assert len({answer["boxes"].tobytes() for answer in answers}) == len(answers)
    return answers


@pytest.fixture(params=["rest", "grpc"])
def address(request, server):
    return getattr(server, request.param)


@pytest.mark.parametrize("signature", ["classify_bytes", "attend"])
def test_client_agrees_with_keras(address, files, expected, signature):
    with PatientClient(address, "fruit", signature) as client:
        assert_same(client.classify(files), expected)


def test_saved_model_agrees_with_keras(exported, files, expected):
    signatures = tf.saved_model.load(str(exported[1] / "1")).signatures
    contents = tf.constant([path.read_bytes() for path in files])
    for name in ("classify_bytes", "attend"):
        outputs = signatures[name](image_bytes=contents)
        rows = by_row({key: value.numpy() for key, value in outputs.items()})
        assert_same(rows, expected)


def test_client_sends_pixels(address, expected):
    pixels = picture(48, 48, 0)
    with PatientClient(address, "fruit", "serving_default") as client:
        assert_same(client.classify(pixels), expected[:1])
        other = picture(30, 40, 1)
        mixed = client.classify([pixels, pixels, other, pixels])
    assert_same(mixed[:2] + mixed[3:], expected[:1] * 3)
    with PatientClient(address, "fruit") as client:
        assert_same(client.classify(pixels), expected[:1])
        assert_same(client.classify([other]), mixed[2:3])


def test_features_and_further_locations(address, exported, files):
    pixels, _ = decode_image(files[0].read_bytes())
    model = exported[0]
    with PatientClient(address, "fruit", "features") as client:
        (answer,) = client.classify(files[0])
    vectors = model.aggregated_features(pixels[None])
    np.testing.assert_allclose(answer["features"], vectors[0], atol=1e-5)
    with PatientClient(address, "fruit", "classify_bytes_1") as client:
        (answer,) = client.classify(files[0])
    boxes = model.attend(pixels[None], locations=(1,))["boxes"]
    np.testing.assert_allclose(answer["boxes"], boxes[0], atol=1e-4)


def test_a_batch_of_mixed_sizes_is_each_alone(address, files):
    bad = [b"", b"no image", as_file(picture(48, 48))[:200]]
    images = [files[0], bad[0], files[1], bad[1], files[2], bad[2]]
    with PatientClient(address, "fruit") as client:
        together = client.classify(images)
        alone = [client.classify([image])[0] for image in images]
    assert_same(together, alone)
    assert [answer["reason"] for answer in together] == [
        "ok", "empty", "ok", "unknown format", "ok", "broken or truncated"
    ]  # fmt: skip
    for answer in together[1::2]:
        assert not answer["probabilities"].any() and not answer["boxes"].any()
        assert answer["labels"] == [""] * 3
    assert together[0]["boxes"].dtype == np.float32
    assert together[0]["levels"].dtype == np.int32


def test_every_output_has_one_entry_per_image(exported, files):
    # That is what lets a server batch requests of several clients.
    contents = [path.read_bytes() for path in files]
    for name, signature in tf.saved_model.load(str(exported[1] / "1")).signatures.items():
        if name != "serving_default":
            further = {"threshold": tf.fill([len(files)], 0.5)} if "adaptive" in name else {}
            outputs = signature(image_bytes=tf.constant(contents), **further)
            assert {len(value) for value in outputs.values()} == {len(files)}


def test_warm_up_requests_are_answered_at_load(server):
    version = server.servables.find("fruit")
    assert version.warmed == 2 * len(version.signatures)


def test_rows_of_json_by_curl(server, files, expected, tmp_path):
    instances = [
        {"image_bytes": {"b64": base64.b64encode(path.read_bytes()).decode()}} for path in files
    ]
    question = tmp_path / "question.json"
    question.write_text(json.dumps({"signature_name": "classify_bytes", "instances": instances}))
    url = f"{server.rest}/v1/models/fruit:predict"
    command = ["curl", "--silent", "--fail", "--noproxy", "*", "-d", f"@{question}", url]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert_same(json.loads(answer.stdout)["predictions"], expected)


OVMS = """
import json, sys
import numpy as np
from ovmsclient import make_grpc_client, make_http_client

grpc, rest, pixels = sys.argv[1:]
images = np.load(pixels)
for make, address in ((make_grpc_client, grpc), (make_http_client, rest.removeprefix("http://"))):
    client = make(address)
    # Without a version it asks for version 0, which means the newest to the server it was made for.
    status = client.get_model_status("fruit", 1, timeout=600)
    metadata = client.get_model_metadata("fruit", 1, timeout=600)
    # Over HTTP it knows its own server's spelling only, and gives this JSON as it is.
    if "metadata" in metadata:
        metadata = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
    outputs = client.predict({"images": images}, "fruit", 1, timeout=600)
    print(json.dumps({
        "status": {str(key): value["state"] for key, value in status.items()},
        "inputs": {key: str(value["dtype"]) for key, value in metadata["inputs"].items()},
        "outputs": sorted(metadata["outputs"]),
        "probabilities": np.asarray(outputs["probabilities"]).tolist(),
        "boxes": np.asarray(outputs["boxes"]).tolist(),
    }))
"""


def test_an_independent_client(server, expected, tmp_path):
    pytest.importorskip("ovmsclient", reason="needs ovmsclient, of the extra `test`")
    np.save(tmp_path / "images.npy", picture(48, 48, 0)[None])
    # A process of its own: it brings its own copies of the messages.
    result = subprocess.run(
        [sys.executable, "-c", OVMS, server.grpc, server.rest, str(tmp_path / "images.npy")],
        capture_output=True, text=True, env=os.environ | {"no_proxy": "localhost"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(answers) == 2
    for answer in answers:
        assert answer["status"] == {"1": "AVAILABLE"}
        assert answer["inputs"] == {"images": "DT_UINT8"}
        assert {"probabilities", "labels", "scores", "boxes", "status"} <= set(answer["outputs"])
        for name in ("probabilities", "boxes"):
            np.testing.assert_allclose(answer[name], [expected[0][name]], atol=TOLERANCES[name])


@pytest.fixture(scope="module")
def two_versions(exported, tmp_path_factory):
    """The model as version 1, and another one as version 2, beside it."""
    folder = tmp_path_factory.mktemp("versions") / "fruit"
    shutil.copytree(exported[1], folder)
    other = small_tnet()
    for variable in other.trainable_variables:
        variable.assign(variable * 0.5)
    return other, folder


def test_version_2_beside_version_1(exported, two_versions, files, expected):
    other, folder = two_versions
    pixels, _ = decode_image(files[0].read_bytes())
    with StandIn(model_config(folder)) as latest:
        with PatientClient(latest.rest, "fruit") as client:
            assert_same(client.classify(files[0]), expected[:1])
            # The server is not told: it finds the folder.
            export_for_serving(other, folder, class_names=NAMES, top=3)
            (answer,) = client.classify(files[0])
            assert client.versions() == {2: "AVAILABLE", 1: "END"}
        np.testing.assert_allclose(
            answer["probabilities"], other.attend(pixels[None])["probabilities"][0], atol=1e-5
        )
        assert abs(answer["probabilities"] - expected[0]["probabilities"]).max() > 1e-3
    policy = "model_version_policy { specific { versions: 1 versions: 2 } }"
    policy += " version_labels { key: 'stable' value: 1 }"
    with StandIn(model_config(folder, policy=policy)) as both:
        for address in (both.grpc, both.rest):
            with PatientClient(address, "fruit", version=1) as first:
                assert_same(first.classify(files[0]), expected[:1])
                assert first.versions() == {2: "AVAILABLE", 1: "AVAILABLE"}
            with PatientClient(address, "fruit", version=2) as second:
                assert_same(second.classify(files[0]), [answer])
            with PatientClient(address, "fruit") as newest:
                assert_same(newest.classify(files[0]), [answer])


def test_a_folder_that_cannot_be_written_to(exported, files, expected, tmp_path):
    folder = tmp_path / "fruit"
    shutil.copytree(exported[1], folder)
    everything = [folder, *folder.rglob("*")]
    for path in everything:
        path.chmod(path.stat().st_mode & 0o555)
    before = {path: path.stat().st_mtime_ns for path in everything}
    try:
        with StandIn(model_config(folder)) as stand_in:
            with PatientClient(stand_in.grpc, "fruit") as client:
                assert_same(client.classify(files), expected)
        # The superuser may write regardless: what counts is that nobody tried.
        assert {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]} == before
    finally:
        for path in everything:
            path.chmod(path.stat().st_mode | 0o200)
