"""`needle_digits`: handwritten digits hidden among strokes in large scenes, made on the fly.

A stream is a function of the position in it: it does not depend on batch size or parallelism,
can be resumed anywhere, and two readers see the same data.
"""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from tnet_keras.datasets.augment import shift
from tnet_keras.datasets.needle_scenes import NeedleDigitsConfig, NeedleScenes, choose
from tnet_keras.datasets.streams import (
    DEFAULT_EVALUATION_EXAMPLES,
    check_split,
    counter_uniform,
    example_order,
)

_SHIFT_STREAM = 0x5817F7A11D0C0DE5  # Keeps the shifts apart from the numbers that draw scenes.


def needle_digits(
    split="train",
    batch_size=64,
    seed=0,
    num_examples=None,
    training=None,
    config=None,
    with_boxes=False,
    cache=False,
    random_shift=0,
    warmup_examples=0,
    warmup_scale=1.0,
    start=0,
):
    """Scenes with one handwritten digit among stroke distractors; the label is the digit.

    Training streams never end; every pass over `num_examples` scenes is in a new order (with
    `num_examples=None` no scene is ever repeated). Other streams are one pass in scene order.

    Args:
        split: "train", "validation" or "test": which source digits are drawn.
        batch_size: int. Training streams hold full batches only.
        seed: int >= 0. Same seed, same scene at the same index.
        num_examples: int or None. None: endless fresh scenes in training, 2,000 otherwise.
        training: bool, or None for `split == "train"`. Adds rotation, shear and the random shift,
            and makes the stream endless.
        config: `NeedleDigitsConfig` or None for its defaults.
        with_boxes: bool, also yield the digit's box.
        cache: bool, draw the `num_examples` scenes once and keep them in memory (one byte per
            pixel: 12,000 scenes of 224 x 224 take 600 MB).
        random_shift: int, pixels; in training each scene is shifted by up to that much in y and x
            with reflection at the border. Digits then keep at least this margin, so that they
            stay whole.
        warmup_examples: int. The digit of the i-th training example is drawn larger by a factor
            that falls linearly from `warmup_scale` at i = 0 to 1 at i = `warmup_examples`.
        warmup_scale: float >= 1.
        start: int, how many examples of the stream to leave out (to resume); costs nothing.

    Returns:
        `tf.data.Dataset` of `(images, labels)` or `(images, labels, boxes)`: `[B, H, W, 3]` uint8,
        `[B]` int32 in 0-9, `[B, 4]` float32 (y0, x0, y1, x1) in pixels, half-open, tight around
        the ink of the digit.

    Raises:
        ValueError: if an argument is out of range, `cache` is set without `num_examples`, or a
            warm-up is asked for with `cache` or outside training.

    Example:
        dataset = needle_digits("test", batch_size=8, num_examples=16, with_boxes=True)
        images, labels, boxes = next(iter(dataset))
    """
    check_split(split)
    training = split == "train" if training is None else bool(training)
    for name, value, low in (
        ("batch_size", batch_size, 1), ("seed", seed, 0), ("random_shift", random_shift, 0),
        ("warmup_examples", warmup_examples, 0), ("warmup_scale", warmup_scale, 1),
        ("start", start, 0), ("num_examples", 1 if num_examples is None else num_examples, 1),
    ):  # fmt: skip
        if value < low:
            raise ValueError(f"`{name}` must be at least {low}. Received: {name}={value}")
    if cache and training and num_examples is None:
        raise ValueError("`cache` needs a fixed `num_examples`. Received: num_examples=None")
    if warmup_examples and (cache or not training):
        raise ValueError(
            "`warmup_examples` needs training=True and cache=False. Received: "
            f"warmup_examples={warmup_examples}, training={training}, cache={cache}"
        )
    config = NeedleDigitsConfig() if config is None else config
    limit = random_shift if training else 0
    config = dataclasses.replace(config, margin=max(config.margin, limit))
    if config.digit_window(warmup_scale) + 2 * config.margin > config.image_size:
        raise ValueError(
            f"`warmup_scale` must leave the digit inside the scene of {config.image_size} pixels. "
            f"Received: warmup_scale={warmup_scale}"
        )
    if not training and num_examples is None:
        num_examples = DEFAULT_EVALUATION_EXAMPLES
    if cache:
        stored = _drawn_scenes(config, split, seed, training, num_examples)

        def draw(positions, indices):
            return tuple(tf.gather(part, indices) for part in stored)

    else:
        generator = NeedleScenes(
            config, split, seed, training, warmup_scale if warmup_examples else 1.0
        )

        def draw(positions, indices):
            scale = tf.ones_like(positions, tf.float32)
            if warmup_examples:
                left = 1.0 - tf.cast(positions, tf.float32) / float(warmup_examples)
                scale += (warmup_scale - 1.0) * tf.maximum(left, 0.0)
            return generator(indices, scale)

    def finish(positions, indices):
        images, labels, boxes = draw(positions, indices)
        images = images[..., None]
        if limit:
            uniform = counter_uniform(seed + _SHIFT_STREAM, positions, 2)
            images, boxes = shift(images, choose(uniform, 2 * limit + 1) - limit, boxes)
        images = tf.repeat(images, 3, axis=-1)
        images.set_shape((None, config.image_size, config.image_size, 3))
        return (images, labels, boxes) if with_boxes else (images, labels)

    order = example_order(num_examples, training, seed, start).batch(batch_size, training)
    return order.map(finish, num_parallel_calls=2, deterministic=True).prefetch(2)


@functools.lru_cache(maxsize=1)
def _drawn_scenes(config, split, seed, training, num_examples, block=250):
    """Scenes 0 to `num_examples` - 1 as tensors; they are kept for the next stream of the same."""
    generator = NeedleScenes(config, split, seed, training, 1.0)
    drawn = []
    draw = tf.function(lambda indices: generator(indices, tf.ones_like(indices, tf.float32)))
    for first in range(0, num_examples, block):
        indices = np.minimum(np.arange(first, first + block), num_examples - 1)
        drawn.append([part.numpy() for part in draw(tf.constant(indices, tf.int64))])
    parts = zip(*drawn, strict=True)
    return tuple(tf.constant(np.concatenate(part)[:num_examples]) for part in parts)
