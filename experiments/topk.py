"""What the experiments with patch selection share beside experiment.py: flags, model and rivals."""

import abc

import experiment
import numpy as np
from absl import flags

import tnet_keras
from tnet_keras.evaluation import evaluate_selection
from tnet_keras.layers import SELECTORS
from tnet_keras.ops import PERTURBED_TOP_K_MODES
from tnet_keras.training import loop

FLAGS = flags.FLAGS

flags.DEFINE_integer("patches", None, "Patches K per image.", lower_bound=1)
flags.DEFINE_list("eval_patches", None, "Numbers of patches to evaluate with, such as 5,10.")
flags.DEFINE_enum("mode", None, list(PERTURBED_TOP_K_MODES), "Gradient of the perturbed Top-K.")
flags.DEFINE_float("sigma", None, "Scale of the noise at the start.", lower_bound=0.0)
flags.DEFINE_bool("decay_sigma", True, "Let sigma fall linearly to 0 over the training.")
flags.DEFINE_integer("noise_samples", None, "Samples of the noise per image.", lower_bound=1)
flags.DEFINE_float("entropy_weight", None, "Weight of the entropy of the scores.")
flags.DEFINE_integer("scorer_delay", None, "Steps before the scorer learns.", lower_bound=0)
flags.DEFINE_string("aggregation", None, "mean, max, sum, concat or transformer.")
flags.DEFINE_list(
    "rivals", [],
    "Models trained beside with the same budget: aggregations (mean, max, transformer), selectors "
    "as selector_random, and what the experiment adds.",
)  # fmt: skip

_AGGREGATIONS = ("mean", "max", "sum", "concat", "transformer")


