"""Policy measures against hand-made outputs, and a whole evaluation of an exactly known model."""

import itertools
import math

import numpy as np
import pytest
import tensorflow as tf

from tnet_keras import geometry
from tnet_keras.evaluation import policy

GRID = geometry.RegionGrid(5, 5, 0.34375)


class PixelReader:
    """A two-level model whose every answer is known: a digit is one pixel of value 100 + label.

    It sees that pixel only inside an attended cell, otherwise it answers class 0 (as does its
    context alone). Its location probabilities are read from the second channel of the first image
    row.
    """

    levels = 2
    image_size = (40, 40)
    locations = (1,)
    grid = geometry.RegionGrid(2, 2, 0.5)

    def attend(self, images, locations=None, cells=None):
        boxes = self.grid.boxes(40, 40)
        weights = tf.cast(images[:, 0, :4, 1], tf.float32)
        probabilities = weights / tf.reduce_sum(weights, axis=-1, keepdims=True)
        batch = tf.shape(images)[0]
        outputs = {"boxes": tf.zeros((batch, 0, 4)), "levels": tf.zeros((batch, 0), tf.int32)}
        seen = tf.zeros((batch, 0), tf.int32)
        if locations:
            (count,) = locations
            if cells is None:
                chosen = tf.sort(tf.math.top_k(probabilities, count).indices, axis=-1)
            else:
                chosen = cells[0][:, 0]
            digits = [
                tf.reduce_max(images[:, int(y0) : int(y1), int(x0) : int(x1), 0], axis=(1, 2))
                for y0, x0, y1, x1 in boxes
            ]
            seen = tf.gather(tf.cast(tf.stack(digits, 1), tf.int32), chosen, batch_dims=1)
            outputs["boxes"] = tf.gather(boxes, chosen)
            outputs["levels"] = tf.fill((batch, count), 2)
        label = tf.maximum(tf.reduce_max(tf.pad(seen, [[0, 0], [0, 1]]), axis=-1) - 100, 0)
        outputs["logits"] = tf.one_hot(label, 10)
        outputs["attended_logits"] = tf.one_hot(9 - label, 10)
        outputs["location_probabilities"] = [probabilities[:, None]]
        return outputs


def scenes(points, labels, weights):
    images = np.zeros((len(points), 40, 40, 3), np.uint8)
    boxes = []
    for index, ((y, x), label) in enumerate(zip(points, labels, strict=True)):
        images[index, y, x, 0] = 100 + label
        images[index, 0, :4, 1] = weights[index]
        boxes.append([y, x, y + 1, x + 1])
    return images, np.asarray(labels, np.int32), np.asarray(boxes, np.float32)


def test_contains_is_half_open_and_accepts_padding():
    boxes = np.array([[-1, -1, 76, 76], [76, 76, 153, 153]], np.float32)
    points = np.array([[0, 0], [75.5, 75.5], [76, 76], [153, 100]])
    expected = [[True, False], [True, False], [False, True], [False, False]]
    np.testing.assert_array_equal(policy.contains(boxes, points), expected)


def test_hits_look_at_the_most_probable_cell():
    cells = GRID.boxes(224, 224)
    probabilities = np.full((2, 25), 0.03)
    probabilities[:, 12] = 0.28
    centres = [[112, 112], [10, 10]]
    np.testing.assert_array_equal(policy.hits(probabilities, cells, centres), [True, False])


def test_entropy_of_uniform_and_certain_policies():
    certain = np.eye(25)[:1]
    np.testing.assert_allclose(policy.entropy(np.full((1, 25), 1 / 25)), math.log(25))
    np.testing.assert_array_equal(policy.entropy(certain), [0.0])


def test_random_cells_are_distinct_ascending_and_uniform():
    generator = np.random.default_rng(3)
    first, second = policy.random_cells(generator, 4000, 9, (2, 1))
    assert first.shape == (4000, 1, 2) and second.shape == (4000, 2, 1)
    assert first.dtype == np.int32
    assert np.all(first[..., 0] < first[..., 1])
    pairs = {tuple(pair) for pair in first[:, 0]}
    assert pairs == set(itertools.combinations(range(9), 2))
    shares = np.bincount(first.ravel(), minlength=9) / first.size
    np.testing.assert_allclose(shares, 1 / 9, atol=0.02)


def test_oracle_takes_the_containing_cell_with_the_nearest_centre():
    # Cells start at -1, 36, 73, 110, 147 and are 77 wide: (0, 0) is in cell 0 alone, (112, 112) in
    # the middle of cell 12 (centre 111.5), (223, 0) in the bottom left one.
    cells = policy.oracle_cells(GRID, 224, 224, [[0, 0], [112, 112], [223, 0]], levels=1)
    assert cells[0].shape == (3, 1, 1) and cells[0].dtype == np.int32
    np.testing.assert_array_equal(cells[0].ravel(), [0, 12, 20])


