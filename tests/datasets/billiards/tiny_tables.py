"""Billiard tables that are drawn in a few milliseconds, and how tests read a stream of them."""

from tests.datasets.reading import examples
from tnet_keras.datasets import BilliardsConfig, billiards
from tnet_keras.datasets.billiards.painter import BALL_COLORS

TINY = BilliardsConfig.small(image_size=240)
COLORS = tuple(BALL_COLORS)


def tables(count, batch_size=4, **arguments):
    """The first `count` examples of a stream of tiny tables."""
    arguments = {"config": TINY, "with_boxes": True, "split": "train"} | arguments
    return examples(billiards(batch_size=batch_size, **arguments), count)


def ball(x, number, color="red"):
    return {"position": [x, 5.0, 0.2], "number": number, "color": color}
