"""Compilers and converters say a lot about themselves; this holds it back. Imports nothing heavy."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back what compilers and converters say about themselves: deprecations of their own calls, torch versions.

    torch.export prints the graph of what it refuses to stderr.
    """
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
