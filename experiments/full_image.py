"""Trains, measures, reports and exports a network that sees the full image: what the papers
compare with.

    python experiments/full_image.py --flagfile=experiments/flagfiles/imagenet_bagnet77.flags
    python experiments/full_image.py --preset=efficientnet_b0_fmow_896 --dry_run

running.py tells what goes to --workdir, experiment.py which flags all experiments share.
"""

import experiment
import running
from absl import flags

import tnet_keras
from tnet_keras.datasets.folder import check_image_size
from tnet_keras.evaluation import evaluate_full_image
from tnet_keras.training import loop

FLAGS = flags.FLAGS

flags.DEFINE_string("title", "Full-image network", "What the report calls the model.")


class FullImage(experiment.Experiment):
    """A network on the full image, with any data set that `tnet_keras.datasets.load` opens."""

    defaults = {
        "name": "full_image", "dataset": "needle_digits", "preset": "convnet_needle_digits",
    }  # fmt: skip
    recorded = ("title",)

    def build_model(self, num_classes=None):
        options = {"seed": FLAGS.seed, **experiment.model_options()}
        if num_classes is not None:
            options["num_classes"] = num_classes
        options.pop("image_size", None)
        model = experiment.build_preset(options)
        if not isinstance(model, tnet_keras.FullImageClassifier):
            raise ValueError(f"`preset` must see the full image. Received: preset={FLAGS.preset!r}")
        return model

    def image_size(self, model):
        """--image_size is that of the data here: the model resizes them to what it sees."""
        given = experiment.model_options().get("image_size")
        return check_image_size(given) if given else model.image_size

    def locations(self, model):
        return [()]

    def evaluate(self, model, data, chosen):
        measured = evaluate_full_image(model, data.dataset, verbose=loop.progress_mode())
        return {**measured, "model": FLAGS.title, "unit": None}


def main(argv=None):
    running.run(FullImage(), argv)


if __name__ == "__main__":
    main()
