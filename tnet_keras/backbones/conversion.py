"""Turning any functional network into one with batch-normalisation statistics per level."""

import keras

from tnet_keras.backbones.normalization import LevelBatchNormalization

_BATCH_NORMALIZATION_ARGUMENTS = (
    "momentum",
    "epsilon",
    "center",
    "scale",
    "beta_initializer",
    "gamma_initializer",
    "moving_mean_initializer",
    "moving_variance_initializer",
    "beta_regularizer",
    "gamma_regularizer",
    "beta_constraint",
    "gamma_constraint",
)


def level_batch_normalization(layer, levels):
    """Returns the `LevelBatchNormalization`, unbuilt, for a Keras `BatchNormalization`.

    Args:
        layer: built `keras.layers.BatchNormalization` over the last axis.
        levels: int, pairs of moving statistics.

    Raises:
        ValueError: if the layer normalises another axis, or uses renorm or synchronized statistics.
    """
    config = layer.get_config()
    rank = layer.input_spec.ndim
    if config["axis"] not in (-1, rank - 1):
        raise ValueError(
            "A backbone's BatchNormalization must normalise the last axis (channels last). "
            f"Received: axis={config['axis']} in layer {layer.name!r}"
        )
    for argument in ("renorm", "synchronized"):
        if config.get(argument):
            raise ValueError(
                f"A backbone's BatchNormalization must have {argument}=False. "
                f"Received: {argument}=True in layer {layer.name!r}"
            )
    return LevelBatchNormalization(
        levels,
        name=layer.name,
        dtype=layer.dtype_policy,
        trainable=layer.trainable,
        **{name: config[name] for name in _BATCH_NORMALIZATION_ARGUMENTS},
    )


def with_level_statistics(
    network, levels, inputs, keep_weights=True, replace_layer=None, call_function=None
):
    """A copy of a network in which every `BatchNormalization` is a `LevelBatchNormalization`.

    Args:
        network: functional `keras.Model`; nested functional and sequential models are entered.
        levels: int, pairs of moving statistics of every normalisation.
        inputs: `keras.KerasTensor` the copy starts from.
        keep_weights: whether to copy the weights, the moving statistics to every level; if False
            the copy is freshly initialised.
        replace_layer: function of a layer that returns another layer in its place, or None to
            keep it.
        call_function: `call_function` of `keras.models.clone_model`.

    Returns:
        `keras.Model` that shares no variable with `network`; layers keep their names.

    Raises:
        ValueError: if `levels > 1` and a layer hides a batch normalisation of its own.
    """
    pairs = []

    def clone_layer(layer):
        copy = replace_layer(layer) if replace_layer else None
        if copy is None:
            if isinstance(layer, keras.layers.BatchNormalization):
                copy = level_batch_normalization(layer, levels)
            else:
                if levels > 1:
                    _check_hides_no_statistics(layer)
                copy = layer.__class__.from_config(layer.get_config())
        pairs.append((layer, copy))
        return copy

    def call_layer(layer, *args, **kwargs):
        # Keras hands the mask argument that its own BatchNormalization takes on to the copy.
        if isinstance(layer, LevelBatchNormalization) and kwargs.pop("mask", None) is not None:
            raise ValueError(
                "A backbone's BatchNormalization must be called without a mask. "
                f"Received: a mask in layer {layer.name!r}"
            )
        call = call_function or (lambda layer, *args, **kwargs: layer(*args, **kwargs))
        return call(layer, *args, **kwargs)

    converted = keras.models.clone_model(
        network,
        input_tensors=_like(network.input, inputs),
        clone_function=clone_layer,
        call_function=call_layer,
        recursive=True,
    )
    if keep_weights:
        for layer, copy in pairs:
            _copy_weights(layer, copy)
    return converted


def _like(structure, inputs):
    """`inputs` wrapped as the network's own input is: a tensor, or a list of one."""
    return keras.tree.map_structure(lambda _: inputs, structure)


def _check_hides_no_statistics(layer):
    if not isinstance(layer, keras.layers.Layer):
        return
    for inner in layer._flatten_layers(include_self=False):
        if isinstance(inner, keras.layers.BatchNormalization):
            raise ValueError(
                "`statistics_levels` must be 1 for a network with a layer that contains a "
                f"BatchNormalization of its own. Received: layer {layer.name!r} "
                f"({layer.__class__.__name__}) containing {inner.name!r}"
            )


def _copy_weights(layer, copy):
    if not isinstance(layer, keras.layers.Layer):
        return
    if isinstance(copy, LevelBatchNormalization) and not isinstance(layer, LevelBatchNormalization):
        if layer.scale:
            copy.gamma.assign(layer.gamma)
        if layer.center:
            copy.beta.assign(layer.beta)
        for mean, variance in zip(copy.moving_means, copy.moving_variances, strict=True):
            mean.assign(layer.moving_mean)
            variance.assign(layer.moving_variance)
    elif layer.weights:
        copy.set_weights(layer.get_weights())
