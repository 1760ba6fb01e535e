"""Files that a user puts into the manual folder of TFDS: where they are, and what they say."""

import json
import os
import pathlib


def manual_folder(dl_manager, name, release, needed):
    """Finds the folder of a release inside the manual folder.

    Args:
        dl_manager: `tfds.download.DownloadManager`.
        name: Name of the folder that the release is extracted to.
        release: What the files are and who gives them out, for the message.
        needed: names of files and folders that must be in it.

    Returns:
        `pathlib.Path`.

    Raises:
        ValueError: if the manual folder, the folder or one of the names is missing.
    """
    try:
        manual_dir = pathlib.Path(os.fspath(dl_manager.manual_dir))
    except AssertionError as error:
        said = str(error).partition(" Create it")[0]
        raise ValueError(f"`manual_dir` must hold {name}/ of {release}. Received: {said}") from None
    folder = manual_dir / name
    if not folder.is_dir():
        found = sorted(os.listdir(manual_dir))[:5]
        raise ValueError(
            f"`manual_dir` must hold the folder {name} of {release}. "
            f"Received: manual_dir={str(manual_dir)!r} with {found}"
        )
    missing = [item for item in needed if not (folder / item).exists()]
    if missing:
        raise ValueError(
            f"{folder} must hold {missing[0]} of {release}. "
            f"Received: a folder without {', '.join(missing)}"
        )
    return folder


def sub_folders(path):
    """Sorted folders in a folder, hidden ones left out.

    Args:
        path: `pathlib.Path`.

    Returns:
        list of `pathlib.Path`.
    """
    return sorted(item for item in path.iterdir() if item.is_dir() and item.name[0] != ".")


def read_json(path):
    """Reads one JSON file.

    Args:
        path: `pathlib.Path`.

    Returns:
        What it holds.

    Raises:
        ValueError: if the file is missing or is no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{path} is missing") from None
    except ValueError as error:  # UnicodeDecodeError is one, too
        raise ValueError(f"{path} must be a JSON file ({' '.join(str(error).split())})") from None


def json_value(entry, key, path):
    """Looks up what must be there.

    Args:
        entry: What was read from a JSON file, or a part of it.
        key: str, must be one of its keys.
        path: The file, for the message.

    Returns:
        The value.

    Raises:
        ValueError: if `entry` is no dict or lacks the key.
    """
    if not isinstance(entry, dict) or key not in entry:
        raise ValueError(f"{path} lacks the key {key!r}")
    return entry[key]


def read_table(path, columns):
    """Reads a text file of lines "key value value ...".

    Args:
        path: `pathlib.Path`.
        columns: int, how many values follow the key. With 1 the value is the rest of the line,
            spaces included.

    Returns:
        dict from keys to a tuple of str, in the order of the file.

    Raises:
        ValueError: if a line has another number of values, a key is there twice, or there is none.
    """
    table = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be text in UTF-8 ({error.reason})") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        key, *values = line.split(maxsplit=1) if columns == 1 else line.split()
        if len(values) != columns:
            raise ValueError(
                f"{path}, line {number}: a key and {columns} values must stand there. "
                f"Received: {line!r}"
            )
        if key in table:
            raise ValueError(f"{path}, line {number}: {key!r} is there twice")
        table[key] = tuple(value.strip() for value in values)
    if not table:
        raise ValueError(f"{path} holds no lines")
    return table


def numbers_of(values, path, what):
    """Turns text into whole or broken numbers.

    Args:
        values: sequence of str or numbers.
        path: The file, for the message.
        what: What the numbers are, for the message.

    Returns:
        list of float.

    Raises:
        ValueError: if one is no finite number.
    """
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        numbers = [float("nan")]
    if not all(abs(number) < float("inf") for number in numbers):
        raise ValueError(f"{path}: {what} must be numbers. Received: {values!r}")
    return numbers
