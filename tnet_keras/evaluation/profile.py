"""Parameters and multiply-adds, counted from the model itself.

A multiply-add (MAC) is one multiplication and one addition of a convolution or a matrix product;
the papers' "FLOPs" are these. Element-wise work, pooling, normalisation, resizing and gathering are
not counted. The count walks the traced graph backwards from what is returned, so what a function
computes and drops does not count.
"""

import math

import keras
import numpy as np
import tensorflow as tf

from tnet_keras.geometry import total_locations

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_LOOPS = ("While", "StatelessWhile")
_BRANCHES = ("If", "StatelessIf", "Case", "StatelessCase")


def count_parameters(model):
    """Counts the numbers a model holds.

    Args:
        model: A built `keras.Model` or layer.

    Returns:
        `(all, trainable)`, integers. `all` includes moving statistics and the reward baseline, and
        leaves out optimizer, metric and random-seed state.

    Raises:
        ValueError: If the model is not built.
    """
    if not model.built:
        raise ValueError(
            f"`model` must be built before its parameters can be counted. Received: model={model!r}"
        )
    return (
        sum(math.prod(weight.shape) for weight in model.weights),
        sum(math.prod(weight.shape) for weight in model.trainable_weights),
    )


def count_macs(function, inputs):
    """Counts the multiply-adds of one call.

    Counted from static shapes: convolutions (plain, grouped, depthwise, transposed), matrix
    products and two-operand einsums, in nested functions too. A loop counts its body as often as it
    runs at most, a branch counts as its most expensive side.

    Args:
        function: A `keras.Model` (called in inference mode) or a callable of tensors.
        inputs: `(height, width, channels)` of one uint8 image, for a batch of 1; or a list of
            `tf.TensorSpec`, one per argument.

    Returns:
        Number of multiply-adds, integer.

    Raises:
        ValueError: If a counted operation has no static shape, or a loop with multiply-adds has no
            static number of rounds.

    Example:

    ```python
    dense = keras.layers.Dense(10)
    count_macs(dense, [tf.TensorSpec((1, 64))])      # 640
    ```
    """
    if isinstance(inputs, (tuple, list)) and all(isinstance(size, int) for size in inputs):
        inputs = [tf.TensorSpec((1, *inputs), tf.uint8, name="images")]

    def call(*arguments):
        if isinstance(function, keras.Layer):
            return function(*arguments, training=False)
        return function(*arguments)

    concrete = tf.function(call, autograph=False).get_concrete_function(*inputs)
    return _count(concrete.graph, concrete.graph.outputs)


def profile(model, locations=((),)):
    """Counts the parameters of a model and its multiply-adds per image.

    Args:
        model: A built `TNet`, or a classifier without locations.
        locations: Tuples of locations per grid and level, such as `[(), (2,), (2, 1)]`. A
            classifier without `attend` is counted once, with the key "0".

    Returns:
        dict: `parameters` (all variables), `trainable_parameters`, `macs` (a dict from the number
        of locations as text to multiply-adds), `input_shape` (list of height, width, channels).
    """
    parameters, trainable = count_parameters(model)
    return {
        "parameters": parameters,
        "trainable_parameters": trainable,
        "macs": count_macs_by_locations(model, locations),
        "input_shape": [*model.image_size, 3],
    }


def count_macs_by_locations(model, locations):
    """Counts the multiply-adds of classifying one image, for several numbers of locations.

    Args:
        model: As for `profile`.
        locations: As for `profile`.

    Returns:
        dict from the total number of locations as text to multiply-adds.
    """
    shape = (*model.image_size, 3)
    if not hasattr(model, "attend"):
        return {"0": count_macs(model, shape)}
    return {
        key: count_macs(
            lambda images, chosen=chosen: model.attend(images, locations=chosen)["logits"], shape
        )
        for key, chosen in keyed_locations(locations).items()
    }


def keyed_locations(locations):
    """Names choices of locations by their total, as the keys of a report.

    Args:
        locations: Tuples of locations per grid and level.

    Returns:
        dict from the total as text, such as "2", to the tuple, in ascending order.

    Raises:
        ValueError: If two different choices have the same total.
    """
    result = {}
    for chosen in sorted((tuple(item) for item in locations), key=total_locations):
        key = str(total_locations(chosen))
        if result.setdefault(key, chosen) != chosen:
            raise ValueError(
                "Every entry of `locations` must attend to a different number of regions. "
                f"Received: locations={list(locations)}"
            )
    return result


def _count(graph, outputs):
    """Multiply-adds of everything in `graph` that the tensors `outputs` depend on."""
    total = 0
    wanted, visited = {}, []
    stack = list(outputs)
    seen = set()
    while stack:
        item = stack.pop()
        operation = item if isinstance(item, tf.Operation) else item.op
        if not isinstance(item, tf.Operation):
            wanted.setdefault(operation.name, set()).add(item.value_index)
        if operation.name not in seen:
            seen.add(operation.name)
            visited.append(operation)
            stack.extend(operation.inputs)
            stack.extend(operation.control_inputs)
    for operation in visited:
        total += _count_operation(graph, operation, wanted.get(operation.name))
    return total


