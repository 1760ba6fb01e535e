"""Reading checkpoints of the original: names, errors and reports, without recorded numbers."""

import re

import numpy as np
import pytest

from tests.interop.checkpoints import write_checkpoint
from tnet_keras import RegionGrid, TNet, from_preset, interop
from tnet_keras.backbones import Backbone, LevelBatchNormalization

FLAGS = {
    "batch_norm": True,
    "num_classes": 3,
    "num_res_levels": 2,
    "loc_per_grid": [2.0],
    "base_res_y": 224,
    "base_res_x": 224,
    "img_size_y": 448,
    "img_size_x": 448,
    "descr_tag": "EfficientNet_lg3x3",
    "width_coefficient": 0.1,
    "depth_coefficient": 0.7,
    "pos_dim_divisor": 4,
    "batch_size": 64,
}
KERNEL = "feature_posBurn/linear/kernel"
BIAS = "location_prediction/output_linear/bias"


@pytest.fixture(scope="module")
def model():
    return interop.original_model(FLAGS)


@pytest.fixture
def values(model):
    """A value for every variable of the original, by its name."""
    generator = np.random.default_rng(3)
    return {
        name: generator.normal(size=variables[0].shape).astype(np.float32)
        for name, variables in interop.original_variables(model).items()
    }


def current(model):
    return {n: v[0].numpy().copy() for n, v in interop.original_variables(model).items()}


def one_line(error):
    """The message of an error, which has to be a single line."""
    message = str(error.value)
    assert "\n" not in message
    return message


def assert_same(model, values):
    for name, value in current(model).items():
        np.testing.assert_array_equal(value, values[name], err_msg=name)


@pytest.mark.parametrize("path", ["ckpt-0", "ckpt-0.index", "."])
def test_everything_is_read_by_name(model, values, tmp_path, path):
    write_checkpoint(tmp_path, values)
    report = interop.load_original_checkpoint(model, tmp_path / path)
    assert_same(model, values)
    assert set(report.matched) == set(values) and report.missing == report.unused == []
    own = {variable.path for variable in model.weights}
    assert set(report.matched.values()) <= own


def test_a_folder_means_its_latest_checkpoint(model, values, tmp_path):
    write_checkpoint(tmp_path, {name: value + 1 for name, value in values.items()}, "ckpt-10")
    write_checkpoint(tmp_path, values, "ckpt-20")
    interop.load_original_checkpoint(model, tmp_path)
    assert_same(model, values)


def test_every_variable_of_the_model_has_a_name(model):
    named = {id(v) for vs in interop.original_variables(model).values() for v in vs}
    assert {id(variable) for variable in model.weights} == named
    assert len(model.variables) > len(model.weights), "no dropout with a seed to leave out"


def test_bagnet_with_dropout_has_names_too():
    flags = {
        "descr_tag": "BagNet_77_TNet", "num_classes": 3, "num_res_levels": 2, "ls_dim": 32,
        "multi_factor": 1, "num_do_layers": 1, "keep_prob": 0.5, "base_res_y": 77,
        "base_res_x": 77, "num_patches_y": 5, "num_patches_x": 5, "overlap": 0.34375,
    }  # fmt: skip
    model = interop.original_model(flags)
    names = interop.original_variables(model)
    assert {id(v) for v in model.weights} == {id(v) for vs in names.values() for v in vs}
    assert all(name.rpartition("/")[2] in ("kernel", "bias", "baseline_var") for name in names)


def test_missing_variable(model, values, tmp_path):
    before = current(model)
    del values[KERNEL]
    path = write_checkpoint(tmp_path, values)
    with pytest.raises(ValueError, match="must fit the model: 1 variables without") as error:
        interop.load_original_checkpoint(model, path)
    message = one_line(error)
    assert KERNEL in message and "positional_encoding/dense/kernel" in message
    assert message.endswith(f"Received: path={path}")
    assert_same(model, before)


def test_unused_variable(model, values, tmp_path):
    before = current(model)
    values["feature_extraction/part9_block1/expand/conv2d/kernel"] = np.ones(3, np.float32)
    path = write_checkpoint(tmp_path, values)
    with pytest.raises(ValueError, match="0 variables without a value, 1 values without") as error:
        interop.load_original_checkpoint(model, path)
    assert "feature_extraction/part9_block1/expand/conv2d/kernel" in one_line(error)
    assert_same(model, before)


