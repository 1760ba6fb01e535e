"""A TFDS builder whose files are fetched by hand: errors of one line, nothing half-made left."""

import contextlib
import errno
import lzma
import os
import pathlib
import shutil
import tarfile
import tempfile
import zipfile
import zlib

import tensorflow_datasets as tfds

_BROKEN = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError)


class ManualFilesBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Base of builders that read what somebody put into `manual_dir`.

    A builder looks at every file before it writes the first example. Whatever goes wrong leaves
    neither a partial data set nor unpacked archives behind.
    """

    # Also the first sentence of the error for files that are not there, so one line: what must be
    # in `manual_dir` and where it comes from.
    MANUAL_DOWNLOAD_INSTRUCTIONS = ""
    _leftovers = None

    def download_and_prepare(self, **arguments):
        """Prepares the data set, as `tfds.core.DatasetBuilder.download_and_prepare`.

        Args:
            **arguments: as there; `download_config` says where `manual_dir` is.

        Raises:
            ValueError: if files are missing, unreadable, broken or do not fit; names the file.
        """
        with contextlib.ExitStack() as self._leftovers:
            # Before it writes anything TFDS notes in a folder which configuration is the default.
            self._leftovers.callback(self._remove_empty_folders)
            super().download_and_prepare(**arguments)

    def _remove_empty_folders(self):
        config_folder = pathlib.Path(self.data_path).parent
        folder = config_folder.parent
        with contextlib.suppress(OSError):  # Not there, or not empty: all is well.
            config_folder.rmdir()
        if folder.is_dir() and os.listdir(folder) == [".config"]:
            shutil.rmtree(folder)

    def _manual_folder(self, dl_manager):
        """The `pathlib.Path` of `manual_dir`; ValueError if it is missing or empty."""
        try:
            return pathlib.Path(dl_manager.manual_dir)
        except AssertionError as error:
            # TFDS says it in several lines, and has no public way to the path of what is missing.
            raise self._missing(dl_manager._manual_dir, "which is missing or empty") from error

    def _missing(self, folder, reason):
        """The ValueError for files that are not there."""
        return ValueError(
            f"{self.MANUAL_DOWNLOAD_INSTRUCTIONS} "
            f"Received: manual_dir={os.fspath(folder)!r}, {reason}"
        )

    def _unpack(self, archive):
        """Unpacks a .zip or .tar archive beside the data; removed once the data are prepared.

        Args:
            archive: `pathlib.Path`; compressed or not, contents decide.

        Returns:
            `pathlib.Path` of a folder.

        Raises:
            ValueError: if it is no such archive, broken, or holds a file twice or one that would
                lie outside the folder.
        """
        root = pathlib.Path(self.data_dir_root)
        root.mkdir(parents=True, exist_ok=True)
        folder = self._leftovers.enter_context(
            # The name of the archive: messages about its files show where they come from.
            tempfile.TemporaryDirectory(prefix=f".{archive.name}-", dir=root)
        )
        try:
            if zipfile.is_zipfile(archive):
                _unpack_zip(archive, folder)
            else:
                _unpack_tar(archive, folder)
        except _BROKEN as error:
            if getattr(error, "errno", None) == errno.ENOSPC:
                raise
            reason = " ".join(str(getattr(error, "strerror", None) or error).split())
            raise ValueError(
                f"Every archive must be a whole .zip or .tar file ({reason}). "
                f"Received: {os.fspath(archive)!r}"
            ) from error
        return pathlib.Path(folder)


def _unpack_zip(archive, folder):
    with zipfile.ZipFile(archive) as members:
        _check_once(members.namelist(), archive)
        try:
            members.extractall(folder)
        except RuntimeError as error:  # A password.
            raise zipfile.BadZipFile(error) from error


def _unpack_tar(archive, folder):
    seen = []
    # One member after the other: listing them first would decompress everything twice.
    with tarfile.open(archive) as members:
        for member in members:
            if not member.isdir():
                seen.append(os.path.normpath(member.name))
            members.extract(member, folder, filter="data")
    _check_once(seen, archive)


def _check_once(names, archive):
    seen = set()
    for name in names:
        if name in seen:
            raise ValueError(
                f"An archive must hold every file once. Received: {os.fspath(archive)!r} "
                f"with {name!r} twice"
            )
        seen.add(name)
