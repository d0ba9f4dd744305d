"""Exported programs where a model is asked for: scored is what a phone runs, not the network that it was made from.

A program is an artefact of ``dualpix export``, or an export's folder that holds one alone. It works at the one size
that it was made for: views are reduced until they fit into that, and the rest is filled in by reflection. The areas
above this one run it: their function stands here as text, and is imported when a program is named.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from dualpix.capture.errors import DualpixError
from dualpix.models.zoo.cards import CARD, model_folder

if TYPE_CHECKING:
    from dualpix.models.zoo.load import LoadedModel

SUFFIXES = (".pte", ".mlpackage")
MANIFEST = "manifest.json"
_LOADER = ("dualpix.export.verify.scored", "load_program")


def is_program(model: str | Path) -> bool:
    """Whether a model's name is that of an exported program or of an export's folder."""
    path = Path(model)
    if path.suffix in SUFFIXES:
        return True
    return (path / MANIFEST).is_file() and not (path / CARD).is_file()


def program_file(model: str | Path) -> Path:
    """The program that is meant.

    Raises:
        DualpixError: there is none, or the folder holds several.
    """
    path = Path(model)
    if path.suffix in SUFFIXES:
        if not path.exists():
            raise DualpixError(f"no file '{path}'", expected="an artefact of 'dualpix export'")
        return path
    found = sorted(one for one in path.iterdir() if one.suffix in SUFFIXES)
    if len(found) != 1:
        names = ", ".join(f"'{one.name}'" for one in found) or "no program"
        hint = f"name one of them: {found[0]}" if found else f"one ends in {' or '.join(SUFFIXES)}"
        raise DualpixError(f"'{path}' holds {names}", expected="one program", hint=hint)
    return found[0]


def check_model(model: str | Path) -> None:
    """Whether there is such a model or program, before torch is imported.

    Raises:
        UnknownNameError: see :func:`~dualpix.models.zoo.cards.model_folder`.
        DualpixError: likewise, or see :func:`program_file`.
    """
    if is_program(model):
        program_file(model)
    else:
        model_folder(model)


def load_any(model: str | Path) -> LoadedModel:
    """A model by name or folder, or a program, which has its size.

    Raises:
        UnknownNameError: see :func:`~dualpix.models.zoo.load_model`.
        DualpixError: likewise; or the program is damaged, is not what its export says, or does not run here.
    """
    from dualpix.models.zoo.load import load_model

    if not is_program(model):
        return load_model(model)
    module, name = _LOADER
    loaded: LoadedModel = getattr(import_module(module), name)(program_file(model))
    return loaded
