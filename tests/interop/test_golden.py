"""Every number recorded of the original TNet, reproduced from its checkpoints through `interop`.

The tolerances are those stated with the recorded numbers. Where a number was also computed in
float64 by the original's formulas (`ref64/…`), ours is held against both.
"""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.interop.kinds import TOLERANCES, apart, kinds_of

FOLDERS = ("A_imagenet_bagnet77", "B1_fmow_2levels", "B2_fmow_3levels", "C_cub_b0")
# Softmax ignores a common shift: all that this bias gets is the tiny gradient of the L2 term.
SUM_TOLERANCES = {"feat_weighting/output_linear/bias": 1e-2}


class Case:
    """A recorded folder, and the same numbers of ours."""

    def __init__(self, folder, ours):
        self.folder = folder
        self.config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.variables = json.loads((folder / "variables.json").read_text(encoding="utf-8"))
        with np.load(folder / "golden.npz") as stored:
            self.recorded = {key: stored[key] for key in stored.files}
        with np.load(ours) as stored:
            self.ours = {key: stored[key] for key in stored.files}
        self.names = self.recorded["trainable_names"].tolist()
        self.sizes = {v["name"]: int(np.prod(v["shape"])) for v in self.variables["variables"]}

    def pairs(self, kind):
        """Yields `(key, ours, recorded)` for all recorded numbers of a kind."""
        for key in filter(lambda key: kinds_of(key) == [kind], self.recorded):
            ours, recorded = self.ours[key.removeprefix("ref64/")], self.recorded[key]
            assert ours.shape == recorded.shape, key
            yield key, ours, recorded

    def apart(self, kind):
        """How far each number of a kind is from what was recorded."""
        return {key: apart(key, ours, recorded) for key, ours, recorded in self.pairs(kind)}

    def gradient_statistics(self, name):
        """Yields `(key, ours, recorded, noise, nothing, total)` for a statistic per variable.

        `noise` is the relative float32 error of what was recorded; `nothing` marks the variables
        whose gradient is zero in theory (in float64 less than 1e-12 of the whole); `total` is the
        norm of the whole gradient.
        """
        for key, ours, recorded in self.pairs(name):
            plain = key.removeprefix("ref64/")
            norms = self.recorded["ref64/" + re.sub(r"grad_(sum|absmax)", "grad_l2", plain)]
            total = np.sqrt((norms**2).sum())
            nothing = norms < 1e-12 * total
            exact = np.where(nothing, np.inf, self.recorded[f"ref64/{plain}"])
            noise = np.abs(self.recorded[plain] / exact - 1)
            yield key, ours, recorded, noise, nothing, total

    def read(self, checkpoint, suffix=""):
        """Reads the original's variables, or the optimiser's slots of them, by name."""
        reader = tf.train.load_checkpoint(str(self.folder / checkpoint))
        slot = f"/.OPTIMIZER_SLOT/optimizer/{suffix}" if suffix else ""
        keys = {v["name"]: v["checkpoint_key"] for v in self.variables["variables"]}
        found = {n: k.replace("/.ATTR", f"{slot}/.ATTR") for n, k in keys.items()}
        return {n: reader.get_tensor(k) for n, k in found.items() if reader.has_tensor(k)}


@pytest.fixture(scope="session")
def reproduced(golden, repository, tmp_path_factory):
    """Runs a folder through our model, once per session."""
    done = {}

    def reproduce(name):
        if name not in done:
            numbers = tmp_path_factory.mktemp("reproduced") / f"{name}.npz"
            command = [sys.executable, "-m", "tests.interop.reproduce", golden / name, numbers]
            run = subprocess.run(
                command, cwd=repository, capture_output=True, text=True, timeout=900
            )
            assert run.returncode == 0, run.stderr[-3000:]
            done[name] = Case(golden / name, numbers)
        return done[name]

    return reproduce


@pytest.fixture(scope="module", params=FOLDERS)
def case(request, reproduced):
    return reproduced(request.param)


