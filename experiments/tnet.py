"""What the experiments with a TNet share beside experiment.py: flags, model and evaluation."""

import math

import experiment
from absl import flags

import tnet_keras
from tnet_keras.evaluation import evaluate_policy, profile
from tnet_keras.models.checks import check_locations
from tnet_keras.training import loop

FLAGS = flags.FLAGS

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


class TNetExperiment(experiment.Experiment):
    """An experiment with a TNet, if asked for beside its backbone on the full image."""

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

    def evaluate(self, model, data, chosen):
        return {
            **evaluate_policy(
                model, data.dataset, chosen, FLAGS.seed, verbose=loop.progress_mode()
            ),
            "policy_entropy_uniform": math.log(model.grid.num_cells),
        }

    def drawing(self, model):
        return {"base_resolution": model.base_resolution, "grid": model.grid}
