"""A new folder of data that appears when it is complete, or not at all."""

import contextlib
import json
import os
import pathlib
import tempfile


@contextlib.contextmanager
def new_folder(path, about):
    """Makes a folder that appears when it is complete, or not at all.

    What is written goes to a temporary folder beside it, which is renamed at the end: an error, a
    full disk or Ctrl-C leaves nothing behind.

    Args:
        path: str or path-like, the folder; must not exist. Folders above it are made.
        about: dict of JSON types, how its data were made; written to `about.json` in it.

    Yields:
        `pathlib.Path`, the folder to write to.

    Raises:
        ValueError: if `path` exists, or cannot be made.
    """
    path = pathlib.Path(path)
    _check_new(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent)
    except OSError as error:
        raise ValueError(
            f"`path` must be a folder that can be made ({error.strerror}). "
            f"Received: path={str(path)!r}"
        ) from error
    with temporary as outer:
        # A folder inside it: the temporary folder itself is closed to other users.
        inner = pathlib.Path(outer) / path.name
        inner.mkdir()
        (inner / "about.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        yield inner
        _check_new(path)  # Renaming would replace an empty folder that was made meanwhile.
        inner.rename(path)


def _check_new(path):
    if os.path.lexists(path):
        raise ValueError(
            f"`path` must not exist: nothing is overwritten. Received: path={str(path)!r}"
        )