def beyond(distances, tolerance):
    """What is further off than the tolerance, or no number."""
    return {key: value for key, value in distances.items() if not value <= tolerance}


def test_every_recorded_number_has_a_test(case):
    for key in case.recorded:
        kinds = kinds_of(key)
        assert len(kinds) == 1, f"{key}: {kinds}"
        assert kinds == ["given"] or key.removeprefix("ref64/") in case.ours, key


def test_the_variables_are_those_of_the_original(case):
    recorded = case.variables["variables"]
    ours = dict(zip(case.ours["variable_names"].tolist(), case.ours["trainable"], strict=True))
    assert ours == {variable["name"]: variable["trainable"] for variable in recorded}
    assert set(ours) == set(case.recorded["all_variable_names"].tolist())
    assert {n for n, trainable in ours.items() if trainable} == set(case.names)


def test_checkpoints_are_read_to_the_last_bit(case):
    by_name = {variable["name"]: variable for variable in case.variables["variables"]}
    recorded = [by_name[name] for name in case.recorded["all_variable_names"].tolist()]
    for ours, key in (("var_sum", "sum"), ("var_l2", "l2")):
        expected = [variable[key] for variable in recorded]
        np.testing.assert_allclose(case.ours[f"loaded.{ours}"], expected, rtol=1e-12, atol=1e-12)
        if (case.folder / "ckpt_after_step").is_dir():  # the optimiser's slots are in it too
            expected = case.recorded[f"after_step.{ours}"]
            np.testing.assert_allclose(
                case.ours[f"reloaded.{ours}"], expected, rtol=1e-12, atol=1e-12
            )


def test_cells_boxes_positions_and_rewards_are_equal(case):
    for key, ours, recorded in case.pairs("integer"):
        np.testing.assert_array_equal(ours, recorded, err_msg=key)


@pytest.mark.parametrize(
    "kind", ["view", "activation", "probability", "gap", "loss", "baseline"]
)
def test_numbers(case, kind):
    distances = case.apart(kind)
    assert distances
    assert beyond(distances, TOLERANCES[kind]) == {}


def test_moving_averages(case):
    means, variances = case.apart("moving mean"), case.apart("moving variance")
    assert bool(means) == bool(variances) == case.config["derived"]["batch_norm"]
    assert beyond(means, TOLERANCES["moving mean"]) == {}
    # The original averages the unbiased variance; ours, like Keras, the biased one, which the
    # recorded float64 numbers have.
    biased = {key: value for key, value in variances.items() if key.startswith("ref64/")}
    assert beyond(biased, TOLERANCES["moving variance"]) == {}
    assert beyond(variances, 6e-4) == {}


def test_gradient_norms(case):
    for key, ours, recorded, noise, nothing, total in case.gradient_statistics("gradient norm"):
        relative = np.abs(ours - recorded)[~nothing] / recorded[~nothing]
        allowed = np.clip(20 * noise[~nothing], 2e-3, 2e-2)
        assert np.all(relative <= allowed), (key, np.max(relative / allowed))
        assert np.median(relative) <= 1e-3, key
        assert np.all(ours[nothing] <= 1e-5 * total), key
        if key.startswith("ref64/"):  # no way leads from the term to these
            assert np.all(ours[recorded == 0] == 0), key


def test_which_gradients_are_nothing(case):
    for mode in case.config["training_modes"]:
        if not mode.endswith("_capall"):
            recorded = case.recorded[f"train_{mode}.grad_is_zero_in_theory"]
            exact = case.recorded[f"ref64/train_{mode}.grad_l2"]
            np.testing.assert_array_equal(exact < 1e-12 * np.sqrt((exact**2).sum()), recorded)


