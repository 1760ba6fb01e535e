"""Images kept in a file: written once and whole, known again, cleared of what a kill left."""

import concurrent.futures
import os
import shutil
import time

import numpy as np
import pytest
import tensorflow as tf

from tests.datasets.reading import examples
from tnet_keras.datasets import image_folder, kept_images


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    for number in range(8):
        image = random.integers(0, 256, (5 + number, 6, 3), np.uint8)
        path = tmp_path / "images" / "train" / "ab"[number % 2] / f"{number}.png"
        tf.io.write_file(str(path), tf.io.encode_png(image))
    return tmp_path / "images"


def opened(folder, kept, **options):
    return image_folder(folder, 8, 2, seed=1, cache="disk", cache_dir=kept, **options)


def folders(kept):
    """What is kept, without the files that processes wait for each other with."""
    return sorted(path for path in kept.iterdir() if path.is_dir())


def same(first, second, count=12):
    for ours, theirs in zip(
        examples(first.dataset, count), examples(second.dataset, count), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_it_is_written_once_and_gives_what_the_files_give(folder, tmp_path, monkeypatch):
    kept = tmp_path / "kept"
    plain = image_folder(folder, 8, 2, seed=1)
    same(opened(folder, kept), plain)
    (entry,) = folders(kept)
    assert sorted(path.name for path in entry.iterdir()) == ["images.bin", "index.npz"]
    monkeypatch.setattr(kept_images, "_write", None)  # read only from here on
    same(opened(folder, kept, start=4), image_folder(folder, 8, 2, seed=1, start=4))
    options = {"training": False, "on_bad_image": "skip"}
    same(opened(folder, kept, **options), image_folder(folder, 8, 2, seed=1, **options), 8)


def test_files_that_changed_are_read_anew(folder, tmp_path):
    kept = tmp_path / "kept"
    opened(folder, kept)
    path = folder / "train" / "a" / "0.png"
    tf.io.write_file(str(path), tf.io.encode_png(np.full((4, 4, 3), 200, np.uint8)))
    data = opened(folder, kept, training=False, augmentation="none")
    same(data, image_folder(folder, 8, 2, training=False), 8)
    assert len(folders(kept)) == 2


def test_full_disk_leaves_nothing(folder, tmp_path, monkeypatch):
    def fsync(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(OSError, match="No space left"):
            opened(folder, tmp_path / "kept")
    assert not folders(tmp_path / "kept")
    opened(folder, tmp_path / "kept")


def test_what_a_killed_process_left_does_not_matter_and_goes(folder, tmp_path):
    kept = tmp_path / "kept"
    opened(folder, kept)
    (entry,) = folders(kept)
    left, other = kept / f".{entry.name}-x1", kept / ".0123456789abcdef-x1"
    for path in (left, other):
        path.mkdir()
        (path / "images.bin").write_bytes(b"half of it")
    shutil.rmtree(entry)
    same(opened(folder, kept), image_folder(folder, 8, 2, seed=1))
    # That of other images may be alive.
    assert folders(kept) == sorted([entry, other])


@pytest.mark.parametrize("name", ["images.bin", "index.npz"])
@pytest.mark.parametrize("left", [0, 10, None])
def test_what_was_damaged_is_made_anew(name, left, folder, tmp_path):
    kept = tmp_path / "kept"
    opened(folder, kept)
    (entry,) = folders(kept)
    file = entry / name
    if left is None:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:left])
    same(opened(folder, kept), image_folder(folder, 8, 2, seed=1))
    assert folders(kept) == [entry]


def test_processes_wait_for_the_first(folder, tmp_path, monkeypatch):
    kept, written = tmp_path / "kept", []

    def write(*arguments, real=kept_images._write):
        written.append(1)
        time.sleep(0.2)
        real(*arguments)

    monkeypatch.setattr(kept_images, "_write", write)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for data in list(pool.map(lambda _: opened(folder, kept), range(3))):
            same(data, image_folder(folder, 8, 2, seed=1))
    assert len(written) == 1


def test_another_worker_that_was_as_fast(folder, tmp_path, monkeypatch):
    """Where files cannot be locked."""
    kept = tmp_path / "kept"

    def rename(source, target, real=os.rename):
        real(source, target)
        source.mkdir()
        (source / "images.bin").touch()
        real(source, target)  # it is there

    monkeypatch.setattr(kept_images, "fcntl", None)
    monkeypatch.setattr(os, "rename", rename)
    same(opened(folder, kept), image_folder(folder, 8, 2, seed=1))
    assert len(folders(kept)) == 1
