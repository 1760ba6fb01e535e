"""Files for the decoder: of any picture, and small ones of large images that would decode."""

import io
import struct
import zlib

import numpy as np


def encoded(image, kind, **options):
    """Bytes of an image file."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def chunk(name, data):
    """One chunk of a PNG file."""
    checksum = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)


def black_png(height, width):
    """A PNG file of black pixels, one bit each."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(height * (1 + (width + 7) // 8)), 1)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def grey_jpeg(height, width):
    """A JPEG file of grey pixels (128), a quarter of a byte for every 8 × 8 of them.

    Its Huffman tables have one symbol each, "no difference" and "end of block", as the bit 0.
    """

    def segment(marker, data):
        return bytes([0xFF, marker]) + struct.pack(">H", 2 + len(data)) + data

    only_zero = bytes([1]) + bytes(15) + bytes([0])
    blocks = -(-height // 8) * -(-width // 8)
    return (
        b"\xff\xd8"
        + segment(0xDB, bytes([0]) + bytes([1] * 64))
        + segment(0xC0, struct.pack(">BHHB", 8, height, width, 1) + bytes([1, 0x11, 0]))
        + segment(0xC4, bytes([0x00]) + only_zero)
        + segment(0xC4, bytes([0x10]) + only_zero)
        + segment(0xDA, bytes([1, 1, 0x00, 0, 63, 0]))
        + bytes(-(-blocks * 2 // 8))
        + b"\xff\xd9"
    )


def gif(height, width, frames=1):
    """A GIF file of frames of the first colour of four: (200, 100, 50)."""
    palette = bytes([200, 100, 50]) + bytes(9)
    screen = b"GIF89a" + struct.pack("<HH", width, height) + bytes([0x81, 0, 0]) + palette
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + _one_colour(height * width)
    return screen + frame * frames + b"\x3b"


def _one_colour(pixels):
    """Code size and sub-blocks of so many pixels of colour 0, in codes for ever longer runs."""
    clear, end, longest = 4, 5, 4000
    codes, widths, left = [], [], pixels
    while left:
        codes.append(clear)
        widths.append(12 if widths else 3)
        for place in range(1, longest + 1):
            run = min(place, left)
            # Each code that is read adds one: the pixels of the last one and one pixel more.
            codes.append(run + 4 if run > 1 else 0)
            widths.append(max(3, (place + 4).bit_length()))
            left -= run
            if not left:
                codes.append(end)
                widths.append(max(3, (place + 5).bit_length()))
                break
    bits = np.array(codes)[:, None] >> np.arange(12) & 1
    bits = bits[np.arange(12) < np.array(widths)[:, None]]
    data = np.packbits(bits.astype(np.uint8), bitorder="little").tobytes()
    blocks = [data[at : at + 255] for at in range(0, len(data), 255)]
    return bytes([2]) + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"
