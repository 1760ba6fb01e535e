"""What the models have in common that choose their patches through a `PatchSelection`."""

import keras
import tensorflow as tf

from tnet_keras.learning import hit_reward, policy_loss, update_baseline


class SelectingMixin:
    """The terms of the loss that teach a scorer, and the state that goes with them.

    To be mixed into a `HardAttentionModel`, whose constructor calls `set_selection`.
    """

    extra_metrics = ("score_entropy", "sigma", "reward")

    def set_selection(self, selection, entropy_weight, policy_weight, initial_baseline):
        """Keeps the selection layer and makes the reward baseline.

        Args:
            selection: A `PatchSelection`.
            entropy_weight: Weight of the entropy of the scores; positive rewards high entropy.
            policy_weight: Weight of the policy gradient ("reinforce").
            initial_baseline: First value of the reward baseline ("reinforce").
        """
        self.selection = selection
        self.entropy_weight, self.policy_weight = float(entropy_weight), float(policy_weight)
        self.initial_baseline = float(initial_baseline)
        self.baseline = self.add_baseline(self.initial_baseline)
        if selection.selector == "sinkhorn":
            # A graph cannot warn that the transport has not converged; a number can be looked at.
            self.scalar_metrics["transport_error"] = keras.metrics.Mean(name="transport_error")

    def selection_terms(self, path, logits, labels, weights):
        """Entropy of the raw scores (soft selectors, "reinforce") and policy term ("reinforce").

        Args:
            path: What the selection layer returned.
            logits: `[B, C]`, whose hits are the rewards.
            labels: int `[B]`.
            weights: `[B]` or 1.0.

        Returns:
            Two dicts of scalars: terms of the loss, and what is reported.
        """
        terms, entropy = {}, tf.reduce_mean(path["entropy"])
        if self.entropy_weight and self.selection.selector not in ("hard", "random"):
            terms["entropy"] = -self.entropy_weight * entropy
        rewards = hit_reward(logits, labels)
        if "log_probs" in path:
            losses = policy_loss(tf.reduce_sum(path["log_probs"], axis=1), rewards, self.baseline)
            terms["policy"] = self.policy_weight * tf.reduce_mean(weights * losses)
        reported = {
            "score_entropy": entropy,
            "sigma": self.selection.current_sigma(),
            "reward": tf.reduce_mean(rewards),
        }
        if self.selection.selector == "sinkhorn":
            error = path.get("transport_error")  # not of inference
            reported["transport_error"] = tf.zeros(()) if error is None else tf.reduce_mean(error)
        return terms, reported

    def after_step(self, outputs):
        """Counts the step, after which σ is smaller, and moves the baseline.

        Args:
            outputs: What `training_terms` returned.
        """
        self.selection.count_step()
        self.baseline.assign(update_baseline(self.baseline, outputs["reward"]))

    def get_config(self):
        return {
            **super().get_config(),
            "selection": keras.saving.serialize_keras_object(self.selection),
            "entropy_weight": self.entropy_weight,
            "policy_weight": self.policy_weight,
            "initial_baseline": self.initial_baseline,
        }
