"""Trains, measures, reports and exports a TNet.

    python experiments/imagenet_tnet.py --flagfile=experiments/flagfiles/needle_digits.flags
    python experiments/imagenet_tnet.py --preset=tnet_bagnet77_imagenet --dry_run

What goes to --workdir, and the flags that all experiments share, are told in experiment.py.
"""

import math

import experiment
from absl import flags

import tnet_keras
from tnet_keras import datasets
from tnet_keras.evaluation import evaluate_policy, profile
from tnet_keras.models.checks import check_locations
from tnet_keras.training import loop

FLAGS = flags.FLAGS

flags.DEFINE_float("warmup_scale", 1.0, "needle_digits: how much larger the first digit is.")

flags.DEFINE_list("locations", None, "Locations per grid and level in training, such as 2,1.")
flags.DEFINE_list("eval_locations", None, "Locations to evaluate with, such as 0,1,2,2x1.")
flags.DEFINE_enum("selection", None, ["sample", "top_k"], "Choice of locations in training.")
flags.DEFINE_string("selector_options", None, "JSON object: arguments of the selector.")
flags.DEFINE_enum("rule", None, ["paper", "original"], "Learning rule.")
flags.DEFINE_integer("samples", None, "Location samples per image in training.", lower_bound=1)
flags.DEFINE_float("lambda_f", None, "Weight of the policy terms.")
flags.DEFINE_float("lambda_c", None, "Share of the sequence in the class loss; 1: no others.")
flags.DEFINE_float("lambda_r", None, "Share of the sequence in the policy loss; 1: no others.")
flags.DEFINE_enum(
    "batch_norm_statistics", None, ["per_level", "shared"], "Moving averages of batch norm."
)
flags.DEFINE_integer("baseline_epochs", 0, "Full-image network of the same backbone.")
flags.DEFINE_integer("baseline_steps_per_epoch", None, "As steps_per_epoch.", lower_bound=1)
flags.DEFINE_integer("baseline_batch_size", None, "As batch_size.", lower_bound=1)
flags.DEFINE_float("baseline_learning_rate", None, "As learning_rate.")


class ImageNetTNet(experiment.Experiment):
    """A TNet on needle digits, ImageNet or a folder, beside its backbone on the full image."""

    defaults = {
        "name": "imagenet_tnet", "dataset": "needle_digits", "preset": "tnet_needle_digits",
    }  # fmt: skip
    recorded = ("locations",)

    def build_model(self, num_classes=None):
        options = experiment.model_options()
        given = {
            "num_classes": num_classes,
            "selection": FLAGS.selection,
            "selector": FLAGS.selector,
            "rule": FLAGS.rule,
            "num_samples": FLAGS.samples,
            "lambda_f": FLAGS.lambda_f,
            "lambda_c": FLAGS.lambda_c,
            "lambda_r": FLAGS.lambda_r,
        }
        options.update({name: value for name, value in given.items() if value is not None})
        if FLAGS.selector_options is not None:
            options["selector_options"] = experiment.json_object("selector_options")
        if FLAGS.locations is not None:
            options["locations"] = experiment.integers("locations", FLAGS.locations)
        if FLAGS.batch_norm_statistics == "shared":
            options["statistics_levels"] = 1
        options = {"seed": FLAGS.seed, **options}
        model = experiment.build_preset(options)
        if FLAGS.batch_norm_statistics == "per_level":
            levels = getattr(model, "levels", 1)
            if model.backbone.statistics_levels != levels:
                model = experiment.build_preset({**options, "statistics_levels": levels})
        # Other presets may be built and counted, but what is trained and measured here is a TNet.
        if not FLAGS.dry_run and not isinstance(model, tnet_keras.TNet):
            raise ValueError(f"`preset` must be a TNet. Received: preset={FLAGS.preset!r}")
        return model

    def rivals(self, model):
        if not FLAGS.baseline_epochs:
            return {}
        return {
            "baseline": experiment.Rival(
                "full-image network of the same backbone",
                lambda: experiment.full_image_network(model),
                FLAGS.baseline_epochs,
                FLAGS.baseline_steps_per_epoch,
                FLAGS.baseline_batch_size or FLAGS.batch_size,
                FLAGS.baseline_learning_rate or FLAGS.learning_rate,
            )
        }

    def locations(self, model):
        """Reads --eval_locations; else up to five locations, one more at each deeper level."""
        if isinstance(model, tnet_keras.models.PatchSelectionClassifier):
            return [(model.selection.num_patches,)]
        if not isinstance(model, tnet_keras.TNet):
            return [()]
        if FLAGS.eval_locations is not None:
            texts = FLAGS.eval_locations
            chosen = {experiment.integers("eval_locations", text.split("x")) for text in texts}
        elif model.levels == 1:
            chosen = {()}
        else:
            counts = (1, 2, 3, 5) if model.levels == 2 else (1, 2, 3)
            deeper = (1,) * (model.levels - 2)
            chosen = {(), *((count, *deeper) for count in counts if count <= model.grid.num_cells)}
        chosen = {check_locations(item, model.levels, model.grid) for item in chosen}
        if FLAGS.eval_locations is None:
            # Where a default looks at as many regions as the model's own, the model's own counts.
            own = profile.total_locations(model.locations)
            chosen = {item for item in chosen if profile.total_locations(item) != own}
        chosen.add(model.locations)
        return list(profile.keyed_locations(chosen).values())

    def load(self, split, image_size, batch_size, **options):
        if FLAGS.dataset == "needle_digits":
            if split == "train":
                options.update(
                    num_examples=FLAGS.num_train_examples,
                    cache=FLAGS.cache,
                    random_shift=FLAGS.random_shift,
                    warmup_examples=FLAGS.warmup_examples,
                    warmup_scale=FLAGS.warmup_scale,
                )
            else:
                options.update(
                    num_examples=experiment.number_of_examples(split), with_boxes=split == "test"
                )
        return datasets.load(
            FLAGS.dataset, split, image_size, batch_size, FLAGS.seed, data_dir=FLAGS.data_dir,
            **options,
        )  # fmt: skip

    def can_resume_anywhere(self):
        # imagenet2012 has no cheap way to the middle of its stream: it starts over.
        return FLAGS.dataset != "imagenet2012"

    def evaluate(self, model, data, chosen):
        return {
            **evaluate_policy(
                model, data.dataset, chosen, FLAGS.seed, verbose=loop.progress_mode()
            ),
            "policy_entropy_uniform": math.log(model.grid.num_cells),
        }

    def drawing(self, model):
        return {"base_resolution": model.base_resolution, "grid": model.grid}


def main(argv=None):
    experiment.run(ImageNetTNet(), argv)


if __name__ == "__main__":
    main()
