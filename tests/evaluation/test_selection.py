"""Measures of patch selection: coverage against pixel counts, and a model that is known exactly."""

import types

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tnet_keras.evaluation import evaluate_selection, profile, selection

BOXES = np.float32([[0, 0, 10, 10], [0, 10, 10, 20], [10, 0, 20, 10], [10, 10, 20, 20]])


class CornerReader:
    """Chooses the corners with the highest red sums; answers the highest green value it saw."""

    selection = types.SimpleNamespace(
        num_patches=2, num_candidates=4, boxes=BOXES, image_size=(20, 20)
    )

    def attend(self, images, locations=None, cells=None):
        images = tf.cast(images, tf.float32)
        corners = [images[:, y0:y1, x0:x1] for y0, x0, y1, x1 in BOXES.astype(int)]
        scores = tf.stack([tf.reduce_sum(corner[..., 0], (1, 2)) for corner in corners], 1)
        seen = tf.stack([tf.reduce_max(corner[..., 1], (1, 2)) for corner in corners], 1)
        if cells is None:
            chosen = tf.sort(tf.math.top_k(scores, locations[0]).indices, axis=-1)
        else:
            chosen = cells[0][:, 0]
        answer = tf.reduce_max(tf.gather(seen, chosen, batch_dims=1), axis=-1)
        return {
            "logits": tf.one_hot(tf.cast(answer, tf.int32), 5),
            "boxes": tf.gather(tf.constant(BOXES), chosen),
            "location_probabilities": [tf.nn.softmax(scores)[:, None]],
        }


def picture(red, green):
    """An image of 20 x 20 pixels with one red and one green value per corner."""
    corners = np.stack([red, green, np.zeros(4)], -1).reshape(2, 2, 3)
    return corners.repeat(10, 0).repeat(10, 1).astype(np.uint8)


@pytest.fixture(autouse=True)
def no_macs(monkeypatch):
    monkeypatch.setattr(profile, "count_macs_by_locations", lambda model, chosen: {})


box = st.tuples(*[st.integers(-3, 12)] * 2, *[st.integers(1, 9)] * 2).map(
    lambda corner: (corner[0], corner[1], corner[0] + corner[2], corner[1] + corner[3])
)


@given(st.lists(box, min_size=1, max_size=5), box)
def test_covered_share_is_a_count_of_pixels(boxes, wanted):
    covered = np.zeros((40, 40), bool)
    for y0, x0, y1, x1 in boxes:
        covered[y0 + 10 : y1 + 10, x0 + 10 : x1 + 10] = True
    y0, x0, y1, x1 = (edge + 10 for edge in wanted)
    expected = covered[y0:y1, x0:x1].mean()
    found = selection.covered_shares(np.float32(boxes), np.float32([wanted, (4, 4, 4, 9)]))
    assert found[0] == pytest.approx(expected)
    assert np.isnan(found[1])


def test_every_figure_of_a_known_model():
    images = np.stack([
        picture([9, 8, 0, 0], [1, 2, 3, 4]),  # sees corners 0 and 1: says 2
        picture([0, 0, 8, 9], [1, 2, 3, 4]),  # sees corners 2 and 3: says 4
        picture([9, 0, 0, 8], [1, 2, 3, 0]),  # sees corners 0 and 3: says 1
    ])  # fmt: skip
    labels = np.array([2, 4, 3], np.int32)
    true_boxes = np.float32([
        [[2, 2, 6, 6], [12, 2, 16, 6]],  # one seen, one not
        [[8, 12, 12, 16], [0, 0, 0, 0]],  # half seen: its centre is; and none
        [[0, 0, 0, 0], [0, 0, 0, 0]],
    ])  # fmt: skip
    dataset = tf.data.Dataset.from_tensor_slices((images, labels, true_boxes)).batch(2)
    found = evaluate_selection(CornerReader(), dataset, [(2,), (4,), (1,)])
    assert found["images"] == 3 and found["locations"] == "2"
    # With one patch: corners 0, 3, 0 say 1, 4, 1; with all four the largest: 4, 4, 3.
    assert found["accuracy"] == pytest.approx({"1": 1 / 3, "2": 2 / 3, "4": 2 / 3})
    assert found["accuracy_random_locations"]["4"] == pytest.approx(2 / 3)
    assert found["majority"] == pytest.approx(1 / 3)
    assert found["coverage"] == pytest.approx({"1": 0.25, "2": 0.5, "4": 1.0})
    assert found["hit_rate"] == pytest.approx(2 / 3)
    assert found["object_coverage"] == pytest.approx((1 + 0 + 0.5) / 3)
    assert 0 <= found["hit_rate_random"] <= 1
    assert found["policy_entropy"] == pytest.approx(0.0, abs=1e-3)


def test_without_boxes_nothing_is_said_about_objects():
    dataset = tf.data.Dataset.from_tensors((picture([9, 8, 0, 0], [1, 2, 3, 4])[None], [2]))
    found = evaluate_selection(CornerReader(), dataset)
    assert found["accuracy"] == {"2": 1.0}
    assert not {"hit_rate", "hit_rate_random", "object_coverage"} & set(found)


def test_empty_data_are_refused():
    dataset = tf.data.Dataset.from_tensors((np.zeros((1, 20, 20, 3), np.uint8), [0])).take(0)
    with pytest.raises(ValueError, match="at least one image"):
        evaluate_selection(CornerReader(), dataset)
