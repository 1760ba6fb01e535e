"""Guarded decoding of images: by TensorFlow operators only, so it goes into any exported graph."""

import functools
import numbers

import tensorflow as tf

from tnet_keras.ops.animations import (
    first_gif_frame,
    first_webp_frame,
    is_animated_webp,
    on_canvas,
)
from tnet_keras.ops.image_headers import image_kind, image_size, jpeg_header
from tnet_keras.ops.still_images import (
    composed,
    decode_palette_bitmap,
    decode_still,
    oriented,
)

DECODE_STATUSES = (
    "ok",
    "empty",
    "too many bytes",
    "unknown format",
    "too many pixels",
    "broken or truncated",
)
MAX_PIXELS = 2**26  # 8192 × 8192
MAX_BYTES = 2**26
WHITE = (255, 255, 255)
_OK, _EMPTY, _TOO_MANY_BYTES, _UNKNOWN, _TOO_MANY_PIXELS, _BROKEN = range(len(DECODE_STATUSES))


def decode_image(contents, max_pixels=MAX_PIXELS, max_bytes=MAX_BYTES, background=WHITE):
    """Decodes one JPEG, PNG, GIF, BMP or WebP file; whatever the bytes are, it does not raise.

    The kind is read from the contents and the size from the header, before anything is decoded.
    Of an animation it is the first frame. Greys become RGB; 16 bit become 8; CMYK becomes RGB;
    transparency is composed onto a background (white, as a browser's page); the orientation that
    Exif gives a JPEG file is applied, that of other kinds is not. A colour that a PNG file without
    alpha channel declares transparent is kept as it is.

    Works eagerly, in `tf.data`, and inside a SavedModel. Where TensorFlow's operators raise, they
    do so inside a data set of one element that ignores errors, which is part of the graph.

    Memory: at most 3 · `max_pixels` · 3 bytes, and twice the file. TensorFlow's allocator rounds up
    and keeps what it took for the next image.

    Args:
        contents: scalar string tensor, the bytes of the file.
        max_pixels: int ≥ 1, largest height · width. JPEG of four components (CMYK) may have 3/4 of
            it, as it needs more memory for each.
        max_bytes: int ≥ 1, longest file.
        background: (red, green, blue), 0–255.

    Returns:
        `(image, status)`: uint8 `[H, W, 3]` RGB, one black pixel where the status is not 0; int32
        scalar, the position in `DECODE_STATUSES`.

    Raises:
        ValueError: If `contents` is no scalar string, or another argument is outside its range.

    Example:
        image, status = decode_image(tf.io.encode_png(tf.zeros((4, 6, 3), tf.uint8)))
        assert image.shape == (4, 6, 3) and DECODE_STATUSES[status] == "ok"
        image, status = decode_image(b"no image")
        assert image.shape == (1, 1, 3) and DECODE_STATUSES[status] == "unknown format"
    """
    contents = tf.convert_to_tensor(contents)
    if contents.dtype != tf.string or contents.shape.rank not in (0, None):
        raise ValueError(
            "`contents` must be a scalar string. "
            f"Received: contents of dtype {contents.dtype.name}, shape {contents.shape}"
        )
    for name, value in (("max_pixels", max_pixels), ("max_bytes", max_bytes)):
        if not isinstance(value, numbers.Integral) or value < 1:
            raise ValueError(f"`{name}` must be an integer of at least 1. Received: {name}={value}")
    background = tuple(background)
    if len(background) != 3 or not all(
        isinstance(value, numbers.Integral) and 0 <= value <= 255 for value in background
    ):
        raise ValueError(
            f"`background` must be three integers in 0-255. Received: background={background}"
        )
    # All limits are tensors: one trace (some seconds) serves every eager call.
    limits = tf.constant(max_pixels, tf.int64), tf.constant(max_bytes, tf.int64)
    image, status = _guard()(contents, *limits, tf.constant(background, tf.uint8))
    return tf.ensure_shape(image, [None, None, 3]), status


