"""Names of classes: where a trained model's are to be found."""

import json
import pathlib


def read_class_names(name, path):
    """Reads a text file with one class name a line; empty lines are left out.

    Args:
        name: The argument's name, for the message.
        path: The file, UTF-8.

    Returns:
        list of str, at least one.

    Raises:
        ValueError: If it cannot be read, or holds none.
    """
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"`{name}` must be a text file in UTF-8. Received: {name}={str(path)!r} ({error})"
        ) from error
    names = [line.strip() for line in text.splitlines() if line.strip()]
    if not names:
        raise ValueError(
            f"`{name}` must hold a class name a line. Received: {name}={str(path)!r}, without any"
        )
    return names


def names_beside(path, count):
    """Finds the class names of a `.keras` file.

    They are those of the `report.json` of the run whose folder, or sub-folder, it lies in; or those
    of the `labels.txt` beside it, as a published model has them.

    Args:
        path: `pathlib.Path` of the file.
        count: Number of classes; names of another number are none of its.

    Returns:
        list of str, or None.
    """
    for folder in list(path.absolute().parents)[:3]:
        try:
            names = json.loads((folder / "report.json").read_text(encoding="utf-8"))["class_names"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if isinstance(names, list) and len(names) == count:
            return [str(name) for name in names]
    try:
        names = read_class_names("path", path.absolute().parent / "labels.txt")
    except ValueError:
        return None
    return names if len(names) == count else None
