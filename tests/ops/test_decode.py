"""Guarded decoding against Pillow: every kind, every orientation, and bytes of bad intent."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from tests.ops.hostile_files import encoded
from tnet_keras.ops.decode import DECODE_STATUSES, decode_image
from tnet_keras.ops.still_images import composed

KINDS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
COLOURS = Image.fromarray(PIXELS).resize((40, 30), Image.BILINEAR)
ALPHA = Image.fromarray(np.tile(np.arange(40, dtype=np.uint8) * 6, (30, 1)))


@pytest.fixture(autouse=True)
def fresh_keras():
    """Keras is not used, and clearing it would have TensorFlow prepare the graph anew."""


def decoded(contents, **options):
    """Pixels as int32, after a check of the status."""
    image, status = decode_image(contents, **options)
    assert DECODE_STATUSES[status] == "ok"
    assert image.dtype == tf.uint8
    return image.numpy().astype(np.int32)


def status_of(contents, **options):
    """Name of the status, after a check of what stands in for the image."""
    image, status = decode_image(contents, **options)
    assert (image.shape == (1, 1, 3) and not np.any(image)) or status == 0
    return DECODE_STATUSES[status]


def opened(contents):
    """What Pillow reads, as int32 RGB."""
    return np.asarray(Image.open(io.BytesIO(contents)).convert("RGB"), np.int32)


def chunk(name, data):
    """One chunk of a PNG file."""
    checksum = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)


def png_of(height, width, data=b""):
    """A PNG file of any size and little data."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP"])
def test_exact_kinds(kind, mode):
    contents = encoded(COLOURS.convert(mode), kind)
    np.testing.assert_array_equal(decoded(contents), opened(contents))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg(mode, options):
    contents = encoded(COLOURS.convert(mode), "JPEG", **options)
    assert np.abs(decoded(contents) - opened(contents)).max() <= 4  # two inverse transforms


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 80}])
def test_webp(options):
    contents = encoded(COLOURS, "WEBP", **options)
    np.testing.assert_array_equal(decoded(contents), opened(contents))


@pytest.mark.parametrize("palette", [2, 5, 16, 100])
def test_bitmaps_with_palettes_of_1_4_and_8_bit(palette):
    image = COLOURS.crop((0, 0, 37, 29)).quantize(palette)
    bits = 1 if palette == 2 else 4 if palette <= 16 else 8
    indices = np.asarray(image)
    per_byte = 8 // bits
    row_bytes = (37 * bits + 31) // 32 * 4
    rows = np.zeros((29, row_bytes * per_byte), np.uint8)
    rows[:, :37] = indices[::-1]
    shifts = 8 - bits * (1 + np.arange(per_byte))
    packed = (rows.reshape(29, row_bytes, per_byte) << shifts).sum(-1).astype(np.uint8)
    colours = np.zeros((2**bits, 4), np.uint8)
    found = np.array(image.getpalette(), np.uint8).reshape(-1, 3)[: 2**bits]
    colours[: len(found), :3] = found[:, ::-1]
    start = 54 + colours.size
    header = struct.pack("<2sIHHI", b"BM", start + packed.size, 0, 0, start)
    header += struct.pack("<IiiHHIIiiII", 40, 37, 29, 1, bits, 0, packed.size, 0, 0, 0, 0)
    contents = header + colours.tobytes() + packed.tobytes()
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(opened(contents), expected)
    np.testing.assert_array_equal(decoded(contents), expected)
    upside = contents[:22] + struct.pack("<i", -29) + contents[26:]
    np.testing.assert_array_equal(decoded(upside), expected[::-1])
    assert status_of(contents[:-1]) == "broken or truncated"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["II", "MM"])
@pytest.mark.parametrize("kind", [3, 4])  # numbers of two bytes, as it should be, and of four
def test_orientation_of_jpeg(orientation, order, kind):
    entries = [(0x010F, 2, 4, b"Cam\0"), (0x0112, kind, 1, orientation)]
    end = "<" if order == "II" else ">"
    tiff = order.encode() + struct.pack(end + "HIH", 42, 8, len(entries))
    for tag, form, count, value in entries:
        if not isinstance(value, bytes):
            value = struct.pack(end + ("H2x" if form == 3 else "I"), value)
        tiff += struct.pack(end + "HHI", tag, form, count) + value
    contents = encoded(COLOURS, "JPEG", exif=b"Exif\0\0" + tiff + b"\0" * 4)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(contents)))
    assert expected.size == ((40, 30) if orientation < 5 else (30, 40))
    result = decoded(contents)
    assert result.shape[:2] == expected.size[::-1]
    assert np.abs(result - np.asarray(expected, np.int32)).max() <= 4


