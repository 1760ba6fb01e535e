"""How the tests of this room read streams and compare them."""

import numpy as np


def examples(dataset, count):
    """The first `count` examples of a stream as NumPy arrays."""
    batches = []
    for batch in dataset.as_numpy_iterator():
        batches.append(batch)
        if sum(len(labels) for _, labels, *_ in batches) >= count:
            break
    return [np.concatenate(part)[:count] for part in zip(*batches, strict=True)]


def assert_same(first, second):
    """Asserts that two streams' examples are equal."""
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
