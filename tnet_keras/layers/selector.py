"""How candidates are chosen by their scores: softly in training, the best of them at inference."""

import math

import keras
import tensorflow as tf

from tnet_keras.ops import (
    location_log_probs,
    normalize_scores,
    perturbed_top_k,
    sample_without_replacement,
    sinkhorn_top_k,
    top_k_cells,
)
from tnet_keras.ops.checks import check_count, check_one_of, check_scores
from tnet_keras.ops.perturbed_topk import NOISES, PERTURBED_TOP_K_MODES

SELECTORS = ("perturbed", "sinkhorn", "hard", "random", "reinforce")
SOFT_SELECTORS = ("perturbed", "sinkhorn")


@keras.saving.register_keras_serializable(package="tnet_keras")
class Selector(keras.layers.Layer):
    """Chooses K of N candidates by their scores.

    `layer(scores [B, N], k, training)` returns a dict, see `call`.

    * "perturbed": perturbed Top-K on min-max normalised scores (CVPR 2021);
    * "sinkhorn": optimal-transport Top-K on the same;
    * "hard": the K best, no gradient to the scores;
    * "random": uniform without replacement, in training and at inference: the control;
    * "reinforce": drawn without replacement from the softmax of the scores; `log_probs` is what a
      policy gradient needs.

    At inference every selector but "random" takes the K best.

    Args:
        selector: How candidates are chosen in training, see above.
        sigma: Scale σ ≥ 0 of the noise at the start.
        decay_steps: Training steps over which σ falls linearly to 0; None for none. The step is a
            saved variable.
        num_samples: Samples of the noise.
        noise: "normal" or "gumbel".
        mode: Gradient of the perturbed Top-K: "full", "full_baseline" or "diagonal". The default is
            chosen by measurement (docs/selectors_billiards.md, three seeds): scorers of billiard
            tables learned by it each time, 0.90 ± 0.02; by the released "diagonal", which is
            biased, 0.82 ± 0.12; by "full" 0.80 ± 0.18.
        epsilon: Regularisation of the Sinkhorn Top-K.
        seed: Seed of noise and draws.

    Raises:
        ValueError: If an argument is outside its range.

    Example:

    ```python
    outputs = Selector("hard")(keras.ops.convert_to_tensor([[0.1, 0.9, 0.4]]), k=2)
    outputs["selected"]    # [[1, 2]]
    ```
    """

    def __init__(
        self,
        selector="perturbed",
        sigma=0.05,
        decay_steps=None,
        num_samples=500,
        noise="normal",
        mode="full_baseline",
        epsilon=1e-2,
        seed=None,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        check_one_of("selector", selector, SELECTORS)
        check_one_of("mode", mode, PERTURBED_TOP_K_MODES)
        check_one_of("noise", noise, NOISES)
        check_count("num_samples", num_samples, 2 if mode == "full_baseline" else 1)
        if seed is not None:
            check_count("seed", seed, 0)
        if not 0 <= sigma < math.inf:
            raise ValueError(
                f"`sigma` must be a finite number of at least 0. Received: sigma={sigma}"
            )
        if not 0 < epsilon < math.inf:
            raise ValueError(
                f"`epsilon` must be a finite number above 0. Received: epsilon={epsilon}"
            )
        if decay_steps is not None and decay_steps < 1:
            raise ValueError(
                f"`decay_steps` must be None or at least 1. Received: decay_steps={decay_steps}"
            )
        self.selector = selector
        self.sigma, self.decay_steps = float(sigma), decay_steps
        self.num_samples, self.noise, self.mode = num_samples, noise, mode
        self.epsilon, self.seed = epsilon, seed
        self.step = self.add_weight(
            shape=(),
            initializer="zeros",
            trainable=False,
            dtype="float32",
            # Every replica counts the same steps.
            aggregation="only_first_replica",
            name="step",
        )
        self.built = True

    def build(self, input_shape=None):
        self.built = True

    def current_sigma(self):
        """σ at the current step: `σ · max(0, 1 - step / decay_steps)`, float32 scalar."""
        if self.decay_steps is None:
            return tf.constant(self.sigma)
        left = 1.0 - tf.convert_to_tensor(self.step) / float(self.decay_steps)
        return self.sigma * tf.maximum(left, 0.0)

    def count_step(self):
        """Counts one training step, after which σ is smaller."""
        self.step.assign_add(1.0)

    def is_soft(self, training):
        """Whether candidates are mixed instead of taken."""
        return bool(training) and self.selector in SOFT_SELECTORS

    def uses_seed(self, training):
        """Whether a call depends on its seed."""
        drawn_in_training = ("perturbed", "reinforce")
        return self.selector == "random" or (training and self.selector in drawn_in_training)

    def call(self, scores, k=1, training=False, seed=None):
        """Chooses.

        Args:
            scores: `[B, N]`, raw.
            k: K, from 1 to N.
            training: As in Keras.
            seed: int32 `[2]` for noise and draws; None for the layer's `seed` in every call.

        Returns:
            dict: `indicators` float32 `[B, K, N]`, rows ordered by candidate (by score for
            "sinkhorn"); `selected` int32 `[B, K]`, each slot's likeliest candidate, ascending but
            for soft rows; `log_probs` `[B, K]` with "reinforce" in training; `transport_error`
            `[B]` with "sinkhorn" in training, see `sinkhorn_top_k`.

        Raises:
            ValueError: If the scores are eager and not finite.
        """
        scores = tf.cast(scores, tf.float32)
        if tf.executing_eagerly():
            check_scores(scores, k)
        seed = tf.constant([0, self.seed or 0], tf.int32) if seed is None else seed
        if self.is_soft(training):
            outputs = self._soft_outputs(scores, k, seed)
            chosen = tf.argmax(outputs["indicators"], axis=-1, output_type=tf.int32)
            return {**outputs, "selected": chosen}
        drawn = self._draw(scores, k, seed, training)
        result = {}
        if training and self.selector == "reinforce":
            result["log_probs"] = location_log_probs(scores, drawn)
        chosen = tf.sort(tf.cast(drawn, tf.int32), axis=-1)
        return {**result, "indicators": tf.one_hot(chosen, scores.shape[1]), "selected": chosen}

    def crisp(self, scores, k, seed):
        """Candidates of one noise sample: what a soft selection is the mean of.

        Args:
            scores: `[B, N]`, raw.
            k: K.
            seed: int32 `[2]`.

        Returns:
            int32 `[B, K]`, ascending. No gradient.
        """
        normalized = normalize_scores(tf.stop_gradient(tf.cast(scores, tf.float32)))
        if self.selector != "perturbed":
            return tf.sort(top_k_cells(normalized, k), axis=-1)
        sample = perturbed_top_k(
            normalized, k, self.current_sigma(), 1, self.noise, mode="full", seed=seed
        )
        return tf.argmax(sample, axis=-1, output_type=tf.int32)

    def _soft_outputs(self, scores, k, seed):
        normalized = normalize_scores(scores)
        if self.selector == "sinkhorn":
            indicators, error = sinkhorn_top_k(
                normalized, k, epsilon=self.epsilon, return_error=True
            )
            return {"indicators": indicators, "transport_error": error}
        indicators = perturbed_top_k(
            normalized, k, self.current_sigma(), self.num_samples, self.noise, self.mode, seed
        )
        return {"indicators": indicators}

    def _draw(self, scores, k, seed, training):
        """Candidates int32 `[B, k]`, in the order drawn where they are drawn."""
        if self.selector == "random":
            return sample_without_replacement(tf.zeros_like(scores), k, seed)
        if self.selector == "reinforce" and training:
            return sample_without_replacement(tf.stop_gradient(scores), k, seed)
        # The scores as the soft selectors see them, so that σ = 0 and inference agree bit for bit.
        return top_k_cells(normalize_scores(scores), k)

    def get_config(self):
        return {
            **super().get_config(),
            "selector": self.selector,
            "sigma": self.sigma,
            "decay_steps": self.decay_steps,
            "num_samples": self.num_samples,
            "noise": self.noise,
            "mode": self.mode,
            "epsilon": self.epsilon,
            "seed": self.seed,
        }
