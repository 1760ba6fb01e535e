"""Trains, measures, reports and exports NTS-Top-K on CUB-200-2011, or on any other data.

    python experiments/cub_nts_topk.py --flagfile=experiments/flagfiles/cub_demo.flags
    python experiments/cub_nts_topk.py --preset=nts_topk_cub_mean --dry_run

running.py tells what goes to --workdir, experiment.py which flags all experiments share.
"""

import experiment
import running
import topk
from absl import flags

from tnet_keras import datasets

FLAGS = flags.FLAGS

flags.DEFINE_list("resize", None, "Height and width before the crop, pixels; published: 600,600.")


# Digits that fill as much of the image as birds do: the anchors are made for such objects.
LARGE_DIGITS = datasets.NeedleDigitsConfig(
    image_size=448, digit_size=(96.0, 140.0), num_distractors=(5, 8), stroke_length=(60.0, 130.0),
    stroke_width=(9.0, 16.0),
)  # fmt: skip


class CubNtsTopK(topk.TopK):
    """Patches among the 1,614 anchors of NTS-Net, chosen by Top-K."""

    defaults = {
        "name": "cub_nts_topk", "dataset": "caltech_birds2011", "preset": "nts_topk_cub_mean",
    }  # fmt: skip
    recorded = (*topk.TopK.recorded, "resize")
    own_data_flags = {"resize": None}
    full_image_rivals = {
        "same_backbone": topk.same_backbone_rival("Its backbone on the full image"),
    }

    def data_flags(self):
        drawn = FLAGS.dataset in datasets.DRAWN_NAMES
        return super().data_flags() | (set() if drawn else {"resize"})

    def load(self, split, image_size, batch_size, **options):
        if FLAGS.dataset == "needle_digits":
            options.update(with_boxes=split == "test", config=LARGE_DIGITS)
        elif FLAGS.resize is not None:
            options.update(resize=experiment.integers("resize", FLAGS.resize))
        return super().load(split, image_size, batch_size, **options)


def main(argv=None):
    running.run(CubNtsTopK(), argv)


if __name__ == "__main__":
    main()