def test_other_shape(model, values, tmp_path):
    before = current(model)
    shape = values[KERNEL].shape
    values[KERNEL] = np.zeros((5, 7), np.float32)
    with pytest.raises(ValueError, match="1 variables without a value") as error:
        interop.load_original_checkpoint(model, write_checkpoint(tmp_path, values))
    message = one_line(error)
    assert f"{KERNEL} {list(shape)} (found [5, 7])" in message
    assert_same(model, before)


def test_a_kernel_of_as_many_elements_is_still_another_shape(model, values, tmp_path):
    values[KERNEL] = values[KERNEL].T
    assert values[KERNEL].shape[0] != values[KERNEL].shape[1]
    with pytest.raises(ValueError, match="found"):
        interop.load_original_checkpoint(model, write_checkpoint(tmp_path, values))


def test_without_strict_the_rest_is_read_and_reported(model, values, tmp_path):
    before = current(model)
    del values[BIAS]
    values[KERNEL] = np.zeros((5, 7), np.float32)
    values["feat_weighting/output_linear/bias"] = np.zeros(1, np.float32)
    path = write_checkpoint(tmp_path, values)
    report = interop.load_original_checkpoint(model, path, strict=False)
    assert len(report.missing) == 2
    assert sorted(BIAS in line for line in report.missing) == [False, True]
    assert sorted(KERNEL in line for line in report.missing) == [False, True]
    assert report.unused == ["feat_weighting/output_linear/bias", KERNEL]
    assert set(report.matched) == set(before) - {BIAS, KERNEL}
    assert_same(model, {**values, BIAS: before[BIAS], KERNEL: before[KERNEL]})


def test_statistics_of_every_level_start_from_the_one_set(values, tmp_path):
    backbone = Backbone(
        "efficientnet",
        input_shape=(224, 224, 3),
        statistics_levels=2,
        options={"width_coefficient": 0.1, "depth_coefficient": 0.7},
    )
    model = TNet(
        backbone, 3, RegionGrid(3, 3, 0.5), (448, 448), location_module="squeeze_excite",
        positional="add", position_dim=backbone.feature_dim // 4, map_indices=(2, 6, 10),
    )  # fmt: skip
    interop.load_original_checkpoint(model, write_checkpoint(tmp_path, values))
    layers = [v for v in model._flatten_layers() if isinstance(v, LevelBatchNormalization)]
    assert layers
    for layer in layers:
        for first, second in (layer.moving_means, layer.moving_variances):
            np.testing.assert_array_equal(first, second)
    assert_same(model, values)


@pytest.mark.parametrize("name", ["nowhere", "empty", "text", "ckpt-0.data-00000-of-00001"])
def test_no_checkpoint(model, values, tmp_path, name):
    write_checkpoint(tmp_path, values)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("not a checkpoint", encoding="utf-8")
    with pytest.raises(ValueError, match="`path` must lead to a TensorFlow checkpoint") as error:
        interop.load_original_checkpoint(model, tmp_path / name)
    assert one_line(error).endswith(f"Received: path={tmp_path / name}")


@pytest.mark.parametrize("keep", [None, 5000])
def test_broken_checkpoint(model, values, tmp_path, keep):
    before = current(model)
    path = write_checkpoint(tmp_path, values)
    data = tmp_path / "ckpt-0.data-00000-of-00001"
    content = data.read_bytes()
    data.unlink()
    if keep:
        data.write_bytes(content[:keep])
    with pytest.raises(ValueError, match="`path` must lead to a whole checkpoint") as error:
        interop.load_original_checkpoint(model, path)
    assert f"Received: path={path}" in one_line(error)
    assert_same(model, before)


def without(name):
    return {flag: value for flag, value in FLAGS.items() if flag != name}


