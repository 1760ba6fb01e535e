"""Going through a folder and its sub-folders: hidden things left out, links followed once."""

import os


def walk_folders(path, onerror=None):
    """Goes through a folder and its sub-folders; links are followed, each folder is met once.

    Args:
        path: str or path-like, the folder.
        onerror: Function of an OSError, for a folder that cannot be read; None passes over it.

    Yields:
        `(folder, names)`: the folder's path, and the sorted names of its files; hidden files and
        folders are left out.
    """
    seen = set()
    for folder, folders, names in os.walk(path, onerror=onerror, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # A link to where we have been, or a loop of links.
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield folder, sorted(name for name in names if not name.startswith("."))
