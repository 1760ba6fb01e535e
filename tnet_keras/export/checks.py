"""What must be true of a model before any file of it is written."""

import keras
import numpy as np

from tnet_keras.models.hard_attention import HardAttentionModel


def check_exportable(model, allow_untrained=False):
    """Checks that a model is one of this package, built, trained and finite.

    Args:
        model: What is to be exported.
        allow_untrained: Whether a model whose optimiser has made no step will do. (That of a model
            without an optimiser cannot be known.)

    Raises:
        ValueError: If it is not.
    """
    if not isinstance(model, HardAttentionModel):
        raise ValueError(
            f"`model` must be a model of tnet_keras. Received: model={type(model).__name__}"
        )
    if not model.built or not hasattr(model, "image_size"):
        raise ValueError(f"`model` must be built. Received: model={model.name!r}, not built")
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and int(optimizer.iterations) == 0 and not allow_untrained:
        raise ValueError(
            "`model` must be trained, or allow_untrained=True. "
            f"Received: model={model.name!r}, whose optimizer has made no step"
        )
    for variable in model.weights:
        values = np.asarray(keras.ops.convert_to_numpy(variable))
        if not np.isfinite(values.astype(np.float32)).all():
            raise ValueError(
                "`model` must have finite weights. "
                f"Received: model={model.name!r} with NaN or infinity in {variable.path}"
            )


def check_portable(model, program):
    """Checks that a model can become a file of another program.

    Args:
        model: A built model of this package.
        program: The other program's name, for the message.

    Raises:
        ValueError: If it does not compute in float32, or chooses at random.
    """
    dtypes = {layer.compute_dtype for layer in model._flatten_layers()}
    if dtypes != {"float32"}:
        raise ValueError(
            "`model` must compute in float32; load its file under that policy. "
            f"Received: model={model.name!r} with {', '.join(sorted(dtypes))}"
        )
    selectors = [model] + [getattr(model, name, None) for name in ("selection", "chooser")]
    if any(getattr(part, "selector", None) == "random" for part in selectors):
        raise ValueError(
            f"`model` must choose by its scores: {program} would draw the same cells in every "
            f"call. Received: model={model.name!r} with selector='random'"
        )


def checked_class_names(model, class_names):
    """Gives the classes of a model names.

    Args:
        model: A model with `num_classes`.
        class_names: C names, or None for "0", "1", ….

    Returns:
        list of C str.

    Raises:
        ValueError: If there is another number of names.
    """
    names = range(model.num_classes) if class_names is None else class_names
    names = [str(name) for name in names]
    if isinstance(class_names, str) or len(names) != model.num_classes:
        raise ValueError(
            f"`class_names` must be {model.num_classes} names, one per class. "
            f"Received: {len(names)} names"
        )
    return names


def resizes_with_antialias(model):
    """Whether a model resizes images itself, so that every pixel of them counts.

    Args:
        model: A model of this package.

    Returns:
        bool. True for a `FullImageClassifier` with `antialias`: it was trained on larger images.
    """
    return bool(getattr(model, "antialias", False))
