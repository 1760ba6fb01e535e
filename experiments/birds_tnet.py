"""Trains, measures, reports and exports a TNet on birds: CUB-200-2011 or NABirds.

    python experiments/birds_tnet.py --flagfile=experiments/flagfiles/cub_tnet_b0.flags
    python experiments/birds_tnet.py --flagfile=experiments/flagfiles/cub_tnet_b0.flags --dry_run

As published the backbone starts from weights that were trained elsewhere (--warm_start) and learns
ten times slower than what is new (--group_rates), and a contrastive loss draws images of one class
together. What goes to --workdir, and the flags that all experiments share, are told in
experiment.py.
"""

import running
import tnet


class BirdsTNet(tnet.TNetExperiment):
    """A TNet on CUB-200-2011 or NABirds, prepared with TFDS, or on a folder of images."""

    defaults = {
        "name": "birds_tnet", "dataset": "caltech_birds2011",
        "preset": "tnet_efficientnet_b0_cub", "augmentation": "birds",
    }  # fmt: skip


def main(argv=None):
    running.run(BirdsTNet(), argv)


if __name__ == "__main__":
    main()
