"""Packs what was recorded of the original's two-level fMoW model into the test suite's one file.

`python -m tests.interop.pack_case <recorded folder> tests/interop/data/fmow_2levels.npz.xz`;
data/README.md says what is in it.
"""

import argparse
import io
import json
import lzma
import pathlib
import re

import numpy as np
import tensorflow as tf

IMAGE = 1  # the one of the batch that packs best
# The mantissas are noise: no byte tells anything about the next.
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 0, "pb": 0}]
# For the whole batch: what the modules behind the backbone take in and give out.
BATCH = re.compile(
    r"eval\.(logits|level\d\.(V|pos_yxs|feature_logits)|level1\.(F|cells))"
    r"|train_bninfer\.(logits|level\d\.feature_logits|loss\.\w+|reward|level2\.feature_reward"
    r"|baseline_\w+|level1\.chosen_logprobs|seq_logprob|grad/location_prediction/.*)"
)
# For the one image: everything of the evaluation.
ONE = re.compile(r"eval\..*")
SHARED_HEAD = re.compile(r"feature_posBurn/.*|feature_extraction/logits_layer/.*")


def to_planes(weights):
    """float32 `[N]` to uint8 `[4, N]`: exponent, then three planes of mantissa and sign."""
    bits = weights.astype("<f4").view("<u4")
    return np.ascontiguousarray(((bits << 1) | (bits >> 31)).view("u1").reshape(-1, 4).T[::-1])


def pack(folder):
    """What goes into the file.

    Args:
        folder: Path of the recorded folder.

    Returns:
        dict from name to NumPy array.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    variables = json.loads((folder / "variables.json").read_text(encoding="utf-8"))["variables"]
    reader = tf.train.load_checkpoint(str(folder / "ckpt" / "ckpt-0"))
    weights = [reader.get_tensor(variable["checkpoint_key"]) for variable in variables]
    with np.load(folder / "golden.npz") as stored:
        recorded = {key: stored[key] for key in stored.files}
    batch = len(recorded["images"])
    found = {
        "variables": np.array(json.dumps([[v["name"], v["shape"]] for v in variables])),
        "flags": np.array(json.dumps(config["original_flags"])),
        "weights": to_planes(np.concatenate([w.reshape(-1) for w in weights])),
        "image": recorded["images"][IMAGE],
        "image_index": np.array(IMAGE),
        "labels": recorded["labels"],
    }
    for key, value in recorded.items():
        if BATCH.fullmatch(key):
            found[f"batch/{key}"] = value
        if ONE.fullmatch(key):
            rows = len(value) // batch
            found[f"image/{key}"] = value[IMAGE * rows : (IMAGE + 1) * rows]
    names = recorded["trainable_names"].tolist()
    kept = [i for i, name in enumerate(names) if SHARED_HEAD.fullmatch(name)]
    found["head_names"] = np.array([names[i] for i in kept])
    for statistic in ("grad_l2", "grad_sum"):
        found[f"head/{statistic}"] = recorded[f"train_bninfer.{statistic}"][kept]
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("packed", type=pathlib.Path)
    arguments = parser.parse_args()
    unpacked = io.BytesIO()
    np.savez(unpacked, **pack(arguments.folder))
    arguments.packed.write_bytes(lzma.compress(unpacked.getvalue(), filters=FILTERS))
