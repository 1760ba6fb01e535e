"""Traffic scenes that are drawn in a few milliseconds, and how tests read a stream of them."""

import numpy as np

from tnet_keras.datasets.traffic_signs import TrafficScenesConfig, TrafficSign, traffic_signs

TINY = TrafficScenesConfig.small(height=216, width=288)


def examples(dataset, count):
    """The first `count` examples of a stream as NumPy arrays."""
    batches = []
    for batch in dataset.as_numpy_iterator():
        batches.append(batch)
        if sum(len(labels) for _, labels, *_ in batches) >= count:
            break
    return [np.concatenate(part)[:count] for part in zip(*batches, strict=True)]


def scenes(count, batch_size=4, **arguments):
    """The first `count` examples of a stream of tiny scenes."""
    arguments = {"config": TINY, "with_boxes": True, "split": "train"} | arguments
    return examples(traffic_signs(batch_size=batch_size, **arguments), count)


def assert_same(first, second):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def sign(name, visibility="VISIBLE", side=10.0, at=100.0):
    """A square record with its upper left corner at (at, at)."""
    return TrafficSign(visibility, at + side, at + side, at, at, "PROHIBITORY", name)