def _guarded(contents, max_pixels, max_bytes, background):
    """`decode_image` of tensors: the limits int64, the background uint8 `[3]`."""

    def nothing(status):
        return tf.zeros([1, 1, 3], tf.uint8), tf.constant(status, tf.int32)

    def checked(image):
        """The image and its status; an empty one is what is left of a failure."""
        broken = tf.equal(tf.shape(image)[0], 0)
        return tf.cond(broken, lambda: nothing(_BROKEN), lambda: (image, tf.constant(_OK)))

    def if_small(size, limit, image):
        # Four bytes a side: the product may overflow int64, the sides do not.
        fits = tf.reduce_all(size <= limit) & (tf.reduce_prod(size) <= limit)
        return tf.cond(fits, lambda: checked(image()), lambda: nothing(_TOO_MANY_PIXELS))

    def jpeg(contents):
        size, orientation = jpeg_header(contents)

        def decode(contents):
            # What decodes the image has to read the same size: no second opinion to exploit.
            read = tf.io.extract_jpeg_shape(contents, tf.int64)
            check = tf.debugging.assert_equal(read, size)
            with tf.control_dependencies([check]):
                return decode_still(tf.identity(contents))

        def image():
            return oriented(composed(_attempt(decode, contents), background), orientation)

        limit = tf.where(size[2] > 3, max_pixels * 3 // 4, max_pixels)
        return if_small(size[:2], limit, image)

    def still(contents, kind):
        def image():
            return composed(_attempt(decode_still, contents), background)

        return if_small(image_size(contents, kind), max_pixels, image)

    def animation(contents, kind, first_frame):
        frame, place = _attempt_frame(first_frame, contents)
        # As in other readers, a frame that reaches beyond the canvas enlarges it.
        canvas = tf.cast(image_size(contents, kind), tf.int32)
        canvas = tf.maximum(canvas, place[:2] + place[2:])

        def image():
            drawn = composed(_attempt(decode_still, frame), background)
            return tf.cond(
                tf.equal(tf.shape(drawn)[0], 0),
                lambda: drawn,
                lambda: on_canvas(drawn, place, canvas, background),
            )

        return if_small(tf.cast(canvas, tf.int64), max_pixels, image)

    def gif(contents, kind):
        return animation(contents, kind, lambda contents: first_gif_frame(contents, background))

    def webp(contents, kind):
        return tf.cond(
            is_animated_webp(contents),
            lambda: animation(contents, kind, first_webp_frame),
            lambda: still(contents, kind),
        )

    def bitmap(contents, kind):
        def decode(contents):
            bits = tf.io.decode_raw(tf.strings.substr(contents, 28, 1), tf.uint8)[0]
            return tf.cond(
                bits <= 8,
                lambda: decode_palette_bitmap(contents),
                # By definition the fourth byte of a BMP file is no alpha.
                lambda: decode_still(contents)[..., :3],
            )

        return if_small(image_size(contents, kind), max_pixels, lambda: _attempt(decode, contents))

    def known(contents, kind):
        others = [still, gif, bitmap, webp]
        branches = [lambda: jpeg(contents)]
        branches += [functools.partial(branch, contents, kind) for branch in others]
        return tf.switch_case(kind, branches)

    def of_fair_length(contents):
        kind = image_kind(contents)
        return tf.cond(kind < 0, lambda: nothing(_UNKNOWN), lambda: known(contents, kind))

    length = tf.cast(tf.strings.length(contents), tf.int64)
    # Negative: beyond what a 32 bit length counts.
    too_long = (length > max_bytes) | (length < 0)
    return tf.case(
        [
            (tf.equal(length, 0), lambda: nothing(_EMPTY)),
            (too_long, lambda: nothing(_TOO_MANY_BYTES)),
        ],
        default=lambda: of_fair_length(contents),
    )


@functools.cache
def _guard():
    specs = [tf.TensorSpec([], tf.string), *[tf.TensorSpec([], tf.int64)] * 2]
    specs.append(tf.TensorSpec([3], tf.uint8))
    return tf.function(_guarded, input_signature=specs, autograph=False)


def _attempt(decode, contents):
    """Pixels from `decode(contents)`, or uint8 `[0, 0, 3]` where an operator in it raises.

    A graph has no `try`. A data set of one element that ignores errors is one, and it is made of
    operators that go into a SavedModel.
    """
    return _first_of(decode, contents, tf.zeros([0, 0, 3], tf.uint8))


def _attempt_frame(first_frame, contents):
    """`first_frame(contents)`, or an empty string in no place."""
    nowhere = tf.constant(b""), tf.zeros([4], tf.int32)
    return _first_of(first_frame, contents, nowhere)


def _first_of(function, contents, fallback):
    results = tf.data.Dataset.from_tensors(contents).map(function).ignore_errors()
    results = results.concatenate(tf.data.Dataset.from_tensors(fallback))
    return results.take(1).get_single_element()