def _count_operation(graph, operation, wanted):
    kind = operation.type
    if kind in _CALLS:
        body = _function_graph(graph, operation.get_attr("f").name)
        needed = range(len(body.outputs)) if wanted is None else sorted(wanted)
        # A call without wanted outputs is there for its side effects, and then runs as a whole.
        return _count(body, [body.outputs[index] for index in needed])
    if kind in _LOOPS:
        body = _function_graph(graph, operation.get_attr("body").name)
        macs = _count(body, body.outputs)
        return macs and macs * _rounds(graph, operation, body)
    if kind in _BRANCHES:
        names = (
            [branch.name for branch in operation.get_attr("branches")]
            if kind.endswith("Case")
            else [operation.get_attr(side).name for side in ("then_branch", "else_branch")]
        )
        bodies = [_function_graph(graph, name) for name in names]
        return max(_count(body, body.outputs) for body in bodies)
    if kind == "Conv2D":
        height, width, channels, _ = _shape(operation, operation.inputs[1])
        return math.prod(_shape(operation, operation.outputs[0])) * height * width * channels
    if kind == "DepthwiseConv2dNative":
        height, width, _, _ = _shape(operation, operation.inputs[1])
        return math.prod(_shape(operation, operation.outputs[0])) * height * width
    if kind == "Conv2DBackpropInput":
        height, width, channels, _ = _shape(operation, operation.inputs[1])
        return math.prod(_shape(operation, operation.inputs[2])) * height * width * channels
    if kind == "MatMul":
        inner = _shape(operation, operation.inputs[0])[
            0 if operation.get_attr("transpose_a") else 1
        ]
        return math.prod(_shape(operation, operation.outputs[0])) * inner
    if kind in ("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"):
        inner = _shape(operation, operation.inputs[0])[-2 if operation.get_attr("adj_x") else -1]
        return math.prod(_shape(operation, operation.outputs[0])) * inner
    if kind == "Einsum":
        return _count_einsum(operation)
    return 0


def _count_einsum(operation):
    """Multiply-adds of a two-operand einsum: the product of the sizes of all its labels."""
    if len(operation.inputs) != 2:
        return 0
    terms = operation.get_attr("equation").decode().split("->")[0].split(",")
    sizes, broadcast = {}, ()
    for term, tensor in zip(terms, operation.inputs, strict=True):
        shape = _shape(operation, tensor)
        before, dots, after = term.partition("...")
        if dots:
            stop = len(shape) - len(after)
            broadcast = np.broadcast_shapes(broadcast, tuple(shape[len(before) : stop]))
            shape = shape[: len(before)] + shape[stop:]
        for label, size in zip(before + after, shape, strict=True):
            sizes[label] = max(size, sizes.get(label, 1))
    return math.prod(sizes.values()) * math.prod(broadcast)


def _rounds(graph, operation, body):
    """Largest number of rounds of a loop, from its constant bounds."""
    condition = _function_graph(graph, operation.get_attr("cond").name)
    bounds = []
    for check in condition.get_operations():
        if check.type != "Less":
            continue
        counter = _argument(condition, check.inputs[0])
        start = tf.get_static_value(operation.inputs[counter]) if counter is not None else None
        outer = _argument(condition, check.inputs[1])
        limit = tf.get_static_value(check.inputs[1] if outer is None else operation.inputs[outer])
        step = _step(operation, body, counter) if counter is not None else None
        # TensorFlow writes "no maximum" as a limit of -1.
        if start is not None and limit is not None and step and limit >= 0:
            bounds.append(max(0, math.ceil((int(limit) - int(start)) / step)))
    if not bounds:
        raise ValueError(
            "The multiply-adds of a loop can only be counted when its number of rounds is static. "
            f"Received: loop={operation.name!r}"
        )
    return min(bounds)


def _step(operation, body, counter):
    """The constant that a loop adds to one of its variables in a round, or None."""
    tensor = body.outputs[counter]
    while tensor.op.type == "Identity":
        tensor = tensor.op.inputs[0]
    if tensor.op.type not in ("Add", "AddV2"):
        return None
    step = tf.get_static_value(tensor.op.inputs[1])
    if step is None:
        outer = _argument(body, tensor.op.inputs[1])
        step = None if outer is None else tf.get_static_value(operation.inputs[outer])
    return None if step is None or step <= 0 else int(step)


def _argument(graph, tensor):
    """Position of `tensor` among the arguments of a function graph, or None."""
    for index, argument in enumerate(graph.inputs):
        if argument is tensor:
            return index
    return None


def _function_graph(graph, name):
    # The registry of nested functions has no public accessor; `Graph._get_function` has been there,
    # under this name, since TensorFlow 1.
    while graph is not None:
        function = graph._get_function(name)
        if function is not None:
            return function.graph
        graph = getattr(graph, "outer_graph", None)
    raise ValueError(f"The graph has no function of this name. Received: name={name!r}")


def _shape(operation, tensor):
    if not tensor.shape.is_fully_defined():
        raise ValueError(
            "Multiply-adds can only be counted from static shapes. "
            f"Received: {operation.type} {operation.name!r} with an operand of shape {tensor.shape}"
        )
    return tensor.shape.as_list()
