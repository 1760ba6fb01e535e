"""First frames of animations, found without decoding any, and their place on the canvas."""

import tensorflow as tf

from tnet_keras.ops.image_headers import bytes_at, number

# A GIF encoder fills its blocks with 255 bytes: enough for 32 MB, and little work for hostile ones.
_MOST_BLOCKS, _MOST_EXTENSIONS = 2**17, 64
_SINGLE_BYTES = [bytes([value]) for value in range(256)]


def first_gif_frame(contents, background):
    """A GIF file of the first frame only, so that no other frame is ever decoded.

    Args:
        contents: scalar string, a GIF file of any number of frames.
        background: uint8 `[3]`, for the transparent index.

    Returns:
        `(frame, place)`: scalar string, a GIF file whose canvas is the frame; int32 `[4]`,
        `(top, left, height, width)` of the frame on the canvas of `contents`.
    """
    screen = bytes_at(contents, 10, 1)[0]

    def palette_bytes(packed):
        return tf.where(packed >= 128, 3 * tf.bitwise.left_shift(2, packed & 7), 0)

    def is_extension(step, position, transparent):
        return (step < _MOST_EXTENSIONS) & (bytes_at(contents, position, 1)[0] == 0x21)

    def skip_extension(step, position, transparent):
        head = bytes_at(contents, position, 7)
        control = head[1] == 0xF9  # a Graphic Control Extension
        own = tf.where(head[3] & 1 == 1, head[6], -1)
        return (
            step + 1,
            _end_of_blocks(contents, position + 2),
            tf.where(control, own, transparent),
        )

    start = 13 + palette_bytes(screen)
    _, position, transparent = tf.while_loop(
        is_extension, skip_extension, [0, start, tf.constant(-1)]
    )
    head = bytes_at(contents, position, 10)
    with tf.control_dependencies(
        [tf.debugging.assert_equal(head[0], 0x2C, "no image in the GIF file")]
    ):
        packed = tf.identity(head[9])
    size_of_own = palette_bytes(packed)
    palette_start = tf.where(size_of_own > 0, position + 10, 13)
    palette_size = tf.where(size_of_own > 0, size_of_own, palette_bytes(screen))
    exponent = tf.where(size_of_own > 0, packed, screen) & 7
    palette = tf.strings.substr(contents, palette_start, palette_size)
    palette = tf.reshape(tf.io.decode_raw(palette, tf.uint8), [-1, 3])
    replaced = (tf.range(tf.shape(palette)[0]) == transparent)[:, None]
    palette = tf.where(replaced, background, palette)
    data_start = position + 10 + size_of_own
    data_end = _end_of_blocks(contents, data_start + 1)
    data = tf.strings.substr(contents, data_start, data_end - data_start)
    frame = tf.strings.join(
        [
            b"GIF89a",
            _string(head[5:9]),
            b"\0\0\0\x2c\0\0\0\0",
            _string(head[5:9]),
            _string([0x80 | (packed & 0x40) | exponent]),
            _string(tf.reshape(palette, [-1])),
            data,
            b"\x3b",
        ]
    )
    left, top, width, height = (number(head[at : at + 2]) for at in (1, 3, 5, 7))
    return frame, tf.cast(tf.stack([top, left, height, width]), tf.int32)


def is_animated_webp(contents):
    """Whether a WebP file says that it is an animation.

    Args:
        contents: scalar string, a WebP file.

    Returns:
        bool scalar.
    """
    head = bytes_at(contents, 15, 6)
    return (head[0] == ord("X")) & (head[5] & 0x02 > 0)


def first_webp_frame(contents):
    """A WebP file of the first frame of an animation; see `first_gif_frame`.

    Args:
        contents: scalar string, an animated WebP file.

    Returns:
        `(frame, place)`: scalar string, a still WebP file; int32 `[4]`, `(top, left, height,
        width)` of the frame on the canvas of `contents`.
    """

    def is_other(step, position):
        name = bytes_at(contents, position, 4)
        return (step < _MOST_EXTENSIONS) & ~tf.reduce_all(name == tf.constant(list(b"ANMF")))

    def skip(step, position):
        size = tf.cast(number(bytes_at(contents, position + 4, 4)), tf.int64)
        size = tf.cast(tf.minimum(size + size % 2, 2**30), tf.int32)
        # A sum that overflows is negative, which reads the header again: never an image.
        return step + 1, tf.maximum(position + 8 + size, 0)

    _, position = tf.while_loop(is_other, skip, [0, 12])
    head = bytes_at(contents, position, 28)
    check = tf.debugging.assert_equal(head[:4], list(b"ANMF"), "no frame in the WebP file")
    with tf.control_dependencies([check]):
        size = tf.cast(number(head[4:8]) - 16, tf.int32)
    data = tf.strings.substr(contents, position + 24, size)
    has_alpha = tf.reduce_all(head[24:28] == tf.constant(list(b"ALPH")))
    # The decoder refuses a frame that is not as large as this header says.
    header = tf.strings.join(
        [
            b"WEBPVP8X\x0a\0\0\0",
            _string([tf.where(has_alpha, 0x10, 0)]),
            b"\0\0\0",
            _string(head[14:20]),
        ]
    )
    total = tf.strings.length(header) + tf.strings.length(data)
    digits = tf.stack([total // 256**place % 256 for place in range(4)])
    frame = tf.strings.join([b"RIFF", _string(digits), header, data])
    left, top, width, height = (number(head[at : at + 3]) for at in (8, 11, 14, 17))
    return frame, tf.cast(tf.stack([2 * top, 2 * left, height + 1, width + 1]), tf.int32)


def on_canvas(frame, place, canvas, background):
    """Puts a frame onto its canvas.

    Args:
        frame: uint8 `[h, w, 3]`.
        place: int32 `[4]`, `(top, left, h, w)`.
        canvas: int32 `[2]`, `(H, W)`; the frame lies within.
        background: uint8 `[3]`, of all other pixels.

    Returns:
        uint8 `[H, W, 3]`.
    """
    after = canvas - place[:2] - place[2:]
    pads = tf.stack([tf.stack([place[0], after[0]]), tf.stack([place[1], after[1]]), [0, 0]])
    # `tf.pad` fills with one value: colours are shifted (modulo 256) so that it is 0, and back.
    return tf.pad(frame - background, pads) + background


def _end_of_blocks(contents, position):
    """Position behind a chain of GIF sub-blocks: length, bytes, length, bytes, …, 0."""

    def goes_on(step, position, length):
        return length > 0

    def skip(step, position, length):
        # Behind the end of the file this raises.
        byte = tf.io.decode_raw(tf.strings.substr(contents, position, 1), tf.uint8)[0]
        length = tf.cast(byte, tf.int32)
        return step + 1, position + 1 + length, length

    _, position, length = tf.while_loop(
        goes_on, skip, [0, position, tf.constant(1)], maximum_iterations=_MOST_BLOCKS
    )
    check = tf.debugging.assert_equal(length, 0, "too many blocks in the GIF file")
    with tf.control_dependencies([check]):
        return tf.identity(position)


def _string(values):
    return tf.strings.reduce_join(tf.gather(tf.constant(_SINGLE_BYTES), tf.cast(values, tf.int32)))
