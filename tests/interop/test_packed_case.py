"""One recorded run of the original that lives in the repository: a plain clone tests parity too.

`data/README.md` says what the file holds. The whole model runs on one image; the location module,
positional encoding, aggregation, classifier and losses run on the recorded features of the batch.
"""

import io
import json
import lzma
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from tests.interop.checkpoints import write_checkpoint
from tests.interop.kinds import TOLERANCES, apart, kinds_of
from tests.interop.reproduce import TERMS, evaluation
from tnet_keras import interop, learning
from tnet_keras.ops import location_log_probs, top_k_cells

PACKED = pathlib.Path(__file__).parent / "data" / "fmow_2levels.npz.xz"


def weights_of(packed):
    """The original's variables by name, from planes of bytes."""
    bits = np.ascontiguousarray(packed["weights"][::-1].T).view("<u4")[:, 0]
    flat = ((bits >> 1) | (bits << 31)).view("<f4")
    values, start = {}, 0
    for name, shape in json.loads(str(packed["variables"])):
        size = int(np.prod(shape))
        values[name] = flat[start : start + size].reshape(shape)
        start += size
    assert start == flat.size
    return values


@pytest.fixture(scope="module")
def packed():
    with np.load(io.BytesIO(lzma.decompress(PACKED.read_bytes()))) as stored:
        return {key: stored[key] for key in stored.files}


@pytest.fixture(scope="module")
def model(packed, tmp_path_factory):
    model = interop.original_model(json.loads(str(packed["flags"])))
    folder = tmp_path_factory.mktemp("packed")
    interop.load_original_checkpoint(model, write_checkpoint(folder, weights_of(packed)))
    return model


