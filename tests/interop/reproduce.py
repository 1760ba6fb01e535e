"""Runs our TNet on what was recorded of the original and names every number as it was named there.

`python -m tests.interop.reproduce <recorded folder> <numbers.npz>` writes all numbers of a folder.
The tests run it as a process of its own because it needs other threads than they do: with one
thread oneDNN adds up batch-norm statistics in one long float32 sum, which by itself moves gradients
by more than they are allowed to differ. With two, as in the recording, they agree to the last bits.
"""

import argparse
import contextlib
import functools
import json
import pathlib
import tarfile
import tempfile
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from tnet_keras import interop
from tnet_keras.backbones import Backbone
from tnet_keras.layers import PositionalEncoding, sinusoidal_code
from tnet_keras.models import tnet

TERMS = {
    "L1": "sequence_cross_entropy",
    "L2": "sequence_policy",
    "L3": "feature_cross_entropy",
    "L4": "feature_policy",
    "L5": "l2",
    "L6": "contrastive",
    "total": "total",
}


class Calls:
    """What went into and came out of the parts of a TNet, in the order of the levels."""

    def __init__(self):
        self.views, self.scored, self.encoded, self.aggregated, self.path = [], [], [], [], None


@contextlib.contextmanager
def listening(model):
    """Listens at the parts of a TNet while it runs eagerly.

    Args:
        model: The `TNet`.

    Yields:
        `Calls`, filled as the model runs.
    """
    calls = Calls()

    def listen(owner, name, keep):
        original = getattr(owner, name)

        @functools.wraps(original)
        def listened(*args, **kwargs):
            outputs = original(*args, **kwargs)
            keep(args, outputs)
            return outputs

        return mock.patch.object(owner, name, listened)

    module, aggregation = type(model.location_module), type(model.aggregation)
    with (
        listen(Backbone, "call", lambda args, _: calls.views.append(args[1])),
        listen(module, "raw_logits", lambda args, raw: calls.scored.append((*args[1], raw))),
        listen(PositionalEncoding, "call", lambda args, out: calls.encoded.append((*args[1], out))),
        listen(aggregation, "call", lambda _, both: calls.aggregated.append(both)),
        listen(tnet, "traverse", lambda _, path: setattr(calls, "path", path)),
    ):
        yield calls


def numbers(model, calls, images):
    """The numbers of a forward pass, under the recorded names without their prefix.

    Args:
        model: The `TNet`.
        calls: `Calls` of the pass.
        images: `[B, H, W, 3]`, what the model was given.

    Returns:
        dict from name to NumPy array.
    """
    path = calls.path
    features = path["features"]
    level_of = np.array([1, *path["levels"]])
    feature_logits = model.classifier(features, training=False).numpy()
    log_probs, boxes = path["log_probs"].numpy(), path["boxes"].numpy()
    found = {
        "aggregated": calls.aggregated[0][0],
        "agg_weights": calls.aggregated[0][1],
        "logits": model.classifier(calls.aggregated[0][0], training=False),
        "seq_logprob": log_probs.sum(axis=1),
    }
    code_dim = model.positional.dense.kernel.shape[0]
    if model.positional.form == "concat":
        code_dim -= features.shape[-1]
    for level, views in enumerate(calls.views, start=1):
        inputs = model.backbone.scale_images(views).numpy()
        stride = {77: 7, 224: 16}[inputs.shape[1]]
        vector, positions, encoded = calls.encoded[level - 1]
        at = {
            "V": vector,
            "fprime": encoded,
            "pos_yxs": positions,
            "pos_code": sinusoidal_code(positions, code_dim),
            "input_sample": inputs[:, ::stride, ::stride],
            "input_mean_std": np.concatenate(
                [inputs.mean((1, 2), np.float64), inputs.std((1, 2), np.float64)], axis=-1
            ),
            "feature_logits": _rows(feature_logits[:, level_of == level]),
            "boxes": (
                _rows(boxes[:, level_of[1:] == level])
                if level > 1
                else np.tile([0, 0, *images.shape[1:3]], (len(images), 1))
            ),
        }
        if level <= len(calls.scored):
            features_map, _, raw = calls.scored[level - 1]
            cells = _rows(path["cells"][level - 1].numpy())
            probabilities = _rows(tf.nn.softmax(path["location_logits"][level - 1]).numpy())
            k, ranked = cells.shape[-1], np.sort(probabilities)[:, ::-1]
            at |= {
                "F": features_map,
                "loc_raw": raw,
                "loc_probs": probabilities,
                "cells": cells,
                "topk_gap": ranked[:, k - 1] / ranked[:, k] - 1.0,
                "chosen_logprobs": log_probs[:, level_of[1:] == level + 1].reshape(-1),
            }
        found |= {f"level{level}.{name}": value for name, value in at.items()}
    return {name: np.asarray(value) for name, value in found.items()}


