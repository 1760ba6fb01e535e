"""What every model of the package shares: the step, metrics, and the limits of Keras."""

import keras
import tensorflow as tf

from tnet_keras.backbones import LevelBatchNormalization
from tnet_keras.learning import contrastive_loss, l2_penalty
from tnet_keras.models.checks import check_targets
from tnet_keras.ops.checks import check_one_of

# Folded into seeds so that replicas draw different noise: Keras gives all replicas one seed.
_REPLICA_STRIDE = 7919


class HardAttentionModel(keras.Model):
    """Base of the package's models: a backbone, a classifier, and whatever lies between.

    A subclass implements `training_terms(images, labels, sample_weight, training)`, which returns
    `(terms, outputs)`: `terms` a dict of scalars with `total`, `outputs` a dict with `logits`
    `[R, C]`, `labels` `[R]`, where there is one `sample_weight` `[R]`, and any scalars named like a
    metric of `extra_metrics`; and `after_step(outputs)`, which updates state that is no gradient's
    business.

    Args:
        num_classes: Number of classes C.
        l2: Weight of the sum of squares of the weights; batch-norm parameters are exempt.
        l2_scope: "all", or "new_modules": everything but the backbone.
        contrastive_weight: Weight of the contrastive loss on the classifier's input.
        contrastive_margin: Its margin.
        seed: Seed of everything random in the model.
    """

    #: Names of scalars in `outputs` that are reported as metrics in training.
    extra_metrics = ()

    def __init__(
        self,
        num_classes,
        l2=0.0,
        l2_scope="all",
        contrastive_weight=0.0,
        contrastive_margin=0.4,
        seed=None,
        **kwargs,
    ):
        # Keras must not cast float images to a half-precision dtype before they are cut and scaled.
        super().__init__(autocast=False, **kwargs)
        self.num_classes = num_classes
        self.l2 = float(l2)
        self.l2_scope = check_one_of("l2_scope", l2_scope, ("all", "new_modules"))
        self.contrastive_weight = float(contrastive_weight)
        self.contrastive_margin = float(contrastive_margin)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.accuracy_metric = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
        self.top_5_metric = keras.metrics.SparseTopKCategoricalAccuracy(
            k=min(5, num_classes), name="top_5_accuracy"
        )
        self.loss_metric = keras.metrics.Mean(name="loss")
        self.scalar_metrics = {name: keras.metrics.Mean(name=name) for name in self.extra_metrics}

    def next_seed(self):
        """A fresh int32 `[2]` seed, different in every call and on every replica."""
        seed = tf.cast(self.seed_generator.next(), tf.int32)
        context = tf.distribute.get_replica_context()
        replica = 0 if context is None else context.replica_id_in_sync_group
        return seed + tf.stack([0, tf.cast(replica, tf.int32) * _REPLICA_STRIDE])

    def add_baseline(self, initial):
        """Makes the moving baseline of a policy gradient: a saved scalar, the same on all replicas.

        Args:
            initial: Its first value.

        Returns:
            float32 variable.
        """
        return self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(initial),
            trainable=False,
            dtype="float32",
            # 'none' would let the baselines of the replicas drift apart.
            aggregation="mean",
            name="baseline",
        )

    def add_regularizers(self, terms, features, labels):
        """Adds `l2` and `contrastive` to the terms where configured, and `total`, their sum.

        Args:
            terms: dict of scalars, changed in place.
            features: `[R, D]`, the classifier's input.
            labels: int `[R]`.
        """
        if self.l2:
            terms["l2"] = self.l2 * l2_penalty(self._penalised_variables())
        if self.contrastive_weight:
            terms["contrastive"] = self.contrastive_weight * contrastive_loss(
                features, labels, self.contrastive_margin
            )
        terms["total"] = tf.add_n(list(terms.values()))

    def _penalised_variables(self):
        exempt = {
            id(variable)
            for layer in self._flatten_layers()
            if isinstance(layer, LevelBatchNormalization)
            for variable in layer.trainable_variables
        }
        if self.l2_scope == "new_modules":
            exempt |= {id(variable) for variable in self.backbone.trainable_variables}
        return [v for v in self.trainable_variables if id(v) not in exempt]

    def get_config(self):
        return {
            **super().get_config(),
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "num_classes": self.num_classes,
            "l2": self.l2,
            "l2_scope": self.l2_scope,
            "contrastive_weight": self.contrastive_weight,
            "contrastive_margin": self.contrastive_margin,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        if isinstance(config["backbone"], dict):
            config["backbone"] = keras.saving.deserialize_keras_object(config["backbone"])
        return cls(**config)

    def compile(self, optimizer="adam", loss=None, metrics=None, jit_compile="auto", **kwargs):
        """Configures training; the loss is the model's own.

        Args:
            optimizer: Keras optimiser; gradient clipping is its business.
            loss: Must be None.
            metrics: Further Keras metrics of (labels, logits).
            jit_compile: As in Keras.
            **kwargs: As in `keras.Model.compile`.

        Raises:
            ValueError: If a loss is given, or several replicas are asked for what Keras itself
                cannot do with several replicas.
        """
        if loss is not None:
            raise ValueError(
                f"`loss` must be None: {type(self).__name__} has its own. Received: loss={loss!r}"
            )
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        if replicas > 1:
            # Keras 3.15: each of these fails inside Keras, for any model, with a message that
            # does not name the cause.
            accumulation = getattr(optimizer, "gradient_accumulation_steps", None)
            for name, value, bad in (
                ("jit_compile", jit_compile, jit_compile is True),
                (
                    "steps_per_execution",
                    kwargs.get("steps_per_execution", 1),
                    kwargs.get("steps_per_execution", 1) not in (1, None),
                ),
                ("gradient_accumulation_steps", accumulation, accumulation not in (1, None)),
            ):
                if bad:
                    raise ValueError(
                        f"`{name}` does not work with several replicas in Keras 3. "
                        f"Received: {name}={value!r} with {replicas} replicas"
                    )
        super().compile(
            optimizer=optimizer, loss=None, metrics=metrics, jit_compile=jit_compile, **kwargs
        )

    def compile_from_config(self, config):
        """Compiles a model that was loaded from a file, and makes room for its optimiser state.

        Args:
            config: What `get_compile_config` returned.
        """
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def _unpack(self, data):
        images, labels, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if labels is None:
            raise ValueError("Training and evaluation need (images, labels). Received: no labels")
        labels, sample_weight = check_targets(labels, sample_weight, self.num_classes)
        return images, labels, sample_weight

    def train_step(self, data):
        images, labels, sample_weight = self._unpack(data)
        # A gradient sums over replicas, so each replica gives its share of the mean.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        with tf.GradientTape() as tape:
            terms, outputs = self.training_terms(images, labels, sample_weight, training=True)
            scaled = self.optimizer.scale_loss(terms["total"] / replicas)
        variables = self.trainable_variables
        gradients = tape.gradient(scaled, variables)
        self.optimizer.apply_gradients(
            [(g, v) for g, v in zip(gradients, variables, strict=True) if g is not None]
        )
        self.after_step(outputs)
        return self._update_metrics(terms, outputs)

    def test_step(self, data):
        images, labels, sample_weight = self._unpack(data)
        terms, outputs = self.training_terms(images, labels, sample_weight, training=False)
        return self._update_metrics(terms, outputs)

    def _update_metrics(self, terms, outputs):
        labels, logits = outputs["labels"], outputs["logits"]
        # Means over images, not over batches: the last batch may be smaller.
        images = tf.shape(logits)[0]
        self.loss_metric.update_state(terms["total"], sample_weight=images)
        self.accuracy_metric.update_state(labels, logits)
        self.top_5_metric.update_state(labels, logits)
        for name, metric in self.scalar_metrics.items():
            metric.update_state(outputs[name], sample_weight=images)
        return self.compute_metrics(None, labels, logits, outputs.get("sample_weight"))

    def after_step(self, outputs):
        """State updates after the gradients were applied; nothing by default.

        Args:
            outputs: What `training_terms` returned.
        """
