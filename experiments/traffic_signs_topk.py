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


class TrafficSignsTopK(topk.TopK):
    """Patch selection on traffic scenes, drawn or read from the folders of the Swedish set."""

    defaults = {
        "name": "traffic_signs_topk", "dataset": "traffic_signs",
        "preset": "topk_traffic_signs_small",
    }  # fmt: skip
    recorded = (*topk.TopK.recorded, "label_rule")
    full_image_rivals = {
        "full_image": topk.full_image_rival(
            "cnn_traffic_signs", "Thin residual network on the full image",
            input_shape=topk.shape(),
        ),
        "same_backbone": topk.same_backbone_rival("The backbone of the patches on the full image"),
    }  # fmt: skip

    def load(self, split, image_size, batch_size, **options):
        options.update(with_boxes=split == "test")
        if split == "train":
            options.update(random_shift=FLAGS.random_shift, random_contrast=FLAGS.random_contrast)
        if FLAGS.dataset == "traffic_signs":
            options.update(num_examples=experiment.number_of_examples(split))
        else:
            options.update(rule=FLAGS.label_rule)
        return datasets.load_traffic_signs(
            FLAGS.dataset, split, image_size, batch_size, FLAGS.seed, **options
        )


def main(argv=None):
    running.run(TrafficSignsTopK(), argv)


if __name__ == "__main__":
    main()