def test_oracle_descends_into_the_chosen_cell():
    grid = geometry.RegionGrid(3, 3, 0.5)
    points = np.random.default_rng(0).uniform(0, 896, (50, 2)).astype(np.float32)
    first, second = policy.oracle_cells(grid, 896, 896, points, levels=2)
    parents = grid.boxes(896, 896)[first.ravel()]
    children = grid.boxes(448, 448)[second.ravel()] + np.tile(parents[:, :2], 2)
    for point, parent, child in zip(points, parents, children, strict=True):
        assert policy.contains(parent[None], point)[0]
        assert policy.contains(child[None], point)[0]


def test_union_coverage_counts_shared_pixels_once():
    boxes = np.array([[0, 0, 10, 10], [0, 5, 10, 15]], np.float32)
    assert policy.union_coverage(boxes, 20, 20) == pytest.approx(150 / 400)
    assert policy.union_coverage(np.zeros((0, 4)), 20, 20) == 0.0


def test_whole_evaluation_of_a_known_model():
    # The policy is right about the first three images and wrong about the fourth. The last image's
    # label 0 is what the model answers when it sees nothing.
    points = [(5, 5), (5, 35), (35, 5), (35, 35), (35, 35)]
    weights = [[9, 1, 1, 1], [1, 9, 2, 1], [1, 2, 9, 1], [9, 2, 1, 1], [9, 2, 1, 1]]
    images, labels, boxes = scenes(points, [3, 4, 5, 6, 0], weights)
    dataset = tf.data.Dataset.from_tensor_slices((images, labels, boxes)).batch(2)
    result = policy.evaluate_policy(PixelReader(), dataset, [(), (1,), (4,)], seed=1)
    assert result["images"] == 5
    assert result["locations"] == "1"
    assert result["accuracy"] == {"0": 0.2, "1": 0.8, "4": 1.0}
    assert result["accuracy_random_locations"]["0"] == 0.2
    assert result["accuracy_random_locations"]["4"] == 1.0
    assert result["accuracy_oracle_location"] == 1.0
    # The stub's attended-only answer is 9 - label, right for none of these labels.
    assert result["accuracy_attended_only"] == 0.0
    assert set(result["accuracy_attended_only_by_locations"]) == {"1", "4"}
    assert result["hit_rate"] == pytest.approx(0.6)
    assert result["hit_rate_random"] == pytest.approx(0.25)
    assert result["coverage"] == {"0": 0.0, "1": 0.25, "4": 1.0}
    assert result["coverage_by_level"]["1"] == {"1": 1.0, "2": 0.25}
    assert result["coverage_by_level"]["0"] == {"1": 1.0}
    assert 0 < result["policy_entropy"] < math.log(4)


def test_random_locations_see_the_digit_as_often_as_chance():
    generator = np.random.default_rng(0)
    count = 400
    points = generator.integers(1, 40, (count, 2))
    images, labels, boxes = scenes(points, np.full(count, 7), np.full((count, 4), 1))
    dataset = [(images, labels, boxes)]
    result = policy.evaluate_policy(PixelReader(), dataset, [(1,)], seed=5)
    assert result["accuracy_random_locations"]["1"] == pytest.approx(0.25, abs=0.07)
    again = policy.evaluate_policy(PixelReader(), dataset, [(1,)], seed=5)
    assert again == result


def test_without_boxes_only_what_needs_none():
    images, labels, _ = scenes([(5, 5)], [3], [[9, 1, 1, 1]])
    result = policy.evaluate_policy(PixelReader(), [(images, labels)], [(1,)])
    assert result["accuracy"] == {"1": 1.0}
    assert "hit_rate" not in result and "accuracy_oracle_location" not in result
    assert "policy_entropy" in result


def test_context_only_still_measures_the_policy():
    images, labels, boxes = scenes([(5, 5)], [3], [[9, 1, 1, 1]])
    result = policy.evaluate_policy(PixelReader(), [(images, labels, boxes)], [()])
    assert result["hit_rate"] == 1.0
    assert result["accuracy_oracle_location"] == 1.0
    assert result["accuracy_attended_only"] is None


def test_empty_inputs_are_errors():
    with pytest.raises(ValueError, match="`dataset`.*empty data set"):
        policy.evaluate_policy(PixelReader(), [], [(1,)])
    with pytest.raises(ValueError, match="`locations`.*Received"):
        policy.evaluate_policy(PixelReader(), [], [])
