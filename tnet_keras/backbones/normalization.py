"""Batch normalisation whose moving statistics are kept apart for every level."""

import contextlib
import threading

import keras
import tensorflow as tf

_active = threading.local()


def check_level(level):
    """Check that a level is a Python int of at least 1.

    Args:
        level: anything.

    Raises:
        ValueError: if it is not.
    """
    if isinstance(level, bool) or not isinstance(level, int) or level < 1:
        raise ValueError(
            f"`level` must be a Python int of at least 1 (1 = the whole image). "
            f"Received: level={level!r}"
        )


@contextlib.contextmanager
def statistics_level(level):
    """Choose which level's moving statistics `LevelBatchNormalization` layers use.

    The choice belongs to the current thread (each replica of a `tf.distribute` strategy is traced
    in a thread of its own) and is read when a layer is called, so inside `tf.function` it is
    fixed while tracing.

    Args:
        level: Python int, 1 = the whole image downscaled, 2 = its regions, and so on. A layer with
            fewer sets of statistics uses its last one.

    Raises:
        ValueError: if `level` is not an int of at least 1.
    """
    check_level(level)
    previous = getattr(_active, "level", 1)
    _active.level = level
    try:
        yield
    finally:
        _active.level = previous


@keras.saving.register_keras_serializable(package="tnet_keras")
class LevelBatchNormalization(keras.layers.Layer):
    """Batch normalisation with shared scale and offset, and one pair of moving averages per level.

    `y = gamma * (x - mean) / sqrt(variance + epsilon) + beta`, where mean and variance are the
    batch's own in training and the level's moving averages otherwise (Ioffe and Szegedy, 2015).
    The levels of a TNet see different images (downscaled scenes, full-resolution patches), so
    averages over all of them describe none of them. `levels=1` shares one pair among all
    levels, as the original TNet does.

    Everything is computed in float32 under every dtype policy. As in
    `keras.layers.BatchNormalization` the *biased* batch variance enters the moving average, and a
    frozen layer (`trainable = False`) uses its moving averages in training too.

    Example:

    ```python
    import numpy as np
    from tnet_keras.backbones import LevelBatchNormalization, statistics_level

    layer = LevelBatchNormalization(levels=2)
    with statistics_level(2):
        outputs = layer(np.random.rand(4, 8, 8, 3), training=True)  # [4, 8, 8, 3]
    ```

    Args:
        levels: int >= 1, number of separate pairs of moving statistics.
        momentum: float in [0, 1], weight of the old value in the moving average.
        epsilon: float > 0, added to the variance.
        center: whether to learn the offset `beta`.
        scale: whether to learn the scale `gamma`.
        beta_initializer, gamma_initializer: Keras initializers.
        moving_mean_initializer, moving_variance_initializer: Keras initializers, for every level.
        beta_regularizer, gamma_regularizer: Keras regularizers or None.
        beta_constraint, gamma_constraint: Keras constraints or None.

    Raises:
        ValueError: for arguments out of range or an input of another rank.
    """

    def __init__(
        self,
        levels=1,
        momentum=0.99,
        epsilon=1e-3,
        center=True,
        scale=True,
        beta_initializer="zeros",
        gamma_initializer="ones",
        moving_mean_initializer="zeros",
        moving_variance_initializer="ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        **kwargs,
    ):
        if isinstance(levels, bool) or not isinstance(levels, int) or levels < 1:
            raise ValueError(f"`levels` must be an int of at least 1. Received: levels={levels!r}")
        if not 0 <= momentum <= 1:
            raise ValueError(f"`momentum` must be in [0, 1]. Received: momentum={momentum}")
        if epsilon <= 0:
            raise ValueError(f"`epsilon` must be positive. Received: epsilon={epsilon}")
        super().__init__(**kwargs)
        self.levels = levels
        self.momentum = float(momentum)
        self.epsilon = float(epsilon)
        self.center = center
        self.scale = scale
        self.beta_initializer = keras.initializers.get(beta_initializer)
        self.gamma_initializer = keras.initializers.get(gamma_initializer)
        self.moving_mean_initializer = keras.initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = keras.initializers.get(moving_variance_initializer)
        self.beta_regularizer = keras.regularizers.get(beta_regularizer)
        self.gamma_regularizer = keras.regularizers.get(gamma_regularizer)
        self.beta_constraint = keras.constraints.get(beta_constraint)
        self.gamma_constraint = keras.constraints.get(gamma_constraint)
        self.gamma = None
        self.beta = None
        self.moving_means = []
        self.moving_variances = []

    @property
    def moving_mean(self):
        """Level 1's moving mean, `[C]` float32 variable."""
        return self.moving_means[0]

    @property
    def moving_variance(self):
        """Level 1's moving (biased) variance, `[C]` float32 variable."""
        return self.moving_variances[0]

    def build(self, input_shape):
        if not 2 <= len(input_shape) <= 4 or input_shape[-1] is None:
            raise ValueError(
                "`inputs` of LevelBatchNormalization must be [B, H, W, C], [B, N, C] or [B, C] "
                f"with a known number of channels. Received: inputs.shape={tuple(input_shape)}"
            )
        shape = (input_shape[-1],)
        if self.scale:
            self.gamma = self.add_weight(
                name="gamma",
                shape=shape,
                dtype="float32",
                autocast=False,
                initializer=self.gamma_initializer,
                regularizer=self.gamma_regularizer,
                constraint=self.gamma_constraint,
            )
        if self.center:
            self.beta = self.add_weight(
                name="beta",
                shape=shape,
                dtype="float32",
                autocast=False,
                initializer=self.beta_initializer,
                regularizer=self.beta_regularizer,
                constraint=self.beta_constraint,
            )
        for level in range(1, self.levels + 1):
            suffix = "" if level == 1 else f"_level{level}"
            for name, initializer, variables in (
                ("moving_mean", self.moving_mean_initializer, self.moving_means),
                ("moving_variance", self.moving_variance_initializer, self.moving_variances),
            ):
                variables.append(
                    self.add_weight(
                        name=name + suffix,
                        shape=shape,
                        dtype="float32",
                        autocast=False,
                        initializer=initializer,
                        trainable=False,
                        aggregation="mean",
                    )
                )

    def call(self, inputs, training=None):
        """Normalises by the batch's statistics in training, else by the current level's.

        Args:
            inputs: `[B, H, W, C]` float (channels last), or `[B, N, C]` or `[B, C]`.
            training: bool or None.

        Returns:
            Tensor of the shape of `inputs`, in the layer's compute dtype.
        """
        # Read once: nothing below may depend on a context that another thread could have left.
        index = min(getattr(_active, "level", 1), self.levels) - 1
        moving_mean = self.moving_means[index]
        moving_variance = self.moving_variances[index]
        inputs = tf.convert_to_tensor(inputs)
        shape = inputs.shape
        # The fused kernel takes four axes, and no float64.
        images = tf.cast(inputs, tf.float32) if inputs.dtype == tf.float64 else inputs
        if shape.rank == 2:
            images = images[:, None, None, :]
        elif shape.rank == 3:
            images = images[:, :, None, :]
        gamma = self._value(self.gamma, shape[-1], 1.0)
        beta = self._value(self.beta, shape[-1], 0.0)
        if training and self.trainable:
            # The raw op rather than tf.compat.v1.nn.fused_batch_norm: that one silently raises
            # epsilon to 1.001e-5, a cuDNN limit of the past, and ResNets here use 1e-5.
            outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
                x=images,
                scale=gamma,
                offset=beta,
                mean=tf.zeros([0], tf.float32),
                variance=tf.zeros([0], tf.float32),
                epsilon=self.epsilon,
                is_training=True,
            )
            # The kernel returns the unbiased variance (times N / (N - 1)); its normalisation and
            # Keras' moving average use the biased one. With N = 1 both are 0.
            count = tf.cast(tf.size(images) // shape[-1], tf.float32)
            variance *= tf.maximum(count - 1.0, 1.0) / tf.maximum(count, 1.0)
            self._update(moving_mean, mean)
            self._update(moving_variance, variance)
        else:
            outputs, *_ = tf.raw_ops.FusedBatchNormV3(
                x=images,
                scale=gamma,
                offset=beta,
                mean=tf.convert_to_tensor(moving_mean),
                variance=tf.convert_to_tensor(moving_variance),
                epsilon=self.epsilon,
                is_training=False,
            )
        if shape.rank < 4:
            outputs = tf.reshape(outputs, tf.shape(inputs))
            outputs.set_shape(shape)
        return tf.cast(outputs, self.compute_dtype)

    def compute_output_spec(self, inputs, training=None):
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "levels": self.levels,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            "beta_initializer": keras.initializers.serialize(self.beta_initializer),
            "gamma_initializer": keras.initializers.serialize(self.gamma_initializer),
            "moving_mean_initializer": keras.initializers.serialize(self.moving_mean_initializer),
            "moving_variance_initializer": keras.initializers.serialize(
                self.moving_variance_initializer
            ),
            "beta_regularizer": keras.regularizers.serialize(self.beta_regularizer),
            "gamma_regularizer": keras.regularizers.serialize(self.gamma_regularizer),
            "beta_constraint": keras.constraints.serialize(self.beta_constraint),
            "gamma_constraint": keras.constraints.serialize(self.gamma_constraint),
        }

    def _update(self, variable, value):
        variable.assign(variable * self.momentum + value * (1.0 - self.momentum))

    @staticmethod
    def _value(variable, channels, default):
        if variable is None:
            return tf.fill([channels], default)
        return tf.convert_to_tensor(variable)
