"""Traffic scenes that are drawn in a few milliseconds, and how tests read a stream of them."""

from tests.datasets.reading import examples
from tnet_keras.datasets.traffic_signs import TrafficScenesConfig, TrafficSign, traffic_signs

TINY = TrafficScenesConfig.small(height=216, width=288)


def scenes(count, batch_size=4, **arguments):
    """The first `count` examples of a stream of tiny scenes."""
    arguments = {"config": TINY, "with_boxes": True, "split": "train"} | arguments
    return examples(traffic_signs(batch_size=batch_size, **arguments), count)


def sign(name, visibility="VISIBLE", side=10.0, at=100.0):
    """A square record with its upper left corner at (at, at)."""
    return TrafficSign(visibility, at + side, at + side, at, at, "PROHIBITORY", name)
