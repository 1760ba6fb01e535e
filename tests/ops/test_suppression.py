"""Greedy non-maximum suppression against the words of NTS-Net, by brute force."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tnet_keras.ops import greedy_suppression

# The example that NTS-Net's own code is tried on: the first two overlap by 0.81.
EXAMPLE = np.array([[1, 10, 12, 20], [1, 11, 11, 20], [20, 30, 40, 50]], np.float32)


def overlap(a, b):
    """Intersection over union of two boxes."""
    height = min(a[2], b[2]) - max(a[0], b[0])
    width = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(height, 0) * max(width, 0)
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)) - shared
    return shared / union if union > 0 else 0.0


def by_hand(boxes, scores, count, threshold):
    """Indices that are taken, best first, then those that fill up, best first; and how many."""
    ranked = sorted(range(len(boxes)), key=lambda i: -scores[i])
    taken = []
    for i in ranked:
        if len(taken) < count and all(overlap(boxes[i], boxes[j]) < threshold for j in taken):
            taken.append(i)
    dropped = [i for i in ranked if i not in taken]
    return (taken + dropped)[:count], len(taken)


def random_boxes(rng, count):
    """Boxes with corners on a coarse grid, so that overlaps often equal a threshold exactly."""
    corners = rng.integers(0, 5, (count, 2))
    return np.concatenate([corners, corners + rng.integers(1, 5, (count, 2))], 1).astype(np.float32)


def test_example_of_nts_net():
    scores = np.array([[0.4, 0.5, 0.55]], np.float32)
    indices = greedy_suppression(EXAMPLE, scores, 2, 0.4)
    assert indices.dtype == tf.int32 and indices.shape == (1, 2)
    assert indices.numpy().tolist() == [[2, 1]]
    # The third is the best of those that were dropped.
    assert greedy_suppression(EXAMPLE, scores, 3, 0.4).numpy().tolist() == [[2, 1, 0]]


@pytest.mark.parametrize("kind", ["eager", "graph", "xla"])
@pytest.mark.parametrize("threshold", [0.25, 1 / 3, 0.5, 1.0])
def test_is_greedy_suppression_by_hand(threshold, kind):
    rng, equal, filled = np.random.default_rng(0), 0, 0
    for size, count in ((2, 1), (7, 6), (30, 6)):
        def call(boxes, scores, count=count):
            return greedy_suppression(boxes, scores, count, threshold)

        if kind != "eager":
            call = tf.function(call, jit_compile=kind == "xla", autograph=False)
        for _ in range(8):
            boxes = random_boxes(rng, size)
            scores = np.stack([rng.permutation(size) - size / 2 for _ in range(4)])
            found = call(tf.constant(boxes), tf.constant(scores, tf.float32)).numpy()
            for row, own in zip(found, scores, strict=True):
                expected, taken = by_hand(boxes, own, count, np.float32(threshold))
                assert row.tolist() == expected
                filled += taken < count
            pairs = itertools.combinations(boxes, 2)
            equal += sum(np.float32(overlap(a, b)) == np.float32(threshold) for a, b in pairs)
    # Cases that tell "at least" from "above", and full from filled-up results, were among them.
    assert equal > 0 and (filled > 0 or threshold == 1.0)


def test_exactly_the_threshold_is_dropped():
    boxes = np.array([[0, 0, 4, 4], [0, 0, 2, 2], [8, 8, 9, 9]], np.float32)
    scores = np.array([[3.0, 2.0, 1.0]], np.float32)
    assert overlap(boxes[0], boxes[1]) == 0.25
    assert greedy_suppression(boxes, scores, 2, 0.25).numpy().tolist() == [[0, 2]]
    assert greedy_suppression(boxes, scores, 2, 0.2501).numpy().tolist() == [[0, 1]]


def test_equal_scores_go_to_the_lowest_index():
    boxes = np.array([[i, 0, i + 1, 1] for i in (0, 3, 6, 9)], np.float32)
    assert greedy_suppression(boxes, np.zeros((1, 4)), 3, 0.5).numpy().tolist() == [[0, 1, 2]]


def test_every_index_once_even_if_all_boxes_are_one():
    indices = greedy_suppression(np.tile(EXAMPLE[:1], (5, 1)), [[1.0, 5, 3, 4, 2]], 5, 0.25)
    assert indices.numpy().tolist() == [[1, 3, 2, 4, 0]]


def test_any_batch():
    graph = tf.function(
        lambda scores: greedy_suppression(EXAMPLE, scores, 2, 0.4),
        input_signature=[tf.TensorSpec([None, 3])],
    )
    assert graph.get_concrete_function().structured_outputs.shape.as_list() == [None, 2]
    scores = np.array([[0.4, 0.5, 0.55], [0.6, 0.5, 0.55]], np.float32)
    assert graph(scores).numpy().tolist() == [[2, 1], [0, 2]]
    assert graph(scores[:1]).numpy().tolist() == [[2, 1]]
    assert graph(scores[:0]).shape == (0, 2)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"boxes": EXAMPLE[0]}, r"`boxes` must be \[N, 4\]\. Received: boxes\.shape=\(4,\)"),
        ({"boxes": EXAMPLE[:, :3]}, r"`boxes` must be \[N, 4\]\. Received: .*\(3, 3\)"),
        ({"boxes": EXAMPLE[:2]}, r"`boxes` must be .*N=3 scores.*Received: .*\(2, 4\)"),
        ({"boxes": np.tile(EXAMPLE, (2, 1))}, r"`boxes` must be .*N=3 scores.*\(6, 4\)"),
        ({"scores": [0.0, 1.0, 2.0]}, r"`scores` must be \[B, N\].*scores\.shape=\(3,\)"),
        ({"scores": np.zeros((1, 0))}, r"`scores` must hold at least one candidate"),
        ({"scores": [[0.0, np.nan, 1.0]]}, r"`scores` must be finite\. Received: NaN"),
        ({"count": 0}, r"`count` must be .*Received: count=0"),
        ({"count": 4}, r"`count` must be .*N=3\. Received: count=4"),
        ({"count": 2.0}, r"`count` must be .*Received: count=2\.0"),
        ({"iou_threshold": 0.0}, r"`iou_threshold` must be in \(0, 1\]\. Received: .*=0\.0"),
        ({"iou_threshold": 1.5}, r"`iou_threshold` must be in \(0, 1\]\. Received: .*=1\.5"),
        ({"iou_threshold": np.nan}, r"`iou_threshold` must be in .*Received: .*=nan"),
    ],
)
def test_wrong_arguments_are_named(changed, message):
    arguments = {"boxes": EXAMPLE, "scores": [[0.4, 0.5, 0.55]], "count": 2, "iou_threshold": 0.4}
    with pytest.raises(ValueError, match=message):
        greedy_suppression(**arguments | changed)