@pytest.mark.parametrize(
    "flags, message",
    [
        (without("num_classes"), "must hold the original's flag 'num_classes'"),
        (without("descr_tag"), "must hold the original's flag 'descr_tag'"),
        (FLAGS | {"overlapp": 0.3, "width": 1}, "Received: overlapp, width"),
        (FLAGS | {"descr_tag": "ResNet50"}, "Received: descr_tag='ResNet50'"),
        (without("batch_norm"), "`config` must have `batch_norm` on"),
        (FLAGS | {"loc_per_grid": [10.0]}, "`locations` must lie in 0..K with K=9"),
        (FLAGS | {"img_size_y": 1}, "image is smaller than the grid allows"),
        (FLAGS | {"perFReg_cap": 0}, "`level_cap` must be None or at least 1"),
    ],
)
def test_flags_that_describe_no_tnet(flags, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        interop.original_model(flags)
    one_line(error)


def test_flags_may_be_nested_as_they_were_recorded(model):
    nested = interop.original_model({"name": "a run", "original_flags": FLAGS})
    assert nested.count_params() == model.count_params()


def test_flags_become_arguments():
    flags = FLAGS | {
        "descr_tag": "EfficientNetB3", "num_patches_y": 5, "num_patches_x": 5, "overlap": 0.35,
        "loc_per_grid": [5.0], "feat_weighting": True, "two_oprimizers": True, "l2_reg": 1e-4,
        "contrastive_loss": True, "l_contrastive": 50.0, "contrastive_margin": 0.3,
        "reinfornce_reg_w": 0.2, "perFReg_ce_weight": 0.6, "perFReg_reinf_weight": 0.7,
        "perFReg_cap": 2, "num_samples": 3, "dropout_rate": 0.75, "block_drop_rate": 0.5,
        "pos_dim_divisor": 2,
    }  # fmt: skip
    model = interop.original_model(flags)
    weights = model.reward_weights
    assert (weights.lambda_f, weights.lambda_c, weights.lambda_r) == (0.2, 0.6, 0.7)
    assert (weights.level_cap, model.num_samples, model.locations) == (2, 3, (5,))
    assert (model.l2, model.l2_scope) == (1e-4, "new_modules")
    assert (model.contrastive_weight, model.contrastive_margin) == (50.0, 0.3)
    assert (model.selection, model.rule, model.log_prob) == ("top_k", "original", "independent")
    assert model.unit_norm and model.aggregation_form == "weighted"
    assert model.grid == RegionGrid(5, 5, 0.35) and model.image_size == (448, 448)
    assert model.classifier.dropout == 0.75
    assert model.position_dim == model.backbone.feature_dim // 2
    # The maps of B1 to B7 are taken earlier, from 28 rows and columns.
    assert model.backbone.map_shape[:2] == (28, 28)
    assert model.map_indices == (5, 9, 13, 17, 21)


def test_switches_that_are_off_leave_their_terms_out(model):
    assert (model.l2, model.contrastive_weight, model.reward_weights.level_cap) == (0, 0, None)
    other = interop.original_model(FLAGS | {"l_contrastive": 50.0, "perFReg_cap": -1})
    assert other.contrastive_weight == 0 and other.reward_weights.level_cap is None
    assert other.aggregation_form == "mean" and other.l2_scope == "all"


PUBLISHED = {
    "tnet_bagnet77_imagenet": {
        "descr_tag": "BagNet_77_TNet", "num_classes": 1000, "num_res_levels": 2,
        "loc_per_grid": [3.0], "overlap": 0.34375, "num_patches_y": 5, "num_patches_x": 5,
        "base_res_y": 77, "base_res_x": 77, "keep_prob": 0.5, "num_do_layers": 1,
        "reinfornce_reg_w": 0.1, "perFReg_ce_weight": 0.3, "perFReg_reinf_weight": 0.3,
    },
    "tnet_efficientnet_b0_cub": {
        "descr_tag": "EfficientNetB0_origWD", "batch_norm": True, "num_classes": 200,
        "num_res_levels": 2, "loc_per_grid": [5.0], "overlap": 0.35, "num_patches_y": 5,
        "num_patches_x": 5, "base_res_y": 224, "base_res_x": 224, "img_size_y": 448,
        "img_size_x": 448, "feat_weighting": True, "two_oprimizers": True, "l2_reg": 1e-4,
        "contrastive_loss": True, "l_contrastive": 100.0, "contrastive_margin": 0.4,
        "reinfornce_reg_w": 0.1, "perFReg_ce_weight": 0.3, "perFReg_reinf_weight": 0.3,
        "dropout_rate": 0.75, "block_drop_rate": 0.5, "pos_dim_divisor": 4,
    },
}  # fmt: skip


@pytest.mark.parametrize(
    "preset, parameters",
    [("tnet_bagnet77_imagenet", 21_859_950), ("tnet_efficientnet_b0_cub", 5_558_451)],
)
def test_published_flags_are_the_preset(preset, parameters):
    ours, theirs = from_preset(preset), interop.original_model(PUBLISHED[preset])
    assert ours.count_params() == theirs.count_params() == parameters
    shapes = [
        {name: tuple(variables[0].shape) for name, variables in names.items()}
        for names in map(interop.original_variables, (ours, theirs))
    ]
    assert shapes[0] == shapes[1]
    # Left out: names, defaults that were resolved, and the margin of a loss that is off.
    skipped = {"backbone", "name", "position_dim"}
    skipped |= set() if ours.contrastive_weight else {"contrastive_margin"}
    configs = [
        {key: value for key, value in model.get_config().items() if key not in skipped}
        for model in (ours, theirs)
    ]
    assert configs[0] == configs[1]
