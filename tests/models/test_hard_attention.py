"""Input that no model can use: one ValueError each, with the argument and what was received."""

import keras
import numpy as np
import pytest

from tests.models.small_models import batch, classifier, convnet, own_backbone, pixels, tnet
from tnet_keras.geometry import RegionGrid
from tnet_keras.models import TNet

IMAGES = pixels(4).astype("float32")
with_nan, with_infinity = IMAGES.copy(), IMAGES.copy()
with_nan[1, 2, 3, 0], with_infinity[0, 0, 0, 0] = np.nan, np.inf
BAD_IMAGES = {
    "rank 3": (IMAGES[0], r"`images` must be \[B, H, W, 3\].*images.shape=\(32, 32, 3\)"),
    "rank 5": (IMAGES[None], r"`images` must be.*images.shape=\(1, 4, 32, 32, 3\)"),
    "grey": (IMAGES[..., :1], r"`images` must be.*images.shape=\(4, 32, 32, 1\)"),
    "rgba": (IMAGES[..., [0, 1, 2, 2]], r"`images` must be.*images.shape=\(4, 32, 32, 4\)"),
    "bool": (IMAGES > 100, "`images` must be uint8 or float. Received: dtype=bool"),
    "complex": (IMAGES.astype("complex64"), "`images` must be uint8.*Received: dtype=complex64"),
    "text": (np.full((1, 32, 32, 3), "7"), "`images` must be uint8.*Received: dtype=string"),
    "negative": (IMAGES / 127.5 - 1, "`images` must be in the range 0-255. Received: min=-1, max="),
    "too light": (IMAGES + 2, "`images` must be in the range 0-255. Received: min=2, max=256"),
    "negative ints": (IMAGES.astype("int32") - 9, "`images` must be in.*Received: min=-9"),
    "NaN": (with_nan, "`images` must be finite. Received: NaN"),
    "infinite": (with_infinity, "`images` must be finite. Received: NaN or infinite"),
}


@pytest.fixture(scope="module")
def model():
    return tnet(convnet(), locations=(2, 1))


@pytest.mark.parametrize(("images", "message"), BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_bad_images(model, images, message):
    for use in (model, model.attend, lambda x: model.loss_terms(x, np.zeros(4, int))):
        with pytest.raises(ValueError, match=message):
            use(images)
    with pytest.raises(ValueError, match=message):
        classifier(own_backbone())(images)


@pytest.mark.parametrize(
    "images", [IMAGES / 255, IMAGES * 0, IMAGES * 0 + 255, IMAGES + np.float32(0.4)]
)
def test_good_images(model, images):
    # Values in [0, 1] are a dark image; interpolation may overshoot by rounding.
    assert np.isfinite(model(np.clip(images, 0, 255.4))).all()


def test_image_smaller_than_the_grid_allows(model):
    # Half of a pixel has none; two levels of halving need three pixels.
    with pytest.raises(ValueError, match="image is smaller than the grid allows.*Received: size=1"):
        model(pixels(2, 2, 32))
    assert model(pixels(2, 2, 32), locations=(2,)).shape == (2, 4)
    with pytest.raises(ValueError, match="image is smaller than the grid allows.*Received: size=1"):
        model.attend(pixels(2, 32, 1), locations=(1,))
    with pytest.raises(ValueError, match="image is smaller than the grid allows.*Received: size="):
        tnet(own_backbone(), image_size=(2, 2), locations=(1, 1))


@pytest.mark.parametrize(
    ("locations", "message"),
    [
        ((1, 1, 1), r"must have at most 2 entries for 3 levels. Received: locations=\(1, 1, 1\)"),
        ((10,), r"must lie in 0..K with K=9 cells. Received: locations=\(10,\)"),
        ((1, 10), r"must lie in 0..K with K=9 cells. Received: locations=\(1, 10\)"),
        ((-1,), r"must lie in 0..K with K=9 cells. Received: locations=\(-1,\)"),
        ((0, 1), r"must not go on after a level without locations. Received: locations=\(0, 1\)"),
        ((1.0,), r"must be a tuple of integers.*Received: locations=\(1.0,\)"),
        ((True,), r"must be a tuple of integers.*Received: locations=\(True,\)"),
        (2, "must be a tuple of integers.*Received: locations=2"),
        ("2", "must be a tuple of integers.*Received: locations='2'"),
    ],
)
def test_bad_locations(model, locations, message):
    for use in (model, model.attend):
        with pytest.raises(ValueError, match=f"`locations` {message}"):
            use(IMAGES, locations=locations)
    with pytest.raises(ValueError, match=f"`locations` {message}"):
        tnet(own_backbone(), locations=locations, levels=3)


@pytest.mark.parametrize(
    ("cells", "locations", "message"),
    [
        ([np.zeros((4, 1, 2), int)], (2, 1), r"`cells` must be integers.*one tensor per level"),
        ([np.zeros((4, 1, 2), int)], (1,), r"for locations=\(1,\).*int64 \(4, 1, 2\)"),
        ([np.zeros((4, 2), int)], None, r"`cells` must be integers.*Received: .*int64 \(4, 2\)"),
        ([np.zeros((3, 1, 2), int)], None, r"\(4, 1, 2\).*Received: .*int64 \(3, 1, 2\)"),
        ([np.zeros((4, 1, 2))], None, r"`cells` must be integers.*float64 \(4, 1, 2\)"),
        ([np.zeros((4, 1, 1), int)] * 3, None, "`locations` must have at most 2 entries"),
        ([np.full((4, 1, 2), 9)], None, "`cells` must lie in 0..8. Received: min=9, max=9"),
        ([np.full((4, 1, 2), -1)], None, "`cells` must lie in 0..8. Received: min=-1, max=-1"),
    ],
)
def test_bad_cells(model, cells, locations, message):
    with pytest.raises(ValueError, match=message):
        model.attend(IMAGES, locations=locations, cells=cells)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 2, 4], r"`labels` must be whole numbers in 0..3. Received: .*min=0, max=4"),
        ([0, -1, 2, 3], r"`labels` must be whole numbers in 0..3. Received: .*min=-1, max=3"),
        ([0.0, 1.5, 2.0, 3.0], "`labels` must be whole numbers in 0..3. Received: dtype=float32"),
        ([0, 1, 2], r"`labels` must be \[B\] with B=4. Received: labels.shape=\(3,\)"),
        (np.eye(4), r"`labels` must be \[B\] with B=4. Received: labels.shape=\(4, 4\)"),
    ],
)
def test_bad_labels(model, labels, message):
    with pytest.raises(ValueError, match=message):
        model.loss_terms(IMAGES, labels)


