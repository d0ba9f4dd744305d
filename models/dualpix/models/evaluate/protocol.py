"""A protocol: which data, which pixels, which unit, which figures.

A protocol is data about a published evaluation and two functions: one finds the samples of a folder, one scores a
prediction. What its authors did not say, and was chosen here, stands in ``assumptions`` and is printed by
``dualpix evaluate --protocol NAME`` and with every ``--json``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualpix.capture.errors import DualpixError
from dualpix.models.evaluate.sample import Kind, Prediction, Sample, Unit

Figures = dict[str, Any]
"""Name to number; None where a sample has no such figure."""


@dataclass(frozen=True)
class Pending:
    """A sample that is there but not read yet."""

    name: str
    load: Callable[[], Sample]


@dataclass(frozen=True)
class Protocol:
    """How one published benchmark is run."""

    name: str
    title: str
    takes: Kind
    unit: Unit
    """Of the truth and of predictions in files."""
    read: Callable[[Path], Sequence[Pending]]
    """The samples of a folder; raises DualpixError naming what was found and expected where it has another layout."""
    score: Callable[[Sample, Prediction], Figures]
    columns: dict[str, str]
    """Figures that a table shows, and their titles."""
    source: str
    """Where the definition is from."""
    layout: str
    crop: str
    mask: str
    metrics: str
    data: str
    """Where the data are, and their licence."""
    assumptions: tuple[str, ...] = ()
    checked_on: str = "folders that the tests make: no real data at hand"
    """What it was run on here."""
    leaks_scale: str = ""
    """Why the input gives the scale of the scene away; empty where it does not."""

    def facts(self) -> dict[str, Any]:
        """All but the functions, for ``--json`` and the documentation."""
        kept = {key: value for key, value in vars(self).items() if key not in ("read", "score", "columns")}
        return {**kept, "assumptions": list(self.assumptions), "leaks_scale": self.leaks_scale or None}


def check_found(pending: Sequence[Pending], folder: Path, layout: str) -> Sequence[Pending]:
    """The samples, if there are any.

    Raises:
        DualpixError: there is none; the message says what the folder holds instead.
    """
    if pending:
        return pending
    raise DualpixError(f"'{folder}' holds no scene with ground truth ({contents(folder)})", expected=layout)


def check_there(paths: Sequence[Path], folder: Path, layout: str) -> None:
    """Raises DualpixError naming those of ``paths``, below ``folder``, that are missing."""
    missing = [path.relative_to(folder).as_posix() for path in paths if not path.exists()]
    if missing:
        raise DualpixError(f"'{folder}' lacks {' and '.join(missing)}", expected=layout)


def contents(folder: Path, most: int = 4) -> str:
    """What is in a folder, shortly: "holds rgb/, depth/, 3 more"."""
    if not folder.is_dir():
        return "it is a file"
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    if not names:
        return "it is empty"
    more = f", {len(names) - most} more" if len(names) > most else ""
    return f"it holds {', '.join(names[:most])}{more}"


def wrong_unit(prediction: Prediction, expected: str) -> DualpixError:
    """What to raise where a protocol cannot score what a method gives."""
    return DualpixError(
        f"the method gives {prediction.unit}", expected=expected, hint="score files of maps: --predictions FOLDER"
    )
