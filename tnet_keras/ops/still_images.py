"""From the bytes of one image file of a known kind to RGB pixels. Broken bytes raise."""

import tensorflow as tf

from tnet_keras.ops.image_headers import bytes_at, number

_COMPOSED_AT_ONCE = 2**18  # pixels


def decode_still(contents):
    """Pixels of a JPEG, PNG or WebP file, of a BMP file without palette or of a GIF file.

    Args:
        contents: scalar string; no animation: TensorFlow 2.21 aborts the process on some in WebP.

    Returns:
        uint8 `[H, W, C]`: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha. Values of 16 bit keep
        their upper 8; CMYK is converted.
    """
    pixels = tf.raw_ops.DecodeImage(
        contents=contents, channels=0, dtype=tf.uint8, expand_animations=False
    )
    return tf.ensure_shape(pixels, [None, None, None])


def decode_palette_bitmap(contents):
    """Pixels of an uncompressed BMP file with a palette; TensorFlow takes the indices for greys.

    Args:
        contents: scalar string, of 1, 4 or 8 bit.

    Returns:
        uint8 `[H, W, 3]`.
    """
    head = bytes_at(contents, 0, 54)
    start, header, width, height, bits, colours = (
        tf.cast(number(head[at : at + size]), tf.int64)
        for at, size in ((10, 4), (14, 4), (18, 4), (22, 4), (28, 2), (46, 4))
    )
    top_down = height >= 2**31
    height = tf.where(top_down, 2**32 - height, height)
    colours = tf.where(colours == 0, 2**bits, tf.minimum(colours, 256))
    palette = tf.io.decode_raw(tf.strings.substr(contents, 14 + header, 4 * colours), tf.uint8)
    palette = tf.reshape(palette, [-1, 4])[:, 2::-1]  # blue, green, red, unused
    row = (width * bits + 31) // 32 * 4  # bytes; each row is filled up to 32 bit
    rows = tf.io.decode_raw(tf.strings.substr(contents, start, row * height), tf.uint8)
    rows = tf.reshape(rows, [height, row, 1])
    bits = tf.cast(bits, tf.uint8)
    shifts = tf.cast(8 - tf.range(tf.cast(bits, tf.int32), 9, tf.cast(bits, tf.int32)), tf.uint8)
    mask = tf.bitwise.right_shift(tf.constant(255, tf.uint8), 8 - bits)
    indices = tf.bitwise.bitwise_and(tf.bitwise.right_shift(rows, shifts), mask)
    indices = tf.reshape(indices, [height, -1])[:, :width]
    pixels = tf.gather(palette, tf.cast(indices, tf.int32))
    return tf.cond(top_down, lambda: pixels, lambda: tf.reverse(pixels, [0]))


def composed(pixels, background):
    """RGB of an image that may be grey and may have an alpha channel.

    Args:
        pixels: uint8 `[H, W, C]`, C as in `decode_still`.
        background: uint8 `[3]`, seen where alpha is 0.

    Returns:
        uint8 `[H, W, 3]`: alpha · colour + (1 - alpha) · background, rounded.
    """
    channels = tf.shape(pixels)[2]

    def opaque():
        grey = channels < 3
        return tf.cond(
            grey,
            lambda: tf.repeat(pixels[..., :1], 3, axis=2),
            lambda: tf.cond(channels > 3, lambda: pixels[..., :3], lambda: pixels),
        )

    def has_transparent():
        return tf.reduce_any(pixels[..., -1] < 255)

    transparent = tf.cond(
        (channels == 2) | (channels == 4), has_transparent, lambda: tf.constant(False)
    )
    image = tf.cond(transparent, lambda: _blended(pixels, background), opaque)
    return tf.ensure_shape(image, [None, None, 3])


def oriented(image, orientation):
    """Turns and mirrors an image so that its first row is the top of what was seen.

    Args:
        image: uint8 `[H, W, 3]`.
        orientation: int32 scalar 1–8 as in Exif: the stored first row and column are 1 top, left;
            2 top, right; 3 bottom, right; 4 bottom, left; 5 left, top; 6 right, top; 7 right,
            bottom; 8 left, bottom.

    Returns:
        uint8 `[H, W, 3]`, or `[W, H, 3]` for 5–8.
    """

    def one_of(*values):
        return tf.reduce_any(orientation == tf.constant(values))

    def if_needed(condition, change, image):
        return tf.cond(condition, lambda: change(image), lambda: image)

    image = if_needed(orientation >= 5, lambda x: tf.transpose(x, [1, 0, 2]), image)
    image = if_needed(one_of(3, 4, 7, 8), lambda x: tf.reverse(x, [0]), image)
    image = if_needed(one_of(2, 3, 6, 7), lambda x: tf.reverse(x, [1]), image)
    return tf.ensure_shape(image, [None, None, 3])


def _blended(pixels, background):
    """Blends some rows at a time: at no moment is the whole image there in a wider dtype."""
    height, width = tf.shape(pixels)[0], tf.shape(pixels)[1]
    at_once = tf.maximum(1, _COMPOSED_AT_ONCE // width)
    pieces = (height + at_once - 1) // at_once
    behind = tf.cast(background, tf.int32)

    def blend(index, blended):
        rows = tf.cast(pixels[index * at_once : (index + 1) * at_once], tf.int32)
        colours, alpha = rows[..., :-1], rows[..., -1:]
        rows = (colours * alpha + behind * (255 - alpha) + 127) // 255
        return index + 1, blended.write(index, tf.cast(rows, tf.uint8))

    empty = tf.TensorArray(tf.uint8, size=pieces, infer_shape=False, element_shape=[None, None, 3])
    _, blended = tf.while_loop(
        lambda index, _: index < pieces, blend, [0, empty], parallel_iterations=1
    )
    return blended.concat()
