"""The layer that turns an image into a map for the location module and a feature vector."""

import contextlib
import json

import keras
from keras import ops

from tnet_keras.backbones import registry
from tnet_keras.backbones.conversion import with_level_statistics
from tnet_keras.backbones.normalization import check_level, statistics_level
from tnet_keras.backbones.own_network import (
    check_input_shape,
    check_outputs,
    own_input_shape,
    own_outputs,
    rescales,
)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
DEFAULT_INPUT_SHAPE = (77, 77, 3)


@keras.saving.register_keras_serializable(package="tnet_keras")
class Backbone(keras.layers.Layer):
    """Feature extractor shared by all levels: image in, `(map, vector)` out.

    Example:

    ```python
    import numpy as np
    from tnet_keras.backbones import Backbone

    backbone = Backbone("convnet", input_shape=(77, 77, 3), statistics_levels=2)
    images = np.random.randint(0, 256, (2, 77, 77, 3))
    features, vector = backbone(images, level=1)  # [2, 10, 10, 128] and [2, 128]
    ```

    Args:
        builder: name of a registered backbone (`tnet_keras.backbones.names()`), or a functional
            `keras.Model` of your own with one image input and either the two outputs
            `(map [B, m, m', c], vector [B, D])`, or one output: the vector `[B, D]`, or a map
            `[B, n, n', D]` whose average over positions is the vector. With one output, the map
            is the output of the layer named by `options={"map_layer": name}` (may be left out if
            the output is a map itself). The model is copied: its weights are the start, and every
            BatchNormalization in it becomes a `LevelBatchNormalization`.
        input_shape: `(H, W, C)`, ints, pixels. None = (77, 77, 3), or the shape of your own model.
        input_scaling: what the network is fed for pixels x in 0..255. "symmetric": x / 127.5 - 1;
            "unit": x / 255; "imagenet": (x / 255 - mean) / std, per channel; "none": x. None = the
            default of the registered backbone; for your own model "none" if it has a Rescaling or
            Normalization layer, else "symmetric".
        statistics_levels: int >= 1, pairs of moving statistics per batch normalisation. 1 = shared
            by all levels, as in the original TNet.
        options: dict of JSON-serialisable options for the builder.

    Raises:
        ValueError: for an unknown builder or option, or a network of the wrong form.
    """

    def __init__(
        self,
        builder,
        input_shape=None,
        input_scaling=None,
        statistics_levels=1,
        options=None,
        **kwargs,
    ):
        levels = statistics_levels
        if isinstance(levels, bool) or not isinstance(levels, int) or levels < 1:
            raise ValueError(
                "`statistics_levels` must be an int of at least 1. "
                f"Received: statistics_levels={levels!r}"
            )
        if input_scaling is not None and input_scaling not in registry.INPUT_SCALINGS:
            raise ValueError(
                f"`input_scaling` must be one of {registry.INPUT_SCALINGS} or None. "
                f"Received: input_scaling={input_scaling!r}"
            )
        # The layer must not cast 0-255 pixels to a half-precision dtype before they are scaled:
        # bfloat16 holds 8 significant bits.
        super().__init__(autocast=False, **kwargs)
        self.statistics_levels = levels
        self._options = _json_copy(options)
        if isinstance(builder, str):
            self._builder_json = json.dumps(builder)
            build, default_scaling = self._build_registered, registry.get(builder).input_scaling
        elif isinstance(builder, keras.Model):
            outputs = own_outputs(builder, self._options)
            self._builder_json = json.dumps(keras.saving.serialize_keras_object(builder))
            build = self._build_own
            default_scaling = "none" if rescales(builder) else "symmetric"
            input_shape = own_input_shape(builder, input_shape)
            builder = keras.Model(builder.inputs, outputs, name=builder.name)
        else:
            raise ValueError(
                f"`builder` must be a functional keras.Model or one of {registry.names()}. "
                f"Received: builder={builder!r} (of type {type(builder).__name__})"
            )
        self.image_shape = check_input_shape(input_shape or DEFAULT_INPUT_SHAPE)
        self.input_scaling = input_scaling or default_scaling
        if self.input_scaling == "imagenet" and self.image_shape[-1] != 3:
            raise ValueError(
                "`input_shape` must have 3 channels with input_scaling='imagenet'. "
                f"Received: input_shape={self.image_shape}"
            )
        with _global_dtype_policy(self.dtype_policy):
            self.network = build(builder)
        check_outputs(self.network.outputs)
        if not self.trainable:
            self.network.trainable = False
        self.built = True

    @property
    def map_shape(self):
        """`(m, m', c)` of the map, ints."""
        return tuple(self.network.outputs[0].shape[1:])

    @property
    def feature_dim(self):
        """D, length of the vector, int."""
        return self.network.outputs[1].shape[-1]

    def call(self, images, level=1, training=None, any_size=False):
        """Scales images and extracts their features.

        Args:
            images: `[B, H, W, C]`, float or uint8, range 0-255.
            level: Python int, 1 = the whole image. Selects the moving statistics; a level above
                `statistics_levels` uses the last ones.
            training: bool or None.
            any_size: whether images may be of another height and width than `image_shape`: for
                fully convolutional networks. The map's size follows that of the images.

        Returns:
            `(map [B, m, m', c], vector [B, D])` in the compute dtype.

        Raises:
            ValueError: for images of another shape, or a level that is no int of at least 1.
        """
        check_level(level)
        shape = tuple(images.shape[1:])
        resized = any_size and shape[2:] == self.image_shape[2:]
        if shape != self.image_shape and not resized:
            raise ValueError(
                f"`images` must have the shape [B, {', '.join(map(str, self.image_shape))}]. "
                f"Received: images.shape={tuple(images.shape)}"
            )
        scaled = self.scale_images(images)
        # Keras: calling a functional model refuses every size but its own, its `call` does not.
        network = self.network.call if resized else self.network
        with statistics_level(level):
            features, vector = network(scaled, training=training)
        return features, vector

    def scale_images(self, images):
        """Pixels in 0-255 to what the network is fed (see `input_scaling`).

        Args:
            images: `[B, H, W, C]`, any dtype, range 0-255.

        Returns:
            `[B, H, W, C]` float32.
        """
        images = ops.cast(images, "float32")
        if self.input_scaling == "symmetric":
            return images * (1 / 127.5) - 1.0
        if self.input_scaling == "unit":
            return images * (1 / 255)
        if self.input_scaling == "imagenet":
            mean = ops.convert_to_tensor(IMAGENET_MEAN, "float32")
            std = ops.convert_to_tensor(IMAGENET_STD, "float32")
            return (images * (1 / 255) - mean) / std
        return images

    def get_config(self):
        config = super().get_config()
        # Weights a builder was told to start from are in the saved file: loading must not fetch
        # them again.
        options = {name: value for name, value in self._options.items() if name != "weights"}
        options = json.loads(json.dumps(options))
        return {
            **config,
            "builder": json.loads(self._builder_json),
            "input_shape": list(self.image_shape),
            "input_scaling": self.input_scaling,
            "statistics_levels": self.statistics_levels,
            "options": options,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        if isinstance(config["builder"], dict):
            config["builder"] = keras.saving.deserialize_keras_object(config["builder"])
        if isinstance(config.get("dtype"), dict):
            config["dtype"] = keras.dtype_policies.deserialize(config["dtype"])
        return cls(**config)

    def _build_registered(self, name):
        entry = registry.get(name)
        allowed = entry.option_names()
        unknown = sorted(set(self._options) - set(allowed))
        if unknown:
            raise ValueError(
                f"`options` of backbone {name!r} must be among {allowed}. "
                f"Received: options={self._options}"
            )
        return entry.builder(self.image_shape, self.statistics_levels, **self._options)

    def _build_own(self, network):
        inputs = keras.Input(self.image_shape, name="images")
        return with_level_statistics(network, self.statistics_levels, inputs)


@contextlib.contextmanager
def _global_dtype_policy(policy):
    """Layers of a network take the policy of its Backbone, also when it is loaded elsewhere."""
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(previous)


def _json_copy(options):
    if options is None:
        return {}
    try:
        if not isinstance(options, dict):
            raise TypeError
        return json.loads(json.dumps(options))
    except TypeError:
        raise ValueError(
            f"`options` must be a dict of JSON-serialisable values. Received: options={options!r}"
        ) from None
