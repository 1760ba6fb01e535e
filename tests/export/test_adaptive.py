"""Looking at more only where fewer looks leave a doubt: each image as by its own stage."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tests.export import serving
from tnet_keras.export import export_for_serving

NAMES = ["ant", "bee", "cat", "dog"]
STAGES = {
    "tnet": (serving.tnet, [(), (1,), (2, 1)]),
    "patch selection": (serving.patch_selection, [(1,), (3,)]),
}
FILES = [serving.encoded(serving.picture(40 + 3 * n, 50, n)) for n in range(5)]


@pytest.fixture(autouse=True)
def fresh_keras():
    """No test needs it, and clearing Keras has TensorFlow prepare every loaded graph anew."""


@pytest.fixture(scope="module", params=STAGES)
def served(request, tmp_path_factory):
    """A signature with its stages, and those of each stage alone."""
    make, stages = STAGES[request.param]
    folder = export_for_serving(
        make(), tmp_path_factory.mktemp("adaptive") / "insects", class_names=NAMES, top=2,
        locations=stages, adaptive=stages, warmup=(1,),
    )  # fmt: skip
    contract = json.loads((folder / "assets.extra" / "contract.json").read_text())
    assert contract["adaptive"] == [list(stage) for stage in stages]
    loaded = tf.saved_model.load(str(folder))
    suffixes = ["_".join(map(str, stage)) or "context" for stage in stages]
    alone = [loaded.signatures[f"classify_bytes_{suffix}"] for suffix in suffixes]
    return loaded, loaded.signatures["classify_bytes_adaptive"], alone


def asked(signature, files, threshold):
    return signature(image_bytes=tf.constant(files), threshold=tf.constant(threshold, tf.float32))


def test_every_image_gets_the_answer_of_its_own_stage(served):
    _, adaptive, alone = served
    each = [signature(image_bytes=tf.constant(FILES)) for signature in alone]
    confidence = [answer["scores"][:, 0].numpy() for answer in each]
    # Thresholds for which the first image stays, the second goes to the end, the rest differ.
    middle = float(np.median(confidence[0]))
    thresholds = np.float32([0.0, 2.0, middle, middle, middle])
    expected = np.full(5, len(alone) - 1)
    for stage in reversed(range(len(alone) - 1)):
        expected[confidence[stage] >= thresholds] = stage
    assert len(set(expected)) > 1
    found = asked(adaptive, FILES, thresholds)
    np.testing.assert_array_equal(found["stage"], expected)
    for row, stage in enumerate(expected):
        for name, value in each[stage].items():
            wanted, got = value[row].numpy(), found[name][row].numpy()
            if name in ("boxes", "box_scores", "levels"):
                assert not np.any(got[len(wanted) :])
                got = got[: len(wanted)]
            if wanted.dtype == object or not np.issubdtype(wanted.dtype, np.floating):
                np.testing.assert_array_equal(got, wanted, err_msg=name)
            else:
                np.testing.assert_allclose(got, wanted, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("threshold", [0.0, 2.0])
def test_all_alike_and_a_bad_file(served, threshold):
    _, adaptive, alone = served
    found = asked(adaptive, [FILES[0], b"no image"], [threshold] * 2)
    assert found["stage"][0] == (0 if threshold == 0 else len(alone) - 1)
    assert found["status"].numpy().tolist() == [0, 3]
    wanted = alone[int(found["stage"][0])](image_bytes=tf.constant(FILES[:1]))
    np.testing.assert_allclose(found["probabilities"][0], wanted["probabilities"][0], atol=1e-5)
    assert not np.any(found["probabilities"][1]) and found["stage"][1] == 0


@pytest.mark.parametrize(
    ("make", "adaptive", "message"),
    [
        (serving.tnet, [(1,)], "`adaptive` must hold at least two numbers of locations"),
        (serving.tnet, [(2,), (1,)], "each with more places"),
        (serving.tnet, [(1,), (1,)], "`adaptive` must differ"),
        (serving.tnet, [1, 2], "`adaptive` must hold tuples of integers"),
        (serving.tnet, [(), (99,)], "`locations`"),
        (serving.full_image, [(), (1,)], "for a model that has locations"),
    ],
)
def test_stages_that_make_no_sense(make, adaptive, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_for_serving(make(), tmp_path / "insects", adaptive=adaptive)
    assert not list(tmp_path.iterdir())