@pytest.mark.parametrize("weight", [[1.0, 2.0], np.ones((4, 3)), 1.0])
def test_bad_sample_weight(model, weight):
    with pytest.raises(ValueError, match=r"`sample_weight` must be \[B\] with B=4. Received"):
        model.loss_terms(IMAGES, np.zeros(4, int), sample_weight=weight)


@pytest.mark.parametrize("make", [tnet, classifier])
def test_bad_batches_in_fit(make):
    model = make(own_backbone())
    model.compile("sgd")
    images, labels = batch(4)
    with pytest.raises(ValueError, match="need .images, labels.. Received: no labels"):
        model.fit(images, verbose=0)
    model.compile("sgd")
    with pytest.raises(ValueError, match=r"`labels` must be \[B\]. Received: labels.shape=.*4\)"):
        model.fit(images, np.eye(4), verbose=0)
    model.compile("sgd", run_eagerly=True)
    with pytest.raises(ValueError, match="`labels` must be whole numbers in 0..3. Received"):
        model.fit(images, labels + 1, verbose=0)


@pytest.mark.parametrize("make", [tnet, classifier])
def test_columns_of_labels_and_weights_are_vectors(make):
    model = make(own_backbone())
    images, labels = batch(4)
    weights = np.arange(4.0)
    measured = []
    for y, w in ((labels, weights), (labels[:, None], weights[:, None])):
        model.compile("sgd")
        measured.append(model.evaluate(images, y, sample_weight=w, verbose=0))
    np.testing.assert_allclose(*measured, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("backbone", "convnet", "must be a tnet_keras.backbones.Backbone"),
        ("grid", (3, 3, 0.5), "must be a RegionGrid"),
        ("image_size", 32, r"must be \(height, width\)"),
        ("image_size", (32,), r"must be \(height, width\)"),
        ("levels", 0, "must be an integer of at least 1"),
        ("levels", 2.5, "must be an integer of at least 1"),
        ("location_module", "dense", "must be one of 'context', 'squeeze_excite'"),
        ("location_module", 3, "must be a name or a Keras layer"),
        ("map_indices", (0, 1), "must hold one index per row and column"),
        ("map_indices", (0, 1, 4), r"each in 0\.\.3"),
        ("map_indices", (-1, 0, 1), r"each in 0\.\.3"),
        ("positional", "learned", "must be one of 'concat', 'add'"),
        ("aggregation", "max", "must be one of 'mean', 'weighted'"),
        ("selection", "random", "must be one of 'sample', 'top_k'"),
        ("rule", "new", "must be 'paper' or 'original'"),
        ("log_prob", "exact", "must be one of 'plackett_luce', 'independent'"),
        ("lambda_f", -0.1, "must be at least 0"),
        ("lambda_c", 1.1, r"must be in \[0, 1\]"),
        ("lambda_r", -0.1, r"must be in \[0, 1\]"),
        ("level_cap", 0, "must be None or at least 1"),
        ("num_samples", 0, "must be an integer of at least 1"),
        ("num_samples", 1.0, "must be an integer of at least 1"),
        ("num_classes", 0, "must be an integer of at least 1"),
        ("l2_scope", "none", "must be one of 'all', 'new_modules'"),
    ],
)
def test_bad_arguments(name, value, allowed):
    arguments = {
        "backbone": own_backbone(),
        "num_classes": 4,
        "grid": RegionGrid(3, 3, 0.5),
        "image_size": (32, 32),
    }
    with pytest.raises(ValueError, match=f"`{name}` .*{allowed}.*Received: {name}="):
        TNet(**arguments | {name: value})


def test_map_indices_need_a_square_grid():
    with pytest.raises(ValueError, match="of a square grid.*for a 2x3 grid"):
        tnet(own_backbone(), grid=RegionGrid(2, 3, 0.5), map_indices=(0, 2, 3))


def test_an_argument_that_does_not_exist():
    with pytest.raises((TypeError, ValueError), match="backbon_frozen"):
        tnet(own_backbone(), backbon_frozen=True)
    assert isinstance(tnet(own_backbone(), name="eyes"), keras.Model)
