"""TFDS builder of the Swedish traffic signs' speed-limit subset, from the owners' files."""

import os
import pathlib

import tensorflow_datasets as tfds

from tnet_keras.datasets.builders.image_files import read_image, relative_boxes
from tnet_keras.datasets.builders.manual_files import ManualFilesBuilder
from tnet_keras.datasets.traffic_signs.annotations import (
    TRAFFIC_SIGN_CLASSES,
    check_rule,
    visible_limits,
)
from tnet_keras.datasets.traffic_signs.folder import ANNOTATIONS, FOLDERS, labelled_scenes


class SwedishTrafficSigns(ManualFilesBuilder):
    """The speed limit in 960 x 1280 pictures of a road: none, 50, 70 or 80.

    The subset of the Swedish traffic signs (Larsson and Felsberg, SCIA 2011) on which attention
    sampling (ICML 2019) and differentiable patch selection (CVPR 2021) were measured: 747 images
    for training, 684 for testing. Put into `manual_dir`, for each of `Set1Part0` (train) and
    `Set2Part0` (test):

    - `Set1Part0/annotations.txt`, the list that belongs to the set;
    - the images: in the same folder, or as `Set1Part0.zip` beside it, as downloaded.

    What `write_traffic_signs` wrote is read too; only there can be a `ValidationPart0`.

    Configurations are the published rules of the label: "top_k" (the default) and "ats", see
    `tnet_keras.datasets.labelled_sign`. Images that the rule drops are left out.

    An example holds `image`, the JPEG file as it is; `label`, position in `TRAFFIC_SIGN_CLASSES`;
    `bboxes`, of all visible 50, 70 and 80 signs, the one that decides first, as TFDS has them:
    (y0, x0, y1, x1) over the height and width, in [0, 1]; and `file_name`.

    Example:
        import tensorflow_datasets as tfds
        from tnet_keras.datasets import TrafficScenesConfig, write_traffic_signs

        # Drawn scenes in the owners' layout, in the place of the owners' files.
        counts = {"train": 4, "test": 2}
        write_traffic_signs("manual", counts, config=TrafficScenesConfig.small())
        builder = SwedishTrafficSigns(data_dir="prepared", config="ats")
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir="manual")
        )
        example = next(iter(builder.as_dataset("test")))
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "`manual_dir` must hold Set1Part0/annotations.txt and Set2Part0/annotations.txt, and the "
        "images beside them or in Set1Part0.zip and Set2Part0.zip, from the Swedish traffic signs "
        "data set of Linköping University (cvl.isy.liu.se)."
    )
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(
            name="top_k", description="The first visible limit in the order of the file decides."
        ),
        tfds.core.BuilderConfig(
            name="ats", description="The largest of the visible limits decides."
        ),
    ]

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description="The speed-limit subset of the Swedish traffic signs: none, 50, 70 or 80.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "label": tfds.features.ClassLabel(names=TRAFFIC_SIGN_CLASSES),
                    "bboxes": tfds.features.Sequence(tfds.features.BBoxFeature()),
                    "file_name": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        rule = self.builder_config.name
        check_rule(rule)
        manual = self._manual_folder(dl_manager)
        splits = [split for split in FOLDERS if split != "validation"]
        if (manual / FOLDERS["validation"]).is_dir():
            splits.append("validation")
        # Whatever is missing is said before anything is unpacked.
        for split in splits:
            self._check_files(manual, FOLDERS[split])
        found = {
            split: labelled_scenes(*self._files(manual, FOLDERS[split]), rule) for split in splits
        }
        return {split: self._generate_examples(*scenes) for split, scenes in found.items()}

    def _check_files(self, manual, name):
        if not (manual / name / ANNOTATIONS).is_file():
            raise self._missing(manual, f"without {name}/{ANNOTATIONS}")
        if not _has_images(manual / name) and not _archive(manual, name).is_file():
            raise self._missing(manual, f"without images in {name} and without {name}.zip")

    def _files(self, manual, name):
        """The folder of a set's images, and its annotations."""
        folder, annotations = manual / name, manual / name / ANNOTATIONS
        if not _has_images(folder):
            folder = self._unpack(_archive(manual, name))
            if (folder / name).is_dir():
                folder = folder / name
        return os.fspath(folder), os.fspath(annotations)

    def _generate_examples(self, scenes, size):
        for file, label, signs in scenes:
            limits = visible_limits(signs, self.builder_config.name)
            name = pathlib.Path(file).name
            yield (
                name,
                {
                    "image": read_image(file)[0],
                    "label": label,
                    "bboxes": relative_boxes([sign.box for sign in limits], size),
                    "file_name": name,
                },
            )


def _archive(manual, name):
    return manual / f"{name}.zip"


def _has_images(folder):
    return any(
        not file.name.startswith(".") and file.name != ANNOTATIONS for file in folder.iterdir()
    )
