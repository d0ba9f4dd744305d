"""What commands write to standard output: JSON that is JSON, on any terminal; and what to say where it is full."""

from __future__ import annotations

import errno
import json
import os
import sys
from contextlib import suppress
from typing import Any

import click

from dualpix.capture.files import json_ready

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def echo_json(value: Any, indent: int | None = 2) -> None:
    """Write plain data to standard output as JSON; NaN and infinity, which JSON has not, as null.

    Text stands as it is where the terminal's encoding has it, else escaped.
    """
    ready = json_ready(value)
    text = json.dumps(ready, indent=indent, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeError:
        text = json.dumps(ready, indent=indent, allow_nan=False)
    click.echo(text)


def reason_of_full_disk(error: OSError) -> str | None:
    """In words, if ``error`` says that there is no room for what is being written; then standard output is let go of.

    What is still to be written would fail once more when Python ends, with a message of its own.
    """
    if error.errno not in _FULL:
        return None
    with suppress(OSError, ValueError):  # closed, or no file at all
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    return f"cannot write: {os.strerror(error.errno or 0)}"
