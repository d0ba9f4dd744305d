"""Standard output of the commands: JSON that is JSON, on any terminal; and what to say where it cannot be written."""

from __future__ import annotations

import codecs
import errno
import io
import json
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.table import Column, Table

from dualpix.capture.files import json_ready

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
_SPELT = "dualpix-spelt"
_SPELLINGS = {"∞": "inf", "–": "-", "—": "-", "…": ".", "×": "x", "±": "+-", "≥": ">=", "≤": "<=", "²": "^2", "ρ": "r"}
"""Of the signs that tables use, where an encoding has them not; few columns, so that tables stay tables."""


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


def figures_table(*heads: str, names: tuple[str, str], title: str | None = None) -> Table:
    """A table of figures between two columns of names, which alone give way where a terminal is narrow.

    Args:
        heads: of the columns of figures.
        names: heads of the first and the last column: what is told of, and where its result is.
        title: above it.
    """
    first, last = (Column(name, overflow="fold", min_width=8) for name in names)
    figures = (Column(head, no_wrap=True) for head in heads)
    return Table(first, *figures, last, title=title, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))


class LostOutputError(OSError):
    """Standard output does not take what is written to it."""


class _Output(io.FileIO):
    """Standard output whose errors can be told from those of files; a reader that has gone is none of them."""

    def write(self, data: ReadableBuffer, /) -> int | None:  # type: ignore[override]  # as the raw streams of io have it
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise LostOutputError(error.errno, error.strerror) from error


def prepare_output() -> None:
    """From here on what standard output does not take is a :class:`LostOutputError`, and no text is an error.

    What its encoding has not is spelt in ASCII: file names and camera names may hold any character, the halves of one
    among them, and an encoding may be Latin-1.
    """
    codecs.register_error(_SPELT, _spelt)
    _occupy_closed()
    stream = sys.stdout
    if not isinstance(stream, io.TextIOWrapper):  # replaced by whoever calls
        return
    raw = getattr(stream.buffer, "raw", stream.buffer)  # the same where Python is told not to buffer
    if type(raw) is not io.FileIO:  # Windows' console, or a test
        stream.reconfigure(errors=_SPELT)
        return
    stream.flush()
    sys.stdout = _output(raw.fileno(), stream.encoding, line_buffering=stream.line_buffering)


def _output(number: int, encoding: str, *, line_buffering: bool = False) -> io.TextIOWrapper:
    raw = _Output(number, "wb", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, _SPELT, line_buffering=line_buffering)


def _occupy_closed() -> None:
    """Take the places of closed streams: else a file that is opened gets one, and the messages of libraries with it.

    What goes to a closed standard output is lost, which is an error of writing; what goes to a closed standard error is
    not asked for; a closed standard input has nothing to say.
    """
    if sys.stdin is None:
        _occupy(0, os.O_RDONLY)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - as long as the process
    for name, number, mode in (("stdout", 1, os.O_RDONLY), ("stderr", 2, os.O_WRONLY)):
        if getattr(sys, name) is not None:
            continue
        _occupy(number, mode)
        setattr(sys, name, _output(number, "utf-8"))


def _occupy(number: int, mode: int) -> None:
    nowhere = os.open(os.devnull, mode)
    if nowhere != number:
        os.dup2(nowhere, number)
        os.close(nowhere)
    os.set_inheritable(number, True)  # as standard streams are


def _spelt(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    escaped = (_SPELLINGS.get(sign) or sign.encode("ascii", "backslashreplace").decode() for sign in found)
    return "".join(escaped), error.end


def flush_output() -> None:
    """Let what was written to standard output come to its end.

    Raises:
        OSError: some of it is lost.
    """
    if sys.stdout is not None:
        sys.stdout.flush()


def drop_output() -> None:
    """Let go of standard output: what is still to be written would fail once more when Python ends, with a message."""
    with suppress(OSError, ValueError):  # closed, or no file at all
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def reason_not_written(error: OSError) -> str | None:
    """In words, if ``error`` says that standard output, or a disk that is full, does not take what is being written."""
    reason = error.strerror or str(error)
    if isinstance(error, LostOutputError):
        return f"cannot write to standard output: {reason}"
    return f"cannot write: {reason}; make room and run it again" if error.errno in _FULL else None
