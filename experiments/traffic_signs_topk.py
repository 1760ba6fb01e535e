"""Trains, measures, reports and exports patch selection on scenes with a speed-limit sign.

    python experiments/traffic_signs_topk.py --flagfile=experiments/flagfiles/traffic_demo.flags
    python experiments/traffic_signs_topk.py --preset=topk_traffic_signs_5 --dry_run

running.py tells what goes to --workdir, experiment.py which flags all experiments share.
"""

import experiment
import running
import topk
from absl import flags

from tnet_keras import datasets

FLAGS = flags.FLAGS

flags.DEFINE_enum("label_rule", "top_k", ["top_k", "ats"], "How annotations become a label.")
flags.DEFINE_bool("random_contrast", False, "Vary contrast and brightness in training.")


class TrafficSignsTopK(topk.TaskTopK):
    """Patch selection on traffic scenes: drawn, in the Swedish folders, or prepared by TFDS."""

    defaults = {
        "name": "traffic_signs_topk", "dataset": "traffic_signs",
        "preset": "topk_traffic_signs_small",
    }  # fmt: skip
    recorded = (*topk.TopK.recorded, "label_rule")
    own_data_flags = {"label_rule": "top_k", "random_contrast": False}
    drawn, prepared, configuration = "traffic_signs", "swedish_traffic_signs", "label_rule"
    folder_flags = {"random_shift", "random_contrast", "label_rule"}
    full_image_rivals = {
        "full_image": topk.full_image_rival(
            "cnn_traffic_signs", "Thin residual network on the full image",
            input_shape=topk.shape(),
        ),
        "same_backbone": topk.same_backbone_rival("The backbone of the patches on the full image"),
    }  # fmt: skip

    def data_flags(self):
        own = {"random_contrast"} if FLAGS.dataset == self.drawn else set()
        return super().data_flags() | own

    def load(self, split, image_size, batch_size, **options):
        if not experiment.is_prepared():
            options.update(with_boxes=split == "test")
            if split == "train":
                options.update(random_contrast=FLAGS.random_contrast)
        return super().load(split, image_size, batch_size, **options)

    def load_folder(self, split, image_size, batch_size, **options):
        if split == "train":
            options.update(random_shift=FLAGS.random_shift)
        return datasets.load_traffic_signs(
            FLAGS.dataset, split, image_size, batch_size, FLAGS.seed, FLAGS.label_rule, **options
        )


def main(argv=None):
    running.run(TrafficSignsTopK(), argv)


if __name__ == "__main__":
    main()