class TopK(experiment.Experiment):
    """An experiment whose model chooses K patches at once."""

    recorded = ("patches",)
    #: Full-image networks that can be asked for as rivals, by name; see `full_image_rival`.
    full_image_rivals = {}

    def build_model(self, num_classes=None, aggregation=None, selector=None):
        known = tnet_keras.preset_names()
        if FLAGS.preset in known and not FLAGS.preset.startswith(("topk_", "nts_")):
            raise ValueError(f"`preset` must select patches. Received: preset={FLAGS.preset!r}")
        options = {"seed": FLAGS.seed, **experiment.model_options()}
        selection = dict(options.pop("selection", {}))
        image_size = options.pop("image_size", None)
        given = {
            "image_size": image_size,
            "num_patches": FLAGS.patches,
            "selector": selector or FLAGS.selector,
            "mode": FLAGS.mode,
            "sigma": FLAGS.sigma,
            "num_samples": FLAGS.noise_samples,
            "decay_steps": self.decay_steps(),
            "seed": FLAGS.seed,
        }
        selection.update({name: value for name, value in given.items() if value is not None})
        given = {
            "num_classes": num_classes,
            "entropy_weight": FLAGS.entropy_weight,
            "scorer_delay": FLAGS.scorer_delay,
            "aggregation": aggregation or FLAGS.aggregation,
        }
        options.update({name: value for name, value in given.items() if value is not None})
        return experiment.build_preset({**options, "selection": selection})

    def decay_steps(self):
        """Steps of the whole training, over which sigma falls, or None where it does not."""
        if not FLAGS.decay_sigma or FLAGS.dry_run:
            return None
        steps = FLAGS.steps_per_epoch
        # Of data that are read the flag says nothing.
        read = experiment.is_folder() or experiment.is_prepared()
        if steps is None and FLAGS.num_train_examples and not read:
            steps = max(1, FLAGS.num_train_examples // FLAGS.batch_size)
        if steps is None:
            raise ValueError(
                "`steps_per_epoch` must be given for sigma to fall, or --nodecay_sigma. "
                "Received: steps_per_epoch=None"
            )
        return FLAGS.epochs * steps

    def locations(self, model):
        own = (model.selection.num_patches,)
        texts = FLAGS.eval_patches or []
        counts = experiment.integers("eval_patches", texts)
        most = model.selection.num_candidates
        if any(not 1 <= count <= most for count in counts):
            raise ValueError(
                f"`eval_patches` must be from 1 to {most}. Received: eval_patches={','.join(texts)}"
            )
        return sorted({own, *((count,) for count in counts)})

    def rivals(self, model):
        return {name: self.rival(name, model) for name in FLAGS.rivals}

    def rival(self, name, model):
        """Describes one of --rivals."""
        selectors = {f"selector_{selector}": selector for selector in SELECTORS}
        if name in self.full_image_rivals:
            label, build = self.full_image_rivals[name](model)
        elif name in _AGGREGATIONS:
            label = f"patch selection, {name} aggregation"
            build = lambda: self.build_model(model.num_classes, aggregation=name)  # noqa: E731
        elif name in selectors:
            label = f"patch selection, selector {selectors[name]}"
            build = lambda: self.build_model(model.num_classes, selector=selectors[name])  # noqa: E731
        else:
            known = [*self.full_image_rivals, *_AGGREGATIONS, *selectors]
            raise ValueError(f"`rivals` must be of {', '.join(known)}. Received: rivals={name}")
        return experiment.Rival(
            label, build, FLAGS.epochs, FLAGS.steps_per_epoch, FLAGS.batch_size,
            FLAGS.learning_rate,
        )  # fmt: skip

    def evaluate(self, model, data, chosen):
        measured = evaluate_selection(
            model, data.dataset, chosen, FLAGS.seed, verbose=loop.progress_mode()
        )
        uniform = float(np.log(model.selection.num_candidates))
        return {
            **measured, "policy_entropy_uniform": uniform, "model": "Patch selection",
            "unit": "patch",
        }  # fmt: skip

    def drawing(self, model):
        selection = model.selection
        if selection.view_size is None:
            return {}
        return {"base_resolution": selection.view_size, "grid": selection.map_size}


class TaskTopK(TopK):
    """A `TopK` on a task that has data sets of its own: drawn, prepared by TFDS, or the owners'.

    A subclass sets `drawn` (name of the drawn data set), `prepared` (that of the TFDS builder),
    `folder_flags` (the flags that the owners' folders heed, if any) and, where the builder has
    configurations, `configuration` (the flag that chooses one), and implements `load_folder`.
    """

    configuration, folder_flags = None, frozenset()

    def owners_folder(self):
        """Whether --dataset is a folder as the owners of the task's data lay them out."""
        return FLAGS.dataset != self.drawn and not experiment.is_prepared()

    def data_flags(self):
        if self.owners_folder():
            return set(self.folder_flags)
        return super().data_flags() | ({self.configuration} if self._configured() else set())

    def load(self, split, image_size, batch_size, **options):
        if self.owners_folder():
            return self.load_folder(split, image_size, batch_size, **options)
        if self._configured():
            options.update(name=f"{self.prepared}/{FLAGS[self.configuration].value}")
        return super().load(split, image_size, batch_size, **options)

    @abc.abstractmethod
    def load_folder(self, split, image_size, batch_size, **options):
        """Opens one split of a folder of the owners."""

    def _configured(self):
        return FLAGS.dataset == self.prepared and self.configuration is not None


def shape(factor=1, channels=3):
    """The input shape of a network that sees the main model's image, downscaled by a factor."""
    return lambda model: (*(side // factor for side in model.image_size), channels)


def same_backbone_rival(label):
    """Describes the main model's backbone on the full image, for `TopK.full_image_rivals`."""
    return lambda model: (label, lambda: experiment.full_image_network(model))


def full_image_rival(preset, label, **options):
    """Describes a preset that sees the full image, for `TopK.full_image_rivals`.

    Args:
        preset: Its name.
        label: Its row in the report.
        **options: Further arguments of `from_preset`; functions are called with the main model.

    Returns:
        Function of the main model that returns the label and a function that builds the rival.
    """

    def describe(model):
        given = {key: value(model) if callable(value) else value for key, value in options.items()}
        return label, lambda: tnet_keras.from_preset(
            preset, num_classes=model.num_classes, seed=FLAGS.seed, **given
        )

    return describe
