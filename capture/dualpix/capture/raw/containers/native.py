"""What C libraries say on file descriptor 2 while they decode, caught instead of shown.

LibRaw, libpng and libtiff report damaged data there and nowhere else: the call succeeds and returns a grey or garbled
picture. The text is the only evidence, so the decoders read it and refuse the file.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()


@contextmanager
def captured_stderr() -> Iterator[list[str]]:
    """Collect the lines written to file descriptor 2 by native code within the block.

    The descriptor belongs to the whole process: blocks of several threads take turns, and what another thread prints
    meanwhile is collected with the rest.
    """
    lines: list[str] = []
    with _lock, tempfile.TemporaryFile() as sink:
        try:
            saved = os.dup(2)
        except OSError:  # a daemon without standard streams: nothing to catch
            yield lines
            return
        if sys.stderr is not None:
            sys.stderr.flush()
        os.dup2(sink.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            sink.seek(0)
            lines += sink.read(65536).decode("utf-8", "replace").splitlines()
