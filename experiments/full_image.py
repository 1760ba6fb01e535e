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
from tnet_keras import datasets
from tnet_keras.evaluation import evaluate_full_image
from tnet_keras.training import loop

FLAGS = flags.FLAGS

# What can be varied in the training images of drawn data sets.
_DRAWING = {
    "needle_digits": {"random_shift", "warmup_examples"},
    "billiards": {"random_shift", "warmup_examples"},
    "traffic_signs": {"random_shift"},
    "megapixel_mnist": set(),
}

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
        return tuple(given) if given else model.image_size

    def load(self, split, image_size, batch_size, **options):
        if split == "train" and FLAGS.dataset in datasets.DRAWN_NAMES:
            drawing = {"random_shift": FLAGS.random_shift, "warmup_examples": FLAGS.warmup_examples}
            drawing = {name: value for name, value in drawing.items() if value}
            unknown = sorted(drawing.keys() - _DRAWING[FLAGS.dataset])
            if unknown:
                raise ValueError(
                    f"`{unknown[0]}` is not for the data set {FLAGS.dataset}. "
                    f"Received: {unknown[0]}={drawing[unknown[0]]}"
                )
            options.update(drawing)
        return super().load(split, image_size, batch_size, **options)

    def locations(self, model):
        return [()]

    def evaluate(self, model, data, chosen):
        measured = evaluate_full_image(model, data.dataset, verbose=loop.progress_mode())
        return {**measured, "model": FLAGS.title, "unit": None}


def main(argv=None):
    running.run(FullImage(), argv)


if __name__ == "__main__":
    main()
