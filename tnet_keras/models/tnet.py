"""TNet: recursive hard attention over scale, trained by REINFORCE (NeurIPS 2021)."""

import dataclasses

import keras
import tensorflow as tf

from tnet_keras.backbones import Backbone
from tnet_keras.geometry import RegionGrid
from tnet_keras.layers import (
    ClassifierHead,
    ContextLocationModule,
    FeatureWeighting,
    MeanAggregation,
    PositionalEncoding,
    Selector,
    SqueezeExciteLocationModule,
)
from tnet_keras.layers.selector import SELECTORS, SOFT_SELECTORS
from tnet_keras.learning import (
    RewardWeights,
    baseline_target,
    loss_terms,
    update_baseline,
)
from tnet_keras.learning.reinforce import check_rule
from tnet_keras.models.checks import (
    check_cells,
    check_image_size,
    check_images,
    check_levels,
    check_locations,
    check_map_indices,
    check_targets,
)
from tnet_keras.models.hard_attention import HardAttentionModel
from tnet_keras.models.traversal import traverse
from tnet_keras.ops.checks import check_one_of

_LOCATION_MODULES = {
    "context": ContextLocationModule,
    "squeeze_excite": SqueezeExciteLocationModule,
}


@keras.saving.register_keras_serializable(package="tnet_keras")
class TNet(HardAttentionModel):
    """Looks at a small copy, chooses a few cells of a grid, looks at those in full resolution.

    One backbone, one location module, one positional encoding and one classifier are shared by all
    levels. Level 1 sees the whole image resized to the base resolution; at each further level k
    cells of a region grid are chosen per view, cut from the full-resolution image, resized and
    processed. All feature vectors are position-encoded, aggregated and classified.

    `model(images)` → float32 logits `[B, C]`; images `[B, H, W, 3]`, uint8 or float, 0–255, any
    H×W the grid allows.

    Training (`compile(optimizer)`, `fit`) is the rule of the paper: class gradients reach the
    backbone, positional encoding, aggregation and classifier, never through a selection; policy
    gradients reach the location module only. With `num_samples` M > 1 each image is played M times.
    The location module can be taught in other ways, see `selector`.

    Args:
        backbone: A `tnet_keras.backbones.Backbone`; its input size is the base resolution.
        num_classes: Number of classes C.
        grid: A `RegionGrid`, the same at every level.
        image_size: `(height, width)` the model is meant for, pixels; for export and profiling.
        locations: Cells chosen per view at each level but the last, e.g. `(2,)`, `(2, 1)`; `()` is
            a plain network on the downscaled image. Can be changed at call time.
        levels: Number of levels L ≥ 1; None for `len(locations) + 1`.
        location_module: "context" (published for BagNet), "squeeze_excite" (for EfficientNet), or
            a Keras layer taking (map, vector) and returning `[B, rows · cols]`.
        unit_norm: Whether location logits are scaled to norm 1, as in the released code.
        positional: "concat" or "add", see `PositionalEncoding`.
        position_dim: Length of the position code; None for the form's default.
        aggregation: "mean" or "weighted".
        map_indices: Positions of the backbone's map that serve as the grid's cells, one per row or
            column (square grids; as published), or None for those nearest to the cells' centres.
        dropout: Drop probability before the classifier.
        classifier_initializer: Kernel initialiser of the classifier, or None.
        selection: In training, "sample" (without replacement, the paper) or "top_k" (released).
        rule: "paper" or "original", see `learning.reinforce`.
        log_prob: "plackett_luce" or "independent"; None for that of the rule.
        lambda_f: λf, weight of the policy terms.
        lambda_c: λc, share of the sequence in the cross-entropy.
        lambda_r: λr, share of the sequence in the policy terms.
        level_cap: Last level whose features enter the per-feature terms, or None.
        num_samples: M, location samples per image in training.
        initial_baseline: First value of the reward baseline.
        selector: How the location module is trained: "reinforce" (the published way: `selection`
            chooses, the policy terms teach); "perturbed" or "sinkhorn", whose soft indicators have
            a gradient (patch selection, CVPR 2021): in training, a view is the mix of the cells
            under its indicators, its position their mean; two levels and M = 1 only. "hard" and
            "random" teach the location module nothing; "random" chooses at inference too.
        selector_options: dict of arguments of `layers.Selector`, such as `sigma`, or None.
        seed: Seed of sampling and dropout.
        **kwargs: `l2`, `l2_scope`, `contrastive_weight`, `contrastive_margin`, see
            `HardAttentionModel`, and what a Keras model takes.

    Raises:
        ValueError: If an argument is outside its range, or the image too small for the grid.

    Example:

    ```python
    backbone = Backbone("convnet", input_shape=(32, 32, 3))
    model = TNet(backbone, num_classes=10, grid=RegionGrid(3, 3, 0.5), image_size=(64, 64))
    outputs = model.attend(keras.ops.zeros((1, 64, 64, 3)), locations=(1,))
    outputs["boxes"].shape    # (1, 1, 4)
    ```
    """

    extra_metrics = ("reward", "baseline", "policy_entropy")

    def __init__(
        self,
        backbone,
        num_classes,
        grid,
        image_size,
        locations=(2,),
        levels=None,
        location_module="context",
        unit_norm=True,
        positional="concat",
        position_dim=None,
        aggregation="mean",
        map_indices=None,
        dropout=0.0,
        classifier_initializer=None,
        selection="sample",
        rule="paper",
        log_prob=None,
        lambda_f=0.1,
        lambda_c=0.3,
        lambda_r=0.3,
        level_cap=None,
        num_samples=1,
        initial_baseline=0.5,
        selector="reinforce",
        selector_options=None,
        seed=None,
        **kwargs,
    ):
        head = ClassifierHead(
            num_classes, dropout, classifier_initializer, seed=seed, name="classifier"
        )
        super().__init__(num_classes=num_classes, seed=seed, **kwargs)
        if not isinstance(backbone, Backbone):
            raise ValueError(
                "`backbone` must be a tnet_keras.backbones.Backbone. "
                f"Received: backbone={backbone!r}"
            )
        if not isinstance(grid, RegionGrid):
            raise ValueError(f"`grid` must be a RegionGrid. Received: grid={grid!r}")
        if isinstance(num_samples, bool) or not isinstance(num_samples, int) or num_samples < 1:
            raise ValueError(
                "`num_samples` must be an integer of at least 1. "
                f"Received: num_samples={num_samples!r}"
            )
        self.grid = grid
        self.image_size = check_image_size(image_size)
        self.levels = check_levels(levels, locations)
        self.locations = check_locations(locations, self.levels, grid)
        grid.level_sizes(*self.image_size, self.levels)  # raises where the image is too small
        self.unit_norm, self.position_dim = unit_norm, position_dim
        self.positional_form = check_one_of("positional", positional, ("concat", "add"))
        self.aggregation_form = check_one_of("aggregation", aggregation, ("mean", "weighted"))
        self.selection = check_one_of("selection", selection, ("sample", "top_k"))
        self.rule = check_rule(rule)
        log_prob = log_prob or ("plackett_luce" if rule == "paper" else "independent")
        self.log_prob = check_one_of("log_prob", log_prob, ("plackett_luce", "independent"))
        self.reward_weights = RewardWeights(lambda_f, lambda_c, lambda_r, level_cap)
        self.num_samples = num_samples
        self.initial_baseline = float(initial_baseline)
        self.selector = check_one_of("selector", selector, SELECTORS)
        if selector in SOFT_SELECTORS and (self.levels > 2 or num_samples > 1):
            raise ValueError(
                f"`selector` {selector!r} needs two levels at most and num_samples=1. "
                f"Received: levels={self.levels}, num_samples={num_samples}"
            )
        self.selector_options = dict(selector_options or {})
        self.chooser = None
        if selector != "reinforce":
            self.chooser = Selector(selector, **self.selector_options, name="selector")
        self.map_indices = check_map_indices(map_indices, grid, backbone.map_shape)
        self.backbone = backbone
        if isinstance(location_module, str):
            check_one_of("location_module", location_module, tuple(_LOCATION_MODULES))
            module = _LOCATION_MODULES[location_module]
            self.location_module = module(unit_norm=unit_norm, name="location_module")
        elif isinstance(location_module, keras.Layer):
            self.location_module = location_module
        else:
            raise ValueError(
                "`location_module` must be a name or a Keras layer. "
                f"Received: location_module={location_module!r}"
            )
        self._location_module_config = location_module
        self.positional = PositionalEncoding(positional, position_dim, name="positional_encoding")
        self.aggregation = (
            MeanAggregation(name="aggregation")
            if aggregation == "mean"
            else FeatureWeighting(name="feature_weighting")
        )
        self.classifier = head
        self.baseline = self.add_baseline(self.initial_baseline)
        self._build_parts()

    def _build_parts(self):
        # Shapes do not depend on the image, so the model is whole, countable and loadable at once.
        width, channels = self.backbone.feature_dim, self.backbone.map_shape[-1]
        cells = (None, self.grid.rows, self.grid.cols, channels)
        self.backbone.build((None, *self.base_resolution, 3))
        if not self.location_module.built:
            self.location_module.build((cells, (None, width)))
        self.positional.build(((None, width), (None, 3)))
        self.aggregation.build((None, None, width))
        self.classifier.build((None, width))
        self.built = True

    @property
    def base_resolution(self):
        """`(height, width)` every view is resized to, pixels."""
        return tuple(self.backbone.network.input_shape[1:3])

    def build(self, input_shape=None):
        self.built = True

    def call(self, images, training=False, locations=None):
        """Class logits.

        Args:
            images: `[B, H, W, 3]`, uint8 or float, 0–255.
            training: Whether cells are chosen as in training (`selection`) and dropout is on.
            locations: Cells per view at each level, or None for the model's own.

        Returns:
            float32 `[B, C]`; with `training` and M samples `[B · M, C]`.
        """
        path = self._traverse(images, locations, training, self.selection if training else "top_k")
        aggregated, _ = self.aggregation(path["features"])
        return self.classifier(aggregated, training=training)

    def attend(self, images, locations=None, cells=None):
        """Classifies and says where it looked (inference: the best k cells of every view).

        Args:
            images: `[B, H, W, 3]`, uint8 or float, 0–255.
            locations: Cells per view at each level, or None for the model's own; `()` = context
                only.
            cells: Optional list of int `[B, grids, k]`, one per level: these cells are taken
                instead of the policy's own choice (random or oracle locations).

        Returns:
            dict with
            `logits`, `probabilities` float32 `[B, C]`;
            `boxes` float32 `[B, T, 4]`, `(y0, x0, y1, x1)` in pixels of the images, half-open,
            image-major, then level, then parent, then ascending cell;
            `levels` int32 `[B, T]`;
            `location_probabilities` list of float32 `[B, grids, K]`, one per level that chooses;
            `selected` list of int32 `[B, grids, k]`, cell indices;
            `box_probabilities` float32 `[B, T]`, each chosen cell's probability in its grid;
            `feature_logits` float32 `[B, 1+T, C]`, index 0 = context;
            `feature_weights` float32 `[B, 1+T]`;
            `attended_logits` float32 `[B, C]`, without the context vector (absent for T = 0).

        Raises:
            ValueError: If the images, locations or cells are not usable.
        """
        path = self._traverse(images, locations, False, "top_k", cells)
        features = path["features"]
        aggregated, feature_weights = self.aggregation(features)
        logits = self.classifier(aggregated, training=False)
        outputs = {
            "logits": logits,
            "probabilities": tf.nn.softmax(logits),
            "boxes": path["boxes"],
            "levels": path["level_of_box"],
            "location_probabilities": [tf.nn.softmax(z) for z in path["location_logits"]],
            "selected": path["cells"],
            "box_probabilities": path["box_probabilities"],
            "feature_logits": self.classifier(features, training=False),
            "feature_weights": feature_weights,
        }
        if path["levels"]:
            attended, _ = self.aggregation(features[:, 1:])
            outputs["attended_logits"] = self.classifier(attended, training=False)
        return outputs

    def aggregated_features(self, images):
        """The aggregated vector that the classifier sees (inference, the model's own locations).

        Args:
            images: `[B, H, W, 3]`, uint8 or float, 0–255.

        Returns:
            `[B, D]`, the model's compute dtype.
        """
        return self.aggregation(self._traverse(images, None, False, "top_k")["features"])[0]

    def loss_terms(self, images, labels, training=True, sample_weight=None):
        """The terms of the loss by name, each weighted; `total` is their sum.

        Args:
            images: `[B, H, W, 3]`, uint8 or float, 0–255.
            labels: int `[B]`, 0..C-1.
            training: Whether dropout is on and batch norm uses (and records) the batch's
                statistics. Cells are chosen by `selection` in any case.
            sample_weight: Optional `[B]`.

        Returns:
            dict of float32 scalars: `sequence_cross_entropy`, `sequence_policy`,
            `feature_cross_entropy`, `feature_policy`, `total`, and `l2`, `contrastive` where
            configured.

        Raises:
            ValueError: If images or labels are not usable.
        """
        images = check_images(images)
        labels, sample_weight = check_targets(
            labels, sample_weight, self.num_classes, images.shape[0]
        )
        return self.training_terms(images, labels, sample_weight, training, self.selection)[0]

    def training_terms(self, images, labels, sample_weight, training, selection=None):
        """The terms of the loss and what the step reports; see `HardAttentionModel`.

        Args:
            images: `[B, H, W, 3]`.
            labels: int `[B]`.
            sample_weight: `[B]` or None.
            training: As in Keras.
            selection: "sample" or "top_k"; None for the model's own in training, else top-k.

        Returns:
            `(terms, outputs)`, two dicts.
        """
        if selection is None:
            selection = self.selection if training else "top_k"
        samples = self.num_samples if training else 1
        path = self._traverse(images, None, training, selection, num_samples=samples)
        labels = tf.repeat(tf.cast(labels, tf.int32), samples)
        if sample_weight is not None:
            sample_weight = tf.repeat(tf.cast(sample_weight, tf.float32), samples)
        features = path["features"]
        aggregated, _ = self.aggregation(features)
        logits = self.classifier(aggregated, training=training)
        feature_logits = self.classifier(features, training=training)
        terms, rewards = loss_terms(
            logits,
            feature_logits,
            labels,
            path["log_probs"],
            path["levels"],
            self.baseline,
            self.reward_weights,
            self.rule,
            sample_weight,
        )
        self.add_regularizers(terms, aggregated, labels)
        entropies = [tf.reduce_mean(e) for e in path["entropies"]]
        outputs = {
            "logits": logits,
            "labels": labels,
            "sample_weight": sample_weight,
            "rewards": rewards,
            "reward": tf.reduce_mean(rewards["sequence"]),
            "baseline": tf.convert_to_tensor(self.baseline),
            "policy_entropy": tf.add_n(entropies) / len(entropies) if entropies else tf.zeros([]),
        }
        return terms, outputs

    def after_step(self, outputs):
        target = baseline_target(outputs["rewards"], self.reward_weights, self.rule)
        self.baseline.assign(update_baseline(self.baseline, target))
        if self.chooser is not None:
            self.chooser.count_step()

    def _traverse(self, images, locations, training, selection, cells=None, num_samples=None):
        images = check_images(images)
        if cells is not None:
            cells, locations = check_cells(
                cells, locations, self.levels, self.grid, images.shape[0]
            )
        locations = self.locations if locations is None else locations
        if num_samples is None:
            num_samples = self.num_samples if training else 1
        return traverse(
            self,
            images,
            check_locations(locations, self.levels, self.grid),
            training=training,
            selection=selection,
            cells=cells,
            num_samples=num_samples,
        )

    def get_config(self):
        config = super().get_config()
        module = self._location_module_config
        config.update(
            grid=dataclasses.asdict(self.grid),
            image_size=list(self.image_size),
            locations=list(self.locations),
            levels=self.levels,
            location_module=(
                module if isinstance(module, str) else keras.saving.serialize_keras_object(module)
            ),
            unit_norm=self.unit_norm,
            positional=self.positional_form,
            position_dim=self.position_dim,
            aggregation=self.aggregation_form,
            map_indices=None if self.map_indices is None else list(self.map_indices),
            dropout=self.classifier.dropout,
            classifier_initializer=self.classifier.kernel_initializer,
            selection=self.selection,
            rule=self.rule,
            log_prob=self.log_prob,
            **dataclasses.asdict(self.reward_weights),
            num_samples=self.num_samples,
            initial_baseline=self.initial_baseline,
            selector=self.selector,
            selector_options=self.selector_options,
        )
        return config

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        if isinstance(config["location_module"], dict):
            config["location_module"] = keras.saving.deserialize_keras_object(
                config["location_module"]
            )
        config["grid"] = RegionGrid(**config["grid"])
        return super().from_config(config)
