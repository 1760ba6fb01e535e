"""Writes checkpoints of the original's form: object checkpoints keyed by variable names."""

import pathlib

import numpy as np
import tensorflow as tf

_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
# What the original's trainer saves beside the variables of the model.
_TRAINER = {
    f"iter{_VALUE}": np.int64(7),
    f"save_counter{_VALUE}": np.int64(1),
    f"optimizer/beta_1{_VALUE}": np.float32(0.9),
    f"optimizer/beta_2{_VALUE}": np.float32(0.999),
    f"optimizer/decay{_VALUE}": np.float32(0.0),
    "_CHECKPOINTABLE_OBJECT_GRAPH": b"",
}


def write_checkpoint(folder, values, name="ckpt-0"):
    """Writes a checkpoint, with optimiser slots and step counters as the original's have them.

    Args:
        folder: Where to; it gets the file that names the latest checkpoint, too.
        values: dict from the original's variable name to its value.
        name: Name of the checkpoint.

    Returns:
        Prefix of the checkpoint, a path.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = dict(_TRAINER)
    for variable, value in values.items():
        key = variable.replace("/", ".S")
        tensors[key + _VALUE] = value
        if "moving_" not in variable and variable != "baseline_var":
            for slot in "mv":
                tensors[f"{key}/.OPTIMIZER_SLOT/optimizer/{slot}{_VALUE}"] = np.zeros_like(value)
    tf.raw_ops.SaveV2(
        prefix=str(folder / name),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=[tf.constant(value) for value in tensors.values()],
    )
    (folder / "checkpoint").write_text(f'model_checkpoint_path: "{name}"\n', encoding="utf-8")
    return folder / name
