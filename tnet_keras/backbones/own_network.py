"""Reading map, vector and input shape off a network; what a backbone network must look like."""

import keras


def check_input_shape(shape):
    """Returns an image shape `(H, W, C)` as a tuple of ints.

    Args:
        shape: three positive ints.

    Raises:
        ValueError: if it is anything else.
    """
    try:
        checked = tuple(int(size) for size in shape)
        if len(checked) != 3 or min(checked) < 1 or checked != tuple(shape):
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(
            "`input_shape` must be (height, width, channels), positive ints. "
            f"Received: input_shape={shape!r}"
        ) from None
    return checked


def own_outputs(model, options):
    """Finds map and vector in a user's model (the rules are in `Backbone`).

    Args:
        model: `keras.Model`.
        options: dict, may hold `map_layer`.

    Returns:
        `[map [B, m, m', c], vector [B, D]]`, symbolic Keras tensors.

    Raises:
        ValueError: if the model is not of the right form.
    """
    if not getattr(model, "outputs", None) or not getattr(model, "inputs", None):
        raise ValueError(
            "`builder` must be a functional keras.Model (with `inputs` and `outputs`); wrap a "
            f"subclassed model in one. Received: builder={model!r}"
        )
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        raise ValueError(
            "`builder` must have one image input [B, H, W, C]. "
            f"Received: builder.inputs={model.inputs}"
        )
    unknown = sorted(set(options) - {"map_layer"})
    if unknown:
        raise ValueError(
            "`options` of a network of your own must be among ['map_layer']. "
            f"Received: options={options}"
        )
    outputs = list(model.outputs)
    if len(outputs) == 2 and "map_layer" not in options:
        check_outputs(outputs)
        return outputs
    if len(outputs) != 1 or len(outputs[0].shape) not in (2, 4):
        raise ValueError(
            "`builder` must have the outputs [map, vector], or one output of rank 2 or 4 and "
            'options={"map_layer": <layer name>}. '
            f"Received: builder.outputs={outputs}, options={options}"
        )
    output = outputs[0]
    if "map_layer" in options:
        features = layer_output(model, options["map_layer"])
    elif len(output.shape) == 4:
        features = output
    else:
        raise ValueError(
            '`options` must be {"map_layer": <layer name>} for a network with the vector as '
            f"its only output. Received: options={options}"
        )
    if len(output.shape) == 4:
        output = keras.layers.GlobalAveragePooling2D(name="vector_average_pool")(output)
    return [features, output]


def layer_output(model, name):
    """Returns the output of a layer of a functional model, a symbolic `[B, m, m', c]`.

    Args:
        model: functional `keras.Model`.
        name: str, name of a layer that the model calls once.

    Raises:
        ValueError: if there is no such layer or its output is no map.
    """
    maps = [
        layer.name
        for layer in model.layers
        if len(layer._inbound_nodes) == 1 and len(getattr(layer.output, "shape", ())) == 4
    ]
    if name not in maps:
        raise ValueError(
            "`map_layer` must be the name of a layer of the network that is called once and "
            f"gives [B, m, m', c]: one of {maps}. Received: map_layer={name!r}"
        )
    return model.get_layer(name).output


def own_input_shape(model, shape):
    """Returns the image shape `(H, W, C)` of a user's model, ints.

    Args:
        model: functional `keras.Model` with one image input.
        shape: `(H, W, C)` wanted, needed where the model leaves its own open; or None.

    Raises:
        ValueError: if the two disagree or neither says.
    """
    own = tuple(model.inputs[0].shape[1:])
    if shape is None:
        if None in own:
            raise ValueError(
                "`input_shape` must be given for a network that leaves it open. "
                f"Received: input_shape=None, builder.inputs={model.inputs}"
            )
        return own
    shape = check_input_shape(shape)
    if any(size not in (None, wanted) for size, wanted in zip(own, shape, strict=True)):
        raise ValueError(
            f"`input_shape` must agree with the network's own {own}. Received: input_shape={shape}"
        )
    return shape


def rescales(model):
    """Tells whether a network scales its input itself, also inside nested networks.

    Args:
        model: `keras.Model`.
    """
    kinds = (keras.layers.Rescaling, keras.layers.Normalization)
    return any(isinstance(layer, kinds) for layer in model._flatten_layers(include_self=False))


def check_outputs(outputs):
    """Check the outputs of a backbone network.

    Args:
        outputs: list of symbolic tensors, to be `[map [B, m, m', c], vector [B, D]]`.

    Raises:
        ValueError: if they are anything else.
    """
    shapes = [tuple(output.shape) for output in outputs]
    ranks = [len(shape) for shape in shapes]
    if ranks != [4, 2] or shapes[1][-1] is None or shapes[0][-1] is None:
        raise ValueError(
            "A backbone network must have two outputs, map [B, m, m', c] and vector [B, D]. "
            f"Received: outputs of shape {shapes}"
        )
