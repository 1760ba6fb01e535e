"""Named recipes of training augmentation, and how an image becomes the model's input."""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from tnet_keras.datasets.aug_mix import aug_mix, cutout
from tnet_keras.datasets.augment import (
    crop_window,
    random_contrast,
    random_shift_with_black,
)
from tnet_keras.datasets.color import random_color
from tnet_keras.datasets.rand_augment import rand_augment
from tnet_keras.datasets.resizing import random_resize, random_resize_as_released
from tnet_keras.datasets.warp import random_translation_rotation


class Augmentation(NamedTuple):
    """What happens to a training image: crop, resize, flip, distort, in this order.

    Fields:
        crop: bool, whether a part of 85 to 100 % of the area, aspect ratio 0.5 to 2, is cut out.
        uses_boxes: bool, whether the crop keeps the objects of the data set in view; else the
            whole image is the object.
        resize: function of image, size and seed that returns a float32 image; None: bilinear.
        flip: bool, whether half of the images are mirrored left to right.
        distort: function of a float32 image, range 0 to 255, and a seed; None: nothing.
    """

    crop: bool = True
    uses_boxes: bool = False
    resize: Callable | None = None
    flip: bool = True
    distort: Callable | None = None


def _traffic(image, seed):
    shift_seed, contrast_seed = tf.unstack(tf.random.split(seed, 2))
    # Published: up to 100 of 960 pixels.
    return random_contrast(random_shift_with_black(image, shift_seed, 100 / 960), contrast_seed)


#: The recipes by name. Those of TNet, of billiards and of traffic signs are published; "as
#: released" has the resize of the released code, see `random_resize_as_released`.
AUGMENTATIONS = {
    "none": Augmentation(crop=False, flip=False),
    "crop_flip": Augmentation(),
    "imagenet": Augmentation(uses_boxes=True, resize=random_resize, distort=random_color),
    "fmow": Augmentation(uses_boxes=True, resize=random_resize, distort=random_color),
    "birds": Augmentation(resize=random_resize, distort=random_translation_rotation),
    "imagenet_as_released": Augmentation(
        uses_boxes=True, resize=random_resize_as_released, distort=random_color
    ),
    "fmow_as_released": Augmentation(
        uses_boxes=True, resize=random_resize_as_released, distort=random_color
    ),
    "birds_as_released": Augmentation(
        resize=random_resize_as_released, distort=random_translation_rotation
    ),
    "randaugment": Augmentation(distort=rand_augment),
    "billiards": Augmentation(crop=False, flip=False, distort=random_shift_with_black),
    "traffic": Augmentation(crop=False, flip=False, distort=_traffic),
    "augmix": Augmentation(distort=aug_mix),
    "cutout": Augmentation(distort=cutout),
}


def find_augmentation(name):
    """The recipe of a name.

    Args:
        name: str, a key of `AUGMENTATIONS`.

    Returns:
        `Augmentation`.

    Raises:
        ValueError: if there is none of this name.
    """
    if name not in AUGMENTATIONS:
        raise ValueError(
            f"`augmentation` must be one of {tuple(AUGMENTATIONS)}. Received: augmentation={name!r}"
        )
    return AUGMENTATIONS[name]


def _seeds(seed):
    """Seeds of crop, flip, resize and distortion."""
    seed = tf.cast(seed, tf.int64)
    return [
        *tf.unstack(tf.random.split(seed, 2)),
        *tf.unstack(tf.random.split(tf.random.fold_in(seed, 1), 2)),
    ]


def choose_window(size, seed, recipe, boxes=None):
    """Draws the part of an image that a recipe looks at.

    Args:
        size: `[2]` int32, (height, width) in pixels.
        seed: `[2]` integers, as of `finish_image`.
        recipe: `Augmentation`.
        boxes: None or `[N, 4]` float32 (y0, x0, y1, x1), fractions of height and width in [0, 1].

    Returns:
        `[4]` int32, (y, x, height, width) in pixels: all of the image where nothing is cut.
    """
    if not recipe.crop:
        return tf.stack([0, 0, size[0], size[1]])
    if boxes is not None and recipe.uses_boxes:
        boxes = boxes * tf.cast(tf.gather(size, [0, 1, 0, 1]), tf.float32)
    else:
        boxes = None
    return crop_window(size, _seeds(seed)[0], boxes)


def finish_image(image, image_size, seed=None, recipe=AUGMENTATIONS["none"]):
    """Resizes one image, which has been cropped, and does the rest of a recipe.

    Args:
        image: `[h, w, 3]` uint8.
        image_size: (height, width), pixels.
        seed: `[2]` integers; None: the image is only resized.
        recipe: `Augmentation`.

    Returns:
        `[height, width, 3]` uint8, rounded and clipped to 0 to 255.
    """
    resized = None
    if seed is not None:
        _, flip_seed, resize_seed, distort_seed = _seeds(seed)
        if recipe.resize:
            resized = recipe.resize(image, image_size, resize_seed)
    if resized is None:
        resized = tf.image.resize(image, image_size, method="bilinear", antialias=False)
    if seed is not None and recipe.flip:
        resized = tf.image.stateless_random_flip_left_right(resized, flip_seed)
    if seed is not None and recipe.distort:
        resized = recipe.distort(resized, distort_seed)
    return tf.cast(tf.round(tf.clip_by_value(resized, 0.0, 255.0)), tf.uint8)


def prepare_image(image, image_size, seed=None, augmentation="crop_flip", boxes=None):
    """Makes the model's input of one decoded image; with a seed, augments it.

    Args:
        image: `[h, w, 3]` uint8.
        image_size: (height, width), pixels; the aspect ratio is not kept.
        seed: None, or a pair of integers.
        augmentation: str, a key of `AUGMENTATIONS`.
        boxes: None or `[N, 4]` float32 (y0, x0, y1, x1) of the objects, fractions of height and
            width in [0, 1].

    Returns:
        `[height, width, 3]` uint8: half-pixel centres, no antialiasing; bilinear unless the
        recipe resizes in another way.

    Raises:
        ValueError: if `augmentation` is unknown.
    """
    recipe = find_augmentation(augmentation)
    if seed is not None:
        y, x, height, width = tf.unstack(choose_window(tf.shape(image)[:2], seed, recipe, boxes))
        image = image[y : y + height, x : x + width]
    return finish_image(image, image_size, seed, recipe)
