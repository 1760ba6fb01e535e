"""Trains, measures, reports and exports patch selection on billiard tables.

    python experiments/billiards_topk.py --flagfile=experiments/flagfiles/billiards_demo.flags
    python experiments/billiards_topk.py --preset=topk_billiards --dry_run

The task is the larger number of the leftmost and the rightmost ball. What goes to --workdir, and
the flags that all experiments share, are told in running.py and experiment.py.
"""

import experiment
import running
import topk
from absl import flags

from tnet_keras import datasets

FLAGS = flags.FLAGS

flags.DEFINE_enum("label", "max_left_right", list(datasets.BILLIARD_LABELS), "The question.")


class BilliardsTopK(topk.TaskTopK):
    """Patch selection on billiard tables: drawn, in the authors' folders, or prepared by TFDS."""

    defaults = {
        "name": "billiards_topk", "dataset": "billiards", "preset": "topk_billiards_small",
    }  # fmt: skip
    recorded = (*topk.TopK.recorded, "label")
    own_data_flags = {"label": "max_left_right"}
    drawn, prepared, configuration = "billiards", "kubric_billiards", "label"
    folder_flags = {"label", "random_shift"}
    full_image_rivals = {
        "full_image": topk.full_image_rival(
            "resnet18_billiards", "ResNet-18 on the full image", input_shape=topk.shape()
        ),
        "full_image_position": topk.full_image_rival(
            "resnet18_billiards_position", "ResNet-18 on the full image and its coordinates",
            input_shape=topk.shape(channels=5),
        ),
        "downscaled": topk.full_image_rival(
            "resnet18_billiards_downscaled", "ResNet-18 on the image downscaled by 4",
            input_shape=topk.shape(factor=4),
        ),
    }  # fmt: skip

    def data_flags(self):
        return super().data_flags() | ({"label"} if FLAGS.dataset == self.drawn else set())

    def load(self, split, image_size, batch_size, **options):
        if not experiment.is_prepared():
            options.update(label=FLAGS.label, with_boxes=split == "test")
        return super().load(split, image_size, batch_size, **options)

    def load_folder(self, split, image_size, batch_size, **options):
        if split == "train":
            options.update(random_shift=FLAGS.random_shift)
        return datasets.load_billiards(
            FLAGS.dataset, split, image_size, batch_size, FLAGS.seed, **options
        )


def main(argv=None):
    running.run(BilliardsTopK(), argv)


if __name__ == "__main__":
    main()
