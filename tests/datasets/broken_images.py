"""Image files of every odd kind, good and bad, for the tests of reading."""

import io

import numpy as np
from PIL import Image


def picture(number, size=(24, 18)):
    """A small smooth picture, (width, height) `size`."""
    pixels = np.random.default_rng(number).integers(0, 256, (3, 4, 3)).astype(np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)


def encoded(image, kind, **arguments):
    """The bytes of a picture as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **arguments)
    return buffer.getvalue()


def rotated_by_exif(image):
    """A JPEG whose Exif orientation says: turn by 90 degrees."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(image, "JPEG", quality=95, subsampling=0, exif=exif)


def good_files():
    """Dict from names to (bytes, expected picture)."""
    plain, grey = picture(1), picture(2).convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    palette, alpha = picture(3).convert("P"), picture(4).convert("RGBA")
    alpha.putalpha(Image.fromarray(np.uint8([[255, 0]])).resize(alpha.size, 0))
    white = Image.new("RGBA", alpha.size, "white")
    return {
        "plain.jpg": (encoded(plain, "JPEG", quality=95, subsampling=0), plain),
        "grey.jpg": (encoded(grey, "JPEG", quality=95), grey),
        "cmyk.jpg": (encoded(plain.convert("CMYK"), "JPEG", quality=95), plain),
        "turned.jpg": (rotated_by_exif(plain), plain.transpose(Image.Transpose.ROTATE_270)),
        "deep.png": (encoded(deep, "PNG"), grey),
        "palette.png": (encoded(palette, "PNG"), palette),
        "palette.bmp": (encoded(palette, "BMP"), palette),
        "alpha.png": (encoded(alpha, "PNG"), Image.alpha_composite(white, alpha)),
        "größe ぞう.png": (encoded(plain, "PNG"), plain),
    }


def bad_files():
    """Dict from names to (bytes, what is wrong with them)."""
    whole = encoded(picture(5, (60, 40)), "JPEG")
    return {
        "empty.jpg": (b"", "empty"),
        "text.jpg": (b"this is no image", "unknown format"),
        "cut.jpg": (whole[: len(whole) // 2], "broken or truncated"),
    }
