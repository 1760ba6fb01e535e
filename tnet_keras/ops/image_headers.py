"""What the first bytes of an image file say: its kind, size and orientation. Nothing is decoded."""

import tensorflow as tf

IMAGE_KINDS = ("JPEG", "PNG", "GIF", "BMP", "WebP")
_EXIF = (*b"Exif", 0, 0)
# Colour profiles and previews fill some tens of segments at most; Exif has some 20 entries.
_MOST_SEGMENTS, _MOST_ENTRIES = 1024, 128


def bytes_at(contents, start, count):
    """Some bytes of a string; what lies behind its end reads as 0.

    Args:
        contents: scalar string.
        start: int32 scalar, position of the first.
        count: int, how many, static.

    Returns:
        int32 `[count]`, 0–255.
    """
    start = tf.clip_by_value(start, 0, tf.strings.length(contents))
    piece = tf.strings.join([tf.strings.substr(contents, start, count), tf.constant(b"\0" * count)])
    piece = tf.io.decode_raw(tf.strings.substr(piece, 0, count), tf.uint8)
    return tf.cast(tf.ensure_shape(piece, [count]), tf.int32)


def number(digits, order="little"):
    """A whole number from its bytes.

    Args:
        digits: int32 `[n]`, n ≤ 4 bytes, 0–255.
        order: "little" or "big", the end that comes first.

    Returns:
        int64 scalar, without sign.
    """
    places = [256**place for place in range(digits.shape[0])]
    if order == "big":
        places.reverse()
    return tf.reduce_sum(tf.cast(digits, tf.int64) * tf.constant(places, tf.int64))


def image_kind(contents):
    """Which kind of file it is, by its contents.

    A BMP file counts only where its pixels can be read right: 24 or 32 bit without compression, or
    a palette of 1, 4 or 8 bit without compression.

    Args:
        contents: scalar string.

    Returns:
        int32 scalar, the position in `IMAGE_KINDS`, or -1.
    """
    first = bytes_at(contents, 0, 34)

    def starts(text, at=0):
        return tf.reduce_all(first[at : at + len(text)] == tf.constant(list(text)))

    bits, compression = number(first[28:30]), number(first[30:34])
    readable = (number(first[14:18]) >= 40) & (compression == 0)
    readable &= tf.reduce_any(bits == tf.constant([1, 4, 8, 24, 32], tf.int64))
    found = [
        starts(b"\xff\xd8\xff"),
        starts(b"\x89PNG\r\n\x1a\n") & starts(b"IHDR", 12),
        starts(b"GIF87a") | starts(b"GIF89a"),
        starts(b"BM") & readable,
        starts(b"RIFF") & starts(b"WEBPVP8", 8),
    ]
    kinds = tf.where(tf.stack(found), tf.range(len(IMAGE_KINDS)), -1)
    return tf.reduce_max(kinds)


def image_size(contents, kind):
    """Height and width as the header gives them, of all kinds but JPEG.

    Args:
        contents: scalar string.
        kind: int32 scalar, from `image_kind`, neither JPEG nor -1.

    Returns:
        int64 `[2]`, height and width in pixels. Of a GIF file it is the canvas.
    """
    first = bytes_at(contents, 0, 30)

    def png():
        return number(first[20:24], "big"), number(first[16:20], "big")

    def gif():
        return number(first[8:10]), number(first[6:8])

    def bmp():
        height = number(first[22:26])
        top_down = height >= 2**31  # negative: rows from top to bottom
        return tf.where(top_down, 2**32 - height, height), number(first[18:22])

    def webp():
        lossy = number(first[28:30]) & 0x3FFF, number(first[26:28]) & 0x3FFF
        bits = number(first[21:25])
        lossless = ((bits // 2**14) & 0x3FFF) + 1, (bits & 0x3FFF) + 1
        extended = number(first[27:30]) + 1, number(first[24:27]) + 1
        letter = first[15]  # of "VP8 ", "VP8L", "VP8X"
        size = tf.where(letter == ord("L"), tf.stack(lossless), tf.stack(lossy))
        return tf.where(letter == ord("X"), tf.stack(extended), size)

    sizes = [lambda size=size: tf.stack(size()) for size in (png, gif, bmp, webp)]
    return tf.ensure_shape(tf.switch_case(kind - 1, sizes), [2])


def jpeg_header(contents):
    """Walks the segments of a JPEG file up to its frame header.

    Args:
        contents: scalar string, a JPEG file.

    Returns:
        `(size, orientation)`: int64 `[3]`, height and width as stored in pixels and number of
        components, zeros if no frame header is found; int32 scalar 1–8, what Exif says, see
        `oriented` (1 where it says nothing, or nonsense).
    """

    def goes_on(step, position, exif, frame):
        return (step < _MOST_SEGMENTS) & (position > 0) & (frame == 0)

    def next_segment(step, position, exif, frame):
        head = bytes_at(contents, position, 10)
        marker = head[1]
        is_exif = (marker == 0xE1) & tf.reduce_all(head[4:] == tf.constant(_EXIF))
        # 0xC4, 0xC8 and 0xCC are tables and an extension; the others of this row are frames.
        is_frame = (marker >= 0xC0) & (marker <= 0xCF) & (marker % 4 != 0)
        is_frame |= marker == 0xC0
        # Behind start of scan (0xDA) there are pixels, behind end of image (0xD9) nothing.
        ends = (head[0] != 0xFF) | (marker == 0xDA) | (marker == 0xD9)
        alone = (marker == 0x01) | ((marker >= 0xD0) & (marker <= 0xD8))
        length = tf.where(alone, 2, 2 + head[2] * 256 + head[3])
        length = tf.where(marker == 0xFF, 1, length)  # 0xFF may fill up
        return (
            step + 1,
            tf.where(ends, 0, position + length),
            tf.where(~ends & is_exif & (exif == 0), position + 10, exif),
            tf.where(~ends & is_frame, position, frame),
        )

    _, _, exif, frame = tf.while_loop(goes_on, next_segment, [0, 2, 0, 0])
    head = bytes_at(contents, frame + 4, 6)  # bits, height, height, width, width, components
    size = tf.stack([number(head[1:3], "big"), number(head[3:5], "big"), number(head[5:])])
    size = tf.where(frame > 0, size, 0)
    orientation = tf.cond(
        exif > 0, lambda: _tiff_orientation(contents, exif), lambda: tf.constant(1)
    )
    return size, orientation


def _tiff_orientation(contents, start):
    """The value of tag 0x0112 in the first directory of the TIFF structure that starts there."""
    head = bytes_at(contents, start, 8)
    big = head[0] == ord("M")

    def read(digits):
        return tf.where(big, number(digits, "big"), number(digits))

    offset = tf.cast(tf.minimum(read(head[4:8]), 2**24), tf.int32)
    count = read(bytes_at(contents, start + offset, 2))
    entries = bytes_at(contents, start + offset + 2, 12 * _MOST_ENTRIES)
    entries = tf.reshape(entries, [_MOST_ENTRIES, 12])

    def pair(at):
        first, second = entries[:, at], entries[:, at + 1]
        return tf.where(big, first * 256 + second, second * 256 + first)

    # A number of four bytes (type 4) has its small end last where the order is big-endian.
    tag, value = pair(0), tf.where(big & (pair(2) == 4), pair(10), pair(8))
    ours = (tag == 0x0112) & (tf.range(_MOST_ENTRIES) < tf.cast(count, tf.int32))
    ours &= (value >= 1) & (value <= 8)
    return tf.where(tf.reduce_any(ours), tf.reduce_max(tf.where(ours, value, 0)), 1)
