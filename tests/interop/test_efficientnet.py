"""Public EfficientNet checkpoints: the published names and counts, values, errors."""

import numpy as np
import pytest
import tensorflow as tf

from tnet_keras import interop
from tnet_keras.backbones import Backbone

# Entries of the published name maps; two of each are the classifier's, which a backbone has not.
PUBLISHED_ENTRIES = {"b0": 311, "b1": 439, "b2": 439, "b3": 496, "b4": 610}
SMALL = {"width_coefficient": 0.1, "depth_coefficient": 0.7}


def small(statistics_levels=1):
    return Backbone(
        "efficientnet", input_shape=(224, 224, 3), options=SMALL,
        statistics_levels=statistics_levels,
    )  # fmt: skip


def write(path, values):
    tf.raw_ops.SaveV2(
        prefix=str(path), tensor_names=list(values), shape_and_slices=[""] * len(values),
        tensors=[tf.constant(value) for value in values.values()],
    )  # fmt: skip
    return path


def values_for(backbone, prefix="efficientnet-b0"):
    random = np.random.default_rng(0)
    wanted = interop.efficientnet_variables(backbone, prefix)
    values = {
        name: random.normal(size=variables[0].shape).astype(np.float32)
        for name, variables in wanted.items()
    }
    plain = {name.removesuffix("/ExponentialMovingAverage"): -value
             for name, value in values.items()}  # fmt: skip
    average = "ExponentialMovingAverage"
    dense = {f"{prefix}/head/dense/{name}/{average}": np.zeros(3, np.float32)
             for name in ("kernel", "bias")}  # fmt: skip
    return wanted, values, {**values, **plain, **dense, "global_step": np.int64(9)}


@pytest.mark.parametrize("variant", PUBLISHED_ENTRIES)
def test_as_many_names_as_published(variant):
    backbone = Backbone(f"efficientnet_{variant}", input_shape=(224, 224, 3))
    names = interop.efficientnet_variables(backbone, f"efficientnet-{variant}")
    assert len(names) == PUBLISHED_ENTRIES[variant] - 2
    assert all(len(variables) == 1 for variables in names.values())


def test_names_follow_the_published_rules():
    names = set(interop.efficientnet_variables(small(), "efficientnet-b0"))
    average = "ExponentialMovingAverage"
    for name in (
        "stem/conv2d/kernel", "stem/tpu_batch_normalization/moving_variance",
        # The first block has no expansion.
        "blocks_0/depthwise_conv2d/depthwise_kernel", "blocks_0/tpu_batch_normalization/gamma",
        "blocks_0/se/conv2d/bias", "blocks_0/se/conv2d_1/kernel", "blocks_0/conv2d/kernel",
        "blocks_0/tpu_batch_normalization_1/beta",
        "blocks_1/conv2d/kernel", "blocks_1/tpu_batch_normalization/gamma",
        "blocks_1/tpu_batch_normalization_1/moving_mean", "blocks_1/conv2d_1/kernel",
        "blocks_1/tpu_batch_normalization_2/gamma", "head/conv2d/kernel",
        "head/tpu_batch_normalization/beta",
    ):  # fmt: skip
        assert f"efficientnet-b0/{name}/{average}" in names
    assert not any("blocks_0/conv2d_1/" in name for name in names)


def test_averaged_values_arrive_at_every_level(tmp_path):
    backbone = small(statistics_levels=2)
    wanted, values, stored = values_for(backbone)
    report = interop.load_efficientnet_checkpoint(backbone, write(tmp_path / "ckpt", stored))
    assert report.missing == [] and report.unused == []
    assert set(report.matched) == set(values)
    assert any(len(variables) == 2 for variables in wanted.values())
    for name, variables in wanted.items():
        for variable in variables:
            np.testing.assert_array_equal(variable.numpy(), values[name], err_msg=variable.path)


def test_missing_value_is_named_and_nothing_assigned(tmp_path):
    backbone = small()
    wanted, values, stored = values_for(backbone)
    gone = next(name for name in values if "blocks_1/se/conv2d/kernel" in name)
    del stored[gone]
    before = [variable.numpy() for variable in backbone.variables]
    with pytest.raises(ValueError, match="block2a_se_reduce/kernel.*Received: path="):
        interop.load_efficientnet_checkpoint(backbone, write(tmp_path / "ckpt", stored))
    for variable, value in zip(backbone.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_other_backbone_and_other_checkpoint_are_refused(tmp_path):
    path = write(tmp_path / "ckpt", {"weights": np.zeros(3, np.float32)})
    with pytest.raises(ValueError, match="efficientnet-b0/"):
        interop.load_efficientnet_checkpoint(small(), path)
    with pytest.raises(ValueError, match="must be an EfficientNet"):
        interop.efficientnet_variables(Backbone("convnet", (77, 77, 3)), "efficientnet-b0")
    with pytest.raises(ValueError, match="TensorFlow checkpoint"):
        interop.load_efficientnet_checkpoint(small(), tmp_path / "nothing")
