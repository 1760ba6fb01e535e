"""TFDS builder of megapixel MNIST: drawn from MNIST's own files, or read from what was written."""

import dataclasses

import numpy as np
import tensorflow_datasets as tfds

from tnet_keras.datasets.builders.image_files import relative_boxes
from tnet_keras.datasets.builders.manual_files import ManualFilesBuilder
from tnet_keras.datasets.megapixel_mnist.folder import dense_image, find_images
from tnet_keras.datasets.megapixel_mnist.scenes import MegapixelMnistConfig, MegapixelMnistScenes
from tnet_keras.datasets.megapixel_mnist.stream import DEFAULT_EXAMPLES
from tnet_keras.datasets.needle_scenes import NUM_CLASSES
from tnet_keras.datasets.streams import SPLITS


@dataclasses.dataclass(eq=False)
class AttentionSamplingMnistConfig(tfds.core.BuilderConfig):
    """A configuration of `AttentionSamplingMnist`.

    Args:
        name, version, release_notes, supported_versions, description, tags: as of TFDS.
        scenes: `MegapixelMnistConfig` of what is drawn; None: images are read, not drawn.
        counts: dict from splits to how many images are drawn.
        seed: int >= 0; the images are those of `megapixel_mnist` with the same seed.
    """

    scenes: MegapixelMnistConfig | None = None
    counts: dict = dataclasses.field(default_factory=lambda: dict(DEFAULT_EXAMPLES))
    seed: int = 0


class AttentionSamplingMnist(ManualFilesBuilder):
    """Three digits of one class among others and strokes on a large black canvas.

    The data set of "Processing Megapixel Images with Deep Attention-Sampling Models" (ICML 2019),
    which its authors hand out as a way to make it from MNIST. Configurations:

    - "published" (the default): 1500 x 1500 pixels, 5,000 images for training, 1,000 for testing,
      and 1,000 for validation (not published) whose digits no other split has. Put MNIST's four
      IDX files, gzipped or not, into `manual_dir`: `train-images-idx3-ubyte`,
      `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte`, `t10k-labels-idx1-ubyte`.
    - "easy": the published easy variant from the same files, 500 x 500 pixels without strokes.
    - "written": what `write_megapixel_mnist` wrote, `train.npz` and `test.npz`, and
      `validation.npz` if it is there. Put them into `manual_dir`.

    An example holds `image`, `[S, S, 1]` uint8, kept as PNG; `label`, the class 0-9; `bboxes`, of
    the target digits' stamps, as TFDS has them: (y0, x0, y1, x1) over the side, in [0, 1]; and
    `index`, the image's index in its split: the same image as of `megapixel_mnist`.

    Example:
        import tensorflow_datasets as tfds
        from tnet_keras.datasets import write_megapixel_mnist

        config = MegapixelMnistConfig.small(image_size=200)
        write_megapixel_mnist("manual", {"train": 2, "test": 2}, config=config, source="sklearn")
        builder = AttentionSamplingMnist(data_dir="prepared", config="written")
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir="manual")
        )
        example = next(iter(builder.as_dataset("test")))
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "`manual_dir` must hold MNIST's four IDX files (train-images-idx3-ubyte, "
        "train-labels-idx1-ubyte and t10k-..., gzipped or not, from any mirror of MNIST), or for "
        "the configuration 'written' train.npz and test.npz, as `write_megapixel_mnist` makes them."
    )
    BUILDER_CONFIGS = [
        AttentionSamplingMnistConfig(
            name="published",
            description="1500 x 1500 pixels with strokes.",
            scenes=MegapixelMnistConfig(),
        ),
        AttentionSamplingMnistConfig(
            name="easy",
            description="500 x 500 pixels without strokes.",
            scenes=MegapixelMnistConfig.easy(),
        ),
        AttentionSamplingMnistConfig(
            name="written", description="Read from files of `write_megapixel_mnist`."
        ),
    ]

    def _info(self):
        features = tfds.features
        return tfds.core.DatasetInfo(
            builder=self,
            description="Five digits on a large black canvas; the label is the class of three.",
            features=features.FeaturesDict(
                {
                    "image": features.Image(shape=(None, None, 1), encoding_format="png"),
                    "label": features.ClassLabel(num_classes=NUM_CLASSES),
                    "bboxes": features.Sequence(features.BBoxFeature()),
                    "index": features.Scalar(np.int64),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        manual = self._manual_folder(dl_manager)
        config = self.builder_config
        names = {file.name for file in manual.iterdir()}
        if config.scenes is None:
            if missing := {"train.npz", "test.npz"} - names:
                raise self._missing(manual, f"without {min(missing)}")
            splits = [split for split in SPLITS if f"{split}.npz" in names]
            found = {split: find_images(manual, split) for split in splits}
            return {split: _read(parts) for split, parts in found.items()}
        for part in ("train", "t10k"):
            for kind in ("images", "labels"):
                if not any(name.startswith(f"{part}-{kind}") for name in names):
                    raise self._missing(manual, f"without {part}-{kind}")
        scenes = {
            split: MegapixelMnistScenes(config.scenes, split, config.seed, manual)
            for split in config.counts
        }
        return {
            split: self._generate_examples(scenes[split], count)
            for split, count in config.counts.items()
        }

    def _generate_examples(self, scenes, count):
        for index in range(count):
            layout = scenes.layout(index)
            yield index, _example(index, scenes.draw(layout), layout.label, layout.boxes)


def _read(parts):
    """Examples of what `find_images` found."""
    size, offsets = int(parts["image_size"]), parts["offsets"]
    for index, (label, boxes) in enumerate(zip(parts["labels"], parts["boxes"], strict=True)):
        inked = slice(offsets[index], offsets[index + 1])
        image = dense_image(parts["indices"][inked], parts["values"][inked], size)
        yield index, _example(index, image, label, boxes)


def _example(index, image, label, boxes):
    return {
        "image": image[..., None],
        "label": int(label),
        "bboxes": relative_boxes(boxes, image.shape),
        "index": index,
    }
