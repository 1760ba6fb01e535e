"""Starting a training from weights that there are already, whoever wrote them."""

import pathlib
import re
import zipfile

import keras

from tnet_keras.interop.checkpoint import LoadReport, fill, match, open_checkpoint
from tnet_keras.interop.efficientnet import checkpoint_prefix, load_efficientnet_checkpoint
from tnet_keras.interop.original_tnet import load_original_checkpoint
from tnet_keras.models import TNet

# Where a run of ours keeps its states, best first.
_STATES = ("checkpoints/best.keras", "checkpoints/last.keras", "best.keras", "last.keras")


def warm_start(model, path, exclude=()):
    """Copies what fits from saved weights into a model; the rest stays as it is.

    What lies at the path decides how it is read: a `.keras` file or the folder of a run of ours
    (its best state), a TPU checkpoint of EfficientNet (the backbone only), or a checkpoint of the
    authors of TNet. Values go to the variables of the same name and shape. Batch-norm statistics
    of levels that the source does not have start from its deepest level. Optimiser state and step
    counters are not taken, the reward baseline is.

    Args:
        model: A built model of this package.
        path: str or path-like.
        exclude: Variables whose path contains one of these are left as they are.

    Returns:
        `LoadReport`.

    Raises:
        ValueError: If nothing at the path can be read, nothing of it fits, or `exclude` names
            nothing.

    Example:

    ```python
    import os, tempfile
    from tnet_keras import from_preset
    from tnet_keras.interop import warm_start

    stage_1 = from_preset("tnet_needle_digits", locations=(2,))
    path = os.path.join(tempfile.mkdtemp(), "stage_1.keras")
    stage_1.save(path)
    report = warm_start(from_preset("tnet_needle_digits", locations=(2, 1)), path)
    ```
    """
    for part in exclude:
        if not part or not any(part in variable.path for variable in model.variables):
            raise ValueError(
                "`exclude` must hold parts of the paths of variables of the model. "
                f"Received: exclude={','.join(exclude)}"
            )
    path = pathlib.Path(path)
    file = next((path / name for name in _STATES if (path / name).is_file()), path)
    kept = [
        (variable, variable.numpy())
        for variable in model.variables
        if any(part in variable.path for part in exclude)
    ]
    if file.suffix == ".keras":
        report = _from_keras(model, file)
    else:
        reader = open_checkpoint(path)
        if checkpoint_prefix(reader) is not None:
            report = load_efficientnet_checkpoint(model.backbone, path)
        elif isinstance(model, TNet):
            report = load_original_checkpoint(model, path, strict=False)
        else:
            raise ValueError(
                "`path` must lead to a .keras file, a run or an EfficientNet checkpoint for "
                f"{type(model).__name__}. Received: path={path}"
            )
    for variable, value in kept:
        variable.assign(value)
    excluded = {variable.path for variable, _ in kept}
    matched = {name: place for name, place in report.matched.items() if place not in excluded}
    if not matched:
        wanted = (report.missing or ["nothing that is not excluded"])[0]
        raise ValueError(
            f"The weights must fit the model; none does, first: {wanted}. Received: path={path}"
        )
    return LoadReport(matched, report.missing, report.unused)


def _from_keras(model, file):
    try:
        source = keras.saving.load_model(file, compile=False)
    except (zipfile.BadZipFile, OSError, KeyError, TypeError, ValueError) as error:
        cause = str(error).partition("\n")[0]
        raise ValueError(
            f"`path` must lead to a whole .keras file. Received: path={file} ({cause})"
        ) from error
    own, theirs = _by_name(model), _by_name(source)
    wanted = {}
    for name, variable in own.items():
        # Statistics of a deeper level than the source has.
        found = re.fullmatch(r"(.*)_level(\d+)", name)
        if found and name not in theirs:
            shallower = (f"{found[1]}_level{level}" for level in range(int(found[2]) - 1, 1, -1))
            name = next((other for other in shallower if other in theirs), found[1])
        wanted.setdefault(name, []).append(variable)
    report = match(wanted, {name: variable.shape for name, variable in theirs.items()})
    fill(wanted, {name: variable.numpy() for name, variable in theirs.items()})
    return report


def _by_name(model):
    """Variables by path, without the model's own name, random numbers and counted steps."""
    prefix = f"{model.name}/"
    return {
        variable.path.removeprefix(prefix): variable
        for variable in model.variables
        if not variable.path.endswith(("seed_generator_state", "/step"))
    }
