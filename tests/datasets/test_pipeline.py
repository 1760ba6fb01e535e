"""`load` by name, ImageNet through its real TFDS builder on a handful of images, label checks."""

import io
import itertools
import tarfile

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from tests.datasets.original_writer import original_record, write_original_records
from tnet_keras.datasets import NeedleDigitsConfig, check_labels, load, needle_digits
from tnet_keras.datasets.augmentation import prepare_image

QUICK = NeedleDigitsConfig(stroke_bank=64)


def jpeg(number, size=(40, 30)):
    pixels = np.random.default_rng(number).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize(size).save(buffer, "JPEG")
    return buffer.getvalue()


def tar(members):
    """The bytes of a tar file of (name, bytes) pairs."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, contents in members:
            info = tarfile.TarInfo(name)
            info.size = len(contents)
            archive.addfile(info, io.BytesIO(contents))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """imagenet2012 prepared by its own builder from two classes of four images."""
    root = tmp_path_factory.mktemp("imagenet")
    manual = root / "manual"
    manual.mkdir()
    synsets = ("n01440764", "n01443537")
    inner = [
        (f"{synset}.tar", tar([(f"{synset}_{i}.JPEG", jpeg(4 * k + i)) for i in range(4)]))
        for k, synset in enumerate(synsets)
    ]
    (manual / "ILSVRC2012_img_train.tar").write_bytes(tar(inner))
    validation = [(f"ILSVRC2012_val_{i:08}.JPEG", jpeg(100 + i)) for i in range(1, 4)]
    (manual / "ILSVRC2012_img_val.tar").write_bytes(tar(validation))
    builder = tfds.builder("imagenet2012", data_dir=root / "data")
    configuration = tfds.download.DownloadConfig(manual_dir=manual)
    builder.download_and_prepare(download_config=configuration)
    return root / "data"


def test_needle_digits():
    data = load("needle_digits", "test", 160, 4, seed=2, config=QUICK, num_examples=8)
    assert data.num_examples == 8 and data.class_names == tuple("0123456789")
    images, labels = next(iter(data.dataset))
    assert images.shape == (4, 160, 160, 3)
    config = NeedleDigitsConfig(stroke_bank=64, image_size=160)
    same = next(iter(needle_digits("test", 4, 2, num_examples=8, config=config)))
    np.testing.assert_array_equal(images, same[0])
    np.testing.assert_array_equal(labels, same[1])


def test_needle_digits_sizes():
    assert load("needle_digits", "test", 224, 4, config=QUICK).num_examples == 2000
    assert load("needle_digits", "train", (224, 224), 4, config=QUICK).num_examples is None


def test_folder(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(5):
            (tmp_path / name / f"{number}.jpg").write_bytes(jpeg(number))
    data = load(str(tmp_path), "train", (20, 24), 3, augmentation="none")
    assert data.num_examples == 6 and data.class_names == ("a", "b")
    images, labels = next(iter(data.dataset))
    assert images.shape == (3, 20, 24, 3) and labels.shape == (3,)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_imagenet_evaluation_squeezes_the_whole_image(imagenet, split):
    data = load("imagenet2012", split, 16, 2, data_dir=imagenet)
    assert data.num_examples == 3
    assert len(data.class_names) == 1000 and data.class_names[0] == "n01440764"
    batches = list(data.dataset.as_numpy_iterator())
    assert [len(labels) for _, labels in batches] == [2, 1]
    images = np.concatenate([images for images, _ in batches])
    expected = [
        prepare_image(np.asarray(Image.open(io.BytesIO(jpeg(100 + i)))), (16, 16)).numpy()
        for i in (1, 2, 3)
    ]
    # TFDS stores examples in hashed order; TensorFlow's JPEG decoder differs by a few levels.
    for image in images.astype(int):
        assert min(np.abs(image - other).max() for other in expected) <= 6


def test_imagenet_training(imagenet):
    def first(count, **arguments):
        data = load("imagenet2012", "train", 16, 4, data_dir=imagenet, **arguments)
        assert data.num_examples == 8
        batches = list(itertools.islice(data.dataset.as_numpy_iterator(), count))
        return [np.concatenate(part) for part in zip(*batches, strict=True)]

    images, labels = first(6)
    assert images.shape == (24, 16, 16, 3) and images.dtype == np.uint8
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(np.bincount(labels[:8]), [4, 4])
    np.testing.assert_array_equal(images, first(6)[0])
    assert not np.array_equal(images, first(6, seed=1)[0])
    plain = first(6, augmentation="none")[0]
    assert len({image.tobytes() for image in plain}) == 8
    assert len({image.tobytes() for image in images}) > 16


def test_imagenet_can_be_resumed_anywhere_and_its_crops_keep_its_objects(imagenet):
    options = {"data_dir": imagenet, "seed": 5, "augmentation": "imagenet"}
    whole = list(load("imagenet2012", "train", 16, 2, **options).dataset.take(11))
    for start in (6, 13):  # in the first pass of eight and in the second
        later = load("imagenet2012", "train", 16, 1, start=start, **options).dataset.take(3)
        images = np.concatenate([images for images, _ in whole])[start : start + 3]
        np.testing.assert_array_equal(np.concatenate([one for one, _ in later]), images)
    passes = np.concatenate([labels for _, labels in whole])
    np.testing.assert_array_equal(np.bincount(passes[8:16]), [4, 4])


def test_workers_share_imagenet(imagenet):
    options = {"data_dir": imagenet, "training": False, "augmentation": "none"}
    parts = [load("imagenet2012", "train", 16, 8, shard=(i, 3), **options) for i in range(3)]
    images = [images for part in parts for images, _ in part.dataset]
    assert sum(part.num_examples for part in parts) == 8 == sum(map(len, images))
    assert len({image.tobytes() for image in np.concatenate(images)}) == 8


def test_original_records_are_opened_by_name(tmp_path):
    images = [*(jpeg(number) for number in range(5)), b"broken"]
    records = [
        original_record(image, number, b"%d.jpg" % number, b"text", boxes=[(0.0, 0.0, 0.5, 0.5)])
        for number, image in enumerate(images)
    ]
    for split in ("train", "test"):
        write_original_records(tmp_path, split, records, 2)
    options = {"data_dir": tmp_path, "on_bad_image": "skip"}
    data = load("original_records:fmow", "test", 16, 4, **options)
    np.testing.assert_array_equal(np.concatenate([x for _, x in data.dataset]), range(5))
    assert data.bad_images.first() == {"5.jpg": "unknown format"} and len(data.class_names) == 62
    train = load("original_records:fmow", "train", 16, 5, augmentation="fmow", **options)
    np.testing.assert_array_equal(sorted(next(iter(train.dataset))[1]), range(5))
    with pytest.raises(ValueError, match=r"`name` must be 'original_records:' and one of"):
        load("original_records:cars", "train", 16, 4, data_dir=tmp_path)
    with pytest.raises(ValueError, match=r"`data_dir` must be the folder of .*data_dir=None"):
        load("original_records:cub", "train", 16, 4)


def test_imagenet_that_is_not_prepared(tmp_path):
    with pytest.raises(
        ValueError, match="`data_dir` must hold imagenet2012.* Received: "
    ) as caught:
        load("imagenet2012", "train", 16, 4, data_dir=tmp_path)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("mnist", "train", 224, 4), r"`name` must be one of .* Received: name='mnist'"),
        (("needle_digits", "dev", 224, 4), r"`split` must be one of .* Received: split='dev'"),
        (
            ("needle_digits", "test", (224, 96), 4),
            r"must be square. Received: image_size=\(224, 96",
        ),
        (("needle_digits", "test", -1, 4), r"`image_size` must be .* Received: image_size=-1"),
        (("needle_digits", "test", 224, 0), r"`batch_size` must .* Received: batch_size=0"),
        (("fmow_rgb/none", "test", 224, 4), r"`name` must be a data set and a configuration"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        load(*arguments)


@pytest.mark.parametrize("option", ["augmentation", "on_bad_image", "shard"])
def test_drawn_images_are_not_read(option):
    with pytest.raises(
        ValueError, match=rf"`{option}` must not be given .* Received: {option}='x'"
    ):
        load("billiards", "train", 256, 4, **{option: "x"})


def test_check_labels_accepts_the_range():
    assert check_labels(np.array([0, 9, 3]), 10) is None
    assert check_labels(np.zeros((0,), np.int32), 10) is None


@pytest.mark.parametrize(
    "labels, message",
    [
        ([0, 10], r"`labels` must be in \[0, 10\). Received: labels from 0 to 10"),
        ([-1, 3], r"Received: labels from -1 to 3"),
        ([0.5], r"`labels` must be integers. Received: labels of dtype float64"),
    ],
)
def test_check_labels_refuses(labels, message):
    with pytest.raises(ValueError, match=message):
        check_labels(labels, 10)


def test_birds_are_resized_and_cropped(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (4, 30, 40, 3)).astype(np.uint8)
    features = tfds.builder("caltech_birds2011", data_dir=tmp_path).info.features
    examples = {
        "image": images, "image/filename": [f"{i}.jpg" for i in range(4)],
        "bbox": np.tile(np.float32([[0, 0, 1, 1]]), (4, 1)), "label": np.arange(4) % 2,
        "label_name": ["name"] * 4, "segmentation_mask": np.zeros((4, 30, 40, 1), np.uint8),
    }  # fmt: skip
    tfds.dataset_builders.store_as_tfds_dataset(
        name="caltech_birds2011", version="0.2.0", features=features, data_dir=tmp_path,
        split_datasets={
            split: tf.data.Dataset.from_tensor_slices(examples) for split in ("train", "test")
        },
    )  # fmt: skip
    options = {"data_dir": tmp_path, "resize": (24, 32)}
    data = load("caltech_birds2011", "test", (16, 20), 2, **options)
    assert len(data.class_names) == 200 and data.num_examples == 4
    for image in np.concatenate([batch for batch, _ in data.dataset]):
        expected = [np.rint(tf.image.resize(x, (24, 32)))[4:20, 6:26] for x in images]
        # The images were kept as JPEG, which changes noise much, but not into another image.
        distances = sorted(np.abs(image.astype(float) - x).mean() for x in expected)
        assert distances[0] < 0.7 * distances[1]
    train = load("caltech_birds2011", "train", (16, 20), 2, **options)
    assert next(iter(train.dataset))[0].shape == (2, 16, 20, 3)
