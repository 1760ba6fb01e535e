"""Files that are there whole or not at all."""

import contextlib
import os
import pathlib
import tempfile


@contextlib.contextmanager
def whole_files(*paths):
    """Gives a temporary path beside each path; they become those when the block ends well.

    Args:
        *paths: Files to write, of one existing folder. The last one is renamed last: its presence
            says that all are there.

    Yields:
        list of `pathlib.Path` to write to, with the suffixes of `paths`. If the block raises, they
        are removed; one that was removed in the block is left out.
    """
    temporary = []
    try:
        for path in map(pathlib.Path, paths):
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
            os.close(handle)
            temporary.append(pathlib.Path(name))
        yield list(temporary)
        mask = os.umask(0)
        os.umask(mask)
        for source, path in zip(temporary, paths, strict=True):
            if source.exists():
                # `mkstemp` makes files that only their owner can read.
                os.chmod(source, 0o666 & ~mask)
                os.replace(source, path)
    finally:
        for path in temporary:
            path.unlink(missing_ok=True)


def check_new_file(name, path, suffix, overwrite=False):
    """Checks that a file can be written, without leaving anything behind.

    Args:
        name: The argument's name, for the message.
        path: The file to write.
        suffix: How its name has to end, such as ".csv".
        overwrite: Whether it may be there already.

    Returns:
        `pathlib.Path` of the file. Its folder is not made.

    Raises:
        ValueError: If the name ends otherwise, the path is a folder, or cannot be written to.
        FileExistsError: If it is there and `overwrite` is false.
    """
    path = pathlib.Path(path)
    if path.suffix != suffix:
        raise ValueError(f"`{name}` must end in {suffix}. Received: {name}={str(path)!r}")
    if path.is_dir():
        raise ValueError(f"`{name}` must be a file. Received: {name}={str(path)!r}, a folder")
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"`{name}` must not exist yet, or be replaced with overwrite. "
            f"Received: {name}={str(path)!r}"
        )
    check_writable(name, path)
    return path


def check_writable(name, path):
    """Checks that something can be made at a path, without leaving anything behind.

    Args:
        name: The argument's name, for the message.
        path: `pathlib.Path` of the file or folder to make; a folder may be there.

    Raises:
        ValueError: If it cannot.
    """
    folder = path.absolute() if path.is_dir() else path.absolute().parent
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        # Asking for permissions is not enough: a read-only file system, or the superuser.
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise ValueError(
            f"`{name}` must be in a folder that can be written to ({error.strerror}). "
            f"Received: {name}={str(path)!r}"
        ) from error
