"""Trains, measures, reports and exports patch selection on megapixel MNIST.

    python experiments/megapixel_mnist_topk.py --flagfile=experiments/flagfiles/mnist_demo.flags
    python experiments/megapixel_mnist_topk.py --preset=topk_megapixel_mnist --dry_run

Which digit is there three times among noise? What goes to --workdir, and the flags that all
experiments share, are told in running.py and experiment.py.
"""

import experiment
import running
import topk
from absl import flags

from tnet_keras import datasets

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "digits", "auto", "Where drawn digits come from: auto, mnist, sklearn or a folder of IDX files."
)


class MegapixelMnistTopK(topk.TaskTopK):
    """Patch selection on megapixel MNIST: drawn, sparse in a folder, or prepared by TFDS."""

    defaults = {
        "name": "megapixel_mnist_topk", "dataset": "megapixel_mnist",
        "preset": "topk_megapixel_mnist_small",
    }  # fmt: skip
    recorded = (*topk.TopK.recorded, "digits")
    own_data_flags = {"digits": "auto"}
    drawn, prepared = "megapixel_mnist", "attention_sampling_mnist"
    full_image_rivals = {
        "same_backbone": topk.same_backbone_rival("The backbone of the patches on the full image"),
    }

    def data_flags(self):
        return super().data_flags() | ({"digits"} if FLAGS.dataset == self.drawn else set())

    def load(self, split, image_size, batch_size, **options):
        if not experiment.is_prepared():
            options.update(with_boxes=split == "test")
        if FLAGS.dataset == self.drawn:
            options.update(source=FLAGS.digits)
        return super().load(split, image_size, batch_size, **options)

    def load_folder(self, split, image_size, batch_size, **options):
        return datasets.load_megapixel_mnist(
            FLAGS.dataset, split, image_size, batch_size, FLAGS.seed, **options
        )


def main(argv=None):
    running.run(MegapixelMnistTopK(), argv)


if __name__ == "__main__":
    main()
