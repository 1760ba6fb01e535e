"""From bytes to batches: odd and bad files, crops while decoding, resuming, shards, saving."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.datasets.broken_images import bad_files, encoded, good_files, picture
from tnet_keras.datasets import image_folder
from tnet_keras.datasets.encoded_images import decode_window
from tnet_keras.ops.decode import DECODE_STATUSES, decode_image


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, (contents, _) in files.items():
        (folder / name).write_bytes(contents)


@pytest.fixture
def mixed(tmp_path):
    """Nine good files in class `a`, three bad ones and a good namesake in class `b`."""
    write(tmp_path / "train" / "a", good_files())
    write(tmp_path / "train" / "b", bad_files())
    write(tmp_path / "train" / "b", {"plain.jpg": (encoded(picture(9), "JPEG"), None)})
    return tmp_path


def read(data, batches=None):
    parts = zip(*itertools.islice(data.dataset.as_numpy_iterator(), batches), strict=True)
    return [np.concatenate(part) for part in parts]


def test_skip_leaves_bad_files_out_and_names_them(mixed):
    data = image_folder(mixed, (18, 24), 4, training=False, on_bad_image="skip")
    images, labels = read(data)
    assert images.shape == (10, 18, 24, 3)
    np.testing.assert_array_equal(labels, [0] * 9 + [1])
    assert data.num_examples == 13 and data.bad_images.count == 3
    found = {name.split("/")[-1]: reason for name, reason in data.bad_images.first().items()}
    assert found == {name: reason for name, (_, reason) in bad_files().items()}
    for name, image in zip(sorted(good_files()), images, strict=False):
        expected = good_files()[name][1].convert("RGB")
        if expected.size == (24, 18):
            np.testing.assert_allclose(image.astype(int), np.asarray(expected), atol=12)
        else:
            turned = tf.image.resize(np.asarray(expected), (18, 24))
            np.testing.assert_allclose(image, turned, atol=12)


def test_skip_can_be_resumed_exactly(mixed):
    options = {"seed": 3, "on_bad_image": "skip"}
    images, labels = read(image_folder(mixed, (9, 12), 2, **options), 16)
    np.testing.assert_array_equal(np.bincount(labels[:10]), [9, 1])  # a pass of good ones
    later = read(image_folder(mixed, (9, 12), 2, start=14, **options), 9)
    np.testing.assert_array_equal(images[14:], later[0])
    np.testing.assert_array_equal(labels[14:], later[1])


def test_error_names_the_file_and_the_reason_in_one_line(tmp_path):
    name = "cut.jpg"
    write(tmp_path / "train" / "a", {name: bad_files()[name]})
    write(tmp_path / "train" / "b", {"plain.jpg": (encoded(picture(9), "JPEG"), None)})
    for training in (False, True):
        data = image_folder(tmp_path, 8, 2, training=training)
        with pytest.raises(tf.errors.InvalidArgumentError) as caught:
            list(data.dataset.take(1))
        lines = [line for line in str(caught.value).splitlines() if name in line]
        assert len(lines) == 1
        assert "Every image must be readable (broken or truncated). Received: /" in lines[0]


@pytest.mark.parametrize("name", ["empty.jpg", "text.jpg"])
def test_error_refuses_what_is_no_image_at_once(tmp_path, name):
    write(tmp_path / "train" / "a", {name: bad_files()[name]})
    write(tmp_path / "train" / "b", {"plain.jpg": (encoded(picture(9), "JPEG"), None)})
    with pytest.raises(ValueError, match=rf"Every image must be a PNG.* Received: '.*{name}'"):
        image_folder(tmp_path, 8, 2)


def test_a_folder_of_bad_images_only_ends(tmp_path):
    for label in "ab":
        write(tmp_path / "train" / label, {"cut.jpg": bad_files()["cut.jpg"]})
    data = image_folder(tmp_path, 8, 2, on_bad_image="skip")
    with pytest.raises(tf.errors.OpError, match="must hold an image that can be read. Received: 2"):
        list(data.dataset.take(1))


WINDOW = tf.constant([3, 5, 20, 30])


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_crop_while_decoding_is_the_crop_of_the_decoded(kind, mode):
    contents = encoded(picture(0, (70, 50)).convert(mode), kind)
    whole, _ = decode_image(contents)
    part, status = decode_window(tf.constant(contents), lambda size: WINDOW)
    np.testing.assert_array_equal(part, whole[3:23, 5:35])
    assert status == 0
    dataset = tf.data.Dataset.from_tensors(contents).map(
        lambda one: decode_window(one, lambda size: WINDOW)
    )
    np.testing.assert_array_equal(next(iter(dataset))[0], part)


def test_a_crop_of_odd_and_bad_files():
    def everything(size):
        return tf.stack([0, 0, size[0], size[1]])

    for contents, expected in good_files().values():
        image, status = decode_window(tf.constant(contents), everything)
        assert status == 0 and image.shape[:2] == expected.size[::-1]
        np.testing.assert_array_equal(image, decode_image(contents)[0])
    for contents, reason in bad_files().values():
        _, status = decode_window(tf.constant(contents), everything)
        assert DECODE_STATUSES[status] == reason


@pytest.fixture
def many(tmp_path):
    """Two classes of ten images."""
    for label in range(2):
        write(
            tmp_path / "train" / f"class {label}",
            {f"{n}.png": (encoded(picture(10 * label + n), "PNG"), None) for n in range(10)},
        )
    return tmp_path


def test_memory_gives_the_same_stream(many):
    first = read(image_folder(many, 8, 4, start=13), 6)
    second = read(image_folder(many, 8, 4, start=13, cache="memory"), 6)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def test_shards_hold_every_image_once(many):
    parts = [image_folder(many, (18, 24), 4, training=False, shard=(i, 3)) for i in range(3)]
    assert [part.num_examples for part in parts] == [7, 7, 6]
    together = {image.tobytes() for part in parts for image in read(part)[0]}
    assert together == {np.asarray(picture(number)).tobytes() for number in range(20)}


def test_iterators_can_be_saved(many, tmp_path):
    dataset = image_folder(many, 8, 4, on_bad_image="skip").dataset
    iterator = iter(dataset)
    for _ in range(7):
        next(iterator)
    path = tf.train.Checkpoint(iterator=iterator).save(str(tmp_path / "saved"))
    expected = [next(iterator) for _ in range(3)]
    restored = iter(dataset)
    tf.train.Checkpoint(iterator=restored).restore(path)
    for images, labels in expected:
        again, same = next(restored)
        np.testing.assert_array_equal(images, again)
        np.testing.assert_array_equal(labels, same)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"augmentation": "sepia"}, r"`augmentation` must be one of .*augmentation='sepia'"),
        ({"on_bad_image": "ignore"}, r"`on_bad_image` must be one of .*on_bad_image='ignore'"),
        ({"cache": "tape"}, r"`cache` must be one of .*cache='tape'"),
        ({"cache": "disk"}, "`cache_dir` must be given with cache='disk'.*cache_dir=None"),
        ({"cache_dir": "kept"}, "`cache_dir` must be given .*cache_dir='kept', cache='none'"),
        ({"shard": (2, 2)}, r"`shard` must be \(index, count\).*shard=\(2, 2\)"),
        ({"shard": (0, 21)}, r"`shard` must be .* of the 20 examples.*shard=\(0, 21\)"),
        ({"shard": 3}, r"`shard` must be .*shard=3"),
        ({"batch_size": 21}, r"`batch_size` must be at most the 20 examples.*batch_size=21"),
    ],
)
def test_bad_arguments(many, arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        image_folder(many, 8, **{"batch_size": 2, **arguments})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("on_bad_image", ["error", "skip"])
@pytest.mark.parametrize("options", [{}, {"start": 7}, {"cache": "disk"}, {"training": False}])
def test_names_are_those_of_the_images_at_a_position(on_bad_image, options, tmp_path):
    for number in range(10):
        files = {f"{number}.png": (encoded(Image.new("RGB", (8, 8), (number,) * 3), "PNG"), None)}
        write(tmp_path / "train" / "ab"[number % 2], files)
    if on_bad_image == "skip":
        write(tmp_path / "train" / "b", {"cut.jpg": bad_files()["cut.jpg"]})
    options = {"on_bad_image": on_bad_image, "augmentation": "none", "seed": 2, **options}
    if "cache" in options:
        options["cache_dir"] = tmp_path / "kept"
    data = image_folder(tmp_path, 8, 2, **options)
    first, count = options.get("start", 0), 10 if options.get("training") is False else 14
    images, _ = read(data, count // 2)
    names = data.names(range(first, first + count))
    assert [int(name.split("/")[-1].split(".")[0]) for name in names] == [
        int(image[0, 0, 0]) for image in images
    ]
    assert data.names(range(first + 3, first + 6)) == names[3:6]
