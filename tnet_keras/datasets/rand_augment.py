"""RandAugment (Cubuk et al., 2020): keras-cv's operations, chosen by numbers that can be repeated.

`keras_cv.layers.RandAugment` draws from generators with a state of their own. With parallel reads
the images of a stream would get other numbers in each run, and a stream could not be resumed.
Here each number is a function of the seed, and the layers of keras-cv only do what it says.
"""

import functools

import tensorflow as tf

_AUGMENTATIONS, _RATE = 3, 10.0 / 11.0  # The defaults of keras-cv.
_LARGEST_ADDITION = 110.0  # More would solarise an image to almost nothing.
_RANGE = (0, 255)


@functools.cache
def keras_cv_layers():
    """Layers of keras-cv by name; they hold variables, so they are not made inside a graph.

    Returns:
        dict of keras-cv layers. Their `augment_images` takes the numbers that they would draw.
    """
    # Imported here: it takes half a second that others need not pay.
    from keras_cv import layers

    with tf.init_scope():
        return {
            "auto_contrast": layers.AutoContrast(value_range=_RANGE, dtype="float32"),
            "equalize": layers.Equalization(value_range=_RANGE, dtype="float32"),
            "solarize": layers.Solarization(value_range=_RANGE, dtype="float32"),
            "color": layers.RandomColorDegeneration(factor=0.5, dtype="float32"),
            "contrast": layers.RandomContrast(value_range=_RANGE, factor=0.5, dtype="float32"),
            "brightness": layers.RandomBrightness(factor=0.5, value_range=_RANGE, dtype="float32"),
            "shear": layers.RandomShear(x_factor=0.5, y_factor=0.5, dtype="float32"),
            "translate": layers.RandomTranslation(0.5, 0.5, dtype="float32"),
        }


def _operations(image, strengths, signs, uniform, magnitude):
    """Ten functions without arguments that each return the changed image, `[1, H, W, 3]`."""
    layers = keras_cv_layers()
    first, second = strengths[0], strengths[1]
    batch = (1, 1, 1, 1)
    none = tf.zeros((1, 1))

    def apply(name, transformations=None):
        return lambda: layers[name].augment_images(image, transformations=transformations)

    moved = tf.reshape(magnitude * uniform, (1, 1))
    return [
        apply("auto_contrast"),
        apply("equalize"),
        apply(
            "solarize",
            {
                "additions": tf.reshape(_LARGEST_ADDITION * first, batch),
                "thresholds": tf.reshape(255.0 * (1.0 - second), batch),
            },
        ),
        apply("color", tf.reshape(first, batch)),
        apply("contrast", tf.reshape(1.0 + magnitude * uniform, batch)),
        apply("brightness", tf.reshape(255.0 * magnitude * uniform, batch)),
        apply("shear", {"shear_x": tf.reshape(signs * first, (1, 1)), "shear_y": None}),
        apply("shear", {"shear_x": None, "shear_y": tf.reshape(signs * first, (1, 1))}),
        apply("translate", {"height_translations": none, "width_translations": moved}),
        apply("translate", {"height_translations": moved, "width_translations": none}),
    ]


def rand_augment(image, seed, magnitude=0.5, magnitude_stddev=0.15):
    """Changes one image by up to three of ten operations, each with probability 10/11.

    Operations and strengths are those of `keras_cv.layers.RandAugment`: contrast stretched to the
    full range, histogram equalised, solarised, less colour, contrast, brightness, sheared along x
    or y, moved along x or y.

    Args:
        image: `[H, W, 3]` uint8 or float, range 0 to 255.
        seed: `[2]` integers; the same seed gives the same image.
        magnitude: float in [0, 1], how strong the operations are.
        magnitude_stddev: float in [0, 1], how much the strength varies.

    Returns:
        `[H, W, 3]` float32, range 0 to 255.

    Raises:
        ValueError: if `magnitude` or `magnitude_stddev` is out of range.
    """
    for name, value in (("magnitude", magnitude), ("magnitude_stddev", magnitude_stddev)):
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"`{name}` must be in [0, 1]. Received: {name}={value}")
    shape = image.shape
    image = tf.clip_by_value(tf.cast(image, tf.float32), 0.0, 255.0)[None]
    seeds = tf.random.split(tf.cast(seed, tf.int64), 4 * _AUGMENTATIONS)
    seeds = tf.reshape(seeds, (_AUGMENTATIONS, 4, 2))

    def step(number, image):
        choice_seed, normal_seed, uniform_seed, rate_seed = tf.unstack(seeds[number])
        normal = tf.random.stateless_normal((2,), normal_seed, magnitude, magnitude_stddev)
        uniform = tf.random.stateless_uniform((2,), uniform_seed, -1.0, 1.0)
        operations = _operations(
            image, tf.clip_by_value(normal, 0.0, 1.0), tf.where(uniform[1] < 0.0, -1.0, 1.0),
            uniform[0], magnitude,
        )  # fmt: skip
        choice = tf.random.stateless_uniform((), choice_seed, 0, len(operations), tf.int32)
        applied = tf.random.stateless_uniform((), rate_seed) < _RATE
        choice = tf.where(applied, choice, len(operations))
        image = tf.switch_case(choice, [*operations, lambda: image])
        return number + 1, tf.ensure_shape(image, (1, *shape))

    # A loop, so that a graph holds the operations once.
    _, image = tf.while_loop(lambda number, _: number < _AUGMENTATIONS, step, (0, image))
    return tf.clip_by_value(image[0], 0.0, 255.0)