def _rows(array):
    return array.reshape(-1, array.shape[-1])


def evaluation(model, images):
    """The numbers of an evaluation, among them what the original's own evaluation gives out.

    Args:
        model: The `TNet`.
        images: uint8 `[B, H, W, 3]`.

    Returns:
        dict from name to NumPy array.
    """
    with listening(model) as calls:
        outputs = model.attend(images)
    found = numbers(model, calls, images)
    np.testing.assert_array_equal(found["logits"], outputs["logits"])
    attended, probabilities = [], outputs["location_probabilities"][-1].numpy()
    for level, k in enumerate(model.locations, start=1):
        one_hot = tf.one_hot(found[f"level{level}.cells"], model.grid.num_cells).numpy()
        attended.append(one_hot.sum(axis=1).reshape(len(images), -1))
        assert one_hot.shape[1] == k
    attended = np.concatenate(attended, axis=1)
    found["locations_per_image"] = attended.sum(axis=1)
    found["adv_attended_locations"] = attended
    # With three levels the original gives out the mask instead of level 1's probabilities.
    last = probabilities.reshape(len(images), -1)
    found["adv_location_probs"] = (
        last if len(model.locations) == 1 else np.concatenate([attended, last], axis=1)
    )
    return found


def training(model, images, labels, frozen, trainable_names):
    """The numbers of a training step, all but the optimiser's.

    Args:
        model: The `TNet`, with the recorded weights.
        images: uint8 `[B, H, W, 3]`.
        labels: int `[B]`.
        frozen: Whether batch norm uses its moving statistics.
        trainable_names: The original's names of the variables, in the order wanted.

    Returns:
        `(found, gradients)`: dict from name to NumPy array, and the gradients of the total loss by
        the original's names.
    """
    variables = {n: v[0] for n, v in interop.original_variables(model).items()}
    found = {"baseline_before": model.baseline.numpy()}
    with tf.GradientTape(persistent=True) as tape, listening(model) as calls:
        terms, outputs = model.training_terms(
            images, labels, None, training=not frozen, selection=model.selection
        )
    model.after_step(outputs)
    found |= numbers(model, calls, images)
    np.testing.assert_array_equal(found["logits"], outputs["logits"])
    rewards = outputs["rewards"]["feature"].numpy()
    found |= {
        "reward": outputs["rewards"]["sequence"].numpy(),
        "T_counted": np.array(rewards.shape[1]),
        "baseline_after": model.baseline.numpy(),
    }
    counted = np.array(calls.path["levels"])[: rewards.shape[1]]
    for level in np.unique(counted).tolist():
        found[f"level{level}.feature_reward"] = rewards[:, counted == level].reshape(-1)
    for name, variable in variables.items():
        if "/moving_" in name:
            found[f"bn_after/{name}"] = variable.numpy()
    if model.l2_scope == "new_modules":
        with mock.patch.object(model, "l2_scope", "all"):
            regularizers = {}
            model.add_regularizers(regularizers, calls.aggregated[0][0], labels)
        found["loss.L5_if_one_optimiser"] = regularizers["l2"].numpy()
    for short, term in TERMS.items():
        if term not in terms:
            continue
        gradients = tape.gradient(
            terms[term],
            [variables[name].value for name in trainable_names],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        gradients = {
            name: gradient.numpy()
            for name, gradient in zip(trainable_names, gradients, strict=True)
        }
        suffix = "" if short == "total" else f".{short}"
        wide = [gradient.astype(np.float64) for gradient in gradients.values()]
        found[f"loss.{short}"] = terms[term].numpy()
        found[f"grad_l2{suffix}"] = np.array([np.sqrt((g**2).sum()) for g in wide])
        found[f"grad_sum{suffix}"] = np.array([g.sum() for g in wide])
    found["grad_absmax"] = np.array([np.abs(g).max() for g in wide])
    found |= {f"grad/{name}": g for name, g in gradients.items() if not _is_feature(name)}
    return {name: np.asarray(value) for name, value in found.items()}, gradients


def _is_feature(name):
    return name.startswith("feature_extraction/") and "logits_layer" not in name


def optimiser_step(model, images, labels, config, compiled):
    """One step of `fit` with Adam.

    Args:
        model: The `TNet`, with the recorded weights.
        images: uint8 `[B, H, W, 3]`.
        labels: int `[B]`.
        config: What was recorded of the run's configuration.
        compiled: Whether the step runs as a graph (30 s of tracing for an EfficientNet).

    Returns:
        dict from name to NumPy array: `train_loss`, `baseline`, and every variable as
        `value/<name>`.
    """
    variables = {n: v[0] for n, v in interop.original_variables(model).items()}
    before = {name: variable.numpy() for name, variable in variables.items()}
    settings = config["optimiser"]
    rate, second_rate = settings["learning_rate_step0"], settings["learning_rate2_step0"]
    optimizer = keras.optimizers.Adam(
        rate, settings["beta_1"], settings["beta_2"], settings["epsilon"]
    )
    model.compile(optimizer, run_eagerly=not compiled, jit_compile=False)
    logs = model.train_on_batch(images, labels, return_dict=True)
    found = {"train_loss": np.array(logs["loss"]), "baseline": model.baseline.numpy()}
    first = config["original_flags"].get("vars_to_update", [""])
    for name, variable in variables.items():
        after = variable.numpy()
        if variable.trainable and not any(part in name for part in first):
            # The original has a second Adam here. A step is proportional to its learning rate.
            after = before[name] + (after - before[name]) * np.float32(second_rate / rate)
        found[f"value/{name}"] = after
    return found


def sums(values):
    """Sum and Euclidean norm of each array, in float64.

    Args:
        values: Iterable of arrays.

    Returns:
        `(sums, norms)`, float64 arrays.
    """
    wide = [np.asarray(value, np.float64) for value in values]
    return np.array([v.sum() for v in wide]), np.array([np.sqrt((v**2).sum()) for v in wide])


def reproduce(folder):
    """All numbers of a recorded folder.

    Args:
        folder: Path of the folder.

    Returns:
        dict from recorded name to NumPy array; further `loaded.*` of the checkpoint, and where one
        was recorded after the step, `reloaded.*` of it, `after_step.value/<name>` of every variable
        and `gradient/<name>` in the primary training mode.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    with np.load(folder / "golden.npz") as stored:
        images, labels = stored["images"], stored["labels"]
        names, trainable = stored["all_variable_names"], stored["trainable_names"]
    after_step = folder / "ckpt_after_step"
    model = interop.original_model(config)
    variables = {n: v[0] for n, v in interop.original_variables(model).items()}
    found = {
        "variable_names": np.array(list(variables)),
        "trainable": np.array([variable.trainable for variable in variables.values()]),
    }
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = folder / "ckpt"
        if not checkpoint.is_dir():
            with tarfile.open(folder / "ckpt.tar.xz") as packed:
                packed.extractall(scratch, filter="data")
            checkpoint = pathlib.Path(scratch) / "ckpt"

        def load(model, checkpoint):
            report = interop.load_original_checkpoint(model, checkpoint)
            assert len(report.matched) == len(names) and not report.missing + report.unused
            return sums(variables[name].numpy() for name in names)

        found["loaded.var_sum"], found["loaded.var_l2"] = load(model, checkpoint)
        found |= {f"eval.{k}": v for k, v in evaluation(model, images).items()}
        for mode in config["training_modes"]:
            player = model
            if mode.endswith("_capall"):
                flags = {**config["original_flags"], "perFReg_cap": -1}
                player = interop.original_model(flags)
            load(player, checkpoint)
            part, gradients = training(player, images, labels, "bninfer" in mode, trainable)
            found |= {f"train_{mode}.{k}": v for k, v in part.items()}
            if after_step.is_dir() and mode == config["primary_training_mode"]:
                found |= {f"gradient/{name}": g for name, g in gradients.items()}
        load(model, checkpoint)
        compiled = not config["derived"]["batch_norm"]  # tracing BagNet is quick
        step = optimiser_step(model, images, labels, config, compiled)
        found["after_step.var_sum"], found["after_step.var_l2"] = sums(
            step[f"value/{name}"] for name in names
        )
        if not after_step.is_dir():
            step = {name: value for name, value in step.items() if "value/" not in name}
        found |= {f"after_step.{k}": v for k, v in step.items()}
        if after_step.is_dir():
            found["reloaded.var_sum"], found["reloaded.var_l2"] = load(model, after_step)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("numbers", type=pathlib.Path)
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(2)
    np.savez(arguments.numbers, **reproduce(arguments.folder))
