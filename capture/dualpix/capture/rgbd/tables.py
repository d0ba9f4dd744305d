"""Tables as spreadsheets and people write them.

The separator is a comma, a semicolon (what spreadsheets write where the comma is the decimal point), a tab, a bar or
blanks, whichever splits the header into the columns that are looked for; blanks around cells do not count. The text is
UTF-8 with or without a byte order mark, UTF-16 with one ("Unicode text" of spreadsheets), else Windows-1252. A first
line ``sep=;`` is obeyed, empty lines and remarks after ``#`` are passed over; a header may begin with one.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from dualpix.capture.files import read_bounded
from dualpix.capture.rgbd.sample import RgbdError

_SEPARATORS = (",", ";", "\t", "|", " ")
_STATED = re.compile(r"\s*sep=(.)\s*")
_MAX_BYTES = 1 << 26
_MAX_SHOWN = 8

Aliases = Mapping[str, Sequence[str]]
"""Name of a column -> the spellings it may have, as :func:`plain_name` gives them."""


@dataclass(frozen=True)
class Table:
    """A table that was read; its cells are split as they are asked for."""

    path: Path
    columns: tuple[str, ...]
    """As they are spelled."""
    lines: tuple[str, ...]
    start: int
    """Number of lines up to the first row of cells."""
    separator: str

    def rows(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Number of the line in the file, and cells by column.

        Raises:
            RgbdError: more cells than columns, or no table; names the file and the line.
        """
        for line, cells in _split(self.path, self.lines, self.start, self.separator):
            if len(cells) > len(self.columns) and any(cells[len(self.columns) :]):
                raise RgbdError(
                    f"'{self.path}' row {line} has {len(cells)} cells, the header {len(self.columns)}",
                    expected=f"cells separated by {self.separator!r}",
                    hint="put names that hold it in double quotes",
                )
            padded = [*cells, *[""] * (len(self.columns) - len(cells))]
            yield line, dict(zip(self.columns, padded, strict=False))

    def named(self, aliases: Aliases) -> dict[str, str] | None:
        """Which column is which, or None where one of them is missing."""
        found = _named(self.columns, aliases)
        return found if len(found) == len(aliases) else None


def read_table(path: Path, aliases: Aliases) -> Table:
    """A table whose header has columns of these names, as far as it has.

    Args:
        path: the file.
        aliases: columns that are looked for; they tell the separator.

    Raises:
        RgbdError: it cannot be read, has over 64 MiB, or is no text.
    """
    data = read_bounded(path, _MAX_BYTES, f"the table '{path}'", expected="a table", error=RgbdError)
    lines = tuple(_decoded(path, data).split("\n"))
    start = next((at for at, line in enumerate(lines) if line.strip()), len(lines))
    stated = _STATED.fullmatch(lines[start]) if start < len(lines) else None
    if stated:
        start = next((at for at in range(start + 1, len(lines)) if lines[at].strip()), len(lines))
    header = lines[start].lstrip("# \t") if start < len(lines) else ""
    candidates = (stated[1],) if stated else _SEPARATORS
    splits = {separator: _cells(header, separator) for separator in candidates}
    separator = max(candidates, key=lambda one: (len(_named(splits[one], aliases)), one != " ", len(splits[one])))
    return Table(path, splits[separator], lines, start + 1, separator)


def plain_name(column: str) -> str:
    """Lower case, words joined by "_": "Depth path" is "depth_path"."""
    return re.sub(r"[\s._-]+", "_", column.strip().lower())


def rows_by(path: Path, key: str) -> Mapping[str, Mapping[str, str]]:
    """The rows of a table by their cell in the column ``key``, the first of each; none where there is no such column.

    They are kept until the file changes: a table of a data set is asked once for every sample.

    Raises:
        RgbdError: it cannot be read, or is no table.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise RgbdError(f"cannot read '{path}': {error.strerror or error}") from error
    return _rows_by(path, key, (status.st_mtime_ns, status.st_size))


@lru_cache(maxsize=4)
def _rows_by(path: Path, key: str, version: tuple[int, int]) -> Mapping[str, Mapping[str, str]]:
    del version
    table = read_table(path, {key: [key]})
    found: dict[str, dict[str, str]] = {}
    if key in table.columns:
        for _, row in table.rows():
            found.setdefault(row[key], row)
    return found


def shown(columns: Sequence[str]) -> str:
    """Some names, for messages."""
    more = f" and {len(columns) - _MAX_SHOWN} more" if len(columns) > _MAX_SHOWN else ""
    return ", ".join(name[:40] for name in columns[:_MAX_SHOWN]) + more


def _named(columns: Sequence[str], aliases: Aliases) -> dict[str, str]:
    spelled = {plain_name(column): column for column in reversed(columns)}
    found = {name: next((spelled[a] for a in names if a in spelled), None) for name, names in aliases.items()}
    return {name: column for name, column in found.items() if column is not None}


def _cells(line: str, separator: str) -> tuple[str, ...]:
    try:
        row = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        return ()
    cells = [cell.strip() for cell in row]
    while cells and not cells[-1]:  # a separator at the end of each line
        cells.pop()
    return tuple(cells)


def _split(path: Path, lines: Sequence[str], start: int, separator: str) -> Iterator[tuple[int, list[str]]]:
    rows = csv.reader((line + "\n" for line in lines[start:]), delimiter=separator, skipinitialspace=True)
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise RgbdError(f"'{path}' row {start + rows.line_num}: {error}", expected="a table") from error
        if row is None:
            return
        cells = [cell.strip() for cell in row]
        remark = len(cells) == 1 and cells[0].startswith("#")
        if any(cells) and not remark:
            yield start + rows.line_num, cells


def _decoded(path: Path, data: bytes) -> str:
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    for encoding in ("utf-16",) if wide else ("utf-8-sig", "cp1252"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text.replace("\r\n", "\n").replace("\r", "\n")
    raise RgbdError(f"'{path}' is no text", expected="a table in UTF-8")
