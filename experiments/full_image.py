"""Trains, measures, reports and exports a network that sees the full image: what the papers
compare with.

    python experiments/full_image.py --flagfile=experiments/flagfiles/imagenet_bagnet77.flags
    python experiments/full_image.py --preset=efficientnet_b0_fmow_896 --dry_run

What goes to --workdir, and the flags that all experiments share, are told in experiment.py.
"""

import experiment
from absl import flags

import tnet_keras
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
        size = options.pop("image_size", None)
        if size is not None:
            options["input_shape"] = (*size, 5 if options.get("position_channels") else 3)
        model = experiment.build_preset(options)
        if not isinstance(model, tnet_keras.FullImageClassifier):
            raise ValueError(f"`preset` must see the full image. Received: preset={FLAGS.preset!r}")
        return model

    def locations(self, model):
        return [()]

    def evaluate(self, model, data, chosen):
        measured = evaluate_full_image(model, data.dataset, verbose=loop.progress_mode())
        return {**measured, "model": FLAGS.title, "unit": None}


def main(argv=None):
    experiment.run(FullImage(), argv)


if __name__ == "__main__":
    main()
