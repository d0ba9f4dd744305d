"""The form of every measured figure in this repository: which commit, which machine, which versions, how much spread.

Convention: a result is a table. Columns have a unit; a figure has its statistic, the interquartile range of the samples
behind it, and their number. The JSON files in ``benchmarks/results/`` and ``docs/results/`` have this form.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from dualpix.capture.files import write_json
from dualpix.export.manifest import machine, source_commit, tool_versions

FORMAT = 1
Statistic = Literal["median", "mean", "exact"]


class RecordError(ValueError):
    """A result file does not have the form."""


@dataclass(frozen=True)
class Figure:
    """One number with what it rests on."""

    value: float
    statistic: Statistic
    iqr: float | None
    """Interquartile range of the samples; None where the value is exact."""
    n: int
    """Samples."""

    def __post_init__(self) -> None:
        if self.statistic not in get_args(Statistic):
            raise RecordError(f"statistic '{self.statistic}' is none of {get_args(Statistic)}")
        if not math.isfinite(self.value) or self.n < 1:
            raise RecordError(f"value {self.value} of {self.n} samples")
        if (self.iqr is None) != (self.statistic == "exact"):
            raise RecordError(f"iqr is {self.iqr} for a value that is {self.statistic}")
        if self.iqr is not None and not (math.isfinite(self.iqr) and self.iqr >= 0):
            raise RecordError(f"iqr is {self.iqr}")

    @classmethod
    def of(cls, samples: Sequence[float], statistic: Literal["median", "mean"] = "median") -> Figure:
        """Summary of samples."""
        low, middle, high = (float(v) for v in np.percentile(samples, (25, 50, 75)))
        return cls(middle if statistic == "median" else float(np.mean(samples)), statistic, high - low, len(samples))

    @classmethod
    def exact(cls, value: float) -> Figure:
        """A count or a size: measuring again gives the same."""
        return cls(value, "exact", None, 1)


@dataclass(frozen=True)
class Row:
    """One thing that was measured."""

    label: str
    figures: Mapping[str, Figure]
    """By column; a column may be missing."""


@dataclass(frozen=True)
class Result:
    """One table of figures and where it came from."""

    title: str
    command: str
    """What to run to measure again."""
    commit: str
    machine: Mapping[str, str]
    """As :func:`dualpix.export.manifest.machine` has it: the class of the processor among the rest."""
    versions: Mapping[str, str]
    columns: Mapping[str, str]
    """Column -> unit ("" where it has none)."""
    rows: Sequence[Row]
    notes: str = ""

    def __post_init__(self) -> None:
        for name in ("title", "command", "commit"):
            if not getattr(self, name):
                raise RecordError(f"no {name}")
        if not (self.rows and self.columns and self.machine and self.versions):
            raise RecordError("a result needs rows, columns, machine and versions")
        for row in self.rows:
            unknown = set(row.figures) - set(self.columns)
            if unknown or not row.figures:
                raise RecordError(f"row '{row.label}' has columns {sorted(row.figures)}, known: {list(self.columns)}")

    def to_json(self) -> dict[str, Any]:
        """The content of a result file."""
        return {"format": FORMAT, **asdict(self)}

    def write(self, path: Path) -> None:
        """Write the result file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, self.to_json())


def new_result(title: str, command: str, columns: Mapping[str, str], rows: Sequence[Row], *, notes: str = "") -> Result:
    """A result of this checkout on this machine."""
    versions = {**tool_versions(), "numpy": version("numpy"), "opencv": version("opencv-python")}
    return Result(title, command, source_commit() or "unknown", machine(), versions, columns, tuple(rows), notes)


def read_result(path: Path) -> Result:
    """Read a result file and check its form.

    Raises:
        RecordError: it does not have the form; the message names the file.
    """
    try:
        data = json.loads(path.read_text())
        if data.pop("format") != FORMAT:
            raise RecordError(f"format is not {FORMAT}")
        rows = []
        for row in data.pop("rows"):
            _exactly(row, Row)
            figures = {column: Figure(**_exactly(figure, Figure)) for column, figure in row["figures"].items()}
            rows.append(Row(row["label"], figures))
        return Result(rows=tuple(rows), **_exactly(data, Result, but={"rows"}))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{path.name}: {type(error).__name__}: {error}") from error


def machine_slug(described: Mapping[str, str]) -> str:
    """A machine as a part of a file name: processors of one name may be of several classes."""
    words = (described[name] for name in ("system", "processor", "class") if name in described)
    return re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")


def _exactly(data: dict[str, Any], form: type, but: set[str] = frozenset()) -> dict[str, Any]:  # type: ignore[assignment]
    expected = {f.name for f in fields(form)} - but
    if set(data) != expected:
        raise RecordError(f"{form.__name__} has {sorted(data)}, expected {sorted(expected)}")
    return data
