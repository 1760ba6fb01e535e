"""Starting from saved weights: from our own, from public checkpoints, with parts left out."""

import keras
import numpy as np
import pytest

from tests.interop.checkpoints import write_checkpoint
from tests.interop.test_efficientnet import small, values_for, write
from tnet_keras import RegionGrid, TNet, from_preset, interop
from tnet_keras.backbones import Backbone


def tiny(locations=(2,), num_classes=3, seed=0, statistics_levels=1):
    backbone = Backbone(
        "convnet", input_shape=(16, 16, 3), statistics_levels=statistics_levels,
        options={"filters": (4, 6), "strides": (2, 2)},
    )  # fmt: skip
    return TNet(
        backbone, num_classes, RegionGrid(3, 3, 0.5), (64, 64), locations=locations, seed=seed
    )


def by_path(model):
    return {
        variable.path.removeprefix(f"{model.name}/"): variable.numpy()
        for variable in model.variables
        if not variable.path.endswith("seed_generator_state")
    }


@pytest.fixture
def saved(tmp_path):
    model = tiny()
    model.baseline.assign(0.8)
    random = np.random.default_rng(1)
    for variable in model.variables:
        if "moving_" in variable.path:
            variable.assign(random.uniform(1, 2, variable.shape))
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    model.save(tmp_path / "run" / "checkpoints" / "best.keras")
    return model, tmp_path / "run"


def test_second_stage_takes_everything_of_the_first(saved):
    source, run = saved
    model = tiny(locations=(2, 1), seed=5)
    report = interop.warm_start(model, run)
    assert report.missing == [] and report.unused == []
    values = by_path(source)
    for path, value in by_path(model).items():
        np.testing.assert_array_equal(value, values[path], err_msg=path)
    assert float(model.baseline.numpy()) == np.float32(0.8)


@pytest.mark.parametrize("kind", ["patch selection", "TNet"])
def test_sigma_starts_anew(kind, tmp_path):
    def build():
        if kind == "TNet":
            options = {"sigma": 0.05, "decay_steps": 10}
            model = from_preset(
                "tnet_needle_digits", selector="perturbed", selector_options=options
            )
            return model, next(v for v in model.variables if v.path.endswith("/step"))
        small = {"image_size": (96, 96), "view_size": (48, 48), "decay_steps": 10}
        model = from_preset("topk_billiards_small", selection=small)
        return model, model.selection.step

    source, step = build()
    step.assign(10.0)
    source.save(tmp_path / "model.keras")
    model, step = build()
    assert interop.warm_start(model, tmp_path / "model.keras").missing == []
    assert float(step.numpy()) == 0.0
    np.testing.assert_array_equal(model.classifier.dense.kernel, source.classifier.dense.kernel)


def test_statistics_of_new_levels_start_from_the_deepest_known(saved):
    source, run = saved
    model = tiny(locations=(2, 1), statistics_levels=3)
    assert interop.warm_start(model, run / "checkpoints" / "best.keras").missing == []
    values = by_path(source)
    for path, value in by_path(model).items():
        if path.endswith("_level3"):
            np.testing.assert_array_equal(value, values[path.removesuffix("_level3")])


def test_other_number_of_classes_leaves_the_classifier(saved):
    _, run = saved
    model = tiny(num_classes=5)
    before = by_path(model)
    report = interop.warm_start(model, run)
    assert len(report.missing) == 2 and all("classifier" in text for text in report.missing)
    after = by_path(model)
    np.testing.assert_array_equal(after["classifier/dense/kernel"],
                                  before["classifier/dense/kernel"])  # fmt: skip


def test_excluded_variables_stay(saved):
    _, run = saved
    model = tiny(seed=9)
    before = by_path(model)
    report = interop.warm_start(model, run, exclude=("location_module", "classifier"))
    after = by_path(model)
    for path, value in before.items():
        if "location_module" in path or "classifier" in path:
            np.testing.assert_array_equal(after[path], value, err_msg=path)
            assert path not in report.matched
    assert not np.array_equal(after["conv1/kernel"], before["conv1/kernel"])


def test_public_efficientnet_fills_the_backbone_only(tmp_path):
    backbone = small()
    model = TNet(
        backbone, 3, RegionGrid(3, 3, 0.5), (448, 448), location_module="squeeze_excite",
        positional="add", map_indices=(2, 6, 10),
    )  # fmt: skip
    _, values, stored = values_for(backbone)
    head = model.classifier.dense.kernel.numpy()
    report = interop.warm_start(model, write(tmp_path / "ckpt", stored))
    assert set(report.matched) == set(values)
    np.testing.assert_array_equal(model.classifier.dense.kernel.numpy(), head)


def test_checkpoint_of_the_authors_with_another_classifier(tmp_path):
    flags = {
        "batch_norm": True, "num_classes": 3, "num_res_levels": 2, "loc_per_grid": [2.0],
        "base_res_y": 224, "base_res_x": 224, "img_size_y": 448, "img_size_x": 448,
        "descr_tag": "EfficientNet_lg3x3", "width_coefficient": 0.1, "depth_coefficient": 0.7,
        "pos_dim_divisor": 4,
    }  # fmt: skip
    random = np.random.default_rng(0)
    values = {
        name: random.normal(size=variables[0].shape).astype(np.float32)
        for name, variables in interop.original_variables(interop.original_model(flags)).items()
    }
    write_checkpoint(tmp_path, values)
    model = interop.original_model({**flags, "num_classes": 4})
    report = interop.warm_start(model, tmp_path)
    assert len(report.missing) == 2 and all("classifier" in text for text in report.missing)
    stored = interop.original_variables(model)["feature_posBurn/linear/kernel"][0]
    np.testing.assert_array_equal(stored.numpy(), values["feature_posBurn/linear/kernel"])


def test_what_cannot_be_read_or_does_not_fit_is_one_line(saved, tmp_path):
    model, run = saved
    broken = tmp_path / "broken.keras"
    broken.write_bytes((run / "checkpoints" / "best.keras").read_bytes()[:1000])
    other = tmp_path / "other.keras"
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="other")]).save(other)
    for path in (broken, other, tmp_path / "nothing", tmp_path / "nothing.keras"):
        with pytest.raises(ValueError, match="Received: path=") as raised:
            interop.warm_start(model, path)
        assert "\n" not in str(raised.value)
        assert path.name in str(raised.value)


def test_what_is_excluded_must_be_there(saved):
    model, run = saved
    with pytest.raises(ValueError, match="Received: exclude=clasifier"):
        interop.warm_start(model, run, exclude=("clasifier",))
