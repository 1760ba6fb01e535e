"""Billiard tables that are drawn in a few milliseconds, and how tests read a stream of them."""

import numpy as np

from tnet_keras.datasets import BilliardsConfig, billiards
from tnet_keras.datasets.billiards.painter import BALL_COLORS

TINY = BilliardsConfig.small(image_size=240)
COLORS = tuple(BALL_COLORS)


def examples(dataset, count):
    """The first `count` examples of a stream as NumPy arrays."""
    batches = []
    for batch in dataset.as_numpy_iterator():
        batches.append(batch)
        if sum(len(labels) for _, labels, *_ in batches) >= count:
            break
    return [np.concatenate(part)[:count] for part in zip(*batches, strict=True)]


def tables(count, batch_size=4, **arguments):
    """The first `count` examples of a stream of tiny tables."""
    arguments = {"config": TINY, "with_boxes": True, "split": "train"} | arguments
    return examples(billiards(batch_size=batch_size, **arguments), count)


def assert_same(first, second):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def ball(x, number, color="red"):
    return {"position": [x, 5.0, 0.2], "number": number, "color": color}
