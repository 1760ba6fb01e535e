"""TFDS builder of the billiard tables, from the authors' archive or its folders."""

import os
import pathlib

import numpy as np
import tensorflow_datasets as tfds

from tnet_keras.datasets.billiards.folder import FOLDERS, find_tables
from tnet_keras.datasets.billiards.labels import (
    BILLIARD_LABELS,
    billiard_label,
    check_label,
    label_names,
    outermost,
)
from tnet_keras.datasets.builders.image_files import read_image, relative_boxes
from tnet_keras.datasets.builders.manual_files import ManualFilesBuilder

_ARCHIVES = (".tar", ".tar.xz", ".txz", ".tar.gz", ".tgz", ".tar.bz2", ".zip")
_BOX = "box"


class KubricBilliards(ManualFilesBuilder):
    """Tables of 4-8 numbered balls, 1000 x 1000 pixels, of which the outermost two decide.

    The data set of "Differentiable Patch Selection for Image Recognition" (CVPR 2021): 8,000 tables
    for training, 2,000 for validation, 10,000 for testing. Put the authors' archive into
    `manual_dir` (the only archive there), or the folders `train`, `valid` and `test` that it holds,
    with `<id>.png` and `<id>.json` for each table; a folder of any name may be around them. What
    `write_billiards` wrote is read too, if it has all three.

    Configurations are the published questions, `BILLIARD_LABELS`: "max_left_right" (the default),
    "rightmost_number", "sum_modulo_10" and "min_or_max_by_color".

    An example holds `image`, the PNG file as it is; `label`; `numbers`, of all balls in the order
    of the annotation; `outermost`, positions of the leftmost and the rightmost ball in it;
    `bboxes`, of all balls, or none if the annotations of the split have none, as TFDS has them:
    (y0, x0, y1, x1) over the height and width, in [0, 1]; and `file_name`.

    Example:
        import tensorflow_datasets as tfds
        from tnet_keras.datasets import BilliardsConfig, write_billiards

        # Drawn tables in the authors' layout, in the place of the authors' files.
        counts = {"train": 2, "validation": 1, "test": 1}
        write_billiards("manual", counts, config=BilliardsConfig.small(image_size=256))
        builder = KubricBilliards(data_dir="prepared", config="sum_modulo_10")
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir="manual")
        )
        example = next(iter(builder.as_dataset("test")))
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "`manual_dir` must hold the authors' billiards archive (one .tar.xz), or the folders "
        "train, valid and test that it holds, which the authors of Differentiable Patch "
        "Selection (CVPR 2021) hand out with their code."
    )
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=label, description=f"The question {label!r}.")
        for label in BILLIARD_LABELS
    ]

    def _info(self):
        label = self.builder_config.name
        check_label(label)
        features = tfds.features
        return tfds.core.DatasetInfo(
            builder=self,
            description="Tables of numbered balls; the label follows from some of the numbers.",
            features=features.FeaturesDict(
                {
                    "image": features.Image(shape=(None, None, 3), encoding_format="png"),
                    "label": features.ClassLabel(names=label_names(label)),
                    "bboxes": features.Sequence(features.BBoxFeature()),
                    "numbers": features.Sequence(features.Scalar(np.int64)),
                    "outermost": features.Tensor(shape=(2,), dtype=np.int64),
                    "file_name": features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        manual = self._manual_folder(dl_manager)
        folder = _tables_in(manual)
        if folder is None:
            archive = self._only_archive(manual)
            unpacked = self._unpack(archive)
            folder = _tables_in(unpacked)
            if folder is None:
                raise ValueError(
                    f"The archive must hold folders {', '.join(FOLDERS.values())}. "
                    f"Received: {os.fspath(archive)!r} with {sorted(os.listdir(unpacked))[:5]}"
                )
        found = {split: _find_tables(folder, split, self.builder_config.name) for split in FOLDERS}
        return {split: self._generate_examples(*tables) for split, tables in found.items()}

    def _only_archive(self, manual):
        archives = sorted(
            file for file in manual.iterdir() if file.is_file() and file.name.endswith(_ARCHIVES)
        )
        if len(archives) > 1:
            names = [file.name for file in archives]
            raise self._missing(manual, f"with several archives: {', '.join(names)}")
        if not archives:
            raise self._missing(manual, "without an archive and without the three folders")
        return archives[0]

    def _generate_examples(self, images, annotations, size):
        for file, balls in zip(images, annotations, strict=True):
            name = pathlib.Path(file).name
            places = [id(ball) for ball in balls]
            yield (
                name,
                {
                    "image": read_image(file)[0],
                    "label": billiard_label(balls, self.builder_config.name),
                    "bboxes": relative_boxes([ball[_BOX] for ball in balls if _BOX in ball], size),
                    "numbers": [ball["number"] for ball in balls],
                    "outermost": np.int64([places.index(id(ball)) for ball in outermost(balls)]),
                    "file_name": name,
                },
            )


def _tables_in(folder):
    """The folder that holds all three, which is the given one or in it; None if none does."""
    inner = sorted(each for each in folder.iterdir() if each.is_dir())
    for candidate in (folder, *inner):
        if all((candidate / name).is_dir() for name in FOLDERS.values()):
            return candidate
    return None


def _find_tables(folder, split, label):
    """As `find_tables`, with boxes for all balls or for none."""
    images, annotations, size = find_tables(folder, split, label, with_boxes=False)
    if any(_BOX in ball for balls in annotations for ball in balls):
        return find_tables(folder, split, label, with_boxes=True)
    return images, annotations, size
