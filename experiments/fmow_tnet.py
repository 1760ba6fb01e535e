"""Trains, measures, reports and exports a TNet on satellite images: Functional Map of the World.

The second stage of the paper starts from the first and has one level more:

    python experiments/fmow_tnet.py --flagfile=experiments/flagfiles/fmow_tnet_448.flags
    python experiments/fmow_tnet.py --flagfile=experiments/flagfiles/fmow_tnet_896.flags

running.py tells what goes to --workdir, experiment.py which flags all experiments share.
"""

import running
import tnet


class FmowTNet(tnet.TNetExperiment):
    """A TNet on fMoW, prepared with TFDS, or on a folder of images."""

    defaults = {
        "name": "fmow_tnet", "dataset": "fmow_rgb", "preset": "tnet_efficientnet_b0_fmow_448",
        "augmentation": "fmow",
    }  # fmt: skip


def main(argv=None):
    running.run(FmowTNet(), argv)


if __name__ == "__main__":
    main()
