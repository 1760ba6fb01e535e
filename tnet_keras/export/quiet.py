"""Converters say much that no user can act on; this keeps it from the terminal."""

import contextlib
import io
import logging
import warnings


@contextlib.contextmanager
def quiet(name):
    """Inside, a logger says errors only, and neither warnings nor prints are seen.

    Args:
        name: The logger's.

    Yields:
        None.
    """
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        # TensorFlow 2.21 calibrates with an interpreter of its own that says it is deprecated.
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
