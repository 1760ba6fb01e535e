"""The colour distortion of TNet's training on ImageNet and fMoW."""

import tensorflow as tf

#: The orders of brightness, saturation, hue and contrast; one more case changes nothing.
COLOR_ORDERS = ("bshc", "sbch", "chbs", "hscb")
_BRIGHTNESS, _HUE = 32.0 / 255.0, 0.2
_LOW, _HIGH = 0.5, 1.5


def distort_color(image, case, brightness, saturation, hue, contrast):
    """Changes the colours of one image in one of five ways, as TNet's training does.

    Brightness is x + b, saturation and hue are changed in HSV, contrast is c (x - m) + m with the
    mean m of each channel. The four follow each other in an order of `COLOR_ORDERS`; the result
    is clipped. The last case leaves the image as it is, also outside of the range.

    Args:
        image: `[H, W, 3]` uint8 or float, range 0 to 255.
        case: int or scalar int32 tensor: position in `COLOR_ORDERS`, or `len(COLOR_ORDERS)`.
        brightness: scalar, added; as a fraction of the range.
        saturation: scalar factor >= 0.
        hue: scalar in [-1, 1], turns of the colour circle.
        contrast: scalar factor.

    Returns:
        `[H, W, 3]` float32, range 0 to 255.
    """
    steps = {
        "b": lambda x: tf.image.adjust_brightness(x, brightness),
        "s": lambda x: tf.image.adjust_saturation(x, saturation),
        "h": lambda x: tf.image.adjust_hue(x, hue),
        "c": lambda x: tf.image.adjust_contrast(x, contrast),
    }
    image = tf.cast(image, tf.float32)

    def in_order(order):
        # In [0, 1], as published: the HSV of what is out of range depends on the range.
        result = image / 255.0
        for letter in order:
            result = steps[letter](result)
        return 255.0 * tf.clip_by_value(result, 0.0, 1.0)

    branches = [lambda order=order: in_order(order) for order in COLOR_ORDERS]
    return tf.switch_case(tf.convert_to_tensor(case), [*branches, lambda: image])


def random_color(image, seed):
    """`distort_color` by a uniform case of five, as published for ImageNet and fMoW.

    Brightness is uniform in +-32/255, saturation and contrast in [0.5, 1.5], hue in +-0.2.

    Args:
        image: `[H, W, 3]` uint8 or float, range 0 to 255.
        seed: `[2]` integers; the same seed gives the same colours.

    Returns:
        `[H, W, 3]` float32, range 0 to 255.
    """
    case_seed, factor_seed = tf.unstack(tf.random.split(tf.cast(seed, tf.int64), 2))
    case = tf.random.stateless_uniform((), case_seed, 0, len(COLOR_ORDERS) + 1, tf.int32)
    low = tf.constant([-_BRIGHTNESS, _LOW, -_HUE, _LOW])
    high = tf.constant([_BRIGHTNESS, _HIGH, _HUE, _HIGH])
    drawn = tf.random.stateless_uniform((4,), factor_seed, low, high)
    return distort_color(image, case, *tf.unstack(drawn))