def test_gradient_sums(case):
    for key, ours, recorded, _, nothing, total in case.gradient_statistics("gradient sum"):
        norms = case.recorded[key.replace("grad_sum", "grad_l2")]
        roots = np.sqrt([case.sizes[name] for name in case.names])
        shares = np.abs(ours - recorded) / roots / np.where(nothing, 1e-2 * total, norms)
        allowed = np.array([SUM_TOLERANCES.get(name, 1e-3) for name in case.names])
        assert np.all(shares <= allowed), (key, np.max(shares / allowed))


def relative_norm(ours, recorded):
    return np.linalg.norm(ours - recorded) / np.linalg.norm(recorded)


def test_full_gradients(case):
    relative = {key: relative_norm(a, b) for key, a, b in case.pairs("gradient")}
    assert beyond(relative, 2e-2) == {}
    assert np.median(list(relative.values())) <= 2e-3


def test_gradients_in_the_slots_of_adam(case):
    if not (case.folder / "ckpt_after_step").is_dir():
        assert not any(key.startswith("gradient/") for key in case.ours)
        return
    nothing = case.recorded[f"train_{case.config['primary_training_mode']}.grad_is_zero_in_theory"]
    nothing = dict(zip(case.names, nothing, strict=True))
    slots = {slot: case.read("ckpt_after_step", slot) for slot in "mv"}
    group = case.config["original_flags"].get("vars_to_update", [""])
    expected = {name for name in case.names if any(part in name for part in group)}
    assert set(slots["m"]) == set(slots["v"]) == expected
    total = np.sqrt(sum((slot.astype(np.float64) ** 2).sum() for slot in slots["m"].values())) / 0.1
    relative = {}
    for name in expected:
        gradient = case.ours[f"gradient/{name}"]
        if nothing[name]:
            assert np.linalg.norm(gradient) <= 1e-5 * total, name
            assert np.linalg.norm(slots["m"][name] / 0.1) <= 1e-5 * total, name
        else:
            relative[f"m {name}"] = relative_norm(0.1 * gradient, slots["m"][name])
            root = np.sqrt(slots["v"][name] / 0.001)
            relative[f"v {name}"] = relative_norm(np.abs(gradient), root)
    assert beyond(relative, 2e-2) == {}
    assert np.median(list(relative.values())) <= 2e-3


def learning_rates(case):
    """Learning rate of each trainable variable, by name."""
    settings = case.config["optimiser"]
    group = case.config["original_flags"].get("vars_to_update", [""])
    return {
        name: settings["learning_rate_step0"]
        if any(part in name for part in group)
        else settings["learning_rate2_step0"]
        for name in case.names
    }


def test_one_step_of_adam_moves_every_element_as_far(case):
    if not (case.folder / "ckpt_after_step").is_dir():
        assert not any("value/" in key for key in case.ours)
        return
    after = case.read("ckpt_after_step")
    far = count = 0
    for name, rate in learning_rates(case).items():
        steps = np.abs(case.ours[f"after_step.value/{name}"] - after[name]) / rate
        # Elements without a gradient worth the name may go either way.
        assert np.max(steps) <= 2.01, name
        far, count = far + np.sum(steps > 0.05), count + steps.size
    assert far <= 0.01 * count  # all of them, had nothing moved


def test_variables_after_one_step_of_adam(case):
    order = {n: i for i, n in enumerate(case.recorded["all_variable_names"].tolist())}
    rates, sizes = learning_rates(case), case.sizes
    norms = case.recorded["after_step.var_l2"]
    for key, ours, recorded in case.pairs("variable"):
        difference = np.abs(ours - recorded)
        shares = []
        for name, index in order.items():
            if name in rates:
                step = rates[name] * np.sqrt(sizes[name])
                shares.append(difference[index] / step)
                assert difference[index] <= 2 * step, (key, name)
            elif "moving_variance" in name:  # biased, see above
                assert difference[index] <= 6e-4 * abs(recorded[index]), (key, name)
            elif name != "baseline_var":
                assert difference[index] <= 5e-6 * np.sqrt(sizes[name]) * norms[index], (key, name)
        assert np.median(shares) <= 0.05, key  # not moving at all would be 0.7