@pytest.mark.parametrize("tail", [b"", b"II", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff"])
def test_nonsense_in_exif_is_no_orientation(tail):
    contents = encoded(COLOURS, "JPEG")
    data = b"Exif\0\0" + tail
    contents = contents[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(data)) + data + contents[2:]
    np.testing.assert_array_equal(decoded(contents), decoded(encoded(COLOURS, "JPEG")))


def test_cmyk_of_adobe_and_plain():
    inks = np.zeros((32, 64, 4), np.uint8)
    for column, ink in enumerate([(0, 0, 0, 0), (255, 0, 0, 0), (0, 255, 255, 0), (0, 0, 0, 200)]):
        inks[:, 16 * column : 16 * column + 16] = ink
    contents = encoded(Image.fromarray(inks, "CMYK"), "JPEG", quality=100)
    centres = decoded(contents)[16, 8::16]
    expected = [[255, 255, 255], [0, 255, 255], [255, 0, 0], [55, 55, 55]]
    np.testing.assert_allclose(centres, expected, atol=4)
    np.testing.assert_allclose(opened(contents)[16, 8::16], expected, atol=4)


@pytest.mark.parametrize("background", [(255, 255, 255), (10, 200, 0)])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_alpha_is_composed(kind, mode, background):
    image = COLOURS.convert(mode)
    image.putalpha(ALPHA)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    contents = encoded(image, kind, **options)
    behind = Image.new("RGBA", image.size, background)
    shown = Image.open(io.BytesIO(contents)).convert("RGBA")
    expected = np.asarray(Image.alpha_composite(behind, shown).convert("RGB"), np.int32)
    assert np.abs(decoded(contents, background=background) - expected).max() <= 1


def test_alpha_is_composed_in_pieces(monkeypatch):
    monkeypatch.setattr("tnet_keras.ops.still_images._COMPOSED_AT_ONCE", 28)
    pixels = np.random.default_rng(3).integers(0, 256, (11, 7, 4), np.uint8)
    alpha = pixels[..., 3:] / 255
    expected = pixels[..., :3] * alpha + np.array([9, 100, 255]) * (1 - alpha)
    found = composed(tf.constant(pixels), tf.constant([9, 100, 255], tf.uint8))
    np.testing.assert_allclose(found, expected, atol=0.51)


def test_opaque_alpha_changes_nothing():
    contents = encoded(COLOURS.convert("RGBA"), "PNG")
    np.testing.assert_array_equal(decoded(contents), np.asarray(COLOURS))


def test_transparent_palette_of_png():
    contents = encoded(COLOURS.quantize(8), "PNG", transparency=3)
    shown = Image.open(io.BytesIO(contents)).convert("RGBA")
    behind = Image.new("RGBA", shown.size, (255, 255, 255))
    expected = Image.alpha_composite(behind, shown).convert("RGB")
    np.testing.assert_array_equal(decoded(contents), np.asarray(expected))


@pytest.mark.parametrize("mode", ["I;16", "RGB"])
def test_sixteen_bit_keep_the_upper_eight(mode):
    wide = np.arange(0, 65536, 512, dtype=np.uint16).reshape(8, 16)
    if mode == "I;16":
        contents = encoded(Image.fromarray(wide), "PNG")
        expected = np.repeat(wide[..., None] >> 8, 3, axis=2)
    else:
        wide = np.stack([wide, wide[::-1], wide], axis=-1)
        contents = tf.io.encode_png(wide).numpy()
        expected = wide >> 8
    np.testing.assert_array_equal(decoded(contents), expected)


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_first_frame_of_an_animation(kind):
    frames = [COLOURS.rotate(angle) for angle in (0, 90, 180)]
    options = {"lossless": True} if kind == "WEBP" else {}
    contents = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(decoded(contents), opened(contents))


def test_a_thousand_frames_cost_one():
    image = Image.fromarray(PIXELS).quantize(16)
    frame = encoded(image, "GIF")
    many = frame[:-1] + frame[frame.index(b"\x2c", 13) : -1] * 999 + b";"
    assert Image.open(io.BytesIO(many)).n_frames == 1000
    np.testing.assert_array_equal(decoded(many), decoded(frame))


def test_gif_frame_on_a_larger_canvas_and_transparent_index():
    frame = encoded(Image.fromarray(PIXELS).quantize(16), "GIF", transparency=2)
    at = frame.index(b"\x2c", 13 + 3 * 16)
    placed = frame[: at + 1] + struct.pack("<HH", 3, 2) + frame[at + 5 :]
    placed = placed[:6] + struct.pack("<HH", 12, 9) + placed[10:]
    shown = Image.open(io.BytesIO(placed)).convert("RGBA")
    behind = Image.new("RGBA", (12, 9), (9, 8, 7))
    expected = np.asarray(Image.alpha_composite(behind, shown).convert("RGB"))
    inside = decoded(placed, background=(9, 8, 7))
    assert inside.shape == (9, 12, 3)
    np.testing.assert_array_equal(inside[2:7, 3:10], expected[2:7, 3:10])
    assert (inside[0] == (9, 8, 7)).all() and (inside[:, 11] == (9, 8, 7)).all()


def test_gif_frame_beyond_the_canvas_counts_in_its_size():
    frame = encoded(Image.fromarray(PIXELS).quantize(16), "GIF")
    at = frame.index(b"\x2c", 13 + 3 * 16)
    shifted = frame[: at + 1] + struct.pack("<HH", 60000, 60000) + frame[at + 5 :]
    assert status_of(shifted, max_pixels=10**6) == "too many pixels"
    large = frame[: at + 5] + struct.pack("<HH", 60000, 60000) + frame[at + 9 :]
    assert status_of(large, max_pixels=10**6) == "too many pixels"


def huge(kind):
    """A file whose header says 16000 × 16000 and that has nothing to show for it."""
    small = bytearray(encoded(COLOURS, kind))
    if kind == "JPEG":
        at = small.index(b"\xff\xc0")
        small[at + 5 : at + 9] = struct.pack(">HH", 16000, 16000)
    elif kind == "PNG":
        return png_of(16000, 16000)
    elif kind == "GIF":
        small[6:10] = struct.pack("<HH", 16000, 16000)
    elif kind == "BMP":
        small[18:26] = struct.pack("<ii", 16000, 16000)
    else:
        at = small.index(b"\x9d\x01\x2a")
        small[at + 3 : at + 7] = struct.pack("<HH", 16000, 16000)
    return bytes(small)


@pytest.mark.parametrize("kind", KINDS)
def test_too_many_pixels_by_the_header(kind):
    assert status_of(huge(kind)) == "too many pixels"


@pytest.mark.parametrize("options", [{"lossless": True}, {"save_all": True}])
def test_too_many_pixels_of_other_webp(options):
    if "save_all" in options:
        options["append_images"] = [COLOURS.rotate(90)]
    contents = encoded(COLOURS, "WEBP", **options)
    assert status_of(contents, max_pixels=1200) == "ok"
    assert status_of(contents, max_pixels=1199) == "too many pixels"


@pytest.mark.parametrize("sides", [(2**32 - 1, 2**32 - 1), (2**31, 2**31), (1, 2**32 - 1)])
def test_sides_that_overflow(sides):
    assert status_of(png_of(*sides)) == "too many pixels"


@pytest.mark.parametrize("kind", KINDS)
def test_the_limit_itself_is_allowed(kind):
    contents = encoded(COLOURS, kind)
    assert status_of(contents, max_pixels=1200, max_bytes=len(contents)) == "ok"
    assert status_of(contents, max_pixels=1199) == "too many pixels"
    assert status_of(contents, max_bytes=len(contents) - 1) == "too many bytes"


def test_four_components_count_for_more():
    contents = encoded(COLOURS.convert("CMYK"), "JPEG")
    assert status_of(contents, max_pixels=1600) == "ok"
    assert status_of(contents, max_pixels=1599) == "too many pixels"


@pytest.mark.parametrize("kind", KINDS)
def test_every_cut_has_an_answer(kind):
    contents = encoded(COLOURS, kind)
    for length in [1, 2, 5, 11, 20, 27, 33, 50, 100, len(contents) // 2, len(contents) - 40]:
        assert status_of(contents[:length]) in ("unknown format", "broken or truncated")


@pytest.mark.parametrize("kind", KINDS)
def test_no_flipped_byte_raises(kind):
    contents = encoded(COLOURS, kind)
    rng = np.random.default_rng(1)
    for _ in range(40):
        changed = bytearray(contents)
        changed[rng.integers(0, len(changed))] ^= int(rng.integers(1, 256))
        decode_image(bytes(changed), max_pixels=10**6)


def test_png_with_a_wrong_checksum():
    contents = bytearray(encoded(COLOURS, "PNG"))
    contents[80] ^= 1
    assert status_of(bytes(contents)) == "broken or truncated"


def test_jpeg_that_hides_its_size():
    # A comment that holds a frame header, and a second frame header behind the first.
    contents = encoded(COLOURS, "JPEG")
    fake = b"\xff\xc0\0\x11\x08\x3e\x80\x3e\x80\x03" + b"\0" * 9
    comment = b"\xff\xfe" + struct.pack(">H", 2 + len(fake)) + fake
    assert status_of(contents[:2] + comment + contents[2:]) == "ok"
    at = contents.index(b"\xff\xc0")
    assert status_of(contents[:at] + fake + contents[at:]) == "too many pixels"
    after = at + 2 + int.from_bytes(contents[at + 2 : at + 4], "big")
    assert status_of(contents[:after] + fake + contents[after:]) == "broken or truncated"


def test_gif_without_image_or_end():
    contents = encoded(COLOURS, "GIF")
    at = contents.index(b"\x2c", 13 + 3 * 256)
    assert status_of(contents[:at] + b";") == "broken or truncated"
    assert status_of(contents[:-60]) == "broken or truncated"
    np.testing.assert_array_equal(decoded(contents[:-1]), opened(contents))


@pytest.mark.parametrize(
    "contents, status",
    [
        (b"", "empty"),
        (b"a text, not an image, long enough to be one", "unknown format"),
        (b"PK\x03\x04" + b"\0" * 60, "unknown format"),
        (b"II*\0" + b"\0" * 60, "unknown format"),
        (b"\xff\xd8\xff", "broken or truncated"),
        (b"GIF89a", "broken or truncated"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "broken or truncated"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "unknown format"),
    ],
)
def test_what_is_no_image(contents, status):
    assert status_of(contents) == status


def test_bitmaps_that_would_be_read_wrong_are_refused():
    contents = encoded(COLOURS, "BMP")
    for at, value in ((28, b"\x10\0"), (30, b"\x01\0\0\0"), (14, b"\x0c\0\0\0")):
        changed = contents[:at] + value + contents[at + len(value) :]
        assert status_of(changed) == "unknown format"


@pytest.fixture(scope="module")
def mixed():
    """Bytes of good and bad files, and their statuses."""
    good = [encoded(COLOURS, kind) for kind in KINDS]
    return [good[0], b"", *good[1:], b"text", good[1][:-40]], [0, 1, 0, 0, 0, 0, 3, 5]


def test_inside_tf_data(mixed):
    contents, statuses = mixed
    dataset = tf.data.Dataset.from_tensor_slices(contents).map(
        decode_image, num_parallel_calls=2, deterministic=True
    )
    assert dataset.element_spec[0].shape.as_list() == [None, None, 3]
    for own, status, (image, found) in zip(contents, statuses, dataset, strict=True):
        assert found == status
        np.testing.assert_array_equal(image, decode_image(own)[0])


def test_inside_a_saved_model(mixed, tmp_path):
    contents, statuses = mixed
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def sums(batch):
        def one(own):
            image, status = decode_image(own, max_pixels=10**6)
            return tf.reduce_sum(tf.cast(image, tf.int64)), status

        return tf.map_fn(one, batch, fn_output_signature=(tf.int64, tf.int32))

    module.sums = sums
    tf.saved_model.save(module, str(tmp_path / "model"))
    total, status = tf.saved_model.load(str(tmp_path / "model")).sums(tf.constant(contents))
    assert status.numpy().tolist() == statuses
    expected = [int(np.sum(decode_image(own)[0], dtype=np.int64)) for own in contents]
    assert total.numpy().tolist() == expected


@pytest.mark.parametrize(
    "options, message",
    [
        ({"max_pixels": 0}, "`max_pixels` must be an integer of at least 1. Received: max_p"),
        ({"max_bytes": 1.5}, "`max_bytes` must be an integer of at least 1. Received: max_by"),
        ({"background": (0, 0)}, "`background` must be three integers in 0-255. Received: back"),
        ({"background": (0, 0, 256)}, "`background` must be three integers in 0-255. Received"),
    ],
)
def test_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        decode_image(b"", **options)


@pytest.mark.parametrize("contents", [1.0, [b"a", b"b"]])
def test_contents(contents):
    with pytest.raises(ValueError, match="`contents` must be a scalar string. Received: contents"):
        decode_image(contents)
