"""The guard under a real limit of the process's memory, with files that mean harm.

That orientations 1-8 are applied and every cut is answered is in `test_decode.py`.
"""

import io
import json
import pathlib
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.ops import hostile_files
from tnet_keras.ops.decode import DECODE_STATUSES, decode_image

SIDE = 4096  # of the largest image that is allowed, pixels
# TensorFlow's allocator takes memory in powers of two and keeps it for the next image: of one image
# of 48 MiB it is 64. Threads and the bytes of the files come on top.
ALLOWANCE = 64 * 2**20

CHILD = """
import json, pathlib, resource, sys
import tensorflow as tf
from tnet_keras.ops.decode import decode_image

folder, side, allowance = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
max_pixels = side * side

@tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
def decode(batch):
    def one(contents):
        image, status = decode_image(contents, max_pixels)
        return tf.io.serialize_tensor(image), status

    types = tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int32)
    return tf.map_fn(one, batch, parallel_iterations=1, fn_output_signature=types)

files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
largest = {name: files.pop(name) for name in sorted(files) if name.startswith("largest")}
good = files["good"]
for _ in range(5):
    alone = decode(tf.constant([good] * 4))[0][0]
    decode_image(good, max_pixels)
text = pathlib.Path("/proc/self/status").read_text()
fields = dict(line.split(":", 1) for line in text.splitlines())
now = int(fields["VmSize"].split()[0]) * 1024
limit = now + 3 * max_pixels * 3 + allowance
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

images, statuses = decode(tf.constant(list(files.values())))
answer = {"statuses": dict(zip(files, statuses.numpy().tolist()))}
answer["good as alone"] = bool(images[list(files).index("good")] == alone)
answer["frames as one"] = bool(
    images[list(files).index("thousand.gif")] == images[list(files).index("one.gif")]
)
answer["others are one pixel"] = all(
    bool(tf.reduce_all(tf.io.parse_tensor(image, tf.uint8) == tf.zeros([1, 1, 3], tf.uint8)))
    for image, status in zip(images, statuses) if status
)
answer["largest"] = {}
for name, contents in largest.items():
    image, status = decode_image(contents, max_pixels)
    colours = [int(image[0, 0, 0]), int(image[side // 2, -1, 1]), int(image[-1, -1, 2])]
    assert status == 0, name
    answer["largest"][name] = [int(status), image.shape.as_list(), colours]
    del image
try:
    bytearray(limit - now)
    answer["limit holds"] = False
except MemoryError:
    answer["limit holds"] = True
print(json.dumps(answer))
"""


@pytest.fixture(autouse=True)
def fresh_keras():
    """Keras is not used, and clearing it would have TensorFlow prepare the graph anew."""


def archive():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("image.png", bytes(2**20))
    return stream.getvalue()


def bad_files(good):
    """dict from name to the bytes of a file and what the guard says about it."""
    small = hostile_files.black_png(1, 1)
    huge = (2**31 - 1).to_bytes(4, "big")
    too_many = {
        "large.png": hostile_files.black_png(16000, 16000),
        "large.jpg": hostile_files.grey_jpeg(16000, 16000),
        "large.gif": hostile_files.gif(16000, 16000),
        "header.png": small[:16] + huge * 2 + small[24:33],
    }
    unknown = {
        "text": b"a text, not an image, long enough to be one",
        "archive.zip": archive(),
        "image.tiff": hostile_files.encoded(Image.new("RGB", (64, 64)), "TIFF"),
    }
    return {
        **{name: (contents, "too many pixels") for name, contents in too_many.items()},
        **{name: (contents, "unknown format") for name, contents in unknown.items()},
        "empty": (b"", "empty"),
        "cut": (good[: len(good) // 2], "broken or truncated"),
        "one.gif": (hostile_files.gif(512, 512), "ok"),
        "thousand.gif": (hostile_files.gif(512, 512, frames=1000), "ok"),
    }


def turned_jpeg(side):
    """A progressive JPEG file, to be turned: the kind that needs most memory."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGB", (side, side), (90, 90, 90))
    return hostile_files.encoded(image, "JPEG", progressive=True, subsampling=0, exif=exif)


@pytest.mark.parametrize(
    "make, colour",
    [
        (hostile_files.black_png, (0, 0, 0)),
        (hostile_files.grey_jpeg, (128, 128, 128)),
        (hostile_files.gif, (200, 100, 50)),
    ],
)
def test_the_hostile_files_are_whole(make, colour):
    image, status = decode_image(make(301, 40001))
    assert status == 0 and image.shape == (301, 40001, 3)
    assert (image.numpy() == np.array(colour, np.uint8)).all()
    assert len(make(16000, 16000)) < 1.1e6


@pytest.mark.skipif(
    not pathlib.Path("/proc/self/status").is_file(), reason="/proc says how large a process is"
)
def test_hostile_files_under_a_limit_of_memory(tmp_path):
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (60, 80, 3), np.uint8)
    good = hostile_files.encoded(Image.fromarray(noise), "PNG")
    expected = {"good": "ok"}
    (tmp_path / "good").write_bytes(good)
    for name, (contents, status) in bad_files(good).items():
        (tmp_path / name).write_bytes(contents)
        expected[name] = status
    plain = hostile_files.encoded(Image.new("RGB", (SIDE, SIDE), (10, 20, 30)), "PNG")
    (tmp_path / "largest.png").write_bytes(plain)
    (tmp_path / "largest_turned.jpg").write_bytes(turned_jpeg(SIDE))
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path), str(SIDE), str(ALLOWANCE)],
        cwd=pathlib.Path(__file__).parents[2], capture_output=True, text=True, timeout=600,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    found = {name: DECODE_STATUSES[status] for name, status in answer.pop("statuses").items()}
    assert found == expected
    assert answer.pop("largest") == {
        "largest.png": [0, [SIDE, SIDE, 3], [10, 20, 30]],
        "largest_turned.jpg": [0, [SIDE, SIDE, 3], [90, 90, 90]],
    }
    assert answer == dict.fromkeys(
        ["good as alone", "frames as one", "others are one pixel", "limit holds"], True
    )
