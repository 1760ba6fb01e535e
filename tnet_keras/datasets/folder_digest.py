"""What a folder holds, in one number: a training that goes on must find the data it began with."""

import hashlib
import os

from tnet_keras.folder_walk import walk_folders


def folder_digest(path):
    """Tells one state of a folder's files from another, by their names and sizes.

    Args:
        path: str or path-like, the folder.

    Returns:
        str of 16 hexadecimal digits. All files in the folder and its sub-folders count, but hidden
        ones; links are followed, each folder counts once.
    """
    digest = hashlib.blake2b(digest_size=8)
    for folder, names in walk_folders(path):
        for name in names:
            file = os.path.join(folder, name)
            size = os.stat(file).st_size if os.path.exists(file) else -1
            digest.update(os.fsencode(f"{os.path.relpath(file, path)}\0{size}\0"))
    return digest.hexdigest()
