"""How cameras are opened: what ``--option NAME=VALUE`` may say, and the only one of those that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from dualpix.capture.cameras.words import number
from dualpix.capture.errors import DualpixError

T = TypeVar("T")


def missing_extra(package: str, extra: str) -> DualpixError:
    """The error for an optional package that is not installed."""
    return DualpixError(f"package '{package}' is not installed", hint=f"pip install 'dualpix[{extra}]'")


def refuse_unknown(options: Mapping[str, str], known: Sequence[str], camera: str) -> None:
    """Let only ``known`` options pass; ``camera`` is whose they are, in words.

    Raises:
        DualpixError: there is another one.
    """
    if unknown := sorted(set(options) - set(known)):
        raise DualpixError(f"unknown option '{unknown[0]}' of {camera}", expected=", ".join(known))


def yes_or_no(options: Mapping[str, str], name: str, *, default: bool) -> bool:
    """A switch.

    Raises:
        DualpixError: neither ``yes`` nor ``no``.
    """
    value = options.get(name, "yes" if default else "no")
    if value not in ("yes", "no"):
        raise DualpixError(f"{name}={value}", expected="yes or no")
    return value == "yes"


def focal_length_of(options: Mapping[str, str]) -> float | None:
    """In mm, of option ``focal_length_mm``: a zoom lens does not tell what it is set to.

    Raises:
        DualpixError: no lens has it.
    """
    text = options.get("focal_length_mm")
    found_mm = None if text is None else number(text)
    if text is not None and not (found_mm and 1 <= found_mm <= 5000):
        raise DualpixError(f"focal length '{text}'", expected="millimetres, e.g. focal_length_mm=35")
    return found_mm


def only_one(found: Mapping[str, T], what: str) -> T | None:
    """The only one of those that are there, by address; None where there is none.

    Args:
        found: address -> camera.
        what: they are and where, in the plural.

    Raises:
        DualpixError: there are several.
    """
    if len(found) > 1:
        raise DualpixError(f"{len(found)} {what}: {', '.join(found)}", hint="choose one with --address")
    return next(iter(found.values()), None)
