"""Captures that make one profile must come from one camera, lens and aperture."""

from __future__ import annotations

from collections.abc import Iterable

from dualpix.capture.errors import DualpixError


def check_alike(
    captures: str, first: str, other: str, facts: Iterable[tuple[str, object, object]], error: type[DualpixError]
) -> None:
    """Raise ``error`` for the first of ``facts`` (what, of the first, of the other) in which two captures differ.

    Args:
        captures: what they are, in the plural, for the message.
        first: name of the one.
        other: name of the other.
        facts: compared in this order.
        error: to raise.
    """
    for what, one, another in facts:
        if one != another:
            raise error(
                f"the {captures} differ in {what}: '{first}' {one}, '{other}' {another}",
                expected="one camera, lens and aperture for a profile",
                hint="make one profile of each",
            )
