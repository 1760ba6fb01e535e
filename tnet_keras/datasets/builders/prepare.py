"""Preparing a data set of TFDS from files that lie on disk: whole, or not at all."""

import contextlib
import os
import pathlib

import tensorflow_datasets as tfds


def prepare(name, manual_dir=None, data_dir=None, config=None):
    """Prepares a data set with TFDS, without a network; on an error nothing is left behind.

    A data set that is prepared already is left as it is.

    Args:
        name: str, name of a builder, such as "fmow_rgb" or "nabirds".
        manual_dir: str or path-like, folder of the files that the owner hands out; None: the
            folder `downloads/manual` in `data_dir`.
        data_dir: str or path-like, where TFDS keeps its data; None: its default.
        config: str, name of a configuration; None: the first.

    Returns:
        dict from split to the number of its examples.

    Raises:
        ValueError: if `name` or `config` is unknown, or files are missing or wrong.
        OSError: if a file cannot be read or written.
    """
    try:
        builder_class = tfds.builder_cls(name)
    except tfds.core.DatasetNotFoundError:
        raise ValueError(
            f"`name` must be the name of a TFDS builder. Received: name={name!r}"
        ) from None
    configs = list(builder_class.builder_configs)
    known = [entry.partition(":")[0] for entry in configs]
    if config is not None and config not in known:
        raise ValueError(
            f"`config` must be one of {tuple(dict.fromkeys(known))} for {name}. "
            f"Received: config={config!r}"
        )
    data_dir = None if data_dir is None else os.path.abspath(os.path.expanduser(data_dir))
    builder = builder_class(data_dir=data_dir, config=config)
    with _nothing_left(builder):
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(
                manual_dir=None if manual_dir is None else os.path.expanduser(manual_dir),
                try_download_gcs=False,
            )
        )
    return {split: info.num_examples for split, info in builder.info.splits.items()}


@contextlib.contextmanager
def _nothing_left(builder):
    """TFDS removes its unfinished folder, but not those above and beside it nor what it notes."""
    folder = pathlib.Path(os.fspath(builder.data_path))  # <data_dir>/<name>[/<config>]/<version>
    named = folder.parents[0 if builder.builder_config is None else 1]
    downloads = named.parent / "downloads"
    notes = named / ".config" / "metadata.json"
    folders = (downloads / "extracted", downloads, notes.parent, *folder.parents)
    made = [path for path in folders if not path.exists()]
    had_notes = notes.exists()
    try:
        yield
    except BaseException:
        if not had_notes:
            notes.unlink(missing_ok=True)
        for path in made:
            with contextlib.suppress(OSError):  # Not made, or no longer empty.
                path.rmdir()
        raise
