"""The public TPU checkpoints of EfficientNet (NoisyStudent among them), read into our backbones.

The names follow the rules that the authors of TNet published for their warm start: the copies
under `ExponentialMovingAverage` are taken, of batch-norm statistics as well.
"""

import re

from tnet_keras.interop.checkpoint import LoadReport, fill, match, open_checkpoint, read_values

_AVERAGE = "/ExponentialMovingAverage"
_PREFIX = re.compile(r"^(efficientnet-\w+)/")
_SE = {"se_reduce": "se/conv2d", "se_expand": "se/conv2d_1"}


def efficientnet_variables(backbone, prefix):
    """The names in the public checkpoints and the variables of ours that take their values.

    Args:
        backbone: A `Backbone` built as "efficientnet" or "efficientnet_b0" to "_b7".
        prefix: First part of the names, such as "efficientnet-b0".

    Returns:
        dict from name to list of Keras variables; more than one where batch-norm statistics are
        kept per level.

    Raises:
        ValueError: If the backbone is no EfficientNet.
    """
    layers = [layer for layer in backbone.network.layers if layer.weights]
    blocks = []  # names such as "1a", in the order of the network
    for layer in layers:
        found = re.match(r"block(\d[a-z]+)_", layer.name)
        if found and found[1] not in blocks:
            blocks.append(found[1])
    if not blocks or not any(layer.name == "top_conv" for layer in layers):
        raise ValueError(
            "`backbone` must be an EfficientNet for an EfficientNet checkpoint. "
            f"Received: a backbone with layers {[layer.name for layer in layers][:3]}"
        )
    expanded = {
        layer.name.removeprefix("block").removesuffix("_expand_conv")
        for layer in layers
        if layer.name.endswith("_expand_conv")
    }
    names = {}
    for layer in layers:
        place = _place(layer.name, blocks, expanded)
        for variable in layer.weights:
            own = re.sub(r"_level\d+$", "", variable.name)
            if layer.name.endswith("_dwconv"):
                own = "depthwise_kernel"
            names.setdefault(f"{prefix}/{place}/{own}{_AVERAGE}", []).append(variable)
    return names


def _place(name, blocks, expanded):
    """Our layer's name → where the public checkpoints keep its variables."""
    if name in ("stem_conv", "top_conv"):
        return f"{'stem' if name == 'stem_conv' else 'head'}/conv2d"
    if name in ("stem_bn", "top_bn"):
        return f"{'stem' if name == 'stem_bn' else 'head'}/tpu_batch_normalization"
    block, part = name.removeprefix("block").split("_", 1)
    # A block without expansion numbers its convolutions and normalisations from one less.
    first = 1 if block in expanded else 0
    if part in _SE:
        place = _SE[part]
    elif part == "dwconv":
        place = "depthwise_conv2d"
    elif part in ("expand_conv", "project_conv"):
        number = first if part == "project_conv" else 0
        place = f"conv2d_{number}" if number else "conv2d"
    else:
        number = {"expand_bn": 0, "bn": first, "project_bn": first + 1}[part]
        place = f"tpu_batch_normalization_{number}" if number else "tpu_batch_normalization"
    return f"blocks_{blocks.index(block)}/{place}"


def checkpoint_prefix(reader):
    """The first part of the names in a public EfficientNet checkpoint, or None for another kind.

    Args:
        reader: From `tnet_keras.interop.checkpoint.open_checkpoint`.

    Returns:
        str or None.
    """
    for key in reader.get_variable_to_shape_map():
        found = _PREFIX.match(key)
        if found:
            return found[1]
    return None


def load_efficientnet_checkpoint(backbone, path):
    """Fills an EfficientNet backbone from a public TPU checkpoint.

    Everything of the backbone must be there; the checkpoint's classifier (`head/dense`) is left
    out. Those checkpoints were trained on pixels normalised by ImageNet's mean and deviation: use
    `input_scaling="imagenet"`, or "symmetric" to do as the published runs did.

    Args:
        backbone: A `Backbone` built as an EfficientNet, with any number of `statistics_levels`.
        path: Checkpoint prefix, its ".index" file, or a folder (its latest one).

    Returns:
        `LoadReport`; `unused` names only averaged values that were not taken.

    Raises:
        ValueError: If there is no such checkpoint, it cannot be read, or a variable of the
            backbone has no value in it (the first is named); nothing is assigned then.
    """
    reader = open_checkpoint(path)
    prefix = checkpoint_prefix(reader)
    if prefix is None:
        raise ValueError(
            "`path` must lead to a checkpoint with names efficientnet-b0/..., or another variant. "
            f"Received: path={path}"
        )
    wanted = efficientnet_variables(backbone, prefix)
    shapes = reader.get_variable_to_shape_map()
    report = match(wanted, {name: shape for name, shape in shapes.items() if _AVERAGE in name})
    if report.missing:
        raise ValueError(
            f"The checkpoint must hold every variable of the backbone; {len(report.missing)} have "
            f"no value, first: {report.missing[0]}. Received: path={path}"
        )
    fill(wanted, read_values(reader, report.matched, path))
    unused = [name for name in report.unused if "/head/dense/" not in name]
    return LoadReport(report.matched, report.missing, unused)
