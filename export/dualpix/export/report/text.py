"""Numbers as pages show them; what is not known is a dash."""

from __future__ import annotations


def number(value: float | None, form: str, scale: float = 1.0) -> str:
    """Of ``value * scale``."""
    return "–" if value is None else format(value * scale, form)


def with_unit(value: float | None, form: str, unit: str) -> str:
    """The unit stands behind what is known."""
    return number(value, form) + (unit if value is not None else "")


def percent(value: float | None, form: str) -> str:
    """Of a share."""
    return "–" if value is None else format(value * 100, form) + " %"
