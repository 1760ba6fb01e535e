"""Images kept in a file: written once and whole, known again, cleared of what a kill left."""

import os
import pathlib
import subprocess
import sys

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


def same(first, second, count=12):
    for ours, theirs in zip(
        examples(first.dataset, count), examples(second.dataset, count), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_it_is_written_once_and_gives_what_the_files_give(folder, tmp_path, monkeypatch):
    kept = tmp_path / "kept"
    plain = image_folder(folder, 8, 2, seed=1)
    same(opened(folder, kept), plain)
    (entry,) = kept.iterdir()
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
    assert len(list(kept.iterdir())) == 2


def test_full_disk_leaves_nothing(folder, tmp_path, monkeypatch):
    def fsync(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(OSError, match="No space left"):
            opened(folder, tmp_path / "kept")
    assert not list((tmp_path / "kept").iterdir())
    opened(folder, tmp_path / "kept")


def test_what_a_killed_process_left_does_not_matter_and_goes(folder, tmp_path):
    kept = tmp_path / "kept"
    opened(folder, kept)
    (entry,) = kept.iterdir()
    process = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                             capture_output=True, text=True, check=True)  # fmt: skip
    begin = f".{entry.name}-{kept_images.socket.gethostname()}-"
    dead, living = (kept / f"{begin}{pid.strip()}" for pid in (process.stdout, str(os.getppid())))
    for path in (dead, living):
        path.mkdir()
        (path / "images.bin").write_bytes(b"half of it")
    for path in [*entry.iterdir()]:
        path.unlink()
    pathlib.Path(entry).rmdir()
    same(opened(folder, kept), image_folder(folder, 8, 2, seed=1))
    assert sorted(kept.iterdir()) == sorted([entry, living])


def test_another_worker_that_was_as_fast(folder, tmp_path, monkeypatch):
    kept = tmp_path / "kept"

    def rename(source, target, real=os.rename):
        real(source, target)
        source.mkdir()
        real(source, target)  # it is there

    monkeypatch.setattr(os, "rename", rename)
    same(opened(folder, kept), image_folder(folder, 8, 2, seed=1))
    assert len(list(kept.iterdir())) == 1
