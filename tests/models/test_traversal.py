"""Where a TNet looks: views, boxes, levels and cells, against what a hand computes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.models.small_models import convnet, own_backbone, pixels, tnet
from tnet_keras.geometry import RegionGrid

OUTPUTS = {
    "logits",
    "probabilities",
    "boxes",
    "levels",
    "location_probabilities",
    "selected",
    "box_probabilities",
    "feature_logits",
    "feature_weights",
    "attended_logits",
}


@pytest.fixture(scope="module")
def model():
    """Three levels, a padded grid that is not square: starts (-1, 12) and (-1, 7, 15)."""
    return tnet(
        own_backbone(),
        grid=RegionGrid(2, 3, 0.55),
        image_size=(27, 32),
        locations=(2, 1),
        levels=3,
    )


def numbers(outputs):
    """Returns outputs of `attend` as NumPy arrays."""
    return tf.nest.map_structure(lambda x: x.numpy(), outputs)


@pytest.mark.parametrize(
    ("locations", "levels"),
    [((), []), ((3,), [2] * 3), ((2, 1), [2, 2, 3, 3]), ((6, 2), [2] * 6 + [3] * 12)],
)
def test_attend_gives_what_every_hard_attention_model_gives(model, locations, levels):
    images, total = pixels(2, 27, 32), len(levels)
    outputs = model.attend(images, locations=locations)
    assert set(outputs) == OUTPUTS - ({"attended_logits"} if not total else set())
    shapes = {
        "logits": (2, 4),
        "probabilities": (2, 4),
        "boxes": (2, total, 4),
        "levels": (2, total),
        "box_probabilities": (2, total),
        "feature_logits": (2, 1 + total, 4),
        "feature_weights": (2, 1 + total),
    }
    for name, shape in shapes.items():
        assert outputs[name].shape == shape, name
        assert outputs[name].dtype == ("int32" if name == "levels" else "float32"), name
    out = numbers(outputs)
    np.testing.assert_array_equal(out["levels"], [levels] * 2)
    np.testing.assert_allclose(out["probabilities"], tf.nn.softmax(out["logits"]), rtol=1e-6)
    assert len(out["location_probabilities"]) == len(out["selected"]) == len(locations)
    grids, found = 1, []
    for k, probabilities, selected in zip(
        locations, out["location_probabilities"], out["selected"], strict=True
    ):
        assert probabilities.shape == (2, grids, 6) and probabilities.dtype == np.float32
        assert selected.shape == (2, grids, k) and selected.dtype == np.int32
        np.testing.assert_allclose(probabilities.sum(-1), 1.0, atol=1e-6)
        best = np.sort(np.argsort(-probabilities, kind="stable")[..., :k])
        np.testing.assert_array_equal(selected, best)  # the k best cells, in ascending order
        found.append(np.take_along_axis(probabilities, selected, -1).reshape(2, -1))
        grids *= k
    if found:
        np.testing.assert_allclose(out["box_probabilities"], np.concatenate(found, 1), rtol=1e-6)


@pytest.mark.parametrize("aggregation", ["mean", "weighted"])
def test_logits_are_the_weighted_mean_of_the_feature_logits(aggregation):
    model = tnet(locations=(2, 1), aggregation=aggregation)
    out = numbers(model.attend(pixels(3)))
    np.testing.assert_allclose(out["feature_weights"].sum(-1), 1.0, atol=1e-6)
    uniform = np.allclose(out["feature_weights"], 1 / 5, atol=1e-6)
    assert uniform == (aggregation == "mean")
    mixed = np.einsum("bn,bnc->bc", out["feature_weights"], out["feature_logits"])
    np.testing.assert_allclose(out["logits"], mixed, atol=1e-5)
    if uniform:
        attended = out["feature_logits"][:, 1:].mean(1)
        np.testing.assert_allclose(out["attended_logits"], attended, atol=1e-5)


def test_boxes_are_composed_over_levels():
    # 64x48: cells of 32x24 at rows 0, 16, 32 and columns 0, 12, 24; in a cell of 32x24, cells of
    # 16x12 at rows 0, 8, 16 and columns 0, 6, 12.
    model = tnet(image_size=(64, 48), locations=(2, 1))
    forced = [np.array([[[1, 5]]]), np.array([[[8], [3]]])]
    out = numbers(model.attend(pixels(1, 64, 48), cells=forced))
    expected = [[0, 12, 32, 36], [16, 24, 48, 48], [16, 24, 32, 36], [24, 24, 40, 36]]
    np.testing.assert_array_equal(out["boxes"], [expected])
    np.testing.assert_array_equal(out["levels"], [[2, 2, 3, 3]])


def test_boxes_of_a_padded_grid_leave_the_image():
    # 32 px, side 0.4: cells of 13 at -1, 9, 19 (one zero pixel in front); in a cell of 13, cells of
    # 5 at 0, 4, 8.
    model = tnet(grid=RegionGrid(3, 3, 0.4), locations=(2, 2))
    forced = [np.array([[[0, 8]]]), np.array([[[4, 8], [0, 5]]])]
    out = numbers(model.attend(pixels(1), cells=forced))
    level_2 = [[-1, -1, 12, 12], [19, 19, 32, 32]]
    level_3 = [[3, 3, 8, 8], [7, 7, 12, 12], [19, 19, 24, 24], [23, 27, 28, 32]]
    np.testing.assert_array_equal(out["boxes"], [level_2 + level_3])


def test_features_are_those_of_the_pixels_in_the_boxes():
    # The same features, made by hand: cut, resize, extract, encode (row, column, scale), classify.
    model = tnet(convnet(statistics_levels=3), image_size=(64, 48), locations=(2, 1))
    for layer in model.backbone.network.layers:
        for level, mean in enumerate(getattr(layer, "moving_means", []), start=1):
            mean.assign(mean + 0.1 * level)  # so that a wrong level shows
    images = pixels(2, 64, 48)
    cells = [np.array([[[1, 5]], [[0, 7]]]), np.array([[[8], [3]], [[2], [4]]])]
    out = numbers(model.attend(images, cells=cells))
    # A child at (r, c) of a parent at (y, x) has the position (3y + r, 3x + c, level - 1).
    positions = [
        [(0, 0, 0), (0, 1, 1), (1, 2, 1), (0 + 2, 3 + 2, 2), (3 + 1, 6 + 0, 2)],
        [(0, 0, 0), (0, 0, 1), (2, 1, 1), (0 + 0, 0 + 2, 2), (6 + 1, 3 + 1, 2)],
    ]
    for row, image in enumerate(images):
        boxes = [(0, 0, 64, 48), *out["boxes"][row].astype(int).tolist()]
        for index, (y0, x0, y1, x1) in enumerate(boxes):
            view = tf.image.resize(image[None, y0:y1, x0:x1], (16, 16))
            _, vector = model.backbone(view, level=[1, 2, 2, 3, 3][index])
            position = tf.constant([positions[row][index]], tf.float32)
            logits = model.classifier(model.positional((vector, position)))
            np.testing.assert_allclose(out["feature_logits"][row, index], logits[0], atol=1e-5)


def test_a_crop_of_a_padded_crop_does_not_see_past_its_parent():
    # 12 px cells at -1, 6, 13, 20; in a cell of 12, cells of 4 at -1, 2, 5, 8: the first one
    # reaches one pixel beyond its parent, and reads mid-grey there although the image goes on.
    grid = RegionGrid(4, 4, 0.37)
    assert grid.starts(32, 32)[0] == (-1, 6, 13, 20)
    assert grid.starts(12, 12)[0] == (-1, 2, 5, 8)
    model = tnet(own_backbone(), grid=grid, locations=(1, 1))
    images = pixels(1)
    out = numbers(model.attend(images, cells=[np.array([[[5]]]), np.array([[[0]]])]))
    np.testing.assert_array_equal(out["boxes"][0], [[6, 6, 18, 18], [5, 5, 9, 9]])
    seen = np.full((1, 4, 4, 3), 127.5, np.float32)
    seen[:, 1:, 1:] = images[:, 6:9, 6:9]
    _, vector = model.backbone(tf.image.resize(seen, (16, 16)), level=3)
    # Cell 5 is row 1, column 1; its cell 0 stands at (4 + 0, 4 + 0).
    logits = model.classifier(model.positional((vector, tf.constant([[4.0, 4.0, 2.0]]))))
    np.testing.assert_allclose(out["feature_logits"][:, 2], logits, atol=1e-5)


def test_location_probabilities_come_from_the_map_positions_of_the_cells():
    class FirstChannel(keras.layers.Layer):
        def call(self, inputs):
            return tf.reshape(inputs[0][..., 0], [-1, 9])

    images = pixels(2)
    views = tf.image.resize(images, (16, 16))
    # By default the nearest positions: cell centres are at 1/4, 1/2 and 3/4 of the image, positions
    # at 1/8, 3/8, 5/8 and 7/8; half-way between two, the even one.
    for indices, expected in (((0, 1, 3), (0, 1, 3)), (None, (0, 2, 2))):
        model = tnet(
            own_backbone(), location_module=FirstChannel(), map_indices=indices, locations=(1,)
        )
        features = model.backbone(views)[0].numpy()[..., 0]
        chosen = features[:, expected][:, :, expected].reshape(2, 1, 9)
        out = model.attend(images)
        np.testing.assert_allclose(
            out["location_probabilities"][0], tf.nn.softmax(chosen), atol=1e-6
        )


def test_locations_change_at_call_time(model):
    images = pixels(2, 27, 32)
    context = model(images, locations=())
    np.testing.assert_allclose(context, model.attend(images, ())["feature_logits"][:, 0], atol=1e-6)
    for same, other in (((0,), ()), ((0, 0), ()), ((2, 0), (2,)), ([2, 1], None)):
        np.testing.assert_array_equal(model(images, locations=same), model(images, locations=other))
    assert np.abs(context - model(images, locations=(1,))).max() > 1e-3
    assert model.locations == (2, 1)  # the model's own stay


def test_all_cells_are_taken_whatever_the_policy_says(model):
    out = model.attend(pixels(2, 27, 32), locations=(6,))
    np.testing.assert_array_equal(out["selected"][0], [[range(6)]] * 2)
    np.testing.assert_array_equal(out["boxes"][0], model.grid.boxes(27, 32))


def test_one_level_is_a_plain_network():
    model = tnet(own_backbone(), locations=(), levels=1)
    images = pixels(3)
    _, vector = model.backbone(tf.image.resize(images, (16, 16)))
    logits = model.classifier(model.positional((vector, tf.zeros((3, 3)))))
    np.testing.assert_allclose(model(images), logits, atol=1e-5)
    out = model.attend(images)
    assert out["boxes"].shape == (3, 0, 4) and out["location_probabilities"] == []


@pytest.mark.parametrize("locations", [(), (1,), (3, 2), None])
def test_call_and_predict_equal_attend(model, locations):
    images = pixels(3, 27, 32)
    logits = model.attend(images, locations=locations)["logits"]
    np.testing.assert_allclose(model(images, locations=locations), logits, atol=1e-6)
    if locations is None:
        np.testing.assert_allclose(model.predict(images, verbose=0), logits, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_call_equals_attend_in_half_precision(policy):
    # Keras casts the float inputs of a model; bfloat16 has 8 bits, too few for pixels in 0-255.
    keras.config.set_dtype_policy(policy)
    model = tnet(own_backbone())
    images = pixels(2).astype("float32") * np.float32(0.987)
    np.testing.assert_array_equal(model(images), model.attend(images)["logits"])


def test_forced_cells_equal_the_same_choice_of_the_policy(model):
    images = pixels(2, 27, 32)
    own = model.attend(images, locations=(2, 1))
    forced = model.attend(images, cells=own["selected"])
    for name in ("logits", "boxes", "box_probabilities", "feature_logits"):
        np.testing.assert_allclose(forced[name], own[name], atol=1e-6)
    # Cells that came in another order are put in ascending order.
    swapped = model.attend(images, cells=[own["selected"][0][..., ::-1]])
    np.testing.assert_array_equal(swapped["selected"][0], own["selected"][0])
    other = model.attend(images, cells=[5 - np.asarray(own["selected"][0])])
    assert np.abs(other["boxes"] - own["boxes"][:, :2]).max() > 0


@pytest.mark.parametrize("size", [(32, 32), (48, 20), (31, 57), (100, 64)])
def test_any_image_size(size):
    model = tnet(own_backbone())
    boxes = model.grid.boxes(*size)
    out = model.attend(pixels(2, *size))
    chosen = np.asarray(out["selected"][0])[:, 0]
    np.testing.assert_array_equal(out["boxes"], boxes[chosen])


def test_predict_takes_another_size_after_one_call():
    model = tnet(own_backbone())
    for size in (32, 40):
        images = pixels(2, size, size)
        model.make_predict_function(force=True)
        np.testing.assert_allclose(model.predict(images, verbose=0), model(images), atol=1e-5)
    with pytest.raises(ValueError, match=r"`images` must have a static .*make_predict_function"):
        model.predict(pixels(2, 36, 36), verbose=0)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "int64"])
def test_number_types_of_images(dtype):
    model = tnet(own_backbone(), grid=RegionGrid(3, 3, 0.4))
    images = pixels(2)
    expected = model.attend(images)["logits"]
    np.testing.assert_allclose(model(images.astype(dtype)), expected, atol=1e-5)
    np.testing.assert_allclose(model.attend(images.astype(dtype))["logits"], expected, atol=1e-5)