def part(packed, prefix):
    """What was recorded under a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in packed.items() if k.startswith(prefix)}


def test_the_file_is_small():
    assert PACKED.stat().st_size < 1.5e6


def test_weights_arrive_to_the_last_bit(packed, model):
    values = weights_of(packed)
    ours = interop.original_variables(model)
    assert set(ours) == set(values)
    for name, variables in ours.items():
        np.testing.assert_array_equal(variables[0], values[name], err_msg=name)


def test_evaluation_of_the_image(packed, model):
    ours, recorded = evaluation(model, packed["image"][None]), part(packed, "image/")
    seen = set()
    for key, expected in recorded.items():
        found = ours[key.removeprefix("eval.")]
        (kind,) = kinds_of(key)
        seen.add(kind)
        if kind == "integer":
            np.testing.assert_array_equal(found, expected, err_msg=key)
        else:
            assert apart(key, found, expected) <= TOLERANCES[kind], key
    assert seen == {"integer", "activation", "probability", "view", "gap"}


def test_feature_logits_of_the_image(packed, model):
    outputs = model.attend(packed["image"][None])
    index, recorded = int(packed["image_index"]), part(packed, "batch/train_bninfer.")
    for key, found in (
        ("logits", outputs["logits"]),
        ("level1.feature_logits", outputs["feature_logits"][:, 0]),
        ("level2.feature_logits", outputs["feature_logits"][0, 1:]),
    ):
        rows = len(recorded[key]) // len(packed["labels"])
        expected = recorded[key][index * rows : (index + 1) * rows]
        assert apart(key, found.numpy(), expected) <= TOLERANCES["activation"], key


def test_losses_of_the_image(packed, model):
    # Recorded are means over the batch; those of one image follow from its recorded logits and
    # log-probabilities, here in float64.
    index, recorded = int(packed["image_index"]), part(packed, "batch/train_bninfer.")
    label, baseline = packed["labels"][index], recorded["baseline_before"]

    def own(key):
        rows = len(recorded[key]) // len(packed["labels"])
        return recorded[key][index * rows : (index + 1) * rows].astype(np.float64)

    def cross_entropy(logits):
        return np.log(np.exp(logits).sum(axis=-1)) - logits[:, label]

    features = np.concatenate([own("level1.feature_logits"), own("level2.feature_logits")])
    sequence = (own("reward") - baseline) * -own("seq_logprob")
    single = (own("level2.feature_reward") - baseline) * -own("level1.chosen_logprobs")
    expected = {
        "loss.L1": 0.2 * cross_entropy(own("logits"))[0],
        "loss.L2": 0.1 * 0.2 * sequence[0],
        "loss.L3": 0.8 * cross_entropy(features).mean(),
        "loss.L4": 0.1 * 0.8 * single.mean(),
    }
    expected["loss.total"] = sum(expected.values())
    ours = model.loss_terms(packed["image"][None], packed["labels"][index : index + 1], False)
    assert set(ours) == {TERMS[key.removeprefix("loss.")] for key in expected}
    for key, value in expected.items():
        found = ours[TERMS[key.removeprefix("loss.")]].numpy()
        assert apart(key, found, value) <= TOLERANCES["loss"], key


@pytest.fixture(scope="module")
def batch(packed, model):
    """The parts behind the backbone, run on the recorded features of the whole batch."""
    given, labels = part(packed, "batch/eval."), packed["labels"]
    rows = len(labels)
    with tf.GradientTape() as tape:
        features = tf.concat(
            [
                tf.reshape(
                    model.positional((given[f"level{level}.V"], given[f"level{level}.pos_yxs"])),
                    [rows, -1, given["level1.V"].shape[-1]],
                )
                for level in (1, 2)
            ],
            axis=1,
        )
        logits = model.classifier(model.aggregation(features)[0])
        feature_logits = model.classifier(features)
        location_logits = model.location_module((given["level1.F"], given["level1.V"]))
        cells = top_k_cells(location_logits, 2)
        log_probs = location_log_probs(location_logits, cells, model.log_prob)
        terms, rewards = learning.loss_terms(
            logits, feature_logits, labels, log_probs, [2, 2], model.baseline,
            model.reward_weights, model.rule,
        )  # fmt: skip
        terms["total"] = tf.add_n(list(terms.values()))
    names = [n for n in interop.original_variables(model) if not n.startswith("feature_ext")]
    names += packed["head_names"].tolist()
    variables = {n: v[0] for n, v in interop.original_variables(model).items() if n in names}
    variables = {n: v for n, v in variables.items() if v.trainable}
    gradients = tape.gradient(terms["total"], [v.value for v in variables.values()])
    flat = feature_logits.numpy()
    return {
        "level1.cells": cells.numpy(),
        "logits": logits.numpy(),
        "level1.feature_logits": flat[:, 0],
        "level2.feature_logits": flat[:, 1:].reshape(2 * rows, -1),
        "level1.chosen_logprobs": log_probs.numpy().reshape(-1),
        "seq_logprob": log_probs.numpy().sum(axis=1),
        "reward": rewards["sequence"].numpy(),
        "level2.feature_reward": rewards["feature"].numpy().reshape(-1),
        "baseline_before": model.baseline.numpy(),
        "baseline_after": learning.update_baseline(
            model.baseline, learning.baseline_target(rewards, model.reward_weights, model.rule)
        ).numpy(),
        **{f"loss.{short}": terms[term].numpy() for short, term in TERMS.items() if term in terms},
        **{f"grad/{n}": g.numpy() for n, g in zip(variables, gradients, strict=True)},
    }


@pytest.mark.parametrize("prefix", ["batch/eval.", "batch/train_bninfer."])
def test_what_follows_from_the_recorded_features(packed, batch, prefix):
    inputs = {"level1.V", "level2.V", "level1.F", "level1.pos_yxs", "level2.pos_yxs"}
    compared = set()
    for key, expected in part(packed, prefix).items():
        (kind,) = kinds_of(key)
        if key in inputs or kind == "gradient":
            continue
        compared.add(kind)
        if kind == "integer":
            np.testing.assert_array_equal(batch[key], expected, err_msg=key)
        else:
            assert apart(key, batch[key], expected) <= TOLERANCES[kind], key
    assert {"integer", "activation"} <= compared


def test_gradients_of_the_location_module(packed, batch):
    recorded = part(packed, "batch/train_bninfer.grad/")
    assert len(recorded) == 14 and all(name.startswith("location_pred") for name in recorded)
    for name, expected in recorded.items():
        difference = np.linalg.norm(batch[f"grad/{name}"] - expected)
        assert difference <= 2e-3 * np.linalg.norm(expected), name


def test_gradients_of_positional_encoding_and_classifier(packed, batch):
    names = packed["head_names"].tolist()
    assert len(names) == 4
    for name, norm, total in zip(names, packed["head/grad_l2"], packed["head/grad_sum"],
                                 strict=True):
        gradient = batch[f"grad/{name}"].astype(np.float64)
        assert abs(np.sqrt((gradient**2).sum()) - norm) <= 2e-3 * norm, name
        assert abs(gradient.sum() - total) <= 1e-3 * np.sqrt(gradient.size) * norm, name
