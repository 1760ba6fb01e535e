"""Trains, measures, reports and exports a TNet on needle digits, ImageNet or a folder of images.

    python experiments/imagenet_tnet.py --flagfile=experiments/flagfiles/needle_digits.flags
    python experiments/imagenet_tnet.py --preset=tnet_bagnet77_imagenet --dry_run

running.py tells what goes to --workdir, experiment.py which flags all experiments share.
"""

import running
import tnet
from absl import flags

FLAGS = flags.FLAGS

flags.DEFINE_float("warmup_scale", 1.0, "needle_digits: how much larger the first digit is.")


class ImageNetTNet(tnet.TNetExperiment):
    """A TNet on needle digits, ImageNet or a folder."""

    defaults = {
        "name": "imagenet_tnet", "dataset": "needle_digits", "preset": "tnet_needle_digits",
    }  # fmt: skip
    recorded = (*tnet.TNetExperiment.recorded, "warmup_scale")
    own_data_flags = {"warmup_scale": 1.0}

    def data_flags(self):
        used = super().data_flags()
        if FLAGS.dataset != "needle_digits":
            return used
        # Neither does anything without the other.
        if FLAGS.warmup_scale != 1.0:
            used.add("warmup_examples")
        if FLAGS.warmup_examples:
            used.add("warmup_scale")
        return used

    def load(self, split, image_size, batch_size, **options):
        if FLAGS.dataset == "needle_digits":
            if split == "train":
                options.update(
                    warmup_examples=FLAGS.warmup_examples, warmup_scale=FLAGS.warmup_scale
                )
            options.update(with_boxes=split == "test")
        return super().load(split, image_size, batch_size, **options)


def main(argv=None):
    running.run(ImageNetTNet(), argv)


if __name__ == "__main__":
    main()
